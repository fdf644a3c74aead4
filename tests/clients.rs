//! Many clients, and strange ones: the others keep being served.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::process::{KillOnPanic, raise_open_files};
use common::raw::{encode, encode_into};
use common::{Raw, Reply, Rng, Server, eventually, seed_from_env, skip};

fn pong() -> Reply {
    Reply::Simple(b"PONG".to_vec())
}

#[test]
fn one_client_too_many_is_told_so() {
    let server = Server::start(&[("maxclients", "5")]);
    let mut clients: Vec<Raw> = (0..5).map(|_| server.raw()).collect();
    for client in &mut clients {
        assert_eq!(client.run("PING"), pong());
    }
    let mut extra = server.raw();
    assert_eq!(extra.read_until_closed(), b"-ERR max number of clients reached\r\n");
    for client in &mut clients {
        assert_eq!(client.run("PING"), pong(), "those who were there are served on");
    }
    clients.pop();
    eventually("a place has become free", || {
        let mut client = server.raw();
        // The answer of a full server may be a reset, when it closes with this unread.
        client.try_send(&encode(&["PING"])).is_ok()
            && client.try_frame().is_ok_and(|frame| frame.reply == pong())
    });
}

#[test]
fn an_idle_client_is_let_go_and_a_busy_one_is_not() {
    let server = Server::start(&[("timeout", "1")]);
    let (mut idle, mut busy) = (server.raw(), server.raw());
    let start = Instant::now();
    assert_eq!(idle.run("PING"), pong());
    let let_go = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(idle.is_closed());
            let_go.store(true, Ordering::Relaxed);
        });
        while !let_go.load(Ordering::Relaxed) {
            assert_eq!(busy.run("PING"), pong());
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(start.elapsed() >= Duration::from_millis(900), "not before its time");
    assert_eq!(busy.run("PING"), pong());
}

#[test]
fn ten_thousand_idle_clients_do_not_keep_the_others_waiting() {
    const IDLE: usize = 10_000;
    let what = "ten_thousand_idle_clients_do_not_keep_the_others_waiting";
    if !raise_open_files(IDLE as u64 + 200) {
        return skip(what, "the limit of open files cannot be raised to 10,200");
    }
    let server = Server::start(&[("maxclients", "10100")]);
    let granted: usize = server.run("CONFIG GET maxclients").items()[1].text().parse().unwrap();
    assert!(granted > IDLE, "the server got room for {granted} clients");
    let idle: Vec<Raw> = (0..IDLE).map(|_| server.raw()).collect();
    let mut client = server.raw();
    eventually("all are connected", || {
        client.run("INFO clients").text().contains(&format!("connected_clients:{}", IDLE + 1))
    });
    for at in 0..1_000 {
        assert_eq!(client.command(&["SET", "key", &at.to_string()]), Reply::Simple(b"OK".into()));
        assert_eq!(client.run("GET key"), Reply::Bulk(at.to_string().into_bytes()));
    }
    // The idle ones are alive too.
    for mut client in idle.into_iter().step_by(999) {
        assert_eq!(client.run("PING"), pong());
    }
}

#[test]
fn a_client_that_never_reads_does_not_keep_the_others_waiting() {
    let server = Server::start(&[("appendfsync", "no")]);
    let mut client = server.raw();
    assert!(client.command(&[b"SET".as_slice(), b"large", &vec![b'x'; 1 << 20]]).is_ok());
    let mut silent = server.raw();
    silent.send(&encode(&["GET", "large"]).repeat(200));
    for _ in 0..200 {
        assert_eq!(client.run("PING"), pong());
        assert!(client.run("INCR counter").int() > 0);
    }
    drop(silent);
    eventually("the silent client is gone", || {
        client.run("INFO clients").text().contains("connected_clients:1\r\n")
    });
}

#[test]
fn a_client_beyond_its_output_limit_is_let_go() {
    let server =
        Server::start(&[("appendfsync", "no"), ("client-output-buffer-limit", "normal 8mb 0 0")]);
    let mut client = server.raw();
    assert!(client.command(&[b"SET".as_slice(), b"large", &vec![b'x'; 1 << 20]]).is_ok());
    let mut silent = server.raw();
    // 100 MiB of replies: far more than the limit and the kernel's buffers hold. The server may
    // let go before the last request is sent.
    let _ = silent.try_send(&encode(&["GET", "large"]).repeat(100));
    eventually("the silent client is let go", || {
        client.run("INFO clients").text().contains("connected_clients:1\r\n")
    });
    assert_eq!(client.run("PING"), pong());
}

