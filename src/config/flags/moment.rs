//! A moment as it is given on the command line.

/// What a moment may look like, for messages and `--help`.
pub(super) const FORMS: &str =
    "Unix time in seconds or milliseconds, or UTC as 2026-01-31T23:59:59Z";

/// Decimals below this are seconds (to the year 5138), from here on milliseconds (from 1973).
const SECONDS_END: u64 = 100_000_000_000;
const MS_PER_DAY: u64 = 86_400_000;

/// Milliseconds since the Unix epoch; `None` if `text` has none of the [`FORMS`]. Seconds of a
/// date may have a fraction of up to three digits, and a blank may stand for the `T`.
pub(super) fn parse(text: &str) -> Option<u64> {
    match decimal(text) {
        Some(seconds) if seconds < SECONDS_END => Some(seconds * 1_000),
        Some(ms) => Some(ms),
        None => utc(text),
    }
}

fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// A number of exactly `digits` digits.
fn field(text: &str, digits: usize) -> Option<u64> {
    decimal(text).filter(|_| text.len() == digits)
}

fn utc(text: &str) -> Option<u64> {
    let text = text.strip_suffix(['Z', 'z'])?;
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.split('-');
    let (year, month, day) =
        (field(date.next()?, 4)?, field(date.next()?, 2)?, field(date.next()?, 2)?);
    let mut time = time.split(':');
    let (hour, minute, second) = (field(time.next()?, 2)?, field(time.next()?, 2)?, time.next()?);
    if date.next().is_some() || time.next().is_some() || hour > 23 || minute > 59 {
        return None;
    }
    let (second, fraction) = match second.split_once('.') {
        None => (second, 0),
        Some((second, digits)) => {
            let scale = [100, 10, 1].get(digits.len().checked_sub(1)?)?;
            (second, decimal(digits)? * scale)
        }
    };
    let second = field(second, 2).filter(|&second| second <= 59)?;
    let in_day = (hour * 60 + minute) * 60 + second;
    Some(days_since_epoch(year, month, day)? * MS_PER_DAY + in_day * 1_000 + fraction)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, if there is such a one.
fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let days_in = |month| match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if year < 1970 || !(1..=12).contains(&month) || !(1..=days_in(month)).contains(&day) {
        return None;
    }
    // Leap days in the years before `year`, less those before 1970.
    let leaps = |years: u64| years / 4 - years / 100 + years / 400;
    let leap_days = leaps(year - 1) - leaps(1969);
    let in_year: u64 = (1..month).map(days_in).sum();
    Some((year - 1970) * 365 + leap_days + in_year + day - 1)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn seconds_milliseconds_and_dates_are_told_apart() {
        for (text, ms) in [
            ("0", 0),
            ("1700000000", 1_700_000_000_000),
            ("99999999999", 99_999_999_999_000),
            ("100000000000", 100_000_000_000),
            ("1700000000123", 1_700_000_000_123),
            ("1970-01-01T00:00:00Z", 0),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14 22:13:20.5z", 1_700_000_000_500),
            ("2023-11-14T22:13:20.123Z", 1_700_000_000_123),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2024-02-29T23:59:59.999Z", 1_709_251_199_999),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000),
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "-1",
            "+1",
            "1.5",
            "99999999999999999999",
            "now",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20+01:00",
            "2023-11-14T22:13Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:60:20Z",
            "2023-11-14T22:13:60Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20.1234Z",
            "2023-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-00-01T00:00:00Z",
            "2023-04-31T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2023-1-1T00:00:00Z",
            "2023-11-14-1T22:13:20Z",
            "2023-11-14T22:13:20:1Z",
            "2023-11-14T2é:13:20Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
