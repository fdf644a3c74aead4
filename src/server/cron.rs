//! What is done at intervals: idle clients, statistics, the log's retries.

use super::{Server, elapsed_us};
use crate::engine::latency::LatencyEvent;
use crate::engine::registries::Registries;
use crate::sys::clock::{MonoUs, Now, mono_us};

/// Samples of the traffic figures, one every 100 ms, as Redis has it.
const SAMPLES: usize = 16;
const SAMPLE_INTERVAL_US: u64 = 100_000;

/// Clients looked after in one run, at least.
const CLIENTS_PER_RUN: usize = 50;

/// A connection idle for this long gives its unused buffers back, microseconds.
const BUFFER_IDLE_US: u64 = 2_000_000;

/// How often the log's file is looked after, microseconds: in what it takes to notice that somebody
/// has removed the file, a crash loses it.
const LOG_FILE_INTERVAL_US: u64 = 100_000;

/// The key tables are put in order behind a rewrite in slices so long, microseconds, and so often:
/// about one part in a hundred of the time, and no turn is noticeably longer. Ten million keys
/// take half a minute at worst, and nothing waits for them.
const TIDY_SLICE_US: u64 = 250;
const TIDY_INTERVAL_US: u64 = 20_000;

/// Segments of the key tables looked at between two looks at the clock.
const TIDY_SEGMENTS: usize = 4;

/// How often statistics on memory are taken, microseconds.
const MEMORY_INTERVAL_US: u64 = 100_000;

/// A rate, averaged over the last samples.
#[derive(Debug, Default)]
struct Rate {
    samples: [u64; SAMPLES],
    at: usize,
    last_total: u64,
}

impl Rate {
    fn sample(&mut self, total: u64, elapsed_us: u64) {
        // A counter that was reset counts from 0 again.
        let grown = total.checked_sub(self.last_total).unwrap_or(total);
        self.samples[self.at] = grown * 1_000_000 / elapsed_us.max(1);
        self.at = (self.at + 1) % SAMPLES;
        self.last_total = total;
    }

    fn per_sec(&self) -> u64 {
        self.samples.iter().sum::<u64>() / SAMPLES as u64
    }
}

/// When what is due, and the figures that cron gathers.
pub(super) struct Cron {
    next_run: MonoUs,
    next_expiry: MonoUs,
    next_log_file: MonoUs,
    /// When the key tables are to be tidied next; none if there is nothing to tidy, or not now.
    next_tidy: Option<MonoUs>,
    last_sample: MonoUs,
    last_memory: MonoUs,
    ops: Rate,
    input: Rate,
    output: Rate,
    turns: Rate,
    busy_us: Rate,
    /// When somebody was last found to speak HTTP.
    last_http_warning: Option<MonoUs>,
    /// Time in this turn that was spent in fork and in write(2) to the log, microseconds: told by
    /// figures of their own.
    pub(super) apart_us: u64,
    /// Where the tour of the connections goes on.
    next_client: usize,
    /// The backlog may hold connections that no event will tell of.
    pub(super) accept_again: bool,
}

impl Cron {
    pub(super) fn new(now: MonoUs) -> Cron {
        Cron {
            next_run: now,
            next_expiry: now,
            next_log_file: now,
            next_tidy: None,
            last_sample: now,
            last_memory: MonoUs(0),
            ops: Rate::default(),
            input: Rate::default(),
            output: Rate::default(),
            turns: Rate::default(),
            busy_us: Rate::default(),
            last_http_warning: None,
            apart_us: 0,
            next_client: 0,
            accept_again: false,
        }
    }

    /// Whether to log that somebody speaks HTTP: once a minute is enough.
    pub(super) fn may_warn_of_http(&mut self, now: MonoUs) -> bool {
        const INTERVAL_US: u64 = 60_000_000;
        let quiet = self.last_http_warning.is_some_and(|last| now.since(last) < INTERVAL_US);
        if !quiet {
            self.last_http_warning = Some(now);
        }
        !quiet
    }

    pub(super) fn due(&self) -> MonoUs {
        let due = self.next_run.min(self.next_expiry).min(self.next_log_file);
        self.next_tidy.map_or(due, |tidy| due.min(tidy))
    }

    /// Says whether the key tables are to be put in order, from `now` on.
    pub(super) fn set_tidying(&mut self, tidying: bool, now: MonoUs) {
        self.next_tidy = tidying.then_some(now);
    }

    /// Notes how long the turn took, without what is told apart.
    pub(super) fn end_of_turn(&mut self, turn: Now, registries: &mut Registries) {
        let apart = std::mem::take(&mut self.apart_us);
        let whole = elapsed_us(turn.mono);
        let took = whole.saturating_sub(apart);
        registries.note_latency(LatencyEvent::EventLoop, took, turn.unix);
        let figures = &mut registries.figures;
        figures.loop_turns += 1;
        figures.loop_busy_us += whole;
        figures.longest_turn_us = figures.longest_turn_us.max(took);
    }
}

