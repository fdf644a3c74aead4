//! What the server tells of itself is true: counters of commands, the expiry cycle, the
//! configuration written back.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use common::port::PortLease;
use common::raw::{encode_into, words};
use common::{Launch, Rng, Server, aof, eventually, skip_without, unix_ms};

/// The fields of one line of INFO, such as `cmdstat_get`, without its times.
fn counts(server: &Server, line: &str) -> String {
    let value = server.info(line);
    let counts = value.split(',').filter(|part| !part.starts_with("usec"));
    counts.collect::<Vec<_>>().join(",")
}

#[test]
fn each_command_is_counted_with_its_time_and_its_failures() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    client.run("SET text abc");
    client.run("INCR text");
    client.run("GET");
    client.run("CLIENT GETNAME");
    for line in ["MULTI", "SET a 1", "SET b 2", "INCR text", "EXEC"] {
        client.run(line);
    }
    client.run("DEBUG SLEEP 0.05");
    assert_eq!(counts(&server, "cmdstat_set"), "calls=3,rejected_calls=0,failed_calls=0");
    assert_eq!(counts(&server, "cmdstat_incr"), "calls=2,rejected_calls=0,failed_calls=2");
    assert_eq!(counts(&server, "cmdstat_get"), "calls=0,rejected_calls=1,failed_calls=0");
    assert_eq!(
        counts(&server, "cmdstat_client|getname"),
        "calls=1,rejected_calls=0,failed_calls=0"
    );
    assert_eq!(counts(&server, "cmdstat_exec"), "calls=1,rejected_calls=0,failed_calls=0");
    let slept = server.info("cmdstat_debug");
    let us = slept.split("usec=").nth(1).and_then(|rest| rest.split(',').next()).expect("usec");
    assert!(us.parse::<u64>().expect("a number") >= 50_000, "{slept}");
    let percentiles = server.info("latency_percentiles_usec_debug");
    let median = percentiles.strip_prefix("p50=").and_then(|p| p.split(',').next());
    assert!(median.expect("p50").parse::<f64>().expect("a number") >= 50_000.0, "{percentiles}");

    server.run("CONFIG RESETSTAT");
    assert_eq!(
        counts(&server, "cmdstat_config|resetstat"),
        "calls=1,rejected_calls=0,failed_calls=0"
    );
    assert!(!server.run("INFO everything").text().contains("cmdstat_set"));
    server.run("CONFIG SET latency-tracking no");
    assert!(!server.run("INFO latencystats").text().contains("usec"));
}

/// A pipeline shares its readings of the clock: the times of its commands are its whole time, and
/// what lies between two requests is nobody's.
#[test]
fn time_between_requests_belongs_to_no_command() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    let mut pipeline = Vec::new();
    encode_into(&mut pipeline, &words("DEBUG SLEEP 0.05"));
    (0..20).for_each(|_| encode_into(&mut pipeline, &words("PING")));
    client.run("CONFIG RESETSTAT");
    client.send(&pipeline);
    (0..21).for_each(|_| drop(client.reply()));
    let all: u64 = ["debug", "ping"]
        .map(|name| {
            let value = server.info(&format!("cmdstat_{name}"));
            let us = value.split("usec=").nth(1).and_then(|rest| rest.split(',').next());
            us.expect("usec").parse::<u64>().expect("a number")
        })
        .iter()
        .sum();
    let ping = server.info("cmdstat_ping");
    assert!(ping.starts_with("calls=20,"), "{ping}");
    let busy: u64 = server.info("eventloop_duration_sum").parse().expect("a number");
    assert!((50_000..=busy).contains(&all), "{all} of {busy}");
}

