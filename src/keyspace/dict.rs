//! The key table: extendible hashing in small segments.
//!
//! The top `depth` bits of a key's hash choose a slot of the directory, which names a segment; a
//! segment that is less deep than the directory stands in several slots side by side. A segment is
//! one page: 64 buckets of one cache line. The six bits behind the segment's own depth choose the
//! key's *home* bucket, so homes follow each other in the order of hashes. An entry lies in its
//! home, or *displaced* in the bucket after it (bucket 0 after the last), or in the segment's short
//! stash. Where none of the three has room, the segment splits in two, one bit deeper. Two halves
//! that have become mostly empty are merged again. So no operation ever moves more than about 500
//! entries; doubling or halving the directory copies a few times four bytes a segment. The table
//! takes 14 bytes a key on average, between 11 and 18.
//!
//! Invariants:
//! - every key lies in the segment that its hash chooses, in its home, displaced by one, or stashed
//! - a home with stashed entries says so, and no other does
//! - the segments' prefixes and depths divide the space of hashes without gap or overlap, and the
//!   directory says the same
//!
//! **SCAN.** A cursor is a position in the order of hashes, cut to 48 bits so that it fits the
//! integers of every client: everything before it was visited, nothing behind it. Splits, merges and
//! displacements never change that order, so a key that is there from the first call to the last is
//! returned exactly once, whatever happens to the others.

use super::entry::{Entry, prefetch};
use super::hash::HashKey;

const SLOTS: usize = 7;
const BUCKET_BITS: u32 = 6;
const BUCKETS: usize = 1 << BUCKET_BITS;

/// A segment deeper than this cannot split; with hashes that are not forged none comes near.
const MAX_DEPTH: u32 = 40;

/// The directory may have so many slots a segment. Honest hashes need about four; the limit bounds
/// the directory where many hashes share their first bits.
const MAX_DIRECTORY_RATIO: usize = 16;

/// The directory is halved when it can be and has more slots a segment than this: so far from the
/// point at which it doubles that the two cannot alternate.
const MIN_SHRINK_RATIO: usize = 4;

/// Entries a segment stashes before it splits. So many let segments fill to 96 %.
const STASH_MAX: usize = 24;

/// Two halves with no more entries than this together become one segment, 44 % full.
const MERGE_MAX: usize = 196;

/// Tidying up merges two halves with no more entries than this together: two thirds of a segment,
/// so far from a full one that the next insertions do not split it again.
const TIDY_MAX: usize = 300;

/// In a table that is to become large, a segment splits into up to two to this power at once.
const MAX_SPLIT_LEVELS: u32 = 3;

/// How many buckets ahead a split or merge fetches entries.
const DRAIN_AHEAD_BUCKETS: usize = 2;

/// Bits of the hash below those a cursor shows.
const CURSOR_SHIFT: u32 = 16;

/// Buckets that one call of scan may visit for each entry it was asked for, as in Redis.
const SCAN_BUCKETS_PER_ENTRY: usize = 10;

/// Places of a segment that chance chooses from; a stash that is longer, which takes forged hashes,
/// has some that it does not.
const SEGMENT_PLACES: usize = BUCKETS * SLOTS + STASH_MAX;

/// Entries that are fetched from memory together when some are chosen by chance.
const SAMPLE_BATCH: usize = 16;

/// Random draws of a slot before the search turns to walking.
const RANDOM_DRAWS: u32 = 32;

/// Tags of a bucket's seven slots and, in the top byte, its flags: a bit for each slot whose entry
/// is displaced from the bucket before, and the highest for "entries with this home are stashed".
/// A tag of 0 marks a free slot.
#[derive(Clone, Copy)]
struct Meta(u64);

impl Meta {
    const LOW_BITS: u64 = 0x0101_0101_0101_0101;
    const SLOT_HIGH_BITS: u64 = 0x0080_8080_8080_8080;
    const STASHED: u64 = 1 << 63;

    /// A set of slots: the high bit of their bytes.
    fn with_tag(self, tag: u8) -> SlotSet {
        let differing = self.0 ^ (u64::from(tag) * Meta::LOW_BITS);
        // A byte is zero if adding 0x7f to its low bits leaves the high bit clear, and it was clear.
        let low = !(Meta::LOW_BITS << 7);
        let nonzero = ((differing & low) + low) | differing;
        SlotSet(!nonzero & Meta::SLOT_HIGH_BITS)
    }

