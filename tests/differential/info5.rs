//! INFO, LATENCY HISTOGRAM, MEMORY, CONFIG REWRITE and DEBUG: commands for sequences, and how
//! their replies are compared.

use std::collections::BTreeMap;

use crate::common::{Reply, Rng};
use crate::generate::Command;

/// Lines without a key.
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
    "DEBUG RELOAD",
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

fn check(holds: bool, problem: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem.to_owned()) }
}

/// Fields of the reference that have no meaning here.
const WITHOUT_MEANING: &[&str] = &["atomicvar_api", "gcc_version"];

/// Fields that depend on the commands alone.
const EQUAL: &[&str] = &[
    "redis_mode",
    "arch_bits",
    "hz",
    "cluster_enabled",
    "role",
    "connected_slaves",
    "maxclients",
    "maxmemory",
    "maxmemory_policy",
    "loading",
];

/// Commands that the test itself sends as often as it has to.
const UNCOUNTED: &[&str] = &["info", "scan"];

/// A section's title and its fields.
type Section = (String, Vec<(String, String)>);

fn sections(text: &str) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.split("\r\n").filter(|line| !line.is_empty()) {
        if let Some(title) = line.strip_prefix("# ") {
            sections.push((title.to_owned(), Vec::new()));
            continue;
        }
        let (_, fields) = sections.last_mut().ok_or("a field ahead of all titles")?;
        let (name, value) = line.split_once(':').ok_or_else(|| format!("{line:?} is no field"))?;
        fields.push((name.to_owned(), value.to_owned()));
    }
    Ok(sections)
}

