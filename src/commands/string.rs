//! Strings: set, get, append.

use super::options::{self, TimeForm};
use crate::data::{NewValue, ValueRef};
use crate::engine::command::{Arity, CommandSpec, Flags, KeySpec};
use crate::engine::cx::{Cx, Origin};
use crate::engine::error::{CommandError, CommandResult};
use crate::keyspace::database::Deadline;
use crate::resp::args::Args;
use crate::sys::clock::UnixMs;
use Arity::{AtLeast, Exactly};

const READ: Flags = Flags::READONLY.and(Flags::C_STRING);
const WRITE: Flags = Flags::WRITE.and(Flags::C_STRING);
const GROW: Flags = WRITE.and(Flags::DENY_OOM);

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "get",
        arity: Exactly(2),
        flags: READ.and(Flags::FAST),
        keys: &[KeySpec::first(&["RO", "access"])],
        run: get,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "set",
        arity: AtLeast(3),
        flags: GROW,
        keys: &[KeySpec::first(&["RW", "access", "update", "variable_flags"])
            .noted("RW and ACCESS due to the optional `GET` argument")],
        run: set,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "setnx",
        arity: Exactly(3),
        flags: GROW.and(Flags::FAST),
        keys: &[KeySpec::first(&["OW", "insert"])],
        run: setnx,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "setex",
        arity: Exactly(4),
        flags: GROW,
        keys: &[KeySpec::first(&["OW", "update"])],
        run: setex,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "psetex",
        arity: Exactly(4),
        flags: GROW,
        keys: &[KeySpec::first(&["OW", "update"])],
        run: psetex,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "getset",
        arity: Exactly(3),
        flags: GROW.and(Flags::FAST),
        keys: &[KeySpec::first(&["RW", "access", "update"])],
        run: getset,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "getdel",
        arity: Exactly(2),
        flags: WRITE.and(Flags::FAST),
        keys: &[KeySpec::first(&["RW", "access", "delete"])],
        run: getdel,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "getex",
        arity: AtLeast(2),
        flags: WRITE.and(Flags::FAST),
        keys: &[KeySpec::first(&["RW", "access", "update"])
            .noted("RW and UPDATE because it changes the TTL")],
        run: getex,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "mget",
        arity: AtLeast(2),
        flags: READ.and(Flags::FAST),
        keys: &[KeySpec::each(1, &["RO", "access"])],
        tips: &["request_policy:multi_shard"],
        run: mget,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "mset",
        arity: AtLeast(3),
        flags: GROW,
        keys: &[KeySpec::each(2, &["OW", "update"])],
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        run: mset,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "msetnx",
        arity: AtLeast(3),
        flags: GROW,
        keys: &[KeySpec::each(2, &["OW", "insert"])],
        tips: &["request_policy:multi_shard", "response_policy:agg_min"],
        run: msetnx,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "append",
        arity: Exactly(3),
        flags: GROW.and(Flags::FAST),
        keys: &[KeySpec::first(&["RW", "insert"])],
        run: append,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "strlen",
        arity: Exactly(2),
        flags: READ.and(Flags::FAST),
        keys: &[KeySpec::first(&["RO"])],
        run: strlen,
        ..CommandSpec::ROW
    },
];

const STRING_TOO_LONG: CommandError =
    CommandError::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

/// When SET sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Always,
    /// NX.
    IfAbsent,
    /// XX.
    IfPresent,
}

/// What SET does about the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime<'a> {
    Forever,
    /// KEEPTTL.
    AsBefore,
    /// EX, PX, EXAT, PXAT with its number.
    Until(TimeForm, &'a [u8]),
}

/// SET's options, which fit together.
struct SetOptions<'a> {
    condition: Condition,
    lifetime: Lifetime<'a>,
    /// GET: the old value is the reply.
    get: bool,
}

