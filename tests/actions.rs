//! What commands ask of the server beyond the keyspace, and what their clients are told when it
//! cannot be done: inside a transaction as outside.

mod common;

use std::net::TcpListener;
use std::time::Duration;

use common::raw::encode;
use common::{FaultySystem, Launch, Raw, Reply, Server, SlowDisk, eventually};

const CANNOT_REWRITE: &str = "ERR Can't execute an AOF background rewriting. Please check the \
                              server logs for more information.";
const CANNOT_TURN_ON: &str = "ERR CONFIG SET failed (possibly related to argument 'appendonly') - \
                              Unable to turn on AOF. Check server logs.";

/// Runs `lines` as a transaction; the elements of EXEC's reply.
fn exec(client: &mut Raw, lines: &[&str]) -> Vec<Reply> {
    assert!(client.run("MULTI").is_ok());
    for line in lines {
        assert_eq!(client.run(line), Reply::Simple(b"QUEUED".to_vec()), "{line}");
    }
    match client.run("EXEC") {
        Reply::Array(items) => items,
        other => panic!("{other:?}"),
    }
}

fn is_silent(client: &mut Raw) -> bool {
    client.is_silent_for(Duration::from_millis(200))
}

/// The error used to be logged only, and going back took the later change with it.
#[test]
fn a_failed_config_set_in_a_transaction_takes_back_itself_alone() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound").port();
    let wrong = format!("CONFIG SET port {taken}");
    let both = format!("CONFIG SET hz 77 port {taken}");
    let lines = [
        "CONFIG SET hz 50",
        &wrong,
        "SET key value",
        "CONFIG SET timeout 9",
        &both,
        "CONFIG SET timeout 11",
    ];
    let refused = "ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen \
                   on this port. Check server logs.";
    let servers = [Some(Launch::new()), Launch::reference("CONFIG SET inside EXEC")];
    for server in servers.into_iter().flatten().map(Launch::start) {
        let mut client = server.raw();
        let replies = exec(&mut client, &lines);
        for (line, reply) in lines.iter().zip(&replies) {
            match line.contains("port") {
                true => assert_eq!(reply.error(), refused, "{line}"),
                false => assert!(reply.is_ok(), "{line}: {reply:?}"),
            }
        }
        let values = ["hz", "timeout", "port"]
            .map(|name| client.run(&format!("CONFIG GET {name}")).items()[1].text());
        assert_eq!(values, ["50", "11", &server.port().to_string()]);
        assert!(client.run("SET key other").is_ok(), "what follows is not disturbed");
    }
}

#[test]
fn the_last_of_several_switches_of_the_policy_counts() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    let lines = ["CONFIG SET appendfsync no", "SET a 1", "CONFIG SET appendfsync always"];
    assert!(exec(&mut client, &lines).iter().all(Reply::is_ok));
    assert!(client.run("SET a 2").is_ok());
    assert_eq!(server.info("aof_offset_appended"), server.info("aof_offset_durable"));
}

/// The whole reply waits for the log, and the one error stands in its place.
#[test]
fn a_transaction_hears_how_switching_the_log_went() {
    let folder = tempfile::tempdir().expect("a directory");
    let system = FaultySystem::build(folder.path());
    let server = system.under(Launch::new().flag("appendonly", "no")).start();
    let mut client = server.raw();
    let lines = ["SET key value", "CONFIG SET appendonly yes", "CONFIG SET hz 20", "GET key"];
    system.fail_forks(true);
    let replies = exec(&mut client, &lines);
    assert!(replies[0].is_ok() && replies[2].is_ok(), "{replies:?}");
    assert_eq!(replies[1].error(), CANNOT_TURN_ON);
    assert_eq!(replies[3], Reply::Bulk(b"value".to_vec()));
    assert_eq!(client.run("CONFIG SET appendonly yes").error(), CANNOT_TURN_ON);
    assert_eq!(client.run("CONFIG GET appendonly").items()[1].text(), "no");
    assert_eq!(client.run("CONFIG GET hz").items()[1].text(), "20");
    system.fail_forks(false);
    let replies = exec(&mut client, &lines);
    assert!(replies[..3].iter().all(Reply::is_ok), "{replies:?}");
    assert_eq!(server.info("aof_enabled"), "1");
    let file = String::from_utf8_lossy(&server.aof()).into_owned();
    assert!(file.contains("value"), "answered when the file held everything: {file}");
}

