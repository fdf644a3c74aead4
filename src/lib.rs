//! `server_async`: a Redis-protocol server on one mio loop whose append-only file keeps its
//! promises.
//!
//! The modules in reading order, lowest layer first. Imports point downward only, and folders of
//! one layer never import each other (`tests/layers.rs` holds this):
//!
//! 0. [`text`]: numbers, words, patterns
//! 1. [`config`], [`sys`], [`resp`], [`data`]: parameters, the operating system, the protocol,
//!    values
//! 2. [`keyspace`]: the databases
//! 3. [`engine`], [`persist`]: running a command; making it last
//! 4. [`commands`], [`net`]: one file a family of commands; sockets
//! 5. [`server`]: owns all, and is the loop

pub mod commands;
pub mod config;
pub mod data;
pub mod engine;
pub mod keyspace;
pub mod net;
pub mod persist;
pub mod resp;
pub mod server;
pub mod sys;
pub mod text;

/// As in the binary, so that tests can count memory.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
