//! The databases: key table, expiry, watched keys.
//!
//! In reading order: [`entry`] holds a key and its value, [`recency`] stamps it with its last use,
//! [`dict`] finds it, [`database`] adds deadlines, [`watched`] knows who must hear of changes,
//! [`garbage`] is what was taken out and has yet to be freed, [`Keyspace`] is all of it together,
//! and [`eviction`] chooses what goes when memory runs short.
//! Nothing here reads a clock, logs, or expires keys by itself.

pub mod database;
pub mod dict;
pub mod entry;
pub mod eviction;
pub mod garbage;
pub mod hash;
pub mod recency;
pub mod watched;

#[cfg(test)]
mod testing;

pub use database::{Database, Deadline, Prepared};
pub use entry::Entry;
pub use garbage::Garbage;
pub use hash::{HashKey, KnownHashes, PlacedHash};

use crate::data::ValueRef;
use crate::sys::clock::UnixMs;
use recency::{Recency, Tracking};
use watched::{KeyState, Watched};

/// All databases of the server.
pub struct Keyspace {
    dbs: Vec<Database>,
    hash_key: HashKey,
    /// Changes since the start, as Redis counts them. A command that moved this was a write.
    pub dirty: u64,
    /// Who watches which keys.
    pub watched: Watched,
    /// Stamps keys with their last use. To be told the time ahead of each command.
    pub recency: Recency,
}

