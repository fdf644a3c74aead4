//! WATCH: which clients watch which keys, and whose transactions must fail.
//!
//! What counts as a change of a watched key is what Redis counts: writes, deletions, expiry, the
//! emptying or swapping of the database. A key that was past its deadline at the moment of WATCH
//! counts as absent: that it is then really deleted changes nothing.

use std::collections::HashMap;

/// A key's state as far as watching goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// There is no such key.
    Absent,
    /// The key is there, but past its deadline.
    Expired,
    /// The key is there.
    Live,
}

/// All that is being watched.
#[derive(Debug, Default)]
pub struct Watched {
    /// By database and key, who watches. Invariant: no inner map and no list is empty.
    watchers: HashMap<usize, HashMap<Box<[u8]>, Vec<Watcher>>>,
    /// Invariant: every client here is either dirty or watches a key, and those that are dirty
    /// watch none.
    clients: HashMap<u64, ClientState>,
}

#[derive(Debug)]
struct Watcher {
    client: u64,
    /// Whether the key was past its deadline when it was watched, and has not been deleted since.
    expired: bool,
}

#[derive(Debug)]
enum ClientState {
    Watching(Vec<(usize, Box<[u8]>)>),
    Dirty,
}

impl Watched {
    /// Has `client` watch `key`, which is past its deadline at this moment or is not. Nothing new
    /// for a client that watches it already or whose transaction has to fail anyway.
    pub fn watch(&mut self, client: u64, db: usize, key: &[u8], expired: bool) {
        let state = self.clients.entry(client).or_insert(ClientState::Watching(Vec::new()));
        let ClientState::Watching(keys) = state else { return };
        if keys.iter().any(|(watched_db, watched)| *watched_db == db && **watched == *key) {
            return;
        }
        keys.push((db, key.into()));
        let watchers = self.watchers.entry(db).or_default().entry(key.into()).or_default();
        watchers.push(Watcher { client, expired });
    }

    /// Ends all watching by `client` and forgives its transaction: UNWATCH, EXEC, DISCARD, or the
    /// end of the connection. O(keys it watches).
    pub fn unwatch_all(&mut self, client: u64) {
        if let Some(ClientState::Watching(keys)) = self.clients.remove(&client) {
            for (db, key) in keys {
                self.forget(client, db, &key);
            }
        }
    }

    /// How many keys `client` watches; 0 once one of them has changed.
    #[must_use]
    pub fn keys_of(&self, client: u64) -> usize {
        match self.clients.get(&client) {
            Some(ClientState::Watching(keys)) => keys.len(),
            _ => 0,
        }
    }

    /// Whether a key that `client` watched was changed.
    #[must_use]
    pub fn is_dirty(&self, client: u64) -> bool {
        matches!(self.clients.get(&client), Some(ClientState::Dirty))
    }

    /// Whether a key that `client` watches has passed its deadline since. `is_expired` tells whether
    /// a key is past its deadline now.
    pub fn any_expired(&self, client: u64, is_expired: impl Fn(usize, &[u8]) -> bool) -> bool {
        let Some(ClientState::Watching(keys)) = self.clients.get(&client) else { return false };
        keys.iter().any(|(db, key)| {
            let watchers = self.watchers.get(db).and_then(|keys| keys.get(key));
            let watcher = watchers.and_then(|list| list.iter().find(|w| w.client == client));
            watcher.is_some_and(|watcher| !watcher.expired) && is_expired(*db, key)
        })
    }

