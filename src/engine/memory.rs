//! How much memory is in use, known at any moment without asking the allocator.
//!
//! The loop's thread does nearly all that allocates and frees, and the allocator keeps that thread's
//! balance up to date. What the rest of the process holds is what was left over when the allocator
//! was last asked for the sum, each tenth of a second. So the figure is exact but for what other
//! threads have done since; and where they have freed something that was counted, the allocator is
//! asked again before anything is done about too much memory.

use crate::keyspace::Garbage;
use crate::sys::memory::{AllocatorFigures, AllocatorStatistics, ThreadBalance};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a helper thread frees: keys and values, and the bytes of those whose size is known.
#[derive(Debug, Default)]
pub struct FreedElsewhere {
    pending: AtomicU64,
    pending_bytes: AtomicU64,
    pending_databases: AtomicU64,
    freed: AtomicU64,
}

impl FreedElsewhere {
    /// Notes what is about to be handed over.
    pub fn hand_over(&self, garbage: &[Garbage]) {
        let objects = garbage.iter().map(Garbage::objects).sum();
        let bytes = garbage.iter().map(Garbage::bytes).sum();
        self.pending.fetch_add(objects, Ordering::Relaxed);
        self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        let databases = garbage.iter().filter(|garbage| garbage.is_database()).count();
        self.pending_databases.fetch_add(databases as u64, Ordering::Relaxed);
    }

    /// Frees a part of what was handed over, and notes that.
    pub fn free(&self, garbage: Garbage) {
        let (objects, bytes) = (garbage.objects(), garbage.bytes());
        let databases = u64::from(garbage.is_database());
        drop(garbage);
        // Counted as pending until it is certain to be counted as freed.
        self.freed.fetch_add(objects, Ordering::Release);
        self.pending_bytes.fetch_sub(bytes, Ordering::Release);
        self.pending_databases.fetch_sub(databases, Ordering::Release);
        self.pending.fetch_sub(objects, Ordering::Release);
    }

    /// Keys and values that were handed over and not freed yet.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Acquire)
    }

    /// The bytes of the strings among these: as good as free.
    fn pending_bytes(&self) -> u64 {
        self.pending_bytes.load(Ordering::Acquire)
    }

    /// Whether a flushed database is being freed, of which nobody has counted the bytes.
    #[must_use]
    pub fn holds_database(&self) -> bool {
        self.pending_databases.load(Ordering::Acquire) > 0
    }

    /// Keys and values that were freed since the start.
    #[must_use]
    pub fn freed(&self) -> u64 {
        self.freed.load(Ordering::Acquire)
    }
}

/// What the log's buffers hold, bytes. They do not count towards `maxmemory`: to evict keys because
/// of them would fill them further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBuffers {
    /// What is to be written at the end of the turn.
    pub buffer_bytes: usize,
    /// The rewrite-diff, with what a helper thread is writing of it.
    pub diff_bytes: usize,
    /// How many of its tasks the helper has finished since the start: with each it may have freed
    /// something, which the amounts alone do not tell.
    pub helper_steps: u64,
    /// Whether it has no room for more than what must be: who writes is held back, and evictions
    /// wait.
    pub is_crowded: bool,
}

/// The account of one loop. To be made and used on the loop's thread alone.
pub struct MemoryAccount {
    /// None if the allocator keeps no statistics: then nothing is known to be in use.
    balance: Option<ThreadBalance>,
    statistics: Option<AllocatorStatistics>,
    /// What the process held beyond the thread's balance when the allocator was last asked.
    beyond_bytes: i64,
    /// What others had freed at that time, and how far the log's helper was.
    freed_then: u64,
    helper_steps_then: u64,
    /// What the log holds now.
    log: LogBuffers,
    /// What the helper thread frees.
    pub elsewhere: Arc<FreedElsewhere>,
}

impl MemoryAccount {
    /// The account of the calling thread, with all that the process holds.
    ///
    /// # Errors
    /// If the allocator was built without statistics.
    pub fn of_process() -> io::Result<MemoryAccount> {
        let statistics = Some(AllocatorStatistics::new()?);
        let mut account = MemoryAccount { statistics, ..MemoryAccount::of_this_thread() };
        account.look()?;
        Ok(account)
    }

    /// The account of what the calling thread allocates from here on, and of nothing else.
    #[must_use]
    pub fn of_this_thread() -> MemoryAccount {
        let balance = ThreadBalance::of_this_thread().ok();
        MemoryAccount {
            balance,
            statistics: None,
            beyond_bytes: -balance.map_or(0, ThreadBalance::bytes),
            freed_then: 0,
            helper_steps_then: 0,
            log: LogBuffers::default(),
            elsewhere: Arc::default(),
        }
    }

    /// Asks the allocator, which makes the account exact. About 50 microseconds.
    ///
    /// # Errors
    /// Whatever the allocator reports, or that there is nothing to ask.
    pub fn look(&mut self) -> io::Result<AllocatorFigures> {
        let statistics = self.statistics.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        // Read ahead: what is freed while the allocator counts makes the next look happen.
        let freed = self.elsewhere.freed();
        let figures = statistics.read()?;
        let in_use = i64::try_from(figures.in_use_bytes()).unwrap_or(i64::MAX);
        self.beyond_bytes = in_use - self.balance();
        self.freed_then = freed;
        self.helper_steps_then = self.log.helper_steps;
        Ok(figures)
    }

