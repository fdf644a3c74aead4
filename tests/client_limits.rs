//! Limits on clients at their edges: how many may connect when that changes, who goes when all hold
//! too much, and what is held against nobody.

mod common;

use std::process::Command;

use common::raw::encode;
use common::{FaultySystem, Launch, Raw, Reply, Server, eventually, skip_without};

fn pong() -> Reply {
    Reply::Simple(b"PONG".to_vec())
}

fn stat(operator: &mut Raw, name: &str) -> u64 {
    let text = operator.run("INFO everything").text();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// A field of CLIENT LIST; `None` once the client is gone.
fn field(operator: &mut Raw, id: i64, name: &str) -> Option<usize> {
    let line = operator.run(&format!("CLIENT LIST ID {id}")).text();
    let fields = line.trim().split(' ').filter_map(|field| field.split_once('='));
    fields.filter(|(found, _)| *found == name).find_map(|(_, value)| value.parse().ok())
}

/// A client that has sent so much of a request that has a byte more, and its id.
fn unfinished(server: &Server, operator: &mut Raw, bytes: usize, no_evict: bool) -> (Raw, i64) {
    let mut client = server.raw();
    let id = client.run("CLIENT ID").int();
    if no_evict {
        assert!(client.run("CLIENT NO-EVICT ON").is_ok());
    }
    let head = format!("*2\r\n$4\r\nECHO\r\n${}\r\n", bytes + 1);
    // It may be closed before all is sent.
    let _ = client.try_send(head.as_bytes());
    let _ = client.try_send(&vec![b'x'; bytes]);
    eventually("it is received, or the client gone", || {
        field(operator, id, "tot-mem").is_none_or(|held| held >= bytes)
    });
    (client, id)
}

fn finish(client: &mut Raw, bytes: usize) {
    client.send(b"x\r\n");
    assert_eq!(client.reply().bytes().len(), bytes + 1);
}

fn is_admitted(server: &Server) -> bool {
    let mut client = server.raw();
    client.try_send(&encode(&["PING"])).is_ok()
        && client.try_frame().is_ok_and(|frame| frame.reply == pong())
}

#[test]
fn a_lower_limit_of_clients_ends_nobody_and_admits_nobody() {
    let server = Server::start(&[("maxclients", "10")]);
    let mut operator = server.raw();
    let mut clients: Vec<Raw> = (0..5).map(|_| server.raw()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.run("PING"), pong()));
    assert_eq!(stat(&mut operator, "rejected_connections"), 0);
    assert!(operator.run("CONFIG SET maxclients 3").is_ok());
    for _ in 0..3 {
        let mut extra = server.raw();
        assert_eq!(extra.read_until_closed(), b"-ERR max number of clients reached\r\n");
    }
    assert_eq!(stat(&mut operator, "rejected_connections"), 3);
    clients.iter_mut().for_each(|client| assert_eq!(client.run("PING"), pong()));
    // Six are there; one less than three must be before anybody else is let in.
    clients.truncate(2);
    eventually("three are left", || stat(&mut operator, "connected_clients") == 3);
    assert!(!is_admitted(&server));
    clients.truncate(1);
    eventually("two are left", || stat(&mut operator, "connected_clients") == 2);
    assert!(is_admitted(&server));
    assert!(operator.run("CONFIG SET maxclients 10").is_ok());
    let mut more: Vec<Raw> = (0..7).map(|_| server.raw()).collect();
    more.iter_mut().for_each(|client| assert_eq!(client.run("PING"), pong()));
}

