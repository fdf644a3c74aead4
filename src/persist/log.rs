//! The append-only file as the loop sees it: a buffer, one write a turn, and an offset up to which
//! replies may leave.
//!
//! Three offsets count record bytes since start, across rewrites (seals and rewritten bases do not
//! count; positions in files are kept apart):
//!
//! - `appended`: in the buffer;
//! - `written`: handed to the kernel, in every file in force;
//! - `durable`: covered by a completed sync, in every file in force. The offset is taken before
//!   fdatasync is called and published after it returned.
//!
//! The files in force are those that a crash may leave under the log's name: one, except while a
//! rewritten file takes its place, when there are two. `written` and `durable` move only at ends
//! of whole, sealed groups.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use super::background::{Background, Gone, Job, Waker};
use super::faults::{HEAL_BACKOFF_MIN_US, proves_loss};
use super::gate::{Ages, EVERYSEC_SYNC_AGE_US, Floors, GateView, everysec_is_late, open_to};
use super::handoff::HandOffJob;
use super::records::{EXEC_RECORD, MULTI_RECORD};
use super::rewrite::Rewrite;
use super::storage::{Storage, describe};
use super::syncer::{SinkId, SyncJob};
use super::tail::{Stamp, Tail};
use crate::config::FsyncPolicy;
use crate::resp::encode;
use crate::sys::clock::{MonoUs, Now};

/// A buffer that one large turn left behind is given back above this size.
const KEPT_BUFFER_BYTES: usize = 4 << 20;

/// What can be configured, and changed while running.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// What replies wait for.
    pub policy: FsyncPolicy,
    /// Whether groups are sealed.
    pub seals: bool,
    /// Growth since the last rewrite, in percent, at which one starts by itself; 0 for never.
    pub rewrite_percentage: u32,
    /// Below this size none starts by itself.
    pub rewrite_min_bytes: u64,
    /// Whether a rewrite starts writing out every few MiB.
    pub incremental: bool,
    /// How long a rewrite's child may write nothing before it is killed, microseconds; 0 for any
    /// time. Its last sync counts as writing nothing.
    pub rewrite_timeout_us: u64,
    /// Memory that the rewrite-diff may take; the rest is read back from the file.
    pub rewrite_diff_max_bytes: usize,
    /// Length of the file at which writes are refused, and near which a rewrite is tried; 0 for
    /// any length.
    pub max_bytes: u64,
    /// How many files from before rewrites are kept; 0 for none.
    pub keep_before_rewrite: u32,
}

/// What the log has to tell the server besides log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// A rewrite has ended, the new file is in force and durable.
    RewriteDone,
    /// A rewrite has ended without effect.
    RewriteFailed(String),
    /// `appendonly yes` is complete: a full file is durable.
    TurnedOn,
    /// `appendonly yes` came to nothing; the log is off.
    TurnOnFailed(String),
    /// `appendonly no` is complete: everything is durable and every gate is open.
    TurnedOff,
    /// `appendonly no` came to nothing, because the log became faulted; it is still on.
    TurnOffFailed(String),
}

/// A step that can take long. Whoever looks for the causes of latency wants to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowStep {
    /// A sync under `always`, by the syncer; writers wait for it.
    Sync,
    /// The rename of a rewritten file, directory sync included, by the hand-off.
    Rename,
    /// What the loop itself writes of the rewrite-diff.
    DiffWrite,
}

/// Whether there is a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Off,
    /// Being turned on: a first file is being written, nothing is promised yet.
    Starting,
    On,
    /// Being turned off: until everything is durable it promises as before.
    Stopping,
}

/// One file that takes the log's stream from some offset on.
pub(super) struct Sink {
    pub(super) id: SinkId,
    pub(super) tail: Tail,
    /// Log offset up to which it has been handed to the kernel.
    pub(super) written: u64,
    /// Log offset up to which it is known to be durable.
    pub(super) durable: u64,
    /// A sync of it has failed: whatever was not durable then may be lost though it still reads
    /// well, and later syncs prove nothing. Nothing is written to it or expected of it any more.
    pub(super) poisoned: bool,
}

/// write(2) fails; the group is kept and tried again.
pub(super) struct WriteFault {
    pub(super) error: String,
    pub(super) retry_at: MonoUs,
}

/// What was promised can be kept only by a fresh file from memory.
pub(super) struct Heal {
    pub(super) error: String,
    pub(super) next_try: MonoUs,
}

