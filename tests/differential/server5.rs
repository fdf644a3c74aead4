//! Commands about clients and about the server as a whole.
//!
//! Left out is what the two answer differently by intent: SAVE, BGSAVE and REPLICAOF of another
//! server, CLIENT TRACKING ON, and what is newer than the reference.

use std::collections::BTreeMap;

use super::{Command, Step, word};
use crate::common::raw::encode_into;
use crate::common::{Reply, Rng};

fn words(line: &str) -> Command {
    line.split(' ').map(word).collect()
}

/// One such command.
pub fn command(rng: &mut Rng) -> Command {
    match rng.below(12) {
        0..5 => words(rng.pick(CLIENT)),
        5..8 => words(rng.pick(SERVER)),
        8 => cluster(rng),
        9 => get_keys(rng),
        10 => wrong_arity(rng),
        _ => docs(rng),
    }
}

/// Several steps that belong together.
pub fn steps(rng: &mut Rng, on: usize, steps: &mut Vec<Step>) {
    match rng.below(5) {
        0..2 => steps.push(Step::Bytes { bytes: muted(rng) }),
        2..4 => steps.push(Step::Pipeline { on, commands: slow(rng) }),
        _ => steps.push(Step::Pipeline { on, commands: paused(rng) }),
    }
}

const CLIENT: &[&str] = &[
    "CLIENT CACHING YES",
    "CLIENT CACHING NO",
    "CLIENT CACHING MAYBE",
    "CLIENT GETREDIR",
    "CLIENT KILL TYPE replica",
    "CLIENT KILL TYPE SLAVE ID 99999999",
    "CLIENT KILL TYPE master SKIPME no",
    "CLIENT KILL ID 99999999 ID 99999998",
    "CLIENT KILL LADDR 1.2.3.4:5 SKIPME no USER default",
    "CLIENT KILL SKIPME yes SKIPME",
    "CLIENT LIST ID 99999999 99999998 0",
    "CLIENT LIST ID -1",
    "CLIENT LIST ID 1 9223372036854775808",
    "CLIENT LIST ID 99999999 x",
    "CLIENT LIST TYPE",
    "CLIENT LIST TYPE slave",
    "CLIENT LIST TYPE replica ID 1",
    "CLIENT KILL ID 99999999 TYPE normal ADDR 1.2.3.4:5 LADDR 1.2.3.4:6 USER default SKIPME no",
    "CLIENT KILL ADDR 1.2.3.4:5 ADDR 1.2.3.4:6",
    "CLIENT KILL LADDR 1.2.3.4:5",
    "CLIENT KILL USER nosuch",
    "CLIENT KILL TYPE normal ID",
    "CLIENT KILL ID 9223372036854775808",
    "CLIENT KILL ID x SKIPME no",
    "CLIENT KILL x y z",
    "CLIENT REPLY",
    "CLIENT REPLY on x",
    "CLIENT NO-EVICT",
    "CLIENT HELP x",
    "CLIENT SETNAME x y",
    "CLIENT LIST TYPE normal x",
    "CLIENT NO-EVICT ON",
    "CLIENT NO-EVICT off",
    "CLIENT NO-EVICT on",
    "CLIENT NO-EVICT maybe",
    "CLIENT PAUSE 0 SOME",
    "CLIENT PAUSE x SOME",
    "CLIENT PAUSE -1",
    "CLIENT PAUSE 1.5",
    "CLIENT PAUSE 99999999999999999999",
    "CLIENT PAUSE 1 WRITE x",
    "CLIENT REPLY on",
    "CLIENT REPLY foo",
    "CLIENT TRACKING OFF",
    "CLIENT TRACKING off BCAST OPTIN OPTOUT NOLOOP PREFIX a",
    "CLIENT TRACKING on FOO",
    "CLIENT TRACKING maybe",
    "CLIENT TRACKING on REDIRECT 99999999",
    "CLIENT TRACKING on REDIRECT x",
    "CLIENT TRACKING on REDIRECT",
    "CLIENT TRACKING on PREFIX a",
    "CLIENT TRACKING on BCAST OPTIN",
    "CLIENT TRACKING on OPTOUT BCAST",
    "CLIENT TRACKING on OPTIN OPTOUT",
    "CLIENT TRACKING on BCAST PREFIX a PREFIX ab",
    "CLIENT TRACKING on BCAST PREFIX x PREFIX y PREFIX x",
    "CLIENT TRACKING on BCAST PREFIX",
    "CLIENT TRACKINGINFO",
    "CLIENT UNBLOCK 99999999",
    "CLIENT UNBLOCK 0 TIMEOUT",
    "CLIENT UNBLOCK -5 error",
    "CLIENT UNBLOCK x",
    "CLIENT UNBLOCK 5 maybe",
    "CLIENT UNBLOCK x maybe",
    "CLIENT UNBLOCK 5 ERROR x",
    "CLIENT UNPAUSE",
    "CLIENT INFO",
    "CLIENT LIST",
    "WAIT 0 0",
    "WAIT -3 5",
    "WAIT 1 1",
    "WAIT x 1",
    "WAIT 1 x",
    "WAIT 1 -1",
    "WAIT 1 1.5",
    "WAIT 99999999999999999999 1",
];

