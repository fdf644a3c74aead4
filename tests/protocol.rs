//! The protocol: however the bytes arrive, whatever they are.

mod common;

use common::raw::{encode, encode_into};
use common::{Raw, Reply, Rng, Server, seed_from_env};

fn bulk(bytes: &[u8]) -> Reply {
    Reply::Bulk(bytes.to_vec())
}

fn ok() -> Reply {
    Reply::Simple(b"OK".to_vec())
}

/// Lets the server take what another connection has sent so far: it has had a turn for this one
/// meanwhile.
fn take_a_turn(other: &mut Raw) {
    assert_eq!(other.run("PING"), Reply::Simple(b"PONG".to_vec()));
}

#[test]
fn a_pipeline_cut_at_any_byte_has_the_same_replies() {
    let server = Server::start(&[]);
    let mut other = server.raw();
    let mut pipeline = Vec::new();
    encode_into(&mut pipeline, &[b"SET".as_slice(), b"key", b"\r\n$5\r\n\0\xff"]);
    encode_into(&mut pipeline, &["GET", "key"]);
    pipeline.extend(b"ECHO 'in line'\r\n");
    encode_into(&mut pipeline, &["SET", "empty", ""]);
    encode_into(&mut pipeline, &["NOSUCH"]);
    encode_into(&mut pipeline, &["MGET", "key", "empty", "absent"]);
    let expected = [
        ok(),
        bulk(b"\r\n$5\r\n\0\xff"),
        bulk(b"in line"),
        ok(),
        Reply::Error(b"ERR unknown command 'NOSUCH', with args beginning with: ".to_vec()),
        Reply::Array(vec![bulk(b"\r\n$5\r\n\0\xff"), bulk(b""), Reply::NullBulk]),
    ];
    for cut in 1..pipeline.len() {
        let mut client = server.raw();
        client.send(&pipeline[..cut]);
        take_a_turn(&mut other);
        client.send(&pipeline[cut..]);
        for (at, expected) in expected.iter().enumerate() {
            assert_eq!(client.reply(), *expected, "cut at byte {cut}, reply {at}");
        }
    }
}

#[test]
fn a_pipeline_in_single_bytes_has_the_same_replies() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.raw(), server.raw());
    let mut pipeline = encode(&["SET", "key", "value"]);
    encode_into(&mut pipeline, &["APPEND", "key", "+more"]);
    pipeline.extend(b"GET key\r\n");
    for byte in &pipeline {
        client.send(&[*byte]);
        take_a_turn(&mut other);
    }
    assert_eq!(client.reply(), ok());
    assert_eq!(client.reply(), Reply::Int(10));
    assert_eq!(client.reply(), bulk(b"value+more"));
}

#[test]
fn a_pipeline_has_no_limit_and_replies_keep_their_order() {
    const COMMANDS: usize = 200_000;
    let server = Server::start(&[("appendfsync", "no")]);
    let mut client = server.raw();
    let mut sender = client.split();
    let sending = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        for at in 0..COMMANDS {
            encode_into(&mut bytes, &["ECHO", &at.to_string()]);
        }
        sender.send(&bytes);
    });
    for at in 0..COMMANDS {
        assert_eq!(client.reply(), bulk(at.to_string().as_bytes()));
    }
    sending.join().expect("everything was sent");
}

/// The whole pipeline is sent before any reply is read, so the replies wait in the server.
#[test]
fn a_pipeline_may_be_sent_whole_before_a_reply_is_read() {
    const COMMANDS: i64 = 100_000;
    let server = Server::start(&[]);
    let mut client = server.raw();
    let incr = encode(&["INCR", "counter"]);
    let pipeline: Vec<u8> = incr.repeat(COMMANDS as usize);
    client.send(&pipeline);
    for at in 1..=COMMANDS {
        assert_eq!(client.reply(), Reply::Int(at));
    }
    assert_eq!(server.run("GET counter"), bulk(COMMANDS.to_string().as_bytes()));
}

