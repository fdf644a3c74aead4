//! Reads groups of the rewrite-diff back from the log's old file, where memory has no room for
//! them.
//!
//! What is read was written by this process a while ago, so both ends are known and so is the
//! checksum of all records in between. Seals say where each group ends and when it was made; a line
//! that looks like one inside a value does not verify. What does not come out as it went in has
//! rotted, or somebody else has written to the file.

use std::io;

use super::diff::Stretch;
use super::format::{
    Annotation, GroupSum, HEADER_PREFIX, Line, MAX_LINE_BYTES, SEAL_PREFIX, SEALS_OFF_LINE, Seal,
};
use super::storage::{LogFile, read_full_at};
use super::tail::{Chain, Place, Stamp};
use memchr::memmem;

/// How much is read at once.
const READ_BYTES: usize = 256 << 10;
/// Neighbouring groups with the same time are joined up to this size, to save seals.
const JOINED_BYTES: usize = 256 << 10;

/// Why a stretch could not be brought over.
#[derive(Debug)]
pub enum RereadError {
    /// The old file cannot be read, or not as it was written.
    Old(io::Error),
    /// The new file does not take it.
    New(io::Error),
}

/// Hands each group of `stretch`, which stands in `file`, in order, with what its seal said, until
/// one fails. `group` is a buffer that the callee may append to. Takes memory for the largest group,
/// since no seal may stand inside one, and for a moment twice as much when its buffer grows; where
/// there are no seals the stretch is one group. What has been handed over is sound only if
/// this returns without an error.
///
/// # Errors
/// [`RereadError`]; `New` is what `each` returned.
pub fn reread(
    file: &dyn LogFile,
    stretch: &Stretch,
    mut each: impl FnMut(&mut Vec<u8>, Stamp) -> io::Result<()>,
) -> Result<(), RereadError> {
    let mut reader = Reader::new(file, stretch.from.offset, stretch.behind.offset);
    let mut out = Joined { group: Vec::new(), stamp: None, crc32c: 0, bytes: 0, each: &mut each };
    let chain = reader.switch(&stretch.from.chain, &stretch.behind.chain)?;
    let reached = match chain {
        Chain::Sealed(line) => Chain::Sealed(reader.sealed_groups(line, &mut out)?),
        Chain::Unsealed => {
            reader.unsealed_rest(stretch.stamp, &mut out)?;
            Chain::Unsealed
        }
    };
    out.pass_on()?;
    let end = Place { offset: reader.position(), chain: reached };
    if end != stretch.behind || out.bytes != stretch.record_bytes || out.crc32c != stretch.crc32c {
        return Err(altered("what is read is not what was written"));
    }
    Ok(())
}

fn altered(what: &'static str) -> RereadError {
    RereadError::Old(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// Groups on their way, joined where they have the same time.
struct Joined<'a> {
    group: Vec<u8>,
    stamp: Option<Stamp>,
    /// Of all records so far.
    crc32c: u32,
    bytes: usize,
    each: &'a mut dyn FnMut(&mut Vec<u8>, Stamp) -> io::Result<()>,
}

impl Joined<'_> {
    fn add(&mut self, records: &[u8], stamp: Stamp) -> Result<(), RereadError> {
        let joins = self.stamp.is_some_and(|last| last.unix_ms == stamp.unix_ms)
            && self.group.len() + records.len() <= JOINED_BYTES;
        if !joins {
            self.pass_on()?;
        }
        self.crc32c = crc32c::crc32c_append(self.crc32c, records);
        self.bytes += records.len();
        self.group.extend_from_slice(records);
        self.stamp = Some(stamp);
        Ok(())
    }

    /// Passes on a group that is too large to be joined with others, without copying it.
    fn add_large(&mut self, mut records: Vec<u8>, stamp: Stamp) -> Result<(), RereadError> {
        self.pass_on()?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &records);
        self.bytes += records.len();
        (self.each)(&mut records, stamp).map_err(RereadError::New)
    }

    fn pass_on(&mut self) -> Result<(), RereadError> {
        let Some(stamp) = self.stamp.take() else { return Ok(()) };
        if !self.group.is_empty() {
            (self.each)(&mut self.group, stamp).map_err(RereadError::New)?;
            self.group.clear();
        }
        Ok(())
    }
}

