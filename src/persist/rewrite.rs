//! The rewrite: a forked child writes the data set into a new file, the parent queues what happens
//! meanwhile, and the new file takes the log's name once it has all of it, durably.
//!
//! ```text
//!  Idle ─ begin ─► Forking ─► Child ─► Adopting ─► Draining ─► Syncing ─► Joined ─► Idle
//!                                │         helper: finds its end, appends rounds of the diff
//!                                │                            loop: writes each group to both files
//!                                └─ Dying (killed or given up, not reaped yet) ─► Idle
//! ```
//!
//! Until the rename is ordered (in `Joined`) the rewrite can be given up at any moment: the old
//! file has everything, the new one has no name. From then on its end is awaited.
//!
//! The same machinery heals a log whose file can no longer be synced, and gives a log that is being
//! turned on its first file. There is then no healthy old file, and the diff alone has the groups.
//!
//! Here are the phases up to the child's end; [`super::joining`] has those behind it, [`super::due`]
//! says when one begins.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::base::{BaseOptions, BaseWriter};
use super::diff::Diff;
use super::figures::LogFigures;
use super::handoff::Work;
use super::log::{AppendLog, LogEvent, Mode, Sink, unix_ms};
use super::storage::{LogFile, describe};
use super::syncer::SinkId;
use super::tail::{Place, Stamp};
use crate::sys::clock::{MonoUs, Now};

pub use super::due::RewriteCause;

/// How long a heal waits for the end of a killed child. Most take milliseconds; one that hangs in a
/// call to a dead disk may take for ever, and its file has neither a name nor a reader, so that
/// nothing but memory is lost by going on without it.
const DYING_PATIENCE_US: u64 = 5_000_000;

/// Why a rewrite does not begin.
#[derive(Debug)]
pub enum BeginError {
    /// One is running.
    AlreadyRunning,
    /// The log's end is not in the file, so there is no point from which the diff could begin.
    Faulted(String),
    /// The disk has no room for the new file beside the old one, by an estimate.
    NoRoom {
        /// Bytes that it will take.
        needed: u64,
        /// Bytes that there are.
        free: u64,
    },
    /// The new file cannot be created.
    Create(io::Error),
}

impl fmt::Display for BeginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BeginError::AlreadyRunning => {
                f.write_str("Background append only file rewriting already in progress")
            }
            BeginError::Faulted(error) => {
                write!(f, "Can't rewrite append only file in background: {error}")
            }
            BeginError::NoRoom { needed, free } => write!(
                f,
                "Can't rewrite append only file in background: the disk has {free} bytes free and \
                 the new file needs about {needed}"
            ),
            BeginError::Create(error) => write!(
                f,
                "Can't rewrite append only file in background: opening the temporary file: {}",
                describe(error)
            ),
        }
    }
}

impl std::error::Error for BeginError {}

/// What the child needs: made before the fork, run behind it.
pub struct RewriteJob {
    file: Arc<dyn LogFile>,
    options: BaseOptions,
}

impl RewriteJob {
    /// The child's whole work: `entries` writes the data set, which is then sealed and synced. Does
    /// not log and takes no lock. Returns the file's length in bytes.
    ///
    /// # Errors
    /// Those of `entries`, write(2) and fdatasync(2); the child is then to exit with a status other
    /// than 0.
    pub fn run(&self, entries: impl FnOnce(&mut BaseWriter) -> io::Result<()>) -> io::Result<u64> {
        let mut writer = BaseWriter::new(Arc::clone(&self.file), self.options)?;
        entries(&mut writer)?;
        writer.finish()
    }
}

/// Where a rewrite is.
#[derive(Default)]
pub(super) enum Phase {
    #[default]
    Idle,
    /// Begun; the server has not said yet how the fork went.
    Forking { file: Arc<dyn LogFile>, sealed: bool },
    /// The child is writing.
    Child { pid: i32, file: Arc<dyn LogFile>, sealed: bool, progress: Progress },
    /// Given up while the child lives; its end is awaited, so that there are never two. Only a heal
    /// goes on without it after a while.
    Dying { pid: i32, since: MonoUs },
    /// The helper looks for the end of the child's file.
    Adopting,
    /// The helper, which has the file's end, appends rounds of the diff.
    Draining(Draining),
    /// The new file has everything and the loop writes each group to it too, while the helper does
    /// the large sync. `covers` is the log offset that this sync will have made durable.
    Syncing { candidate: Sink, covers: u64 },
    /// The new file is one of the files in force, the last of them: nothing counts as written or
    /// durable any more that is not so in it. When it is durable as far as has been published, the
    /// rename is `ordered`.
    Joined { id: SinkId, ordered: bool },
}

