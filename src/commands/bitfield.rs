//! BITFIELD: integers of any width at any bit of a string.

use super::bits::bit_offset;
use super::options;
use super::range::{self, string_bytes};
use crate::engine::command::{Arity, CommandSpec, Doc, Flags, KeySpec};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;
use crate::text::number::parse_i64;
use Arity::AtLeast;

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "bitfield",
        doc: Doc::new(
            "bitmap",
            "3.2.0",
            "O(1)",
            "Reads and changes integers of any width within a string.",
        )
        .takes(
            "key [operation(GET=encoding_offset(encoding offset:int)|\
             write([OVERFLOW=wrap_sat_fail(WRAP|SAT|FAIL)] \
             write_operation(SET=encoding_offset_value(encoding offset:int \
             value:int)|INCRBY=encoding_offset_increment(encoding offset:int \
             increment:int))))...]",
        ),
        arity: AtLeast(2),
        flags: Flags::WRITE.and(Flags::DENY_OOM).and(Flags::C_BITMAP),
        keys: &[KeySpec::first(&["RW", "access", "update", "variable_flags"])
            .noted("This command allows both access and modification of the key")],
        run: bitfield,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "bitfield_ro",
        doc: Doc::new("bitmap", "6.0.0", "O(1)", "Reads integers of any width within a string.")
            .takes("key [GET=encoding_offset(encoding offset:int)]..."),
        arity: AtLeast(2),
        flags: Flags::READONLY.and(Flags::FAST).and(Flags::C_BITMAP),
        keys: &[KeySpec::first(&["RO", "access"])],
        run: bitfield_ro,
        ..CommandSpec::ROW
    },
];

const BAD_TYPE: CommandError = CommandError::new(
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 \
     is.",
);
const BAD_OVERFLOW: CommandError = CommandError::new("ERR Invalid OVERFLOW type specified");
const ONLY_GET: CommandError =
    CommandError::new("ERR BITFIELD_RO only supports the GET subcommand");

/// What becomes of a number that its field cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    /// The upper bits are lost.
    Wrap,
    /// The nearest that the field can hold.
    Saturate,
    /// The field stays as it is, and the reply is null.
    Fail,
}

/// Which of a field's limits a number is beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Lowest,
    Highest,
}

/// An integer in a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    is_signed: bool,
    /// Invariant: 1 to 64, to 63 where not signed.
    bits: u32,
    /// The first bit, the highest of the integer.
    offset: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64, Overflow),
    Increase(i64, Overflow),
}

impl Field {
    /// Of a string that is long enough, or goes on in zeros.
    fn read(self, bytes: &[u8]) -> i64 {
        let value = ((self.window(bytes) >> self.shift()) as u64) & self.mask();
        if self.is_signed { self.sign_extended(value) } else { value as i64 }
    }

    /// Writes the lowest bits of `value`. The string must be long enough.
    fn write(self, bytes: &mut [u8], value: i64) {
        let cleared = self.window(bytes) & !(u128::from(self.mask()) << self.shift());
        let window = cleared | u128::from(value as u64 & self.mask()) << self.shift();
        let held = (self.offset % 8) as usize + self.bits as usize;
        let from = self.first_byte();
        let held = &mut bytes[from..from + held.div_ceil(8)];
        held.copy_from_slice(&window.to_be_bytes()[..held.len()]);
    }

    /// How long a string must be to hold it, in bytes.
    fn end_bytes(self) -> u64 {
        (self.offset + u64::from(self.bits)).div_ceil(8)
    }

    fn first_byte(self) -> usize {
        usize::try_from(self.offset / 8).unwrap_or(usize::MAX)
    }

    /// The up to nine bytes that a field touches, ahead of zeros.
    fn window(self, bytes: &[u8]) -> u128 {
        let mut window = [0; 16];
        let held = bytes.get(self.first_byte()..).unwrap_or_default();
        let held = &held[..held.len().min(9)];
        window[..held.len()].copy_from_slice(held);
        u128::from_be_bytes(window)
    }

    /// How far the field's last bit is from the window's.
    fn shift(self) -> u32 {
        u128::BITS - (self.offset % 8) as u32 - self.bits
    }

    fn mask(self) -> u64 {
        u64::MAX >> (u64::BITS - self.bits)
    }

