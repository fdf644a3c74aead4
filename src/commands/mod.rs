//! One file a family: its table rows next to its handlers.

use crate::engine::command::{CommandSpec, CommandTable};

/// Every family's rows.
static FAMILIES: &[&[CommandSpec]] = &[];

/// The table of all commands.
#[must_use]
pub fn table() -> CommandTable {
    CommandTable::new(FAMILIES)
}
