//! What a rewrite's child tells its parent while it works, through memory that both see.

use super::elapsed_us;
use crate::engine::registries::ChildFigures;
use crate::sys::clock::{MonoUs, mono_us};
use crate::sys::process;
use crate::sys::shared::SharedNumbers;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Keys between two reports.
const REPORT_KEYS: u64 = 1_024;
/// Memory is measured at most this often, microseconds ...
const MEASURE_INTERVAL_US: u64 = 500_000;
/// ... and for at most this part of the time: the kernel walks all page tables for it.
const MEASURE_SHARE: u64 = 50;

/// The numbers, by their place.
const KEYS: usize = 0;
const COW_BYTES: usize = 1;
const COW_PEAK_BYTES: usize = 2;
const COW_AT_US: usize = 3;

/// The memory that both sides see. The child is its only writer, but for being cleared before a
/// fork.
pub(super) struct ChildReport {
    numbers: SharedNumbers<4>,
    /// Keys at the fork.
    keys_total: u64,
}

impl ChildReport {
    /// # Errors
    /// Those of mmap.
    pub(super) fn new() -> io::Result<ChildReport> {
        Ok(ChildReport { numbers: SharedNumbers::new()?, keys_total: 0 })
    }

    /// A child is about to be forked that will write `keys_total` keys.
    pub(super) fn begin(&mut self, keys_total: usize) {
        self.numbers.clear();
        self.keys_total = keys_total as u64;
    }

    /// What the child said last.
    pub(super) fn figures(&self, now: MonoUs) -> ChildFigures {
        let measured = MonoUs(self.load(COW_AT_US));
        let has_measured = measured != MonoUs(0);
        ChildFigures {
            keys: self.load(KEYS),
            keys_total: self.keys_total,
            cow_bytes: self.load(COW_BYTES),
            cow_peak_bytes: self.load(COW_PEAK_BYTES),
            cow_age_sec: if has_measured { now.since(measured) / 1_000_000 } else { 0 },
        }
    }

    /// Memory copied as the child measured it last, bytes.
    pub(super) fn cow_bytes(&self) -> u64 {
        self.load(COW_BYTES)
    }

    fn load(&self, place: usize) -> u64 {
        self.place(place).load(Ordering::Relaxed)
    }

    fn store(&self, place: usize, number: u64) {
        self.place(place).store(number, Ordering::Relaxed);
    }

    fn place(&self, place: usize) -> &AtomicU64 {
        &self.numbers.get()[place]
    }
}

/// The child's end. Allocates only when it measures, never a key.
pub(super) struct Reporter<'a> {
    report: &'a ChildReport,
    keys: u64,
    next_measure: MonoUs,
}

impl Reporter<'_> {
    pub(super) fn new(report: &ChildReport) -> Reporter<'_> {
        // The first measure is taken at once, so that a short rewrite has one too.
        Reporter { report, keys: 0, next_measure: MonoUs(0) }
    }

    /// A key has been written.
    pub(super) fn key_done(&mut self) {
        self.keys += 1;
        if self.keys.is_multiple_of(REPORT_KEYS) {
            self.report.store(KEYS, self.keys);
            if mono_us() >= self.next_measure {
                self.measure();
            }
        }
    }

    /// All of it is written and durable.
    pub(super) fn done(&mut self) {
        self.report.store(KEYS, self.keys);
        self.measure();
    }

    fn measure(&mut self) {
        let start = mono_us();
        // A figure for people: without it the rewrite is as good.
        if let Ok(bytes) = process::private_dirty_bytes() {
            self.report.store(COW_BYTES, bytes);
            self.report.store(COW_PEAK_BYTES, bytes.max(self.report.load(COW_PEAK_BYTES)));
            self.report.store(COW_AT_US, start.0);
        }
        let pause = (elapsed_us(start) * MEASURE_SHARE).max(MEASURE_INTERVAL_US);
        self.next_measure = MonoUs(start.0 + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_reads_what_the_child_has_done() {
        let mut report = ChildReport::new().expect("mapped");
        report.begin(5_000);
        assert_eq!(
            report.figures(mono_us()),
            ChildFigures { keys_total: 5_000, ..ChildFigures::default() }
        );
        let mut reporter = Reporter::new(&report);
        for _ in 0..2_100 {
            reporter.key_done();
        }
        assert_eq!(report.figures(mono_us()).keys, 2_048);
        reporter.done();
        let figures = report.figures(mono_us());
        assert_eq!(figures.keys, 2_100);
        assert!(figures.cow_bytes > 0 && figures.cow_peak_bytes >= figures.cow_bytes);
        report.begin(1);
        assert_eq!(report.figures(mono_us()).keys, 0);
    }
}
