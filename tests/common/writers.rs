//! Writers that keep a model: each sends pipelined commands on keys of its own, knows what was
//! sent and what was acknowledged when, and can tell from what a server holds after a crash how
//! much of that has survived.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::raw::encode_into;
use super::{Raw, Reply, Rng, Server, show, unix_ms};

/// Keys of one writer: few enough that commands meet on them.
const KEYS: usize = 24;

/// One client's command, or transaction.
#[derive(Clone, Debug)]
pub enum Op {
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
pub struct Entry {
    /// Its bytes.
    pub value: Vec<u8>,
    /// The deadline in Unix milliseconds lies in this range; `None`: there is none.
    pub deadline: Option<(i64, i64)>,
}

/// What a writer's keys hold.
pub type Model = BTreeMap<usize, Entry>;

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

/// A command that was sent.
#[derive(Debug)]
pub struct Sent {
    /// What it was.
    pub op: Op,
    /// Taken before it was sent.
    pub sent: Instant,
    /// Taken after its reply was read; `None`: it was not.
    pub acknowledged: Option<Instant>,
}

/// One client. What it knows goes from one settlement with a server to the next.
pub struct Writer {
    /// Its number, which is part of its keys' names.
    pub id: usize,
    rng: Rng,
    /// What its keys held when the history began.
    start: Model,
    /// What they hold after everything acknowledged.
    model: Model,
    /// All that was sent since, oldest first, the acknowledged ones ahead of the others.
    history: Vec<Sent>,
    /// How many of `history` were acknowledged.
    acknowledged: usize,
    /// How many were acknowledged before `history` began.
    settled: u64,
    /// When a write was refused because the log is at fault, which ends the writing.
    pub refused: Option<Instant>,
}

impl Writer {
    /// Writer number `id`; the same seed makes the same commands, as far as timing allows.
    pub fn new(id: usize, seed: u64) -> Writer {
        Writer {
            id,
            rng: Rng::new(seed ^ (id as u64 + 1) << 40),
            start: Model::new(),
            model: Model::new(),
            history: Vec::new(),
            acknowledged: 0,
            settled: 0,
            refused: None,
        }
    }

    /// How many commands were acknowledged since it began.
    pub fn acknowledged(&self) -> u64 {
        self.settled + self.acknowledged as u64
    }

    /// What was sent since the last settlement, and is known to be executed.
    pub fn acknowledged_ops(&self) -> &[Sent] {
        &self.history[..self.acknowledged]
    }

    /// All that was sent since the last settlement.
    pub fn history(&self) -> &[Sent] {
        &self.history
    }

