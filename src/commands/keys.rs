//! Keys as such: delete, use, tell whether and what they are, empty a database.

use super::options;
use crate::engine::command::{Arity, CommandSpec, Doc, Flags, KeySpec};
use crate::engine::cx::{Cx, Origin};
use crate::engine::effects::Action;
use crate::engine::error::{CommandError, CommandResult};
use crate::keyspace::{Database, Garbage};
use crate::resp::args::Args;
use Arity::{AtLeast, Exactly};

const READ: Flags = Flags::READONLY.and(Flags::C_KEYSPACE);
const WRITE: Flags = Flags::WRITE.and(Flags::C_KEYSPACE);

const FLUSH_TIPS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];
const SUM_TIPS: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];

/// Up to so many keys are freed by the loop where SYNC asks for it: two milliseconds. More are freed
/// on a helper thread all the same, for the sake of the other clients; the one who asked waits.
const FREED_AT_ONCE_KEYS: usize = 10_000;

/// How the memory of a flushed database is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freeing {
    /// Before the reply. O(keys), up to [`FREED_AT_ONCE_KEYS`] of them on the loop.
    Sync,
    /// After it, without holding up the loop.
    Async,
}

impl Freeing {
    fn parse(cx: &Cx<'_>, args: &Args<'_>) -> Result<Freeing, CommandError> {
        match args.get(1) {
            _ if args.len() > 2 => Err(CommandError::SYNTAX),
            None if cx.registries.config.lazyfree.user_flush => Ok(Freeing::Async),
            None => Ok(Freeing::Sync),
            Some(word) if options::is(word, "SYNC") => Ok(Freeing::Sync),
            Some(word) if options::is(word, "ASYNC") => Ok(Freeing::Async),
            Some(_) => Err(CommandError::SYNTAX),
        }
    }

    fn apply(self, cx: &mut Cx<'_>, flushed: Vec<Database>) {
        for db in flushed {
            let is_large = db.len() > FREED_AT_ONCE_KEYS;
            let elsewhere = self == Freeing::Async || is_large;
            if self == Freeing::Sync && is_large && cx.origin == Origin::Client {
                cx.act(Action::AwaitFreeing);
            }
            cx.discard(Garbage::Database(Box::new(db)), elsewhere);
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
        run: unlink,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "exists",
        doc: Doc::new("generic", "1.0.0", "O(N)", "Counts which of the keys exist.")
            .takes("key...")
            .changed(&[("3.0.3", "Several keys in one call.")]),
        arity: AtLeast(2),
        flags: READ.and(Flags::FAST),
        keys: &[KeySpec::each(1, &["RO"])],
        tips: SUM_TIPS,
        run: exists,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "touch",
        doc: Doc::new("generic", "3.2.1", "O(N)", "Counts which of the keys exist, and uses them.")
            .takes("key..."),
        arity: AtLeast(2),
        flags: READ.and(Flags::FAST),
        keys: &[KeySpec::each(1, &["RO"])],
        tips: SUM_TIPS,
        run: touch,
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
            .takes("[async(ASYNC@4.0.0|SYNC@6.2.0)]")
            .changed(&[("4.0.0", "ASYNC."), ("6.2.0", "SYNC.")]),
        arity: AtLeast(1),
        flags: WRITE.and(Flags::C_DANGEROUS),
        tips: FLUSH_TIPS,
        run: flushdb,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "flushall",
        doc: Doc::new("server", "1.0.0", "O(N)", "Deletes all keys of all databases.")
            .takes("[async(ASYNC@4.0.0|SYNC@6.2.0)]")
            .changed(&[("4.0.0", "ASYNC."), ("6.2.0", "SYNC.")]),
        arity: AtLeast(1),
        flags: WRITE.and(Flags::C_DANGEROUS),
        tips: FLUSH_TIPS,
        run: flushall,
        ..CommandSpec::ROW
    },
];

/// `DEL key [key ...]`
fn del(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let elsewhere = cx.registries.config.lazyfree.user_del;
    remove(cx, args, elsewhere)
}

/// `UNLINK key [key ...]`: as DEL, and large values are freed on a helper thread.
fn unlink(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    remove(cx, args, true)
}

fn remove(cx: &mut Cx<'_>, args: &Args<'_>, elsewhere: bool) -> CommandResult {
    let removed = args.from(1).filter(|key| cx.remove(key, elsewhere)).count();
    cx.reply.count(removed);
    Ok(())
}

/// `TOUCH key [key ...]`: tells how many there are, and uses them, even for a client that has asked
/// for CLIENT NO-TOUCH.
fn touch(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let no_touch = std::mem::take(&mut cx.session.no_touch);
    let found = args.from(1).filter(|key| cx.read(key).is_some()).count();
    cx.session.no_touch = no_touch;
    cx.reply.count(found);
    Ok(())
}

/// `EXISTS key [key ...]`; a key given twice counts twice.
fn exists(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let found = args.from(1).filter(|key| cx.glance(key).is_some()).count();
    cx.reply.count(found);
    Ok(())
}

/// `TYPE key`
fn type_of(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let name = cx.glance(&args[1]).map_or("none", |entry| entry.value().value_type().name());
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
        let stays = !cx.expires() || cx.keeps_lapsed();
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
    let freeing = Freeing::parse(cx, args)?;
    let flushed = cx.keyspace.flush(cx.session.db);
    freeing.apply(cx, vec![flushed]);
    cx.reply.ok();
    Ok(())
}

/// `FLUSHALL [ASYNC | SYNC]`
fn flushall(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let freeing = Freeing::parse(cx, args)?;
    let flushed = cx.keyspace.flush_all();
    freeing.apply(cx, flushed);
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::FREED_AT_ONCE_KEYS;
    use crate::commands::bench;
    use crate::config::Lazyfree;
    use crate::data::NewValue;
    use crate::engine::cx::Origin;
    use crate::keyspace::garbage::LARGE_STRING_BYTES;
    use crate::keyspace::{Deadline, Garbage};

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
        assert!(b.garbage.is_empty());
        for line in ["FLUSHALL now", "FLUSHDB async sync", "FLUSHALL SYNC SYNC"] {
            assert_eq!(b.send(line), "-ERR syntax error", "{line}");
        }
    }

