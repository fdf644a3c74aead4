//! The bytes of the append-only file: records, seals, headers, and how a `#` line is judged.
//! `docs/aof-format.md` draws the same for people.
//!
//! Records are plain RESP commands. Between records stand lines that begin with `#`, which Redis 7
//! skips up to 1,023 bytes. Those that begin with `#S` are this server's:
//!
//! | line | meaning |
//! | --- | --- |
//! | `#SH1:<generation>:<unix ms>` | the header: the sealed part of the file begins behind it |
//! | `#S1:<end>:<durable>:<db>:<unix ms>:<crc32c>` | a seal: ends a group of records |
//! | `#S0` | alone in a group: behind that group's seal, unsealed records are legal |
//!
//! A seal's checksum covers the whole text of the seal before it (of the header, for the first),
//! the group's bytes, and its own line up to and including the last `:`. So seals form a chain:
//! one that verifies shows that its group, its place in the file and its predecessor are those
//! that were written, and stale blocks or pages from another file cannot pass.

use std::fmt;
use std::io;

use crate::sys::random;

/// How a header line begins.
pub const HEADER_PREFIX: &[u8] = b"#SH1:";
/// How a seal begins.
pub const SEAL_PREFIX: &[u8] = b"#S1:";
/// How every line of this server begins; one that stands between records and is not well formed is
/// damage, never a comment.
pub const RESERVED_PREFIX: &[u8] = b"#S";
/// The line behind whose seal unsealed records are legal.
pub const SEALS_OFF_LINE: &[u8] = b"#S0\r\n";
/// The longest `#` line, its line end not counted, that Redis 7 takes for an annotation.
pub const MAX_COMMENT_BYTES: usize = 1023;
/// No header and no seal is longer: a seal has four numbers of at most 20 digits, a checksum of 8,
/// and 10 bytes of punctuation.
pub const MAX_LINE_BYTES: usize = 98;
/// The eight digits of the checksum and the line end, which the checksum does not cover.
pub(super) const CHECKSUM_TAIL_BYTES: usize = 10;

/// The text of a header or a seal, its line end included. Kept because it seeds the next seal's
/// checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Line {
    bytes: [u8; MAX_LINE_BYTES],
    /// Invariant: at most `MAX_LINE_BYTES`.
    len: u8,
}

impl Line {
    const EMPTY: Line = Line { bytes: [0; MAX_LINE_BYTES], len: 0 };

    /// A header that begins the sealed part of a file. `generation` is a random number: it makes
    /// two files' chains differ from their first seal on.
    #[must_use]
    pub fn header(generation: u64, unix_ms: u64) -> Line {
        let mut line = Line::EMPTY;
        line.push(HEADER_PREFIX);
        line.push_hex(generation, 16);
        line.push(b":");
        line.push_decimal(unix_ms);
        line.push(b"\r\n");
        line
    }

    /// The text, its line end included.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }

    /// Bytes of the text, its line end included.
    #[must_use]
    pub fn len(&self) -> u64 {
        u64::from(self.len)
    }

    /// Whether there is no text; never true of a line that this module made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps a line read from a file. `None` if it is longer than any header or seal can be.
    #[must_use]
    pub fn keep(text: &[u8]) -> Option<Line> {
        let mut line = Line::EMPTY;
        line.bytes.get_mut(..text.len())?.copy_from_slice(text);
        line.len = u8::try_from(text.len()).ok()?;
        Some(line)
    }

    fn push(&mut self, text: &[u8]) {
        let start = usize::from(self.len);
        // `MAX_LINE_BYTES` is the sum of the longest fields, so there is always room.
        debug_assert!(start + text.len() <= MAX_LINE_BYTES);
        if let Some(room) = self.bytes.get_mut(start..start + text.len()) {
            room.copy_from_slice(text);
            self.len += text.len() as u8;
        }
    }

    fn push_decimal(&mut self, value: u64) {
        self.push(itoa::Buffer::new().format(value).as_bytes());
    }

