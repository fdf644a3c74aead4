//! The log on a real file system that somebody makes unwritable: files and directories that may not
//! be changed, a file system that went read-only.
//!
//! Everything happens on a disk of the test's own, mounted where no other process sees it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::faulted::{
    A_MOMENT, refuses_writes_and_serves_readers, survives_a_log_that_takes_no_more,
    takes_writes_again,
};
use common::power::PoweredDisk;
use common::{FaultySystem, Launch, Reply, eventually, skip, skip_without};

const POLICIES: [&str; 3] = ["always", "everysec", "no"];
const LOG: &str = "appendonly.aof";
const DISK_BYTES: u64 = 32 << 20;
const NOT_PERMITTED: &str = "Operation not permitted";

/// An ext4 disk, and the mounts of this thread its own; `None` after saying why `what` is skipped.
fn disk(what: &str) -> Option<PoweredDisk> {
    skip_without(what, "mkfs.ext4")?;
    skip_without(what, "chattr")?;
    let disk = PoweredDisk::isolate_mounts().and_then(|()| PoweredDisk::create("ext4", DISK_BYTES));
    disk.inspect_err(|reason| skip(what, reason)).ok()
}

fn launch(disk: &PoweredDisk, policy: &str) -> Launch {
    let dir = disk.path();
    Launch::new().flag("dir", dir.to_str().expect("plain text")).flag("appendfsync", policy)
}

#[track_caller]
fn run(program: &str, arguments: &[&str], path: &Path) {
    let status = Command::new(program).args(arguments).arg(path).status().expect("runs");
    assert!(status.success(), "{program} {arguments:?} {}", path.display());
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("list the disk");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "lost+found");
    names.sort();
    names
}

/// `chattr +i appendonly.aof`: the open file takes nothing more.
#[test]
fn an_immutable_log_is_survived() {
    let Some(disk) = disk("an immutable log") else { return };
    let log = disk.path().join(LOG);
    for policy in POLICIES {
        let mut server = launch(&disk, policy).start();
        survives_a_log_that_takes_no_more(
            &mut server,
            &[NOT_PERMITTED],
            |_| run("chattr", &["+i"], &log),
            |_| run("chattr", &["-i"], &log),
        );
        assert!(server.stop().success());
        fs::remove_file(&log).expect("remove the log");
    }
}

/// What may not be renamed over, created or removed stands in the way of a fresh file, not of
/// appending to a sound one.
fn a_fresh_file_is_blocked(what: &str, flag: char, target: &str, told: &str) {
    let Some(disk) = disk(what) else { return };
    let tools = tempfile::tempdir().expect("a directory");
    let system = FaultySystem::build(tools.path());
    let target = disk.path().join(target);
    let set = |sign: char| run("chattr", &[&format!("{sign}{flag}")], &target);
    let mut server = system.under(launch(&disk, "always")).start();
    let mut client = server.raw();
    assert!(client.run("SET a 1").is_ok());
    set('+');
    assert!(client.run("SET b 2").is_ok(), "appending needs neither");
    client.run("BGREWRITEAOF");
    server.wait_log(told);
    server.wait_rewrite_end(&mut client);
    assert_eq!(server.info("aof_last_bgrewrite_status"), "err");
    assert_eq!(server.info("aof_fault"), "", "the old file serves on");
    assert!(client.run("SET c 3").is_ok());
    eventually("what got no name, and cannot be removed either, takes no room", || {
        let names = names_in(&disk.path()).into_iter().filter(|name| name.contains("rewrite"));
        let mut lengths = names.map(|name| fs::metadata(disk.path().join(name)));
        lengths.all(|file| file.map_or(true, |file| file.len() == 0))
    });

    system.fail_sync();
    let mut writer = server.raw();
    writer.send(b"SET d 4\r\n");
    eventually("the disk fails", || !system.fault_is_pending());
    refuses_writes_and_serves_readers(&server, &["Input/output error"]);
    let from = server.log_text().len();
    server.wait_log_from(from, told);
    assert!(writer.is_silent_for(A_MOMENT), "acknowledged though nothing holds it");
    set('-');
    assert!(writer.reply().is_ok());
    takes_writes_again(&server, &mut client);
    server.kill9();
    server.restart();
    assert_eq!(server.run("EXISTS a b c d later refused"), Reply::Int(5), "{what}");
    assert_eq!(names_in(&disk.path()), [LOG, "appendonly.aof.lock"], "{what}");
}

