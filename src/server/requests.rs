//! From a connection's bytes to the requests in them, run one after the other.
//!
//! Requests that stand whole in a buffer are parsed some ahead of being run, so that the memory of
//! all their keys is on its way while the first ones run: what costs most about a pipelined request
//! is to wait for the table's bucket and the entry.

use super::{Engine, Server};
use crate::engine::command::{Command, CommandTable, KeySpec};
use crate::engine::execute;
use crate::engine::session::Session;
use crate::keyspace::{Database, KnownHashes, PlacedHash};
use crate::resp::args::{Args, Span};
use crate::resp::parse::{Limits, Parser, Progress, ProtocolError, ShortHead};
use std::ops::Range;

/// A connection with this much withheld by the log runs nothing more: it could pile up replies
/// without end while the disk stands still.
pub(super) const MAX_WITHHELD_BYTES: usize = 1 << 20;

/// How many requests are parsed ahead, and how many keys they may have before that ends. So many
/// cache lines a processor can wait for at once, and keep.
const REQUESTS_AHEAD: usize = 16;
const KEYS_AHEAD: usize = 64;

/// Room for the places of this many arguments is kept.
const KEPT_SPANS: usize = 1024;

/// Requests that were parsed and not yet run.
#[derive(Debug, Default)]
pub(super) struct Batch {
    spans: Vec<Span>,
    requests: Vec<Request>,
    /// Of the keys that they name.
    hashes: Vec<PlacedHash>,
    /// Where they end; none if nothing was parsed.
    end: Option<End>,
}

/// Where parsing ended.
#[derive(Debug)]
struct End {
    /// Offset behind the last request that was parsed.
    at: usize,
    /// Where the parser stands if that is not the beginning of a further request: that may be one
    /// with arguments of their own memory, which stays in the parser.
    stop: Option<Result<Progress, ProtocolError>>,
}

#[derive(Debug)]
struct Request {
    /// Its bytes in the buffer.
    bytes: Range<usize>,
    /// Its arguments in the batch.
    spans: Range<usize>,
    /// The hashes of its keys in the batch, if they were computed.
    hashes: Range<usize>,
    /// Whether its bytes are the canonical RESP form.
    canonical: bool,
    /// What it calls for; none if that is an error.
    command: Option<Command>,
}

impl Batch {
    /// Parses requests of `buf` from `start` on, where `parser` stands, and asks for the table's part
    /// of their keys.
    pub(super) fn parse(
        &mut self,
        engine: &Engine,
        session: &Session,
        parser: &mut Parser,
        buf: &[u8],
        start: usize,
    ) {
        let limits = Limits {
            max_bulk_bytes: engine.registries.config.proto_max_bulk_bytes,
            authenticated: session.authenticated,
        };
        let db = engine.keyspace.db(session.db);
        self.clear();
        let table = &engine.registries.table;
        let mut last = None;
        let mut at = start;
        let stop = loop {
            if parser.takes_short(limits) {
                let request = self.read_short(table, buf, at, &mut last);
                if let Some(request) = request {
                    at = request.bytes.end;
                    parser.skip_to(at);
                    if self.add(request, buf, db) {
                        continue;
                    }
                    break None;
                }
            }
            match parser.parse(buf, limits) {
                Ok(Progress::Request { end, canonical }) if !parser.has_large() => {
                    let (spans, _) = parser.parts();
                    let first = self.spans.len();
                    self.spans.extend_from_slice(spans);
                    parser.reset_at(end);
                    let bytes = at..end;
                    at = end;
                    if self.spans.len() > first {
                        let spans = first..self.spans.len();
                        let args = Args::new(buf, &self.spans[first..], &mut [], None);
                        let command = execute::recognise(table, &args);
                        let request = Request { bytes, spans, hashes: 0..0, canonical, command };
                        if !self.add(request, buf, db) {
                            break None;
                        }
                    }
                }
                stop => break Some(stop),
            }
        };
        self.end = Some(End { at, stop });
    }

    /// Reads the request at `at`, if it is whole, canonical, and its arguments are few and short. Where it
    /// begins as the `last` one, it calls for the same command.
    #[inline]
    fn read_short(
        &mut self,
        table: &CommandTable,
        buf: &[u8],
        at: usize,
        last: &mut Option<(ShortHead, Command)>,
    ) -> Option<Request> {
        let again = last.and_then(|(head, command)| Some((head.again_at(buf, at)?, Some(command))));
        let (head, known) = match again {
            Some(again) => again,
            None => (ShortHead::read(buf, at)?, None),
        };
        let first = self.spans.len();
        let end = head.read_arguments(buf, &mut self.spans)?;
        let args = Args::new(buf, &self.spans[first..], &mut [], None);
        let command = known.or_else(|| execute::recognise(table, &args));
        // A subcommand is another word.
        *last =
            command.filter(|command| command.container.is_none()).map(|command| (head, command));
        let spans = first..self.spans.len();
        Some(Request { bytes: at..end, spans, hashes: 0..0, canonical: true, command })
    }

    /// Forgets what was parsed.
    pub(super) fn clear(&mut self) {
        self.spans.clear();
        self.spans.shrink_to(KEPT_SPANS);
        self.requests.clear();
        self.hashes.clear();
        self.end = None;
    }