/// A sync that the syncer has.
pub(super) struct SyncInFlight {
    /// For each file: log offset and file offset when the sync was handed over. What was written
    /// later may or may not be covered, so it does not count.
    covers: Vec<(SinkId, u64, u64)>,
    since: MonoUs,
}

/// The append-only file. Owned by the loop; nothing in it blocks except what says so.
pub struct AppendLog {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) name: OsString,
    pub(super) options: LogOptions,
    pub(super) mode: Mode,
    /// Record bytes that some consumer still needs.
    pub(super) buf: Vec<u8>,
    /// Log offset of `buf`'s first byte.
    pub(super) buf_start: u64,
    /// The database that the stream's end has selected; `None` where the next append must say.
    pub(super) selected: Option<usize>,
    /// The files in force. While a rewritten file is being joined it is the last.
    pub(super) sinks: Vec<Sink>,
    pub(super) next_sink_id: SinkId,
    pub(super) written: u64,
    pub(super) durable: u64,
    pub(super) ages: Ages,
    pub(super) floors: Floors,
    /// Where the log ended when it was told to turn off.
    pub(super) stop_asked_at: u64,
    /// Log offset that is to become durable whatever the policy says.
    wanted: u64,
    pub(super) write_fault: Option<WriteFault>,
    pub(super) heal: Option<Heal>,
    /// How long the next heal waits if this one fails, or does not last.
    pub(super) heal_backoff_us: u64,
    pub(super) healed_at: Option<MonoUs>,
    pub(super) syncer: Background<SyncJob>,
    pub(super) sync: Option<SyncInFlight>,
    pub(super) helper: Background<HandOffJob>,
    pub(super) rewrite: Rewrite,
    pub(super) base_bytes: u64,
    /// What the data set takes in memory; 0 if nobody has said.
    pub(super) data_bytes: u64,
    /// The latest time that a group was stamped with.
    last_ms: u64,
    pub(super) events: Vec<LogEvent>,
    slow_steps: Vec<(SlowStep, u64)>,
    pub(super) delayed_syncs: u64,
    was_late: bool,
}

impl AppendLog {
    /// A log that is off. [`AppendLog::resume`] puts it on after loading, [`AppendLog::turn_on`]
    /// while serving (`appendonly yes` at run time).
    ///
    /// # Errors
    /// Those of starting two threads.
    pub fn off(
        storage: Arc<dyn Storage>,
        name: &OsStr,
        options: LogOptions,
        waker: &Waker,
    ) -> io::Result<AppendLog> {
        let syncer = Background::spawn("aof-syncer", Arc::clone(waker))?;
        let helper = Background::spawn("aof-hand-off", Arc::clone(waker))?;
        Ok(AppendLog::new(storage, name.to_owned(), options, syncer, helper))
    }

    pub(super) fn new(
        storage: Arc<dyn Storage>,
        name: OsString,
        options: LogOptions,
        syncer: Background<SyncJob>,
        helper: Background<HandOffJob>,
    ) -> AppendLog {
        AppendLog {
            storage,
            name,
            options,
            mode: Mode::Off,
            buf: Vec::new(),
            buf_start: 0,
            selected: None,
            sinks: Vec::new(),
            next_sink_id: 0,
            written: 0,
            durable: 0,
            ages: Ages::default(),
            floors: Floors::default(),
            stop_asked_at: 0,
            wanted: 0,
            write_fault: None,
            heal: None,
            heal_backoff_us: HEAL_BACKOFF_MIN_US,
            healed_at: None,
            syncer,
            sync: None,
            helper,
            rewrite: Rewrite::default(),
            base_bytes: 0,
            data_bytes: 0,
            last_ms: 0,
            events: Vec::new(),
            slow_steps: Vec::new(),
            delayed_syncs: 0,
            was_late: false,
        }
    }

    pub(super) fn new_sink_id(&mut self) -> SinkId {
        self.next_sink_id += 1;
        self.next_sink_id
    }

    // ---- appending -------------------------------------------------------------------------

    /// Appends one command in RESP form that concerns database `db`. One memcpy; never fails:
    /// what cannot be written is kept, and [`AppendLog::refusal`] keeps new writes out.
    pub fn append(&mut self, db: usize, record: &[u8]) {
        if !self.takes_appends() {
            return;
        }
        self.select(db);
        self.buf.extend_from_slice(record);
    }