    fn free(self) -> SlotSet {
        self.with_tag(0)
    }

    fn used(self) -> SlotSet {
        SlotSet(!self.free().0 & Meta::SLOT_HIGH_BITS)
    }

    fn is_displaced(self, slot: usize) -> bool {
        self.0 & Meta::displaced_bit(slot) != 0
    }

    fn has_stashed(self) -> bool {
        self.0 & Meta::STASHED != 0
    }

    fn set_stashed(&mut self, stashed: bool) {
        self.0 = if stashed { self.0 | Meta::STASHED } else { self.0 & !Meta::STASHED };
    }

    fn fill(&mut self, slot: usize, tag: u8, displaced: bool) {
        self.0 |= u64::from(tag) << (8 * slot);
        self.0 |= if displaced { Meta::displaced_bit(slot) } else { 0 };
    }

    /// Returns the tag.
    fn clear(&mut self, slot: usize) -> u8 {
        let tag = (self.0 >> (8 * slot)) as u8;
        self.0 &= !(0xff << (8 * slot) | Meta::displaced_bit(slot));
        tag
    }

    fn displaced_bit(slot: usize) -> u64 {
        1 << (8 * SLOTS + slot)
    }
}

/// Slots of a bucket, to be walked through.
#[derive(Clone, Copy)]
struct SlotSet(u64);

impl Iterator for SlotSet {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let slot = (self.0 != 0).then(|| self.0.trailing_zeros() as usize / 8)?;
        self.0 &= self.0 - 1;
        Some(slot)
    }
}

/// One cache line.
#[repr(C, align(64))]
struct Bucket {
    /// Invariant: a slot is filled exactly if its tag is not 0.
    slots: [Option<Entry>; SLOTS],
    meta: Meta,
}

impl Bucket {
    const EMPTY: Bucket = Bucket { slots: [const { None }; SLOTS], meta: Meta(0) };

    fn put(&mut self, slot: usize, tag: u8, displaced: bool, entry: Entry) {
        debug_assert!(self.slots[slot].is_none());
        self.slots[slot] = Some(entry);
        self.meta.fill(slot, tag, displaced);
    }

    /// Empties a slot that is filled; returns its tag and entry.
    fn take(&mut self, slot: usize) -> Option<(u8, Entry)> {
        let entry = self.slots[slot].take()?;
        Some((self.meta.clear(slot), entry))
    }
}

struct Stashed {
    hash: u64,
    entry: Entry,
}

struct Segment {
    /// A page of its own, which a forked child and its parent share until one writes to it.
    buckets: Box<[Bucket; BUCKETS]>,
    stash: Vec<Stashed>,
    /// The first `depth` bits of its entries' hashes; the bits behind are zero.
    prefix: u64,
    depth: u32,
    len: u32,
}

impl Segment {
    fn empty(prefix: u64, depth: u32) -> Segment {
        let buckets = Box::new([const { Bucket::EMPTY }; BUCKETS]);
        Segment { buckets, stash: Vec::new(), prefix, depth, len: 0 }
    }

    fn len(&self) -> usize {
        self.len as usize
    }

    fn home(&self, hash: u64) -> usize {
        ((hash << self.depth) >> (64 - BUCKET_BITS)) as usize
    }

    fn locate(&self, hash: u64, mut is_it: impl FnMut(&Entry) -> bool) -> Option<Place> {
        let home = self.home(hash);
        let tag = tag(hash);
        let bucket = &self.buckets[home];
        for slot in bucket.meta.with_tag(tag) {
            if bucket.slots[slot].as_ref().is_some_and(&mut is_it) {
                return Some(Place::Slot { bucket: home, slot });
            }
        }
        let has_stashed = bucket.meta.has_stashed();
        let bucket = &self.buckets[after(home)];
        for slot in bucket.meta.with_tag(tag) {
            if bucket.meta.is_displaced(slot) && bucket.slots[slot].as_ref().is_some_and(&mut is_it)
            {
                return Some(Place::Slot { bucket: after(home), slot });
            }
        }
        if !has_stashed {
            return None;
        }
        let stashed = self.stash.iter().position(|s| s.hash == hash && is_it(&s.entry));
        stashed.map(Place::Stash)
    }

