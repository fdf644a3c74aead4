//! The Redis protocol: arguments, parsing, replies, encoding.

pub mod args;
pub mod encode;
pub mod parse;
pub mod reply;
