//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: several commands as one.

use crate::engine::command::Arity::{AtLeast, Exactly};
use crate::engine::command::{CommandSpec, Doc, Flags, KeySpec};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::engine::execute::{call, end_transaction};
use crate::engine::session::Transaction;
use crate::resp::args::Args;

const COMMON: Flags =
    Flags::C_TRANSACTION.and(Flags::NO_SCRIPT).and(Flags::LOADING).and(Flags::STALE);
const FAST: Flags = COMMON.and(Flags::FAST).and(Flags::ALLOW_BUSY);

/// The commands of this family.
///
/// WATCH and UNWATCH reply the same whatever the keys hold; EXEC does not: that a watched key was
/// changed is knowledge of a write.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "multi",
        doc: Doc::new("transactions", "1.2.0", "O(1)", "Begins a transaction."),
        arity: Exactly(1),
        flags: FAST.and(Flags::NOT_QUEUED).and(Flags::NO_KEYS),
        run: multi,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "exec",
        doc: Doc::new("transactions", "1.2.0", "O(N)", "Runs the transaction."),
        arity: Exactly(1),
        flags: COMMON.and(Flags::SKIP_SLOWLOG).and(Flags::NOT_QUEUED),
        run: exec,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "discard",
        doc: Doc::new("transactions", "2.0.0", "O(N)", "Gives the transaction up."),
        arity: Exactly(1),
        flags: FAST.and(Flags::NOT_QUEUED).and(Flags::NO_KEYS),
        run: discard,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "watch",
        doc: Doc::new(
            "transactions",
            "2.2.0",
            "O(1)",
            "Lets the next transaction fail if one of the keys changes before.",
        )
        .takes("key..."),
        arity: AtLeast(2),
        flags: FAST.and(Flags::NOT_QUEUED).and(Flags::NO_KEYS),
        keys: &[KeySpec { flags: &["RO"], notes: "", first: 1, last: -1, step: 1 }],
        run: watch,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "unwatch",
        doc: Doc::new("transactions", "2.2.0", "O(1)", "Forgets the watched keys."),
        arity: Exactly(1),
        flags: FAST.and(Flags::NO_KEYS),
        run: unwatch,
        ..CommandSpec::ROW
    },
];

const NESTED: CommandError = CommandError::new("ERR MULTI calls can not be nested");
const WATCH_INSIDE: CommandError = CommandError::new("ERR WATCH inside MULTI is not allowed");
const EXEC_WITHOUT: CommandError = CommandError::new("ERR EXEC without MULTI");
const DISCARD_WITHOUT: CommandError = CommandError::new("ERR DISCARD without MULTI");
const ABORTED: CommandError =
    CommandError::new("EXECABORT Transaction discarded because of previous errors.");

fn multi(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    if cx.session.in_transaction() {
        return Err(NESTED);
    }
    cx.session.transaction = Some(Box::<Transaction>::default());
    cx.reply.ok();
    Ok(())
}

fn discard(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    if !cx.session.in_transaction() {
        return Err(DISCARD_WITHOUT);
    }
    end_transaction(cx);
    cx.reply.ok();
    Ok(())
}

fn watch(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if cx.session.in_transaction() {
        return Err(WATCH_INSIDE);
    }
    for key in args.from(1) {
        cx.keyspace.watch(cx.session.id, cx.session.db, key, cx.now);
    }
    cx.session.watching = true;
    cx.reply.ok();
    Ok(())
}

fn unwatch(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    if std::mem::take(&mut cx.session.watching) {
        cx.keyspace.watched.unwatch_all(cx.session.id);
    }
    cx.reply.ok();
    Ok(())
}

