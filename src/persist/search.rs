//! The search behind damage: which groups there still verify, and whether something promised stood
//! there.
//!
//! A seal's checksum covers one contiguous stretch of the file, from the `#` of the line before it
//! to the last `:` of its own. Values may hold any number of lines that could be that line before,
//! so trying each is out of the question. Instead the checksum of everything up to each place is
//! known, and checksums are linear: which of all the lines so far a seal follows is one look-up
//! ([`Seeds`]). So the search reads the file once to find candidates, and again only what verifies.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;

use memchr::memmem;

use super::chain::{ChainReader, Next, READ_BYTES};
use super::format::{
    Annotation, CHECKSUM_TAIL_BYTES, Line, MAX_LINE_BYTES, RESERVED_PREFIX, Seal, SealFields,
};
use super::storage::read_full_at;

/// Bytes that may be read to confirm what checksums say, per byte searched. One is what groups that
/// do not overlap need.
const CONFIRM_FACTOR: u64 = 2;

impl ChainReader {
    /// Looks behind the end of what is good for a seal that verifies (seeded by the text of the
    /// seal or header before it) and states more to be durable than is good: the proof that something
    /// promised stood between. O(rest of the file), whatever it holds.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn find_broken_promise(&self) -> io::Result<Option<SealFields>> {
        self.visit_intact(|_, reader| match reader.last_seal {
            Some(seal) if seal.durable > self.end => ControlFlow::Break(seal),
            _ => ControlFlow::Continue(()),
        })
    }

    /// Visits, in the order of their seals, the groups behind the end of what is good that verify
    /// when seeded by the text of the seal or header before them, until `visit` breaks off. `visit`
    /// gets the offset where the group's stretch of intact groups begins, and a reader that has
    /// just read the group. O(rest of the file), whatever it holds; memory for each line that could
    /// be a header, about 24 bytes.
    ///
    /// Where groups overlap, which only a file made for it has, there may be too much to read: from
    /// there on the checksum alone counts, and the reader's batch is empty.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn visit_intact<T>(
        &self,
        mut visit: impl FnMut(u64, &ChainReader) -> ControlFlow<T>,
    ) -> io::Result<Option<T>> {
        let finder = memmem::Finder::new(RESERVED_PREFIX);
        let mut window = vec![0; READ_BYTES as usize];
        let mut seeds = Seeds::new();
        let mut confirmable = (self.total - self.end).saturating_mul(CONFIRM_FACTOR);
        let mut stretch = Stretch { from: self.end, last_seal: u64::MAX };
        let mut at = self.end;
        while at < self.total {
            let filled = read_full_at(&*self.file, &mut window, at)?;
            let bytes = window.get(..filled).unwrap_or(&[]);
            let last = at + filled as u64 >= self.total;
            // A line that the window cuts off is seen whole in the next one.
            let complete = if last { filled } else { filled.saturating_sub(MAX_LINE_BYTES) };
            let mut done = 0;
            for found in finder.find_iter(bytes.get(..complete).unwrap_or(&[])) {
                let place = at + found as u64;
                let Some(candidate) = Candidate::at(bytes.get(found..).unwrap_or(&[]), place)
                else {
                    continue;
                };
                seeds.advance(bytes.get(done..found).unwrap_or(&[]));
                done = found;
                for seed in candidate.seal.map_or(Vec::new(), |seal| seeds.of(&candidate, &seal)) {
                    let Some(group) = self.confirm(seed, &candidate, &mut confirmable)? else {
                        continue;
                    };
                    seeds.forget(seed);
                    if seed.place != stretch.last_seal {
                        stretch.from = group.from;
                    }
                    stretch.last_seal = place;
                    if let ControlFlow::Break(found) = visit(stretch.from, &group.reader) {
                        return Ok(Some(found));
                    }
                    break;
                }
                seeds.insert(place);
            }
            seeds.advance(bytes.get(done..complete).unwrap_or(&[]));
            if filled == 0 {
                break; // The file has become shorter.
            }
            at += complete.max(1) as u64;
        }
        Ok(None)
    }

    /// Reads the group between `seed` and the seal that `candidate` is, whose checksums fit each
    /// other, as a start would. `None` if it is no group after all.
    fn confirm(
        &self,
        seed: Seed,
        candidate: &Candidate,
        confirmable: &mut u64,
    ) -> io::Result<Option<Group>> {
        let mut text = [0; MAX_LINE_BYTES];
        let filled = read_full_at(&*self.file, &mut text, seed.place)?;
        let first = Candidate::at(text.get(..filled).unwrap_or(&[]), seed.place);
        let Some(Candidate { line, .. }) = first else { return Ok(None) };
        let from = seed.place + line.len();
        let end = candidate.place + candidate.line.len();
        let cost = end.saturating_sub(from);
        let Some(left) = confirmable.checked_sub(cost) else {
            // To call nothing a promise here could cut off what was one.
            let mut reader = self.behind(candidate.line, end);
            reader.last_seal = candidate.seal.map(|seal| seal.fields);
            return Ok(Some(Group { from, reader }));
        };
        *confirmable = left;
        let mut reader = self.behind(line, from);
        // What the group does not hold need not be read, whatever lengths its records state.
        reader.total = end;
        let whole = matches!(reader.next()?, Next::Batch) && reader.end == end;
        reader.total = self.total;
        Ok(whole.then_some(Group { from, reader }))
    }
}

/// Groups that follow each other without a gap.
struct Stretch {
    /// File offset where the first of them begins.
    from: u64,
    /// File offset of the last one's seal.
    last_seal: u64,
}

/// A group that verifies.
struct Group {
    /// File offset where it begins.
    from: u64,
    /// Has just read it.
    reader: ChainReader,
}