impl<'a> SetOptions<'a> {
    fn parse(mut args: impl Iterator<Item = &'a [u8]>) -> Result<SetOptions<'a>, CommandError> {
        let mut condition = Condition::Always;
        let mut lifetime = Lifetime::Forever;
        let mut get = false;
        while let Some(option) = args.next() {
            if options::is(option, "NX") && condition != Condition::IfPresent {
                condition = Condition::IfAbsent;
            } else if options::is(option, "XX") && condition != Condition::IfAbsent {
                condition = Condition::IfPresent;
            } else if options::is(option, "GET") {
                get = true;
            } else if options::is(option, "KEEPTTL") && !matches!(lifetime, Lifetime::Until(..)) {
                lifetime = Lifetime::AsBefore;
            } else {
                let form = TimeForm::from_option(option).ok_or(CommandError::SYNTAX)?;
                let number = args.next().ok_or(CommandError::SYNTAX)?;
                lifetime = match lifetime {
                    Lifetime::Forever => Lifetime::Until(form, number),
                    // The same option may be repeated; the last one counts.
                    Lifetime::Until(before, _) if before == form => Lifetime::Until(form, number),
                    Lifetime::Until(..) | Lifetime::AsBefore => return Err(CommandError::SYNTAX),
                };
            }
        }
        Ok(SetOptions { condition, lifetime, get })
    }
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`
fn set(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if args.len() == 3 {
        cx.expire_if_due(&args[1]);
        store(cx, args, 2, Deadline::Clear);
        cx.reply.ok();
        return Ok(());
    }
    let SetOptions { condition, lifetime, get } = SetOptions::parse(args.from(3))?;
    let (deadline, is_canonical) = match lifetime {
        Lifetime::Forever => (Deadline::Clear, true),
        Lifetime::AsBefore => (Deadline::Keep, true),
        Lifetime::Until(form, number) => {
            let deadline = form.positive(number, cx.now, "set")?;
            (Deadline::At(deadline), form == TimeForm::UNIX_MS)
        }
    };
    if get {
        reply_value(cx, &args[1])?;
    }
    let is_met = match condition {
        Condition::Always => {
            cx.expire_if_due(&args[1]);
            true
        }
        Condition::IfAbsent => !cx.exists(&args[1]),
        Condition::IfPresent => cx.exists(&args[1]),
    };
    if !is_met {
        if !get {
            cx.reply.null();
        }
        return Ok(());
    }
    if get || !is_canonical {
        propagate_set(cx, &args[1], &args[2], deadline);
    }
    store(cx, args, 2, deadline);
    if !get {
        cx.reply.ok();
    }
    Ok(())
}

/// `SETNX key value`
fn setnx(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let is_absent = !cx.exists(&args[1]);
    if is_absent {
        store(cx, args, 2, Deadline::Clear);
    }
    cx.reply.integer(i64::from(is_absent));
    Ok(())
}

/// `SETEX key seconds value`
fn setex(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_for(cx, args, TimeForm::SECONDS_FROM_NOW, "setex")
}

/// `PSETEX key milliseconds value`
fn psetex(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    set_for(cx, args, TimeForm::MS_FROM_NOW, "psetex")
}

fn set_for(cx: &mut Cx<'_>, args: &mut Args<'_>, form: TimeForm, command: &str) -> CommandResult {
    let deadline = Deadline::At(form.positive(&args[2], cx.now, command)?);
    cx.expire_if_due(&args[1]);
    propagate_set(cx, &args[1], &args[3], deadline);
    store(cx, args, 3, deadline);
    cx.reply.ok();
    Ok(())
}

/// `GETSET key value`
fn getset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    reply_value(cx, &args[1])?;
    propagate_set(cx, &args[1], &args[2], Deadline::Clear);
    store(cx, args, 2, Deadline::Clear);
    Ok(())
}

/// Sets the key, which is not past its deadline, to the argument at `value`, moved if it can be.
fn store(cx: &mut Cx<'_>, args: &mut Args<'_>, value: usize, deadline: Deadline) {
    store_pair(cx, args, 1, value, deadline);
}

fn store_pair(cx: &mut Cx<'_>, args: &mut Args<'_>, key: usize, value: usize, deadline: Deadline) {
    let owned = args.take(value);
    let new = match owned {
        Some(bytes) => NewValue::from_vec(bytes),
        None => NewValue::from_bytes(&args[value]),
    };
    cx.db().set(&args[key], new, deadline);
    cx.changed(&args[key]);
}

/// Logs a SET that replays to the same state whatever the clock says.
fn propagate_set(cx: &mut Cx<'_>, key: &[u8], value: &[u8], deadline: Deadline) {
    match deadline {
        Deadline::Clear => cx.propagate_as(&[b"SET", key, value]),
        Deadline::Keep => cx.propagate_as(&[b"SET", key, value, b"KEEPTTL"]),
        Deadline::At(UnixMs(ms)) => {
            let mut digits = itoa::Buffer::new();
            let ms = digits.format(ms).as_bytes();
            cx.propagate_as(&[b"SET", key, value, b"PXAT", ms]);
        }
    }
}

/// `GET key`
fn get(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    reply_value(cx, &args[1])?;
    Ok(())
}

/// Replies with the string at `key`, or null, and says whether there is one.
///
/// # Errors
/// WRONGTYPE if the key holds something else.
#[inline]
fn reply_value(cx: &mut Cx<'_>, key: &[u8]) -> Result<bool, CommandError> {
    let (found, reply) = cx.read_to_reply(key);
    let Some(entry) = found else {
        reply.null();
        return Ok(false);
    };
    match entry.value() {
        ValueRef::Int(n) => reply.bulk_integer(n),
        ValueRef::String(bytes) => reply.bulk(bytes),
    }
    Ok(true)
}

/// `GETDEL key`
fn getdel(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = &args[1];
    if reply_value(cx, key)? {
        cx.propagate_as(&[b"DEL", key]);
        cx.db().remove(key);
        cx.changed(key);
    }
    Ok(())
}

/// What GETEX does about the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension<'a> {
    Nothing,
    Persist,
    Until(TimeForm, &'a [u8]),
}

impl<'a> Extension<'a> {
    fn parse(mut args: impl Iterator<Item = &'a [u8]>) -> Result<Extension<'a>, CommandError> {
        let mut extension = Extension::Nothing;
        while let Some(option) = args.next() {
            let is_timed = matches!(extension, Extension::Until(..));
            if options::is(option, "PERSIST") && !is_timed {
                extension = Extension::Persist;
                continue;
            }
            let form = TimeForm::from_option(option).ok_or(CommandError::SYNTAX)?;
            let number = args.next().ok_or(CommandError::SYNTAX)?;
            extension = match extension {
                Extension::Nothing => Extension::Until(form, number),
                Extension::Until(before, _) if before == form => Extension::Until(form, number),
                Extension::Until(..) | Extension::Persist => return Err(CommandError::SYNTAX),
            };
        }
        Ok(extension)
    }
}

/// `GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]`
fn getex(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let extension = Extension::parse(args.from(2))?;
    let key = &args[1];
    if !reply_value(cx, key)? {
        return Ok(());
    }
    match extension {
        Extension::Nothing => {}
        Extension::Persist => {
            if cx.db().get(key).is_some_and(|entry| entry.deadline().is_some()) {
                cx.propagate_as(&[b"PERSIST", key]);
                cx.db().set_deadline(key, None);
                cx.changed(key);
            }
        }
        Extension::Until(form, number) => {
            let deadline = form.positive(number, cx.now, "getex")?;
            super::expire::set_deadline(cx, key, deadline);
        }
    }
    Ok(())
}

/// `MGET key [key ...]`
fn mget(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.reply.array(args.len() - 1);
    for key in args.from(1) {
        // A key of another type counts as missing here.
        let (found, reply) = cx.read_to_reply(key);
        match found.map(|entry| entry.value()) {
            Some(ValueRef::Int(n)) => reply.bulk_integer(n),
            Some(ValueRef::String(bytes)) => reply.bulk(bytes),
            None => reply.null(),
        }
    }
    Ok(())
}

/// `MSET key value [key value ...]`
fn mset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    check_pairs(args, "mset")?;
    store_pairs(cx, args);
    cx.reply.ok();
    Ok(())
}

/// `MSETNX key value [key value ...]`
fn msetnx(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    check_pairs(args, "msetnx")?;
    let is_free = !args.from(1).step_by(2).any(|key| cx.exists(key));
    if is_free {
        store_pairs(cx, args);
    }
    cx.reply.integer(i64::from(is_free));
    Ok(())
}

fn check_pairs(args: &Args<'_>, command: &str) -> CommandResult {
    if args.len() % 2 == 1 {
        return Ok(());
    }
    let text = format!("ERR wrong number of arguments for '{command}' command");
    Err(CommandError::owned(text))
}

fn store_pairs(cx: &mut Cx<'_>, args: &mut Args<'_>) {
    for key in (1..args.len()).step_by(2) {
        cx.expire_if_due(&args[key]);
        store_pair(cx, args, key, key + 1, Deadline::Clear);
    }
}

/// `APPEND key value`
fn append(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let added = args[2].len();
    let Some(entry) = cx.peek(&args[1]) else {
        store(cx, args, 2, Deadline::Clear);
        cx.reply.count(added);
        return Ok(());
    };
    let total = string_length(entry.value()).saturating_add(added);
    // What is in the log was allowed when it was written.
    if cx.origin != Origin::Replay && total as u64 > cx.registries.config.proto_max_bulk_bytes {
        return Err(STRING_TOO_LONG);
    }
    let key = &args[1];
    cx.db().append(key, &args[2]);
    cx.changed(key);
    cx.reply.count(total);
    Ok(())
}

/// `STRLEN key`
fn strlen(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let len = cx.read(&args[1]).map_or(0, |entry| string_length(entry.value()));
    cx.reply.count(len);
    Ok(())
}

/// Bytes of the string as clients see it.
fn string_length(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Int(n) => itoa::Buffer::new().format(n).len(),
        ValueRef::String(bytes) => bytes.len(),
    }
}
