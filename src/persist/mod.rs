//! The append-only file: format, log, gate, syncer, rewrite, load.

pub mod background;
pub mod base;
pub mod diff;
pub mod format;
pub mod gate;
pub mod lock;
pub mod storage;
pub mod tail;
pub mod log;