    fn push_hex(&mut self, value: u64, digits: usize) {
        let [high, low] = [(value >> 32) as u32, value as u32].map(hex_digits);
        let mut text = [0; 16];
        text[..8].copy_from_slice(&high);
        text[8..].copy_from_slice(&low);
        // The last so many.
        self.push(text.split_at(text.len() - digits.min(text.len())).1);
    }
}

/// The eight lower-case hexadecimal digits of a number, all of them at once in one word.
fn hex_digits(value: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut nibbles = u64::from(value);
    nibbles = (nibbles << 16 | nibbles) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles << 8 | nibbles) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles << 4 | nibbles) & 0x0f0f_0f0f_0f0f_0f0f;
    // One in each byte that is a letter.
    let letters = (nibbles + EACH * 6) >> 4 & EACH;
    let to_letters = u64::from(b'a' - b'0' - 10);
    (nibbles + EACH * u64::from(b'0') + letters * to_letters).to_be_bytes()
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// What a seal states about its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealFields {
    /// File offset where the group's bytes end, which is where the seal's own `#` stands.
    pub end: u64,
    /// File offset up to which the file was known to be durable when the seal was made.
    pub durable: u64,
    /// The database selected at the group's end.
    pub db: u64,
    /// Wall clock, milliseconds since the Unix epoch; never runs backwards within a file.
    pub unix_ms: u64,
}

/// A well-formed seal; whether it is true is what [`GroupSum::verifies`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// What it states.
    pub fields: SealFields,
    /// The checksum it carries.
    pub crc32c: u32,
}

impl Seal {
    /// Parses a whole line, its line end included. Strict: numbers are canonical decimals, the
    /// checksum is eight lower-case hexadecimal digits, so there is one text for one seal.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Seal> {
        let text = line.strip_prefix(SEAL_PREFIX)?.strip_suffix(b"\r\n")?;
        let mut parts = text.split(|&byte| byte == b':');
        let fields = SealFields {
            end: canonical_decimal(parts.next()?)?,
            durable: canonical_decimal(parts.next()?)?,
            db: canonical_decimal(parts.next()?)?,
            unix_ms: canonical_decimal(parts.next()?)?,
        };
        let crc32c = u32::try_from(canonical_hex(parts.next()?, 8)?).ok()?;
        // A seal cannot know bytes behind itself to be durable.
        let credible = parts.next().is_none() && fields.durable <= fields.end;
        credible.then_some(Seal { fields, crc32c })
    }
}

/// The checksum of a group that is being written or read.
#[derive(Clone, Copy, Debug)]
pub struct GroupSum(u32);

impl GroupSum {
    /// Of an empty group behind `previous`, a seal or a header.
    #[must_use]
    pub fn after(previous: &Line) -> GroupSum {
        GroupSum(crc32c::crc32c(previous.as_bytes()))
    }

    /// Takes in the group's next bytes. About 20 GB/s.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    /// The seal that ends the group.
    #[must_use]
    pub fn seal(mut self, fields: &SealFields) -> Line {
        let mut line = Line::EMPTY;
        line.push(SEAL_PREFIX);
        for value in [fields.end, fields.durable, fields.db, fields.unix_ms] {
            line.push_decimal(value);
            line.push(b":");
        }
        self.add(line.as_bytes());
        line.push_hex(u64::from(self.0), 8);
        line.push(b"\r\n");
        line
    }

    /// Whether `seal`, parsed from `line` (line end included), is the true seal of this group.
    #[must_use]
    pub fn verifies(mut self, line: &[u8], seal: &Seal) -> bool {
        let Some(covered) = line.len().checked_sub(CHECKSUM_TAIL_BYTES) else { return false };
        self.add(line.get(..covered).unwrap_or(&[]));
        self.0 == seal.crc32c
    }
}

