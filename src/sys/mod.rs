//! The operating system: every unsafe line and every call that nix lacks.

pub mod clock;
pub mod courtesy;
pub mod file;
pub mod huge_pages;
pub mod limits;
pub mod local_time;
pub mod memory;
pub mod process;
pub mod random;
pub mod schedule;
pub mod shared;
pub mod signals;
pub mod socket;
pub mod ticks;
