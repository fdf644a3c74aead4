//! Clients whose last command waits for something: WAITAOF for a sync, WAIT for its time to be over,
//! CONFIG SET appendonly for the log being on or off, BGREWRITEAOF for the fork, CONFIG REWRITE for
//! the file, FLUSHALL SYNC for the memory, any command for the end of CLIENT PAUSE. Nothing more of
//! theirs is run until it has come.

use super::Server;
use super::deliver::{put_error, shifted};
use super::rewrite::ALREADY_RUNNING;
use crate::commands::wait;
use crate::config;
use crate::engine::effects::WaitDurable;
use crate::net::connection::{Blocked, HeldReply, Wait};
use crate::resp::args::OwnedArgs;
use crate::resp::reply::Reply;
use crate::sys::clock::MonoUs;
use std::collections::VecDeque;
use std::ops::Range;

const UNBLOCKED: &[u8] = b"UNBLOCKED client unblocked via CLIENT UNBLOCK";

impl Server {
    /// Holds client `key` until what it asks for is durable.
    pub(super) fn wait_durable(&mut self, key: usize, wait: WaitDurable) {
        if wait.local {
            // Whatever the policy: somebody waits.
            self.log.want_durable(wait.offset);
        }
        let until = self.end_of_patience(wait.timeout_ms);
        self.block(key, Blocked::Durable { wait, until });
    }

    /// Holds client `key` for so many milliseconds, or for ever if 0.
    pub(super) fn wait_replicas(&mut self, key: usize, timeout_ms: u64) {
        let until = self.end_of_patience(timeout_ms);
        self.block(key, Blocked::Replicas { until });
    }

    fn end_of_patience(&self, timeout_ms: u64) -> Option<MonoUs> {
        let patience_us = timeout_ms.saturating_mul(1_000);
        (timeout_ms > 0).then(|| MonoUs(self.now.mono.0.saturating_add(patience_us)))
    }

    /// Holds client `key` until the pause is over and its command can be tried again.
    pub(super) fn postpone(&mut self, key: usize, args: OwnedArgs) {
        self.connections[key].postponed = Some(Box::new(args));
        self.block(key, Blocked::Paused);
    }