    /// The hashes of the keys that the requests name.
    pub(super) fn hashes(&self) -> &[PlacedHash] {
        &self.hashes
    }

    /// Adds a request, and asks for the table's part of its keys. Returns whether the connection's next
    /// request may be parsed before this one has run: one without keys may change what requests mean,
    /// as AUTH and CONFIG SET do, or where keys are found, as SELECT does.
    fn add(&mut self, mut request: Request, buf: &[u8], db: &Database) -> bool {
        let specs = request.command.map_or(&[][..], |command| command.spec.keys);
        let args = &Args::new(buf, &self.spans[request.spans.clone()], &mut [], None);
        let first_hash = self.hashes.len();
        let hashes = &mut self.hashes;
        let mut look_up = |key: &[u8]| {
            let hash = db.hash(key);
            db.prefetch(hash);
            hashes.push(PlacedHash::new(buf, key, hash));
        };
        match specs {
            // Almost all commands.
            [KeySpec { first, last: 0, .. }] => {
                if let Some(key) = args.get(*first) {
                    look_up(key);
                }
            }
            _ => {
                let keys = specs.iter().flat_map(|spec| keys_of(*spec, args));
                keys.take(KEYS_AHEAD).for_each(look_up);
            }
        }
        request.hashes = first_hash..self.hashes.len();
        self.requests.push(request);
        !specs.is_empty() && self.requests.len() < REQUESTS_AHEAD && self.hashes.len() < KEYS_AHEAD
    }
}

/// The arguments that are keys according to `spec`.
fn keys_of<'a>(spec: KeySpec, args: &'a Args<'_>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let last = match usize::try_from(spec.last) {
        Ok(last) => spec.first + last,
        Err(_) => args.len().saturating_sub(spec.last.unsigned_abs() as usize),
    };
    (spec.first..=last).step_by(spec.step.max(1)).map_while(|index| args.get(index))
}

/// Whether a connection's next request may be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Open,
    /// It is at its end; what it has sent besides is dropped.
    Closing,
    /// Not now.
    Waiting,
}

impl Server {
    /// Runs requests from the beginning of `buf` until there is no whole one left, the connection
    /// is at its end, or it has to wait. `batch` holds what was parsed of them ahead, if anything.
    /// Returns how many bytes are done with.
    pub(super) fn run_requests(&mut self, key: usize, buf: &[u8], batch: &mut Batch) -> usize {
        // Taken out so that a request's arguments do not borrow the server.
        let mut parser = std::mem::take(&mut self.connections[key].parser);
        self.engine.registries.calls.interrupt();
        let mut start = 0;
        loop {
            match self.standing(key) {
                Standing::Open => {}
                Standing::Closing => {
                    parser.reset();
                    start = buf.len();
                    break;
                }
                Standing::Waiting => {
                    // What was parsed too early is parsed again.
                    if batch.end.is_some() {
                        parser.reset_at(start);
                    }
                    parser.shift_back(start);
                    break;
                }
            }
            if batch.end.is_none() {
                let session = &self.connections[key].session;
                batch.parse(&self.engine, session, &mut parser, buf, start);
                if batch.hashes.len() > 1 {
                    self.engine.prefetch_entries(session, batch);
                }
            }
            if !self.run_batch(key, buf, batch, &mut start) {
                // As above.
                parser.reset_at(start);
                batch.end = None;
                continue;
            }
            let Some(End { at, stop }) = batch.end.take() else { continue };
            start = at;
            match stop {
                None => {}
                Some(Ok(Progress::Request { end, .. })) => {
                    let (spans, large) = parser.parts();
                    self.run_args(key, &mut Args::new(buf, spans, large, None));
                    parser.reset_at(end);
                    start = end;
                }
                Some(Ok(Progress::Incomplete | Progress::NeedLarge)) => {
                    parser.shift_back(start);
                    break;
                }
                Some(Err(e)) => {
                    self.refuse_stream(key, &e);
                    parser.reset();
                    start = buf.len();
                    break;
                }
            }
        }
        batch.end = None;
        self.connections[key].parser = parser;
        start
    }

    /// Runs the requests of `batch` one after the other and moves `start` behind those that were
    /// run. Returns whether the connection may run more.
    fn run_batch(&mut self, key: usize, buf: &[u8], batch: &Batch, start: &mut usize) -> bool {
        for request in &batch.requests {
            if self.standing(key) != Standing::Open {
                return false;
            }
            let raw = request.canonical.then(|| &buf[request.bytes.clone()]);
            let spans = &batch.spans[request.spans.clone()];
            let hashes = KnownHashes::new(buf, &batch.hashes[request.hashes.clone()]);
            let args = &mut Args::new(buf, spans, &mut [], raw);
            self.run_known(key, request.command, args, hashes);
            *start = request.bytes.end;
        }
        batch.requests.is_empty() || self.standing(key) == Standing::Open
    }

    fn standing(&self, key: usize) -> Standing {
        let connection = &self.connections[key];
        if connection.is_doomed || connection.session.close_after_reply {
            return Standing::Closing;
        }
        // Once the server is stopping nothing is run any more: the log may be closed already.
        let must_wait = connection.outbox.withheld() >= MAX_WITHHELD_BYTES
            || connection.blocked.is_some()
            || connection.postponed.is_some()
            || self.exit.is_some();
        if must_wait { Standing::Waiting } else { Standing::Open }
    }
}
