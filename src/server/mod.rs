//! The loop, and all it owns.

pub mod logger;