    /// Has a rewrite begun. BGREWRITEAOF, whose reply stands at `place`, says that it was once it
    /// was, before the loop sleeps; inside a transaction, that it is scheduled.
    pub(super) fn request_rewrite(&mut self, key: usize, place: Range<usize>) {
        self.rewrite.requested = true;
        let connection = &self.connections[key];
        if connection.last_command.is_none_or(|command| command.spec.name != "exec") {
            self.hold(key, place.start, [(Blocked::Rewrite, vec![place])].into());
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

    /// Holds the reply of client `key` from `reply_start` on, that of a transaction as a whole,
    /// until all that it waits for has come or failed.
    pub(super) fn hold(&mut self, key: usize, reply_start: usize, mut waits: VecDeque<Wait>) {
        let connection = &mut self.connections[key];
        let gate = connection.outbox.last_gate();
        let bytes = connection.outbox.buffer().split_off(reply_start);
        let start = -isize::try_from(reply_start).unwrap_or(isize::MAX);
        let places = waits.iter_mut().flat_map(|(_, places)| places);
        places.for_each(|place| *place = shifted(place, start));
        connection.held = Some(Box::new(HeldReply { bytes, waits, gate }));
        self.cover_reply(key, None, false);
        self.begin_wait(key);
    }

    /// Has client `key` wait for the first thing that its held reply waits for.
    fn begin_wait(&mut self, key: usize) {
        let held = self.connections[key].held.as_ref();
        let Some(&(blocked, _)) = held.and_then(|held| held.waits.front()) else { return };
        self.block(key, blocked);
        match blocked {
            Blocked::ConfigRewrite => self.rewrite_config_file(key),
            Blocked::LogSwitch { .. } if !self.log.is_switching() => {
                self.release_held(key, Ok(()));
            }
            _ => {}
        }
    }

    /// What the held reply of client `key` waits for first has come, or failed with an error, which
    /// takes the place of the replies that would have said otherwise. If it waits for nothing else,
    /// the client gets it, and its requests go on.
    pub(super) fn release_held(&mut self, key: usize, outcome: Result<(), &[u8]>) {
        let connection = &mut self.connections[key];
        let client = connection.session.id;
        self.attention.blocked.retain(|(_, blocked)| *blocked != client);
        connection.blocked = None;
        let Some(mut held) = connection.held.take() else { return };
        let places = held.waits.pop_front().map(|(_, places)| places).unwrap_or_default();
        let is_mute = connection.session.replies.is_mute();
        if let Err(error) = outcome {
            // From the last to the first, so that none moves another that is to come.
            for place in places.into_iter().rev() {
                self.engine.registries.stats.count_error(error);
                if is_mute {
                    continue;
                }
                let (end, protocol) = (place.end, connection.session.protocol);
                let grown = put_error(&mut held.bytes, place, error, protocol);
                let others = held.waits.iter_mut().flat_map(|(_, places)| places);
                let behind = others.filter(|other| other.start >= end);
                behind.for_each(|other| *other = shifted(other, grown));
            }
        }
        if !held.waits.is_empty() {
            connection.held = Some(held);
            return self.begin_wait(key);
        }
        connection.session.replies.end_command();
        let HeldReply { bytes, gate, .. } = *held;
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
                Some(Blocked::Durable { until, .. } | Blocked::Replicas { until }) => until,
                Some(Blocked::Paused) => Some(self.end_of_pause()),
                Some(
                    Blocked::LogSwitch { .. }
                    | Blocked::Rewrite
                    | Blocked::ConfigRewrite
                    | Blocked::Freeing { .. },
                )
                | None => None,
            }
        });
        ends.min()
    }

    fn end_of_pause(&self) -> MonoUs {
        let ends = self.engine.registries.pause.map_or(self.now.unix, |pause| pause.until);
        let left_ms = ends.0.saturating_sub(self.now.unix.0).max(0).unsigned_abs();
        MonoUs(self.now.mono.0.saturating_add(left_ms.saturating_mul(1_000)))
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
            let is_over = |until: Option<MonoUs>| until.is_some_and(|t| self.now.mono >= t);
            let is_served = match waits_for {
                Blocked::Durable { wait, until } => {
                    let is_served = !wait.local || self.is_durable(wait);
                    (wait.local && self.log.is_off())
                        || (is_served && !wait.replicas)
                        || is_over(until)
                }
                Blocked::Replicas { until } => is_over(until),
                Blocked::Paused => self.engine.registries.paused(self.now.unix).is_none(),
                Blocked::Freeing { target } => self.lazyfree.has_freed(target),
                Blocked::LogSwitch { .. } | Blocked::Rewrite | Blocked::ConfigRewrite => false,
            };
            if is_served {
                self.end_wait(key, waits_for);
            } else {
                self.attention.blocked.push((key, client));
            }
        }
    }

    fn is_durable(&self, wait: WaitDurable) -> bool {
        self.log.is_in_force() && self.log.durable() >= wait.offset
    }

    /// Ends a wait as it ends by itself: with what there is to tell, or with another try.
    fn end_wait(&mut self, key: usize, waits_for: Blocked) {
        match waits_for {
            Blocked::Durable { wait, .. } if wait.local && self.log.is_off() => {
                self.engine.registries.stats.count_error(wait::LOG_IS_OFF.text());
                self.unblock(key, |reply| reply.error(wait::LOG_IS_OFF.text()));
            }
            Blocked::Durable { wait, .. } => {
                let is_durable = self.is_durable(wait);
                self.unblock(key, |reply| {
                    reply.array(2);
                    reply.integer(i64::from(is_durable));
                    reply.integer(0);
                });
            }
            Blocked::Replicas { .. } => self.unblock(key, |reply| reply.integer(0)),
            // What it runs may change the keyspace: that has its place early in a turn, ahead of the
            // log being written.
            Blocked::Paused => {
                self.connections[key].blocked = None;
                self.mark_ready(key);
            }
            Blocked::Freeing { .. } => self.release_held(key, Ok(())),
            // Each is ended by whoever does what is waited for.
            Blocked::LogSwitch { .. } | Blocked::Rewrite | Blocked::ConfigRewrite => {}
        }
    }

    /// Runs the command that client `key` sent during a pause, if the wait for its end is over.
    pub(super) fn run_postponed(&mut self, key: usize) {
        let stops = self.exit.is_some();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_at_end = connection.is_doomed || connection.session.close_after_reply;
        if stops || connection.blocked.is_some() || is_at_end {
            return;
        }
        if let Some(mut args) = connection.postponed.take() {
            self.engine.registries.calls.interrupt();
            self.run_args(key, &mut args.as_args());
        }
    }

    /// CLIENT UNBLOCK: ends the wait of client `id` ahead of its time, with an error or as if the time
    /// had come. Does nothing if it does not wait for what may not come.
    pub(super) fn unblock_client(&mut self, id: u64, with_error: bool) {
        let mut connections = self.connections.iter();
        let Some((key, connection)) = connections.find(|(_, c)| c.session.id == id) else { return };
        let Some(waits_for) = connection.blocked else { return };
        if !matches!(waits_for, Blocked::Durable { .. } | Blocked::Replicas { .. }) {
            return;
        }
        self.attention.blocked.retain(|(_, client)| *client != id);
        if with_error {
            self.engine.registries.stats.count_error(UNBLOCKED);
            self.unblock(key, |reply| reply.error(UNBLOCKED));
        } else {
            self.end_wait(key, waits_for);
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
    pub(super) fn unblock(&mut self, key: usize, write: impl FnOnce(&mut Reply<'_>)) {
        let connection = &mut self.connections[key];
        connection.blocked = None;
        write(&mut connection.reply());
        connection.session.replies.end_command();
        self.cover_reply(key, None, false);
        self.mark_ready(key);
    }
}
