//! OBJECT: how a value is kept, and when its key was last used, or how often.

use crate::engine::command::Arity::{AtLeast, Exactly};
use crate::engine::command::{CommandSpec, Doc, Flags, KeySpec};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::keyspace::Entry;
use crate::keyspace::recency::Tracking;
use crate::resp::args::Args;

const READ: Flags = Flags::READONLY.and(Flags::C_KEYSPACE);
const KEYS: &[KeySpec] = &[KeySpec { first: 2, ..KeySpec::first(&["RO"]) }];
const TIPS: &[&str] = &["nondeterministic_output"];

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[CommandSpec {
    name: "object",
    doc: Doc::new("generic", "2.2.3", "O(1)", "Tells how a value is kept."),
    arity: AtLeast(2),
    subcommands: &[
        CommandSpec {
            name: "encoding",
            doc: Doc::new("generic", "2.2.3", "O(1)", "Tells the form in which a value is kept.")
                .takes("key"),
            arity: Exactly(3),
            flags: READ,
            keys: KEYS,
            tips: TIPS,
            run: encoding,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "freq",
            doc: Doc::new("generic", "4.0.0", "O(1)", "Tells how often a key is used.")
                .takes("key"),
            arity: Exactly(3),
            flags: READ,
            keys: KEYS,
            tips: TIPS,
            run: freq,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "help",
            doc: Doc::new("generic", "6.2.0", "O(1)", "Lists the subcommands."),
            arity: Exactly(2),
            flags: Flags::LOADING.and(Flags::STALE).and(Flags::C_KEYSPACE).and(Flags::NO_KEYS),
            run: help,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "idletime",
            doc: Doc::new("generic", "2.2.3", "O(1)", "Tells for how long a key was not used.")
                .takes("key"),
            arity: Exactly(3),
            flags: READ,
            keys: KEYS,
            tips: TIPS,
            run: idletime,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "refcount",
            doc: Doc::new("generic", "2.2.3", "O(1)", "Tells how many refer to a value.")
                .takes("key"),
            arity: Exactly(3),
            flags: READ,
            keys: KEYS,
            tips: TIPS,
            run: refcount,
            ..CommandSpec::ROW
        },
    ],
    ..CommandSpec::ROW
}];

const USES_ARE_COUNTED: CommandError = CommandError::new(
    "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when \
     switching between policies at runtime LRU and LFU data will take some time to adjust.",
);
const USES_ARE_NOT_COUNTED: CommandError = CommandError::new(
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
     when switching between policies at runtime LRU and LFU data will take some time to adjust.",
);

/// What Redis answers for a value that all keys share.
const SHARED: i64 = i32::MAX as i64;

const HELP: &[&str] = &[
    "ENCODING <key>",
    "    Return how the value of <key> is kept in memory: a string as int, embstr or",
    "    raw.",
    "FREQ <key>",
    "    Return the counter of uses of <key>, which grows with the logarithm of their",
    "    number and falls with time. Only with an LFU maxmemory-policy.",
    "IDLETIME <key>",
    "    Return the seconds that have passed since <key> was last used. Only without",
    "    an LFU maxmemory-policy.",
    "REFCOUNT <key>",
    "    Return how many keys share the value of <key>: small integers count as shared",
    "    by all of them, others as the key's own.",
];

fn help(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.help("OBJECT", HELP);
    Ok(())
}

/// `OBJECT ENCODING key`
fn encoding(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    match cx.glance(&args[2]).map(Entry::encoding) {
        Some(encoding) => cx.reply.bulk(encoding.name().as_bytes()),
        None => cx.reply.null(),
    }
    Ok(())
}

/// `OBJECT REFCOUNT key`
fn refcount(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    match cx.glance(&args[2]).map(Entry::is_unshared) {
        Some(true) => cx.reply.integer(1),
        Some(false) => cx.reply.integer(SHARED),
        None => cx.reply.null(),
    }
    Ok(())
}

/// `OBJECT IDLETIME key`
fn idletime(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let Some(stamp) = cx.glance(&args[2]).map(Entry::stamp) else {
        cx.reply.null();
        return Ok(());
    };
    match cx.keyspace.recency.tracking() {
        Tracking::LastUse => cx.reply.integer(cx.keyspace.recency.idle_seconds(stamp).into()),
        Tracking::Uses(_) => return Err(USES_ARE_COUNTED),
    }
    Ok(())
}

