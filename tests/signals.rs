//! How the server ends: in order when it is asked, at once when it is asked twice.

mod common;

use common::process::KillOnPanic;
use common::{Launch, Reply, Server, skip_without};
use nix::sys::signal::Signal;

/// Ends a server with `signal` and looks at what is left.
fn ends_in_order(signal: Signal) {
    let directory = tempfile::tempdir().expect("a directory");
    let pid_file = directory.path().join("server.pid");
    let mut server = Server::start(&[
        ("appendfsync", "everysec"),
        ("pidfile", pid_file.to_str().expect("plain text")),
    ]);
    let pid = std::fs::read_to_string(&pid_file).expect("the pid file");
    assert_eq!(pid.trim(), server.pid().to_string());
    let mut client = server.raw();
    for at in 0..1_000 {
        assert!(client.command(&["SET", &format!("key{at}"), "value"]).is_ok());
    }
    server.signal(signal);
    assert_eq!(server.wait_exit().code(), Some(0), "{}", server.log_text());
    assert!(!pid_file.exists(), "the pid file goes with the server");
    assert!(client.is_closed());
    let log = server.log_text();
    assert!(log.contains(&format!("Received {} scheduling shutdown...", signal.as_str())), "{log}");
    assert!(log.trim_end().ends_with("is now ready to exit, bye bye..."), "{log}");
    server.restart();
    assert_eq!(server.run("DBSIZE"), Reply::Int(1_000));
}

#[test]
fn sigterm_ends_in_order() {
    ends_in_order(Signal::SIGTERM);
}

#[test]
fn sigint_ends_in_order() {
    ends_in_order(Signal::SIGINT);
}

/// The second Ctrl+C comes while the last sync runs, which may take long: it is not waited for.
#[test]
fn a_second_sigint_ends_at_once() {
    let Some(strace) = skip_without("a_second_sigint_ends_at_once", "strace") else { return };
    // With `no`, what was loaded is synced once, and then nothing until the end: there the tracer
    // hands it the second signal, as it enters the call.
    let mut server = Launch::new().flag("appendfsync", "no").start();
    assert!(server.run("SET key value").is_ok());
    server.kill9();
    let strace = strace.to_str().expect("plain text");
    let inject = "inject=fdatasync:signal=SIGINT:when=2+";
    server.set_wrapper(&[strace, "-f", "-qq", "-o", "/dev/null", "-e", inject]);
    server.restart();
    assert!(server.run("SET key other").is_ok());
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait_exit().code(), Some(1), "{}", server.log_text());
    let log = server.log_text();
    assert_eq!(log.matches("Received SIGINT").count(), 1, "{log}");
    assert!(!log.contains("bye bye"), "it did not end in order: {log}");
    server.set_wrapper(&[""; 0]);
    server.restart();
    assert_eq!(server.run("GET key"), Reply::Bulk(b"other".to_vec()), "written before its reply");
}

#[test]
fn other_signals_do_not_end_it() {
    let mut server = Server::start(&[]);
    for signal in [Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGCHLD, Signal::SIGXFSZ] {
        server.signal(signal);
        assert_eq!(server.run("PING"), Reply::Simple(b"PONG".to_vec()), "after {signal}");
    }
    assert!(server.is_running());
}

/// A client that is gone when its reply is written raises SIGPIPE.
#[test]
fn clients_that_leave_early_do_not_end_it() {
    let mut server = Server::start(&[]);
    assert!(server.raw().command(&[b"SET".as_slice(), b"key", &vec![b'x'; 1 << 20]]).is_ok());
    for _ in 0..50 {
        let mut client = server.raw();
        client.send(&common::raw::encode(&["GET", "key"]).repeat(10));
        drop(client);
    }
    assert_eq!(server.run("PING"), Reply::Simple(b"PONG".to_vec()));
    assert!(server.is_running());
}

#[test]
fn shutdown_ends_in_order_without_a_reply() {
    for command in ["SHUTDOWN", "SHUTDOWN NOSAVE", "shutdown save", "SHUTDOWN NOW FORCE"] {
        let mut server = Server::start(&[]);
        let mut client = server.raw();
        assert!(client.run("SET key value").is_ok());
        client.send(&common::raw::encode(&common::raw::words(command)));
        assert_eq!(client.read_until_closed(), b"", "{command}");
        assert_eq!(server.wait_exit().code(), Some(0), "{command}");
        server.restart();
        assert_eq!(server.run("GET key"), Reply::Bulk(b"value".to_vec()), "{command}");
    }
}

#[test]
fn a_wrong_shutdown_ends_nothing() {
    let mut server = Server::start(&[]);
    assert_eq!(server.run("SHUTDOWN NOSUCH").error(), "ERR syntax error");
    assert_eq!(server.run("SHUTDOWN SAVE NOSAVE").error(), "ERR syntax error");
    assert!(server.is_running());
    assert_eq!(server.run("PING"), Reply::Simple(b"PONG".to_vec()));
}

/// Every reply that a client got before the end is on the disk, also with clients in full swing.
#[test]
fn what_was_answered_before_sigterm_is_there_afterwards() {
    let mut server = Server::start(&[("appendfsync", "no")]);
    let mut client = server.raw();
    let mut sender = client.split();
    let answered = std::thread::scope(|scope| {
        // Without the server the threads below end, so a failure in here does not hang.
        let _kill = KillOnPanic(server.pid());
        scope.spawn(move || {
            let pipeline = common::raw::encode(&["INCR", "counter"]).repeat(1_000);
            while sender.try_send(&pipeline).is_ok() {}
        });
        let reading = scope.spawn(move || {
            let mut last = 0;
            while let Ok(frame) = client.try_frame() {
                last = frame.reply.int();
            }
            last
        });
        common::eventually(
            "the client is served",
            || matches!(server.run("GET counter"), Reply::Bulk(count) if count.len() > 3),
        );
        assert_eq!(server.stop().code(), Some(0), "{}", server.log_text());
        reading.join().expect("the reader")
    });
    server.restart();
    let counter: i64 = server.run("GET counter").text().parse().expect("a number");
    assert!(counter >= answered, "{answered} were acknowledged, {counter} are there");
}
