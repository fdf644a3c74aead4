//! Whether two replies to one command are the same: letter by letter, except for the differences
//! listed here, each with its reason.

use std::collections::BTreeSet;

use crate::common::{Frame, Reply, show};
use crate::compare_info5;
use crate::generate::server5::{same_docs, same_slow_commands};
use crate::generate::{Command, name_of};

/// A reply that may differ in its bytes, and how it is compared instead.
struct Difference {
    /// The command, with its subcommand where it has one.
    command: &'static str,
    /// Why the replies are not equal letter by letter.
    reason: &'static str,
    /// Says what is wrong, for (arguments, this server's reply, the reference's reply).
    compare: Comparison,
}

type Comparison = fn(&[Vec<u8>], &Reply, &Reply) -> Result<(), String>;

/// All known differences. Errors are never excused: they are equal or a test fails.
const DIFFERENCES: &[Difference] = &[
    Difference {
        command: "TTL",
        reason: "the two servers are asked at two moments",
        compare: |_, ours, theirs| near(ours, theirs, 5),
    },
    Difference {
        command: "PTTL",
        reason: "the two servers are asked at two moments",
        compare: |_, ours, theirs| near(ours, theirs, 5_000),
    },
    Difference {
        command: "EXPIRETIME",
        reason: "a relative time to live begins at two moments",
        compare: |_, ours, theirs| near(ours, theirs, 5),
    },
    Difference {
        command: "PEXPIRETIME",
        reason: "a relative time to live begins at two moments",
        compare: |_, ours, theirs| near(ours, theirs, 5_000),
    },
    Difference {
        command: "KEYS",
        reason: "the order is each server's own",
        compare: |_, ours, theirs| same_elements(ours, theirs),
    },
    Difference {
        command: "SCAN",
        reason: "cursor and order are each server's own; whole iterations are compared elsewhere",
        compare: |_, ours, theirs| same_shape(ours, theirs, 2),
    },
    Difference {
        command: "RANDOMKEY",
        reason: "chance; that the key exists is checked elsewhere",
        compare: |_, ours, theirs| {
            check(ours.is_null() == theirs.is_null() && same_kind(ours, theirs), "kinds differ")
        },
    },
    Difference {
        command: "TIME",
        reason: "the two servers are asked at two moments",
        compare: |_, ours, theirs| {
            same_shape(ours, theirs, 2)?;
            let seconds = |reply: &Reply| reply.items()[0].text().parse::<i64>();
            let (Ok(ours), Ok(theirs)) = (seconds(ours), seconds(theirs)) else {
                return Err("not a number of seconds".into());
            };
            check(ours.abs_diff(theirs) <= 5, "the clocks differ")
        },
    },
    Difference {
        command: "HELLO",
        reason: "version and client id are each server's own",
        compare: |_, ours, theirs| {
            let (ours, theirs) = (flat(ours), flat(theirs));
            check(ours.len() == theirs.len() && ours.len() % 2 == 0, "lengths differ")?;
            for (our, their) in ours.chunks(2).zip(theirs.chunks(2)) {
                check(our[0] == their[0], "fields differ")?;
                match our[0].bytes() {
                    b"version" | b"id" => check(same_kind(&our[1], &their[1]), "kinds differ")?,
                    _ => check(our[1] == their[1], &format!("{:?} differs", our[0]))?,
                }
            }
            Ok(())
        },
    },
    Difference {
        command: "CLIENT ID",
        reason: "ids are each server's own",
        compare: |_, ours, theirs| {
            check(same_kind(ours, theirs) && ours.int() > 0, "not a client id")
        },
    },
    Difference {
        command: "CLIENT INFO",
        reason: "addresses, ages and memory are each server's own",
        compare: |_, ours, theirs| same_clients(ours, theirs),
    },
    Difference {
        command: "CLIENT LIST",
        reason: "addresses, ages and memory are each server's own",
        compare: |_, ours, theirs| same_clients(ours, theirs),
    },
    Difference {
        command: "COMMAND",
        reason: "the reference has more commands",
        compare: |_, ours, theirs| known_commands(ours, theirs),
    },
    Difference {
        command: "COMMAND INFO",
        reason: "subcommands that are newer than the reference, and their order",
        compare: |args, ours, theirs| {
            if args.len() == 2 { known_commands(ours, theirs) } else { command_infos(ours, theirs) }
        },
    },
    Difference {
        command: "COMMAND DOCS",
        reason: "the prose is each server's own, and the reference has more commands",
        compare: |_, ours, theirs| {
            check(same_kind(ours, theirs), "kinds differ")?;
            same_docs(ours, theirs)
        },
    },
    Difference {
        command: "SLOWLOG GET",
        reason: "ids, times and addresses are each server's own",
        compare: |_, ours, theirs| same_slow_commands(ours, theirs),
    },
    Difference {
        command: "LASTSAVE",
        reason: "the two servers were started at two moments",
        compare: kinds_alone,
    },
    Difference {
        command: "LOLWUT",
        reason: "versions and pictures are each server's own",
        compare: |_, ours, theirs| same_picture(ours, theirs),
    },
    Difference {
        command: "COMMAND COUNT",
        reason: "the reference has more commands",
        compare: |_, ours, theirs| {
            check(same_kind(ours, theirs) && ours.int() > 50, "too few commands")
        },
    },
    Difference {
        command: "COMMAND LIST",
        reason: "the reference has more commands, and the order is each server's own",
        compare: |_, ours, theirs| {
            check(same_kind(ours, theirs), "kinds differ")?;
            let table = server_async::commands::table();
            let known = |name: &&Reply| table.find_full(name.bytes()).is_some();
            let is_old = |name: &&Reply| !NEWER.contains(&&*name.text());
            let ours: BTreeSet<&Reply> = ours.items().iter().filter(is_old).collect();
            let theirs: BTreeSet<&Reply> = theirs.items().iter().filter(known).collect();
            let differing = ours.symmetric_difference(&theirs).next();
            check(differing.is_none(), &format!("only one of the two lists {differing:?}"))
        },
    },
    Difference {
        command: "INFO",
        reason: "most values are each server's own; that they are true is tested elsewhere",
        compare: |_, ours, theirs| compare_info5::info(ours, theirs),
    },
    Difference {
        command: "LATENCY HISTOGRAM",
        reason: "times are each server's own",
        compare: |_, ours, theirs| compare_info5::histogram(ours, theirs),
    },
    Difference {
        command: "LATENCY DOCTOR",
        reason: "the words are each server's own",
        compare: kinds_alone,
    },
    Difference {
        command: "LATENCY HELP",
        reason: "the words are each server's own, and the reference leaves HISTOGRAM out",
        compare: kinds_alone,
    },
    Difference {
        command: "MEMORY USAGE",
        reason: "a key takes as much as each server has it take",
        compare: kinds_alone,
    },
    Difference {
        command: "MEMORY STATS",
        reason: "the figures are each server's own",
        compare: |_, ours, theirs| compare_info5::memory_stats(ours, theirs),
    },
    Difference {
        command: "MEMORY DOCTOR",
        reason: "the words are each server's own",
        compare: kinds_alone,
    },
    Difference {
        command: "MEMORY MALLOC-STATS",
        reason: "the figures are each server's own",
        compare: kinds_alone,
    },
    Difference {
        command: "MEMORY HELP",
        reason: "the words are each server's own",
        compare: |_, ours, theirs| compare_info5::help(ours, theirs),
    },
    Difference {
        command: "DEBUG HTSTATS",
        reason: "the tables are each server's own",
        compare: |_, ours, theirs| compare_info5::table_layout(ours, theirs),
    },
    Difference {
        command: "CONFIG GET",
        reason: "the reference orders its answer by a hash that changes at each start",
        compare: |_, ours, theirs| {
            check(same_kind(ours, theirs), "kinds differ")?;
            let pairs = |reply: &Reply| {
                flat(reply).chunks(2).map(<[Reply]>::to_vec).collect::<BTreeSet<_>>()
            };
            check(pairs(ours) == pairs(theirs), "the pairs differ")
        },
    },
    Difference {
        command: "OBJECT REFCOUNT",
        reason: "in the reference a queued command that set the value holds it too, until EXEC ends",
        compare: |_, ours, theirs| check((ours.int(), theirs.int()) == (1, 2), "the counts differ"),
    },
    Difference {
        command: "OBJECT IDLETIME",
        reason: "small integers of the reference share one clock, and it is asked at another moment",
        compare: |_, ours, theirs| {
            check(
                same_kind(ours, theirs) && (0..=theirs.int() + 5).contains(&ours.int()),
                "too old",
            )
        },
    },
    Difference {
        command: "OBJECT HELP",
        reason: "the prose is each server's own",
        compare: |_, ours, theirs| {
            let names = |reply: &Reply| -> Vec<String> {
                let lines = reply.items().iter().map(Reply::text);
                lines.filter(|line| !line.starts_with("  ")).map(|line| line.to_string()).collect()
            };
            check(same_kind(ours, theirs) && names(ours) == names(theirs), "the names differ")
        },
    },
    Difference {
        command: "DEBUG OBJECT",
        reason: "addresses, reference counts and clocks are each server's own",
        compare: |_, ours, theirs| {
            check(same_kind(ours, theirs), "kinds differ")?;
            let encoding = |reply: &Reply| {
                let text = reply.text();
                text.split(' ').find(|word| word.starts_with("encoding:")).map(str::to_owned)
            };
            check(encoding(ours) == encoding(theirs), "the encodings differ")
        },
    },
];

