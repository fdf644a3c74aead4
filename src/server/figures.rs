//! Figures for commands that show them, gathered just before such a command runs.

use super::Server;
use crate::engine::memory::LogBuffers;
use crate::engine::registries::{ClientFigures, Registries};
use crate::net::connection::{Blocked, Connection, Stream};
use crate::resp::reply::Protocol;
use crate::sys::memory;
use crate::sys::process::{self, CpuOf};
use std::os::fd::AsRawFd;

impl Server {
    /// Brings `registries.figures` and `registries.clients` up to date. O(clients).
    pub(super) fn refresh_figures(&mut self) {
        self.refresh_log_figures();
        self.refresh_load_figures();
        self.refresh_process_figures();
        let clients: Vec<ClientFigures> = self
            .connections
            .iter()
            // Those to be closed at the end of this turn are gone for everybody else.
            .filter(|(_, connection)| !connection.is_doomed)
            .map(|(_, connection)| self.client_figures(connection))
            .collect();
        let registries = &mut self.engine.registries;
        let figures = &mut registries.figures;
        figures.connected_clients = clients.len();
        figures.lazyfree_pending = self.lazyfree.pending();
        figures.lazyfreed = self.lazyfree.freed();
        figures.blocked_clients = clients.iter().filter(|client| client.is_blocked).count();
        let input = |client: &ClientFigures| client.query_bytes + client.query_free_bytes;
        figures.max_input_buffer_bytes = clients.iter().map(input).max().unwrap_or(0);
        figures.max_output_buffer_bytes =
            clients.iter().map(|client| client.output_bytes).max().unwrap_or(0);
        figures.clients_bytes = clients.iter().map(|client| client.total_bytes).sum();
        registries.clients = clients;
    }

    /// Memory, processor time, uptime. What the system does not tell stays as it was.
    fn refresh_process_figures(&mut self) {
        self.look_at_memory();
        let registries = &mut self.engine.registries;
        let figures = &mut registries.figures;
        figures.uptime_sec = self.now.mono.since(registries.identity.started_mono) / 1_000_000;
        let memory = &mut figures.memory;
        if memory.allocator_name.is_empty() {
            memory.allocator_name = memory::allocator_name();
            memory.machine_bytes = process::machine_memory_bytes().unwrap_or(0);
        }
        memory.rss_bytes = process::resident_bytes().unwrap_or(memory.rss_bytes);
        let cpu = &mut figures.cpu;
        for (times, of) in [
            (&mut cpu.process, CpuOf::Process),
            (&mut cpu.children, CpuOf::Children),
            (&mut cpu.main_thread, CpuOf::Thread),
        ] {
            *times = process::cpu_times(of).unwrap_or(*times);
        }
    }

    /// Brings the account of memory and its figures up to date.
    pub(super) fn look_at_memory(&mut self) {
        self.tell_log_buffers();
        let Registries { memory, figures, stats, .. } = &mut self.engine.registries;
        // Should the allocator refuse to tell, the figures stay what they were.
        if let Ok(allocator) = memory.look() {
            figures.memory.allocator = allocator;
        }
        figures.memory.used_bytes = memory.used_bytes();
        figures.memory.uncounted_bytes = memory.uncounted_bytes();
        stats.peak_memory_bytes = stats.peak_memory_bytes.max(memory.used_bytes());
    }

    /// Tells the account of memory what the log's buffers hold. O(1).
    pub(super) fn tell_log_buffers(&mut self) {
        let buffers = LogBuffers {
            buffer_bytes: self.log.buffer_memory_bytes(),
            diff_bytes: self.log.diff_memory_bytes(),
            helper_steps: self.log.hand_off_steps(),
            is_crowded: self.log.holds_writers(),
        };
        self.engine.registries.memory.set_log(buffers);
    }

    fn client_figures(&self, connection: &Connection) -> ClientFigures {
        let session = &connection.session;
        let unix_path = &self.engine.registries.config.unixsocket;
        let unix_path = unix_path.as_ref().map_or(String::new(), |path| path.display().to_string());
        let mut flags = String::new();
        for (set, letter) in [
            (session.monitor, 'O'),
            (session.in_transaction(), 'x'),
            (connection.blocked.is_some(), 'b'),
            (self.engine.keyspace.watched.is_dirty(session.id), 'd'),
            (session.close_after_reply, 'c'),
            (matches!(connection.stream, Stream::Unix(_)), 'U'),
            (session.no_evict, 'e'),
            (session.no_touch, 'T'),
        ] {
            if set {
                flags.push(letter);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        ClientFigures {
            id: session.id,
            addr: connection.stream.peer(&unix_path),
            laddr: connection.stream.local(&unix_path),
            fd: connection.stream.as_raw_fd(),
            name: session.name.clone(),
            age_sec: self.now.mono.since(connection.created) / 1_000_000,
            idle_sec: self.now.mono.since(connection.last_active) / 1_000_000,
            flags,
            is_blocked: connection.blocked.is_some(),
            can_unblock: matches!(
                connection.blocked,
                Some(Blocked::Durable { .. } | Blocked::Replicas { .. })
            ),
            db: session.db,
            multi: session.transaction.as_ref().map_or(-1, |t| t.queue.len() as i64),
            watched: self.engine.keyspace.watched.keys_of(session.id),
            query_bytes: connection.inbox.len(),
            query_free_bytes: connection.inbox.capacity() - connection.inbox.len(),
            argument_bytes: connection.parser.large_bytes(),
            queue_bytes: connection.queue_bytes(),
            output_bytes: connection.outbox.pending(),
            output_capacity: connection.outbox.capacity(),
            events: if connection.blocked_on_write { "rw" } else { "r" },
            last_command: (connection.last_command)
                .map_or_else(|| "NULL".to_owned(), |command| command.full_name()),
            protocol: if session.protocol == Protocol::Resp3 { 3 } else { 2 },
            lib_name: session.lib_name.clone(),
            lib_version: session.lib_version.clone(),
            total_bytes: connection.memory_bytes(),
        }
    }
}