impl Keyspace {
    /// So many empty databases. They take next to no memory until keys are set in them.
    #[must_use]
    pub fn new(databases: usize, hash_key: HashKey) -> Keyspace {
        let dbs = (0..databases).map(|_| Database::new(hash_key)).collect();
        Keyspace {
            dbs,
            hash_key,
            dirty: 0,
            watched: Watched::default(),
            recency: Recency::default(),
        }
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
    #[inline]
    pub fn db_mut(&mut self, index: usize) -> &mut Database {
        let db = &mut self.dbs[index];
        db.set_newborn(self.recency.newborn_mark());
        db
    }

    /// Looks `key` up in database `index` to use it, even if it is past its deadline, and stamps it.
    ///
    /// # Panics
    /// If there is no such database.
    #[inline]
    pub fn touch_and_get(&mut self, index: usize, key: &[u8]) -> Option<&Entry> {
        self.touch_and_get_hashed(index, self.hash_key.hash(key), key)
    }

    /// As [`Keyspace::touch_and_get`], where the key's hash is known.
    ///
    /// # Panics
    /// If there is no such database.
    #[inline]
    pub fn touch_and_get_hashed(&mut self, index: usize, hash: u64, key: &[u8]) -> Option<&Entry> {
        let entry = self.dbs[index].get_hashed(hash, key)?;
        self.recency.touch(entry);
        Some(entry)
    }

    /// Gives a key of database `index` the integer that `change` makes of its value, as
    /// [`Database::update_integer`] does; a key that was there is stamped as used, if `uses` says
    /// so, even where `change` fails.
    ///
    /// # Errors
    /// That of `change`.
    ///
    /// # Panics
    /// If there is no such database.
    #[inline]
    pub fn update_integer<E>(
        &mut self,
        index: usize,
        hash: u64,
        key: &[u8],
        uses: bool,
        change: impl FnOnce(Option<ValueRef<'_>>) -> Result<i64, E>,
    ) -> Result<i64, E> {
        let recency = &mut self.recency;
        let db = &mut self.dbs[index];
        db.set_newborn(recency.newborn_mark());
        let touch = |entry: &Entry| {
            if uses {
                recency.touch(entry);
            }
        };
        db.update_integer(hash, key, touch, change)
    }

    /// Sets a key in database `index`, as SET does where nothing expires: stamps it, counts a change
    /// and tells those who watch.
    ///
    /// # Panics
    /// If there is no such database.
    #[inline]
    pub fn set_prepared(&mut self, index: usize, prepared: Prepared) {
        if self.recency.tracking() != Tracking::LastUse || !self.watched.is_idle() {
            return self.set_prepared_noting(index, prepared);
        }
        self.db_mut(index).set_prepared(prepared);
        self.dirty += 1;
    }

    /// Likewise, where uses are counted or keys are watched.
    #[cold]
    fn set_prepared_noting(&mut self, index: usize, prepared: Prepared) {
        let key = prepared.key().to_vec();
        self.touch_and_get(index, &key);
        self.db_mut(index).set_prepared(prepared);
        self.changed(index, &key);
    }

    /// The secret by which all databases hash, for [`Prepared::new`].
    #[must_use]
    pub fn hash_key(&self) -> HashKey {
        self.hash_key
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

    /// Moves `key` with all that belongs to it from database `from` to `to`, replacing what was
    /// there; false, and nothing changed, if it is not in `from`. Watchers are not told.
    ///
    /// # Panics
    /// If there are no such databases.
    pub fn move_key(&mut self, key: &[u8], from: usize, to: usize) -> bool {
        let Some(entry) = self.dbs[from].take(key) else { return false };
        self.dbs[to].put(entry);
        true
    }

    /// Copies value and deadline of `key` in database `from` to `copy` in database `to`, replacing
    /// what was there; false, and nothing changed, if there is no such key. Watchers are not told.
    /// O(bytes of the value).
    ///
    /// # Panics
    /// If there are no such databases.
    pub fn copy_key(&mut self, key: &[u8], from: usize, copy: &[u8], to: usize) -> bool {
        let Some(entry) = self.dbs[from].get(key) else { return false };
        let entry = entry.copied(copy);
        entry.set_stamp(self.recency.newborn());
        self.dbs[to].put(entry);
        true
    }

    /// Keeps pages shared with a forked child where that is possible, as long as one lives. Call
    /// [`Keyspace::tidy`] afterwards.
    pub fn set_frugal(&mut self, frugal: bool) {
        self.recency.pause(frugal);
        self.dbs.iter_mut().for_each(|db| db.set_frugal(frugal));
    }

    /// Makes good what the key tables have put off while frugal, looking at up to `segments`
    /// segments of one of them; true once all is done. O(databases + `segments`), and a few hundred
    /// entries for each merge.
    pub fn tidy(&mut self, segments: usize) -> bool {
        let untidy = self.dbs.iter_mut().find_map(|db| (!db.tidy(0)).then_some(db));
        let Some(db) = untidy else { return true };
        // Not the end, if it is: another one may be untidy.
        db.tidy(segments);
        false
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
    fn a_prepared_key_and_a_counter_are_set_as_any_other() {
        use recency::{Frequency, Tracking};
        let uses = Tracking::Uses(Frequency { log_factor: 0, decay_minutes: 0 });
        for (tracking, owns) in
            [Tracking::LastUse, uses].into_iter().flat_map(|how| [(how, false), (how, true)])
        {
            let mut by_set = keyspace();
            let mut by_prepared = keyspace();
            let mut by_update = keyspace();
            for (n, key) in [b"a", b"b", b"a", b"c", b"a"].into_iter().enumerate() {
                for keyspace in [&mut by_set, &mut by_prepared, &mut by_update] {
                    keyspace.recency.set(UnixMs(60_000 * (1 + n as i64)), tracking);
                    keyspace.recency.own_integers(owns);
                }
                by_set.touch_and_get(3, key);
                by_set.db_mut(3).set(key, NewValue::Int(n as i64), Deadline::Clear);
                by_set.changed(3, key);
                let value = NewValue::Int(n as i64);
                by_prepared.set_prepared(3, Prepared::new(&by_prepared.hash_key(), key, value));
                let hash = by_update.hash_key().hash(key);
                let set = by_update.update_integer(3, hash, key, true, |_| Ok::<_, ()>(n as i64));
                assert_eq!(set, Ok(n as i64));
                by_update.changed(3, key);
            }
            assert_eq!((by_prepared.dirty, by_update.dirty), (by_set.dirty, by_set.dirty));
            for key in [b"a", b"b", b"c"] {
                let told = |keyspace: &Keyspace| {
                    let entry = keyspace.db(3).get(key).expect("the key");
                    assert_eq!(entry.is_unshared(), owns);
                    (entry.value().to_value(), entry.deadline(), entry.stamp().bits())
                };
                assert_eq!(told(&by_prepared), told(&by_set), "{tracking:?}");
                assert_eq!(told(&by_update), told(&by_set), "{tracking:?}");
            }
            by_prepared.watch(1, 3, b"a", NOW);
            let prepared = Prepared::new(&by_prepared.hash_key(), b"a", NewValue::Int(0));
            by_prepared.set_prepared(3, prepared);
            assert!(by_prepared.watch_broken(1, NOW));
        }
    }

    #[test]
    fn a_counter_that_is_refused_has_been_used_if_it_was_to_be() {
        let mut keyspace = keyspace();
        keyspace.recency.set(UnixMs(7_000), recency::Tracking::LastUse);
        set(&mut keyspace, 0, b"a", Deadline::At(LATER));
        keyspace.recency.set(UnixMs(9_000), recency::Tracking::LastUse);
        for (uses, second) in [(false, 7), (true, 9)] {
            let hash = keyspace.hash_key().hash(b"a");
            let refused = keyspace.update_integer(0, hash, b"a", uses, |old| {
                assert_eq!(old, Some(ValueRef::Int(1)));
                Err("overflow")
            });
            assert_eq!(refused, Err("overflow"));
            let entry = keyspace.db(0).get(b"a").expect("the key");
            assert_eq!((entry.value(), entry.deadline()), (ValueRef::Int(1), Some(LATER)));
            assert_eq!(entry.stamp().bits(), second);
        }
        let hash = keyspace.hash_key().hash(b"none");
        let refused = keyspace.update_integer(0, hash, b"none", true, |old| {
            assert_eq!(old, None);
            Err("overflow")
        });
        assert_eq!((refused, keyspace.db(0).len()), (Err("overflow"), 1));
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
    fn keys_move_and_are_copied_with_their_deadlines() {
        let mut keyspace = keyspace();
        keyspace.recency.set(UnixMs(7_000), recency::Tracking::LastUse);
        set(&mut keyspace, 0, b"a", Deadline::At(LATER));
        keyspace.recency.set(UnixMs(9_000), recency::Tracking::LastUse);
        assert!(keyspace.copy_key(b"a", 0, b"b", 0) && keyspace.copy_key(b"a", 0, b"b", 1));
        assert!(keyspace.move_key(b"a", 0, 1));
        assert!(!keyspace.move_key(b"a", 0, 1) && !keyspace.copy_key(b"a", 0, b"a", 2));
        for (db, key, second) in [(0, b"b", 9), (1, b"b", 9), (1, b"a", 7)] {
            let entry = keyspace.db(db).get(key).expect("the key");
            assert_eq!((entry.value(), entry.deadline()), (ValueRef::Int(1), Some(LATER)));
            assert_eq!(entry.stamp().bits(), second, "a copy is new, a moved key is not");
        }
        assert_eq!(keyspace.iter().map(Database::volatile_len).sum::<usize>(), 3);
    }

    #[test]
    fn while_a_child_lives_reads_leave_no_stamp() {
        let mut keyspace = keyspace();
        set(&mut keyspace, 0, b"a", Deadline::Clear);
        keyspace.recency.set(UnixMs(9_000), recency::Tracking::LastUse);
        let mut stamp = || keyspace.touch_and_get(0, b"a").map(|entry| entry.stamp().bits());
        assert_eq!(stamp(), Some(9));
        keyspace.set_frugal(true);
        keyspace.recency.set(UnixMs(11_000), recency::Tracking::LastUse);
        assert_eq!(keyspace.touch_and_get(0, b"a").map(|entry| entry.stamp().bits()), Some(9));
        keyspace.set_frugal(false);
        assert_eq!(keyspace.touch_and_get(0, b"a").map(|entry| entry.stamp().bits()), Some(11));
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
