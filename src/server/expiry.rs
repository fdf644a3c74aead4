//! The removal of keys whose deadline has passed though nobody asks for them.
//!
//! Deadlines stand in order, so the keys to be removed are found without searching, and those that
//! are overdue the longest go first, whatever their database. What is bounded is time: a *slice* of
//! it at once, and a share of it over all. The share grows with the *lag*, by which the oldest key
//! is overdue: keys that come due a few at a time cost next to nothing, and a flood of them is
//! worked off without holding anybody up for longer than a slice.

use super::{Server, elapsed_us};
use crate::engine::cx;
use crate::engine::effects::Effects;
use crate::engine::latency::LatencyEvent;
use crate::engine::registries::{Registries, SplitMix64};
use crate::keyspace::{Database, Keyspace};
use crate::sys::clock::{MonoUs, UnixMs, mono_us};

/// Keys that are removed between two looks at the clock.
const BATCH: usize = 32;

/// How soon keys are looked for again when none is due: soon enough that a key is gone within a
/// tenth of a second after its deadline, and seldom enough to cost nothing.
const INTERVAL_US: u64 = 50_000;

/// The same while no key has a deadline.
const IDLE_INTERVAL_US: u64 = 80_000;

/// A deadline that is nearer than this is waited for no less, so that keys that come due one by
/// one are removed several at a time.
const SHORTEST_INTERVAL_US: u64 = 10_000;

/// A slice of time at the least effort, and how much longer it is with each step; Redis's figures.
const SLICE_US: u64 = 1_000;
const SLICE_STEP_US: u64 = 250;

/// The share of time at the least effort, percent, and how much larger it is with each step.
const SHARE_PERCENT: u64 = 25;
const SHARE_STEP_PERCENT: u64 = 2;

/// The same for a lag of [`FULL_LAG_MS`] and more.
const FULL_SHARE_PERCENT: u64 = 50;
const FULL_SHARE_STEP_PERCENT: u64 = 4;
const FULL_LAG_MS: i64 = 1_000;

/// The shortest pause between two slices, microseconds: what a poll can wait.
const SHORTEST_PAUSE_US: u64 = 1_000;

/// Keys looked at to estimate how many are past their deadline.
const SAMPLES: u32 = 32;

/// Weight of the last estimate in the running average, as in Redis.
const LAST_WEIGHT: f64 = 0.05;

/// How much time goes into it, as `active-expire-effort` says.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// From 0 to 9.
    steps: u64,
}

impl Pace {
    fn new(effort: u32) -> Pace {
        Pace { steps: u64::from(effort.clamp(1, 10) - 1) }
    }

    /// The time at once.
    fn slice_us(self) -> u64 {
        SLICE_US + self.steps * SLICE_STEP_US
    }

    /// The time over all.
    fn share_percent(self, lag_ms: i64) -> u64 {
        let least = SHARE_PERCENT + self.steps * SHARE_STEP_PERCENT;
        let most = FULL_SHARE_PERCENT + self.steps * FULL_SHARE_STEP_PERCENT;
        let lag_ms = lag_ms.clamp(0, FULL_LAG_MS).unsigned_abs();
        least + (most - least) * lag_ms / FULL_LAG_MS.unsigned_abs()
    }

    /// The pause behind a slice that took so long.
    fn pause_us(self, took_us: u64, lag_ms: i64) -> u64 {
        let share = self.share_percent(lag_ms);
        (took_us * (100 - share) / share).max(SHORTEST_PAUSE_US)
    }
}

/// Databases with keys past their deadline.
#[derive(Debug)]
struct Due {
    databases: Vec<usize>,
    now: UnixMs,
}

impl Due {
    /// O(databases).
    fn find(keyspace: &Keyspace, now: UnixMs) -> Due {
        let is_due = |db: &Database| db.next_deadline().is_some_and(|deadline| deadline < now);
        let found = keyspace.iter().enumerate().filter(|(_, db)| is_due(db));
        Due { databases: found.map(|(index, _)| index).collect(), now }
    }

    fn is_none(&self) -> bool {
        self.databases.is_empty()
    }

    /// The database whose key is overdue the longest, and since when.
    fn oldest(&self, keyspace: &Keyspace) -> Option<(usize, UnixMs)> {
        let deadlines = self.databases.iter().map(|db| (keyspace.db(*db).next_deadline(), *db));
        let (deadline, db) = deadlines.min()?;
        Some((db, deadline?))
    }

    /// Removes up to `most` keys, and leaves their DELs in `effects`. Returns how many it were.
    fn remove_some(
        &mut self,
        most: usize,
        keyspace: &mut Keyspace,
        registries: &mut Registries,
        effects: &mut Effects,
    ) -> usize {
        let mut removed = 0;
        while removed < most
            && let Some((db, _)) = self.oldest(keyspace)
        {
            // Which database comes first is asked again only when its turn may be over.
            let second = self.second_oldest(db, keyspace);
            while removed < most {
                let next = keyspace.db(db).next_deadline();
                if next.is_none_or(|next| next >= self.now || second.is_some_and(|s| next > s)) {
                    break;
                }
                let Some(entry) = keyspace.db_mut(db).take_expired(self.now) else { break };
                cx::note_expired(keyspace, registries, effects, db, entry.key());
                cx::discard_expired(registries, effects, entry);
                removed += 1;
            }
            if keyspace.db(db).next_deadline().is_none_or(|next| next >= self.now) {
                self.databases.retain(|other| *other != db);
            }
        }
        removed
    }