/// What a line that begins with `#` and stands between records is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// A well-formed header, with the time it states.
    Header {
        /// Milliseconds since the Unix epoch.
        unix_ms: u64,
    },
    /// A well-formed seal.
    Seal(Seal),
    /// The line behind whose seal unsealed records are legal.
    SealsOff,
    /// Anything that does not begin with `#S`.
    Comment,
    /// Begins with `#S` and is none of the above.
    Damaged,
}

impl Annotation {
    /// Judges a whole line, its line end included.
    #[must_use]
    pub fn of(line: &[u8]) -> Annotation {
        if !line.starts_with(RESERVED_PREFIX) {
            return Annotation::Comment;
        }
        if line == SEALS_OFF_LINE {
            return Annotation::SealsOff;
        }
        if let Some(seal) = Seal::parse(line) {
            return Annotation::Seal(seal);
        }
        match header_time(line) {
            Some(unix_ms) => Annotation::Header { unix_ms },
            None => Annotation::Damaged,
        }
    }
}

fn header_time(line: &[u8]) -> Option<u64> {
    let text = line.strip_prefix(HEADER_PREFIX)?.strip_suffix(b"\r\n")?;
    let mut parts = text.split(|&byte| byte == b':');
    canonical_hex(parts.next()?, 16)?;
    let unix_ms = canonical_decimal(parts.next()?)?;
    parts.next().is_none().then_some(unix_ms)
}

/// Whether `rest`, the last bytes of a file, can be what a crash left of a header that was being
/// written: nothing but bytes of a header in their places, with zeros where a sector did not
/// arrive. Nothing promised can stand there, since the header is synced before the first group is
/// written.
#[must_use]
pub fn is_torn_header(rest: &[u8]) -> bool {
    const GENERATION: usize = HEADER_PREFIX.len();
    const COLON: usize = GENERATION + 16;
    let fits = |(index, &byte): (usize, &u8)| match index {
        _ if byte == 0 => true,
        ..GENERATION => HEADER_PREFIX.get(index) == Some(&byte),
        GENERATION..COLON => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        COLON => byte == b':',
        _ => matches!(byte, b'0'..=b'9' | b'\r' | b'\n'),
    };
    rest.len() <= MAX_LINE_BYTES && rest.iter().enumerate().all(fits)
}

/// A random number for a header.
///
/// # Errors
/// Those of the kernel's random source.
pub fn random_generation() -> io::Result<u64> {
    random::bytes().map(u64::from_ne_bytes)
}

/// A decimal without sign, leading zeros or spaces.
fn canonical_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 || (text.len() > 1 && text.first() == Some(&b'0')) {
        return None;
    }
    text.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Exactly `digits` lower-case hexadecimal digits, at most 16.
