//! When keys were last used, or how often: the 24 bits an entry keeps for eviction and for OBJECT.
//!
//! They mean one of two things, as `maxmemory-policy` says. Under an LFU policy they are the minute
//! of the last use (16 bits) and a counter of uses (8 bits), which grows the more slowly the higher
//! it is, and falls as time goes by. Under any other policy they are the second of the last use.
//! When the policy changes, old stamps are read in the new way until their keys are used again, as
//! in Redis.

use super::entry::Entry;
use crate::sys::clock::UnixMs;

/// Seconds after which the clock of [`Stamp::Second`] begins anew: 194 days.
const SECONDS: u32 = 1 << 24;

/// Minutes after which the clock of the counters begins anew: 45 days.
const MINUTES: u32 = 1 << 16;

/// The counter of a new key: above 0, so that it is not the first to go.
const NEWBORN_USES: u8 = 5;

/// The bits of one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Stamp([u8; 3]);

impl Stamp {
    /// A stamp from its bits, the upper 8 of which are left out.
    #[must_use]
    pub fn from_bits(bits: u32) -> Stamp {
        let [a, b, c, _] = bits.to_le_bytes();
        Stamp([a, b, c])
    }

    /// The bits, as DEBUG OBJECT shows them.
    #[must_use]
    pub fn bits(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_le_bytes([a, b, c, 0])
    }

    fn counter(minute: u32, uses: u8) -> Stamp {
        Stamp::from_bits((minute % MINUTES) << 8 | u32::from(uses))
    }

    fn minute_and_uses(self) -> (u32, u8) {
        let [uses, low, high] = self.0;
        (u32::from(u16::from_le_bytes([low, high])), uses)
    }
}

/// How uses are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency {
    /// `lfu-log-factor`: how much the chance to be counted falls with what was counted; with 0
    /// each use counts.
    pub log_factor: u32,
    /// `lfu-decay-time`: minutes in which an unused counter falls by one; 0 is never.
    pub decay_minutes: u32,
}

/// What stamps mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// The second of the last use.
    #[default]
    LastUse,
    /// Minute of the last use and counter of uses.
    Uses(Frequency),
}

/// How a database stamps what is set in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewbornMark {
    /// For new keys.
    pub stamp: Stamp,
    /// Whether a key that is set anew gets it too, or stays with its own.
    pub marks_set_anew: bool,
    /// Whether small integers count as their key's own rather than as shared: in Redis a shared
    /// value has no stamp.
    pub owns_integers: bool,
}

impl NewbornMark {
    /// Marks a key that was there and has been given another value.
    #[inline]
    pub(super) fn mark_set_anew(self, entry: &mut Entry) {
        if self.marks_set_anew {
            entry.set_stamp(self.stamp);
        }
        if self.owns_integers {
            entry.unshare();
        }
    }
}

/// Stamps entries. Holds the time that it was last told, what stamps mean, and a source of chance.
#[derive(Clone, Debug)]
pub struct Recency {
    tracking: Tracking,
    now: UnixMs,
    second: u32,
    minute: u32,
    /// Uses leave no trace: a forked child lives, and a stamp would cost a copied page.
    is_paused: bool,
    owns_integers: bool,
    random: u64,
}

impl Default for Recency {
    fn default() -> Recency {
        Recency {
            tracking: Tracking::LastUse,
            now: UnixMs(0),
            second: 0,
            minute: 0,
            is_paused: false,
            owns_integers: false,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }
}

impl Recency {
    /// Tells the time and what stamps mean. A few instructions, to be called ahead of each command.
    #[inline]
    pub fn set(&mut self, now: UnixMs, tracking: Tracking) {
        self.tracking = tracking;
        if now != self.now {
            self.now = now;
            let seconds = now.0.div_euclid(1_000);
            self.second = seconds.rem_euclid(i64::from(SECONDS)) as u32;
            self.minute = seconds.div_euclid(60).rem_euclid(i64::from(MINUTES)) as u32;
        }
    }

    /// What stamps mean.
    #[must_use]
    pub fn tracking(&self) -> Tracking {
        self.tracking
    }

