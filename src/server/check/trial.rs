//! A trial of a log's commands, on a keyspace of its own that nobody is served from.

use crate::commands;
use crate::config::{Config, ToolRequest};
use crate::engine::command::Flags;
use crate::engine::effects::Effects;
use crate::engine::execute;
use crate::engine::memory::MemoryAccount;
use crate::engine::registries::{Registries, SplitMix64};
use crate::engine::session::Session;
use crate::keyspace::{HashKey, Keyspace};
use crate::resp::args::Args;
use crate::server::Engine;
use crate::server::loading::{replay, replay_session};
use crate::sys::clock::Now;

/// Runs commands as a start would.
pub(super) struct Trial {
    engine: Engine,
    session: Session,
    now: Now,
}

impl Trial {
    /// On an empty keyspace.
    pub(super) fn new(request: &ToolRequest) -> Trial {
        let mut config = Config::default();
        config.databases = request.databases;
        config.proto_max_bulk_bytes = request.max_bulk_bytes;
        Trial {
            engine: Engine {
                keyspace: Keyspace::new(config.databases as usize, HashKey::random()),
                registries: Registries {
                    loading: true,
                    ..Registries::new(
                        config,
                        commands::table(),
                        MemoryAccount::of_this_thread(),
                        SplitMix64::new(0),
                    )
                },
                effects: Effects::default(),
            },
            session: replay_session(),
            now: Now::read(),
        }
    }

    /// Runs one.
    ///
    /// # Errors
    /// What a start would say against it.
    pub(super) fn run(&mut self, args: &mut Args<'_>) -> Result<(), String> {
        let result = replay(&mut self.engine, &mut self.session, args, self.now);
        let selects = args.get(0).is_some_and(|name| name.eq_ignore_ascii_case(b"SELECT"));
        result.map_err(|why| match (selects, args.get(1)) {
            (true, Some(db)) => format!(
                "Command 'SELECT {}', which fails with --databases {} (give the server's),",
                db.escape_ascii(),
                self.engine.registries.config.databases
            ),
            _ => why,
        })
    }

    /// Whether a start could run it on some data: it is known, has as many arguments as it must,
    /// and is one that a log can hold. Only a SELECT is run.
    ///
    /// # Errors
    /// What a start would say against it.
    pub(super) fn judge(&mut self, args: &mut Args<'_>) -> Result<(), String> {
        let table = &self.engine.registries.table;
        let name = String::from_utf8_lossy(args.get(0).unwrap_or(b""));
        let Ok(command) = execute::resolve(table, args) else {
            let is_known = table.find(args.get(0).unwrap_or(b"")).is_some();
            let what = if is_known { "Malformed" } else { "Unknown" };
            return Err(format!("{what} command '{name}'"));
        };
        if command.spec.name == "select" {
            return self.run(args);
        }
        if command.spec.flags.has(Flags::WRITE) {
            return Ok(());
        }
        Err(format!("Command '{name}', which changes nothing,"))
    }
}
