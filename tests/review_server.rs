//! What an unfriendly client, a full disk or an unlucky moment must not bring about.

mod common;

use std::net::TcpListener;

use common::process::send_signal;
use common::raw::{encode, encode_into};
use common::{Launch, Reply, Server, eventually};
use nix::sys::resource::{RLIM_INFINITY, Resource};
use nix::sys::signal::Signal;

fn ok() -> Reply {
    Reply::Simple(b"OK".to_vec())
}

fn bulk(bytes: &[u8]) -> Reply {
    Reply::Bulk(bytes.to_vec())
}

/// Redis never looks at the two bytes behind a number or an argument. What it would not write
/// itself must not get into the log, where it could not be read again.
#[test]
fn requests_with_odd_line_ends_survive_a_restart() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    client.send(b"*3\r.$3\r.SET\r\n$1\r\na\r\n$1\r\n1\r\n");
    assert_eq!(client.reply(), ok());
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n2..PING\r\n");
    assert_eq!(client.reply(), ok());
    assert_eq!(client.reply(), Reply::Simple(b"PONG".to_vec()));
    assert_eq!(server.run("SET c 3"), ok());
    server.kill9();
    server.restart();
    assert_eq!(server.run("MGET a b c"), Reply::Array([b"1", b"2", b"3"].map(|v| bulk(v)).into()));
}

/// Limits the length of the files that the server may write; none without a limit.
fn limit_files(server: &Server, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: RLIM_INFINITY };
    let resource = Resource::RLIMIT_FSIZE as libc::__rlimit_resource_t;
    // SAFETY: the call reads one struct that lives through it.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::prlimit(server.pid() as libc::pid_t, resource, &limit, std::ptr::null_mut())
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn while_the_log_takes_nothing_writers_are_told_and_readers_served() {
    let server = Server::start(&[]);
    assert_eq!(server.run("SET a 1"), ok());
    limit_files(&server, server.aof().len() as u64);
    let mut withheld = server.raw();
    withheld.send(&encode(&["SET", "b", "2"]));
    let mut client = server.raw();
    eventually("the server knows that it cannot write", || {
        client.run("INFO persistence").text().contains("aof_last_write_status:err")
    });
    let refused = "MISCONF Errors writing to the AOF file: File too large";
    assert_eq!(client.run("SET c 3").error(), refused);
    assert_eq!(client.run("GET a"), bulk(b"1"));
    let mut pipeline = encode(&["GET", "a"]);
    encode_into(&mut pipeline, &["SET", "c", "3"]);
    encode_into(&mut pipeline, &["GET", "a"]);
    encode_into(&mut pipeline, &["MULTI"]);
    encode_into(&mut pipeline, &["SET", "c", "3"]);
    encode_into(&mut pipeline, &["EXEC"]);
    client.send(&pipeline);
    assert_eq!(client.reply(), bulk(b"1"));
    assert_eq!(client.reply().error(), refused);
    assert_eq!(client.reply(), bulk(b"1"));
    assert_eq!(client.reply(), ok());
    assert_eq!(client.reply().error(), refused);
    assert!(client.reply().error().starts_with("EXECABORT "));
    let mut pipeline = encode(&["MULTI"]);
    encode_into(&mut pipeline, &["GET", "a"]);
    encode_into(&mut pipeline, &["EXEC"]);
    client.send(&pipeline);
    assert_eq!(client.reply(), ok());
    assert_eq!(client.reply(), Reply::Simple(b"QUEUED".to_vec()));
    assert_eq!(client.reply(), Reply::Array(vec![bulk(b"1")]));
    limit_files(&server, RLIM_INFINITY);
    assert_eq!(withheld.reply(), ok(), "what was withheld is said once it stands in the log");
    assert_eq!(client.run("GET b"), bulk(b"2"));
}

