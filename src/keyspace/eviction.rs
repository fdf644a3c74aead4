//! Which key goes when memory runs short.
//!
//! Those used the longest ago, or the least, are looked for by chance: a few keys of each database
//! are looked at, and the best candidates ever seen are kept in a small pool, out of which the best
//! one goes. A candidate that was used since it came into the pool is none any more. The key that
//! expires first needs no chance: deadlines stand in order.

use super::Keyspace;
use crate::config::EvictionPolicy;

/// Candidates that are kept, as in Redis: more hardly make the choice better.
const POOL_SIZE: usize = 16;

/// A key that may go. Its database and hash name it; if another key has both, that may go as well.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// How well it may: seconds without use, or how much less than the most it was used.
    score: u32,
    db: usize,
    hash: u64,
}

/// The key that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its database.
    pub db: usize,
    /// Its hash.
    pub hash: u64,
    /// Whether only a key with a deadline is meant.
    pub volatile: bool,
}

/// Chooses keys, and remembers candidates from one choice to the next.
#[derive(Debug, Default)]
pub struct Evictor {
    /// Invariant: at most [`POOL_SIZE`], their scores rise, no key twice.
    pool: Vec<Candidate>,
    /// What the scores in the pool mean.
    policy: Option<EvictionPolicy>,
    /// The database that a choice by mere chance looks at first.
    next_db: usize,
}

impl Evictor {
    /// Chooses a key under `policy`, looking at `samples` keys of each database where chance helps;
    /// `draw` gives random numbers. `None` if there is no key that may go. The keyspace must have
    /// been told the time. O(databases + samples), see [`super::Database::sample`].
    pub fn choose(
        &mut self,
        keyspace: &Keyspace,
        policy: EvictionPolicy,
        samples: usize,
        draw: &mut impl FnMut() -> u64,
    ) -> Option<Chosen> {
        let volatile = policy.is_volatile();
        match policy {
            EvictionPolicy::NoEviction => None,
            EvictionPolicy::VolatileTtl => first_to_expire(keyspace),
            EvictionPolicy::VolatileRandom | EvictionPolicy::AllKeysRandom => {
                self.any(keyspace, volatile, draw)
            }
            EvictionPolicy::VolatileLru
            | EvictionPolicy::VolatileLfu
            | EvictionPolicy::AllKeysLru
            | EvictionPolicy::AllKeysLfu => {
                if self.policy != Some(policy) {
                    self.pool.clear();
                    self.policy = Some(policy);
                }
                self.best(keyspace, volatile, samples, draw)
            }
        }
    }

    fn best(
        &mut self,
        keyspace: &Keyspace,
        volatile: bool,
        samples: usize,
        draw: &mut impl FnMut() -> u64,
    ) -> Option<Chosen> {
        loop {
            let mut seen_any = false;
            for (index, db) in keyspace.iter().enumerate().filter(|(_, db)| !db.is_empty()) {
                db.sample(samples, volatile, draw, |entry| {
                    seen_any = true;
                    let score = keyspace.recency.disuse(entry.stamp());
                    self.admit(score, index, || db.hash(entry.key()));
                });
            }
            // What was looked at just now has the score that it has in the pool. So this ends: in
            // the second round at the latest, when no old candidates are left.
            while let Some(Candidate { score, db, hash }) = self.pool.pop() {
                let entry = keyspace.db(db).find_by_hash(hash);
                let is_valid = entry.is_some_and(|entry| {
                    keyspace.recency.disuse(entry.stamp()) >= score
                        && (!volatile || entry.deadline().is_some())
                });
                if is_valid {
                    return Some(Chosen { db, hash, volatile });
                }
            }
            if !seen_any {
                return None;
            }
        }
    }

