use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::data::{NewValue, ValueRef};
use crate::keyspace::testing::Rng;

impl Dict {
    /// Panics unless everything this module's head promises is so.
    pub(in crate::keyspace) fn check_invariants(&self) {
        let mut by_depth = [0; MAX_DEPTH as usize + 1];
        let mut covered = 0u128;
        let mut len = 0;
        for (index, segment) in self.segments.iter().enumerate() {
            by_depth[segment.depth as usize] += 1;
            covered += 1 << (64 - segment.depth);
            len += segment.len();
            assert!(segment.depth <= self.depth);
            assert_eq!(segment.prefix << segment.depth, 0, "bits behind the prefix");
            let first = self.directory_index(segment.prefix);
            let slots = 1 << (self.depth - segment.depth);
            assert!(self.directory[first..first + slots].iter().all(|&at| at as usize == index));
            segment.check_invariants(&self.hash_key);
        }
        assert_eq!(len, self.len);
        assert_eq!(by_depth, self.segments_by_depth);
        if self.segments.is_empty() {
            assert!(self.directory.is_empty());
        } else {
            assert_eq!(covered, 1 << 64, "segments overlap or leave a gap");
            assert_eq!(self.directory.len(), 1 << self.depth);
        }
    }
}

impl Segment {
    fn check_invariants(&self, hash_key: &HashKey) {
        assert_eq!(self.iter().count(), self.len());
        let check = |entry: &Entry| {
            let hash = hash_key.hash(entry.key());
            let distance = hash ^ self.prefix;
            assert!(distance.leading_zeros() >= self.depth, "entry in the wrong segment");
            hash
        };
        for (at, bucket) in self.buckets.iter().enumerate() {
            let mut free = bucket.meta.free();
            for (slot, entry) in bucket.slots.iter().enumerate() {
                let Some(entry) = entry else {
                    assert!(free.any(|free| free == slot));
                    assert!(!bucket.meta.is_displaced(slot));
                    continue;
                };
                let hash = check(entry);
                let displaced = bucket.meta.is_displaced(slot);
                let home = if displaced { before(at) } else { at };
                assert_eq!(self.home(hash), home);
                assert!(bucket.meta.with_tag(tag(hash)).any(|tagged| tagged == slot));
            }
            let stashed = self.stash.iter().any(|stashed| self.home(stashed.hash) == at);
            assert_eq!(bucket.meta.has_stashed(), stashed);
        }
        for stashed in &self.stash {
            assert_eq!(check(&stashed.entry), stashed.hash);
        }
    }
}

fn key(n: u64) -> Vec<u8> {
    format!("key:{n}").into_bytes()
}

fn insert(dict: &mut Dict, n: u64) {
    let key = key(n);
    dict.insert(dict.hash(&key), Entry::new(&key, NewValue::Int(n as i64), None));
}

fn remove(dict: &mut Dict, n: u64) -> bool {
    let key = key(n);
    dict.remove(dict.hash(&key), &key).is_some()
}

fn number(entry: &Entry) -> u64 {
    match entry.value() {
        ValueRef::Int(n) => n as u64,
        ValueRef::String(_) => panic!("{entry:?}"),
    }
}