    /// Tells what the log's buffers hold.
    #[inline]
    pub fn set_log(&mut self, log: LogBuffers) {
        self.log = log;
    }

    /// Whether the log has no room for evictions now.
    #[must_use]
    pub fn is_log_crowded(&self) -> bool {
        self.log.is_crowded
    }

    /// How much more the thread has allocated than freed, bytes. Differences tell what an operation
    /// has done.
    #[inline]
    #[must_use]
    pub fn balance(&self) -> i64 {
        self.balance.map_or(0, ThreadBalance::bytes)
    }

    /// Bytes that the process holds, without what the allocator keeps ready. Some loads.
    #[inline]
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        u64::try_from(self.beyond_bytes + self.balance()).unwrap_or(0)
    }

    /// Bytes that do not count towards `maxmemory`: the log's buffers.
    #[must_use]
    pub fn uncounted_bytes(&self) -> u64 {
        (self.log.buffer_bytes + self.log.diff_bytes) as u64
    }

    /// Bytes that count towards `maxmemory`.
    #[must_use]
    pub fn counted_bytes(&self) -> u64 {
        self.used_bytes()
            .saturating_sub(self.uncounted_bytes())
            .saturating_sub(self.elsewhere.pending_bytes())
    }

    /// By how many bytes what counts is above `limit`; `None` if it is not. Some loads, unless
    /// another thread has freed something since the allocator was last asked: then it is asked.
    #[inline]
    pub fn excess(&mut self, limit: u64) -> Option<u64> {
        if self.used_bytes() <= limit {
            return None;
        }
        self.counted_excess(limit)
    }

    #[cold]
    fn counted_excess(&mut self, limit: u64) -> Option<u64> {
        let above = |bytes: u64| bytes.checked_sub(limit).filter(|excess| *excess > 0);
        above(self.counted_bytes())?;
        let is_outdated = self.elsewhere.freed() != self.freed_then
            || self.log.helper_steps != self.helper_steps_then;
        if is_outdated && self.look().is_err() {
            // It will not be asked again for the same; what is known is as good as it gets.
            self.freed_then = self.elsewhere.freed();
            self.helper_steps_then = self.log.helper_steps;
        }
        above(self.counted_bytes())
    }
}

impl std::fmt::Debug for MemoryAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryAccount").field("used_bytes", &self.used_bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Value;
    use std::sync::Mutex;

    /// Held by a test to which it matters what the rest of the process allocates.
    static PROCESS: Mutex<()> = Mutex::new(());

    /// So much that what other tests hold meanwhile makes no difference. It is never touched.
    const MUCH: usize = 1 << 30;

    #[test]
    fn what_counts_is_known_at_once_and_the_log_does_not() {
        let mut account = MemoryAccount::of_this_thread();
        let limit = account.counted_bytes() + 1_000_000;
        assert_eq!(account.excess(limit), None);
        let held = vec![0_u8; 4 << 20];
        let excess = account.excess(limit).expect("an excess");
        assert!((3_100_000..3_300_000).contains(&excess), "{excess}");
        account.set_log(LogBuffers {
            buffer_bytes: 1 << 20,
            diff_bytes: 1 << 20,
            ..LogBuffers::default()
        });
        let less = account.excess(limit).expect("an excess");
        assert_eq!(excess - less, 2 << 20);
        drop(held);
        assert_eq!(account.excess(limit), None);
    }

    #[test]
    fn what_the_log_s_helper_frees_is_seen_even_if_there_was_less_of_it_at_the_last_look() {
        let _alone = PROCESS.lock();
        let mut account = MemoryAccount::of_process().expect("statistics");
        let limit = account.counted_bytes() + (MUCH / 2) as u64;
        let (diff, rest) = (vec![0_u8; MUCH - 1024], vec![0_u8; 1024]);
        let log = LogBuffers { diff_bytes: MUCH, ..LogBuffers::default() };
        account.set_log(log);
        assert_eq!(account.excess(limit), None);
        std::thread::spawn(move || drop(diff)).join().expect("freed");
        account.set_log(LogBuffers { diff_bytes: 1024, helper_steps: 1, ..log });
        assert_eq!(account.excess(limit), None);
        assert!(account.used_bytes() < limit, "it was looked");
        drop(rest);
    }

    #[test]
    fn what_another_thread_frees_is_seen_before_anything_is_done() {
        let _alone = PROCESS.lock();
        let mut account = MemoryAccount::of_process().expect("statistics");
        let large = Garbage::Value(Value::String(vec![0; MUCH]));
        account.look().expect("figures");
        let limit = account.counted_bytes() - (MUCH / 2) as u64;
        assert!(account.excess(limit).is_some());
        let garbage = vec![large];
        account.elsewhere.hand_over(&garbage);
        assert_eq!((account.excess(limit), account.elsewhere.pending()), (None, 1), "as good as");
        let elsewhere = Arc::clone(&account.elsewhere);
        std::thread::spawn(move || garbage.into_iter().for_each(|part| elsewhere.free(part)))
            .join()
            .expect("freed");
        assert_eq!((account.excess(limit), account.elsewhere.freed()), (None, 1));
        assert!(account.used_bytes() < limit, "it was looked");
    }
}
