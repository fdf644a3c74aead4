//! The rewrite-diff: what was appended to the log since the fork, until it stands in the rewritten
//! file.
//!
//! ```text
//!   fork                                                        end of the log
//!    │ handed to the helper │ spilled: stretches │ held: blocks in memory │
//! ```
//!
//! The same groups stand in the log's old file. So memory needs to hold only the newest of them: the
//! oldest blocks are *spilled*, which writes nothing anywhere. What is remembered of them is where
//! they stand in the old file and a checksum; [`super::reread`] brings them back.

use std::collections::VecDeque;
use std::sync::Arc;

use super::storage::LogFile;
use super::tail::{Chain, Place, Stamp};

/// The largest block, and so the largest group that neighbours are joined to: large enough that
/// blocks are few, small enough that making one costs the loop no time.
const MAX_BLOCK_BYTES: usize = 256 << 10;
/// The most that the helper is given at once, unless one group is larger: it bounds what a
/// shutdown waits for, and what the helper holds in memory.
const MAX_ROUND_BYTES: usize = 4 << 20;

/// Groups that stand in the old file and not in memory.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Where they begin. Only ahead of the first group can lines stand by which sealing begins or
    /// ends, or both.
    pub from: Place,
    /// Where they end.
    pub behind: Place,
    /// Bytes of their records: what lies between the places without the lines of sealing.
    pub record_bytes: usize,
    /// CRC-32C of their records.
    pub crc32c: u32,
    /// What the seal of the last of them says: for those that have none.
    pub stamp: Stamp,
}

/// Groups in memory.
#[derive(Debug, Default)]
pub struct Held {
    blocks: VecDeque<Block>,
    record_bytes: usize,
    /// What the blocks take, as allocated.
    memory_bytes: usize,
}

/// Neighbouring groups.
///
/// Invariant: the last mark ends where the records end.
#[derive(Debug)]
struct Block {
    records: Vec<u8>,
    marks: Vec<GroupMark>,
    /// Where they begin and end in the old file; `None` if there is none to read them from.
    place: Option<(Place, Place)>,
}

#[derive(Debug)]
struct GroupMark {
    /// Where in the block's records the group ends.
    end: usize,
    stamp: Stamp,
}

/// What the helper is given at once.
pub enum Round {
    /// From memory.
    Held(Held),
    /// From the old file, which is given.
    Spilled(Arc<dyn LogFile>, Box<Stretch>),
}

impl Round {
    /// Bytes of records.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        match self {
            Round::Held(held) => held.record_bytes,
            Round::Spilled(_, stretch) => stretch.record_bytes,
        }
    }

    /// Bytes of memory that the diff no longer counts and the round still takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Round::Held(held) => held.memory_bytes,
            Round::Spilled(..) => 0,
        }
    }
}

/// Groups of records in the order of the log, each with what its seal will say.
///
/// Invariant: all that is spilled comes before all that is held.
#[derive(Default)]
pub struct Diff {
    /// The old file, if its groups can be read back from there.
    old: Option<Arc<dyn LogFile>>,
    spilled: VecDeque<Stretch>,
    spilled_bytes: u64,
    held: Held,
    /// Where the next group will begin in the old file; `None` if there is none.
    next: Option<Place>,
    limit_bytes: usize,
}

impl Diff {
    /// An empty one that begins at a place of the old file. Without one it holds all it is given.
    #[must_use]
    pub fn beginning_at(old: Option<(Arc<dyn LogFile>, Place)>, limit_bytes: usize) -> Diff {
        let (old, next) = old.unzip();
        Diff { old, next, limit_bytes, ..Diff::default() }
    }

    /// Whether it takes more memory than the limit and has nowhere to read it back from.
    #[must_use]
    pub fn overflows(&self) -> bool {
        self.old.is_none() && self.memory_bytes() > self.limit_bytes
    }

    /// Changes how much memory may be taken.
    pub fn set_limit(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
    }

