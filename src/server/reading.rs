//! Reading from connections, and handing on what has come.
//!
//! What has come from several connections is read and parsed before any of it is run: so the memory
//! of all their keys is on its way to the processor meanwhile, as it is with the requests of one
//! pipeline. Nobody waits longer for that, since replies leave at the end of the turn.

use super::Server;
use super::requests::{Batch, MAX_WITHHELD_BYTES};
use crate::engine::command::Flags;
use crate::net::connection::Connection;
use std::io::{self, Read};
use std::ops::Range;

/// What sockets are read into: room for some connections with little to say, or for one with much.
const READ_BUFFER_BYTES: usize = 2 * READ_BUDGET_BYTES;

/// From so many connections something is read before it is run, unless it names so many keys already:
/// for more memory the processor cannot wait at once.
const ARRIVALS_MAX: usize = 16;
const KEYS_MAX: usize = 16;

/// Bounds one client's turn, so that a pipeline cannot starve the others.
const READ_BUDGET_BYTES: usize = 64 << 10;

/// With this much appended and not on disk, connections with a share in it are not read from.
const MAX_UNSYNCED_BYTES: u64 = 64 << 20;

/// Whatever the configured limit: an argument's place in its buffer is kept in 32 bits.
const MAX_INBOX_BYTES: usize = 3 << 30;

/// What was read from a connection and not yet run.
#[derive(Debug, Default)]
struct Arrival {
    key: usize,
    /// Its bytes in the read buffer.
    bytes: Range<usize>,
    /// The requests in them, as far as they were parsed.
    batch: Batch,
}

/// What was read from connections and not yet run; nothing between turns.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    buffer: Vec<u8>,
    /// How much of the buffer is in use, bytes.
    filled: usize,
    /// In the order in which they came; those from `count` on are kept for their memory.
    list: Vec<Arrival>,
    count: usize,
    /// Keys that the parsed requests name.
    keys: usize,
}

impl Arrivals {
    pub(super) fn new() -> Arrivals {
        Arrivals { buffer: vec![0; READ_BUFFER_BYTES], ..Arrivals::default() }
    }

    /// Whether there is no room for another connection's, or keys enough are on their way.
    fn is_full(&self) -> bool {
        self.count == ARRIVALS_MAX
            || self.keys >= KEYS_MAX
            || self.buffer.len() - self.filled < READ_BUDGET_BYTES
    }
}

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

impl Server {
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
    pub(super) fn read(&mut self, key: usize) {
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
        let room = self.arrivals.filled..self.arrivals.filled + READ_BUDGET_BYTES;
        let count = loop {
            match connection.stream.read(&mut self.arrivals.buffer[room.clone()]) {
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
                // A short read has emptied the socket, and the next byte brings an event. A full
                // one may have left something, and brings none; nor does an end of the stream
                // that was announced together with the bytes before it.
                if count == READ_BUDGET_BYTES || connection.peer_closed {
                    self.mark_ready(key);
                }
                return self.note_arrival(key, count);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => {
                log::debug!("Reading from client: {e}");
                self.doom(key);
            }
        }
        self.after_reading(key);
    }

    /// Parses what was just read from a connection, and runs it with the others' when there is enough.
    fn note_arrival(&mut self, key: usize, count: usize) {
        let arrivals = &mut self.arrivals;
        if arrivals.count == arrivals.list.len() {
            arrivals.list.push(Arrival::default());
        }
        let arrival = &mut arrivals.list[arrivals.count];
        arrival.key = key;
        arrival.bytes = arrivals.filled..arrivals.filled + count;
        // It may have been another connection's.
        arrival.batch.clear();
        let connection = &mut self.connections[key];
        // Else these bytes continue a request.
        if connection.inbox.is_empty() && connection.parser.is_idle() {
            let fresh = &arrivals.buffer[arrival.bytes.clone()];
            let parser = &mut connection.parser;
            arrival.batch.parse(&self.engine, &connection.session, parser, fresh, 0);
        }
        arrivals.keys += arrival.batch.hashes().len();
        arrivals.filled += count;
        arrivals.count += 1;
        if arrivals.is_full() {
            self.run_arrivals();
        }
    }

    /// Runs what was read.
    pub(super) fn run_arrivals(&mut self) {
        // Taken out so that the requests do not borrow the server.
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let (noted, _) = arrivals.list.split_at_mut(arrivals.count);
        if arrivals.keys > 1 {
            for arrival in &*noted {
                self.engine
                    .prefetch_entries(&self.connections[arrival.key].session, &arrival.batch);
            }
        }
        for arrival in noted {
            let fresh = &arrivals.buffer[arrival.bytes.clone()];
            self.take_in(arrival.key, fresh, &mut arrival.batch);
            self.after_reading(arrival.key);
        }
        (arrivals.filled, arrivals.count, arrivals.keys) = (0, 0, 0);
        self.arrivals = arrivals;
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
    /// not a whole request goes there. `batch` holds what of `fresh` was parsed, if anything.
    fn take_in(&mut self, key: usize, fresh: &[u8], batch: &mut Batch) {
        let connection = &mut self.connections[key];
        if connection.inbox.is_empty() {
            let used = self.run_requests(key, fresh, batch);
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
        let mut batch = std::mem::take(&mut self.batch);
        let used = self.run_requests(key, &inbox, &mut batch);
        self.batch = batch;
        if used == inbox.len() {
            inbox = Vec::new();
        } else {
            inbox.drain(..used);
        }
        self.connections[key].inbox = inbox;
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
}
