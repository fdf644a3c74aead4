//! MEMORY: who holds how much of it.

use super::options;
use crate::engine::command::Arity::{AtLeast, Exactly};
use crate::engine::command::{CommandSpec, Doc, Flags, KeySpec};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::keyspace::{Database, Keyspace};
use crate::resp::args::Args;
use crate::resp::reply::Reply;
use crate::sys::memory;

const USAGE_KEYS: &[KeySpec] = &[KeySpec { flags: &["RO"], notes: "", first: 2, last: 0, step: 1 }];
const TIPS: &[&str] =
    &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];
const SHOWS_FIGURES: Flags = Flags::NO_KEYS.and(Flags::FIGURES);

/// The command of this family.
pub static ROWS: &[CommandSpec] = &[CommandSpec {
    name: "memory",
    doc: Doc::new(
        "server",
        "4.0.0",
        "Depends on subcommand.",
        "A container for commands about memory.",
    ),
    arity: AtLeast(2),
    subcommands: &[
        CommandSpec {
            name: "doctor",
            doc: Doc::new("server", "4.0.0", "O(1)", "Says in words how memory is used."),
            arity: Exactly(2),
            flags: SHOWS_FIGURES,
            tips: TIPS,
            run: doctor,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "help",
            doc: Doc::new("server", "4.0.0", "O(1)", "Lists the subcommands."),
            arity: Exactly(2),
            flags: Flags::NO_KEYS.and(Flags::LOADING).and(Flags::STALE),
            run: help,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "malloc-stats",
            doc: Doc::new(
                "server",
                "4.0.0",
                "Depends on how much memory is allocated, could be slow",
                "Returns what the allocator tells of itself.",
            ),
            arity: Exactly(2),
            flags: Flags::NO_KEYS,
            tips: TIPS,
            run: malloc_stats,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "purge",
            doc: Doc::new(
                "server",
                "4.0.0",
                "Depends on how much memory is allocated, could be slow",
                "Gives unused memory back to the system.",
            ),
            arity: Exactly(2),
            flags: Flags::NO_KEYS,
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            run: purge,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "stats",
            doc: Doc::new("server", "4.0.0", "O(1)", "Tells how much memory is used for what."),
            arity: Exactly(2),
            flags: SHOWS_FIGURES,
            tips: TIPS,
            run: stats,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "usage",
            doc: Doc::new(
                "server",
                "4.0.0",
                "O(N) where N is the number of samples.",
                "Tells how much memory a key takes.",
            )
            .takes("key [SAMPLES=count:int]"),
            arity: AtLeast(3),
            flags: Flags::READONLY,
            keys: USAGE_KEYS,
            run: usage,
            ..CommandSpec::ROW
        },
    ],
    ..CommandSpec::ROW
}];

const HELP: &[&str] = &[
    "DOCTOR",
    "    Say in words whether memory is put to good use, and what to do if not.",
    "MALLOC-STATS",
    "    Return what the allocator tells of itself.",
    "PURGE",
    "    Give memory that the allocator keeps for later back to the system.",
    "STATS",
    "    Return how much memory is used for what, in bytes.",
    "USAGE <key> [SAMPLES <count>]",
    "    Return the bytes that <key> takes, its value and its place in the tables included.",
    "    Of a value with elements, <count> are looked at (5 by default; 0 is all).",
];

fn help(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.help("MEMORY", HELP);
    Ok(())
}

/// A key's own allocations and its share of the tables. SAMPLES is of use once values have
/// elements: a string is measured whole. A key past its deadline takes what it takes, as in Redis.
fn usage(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut words = args.from(3);
    while let Some(word) = words.next() {
        let count = words.next().filter(|_| options::is(word, "SAMPLES"));
        if options::integer(count.ok_or(CommandError::SYNTAX)?)? < 0 {
            return Err(CommandError::SYNTAX);
        }
    }
    let db = cx.keyspace.db(cx.session.db);
    let Some(entry) = db.get(&args[2]) else {
        cx.reply.null();
        return Ok(());
    };
    let (own, is_volatile) = (entry.memory_bytes(), entry.deadline().is_some());
    let deadline = if is_volatile { db.volatile_bytes() / db.volatile_len().max(1) } else { 0 };
    let bytes = own + db.table_bytes() / db.len().max(1) + deadline;
    cx.reply.count(bytes);
    Ok(())
}