/// The same sections; in each, all fields of the reference's in its order; equal values where they
/// depend on the commands alone.
pub fn info(ours: &Reply, theirs: &Reply) -> Result<(), String> {
    check(std::mem::discriminant(ours) == std::mem::discriminant(theirs), "kinds differ")?;
    let (ours, theirs) = (sections(&ours.text())?, sections(&theirs.text())?);
    let titles = |sections: &[Section]| sections.iter().map(|s| s.0.clone()).collect::<Vec<_>>();
    check(titles(&ours) == titles(&theirs), "the sections differ")?;
    for ((title, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        match title.as_str() {
            "Commandstats" => same_values(ours, theirs, |_, value| {
                let parts = value.split(',').filter(|part| !part.starts_with("usec"));
                parts.collect::<Vec<_>>().join(",")
            })?,
            "Latencystats" => same_values(ours, theirs, |_, value| {
                let parts = value.split(',').filter_map(|part| part.split('=').next());
                parts.collect::<Vec<_>>().join(",")
            })?,
            "Errorstats" => same_values(ours, theirs, |_, value| value.to_owned())?,
            "Keyspace" => same_values(ours, theirs, |_, value| {
                value.split(",avg_ttl").next().unwrap_or_default().to_owned()
            })?,
            _ => same_fields(ours, theirs)?,
        }
    }
    Ok(())
}

fn same_fields(ours: &[(String, String)], theirs: &[(String, String)]) -> Result<(), String> {
    let mut rest = ours.iter();
    for (name, value) in theirs.iter().filter(|(name, _)| !WITHOUT_MEANING.contains(&&**name)) {
        let Some((_, ours)) = rest.find(|(our_name, _)| our_name == name) else {
            return Err(format!("the field {name} is missing or out of order"));
        };
        if EQUAL.contains(&&**name) {
            check(ours == value, &format!("{name}: {ours} and {value}"))?;
        }
    }
    Ok(())
}

/// The same names in any order, with the same `part` of their values.
fn same_values(
    ours: &[(String, String)],
    theirs: &[(String, String)],
    part: impl Fn(&str, &str) -> String,
) -> Result<(), String> {
    let counted = |fields: &[(String, String)]| -> BTreeMap<String, String> {
        let is_counted = |name: &str| !UNCOUNTED.iter().any(|u| name.ends_with(&format!("_{u}")));
        let fields = fields.iter().filter(|(name, _)| is_counted(name));
        fields.map(|(name, value)| (name.clone(), part(name, value))).collect()
    };
    let (ours, theirs) = (counted(ours), counted(theirs));
    for name in ours.keys().chain(theirs.keys()) {
        let (our, their) = (ours.get(name), theirs.get(name));
        check(our == their, &format!("{name}: {our:?} and {their:?}"))?;
    }
    Ok(())
}

/// Keys and values of a map, or of an array that lists them in turn.
fn pairs(reply: &Reply) -> Result<Vec<(Reply, Reply)>, String> {
    match reply {
        Reply::Map(pairs) => Ok(pairs.clone()),
        Reply::Array(items) => {
            let (pairs, []) = items.as_chunks::<2>() else {
                return Err("a key without a value".into());
            };
            Ok(pairs.iter().map(|[key, value]| (key.clone(), value.clone())).collect())
        }
        other => Err(format!("no map: {other:?}")),
    }
}

/// The same commands, as often called; bounds that rise, with numbers that rise to the calls.
pub fn histogram(ours: &Reply, theirs: &Reply) -> Result<(), String> {
    check(std::mem::discriminant(ours) == std::mem::discriminant(theirs), "kinds differ")?;
    let (mut ours, mut theirs) = (pairs(ours)?, pairs(theirs)?);
    for pairs in [&mut ours, &mut theirs] {
        pairs.retain(|(name, _)| !UNCOUNTED.contains(&&*name.text()));
        // Subcommands, and all commands, come in an order of each server's own.
        pairs.sort_by_key(|(name, _)| name.text());
    }
    let names =
        |all: &[(Reply, Reply)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    check(names(&ours) == names(&theirs), "the commands differ")?;
    for ((name, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        let (ours, theirs) = (pairs(ours)?, pairs(theirs)?);
        check(ours.len() == 2 && ours[0] == theirs[0], &format!("calls of {name:?} differ"))?;
        check(ours[1].0 == theirs[1].0, "names differ")?;
        let bounds = pairs(&ours[1].1)?;
        let (mut last, mut total) = ((-1, 0), 0);
        for (us, calls) in bounds {
            check(us.int() > last.0 && calls.int() > last.1, "bounds do not rise")?;
            last = (us.int(), calls.int());
            total = calls.int();
        }
        check(Reply::Int(total) == ours[0].1, "calls are missing")?;
    }
    Ok(())
}

/// The same fields with values of the same kinds.
pub fn memory_stats(ours: &Reply, theirs: &Reply) -> Result<(), String> {
    check(std::mem::discriminant(ours) == std::mem::discriminant(theirs), "kinds differ")?;
    let (ours, theirs) = (pairs(ours)?, pairs(theirs)?);
    check(ours.len() == theirs.len(), "the numbers of fields differ")?;
    for ((our_name, our), (their_name, their)) in ours.iter().zip(&theirs) {
        check(our_name == their_name, &format!("{our_name:?} and {their_name:?}"))?;
        let same = std::mem::discriminant(our) == std::mem::discriminant(their);
        check(same, &format!("{our_name:?}: {our:?} and {their:?}"))?;
        if our_name.text().starts_with("db.") {
            memory_stats(our, their)?;
        }
    }
    Ok(())
}

/// A heading, lines of one's own, and HELP itself.
pub fn help(ours: &Reply, theirs: &Reply) -> Result<(), String> {
    let (ours, theirs) = (ours.items(), theirs.items());
    check(ours.first() == theirs.first(), "the headings differ")?;
    check(ours.len() > 3 && ours[ours.len() - 2..] == theirs[theirs.len() - 2..], "the ends differ")
}

/// The headings of DEBUG HTSTATS, in their order.
pub fn table_layout(ours: &Reply, theirs: &Reply) -> Result<(), String> {
    check(std::mem::discriminant(ours) == std::mem::discriminant(theirs), "kinds differ")?;
    let headings = |reply: &Reply| {
        let text = reply.text();
        let lines = text.lines().filter(|line| line.starts_with(['[', 'H', 'N']));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    check(headings(ours) == headings(theirs), "the headings differ")
}