const SERVER: &[&str] = &[
    "ASKING",
    "BGSAVE x",
    "BGSAVE SCHEDULE x",
    "COMMAND HELP",
    "COMMAND COUNT",
    "COMMAND LIST FILTERBY ACLCAT admin",
    "COMMAND LIST FILTERBY ACLCAT DANGEROUS",
    "COMMAND LIST FILTERBY PATTERN cl*|*",
    "COMMAND LIST FILTERBY PATTERN C[LO]*",
    "COMMAND LIST FILTERBY PATTERN nosuch*",
    "COMMAND LIST FILTERBY PATTERN *",
    "COMMAND LIST FILTERBY ACLCAT keyspace",
    "COMMAND LIST FILTERBY ACLCAT fast",
    "COMMAND LIST FILTERBY ACLCAT slow",
    "COMMAND LIST FILTERBY ACLCAT blocking",
    "COMMAND LIST FILTERBY ACLCAT connection",
    "COMMAND LIST FILTERBY ACLCAT transaction",
    "COMMAND LIST FILTERBY ACLCAT scripting",
    "COMMAND LIST FILTERBY ACLCAT @fast",
    "COMMAND LIST FILTERBY ACLCAT read",
    "COMMAND LIST FILTERBY ACLCAT write",
    "COMMAND LIST FILTERBY ACLCAT bitmap",
    "COMMAND LIST FILTERBY MODULE x",
    "COMMAND LIST FILTERBY MODULE",
    "COMMAND LIST ACLCAT fast",
    "COMMAND GETKEYS",
    "COMMAND DOCS",
    "COMMAND DOCS nosuch get get",
    "COMMAND INFO",
    "COMMAND HELP x",
    "COMMAND LIST FILTERBY MODULE x y",
    "COMMAND LIST FILTERBY PATTERN",
    "COMMAND INFO slowlog client|pause module wait nosuch role",
    "COMMAND INFO slowlog|get role|x client| |",
    "CONFIG SET slowlog-max-len abc",
    "CONFIG SET slowlog-log-slower-than -2",
    "CONFIG SET slowlog-max-len -1",
    "CONFIG SET maxmemory-clients 101%",
    "CONFIG SET maxmemory-clients x",
    "CONFIG SET maxmemory-clients 100%",
    "CONFIG SET maxmemory-clients 1gb",
    "CONFIG SET maxmemory-clients 0",
    "CONFIG GET maxmemory-clients slowlog-max-len",
    "CONFIG SET maxmemory 100gb",
    "CONFIG SET maxmemory 107374182400k",
    "CONFIG SET maxmemory 0",
    "CONFIG SET maxmemory x",
    "CONFIG SET maxmemory-policy lru",
    "CONFIG SET maxmemory-policy allkeys-LRU",
    "CONFIG SET maxmemory-policy volatile-random",
    "CONFIG SET maxmemory-policy noeviction",
    "CONFIG SET maxmemory-samples 0",
    "CONFIG SET maxmemory-samples 10",
    "CONFIG SET maxmemory-eviction-tenacity 101",
    "CONFIG GET maxmemory*",
    "LASTSAVE",
    "LOLWUT",
    "LOLWUT x",
    "LOLWUT VERSION",
    "LOLWUT VERSION x",
    "LOLWUT VERSION 99 1",
    "LOLWUT VERSION 5",
    "LOLWUT VERSION 5 20 3 2",
    "LOLWUT VERSION 5 -7 0 9223372036854775807",
    "LOLWUT VERSION 5 3 1 1 x",
    "LOLWUT VERSION 5 x",
    "LOLWUT VERSION 5 5 1.5",
    "LOLWUT VERSION 5 99999999999999999999",
    "LOLWUT VERSION 6",
    "LOLWUT VERSION 6 7 3",
    "LOLWUT VERSION 6 -1 99999999 x",
    "LOLWUT VERSION 6 4 x",
    "LOLWUT 5 66",
    "MODULE HELP",
    "MODULE LIST",
    "MODULE LOAD x",
    "MODULE LOADEX x",
    "MODULE UNLOAD x",
    "MODULE FOO",
    "READONLY",
    "READWRITE",
    "REPLICAOF NO ONE",
    "REPLICAOF no two",
    "REPLICAOF x 65536",
    "REPLICAOF x -1",
    "ROLE",
    "SLAVEOF no One",
    "SLAVEOF x y",
    "SLOWLOG HELP",
    "SLOWLOG LEN",
    "SLOWLOG RESET",
    "SLOWLOG GET",
    "SLOWLOG GET 0",
    "SLOWLOG GET -1",
    "SLOWLOG GET -2",
    "SLOWLOG GET x",
    "SLOWLOG GET 1 2",
    "SLOWLOG FOO",
];

