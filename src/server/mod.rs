//! The loop, and all it owns.
//!
//! One turn: poll, accept, read, parse, execute, effects, `before_sleep`. Within a turn commands
//! only append to the log's buffer and to output buffers; `before_sleep` hands the log to the
//! kernel first and lets replies leave after, so no acknowledgement runs ahead of its record.

mod before_sleep;
mod blocked;
mod check;
mod child;
mod client_memory;
mod clients;
mod config_file;
mod cron;
mod deliver;
mod eviction;
mod expiry;
mod figures;
mod gathering;
mod import;
mod lazyfree;
mod loading;
mod lock;
pub mod logger;
mod monitor;
mod reading;
mod requests;
mod rewrite;
mod start;
mod stop;
mod waiting;

pub use check::{ToolFailure, run_log_tool};
pub use import::{ImportFailure, import};
pub use start::{StartError, start};

use crate::config::{Config, FsyncPolicy};
use crate::engine::cx::{Cx, Origin};
use crate::engine::effects::Effects;
use crate::engine::registries::Registries;
use crate::engine::session::Session;
use crate::keyspace::{Keyspace, KnownHashes};
use crate::net::connection::Connection;
use crate::net::listener::Listener;
use crate::persist::background;
use crate::persist::lock::Lock;
use crate::persist::log::{AppendLog, LogOptions};
use crate::persist::storage::Storage;
use crate::resp::reply::Reply;
use crate::sys::clock::{MonoUs, Now};
use crate::sys::schedule::Slice;
use crate::sys::signals::{Signal, SignalFd};
use gathering::{Gathering, Turn};
use mio::{Events, Poll, Token, Waker};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Events taken from the kernel at once.
const EVENTS_PER_TURN: usize = 1024;

/// The loop's turns on the processor: the shortest that the kernel gives.
const SHORT_SLICE: Duration = Duration::from_micros(100);

const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const FIRST_LISTENER: usize = 2;
/// Tokens from here on are connections: their slab key and this.
const FIRST_CONNECTION: usize = 1 << 10;

/// Everything a command can reach, and nothing else.
struct Engine {
    keyspace: Keyspace,
    registries: Registries,
    effects: Effects,
}

impl Engine {
    fn cx<'a>(
        &'a mut self,
        session: &'a mut Session,
        reply: Reply<'a>,
        now: Now,
        origin: Origin,
    ) -> Cx<'a> {
        Cx {
            keyspace: &mut self.keyspace,
            session,
            reply,
            effects: &mut self.effects,
            registries: &mut self.registries,
            now: now.unix,
            origin,
            hashes: KnownHashes::default(),
        }
    }

    /// Asks for the entries of the keys that requests of `session` name.
    fn prefetch_entries(&self, session: &Session, requests: &requests::Batch) {
        let db = self.keyspace.db(session.db);
        requests.hashes().iter().for_each(|placed| db.prefetch_entry(placed.hash()));
    }
}

/// A connection whose last reply waits for the log.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    gate: u64,
    key: usize,
    client: u64,
}

/// Connections that the rest of the turn, or a later one, must look at.
#[derive(Debug, Default)]
struct Attention {
    /// May have more to read though no event will say so: cut off for fairness, or resumed.
    ready: Vec<usize>,
    /// Not read from until the log has caught up.
    paused: Vec<usize>,
    /// Are shown what the others run.
    monitors: Vec<(usize, u64)>,
    /// Wait for something before their next request is run.
    blocked: Vec<(usize, u64)>,
    /// Were given output this turn, or have more to send than they may in one.
    touched: Vec<usize>,
    /// Wait for the log. Gates rise from front to back, turn by turn.
    waiting: VecDeque<Waiting>,
    /// To be closed before the loop sleeps.
    doomed: Vec<usize>,
}

/// The server.
pub struct Server {
    poll: Poll,
    signals: SignalFd,
    listeners: Vec<Listener>,
    connections: Slab<Connection>,
    last_client_id: u64,
    attention: Attention,
    engine: Engine,
    storage: Arc<dyn Storage>,
    log: AppendLog,
    loading: Option<loading::Loading>,
    rewrite: rewrite::Rewriting,
    cron: cron::Cron,
    config_file: config_file::ConfigFile,
    /// Ends the poll under way; for helper threads.
    wake: background::Waker,
    lazyfree: lazyfree::Lazyfree,
    memory: client_memory::ClientMemory,
    gathering: Gathering,
    /// Read at the start of the turn.
    now: Now,
    /// What sockets are read into; a connection has a buffer of its own only while a request is
    /// incomplete.
    arrivals: reading::Arrivals,
    /// For requests that did not arrive just now; kept for its memory.
    batch: requests::Batch,
    exit: Option<stop::Exit>,
    /// Held until the process ends; nobody else writes to this log.
    lock: Option<Lock>,
}

