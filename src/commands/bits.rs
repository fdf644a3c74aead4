//! Strings as rows of bits: the first bit is the highest of the first byte.

use std::ops::Range;

use super::options;
use super::range::{self, string_bytes};
use crate::data::NewValue;
use crate::engine::command::{Arity, CommandSpec, Doc, Flags, KeySpec};
use crate::engine::cx::{Cx, Origin};
use crate::engine::error::{CommandError, CommandResult};
use crate::keyspace::database::Deadline;
use crate::keyspace::entry::INLINE_MAX_BYTES;
use crate::resp::args::Args;
use crate::text::number::parse_i64;
use Arity::{AtLeast, Exactly};

const READ: Flags = Flags::READONLY.and(Flags::C_BITMAP);
const WRITE: Flags = Flags::WRITE.and(Flags::DENY_OOM).and(Flags::C_BITMAP);
const ACCESS: &[KeySpec] = &[KeySpec::first(&["RO", "access"])];

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "setbit",
        doc: Doc::new("bitmap", "2.2.0", "O(1)", "Sets or clears a bit and tells what it was.")
            .takes("key offset:int value:int"),
        arity: Exactly(4),
        flags: WRITE,
        keys: &[KeySpec::first(&["RW", "access", "update"])],
        run: setbit,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "getbit",
        doc: Doc::new("bitmap", "2.2.0", "O(1)", "Reads a bit.").takes("key offset:int"),
        arity: Exactly(3),
        flags: READ.and(Flags::FAST),
        keys: ACCESS,
        run: getbit,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "bitcount",
        doc: Doc::new("bitmap", "2.6.0", "O(N)", "Counts the bits that are set.")
            .takes("key [index(start:int end:int [index_unit(BYTE|BIT)@7.0.0])]")
            .changed(&[("7.0.0", "The range may be of bits.")]),
        arity: AtLeast(2),
        flags: READ,
        keys: ACCESS,
        run: bitcount,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "bitpos",
        doc: Doc::new("bitmap", "2.8.7", "O(N)", "Finds the first bit that is set, or clear.")
            .takes(
                "key bit:int [index(start:int [end_index(end:int [index_unit(BYTE|\
             BIT)@7.0.0])])]",
            )
            .changed(&[("7.0.0", "The range may be of bits.")]),
        arity: AtLeast(3),
        flags: READ,
        keys: ACCESS,
        run: bitpos,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "bitop",
        doc: Doc::new(
            "bitmap",
            "2.6.0",
            "O(N)",
            "Combines strings bit by bit and stores the result.",
        )
        .takes("operation destkey:key key..."),
        arity: AtLeast(4),
        flags: WRITE,
        keys: &[
            KeySpec { first: 2, ..KeySpec::first(&["OW", "update"]) },
            KeySpec { first: 3, ..KeySpec::each(1, &["RO", "access"]) },
        ],
        run: bitop,
        ..CommandSpec::ROW
    },
];

const BAD_OFFSET: CommandError =
    CommandError::new("ERR bit offset is not an integer or out of range");
const BAD_BIT: CommandError = CommandError::new("ERR bit is not an integer or out of range");
const BAD_SOUGHT_BIT: CommandError = CommandError::new("ERR The bit argument must be 1 or 0.");
const ONE_SOURCE: CommandError =
    CommandError::new("ERR BITOP NOT must be called with a single source key.");

/// The offset of a bit that `arg` tells. With a `width`, `#n` is the `n`th field of so many bits.
///
/// # Errors
/// It is no number, or lies in no string that `proto-max-bulk-len` allows; what stands in the log
/// was allowed when it was written.
pub(super) fn bit_offset(cx: &Cx<'_>, arg: &[u8], width: Option<u32>) -> Result<u64, CommandError> {
    let (digits, unit) = match (width, arg.strip_prefix(b"#")) {
        (Some(width), Some(digits)) => (digits, i64::from(width)),
        _ => (arg, 1),
    };
    // A product beyond 64 bits wraps round in Redis, whose logs must mean the same here.
    let offset = parse_i64(digits).map(|count| count.wrapping_mul(unit));
    let offset = offset.and_then(|n| u64::try_from(n).ok()).ok_or(BAD_OFFSET)?;
    let max_bytes = cx.registries.config.proto_max_bulk_bytes;
    if cx.origin != Origin::Replay && offset / 8 >= max_bytes {
        return Err(BAD_OFFSET);
    }
    Ok(offset)
}