/// Keys go in the order of their deadlines, all of them, and INFO tells what that took.
#[test]
fn keys_past_their_deadline_go_in_the_order_of_deadlines() {
    const KEYS: usize = 30_000;
    let mut rng = Rng::new(common::seed_from_env("EXPIRY_SEED"));
    let mut ahead_ms = 1_500;
    let (server, mut client, first, deadlines) = loop {
        let server = Server::start(&[("active-expire-effort", "10")]);
        let mut client = server.raw();
        assert!(client.run("DEBUG SET-ACTIVE-EXPIRE 0").is_ok());
        let first = unix_ms() + ahead_ms;
        let mut deadlines = BTreeMap::new();
        let mut pipeline = Vec::new();
        for n in 0..KEYS {
            let (key, deadline) = (format!("k{n}"), first + rng.between(0, 200));
            let args = ["SET", &key, "v", "PXAT", &deadline.to_string()];
            encode_into(&mut pipeline, &args);
            deadlines.insert(key, deadline);
        }
        client.send(&pipeline);
        (0..KEYS).for_each(|_| assert!(client.reply().is_ok()));
        // A key that is set past its deadline would not be there.
        if unix_ms() < first {
            break (server, client, first, deadlines);
        }
        ahead_ms *= 2;
    };
    eventually("all are past their deadlines", || unix_ms() > first + 200);
    assert_eq!(client.run("DBSIZE").int(), KEYS as i64, "nobody has touched them");
    assert!(client.run("DEBUG SET-ACTIVE-EXPIRE 1").is_ok());
    eventually("all are gone", || client.run("DBSIZE").int() == 0);
    assert_eq!(server.info("expired_keys"), KEYS.to_string());
    let number = |field: &str| server.info(field).parse::<f64>().expect("a number");
    assert!(number("expired_time_cap_reached_count") >= 1.0, "so many take more than a slice");
    assert!(number("expire_cycle_cpu_milliseconds") >= 1.0);
    assert!(number("expired_stale_perc") > 0.0, "a running average");
    eventually("the log has them", || {
        let bytes = server.aof();
        aof::commands(&bytes).iter().filter(|args| args[0] == b"DEL").count() == KEYS
    });
    let mut last = 0;
    for args in aof::commands(&server.aof()).iter().filter(|args| args[0] == b"DEL") {
        let deadline = deadlines[&String::from_utf8_lossy(&args[1]).into_owned()];
        assert!(deadline >= last, "{deadline} behind {last}");
        last = deadline;
    }
}

/// What is loaded again is what was there, in every database, and is written to as before.
#[test]
fn a_reload_brings_everything_back() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    for line in ["SET a 1", "INCR a", "APPEND text abc", "SET far v EX 1000", "SELECT 3", "SET b 2"]
    {
        assert!(!client.run(line).is_error(), "{line}");
    }
    let digest = client.run("DEBUG DIGEST");
    for line in ["DEBUG RELOAD", "DEBUG RELOAD NOSAVE merge NOFLUSH"] {
        assert!(client.run(line).is_ok(), "{line}");
        assert_eq!(client.run("DEBUG DIGEST"), digest, "{line}");
    }
    assert_eq!(client.run("INCR b").int(), 3, "the client's database is the one it had selected");
    let digest = client.run("DEBUG DIGEST");
    server.kill9();
    server.restart();
    assert_eq!(server.run("DEBUG DIGEST"), digest);
}

/// Lines that the two servers write for reasons of their own: how the test starts them, and what
/// only one of them has.
fn is_own(line: &str) -> bool {
    const OWN: &[&str] = &["port ", "dir ", "user ", "save ", "appendonly ", "enable-debug"];
    line.is_empty() || OWN.iter().any(|start| line.starts_with(start))
}