#[test]
fn an_append_only_log_is_survived() {
    a_fresh_file_is_blocked("chattr +a on the log", 'a', LOG, "rename: Operation not permitted");
}

#[test]
fn an_immutable_directory_is_survived() {
    let told = "creating the file: Operation not permitted";
    a_fresh_file_is_blocked("chattr +i on the directory", 'i', "", told);
}

#[test]
fn an_append_only_directory_is_survived() {
    let told = "rename: Operation not permitted";
    a_fresh_file_is_blocked("chattr +a on the directory", 'a', "", told);
}

/// Where nothing can be removed, what a dead rewrite left does not keep a server from starting.
#[test]
fn a_stale_temporary_file_that_cannot_be_removed_is_told() {
    let Some(disk) = disk("a stale temporary file that stays") else { return };
    let stale = "appendonly.aof.rewrite-1-1";
    let mut server = launch(&disk, "always").start();
    assert!(server.run("SET a 1").is_ok());
    server.kill9();
    fs::write(disk.path().join(stale), "half a file").expect("write");
    run("chattr", &["+a"], &disk.path());
    server.restart();
    server.wait_log(&format!("{stale} cannot be removed: {NOT_PERMITTED}"));
    assert!(server.run("SET b 2").is_ok());
    run("chattr", &["-a"], &disk.path());
    server.kill9();
    server.restart();
    assert_eq!(server.run("EXISTS a b"), Reply::Int(2));
    assert!(!disk.path().join(stale).exists());
}

/// A mounted file system, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn fresh_over(folder: &Path) -> Mounted {
        run("mount", &["-t", "tmpfs", "-o", "size=8m,ro", "tmpfs"], folder);
        Mounted(folder.to_owned())
    }

    fn make_writable(&self) {
        run("mount", &["-o", "remount,rw"], &self.0);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is left mounted", self.0.display());
        }
    }
}

/// An error in its metadata makes ext4 read-only for good, with the log open. Service goes on when
/// another disk is mounted in its place and can be written to, with nothing restarted.
#[test]
fn a_file_system_that_went_read_only_is_survived() {
    for policy in POLICIES {
        let Some(disk) = disk("a file system that goes read-only") else { return };
        let name = disk.device().file_name().expect("a device").to_string_lossy().into_owned();
        let trigger = PathBuf::from(format!("/sys/fs/ext4/{name}/trigger_fs_error"));
        if !trigger.exists() {
            return skip("a file system that goes read-only", "its errors cannot be triggered");
        }
        run("mount", &["-o", "remount,errors=remount-ro"], &disk.path());
        let mut server = launch(&disk, policy).start();
        let mut client = server.raw();
        assert!(client.run("SET a 1").is_ok());
        fs::write(&trigger, "a test").expect("trigger");
        let mut withheld = server.raw();
        withheld.send(b"SET b 2\r\n");
        // The sync of what was written before fails by another error than a write.
        let errors = ["Read-only file system", "Input/output error"];
        refuses_writes_and_serves_readers(&server, &errors);
        assert!(withheld.is_silent_for(A_MOMENT), "acknowledged though it stands nowhere");

        let other = Mounted::fresh_over(&disk.path());
        let other_errors = [errors[0], errors[1], "the file has been removed"];
        refuses_writes_and_serves_readers(&server, &other_errors);
        server.wait_log("lock the append-only file");
        server.wait_log("Read-only file system");
        other.make_writable();
        assert!(withheld.reply().is_ok());
        takes_writes_again(&server, &mut client);
        server.kill9();
        server.restart();
        assert_eq!(server.run("EXISTS a b later refused"), Reply::Int(3), "{policy}");
        assert_eq!(names_in(&disk.path()), [LOG, "appendonly.aof.lock"], "{policy}");
    }
}