/// A window that moves along the file.
struct Reader<'a> {
    file: &'a dyn LogFile,
    window: Vec<u8>,
    /// Where in the window the group begins that is being read; what lies before is done with.
    start: usize,
    /// File offset of that.
    at: u64,
    /// File offset where the stretch ends.
    end: u64,
}

impl<'a> Reader<'a> {
    fn new(file: &'a dyn LogFile, at: u64, end: u64) -> Reader<'a> {
        Reader { file, window: Vec::new(), start: 0, at, end }
    }

    /// What has been read and not been done with.
    fn rest(&self) -> &[u8] {
        self.window.get(self.start..).unwrap_or(&[])
    }

    fn position(&self) -> u64 {
        self.at
    }

    /// Reads more, up to `most` bytes. `false` at the end of the stretch.
    fn read_more(&mut self, most: u64) -> Result<bool, RereadError> {
        self.window.drain(..self.start.min(self.window.len()));
        self.start = 0;
        let have = self.window.len();
        let at = self.at + have as u64;
        let wanted = self.end.saturating_sub(at).min(most);
        if wanted == 0 {
            return Ok(false);
        }
        let no_room = |_| RereadError::Old(io::ErrorKind::OutOfMemory.into());
        let wanted = usize::try_from(wanted)
            .map_err(|_| RereadError::Old(io::ErrorKind::OutOfMemory.into()))?;
        self.window.try_reserve(wanted).map_err(no_room)?;
        self.window.resize(have + wanted, 0);
        let room = self.window.get_mut(have..).unwrap_or_default();
        if read_full_at(self.file, room, at).map_err(RereadError::Old)? < wanted {
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the file has been truncated");
            return Err(RereadError::Old(error));
        }
        Ok(true)
    }

    /// Hands the next `bytes`, which must have been read, to `out` as one group, and is done with
    /// them. Only a small group is copied.
    fn hand_over(
        &mut self,
        bytes: usize,
        stamp: Stamp,
        out: &mut Joined<'_>,
    ) -> Result<(), RereadError> {
        if bytes <= JOINED_BYTES {
            out.add(self.rest().get(..bytes).unwrap_or(&[]), stamp)?;
            self.consume(bytes);
            return Ok(());
        }
        self.window.drain(..self.start);
        let rest = self.window.split_off(bytes.min(self.window.len()));
        let group = std::mem::replace(&mut self.window, rest);
        self.start = 0;
        self.at += bytes as u64;
        out.add_large(group, stamp)
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.at += bytes as u64;
    }

    /// The line that begins `ahead` bytes on, its line end included, if one of ours can be as long.
    fn line_at(&mut self, ahead: usize) -> Result<Option<Line>, RereadError> {
        loop {
            let rest = self.rest().get(ahead..).unwrap_or(&[]);
            let head = rest.get(..MAX_LINE_BYTES).unwrap_or(rest);
            if let Some(end) = memchr::memchr(b'\n', head) {
                return Ok(head.get(..=end).and_then(Line::keep));
            }
            if head.len() == MAX_LINE_BYTES || !self.read_more(READ_BYTES as u64)? {
                return Ok(None);
            }
        }
    }

    /// Reads the lines by which sealing begins or ends, if it does, and gives the chain that the
    /// first group continues.
    fn switch(&mut self, from: &Chain, behind: &Chain) -> Result<Chain, RereadError> {
        let chain = match from {
            Chain::Sealed(_) => *from,
            // No record begins like a header.
            Chain::Unsealed => match self.header()? {
                Some(header) => Chain::Sealed(header),
                None => Chain::Unsealed,
            },
        };
        match (&chain, behind) {
            (Chain::Sealed(_), Chain::Sealed(_)) | (Chain::Unsealed, Chain::Unsealed) => Ok(chain),
            (Chain::Unsealed, Chain::Sealed(_)) => Err(altered("the header is not there")),
            (Chain::Sealed(previous), Chain::Unsealed) => {
                let off = self.line_at(0)?.filter(|line| line.as_bytes() == SEALS_OFF_LINE);
                let seal = self.line_at(SEALS_OFF_LINE.len())?;
                let verifies =
                    |line: &Line| seal_of(previous, self.at, SEALS_OFF_LINE, line).is_some();
                let seal = off.and(seal).filter(verifies);
                let seal = seal.ok_or_else(|| altered("the end of sealing does not verify"))?;
                self.consume(SEALS_OFF_LINE.len() + seal.as_bytes().len());
                Ok(Chain::Unsealed)
            }
        }
    }

    /// Reads the header that stands here, if one does.
    fn header(&mut self) -> Result<Option<Line>, RereadError> {
        let line = self.line_at(0)?.filter(|line| {
            line.as_bytes().starts_with(HEADER_PREFIX)
                && matches!(Annotation::of(line.as_bytes()), Annotation::Header { .. })
        });
        self.consume(line.as_ref().map_or(0, |line| line.as_bytes().len()));
        Ok(line)
    }

    /// Follows the chain of seals to the end, and gives the last one.
    fn sealed_groups(
        &mut self,
        mut previous: Line,
        out: &mut Joined<'_>,
    ) -> Result<Line, RereadError> {
        let finder = memmem::Finder::new(SEAL_PREFIX);
        let mut sum = GroupSum::after(&previous);
        // How much of the rest has been summed and searched.
        let mut seen = 0;
        loop {
            let unseen = self.rest().get(seen..).unwrap_or(&[]);
            let Some(found) = finder.find(unseen) else {
                // A prefix that the window cuts off is found when there is more.
                let searched = unseen.len().saturating_sub(SEAL_PREFIX.len() - 1);
                sum.add(unseen.get(..searched).unwrap_or(&[]));
                seen += searched;
                if self.read_more(READ_BYTES as u64)? {
                    continue;
                }
                // All of it must have been groups.
                let done = self.rest().is_empty();
                return if done { Ok(previous) } else { Err(altered("no seal ends a group")) };
            };
            sum.add(unseen.get(..found).unwrap_or(&[]));
            seen += found;
            let line = self.line_at(seen)?;
            let sealed = line.and_then(|line| {
                let seal = Seal::parse(line.as_bytes())?;
                let in_place = seal.fields.end == self.at + seen as u64;
                (in_place && sum.verifies(line.as_bytes(), &seal)).then_some((line, seal))
            });
            match sealed {
                Some((line, seal)) => {
                    let stamp = Stamp { db: seal.fields.db, unix_ms: seal.fields.unix_ms };
                    self.hand_over(seen, stamp, out)?;
                    self.consume(line.as_bytes().len());
                    previous = line;
                    sum = GroupSum::after(&previous);
                    seen = 0;
                }
                // Part of a value.
                None => {
                    sum.add(self.rest().get(seen..seen + 1).unwrap_or(&[]));
                    seen += 1;
                }
            }
        }
    }

    /// Takes all that is left as one group: nothing tells where the groups ended, nor need it.
    fn unsealed_rest(&mut self, stamp: Stamp, out: &mut Joined<'_>) -> Result<(), RereadError> {
        while self.read_more(READ_BYTES as u64)? {}
        self.hand_over(self.rest().len(), stamp, out)
    }
}

/// The seal that `line` is, if it is the true one of `group`, which begins at file offset `at`
/// behind the line `previous`.
fn seal_of(previous: &Line, at: u64, group: &[u8], line: &Line) -> Option<Seal> {
    let seal = Seal::parse(line.as_bytes())?;
    let mut sum = GroupSum::after(previous);
    sum.add(group);
    let in_place = seal.fields.end == at + group.len() as u64;
    (in_place && sum.verifies(line.as_bytes(), &seal)).then_some(seal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::format::random_generation;
    use crate::persist::simulated::{Rng, SimDisk};
    use crate::persist::tail::Tail;
    use std::ffi::OsStr;
    use std::sync::Arc;

    /// A file as the log writes it, and what was written.
    struct Written {
        disk: SimDisk,
        file: Arc<dyn LogFile>,
        stretches: Vec<Stretch>,
        groups: Vec<(Vec<u8>, Stamp)>,
    }

    /// Groups of all sizes, some of them full of what looks like seals, sealed or not at random; a
    /// stretch ends where sealing begins or ends, and now and then.
    fn written(seed: u64) -> Written {
        let mut rng = Rng(seed);
        let disk = SimDisk::new(seed);
        let file = disk.storage().create(OsStr::new("old")).expect("created");
        let mut tail = Tail::new(Arc::clone(&file), 0, Chain::Unsealed, 0, 0, false);
        let (mut stretches, mut groups) = (Vec::<Stretch>::new(), Vec::new());
        let mut seals = true;
        for n in 0..rng.below(80) {
            let size = [3, 60, 3_000, 300_000][rng.below(4) as usize];
            let mut group: Vec<u8> = (0..1 + rng.below(size)).map(|_| rng.next() as u8).collect();
            if rng.one_in(3) {
                let genuine = match tail.place().chain {
                    Chain::Sealed(line) => line.as_bytes().to_vec(),
                    Chain::Unsealed => b"#S1:1:1:0:1:00000000\r\n".to_vec(),
                };
                for _ in 0..rng.below(5) {
                    let at = rng.below(group.len() as u64 + 1) as usize;
                    group.splice(at..at, genuine.iter().copied());
                }
            }
            if rng.one_in(8) {
                seals = !seals;
            }
            let stamp = Stamp { db: rng.below(16), unix_ms: 1_000 + n / 3 };
            let from = tail.place();
            // Sealing may end before anything stands behind its header.
            let begins = matches!(from.chain, Chain::Unsealed) && (seals || rng.one_in(8));
            if begins {
                tail.begin_sealing(stamp.unix_ms).expect("written");
            }
            tail.write_group(&mut group, 0, stamp, seals).expect("written");
            let behind = tail.place();
            let goes_on = from.chain.is_like(&behind.chain) && !begins && !rng.one_in(6);
            match stretches.last_mut().filter(|_| goes_on) {
                Some(last) => {
                    last.behind = behind;
                    last.record_bytes += group.len();
                    last.crc32c = crc32c::crc32c_append(last.crc32c, &group);
                    last.stamp = stamp;
                }
                None => stretches.push(Stretch {
                    from,
                    behind,
                    record_bytes: group.len(),
                    crc32c: crc32c::crc32c(&group),
                    stamp,
                }),
            }
            groups.push((group, stamp));
        }
        Written { disk, file, stretches, groups }
    }

    type Groups = Vec<(Vec<u8>, Stamp)>;

    fn read(written: &Written) -> Result<Groups, RereadError> {
        let mut groups = Vec::new();
        for stretch in &written.stretches {
            let is_sealed = matches!(stretch.behind.chain, Chain::Sealed(_));
            reread(&*written.file, stretch, |group, stamp| {
                groups.push((group.clone(), stamp));
                if !is_sealed {
                    assert_eq!(stamp, stretch.stamp);
                }
                Ok(())
            })?;
        }
        Ok(groups)
    }

    fn records(groups: &Groups) -> Vec<u8> {
        groups.iter().flat_map(|(group, _)| group.iter().copied()).collect()
    }

    #[test]
    fn what_was_written_is_read_back_with_its_times() {
        for seed in 0..150 {
            let written = written(seed);
            let read = read(&written).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
            assert!(records(&read) == records(&written.groups), "seed {seed}");
            let times = |groups: &Groups| {
                let mut times: Vec<u64> = groups.iter().map(|(_, stamp)| stamp.unix_ms).collect();
                times.dedup();
                times
            };
            let (read, before) = (times(&read), times(&written.groups));
            assert!(read.is_sorted());
            assert!(read.iter().all(|time| before.contains(time)), "seed {seed}");
            let all_sealed =
                written.stretches.iter().all(|s| matches!(s.behind.chain, Chain::Sealed(_)));
            assert!(!all_sealed || read == before, "seed {seed}");
        }
    }

    /// It was copied, so that the largest value there may be took its size twice.
    #[test]
    fn a_large_group_is_held_once() {
        for seals in [true, false] {
            let disk = SimDisk::new(1);
            let file = disk.storage().create(OsStr::new("old")).expect("created");
            let mut tail = Tail::new(Arc::clone(&file), 0, Chain::Unsealed, 0, 0, false);
            if seals {
                tail.begin_sealing(1).expect("written");
            }
            let from = tail.place();
            let stamp = Stamp { db: 1, unix_ms: 2 };
            let groups = [3, 5 << 20, 7].map(|len| vec![b'g'; len]);
            for group in &groups {
                tail.write_group(&mut group.clone(), 0, stamp, seals).expect("written");
            }
            let mut reader = Reader::new(&*file, from.offset, tail.end());
            let mut seen = Vec::new();
            let mut each = |group: &mut Vec<u8>, _| {
                seen.push(group.len());
                Ok(())
            };
            let mut out =
                Joined { group: Vec::new(), stamp: None, crc32c: 0, bytes: 0, each: &mut each };
            match from.chain {
                Chain::Sealed(line) => drop(reader.sealed_groups(line, &mut out).expect("read")),
                Chain::Unsealed => reader.unsealed_rest(stamp, &mut out).expect("read"),
            }
            assert!(out.group.capacity() <= JOINED_BYTES, "{} bytes held", out.group.capacity());
            assert!(reader.window.capacity() <= 2 * READ_BYTES, "and nothing is kept of it");
            out.pass_on().expect("taken");
            let bytes = groups.concat();
            assert_eq!((out.bytes, out.crc32c), (bytes.len(), crc32c::crc32c(&bytes)));
            let sizes = groups.iter().map(Vec::len).collect::<Vec<_>>();
            assert_eq!(seen, if seals { sizes } else { vec![bytes.len()] });
        }
    }

    /// In values, in seals, in headers.
    #[test]
    fn one_bit_that_has_changed_is_noticed() {
        for seed in 0..150 {
            let written = written(seed);
            let mut rng = Rng(seed ^ 0xb17);
            let total = written.file.size().expect("told");
            if total == 0 {
                continue;
            }
            let at = rng.below(total);
            written.disk.rot("old", at as usize);
            match read(&written) {
                Err(RereadError::Old(_)) => {}
                other => panic!("seed {seed}, byte {at} of {total}: {:?}", other.map(|_| ())),
            }
        }
    }

    #[test]
    fn a_file_that_was_cut_is_noticed() {
        let written = written(3);
        let total = written.file.size().expect("told");
        written.file.truncate(total - 1).expect("cut");
        let Err(RereadError::Old(error)) = read(&written) else { panic!("not noticed") };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    /// A whole chain of true seals, but not the one that was written.
    #[test]
    fn another_file_is_noticed() {
        let (mine, other) = (written(5), written(5));
        let mixed = Written { file: other.file, ..mine };
        assert!(matches!(read(&mixed), Err(RereadError::Old(_))));
        assert_ne!(random_generation().ok(), random_generation().ok());
    }

    #[test]
    fn a_new_file_that_takes_no_more_is_told_apart() {
        let written = written(5);
        let stretch = written.stretches.first().expect("there");
        let result = reread(&*written.file, stretch, |_, _| Err(io::ErrorKind::StorageFull.into()));
        assert!(matches!(result, Err(RereadError::New(_))));
    }
}