/// Every name of a subcommand, with some words behind it.
fn cluster(rng: &mut Rng) -> Command {
    const SUBCOMMANDS: &str = "addslots addslotsrange bumpepoch count-failure-reports \
        countkeysinslot delslots delslotsrange failover flushslots forget getkeysinslot help info \
        keyslot links meet myid nodes replicas replicate reset saveconfig set-config-epoch setslot \
        shards slaves slots foo";
    let names: Vec<&str> = SUBCOMMANDS.split_whitespace().collect();
    let mut args = vec![word("CLUSTER"), word(names[rng.below(names.len())])];
    for _ in 0..rng.below(4) {
        args.push(word(["0", "1", "x", ""][rng.below(4)]));
    }
    args
}

/// COMMAND GETKEYS of lines that are right, or not quite.
fn get_keys(rng: &mut Rng) -> Command {
    const LINES: &[&str] = &[
        "get a",
        "GET",
        "set a b",
        "set a b get",
        "SET a b ex 1 GET nx",
        "set a",
        "mset a b c d",
        "mset a b c",
        "msetnx a b",
        "mget a b c",
        "del a b",
        "exists a",
        "unlink",
        "watch a b",
        "getex a ex 1",
        "append a b",
        "expire a 1 nx",
        "incrby a 1",
        "incrbyfloat a x",
        "keys a",
        "ping",
        "client list",
        "client foo",
        "client",
        "cluster keyslot a",
        "role",
        "select 1",
        "nosuch a",
        "multi",
        "type a",
        "setex a 1 b",
        "",
    ];
    let sub = ["GETKEYS", "GETKEYSANDFLAGS"][rng.below(2)];
    let mut args = vec![word("COMMAND"), word(sub)];
    args.extend(words(rng.pick(LINES)));
    if rng.one_in(5) {
        args.push(word("x"));
    }
    args
}

/// COMMAND DOCS or INFO of some names.
fn docs(rng: &mut Rng) -> Command {
    const NAMES: &[&str] = &[
        "get",
        "SET",
        "getset",
        "mget",
        "mset",
        "client",
        "client|kill",
        "client|list",
        "config",
        "config|set",
        "slowlog",
        "slowlog|get",
        "module",
        "module|loadex",
        "expire",
        "hello",
        "auth",
        "shutdown",
        "wait",
        "replicaof",
        "slaveof",
        "quit",
        "nosuch",
        "client|nosuch",
        "get|x",
        "command|list",
        "latency|reset",
        "debug",
        "scan",
        "flushall",
        "cluster",
    ];
    let mut args = vec![word("COMMAND"), word(["DOCS", "INFO"][rng.below(2)])];
    for _ in 0..rng.below(4) {
        args.push(word(rng.pick(NAMES)));
    }
    args
}