#[test]
fn what_a_request_of_a_pipeline_changes_holds_for_the_next() {
    let server = Server::start(&[("requirepass", "secret")]);
    let mut client = server.raw();
    let mut pipeline = Vec::new();
    encode_into(&mut pipeline, &["SET", "early", "1"]);
    encode_into(&mut pipeline, &["AUTH", "secret"]);
    encode_into(&mut pipeline, &["SET", "key", &"v".repeat(20_000)]);
    encode_into(&mut pipeline, &["STRLEN", "key"]);
    encode_into(&mut pipeline, &["SELECT", "3"]);
    encode_into(&mut pipeline, &["STRLEN", "key"]);
    encode_into(&mut pipeline, &["SET", "key", "three"]);
    pipeline.extend(b"GET key\r\n*0\r\n*-1\r\n");
    encode_into(&mut pipeline, &["MULTI"]);
    encode_into(&mut pipeline, &["APPEND", "key", "+"]);
    encode_into(&mut pipeline, &["GET", "key"]);
    encode_into(&mut pipeline, &["EXEC"]);
    encode_into(&mut pipeline, &["CONFIG", "SET", "proto-max-bulk-len", "1mb"]);
    encode_into(&mut pipeline, &["HELLO", "3"]);
    encode_into(&mut pipeline, &["GET", "absent"]);
    encode_into(&mut pipeline, &["GET", "key"]);
    encode_into(&mut pipeline, &["QUIT"]);
    encode_into(&mut pipeline, &["SET", "late", "1"]);
    client.send(&pipeline);
    assert!(client.reply().is_error_text("NOAUTH"));
    assert_eq!(client.reply(), ok());
    assert_eq!(client.reply(), ok());
    assert_eq!(client.reply(), Reply::Int(20_000));
    assert_eq!(client.reply(), ok());
    assert_eq!(client.reply(), Reply::Int(0), "in the other database");
    assert_eq!(client.reply(), ok());
    assert_eq!(client.reply(), bulk(b"three"));
    assert_eq!(client.reply(), ok());
    assert_eq!(client.reply(), Reply::Simple(b"QUEUED".to_vec()));
    assert_eq!(client.reply(), Reply::Simple(b"QUEUED".to_vec()));
    assert_eq!(client.reply(), Reply::Array(vec![Reply::Int(6), bulk(b"three+")]));
    assert_eq!(client.reply(), ok());
    assert!(!client.reply().is_error());
    assert_eq!(client.reply(), Reply::Null);
    assert_eq!(client.reply(), bulk(b"three+"));
    assert_eq!(client.reply(), ok());
    let mut other = server.raw();
    assert_eq!(other.run("AUTH secret"), ok());
    assert_eq!(other.run("EXISTS early late"), Reply::Int(0));
}

/// Keys of pipelined requests are looked for ahead, all at once. Whatever keys a request names, in
/// whatever order and number, it must find those that it would find by itself.
#[test]
fn requests_of_a_pipeline_find_the_keys_that_they_would_find_one_by_one() {
    let seed = seed_from_env("PIPELINE_SEED");
    println!("PIPELINE_SEED={seed}");
    let mut rng = Rng::new(seed);
    let (together, apart) = (Server::start(&[]), Server::start(&[]));
    let (mut pipelined, mut single) = (together.raw(), apart.raw());
    let key = |rng: &mut Rng| match rng.next() % 12 {
        0 => String::new(),
        1 => "k".repeat(300),
        n => format!("k{}", "x".repeat(n as usize * 3)),
    };
    for round in 0..60 {
        let requests: Vec<Vec<String>> = (0..rng.next() % 40 + 2)
            .map(|_| {
                let (one, two) = (key(&mut rng), key(&mut rng));
                let number = (rng.next() % 30_000).to_string();
                match rng.next() % 12 {
                    0 => vec!["SET".into(), one, number],
                    1 => vec!["SET".into(), one, number, "EX".into(), "1000".into()],
                    2 => vec!["INCR".into(), one],
                    3 => vec!["APPEND".into(), one, "1".into()],
                    4 => vec!["RENAME".into(), one, two],
                    5 => vec!["DEL".into(), one, two],
                    6 => vec!["MSETNX".into(), one, number, two, "0".into()],
                    7 => ["MGET".to_owned()]
                        .into_iter()
                        .chain((0..rng.next() % 100 + 1).map(|_| key(&mut rng)))
                        .collect(),
                    8 => ["MSET".to_owned()]
                        .into_iter()
                        .chain(
                            (0..rng.next() % 80 + 1).flat_map(|n| [key(&mut rng), n.to_string()]),
                        )
                        .collect(),
                    9 => vec!["SELECT".into(), (rng.next() % 2).to_string()],
                    _ => vec!["GET".into(), one],
                }
            })
            .collect();
        let mut bytes = Vec::new();
        requests.iter().for_each(|request| encode_into(&mut bytes, request));
        pipelined.send(&bytes);
        for request in &requests {
            let expected = single.command(request);
            assert_eq!(pipelined.reply(), expected, "round {round}: {request:?}");
        }
    }
}