    fn sign_extended(self, value: u64) -> i64 {
        let unused = u64::BITS - self.bits;
        (value << unused) as i64 >> unused
    }

    fn limit(self, limit: Limit) -> i64 {
        match (limit, self.is_signed) {
            (Limit::Highest, true) => (self.mask() >> 1) as i64,
            (Limit::Lowest, true) => -((self.mask() >> 1) as i64) - 1,
            (Limit::Highest, false) => self.mask() as i64,
            (Limit::Lowest, false) => 0,
        }
    }

    /// The limit that the sum of `value` and `increment` is beyond, judged as Redis does, so that
    /// either reads the other's log to the same state: a negative number is above all that an
    /// unsigned field can hold, and one so far below a signed field that the distance to its
    /// highest wraps round counts as above it.
    fn exceeded(self, value: i64, increment: i64) -> Option<Limit> {
        let (lowest, highest) = (self.limit(Limit::Lowest), self.limit(Limit::Highest));
        let (up, down) = (highest.wrapping_sub(value), lowest.wrapping_sub(value));
        if !self.is_signed {
            let is_outside = value as u64 > self.mask();
            return if is_outside || (increment > 0 && increment > up) {
                Some(Limit::Highest)
            } else if increment < 0 && increment < down {
                Some(Limit::Lowest)
            } else {
                None
            };
        }
        let is_whole = self.bits == u64::BITS;
        if value > highest
            || (!is_whole && increment > up)
            || (value >= 0 && increment > 0 && increment > up)
        {
            Some(Limit::Highest)
        } else if value < lowest
            || (!is_whole && increment < down)
            || (value < 0 && increment < 0 && increment < down)
        {
            Some(Limit::Lowest)
        } else {
            None
        }
    }

    /// What the field is to hold for the sum of `value` and `increment`; `None` if it is to stay as
    /// it is.
    fn fitted(self, value: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        let sum = value.wrapping_add(increment);
        match (self.exceeded(value, increment), overflow) {
            (None, _) => Some(sum),
            (Some(_), Overflow::Fail) => None,
            (Some(limit), Overflow::Saturate) => Some(self.limit(limit)),
            (Some(_), Overflow::Wrap) if self.is_signed => Some(self.sign_extended(sum as u64)),
            (Some(_), Overflow::Wrap) => Some((sum as u64 & self.mask()) as i64),
        }
    }
}

/// BITFIELD's arguments behind the key: what is to be done, one after the other.
fn parse(cx: &Cx<'_>, args: &Args<'_>) -> Result<Vec<(Action, Field)>, CommandError> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut words = args.from(2);
    while let Some(word) = words.next() {
        // A subcommand with too few words behind it counts as none.
        let left = words.len();
        if options::is(word, "OVERFLOW") && left >= 1 {
            overflow = parse_overflow(words.next().unwrap_or_default())?;
            continue;
        }
        let is_get = options::is(word, "GET") && left >= 2;
        let is_set = options::is(word, "SET") && left >= 3;
        let is_increase = options::is(word, "INCRBY") && left >= 3;
        if !(is_get || is_set || is_increase) {
            return Err(CommandError::SYNTAX);
        }
        let (is_signed, bits) = parse_type(words.next().unwrap_or_default())?;
        let offset = bit_offset(cx, words.next().unwrap_or_default(), Some(bits))?;
        let action = if is_get {
            Action::Get
        } else {
            let number = options::integer(words.next().unwrap_or_default())?;
            if is_set { Action::Set(number, overflow) } else { Action::Increase(number, overflow) }
        };
        steps.push((action, Field { is_signed, bits, offset }));
    }
    Ok(steps)
}

/// Whether BITFIELD with these arguments behind its key writes nothing, as far as can be told
/// without reading numbers: what is no subcommand counts as writing.
pub(super) fn only_reads<'a>(mut words: impl ExactSizeIterator<Item = &'a [u8]>) -> bool {
    while let Some(word) = words.next() {
        let taken = if options::is(word, "GET") && words.len() >= 2 {
            2
        } else if options::is(word, "OVERFLOW") && words.len() >= 1 {
            1
        } else {
            return false;
        };
        words.by_ref().take(taken).for_each(drop);
    }
    true
}

