//! Redis loads what this server wrote, and the other way round.

mod common;
#[allow(dead_code)] // only the commands are used here
#[path = "differential/generate.rs"]
mod generate;

use std::path::Path;
use std::process::Command;

use common::raw::words;
use common::skip::find_program;
use common::{Launch, Reply, Server, env_number, skip_without};
use generate::Step;

/// Writes with every kind of command, in several databases.
fn write_much(server: &Server, seed: u64) {
    let mut clients: Vec<_> = (0..generate::CONNECTIONS).map(|_| server.raw()).collect();
    for step in generate::sequence(seed, 2_000) {
        let Step::Command { on, args } = step else { continue };
        let name = String::from_utf8_lossy(&args[0]).to_uppercase();
        if ["DEBUG", "CONFIG", "QUIT", "SHUTDOWN", "HELLO"].contains(&name.as_str()) {
            continue;
        }
        if clients[on].command(&args).is_error_text("ERR Protocol error") {
            clients[on] = server.raw();
        }
    }
    let mut client = server.raw();
    let mut exists = vec![b"EXISTS".to_vec()];
    exists.extend(generate::key_pool());
    for db in 0..16 {
        assert!(client.run(&format!("SELECT {db}")).is_ok());
        client.command(&exists);
    }
    for line in ["MULTI", "SELECT 9", "SET tx 1", "INCR tx", "EXEC", "SELECT 9"] {
        client.run(line);
    }
    assert_eq!(client.run("GET tx"), Reply::Bulk(b"2".to_vec()));
}

/// Everything in all databases, as text.
fn everything(server: &Server) -> Vec<String> {
    let mut client = server.raw();
    let mut all = Vec::new();
    for db in 0..16 {
        assert!(client.run(&format!("SELECT {db}")).is_ok());
        all.push(format!("db {db}: DBSIZE {:?}", client.run("DBSIZE")));
        let mut keys = client.run("KEYS *").items().to_vec();
        keys.sort();
        for key in keys {
            let value = client.command(&[b"GET", key.bytes()]);
            let deadline = client.command(&[b"PEXPIRETIME", key.bytes()]);
            let value = common::show(format!("{value:?}").as_bytes());
            all.push(format!("db {db}: {key:?} = {value} until {deadline:?}"));
        }
    }
    all.push(format!("{:?}", client.run("DEBUG DIGEST")));
    all
}

