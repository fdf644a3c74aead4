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
        // Redis does not log the zeros that it lengthens a string with when each write then fails.
        let may_fail = args.iter().any(|arg| arg.eq_ignore_ascii_case(b"FAIL"));
        if name == "BITFIELD" && may_fail {
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

/// The log of a redis-server 7: its base file, if any, and then its increments. Not what a rewrite
/// has replaced, which it removes a while later.
fn redis_log(reference: &Server) -> Vec<u8> {
    let folder = reference.path("appendonlydir");
    let manifest = std::fs::read_to_string(folder.join("appendonly.aof.manifest"));
    let manifest = manifest.expect("a manifest");
    let line = |line| match words(line).as_slice() {
        [_, name, _, number, _, kind] => {
            let [kind, number, name] = [kind, number, name].map(|word| common::show(word));
            (kind, number.parse::<u64>().expect("a number"), name)
        }
        _ => panic!("{manifest}"),
    };
    let mut files: Vec<_> = manifest.lines().map(line).filter(|(kind, ..)| kind != "h").collect();
    // The base, "b", before the increments, "i", and those by number.
    files.sort();
    let read = |name: &str| std::fs::read(folder.join(name)).expect("read it");
    files.iter().flat_map(|(.., name)| read(name)).collect()
}

#[test]
fn what_redis_wrote_is_loaded_here() {
    let what = "what_redis_wrote_is_loaded_here";
    let Some(reference) = Launch::reference(what) else { return };
    let reference = reference
        .flag("appendonly", "yes")
        .flag("aof-use-rdb-preamble", "no")
        .flag("aof-timestamp-enabled", "yes")
        // Its file is read while it runs. With everysec it answers before it writes, while a sync
        // is under way.
        .flag("appendfsync", "no")
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

/// A line for each command that writes: also those that Redis logs as others.
const EVERY_WRITE: &[&str] = &[
    "SET s value",
    "SET plain 1 NX",
    "SET far v EX 100000",
    "SET keep v PX 100000000",
    "SET keep w KEEPTTL",
    "SET past v PXAT 1000",
    "EXISTS past",
    "SETNX nx v",
    "SETEX sex 100000 v",
    "PSETEX psex 100000000 v",
    "MSET m1 1 m2 2 m3 3 m4 4",
    "MSETNX n1 1 n2 2",
    "GETSET m1 one",
    "GETDEL m2",
    "GETEX m3 EX 100000",
    "GETEX keep PERSIST",
    "APPEND s more",
    "SETRANGE ranged 10 text",
    "SETRANGE ranged 2 more",
    "SETBIT ranged 3 1",
    "SETBIT bits 1000 1",
    "BITOP NOT inverted bits",
    "BITOP XOR both ranged bits inverted",
    "BITOP AND both absent none",
    "BITFIELD bits SET u8 0 255 OVERFLOW SAT INCRBY i5 #3 100 GET u8 0",
    "BITFIELD made OVERFLOW SAT INCRBY u2 0 10",
    "INCR counter",
    "DECR counter",
    "INCRBY counter 40",
    "DECRBY counter 7",
    "INCRBYFLOAT float 0.1",
    "INCRBYFLOAT float 1e3",
    "EXPIRE m4 100000",
    "PEXPIRE n1 100000000 NX",
    "EXPIREAT n2 4000000000 GT",
    "EXPIREAT n2 4000000000",
    "PEXPIREAT nx 4000000000000",
    "PERSIST m4",
    "RENAME s renamed",
    "RENAMENX renamed s",
    "COPY s copied",
    "COPY far copied DB 9 REPLACE",
    "COPY far copied REPLACE",
    "SET moved v EX 100000",
    "MOVE moved 9",
    "SWAPDB 9 10",
    "SWAPDB 8 8",
    "DEL s absent",
    "UNLINK plain",
    "MULTI",
    "SET in tx",
    "SELECT 11",
    "SET in tx",
    "FLUSHDB",
    "SET in again",
    "EXEC",
    "SELECT 12",
    "SET gone 1",
    "FLUSHDB",
    "SELECT 0",
];

#[track_caller]
fn write_every_command(server: &Server) {
    let mut client = server.raw();
    assert!(client.run("FLUSHALL").is_ok());
    for line in EVERY_WRITE {
        let reply = client.run(line);
        assert!(!reply.is_error(), "{line}: {reply:?}");
    }
    let binary: Vec<u8> = (0..=255).collect();
    assert!(client.command(&[&b"SET"[..], &binary, &binary]).is_ok());
    let large = vec![b'\n'; 3 << 20];
    assert!(client.command(&[&b"SET"[..], b"large", &large]).is_ok());
}

#[test]
fn every_command_that_writes_has_a_line_here() {
    let server = Server::start(&[]);
    for row in server.run("COMMAND").items() {
        let flags = format!("{:?}", row.items()[2]);
        let name = row.items()[0].text().to_uppercase();
        let has_line = EVERY_WRITE.iter().any(|line| line.split(' ').next() == Some(&name));
        let writes = flags.contains("write");
        assert!(!writes || has_line || name == "FLUSHALL", "{name} is not among EVERY_WRITE");
    }
}

/// A redis-server that logs in plain RESP, with the times of its writes.
fn plain_reference(what: &str) -> Option<Launch> {
    let launch = Launch::reference(what)?;
    Some(
        launch
            .flag("appendonly", "yes")
            .flag("aof-use-rdb-preamble", "no")
            .flag("aof-timestamp-enabled", "yes"),
    )
}

/// Imports `path` and lets this server serve it; `flags` go to both.
#[track_caller]
fn import_and_serve(path: &Path, flags: &[(&str, &str)]) -> Result<Server, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_server_async"));
    command.arg("--dir").arg(dir.path()).arg("--import").arg(path);
    for (name, value) in flags {
        command.args([format!("--{name}"), (*value).to_owned()]);
    }
    let output = command.output().expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .expect("list it")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(1), "{told}");
        names.retain(|name| name != "appendonly.aof.lock");
        assert!(names.is_empty(), "{names:?}: {told}");
        return Err(told);
    }
    assert_eq!(names, ["appendonly.aof", "appendonly.aof.lock"]);
    let launch = Launch::new().flag("enable-debug-command", "yes");
    let launch = flags.iter().fold(launch, |launch, (name, value)| launch.flag(name, value));
    let server = launch.start_in(dir);
    assert!(!server.log_text().contains("was cut"), "{}", server.log_text());
    Ok(server)
}