/// Commands that this server has and the reference is too old for.
pub const NEWER: &[&str] = &["client|no-touch", "client|setinfo", "waitaof"];

/// Ok, or `problem`.
fn check(holds: bool, problem: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem.to_owned()) }
}

/// Compares the replies to `args`. `queued` holds what EXEC runs.
pub fn compare(
    args: &[Vec<u8>],
    queued: &[Command],
    ours: &Frame,
    theirs: &Frame,
) -> Result<(), String> {
    if ours.raw == theirs.raw {
        return Ok(());
    }
    compare_replies(args, queued, &ours.reply, &theirs.reply)
}

fn compare_replies(
    args: &[Vec<u8>],
    queued: &[Command],
    ours: &Reply,
    theirs: &Reply,
) -> Result<(), String> {
    if ours == theirs {
        return Ok(());
    }
    if ours.is_error() || theirs.is_error() {
        return Err("an error differs".into());
    }
    if name_of(args, 1) == "EXEC" {
        let (Reply::Array(ours), Reply::Array(theirs)) = (ours, theirs) else {
            return Err("the kinds differ".into());
        };
        check(ours.len() == theirs.len() && ours.len() == queued.len(), "lengths differ")?;
        for (at, command) in queued.iter().enumerate() {
            compare_replies(command, &[], &ours[at], &theirs[at])
                .map_err(|problem| format!("{}, at {at}, {}", problem, show_command(command)))?;
        }
        return Ok(());
    }
    for words in [2, 1] {
        let name = name_of(args, words);
        if let Some(known) = DIFFERENCES.iter().find(|known| known.command == name) {
            return (known.compare)(args, ours, theirs)
                .map_err(|problem| format!("{problem} (compared loosely: {})", known.reason));
        }
    }
    Err("the replies differ".into())
}