/// redis-check-aof's word on a file.
fn check(file: &Path) {
    let program = find_program("redis-check-aof").expect("it comes with redis-server");
    let output = Command::new(program).arg(file).output().expect("redis-check-aof runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("is valid"), "{text}");
}

/// Lets redis-server load `file` and compares what it then holds with `expected`.
#[track_caller]
fn redis_loads(what: &str, file: Vec<u8>, expected: &[String]) {
    let Some(reference) = Launch::reference(what) else { return };
    let reference = reference
        .file("appendonly.aof", file)
        .flag("appendonly", "yes")
        .flag("aof-use-rdb-preamble", "no")
        .start();
    let held = everything(&reference);
    let difference: Vec<_> = expected.iter().zip(&held).filter(|(a, b)| a != b).collect();
    assert!(held == expected, "{what}: (here, redis-server): {difference:#?}");
}

#[test]
fn redis_loads_what_was_written_here() {
    let what = "redis_loads_what_was_written_here";
    let seed = env_number("COMPAT_SEED", 3);
    if skip_without(what, "redis-check-aof").is_none() {
        return;
    }
    let mut server = Server::start(&[("enable-debug-command", "yes")]);
    write_much(&server, seed);
    let expected = everything(&server);
    // As it stands while the server runs, after a rewrite with writes behind it, and at its end.
    check(&server.path("appendonly.aof"));
    redis_loads(&format!("{what} COMPAT_SEED={seed}: running"), server.aof(), &expected);
    server.rewrite();
    check(&server.path("appendonly.aof"));
    redis_loads(&format!("{what} COMPAT_SEED={seed}: rewritten"), server.aof(), &expected);
    write_much(&server, seed + 1);
    let expected = everything(&server);
    assert_eq!(server.stop().code(), Some(0));
    check(&server.path("appendonly.aof"));
    redis_loads(&format!("{what} COMPAT_SEED={seed}: stopped"), server.aof(), &expected);
}

#[test]
fn redis_loads_what_was_written_here_without_seals() {
    let what = "redis_loads_what_was_written_here_without_seals";
    if skip_without(what, "redis-check-aof").is_none() {
        return;
    }
    let server = Server::start(&[("aof-seals", "no"), ("enable-debug-command", "yes")]);
    write_much(&server, 5);
    assert!(
        common::aof::items(&server.aof()).iter().all(|item| item.command.is_some()),
        "plain RESP and nothing else"
    );
    check(&server.path("appendonly.aof"));
    redis_loads(what, server.aof(), &everything(&server));
}

/// Lets redis-server load `base` and `increment` from an `appendonlydir` of its own form and
/// compares what it then holds with `expected`.
#[track_caller]
fn redis_loads_folder(what: &str, base: &[u8], increment: &[u8], expected: &[String]) {
    let Some(reference) = Launch::reference(what) else { return };
    let dir = tempfile::TempDir::with_prefix("server_async-test-").expect("a directory");
    let folder = dir.path().join("appendonlydir");
    std::fs::create_dir(&folder).expect("create the folder");
    let manifest = "file a.aof.1.base.aof seq 1 type b\nfile a.aof.1.incr.aof seq 1 type i\n";
    for (name, bytes) in [
        ("a.aof.manifest", manifest.as_bytes()),
        ("a.aof.1.base.aof", base),
        ("a.aof.1.incr.aof", increment),
    ] {
        std::fs::write(folder.join(name), bytes).expect("write a file for redis-server");
    }
    let reference =
        reference.flag("appendonly", "yes").flag("appendfilename", "a.aof").start_in(dir);
    let held = everything(&reference);
    let difference: Vec<_> = expected.iter().zip(&held).filter(|(a, b)| a != b).collect();
    assert!(held == expected, "{what}: (here, redis-server): {difference:#?}");
}

/// What `--check-aof --json` says of the number `field`.
fn told(file: &Path, field: &str) -> usize {
    let mut command = Command::new(env!("CARGO_BIN_EXE_server_async"));
    let output = command.arg("--check-aof").arg(file).arg("--json").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let from = text.find(&format!("\"{field}\":")).expect("the field") + field.len() + 3;
    let digits: String = text[from..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{field} is no number: {text}"))
}

/// Many keys of every shape under a rewrite, a kill -9 behind it, and redis-server on what is
/// there: as one file, and as base and increments taken apart where the base ends.
#[test]
fn redis_loads_a_large_log_after_a_rewrite_and_a_kill() {
    let what = "redis_loads_a_large_log_after_a_rewrite_and_a_kill";
    let seed = env_number("COMPAT_SEED", 11);
    let mut server = Server::start(&[("enable-debug-command", "yes")]);
    write_much(&server, seed);
    let mut client = server.raw();
    let mut set = |at: usize, round: &str| {
        let key = format!("{round}:{at}\r\n\0#S1:");
        let bytes = if round == "large" { at } else { at % 700 };
        let value = vec![b'a' + (at % 26) as u8; bytes];
        let mut words = vec![b"SET".to_vec(), key.into_bytes(), value];
        if at.is_multiple_of(5) {
            words.push(b"PXAT".to_vec());
            words.push((4_000_000_000_000 + at).to_string().into_bytes());
        }
        assert!(client.command(&words).is_ok());
    };
    for at in 0..3_000 {
        set(at, "before");
    }
    set(3 << 20, "large");
    assert!(server.run("BGREWRITEAOF").text().contains("started"));
    for at in 0..1_500 {
        set(at, "meanwhile");
    }
    server.wait_rewrite_end(&mut server.raw());
    write_much(&server, seed + 1);
    let expected = everything(&server);
    server.kill9();
    let file = server.aof();
    let what = format!("{what} COMPAT_SEED={seed}");
    redis_loads(&what, file.clone(), &expected);
    let base_end = told(&server.path("appendonly.aof"), "base_end");
    assert!(base_end > 0 && base_end < file.len());
    redis_loads_folder(&what, &file[..base_end], &file[base_end..], &expected);
    // What a crash leaves of the last seal is no trouble either.
    redis_loads(&format!("{what}: torn seal"), file[..file.len() - 7].to_vec(), &expected);
    server.restart();
    assert_eq!(everything(&server), expected);
}

/// The log of a redis-server 7: its base file, if any, and then its increments.
fn redis_log(reference: &Server) -> Vec<u8> {
    let folder = reference.path("appendonlydir");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .expect("list redis-server's log")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".aof"))
        .collect();
    // "base" before "incr", and increments by number; there is at most one of each here.
    names.sort_by_key(|name| (!name.contains(".base."), name.clone()));
    names.iter().flat_map(|name| std::fs::read(folder.join(name)).expect("read it")).collect()
}

#[test]
fn what_redis_wrote_is_loaded_here() {
    let what = "what_redis_wrote_is_loaded_here";
    let Some(reference) = Launch::reference(what) else { return };
    let reference = reference
        .flag("appendonly", "yes")
        .flag("aof-use-rdb-preamble", "no")
        .flag("aof-timestamp-enabled", "yes")
        .start();
    write_much(&reference, 21);
    for rewritten in [false, true] {
        if rewritten {
            reference.rewrite();
            write_much(&reference, 22);
        }
        let expected = everything(&reference);
        let mut server = Launch::new()
            .file("appendonly.aof", redis_log(&reference))
            .flag("enable-debug-command", "yes")
            .start();
        assert_eq!(everything(&server), expected, "rewritten: {rewritten}");
        // And it goes on from there.
        assert!(server.run("SET behind it").is_ok());
        server.kill9();
        server.restart();
        assert_eq!(server.run("GET behind"), Reply::Bulk(b"it".to_vec()));
    }
}

/// The tools that people have at hand.
#[test]
fn redis_cli_speaks_with_it() {
    let Some(cli) = skip_without("redis_cli_speaks_with_it", "redis-cli") else { return };
    let server = Server::start(&[]);
    let run = |line: &str| {
        let port = server.port().to_string();
        let words: Vec<String> =
            words(line).iter().map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        let output =
            Command::new(&cli).args(["-p", &port]).args(&words).output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    };
    for (line, answer) in [
        ("PING", "PONG"),
        ("SET greeting hello", "OK"),
        ("GET greeting", "hello"),
        ("INCR visits", "1"),
        ("-3 CONFIG GET appendonly", "appendonly yes"),
        ("EXISTS absent", "0"),
        ("-n 2 DBSIZE", "0"),
        ("--scan --pattern g*", "greeting"),
    ] {
        assert_eq!(run(line).replace('\n', " "), answer, "redis-cli {line}");
    }
    assert!(run("INFO server").contains("redis_version:7.2.4"));
    assert!(run("INFO server").contains("server_name:server_async"));
}