/// How bringing the new file up to the log's end goes on.
#[derive(Clone, Copy, Default)]
pub(super) struct Draining {
    /// Rounds handed to the helper that were no larger than what the loop takes over.
    pub(super) small_rounds: u32,
    /// Bytes of records that there were to bring over when it began.
    pub(super) initial_bytes: u64,
    /// Bytes of records handed to the helper so far.
    pub(super) handed_bytes: u64,
    /// Memory that the round under way takes.
    pub(super) lent_bytes: usize,
    /// Log offset from which on writers are to be held back until the round is done.
    pub(super) hold_from: Option<u64>,
}

/// How far the child was seen to be.
pub(super) struct Progress {
    bytes: u64,
    /// Since when.
    at: MonoUs,
}

/// The state of rewriting.
#[derive(Default)]
pub(super) struct Rewrite {
    pub(super) phase: Phase,
    /// Number of the current or last rewrite: tells results of abandoned ones apart.
    pub(super) attempt: u64,
    /// Steps of hand-offs whose results have come, those of abandoned ones too.
    pub(super) steps_done: u64,
    /// Invariant: empty unless the phase is one between the fork and `Syncing`.
    pub(super) diff: Diff,
    /// Log offset where the diff ends.
    pub(super) diff_end: u64,
    /// Whether the log was on, or being turned on, at the fork, so that the diff is complete and
    /// the new file can become the log.
    pub(super) becomes_log: bool,
    pub(super) started: MonoUs,
    pub(super) rename_ordered: MonoUs,
    /// The wall clock at the fork, as the base's seals state it.
    pub(super) forked_ms: u64,
    kill: Option<i32>,
    /// A killed child whose end a heal has not waited for. One at most, so that children that never
    /// end, and what they hold of memory, do not pile up.
    unreaped: Option<i32>,
    pub(super) last_duration_us: Option<u64>,
    begun: u64,
    /// Failures since the last success.
    pub(super) failures: u32,
    /// Successes in a row that have left the file close to its configured limit.
    pub(super) crowded: u32,
    /// When one may start by itself again.
    pub(super) not_before: Option<MonoUs>,
}

impl Rewrite {
    pub(super) fn attempt(&self) -> u64 {
        self.attempt
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// Whether the rename has been ordered and has not been answered: the point of no return.
    pub(super) fn is_renaming(&self) -> bool {
        matches!(self.phase, Phase::Joined { ordered: true, .. })
    }

    /// Whether the file `id` is a rewritten one that can still be given up though it has joined.
    pub(super) fn can_still_drop(&self, of: SinkId) -> bool {
        matches!(self.phase, Phase::Joined { id, ordered: false } if id == of)
    }

    /// Whether what is appended now reaches the new file by the diff or directly.
    pub(super) fn covers_appends(&self) -> bool {
        self.becomes_log && !matches!(self.phase, Phase::Idle | Phase::Dying { .. })
    }

    /// The log has been turned off: what happens from now on misses in the diff, so a rewrite that
    /// is still running can no longer give the log its file.
    pub(super) fn log_ended(&mut self) {
        self.becomes_log = false;
    }

    /// Memory that the helper has of the diff.
    pub(super) fn lent_bytes(&self) -> usize {
        if let Phase::Draining(draining) = &self.phase { draining.lent_bytes } else { 0 }
    }

    /// Changes how much memory the diff may take.
    pub(super) fn limit_diff(&mut self, limit_bytes: usize) {
        let lent_bytes = self.lent_bytes();
        self.diff.set_limit(limit_bytes);
        self.diff.spill(lent_bytes);
    }

    /// Whether what is appended now goes into the diff.
    pub(super) fn queues(&self) -> bool {
        matches!(
            self.phase,
            Phase::Forking { .. } | Phase::Child { .. } | Phase::Adopting | Phase::Draining(_)
        )
    }

    /// Log offset from which the rewrite still needs the log's buffer.
    pub(super) fn needs_from(&self) -> Option<u64> {
        match &self.phase {
            Phase::Syncing { candidate, .. } => Some(candidate.written),
            _ if self.queues() => Some(self.diff_end),
            _ => None,
        }
    }

    /// Whether the hand-off waits for a sync whatever the policy says.
    pub(super) fn wants_sync(&self, log: &AppendLog) -> bool {
        let Phase::Joined { id, ordered: false } = self.phase else { return false };
        log.sinks.iter().any(|sink| sink.id == id && sink.durable < log.durable)
    }

    pub(super) fn fill_figures(&self, figures: &mut LogFigures, now: MonoUs) {
        figures.rewrite_running = !self.is_idle();
        figures.rewrite_running_us = (!self.is_idle()).then(|| now.since(self.started));
        figures.last_rewrite_us = self.last_duration_us;
        figures.last_rewrite_ok = self.failures == 0;
        figures.rewrites = self.begun;
        figures.rewrite_failures = self.failures.into();
        figures.rewrite_diff_bytes = (self.diff.memory_bytes() + self.lent_bytes()) as u64;
        figures.rewrite_reread_bytes = self.diff.spilled_bytes();
    }
}

/// What marks a temporary file of a rewrite: `<name>.rewrite-<process>-<number>`.
const TEMP_INFIX: &str = ".rewrite-";

impl AppendLog {
    /// The temporary name of the current rewrite. Its own for each, so that a child that is still
    /// dying never writes into the next one's file.
    pub(super) fn temp_name(&self) -> OsString {
        let mut name = self.name.clone();
        name.push(format!("{TEMP_INFIX}{}-{}", std::process::id(), self.rewrite.attempt));
        name
    }

