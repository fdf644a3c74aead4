//! Counters: strings that are numbers.

use super::options;
use crate::data::{NewValue, ValueRef};
use crate::engine::command::{Arity, CommandSpec, Doc, Flags, KeySpec};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::keyspace::database::Deadline;
use crate::resp::args::Args;
use crate::text::extended::F80;
use Arity::Exactly;

const FLAGS: Flags = Flags::WRITE.and(Flags::DENY_OOM).and(Flags::FAST).and(Flags::C_STRING);
const KEYS: &[KeySpec] = &[KeySpec::first(&["RW", "access", "update"])];

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "incr",
        doc: Doc::new("string", "1.0.0", "O(1)", "Adds one to an integer.").takes("key"),
        arity: Exactly(2),
        flags: FLAGS,
        keys: KEYS,
        run: incr,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "decr",
        doc: Doc::new("string", "1.0.0", "O(1)", "Takes one from an integer.").takes("key"),
        arity: Exactly(2),
        flags: FLAGS,
        keys: KEYS,
        run: decr,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "incrby",
        doc: Doc::new("string", "1.0.0", "O(1)", "Adds to an integer.").takes("key increment:int"),
        arity: Exactly(3),
        flags: FLAGS,
        keys: KEYS,
        run: incrby,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "decrby",
        doc: Doc::new("string", "1.0.0", "O(1)", "Takes from an integer.")
            .takes("key decrement:int"),
        arity: Exactly(3),
        flags: FLAGS,
        keys: KEYS,
        run: decrby,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "incrbyfloat",
        doc: Doc::new("string", "2.6.0", "O(1)", "Adds to a number, which may have a fraction.")
            .takes("key increment:double"),
        arity: Exactly(3),
        flags: FLAGS,
        keys: KEYS,
        run: incrbyfloat,
        ..CommandSpec::ROW
    },
];

const OVERFLOW: CommandError = CommandError::new("ERR increment or decrement would overflow");
const DECREMENT_OVERFLOW: CommandError = CommandError::new("ERR decrement would overflow");
const NOT_FINITE: CommandError = CommandError::new("ERR increment would produce NaN or Infinity");

/// `INCR key`
fn incr(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    add(cx, &args[1], 1)
}

/// `DECR key`
fn decr(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    add(cx, &args[1], -1)
}

/// `INCRBY key increment`
fn incrby(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    add(cx, &args[1], options::integer(&args[2])?)
}

/// `DECRBY key decrement`
fn decrby(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let decrement = options::integer(&args[2])?;
    add(cx, &args[1], decrement.checked_neg().ok_or(DECREMENT_OVERFLOW)?)
}

fn add(cx: &mut Cx<'_>, key: &[u8], increment: i64) -> CommandResult {
    let sum = cx.update_integer(key, |old| {
        let old = match old {
            None => 0,
            Some(ValueRef::Int(n)) => n,
            // A string that was appended to may be a number and still be kept as text.
            Some(ValueRef::String(bytes)) => options::integer(bytes)?,
        };
        old.checked_add(increment).ok_or(OVERFLOW)
    })?;
    cx.changed(key);
    cx.reply.integer(sum);
    Ok(())
}

