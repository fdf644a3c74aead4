//! The same commands to this server and to redis-server 7.0, and the same replies, letter by
//! letter.
//!
//! `DIFF_SEED=n` chooses the sequence and `DIFF_STEPS=n` its length. A failure prints both, and
//! the shortest part of the sequence found that still fails.

#[path = "../common/mod.rs"]
mod common;
mod compare;
mod compare_info5;
mod generate;
mod others;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::raw::{encode, encode_into};
use common::{Frame, Launch, Raw, Reply, Server, env_number, show};
use compare::{compare, show_command};
use generate::{CONNECTIONS, Command, Step, name_of};
use server_async::engine::command::Arity;

/// What is run unless told otherwise.
const DEFAULT_SEEDS: std::ops::RangeInclusive<u64> = 1..=4;
const DEFAULT_STEPS: u64 = 4_000;

/// Both servers, and the connections that a sequence speaks on.
struct Pair {
    ours: Server,
    theirs: Server,
    connections: Vec<Connection>,
}

/// One connection to each server, in the same state.
struct Connection {
    ours: Raw,
    theirs: Raw,
    /// What EXEC will run.
    queued: Vec<Command>,
    /// How long the keys live that EXEC will let lapse, in milliseconds.
    lapse_ms: u64,
}

/// Where two replies parted.
struct Mismatch {
    step: usize,
    report: String,
}

impl Pair {
    /// Starts both, or says that `what` is skipped.
    fn start(what: &str, flags: &[(&str, &str)]) -> Option<Pair> {
        let theirs = Launch::reference(what)?;
        let ours = Launch::new().flag("enable-debug-command", "yes");
        let with = |launch: Launch| {
            flags.iter().fold(launch, |launch, (name, value)| launch.flag(name, value)).start()
        };
        Some(Pair { ours: with(ours), theirs: with(theirs), connections: Vec::new() })
    }

    /// Empties both servers and opens fresh connections.
    fn reset(&mut self) {
        self.connections.clear();
        for server in [&self.ours, &self.theirs] {
            let mut client = server.raw();
            for line in [
                "FLUSHALL",
                // Keys past their deadline stay until they are touched, so that DBSIZE depends on
                // the commands alone.
                "DEBUG SET-ACTIVE-EXPIRE 0",
                "CONFIG SET hz 10 timeout 0 tcp-keepalive 300 loglevel notice",
                "CONFIG SET appendfsync everysec proto-max-bulk-len 512mb",
                "CONFIG SET lazyfree-lazy-user-del no aof-load-truncated yes",
                "CONFIG SET auto-aof-rewrite-percentage 100 auto-aof-rewrite-min-size 1gb",
                "CONFIG SET client-query-buffer-limit 1gb maxmemory-clients 0",
                "CONFIG SET slowlog-log-slower-than -1 slowlog-max-len 128",
                "SLOWLOG RESET",
                "CONFIG SET latency-tracking yes active-expire-effort 1",
                "CONFIG SET latency-tracking-info-percentiles 99.9",
                "CONFIG RESETSTAT",
            ] {
                let reply = client.run(line);
                assert!(reply.is_ok(), "{line}: {reply:?}");
            }
        }
        for at in 0..CONNECTIONS {
            let mut connection = self.connect();
            if at == CONNECTIONS - 1 {
                connection.ours.run("HELLO 3");
                connection.theirs.run("HELLO 3");
            }
            self.connections.push(connection);
        }
    }

    fn connect(&self) -> Connection {
        let (ours, theirs) = (self.ours.raw(), self.theirs.raw());
        Connection { ours, theirs, queued: Vec::new(), lapse_ms: 0 }
    }

