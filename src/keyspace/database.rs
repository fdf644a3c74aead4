//! One database: its keys, and which of them expire when.

use std::collections::BTreeSet;

use super::dict::{Dict, Layout};
use super::entry::Entry;
use super::hash::HashKey;
use super::recency::NewbornMark;
use crate::data::{NewValue, Value, ValueRef};
use crate::sys::clock::UnixMs;

/// When keys with a deadline are looked for among all, so many times as many are looked at as should
/// be enough.
const SAMPLE_PATIENCE: usize = 4;

/// What a write does about the key's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// A key that has one keeps it; a new key gets none.
    Keep,
    /// The key will not expire.
    Clear,
    /// The key expires after this moment.
    At(UnixMs),
}

/// A key that will not expire, with its value, made ahead of being set: all of it that needs no
/// database, so that another thread can do it.
#[derive(Debug)]
pub struct Prepared {
    hash: u64,
    entry: Entry,
}

impl Prepared {
    /// Makes what [`Database::set_prepared`] takes, for databases that hash by `hash_key`. Costs a
    /// hash and [`Entry::new`].
    #[must_use]
    pub fn new(hash_key: &HashKey, key: &[u8], value: NewValue<'_>) -> Prepared {
        Prepared { hash: hash_key.hash(key), entry: Entry::new(key, value, None) }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.entry.key()
    }

    /// What will stand in the key table.
    #[cfg(test)]
    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The hash of the key. For [`Database::prefetch`] and [`Database::prefetch_entry`].
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// A set of keys with values and deadlines.
///
/// It knows no clock: a key past its deadline stays until someone takes it out, so that whoever
/// does can log it.
pub struct Database {
    dict: Dict,
    /// Deadline and hash of every key with a deadline; two keys that agree in both share one.
    volatile: BTreeSet<(UnixMs, u64)>,
    volatile_len: usize,
    /// The sum of all deadlines, from which INFO's average follows.
    deadline_sum: i128,
    /// How keys are stamped that are set.
    newborn: NewbornMark,
}

impl Database {
    /// An empty database. Allocates nothing.
    #[must_use]
    pub fn new(hash_key: HashKey) -> Database {
        let dict = Dict::new(hash_key);
        Database {
            dict,
            volatile: BTreeSet::new(),
            volatile_len: 0,
            deadline_sum: 0,
            newborn: NewbornMark::default(),
        }
    }

    /// How keys are stamped from here on that are set.
    #[inline]
    pub fn set_newborn(&mut self, newborn: NewbornMark) {
        self.newborn = newborn;
    }

    /// How many keys there are, those past their deadline included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dict.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dict.is_empty()
    }

    /// How many keys have a deadline.
    #[must_use]
    pub fn volatile_len(&self) -> usize {
        self.volatile_len
    }