/// `INCRBYFLOAT key increment`, in the 80-bit floats that Redis computes with. Logged as its
/// outcome, so that a replay does not depend on how floats are read and rounded.
fn incrbyfloat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = &args[1];
    let old = match cx.peek(key).map(|entry| entry.value()) {
        None => Some(F80::ZERO),
        Some(ValueRef::Int(n)) => Some(F80::from_i64(n)),
        Some(ValueRef::String(bytes)) => F80::parse(bytes),
    };
    let old = old.ok_or(CommandError::NOT_A_FLOAT)?;
    let increment = F80::parse(&args[2]).ok_or(CommandError::NOT_A_FLOAT)?;
    let sum = old.checked_add(increment).ok_or(NOT_FINITE)?;
    let mut text = Vec::new();
    sum.write_human(&mut text);
    cx.propagate_as(&[b"SET", key, &text, b"KEEPTTL"]);
    // As text even if it is whole, which is what Redis says the encoding is.
    cx.db().set(key, NewValue::Bytes(&text), Deadline::Keep);
    cx.changed(key);
    cx.reply.bulk(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::bench;

    #[test]
    fn counters_count_and_keep_their_deadline() {
        let mut b = bench();
        for (line, reply) in [
            ("INCR k", ":1"),
            ("EXPIRE k 100", ":1"),
            ("INCRBY k 41", ":42"),
            ("DECR k", ":41"),
            ("DECRBY k -1", ":42"),
            ("INCRBYFLOAT k 0.5", "$4 42.5"),
            ("TTL k", ":100"),
            ("SET k 9223372036854775806", "+OK"),
            ("INCR k", ":9223372036854775807"),
            ("INCR k", "-ERR increment or decrement would overflow"),
            ("DECRBY k -9223372036854775808", "-ERR decrement would overflow"),
            ("INCRBY k -9223372036854775808", ":-1"),
            ("INCRBY k -9223372036854775808", "-ERR increment or decrement would overflow"),
            ("INCRBY k 9223372036854775808", "-ERR value is not an integer or out of range"),
            ("INCRBY k 1.0", "-ERR value is not an integer or out of range"),
            ("SET k ' 1'", "+OK"),
            ("INCR k", "-ERR value is not an integer or out of range"),
            ("INCRBY k x", "-ERR value is not an integer or out of range"),
            ("GET k", "$2  1"),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
    }

    #[test]
    fn incrbyfloat_computes_in_extended_precision() {
        let mut b = bench();
        for (line, reply) in [
            ("INCRBYFLOAT k 0.1", "$3 0.1"),
            ("INCRBYFLOAT k 0.2", "$3 0.3"),
            ("INCRBYFLOAT k 5.0e3", "$22 5000.29999999999999982"),
            ("INCRBYFLOAT k -5000.3", "$1 0"),
            ("SET k 9223372036854775807", "+OK"),
            ("INCRBYFLOAT k 1", "$19 9223372036854775808"),
            ("INCRBYFLOAT k x", "-ERR value is not a valid float"),
            ("INCRBYFLOAT k inf", "-ERR increment would produce NaN or Infinity"),
            ("SET k x", "+OK"),
            ("INCRBYFLOAT k 1", "-ERR value is not a valid float"),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
    }

    #[test]
    fn floats_are_logged_as_their_sum_and_integers_as_sent() {
        let mut b = bench();
        for (line, log) in [
            ("INCRBYFLOAT k 1.5", vec!["SET k 1.5 KEEPTTL"]),
            ("INCRBYFLOAT k 1.5", vec!["SET k 3 KEEPTTL"]),
            ("incr k", vec!["incr k"]),
            ("INCRBY k x", vec![]),
            ("PEXPIREAT k 2000000000005", vec!["PEXPIREAT k 2000000000005"]),
        ] {
            b.send(line);
            assert_eq!(b.log(), log, "{line}");
        }
        b.advance_ms(6);
        assert_eq!(b.send("DECR k"), ":-1");
        assert_eq!(b.log(), ["DEL k", "DECR k"]);
    }

    #[test]
    fn a_failed_command_changes_and_logs_nothing() {
        let mut b = bench();
        b.send("SET k x");
        b.log();
        let dirty = b.keyspace.dirty;
        for line in ["INCR k", "DECRBY k 5", "INCRBYFLOAT k 1", "INCRBYFLOAT n inf"] {
            assert!(b.send(line).starts_with("-ERR"), "{line}");
        }
        assert_eq!((b.keyspace.dirty, b.contents()), (dirty, vec!["0 k=x".to_owned()]));
        assert_eq!(b.log(), [""; 0]);
    }
}
