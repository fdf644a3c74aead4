//! A bench for commands: keyspace, clients and a clock that stands still, without a server.

use super::command::{CommandSpec, CommandTable};
use super::cx::{Cx, Origin};
use super::effects::{Action, Effects};
use super::execute;
use super::memory::MemoryAccount;
use super::registries::{Registries, SplitMix64};
use super::session::Session;
use crate::config::Config;
use crate::keyspace::{Garbage, HashKey, Keyspace, KnownHashes};
use crate::resp::args::{Args, Span};
use crate::resp::encode;
use crate::resp::parse::LARGE_ARG_BYTES;
use crate::resp::reply::{Protocol, Reply};
use crate::sys::clock::UnixMs;
use crate::text::{number, words};

/// When a bench's clock stands at first: some time in 2033.
pub const START: UnixMs = UnixMs(2_000_000_000_000);

/// All that a command can see or touch.
pub struct Bench {
    /// Sixteen databases, empty at first.
    pub keyspace: Keyspace,
    /// Client `n` stands at index `n`; client 0 sends what [`Bench::run`] runs unless
    /// [`Bench::client`] is called.
    pub sessions: Vec<Session>,
    /// Who sends.
    pub current: usize,
    /// Configuration, counters, figures.
    pub registries: Registries,
    /// The time that commands see.
    pub now: UnixMs,
    /// Where commands seem to come from.
    pub origin: Origin,
    /// What was asked of the server and not yet looked at.
    pub actions: Vec<Action>,
    /// What was to be freed on a helper thread and has not yet been looked at.
    pub garbage: Vec<Garbage>,
    /// Records not yet looked at: database and RESP text.
    pub records: Vec<(usize, Vec<u8>)>,
    /// Whether the last command has done some of that itself.
    pub has_written: bool,
}

