//! A start brings back what was there: the same state from the file, or from a part of it where
//! only that part was promised, or a refusal that leaves the file alone.

mod common;
#[allow(dead_code)] // only the commands are used here
#[path = "differential/generate.rs"]
mod generate;

use common::aof::{items, lines};
use common::raw::encode_into;
use common::{Launch, Reply, Server, env_number, unix_ms};
use generate::Step;

const LAST_LINE_BAD: &str = "Bad file format reading the append only file: make a backup of your \
                             AOF file, then use ./redis-check-aof --fix <filename>";
const LAST_LINE_SHORT: &str = "Unexpected end of file reading the append only file. You can: 1) \
                               Make a backup of your AOF file, then use ./redis-check-aof --fix \
                               <filename>. 2) Alternatively you can set the \
                               'aof-load-truncated' configuration option to yes and restart the \
                               server.";

/// Runs a generated sequence against `server` and leaves it without lapsed keys. Replies do not
/// matter here.
fn run_sequence(server: &Server, seed: u64, len: usize) {
    let mut clients: Vec<_> = (0..generate::CONNECTIONS).map(|_| server.raw()).collect();
    for step in generate::sequence(seed, len) {
        let (Step::Command { on, args } | Step::Lapse { on, args, .. }) = step else { continue };
        let name = String::from_utf8_lossy(&args[0]).to_uppercase();
        // What is not logged, or ends the connection.
        if ["DEBUG", "CONFIG", "QUIT", "SHUTDOWN", "HELLO"].contains(&name.as_str()) {
            continue;
        }
        let closing = clients[on].command(&args).is_error_text("ERR Protocol error");
        if closing {
            clients[on] = server.raw();
        }
    }
    // Some keys were given a few milliseconds to live: once these are over and the keys are
    // touched, they are gone.
    let end = unix_ms();
    common::eventually("the brief keys have lapsed", || unix_ms() > end + 20);
    let mut client = server.raw();
    let mut exists = vec![b"EXISTS".to_vec()];
    exists.extend(generate::key_pool());
    for db in 0..16 {
        assert!(client.run(&format!("SELECT {db}")).is_ok());
        client.command(&exists);
    }
}

#[test]
fn the_file_brings_back_the_same_state_in_every_policy() {
    let seed = env_number("REPLAY_SEED", 7);
    for (at, policy) in ["always", "everysec", "no"].into_iter().enumerate() {
        let mut server = Server::start(&[("appendfsync", policy)]);
        run_sequence(&server, seed + at as u64, 1_500);
        let digest = server.run("DEBUG DIGEST");
        server.kill9();
        server.restart();
        assert_eq!(server.run("DEBUG DIGEST"), digest, "REPLAY_SEED={seed} {policy}: kill -9");
        assert_eq!(server.stop().code(), Some(0));
        server.restart();
        assert_eq!(server.run("DEBUG DIGEST"), digest, "REPLAY_SEED={seed} {policy}: SIGTERM");
        server.rewrite();
        assert_eq!(server.run("DEBUG DIGEST"), digest, "{policy}: a rewrite changes nothing");
        server.kill9();
        server.restart();
        assert_eq!(server.run("DEBUG DIGEST"), digest, "REPLAY_SEED={seed} {policy}: rewritten");
    }
}

#[test]
fn debug_loadaof_brings_back_the_same_state() {
    let server = Server::start(&[("enable-debug-command", "yes")]);
    run_sequence(&server, 11, 500);
    let digest = server.run("DEBUG DIGEST");
    assert!(server.run("DEBUG LOADAOF").is_ok());
    assert_eq!(server.run("DEBUG DIGEST"), digest);
    assert!(server.run("SET behind it").is_ok());
    let before = server.run("DEBUG DIGEST");
    assert!(server.run("DEBUG LOADAOF").is_ok());
    assert_eq!(server.run("DEBUG DIGEST"), before);
}