impl Server {
    pub(super) fn run_cron(&mut self) {
        if self.now.mono >= self.cron.next_expiry {
            let pause_us = self.expire_due_keys();
            self.cron.next_expiry = MonoUs(self.now.mono.0 + pause_us);
        }
        if self.now.mono >= self.cron.next_log_file {
            self.cron.next_log_file = MonoUs(self.now.mono.0 + LOG_FILE_INTERVAL_US);
            // First, since the rename of a rewrite may have been answered meanwhile.
            self.log.on_report(self.now);
            self.log.look_after_file(self.now);
            self.look_after_lock();
        }
        if self.cron.next_tidy.is_some_and(|due| self.now.mono >= due) {
            self.tidy_tables();
        }
        if self.now.mono < self.cron.next_run {
            return;
        }
        let interval_us = 1_000_000 / u64::from(self.engine.registries.config.hz.max(1));
        self.cron.next_run = MonoUs(self.now.mono.0 + interval_us);
        // In case a wake-up was lost.
        self.log.on_report(self.now);
        // What was appended in this turn first, so that its write is told apart as others are.
        self.write_log();
        self.log.cron(self.now);
        if self.engine.registries.debug.is_cron_paused {
            return;
        }
        self.sample_traffic();
        self.sample_memory();
        self.look_after_clients();
        if std::mem::take(&mut self.cron.accept_again) {
            for listener in 0..self.listeners.len() {
                self.accept(listener);
            }
        }
    }

    /// Puts a part of the key tables in order.
    fn tidy_tables(&mut self) {
        let start = mono_us();
        let is_done = loop {
            if self.engine.keyspace.tidy(TIDY_SEGMENTS) {
                break true;
            }
            if elapsed_us(start) >= TIDY_SLICE_US {
                break false;
            }
        };
        self.cron.next_tidy = (!is_done).then(|| MonoUs(self.now.mono.0 + TIDY_INTERVAL_US));
    }

    fn sample_traffic(&mut self) {
        let cron = &mut self.cron;
        let elapsed = self.now.mono.since(cron.last_sample);
        if elapsed < SAMPLE_INTERVAL_US {
            return;
        }
        cron.last_sample = self.now.mono;
        let stats = &self.engine.registries.stats;
        cron.ops.sample(stats.commands_processed, elapsed);
        cron.input.sample(stats.net_input_bytes, elapsed);
        cron.output.sample(stats.net_output_bytes, elapsed);
        let figures = &mut self.engine.registries.figures;
        cron.turns.sample(figures.loop_turns, elapsed);
        cron.busy_us.sample(figures.loop_busy_us, elapsed);
        figures.turns_per_sec = cron.turns.per_sec();
        figures.turn_us = cron.busy_us.per_sec() / figures.turns_per_sec.max(1);
        figures.ops_per_sec = cron.ops.per_sec();
        figures.input_kib_per_sec = cron.input.per_sec() as f64 / 1024.0;
        figures.output_kib_per_sec = cron.output.per_sec() as f64 / 1024.0;
    }

    /// Moves the peak. The first sample, taken before anything is loaded, is the memory at start.
    pub(super) fn sample_memory(&mut self) {
        if self.now.mono.since(self.cron.last_memory) < MEMORY_INTERVAL_US {
            return;
        }
        self.cron.last_memory = self.now.mono;
        self.look_at_memory();
        let registries = &mut self.engine.registries;
        let figures = &mut registries.figures.memory;
        if figures.startup_bytes == 0 {
            figures.startup_bytes = figures.used_bytes;
        }
    }

    /// Closes clients that have been idle or too slow for too long, and takes unused buffers back;
    /// a part of the clients each time, all of them about once a second.
    fn look_after_clients(&mut self) {
        let count = self.connections.len();
        if count == 0 {
            return;
        }
        let config = &self.engine.registries.config;
        let timeout_us = u64::from(config.timeout_s) * 1_000_000;
        let per_run = (count / config.hz.max(1) as usize).max(CLIENTS_PER_RUN);
        let keys: Vec<usize> = (self.connections.iter())
            .map(|(key, _)| key)
            .skip_while(|key| *key < self.cron.next_client)
            .take(per_run)
            .collect();
        self.cron.next_client = match keys.last() {
            Some(last) if keys.len() == per_run => last + 1,
            _ => 0,
        };
        for key in keys {
            let connection = &mut self.connections[key];
            let idle_us = self.now.mono.since(connection.last_active);
            if idle_us >= BUFFER_IDLE_US {
                connection.outbox.shrink();
                connection.inbox.shrink_to_fit();
            }
            self.count_memory(key);
            let connection = &self.connections[key];
            // A client that waits for the log, or blocks, is not idle.
            let waits = connection.outbox.withheld() > 0 || connection.blocked.is_some();
            if timeout_us > 0 && idle_us > timeout_us && !waits {
                log::debug!("Closing idle client {}", connection.session.id);
                self.doom(key);
            } else {
                self.check_output_limit(key);
            }
        }
    }
}