/// A command for a message.
pub fn show_command(args: &[Vec<u8>]) -> String {
    let words: Vec<_> = args.iter().map(|arg| format!("\"{}\"", show(arg))).collect();
    words.join(" ")
}

fn same_kind(ours: &Reply, theirs: &Reply) -> bool {
    std::mem::discriminant(ours) == std::mem::discriminant(theirs)
}

/// For replies of which nothing but the kind can be compared.
fn kinds_alone(_: &[Vec<u8>], ours: &Reply, theirs: &Reply) -> Result<(), String> {
    check(same_kind(ours, theirs), "kinds differ")
}

fn same_shape(ours: &Reply, theirs: &Reply, len: usize) -> Result<(), String> {
    let same = same_kind(ours, theirs) && ours.items().len() == len && theirs.items().len() == len;
    check(same, "the shapes differ")
}

fn near(ours: &Reply, theirs: &Reply, tolerance: u64) -> Result<(), String> {
    match (ours, theirs) {
        (Reply::Int(ours), Reply::Int(theirs)) => {
            // The answers -1 and -2 have a meaning of their own.
            let close = *ours > 0 && *theirs > 0 && ours.abs_diff(*theirs) <= tolerance;
            check(close, "the times differ")
        }
        _ => Err("the kinds differ".into()),
    }
}

fn same_elements(ours: &Reply, theirs: &Reply) -> Result<(), String> {
    check(same_kind(ours, theirs), "kinds differ")?;
    let sorted = |reply: &Reply| {
        let mut items = reply.items().to_vec();
        items.sort();
        items
    };
    check(sorted(ours) == sorted(theirs), "the elements differ")
}

/// Keys and values of a map, or of an array that lists them in turn.
fn flat(reply: &Reply) -> Vec<Reply> {
    match reply {
        Reply::Map(pairs) => pairs.iter().flat_map(|(k, v)| [k.clone(), v.clone()]).collect(),
        Reply::Array(items) => items.clone(),
        _ => Vec::new(),
    }
}

