//! The log tools on files of the real binary: what they make is served here and by redis-server,
//! and the file that it was made of is left alone unless it is to be replaced.

mod common;

use common::output::{code, stderr, stdout};
use common::raw::{encode_into, words};
use common::{Launch, Reply, Server, unix_ms};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const FILE: &str = "appendonly.aof";

/// Runs this package's binary in `dir`.
fn tool(dir: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_server_async"));
    command.args(words).current_dir(dir).output().expect("the binary runs")
}

/// What a tool made, which it must have done.
#[track_caller]
fn made(server: &Server, words: &[&str], name: &str) -> Vec<u8> {
    let output = tool(server.dir(), words);
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
    assert!(stdout(&output).contains(name), "{}", stdout(&output));
    std::fs::read(server.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All keys with values and deadlines, in all databases.
fn everything(server: &Server) -> Vec<String> {
    let mut client = server.raw();
    let mut all = Vec::new();
    for db in 0..16 {
        assert!(client.run(&format!("SELECT {db}")).is_ok());
        let mut keys = client.run("KEYS *").items().to_vec();
        keys.sort();
        for key in keys {
            let value = client.command(&[b"GET", key.bytes()]);
            let deadline = client.command(&[b"PEXPIRETIME", key.bytes()]);
            all.push(format!("{db} {key:?} = {value:?} until {deadline:?}"));
        }
    }
    all.push(client.run("DEBUG DIGEST").text());
    all
}

/// A server on `file`, serving, after redis-server (where it is installed) has been found to hold
/// the same.
#[track_caller]
fn served_alike(what: &str, file: Vec<u8>) -> Server {
    let server = Launch::new()
        .file(FILE, file.clone())
        .flag("enable-debug-command", "yes")
        .flag("aof-load-truncated", "no")
        .start();
    if let Some(reference) = Launch::reference(what) {
        let reference = reference.file(FILE, file).flag("appendonly", "yes").start();
        assert_eq!(everything(&server), everything(&reference), "{what}: (here, redis-server)");
    }
    server
}

/// Flips a bit in the value of the command `line` within `file`.
#[track_caller]
fn damage(file: &mut [u8], line: &str) {
    let at = place_of(file, line);
    let len = encoded(&[line]).len();
    file[at + len - 3] ^= 1;
}

fn encoded(lines: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        encode_into(&mut bytes, &words(line));
    }
    bytes
}

#[track_caller]
fn place_of(file: &[u8], line: &str) -> usize {
    let command = encoded(&[line]);
    let place = file.windows(command.len()).position(|part| part == command);
    place.unwrap_or_else(|| panic!("{line} is not in the file"))
}

/// Stopped in order, after these commands one by one, each durable before the next.
fn stopped_after(lines: &[&str]) -> Server {
    let mut server = Server::start(&[("appendfsync", "always")]);
    let mut client = server.raw();
    for line in lines {
        assert!(!client.run(line).is_error(), "{line}");
    }
    assert_eq!(server.stop().code(), Some(0));
    server
}

#[test]
fn a_report_for_programs_has_the_exit_code_of_the_one_for_people() {
    let server = stopped_after(&["SET a 1", "SET b 2", "SET c 3", "SET d 4"]);
    let json = ["--check-aof", FILE, "--json"];
    let output = tool(server.dir(), &json);
    let text = stdout(&output);
    assert_eq!(code(&output), 0, "{text}{}", stderr(&output));
    assert!(text.starts_with('{') && text.ends_with("]}\n") && text.lines().count() == 1);
    let size = format!(r#""result":"clean","size_bytes":{}"#, server.aof().len());
    for part in [&size, r#""closed_in_order":true"#, r#""commands":5"#, r#""damage":null"#] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains(r#""base_end":null"#), "a new log begins with an empty base: {text}");

    let mut file = server.aof();
    damage(&mut file, "SET b 2");
    std::fs::write(server.path(FILE), file).expect("write");
    let output = tool(server.dir(), &json);
    let text = stdout(&output);
    assert_eq!(code(&output), 1, "{text}");
    assert!(text.contains(r#""kind":"refused","sealed":true,"promised_until":"#), "{text}");
    assert!(text.contains(r#""first_key":{"key":"b","command":"SET","offset":"#), "{text}");

    std::fs::write(server.path(FILE), "REDIS0010").expect("write");
    let output = tool(server.dir(), &json);
    assert_eq!((code(&output), stdout(&output)), (2, String::new()));
    assert!(stderr(&output).contains("RDB preamble"), "{}", stderr(&output));
}

/// Rot in one record used to cost everything behind it.
#[test]
fn salvage_keeps_what_stands_behind_rot_in_its_own_database() {
    let server = stopped_after(&[
        "SET a 0",
        "SELECT 5",
        "SET b 5",
        "SET rotten 5",
        "SET behind it",
        "SET c 5 PXAT 4000000000000",
        "SELECT 0",
        "MSET d 0 e 0",
        "MULTI",
        "INCR d",
        "INCR d",
        "EXEC",
    ]);
    let mut file = server.aof();
    damage(&mut file, "SET rotten 5");
    std::fs::write(server.path(FILE), &file).expect("write");
    let words = ["--check-aof", FILE, "--salvage"];
    let copy = made(&server, &words, "appendonly.aof.salvaged");
    assert_eq!(server.aof(), file, "only a copy was written");
    let output = tool(server.dir(), &words);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("is there already"), "{}", stderr(&output));

    let found = served_alike("salvage", copy.clone());
    let mut client = found.raw();
    assert_eq!(client.run("DBSIZE"), Reply::Int(3));
    assert_eq!(client.run("GET d"), Reply::Bulk(b"2".to_vec()));
    client.run("SELECT 5");
    assert_eq!(
        client.run("MGET b rotten behind c").items()[1..3],
        [Reply::NullBulk, Reply::Bulk(b"it".to_vec())]
    );
    assert_eq!(client.run("PEXPIRETIME c"), Reply::Int(4_000_000_000_000));

    // In place: the copy takes the file's name, mode and all, and the file is kept.
    std::fs::remove_file(server.path("appendonly.aof.salvaged")).expect("remove the copy");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(server.path(FILE), mode).expect("set the mode");
    let output = tool(server.dir(), &[&words[..], &["--in-place"]].concat());
    let text = stdout(&output);
    assert_eq!(code(&output), 0, "{text}{}", stderr(&output));
    assert!(text.contains("1 groups") && text.contains("Lost: "), "{text}");
    let names = server.files();
    let kept = names.iter().find(|name| name.contains(".before-salvage-")).expect("it is kept");
    assert_eq!(std::fs::read(server.path(kept)).expect("read"), file);
    let mode = std::fs::metadata(server.path(FILE)).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!names.iter().any(|name| name.ends_with(".salvaged") || name.ends_with(".part")));
    let again = served_alike("salvage in place", server.aof());
    assert_eq!(again.run("DBSIZE"), Reply::Int(3));
}

/// A server refuses a log that holds a command which fails; one that depended on what is lost can.
#[test]
fn salvage_leaves_out_a_command_that_needs_what_is_lost() {
    let server = stopped_after(&["SET n text", "SET n 5", "INCR n", "SET m 1", "INCR m"]);
    let mut file = server.aof();
    damage(&mut file, "SET n 5");
    std::fs::write(server.path(FILE), &file).expect("write");
    let output = tool(server.dir(), &["--check-aof", FILE, "--salvage"]);
    let text = stdout(&output);
    assert_eq!(code(&output), 1, "the file itself is as it was: {text}{}", stderr(&output));
    assert!(text.contains("Left out: 1 commands that need what is lost"), "{text}");
    let place = place_of(&file, "INCR n");
    assert!(text.contains(&format!("at offset {place}: Command 'INCR', which fails")), "{text}");
    let copy = std::fs::read(server.path("appendonly.aof.salvaged")).expect("a copy");
    let found = served_alike("left out", copy);
    assert_eq!(found.run("GET n"), Reply::Bulk(b"text".to_vec()));
    assert_eq!(found.run("GET m"), Reply::Bulk(b"2".to_vec()));
}

/// The oldest use of an append-only file: a FLUSHALL by mistake is taken out by hand.
#[test]
fn reseal_accepts_a_flushall_taken_out_by_hand() {
    let server = stopped_after(&["SET a 1", "SET b 2", "FLUSHALL", "SET c 3"]);
    let mut file = server.aof();
    let flush = encoded(&["FLUSHALL"]);
    let at = place_of(&file, "FLUSHALL");
    file.drain(at..at + flush.len());
    std::fs::write(server.path(FILE), &file).expect("write");
    assert_eq!(code(&tool(server.dir(), &["--check-aof", FILE])), 1, "an edit is damage");

    let output = tool(server.dir(), &["--reseal", FILE, "--in-place"]);
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    let kept = std::fs::read(server.path("appendonly.aof.before-reseal")).expect("it is kept");
    assert_eq!(kept, file);
    assert_eq!(code(&tool(server.dir(), &["--check-aof", FILE])), 0);
    let mut found = served_alike("reseal", server.aof());
    assert_eq!(found.run("DBSIZE"), Reply::Int(3));
    assert!(found.run("SET d 4").is_ok());
    found.kill9();
    found.restart();
    assert_eq!(found.run("DBSIZE"), Reply::Int(4));
}

#[test]
fn reseal_refuses_what_no_server_would_load_and_says_where() {
    let server = stopped_after(&["SET a 1"]);
    let file = server.aof();
    let at = place_of(&file, "SET a 1");
    for (text, why) in [
        (encoded(&["STE a 1"]), "Unknown command 'STE'"),
        (encoded(&["SET a"]), "Malformed command 'SET'"),
        (encoded(&["GET a"]), "Command 'GET', which changes nothing,"),
        (encoded(&["SELECT 16"]), "Command 'SELECT 16', which fails with --databases 16"),
        (b"SET a 1\n".to_vec(), "Cannot seal it: neither a command nor a # line begins here"),
    ] {
        let edited = [&file[..at], &text, &file[at..]].concat();
        std::fs::write(server.path(FILE), &edited).expect("write");
        let output = tool(server.dir(), &["--reseal", FILE]);
        let said = stderr(&output);
        assert_eq!(code(&output), 2, "{said}");
        assert!(said.contains(why) && said.contains(&format!("(at offset {at})")), "{said}");
        assert_eq!(server.files(), [FILE, "appendonly.aof.lock"]);
    }
    // A file of another hand, never sealed, is sealed throughout.
    std::fs::write(server.path(FILE), encoded(&["SELECT 3", "SET x 1"])).expect("write");
    let copy = made(&server, &["--reseal", FILE], "appendonly.aof.resealed");
    assert!(copy.starts_with(b"#SH1:"));
    let found = served_alike("plain", copy);
    assert_eq!(found.raw().run("DBSIZE"), Reply::Int(0));
}

/// The moment behind which what comes next has a later time.
fn a_moment() -> i64 {
    let moment = unix_ms();
    while unix_ms() <= moment + 1 {
        std::thread::yield_now();
    }
    moment
}

#[test]
fn a_point_in_time_is_what_the_server_held_then() {
    let mut server = Launch::new().flag("enable-debug-command", "yes").start();
    let mut client = server.raw();
    let mut moments = Vec::new();
    for round in 0..5 {
        for at in 0..20 {
            client.run(&format!("SET key{at}:{round} value EX {}", 10_000 + at));
            client.run("INCR counter");
        }
        client.run(&format!("SELECT {round}"));
        let held = everything(&server);
        moments.push((a_moment(), held));
    }
    assert!(client.run("FLUSHALL").is_ok());
    assert_eq!(server.stop().code(), Some(0));
    for (moment, held) in &moments {
        let (time, name) = (moment.to_string(), format!("appendonly.aof.until-{moment}"));
        let copy = made(&server, &["--truncate-to-time", &time, FILE], &name);
        let found = served_alike("a point in time", copy);
        assert_eq!(&everything(&found), held, "at {moment}");
    }
    // The same moment again, and as the text of a date.
    let (moment, _) = &moments[0];
    let output = tool(server.dir(), &["--truncate-to-time", &moment.to_string(), FILE]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("is there already"), "{}", stderr(&output));
    let output = tool(server.dir(), &["--truncate-to-time", "2100-01-01T00:00:00Z", FILE]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("Left out: the 0 bytes behind"), "{}", stdout(&output));
}

#[test]
fn a_moment_ahead_of_a_rewrite_is_refused_and_the_kept_file_named() {
    let mut server = Server::start(&[]);
    assert!(server.run("SET a 1").is_ok());
    let moment = a_moment();
    assert!(server.run("FLUSHALL").is_ok());
    let older = server.aof();
    server.rewrite();
    assert_eq!(server.stop().code(), Some(0));
    let ask = ["--truncate-to-time", &moment.to_string(), FILE];
    let output = tool(server.dir(), &ask);
    let said = stderr(&output);
    assert_eq!(code(&output), 2, "{said}");
    assert!(said.contains("No file kept beside it"), "{said}");

    // What keeping files before a rewrite leaves: the fork's time stands in the new file's header.
    let file = server.aof();
    let header = String::from_utf8_lossy(&file[..file.iter().position(|&b| b == b'\r').unwrap()]);
    let forked = header.rsplit(':').next().expect("a time").to_owned();
    let kept = format!("appendonly.aof.before-{forked}");
    std::fs::write(server.path(&kept), older).expect("write");
    let output = tool(server.dir(), &ask);
    assert!(stderr(&output).contains(&format!("{kept} does")), "{}", stderr(&output));
    let name = format!("{kept}.until-{moment}");
    let copy = made(&server, &["--truncate-to-time", &moment.to_string(), &kept], &name);
    assert_eq!(served_alike("undone", copy).run("GET a"), Reply::Bulk(b"1".to_vec()));
}

#[test]
fn a_file_that_a_server_uses_is_left_to_it() {
    let server = Server::start(&[]);
    assert!(server.run("SET a 1").is_ok());
    let (file, names) = (server.aof(), server.files());
    for words in [
        &["--check-aof", FILE, "--json"][..],
        &["--check-aof", FILE, "--salvage"],
        &["--check-aof", FILE, "--salvage", "--in-place"],
        &["--reseal", FILE],
        &["--reseal", FILE, "--in-place"],
        &["--truncate-to-time", "4000000000", FILE],
    ] {
        let output = tool(server.dir(), words);
        assert_eq!(code(&output), 2, "{words:?}");
        let said = stderr(&output);
        assert!(said.contains("Cannot lock the append-only file"), "{said}");
        assert!(said.contains(&server.pid().to_string()), "{said}");
        assert_eq!((server.aof(), server.files()), (file.clone(), names.clone()), "{words:?}");
    }
}

#[test]
fn wrong_usage_changes_nothing() {
    let dir = TempDir::new().expect("a directory");
    std::fs::write(dir.path().join("log"), encoded(&["SET a 1"])).expect("write");
    for words in [
        &["--truncate-to-time", "tomorrow", "log"][..],
        &["--truncate-to-time", "1700000000"],
        &["--truncate-to-time", "1700000000", "nosuch"],
        &["--reseal", "nosuch"],
        &["--reseal", "log", "--fix"],
        &["--check-aof", "log", "--json", "--salvage"],
    ] {
        let output = tool(dir.path(), words);
        assert_eq!(code(&output), 2, "{words:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty(), "{words:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
}
