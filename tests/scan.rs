//! A whole SCAN returns every key that was there from its beginning to its end, whatever else
//! comes and goes meanwhile, and nothing that was never there.

mod common;

use std::collections::{BTreeMap, BTreeSet};

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

/// What the model knows of one database's keys while a SCAN goes on.
#[derive(Default)]
struct Model {
    /// The keys that are there.
    present: BTreeSet<String>,
    /// Those that have been there since the SCAN began: each must be returned.
    throughout: BTreeSet<String>,
    /// Those that have been there at any time since: no other may be returned.
    ever: BTreeSet<String>,
}

impl Model {
    /// A SCAN begins.
    fn begin(&mut self) {
        self.throughout.clone_from(&self.present);
        self.ever.clone_from(&self.present);
    }

    fn add(&mut self, keys: &[String]) {
        self.present.extend(keys.iter().cloned());
        self.ever.extend(keys.iter().cloned());
    }

    fn remove(&mut self, keys: &[String]) {
        for key in keys {
            self.present.remove(key);
            self.throughout.remove(key);
        }
    }

    fn clear(&mut self) {
        self.present.clear();
        self.throughout.clear();
    }
}

/// Names of keys that have never been used, of two kinds.
fn fresh_keys(fresh: &mut usize, count: usize) -> Vec<String> {
    let from = *fresh;
    *fresh += count;
    (from..*fresh).map(|at| format!("{}:{at}", ["a", "b"][at % 2])).collect()
}

/// Any mix of additions, removals, deadlines and flushes between the calls of a SCAN, with any
/// options: what was there all the time is returned, exactly once, and nothing that never was.
#[test]
fn a_scan_agrees_with_a_model_under_any_change() {
    const OPTIONS: &[(&[&str], &str)] = &[
        (&[], ""),
        (&["MATCH", "a:*"], "a:"),
        (&["TYPE", "string"], ""),
        (&["MATCH", "b:*", "TYPE", "STRING"], "b:"),
        (&["TYPE", "hash"], "none"),
        (&["MATCH", "*"], ""),
    ];
    let seed = seed_from_env("SCAN_SEED");
    eprintln!("SCAN_SEED={seed}");
    let mut rng = Rng::new(seed);
    let server = Server::start(&[("appendonly", "no")]);
    let mut client = server.raw();
    let mut model = Model::default();
    let (mut fresh, mut flushes, mut grown, mut shrunk) = (0, 0, 0, 0);
    for round in 0..40 {
        let (options, prefix) = OPTIONS[rng.below(OPTIONS.len())];
        // How many keys a call looks at, how many come or go between two calls, and how many there
        // may be: so each SCAN sees the table become several times as large or as small.
        let (count, step, most) =
            [("1", 6, 3_000), ("7", 40, 8_000), ("50", 300, 20_000), ("700", 4_000, 40_000)]
                [rng.below(4)];
        let options = [options, &["COUNT", count]].concat();
        let place = format!("SCAN_SEED={seed} round {round} {options:?}");
        let (grows, flush_at) = (rng.one_in(2), rng.below(60));
        let least = if grows { most / 20 } else { most / 2 };
        if model.present.len() < least {
            let added = fresh_keys(&mut fresh, least);
            for_each(&mut client, &added, &["SET", "1"]);
            model.add(&added);
        }
        let size_before = model.present.len();
        model.begin();
        let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
        for call in 0.. {
            let (next, keys) = page(&mut client, &cursor, &options);
            found.extend(keys);
            cursor = next;
            if cursor == "0" {
                break;
            }
            let grows = grows && model.present.len() < most;
            if call == flush_at && rng.one_in(3) {
                assert!(client.run(["FLUSHALL", "FLUSHDB ASYNC"][rng.below(2)]).is_ok());
                model.clear();
                flushes += 1;
            }
            // Mostly one way, so that segments split, or are merged, one after the other.
            let (more, less) = if grows { (step, step / 8) } else { (step / 8, step) };
            let added = fresh_keys(&mut fresh, rng.below(more + 1));
            for_each(&mut client, &added, &["SET", "1"]);
            model.add(&added);
            let every = (model.present.len() / (1 + rng.below(less + 1))).max(1);
            let gone: Vec<String> = model.present.iter().step_by(every).cloned().collect();
            match rng.below(3) {
                0 => for_each(&mut client, &gone, &["DEL"]),
                1 => for_each(&mut client, &gone, &["UNLINK"]),
                // A deadline that has passed removes the key on the spot.
                _ => for_each(&mut client, &gone, &["PEXPIREAT", "1"]),
            }
            model.remove(&gone);
            // The same key once more: no longer there throughout, and may be returned or not.
            if rng.one_in(4) && !gone.is_empty() {
                for_each(&mut client, &gone[..1], &["SET", "2"]);
                model.add(&gone[..1]);
            }
        }
        grown += usize::from(model.present.len() > 2 * size_before);
        shrunk += usize::from(2 * model.present.len() < size_before);
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        found.iter().for_each(|key| *times.entry(key).or_default() += 1);
        let returned: BTreeSet<String> = found.iter().cloned().collect();
        for key in model.throughout.iter().filter(|key| key.starts_with(prefix)) {
            assert!(returned.contains(key), "{place}: {key} was there all the time");
            assert_eq!(times[key.as_str()], 1, "{place}: {key} is returned once");
        }
        for key in &returned {
            assert!(model.ever.contains(key), "{place}: {key} never was there");
            assert!(key.starts_with(prefix), "{place}: {key} does not match");
        }
        assert_eq!(client.run("DBSIZE").int(), model.present.len() as i64, "{place}");
    }
    eprintln!("flushed {flushes} times, grown {grown}, shrunk {shrunk}");
    assert!(flushes > 0 && grown > 2 && shrunk > 2, "SCAN_SEED={seed}: too tame");
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
