//! What commands may see of the server as a whole: configuration, counters, and figures that the
//! server fills in before a command that shows them.

use super::calls::Calls;
use super::command::{Command, CommandTable, Flags};
use super::eviction::Eviction;
use super::latency::{Latency, LatencyEvent};
use super::memory::MemoryAccount;
use super::slowlog::Slowlog;
use crate::config::Config;
use crate::sys::clock::{MonoUs, UnixMs};
use crate::sys::memory::AllocatorFigures;
use crate::sys::process::CpuTimes;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Shared by all commands; owned by the server.
pub struct Registries {
    /// In force now.
    pub config: Config,
    /// All commands.
    pub table: CommandTable,
    /// Counters since start or `CONFIG RESETSTAT`.
    pub stats: Stats,
    /// What each command has cost.
    pub calls: Calls,
    /// Spikes of latency.
    pub latency: Latency,
    /// What DEBUG has set.
    pub debug: DebugState,
    /// Commands that took long.
    pub slowlog: Slowlog,
    /// Clients are not served, or not all their commands (`CLIENT PAUSE`).
    pub pause: Option<Pause>,
    /// What does not change while the server runs.
    pub identity: Identity,
    /// Figures of the parts a handler cannot reach. Invariant: true at the start of a command
    /// whose row has the flag FIGURES, or of a transaction that holds one.
    pub figures: Figures,
    /// All clients, under the same invariant.
    pub clients: Vec<ClientFigures>,
    /// Cleared by `DEBUG SET-ACTIVE-EXPIRE 0`: keys past their deadline are then removed only
    /// when they are looked up.
    pub active_expire: bool,
    /// How much memory is in use.
    pub memory: MemoryAccount,
    /// What is done where that is too much.
    pub eviction: Eviction,
    /// Writes are refused with this text while the log cannot take them.
    pub write_refusal: Option<String>,
    /// The log is being replayed.
    pub loading: bool,
    /// Source of `RANDOMKEY` and sampling; not for secrets.
    pub random: SplitMix64,
}

/// For how long commands wait. The dataset stands still meanwhile: nothing expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When it ends.
    pub until: UnixMs,
    /// Whether all commands wait, or only those that can change something.
    pub all: bool,
}

impl Registries {
    /// Those of a server to which nothing has happened yet.
    #[must_use]
    pub fn new(
        config: Config,
        table: CommandTable,
        memory: MemoryAccount,
        random: SplitMix64,
    ) -> Registries {
        Registries {
            config,
            table,
            stats: Stats::default(),
            calls: Calls::default(),
            latency: Latency::default(),
            debug: DebugState::default(),
            slowlog: Slowlog::default(),
            pause: None,
            identity: Identity::default(),
            figures: Figures::default(),
            clients: Vec::new(),
            active_expire: true,
            memory,
            eviction: Eviction::default(),
            write_refusal: None,
            loading: false,
            random,
        }
    }

    /// The pause in force.
    #[inline]
    #[must_use]
    pub fn paused(&self, now: UnixMs) -> Option<Pause> {
        self.pause.filter(|pause| now < pause.until)
    }

    /// A command has been run that began at `start`; tells how long it took, in microseconds, to
    /// all who keep account of that. The one place where commands are timed, those in a transaction
    /// one by one. One clock reading (20 ns): commands of a pipeline begin where the one before has
    /// ended, so what lies between them is counted too.
    #[inline]
    pub fn end_of_call(&mut self, call: &EndedCall, now: UnixMs) -> u64 {
        let EndedCall { command, start, has_failed, waits, in_exec } = *call;
        let is_tracked = self.config.latency_tracking && !waits;
        let ns = self.calls.end(command, start, has_failed, is_tracked);
        if !in_exec {
            self.stats.commands_ns += ns;
        }
        let us = ns / 1_000;
        let is_fast = command.spec.flags.has(Flags::FAST);
        let event = if is_fast { LatencyEvent::FastCommand } else { LatencyEvent::Command };
        self.note_latency(event, us, now);
        us
    }

