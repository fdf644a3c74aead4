//! Listing keys: KEYS and SCAN.

use super::options;
use crate::data::Type;
use crate::engine::command::{Arity, CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;
use crate::text::glob::glob_match;
use crate::text::number;
use Arity::{AtLeast, Exactly};

const FLAGS: Flags = Flags::READONLY.and(Flags::C_KEYSPACE);

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "keys",
        doc: Doc::new(
            "generic",
            "1.0.0",
            "O(N), N keys in the database",
            "Names all keys that match a pattern.",
        )
        .takes("pattern:pattern"),
        arity: Exactly(2),
        flags: FLAGS.and(Flags::C_DANGEROUS),
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        run: keys,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "scan",
        doc: Doc::new(
            "generic",
            "2.8.0",
            "O(1) a call, O(N) a whole iteration",
            "Names all keys, a few with each call.",
        )
        .takes("cursor:int [MATCH=pattern:pattern] [COUNT=count:int] [TYPE=type@6.0.0]")
        .changed(&[("6.0.0", "TYPE.")]),
        arity: AtLeast(2),
        flags: FLAGS,
        tips: &["nondeterministic_output", "request_policy:special"],
        run: scan,
        ..CommandSpec::ROW
    },
];

const INVALID_CURSOR: CommandError = CommandError::new("ERR invalid cursor");

/// How many keys a call of SCAN looks at, about, if it is not told.
const DEFAULT_COUNT: usize = 10;

/// Which keys are wanted.
struct Filter<'a> {
    /// MATCH; none for `*`, which all keys match.
    pattern: Option<&'a [u8]>,
    /// TYPE; a name that no type has admits no key.
    type_name: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    fn matching(pattern: &'a [u8]) -> Filter<'a> {
        Filter { pattern: (pattern != b"*").then_some(pattern), type_name: None }
    }

    fn admits_key(&self, key: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob_match(pattern, key, false))
    }

    fn admits_type(&self, value_type: Type) -> bool {
        self.type_name.is_none_or(|name| options::is(name, value_type.name()))
    }
}