/// Runs what was queued. Each command logs what it changed itself; EXEC adds nothing to that.
fn exec(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    let is_dirty = cx.session.watching && cx.keyspace.watch_broken(cx.session.id, cx.now);
    let Some(transaction) = cx.session.transaction.take() else { return Err(EXEC_WITHOUT) };
    end_transaction(cx);
    if transaction.aborted {
        return Err(ABORTED);
    }
    if is_dirty {
        cx.reply.null_array();
        return Ok(());
    }
    cx.effects.propagate_nothing();
    cx.session.in_exec = true;
    cx.session.in_unpaused_exec = cx.registries.paused(cx.now).is_none();
    cx.reply.array(transaction.queue.len());
    for mut queued in transaction.queue {
        call(cx, queued.command, &mut queued.args.as_args());
    }
    cx.session.in_exec = false;
    cx.session.in_unpaused_exec = false;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ROWS;
    use crate::data::NewValue;
    use crate::engine::command::{Arity, CommandSpec, Flags};
    use crate::engine::cx::Cx;
    use crate::engine::error::{CommandError, CommandResult};
    use crate::engine::testing::Bench;
    use crate::keyspace::database::Deadline;
    use crate::resp::args::Args;
    use crate::sys::clock::UnixMs;

    /// Just enough commands to have transactions of.
    static DATA: &[CommandSpec] = &[
        CommandSpec {
            name: "set",
            arity: Arity::Exactly(3),
            flags: Flags::WRITE,
            run: set,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "get",
            arity: Arity::Exactly(2),
            flags: Flags::READONLY,
            run: get,
            ..CommandSpec::ROW
        },
        CommandSpec { name: "fail", run: fail, ..CommandSpec::ROW },
    ];

    fn set(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
        cx.db().set(&args[1], NewValue::Bytes(&args[2]), Deadline::Clear);
        cx.changed(&args[1]);
        cx.reply.ok();
        Ok(())
    }

    fn get(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
        let found = cx.read(&args[1]).is_some();
        cx.reply.integer(found.into());
        Ok(())
    }

    fn fail(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
        cx.reply.array(2);
        Err(CommandError::WRONG_TYPE)
    }

    fn bench() -> Bench {
        Bench::new(&[ROWS, DATA])
    }

    /// Sends lines of `<line> => <reply>`; `2> line` comes from another client.
    fn check(bench: &mut Bench, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (command, reply) = line.split_once(" => ").expect("line => reply");
            let (client, command) = match command.strip_prefix("2> ") {
                Some(command) => (1, command),
                None => (0, command),
            };
            assert_eq!(bench.client(client).send(command), reply, "{line}");
        }
        bench.client(0);
    }

    #[test]
    fn queued_commands_run_at_exec_and_log_themselves() {
        let mut bench = bench();
        check(
            &mut bench,
            "multi => +OK
             set a 1 => +QUEUED
             fail => +QUEUED
             get a => +QUEUED
             get b => +QUEUED",
        );
        assert_eq!(bench.log(), Vec::<String>::new());
        check(
            &mut bench,
            "exec => *4 +OK -WRONGTYPE Operation against a key holding the wrong kind of value :1 :0
             get a => :1
             exec => -ERR EXEC without MULTI",
        );
        assert_eq!(bench.log(), ["set a 1"]);
        assert!(!bench.session().in_exec);
    }

    #[test]
    fn what_cannot_be_queued_aborts_but_misplaced_multi_and_watch_do_not() {
        check(
            &mut bench(),
            "exec => -ERR EXEC without MULTI
             discard => -ERR DISCARD without MULTI
             multi => +OK
             multi => -ERR MULTI calls can not be nested
             watch a => -ERR WATCH inside MULTI is not allowed
             set a 1 => +QUEUED
             exec => *1 +OK
             multi => +OK
             set a => -ERR wrong number of arguments for 'set' command
             set a 1 => +QUEUED
             exec => -EXECABORT Transaction discarded because of previous errors.
             multi => +OK
             get => -ERR wrong number of arguments for 'get' command
             discard => +OK
             multi => +OK
             exec => *0",
        );
    }

    #[test]
    fn exec_with_arguments_ends_the_transaction_and_the_watching() {
        let refused = "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' \
             command";
        let mut bench = bench();
        check(&mut bench, "watch a => +OK\nmulti => +OK\nset a 1 => +QUEUED");
        assert_eq!(bench.send("exec x"), refused);
        check(
            &mut bench,
            "exec => -ERR EXEC without MULTI
             watch a => +OK
             2> set a 1 => +OK",
        );
        assert_eq!(bench.send("exec x"), refused, "outside a transaction too");
        check(&mut bench, "multi => +OK\nget a => +QUEUED\nexec => *1 :1");
    }

    #[test]
    fn a_watched_key_that_changes_fails_the_transaction() {
        check(
            &mut bench(),
            "watch a b => +OK
             2> set b 1 => +OK
             multi => +OK
             set a 1 => +QUEUED
             exec => *-1
             get a => :0
             multi => +OK
             exec => *0
             watch a => +OK
             set a 1 => +OK
             multi => +OK
             exec => *-1",
        );
        let mut bench = bench();
        bench.resp3();
        check(&mut bench, "watch a => +OK\nset a 1 => +OK\nmulti => +OK\nexec => _");
    }

    #[test]
    fn unwatch_discard_and_exec_forget_what_was_watched() {
        for end in ["unwatch => +OK", "multi => +OK\ndiscard => +OK", "multi => +OK\nexec => *-1"] {
            let mut bench = bench();
            check(&mut bench, "watch a => +OK\n2> set a 1 => +OK");
            check(&mut bench, end);
            assert!(!bench.session().watching, "{end}");
            check(&mut bench, "2> set a 2 => +OK\nmulti => +OK\nget a => +QUEUED\nexec => *1 :1");
        }
    }

    #[test]
    fn unwatch_inside_a_transaction_comes_too_late() {
        check(
            &mut bench(),
            "watch a => +OK
             set a 1 => +OK
             multi => +OK
             unwatch => +QUEUED
             exec => *-1",
        );
    }

    #[test]
    fn previous_errors_win_over_watched_keys() {
        check(
            &mut bench(),
            "watch a => +OK
             2> set a 1 => +OK
             multi => +OK
             set a => -ERR wrong number of arguments for 'set' command
             exec => -EXECABORT Transaction discarded because of previous errors.",
        );
    }

    #[test]
    fn a_key_that_expires_while_watched_fails_the_transaction() {
        let mut bench = bench();
        let deadline = Deadline::At(UnixMs(bench.now.0 + 10));
        bench.keyspace.db_mut(0).set(b"k", NewValue::Bytes(b"v"), deadline);
        check(&mut bench, "watch k => +OK");
        bench.advance_ms(11);
        check(&mut bench, "multi => +OK\nexec => *-1");
    }

    #[test]
    fn a_key_already_expired_when_watched_does_not() {
        let mut bench = bench();
        let deadline = Deadline::At(UnixMs(bench.now.0 - 10));
        bench.keyspace.db_mut(0).set(b"k", NewValue::Bytes(b"v"), deadline);
        check(&mut bench, "watch k => +OK\nmulti => +OK\nexec => *0");
    }
}
