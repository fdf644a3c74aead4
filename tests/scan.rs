//! A whole SCAN returns every key that was there from its beginning to its end, whatever else
//! comes and goes meanwhile, and nothing that was never there.

mod common;

use std::collections::BTreeSet;

use common::raw::encode_into;
use common::{Raw, Reply, Rng, Server, seed_from_env};

/// One call: the next cursor and the keys returned.
fn page(client: &mut Raw, cursor: &str, options: &[&str]) -> (String, Vec<String>) {
    let mut args = vec!["SCAN", cursor];
    args.extend(options);
    let reply = client.command(&args);
    let [next, keys] = reply.items() else { panic!("SCAN {cursor}: {reply:?}") };
    (next.text(), keys.items().iter().map(Reply::text).collect())
}

/// Runs `command` with each key in turn, in one pipeline.
fn for_each(client: &mut Raw, keys: &[String], command: &[&str]) {
    for chunk in keys.chunks(1_000) {
        let mut bytes = Vec::new();
        for key in chunk {
            let mut args = command.to_vec();
            args.insert(1, key);
            encode_into(&mut bytes, &args);
        }
        client.send(&bytes);
        for key in chunk {
            let reply = client.reply();
            assert!(!reply.is_error(), "{command:?} {key}: {reply:?}");
        }
    }
}

#[test]
fn keys_that_stay_are_returned_while_others_come_and_go() {
    let seed = seed_from_env("SCAN_SEED");
    eprintln!("SCAN_SEED={seed}");
    let mut rng = Rng::new(seed);
    for (stay, crowd, count) in [(10, 5_000, "1"), (500, 30_000, "10"), (3_000, 60_000, "500")] {
        let server = Server::start(&[("appendonly", "no")]);
        let mut client = server.raw();
        let staying: Vec<String> = (0..stay).map(|at| format!("stay:{at}")).collect();
        let passing: Vec<String> = (0..crowd).map(|at| format!("pass:{at}")).collect();
        for_each(&mut client, &staying, &["SET", "1"]);
        // In turns the table grows and shrinks by a factor of up to a thousand.
        for grow in [true, false, true] {
            if !grow {
                for_each(&mut client, &passing, &["SET", "1"]);
            }
            let (mut cursor, mut found) = ("0".to_owned(), BTreeSet::new());
            let (mut done, step) = (0, 1 + rng.below(crowd / 20));
            loop {
                let (next, keys) = page(&mut client, &cursor, &["COUNT", count]);
                found.extend(keys);
                let part = &passing[done..(done + step).min(crowd)];
                done = (done + step).min(crowd);
                let command: &[&str] = if grow { &["SET", "1"] } else { &["DEL"] };
                for_each(&mut client, part, command);
                cursor = next;
                if cursor == "0" {
                    break;
                }
            }
            let missing: Vec<_> = staying.iter().filter(|key| !found.contains(*key)).collect();
            assert!(missing.is_empty(), "SCAN_SEED={seed} grow {grow}: missing {missing:?}");
            let known: BTreeSet<&String> = staying.iter().chain(&passing).collect();
            let strange: Vec<_> = found.iter().filter(|key| !known.contains(key)).collect();
            assert!(strange.is_empty(), "SCAN_SEED={seed}: never there: {strange:?}");
            for_each(&mut client, &passing, &["DEL"]);
            assert_eq!(client.run("DBSIZE"), Reply::Int(stay));
        }
    }
}

#[test]
fn at_rest_every_key_is_returned_once() {
    let server = Server::start(&[("appendonly", "no")]);
    let mut client = server.raw();
    assert!(client.run("DEBUG POPULATE 20000 key 5").is_ok());
    for count in ["1", "10", "1000", "100000"] {
        let (mut cursor, mut found, mut calls) = ("0".to_owned(), Vec::new(), 0);
        loop {
            let (next, keys) = page(&mut client, &cursor, &["COUNT", count]);
            found.extend(keys);
            calls += 1;
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found.len(), 20_000, "COUNT {count}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>().len(), 20_000, "COUNT {count}");
        let count: usize = count.parse().expect("a number");
        // COUNT is about how much a call does: neither everything at once nor next to nothing.
        assert!(calls <= 2 * 20_000 / count + 2, "COUNT {count} took {calls} calls");
        assert!(calls >= 20_000 / count / 20, "COUNT {count} took only {calls} calls");
    }
}

#[test]
fn options_choose_what_is_returned() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for key in ["apple", "avocado", "banana"] {
        assert!(client.command(&["SET", key, "1"]).is_ok());
    }
    let mut scan = |options: &[&str]| {
        let mut all: Vec<String> = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let (next, keys) = page(&mut client, &cursor, options);
            all.extend(keys);
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
        all.sort();
        all
    };
    assert_eq!(scan(&["MATCH", "a*"]), ["apple", "avocado"]);
    assert_eq!(scan(&["MATCH", "apple"]), ["apple"]);
    assert_eq!(scan(&["TYPE", "string"]), ["apple", "avocado", "banana"]);
    assert_eq!(scan(&["TYPE", "list"]), [""; 0]);
    assert_eq!(scan(&["COUNT", "1", "MATCH", "*an*", "TYPE", "STRING"]), ["banana"]);
}

/// Cursors come from strangers: any number is taken, and nothing breaks.
#[test]
fn any_cursor_is_safe() {
    let seed = seed_from_env("SCAN_SEED");
    eprintln!("SCAN_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut server = Server::start(&[("appendonly", "no")]);
    let mut client = server.raw();
    for size in [0, 1, 100, 10_000] {
        assert!(client.run("FLUSHALL").is_ok());
        assert!(client.command(&["DEBUG", "POPULATE", &size.to_string()]).is_ok());
        let edges = [1, u64::MAX, u64::MAX - 1, 1 << 63, 1 << 53, (1 << 53) - 1, 1 << 48, 1 << 16];
        for at in 0..300 {
            let cursor = edges.get(at).copied().unwrap_or_else(|| rng.next() >> rng.below(64));
            let (_, keys) = page(&mut client, &cursor.to_string(), &["COUNT", "5"]);
            assert!(keys.len() <= size, "SCAN_SEED={seed} cursor {cursor}: {} keys", keys.len());
        }
    }
    assert!(server.is_running());
}
