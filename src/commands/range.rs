//! Parts of strings: GETRANGE, SUBSTR, SETRANGE; and what all commands share that read or write
//! a string in its place.

use super::options;
use super::string::STRING_TOO_LONG;
use crate::data::{NewValue, ValueRef};
use crate::engine::command::{Arity, CommandSpec, Doc, Flags, KeySpec};
use crate::engine::cx::{Cx, Origin};
use crate::engine::error::{CommandError, CommandResult};
use crate::keyspace::database::Deadline;
use crate::resp::args::Args;
use Arity::Exactly;

const READ: Flags = Flags::READONLY.and(Flags::C_STRING);
const ACCESS: &[KeySpec] = &[KeySpec::first(&["RO", "access"])];

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "getrange",
        doc: Doc::new("string", "2.4.0", "O(N)", "Reads a part of a string.")
            .takes("key start:int end:int"),
        arity: Exactly(4),
        flags: READ,
        keys: ACCESS,
        run: getrange,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "substr",
        doc: Doc::new("string", "1.0.0", "O(N)", "Reads a part of a string.")
            .takes("key start:int end:int")
            .deprecated("2.0.0", "`GETRANGE`"),
        arity: Exactly(4),
        flags: READ,
        keys: ACCESS,
        run: getrange,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "setrange",
        doc: Doc::new("string", "2.2.0", "O(1)", "Overwrites a part of a string.")
            .takes("key offset:int value"),
        arity: Exactly(4),
        flags: Flags::WRITE.and(Flags::DENY_OOM).and(Flags::C_STRING),
        keys: &[KeySpec::first(&["RW", "update"])],
        run: setrange,
        ..CommandSpec::ROW
    },
];

const OFFSET_OUT_OF_RANGE: CommandError = CommandError::new("ERR offset is out of range");

/// The default of `proto-max-bulk-len`. A request for more is granted only if the memory is there.
const ORDINARY_MAX_BYTES: usize = 512 << 20;

/// From this size on a new string's zeros come from the kernel, and cost nothing until touched.
const ZEROED_BYTES: usize = 4 << 10;

/// The bytes of a string, an integer's written into `digits`.
///
/// # Errors
/// WRONGTYPE if it is something else.
pub(super) fn string_bytes<'a>(
    value: ValueRef<'a>,
    digits: &'a mut itoa::Buffer,
) -> Result<&'a [u8], CommandError> {
    match value {
        ValueRef::Int(n) => Ok(digits.format(n).as_bytes()),
        ValueRef::String(bytes) => Ok(bytes),
    }
}

/// The length of the string at `key`, which is to be changed; `None` if there is no such key.
///
/// # Errors
/// WRONGTYPE if it is something else.
pub(super) fn length(cx: &mut Cx<'_>, key: &[u8]) -> Result<Option<usize>, CommandError> {
    let Some(entry) = cx.peek(key) else { return Ok(None) };
    Ok(Some(string_bytes(entry.value(), &mut itoa::Buffer::new())?.len()))
}

/// Whether a string may have `bytes`; what stands in the log was allowed when it was written.
///
/// # Errors
/// The string would be too long.
fn check_length(cx: &Cx<'_>, bytes: u64) -> CommandResult {
    if cx.origin != Origin::Replay && bytes > cx.registries.config.proto_max_bulk_bytes {
        return Err(STRING_TOO_LONG);
    }
    check_room(bytes)
}

/// Whether there is memory for a string of `bytes`. A command of a few bytes can ask for any
/// length, where the parameters allow that, and memory that cannot be had ends the server.
/// Lengths that are always allowed are not looked at.
///
/// # Errors
/// The string would be too long.
pub(super) fn check_room(bytes: u64) -> CommandResult {
    let bytes = usize::try_from(bytes).map_err(|_| STRING_TOO_LONG)?;
    if bytes > ORDINARY_MAX_BYTES {
        // With the slack that a string gets when it grows.
        let wanted = bytes.saturating_add(bytes / 4);
        Vec::<u8>::new().try_reserve_exact(wanted).map_err(|_| STRING_TOO_LONG)?;
    }
    Ok(())
}