#[test]
fn garbage_on_the_port_changes_nothing() {
    let seed = seed_from_env("CLIENTS_SEED");
    eprintln!("CLIENTS_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    assert!(client.run("SET key value").is_ok());
    let mut open = Vec::new();
    for _ in 0..300 {
        let mut stranger = server.raw();
        let len = rng.below(2_000);
        let mut bytes = rng.bytes(len);
        if rng.one_in(3) {
            // A beginning that looks like the protocol.
            let start =
                [&b"*3\r\n$3\r\nSET\r\n$"[..], b"*1000\r\n", b"*2\r\n$4\r\nECHO\r\n$10\r\n"];
            bytes.splice(0..0, rng.pick(&start).iter().copied());
        }
        // The server may close as soon as it has seen enough.
        let _ = stranger.try_send(&bytes);
        if rng.one_in(2) {
            open.push(stranger);
        }
        assert_eq!(client.run("GET key"), Reply::Bulk(b"value".to_vec()));
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(1));
    assert!(server.is_running());
}

/// The hog's pipeline is long enough to last; the others' commands are answered in between.
#[test]
fn a_client_that_pipelines_without_pause_does_not_keep_the_others_waiting() {
    let server = Server::start(&[("appendfsync", "no")]);
    let stop = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let _kill = KillOnPanic(server.pid());
        let mut hog = server.raw();
        let mut reader = hog.split();
        let mut pipeline = Vec::new();
        for _ in 0..10_000 {
            encode_into(&mut pipeline, &["INCR", "counter"]);
        }
        let (stop, answered) = (&stop, &answered);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                hog.send(&pipeline);
            }
            hog.finish_sending();
        });
        scope.spawn(move || {
            while reader.try_frame().is_ok() {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        eventually("the hog is served", || answered.load(Ordering::Relaxed) > 1_000);
        let mut client = server.raw();
        let mut slowest = Duration::ZERO;
        for _ in 0..200 {
            let asked = Instant::now();
            assert_eq!(client.run("PING"), pong());
            slowest = slowest.max(asked.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        eprintln!("the slowest PING beside the hog took {slowest:?}");
        // A bound for starvation, not for speed: a fair server is a hundred times faster.
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    });
    assert!(answered.load(Ordering::Relaxed) >= 10_000);
}

#[test]
fn half_a_command_keeps_nobody_waiting() {
    let server = Server::start(&[]);
    let mut slow = server.raw();
    slow.send(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$100000\r\nbegin");
    for _ in 0..100 {
        assert_eq!(server.run("PING"), pong());
    }
    slow.send(&vec![b'x'; 99_995]);
    slow.send(b"\r\n");
    assert!(slow.reply().is_ok());
    assert_eq!(slow.run("STRLEN key"), Reply::Int(100_000));
}

#[test]
fn a_client_can_be_killed_by_another() {
    let server = Server::start(&[]);
    let (mut victim, mut killer) = (server.raw(), server.raw());
    let id = victim.run("CLIENT ID").int();
    assert_eq!(killer.command(&["CLIENT", "KILL", "ID", &id.to_string()]), Reply::Int(1));
    assert!(victim.is_closed());
    assert_eq!(killer.run("PING"), pong());
}

#[test]
fn a_unix_socket_serves_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let mut server = Server::start(&[("unixsocket", path.to_str().expect("plain text"))]);
    let mut client = Raw::connect_unix(&path).expect("connect to the unix socket");
    assert!(client.run("SET key value").is_ok());
    assert_eq!(server.run("GET key"), Reply::Bulk(b"value".to_vec()));
    server.stop();
    assert!(!path.exists(), "the socket goes with the server");
}

#[test]
fn ipv6_serves_too() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return skip("ipv6_serves_too", "no IPv6 loopback here");
    }
    let server = Server::start(&[("bind", "127.0.0.1 ::1")]);
    let client = redis::Client::open(format!("redis://[::1]:{}/", server.port()));
    let mut connection = client.and_then(|client| client.get_connection()).expect("connect");
    let pong: String = redis::cmd("PING").query(&mut connection).unwrap();
    assert_eq!(pong, "PONG");
    assert_eq!(server.run("PING").text(), "PONG", "and IPv4 beside it");
}

