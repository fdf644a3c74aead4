//! Many clients, and strange ones: the others keep being served.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::process::raise_open_files;
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
    assert_eq!(idle.run("PING"), pong());
    let start = Instant::now();
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
