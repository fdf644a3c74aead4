//! Accepting, running requests, sending, closing.

use super::{FIRST_CONNECTION, Server};
use crate::engine::command::{Command, Flags};
use crate::engine::cx::Origin;
use crate::engine::execute::{self, Outcome};
use crate::engine::session::Session;
use crate::keyspace::KnownHashes;
use crate::net::connection::{Connection, Stream};
use crate::resp::args::Args;
use crate::resp::parse::ProtocolError;
use crate::resp::reply::Reply;
use mio::event::Event;
use mio::{Interest, Token};
use std::io::{self, Write};

/// Connections accepted in one turn, so that a storm of them cannot starve those that are there.
const ACCEPTS_PER_TURN: usize = 1_000;

/// Bounds what one client is sent in a turn: one that takes a huge reply as fast as it comes would not let
/// others have theirs before its end.
const SEND_BUDGET_BYTES: usize = 1 << 20;

const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";

const PROTECTED_MODE: &[u8] = b"-DENIED Redis is running in protected mode because protected mode \
is enabled and no password is set for the default user. In this mode connections are only accepted \
from the loopback interface. To allow others, set a password with 'requirepass', or bind the server \
to a trusted interface and disable protected mode with 'CONFIG SET protected-mode no' from the \
loopback interface.\r\n";