#[test]
fn requests_behind_one_that_waits_run_afterwards_and_once() {
    let server = Server::start(&[]);
    let (mut client, mut other) = (server.raw(), server.raw());
    let large = "x".repeat(100_000);
    for last in [&["SET", "large", large.as_str()][..], &["SET", "small", "y"]] {
        assert_eq!(other.run("FLUSHALL"), ok());
        assert_eq!(other.run("CLIENT PAUSE 60000 WRITE"), ok());
        let mut pipeline = Vec::new();
        for _ in 0..3 {
            encode_into(&mut pipeline, &["GET", "n"]);
        }
        // The first of these waits, and all behind it with it.
        for _ in 0..20 {
            encode_into(&mut pipeline, &["INCR", "n"]);
        }
        pipeline.extend(b"GET n\r\n");
        encode_into(&mut pipeline, last);
        client.send(&pipeline);
        for _ in 0..3 {
            assert!(client.reply().is_null());
        }
        take_a_turn(&mut other);
        assert_eq!(other.run("EXISTS n large small"), Reply::Int(0));
        assert_eq!(other.run("CLIENT UNPAUSE"), ok());
        for n in 1..=20 {
            assert_eq!(client.reply(), Reply::Int(n));
        }
        assert_eq!(client.reply(), bulk(b"20"));
        assert_eq!(client.reply(), ok());
        assert_eq!(other.run("DBSIZE"), Reply::Int(2));
    }
}

#[test]
fn large_arguments_come_back_as_they_were() {
    let seed = seed_from_env("PROTOCOL_SEED");
    eprintln!("PROTOCOL_SEED={seed}");
    let mut rng = Rng::new(seed);
    let server = Server::start(&[("appendfsync", "no")]);
    let (mut client, mut other) = (server.raw(), server.raw());
    for len in [32_767, 32_768, 32_769, 65_536, 1 << 20, (1 << 20) + 1, 5_000_001, 64 << 20] {
        let value = rng.bytes(len);
        let bytes = encode(&[b"SET".as_slice(), b"large", &value]);
        // In two parts, so that the argument is begun in one turn and ended in another.
        let cut = rng.below(bytes.len());
        let mut sender = client.split();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                sender.send(&bytes[..cut]);
                sender.send(&bytes[cut..]);
            });
            assert_eq!(client.reply(), ok(), "SET of {len} bytes");
        });
        take_a_turn(&mut other);
        assert!(client.run("GET large") == bulk(&value), "GET of {len} bytes");
        assert_eq!(client.run("STRLEN large"), Reply::Int(len as i64));
    }
}

#[test]
fn commands_behind_a_large_argument_are_run() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for len in [40_000, 300_000, 3_000_000] {
        let value = vec![b'v'; len];
        let mut bytes = encode(&[b"SET".as_slice(), b"a", &value]);
        encode_into(&mut bytes, &["STRLEN", "a"]);
        encode_into(&mut bytes, &[b"APPEND".as_slice(), b"a", &value]);
        encode_into(&mut bytes, &["PING"]);
        client.send(&bytes);
        assert_eq!(client.reply(), ok());
        assert_eq!(client.reply(), Reply::Int(len as i64));
        assert_eq!(client.reply(), Reply::Int(2 * len as i64));
        assert_eq!(client.reply(), Reply::Simple(b"PONG".to_vec()));
    }
}

#[test]
fn commands_may_be_typed_in_line() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for (line, reply) in [
        ("PING\r\n", Reply::Simple(b"PONG".to_vec())),
        ("  set  key   value \n", ok()),
        ("\r\n\r\nGET key\r\n", bulk(b"value")),
        ("ECHO \"a \\x41\\n\\\"\"\r\n", bulk(b"a A\n\"")),
        ("ECHO 'it\\'s'\r\n", bulk(b"it's")),
        ("ECHO ''\r\n", bulk(b"")),
    ] {
        client.send(line.as_bytes());
        assert_eq!(client.reply(), reply, "{line:?}");
    }
}

