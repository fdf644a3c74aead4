//! `--import` as an operator meets it: what the binary says, what it refuses, and that a start never
//! passes a log of Redis by. `compat.rs` imports what a real redis-server has written.

mod common;

use common::raw::{encode_into, words};
use common::{Launch, Reply, Server};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

fn records(lines: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        encode_into(&mut bytes, &words(line));
    }
    bytes
}

/// A data directory as a Redis 7 leaves it, with two keys.
fn redis_dir() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = dir.path().join("appendonlydir");
    fs::create_dir(&folder).expect("made");
    for (name, text) in [
        ("appendonly.aof.1.base.aof", records(&["SELECT 0", "SET a 1"])),
        ("appendonly.aof.1.incr.aof", records(&["SELECT 0", "SET b 2"])),
        (
            "appendonly.aof.manifest",
            b"file appendonly.aof.1.base.aof seq 1 type b\n\
              file appendonly.aof.1.incr.aof seq 1 type i\n"
                .to_vec(),
        ),
    ] {
        fs::write(folder.join(name), text).expect("written");
    }
    dir
}

fn folder(dir: &TempDir) -> PathBuf {
    dir.path().join("appendonlydir")
}

fn run(args: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_server_async");
    Command::new(binary).args(args).output().expect("the binary runs")
}

fn import(dir: &Path, path: &Path, flags: &[&str]) -> Output {
    let text = |path: &Path| path.to_str().expect("plain").to_owned();
    run(&[&["--dir", &text(dir), "--import", &text(path)], flags].concat())
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server that looks for its log in `dir`.
fn serving(dir: &TempDir) -> Launch {
    Launch::new().flag("dir", dir.path().to_str().expect("plain"))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("list it");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Whoever moves from Redis 7 starts this server where Redis ran. It must not begin an empty log
/// there without a word: the first rewrite of habit, or of a script, would bury the data.
#[test]
fn a_start_beside_a_redis_log_is_refused_and_its_advice_holds() {
    let dir = redis_dir();
    let finished = serving(&dir).run_to_exit();
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stdout.contains("names a log of Redis in 2 files"), "{}", finished.stdout);
    assert_eq!(names(dir.path()), ["appendonly.aof.lock", "appendonlydir"]);
    let (_, advice) = finished.stderr.split_once("run: server_async ").expect("a command");
    let args: Vec<&str> = advice.lines().next().expect("a line").split(' ').collect();
    let output = run(&args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("Imported 2 files into "), "{text}");
    assert!(text.contains("Commands: 2 (0 transactions)"), "{text}");
    let server = serving(&dir).start();
    assert_eq!(server.run("MGET a b").items().len(), 2);
    assert_eq!(server.run("DBSIZE"), Reply::Int(2));
}

#[test]
fn an_empty_log_can_be_begun_on_purpose() {
    let dir = redis_dir();
    fs::rename(folder(&dir), dir.path().join("old")).expect("moved away");
    assert_eq!(serving(&dir).start().run("DBSIZE"), Reply::Int(0));
    // With a log of its own the server starts, whatever stands beside it.
    fs::rename(dir.path().join("old"), folder(&dir)).expect("moved back");
    assert_eq!(serving(&dir).start().run("DBSIZE"), Reply::Int(0));
    // Another log's directory is not meant, nor is any where nothing is logged.
    let other = redis_dir();
    drop(serving(&other).flag("appendfilename", "other.aof").start());
    drop(serving(&other).flag("appendonly", "no").start());
    let renamed = folder(&other).with_file_name("elsewhere");
    fs::rename(folder(&other), &renamed).expect("renamed");
    let finished = serving(&other).flag("appenddirname", "elsewhere").run_to_exit();
    assert!(finished.stderr.contains("/elsewhere"), "{}", finished.stderr);
}

/// A manifest that nobody can read may still stand for data.
#[test]
fn a_start_beside_an_unreadable_manifest_is_refused() {
    let dir = redis_dir();
    fs::write(folder(&dir).join("appendonly.aof.manifest"), b"file").expect("written");
    let finished = serving(&dir).run_to_exit();
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stderr.contains("cannot be read"), "{}", finished.stderr);
    let why = refused(&import(dir.path(), &folder(&dir), &[]));
    assert!(why.contains("line 1: The AOF manifest file contains too long line"), "{why}");
}

