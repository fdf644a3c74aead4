//! Transparent huge pages for the heap: page tables 512 times smaller, so that a fork copies little,
//! and fewer misses of the processor's address cache.
//!
//! While a forked child lives, each write splits the huge page it falls into (the kernel then
//! copies 4 KiB, since Linux 5.8). Afterwards the pages are put together again, one at a time.

// mincore and madvise have no safe form for memory that others own.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::fs;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Bytes of a huge page, on the processors that are served.
const HUGE_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4 << 10;
const PAGES: usize = HUGE_BYTES / PAGE_BYTES;
/// With fewer pages resident than this, a huge page would take memory that nobody asked for.
const RESIDENT_PAGES_MIN: usize = PAGES - PAGES / 16;
/// After so many failures there are no huge pages to be had, or the kernel lacks the call.
const FAILURES_MAX: u32 = 64;
/// From Linux 6.1 on.
const MADV_COLLAPSE: libc::c_int = 25;

/// Keeps the kernel from giving this process huge pages, from now on.
///
/// # Errors
/// Those of prctl.
pub fn disable() -> io::Result<()> {
    Ok(nix::sys::prctl::set_thp_disable(true)?)
}

/// Time between two huge pages, so that the walk takes little of a processor.
const PAUSE: Duration = Duration::from_millis(3);

/// A thread that puts split huge pages together again; it ends by itself, and soon after this is
/// dropped. Not the loop's work: the call waits for every processor to hand in its lists of pages,
/// which takes long on a busy machine.
#[derive(Debug)]
pub struct Collapsing(Arc<AtomicBool>);

impl Collapsing {
    /// Starts it. Signals must have been blocked before.
    ///
    /// # Errors
    /// Those of creating a thread, and if `/proc/self/maps` cannot be read.
    pub fn start() -> io::Result<Collapsing> {
        let mut walk = Collapse::of_heap()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name("huge-pages".into()).spawn(move || {
            while !walk.is_done() && !stopped.load(Ordering::Relaxed) {
                walk.step();
                thread::sleep(PAUSE);
            }
        })?;
        Ok(Collapsing(stop))
    }
}

impl Drop for Collapsing {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A walk over the heap that puts split huge pages together again.
#[derive(Debug, Default)]
struct Collapse {
    /// Still to be visited, last first; aligned to huge pages.
    ranges: Vec<Range<usize>>,
    failures: u32,
}

impl Collapse {
    /// A walk over the process's private anonymous memory as it is mapped now.
    fn of_heap() -> io::Result<Collapse> {
        let maps = fs::read_to_string("/proc/self/maps")?;
        Ok(Collapse { ranges: maps.lines().filter_map(huge_range).collect(), failures: 0 })
    }

    /// Whether the walk is over.
    fn is_done(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Visits the next 2 MiB: if nearly all of it is in memory, the kernel copies it into one huge
    /// page, some 0.1 to 0.5 ms; nothing is done where it is huge already, swapped out, or mostly
    /// unused. The walk ends early if it keeps failing.
    fn step(&mut self) {
        let Some(range) = self.ranges.last_mut() else { return };
        let at = range.start;
        range.start += HUGE_BYTES;
        if range.start >= range.end {
            self.ranges.pop();
        }
        if resident_pages(at) < RESIDENT_PAGES_MIN {
            return;
        }
        // SAFETY: the call changes how memory is mapped, never what it holds; where nothing is
        // mapped any more it fails.
        let result = unsafe { libc::madvise(at as *mut libc::c_void, HUGE_BYTES, MADV_COLLAPSE) };
        if Errno::result(result).is_err() {
            self.failures += 1;
            if self.failures >= FAILURES_MAX {
                self.ranges.clear();
            }
        }
    }
}

/// The huge pages within a line of `/proc/self/maps`, if it is private memory without a file.
fn huge_range(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_heap = fields.next()? == "rw-p" && fields.nth(2)? == "0" && fields.next().is_none();
    let number = |text| usize::from_str_radix(text, 16).ok();
    let start = number(start)?.checked_next_multiple_of(HUGE_BYTES)?;
    let end = number(end)? / HUGE_BYTES * HUGE_BYTES;
    (is_heap && start < end).then_some(start..end)
}

/// Of the pages of 2 MiB at `at`, how many are in memory; 0 if a part is not mapped.
fn resident_pages(at: usize) -> usize {
    let mut pages = [0u8; PAGES];
    // SAFETY: the kernel writes one byte for each of the 512 pages into `pages`, which has as many.
    let result = unsafe { libc::mincore(at as *mut libc::c_void, HUGE_BYTES, pages.as_mut_ptr()) };
    if result == 0 { pages.iter().filter(|page| *page & 1 == 1).count() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_memory_without_a_file_is_heap() {
        let heap = "7f0000100000-7f0000a00000 rw-p 00000000 00:00 0 ";
        assert_eq!(huge_range(heap), Some(0x7f00_0020_0000..0x7f00_00a0_0000));
        for other in [
            "7f0000100000-7f0000a00000 r--p 00000000 00:00 0 ",
            "7f0000100000-7f0000a00000 rw-s 00000000 00:01 5  /dev/zero (deleted)",
            "7f0000100000-7f0000a00000 rw-p 00000000 08:01 77 /usr/lib/some.so",
            "7f0000100000-7f0000a00000 rw-p 00000000 00:00 0  [stack]",
            "7f0000100000-7f0000200000 rw-p 00000000 00:00 0 ",
            "nonsense",
        ] {
            assert_eq!(huge_range(other), None, "{other}");
        }
    }

    #[test]
    fn a_walk_visits_the_heap_and_leaves_its_content_alone() {
        let mut kept = vec![0u8; 5 * HUGE_BYTES];
        for (at, byte) in kept.iter_mut().enumerate() {
            *byte = (at % 251) as u8;
        }
        let untouched: Vec<u8> = Vec::with_capacity(16 * HUGE_BYTES);
        let middle = kept.as_ptr() as usize + kept.len() / 2;
        let mut walk = Collapse::of_heap().expect("maps");
        assert!(walk.ranges.iter().any(|range| range.contains(&middle)));
        let unused = untouched.as_ptr() as usize + untouched.capacity() / 2;
        let before = resident_pages(unused / HUGE_BYTES * HUGE_BYTES);
        let mut steps = 0;
        while !walk.is_done() {
            walk.step();
            steps += 1;
        }
        assert!(steps >= 4);
        assert!(kept.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
        assert_eq!(resident_pages(unused / HUGE_BYTES * HUGE_BYTES), before, "not filled");
        assert_eq!(resident_pages(middle / HUGE_BYTES * HUGE_BYTES), PAGES);
    }
}
