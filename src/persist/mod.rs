//! The append-only file: format, log, gate, syncer, rewrite, load.