    /// Takes note of an event that took `us` microseconds, if that is a spike.
    #[inline]
    pub fn note_latency(&mut self, event: LatencyEvent, us: u64, now: UnixMs) {
        let threshold_ms = self.config.latency_monitor_threshold_ms;
        self.latency.note(event, us, threshold_ms, now.0.div_euclid(1_000));
    }
}

/// A command that has just been run.
#[derive(Clone, Copy, Debug)]
pub struct EndedCall {
    /// Which.
    pub command: Command,
    /// What [`Calls::begin`] gave.
    pub start: u64,
    /// It replied with an error.
    pub has_failed: bool,
    /// Its client waits for its reply, so it is not through.
    pub waits: bool,
    /// It was one of a transaction's, whose own time holds its.
    pub in_exec: bool,
}

/// What DEBUG has set; all of it is off at start.
#[derive(Clone, Debug, Default)]
pub struct DebugState {
    /// Nothing that is done at intervals is done, but what the log and its promises need.
    pub is_cron_paused: bool,
    /// How long the loop sleeps ahead of each write to the log, microseconds.
    pub log_write_delay_us: u64,
    /// 40 hexadecimal digits in the place of the run id, where the history of the data is named.
    pub replication_id: Option<String>,
}

/// What does not change while the server runs.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// 40 hexadecimal digits, new at each start.
    pub run_id: String,
    /// Process id.
    pub pid: u32,
    /// When it started.
    pub started_unix: UnixMs,
    /// Likewise, monotonic.
    pub started_mono: MonoUs,
    /// Path of the binary.
    pub executable: PathBuf,
    /// Path of the configuration file, if one was given.
    pub config_file: Option<PathBuf>,
    /// Kernel name, release and machine, as `INFO` shows them.
    pub os: String,
}

/// Counters.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Connections accepted.
    pub connections_received: u64,
    /// Connections refused because of `maxclients`.
    pub rejected_connections: u64,
    /// Commands run, those in transactions included.
    pub commands_processed: u64,
    /// Bytes read from clients.
    pub net_input_bytes: u64,
    /// Bytes sent to clients.
    pub net_output_bytes: u64,
    /// Reads of a key that was there.
    pub keyspace_hits: u64,
    /// Reads of a key that was not there.
    pub keyspace_misses: u64,
    /// Keys removed because their deadline had passed.
    pub expired_keys: u64,
    /// Estimated share of keys past their deadline among those that have one, percent.
    pub expired_stale_percent: f64,
    /// Times that the removal of keys past their deadline stopped because its time was over.
    pub expire_time_cap_reached: u64,
    /// Keys removed because memory had run short.
    pub evicted_keys: u64,
    /// Time spent on removing keys past their deadline, microseconds.
    pub expire_cycle_us: u64,
    /// Time that commands took, nanoseconds.
    pub commands_ns: u64,
    /// Times that a user or a password was wrong.
    pub denied_authentications: u64,
    /// Error replies sent.
    pub error_replies: u64,
    /// The same by code (`ERR`, `WRONGTYPE`, ...); see [`Stats::count_error`].
    pub error_codes: BTreeMap<Vec<u8>, u64>,
    /// Commands that ran and failed.
    pub failed_calls: u64,
    /// Commands refused before they ran.
    pub rejected_calls: u64,
    /// Read events handled.
    pub reads_processed: u64,
    /// Writes to sockets.
    pub writes_processed: u64,
    /// Times an output buffer grew past its limit and its client was closed.
    pub output_limit_disconnections: u64,
    /// Times a query buffer grew past its limit and its client was closed.
    pub query_limit_disconnections: u64,
    /// Clients closed because all together held more than `maxmemory-clients`.
    pub evicted_clients: u64,
    /// Forks since start.
    pub total_forks: u64,
    /// Highest memory use seen by cron, bytes.
    pub peak_memory_bytes: u64,
}

impl Stats {
    /// Counts an error reply of this text under its first word, or under `ERR` if the text begins
    /// with no code.
    pub fn count_error(&mut self, text: &[u8]) {
        /// Redis looks no further for the end of the code.
        const CODE_MAX_BYTES: usize = 31;
        /// Scripts can make codes up: beyond so many, new ones are counted in the sum alone.
        const CODES_MAX: usize = 128;
        self.error_replies += 1;
        let head = &text[..text.len().min(CODE_MAX_BYTES)];
        let code = memchr::memchr(b' ', head).map_or(&b"ERR"[..], |end| &head[..end]);
        if let Some(count) = self.error_codes.get_mut(code) {
            *count += 1;
        } else if self.error_codes.len() < CODES_MAX {
            self.error_codes.insert(code.to_vec(), 1);
        }
    }