    /// The key with its value and deadline, even if it is past that. O(1).
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.get_hashed(self.dict.hash(key), key)
    }

    /// As [`Database::get`], where the key's hash is known.
    #[inline]
    #[must_use]
    pub fn get_hashed(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        debug_assert_eq!(hash, self.dict.hash(key));
        self.dict.find(hash, key)
    }

    /// Whether the key is there, even if past its deadline. O(1).
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// Sets the key to a value; returns whether it was there before. O(1), in place where the new
    /// value is about as long as the old one; O(log volatile keys) with deadlines.
    pub fn set(&mut self, key: &[u8], value: NewValue<'_>, deadline: Deadline) -> bool {
        self.set_hashed(self.dict.hash(key), key, value, deadline)
    }

    /// As [`Database::set`], where the key's hash is known.
    pub fn set_hashed(
        &mut self,
        hash: u64,
        key: &[u8],
        value: NewValue<'_>,
        deadline: Deadline,
    ) -> bool {
        debug_assert_eq!(hash, self.dict.hash(key));
        if let Some(entry) = self.dict.find_mut(hash, key) {
            let old = entry.deadline();
            let new = deadline.after(old);
            entry.assign(value, new);
            self.newborn.mark_set_anew(entry);
            self.reindex(hash, old, new);
            return true;
        }
        self.add(hash, key, value, deadline.after(None));
        false
    }

    /// Gives a key the integer that `change` makes of its value, or of none, and leaves its deadline
    /// as it is. `touch` is shown the entry first, if there is one. The hash is the key's. O(1): one
    /// lookup.
    ///
    /// # Errors
    /// That of `change`; the value is then what it was.
    pub fn update_integer<E>(
        &mut self,
        hash: u64,
        key: &[u8],
        touch: impl FnOnce(&Entry),
        change: impl FnOnce(Option<ValueRef<'_>>) -> Result<i64, E>,
    ) -> Result<i64, E> {
        debug_assert_eq!(hash, self.dict.hash(key));
        let Some(entry) = self.dict.find_mut(hash, key) else {
            let value = change(None)?;
            self.add(hash, key, NewValue::Int(value), None);
            return Ok(value);
        };
        touch(entry);
        let value = change(Some(entry.value()))?;
        entry.assign_integer(value);
        self.newborn.mark_set_anew(entry);
        Ok(value)
    }

    /// Adds a key that is not there.
    fn add(&mut self, hash: u64, key: &[u8], value: NewValue<'_>, deadline: Option<UnixMs>) {
        let mut entry = Entry::new(key, value, deadline);
        entry.set_stamp(self.newborn.stamp);
        if self.newborn.owns_integers {
            entry.unshare();
        }
        self.insert(hash, entry);
    }

    /// Sets a key to its value, without a deadline, as [`Database::set`] does. O(1), with a deadline
    /// that is lost O(log volatile keys); what the key held before is freed here.
    pub fn set_prepared(&mut self, prepared: Prepared) {
        let Prepared { hash, mut entry } = prepared;
        debug_assert_eq!(hash, self.dict.hash(entry.key()), "hashed for another database");
        entry.set_stamp(self.newborn.stamp);
        if self.newborn.owns_integers {
            entry.unshare();
        }
        if let Some(old) = self.dict.put(hash, entry) {
            if !self.newborn.marks_set_anew
                && let Some(entry) = self.dict.find(hash, old.key())
            {
                entry.set_stamp(old.stamp());
            }
            self.reindex(hash, old.deadline(), None);
        }
    }

    /// Takes the key out and returns it with all it holds. O(1), O(log volatile keys) with
    /// a deadline; dropping a large value takes its time, wherever that is done.
    pub fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let hash = self.dict.hash(key);
        let entry = self.dict.remove(hash, key)?;
        self.reindex(hash, entry.deadline(), None);
        Some(entry)
    }

    /// Removes the key; returns whether it was there. Costs as [`Database::take`].
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.take(key).is_some()
    }

    /// Moves the value and deadline of `from` to `to`, replacing what was there; false, and nothing
    /// changed, if `from` does not exist.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        let Some(entry) = self.take(from) else { return false };
        self.put(entry.renamed(to));
        true
    }

    /// Adds an entry taken from this or another database, in the place of one of the same key.
    pub fn put(&mut self, entry: Entry) {
        self.remove(entry.key());
        self.insert(self.dict.hash(entry.key()), entry);
    }

    /// Takes the value of a key that is about to be set anew out, if it is a string of `min_bytes`
    /// or more, and leaves an empty one.
    pub fn take_large(&mut self, key: &[u8], min_bytes: usize) -> Option<Value> {
        self.dict.find_mut(self.dict.hash(key), key)?.take_large(min_bytes)
    }

    /// Sets or clears the key's deadline; false if there is no such key. O(log volatile keys).
    pub fn set_deadline(&mut self, key: &[u8], deadline: Option<UnixMs>) -> bool {
        let hash = self.dict.hash(key);
        let Some(entry) = self.dict.find_mut(hash, key) else { return false };
        let old = entry.deadline();
        entry.set_deadline(deadline);
        self.reindex(hash, old, deadline);
        true
    }

    /// Appends to the key's string and returns its new length; `None`, and nothing changed, if
    /// there is no such key. Amortised O(bytes added).
    pub fn append(&mut self, key: &[u8], more: &[u8]) -> Option<usize> {
        Some(self.dict.find_mut(self.dict.hash(key), key)?.append(more))
    }

    /// Lengthens the key's string with zeros to `min_bytes`, where it is shorter, and lets `change`
    /// write to it; returns its length. A key that does not exist becomes an empty string first.
    /// O(1) and the bytes written, amortised.
    pub fn modify(
        &mut self,
        key: &[u8],
        min_bytes: usize,
        change: impl FnOnce(&mut [u8]),
    ) -> usize {
        let hash = self.dict.hash(key);
        if let Some(entry) = self.dict.find_mut(hash, key) {
            return entry.modify(min_bytes, change);
        }
        let mut entry = Entry::new(key, NewValue::Bytes(b""), None);
        entry.set_stamp(self.newborn.stamp);
        let len = entry.modify(min_bytes, change);
        self.insert(hash, entry);
        len
    }

    /// The earliest deadline of all keys. O(log volatile keys).
    #[must_use]
    pub fn next_deadline(&self) -> Option<UnixMs> {
        self.volatile.first().map(|&(deadline, _)| deadline)
    }

    /// Takes out the key that has been past its deadline the longest; `None` if no key is past its
    /// deadline at `now`. O(log volatile keys).
    pub fn take_expired(&mut self, now: UnixMs) -> Option<Entry> {
        while let Some(&(deadline, hash)) = self.volatile.first() {
            if deadline >= now {
                return None;
            }
            let due = self.dict.remove_by_hash(hash, |entry| entry.deadline() == Some(deadline));
            if let Some(entry) = due {
                self.reindex(hash, Some(deadline), None);
                return Some(entry);
            }
            debug_assert!(false, "a deadline is indexed that no key has");
            self.volatile.pop_first();
        }
        None
    }

    /// How long the keys with a deadline have to live on average, in milliseconds; 0 if there are
    /// none. O(1).
    #[must_use]
    pub fn average_ttl_ms(&self, now: UnixMs) -> u64 {
        let Ok(len) = i128::try_from(self.volatile_len) else { return 0 };
        let Some(average) = self.deadline_sum.checked_div(len) else { return 0 };
        u64::try_from(average - i128::from(now.0)).unwrap_or(0)
    }

    /// Visits about `count` keys from `cursor` on, and returns the cursor to go on from; 0 at the
    /// end. Start with 0. Any cursor is safe. Bounded by ten times `count` steps. A key that stays
    /// in the database from the first call to the last is visited exactly once.
    pub fn scan(&self, cursor: u64, count: usize, visit: impl FnMut(&Entry)) -> u64 {
        self.dict.scan(cursor, count, visit)
    }

    /// A key chosen by chance, even if past its deadline; `draw` gives random numbers. O(1).
    #[must_use]
    pub fn random(&self, draw: &mut impl FnMut() -> u64) -> Option<&Entry> {
        self.dict.random(draw)
    }

    /// Visits up to `count` keys chosen by chance, about each with the same chance, past their
    /// deadline or not; of those with a deadline alone if `volatile` says so. May visit a key twice
    /// if there are few. Visits one at least if there is one. O(count) of all keys or where most have
    /// a deadline; where few have one, about as many steps as the square root of the number of keys.
    pub fn sample(
        &self,
        count: usize,
        volatile: bool,
        draw: &mut impl FnMut() -> u64,
        mut visit: impl FnMut(&Entry),
    ) {
        // `maxmemory-samples` may be far more than there are.
        let count = count.min(if volatile { self.volatile_len } else { self.len() });
        if count == 0 {
            return;
        }
        if !volatile {
            return self.dict.sample(count, count, draw, |_| true, visit);
        }
        // Looked for among all keys, or counted off in the index of deadlines: what takes less.
        let looked_at = self.len() / self.volatile_len * count;
        let mut visited = 0;
        if looked_at <= self.volatile.len() {
            let budget = looked_at.saturating_mul(SAMPLE_PATIENCE).max(count);
            let has_deadline = |entry: &Entry| entry.deadline().is_some();
            self.dict.sample(count, budget, draw, has_deadline, |entry| {
                visited += 1;
                visit(entry);
            });
        }
        if visited > 0 {
            return;
        }
        let stride = self.volatile.len().div_ceil(count);
        let first = (draw() % stride as u64) as usize;
        for (deadline, hash) in self.volatile.iter().skip(first).step_by(stride) {
            let found = self.dict.find_by_hash(*hash, |entry| entry.deadline() == Some(*deadline));
            found.into_iter().for_each(&mut visit);
        }
    }

    /// An entry whose key has this hash.
    #[must_use]
    pub fn find_by_hash(&self, hash: u64) -> Option<&Entry> {
        self.dict.find_by_hash(hash, |_| true)
    }

    /// Takes out an entry whose key has this hash; one with a deadline, if `volatile` says so. Costs
    /// as [`Database::take`].
    pub fn take_by_hash(&mut self, hash: u64, volatile: bool) -> Option<Entry> {
        let wanted = |entry: &Entry| !volatile || entry.deadline().is_some();
        let entry = self.dict.remove_by_hash(hash, wanted)?;
        self.reindex(hash, entry.deadline(), None);
        Some(entry)
    }

    /// Deadline and hash of the key that expires first.
    #[must_use]
    pub fn first_to_expire(&self) -> Option<(UnixMs, u64)> {
        self.volatile.first().copied()
    }

    /// All keys, in no order. Allocates nothing, so that a forked child may use it.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.dict.iter()
    }

    /// Empties the database at once and returns what was in it, to be dropped where that does not
    /// matter: freeing is O(keys).
    #[must_use]
    pub fn take_all(&mut self) -> Database {
        let mut empty = Database::new(self.dict.hash_key());
        empty.set_frugal(self.dict.is_frugal());
        std::mem::replace(self, empty)
    }

    /// While frugal, a database keeps pages shared with a forked child where it can. Call
    /// [`Database::tidy`] afterwards.
    pub fn set_frugal(&mut self, frugal: bool) {
        self.dict.set_frugal(frugal);
    }

    /// Makes good what was put off while frugal: about `steps` small steps of it; true once all is
    /// done.
    pub fn tidy(&mut self, steps: usize) -> bool {
        self.dict.tidy(steps)
    }

    /// The hash of a key, the same in all databases of a keyspace. For the prefetches below.
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.dict.hash(key)
    }

    /// Asks the processor for the table's part in a coming access to the key with this hash,
    /// without waiting. Pays where several keys are known ahead.
    pub fn prefetch(&self, hash: u64) {
        self.dict.prefetch(hash);
    }

    /// Asks the processor for the entry of the key with this hash. To be called some time after
    /// [`Database::prefetch`], on whose result it depends.
    pub fn prefetch_entry(&self, hash: u64) {
        self.dict.prefetch_entries(hash);
    }

    /// Says how many keys the database is about to hold, so that it grows in few large steps, or
    /// that it has them, with 0. Call [`Database::tidy`] afterwards, which gives back what too high
    /// a number has cost.
    pub fn expect(&mut self, keys: usize) {
        self.dict.expect(keys);
    }

    /// Bytes of memory that the tables take, without keys and values. O(keys / 300).
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.dict.table_bytes()
    }

    /// How the keys lie in their table. O(keys).
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.dict.layout()
    }

    /// Bytes of memory that the index of deadlines takes, estimated: a tree of nodes that are three
    /// quarters full.
    #[must_use]
    pub fn volatile_bytes(&self) -> usize {
        self.volatile.len() * size_of::<(UnixMs, u64)>() * 4 / 3
    }

    fn insert(&mut self, hash: u64, entry: Entry) {
        let deadline = entry.deadline();
        self.dict.insert(hash, entry);
        self.reindex(hash, None, deadline);
    }

    /// Follows a change of the deadline of a key with this hash. The key table must show it
    /// already.
    fn reindex(&mut self, hash: u64, old: Option<UnixMs>, new: Option<UnixMs>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.volatile_len -= 1;
            self.deadline_sum -= i128::from(old.0);
            let shared = self.dict.find_by_hash(hash, |entry| entry.deadline() == Some(old));
            if shared.is_none() {
                self.volatile.remove(&(old, hash));
            }
        }
        if let Some(new) = new {
            self.volatile_len += 1;
            self.deadline_sum += i128::from(new.0);
            self.volatile.insert((new, hash));
        }
    }
}