    fn get(&self, place: Place) -> Option<&Entry> {
        match place {
            Place::Slot { bucket, slot } => self.buckets[bucket].slots[slot].as_ref(),
            Place::Stash(index) => self.stash.get(index).map(|stashed| &stashed.entry),
        }
    }

    /// The entry at a place, counted through the buckets and then through the stash.
    fn at(&self, place: usize) -> Option<&Entry> {
        match place.checked_sub(BUCKETS * SLOTS) {
            None => self.buckets[place / SLOTS].slots[place % SLOTS].as_ref(),
            Some(stash) => self.stash.get(stash).map(|stashed| &stashed.entry),
        }
    }

    fn get_mut(&mut self, place: Place) -> Option<&mut Entry> {
        match place {
            Place::Slot { bucket, slot } => self.buckets[bucket].slots[slot].as_mut(),
            Place::Stash(index) => self.stash.get_mut(index).map(|stashed| &mut stashed.entry),
        }
    }

    /// Puts `entry` where there is room for it; gives it back if there is none and `stash_max`
    /// entries are stashed.
    fn place(&mut self, hash: u64, entry: Entry, stash_max: usize) -> Result<(), Entry> {
        let (home, tag) = (self.home(hash), tag(hash));
        let next = after(home);
        // The home first, even if the next bucket is emptier: a lookup then mostly ends there.
        if let Some(slot) = self.buckets[home].meta.free().next() {
            self.buckets[home].put(slot, tag, false, entry);
        } else if let Some(slot) = self.buckets[next].meta.free().next() {
            self.buckets[next].put(slot, tag, true, entry);
        } else if let Some(slot) = self.make_room_at_home(home) {
            self.buckets[home].put(slot, tag, false, entry);
        } else if let Some(slot) = self.make_room_after(next) {
            self.buckets[next].put(slot, tag, true, entry);
        } else if self.stash.len() < stash_max {
            self.stash.push(Stashed { hash, entry });
            self.buckets[home].meta.set_stashed(true);
        } else {
            return Err(entry);
        }
        self.len += 1;
        Ok(())
    }

    /// Sends an entry that was displaced into `bucket` back to its home, the bucket before.
    fn make_room_at_home(&mut self, bucket: usize) -> Option<usize> {
        let before = before(bucket);
        let to = self.buckets[before].meta.free().next()?;
        let meta = self.buckets[bucket].meta;
        let from = meta.used().find(|&slot| meta.is_displaced(slot))?;
        let (tag, entry) = self.buckets[bucket].take(from)?;
        self.buckets[before].put(to, tag, false, entry);
        Some(from)
    }

    /// Displaces an entry that lies in `bucket`, its home, into the bucket after.
    fn make_room_after(&mut self, bucket: usize) -> Option<usize> {
        let next = after(bucket);
        let to = self.buckets[next].meta.free().next()?;
        let meta = self.buckets[bucket].meta;
        let from = meta.used().find(|&slot| !meta.is_displaced(slot))?;
        let (tag, entry) = self.buckets[bucket].take(from)?;
        self.buckets[next].put(to, tag, true, entry);
        Some(from)
    }

    fn remove(&mut self, place: Place) -> Option<Entry> {
        let entry = match place {
            Place::Slot { bucket, slot } => {
                let (_, entry) = self.buckets[bucket].take(slot)?;
                if !self.stash.is_empty() {
                    self.unstash_into(bucket, slot);
                }
                entry
            }
            Place::Stash(index) => {
                if index >= self.stash.len() {
                    return None;
                }
                let stashed = self.stash.swap_remove(index);
                self.note_stashed(self.home(stashed.hash));
                stashed.entry
            }
        };
        self.len -= 1;
        Some(entry)
    }

    /// Fills a slot that became free with a stashed entry that may lie there, if one is stashed.
    fn unstash_into(&mut self, bucket: usize, slot: usize) {
        let before = before(bucket);
        let fits = self.stash.iter().position(|stashed| {
            let home = self.home(stashed.hash);
            home == bucket || home == before
        });
        if let Some(index) = fits {
            let Stashed { hash, entry } = self.stash.swap_remove(index);
            let home = self.home(hash);
            self.buckets[bucket].put(slot, tag(hash), home != bucket, entry);
            self.note_stashed(home);
        }
    }