    /// While paused, [`Recency::touch`] does nothing.
    pub fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Whether small integers that are set from here on count as their key's own.
    #[inline]
    pub fn own_integers(&mut self, owns_integers: bool) {
        self.owns_integers = owns_integers;
    }

    /// The stamp of a new key.
    #[inline]
    #[must_use]
    pub fn newborn(&self) -> Stamp {
        match self.tracking {
            Tracking::LastUse => Stamp::from_bits(self.second),
            Tracking::Uses(_) => Stamp::counter(self.minute, NEWBORN_USES),
        }
    }

    /// [`Recency::newborn`], and whether it goes for keys that are set anew.
    #[inline]
    #[must_use]
    pub fn newborn_mark(&self) -> NewbornMark {
        NewbornMark {
            stamp: self.newborn(),
            marks_set_anew: self.tracking == Tracking::LastUse,
            owns_integers: self.owns_integers,
        }
    }

    /// Notes a use of the key. Does not write where nothing changes, so that a page stays clean.
    #[inline]
    pub fn touch(&mut self, entry: &Entry) {
        if self.is_paused {
            return;
        }
        let old = entry.stamp();
        let new = match self.tracking {
            Tracking::LastUse => Stamp::from_bits(self.second),
            Tracking::Uses(frequency) => {
                let uses = self.uses(old, frequency);
                let uses = if self.counts(uses, frequency) { uses.saturating_add(1) } else { uses };
                Stamp::counter(self.minute, uses)
            }
        };
        if new != old {
            entry.set_stamp(new);
        }
    }

    /// How long ago the last use was, in seconds, as far as a stamp can tell: up to 194 days. Only
    /// has a meaning under [`Tracking::LastUse`].
    #[must_use]
    pub fn idle_seconds(&self, stamp: Stamp) -> u32 {
        let then = stamp.bits();
        if then <= self.second {
            self.second - then
        } else {
            // The clock has begun anew since. One less than the way round, as Redis counts.
            self.second + (SECONDS - 1 - then)
        }
    }

    /// The counter of uses, fallen by what time has passed: 0 to 255. Only has a meaning under
    /// [`Tracking::Uses`]; else 0.
    #[must_use]
    pub fn frequency(&self, stamp: Stamp) -> u8 {
        match self.tracking {
            Tracking::LastUse => 0,
            Tracking::Uses(frequency) => self.uses(stamp, frequency),
        }
    }

    /// How well a key with this stamp may go when memory runs short: the seconds since its last use,
    /// or by how much its counter of uses stays below the most.
    #[must_use]
    pub fn disuse(&self, stamp: Stamp) -> u32 {
        match self.tracking {
            Tracking::LastUse => self.idle_seconds(stamp),
            Tracking::Uses(frequency) => u32::from(u8::MAX - self.uses(stamp, frequency)),
        }
    }

    fn uses(&self, stamp: Stamp, frequency: Frequency) -> u8 {
        let (then, uses) = stamp.minute_and_uses();
        let passed = if then <= self.minute {
            self.minute - then
        } else {
            self.minute + (MINUTES - 1 - then)
        };
        let lost = passed.checked_div(frequency.decay_minutes).unwrap_or(0);
        uses.saturating_sub(u8::try_from(lost).unwrap_or(u8::MAX))
    }

    /// Whether this use is counted: one in so many, the more of them there were.
    fn counts(&mut self, uses: u8, frequency: Frequency) -> bool {
        let above_newborn = u64::from(uses.saturating_sub(NEWBORN_USES));
        let one_in = above_newborn * u64::from(frequency.log_factor) + 1;
        one_in == 1 || self.draw().is_multiple_of(one_in)
    }

    /// Xorshift with a multiplication: good enough for lots, and two nanoseconds.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::NewValue;

    const START: i64 = 2_000_000_000_000;

    fn entry() -> Entry {
        Entry::new(b"k", NewValue::Int(1), None)
    }

    fn uses(log_factor: u32, decay_minutes: u32) -> Tracking {
        Tracking::Uses(Frequency { log_factor, decay_minutes })
    }

    fn at(ms: i64, tracking: Tracking) -> Recency {
        let mut recency = Recency::default();
        recency.set(UnixMs(ms), tracking);
        recency
    }

