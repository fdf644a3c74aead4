//! Entries.

use crate::data::{Encoding, ValueRef};
use crate::sys::clock::UnixMs;

/// A view of an entry.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: ValueRef<'a>,
    pub(super) deadline: Option<UnixMs>,
}

impl<'a> EntryRef<'a> {
    /// Key.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Value.
    #[must_use]
    pub fn value(&self) -> ValueRef<'a> {
        self.value
    }

    /// Deadline.
    #[must_use]
    pub fn deadline(&self) -> Option<UnixMs> {
        self.deadline
    }

    /// Whether it is past its deadline.
    #[must_use]
    pub fn is_expired(&self, now: UnixMs) -> bool {
        self.deadline.is_some_and(|deadline| deadline < now)
    }

    /// How the value is kept.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        Encoding::Raw
    }
}
