//! The system fails under the real binary: no room, errors of the disk, no fork, a clock that
//! jumps. Writers are told, readers served, and nothing acknowledged is lost.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::raw::encode;
use common::{FaultySystem, Launch, Raw, Reply, Server, eventually, skip, skip_without};

/// Long enough for a reply that nothing holds back.
const A_MOMENT: Duration = Duration::from_millis(300);

fn pong() -> Reply {
    Reply::Simple(b"PONG".to_vec())
}

/// Writers are told by Redis's words, readers and PING served on other connections, INFO says it.
fn is_faulted_and_serves_readers(server: &Server, error: &str) {
    eventually("the fault shows in INFO", || server.info("aof_last_write_status") == "err");
    assert_eq!(server.info("aof_fault"), error);
    let mut other = server.raw();
    let refused = format!("MISCONF Errors writing to the AOF file: {error}");
    assert_eq!(other.run("SET refused 1").error(), refused);
    assert_eq!(other.run("GET a"), Reply::Bulk(b"1".to_vec()));
    assert_eq!(other.run("PING"), pong());
}

fn takes_writes_again(server: &Server, client: &mut Raw) {
    eventually("writes are taken again", || client.run("SET later 1").is_ok());
    assert_eq!(server.info("aof_fault"), "");
    assert_eq!(server.info("aof_last_write_status"), "ok");
}

fn no_room(server: &mut Server, error: &str, take: impl Fn(&Server), give: impl Fn(&Server)) {
    let mut client = server.raw();
    assert!(client.run("SET a 1").is_ok());
    take(server);
    // More than what a last page may have left.
    let value = vec![b'x'; 100_000];
    let mut withheld = server.raw();
    withheld.send(&encode(&[b"SET".as_slice(), b"b", &value]));
    is_faulted_and_serves_readers(server, error);
    assert!(withheld.is_silent_for(A_MOMENT), "acknowledged though it stands nowhere");
    give(server);
    assert!(withheld.reply().is_ok());
    takes_writes_again(server, &mut client);
    server.kill9();
    server.restart();
    assert_eq!(server.run("STRLEN b"), Reply::Int(100_000));
    assert_eq!(server.run("EXISTS a later refused"), Reply::Int(2));
}

#[test]
fn a_limit_of_the_length_of_files_is_survived() {
    let Some(tool) = skip_without("RLIMIT_FSIZE", "prlimit") else { return };
    for policy in ["always", "everysec"] {
        let limit = |server: &Server, bytes: &str| {
            let pid = format!("--pid={}", server.pid());
            let limit = format!("--fsize={bytes}:unlimited");
            assert!(Command::new(&tool).args([pid, limit]).status().expect("runs").success());
        };
        let mut server = Server::start(&[("appendfsync", policy)]);
        no_room(
            &mut server,
            "File too large",
            |server| limit(server, &server.aof().len().to_string()),
            |server| limit(server, "unlimited"),
        );
    }
}

/// A file system of one MiB, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Option<SmallDisk> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| SmallDisk(folder.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is left mounted", self.0.display());
        }
    }
}

#[test]
fn a_full_disk_is_survived() {
    for policy in ["always", "everysec"] {
        let folder = tempfile::tempdir().expect("a directory");
        let Some(_disk) = SmallDisk::mount(folder.path()) else {
            return skip("a full disk", "a tmpfs cannot be mounted; that needs root");
        };
        let dir = folder.path().to_str().expect("plain text");
        let mut server = Launch::new().flag("dir", dir).flag("appendfsync", policy).start();
        let filler = folder.path().join("filler");
        let fill = |_: &Server| {
            let mut file = fs::File::create(&filler).expect("create");
            while file.write(&[0; 4096]).is_ok_and(|taken| taken > 0) {}
        };
        let free = |_: &Server| fs::remove_file(&filler).expect("remove");
        no_room(&mut server, "No space left on device", fill, free);
    }
}

fn faulty(flags: &[(&str, &str)]) -> (tempfile::TempDir, FaultySystem, Server) {
    let folder = tempfile::tempdir().expect("a directory");
    let system = FaultySystem::build(folder.path());
    let launch = flags.iter().fold(Launch::new(), |launch, (name, value)| launch.flag(name, value));
    let server = system.under(launch).start();
    (folder, system, server)
}