    /// Takes a key into the pool, in the place of the worst one if there is no room, unless it is
    /// the worst itself.
    fn admit(&mut self, score: u32, db: usize, hash: impl FnOnce() -> u64) {
        let is_full = self.pool.len() >= POOL_SIZE;
        if is_full && self.pool.first().is_some_and(|worst| score <= worst.score) {
            return;
        }
        let hash = hash();
        let same = |candidate: &Candidate| candidate.db == db && candidate.hash == hash;
        if let Some(index) = self.pool.iter().position(same) {
            self.pool.remove(index);
        } else if is_full {
            self.pool.remove(0);
        }
        let at = self.pool.partition_point(|candidate| candidate.score < score);
        self.pool.insert(at, Candidate { score, db, hash });
    }

    /// Any key; a choice after the other looks at one database after the other.
    fn any(
        &mut self,
        keyspace: &Keyspace,
        volatile: bool,
        draw: &mut impl FnMut() -> u64,
    ) -> Option<Chosen> {
        let databases = keyspace.databases();
        for _ in 0..databases {
            let index = self.next_db % databases;
            self.next_db = index + 1;
            let db = keyspace.db(index);
            let mut chosen = None;
            db.sample(1, volatile, draw, |entry| {
                chosen = Some(Chosen { db: index, hash: db.hash(entry.key()), volatile });
            });
            if chosen.is_some() {
                return chosen;
            }
        }
        None
    }
}

