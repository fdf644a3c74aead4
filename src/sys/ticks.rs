//! A clock for what takes less than a microsecond: the processor's own counter. Reading it takes
//! half as long as asking the kernel's library, which waits for all instructions before it.
//!
//! The counter is trusted where the kernel trusts it, which has looked whether it runs evenly and
//! on all processors alike, and takes its own time from it then. What one beat of it lasts is
//! measured at start, against the clock of the kernel: to some parts in a hundred thousand. That is
//! for durations, of what a command takes above all; for anything that has to agree with another
//! clock there is [`super::clock`].
//!
//! Two processors' counters may be a few beats apart, so that a thread which is moved can read less
//! than before: whoever takes differences lets them end at zero. That the kernel comes to mistrust
//! the counter later on is not noticed; what is told of durations is then as wrong as the counter.

// The instruction that reads the counter has no safe form.
#![allow(unsafe_code)]

use super::clock::mono_ns;

/// The quickest clock there is that counts nanoseconds from some moment. About 10 ns a reading where
/// the processor's counter is to be had, else 20. The first call takes a millisecond.
#[must_use]
pub fn quickest() -> fn() -> u64 {
    #[cfg(target_arch = "x86_64")]
    if counter::calibrate() {
        return counter::now_ns;
    }
    mono_ns
}

#[cfg(target_arch = "x86_64")]
mod counter {
    use super::mono_ns;
    use std::fs;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// What the kernel takes its time from.
    const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

    /// For how long the counter is measured. A reading of the two clocks together is right to some
    /// ten nanoseconds.
    const MEASURED_NS: u64 = 1_000_000;

    /// Nanoseconds a beat, times 2 to the power of 32; 0 as long as that is not known.
    static NS_PER_BEAT: AtomicU64 = AtomicU64::new(0);

    fn beats() -> u64 {
        // SAFETY: reads a register. The kernel that takes its time from the counter lets programs do
        // so too, or reading the time would not work for them either.
        unsafe { std::arch::x86_64::_rdtsc() }
    }

    /// Nanoseconds since the counter began.
    pub fn now_ns() -> u64 {
        ((u128::from(beats()) * u128::from(NS_PER_BEAT.load(Relaxed))) >> 32) as u64
    }

    /// Measures what a beat lasts, unless that is known; false if the counter is not to be trusted.
    pub fn calibrate() -> bool {
        if NS_PER_BEAT.load(Relaxed) > 0 {
            return true;
        }
        if !fs::read_to_string(CLOCK_SOURCE).is_ok_and(|source| source.trim() == "tsc") {
            return false;
        }
        let (first_beats, first_ns) = both();
        while mono_ns() < first_ns + MEASURED_NS {
            std::hint::spin_loop();
        }
        let (last_beats, last_ns) = both();
        let (beats, ns) = (last_beats.saturating_sub(first_beats), last_ns - first_ns);
        let Some(ns_per_beat) = (u128::from(ns) << 32).checked_div(u128::from(beats)) else {
            return false;
        };
        let Ok(ns_per_beat @ 1..) = u64::try_from(ns_per_beat) else { return false };
        NS_PER_BEAT.store(ns_per_beat, Relaxed);
        true
    }

    /// Both clocks at one moment. Of some readings the one that took the least time: what
    /// lies between may be an interrupt.
    fn both() -> (u64, u64) {
        const TRIES: usize = 8;
        let readings = (0..TRIES).map(|_| {
            let before = beats();
            let ns = mono_ns();
            let took = beats().saturating_sub(before);
            (took, before + took / 2, ns)
        });
        readings.min().map_or((0, 0), |(_, beats, ns)| (beats, ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_clock_keeps_pace_with_the_kernels() {
        let quickest = quickest();
        let (start, start_mono) = (quickest(), mono_ns());
        let mut last = start;
        while mono_ns() < start_mono + 20_000_000 {
            let now = quickest();
            assert!(now >= last, "{now} comes before {last}");
            last = now;
        }
        // Whatever kept this thread from running between the readings of the two clocks, it did so
        // ahead of one of them and behind the other.
        let before = mono_ns();
        let passed = quickest() - start;
        let (least, most) = (before - start_mono, mono_ns() - start_mono + 1_000_000);
        let slack = most / 100;
        assert!(
            (least.saturating_sub(slack + 1_000_000)..=most + slack).contains(&passed),
            "{passed} of {least}"
        );
    }
}
