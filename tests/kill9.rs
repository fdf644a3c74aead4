//! kill -9 at any moment loses nothing that was acknowledged.
//!
//! Several writers, each on keys of its own, send pipelined commands and keep a model of what
//! they sent and what was acknowledged. The server (in turns its rewrite child) is killed at a
//! random moment and started again. Then each writer's keys must be what its model says after
//! some number of its commands, at least the acknowledged ones, at most the sent ones: a suffix
//! that nobody heard of may be missing, but nothing before it, nothing out of order, and no part
//! of a transaction without the rest.
//!
//! `KILL9_ROUNDS=n` and `KILL9_SEED=n` make a longer run (`scripts/kill9.sh`).

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::process::{children_fast, send_signal};
use common::raw::encode_into;
use common::{
    Launch, Raw, Reply, Rng, Server, env_number, eventually, seed_from_env, show, unix_ms,
};
use nix::sys::signal::Signal;

const WRITERS: usize = 4;

/// Keys of one writer: few enough that commands meet on them.
const KEYS: usize = 24;

/// Keys that nobody writes again: they give a rewrite something to do.
const BASE_KEYS: usize = 20_000;

/// One client's command, or transaction.
#[derive(Clone, Debug)]
enum Op {
    Set(usize, Vec<u8>),
    SetUntil(usize, Vec<u8>, i64),
    Increment(usize, i64),
    Append(usize, Vec<u8>),
    Delete(Vec<usize>),
    ExpireAt(usize, i64),
    ExpireIn(usize, i64),
    Persist(usize),
    Transaction(Vec<Op>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    value: Vec<u8>,
    /// The deadline in Unix milliseconds lies in this range; `None`: there is none.
    deadline: Option<(i64, i64)>,
}

/// What a writer's keys hold.
type Model = BTreeMap<usize, Entry>;

/// Applies `op` and returns its reply.
fn apply(model: &mut Model, op: &Op) -> Reply {
    let ok = Reply::Simple(b"OK".to_vec());
    match op {
        Op::Set(key, value) => {
            model.insert(*key, Entry { value: value.clone(), deadline: None });
            ok
        }
        Op::SetUntil(key, value, at) => {
            model.insert(*key, Entry { value: value.clone(), deadline: Some((*at, *at)) });
            ok
        }
        Op::Increment(key, by) => {
            let entry = model.entry(*key).or_insert(Entry { value: b"0".to_vec(), deadline: None });
            let number = canonical_number(&entry.value);
            match number.and_then(|number| number.checked_add(*by)) {
                Some(sum) => {
                    entry.value = sum.to_string().into_bytes();
                    Reply::Int(sum)
                }
                None => Reply::Error(b"ERR value is not an integer or out of range".to_vec()),
            }
        }
        Op::Append(key, tail) => {
            let entry = model.entry(*key).or_insert(Entry { value: Vec::new(), deadline: None });
            entry.value.extend_from_slice(tail);
            Reply::Int(entry.value.len() as i64)
        }
        Op::Delete(keys) => {
            Reply::Int(keys.iter().filter(|key| model.remove(key).is_some()).count() as i64)
        }
        Op::ExpireAt(key, at) => set_deadline(model, *key, Some((*at, *at))),
        // The server reads its clock when the command arrives, a little later than it was made.
        Op::ExpireIn(key, lapse) => set_deadline(model, *key, Some((*lapse, *lapse + 120_000))),
        Op::Persist(key) => match model.get_mut(key) {
            Some(entry) => Reply::Int(entry.deadline.take().is_some() as i64),
            None => Reply::Int(0),
        },
        Op::Transaction(ops) => Reply::Array(ops.iter().map(|op| apply(model, op)).collect()),
    }
}

/// A number in the one form that counts as such: an APPEND may have made "08" or "-0".
fn canonical_number(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

fn set_deadline(model: &mut Model, key: usize, deadline: Option<(i64, i64)>) -> Reply {
    match model.get_mut(&key) {
        Some(entry) => {
            entry.deadline = deadline;
            Reply::Int(1)
        }
        None => Reply::Int(0),
    }
}

/// How many replies a command has: a transaction's MULTI and queued commands have one each.
fn reply_count(op: &Op) -> usize {
    match op {
        Op::Transaction(ops) => ops.len() + 2,
        _ => 1,
    }
}

struct Writer {
    id: usize,
    rng: Rng,
    /// The state after everything acknowledged.
    model: Model,
    /// Sent and not acknowledged, oldest first.
    in_flight: VecDeque<Op>,
    acknowledged: u64,
}

impl Writer {
    fn new(id: usize, seed: u64) -> Writer {
        let rng = Rng::new(seed ^ (id as u64 + 1) << 40);
        Writer { id, rng, model: Model::new(), in_flight: VecDeque::new(), acknowledged: 0 }
    }

    fn key(&self, key: usize) -> Vec<u8> {
        format!("writer{}:{key}", self.id).into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.below(12) {
            0..6 => self.rng.between(-1_000, 1_000).to_string().into_bytes(),
            6..11 => {
                let len = self.rng.below(200);
                self.rng.bytes(len)
            }
            _ => {
                let len = 1_000 + self.rng.below(40_000);
                self.rng.bytes(len)
            }
        }
    }

    fn single(&mut self) -> Op {
        let key = self.rng.below(KEYS);
        let far = 3_600_000 + self.rng.between(0, 3_600_000);
        match self.rng.below(16) {
            0..4 => Op::Set(key, self.value()),
            4 => Op::SetUntil(key, self.value(), unix_ms() + far),
            5..9 => Op::Increment(key, self.rng.between(-5, 50)),
            9..12 => {
                let len = self.rng.below(30);
                Op::Append(key, self.rng.bytes(len))
            }
            12 => Op::Delete((0..=self.rng.below(3)).map(|_| self.rng.below(KEYS)).collect()),
            13 => Op::ExpireAt(key, unix_ms() + far),
            // In whole seconds, as EXPIRE takes them.
            14 => Op::ExpireIn(key, unix_ms() + far / 1_000 * 1_000),
            _ => Op::Persist(key),
        }
    }

    fn op(&mut self) -> Op {
        if self.rng.one_in(5) {
            let len = 1 + self.rng.below(5);
            Op::Transaction((0..len).map(|_| self.single()).collect())
        } else {
            self.single()
        }
    }

    fn encode(&self, op: &Op, out: &mut Vec<u8>) {
        let number = |number: i64| number.to_string().into_bytes();
        let word = |text: &str| text.as_bytes().to_vec();
        let args = match op {
            Op::Set(key, value) => vec![word("SET"), self.key(*key), value.clone()],
            Op::SetUntil(key, value, at) => {
                vec![word("SET"), self.key(*key), value.clone(), word("PXAT"), number(*at)]
            }
            Op::Increment(key, by) => vec![word("INCRBY"), self.key(*key), number(*by)],
            Op::Append(key, tail) => vec![word("APPEND"), self.key(*key), tail.clone()],
            Op::Delete(keys) => {
                let mut args = vec![word("DEL")];
                args.extend(keys.iter().map(|key| self.key(*key)));
                args
            }
            Op::ExpireAt(key, at) => vec![word("PEXPIREAT"), self.key(*key), number(*at)],
            Op::ExpireIn(key, lapse) => {
                // Rounded up: never before the range that the model allows.
                let seconds = (lapse - unix_ms() + 999) / 1_000;
                vec![word("EXPIRE"), self.key(*key), number(seconds)]
            }
            Op::Persist(key) => vec![word("PERSIST"), self.key(*key)],
            Op::Transaction(ops) => {
                encode_into(out, &["MULTI"]);
                for op in ops {
                    self.encode(op, out);
                }
                vec![word("EXEC")]
            }
        };
        encode_into(out, &args);
    }

    /// Writes until the server is gone or `stop` is set, always some commands ahead of the
    /// replies.
    fn write(&mut self, port: u16, stop: &AtomicBool) {
        let Ok(mut client) = Raw::try_connect(port) else { return };
        loop {
            let most = if self.rng.one_in(4) { 100 } else { 8 };
            let ahead = 1 + self.rng.below(most);
            let mut bytes = Vec::new();
            while self.in_flight.len() < ahead {
                let op = self.op();
                self.encode(&op, &mut bytes);
                self.in_flight.push_back(op);
            }
            let sent = client.try_send(&bytes);
            let keep = if stop.load(Ordering::Relaxed) { 0 } else { self.rng.below(ahead) };
            let mut gone = sent.is_err();
            // With the server gone, what it had sent before is still there to be read.
            while gone || self.in_flight.len() > keep {
                if self.in_flight.is_empty() || !self.read_reply(&mut client) {
                    gone = true;
                    break;
                }
            }
            if gone || keep == 0 && stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Reads the replies to the oldest command in flight; false when the server is gone first.
    fn read_reply(&mut self, client: &mut Raw) -> bool {
        let op = self.in_flight[0].clone();
        let count = reply_count(&op);
        let mut last = None;
        for at in 0..count {
            let Ok(frame) = client.try_frame() else { return false };
            if at > 0 && at + 1 < count {
                assert_eq!(frame.reply, Reply::Simple(b"QUEUED".to_vec()), "within {op:?}");
            }
            last = Some(frame.reply);
        }
        let expected = apply(&mut self.model, &op);
        assert_eq!(last, Some(expected), "writer {}: the reply to {op:?}", self.id);
        self.in_flight.pop_front();
        self.acknowledged += 1;
        true
    }

    /// What the server holds of this writer's keys.
    fn fetch(&self, client: &mut Raw) -> Model {
        let mut bytes = Vec::new();
        for key in 0..KEYS {
            encode_into(&mut bytes, &[b"GET".to_vec(), self.key(key)]);
            encode_into(&mut bytes, &[b"PEXPIRETIME".to_vec(), self.key(key)]);
        }
        client.send(&bytes);
        let mut found = Model::new();
        for key in 0..KEYS {
            let (value, deadline) = (client.reply(), client.reply().int());
            if let Reply::Bulk(value) = value {
                let deadline = (deadline != -1).then_some((deadline, deadline));
                found.insert(key, Entry { value, deadline });
            }
        }
        found
    }

    /// Finds how many of the commands in flight the server has kept, and takes that state as the
    /// next beginning. Panics when no number explains what is there.
    fn settle(&mut self, client: &mut Raw, story: &str) -> usize {
        let found = self.fetch(client);
        let acknowledged = self.model.clone();
        let in_flight = std::mem::take(&mut self.in_flight);
        for kept in 0..=in_flight.len() {
            if same(&self.model, &found) {
                // From here on every deadline is known exactly, and must stay.
                self.model = found;
                return kept;
            }
            if let Some(op) = in_flight.get(kept) {
                apply(&mut self.model, op);
            }
        }
        let mut report = String::new();
        for key in 0..KEYS {
            let (was, is) = (acknowledged.get(&key), found.get(&key));
            if was != is {
                let line = |entry: Option<&Entry>| {
                    entry
                        .map_or("absent".into(), |e| format!("{} {:?}", show(&e.value), e.deadline))
                };
                report +=
                    &format!("  key {key}: acknowledged {}\n    now {}\n", line(was), line(is));
            }
        }
        panic!(
            "LOST: {story}: writer {}, {} acknowledged, {} in flight: {in_flight:?}\n{report}",
            self.id,
            self.acknowledged,
            in_flight.len()
        );
    }
}

fn same(model: &Model, found: &Model) -> bool {
    model.len() == found.len()
        && model.iter().zip(found).all(|((key, want), (other, have))| {
            let deadlines = match (want.deadline, have.deadline) {
                (None, None) => true,
                (Some((low, high)), Some((at, _))) => low <= at && at <= high,
                _ => false,
            };
            key == other && want.value == have.value && deadlines
        })
}

/// What is done to the server in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// kill -9.
    Kill,
    /// kill -9 while a rewrite runs, or soon after its end.
    KillInRewrite,
    /// kill -9 for the rewrite's child; the server must go on, and is killed later.
    KillChild,
    /// SIGTERM while clients write.
    Terminate,
}

#[derive(Default)]
struct Sum {
    rounds: u64,
    rewrites: u64,
    children_killed: u64,
    unacknowledged: u64,
    kept: u64,
}

fn run(policy: &str) {
    let seed = seed_from_env("KILL9_SEED");
    let rounds = env_number("KILL9_ROUNDS", 8);
    eprintln!("KILL9_SEED={seed} KILL9_ROUNDS={rounds} policy {policy}");
    let mut rng = Rng::new(seed);
    let mut server = Launch::new()
        .flag("appendonly", "yes")
        .flag("appendfsync", policy)
        .flag("save", "")
        .flag("auto-aof-rewrite-min-size", "16mb")
        .start();
    fill_base(&server);
    let mut writers: Vec<Writer> = (0..WRITERS).map(|id| Writer::new(id, seed)).collect();
    let mut sum = Sum::default();
    for round in 0..rounds {
        // The first rounds take each blow once; then chance decides.
        let blows = [Blow::Kill, Blow::KillInRewrite, Blow::KillChild, Blow::Terminate];
        let blow = blows.get(round as usize).copied().unwrap_or_else(|| blows[rng.below(4)]);
        let story = format!("KILL9_SEED={seed} policy {policy} round {round} ({blow:?})");
        let port = server.port();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(|| writer.write(port, &stop));
            }
            // Released also by a panic in here, so that the writers end.
            let _release = Release(&stop);
            strike(&mut server, blow, &mut rng, &mut sum);
        });
        server.restart();
        assert_eq!(temporary_files(&server), [""; 0], "{story}: temporary files after the start");
        let mut client = server.raw();
        let mut keys = BASE_KEYS;
        for writer in &mut writers {
            sum.unacknowledged += writer.in_flight.len() as u64;
            sum.kept += writer.settle(&mut client, &story) as u64;
            keys += writer.model.len();
        }
        assert_eq!(client.run("DBSIZE").int(), keys as i64, "{story}: DBSIZE");
        sum.rounds += 1;
    }
    let acknowledged: u64 = writers.iter().map(|writer| writer.acknowledged).sum();
    assert!(acknowledged > 0, "the writers wrote nothing");
    eprintln!(
        "policy {policy}: {} rounds, {} rewrites begun, {} rewrite children killed, {acknowledged} \
         acknowledged commands, lost 0 (of {} in flight at the kills {} were kept)",
        sum.rounds, sum.rewrites, sum.children_killed, sum.unacknowledged, sum.kept
    );
}

