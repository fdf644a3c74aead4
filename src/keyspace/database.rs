//! One database.

use super::entry::EntryRef;
use crate::data::{NewValue, ValueRef};
use crate::sys::clock::UnixMs;
use std::collections::BTreeMap;

/// What becomes of a key's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// It stays.
    Keep,
    /// It goes.
    Clear,
    /// It is set.
    At(UnixMs),
}

/// One database.
#[derive(Debug, Default)]
pub struct Database {
    map: BTreeMap<Vec<u8>, (Stored, Option<UnixMs>)>,
}

#[derive(Debug)]
enum Stored {
    Int(i64),
    Bytes(Vec<u8>),
}

fn view<'a>(key: &'a [u8], v: &'a (Stored, Option<UnixMs>)) -> EntryRef<'a> {
    let value = match &v.0 {
        Stored::Int(i) => ValueRef::Int(*i),
        Stored::Bytes(b) => ValueRef::String(b),
    };
    EntryRef { key, value, deadline: v.1 }
}

impl Database {
    /// Looks up.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<EntryRef<'_>> {
        self.map.get_key_value(key).map(|(k, v)| view(k, v))
    }

    /// Keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// No keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Keys with a deadline.
    #[must_use]
    pub fn volatile_len(&self) -> usize {
        self.map.values().filter(|v| v.1.is_some()).count()
    }

    /// Sets.
    pub fn set(&mut self, key: &[u8], value: NewValue<'_>, deadline: Deadline) {
        let old = self.map.get(key).and_then(|v| v.1);
        let deadline = match deadline {
            Deadline::Keep => old,
            Deadline::Clear => None,
            Deadline::At(t) => Some(t),
        };
        let stored = match value {
            NewValue::Int(i) => Stored::Int(i),
            NewValue::Bytes(b) => Stored::Bytes(b.to_vec()),
            NewValue::Owned(b) => Stored::Bytes(b),
        };
        self.map.insert(key.to_vec(), (stored, deadline));
    }

    /// Removes.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.map.remove(key).is_some()
    }

    /// Sets or clears the deadline of an existing key; says whether there is one.
    pub fn set_deadline(&mut self, key: &[u8], deadline: Option<UnixMs>) -> bool {
        self.map.get_mut(key).map(|v| v.1 = deadline).is_some()
    }

    /// Appends to an existing string; returns its new length, or nothing if there is no such key.
    pub fn append(&mut self, key: &[u8], bytes: &[u8]) -> Option<usize> {
        let v = self.map.get_mut(key)?;
        let mut old = match &v.0 {
            Stored::Int(i) => i.to_string().into_bytes(),
            Stored::Bytes(b) => b.clone(),
        };
        old.extend_from_slice(bytes);
        let len = old.len();
        v.0 = Stored::Bytes(old);
        Some(len)
    }

    /// Visits about `count` entries from `cursor` on; returns where to go on, 0 at the end.
    pub fn scan(&self, cursor: u64, _count: usize, mut visit: impl FnMut(EntryRef<'_>)) -> u64 {
        if cursor == 0 {
            self.map.iter().for_each(|(k, v)| visit(view(k, v)));
        }
        0
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.map.iter().map(|(k, v)| view(k, v))
    }

    /// Any entry.
    pub fn random(&self, mut random: impl FnMut() -> u64) -> Option<EntryRef<'_>> {
        let n = random() as usize % self.map.len().max(1);
        self.iter().nth(n)
    }

    /// Keys past their deadline, at most `max`.
    pub fn due(&self, now: UnixMs, max: usize) -> Vec<Vec<u8>> {
        let due = self.map.iter().filter(|(_, v)| v.1.is_some_and(|d| d <= now));
        due.take(max).map(|(k, _)| k.clone()).collect()
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.map.clear();
    }
}
