//! COMMAND: the command table, told to clients.

use super::options;
use crate::engine::command::Arity::{AtLeast, Exactly};
use crate::engine::command::{Command, CommandSpec, Flags, KeySpec};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;
use crate::resp::reply::Reply;
use crate::text::glob::glob_match;

const COMMON: Flags = Flags::C_CONNECTION.and(Flags::NO_KEYS).and(Flags::LOADING).and(Flags::STALE);
const ANY_ORDER: &[&str] = &["nondeterministic_output_order"];

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[CommandSpec {
    name: "command",
    arity: AtLeast(1),
    flags: COMMON,
    tips: ANY_ORDER,
    run: command,
    subcommands: &[
        CommandSpec {
            name: "count",
            arity: Exactly(2),
            flags: COMMON,
            run: count,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "docs",
            arity: AtLeast(2),
            flags: COMMON,
            tips: ANY_ORDER,
            run: docs,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "getkeys",
            arity: AtLeast(4),
            flags: COMMON,
            run: getkeys,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "getkeysandflags",
            arity: AtLeast(4),
            flags: COMMON,
            run: getkeysandflags,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "help",
            arity: Exactly(2),
            flags: COMMON,
            run: help,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "info",
            arity: AtLeast(2),
            flags: COMMON,
            tips: ANY_ORDER,
            run: info,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "list",
            arity: AtLeast(2),
            flags: COMMON,
            tips: ANY_ORDER,
            run: list,
            ..CommandSpec::ROW
        },
    ],
    ..CommandSpec::ROW
}];

const INVALID_COMMAND: CommandError = CommandError::new("ERR Invalid command specified");
const NO_KEY_ARGUMENTS: CommandError = CommandError::new("ERR The command has no key arguments");
const INVALID_NUMBER: CommandError =
    CommandError::new("ERR Invalid number of arguments specified for command");
const INVALID_ARGUMENTS: CommandError =
    CommandError::new("ERR Invalid arguments specified for command");

const HELP: &[&str] = &[
    "(no subcommand)",
    "    Return details about all Redis commands.",
    "COUNT",
    "    Return the total number of commands in this Redis server.",
    "LIST",
    "    Return a list of all commands in this Redis server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple Redis commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full Redis command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys and the access flags from a full Redis command.",
];

fn help(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.help("COMMAND", HELP);
    Ok(())
}

fn count(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.reply.count(cx.registries.table.rows().len());
    Ok(())
}

/// No documentation is kept here; an empty map is what Redis answers for unknown names.
fn docs(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.reply.map(0);
    Ok(())
}

fn command(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    let table = &cx.registries.table;
    cx.reply.array(table.rows().len());
    for command in table.commands().iter().filter(|command| command.container.is_none()) {
        write_command(&mut cx.reply, *command);
    }
    Ok(())
}

fn info(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if args.len() == 2 {
        return command(cx, args);
    }
    cx.reply.array(args.len() - 2);
    for name in args.from(2) {
        match cx.registries.table.find_full(name) {
            Some(found) => write_command(&mut cx.reply, found),
            None => cx.reply.null(),
        }
    }
    Ok(())
}

/// What `COMMAND INFO` calls the flags, in its order.
const FLAG_NAMES: &[(Flags, &str)] = &[
    (Flags::WRITE, "write"),
    (Flags::READONLY, "readonly"),
    (Flags::DENY_OOM, "denyoom"),
    (Flags::ADMIN, "admin"),
    (Flags::PUBSUB, "pubsub"),
    (Flags::NO_SCRIPT, "noscript"),
    (Flags::BLOCKING, "blocking"),
    (Flags::LOADING, "loading"),
    (Flags::STALE, "stale"),
    (Flags::SKIP_MONITOR, "skip_monitor"),
    (Flags::SKIP_SLOWLOG, "skip_slowlog"),
    (Flags::FAST, "fast"),
    (Flags::NO_AUTH, "no_auth"),
    (Flags::MAY_REPLICATE, "may_replicate"),
    (Flags::NO_ASYNC_LOADING, "no_async_loading"),
    (Flags::NO_MULTI, "no_multi"),
    (Flags::MOVABLE_KEYS, "movablekeys"),
    (Flags::ALLOW_BUSY, "allow_busy"),
];

