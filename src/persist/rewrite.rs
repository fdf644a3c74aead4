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

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::base::{BaseOptions, BaseWriter};
use super::diff::Diff;
use super::figures::LogFigures;
use super::handoff::{HandOffJob, Outcome, RenameOutcome, Work};
use super::log::{AppendLog, LogEvent, LogOptions, Mode, Sink, unix_ms};
use super::storage::{LogFile, describe};
use super::syncer::SinkId;
use super::tail::{Stamp, Tail};
use crate::sys::clock::{MonoUs, Now};

/// When this little of the diff is left, the loop writes it itself: an ordinary turn's write.
const TAKEOVER_BYTES: usize = 64 << 10;
/// After this many rounds the loop takes over whatever is left. Each round is what was appended
/// while the one before was written, so they shrink unless the disk is slower than the clients.
const MAX_ROUNDS: u32 = 64;
/// How long a heal waits for the end of a killed child. Most take milliseconds; one that hangs in a
/// call to a dead disk may take for ever, and its file has neither a name nor a reader, so that
/// nothing but memory is lost by going on without it.
const DYING_PATIENCE_US: u64 = 5_000_000;
/// After a failure none starts by itself for this long, doubled with each further failure ...
const AUTO_BACKOFF_MIN_US: u64 = 10_000_000;
/// ... up to this.
const AUTO_BACKOFF_MAX_US: u64 = 3_600_000_000;

/// Why a rewrite is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewriteCause {
    /// The file has grown by the configured percentage.
    Growth {
        /// By how much, in percent.
        percent: u64,
    },
    /// The file can no longer be trusted.
    Heal,
    /// The log is being turned on.
    TurnOn,
}

/// Why a rewrite does not begin.
#[derive(Debug)]
pub enum BeginError {
    /// One is running.
    AlreadyRunning,
    /// The log's end is not in the file, so there is no point from which the diff could begin.
    Faulted(String),
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
enum Phase {
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
    Draining { rounds: u32 },
    /// The new file has everything and the loop writes each group to it too, while the helper does
    /// the large sync. `covers` is the log offset that this sync will have made durable.
    Syncing { candidate: Sink, covers: u64 },
    /// The new file is one of the files in force, the last of them: nothing counts as written or
    /// durable any more that is not so in it. When it is durable as far as has been published, the
    /// rename is `ordered`.
    Joined { id: SinkId, ordered: bool },
}

/// How far the child was seen to be.
struct Progress {
    bytes: u64,
    /// Since when.
    at: MonoUs,
}

/// The state of rewriting.
pub(super) struct Rewrite {
    phase: Phase,
    /// Number of the current or last rewrite: tells results of abandoned ones apart.
    attempt: u64,
    /// Invariant: empty unless the phase is one between the fork and `Syncing`.
    diff: Diff,
    /// Log offset where the diff ends.
    diff_end: u64,
    /// Whether the log was on, or being turned on, at the fork, so that the diff is complete and
    /// the new file can become the log.
    becomes_log: bool,
    started: MonoUs,
    kill: Option<i32>,
    /// A killed child whose end a heal has not waited for. One at most, so that children that never
    /// end, and what they hold of memory, do not pile up.
    unreaped: Option<i32>,
    last_duration_us: Option<u64>,
    begun: u64,
    failures: u64,
    not_before: Option<MonoUs>,
}

impl Default for Rewrite {
    fn default() -> Rewrite {
        Rewrite {
            phase: Phase::Idle,
            attempt: 0,
            diff: Diff::default(),
            diff_end: 0,
            becomes_log: false,
            started: MonoUs::default(),
            kill: None,
            unreaped: None,
            last_duration_us: None,
            begun: 0,
            failures: 0,
            not_before: None,
        }
    }
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

