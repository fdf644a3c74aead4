//! The gate: no reply leaves before its promise is met, and nobody else waits for it.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::process::KillOnPanic;
use common::raw::encode;
use common::{Launch, Raw, Reply, Server, SlowDisk, eventually};

/// Longer than the promise of `everysec` with its sync ahead of it.
const PAST_THE_PROMISE: Duration = Duration::from_millis(1_700);

fn start(policy: &str) -> (tempfile::TempDir, SlowDisk, Server) {
    let folder = tempfile::tempdir().expect("a directory");
    let disk = SlowDisk::build(folder.path());
    let server = disk.under(Launch::new().flag("appendfsync", policy)).start();
    (folder, disk, server)
}

/// PING and INFO do not wait for the log on a connection that waits for nothing.
fn others_are_served(server: &Server) {
    let mut other = server.raw();
    // The disk hangs until the test lets it go on: who waited for it would never be answered.
    for _ in 0..20 {
        assert_eq!(other.run("PING"), Reply::Simple(b"PONG".to_vec()));
        assert!(matches!(other.run("INFO persistence"), Reply::Bulk(_)));
    }
}

fn is_silent(client: &mut Raw) -> bool {
    client.is_silent_for(Duration::from_millis(200))
}

#[test]
fn always_withholds_replies_until_the_disk_has_the_write() {
    let (_folder, disk, server) = start("always");
    let mut writer = server.raw();
    assert!(writer.run("SET key first").is_ok());
    disk.hang();
    writer.send(b"SET key second\r\nGET key\r\nPING\r\n");
    assert!(is_silent(&mut writer), "acknowledged though the disk hangs");
    others_are_served(&server);
    // What a client reads, a power cut must not undo: a read waits like the write it would reveal.
    let mut reader = server.raw();
    reader.send(b"GET key\r\n");
    assert!(is_silent(&mut reader), "revealed though the disk hangs");
    let mut transaction = server.raw();
    transaction.send(b"MULTI\r\nGET key\r\nEXEC\r\n");
    assert!(transaction.reply().is_ok());
    assert_eq!(transaction.reply(), Reply::Simple(b"QUEUED".to_vec()));
    assert!(is_silent(&mut transaction), "revealed by EXEC though the disk hangs");
    disk.go_on();
    assert!(writer.reply().is_ok());
    assert_eq!(writer.reply(), Reply::Bulk(b"second".to_vec()));
    assert_eq!(writer.reply(), Reply::Simple(b"PONG".to_vec()));
    assert_eq!(reader.reply(), Reply::Bulk(b"second".to_vec()));
    assert_eq!(transaction.reply(), Reply::Array(vec![Reply::Bulk(b"second".to_vec())]));
}

