//! Making room when more memory is in use than `maxmemory` allows: keys go, as `maxmemory-policy`
//! says, for a limited time at once.

use super::effects::Effects;
use super::latency::LatencyEvent;
use super::registries::Registries;
use crate::config::{Config, EvictionPolicy};
use crate::engine::cx::tracking;
use crate::keyspace::eviction::{Chosen, Evictor};
use crate::keyspace::{Garbage, Keyspace};
use crate::sys::clock::UnixMs;
use std::thread;
use std::time::Duration;

/// Keys that are evicted between two looks at the clock.
const BATCH: u64 = 16;

/// How long to wait at once for the helper thread to free something, nanoseconds.
const WAIT_NS: u64 = 1_000_000;

/// What is remembered from one eviction to the next.
#[derive(Debug, Default)]
pub struct Eviction {
    evictor: Evictor,
    /// Too much memory is still in use, and keys that may go are left: to be gone on with between
    /// turns.
    pub goes_on: bool,
    /// Since when more is in use than allowed, by the clock of the calls, nanoseconds.
    exceeded_since_ns: Option<u64>,
    /// How long that was so before, nanoseconds.
    exceeded_ns: u64,
}

impl Eviction {
    /// How long more was in use than allowed: all in all, and this time; milliseconds. `now_ns` is
    /// of the clock of the calls.
    #[must_use]
    pub fn exceeded_ms(&self, now_ns: u64) -> (u64, u64) {
        let current_ns = self.exceeded_since_ns.map_or(0, |since| now_ns.saturating_sub(since));
        ((self.exceeded_ns + current_ns) / 1_000_000, current_ns / 1_000_000)
    }

    /// Counts from 0 again.
    pub fn reset_statistics(&mut self) {
        self.exceeded_ns = 0;
        self.exceeded_since_ns = None;
    }

    fn note(&mut self, is_exceeded: bool, now_ns: impl FnOnce() -> u64) {
        match (is_exceeded, self.exceeded_since_ns) {
            (true, None) => self.exceeded_since_ns = Some(now_ns()),
            (false, Some(since)) => {
                self.exceeded_ns += now_ns().saturating_sub(since);
                self.exceeded_since_ns = None;
            }
            _ => {}
        }
    }
}

/// Whether there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Yes, or soon; or nothing can be done about it now.
    Enough,
    /// No, and no key is left that may go.
    None,
}

/// Whether there is room, as there was before: [`make_room`] would do nothing. A comparison.
#[inline]
#[must_use]
pub fn is_calm(registries: &Registries) -> bool {
    let limit = registries.config.maxmemory_bytes;
    let has_room = limit == 0 || registries.memory.used_bytes() <= limit;
    has_room && !registries.eviction.goes_on && registries.eviction.exceeded_since_ns.is_none()
}

/// Evicts keys until there is room, for the time that `maxmemory-eviction-tenacity` allows at most;
/// [`Eviction::goes_on`] then says that there is more to do. Their DELs are in the effects as
/// records of their own. A comparison if there is room.
#[inline]
pub fn make_room(
    keyspace: &mut Keyspace,
    registries: &mut Registries,
    effects: &mut Effects,
    now: UnixMs,
) -> Room {
    if is_calm(registries) {
        return Room::Enough;
    }
    make_room_now(keyspace, registries, effects, now)
}

#[cold]
fn make_room_now(
    keyspace: &mut Keyspace,
    registries: &mut Registries,
    effects: &mut Effects,
    now: UnixMs,
) -> Room {
    registries.eviction.goes_on = false;
    // While nothing can be made durable, memory is the truth and stands still; so it does during a
    // pause; and while loading, only the log may change it.
    // While a flushed database is being freed, it would be the keys written since that made room for
    // what is on its way out already.
    if registries.loading
        || registries.paused(now).is_some()
        || registries.write_refusal.is_some()
        || registries.memory.elsewhere.holds_database()
    {
        return Room::Enough;
    }
    let limit = registries.config.maxmemory_bytes;
    let excess = if limit == 0 { None } else { registries.memory.excess(limit) };
    let policy = registries.config.maxmemory_policy;
    let outcome = match excess {
        None => Some(Room::Enough),
        Some(_) if policy == EvictionPolicy::NoEviction => Some(Room::None),
        // What deletions add to the log is held back as what clients write is; gone on with when
        // that is over.
        Some(_) if registries.memory.is_log_crowded() => {
            registries.eviction.goes_on = true;
            Some(Room::Enough)
        }
        Some(_) => None,
    };
    let room = match (outcome, excess) {
        (None, Some(excess)) => {
            keyspace.recency.set(now, tracking(&registries.config));
            let start_ns = registries.calls.now_ns();
            let mut cycle = Cycle { keyspace, registries, effects, now, start_ns };
            let room = cycle.run(excess);
            effects.end_of_part();
            // The time is not that of the command which comes.
            registries.calls.interrupt();
            let us = registries.calls.now_ns().saturating_sub(start_ns) / 1_000;
            registries.note_latency(LatencyEvent::EvictionCycle, us, now);
            room
        }
        (Some(room), _) => room,
        (None, None) => Room::Enough,
    };
    let is_exceeded = room == Room::None || registries.eviction.goes_on;
    let calls = &registries.calls;
    registries.eviction.note(is_exceeded, || calls.now_ns());
    room
}

