//! The fixture itself: what the other tests stand on is tested first.

mod common;

use common::raw::{encode, parse_reply};
use common::{Launch, Raw, Reply, Server};

#[test]
fn reply_parser_knows_every_type_and_waits_for_the_rest() {
    let text = b"*9\r\n+a\r\n-e\r\n:-5\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n%1\r\n+k\r\n#t\r\n~1\r\n_\r\n,1.5\r\n";
    let (reply, len) = parse_reply(text).unwrap().expect("whole");
    assert_eq!(len, text.len());
    let expected = Reply::Array(vec![
        Reply::Simple(b"a".to_vec()),
        Reply::Error(b"e".to_vec()),
        Reply::Int(-5),
        Reply::Bulk(b"a\r\n".to_vec()),
        Reply::NullBulk,
        Reply::NullArray,
        Reply::Map(vec![(Reply::Simple(b"k".to_vec()), Reply::Bool(true))]),
        Reply::Set(vec![Reply::Null]),
        Reply::Double(b"1.5".to_vec()),
    ]);
    assert_eq!(reply, expected);
    for cut in 0..text.len() {
        assert_eq!(parse_reply(&text[..cut]), Ok(None), "cut at {cut}");
    }
    for bad in ["x\r\n", ":+1\r\n", ":01\r\n", "$-2\r\n", "$1\r\nabc", "#x\r\n", "_x\r\n"] {
        assert!(parse_reply(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn commands_are_encoded_as_arrays_of_bulk_strings() {
    assert_eq!(encode(&["SET", "k", ""]), b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
}

#[test]
fn server_starts_answers_dies_and_starts_again() {
    let mut server = Server::start(&[]);
    assert_eq!(server.run("PING"), Reply::Simple(b"PONG".to_vec()));
    server.kill9();
    assert!(Raw::try_connect(server.port()).is_err(), "nobody listens any more");
    server.restart();
    let pong: String = redis::cmd("PING").query(&mut server.connection()).unwrap();
    assert_eq!(pong, "PONG");
    let status = server.stop();
    assert_eq!(status.code(), Some(0), "{}", server.log_text());
}

#[test]
fn reference_starts() {
    let Some(reference) = Launch::reference("reference_starts") else { return };
    let reference = reference.start();
    assert_eq!(reference.info("redis_version").split('.').next(), Some("7"));
}
