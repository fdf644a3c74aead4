//! Calendar time in the machine's time zone, for lines that people read.

// localtime_r has no safe wrapper in nix or the standard library.
#![allow(unsafe_code)]

use super::clock::UnixMs;
use std::mem::MaybeUninit;

/// A moment as a calendar and a wall clock of this machine show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Year of the common era.
    pub year: i64,
    /// Month, 0 for January.
    pub month: u8,
    /// Day of the month, from 1.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute, 0 to 59.
    pub minute: u8,
    /// Second, 0 to 60 (60 in zones that count leap seconds).
    pub second: u8,
    /// Millisecond, 0 to 999.
    pub millisecond: u16,
}

impl LocalTime {
    /// Converts `moment`; `None` if its year is beyond what C's calendar holds. Takes the C
    /// library's time zone lock: not for a forked child.
    #[must_use]
    pub fn at(moment: UnixMs) -> Option<LocalTime> {
        let seconds = libc::time_t::try_from(moment.0.div_euclid(1_000)).ok()?;
        let mut parts = MaybeUninit::<libc::tm>::zeroed();
        // SAFETY: both pointers are valid for the call, which keeps neither. It reads the
        // environment variable TZ, which nothing in this program changes.
        let filled = unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
        if filled.is_null() {
            return None;
        }
        // SAFETY: all zeros is a valid tm, and localtime_r has filled it.
        let parts = unsafe { parts.assume_init() };
        Some(LocalTime {
            year: i64::from(parts.tm_year) + 1_900,
            month: u8::try_from(parts.tm_mon).ok()?,
            day: u8::try_from(parts.tm_mday).ok()?,
            hour: u8::try_from(parts.tm_hour).ok()?,
            minute: u8::try_from(parts.tm_min).ok()?,
            second: u8::try_from(parts.tm_sec).ok()?,
            millisecond: u16::try_from(moment.0.rem_euclid(1_000)).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_and_seconds_do_not_depend_on_the_zone() {
        // Zones are offset by whole minutes in this century.
        let time = LocalTime::at(UnixMs(1_700_000_000_123)).expect("in range");
        assert_eq!((time.second, time.millisecond), (20, 123));
        assert_eq!((time.year, time.month), (2023, 10));
        assert!((14..=15).contains(&time.day));
    }

    #[test]
    fn moments_before_the_epoch_and_beyond_the_calendar_are_handled() {
        let time = LocalTime::at(UnixMs(-1)).expect("in range");
        assert_eq!((time.second, time.millisecond), (59, 999));
        assert_eq!(LocalTime::at(UnixMs(i64::MAX)).map(|time| time.millisecond), Some(807));
    }
}