    fn queues(&self) -> bool {
        matches!(
            self.phase,
            Phase::Forking { .. } | Phase::Child { .. } | Phase::Adopting | Phase::Draining { .. }
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
        figures.rewrite_failures = self.failures;
        figures.rewrite_diff_bytes = self.diff.memory_bytes() as u64;
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

    /// Whether a rewrite should begin, and why. The server is to begin one where no other child
    /// is running, and right after [`AppendLog::flush`].
    #[must_use]
    pub fn rewrite_due(&self, now: Now) -> Option<RewriteCause> {
        let is_busy = !self.rewrite.is_idle() && !self.heal_waits_no_longer(now);
        if is_busy || self.begins_sealing() {
            return None;
        }
        if self.mode == Mode::Starting {
            return Some(RewriteCause::TurnOn);
        }
        if self.mode != Mode::On {
            return None;
        }
        if let Some(heal) = &self.heal {
            return (now.mono >= heal.next_try).then_some(RewriteCause::Heal);
        }
        let waits = self.rewrite.not_before.is_some_and(|until| now.mono < until);
        let LogOptions { rewrite_percentage, rewrite_min_bytes, .. } = self.options;
        let size = self.current_bytes();
        if waits || rewrite_percentage == 0 || size <= rewrite_min_bytes || self.fault().is_some() {
            return None;
        }
        let growth = size.saturating_sub(self.base_bytes).saturating_mul(100);
        let percent = growth / self.base_bytes.max(1);
        (percent >= u64::from(rewrite_percentage)).then_some(RewriteCause::Growth { percent })
    }

    /// Whether the only thing in a heal's way is a killed child that does not end.
    fn heal_waits_no_longer(&self, now: Now) -> bool {
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
        // The base shows the data as of now: its seals must not be older than groups that are in
        // it, nor younger than those that follow.
        let unix_ms = self.stamp(now).unix_ms.max(unix_ms(now));
        let sealed = self.options.seals;
        let options = BaseOptions { seals: sealed, incremental: self.options.incremental, unix_ms };
        self.rewrite.phase = Phase::Forking { file: Arc::clone(&file), sealed };
        Ok(RewriteJob { file, options })
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
        let failed = match &mut self.rewrite.phase {
            Phase::Syncing { candidate, .. } if candidate.written < appended => {
                let from = (candidate.written - self.buf_start) as usize;
                let seals = self.options.seals;
                let result = candidate.tail.write_group(&mut self.buf, from, stamp, seals);
                candidate.written = appended;
                result.err()
            }
            _ if queues => {
                let from = (self.rewrite.diff_end - self.buf_start) as usize;
                self.rewrite.diff.push(self.buf.get(from..).unwrap_or(&[]), stamp);
                self.rewrite.diff_end = appended;
                None
            }
            _ => None,
        };
        if let Some(error) = failed {
            self.abandon_rewrite(&format!("write: {}", describe(&error)), now);
        }
    }

    /// Takes the result of a step of the hand-off.
    pub(super) fn hand_off_step(&mut self, attempt: u64, outcome: Outcome, now: Now) {
        if let Outcome::Discarded(result) = outcome {
            if let Err(error) = result {
                log::warn!("A temporary file of a rewrite is left: {}", describe(&error));
            }
            return;
        }
        if attempt != self.rewrite.attempt {
            if let Outcome::Adopted(Ok(tail)) | Outcome::Appended(Ok(tail)) = outcome {
                let file = Arc::clone(tail.file());
                // First, so that the helper's handle is the last: see `finish_rewrite`.
                drop(tail);
                self.discard(None, vec![file]);
            }
            return;
        }
        match (&self.rewrite.phase, outcome) {
            (Phase::Adopting, Outcome::Adopted(Ok(tail))) => self.next_round(tail, 0, now),
            (&Phase::Draining { rounds }, Outcome::Appended(Ok(tail))) => {
                self.next_round(tail, rounds, now);
            }
            (Phase::Syncing { .. }, Outcome::Synced(Ok(()))) => self.join(),
            (Phase::Joined { .. }, Outcome::Renamed(outcome)) => self.renamed(outcome, now),
            (_, Outcome::Adopted(Err(error))) => self.step_failed("reading", &error, now),
            (_, Outcome::Appended(Err(error))) => self.step_failed("appending to", &error, now),
            (_, Outcome::Synced(Err(error))) => self.step_failed("syncing", &error, now),
            // A late result of a phase that was left: nothing hangs on it.
            _ => {}
        }
    }

    fn step_failed(&mut self, doing: &str, error: &io::Error, now: Now) {
        self.abandon_rewrite(&format!("{doing} the new file: {}", describe(error)), now);
    }

    /// Gives the helper what has queued up, until so little is left that the loop writes it itself.
    fn next_round(&mut self, tail: Tail, rounds: u32, now: Now) {
        if self.rewrite.diff.queued_bytes() > TAKEOVER_BYTES && rounds < MAX_ROUNDS {
            let diff = std::mem::take(&mut self.rewrite.diff);
            self.rewrite.phase = Phase::Draining { rounds: rounds + 1 };
            let seals = self.options.seals;
            self.help(Work::Append { tail, diff, seals }, now);
        } else if let Err(error) = self.take_over(tail, now) {
            self.step_failed("appending to", &error, now);
        }
    }

    /// From here on the loop writes each group to both files.
    fn take_over(&mut self, mut tail: Tail, now: Now) -> io::Result<()> {
        let diff = std::mem::take(&mut self.rewrite.diff);
        let seals = self.options.seals;
        diff.drain(|group, stamp| tail.write_group(group, 0, stamp, seals))?;
        // The large sync covers what the file holds now; what the loop adds from here on is
        // durable only when a later sync says so, and the seals must not claim more.
        tail.set_unnamed(false);
        let file = Arc::clone(tail.file());
        let id = self.new_sink_id();
        let written = self.rewrite.diff_end;
        // Nothing of it counts as durable before the helper has synced it.
        let candidate = Sink { id, tail, written, durable: 0, poisoned: false };
        self.rewrite.phase = Phase::Syncing { candidate, covers: written };
        self.help(Work::Sync(file), now);
        Ok(())
    }

    /// The large sync is done: the new file becomes one of the files in force.
    fn join(&mut self) {
        match std::mem::take(&mut self.rewrite.phase) {
            Phase::Syncing { mut candidate, covers } => {
                candidate.durable = covers;
                self.rewrite.phase = Phase::Joined { id: candidate.id, ordered: false };
                self.sinks.push(candidate);
            }
            other => self.rewrite.phase = other,
        }
    }

    /// Orders the rename as soon as the new file is durable as far as replies have been told. That
    /// far the old file is durable, and a crash after the rename must not take anything back.
    pub(super) fn order_rename(&mut self) {
        let Phase::Joined { id, ordered: false } = self.rewrite.phase else { return };
        let ready = |sink: &Sink| sink.id == id && sink.durable >= self.durable;
        if !self.sinks.iter().any(ready) {
            return;
        }
        let from = self.temp_name();
        let (storage, to) = (Arc::clone(&self.storage), self.name.clone());
        let attempt = self.rewrite.attempt;
        let work = Work::Rename { storage, from, to };
        // If the helper is gone nothing has been renamed, and its end is noticed by its poll.
        if self.helper.submit(HandOffJob { attempt, work }).is_ok() {
            self.rewrite.phase = Phase::Joined { id, ordered: true };
        }
    }

    fn renamed(&mut self, outcome: RenameOutcome, now: Now) {
        let Phase::Joined { id, .. } = self.rewrite.phase else { return };
        match outcome {
            RenameOutcome::Failed(error) => {
                self.rewrite.phase = Phase::Joined { id, ordered: false };
                self.abandon_rewrite(&format!("rename: {}", describe(&error)), now);
            }
            RenameOutcome::NotDurable(error) => {
                // A crash may leave either file, so both stay in force and are written and synced.
                // Only another name change that is durable ends this.
                let error = describe(&error);
                log::error!("Error syncing the directory of the AOF file: {error}");
                self.rewrite.phase = Phase::Idle;
                if matches!(self.mode, Mode::On | Mode::Stopping) {
                    self.need_heal(&error, now);
                }
                self.rewrite_failed(&format!("directory sync: {error}"), now);
            }
            RenameOutcome::Durable => self.finish_rewrite(id, now),
        }
    }

    /// The new file is the log.
    fn finish_rewrite(&mut self, id: SinkId, now: Now) {
        self.rewrite.phase = Phase::Idle;
        let keep = self.rewrite.becomes_log && self.mode != Mode::Off;
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.sinks.drain(..).partition(|sink| keep && sink.id == id);
        self.sinks = kept;
        // By value: a handle kept here until after the helper has closed its own would make this
        // thread the one that frees the file's blocks.
        let files = gone.into_iter().map(|sink| Arc::clone(sink.tail.file())).collect();
        self.discard(None, files);
        self.base_bytes = self.current_bytes();
        self.rewrite.failures = 0;
        self.rewrite.not_before = None;
        self.rewrite.last_duration_us = Some(now.mono.since(self.rewrite.started));
        if !self.is_poisoned() {
            // Whatever the old file suffered from is gone with it.
            self.healed(now);
        }
        if self.mode == Mode::Starting && !self.sinks.is_empty() {
            self.mode = Mode::On;
            self.events.push(LogEvent::TurnedOn);
        }
        self.events.push(LogEvent::RewriteDone);
        self.publish();
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
            Phase::Adopting | Phase::Draining { .. } => {}
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

    /// Counts a failure, and puts off the next try.
    pub(super) fn rewrite_failed(&mut self, why: &str, now: Now) {
        let rewrite = &mut self.rewrite;
        rewrite.diff = Diff::default();
        rewrite.failures += 1;
        rewrite.last_duration_us = Some(now.mono.since(rewrite.started));
        let doublings = rewrite.failures.min(16) - 1;
        let backoff = (AUTO_BACKOFF_MIN_US << doublings).min(AUTO_BACKOFF_MAX_US);
        rewrite.not_before = Some(MonoUs(now.mono.0 + backoff));
        self.heal_failed(now);
        self.events.push(LogEvent::RewriteFailed(why.to_owned()));
        if self.mode == Mode::Starting && self.rewrite.becomes_log {
            self.end_log();
            self.events.push(LogEvent::TurnOnFailed(why.to_owned()));
        }
    }

    fn help(&mut self, work: Work, now: Now) {
        let attempt = self.rewrite.attempt;
        if self.helper.submit(HandOffJob { attempt, work }).is_err() {
            self.helper_gone(now);
        }
    }

    /// The helper thread has ended, which only a bug can do. What it had is given up; whether it
    /// has renamed is unknown, so both files stay in force.
    pub(super) fn helper_gone(&mut self, now: Now) {
        if self.rewrite.is_renaming() {
            self.rewrite.phase = Phase::Idle;
            self.need_heal("the AOF rewrite's helper thread has ended", now);
            self.rewrite_failed("the helper thread has ended", now);
        } else if !matches!(self.rewrite.phase, Phase::Forking { .. } | Phase::Child { .. }) {
            self.abandon_rewrite("the helper thread has ended", now);
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
