//! Values and their encodings; no protocol, no clock.
//!
//! A data type is one variant of [`Value`] and [`ValueRef`]; the exhaustive matches on them lead to
//! every place that must know it.

use crate::text::number::parse_i64;

/// The longest string that Redis reports as `embstr`, in bytes.
pub const EMBSTR_MAX_BYTES: usize = 44;

/// What TYPE answers for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A byte string or an integer.
    String,
}

impl Type {
    /// The name as TYPE and SCAN's TYPE option spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Type::String => "string",
        }
    }
}

/// What OBJECT ENCODING answers for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// An integer kept as one.
    Int,
    /// A short string that was set whole.
    EmbStr,
    /// A string that is long, or was changed in place (APPEND, SETRANGE, SETBIT).
    Raw,
}

impl Encoding {
    /// The name as OBJECT ENCODING and DEBUG OBJECT spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Int => "int",
            Encoding::EmbStr => "embstr",
            Encoding::Raw => "raw",
        }
    }
}

/// A value on its own, out of the keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string whose bytes are the canonical decimal text of this integer.
    Int(i64),
    /// Any other string.
    String(Vec<u8>),
}

impl Value {
    /// The same value, borrowed.
    #[must_use]
    pub fn view(&self) -> ValueRef<'_> {
        match self {
            Value::Int(n) => ValueRef::Int(*n),
            Value::String(bytes) => ValueRef::String(bytes),
        }
    }
}

/// A value seen where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueRef<'a> {
    /// A string whose bytes are the canonical decimal text of this integer.
    Int(i64),
    /// Any other string.
    String(&'a [u8]),
}

impl<'a> ValueRef<'a> {
    /// The type a client sees.
    #[must_use]
    pub fn value_type(self) -> Type {
        match self {
            ValueRef::Int(_) | ValueRef::String(_) => Type::String,
        }
    }

    /// The bytes a client sees; an integer is written into `digits`. Copies no string.
    #[must_use]
    pub fn bytes(self, digits: &'a mut itoa::Buffer) -> &'a [u8] {
        match self {
            ValueRef::Int(n) => digits.format(n).as_bytes(),
            ValueRef::String(bytes) => bytes,
        }
    }

    /// A copy that lives on its own.
    #[must_use]
    pub fn to_value(self) -> Value {
        match self {
            ValueRef::Int(n) => Value::Int(n),
            ValueRef::String(bytes) => Value::String(bytes.to_vec()),
        }
    }
}

/// A value on its way into the keyspace.
#[derive(Debug)]
pub enum NewValue<'a> {
    /// An integer.
    Int(i64),
    /// A string that will be copied.
    Bytes(&'a [u8]),
    /// A string whose buffer is taken over when it is too long to lie inside its entry.
    Owned(Vec<u8>),
}

impl<'a> NewValue<'a> {
    /// The string `bytes`, as an integer where it is the canonical text of one.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> NewValue<'a> {
        parse_i64(bytes).map_or(NewValue::Bytes(bytes), NewValue::Int)
    }

    /// The string `bytes`, as an integer where it is the canonical text of one.
    #[must_use]
    pub fn from_vec(bytes: Vec<u8>) -> NewValue<'static> {
        match parse_i64(&bytes) {
            Some(n) => NewValue::Int(n),
            None => NewValue::Owned(bytes),
        }
    }
}

impl From<Value> for NewValue<'static> {
    fn from(value: Value) -> NewValue<'static> {
        match value {
            Value::Int(n) => NewValue::Int(n),
            Value::String(bytes) => NewValue::Owned(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_gives_its_text_back() {
        let mut digits = itoa::Buffer::new();
        assert_eq!(ValueRef::Int(i64::MIN).bytes(&mut digits), b"-9223372036854775808");
        assert_eq!(ValueRef::String(b"a\0b").bytes(&mut digits), b"a\0b");
    }

    #[test]
    fn long_buffers_move_and_numbers_do_not_stay_text() {
        assert!(matches!(NewValue::from_vec(b"12".to_vec()), NewValue::Int(12)));
        let long = vec![b'x'; 300];
        let at = long.as_ptr();
        let NewValue::Owned(moved) = NewValue::from_vec(long) else { panic!("not owned") };
        assert_eq!(moved.as_ptr(), at);
    }
}