/// An ACL category, and whether a command of these flags is in it.
type Category = (&'static str, fn(Flags) -> bool);

/// ACL categories in Redis's order.
const CATEGORIES: &[Category] = &[
    ("keyspace", |flags| flags.has(Flags::C_KEYSPACE)),
    ("read", |flags| flags.has(Flags::READONLY) && !flags.has(Flags::C_SCRIPTING)),
    ("write", |flags| flags.has(Flags::WRITE)),
    ("set", |flags| flags.has(Flags::C_SET)),
    ("sortedset", |flags| flags.has(Flags::C_SORTED_SET)),
    ("list", |flags| flags.has(Flags::C_LIST)),
    ("hash", |flags| flags.has(Flags::C_HASH)),
    ("string", |flags| flags.has(Flags::C_STRING)),
    ("bitmap", |flags| flags.has(Flags::C_BITMAP)),
    ("hyperloglog", |flags| flags.has(Flags::C_HYPERLOGLOG)),
    ("geo", |flags| flags.has(Flags::C_GEO)),
    ("stream", |flags| flags.has(Flags::C_STREAM)),
    ("pubsub", |flags| flags.has(Flags::PUBSUB)),
    ("admin", |flags| flags.has(Flags::ADMIN)),
    ("fast", |flags| flags.has(Flags::FAST)),
    ("slow", |flags| !flags.has(Flags::FAST)),
    ("blocking", |flags| flags.has(Flags::BLOCKING)),
    ("dangerous", |flags| flags.has(Flags::ADMIN) || flags.has(Flags::C_DANGEROUS)),
    ("connection", |flags| flags.has(Flags::C_CONNECTION)),
    ("transaction", |flags| flags.has(Flags::C_TRANSACTION)),
    ("scripting", |flags| flags.has(Flags::C_SCRIPTING)),
];

/// One command as `COMMAND INFO` tells it: ten things.
fn write_command(reply: &mut Reply<'_>, command: Command) {
    let spec = command.spec;
    reply.array(10);
    reply.bulk(command.full_name().as_bytes());
    reply.integer(spec.arity.as_integer());
    let flags = FLAG_NAMES.iter().filter(|(flag, _)| spec.flags.has(*flag));
    reply.set(flags.clone().count());
    flags.for_each(|(_, name)| reply.simple(name.as_bytes()));
    let (first, last, step) = key_range(spec);
    reply.integer(first);
    reply.integer(last);
    reply.integer(step);
    let categories = CATEGORIES.iter().filter(|(_, is_in)| is_in(spec.flags));
    reply.set(categories.clone().count());
    categories.for_each(|(name, _)| reply.simple(format!("@{name}").as_bytes()));
    reply.set(spec.tips.len());
    spec.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(spec.keys.len());
    spec.keys.iter().for_each(|keys| write_key_spec(reply, keys));
    match spec.subcommands {
        [] => reply.set(0),
        subcommands => {
            reply.array(subcommands.len());
            command.subcommands().for_each(|sub| write_command(reply, sub));
        }
    }
}

/// First key, last key and step, as the old part of `COMMAND INFO` shows them; the last key counts
/// from the end if negative.
fn key_range(spec: &CommandSpec) -> (i64, i64, i64) {
    let Some(keys) = spec.keys.first() else { return (0, 0, 0) };
    let first = keys.first as i64;
    let last = if keys.last >= 0 { first + keys.last } else { keys.last };
    (first, last, keys.step as i64)
}

fn write_key_spec(reply: &mut Reply<'_>, keys: &KeySpec) {
    if keys.notes.is_empty() {
        reply.map(3);
    } else {
        reply.map(4);
        reply.bulk(b"notes");
        reply.bulk(keys.notes.as_bytes());
    }
    reply.bulk(b"flags");
    reply.set(keys.flags.len());
    keys.flags.iter().for_each(|flag| reply.simple(flag.as_bytes()));
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    reply.map(1);
    reply.bulk(b"index");
    reply.count(keys.first);
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"range");
    reply.bulk(b"spec");
    reply.map(3);
    reply.bulk(b"lastkey");
    reply.integer(keys.last);
    reply.bulk(b"keystep");
    reply.count(keys.step);
    reply.bulk(b"limit");
    reply.integer(0);
}

fn write_key_flags(reply: &mut Reply<'_>, flags: &[&str]) {
    let flags = flags.iter().filter(|flag| **flag != "variable_flags");
    reply.set(flags.clone().count());
    flags.for_each(|flag| reply.simple(flag.as_bytes()));
}