    /// Runs a sequence from empty servers; the first mismatch ends it.
    fn run(&mut self, steps: &[Step]) -> Result<(), Mismatch> {
        self.reset();
        for (at, step) in steps.iter().enumerate() {
            self.step(step).map_err(|report| Mismatch { step: at, report })?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Command { on, args } => self.command(*on, args).map(drop),
            Step::Pipeline { on, commands } => {
                let mut bytes = Vec::new();
                for args in commands {
                    encode_into(&mut bytes, args);
                }
                self.settle_chance(*on);
                self.connections[*on].send(&bytes);
                commands.iter().try_for_each(|args| self.replies(*on, args).map(drop))
            }
            Step::Inline { on, line } => self.inline(*on, line),
            Step::Lapse { on, args, ms } => {
                if self.command(*on, args)? == Reply::Simple(b"QUEUED".to_vec()) {
                    let connection = &mut self.connections[*on];
                    connection.lapse_ms = connection.lapse_ms.max(*ms);
                } else {
                    wait_for_lapse(*ms);
                }
                Ok(())
            }
            Step::ScanAll { on, options } => self.scan_all(*on, options),
            Step::Bytes { bytes } => self.bytes(bytes),
            Step::Rewrite { on } => {
                self.command(*on, &[b"BGREWRITEAOF".to_vec()])?;
                self.wait_rewrites();
                Ok(())
            }
            Step::Digest => self.digest(),
        }
    }

    /// One command to both; what this server replied, where both agree.
    fn command(&mut self, on: usize, args: &[Vec<u8>]) -> Result<Reply, String> {
        self.settle_chance(on);
        self.connections[on].send(&encode(args));
        self.replies(on, args)
    }

    /// Reads the replies to `args` on connection `on`; what this server replied, where both agree.
    fn replies(&mut self, on: usize, args: &[Vec<u8>]) -> Result<Reply, String> {
        let connection = &mut self.connections[on];
        let text = show_command(args);
        let (ours, theirs) = connection.frames().map_err(|problem| format!("{text}: {problem}"))?;
        compare(args, &connection.queued, &ours, &theirs).map_err(|problem| {
            format!(
                "connection {on}: {text}\n  {problem}\n  ours:      {:?}\n  reference: {:?}",
                ours.reply, theirs.reply
            )
        })?;
        let name = name_of(args, 1);
        match name.as_str() {
            _ if ours.reply == Reply::Simple(b"QUEUED".to_vec()) => {
                connection.queued.push(args.to_vec());
            }
            // An error leaves the queue as it was, except where EXEC itself fails.
            "EXEC" if args.len() == 1 => {
                let queued = std::mem::take(&mut connection.queued);
                wait_for_lapse(std::mem::take(&mut connection.lapse_ms));
                if queued.iter().any(|args| name_of(args, 1) == "BGREWRITEAOF") {
                    self.wait_rewrites();
                }
            }
            "DISCARD" | "RESET" | "MULTI" if !ours.reply.is_error() => {
                connection.queued.clear();
                connection.lapse_ms = 0;
            }
            _ if ends_connection(&name, &ours.reply) => {
                let closed = (connection.ours.is_closed(), connection.theirs.is_closed());
                if closed != (true, true) {
                    return Err(format!("after {text}, closed (ours, reference): {closed:?}"));
                }
                self.connections[on] = self.connect();
            }
            "SCAN" if !ours.reply.is_error() => self.touch_every_key(),
            "RANDOMKEY" if !ours.reply.is_error() => {
                self.check_random_key(on, &ours.reply, &theirs.reply)?
            }
            _ => {}
        }
        Ok(ours.reply)
    }

    /// Waits until neither server rewrites, so that the next start of one has one answer.
    fn wait_rewrites(&self) {
        for server in [&self.ours, &self.theirs] {
            server.wait_rewrite_end(&mut server.raw());
        }
    }

    /// What RANDOMKEY returned must exist.
    fn check_random_key(&mut self, on: usize, ours: &Reply, theirs: &Reply) -> Result<(), String> {
        let connection = &mut self.connections[on];
        for (client, reply) in [(&mut connection.ours, ours), (&mut connection.theirs, theirs)] {
            if let Reply::Bulk(key) = reply {
                let exists = client.command(&[b"EXISTS", key.as_slice()]);
                if exists != Reply::Int(1) && exists != Reply::Simple(b"QUEUED".to_vec()) {
                    return Err(format!("RANDOMKEY returned {}, which is not there", show(key)));
                }
            }
        }
        self.touch_every_key();
        Ok(())
    }

