//! The annotated log that the README starts on is a real one.

mod common;

use common::{Launch, Raw, Reply};

const SAMPLE: &[u8] = include_bytes!("../appendonly.aof.sample");

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

/// What the sample says it holds.
fn holds_what_it_says(client: &mut Raw) {
    assert_eq!(client.run("DBSIZE"), Reply::Int(7));
    assert_eq!(client.run("GET greeting"), bulk("hello, reader!"));
    assert_eq!(client.run("GET visits"), bulk("2"));
    assert_eq!(client.run("GET price"), bulk("10.6"));
    assert_eq!(client.run("MGET from to"), Reply::Array(vec![bulk("85"), bulk("115")]));
    assert_eq!(client.run("GET sealed"), bulk("every group of commands ends in a seal"));
    assert_eq!(client.run("PEXPIRETIME session:1"), Reply::Int(101_795_362_210_527));
    assert!(client.run("SELECT 1").is_ok());
    assert_eq!(client.run("GET elsewhere"), bulk("42"));
}

#[test]
fn the_sample_is_loaded_whole() {
    let mut server = Launch::new().file("appendonly.aof", SAMPLE).start();
    holds_what_it_says(&mut server.raw());
    assert!(!server.log_text().contains("cut"), "{}", server.log_text());
    server.stop();
    assert!(server.aof().starts_with(SAMPLE), "it is only appended to");
}

#[test]
fn the_sample_is_loaded_by_redis_too() {
    let Some(launch) = Launch::reference("the_sample_is_loaded_by_redis_too") else { return };
    // Redis 7 takes a single file of an older version over into its own directory.
    let launch = launch.file("appendonly.aof", SAMPLE).flag("appendonly", "yes");
    holds_what_it_says(&mut launch.start().raw());
}
