//! How replies of INFO, LATENCY HISTOGRAM, MEMORY and DEBUG HTSTATS are compared.

use std::collections::BTreeMap;

use crate::common::Reply;

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
    "maxmemory_human",
    "evicted_keys",
    "total_eviction_exceeded_time",
    "current_eviction_exceeded_time",
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
        // How far the reference's table has moved to a larger one depends on its cron, too.
        let lines = lines.filter(|line| !line.contains("rehashing target"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    check(headings(ours) == headings(theirs), "the headings differ")
}
