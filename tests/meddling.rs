//! Somebody else removes, replaces or cuts the log's file under a running server: it notices, and
//! writes a fresh one from memory.

mod common;

use std::fs;
use std::path::Path;

use common::raw::encode;
use common::{Launch, Raw, Reply, Server, eventually};

const LOG: &str = "appendonly.aof";

/// Does something to the file, writes without waiting for what comes of it, and checks that all
/// is there again after the heal and a kill.
fn survives(policy: &str, what: &str, meddle: impl Fn(&Path)) {
    let mut server = Server::start(&[("appendfsync", policy)]);
    let mut client = server.raw();
    for at in 0..100 {
        assert!(client.run(&format!("SET key:{at} value:{at}")).is_ok());
    }
    meddle(&server.path(LOG));
    // The reply of a write in the moment before it is noticed may come at once, wait for the
    // fresh file, or be a refusal; it never is lost.
    let mut early = server.raw();
    early.send(&encode(&["SET", "early", "1"]));
    server.wait_log(what);
    server.wait_log("The AOF file has been replaced by a fresh one");
    let early = early.reply();
    assert!(early.is_ok() || early.is_error_text("MISCONF"), "{early:?}");
    acknowledged_anew(&mut client);
    assert_eq!(server.info("aof_fault"), "");
    assert_eq!(server.info("aof_last_write_status"), "ok");
    let digest = client.run("DEBUG DIGEST");
    server.kill9();
    server.restart();
    assert_eq!(server.run("DEBUG DIGEST"), digest, "{policy}: {what}");
    assert_eq!(server.run("EXISTS key:0 key:99 late"), Reply::Int(3));
    assert_eq!(server.run("EXISTS early"), Reply::Int(i64::from(early.is_ok())));
    let files = server.files();
    assert!(files.iter().all(|name| !name.contains("rewrite")), "{files:?}");
}

/// A write that is taken again, with nothing restarted.
fn acknowledged_anew(client: &mut Raw) {
    eventually("writes are taken again", || {
        let reply = client.run("SET late 1");
        assert!(reply.is_ok() || reply.is_error_text("MISCONF"), "{reply:?}");
        reply.is_ok()
    });
}

fn under_each_policy(what: &str, meddle: impl Fn(&Path)) {
    for policy in ["always", "everysec", "no"] {
        survives(policy, what, &meddle);
    }
}

#[test]
fn a_removed_file_is_written_anew() {
    under_each_policy("appendonly.aof: the file has been removed", |log| {
        fs::remove_file(log).expect("remove");
    });
}

#[test]
fn a_replaced_file_is_written_anew() {
    under_each_policy("the file has been replaced by another one", |log| {
        let other = log.with_file_name("other");
        fs::write(&other, "").expect("write");
        // At once, as `mv` does it: there is no moment without a file.
        fs::rename(&other, log).expect("rename");
    });
}

#[test]
fn a_truncated_file_is_written_anew() {
    under_each_policy("the file has been truncated", |log| {
        let file = fs::OpenOptions::new().write(true).open(log).expect("open");
        file.set_len(0).expect("truncate");
    });
    under_each_policy("the file has been truncated", |log| {
        let file = fs::OpenOptions::new().write(true).open(log).expect("open");
        let len = file.metadata().expect("stat").len();
        file.set_len(len / 2).expect("truncate");
    });
}

/// A rewrite renames a file over the log's by itself: nobody's meddling.
#[test]
fn rewrites_are_not_taken_for_meddling() {
    let server = Server::start(&[("hz", "500")]);
    let mut client = server.raw();
    for at in 0..20 {
        assert!(client.run(&format!("SET key {at}")).is_ok());
        server.rewrite();
    }
    assert!(!server.log_text().contains("Something has happened"), "{}", server.log_text());
}

/// Without its directory the log can only refuse, until there is a directory again.
#[test]
fn a_directory_that_is_gone_is_used_again_once_it_is_back() {
    for move_away in [true, false] {
        let home = tempfile::tempdir().expect("a directory");
        let data = home.path().join("data");
        fs::create_dir(&data).expect("create");
        let dir = data.to_str().expect("plain text");
        let mut server = Launch::new().flag("dir", dir).flag("appendfsync", "everysec").start();
        let mut client = server.raw();
        assert!(client.run("SET key value").is_ok());
        if move_away {
            fs::rename(&data, home.path().join("elsewhere")).expect("move");
        } else {
            fs::remove_dir_all(&data).expect("remove");
        }
        eventually("it is noticed", || !server.info("aof_fault").is_empty());
        let refused = "MISCONF Errors writing to the AOF file: the file has been removed";
        assert_eq!(client.run("SET key other").error(), refused);
        assert_eq!(client.run("GET key"), Reply::Bulk(b"value".to_vec()));
        assert_eq!(server.info("aof_last_write_status"), "err");
        server.wait_log("appendonly.aof: No such file or directory. New writes stay refused");
        fs::create_dir(&data).expect("create again");
        acknowledged_anew(&mut client);
        a_second_server_is_refused(&server, &data);
        server.kill9();
        server.restart();
        assert_eq!(server.run("MGET key late").items()[0], Reply::Bulk(b"value".to_vec()));
        assert_eq!(server.run("EXISTS late"), Reply::Int(1));
    }
}