/// Which commands `COMMAND LIST` names.
enum ListFilter<'a> {
    All,
    /// Those of a module; there are none.
    Module,
    Category(&'a [u8]),
    Pattern(&'a [u8]),
}

impl<'a> ListFilter<'a> {
    fn parse(args: &'a Args<'_>) -> Result<ListFilter<'a>, CommandError> {
        if args.len() == 2 {
            return Ok(ListFilter::All);
        }
        if args.len() != 5 || !args[2].eq_ignore_ascii_case(b"filterby") {
            return Err(CommandError::SYNTAX);
        }
        match &args[3] {
            kind if kind.eq_ignore_ascii_case(b"module") => Ok(ListFilter::Module),
            kind if kind.eq_ignore_ascii_case(b"aclcat") => Ok(ListFilter::Category(&args[4])),
            kind if kind.eq_ignore_ascii_case(b"pattern") => Ok(ListFilter::Pattern(&args[4])),
            _ => Err(CommandError::SYNTAX),
        }
    }

    fn admits(&self, command: Command) -> bool {
        match self {
            ListFilter::All => true,
            ListFilter::Module => false,
            ListFilter::Category(name) => {
                let mut found = CATEGORIES.iter();
                let found = found.find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
                found.is_some_and(|(_, is_in)| is_in(command.spec.flags))
            }
            ListFilter::Pattern(pattern) => {
                glob_match(pattern, command.full_name().as_bytes(), true)
            }
        }
    }
}

fn list(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let filter = ListFilter::parse(args)?;
    let all = cx.registries.table.commands().iter();
    let names: Vec<String> =
        all.filter(|command| filter.admits(**command)).map(|command| command.full_name()).collect();
    cx.reply.array(names.len());
    names.iter().for_each(|name| cx.reply.bulk(name.as_bytes()));
    Ok(())
}

/// `COMMAND GETKEYS`: the arguments ahead of the command asked about.
const SKIPPED: usize = 2;

/// The keys of the command that the arguments from the third on are: their indexes, each with what
/// is done to it.
fn find_keys(cx: &Cx<'_>, args: &Args<'_>) -> Result<Vec<(usize, &'static KeySpec)>, CommandError> {
    let row = cx.registries.table.find(&args[SKIPPED]).ok_or(INVALID_COMMAND)?;
    let sub = args.get(SKIPPED + 1).unwrap_or_default();
    let sub = row.subcommands.iter().find(|s| s.name.as_bytes().eq_ignore_ascii_case(sub));
    let spec = match sub {
        Some(sub) => sub,
        None if row.subcommands.is_empty() || args.len() == SKIPPED + 1 => row,
        None => return Err(INVALID_COMMAND),
    };
    if spec.keys.is_empty() {
        return Err(NO_KEY_ARGUMENTS);
    }
    let count = args.len() - SKIPPED;
    if !spec.arity.admits(count) {
        return Err(INVALID_NUMBER);
    }
    let mut found = Vec::new();
    for keys in spec.keys {
        let last = match usize::try_from(keys.last) {
            Ok(last) => keys.first + last,
            Err(_) => count - count.min(keys.last.unsigned_abs() as usize),
        };
        if last >= count {
            return Err(INVALID_ARGUMENTS);
        }
        found.extend((keys.first..=last).step_by(keys.step).map(|at| (SKIPPED + at, keys)));
    }
    Ok(found)
}

fn getkeys(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let found = find_keys(cx, args)?;
    cx.reply.array(found.len());
    found.iter().for_each(|(at, _)| cx.reply.bulk(&args[*at]));
    Ok(())
}

