//! A transaction is one step for everybody else, or it is not taken at all.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::process::KillOnPanic;
use common::{Reply, Server};

#[test]
fn nobody_sees_half_of_a_transaction() {
    let server = Server::start(&[("appendfsync", "no")]);
    assert!(server.run("MSET a 0 b 0").is_ok());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _kill = KillOnPanic(server.pid());
        for _ in 0..3 {
            scope.spawn(|| {
                let mut reader = server.raw();
                while !stop.load(Ordering::Relaxed) {
                    let reply = reader.run("MGET a b");
                    assert_eq!(reply.items()[0], reply.items()[1]);
                }
            });
        }
        let mut writer = server.raw();
        for at in 0..2_000 {
            let at = at.to_string();
            writer.run("MULTI");
            writer.command(&["SET", "a", &at]);
            writer.command(&["SET", "b", &at]);
            writer.run("EXEC");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn watched_increments_by_many_clients_lose_none() {
    const CLIENTS: i64 = 6;
    const TIMES: i64 = 150;
    let mut server = Server::start(&[("appendfsync", "always")]);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = server.raw();
                for _ in 0..TIMES {
                    loop {
                        assert!(client.run("WATCH counter").is_ok());
                        let now = match client.run("GET counter") {
                            Reply::Bulk(text) => String::from_utf8_lossy(&text).parse().unwrap(),
                            _ => 0i64,
                        };
                        assert!(client.run("MULTI").is_ok());
                        client.command(&["SET", "counter", &(now + 1).to_string()]);
                        if !client.run("EXEC").is_null() {
                            break;
                        }
                    }
                }
            });
        }
    });
    let expected = Reply::Bulk((CLIENTS * TIMES).to_string().into_bytes());
    assert_eq!(server.run("GET counter"), expected);
    server.kill9();
    server.restart();
    assert_eq!(server.run("GET counter"), expected);
}

/// Everything that changes a watched key counts, by whatever way.
#[test]
fn a_watched_key_that_changes_stops_the_transaction() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.raw(), server.raw());
    for (change, stops) in [
        ("SET w 1", true),
        ("APPEND w x", true),
        ("DEL w", true),
        ("EXPIRE w 1000", true),
        ("PEXPIREAT w 1", true),
        ("GETDEL w", true),
        ("GETEX w EX 1000", true),
        ("INCR w", true),
        ("MSET z 1 w 2", true),
        ("FLUSHALL", true),
        ("FLUSHDB", true),
        ("GET w", false),
        ("SET z 1", false),
        ("SETNX w 5", false),
        ("PERSIST w", false),
        ("SET w 1 XX NX", false),
        ("EXPIRE absent 10", false),
        ("CONFIG RESETSTAT", false),
    ] {
        assert!(other.run("SET w 1").is_ok());
        assert!(client.run("WATCH w").is_ok());
        other.run(change);
        client.run("MULTI");
        client.run("SET mark 1");
        let stopped = client.run("EXEC").is_null();
        assert_eq!(stopped, stops, "{change}");
    }
    // In another database the same name is another key; and a change of one's own counts.
    assert!(other.run("SELECT 1").is_ok());
    assert!(client.run("WATCH w").is_ok());
    assert!(other.run("SET w 5").is_ok());
    client.run("MULTI");
    assert!(!client.run("EXEC").is_null());
    assert!(client.run("WATCH w").is_ok());
    assert!(client.run("SET w 7").is_ok());
    client.run("MULTI");
    assert!(client.run("EXEC").is_null());
    // What was watched before EXEC is no longer watched after it.
    assert!(server.run("SET w 8").is_ok());
    client.run("MULTI");
    assert!(!client.run("EXEC").is_null());
}

#[test]
fn a_client_that_leaves_in_mid_transaction_changes_nothing() {
    let server = Server::start(&[]);
    let before = server.aof();
    let mut client = server.raw();
    for line in ["MULTI", "SET a 1", "SET b 2"] {
        client.run(line);
    }
    drop(client);
    let clients = || server.run("INFO clients").text();
    common::eventually("it is gone", || clients().contains("connected_clients:1\r\n"));
    assert_eq!(server.run("DBSIZE"), Reply::Int(0));
    assert_eq!(server.aof(), before);
}

#[test]
fn a_transaction_with_a_wrong_command_is_not_run() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for wrong in ["NOSUCH a", "GET", "SET a"] {
        client.run("MULTI");
        assert_eq!(client.run("SET a 1").text(), "QUEUED");
        assert!(client.run(wrong).is_error());
        let error = client.run("EXEC").error();
        assert_eq!(error, "EXECABORT Transaction discarded because of previous errors.");
        assert_eq!(client.run("EXISTS a"), Reply::Int(0), "{wrong}");
    }
    // An error while it runs undoes nothing, as in Redis.
    for line in ["SET text x", "MULTI", "SET a 1", "INCR text", "SET b 2"] {
        client.run(line);
    }
    let replies = client.run("EXEC");
    assert!(replies.items()[0].is_ok() && replies.items()[1].is_error());
    assert_eq!(client.run("EXISTS a b"), Reply::Int(2));
}
