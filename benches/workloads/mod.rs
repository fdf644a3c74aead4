//! The pieces of work that a request is made of, each by itself: what the micro-benchmarks time and
//! what `scripts/instructions.sh` counts. Keys, values and hashes come from fixed seeds, so that each
//! run does the same.

mod disk;
#[path = "../../tests/common/rng.rs"]
#[allow(dead_code)] // the tests use more of it
mod rng;

use std::ffi::OsStr;
use std::hint::black_box;
use std::sync::Arc;

use server_async::commands;
use server_async::config::{Config, FsyncPolicy};
use server_async::data::NewValue;
use server_async::engine::cx::{Cx, Origin};
use server_async::engine::effects::Effects;
use server_async::engine::execute;
use server_async::engine::memory::MemoryAccount;
use server_async::engine::registries::{Registries, SplitMix64};
use server_async::engine::session::Session;
use server_async::keyspace::{Database, Deadline, HashKey, Keyspace, KnownHashes};
use server_async::persist::base::{BaseOptions, BaseWriter};
use server_async::persist::load::{LoadOptions, Loader};
use server_async::persist::log::{AppendLog, LogOptions};
use server_async::resp::args::Args;
use server_async::resp::encode;
use server_async::resp::parse::{Limits, Parser, Progress, ShortHead};
use server_async::resp::reply::{Protocol, Reply};
use server_async::sys::clock::{MonoUs, Now, UnixMs};

use disk::Disk;
use rng::Rng;

/// Does the work once.
pub type Run = Box<dyn FnMut()>;

/// One piece of work.
pub struct Workload {
    /// Its name: what, and on what.
    pub name: &'static str,
    /// As how many operations one run of it counts.
    pub operations: u64,
    /// Whether a run leaves nothing to be done by the next one, which then needs a new state.
    pub consumes: bool,
    /// Makes the state that it begins with.
    pub prepare: fn() -> Run,
}

/// All of them, small ones first.
pub const ALL: &[Workload] = &[
    repeated("parse/set", BATCH, parse_set),
    repeated("parse/pipeline_16", 16 * BATCH, parse_pipeline),
    repeated("parse/short_16", 16 * BATCH, parse_short),
    repeated("parse/inline", MANY, parse_inline),
    repeated("parse/large_256k", 64, parse_large),
    repeated("lookup/hit", BATCH, || lookup(BATCH, KEYS, true)),
    repeated("lookup/miss", BATCH, || lookup(BATCH, KEYS, false)),
    once("insert/new", MANY, insert),
    repeated("insert/overwrite", BATCH, overwrite),
    once("insert/delete", MANY, delete),
    repeated("reply/bulk", BATCH, || reply(|reply| reply.bulk(black_box(&[b'x'; 32])))),
    repeated("reply/integer", BATCH, || reply(|reply| reply.integer(black_box(123_456)))),
    repeated("reply/map_of_4", BATCH, || reply(reply_map)),
    repeated("log/group_of_1", 64, || append(1, 64)),
    repeated("log/group_of_16", 64 * 16, || append(16, 64)),
    repeated("command/set", BATCH, || command(Verb::Set)),
    repeated("command/get", BATCH, || command(Verb::Get)),
    repeated("command/incr", BATCH, || command(Verb::Incr)),
    repeated("load/sealed", LOADED, load),
];

/// Those whose state is too large to count instructions of in short time, and which are about
/// memory's latency anyway.
#[allow(dead_code)] // of the benchmarks alone
pub const LARGE: &[Workload] = &[
    repeated("lookup/hit_of_1m", SCATTERED, || lookup(SCATTERED, 1_000_000, true)),
    repeated("lookup/miss_of_1m", SCATTERED, || lookup(SCATTERED, 1_000_000, false)),
];

const BATCH: u64 = 1_000;
const KEYS: u64 = 50_000;
const LOADED: u64 = 10_000;
/// So many different keys that their entries do not stay in a cache.
const SCATTERED: u64 = 200_000;
/// Enough that what the allocator does now and then is spread over them.
const MANY: u64 = 20_000;
const SEED: u64 = 20_240_601;

const LIMITS: Limits = Limits { max_bulk_bytes: 512 << 20, authenticated: true };
const NOW: Now = Now { unix: UnixMs(1_800_000_000_000), mono: MonoUs(1_000_000) };

const fn repeated(name: &'static str, operations: u64, prepare: fn() -> Run) -> Workload {
    Workload { name, operations, consumes: false, prepare }
}

const fn once(name: &'static str, operations: u64, prepare: fn() -> Run) -> Workload {
    Workload { name, operations, consumes: true, prepare }
}

/// The key of a number: 16 bytes.
fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut text = itoa::Buffer::new();
    let digits = text.format(number).as_bytes();
    key[16 - digits.len()..].copy_from_slice(digits);
    key
}

/// Keys drawn at random below `bound`.
fn drawn(count: u64, bound: u64) -> Vec<[u8; 16]> {
    let mut rng = Rng::new(SEED);
    (0..count).map(|_| key(rng.next() % bound)).collect()
}

