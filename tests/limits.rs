//! Limits on what the clients may hold: unsent replies by class, hard and soft, unfinished
//! requests, and all of it together.

mod common;

use std::time::{Duration, Instant};

use common::raw::encode;
use common::{Raw, Server, eventually};

/// One reply. The kernel's buffers take a few MB; what is beyond them waits in the server.
const VALUE_BYTES: usize = 1 << 20;
const KERNEL_BYTES: usize = 12 << 20;

fn with_value(flags: &[(&str, &str)]) -> (Server, Raw) {
    let server = Server::start(&[&[("appendonly", "no")], flags].concat());
    let mut client = server.raw();
    let value = vec![b'x'; VALUE_BYTES];
    assert!(client.command(&[b"SET".as_slice(), b"large", &value]).is_ok());
    (server, client)
}

fn stat(client: &mut Raw, name: &str) -> String {
    let text = client.run("INFO stats").text();
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    found.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

/// The id of a client that asked for `count` values, takes none, and has more than `at_least` bytes
/// unsent.
fn silent_client(server: &Server, operator: &mut Raw, count: usize, at_least: usize) -> (Raw, i64) {
    let mut silent = server.raw();
    let id = silent.run("CLIENT ID").int();
    // It may be closed before the last request is sent.
    let _ = silent.try_send(&encode(&["GET", "large"]).repeat(count));
    eventually("its replies wait", || waiting(operator, id).is_none_or(|bytes| bytes >= at_least));
    (silent, id)
}

/// How many bytes wait to be sent to client `id`; `None` once it is gone.
fn waiting(operator: &mut Raw, id: i64) -> Option<usize> {
    let line = operator.run(&format!("CLIENT LIST ID {id}")).text();
    let fields = line.split(' ').filter_map(|field| field.split_once('='));
    let numbers = fields.filter(|(name, _)| ["obl", "omem"].contains(name));
    let numbers: Vec<usize> = numbers.map(|(_, n)| n.parse().expect("a number")).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum())
}

#[test]
fn the_hard_limit_ends_a_client_at_once() {
    let (server, mut operator) = with_value(&[("client-output-buffer-limit", "normal 8mb 0 0")]);
    let mut reader = server.raw();
    let (_silent, id) = silent_client(&server, &mut operator, 100, usize::MAX);
    assert_eq!(waiting(&mut operator, id), None);
    assert_eq!(stat(&mut operator, "client_output_buffer_limit_disconnections"), "1");
    // Who reads may ask for as much.
    for _ in 0..40 {
        reader.send(&encode(&["GET", "large"]));
        assert_eq!(reader.reply().bytes().len(), VALUE_BYTES);
    }
}

#[test]
fn the_soft_limit_ends_a_client_that_stays_above_it() {
    let (server, mut operator) = with_value(&[("client-output-buffer-limit", "normal 1gb 4mb 2")]);
    let begun = Instant::now();
    let (mut slow, slow_id) = silent_client(&server, &mut operator, 30, 5 << 20);
    let (_silent, silent_id) = silent_client(&server, &mut operator, 30, 5 << 20);
    // One reads all in time, and may be above the limit anew.
    for _ in 0..30 {
        assert_eq!(slow.reply().bytes().len(), VALUE_BYTES);
    }
    eventually("the silent one is let go", || waiting(&mut operator, silent_id).is_none());
    assert!(begun.elapsed() >= Duration::from_secs(2), "not ahead of its time");
    assert_eq!(waiting(&mut operator, slow_id), Some(0), "the other stays");
    assert_eq!(slow.run("PING").text(), "PONG");
    assert_eq!(stat(&mut operator, "client_output_buffer_limit_disconnections"), "1");
}

/// Each class has its own limits: others' mean nothing to a normal client, which has none by
/// default, and whoever monitors is held to those of a replica.
#[test]
fn the_limits_of_other_classes_are_not_for_normal_clients() {
    let (server, mut operator) = with_value(&[
        ("client-output-buffer-limit", "pubsub 1mb 1mb 1"),
        ("client-output-buffer-limit", "replica 16mb 0 0"),
    ]);
    let (mut silent, id) = silent_client(&server, &mut operator, 40, 40 * VALUE_BYTES / 2);
    let mut monitor = server.raw();
    assert!(monitor.run("MONITOR").is_ok());
    let mut writer = server.raw();
    let value = vec![b'm'; VALUE_BYTES];
    let mut sent = 0;
    eventually("who monitors and does not read is let go", || {
        assert!(writer.command(&[b"SET".as_slice(), b"large", &value]).is_ok());
        sent += VALUE_BYTES;
        stat(&mut operator, "client_output_buffer_limit_disconnections") == "1"
    });
    assert!(sent > 16 << 20, "{sent} bytes are within the limit");
    assert!(waiting(&mut operator, id) > Some(KERNEL_BYTES));
    for _ in 0..40 {
        assert_eq!(silent.reply().bytes().len(), VALUE_BYTES);
    }
}

