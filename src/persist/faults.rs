//! When write(2) or a sync fails: nothing acknowledged is lost, and nothing goes on as if it had
//! not happened.

use std::io;

use nix::errno::Errno;

use super::log::{AppendLog, Heal, Mode, WriteFault};
use super::rewrite::Phase;
use super::storage::describe;
use super::syncer::SinkId;
use crate::sys::clock::{MonoUs, Now};

/// A write that failed is tried again this often.
const WRITE_RETRY_US: u64 = 1_000_000;
/// A failed heal is tried again after this long, doubled each time ...
pub(super) const HEAL_BACKOFF_MIN_US: u64 = 1_000_000;
/// ... up to this.
const HEAL_BACKOFF_MAX_US: u64 = 60_000_000;

/// Whether an error of write(2) says that the file will not keep what it was given, where others
/// (no room, no right) say that it takes nothing more for now.
pub(super) fn proves_loss(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EIO as i32) || error.kind() == io::ErrorKind::UnexpectedEof
}

impl AppendLog {
    /// Why new writes are refused, as the error reply without its leading `-`; `None` while they
    /// are not.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let fault = self.fault();
        let fault = fault.map(|error| format!("MISCONF Errors writing to the AOF file: {error}"));
        fault.or_else(|| {
            self.is_full().then(|| {
                format!(
                    "MISCONF The append-only file has reached aof-max-size ({} bytes): writes are \
                     refused until a rewrite has made it smaller",
                    self.options.max_bytes
                )
            })
        })
    }

    /// Whether new writes are refused.
    #[must_use]
    pub fn refuses_writes(&self) -> bool {
        self.is_faulted() || self.is_full()
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

    pub(super) fn writes_succeed(&mut self) {
        if self.write_fault.take().is_some() {
            log::warn!("AOF write error looks solved. The server can write again.");
        }
    }

    pub(super) fn writes_fail(&mut self, error: &io::Error, now: Now) {
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

    pub(super) fn syncer_gone(&mut self, now: Now) {
        self.sync = None;
        for id in self.sinks.iter().map(|sink| sink.id).collect::<Vec<_>>() {
            self.poison(id, "the syncer thread has ended", now);
        }
    }

    /// A sync of a file has failed. It is never tried again on that file: the kernel has marked
    /// the lost pages clean, so that a second sync would succeed and prove nothing. Memory holds
    /// the truth; a fresh file is to be written from it.
    pub(super) fn poison(&mut self, id: SinkId, error: &str, now: Now) {
        self.distrust(id, "Error syncing the AOF file", error, now);
    }

    /// Somebody else may remove, replace or cut the file, or its directory: whatever is written
    /// and synced there then, the next start does not find it. Looks whether that has happened,
    /// and has a fresh file written if so. To be called at least every 100 ms; costs a stat(2), an
    /// fstat(2) and the read of one byte.
    pub fn look_after_file(&mut self, now: Now) {
        // While the name changes hands by our own doing, either file may bear it; and a log that
        // is to be healed gets a fresh file anyway.
        if !matches!(self.mode, Mode::On | Mode::Stopping)
            || self.heal.is_some()
            || self.rewrite.is_renaming()
        {
            return;
        }
        let found = self.storage.find(&self.name);
        // A rewritten file that has joined, the second one, has no name yet.
        let Some(sink) = self.sinks.first_mut() else { return };
        let what = match found.and_then(|found| sink.tail.meddled_with(found)) {
            Ok(None) => return,
            Ok(Some(what)) => what.to_owned(),
            Err(error) => format!("the file cannot be looked at: {}", describe(&error)),
        };
        let id = sink.id;
        let path = self.storage.path_of(&self.name);
        let lead = format!("Something has happened to the AOF file {}", path.display());
        self.distrust(id, &lead, &what, now);
    }

    /// Another server holds the lock that stands beside the log: it may write to the same file, or
    /// start on it. Nothing is promised by this file any more; a fresh one is to be written once
    /// the lock is this server's again, and not before: a rewrite under way is given up. `who` says
    /// who has it.
    pub fn lock_is_lost(&mut self, who: &str, now: Now) {
        if self.rewrite.is_renaming() {
            return;
        }
        let is_on = matches!(self.mode, Mode::On | Mode::Stopping);
        if !is_on || self.heal.is_some() {
            // A heal, or the first file of a log that is being turned on.
            return self.abandon_rewrite(&format!("the lock is lost: {who}"), now);
        }
        let Some(id) = self.sinks.first().map(|sink| sink.id) else { return };
        let path = self.storage.path_of(&self.name);
        let lead = format!("The lock of the AOF file {} is lost", path.display());
        self.distrust(id, &lead, who, now);
    }

    /// A rewrite that was due, or asked for, cannot begin for a reason outside the log. It counts
    /// as one that failed, so that the next try waits. One that is running goes on.
    pub fn rewrite_prevented(&mut self, why: &str, now: Now) {
        if matches!(self.rewrite.phase, Phase::Idle | Phase::Dying { .. }) {
            self.rewrite_failed(why, now);
        }
    }

    /// Nothing is written to this file or expected of it any more; a fresh one is to be written.
    pub(super) fn distrust(&mut self, id: SinkId, lead: &str, error: &str, now: Now) {
        let Some(sink) = self.sinks.iter_mut().find(|sink| sink.id == id) else { return };
        if sink.poisoned {
            return;
        }
        sink.poisoned = true;
        log::error!(
            "{lead}: {error}. The file is not trusted any more: new writes are refused and replies \
             withheld until a fresh one has been written from memory"
        );
        // A rewrite that began before would do, but what it has not read yet it may take from the
        // poisoned file. Past the point of no return its end is awaited: it may be the cure.
        if !self.rewrite.is_renaming() {
            self.abandon_rewrite("the file it was to replace can no longer be trusted", now);
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
}
