//! A rewrite makes the file small and changes nothing else, whatever happens to it on the way.

mod common;

use common::aof::lines;
use common::process::{is_alive, send_signal};
use common::{PATIENCE, Raw, Reply, Server, eventually};
use nix::sys::signal::Signal;

/// Starts a rewrite and stops its child in the middle of its work: once it writes, so that it has
/// settled in as a child, and before it can end. The data set is large enough for that.
fn frozen_rewrite(server: &Server, client: &mut Raw) -> u32 {
    let mut child = None;
    eventually("a rewrite's child is caught", || {
        let reply = client.run("BGREWRITEAOF");
        assert!(!reply.is_error(), "{reply:?}");
        child = server.rewrite_child().filter(|&child| {
            while is_alive(child) && temporary_bytes(server) < 100_000 {
                std::hint::spin_loop();
            }
            send_signal(child, Signal::SIGSTOP)
        });
        if child.is_none() {
            server.wait_rewrite_end(client);
            return false;
        }
        // A stop takes effect a moment later; the child may have ended by then.
        let state = client.run("INFO persistence").text();
        state.contains("aof_rewrite_in_progress:1") && child.is_some_and(is_alive)
    });
    child.expect("caught")
}

/// Many keys, so that writing them takes a child a while.
fn fill(client: &mut Raw) {
    for chunk in 0..100 {
        let mut args = vec![b"MSET".to_vec()];
        for at in 0..1_000 {
            args.push(format!("key:{chunk}:{at}").into_bytes());
            args.push(b"some value of some length".to_vec());
        }
        assert!(client.command(&args).is_ok());
    }
}

/// The length of what a child has written so far.
fn temporary_bytes(server: &Server) -> u64 {
    let lengths = temporary_files(server)
        .into_iter()
        .filter_map(|name| Some(std::fs::metadata(server.path(&name)).ok()?.len()));
    lengths.sum()
}

fn temporary_files(server: &Server) -> Vec<String> {
    let mut files = server.files();
    files.retain(|name| name.contains("temp") || name.contains("rewrite"));
    files
}

#[test]
fn the_file_shrinks_by_more_than_nine_tenths() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    for at in 0..1_000 {
        let (key, value) = (format!("key{}", at % 10), format!("value{at}"));
        assert!(client.command(&["SET", &key, &value]).is_ok());
    }
    let before = server.aof().len();
    let reply = client.run("BGREWRITEAOF");
    assert_eq!(reply.text(), "Background append only file rewriting started");
    server.wait_rewrite_end(&mut client);
    let after = server.aof().len();
    assert!(after * 10 < before, "{before} bytes became {after}");
    assert_eq!(client.run("GET key9"), Reply::Bulk(b"value999".to_vec()));
    assert!(client.run("SET behind it").is_ok());
    server.kill9();
    server.restart();
    assert_eq!(server.run("GET key9"), Reply::Bulk(b"value999".to_vec()));
    assert_eq!(server.run("GET behind"), Reply::Bulk(b"it".to_vec()));
    assert_eq!(server.run("DBSIZE"), Reply::Int(11));
}

#[test]
fn it_keeps_databases_deadlines_and_bytes_of_any_kind() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    for db in [0, 3, 15] {
        assert!(client.run(&format!("SELECT {db}")).is_ok());
        for value in
            [b"".as_slice(), b"12", b"-9223372036854775808", b"\0\r\n\xff", &[b'x'; 70_000]]
        {
            let key = [b"key\r\n".as_slice(), &value[..value.len().min(20)]].concat();
            assert!(client.command(&[b"SET".as_slice(), &key, value]).is_ok());
        }
        assert!(client.run("SET brief 1 PXAT 99999999999999").is_ok());
        assert!(client.run("SET sooner 1 EX 1000").is_ok());
    }
    let deadline = client.run("PEXPIRETIME sooner");
    let digest = client.run("DEBUG DIGEST");
    server.rewrite();
    server.kill9();
    server.restart();
    assert_eq!(server.run("DEBUG DIGEST"), digest);
    let mut client = server.raw();
    assert!(client.run("SELECT 15").is_ok());
    assert_eq!(client.run("PEXPIRETIME sooner"), deadline);
    assert_eq!(client.run("PEXPIRETIME brief"), Reply::Int(99_999_999_999_999));
}