#[test]
fn a_pause_holds_writes_back_and_lets_reads_pass() {
    let server = Server::start(&[]);
    let (mut writer, mut second, mut operator) = (server.raw(), server.raw(), server.raw());
    let id = writer.run("CLIENT ID").int();
    assert!(operator.run("SET list x").is_ok());
    // At once, so that the key has not lapsed before the pause.
    operator.send(b"SET key before PX 60\r\nCLIENT PAUSE 100000 WRITE\r\n");
    assert!(operator.reply().is_ok() && operator.reply().is_ok());
    let large = vec![b'v'; 100_000];
    writer.send(&encode(&[b"SET".as_slice(), b"large", &large]));
    writer.send(&encode(&["GET", "large"]));
    eventually("the writer waits", || {
        let line = operator.command(&["CLIENT", "LIST", "ID", &id.to_string()]);
        line.text().contains(" flags=b ") && line.text().contains(" cmd=set ")
    });
    second.send(&encode(&["APPEND", "list", "y"]));
    assert_eq!(operator.run("GET list"), Reply::Bulk(b"x".to_vec()));
    assert_eq!(operator.run("EXISTS large"), Reply::Int(0));
    assert_eq!(operator.command(&["CLIENT", "UNBLOCK", &id.to_string()]), Reply::Int(0));
    eventually("the key has lapsed", || operator.run("EXISTS key") == Reply::Int(0));
    assert_eq!(operator.run("DBSIZE"), Reply::Int(2), "lapsed keys stay during a pause");
    // What cannot change anything is queued and run; what can waits even to be queued.
    let mut reader = server.raw();
    for line in ["MULTI", "GET list", "EXEC"] {
        assert!(!reader.run(line).is_error());
    }
    // A shorter pause does not shorten the one in force.
    assert!(operator.run("CLIENT PAUSE 1 WRITE").is_ok());
    let a_while = Duration::from_millis(30);
    assert!(writer.is_silent_for(a_while) && second.is_silent_for(a_while));
    assert!(operator.run("CLIENT UNPAUSE").is_ok());
    assert!(writer.reply().is_ok());
    assert_eq!(writer.reply(), Reply::Bulk(large));
    assert_eq!(second.reply(), Reply::Int(2));
    eventually("the lapsed key is removed", || operator.run("DBSIZE") == Reply::Int(2));
}

#[test]
fn a_pause_of_all_ends_by_itself() {
    let server = Server::start(&[]);
    let (mut client, mut operator) = (server.raw(), server.raw());
    let asked = Instant::now();
    assert!(operator.run("CLIENT PAUSE 300").is_ok());
    // Errors are told at once; all else waits, the end of the pause itself too.
    assert!(client.run("NOSUCH").is_error());
    client.send(&encode(&["PING"]));
    operator.send(&encode(&["CLIENT", "UNPAUSE"]));
    assert_eq!(client.reply(), pong());
    assert!(operator.reply().is_ok());
    assert!(asked.elapsed() >= Duration::from_millis(290), "{:?}", asked.elapsed());
}

#[test]
fn a_client_that_goes_during_a_pause_writes_nothing() {
    let server = Server::start(&[]);
    let (mut client, mut operator) = (server.raw(), server.raw());
    assert!(operator.run("CLIENT PAUSE 100000 WRITE").is_ok());
    client.send(&encode(&["SET", "key", "value"]));
    drop(client);
    eventually("it is gone", || {
        operator.run("INFO clients").text().contains("connected_clients:1\r\n")
    });
    assert!(operator.run("CLIENT UNPAUSE").is_ok());
    assert_eq!(operator.run("DBSIZE"), Reply::Int(0));
}

#[test]
fn waits_are_ended_from_outside() {
    let server = Server::start(&[]);
    let (mut client, mut operator) = (server.raw(), server.raw());
    let id = client.run("CLIENT ID").int().to_string();
    for (line, timed_out) in [
        ("WAIT 1 0", Reply::Int(0)),
        ("WAITAOF 0 1 0", Reply::Array(vec![Reply::Int(1), Reply::Int(0)])),
    ] {
        for how in ["TIMEOUT", "ERROR"] {
            client.send(&encode(&line.split(' ').collect::<Vec<_>>()));
            eventually("the client waits", || {
                operator.command(&["CLIENT", "UNBLOCK", &id, how]) == Reply::Int(1)
            });
            let reply = client.reply();
            if how == "ERROR" {
                assert_eq!(reply.error(), "UNBLOCKED client unblocked via CLIENT UNBLOCK");
            } else {
                assert_eq!(reply, timed_out, "{line}");
            }
            assert_eq!(client.run("PING"), pong());
        }
    }
    assert_eq!(operator.command(&["CLIENT", "UNBLOCK", &id]), Reply::Int(0));
    // The end of a wait is a reply like any other to one who wants none.
    client.send(&encode(&["CLIENT", "REPLY", "SKIP"]));
    client.send(&encode(&["WAIT", "1", "1"]));
    assert_eq!(client.run("PING"), pong());
}