/// The place of a bit: the index of its byte, and the byte that has only this bit set.
fn place(offset: u64) -> (usize, u8) {
    // On a machine of 32 bits no string is so long: an index that no byte has will do.
    let byte = usize::try_from(offset / 8).unwrap_or(usize::MAX);
    (byte, 0x80 >> (offset % 8))
}

/// `SETBIT key offset value`. Logged only if a bit or the length changed.
fn setbit(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let offset = bit_offset(cx, &args[2], None)?;
    let is_set = match parse_i64(&args[3]) {
        Some(0) => false,
        Some(1) => true,
        Some(_) | None => return Err(BAD_BIT),
    };
    let key = &args[1];
    let old = range::length(cx, key)?;
    range::check_room(offset / 8 + 1)?;
    let (at, mask) = place(offset);
    let mut was_set = false;
    range::modify(cx, key, old, at + 1, |bytes| {
        was_set = bytes[at] & mask != 0;
        // A page that a forked child shares is copied when it is written to, even to no effect.
        if was_set != is_set {
            bytes[at] ^= mask;
        }
    });
    if was_set != is_set || old.is_none_or(|len| len <= at) {
        cx.changed(key);
    }
    cx.reply.integer(i64::from(was_set));
    Ok(())
}

/// `GETBIT key offset`
fn getbit(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (at, mask) = place(bit_offset(cx, &args[2], None)?);
    let (found, reply) = cx.read_to_reply(&args[1]);
    let mut digits = itoa::Buffer::new();
    let bytes = match found {
        Some(entry) => string_bytes(entry.value(), &mut digits)?,
        None => &[],
    };
    reply.integer(bytes.get(at).map_or(0, |byte| i64::from(byte & mask != 0)));
    Ok(())
}

/// What a range is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn parse(arg: &[u8]) -> Result<Unit, CommandError> {
        if options::is(arg, "BIT") {
            Ok(Unit::Bit)
        } else if options::is(arg, "BYTE") {
            Ok(Unit::Byte)
        } else {
            Err(CommandError::SYNTAX)
        }
    }

    /// The bits, out of those of `len` bytes, that lie from `start` to `end`, both included.
    fn bits(self, start: i64, end: i64, len: usize) -> Range<usize> {
        let bits = match self {
            Unit::Byte => 8,
            Unit::Bit => 1,
        };
        match range::clip(start, end, len * 8 / bits) {
            Some((first, last)) => first * bits..(last + 1) * bits,
            None => 0..0,
        }
    }
}

/// `BITCOUNT key [start end [BYTE | BIT]]`. The options of a key that is not there are not looked
/// at, as in Redis 7.0.
fn bitcount(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (found, reply) = cx.read_to_reply(&args[1]);
    let Some(entry) = found else {
        reply.integer(0);
        return Ok(());
    };
    let mut digits = itoa::Buffer::new();
    let bytes = string_bytes(entry.value(), &mut digits)?;
    let bits = match args.len() {
        2 => 0..bytes.len() * 8,
        4 | 5 => {
            let (start, end) = (options::integer(&args[2])?, options::integer(&args[3])?);
            if range::is_reversed(start, end) {
                0..0
            } else {
                let unit = args.get(4).map_or(Ok(Unit::Byte), Unit::parse)?;
                unit.bits(start, end, bytes.len())
            }
        }
        _ => return Err(CommandError::SYNTAX),
    };
    reply.count(count_ones(bytes, bits));
    Ok(())
}