    /// To be called ahead of what may be an EXEC on connection `on`: a RANDOMKEY or a part of a SCAN
    /// in it would drop some lapsed keys by chance, and what follows in it would tell.
    fn settle_chance(&mut self, on: usize) {
        let drops_by_chance =
            |args: &Command| ["RANDOMKEY", "SCAN"].contains(&name_of(args, 1).as_str());
        if self.connections[on].queued.iter().any(drops_by_chance) {
            self.touch_every_key();
        }
    }

    /// Drops every lapsed key of both servers. RANDOMKEY and a part of a SCAN drop some, by chance.
    fn touch_every_key(&mut self) {
        for server in [&self.ours, &self.theirs] {
            let mut client = server.raw();
            let mut exists = vec![b"EXISTS".to_vec()];
            exists.extend(generate::key_pool());
            for db in 0..16 {
                client.run(&format!("SELECT {db}"));
                client.command(&exists);
            }
        }
    }

    fn inline(&mut self, on: usize, line: &[u8]) -> Result<(), String> {
        let connection = &mut self.connections[on];
        connection.ours.send(line);
        connection.theirs.send(line);
        // None of the generated lines is blank or breaks the protocol: each has one reply.
        let count = line.iter().filter(|&&byte| byte == b'\n').count();
        let replies = |client: &mut Raw| -> Result<Vec<Frame>, String> {
            (0..count).map(|_| client.try_frame().map_err(|error| error.to_string())).collect()
        };
        let ours = replies(&mut connection.ours);
        let theirs = replies(&mut connection.theirs);
        let show_frames = |frames: &Result<Vec<Frame>, String>| match frames {
            Ok(frames) => frames.iter().map(|frame| show(&frame.raw)).collect::<String>(),
            Err(problem) => problem.clone(),
        };
        if ours.is_err() || theirs.is_err() || ours != theirs {
            return Err(format!(
                "connection {on}: inline {}\n  ours:      {}\n  reference: {}",
                show(line),
                show_frames(&ours),
                show_frames(&theirs)
            ));
        }
        for frame in ours.into_iter().flatten() {
            if frame.reply == Reply::Simple(b"QUEUED".to_vec()) {
                // None of these commands' replies depends on the server or the moment.
                connection.queued.push(vec![b"inline".to_vec()]);
            }
        }
        Ok(())
    }

