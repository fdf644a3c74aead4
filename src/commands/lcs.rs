//! LCS: the longest subsequence that two strings have in common.
//!
//! The usual table holds, for each pair of prefixes, the length of theirs. Along a row it grows by
//! 0 or 1 from column to column, so a row is a row of bits, and each row follows from the one above
//! by a sum over whole words (Crochemore, Iliopoulos, Pinzon and Reid 2001). The steps alone also
//! show the way back through the table. So it takes a 64th of the time of the table, and a 32nd of
//! its memory.

use std::ops::RangeInclusive;

use super::options;
use super::range::string_bytes;
use crate::engine::command::{Arity, CommandSpec, Doc, Flags, KeySpec};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;
use crate::resp::reply::Reply;
use Arity::AtLeast;

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[CommandSpec {
    name: "lcs",
    doc: Doc::new(
        "string",
        "7.0.0",
        "O(N*M)",
        "Finds the longest common subsequence of two strings.",
    )
    .takes("key1:key key2:key [LEN] [IDX] [MINMATCHLEN=len:int] [WITHMATCHLEN]"),
    arity: AtLeast(3),
    flags: Flags::READONLY.and(Flags::C_STRING),
    keys: &[KeySpec { last: 1, ..KeySpec::first(&["RO", "access"]) }],
    run: lcs,
    ..CommandSpec::ROW
}];

const NOT_STRINGS: CommandError =
    CommandError::new("ERR The specified keys must contain string values");
const LENGTH_AND_INDEXES: CommandError =
    CommandError::new("ERR If you want both the length and indexes, please just use IDX.");
const TOO_LONG: CommandError = CommandError::new("ERR String too long for LCS");
const TOO_MUCH_WORK: CommandError = CommandError::new(
    "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
);
const NO_MEMORY: CommandError =
    CommandError::new("ERR Insufficient memory, failed allocating transient memory for LCS");

/// LCS's options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Options {
    /// LEN.
    length: bool,
    /// IDX.
    indexes: bool,
    /// MINMATCHLEN, 0 or more.
    min_match: i64,
    /// WITHMATCHLEN.
    match_lengths: bool,
}

impl Options {
    fn parse<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Result<Options, CommandError> {
        let mut parsed = Options::default();
        while let Some(option) = args.next() {
            if options::is(option, "IDX") {
                parsed.indexes = true;
            } else if options::is(option, "LEN") {
                parsed.length = true;
            } else if options::is(option, "WITHMATCHLEN") {
                parsed.match_lengths = true;
            } else if options::is(option, "MINMATCHLEN") {
                let number = args.next().ok_or(CommandError::SYNTAX)?;
                parsed.min_match = options::integer(number)?.max(0);
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        if parsed.indexes && parsed.length {
            return Err(LENGTH_AND_INDEXES);
        }
        Ok(parsed)
    }
}

/// `LCS key1 key2 [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]`
fn lcs(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    for key in [&args[1], &args[2]] {
        if let Some(entry) = cx.read(key) {
            string_bytes(entry.value(), &mut itoa::Buffer::new()).map_err(|_| NOT_STRINGS)?;
        }
    }
    let options = Options::parse(args.from(3))?;
    let db = cx.keyspace.db(cx.session.db);
    let mut digits = [itoa::Buffer::new(); 2];
    let [a_digits, b_digits] = &mut digits;
    let a = db.get(&args[1]).map_or(Ok(&[][..]), |entry| string_bytes(entry.value(), a_digits))?;
    let b = db.get(&args[2]).map_or(Ok(&[][..]), |entry| string_bytes(entry.value(), b_digits))?;
    check_size(a.len(), b.len(), cx.registries.config.proto_max_bulk_bytes)?;
    if options.length {
        cx.reply.count(Steps::only_last(a, b)?.length);
        return Ok(());
    }
    let steps = Steps::all(a, b)?;
    if options.indexes {
        let matches = steps.matches(a, b);
        reply_matches(&mut cx.reply, matches, steps.length, options);
    } else {
        cx.reply.bulk(&steps.text(a, b));
    }
    Ok(())
}

/// Refuses what Redis, which keeps the whole table in four bytes a cell, refuses. It bounds the
/// time that a command takes, too.
fn check_size(a_len: usize, b_len: usize, max_bytes: u64) -> CommandResult {
    let longest = u32::MAX as usize - 1;
    if a_len >= longest || b_len >= longest {
        return Err(TOO_LONG);
    }
    let table_bytes = (a_len as u128 + 1) * (b_len as u128 + 1) * 4;
    if table_bytes > u128::from(max_bytes) {
        return Err(TOO_MUCH_WORK);
    }
    Ok(())
}

fn reply_matches(reply: &mut Reply<'_>, mut matches: Vec<Match>, len: usize, options: Options) {
    let min = usize::try_from(options.min_match).unwrap_or(usize::MAX);
    matches.retain(|found| found.len >= min);
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.len());
    for found in matches {
        reply.array(if options.match_lengths { 3 } else { 2 });
        for range in [found.range(found.a), found.range(found.b)] {
            reply.array(2);
            reply.count(*range.start());
            reply.count(*range.end());
        }
        if options.match_lengths {
            reply.count(found.len);
        }
    }
    reply.bulk(b"len");
    reply.count(len);
}

/// A run of bytes that stands in both strings and in the subsequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Match {
    /// Where it begins in the first string.
    a: usize,
    /// Where it begins in the second.
    b: usize,
    /// Invariant: at least 1.
    len: usize,
}

