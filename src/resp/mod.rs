//! The Redis protocol: arguments, parsing, replies, encoding, numbers as text.

pub mod args;
pub mod encode;
pub mod extended;
pub mod number;
pub mod parse;
pub mod reply;