fn canonical_hex(text: &[u8], digits: usize) -> Option<u64> {
    if text.len() != digits {
        return None;
    }
    text.iter().try_fold(0u64, |value, &byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: SealFields = SealFields { end: 120, durable: 44, db: 3, unix_ms: 1_700_000_000 };

    fn sealed() -> (Line, Line) {
        let header = Line::header(0x0123_4567_89ab_cdef, 1_699_999_999);
        let mut sum = GroupSum::after(&header);
        sum.add(b"*1\r\n$4\r\nPING\r\n");
        (header, sum.seal(&FIELDS))
    }

    #[test]
    fn a_seal_reads_back_as_it_was_made() {
        let (header, line) = sealed();
        assert_eq!(header.as_bytes(), b"#SH1:0123456789abcdef:1699999999\r\n");
        let Annotation::Seal(seal) = Annotation::of(line.as_bytes()) else { panic!("{line:?}") };
        assert_eq!(seal.fields, FIELDS);
        let mut sum = GroupSum::after(&header);
        sum.add(b"*1\r\n$4\r\nPING\r\n");
        assert!(sum.verifies(line.as_bytes(), &seal));
    }

    #[test]
    fn the_checksum_covers_predecessor_group_and_own_fields() {
        let (header, line) = sealed();
        let seal = Seal::parse(line.as_bytes()).expect("well formed");
        let verifies = |header: &Line, group: &[u8], line: &[u8]| {
            let mut sum = GroupSum::after(header);
            sum.add(group);
            Seal::parse(line).is_some_and(|seal| sum.verifies(line, &seal))
        };
        assert!(verifies(&header, b"*1\r\n$4\r\nPING\r\n", line.as_bytes()));
        let other = Line::header(0x0123_4567_89ab_cdee, 1_699_999_999);
        assert!(!verifies(&other, b"*1\r\n$4\r\nPING\r\n", line.as_bytes()));
        assert!(!verifies(&header, b"*1\r\n$4\r\nPONG\r\n", line.as_bytes()));
        for (index, _) in line.as_bytes().iter().enumerate() {
            for bit in 0..8 {
                let mut text = line.as_bytes().to_vec();
                text[index] ^= 1 << bit;
                assert!(
                    !verifies(&header, b"*1\r\n$4\r\nPING\r\n", &text),
                    "byte {index} bit {bit} of {seal:?}"
                );
            }
        }
    }

    #[test]
    fn every_reserved_line_that_is_not_exact_is_damage() {
        for text in [
            "#S\r\n",
            "#S0\n",
            "#S0 \r\n",
            "#S2:1\r\n",
            "#SH1:0123456789abcdef\r\n",
            "#SH1:0123456789ABCDEF:1\r\n",
            "#SH1:0123456789abcdef:01\r\n",
            "#S1:10:11:0:5:00000000\r\n",
            "#S1:10:9:0:5:0000000\r\n",
            "#S1:10:9:0:5:00000000:\r\n",
            "#S1:+10:9:0:5:00000000\r\n",
            "#S1:99999999999999999999:9:0:5:00000000\r\n",
        ] {
            assert_eq!(Annotation::of(text.as_bytes()), Annotation::Damaged, "{text:?}");
        }
        for text in ["#\r\n", "#TS:1628217470\r\n", "# S1:1\r\n", "#s1\r\n"] {
            assert_eq!(Annotation::of(text.as_bytes()), Annotation::Comment, "{text:?}");
        }
    }

    #[test]
    fn hexadecimal_digits_are_those_of_the_standard_library() {
        for shift in 0..32 {
            for value in [0xfedc_ba98, 0x0123_4567, 0x9a9a_a9a9, u32::MAX] {
                let value = u32::rotate_left(value, shift) >> (shift / 2);
                assert_eq!(hex_digits(value), format!("{value:08x}").as_bytes());
            }
        }
    }

    #[test]
    fn the_longest_lines_fit() {
        let max = u64::MAX;
        let fields = SealFields { end: max, durable: max, db: max, unix_ms: max };
        let line = GroupSum(0).seal(&fields);
        assert!(line.as_bytes().ends_with(b"\r\n"));
        assert_eq!(Seal::parse(line.as_bytes()).map(|seal| seal.fields), Some(fields));
        assert!(Line::header(max, max).as_bytes().ends_with(b"\r\n"));
    }

    #[test]
    fn a_torn_header_is_told_from_other_bytes() {
        let header = Line::header(7, 1_700_000_000_000);
        for cut in 0..=header.as_bytes().len() {
            let mut text = header.as_bytes()[..cut].to_vec();
            assert!(is_torn_header(&text));
            text.resize(header.as_bytes().len(), 0);
            assert!(is_torn_header(&text));
            let mut text = vec![0; cut];
            text.extend_from_slice(&header.as_bytes()[cut..]);
            assert!(is_torn_header(&text));
        }
        assert!(!is_torn_header(b"garbage"));
        assert!(!is_torn_header(b"#SH1:zz"));
        assert!(!is_torn_header(b"#SH1:12\0*1\r\n"));
        assert!(!is_torn_header(b"1\r\n"));
        assert!(!is_torn_header(&[0; 99]));
    }
}
