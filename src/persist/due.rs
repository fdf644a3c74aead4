//! When a rewrite begins by itself, when it is put off, and how large the file may become.

use super::log::{AppendLog, Mode};
use super::rewrite::BeginError;
use crate::sys::clock::{MonoUs, Now};

/// After a failure none starts by itself for this long, doubled with each further failure ...
const BACKOFF_MIN_US: u64 = 10_000_000;
/// ... up to this.
const BACKOFF_MAX_US: u64 = 3_600_000_000;

/// Why a rewrite is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewriteCause {
    /// The file has grown by the configured percentage.
    Growth {
        /// By how much, in percent.
        percent: u64,
    },
    /// The file has reached its configured limit, or will soon.
    Limit,
    /// The file can no longer be trusted.
    Heal,
    /// The log is being turned on.
    TurnOn,
}

impl AppendLog {
    /// Whether a rewrite should begin, and why. The server is to begin one where no other child
    /// is running, and right after [`AppendLog::flush`]. Constant time.
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
        if waits || self.fault().is_some() {
            return None;
        }
        self.limit_is_near().then_some(RewriteCause::Limit).or_else(|| self.growth())
    }

    /// Growth counts from what the last rewrite left under the log's name, what was appended
    /// meanwhile included: so no rewrite brings about the next.
    fn growth(&self) -> Option<RewriteCause> {
        let size = self.current_bytes();
        let wanted = u64::from(self.options.rewrite_percentage);
        if wanted == 0 || size <= self.options.rewrite_min_bytes {
            return None;
        }
        let growth = size.saturating_sub(self.base_bytes).saturating_mul(100);
        let percent = growth / self.base_bytes.max(1);
        (percent >= wanted).then_some(RewriteCause::Growth { percent })
    }

    // ---- putting off -----------------------------------------------------------------------

    /// Counts a failure; the next that starts by itself waits the longer the more there were.
    pub(super) fn put_off_rewrite(&mut self, now: Now) {
        self.rewrite.failures = self.rewrite.failures.saturating_add(1);
        self.rewrite.not_before = Some(later(now, self.rewrite.failures));
    }

    /// Counts a success. One that has left the file close to its limit is not repeated at once,
    /// since the data itself is what is too much.
    pub(super) fn rewrite_succeeded(&mut self, now: Now) {
        let is_crowded = self.options.max_bytes > 0 && self.current_bytes() >= self.early_bytes();
        let rewrite = &mut self.rewrite;
        rewrite.failures = 0;
        rewrite.crowded = if is_crowded { rewrite.crowded.saturating_add(1) } else { 0 };
        rewrite.not_before = is_crowded.then(|| later(now, rewrite.crowded));
    }

    // ---- how large the file may become -----------------------------------------------------

    /// Whether the file has reached its configured limit, so that writes are refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let is_on = matches!(self.mode, Mode::On | Mode::Stopping);
        is_on && self.options.max_bytes > 0 && self.current_bytes() >= self.options.max_bytes
    }

    /// Where a rewrite is tried ahead of the limit, so that with luck no write is ever refused.
    fn early_bytes(&self) -> u64 {
        self.options.max_bytes - self.options.max_bytes / 8
    }

    /// Ahead of the limit a rewrite is worth its while only if the last one left much less.
    fn limit_is_near(&self) -> bool {
        let max = self.options.max_bytes;
        let is_early = max > 0
            && self.current_bytes() >= self.early_bytes()
            && self.base_bytes < max - max / 4;
        is_early || self.is_full()
    }

    // ---- room on the disk ------------------------------------------------------------------

    /// Says how many bytes the data set takes in memory, for the estimate of what a rewritten file
    /// will need.
    pub fn set_data_bytes(&mut self, bytes: u64) {
        self.data_bytes = bytes;
    }

    /// Whether the disk has room for a rewritten file beside the log, by an estimate: the data set
    /// as commands is about as large as it is in memory, and hardly larger than the log that made
    /// it; a sixteenth is added for what is appended meanwhile. One statvfs(2).
    ///
    /// # Errors
    /// [`BeginError::NoRoom`].
    pub fn check_room(&self) -> Result<(), BeginError> {
        let known = [self.current_bytes(), self.data_bytes].into_iter().filter(|&bytes| bytes > 0);
        let estimate = known.min().unwrap_or(0);
        let needed = estimate.saturating_add(estimate / 16);
        match self.storage.free_bytes() {
            Ok(Some(free)) if free < needed => Err(BeginError::NoRoom { needed, free }),
            // Where the room cannot be told, trying tells.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// The end of a pause that doubles with each of `times`.
fn later(now: Now, times: u32) -> MonoUs {
    let doublings = times.clamp(1, 16) - 1;
    MonoUs(now.mono.0 + (BACKOFF_MIN_US << doublings).min(BACKOFF_MAX_US))
}
