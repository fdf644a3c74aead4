//! One file a family: its table rows next to its handlers.

pub mod bitfield;
pub mod bits;
pub mod client;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod counter;
pub mod debug;
pub mod digest;
mod docs;
#[cfg(test)]
mod eviction_tests;
pub mod expire;
pub mod info;
pub mod introspection;
pub mod keys;
pub mod latency;
pub mod lcs;
pub mod lolwut;
pub mod memory;
pub mod object;
mod options;
pub mod range;
pub mod rename;
pub mod replication;
pub mod scan;
pub mod server;
pub mod slowlog;
pub mod string;
mod tracking;
pub mod transaction;
pub mod wait;

use crate::engine::command::{CommandSpec, CommandTable};

/// Every family's rows.
static FAMILIES: &[&[CommandSpec]] = &[
    string::ROWS,
    range::ROWS,
    lcs::ROWS,
    counter::ROWS,
    bits::ROWS,
    bitfield::ROWS,
    keys::ROWS,
    rename::ROWS,
    object::ROWS,
    expire::ROWS,
    scan::ROWS,
    transaction::ROWS,
    connection::ROWS,
    client::ROWS,
    config::ROWS,
    info::ROWS,
    latency::ROWS,
    memory::ROWS,
    server::ROWS,
    lolwut::ROWS,
    wait::ROWS,
    introspection::ROWS,
    debug::ROWS,
    slowlog::ROWS,
    cluster::ROWS,
    replication::ROWS,
];

/// The table of all commands.
#[must_use]
pub fn table() -> CommandTable {
    CommandTable::new(FAMILIES)
}

/// A bench that knows all commands.
#[cfg(test)]
fn bench() -> crate::engine::testing::Bench {
    crate::engine::testing::Bench::new(FAMILIES)
}