/// A line that a group may begin behind: a header, or a seal that stands where it says. The same
/// text anywhere else is part of a value; so is a header that no seal behind it verifies with.
struct Candidate {
    /// File offset.
    place: u64,
    line: Line,
    seal: Option<Seal>,
}

impl Candidate {
    /// The candidate that `bytes`, at file offset `place`, begin with.
    fn at(bytes: &[u8], place: u64) -> Option<Candidate> {
        let bytes = bytes.get(..MAX_LINE_BYTES).unwrap_or(bytes);
        let text = bytes.get(..memchr::memchr(b'\n', bytes)? + 1)?;
        let seal = match Annotation::of(text) {
            Annotation::Header { .. } => None,
            Annotation::Seal(seal) if seal.fields.end == place => Some(seal),
            _ => return None,
        };
        Some(Candidate { place, line: Line::keep(text)?, seal })
    }
}

/// Where a candidate stands, under what a seal that follows it is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seed {
    key: u32,
    place: u64,
}

/// The candidates so far, by the checksum of all that was searched up to them.
///
/// Checksums are remainders of polynomials over GF(2), so with C(a) the checksum of what was
/// searched up to `a`, that of the stretch from `a` to `b` is C(b) + C(a) * x^(8(b-a)). It is `s`
/// exactly if C(a) / x^(8a) = (C(b) + s) / x^(8b): the left side is the key of a seed at `a`, the
/// right one what a seal tells whose checksum `s` covers the file up to `b`.
struct Seeds {
    /// The checksum of what was searched so far.
    sum: u32,
    /// 1 / x^(8 n), where n bytes were searched so far.
    shift: u32,
    found: BTreeSet<Seed>,
}

impl Seeds {
    fn new() -> Seeds {
        Seeds { sum: 0, shift: gf2::ONE, found: BTreeSet::new() }
    }

    /// Takes in the next bytes of the file.
    fn advance(&mut self, bytes: &[u8]) {
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        self.shift = gf2::multiply(self.shift, gf2::inverse_shift(bytes.len()));
    }

    /// Notes a candidate that stands here.
    fn insert(&mut self, place: u64) {
        self.found.insert(Seed { key: gf2::multiply(self.sum, self.shift), place });
    }

    fn forget(&mut self, seed: Seed) {
        self.found.remove(&seed);
    }

    /// The candidates that the checksum of `seal`, which stands here, fits. More than one only by
    /// chance or by intent.
    fn of(&self, candidate: &Candidate, seal: &Seal) -> Vec<Seed> {
        let line = candidate.line.as_bytes();
        let covered = line.len().saturating_sub(CHECKSUM_TAIL_BYTES);
        let sum = crc32c::crc32c_append(self.sum, line.get(..covered).unwrap_or(&[]));
        let shift = gf2::multiply(self.shift, gf2::inverse_shift(covered));
        let key = gf2::multiply(sum ^ seal.crc32c, shift);
        let range = Seed { key, place: 0 }..=Seed { key, place: u64::MAX };
        self.found.range(range).copied().collect()
    }
}

/// Polynomials over GF(2) modulo that of CRC-32C. The highest bit is the coefficient of 1, as
/// checksums have it.
mod gf2 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    pub(super) const ONE: u32 = 1 << 31;

    /// 1 / x^(8 * 2^n) for each n.
    const INVERSE_SHIFTS: [u32; usize::BITS as usize] = {
        let mut power = ONE;
        let mut bits = 8;
        while bits > 0 {
            power = divide_by_x(power);
            bits -= 1;
        }
        let mut table = [0; usize::BITS as usize];
        let mut n = 0;
        while n < table.len() {
            table[n] = power;
            power = multiply(power, power);
            n += 1;
        }
        table
    };

    const fn divide_by_x(a: u32) -> u32 {
        if a & ONE == 0 { a << 1 } else { (a ^ POLYNOMIAL) << 1 | 1 }
    }

    pub(super) const fn multiply(a: u32, mut b: u32) -> u32 {
        let mut product = 0;
        let mut rest = a;
        while rest != 0 {
            // All ones where the coefficient is 1: a branch here would be guessed wrong half the
            // time.
            product ^= b & 0u32.wrapping_sub(rest >> 31);
            rest <<= 1;
            b = b >> 1 ^ POLYNOMIAL & 0u32.wrapping_sub(b & 1);
        }
        product
    }

    /// 1 / x^(8 * `bytes`).
    pub(super) fn inverse_shift(mut bytes: usize) -> u32 {
        let mut power = ONE;
        for factor in INVERSE_SHIFTS {
            if bytes == 0 {
                break;
            }
            if bytes & 1 == 1 {
                power = multiply(power, factor);
            }
            bytes >>= 1;
        }
        power
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::simulated::Rng;

    #[test]
    fn the_key_of_a_seed_is_what_a_checksum_from_there_leads_to() {
        let mut rng = Rng(7);
        let bytes: Vec<u8> = (0..5_000).map(|_| rng.next() as u8).collect();
        for _ in 0..300 {
            let b = rng.below(bytes.len() as u64 + 1) as usize;
            let a = rng.below(b as u64 + 1) as usize;
            let mut seeds = Seeds::new();
            seeds.advance(&bytes[..a]);
            let key = gf2::multiply(seeds.sum, seeds.shift);
            seeds.advance(&bytes[a..b]);
            let told = gf2::multiply(seeds.sum ^ crc32c::crc32c(&bytes[a..b]), seeds.shift);
            assert_eq!(key, told, "{a}..{b}");
            let other = crc32c::crc32c(&bytes[a..b]) ^ 1 << rng.below(32);
            assert_ne!(key, gf2::multiply(seeds.sum ^ other, seeds.shift), "{a}..{b}");
        }
    }
}
