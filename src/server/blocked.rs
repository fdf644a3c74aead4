//! Clients whose last command waits for something: WAITAOF for a sync, CONFIG SET appendonly for the
//! log being on or off. Nothing more of theirs is run until it has come.

use super::Server;
use crate::config;
use crate::engine::effects::WaitDurable;
use crate::net::connection::Blocked;
use crate::resp::reply::Reply;
use crate::sys::clock::MonoUs;

impl Server {
    /// Holds client `key` until what it asks for is durable.
    pub(super) fn wait_durable(&mut self, key: usize, wait: WaitDurable) {
        if wait.local {
            // Whatever the policy: somebody waits.
            self.log.want_durable(wait.offset);
        }
        let patience_us = wait.timeout_ms.saturating_mul(1_000);
        let until =
            (wait.timeout_ms > 0).then(|| MonoUs(self.now.mono.0.saturating_add(patience_us)));
        self.block(key, Blocked::Durable { wait, until });
    }

    /// Takes the reply of CONFIG SET appendonly back until the log is on or off: the new file
    /// durable, or everything appended so far. Inside a transaction the reply stands among others
    /// and stays.
    pub(super) fn await_log_switch(&mut self, key: usize, reply_start: usize) {
        let connection = &mut self.connections[key];
        let is_exec = connection.last_command.is_some_and(|c| c.spec.name == "exec");
        if is_exec || !self.log.is_switching() {
            return;
        }
        connection.outbox.buffer().truncate(reply_start);
        self.cover_reply(key, None, false);
        let on = self.engine.registries.config.appendonly;
        self.block(key, Blocked::LogSwitch { on });
    }

    /// Holds client `key`, whose reply is yet to be made.
    pub(super) fn block(&mut self, key: usize, blocked: Blocked) {
        let connection = &mut self.connections[key];
        connection.blocked = Some(blocked);
        self.attention.blocked.push((key, connection.session.id));
    }

    /// When the first blocked client gives up.
    pub(super) fn next_end_of_patience(&self) -> Option<MonoUs> {
        let blocked = self.attention.blocked.iter();
        let ends = blocked.filter_map(|(key, client)| {
            let connection = self.connections.get(*key).filter(|c| c.session.id == *client)?;
            match connection.blocked {
                Some(Blocked::Durable { until, .. }) => until,
                _ => None,
            }
        });
        ends.min()
    }

    /// Answers the blocked clients whose wait is over.
    pub(super) fn serve_blocked(&mut self) {
        self.look_after_config_rewrite();
        if self.attention.blocked.is_empty() {
            return;
        }
        let blocked = std::mem::take(&mut self.attention.blocked);
        for (key, client) in blocked {
            let connection = self.connections.get(key).filter(|c| c.session.id == client);
            let Some(waits_for) = connection.and_then(|c| c.blocked) else { continue };
            let Blocked::Durable { wait, until } = waits_for else {
                self.attention.blocked.push((key, client));
                continue;
            };
            let is_durable = self.log.durable() >= wait.offset;
            let is_over = until.is_some_and(|until| self.now.mono >= until);
            if ((is_durable || !wait.local) && !wait.replicas) || is_over {
                self.unblock(key, |reply| {
                    reply.array(2);
                    reply.integer(i64::from(is_durable));
                    reply.integer(0);
                });
            } else {
                self.attention.blocked.push((key, client));
            }
        }
    }

    /// The log has been switched on or off, or could not be: those who asked for it hear of it.
    pub(super) fn log_switched(&mut self, on: bool, outcome: Result<(), &str>) {
        let waiting: Vec<(usize, bool)> = (self.connections.iter())
            .filter_map(|(key, connection)| match connection.blocked {
                Some(Blocked::LogSwitch { on }) => Some((key, on)),
                _ => None,
            })
            .collect();
        for (key, wanted) in waiting {
            // Somebody else may have asked for the opposite meanwhile.
            let outcome = if wanted == on { outcome } else { Err("It was switched back") };
            let client = self.connections[key].session.id;
            self.attention.blocked.retain(|(_, blocked)| *blocked != client);
            self.unblock(key, |reply| match outcome {
                Ok(()) => reply.ok(),
                Err(why) => reply.error(&config::set_failed(b"appendonly", why)),
            });
        }
    }

    /// Makes the reply that client `key` has waited for, and goes on with its requests.
    pub(super) fn unblock(&mut self, key: usize, write: impl FnOnce(&mut Reply<'_>)) {
        let connection = &mut self.connections[key];
        connection.blocked = None;
        let protocol = connection.session.protocol;
        write(&mut Reply::new(connection.outbox.buffer(), protocol));
        self.cover_reply(key, None, false);
        self.mark_ready(key);
    }
}