impl Bench {
    /// A bench that knows the commands of `families`, with one client that has authenticated.
    pub fn new(families: &[&'static [CommandSpec]]) -> Bench {
        Bench {
            keyspace: Keyspace::new(16, HashKey::from_seed(1)),
            sessions: vec![Session::new(1, true, true)],
            current: 0,
            registries: Registries::new(
                Config::default(),
                CommandTable::new(families),
                MemoryAccount::of_this_thread(),
                SplitMix64::new(1),
            ),
            now: START,
            origin: Origin::Client,
            actions: Vec::new(),
            garbage: Vec::new(),
            records: Vec::new(),
            has_written: false,
        }
    }

    /// From here on client `n` sends; it is made if there is none.
    pub fn client(&mut self, n: usize) -> &mut Bench {
        while self.sessions.len() <= n {
            self.sessions.push(Session::new(self.sessions.len() as u64 + 1, true, true));
        }
        self.current = n;
        self
    }

    /// The client that sends.
    pub fn session(&mut self) -> &mut Session {
        &mut self.sessions[self.current]
    }

    /// Moves the clock.
    pub fn advance_ms(&mut self, by: i64) -> &mut Bench {
        self.now.0 += by;
        self
    }

    /// Sends a command and returns the bytes of its reply. Arguments of [`LARGE_ARG_BYTES`] and
    /// more come as large arguments do.
    pub fn run(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let mut buf = Vec::new();
        let mut spans = Vec::new();
        let mut large = Vec::new();
        encode::array_header(&mut buf, args.len());
        for arg in args {
            if arg.len() >= LARGE_ARG_BYTES {
                spans.push(Span::large(large.len()));
                large.push(arg.to_vec());
            } else {
                let start = encode::bulk(&mut buf, arg);
                spans.push(Span::new(start, arg.len()));
            }
        }
        let raw = large.is_empty().then_some(buf.as_slice());
        let mut args = Args::new(&buf, &spans, &mut large, raw);
        let mut out = Vec::new();
        let mut effects = Effects::default();
        let session = &mut self.sessions[self.current];
        let mut reply = match self.origin {
            Origin::Client => Reply::new(&mut out, session.protocol),
            Origin::Replay => Reply::muted(&mut out),
        };
        if session.replies.is_mute() {
            reply.set_muted(true);
        }
        let mut cx = Cx {
            keyspace: &mut self.keyspace,
            session,
            reply,
            effects: &mut effects,
            registries: &mut self.registries,
            now: self.now,
            origin: self.origin,
            hashes: KnownHashes::default(),
        };
        let found = execute::resolve(&cx.registries.table, &args);
        execute::dispatch(&mut cx, found, &mut args);
        cx.session.replies.end_command();
        self.records.extend(effects.records().map(|(db, raw)| (db, raw.to_vec())));
        self.has_written = effects.has_written();
        self.actions.append(&mut effects.actions);
        self.garbage.append(&mut effects.garbage);
        out
    }

    /// Sends a line split as redis-cli splits it, and returns the reply with each line end as one
    /// blank: `set k v` gives `+OK`, `mget a b` something like `*2 $1 1 $-1`.
    ///
    /// # Panics
    /// If the line's quotes do not match.
    pub fn send(&mut self, line: &str) -> String {
        let words = words::split(line.as_bytes()).expect("balanced quotes");
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        one_line(&self.run(&words))
    }

    /// What was logged since the last call: one line a command, the words joined by blanks, with
    /// `@<db>` ahead where it is not database 0.
    pub fn log(&mut self) -> Vec<String> {
        let records = std::mem::take(&mut self.records);
        records
            .iter()
            .map(|(db, raw)| {
                let words = decode(raw).into_iter().map(|word| word.escape_ascii().to_string());
                let line = words.collect::<Vec<_>>().join(" ");
                if *db == 0 { line } else { format!("@{db} {line}") }
            })
            .collect()
    }

    /// Replays the records not yet looked at into `other`, whose clock and contents are its own.
    pub fn replay_into(&self, other: &mut Bench) {
        let origin = std::mem::replace(&mut other.origin, Origin::Replay);
        for (db, raw) in &self.records {
            other.session().db = *db;
            let words = decode(raw);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            assert_eq!(other.run(&words), b"", "replay is mute");
        }
        other.origin = origin;
        other.session().db = 0;
    }

    /// All that the databases hold: sorted lines `<db> <key>=<value> @<deadline>`.
    pub fn contents(&self) -> Vec<String> {
        let mut all = Vec::new();
        for db in 0..self.keyspace.databases() {
            for entry in self.keyspace.db(db).iter() {
                let mut digits = itoa::Buffer::new();
                let value = entry.value().bytes(&mut digits).escape_ascii();
                let mut line = format!("{db} {}={value}", entry.key().escape_ascii());
                if let Some(deadline) = entry.deadline() {
                    line.push_str(&format!(" @{}", deadline.0));
                }
                all.push(line);
            }
        }
        all.sort();
        all
    }

    /// From here on the client is answered in RESP3.
    pub fn resp3(&mut self) -> &mut Bench {
        self.session().protocol = Protocol::Resp3;
        self
    }
}

/// A reply on one line.
///
/// # Panics
/// If it does not end a line.
pub fn one_line(reply: &[u8]) -> String {
    let text = reply.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'");
    match text.strip_suffix("\\r\\n") {
        Some(text) => text.replace("\\r\\n", " "),
        None => panic!("a reply ends its line: {text:?}"),
    }
}

/// The words of a command in canonical RESP.
///
/// # Panics
/// If it is none.
pub fn decode(raw: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = raw;
    let header = |rest: &mut &[u8], kind: u8| {
        let end = rest.iter().position(|b| *b == b'\r').expect("line end");
        assert_eq!(rest[0], kind, "in {}", raw.escape_ascii());
        let n = number::parse_i64(&rest[1..end]).expect("length") as usize;
        *rest = rest[end..].strip_prefix(b"\r\n").expect("line end");
        n
    };
    let mut words = Vec::new();
    for _ in 0..header(&mut rest, b'*') {
        let len = header(&mut rest, b'$');
        words.push(rest[..len].to_vec());
        rest = rest[len..].strip_prefix(b"\r\n").expect("line end");
    }
    assert!(rest.is_empty(), "one command a record");
    words
}