fn purge(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    memory::purge().map_err(|_| CommandError::new("ERR Error purging dirty pages"))?;
    cx.reply.ok();
    Ok(())
}

fn malloc_stats(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    let text = memory::report();
    let text = text.map_err(|e| CommandError::owned(format!("ERR No statistics: {e}")))?;
    cx.reply.verbatim(*b"txt", &text);
    Ok(())
}

/// What is in use for what, bytes: the sums that INFO and MEMORY tell alike.
pub(super) struct Usage {
    /// Held by the program.
    pub(super) used: u64,
    /// The most it ever was, seen each tenth of a second.
    pub(super) peak: u64,
    /// Of these, not keys and values.
    pub(super) overhead: u64,
    /// Keys and values.
    pub(super) dataset: u64,
    /// Of all that was added since the start, how much keys and values are, percent.
    pub(super) dataset_percent: f64,
    /// Buffers of the log.
    pub(super) log_buffers: u64,
    keys: usize,
}

impl Usage {
    /// Adds up what the figures say.
    pub(super) fn new(cx: &Cx<'_>) -> Usage {
        let figures = &cx.registries.figures;
        let memory = &figures.memory;
        let used = memory.used_bytes;
        let log_buffers = memory.uncounted_bytes;
        let tables: usize =
            cx.keyspace.iter().map(|db| db.table_bytes() + db.volatile_bytes()).sum();
        let overhead = memory.startup_bytes + log_buffers + (figures.clients_bytes + tables) as u64;
        let dataset = used.saturating_sub(overhead);
        Usage {
            used,
            peak: cx.registries.stats.peak_memory_bytes.max(used),
            overhead,
            dataset,
            dataset_percent: ratio(dataset, used.saturating_sub(memory.startup_bytes)) * 100.0,
            log_buffers,
            keys: cx.keyspace.iter().map(Database::len).sum(),
        }
    }
}

/// A part of a whole; 0 of none.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn stats(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    let usage = Usage::new(cx);
    let figures = &cx.registries.figures;
    let (memory, allocator) = (&figures.memory, &figures.memory.allocator);
    let databases: Vec<usize> =
        (0..cx.keyspace.databases()).filter(|index| !cx.keyspace.db(*index).is_empty()).collect();
    let reply = &mut cx.reply;
    reply.map(27 + databases.len());
    put(reply, "peak.allocated", usage.peak);
    put(reply, "total.allocated", usage.used);
    put(reply, "startup.allocated", memory.startup_bytes);
    put(reply, "replication.backlog", 0);
    put(reply, "clients.slaves", 0);
    put(reply, "clients.normal", figures.clients_bytes as u64);
    put(reply, "cluster.links", 0);
    put(reply, "aof.buffer", usage.log_buffers);
    put(reply, "lua.caches", 0);
    put(reply, "functions.caches", 0);
    for index in databases {
        put_database(reply, cx.keyspace, index);
    }
    put(reply, "overhead.total", usage.overhead);
    put(reply, "keys.count", usage.keys as u64);
    let beyond_start = usage.used.saturating_sub(memory.startup_bytes);
    put(reply, "keys.bytes-per-key", beyond_start / (usage.keys as u64).max(1));
    put(reply, "dataset.bytes", usage.dataset);
    put_double(reply, "dataset.percentage", usage.dataset_percent);
    put_double(reply, "peak.percentage", ratio(usage.used, usage.peak) * 100.0);
    put(reply, "allocator.allocated", allocator.allocated_bytes);
    put(reply, "allocator.active", allocator.active_bytes);
    put(reply, "allocator.resident", allocator.resident_bytes);
    for (name, of, over) in [
        ("allocator-fragmentation", allocator.active_bytes, allocator.allocated_bytes),
        ("allocator-rss", allocator.resident_bytes, allocator.active_bytes),
        ("rss-overhead", memory.rss_bytes, allocator.resident_bytes),
    ] {
        put_double(reply, &format!("{name}.ratio"), ratio(of, over));
        put_difference(reply, &format!("{name}.bytes"), of, over);
    }
    put_double(reply, "fragmentation", ratio(memory.rss_bytes, usage.used));
    put_difference(reply, "fragmentation.bytes", memory.rss_bytes, usage.used);
    Ok(())
}

