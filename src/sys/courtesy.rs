//! How work that can wait gives way to the loop where both have one processor.
//!
//! A kernel that shares a processor fairly lets whoever runs go on to the end of its turn, some
//! milliseconds, though the loop may have had a request to answer all that time. Each such wait is a
//! turn of the loop that long. So what works beside it in long stretches offers the processor every
//! quarter of a millisecond: that costs half a microsecond where nobody wants it.

use super::clock::{MonoUs, mono_us};
use super::schedule;

/// Work between two offers: the longest that the loop waits for it, as long as it leaves some time
/// over.
const WORK_US: u64 = 250;

/// Whoever was away for long has a right to this part of that time: a loop that never sleeps must
/// not bring a rewrite to a halt, whose diff grows meanwhile. It comes to a quarter of the processor.
const SHARE: u64 = 3;

/// But no longer than this in one go. The kernel brings back the one that gave way after two to four
/// milliseconds.
const WORK_MAX_US: u64 = 1_000;

/// Decides when a thread offers its processor to others.
#[derive(Debug)]
pub struct Courtesy {
    /// When the next offer is due.
    due: MonoUs,
    offers: u64,
}

impl Courtesy {
    /// For work that begins now.
    #[must_use]
    pub fn new() -> Courtesy {
        Courtesy::from(mono_us())
    }

    fn from(now: MonoUs) -> Courtesy {
        Courtesy { due: MonoUs(now.0 + WORK_US), offers: 0 }
    }

    /// Gives way if that is due, and returns when the processor is back. To be called every few ten
    /// microseconds; about 25 ns where nothing is due. Takes no lock, does not allocate.
    #[inline]
    pub fn give_way_if_due(&mut self) {
        let now = mono_us();
        if self.is_due(now) {
            schedule::give_way();
            self.is_back(now, mono_us());
        }
    }

    /// How many times the processor was offered.
    #[must_use]
    pub fn offers(&self) -> u64 {
        self.offers
    }

    fn is_due(&self, now: MonoUs) -> bool {
        now >= self.due
    }

    /// The processor was offered at `from` and is back at `to`.
    fn is_back(&mut self, from: MonoUs, to: MonoUs) {
        self.offers += 1;
        let work_us = (to.since(from) / SHARE).clamp(WORK_US, WORK_MAX_US);
        self.due = MonoUs(to.0 + work_us);
    }
}

impl Default for Courtesy {
    fn default() -> Courtesy {
        Courtesy::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works for `total_us` of its own beside a loop that keeps the processor for `away_us` each time
    /// it is offered. Returns the longest stretch of work, and the worker's part of the time.
    fn beside(away_us: u64, total_us: u64) -> (u64, f64) {
        const STEP_US: u64 = 20;
        let mut now = MonoUs(7_000);
        let start = now;
        let mut courtesy = Courtesy::from(now);
        let (mut worked, mut stretch, mut longest) = (0, 0, 0);
        while worked < total_us {
            now.0 += STEP_US;
            worked += STEP_US;
            stretch += STEP_US;
            longest = longest.max(stretch);
            if courtesy.is_due(now) {
                let from = now;
                now.0 += away_us;
                courtesy.is_back(from, now);
                stretch = 0;
            }
        }
        (longest, worked as f64 / now.since(start) as f64)
    }

    #[test]
    fn a_loop_with_little_to_do_waits_for_a_quarter_of_a_millisecond() {
        for away_us in [0, 1, 100, 500] {
            let (longest, share) = beside(away_us, 1_000_000);
            assert!((WORK_US..WORK_US + 20).contains(&longest), "{away_us}: {longest}");
            assert!(share > 0.3, "{away_us}: {share}");
        }
    }

    #[test]
    fn a_loop_that_never_sleeps_leaves_a_fifth_or_more() {
        for away_us in [750, 1_000, 2_000, 3_000, 4_000] {
            let (longest, share) = beside(away_us, 1_000_000);
            assert!(longest <= WORK_MAX_US + 20, "{away_us}: {longest}");
            assert!(share >= 0.2, "{away_us}: {share}");
        }
    }

    #[test]
    fn offers_are_made_and_counted_as_time_passes() {
        let mut courtesy = Courtesy::new();
        let start = mono_us();
        while mono_us().since(start) < 20 * WORK_US {
            courtesy.give_way_if_due();
        }
        // Fewer than 20 where others kept the processor.
        assert!((1..=20).contains(&courtesy.offers()), "{}", courtesy.offers());
    }
}