/// Lets a rewrite fail, so that one more increment stands in the manifest.
fn fail_a_rewrite(reference: &Server) {
    let mut client = reference.raw();
    assert!(client.run("CONFIG SET rdb-key-save-delay 10000000").is_ok());
    assert!(!client.run("BGREWRITEAOF").is_error());
    common::eventually("a rewrite child", || reference.rewrite_child().is_some());
    let child = reference.rewrite_child().expect("it sleeps at its first key");
    common::process::send_signal(child, nix::sys::signal::Signal::SIGKILL);
    reference.wait_rewrite_end(&mut client);
    assert_eq!(reference.info("aof_last_bgrewrite_status"), "err");
    assert!(client.run("CONFIG SET rdb-key-save-delay 0").is_ok());
}

#[test]
fn a_directory_that_redis_wrote_is_imported() {
    let what = "a_directory_that_redis_wrote_is_imported";
    let seed = env_number("COMPAT_SEED", 31);
    let Some(reference) = plain_reference(what) else { return };
    let mut reference = reference.start();
    let folder = reference.path("appendonlydir");
    write_every_command(&reference);
    for round in 0..3 {
        let story = format!("{what} COMPAT_SEED={seed}, round {round}");
        match round {
            0 => {}
            1 => {
                reference.rewrite();
                write_much(&reference, seed);
                fail_a_rewrite(&reference);
                write_much(&reference, seed + 1);
                fail_a_rewrite(&reference);
                write_every_command(&reference);
            }
            _ => {
                reference.rewrite();
                assert!(reference.run("SET last word").is_ok());
            }
        }
        let expected = everything(&reference);
        assert_eq!(reference.stop().code(), Some(0));
        let manifest = std::fs::read_to_string(folder.join("appendonly.aof.manifest"));
        let manifest = manifest.expect("a manifest");
        let increments = manifest.lines().filter(|line| line.ends_with(" type i")).count();
        assert_eq!(increments, if round == 1 { 3 } else { 1 }, "{manifest}");
        let server = import_and_serve(&folder, &[]).unwrap_or_else(|e| panic!("{story}: {e}"));
        assert_eq!(everything(&server), expected, "{story}");
        reference.restart();
        assert_eq!(everything(&reference), expected, "{story}: the source is as it was");
    }
}

/// One file, as Redis 6.2 has it; redis-server 7.0 writes its increments in the same form.
#[test]
fn a_single_file_is_imported() {
    let what = "a_single_file_is_imported";
    let Some(reference) = plain_reference(what) else { return };
    let mut reference = reference.start();
    write_much(&reference, 41);
    write_every_command(&reference);
    let expected = everything(&reference);
    assert_eq!(reference.stop().code(), Some(0));
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("appendonly.aof");
    std::fs::write(&file, redis_log(&reference)).expect("write it");
    let server = import_and_serve(&file, &[("appendfsync", "always")]).expect("imported");
    assert_eq!(everything(&server), expected);
    assert!(server.run("SET behind it").is_ok());
}

