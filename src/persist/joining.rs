//! The second half of a rewrite, once its child has ended: the new file is brought up to the log's
//! end, becomes durable, and takes the log's name. [`super::rewrite`] has the first half and draws
//! the phases.
//!
//! The loop only orders these steps; the helper does them. What the loop itself writes of the diff
//! is never more than an ordinary turn writes.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use super::handoff::{HandOffJob, Outcome, RenameOutcome, Work};
use super::log::{AppendLog, LogEvent, LogOptions, Mode, Sink, SlowStep};
use super::reread::RereadError;
use super::rewrite::{Draining, Phase};
use super::storage::describe;
use super::syncer::SinkId;
use super::tail::Tail;
use crate::sys::clock::{Now, mono_us};

/// When this little of the diff is left, the loop writes it itself: an ordinary turn's write.
const TAKEOVER_BYTES: usize = 64 << 10;
/// Each has a seal and a write of its own.
const TAKEOVER_GROUPS: usize = 64;
/// A helper that is twice as fast as the clients is done when it has brought over twice what there
/// was at first. After this many of the largest rounds more, they are slowed down.
const PATIENCE_ROUNDS: u64 = 4;
/// So they are after this many rounds that were small and yet not the last.
const MAX_SMALL_ROUNDS: u32 = 64;

impl AppendLog {
    /// Takes the result of a step of the hand-off.
    pub(super) fn hand_off_step(&mut self, attempt: u64, outcome: Outcome, now: Now) {
        self.rewrite.steps_done += 1;
        let outcome = match outcome {
            Outcome::Discarded(Ok(())) => return,
            Outcome::Discarded(Err(error)) => {
                return log::warn!("A temporary file of a rewrite is left: {}", describe(&error));
            }
            Outcome::Pruned(removed, result) => return report_pruned(&removed, result),
            other => other,
        };
        if attempt != self.rewrite.attempt {
            if let Outcome::Adopted(Ok(tail)) | Outcome::Appended(Ok(tail)) = outcome {
                self.discard(None, vec![tail.into_file()]);
            }
            return;
        }
        match (&self.rewrite.phase, outcome) {
            (Phase::Adopting, Outcome::Adopted(Ok(tail))) => self.begin_draining(tail, now),
            (&Phase::Draining(draining), Outcome::Appended(Ok(tail))) => {
                self.next_round(tail, draining, now);
            }
            (Phase::Syncing { .. }, Outcome::Synced(Ok(()))) => self.join(),
            (Phase::Joined { .. }, Outcome::Renamed(outcome)) => self.renamed(outcome, now),
            (_, Outcome::Adopted(Err(error))) => self.step_failed("reading", &error, now),
            (_, Outcome::Appended(Err(RereadError::New(error)))) => {
                self.step_failed("appending to", &error, now);
            }
            (_, Outcome::Appended(Err(RereadError::Old(error)))) => self.reread_failed(&error, now),
            (_, Outcome::Synced(Err(error))) => self.step_failed("syncing", &error, now),
            // A late result of a phase that was left: nothing hangs on it.
            _ => {}
        }
    }

    fn step_failed(&mut self, doing: &str, error: &io::Error, now: Now) {
        self.abandon_rewrite(&format!("{doing} the new file: {}", describe(error)), now);
    }

    /// The old file does not give back what was written to it. Then the next start would not find
    /// it either: memory has what it should say.
    fn reread_failed(&mut self, error: &io::Error, now: Now) {
        let what = describe(error);
        if error.kind() == io::ErrorKind::OutOfMemory {
            return self.abandon_rewrite(&format!("reading the old file: {what}"), now);
        }
        let old = self.sinks.first().map(|sink| sink.id);
        if let Some(id) = old {
            self.distrust(id, "Error reading the AOF file for its rewrite", &what, now);
        }
    }

    fn begin_draining(&mut self, tail: Tail, now: Now) {
        let initial_bytes = self.rewrite.diff.queued_bytes();
        let draining = Draining { initial_bytes, ..Draining::default() };
        self.next_round(tail, draining, now);
    }

    /// Gives the helper the oldest of what has queued up, until so little is left that the loop
    /// writes it itself.
    fn next_round(&mut self, tail: Tail, mut draining: Draining, now: Now) {
        let diff = &mut self.rewrite.diff;
        let is_little = diff.is_little(TAKEOVER_BYTES.min(diff.round_bytes()), TAKEOVER_GROUPS);
        let Some(round) = (if is_little { None } else { diff.next_round() }) else {
            if let Err(error) = self.take_over(tail, now) {
                self.step_failed("appending to", &error, now);
            }
            return;
        };
        let bytes = round.record_bytes() as u64;
        draining.small_rounds += u32::from(bytes <= TAKEOVER_BYTES as u64);
        draining.handed_bytes += bytes;
        draining.lent_bytes = round.memory_bytes();
        // Rounds shrink where the helper is faster than the clients. Where it is not, clients are
        // slowed down to half its speed; for the last rounds, which take no time, to a halt.
        let patience_bytes = PATIENCE_ROUNDS * self.rewrite.diff.round_bytes() as u64;
        let patience_bytes = patience_bytes + 2 * draining.initial_bytes;
        let shrinks =
            draining.handed_bytes <= patience_bytes && draining.small_rounds <= MAX_SMALL_ROUNDS;
        let allowed = if bytes > TAKEOVER_BYTES as u64 * 4 { bytes / 2 } else { 0 };
        draining.hold_from = (!shrinks).then(|| self.rewrite.diff_end.saturating_add(allowed));
        self.rewrite.phase = Phase::Draining(draining);
        let LogOptions { seals, incremental, .. } = self.options;
        self.help(Work::Append { tail, round, seals, incremental }, now);
    }

