//! What is large is freed on a helper thread: the loop goes on, and INFO tells how much is left.

mod common;

use std::time::Instant;

use common::{Raw, Reply, Server, eventually};

/// Keys of a flush: more than are freed at once where SYNC asks for it.
const KEYS: usize = 400_000;

fn field(client: &mut Raw, name: &str) -> u64 {
    let info = client.run("INFO all").text();
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {info}"))
}

fn wait_until_freed(client: &mut Raw, objects: u64) {
    eventually("everything to be freed", || {
        field(client, "lazyfree_pending_objects") == 0
            && field(client, "lazyfreed_objects") == objects
    });
}

#[test]
fn flushed_keys_are_freed_while_clients_are_served() {
    let server = Server::start(&[("enable-debug-command", "yes"), ("appendonly", "no")]);
    let mut client = server.raw();
    for line in ["FLUSHALL ASYNC", "FLUSHDB ASYNC", "FLUSHALL SYNC", "FLUSHDB"] {
        assert!(client.run(&format!("DEBUG POPULATE {KEYS}")).is_ok());
        assert!(client.run("CONFIG RESETSTAT").is_ok());
        let start = Instant::now();
        assert!(client.run(line).is_ok());
        let took = start.elapsed();
        assert_eq!(client.run("DBSIZE"), Reply::Int(0));
        eprintln!("{line} of {KEYS} keys was answered after {took:?}");
        // Only what the thread has freed is counted.
        wait_until_freed(&mut client, KEYS as u64);
    }
}

/// The helper thread frees what SYNC empties, too; the reply was there before the memory was.
#[test]
fn sync_is_answered_when_the_memory_is_free() {
    let server = Server::start(&[("enable-debug-command", "yes"), ("appendonly", "no")]);
    let mut client = server.raw();
    for lines in [&["FLUSHALL SYNC"][..], &["FLUSHDB"], &["MULTI", "FLUSHALL", "PING", "EXEC"]] {
        assert!(client.run(&format!("DEBUG POPULATE {KEYS}")).is_ok());
        let before = field(&mut client, "used_memory");
        let pipeline = [lines, &["INFO all"]].concat().join("\r\n") + "\r\n";
        client.send(pipeline.as_bytes());
        lines.iter().for_each(|line| assert!(!client.reply().is_error(), "{line}"));
        let info = client.reply().text();
        assert!(info.contains("lazyfree_pending_objects:0\r\n"), "{lines:?}: {info}");
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        let used: u64 = used.and_then(|used| used.parse().ok()).expect("used_memory");
        assert!(used < before / 2, "{lines:?}: {used} of {before}");
    }
}

/// What waits for the memory comes by itself: its client need not keep its own side open.
#[test]
fn who_only_listens_any_more_hears_of_a_flush() {
    let server = Server::start(&[("enable-debug-command", "yes"), ("appendonly", "no")]);
    assert!(server.run(&format!("DEBUG POPULATE {KEYS}")).is_ok());
    let mut client = server.raw();
    client.send(b"FLUSHALL SYNC\r\nSET key value\r\nPING\r\n");
    client.finish_sending();
    assert!(client.reply().is_ok());
    assert!(client.reply().is_ok());
    assert_eq!(client.reply(), Reply::Simple(b"PONG".to_vec()));
    assert!(client.is_closed());
    assert_eq!(server.run("GET key"), Reply::Bulk(b"value".to_vec()));

    assert!(server.run(&format!("DEBUG POPULATE {KEYS}")).is_ok());
    let mut client = server.raw();
    let id = client.run("CLIENT ID").int();
    let kill = format!("CLIENT KILL ID {id} SKIPME no");
    client.send(format!("MULTI\r\nFLUSHALL\r\n{kill}\r\nEXEC\r\n").as_bytes());
    for line in ["MULTI", "FLUSHALL", "CLIENT KILL", "EXEC"] {
        assert!(!client.reply().is_error(), "{line}");
    }
    assert!(client.is_closed());
}

#[test]
fn large_values_are_counted_and_statistics_reset() {
    let server = Server::start(&[("appendonly", "no")]);
    let mut client = server.raw();
    let large = vec![b'x'; 1 << 20];
    assert!(client.command(&[&b"MSET"[..], b"a", &large, b"b", &large, b"c", b"small"]).is_ok());
    assert_eq!(client.run("DEL a"), Reply::Int(1));
    assert_eq!(field(&mut client, "lazyfreed_objects"), 0);
    assert_eq!(client.run("UNLINK b c"), Reply::Int(2));
    wait_until_freed(&mut client, 1);
    assert!(client.run("CONFIG SET lazyfree-lazy-user-del yes").is_ok());
    assert!(client.command(&[&b"SET"[..], b"a", &large]).is_ok());
    assert_eq!(client.run("DEL a"), Reply::Int(1));
    wait_until_freed(&mut client, 2);
    assert!(client.run("CONFIG RESETSTAT").is_ok());
    wait_until_freed(&mut client, 0);
}

#[test]
fn a_child_forked_while_keys_are_freed_writes_what_is_left() {
    let mut server = Server::start(&[("enable-debug-command", "yes")]);
    let mut client = server.raw();
    for round in 0..3 {
        assert!(client.run(&format!("DEBUG POPULATE {KEYS} doomed")).is_ok());
        client.send(format!("FLUSHALL ASYNC\r\nSET left {round}\r\nBGREWRITEAOF\r\n").as_bytes());
        (0..3).for_each(|_| assert!(!client.reply().is_error()));
        server.wait_rewrite_end(&mut client);
        let info = client.run("INFO persistence").text();
        assert!(info.contains("aof_last_bgrewrite_status:ok"), "{info}");
    }
    // Two of the flushes found what the round before had left.
    wait_until_freed(&mut client, 3 * KEYS as u64 + 2);
    server.kill9();
    server.restart();
    assert_eq!(server.run("KEYS *"), Reply::Array(vec![Reply::Bulk(b"left".to_vec())]));
    assert_eq!(server.run("GET left").text(), "2");
}
