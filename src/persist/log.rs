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

use super::background::{Background, Gone, Waker};
use super::base::{BaseOptions, BaseWriter};
use super::chain::{EXEC_RECORD, MULTI_RECORD};
use super::gate::{Ages, EVERYSEC_SYNC_AGE_US, Floors, GateView, everysec_is_late, open_to};
use super::handoff::{HandOffJob, Work};
use super::load::Loader;
use super::rewrite::Rewrite;
use super::storage::{LogFile, Storage, describe};
use super::syncer::{SinkId, SyncJob};
use super::tail::{Stamp, Tail};
use crate::config::FsyncPolicy;
use crate::resp::encode;
use crate::sys::clock::{MonoUs, Now};

/// A write that failed is tried again this often.
const WRITE_RETRY_US: u64 = 1_000_000;
/// A failed heal is tried again after this long, doubled each time ...
const HEAL_BACKOFF_MIN_US: u64 = 1_000_000;
/// ... up to this.
const HEAL_BACKOFF_MAX_US: u64 = 60_000_000;
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
struct WriteFault {
    error: String,
    retry_at: MonoUs,
}

/// What was promised can be kept only by a fresh file from memory.
pub(super) struct Heal {
    pub(super) error: String,
    pub(super) next_try: MonoUs,
}

/// A sync that the syncer has.
struct SyncInFlight {
    /// For each file: log offset and file offset when the sync was handed over. What was written
    /// later may or may not be covered, so it does not count.
    covers: Vec<(SinkId, u64, u64)>,
}

/// Figures for INFO.
#[derive(Clone, Debug, Default)]
pub struct LogFigures {
    /// Whether the log is on, or being turned on.
    pub enabled: bool,
    /// Bytes of the file.
    pub current_bytes: u64,
    /// Bytes of the file when it was last rewritten, or loaded.
    pub base_bytes: u64,
    /// Bytes appended that no write has taken yet.
    pub buffer_bytes: u64,
    /// Whether a sync is running.
    pub sync_running: bool,
    /// How often replies had to wait under `everysec`, because the disk did not keep up.
    pub delayed_syncs: u64,
    /// The last write's error, while writes fail.
    pub write_error: Option<String>,
    /// The error after which the file is being replaced.
    pub sync_error: Option<String>,
    /// Log offset: in the buffer.
    pub appended: u64,
    /// Log offset: handed to the kernel.
    pub written: u64,
    /// Log offset: durable.
    pub durable: u64,
    /// Age of the oldest byte that is not durable.
    pub oldest_unsynced_us: Option<u64>,
    /// Whether a rewrite is running, in whatever phase.
    pub rewrite_running: bool,
    /// How long it has been running.
    pub rewrite_running_us: Option<u64>,
    /// How long the last one took.
    pub last_rewrite_us: Option<u64>,
    /// Whether the last one succeeded, or there was none.
    pub last_rewrite_ok: bool,
    /// Rewrites begun.
    pub rewrites: u64,
    /// Failures since the last success.
    pub rewrite_failures: u64,
    /// Bytes of the rewrite-diff in memory.
    pub rewrite_diff_bytes: u64,
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
    floors: Floors,
    write_fault: Option<WriteFault>,
    pub(super) heal: Option<Heal>,
    /// How long the next heal waits if this one fails, or does not last.
    heal_backoff_us: u64,
    healed_at: Option<MonoUs>,
    pub(super) syncer: Background<SyncJob>,
    sync: Option<SyncInFlight>,
    pub(super) helper: Background<HandOffJob>,
    pub(super) rewrite: Rewrite,
    pub(super) base_bytes: u64,
    /// The latest time that a group was stamped with.
    last_ms: u64,
    pub(super) events: Vec<LogEvent>,
    delayed_syncs: u64,
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