    /// All counters to zero, as `CONFIG RESETSTAT` does it: the peak of memory stays.
    pub fn reset(&mut self) {
        *self = Stats { peak_memory_bytes: self.peak_memory_bytes, ..Stats::default() };
    }
}

/// Figures of parts that handlers cannot reach.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The append-only file.
    pub log: LogFigures,
    /// The replay under way.
    pub load: LoadFigures,
    /// Memory of the process and of its allocator.
    pub memory: MemoryFigures,
    /// Processor time.
    pub cpu: CpuFigures,
    /// Seconds since the server started, by the monotonic clock.
    pub uptime_sec: u64,
    /// Commands a second, over the last 1.6 s.
    pub ops_per_sec: u64,
    /// KiB a second read, likewise.
    pub input_kib_per_sec: f64,
    /// KiB a second sent, likewise.
    pub output_kib_per_sec: f64,
    /// Connected clients.
    pub connected_clients: usize,
    /// Of these, those whose last command waits for something.
    pub blocked_clients: usize,
    /// Largest query buffer among the clients lately, bytes.
    pub max_input_buffer_bytes: usize,
    /// Largest output buffer among the clients lately, bytes.
    pub max_output_buffer_bytes: usize,
    /// Keys and values that a helper thread has yet to free.
    pub lazyfree_pending: u64,
    /// Keys and values that it has freed.
    pub lazyfreed: u64,
    /// Bytes held by clients' buffers.
    pub clients_bytes: usize,
    /// Turns of the loop a second, over the last 1.6 s.
    pub turns_per_sec: u64,
    /// How long one of these took on average, poll excluded, microseconds.
    pub turn_us: u64,
    /// Turns of the loop.
    pub loop_turns: u64,
    /// Time spent in turns, poll excluded, microseconds.
    pub loop_busy_us: u64,
    /// Longest turn, without forks and writing the log, microseconds.
    pub longest_turn_us: u64,
    /// Longest time that the loop took to write the log at the end of a turn, microseconds.
    pub longest_log_write_us: u64,
    /// Duration of the last fork, microseconds.
    pub latest_fork_us: u64,
}

/// How far a rewrite's child is, as it last said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildFigures {
    /// Keys written.
    pub keys: u64,
    /// Keys that there were at the fork.
    pub keys_total: u64,
    /// Memory copied since the fork because one side changed it, bytes.
    pub cow_bytes: u64,
    /// The most it was.
    pub cow_peak_bytes: u64,
    /// Since when `cow_bytes` is what it is, seconds.
    pub cow_age_sec: u64,
}

/// Memory of the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryFigures {
    /// What the allocator holds.
    pub allocator: AllocatorFigures,
    /// The allocator and its version: `jemalloc-5.3.0`.
    pub allocator_name: String,
    /// Resident memory of the whole process, bytes.
    pub rss_bytes: u64,
    /// What the program held when the server had just started, bytes.
    pub startup_bytes: u64,
    /// What it holds, bytes.
    pub used_bytes: u64,
    /// Of these, what does not count towards `maxmemory`, bytes.
    pub uncounted_bytes: u64,
    /// What the machine has, bytes.
    pub machine_bytes: u64,
}

/// Processor time used since the process began.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuFigures {
    /// All threads.
    pub process: CpuTimes,
    /// Children that have ended.
    pub children: CpuTimes,
    /// The loop's thread.
    pub main_thread: CpuTimes,
}

