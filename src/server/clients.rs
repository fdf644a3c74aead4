//! Accepting, reading, running requests, sending, closing.

use super::requests::MAX_WITHHELD_BYTES;
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
use std::io::{self, Read, Write};

/// Connections accepted in one turn, so that a storm of them cannot starve those that are there.
const ACCEPTS_PER_TURN: usize = 1_000;

/// Bounds one client's turn, so that a pipeline cannot starve the others.
pub(super) const READ_BUDGET_BYTES: usize = 64 << 10;

/// Likewise for what it is sent: one that takes a huge reply as fast as it comes would not let
/// others have a turn before its end.
const SEND_BUDGET_BYTES: usize = 1 << 20;

/// With this much appended and not on disk, connections with a share in it are not read from.
const MAX_UNSYNCED_BYTES: u64 = 64 << 20;

/// Whatever the configured limit: an argument's place in its buffer is kept in 32 bits.
const MAX_INBOX_BYTES: usize = 3 << 30;

/// What decides from whom to read while the log is behind.
struct LogState {
    /// Too much is appended and not durable.
    far_behind: bool,
    /// A rewrite cannot get to its end beside clients that write.
    holds_writers: bool,
    durable: u64,
    /// Where the log was to be turned off, if it is.
    stop_asked_at: Option<u64>,
}