/// `OBJECT FREQ key`
fn freq(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let Some(stamp) = cx.glance(&args[2]).map(Entry::stamp) else {
        cx.reply.null();
        return Ok(());
    };
    match cx.keyspace.recency.tracking() {
        Tracking::Uses(_) => cx.reply.integer(cx.keyspace.recency.frequency(stamp).into()),
        Tracking::LastUse => return Err(USES_ARE_NOT_COUNTED),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::bench;
    use crate::config::EvictionPolicy;

    #[test]
    fn encodings_and_sharing_are_those_of_redis() {
        for (lines, encoding, shared) in [
            ("SET k 5", "int", true),
            ("SET k 9999", "int", true),
            ("SET k 10000", "int", false),
            ("SET k -1", "int", false),
            ("SET k 9223372036854775807", "int", false),
            ("SET k 9223372036854775808", "embstr", false),
            ("SET k 05", "embstr", false),
            ("SET k value", "embstr", false),
            ("APPEND k 5", "int", true),
            ("SET k 1;APPEND k 2", "raw", false),
            ("SET k 5;APPEND k 5;INCR k", "int", true),
            ("INCRBYFLOAT k 5", "embstr", false),
            ("SET s 5;COPY s k", "int", false),
            ("SET s 5;COPY s k;INCR k", "int", true),
            ("SET s 5;COPY s k;EXPIRE k 9;PERSIST k", "int", false),
            ("SET s 5;COPY s t;RENAME t k", "int", false),
            ("SET s 5;RENAME s k", "int", true),
            ("SET s a;APPEND s b;COPY s k", "raw", false),
            ("SET s a;COPY s k", "embstr", false),
        ] {
            let mut b = bench();
            for line in lines.split(';') {
                b.send(line);
            }
            let reply = format!("${} {encoding}", encoding.len());
            assert_eq!(b.send("OBJECT ENCODING k"), reply, "{lines}");
            let count = if shared { i64::from(i32::MAX) } else { 1 };
            assert_eq!(b.send("OBJECT REFCOUNT k"), format!(":{count}"), "{lines}");
        }
        let mut b = bench();
        b.run(&[b"SET", b"k", &[b'x'; 45]]);
        assert_eq!(b.send("OBJECT ENCODING k"), "$3 raw");
    }

    #[test]
    fn integers_are_not_shared_where_eviction_goes_by_their_use() {
        let mut b = bench();
        let mut count = |bytes, policy, line: &str| {
            b.registries.config.maxmemory_bytes = bytes;
            b.registries.config.maxmemory_policy = policy;
            b.send(line);
            b.send("OBJECT REFCOUNT k")
        };
        const SHARED: &str = ":2147483647";
        assert_eq!(count(0, EvictionPolicy::AllKeysLru, "SET k 1"), SHARED);
        assert_eq!(count(1 << 40, EvictionPolicy::AllKeysLru, "GET k"), SHARED);
        assert_eq!(count(1 << 40, EvictionPolicy::AllKeysLru, "SET k 1"), ":1");
        assert_eq!(count(1 << 40, EvictionPolicy::VolatileLfu, "INCR k"), ":1");
        assert_eq!(count(1 << 40, EvictionPolicy::AllKeysRandom, "INCR k"), SHARED);
        assert_eq!(count(1 << 40, EvictionPolicy::VolatileTtl, "SET k 5"), SHARED);
    }

    #[test]
    fn what_is_tracked_depends_on_the_policy() {
        let mut b = bench();
        b.send("SET k v");
        b.advance_ms(7_000);
        assert_eq!(b.send("OBJECT IDLETIME k"), ":7");
        assert!(
            b.send("OBJECT FREQ k").starts_with("-ERR An LFU maxmemory policy is not selected")
        );
        b.registries.config.maxmemory_policy = EvictionPolicy::VolatileLfu;
        assert!(
            b.send("OBJECT IDLETIME k").starts_with("-ERR An LFU maxmemory policy is selected")
        );
        b.send("SET new v");
        assert_eq!(b.send("OBJECT FREQ new"), ":5");
        for name in ["ENCODING", "FREQ", "IDLETIME", "REFCOUNT"] {
            assert_eq!(b.send(&format!("OBJECT {name} absent")), "$-1");
        }
    }

    #[test]
    fn each_use_counts_once_and_as_in_redis() {
        let mut b = bench();
        b.registries.config.maxmemory_policy = EvictionPolicy::AllKeysLfu;
        b.registries.config.lfu_log_factor = 0;
        let mut uses = 4;
        for (line, counted) in [
            ("SET k 1", 1),
            ("SET k 2", 1),
            ("GET k", 1),
            ("EXISTS k", 0),
            ("SET k 3 XX", 1),
            ("SET k 3 GET", 2),
            ("SETEX k 9 3", 1),
            ("GETSET k 3", 2),
            ("MSET k 3", 1),
            ("INCR k", 1),
            ("APPEND k 3", 1),
            ("EXPIRE k 9", 1),
            ("PERSIST k", 1),
            ("RENAME k other", 1),
            ("RENAME other k", 1),
            ("TOUCH k", 1),
            ("COPY k other", 1),
            ("MOVE k 1", 1),
            ("OBJECT REFCOUNT k", 0),
        ] {
            b.send(line);
            b.session().db = usize::from(line.starts_with("MOVE"));
            uses += counted;
            let key = if line == "RENAME k other" { "other" } else { "k" };
            assert_eq!(b.send(&format!("OBJECT FREQ {key}")), format!(":{uses}"), "{line}");
            if b.session().db == 1 {
                b.send("MOVE k 0");
                uses += 1;
            }
            b.session().db = 0;
        }
        assert_eq!(b.send("OBJECT FREQ other"), ":5", "a copy is new");
    }
}