impl Match {
    fn range(self, start: usize) -> RangeInclusive<usize> {
        start..=start + self.len - 1
    }
}

/// The table for two strings, as the steps along its rows.
#[derive(Debug)]
struct Steps {
    /// Of the longest common subsequence.
    length: usize,
    /// The row of each byte of the first string, `row_bytes` each: bit `j`, counted from the lowest
    /// of the first byte, is *clear* where the table grows at byte `j` of the second string.
    rows: Vec<u8>,
    row_bytes: usize,
}

impl Steps {
    /// The length alone; no way back.
    fn only_last(a: &[u8], b: &[u8]) -> Result<Steps, CommandError> {
        Steps::build(a, b, |_| {}).map(|length| Steps { length, rows: Vec::new(), row_bytes: 0 })
    }

    fn all(a: &[u8], b: &[u8]) -> Result<Steps, CommandError> {
        let row_bytes = b.len().div_ceil(8);
        let mut rows = reserved(a.len().saturating_mul(row_bytes))?;
        let length = Steps::build(a, b, |row| {
            let full = row_bytes / 8;
            for word in &row[..full] {
                rows.extend_from_slice(&word.to_le_bytes());
            }
            if let Some(word) = row.get(full) {
                rows.extend_from_slice(&word.to_le_bytes()[..row_bytes % 8]);
            }
        })?;
        Ok(Steps { length, rows, row_bytes })
    }

    /// Computes row after row, shows each to `visit`, and returns the length.
    /// O(a * b / 64) time, at most O(256 * b / 64) words of memory.
    fn build(a: &[u8], b: &[u8], mut visit: impl FnMut(&[u64])) -> Result<usize, CommandError> {
        let places = Places::new(a, b)?;
        let mut row = reserved(places.words)?;
        row.resize(places.words, u64::MAX);
        for &byte in a {
            let mut carry = false;
            for (word, &places) in row.iter_mut().zip(places.of(byte)) {
                let (sum, first) = word.overflowing_add(*word & places);
                let (sum, second) = sum.overflowing_add(u64::from(carry));
                carry = first || second;
                *word = sum | (*word & !places);
            }
            visit(&row);
        }
        // The bits behind the end of `b` are never cleared, since no byte has its place there.
        Ok(row.iter().map(|word| word.count_zeros() as usize).sum())
    }