/// Deadlines that pass while the server is down count: the keys are gone, and logged as gone.
#[test]
fn keys_that_lapse_while_it_is_down_are_gone_afterwards() {
    let mut server = Server::start(&[]);
    let mut client = server.raw();
    let at = unix_ms() + 300;
    assert!(client.command(&["SET", "brief", "1", "PXAT", &at.to_string()]).is_ok());
    assert!(client.run("SET long 1 EX 1000").is_ok());
    server.kill9();
    common::eventually("the deadline has passed", || unix_ms() > at);
    server.restart();
    assert_eq!(server.run("EXISTS brief long"), Reply::Int(1));
    common::eventually("the lapsed key is logged as deleted", || {
        let log = lines(&server.aof());
        log.iter().any(|line| line == "DEL brief" || line == "UNLINK brief")
    });
    assert_eq!(server.run("DBSIZE"), Reply::Int(1));
    let ttl = server.run("TTL long").int();
    assert!((900..=1000).contains(&ttl), "{ttl}");
}

/// A file of many groups, each of one INCR: the counter tells how many of them are there.
fn counted_file(server: &mut Server, groups: i64) -> Vec<u8> {
    let mut client = server.raw();
    for at in 1..=groups {
        assert_eq!(client.run("INCR counter"), Reply::Int(at));
    }
    server.kill9();
    server.aof()
}

/// Wherever a file ends, the start keeps every group that is whole, cuts off what is not, keeps
/// that aside, and says so.
#[test]
fn a_torn_tail_is_cut_and_reported() {
    let mut server = Server::start(&[("appendfsync", "no")]);
    let file = counted_file(&mut server, 20);
    let path = server.path("appendonly.aof");
    // A group is whole when the seal behind it is.
    let things = items(&file);
    let seals: Vec<usize> =
        things.iter().filter(|item| item.command.is_none()).map(|item| item.end).collect();
    let is_incr = |command: &Vec<Vec<u8>>| command[0] == b"INCR";
    let incrs: Vec<usize> = things
        .iter()
        .filter(|item| item.command.as_ref().is_some_and(is_incr))
        .map(|item| item.end)
        .collect();
    let from = seals[seals.len() - 4];
    for cut in from..file.len() {
        std::fs::write(&path, &file[..cut]).expect("write the torn file");
        server.restart();
        let counter = match server.run("GET counter") {
            Reply::Bulk(count) => String::from_utf8_lossy(&count).parse().expect("a number"),
            _ => 0,
        };
        let whole = seals.iter().copied().filter(|&end| end <= cut).max().unwrap_or(0);
        let expected = incrs.iter().filter(|&&end| end <= whole).count() as i64;
        assert_eq!(counter, expected, "cut at {cut}");
        let log = server.log_text();
        if whole < cut {
            let aside = server.path(&format!("appendonly.aof.cut-{whole}"));
            let tail = std::fs::read(&aside).expect("the tail is kept aside");
            assert_eq!(tail, &file[whole..cut], "cut at {cut}");
            std::fs::remove_file(aside).expect("remove the tail");
            assert!(log.contains(&whole.to_string()), "the offset is told: {log}");
            assert!(log.contains(&(cut - whole).to_string()), "and the bytes: {log}");
        } else {
            assert!(!server.files().iter().any(|name| name.contains(".cut-")), "{log}");
        }
        assert_eq!(server.run("INCR counter"), Reply::Int(counter + 1), "it goes on from there");
        server.kill9();
    }
}

#[test]
fn a_torn_tail_is_refused_where_told_so() {
    let mut server = Server::start(&[("appendfsync", "no")]);
    let file = counted_file(&mut server, 5);
    let torn = &file[..file.len() - 7];
    let path = server.path("appendonly.aof");
    std::fs::write(&path, torn).expect("write the torn file");
    server.set_flag("aof-load-truncated", "no");
    server.respawn();
    assert_eq!(server.wait_exit().code(), Some(1));
    let said = server.log_text() + &server.stderr_text();
    assert!(said.trim_end().ends_with(LAST_LINE_SHORT), "{said}");
    assert_eq!(server.aof(), torn, "the file is left as it was");
}

