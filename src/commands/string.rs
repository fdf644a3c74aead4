//! Strings: set, get, append.

use super::options::{self, TimeForm};
use crate::data::{NewValue, ValueRef};
use crate::engine::command::{Arity, CommandSpec, Doc, Flags, KeySpec};
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
        doc: Doc::new("string", "1.0.0", "O(1)", "Reads a string.").takes("key"),
        arity: Exactly(2),
        flags: READ.and(Flags::FAST),
        keys: &[KeySpec::first(&["RO", "access"])],
        run: get,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "set",
        doc: Doc::new("string", "1.0.0", "O(1)", "Writes a string, whatever the key held before.")
            .takes(
                "key value [condition(NX|XX)@2.6.12] [GET@6.2.0] \
             [expiration(EX=seconds:int@2.6.12|PX=milliseconds:int@2.6.12|\
             EXAT=unix-time-seconds:time@6.2.0|\
             PXAT=unix-time-milliseconds:time@6.2.0|KEEPTTL@6.0.0)]",
            )
            .changed(&[
                ("2.6.12", "EX, PX, NX and XX."),
                ("6.0.0", "KEEPTTL."),
                ("6.2.0", "GET, EXAT and PXAT."),
                ("7.0.0", "NX and GET go together."),
            ]),
        arity: AtLeast(3),
        flags: GROW,
        keys: &[KeySpec::first(&["RW", "access", "update", "variable_flags"])
            .noted("RW and ACCESS due to the optional `GET` argument")],
        run: set,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "setnx",
        doc: Doc::new("string", "1.0.0", "O(1)", "Writes a string unless the key exists.")
            .takes("key value"),
        arity: Exactly(3),
        flags: GROW.and(Flags::FAST),
        keys: &[KeySpec::first(&["OW", "insert"])],
        run: setnx,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "setex",
        doc: Doc::new(
            "string",
            "2.0.0",
            "O(1)",
            "Writes a string that expires, with the time in seconds.",
        )
        .takes("key seconds:int value"),
        arity: Exactly(4),
        flags: GROW,
        keys: &[KeySpec::first(&["OW", "update"])],
        run: setex,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "psetex",
        doc: Doc::new(
            "string",
            "2.6.0",
            "O(1)",
            "Writes a string that expires, with the time in milliseconds.",
        )
        .takes("key milliseconds:int value"),
        arity: Exactly(4),
        flags: GROW,
        keys: &[KeySpec::first(&["OW", "update"])],
        run: psetex,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "getset",
        doc: Doc::new("string", "1.0.0", "O(1)", "Writes a string and tells what it was before.")
            .takes("key value")
            .deprecated("6.2.0", "`SET` with its `GET` option"),
        arity: Exactly(3),
        flags: GROW.and(Flags::FAST),
        keys: &[KeySpec::first(&["RW", "access", "update"])],
        run: getset,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "getdel",
        doc: Doc::new("string", "6.2.0", "O(1)", "Reads a string and deletes the key.")
            .takes("key"),
        arity: Exactly(2),
        flags: WRITE.and(Flags::FAST),
        keys: &[KeySpec::first(&["RW", "access", "delete"])],
        run: getdel,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "getex",
        doc: Doc::new("string", "6.2.0", "O(1)", "Reads a string and changes when it expires.")
            .takes(
                "key [expiration(EX=seconds:int|PX=milliseconds:int|\
             EXAT=unix-time-seconds:time|PXAT=unix-time-milliseconds:time|PERSIST)]",
            ),
        arity: AtLeast(2),
        flags: WRITE.and(Flags::FAST),
        keys: &[KeySpec::first(&["RW", "access", "update"])
            .noted("RW and UPDATE because it changes the TTL")],
        run: getex,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "mget",
        doc: Doc::new("string", "1.0.0", "O(N)", "Reads several strings.").takes("key..."),
        arity: AtLeast(2),
        flags: READ.and(Flags::FAST),
        keys: &[KeySpec::each(1, &["RO", "access"])],
        tips: &["request_policy:multi_shard"],
        run: mget,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "mset",
        doc: Doc::new("string", "1.0.1", "O(N)", "Writes several strings at once.")
            .takes("key_value(key value)..."),
        arity: AtLeast(3),
        flags: GROW,
        keys: &[KeySpec::each(2, &["OW", "update"])],
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        run: mset,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "msetnx",
        doc: Doc::new(
            "string",
            "1.0.1",
            "O(N)",
            "Writes several strings unless one of the keys exists.",
        )
        .takes("key_value(key value)..."),
        arity: AtLeast(3),
        flags: GROW,
        keys: &[KeySpec::each(2, &["OW", "insert"])],
        tips: &["request_policy:multi_shard", "response_policy:agg_min"],
        run: msetnx,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "append",
        doc: Doc::new("string", "2.0.0", "O(1)", "Adds to the end of a string.").takes("key value"),
        arity: Exactly(3),
        flags: GROW.and(Flags::FAST),
        keys: &[KeySpec::first(&["RW", "insert"])],
        run: append,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "strlen",
        doc: Doc::new("string", "2.2.0", "O(1)", "Tells the length of a string.").takes("key"),
        arity: Exactly(2),
        flags: READ.and(Flags::FAST),
        keys: &[KeySpec::first(&["RO"])],
        run: strlen,
        ..CommandSpec::ROW
    },
];