#[test]
fn everysec_withholds_replies_once_its_second_is_over() {
    let (_folder, disk, server) = start("everysec");
    let mut writer = server.raw();
    assert!(writer.run("SET key first").is_ok());
    disk.hang();
    let begun = Instant::now();
    // Within the second replies go on; they end when the oldest un-synced write is a second old.
    let mut answered = 0;
    loop {
        writer.send(b"INCR counter\r\n");
        // Whoever is slow is answered at the latest in the turn that answers others.
        if writer.is_silent_for(Duration::from_millis(300)) {
            others_are_served(&server);
            if is_silent(&mut writer) {
                break;
            }
        }
        assert!(matches!(writer.reply(), Reply::Int(_)));
        answered += 1;
        assert!(begun.elapsed() < Duration::from_secs(20), "acknowledged past the promise");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(answered > 0, "nothing has to wait within the second");
    assert!(writer.is_silent_for(PAST_THE_PROMISE), "acknowledged though the disk hangs");
    disk.go_on();
    assert_eq!(writer.reply(), Reply::Int(answered + 1));
}

#[test]
fn no_waits_for_no_disk() {
    let (_folder, disk, server) = start("no");
    disk.hang();
    let mut writer = server.raw();
    for _ in 0..100 {
        assert!(matches!(writer.run("INCR counter"), Reply::Int(_)));
    }
    disk.go_on();
}

/// A change to a laxer policy does not loosen what was promised before.
#[test]
fn the_stricter_promise_counts_when_the_policy_changes() {
    let (_folder, disk, server) = start("always");
    let mut writer = server.raw();
    disk.hang();
    writer.send(b"SET key value\r\n");
    assert!(is_silent(&mut writer));
    assert!(server.raw().run("CONFIG SET appendfsync no").is_ok());
    assert!(is_silent(&mut writer), "the promise was quietly dropped");
    disk.go_on();
    assert!(writer.reply().is_ok());
}

/// The bound on what one connection may have withheld: it is not read from beyond it, nothing is
/// lost, and it is not killed.
#[test]
fn a_pipeline_without_end_is_bounded_while_the_disk_hangs() {
    let (_folder, disk, server) = start("always");
    let value = vec![b'x'; 64 << 10];
    let mut writer = server.raw();
    assert!(writer.command(&[b"SET".as_slice(), b"key", &value]).is_ok());
    disk.hang();
    const GETS: usize = 400;
    writer.send(b"INCR counter\r\n");
    for _ in 0..GETS {
        writer.send(b"GET key\r\n");
    }
    assert!(is_silent(&mut writer));
    let list = server.raw().run("CLIENT LIST").text();
    let withheld = list
        .split("tot-mem=")
        .skip(1)
        .map(|rest| rest.split(' ').next().expect("a figure").parse::<usize>().expect("a number"));
    assert!(withheld.sum::<usize>() < 4 << 20, "{list}");
    disk.go_on();
    assert_eq!(writer.reply(), Reply::Int(1));
    for _ in 0..GETS {
        assert_eq!(writer.reply(), Reply::Bulk(value.clone()));
    }
}

/// Clients that write keep the disk far behind. One that reads has got what it waited for, and was
/// all the same not read from again before the disk had caught up with the writers.
#[test]
fn a_reader_goes_on_while_the_disk_is_far_behind_with_the_writes_of_others() {
    const GETS: usize = 15;
    let (_folder, disk, server) = start("always");
    let value = vec![b'x'; 70_000];
    assert!(server.raw().command(&[b"SET".as_slice(), b"key", &value]).is_ok());
    disk.hang();
    let mut first = server.raw();
    first.send(b"SET first 1\r\n");
    eventually("its sync hangs", || server.info("aof_pending_bio_fsync") == "1");
    let mut reader = server.raw();
    for _ in 0..GETS {
        reader.send(b"GET key\r\n");
    }
    let run = |n: usize| server.info("cmdstat_get").starts_with(&format!("calls={n},"));
    eventually("a megabyte is withheld", || run(GETS));
    reader.send(b"PING\r\n");
    // Between the limit at which writers are held back and that at which they go on.
    let mut writer = server.raw();
    let mut sender = writer.split();
    let sending = std::thread::spawn(move || {
        let value = vec![b'y'; 1 << 20];
        (0..40).for_each(|_| sender.send(&encode(&[b"SET".as_slice(), b"other", &value])));
    });
    let offset = |name: &str| server.info(name).parse::<u64>().expect("a number");
    eventually("the disk is far behind", || {
        offset("aof_offset_appended") - offset("aof_offset_durable") >= 40 << 20
    });
    sending.join().expect("all was sent");
    disk.let_one_go_on();
    assert!(first.reply().is_ok());
    for _ in 0..GETS {
        assert_eq!(reader.reply(), Reply::Bulk(value.clone()));
    }
    assert_eq!(reader.reply(), Reply::Simple(b"PONG".to_vec()), "it is read from again");
    // What it reads now, a power cut could undo.
    reader.send(b"STRLEN other\r\n");
    assert!(is_silent(&mut reader), "revealed though the disk hangs");
    assert!(is_silent(&mut writer), "acknowledged though the disk hangs");
    disk.go_on();
    assert_eq!(reader.reply(), Reply::Int(1 << 20));
    (0..40).for_each(|_| assert!(writer.reply().is_ok()));
}

fn acks(local: i64) -> Reply {
    Reply::Array(vec![Reply::Int(local), Reply::Int(0)])
}

/// It starts a sync by itself, even where the policy never does, and is true to its word.
#[test]
fn waitaof_answers_when_the_disk_has_the_callers_writes() {
    for policy in ["no", "everysec"] {
        let (_folder, disk, server) = start(policy);
        let mut writer = server.raw();
        assert_eq!(writer.run("WAITAOF 1 0 0"), acks(1), "nothing was written yet");
        disk.hang();
        assert!(writer.run("SET key value").is_ok());
        writer.send(b"WAITAOF 1 0 0\r\nPING\r\n");
        assert!(is_silent(&mut writer), "{policy}: answered though the disk hangs");
        others_are_served(&server);
        assert_eq!(server.info("blocked_clients"), "1");
        disk.go_on();
        assert_eq!(writer.reply(), acks(1));
        assert_eq!(writer.reply(), Reply::Simple(b"PONG".to_vec()), "what came behind it");
        let (appended, durable) =
            (server.info("aof_offset_appended"), server.info("aof_offset_durable"));
        assert_eq!(appended, durable);
    }
}

#[test]
fn waitaof_gives_up_when_its_time_is_over() {
    let (_folder, disk, server) = start("no");
    let mut writer = server.raw();
    disk.hang();
    assert!(writer.run("SET key value").is_ok());
    assert_eq!(writer.run("WAITAOF 1 0 50"), acks(0));
    // In a transaction nothing can wait.
    writer.send(b"MULTI\r\nWAITAOF 1 0 0\r\nEXEC\r\n");
    assert!(writer.reply().is_ok());
    assert_eq!(writer.reply(), Reply::Simple(b"QUEUED".to_vec()));
    assert_eq!(writer.reply(), Reply::Array(vec![acks(0)]));
    // One that goes away while it waits is not waited for.
    let mut gone = server.raw();
    assert!(gone.run("SET other value").is_ok());
    gone.send(b"WAITAOF 1 0 0\r\n");
    assert!(is_silent(&mut gone));
    drop(gone);
    common::eventually("the client that left is forgotten", || {
        server.info("blocked_clients") == "0"
    });
    disk.go_on();
    assert_eq!(writer.run("WAITAOF 1 0 0"), acks(1));
    assert_eq!(writer.run("WAITAOF 1 1 50"), acks(1), "there are no replicas to wait for");
    assert_eq!(writer.run("WAITAOF 0 0 0"), acks(1));
}

/// It once told of the writes before the transaction only, though those in it are the caller's too.
#[test]
fn waitaof_in_a_transaction_does_not_vouch_for_its_writes() {
    let server = Launch::new().flag("appendfsync", "no").start();
    let mut writer = server.raw();
    writer.send(b"MULTI\r\nWAITAOF 1 0 0\r\nSET key value\r\nWAITAOF 1 0 0\r\nEXEC\r\n");
    for _ in 0..4 {
        assert!(!writer.reply().is_error());
    }
    let ok = Reply::Simple(b"OK".to_vec());
    assert_eq!(writer.reply(), Reply::Array(vec![acks(1), ok, acks(0)]));
    assert_eq!(writer.run("WAITAOF 1 0 0"), acks(1));
}

/// A client that sends without a pause is answered while it sends, never ahead of the disk, and
/// others have their turn.
#[test]
fn a_pipeline_without_end_is_answered_on_the_way_and_lets_others_in() {
    const INCR: &[u8] = b"*2\r\n$4\r\nINCR\r\n$7\r\ncounter\r\n";
    let (_folder, disk, server) = start("always");
    let over = AtomicBool::new(false);
    let mut replies = server.raw();
    let mut sender = replies.split();
    let durable = || server.info("aof_offset_durable").parse::<i64>().expect("an offset");
    std::thread::scope(|scope| {
        // Without the server the sender ends.
        let _guard = KillOnPanic(server.pid());
        let sending = scope.spawn(|| {
            let burst = INCR.repeat(1_000);
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                sender.send(&burst);
                sent += 1_000;
            }
            sender.send(b"PING\r\n");
            sent
        });
        let mut answered = 0;
        let take = |replies: &mut Raw, answered: &mut i64, count: i64| {
            for _ in 0..count {
                *answered += 1;
                assert_eq!(replies.reply(), Reply::Int(*answered), "one by one, none left out");
            }
        };
        let mut other = server.raw();
        for _ in 0..10 {
            // It goes on sending until it is told, so these come while it does.
            take(&mut replies, &mut answered, 2_000);
            assert!(other.run("SET key value").is_ok());
        }
        disk.hang();
        while !is_silent(&mut replies) {
            take(&mut replies, &mut answered, 1);
        }
        assert!(durable() >= answered * INCR.len() as i64, "answered {answered} ahead of the disk");
        others_are_served(&server);
        disk.go_on();
        take(&mut replies, &mut answered, 10_000);
        assert!(other.run("SET key value").is_ok());
        over.store(true, Ordering::Relaxed);
        let pong = loop {
            match replies.reply() {
                Reply::Int(_) => answered += 1,
                pong => break pong,
            }
        };
        assert_eq!(pong, Reply::Simple(b"PONG".to_vec()));
        assert_eq!(answered, sending.join().expect("the sender"), "each was answered");
    });
}

