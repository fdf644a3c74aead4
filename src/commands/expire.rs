//! Deadlines: set, tell, clear.

use super::options::{self, TimeForm};
use crate::engine::command::{Arity, CommandSpec, Doc, Flags, KeySpec};
use crate::engine::cx::{self, Cx, Origin};
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;
use crate::sys::clock::UnixMs;
use Arity::{AtLeast, Exactly};

const READ: Flags = Flags::READONLY.and(Flags::FAST).and(Flags::C_KEYSPACE);
const WRITE: Flags = Flags::WRITE.and(Flags::FAST).and(Flags::C_KEYSPACE);
const READ_KEYS: &[KeySpec] = &[KeySpec::first(&["RO", "access"])];
const WRITE_KEYS: &[KeySpec] = &[KeySpec::first(&["RW", "update"])];

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "expire",
        doc: Doc::new("generic", "1.0.0", "O(1)", "Sets when a key expires, in seconds from now.")
            .takes("key seconds:int [condition(NX|XX|GT|LT)@7.0.0]")
            .changed(&[("7.0.0", "NX, XX, GT and LT.")]),
        arity: AtLeast(3),
        flags: WRITE,
        keys: WRITE_KEYS,
        run: expire,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "pexpire",
        doc: Doc::new(
            "generic",
            "2.6.0",
            "O(1)",
            "Sets when a key expires, in milliseconds from now.",
        )
        .takes("key milliseconds:int [condition(NX|XX|GT|LT)@7.0.0]")
        .changed(&[("7.0.0", "NX, XX, GT and LT.")]),
        arity: AtLeast(3),
        flags: WRITE,
        keys: WRITE_KEYS,
        run: pexpire,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "expireat",
        doc: Doc::new(
            "generic",
            "1.2.0",
            "O(1)",
            "Sets when a key expires, as Unix time in seconds.",
        )
        .takes("key unix-time-seconds:time [condition(NX|XX|GT|LT)@7.0.0]")
        .changed(&[("7.0.0", "NX, XX, GT and LT.")]),
        arity: AtLeast(3),
        flags: WRITE,
        keys: WRITE_KEYS,
        run: expireat,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "pexpireat",
        doc: Doc::new(
            "generic",
            "2.6.0",
            "O(1)",
            "Sets when a key expires, as Unix time in milliseconds.",
        )
        .takes("key unix-time-milliseconds:time [condition(NX|XX|GT|LT)@7.0.0]")
        .changed(&[("7.0.0", "NX, XX, GT and LT.")]),
        arity: AtLeast(3),
        flags: WRITE,
        keys: WRITE_KEYS,
        run: pexpireat,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "ttl",
        doc: Doc::new("generic", "1.0.0", "O(1)", "Tells in how many seconds a key expires.")
            .takes("key")
            .changed(&[("2.8.0", "-2 where there is no key.")]),
        arity: Exactly(2),
        flags: READ,
        keys: READ_KEYS,
        tips: &["nondeterministic_output"],
        run: ttl,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "pttl",
        doc: Doc::new("generic", "2.6.0", "O(1)", "Tells in how many milliseconds a key expires.")
            .takes("key")
            .changed(&[("2.8.0", "-2 where there is no key.")]),
        arity: Exactly(2),
        flags: READ,
        keys: READ_KEYS,
        tips: &["nondeterministic_output"],
        run: pttl,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "expiretime",
        doc: Doc::new(
            "generic",
            "7.0.0",
            "O(1)",
            "Tells when a key expires, as Unix time in seconds.",
        )
        .takes("key"),
        arity: Exactly(2),
        flags: READ,
        keys: READ_KEYS,
        run: expiretime,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "pexpiretime",
        doc: Doc::new(
            "generic",
            "7.0.0",
            "O(1)",
            "Tells when a key expires, as Unix time in milliseconds.",
        )
        .takes("key"),
        arity: Exactly(2),
        flags: READ,
        keys: READ_KEYS,
        run: pexpiretime,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "persist",
        doc: Doc::new("generic", "2.2.0", "O(1)", "Keeps a key from expiring.").takes("key"),
        arity: Exactly(2),
        flags: WRITE,
        keys: WRITE_KEYS,
        run: persist,
        ..CommandSpec::ROW
    },
];

const NX_AND_OTHERS: CommandError =
    CommandError::new("ERR NX and XX, GT or LT options at the same time are not compatible");
const GT_AND_LT: CommandError =
    CommandError::new("ERR GT and LT options at the same time are not compatible");