    /// Puts the log on: goes on behind what `loader` has loaded to its end, or begins a new file
    /// if there was none. Removes temporary files of a dead run. Blocks for the disk: for use
    /// before serving.
    ///
    /// # Errors
    /// Those of the files; the log is then still off.
    pub fn resume(&mut self, loader: Loader, now: Now) -> io::Result<()> {
        self.remove_stale_temps()?;
        let tail = match loader.into_tail() {
            Some(tail) => self.continue_file(tail, now)?,
            None => self.create_file(now)?,
        };
        self.base_bytes = tail.end();
        let id = self.new_sink_id();
        let end = self.appended();
        self.sinks.push(Sink { id, tail, written: end, durable: end, poisoned: false });
        self.mode = Mode::On;
        Ok(())
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
            write_fault: None,
            heal: None,
            heal_backoff_us: HEAL_BACKOFF_MIN_US,
            healed_at: None,
            syncer,
            sync: None,
            helper,
            rewrite: Rewrite::default(),
            base_bytes: 0,
            last_ms: 0,
            events: Vec::new(),
            delayed_syncs: 0,
            was_late: false,
        }
    }

    /// Makes what was loaded safe to build on.
    fn continue_file(&self, mut tail: Tail, now: Now) -> io::Result<Tail> {
        if self.options.seals {
            tail.begin_sealing(unix_ms(now))?;
        }
        // The file may have been read from the page cache of a machine that a server was killed
        // on: neither its bytes nor the rename that named it need be durable. Both must be before
        // the first new promise, which counts only what is appended from now on.
        tail.file().sync_data()?;
        self.storage.sync_dir()?;
        tail.set_known_durable(tail.end());
        Ok(tail)
    }

    /// Creates an empty log. Like a rewritten one it gets its name only when it is durable, so
    /// that a crash leaves no file or a well-formed one.
    fn create_file(&mut self, now: Now) -> io::Result<Tail> {
        let temp = self.temp_name();
        let options =
            BaseOptions { seals: self.options.seals, incremental: false, unix_ms: unix_ms(now) };
        let file = self.storage.create(&temp)?;
        let tail = BaseWriter::new(file, options)?.finish_into_tail()?;
        self.storage.rename(&temp, &self.name)?;
        self.storage.sync_dir()?;
        Ok(tail)
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

    /// Retries what failed. To be called about every 100 ms.
    pub fn cron(&mut self, now: Now) {
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
    fn advance(&mut self, now: Now) {
        self.publish();
        self.order_rename();
        self.schedule_sync(now);
        self.finish_stopping(now);
        let late = self.mode == Mode::On
            && self.options.policy == FsyncPolicy::Everysec
            && everysec_is_late(&self.view(now.mono));
        self.delayed_syncs += u64::from(late && !self.was_late);
        self.was_late = late;
    }

    fn write_group(&mut self, now: Now, retry: bool) {
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
            Some((_, error)) => {
                self.writes_fail(&error, now);
                return;
            }
        }
        self.feed_rewrite(stamp, now);
        self.release_buffer();
        self.publish();
    }

    fn writes_succeed(&mut self) {
        if self.write_fault.take().is_some() {
            log::warn!("AOF write error looks solved. The server can write again.");
        }
    }

    fn writes_fail(&mut self, error: &io::Error, now: Now) {
        let retry_at = MonoUs(now.mono.0 + WRITE_RETRY_US);
        let error = describe(error);
        if self.write_fault.is_none() {
            log::error!(
                "Error writing to the AOF file: {error}. The group is kept and written again each \
                 second; until then new writes are refused"
            );
        }
        self.turning_off_failed(&error);
        self.write_fault = Some(WriteFault { error, retry_at });
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
        let behind = self.sinks.iter().filter(|sink| !sink.poisoned && sink.durable < sink.written);
        // The offsets are taken here, before the syncer can call fdatasync.
        let (covers, files): (Vec<_>, Vec<_>) = behind
            .map(|sink| {
                let covers = (sink.id, sink.written, sink.tail.end());
                (covers, (sink.id, Arc::clone(sink.tail.file())))
            })
            .unzip();
        if files.is_empty() {
            return;
        }
        match self.syncer.submit(SyncJob { files }) {
            Ok(()) => self.sync = Some(SyncInFlight { covers }),
            Err(Gone) => self.syncer_gone(now),
        }
    }

    fn sync_is_due(&self, now: MonoUs) -> bool {
        if self.rewrite.wants_sync(self) {
            return true;
        }
        if self.is_poisoned() {
            return false; // Nothing can become durable until the log is healed.
        }
        if self.mode == Mode::Stopping || self.durable < self.floors.promised() {
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

    fn sync_done(&mut self, results: Vec<(SinkId, io::Result<()>)>, now: Now) {
        let Some(in_flight) = self.sync.take() else { return };
        for ((id, result), (_, log_offset, file_offset)) in
            results.into_iter().zip(in_flight.covers)
        {
            // A file that was let go meanwhile concerns nobody any more.
            let Some(sink) = self.sinks.iter_mut().find(|sink| sink.id == id) else { continue };
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

    fn syncer_gone(&mut self, now: Now) {
        self.sync = None;
        for id in self.sinks.iter().map(|sink| sink.id).collect::<Vec<_>>() {
            self.poison(id, "the syncer thread has ended", now);
        }
    }

    /// A sync of a file has failed. It is never tried again on that file: the kernel has marked
    /// the lost pages clean, so that a second sync would succeed and prove nothing. Memory holds
    /// the truth; a fresh file is to be written from it.
    fn poison(&mut self, id: SinkId, error: &str, now: Now) {
        let Some(sink) = self.sinks.iter_mut().find(|sink| sink.id == id) else { return };
        if sink.poisoned {
            return;
        }
        sink.poisoned = true;
        log::error!(
            "Error syncing the AOF file: {error}. The file is not trusted any more: new writes are \
             refused and replies withheld until a fresh one has been written from memory"
        );
        // A rewrite that began before would do, but what it has not read yet it may take from the
        // poisoned file. Past the point of no return its end is awaited: it may be the cure.
        if !self.rewrite.is_renaming() {
            self.abandon_rewrite("the file it was to replace can no longer be synced", now);
        }
        self.need_heal(error, now);
    }

    /// Wants a fresh file: at once, unless the last one did not live long.
    pub(super) fn need_heal(&mut self, error: &str, now: Now) {
        self.turning_off_failed(error);
        if self.heal.is_some() {
            return;
        }
        let recent = self.healed_at.is_some_and(|then| now.mono.since(then) < HEAL_BACKOFF_MAX_US);
        let wait_us = if recent { self.heal_backoff_us } else { 0 };
        if !recent {
            self.heal_backoff_us = HEAL_BACKOFF_MIN_US;
        }
        self.heal = Some(Heal { error: error.to_owned(), next_try: MonoUs(now.mono.0 + wait_us) });
    }

    /// A heal has failed; the next waits longer.
    pub(super) fn heal_failed(&mut self, now: Now) {
        if let Some(heal) = &mut self.heal {
            heal.next_try = MonoUs(now.mono.0 + self.heal_backoff_us);
            self.heal_backoff_us = (self.heal_backoff_us * 2).min(HEAL_BACKOFF_MAX_US);
        }
    }

    /// The file in force is a fresh one: whatever the old one suffered from is gone with it.
    pub(super) fn healed(&mut self, now: Now) {
        if self.heal.take().is_some() {
            self.healed_at = Some(now.mono);
            self.heal_backoff_us = (self.heal_backoff_us * 2).min(HEAL_BACKOFF_MAX_US);
            log::warn!("The AOF file has been replaced by a fresh one; the log is whole again");
        }
        self.write_fault = None;
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

    /// Why new writes are refused, as the error reply without its leading `-`; `None` while they
    /// are not.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.fault().map(|error| format!("MISCONF Errors writing to the AOF file: {error}"))
    }

    /// Whether writes or syncs fail, so that new writes are refused.
    #[must_use]
    pub fn is_faulted(&self) -> bool {
        self.fault().is_some()
    }

    /// The error under which the log is faulted, in the operating system's words.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        let write = self.write_fault.as_ref().map(|fault| fault.error.as_str());
        write.or(self.heal.as_ref().map(|heal| heal.error.as_str()))
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

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<LogEvent> {
        std::mem::take(&mut self.events)
    }

    /// Figures for INFO.
    #[must_use]
    pub fn figures(&self, now: Now) -> LogFigures {
        let mut figures = LogFigures {
            enabled: self.mode != Mode::Off,
            current_bytes: self.current_bytes(),
            base_bytes: self.base_bytes,
            buffer_bytes: self.buf.len() as u64,
            sync_running: self.sync.is_some(),
            delayed_syncs: self.delayed_syncs,
            write_error: self.write_fault.as_ref().map(|fault| fault.error.clone()),
            sync_error: self.heal.as_ref().map(|heal| heal.error.clone()),
            appended: self.appended(),
            written: self.written,
            durable: self.durable,
            oldest_unsynced_us: self.ages.oldest().map(|then| now.mono.since(then)),
            ..LogFigures::default()
        };
        self.rewrite.fill_figures(&mut figures, now.mono);
        figures
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
    /// policy counts; sealing begins or ends with the next group.
    pub fn set_options(&mut self, options: LogOptions, now: Now) {
        if options.policy != self.options.policy {
            self.floors.policy_changed(self.options.policy, self.appended());
        }
        self.options = options;
        self.advance(now);
    }

    /// `appendonly yes`: the server is to start a rewrite ([`AppendLog::rewrite_due`] says so),
    /// whose file becomes the log. [`LogEvent::TurnedOn`] or [`LogEvent::TurnOnFailed`] tells how
    /// it ended. Does nothing if the log is on.
    pub fn turn_on(&mut self) {
        match self.mode {
            Mode::Off => self.mode = Mode::Starting,
            Mode::Stopping => self.mode = Mode::On,
            Mode::Starting | Mode::On => {}
        }
    }

    /// `appendonly no`: everything appended so far is made durable, then every gate opens and the
    /// log is off ([`LogEvent::TurnedOff`]). Does nothing if the log is off.
    ///
    /// # Errors
    /// The error under which the log is faulted: replies wait for promises that could then be
    /// neither kept nor taken back.
    pub fn turn_off(&mut self, now: Now) -> Result<(), String> {
        match self.mode {
            Mode::Off | Mode::Stopping => return Ok(()),
            Mode::Starting => {
                self.abandon_rewrite("the log is being turned off", now);
                self.switched_off();
                return Ok(());
            }
            Mode::On => {}
        }
        if let Some(fault) = self.fault() {
            return Err(fault.to_owned());
        }
        if !self.rewrite.is_renaming() {
            self.abandon_rewrite("the log is being turned off", now);
        }
        self.mode = Mode::Stopping;
        self.flush(now);
        Ok(())
    }

    fn finish_stopping(&mut self, now: Now) {
        let done = self.mode == Mode::Stopping
            && self.durable >= self.appended()
            && !self.rewrite.is_renaming();
        if !done {
            return;
        }
        let stamp = self.stamp(now);
        for sink in &mut self.sinks {
            // So that later damage is told from a torn tail. Everything is durable already, so
            // that failing here loses nothing.
            if let Err(error) = sink.tail.close(stamp) {
                log::warn!("The AOF file is left without closing seals: {}", describe(&error));
            }
        }
        self.switched_off();
    }

    fn switched_off(&mut self) {
        self.end_log();
        self.events.push(LogEvent::TurnedOff);
    }

    /// There is no log from here on, and nothing waits for one.
    pub(super) fn end_log(&mut self) {
        self.mode = Mode::Off;
        let end = self.appended();
        self.drop_buffer_until(end);
        (self.written, self.durable) = (end, end);
        self.ages = Ages::from(end);
        self.rewrite.log_ended();
        self.floors = Floors::default();
        self.write_fault = None;
        self.heal = None;
        self.selected = None;
        let files = self.sinks.drain(..).map(|sink| Arc::clone(sink.tail.file())).collect();
        self.discard(None, files);
    }

    fn turning_off_failed(&mut self, error: &str) {
        if self.mode == Mode::Stopping {
            self.mode = Mode::On;
            self.events.push(LogEvent::TurnOffFailed(error.to_owned()));
        }
    }

    /// Closes files away from the loop, and removes `name` if given.
    pub(super) fn discard(&mut self, name: Option<OsString>, files: Vec<Arc<dyn LogFile>>) {
        let storage = Arc::clone(&self.storage);
        let attempt = self.rewrite.attempt();
        let work = Work::Discard { storage, name, files };
        if self.helper.submit(HandOffJob { attempt, work }).is_err() {
            log::error!("The AOF rewrite's helper thread has ended; a temporary file may be left");
        }
    }

    // ---- the end ---------------------------------------------------------------------------

    /// Makes everything appended so far durable. Blocks: for DEBUG LOADAOF and shutting down, not
    /// while serving.
    ///
    /// # Errors
    /// The write's or the sync's error. A failed sync poisons the file as ever.
    pub fn sync_now(&mut self, now: Now) -> io::Result<()> {
        if matches!(self.mode, Mode::Off | Mode::Starting) {
            return Ok(());
        }
        self.write_group(now, true);
        if self.sync.is_some() {
            // Its error must not be missed: a sync of ours after it would prove nothing.
            match self.syncer.wait() {
                Ok(results) => self.sync_done(results, now),
                Err(Gone) => self.syncer_gone(now),
            }
        }
        self.check_fault()?;
        for index in 0..self.sinks.len() {
            let Some(sink) = self.sinks.get_mut(index) else { break };
            let id = sink.id;
            match sink.tail.file().sync_data() {
                Ok(()) => {
                    sink.durable = sink.written;
                    sink.tail.set_known_durable(sink.tail.end());
                }
                Err(error) => {
                    self.poison(id, &describe(&error), now);
                    return Err(error);
                }
            }
        }
        self.advance(now);
        Ok(())
    }

    /// Ends the log in order: writes, syncs, and seals the end with a claim that all before it is
    /// durable. Gives up a rewrite; the server kills the child ([`AppendLog::child_to_kill`]).
    /// Blocks for the disk.
    ///
    /// # Errors
    /// The write's or the sync's error. The log goes on as it was, so that a server that does not
    /// want to stop on this can go on too.
    pub fn shutdown(&mut self, now: Now) -> io::Result<()> {
        while self.rewrite.is_renaming() {
            // The names must not change behind a server that believes it has stopped.
            match self.helper.wait() {
                Ok((attempt, outcome)) => self.hand_off_step(attempt, outcome, now),
                Err(Gone) => self.helper_gone(now),
            }
        }
        self.abandon_rewrite("the server stops", now);
        if matches!(self.mode, Mode::Off | Mode::Starting) {
            return Ok(());
        }
        self.sync_now(now)?;
        self.check_fault()?;
        let stamp = self.stamp(now);
        for sink in &mut self.sinks {
            // Only now: the closing seals state that all before them is durable, and it is.
            sink.tail.close(stamp)?;
            sink.tail.file().sync_data()?;
        }
        Ok(())
    }

    fn check_fault(&self) -> io::Result<()> {
        self.fault().map_or(Ok(()), |error| Err(io::Error::other(error.to_owned())))
    }
}

/// The wall clock as seals state it; a clock before 1970 counts as 1970.
pub(super) fn unix_ms(now: Now) -> u64 {
    u64::try_from(now.unix.0).unwrap_or(0)
}