struct Release<'a>(&'a AtomicBool);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn fill_base(server: &Server) {
    let mut client = server.raw();
    for chunk in 0..BASE_KEYS / 1_000 {
        let mut args = vec![b"MSET".to_vec()];
        for at in 0..1_000 {
            args.push(format!("base:{}", chunk * 1_000 + at).into_bytes());
            args.push(vec![b'x'; 64]);
        }
        assert!(client.command(&args).is_ok());
    }
}

fn pause(rng: &mut Rng, most_us: usize) {
    std::thread::sleep(Duration::from_micros(rng.below(most_us) as u64));
}

/// Ends the server, in the way of `blow`, at a moment that chance chooses.
fn strike(server: &mut Server, blow: Blow, rng: &mut Rng, sum: &mut Sum) {
    pause(rng, 150_000);
    match blow {
        Blow::Kill => server.kill9(),
        Blow::Terminate => {
            assert_eq!(server.stop().code(), Some(0), "SIGTERM ends with 0: {}", server.log_text());
        }
        Blow::KillInRewrite => {
            if let Some(child) = start_rewrite(server, sum) {
                // Holding the child makes the rewrite last, so that writes gather behind the fork.
                if rng.one_in(2) && send_signal(child, Signal::SIGSTOP) {
                    pause(rng, 50_000);
                    send_signal(child, Signal::SIGCONT);
                }
            }
            pause(rng, 60_000);
            server.kill9();
        }
        Blow::KillChild => {
            if let Some(child) = start_rewrite(server, sum) {
                pause(rng, 5_000);
                send_signal(child, Signal::SIGSTOP);
                pause(rng, 20_000);
                sum.children_killed += send_signal(child, Signal::SIGKILL) as u64;
            }
            let mut client = server.raw();
            server.wait_rewrite_end(&mut client);
            // The file of a killed child goes a moment after the child.
            eventually("no temporary file of the killed child", || {
                temporary_files(server).is_empty()
            });
            pause(rng, 50_000);
            server.kill9();
        }
    }
}

/// Starts a rewrite; its child, unless it ended before it was seen.
fn start_rewrite(server: &Server, sum: &mut Sum) -> Option<u32> {
    let mut client = server.raw();
    let reply = client.run("BGREWRITEAOF");
    // An automatic one may be under way already.
    assert!(!reply.is_error() || reply.error().contains("in progress"), "{reply:?}");
    sum.rewrites += 1;
    let deadline = Instant::now() + Duration::from_millis(200);
    while Instant::now() < deadline {
        if let Some(child) = children_fast(server.pid()).first() {
            return Some(*child);
        }
    }
    None
}

/// The files of a rewrite that did not end.
fn temporary_files(server: &Server) -> Vec<String> {
    let mut files = server.files();
    files.retain(|name| name.contains("temp") || name.contains("rewrite"));
    files
}

#[test]
fn kill9_loses_nothing_acknowledged_with_always() {
    run("always");
}

#[test]
fn kill9_loses_nothing_acknowledged_with_everysec() {
    run("everysec");
}

#[test]
fn kill9_loses_nothing_acknowledged_with_no() {
    run("no");
}