    /// Whether the table grows in the row of byte `i` of the first string at byte `j` of the
    /// second.
    fn grows(&self, i: usize, j: usize) -> bool {
        self.rows[i * self.row_bytes + j / 8] & (1 << (j % 8)) == 0
    }

    /// The way back through the table: the pairs of equal bytes, the last first. Where it may go
    /// two ways it goes as Redis does, which of several longest subsequences decides.
    fn walk_back(&self, a: &[u8], b: &[u8], mut visit: impl FnMut(usize, usize)) {
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                i -= 1;
                j -= 1;
                visit(i, j);
            } else if self.grows(i - 1, j - 1) {
                // Without the last byte of `b` it would be shorter, so it is that of `a` to drop.
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }

    /// The subsequence itself.
    fn text(&self, a: &[u8], b: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.length);
        self.walk_back(a, b, |i, _| text.push(a[i]));
        text.reverse();
        text
    }

    /// The runs that it is made of, the last first.
    fn matches(&self, a: &[u8], b: &[u8]) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        self.walk_back(a, b, |i, j| match matches.last_mut() {
            Some(last) if (last.a, last.b) == (i + 1, j + 1) => {
                *last = Match { a: i, b: j, len: last.len + 1 };
            }
            _ => matches.push(Match { a: i, b: j, len: 1 }),
        });
        matches
    }
}

/// Where each byte value of the first string stands in the second, as bits.
struct Places {
    /// Words of one byte value's bits.
    words: usize,
    /// Which stretch of `bits` is a byte value's.
    stretch: [usize; 256],
    bits: Vec<u64>,
}

impl Places {
    /// Of the byte values that `a` has: the others need none.
    fn new(a: &[u8], b: &[u8]) -> Result<Places, CommandError> {
        let words = b.len().div_ceil(64);
        let mut is_used = [false; 256];
        a.iter().for_each(|&byte| is_used[usize::from(byte)] = true);
        let mut stretch = [0; 256];
        let mut used = 0;
        for (byte, stretch) in stretch.iter_mut().enumerate() {
            *stretch = used;
            used += usize::from(is_used[byte]);
        }
        let mut bits = reserved(used.saturating_mul(words))?;
        bits.resize(used * words, 0);
        for (at, &byte) in b.iter().enumerate() {
            if is_used[usize::from(byte)] {
                bits[stretch[usize::from(byte)] * words + at / 64] |= 1 << (at % 64);
            }
        }
        Ok(Places { words, stretch, bits })
    }

    /// Those of a byte value that the first string has.
    fn of(&self, byte: u8) -> &[u64] {
        let start = self.stretch[usize::from(byte)] * self.words;
        &self.bits[start..start + self.words]
    }
}

