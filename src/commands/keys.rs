//! Keys as such: delete, tell whether and what they are, empty a database.

use super::options;
use crate::engine::command::{Arity, CommandSpec, Flags, KeySpec};
use crate::engine::cx::Cx;
use crate::engine::effects::{Action, Discarded};
use crate::engine::error::{CommandError, CommandResult};
use crate::keyspace::database::Database;
use crate::resp::args::Args;
use Arity::{AtLeast, Exactly};

const READ: Flags = Flags::READONLY.and(Flags::C_KEYSPACE);
const WRITE: Flags = Flags::WRITE.and(Flags::C_KEYSPACE);

const FLUSH_TIPS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];
const SUM_TIPS: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];

/// How the memory of a flushed database is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freeing {
    /// Before the reply. O(keys).
    Sync,
    /// After it, without holding up the loop.
    Async,
}

impl Freeing {
    fn parse(args: &Args<'_>) -> Result<Freeing, CommandError> {
        match args.get(1) {
            _ if args.len() > 2 => Err(CommandError::SYNTAX),
            None => Ok(Freeing::Sync),
            Some(word) if options::is(word, "SYNC") => Ok(Freeing::Sync),
            Some(word) if options::is(word, "ASYNC") => Ok(Freeing::Async),
            Some(_) => Err(CommandError::SYNTAX),
        }
    }

    fn apply(self, cx: &mut Cx<'_>, flushed: Vec<Database>) {
        match self {
            Freeing::Sync => drop(flushed),
            Freeing::Async => cx.act(Action::Discard(Discarded(flushed))),
        }
    }
}

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "del",
        arity: AtLeast(2),
        flags: WRITE,
        keys: &[KeySpec::each(1, &["RM", "delete"])],
        tips: SUM_TIPS,
        run: del,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "unlink",
        arity: AtLeast(2),
        flags: WRITE.and(Flags::FAST),
        keys: &[KeySpec::each(1, &["RM", "delete"])],
        tips: SUM_TIPS,
        run: del,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "exists",
        arity: AtLeast(2),
        flags: READ.and(Flags::FAST),
        keys: &[KeySpec::each(1, &["RO"])],
        tips: SUM_TIPS,
        run: exists,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "type",
        arity: Exactly(2),
        flags: READ.and(Flags::FAST),
        keys: &[KeySpec::first(&["RO"])],
        run: type_of,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "randomkey",
        arity: Exactly(1),
        flags: READ,
        tips: &["request_policy:all_shards", "nondeterministic_output"],
        run: randomkey,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "dbsize",
        arity: Exactly(1),
        flags: READ.and(Flags::FAST),
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        run: dbsize,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "flushdb",
        arity: AtLeast(1),
        flags: WRITE.and(Flags::C_DANGEROUS),
        tips: FLUSH_TIPS,
        run: flushdb,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "flushall",
        arity: AtLeast(1),
        flags: WRITE.and(Flags::C_DANGEROUS),
        tips: FLUSH_TIPS,
        run: flushall,
        ..CommandSpec::ROW
    },
];

/// `DEL key [key ...]`, `UNLINK key [key ...]`
fn del(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let removed = args.from(1).filter(|key| cx.remove(key)).count();
    cx.reply.count(removed);
    Ok(())
}

/// `EXISTS key [key ...]`; a key given twice counts twice.
fn exists(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let found = args.from(1).filter(|key| cx.read(key).is_some()).count();
    cx.reply.count(found);
    Ok(())
}

/// `TYPE key`
fn type_of(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let name = cx.read(&args[1]).map_or("none", |entry| entry.value().value_type().name());
    cx.reply.simple(name.as_bytes());
    Ok(())
}

/// `RANDOMKEY`; keys past their deadline are removed until one is found that is not.
fn randomkey(cx: &mut Cx<'_>, _args: &mut Args<'_>) -> CommandResult {
    loop {
        let random = &mut cx.registries.random;
        let Some(entry) = cx.keyspace.db(cx.session.db).random(&mut || random.next_u64()) else {
            cx.reply.null();
            return Ok(());
        };
        if !cx.expires() || !entry.is_expired(cx.now) {
            cx.reply.bulk(entry.key());
            return Ok(());
        }
        let key = entry.key().to_vec();
        cx.expire_if_due(&key);
    }
}

/// `DBSIZE`; keys past their deadline count until they are removed.
fn dbsize(cx: &mut Cx<'_>, _args: &mut Args<'_>) -> CommandResult {
    let keys = cx.db().len();
    cx.reply.count(keys);
    Ok(())
}

/// `FLUSHDB [ASYNC | SYNC]`
fn flushdb(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let freeing = Freeing::parse(args)?;
    let flushed = cx.keyspace.flush(cx.session.db);
    freeing.apply(cx, vec![flushed]);
    cx.reply.ok();
    Ok(())
}

/// `FLUSHALL [ASYNC | SYNC]`
fn flushall(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let freeing = Freeing::parse(args)?;
    let flushed = cx.keyspace.flush_all();
    freeing.apply(cx, flushed);
    cx.reply.ok();
    Ok(())
}
