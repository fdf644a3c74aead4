//! What takes long is found in LATENCY, each kind under its name.

mod common;

use common::slow_disk::SlowDisk;
use common::{Launch, Server, eventually};
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
