//! The operating system: every unsafe line and every call that nix lacks.

pub mod clock;
pub mod file;
