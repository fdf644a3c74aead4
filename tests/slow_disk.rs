//! A disk on which every sync takes two seconds: whoever waits for nothing is answered meanwhile,
//! and what each policy promises is kept.

mod common;

use std::collections::HashMap;
use std::time::Duration;

use common::aof::items;
use common::faulty::EndedSync;
use common::process::KillOnPanic;
use common::{FaultySystem, Launch, Raw, Reply, Server, eventually};
use nix::time::{ClockId, clock_gettime};

const SYNC_TIME: Duration = Duration::from_secs(2);
/// The promise of `everysec`, and what a busy machine may add to it between a look at the clock
/// and the reply.
const EVERYSEC_NS: u64 = 1_300_000_000;
const WRITERS: usize = 3;
/// Syncs after which enough has been seen.
const SYNCS: usize = 4;

/// A write that was acknowledged, and when: on the machine's monotonic clock, nanoseconds.
#[derive(Clone, Debug)]
struct Acknowledged {
    key: String,
    value: String,
    asked_ns: u64,
    answered_ns: u64,
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock can be read");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Writes one thing after the other until enough syncs have been seen.
fn write_along(client: &mut Raw, writer: usize, system: &FaultySystem) -> Vec<Acknowledged> {
    let mut all = Vec::new();
    while system.syncs_ended().len() < SYNCS {
        let (key, value) = (format!("writer:{writer}"), all.len().to_string());
        let asked_ns = monotonic_ns();
        assert!(client.run(&format!("SET {key} {value}")).is_ok());
        all.push(Acknowledged { key, value, asked_ns, answered_ns: monotonic_ns() });
        // Not so many that judging them takes long.
        std::thread::sleep(Duration::from_millis(5));
    }
    all
}

/// Where in the file the group of each write ends, its seal included.
fn group_ends(file: &[u8]) -> HashMap<(String, String), u64> {
    let mut ends = HashMap::new();
    let mut open = Vec::new();
    for item in items(file) {
        match item.command {
            Some(words) if words.len() == 3 => {
                let [key, value] = [1, 2].map(|at| String::from_utf8_lossy(&words[at]).into());
                open.push((key, value));
            }
            Some(_) => {}
            None => ends.extend(open.drain(..).map(|write| (write, item.end as u64))),
        }
    }
    ends
}

/// Says which promise was broken, if one was.
fn judge(
    policy: &str,
    all: &[Acknowledged],
    ends: &HashMap<(String, String), u64>,
    syncs: &[EndedSync],
) -> Result<(), String> {
    let is_durable = |write: &Acknowledged, by_ns: u64| {
        let end = ends[&(write.key.clone(), write.value.clone())];
        syncs.iter().any(|sync| sync.covers >= end && sync.at_ns <= by_ns)
    };
    for told in all {
        let bound = |write: &Acknowledged| match policy {
            "always" => write.key == told.key && write.value == told.value,
            _ => write.answered_ns + EVERYSEC_NS < told.asked_ns,
        };
        for write in all.iter().filter(|write| bound(write)) {
            if !is_durable(write, told.answered_ns) {
                return Err(format!("{policy}: {told:?} was told before {write:?} was durable"));
            }
        }
    }
    Ok(())
}

/// By order, not by time: all within one and the same sync.
fn others_are_answered_within_one_sync(server: &Server, system: &FaultySystem) {
    let mut other = server.raw();
    eventually("twenty answers within one sync", || {
        let ended = system.syncs_ended().len();
        if system.syncs_begun() <= ended {
            return false;
        }
        for _ in 0..20 {
            assert_eq!(other.run("PING"), Reply::Simple(b"PONG".to_vec()));
            assert!(matches!(other.run("INFO persistence"), Reply::Bulk(_)));
        }
        system.syncs_ended().len() == ended
    });
}

fn keeps_its_promise(policy: &str) {
    let folder = tempfile::tempdir().expect("a directory");
    let system = FaultySystem::build(folder.path());
    let mut server = system.under(Launch::new().flag("appendfsync", policy)).start();
    system.slow_syncs(SYNC_TIME);
    let all: Vec<Acknowledged> = std::thread::scope(|scope| {
        let _kill = KillOnPanic(server.pid());
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (mut client, system) = (server.raw(), &system);
                scope.spawn(move || write_along(&mut client, writer, system))
            })
            .collect();
        others_are_answered_within_one_sync(&server, &system);
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect()
    });
    server.kill9();
    judge(policy, &all, &group_ends(&server.aof()), &system.syncs_ended())
        .unwrap_or_else(|broken| panic!("{broken}"));
    assert!(all.len() >= WRITERS * 2, "{policy}: {} acknowledged", all.len());
    system.mend_slow_syncs();
    server.restart();
    for writer in 0..WRITERS {
        let key = format!("writer:{writer}");
        let last = all.iter().rfind(|write| write.key == key).expect("acknowledged");
        assert_eq!(server.run(&format!("GET {key}")).text(), last.value, "{policy}");
    }
}

#[test]
fn always_keeps_its_promise_on_a_slow_disk() {
    keeps_its_promise("always");
}

#[test]
fn everysec_keeps_its_promise_on_a_slow_disk() {
    keeps_its_promise("everysec");
}

/// The judge must be able to find the servers of these tests guilty.
#[test]
fn the_judge_sees_a_reply_that_came_too_early() {
    let write = |value: &str, asked_s: u64, answered_s: u64| Acknowledged {
        key: "writer:0".to_owned(),
        value: value.to_owned(),
        asked_ns: asked_s * 1_000_000_000,
        answered_ns: answered_s * 1_000_000_000,
    };
    let all = [write("0", 10, 11), write("1", 13, 15)];
    let ends = ["0", "1"].map(|value| ("writer:0".to_owned(), value.to_owned()));
    let ends = HashMap::from([(ends[0].clone(), 100), (ends[1].clone(), 200)]);
    let sync = |at_s: u64, covers| EndedSync { at_ns: at_s * 1_000_000_000, covers };
    let judged = |policy, syncs: &[EndedSync]| judge(policy, &all, &ends, syncs).is_ok();
    assert!(judged("always", &[sync(11, 100), sync(15, 200)]));
    assert!(!judged("always", &[sync(11, 99), sync(15, 200)]));
    assert!(!judged("always", &[sync(11, 100), sync(16, 200)]));
    assert!(judged("everysec", &[sync(15, 100)]));
    assert!(!judged("everysec", &[sync(15, 99)]));
    assert!(!judged("everysec", &[sync(16, 100)]));
}
