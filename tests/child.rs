//! A rewrite's child tells how far it is and what it costs, and runs where and how it is told to.

mod common;

use common::process::is_alive;
use common::slow_disk::SlowDisk;
use common::{Launch, Server, eventually};

/// A server whose rewrites hang at their end, in the child's sync, and one that is hanging.
fn hanging_child(flags: &[(&str, &str)], keys: u32) -> (SlowDisk, tempfile::TempDir, Server, u32) {
    let folder = tempfile::tempdir().expect("folder");
    let disk = SlowDisk::build(folder.path());
    let mut launch = disk.under(Launch::new()).flag("appendfsync", "no");
    for (name, value) in flags {
        launch = launch.flag(name, value);
    }
    let server = launch.start();
    assert!(server.run(&format!("DEBUG POPULATE {keys}")).is_ok());
    disk.hang();
    assert!(!server.run("BGREWRITEAOF").is_error());
    let mut child = None;
    eventually("a child is there", || {
        child = server.rewrite_child();
        child.is_some()
    });
    (disk, folder, server, child.expect("a child"))
}

fn figure(server: &Server, field: &str) -> f64 {
    server.info(field).parse().expect("a number")
}

#[test]
fn it_tells_how_many_keys_are_done_and_what_was_copied() {
    const KEYS: u32 = 20_000;
    let (disk, _folder, server, child) = hanging_child(&[], KEYS);
    eventually("nearly all keys are done", || {
        figure(&server, "current_save_keys_processed") >= f64::from(KEYS - 1_024)
    });
    assert_eq!(figure(&server, "current_save_keys_total"), f64::from(KEYS));
    let percent = figure(&server, "current_fork_perc");
    assert!((90.0..=100.0).contains(&percent), "{percent}");
    assert!(figure(&server, "current_cow_size") > 0.0);
    assert!(figure(&server, "current_cow_peak") >= figure(&server, "current_cow_size"));
    assert!(figure(&server, "latest_fork_usec") > 0.0);
    assert!(is_alive(child));
    disk.go_on();
    server.wait_rewrite_end(&mut server.raw());
    assert!(figure(&server, "aof_last_cow_size") > 0.0);
    for field in ["current_save_keys_processed", "current_save_keys_total", "current_cow_size"] {
        assert_eq!(figure(&server, field), 0.0, "{field}");
    }
    assert_eq!(server.info("current_fork_perc"), "0.00");
}

#[test]
fn it_runs_where_and_behind_whom_it_is_told_to() {
    let allowed = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.expect("a list").trim().to_owned()
    };
    let nice = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        let behind_name = stat.rsplit(')').next().unwrap_or("").to_owned();
        behind_name.split_ascii_whitespace().nth(16).expect("a field").to_owned()
    };
    let own = allowed(std::process::id());
    let one = own.split([',', '-']).next().expect("a processor").to_owned();
    let flags = [("aof_rewrite_cpulist", one.as_str()), ("aof-rewrite-nice", "7")];
    let (disk, _folder, server, child) = hanging_child(&flags, 10);
    eventually("the child has settled in", || nice(child) == "7");
    assert_eq!(allowed(child), one);
    assert_eq!((allowed(server.pid()), nice(server.pid())), (own, nice(std::process::id())));
    disk.go_on();
    server.wait_rewrite_end(&mut server.raw());
    assert_eq!(server.info("aof_last_bgrewrite_status"), "ok");
}

#[test]
fn a_list_of_processors_that_is_none_is_refused() {
    let finished = Launch::new().flag("aof_rewrite_cpulist", "1-").run_to_exit();
    assert!(!finished.status.success());
    assert!(finished.stderr.contains("CPU list must look like"), "{}", finished.stderr);
}

#[test]
fn the_heap_gets_huge_pages_unless_told_otherwise() {
    for (value, expected) in [("no", "1"), ("yes", "0")] {
        let server = Server::start(&[("disable-thp", value)]);
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
        let status = status.expect("status");
        let enabled = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        assert_eq!(enabled.map(str::trim), Some(expected), "disable-thp {value}");
    }
}