/// Figures of the append-only file, named as `INFO persistence` names them.
#[derive(Clone, Debug, Default)]
pub struct LogFigures {
    /// Whether there is a log, or is to be one.
    pub enabled: bool,
    /// Whether it is there, so that something can be durable.
    pub in_force: bool,
    /// A rewrite is running.
    pub rewrite_in_progress: bool,
    /// A rewrite begins as soon as it can.
    pub rewrite_scheduled: bool,
    /// Seconds the last rewrite took, -1 if there was none.
    pub last_rewrite_sec: i64,
    /// Seconds the running one has taken, -1 if none runs.
    pub current_rewrite_sec: i64,
    /// Whether the last rewrite succeeded.
    pub last_rewrite_ok: bool,
    /// Whether the last write to the file succeeded.
    pub last_write_ok: bool,
    /// Private memory that the last child copied, bytes.
    pub last_cow_bytes: u64,
    /// How far the running child is; all 0 if there is none.
    pub child: ChildFigures,
    /// Rewrites begun since start.
    pub rewrites: u64,
    /// Rewrites failed one after the other.
    pub rewrites_consecutive_failures: u64,
    /// File length, bytes.
    pub current_size: u64,
    /// File length after the last rewrite or at load, bytes.
    pub base_size: u64,
    /// Bytes appended and not yet written.
    pub buffer_bytes: usize,
    /// Bytes queued for the file being rewritten.
    pub rewrite_buffer_bytes: usize,
    /// Bytes of the rewrite-diff that are to be read back from the file.
    pub rewrite_reread_bytes: u64,
    /// Whether the file has reached `aof-max-size`.
    pub is_full: bool,
    /// Syncs handed to the syncer and not yet reported.
    pub pending_syncs: u64,
    /// Times a reply had to wait for a sync that came late.
    pub delayed_syncs: u64,
    /// Record bytes appended since start.
    pub appended: u64,
    /// Of these, handed to the kernel.
    pub written: u64,
    /// Of these, known to be on disk.
    pub durable: u64,
    /// Age of the oldest byte not yet known to be on disk, microseconds; 0 if there is none.
    pub oldest_unsynced_us: u64,
    /// The file has failed, and why.
    pub fault: Option<String>,
}

/// Figures of the replay under way.
#[derive(Clone, Debug, Default)]
pub struct LoadFigures {
    /// When it began.
    pub started: UnixMs,
    /// File length, bytes.
    pub total_bytes: u64,
    /// Bytes replayed.
    pub loaded_bytes: u64,
    /// Estimated seconds to go.
    pub eta_sec: u64,
}

/// One client as `CLIENT LIST` shows it.
#[derive(Clone, Debug, Default)]
pub struct ClientFigures {
    /// Client id.
    pub id: u64,
    /// Peer's address.
    pub addr: String,
    /// Own address.
    pub laddr: String,
    /// File descriptor.
    pub fd: i32,
    /// `CLIENT SETNAME`.
    pub name: Vec<u8>,
    /// Seconds since it connected.
    pub age_sec: u64,
    /// Seconds since its last request.
    pub idle_sec: u64,
    /// Redis's one-letter flags.
    pub flags: String,
    /// Whether its last command waits for something.
    pub is_blocked: bool,
    /// Whether `CLIENT UNBLOCK` can end that wait.
    pub can_unblock: bool,
    /// Selected database.
    pub db: usize,
    /// Commands queued, -1 outside a transaction.
    pub multi: i64,
    /// Keys watched.
    pub watched: usize,
    /// Unparsed bytes of the query buffer.
    pub query_bytes: usize,
    /// Free bytes of the query buffer.
    pub query_free_bytes: usize,
    /// Bytes held by the arguments being read.
    pub argument_bytes: usize,
    /// Bytes held by the transaction's queue.
    pub queue_bytes: usize,
    /// Bytes of replies not yet sent.
    pub output_bytes: usize,
    /// Bytes the output buffer holds.
    pub output_capacity: usize,
    /// `r`, `rw`: events waited for.
    pub events: &'static str,
    /// Name of the last command, or `NULL`.
    pub last_command: String,
    /// 2 or 3.
    pub protocol: u8,
    /// `CLIENT SETINFO`.
    pub lib_name: Vec<u8>,
    /// `CLIENT SETINFO`.
    pub lib_version: Vec<u8>,
    /// All memory of this client, bytes.
    pub total_bytes: usize,
}

/// A small generator of pseudo-random numbers; deterministic by seed.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