#[test]
fn a_log_that_is_there_is_not_written_over() {
    let dir = redis_dir();
    let log = dir.path().join("appendonly.aof");
    fs::write(&log, b"mine").expect("written");
    let why = refused(&import(dir.path(), &folder(&dir), &[]));
    assert!(why.contains("exists already and is not written over"), "{why}");
    assert_eq!(fs::read(&log).expect("there"), b"mine");
    // Not even a link that leads nowhere.
    fs::remove_file(&log).expect("removed");
    std::os::unix::fs::symlink("nowhere", &log).expect("linked");
    let why = refused(&import(dir.path(), &folder(&dir), &[]));
    assert!(why.contains("exists already"), "{why}");
    fs::remove_file(&log).expect("removed");
    // The file itself needs no import.
    fs::write(&log, records(&["SET a 1"])).expect("written");
    let why = refused(&import(dir.path(), &log, &[]));
    assert!(why.contains("a plain log of Redis needs no import"), "{why}");
    let output = import(dir.path(), &folder(&dir), &["--appendfilename", "other.aof"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.trim_end().ends_with("--appendfilename other.aof"), "{text}");
}

#[test]
fn a_server_that_uses_the_directory_keeps_the_import_out() {
    let dir = redis_dir();
    let server = Server::start(&[]);
    // It has not written its file yet, or it was removed under it: the lock counts.
    fs::remove_file(server.path("appendonly.aof")).expect("removed");
    let why = refused(&import(server.dir(), &folder(&dir), &[]));
    let pid = format!("in use by the server with process id {}", server.pid());
    assert!(why.contains(&pid), "{why}");
}

#[test]
fn a_torn_end_is_left_out_and_told() {
    let dir = redis_dir();
    let last = folder(&dir).join("appendonly.aof.1.incr.aof");
    let text = fs::read(&last).expect("there");
    fs::write(&last, &text[..text.len() - 1]).expect("written");
    let why = refused(&import(dir.path(), &folder(&dir), &["--aof-load-truncated", "no"]));
    assert!(why.contains("with --aof-load-truncated yes the import leaves the rest out"), "{why}");
    let output = import(dir.path(), &folder(&dir), &[]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(
        told.contains("WARNING: ") && told.contains("was taken up to offset 23 only"),
        "{told}"
    );
    assert_eq!(serving(&dir).start().run("MGET a b").items()[1], Reply::NullBulk);
}

/// A disk that is full ends the import, not the log: nothing half-written bears its name.
#[test]
fn a_full_disk_leaves_no_log() {
    let dir = redis_dir();
    let large = records(&[&format!("SET large {}", "x".repeat(4 << 20))]);
    fs::write(folder(&dir).join("appendonly.aof.1.incr.aof"), large).expect("written");
    let binary = env!("CARGO_BIN_EXE_server_async");
    let limited = format!(
        "ulimit -f 1024; exec {binary} --dir {0} --import {0}/appendonlydir",
        dir.path().display()
    );
    let output = Command::new("bash").args(["-c", &limited]).output().expect("bash runs");
    let why = refused(&output);
    assert!(why.contains("Cannot write ") && why.contains("File too large"), "{why}");
    assert_eq!(names(dir.path()), ["appendonly.aof.lock", "appendonlydir"]);
}

#[test]
fn the_flag_takes_one_path_and_goes_alone() {
    for (args, why) in [
        (&["--import"][..], "Flag --import lacks its value"),
        (&["--import", ""], "Flag --import lacks its value"),
        (&["--import", "a", "--import=b"], "Flag --import is given twice"),
        (&["--import", "a", "--appendfilename", "a/b"], "appendfilename can't be a path"),
        (&["--import", "/nonexistent"], "Cannot read /nonexistent: No such file or directory"),
        (&["--import", "/dev/null"], "it is neither a regular file nor a directory"),
    ] {
        let told = refused(&run(args));
        assert!(told.contains(why), "{args:?}: {told}");
    }
    let both = run(&["--import", "a", "--check-aof", "b"]);
    assert_eq!(both.status.code(), Some(2), "as for any wrong use of --check-aof");
    let help = String::from_utf8_lossy(&run(&["--help"]).stdout).into_owned();
    assert!(help.contains("server_async --import PATH"), "{help}");
}

/// The time of a long import is not spent in silence, and Ctrl+C leaves nothing behind.
#[test]
fn an_interrupted_import_tidies_up() {
    let dir = redis_dir();
    // A pipe would do, but only regular files are taken: enough of one to be met in the middle.
    let line = records(&["SET key value"]).repeat(1 << 20);
    let large = folder(&dir).join("appendonly.aof.1.incr.aof");
    fs::write(&large, line).expect("written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_server_async"))
        .arg("--dir")
        .arg(dir.path())
        .arg("--import")
        .arg(folder(&dir))
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the binary runs");
    let temp = dir.path().join("appendonly.aof.rewrite-0-0");
    let log = dir.path().join("appendonly.aof");
    common::eventually("the import is under way", || temp.exists() || log.exists());
    common::process::send_signal(child.id(), nix::sys::signal::Signal::SIGINT);
    let ended = child.wait().expect("it ends");
    // On a fast machine it may have been through.
    if ended.code() == Some(1) {
        assert_eq!(names(dir.path()), ["appendonly.aof.lock", "appendonlydir"]);
    } else {
        assert_eq!(ended.code(), Some(0));
        assert_eq!(names(dir.path()), ["appendonly.aof", "appendonly.aof.lock", "appendonlydir"]);
    }
}
