//! Doing what handlers have asked for.

use super::start::log_level;
use super::{FIRST_LISTENER, Server, log_options, logger};
use crate::config::{self, Config};
use crate::engine::effects::Action;
use crate::net::connection::Blocked;
use crate::net::listener::Listener;
use crate::resp::reply::{Protocol, Reply};
use mio::Token;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ops::Range;

impl Server {
    /// Does what the command that client `key` has just run asked for, or the commands of a
    /// transaction one after the other. Their whole reply begins at `reply_start` of the output
    /// buffer; that of a command whose action fails is replaced by an error.
    pub(super) fn deliver(&mut self, key: usize, reply_start: usize) {
        let mut asked = self.engine.effects.take_actions();
        let mut wanted = self.rewind_configuration(&mut asked);
        // Errors are longer or shorter than what they replace.
        let mut shift = 0;
        let (mut switch, mut config_rewrites, mut freeing) = (None, Vec::new(), None);
        for (action, reply) in asked {
            let place = shifted(&reply, shift);
            let outcome = match action {
                Action::Rewrite => match self.room_for_rewrite() {
                    Ok(()) => {
                        self.request_rewrite(key, place.clone());
                        Ok(())
                    }
                    Err(e) => Err(format!("ERR {e}").into_bytes()),
                },
                Action::Kill(ids) => {
                    self.kill(key, &ids);
                    Ok(())
                }
                Action::Shutdown(shutdown) => self.shut_down(shutdown),
                Action::Reconfigure { changed, .. } => {
                    let wanted = wanted.pop_front().unwrap_or_default();
                    let outcome = self.reconfigure(&changed, &wanted);
                    if outcome.as_ref().is_ok_and(|changed| changed.contains(&"appendonly")) {
                        switch = Some(place.clone());
                    }
                    outcome
                        .map(drop)
                        .map_err(|(name, why)| config::set_failed(name.as_bytes(), &why))
                }
                Action::LoadAppendOnlyFile => self.reload().map_err(|e| {
                    log::warn!("DEBUG LOADAOF: {e}");
                    format!("ERR {e}").into_bytes()
                }),
                Action::Monitor => {
                    let client = self.connections[key].session.id;
                    self.attention.monitors.push((key, client));
                    Ok(())
                }
                Action::WaitDurable(wait) => {
                    self.wait_durable(key, wait);
                    Ok(())
                }
                Action::WaitReplicas(timeout_ms) => {
                    self.wait_replicas(key, timeout_ms);
                    Ok(())
                }
                Action::Unblock { id, with_error } => {
                    self.unblock_client(id, with_error);
                    Ok(())
                }
                Action::RewriteConfiguration => {
                    config_rewrites.push(place.clone());
                    Ok(())
                }
                Action::AwaitFreeing => {
                    self.free_garbage();
                    freeing = Some(self.lazyfree.handed());
                    Ok(())
                }
                Action::ResetStatistics => {
                    self.reset_statistics();
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                shift += self.replace_reply(key, place, &error);
            }
        }
        let mut waits = VecDeque::new();
        // Of several switches in one transaction the last one counts, and is waited for: the new file
        // durable, or everything appended so far.
        if let Some(place) = switch.filter(|_| self.log.is_switching()) {
            let on = self.engine.registries.config.appendonly;
            waits.push_back((Blocked::LogSwitch { on }, vec![place]));
        }
        // One file for all that ask in a transaction: with the configuration that it leaves.
        if !config_rewrites.is_empty() {
            waits.push_back((Blocked::ConfigRewrite, config_rewrites));
        }
        if let Some(target) = freeing {
            waits.push_back((Blocked::Freeing { target }, Vec::new()));
        }
        if !waits.is_empty() {
            self.hold(key, reply_start, waits);
        }
    }

    /// The counters that commands can reach were reset by the command itself: in a transaction
    /// those behind it have counted already.
    fn reset_statistics(&mut self) {
        let registries = &mut self.engine.registries;
        registries.figures.longest_turn_us = 0;
        registries.figures.longest_log_write_us = 0;
        self.lazyfree.reset_statistics();
    }

    /// Takes back what CONFIG SET has set, so that the changes can be put into practice one by
    /// one, each with those before it that could be. Returns the configuration that each wants.
    fn rewind_configuration(
        &mut self,
        asked: &mut [(Action, Range<usize>)],
    ) -> VecDeque<Box<Config>> {
        let config = &mut self.engine.registries.config;
        let mut wanted = VecDeque::new();
        for (action, _) in asked.iter_mut().rev() {
            if let Action::Reconfigure { previous, .. } = action {
                let after = mem::replace(config, mem::take(&mut **previous));
                wanted.push_front(Box::new(after));
            }
        }
        wanted
    }

    /// Puts an error in the place of the reply that was written for a command whose action has
    /// failed. Returns by how much the output buffer grew.
    fn replace_reply(&mut self, key: usize, place: Range<usize>, error: &[u8]) -> isize {
        self.engine.registries.stats.count_error(error);
        let connection = &mut self.connections[key];
        // To one who wants no reply an error is none either.
        if connection.session.replies.is_mute() {
            return 0;
        }
        let protocol = connection.session.protocol;
        let grown = put_error(connection.outbox.buffer(), place, error, protocol);
        self.cover_reply(key, None, false);
        grown
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

    /// Gives the parameters `names` the values they have in `wanted` and puts them into practice,
    /// all or none. Returns those that changed.
    ///
    /// # Errors
    /// The parameter that could not be, and why; the configuration is then what it was.
    fn reconfigure(
        &mut self,
        names: &[&'static str],
        wanted: &Config,
    ) -> Result<Vec<&'static str>, (&'static str, String)> {
        let previous = &self.engine.registries.config.clone();
        let changed = config::differing(names, previous, wanted);
        if let Err(e) = config::copy_values(&changed, wanted, &mut self.engine.registries.config) {
            self.restore(previous);
            return Err(e);
        }
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
        if let Err(e) = outcome {
            self.restore(previous);
            return Err(e);
        }
        changed.iter().for_each(|name| self.apply(name));
        Ok(changed)
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
            "maxmemory" => self.limit_memory(),
            "appendfsync"
            | "aof-seals"
            | "auto-aof-rewrite-percentage"
            | "auto-aof-rewrite-min-size"
            | "aof-rewrite-incremental-fsync"
            | "aof-rewrite-timeout"
            | "aof-rewrite-diff-max"
            | "aof-max-size"
            | "aof-keep-before-rewrite" => self.log.set_options(log_options(config), self.now),
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

/// `reply`, which has moved by `shift` since.
pub(super) fn shifted(reply: &Range<usize>, shift: isize) -> Range<usize> {
    reply.start.saturating_add_signed(shift)..reply.end.saturating_add_signed(shift)
}

/// Replaces `place` of `out` by an error; returns by how much `out` grew.
pub(super) fn put_error(
    out: &mut Vec<u8>,
    place: Range<usize>,
    error: &[u8],
    protocol: Protocol,
) -> isize {
    let mut text = Vec::new();
    Reply::new(&mut text, protocol).error(error);
    let place = place.start.min(out.len())..place.end.min(out.len());
    let grown = text.len() as isize - place.len() as isize;
    out.splice(place, text);
    grown
}
