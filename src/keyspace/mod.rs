//! The databases: key table, expiry, watched keys.
//!
//! In reading order: [`entry`] holds a key and its value, [`dict`] finds it, [`database`] adds
//! deadlines, [`watched`] knows who must hear of changes, and [`Keyspace`] is all of it together.
//! Nothing here reads a clock, logs, or expires keys by itself.

pub mod database;
pub mod dict;
pub mod entry;
pub mod hash;
pub mod watched;

#[cfg(test)]
mod testing;

pub use database::{Database, Deadline};
pub use entry::Entry;
pub use hash::HashKey;

use crate::sys::clock::UnixMs;
use watched::{KeyState, Watched};

/// All databases of the server.
pub struct Keyspace {
    dbs: Vec<Database>,
    /// Changes since the start, as Redis counts them. A command that moved this was a write.
    pub dirty: u64,
    /// Who watches which keys.
    pub watched: Watched,
}

impl Keyspace {
    /// So many empty databases. They take next to no memory until keys are set in them.
    #[must_use]
    pub fn new(databases: usize, hash_key: HashKey) -> Keyspace {
        let dbs = (0..databases).map(|_| Database::new(hash_key)).collect();
        Keyspace { dbs, dirty: 0, watched: Watched::default() }
    }

    /// How many databases there are.
    #[must_use]
    pub fn databases(&self) -> usize {
        self.dbs.len()
    }

    /// Database `index`.
    ///
    /// # Panics
    /// If there is no such database: whoever takes an index from outside checks it against
    /// [`Keyspace::databases`].
    #[must_use]
    pub fn db(&self, index: usize) -> &Database {
        &self.dbs[index]
    }

    /// Database `index`, to be changed. Watchers hear of the change only through
    /// [`Keyspace::changed`] or [`Keyspace::touch`].
    ///
    /// # Panics
    /// If there is no such database.
    pub fn db_mut(&mut self, index: usize) -> &mut Database {
        &mut self.dbs[index]
    }

    /// All databases in order.
    pub fn iter(&self) -> impl Iterator<Item = &Database> {
        self.dbs.iter()
    }

    /// All databases in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Database> {
        self.dbs.iter_mut()
    }

    /// Records one change of `key`, which has been made: counts it and tells those who watch.
    pub fn changed(&mut self, db: usize, key: &[u8]) {
        self.dirty += 1;
        self.touch(db, key);
    }

    /// Tells those who watch `key` that it has changed, without counting a change: for keys that
    /// expired. One branch when nobody watches anything.
    pub fn touch(&mut self, db: usize, key: &[u8]) {
        let dbs = &self.dbs;
        self.watched.touch(db, key, || dbs[db].contains(key));
    }

    /// Has `client` watch `key`.
    pub fn watch(&mut self, client: u64, db: usize, key: &[u8], now: UnixMs) {
        let expired = key_state(&self.dbs[db], key, now) == KeyState::Expired;
        self.watched.watch(client, db, key, expired);
    }

    /// Whether EXEC by `client` must fail: a key that it watches was changed, or has passed its
    /// deadline since.
    #[must_use]
    pub fn watch_broken(&self, client: u64, now: UnixMs) -> bool {
        self.watched.is_dirty(client)
            || self.watched.any_expired(client, |db, key| {
                key_state(&self.dbs[db], key, now) == KeyState::Expired
            })
    }

    /// Empties database `index`, counts a change for each key, tells those who watch; returns what
    /// was in it. O(watched keys), however many keys there are.
    #[must_use]
    pub fn flush(&mut self, index: usize) -> Database {
        let db = &self.dbs[index];
        let before = |key: &[u8]| if db.contains(key) { KeyState::Live } else { KeyState::Absent };
        self.watched.touch_db(index, before, |_| KeyState::Absent);
        self.dirty += db.len() as u64;
        self.dbs[index].take_all()
    }

    /// Empties all databases as [`Keyspace::flush`] does one; returns those that held keys.
    #[must_use]
    pub fn flush_all(&mut self) -> Vec<Database> {
        let flushed = (0..self.dbs.len()).map(|index| self.flush(index));
        flushed.filter(|db| !db.is_empty()).collect()
    }

    /// Exchanges the contents of two databases, tells those who watch keys in either, and counts
    /// one change. O(watched keys).
    pub fn swap(&mut self, a: usize, b: usize, now: UnixMs) {
        self.dirty += 1;
        if a == b {
            return;
        }
        let (db_a, db_b) = (&self.dbs[a], &self.dbs[b]);
        let in_a = |key: &[u8]| key_state(db_a, key, now);
        let in_b = |key: &[u8]| key_state(db_b, key, now);
        self.watched.touch_db(a, in_a, in_b);
        self.watched.touch_db(b, in_b, in_a);
        self.dbs.swap(a, b);
    }

    /// Keeps pages shared with a forked child where that is possible, as long as one lives.
    pub fn set_frugal(&mut self, frugal: bool) {
        self.dbs.iter_mut().for_each(|db| db.set_frugal(frugal));
    }
}

fn key_state(db: &Database, key: &[u8], now: UnixMs) -> KeyState {
    match db.get(key) {
        None => KeyState::Absent,
        Some(entry) if entry.is_expired(now) => KeyState::Expired,
        Some(_) => KeyState::Live,
    }
}
