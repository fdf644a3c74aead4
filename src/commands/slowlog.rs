//! SLOWLOG: the commands that took long.

use super::options;
use crate::engine::command::Arity::{AtLeast, Exactly};
use crate::engine::command::{CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::engine::slowlog::SlowCommand;
use crate::resp::args::Args;
use crate::resp::reply::Reply;
use crate::text::number::parse_i64;

const COMMON: Flags = Flags::NO_KEYS.and(Flags::LOADING).and(Flags::STALE);
const OPERATOR: Flags = COMMON.and(Flags::ADMIN);

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[CommandSpec {
    name: "slowlog",
    doc: Doc::new("server", "2.2.12", "By subcommand", "Looks at the commands that took long."),
    arity: AtLeast(2),
    flags: Flags::NO_KEYS,
    subcommands: &[
        CommandSpec {
            name: "get",
            doc: Doc::new("server", "2.2.12", "O(N)", "Lists the newest of them.")
                .takes("[count:int]")
                .changed(&[("4.0.0", "Address and name of the client are told.")]),
            arity: AtLeast(2),
            flags: OPERATOR,
            tips: &["request_policy:all_nodes", "nondeterministic_output"],
            run: get,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "help",
            doc: Doc::new("server", "6.2.0", "O(1)", "Explains the subcommands."),
            arity: Exactly(2),
            flags: COMMON,
            run: help,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "len",
            doc: Doc::new("server", "2.2.12", "O(1)", "Counts them."),
            arity: Exactly(2),
            flags: OPERATOR,
            tips: &[
                "request_policy:all_nodes",
                "response_policy:agg_sum",
                "nondeterministic_output",
            ],
            run: len,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "reset",
            doc: Doc::new("server", "2.2.12", "O(N)", "Forgets them."),
            arity: Exactly(2),
            flags: OPERATOR,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            run: reset,
            ..CommandSpec::ROW
        },
    ],
    ..CommandSpec::ROW
}];

const INVALID_COUNT: CommandError =
    CommandError::new("ERR count should be greater than or equal to -1");

const HELP: &[&str] = &[
    "GET [<count>]",
    "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
    "    Entries are made of:",
    "    id, timestamp, time in microseconds, arguments array, client IP and port,",
    "    client name",
    "LEN",
    "    Return the length of the slowlog.",
    "RESET",
    "    Reset the slowlog.",
];

fn help(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.help("SLOWLOG", HELP);
    Ok(())
}

/// `SLOWLOG GET [count]`: the newest first; -1 is all.
fn get(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    const DEFAULT_COUNT: usize = 10;
    if args.len() > 3 {
        return Err(options::too_many_arguments("SLOWLOG", &args[1]));
    }
    let slowlog = &cx.registries.slowlog;
    let count = match args.get(2) {
        None => DEFAULT_COUNT,
        Some(count) => match parse_i64(count) {
            Some(-1) => slowlog.len(),
            Some(count) => usize::try_from(count).map_err(|_| INVALID_COUNT)?,
            None => return Err(INVALID_COUNT),
        },
    };
    let count = count.min(slowlog.len());
    cx.reply.array(count);
    slowlog.iter().take(count).for_each(|slow| write_entry(&mut cx.reply, slow));
    Ok(())
}

fn write_entry(reply: &mut Reply<'_>, slow: &SlowCommand) {
    reply.array(6);
    reply.integer(slow.id.cast_signed());
    reply.integer(slow.unix_sec);
    reply.integer(slow.us.cast_signed());
    reply.array(slow.words.len());
    slow.words.iter().for_each(|word| reply.bulk(word));
    reply.bulk(slow.addr.as_bytes());
    reply.bulk(&slow.name);
}

fn len(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.reply.count(cx.registries.slowlog.len());
    Ok(())
}

fn reset(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.registries.slowlog.clear();
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ROWS;
    use crate::commands::{connection, string, transaction};
    use crate::engine::testing::Bench;
    use crate::resp::parse::LARGE_ARG_BYTES;

    /// A bench that takes note of every command.
    fn bench() -> Bench {
        let mut bench = Bench::new(&[ROWS, connection::ROWS, string::ROWS, transaction::ROWS]);
        bench.registries.config.slowlog_log_slower_than_us = 0;
        bench.registries.config.slowlog_max_len = 100;
        bench.session().peer = "127.0.0.1:5000".parse().ok();
        bench
    }

    /// The words of all commands noted, oldest first.
    fn noted(bench: &Bench) -> Vec<String> {
        let words = bench.registries.slowlog.iter().map(|slow| {
            let words = slow.words.iter().map(|word| word.escape_ascii().to_string());
            words.collect::<Vec<_>>().join(" ")
        });
        let mut all: Vec<String> = words.collect();
        all.reverse();
        all
    }

    #[test]
    fn an_entry_tells_when_how_long_what_and_who() {
        let mut bench = bench();
        bench.session().name = b"me".to_vec();
        bench.send("get k");
        bench.registries.config.slowlog_log_slower_than_us = -1;
        let entry = bench.send("slowlog get");
        let words: Vec<&str> = entry.split(' ').collect();
        assert_eq!(words[..4], ["*1", "*6", ":0", ":2000000000"]);
        assert!(words[4].starts_with(':'));
        assert_eq!(words[5..].join(" "), "*2 $3 get $1 k $14 127.0.0.1:5000 $2 me");
    }

    #[test]
    fn commands_of_a_transaction_are_noted_one_by_one_and_exec_is_not() {
        let mut bench = bench();
        for line in ["multi", "set a 1", "get a", "exec"] {
            bench.send(line);
        }
        assert_eq!(noted(&bench), ["multi", "set a 1", "get a"]);
    }

    #[test]
    fn passwords_are_not_noted() {
        let mut bench = bench();
        bench.send("auth secret");
        bench.send("hello 3 auth default secret setname x");
        bench.send("get after");
        assert_eq!(
            noted(&bench),
            ["auth (redacted)", "hello 3 auth (redacted) (redacted) setname x", "get after"]
        );
    }

    /// A handler may have moved the argument away.
    #[test]
    fn large_arguments_are_noted_as_they_came() {
        let mut bench = bench();
        let value = vec![b'v'; LARGE_ARG_BYTES + 1];
        bench.run(&[b"set", b"k", &value]);
        let shown = format!("set k {}... ({} more bytes)", "v".repeat(128), value.len() - 128);
        assert_eq!(noted(&bench), [shown]);
    }

    #[test]
    fn count_and_length_are_as_redis_has_them() {
        let mut bench = bench();
        for _ in 0..12 {
            bench.send("get k");
        }
        bench.registries.config.slowlog_log_slower_than_us = -1;
        for (line, head) in [
            ("slowlog get", "*10 "),
            ("slowlog get -1", "*12 "),
            ("slowlog get 0", "*0"),
            ("slowlog get 3", "*3 "),
            ("slowlog get 99", "*12 "),
            ("slowlog len", ":12"),
            ("slowlog get -2", "-ERR count should be greater than or equal to -1"),
            ("slowlog get a", "-ERR count should be greater than or equal to -1"),
            (
                "slowlog get 1 2",
                "-ERR unknown subcommand or wrong number of arguments for 'get'. Try SLOWLOG HELP.",
            ),
            ("slowlog reset", "+OK"),
            ("slowlog len", ":0"),
        ] {
            let reply = bench.send(line);
            assert!(reply.starts_with(head), "{line}: {reply}");
        }
        bench.registries.config.slowlog_log_slower_than_us = 0;
        bench.registries.config.slowlog_max_len = 0;
        bench.send("get k");
        assert!(bench.registries.slowlog.is_empty());
    }
}
