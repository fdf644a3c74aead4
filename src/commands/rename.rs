//! Keys under other names and in other databases: rename, copy, move, swap.

use super::options;
use crate::engine::command::{Arity, CommandSpec, Doc, Flags, KeySpec};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;
use crate::text::number;
use Arity::{AtLeast, Exactly};

const WRITE: Flags = Flags::WRITE.and(Flags::C_KEYSPACE);

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "rename",
        doc: Doc::new(
            "generic",
            "1.0.0",
            "O(1)",
            "Gives a key another name, in the place of what had it.",
        )
        .takes("key newkey:key"),
        arity: Exactly(3),
        flags: WRITE,
        keys: &[
            KeySpec::first(&["RW", "access", "delete"]),
            KeySpec { first: 2, ..KeySpec::first(&["OW", "update"]) },
        ],
        run: rename,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "renamenx",
        doc: Doc::new("generic", "1.0.0", "O(1)", "Gives a key another name, if that is free.")
            .takes("key newkey:key")
            .changed(&[("3.2.0", "A key may be renamed to its own name.")]),
        arity: Exactly(3),
        flags: WRITE.and(Flags::FAST),
        keys: &[
            KeySpec::first(&["RW", "access", "delete"]),
            KeySpec { first: 2, ..KeySpec::first(&["OW", "insert"]) },
        ],
        run: renamenx,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "copy",
        doc: Doc::new("generic", "6.2.0", "O(N)", "Copies a key.")
            .takes("source:key destination:key [DB=destination-db:int] [REPLACE]"),
        arity: AtLeast(3),
        flags: WRITE.and(Flags::DENY_OOM),
        keys: &[
            KeySpec::first(&["RO", "access"]),
            KeySpec { first: 2, ..KeySpec::first(&["OW", "update"]) },
        ],
        run: copy,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "move",
        doc: Doc::new("generic", "1.0.0", "O(1)", "Moves a key to another database.")
            .takes("key db:int"),
        arity: Exactly(3),
        flags: WRITE.and(Flags::FAST),
        keys: &[KeySpec::first(&["RW", "access", "update"])],
        run: move_key,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "swapdb",
        doc: Doc::new("server", "4.0.0", "O(N)", "Swaps two databases.")
            .takes("index1:int index2:int"),
        arity: Exactly(3),
        flags: WRITE.and(Flags::FAST).and(Flags::C_DANGEROUS),
        run: swapdb,
        ..CommandSpec::ROW
    },
];

const SAME_OBJECT: CommandError =
    CommandError::new("ERR source and destination objects are the same");
const NO_SUCH_DATABASE: CommandError = CommandError::new("ERR DB index is out of range");
const NOT_AN_INT: CommandError =
    CommandError::new("ERR value is out of range, value must between -2147483648 and 2147483647");
const FIRST_INDEX: CommandError = CommandError::new("ERR invalid first DB index");
const SECOND_INDEX: CommandError = CommandError::new("ERR invalid second DB index");

/// The index of a database that there is.
fn existing_database(cx: &Cx<'_>, index: i32) -> Result<usize, CommandError> {
    let index = usize::try_from(index).map_err(|_| NO_SUCH_DATABASE)?;
    if index < cx.keyspace.databases() { Ok(index) } else { Err(NO_SUCH_DATABASE) }
}

fn database(cx: &Cx<'_>, arg: &[u8]) -> Result<usize, CommandError> {
    let index = i32::try_from(options::integer(arg)?).map_err(|_| NOT_AN_INT)?;
    existing_database(cx, index)
}

/// `RENAME key newkey`
fn rename(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (from, to) = (&args[1], &args[2]);
    if !cx.exists(from) {
        return Err(CommandError::NO_SUCH_KEY);
    }
    if from != to {
        if cx.exists(to) {
            cx.delete_in(cx.session.db, to);
        }
        rename_to_free(cx, from, to);
    }
    cx.reply.ok();
    Ok(())
}

/// `RENAMENX key newkey`
fn renamenx(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (from, to) = (&args[1], &args[2]);
    if !cx.exists(from) {
        return Err(CommandError::NO_SUCH_KEY);
    }
    let is_free = from != to && !cx.exists(to);
    if is_free {
        rename_to_free(cx, from, to);
    }
    cx.reply.integer(i64::from(is_free));
    Ok(())
}

fn rename_to_free(cx: &mut Cx<'_>, from: &[u8], to: &[u8]) {
    let db = cx.session.db;
    cx.db().rename(from, to);
    cx.keyspace.touch(db, from);
    cx.keyspace.changed(db, to);
}

/// Where COPY copies to.
struct CopyOptions {
    db: usize,
    replace: bool,
}