/// The largest goes, and none besides if that is enough; who has gone is not counted any more.
#[test]
fn only_as_many_go_as_must_the_largest_first() {
    const MB: usize = 1_000_000;
    let server = Server::start(&[("maxmemory-clients", "10mb")]);
    let mut operator = server.raw();
    // One after the other, each of them within the limit.
    for _ in 0..4 {
        let (client, id) = unfinished(&server, &mut operator, 6 * MB, false);
        assert!(field(&mut operator, id, "tot-mem").is_some());
        drop(client);
        eventually("it is gone", || field(&mut operator, id, "tot-mem").is_none());
    }
    assert_eq!(stat(&mut operator, "evicted_clients"), 0);
    let (mut small, _) = unfinished(&server, &mut operator, MB, false);
    let (mut middle, _) = unfinished(&server, &mut operator, 3 * MB, false);
    let (mut large, large_id) = unfinished(&server, &mut operator, 5 * MB, false);
    assert_eq!(stat(&mut operator, "evicted_clients"), 0);
    let (mut last, last_id) = unfinished(&server, &mut operator, 4 * MB, false);
    eventually("the largest is gone", || field(&mut operator, large_id, "tot-mem").is_none());
    assert!(large.read_to_end().is_err() || large.is_closed());
    assert_eq!(stat(&mut operator, "evicted_clients"), 1);
    assert!(field(&mut operator, last_id, "tot-mem").is_some());
    finish(&mut small, MB);
    finish(&mut middle, 3 * MB);
    finish(&mut last, 4 * MB);
}

/// What a client holds that is about to be closed in the same turn costs no other its place.
#[test]
fn who_is_being_closed_is_not_counted_against_the_others() {
    const MB: usize = 1_000_000;
    let server = Server::start(&[]);
    let mut operator = server.raw();
    let (mut small, _) = unfinished(&server, &mut operator, 3 * MB, false);
    let (_large, large_id) = unfinished(&server, &mut operator, 6 * MB, false);
    let both = format!("CONFIG SET maxmemory-clients 7mb\r\nCLIENT KILL ID {large_id}\r\n");
    operator.send(format!("MULTI\r\n{both}EXEC\r\n").as_bytes());
    (0..4).for_each(|_| drop(operator.reply()));
    assert_eq!(field(&mut operator, large_id, "tot-mem"), None);
    assert_eq!(stat(&mut operator, "evicted_clients"), 0);
    finish(&mut small, 3 * MB);
}

/// Those who are exempt may hold more than the limit alone. The others must still go then.
#[test]
fn who_is_exempt_does_not_shield_the_others() {
    const MB: usize = 1_000_000;
    let server = Server::start(&[("maxmemory-clients", "8mb")]);
    let mut operator = server.raw();
    assert!(operator.run("CLIENT NO-EVICT ON").is_ok());
    let (mut exempt, _) = unfinished(&server, &mut operator, 12 * MB, true);
    // Who would be admitted would go at once, whatever it holds.
    for evicted in 1..=2 {
        let mut other = server.raw();
        let _ = other.try_send(b"*2\r\n$4\r\nECHO\r\n$3000000\r\n");
        let _ = other.try_send(&vec![b'x'; 2_999_999]);
        eventually("it goes", || stat(&mut operator, "evicted_clients") == evicted);
        assert!(other.read_to_end().is_err() || other.is_closed());
    }
    finish(&mut exempt, 12 * MB);
    drop(exempt);
    let (mut within, _) = unfinished(&server, &mut operator, 3 * MB, false);
    finish(&mut within, 3 * MB);
    assert_eq!(stat(&mut operator, "evicted_clients"), 2);
}