    /// Bytes of records queued, in memory or not.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.spilled_bytes + self.held.record_bytes as u64
    }

    /// Bytes of records that are to be read back from the old file.
    #[must_use]
    pub fn spilled_bytes(&self) -> u64 {
        self.spilled_bytes
    }

    /// Whether what is queued is in memory and is not more than so many bytes and groups. O(blocks).
    #[must_use]
    pub fn is_little(&self, bytes: usize, groups: usize) -> bool {
        let held_groups = || self.held.blocks.iter().map(|block| block.marks.len()).sum::<usize>();
        self.spilled.is_empty() && self.held.record_bytes <= bytes && held_groups() <= groups
    }

    /// Bytes of memory taken.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.held.memory_bytes + self.spilled.capacity() * size_of::<Stretch>()
    }

    /// Queues a group; an empty one is ignored. `behind` is where it ends in the old file.
    pub fn push(&mut self, group: &[u8], stamp: Stamp, behind: Option<Place>) {
        if group.is_empty() {
            return;
        }
        let place = self.next.zip(behind);
        self.next = behind;
        let block_bytes = self.block_bytes();
        let switches = place.is_some_and(|(from, behind)| switches(&from, &behind, group.len()));
        let fits = |block: &Block| block.records.len() + group.len() <= block_bytes;
        if switches || !self.held.blocks.back().is_some_and(fits) {
            let records = Vec::with_capacity(group.len().max(block_bytes));
            self.held.push(Block { records, marks: Vec::new(), place });
        }
        let Some(block) = self.held.blocks.back_mut() else { return };
        self.held.memory_bytes -= block.memory_bytes();
        block.push(group, stamp, behind);
        self.held.memory_bytes += block.memory_bytes();
        self.held.record_bytes += group.len();
    }

    fn block_bytes(&self) -> usize {
        // A small limit wants small blocks, or one would be more than it allows.
        (self.limit_bytes / 16).clamp(1, MAX_BLOCK_BYTES)
    }

    /// The most records that a round takes, unless one group is larger.
    #[must_use]
    pub fn round_bytes(&self) -> usize {
        (self.limit_bytes / 4).clamp(1, MAX_ROUND_BYTES)
    }

    /// If more memory is taken than the limit allows, lets go of the oldest that it holds: a whole
    /// round's worth, so that reading it back is worth its while. `elsewhere` bytes are taken by
    /// rounds under way. Does nothing if there is no old file.
    pub fn spill(&mut self, elsewhere: usize) {
        let taken = |diff: &Diff| diff.memory_bytes() + elsewhere;
        if taken(self) > self.limit_bytes {
            let enough = self.limit_bytes.saturating_sub(self.round_bytes());
            while taken(self) > enough && self.spill_block() {}
        }
    }

    /// Lets go of the oldest block in memory. Returns whether there was one that can be read back.
    pub fn spill_block(&mut self) -> bool {
        let Some(Block { place: Some((from, behind)), .. }) = self.held.blocks.front() else {
            return false;
        };
        let (from, behind) = (*from, *behind);
        let round_bytes = self.round_bytes();
        let Some(block) = self.held.pop() else { return false };
        let Some(stamp) = block.marks.last().map(|mark| mark.stamp) else { return false };
        let record_bytes = block.records.len();
        self.spilled_bytes += record_bytes as u64;
        match self.spilled.back_mut() {
            Some(last)
                if !switches(&from, &behind, record_bytes)
                    && last.record_bytes + record_bytes <= round_bytes =>
            {
                debug_assert_eq!(last.behind, from);
                last.behind = behind;
                last.record_bytes += record_bytes;
                last.crc32c = crc32c::crc32c_append(last.crc32c, &block.records);
                last.stamp = stamp;
            }
            _ => {
                let crc32c = crc32c::crc32c(&block.records);
                self.spilled.push_back(Stretch { from, behind, record_bytes, crc32c, stamp });
            }
        }
        true
    }

    /// Takes the oldest groups out for the helper. `None` if there are none.
    pub fn next_round(&mut self) -> Option<Round> {
        if let Some(old) = &self.old
            && let Some(stretch) = self.spilled.pop_front()
        {
            self.spilled_bytes -= stretch.record_bytes as u64;
            return Some(Round::Spilled(Arc::clone(old), Box::new(stretch)));
        }
        let most = self.round_bytes();
        let mut round = Held::default();
        while let Some(block) = self.held.blocks.front()
            && (round.blocks.is_empty() || round.record_bytes + block.records.len() <= most)
            && let Some(block) = self.held.pop()
        {
            round.push(block);
        }
        (!round.blocks.is_empty()).then_some(Round::Held(round))
    }

    /// Takes out all that memory holds.
    pub fn take_held(&mut self) -> Held {
        std::mem::take(&mut self.held)
    }
}

