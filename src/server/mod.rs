//! The loop, and all it owns.