/// Lines of `name=value` words: as many lines, every name of the reference's in its order, and
/// equal values where these are not each server's own.
fn same_clients(ours: &Reply, theirs: &Reply) -> Result<(), String> {
    const EQUAL: &[&str] =
        &["name", "db", "sub", "psub", "ssub", "multi", "cmd", "user", "redir", "resp", "flags"];
    check(same_kind(ours, theirs), "kinds differ")?;
    let (ours, theirs) = (ours.text(), theirs.text());
    check(ours.ends_with('\n') == theirs.ends_with('\n'), "the ends differ")?;
    check(ours.lines().count() == theirs.lines().count(), "the numbers of clients differ")?;
    for (our, their) in ours.lines().zip(theirs.lines()) {
        let mut fields = our.split(' ').map(|field| field.split_once('=').unwrap_or((field, "")));
        for field in their.split(' ') {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let Some((_, our_value)) = fields.find(|(our_name, _)| *our_name == name) else {
                return Err(format!("the field {name} is missing or out of order"));
            };
            if EQUAL.contains(&name) {
                check(our_value == value, &format!("the field {name} differs"))?;
            }
        }
    }
    Ok(())
}

/// Pictures of as many lines, each as wide (what they say of themselves apart), above the version.
fn same_picture(ours: &Reply, theirs: &Reply) -> Result<(), String> {
    check(same_kind(ours, theirs), "kinds differ")?;
    let widths = |reply: &Reply| -> Vec<usize> {
        let text = reply.text();
        let width = |line: &str| {
            // Each escape is a colour and ends in the letter m.
            let parts = line.split('\x1b').map(|part| match part.split_once('m') {
                Some((code, rest)) if code.starts_with('[') => rest.chars().count(),
                _ => part.chars().count(),
            });
            parts.sum()
        };
        text.lines().map(width).collect()
    };
    let (our_widths, their_widths) = (widths(ours), widths(theirs));
    check(our_widths.len() == their_widths.len(), "the numbers of lines differ")?;
    let picture = our_widths.len().saturating_sub(2);
    check(our_widths[..picture] == their_widths[..picture], "the widths differ")?;
    let is_signed = |reply: &Reply| {
        let text = reply.text();
        let last = text.lines().last().unwrap_or_default();
        text.ends_with('\n') && last.contains("Redis ver. ")
    };
    check(is_signed(ours) && is_signed(theirs), "the version is not at the end")
}

/// Entries of COMMAND: for each of ours, the reference has one that says the same.
fn known_commands(ours: &Reply, theirs: &Reply) -> Result<(), String> {
    check(same_kind(ours, theirs), "kinds differ")?;
    for our in ours.items() {
        let name = &our.items()[0];
        if NEWER.contains(&&*name.text()) {
            continue;
        }
        let their = theirs.items().iter().find(|their| their.items()[0] == *name);
        let their = their.ok_or_else(|| format!("the reference has no command {name:?}"))?;
        command_info(our, their)?;
    }
    Ok(())
}

fn command_infos(ours: &Reply, theirs: &Reply) -> Result<(), String> {
    check(same_kind(ours, theirs), "kinds differ")?;
    check(ours.items().len() == theirs.items().len(), "lengths differ")?;
    ours.items().iter().zip(theirs.items()).try_for_each(|(our, their)| command_info(our, their))
}

/// One entry of COMMAND INFO: name, arity, flags, first and last key, step, categories, tips, key
/// specifications, subcommands.
fn command_info(our: &Reply, their: &Reply) -> Result<(), String> {
    if our.is_null() || their.is_null() {
        return check(our == their, "one of the two does not know the command");
    }
    let (ours, theirs) = (our.items(), their.items());
    check(ours.len() == theirs.len(), "an entry's lengths differ")?;
    for at in 0..9 {
        let problem = format!("element {at} of {:?} differs", ours[0]);
        check(ours[at] == theirs[at], &format!("{problem}: {:?}, {:?}", ours[at], theirs[at]))?;
    }
    for our in ours[9].items() {
        let mut their = theirs[9].items().iter();
        let their = their.find(|their| their.items()[0] == our.items()[0]);
        match their {
            Some(their) => command_info(our, their)?,
            None => {
                let name = our.items()[0].text();
                check(NEWER.contains(&&*name), &format!("the reference has no {name}"))?;
            }
        }
    }
    Ok(())
}