/// No string may be longer than an argument.
pub(super) const STRING_TOO_LONG: CommandError =
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
        cx.prepare_to_set(&args[1]);
        store(cx, args, 2, Deadline::Clear);
        cx.reply.ok();
        return Ok(());
    }
    let SetOptions { condition, lifetime, get } = SetOptions::parse(args.from(3))?;
    let deadline = match lifetime {
        Lifetime::Forever => Deadline::Clear,
        Lifetime::AsBefore => Deadline::Keep,
        Lifetime::Until(form, number) => Deadline::At(form.positive(number, cx.now, "set")?),
    };
    let is_relative = matches!(lifetime, Lifetime::Until(form, _) if form != TimeForm::UNIX_MS);
    if get {
        reply_value(cx, &args[1])?;
    }
    let is_met = match condition {
        Condition::Always => {
            cx.prepare_to_set(&args[1]);
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
    // The client's own bytes would do in the other cases, and are the cheapest.
    if get || is_relative || condition != Condition::Always {
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
    cx.prepare_to_set(&args[1]);
    propagate_set(cx, &args[1], &args[3], deadline);
    store(cx, args, 3, deadline);
    cx.reply.ok();
    Ok(())
}

/// `GETSET key value`
fn getset(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    reply_value(cx, &args[1])?;
    cx.prepare_to_set(&args[1]);
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
    cx.discard_old_value(&args[key]);
    cx.set(&args[key], new, deadline);
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
        cx.delete_in(cx.session.db, key);
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
        cx.prepare_to_set(&args[key]);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench;
    use crate::engine::testing::START;
    use crate::resp::parse::LARGE_ARG_BYTES;

    #[test]
    fn set_takes_all_its_options() {
        let mut b = bench();
        for (line, reply) in [
            ("SET k v", "+OK"),
            ("SET k w NX", "$-1"),
            ("SET n w XX", "$-1"),
            ("SET k 1 XX", "+OK"),
            ("SET k 2 GET", "$1 1"),
            ("SET n 3 GET", "$-1"),
            ("SET n 4 NX GET", "$1 3"),
            ("SET m 4 XX GET", "$-1"),
            ("EXISTS m", ":0"),
            ("SET k v EX 100", "+OK"),
            ("TTL k", ":100"),
            ("SET k v KEEPTTL", "+OK"),
            ("TTL k", ":100"),
            ("SET k v PX 1500 GET", "$1 v"),
            ("PTTL k", ":1500"),
            ("SET k v EXAT 2000000100", "+OK"),
            ("TTL k", ":100"),
            ("SET k v pxat 2000000000007", "+OK"),
            ("PTTL k", ":7"),
            ("SET k v ex 10 EX 20", "+OK"),
            ("TTL k", ":20"),
            ("SET k v", "+OK"),
            ("TTL k", ":-1"),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
    }

    #[test]
    fn set_refuses_what_does_not_fit_together_and_changes_nothing() {
        const SYNTAX: &str = "-ERR syntax error";
        const TIME: &str = "-ERR invalid expire time in 'set' command";
        const INTEGER: &str = "-ERR value is not an integer or out of range";
        let mut b = bench();
        b.send("SET k v PXAT 2000000000007");
        let before = b.contents();
        b.log();
        for (options, error) in [
            ("NX XX", SYNTAX),
            ("XX NX", SYNTAX),
            ("EX 1 PX 1", SYNTAX),
            ("EX 1 KEEPTTL", SYNTAX),
            ("KEEPTTL EX 1", SYNTAX),
            ("EX", SYNTAX),
            ("PERSIST", SYNTAX),
            ("bogus", SYNTAX),
            ("EX 0", TIME),
            ("PX -1", TIME),
            ("EXAT -1", TIME),
            ("EX 9223372036854775807", TIME),
            ("PX 9223372036854775807", TIME),
            ("EXAT 9223372036854776", TIME),
            ("EX 1.5", INTEGER),
            ("EX a GET", INTEGER),
            ("NX EX a", INTEGER),
        ] {
            assert_eq!(b.send(&format!("SET k w {options}")), error, "{options}");
        }
        assert_eq!(b.contents(), before);
        assert_eq!(b.log(), [""; 0]);
    }

    #[test]
    fn options_end_at_a_zero_byte_as_in_c() {
        let mut b = bench();
        assert_eq!(b.run(&[b"SET", b"k", b"v", b"eX\0junk", b"10"]), b"+OK\r\n");
        assert_eq!(b.run(&[b"SET", b"k", b"v", b"E\0X", b"10"]), b"-ERR syntax error\r\n");
    }

    #[test]
    fn the_log_has_absolute_deadlines_and_outcomes() {
        let mut b = bench();
        for (line, log) in [
            ("set k v", vec!["set k v"]),
            ("SET k v EX 10", vec!["SET k v PXAT 2000000010000"]),
            ("SET k v PX 10", vec!["SET k v PXAT 2000000000010"]),
            ("SET k v EXAT 2000000003", vec!["SET k v PXAT 2000000003000"]),
            ("SET k v PXAT 2000000000009", vec!["SET k v PXAT 2000000000009"]),
            ("SET k v GET KEEPTTL", vec!["SET k v KEEPTTL"]),
            ("SET k v XX", vec!["SET k v"]),
            ("SET k v NX", vec![]),
            ("SETNX k w", vec![]),
            ("SETNX n 1", vec!["SETNX n 1"]),
            ("SETEX k 5 v", vec!["SET k v PXAT 2000000005000"]),
            ("PSETEX k 5 v", vec!["SET k v PXAT 2000000000005"]),
            ("GETSET k w", vec!["SET k w"]),
            ("GETEX k", vec![]),
            ("GETEX k EX 7", vec!["PEXPIREAT k 2000000007000"]),
            ("GETEX k PERSIST", vec!["PERSIST k"]),
            ("GETEX k PERSIST", vec![]),
            ("GETEX k PXAT 1", vec!["DEL k"]),
            ("GETDEL k", vec![]),
            ("GETDEL n", vec!["DEL n"]),
            ("MSET a 1 b 2", vec!["MSET a 1 b 2"]),
            ("MSETNX b 1 c 2", vec![]),
            ("MSETNX c 1 d 2", vec!["MSETNX c 1 d 2"]),
            ("APPEND a x", vec!["APPEND a x"]),
            ("APPEND a ''", vec!["APPEND a "]),
            ("GET a", vec![]),
        ] {
            b.send(line);
            assert_eq!(b.log(), log, "{line}");
        }
    }

    #[test]
    fn a_key_past_its_deadline_is_gone_and_its_del_is_logged_first() {
        let cases = [
            ("GET k", "$-1", vec!["DEL k"]),
            ("SET k w KEEPTTL", "+OK", vec!["DEL k", "SET k w KEEPTTL"]),
            ("SET k w XX", "$-1", vec!["DEL k"]),
            ("SET k w NX", "+OK", vec!["DEL k", "SET k w"]),
            ("SET k w", "+OK", vec!["DEL k", "SET k w"]),
            ("GETSET k w", "$-1", vec!["DEL k", "SET k w"]),
            ("SETNX k w", ":1", vec!["DEL k", "SETNX k w"]),
            ("MSET k w", "+OK", vec!["DEL k", "MSET k w"]),
            ("MSETNX k w", ":1", vec!["DEL k", "MSETNX k w"]),
            ("APPEND k w", ":1", vec!["DEL k", "APPEND k w"]),
            ("STRLEN k", ":0", vec!["DEL k"]),
            ("GETEX k EX 5", "$-1", vec!["DEL k"]),
            ("GETDEL k", "$-1", vec!["DEL k"]),
            ("MGET k k", "*2 $-1 $-1", vec!["DEL k"]),
        ];
        for (line, reply, log) in cases {
            let mut b = bench();
            b.send("SET k old PX 5");
            b.advance_ms(6).log();
            assert_eq!(b.send(line), reply, "{line}");
            assert_eq!(b.log(), log, "{line}");
            assert_eq!(b.registries.stats.expired_keys, 1, "{line}");
            assert!(b.contents().iter().all(|line| line == "0 k=w"), "{:?}", b.contents());
        }
    }

    #[test]
    fn the_log_replays_to_the_same_state_at_any_time() {
        let mut b = bench();
        for line in [
            "SET a 1 EX 10",
            "SET a 2 KEEPTTL",
            "SET b 1 PXAT 1",
            "SET b 2 NX",
            "GETEX a EXAT 3000000000",
            "SETEX c 1 v",
            "GETSET c w",
            "APPEND c x",
            "MSET d 1 e 2",
            "GETEX d PX 77",
            "GETDEL e",
            "SET f v PX 3",
        ] {
            b.send(line);
        }
        for ms in [-1_000_000_000_000, 0, 1_000_000_000_000] {
            let mut later = bench();
            later.now.0 = START.0 + ms;
            b.replay_into(&mut later);
            assert_eq!(later.contents(), b.contents(), "replayed {ms} ms later");
            assert_eq!(later.log(), [""; 0]);
        }
    }

    #[test]
    fn getex_and_getdel_and_getset_reply_with_the_old_value() {
        let mut b = bench();
        for (line, reply) in [
            ("GETSET k 5", "$-1"),
            ("GETSET k w", "$1 5"),
            ("GETEX k EX 10 PERSIST", "-ERR syntax error"),
            ("GETEX k PERSIST EX 10", "-ERR syntax error"),
            ("GETEX k PERSIST PERSIST", "$1 w"),
            ("GETEX k KEEPTTL", "-ERR syntax error"),
            ("GETEX k NX", "-ERR syntax error"),
            ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command"),
            ("GETEX missing EX 0", "$-1"),
            ("GETEX missing EX", "-ERR syntax error"),
            ("GETEX k PX 1500", "$1 w"),
            ("PTTL k", ":1500"),
            ("GETDEL k", "$1 w"),
            ("GETDEL k", "$-1"),
            ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command"),
            ("PSETEX k -1 v", "-ERR invalid expire time in 'psetex' command"),
            ("SETEX k x v", "-ERR value is not an integer or out of range"),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
    }

    #[test]
    fn many_keys_at_once() {
        let mut b = bench();
        for (line, reply) in [
            ("MSET a 1 b x a 2", "+OK"),
            ("MGET a b c", "*3 $1 2 $1 x $-1"),
            ("MSETNX c 1 b 2", ":0"),
            ("MSETNX c 1 c 2", ":1"),
            ("GET c", "$1 2"),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
            ("MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command"),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
        assert_eq!(b.keyspace.dirty, 5, "each pair is a change");
        assert_eq!(b.resp3().send("MGET a nothing"), "*2 $1 2 _");
    }

    #[test]
    fn append_and_strlen_see_integers_as_text() {
        let mut b = bench();
        for (line, reply) in [
            ("APPEND k -12", ":3"),
            ("STRLEN k", ":3"),
            ("APPEND k 34", ":5"),
            ("GET k", "$5 -1234"),
            ("INCR k", ":-1233"),
            ("STRLEN k", ":5"),
            ("APPEND k ''", ":5"),
            ("STRLEN nothing", ":0"),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
    }

    #[test]
    fn append_stops_at_the_longest_string_but_not_in_a_replay() {
        let mut b = bench();
        b.registries.config.proto_max_bulk_bytes = 8;
        b.send("APPEND k 12345");
        assert_eq!(b.send("APPEND k 678"), ":8");
        let refused = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        assert_eq!(b.send("APPEND k 9"), refused);
        assert_eq!(b.send("GET k"), "$8 12345678");
        b.origin = Origin::Replay;
        b.run(&[b"APPEND", b"k", b"9"]);
        assert_eq!(b.contents(), ["0 k=123456789"]);
    }

    #[test]
    fn large_values_are_moved_in_and_logged_whole() {
        let large = vec![b'x'; LARGE_ARG_BYTES];
        let other = vec![b'y'; LARGE_ARG_BYTES];
        let commands: [&[&[u8]]; 7] = [
            &[b"SET", b"k", &large],
            &[b"SET", b"k", &other, b"EX", b"10"],
            &[b"SET", b"k", &large, b"GET"],
            &[b"SETEX", b"k", b"10", &other],
            &[b"GETSET", b"k", &large],
            &[b"MSET", b"k", &other, b"l", &large],
            &[b"APPEND", b"m", &large],
        ];
        let mut b = bench();
        let mut replayed = bench();
        for command in commands {
            b.run(command);
            b.replay_into(&mut replayed);
            b.log();
            assert_eq!(replayed.contents(), b.contents());
        }
        assert_eq!(b.send("STRLEN l"), format!(":{LARGE_ARG_BYTES}"));
    }

    #[test]
    fn each_change_is_counted_and_breaks_transactions_that_watch() {
        for (line, changes) in [
            ("SET k w", 1),
            ("SET k w GET", 1),
            ("SET k w NX", 0),
            ("SETNX k w", 0),
            ("SETEX k 5 w", 1),
            ("GETSET k w", 1),
            ("GET k", 0),
            ("GETEX k", 0),
            ("GETEX k EX 5", 1),
            ("GETEX k EXAT 5", 1),
            ("GETEX k PERSIST", 1),
            ("GETDEL k", 1),
            ("MSET k w n w", 2),
            ("MSETNX n w k w", 0),
            ("APPEND k ''", 1),
            ("INCR k", 1),
            ("INCRBYFLOAT k 0", 1),
            ("PEXPIRE k 5", 1),
            ("PEXPIRE k 5 NX", 0),
            ("PEXPIRE k 0", 1),
            ("PERSIST k", 1),
            ("DEL k", 1),
        ] {
            let mut b = bench();
            b.send("SET k 1 EX 100");
            b.keyspace.watch(9, 0, b"k", b.now);
            b.keyspace.dirty = 0;
            b.send(line);
            assert_eq!(b.keyspace.dirty, changes, "{line}");
            assert_eq!(b.keyspace.watch_broken(9, b.now), changes > 0, "{line}");
        }
    }

    #[test]
    fn hits_and_misses_are_counted_where_redis_counts_them() {
        let mut b = bench();
        for (line, hits, misses) in [
            ("SET k v", 0, 0),
            ("GET k", 1, 0),
            ("GET n", 0, 1),
            ("SET k v GET", 1, 0),
            ("MGET k n", 1, 1),
            ("STRLEN k", 1, 0),
            ("APPEND k v", 0, 0),
            ("SETNX k v", 0, 0),
            ("GETSET k v", 1, 0),
            ("GETEX n", 0, 1),
            ("GETDEL k", 1, 0),
        ] {
            b.registries.stats = Default::default();
            b.send(line);
            let stats = &b.registries.stats;
            assert_eq!((stats.keyspace_hits, stats.keyspace_misses), (hits, misses), "{line}");
        }
    }
}
