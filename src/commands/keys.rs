//! Keys as such: delete, tell whether and what they are, empty a database.

use super::options;
use crate::engine::command::{Arity, CommandSpec, Doc, Flags, KeySpec};
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
            Freeing::Async if flushed.iter().all(Database::is_empty) => {}
            Freeing::Async => cx.act(Action::Discard(Discarded(flushed))),
        }
    }
}

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "del",
        doc: Doc::new("generic", "1.0.0", "O(N)", "Deletes keys.").takes("key..."),
        arity: AtLeast(2),
        flags: WRITE,
        keys: &[KeySpec::each(1, &["RM", "delete"])],
        tips: SUM_TIPS,
        run: del,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "unlink",
        doc: Doc::new(
            "generic",
            "4.0.0",
            "O(1)",
            "Deletes keys; the memory is freed in the background.",
        )
        .takes("key..."),
        arity: AtLeast(2),
        flags: WRITE.and(Flags::FAST),
        keys: &[KeySpec::each(1, &["RM", "delete"])],
        tips: SUM_TIPS,
        run: del,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "exists",
        doc: Doc::new("generic", "1.0.0", "O(N)", "Counts which of the keys exist.")
            .takes("key..."),
        arity: AtLeast(2),
        flags: READ.and(Flags::FAST),
        keys: &[KeySpec::each(1, &["RO"])],
        tips: SUM_TIPS,
        run: exists,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "type",
        doc: Doc::new("generic", "1.0.0", "O(1)", "Tells the type of the value.").takes("key"),
        arity: Exactly(2),
        flags: READ.and(Flags::FAST),
        keys: &[KeySpec::first(&["RO"])],
        run: type_of,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "randomkey",
        doc: Doc::new("generic", "1.0.0", "O(1)", "Names some key."),
        arity: Exactly(1),
        flags: READ,
        tips: &["request_policy:all_shards", "nondeterministic_output"],
        run: randomkey,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "dbsize",
        doc: Doc::new("server", "1.0.0", "O(1)", "Counts the keys of the database."),
        arity: Exactly(1),
        flags: READ.and(Flags::FAST),
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        run: dbsize,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "flushdb",
        doc: Doc::new("server", "1.0.0", "O(N)", "Deletes all keys of the database.")
            .takes("[async(ASYNC@4.0.0|SYNC@6.2.0)]"),
        arity: AtLeast(1),
        flags: WRITE.and(Flags::C_DANGEROUS),
        tips: FLUSH_TIPS,
        run: flushdb,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "flushall",
        doc: Doc::new("server", "1.0.0", "O(N)", "Deletes all keys of all databases.")
            .takes("[async(ASYNC@4.0.0|SYNC@6.2.0)]"),
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
        let stays = !cx.expires() || cx.registries.paused(cx.now).is_some();
        if stays || !entry.is_expired(cx.now) {
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

#[cfg(test)]
mod tests {
    use crate::engine::cx::Origin;
    use crate::engine::effects::Action;
    use crate::engine::testing::Bench;

    fn bench() -> Bench {
        Bench::new(crate::commands::FAMILIES)
    }

    #[test]
    fn keys_are_counted_and_deleted() {
        let mut b = bench();
        for (line, reply) in [
            ("MSET a 1 b x c y", "+OK"),
            ("EXISTS a a n", ":2"),
            ("TYPE a", "+string"),
            ("TYPE n", "+none"),
            ("DBSIZE", ":3"),
            ("DEL a a n", ":1"),
            ("UNLINK b n", ":1"),
            ("DBSIZE", ":1"),
            ("RANDOMKEY", "$1 c"),
            ("DEL c", ":1"),
            ("RANDOMKEY", "$-1"),
        ] {
            assert_eq!(b.send(line), reply, "{line}");
        }
        let log = ["MSET a 1 b x c y", "DEL a a n", "UNLINK b n", "DEL c"];
        assert_eq!(b.log(), log, "what deletes nothing is not logged");
        assert_eq!(b.send("DEL n"), ":0");
        assert_eq!(b.log(), [""; 0]);
    }

    #[test]
    fn a_key_past_its_deadline_counts_only_for_dbsize() {
        for (line, reply) in
            [("EXISTS k", ":0"), ("TYPE k", "+none"), ("DEL k", ":0"), ("RANDOMKEY", "$-1")]
        {
            let mut b = bench();
            b.send("SET k v PX 5");
            b.advance_ms(6).log();
            assert_eq!(b.send("DBSIZE"), ":1");
            assert_eq!(b.send(line), reply, "{line}");
            assert_eq!(b.log(), ["DEL k"], "{line}");
            assert_eq!(b.send("DBSIZE"), ":0");
        }
    }

    #[test]
    fn randomkey_removes_expired_keys_until_it_finds_another() {
        let mut b = bench();
        for n in 0..100 {
            b.send(&format!("SET old:{n} v PX 5"));
        }
        b.send("SET new v");
        b.advance_ms(6);
        assert_eq!(b.send("RANDOMKEY"), "$3 new");
    }

    #[test]
    fn randomkey_ends_in_a_replay_where_nothing_expires() {
        let mut b = bench();
        b.send("SET old v PX 5");
        b.advance_ms(6).origin = Origin::Replay;
        b.run(&[b"RANDOMKEY"]);
        assert_eq!(b.contents(), ["0 old=v @2000000000005"]);
    }

    #[test]
    fn flushes_empty_one_database_or_all() {
        let mut b = bench();
        b.send("MSET a 1 b 2");
        b.session().db = 3;
        b.send("SET c 3");
        b.log();
        assert_eq!(b.send("FLUSHDB"), "+OK");
        assert_eq!(b.contents(), ["0 a=1", "0 b=2"]);
        assert_eq!(b.send("FLUSHALL sync"), "+OK");
        assert_eq!(b.contents(), [""; 0]);
        assert_eq!(b.keyspace.dirty, 6, "each key is a change");
        assert_eq!(b.log(), ["@3 FLUSHDB", "@3 FLUSHALL sync"]);
        assert!(b.actions.is_empty());
        for line in ["FLUSHALL now", "FLUSHDB async sync", "FLUSHALL SYNC SYNC"] {
            assert_eq!(b.send(line), "-ERR syntax error", "{line}");
        }
    }

    #[test]
    fn async_flushes_hand_the_memory_to_the_server() {
        let mut b = bench();
        for line in ["FLUSHDB ASYNC", "FLUSHALL async"] {
            b.send("SET a 1");
            assert_eq!(b.send(line), "+OK");
            assert_eq!(b.contents(), [""; 0]);
            match b.actions.pop() {
                Some(Action::Discard(flushed)) => assert_eq!(flushed.0[0].len(), 1),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_flush_fails_transactions_that_watch_what_was_there() {
        for (line, dirty) in [("FLUSHALL", [true, false]), ("FLUSHDB", [false, false])] {
            let mut b = bench();
            b.session().db = 1;
            b.send("SET a 1");
            b.keyspace.watch(8, 1, b"a", b.now);
            b.keyspace.watch(9, 1, b"n", b.now);
            b.session().db = 0;
            b.send(line);
            assert_eq!([8, 9].map(|client| b.keyspace.watch_broken(client, b.now)), dirty);
        }
    }
}