impl Server {
    pub(super) fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(listener) else { return };
            match listener.accept() {
                Ok(stream) => self.admit(stream),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // The client is gone already; the next one may not be.
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(e) => {
                    // Out of descriptors, most likely: those who wait stay in the backlog, and
                    // cron looks again.
                    self.cron.accept_again = true;
                    log::warn!("Error accepting a client connection: {e}");
                    return;
                }
            }
        }
        // More may wait, and no second event will say so.
        self.cron.accept_again = true;
    }

    fn admit(&mut self, mut stream: Stream) {
        let config = &self.engine.registries.config;
        let stats = &mut self.engine.registries.stats;
        if self.connections.len() >= config.maxclients as usize {
            stats.rejected_connections += 1;
            // The socket's buffer is empty, so this short text fits; if not, closing says enough.
            let _ = stream.write(TOO_MANY_CLIENTS);
            return;
        }
        let is_local = stream.is_local();
        if config.protected_mode && config.requirepass.is_none() && !is_local {
            stats.rejected_connections += 1;
            // As above.
            let _ = stream.write(PROTECTED_MODE);
            return;
        }
        if let Stream::Tcp(tcp) = &stream {
            // Without these the connection still works, only less well.
            let delay = tcp.set_nodelay(true);
            let alive = match config.tcp_keepalive_s {
                0 => Ok(()),
                interval_s => crate::sys::socket::keep_alive(tcp, interval_s),
            };
            if let Err(e) = delay.and(alive) {
                log::debug!("Setting options of a client's socket: {e}");
            }
        }
        stats.connections_received += 1;
        self.last_client_id += 1;
        let mut session = Session::new(self.last_client_id, config.requirepass.is_none(), is_local);
        session.peer = stream.peer_addr();
        let connection = Connection::new(stream, session, self.now.mono);
        let key = self.connections.insert(connection);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(FIRST_CONNECTION + key);
        let stream = &mut self.connections[key].stream;
        if let Err(e) = self.poll.registry().register(stream, token, interest) {
            log::warn!("Error registering a client connection: {e}");
            self.connections.remove(key);
        }
    }

    pub(super) fn on_connection_event(&mut self, key: usize, event: &Event) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if event.is_writable() && connection.blocked_on_write {
            connection.blocked_on_write = false;
            self.send(key);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.peer_closed |= event.is_read_closed() || event.is_error();
                // It is read from later in this turn, behind what is left to be run of what it has sent:
                // the end of its stream must not come ahead of that.
                if connection.is_ready {
                    return;
                }
            }
            self.read(key);
        }
    }

    /// Runs a request, or postpones it.
    pub(super) fn run_args(&mut self, key: usize, args: &mut Args<'_>) {
        self.run_known(key, None, args, KnownHashes::default());
    }

    /// Likewise; `known` is the command that it calls for, where that has been looked up, and
    /// `hashes` are those of its keys, as far as they were computed.
    pub(super) fn run_known(
        &mut self,
        key: usize,
        known: Option<Command>,
        args: &mut Args<'_>,
        hashes: KnownHashes<'_>,
    ) {
        let found = match known {
            Some(command) => Ok(command),
            None => execute::resolve(&self.engine.registries.table, args),
        };
        let command = found.as_ref().ok().copied();
        if command.is_none() && execute::is_http(args) {
            return self.refuse_http(key);
        }
        if command.is_some_and(|command| self.needs_figures(key, command)) {
            self.refresh_figures();
        }
        if self.engine.registries.config.maxmemory_bytes > 0 {
            self.tell_log_buffers();
        }
        let connection = &mut self.connections[key];
        let reply_start = connection.outbox.buffer().len();
        let mut reply = Reply::new(connection.outbox.buffer(), connection.session.protocol);
        reply.set_muted(connection.session.replies.is_mute());
        let mut cx = self.engine.cx(&mut connection.session, reply, self.now, Origin::Client);
        cx.hashes = hashes;
        let outcome = execute::dispatch(&mut cx, found, args);
        // Shown by CLIENT LIST even where the number of arguments was wrong.
        connection.last_command =
            command.or_else(|| execute::find(&self.engine.registries.table, args).ok());
        if outcome == Outcome::Postponed {
            return self.postpone(key, args.to_owned());
        }
        let log_end = self.log.appended();
        let has_written = self.engine.effects.has_written();
        if self.engine.effects.has_traces() {
            self.log_effects();
        }
        let is_logged = self.log.appended() > log_end;
        if is_logged && has_written {
            self.connections[key].session.last_write = self.log.appended();
        }
        if !self.engine.effects.observed.is_empty() {
            self.show_monitors(key);
        }
        // A refusal (MISCONF above all) and QUEUED say nothing that the log would have to keep.
        self.cover_reply(key, command.filter(|_| outcome == Outcome::Run), is_logged);
        if !self.engine.effects.actions.is_empty() {
            self.deliver(key, reply_start);
        }
        let connection = &mut self.connections[key];
        if connection.blocked.is_none() {
            connection.session.replies.end_command();
        }
    }

    /// Puts the reply just written behind its gate. `command` is what was run, if something was,
    /// and `is_logged` whether it had something to say to the log.
    #[inline]
    pub(super) fn cover_reply(&mut self, key: usize, command: Option<Command>, is_logged: bool) {
        let connection = &mut self.connections[key];
        let flags = command.map_or(Flags::NO_KEYS, |command| command.spec.flags);
        // While the log is faulted nothing new gets through the gate; reads by those who wait for
        // nothing are served all the same, and the fault is told in INFO.
        let ungated = flags.has(Flags::NO_KEYS)
            || (self.log.is_faulted()
                && (flags.has(Flags::READONLY) || !is_logged)
                && connection.outbox.last_gate() <= self.log.open_to(self.now));
        let gate = if ungated { connection.outbox.last_gate() } else { self.log.appended() };
        connection.outbox.cover(gate, self.log.written());
        if !connection.is_touched {
            self.touch(key);
        }
    }

    /// Has the connection's output looked at before the loop sleeps.
    pub(super) fn touch(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if !connection.is_touched {
            connection.is_touched = true;
            self.attention.touched.push(key);
        }
    }

    #[inline]
    fn needs_figures(&self, key: usize, command: Command) -> bool {
        command.spec.flags.has(Flags::FIGURES)
            || (command.spec.name == "exec" && self.queues_figures(key))
    }

    /// Whether the client's transaction holds a command that shows figures.
    fn queues_figures(&self, key: usize) -> bool {
        let transaction = &self.connections[key].session.transaction;
        transaction.as_ref().is_some_and(|transaction| {
            let mut queue = transaction.queue.iter();
            queue.any(|queued| queued.command.spec.flags.has(Flags::FIGURES))
        })
    }

    /// Ends a connection on which a web browser speaks: a page could make it send commands.
    fn refuse_http(&mut self, key: usize) {
        if self.cron.may_warn_of_http(self.now.mono) {
            log::warn!(
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or \
                 Host: commands. This is likely due to an attacker attempting to use Cross \
                 Protocol Scripting to compromise this server. Connection aborted."
            );
        }
        self.doom(key);
    }

    /// Answers what is no request, and lets the connection end.
    pub(super) fn refuse_stream(&mut self, key: usize, e: &ProtocolError) {
        log::debug!("Protocol error from client: {e}");
        let connection = &mut self.connections[key];
        connection.reply().error(&e.reply_text());
        connection.session.close_after_reply = true;
        self.engine.registries.stats.count_error(&e.reply_text());
        self.cover_reply(key, None, false);
    }

    /// Sends what may leave; closes the connection if it is broken, at its end, or too slow.
    pub(super) fn send(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.is_doomed || connection.blocked_on_write {
            return self.check_output_limit(key);
        }
        match connection.send(SEND_BUDGET_BYTES) {
            Ok(sent) => {
                let stats = &mut self.engine.registries.stats;
                stats.net_output_bytes += sent as u64;
                stats.writes_processed += 1;
            }
            Err(e) => {
                log::debug!("Writing to client: {e}");
                return self.doom(key);
            }
        }
        let is_answered = connection.outbox.pending() == 0 && connection.held.is_none();
        if connection.session.close_after_reply && is_answered {
            return self.doom(key);
        }
        if !connection.blocked_on_write && !connection.outbox.sendable().is_empty() {
            self.touch(key);
        }
        self.count_memory(key);
        self.check_output_limit(key);
    }

    /// Closes a client that does not take what it asked for. What the log withholds does not
    /// count: that is not the client's doing.
    pub(super) fn check_output_limit(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let limit = self.engine.registries.config.client_output_buffer_limits;
        // Whoever monitors is fed without asking, like a replica. (Redis counts it as normal, and so sets it
        // no limit by default.)
        let limit = if connection.session.monitor { limit.replica } else { limit.normal };
        let unsent = connection.outbox.unsent() as u64;
        let over = |bytes: u64| bytes > 0 && unsent > bytes;
        let since = over(limit.soft_bytes)
            .then(|| *connection.over_soft_limit_since.get_or_insert(self.now.mono));
        connection.over_soft_limit_since = since;
        let too_long = since
            .is_some_and(|t| self.now.mono.since(t) > u64::from(limit.soft_seconds) * 1_000_000);
        if (over(limit.hard_bytes) || too_long) && !connection.is_doomed {
            log::warn!(
                "Client {} closed for overcoming of output buffer limits: {unsent} bytes unsent",
                connection.session.id
            );
            self.engine.registries.stats.output_limit_disconnections += 1;
            self.doom(key);
        }
    }

    /// Has the connection closed before the loop sleeps.
    pub(super) fn doom(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.is_doomed
        {
            connection.is_doomed = true;
            self.attention.doomed.push(key);
        }
    }

    /// Closes the doomed connections. Only here: while events are handled, a freed slab key could
    /// be given to a new connection with an event for the old one still to come.
    pub(super) fn close_doomed(&mut self) {
        while let Some(key) = self.attention.doomed.pop() {
            let Some(mut connection) = self.connections.try_remove(key) else { continue };
            self.memory.total_bytes -= connection.counted_bytes;
            if connection.session.watching {
                self.engine.keyspace.watched.unwatch_all(connection.session.id);
            }
            if let Err(e) = self.poll.registry().deregister(&mut connection.stream) {
                log::debug!("Deregistering a client connection: {e}");
            }
        }
    }
}
