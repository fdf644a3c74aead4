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
        server.wait_log("opening the temporary file: No such file or directory");
        fs::create_dir(&data).expect("create again");
        acknowledged_anew(&mut client);
        server.kill9();
        server.restart();
        assert_eq!(server.run("MGET key late").items()[0], Reply::Bulk(b"value".to_vec()));
        assert_eq!(server.run("EXISTS late"), Reply::Int(1));
    }
}
