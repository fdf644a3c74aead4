//! Keys that go between commands: that is in the log before anybody asks, and waits where the log
//! has no room for it.

mod common;

use common::faulty::Call;
use common::raw::encode_into;
use common::{FaultySystem, Launch, Raw, Server, eventually};
use nix::errno::Errno;

/// Keys of about 70 bytes each in the log, about 150 in memory.
const KEYS: usize = 60_000;
/// What the log's file says of one key that was evicted.
const DELETION: &[u8] = b"$3\r\nDEL\r\n";

/// A field of INFO, asked for by a client that is new: one that has written may be held back.
fn number(server: &Server, field: &str) -> u64 {
    server.info(field).parse().expect("a number")
}

fn fill(client: &mut Raw) {
    for chunk in 0..KEYS / 1_000 {
        let mut requests = Vec::new();
        for n in 0..1_000 {
            let key = format!("key:{chunk}:{n}");
            encode_into(&mut requests, &["SET", &key, "what is to be evicted"]);
        }
        client.send(&requests);
        (0..1_000).for_each(|_| assert!(client.reply().is_ok()));
    }
}

fn launch() -> Launch {
    let launch = Launch::new().flag("enable-debug-command", "yes");
    launch.flag("maxmemory-policy", "allkeys-random")
}

/// From here on a batch of keys goes in each turn, which takes two milliseconds: eviction lasts for seconds,
/// so that whoever looks finds it under way, however busy the machine is.
fn evict_slowly(client: &mut Raw) {
    assert!(client.run("CONFIG SET maxmemory-eviction-tenacity 0").is_ok());
    assert!(client.run("DEBUG AOF-FLUSH-SLEEP 2000").is_ok());
}

/// Nothing goes any more from here on; what is left.
fn frozen_digest(client: &mut Raw) -> String {
    assert!(client.run("CONFIG SET maxmemory 0").is_ok());
    let digest = client.run("DEBUG DIGEST");
    assert!(!digest.is_error(), "{digest:?}");
    format!("{} of {}", digest.text(), client.run("DBSIZE").int())
}

fn digest_of(server: &Server) -> String {
    frozen_digest(&mut server.raw())
}

fn count(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).filter(|window| *window == text).count()
}

/// Nobody asks for anything, so nothing but the loop itself can bring what it evicts to the log.
#[test]
fn what_goes_between_commands_is_in_the_log_before_anybody_asks() {
    for policy in ["always", "everysec", "no"] {
        let mut server = launch().flag("appendfsync", policy).start();
        let mut client = server.raw();
        fill(&mut client);
        let before = server.aof().len();
        evict_slowly(&mut client);
        assert!(client.run("CONFIG SET maxmemory 1").is_ok());
        let deletions = |server: &Server| count(&server.aof()[before..], DELETION);
        eventually("deletions in the file", || deletions(&server) >= KEYS / 10);
        // In the middle of it: what is in the file is what is gone.
        server.kill9();
        let left = KEYS - deletions(&server);
        assert!(left > 0);
        server.restart();
        assert_eq!(server.run("DBSIZE").int(), left as i64, "{policy}");

        let mut client = server.raw();
        let before = server.aof().len();
        evict_slowly(&mut client);
        assert!(client.run("CONFIG SET maxmemory 1").is_ok());
        eventually("more deletions", || count(&server.aof()[before..], DELETION) >= left / 10);
        let digest = frozen_digest(&mut client);
        server.kill9();
        server.restart();
        assert_eq!(digest_of(&server), digest, "{policy}");
    }
}

/// The rewrite-diff of a log that is being turned on has nowhere to go while its child hangs. Keys
/// that go would fill it without end.
#[test]
fn eviction_waits_while_the_log_has_no_room_for_its_deletions() {
    const LIMIT: u64 = 1 << 20;
    let folder = tempfile::tempdir().expect("a directory");
    let system = FaultySystem::build(folder.path());
    let launch = launch().flag("appendonly", "no").flag("aof-rewrite-diff-max", "1mb");
    let launch = launch.flag("aof-rewrite-timeout", "0");
    let mut server = system.under(launch).start();
    let mut client = server.raw();
    fill(&mut client);
    system.hang_children(true);
    let mut switch = server.raw();
    switch.send(b"CONFIG SET appendonly yes\r\n");
    eventually("the child", || server.rewrite_child().is_some());
    assert!(client.run("CONFIG SET maxmemory 1").is_ok());
    eventually("a full diff", || number(&server, "mem_not_counted_for_evict") > LIMIT);
    // Each of them asks for room.
    for _ in 0..200 {
        server.run("PING");
    }
    let held = number(&server, "mem_not_counted_for_evict");
    assert!(held < LIMIT * 5 / 4, "{held} bytes in the diff");
    let gone = number(&server, "evicted_keys");
    let left = server.run("DBSIZE").int() as usize;
    assert!(left > KEYS / 4, "{left} keys are left");
    assert_eq!(left + gone as usize, KEYS);
    // Nor does the loop try again and again meanwhile: it has its rounds, a few dozen a second.
    let turns = number(&server, "eventloop_cycles");
    assert_eq!(server.run("WAIT 1 500").int(), 0);
    let turns = number(&server, "eventloop_cycles") - turns;
    assert!(turns < 2_000, "{turns} turns");
    assert_eq!(number(&server, "evicted_keys"), gone);
    // The child goes on, and so does eviction, of which the log has every key; more slowly, so that
    // there is an end in the middle of it.
    evict_slowly(&mut server.raw());
    system.hang_children(false);
    assert!(switch.reply().is_ok());
    let before = server.aof().len();
    eventually("more deletions", || count(&server.aof()[before..], DELETION) > 1_000);
    let digest = digest_of(&server);
    assert!(!digest.ends_with(" of 0"), "{digest}");
    server.kill9();
    server.set_flag("appendonly", "yes");
    server.restart();
    assert_eq!(digest_of(&server), digest);
}

/// What a failing disk does not take must not pile up in memory, and memory is the truth while
/// nothing can be made durable.
#[test]
fn nothing_is_evicted_while_the_log_fails() {
    let folder = tempfile::tempdir().expect("a directory");
    let system = FaultySystem::build(folder.path());
    let mut server = system.under(launch()).start();
    let mut client = server.raw();
    fill(&mut client);
    // So that the disk fails in the middle of it.
    evict_slowly(&mut client);
    let before = server.aof().len();
    assert!(client.run("CONFIG SET maxmemory 1").is_ok());
    eventually("deletions in the file", || count(&server.aof()[before..], DELETION) > 1_000);
    system.fail(Call::Write, Errno::ENOSPC);
    eventually("refusals", || client.run("SET a 1").is_error_text("MISCONF"));
    let gone = number(&server, "evicted_keys");
    let buffered = number(&server, "aof_buffer_length");
    for _ in 0..1_000 {
        client.send(b"PING\r\n");
        client.reply();
    }
    assert_eq!(number(&server, "evicted_keys"), gone);
    assert_eq!(number(&server, "aof_buffer_length"), buffered);
    system.mend(Call::Write);
    // The next command that asks for room goes on with it.
    eventually("evictions", || number(&server, "evicted_keys") > gone);
    let digest = frozen_digest(&mut client);
    server.kill9();
    server.restart();
    assert_eq!(digest_of(&server), digest);
}