fn parse_overflow(arg: &[u8]) -> Result<Overflow, CommandError> {
    const NAMES: [(&str, Overflow); 3] =
        [("WRAP", Overflow::Wrap), ("SAT", Overflow::Saturate), ("FAIL", Overflow::Fail)];
    let found = NAMES.iter().find(|(name, _)| options::is(arg, name));
    found.map(|(_, overflow)| *overflow).ok_or(BAD_OVERFLOW)
}

/// `i8`, `u63`: whether the field is signed, and its bits.
fn parse_type(arg: &[u8]) -> Result<(bool, u32), CommandError> {
    let (is_signed, bits) = match options::c_text(arg) {
        [b'i', bits @ ..] => (true, bits),
        [b'u', bits @ ..] => (false, bits),
        _ => return Err(BAD_TYPE),
    };
    let most = if is_signed { 64 } else { 63 };
    let bits = parse_i64(bits).and_then(|bits| u32::try_from(bits).ok());
    let bits = bits.filter(|bits| (1..=most).contains(bits));
    bits.map(|bits| (is_signed, bits)).ok_or(BAD_TYPE)
}

/// `BITFIELD key [GET type offset | [OVERFLOW WRAP | SAT | FAIL] SET type offset value | INCRBY
/// type offset increment ...]`
fn bitfield(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let steps = parse(cx, args)?;
    if steps.iter().all(|(action, _)| *action == Action::Get) {
        read(cx, &args[1], &steps)
    } else {
        write(cx, &args[1], &steps)
    }
}

/// `BITFIELD_RO key [GET type offset ...]`
fn bitfield_ro(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let steps = parse(cx, args)?;
    if steps.iter().any(|(action, _)| *action != Action::Get) {
        return Err(ONLY_GET);
    }
    read(cx, &args[1], &steps)
}

fn read(cx: &mut Cx<'_>, key: &[u8], steps: &[(Action, Field)]) -> CommandResult {
    let (found, reply) = cx.read_to_reply(key);
    let mut digits = itoa::Buffer::new();
    let bytes = match found {
        Some(entry) => string_bytes(entry.value(), &mut digits)?,
        None => &[],
    };
    reply.array(steps.len());
    steps.iter().for_each(|(_, field)| reply.integer(field.read(bytes)));
    Ok(())
}