    #[test]
    fn what_is_flushed_is_freed_elsewhere_if_wanted_or_much() {
        for (line, lazy, keys, elsewhere) in [
            ("FLUSHALL", false, 2, false),
            ("FLUSHALL SYNC", true, 2, false),
            ("FLUSHALL async", false, 2, true),
            ("FLUSHDB", true, 2, true),
            ("FLUSHDB ASYNC", false, 0, false),
            ("FLUSHALL SYNC", false, FREED_AT_ONCE_KEYS, false),
            ("FLUSHALL SYNC", false, FREED_AT_ONCE_KEYS + 1, true),
        ] {
            let mut b = bench();
            b.registries.config.lazyfree.user_flush = lazy;
            for n in 0..keys {
                b.keyspace.db_mut(0).set(&n.to_ne_bytes(), NewValue::Int(0), Deadline::Clear);
            }
            assert_eq!(b.send(line), "+OK");
            assert_eq!(b.contents(), [""; 0]);
            let freed: u64 = b.garbage.iter().map(Garbage::objects).sum();
            assert_eq!(freed, if elsewhere { keys as u64 } else { 0 }, "{line} {lazy} {keys}");
        }
    }

    #[test]
    fn a_large_value_that_goes_is_freed_elsewhere_as_the_parameters_say() {
        type Switch = fn(&mut Lazyfree) -> &mut bool;
        let [expire, server, user]: [Switch; 3] =
            [|l| &mut l.expire, |l| &mut l.server_del, |l| &mut l.user_del];
        for (switch, line) in [
            (None, "UNLINK k n"),
            (Some(user), "DEL k n"),
            (Some(server), "SET k v"),
            (Some(server), "SET k v XX GET"),
            (Some(server), "SETEX k 5 v"),
            (Some(server), "GETSET k v"),
            (Some(server), "MSET a b k v"),
            (Some(server), "GETDEL k"),
            (Some(server), "RENAME n k"),
            (Some(server), "COPY n k REPLACE"),
            (Some(expire), "EXPIRE k -1"),
            (Some(expire), "GETEX k PXAT 1"),
        ] {
            for (is_on, len) in [(true, LARGE_STRING_BYTES), (false, LARGE_STRING_BYTES), (true, 9)]
            {
                let mut b = bench();
                b.send("SET n 1");
                b.run(&[b"SET", b"k", &vec![b'x'; len]]);
                if let Some(switch) = switch {
                    *switch(&mut b.registries.config.lazyfree) = is_on;
                }
                b.run(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
                let expected = usize::from((is_on || switch.is_none()) && len > 9);
                assert_eq!(b.garbage.len(), expected, "{line}, {is_on}, {len} bytes");
            }
        }
    }

    #[test]
    fn what_expires_is_freed_and_logged_as_the_parameter_says() {
        for (lazy, record) in [(false, "DEL k"), (true, "UNLINK k")] {
            let mut b = bench();
            b.registries.config.lazyfree.expire = lazy;
            b.run(&[b"SET", b"k", &vec![b'x'; LARGE_STRING_BYTES], b"PX", b"5"]);
            b.advance_ms(6).log();
            assert_eq!(b.send("GET k"), "$-1");
            assert_eq!((b.log(), b.garbage.len()), (vec![record.to_owned()], usize::from(lazy)));
        }
    }

    #[test]
    fn a_replay_frees_at_once() {
        let mut b = bench();
        b.origin = Origin::Replay;
        b.run(&[b"SET", b"k", &vec![b'x'; LARGE_STRING_BYTES]]);
        b.run(&[b"UNLINK", b"k"]);
        b.run(&[b"SET", b"k", b"v"]);
        b.run(&[b"FLUSHALL", b"ASYNC"]);
        assert!(b.garbage.is_empty());
    }

    #[test]
    fn touch_uses_keys_and_exists_and_type_do_not() {
        let mut b = bench();
        b.send("MSET a 1 b 2");
        for (line, reply, idle) in [
            ("EXISTS a", ":1", 10),
            ("TYPE a", "+string", 20),
            ("TOUCH a n a", ":2", 0),
            ("TTL a", ":-1", 10),
            ("GET a", "$1 1", 0),
        ] {
            b.advance_ms(10_000);
            assert_eq!(b.send(line), reply);
            assert_eq!(b.send("OBJECT IDLETIME a"), format!(":{idle}"), "{line}");
        }
        b.session().no_touch = true;
        b.advance_ms(10_000).send("GET a");
        assert_eq!(b.send("OBJECT IDLETIME a"), ":10", "CLIENT NO-TOUCH");
        b.send("TOUCH a");
        assert_eq!(b.send("OBJECT IDLETIME a"), ":0");
        assert!(b.session().no_touch);
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
