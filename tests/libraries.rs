//! Programs written for Redis, with the client libraries they are written with: what the libraries
//! send by themselves on connecting, what they read out of INFO and CONFIG, the errors they tell
//! apart, and that they find a restarted server again.
//!
//! The programs stand in `tests/libraries/`, and each is run against the reference too: what it
//! expects is what Redis does. `tests/libraries/install.sh` installs the libraries.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::skip::skip_unless_required;
use common::{Launch, Server};

/// The versions wanted, in the order in which the installation notes them.
const PINS: &str = concat!(
    include_str!("libraries/requirements.txt"),
    include_str!("libraries/package.json"),
    include_str!("libraries/package-lock.json"),
);

/// Where the libraries are, or `None` after saying that `what` is skipped without them.
fn installed(what: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp");
    let folder = target.join("client-libraries");
    match std::fs::read_to_string(folder.join("installed")) {
        Ok(found) if found == PINS => return Some(folder),
        Ok(_) => skip_unless_required(what, "other versions than tests/libraries/install.sh's"),
        Err(_) => skip_unless_required(what, "tests/libraries/install.sh was not run"),
    }
    None
}

/// Runs `script` by `program` (a path in the libraries' folder) against this server and the
/// reference, each with a log that is synced before a reply.
fn run_with_both(what: &str, program: &str, script: &str) {
    let Some(folder) = installed(what) else { return };
    let durable = |launch: Launch| launch.flag("appendonly", "yes").flag("appendfsync", "always");
    run(&folder, program, script, durable(Launch::new()).start(), "server_async");
    if let Some(reference) = Launch::reference(what) {
        run(&folder, program, script, durable(reference).start(), "redis-server");
    }
}

/// Runs `script` against `server`. At each of its lines that ends in `restart` the server is
/// killed and started again, and the script is told by a line when that is done.
fn run(folder: &Path, program: &str, script: &str, mut server: Server, name: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/libraries").join(script);
    let mut child = Command::new(folder.join(program))
        .arg(&script)
        .args([&server.port().to_string(), name])
        // Where Node looks for the libraries; Python knows by its own path.
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the script starts");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    let errors = std::thread::spawn(move || std::io::read_to_string(stderr).expect("text"));
    let mut go = child.stdin.take().expect("piped");
    let mut said = String::new();
    let mut restarts = 0;
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line.expect("text");
        if line.ends_with("restart") {
            server.kill9();
            server.restart();
            go.write_all(b"done\n").expect("the script waits");
            restarts += 1;
        }
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait().expect("the script ends");
    let errors = errors.join().expect("read");
    let script = script.display();
    assert!(
        status.success() && errors.is_empty(),
        "{script} with {name}: {status}\n{said}{errors}"
    );
    assert_eq!(restarts, 1, "{script} with {name} ended early:\n{said}");
    eprintln!("{script} with {name}:\n{said}");
}

#[test]
fn redis_py_finds_all_it_expects() {
    run_with_both("redis_py_finds_all_it_expects", "python/bin/python", "redis_py.py");
}

#[test]
fn node_redis_finds_all_it_expects() {
    run_with_both("node_redis_finds_all_it_expects", "node", "node_redis.mjs");
}

#[test]
fn ioredis_finds_all_it_expects() {
    run_with_both("ioredis_finds_all_it_expects", "node", "ioredis.mjs");
}
