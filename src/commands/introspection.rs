//! COMMAND: the command table, told to clients.

use super::docs;
use super::options::{self, c_text};
use crate::engine::command::Arity::{AtLeast, Exactly};
use crate::engine::command::{Command, CommandSpec, Doc, Flags, KeySpec};
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
    doc: Doc::new("server", "2.8.13", "O(N)", "Tells about all commands."),
    arity: AtLeast(1),
    flags: COMMON,
    tips: ANY_ORDER,
    run: command,
    subcommands: &[
        CommandSpec {
            name: "count",
            doc: Doc::new("server", "2.8.13", "O(1)", "Counts the commands."),
            arity: Exactly(2),
            flags: COMMON,
            run: count,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "docs",
            doc: Doc::new("server", "7.0.0", "O(N)", "Tells what commands do and take.")
                .takes("[command-name...]"),
            arity: AtLeast(2),
            flags: COMMON,
            tips: ANY_ORDER,
            run: docs,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "getkeys",
            doc: Doc::new("server", "2.8.13", "O(N)", "Finds the keys in a command line."),
            arity: AtLeast(4),
            flags: COMMON,
            run: getkeys,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "getkeysandflags",
            doc: Doc::new(
                "server",
                "7.0.0",
                "O(N)",
                "Finds the keys in a command line, and what is done to them.",
            ),
            arity: AtLeast(4),
            flags: COMMON,
            run: getkeysandflags,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "help",
            doc: Doc::new("server", "5.0.0", "O(1)", "Explains the subcommands."),
            arity: Exactly(2),
            flags: COMMON,
            run: help,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "info",
            doc: Doc::new("server", "2.8.13", "O(N)", "Tells about some commands.")
                .takes("[command-name...]")
                .changed(&[("7.0.0", "Without a name it tells of all.")]),
            arity: AtLeast(2),
            flags: COMMON,
            tips: ANY_ORDER,
            run: info,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "list",
            doc: Doc::new("server", "7.0.0", "O(N)", "Names commands.").takes(
                "[FILTERBY=filterby(MODULE=module-name|ACLCAT=category|\
             PATTERN=pattern:pattern)]",
            ),
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

/// `COMMAND DOCS [name ...]`; names that are unknown are passed over.
fn docs(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let found: Vec<Command> = if args.len() == 2 {
        cx.registries.table.top_level().collect()
    } else {
        args.from(2).filter_map(|name| cx.registries.table.find_full(name)).collect()
    };
    cx.reply.map(found.len());
    found.into_iter().for_each(|command| docs::write_command(&mut cx.reply, command));
    Ok(())
}

fn command(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    let table = &cx.registries.table;
    cx.reply.array(table.rows().len());
    table.top_level().for_each(|command| write_command(&mut cx.reply, command));
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
    ("admin", |flags| flags.has(Flags::ADMIN) || flags.has(Flags::C_ADMIN)),
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
/// from the end if negative. Keys that are specified apart but follow each other are one range.
fn key_range(spec: &CommandSpec) -> (i64, i64, i64) {
    let Some((keys, others)) = spec.keys.split_first() else { return (0, 0, 0) };
    let last_of = |keys: &KeySpec| match keys.last {
        from_end @ ..0 => from_end,
        from_first => keys.first as i64 + from_first,
    };
    let first = keys.first as i64;
    let mut last = last_of(keys);
    for next in others {
        if last >= 0 && next.first as i64 == last + 1 {
            last = last_of(next);
        }
    }
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
        if args.len() != 5 || !options::is(&args[2], "FILTERBY") {
            return Err(CommandError::SYNTAX);
        }
        match &args[3] {
            kind if options::is(kind, "MODULE") => Ok(ListFilter::Module),
            kind if options::is(kind, "ACLCAT") => Ok(ListFilter::Category(c_text(&args[4]))),
            kind if options::is(kind, "PATTERN") => Ok(ListFilter::Pattern(&args[4])),
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
        let is_variable = keys.flags.contains(&"variable_flags");
        let flags = if is_variable { flags_of_call(args) } else { None };
        write_key_flags(&mut cx.reply, flags.unwrap_or(keys.flags));
    }
    Ok(())
}

/// What the call asked about does to its key, where that is less than its row says. Only SET and
/// BITFIELD have such flags.
fn flags_of_call(args: &Args<'_>) -> Option<&'static [&'static str]> {
    if options::is(&args[SKIPPED], "BITFIELD") {
        return super::bitfield::only_reads(args.from(SKIPPED + 2)).then_some(&["RO", "access"]);
    }
    // Without GET it overwrites what it does not read.
    let reads = args.from(SKIPPED + 3).any(|option| options::is(option, "GET"));
    (!reads).then_some(&["OW", "update"])
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
        assert!(all.starts_with("*1 *10 $6 client :-2 *0 :0 :0 :0 *1 +@slow *0 *0 *18 *10 "));
    }

    #[test]
    fn without_names_all_rows_are_told() {
        let mut bench = bench();
        let all = bench.send("command");
        assert_eq!(all, bench.send("command info"));
        let count = bench.send("command count");
        assert_eq!(all.split(' ').next(), Some(count.replace(':', "*").as_str()));
    }

    #[test]
    fn docs_tell_what_a_command_takes() {
        let mut bench = bench();
        assert_eq!(bench.send("command docs nosuch"), "*0");
        assert_eq!(
            bench.send("command docs get nosuch"),
            "*2 $3 get *10 $7 summary $15 Reads a string. $5 since $5 1.0.0 $5 group $6 string \
             $10 complexity $4 O(1) $9 arguments *1 *6 $4 name $3 key $4 type $3 key \
             $14 key_spec_index :0"
        );
        let all = bench.resp3().send("command docs");
        let count = bench.send("command count");
        assert_eq!(all.split(' ').next(), Some(count.replace(':', "%").as_str()));
        let client = bench.send("command docs client");
        assert!(client.contains("$11 subcommands %18 $14 client|caching %5 "), "{client}");
    }

    #[test]
    fn list_filters_names() {
        let mut bench = bench();
        for (filter, reply) in [
            ("pattern CLIENT|I*", "*2 $9 client|id $11 client|info"),
            ("pattern nosuch", "*0"),
            ("aclcat TRANSACTION", "*5 $5 multi $4 exec $7 discard $5 watch $7 unwatch"),
            // Words are read up to a zero byte.
            ("aclcat\0x TRANSACTION\0x", "*5 $5 multi $4 exec $7 discard $5 watch $7 unwatch"),
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
