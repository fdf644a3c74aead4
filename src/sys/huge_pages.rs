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

/// The thread pauses so many times as long as the kernel took to put a huge page together: half a
/// percent of the time in which whoever needs new memory, or uses what is being moved, has to wait.
const PAUSE_SHARE: u32 = 200;
/// And so many times as long as it took to have memory for it, where nobody waits but for the
/// processor.
const PAUSE_SHARE_AHEAD: u32 = 20;
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

/// How long a step took.
#[derive(Clone, Copy, Debug)]
struct Took {
    /// Before the call: to have memory at hand.
    ahead: Duration,
    /// The call.
    call: Duration,
}

/// How long to pause behind a step.
fn pause_after(step: Took) -> Duration {
    let pause = (step.call * PAUSE_SHARE).max(step.ahead * PAUSE_SHARE_AHEAD);
    pause.clamp(PAUSE_MIN, PAUSE_MAX)
}

/// Memory of one huge page that is used for nothing, so that the kernel has another at hand.
///
/// To put small pages together the kernel takes a huge page from its free memory and copies, and all
/// that time the process's memory is locked. In a virtual machine the host may have yet to find the
/// memory behind such a page: that was measured at 6.5 milliseconds instead of 0.6. So a page is
/// touched here first, which holds up nobody, and given back: the kernel hands out next what was last
/// given back on the same processor.
#[derive(Debug)]
struct Spare {
    /// All that is mapped.
    mapped: Range<usize>,
    /// The huge page in it.
    page: usize,
}

impl Spare {
    /// Maps it. Takes no memory yet.
    fn new() -> io::Result<Spare> {
        let bytes = 2 * HUGE_BYTES;
        let (read_write, private) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping where the kernel likes touches no memory of others.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, read_write, private, -1, 0) } as usize;
        if start == libc::MAP_FAILED as usize {
            return Err(io::Error::last_os_error());
        }
        let page = start.next_multiple_of(HUGE_BYTES);
        let spare = Spare { mapped: start..start + bytes, page };
        spare.advise(libc::MADV_HUGEPAGE)?;
        Ok(spare)
    }

    /// Has the kernel find memory for it, and clear that.
    fn touch(&self) {
        // SAFETY: the byte is in the mapping, which nobody else knows.
        unsafe { std::ptr::write_volatile(self.page as *mut u8, 1) };
    }

    /// Has the kernel take the memory back.
    fn give_back(&self) -> io::Result<()> {
        self.advise(libc::MADV_DONTNEED)
    }

    fn advise(&self, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: the range is in the mapping, which nobody else uses; it keeps nothing of worth.
        let result = unsafe { libc::madvise(self.page as *mut libc::c_void, HUGE_BYTES, advice) };
        Errno::result(result)?;
        Ok(())
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let start = self.mapped.start as *mut libc::c_void;
        // SAFETY: the mapping is this one's own, and nothing refers to it.
        unsafe { libc::munmap(start, self.mapped.len()) };
    }
}

/// A walk over the heap that puts split huge pages together again.
#[derive(Debug, Default)]
struct Collapse {
    /// Still to be visited, last first; aligned to huge pages.
    ranges: Vec<Range<usize>>,
    failures: u32,
    /// None if it cannot be had: the walk then holds others up for longer.
    spare: Option<Spare>,
}

impl Collapse {
    /// A walk over the process's private anonymous memory as it is mapped now.
    fn of_heap() -> io::Result<Collapse> {
        let maps = fs::read_to_string("/proc/self/maps")?;
        let ranges = maps.lines().filter_map(huge_range).collect();
        Ok(Collapse { ranges, failures: 0, spare: Spare::new().ok() })
    }

    /// Walks to the end, with pauses, or until the other end of `stopped` is gone.
    fn run(mut self, stopped: &Receiver<()>) {
        while !self.is_done() {
            let pause = self.step().map_or(PAUSE_UNUSED, pause_after);
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
    /// page, some 0.1 to 0.6 ms; nothing is done where it is huge already, swapped out, or mostly
    /// unused. The walk ends early if it keeps failing. Returns how long it took if the kernel was
    /// asked.
    fn step(&mut self) -> Option<Took> {
        let range = self.ranges.last_mut()?;
        let at = range.start;
        range.start += HUGE_BYTES;
        if range.start >= range.end {
            self.ranges.pop();
        }
        if resident_pages(at) < RESIDENT_PAGES_MIN {
            return None;
        }
        let start = Instant::now();
        if let Some(spare) = &self.spare {
            spare.touch();
            // Should it stay there, the kernel has it back at the end of the walk.
            let _ = spare.give_back();
        }
        let ahead = start.elapsed();
        // SAFETY: the call changes how memory is mapped, never what it holds; where nothing is
        // mapped any more it fails.
        let result = unsafe { libc::madvise(at as *mut libc::c_void, HUGE_BYTES, MADV_COLLAPSE) };
        let took = Took { ahead, call: start.elapsed().saturating_sub(ahead) };
        if Errno::result(result).is_err() {
            self.failures += 1;
            if self.failures >= FAILURES_MAX {
                self.ranges.clear();
            }
        }
        Some(took)
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
        for (call_us, ahead_us, pause_ms) in [
            (0, 0, 20),
            (90, 100, 20),
            (150, 200, 30),
            (500, 300, 100),
            (600, 6_000, 120),
            (600, 8_000, 160),
            (6_000, 0, 1_000),
        ] {
            let took = |us| Duration::from_micros(us);
            let pause = pause_after(Took { call: took(call_us), ahead: took(ahead_us) });
            assert_eq!(pause, Duration::from_millis(pause_ms), "{call_us} us, {ahead_us} us");
        }
    }

    #[test]
    fn a_spare_page_is_there_when_touched_and_then_not() {
        let spare = Spare::new().expect("mapped");
        for _ in 0..3 {
            assert_eq!(resident_pages(spare.page), 0);
            spare.touch();
            // Fewer than all where there are no huge pages.
            assert!(resident_pages(spare.page) >= 1);
            spare.give_back().expect("given back");
        }
        assert_eq!(resident_pages(spare.page), 0);
    }

    /// Behind each page, whose pause is 20 ms or more, or it would take seconds to begin.
    #[test]
    fn a_walk_that_is_stopped_ends_after_the_page_at_hand() {
        let visited = vec![1u8; 8 * HUGE_BYTES];
        let start = (visited.as_ptr() as usize).next_multiple_of(HUGE_BYTES);
        let walk = move |pages: usize| {
            let page = |at: usize| start + at * HUGE_BYTES..start + (at + 1) * HUGE_BYTES;
            Collapse { ranges: (0..pages).map(page).collect(), ..Collapse::default() }
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
