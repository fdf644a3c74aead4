//! INFO, LATENCY HISTOGRAM, MEMORY, CONFIG REWRITE and DEBUG: commands for sequences.

use super::Command;
use crate::common::Rng;

/// Lines without a key. DEBUG RELOAD itself is not among them: what the reference loads from its
/// RDB file has lost how its values were encoded.
const LINES: &[&str] = &[
    "INFO commandstats",
    "INFO COMMANDSTATS errorstats",
    "INFO latencystats",
    "INFO errorstats keyspace",
    "INFO memory cpu",
    "INFO keyspace stats replication",
    "INFO modules cluster",
    "INFO all",
    "INFO everything",
    "INFO default commandstats",
    "INFO default default",
    "INFO server all nosuch",
    "INFO nosuch x y",
    "INFO sentinel",
    "INFO everything all default",
    "LATENCY HISTOGRAM",
    "LATENCY HISTOGRAM set",
    "LATENCY HISTOGRAM SET nosuch get",
    "LATENCY HISTOGRAM set set",
    "LATENCY HISTOGRAM client",
    "LATENCY HISTOGRAM client|list CLIENT|GETNAME",
    "LATENCY HISTOGRAM client|nosuch |list client|",
    "LATENCY HISTOGRAM config multi exec incr",
    "LATENCY",
    "LATENCY FOO",
    "LATENCY HISTOGRAMS",
    "LATENCY DOCTOR x",
    "LATENCY GRAPH",
    "LATENCY HISTORY",
    "LATENCY HISTORY nosuch",
    "LATENCY HISTORY fork x",
    "LATENCY GRAPH fork x",
    "LATENCY RESET nosuch",
    "LATENCY RESET nosuch nosuch fork",
    "LATENCY LATEST",
    "CONFIG GET maxmemory* *-max-bulk-len",
    "CONFIG GET hz hz HZ",
    "CONFIG GET HZ h? timeout",
    "CONFIG GET h? HZ [t]imeout TimeOut",
    "CONFIG GET slave-* replica-*",
    "CONFIG GET *buffer-limit* nosuch [h]z",
    "LATENCY LATEST x",
    "LATENCY GRAPH nosuch",
    "LATENCY HELP x",
    "MEMORY",
    "MEMORY FOO",
    "MEMORY FOO bar",
    "MEMORY HELP",
    "MEMORY HELP x",
    "MEMORY DOCTOR",
    "MEMORY DOCTOR x",
    "MEMORY STATS",
    "MEMORY STATS x",
    "MEMORY MALLOC-STATS",
    "MEMORY MALLOC-STATS x",
    "MEMORY PURGE",
    "MEMORY PURGE x",
    "MEMORY USAGE",
    "CONFIG REWRITE",
    "CONFIG REWRITE x",
    "CONFIG REWRITES",
    "CONFIG HELP x",
    "CONFIG RESETSTAT",
    "COMMAND INFO memory latency config debug info",
    "COMMAND INFO memory|usage latency|histogram config|rewrite",
    "DEBUG RELOAD x",
    "DEBUG RELOAD MERGE x",
    "DEBUG DIGEST-VALUE",
    "DEBUG HTSTATS",
    "DEBUG HTSTATS 0",
    "DEBUG HTSTATS 15",
    "DEBUG HTSTATS 16",
    "DEBUG HTSTATS -1",
    "DEBUG HTSTATS x",
    "DEBUG HTSTATS 99999999999999999999",
    "DEBUG HTSTATS-KEY",
    "DEBUG PROTOCOL",
    "DEBUG PROTOCOL foo",
    "DEBUG PROTOCOL string x",
    "DEBUG PAUSE-CRON 0",
    "DEBUG PAUSE-CRON x",
    "DEBUG PAUSE-CRON",
    "DEBUG AOF-FLUSH-SLEEP 0",
    "DEBUG AOF-FLUSH-SLEEP x",
    "DEBUG AOF-FLUSH-SLEEP",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 100",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 1kb",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 4293918720",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 4293918721",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 4294967295",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 4gb",
    "DEBUG QUICKLIST-PACKED-THRESHOLD -1",
    "DEBUG QUICKLIST-PACKED-THRESHOLD x",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 1tb",
    "DEBUG QUICKLIST-PACKED-THRESHOLD",
    "DEBUG QUICKLIST-PACKED-THRESHOLD 0",
    "DEBUG CHANGE-REPL-ID",
    "DEBUG CHANGE-REPL-ID x",
    "DEBUG STRINGMATCH-LEN",
];

/// But `push`, which is two replies.
const TYPES: &[&str] = &[
    "string", "integer", "double", "bignum", "null", "array", "set", "map", "attrib", "verbatim",
    "true", "false", "STRING", "nul", "",
];

const SECTIONS: &[&str] = &[
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "modules",
    "commandstats",
    "errorstats",
    "latencystats",
    "cluster",
    "keyspace",
    "default",
    "all",
    "everything",
    "nosuch",
    "",
];

const PARAMETERS: &[(&str, &[&str])] = &[
    ("latency-tracking", &["yes", "no", "yes", "maybe", ""]),
    (
        "latency-tracking-info-percentiles",
        &["50 99 99.9", "", "0 100", "12.5", "101", "-1", "abc", "50 x", "99.99999", "1e1"],
    ),
    ("active-expire-effort", &["1", "10", "0", "11", "x", "5"]),
    ("latency-monitor-threshold", &["0", "-1", "x"]),
];

/// A command of this part.
pub fn command(rng: &mut Rng, keys: &[Vec<u8>]) -> Command {
    let words = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    let key = |rng: &mut Rng| keys[rng.below(keys.len())].clone();
    match rng.below(12) {
        0 | 1 => {
            let mut args: Command = words("MEMORY USAGE");
            args.push(key(rng));
            for _ in 0..[0, 0, 1, 1, 2][rng.below(5)] {
                args.extend(words(rng.pick(&["SAMPLES", "samples", "SAMPLE", "FOO"])));
                if !rng.one_in(6) {
                    args.extend(words(rng.pick(&["0", "5", "-1", "x", "9223372036854775808"])));
                }
            }
            args
        }
        2 => [words("DEBUG PROTOCOL"), words(rng.pick(TYPES))].concat(),
        3 => {
            let name = ["DEBUG HTSTATS-KEY", "DEBUG DIGEST-VALUE"][rng.below(2)];
            let mut args: Command = words(name);
            args.push(key(rng));
            if rng.one_in(4) {
                args.push(key(rng));
            }
            args
        }
        4 => {
            let count = 1 + rng.below(3);
            let chosen = (0..count).map(|_| rng.pick(SECTIONS).to_owned()).collect::<Vec<_>>();
            words(&format!("INFO {}", chosen.join(" ")))
        }
        5 | 6 => {
            let (name, values) = PARAMETERS[rng.below(PARAMETERS.len())];
            let mut args: Command = words("CONFIG GET");
            args.push(name.as_bytes().to_vec());
            if rng.one_in(2) {
                args[1] = b"SET".to_vec();
                args.push(rng.pick(values).as_bytes().to_vec());
            }
            args
        }
        _ => words(LINES[rng.below(LINES.len())]),
    }
}