/// A limit that is set while a client is above it already holds from its next reply on.
#[test]
fn a_limit_set_later_holds() {
    let (server, mut operator) = with_value(&[]);
    let (mut silent, id) = silent_client(&server, &mut operator, 40, KERNEL_BYTES);
    for limit in ["normal 0 0", "normal x 0 0", "foo 1 1 1", "normal 1 1 -1"] {
        let refused = operator.command(&["CONFIG", "SET", "client-output-buffer-limit", limit]);
        assert!(refused.is_error(), "{limit}: {refused:?}");
    }
    let line = ["CONFIG", "SET", "client-output-buffer-limit", "normal 2mb 0 0"];
    assert!(operator.command(&line).is_ok());
    let _ = silent.try_send(&encode(&["GET", "large"]));
    eventually("it is let go", || waiting(&mut operator, id).is_none());
}

#[test]
fn a_request_beyond_the_query_buffer_limit_ends_the_client() {
    let server = Server::start(&[("client-query-buffer-limit", "2mb")]);
    let mut operator = server.raw();
    // Within the limit.
    let value = vec![b'v'; 1_500_000];
    assert!(operator.command(&[b"SET".as_slice(), b"k", &value]).is_ok());
    // One argument too large, and many that are too much together.
    let mut many = b"*1001\r\n$4\r\nMGET\r\n".to_vec();
    for _ in 0..999 {
        many.extend(b"$4000\r\n");
        many.extend([b'a'; 4_000]);
        many.extend(b"\r\n");
    }
    let large = [b"*2\r\n$4\r\nECHO\r\n$4000000\r\n".to_vec(), vec![b'a'; 3_999_999]].concat();
    // Commands that wait for EXEC.
    let mut queued = encode(&["MULTI"]);
    for _ in 0..3 {
        common::raw::encode_into(&mut queued, &[b"SET".as_slice(), b"queued", &value[..900_000]]);
    }
    for (at, bytes) in [large, many, queued].into_iter().enumerate() {
        let mut client = server.raw();
        // The server lets go before it has taken everything.
        let _ = client.try_send(&bytes);
        eventually("it is let go", || {
            stat(&mut operator, "client_query_buffer_limit_disconnections") == (at + 1).to_string()
        });
        assert!(client.read_to_end().is_err() || client.is_closed());
    }
    assert_eq!(operator.run("STRLEN k").int(), 1_500_000);
}

/// A limit for all together: unsent replies count, and a share of `maxmemory` is taken of that.
#[test]
fn all_clients_together_have_a_limit() {
    let (server, mut operator) = with_value(&[("maxmemory-clients", "32mb")]);
    assert!(operator.run("CLIENT NO-EVICT ON").is_ok());
    let (mut spared, spared_id) = silent_client(&server, &mut operator, 12, 2 << 20);
    let (_gone, id) = silent_client(&server, &mut operator, 100, usize::MAX);
    assert_eq!(waiting(&mut operator, id), None, "the largest goes");
    assert!(waiting(&mut operator, spared_id).is_some(), "the other stays");
    assert_eq!(stat(&mut operator, "evicted_clients"), "1");
    assert_eq!(stat(&mut operator, "client_output_buffer_limit_disconnections"), "0");
    for _ in 0..12 {
        assert_eq!(spared.reply().bytes().len(), VALUE_BYTES);
    }
    // A share of no limit is none, and one of a limit is one.
    assert!(operator.run("CONFIG SET maxmemory-clients 10%").is_ok());
    let (mut unhurt, _) = silent_client(&server, &mut operator, 60, 40 << 20);
    assert!(operator.run("CONFIG SET maxmemory 200mb").is_ok());
    eventually("it is evicted", || stat(&mut operator, "evicted_clients") == "2");
    assert!(unhurt.read_to_end().is_err() || unhurt.is_closed());
}