#[test]
fn of_an_empty_server_leaves_a_file_without_commands() {
    let mut server = Server::start(&[]);
    for line in ["SET a 1", "FLUSHALL"] {
        assert!(server.run(line).is_ok());
    }
    server.rewrite();
    assert!(lines(&server.aof()).iter().all(|line| line.starts_with("SELECT")));
    server.kill9();
    server.restart();
    assert_eq!(server.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn what_is_written_meanwhile_is_in_the_new_file() {
    for policy in ["always", "everysec", "no"] {
        let mut server = Server::start(&[("appendfsync", policy)]);
        let mut client = server.raw();
        fill(&mut client);
        assert!(client.run("SET counter 1").is_ok());
        let child = frozen_rewrite(&server, &mut client);
        for line in [
            "INCR counter",
            "INCR counter",
            "DEL key:0:0",
            "SELECT 7",
            "SET elsewhere 1",
            "SELECT 0",
            "MULTI",
            "INCR counter",
            "SET together 1",
            "EXEC",
        ] {
            assert!(!client.run(line).is_error(), "{line}");
        }
        send_signal(child, Signal::SIGCONT);
        server.wait_rewrite_end(&mut client);
        assert_eq!(server.info("aof_last_bgrewrite_status"), "ok", "{}", server.log_text());
        assert!(client.run("INCR counter").int() == 5);
        let digest = client.run("DEBUG DIGEST");
        server.kill9();
        assert!(lines(&server.aof()).len() < 100_100, "{policy}: it is the new file");
        server.restart();
        assert_eq!(server.run("DEBUG DIGEST"), digest, "{policy}");
        assert_eq!(server.run("GET counter"), Reply::Bulk(b"5".to_vec()), "{policy}");
        assert_eq!(temporary_files(&server), [""; 0], "{policy}");
    }
}

#[test]
fn a_second_one_is_refused_while_one_runs() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    fill(&mut client);
    let child = frozen_rewrite(&server, &mut client);
    assert_eq!(
        client.run("BGREWRITEAOF").error(),
        "ERR Background append only file rewriting already in progress"
    );
    assert_eq!(server.info("aof_rewrite_in_progress"), "1");
    send_signal(child, Signal::SIGCONT);
    server.wait_rewrite_end(&mut client);
    server.rewrite();
}

#[test]
fn in_a_transaction_it_is_scheduled() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for at in 0..100 {
        assert!(client.command(&["SET", "key", &at.to_string()]).is_ok());
    }
    let before = server.aof().len();
    for line in ["MULTI", "SET key 100", "BGREWRITEAOF", "SET key 101"] {
        client.run(line);
    }
    let reply = client.run("EXEC");
    assert_eq!(reply.items()[1].text(), "Background append only file rewriting scheduled");
    server.wait_rewrite_end(&mut client);
    eventually("the file has been rewritten", || server.aof().len() < before);
    assert_eq!(client.run("GET key"), Reply::Bulk(b"101".to_vec()));
}

/// The old file stays in force, nothing temporary is left, and the next rewrite succeeds.
#[test]
fn a_killed_child_changes_nothing() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    fill(&mut client);
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGABRT] {
        let before = server.aof().len();
        let child = frozen_rewrite(&server, &mut client);
        assert!(client.run("INCR counter").int() > 0);
        send_signal(child, signal);
        send_signal(child, Signal::SIGCONT);
        server.wait_rewrite_end(&mut client);
        assert_eq!(server.info("aof_last_bgrewrite_status"), "err", "{signal}");
        eventually("the temporary file is gone", || temporary_files(&server).is_empty());
        assert!(server.aof().len() > before, "{signal}: the old file goes on");
        assert!(client.run("INCR counter").int() > 0);
    }
    let digest = client.run("DEBUG DIGEST");
    server.rewrite();
    server.kill9();
    server.restart();
    assert_eq!(server.run("DEBUG DIGEST"), digest);
    assert_eq!(server.run("GET counter"), Reply::Bulk(b"6".to_vec()));
}

#[test]
fn the_child_dies_with_its_server_and_leaves_nothing() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    fill(&mut client);
    let child = frozen_rewrite(&server, &mut client);
    assert!(client.run("SET last word").is_ok());
    server.kill9();
    common::process::wait_gone(child, PATIENCE);
    server.restart();
    assert_eq!(temporary_files(&server), [""; 0]);
    assert_eq!(server.run("GET last"), Reply::Bulk(b"word".to_vec()));
    assert_eq!(server.run("DBSIZE"), Reply::Int(100_001));
}