    /// Removes what a dead run has left. For start-up, under the lock. What cannot be removed is
    /// told and left: it takes room, and harms nobody.
    pub(super) fn remove_stale_temps(&self) -> io::Result<()> {
        for name in self.storage.list()? {
            if is_temp_name(&name, &self.name) {
                log::warn!("Removing {}, left by a rewrite of a server that died", name.display());
                if let Err(error) = self.storage.remove(&name) {
                    log::warn!("{} cannot be removed: {}", name.display(), describe(&error));
                }
            }
        }
        Ok(())
    }

    /// Whether the only thing in a heal's way is a killed child that does not end.
    pub(super) fn heal_waits_no_longer(&self, now: Now) -> bool {
        let Phase::Dying { since, .. } = self.rewrite.phase else { return false };
        let is_overdue = now.mono.since(since) >= DYING_PATIENCE_US;
        is_overdue && self.heal.is_some() && self.rewrite.unreaped.is_none()
    }

    /// Begins a rewrite: the server forks next, in the same turn, and says how that went by
    /// [`AppendLog::rewrite_started`] or [`AppendLog::rewrite_not_started`]. To be called with
    /// everything flushed and outside any transaction: what the file has and what memory holds at
    /// the fork must be the same state.
    ///
    /// # Errors
    /// [`BeginError`].
    pub fn begin_rewrite(&mut self, now: Now) -> Result<RewriteJob, BeginError> {
        if let Phase::Dying { pid, .. } = self.rewrite.phase
            && self.heal_waits_no_longer(now)
        {
            log::warn!("The killed AOF rewrite child {pid} does not end; it is not waited for");
            self.rewrite.unreaped = Some(pid);
            self.rewrite.phase = Phase::Idle;
        }
        if !self.rewrite.is_idle() {
            return Err(BeginError::AlreadyRunning);
        }
        let appended = self.appended();
        let healthy = self.sinks.iter().filter(|sink| !sink.poisoned);
        if healthy.clone().any(|sink| sink.written != appended) {
            let fault = self.fault().unwrap_or("the log is not flushed").to_owned();
            self.heal_failed(now); // If this was to be one: not again in the next turn.
            return Err(BeginError::Faulted(fault));
        }
        // A heal is worth every try: without it nothing works.
        if self.heal.is_none() {
            self.check_room().inspect_err(|error| self.rewrite_refused(error, now))?;
        }
        self.rewrite.becomes_log = self.mode != Mode::Off;
        self.rewrite.attempt += 1;
        self.rewrite.begun += 1;
        self.rewrite.started = now.mono;
        // The directory may have been replaced: the new file belongs where the next start looks.
        let created = self.storage.reopen().and_then(|()| self.storage.create(&self.temp_name()));
        let file = match created {
            Ok(file) => file,
            Err(error) => {
                self.rewrite_failed(&format!("creating the file: {}", describe(&error)), now);
                return Err(BeginError::Create(error));
            }
        };
        // Without a healthy file the buffer holds what no file will get; the fork's memory has it.
        self.drop_buffer_until(appended);
        // The new file's stream begins here, and must say its database itself.
        self.selected = None;
        self.rewrite.diff_end = appended;
        self.rewrite.diff =
            Diff::beginning_at(self.readable_old_file(), self.options.rewrite_diff_max_bytes);
        // The base shows the data as of now: its seals must not be older than groups that are in
        // it, nor younger than those that follow.
        let unix_ms = self.stamp(now).unix_ms.max(unix_ms(now));
        self.rewrite.forked_ms = unix_ms;
        let sealed = self.options.seals;
        let options = BaseOptions { seals: sealed, incremental: self.options.incremental, unix_ms };
        self.rewrite.phase = Phase::Forking { file: Arc::clone(&file), sealed };
        Ok(RewriteJob { file, options })
    }