/// Whether ahead of the first of the groups between two places lines stand by which sealing begins
/// or ends. Both, where it was switched off before anything stood behind its header.
fn switches(from: &Place, behind: &Place, record_bytes: usize) -> bool {
    match (from.chain, behind.chain) {
        (Chain::Unsealed, Chain::Unsealed) => {
            behind.offset.saturating_sub(from.offset) != record_bytes as u64
        }
        (from, behind) => !from.is_like(&behind),
    }
}

impl Block {
    fn push(&mut self, group: &[u8], stamp: Stamp, behind: Option<Place>) {
        self.records.extend_from_slice(group);
        let end = self.records.len();
        match self.marks.last_mut() {
            // Neighbours with the same time share a seal.
            Some(last) if last.stamp.unix_ms == stamp.unix_ms => *last = GroupMark { end, stamp },
            _ => self.marks.push(GroupMark { end, stamp }),
        }
        if let (Some((_, end)), Some(behind)) = (&mut self.place, behind) {
            *end = behind;
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Block>()
            + self.records.capacity()
            + self.marks.capacity() * size_of::<GroupMark>()
    }
}

impl Held {
    fn push(&mut self, block: Block) {
        self.record_bytes += block.records.len();
        self.memory_bytes += block.memory_bytes();
        self.blocks.push_back(block);
    }

    fn pop(&mut self) -> Option<Block> {
        let block = self.blocks.pop_front()?;
        self.record_bytes -= block.records.len();
        self.memory_bytes -= block.memory_bytes();
        Some(block)
    }

