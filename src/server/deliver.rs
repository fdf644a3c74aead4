//! Doing what handlers have asked for.

use super::start::log_level;
use super::{FIRST_LISTENER, Server, log_options, logger};
use crate::config::{self, Config};
use crate::engine::effects::{Action, Discarded};
use crate::net::listener::Listener;
use crate::resp::reply::Reply;
use mio::Token;
use std::io;
use std::thread;

impl Server {
    /// Does what the command that client `key` has just run asked for. Its reply begins at
    /// `reply_start` of the output buffer, in case it has to be taken back.
    pub(super) fn deliver(&mut self, key: usize, reply_start: usize) {
        let actions = std::mem::take(&mut self.engine.effects.actions);
        for action in actions {
            match action {
                Action::Discard(databases) => free_elsewhere(databases),
                Action::Rewrite => self.rewrite.requested = true,
                Action::Kill(ids) => self.kill(key, &ids),
                Action::Shutdown(shutdown) => self.shut_down(key, shutdown, reply_start),
                Action::Reconfigure { changed, previous } => {
                    if let Err((name, why)) = self.reconfigure(&changed, &previous) {
                        self.engine.registries.config = *previous;
                        let error = config::set_failed(name.as_bytes(), &why);
                        self.replace_reply(key, reply_start, &error);
                    }
                }
                Action::LoadAppendOnlyFile => {
                    if let Err(e) = self.reload() {
                        log::warn!("DEBUG LOADAOF: {e}");
                        self.replace_reply(key, reply_start, format!("ERR {e}").as_bytes());
                    }
                }
                Action::ResetStatistics => self.engine.registries.stats.reset(),
            }
        }
    }

    /// Puts an error in the place of the reply that was written for a command whose action has
    /// failed. Inside a transaction the reply stands among others and stays.
    pub(super) fn replace_reply(&mut self, key: usize, reply_start: usize, error: &[u8]) {
        let connection = &mut self.connections[key];
        let is_exec = connection.last_command.is_some_and(|c| c.spec.name == "exec");
        if is_exec {
            return log::warn!("In a transaction: {}", String::from_utf8_lossy(error));
        }
        let protocol = connection.session.protocol;
        let out = connection.outbox.buffer();
        out.truncate(reply_start);
        Reply::new(out, protocol).error(error);
        self.engine.registries.stats.count_error(error);
        self.cover_reply(key, None, false);
    }

    fn kill(&mut self, killer: usize, ids: &[u64]) {
        let doomed: Vec<usize> = (self.connections.iter())
            .filter(|(_, connection)| ids.contains(&connection.session.id))
            .map(|(key, _)| key)
            .collect();
        for key in doomed {
            if key == killer {
                // It still gets the reply.
                self.connections[key].session.close_after_reply = true;
            } else {
                self.doom(key);
            }
        }
    }

    /// Puts changed parameters into practice.
    ///
    /// # Errors
    /// The parameter that could not be, and why; the caller goes back to `previous`.
    fn reconfigure(
        &mut self,
        changed: &[&'static str],
        previous: &Config,
    ) -> Result<(), (&'static str, String)> {
        for &name in changed {
            self.apply(name, previous).map_err(|why| (name, why))?;
        }
        Ok(())
    }

    fn apply(&mut self, name: &str, previous: &Config) -> Result<(), String> {
        let config = &self.engine.registries.config;
        match name {
            "port" | "bind" => self.rebind(previous)?,
            "loglevel" => logger::set_level(log_level(config.loglevel)),
            "maxclients" => {
                let wanted = config.maxclients;
                let got = super::start::clients_possible(wanted);
                if got < wanted {
                    return Err(format!(
                        "The operating system is not able to handle the specified number of \
                         clients, try with {got}"
                    ));
                }
            }
            "requirepass" if config.requirepass.is_none() => {
                for (_, connection) in &mut self.connections {
                    connection.session.authenticated = true;
                }
            }
            "appendfsync"
            | "aof-seals"
            | "auto-aof-rewrite-percentage"
            | "auto-aof-rewrite-min-size"
            | "aof-rewrite-incremental-fsync" => {
                self.log.set_options(log_options(config), self.now)
            }
            "appendonly" => self.switch_log(config.appendonly)?,
            _ => {}
        }
        Ok(())
    }

    /// `appendonly yes` and `no`, while running.
    fn switch_log(&mut self, on: bool) -> Result<(), String> {
        if !on {
            return self.log.turn_off(self.now);
        }
        if self.lock.is_none() {
            let lock = super::start::acquire_lock(&self.engine.registries.config);
            self.lock = Some(lock.map_err(|e| e.to_string())?);
        }
        self.log.turn_on();
        Ok(())
    }

    /// Listens where the configuration now says; where it said before, if that is not possible.
    fn rebind(&mut self, previous: &Config) -> Result<(), String> {
        // The old sockets go first: they may hold the very addresses.
        self.listeners.retain(|listener| matches!(listener, Listener::Unix(_)));
        let bound = super::start::bind(&self.engine.registries.config);
        let outcome = match bound {
            Ok(listeners) => {
                self.listeners.extend(listeners);
                Ok(())
            }
            Err(e) => {
                log::warn!("{e}");
                match super::start::bind(previous) {
                    Ok(listeners) => self.listeners.extend(listeners),
                    Err(e) => log::error!("{e}. No longer listening there."),
                }
                Err("Unable to listen on this port. Check server logs.".to_owned())
            }
        };
        self.register_listeners().map_err(|e| e.to_string()).and(outcome)
    }

    /// Has the poll watch all listeners, each under the token of its place.
    pub(super) fn register_listeners(&mut self) -> io::Result<()> {
        let registry = self.poll.registry();
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            // Not watched yet, or under another token: both are put right by what follows.
            let _ = registry.deregister(listener.source());
            listener.register(registry, Token(FIRST_LISTENER + index))?;
        }
        Ok(())
    }
}

/// Frees what FLUSHALL ASYNC took away without holding up the loop. Seldom enough for a thread of
/// its own; where none can be had, it is freed here.
fn free_elsewhere(databases: Discarded) {
    let spawned = thread::Builder::new().name("lazyfree".into()).spawn(move || drop(databases));
    if let Err(e) = spawned {
        log::warn!("Freeing a flushed database on the loop: no thread for it: {e}");
    }
}
