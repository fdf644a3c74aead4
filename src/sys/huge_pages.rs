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
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::schedule;

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

/// The thread pauses so many times as long as a huge page took it: half a percent of a processor,
/// and of the time in which whoever needs new memory has to wait for it.
const PAUSE_SHARE: u32 = 200;
/// At least so long: the call also has each processor hand in its lists of pages, the loop's too,
/// which the time here does not show.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// At most so long, where the thread was kept from running, which is no work.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The pause behind a look at memory that is left as it is, which takes microseconds.
const PAUSE_UNUSED: Duration = Duration::from_millis(1);

/// How far the thread steps back, so that a loop on the same processor need not wait for it to be
/// done. No further, and no idle policy: it holds the lock of the process's memory meanwhile, and
/// the lock lends no priority. Should a third one keep it off the processor, the loop would wait
/// for both with its next page fault. That it takes little is up to the pauses.
const NICE: i32 = 10;

/// A thread that puts split huge pages together again; it ends by itself, and at once, though not
/// in the middle of a page, when this is dropped. Not the loop's work: the call waits for every
/// processor to hand in its lists of pages, which takes long on a busy machine.
#[derive(Debug)]
pub struct Collapsing {
    /// Nothing is ever sent: the thread hears that the other end is gone.
    _stop: Sender<()>,
}

impl Collapsing {
    /// Starts it, on the processors `cpus`; on those of the caller if that is empty. Signals must
    /// have been blocked before.
    ///
    /// # Errors
    /// Those of creating a thread, and if `/proc/self/maps` cannot be read.
    pub fn start(cpus: Vec<usize>) -> io::Result<Collapsing> {
        let walk = Collapse::of_heap()?;
        let (stop, stopped) = channel();
        thread::Builder::new().name("huge-pages".into()).spawn(move || {
            // Wishes: done elsewhere, or sooner, it is the same work.
            let _ = schedule::run_on(&cpus);
            let _ = schedule::set_nice(NICE);
            let _ = schedule::set_slice(None);
            walk.run(&stopped);
        })?;
        Ok(Collapsing { _stop: stop })
    }
}

/// How long to pause behind a step that took so long.
fn pause_after(step: Duration) -> Duration {
    (step * PAUSE_SHARE).clamp(PAUSE_MIN, PAUSE_MAX)
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

    /// Walks to the end, with pauses, or until the other end of `stopped` is gone.
    fn run(mut self, stopped: &Receiver<()>) {
        while !self.is_done() {
            let start = Instant::now();
            let has_called = self.step();
            let pause = if has_called { pause_after(start.elapsed()) } else { PAUSE_UNUSED };
            if stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Whether the walk is over.
    fn is_done(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Visits the next 2 MiB: if nearly all of it is in memory, the kernel copies it into one huge
    /// page, some 0.1 to 0.5 ms; nothing is done where it is huge already, swapped out, or mostly
    /// unused. The walk ends early if it keeps failing. Returns whether the kernel was asked.
    fn step(&mut self) -> bool {
        let Some(range) = self.ranges.last_mut() else { return false };
        let at = range.start;
        range.start += HUGE_BYTES;
        if range.start >= range.end {
            self.ranges.pop();
        }
        if resident_pages(at) < RESIDENT_PAGES_MIN {
            return false;
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
        true
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
    fn a_walk_takes_half_a_percent_of_the_time() {
        for (step_us, pause_ms) in [(0, 20), (90, 20), (150, 30), (500, 100), (6_000, 1_000)] {
            let pause = pause_after(Duration::from_micros(step_us));
            assert_eq!(pause, Duration::from_millis(pause_ms), "{step_us} us");
        }
    }

    /// Behind each page, whose pause is 20 ms or more, or it would take seconds to begin.
    #[test]
    fn a_walk_that_is_stopped_ends_after_the_page_at_hand() {
        let visited = vec![1u8; 8 * HUGE_BYTES];
        let start = (visited.as_ptr() as usize).next_multiple_of(HUGE_BYTES);
        let walk = move |pages: usize| {
            let page = |at: usize| start + at * HUGE_BYTES..start + (at + 1) * HUGE_BYTES;
            Collapse { ranges: (0..pages).map(page).collect(), failures: 0 }
        };
        let (stop, stopped) = channel();
        let paced = Instant::now();
        walk(3).run(&stopped);
        assert!(paced.elapsed() >= 3 * PAUSE_MIN, "{:?}", paced.elapsed());
        let waiting = thread::spawn(move || {
            let mut endless = walk(1);
            endless.ranges = (0..1 << 20).flat_map(|_| endless.ranges.clone()).collect();
            endless.run(&stopped);
        });
        drop(stop);
        // At 20 ms a page this would take six hours.
        waiting.join().expect("ended");
        drop(visited);
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