/// What both write into the same file, after the same changes.
#[test]
fn the_configuration_is_written_back_as_by_the_reference() {
    const CONTENT: &str = "# first comment  \n\n\n# second\nhz 20\n  timeout   7\n\nTCP-KEEPALIVE 60\n\
        slave-read-only yes\nhash-max-ziplist-entries 128\nrequirepass \"\"\nloglevel notice\n\
        client-output-buffer-limit pubsub 64mb 16mb 90\nmaxmemory-clients 0\nmaxclients 200\n\
        proto-max-bulk-len 536870912\nappendfilename \"appendonly.aof\"\nnotify-keyspace-events Kx\n\
        bind 127.0.0.1\nbind 127.0.0.1 -::1\nlazyfree-lazy-user-del no\noom-score-adj-values 0 200 800\n\
        replica-announce-ip \"\"\nshutdown-on-sigint nosave\nzset-max-listpack-value 64\n# the end";
    let what = "the_configuration_is_written_back_as_by_the_reference";
    let Some(theirs) = Launch::reference(what) else { return };
    let start =
        |launch: Launch| launch.file("server.conf", CONTENT).config_file("server.conf").start();
    let (ours, theirs) = (start(Launch::new()), start(theirs));
    let written = |server: &Server| {
        let path = server.path("server.conf");
        let text = std::fs::read_to_string(path).expect("the file");
        let mut lines: Vec<String> =
            text.lines().filter(|line| !is_own(line)).map(str::to_owned).collect();
        // What is appended stands in an order of each server's own.
        let heading = lines.iter().position(|line| line == "# Generated by CONFIG REWRITE");
        lines[heading.expect("a heading") + 1..].sort();
        lines
    };
    for changes in [
        &[][..],
        &["CONFIG SET hz 30 timeout 0", "CONFIG SET maxmemory-clients 5% maxclients 100"],
        &["CONFIG SET slowlog-max-len 7 lfu-log-factor 3 client-query-buffer-limit 3mb"],
        &[
            "CONFIG SET client-output-buffer-limit normal\\ 1mb\\ 1000\\ 5",
            "CONFIG SET latency-tracking-info-percentiles 1 notify-keyspace-events KEA",
            "CONFIG SET hz 10 lfu-log-factor 10 oom-score-adj yes",
            "CONFIG SET proc-title-template {title}\\ \\\"x",
        ],
    ] {
        for line in changes {
            let args: Vec<Vec<u8>> = words(&line.replace("\\ ", "\u{1}"))
                .into_iter()
                .map(|word| word.iter().map(|b| if *b == 1 { b' ' } else { *b }).collect())
                .collect();
            for server in [&ours, &theirs] {
                let reply = server.raw().command(&args);
                assert!(reply.is_ok(), "{line}: {reply:?}");
            }
        }
        for server in [&ours, &theirs] {
            assert!(server.run("CONFIG REWRITE").is_ok());
        }
        assert_eq!(written(&ours), written(&theirs), "after {changes:?}");
    }
}

#[test]
fn a_restart_from_the_rewritten_file_has_the_same_configuration() {
    let launch = Launch::new().file("server.conf", "# mine\ntimeout 5\n");
    let mut server = launch.config_file("server.conf").start();
    for line in ["CONFIG SET requirepass secret hz 77", "CONFIG REWRITE"] {
        let mut client = server.raw();
        client.run("AUTH secret");
        assert!(client.run(line).is_ok());
    }
    server.kill9();
    server.restart();
    let mut client = server.raw();
    assert!(client.run("AUTH secret").is_ok(), "the password has been kept");
    assert_eq!(client.run("CONFIG GET hz").items()[1].text(), "77");
    let text = std::fs::read_to_string(server.path("server.conf")).expect("the file");
    assert!(text.starts_with("# mine\ntimeout 5\n"), "{text}");
    assert!(!server.files().iter().any(|name| name.contains("rewrite-")), "{:?}", server.files());
}

/// Several ask at once, and the file cannot be written: each is told, in its place among its
/// other replies, and what is sent behind it is run.
#[test]
fn a_file_that_cannot_be_written_is_told_to_each_who_asks() {
    let folder = tempfile::tempdir().expect("directory");
    let file = folder.path().join("server.conf");
    std::fs::write(&file, "timeout 5\n").expect("written");
    let server = Launch::new().config_file(&file).start();
    folder.close().expect("removed");
    let mut clients: Vec<_> = (0..5).map(|_| server.raw()).collect();
    let mut pipeline = Vec::new();
    for line in ["ECHO before", "CONFIG REWRITE", "ECHO behind"] {
        encode_into(&mut pipeline, &words(line));
    }
    clients.iter_mut().for_each(|client| client.send(&pipeline));
    for client in &mut clients {
        assert_eq!(client.reply().text(), "before");
        assert_eq!(client.reply().error(), "ERR Rewriting config file: No such file or directory");
        assert_eq!(client.reply().text(), "behind");
    }
    assert_eq!(
        server.run("CONFIG REWRITE").error(),
        "ERR Rewriting config file: No such file or directory"
    );
}

