//! Time, as units that cannot be mixed up. Only `server/` reads the clocks, and `engine/` to measure how
//! long a command takes; everything else is handed the time.

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since the Unix epoch: deadlines of keys, seals, everything a user can see. May
/// step when the system's clock is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub i64);

/// Microseconds of the monotonic clock: cadence, time-outs, ages. Never steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonoUs(pub u64);

impl MonoUs {
    /// Microseconds from `earlier` to `self`; 0 if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: MonoUs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks, read together once a turn of the loop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Wall clock.
    pub unix: UnixMs,
    /// Monotonic clock.
    pub mono: MonoUs,
}

impl Now {
    /// Reads both clocks. Two vDSO calls, about 40 ns.
    #[must_use]
    pub fn read() -> Now {
        Now { unix: unix_ms(), mono: mono_us() }
    }
}

fn unix_ms() -> UnixMs {
    let t = clock_gettime(ClockId::CLOCK_REALTIME).unwrap_or(nix::sys::time::TimeSpec::new(0, 0));
    UnixMs(t.tv_sec() * 1_000 + t.tv_nsec() / 1_000_000)
}

/// Reads the monotonic clock alone.
#[must_use]
pub fn mono_us() -> MonoUs {
    let t = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or(nix::sys::time::TimeSpec::new(0, 0));
    MonoUs(t.tv_sec().unsigned_abs() * 1_000_000 + t.tv_nsec().unsigned_abs() / 1_000)
}

/// Reads the monotonic clock in nanoseconds, for the time that a command takes. About 20 ns.
#[must_use]
pub fn mono_ns() -> u64 {
    let t = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or(nix::sys::time::TimeSpec::new(0, 0));
    t.tv_sec().unsigned_abs() * 1_000_000_000 + t.tv_nsec().unsigned_abs()
}

/// Reads the wall clock in microseconds since the Unix epoch, for `TIME`: the one command whose
/// answer is the clock itself.
#[must_use]
pub fn unix_us() -> i64 {
    let t = clock_gettime(ClockId::CLOCK_REALTIME).unwrap_or(nix::sys::time::TimeSpec::new(0, 0));
    t.tv_sec() * 1_000_000 + t.tv_nsec() / 1_000
}