impl LogState {
    /// Whether not to read from `connection` for now.
    fn holds_back(&self, connection: &Connection) -> bool {
        // By whatever command: EXEC writes too, and DEBUG POPULATE.
        let is_writer = connection.session.last_write > self.durable;
        let writes = || connection.last_command.is_some_and(|c| c.spec.flags.has(Flags::WRITE));
        connection.outbox.withheld() >= MAX_WITHHELD_BYTES
            || (self.far_behind && is_writer)
            || (self.holds_writers && (is_writer || writes()))
            || self.stop_asked_at.is_some_and(|at| connection.delays_stop(at))
    }
}

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
            }
            self.read(key);
        }
    }

    /// Reads from the connections that were cut off or paused before.
    pub(super) fn read_ready(&mut self) {
        let ready = std::mem::take(&mut self.attention.ready);
        for key in ready {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if !std::mem::take(&mut connection.is_ready) {
                continue;
            }
            if connection.postponed.is_some() {
                self.run_postponed(key);
            }
            if self.connections.get(key).is_some_and(|c| !c.inbox.is_empty()) {
                self.run_inbox(key);
            }
            self.read(key);
        }
    }

    /// Has the connection looked at again in the next turn.
    pub(super) fn mark_ready(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.is_ready
        {
            connection.is_ready = true;
            self.attention.ready.push(key);
        }
    }

    /// Reads what has come, up to the budget, and runs the requests in it.
    fn read(&mut self, key: usize) {
        if self.pause_if_withheld(key) {
            return;
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.is_doomed || connection.session.close_after_reply {
            return;
        }
        if connection.blocked.is_some() || connection.postponed.is_some() {
            // Looked at again when what it waits for has come; unless nobody is there any more. A
            // reply that is held comes by itself, and whoever has only ended its stream gets it.
            if connection.peer_closed && connection.held.is_none() {
                self.end_of_stream(key);
            }
            return;
        }
        if connection.parser.large_mut().is_some() {
            return self.read_large(key);
        }
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let count = loop {
            match connection.stream.read(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match count {
            Ok(0) => self.end_of_stream(key),
            Ok(count) => {
                let before = std::mem::replace(&mut connection.last_active, self.now.mono);
                self.gathering.hear(before);
                let stats = &mut self.engine.registries.stats;
                stats.net_input_bytes += count as u64;
                stats.reads_processed += 1;
                self.take_in(key, &buffer[..count]);
                // A short read has emptied the socket, and the next byte brings an event. A full
                // one may have left something, and brings none; nor does an end of the stream
                // that was announced together with the bytes before it.
                if count == buffer.len() || self.connections[key].peer_closed {
                    self.mark_ready(key);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => {
                log::debug!("Reading from client: {e}");
                self.doom(key);
            }
        }
        self.read_buffer = buffer;
        self.after_reading(key);
    }

    /// Reads a large argument straight into its own buffer, up to the budget.
    fn read_large(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some((bytes, missing)) = connection.parser.large_mut() else { return };
        let before = bytes.len();
        let wanted = missing.min(READ_BUDGET_BYTES * 4);
        let outcome = (&mut connection.stream).take(wanted as u64).read_to_end(bytes);
        let count = bytes.len() - before;
        connection.parser.large_filled();
        connection.last_active = self.now.mono;
        self.engine.registries.stats.net_input_bytes += count as u64;
        self.engine.registries.stats.reads_processed += 1;
        match outcome {
            // All that was wanted: there may be more. Less than that is the end of the stream.
            Ok(_) if count == wanted => self.mark_ready(key),
            Ok(_) => return self.end_of_stream(key),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if connection.peer_closed {
                    self.mark_ready(key);
                }
            }
            Err(e) => {
                log::debug!("Reading from client: {e}");
                return self.doom(key);
            }
        }
        if self.connections.get_mut(key).is_some_and(|c| c.parser.large_mut().is_none()) {
            self.run_inbox(key);
        }
        self.after_reading(key);
    }

    /// The client will send nothing more; it still gets what it has asked for.
    fn end_of_stream(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if connection.outbox.pending() == 0 {
            self.doom(key);
        } else {
            connection.session.close_after_reply = true;
        }
    }

    /// Runs the requests in `fresh`, which continues what the connection's inbox holds; what is
    /// not a whole request goes there.
    fn take_in(&mut self, key: usize, fresh: &[u8]) {
        let connection = &mut self.connections[key];
        if connection.inbox.is_empty() {
            let used = self.run_requests(key, fresh);
            self.connections[key].inbox.extend_from_slice(&fresh[used..]);
        } else {
            connection.inbox.extend_from_slice(fresh);
            self.run_inbox(key);
        }
    }

    /// Runs the whole requests in the connection's inbox.
    fn run_inbox(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut inbox = std::mem::take(&mut connection.inbox);
        let used = self.run_requests(key, &inbox);
        if used == inbox.len() {
            inbox = Vec::new();
        } else {
            inbox.drain(..used);
        }
        self.connections[key].inbox = inbox;
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
        if self.engine.effects.has_traces() {
            self.log_effects();
        }
        let is_logged = self.log.appended() > log_end;
        if is_logged {
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

    /// Closes a connection whose unrun input has grown past its limit; pauses it if the log holds
    /// too much of its output.
    fn after_reading(&mut self, key: usize) {
        let limit = self.engine.registries.config.client_query_buffer_limit_bytes;
        let Some(connection) = self.connections.get(key) else { return };
        // As Redis counts: what was received of the argument being read, not those that are whole; and
        // what waits for EXEC.
        let held =
            connection.inbox.len() + connection.parser.pending_bytes() + connection.queue_bytes();
        let too_much = held as u64 > limit || connection.inbox.len() > MAX_INBOX_BYTES;
        if too_much && !connection.is_doomed {
            log::warn!(
                "Closing client {} that reached max query buffer length: {held} bytes",
                connection.session.id
            );
            self.engine.registries.stats.query_limit_disconnections += 1;
            return self.doom(key);
        }
        self.count_memory(key);
        self.pause_if_withheld(key);
    }

    /// Stops reading from a connection while the log is too far behind it. Returns whether it is
    /// stopped.
    fn pause_if_withheld(&mut self, key: usize) -> bool {
        let state = self.log_state(MAX_UNSYNCED_BYTES);
        let Some(connection) = self.connections.get_mut(key) else { return true };
        if !state.holds_back(connection) {
            return connection.is_paused;
        }
        if !connection.is_paused {
            connection.is_paused = true;
            self.attention.paused.push(key);
        }
        true
    }

    /// Reads again from paused connections that the log has caught up with, or that have no share in
    /// what it is behind with: somebody who only reads need not wait for those who write.
    pub(super) fn resume_paused(&mut self) {
        if self.attention.paused.is_empty() {
            return;
        }
        // Half, so that a connection is not paused and resumed with each group.
        let state = self.log_state(MAX_UNSYNCED_BYTES / 2);
        let paused = std::mem::take(&mut self.attention.paused);
        for key in paused {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if state.holds_back(connection) {
                self.attention.paused.push(key);
            } else if std::mem::take(&mut connection.is_paused) {
                self.mark_ready(key);
            }
        }
    }

    fn log_state(&self, unsynced_max: u64) -> LogState {
        LogState {
            far_behind: self.log.unsynced_bytes() >= unsynced_max,
            holds_writers: self.log.holds_writers(),
            durable: self.log.durable(),
            stop_asked_at: self.log.stop_asked_at(),
        }
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
