//! The system fails under the real binary: no room, errors of the disk, no fork, a clock that
//! jumps. Writers are told, readers served, and nothing acknowledged is lost.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::faulted::{
    A_MOMENT, ms_between, refuses_writes_and_serves_readers, survives_a_log_that_takes_no_more,
    takes_writes_again, times_of,
};
use common::faulty::Call;
use common::process::{is_alive, send_signal};
use common::{FaultySystem, Launch, Reply, Server, eventually, skip, skip_without};
use nix::errno::Errno;
use nix::sys::signal::Signal;

const POLICIES: [&str; 3] = ["always", "everysec", "no"];

#[test]
fn a_limit_of_the_length_of_files_is_survived() {
    let Some(tool) = skip_without("RLIMIT_FSIZE", "prlimit") else { return };
    for policy in POLICIES {
        let limit = |server: &Server, bytes: &str| {
            let pid = format!("--pid={}", server.pid());
            let limit = format!("--fsize={bytes}:unlimited");
            assert!(Command::new(&tool).args([pid, limit]).status().expect("runs").success());
        };
        let mut server = Server::start(&[("appendfsync", policy)]);
        survives_a_log_that_takes_no_more(
            &mut server,
            &["File too large"],
            |server| limit(server, &server.aof().len().to_string()),
            |server| limit(server, "unlimited"),
        );
    }
}

