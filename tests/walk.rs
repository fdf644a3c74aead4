//! The way a user takes through the server, with the tools a user has.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Launch, Reply, Server, skip_without};
use nix::sys::signal::Signal;

/// Runs redis-cli with `words` against `server`.
fn cli(program: &Path, server: &Server, words: &[&str]) -> String {
    let port = server.port().to_string();
    let output = Command::new(program).args(["-p", &port]).args(words).output();
    let output = output.expect("redis-cli runs");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[test]
fn from_the_first_start_to_a_small_file() {
    let Some(program) = skip_without("from_the_first_start_to_a_small_file", "redis-cli") else {
        return;
    };
    let mut server = Launch::new().start();
    let run =
        |server: &Server, line: &str| cli(&program, server, &line.split(' ').collect::<Vec<_>>());
    assert_eq!(run(&server, "SET name world"), "OK");
    assert_eq!(run(&server, "GET name"), "world");
    // Ctrl+C, and again.
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait_exit().code(), Some(0));
    server.restart();
    assert_eq!(run(&server, "GET name"), "world");
    // kill -9, and again.
    assert_eq!(run(&server, "SET name moon"), "OK");
    server.kill9();
    server.restart();
    assert_eq!(run(&server, "GET name"), "moon");
    // 1,000 SETs on 10 keys, and a rewrite.
    let mut client = server.raw();
    for at in 0..1_000 {
        let key = format!("key:{}", at % 10);
        assert!(client.command(&["SET", &key, &format!("value:{at}")]).is_ok());
    }
    let before = server.aof().len();
    assert_eq!(run(&server, "BGREWRITEAOF"), "Background append only file rewriting started");
    server.wait_rewrite_end(&mut client);
    let after = server.aof().len();
    assert!(after * 10 < before, "{before} bytes became {after}");
    assert_eq!(run(&server, "GET key:7"), "value:997");
    server.kill9();
    server.restart();
    assert_eq!(run(&server, "GET key:7"), "value:997");
    assert_eq!(run(&server, "DBSIZE"), "11");
}

/// redis-benchmark with its own idea of pipelining and clients.
#[test]
fn redis_benchmark_runs_in_every_policy() {
    let what = "redis_benchmark_runs_in_every_policy";
    let Some(program) = skip_without(what, "redis-benchmark") else { return };
    for policy in ["always", "everysec", "no"] {
        let mut server = Server::start(&[("appendfsync", policy)]);
        for pipeline in ["1", "16"] {
            let output = Command::new(&program)
                .args(["-p", &server.port().to_string(), "-t", "set,get,incr,mset", "-q"])
                .args(["-n", "5000", "-r", "1000", "-P", pipeline])
                .output()
                .expect("redis-benchmark runs");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{text}");
            assert_eq!(text.matches("requests per second").count(), 4, "{text}");
            assert!(!text.contains("rror"), "{text}");
        }
        let (size, digest) = (server.run("DBSIZE"), server.run("DEBUG DIGEST"));
        assert!(size.int() > 100);
        server.kill9();
        server.restart();
        assert_eq!((server.run("DBSIZE"), server.run("DEBUG DIGEST")), (size, digest), "{policy}");
    }
}

/// The lines that scripts wait for.
#[test]
fn the_log_says_what_scripts_wait_for() {
    let mut server = Launch::new().start();
    let pid = server.pid().to_string();
    let log = server.log_text();
    for text in [&format!("PID: {pid}"), "Server initialized", "Ready to accept connections"] {
        assert!(log.contains(text), "{text}: {log}");
    }
    // Redis's form: process, role, day, time, mark.
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], format!("{pid}:M"), "{line}");
        assert!(words[1].parse::<u8>().is_ok() && words[3].parse::<u16>().is_ok(), "{line}");
        assert_eq!(words[4].len(), "12:34:56.789".len(), "{line}");
        assert!([".", "-", "*", "#"].contains(&words[5]), "{line}");
    }
    server.stop();
    assert!(server.log_text().contains("Received SIGTERM scheduling shutdown..."));
}

#[test]
fn info_tells_who_it_is() {
    let server = Server::start(&[]);
    assert_eq!(server.info("redis_version"), "7.2.4");
    assert_eq!(server.info("server_name"), "server_async");
    assert_eq!(server.info("server_async_version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(server.info("process_id"), server.pid().to_string());
    assert_eq!(server.info("tcp_port"), server.port().to_string());
    assert_eq!(server.info("run_id").len(), 40);
    let before: u64 = server.info("total_commands_processed").parse().expect("a number");
    assert_eq!(server.run("PING"), Reply::Simple(b"PONG".to_vec()));
    let after: u64 = server.info("total_commands_processed").parse().expect("a number");
    assert!(after > before);
    assert!(server.run("SET key value EX 100").is_ok());
    assert!(server.info("db0").starts_with("keys=1,expires=1,avg_ttl="));
}
