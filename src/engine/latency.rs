//! Spikes of latency: for each kind of event that can hold the loop up, the times when it took
//! longer than `latency-monitor-threshold`.

use std::collections::BTreeMap;
use std::collections::VecDeque;

/// Spikes remembered of each kind of event.
const SAMPLES_MAX: usize = 160;

/// What can hold the loop up, or the promises wait. The names are Redis's where it has the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LatencyEvent {
    /// A command that is not meant to be fast.
    Command,
    /// A command that is.
    FastCommand,
    /// The fork of a rewrite.
    Fork,
    /// write(2) to the append-only file.
    AofWrite,
    /// A sync of it under `always`, on the syncer's thread.
    AofFsyncAlways,
    /// The rename of a rewritten file, on the hand-off's thread.
    AofRename,
    /// The part of the rewrite-diff that the loop writes.
    AofRewriteDiffWrite,
    /// The removal of keys past their deadlines.
    ExpireCycle,
    /// The removal of keys because memory has run short.
    EvictionCycle,
    /// That of one of them.
    EvictionDel,
    /// Waiting for memory that a helper thread frees, since no key is left that may go.
    EvictionLazyfree,
    /// A turn of the loop, without fork and write(2).
    EventLoop,
}

impl LatencyEvent {
    /// All of them.
    pub const ALL: [LatencyEvent; 12] = [
        LatencyEvent::Command,
        LatencyEvent::FastCommand,
        LatencyEvent::Fork,
        LatencyEvent::AofWrite,
        LatencyEvent::AofFsyncAlways,
        LatencyEvent::AofRename,
        LatencyEvent::AofRewriteDiffWrite,
        LatencyEvent::ExpireCycle,
        LatencyEvent::EvictionCycle,
        LatencyEvent::EvictionDel,
        LatencyEvent::EvictionLazyfree,
        LatencyEvent::EventLoop,
    ];

    /// The name in LATENCY.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LatencyEvent::Command => "command",
            LatencyEvent::FastCommand => "fast-command",
            LatencyEvent::Fork => "fork",
            LatencyEvent::AofWrite => "aof-write",
            LatencyEvent::AofFsyncAlways => "aof-fsync-always",
            LatencyEvent::AofRename => "aof-rename",
            LatencyEvent::AofRewriteDiffWrite => "aof-rewrite-diff-write",
            LatencyEvent::ExpireCycle => "expire-cycle",
            LatencyEvent::EvictionCycle => "eviction-cycle",
            LatencyEvent::EvictionDel => "eviction-del",
            LatencyEvent::EvictionLazyfree => "eviction-lazyfree",
            LatencyEvent::EventLoop => "event-loop",
        }
    }

    /// The event of this name, in any case.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<LatencyEvent> {
        LatencyEvent::ALL.into_iter().find(|e| e.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// The worst of an event within one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spike {
    /// When, Unix time in seconds.
    pub unix_sec: i64,
    /// How long it took, milliseconds.
    pub ms: u64,
}

/// The spikes of one kind of event. Invariant: not empty, times differ from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Series {
    spikes: VecDeque<Spike>,
    max_ms: u64,
}

impl Series {
    /// The last ones, oldest first.
    pub fn spikes(&self) -> impl ExactSizeIterator<Item = Spike> + Clone {
        self.spikes.iter().copied()
    }

    /// The newest.
    #[must_use]
    pub fn latest(&self) -> Option<Spike> {
        self.spikes.back().copied()
    }

    /// The worst since the last reset, milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> u64 {
        self.max_ms
    }

    fn add(&mut self, spike: Spike) {
        self.max_ms = self.max_ms.max(spike.ms);
        match self.spikes.back_mut() {
            Some(last) if last.unix_sec == spike.unix_sec => last.ms = last.ms.max(spike.ms),
            _ => {
                if self.spikes.len() == SAMPLES_MAX {
                    self.spikes.pop_front();
                }
                self.spikes.push_back(spike);
            }
        }
    }
}

/// The spikes of all kinds of events. O(kinds) memory.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    series: BTreeMap<LatencyEvent, Series>,
}

impl Latency {
    /// Takes note of an event that took `us` microseconds, if that is as much as `threshold_ms`; 0
    /// takes note of none.
    #[inline]
    pub fn note(&mut self, event: LatencyEvent, us: u64, threshold_ms: u64, unix_sec: i64) {
        if threshold_ms > 0 && us / 1_000 >= threshold_ms {
            self.add(event, Spike { unix_sec, ms: us / 1_000 });
        }
    }

    /// Apart, so that the comparison above is all that each command is charged for.
    #[cold]
    #[inline(never)]
    fn add(&mut self, event: LatencyEvent, spike: Spike) {
        self.series.entry(event).or_default().add(spike);
    }

    /// The spikes of an event, if there were any.
    #[must_use]
    pub fn of(&self, event: LatencyEvent) -> Option<&Series> {
        self.series.get(&event)
    }

    /// Events that had spikes.
    pub fn all(&self) -> impl ExactSizeIterator<Item = (LatencyEvent, &Series)> {
        self.series.iter().map(|(event, series)| (*event, series))
    }

    /// Forgets the spikes of an event; tells whether there were any.
    pub fn forget(&mut self, event: LatencyEvent) -> bool {
        self.series.remove(&event).is_some()
    }

    /// Forgets everything; tells how many events had spikes.
    pub fn forget_all(&mut self) -> usize {
        std::mem::take(&mut self.series).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_a_second_is_kept_and_the_oldest_forgotten() {
        let mut latency = Latency::default();
        latency.note(LatencyEvent::Fork, 4_999, 5, 100);
        assert_eq!(latency.all().len(), 0, "below the threshold");
        latency.note(LatencyEvent::Fork, 1_000_000, 0, 100);
        assert_eq!(latency.all().len(), 0, "switched off");
        for (ms, sec) in [(7, 100), (9, 100), (8, 100), (5, 101)] {
            latency.note(LatencyEvent::Fork, ms * 1_000, 5, sec);
        }
        let series = latency.of(LatencyEvent::Fork).expect("spikes");
        let spikes: Vec<_> = series.spikes().map(|spike| (spike.unix_sec, spike.ms)).collect();
        assert_eq!(spikes, [(100, 9), (101, 5)]);
        for sec in 200..200 + SAMPLES_MAX as i64 {
            latency.note(LatencyEvent::Fork, 6_000, 5, sec);
        }
        let series = latency.of(LatencyEvent::Fork).expect("spikes");
        assert_eq!((series.spikes().len(), series.max_ms()), (SAMPLES_MAX, 9));
        assert!(latency.forget(LatencyEvent::Fork) && !latency.forget(LatencyEvent::Fork));
    }
}