/// The disk fails once. The file is never trusted again, though it would work: acknowledged is
/// only what a new one holds, and while there can be none nothing is.
fn one_error(policy: &str, fail: impl Fn(&FaultySystem)) {
    let (_folder, system, mut server) = faulty(&[("appendfsync", policy)]);
    let mut client = server.raw();
    assert!(client.run("SET a 1").is_ok());
    eventually("all is durable", || {
        server.info("aof_offset_durable") == server.info("aof_offset_appended")
    });
    let inode = fs::metadata(server.path("appendonly.aof")).expect("there").ino();
    system.fail_forks(true); // So that the state in between stays to be looked at.
    fail(&system);
    let mut writer = server.raw();
    writer.send(b"SET b 2\r\n");
    eventually("the disk fails", || !system.fault_is_pending());
    is_faulted_and_serves_readers(&server, "Input/output error");
    if policy == "always" {
        assert!(writer.is_silent_for(A_MOMENT), "acknowledged though nothing holds it");
    }
    let durable = server.info("aof_offset_durable");
    assert!(durable < server.info("aof_offset_appended"), "a second sync proves nothing");
    system.fail_forks(false);
    assert!(writer.reply().is_ok());
    takes_writes_again(&server, &mut client);
    assert_ne!(fs::metadata(server.path("appendonly.aof")).expect("there").ino(), inode);
    server.wait_log("The file is not trusted any more");
    server.wait_log("the log is whole again");
    server.kill9();
    server.restart();
    assert_eq!(server.run("EXISTS a b later refused"), Reply::Int(3));
}

#[test]
fn a_sync_that_fails_once_costs_the_file_and_no_write() {
    one_error("always", FaultySystem::fail_sync);
    one_error("everysec", FaultySystem::fail_sync);
}

#[test]
fn a_write_that_fails_once_costs_the_file_and_no_write() {
    one_error("always", FaultySystem::fail_write);
    one_error("everysec", FaultySystem::fail_write);
}

#[test]
fn forks_that_fail_are_told_and_not_tried_in_a_loop() {
    let (_folder, system, mut server) =
        faulty(&[("auto-aof-rewrite-min-size", "1kb"), ("auto-aof-rewrite-percentage", "1")]);
    system.fail_forks(true);
    let mut client = server.raw();
    let value = "v".repeat(2_000);
    assert!(client.run(&format!("SET a {value}")).is_ok());
    server.wait_log("Can't rewrite append only file in background: fork: Resource temporarily");
    let uptime =
        |server: &Server| -> u64 { server.info("uptime_in_seconds").parse().expect("a number") };
    let then = uptime(&server);
    eventually("many of cron's rounds have passed", || {
        assert!(client.run(&format!("SET a {value}")).is_ok());
        uptime(&server) >= then + 3
    });
    assert_eq!(system.failed_forks(), 1, "the next try waits ten seconds");
    assert_eq!(server.info("aof_last_bgrewrite_status"), "err");
    assert_eq!(server.info("aof_fault"), "", "the old file serves on");
    system.fail_forks(false);
    server.rewrite();
    server.kill9();
    server.restart();
    assert_eq!(server.run("STRLEN a"), Reply::Int(2_000));
}

/// Deadlines follow the wall clock wherever it jumps; what the log promises goes by a clock that
/// does not.
#[test]
fn jumps_of_the_clock_by_an_hour_disturb_nothing() {
    for policy in ["always", "everysec"] {
        let (_folder, system, mut server) = faulty(&[("appendfsync", policy)]);
        let mut client = server.raw();
        for (round, off_s) in [0, 3_600, 0, -3_600, 0].into_iter().enumerate() {
            system.set_clock(off_s);
            assert!(client.run(&format!("SET round:{round} 1")).is_ok());
            let appended = |server: &Server| -> u64 {
                server.info("aof_offset_appended").parse().expect("a number")
            };
            let end = appended(&server);
            eventually("the sync comes in its time", || {
                let durable = server.info("aof_offset_durable");
                durable.parse::<u64>().expect("a number") >= end
            });
            assert_eq!(server.info("aof_delayed_fsync"), "0");
        }
        assert!(client.run("SET brief 1 EX 1800").is_ok());
        system.set_clock(-3_600);
        let ttl = client.run("TTL brief").int();
        assert!((5_390..=5_400).contains(&ttl), "{ttl}");
        system.set_clock(3_600);
        assert_eq!(client.run("EXISTS brief"), Reply::Int(0));
        let text = String::from_utf8(server.aof()).expect("plain text");
        let seals = text.lines().filter_map(|line| line.strip_prefix("#S1:"));
        let times: Vec<u64> = seals
            .map(|seal| seal.split(':').nth(3).and_then(|ms| ms.parse().ok()).expect("a time"))
            .collect();
        assert!(times.len() > 5 && times.is_sorted(), "{times:?}");
        server.kill9();
        system.set_clock(0);
        server.restart();
        assert_eq!(server.run("DBSIZE"), Reply::Int(5));
    }
}