/// When EXPIRE and its kin set the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// NX: only where there is none. Excludes the others.
    IfNone,
    /// XX, GT, LT, as far as they go together.
    If {
        /// XX: only where there is one.
        some: bool,
        /// GT and LT: only where this is how the new one compares with the old.
        order: Option<Order>,
    },
}

/// How the new deadline must compare with the old; no deadline is later than any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Later,
    Earlier,
}

impl Condition {
    fn parse<'a>(args: impl Iterator<Item = &'a [u8]>) -> Result<Condition, CommandError> {
        let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
        for option in args {
            let known = [("NX", &mut nx), ("XX", &mut xx), ("GT", &mut gt), ("LT", &mut lt)];
            match known.into_iter().find(|(word, _)| options::is(option, word)) {
                Some((_, given)) => *given = true,
                None => {
                    let mut text = b"ERR Unsupported option ".to_vec();
                    text.extend_from_slice(options::c_text(option));
                    return Err(CommandError::owned(text));
                }
            }
        }
        match (nx, xx, gt, lt) {
            (true, false, false, false) => Ok(Condition::IfNone),
            (true, ..) => Err(NX_AND_OTHERS),
            (_, _, true, true) => Err(GT_AND_LT),
            (_, some, true, _) => Ok(Condition::If { some, order: Some(Order::Later) }),
            (_, some, _, true) => Ok(Condition::If { some, order: Some(Order::Earlier) }),
            (_, some, false, false) => Ok(Condition::If { some, order: None }),
        }
    }

    fn admits(self, old: Option<UnixMs>, new: UnixMs) -> bool {
        match self {
            Condition::IfNone => old.is_none(),
            Condition::If { some, order } => {
                (old.is_some() || !some)
                    && match order {
                        None => true,
                        Some(Order::Later) => old.is_some_and(|old| new > old),
                        Some(Order::Earlier) => old.is_none_or(|old| new < old),
                    }
            }
        }
    }
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`
fn expire(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    expire_at(cx, args, TimeForm::SECONDS_FROM_NOW, "expire")
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
fn pexpire(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    expire_at(cx, args, TimeForm::MS_FROM_NOW, "pexpire")
}

/// `EXPIREAT key unix-seconds [NX | XX | GT | LT]`
fn expireat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    expire_at(cx, args, TimeForm::UNIX_SECONDS, "expireat")
}

/// `PEXPIREAT key unix-milliseconds [NX | XX | GT | LT]`
fn pexpireat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    expire_at(cx, args, TimeForm::UNIX_MS, "pexpireat")
}

fn expire_at(cx: &mut Cx<'_>, args: &mut Args<'_>, form: TimeForm, command: &str) -> CommandResult {
    let condition = Condition::parse(args.from(3))?;
    let count = options::integer(&args[2])?;
    // A moment before 1970 is as good as any other in the past.
    let deadline =
        form.moment(count, cx.now).ok_or_else(|| options::invalid_expire_time(command))?;
    let key = &args[1];
    let is_set = match cx.peek(key) {
        Some(entry) => condition.admits(entry.deadline(), deadline),
        None => false,
    };
    if is_set {
        set_deadline(cx, key, deadline);
    }
    cx.reply.integer(i64::from(is_set));
    Ok(())
}

/// Sets the deadline of a key that exists, or deletes the key if the deadline has come already,
/// and logs which of the two. A replay only ever sets: whether a key has expired since, is decided
/// once all is loaded.
pub(super) fn set_deadline(cx: &mut Cx<'_>, key: &[u8], deadline: UnixMs) {
    if deadline <= cx.now && cx.origin != Origin::Replay {
        cx.propagate_as(&[cx::deletion(cx.registries), key]);
        if let Some(entry) = cx.db().take(key) {
            cx::discard_expired(cx.registries, cx.effects, entry);
        }
    } else {
        let mut digits = itoa::Buffer::new();
        cx.propagate_as(&[b"PEXPIREAT", key, digits.format(deadline.0).as_bytes()]);
        cx.db().set_deadline(key, Some(deadline));
    }
    cx.changed(key);
}

/// `PERSIST key`
fn persist(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = &args[1];
    let is_volatile = cx.peek(key).is_some_and(|entry| entry.deadline().is_some());
    if is_volatile {
        cx.db().set_deadline(key, None);
        cx.changed(key);
    }
    cx.reply.integer(i64::from(is_volatile));
    Ok(())
}

/// `TTL key`
fn ttl(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    reply_deadline(cx, &args[1], TimeForm::SECONDS_FROM_NOW)
}

/// `PTTL key`
fn pttl(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    reply_deadline(cx, &args[1], TimeForm::MS_FROM_NOW)
}

/// `EXPIRETIME key`
fn expiretime(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    reply_deadline(cx, &args[1], TimeForm::UNIX_SECONDS)
}

/// `PEXPIRETIME key`
fn pexpiretime(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    reply_deadline(cx, &args[1], TimeForm::UNIX_MS)
}

/// Replies with the deadline in `form`, rounded to its unit; -1 if there is none, -2 if there is no
/// such key.
fn reply_deadline(cx: &mut Cx<'_>, key: &[u8], form: TimeForm) -> CommandResult {
    let start = if form.relative { cx.now.0 } else { 0 };
    let shown = match cx.glance(key).map(|entry| entry.deadline()) {
        None => -2,
        Some(None) => -1,
        Some(Some(deadline)) => {
            let ms = deadline.0.saturating_sub(start).max(0);
            // Half a unit more would not fit behind the last moments there are.
            let unit_ms = form.unit_ms;
            ms / unit_ms + i64::from(ms % unit_ms * 2 >= unit_ms)
        }
    };
    cx.reply.integer(shown);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::bench;
    use crate::engine::testing::START;

    #[test]
    fn every_form_sets_and_tells_a_deadline() {
        let mut b = bench();
        for (line, reply) in [
            ("SET k v", "+OK"),
            ("TTL k", ":-1"),
            ("PEXPIRETIME k", ":-1"),
            ("TTL n", ":-2"),
            ("EXPIRETIME n", ":-2"),
            ("EXPIRE n 10", ":0"),
            ("EXPIRE k 10", ":1"),
            ("PTTL k", ":10000"),
            ("PEXPIRE k 1499", ":1"),
            ("TTL k", ":1"),
            ("PEXPIRE k 1500", ":1"),
            ("TTL k", ":2"),
            ("EXPIREAT k 2000000009", ":1"),
            ("PTTL k", ":9000"),
            ("EXPIRETIME k", ":2000000009"),
            ("PEXPIREAT k 2000000000500", ":1"),
            ("PEXPIRETIME k", ":2000000000500"),
            ("EXPIRETIME k", ":2000000001"),
            ("PERSIST k", ":1"),
            ("PERSIST k", ":0"),
            ("PERSIST n", ":0"),
            ("PEXPIREAT k 9223372036854775807", ":1"),
            ("EXPIRETIME k", ":9223372036854776"),
            ("PEXPIRETIME k", ":9223372036854775807"),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
    }

    #[test]
    fn conditions_compare_with_the_old_deadline() {
        // Deadlines in seconds from now, 0 for none: old, condition, new, whether it is set.
        for (old, condition, new, is_set) in [
            (0, "NX", 20, true),
            (10, "NX", 20, false),
            (0, "XX", 20, false),
            (10, "XX", 20, true),
            (0, "GT", 20, false),
            (10, "GT", 20, true),
            (20, "GT", 20, false),
            (30, "GT", 20, false),
            (0, "LT", 20, true),
            (10, "LT", 20, false),
            (20, "LT", 20, false),
            (30, "LT", 20, true),
            (0, "XX LT", 20, false),
            (30, "lt xx", 20, true),
            (10, "XX GT gt", 20, true),
            (30, "XX GT", 20, false),
        ] {
            let case = format!("{old} {condition} {new}");
            let mut b = bench();
            b.send("SET k v");
            if old > 0 {
                b.send(&format!("EXPIRE k {old}"));
            }
            b.log();
            let reply = b.send(&format!("EXPIRE k {new} {condition}"));
            assert_eq!(reply, format!(":{}", i32::from(is_set)), "{case}");
            let log = if is_set { vec!["PEXPIREAT k 2000000020000"] } else { vec![] };
            assert_eq!(b.log(), log, "{case}");
        }
    }

    #[test]
    fn wrong_options_and_numbers_are_refused_in_redis_order() {
        const INTEGER: &str = "-ERR value is not an integer or out of range";
        const NX: &str = "-ERR NX and XX, GT or LT options at the same time are not compatible";
        const GT: &str = "-ERR GT and LT options at the same time are not compatible";
        let mut b = bench();
        b.send("SET k v");
        for (line, error) in [
            ("EXPIRE k x foo", "-ERR Unsupported option foo"),
            ("EXPIRE k x NX XX", NX),
            ("EXPIRE k x NX GT LT", NX),
            ("EXPIRE k x GT LT", GT),
            ("EXPIRE k x XX", INTEGER),
            ("EXPIRE n x", INTEGER),
            ("EXPIRE n 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
            ("EXPIRE k -9223372036854776", "-ERR invalid expire time in 'expire' command"),
            ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
            ("EXPIREAT k 9223372036854776", "-ERR invalid expire time in 'expireat' command"),
            ("TTL k", ":-1"),
        ] {
            assert_eq!(b.send(line), error, "{line}");
        }
        let reply = b.run(&[b"EXPIRE", b"k", b"1", b"a\r\nb\0c"]);
        assert_eq!(reply, b"-ERR Unsupported option a  b\r\n", "an error is one line");
    }

    #[test]
    fn a_deadline_that_has_come_deletes_and_logs_del() {
        for line in [
            "EXPIRE k 0",
            "EXPIRE k -1",
            "PEXPIRE k -9223372036854775808",
            "EXPIREAT k 1",
            "PEXPIREAT k -5",
            "PEXPIREAT k 2000000000000",
        ] {
            let mut b = bench();
            b.send("SET k v");
            b.log();
            assert_eq!(b.send(line), ":1", "{line}");
            assert_eq!(b.log(), ["DEL k"], "{line}");
            assert_eq!(b.contents(), [""; 0], "{line}");
        }
    }

    #[test]
    fn a_key_lives_to_the_end_of_its_last_millisecond() {
        let mut b = bench();
        b.send("SET k v PX 5");
        assert_eq!(b.advance_ms(5).send("PTTL k"), ":0");
        assert_eq!(b.advance_ms(1).send("PTTL k"), ":-2");
        assert_eq!(b.registries.stats.expired_keys, 1);
    }

    #[test]
    fn a_replay_stores_past_deadlines_and_expires_nothing() {
        let mut b = bench();
        for line in
            ["SET a v", "EXPIRE a 10", "SET b v PX 1", "SET c v", "EXPIRE c 10", "PERSIST c"]
        {
            b.send(line);
        }
        let mut late = bench();
        late.now.0 = START.0 + 1_000_000;
        b.replay_into(&mut late);
        let all = ["0 a=v @2000000010000", "0 b=v @2000000000001", "0 c=v"];
        assert_eq!(late.contents(), all);
        assert_eq!(late.send("EXISTS a b c"), ":1");
        assert_eq!(late.log(), ["DEL a", "DEL b"]);
    }

    #[test]
    fn a_pause_begun_inside_a_transaction_does_not_keep_lapsed_keys_for_the_rest_of_it() {
        for (write, reply) in [("INCR k", ":1"), ("APPEND k x", ":1"), ("SETRANGE k 0 x", ":1")] {
            let mut b = bench();
            assert_eq!(b.send("SET k 5 PX 10"), "+OK");
            b.advance_ms(11);
            for line in ["MULTI", "CLIENT PAUSE 1000 WRITE", write] {
                b.send(line);
            }
            assert_eq!(b.send("EXEC"), format!("*2 +OK {reply}"), "{write}");
            assert_eq!(b.log(), ["SET k 5 PXAT 2000000000010", "DEL k", write]);
            b.advance_ms(1_000);
            assert_eq!(b.send("TTL k"), ":-1", "{write}: it is there for good");
        }
    }

    #[test]
    fn a_lapsed_key_is_no_random_one_behind_a_pause_in_the_same_transaction() {
        let mut b = bench();
        b.send("SET k 5 PX 10");
        b.advance_ms(11);
        for line in ["MULTI", "CLIENT PAUSE 1000 WRITE", "RANDOMKEY"] {
            b.send(line);
        }
        assert_eq!(b.send("EXEC"), "*2 +OK $-1");
        assert_eq!(b.log().last().map(String::as_str), Some("DEL k"));
    }

    #[test]
    fn a_transaction_that_only_reads_during_a_pause_leaves_lapsed_keys() {
        let mut b = bench();
        b.send("SET k 5 PX 10");
        b.advance_ms(11).send("CLIENT PAUSE 1000 WRITE");
        for (line, reply) in [("MULTI", "+OK"), ("GET k", "+QUEUED"), ("EXEC", "*1 $-1")] {
            assert_eq!(b.send(line), reply);
        }
        assert_eq!(b.send("DBSIZE"), ":1");
    }

    #[test]
    fn whoever_finds_a_key_lapsed_has_not_written() {
        let mut b = bench();
        b.send("SET k 5 PX 10");
        assert!(b.has_written);
        b.advance_ms(11);
        assert_eq!(b.send("GET k"), "$-1");
        assert!(!b.has_written);
        assert_eq!(b.log().last().map(String::as_str), Some("DEL k"));
        for (line, has_written) in [
            ("SET k 5 PX 10", true),
            ("GETEX k PX 20", true),
            ("DEL none", false),
            ("MULTI", false),
            ("INCR k", false),
            ("EXEC", true),
            ("EXPIRE k 0", true),
        ] {
            b.send(line);
            assert_eq!(b.has_written, has_written, "{line}");
        }
    }
}