#[test]
fn a_stop_in_the_middle_of_one_ends_in_order() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    fill(&mut client);
    let child = frozen_rewrite(&server, &mut client);
    assert!(client.run("SET last word").is_ok());
    assert_eq!(server.stop().code(), Some(0), "{}", server.log_text());
    common::process::wait_gone(child, PATIENCE);
    assert_eq!(temporary_files(&server), [""; 0]);
    server.restart();
    assert_eq!(server.run("DBSIZE"), Reply::Int(100_001));
}

#[test]
fn a_child_that_hangs_is_killed_and_the_next_rewrite_works() {
    let mut server = Server::start(&[("aof-rewrite-timeout", "1")]);
    let mut client = server.raw();
    fill(&mut client);
    let child = frozen_rewrite(&server, &mut client);
    assert!(client.run("SET meanwhile 1").is_ok());
    server.wait_log("has written nothing for 1 s and is killed. The old file stays in force");
    common::process::wait_gone(child, PATIENCE);
    server.wait_rewrite_end(&mut client);
    assert_eq!(server.info("aof_last_bgrewrite_status"), "err");
    eventually("nothing of it is left", || temporary_files(&server).is_empty());
    let digest = client.run("DEBUG DIGEST");
    server.rewrite();
    server.kill9();
    server.restart();
    assert_eq!(server.run("DEBUG DIGEST"), digest);
}

#[test]
fn it_starts_by_itself_when_the_file_has_grown() {
    let server = Server::start(&[
        ("auto-aof-rewrite-min-size", "200kb"),
        ("auto-aof-rewrite-percentage", "100"),
        ("appendfsync", "no"),
    ]);
    let mut client = server.raw();
    let value = vec![b'v'; 1_000];
    let size = || std::fs::metadata(server.path("appendonly.aof")).map_or(0, |file| file.len());
    let mut largest = 0;
    eventually("the file was rewritten by itself", || {
        for at in 0..100 {
            let key = format!("key{}", at % 5);
            assert!(client.command(&[b"SET".as_slice(), key.as_bytes(), &value]).is_ok());
            largest = largest.max(size());
        }
        server.log_text().contains("Starting automatic rewriting of AOF") && {
            server.wait_rewrite_end(&mut client);
            size() < largest / 2
        }
    });
    // The moment of the largest size may have been missed by a write.
    assert!(largest >= 190 << 10, "not before its time: {largest}");
    // What it counts growth from is what the rewrite left, not what was there before.
    let base: u64 = server.info("aof_base_size").parse().expect("a number");
    assert!(base < largest, "{base} of {largest}");
}

#[test]
fn it_does_not_start_by_itself_where_told_not_to() {
    let server = Server::start(&[
        ("auto-aof-rewrite-min-size", "1kb"),
        ("auto-aof-rewrite-percentage", "0"),
    ]);
    let mut client = server.raw();
    for _ in 0..200 {
        assert!(client.run("SET key some-value-of-some-length").is_ok());
    }
    // Longer than the rounds in which the server looks, so a start would have been seen.
    let before = server.info("total_commands_processed");
    eventually("several of the server's rounds have passed", || {
        let seconds: u64 = server.info("uptime_in_seconds").parse().expect("a number");
        seconds >= 2
    });
    assert!(!before.is_empty());
    assert!(!server.log_text().contains("rewriting of AOF"), "{}", server.log_text());
    assert!(server.aof().len() > 200 * 40);
}

/// With the log off there is a file to write all the same, as Redis does.
#[test]
fn switched_on_at_run_time_the_log_holds_everything() {
    let mut server = Server::start(&[("appendonly", "no")]);
    let mut client = server.raw();
    fill(&mut client);
    assert!(client.run("CONFIG SET appendonly yes").is_ok());
    eventually("the log is on", || {
        let info = client.run("INFO persistence").text();
        info.contains("aof_enabled:1") && info.contains("aof_rewrite_in_progress:0")
    });
    assert!(client.run("SET last word").is_ok());
    let digest = client.run("DEBUG DIGEST");
    server.kill9();
    server.set_flag("appendonly", "yes");
    server.restart();
    assert_eq!(server.run("DEBUG DIGEST"), digest);
}

#[test]
fn switched_off_at_run_time_nothing_more_is_logged() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    assert!(client.run("SET a 1").is_ok());
    assert!(client.run("CONFIG SET appendonly no").is_ok());
    // It is synced a last time before it is let go.
    eventually("the log is off", || server.info("aof_enabled") == "0");
    assert!(client.run("SET a 2").is_ok());
    assert_eq!(lines(&server.aof()), ["SELECT 0", "SET a 1"]);
}