    /// Whether nobody watches anything.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.watchers.is_empty()
    }

    /// A key was changed, created or deleted: all who watch it become dirty. `exists` tells whether
    /// it is in the database afterwards. One branch when nobody watches anything.
    pub fn touch(&mut self, db: usize, key: &[u8], exists: impl FnOnce() -> bool) {
        if self.is_idle() {
            return;
        }
        let Some(watchers) = self.watchers.get_mut(&db).and_then(|keys| keys.get_mut(key)) else {
            return;
        };
        let exists = exists();
        let mut dirty = Vec::new();
        for watcher in watchers {
            if !watcher.expired {
                dirty.push(watcher.client);
            } else if !exists {
                // Gone in fact as it was in effect.
                watcher.expired = false;
            }
        }
        self.make_dirty(dirty);
    }

    /// All keys of a database are about to change from what `before` tells to what `after` tells:
    /// it is emptied, or swapped with another.
    pub fn touch_db(
        &mut self,
        db: usize,
        before: impl Fn(&[u8]) -> KeyState,
        after: impl Fn(&[u8]) -> KeyState,
    ) {
        let mut dirty = Vec::new();
        for (key, watchers) in self.watchers.get_mut(&db).into_iter().flatten() {
            let (before, after) = (before(key), after(key));
            if before == KeyState::Absent && after == KeyState::Absent {
                continue;
            }
            for watcher in watchers {
                match (watcher.expired, after) {
                    (true, KeyState::Absent) => watcher.expired = false,
                    (true, KeyState::Expired) => {}
                    (false, KeyState::Expired) if before == KeyState::Absent => {
                        watcher.expired = true;
                    }
                    _ => dirty.push(watcher.client),
                }
            }
        }
        self.make_dirty(dirty);
    }

    /// Clients that are dirty need not watch any longer.
    fn make_dirty(&mut self, clients: Vec<u64>) {
        for client in clients {
            if let Some(ClientState::Watching(keys)) =
                self.clients.insert(client, ClientState::Dirty)
            {
                for (db, key) in keys {
                    self.forget(client, db, &key);
                }
            }
        }
    }

    fn forget(&mut self, client: u64, db: usize, key: &[u8]) {
        let Some(keys) = self.watchers.get_mut(&db) else { return };
        if let Some(watchers) = keys.get_mut(key) {
            watchers.retain(|watcher| watcher.client != client);
            if watchers.is_empty() {
                keys.remove(key);
            }
        }
        if keys.is_empty() {
            self.watchers.remove(&db);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: fn(&[u8]) -> KeyState = |_| KeyState::Absent;
    const EXPIRED: fn(&[u8]) -> KeyState = |_| KeyState::Expired;
    const LIVE: fn(&[u8]) -> KeyState = |_| KeyState::Live;

    impl Watched {
        fn check_invariants(&self) {
            let mut watches = 0;
            for keys in self.watchers.values() {
                assert!(!keys.is_empty());
                for watchers in keys.values() {
                    assert!(!watchers.is_empty());
                    watches += watchers.len();
                }
            }
            let of_clients = self.clients.values().map(|state| match state {
                ClientState::Watching(keys) => {
                    assert!(!keys.is_empty());
                    keys.len()
                }
                ClientState::Dirty => 0,
            });
            assert_eq!(of_clients.sum::<usize>(), watches);
        }
    }

    #[test]
    fn a_touch_dirties_all_who_watch_the_key_and_nobody_else() {
        let mut watched = Watched::default();
        watched.watch(1, 0, b"k", false);
        watched.watch(1, 0, b"k", false);
        watched.watch(1, 0, b"other", false);
        watched.watch(2, 0, b"k", false);
        watched.watch(3, 1, b"k", false);
        watched.watch(4, 0, b"kk", false);
        watched.touch(0, b"nobody's", || true);
        assert!(!(1..=4).any(|client| watched.is_dirty(client)));
        watched.touch(0, b"k", || true);
        assert_eq!([1, 2, 3, 4].map(|client| watched.is_dirty(client)), [true, true, false, false]);
        watched.check_invariants();
        watched.watch(1, 0, b"k", false);
        watched.check_invariants();
        for client in 1..=4 {
            watched.unwatch_all(client);
            assert!(!watched.is_dirty(client));
            watched.check_invariants();
        }
        assert!(watched.is_idle() && watched.clients.is_empty());
        watched.touch(0, b"k", || unreachable!("nobody watches"));
    }

    #[test]
    fn deleting_what_had_expired_at_watch_is_no_change_but_creating_it_again_is() {
        let mut watched = Watched::default();
        watched.watch(1, 0, b"k", true);
        assert!(!watched.any_expired(1, |_, _| true), "expired already when watched");
        watched.touch(0, b"k", || false);
        assert!(!watched.is_dirty(1));
        watched.touch(0, b"k", || true);
        assert!(watched.is_dirty(1));
    }

    #[test]
    fn a_key_that_expires_after_watch_breaks_the_transaction() {
        let mut watched = Watched::default();
        watched.watch(1, 3, b"k", false);
        assert!(watched.any_expired(1, |db, key| (db, key) == (3, b"k")));
        assert!(!watched.any_expired(1, |_, _| false));
        assert!(!watched.any_expired(2, |_, _| true), "watches nothing");
    }

    #[test]
    fn emptying_a_database_changes_the_keys_it_had() {
        let mut watched = Watched::default();
        watched.watch(1, 0, b"there", false);
        watched.watch(2, 0, b"absent", false);
        watched.watch(3, 0, b"there", true);
        watched.watch(4, 1, b"there", false);
        let before = |key: &[u8]| if key == b"there" { KeyState::Live } else { KeyState::Absent };
        watched.touch_db(0, before, ABSENT);
        assert_eq!([1, 2, 3, 4].map(|c| watched.is_dirty(c)), [true, false, false, false]);
        watched.check_invariants();
        watched.touch_db(0, LIVE, ABSENT);
        assert!(watched.is_dirty(3), "gone in fact by now, so that it came back is a change");
    }

    #[test]
    fn swapping_databases_follows_redis_in_every_case() {
        // Expired when watched; state before; state after; dirty; expired for the next time.
        let cases = [
            (false, ABSENT, ABSENT, false, false),
            (false, ABSENT, LIVE, true, false),
            (false, LIVE, ABSENT, true, false),
            (false, LIVE, LIVE, true, false),
            (false, LIVE, EXPIRED, true, false),
            (false, EXPIRED, EXPIRED, true, false),
            (false, ABSENT, EXPIRED, false, true),
            (true, EXPIRED, ABSENT, false, false),
            (true, EXPIRED, EXPIRED, false, true),
            (true, EXPIRED, LIVE, true, false),
        ];
        for (case, (at_watch, before, after, dirty, expired)) in cases.into_iter().enumerate() {
            let mut watched = Watched::default();
            watched.watch(1, 0, b"k", at_watch);
            watched.touch_db(0, before, after);
            assert_eq!(watched.is_dirty(1), dirty, "case {case}");
            watched.check_invariants();
            if !dirty {
                assert_eq!(watched.any_expired(1, |_, _| true), !expired, "case {case}");
            }
        }
    }
}