    /// How many keys it has, after what is acknowledged or was settled.
    pub fn keys(&self) -> usize {
        self.model.len()
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

    /// Writes until the server is gone, refuses a write, or `stop` is set, always some commands
    /// ahead of the replies.
    pub fn write(&mut self, port: u16, stop: &AtomicBool) {
        let Ok(mut client) = Raw::try_connect(port) else { return };
        loop {
            let most = if self.rng.one_in(4) { 100 } else { 8 };
            let ahead = 1 + self.rng.below(most);
            let mut bytes = Vec::new();
            let sent = Instant::now();
            while self.in_flight() < ahead {
                let op = self.op();
                self.encode(&op, &mut bytes);
                self.history.push(Sent { op, sent, acknowledged: None });
            }
            let sent = client.try_send(&bytes);
            let keep = if stop.load(Ordering::Relaxed) { 0 } else { self.rng.below(ahead) };
            let mut gone = sent.is_err();
            // With the server gone, what it had sent before is still there to be read.
            while gone || self.in_flight() > keep {
                if self.in_flight() == 0 || !self.read_reply(&mut client) {
                    gone = true;
                    break;
                }
            }
            if gone || keep == 0 && stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.history.len() - self.acknowledged
    }

    /// Reads the replies to the oldest command in flight; false when the server is gone first, or
    /// refuses it.
    fn read_reply(&mut self, client: &mut Raw) -> bool {
        let Sent { op, acknowledged, .. } = &mut self.history[self.acknowledged];
        let count = reply_count(op);
        let mut last = None;
        for at in 0..count {
            let Ok(frame) = client.try_frame() else { return false };
            if frame.reply.is_error() && frame.reply.error().contains("MISCONF") {
                self.refused = Some(Instant::now());
                return false;
            }
            if at > 0 && at + 1 < count {
                assert_eq!(frame.reply, Reply::Simple(b"QUEUED".to_vec()), "within {op:?}");
            }
            last = Some(frame.reply);
        }
        let expected = apply(&mut self.model, op);
        assert_eq!(last, Some(expected), "writer {}: the reply to {op:?}", self.id);
        *acknowledged = Some(Instant::now());
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

    /// Finds how many commands of the history the server has kept, takes what it holds as the
    /// next beginning, and returns the history and that number. Panics when no number from
    /// `floor` on explains what is there.
    ///
    /// Commands may change nothing, so several numbers may explain it: the least and the most.
    pub fn settle(&mut self, client: &mut Raw, floor: usize, story: &str) -> Settlement {
        let found = self.fetch(client);
        let acknowledged = std::mem::take(&mut self.acknowledged);
        let history = std::mem::take(&mut self.history);
        let mut state = std::mem::take(&mut self.start);
        let mut promised = None;
        let mut kept: Option<RangeInclusive<usize>> = None;
        for at in 0..=history.len() {
            if at == floor {
                promised = Some(state.clone());
            }
            if same(&state, &found) {
                kept = Some(kept.map_or(at, |kept| *kept.start())..=at);
            }
            if let Some(sent) = history.get(at) {
                apply(&mut state, &sent.op);
            }
        }
        self.settled += acknowledged as u64;
        self.refused = None;
        match kept {
            Some(kept) if *kept.end() >= floor => {
                // From here on every deadline is known exactly, and must stay.
                self.start = found.clone();
                self.model = found;
                Settlement { history, acknowledged, least: *kept.start(), most: *kept.end() }
            }
            _ => panic!(
                "LOST: {story}: writer {}, {} sent, {acknowledged} acknowledged, {floor} promised, \
                 there: {}\n{}next: {:?}",
                self.id,
                history.len(),
                kept.map_or("no state it ever had".to_owned(), |kept| format!("{kept:?}")),
                differences(&promised.unwrap_or_default(), &found),
                history.iter().skip(floor).take(5).map(|sent| &sent.op).collect::<Vec<_>>(),
            ),
        }
    }
}

/// What has become of a history.
#[derive(Debug)]
pub struct Settlement {
    /// All that was sent, oldest first.
    pub history: Vec<Sent>,
    /// How many of them were acknowledged.
    pub acknowledged: usize,
    /// So many were kept at least,
    pub least: usize,
    /// and so many at most.
    pub most: usize,
}

/// The keys that are not as they were promised, a line or two each.
fn differences(promised: &Model, found: &Model) -> String {
    let line = |entry: Option<&Entry>| {
        entry.map_or("absent".into(), |e| format!("{} {:?}", show(&e.value), e.deadline))
    };
    let keys = (0..KEYS).filter(|key| promised.get(key) != found.get(key));
    keys.map(|key| {
        let (was, is) = (line(promised.get(&key)), line(found.get(&key)));
        format!("  key {key}: promised {was}\n    now {is}\n")
    })
    .collect()
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

/// Tells writers to stop when it goes, also by a panic, so that a scope that waits for them ends.
pub struct Release<'a>(pub &'a AtomicBool);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sets `count` keys that no writer touches: they give a rewrite something to do.
#[track_caller]
pub fn fill_base(server: &Server, count: usize) {
    let mut client = server.raw();
    for chunk in 0..count / 1_000 {
        let mut args = vec![b"MSET".to_vec()];
        for at in 0..1_000 {
            args.push(format!("base:{}", chunk * 1_000 + at).into_bytes());
            args.push(vec![b'x'; 64]);
        }
        assert!(client.command(&args).is_ok());
    }
}