#[test]
fn nothing_is_run_or_acknowledged_behind_a_shutdown() {
    let mut server = Server::start(&[("appendfsync", "always")]);
    let mut client = server.raw();
    let mut pipeline = encode(&["SET", "before", "1"]);
    encode_into(&mut pipeline, &["SHUTDOWN"]);
    encode_into(&mut pipeline, &["SET", "behind", "1"]);
    client.send(&pipeline);
    assert_eq!(client.read_until_closed(), b"+OK\r\n");
    assert!(server.wait_exit().success());
    server.restart();
    assert_eq!(server.run("EXISTS before behind"), Reply::Int(1));
}

#[test]
fn a_failed_config_set_leaves_the_policy_in_force() {
    let server = Server::start(&[("appendfsync", "always")]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let mut client = server.raw();
    for order in ["appendfsync no port", "loglevel warning appendfsync no port"] {
        let reply = client.run(&format!("CONFIG SET {order} {port}"));
        assert!(reply.error().starts_with("ERR CONFIG SET failed"), "{reply:?}");
    }
    assert_eq!(client.run("CONFIG GET appendfsync").items()[1], bulk(b"always"));
    for _ in 0..20 {
        assert_eq!(client.run("SET a 1"), ok());
        let info = client.run("INFO persistence").text();
        let offset = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} in {info}")).to_owned()
        };
        assert_eq!(offset("aof_offset_durable:"), offset("aof_offset_appended:"));
    }
    assert!(server.raw().run("PING") == Reply::Simple(b"PONG".to_vec()), "the old port serves");
}

#[test]
fn a_stop_during_a_rewrite_leaves_no_file_of_it() {
    let mut server = Server::start(&[]);
    assert_eq!(server.run("DEBUG POPULATE 200000"), ok());
    assert!(!server.run("BGREWRITEAOF").is_error());
    let child = server.rewrite_child().expect("a child that has much to write");
    assert!(send_signal(child, Signal::SIGSTOP), "it shall not be done before the server is");
    assert!(server.stop().success());
    assert_eq!(server.files(), ["appendonly.aof", "appendonly.aof.lock"]);
    server.restart();
    assert_eq!(server.run("DBSIZE"), Reply::Int(200_000));
}

#[test]
fn a_start_that_fails_on_its_log_leaves_no_trace_but_the_lock() {
    for log in [&b"REDIS0011 and so on"[..], b"*1\r\n$3\r\nfoo\r\n", b"*9\r\nfoo"] {
        let launch = Launch::new().file("appendonly.aof", log);
        let launch = launch.flag("pidfile", "server.pid").flag("unixsocket", "server.sock");
        let finished = launch.flag("aof-load-truncated", "no").run_to_exit();
        assert_eq!(finished.status.code(), Some(1));
        assert_eq!(finished.server.files(), ["appendonly.aof", "appendonly.aof.lock"]);
        assert_eq!(finished.server.aof(), log);
    }
}

/// The reader is slow enough for the sender to have more than a turn's worth at any time.
#[test]
fn a_huge_reply_arrives_whole_among_others() {
    const BYTES: usize = 48 << 20;
    let server = Server::start(&[("appendfsync", "no")]);
    let value: Vec<u8> = (0..BYTES).map(|at| (at / 3 % 251) as u8).collect();
    let mut client = server.raw();
    let mut other = server.raw();
    let mut sender = client.split();
    let set = encode(&[b"SET".as_slice(), b"huge", &value]);
    std::thread::scope(|scope| {
        scope.spawn(move || sender.send(&set));
        assert_eq!(client.reply(), ok());
    });
    let mut pipeline = encode(&["GET", "huge"]);
    encode_into(&mut pipeline, &["GET", "huge"]);
    encode_into(&mut pipeline, &["QUIT"]);
    client.send(&pipeline);
    assert_eq!(other.run("PING"), Reply::Simple(b"PONG".to_vec()));
    for _ in 0..2 {
        assert!(client.reply() == bulk(&value));
    }
    assert_eq!(client.reply(), ok());
    assert_eq!(client.read_until_closed(), b"");
}