#[test]
fn a_failed_load_is_told_in_a_transaction() {
    let folder = tempfile::tempdir().expect("a directory");
    let disk = SlowDisk::build(folder.path());
    let launch = Launch::new().flag("appendonly", "no").flag("enable-debug-command", "yes");
    let server = disk.under(launch).start();
    disk.hang();
    let mut operator = server.raw();
    operator.send(b"CONFIG SET appendonly yes\r\n");
    eventually("the rewrite runs", || server.info("aof_rewrite_in_progress") == "1");
    let replies = exec(&mut server.raw(), &["PING", "DEBUG LOADAOF", "PING"]);
    assert_eq!(replies[0], Reply::Simple(b"PONG".to_vec()));
    assert_eq!(replies[1].error(), "ERR an append-only file rewrite is in progress");
    assert_eq!(replies[2], Reply::Simple(b"PONG".to_vec()));
    disk.go_on();
    assert!(operator.reply().is_ok());
    let mut client = server.raw();
    assert!(exec(&mut client, &["SET a 1", "DEBUG LOADAOF", "SET b 2"]).iter().all(Reply::is_ok));
}

/// While the log is being turned on its name leads to what the log held when it was turned off. It
/// used to be loaded in place of all that had happened since, and then rewritten.
#[test]
fn a_log_that_is_being_turned_on_is_not_loaded() {
    let server = Server::start(&[("enable-debug-command", "yes")]);
    let mut client = server.raw();
    assert!(client.run("SET key old").is_ok());
    assert!(client.run("CONFIG SET appendonly no").is_ok());
    assert!(client.run("SET key new").is_ok());
    let replies = exec(&mut client, &["CONFIG SET appendonly yes", "DEBUG LOADAOF"]);
    assert!(replies[0].is_ok());
    assert_eq!(replies[1].error(), "ERR the append-only file is being switched on");
    assert_eq!(client.run("GET key").text(), "new");
    assert!(client.run("DEBUG LOADAOF").is_ok());
    assert_eq!(client.run("GET key").text(), "new");
}

/// It used to say that the rewrite had started before anyone had tried.
#[test]
fn bgrewriteaof_says_how_the_rewrite_began() {
    let folder = tempfile::tempdir().expect("a directory");
    let system = FaultySystem::build(folder.path());
    let server = system.under(Launch::new()).start();
    let mut client = server.raw();
    assert!(client.run("SET key value").is_ok());
    system.fail_forks(true);
    client.send(b"BGREWRITEAOF\r\nPING\r\n");
    assert_eq!(client.reply().error(), CANNOT_REWRITE);
    assert_eq!(client.reply(), Reply::Simple(b"PONG".to_vec()), "what came behind it");
    system.fail_forks(false);
    // The name that the next rewrite's file is to have is taken.
    let names = (1..9).map(|n| format!("appendonly.aof.rewrite-{}-{n}", server.pid()));
    let paths: Vec<_> = names.map(|name| server.path(&name)).collect();
    paths.iter().for_each(|path| std::fs::write(path, "in the way").expect("written"));
    assert_eq!(client.run("BGREWRITEAOF").error(), CANNOT_REWRITE);
    // The server itself removes the one that was in its way.
    paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
    let started = Reply::Simple(b"Background append only file rewriting started".to_vec());
    assert_eq!(client.run("BGREWRITEAOF"), started);
}

/// Only the name of the last command was looked at, and EXEC is not one that writes.
#[test]
fn transactions_are_not_read_without_end_while_the_disk_hangs() {
    const LIMIT: u64 = 64 << 20;
    const SENT: u64 = 5_000;
    let folder = tempfile::tempdir().expect("a directory");
    let disk = SlowDisk::build(folder.path());
    let server = disk.under(Launch::new().flag("appendfsync", "always")).start();
    disk.hang();
    let mut writer = server.raw();
    let mut sender = writer.split();
    // So small that one read takes a whole transaction, and seldom ends between SET and EXEC.
    let value = vec![b'x'; 31_000];
    let sending = std::thread::spawn(move || {
        for _ in 0..SENT {
            sender.send(b"MULTI\r\n");
            sender.send(&encode(&[b"SET".as_slice(), b"key", &value]));
            sender.send(b"EXEC\r\nPING\r\n");
        }
    });
    let unsynced = || {
        let offset = |name: &str| server.info(name).parse::<u64>().expect("a number");
        offset("aof_offset_appended") - offset("aof_offset_durable")
    };
    let input = || server.info("total_net_input_bytes").parse::<u64>().expect("a number");
    eventually("64 MiB are un-synced", || unsynced() >= LIMIT);
    // All that was sent would have been read in this time many times over.
    let mut before = 0;
    eventually("the writer is not read from", || {
        std::thread::sleep(Duration::from_millis(300));
        // INFO itself is a few dozen bytes.
        let now = input();
        now - std::mem::replace(&mut before, now) < 1_000
    });
    assert!(unsynced() < LIMIT + (4 << 20), "{} bytes un-synced", unsynced());
    disk.go_on();
    for _ in 0..SENT {
        assert!(writer.reply().is_ok());
        assert_eq!(writer.reply(), Reply::Simple(b"QUEUED".to_vec()));
        assert!(writer.reply().items()[0].is_ok());
        assert_eq!(writer.reply(), Reply::Simple(b"PONG".to_vec()));
    }
    sending.join().expect("all was sent");
}

