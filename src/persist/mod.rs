//! The append-only file: format, log, gate, syncer, rewrite, load.

pub mod background;
pub mod base;
mod chain;
mod diff;
pub mod format;
pub mod gate;
mod handoff;
pub mod load;
pub mod lock;
pub mod log;
pub mod rewrite;
pub mod storage;
mod syncer;
mod tail;

pub use chain::Stop;

#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
