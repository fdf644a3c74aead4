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
                        let error = config::set_failed(name.as_bytes(), &why);
                        self.replace_reply(key, reply_start, &error);
                    } else if changed.contains(&"appendonly") {
                        self.await_log_switch(key, reply_start);
                    }
                }
                Action::LoadAppendOnlyFile => {
                    if let Err(e) = self.reload() {
                        log::warn!("DEBUG LOADAOF: {e}");
                        self.replace_reply(key, reply_start, format!("ERR {e}").as_bytes());
                    }
                }
                Action::Monitor => {
                    let client = self.connections[key].session.id;
                    self.attention.monitors.push((key, client));
                }
                Action::WaitDurable(wait) => self.wait_durable(key, wait),
                Action::RewriteConfiguration => self.rewrite_config_file(key, reply_start),
                Action::ResetStatistics => self.reset_statistics(),
            }
        }
    }

    /// The counters that commands can reach were reset by the command itself: in a transaction
    /// those behind it have counted already.
    fn reset_statistics(&mut self) {
        let registries = &mut self.engine.registries;
        registries.figures.longest_turn_us = 0;
        registries.figures.longest_log_write_us = 0;
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

    /// Puts changed parameters into practice, all or none.
    ///
    /// # Errors
    /// The parameter that could not be, and why; the configuration is `previous` again.
    fn reconfigure(
        &mut self,
        changed: &[&'static str],
        previous: &Config,
    ) -> Result<(), (&'static str, String)> {
        let named = |names: &[&str]| changed.iter().copied().find(|name| names.contains(name));
        let listens_elsewhere = named(&["port", "bind"]);
        // What can fail comes first. A policy that had been loosened ahead of a failure would stay
        // so behind an error reply.
        let mut outcome = Ok(());
        if let Some(name) = named(&["maxclients"]) {
            outcome = self.check_maxclients().map_err(|why| (name, why));
        }
        if let (Ok(()), Some(name)) = (&outcome, listens_elsewhere) {
            outcome = self.rebind(previous).map_err(|why| (name, why));
        }
        if let (Ok(()), Some(name)) = (&outcome, named(&["appendonly"])) {
            outcome = self.switch_log().map_err(|why| (name, why));
            if outcome.is_err() && listens_elsewhere.is_some() {
                let wanted = self.restore(previous);
                if let Err(e) = self.rebind(&wanted) {
                    log::error!("Going back to the addresses before: {e}");
                }
            }
        }
        if outcome.is_err() {
            self.restore(previous);
            return outcome;
        }
        changed.iter().for_each(|name| self.apply(name));
        Ok(())
    }

    /// Makes `previous` the configuration again; returns the one that it was.
    fn restore(&mut self, previous: &Config) -> Config {
        std::mem::replace(&mut self.engine.registries.config, previous.clone())
    }

    fn check_maxclients(&self) -> Result<(), String> {
        let wanted = self.engine.registries.config.maxclients;
        let got = super::start::clients_possible(wanted);
        if got >= wanted {
            return Ok(());
        }
        Err(format!(
            "The operating system is not able to handle the specified number of clients, try with \
             {got}"
        ))
    }

    /// Puts a parameter into practice that cannot fail.
    fn apply(&mut self, name: &str) {
        let config = &self.engine.registries.config;
        match name {
            "loglevel" => logger::set_level(log_level(config.loglevel)),
            "requirepass" if config.requirepass.is_none() => {
                for (_, connection) in &mut self.connections {
                    connection.session.authenticated = true;
                }
            }
            "appendfsync"
            | "aof-seals"
            | "auto-aof-rewrite-percentage"
            | "auto-aof-rewrite-min-size"
            | "aof-rewrite-incremental-fsync"
            | "aof-rewrite-timeout" => self.log.set_options(log_options(config), self.now),
            _ => {}
        }
    }

    /// `appendonly yes` and `no`, while running.
    fn switch_log(&mut self) -> Result<(), String> {
        if !self.engine.registries.config.appendonly {
            return self.log.turn_off(self.now);
        }
        self.hold_lock()?;
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