    /// Whole iterations on both servers. Errors must be the same, the elements too.
    fn scan_all(&mut self, on: usize, options: &Command) -> Result<(), String> {
        let mut args = vec![b"SCAN".to_vec(), b"0".to_vec()];
        args.extend(options.iter().cloned());
        let first = self.command(on, &args)?;
        if !matches!(first, Reply::Array(_)) {
            return Ok(());
        }
        let connection = &mut self.connections[on];
        let mut found = Vec::new();
        for client in [&mut connection.ours, &mut connection.theirs] {
            let mut keys = BTreeSet::new();
            let mut cursor = b"0".to_vec();
            // Far more calls than there are keys would mean that it never ends.
            for calls in 0.. {
                if calls > 100_000 {
                    return Err(format!("{} does not end", show_command(&args)));
                }
                args[1] = cursor;
                let reply = client.command(&args);
                let [next, Reply::Array(page)] = reply.items() else {
                    return Err(format!("{}: {reply:?}", show_command(&args)));
                };
                keys.extend(page.iter().cloned());
                cursor = next.bytes().to_vec();
                if cursor == b"0" {
                    break;
                }
            }
            found.push(keys);
        }
        if found[0] != found[1] {
            return Err(format!(
                "connection {on}: whole {}\n  only ours:      {:?}\n  only reference: {:?}",
                show_command(&args),
                found[0].difference(&found[1]).collect::<Vec<_>>(),
                found[1].difference(&found[0]).collect::<Vec<_>>()
            ));
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        let answers = [&self.ours, &self.theirs].map(|server| {
            let mut client = server.raw();
            // The server may close before it has taken everything: then sending fails, and the
            // answer is still to be read.
            if client.try_send(bytes).is_ok() {
                client.try_finish_sending();
            }
            client.read_until_closed()
        });
        if answers[0] == answers[1] {
            return Ok(());
        }
        Err(format!(
            "bytes {}\n  ours:      {}\n  reference: {}",
            show(bytes),
            show(&answers[0]),
            show(&answers[1])
        ))
    }

    fn digest(&mut self) -> Result<(), String> {
        let [ours, theirs] = [&self.ours, &self.theirs].map(|server| server.run("DEBUG DIGEST"));
        if ours == theirs {
            return Ok(());
        }
        let dump = |server: &Server| -> BTreeSet<String> {
            let mut client = server.raw();
            let mut lines = BTreeSet::new();
            for db in 0..16 {
                client.run(&format!("SELECT {db}"));
                for key in client.run("KEYS *").items() {
                    let value = client.command(&[b"GET", key.bytes()]);
                    let deadline = client.command(&[b"PEXPIRETIME", key.bytes()]);
                    lines.insert(format!("db {db} {key:?} = {value:?} until {deadline:?}"));
                }
            }
            lines
        };
        let (our_keys, their_keys) = (dump(&self.ours), dump(&self.theirs));
        Err(format!(
            "DEBUG DIGEST: ours {ours:?}, reference {theirs:?}\n  only ours: {:#?}\n  only \
             reference: {:#?}",
            our_keys.difference(&their_keys).collect::<Vec<_>>(),
            their_keys.difference(&our_keys).collect::<Vec<_>>()
        ))
    }

    /// The smallest part of `steps` found within a minute that still fails.
    fn minimize(&mut self, steps: &[Step]) -> Vec<Step> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut steps = steps.to_vec();
        let mut chunk = steps.len() / 2;
        while chunk > 0 {
            let mut at = 0;
            while at < steps.len() {
                if Instant::now() > deadline {
                    return steps;
                }
                let mut shorter = steps.clone();
                shorter.drain(at..(at + chunk).min(steps.len()));
                match self.run(&shorter) {
                    Err(mismatch) => {
                        shorter.truncate(mismatch.step + 1);
                        steps = shorter;
                    }
                    Ok(()) => at += chunk,
                }
            }
            chunk /= 2;
        }
        steps
    }
}

impl Connection {
    fn send(&mut self, bytes: &[u8]) {
        // A server that refuses may close before it has taken everything: then sending fails, and
        // what it said is still to be read.
        let _ = (self.ours.try_send(bytes), self.theirs.try_send(bytes));
    }

    fn frames(&mut self) -> Result<(Frame, Frame), String> {
        let ours = self.ours.try_frame().map_err(|error| format!("ours: {error}"))?;
        let theirs = self.theirs.try_frame().map_err(|error| format!("reference: {error}"))?;
        Ok((ours, theirs))
    }
}

/// Waits until keys have lapsed that were given at most `ms` to live; none were if that is 0. Both
/// servers have counted their deadlines from a moment before the reply.
fn wait_for_lapse(ms: u64) {
    if ms > 0 {
        std::thread::sleep(Duration::from_millis(ms + 2));
    }
}

/// Whether the server closes the connection behind `reply` to the command `name`.
fn ends_connection(name: &str, reply: &Reply) -> bool {
    match reply {
        Reply::Error(text) => text.starts_with(b"ERR Protocol error"),
        _ => name == "QUIT" && reply.is_ok(),
    }
}

/// Runs the sequence of `seed`, and fails with the shortest failing part.
fn check_sequence(pair: &mut Pair, seed: u64, len: usize) {
    check_steps(pair, generate::sequence(seed, len), seed, len);
}