/// An empty buffer with room for `len` elements, which a client may have made many.
fn reserved<T>(len: usize) -> Result<Vec<T>, CommandError> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| NO_MEMORY)?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench;

    /// By the whole table, the way back as the documentation of Redis's own describes it.
    fn by_table(a: &[u8], b: &[u8]) -> (usize, Vec<(usize, usize)>) {
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i][j] = if a[i - 1] == b[j - 1] {
                    table[i - 1][j - 1] + 1
                } else {
                    table[i - 1][j].max(table[i][j - 1])
                };
            }
        }
        let (mut i, mut j) = (a.len(), b.len());
        let mut pairs = Vec::new();
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                pairs.push((i, j));
            } else if table[i - 1][j] > table[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        (table[a.len()][b.len()], pairs)
    }

    #[test]
    fn rows_of_bits_lead_the_same_way_as_the_table() {
        for seed in 0..400_u64 {
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
                (state >> 33) as usize
            };
            let letters = 1 + random() % 5;
            // Letters by chance, or in runs so long that a sum carries through words without any.
            let longest_run = [1, 1, 5, 150][random() % 4];
            let text = |random: &mut dyn FnMut() -> usize| -> Vec<u8> {
                let len = [random() % 10, random() % 70, 63 + random() % 3, 127 + random() % 400]
                    [random() % 4];
                let mut text = Vec::new();
                while text.len() < len {
                    let run = 1 + random() % longest_run;
                    let letter = b'a' + (random() % letters) as u8;
                    text.resize((text.len() + run).min(len), letter);
                }
                text
            };
            let (a, b) = (text(&mut random), text(&mut random));
            let (length, pairs) = by_table(&a, &b);
            let steps = Steps::all(&a, &b).expect("memory");
            let what = format!("seed {seed}: {} {}", a.escape_ascii(), b.escape_ascii());
            assert_eq!(steps.length, length, "{what}");
            assert_eq!(Steps::only_last(&a, &b).expect("memory").length, length, "{what}");
            let mut walked = Vec::new();
            steps.walk_back(&a, &b, |i, j| walked.push((i, j)));
            assert_eq!(walked, pairs, "{what}");
            let runs = steps.matches(&a, &b);
            assert_eq!(runs.iter().map(|run| run.len).sum::<usize>(), length, "{what}");
            assert_eq!(steps.text(&a, &b).len(), length, "{what}");
        }
    }

    #[test]
    fn replies_are_the_text_the_length_or_the_indexes() {
        let mut b = bench();
        b.send("MSET a ohmytext b mynewtext n 1234 m 134 e ''");
        for (words, reply) in [
            ("a b", "$6 mytext"),
            ("a b LEN", ":6"),
            ("a b IDX", "*4 $7 matches *2 *2 *2 :4 :7 *2 :5 :8 *2 *2 :2 :3 *2 :0 :1 $3 len :6"),
            (
                "a b idx minmatchlen 4 withmatchlen",
                "*4 $7 matches *1 *3 *2 :4 :7 *2 :5 :8 :4 $3 len :6",
            ),
            ("a b IDX MINMATCHLEN 9223372036854775807", "*4 $7 matches *0 $3 len :6"),
            ("a b LEN MINMATCHLEN -5 WITHMATCHLEN", ":6"),
            ("n m", "$3 134"),
            ("a missing", "$0 "),
            ("e missing IDX", "*4 $7 matches *0 $3 len :0"),
            ("a b LEN IDX", "-ERR If you want both the length and indexes, please just use IDX."),
            ("a b LEN IDX FOO", "-ERR syntax error"),
            ("a b MINMATCHLEN", "-ERR syntax error"),
            ("a b MINMATCHLEN x", "-ERR value is not an integer or out of range"),
        ] {
            assert_eq!(b.send(&format!("LCS {words}")), reply, "{words}");
        }
        assert!(b.resp3().send("LCS a b IDX").starts_with("%2 $7 matches *2 *2 *2 :4 :7 "));
    }

    #[test]
    fn what_redis_would_need_too_much_memory_for_is_refused() {
        assert_eq!(check_size(0, 0, 4), Ok(()));
        assert_eq!(check_size(1, 0, 8), Ok(()));
        assert_eq!(check_size(1, 1, 15), Err(TOO_MUCH_WORK));
        let longest = u32::MAX as usize - 2;
        assert_eq!(check_size(longest, longest, u64::MAX), Err(TOO_MUCH_WORK));
        assert_eq!(check_size(longest + 1, 0, u64::MAX), Err(TOO_LONG));
        let mut b = bench();
        b.registries.config.proto_max_bulk_bytes = 63;
        b.send("MSET a abc b abc");
        let refused = "-ERR Insufficient memory, transient memory for LCS exceeds \
                       proto-max-bulk-len";
        assert_eq!(b.send("LCS a b LEN"), refused);
        assert_eq!(b.send("LCS a missing LEN"), ":0");
    }
}