/// It says who is in its way, and the first one serves on.
#[track_caller]
fn a_second_server_is_refused(first: &Server, dir: &Path) {
    let second = Launch::new().flag("dir", dir.to_str().expect("plain text")).run_to_exit();
    assert_eq!(second.status.code(), Some(1), "{}", second.stdout);
    let held = format!("appendonly.aof: in use by the server with process id {}", first.pid());
    assert!(second.stdout.contains(&held), "{}", second.stdout);
    assert!(first.run("SET beside 1").is_ok());
}

/// Somebody tidies up and takes the lock's file for litter.
#[test]
fn a_lock_whose_file_was_removed_is_taken_anew() {
    let mut server = Server::start(&[]);
    assert!(server.run("SET key value").is_ok());
    let lock = server.path("appendonly.aof.lock");
    fs::remove_file(&lock).expect("remove");
    server.wait_log("appendonly.aof.lock was removed or replaced; it has been locked anew");
    a_second_server_is_refused(&server, server.dir());
    assert_eq!(server.info("aof_fault"), "", "the log itself is sound");
    server.rewrite();
    server.kill9();
    server.restart();
    assert_eq!(server.run("EXISTS key beside"), Reply::Int(2));
}

/// The new directory is another server's by now: its log must not be written over. When that one
/// has gone, this one goes on.
#[test]
fn a_directory_that_another_server_has_is_waited_for() {
    let home = tempfile::tempdir().expect("a directory");
    let (data, other) = (home.path().join("data"), home.path().join("other"));
    fs::create_dir(&data).expect("create");
    fs::create_dir(&other).expect("create");
    let text = |path: &Path| path.to_str().expect("plain text").to_owned();
    let mut second = Launch::new().flag("dir", &text(&other)).start();
    assert!(second.run("SET theirs 1").is_ok());
    let mut server = Launch::new().flag("dir", &text(&data)).flag("appendfsync", "always").start();
    let mut client = server.raw();
    assert!(client.run("SET ours 1").is_ok());
    fs::rename(&data, home.path().join("elsewhere")).expect("move");
    fs::rename(&other, &data).expect("move");
    let held = format!("in use by the server with process id {}", second.pid());
    server.wait_log(&format!(
        "Background AOF rewrite failed: Cannot lock the append-only file {}: \
        {held}",
        data.join(LOG).display()
    ));
    let theirs = fs::read(data.join(LOG)).expect("read");
    assert!(client.run("SET refused 1").is_error_text("MISCONF Errors writing to the AOF file"));
    assert_eq!(client.run("GET ours"), Reply::Bulk(b"1".to_vec()));
    server.wait_log("in use by the server");
    assert_eq!(fs::read(data.join(LOG)).expect("read"), theirs, "left alone");
    second.kill9();
    acknowledged_anew(&mut client);
    a_second_server_is_refused(&server, &data);
    server.kill9();
    server.restart();
    assert_eq!(server.run("EXISTS ours late refused theirs"), Reply::Int(2));
}

/// What a machine that died left is no obstacle: it names processes that are gone, or are others.
#[test]
fn what_a_dead_server_left_is_no_obstacle() {
    let alive = std::process::id().to_string();
    for pid in ["1", "999999999", &alive, "no number"] {
        let launch = Launch::new()
            .flag("pidfile", "server.pid")
            .flag("unixsocket", "server.sock")
            .file("server.pid", format!("{pid}\n"))
            .file("appendonly.aof.lock", format!("{pid}\nand a longer text\n"))
            .file("appendonly.aof.rewrite-17-3", "*1\r\n")
            .file("appendonly.aof.rewrite-17-3.kept", "somebody's own");
        let mut server = launch.start();
        let own = format!("{}\n", server.pid());
        assert_eq!(fs::read_to_string(server.path("server.pid")).expect("read"), own);
        assert_eq!(fs::read_to_string(server.path("appendonly.aof.lock")).expect("read"), own);
        server.wait_log("Removing appendonly.aof.rewrite-17-3, left by a rewrite");
        let kept = "appendonly.aof.rewrite-17-3.kept";
        assert_eq!(server.temporary_files(), [kept]);
        assert!(server.run("SET key value").is_ok());
        // The socket and the pid file of the one that is killed are stale in their turn.
        server.kill9();
        server.restart();
        assert_eq!(server.run("GET key"), Reply::Bulk(b"value".to_vec()));
        let own = format!("{}\n", server.pid());
        assert_eq!(fs::read_to_string(server.path("server.pid")).expect("read"), own);
        assert!(server.stop().success());
        assert_eq!(server.files(), ["appendonly.aof", "appendonly.aof.lock", kept]);
    }
}

/// As with Redis: a pid file is a service to others.
#[test]
fn a_pid_file_that_cannot_be_written_is_told_and_no_obstacle() {
    let mut server = Server::start(&[("pidfile", "/proc/no/such/place")]);
    server.wait_log("Failed to write PID file /proc/no/such/place: ");
    assert!(server.run("SET key value").is_ok());
    assert!(server.stop().success());
}
