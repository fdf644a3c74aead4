//! One file a family: its table rows next to its handlers.

pub mod counter;
pub mod expire;
pub mod keys;
mod options;
pub mod scan;
pub mod string;

use crate::engine::command::{CommandSpec, CommandTable};

/// Every family's rows.
static FAMILIES: &[&[CommandSpec]] =
    &[string::ROWS, counter::ROWS, keys::ROWS, expire::ROWS, scan::ROWS];

/// The table of all commands.
#[must_use]
pub fn table() -> CommandTable {
    CommandTable::new(FAMILIES)
}