/// Hashes of every kind: honest ones, ones with few distinct values (everything piles up in few
/// homes), ones whose first bits agree (segments cannot be told apart), ones that all agree.
fn hash_keys() -> [(&'static str, HashKey, u64); 5] {
    [
        ("honest", HashKey::from_seed(7), 40_000),
        ("few distinct", HashKey::masked(7, 0xff00_0000_0000_00ff), 4_000),
        ("same first half", HashKey::masked(7, 0xffff_ffff), 3_000),
        ("same but for the tag", HashKey::masked(7, 0xff), 3_000),
        ("all the same", HashKey::masked(7, 0), 1_000),
    ]
}

#[test]
fn holds_what_a_model_holds() {
    for (name, hash_key, most) in hash_keys() {
        println!("{name}");
        let mut rng = Rng::new(1);
        let mut dict = Dict::new(hash_key);
        let mut model = BTreeMap::new();
        // Grow, stay, shrink, grow again, vanish: insertions of ten steps.
        for (phase, insertions) in [9, 5, 2, 8, 0].into_iter().enumerate() {
            for step in 0..most {
                let n = rng.below(most);
                let key = key(n);
                let hash = dict.hash(&key);
                assert_eq!(dict.find(hash, &key).map(number), model.get(&n).copied());
                if rng.below(10) < insertions {
                    if model.insert(n, n).is_none() {
                        insert(&mut dict, n);
                    }
                } else {
                    assert_eq!(remove(&mut dict, n), model.remove(&n).is_some());
                }
                if step % (most / 4) == 0 {
                    dict.check_invariants();
                }
            }
            assert_eq!(dict.len(), model.len(), "phase {phase}");
            let found: BTreeSet<u64> = dict.iter().map(number).collect();
            assert!(found.iter().eq(model.keys()));
        }
        for &n in model.keys() {
            assert!(remove(&mut dict, n));
        }
        dict.check_invariants();
        assert!(dict.is_empty());
        assert_eq!(dict.segments.len(), 1, "what is empty is merged");
    }
}

/// A table under a scan, and what is in it.
struct Scanned {
    dict: Dict,
    present: BTreeSet<u64>,
    /// What was there all the time.
    stays: BTreeSet<u64>,
    ever: BTreeSet<u64>,
    visits: BTreeMap<u64, usize>,
}

impl Scanned {
    fn new(hash_key: HashKey, keys: impl Iterator<Item = u64>) -> Scanned {
        let mut dict = Dict::new(hash_key);
        let present: BTreeSet<u64> = keys.collect();
        present.iter().for_each(|&n| insert(&mut dict, n));
        let (stays, ever) = (present.clone(), present.clone());
        Scanned { dict, present, stays, ever, visits: BTreeMap::new() }
    }

    fn insert(&mut self, n: u64) {
        if self.present.insert(n) {
            insert(&mut self.dict, n);
            self.ever.insert(n);
        }
    }

    fn remove(&mut self, n: u64) {
        if self.present.remove(&n) {
            assert!(remove(&mut self.dict, n));
            self.stays.remove(&n);
        }
    }

    /// Scans on; returns the next cursor and what was visited.
    fn scan(&mut self, cursor: u64, count: usize) -> (u64, Vec<u64>) {
        let mut visited = Vec::new();
        let next = self.dict.scan(cursor, count, |entry| visited.push(number(entry)));
        assert!(next < 1 << 48, "fits the integers of every client");
        for &n in &visited {
            assert!(self.present.contains(&n), "what is visited is there");
            *self.visits.entry(n).or_default() += 1;
        }
        (next, visited)
    }

    fn check_at_end(&self) {
        self.dict.check_invariants();
        for n in &self.stays {
            assert_eq!(self.visits.get(n), Some(&1), "visits of key {n}");
        }
        assert!(self.visits.keys().all(|n| self.ever.contains(n)));
    }
}

#[test]
fn scan_visits_what_stays_exactly_once() {
    let (mut splits, mut merges) = (0, 0);
    for (name, hash_key, most) in hash_keys() {
        println!("{name}");
        for seed in 0..24 {
            let mut rng = Rng::new(seed);
            let most = 1 + rng.below(most);
            let mut scanned = Scanned::new(hash_key, (0..most).filter(|_| !rng.one_in(3)));
            scanned.dict.set_frugal(rng.one_in(4));
            if rng.one_in(3) {
                scanned.dict.expect(1 + rng.below(20 * most) as usize);
            }
            // Some runs grow, some shrink; now and then the table is emptied or filled at once, but
            // for keys that always stay, so that cursors meet splits and merges by the dozen.
            let insertions = rng.below(11);
            let mut changes = rng.below(2 * most);
            let mut upheavals = 6;
            let mut cursor = 0;
            loop {
                let count = [1, 3, 10, 100, 1_000][rng.below(5) as usize];
                (cursor, _) = scanned.scan(cursor, count);
                if cursor == 0 {
                    break;
                }
                let segments = scanned.dict.segments.len();
                if upheavals > 0 && rng.one_in(8) {
                    upheavals -= 1;
                    let fill = rng.one_in(2);
                    for n in (0..most).filter(|n| n % 16 != 0) {
                        if fill { scanned.insert(n) } else { scanned.remove(n) }
                    }
                }
                let batch = rng.below(1 + most / 8).min(changes);
                changes -= batch;
                if rng.one_in(16) {
                    scanned.dict.expect(0);
                    scanned.dict.tidy(rng.below(20) as usize);
                }
                for _ in 0..batch {
                    let n = rng.below(most);
                    if rng.below(10) < insertions { scanned.insert(n) } else { scanned.remove(n) }
                }
                splits += scanned.dict.segments.len().saturating_sub(segments);
                merges += segments.saturating_sub(scanned.dict.segments.len());
            }
            scanned.check_at_end();
        }
    }
    assert!(splits > 1_000 && merges > 1_000, "{splits} splits, {merges} merges");
}

#[test]
fn scan_goes_on_within_a_home_that_a_merge_has_widened() {
    let most = 20_000;
    let mut scanned = Scanned::new(HashKey::from_seed(3), 0..most);
    let depth = scanned.dict.depth;
    let homes_before = |cursor: u64| cursor >> (64 - depth - BUCKET_BITS - CURSOR_SHIFT);
    // To the end of a first half of what will be one home, which is not empty.
    let mut cursor = 0;
    let visited = loop {
        let visited;
        (cursor, visited) = scanned.scan(cursor, 1);
        if homes_before(cursor) % 2 == 1 && !visited.is_empty() {
            break visited;
        }
    };
    for n in (0..most).filter(|n| n % 100 != 0 && !visited.contains(n)) {
        scanned.remove(n);
    }
    assert!(scanned.dict.depth < depth);
    while cursor != 0 {
        (cursor, _) = scanned.scan(cursor, 1);
    }
    scanned.check_at_end();
}

#[test]
fn scan_is_safe_with_any_cursor_and_bounded() {
    let mut rng = Rng::new(5);
    for size in [0, 1, 500, 10_000] {
        let mut dict = Dict::new(HashKey::from_seed(5));
        (0..size).for_each(|n| insert(&mut dict, n));
        for count in [0, 1, 10, usize::MAX] {
            for _ in 0..200 {
                let cursor = rng.next() >> rng.below(64);
                let mut visited = 0;
                let next = dict.scan(cursor, count, |_| visited += 1);
                assert!(next == 0 || next > cursor & ((1 << 48) - 1), "scan goes forward");
                assert!(count > 10 || visited < 60, "{visited} visited for a count of {count}");
            }
            assert!(dict.scan(u64::MAX, count, |_| ()) == 0);
        }
    }
}

#[test]
fn scan_of_few_keys_in_an_emptied_table_is_short() {
    let mut dict = Dict::new(HashKey::from_seed(9));
    dict.set_frugal(true);
    (0..50_000).for_each(|n| insert(&mut dict, n));
    (1..50_000).for_each(|n| assert!(remove(&mut dict, n)));
    let segments = dict.segments.len();
    assert!(segments > 100, "while frugal, segments are not merged");
    dict.set_frugal(false);
    let mut rounds = 0;
    while !dict.tidy(16) {
        rounds += 1;
        assert!(rounds < 10 * segments);
    }
    dict.check_invariants();
    assert_eq!(dict.segments.len(), 1);
    assert!(dict.directory.len() <= MIN_SHRINK_RATIO);
    let mut cursor = 0;
    let mut found = 0;
    for _ in 0..8 {
        cursor = dict.scan(cursor, 10, |_| found += 1);
        if cursor == 0 {
            break;
        }
    }
    assert_eq!((cursor, found), (0, 1));
}

/// Splits many ways move fewer entries, and end in the table that splits in two would have made.
#[test]
fn a_table_that_was_told_its_size_grows_to_it_and_keeps_all() {
    for expected in [1, 40_000, 200_000, usize::MAX] {
        let mut dict = Dict::new(HashKey::from_seed(13));
        dict.expect(expected);
        for n in 0..40_000 {
            insert(&mut dict, n);
            if n % 4_001 == 0 {
                dict.check_invariants();
            }
        }
        dict.check_invariants();
        for n in 0..40_000 {
            let key = key(n);
            dict.prefetch(dict.hash(&key));
            dict.prefetch_entries(dict.hash(&key));
            assert!(dict.find(dict.hash(&key), &key).is_some());
        }
        let per_key = dict.table_bytes() / 40_000;
        assert!(per_key <= if expected <= 40_000 { 18 } else { 180 }, "{expected}: {per_key}");
    }
}

#[test]
fn too_much_expected_is_given_back_by_tidying() {
    let mut untold = Dict::new(HashKey::from_seed(17));
    let mut told = Dict::new(HashKey::from_seed(17));
    told.expect(1 << 40);
    for n in 0..30_000 {
        insert(&mut untold, n);
        insert(&mut told, n);
    }
    assert!(told.table_bytes() > 2 * untold.table_bytes(), "it has grown ahead");
    assert!((0..5_000).all(|n| remove(&mut told, n) && remove(&mut untold, n)));
    told.check_invariants();
    assert!(told.tidy(0) && told.table_bytes() > 2 * untold.table_bytes(), "no merges meanwhile");
    told.expect(0);
    let mut rounds = 0;
    while !told.tidy(16) {
        rounds += 1;
        assert!(rounds < 10_000);
    }
    told.check_invariants();
    assert_eq!(told.len(), 25_000);
    assert!(told.table_bytes() <= untold.table_bytes() * 5 / 4, "{}", told.table_bytes());
}

#[test]
fn forged_hashes_cannot_inflate_the_table() {
    let mut dict = Dict::new(HashKey::masked(7, 0xff));
    (0..5_000).for_each(|n| insert(&mut dict, n));
    assert!(dict.segments.len() <= 16, "{} segments", dict.segments.len());
    assert!(dict.directory.len() <= MAX_DIRECTORY_RATIO * 16);
    dict = Dict::new(HashKey::masked(7, 0xff));
    dict.expect(usize::MAX);
    (0..5_000).for_each(|n| insert(&mut dict, n));
    assert!(dict.segments.len() <= 64, "{} segments", dict.segments.len());
    assert!(dict.directory.len() <= MAX_DIRECTORY_RATIO * 64);
}

#[test]
fn honest_hashes_fill_segments_well() {
    let mut dict = Dict::new(HashKey::from_seed(11));
    let mut ratio = 0f64;
    let mut samples = 0f64;
    for n in 0..100_000u64 {
        insert(&mut dict, n);
        if n >= 20_000 && n % 1_000 == 0 {
            ratio += dict.table_bytes() as f64 / dict.len() as f64;
            samples += 1.0;
            assert!(dict.directory.len() <= 8 * dict.segments.len());
        }
    }
    let mean = ratio / samples;
    assert!(mean < 15.0, "{mean} bytes of table a key");
}

#[test]
fn random_reaches_every_key_about_equally() {
    let mut rng = Rng::new(13);
    let mut dict = Dict::new(HashKey::from_seed(13));
    let mut draw = || rng.next();
    assert!(dict.random(&mut draw).is_none());
    for size in [1, 2, 600] {
        (dict.len() as u64..size).for_each(|n| insert(&mut dict, n));
        let mut drawn = vec![0u64; size as usize];
        for _ in 0..size * 200 {
            drawn[number(dict.random(&mut draw).expect("a key")) as usize] += 1;
        }
        let (least, most) = (drawn.iter().min(), drawn.iter().max());
        assert!(least > Some(&100) && most < Some(&320), "{least:?} to {most:?} of 200");
    }
}

#[test]
fn an_empty_table_costs_nothing() {
    let dict = Dict::new(HashKey::from_seed(1));
    assert_eq!(dict.table_bytes(), 0);
    assert!(dict.find(dict.hash(b"k"), b"k").is_none());
    assert_eq!(dict.scan(0, 10, |_| unreachable!()), 0);
    assert_eq!(dict.iter().count(), 0);
}