fn check_steps(pair: &mut Pair, steps: Vec<Step>, seed: u64, len: usize) {
    let Err(mismatch) = pair.run(&steps) else { return };
    let shortest = pair.minimize(&steps[..=mismatch.step]);
    let rerun = pair.run(&shortest).err();
    let mut lines = String::new();
    for step in &shortest {
        lines.push_str(&match step {
            Step::Command { on, args } => format!("  {on}: {}\n", show_command(args)),
            Step::Pipeline { on, commands } => {
                let commands: Vec<_> = commands.iter().map(|args| show_command(args)).collect();
                format!("  {on}: at once:\n     {}\n", commands.join("\n     "))
            }
            Step::Inline { on, line } => format!("  {on}: inline {}\n", show(line)),
            Step::Lapse { on, args, .. } => format!("  {on}: {} ... lapses\n", show_command(args)),
            Step::ScanAll { on, options } => {
                format!("  {on}: whole SCAN {}\n", show_command(options))
            }
            Step::Bytes { bytes } => format!("  bytes {}\n", show(bytes)),
            other => format!("  {other:?}\n"),
        });
    }
    panic!(
        "DIFF_SEED={seed} DIFF_STEPS={len}: step {}: {}\nshortest failing part:\n{lines}which ends \
         in: {}",
        mismatch.step,
        mismatch.report,
        rerun.map_or("no failure; it depends on time".to_owned(), |mismatch| mismatch.report)
    );
}

#[test]
fn replies_equal_those_of_the_reference() {
    let Some(mut pair) = Pair::start("replies_equal_those_of_the_reference", &[]) else { return };
    let len = env_number("DIFF_STEPS", DEFAULT_STEPS) as usize;
    if std::env::var_os("DIFF_SEED").is_some() {
        check_sequence(&mut pair, env_number("DIFF_SEED", 0), len);
        return;
    }
    for seed in DEFAULT_SEEDS {
        check_sequence(&mut pair, seed, len);
    }
}

/// Each use of a key is counted here, so that OBJECT FREQ tells which commands use keys.
#[test]
fn uses_of_keys_are_counted_as_by_the_reference() {
    let what = "uses_of_keys_are_counted_as_by_the_reference";
    let flags = [
        ("maxmemory-policy", "allkeys-lfu"),
        ("lfu-log-factor", "0"),
        ("lfu-decay-time", "0"),
        // With a limit, however high, the reference shares no integers, and so no counters.
        ("maxmemory", "100gb"),
    ];
    let Some(mut pair) = Pair::start(what, &flags) else { return };
    let len = env_number("DIFF_STEPS", DEFAULT_STEPS) as usize;
    let seed = env_number("DIFF_SEED", 1);
    let steps = generate::keys5::with_frequencies(generate::sequence(seed, len));
    check_steps(&mut pair, steps, seed, len);
}

/// What COMMAND tells of each command, which arguments it takes for keys, and what it says to one
/// too few or too many: in RESP2 and RESP3.
#[test]
fn every_command_is_described_as_by_the_reference() {
    let what = "every_command_is_described_as_by_the_reference";
    let Some(mut pair) = Pair::start(what, &[]) else { return };
    pair.reset();
    let table = server_async::commands::table();
    let run = |pair: &mut Pair, args: &[&str]| {
        let args: Command = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        for on in [0, CONNECTIONS - 1] {
            pair.command(on, &args).unwrap_or_else(|report| panic!("{report}"));
        }
    };
    for command in table.commands() {
        let name = command.full_name();
        if compare::NEWER.contains(&&*name) {
            continue;
        }
        run(&mut pair, &["COMMAND", "INFO", &name]);
        run(&mut pair, &["COMMAND", "DOCS", &name]);
        let words: Vec<&str> = name.split('|').collect();
        for more in 0..6 {
            let line = [&words[..], &["a", "b", "GET", "c", "u8", "0"][..more]].concat();
            run(&mut pair, &[&["COMMAND", "GETKEYS"], &line[..]].concat());
            run(&mut pair, &[&["COMMAND", "GETKEYSANDFLAGS"], &line[..]].concat());
        }
        let wrong: &[usize] = match command.spec.arity {
            Arity::Exactly(count) => &[count - 1, count + 1],
            Arity::AtLeast(count) => &[count - 1],
        };
        for count in wrong.iter().filter(|count| **count >= words.len()) {
            let line = [&words[..], &vec!["x"; count - words.len()]].concat();
            run(&mut pair, &line);
        }
    }
}