fn wrong_arity(rng: &mut Rng) -> Command {
    const NAMES: &[&str] = &[
        "ASKING",
        "CLIENT CACHING",
        "CLIENT GETREDIR",
        "CLIENT NO-EVICT",
        "CLIENT PAUSE",
        "CLIENT REPLY",
        "CLIENT TRACKING",
        "CLIENT TRACKINGINFO",
        "CLIENT UNBLOCK",
        "CLIENT UNPAUSE",
        "CLUSTER",
        "COMMAND COUNT",
        "COMMAND GETKEYS",
        "COMMAND GETKEYSANDFLAGS",
        "COMMAND HELP",
        "LASTSAVE",
        "MODULE",
        "MODULE LIST",
        "MODULE LOAD",
        "MODULE LOADEX",
        "MODULE UNLOAD",
        "READONLY",
        "READWRITE",
        "REPLICAOF",
        "ROLE",
        "SAVE",
        "SLAVEOF",
        "SLOWLOG",
        "SLOWLOG GET",
        "SLOWLOG LEN",
        "SLOWLOG RESET",
        "SLOWLOG HELP",
        "LATENCY HISTORY",
        "LATENCY GRAPH",
        "LATENCY LATEST",
        "LATENCY DOCTOR",
        "LATENCY HELP",
        "MEMORY USAGE",
        "MEMORY STATS",
        "MEMORY DOCTOR",
        "MEMORY PURGE",
        "MEMORY MALLOC-STATS",
        "OBJECT FREQ",
        "OBJECT IDLETIME",
        "CONFIG GET",
        "CONFIG REWRITE",
        "WAIT",
    ];
    let mut args = words(rng.pick(NAMES));
    let more = [0, 1, 3, 4][rng.below(4)];
    args.extend((0..more).map(|_| word("zero")));
    match args[0].as_slice() {
        b"SAVE" if args.len() == 1 => args.push(word("x")),
        // Would be answered by both, in their own way.
        b"REPLICAOF" | b"SLAVEOF" if args.len() == 3 => args.push(word("x")),
        _ => {}
    }
    args
}

/// A connection that is now and then told to be silent. Nothing here blocks: it ends at once.
fn muted(rng: &mut Rng) -> Vec<u8> {
    const LINES: &[&str] = &[
        "CLIENT REPLY OFF",
        "CLIENT REPLY ON",
        "CLIENT REPLY SKIP",
        "CLIENT REPLY SKIP",
        "CLIENT REPLY FOO",
        "CLIENT REPLY",
        "SET b0 value",
        "GET b0",
        "INCR b1",
        "GET",
        "NOSUCH b0",
        "MULTI",
        "EXEC",
        "DISCARD",
        "HELLO 9",
        "GET nosuch",
        "CLIENT GETNAME x",
        "RESET",
        "QUIT",
    ];
    let mut bytes = Vec::new();
    if rng.one_in(2) {
        // In RESP3 a missing value looks otherwise. What HELLO tells of itself is muted: it differs.
        encode_into(&mut bytes, &words("CLIENT REPLY SKIP"));
        encode_into(&mut bytes, &words("HELLO 3"));
    }
    for _ in 0..1 + rng.below(12) {
        encode_into(&mut bytes, &words(rng.pick(LINES)));
    }
    if rng.one_in(4) {
        bytes.extend(b"*x\r\n");
    }
    bytes
}

/// Commands during a pause. The reference ends one only when its cron comes to it, so what follows
/// here waits for that, and nothing is paused any more when these are through. Not inside a
/// transaction that has begun before: what its EXEC runs behind a pause does not wait, and there a
/// write to a lapsed key ends the reference by an assertion.
fn paused(rng: &mut Rng) -> Vec<Command> {
    const PAUSES: &[&str] =
        &["CLIENT PAUSE 0", "CLIENT PAUSE 1", "CLIENT PAUSE 2 WRITE", "CLIENT PAUSE 1 all"];
    const LINES: &[&str] = &["GET k0", "GET", "NOSUCH", "MULTI", "EXEC", "INCR k0", "PING"];
    let mut commands = vec![words("DISCARD"), words(rng.pick(PAUSES))];
    for _ in 0..rng.below(5) {
        commands.push(words(rng.pick(LINES)));
    }
    commands.push(words("SET k0 1"));
    commands.push(words("CLIENT UNPAUSE"));
    commands
}

/// Commands between one that lets the slow log take everything and one that shows it.
fn slow(rng: &mut Rng) -> Vec<Command> {
    const LINES: &[&str] = &[
        "GET k0",
        "SET k0 1",
        "INCR k0",
        "GET",
        "NOSUCH",
        "AUTH x",
        "AUTH default secret",
        "HELLO 2 AUTH default secret",
        "CLIENT SETNAME bob",
        "CLIENT SETNAME",
        "CONFIG GET hz",
        "WAIT 1 1",
        "SLOWLOG LEN",
        "SLOWLOG RESET",
        "PING",
    ];
    let max_len = ["0", "1", "5", "128"][rng.below(4)];
    // Inside a transaction that has begun before, the log would stay open.
    let mut commands = vec![
        words("DISCARD"),
        words(&format!("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len {max_len}")),
        words("SLOWLOG RESET"),
    ];
    for _ in 0..rng.below(8) {
        let mut args = words(rng.pick(LINES));
        if rng.one_in(6) {
            args = vec![word("MGET")];
            args.extend((0..28 + rng.below(8)).map(|at| format!("key:{at}").into_bytes()));
        } else if rng.one_in(6) {
            args = vec![word("ECHO"), vec![b'e'; [127, 128, 129, 500, 40_000][rng.below(5)]]];
        }
        let in_transaction = rng.one_in(6);
        if in_transaction {
            commands.push(words("MULTI"));
            commands.push(words("GET k1"));
        }
        commands.push(args);
        if in_transaction {
            commands.push(words("EXEC"));
        }
    }
    commands.push(words(["SLOWLOG GET", "SLOWLOG GET -1", "SLOWLOG GET 3"][rng.below(3)]));
    commands.push(words("CONFIG SET slowlog-log-slower-than -1 slowlog-max-len 128"));
    commands
}

