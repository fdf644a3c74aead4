//! What the machine itself does to whoever runs on one of its processors.

use std::io;
use std::time::{Duration, Instant};

use crate::settings::Settings;

/// A gap that a request would notice.
const LONG: Duration = Duration::from_millis(1);

/// The times between two looks at the clock in which nothing else was done.
#[derive(Default)]
struct Gaps {
    longest: Duration,
    long: u64,
}

impl Gaps {
    fn add(&mut self, gap: Duration) {
        self.longest = self.longest.max(gap);
        self.long += u64::from(gap >= LONG);
    }
}

/// Reads the clock and does nothing else, for `--seconds`; prints for how long it was kept from
/// that at most, and how often for a millisecond or more.
///
/// # Errors
/// If there is no such number of seconds.
pub fn run(settings: &Settings) -> io::Result<()> {
    let length = Duration::from_secs(settings.count("seconds", 5)?);
    let start = Instant::now();
    let (mut gaps, mut last) = (Gaps::default(), start);
    while last.duration_since(start) < length {
        let now = Instant::now();
        gaps.add(now.duration_since(last));
        last = now;
    }
    println!("longest_gap_us={} long_gaps={}", gaps.longest.as_micros(), gaps.long);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_and_the_long_ones_are_told() {
        let mut gaps = Gaps::default();
        for us in [30, 1_000, 999, 7_300, 0] {
            gaps.add(Duration::from_micros(us));
        }
        assert_eq!((gaps.longest, gaps.long), (Duration::from_micros(7_300), 2));
    }
}
