//! Programs written for Redis, with the client libraries they are written with: what the libraries
//! send by themselves on connecting, what they read out of INFO and CONFIG, the errors they tell
//! apart, and that they find a restarted server again.
//!
//! The programs stand in `tests/libraries/`, and each is run against the reference too: what it
//! expects is what Redis does. `tests/libraries/install.sh` installs the libraries.

mod common;

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::skip::skip_unless_required;
use common::{Launch, Server, eventually};
use redis::SetExpiry::PX;
use redis::SetOptions;

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

/// With a log that is synced before a reply.
fn durable(launch: Launch) -> Launch {
    launch.flag("appendonly", "yes").flag("appendfsync", "always")
}

/// Runs `script` by `program` (a path in the libraries' folder) against this server and the
/// reference.
fn run_with_both(what: &str, program: &str, script: &str) {
    let Some(folder) = installed(what) else { return };
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

/// What the `redis` crate is connected to: a server, and the protocol, `2` by default or `3`.
fn connect(server: &Server, resp: u8) -> redis::Connection {
    let protocol = if resp == 3 { "?protocol=resp3" } else { "" };
    let url = format!("redis://127.0.0.1:{}/{protocol}", server.port());
    redis::Client::open(url).and_then(|client| client.get_connection()).expect("connected")
}

/// The checks for the `redis` crate, on this server or the reference.
fn drive_by_the_redis_crate(mut server: Server, resp: u8) {
    use redis::{Commands, ConnectionLike, ErrorKind, ServerErrorKind};
    let mut c = connect(&server, resp);
    let c = &mut c;

    let all_bytes: Vec<u8> = (0..=255).collect();
    let _: () = c.set("bytes", &all_bytes).unwrap();
    assert_eq!(c.get::<_, Vec<u8>>("bytes").unwrap(), all_bytes);
    let _: () = c.set("größe:漢字", "naïve 🦀 ответ").unwrap();
    assert_eq!(c.get::<_, String>("größe:漢字").unwrap(), "naïve 🦀 ответ");
    assert_eq!(c.get::<_, Option<i64>>("absent").unwrap(), None);
    let _: () = c.mset(&[("a", "1"), ("b", "2")]).unwrap();
    let several: (i64, Option<String>, i64) = c.mget(&["a", "absent", "b"]).unwrap();
    assert_eq!(several, (1, None, 2));
    assert_eq!(c.incr::<_, _, f64>("a", 0.5).unwrap(), 1.5);
    assert_eq!(c.append::<_, _, usize>("bytes", "\r\n").unwrap(), 258);
    let large = all_bytes.repeat(20_480);
    let _: () = c.set("large", &large).unwrap();
    assert!(c.get::<_, Vec<u8>>("large").unwrap() == large, "5 MiB there and back");
    assert_eq!(c.del::<_, i64>("large").unwrap(), 1);

    let mut pipe = redis::pipe();
    for number in 0..1_000 {
        pipe.set(format!("p:{number}"), number).ignore().get(format!("p:{number}"));
    }
    assert_eq!(pipe.query::<Vec<i64>>(c).unwrap(), (0..1_000).collect::<Vec<_>>());
    let _: () = c.set("balance", 10).unwrap();
    let mut tries = 0;
    let mut other = connect(&server, resp);
    let (doubled,): (i64,) = redis::transaction(c, &["balance"], |c, pipe| {
        let value: i64 = c.get("balance")?;
        tries += 1;
        if tries == 1 {
            let _: () = other.set("balance", 5)?;
        }
        pipe.set("balance", 2 * value).ignore().get("balance").query(c)
    })
    .unwrap();
    assert_eq!((doubled, tries), (10, 2), "a conflict is tried again");
    let aborted = redis::pipe().atomic().set("a", 1).cmd("NOSUCH").exec(c).unwrap_err();
    assert_eq!(aborted.kind(), ErrorKind::Server(ServerErrorKind::ExecAbort), "{aborted}");
    assert_eq!(c.get::<_, i64>("balance").unwrap(), 10, "and is out of the transaction");

    let mut pipe = redis::pipe();
    let names: BTreeSet<String> = (0..10_000).map(|number| format!("scan:{number}")).collect();
    names.iter().for_each(|name| {
        pipe.set(name, "").ignore();
    });
    pipe.exec(c).unwrap();
    let found = c.scan_match::<_, String>("scan:*").unwrap().map(|key| key.unwrap());
    assert_eq!(found.collect::<BTreeSet<_>>(), names, "each key");

    let config: HashMap<String, String> =
        redis::cmd("CONFIG").arg("GET").arg("append*").query(c).unwrap();
    assert_eq!(config["appendfsync"], "always");
    let refused = redis::cmd("CONFIG").arg(&["SET", "nosuch", "1"]).exec(c).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Server(ServerErrorKind::ResponseError));
    let info: redis::InfoDict = redis::cmd("INFO").query(c).unwrap();
    assert_eq!(info.get::<u16>("tcp_port"), Some(server.port()));
    assert_eq!(info.get::<String>("role").as_deref(), Some("master"));
    for field in ["redis_version", "used_memory", "aof_enabled", "loading", "db0"] {
        assert!(info.contains_key(&field), "INFO has no {field}");
    }

    let _: () = c.set_options("brief", 1, SetOptions::default().with_expiration(PX(40))).unwrap();
    eventually("the key lapses", || c.get::<_, Option<i64>>("brief").unwrap().is_none());
    let _: () = c.set_ex("long", "x", 1_000).unwrap();
    assert!((990..=1_000).contains(&c.ttl::<_, i64>("long").unwrap()));
    assert!(c.persist::<_, bool>("long").unwrap());
    let _: () = c.client_setname("me").unwrap();
    assert_eq!(c.client_getname::<String>().unwrap(), "me");
    assert!(c.client_id::<i64>().unwrap() > 0);
    let not_a_number = c.incr::<_, _, i64>("bytes", 1).unwrap_err();
    assert_eq!(not_a_number.kind(), ErrorKind::Server(ServerErrorKind::ResponseError));
    let wrong = redis::Client::open(format!("redis://:wrong@127.0.0.1:{}/", server.port()));
    let mut operator = connect(&server, resp);
    let _: () = redis::cmd("CONFIG").arg(&["SET", "requirepass", "x"]).query(c).unwrap();
    let refused = wrong.and_then(|client| client.get_connection()).err().expect("refused");
    assert_eq!(refused.kind(), ErrorKind::AuthenticationFailed, "{refused}");
    let _: () = redis::cmd("CONFIG").arg(&["SET", "requirepass", ""]).query(&mut operator).unwrap();

    let keys: i64 = redis::cmd("DBSIZE").query(c).unwrap();
    server.kill9();
    server.restart();
    let lost = c.get::<_, String>("a").unwrap_err();
    assert!(lost.is_connection_dropped() && !c.is_open(), "{lost}");
    let c = &mut connect(&server, resp);
    assert_eq!(redis::cmd("DBSIZE").query::<i64>(c).unwrap(), keys);
    assert_eq!(c.get::<_, String>("größe:漢字").unwrap(), "naïve 🦀 ответ");
    assert_eq!(c.get::<_, i64>("balance").unwrap(), 10);
}

#[test]
fn the_redis_crate_finds_all_it_expects() {
    for resp in [2, 3] {
        drive_by_the_redis_crate(durable(Launch::new()).start(), resp);
        let what = "the_redis_crate_finds_all_it_expects";
        if let Some(reference) = Launch::reference(what) {
            drive_by_the_redis_crate(durable(reference).start(), resp);
        }
    }
}
