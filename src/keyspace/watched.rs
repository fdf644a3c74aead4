//! Watched keys.

use std::collections::HashSet;

/// Who watches what.
#[derive(Debug, Default)]
pub struct Watched {
    keys: HashSet<(u64, usize, Vec<u8>)>,
    dirty: HashSet<u64>,
}

impl Watched {
    /// `client` watches `key`.
    pub fn watch(&mut self, client: u64, db: usize, key: &[u8], _already_expired: bool) {
        self.keys.insert((client, db, key.to_vec()));
    }

    /// `client` watches nothing.
    pub fn unwatch_all(&mut self, client: u64) {
        self.keys.retain(|k| k.0 != client);
        self.dirty.remove(&client);
    }

    /// `key` has changed.
    pub fn touch(&mut self, db: usize, key: &[u8]) {
        for k in &self.keys {
            if k.1 == db && k.2 == key {
                self.dirty.insert(k.0);
            }
        }
    }

    /// The database is about to be emptied.
    pub fn touch_db(&mut self, db: usize, existed: impl Fn(&[u8]) -> bool) {
        for k in &self.keys {
            if k.1 == db && existed(&k.2) {
                self.dirty.insert(k.0);
            }
        }
    }

    /// Whether a key that `client` watches has changed.
    #[must_use]
    pub fn is_dirty(&self, client: u64) -> bool {
        self.dirty.contains(&client)
    }

    /// Whether a watched key has expired since.
    pub fn any_expired(&self, client: u64, expired: impl Fn(usize, &[u8]) -> bool) -> bool {
        self.keys.iter().any(|k| k.0 == client && expired(k.1, &k.2))
    }
}