/// Damage before something promised: the start is refused and the file stays as it is.
#[test]
fn damage_in_the_middle_is_refused_and_left_alone() {
    let mut server = Server::start(&[("appendfsync", "always")]);
    let mut client = server.raw();
    for at in 0..50 {
        assert!(client.command(&["SET", &format!("key{at}"), "some value"]).is_ok());
    }
    assert_eq!(server.stop().code(), Some(0));
    let file = server.aof();
    let path = server.path("appendonly.aof");
    let names = server.files();
    for at in (60..file.len() - 200).step_by(file.len() / 25) {
        for change in [1, 0x80] {
            let mut damaged = file.clone();
            damaged[at] ^= change;
            std::fs::write(&path, &damaged).expect("write the damaged file");
            server.respawn();
            assert_eq!(server.wait_exit().code(), Some(1), "a flipped bit at {at}");
            let said = server.log_text() + &server.stderr_text();
            assert!(said.trim_end().ends_with(LAST_LINE_BAD), "a flipped bit at {at}: {said}");
            assert!(said.contains("appendonly.aof"), "it names the file: {said}");
            assert_eq!(server.aof(), damaged, "the file is left as it was");
            assert_eq!(server.files(), names, "nothing is put beside it");
        }
    }
    std::fs::write(&path, &file).expect("write the whole file");
    server.restart();
    assert_eq!(server.run("DBSIZE"), Reply::Int(50));
}

/// Starts on a plain file, as Redis or a person writes it.
fn start_on(content: &[u8], truncated: &str) -> Server {
    Launch::new().file("appendonly.aof", content).flag("aof-load-truncated", truncated).spawn()
}

fn plain(lines: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        encode_into(&mut bytes, &common::raw::words(line));
    }
    bytes
}

#[test]
fn a_plain_file_is_loaded_and_gone_on_with() {
    let mut content = plain(&["SELECT 0", "SET a 1"]);
    content.extend(b"#TS:1700000000\r\n");
    content.extend(plain(&["SELECT 2", "SET b 2", "MULTI", "INCR b", "INCR b", "EXEC"]));
    let mut server = start_on(&content, "yes");
    server.wait_ready();
    assert_eq!(server.run("GET a"), Reply::Bulk(b"1".to_vec()));
    assert!(server.run("SET c 3").is_ok());
    server.kill9();
    assert!(server.aof().starts_with(&content), "what was there is left as it was");
    server.restart();
    let mut client = server.raw();
    assert_eq!(client.run("MGET a c").items().len(), 2);
    assert_eq!(client.run("GET c"), Reply::Bulk(b"3".to_vec()));
    assert!(client.run("SELECT 2").is_ok());
    assert_eq!(client.run("GET b"), Reply::Bulk(b"4".to_vec()));
}

#[test]
fn the_torn_end_of_a_plain_file_is_cut_or_refused_as_told() {
    let whole = plain(&["SELECT 0", "SET a 1", "SET b 2"]);
    let before = plain(&["SELECT 0", "SET a 1"]);
    for cut in before.len() + 1..whole.len() {
        if cut % 5 == 0 {
            let torn = &whole[..cut];
            let mut server = start_on(torn, "yes");
            server.wait_ready();
            assert_eq!(server.run("DBSIZE"), Reply::Int(1), "cut at {cut}");
            assert!(server.run("SET c 3").is_ok());
            server.kill9();
            server.restart();
            assert_eq!(server.run("DBSIZE"), Reply::Int(2), "cut at {cut}: nothing is glued on");
            let mut server = start_on(torn, "no");
            assert_eq!(server.wait_exit().code(), Some(1), "cut at {cut}");
            let said = server.log_text() + &server.stderr_text();
            assert!(said.trim_end().ends_with(LAST_LINE_SHORT), "cut at {cut}: {said}");
            assert_eq!(server.aof(), torn);
        }
    }
}

/// A transaction without its EXEC is no transaction; what is written later must not fall into it.
#[test]
fn a_transaction_torn_at_the_end_is_cut_back_to_before_it() {
    let torn = plain(&["SELECT 0", "SET a 1", "MULTI", "SET a 2", "SET b 2"]);
    let mut server = start_on(&torn, "yes");
    server.wait_ready();
    assert_eq!(server.run("GET a"), Reply::Bulk(b"1".to_vec()));
    assert_eq!(server.run("EXISTS b"), Reply::Int(0));
    assert!(server.run("SET c 3").is_ok());
    server.kill9();
    server.restart();
    assert_eq!(server.run("GET a"), Reply::Bulk(b"1".to_vec()));
    assert_eq!(server.run("GET c"), Reply::Bulk(b"3".to_vec()));
}

