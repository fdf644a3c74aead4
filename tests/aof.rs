//! What is written to the append-only file: commands that replay to the same state, whatever the
//! clock says then, and nothing else.

mod common;

use common::aof::{commands, lines};
use common::raw::words;
use common::{Raw, Reply, Server, eventually, unix_ms};

/// Runs `line` and returns what it added to the log, as text.
#[track_caller]
fn logged(server: &Server, client: &mut Raw, line: &str) -> Vec<String> {
    let before = server.aof().len();
    let reply = client.command(&words(line));
    // The reply leaves only after the log was written: there is nothing to wait for.
    assert!(!reply.is_error(), "{line}: {reply:?}");
    let mut added = lines(&server.aof()[before..]);
    added.retain(|line| line != "SELECT 0");
    added
}

/// The deadline at the end of a line such as `PEXPIREAT key 1700000000000`.
#[track_caller]
fn deadline(line: &str) -> i64 {
    let last = line.rsplit(' ').next().expect("a word");
    last.parse().unwrap_or_else(|_| panic!("{line:?} ends in no time"))
}

#[test]
fn every_write_is_in_the_file_before_its_reply() {
    for policy in ["always", "everysec", "no"] {
        let server = Server::start(&[("appendfsync", policy)]);
        let mut client = server.raw();
        for line in
            ["SET a 1", "APPEND a 2", "INCR a", "MSET b 1 c 2", "DEL b c", "SETNX n x", "FLUSHALL"]
        {
            assert_eq!(logged(&server, &mut client, line), [line], "{policy}");
        }
    }
}

#[test]
fn what_changes_nothing_is_not_logged() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    assert!(client.run("MSET a 1 b text").is_ok());
    for line in [
        "GET a",
        "SETNX a 2",
        "SET a 2 NX",
        "SET absent 2 XX",
        "DEL absent",
        "UNLINK absent",
        "MSETNX a 5 z 5",
        "PERSIST a",
        "EXPIRE absent 100",
        "EXPIRE a 100 XX",
        "GETDEL absent",
        "GETEX a",
        "GETEX a PERSIST",
        "EXISTS a",
        "TYPE a",
        "SCAN 0",
        "SELECT 3",
        "SELECT 0",
        "PING",
        "WATCH a",
        "UNWATCH",
        "CONFIG SET hz 20",
    ] {
        assert_eq!(logged(&server, &mut client, line), [""; 0], "{line}");
    }
    let before = server.aof();
    for line in ["INCR b", "INCRBY a 9223372036854775807", "SET a 1 EX 0", "GETSET a", "NOSUCH"] {
        assert!(client.run(line).is_error(), "{line}");
    }
    assert_eq!(server.aof(), before, "errors change nothing");
}

#[test]
fn deadlines_are_logged_as_points_in_time() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for (line, start) in [
        ("SET a 1 EX 100", "SET a 1 PXAT "),
        ("SET a 1 PX 100000", "SET a 1 PXAT "),
        ("SET a 1 XX GET EX 100", "SET a 1 PXAT "),
        ("SETEX a 100 1", "SET a 1 PXAT "),
        ("PSETEX a 100000 1", "SET a 1 PXAT "),
        ("GETEX a EX 100", "PEXPIREAT a "),
        ("GETEX a PX 100000", "PEXPIREAT a "),
        ("EXPIRE a 100", "PEXPIREAT a "),
        ("PEXPIRE a 100000", "PEXPIREAT a "),
        ("EXPIRE a 100 XX", "PEXPIREAT a "),
    ] {
        let (earliest, added) = (unix_ms(), logged(&server, &mut client, line));
        let latest = unix_ms();
        assert_eq!(added.len(), 1, "{line}: {added:?}");
        assert!(added[0].starts_with(start), "{line}: {added:?}");
        // The server reads its clock once a turn, and the turn may have begun a little earlier.
        let lapse = deadline(&added[0]) - 100_000;
        assert!(earliest - 1_000 <= lapse && lapse <= latest + 1, "{line}: {added:?}");
    }
    let at = unix_ms() + 1_000_000;
    let seconds = at / 1_000;
    for (line, expected) in [
        (format!("SET a 1 PXAT {at}"), format!("SET a 1 PXAT {at}")),
        (format!("SET a 1 EXAT {seconds}"), format!("SET a 1 PXAT {seconds}000")),
        (format!("PEXPIREAT a {at}"), format!("PEXPIREAT a {at}")),
        (format!("EXPIREAT a {seconds}"), format!("PEXPIREAT a {seconds}000")),
        (format!("GETEX a PXAT {at}"), format!("PEXPIREAT a {at}")),
        (format!("GETEX a EXAT {seconds}"), format!("PEXPIREAT a {seconds}000")),
        ("GETEX a PERSIST".to_owned(), "PERSIST a".to_owned()),
    ] {
        assert_eq!(logged(&server, &mut client, &line), [expected], "{line}");
    }
}

