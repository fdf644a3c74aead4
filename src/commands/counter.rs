//! Counters: strings that are numbers.

use super::options;
use crate::data::{NewValue, ValueRef};
use crate::engine::command::{Arity, CommandSpec, Flags, KeySpec};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::keyspace::database::Deadline;
use crate::resp::args::Args;
use crate::resp::extended::F80;
use Arity::Exactly;

const FLAGS: Flags = Flags::WRITE.and(Flags::DENY_OOM).and(Flags::FAST).and(Flags::C_STRING);
const KEYS: &[KeySpec] = &[KeySpec::first(&["RW", "access", "update"])];

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "incr",
        arity: Exactly(2),
        flags: FLAGS,
        keys: KEYS,
        run: incr,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "decr",
        arity: Exactly(2),
        flags: FLAGS,
        keys: KEYS,
        run: decr,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "incrby",
        arity: Exactly(3),
        flags: FLAGS,
        keys: KEYS,
        run: incrby,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "decrby",
        arity: Exactly(3),
        flags: FLAGS,
        keys: KEYS,
        run: decrby,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "incrbyfloat",
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
    let old = match cx.peek(key).map(|entry| entry.value()) {
        None => 0,
        Some(ValueRef::Int(n)) => n,
        // A string that was appended to may be a number and still be kept as text.
        Some(ValueRef::String(bytes)) => options::integer(bytes)?,
    };
    let sum = old.checked_add(increment).ok_or(OVERFLOW)?;
    cx.db().set(key, NewValue::Int(sum), Deadline::Keep);
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