impl Deadline {
    fn after(self, old: Option<UnixMs>) -> Option<UnixMs> {
        match self {
            Deadline::Keep => old,
            Deadline::Clear => None,
            Deadline::At(deadline) => Some(deadline),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::data::{Encoding, Value, ValueRef};
    use crate::keyspace::testing::Rng;

    impl Database {
        /// Panics unless the index of deadlines is what the keys say.
        fn check_invariants(&self) {
            let deadlines = || self.iter().filter_map(|e| Some((e.deadline()?, e)));
            assert_eq!(deadlines().count(), self.volatile_len);
            assert_eq!(
                deadlines().map(|(deadline, _)| i128::from(deadline.0)).sum::<i128>(),
                self.deadline_sum
            );
            let index: BTreeSet<_> =
                deadlines().map(|(deadline, e)| (deadline, self.dict.hash(e.key()))).collect();
            assert_eq!(index, self.volatile);
        }
    }

    type Model = BTreeMap<Vec<u8>, (Value, Option<UnixMs>)>;

    fn check(db: &Database, model: &Model) {
        db.check_invariants();
        db.dict.check_invariants();
        assert_eq!((db.len(), db.is_empty()), (model.len(), model.is_empty()));
        assert_eq!(db.next_deadline(), model.values().filter_map(|(_, deadline)| *deadline).min());
        let content: Model =
            db.iter().map(|e| (e.key().to_vec(), (e.value().to_value(), e.deadline()))).collect();
        assert_eq!(&content, model);
    }

    fn text(value: &Value) -> Vec<u8> {
        value.view().bytes(&mut itoa::Buffer::new()).to_vec()
    }

    /// One operation on both. Deadlines and keys are few, so that they meet.
    fn step(db: &mut Database, model: &mut Model, rng: &mut Rng) {
        let mut key = rng.below(60).to_string().into_bytes();
        if rng.one_in(20) {
            key.resize(rng.below(400) as usize, b'.');
        }
        let deadline = UnixMs(rng.below(6) as i64 - 2);
        let old = model.get(&key).cloned();
        let bytes = rng.below(300) as usize;
        let value = match rng.below(3) {
            0 => Value::Int(rng.next() as i64),
            _ => Value::String(rng.bytes(bytes)),
        };
        match rng.below(14) {
            12 => {
                let prepared = Prepared::new(&db.dict.hash_key(), &key, value.clone().into());
                db.set_prepared(prepared);
                model.insert(key, (value, None));
            }
            13 => {
                let new = rng.next() as i64;
                let mut touched = false;
                let change = |old: Option<ValueRef<'_>>| match old {
                    Some(ValueRef::String(_)) => Err(()),
                    Some(ValueRef::Int(old)) => Ok(old.wrapping_add(new)),
                    None => Ok(new),
                };
                let expected = change(old.as_ref().map(|(value, _)| value.view()));
                let hash = db.dict.hash(&key);
                let updated = db.update_integer(hash, &key, |_| touched = true, change);
                assert_eq!((updated, touched), (expected, old.is_some()));
                if let Ok(sum) = expected {
                    model.insert(key, (Value::Int(sum), old.and_then(|(_, deadline)| deadline)));
                }
            }
            0..=4 => {
                let (how, new) = match rng.below(3) {
                    0 => (Deadline::Keep, old.as_ref().and_then(|(_, deadline)| *deadline)),
                    1 => (Deadline::Clear, None),
                    _ => (Deadline::At(deadline), Some(deadline)),
                };
                assert_eq!(db.set(&key, value.clone().into(), how), old.is_some());
                model.insert(key, (value, new));
            }
            5 => {
                let taken = db.take(&key).map(|e| (e.deadline(), e.into_value()));
                assert_eq!(taken, model.remove(&key).map(|(value, deadline)| (deadline, value)));
            }
            6 => assert_eq!(db.remove(&key), model.remove(&key).is_some()),
            7 => {
                let deadline = (!rng.one_in(3)).then_some(deadline);
                assert_eq!(db.set_deadline(&key, deadline), old.is_some());
                model.entry(key).and_modify(|(_, old)| *old = deadline);
            }
            8 => {
                let len = db.append(&key, b"more");
                assert_eq!(len, old.as_ref().map(|(value, _)| text(value).len() + 4));
                model.entry(key).and_modify(|(value, _)| {
                    *value = Value::String([&text(value)[..], b"more"].concat());
                });
            }
            9 => {
                let (mut bytes, deadline) = old.map_or((Vec::new(), None), |(v, d)| (text(&v), d));
                let min = rng.below(300) as usize;
                bytes.resize(bytes.len().max(min), 0);
                bytes.iter_mut().for_each(|byte| *byte ^= 1);
                let len = db.modify(&key, min, |all| all.iter_mut().for_each(|byte| *byte ^= 1));
                assert_eq!(len, bytes.len());
                model.insert(key, (Value::String(bytes), deadline));
            }
            10 => {
                let to = rng.below(60).to_string().into_bytes();
                assert_eq!(db.rename(&key, &to), old.is_some());
                if let Some(old) = model.remove(&key) {
                    model.insert(to, old);
                }
            }
            _ => {
                let earliest =
                    model.values().filter_map(|(_, d)| *d).min().filter(|d| *d < deadline);
                let expired = db.take_expired(deadline);
                assert_eq!(expired.as_ref().and_then(Entry::deadline), earliest);
                if let Some(entry) = expired {
                    assert!(entry.is_expired(deadline));
                    assert!(model.remove(entry.key()).is_some());
                }
            }
        }
    }

    #[test]
    fn holds_what_a_model_holds_after_every_operation() {
        // The second kind of hash makes keys share both hash and deadline.
        for hash_key in [HashKey::from_seed(1), HashKey::masked(1, 0x3)] {
            for seed in 0..10 {
                let mut rng = Rng::new(seed);
                let mut db = Database::new(hash_key);
                let mut model = Model::new();
                for _ in 0..600 {
                    step(&mut db, &mut model, &mut rng);
                    check(&db, &model);
                }
            }
        }
    }

    #[test]
    fn keys_and_values_of_any_length_are_found_again() {
        let mut db = Database::new(HashKey::from_seed(6));
        let mut rng = Rng::new(6);
        let keys: Vec<_> =
            [0, 1, 255, 256, 65_536, 512 << 10].into_iter().map(|len| rng.bytes(len)).collect();
        let values: Vec<_> =
            [0, 1, 44, 45, 128, 129, 1 << 20].into_iter().map(|len| rng.bytes(len)).collect();
        for value in values.iter().chain(values.iter().rev()) {
            for (n, key) in keys.iter().enumerate() {
                let deadline = Deadline::At(UnixMs(n as i64));
                db.set(key, NewValue::Bytes(value), deadline);
            }
            db.check_invariants();
            for key in &keys {
                let entry = db.get(key).expect("the key");
                assert!(entry.key() == key && entry.value() == ValueRef::String(value));
            }
        }
        assert_eq!((db.len(), db.volatile_len()), (keys.len(), keys.len()));
        assert!(keys.iter().all(|key| db.remove(key)));
        db.check_invariants();
    }

    #[test]
    fn keys_expire_in_the_order_of_their_deadlines() {
        let mut db = Database::new(HashKey::from_seed(2));
        let mut rng = Rng::new(2);
        for n in 0..5_000 {
            let deadline = UnixMs(rng.below(1_000) as i64);
            db.set(n.to_string().as_bytes(), NewValue::Int(n), Deadline::At(deadline));
        }
        db.set(b"for ever", NewValue::Int(0), Deadline::Clear);
        let mut last = UnixMs(-1);
        while let Some(entry) = db.take_expired(UnixMs(500)) {
            let deadline = entry.deadline().expect("a deadline");
            assert!(last <= deadline && deadline < UnixMs(500));
            last = deadline;
        }
        assert!(db.next_deadline() >= Some(UnixMs(500)));
        assert_eq!(db.volatile_len() + 1, db.len());
        while db.take_expired(UnixMs(i64::MAX)).is_some() {}
        assert_eq!((db.len(), db.volatile_len(), db.next_deadline()), (1, 0, None));
        db.check_invariants();
    }

    #[test]
    fn the_average_time_to_live_is_exact() {
        let mut db = Database::new(HashKey::from_seed(3));
        assert_eq!(db.average_ttl_ms(UnixMs(0)), 0);
        db.set(b"a", NewValue::Int(1), Deadline::At(UnixMs(1_100)));
        db.set(b"b", NewValue::Int(1), Deadline::At(UnixMs(1_300)));
        db.set(b"c", NewValue::Int(1), Deadline::Clear);
        assert_eq!(db.average_ttl_ms(UnixMs(1_000)), 200);
        assert_eq!(db.average_ttl_ms(UnixMs(2_000)), 0, "past deadlines are not negative");
        for key in [b"a", b"b"] {
            db.set_deadline(key, Some(UnixMs(i64::MAX)));
        }
        assert_eq!(db.average_ttl_ms(UnixMs(0)), i64::MAX as u64);
    }

    #[test]
    fn encodings_follow_the_history_of_a_string_as_in_redis() {
        let mut db = Database::new(HashKey::from_seed(4));
        let encoding = |db: &Database| db.get(b"k").map(Entry::encoding);
        db.set(b"k", NewValue::from_bytes(b"12"), Deadline::Clear);
        assert_eq!(encoding(&db), Some(Encoding::Int));
        assert_eq!(db.append(b"k", b"3"), Some(3));
        assert_eq!(encoding(&db), Some(Encoding::Raw));
        db.set(b"k", NewValue::from_bytes(&[b'x'; 44]), Deadline::Clear);
        assert_eq!(encoding(&db), Some(Encoding::EmbStr));
        db.set_deadline(b"k", Some(UnixMs(1)));
        assert_eq!(encoding(&db), Some(Encoding::EmbStr));
        db.set(b"k", NewValue::from_bytes(&[b'x'; 45]), Deadline::Clear);
        assert_eq!(encoding(&db), Some(Encoding::Raw));
        db.remove(b"k");
        assert_eq!(db.modify(b"k", 3, |bytes| bytes[2] = b'!'), 3);
        assert_eq!(encoding(&db), Some(Encoding::Raw));
        db.set_deadline(b"k", Some(UnixMs(1)));
        assert_eq!(encoding(&db), Some(Encoding::Raw));
    }

    #[test]
    fn what_is_taken_from_a_database_leaves_it_empty_and_usable() {
        let mut db = Database::new(HashKey::from_seed(5));
        assert_eq!(db.table_bytes() + db.volatile_bytes(), 0);
        for n in 0..1_000 {
            db.set(n.to_string().as_bytes(), NewValue::Int(n), Deadline::At(UnixMs(n)));
        }
        let old = db.take_all();
        assert_eq!((old.len(), old.volatile_len()), (1_000, 1_000));
        check(&db, &Model::new());
        db.set(b"1", NewValue::Int(1), Deadline::Clear);
        assert_eq!(db.len(), 1);
        // It may be freed elsewhere.
        std::thread::spawn(move || drop(old)).join().expect("a drop that does not panic");
    }
}