#[test]
fn computed_values_are_logged_as_their_outcome() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    assert_eq!(logged(&server, &mut client, "INCRBYFLOAT f 10.5"), ["SET f 10.5 KEEPTTL"]);
    assert_eq!(logged(&server, &mut client, "INCRBYFLOAT f 0.1"), ["SET f 10.6 KEEPTTL"]);
    assert_eq!(logged(&server, &mut client, "GETDEL f"), ["DEL f"]);
}

/// Read commands in the file must not be repeated by the reader: GET makes a reply of its own.
#[test]
fn a_key_whose_deadline_is_past_is_logged_as_deleted() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    assert!(client.run("SET a 1").is_ok());
    for line in ["EXPIRE a -1", "PEXPIREAT a 1", "GETEX a PXAT 1"] {
        assert!(client.run("SET a 1").is_ok());
        let added = logged(&server, &mut client, line);
        assert!(added == ["DEL a"] || added == ["UNLINK a"], "{line}: {added:?}");
        assert_eq!(client.run("EXISTS a"), Reply::Int(0));
    }
}

/// Found lapsed by a reader or by the server's own rounds, a key is logged as deleted, ahead of
/// the command that found it.
#[test]
fn lapsed_keys_are_logged_as_deleted() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    assert!(client.run("DEBUG SET-ACTIVE-EXPIRE 0").is_ok());
    assert!(client.run("SET a 1 PX 1").is_ok());
    let lapse = deadline(lines(&server.aof()).last().expect("a record"));
    eventually("the deadline has passed", || unix_ms() > lapse + 1);
    let mut added = logged(&server, &mut client, "INCR a");
    // The two may stand in a transaction, since they came about together.
    added.retain(|line| line != "MULTI" && line != "EXEC");
    assert!(added == ["DEL a", "INCR a"] || added == ["UNLINK a", "INCR a"], "{added:?}");
    // By itself, without anybody who asks.
    assert!(client.run("SET b 1 PX 1").is_ok());
    assert!(client.run("DEBUG SET-ACTIVE-EXPIRE 1").is_ok());
    eventually("the lapsed key is logged as deleted", || {
        let last = lines(&server.aof()).pop().expect("a record");
        last == "DEL b" || last == "UNLINK b"
    });
    assert_eq!(client.run("DBSIZE"), Reply::Int(1));
}

#[test]
fn the_database_is_named_only_when_it_changes() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for line in ["SET a 1", "SET b 1", "SELECT 5", "SET a 1", "SET b 1", "SELECT 0", "SET c 1"] {
        assert!(client.run(line).is_ok());
    }
    let expected =
        ["SELECT 0", "SET a 1", "SET b 1", "SELECT 5", "SET a 1", "SET b 1", "SELECT 0", "SET c 1"];
    assert_eq!(lines(&server.aof()), expected);
    // Two clients in two databases.
    let mut other = server.raw();
    assert!(other.run("SELECT 5").is_ok());
    for _ in 0..2 {
        assert!(client.run("SET x 1").is_ok());
        assert!(other.run("SET y 1").is_ok());
    }
    let log = lines(&server.aof());
    let added = &log[expected.len()..];
    assert_eq!(
        added,
        ["SET x 1", "SELECT 5", "SET y 1", "SELECT 0", "SET x 1", "SELECT 5", "SET y 1"]
    );
}

