//! The rewrite-diff: what was appended to the log since the fork, kept until it stands in the
//! rewritten file.

use std::collections::VecDeque;

use super::tail::Stamp;

/// Blocks of one size, so that a long queue is neither copied when it grows nor held by the
/// allocator in odd pieces afterwards.
const BLOCK_BYTES: usize = 256 << 10;
/// Neighbouring groups with the same time are joined up to this size, to save seals.
const JOINED_GROUP_BYTES: usize = 256 << 10;

/// Groups of records in the order of the log, each with what its seal will say.
///
/// Invariant: the marks' lengths sum to the blocks' bytes; every block but the last is full.
#[derive(Default)]
pub struct Diff {
    blocks: VecDeque<Vec<u8>>,
    marks: VecDeque<GroupMark>,
    bytes: usize,
}

struct GroupMark {
    bytes: usize,
    stamp: Stamp,
}

impl Diff {
    /// Bytes of records queued.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes held, for memory figures.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES + self.marks.capacity() * size_of::<GroupMark>()
    }

    /// Queues a group; an empty one is ignored.
    pub fn push(&mut self, mut group: &[u8], stamp: Stamp) {
        if group.is_empty() {
            return;
        }
        self.mark(group.len(), stamp);
        self.bytes += group.len();
        while !group.is_empty() {
            if self.blocks.back().is_none_or(|block| block.len() == BLOCK_BYTES) {
                self.blocks.push_back(Vec::with_capacity(BLOCK_BYTES));
            }
            let Some(block) = self.blocks.back_mut() else { break };
            let taken = group.len().min(BLOCK_BYTES - block.len());
            let (now, later) = group.split_at(taken);
            block.extend_from_slice(now);
            group = later;
        }
    }

    fn mark(&mut self, bytes: usize, stamp: Stamp) {
        match self.marks.back_mut() {
            Some(last)
                if last.stamp.unix_ms == stamp.unix_ms
                    && last.bytes + bytes <= JOINED_GROUP_BYTES =>
            {
                last.bytes += bytes;
                last.stamp.db = stamp.db;
            }
            _ => self.marks.push_back(GroupMark { bytes, stamp }),
        }
    }

    /// Hands each group in order, until one fails. `group` is a buffer that the callee may append
    /// to; it is cleared in between.
    ///
    /// # Errors
    /// The first that `each` returns.
    pub fn drain<E>(
        mut self,
        mut each: impl FnMut(&mut Vec<u8>, Stamp) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut group = Vec::new();
        let mut consumed = 0;
        while let Some(mark) = self.marks.pop_front() {
            group.clear();
            while group.len() < mark.bytes {
                let Some(block) = self.blocks.front() else { break };
                let rest = block.get(consumed..).unwrap_or(&[]);
                let taken = rest.len().min(mark.bytes - group.len());
                group.extend_from_slice(rest.get(..taken).unwrap_or(rest));
                consumed += taken;
                if taken == rest.len() {
                    // Freed as the drain goes on, not all at its end.
                    self.blocks.pop_front();
                    consumed = 0;
                }
            }
            debug_assert_eq!(group.len(), mark.bytes);
            each(&mut group, mark.stamp)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_out_as_they_went_in_joined_by_time() {
        let mut diff = Diff::default();
        let mut expected = Vec::new();
        for n in 0..2_000u32 {
            let group = vec![(n % 251) as u8; (n as usize * 37) % 1_500];
            diff.push(&group, Stamp { db: u64::from(n % 3), unix_ms: u64::from(n / 10) });
            expected.extend_from_slice(&group);
        }
        let huge = vec![7; BLOCK_BYTES * 3 + 5];
        diff.push(&huge, Stamp { db: 1, unix_ms: 199 });
        expected.extend_from_slice(&huge);
        assert_eq!(diff.queued_bytes(), expected.len());
        let mut drained = Vec::new();
        let mut times = Vec::new();
        let result: Result<(), ()> = diff.drain(|group, stamp| {
            drained.extend_from_slice(group);
            times.push(stamp.unix_ms);
            Ok(())
        });
        assert_eq!(result, Ok(()));
        assert!(drained == expected);
        assert!(times.is_sorted());
        assert_eq!(times.len(), 201, "one group a millisecond, and the huge one by itself");
    }

    #[test]
    fn a_failure_stops_the_drain() {
        let mut diff = Diff::default();
        diff.push(b"a", Stamp { db: 0, unix_ms: 1 });
        diff.push(b"b", Stamp { db: 0, unix_ms: 2 });
        assert_eq!(diff.drain(|group, _| Err(group.clone())), Err(b"a".to_vec()));
    }
}