#[test]
fn waitaof_refuses_what_makes_no_sense() {
    let server = Launch::new().flag("appendonly", "no").start();
    for (line, error) in [
        ("WAITAOF 1 0", "ERR wrong number of arguments for 'waitaof' command"),
        ("WAITAOF 2 0 0", "ERR value is out of range, value must between 0 and 1"),
        ("WAITAOF x 0 0", "ERR value is not an integer or out of range"),
        ("WAITAOF 0 -1 0", "ERR value is out of range, must be positive"),
        ("WAITAOF 0 0 x", "ERR timeout is not an integer or out of range"),
        ("WAITAOF 0 0 -1", "ERR timeout is negative"),
        (
            "WAITAOF 1 0 0",
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        ),
    ] {
        assert_eq!(server.run(line).error(), error, "{line}");
    }
}

#[test]
fn switching_the_log_is_answered_when_it_is_done() {
    let (_folder, disk, server) = start("everysec");
    let mut operator = server.raw();
    assert!(server.raw().run("SET key value").is_ok());
    disk.hang();
    operator.send(b"CONFIG SET appendonly no\r\n");
    assert!(is_silent(&mut operator), "answered though the disk hangs");
    disk.go_on();
    assert!(operator.reply().is_ok());
    assert_eq!(server.info("aof_enabled"), "0");
    disk.hang();
    operator.send(b"CONFIG SET appendonly yes\r\n");
    assert!(is_silent(&mut operator), "answered though the disk hangs");
    disk.go_on();
    assert!(operator.reply().is_ok());
    let file = String::from_utf8_lossy(&server.aof()).into_owned();
    assert!(file.contains("value"), "the new file holds everything: {file}");
}

/// What MONITOR shows reveals a write like a reply does.
#[test]
fn monitor_shows_a_write_only_when_the_disk_has_it() {
    let (_folder, disk, server) = start("always");
    let mut monitor = server.raw();
    assert!(monitor.run("MONITOR").is_ok());
    let mut writer = server.raw();
    assert!(writer.run("SET key first").is_ok());
    let line = monitor.reply().text();
    assert!(line.ends_with(r#"] "SET" "key" "first""#), "{line}");
    disk.hang();
    writer.send(b"SET key second\r\n");
    assert!(is_silent(&mut monitor), "shown though the disk hangs");
    disk.go_on();
    assert!(writer.reply().is_ok());
    let line = monitor.reply().text();
    assert!(line.ends_with(r#"] "SET" "key" "second""#), "{line}");
}