impl CopyOptions {
    fn parse(cx: &Cx<'_>, args: &Args<'_>) -> Result<CopyOptions, CommandError> {
        let mut parsed = CopyOptions { db: cx.session.db, replace: false };
        let mut rest = args.from(3);
        while let Some(option) = rest.next() {
            if options::is(option, "REPLACE") {
                parsed.replace = true;
            } else if options::is(option, "DB") {
                parsed.db = database(cx, rest.next().ok_or(CommandError::SYNTAX)?)?;
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(parsed)
    }
}

/// `COPY source destination [DB index] [REPLACE]`
fn copy(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let CopyOptions { db, replace } = CopyOptions::parse(cx, args)?;
    let (from, to) = (&args[1], &args[2]);
    if db == cx.session.db && from == to {
        return Err(SAME_OBJECT);
    }
    let is_copied = cx.read(from).is_some() && {
        let is_taken = cx.peek_in(db, to).is_some();
        if is_taken && replace {
            cx.delete_in(db, to);
        }
        !is_taken || replace
    };
    if is_copied {
        cx.keyspace.copy_key(from, cx.session.db, to, db);
        cx.keyspace.changed(db, to);
    }
    cx.reply.integer(i64::from(is_copied));
    Ok(())
}

/// `MOVE key db`
fn move_key(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (from, to) = (cx.session.db, database(cx, &args[2])?);
    if from == to {
        return Err(SAME_OBJECT);
    }
    let key = &args[1];
    let is_moved = cx.exists(key) && cx.peek_in(to, key).is_none();
    if is_moved {
        cx.keyspace.move_key(key, from, to);
        cx.keyspace.touch(from, key);
        cx.keyspace.changed(to, key);
    }
    cx.reply.integer(i64::from(is_moved));
    Ok(())
}

/// `SWAPDB index index`
fn swapdb(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let int = |arg| number::parse_i64(arg).and_then(|n| i32::try_from(n).ok());
    let first = int(&args[1]).ok_or(FIRST_INDEX)?;
    let second = int(&args[2]).ok_or(SECOND_INDEX)?;
    let (first, second) = (existing_database(cx, first)?, existing_database(cx, second)?);
    cx.keyspace.swap(first, second, cx.now);
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::bench;
    use crate::engine::testing::Bench;

    /// A bench with keys in two databases, their making not in the log.
    fn filled() -> Bench {
        let mut b = bench();
        b.send("SET a 1 PX 5000");
        b.send("SET b 2");
        b.send("SET old 3 PX 5");
        b.session().db = 1;
        b.send("SET b other");
        b.send("SET old other PX 5");
        b.session().db = 0;
        b.advance_ms(6).log();
        b
    }

    #[test]
    fn replies_and_what_they_leave() {
        const A: &str = "0 a=1 @2000000005000";
        const REST: [&str; 2] = ["0 old=3 @2000000000005", "1 old=other @2000000000005"];
        for (line, reply, left) in [
            ("RENAME a b", "+OK", vec!["0 b=1 @2000000005000", "1 b=other"]),
            ("RENAME a c", "+OK", vec!["0 b=2", "0 c=1 @2000000005000", "1 b=other"]),
            ("RENAME a a", "+OK", vec![A, "0 b=2", "1 b=other"]),
            ("RENAME n b", "-ERR no such key", vec![A, "0 b=2", "1 b=other"]),
            ("RENAMENX a b", ":0", vec![A, "0 b=2", "1 b=other"]),
            ("RENAMENX a a", ":0", vec![A, "0 b=2", "1 b=other"]),
            ("RENAMENX a c", ":1", vec!["0 b=2", "0 c=1 @2000000005000", "1 b=other"]),
            ("COPY a b", ":0", vec![A, "0 b=2", "1 b=other"]),
            ("COPY a b REPLACE", ":1", vec![A, "0 b=1 @2000000005000", "1 b=other"]),
            ("COPY a b db 1", ":0", vec![A, "0 b=2", "1 b=other"]),
            ("COPY a b replace DB 1", ":1", vec![A, "0 b=2", "1 b=1 @2000000005000"]),
            ("COPY a a DB 1", ":1", vec![A, "0 b=2", "1 a=1 @2000000005000", "1 b=other"]),
            ("COPY n b REPLACE", ":0", vec![A, "0 b=2", "1 b=other"]),
            ("MOVE a 1", ":1", vec!["0 b=2", "1 a=1 @2000000005000", "1 b=other"]),
            ("MOVE b 1", ":0", vec![A, "0 b=2", "1 b=other"]),
            ("MOVE n 1", ":0", vec![A, "0 b=2", "1 b=other"]),
        ] {
            let mut b = filled();
            assert_eq!(b.send(line), reply, "{line}");
            let mut expected: Vec<String> =
                left.iter().chain(&REST).map(ToString::to_string).collect();
            expected.sort();
            assert_eq!(b.contents(), expected, "{line}");
            let changes = b.keyspace.dirty > filled().keyspace.dirty;
            assert_eq!(b.log(), if changes { vec![line] } else { vec![] }, "{line}");
        }
    }

    #[test]
    fn a_lapsed_key_is_no_source_and_no_obstacle() {
        for (line, reply, log) in [
            ("RENAME old b", "-ERR no such key", &["DEL old"][..]),
            ("RENAMENX b old", ":1", &["DEL old", "RENAMENX b old"]),
            ("COPY old b REPLACE", ":0", &["DEL old"]),
            ("COPY b old", ":1", &["DEL old", "COPY b old"]),
            ("COPY b old DB 1", ":1", &["@1 DEL old", "COPY b old DB 1"]),
            ("MOVE old 1", ":0", &["DEL old"]),
        ] {
            let mut b = filled();
            let mut replayed = filled();
            assert_eq!(b.send(line), reply, "{line}");
            b.replay_into(&mut replayed);
            assert_eq!(replayed.contents(), b.contents(), "{line}");
            assert_eq!(b.log(), log, "{line}");
        }
        let mut b = filled();
        b.send("SET old new");
        b.log();
        assert_eq!(b.send("MOVE old 1"), ":1");
        assert_eq!(b.log(), ["@1 DEL old", "MOVE old 1"]);
    }

    #[test]
    fn wrong_arguments_are_refused_ahead_of_anything_else() {
        let mut b = filled();
        for (line, error) in [
            ("MOVE a 0", "-ERR source and destination objects are the same"),
            ("MOVE n 0", "-ERR source and destination objects are the same"),
            ("MOVE a 16", "-ERR DB index is out of range"),
            ("MOVE a -1", "-ERR DB index is out of range"),
            ("MOVE a x", "-ERR value is not an integer or out of range"),
            ("COPY a a", "-ERR source and destination objects are the same"),
            ("COPY a a DB 0", "-ERR source and destination objects are the same"),
            ("COPY a b DB", "-ERR syntax error"),
            ("COPY a b DB x foo", "-ERR value is not an integer or out of range"),
            ("COPY a b DB 16 foo", "-ERR DB index is out of range"),
            ("COPY a b foo DB 16", "-ERR syntax error"),
            ("SWAPDB x y", "-ERR invalid first DB index"),
            ("SWAPDB 0 y", "-ERR invalid second DB index"),
            ("SWAPDB 16 y", "-ERR invalid second DB index"),
            ("SWAPDB 4294967296 0", "-ERR invalid first DB index"),
            ("SWAPDB 0 16", "-ERR DB index is out of range"),
            ("SWAPDB -1 0", "-ERR DB index is out of range"),
        ] {
            assert_eq!(b.send(line), error, "{line}");
        }
        assert_eq!(b.log(), [""; 0]);
    }

    #[test]
    fn swapdb_exchanges_and_is_logged_as_it_is() {
        let mut b = bench();
        b.send("SET a 1");
        b.log();
        assert_eq!(b.send("SWAPDB 0 3"), "+OK");
        assert_eq!(b.contents(), ["3 a=1"]);
        assert_eq!(b.send("SWAPDB 3 3"), "+OK");
        assert_eq!(b.log(), ["SWAPDB 0 3", "SWAPDB 3 3"]);
    }

    #[test]
    fn transactions_that_watch_either_side_fail() {
        for (line, dirty) in [
            ("RENAME a b", [true, true, false, false]),
            ("RENAME a c", [true, false, true, false]),
            ("RENAME a a", [false; 4]),
            ("RENAMENX a b", [false; 4]),
            ("COPY a b REPLACE", [false, true, false, false]),
            ("COPY a b", [false; 4]),
            ("COPY a b DB 1 REPLACE", [false, false, false, true]),
            ("MOVE a 1", [true, false, false, false]),
            ("SWAPDB 0 1", [true, true, false, true]),
            ("SWAPDB 2 3", [false; 4]),
        ] {
            let mut b = filled();
            for (client, (db, key)) in [(0, "a"), (0, "b"), (0, "c"), (1, "b")].iter().enumerate() {
                b.keyspace.watch(10 + client as u64, *db, key.as_bytes(), b.now);
            }
            b.send(line);
            let broken = [10, 11, 12, 13].map(|client| b.keyspace.watch_broken(client, b.now));
            assert_eq!(broken, dirty, "{line}");
        }
    }
}