/// `KEYS pattern`; keys past their deadline are passed over, and stay.
fn keys(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let filter = Filter::matching(&args[1]);
    let start = cx.reply.position();
    let mut found = 0;
    for entry in cx.keyspace.db(cx.session.db).iter() {
        if filter.admits_key(entry.key()) && !(cx.expires() && entry.is_expired(cx.now)) {
            cx.reply.bulk(entry.key());
            found += 1;
        }
    }
    cx.reply.insert(start, |reply| reply.array(found));
    Ok(())
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`; keys past their deadline are removed.
fn scan(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let cursor = number::parse_cursor(&args[1]).ok_or(INVALID_CURSOR)?;
    let (filter, count) = parse_scan(args.from(2))?;
    let start = cx.reply.position();
    let (now, expires) = (cx.now, cx.expires());
    let reply = &mut cx.reply;
    let mut found = 0;
    let (mut live, mut expired) = (0, Vec::new());
    let next = cx.keyspace.db(cx.session.db).scan(cursor, count, |entry| {
        if !filter.admits_key(entry.key()) {
            return;
        }
        if expires && entry.is_expired(now) {
            expired.push(entry.key().to_vec());
            return;
        }
        live += 1;
        if filter.admits_type(entry.value().value_type()) {
            reply.bulk(entry.key());
            found += 1;
        }
    });
    if filter.type_name.is_some() {
        // To know a key's type Redis looks it up.
        cx.registries.stats.keyspace_hits += live;
        cx.registries.stats.keyspace_misses += expired.len() as u64;
    }
    cx.reply.insert(start, |reply| {
        reply.array(2);
        reply.bulk(itoa::Buffer::new().format(next).as_bytes());
        reply.array(found);
    });
    for key in &expired {
        cx.expire_if_due(key);
    }
    Ok(())
}

fn parse_scan<'a>(
    mut args: impl Iterator<Item = &'a [u8]>,
) -> Result<(Filter<'a>, usize), CommandError> {
    let mut filter = Filter { pattern: None, type_name: None };
    let mut count = DEFAULT_COUNT;
    while let Some(option) = args.next() {
        let value = args.next().ok_or(CommandError::SYNTAX)?;
        if options::is(option, "COUNT") {
            let wanted = options::integer(value)?;
            if wanted < 1 {
                return Err(CommandError::SYNTAX);
            }
            count = usize::try_from(wanted).unwrap_or(usize::MAX);
        } else if options::is(option, "MATCH") {
            filter.pattern = Filter::matching(value).pattern;
        } else if options::is(option, "TYPE") {
            filter.type_name = Some(value);
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    Ok((filter, count))
}

#[cfg(test)]
mod tests {
    use crate::commands::bench;
    use std::collections::BTreeSet;

    #[test]
    fn keys_lists_what_matches_and_leaves_expired_keys_alone() {
        let mut b = bench();
        assert_eq!(b.send("KEYS *"), "*0");
        b.send("MSET key:1 v other v");
        b.send("SET key:2 v PX 5");
        b.advance_ms(6).log();
        assert_eq!(b.send("KEYS key:*"), "*1 $5 key:1");
        assert_eq!(b.send("KEYS k"), "*0");
        let all = b.send("KEYS *");
        assert!(all.starts_with("*2 ") && all.contains("key:1") && all.contains("other"), "{all}");
        assert_eq!(b.log(), [""; 0]);
        assert_eq!(b.send("DBSIZE"), ":3");
    }

    #[test]
    fn scan_filters_and_removes_expired_keys() {
        let mut b = bench();
        b.send("SET a v");
        b.send("SET b v PX 5");
        b.advance_ms(6).log();
        for (line, reply) in [
            ("SCAN 0 MATCH x*", "*2 $1 0 *0"),
            ("DBSIZE", ":2"),
            ("SCAN 0 TYPE STRING COUNT 1000", "*2 $1 0 *1 $1 a"),
            ("DBSIZE", ":1"),
            ("SCAN 0 TYPE list", "*2 $1 0 *0"),
            ("SCAN 0 TYPE nonsense MATCH *", "*2 $1 0 *0"),
            ("SCAN 0 MATCH x MATCH a", "*2 $1 0 *1 $1 a"),
            ("SCAN '' count 9223372036854775807", "*2 $1 0 *1 $1 a"),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
        assert_eq!(b.log(), ["DEL b"]);
    }

    /// Redis looks up each key that it needs the type of.
    #[test]
    fn only_a_scan_for_a_type_counts_lookups() {
        let mut b = bench();
        b.send("MSET a v b v other v");
        b.send("SET late v PX 5");
        b.advance_ms(6);
        for (line, counted) in [
            ("SCAN 0 COUNT 100 MATCH [ab]", (0, 0)),
            ("SCAN 0 COUNT 100 TYPE string MATCH [ab]", (2, 0)),
            ("SCAN 0 COUNT 100 TYPE list", (3, 1)),
            ("SCAN 0 COUNT 100 TYPE list", (3, 0)),
        ] {
            b.registries.stats.reset();
            b.send(line);
            let stats = &b.registries.stats;
            assert_eq!((stats.keyspace_hits, stats.keyspace_misses), counted, "{line}");
        }
    }

    #[test]
    fn scan_refuses_what_it_does_not_know() {
        const INTEGER: &str = "-ERR value is not an integer or out of range";
        let mut b = bench();
        for (line, error) in [
            ("SCAN x", "-ERR invalid cursor"),
            ("SCAN ' 1'", "-ERR invalid cursor"),
            ("SCAN 99999999999999999999", "-ERR invalid cursor"),
            ("SCAN x COUNT 0", "-ERR invalid cursor"),
            ("SCAN 0 COUNT 0", "-ERR syntax error"),
            ("SCAN 0 COUNT x", INTEGER),
            ("SCAN 0 COUNT", "-ERR syntax error"),
            ("SCAN 0 MATCH", "-ERR syntax error"),
            ("SCAN 0 WITH x", "-ERR syntax error"),
        ] {
            assert_eq!(b.send(line), error, "{line}");
        }
    }

    #[test]
    fn scan_returns_every_key_once_over_many_calls() {
        let mut b = bench();
        let keys: BTreeSet<String> = (0..5000).map(|n| format!("key:{n}")).collect();
        for key in &keys {
            b.send(&format!("SET {key} v"));
        }
        let mut found = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let reply = b.send(&format!("SCAN {cursor} COUNT 100"));
            let words: Vec<&str> = reply.split(' ').collect();
            cursor = words[2].to_owned();
            found.extend(words[4..].iter().skip(1).step_by(2).map(|key| (*key).to_owned()));
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found.len(), keys.len());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), keys);
    }

    #[test]
    fn any_cursor_is_safe() {
        let mut b = bench();
        for n in 0..100 {
            b.send(&format!("SET {n} v"));
        }
        for cursor in ["1", "-1", "18446744073709551615", "281474976710656", "9007199254740993"] {
            assert!(b.send(&format!("SCAN {cursor}")).starts_with("*2 $"), "{cursor}");
        }
    }
}
