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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{NewValue, ValueRef};

    const NOW: UnixMs = UnixMs(1_000);
    const LATER: UnixMs = UnixMs(2_000);

    fn keyspace() -> Keyspace {
        Keyspace::new(16, HashKey::from_seed(1))
    }

    fn set(keyspace: &mut Keyspace, db: usize, key: &[u8], deadline: Deadline) {
        keyspace.db_mut(db).set(key, NewValue::Int(1), deadline);
        keyspace.changed(db, key);
    }

    #[test]
    fn sixteen_empty_databases_allocate_nothing_for_keys() {
        assert_eq!(keyspace().iter().map(Database::table_bytes).sum::<usize>(), 0);
    }

    #[test]
    fn changes_are_counted_and_expiry_is_not() {
        let mut keyspace = keyspace();
        set(&mut keyspace, 0, b"k", Deadline::At(NOW));
        assert!(keyspace.db_mut(0).take_expired(LATER).is_some());
        keyspace.touch(0, b"k");
        assert_eq!(keyspace.dirty, 1);
    }

    #[test]
    fn a_watched_key_that_changes_or_expires_breaks_the_transaction() {
        let mut keyspace = keyspace();
        set(&mut keyspace, 0, b"k", Deadline::At(NOW));
        keyspace.watch(1, 0, b"k", NOW);
        keyspace.watch(2, 0, b"k", LATER);
        assert!(!keyspace.watch_broken(1, NOW));
        assert!(keyspace.watch_broken(1, LATER));
        assert!(!keyspace.watch_broken(2, LATER), "had expired before");
        assert!(keyspace.db_mut(0).take_expired(LATER).is_some());
        keyspace.touch(0, b"k");
        assert!(keyspace.watch_broken(1, NOW));
        assert!(!keyspace.watch_broken(2, LATER));
        set(&mut keyspace, 0, b"k", Deadline::Clear);
        assert!(keyspace.watch_broken(2, LATER));
    }

    #[test]
    fn flush_hands_the_keys_away_and_tells_watchers_of_those() {
        let mut keyspace = keyspace();
        set(&mut keyspace, 0, b"a", Deadline::Clear);
        set(&mut keyspace, 0, b"b", Deadline::Clear);
        set(&mut keyspace, 9, b"c", Deadline::Clear);
        keyspace.watch(1, 0, b"a", NOW);
        keyspace.watch(2, 0, b"absent", NOW);
        keyspace.watch(3, 9, b"c", NOW);
        assert_eq!(keyspace.flush(0).len(), 2);
        assert_eq!(keyspace.dirty, 5);
        assert!(keyspace.watch_broken(1, NOW));
        assert!(!keyspace.watch_broken(2, NOW) && !keyspace.watch_broken(3, NOW));
        let flushed = keyspace.flush_all();
        assert_eq!(flushed.iter().map(Database::len).collect::<Vec<_>>(), [1]);
        assert!(keyspace.watch_broken(3, NOW));
        assert!(keyspace.iter().all(Database::is_empty));
    }

    #[test]
    fn swap_exchanges_contents_and_tells_watchers_on_both_sides() {
        let mut keyspace = keyspace();
        set(&mut keyspace, 0, b"a", Deadline::At(LATER));
        keyspace.watch(1, 0, b"a", NOW);
        keyspace.watch(2, 1, b"a", NOW);
        keyspace.watch(3, 1, b"b", NOW);
        keyspace.swap(0, 0, NOW);
        assert!(!keyspace.watch_broken(1, NOW));
        keyspace.swap(0, 1, NOW);
        assert!(keyspace.db(0).is_empty() && keyspace.db(0).next_deadline().is_none());
        let entry = keyspace.db(1).get(b"a").expect("swapped in");
        assert_eq!((entry.value(), entry.deadline()), (ValueRef::Int(1), Some(LATER)));
        assert_eq!([1, 2, 3].map(|c| keyspace.watch_broken(c, NOW)), [true, true, false]);
    }
}