#[test]
fn a_transaction_is_logged_whole_and_only_what_it_changed() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for line in ["SET a 1", "MULTI", "INCR a", "GET a", "SET b 2", "DEL absent", "INCR b"] {
        client.run(line);
    }
    client.run("EXEC");
    let expected = ["SELECT 0", "SET a 1", "MULTI", "INCR a", "SET b 2", "INCR b", "EXEC"];
    assert_eq!(lines(&server.aof()), expected);
    for line in ["MULTI", "GET a", "EXEC", "MULTI", "SET a 5", "DISCARD", "WATCH a", "MULTI"] {
        client.run(line);
    }
    assert!(server.run("SET a 9").is_ok());
    client.run("SET a 7");
    assert!(client.run("EXEC").is_null());
    assert_eq!(lines(&server.aof())[expected.len()..], ["SET a 9"], "reads and refusals are not");
    for line in ["MULTI", "SELECT 3", "SET a 1", "SELECT 0", "SET a 2"] {
        client.run(line);
    }
    client.run("EXEC");
    let log = lines(&server.aof());
    let added = &log[expected.len() + 1..];
    assert!(
        added == ["MULTI", "SELECT 3", "SET a 1", "SELECT 0", "SET a 2", "EXEC"]
            || added == ["SELECT 3", "MULTI", "SET a 1", "SELECT 0", "SET a 2", "EXEC"],
        "{added:?}"
    );
}

#[test]
fn bytes_of_any_kind_are_logged_as_they_are() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    let (key, value) = (b"\0key\r\n\xff".as_slice(), b"*3\r\n$3\r\nSET\r\n#S1:\xfe".as_slice());
    assert!(client.command(&[b"SET".as_slice(), key, value]).is_ok());
    // A name in another case, and an inline command, are written as plain RESP too.
    assert!(client.command(&["sEt", "lower", "1"]).is_ok());
    client.send(b"SET inline \"a b\"\r\n");
    assert!(client.reply().is_ok());
    let log = commands(&server.aof());
    assert_eq!(log[1][1..], [key.to_vec(), value.to_vec()]);
    assert_eq!(log[3][1..], [b"inline".to_vec(), b"a b".to_vec()]);
    server.kill9();
    server.restart();
    assert_eq!(server.raw().command(&[b"GET".as_slice(), key]), Reply::Bulk(value.to_vec()));
    assert_eq!(server.run("GET inline"), Reply::Bulk(b"a b".to_vec()));
    assert_eq!(server.run("DBSIZE"), Reply::Int(3));
}

#[test]
fn without_append_only_there_is_no_file() {
    let mut server = Server::start(&[("appendonly", "no")]);
    assert!(server.run("SET a 1").is_ok());
    assert_eq!(server.info("aof_enabled"), "0");
    server.stop();
    assert!(!server.path("appendonly.aof").exists());
}

#[test]
fn figures_of_the_log_are_true() {
    let server = Server::start(&[("appendfsync", "always")]);
    let mut client = server.raw();
    for at in 0..100 {
        assert!(client.command(&["SET", &format!("k{at}"), "value"]).is_ok());
    }
    assert_eq!(server.info("aof_enabled"), "1");
    assert_eq!(server.info("aof_current_size"), server.aof().len().to_string());
    assert_eq!(server.info("aof_last_write_status"), "ok");
    assert_eq!(server.info("aof_rewrite_in_progress"), "0");
    assert_eq!(server.info("aof_buffer_length"), "0");
    assert_eq!(server.info("loading"), "0");
}