/// Lengthens the string at `key` with zeros to `min_bytes`, where it is shorter, and lets `change`
/// write to it where it lies. `old` is what [`length`] said. The caller tells of the change.
pub(super) fn modify(
    cx: &mut Cx<'_>,
    key: &[u8],
    old: Option<usize>,
    min_bytes: usize,
    change: impl FnOnce(&mut [u8]),
) {
    if old.is_none() && min_bytes >= ZEROED_BYTES {
        let mut bytes = vec![0; min_bytes];
        change(&mut bytes);
        cx.db().set(key, NewValue::Owned(bytes), Deadline::Clear);
    } else {
        cx.db().modify(key, min_bytes, change);
    }
}

/// The first and the last index that `start` and `end` mean in `len` elements, counted from the
/// end where negative and cut to what is there; `None` if nothing is.
pub(super) fn clip(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_front = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (start, end) = (from_front(start), from_front(end).min(len - 1));
    if start > end {
        return None;
    }
    Some((usize::try_from(start).ok()?, usize::try_from(end).ok()?))
}

/// Whether both are counted from the end and the wrong way round: an empty range, even where
/// cutting them to what is there would make them meet.
pub(super) fn is_reversed(start: i64, end: i64) -> bool {
    start < 0 && end < 0 && start > end
}

/// `GETRANGE key start end`, and its old name `SUBSTR`
fn getrange(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (start, end) = (options::integer(&args[2])?, options::integer(&args[3])?);
    let (found, reply) = cx.read_to_reply(&args[1]);
    let mut digits = itoa::Buffer::new();
    let bytes = match found {
        Some(entry) => string_bytes(entry.value(), &mut digits)?,
        None => &[],
    };
    let range = if is_reversed(start, end) { None } else { clip(start, end, bytes.len()) };
    let part = range.and_then(|(first, last)| bytes.get(first..=last));
    reply.bulk(part.unwrap_or_default());
    Ok(())
}