#[test]
fn broken_protocol_is_answered_and_closed_behind_the_replies_due() {
    let server = Server::start(&[]);
    for (bytes, error) in [
        ("*x\r\n", "invalid multibulk length"),
        ("*2147483648\r\n", "invalid multibulk length"),
        ("*1\r\nPING\r\n", "expected '$', got 'P'"),
        ("*1\r\n$x\r\n", "invalid bulk length"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$536870913\r\n", "invalid bulk length"),
        ("SET \"open\r\n", "unbalanced quotes in request"),
    ] {
        let mut client = server.raw();
        let mut all = encode(&["PING"]);
        all.extend(bytes.as_bytes());
        all.extend(encode(&["SET", "behind", "it"]));
        client.send(&all);
        let answer = client.read_until_closed();
        let expected = format!("+PONG\r\n-ERR Protocol error: {error}\r\n");
        assert_eq!(String::from_utf8_lossy(&answer), expected, "{bytes:?}");
    }
    assert_eq!(server.run("EXISTS behind"), Reply::Int(0), "nothing behind the error was run");
}

#[test]
fn lines_without_end_are_refused() {
    let server = Server::start(&[]);
    for (first, error) in [(b'a', "too big inline request"), (b'*', "too big mbulk count string")] {
        let mut client = server.raw();
        let mut bytes = vec![b'1'; 70_000];
        bytes[0] = first;
        // The server may have refused and closed before it was sent whole.
        let _ = client.try_send(&bytes);
        let answer = client.read_until_closed();
        let expected = format!("-ERR Protocol error: {error}\r\n");
        assert_eq!(String::from_utf8_lossy(&answer), expected);
    }
}

#[test]
fn before_authentication_only_little_is_taken() {
    let server = Server::start(&[("requirepass", "secret")]);
    for (bytes, error) in [
        ("*11\r\n$4\r\nPING\r\n", "unauthenticated multibulk length"),
        ("*2\r\n$4\r\nECHO\r\n$16385\r\n", "unauthenticated bulk length"),
    ] {
        let mut client = server.raw();
        client.send(bytes.as_bytes());
        let answer = client.read_until_closed();
        let expected = format!("-ERR Protocol error: {error}\r\n");
        assert_eq!(String::from_utf8_lossy(&answer), expected);
    }
    let mut client = server.raw();
    assert_eq!(client.run("GET a").error(), "NOAUTH Authentication required.");
    assert!(client.run("AUTH wrong").error().starts_with("WRONGPASS"));
    assert_eq!(client.run("AUTH secret"), ok());
    let keys: Vec<String> = (0..20).map(|at| at.to_string()).collect();
    let mget: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
    assert_eq!(client.command(&mget).items().len(), 20);
    let large = vec![b'x'; 20_000];
    assert_eq!(client.command(&[b"SET".as_slice(), b"a", &large]), ok());
}

#[test]
fn quit_is_answered_and_ends_the_connection() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    let mut bytes = encode(&["SET", "a", "1"]);
    encode_into(&mut bytes, &["QUIT"]);
    encode_into(&mut bytes, &["SET", "a", "2"]);
    client.send(&bytes);
    assert_eq!(client.read_until_closed(), b"+OK\r\n+OK\r\n");
    assert_eq!(server.run("GET a"), bulk(b"1"));
}

#[test]
fn a_client_that_has_sent_all_still_gets_its_replies() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    client.send(&encode(&["SET", "a", "1"]).repeat(100));
    client.finish_sending();
    assert_eq!(client.read_until_closed(), b"+OK\r\n".repeat(100));
}

#[test]
fn resp3_is_spoken_after_hello_and_until_reset() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    assert_eq!(client.run("GET absent"), Reply::NullBulk);
    let Reply::Map(fields) = client.run("HELLO 3") else { panic!("HELLO 3 answers with a map") };
    let proto = fields.iter().find(|(name, _)| *name == bulk(b"proto"));
    assert_eq!(proto.expect("proto").1, Reply::Int(3));
    assert_eq!(client.run("GET absent"), Reply::Null);
    assert!(matches!(client.run("CONFIG GET maxclients"), Reply::Map(_)));
    assert_eq!(client.run("HELLO 9").error(), "NOPROTO unsupported protocol version");
    assert_eq!(client.run("RESET"), Reply::Simple(b"RESET".to_vec()));
    assert_eq!(client.run("GET absent"), Reply::NullBulk);
}

#[test]
fn a_client_library_finds_its_way() {
    use redis::Commands;
    let server = Server::start(&[]);
    let mut connection = server.connection();
    let _: () = connection.set("name", "value").unwrap();
    let _: () = connection.set_ex("brief", "value", 100).unwrap();
    assert_eq!(connection.get::<_, String>("name").unwrap(), "value");
    assert_eq!(connection.incr::<_, _, i64>("counter", 5).unwrap(), 5);
    let (a, b): (i64, Option<String>) =
        redis::pipe().atomic().incr("counter", 2).get("absent").query(&mut connection).unwrap();
    assert_eq!((a, b), (7, None));
    let ttl: i64 = connection.ttl("brief").unwrap();
    assert!((90..=100).contains(&ttl));
    let mut keys: Vec<String> = connection.scan().unwrap().map(|key| key.unwrap()).collect();
    keys.sort();
    assert_eq!(keys, ["brief", "counter", "name"]);
    let error = redis::cmd("INCR").arg("name").query::<i64>(&mut connection).unwrap_err();
    assert!(error.to_string().contains("not an integer"), "{error}");
}