    /// Appends commands that must be replayed all or not at all, each with its database.
    pub fn append_transaction<'a>(&mut self, parts: impl IntoIterator<Item = (usize, &'a [u8])>) {
        let mut parts = parts.into_iter();
        let Some((db, first)) = parts.next() else { return };
        if !self.takes_appends() {
            return;
        }
        self.select(db);
        self.buf.extend_from_slice(MULTI_RECORD);
        self.buf.extend_from_slice(first);
        for (db, record) in parts {
            self.select(db);
            self.buf.extend_from_slice(record);
        }
        // The caller cannot come in between, so no seal ever stands inside a transaction.
        self.buf.extend_from_slice(EXEC_RECORD);
    }

    /// Whether what is appended goes anywhere. While the log is being turned on, what happens
    /// before the fork is in the fork's memory.
    fn takes_appends(&self) -> bool {
        match self.mode {
            Mode::On | Mode::Stopping => true,
            Mode::Off => false,
            Mode::Starting => self.rewrite.covers_appends(),
        }
    }

    fn select(&mut self, db: usize) {
        if self.selected != Some(db) {
            let mut text = itoa::Buffer::new();
            encode::command(&mut self.buf, &[b"SELECT", text.format(db).as_bytes()]);
            self.selected = Some(db);
        }
    }

    /// The offset that a reply carries: the end of what has been appended.
    #[must_use]
    pub fn appended(&self) -> u64 {
        self.buf_start + self.buf.len() as u64
    }

    /// Log offset up to which everything is known to be durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Has everything up to `offset` synced as soon as possible, whatever the policy: somebody
    /// waits for it.
    pub fn want_durable(&mut self, offset: u64) {
        self.wanted = self.wanted.max(offset);
    }

    /// The end of the last group that every file in force has.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Record bytes appended and not known to be durable, where the policy wants them to become so.
    #[must_use]
    pub fn unsynced_bytes(&self) -> u64 {
        let syncs = self.options.policy != FsyncPolicy::No || self.durable < self.floors.promised();
        let promises = matches!(self.mode, Mode::On | Mode::Stopping) && syncs;
        if promises { self.appended() - self.durable } else { 0 }
    }

    // ---- once a turn -----------------------------------------------------------------------

    /// Hands what was appended to the kernel as one sealed group, then a sync to the syncer if the
    /// policy wants one. To be called once a turn, ahead of releasing replies. Never syncs itself.
    pub fn flush(&mut self, now: Now) {
        if self.mode == Mode::Off && self.rewrite.is_idle() {
            return;
        }
        self.write_group(now, false);
        self.advance(now);
    }

    /// Retries what failed, and gives up a rewrite that hangs. To be called about every 100 ms.
    pub fn cron(&mut self, now: Now) {
        self.watch_child(now);
        self.flush(now);
    }

    /// Takes the helper threads' results; to be called when the waker was called.
    pub fn on_report(&mut self, now: Now) {
        loop {
            match self.syncer.poll() {
                Ok(Some(results)) => self.sync_done(results, now),
                Ok(None) => break,
                Err(Gone) => {
                    self.syncer_gone(now);
                    break;
                }
            }
        }
        loop {
            match self.helper.poll() {
                Ok(Some((attempt, outcome))) => self.hand_off_step(attempt, outcome, now),
                Ok(None) => break,
                Err(Gone) => {
                    self.helper_gone(now);
                    break;
                }
            }
        }
        self.advance(now);
    }

    /// What follows from the offsets as they now are.
    pub(super) fn advance(&mut self, now: Now) {
        self.publish();
        self.order_rename(now);
        self.schedule_sync(now);
        self.finish_stopping(now);
        let late = self.mode == Mode::On
            && self.options.policy == FsyncPolicy::Everysec
            && everysec_is_late(&self.view(now.mono));
        self.delayed_syncs += u64::from(late && !self.was_late);
        self.was_late = late;
    }

    pub(super) fn write_group(&mut self, now: Now, retry: bool) {
        let appended = self.appended();
        if matches!(self.mode, Mode::On | Mode::Stopping) {
            self.ages.appended(appended, now.mono);
        }
        if let Some(fault) = &self.write_fault
            && now.mono < fault.retry_at
            && !retry
        {
            return;
        }
        let stamp = self.stamp(now);
        let seals = self.options.seals;
        let mut failed = None;
        for sink in self.sinks.iter_mut().filter(|sink| !sink.poisoned) {
            if sink.written == appended {
                continue;
            }
            if seals && let Err(error) = sink.tail.begin_sealing(stamp.unix_ms) {
                failed = Some((sink.id, error));
                break;
            }
            if sink.tail.awaits_header() {
                continue; // The syncer has it, or will; the group stays in the buffer.
            }
            // A file that missed a group gets it together with this one.
            let from = (sink.written - self.buf_start) as usize;
            match sink.tail.write_group(&mut self.buf, from, stamp, seals) {
                Ok(()) => sink.written = appended,
                Err(error) => {
                    failed = Some((sink.id, error));
                    break;
                }
            }
        }
        match failed {
            None => self.writes_succeed(),
            // The rewritten file has no name yet, so it can simply be given up; the others come
            // first in the list and have the group.
            Some((id, error)) if self.rewrite.can_still_drop(id) => {
                self.abandon_rewrite(&format!("write: {}", describe(&error)), now);
                self.writes_succeed();
            }
            Some((id, error)) if proves_loss(&error) => {
                let error = describe(&error);
                self.distrust(id, "Error writing to the AOF file", &error, now);
                // For the other files in force, and the rewrite's end.
                return self.write_group(now, retry);
            }
            Some((_, error)) => {
                self.writes_fail(&error, now);
                return;
            }
        }
        self.feed_rewrite(stamp, now);
        self.release_buffer();
        self.publish();
    }

    /// The time a group is stamped with never runs backwards.
    pub(super) fn stamp(&mut self, now: Now) -> Stamp {
        self.last_ms = self.last_ms.max(unix_ms(now));
        Stamp { db: self.selected.unwrap_or(0) as u64, unix_ms: self.last_ms }
    }

    /// Forgets what every consumer has.
    fn release_buffer(&mut self) {
        let appended = self.appended();
        let healthy = self.sinks.iter().filter(|sink| !sink.poisoned).map(|sink| sink.written);
        // With no healthy file and no rewrite past its fork nobody takes the bytes; what they say
        // is in memory, and the next fork will have it.
        let needed = healthy.chain(self.rewrite.needs_from()).min().unwrap_or(appended);
        self.drop_buffer_until(needed);
    }

    pub(super) fn drop_buffer_until(&mut self, offset: u64) {
        if offset == self.appended() {
            self.buf.clear();
            if self.buf.capacity() > KEPT_BUFFER_BYTES {
                self.buf.shrink_to(KEPT_BUFFER_BYTES);
            }
        } else {
            let count = (offset - self.buf_start) as usize;
            self.buf.drain(..count);
        }
        self.buf_start = offset;
    }

    /// Moves `written` and `durable` to what every file in force has. Not while one of them is
    /// poisoned: a crash might leave that one.
    pub(super) fn publish(&mut self) {
        if self.is_poisoned() || self.mode == Mode::Off {
            return;
        }
        let written = self.sinks.iter().map(|sink| sink.written).min();
        let durable = self.sinks.iter().map(|sink| sink.durable).min();
        self.written = self.written.max(written.unwrap_or(0));
        self.durable = self.durable.max(durable.unwrap_or(0));
        self.ages.durable(self.durable);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.sinks.iter().any(|sink| sink.poisoned)
    }

    // ---- syncing ---------------------------------------------------------------------------

    fn schedule_sync(&mut self, now: Now) {
        // One at a time: what is written while it runs is covered by the next, all of it at once.
        // That is the group commit.
        if self.sync.is_some() || !self.sync_is_due(now.mono) {
            return;
        }
        self.order_sync(now, |sink| sink.durable < sink.written || sink.tail.awaits_header());
    }

    /// Whether groups wait because sealing has just been switched on and a file's header is not
    /// durable yet.
    #[must_use]
    pub fn begins_sealing(&self) -> bool {
        self.sinks.iter().any(|sink| !sink.poisoned && sink.tail.awaits_header())
    }

    /// Hands the files in force that `wanted` picks to the syncer, if there are any.
    pub(super) fn order_sync(&mut self, now: Now, wanted: impl Fn(&Sink) -> bool) {
        let picked = self.sinks.iter().filter(|sink| !sink.poisoned && wanted(sink));
        // The offsets are taken here, before the syncer can call fdatasync.
        let (covers, files): (Vec<_>, Vec<_>) = picked
            .map(|sink| {
                let covers = (sink.id, sink.written, sink.tail.end());
                (covers, (sink.id, Arc::clone(sink.tail.file())))
            })
            .unzip();
        if files.is_empty() {
            return;
        }
        match self.syncer.submit(SyncJob { files }) {
            Ok(()) => self.sync = Some(SyncInFlight { covers, since: now.mono }),
            Err(Gone) => self.syncer_gone(now),
        }
    }

    fn sync_is_due(&self, now: MonoUs) -> bool {
        if self.rewrite.wants_sync(self) || self.begins_sealing() {
            return true;
        }
        if self.is_poisoned() {
            return false; // Nothing can become durable until the log is healed.
        }
        if self.mode == Mode::Stopping || self.durable < self.floors.promised().max(self.wanted) {
            return true;
        }
        match self.options.policy {
            FsyncPolicy::Always => true,
            FsyncPolicy::Everysec => {
                self.ages.oldest().is_some_and(|then| now.since(then) >= EVERYSEC_SYNC_AGE_US)
            }
            FsyncPolicy::No => false,
        }
    }

    pub(super) fn sync_done(&mut self, results: <SyncJob as Job>::Done, now: Now) {
        let Some(in_flight) = self.sync.take() else { return };
        if self.options.policy == FsyncPolicy::Always {
            self.note_step(SlowStep::Sync, now.mono.since(in_flight.since));
        }
        for ((id, file, result), (_, log_offset, file_offset)) in
            results.into_iter().zip(in_flight.covers)
        {
            let Some(sink) = self.sinks.iter_mut().find(|sink| sink.id == id) else {
                // It was let go meanwhile, and this may be its last handle.
                self.discard(None, vec![file]);
                continue;
            };
            // The sink has another. First, so that if it is given up this is not the last one.
            drop(file);
            match result {
                Ok(()) => {
                    sink.durable = sink.durable.max(log_offset);
                    sink.tail.set_known_durable(file_offset);
                }
                Err(error) if self.rewrite.can_still_drop(id) => {
                    self.abandon_rewrite(&format!("sync: {}", describe(&error)), now);
                }
                Err(error) => self.poison(id, &describe(&error), now),
            }
        }
    }

    // ---- the gate --------------------------------------------------------------------------

    /// Up to which offset replies may leave. Constant time.
    #[must_use]
    pub fn open_to(&self, now: Now) -> u64 {
        match self.mode {
            Mode::Off | Mode::Starting => u64::MAX,
            Mode::On | Mode::Stopping => open_to(&self.view(now.mono), &self.floors),
        }
    }

    fn view(&self, now: MonoUs) -> GateView {
        GateView {
            policy: self.options.policy,
            written: self.written,
            durable: self.durable,
            oldest_undurable: self.ages.oldest(),
            now,
            poisoned: self.is_poisoned(),
        }
    }

    /// When the log wants [`AppendLog::flush`] to be called next though nothing happens.
    #[must_use]
    pub fn next_wakeup(&self, now: Now) -> Option<MonoUs> {
        if self.mode == Mode::Off {
            return None;
        }
        let retry = self.write_fault.as_ref().map(|fault| fault.retry_at);
        let behind = self.sinks.iter().any(|sink| !sink.poisoned && sink.durable < sink.written);
        let waits = self.options.policy == FsyncPolicy::Everysec && behind && self.sync.is_none();
        let oldest = self.ages.oldest().filter(|_| waits && !self.is_poisoned());
        let sync = oldest.map(|then| MonoUs(then.0 + EVERYSEC_SYNC_AGE_US).max(now.mono));
        retry.into_iter().chain(sync).min()
    }

    /// Steps that took a millisecond or more since the last call, with their time in microseconds.
    pub fn take_slow_steps(&mut self) -> impl Iterator<Item = (SlowStep, u64)> {
        self.slow_steps.drain(..)
    }

    pub(super) fn note_step(&mut self, step: SlowStep, us: u64) {
        const SLOW_US: u64 = 1_000;
        if us >= SLOW_US {
            self.slow_steps.push((step, us));
        }
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<LogEvent> {
        std::mem::take(&mut self.events)
    }

    /// Bytes of the file in force.
    #[must_use]
    pub fn current_bytes(&self) -> u64 {
        self.sinks.first().map_or(0, |sink| sink.tail.end())
    }

    // ---- switches --------------------------------------------------------------------------

    /// The options in force.
    #[must_use]
    pub fn options(&self) -> LogOptions {
        self.options
    }

    /// Changes options while running. For replies under way the stricter of the old and the new
    /// policy counts; sealing begins or ends with the next group, which waits for a sync of the
    /// header where it begins.
    pub fn set_options(&mut self, options: LogOptions, now: Now) {
        if options.policy != self.options.policy {
            self.floors.policy_changed(self.options.policy, self.appended());
        }
        self.options = options;
        self.rewrite.limit_diff(options.rewrite_diff_max_bytes);
        self.advance(now);
    }
}

/// The wall clock as seals state it; a clock before 1970 counts as 1970.
pub(super) fn unix_ms(now: Now) -> u64 {
    u64::try_from(now.unix.0).unwrap_or(0)
}