/// A transaction had the failure in the server's log alone, and OK in its reply.
#[test]
fn a_transaction_is_told_of_each_file_that_cannot_be_written() {
    const REFUSED: &str = "ERR Rewriting config file: No such file or directory";
    let folder = tempfile::tempdir().expect("directory");
    let file = folder.path().join("server.conf");
    std::fs::write(&file, "timeout 5\n").expect("written");
    let server = Launch::new()
        .config_file(&file)
        .flag("appendonly", "no")
        .flag("enable-debug-command", "yes")
        .start();
    let mut client = server.raw();
    let transaction = [
        "MULTI",
        "DEBUG POPULATE 50000",
        "CONFIG REWRITE",
        "INCR a",
        "CONFIG SET appendonly yes timeout 7",
        "CONFIG REWRITE",
        "CONFIG SET port 99999999",
        "FLUSHALL SYNC",
        "INCR a",
        "EXEC",
        "ECHO behind",
    ];
    for can_write in [true, false] {
        if !can_write {
            std::fs::remove_dir_all(folder.path()).expect("removed");
        }
        let mut pipeline = Vec::new();
        transaction.iter().for_each(|line| encode_into(&mut pipeline, &words(line)));
        client.send(&pipeline);
        for _ in 0..transaction.len() - 2 {
            assert!(!client.reply().is_error());
        }
        let reply = client.reply();
        let [_, first, one, switch, second, port, flush, again] = reply.items() else {
            panic!("{reply:?}");
        };
        for rewrite in [first, second] {
            assert_eq!(rewrite.is_ok(), can_write, "{rewrite:?}");
            assert!(can_write || rewrite.error() == REFUSED, "{rewrite:?}");
        }
        assert!(switch.is_ok() && port.is_error() && flush.is_ok(), "{reply:?}");
        // What the first transaction left is counted on.
        assert_eq!((one.int(), again.int()), (if can_write { 1 } else { 2 }, 1));
        assert_eq!(client.reply().text(), "behind");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text.contains("timeout 7\n"), can_write, "{text}");
    }
}

/// Ends with the test.
struct Exporter(Child);

impl Drop for Exporter {
    fn drop(&mut self) {
        // It may have ended by itself, which its scrape has told.
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn prometheus_exporter_scrapes_without_an_error() {
    let what = "prometheus_exporter_scrapes_without_an_error";
    let Some(program) = skip_without(what, "prometheus-redis-exporter") else { return };
    let server = Server::start(&[]);
    server.run("SET k v EX 1000");
    server.run("INCR k");
    let port = PortLease::take();
    let child = Command::new(program)
        .arg(format!("-redis.addr=redis://127.0.0.1:{}", server.port()))
        .arg(format!("-web.listen-address=127.0.0.1:{}", port.number()))
        .args(["-include-system-metrics", "-check-keys=db0=k"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _exporter = Exporter(child.expect("the exporter starts"));
    let mut text = String::new();
    eventually("it answers", || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port.number())) else { return false };
        text.clear();
        let request = b"GET /metrics HTTP/1.0\r\n\r\n";
        stream.write_all(request).is_ok() && stream.read_to_string(&mut text).is_ok()
    });
    for line in [
        "redis_exporter_last_scrape_error{err=\"\"} 0",
        "redis_up 1",
        "redis_db_keys{db=\"db0\"} 1",
        "redis_commands_total{cmd=\"set\"} 1",
        "redis_commands_failed_calls_total{cmd=\"incr\"} 1",
        "redis_errors_total{err=\"ERR\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is missing:\n{text}");
    }
}