    /// The file from which the diff can be read back, and where it begins there: not one that is
    /// not trusted, nor one of two that differ in their seals.
    fn readable_old_file(&self) -> Option<(Arc<dyn LogFile>, Place)> {
        match self.sinks.as_slice() {
            [sink] if !sink.poisoned => Some((Arc::clone(sink.tail.file()), sink.tail.place())),
            _ => None,
        }
    }

    /// The fork has succeeded.
    pub fn rewrite_started(&mut self, pid: i32) {
        if let Phase::Forking { file, sealed } = std::mem::take(&mut self.rewrite.phase) {
            log::info!("Background append only file rewriting started by pid {pid}");
            let progress = Progress { bytes: 0, at: self.rewrite.started };
            self.rewrite.phase = Phase::Child { pid, file, sealed, progress };
        }
    }

    /// The fork has failed.
    pub fn rewrite_not_started(&mut self, error: &io::Error, now: Now) {
        if let Phase::Forking { .. } = self.rewrite.phase {
            self.abandon_rewrite(&format!("fork: {}", describe(error)), now);
        }
    }

    /// Gives up a rewrite whose child has written nothing for the configured time: it hangs, and
    /// would keep every later rewrite waiting, a heal too. One fstat(2).
    pub(super) fn watch_child(&mut self, now: Now) {
        let timeout_us = self.options.rewrite_timeout_us;
        let Phase::Child { pid, file, progress, .. } = &mut self.rewrite.phase else { return };
        // A length that cannot be told is no sign of life.
        let bytes = file.size().unwrap_or(progress.bytes);
        if bytes != progress.bytes {
            *progress = Progress { bytes, at: now.mono };
        }
        let idle_us = now.mono.since(progress.at);
        if timeout_us > 0 && idle_us >= timeout_us {
            let idle_s = idle_us / 1_000_000;
            let why = format!("the child {pid} has written nothing for {idle_s} s and is killed");
            self.abandon_rewrite(&why, now);
        }
    }

    /// The child that the server should kill, because its work is not wanted any more.
    #[must_use]
    pub fn child_to_kill(&mut self) -> Option<i32> {
        self.rewrite.kill.take()
    }

    /// A child that shares the server's memory, from the fork until it is reaped: the current
    /// rewrite's if it has one.
    #[must_use]
    pub fn rewrite_child(&self) -> Option<i32> {
        match self.rewrite.phase {
            Phase::Child { pid, .. } | Phase::Dying { pid, .. } => Some(pid),
            _ => self.rewrite.unreaped,
        }
    }

    /// The child `pid` was reaped: with exit status 0, or as the error describes (`terminated by
    /// signal 9`).
    pub fn child_exited(&mut self, pid: i32, outcome: Result<(), String>, now: Now) {
        if self.rewrite.unreaped == Some(pid) {
            self.rewrite.unreaped = None;
            return;
        }
        if self.rewrite_child() != Some(pid) {
            return;
        }
        self.rewrite.kill = None;
        match (std::mem::take(&mut self.rewrite.phase), outcome) {
            (Phase::Child { file, sealed, .. }, Ok(())) => {
                log::info!("Background AOF rewrite terminated with success");
                self.rewrite.phase = Phase::Adopting;
                self.help(Work::Adopt { file, sealed }, now);
            }
            (Phase::Child { file, .. }, Err(error)) => {
                self.discard(Some(self.temp_name()), vec![file]);
                self.rewrite_failed(&error, now);
            }
            // Given up before; that was when its failure was counted and its file removed.
            _ => {}
        }
    }