fn set_request(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    encode::command(&mut request, &[b"SET", key, value]);
    request
}

// ---- parse ---------------------------------------------------------------------------------

/// Parses all requests of `buf`.
fn parse_all(parser: &mut Parser, buf: &[u8]) {
    let mut at = 0;
    parser.reset();
    while at < buf.len() {
        match parser.parse(black_box(buf), LIMITS) {
            Ok(Progress::Request { end, .. }) => {
                black_box(parser.parts());
                at = end;
                parser.reset_at(at);
            }
            other => panic!("a whole request: {other:?}"),
        }
    }
}

fn parse_set() -> Run {
    let (buf, mut parser) = (set_request(&key(7), &[b'x'; 32]), Parser::default());
    Box::new(move || (0..BATCH).for_each(|_| parse_all(&mut parser, &buf)))
}

fn parse_pipeline() -> Run {
    let buf: Vec<u8> = (0..16).flat_map(|n| set_request(&key(n), &[b'x'; 32])).collect();
    let mut parser = Parser::default();
    Box::new(move || (0..BATCH).for_each(|_| parse_all(&mut parser, &buf)))
}

/// The same, as the server reads them when they are short and there.
fn parse_short() -> Run {
    let buf: Vec<u8> = (0..16).flat_map(|n| set_request(&key(n), &[b'x'; 32])).collect();
    let mut spans = Vec::new();
    Box::new(move || {
        for _ in 0..BATCH {
            spans.clear();
            let (mut at, mut last): (usize, Option<ShortHead>) = (0, None);
            let buf = black_box(&buf);
            loop {
                let again = last.and_then(|head| head.again_at(buf, at));
                let Some(head) = again.or_else(|| ShortHead::read(buf, at)) else { break };
                let Some(end) = head.read_arguments(buf, &mut spans) else { break };
                (at, last) = (end, Some(head));
            }
            black_box(&spans);
        }
    })
}

fn parse_inline() -> Run {
    let mut parser = Parser::default();
    Box::new(move || {
        (0..MANY).for_each(|_| parse_all(&mut parser, b"SET key:000000000007 value\r\n"));
    })
}

/// An argument that has an allocation of its own, arriving in pieces of a read buffer's size.
fn parse_large() -> Run {
    const PIECE: usize = 64 << 10;
    let (request, mut parser) = (set_request(&key(7), &vec![b'x'; 256 << 10]), Parser::default());
    Box::new(move || {
        for _ in 0..64 {
            parser.reset();
            let (head, mut rest) = request.split_at(PIECE);
            while let Ok(Progress::NeedLarge) = parser.parse(black_box(head), LIMITS) {
                let Some((bytes, missing)) = parser.large_mut() else { break };
                let (piece, left) = rest.split_at(missing.min(PIECE).min(rest.len()));
                bytes.extend_from_slice(piece);
                rest = left;
                parser.large_filled();
            }
            assert_eq!(parser.parts().1.len(), 1, "the large argument");
        }
    })
}

// ---- keyspace ------------------------------------------------------------------------------

fn database(keys: u64) -> Database {
    let mut db = Database::new(HashKey::from_seed(SEED));
    for number in 0..keys {
        db.set(&key(number), NewValue::Bytes(&[b'x'; 32]), Deadline::Clear);
    }
    db
}

fn lookup(count: u64, keys: u64, hit: bool) -> Run {
    let db = database(keys);
    let mut wanted = drawn(count, keys);
    if !hit {
        wanted.iter_mut().for_each(|key| key[0] = b'n');
    }
    Box::new(move || {
        let found = wanted.iter().filter(|key| db.get(black_box(&key[..])).is_some()).count();
        assert_eq!(found, if hit { wanted.len() } else { 0 });
    })
}

fn insert() -> Run {
    let mut db = database(KEYS);
    let new: Vec<_> = (KEYS..KEYS + MANY).map(key).collect();
    Box::new(move || {
        for key in &new {
            assert!(!db.set(black_box(key), NewValue::Bytes(&[b'x'; 32]), Deadline::Clear));
        }
    })
}

fn overwrite() -> Run {
    let (mut db, wanted) = (database(KEYS), drawn(BATCH, KEYS));
    Box::new(move || {
        for key in &wanted {
            assert!(db.set(black_box(key), NewValue::Bytes(&[b'y'; 32]), Deadline::Clear));
        }
    })
}

fn delete() -> Run {
    let mut db = database(KEYS);
    Box::new(move || {
        for number in 0..MANY {
            assert!(db.remove(black_box(&key(number * 2))));
        }
    })
}

// ---- reply ---------------------------------------------------------------------------------

fn reply(write: fn(&mut Reply<'_>)) -> Run {
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        let mut reply = Reply::new(&mut out, Protocol::Resp3);
        (0..BATCH).for_each(|_| write(&mut reply));
        black_box(&out);
    })
}

fn reply_map(reply: &mut Reply<'_>) {
    reply.map(4);
    for number in 0..4 {
        reply.bulk(black_box(b"field"));
        reply.integer(black_box(number * 1_000));
    }
}

// ---- log and load --------------------------------------------------------------------------

