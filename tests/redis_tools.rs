//! redis-cli and redis-benchmark, as people use them on a server: nothing to complain of, and where
//! what they print depends on the replies alone, the same as with redis-server.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::process::{children, send_signal};
use common::raw::encode_into;
use common::{Launch, PATIENCE, Reply, Server, eventually, skip_without};
use nix::sys::signal::Signal;

/// What one run of redis-cli left.
#[derive(Debug, PartialEq)]
struct Run {
    succeeded: bool,
    stdout: String,
    stderr: String,
}

/// Runs redis-cli with `args` against `server`, with `input` on its standard input.
fn redis_cli(server: &Server, args: &[&str], input: &[u8]) -> Run {
    let mut child = Command::new("redis-cli")
        .args(["-p", &server.port().to_string()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("redis-cli runs");
    child.stdin.take().expect("a pipe").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run {
        succeeded: output.status.success(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// What redis-cli prints when it has nothing to complain of.
#[track_caller]
fn content(server: &Server, args: &[&str], input: &[u8]) -> String {
    let run = redis_cli(server, args, input);
    assert!(run.succeeded && run.stderr.is_empty(), "{args:?}: {run:?}");
    let complains =
        ["ERR ", "WARN", "Warn", "(error)"].iter().any(|word| run.stdout.contains(word));
    assert!(!complains, "{args:?}: {}", run.stdout);
    run.stdout
}

/// This server and the reference with the same 2,001 keys; `None` after saying that `what` is
/// skipped.
fn pair(what: &str) -> Option<[Server; 2]> {
    skip_without(what, "redis-cli")?;
    let ours = Launch::new().flag("enable-debug-command", "yes").start();
    let both = [ours, Launch::reference(what)?.start()];
    for server in &both {
        assert!(server.run("DEBUG POPULATE 2000 key 10").is_ok());
        assert!(server.raw().command(&["SET", "large", &"x".repeat(5_000)]).is_ok());
    }
    Some(both)
}

/// The lines of `text` in an order of their own.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn what_redis_cli_prints_is_what_it_prints_of_redis() {
    let Some(both) = pair("what_redis_cli_prints_is_what_it_prints_of_redis") else { return };
    let same = |args: &[&str], input: &[u8]| {
        let [ours, theirs] = both.each_ref().map(|server| redis_cli(server, args, input));
        assert_eq!(ours, theirs, "{args:?}");
        ours
    };
    for args in [
        "set key value",
        "get key",
        "--no-raw get key",
        "get absent",
        "--no-raw get absent",
        "--csv mget key absent key:1",
        "--json config get timeout",
        "-3 config get maxmemory",
        "-3 --no-raw config get maxmemory",
        "-3 --csv config get maxmemory",
        "-3 --no-raw get absent",
        "-r 3 -i 0.01 incr counter",
        "-n 5 set elsewhere 1",
        "-n 5 dbsize",
        "--quoted-input set \"q\\x00\" v",
        "--no-raw lcs key key idx",
        "--no-raw command getkeys mset a 1 b 2",
        "-e nosuch",
        "-e get",
        "nosuch",
        "-a password ping",
        "--user default --pass password ping",
    ] {
        let run = same(&args.split(' ').collect::<Vec<_>>(), b"");
        // It prints the errors of some of them; it never dies of one.
        assert!(!run.stdout.contains("I/O error"), "{args}: {run:?}");
    }
    assert_eq!(same(&["-x", "set", "from stdin"], b"x\r\n\0y").stdout, "OK\n");
    assert_eq!(same(&["get", "from stdin"], b"").stdout, "x\r\n\0y\n");
    same(&["-X", "tag", "set", "tagged", "tag", "ex", "100"], b"abc");
    assert_eq!(same(&["get", "tagged"], b"").stdout, "abc\n");
    // Commands as a file of them.
    same(&[], b"SET a b\nGET a\nINCR a\nNOSUCH\nMULTI\nGET a\nEXEC\n");
    // In the order of the keys, which is each server's own.
    for args in [&["--scan", "--pattern", "key:19*"][..], &["--scan", "-i", "0.001"]] {
        let [ours, theirs] = both.each_ref().map(|server| content(server, args, b""));
        assert_eq!(sorted(&ours), sorted(&theirs), "{args:?}");
    }
    let summary = |server: &Server| {
        let text = content(server, &["--bigkeys"], b"");
        text[text.find("summary").expect("a summary")..].to_owned()
    };
    let [ours, theirs] = both.each_ref().map(summary);
    assert_eq!(ours, theirs, "--bigkeys");
    for mode in ["check", "info"] {
        // The address is part of what it says.
        let run = |server: &Server| {
            let address = format!("127.0.0.1:{}", server.port());
            let run = redis_cli(server, &["--cluster", mode, &address], b"");
            (run.succeeded, format!("{}{}", run.stdout, run.stderr).replace(&address, "address"))
        };
        let [ours, theirs] = both.each_ref().map(run);
        assert_eq!(ours, theirs, "--cluster {mode}");
        assert!(ours.1.contains("is not configured as a cluster node"), "{}", ours.1);
    }
}

#[test]
fn redis_cli_has_nothing_to_complain_of() {
    if skip_without("redis_cli_has_nothing_to_complain_of", "redis-cli").is_none() {
        return;
    }
    let server = Server::start(&[("enable-debug-command", "yes")]);
    assert!(server.run("DEBUG POPULATE 2000 key 10").is_ok());
    assert!(content(&server, &["--memkeys"], b"").contains("2000 strings with"));
    assert!(content(&server, &["--memkeys", "--memkeys-samples", "0"], b"").contains("2000 keys"));
    let figures = content(&server, &["--latency", "--raw", "-i", "0.1"], b"");
    assert_eq!(figures.split(' ').count(), 4, "{figures}");
    let mut commands = Vec::new();
    for at in 0..1_000 {
        encode_into(&mut commands, &["SET", &format!("piped:{at}"), "value"]);
    }
    let piped = content(&server, &["--pipe"], &commands);
    assert!(piped.contains("errors: 0, replies: 1000"), "{piped}");
    assert_eq!(server.run("DBSIZE"), Reply::Int(3_000));
    let refused = redis_cli(&server, &["--pipe"], b"*1\r\n$6\r\nNOSUCH\r\n");
    assert!(refused.stdout.contains("errors: 1, replies: 1"), "{refused:?}");
    // Hot keys are told by how often they were used, which is noted under an LFU policy alone.
    let cold = redis_cli(&server, &["--hotkeys"], b"");
    assert!(!cold.succeeded && cold.stderr.contains("An LFU maxmemory policy"), "{cold:?}");
    assert!(server.run("CONFIG SET maxmemory-policy allkeys-lfu").is_ok());
    let mut client = server.raw();
    for _ in 0..1_000 {
        client.run("GET key:7");
    }
    let hot = content(&server, &["--hotkeys"], b"");
    let hottest = hot.lines().find(|line| line.starts_with("hot key found with counter:"));
    assert!(hottest.is_some_and(|line| line.ends_with("keyname: \"key:7\"")), "{hot}");
}

/// What this server has not (yet) is refused with words, and the server goes on.
#[test]
fn redis_cli_is_told_what_there_is_not() {
    if skip_without("redis_cli_is_told_what_there_is_not", "redis-cli").is_none() {
        return;
    }
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("dump.rdb");
    let file = file.to_str().expect("plain text");
    for args in [&["--rdb", file][..], &["--functions-rdb", file], &["--replica"]] {
        let run = redis_cli(&server, args, b"");
        assert!(!run.succeeded, "{args:?}: {run:?}");
        let told = format!("{}{}", run.stdout, run.stderr);
        assert!(told.contains("ERR unknown command 'REPLCONF'"), "{args:?}: {told}");
    }
    assert!(server.run("PING") == Reply::Simple(b"PONG".to_vec()));
}

/// redis-cli at a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    /// Starts redis-cli with `args` at a terminal of 200 columns.
    fn start(server: &Server, args: &str) -> Terminal {
        let cli = format!("stty cols 200 rows 50; exec redis-cli -p {} {args}", server.port());
        let mut child = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", &cli, "/dev/null"])
            .env("TERM", "xterm")
            // No history file of whoever runs the tests.
            .env("HOME", server.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script, which gives it a terminal, runs");
        let keyboard = child.stdin.take().expect("piped");
        let mut stdout = child.stdout.take().expect("piped");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = stdout.read(&mut bytes) {
                if sender.send(bytes[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keyboard, screen, shown: String::new() }
    }

    fn type_in(&mut self, text: &str) {
        self.shown.clear();
        self.keyboard.write_all(text.as_bytes()).expect("it reads");
    }

    /// What `find` finds in all that was shown since the last key, as soon as it finds something.
    #[track_caller]
    fn wait<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = find(&self.shown) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.screen.recv_timeout(left) else {
                panic!("no {what}: {:?}", self.shown);
            };
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Enters `line` and waits for all `parts` of the answer, and for the prompt behind it: what is
    /// typed before that is lost.
    #[track_caller]
    fn answer(&mut self, line: &str, parts: &[&str]) {
        self.type_in(&format!("{line}\r"));
        self.wait(&format!("{parts:?} upon {line}"), |shown| {
            let is_there = parts.iter().all(|part| shown.contains(part));
            (is_there && shown.ends_with("> ")).then_some(())
        });
    }

    /// The hint shown behind `line`, which is typed and taken back.
    #[track_caller]
    fn hint(&mut self, line: &str) -> String {
        self.type_in(line);
        let before = format!("> {line}\x1b[0;90;49m");
        let hint = self.wait(&format!("hint behind {line:?}"), |shown| {
            let (_, hint) = shown.rsplit_once(&before)?;
            Some(hint.split_once("\x1b[0m")?.0.to_owned())
        });
        // Ctrl-U takes the line back.
        self.type_in("\x15");
        self.wait("empty line", |shown| shown.contains("> \r").then_some(()));
        hint
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        for pid in children(self.child.id()) {
            send_signal(pid, Signal::SIGKILL);
        }
        // It may have ended by itself.
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// The hints are made of what COMMAND DOCS says, which redis-cli asks for when it starts.
#[test]
fn a_person_at_redis_cli_gets_the_hints_of_redis() {
    let Some(both) = pair("a_person_at_redis_cli_gets_the_hints_of_redis") else { return };
    let [mut ours, mut theirs] = both.each_ref().map(|server| Terminal::start(server, ""));
    for terminal in [&mut ours, &mut theirs] {
        terminal.wait("prompt", |shown| shown.contains("> ").then_some(()));
    }
    for line in [
        "GET ",
        "set ",
        "SET key ",
        "SET key value EX ",
        "GETRANGE key ",
        "MSET a 1 ",
        "EXPIRE key 5 ",
        "SCAN 0 ",
        "BITCOUNT key ",
        "LCS a b ",
        "CONFIG SET ",
        "OBJECT ENCODING ",
        "MEMORY USAGE key ",
        "COPY a b ",
    ] {
        assert_eq!(ours.hint(line), theirs.hint(line), "{line}");
    }
    for terminal in [&mut ours, &mut theirs] {
        terminal.type_in("GETRAN\t");
        terminal.wait("completion", |shown| shown.contains("> GETRANGE").then_some(()));
        let help = ["key start end", "summary:", " 2.4.0\r", " string\r"];
        terminal.answer("\x15HELP GETRANGE", &help);
        terminal.answer("SET typed value", &["OK\r\n"]);
        terminal.answer("GET typed", &["\"value\"\r\n"]);
        let refused = "(error) ERR value is not an integer or out of range\r\n";
        terminal.answer("EXPIRE typed x", &[refused]);
        terminal.answer("MULTI", &["OK\r\n", "(TX)> "]);
        terminal.answer("EXEC", &["(empty array)\r\n"]);
        terminal.answer("SELECT 3", &["OK\r\n", "[3]> "]);
        terminal.type_in("quit\r");
        let deadline = Instant::now() + PATIENCE;
        while terminal.child.try_wait().expect("its state").is_none() {
            assert!(Instant::now() < deadline, "quit ends it");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Those that go on until they are stopped.
#[test]
fn redis_cli_watches() {
    if skip_without("redis_cli_watches", "redis-cli").is_none() {
        return;
    }
    let server = Server::start(&[("enable-debug-command", "yes")]);
    assert!(server.run("DEBUG POPULATE 2000 key 10").is_ok());
    let mut stat = Command::new("redis-cli")
        .args(["-p", &server.port().to_string(), "--stat", "-i", "0.05"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-cli runs");
    let mut lines = BufReader::new(stat.stdout.take().expect("a pipe")).lines();
    let line = lines.nth(3).expect("a line of figures").expect("text");
    assert!(line.starts_with("2000 "), "{line}");
    stat.kill().and_then(|()| stat.wait()).expect("it is stopped");

    let mut history = Terminal::start(&server, "--latency-history -i 0.2");
    history.wait("second range", |shown| {
        (shown.matches("seconds range").count() >= 2 && shown.contains("min: ")).then_some(())
    });

    let mut monitor = Terminal::start(&server, "MONITOR");
    monitor.wait("OK", |shown| shown.contains("OK").then_some(()));
    eventually("the monitor is one", || server.run("CLIENT LIST").text().contains(" flags=O "));
    server.run("SET watched value");
    monitor.wait("the command", |shown| shown.contains("\"SET\" \"watched\"").then_some(()));
}

/// With its own list of tests: what there is runs, and the first that is not there yet ends it
/// with the server's words. It asks for the configuration first, to print it.
#[test]
fn redis_benchmark_has_nothing_to_complain_of() {
    let what = "redis_benchmark_has_nothing_to_complain_of";
    let Some(program) = skip_without(what, "redis-benchmark") else { return };
    let server = Server::start(&[("appendfsync", "no")]);
    let run = |args: &[&str]| {
        let port = server.port().to_string();
        let output = Command::new(&program).args(["-p", &port, "-n", "1000"]).args(args).output();
        let output = output.expect("redis-benchmark runs");
        let text = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
        (output.status.success(), text.concat())
    };
    for more in [&[][..], &["-P", "16"], &["--threads", "2"], &["-r", "100", "--csv"], &["-3"]] {
        let (succeeded, text) = run(&[&["-t", "ping,set,get,incr,mset"], more].concat());
        assert!(succeeded, "{more:?}: {text}");
        for complaint in ["WARN", "rror", "ERR"] {
            assert!(!text.contains(complaint), "{more:?}: {text}");
        }
        let tests = ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"];
        assert!(tests.iter().all(|name| text.contains(name)), "{more:?}: {text}");
    }
    let (_, text) = run(&[]);
    assert!(text.contains("host configuration \"save\": "), "{text}");
    assert!(text.contains("host configuration \"appendonly\": yes"), "{text}");
    let (succeeded, text) = run(&["-q"]);
    assert!(!text.contains("WARN"), "{text}");
    assert!(
        !succeeded && text.contains("Error from server: ERR unknown command 'LPUSH'"),
        "{text}"
    );
}