fn getkeysandflags(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let found = find_keys(cx, args)?;
    cx.reply.array(found.len());
    for (at, keys) in found {
        cx.reply.array(2);
        cx.reply.bulk(&args[at]);
        // SET alone has such flags here: without GET it overwrites what it does not read.
        let overwrites = keys.flags.contains(&"variable_flags")
            && !args.from(SKIPPED + 3).any(|option| options::is(option, "GET"));
        write_key_flags(&mut cx.reply, if overwrites { &["OW", "update"] } else { keys.flags });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{client, string, transaction};
    use super::ROWS;
    use crate::engine::testing::Bench;

    fn bench() -> Bench {
        Bench::new(&[ROWS, client::ROWS, string::ROWS, transaction::ROWS])
    }

    /// Letter by letter what redis-server 7.0.15 answers.
    #[test]
    fn info_tells_a_row_as_redis_does() {
        let mut bench = bench();
        assert_eq!(
            bench.send("command info get"),
            "*1 *10 $3 get :2 *2 +readonly +fast :1 :1 :1 *3 +@read +@string +@fast *0 *1 *6 \
             $5 flags *2 +RO +access $12 begin_search *4 $4 type $5 index $4 spec *2 $5 index :1 \
             $9 find_keys *4 $4 type $5 range $4 spec *6 $7 lastkey :0 $7 keystep :1 $5 limit :0 *0"
        );
        bench.resp3();
        assert_eq!(
            bench.send("command info GET nosuch"),
            "*2 *10 $3 get :2 ~2 +readonly +fast :1 :1 :1 ~3 +@read +@string +@fast ~0 ~1 %3 \
             $5 flags ~2 +RO +access $12 begin_search %2 $4 type $5 index $4 spec %1 $5 index :1 \
             $9 find_keys %2 $4 type $5 range $4 spec %3 $7 lastkey :0 $7 keystep :1 $5 limit :0 \
             ~0 _"
        );
    }

    #[test]
    fn subcommands_have_rows_of_their_own() {
        let mut bench = bench();
        assert_eq!(
            bench.send("command info CLIENT|ID client| |id get|x ''"),
            "*5 *10 $9 client|id :2 *3 +noscript +loading +stale :0 :0 :0 *2 +@slow +@connection \
             *0 *0 *0 $-1 $-1 $-1 $-1"
        );
        let all = bench.send("command info client");
        assert!(all.starts_with("*1 *10 $6 client :-2 *0 :0 :0 :0 *1 +@slow *0 *0 *8 *10 "));
    }

    #[test]
    fn without_names_all_rows_are_told() {
        let mut bench = bench();
        let all = bench.send("command");
        assert_eq!(all, bench.send("command info"));
        let count = bench.send("command count");
        assert_eq!(all.split(' ').next(), Some(count.replace(':', "*").as_str()));
        assert_eq!(bench.send("command docs get"), "*0");
        assert_eq!(bench.resp3().send("command docs"), "%0");
    }

    #[test]
    fn list_filters_names() {
        let mut bench = bench();
        for (filter, reply) in [
            ("pattern CLIENT|I*", "*2 $9 client|id $11 client|info"),
            ("pattern nosuch", "*0"),
            ("aclcat TRANSACTION", "*5 $5 multi $4 exec $7 discard $5 watch $7 unwatch"),
            ("aclcat nosuch", "*0"),
            ("module x", "*0"),
            ("foo x", "-ERR syntax error"),
            ("pattern", "-ERR syntax error"),
            ("pattern a b", "-ERR syntax error"),
        ] {
            assert_eq!(bench.send(&format!("command list filterby {filter}")), reply, "{filter}");
        }
        assert_eq!(bench.send("command list foo"), "-ERR syntax error");
        assert!(bench.send("command list").contains(" $11 client|list "));
    }

    #[test]
    fn getkeys_finds_the_keys_of_a_command() {
        let mut bench = bench();
        let arity = "-ERR wrong number of arguments for 'command|getkeys' command";
        for (line, reply) in [
            ("get a", "*1 $1 a"),
            ("mset a b c d", "*2 $1 a $1 c"),
            ("mset a b c", "*2 $1 a $1 c"),
            ("watch a b c", "*3 $1 a $1 b $1 c"),
            ("get", arity),
            ("get a b", "-ERR Invalid number of arguments specified for command"),
            ("mset a", "-ERR Invalid number of arguments specified for command"),
            ("nosuch a", "-ERR Invalid command specified"),
            ("client nosuch", "-ERR Invalid command specified"),
            ("client id", "-ERR The command has no key arguments"),
            ("multi x", "-ERR The command has no key arguments"),
        ] {
            assert_eq!(bench.send(&format!("command getkeys {line}")), reply, "{line}");
        }
        assert_eq!(
            bench.send("command getkeysandflags mset a b c d"),
            "*2 *2 $1 a *2 +OW +update *2 $1 c *2 +OW +update"
        );
        for (set, flags) in
            [("set a get", "*2 +OW +update"), ("set a b ex 1 Get", "*3 +RW +access +update")]
        {
            let reply = bench.send(&format!("command getkeysandflags {set}"));
            assert_eq!(reply, format!("*1 *2 $1 a {flags}"), "{set}");
        }
    }
}
