//! Keys that come due in large numbers are gone soon, and nobody is kept waiting meanwhile.
//!
//! `EXPIRY_KEYS=n` says how many there are; the figures are printed (`--nocapture`).

mod common;

use std::time::{Duration, Instant};

use common::raw::encode_into;
use common::{Raw, Reply, Server, env_number, unix_ms};

/// How many there are unless told otherwise: enough for many slices of the cycle.
const DEFAULT_KEYS: u64 = 200_000;

/// Sets `keys` keys, due one after the other from `first` on, within `span_ms`.
fn fill(client: &mut Raw, name: &str, keys: u64, first: i64, span_ms: u64) {
    for from in (0..keys).step_by(10_000) {
        let to = (from + 10_000).min(keys);
        let mut pipeline = Vec::new();
        for at in from..to {
            let due = first + (at * span_ms / keys) as i64;
            let key = format!("{name}:{at}");
            encode_into(&mut pipeline, &["SET", &key, "v", "PXAT", &due.to_string()]);
        }
        client.send(&pipeline);
        (from..to).for_each(|_| assert!(client.reply().is_ok()));
    }
}

/// [`fill`] with keys that come due from a moment ahead on, which is returned. How long setting them
/// takes is not known: they are set anew, further ahead, if it was too long.
fn fill_in_time(client: &mut Raw, name: &str, keys: u64, mut ahead_ms: i64, span_ms: u64) -> i64 {
    loop {
        let first = unix_ms() + ahead_ms;
        fill(client, name, keys, first, span_ms);
        if unix_ms() < first {
            return first;
        }
        assert!(ahead_ms < 100_000, "setting {keys} keys takes longer than that");
        ahead_ms *= 2;
        for from in (0..keys).step_by(10_000) {
            let mut del = vec!["DEL".to_owned()];
            del.extend((from..(from + 10_000).min(keys)).map(|at| format!("{name}:{at}")));
            client.command(&del);
        }
    }
}

/// What was seen while keys came due.
#[derive(Debug, Default)]
struct Seen {
    /// By how much the oldest key that was still there was overdue.
    lags_ms: Vec<i64>,
    /// What a client waited for its reply.
    waits_us: Vec<u64>,
}

fn at_percent<T: Copy + Ord>(values: &mut [T], percent: usize) -> T {
    values.sort_unstable();
    values[(values.len() - 1) * percent / 100]
}

/// Asks how many keys are left until `gone` of `keys` are, which come due from `first` on within
/// `span_ms`.
fn watch(client: &mut Raw, before: u64, keys: u64, first: i64, span_ms: u64) -> Seen {
    let mut seen = Seen::default();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let (asked, asked_ms) = (Instant::now(), unix_ms());
        let left = client.run("DBSIZE").int() as u64;
        seen.waits_us.push(asked.elapsed().as_micros() as u64);
        let removed = before - left;
        if removed == keys {
            return seen;
        }
        // They go in the order of their deadlines. It was there still when it was asked for.
        let oldest = first + (removed * span_ms / keys) as i64;
        seen.lags_ms.push((asked_ms - oldest).max(0));
        assert!(Instant::now() < deadline, "{left} of {before} keys are left");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn report(what: &str, server: &Server, seen: &mut Seen) -> (i64, u64) {
    let longest_us: u64 = server.info("eventloop_duration_max").parse().expect("a number");
    let lag_ms = at_percent(&mut seen.lags_ms, 100);
    eprintln!(
        "{what}: overdue by p50 {} p99 {} max {lag_ms} ms; a client waits p50 {} p99 {} max {} us; \
         longest turn of the loop {longest_us} us",
        at_percent(&mut seen.lags_ms, 50),
        at_percent(&mut seen.lags_ms, 99),
        at_percent(&mut seen.waits_us, 50),
        at_percent(&mut seen.waits_us, 99),
        at_percent(&mut seen.waits_us, 100),
    );
    (lag_ms, longest_us)
}

#[test]
fn keys_due_are_gone_soon_and_nobody_waits() {
    let keys = env_number("EXPIRY_KEYS", DEFAULT_KEYS);
    let server = Server::start(&[]);
    let mut client = server.raw();
    // A hundredth of them comes due within a second, the others later.
    let few = keys / 100;
    let later = unix_ms() + 3_600_000;
    fill(&mut client, "later", keys, later, 1_000);
    let first = fill_in_time(&mut client, "few", few, 500, 1_000);
    assert!(client.run("CONFIG RESETSTAT").is_ok());
    let mut seen = watch(&mut client, keys + few, few, first, 1_000);
    let what = format!("{few} of {} keys due within a second", keys + few);
    let (lag_ms, _) = report(&what, &server, &mut seen);
    // A tenth of a second is the goal; a busy machine takes the processor away for longer.
    assert!(lag_ms < 2_000, "overdue by {lag_ms} ms");
    assert_eq!(server.info("expired_keys"), few.to_string());
    assert!(client.run("FLUSHALL").is_ok());

    // All of them within a second.
    let first = fill_in_time(&mut client, "flood", keys, 2_000, 1_000);
    assert!(client.run("CONFIG RESETSTAT").is_ok());
    assert_eq!(client.run("DBSIZE"), Reply::Int(keys as i64));
    let mut seen = watch(&mut client, keys, keys, first, 1_000);
    let took_ms = unix_ms() - first;
    let what = format!("{keys} keys due within a second, gone after {took_ms} ms");
    let (_, longest_us) = report(&what, &server, &mut seen);
    assert_eq!(server.info("expired_keys"), keys.to_string());
    // Slices are of a millisecond; what else a turn waits for is the machine.
    assert!(longest_us < 1_000_000, "the loop stood still for {longest_us} us");
    assert!(server.info("expired_time_cap_reached_count").parse::<u64>().expect("a number") > 1);
}