fn first_to_expire(keyspace: &Keyspace) -> Option<Chosen> {
    let firsts = keyspace.iter().enumerate().filter_map(|(index, db)| {
        let (deadline, hash) = db.first_to_expire()?;
        Some((deadline, index, hash))
    });
    firsts.min().map(|(_, db, hash)| Chosen { db, hash, volatile: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::NewValue;
    use crate::keyspace::recency::{Frequency, Tracking};
    use crate::keyspace::testing::Rng;
    use crate::keyspace::{Deadline, HashKey};
    use crate::sys::clock::UnixMs;
    use std::collections::{BTreeMap, BTreeSet};

    const START: i64 = 2_000_000_000_000;

    /// A keyspace with a clock and a policy.
    struct Stage {
        keyspace: Keyspace,
        evictor: Evictor,
        policy: EvictionPolicy,
        rng: Rng,
        now: UnixMs,
    }

    impl Stage {
        fn new(policy: EvictionPolicy, seed: u64) -> Stage {
            let keyspace = Keyspace::new(16, HashKey::from_seed(seed));
            let evictor = Evictor::default();
            let mut stage =
                Stage { keyspace, evictor, policy, rng: Rng::new(seed), now: UnixMs(START) };
            stage.advance_ms(0);
            stage
        }

        fn advance_ms(&mut self, ms: i64) {
            self.now.0 += ms;
            let frequency = Frequency { log_factor: 10, decay_minutes: 1 };
            let tracking = match self.policy.counts_uses() {
                true => Tracking::Uses(frequency),
                false => Tracking::LastUse,
            };
            self.keyspace.recency.set(self.now, tracking);
        }

        fn set(&mut self, db: usize, key: u64, deadline: Option<i64>) {
            let deadline = deadline.map_or(Deadline::Clear, |at| Deadline::At(UnixMs(at)));
            let key = key.to_string().into_bytes();
            self.keyspace.db_mut(db).set(&key, NewValue::Int(1), deadline);
        }

        fn get(&mut self, db: usize, key: u64) -> bool {
            self.keyspace.touch_and_get(db, key.to_string().as_bytes()).is_some()
        }

        /// Evicts a key; its database and name.
        fn evict(&mut self) -> Option<(usize, u64)> {
            self.evict_looking_at(5)
        }

        fn evict_looking_at(&mut self, samples: usize) -> Option<(usize, u64)> {
            let rng = &mut self.rng;
            let mut draw = || rng.next();
            let chosen = self.evictor.choose(&self.keyspace, self.policy, samples, &mut draw)?;
            let db = self.keyspace.db_mut(chosen.db);
            let entry = db.take_by_hash(chosen.hash, chosen.volatile).expect("the key chosen");
            let key = std::str::from_utf8(entry.key()).expect("a number").parse();
            Some((chosen.db, key.expect("a number")))
        }
    }

    #[test]
    fn every_policy_evicts_all_that_may_go_and_nothing_else() {
        for policy in EvictionPolicy::ALL.into_iter().filter(|p| *p != EvictionPolicy::NoEviction) {
            for (keys, volatile_every) in [(50, 2), (3_000, 3), (3_000, 500), (3_000, 1)] {
                let mut stage = Stage::new(policy, 7);
                let mut may_go = BTreeSet::new();
                for n in 0..keys {
                    let is_volatile = n % volatile_every == 0;
                    let (db, deadline) = ((n % 3) as usize * 7, START + stage.rng.below(50) as i64);
                    stage.set(db, n, is_volatile.then_some(deadline));
                    if is_volatile || !policy.is_volatile() {
                        may_go.insert((db, n));
                    }
                }
                while let Some(gone) = stage.evict() {
                    assert!(may_go.remove(&gone), "{policy:?}: {gone:?} may not go");
                }
                assert!(may_go.is_empty(), "{policy:?}: {} are left", may_go.len());
            }
        }
        let mut stage = Stage::new(EvictionPolicy::NoEviction, 7);
        stage.set(0, 1, Some(START));
        assert_eq!(stage.evict(), None);
    }

    /// The share of those evicted that are among the `best` candidates, percent, when so many go.
    fn hits(stage: &mut Stage, count: usize, is_best: impl Fn((usize, u64)) -> bool) -> usize {
        let good = (0..count).filter(|_| stage.evict().is_some_and(&is_best)).count();
        good * 100 / count
    }

    #[test]
    fn lru_policies_evict_what_was_used_the_longest_ago() {
        for (policy, volatile) in
            [(EvictionPolicy::AllKeysLru, false), (EvictionPolicy::VolatileLru, true)]
        {
            let mut stage = Stage::new(policy, 11);
            for n in 0..2_000 {
                stage.advance_ms(1_000);
                // What has no deadline is the oldest of all, and stays.
                stage.set(0, 10_000 + n, if volatile { None } else { Some(START * 2) });
                stage.set(1, n, volatile.then_some(START * 2));
            }
            for n in 0..1_000 {
                stage.advance_ms(1_000);
                assert!(stage.get(1, n * 2));
                if !volatile {
                    assert!(stage.get(0, 10_000 + n * 2));
                }
            }
            let percent = hits(&mut stage, 600, |(_, key)| key % 2 == 1);
            assert!(percent >= 97, "{policy:?}: only {percent} % are of those unused");
        }
    }

    #[test]
    fn lfu_policies_evict_what_was_used_the_least() {
        for (policy, volatile) in
            [(EvictionPolicy::AllKeysLfu, false), (EvictionPolicy::VolatileLfu, true)]
        {
            let mut stage = Stage::new(policy, 12);
            for n in 0..2_000 {
                stage.set(0, n, volatile.then_some(START * 2));
            }
            for n in (0..2_000).step_by(2) {
                (0..50).for_each(|_| assert!(stage.get(0, n)));
            }
            // Used last, but not often.
            stage.advance_ms(1_000);
            for n in (1..2_000).step_by(2) {
                assert!(stage.get(0, n));
            }
            let percent = hits(&mut stage, 600, |(_, key)| key % 2 == 1);
            assert!(percent >= 97, "{policy:?}: only {percent} % are of those seldom used");
        }
    }

    #[test]
    fn the_ttl_policy_evicts_in_the_order_of_deadlines_over_all_databases() {
        let mut stage = Stage::new(EvictionPolicy::VolatileTtl, 13);
        for n in 0..500 {
            let deadline = START + (n * 7_919 % 500) as i64;
            stage.set((n % 16) as usize, n, Some(deadline));
            stage.set((n % 16) as usize, 1_000 + n, None);
        }
        for at in 0..500 {
            let (_, key) = stage.evict().expect("a key");
            assert_eq!(key * 7_919 % 500, at);
        }
        assert_eq!(stage.evict(), None);
    }

    #[test]
    fn random_policies_take_the_databases_in_turn() {
        for policy in [EvictionPolicy::AllKeysRandom, EvictionPolicy::VolatileRandom] {
            let mut stage = Stage::new(policy, 14);
            for n in 0..900 {
                // One database has a hundred times the keys of another.
                let db = match n {
                    0..800 => 2,
                    800..892 => 5,
                    _ => 9,
                };
                stage.set(db, n, Some(START * 2));
            }
            let databases: Vec<_> = (0..9).map(|_| stage.evict().expect("a key").0).collect();
            assert_eq!(databases, [2, 5, 9, 2, 5, 9, 2, 5, 9]);
        }
    }

    #[test]
    fn a_candidate_that_was_used_meanwhile_stays() {
        let mut stage = Stage::new(EvictionPolicy::AllKeysLru, 15);
        for n in 0..100 {
            stage.set(0, n, None);
        }
        stage.advance_ms(100_000);
        for n in 100..1_000 {
            stage.set(0, n, None);
        }
        // Fills the pool with old keys.
        for _ in 0..20 {
            assert!(stage.evict_looking_at(200).expect("a key").1 < 100);
        }
        stage.advance_ms(50_000);
        let left: Vec<u64> = (0..100).filter(|n| stage.get(0, *n)).collect();
        assert_eq!(left.len(), 80);
        stage.advance_ms(10_000);
        for _ in 0..500 {
            let (_, gone) = stage.evict_looking_at(200).expect("a key");
            assert!(gone >= 100, "{gone} was used last");
        }
    }

    #[test]
    fn sampling_is_fair() {
        // Of all keys, of the many with a deadline, of the few.
        for (volatile_every, policy) in [
            (1, EvictionPolicy::AllKeysRandom),
            (2, EvictionPolicy::VolatileRandom),
            (400, EvictionPolicy::VolatileRandom),
        ] {
            let mut stage = Stage::new(policy, 16);
            let keys = 20_000;
            for n in 0..keys {
                let deadline = START + stage.rng.below(1_000_000) as i64;
                stage.set(0, n, (n % volatile_every == 0).then_some(deadline));
            }
            let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
            let expected = 40;
            let rounds = keys / volatile_every * expected / 5;
            let rng = &mut stage.rng;
            for _ in 0..rounds {
                let volatile = policy.is_volatile();
                stage.keyspace.db(0).sample(5, volatile, &mut || rng.next(), |entry| {
                    *seen.entry(entry.key().to_vec()).or_default() += 1;
                });
            }
            let may_be_seen = keys / volatile_every;
            assert!(seen.len() as u64 * 1_000 >= may_be_seen * 999, "{} were seen", seen.len());
            let most = seen.values().max().copied().unwrap_or(0);
            assert!(most < 4 * expected as u32, "one key in {volatile_every}: one {most} times");
            let total: u32 = seen.values().sum();
            let mean = f64::from(total) / may_be_seen as f64;
            assert!((0.7..1.3).contains(&(mean / expected as f64)), "{mean} times each");
        }
    }

    #[test]
    fn a_table_that_was_emptied_is_sampled_without_long_searches() {
        let mut stage = Stage::new(EvictionPolicy::AllKeysLru, 17);
        (0..100_000).for_each(|n| stage.set(0, n, None));
        // As while a child lives: the table keeps its size.
        stage.keyspace.set_frugal(true);
        let mut draws: u64 = 0;
        for left in (0..100_000).rev() {
            let rng = &mut stage.rng;
            let mut draw = || {
                draws += 1;
                rng.next()
            };
            let policy = stage.policy;
            let chosen = stage.evictor.choose(&stage.keyspace, policy, 5, &mut draw);
            let chosen = chosen.expect("a key is left");
            assert!(stage.keyspace.db_mut(0).take_by_hash(chosen.hash, false).is_some());
            assert_eq!(stage.keyspace.db(0).len(), left);
        }
        assert!(draws < 100_000 * 70, "{draws} draws");
        assert_eq!(stage.evict(), None);
    }
}
