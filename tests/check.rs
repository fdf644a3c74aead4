//! `--check-aof` on files of the real binary: it tells the truth, changes nothing that it was not
//! told to change, and what it repairs is served.

mod common;

use common::output::{code, stderr, stdout};
use common::raw::{encode_into, words};
use common::{Launch, Reply, Server};
use std::path::Path;
use std::process::{Command, Output};

const FILE: &str = "appendonly.aof";

/// Runs `--check-aof` with `flags` on the server's file.
fn check(server: &Server, flags: &[&str]) -> Output {
    check_path(&server.path(FILE), flags)
}

fn check_path(file: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_server_async"));
    command.arg("--check-aof").arg(file).args(flags).output().expect("the binary runs")
}

/// A server that has ended in order, with 30 keys and 2 transactions in its file.
fn stopped() -> Server {
    let mut server = Server::start(&[("appendfsync", "always")]);
    let mut client = server.raw();
    for at in 0..30 {
        assert!(client.command(&["SET", &format!("key{at}"), "some value"]).is_ok());
    }
    for _ in 0..2 {
        for line in ["MULTI", "INCR counter", "INCR counter", "EXEC"] {
            assert!(!client.run(line).is_error());
        }
    }
    assert_eq!(server.stop().code(), Some(0));
    server
}

fn write(server: &Server, bytes: &[u8]) {
    std::fs::write(server.path(FILE), bytes).expect("write the file");
}

/// The file with one bit of the command that sets `key` flipped, in its value.
fn damaged_at(file: &[u8], key: &str) -> Vec<u8> {
    let mut command = Vec::new();
    encode_into(&mut command, &["SET", key, "some value"]);
    let at = file.windows(command.len()).position(|part| part == command).expect("it is there");
    let mut damaged = file.to_vec();
    damaged[at + command.len() - 5] ^= 1;
    damaged
}

fn plain(lines: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        encode_into(&mut bytes, &words(line));
    }
    bytes
}

#[test]
fn a_clean_file_is_told_with_its_figures() {
    let server = stopped();
    let (file, names) = (server.aof(), server.files());
    let output = check(&server, &[]);
    let text = stdout(&output);
    assert_eq!(code(&output), 0, "{text}{}", stderr(&output));
    // SELECT, 30 SET, 4 INCR.
    assert!(text.contains("Commands: 35 (2 transactions)"), "{text}");
    assert!(text.contains("Result: clean; it ends as a shutdown in order leaves it"), "{text}");
    assert!(text.contains("Time: 20"), "{text}");
    let output = check(&server, &["--fix"]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains("nothing to fix"), "{}", stdout(&output));
    assert_eq!((server.aof(), server.files()), (file, names), "nothing was changed");
}