    /// Whether clients that write should be held back for a moment, because the rewritten file
    /// cannot be brought up to the log's end, or because the rewrite-diff has no more room and no
    /// file to be read back from. Constant time.
    #[must_use]
    pub fn holds_writers(&self) -> bool {
        match &self.rewrite.phase {
            Phase::Draining(Draining { hold_from: Some(from), .. }) if self.appended() >= *from => {
                true
            }
            _ => self.mode == Mode::Starting && self.rewrite.diff.overflows(),
        }
    }

    /// From here on the loop writes each group to both files.
    fn take_over(&mut self, mut tail: Tail, now: Now) -> io::Result<()> {
        let seals = self.options.seals;
        let last = std::mem::take(&mut self.rewrite.diff).take_held();
        let start = mono_us();
        last.drain(|group, stamp| tail.write_group(group, 0, stamp, seals))?;
        self.note_step(SlowStep::DiffWrite, mono_us().since(start));
        // The large sync covers what the file holds now; what the loop adds from here on is
        // durable only when a later sync says so, and the seals must not claim more.
        tail.set_unnamed(false);
        let (file, bytes) = (Arc::clone(tail.file()), tail.end());
        let id = self.new_sink_id();
        let written = self.rewrite.diff_end;
        // Nothing of it counts as durable before the helper has synced it.
        let candidate = Sink { id, tail, written, durable: 0, poisoned: false };
        self.rewrite.phase = Phase::Syncing { candidate, covers: written };
        self.help(Work::Sync { file, bytes }, now);
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
    pub(super) fn order_rename(&mut self, now: Now) {
        let Phase::Joined { id, ordered: false } = self.rewrite.phase else { return };
        let ready = |sink: &Sink| sink.id == id && sink.durable >= self.durable;
        if !self.sinks.iter().any(ready) {
            return;
        }
        let from = self.temp_name();
        let (storage, to) = (Arc::clone(&self.storage), self.name.clone());
        let attempt = self.rewrite.attempt;
        // What a heal replaces is not worth keeping, and must not stand in its way.
        let keeps = self.options.keep_before_rewrite > 0 && self.heal.is_none();
        let keep_before_ms = keeps.then_some(self.rewrite.forked_ms);
        let work = Work::Rename { storage, from, to, keep_before_ms };
        // If the helper is gone nothing has been renamed, and its end is noticed by its poll.
        if self.helper.submit(HandOffJob { attempt, work }).is_ok() {
            self.rewrite.phase = Phase::Joined { id, ordered: true };
            self.rewrite.rename_ordered = now.mono;
        }
    }

    fn renamed(&mut self, outcome: RenameOutcome, now: Now) {
        let Phase::Joined { id, .. } = self.rewrite.phase else { return };
        self.note_step(SlowStep::Rename, now.mono.since(self.rewrite.rename_ordered));
        match outcome {
            RenameOutcome::NotKept(error) => {
                self.rewrite.phase = Phase::Joined { id, ordered: false };
                let why =
                    format!("keeping the old file (aof-keep-before-rewrite): {}", describe(&error));
                self.abandon_rewrite(&why, now);
            }
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
        self.discard(None, gone.into_iter().map(|sink| sink.tail.into_file()).collect());
        self.prune_kept();
        self.base_bytes = self.current_bytes();
        self.rewrite_succeeded(now);
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

    /// Removes kept files that are more than configured.
    fn prune_kept(&mut self) {
        let keep = self.options.keep_before_rewrite as usize;
        if keep == 0 {
            return; // Those of an earlier configuration are the user's.
        }
        let (storage, name) = (Arc::clone(&self.storage), self.name.clone());
        let attempt = self.rewrite.attempt;
        let work = Work::Prune { storage, name, keep };
        // If the helper is gone its poll will say so; a file too many harms nobody.
        self.helper.submit(HandOffJob { attempt, work }).ok();
    }

    pub(super) fn help(&mut self, work: Work, now: Now) {
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

fn report_pruned(removed: &[OsString], result: io::Result<()>) {
    for name in removed {
        log::info!("Removed {}, which was kept from before a rewrite", name.display());
    }
    if let Err(error) = result {
        log::warn!("Removing files kept from before rewrites: {}", describe(&error));
    }
}