/// Entries of SLOWLOG GET: as many, of the same commands by clients of the same name.
pub fn same_slow_commands(ours: &Reply, theirs: &Reply) -> Result<(), String> {
    let (ours, theirs) = (ours.items(), theirs.items());
    if ours.len() != theirs.len() {
        return Err(format!("{} and {} entries", ours.len(), theirs.len()));
    }
    for (our, their) in ours.iter().zip(theirs) {
        let (our, their) = (our.items(), their.items());
        if our.len() != 6 || their.len() != 6 {
            return Err("an entry is not of six parts".into());
        }
        for at in [3, 5] {
            if our[at] != their[at] {
                return Err(format!("part {at} differs: {:?}, {:?}", our[at], their[at]));
            }
        }
    }
    Ok(())
}

/// COMMAND DOCS: for each command that both know, all fields but the prose.
pub fn same_docs(ours: &Reply, theirs: &Reply) -> Result<(), String> {
    let (ours, theirs) = (pairs(ours)?, pairs(theirs)?);
    for (name, our) in &ours {
        // Newer than the reference.
        if let Some(their) = theirs.get(name) {
            same_doc(name, our, their)?;
        }
    }
    Ok(())
}

fn same_doc(name: &str, ours: &Reply, theirs: &Reply) -> Result<(), String> {
    const PROSE: &[&str] = &["summary", "complexity"];
    let (ours, theirs) = (pairs(ours)?, pairs(theirs)?);
    for field in ours.keys().chain(theirs.keys()) {
        let (our, their) = (ours.get(field), theirs.get(field));
        match field.as_str() {
            prose if PROSE.contains(&prose) && our.is_some() == their.is_some() => {}
            "replaced_by" if name == "getset" && our.is_some() && their.is_some() => {}
            "history" => same_history(name, our, their)?,
            "subcommands" => {
                let (Some(our), Some(their)) = (our, their) else {
                    return Err(format!("{name}: subcommands of one alone"));
                };
                same_docs(our, their)?;
            }
            // These have got options since.
            "arguments" if NEWER_ARGUMENTS.contains(&name) => {}
            _ if our == their => {}
            _ => return Err(format!("{name}: {field} differs: {our:?}, {their:?}")),
        }
    }
    Ok(())
}

/// The same versions in the same order, but for those that are newer than the reference.
fn same_history(name: &str, ours: Option<&Reply>, theirs: Option<&Reply>) -> Result<(), String> {
    const NEWER: &[&str] = &["7.2.0", "7.4.0"];
    let versions = |history: Option<&Reply>| -> Result<Vec<String>, String> {
        let entries = history.map(Reply::items).unwrap_or_default();
        let versions = entries.iter().map(|entry| match entry.items() {
            [version, Reply::Bulk(text)] if !text.is_empty() => Ok(version.text().to_string()),
            other => Err(format!("{name}: a history of {other:?}")),
        });
        let mut versions = versions.collect::<Result<Vec<_>, _>>()?;
        versions.retain(|version| !NEWER.contains(&&**version));
        Ok(versions)
    };
    let (ours, theirs) = (versions(ours)?, versions(theirs)?);
    if ours == theirs { Ok(()) } else { Err(format!("{name}: history of {ours:?}, {theirs:?}")) }
}

const NEWER_ARGUMENTS: &[&str] = &["client|kill"];

/// A map, or an array that lists one, by its keys.
fn pairs(reply: &Reply) -> Result<BTreeMap<String, Reply>, String> {
    match reply {
        Reply::Map(pairs) => {
            Ok(pairs.iter().map(|(k, v)| (k.text().to_string(), v.clone())).collect())
        }
        Reply::Array(items) if items.len() % 2 == 0 => {
            Ok(items.chunks(2).map(|pair| (pair[0].text().to_string(), pair[1].clone())).collect())
        }
        other => Err(format!("not a map: {other:?}")),
    }
}