fn put(reply: &mut Reply<'_>, name: &str, bytes: u64) {
    reply.bulk(name.as_bytes());
    reply.integer(bytes.cast_signed());
}

fn put_double(reply: &mut Reply<'_>, name: &str, value: f64) {
    reply.bulk(name.as_bytes());
    reply.double(value);
}

fn put_difference(reply: &mut Reply<'_>, name: &str, bytes: u64, less: u64) {
    reply.bulk(name.as_bytes());
    reply.integer(bytes.cast_signed() - less.cast_signed());
}

fn put_database(reply: &mut Reply<'_>, keyspace: &Keyspace, index: usize) {
    let db = keyspace.db(index);
    reply.bulk(format!("db.{index}").as_bytes());
    reply.map(3);
    put(reply, "overhead.hashtable.main", db.table_bytes() as u64);
    put(reply, "overhead.hashtable.expires", db.volatile_bytes() as u64);
    put(reply, "overhead.hashtable.slot-to-keys", 0);
}

/// Below this much memory, shares and ratios say nothing: Redis's bound.
const TOO_LITTLE_BYTES: u64 = 5 << 20;

/// A ratio is only worth a word if so much memory is at stake.
const WORTH_BYTES: u64 = 10 << 20;

fn doctor(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    let usage = Usage::new(cx);
    let text = if usage.used < TOO_LITTLE_BYTES {
        "There is too little data yet to tell anything of how memory is used.\n".to_owned()
    } else {
        diagnose(cx, &usage)
    };
    cx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

fn diagnose(cx: &Cx<'_>, usage: &Usage) -> String {
    let figures = &cx.registries.figures;
    let (memory, allocator) = (&figures.memory, &figures.memory.allocator);
    let wasted = |of: u64, over: u64, limit: f64| {
        ratio(of, over) > limit && of.saturating_sub(over) > WORTH_BYTES
    };
    let clients = figures.connected_clients.max(1);
    let findings = [
        (
            ratio(usage.peak, usage.used) > 1.5,
            "Peak: memory use was more than one and a half times what it is now. The process may \
             still hold some of that; MEMORY PURGE gives it back.",
        ),
        (
            wasted(memory.rss_bytes, usage.used, 1.4),
            "Fragmentation: the process holds much more memory than is in use. The points below \
             tell where, if one stands out; else it is what is left of a peak.",
        ),
        (
            wasted(allocator.active_bytes, allocator.allocated_bytes, 1.1),
            "Inside the allocator: pages are in use of which a large part is free. Values that \
             changed their lengths leave that; a restart does away with it.",
        ),
        (
            wasted(allocator.resident_bytes, allocator.active_bytes, 1.1),
            "Kept by the allocator: pages without use that were not given back yet. MEMORY PURGE \
             gives them back.",
        ),
        (
            wasted(memory.rss_bytes, allocator.resident_bytes, 1.1),
            "Outside the allocator: memory of the process that holds no data, such as threads' \
             stacks or huge pages that are partly in use.",
        ),
        (
            figures.clients_bytes / clients > 200 << 10,
            "Clients: their buffers take more than 200 KiB each. CLIENT LIST tells which; \
             client-output-buffer-limit bounds them.",
        ),
        (
            usage.log_buffers > 64 << 20,
            "Log: more than 64 MiB wait to be written to the append-only file, or for its \
             rewrite. The disk is slower than the writers.",
        ),
    ];
    let mut text = String::new();
    for (_, finding) in findings.iter().filter(|(is_so, _)| *is_so) {
        text.push_str(" * ");
        text.push_str(finding);
        text.push('\n');
    }
    if text.is_empty() {
        return "Nothing stands out: memory is put to good use.\n".to_owned();
    }
    format!("What stands out in how memory is used:\n\n{text}")
}

#[cfg(test)]
mod tests {
    use super::ROWS;
    use crate::commands::{expire, string};
    use crate::engine::testing::Bench;

    fn bench() -> Bench {
        Bench::new(&[ROWS, string::ROWS, expire::ROWS])
    }

    fn usage(bench: &mut Bench, key: &str) -> usize {
        let reply = bench.send(&format!("memory usage {key}"));
        reply.strip_prefix(':').and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{reply}"))
    }

    #[test]
    fn usage_counts_key_value_tables_and_deadline() {
        let mut bench = bench();
        assert_eq!(bench.send("memory usage nosuch"), "$-1");
        for n in 0..10_000 {
            bench.send(&format!("set key:{n:012} abc"));
        }
        let small = usage(&mut bench, "key:000000000001");
        assert!((40..60).contains(&small), "{small}");
        bench.run(&[b"set", b"key:000000000001", &[b'x'; 10_000]]);
        let large = usage(&mut bench, "key:000000000001");
        assert!((10_000..10_400).contains(&large), "{large}");
        bench.send("expire key:000000000002 100");
        let volatile = usage(&mut bench, "key:000000000002");
        assert!((small + 8..small + 64).contains(&volatile), "{volatile}");
    }

    #[test]
    fn samples_are_checked_ahead_of_the_key() {
        let mut bench = bench();
        bench.send("set k v");
        for (options, reply) in [
            ("samples", "-ERR syntax error"),
            ("samples -1", "-ERR syntax error"),
            ("samples 0 x", "-ERR syntax error"),
            ("foo 3", "-ERR syntax error"),
            ("samples x", "-ERR value is not an integer or out of range"),
        ] {
            for key in ["k", "nosuch"] {
                assert_eq!(bench.send(&format!("memory usage {key} {options}")), reply);
            }
        }
        assert_eq!(bench.send("memory usage nosuch samples 0 SAMPLES 7"), "$-1");
        assert!(bench.send("memory usage k samples 0 SAMPLES 7").starts_with(':'));
    }

    #[test]
    fn a_key_past_its_deadline_takes_memory_until_it_is_removed() {
        let mut bench = bench();
        bench.send("set k v px 5");
        bench.advance_ms(6);
        assert!(usage(&mut bench, "k") > 0);
        bench.send("get k");
        assert_eq!(bench.send("memory usage k"), "$-1");
    }

    #[test]
    fn stats_are_a_map_with_an_entry_for_each_database_in_use() {
        let mut bench = bench();
        bench.resp3();
        assert!(bench.send("memory stats").starts_with("%27 $14 peak.allocated :"));
        bench.send("set k v");
        let text = bench.send("memory stats");
        assert!(text.starts_with("%28 "), "{text}");
        assert!(text.contains("$4 db.0 %3 $23 overhead.hashtable.main :"), "{text}");
        assert!(text.contains("$10 keys.count :1 "), "{text}");
        assert!(text.contains("$18 dataset.percentage ,0 "), "{text}");
    }

    #[test]
    fn the_doctor_finds_what_stands_out() {
        let mut bench = bench();
        assert!(bench.send("memory doctor").contains("too little data"));
        let memory = &mut bench.registries.figures.memory;
        memory.used_bytes = 100 << 20;
        memory.allocator.allocated_bytes = 100 << 20;
        memory.allocator.active_bytes = 101 << 20;
        memory.allocator.resident_bytes = 102 << 20;
        memory.rss_bytes = 103 << 20;
        assert!(bench.send("memory doctor").contains("Nothing stands out"));
        bench.registries.figures.memory.allocator.resident_bytes = 150 << 20;
        bench.registries.figures.memory.rss_bytes = 151 << 20;
        let text = bench.send("memory doctor");
        assert!(text.contains("Fragmentation:") && text.contains("Kept by the allocator:"));
        assert!(!text.contains("Inside the allocator:") && !text.contains("Clients:"), "{text}");
    }
}