/// Hits, misses, expired keys, errors and changes, command by command. RANDOMKEY and SCAN are left
/// out: what these find lapsed is chance.
#[test]
fn lookups_are_counted_as_by_the_reference() {
    const COUNTERS: &[&str] = &[
        "keyspace_hits:",
        "keyspace_misses:",
        "expired_keys:",
        "total_error_replies:",
        "acl_access_denied_auth:",
        "unexpected_error_replies:",
    ];
    let what = "lookups_are_counted_as_by_the_reference";
    let Some(mut pair) = Pair::start(what, &[]) else { return };
    let seed = env_number("DIFF_SEED", 1);
    pair.reset();
    let mut watchers = [pair.ours.raw(), pair.theirs.raw()];
    let by_chance = |args: &Command| ["RANDOMKEY", "SCAN"].contains(&name_of(args, 1).as_str());
    let mut denied = 0;
    for (at, step) in generate::sequence(seed, DEFAULT_STEPS as usize).iter().enumerate() {
        let sent = match step {
            Step::Command { args, .. } | Step::Lapse { args, .. } if !by_chance(args) => args,
            _ => continue,
        };
        let place = format!("DIFF_SEED={seed} step {at}: {}", show_command(sent));
        let before = pair.connections.iter().map(|c| c.queued.len()).sum::<usize>();
        pair.step(step).unwrap_or_else(|report| panic!("{place}: {report}"));
        let [ours, theirs] = watchers.each_mut().map(|watcher| {
            let info = watcher.run("INFO stats").text();
            let lines = info.lines().filter(|line| COUNTERS.iter().any(|c| line.starts_with(c)));
            lines.map(str::to_owned).collect::<BTreeSet<_>>()
        });
        // The reference has no such field; what it must say is told by the replies.
        let is_denial = |line: &String| line.starts_with("acl_access_denied_auth:");
        let own_denied = ours.iter().find(|line| is_denial(line)).cloned();
        let ours: BTreeSet<String> = ours.into_iter().filter(|line| !is_denial(line)).collect();
        assert_eq!(ours, theirs, "{place} (ours, reference); {before} commands were queued");
        denied += u64::from(own_denied.is_some_and(|line| line != "acl_access_denied_auth:0"));
    }
    assert!(denied > 0, "no wrong password was counted");
}