#[test]
fn a_torn_tail_is_told_copied_without_and_served() {
    let mut server = Server::start(&[("appendfsync", "no")]);
    let mut client = server.raw();
    for at in 0..10 {
        assert!(client.command(&["SET", &format!("key{at}"), "some value"]).is_ok());
    }
    server.kill9();
    let file = server.aof();
    let torn = &file[..file.len() - 3];
    write(&server, torn);
    let names = server.files();
    let output = check(&server, &[]);
    let text = stdout(&output);
    assert_eq!(code(&output), 1, "{text}");
    assert!(text.contains("Result: an un-promised tail is to be cut off"), "{text}");
    assert!(text.contains("First key affected: \"key9\" (SET at offset"), "{text}");
    assert_eq!(server.files(), names);

    let output = check(&server, &["--fix"]);
    assert_eq!(code(&output), 1, "FILE itself is as it was");
    let fixed = std::fs::read(server.path("appendonly.aof.fixed")).expect("a copy");
    assert!(torn.starts_with(&fixed) && fixed.len() < torn.len());
    assert_eq!(server.aof(), torn);
    assert_eq!(code(&check_path(&server.path("appendonly.aof.fixed"), &[])), 0);

    // A copy that is there already is not written over.
    let output = check(&server, &["--fix"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("appendonly.aof.fixed: File exists"), "{}", stderr(&output));
    write(&server, &fixed);
    server.restart();
    assert_eq!(server.run("DBSIZE"), Reply::Int(9));
}

#[test]
fn promised_damage_is_told_with_its_first_key_repaired_in_place_and_served() {
    let mut server = stopped();
    let damaged = damaged_at(&server.aof(), "key12");
    write(&server, &damaged);
    let output = check(&server, &[]);
    let text = stdout(&output);
    assert_eq!(code(&output), 1, "{text}");
    assert!(text.contains("Result: promised data is damaged"), "{text}");
    assert!(text.contains("First key affected: \"key12\" (SET at offset"), "{text}");
    assert!(text.contains("are intact, from offset"), "{text}");

    // The start says the same, and which command to run.
    server.respawn();
    assert_eq!(server.wait_exit().code(), Some(1));
    let said = server.log_text();
    assert!(said.contains("The first key affected is \"key12\" (SET at offset"), "{said}");
    let command = format!("server_async --check-aof {} --fix", server.path(FILE).display());
    assert!(said.contains(&command), "{said}");
    assert_eq!(server.aof(), damaged);

    let output = check(&server, &["--fix", "--in-place"]);
    let text = stdout(&output);
    assert_eq!(code(&output), 0, "{text}{}", stderr(&output));
    let file = server.aof();
    assert!(damaged.starts_with(&file));
    let kept = std::fs::read(server.path(&format!("appendonly.aof.before-fix-{}", file.len())));
    assert_eq!(kept.expect("the original is kept"), damaged);
    assert!(text.contains(&format!("Lost: the {} bytes", damaged.len() - file.len())), "{text}");
    assert_eq!(code(&check(&server, &[])), 0);
    server.restart();
    assert_eq!(server.run("DBSIZE"), Reply::Int(12));
    assert!(server.run("SET new value").is_ok());
    server.kill9();
    server.restart();
    assert_eq!(server.run("DBSIZE"), Reply::Int(13));
}

#[test]
fn plain_and_mixed_files_are_checked() {
    let whole = plain(&["SELECT 0", "SET a 1", "MULTI", "SET b 2", "EXEC"]);
    let mut server = Launch::new().file(FILE, whole.clone()).start();
    assert!(server.run("SET c 3").is_ok());
    server.kill9();
    let mixed = server.aof();
    let output = check(&server, &[]);
    let text = stdout(&output);
    assert_eq!(code(&output), 0, "{text}");
    assert!(text.contains("; 3 commands are not sealed"), "{text}");

    // Damage in the unsealed head, and a sealed rest that was durable: promised.
    let mut damaged = mixed;
    damaged[24] = b'x';
    write(&server, &damaged);
    server.respawn();
    assert_eq!(server.wait_exit().code(), Some(1));
    assert_eq!(code(&check(&server, &[])), 1);

    write(&server, &whole);
    let text = stdout(&check(&server, &[]));
    assert!(
        text.contains("Seals: none") && text.contains("Result: clean; of what is not sealed"),
        "{text}"
    );

    let torn = &whole[..whole.len() - 4];
    write(&server, torn);
    let output = check(&server, &[]);
    let text = stdout(&output);
    assert_eq!(code(&output), 1);
    assert!(text.contains("Result: the file ends too early"), "{text}");
    assert!(text.contains("First key affected: \"b\" (SET at offset"), "{text}");

    let bad = [whole.as_slice(), b"garbage", &whole].concat();
    write(&server, &bad);
    let output = check(&server, &["--fix", "--in-place"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("Result: damaged"), "{}", stdout(&output));
    assert_eq!(server.aof(), whole);
    server.restart();
    assert_eq!(server.run("DBSIZE"), Reply::Int(2));
}

#[test]
fn an_rdb_preamble_is_refused_with_the_way_out() {
    let server = stopped();
    write(&server, b"REDIS0010\xfa\x09redis-ver\x057.0.15");
    let names = server.files();
    let output = check(&server, &["--fix"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("aof-use-rdb-preamble"), "{}", stderr(&output));
    assert_eq!(server.files(), names);
}

#[test]
fn a_file_that_a_server_uses_is_left_to_it() {
    let server = Server::start(&[]);
    assert!(server.run("SET a 1").is_ok());
    let file = server.aof();
    for flags in [&[][..], &["--fix"], &["--fix", "--in-place"]] {
        let output = check(&server, flags);
        assert_eq!(code(&output), 2, "{flags:?}");
        let said = stderr(&output);
        assert!(said.contains("Cannot lock the append-only file"), "{said}");
        assert!(said.contains(&server.pid().to_string()), "{said}");
    }
    assert_eq!(server.aof(), file);
}

#[test]
fn wrong_usage_is_told_from_a_damaged_file() {
    let server = stopped();
    for flags in [&["--in-place"][..], &["--nosuch"], &["--fix=yes"]] {
        let output = check(&server, flags);
        assert_eq!(code(&output), 2, "{flags:?}: {}", stderr(&output));
    }
    for path in [server.path("nosuch"), server.dir().to_owned()] {
        let output = check_path(&path, &[]);
        assert_eq!(code(&output), 2, "{}", stderr(&output));
    }
    let output = Command::new(env!("CARGO_BIN_EXE_server_async")).arg("--fix").output();
    assert_eq!(code(&output.expect("the binary runs")), 1, "not a check at all");
    let link = server.path("link");
    std::os::unix::fs::symlink(server.path(FILE), &link).expect("a link");
    assert_eq!(code(&check_path(&link, &[])), 0);
    let output = check_path(&link, &["--fix", "--in-place"]);
    assert!(code(&output) == 2 && stderr(&output).contains("symbolic link"));
}

/// A check needs no more than to read: neither the file nor its directory is touched.
#[test]
fn a_check_leaves_no_trace_beside_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("copy.aof");
    std::fs::write(&path, plain(&["SELECT 0", "SET a 1"])).expect("write");
    assert_eq!(code(&check_path(&path, &[])), 0);
    let names = std::fs::read_dir(dir.path()).expect("list").count();
    assert_eq!(names, 1, "no lock file either");
}
