//! What takes long is found in LATENCY, each kind under its name.

mod common;

use common::faulty::Call;
use common::raw::encode_into;
use common::slow_disk::SlowDisk;
use common::{FaultySystem, Launch, Server, eventually};
use std::time::Duration;

fn events(server: &Server) -> Vec<String> {
    let reply = server.run("LATENCY LATEST");
    reply.items().iter().map(|event| event.items()[0].text()).collect()
}

#[test]
fn a_slow_command_is_noted_once_it_is_asked_for() {
    let server = Server::start(&[]);
    assert!(server.run("DEBUG SLEEP 0.03").is_ok());
    assert_eq!(events(&server), [""; 0], "nobody asked");
    assert!(server.run("CONFIG SET latency-monitor-threshold 20").is_ok());
    assert!(server.run("DEBUG SLEEP 0.03").is_ok());
    // The turn in which the command ran was as long.
    let seen = events(&server);
    assert!(seen.contains(&"command".to_owned()), "{seen:?}");
    assert!(seen.contains(&"event-loop".to_owned()), "{seen:?}");
    let reply = server.run("LATENCY HISTORY command");
    assert!(reply.items().iter().any(|spike| spike.items()[1].int() >= 30), "{reply:?}");
    assert!(server.info("eventloop_duration_max").parse::<u64>().expect("a number") >= 30_000);
    assert!(server.run("CONFIG SET latency-monitor-threshold 0").is_ok());
    assert!(server.run("LATENCY RESET").int() >= seen.len() as i64);
    assert_eq!(events(&server), [""; 0]);
}

#[test]
fn a_slow_command_is_told_from_the_quick_ones_of_its_pipeline() {
    // So slow that no other takes as long, however busy the machine is.
    const SLOW_US: i64 = 1_000_000;
    let server = Server::start(&[("slowlog-log-slower-than", "900000")]);
    let mut client = server.raw();
    let mut pipeline = Vec::new();
    let quick = |pipeline: &mut Vec<u8>| {
        (0..20).for_each(|_| encode_into(pipeline, &["GET", "key"]));
    };
    quick(&mut pipeline);
    encode_into(&mut pipeline, &["DEBUG", "SLEEP", "1"]);
    quick(&mut pipeline);
    encode_into(&mut pipeline, &["SLOWLOG", "GET"]);
    encode_into(&mut pipeline, &["LATENCY", "HISTOGRAM", "get"]);
    client.send(&pipeline);
    for at in 0..41 {
        assert_eq!(client.reply().is_null(), at != 20, "reply {at}");
    }
    let slow = client.reply();
    let [entry] = slow.items() else { panic!("one slow command: {slow:?}") };
    assert!((SLOW_US..20 * SLOW_US).contains(&entry.items()[2].int()), "{slow:?}");
    assert_eq!(entry.items()[3].items()[0].text(), "DEBUG");
    let histogram = client.reply();
    assert_eq!(histogram.items()[1].items()[1].int(), 40, "{histogram:?}");
    let figures = server.info("cmdstat_get");
    let usec = figures.strip_prefix("calls=40,usec=").and_then(|rest| rest.split(',').next());
    assert!(usec.is_some_and(|usec| usec.parse::<i64>().is_ok_and(|us| us < SLOW_US)), "{figures}");
}

#[test]
fn a_slow_sync_is_noted_under_always() {
    let folder = tempfile::tempdir().expect("folder");
    let disk = SlowDisk::build(folder.path());
    let launch = Launch::new().flag("appendfsync", "always");
    let server = disk.under(launch).flag("latency-monitor-threshold", "50").start();
    disk.hang();
    let mut writer = server.raw();
    writer.send(b"SET k v\r\n");
    eventually("the sync hangs", || server.info("aof_pending_bio_fsync") == "1");
    // However long it hangs from here on is part of its time.
    std::thread::sleep(Duration::from_millis(60));
    disk.go_on();
    assert!(writer.reply().is_ok());
    assert!(events(&server).contains(&"aof-fsync-always".to_owned()));
}

/// Each step of a rewrite on the loop that waits for the system has a name of its own, and none of
/// them counts into the longest turn but the rename's, which the loop does not wait for.
#[test]
fn the_steps_of_a_rewrite_that_wait_for_the_system_are_told_apart() {
    // Longer than the processor is taken away from a turn.
    const SLOW: Duration = Duration::from_millis(250);
    let folder = tempfile::tempdir().expect("folder");
    let system = FaultySystem::build(folder.path());
    let launch = Launch::new().flag("latency-monitor-threshold", "1");
    let server = system.under(launch).flag("auto-aof-rewrite-percentage", "0").start();
    for call in [Call::Write, Call::Rename, Call::Fork] {
        system.slow_down(call, SLOW);
    }
    let mut client = server.raw();
    assert!(client.run("SET before 1").is_ok());
    system.hang_children(true);
    assert!(!client.run("BGREWRITEAOF").is_error());
    // So little that the loop brings it over itself.
    assert!(client.run("SET meanwhile 1").is_ok());
    system.hang_children(false);
    server.wait_rewrite_end(&mut client);
    assert_eq!(server.info("aof_last_bgrewrite_status"), "ok", "{}", server.log_text());
    let latest = client.run("LATENCY LATEST");
    let worst = |event: &str| {
        let found = latest.items().iter().find(|item| item.items()[0].text() == event);
        found.map_or(0, |item| item.items()[3].int())
    };
    let slow_ms = SLOW.as_millis() as i64;
    for event in ["fork", "aof-write", "aof-rename", "aof-rewrite-diff-write"] {
        assert!(worst(event) >= slow_ms, "{event}: {latest:?}");
    }
    for figure in ["latest_fork_usec", "aof_last_rewrite_time_sec"] {
        assert!(!server.info(figure).is_empty(), "{figure}");
    }
    assert!(server.info("latest_fork_usec").parse::<i64>().expect("a number") >= slow_ms * 1_000);
    let turn_us: i64 = server.info("eventloop_duration_max").parse().expect("a number");
    assert!(
        turn_us < slow_ms * 1_000,
        "told apart, not as part of a turn: {turn_us} us, {latest:?}"
    );
}