    /// Brings a bucket's word on stashed entries up to date.
    fn note_stashed(&mut self, home: usize) {
        let stashed = self.stash.iter().any(|stashed| self.home(stashed.hash) == home);
        self.buckets[home].meta.set_stashed(stashed);
    }

    /// Hands every entry with its hash to `receive`.
    fn drain(self, hash_key: &HashKey, mut receive: impl FnMut(u64, Entry)) {
        let Segment { mut buckets, stash, .. } = self;
        for at in 0..BUCKETS {
            // The entries lie anywhere in memory; without this, waiting for them takes most of the
            // time of a split.
            if let Some(ahead) = buckets.get(at + DRAIN_AHEAD_BUCKETS) {
                ahead.slots.iter().flatten().for_each(Entry::prefetch);
            }
            for entry in buckets[at].slots.iter_mut().filter_map(Option::take) {
                receive(hash_key.hash(entry.key()), entry);
            }
        }
        for Stashed { hash, entry } in stash {
            receive(hash, entry);
        }
    }

    /// Puts `entry` where there is room for it, into the stash if need be.
    fn place_anyhow(&mut self, hash: u64, entry: Entry) {
        let placed = self.place(hash, entry, usize::MAX);
        debug_assert!(placed.is_ok(), "a stash without limit has room");
    }

    /// Calls `visit` with the entries whose home is `home`, and returns their number.
    fn visit_home(&self, home: usize, mut visit: impl FnMut(&Entry)) -> usize {
        let mut visited = 0;
        let mut visit_slots = |bucket: &Bucket, displaced: bool| {
            for slot in bucket.meta.used() {
                if bucket.meta.is_displaced(slot) == displaced
                    && let Some(entry) = &bucket.slots[slot]
                {
                    visit(entry);
                    visited += 1;
                }
            }
        };
        visit_slots(&self.buckets[home], false);
        visit_slots(&self.buckets[after(home)], true);
        if self.buckets[home].meta.has_stashed() {
            for stashed in self.stash.iter().filter(|s| self.home(s.hash) == home) {
                visit(&stashed.entry);
                visited += 1;
            }
        }
        visited
    }

    fn iter(&self) -> impl Iterator<Item = &Entry> {
        let slots = self.buckets.iter().flat_map(|bucket| bucket.slots.iter().flatten());
        slots.chain(self.stash.iter().map(|stashed| &stashed.entry))
    }
}

/// Where an entry lies in its segment.
#[derive(Clone, Copy, Debug)]
enum Place {
    Slot { bucket: usize, slot: usize },
    Stash(usize),
}

fn after(bucket: usize) -> usize {
    (bucket + 1) % BUCKETS
}

fn before(bucket: usize) -> usize {
    (bucket + BUCKETS - 1) % BUCKETS
}

/// The tag of a hash: its lowest bits, which neither directory nor buckets use; never 0.
fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// How a table's entries lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Pages of buckets.
    pub segments: usize,
    /// How many buckets hold no entry, one, two, ...
    pub by_fill: [usize; SLOTS + 1],
    /// Entries in the bucket behind their home.
    pub displaced: usize,
    /// Entries in a segment's stash.
    pub stashed: usize,
}

/// A set of entries with different keys.
///
/// The caller hashes a key once, with [`Dict::hash`], and hands the hash along with the key.
pub struct Dict {
    hash_key: HashKey,
    /// Indices into `segments`, by the first `depth` bits of a hash. Empty as long as there are no
    /// segments, which is until the first insertion.
    directory: Vec<u32>,
    segments: Vec<Segment>,
    depth: u32,
    /// How many segments there are of each depth.
    segments_by_depth: [u32; MAX_DEPTH as usize + 1],
    len: usize,
    frugal: bool,
    /// How many entries are expected; 0 if nobody has said.
    expected: usize,
    /// The segments below this index may have missed a merge while the table was frugal or
    /// expected to grow.
    untidy: usize,
}

