//! What was taken out of the keyspace and has yet to be freed.
//!
//! Freeing takes long where there is much of it: about a tenth of a microsecond a key, and for a
//! long string as long as the kernel takes to get its pages back. So a helper thread does it where
//! the configuration wants that.

use std::fmt;

use super::database::Database;
use super::entry::Entry;
use crate::data::Value;

/// A string of so many bytes is worth handing to another thread: below, freeing takes no longer than
/// waking that up.
pub const LARGE_STRING_BYTES: usize = 256 << 10;

/// Something that nobody can reach any more.
pub enum Garbage {
    /// What FLUSHALL and FLUSHDB have emptied.
    Database(Box<Database>),
    /// A key that was deleted, with its value.
    Entry(Entry),
    /// The value of a key that was set anew.
    Value(Value),
}

impl Garbage {
    /// How many keys or values these are, as INFO counts them.
    #[must_use]
    pub fn objects(&self) -> u64 {
        match self {
            Garbage::Database(db) => db.len() as u64,
            Garbage::Entry(_) | Garbage::Value(_) => 1,
        }
    }

    /// The memory that an entry or a value holds, bytes; 0 for a database, whose keys would have to be
    /// visited for it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Garbage::Database(_) | Garbage::Value(Value::Int(_)) => 0,
            Garbage::Entry(entry) => entry.memory_bytes() as u64,
            Garbage::Value(Value::String(bytes)) => bytes.capacity() as u64,
        }
    }

    /// Whether this is a whole database.
    #[must_use]
    pub fn is_database(&self) -> bool {
        matches!(self, Garbage::Database(_))
    }

    /// Whether freeing takes longer than handing it to another thread.
    #[must_use]
    pub fn is_large(&self) -> bool {
        match self {
            Garbage::Database(db) => !db.is_empty(),
            Garbage::Entry(entry) => entry.heap_bytes() >= LARGE_STRING_BYTES,
            Garbage::Value(Value::Int(_)) => false,
            Garbage::Value(Value::String(bytes)) => bytes.capacity() >= LARGE_STRING_BYTES,
        }
    }
}

impl fmt::Debug for Garbage {
    /// Tells how much it is, not what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Garbage::Database(_) => "Database",
            Garbage::Entry(_) => "Entry",
            Garbage::Value(_) => "Value",
        };
        f.debug_tuple(kind).field(&self.objects()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::NewValue;
    use crate::keyspace::{Deadline, HashKey};

    #[test]
    fn what_takes_long_to_free_is_large() {
        let entry = |len| Garbage::Entry(Entry::new(b"k", NewValue::Owned(vec![0; len]), None));
        let value = |len| Garbage::Value(Value::String(vec![0; len]));
        for large in [entry(LARGE_STRING_BYTES), value(LARGE_STRING_BYTES)] {
            assert!(large.is_large(), "{large:?}");
            assert_eq!(large.objects(), 1);
        }
        let small = LARGE_STRING_BYTES - 1;
        for small in [entry(1), entry(small), value(small), Garbage::Value(Value::Int(1))] {
            assert!(!small.is_large(), "{small:?}");
        }
        let mut db = Database::new(HashKey::from_seed(1));
        assert!(!Garbage::Database(Box::new(db.take_all())).is_large());
        db.set(b"a", NewValue::Int(1), Deadline::Clear);
        db.set(b"b", NewValue::Int(1), Deadline::Clear);
        let flushed = Garbage::Database(Box::new(db));
        assert!(flushed.is_large());
        assert_eq!((flushed.objects(), format!("{flushed:?}")), (2, "Database(2)".to_owned()));
    }
}
