//! The search behind damage: which groups there still verify, and whether something promised stood
//! there.

use std::io;
use std::ops::ControlFlow;

use memchr::memmem;

use super::chain::{ChainReader, Next, READ_BYTES, Region};
use super::format::{Annotation, Line, MAX_LINE_BYTES, RESERVED_PREFIX, SealFields};
use super::storage::read_full_at;

impl ChainReader {
    /// Looks behind the end of what is good for a seal that verifies (seeded by the text of the
    /// seal or header before it) and states more to be durable than is good: the proof that something
    /// promised stood between. Reads the rest of the file.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn find_broken_promise(&self) -> io::Result<Option<SealFields>> {
        self.visit_intact(|_, reader| match reader.last_seal {
            Some(seal) if seal.durable > self.end => ControlFlow::Break(seal),
            _ => ControlFlow::Continue(()),
        })
    }

    /// Visits, in the order of the file, every group behind the end of what is good that verifies
    /// when seeded by the text of the seal or header before it, until `visit` breaks off. `visit` gets the
    /// offset where the group's stretch of intact groups begins, and a reader that has just read
    /// the group. Reads the rest of the file.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn visit_intact<T>(
        &self,
        mut visit: impl FnMut(u64, &ChainReader) -> ControlFlow<T>,
    ) -> io::Result<Option<T>> {
        let finder = memmem::Finder::new(RESERVED_PREFIX);
        let mut window = vec![0; READ_BYTES as usize];
        let mut at = self.end;
        while at < self.total {
            let filled = read_full_at(&*self.file, &mut window, at)?;
            let bytes = window.get(..filled).unwrap_or(&[]);
            let last = at + filled as u64 >= self.total;
            // A line that the window cuts off is seen whole in the next one.
            let complete = if last { filled } else { filled.saturating_sub(MAX_LINE_BYTES) };
            let mut next = at + complete.max(1) as u64;
            let mut from = 0;
            while let Some(found) = finder.find(bytes.get(from..complete).unwrap_or(&[])) {
                let candidate = from + found;
                from = candidate + 1;
                let place = at + candidate as u64;
                let Some(line) = seed_at(bytes.get(candidate..).unwrap_or(&[]), place) else {
                    continue;
                };
                let behind = place + line.len();
                let mut reader = self.behind(line, behind);
                if let ControlFlow::Break(found) = follow(&mut reader, behind, &mut visit)? {
                    return Ok(Some(found));
                }
                if reader.end > behind {
                    // All groups up to there have been visited.
                    next = reader.end;
                    break;
                }
            }
            at = next;
        }
        Ok(None)
    }
}

/// Follows the chain from `from` on for as long as it holds.
fn follow<T>(
    reader: &mut ChainReader,
    from: u64,
    visit: &mut impl FnMut(u64, &ChainReader) -> ControlFlow<T>,
) -> io::Result<ControlFlow<T>> {
    while let Region::Sealed(_) = reader.region {
        let Next::Batch = reader.next()? else { break };
        if let ControlFlow::Break(found) = visit(from, reader) {
            return Ok(ControlFlow::Break(found));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The line that `bytes`, at file offset `place`, begin with, if it can seed a seal's checksum: a
/// header, or a seal that stands where it says. The same text anywhere else is part of a value; so
/// is a header that no seal behind it verifies with.
fn seed_at(bytes: &[u8], place: u64) -> Option<Line> {
    let bytes = bytes.get(..MAX_LINE_BYTES).unwrap_or(bytes);
    let line = bytes.get(..memchr::memchr(b'\n', bytes)? + 1)?;
    let seeds = match Annotation::of(line) {
        Annotation::Header { .. } => true,
        Annotation::Seal(seal) => seal.fields.end == place,
        Annotation::SealsOff | Annotation::Comment | Annotation::Damaged => false,
    };
    if seeds { Line::keep(line) } else { None }
}