/// `SETRANGE key offset value`
fn setrange(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let offset = options::integer(&args[2])?;
    let offset = u64::try_from(offset).map_err(|_| OFFSET_OUT_OF_RANGE)?;
    let (key, value) = (&args[1], &args[3]);
    let old = length(cx, key)?;
    if value.is_empty() {
        cx.reply.count(old.unwrap_or(0));
        return Ok(());
    }
    let end = offset.saturating_add(value.len() as u64);
    check_length(cx, end)?;
    let end = usize::try_from(end).map_err(|_| STRING_TOO_LONG)?;
    modify(cx, key, old, end, |bytes| bytes[end - value.len()..end].copy_from_slice(value));
    cx.changed(key);
    cx.reply.count(end.max(old.unwrap_or(0)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench;
    use crate::resp::parse::LARGE_ARG_BYTES;

    #[test]
    fn getrange_counts_from_both_ends_and_cuts_to_what_is_there() {
        let mut b = bench();
        b.send("SET k foobar");
        b.send("SET n -123");
        b.send("SET e ''");
        for (range, reply) in [
            ("k 0 0", "$1 f"),
            ("k 1 3", "$3 oob"),
            ("k -3 -1", "$3 bar"),
            ("k 0 -1", "$6 foobar"),
            ("k 0 100", "$6 foobar"),
            ("k -100 1", "$2 fo"),
            ("k 4 2", "$0 "),
            ("k 6 9", "$0 "),
            ("k -1 -2", "$0 "),
            ("k -100 -200", "$0 "),
            ("k -200 -100", "$1 f"),
            ("k 0 -100", "$1 f"),
            ("k -9223372036854775808 9223372036854775807", "$6 foobar"),
            ("k 9223372036854775807 9223372036854775807", "$0 "),
            ("n 0 1", "$2 -1"),
            ("e 0 -1", "$0 "),
            ("missing 0 -1", "$0 "),
            ("missing a 0", "-ERR value is not an integer or out of range"),
            ("k 0 1.5", "-ERR value is not an integer or out of range"),
        ] {
            assert_eq!(b.send(&format!("GETRANGE {range}")), reply, "{range}");
            assert_eq!(b.send(&format!("substr {range}")), reply, "{range}");
        }
    }

    #[test]
    fn setrange_writes_over_and_beyond_the_end() {
        let mut b = bench();
        const RANGE: &str = "-ERR offset is out of range";
        const LONG: &str = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        for (line, reply) in [
            ("SETRANGE k 2 abc", ":5"),
            ("GET k", "$5 \\x00\\x00abc"),
            ("SETRANGE k 0 xy", ":5"),
            ("SETRANGE k 4 12", ":6"),
            ("GET k", "$6 xyab12"),
            ("SETRANGE k 100 ''", ":6"),
            ("SETRANGE missing 5 ''", ":0"),
            ("EXISTS missing", ":0"),
            ("SET n 123 EX 100", "+OK"),
            ("SETRANGE n 1 9", ":3"),
            ("INCR n", ":194"),
            ("TTL n", ":100"),
            ("SETRANGE k -1 x", RANGE),
            ("SETRANGE k -1 ''", RANGE),
            ("SETRANGE k a x", "-ERR value is not an integer or out of range"),
            ("SETRANGE k 536870912 x", LONG),
            ("SETRANGE k 536870911 xy", LONG),
            ("SETRANGE k 9223372036854775807 x", LONG),
            ("SETRANGE k 9223372036854775807 ''", ":6"),
            ("STRLEN k", ":6"),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
    }

    #[test]
    fn a_length_that_no_memory_can_hold_is_refused_whatever_is_allowed() {
        let mut b = bench();
        b.registries.config.proto_max_bulk_bytes = i64::MAX as u64;
        for offset in ["9223372036854775807", "9223372036854775806", "4611686018427387904"] {
            for key in ["k", "missing"] {
                b.send("SET k v");
                b.origin = Origin::Client;
                let reply = b.send(&format!("SETRANGE {key} {offset} x"));
                assert!(reply.starts_with("-ERR string exceeds"), "{reply}");
                b.origin = Origin::Replay;
                b.run(&[b"SETRANGE", key.as_bytes(), offset.as_bytes(), b"x"]);
                assert_eq!(b.contents(), ["0 k=v"]);
                b.origin = Origin::Client;
            }
        }
    }

    #[test]
    fn the_log_replays_to_the_same_state() {
        let large = vec![b'x'; LARGE_ARG_BYTES];
        let mut b = bench();
        for args in [
            &[&b"SETRANGE"[..], b"a", b"3", b"x"],
            &[b"SETRANGE", b"a", b"1", b"yz"],
            &[b"SETRANGE", b"a", b"1", b""],
            &[b"SETRANGE", b"large", b"5", &large],
            &[b"SETRANGE", b"large", b"40000", &large],
            &[b"SETRANGE", b"sparse", b"100000", b"x"],
        ] {
            b.run(args);
        }
        let mut replayed = bench();
        b.replay_into(&mut replayed);
        assert_eq!(replayed.contents(), b.contents());
        assert_eq!(b.send("STRLEN sparse"), ":100001");
        b.log();
        for line in ["GETRANGE a 0 1", "SETRANGE a 7 ''", "SETRANGE a -1 x", "SETRANGE a b x"] {
            b.send(line);
            assert_eq!(b.log(), [""; 0], "{line}");
        }
        b.send("SET a v PX 5");
        b.advance_ms(6).log();
        assert_eq!(b.send("SETRANGE a 1 x"), ":2");
        assert_eq!(b.log(), ["DEL a", "SETRANGE a 1 x"]);
    }
}