    /// Queues what was flushed for the new file, or writes it there.
    pub(super) fn feed_rewrite(&mut self, stamp: Stamp, now: Now) {
        let appended = self.appended();
        let queues = self.rewrite.queues();
        let waits_for_header = self.waits_for_header();
        let failed = match &mut self.rewrite.phase {
            Phase::Syncing { candidate, .. } if candidate.written < appended => {
                let from = (candidate.written - self.buf_start) as usize;
                let seals = self.options.seals;
                let result = candidate.tail.write_group(&mut self.buf, from, stamp, seals);
                candidate.written = appended;
                result.err()
            }
            // What waits for a header is queued when it stands in the old file, where it may have to
            // be read back from.
            _ if queues && waits_for_header => None,
            _ if queues => {
                let from = (self.rewrite.diff_end - self.buf_start) as usize;
                // Everything flushed stands in every healthy file.
                let behind = self.sinks.first().map(|sink| sink.tail.place());
                let lent_bytes = self.rewrite.lent_bytes();
                let diff = &mut self.rewrite.diff;
                diff.push(self.buf.get(from..).unwrap_or(&[]), stamp, behind);
                diff.spill(lent_bytes);
                self.rewrite.diff_end = appended;
                None
            }
            _ => None,
        };
        if let Some(error) = failed {
            self.abandon_rewrite(&format!("write: {}", describe(&error)), now);
        }
    }

    fn waits_for_header(&self) -> bool {
        let appended = self.appended();
        self.sinks.first().is_some_and(|sink| {
            !sink.poisoned && sink.written < appended && sink.tail.awaits_header()
        })
    }

    /// Gives up a rewrite in any phase before the rename is ordered; does nothing in the others.
    pub(super) fn abandon_rewrite(&mut self, why: &str, now: Now) {
        let mut files = Vec::new();
        match std::mem::take(&mut self.rewrite.phase) {
            Phase::Idle => return,
            other @ (Phase::Dying { .. } | Phase::Joined { ordered: true, .. }) => {
                self.rewrite.phase = other;
                return;
            }
            Phase::Child { pid, file, .. } => {
                self.rewrite.kill = Some(pid);
                self.rewrite.phase = Phase::Dying { pid, since: now.mono };
                // Not when the child has been reaped: a server that stops does not wait for that.
                // Until it is dead it writes to a file without a name.
                files.push(file);
            }
            Phase::Forking { file, .. } => files.push(file),
            Phase::Adopting | Phase::Draining(_) => {}
            Phase::Syncing { candidate, .. } => files.push(Arc::clone(candidate.tail.file())),
            Phase::Joined { id, .. } => {
                let joined = |sink: &mut Sink| sink.id == id;
                files.extend(self.sinks.extract_if(.., joined).map(|s| Arc::clone(s.tail.file())));
            }
        }
        // The helper works in order, so this removal comes after whatever it still does.
        self.discard(Some(self.temp_name()), files);
        // Results that are still under way belong to a rewrite that is over.
        if self.rewrite.is_idle() {
            self.rewrite.attempt += 1;
        }
        self.rewrite_failed(why, now);
    }

    /// Counts a failure, tells it, and puts off the next try.
    pub(super) fn rewrite_failed(&mut self, why: &str, now: Now) {
        self.rewrite.diff = Diff::default();
        self.rewrite.last_duration_us = Some(now.mono.since(self.rewrite.started));
        self.put_off_rewrite(now);
        self.heal_failed(now);
        self.events.push(LogEvent::RewriteFailed(why.to_owned()));
        if self.rewrite.becomes_log {
            self.turning_on_failed(why);
        }
    }

    /// One was refused before it began.
    fn rewrite_refused(&mut self, error: &BeginError, now: Now) {
        self.put_off_rewrite(now);
        self.turning_on_failed(&error.to_string());
    }

    fn turning_on_failed(&mut self, why: &str) {
        if self.mode == Mode::Starting {
            self.end_log();
            self.events.push(LogEvent::TurnOnFailed(why.to_owned()));
        }
    }
}

fn is_temp_name(name: &OsStr, log: &OsStr) -> bool {
    let Some(rest) = name.as_bytes().strip_prefix(log.as_bytes()) else { return false };
    let Some(rest) = rest.strip_prefix(TEMP_INFIX.as_bytes()) else { return false };
    let mut parts = rest.split(|&byte| byte == b'-');
    let number = |part: Option<&[u8]>| {
        part.is_some_and(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit))
    };
    number(parts.next()) && number(parts.next()) && parts.next().is_none()
}