    #[test]
    fn a_stamp_keeps_24_bits() {
        for bits in [0, 1, 0x12_3456, 0xff_ffff] {
            assert_eq!(Stamp::from_bits(bits).bits(), bits);
        }
        assert_eq!(Stamp::from_bits(0x0100_0001).bits(), 1);
    }

    #[test]
    fn idle_time_is_counted_from_the_last_touch() {
        let (mut recency, entry) = (at(START, Tracking::LastUse), entry());
        entry.set_stamp(recency.newborn());
        recency.set(UnixMs(START + 9_999), Tracking::LastUse);
        assert_eq!(recency.idle_seconds(entry.stamp()), 9);
        recency.touch(&entry);
        assert_eq!(recency.idle_seconds(entry.stamp()), 0);
        recency.set(UnixMs(START + 70_000), Tracking::LastUse);
        recency.pause(true);
        recency.touch(&entry);
        assert_eq!(recency.idle_seconds(entry.stamp()), 61, "a pause leaves no trace");
    }

    #[test]
    fn the_clock_of_seconds_may_begin_anew() {
        let round = i64::from(SECONDS) * 1_000;
        let before = round * 100 - 3_000;
        let stamp = at(before, Tracking::LastUse).newborn();
        assert_eq!(stamp.bits(), SECONDS - 3);
        assert_eq!(at(before + 10_000, Tracking::LastUse).idle_seconds(stamp), 9);
    }

    #[test]
    fn with_factor_0_each_use_counts_up_to_255() {
        let (mut recency, entry) = (at(START, uses(0, 0)), entry());
        entry.set_stamp(recency.newborn());
        for n in 1..400u32 {
            recency.touch(&entry);
            let expected = (u32::from(NEWBORN_USES) + n).min(255);
            assert_eq!(u32::from(recency.frequency(entry.stamp())), expected);
        }
    }

    #[test]
    fn counters_grow_with_the_logarithm_of_the_uses() {
        // From the table in Redis's documentation of lfu-log-factor: uses, and counters by factor.
        for (factor, expected) in [
            (1, [(100, 18), (1_000, 49)]),
            (10, [(100, 10), (1_000, 18)]),
            (100, [(100, 8), (1_000, 11)]),
        ] {
            for (count, mean) in expected {
                let mut recency = at(START, uses(factor, 1));
                let entry = entry();
                let mut sum = 0;
                for _ in 0..50 {
                    entry.set_stamp(recency.newborn());
                    (0..count).for_each(|_| recency.touch(&entry));
                    sum += i32::from(recency.frequency(entry.stamp()));
                }
                let difference = (sum / 50 - mean).abs();
                assert!(difference <= 2, "factor {factor}, {count} uses: {} not {mean}", sum / 50);
            }
        }
    }

    #[test]
    fn counters_fall_as_minutes_pass_and_not_below_0() {
        let stamp = Stamp::counter(at(START, uses(0, 1)).minute, 100);
        for (minutes, decay, left) in
            [(0, 1, 100), (7, 1, 93), (7, 2, 97), (7, 0, 100), (100, 1, 0), (3_000, 1, 0)]
        {
            let later = at(START + minutes * 60_000, uses(0, decay));
            assert_eq!(later.frequency(stamp), left, "{minutes} minutes, one each {decay}");
        }
        assert_eq!(at(START, Tracking::LastUse).frequency(stamp), 0);
    }

    #[test]
    fn a_use_counts_from_what_is_left_of_the_counter() {
        let entry = entry();
        entry.set_stamp(Stamp::counter(at(START, uses(0, 1)).minute, 100));
        let mut later = at(START + 60 * 60_000, uses(0, 1));
        later.touch(&entry);
        assert_eq!(later.frequency(entry.stamp()), 41);
    }

    #[test]
    fn the_clock_of_minutes_may_begin_anew() {
        let round = i64::from(MINUTES) * 60_000;
        let stamp = Stamp::counter(at(round - 60_000, uses(0, 1)).minute, 100);
        assert_eq!(at(round + 9 * 60_000, uses(0, 1)).frequency(stamp), 91);
    }
}