    /// The oldest deadline outside of `first`.
    fn second_oldest(&self, first: usize, keyspace: &Keyspace) -> Option<UnixMs> {
        let others = self.databases.iter().filter(|db| **db != first);
        others.filter_map(|db| keyspace.db(*db).next_deadline()).min()
    }

    /// The share of keys past their deadline among all that have one, percent, estimated from a
    /// few keys chosen by chance in each database. Exact where there are none.
    fn stale_percent(&self, keyspace: &Keyspace, random: &mut SplitMix64) -> f64 {
        let volatile: usize = keyspace.iter().map(Database::volatile_len).sum();
        let stale = self.databases.iter().map(|index| {
            let db = keyspace.db(*index);
            let (mut seen, mut stale) = (0, 0);
            for _ in 0..SAMPLES {
                let entry = db.random(&mut || random.next_u64());
                if let Some(entry) = entry.filter(|entry| entry.deadline().is_some()) {
                    seen += 1;
                    stale += u32::from(entry.is_expired(self.now));
                }
            }
            // One at least: it was seen.
            let share = f64::from(stale) / f64::from(seen.max(1));
            (share * db.volatile_len() as f64).max(1.0)
        });
        let stale: f64 = stale.sum();
        (stale * 100.0 / volatile.max(1) as f64).min(100.0)
    }
}

/// How soon keys are to be looked for again once none is due, microseconds.
fn interval_us(keyspace: &Keyspace, now: UnixMs) -> u64 {
    let Some(next) = keyspace.iter().filter_map(Database::next_deadline).min() else {
        return IDLE_INTERVAL_US;
    };
    // A key is past its deadline from the next millisecond on.
    let ms = next.0.saturating_sub(now.0).saturating_add(1).max(0).unsigned_abs();
    ms.saturating_mul(1_000).clamp(SHORTEST_INTERVAL_US, INTERVAL_US)
}

impl Server {
    /// Removes keys whose deadline has passed, in the order of their deadlines, for a slice of
    /// time. Returns how soon it goes on, microseconds.
    pub(super) fn expire_due_keys(&mut self) -> u64 {
        let registries = &self.engine.registries;
        // While nothing can be made durable, memory is the truth and stands still; while loading,
        // only the log may change the keyspace.
        let rests = !registries.active_expire
            || registries.debug.is_cron_paused
            || registries.paused(self.now.unix).is_some()
            || self.loading.is_some()
            || self.log.is_faulted();
        if rests {
            return IDLE_INTERVAL_US;
        }
        let start = mono_us();
        let pace = Pace::new(registries.config.active_expire_effort);
        let mut due = Due::find(&self.engine.keyspace, self.now.unix);
        while !due.is_none() && elapsed_us(start) < pace.slice_us() {
            let engine = &mut self.engine;
            due.remove_some(
                BATCH,
                &mut engine.keyspace,
                &mut engine.registries,
                &mut engine.effects,
            );
            self.log_removed();
        }
        self.end_of_slice(&due, pace, start)
    }

