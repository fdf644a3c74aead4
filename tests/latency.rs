//! What takes long is found in LATENCY, each kind under its name.

mod common;

use common::Server;

fn events(server: &Server) -> Vec<String> {
    let reply = server.run("LATENCY LATEST");
    reply.items().iter().map(|event| event.items()[0].text()).collect()
}

#[test]
fn a_slow_command_is_noted_once_it_is_asked_for() {
    let server = Server::start(&[]);
    assert!(server.run("DEBUG SLEEP 0.03").is_ok());
    assert_eq!(events(&server), [""; 0], "nobody asked");
    assert!(server.run("CONFIG SET latency-monitor-threshold 20").is_ok());
    assert!(server.run("DEBUG SLEEP 0.03").is_ok());
    // The turn in which the command ran was as long.
    let seen = events(&server);
    assert!(seen.contains(&"command".to_owned()), "{seen:?}");
    assert!(seen.contains(&"event-loop".to_owned()), "{seen:?}");
    let reply = server.run("LATENCY HISTORY command");
    assert!(reply.items().iter().any(|spike| spike.items()[1].int() >= 30), "{reply:?}");
    assert!(server.info("eventloop_duration_max").parse::<u64>().expect("a number") >= 30_000);
    assert!(server.run("CONFIG SET latency-monitor-threshold 0").is_ok());
    assert!(server.run("LATENCY RESET").int() >= seen.len() as i64);
    assert_eq!(events(&server), [""; 0]);
}