/// Wherever a crash has cut the last file off, the import takes what Redis takes.
#[test]
fn a_torn_log_is_cut_where_redis_cuts_it() {
    let what = "a_torn_log_is_cut_where_redis_cuts_it";
    let seed = env_number("COMPAT_SEED", 51);
    let Some(launch) = plain_reference(what) else { return };
    let mut reference = launch.clone().start();
    assert!(reference.run("SET base 1").is_ok());
    reference.rewrite();
    let mut client = reference.raw();
    for at in 0..40 {
        let lines = [format!("SELECT {}", at % 3), format!("SET k{at} v{at} EX 100000")];
        let many = ["MULTI", "INCR n", "SELECT 7", "INCRBY n 3", "EXEC", "APPEND s x"];
        for line in lines.iter().map(String::as_str).chain(many) {
            assert!(!client.run(line).is_error());
        }
    }
    assert_eq!(reference.stop().code(), Some(0));
    let folder = reference.path("appendonlydir");
    let last = folder.join("appendonly.aof.2.incr.aof");
    let whole = std::fs::read(&last).expect("an increment");
    let mut rng = common::Rng::new(seed);
    for _ in 0..12 {
        let len = rng.below(whole.len() + 1);
        let story = format!("COMPAT_SEED={seed}, cut at {len} of {}", whole.len());
        std::fs::write(&last, &whole[..len]).expect("write it");
        // First, since Redis cuts the file itself.
        let server = import_and_serve(&folder, &[]).unwrap_or_else(|e| panic!("{story}: {e}"));
        assert_eq!(std::fs::read(&last).expect("read").len(), len, "{story}: left alone");
        reference.restart();
        assert_eq!(everything(&server), everything(&reference), "{story}");
        assert_eq!(reference.stop().code(), Some(0));
    }
    // In an earlier file Redis refuses it, and so does the import.
    std::fs::write(&last, &whole).expect("write it");
    let base = folder.join("appendonly.aof.2.base.aof");
    let text = std::fs::read(&base).expect("a base");
    std::fs::write(&base, &text[..text.len() - 3]).expect("write it");
    let why = import_and_serve(&folder, &[]).err().expect("refused");
    assert!(why.contains("Only the last file of a log may end early"), "{why}");
    reference.respawn();
    assert_eq!(reference.wait_exit().code(), Some(1));
    assert!(reference.log_text().contains("the truncated file is not the last file"));
}

/// The refusal says what to do, and doing so helps.
#[test]
fn a_base_with_an_rdb_preamble_is_refused_and_the_advice_holds() {
    let what = "a_base_with_an_rdb_preamble_is_refused_and_the_advice_holds";
    let Some(reference) = Launch::reference(what) else { return };
    let mut reference = reference.flag("appendonly", "yes").start();
    write_every_command(&reference);
    let expected = everything(&reference);
    let folder = reference.path("appendonlydir");
    let why = import_and_serve(&folder, &[]).err().expect("refused");
    assert!(why.contains("appendonly.aof.1.base.rdb, which the manifest"), "{why}");
    let commands: Vec<&str> =
        why.split('\'').filter(|part| part.starts_with("redis-cli")).collect();
    assert_eq!(commands.len(), 3, "{why}");
    for command in commands {
        let reply = reference.run(command.strip_prefix("redis-cli ").expect("checked"));
        assert!(!reply.is_error(), "{command}: {reply:?}");
    }
    reference.wait_rewrite_end(&mut reference.raw());
    assert_eq!(reference.stop().code(), Some(0));
    let server = import_and_serve(&folder, &[]).expect("imported");
    assert_eq!(everything(&server), expected);
}

#[test]
fn what_this_server_cannot_replay_is_refused_by_name() {
    let what = "what_this_server_cannot_replay_is_refused_by_name";
    let Some(reference) = plain_reference(what) else { return };
    let mut reference = reference.flag("databases", "20").start();
    let mut client = reference.raw();
    for line in ["SET a 1", "SELECT 17", "SET b 2"] {
        assert!(client.run(line).is_ok());
    }
    let expected = client.run("DEBUG DIGEST");
    assert_eq!(reference.stop().code(), Some(0));
    let folder = reference.path("appendonlydir");
    let why = import_and_serve(&folder, &[]).err().expect("refused");
    assert!(why.contains("Database 17, of which there is none with --databases 16"), "{why}");
    let server = import_and_serve(&folder, &[("databases", "20")]).expect("imported");
    assert_eq!(server.run("DEBUG DIGEST"), expected);
    reference.restart();
    assert!(!reference.run("XADD stream 1-1 field value").is_error());
    assert_eq!(reference.stop().code(), Some(0));
    let why = import_and_serve(&folder, &[("databases", "20")]).err().expect("refused");
    let name = "Command 'XADD', which this server does not have, in ";
    assert!(why.contains(name) && why.contains("incr.aof (at offset "), "{why}");
}
