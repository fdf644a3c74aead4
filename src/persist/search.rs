//! The search behind damage: whether something promised stood there.

use std::io;

use memchr::memmem;

use super::chain::{ChainReader, Next, READ_BYTES, Region};
use super::format::{Annotation, Line, MAX_LINE_BYTES, RESERVED_PREFIX, SealFields};
use super::storage::read_full_at;

impl ChainReader {
    /// Looks behind the end of what is good for a seal that verifies (seeded by the text of the
    /// seal or header before it) and states more to be durable than is good: the proof that
    /// something promised stood between. Reads the rest of the file.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn find_broken_promise(&self) -> io::Result<Option<SealFields>> {
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
                let (promise, followed) = self.follow(line, behind)?;
                if promise.is_some() {
                    return Ok(promise);
                }
                if followed > behind {
                    // All seals up to there verified and promise nothing.
                    next = followed;
                    break;
                }
            }
            at = next;
        }
        Ok(None)
    }

    /// Follows the chain behind a seal or header: the first broken promise, and how far the chain
    /// holds.
    fn follow(&self, line: Line, position: u64) -> io::Result<(Option<SealFields>, u64)> {
        let mut reader = self.behind(line, position);
        while let Region::Sealed(_) = reader.region {
            let Next::Batch = reader.next()? else { break };
            if let Some(seal) = reader.last_seal
                && seal.durable > self.end
            {
                return Ok((Some(seal), reader.end));
            }
        }
        Ok((None, reader.end))
    }
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