#[test]
fn replies_before_authentication_equal_those_of_the_reference() {
    let what = "replies_before_authentication_equal_those_of_the_reference";
    let Some(mut pair) = Pair::start(what, &[("requirepass", "secret")]) else { return };
    let seed = env_number("DIFF_SEED", 1);
    for at in 0..CONNECTIONS {
        let connection = pair.connect();
        pair.connections.push(connection);
        if at == CONNECTIONS - 1 {
            pair.command(at, &common::raw::words("HELLO 3")).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    for (at, step) in generate::sequence(seed, 1_000).iter().enumerate() {
        let result = match step {
            Step::Command { on, args } => pair.command(*on, args).map(drop),
            Step::Inline { on, line } => pair.inline(*on, line),
            Step::Bytes { bytes } => pair.bytes(bytes),
            _ => Ok(()),
        };
        result.unwrap_or_else(|report| panic!("DIFF_SEED={seed} step {at}: {report}"));
    }
    for line in [
        "AUTH wrong",
        "AUTH default wrong",
        "AUTH other secret",
        "HELLO 3 AUTH default wrong",
        "HELLO 2 AUTH default secret",
        "RESET",
        "GET k",
        "AUTH secret",
        "GET k",
        "AUTH wrong",
        "GET k",
        "CLIENT GETNAME",
        "HELLO 3 AUTH default secret SETNAME bob",
        "CLIENT GETNAME",
    ] {
        for on in 0..CONNECTIONS {
            pair.command(on, &common::raw::words(line)).unwrap_or_else(|report| panic!("{report}"));
        }
    }
}

/// What comes before AUTH is kept small, so that a stranger cannot fill the memory.
#[test]
fn limits_before_authentication_equal_those_of_the_reference() {
    let what = "limits_before_authentication_equal_those_of_the_reference";
    let Some(mut pair) = Pair::start(what, &[("requirepass", "secret")]) else { return };
    for bytes in [
        "*10\r\n$4\r\nPING\r\n",
        "*11\r\n$4\r\nPING\r\n",
        "*2\r\n$4\r\nECHO\r\n$16384\r\n",
        "*2\r\n$4\r\nECHO\r\n$16385\r\n",
        "*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*11\r\n$4\r\nPING\r\n",
        "*2\r\n$4\r\nAUTH\r\n$5\r\nwrong\r\n*11\r\n$4\r\nPING\r\n",
    ] {
        pair.bytes(bytes.as_bytes()).unwrap_or_else(|report| panic!("{report}"));
    }
}

/// The commands that are compared, each with arguments that are right and that are wrong.
#[test]
fn every_command_is_tried() {
    const COMMANDS: &str = "PING ECHO AUTH HELLO SELECT QUIT RESET SET GET GETDEL GETEX GETSET \
        SETNX SETEX PSETEX MGET MSET MSETNX APPEND STRLEN INCR DECR INCRBY DECRBY INCRBYFLOAT DEL \
        UNLINK EXISTS TOUCH TYPE RENAME RENAMENX COPY MOVE SWAPDB OBJECT KEYS SCAN RANDOMKEY DBSIZE FLUSHDB FLUSHALL EXPIRE PEXPIRE EXPIREAT \
        PEXPIREAT TTL PTTL EXPIRETIME PEXPIRETIME PERSIST MULTI EXEC DISCARD WATCH UNWATCH INFO \
        TIME SHUTDOWN BGREWRITEAOF WAIT BGSAVE LOLWUT REPLICAOF SLAVEOF";
    const SUBCOMMANDS: &str = "CLIENT ID,CLIENT INFO,CLIENT LIST,CLIENT KILL,CLIENT GETNAME,\
        CLIENT SETNAME,COMMAND COUNT,COMMAND INFO,COMMAND LIST,CONFIG GET,CONFIG SET,\
        CONFIG RESETSTAT,DEBUG SLEEP,DEBUG OBJECT,OBJECT ENCODING,OBJECT REFCOUNT,\
         OBJECT IDLETIME,OBJECT FREQ,OBJECT HELP,DEBUG DIGEST,DEBUG SET-ACTIVE-EXPIRE,\
         DEBUG POPULATE,CLIENT CACHING,CLIENT GETREDIR,CLIENT NO-EVICT,CLIENT PAUSE,CLIENT REPLY,\
         CLIENT TRACKING,CLIENT TRACKINGINFO,CLIENT UNBLOCK,CLIENT UNPAUSE,COMMAND DOCS,\
         COMMAND GETKEYS,COMMAND GETKEYSANDFLAGS,MODULE LIST,SLOWLOG GET,SLOWLOG LEN,\
         SLOWLOG RESET,CLUSTER INFO,MEMORY USAGE,MEMORY STATS,MEMORY DOCTOR,MEMORY PURGE,\
         MEMORY MALLOC-STATS,MEMORY HELP,LATENCY HISTOGRAM,CONFIG REWRITE,DEBUG PROTOCOL,\
         DEBUG HTSTATS,DEBUG HTSTATS-KEY,DEBUG DIGEST-VALUE,DEBUG PAUSE-CRON,\
         DEBUG AOF-FLUSH-SLEEP,DEBUG QUICKLIST-PACKED-THRESHOLD,DEBUG CHANGE-REPL-ID,\
         DEBUG RELOAD,LATENCY HISTORY,LATENCY LATEST,LATENCY GRAPH,LATENCY RESET,LATENCY DOCTOR,\
         LATENCY HELP,SLOWLOG HELP,COMMAND HELP,CONFIG HELP";
    let mut lengths: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for seed in 1..=16 {
        for step in generate::sequence(seed, DEFAULT_STEPS as usize) {
            if let Step::Command { args, .. } = step {
                for words in [1, 2] {
                    lengths.entry(name_of(&args, words)).or_default().insert(args.len());
                }
            }
        }
    }
    for name in COMMANDS.split_whitespace().chain(generate::bits::NAMES.iter().copied()) {
        let tried = lengths.get(name).map_or(0, BTreeSet::len);
        assert!(tried >= 2, "{name} is tried with {tried} numbers of arguments");
    }
    for name in SUBCOMMANDS.split(',') {
        assert!(lengths.contains_key(name), "{name} is not tried");
    }
}