    /// Hands each group in order, until one fails. `group` is a buffer that the callee may append
    /// to; it is cleared in between. Memory is freed as the groups are done with.
    ///
    /// # Errors
    /// The first that `each` returns.
    pub fn drain<E>(
        mut self,
        mut each: impl FnMut(&mut Vec<u8>, Stamp) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut group = Vec::new();
        while let Some(block) = self.blocks.pop_front() {
            let mut start = 0;
            for mark in &block.marks {
                group.clear();
                group.extend_from_slice(block.records.get(start..mark.end).unwrap_or(&[]));
                each(&mut group, mark.stamp)?;
                start = mark.end;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::format::{GroupSum, Line, SealFields};

    fn drained(held: Held) -> (Vec<u8>, Vec<u64>) {
        let (mut records, mut times) = (Vec::new(), Vec::new());
        let result: Result<(), ()> = held.drain(|group, stamp| {
            records.extend_from_slice(group);
            times.push(stamp.unix_ms);
            group.extend_from_slice(b"a seal"); // Of no consequence to what follows.
            Ok(())
        });
        assert_eq!(result, Ok(()));
        (records, times)
    }

    fn stamp(unix_ms: u64) -> Stamp {
        Stamp { db: 0, unix_ms }
    }

    fn place(offset: u64) -> Place {
        Place { offset, chain: Chain::Unsealed }
    }

    fn sealed_place(end: u64) -> Place {
        let header = Line::header(1, 1);
        let fields = SealFields { end, durable: 0, db: 0, unix_ms: 1 };
        Place { offset: end, chain: Chain::Sealed(GroupSum::after(&header).seal(&fields)) }
    }

    fn spilling(limit_bytes: usize) -> Diff {
        let file = crate::persist::simulated::SimDisk::new(1)
            .storage()
            .create(std::ffi::OsStr::new("old"))
            .expect("created");
        Diff::beginning_at(Some((file, place(0))), limit_bytes)
    }

    #[test]
    fn groups_come_out_as_they_went_in_joined_by_time() {
        let mut diff = Diff::beginning_at(None, 64 << 20);
        let mut expected = Vec::new();
        for n in 0..2_000u32 {
            let group = vec![(n % 251) as u8; (n as usize * 37) % 1_500];
            diff.push(&group, stamp(u64::from(n / 10)), None);
            expected.extend_from_slice(&group);
        }
        let huge = vec![7; MAX_BLOCK_BYTES * 3 + 5];
        diff.push(&huge, stamp(199), None);
        expected.extend_from_slice(&huge);
        assert_eq!(diff.queued_bytes(), expected.len() as u64);
        let (records, times) = drained(diff.take_held());
        assert!(records == expected);
        assert!(times.is_sorted());
        // One a millisecond, those that a block's end parts, and the huge one.
        assert!((201..=210).contains(&times.len()), "{}", times.len());
        assert_eq!(diff.queued_bytes(), 0);
        assert_eq!(diff.memory_bytes(), 0);
    }

    #[test]
    fn a_failure_stops_the_drain() {
        let mut diff = Diff::beginning_at(None, 64 << 20);
        diff.push(b"a", stamp(1), None);
        diff.push(b"b", stamp(2), None);
        let result = diff.take_held().drain(|group, _| Err(group.clone()));
        assert_eq!(result, Err(b"a".to_vec()));
    }

    /// However much is pushed; and nothing is forgotten.
    #[test]
    fn memory_stays_within_the_limit_and_the_oldest_are_let_go_first() {
        const LIMIT: usize = 1 << 20;
        let mut diff = spilling(LIMIT);
        let mut pushed = 0u64;
        for n in 0..60_000u64 {
            let group = vec![(n % 251) as u8; 100 + (n % 900) as usize];
            pushed += group.len() as u64;
            diff.push(&group, stamp(n / 3), Some(place(pushed)));
            diff.spill(4_096);
            assert!(diff.memory_bytes() + 4_096 <= LIMIT, "{} after {n}", diff.memory_bytes());
            assert_eq!(diff.queued_bytes(), pushed);
        }
        assert!(!diff.overflows());
        let (mut position, mut times) = (0, 0);
        while let Some(round) = diff.next_round() {
            assert!(round.record_bytes() <= LIMIT / 4);
            match round {
                Round::Spilled(_, stretch) => {
                    assert_eq!(stretch.from.offset, position);
                    position = stretch.behind.offset;
                    assert_eq!(position - stretch.from.offset, stretch.record_bytes as u64);
                    assert!(stretch.stamp.unix_ms >= times);
                    times = stretch.stamp.unix_ms;
                }
                Round::Held(held) => {
                    let (records, held_times) = drained(held);
                    position += records.len() as u64;
                    assert!(held_times.is_sorted() && held_times[0] >= times);
                }
            }
        }
        assert_eq!(position, pushed);
        assert_eq!((diff.queued_bytes(), diff.spilled_bytes()), (0, 0));
    }

    #[test]
    fn one_group_larger_than_the_limit_is_let_go_alone() {
        let mut diff = spilling(1 << 20);
        diff.push(b"before", stamp(1), Some(place(6)));
        diff.push(&vec![1; 5 << 20], stamp(1), Some(place(6 + (5 << 20))));
        diff.spill(0);
        diff.push(b"behind", stamp(1), Some(place(12 + (5 << 20))));
        assert!(diff.memory_bytes() < 1 << 20);
        assert_eq!(diff.spilled_bytes(), 6 + (5 << 20));
    }

    #[test]
    fn without_an_old_file_nothing_is_let_go_and_too_much_is_told() {
        let mut diff = Diff::beginning_at(None, 1_000);
        diff.push(&[1; 900], stamp(1), Some(place(900)));
        diff.push(&[1; 900], stamp(1), Some(place(1_800)));
        diff.spill(0);
        assert_eq!((diff.spilled_bytes(), diff.queued_bytes()), (0, 1_800));
        assert!(diff.overflows());
    }

    /// So that the reader knows where to expect the lines that say so.
    #[test]
    fn a_stretch_begins_where_sealing_does() {
        let mut diff = spilling(1 << 20);
        let sealed = [sealed_place(130), sealed_place(240)];
        let unsealed = [place(400), place(410), place(600), place(610)];
        let ends = [place(10), place(20)].into_iter().chain(sealed).chain(unsealed);
        for (n, behind) in ends.enumerate() {
            diff.push(&[n as u8; 10], stamp(1), Some(behind));
        }
        while diff.spill_block() {}
        let mut ends = Vec::new();
        while let Some(Round::Spilled(_, stretch)) = diff.next_round() {
            ends.push((stretch.from.offset, stretch.behind.offset, stretch.record_bytes));
        }
        assert_eq!(ends, [(0, 20, 20), (20, 240, 20), (240, 410, 20), (410, 610, 20)]);
    }
}