/// A reply that waits for the disk is none that its client does not take: it counts towards no limit,
/// and who waits for it is not idle.
#[test]
fn what_the_log_withholds_is_held_against_nobody() {
    let folder = tempfile::tempdir().expect("a directory");
    let system = FaultySystem::build(folder.path());
    let launch = Launch::new().flag("appendfsync", "always").flag("timeout", "1");
    let server = system.under(launch).start();
    let mut operator = server.raw();
    // Three replies leave little of the output buffer unused, which does count.
    let value = vec![b'v'; 300_000];
    assert!(operator.command(&[&b"SET"[..], b"large", &value]).is_ok());
    for line in [
        &["CONFIG", "SET", "client-output-buffer-limit", "normal 500kb 400kb 1"],
        &["CONFIG", "SET", "maxmemory-clients", "600kb"],
    ] {
        assert!(operator.command(line).is_ok());
    }
    // The log heals by a fork alone, so that nothing is released for as long as there is none.
    system.fail_forks(true);
    system.fail_sync();
    let mut client = server.raw();
    let id = client.run("CLIENT ID").int();
    client.send(&[encode(&["SET", "small", "1"]), encode(&["GET", "large"]).repeat(3)].concat());
    eventually("all are withheld", || {
        let held = ["obl", "omem"].map(|name| field(&mut operator, id, name).expect("there"));
        held.iter().sum::<usize>() > 3 * value.len()
    });
    // Twice the idle time, and many of cron's rounds.
    for _ in 0..5 {
        assert_eq!(operator.run("WAIT 1 500").int(), 0);
        assert!(field(&mut operator, id, "tot-mem").is_some(), "{}", server.log_text());
    }
    // On its way it may stay unsent for a moment.
    for line in [
        &["CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0"],
        &["CONFIG", "SET", "maxmemory-clients", "0"],
    ] {
        assert!(operator.command(line).is_ok());
    }
    system.fail_forks(false);
    assert!(client.reply().is_ok());
    (0..3).for_each(|_| assert_eq!(client.reply().bytes(), value));
    for name in ["evicted_clients", "client_output_buffer_limit_disconnections"] {
        assert_eq!(stat(&mut operator, name), 0, "{name}");
    }
}

/// Above the limit now and then is not above it all the time.
#[test]
fn the_time_above_the_soft_limit_begins_anew() {
    let server = Server::start(&[("client-output-buffer-limit", "normal 0 2mb 5")]);
    let mut operator = server.raw();
    let value = vec![b'v'; 1 << 20];
    assert!(operator.command(&[&b"SET"[..], b"large", &value]).is_ok());
    let mut client = server.raw();
    let id = client.run("CLIENT ID").int();
    let exceed = |client: &mut Raw, operator: &mut Raw| {
        client.send(&encode(&["GET", "large"]).repeat(30));
        eventually("above the limit", || {
            let held = ["obl", "omem"].map(|name| field(operator, id, name));
            held.iter().flatten().sum::<usize>() > 4 << 20 || held[0].is_none()
        });
        assert!(field(operator, id, "tot-mem").is_some(), "let go: {}", server.log_text());
        for _ in 0..30 {
            assert_eq!(client.reply().bytes().len(), value.len());
        }
    };
    exceed(&mut client, &mut operator);
    // Far below the limit for longer than it may be above.
    assert_eq!(operator.run("WAIT 1 5500").int(), 0);
    exceed(&mut client, &mut operator);
    assert_eq!(client.run("PING"), pong());
    assert_eq!(stat(&mut operator, "client_output_buffer_limit_disconnections"), 0);
}

/// As many as the system has descriptors for, and not more.
#[test]
fn more_clients_than_the_system_allows_are_refused() {
    let Some(tool) = skip_without("RLIMIT_NOFILE", "prlimit") else { return };
    let server = Server::start(&[("maxclients", "50")]);
    let mut operator = server.raw();
    let pid = format!("--pid={}", server.pid());
    let limited = Command::new(tool).args([&pid, "--nofile=200:200"]).status();
    assert!(limited.expect("runs").success());
    let refused = operator.run("CONFIG SET maxclients 10000");
    assert!(refused.is_error(), "{refused:?}");
    let why = "is not able to handle the specified number of clients, try with ";
    assert!(refused.error().contains(why), "{refused:?}");
    assert_eq!(operator.run("CONFIG GET maxclients").items()[1].text(), "50");
    let possible = refused.error().rsplit(' ').next().expect("a number").to_owned();
    assert!(operator.run(&format!("CONFIG SET maxclients {possible}")).is_ok(), "{possible}");
}