/// `BITPOS key bit [start [end [BYTE | BIT]]]`. Behind a string are zeros without end, but not
/// behind a range whose end was given.
fn bitpos(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let sought = match options::integer(&args[2])? {
        0 => false,
        1 => true,
        _ => return Err(BAD_SOUGHT_BIT),
    };
    let (found, reply) = cx.read_to_reply(&args[1]);
    let Some(entry) = found else {
        reply.integer(if sought { -1 } else { 0 });
        return Ok(());
    };
    let mut digits = itoa::Buffer::new();
    let bytes = string_bytes(entry.value(), &mut digits)?;
    let bits = match args.len() {
        3 => 0..bytes.len() * 8,
        4..=6 => {
            let start = options::integer(&args[3])?;
            let unit = args.get(5).map_or(Ok(Unit::Byte), Unit::parse)?;
            let end = args.get(4).map_or(Ok(-1), options::integer)?;
            unit.bits(start, end, bytes.len())
        }
        _ => return Err(CommandError::SYNTAX),
    };
    let is_endless = args.len() <= 4 && !bits.is_empty();
    match find_bit(bytes, bits.clone(), sought) {
        Some(at) => reply.count(at),
        None if is_endless && !sought => reply.count(bits.end),
        None => reply.integer(-1),
    }
    Ok(())
}

/// How many bits are set in `bits`, which must lie within `bytes`. O(bytes), eight at a time.
fn count_ones(bytes: &[u8], bits: Range<usize>) -> usize {
    if bits.is_empty() {
        return 0;
    }
    let (first, last) = (bits.start / 8, (bits.end - 1) / 8);
    let before = bytes[first] & !(0xff >> (bits.start % 8));
    let behind = bytes[last] & (0x7f >> ((bits.end - 1) % 8));
    let outside = before.count_ones() + behind.count_ones();
    ones(&bytes[first..=last]) - outside as usize
}

fn ones(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let in_words = words.iter().map(|word| u64::from_ne_bytes(*word).count_ones() as usize);
    in_words.sum::<usize>() + rest.iter().map(|byte| byte.count_ones() as usize).sum::<usize>()
}

/// The first bit of `bits`, which must lie within `bytes`, that is as `sought`. O(bytes passed),
/// eight at a time.
fn find_bit(bytes: &[u8], bits: Range<usize>, sought: bool) -> Option<usize> {
    if bits.is_empty() {
        return None;
    }
    let passed: u8 = if sought { 0 } else { 0xff };
    let (first, last) = (bits.start / 8, (bits.end - 1) / 8);
    // The bits of a byte that are sought, as ones; those of the first ahead of the range are not.
    let hits = |at: usize, mask: u8| (bytes[at] ^ passed) & mask;
    let mut at = first;
    let mut mask = 0xff >> (bits.start % 8);
    if hits(at, mask) == 0 {
        mask = 0xff;
        let rest = &bytes[first + 1..=last];
        let (words, _) = rest.as_chunks::<8>();
        let words_passed = words.iter().take_while(|word| **word == [passed; 8]).count();
        let tail = &rest[words_passed * 8..];
        at = first + 1 + words_passed * 8 + tail.iter().position(|byte| *byte != passed)?;
    }
    let found = at * 8 + hits(at, mask).leading_zeros() as usize;
    // The last byte may have some behind the range.
    (found < bits.end).then_some(found)
}

/// What BITOP does with its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

impl Operation {
    fn parse(arg: &[u8]) -> Result<Operation, CommandError> {
        const NAMES: [(&str, Operation); 4] = [
            ("AND", Operation::And),
            ("OR", Operation::Or),
            ("XOR", Operation::Xor),
            ("NOT", Operation::Not),
        ];
        let found = NAMES.iter().find(|(name, _)| options::is(arg, name));
        found.map(|(_, operation)| *operation).ok_or(CommandError::SYNTAX)
    }

