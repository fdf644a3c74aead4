//! Listing keys: KEYS and SCAN.

use super::options;
use crate::data::Type;
use crate::data::glob::glob_match;
use crate::engine::command::{Arity, CommandSpec, Flags};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;
use crate::resp::number;
use Arity::{AtLeast, Exactly};

const FLAGS: Flags = Flags::READONLY.and(Flags::C_KEYSPACE);

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "keys",
        arity: Exactly(2),
        flags: FLAGS.and(Flags::C_DANGEROUS),
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        run: keys,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "scan",
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

    fn admits(&self, key: &[u8], value_type: Type) -> bool {
        self.pattern.is_none_or(|pattern| glob_match(pattern, key, false))
            && self.type_name.is_none_or(|name| options::is(name, value_type.name()))
    }
}

/// `KEYS pattern`; keys past their deadline are passed over, and stay.
fn keys(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let filter = Filter::matching(&args[1]);
    let start = cx.reply.position();
    let mut found = 0;
    for entry in cx.keyspace.db(cx.session.db).iter() {
        if filter.admits(entry.key(), entry.value().value_type())
            && !(cx.expires() && entry.is_expired(cx.now))
        {
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
    let mut expired = Vec::new();
    let next = cx.keyspace.db(cx.session.db).scan(cursor, count, |entry| {
        if !filter.admits(entry.key(), entry.value().value_type()) {
            return;
        }
        if expires && entry.is_expired(now) {
            expired.push(entry.key().to_vec());
        } else {
            reply.bulk(entry.key());
            found += 1;
        }
    });
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