impl Server {
    /// Serves until told to stop. Returns the process's exit code.
    pub fn run(mut self) -> i32 {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut turn = Turn::default();
        // Pauses are shorter than what the kernel adds to them by default. Else they are longer.
        if let Err(e) = nix::sys::prctl::set_timerslack(1) {
            log::debug!("Asking for exact timers failed: {e}");
        }
        let mut slice = Slice::default();
        loop {
            if let Err(e) = slice.ask(self.wanted_slice()) {
                log::debug!("Asking for other turns on the processor failed: {e}");
            }
            if let Err(e) = self.wait_for_events(&mut events, turn)
                && e.kind() != io::ErrorKind::Interrupted
            {
                log::error!("Waiting for events failed: {e}. Stopping.");
                return self.stop_now();
            }
            self.now = Now::read();
            let commands_before = self.engine.registries.stats.commands_processed;
            for event in &events {
                match event.token() {
                    WAKER => self.log.on_report(self.now),
                    SIGNALS => self.take_signals(),
                    Token(token) if token < FIRST_CONNECTION => {
                        self.accept(token - FIRST_LISTENER);
                    }
                    Token(token) => self.on_connection_event(token - FIRST_CONNECTION, event),
                }
            }
            self.run_arrivals();
            self.read_ready();
            self.run_arrivals();
            self.load_some();
            // A log that has been closed is not to be changed any more.
            if self.exit.is_none() {
                self.run_cron();
                self.evict_more();
            }
            self.before_sleep();
            if let Some(exit) = self.exit {
                return self.finish(exit);
            }
            let commands = self.engine.registries.stats.commands_processed;
            turn = Turn {
                connections: events.iter().count(),
                // CONFIG RESETSTAT may have run.
                commands: commands.saturating_sub(commands_before),
            };
            self.cron.end_of_turn(self.now, &mut self.engine.registries);
        }
    }

    /// How long the loop's turns on the processor should be. Short ones, so that no request waits
    /// for a helper or another process to end its own; but not where replies wait for the syncer,
    /// which must then come first when it has work, nor where the loop works without a pause.
    fn wanted_slice(&self) -> Option<Duration> {
        let config = &self.engine.registries.config;
        let waits_for_syncer = config.appendonly && config.appendfsync == FsyncPolicy::Always;
        (!waits_for_syncer && self.loading.is_none()).then_some(SHORT_SLICE)
    }

    fn take_signals(&mut self) {
        loop {
            match self.signals.read() {
                Ok(Some(signal @ (Signal::Terminate | Signal::Interrupt))) => {
                    self.stop_on_signal(signal);
                }
                // Children are reaped before the loop sleeps.
                Ok(Some(Signal::ChildEnded)) => self.rewrite.child_may_have_ended = true,
                Ok(Some(Signal::HangUp | Signal::User1)) => {}
                Ok(None) => return,
                Err(e) => return log::error!("Reading signals failed: {e}"),
            }
        }
    }
}

/// What the configuration says about the log.
fn log_options(config: &Config) -> LogOptions {
    LogOptions {
        policy: config.appendfsync,
        seals: config.aof_seals,
        rewrite_percentage: config.auto_aof_rewrite_percentage,
        rewrite_min_bytes: config.auto_aof_rewrite_min_bytes,
        incremental: config.aof_rewrite_incremental_fsync,
        rewrite_timeout_us: u64::from(config.aof_rewrite_timeout_s) * 1_000_000,
        rewrite_diff_max_bytes: usize::try_from(config.aof_rewrite_diff_max_bytes)
            .unwrap_or(usize::MAX),
        max_bytes: config.aof_max_bytes,
        keep_before_rewrite: config.aof_keep_before_rewrite,
    }
}

/// A function by which a helper thread wakes the loop.
fn wake_loop(waker: &Arc<Waker>) -> background::Waker {
    let waker = Arc::clone(waker);
    // Should the wake-up fail, the result is found at cron's next run.
    Arc::new(move || drop(waker.wake()))
}

/// Microseconds from `start` to now.
fn elapsed_us(start: MonoUs) -> u64 {
    crate::sys::clock::mono_us().since(start)
}
