//! One file a family: its table rows next to its handlers.

pub mod client;
pub mod config;
pub mod connection;
pub mod counter;
pub mod debug;
pub mod digest;
pub mod expire;
pub mod info;
pub mod introspection;
pub mod keys;
pub mod latency;
pub mod memory;
mod options;
pub mod scan;
pub mod server;
pub mod string;
pub mod transaction;
pub mod wait;

use crate::engine::command::{CommandSpec, CommandTable};

/// Every family's rows.
static FAMILIES: &[&[CommandSpec]] = &[
    string::ROWS,
    counter::ROWS,
    keys::ROWS,
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
    wait::ROWS,
    introspection::ROWS,
    debug::ROWS,
];

/// The table of all commands.
#[must_use]
pub fn table() -> CommandTable {
    CommandTable::new(FAMILIES)
}