const LOG_NAME: &str = "appendonly.aof";

fn log_options() -> LogOptions {
    LogOptions {
        policy: FsyncPolicy::No,
        seals: true,
        rewrite_percentage: 0,
        rewrite_min_bytes: 0,
        incremental: false,
        rewrite_timeout_us: 0,
        rewrite_diff_max_bytes: 64 << 20,
        max_bytes: 0,
        keep_before_rewrite: 0,
    }
}

/// Groups of `records` SETs, each sealed and handed to a disk that forgets.
fn append(records: usize, groups: usize) -> Run {
    let storage = Arc::new(Disk::forgetful());
    let name = OsStr::new(LOG_NAME);
    let waker: server_async::persist::background::Waker = Arc::new(|| {});
    let mut log = AppendLog::off(storage.clone(), name, log_options(), &waker).expect("threads");
    let loader = Loader::open(storage, name, LoadOptions::default()).expect("an empty disk");
    log.resume(loader, NOW).expect("a disk without faults");
    let record = set_request(&key(7), &[b'x'; 32]);
    Box::new(move || {
        for _ in 0..groups {
            (0..records).for_each(|_| log.append(0, black_box(&record)));
            log.flush(NOW);
        }
        assert_eq!(log.written(), log.appended());
    })
}

/// A sealed file replayed into an empty keyspace.
fn load() -> Run {
    let storage = Arc::new(Disk::new());
    let options = BaseOptions { seals: true, incremental: false, unix_ms: 1_800_000_000_000 };
    let mut base = BaseWriter::new(storage.file(), options).expect("a disk without faults");
    base.select(0).expect("a disk without faults");
    for number in 0..LOADED {
        base.set(&key(number), &[b'x'; 32], None).expect("a disk without faults");
    }
    base.finish().expect("a disk without faults");
    Box::new(move || {
        let mut server = Server::new(Origin::Replay);
        let name = OsStr::new(LOG_NAME);
        let loader = Loader::open(storage.clone(), name, LoadOptions::default());
        let mut loader = loader.expect("the file");
        let step = loader.step(u64::MAX, |args| {
            server.run(args);
            Ok(())
        });
        assert!(step.expect("a whole file"));
        assert_eq!(server.keyspace.db(0).len() as u64, LOADED);
    })
}

// ---- commands ------------------------------------------------------------------------------

/// What a command needs of a server.
struct Server {
    keyspace: Keyspace,
    session: Session,
    registries: Registries,
    effects: Effects,
    out: Vec<u8>,
    origin: Origin,
}

impl Server {
    fn new(origin: Origin) -> Server {
        Server {
            keyspace: Keyspace::new(16, HashKey::from_seed(SEED)),
            session: Session::new(1, true, true),
            registries: Registries::new(
                Config::default(),
                commands::table(),
                MemoryAccount::of_this_thread(),
                SplitMix64::new(SEED),
            ),
            effects: Effects::default(),
            out: Vec::new(),
            origin,
        }
    }

    /// Finds the command and runs it; its reply is appended to `out`, its record forgotten.
    fn run(&mut self, args: &mut Args<'_>) {
        let reply = match self.origin {
            Origin::Client => Reply::new(&mut self.out, Protocol::Resp2),
            Origin::Replay => Reply::muted(&mut self.out),
        };
        let mut cx = Cx {
            keyspace: &mut self.keyspace,
            session: &mut self.session,
            reply,
            effects: &mut self.effects,
            registries: &mut self.registries,
            now: NOW.unix,
            origin: self.origin,
            hashes: KnownHashes::default(),
        };
        let found = execute::resolve(&cx.registries.table, args);
        execute::dispatch(&mut cx, found, args);
        black_box(self.effects.record_count());
        self.effects.clear_records();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Set,
    Get,
    Incr,
}

/// Requests from their bytes to their replies, among keys that are there.
fn command(verb: Verb) -> Run {
    let mut server = Server::new(Origin::Client);
    for number in 0..KEYS {
        let value = if verb == Verb::Incr { NewValue::Int(1_000) } else { NewValue::Bytes(b"xxx") };
        server.keyspace.db_mut(0).set(&key(number), value, Deadline::Clear);
    }
    let requests: Vec<Vec<u8>> = (drawn(BATCH, KEYS).iter())
        .map(|key| {
            let mut request = Vec::new();
            match verb {
                Verb::Set => encode::command(&mut request, &[b"SET", key, b"yyy"]),
                Verb::Get => encode::command(&mut request, &[b"GET", key]),
                Verb::Incr => encode::command(&mut request, &[b"INCR", key]),
            }
            request
        })
        .collect();
    let mut parser = Parser::default();
    Box::new(move || {
        server.out.clear();
        for request in &requests {
            parser.reset();
            let progress = parser.parse(black_box(request), LIMITS);
            assert!(matches!(progress, Ok(Progress::Request { canonical: true, .. })));
            let (spans, large) = parser.parts();
            server.run(&mut Args::new(request, spans, large, Some(request)));
        }
        assert!(!server.out.contains(&b'-'), "no errors");
    })
}
