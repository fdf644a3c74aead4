//! The Redis protocol: arguments, parsing, replies, encoding, numbers as text.

pub mod extended;
pub mod number;