impl Dict {
    /// An empty table. Allocates nothing.
    #[must_use]
    pub fn new(hash_key: HashKey) -> Dict {
        Dict {
            hash_key,
            directory: Vec::new(),
            segments: Vec::new(),
            depth: 0,
            segments_by_depth: [0; MAX_DEPTH as usize + 1],
            len: 0,
            frugal: false,
            expected: 0,
            untidy: 0,
        }
    }

    /// The hash under which `key` is to be found.
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hash_key.hash(key)
    }

    /// The secret that places the keys.
    #[must_use]
    pub fn hash_key(&self) -> HashKey {
        self.hash_key
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry of `key`. O(1): two neighbouring cache lines of the table, and the entry.
    #[must_use]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.find_where(hash, |entry| entry.has_key(key))
    }

    /// The entry of `key`, to be changed. O(1).
    pub fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Entry> {
        let index = self.segment_index(hash)?;
        let segment = &mut self.segments[index];
        let place = segment.locate(hash, |entry| entry.has_key(key))?;
        segment.get_mut(place)
    }

    /// An entry of this very hash that is also `wanted`. O(1).
    #[must_use]
    pub fn find_by_hash(&self, hash: u64, wanted: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        self.find_where(hash, |entry| wanted(entry) && self.hash(entry.key()) == hash)
    }

    fn find_where(&self, hash: u64, is_it: impl FnMut(&Entry) -> bool) -> Option<&Entry> {
        let segment = &self.segments[self.segment_index(hash)?];
        segment.get(segment.locate(hash, is_it)?)
    }

    /// Asks the processor for the table's part in a coming lookup of a key with this hash, without
    /// waiting for it.
    pub fn prefetch(&self, hash: u64) {
        if let Some(index) = self.segment_index(hash) {
            let segment = &self.segments[index];
            let home = segment.home(hash);
            prefetch(&raw const segment.buckets[home]);
            prefetch(&raw const segment.buckets[after(home)]);
        }
    }

    /// Asks the processor for the entries that a lookup of a key with this hash would look at. To
    /// be called some time after [`Dict::prefetch`].
    pub fn prefetch_entries(&self, hash: u64) {
        if let Some(index) = self.segment_index(hash) {
            let segment = &self.segments[index];
            let home = segment.home(hash);
            for bucket in [home, after(home)] {
                let bucket = &segment.buckets[bucket];
                for slot in bucket.meta.with_tag(tag(hash)) {
                    bucket.slots[slot].as_ref().inspect(|entry| entry.prefetch());
                }
            }
        }
    }

    /// Says how many entries the table is about to hold, or that it has them, with 0. While it
    /// grows towards that it splits full segments into many at once, so that fewer entries are
    /// moved, and does not merge. Too high a number costs memory: 8 segments for each full one at
    /// worst. Call [`Dict::tidy`] at the end, which takes that back.
    pub fn expect(&mut self, entries: usize) {
        if self.expected > 0 && entries == 0 {
            self.untidy = self.segments.len();
        }
        self.expected = entries;
    }

    /// Adds an entry whose key has this hash and is not in the table yet. O(1), at times with
    /// a split of its segment.
    pub fn insert(&mut self, hash: u64, mut entry: Entry) {
        debug_assert!(self.find(hash, entry.key()).is_none());
        if self.segments.is_empty() {
            self.segments.push(Segment::empty(0, 0));
            self.segments_by_depth[0] = 1;
            self.directory.push(0);
        }
        self.len += 1;
        let mut stash_max = STASH_MAX;
        while let Some(index) = self.segment_index(hash) {
            match self.segments[index].place(hash, entry, stash_max) {
                Ok(()) => return,
                Err(back) => entry = back,
            }
            if !self.split(index) {
                stash_max = usize::MAX;
            }
        }
    }

    /// Puts an entry whose key has this hash in the place of the one of the same key, which it
    /// returns, or adds it. O(1), at times with a split of a segment. Does not look at the entry
    /// unless there is one that may be of the same key.
    pub fn put(&mut self, hash: u64, entry: Entry) -> Option<Entry> {
        if let Some(index) = self.segment_index(hash) {
            let segment = &mut self.segments[index];
            let place = segment.locate(hash, |old| old.has_key(entry.key()));
            if let Some(old) = place.and_then(|place| segment.get_mut(place)) {
                return Some(std::mem::replace(old, entry));
            }
        }
        self.insert(hash, entry);
        None
    }

    /// Takes the entry of `key` out. O(1), at times with a merge of its segment.
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Entry> {
        self.remove_where(hash, |entry, _| entry.has_key(key))
    }

    /// Takes out an entry of this very hash that is also `wanted`. O(1).
    pub fn remove_by_hash(&mut self, hash: u64, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        self.remove_where(hash, |entry, key| wanted(entry) && key.hash(entry.key()) == hash)
    }

    fn remove_where(
        &mut self,
        hash: u64,
        is_it: impl Fn(&Entry, &HashKey) -> bool,
    ) -> Option<Entry> {
        let index = self.segment_index(hash)?;
        let segment = &mut self.segments[index];
        let place = segment.locate(hash, |entry| is_it(entry, &self.hash_key))?;
        let entry = segment.remove(place)?;
        self.len -= 1;
        if segment.len() <= MERGE_MAX / 2 && !self.frugal && self.expected == 0 {
            self.merge(index, MERGE_MAX);
        }
        Some(entry)
    }

    /// Visits entries in the order of their hashes from `cursor` on, until about `count` are
    /// visited or ten times as many buckets, and returns the cursor to go on from; 0 at the end.
    /// Start with 0. Any cursor is safe. A key that stays in the table from the first call to the
    /// last is visited exactly once.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(&Entry)) -> u64 {
        // The cursor's upper bits are not shown to clients; one who sends some means something else.
        let mut position = cursor << CURSOR_SHIFT;
        let mut entries_left = count.max(1);
        let mut steps_left = entries_left.saturating_mul(SCAN_BUCKETS_PER_ENTRY);
        while entries_left > 0 && steps_left > 0 {
            let Some(index) = self.segment_index(position) else { return 0 };
            let segment = &self.segments[index];
            let home_shift = 64 - BUCKET_BITS - segment.depth;
            let visited = if segment.len == 0 {
                0
            } else if position.trailing_zeros() >= home_shift {
                segment.visit_home(segment.home(position), &mut visit)
            } else {
                // Behind a merge, the cursor may stand within a home: the first part was visited.
                segment.visit_home(segment.home(position), |entry| {
                    if self.hash(entry.key()) >= position {
                        visit(entry);
                    }
                })
            };
            let shift = if segment.len == 0 { 64 - segment.depth } else { home_shift };
            // The next home or segment starts where all bits below `shift` were ones, and one more.
            let last = position | 1u64.checked_shl(shift).unwrap_or(0).wrapping_sub(1);
            let Some(next) = last.checked_add(1) else { return 0 };
            position = next;
            entries_left = entries_left.saturating_sub(visited);
            steps_left -= 1;
        }
        position >> CURSOR_SHIFT
    }

    /// An entry chosen by chance: each with the same chance, unless the table is almost empty, when
    /// those of sparse segments are more likely. `draw` gives random numbers. O(1) but for a table
    /// that was emptied while frugal.
    #[must_use]
    pub fn random(&self, draw: &mut impl FnMut() -> u64) -> Option<&Entry> {
        let (segment, place) = self.random_place(draw)?;
        segment.at(place)
    }

    /// Visits up to `count` entries that are `wanted`, chosen by chance, each with the same chance
    /// as in [`Dict::random`]; may visit one twice. Looks at `budget` entries at most. They lie side
    /// by side in segments chosen by chance, so that the processor fetches several at a time.
    pub fn sample(
        &self,
        count: usize,
        budget: usize,
        draw: &mut impl FnMut() -> u64,
        wanted: impl Fn(&Entry) -> bool,
        mut visit: impl FnMut(&Entry),
    ) {
        let (mut left, mut budget) = (count, budget);
        while left > 0 && budget > 0 {
            // From an entry that is as likely as any other, round the segment: so the ones behind
            // it are as likely, too.
            let Some((segment, start)) = self.random_place(draw) else { return };
            let mut places = (start..SEGMENT_PLACES).chain(0..start);
            let mut passed = 0;
            while left > 0 && budget > 0 && passed < segment.len() {
                let mut batch = [None; SAMPLE_BATCH];
                let found = places.by_ref().filter_map(|place| segment.at(place));
                let mut filled = 0;
                for (slot, entry) in batch.iter_mut().zip(found.take(left.min(budget))) {
                    entry.prefetch();
                    *slot = Some(entry);
                    filled += 1;
                }
                if filled == 0 {
                    break;
                }
                passed += filled;
                budget -= filled;
                for entry in batch.iter().flatten().filter(|entry| wanted(entry)) {
                    visit(entry);
                    left -= 1;
                }
            }
        }
    }

    /// A place that holds an entry, chosen by chance: each entry's with the same chance, unless
    /// the table is almost empty. O(1) but for a table that was emptied while frugal.
    fn random_place(&self, draw: &mut impl FnMut() -> u64) -> Option<(&Segment, usize)> {
        if self.is_empty() {
            return None;
        }
        let mut below = |limit: usize| (draw() % limit as u64) as usize;
        for _ in 0..RANDOM_DRAWS {
            let segment = &self.segments[below(self.segments.len())];
            let place = below(SEGMENT_PLACES);
            if segment.at(place).is_some() {
                return Some((segment, place));
            }
        }
        let (before, from) = self.segments.split_at(below(self.segments.len()));
        let segment = from.iter().chain(before).find(|segment| segment.len > 0)?;
        let mut places =
            (0..BUCKETS * SLOTS + segment.stash.len()).filter(|place| segment.at(*place).is_some());
        Some((segment, places.nth(below(segment.len()))?))
    }

    /// All entries, in the order in which the table lies in memory. Allocates nothing.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.segments.iter().flat_map(Segment::iter)
    }

    /// While frugal, the table refrains from merges, which can wait: each dirties pages that
    /// a forked child would otherwise share. Call [`Dict::tidy`] afterwards.
    pub fn set_frugal(&mut self, frugal: bool) {
        if self.frugal && !frugal {
            self.untidy = self.segments.len();
        }
        self.frugal = frugal;
    }

    /// Whether the table refrains from merges.
    #[must_use]
    pub fn is_frugal(&self) -> bool {
        self.frugal
    }

    /// Merges what could have been merged while frugal or growing, looking at up to `segments` segments; true
    /// once nothing is left to look at. O(`segments`) and a few hundred entries for each merge.
    pub fn tidy(&mut self, segments: usize) -> bool {
        for _ in 0..segments {
            // From the end, because a merge moves the last segment to the place of another.
            self.untidy = self.untidy.min(self.segments.len());
            if self.untidy == 0 || self.frugal || self.expected > 0 {
                break;
            }
            self.untidy -= 1;
            if self.segments[self.untidy].len() <= TIDY_MAX / 2 {
                self.merge(self.untidy, TIDY_MAX);
            }
        }
        self.untidy == 0
    }

    /// Bytes of memory the table itself takes, without the entries.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        let stashes: usize = self.segments.iter().map(|segment| segment.stash.capacity()).sum();
        self.segments.len() * size_of::<[Bucket; BUCKETS]>()
            + stashes * size_of::<Stashed>()
            + self.segments.capacity() * size_of::<Segment>()
            + self.directory.capacity() * size_of::<u32>()
    }

    /// How full the buckets are, and how many entries lie elsewhere than at home. O(buckets).
    #[must_use]
    pub fn layout(&self) -> Layout {
        let mut layout = Layout { segments: self.segments.len(), ..Layout::default() };
        for segment in &self.segments {
            layout.stashed += segment.stash.len();
            for bucket in segment.buckets.iter() {
                let slots = bucket.slots.iter().enumerate();
                let filled = slots.filter(|(_, slot)| slot.is_some());
                layout.by_fill[filled.clone().count()] += 1;
                layout.displaced += filled.filter(|(n, _)| bucket.meta.is_displaced(*n)).count();
            }
        }
        layout
    }

    /// The index of the segment for a hash; none if there are no segments.
    fn segment_index(&self, hash: u64) -> Option<usize> {
        self.directory.get(self.directory_index(hash)).map(|&index| index as usize)
    }

    fn directory_index(&self, hash: u64) -> usize {
        // In two steps, because a shift by 64 is not allowed.
        ((hash >> 1) >> (63 - self.depth)) as usize
    }

    /// Points the directory's slots of the segment at `index` to it.
    fn enter(&mut self, index: usize) {
        let segment = &self.segments[index];
        let first = self.directory_index(segment.prefix);
        let slots = 1 << (self.depth - segment.depth);
        self.directory[first..first + slots].fill(index as u32);
    }

    /// Splits a segment, in two or, where the table is expected to grow, in more; false if it is
    /// as deep as it can get.
    fn split(&mut self, index: usize) -> bool {
        let (depth, prefix) = (self.segments[index].depth, self.segments[index].prefix);
        let wanted = self.split_levels(depth);
        while self.depth < depth + wanted && self.double_directory() {}
        let levels = wanted.min(self.depth - depth);
        if levels == 0 {
            return false;
        }
        let depth = depth + levels;
        let full = std::mem::replace(&mut self.segments[index], Segment::empty(prefix, depth));
        let first_new = self.segments.len();
        for part in 1..1 << levels {
            self.segments.push(Segment::empty(prefix | part << (64 - depth), depth));
        }
        let segments = &mut self.segments;
        full.drain(&self.hash_key, |hash, entry| {
            let part = ((hash - prefix) >> (64 - depth)) as usize;
            let segment = part.checked_sub(1).map_or(index, |part| first_new + part);
            segments[segment].place_anyhow(hash, entry);
        });
        for new in first_new..self.segments.len() {
            self.enter(new);
        }
        self.segments_by_depth[(depth - levels) as usize] -= 1;
        self.segments_by_depth[depth as usize] += 1 << levels;
        true
    }

    /// How many bits deeper a segment of this depth becomes when it splits: one, or as many as the
    /// entries expected would need anyway if all segments were half full.
    fn split_levels(&self, depth: u32) -> u32 {
        let segments = self.expected / (BUCKETS * SLOTS / 2);
        let wanted = segments.checked_ilog2().unwrap_or(0);
        wanted.saturating_sub(depth).clamp(1, MAX_SPLIT_LEVELS)
    }

    fn double_directory(&mut self) -> bool {
        let slots = self.directory.len() * 2;
        if self.depth == MAX_DEPTH
            || slots > self.segments.len() * MAX_DIRECTORY_RATIO
            || u32::try_from(slots).is_err()
        {
            return false;
        }
        self.directory = self.directory.iter().flat_map(|&index| [index; 2]).collect();
        self.depth += 1;
        true
    }

    /// Merges a segment with its other half, and the result with its own, as long as the halves are
    /// of the same depth and have no more than `max` entries together.
    fn merge(&mut self, index: usize, max: usize) {
        let mut merged = index;
        while let Some(buddy) = self.mergeable_buddy(merged, max) {
            merged = self.merge_with(merged, buddy);
        }
        self.halve_directory();
    }

    fn mergeable_buddy(&self, index: usize, max: usize) -> Option<usize> {
        let segment = &self.segments[index];
        let bit = segment.depth.checked_sub(1)?;
        let buddy = self.segment_index(segment.prefix ^ 1 << (63 - bit))?;
        let other = &self.segments[buddy];
        let fits = other.depth == segment.depth && other.len() + segment.len() <= max;
        fits.then_some(buddy)
    }

    /// Returns the index of the segment that two became.
    fn merge_with(&mut self, a: usize, b: usize) -> usize {
        let depth = self.segments[a].depth - 1;
        let prefix = self.segments[a].prefix & self.segments[b].prefix;
        // The later one goes, so that the earlier one's index stays what it is.
        let (keep, go) = (a.min(b), a.max(b));
        let gone = self.segments.swap_remove(go);
        let kept = std::mem::replace(&mut self.segments[keep], Segment::empty(prefix, depth));
        let target = &mut self.segments[keep];
        for half in [kept, gone] {
            half.drain(&self.hash_key, |hash, entry| target.place_anyhow(hash, entry));
        }
        self.enter(keep);
        if go < self.segments.len() {
            self.enter(go);
        }
        self.segments_by_depth[depth as usize] += 1;
        self.segments_by_depth[depth as usize + 1] -= 2;
        keep
    }

    /// Halves the directory while no segment needs its last bit and it is far too large.
    fn halve_directory(&mut self) {
        while self.depth > 0
            && self.segments_by_depth[self.depth as usize] == 0
            && self.directory.len() > self.segments.len() * MIN_SHRINK_RATIO
        {
            self.directory = self.directory.iter().step_by(2).copied().collect();
            self.depth -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
