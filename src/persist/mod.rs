//! The append-only file. In reading order:
//!
//! - the file: [`mod@format`] (the bytes), `records` (commands in it), `chain` (reads along the seals),
//!   `search` (what stands behind damage), [`damage`] (what it means), `reader` (reads ahead on a
//!   thread), [`load`] (replays, cuts or refuses), [`check`] (tells without starting, repairs),
//!   [`tools`] (make another log out of one), `tail` (writes groups at the end), [`import`] (takes
//!   over what Redis has written);
//! - the log: [`log`] (buffer, offsets, one write a turn, when to sync), [`gate`] (how far replies
//!   may leave), `syncer`, `faults` (writes and syncs that fail), `lifecycle` (how it begins and
//!   ends), [`figures`];
//! - the rewrite: `due` (when one begins), [`rewrite`] (its phases up to the child's end), [`base`]
//!   (what the child writes), `diff` (what happens meanwhile), `reread` (the part of it that memory
//!   had no room for), `joining` (the phases behind the child's end), `handoff` (the helper's steps),
//!   `kept` (files from before);
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
mod due;
mod faults;
pub mod figures;
pub mod format;
pub mod gate;
mod handoff;
pub mod import;
mod joining;
mod kept;
mod lifecycle;
pub mod load;
pub mod lock;
pub mod log;
mod reader;
mod records;
mod reread;
pub mod rewrite;
mod search;
pub mod storage;
mod syncer;
mod tail;
pub mod tools;

pub use chain::Stop;

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod faults_tests;
#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod rewrite_tests;
#[cfg(test)]
mod search_tests;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