/// The string is made as long as the farthest field that is written needs, even if no step then
/// writes.
fn write(cx: &mut Cx<'_>, key: &[u8], steps: &[(Action, Field)]) -> CommandResult {
    let written = steps.iter().filter(|(action, _)| *action != Action::Get);
    let end = written.map(|(_, field)| field.end_bytes()).max().unwrap_or(0);
    let old = range::length(cx, key)?;
    range::check_room(end)?;
    let end = usize::try_from(end).map_err(|_| super::string::STRING_TOO_LONG)?;
    let grows = old.is_none_or(|len| len < end);
    let mut replies = Vec::with_capacity(steps.len());
    let mut changes = 0;
    range::modify(cx, key, old, end, |bytes| {
        for (action, field) in steps {
            let before = field.read(bytes);
            let (after, overflow, reply) = match *action {
                Action::Get => {
                    replies.push(Some(before));
                    continue;
                }
                Action::Set(number, overflow) => {
                    let after = field.fitted(number, 0, overflow);
                    (after, overflow, after.map(|_| before))
                }
                Action::Increase(by, overflow) => {
                    let after = field.fitted(before, by, overflow);
                    (after, overflow, after)
                }
            };
            debug_assert!(after.is_some() || overflow == Overflow::Fail);
            replies.push(reply);
            if let Some(after) = after {
                changes += u64::from(grows || before != after);
                if before != after {
                    field.write(bytes, after);
                }
            }
        }
    });
    if grows || changes > 0 {
        cx.changed(key);
        // Each field that was written is a change.
        cx.keyspace.dirty += changes.saturating_sub(1);
    }
    cx.reply.array(replies.len());
    for reply in replies {
        match reply {
            Some(number) => cx.reply.integer(number),
            None => cx.reply.null(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench;

    #[test]
    fn a_field_holds_what_was_written_and_leaves_its_neighbours_alone() {
        for bits in 1..=64 {
            for offset in 0..20 {
                for is_signed in [false, true] {
                    if bits == 64 && !is_signed {
                        continue;
                    }
                    let field = Field { is_signed, bits, offset };
                    for background in [0x00, 0xff, 0xa5] {
                        for value in [field.limit(Limit::Lowest), field.limit(Limit::Highest), 0] {
                            let mut bytes = [background; 16];
                            field.write(&mut bytes, value);
                            assert_eq!(field.read(&bytes), value, "{field:?}");
                            let end = offset + u64::from(bits);
                            for at in (0..128).filter(|at| !(offset..end).contains(at)) {
                                let bit = |byte: u8| byte & (0x80 >> (at % 8));
                                let byte = bytes[at as usize / 8];
                                assert_eq!(bit(byte), bit(background), "{field:?}, bit {at}");
                            }
                            // The string may end inside the last byte it needs.
                            let end = field.end_bytes() as usize;
                            assert_eq!(field.read(&bytes[..end]), value, "{field:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_field_beyond_the_end_reads_as_zeros() {
        let field = Field { is_signed: false, bits: 16, offset: 4 };
        assert_eq!(field.read(&[0xab, 0xcd]), 0xbcd0);
        assert_eq!(field.read(&[]), 0);
        let far = Field { is_signed: true, bits: 64, offset: u64::from(u32::MAX) };
        assert_eq!(far.read(&[0xff]), 0);
    }

    #[test]
    fn sums_fit_as_exact_arithmetic_says() {
        for bits in [1, 2, 7, 8, 31, 63, 64] {
            for is_signed in [false, true] {
                if bits == 64 && !is_signed {
                    continue;
                }
                let field = Field { is_signed, bits, offset: 0 };
                let (lowest, highest) = (field.limit(Limit::Lowest), field.limit(Limit::Highest));
                let values = [lowest, highest, 0, -1, 1, lowest / 2, highest / 2];
                for value in values.into_iter().filter(|v| (lowest..=highest).contains(v)) {
                    for by in [0, 1, -1, 5, -5, 300, -300, i64::MAX, i64::MIN, lowest, highest] {
                        let sum = i128::from(value) + i128::from(by);
                        let clamped = sum.clamp(lowest.into(), highest.into()) as i64;
                        let fits = sum == i128::from(clamped);
                        let what = format!("{field:?}: {value} {by:+}");
                        let fitted = |overflow| field.fitted(value, by, overflow);
                        assert_eq!(fitted(Overflow::Saturate), Some(clamped), "{what}");
                        assert_eq!(fitted(Overflow::Fail), fits.then_some(clamped), "{what}");
                        let span = 1_i128 << bits;
                        let wrapped = (sum - i128::from(lowest)).rem_euclid(span);
                        let wrapped = (wrapped + i128::from(lowest)) as i64;
                        assert_eq!(fitted(Overflow::Wrap), Some(wrapped), "{what}");
                    }
                }
            }
        }
    }

    #[test]
    fn subcommands_run_in_order_under_the_overflow_named_last() {
        let mut b = bench();
        for (line, reply) in [
            ("BITFIELD k", "*0"),
            ("EXISTS k", ":0"),
            ("BITFIELD k GET u8 0 GET i5 #3", "*2 :0 :0"),
            ("EXISTS k", ":0"),
            ("BITFIELD k SET u8 0 255 GET u4 4 INCRBY i5 #1 3", "*3 :0 :15 :-1"),
            ("BITFIELD k INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 9", "*2 :1 :3"),
            ("BITFIELD k OVERFLOW FAIL INCRBY u2 102 1 GET u2 102", "*2 $-1 :3"),
            ("BITFIELD k OVERFLOW FAIL SET u2 102 9", "*1 $-1"),
            ("BITFIELD k SET u2 102 -1 SET u2 102 4", "*2 :3 :3"),
            ("BITFIELD k overflow sat set u8 0 -5 get u8 0", "*2 :255 :255"),
            ("BITFIELD k overflow sat set i8 0 -500 get i8 0", "*2 :-1 :-128"),
            // Redis counts this one as too high.
            ("BITFIELD k overflow sat set i8 0 -9223372036854775808 get i8 0", "*2 :-128 :127"),
            ("BITFIELD w set i64 0 -9223372036854775808 get i64 0", "*2 :0 :-9223372036854775808"),
            ("BITFIELD_RO k GET u8 0 OVERFLOW FAIL", "*1 :127"),
            ("SET n 1 EX 100", "+OK"),
            ("BITFIELD n INCRBY u8 0 1", "*1 :50"),
            ("INCR n", ":3"),
            ("TTL n", ":100"),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
        assert_eq!(b.resp3().send("BITFIELD k OVERFLOW FAIL SET u1 0 2"), "*1 _");
    }

    #[test]
    fn errors_change_nothing() {
        let mut b = bench();
        b.send("SET k v");
        b.log();
        let kind = "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not \
                    supported but i64 is.";
        let offset = "-ERR bit offset is not an integer or out of range";
        let integer = "-ERR value is not an integer or out of range";
        for (words, reply) in [
            ("GET u8", "-ERR syntax error"),
            ("SET u8 0", "-ERR syntax error"),
            ("OVERFLOW", "-ERR syntax error"),
            ("NOTHING u8 0", "-ERR syntax error"),
            ("OVERFLOW NOTHING GET u8 0", "-ERR Invalid OVERFLOW type specified"),
            ("GET u64 0", kind),
            ("GET i65 0", kind),
            ("GET i0 0", kind),
            ("GET u-1 0", kind),
            ("GET I8 0", kind),
            ("GET 8 0", kind),
            ("GET '' 0", kind),
            ("GET u08 0", kind),
            ("GET u8 -1", offset),
            ("GET u8 #-1", offset),
            ("GET u8 ##1", offset),
            ("GET u8 #", offset),
            ("GET u8 4294967296", offset),
            ("SET u8 #536870912 1", offset),
            ("SET u8 0 1 SET u8 0 x", integer),
            ("INCRBY u8 0 1.5", integer),
        ] {
            assert_eq!(b.send(&format!("BITFIELD k {words}")), reply, "{words}");
        }
        for words in ["SET u8 0 1", "INCRBY u8 0 1", "GET u8 0 SET u8 0 1"] {
            let reply = b.send(&format!("BITFIELD_RO k {words}"));
            assert_eq!(reply, "-ERR BITFIELD_RO only supports the GET subcommand", "{words}");
        }
        assert_eq!(b.contents(), ["0 k=v"]);
        assert_eq!(b.log(), [""; 0]);
    }

    #[test]
    fn only_calls_that_write_are_said_to_write() {
        let mut b = bench();
        const READ: &str = "*1 *2 $1 k *2 +RO +access";
        const WRITE: &str = "*1 *2 $1 k *3 +RW +access +update";
        for (words, reply) in [
            ("", READ),
            ("GET u8 0 OVERFLOW SAT get i5 #3", READ),
            ("GET u8 0 SET u8 0 1", WRITE),
            ("INCRBY u8 0 1", WRITE),
            ("GET u8", WRITE),
            ("NOTHING", WRITE),
        ] {
            let line = format!("COMMAND GETKEYSANDFLAGS BITFIELD k {words}");
            assert_eq!(b.send(&line), reply, "{words}");
        }
        assert_eq!(
            b.send("COMMAND GETKEYSANDFLAGS BITOP AND d s"),
            "*2 *2 $1 d *2 +OW +update *2 $1 s *2 +RO +access"
        );
    }

    #[test]
    fn what_changes_the_string_is_logged_and_replays_to_the_same_state() {
        let mut b = bench();
        let mut replayed = bench();
        for (line, changes) in [
            ("BITFIELD k SET u8 0 7 INCRBY u8 8 1 GET u8 0", 2),
            ("BITFIELD k SET u8 0 7", 0),
            ("BITFIELD k SET u8 0 8", 1),
            ("BITFIELD k GET u8 100", 0),
            ("BITFIELD k SET u8 100 0", 1),
            ("BITFIELD k OVERFLOW FAIL SET u8 0 256", 0),
            // Nothing is written, but the key is there now; Redis loses it from its log.
            ("BITFIELD made OVERFLOW FAIL SET u8 0 256", 1),
            ("BITFIELD far SET i64 #20000 -1", 1),
        ] {
            b.keyspace.dirty = 0;
            b.send(line);
            assert_eq!(b.keyspace.dirty, changes, "{line}");
            b.replay_into(&mut replayed);
            let logged = b.log();
            assert_eq!(logged.is_empty(), changes == 0, "{line}");
            assert!(logged.iter().all(|logged| logged == line));
            assert_eq!(replayed.contents(), b.contents(), "{line}");
        }
    }
}