    fn end_of_slice(&mut self, due: &Due, pace: Pace, start: MonoUs) -> u64 {
        let engine = &mut self.engine;
        let stale = due.stale_percent(&engine.keyspace, &mut engine.registries.random);
        let took_us = elapsed_us(start);
        engine.registries.note_latency(LatencyEvent::ExpireCycle, took_us, self.now.unix);
        let stats = &mut engine.registries.stats;
        stats.expire_cycle_us += took_us;
        stats.expired_stale_percent += (stale - stats.expired_stale_percent) * LAST_WEIGHT;
        let Some((_, oldest)) = due.oldest(&engine.keyspace) else {
            return interval_us(&engine.keyspace, self.now.unix);
        };
        stats.expire_time_cap_reached += 1;
        pace.pause_us(took_us, self.now.unix.0.saturating_sub(oldest.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::NewValue;
    use crate::engine::testing::Bench;
    use crate::keyspace::Deadline;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn set(bench: &mut Bench, db: usize, key: &str, deadline: i64) {
        let deadline = Deadline::At(UnixMs(deadline));
        bench.keyspace.db_mut(db).set(key.as_bytes(), NewValue::Int(1), deadline);
    }

    /// Removes up to `most` keys; their names in the order in which they went.
    fn remove(bench: &mut Bench, due: &mut Due, most: usize) -> Vec<String> {
        let mut effects = Effects::default();
        let removed =
            due.remove_some(most, &mut bench.keyspace, &mut bench.registries, &mut effects);
        assert_eq!(effects.record_count(), removed);
        let names = effects.records().map(|(db, record)| {
            let words = crate::engine::testing::decode(record);
            assert_eq!(words[0], b"DEL");
            format!("{db}/{}", words[1].escape_ascii())
        });
        names.collect()
    }

    #[test]
    fn keys_go_in_the_order_of_their_deadlines_whatever_their_database() {
        let mut bench = Bench::new(&[]);
        for (db, key, deadline) in [
            (0, "e", 500),
            (0, "a", 100),
            (3, "b", 200),
            (3, "d", 400),
            (15, "c", 300),
            (15, "f", NOW.0 - 1),
            (7, "at", NOW.0),
            (7, "later", NOW.0 + 1),
        ] {
            set(&mut bench, db, key, deadline);
        }
        let mut due = Due::find(&bench.keyspace, NOW);
        assert_eq!(remove(&mut bench, &mut due, 4), ["0/a", "3/b", "15/c", "3/d"]);
        assert_eq!(due.oldest(&bench.keyspace), Some((0, UnixMs(500))));
        assert_eq!(remove(&mut bench, &mut due, 4), ["0/e", "15/f"]);
        assert!(due.is_none() && Due::find(&bench.keyspace, NOW).is_none());
        assert_eq!(bench.registries.stats.expired_keys, 6);
        assert_eq!(bench.keyspace.db(7).len(), 2, "at its deadline a key still lives");
    }

    #[test]
    fn a_flood_in_one_database_does_not_keep_the_others_waiting() {
        let mut bench = Bench::new(&[]);
        for n in 0..1_000 {
            set(&mut bench, 0, &format!("flood{n}"), 500);
        }
        for n in 0..10 {
            set(&mut bench, 1, &format!("k{n}"), 400 + n);
        }
        let mut due = Due::find(&bench.keyspace, NOW);
        let first = remove(&mut bench, &mut due, BATCH);
        assert_eq!(first.iter().filter(|name| name.starts_with("1/")).count(), 10);
        let mut batches = 1;
        while !due.is_none() {
            assert!(remove(&mut bench, &mut due, BATCH).len() <= BATCH);
            batches += 1;
        }
        assert_eq!(batches, 1_010_usize.div_ceil(BATCH));
    }

    #[test]
    fn the_stale_share_is_estimated_and_exact_where_there_is_none() {
        let mut bench = Bench::new(&[]);
        let mut random = SplitMix64::new(1);
        for n in 0..4_000 {
            let deadline = if n % 4 == 0 { 100 } else { NOW.0 + 1_000 };
            set(&mut bench, n % 2 * 3, &format!("k{n}"), deadline);
        }
        let mut due = Due::find(&bench.keyspace, NOW);
        let estimate = |due: &Due, bench: &Bench, random: &mut SplitMix64| {
            (0..200).map(|_| due.stale_percent(&bench.keyspace, random)).sum::<f64>() / 200.0
        };
        let percent = estimate(&due, &bench, &mut random);
        assert!((20.0..30.0).contains(&percent), "{percent}");
        while !due.is_none() {
            remove(&mut bench, &mut due, BATCH);
        }
        assert_eq!(due.stale_percent(&bench.keyspace, &mut random), 0.0);
        // A single one among many is not taken for none.
        set(&mut bench, 5, "one", 100);
        let due = Due::find(&bench.keyspace, NOW);
        assert!(due.stale_percent(&bench.keyspace, &mut random) > 0.0);
    }

    #[test]
    fn time_grows_with_effort_and_lag_and_stays_bounded() {
        let shares =
            |effort| [0, 500, 1_000, 99_999].map(|lag| Pace::new(effort).share_percent(lag));
        assert_eq!(shares(1), [25, 37, 50, 50]);
        assert_eq!(shares(10), [43, 64, 86, 86]);
        assert_eq!([1, 10].map(|effort| Pace::new(effort).slice_us()), [1_000, 3_250]);
        assert_eq!(Pace::new(1).pause_us(1_000, 0), 3_000);
        assert_eq!(Pace::new(1).pause_us(1_000, 5_000), 1_000);
        assert_eq!(Pace::new(10).pause_us(3_250, 5_000), SHORTEST_PAUSE_US);
    }

    #[test]
    fn the_next_look_is_when_a_key_is_due_within_bounds() {
        let mut bench = Bench::new(&[]);
        assert_eq!(interval_us(&bench.keyspace, NOW), IDLE_INTERVAL_US);
        for (deadline, us) in [
            (i64::MAX, INTERVAL_US),
            (NOW.0 + 30, 31_000),
            (NOW.0 + 2, SHORTEST_INTERVAL_US),
            (NOW.0 - 5, SHORTEST_INTERVAL_US),
        ] {
            set(&mut bench, 2, &format!("{deadline}"), deadline);
            assert_eq!(interval_us(&bench.keyspace, NOW), us);
        }
    }
}