/// One run of evictions.
struct Cycle<'a> {
    keyspace: &'a mut Keyspace,
    registries: &'a mut Registries,
    effects: &'a mut Effects,
    now: UnixMs,
    start_ns: u64,
}

impl Cycle<'_> {
    fn run(&mut self, excess: u64) -> Room {
        let config = &self.registries.config;
        let (policy, limit) = (config.maxmemory_policy, config.maxmemory_bytes);
        let samples = config.maxmemory_samples as usize;
        let lazily = config.lazyfree.eviction;
        let time_limit_ns = time_limit_ns(config);
        let excess = i64::try_from(excess).unwrap_or(i64::MAX);
        let (mut freed, mut evicted) = (0, 0);
        while freed < excess {
            let Registries { eviction, random, .. } = &mut *self.registries;
            let mut draw = || random.next_u64();
            let chosen = eviction.evictor.choose(self.keyspace, policy, samples, &mut draw);
            let Some(gone) = chosen.and_then(|chosen| self.evict(chosen)) else {
                return self.wait_for_freed(limit, time_limit_ns);
            };
            freed += gone;
            evicted += 1;
            if evicted % BATCH == 0 {
                if lazily && self.registries.memory.excess(limit).is_none() {
                    break;
                }
                if self.elapsed_ns() > time_limit_ns {
                    self.registries.eviction.goes_on = true;
                    break;
                }
            }
        }
        Room::Enough
    }

    /// Removes a key; returns the bytes that became free, or will. They may be less than none, if
    /// the table had to be put in order.
    fn evict(&mut self, chosen: Chosen) -> Option<i64> {
        let Chosen { db, hash, volatile } = chosen;
        let is_timed = self.registries.config.latency_monitor_threshold_ms > 0;
        let start_ns = if is_timed { self.registries.calls.now_ns() } else { 0 };
        let before = self.registries.memory.balance();
        let entry = self.keyspace.db_mut(db).take_by_hash(hash, volatile)?;
        let between = self.registries.memory.balance();
        let lazily = self.registries.config.lazyfree.eviction;
        let command: &[u8] = if lazily { b"UNLINK" } else { b"DEL" };
        self.effects.propagate_ahead(db, &[command, entry.key()]);
        self.keyspace.touch(db, entry.key());
        self.registries.stats.evicted_keys += 1;
        let garbage = Garbage::Entry(entry);
        let freed = if lazily && garbage.is_large() {
            let bytes = garbage.bytes();
            self.effects.garbage.push(garbage);
            i64::try_from(bytes).unwrap_or(i64::MAX)
        } else {
            let full = self.registries.memory.balance();
            drop(garbage);
            full - self.registries.memory.balance()
        };
        if is_timed {
            let us = self.registries.calls.now_ns().saturating_sub(start_ns) / 1_000;
            self.registries.note_latency(LatencyEvent::EvictionDel, us, self.now);
        }
        Some(freed + before - between)
    }

    /// Nothing is left that may go; but what was given to the helper thread may be free soon.
    fn wait_for_freed(&mut self, limit: u64, time_limit_ns: u64) -> Room {
        let start_ns = self.registries.calls.now_ns();
        let mut room = Room::None;
        while room == Room::None
            && self.registries.memory.elsewhere.pending() > 0
            && self.elapsed_ns() < time_limit_ns
        {
            if self.registries.memory.excess(limit).is_none() {
                room = Room::Enough;
            } else {
                thread::sleep(Duration::from_nanos(time_limit_ns.min(WAIT_NS)));
            }
        }
        // It may have come with the end of the wait.
        if room == Room::None && self.registries.memory.excess(limit).is_none() {
            room = Room::Enough;
        }
        let us = self.registries.calls.now_ns().saturating_sub(start_ns) / 1_000;
        self.registries.note_latency(LatencyEvent::EvictionLazyfree, us, self.now);
        room
    }

    fn elapsed_ns(&self) -> u64 {
        self.registries.calls.now_ns().saturating_sub(self.start_ns)
    }
}

/// How long keys may be evicted at once. Redis's formula: up to half a millisecond at 10, each step
/// then a seventh more, to two minutes at 99; without limit at 100.
fn time_limit_ns(config: &Config) -> u64 {
    match config.maxmemory_eviction_tenacity {
        tenacity @ 0..=10 => 50_000 * u64::from(tenacity),
        tenacity @ 11..=99 => (500_000.0 * 1.15_f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_limit_follows_the_tenacity() {
        let mut config = Config::default();
        assert_eq!(config.maxmemory_eviction_tenacity, 10);
        for (tenacity, us) in
            [(0, 0), (1, 50), (10, 500), (11, 575), (20, 2_022), (99, 126_000_000)]
        {
            config.maxmemory_eviction_tenacity = tenacity;
            let limit_us = time_limit_ns(&config) / 1_000;
            assert!(limit_us.abs_diff(us) <= us / 100, "{tenacity}: {limit_us}");
        }
        config.maxmemory_eviction_tenacity = 100;
        assert_eq!(time_limit_ns(&config), u64::MAX);
    }
}
