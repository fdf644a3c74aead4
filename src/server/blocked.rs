//! Clients whose last command waits for something: WAITAOF for a sync, CONFIG SET appendonly for the
//! log being on or off, BGREWRITEAOF for the fork. Nothing more of theirs is run until it has come.

use super::Server;
use super::deliver::put_error;
use super::rewrite::ALREADY_RUNNING;
use crate::commands::wait;
use crate::config;
use crate::engine::effects::WaitDurable;
use crate::net::connection::{Blocked, HeldReply};
use crate::resp::reply::Reply;
use crate::sys::clock::MonoUs;
use std::ops::Range;

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

    /// Holds the reply that begins at `reply_start`, that of a transaction as a whole, until the
    /// log is on or off as CONFIG SET appendonly said, whose own reply stands at `place`: the new
    /// file durable, or everything appended so far.
    pub(super) fn await_log_switch(&mut self, key: usize, reply_start: usize, place: Range<usize>) {
        if self.log.is_switching() {
            let on = self.engine.registries.config.appendonly;
            self.hold(key, reply_start, place, Blocked::LogSwitch { on });
        }
    }

    /// Has a rewrite begun. BGREWRITEAOF, whose reply stands at `place`, says that it was once it
    /// was, before the loop sleeps; inside a transaction, that it is scheduled.
    pub(super) fn request_rewrite(&mut self, key: usize, place: Range<usize>) {
        self.rewrite.requested = true;
        let connection = &self.connections[key];
        if connection.last_command.is_none_or(|command| command.spec.name != "exec") {
            self.hold(key, place.start, place, Blocked::Rewrite);
        }
    }

    /// Tells those who asked for a rewrite how it began. It is the first one's; to the others it
    /// runs already.
    pub(super) fn rewrite_begun(&mut self, outcome: Result<(), &'static str>) {
        let mut outcome = outcome;
        for (key, client) in self.attention.blocked.clone() {
            let connection = self.connections.get(key).filter(|c| c.session.id == client);
            if connection.is_some_and(|c| c.blocked == Some(Blocked::Rewrite)) {
                self.release_held(key, outcome.map_err(str::as_bytes));
                outcome = outcome.and(Err(ALREADY_RUNNING));
            }
        }
    }

    /// Holds the reply of client `key` from `reply_start` on; that at `place` may turn out to be
    /// an error.
    fn hold(&mut self, key: usize, reply_start: usize, place: Range<usize>, blocked: Blocked) {
        let connection = &mut self.connections[key];
        let gate = connection.outbox.last_gate();
        let bytes = connection.outbox.buffer().split_off(reply_start);
        let place = place.start.saturating_sub(reply_start)..place.end.saturating_sub(reply_start);
        connection.held = Some(Box::new(HeldReply { bytes, place, gate }));
        self.cover_reply(key, None, false);
        self.block(key, blocked);
    }

    /// Gives client `key` the reply that was held, with an error in its place if there is one, and
    /// goes on with its requests.
    fn release_held(&mut self, key: usize, outcome: Result<(), &[u8]>) {
        let connection = &mut self.connections[key];
        let client = connection.session.id;
        self.attention.blocked.retain(|(_, blocked)| *blocked != client);
        connection.blocked = None;
        let Some(held) = connection.held.take() else { return };
        let HeldReply { mut bytes, place, gate } = *held;
        if let Err(error) = outcome {
            put_error(&mut bytes, place, error, connection.session.protocol);
            self.engine.registries.stats.count_error(error);
        }
        connection.outbox.buffer().extend_from_slice(&bytes);
        // What a transaction wrote besides has kept its own gate.
        let gate = gate.max(connection.outbox.last_gate());
        connection.outbox.cover(gate, self.log.written());
        self.touch(key);
        self.mark_ready(key);
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
            if wait.local && self.log.is_off() {
                self.unblock(key, |reply| reply.error(wait::LOG_IS_OFF.text()));
                self.engine.registries.stats.count_error(wait::LOG_IS_OFF.text());
                continue;
            }
            let is_durable = self.log.is_in_force() && self.log.durable() >= wait.offset;
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
            let error = outcome.err().map(|why| config::set_failed(b"appendonly", why));
            self.release_held(key, error.as_deref().map_or(Ok(()), Err));
        }
    }

    /// Makes the reply that client `key` has waited for, and goes on with its requests.
    fn unblock(&mut self, key: usize, write: impl FnOnce(&mut Reply<'_>)) {
        let connection = &mut self.connections[key];
        connection.blocked = None;
        let protocol = connection.session.protocol;
        write(&mut Reply::new(connection.outbox.buffer(), protocol));
        self.cover_reply(key, None, false);
        self.mark_ready(key);
    }
}