fn acks(local: i64) -> Reply {
    Reply::Array(vec![Reply::Int(local), Reply::Int(0)])
}

/// The order in which arguments are judged is Redis's, and so are the words.
#[test]
fn waitaof_refuses_in_the_words_of_redis() {
    const RANGE: &str = "ERR value is out of range, value must between 0 and 1";
    const INTEGER: &str = "ERR value is not an integer or out of range";
    const POSITIVE: &str = "ERR value is out of range, must be positive";
    const TIMEOUT: &str = "ERR timeout is not an integer or out of range";
    const OFF: &str = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    let server = Launch::new().flag("appendonly", "no").start();
    for (arguments, error) in [
        ("", "ERR wrong number of arguments for 'waitaof' command"),
        ("1 0", "ERR wrong number of arguments for 'waitaof' command"),
        ("1 0 0 0", "ERR wrong number of arguments for 'waitaof' command"),
        ("2 x x", RANGE),
        ("-1 0 0", RANGE),
        ("9223372036854775808 0 0", INTEGER),
        ("1.0 0 0", INTEGER),
        ("0 x x", POSITIVE),
        ("0 -1 -1", POSITIVE),
        ("1 0 x", TIMEOUT),
        ("1 0 0.5", TIMEOUT),
        ("0 0 9223372036854775808", TIMEOUT),
        ("0 0 9223372036854775807", "ERR timeout is out of range"),
        ("1 0 -1", "ERR timeout is negative"),
        ("1 0 0", OFF),
        ("1 5 10", OFF),
    ] {
        assert_eq!(server.run(&format!("WAITAOF {arguments}")).error(), error, "{arguments:?}");
    }
    // Without a log nothing is on disk.
    let mut client = server.raw();
    assert_eq!(client.run("WAITAOF 0 0 0"), acks(0));
    assert!(client.run("SET key value").is_ok());
    assert_eq!(client.run("WAITAOF 0 0 0"), acks(0));
    assert_eq!(client.run("WAITAOF 0 1 30"), acks(0));
    assert_eq!(exec(&mut client, &["WAITAOF 0 1 0"]), [acks(0)]);
    assert_eq!(exec(&mut client, &["WAITAOF 1 0 0"])[0].error(), OFF);
}

/// The words and the order of what WAIT and WAITAOF share, where the reference knows only WAIT.
#[test]
fn timeouts_are_judged_as_the_reference_judges_them() {
    let Some(reference) = Launch::reference("time-outs of WAIT") else { return };
    let (reference, server) = (reference.start(), Server::start(&[]));
    let timeouts = ["x", "", "-1", "0.5", "9223372036854775808", "+1", "01"];
    for timeout in timeouts {
        let expected = reference.raw().command(&["WAIT", "0", timeout]);
        let got = server.raw().command(&["WAITAOF", "0", "0", timeout]);
        assert_eq!(got.is_error().then(|| got.error()), Some(expected.error()), "{timeout:?}");
    }
}

#[test]
fn waitaof_answers_alike_in_resp3() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    client.send(b"HELLO 3\r\n");
    assert!(!client.reply().is_error());
    assert!(client.run("SET key value").is_ok());
    client.send(b"WAITAOF 1 0 0\r\n");
    assert_eq!(client.frame().raw, b"*2\r\n:1\r\n:0\r\n");
}

/// A client that waits while the log is switched off is told so, and one that waits while it is
/// switched on waits for the file.
#[test]
fn waitaof_follows_the_log_as_it_is_switched() {
    let folder = tempfile::tempdir().expect("a directory");
    let disk = SlowDisk::build(folder.path());
    let server = disk.under(Launch::new()).start();
    let mut waiting = server.raw();
    assert!(waiting.run("SET key value").is_ok());
    waiting.send(b"WAITAOF 1 1 0\r\n");
    assert!(is_silent(&mut waiting), "there is no replica");
    assert!(server.run("CONFIG SET appendonly no").is_ok());
    assert_eq!(
        waiting.reply().error(),
        "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."
    );
    disk.hang();
    let mut operator = server.raw();
    operator.send(b"CONFIG SET appendonly yes\r\n");
    eventually("the log is being switched on", || server.info("aof_enabled") == "1");
    waiting.send(b"WAITAOF 1 0 0\r\n");
    assert!(is_silent(&mut waiting), "nothing is on disk yet");
    disk.go_on();
    assert!(operator.reply().is_ok());
    assert_eq!(waiting.reply(), acks(1));
}