#[test]
fn the_largest_clients_go_when_all_hold_too_much() {
    let server = Server::start(&[("maxmemory-clients", "8mb")]);
    let mut operator = server.raw();
    let (mut spared, mut large) = (server.raw(), server.raw());
    assert!(spared.run("CLIENT NO-EVICT ON").is_ok());
    assert!(large.run("CLIENT SETNAME large").is_ok());
    let mut small = server.raw();
    small.send(b"*2\r\n$4\r\nECHO\r\n$100000\r\nbegin");
    // A request without its end: 3 MB for one, 6 MB for the other.
    spared.send(b"*2\r\n$4\r\nECHO\r\n$3000000\r\n");
    spared.send(&vec![b'x'; 2_999_999]);
    // It may be closed before it has sent all.
    let _ = large.try_send(b"*2\r\n$4\r\nECHO\r\n$6000000\r\n");
    let _ = large.try_send(&vec![b'x'; 5_999_999]);
    eventually("one is evicted", || {
        operator.run("INFO stats").text().contains("evicted_clients:1\r\n")
    });
    assert!(large.is_closed());
    assert_eq!(operator.run("PING"), pong(), "small ones stay");
    spared.send(b"x\r\n");
    assert_eq!(spared.reply().bytes().len(), 3_000_000);
    // Without the protection it is its turn.
    assert!(spared.run("CLIENT NO-EVICT OFF").is_ok());
    let _ = spared.try_send(b"*2\r\n$4\r\nECHO\r\n$9000000\r\n");
    let _ = spared.try_send(&vec![b'x'; 8_999_999]);
    eventually("the other is evicted", || {
        operator.run("INFO stats").text().contains("evicted_clients:2\r\n")
    });
    small.send(&[vec![b'x'; 99_995], b"\r\n".to_vec()].concat());
    assert_eq!(small.reply().bytes().len(), 100_000);
}

#[test]
fn a_queue_for_exec_counts_towards_the_query_buffer() {
    let server = Server::start(&[("client-query-buffer-limit", "1mb")]);
    let mut client = server.raw();
    assert!(client.run("MULTI").is_ok());
    let value = vec![b'v'; 10_000];
    // The server lets go before all is sent.
    for _ in 0..300 {
        let _ = client.try_send(&encode(&[b"SET".as_slice(), b"key", &value]));
    }
    eventually("it is let go", || {
        let stats = server.run("INFO stats");
        stats.text().contains("client_query_buffer_limit_disconnections:1\r\n")
    });
}

#[test]
fn the_slow_log_tells_who_and_what() {
    let server = Server::start(&[
        ("enable-debug-command", "yes"),
        ("slowlog-log-slower-than", "50000"),
        ("slowlog-max-len", "2"),
    ]);
    let mut client = server.raw();
    assert!(client.run("CLIENT SETNAME me").is_ok());
    for line in ["PING", "DEBUG SLEEP 0.06", "MULTI", "DEBUG SLEEP 0.07", "PING", "EXEC"] {
        assert!(!client.run(line).is_error());
    }
    let log = client.run("SLOWLOG GET");
    assert_eq!(log.items().len(), 2, "{log:?}: EXEC itself is not in it, nor what was fast");
    for (entry, (slept, at_least)) in log.items().iter().zip([("0.07", 70_000), ("0.06", 60_000)]) {
        let parts = entry.items();
        assert!(parts[2].int() >= at_least, "{entry:?}");
        assert_eq!(parts[3].items()[2].text(), slept);
        assert!(parts[4].text().starts_with("127.0.0.1:"), "{entry:?}");
        assert_eq!(parts[5].text(), "me");
    }
    assert!(server.run("CONFIG SET slowlog-max-len 1").is_ok());
    client.run("DEBUG SLEEP 0.05");
    assert_eq!(client.run("SLOWLOG LEN"), Reply::Int(1));
}