#[test]
fn a_plain_file_that_is_no_log_is_refused_and_left_alone() {
    let mut middle = plain(&["SELECT 0", "SET a 1"]);
    middle.extend(b"garbage\r\n");
    middle.extend(plain(&["SET b 2"]));
    for content in [
        b"this is no log\n".to_vec(),
        b"*x\r\n".to_vec(),
        b"*2\r\n$3\r\nSET\r\n+oops\r\n".to_vec(),
        middle,
        b"\x01\x02\x03\x04".to_vec(),
    ] {
        let mut server = start_on(&content, "yes");
        assert_eq!(server.wait_exit().code(), Some(1), "{:?}", common::show(&content));
        let said = server.log_text() + &server.stderr_text();
        assert!(said.trim_end().ends_with(LAST_LINE_BAD), "{said}");
        assert_eq!(server.aof(), content);
    }
}

#[test]
fn an_unknown_command_in_the_file_is_refused_by_name() {
    let content = plain(&["SELECT 0", "SET a 1", "NOSUCH a b", "SET b 2"]);
    let mut server = start_on(&content, "yes");
    assert_eq!(server.wait_exit().code(), Some(1));
    let said = server.log_text() + &server.stderr_text();
    assert!(said.contains("NOSUCH"), "{said}");
    assert_eq!(server.aof(), content);
}

#[test]
fn a_file_with_an_rdb_preamble_is_refused_by_name() {
    let mut server = start_on(b"REDIS0010\xfa\x09redis-ver\x057.0.15", "yes");
    assert_eq!(server.wait_exit().code(), Some(1));
    let said = server.log_text() + &server.stderr_text();
    assert!(said.contains("RDB"), "{said}");
    assert_eq!(server.aof(), b"REDIS0010\xfa\x09redis-ver\x057.0.15");
}

/// A file large enough that its loading takes a while.
#[test]
fn while_it_loads_clients_are_told_so() {
    const COMMANDS: usize = 1_500_000;
    let mut content = plain(&["SELECT 0"]);
    for at in 0..COMMANDS {
        encode_into(&mut content, &["SET", &format!("key:{:06}", at % 200_000), "some value"]);
    }
    let mut server = start_on(&content, "yes");
    server.wait_log("Server initialized");
    let mut client = server.raw();
    let (mut told, mut info, mut extra) = (0, String::new(), 0);
    loop {
        let reply = client.run("GET key:000001");
        if !reply.is_error() {
            assert_eq!(reply, Reply::Bulk(b"some value".to_vec()));
            break;
        }
        assert_eq!(reply.error(), "LOADING Redis is loading the dataset in memory");
        told += 1;
        if info.is_empty() {
            info = client.run("INFO persistence").text();
        }
        // The load may end between two commands, but a write is never taken before it has.
        if !client.run("SET extra value").is_error() {
            extra = 1;
            break;
        }
    }
    assert!(told > 0, "a client was told that it loads");
    assert!(info.contains("loading:1"), "{info}");
    assert_eq!(client.run("DBSIZE"), Reply::Int(200_000 + extra));
    assert_eq!(server.info("loading"), "0");
}

/// A stop while it loads must not touch the file.
#[test]
fn a_stop_while_it_loads_leaves_the_file_alone() {
    let mut content = plain(&["SELECT 0"]);
    for at in 0..500_000 {
        encode_into(&mut content, &["SET", &format!("key:{at}"), "some value"]);
    }
    let mut server = start_on(&content, "yes");
    server.wait_log("Server initialized");
    server.stop();
    let file = server.aof();
    assert!(file.starts_with(&content), "what was there is there");
    server.restart();
    assert_eq!(server.run("DBSIZE"), Reply::Int(500_000));
}
