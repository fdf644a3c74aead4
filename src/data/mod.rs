//! Values and their encodings; no protocol, no clock.

pub mod glob;

/// A view of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueRef<'a> {
    /// A string that is a canonical 64-bit integer, held as one.
    Int(i64),
    /// Any other string.
    String(&'a [u8]),
}

/// A value on its way into the keyspace.
#[derive(Debug)]
pub enum NewValue<'a> {
    /// An integer.
    Int(i64),
    /// Bytes to be copied.
    Bytes(&'a [u8]),
    /// Bytes to be moved in.
    Owned(Vec<u8>),
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Bytes or an integer.
    String,
}

impl Type {
    /// As `TYPE` says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        "string"
    }
}

impl ValueRef<'_> {
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> Type {
        Type::String
    }
}