/// As on FAT, and some of those over a network or in user space.
#[test]
fn without_hard_links_files_from_before_rewrites_are_kept_all_the_same() {
    let folder = tempfile::tempdir().expect("a directory");
    let system = FaultySystem::build(folder.path());
    let launch = Launch::new().flag("aof-keep-before-rewrite", "1");
    let mut server = system.under(launch).start();
    system.fail(Call::Link, Errno::EPERM);
    let mut client = server.raw();
    let kept = |server: &Server| {
        let mut files = server.files();
        files.retain(|name| name.contains(".before-") || name.contains(".rewrite-"));
        files
    };
    let mut old = String::new();
    for at in 0..3 {
        assert!(client.run(&format!("SET key {at}")).is_ok());
        old = String::from_utf8(server.aof()).expect("text");
        server.rewrite();
        eventually("one is kept, the old file", || {
            let files = kept(&server);
            let holds = |name| {
                fs::read_to_string(server.path(name)).is_ok_and(|text| text.starts_with(&old))
            };
            files.len() == 1 && files[0].contains(".before-") && holds(&files[0])
        });
    }
    // Where names cannot be exchanged either, the rewrite fails, and the log says what to do.
    system.fail(Call::Exchange, Errno::EINVAL);
    assert!(!client.run("BGREWRITEAOF").is_error());
    server.wait_log("nor exchanges of names; set aof-keep-before-rewrite to 0. The old file stays");
    server.wait_rewrite_end(&mut client);
    assert_eq!(server.info("aof_last_bgrewrite_status"), "err");
    assert!(client.run("SET key last").is_ok());
    server.kill9();
    server.restart();
    assert_eq!(server.run("GET key"), Reply::Bulk(b"last".to_vec()));
    assert!(!old.is_empty() && kept(&server).len() == 1, "{:?}", kept(&server));
    assert!(server.run("CONFIG SET aof-keep-before-rewrite 0").is_ok());
    server.rewrite();
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
    for policy in POLICIES {
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
        survives_a_log_that_takes_no_more(&mut server, &["No space left on device"], fill, free);
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
    refuses_writes_and_serves_readers(&server, &["Input/output error"]);
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

/// Errors after which the same file takes writes again: whole groups are repeated.
#[test]
fn a_quota_and_other_limits_of_a_sound_file_are_survived() {
    let cases = [
        (Errno::EDQUOT, "Disk quota exceeded"),
        (Errno::ENOSPC, "No space left on device"),
        (Errno::EROFS, "Read-only file system"),
    ];
    for (policy, (errno, error)) in
        POLICIES.into_iter().flat_map(|policy| cases.map(|case| (policy, case)))
    {
        let (_folder, system, mut server) = faulty(&[("appendfsync", policy)]);
        survives_a_log_that_takes_no_more(
            &mut server,
            &[error],
            |_| system.fail(Call::Write, errno),
            |_| system.mend(Call::Write),
        );
    }
}

/// The disk fills up in the middle of a group. What reached the file is cut off or, where that
/// fails too, written over; a kill in between leaves at most a tail that promised nothing.
#[test]
fn a_group_that_fits_only_in_part_is_no_part_of_the_log() {
    for (policy, truncates) in POLICIES.into_iter().flat_map(|p| [(p, true), (p, false)]) {
        let (_folder, system, mut server) = faulty(&[("appendfsync", policy)]);
        let tear = |server: &Server| {
            system.shorten_writes(5_000);
            system.fail(Call::Write, Errno::ENOSPC);
            if !truncates {
                system.fail(Call::Truncate, Errno::EIO);
            }
            assert_eq!(server.run("GET later"), Reply::NullBulk);
        };
        let mend = |_: &Server| {
            system.mend_short_writes();
            system.mend(Call::Write);
            if !truncates {
                system.mend(Call::Truncate);
            }
        };
        let before = server.aof().len();
        survives_a_log_that_takes_no_more(&mut server, &["No space left on device"], tear, mend);

        // Killed while it is in that state.
        let whole = server.aof().len();
        assert!(whole > before);
        tear_and_kill(&mut server, &system, truncates);
        assert_eq!(server.aof().len() > whole, !truncates, "{policy}: what a failed write left");
        mend(&server);
        server.restart();
        assert_eq!(server.run("STRLEN b"), Reply::Int(100_000), "{policy}");
        assert_eq!(server.run("EXISTS a later torn"), Reply::Int(2), "{policy}");
    }
}

fn tear_and_kill(server: &mut Server, system: &FaultySystem, truncates: bool) {
    system.shorten_writes(5_000);
    system.fail(Call::Write, Errno::ENOSPC);
    if !truncates {
        system.fail(Call::Truncate, Errno::EIO);
    }
    let failed = system.failed(Call::Write);
    let value = vec![b'y'; 100_000];
    let mut client = server.raw();
    client.send(&common::raw::encode(&[b"SET".as_slice(), b"torn", &value]));
    eventually("the write has failed", || system.failed(Call::Write) > failed);
    assert!(client.is_silent_for(A_MOMENT), "acknowledged though it stands nowhere");
    server.kill9();
}

#[test]
fn short_writes_are_continued() {
    for policy in POLICIES {
        let (_folder, system, mut server) = faulty(&[("appendfsync", policy)]);
        system.shorten_writes(7);
        let mut client = server.raw();
        for at in 0..100 {
            assert!(client.run(&format!("SET key:{at} some-value-of-some-length:{at}")).is_ok());
        }
        server.rewrite();
        assert!(client.run("SET behind it").is_ok());
        assert_eq!(server.info("aof_fault"), "");
        let digest = client.run("DEBUG DIGEST");
        server.kill9();
        server.restart();
        assert_eq!(server.run("DEBUG DIGEST"), digest);
    }
}

/// Breaks the file for good, so that the log needs a fresh one, with `call` in the way of that.
/// The tries are few and ever rarer; once the way is free one of them succeeds.
fn heal_is_blocked(policy: &str, call: Call, errno: Errno) {
    let (_folder, system, mut server) = faulty(&[("appendfsync", policy)]);
    let mut client = server.raw();
    assert!(client.run("SET a 1").is_ok());
    system.fail(call, errno);
    if call != Call::Sync {
        system.fail_sync();
    }
    let mut writer = server.raw();
    writer.send(b"SET b 2\r\n");
    eventually("the disk fails", || !system.fault_is_pending() && system.failed(call) > 0);
    refuses_writes_and_serves_readers(&server, &["Input/output error"]);
    if policy == "always" {
        assert!(writer.is_silent_for(A_MOMENT), "acknowledged though nothing holds it");
    }
    let failures = || times_of(&server, "Background AOF rewrite failed");
    eventually("three tries have failed", || failures().len() >= 3);
    let failures = failures();
    refuses_writes_and_serves_readers(&server, &["Input/output error"]);
    // One second behind the first, two behind the second. The line may come later than the failure
    // by what a busy machine takes.
    assert!(ms_between(failures[0], failures[1]) >= 500, "{failures:?}");
    assert!(ms_between(failures[1], failures[2]) >= 1_500, "{failures:?}");
    assert!(server.log_text().lines().count() < 60, "a flood: {}", server.log_text());
    system.mend(call);
    assert!(writer.reply().is_ok());
    takes_writes_again(&server, &mut client);
    server.wait_log("the log is whole again");
    server.kill9();
    server.restart();
    assert_eq!(server.run("EXISTS a b later refused"), Reply::Int(3), "{policy} {call:?}");
    let files = server.files();
    assert_eq!(files, ["appendonly.aof", "appendonly.aof.lock"], "{policy} {call:?}");
}

/// Side by side, for most of their time is spent waiting for the next try.
fn heal_is_blocked_by(calls: &[(Call, Errno)]) {
    std::thread::scope(|scope| {
        for (policy, (call, errno)) in
            ["always", "everysec"].into_iter().flat_map(|p| calls.iter().map(move |c| (p, *c)))
        {
            scope.spawn(move || heal_is_blocked(policy, call, errno));
        }
    });
}

#[test]
fn heals_whose_file_cannot_be_made_are_tried_ever_more_rarely() {
    heal_is_blocked_by(&[(Call::Create, Errno::EROFS), (Call::ChildWrite, Errno::ENOSPC)]);
}

#[test]
fn heals_whose_forks_fail_are_tried_ever_more_rarely() {
    heal_is_blocked_by(&[(Call::Fork, Errno::EAGAIN), (Call::Fork, Errno::ENOMEM)]);
}

#[test]
fn heals_whose_file_gets_no_name_are_tried_ever_more_rarely() {
    heal_is_blocked_by(&[(Call::Rename, Errno::EPERM), (Call::DirectorySync, Errno::EIO)]);
}

#[test]
fn heals_on_a_disk_that_syncs_no_more_are_tried_ever_more_rarely() {
    heal_is_blocked_by(&[(Call::Sync, Errno::EIO)]);
}

/// What comes of children of a heal does not end it.
#[test]
fn heals_whose_children_end_badly_are_tried_again() {
    for signal in [Some(Signal::SIGKILL), Some(Signal::SIGSEGV), None] {
        let (_folder, system, mut server) =
            faulty(&[("appendfsync", "always"), ("aof-rewrite-timeout", "1")]);
        let mut client = server.raw();
        assert!(client.run("SET a 1").is_ok());
        system.hang_children(true);
        system.fail_sync();
        let mut writer = server.raw();
        writer.send(b"SET b 2\r\n");
        let child = catch_child(&server);
        refuses_writes_and_serves_readers(&server, &["Input/output error"]);
        let told = match signal {
            Some(signal) => {
                end_by(signal, child);
                format!("terminated by signal {}", signal as i32)
            }
            // It hangs, and is killed by the server.
            None => "has written nothing for 1 s and is killed".to_owned(),
        };
        server.wait_log(&format!("Background AOF rewrite failed: {}", told_start(&told, child)));
        common::process::wait_gone(child, common::PATIENCE);
        assert!(writer.is_silent_for(A_MOMENT), "acknowledged though nothing holds it");
        system.hang_children(false);
        assert!(writer.reply().is_ok());
        takes_writes_again(&server, &mut client);
        server.kill9();
        server.restart();
        assert_eq!(server.run("EXISTS a b later refused"), Reply::Int(3), "{signal:?}");
    }
}

fn told_start(told: &str, child: u32) -> String {
    if told.starts_with("has ") { format!("the child {child} {told}") } else { told.to_owned() }
}

/// Ends a child by a signal. Of those that tell of a fault in memory the first one only takes away
/// the handler of Rust's runtime, which expects the fault to come again.
fn end_by(signal: Signal, child: u32) {
    eventually("the child ends", || {
        send_signal(child, signal);
        !is_alive(child)
    });
}

fn catch_child(server: &Server) -> u32 {
    let mut child = None;
    eventually("a child", || {
        child = server.rewrite_child();
        child.is_some()
    });
    child.expect("caught")
}

/// Rewrites of a sound file whose children end badly change nothing, and are not begun again and
/// again.
#[test]
fn rewrites_whose_children_end_badly_are_told_and_not_tried_in_a_loop() {
    for how in ["SIGSEGV", "SIGKILL", "no room"] {
        let (_folder, system, mut server) =
            faulty(&[("auto-aof-rewrite-min-size", "1kb"), ("auto-aof-rewrite-percentage", "1")]);
        if how == "no room" {
            system.fail(Call::ChildWrite, Errno::ENOSPC);
        } else {
            system.hang_children(true);
        }
        let mut client = server.raw();
        let value = "v".repeat(2_000);
        assert!(client.run(&format!("SET a {value}")).is_ok());
        let told = match how {
            "no room" => "failed with exit code 1",
            "SIGSEGV" => "terminated by signal 11",
            _ => "terminated by signal 9",
        };
        if how != "no room" {
            let signal = if how == "SIGSEGV" { Signal::SIGSEGV } else { Signal::SIGKILL };
            end_by(signal, catch_child(&server));
        }
        server.wait_log(&format!("Background AOF rewrite failed: {told}. The old file stays"));
        for_some_of_crons_rounds(&server, || {
            assert!(client.run(&format!("SET a {value}")).is_ok());
        });
        assert_eq!(server.info("aof_rewrites"), "1", "the next try waits ten seconds");
        assert_eq!(server.info("aof_last_bgrewrite_status"), "err");
        assert_eq!(server.info("aof_fault"), "", "the old file serves on");
        eventually("nothing of it is left", || server.temporary_files().is_empty());
        if how == "no room" {
            system.mend(Call::ChildWrite);
        } else {
            system.hang_children(false);
        }
        server.rewrite();
        server.kill9();
        server.restart();
        assert_eq!(server.run("STRLEN a"), Reply::Int(2_000));
    }
}

/// Does `work` while two seconds pass for the server.
fn for_some_of_crons_rounds(server: &Server, mut work: impl FnMut()) {
    let uptime = || -> u64 { server.info("uptime_in_seconds").parse().expect("a number") };
    let then = uptime();
    eventually("many of cron's rounds have passed", || {
        work();
        uptime() >= then + 3
    });
}

#[test]
fn forks_that_fail_are_told_and_not_tried_in_a_loop() {
    let errors = [
        (Errno::EAGAIN, "Resource temporarily unavailable"),
        (Errno::ENOMEM, "Cannot allocate memory"),
    ];
    for (errno, told) in errors {
        let (_folder, system, mut server) =
            faulty(&[("auto-aof-rewrite-min-size", "1kb"), ("auto-aof-rewrite-percentage", "1")]);
        system.fail(Call::Fork, errno);
        let mut client = server.raw();
        let value = "v".repeat(2_000);
        assert!(client.run(&format!("SET a {value}")).is_ok());
        server.wait_log(&format!("Can't rewrite append only file in background: fork: {told}"));
        for_some_of_crons_rounds(&server, || {
            assert!(client.run(&format!("SET a {value}")).is_ok());
        });
        assert_eq!(system.failed_forks(), 1, "the next try waits ten seconds");
        assert_eq!(server.info("aof_last_bgrewrite_status"), "err");
        assert_eq!(server.info("aof_fault"), "", "the old file serves on");
        // Asked for, it is tried at once.
        client.run("BGREWRITEAOF");
        eventually("a second try", || system.failed_forks() == 2);
        eventually("nothing of it is left", || server.temporary_files().is_empty());
        system.mend(Call::Fork);
        server.rewrite();
        server.kill9();
        server.restart();
        assert_eq!(server.run("STRLEN a"), Reply::Int(2_000));
    }
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
