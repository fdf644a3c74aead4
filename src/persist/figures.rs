//! Figures of the log for INFO.

use super::log::{AppendLog, Mode};
use crate::sys::clock::Now;

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
    /// Bytes of memory that the rewrite-diff takes.
    pub rewrite_diff_bytes: u64,
    /// Bytes of records of the rewrite-diff that are to be read back from the file.
    pub rewrite_reread_bytes: u64,
    /// Whether the file has reached its configured limit, so that writes are refused.
    pub is_full: bool,
}

impl AppendLog {
    /// Bytes of memory that the buffer of what is to be written takes.
    #[must_use]
    pub fn buffer_memory_bytes(&self) -> usize {
        self.buf.capacity()
    }

    /// Bytes of memory that the rewrite-diff takes, with what the hand-off has of it. O(1).
    #[must_use]
    pub fn diff_memory_bytes(&self) -> usize {
        self.rewrite.diff.memory_bytes() + self.rewrite.lent_bytes()
    }

    /// Steps of hand-offs that were finished since the start: with each of them the helper thread
    /// has freed what it had of the rewrite-diff, and its buffers.
    #[must_use]
    pub fn hand_off_steps(&self) -> u64 {
        self.rewrite.steps_done
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
            is_full: self.is_full(),
            ..LogFigures::default()
        };
        self.rewrite.fill_figures(&mut figures, now.mono);
        figures
    }
}
