//! The append-only file. In reading order:
//!
//! - the file: [`mod@format`] (the bytes), `records` (commands in it), `chain` (reads along the seals),
//!   `search` (what stands behind damage), [`damage`] (what it means), `reader` (reads ahead on a
//!   thread), [`load`] (replays, cuts or refuses), [`check`] (tells without starting, repairs),
//!   `tail` (writes groups at the end);
//! - the log: [`log`] (buffer, offsets, one write a turn, when to sync), [`gate`] (how far replies
//!   may leave), `syncer`, `faults` (writes and syncs that fail), `lifecycle` (how it begins and
//!   ends), [`figures`];
//! - the rewrite: [`rewrite`] (its phases), [`base`] (what the child writes), `diff` (what happens
//!   meanwhile), `handoff` (the helper's steps);
//! - below them: [`storage`] (the seam to the disk), [`background`] (a helper thread), [`lock`].
//!
//! `docs/aof-format.md` draws the file for people.

pub mod background;
pub mod base;
mod beside;
mod chain;
pub mod check;
pub mod damage;
mod diff;
mod faults;
pub mod figures;
pub mod format;
pub mod gate;
mod handoff;
mod lifecycle;
pub mod load;
pub mod lock;
pub mod log;
mod reader;
mod records;
pub mod rewrite;
mod search;
pub mod storage;
mod syncer;
mod tail;

pub use chain::Stop;

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