    /// Of `sources`, which count as filled up with zeros to the longest of them.
    fn apply(self, sources: &[&[u8]]) -> Vec<u8> {
        /// Stays in the first-level cache while source after source is worked into it.
        const BLOCK_BYTES: usize = 8 << 10;
        let len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
        let mut result = vec![0; len];
        for (number, block) in result.chunks_mut(BLOCK_BYTES).enumerate() {
            let from = number * BLOCK_BYTES;
            let until = from + block.len();
            let mut parts = sources
                .iter()
                .map(|source| &source[from.min(source.len())..until.min(source.len())]);
            if let Some(first) = parts.next() {
                block[..first.len()].copy_from_slice(first);
            }
            for part in parts {
                self.work_into(block, part);
            }
            if self == Operation::Not {
                block.iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
        result
    }

    /// The compiler makes vectors of these loops, wider than words.
    fn work_into(self, block: &mut [u8], part: &[u8]) {
        let (common, rest) = block.split_at_mut(part.len());
        let pairs = common.iter_mut().zip(part);
        match self {
            Operation::And => {
                pairs.for_each(|(byte, other)| *byte &= other);
                rest.fill(0);
            }
            Operation::Or => pairs.for_each(|(byte, other)| *byte |= other),
            Operation::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
            // It has one source.
            Operation::Not => {}
        }
    }
}

/// `BITOP AND | OR | XOR destkey key [key ...]`, `BITOP NOT destkey key`
fn bitop(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let operation = Operation::parse(&args[1])?;
    if operation == Operation::Not && args.len() != 4 {
        return Err(ONE_SOURCE);
    }
    for key in args.from(3) {
        // Counts a hit or a miss; a key past its deadline goes now, before any is looked into.
        if let Some(entry) = cx.read(key) {
            string_bytes(entry.value(), &mut itoa::Buffer::new())?;
        }
    }
    let result = {
        let db = cx.keyspace.db(cx.session.db);
        let mut digits = vec![itoa::Buffer::new(); args.len()];
        let sources: Result<Vec<&[u8]>, CommandError> = args
            .from(3)
            .zip(&mut digits)
            .map(|(key, digits)| match db.get(key) {
                Some(entry) => string_bytes(entry.value(), digits),
                None => Ok(&[][..]),
            })
            .collect();
        operation.apply(&sources?)
    };
    let target = &args[2];
    let len = result.len();
    if result.is_empty() {
        let elsewhere = cx.registries.config.lazyfree.server_del;
        cx.remove(target, elsewhere);
    } else {
        cx.prepare_to_set(target);
        cx.discard_old_value(target);
        store_raw(cx, target, result);
        cx.changed(target);
    }
    cx.reply.count(len);
    Ok(())
}

/// Sets the key for ever, to a string that counts as changed in place: a short one is not `embstr`.
fn store_raw(cx: &mut Cx<'_>, key: &[u8], bytes: Vec<u8>) {
    if bytes.len() > INLINE_MAX_BYTES {
        cx.db().set(key, NewValue::Owned(bytes), Deadline::Clear);
        return;
    }
    cx.db().set(key, NewValue::Bytes(b""), Deadline::Clear);
    cx.db().modify(key, bytes.len(), |stored| stored.copy_from_slice(&bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench;

    /// Numbers by chance from a seed (SplitMix64).
    fn random(seed: u64) -> impl FnMut() -> usize {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) as usize
        }
    }

    fn bit(bytes: &[u8], at: usize) -> bool {
        bytes[at / 8] & (0x80 >> (at % 8)) != 0
    }

    #[test]
    fn bits_are_counted_and_found_as_one_by_one() {
        for seed in 0..200 {
            let mut random = random(seed);
            let len = random() % 70;
            // Mostly runs of one kind, so that whole words are passed over.
            let mut bytes = vec![[0, 0xff][random() % 2]; len];
            for _ in 0..random() % 3 {
                if let Some(byte) = bytes.get_mut(random() % 70) {
                    *byte = random() as u8;
                }
            }
            for _ in 0..200 {
                let (a, b) = (random() % (len * 8 + 1), random() % (len * 8 + 1));
                let bits = a.min(b)..a.max(b);
                let what = format!("seed {seed}: {bits:?} of {bytes:x?}");
                let one_by_one = bits.clone().filter(|at| bit(&bytes, *at)).count();
                assert_eq!(count_ones(&bytes, bits.clone()), one_by_one, "{what}");
                for sought in [false, true] {
                    let first = bits.clone().find(|at| bit(&bytes, *at) == sought);
                    assert_eq!(find_bit(&bytes, bits.clone(), sought), first, "{sought}, {what}");
                }
            }
        }
    }

    #[test]
    fn operations_do_to_each_byte_what_they_say_across_blocks() {
        for seed in 0..20 {
            let mut random = random(seed);
            let sources: Vec<Vec<u8>> = (0..1 + random() % 4)
                .map(|_| {
                    let len = [0, 1, 100, 8191, 8192, 8193, 20_000][random() % 7];
                    (0..len).map(|_| random() as u8).collect()
                })
                .collect();
            let views: Vec<&[u8]> = sources.iter().map(Vec::as_slice).collect();
            let len = views.iter().map(|view| view.len()).max().expect("some");
            let column = |at: usize| views.iter().map(move |v| v.get(at).copied().unwrap_or(0));
            for (operation, expected) in [
                (Operation::And, (0..len).map(|at| column(at).fold(0xff, |a, b| a & b)).collect()),
                (Operation::Or, (0..len).map(|at| column(at).fold(0, |a, b| a | b)).collect()),
                (Operation::Xor, (0..len).map(|at| column(at).fold(0, |a, b| a ^ b)).collect()),
            ] as [(Operation, Vec<u8>); 3]
            {
                assert!(operation.apply(&views) == expected, "seed {seed}: {operation:?}");
            }
            let inverted: Vec<u8> = views[0].iter().map(|byte| !byte).collect();
            assert!(Operation::Not.apply(&views[..1]) == inverted, "seed {seed}");
        }
    }

    #[test]
    fn single_bits_are_set_and_read() {
        let mut b = bench();
        const OFFSET: &str = "-ERR bit offset is not an integer or out of range";
        const BIT: &str = "-ERR bit is not an integer or out of range";
        for (line, reply) in [
            ("SETBIT k 7 1", ":0"),
            ("SETBIT k 7 1", ":1"),
            ("GET k", "$1 \\x01"),
            ("SETBIT k 16 0", ":0"),
            ("STRLEN k", ":3"),
            ("SETBIT k 7 0", ":1"),
            ("GET k", "$3 \\x00\\x00\\x00"),
            ("GETBIT k 7", ":0"),
            ("SET n 1 EX 100", "+OK"),
            ("GETBIT n 2", ":1"),
            ("GETBIT n 8", ":0"),
            ("GETBIT n 4294967295", ":0"),
            ("SETBIT n 6 1", ":0"),
            ("GET n", "$1 3"),
            ("INCR n", ":4"),
            ("TTL n", ":100"),
            ("GETBIT missing 0", ":0"),
            ("SETBIT k 4294967296 1", OFFSET),
            ("SETBIT k -1 1", OFFSET),
            ("SETBIT k #1 1", OFFSET),
            ("SETBIT k a 1", OFFSET),
            ("SETBIT k 9223372036854775808 1", OFFSET),
            ("GETBIT missing 4294967296", OFFSET),
            ("SETBIT k a 2", OFFSET),
            ("SETBIT k 0 2", BIT),
            ("SETBIT k 0 -1", BIT),
            ("SETBIT k 0 01", BIT),
            ("SETBIT k 0 x", BIT),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
    }

    #[test]
    fn counts_and_positions_follow_the_reference() {
        let mut b = bench();
        b.send("SET k foobar");
        b.send("SET n 12");
        b.send("SET e ''");
        b.run(&[b"SET", b"f", b"\xff\xf0\x00"]);
        b.run(&[b"SET", b"all", b"\xff\xff\xff"]);
        const SYNTAX: &str = "-ERR syntax error";
        const INTEGER: &str = "-ERR value is not an integer or out of range";
        for (line, reply) in [
            ("BITCOUNT k", ":26"),
            ("BITCOUNT k 0 0", ":4"),
            ("BITCOUNT k 1 1 BYTE", ":6"),
            ("BITCOUNT k 5 30 bit", ":17"),
            ("BITCOUNT k -100 -200", ":0"),
            ("BITCOUNT k -1 -2 nonsense", ":0"),
            ("BITCOUNT n 0 -1", ":6"),
            ("BITCOUNT e 0 -1 BIT", ":0"),
            ("BITCOUNT missing x", ":0"),
            ("BITCOUNT k 1", SYNTAX),
            ("BITCOUNT k 1 2 3", SYNTAX),
            ("BITCOUNT k 1 2 BIT 3", SYNTAX),
            ("BITCOUNT k 1 x", INTEGER),
            ("BITPOS f 0", ":12"),
            ("BITPOS f 1", ":0"),
            ("BITPOS f 1 2", ":-1"),
            ("BITPOS f 0 1 -1", ":12"),
            ("BITPOS f 1 8 11 BIT", ":8"),
            ("BITPOS f 0 8 11 BIT", ":-1"),
            ("BITPOS f 0 9 12 bit", ":12"),
            ("BITPOS f 1 -100 -200", ":0"),
            ("BITPOS all 0", ":24"),
            ("BITPOS all 0 1", ":24"),
            ("BITPOS all 0 1 -1", ":-1"),
            ("BITPOS all 0 3", ":-1"),
            ("BITPOS e 0", ":-1"),
            ("BITPOS e 1", ":-1"),
            ("BITPOS missing 0 x", ":0"),
            ("BITPOS missing 1", ":-1"),
            ("BITPOS missing 2", "-ERR The bit argument must be 1 or 0."),
            ("BITPOS missing x", INTEGER),
            ("BITPOS f 1 x y nonsense", INTEGER),
            ("BITPOS f 1 0 y nonsense", SYNTAX),
            ("BITPOS f 1 0 1 BIT x", SYNTAX),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
    }

    #[test]
    fn bitop_stores_for_ever_or_removes() {
        let mut b = bench();
        b.send("MSET a abc b ab n 12");
        b.send("SET d x EX 100");
        for (line, reply, log) in [
            ("BITOP AND d a b", ":3", vec!["BITOP AND d a b"]),
            ("GET d", "$3 ab\\x00", vec![]),
            ("TTL d", ":-1", vec![]),
            ("BITOP or d n missing", ":2", vec!["BITOP or d n missing"]),
            ("GET d", "$2 12", vec![]),
            ("BITOP XOR d d d", ":2", vec!["BITOP XOR d d d"]),
            ("GET d", "$2 \\x00\\x00", vec![]),
            ("BITOP NOT d d", ":2", vec!["BITOP NOT d d"]),
            ("GET d", "$2 \\xff\\xff", vec![]),
            ("BITOP AND d x y", ":0", vec!["BITOP AND d x y"]),
            ("EXISTS d", ":0", vec![]),
            ("BITOP AND d x y", ":0", vec![]),
            ("BITOP NOT d a b", "-ERR BITOP NOT must be called with a single source key.", vec![]),
            ("BITOP NAND d a b", "-ERR syntax error", vec![]),
        ] {
            b.log();
            assert_eq!(b.send(line), reply, "{line}");
            assert_eq!(b.log(), log, "{line}");
        }
        b.send("BITOP OR short a");
        let short = b.keyspace.db(0).get(b"short").map(|entry| entry.encoding());
        assert_eq!(short, Some(crate::data::Encoding::Raw));
    }

    #[test]
    fn only_changes_are_logged_and_they_replay_to_the_same_state() {
        let mut b = bench();
        let mut replayed = bench();
        for (line, log) in [
            ("SETBIT k 100 0", vec!["SETBIT k 100 0"]),
            ("SETBIT k 100 0", vec![]),
            ("SETBIT k 100 1", vec!["SETBIT k 100 1"]),
            ("SETBIT k 100 1", vec![]),
            ("SETBIT k 111 0", vec!["SETBIT k 111 0"]),
            ("SETBIT sparse 100000 1", vec!["SETBIT sparse 100000 1"]),
            ("BITOP NOT long sparse", vec!["BITOP NOT long sparse"]),
            ("BITOP NOT short k", vec!["BITOP NOT short k"]),
            ("GETBIT k 3", vec![]),
        ] {
            b.send(line);
            b.replay_into(&mut replayed);
            assert_eq!(b.log(), log, "{line}");
            assert_eq!(replayed.contents(), b.contents(), "{line}");
        }
    }

    #[test]
    fn the_log_may_hold_offsets_that_are_no_longer_allowed() {
        let mut b = bench();
        b.registries.config.proto_max_bulk_bytes = 8;
        assert_eq!(b.send("SETBIT k 63 1"), ":0");
        assert!(b.send("SETBIT k 64 1").starts_with("-ERR bit offset"));
        b.origin = Origin::Replay;
        b.run(&[b"SETBIT", b"k", b"64", b"1"]);
        assert_eq!(b.keyspace.db(0).get(b"k").map(|e| e.value().to_value()), {
            Some(crate::data::Value::String(b"\0\0\0\0\0\0\0\x01\x80".to_vec()))
        });
    }
}
