//! MONITOR shows the same as redis-server's.

mod common;

use common::{Launch, Reply, Server};

const LINES: &[&str] = &[
    "MULTI",
    "SET a \"x y\\n\\x01\\\"\\\\\"",
    "GET a",
    "EXEC",
    "CONFIG GET port",
    "PING",
    "AUTH x",
    "HELLO 3 AUTH default x",
    "HELLO 2",
    "SELECT 3",
    "GET a",
    "GET",
    "FOO",
    "INFO server",
    "DEBUG SLEEP 0",
    "WATCH a",
    "UNWATCH",
    "MULTI",
    "DISCARD",
    "SET a b EX 100",
    "INCR a",
    "CLIENT LIST",
    "RESET",
    "ECHO last",
];

/// What a monitor is shown of [`LINES`]: each line behind its time, with the port taken out.
fn shown(server: &Server) -> Vec<String> {
    let mut monitor = server.raw();
    assert!(monitor.run("MONITOR").is_ok());
    assert_eq!(
        monitor.run("GET a").error(),
        "ERR Replica can't interact with the keyspace",
        "it may not touch keys itself"
    );
    let mut client = server.raw();
    for line in LINES {
        client.run(line);
    }
    let mut seen = Vec::new();
    loop {
        let Reply::Simple(line) = monitor.reply() else { panic!("a line") };
        let line = String::from_utf8(line).expect("printable");
        let (time, rest) = line.split_once(' ').expect("a time");
        let (sec, us) = time.split_once('.').expect("a point");
        assert!(sec.parse::<u64>().is_ok() && us.len() == 6, "{line}");
        let (db, rest) = rest.split_once(" 127.0.0.1:").expect("an address");
        let (_port, command) = rest.split_once(']').expect("a bracket");
        seen.push(format!("{db}]{command}"));
        if command.contains("last") {
            return seen;
        }
    }
}

#[test]
fn it_shows_what_redis_shows() {
    let ours = shown(&Server::start(&[]));
    assert!(ours.iter().any(|line| line.ends_with(r#""AUTH" "(redacted)""#)), "{ours:?}");
    let Some(reference) = Launch::reference("it_shows_what_redis_shows") else { return };
    assert_eq!(ours, shown(&reference.start()));
}

#[test]
fn it_ends_with_reset_or_with_the_connection() {
    let server = Server::start(&[]);
    let mut monitor = server.raw();
    assert!(monitor.run("MONITOR").is_ok());
    assert_eq!(monitor.run("RESET"), Reply::Simple(b"RESET".to_vec()));
    drop({
        let mut other = server.raw();
        assert!(other.run("MONITOR").is_ok());
        other
    });
    for _ in 0..10 {
        assert_eq!(server.run("PING"), Reply::Simple(b"PONG".to_vec()));
    }
    assert!(monitor.run("SET key value").is_ok(), "an ordinary client again, shown nothing");
}
