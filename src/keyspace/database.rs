//! One database: its keys, and which of them expire when.

use std::collections::BTreeSet;

use super::dict::Dict;
use super::entry::Entry;
use super::hash::HashKey;
use crate::data::NewValue;
use crate::sys::clock::UnixMs;

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
}

impl Database {
    /// An empty database. Allocates nothing.
    #[must_use]
    pub fn new(hash_key: HashKey) -> Database {
        let dict = Dict::new(hash_key);
        Database { dict, volatile: BTreeSet::new(), volatile_len: 0, deadline_sum: 0 }
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
        self.dict.find(self.dict.hash(key), key)
    }

    /// Whether the key is there, even if past its deadline. O(1).
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// Sets the key to a value; returns whether it was there before. O(1), in place where the new
    /// value is about as long as the old one; O(log volatile keys) with deadlines.
    pub fn set(&mut self, key: &[u8], value: NewValue<'_>, deadline: Deadline) -> bool {
        let hash = self.dict.hash(key);
        if let Some(entry) = self.dict.find_mut(hash, key) {
            let old = entry.deadline();
            let new = deadline.after(old);
            entry.assign(value, new);
            self.reindex(hash, old, new);
            return true;
        }
        let deadline = deadline.after(None);
        self.insert(hash, Entry::new(key, value, deadline));
        false
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

    /// Bytes of memory that the tables take, without keys and values. O(keys / 300).
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.dict.table_bytes()
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
