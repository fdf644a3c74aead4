//! Reads a file along its chain of seals, and finds where what can be trusted ends.
//!
//! In the sealed part nothing is handed out before the seal of its group has verified. In an
//! unsealed part (Redis's own file, one written by hand, or what stands behind a sealed `#S0`) there
//! is only the form of the commands to go by, as in Redis. In both, a transaction is handed out
//! whole or not at all.

use std::io;
use std::sync::Arc;

use super::format::{
    Annotation, GroupSum, Line, MAX_LINE_BYTES, SEALS_OFF_LINE, SealFields, is_torn_header,
};
use super::records::{
    Batch, BatchMark, Believed, Command, EXEC_RECORD, MULTI_RECORD, Parsed, Role, UNENDED_ARGUMENT,
    comment_len, parse_command,
};
use super::storage::{LogFile, read_full_at};
use super::tail::Chain;
use crate::keyspace::Prepared;
use crate::resp::args::{Args, Span};

/// How much the window may hold of what was handed out, and how much a search reads at once: a
/// sealed group of a base, roughly.
pub(super) const READ_BYTES: u64 = 1 << 20;
/// How much is read at once at the least. A chunk ends where its last read was used up, or little
/// behind, so that little is moved to the next one.
const FILL_BYTES: u64 = 256 << 10;
/// An unsealed batch is handed out when it has this many bytes, outside a transaction.
const UNSEALED_BATCH_BYTES: u64 = 256 << 10;
/// A chunk is handed out when it has this many bytes, between batches. Few enough that what one
/// thread has parsed is still in a cache when another applies it.
const CHUNK_BYTES: u64 = 256 << 10;
/// How far ahead the kernel is asked to read, and in what steps: enough to keep a disk busy with
/// large requests.
const READ_AHEAD_BYTES: u64 = 8 << 20;
/// A larger argument is copied to its own allocation by whoever reads the file, so that the loop
/// is not held up for long; a smaller one by the loop, which has the time while the file is read.
const COPIED_AT_ONCE_BYTES: usize = 1 << 20;
/// A chunk keeps no more room than this from use to use.
const KEPT_BYTES: usize = 4 << 20;
/// Likewise, in commands or arguments: what so many bytes of small commands have.
const KEPT_ITEMS: usize = KEPT_BYTES / 16;

/// One command as the caller sees it.
pub(super) struct CommandView<'a> {
    pub(super) text: &'a [u8],
    pub(super) spans: &'a [Span],
    /// Its large arguments, in order.
    pub(super) large: Vec<Vec<u8>>,
}

/// What comes next in the file.
#[derive(Debug)]
pub(super) enum Next {
    /// A batch was read; see [`ChainReader::batch`].
    Batch,
    /// The file ends where it should.
    End,
    /// What follows [`ChainReader::end`] cannot be trusted.
    Stop(Stop),
}

/// How a reading ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The file ends where it should.
    Clean,
    /// What follows cannot be trusted.
    Stopped(Stop),
}

/// Where and why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// File offset of what was found wrong; not before the end of what is good.
    pub at: u64,
    /// What was found wrong.
    pub reason: &'static str,
    /// Whether the file merely ends too early: inside a command, a group or a transaction.
    pub torn: bool,
}

/// How the bytes at the reader's position are judged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Region {
    Sealed(Line),
    Unsealed,
}

/// Reads one file from a position on.
pub(super) struct ChainReader {
    pub(super) file: Arc<dyn LogFile>,
    /// File offset where reading ends: the file's length when it was opened.
    pub(super) total: u64,
    max_bulk_bytes: u64,
    window: Vec<u8>,
    /// File offset of the window's first byte.
    window_at: u64,
    pub(super) region: Region,
    /// File offset where what can be trusted, and has been handed out, ends.
    pub(super) end: u64,
    last_ms: u64,
    /// The time that the first header states.
    pub(super) first_ms: Option<u64>,
    /// The last seal that verified.
    pub(super) last_seal: Option<SealFields>,
    /// Whether the last group was empty and its seal stated all before it to be durable.
    closed: bool,
    batch: Batch,
    /// File offset up to which the kernel was asked to read ahead.
    expected: u64,
}

/// Makes of a command what can be made of it ahead of its being applied, on another thread. `None`
/// leaves it to be applied as it is.
pub type Prepare = Box<dyn Fn(&Args<'_>) -> Option<Prepared> + Send>;

/// A stretch of a file that can be trusted as far as the file can tell, with the commands in it. It
/// owns its bytes, so that it can be handed to another thread.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    /// File offset of the first byte.
    at: u64,
    /// File offset behind what can be trusted.
    end: u64,
    batch: Batch,
    /// The large arguments of all commands in order, each in an allocation that can become a value;
    /// empty where it has not been copied yet.
    large: Vec<Vec<u8>>,
    /// The commands that were prepared, each in its place; shorter than the commands where none
    /// follows.
    prepared: Vec<Option<Prepared>>,
    /// Bytes of the commands that were prepared: about what was made of them takes as many.
    prepared_bytes: usize,
    /// What [`Chunk::held_bytes`] was when it was lent to another thread, and 1 at the least; for
    /// the lender's books. 0 in a chunk that nobody has lent.
    pub(super) lent_bytes: usize,
}

impl Chunk {
    /// How many commands there are.
    pub(super) fn len(&self) -> usize {
        self.batch.commands.len()
    }

    /// File offset behind the chunk.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// What the command at `index` is to a transaction.
    pub(super) fn role(&self, index: usize) -> Role {
        self.batch.commands.get(index).map_or(Role::Ignored, |command| command.role)
    }

    /// File offset of the command at `index`.
    pub(super) fn offset_of(&self, index: usize) -> u64 {
        self.at + self.batch.commands.get(index).map_or(0, |command| command.start) as u64
    }

    /// Bytes of the command at `index`.
    pub(super) fn len_of(&self, index: usize) -> u64 {
        self.batch.commands.get(index).map_or(0, |command| command.len) as u64
    }

    /// The arguments of the command at `index`, unless it is MULTI or EXEC. O(1), the first time
    /// also O(bytes of large arguments).
    pub(super) fn plain_args(&mut self, index: usize) -> Option<Args<'_>> {
        let command = self.batch.commands.get(index).filter(|c| c.role == Role::Plain)?;
        let text = self.bytes.get(command.start..command.start + command.len)?;
        let spans = command.first_span..command.first_span + command.span_count;
        let large = command.first_large..command.first_large + command.large_count;
        let ranges = self.batch.large.get(large.clone())?;
        let large = self.large.get_mut(large)?;
        for (copy, &(start, end)) in large.iter_mut().zip(ranges) {
            if copy.is_empty() {
                copy.extend_from_slice(self.bytes.get(start..end)?);
            }
        }
        Some(Args::new(text, self.batch.spans.get(spans)?, large, Some(text)))
    }

    /// Prepares what of the commands can be, on the thread that calls this.
    pub(super) fn prepare(&mut self, prepare: &Prepare) {
        for index in 0..self.len() {
            let prepared = self.plain_args(index).and_then(|args| prepare(&args));
            if prepared.is_some() {
                self.prepared_bytes += self.len_of(index) as usize;
            }
            self.prepared.push(prepared);
        }
    }

    /// The hash of the key of the command at `index`, if that is prepared and not taken yet.
    pub(super) fn prepared_hash(&self, index: usize) -> Option<u64> {
        self.prepared.get(index)?.as_ref().map(Prepared::hash)
    }

    /// Takes the command at `index`, if it is prepared.
    pub(super) fn take_prepared(&mut self, index: usize) -> Option<Prepared> {
        self.prepared.get_mut(index)?.take()
    }

    /// Bytes of memory that the chunk's text and large arguments take, and about what was prepared.
    pub(super) fn held_bytes(&self) -> usize {
        let large: usize = self.large.iter().map(Vec::capacity).sum();
        let places = self.prepared.capacity() * size_of::<Option<Prepared>>();
        self.bytes.capacity() + large + places + self.prepared_bytes
    }

    /// Empties the chunk for another use; gives back what one huge command has taken.
    pub(super) fn clear(&mut self) {
        self.large.clear();
        self.prepared.clear();
        self.prepared_bytes = 0;
        self.batch.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.batch.commands.shrink_to(KEPT_ITEMS);
        self.batch.spans.shrink_to(KEPT_ITEMS);
        self.batch.large.shrink_to(KEPT_ITEMS);
        self.large.shrink_to(KEPT_ITEMS);
        self.prepared.shrink_to(KEPT_ITEMS);
    }
}

enum Item {
    Command,
    /// A `#` line of this length, its line end included.
    Line(usize),
}

impl ChainReader {
    /// Reads from the start of a file, whose length is `total`.
    pub(super) fn new(file: Arc<dyn LogFile>, total: u64, max_bulk_bytes: u64) -> ChainReader {
        ChainReader {
            file,
            total,
            max_bulk_bytes,
            window: Vec::new(),
            window_at: 0,
            region: Region::Unsealed,
            end: 0,
            last_ms: 0,
            first_ms: None,
            last_seal: None,
            closed: false,
            batch: Batch::default(),
            expected: 0,
        }
    }

    /// Reads on behind the seal `line`, whose own verity is not asked for.
    pub(super) fn behind(&self, line: Line, position: u64) -> ChainReader {
        let mut reader = ChainReader::new(Arc::clone(&self.file), self.total, self.max_bulk_bytes);
        reader.window_at = position;
        reader.end = position;
        reader.region = Region::Sealed(line);
        reader
    }

    pub(super) fn file(&self) -> &Arc<dyn LogFile> {
        &self.file
    }

    /// File offset where what can be trusted ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How the file is to be continued at [`ChainReader::end`].
    pub(super) fn chain(&self) -> Chain {
        match self.region {
            Region::Sealed(line) => Chain::Sealed(line),
            Region::Unsealed => Chain::Unsealed,
        }
    }

    pub(super) fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// Whether what was read last was the end of a file that was closed in order.
    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    pub(super) fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The batch's command at `index`; large arguments are copied.
    pub(super) fn command(&self, index: usize) -> Option<CommandView<'_>> {
        let command = self.batch.commands.get(index)?;
        let Command { start, len, first_span, span_count, first_large, large_count, .. } = *command;
        let spans = self.batch.spans.get(first_span..first_span + span_count).unwrap_or(&[]);
        let text = self.window.get(start..start + len).unwrap_or(&[]);
        let large = self.batch.large.get(first_large..first_large + large_count).unwrap_or(&[]);
        let bytes = |&(start, end): &(usize, usize)| self.window.get(start..end).unwrap_or(&[]);
        Some(CommandView {
            text,
            spans,
            large: large.iter().map(|range| bytes(range).to_vec()).collect(),
        })
    }

    /// File offset of the batch's command at `index`.
    pub(super) fn offset_of(&self, index: usize) -> u64 {
        let start = self.batch.commands.get(index).map_or(0, |command| command.start);
        self.window_at + start as u64
    }

    /// Reads up to the next seal that verifies, or the next stretch of unsealed commands. The
    /// batch handed out before is forgotten.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        self.batch.clear();
        // Only here: the batch's commands know their place by the window's first byte.
        self.drop_consumed(READ_BYTES);
        self.next_batch()
    }

    /// Reads some batches into `chunk`, whose former content is forgotten. Then tells how the
    /// reading ended, if it did: behind the chunk, which may be empty.
    pub(super) fn next_chunk(&mut self, chunk: &mut Chunk) -> Option<io::Result<Ended>> {
        chunk.clear();
        self.batch.clear();
        self.drop_consumed(0);
        self.expect_reads();
        let mut handed_out = self.batch.mark();
        let ended = loop {
            match self.next_batch() {
                Ok(Next::Batch) => {
                    handed_out = self.batch.mark();
                    if self.end - self.window_at >= CHUNK_BYTES {
                        break None;
                    }
                }
                Ok(Next::End) => break Some(Ok(Ended::Clean)),
                Ok(Next::Stop(stop)) => break Some(Ok(Ended::Stopped(stop))),
                Err(error) => break Some(Err(error)),
            }
        };
        // What was parsed of a group that did not verify is not to be seen.
        self.batch.go_back(handed_out);
        self.hand_over(chunk);
        ended
    }

    /// Moves the window's trusted part and the batch into `chunk`, and goes on with its buffers.
    fn hand_over(&mut self, chunk: &mut Chunk) {
        let trusted = (self.end - self.window_at) as usize;
        chunk.bytes.extend_from_slice(self.window.get(trusted..).unwrap_or(&[]));
        std::mem::swap(&mut chunk.bytes, &mut self.window);
        std::mem::swap(&mut chunk.batch, &mut self.batch);
        chunk.at = self.window_at;
        chunk.end = self.end;
        self.window_at = self.end;
        chunk.large.extend(chunk.batch.large.iter().map(|&(start, end)| {
            let now = end - start > COPIED_AT_ONCE_BYTES;
            let range = if now { start..end } else { start..start };
            chunk.bytes.get(range).unwrap_or(&[]).to_vec()
        }));
    }

    /// Has the kernel read on ahead of this reader.
    fn expect_reads(&mut self) {
        let wanted = (self.end + READ_AHEAD_BYTES).min(self.total);
        if wanted >= self.expected + READ_AHEAD_BYTES / 2 || wanted == self.total {
            let from = self.expected.max(self.end);
            if from < wanted {
                self.file.will_read(from, wanted - from);
                self.expected = wanted;
            }
        }
    }

    /// Adds to the batch what the next seal that verifies covers, or the next stretch of unsealed
    /// commands. Unless that is what it tells, what was added is not to be trusted.
    fn next_batch(&mut self) -> io::Result<Next> {
        match self.region {
            Region::Sealed(previous) => self.next_sealed(&previous),
            Region::Unsealed => self.next_unsealed(),
        }
    }

    fn next_sealed(&mut self, previous: &Line) -> io::Result<Next> {
        let mut position = self.end;
        let mut in_transaction = false;
        loop {
            if position == self.total {
                let clean = position == self.end;
                return Ok(if clean { Next::End } else { self.torn("no seal ends the group") });
            }
            let line_bytes = match self.item(position, &mut in_transaction)? {
                Ok(Item::Line(len)) => len,
                Ok(Item::Command) => {
                    position += self.batch.commands.last().map_or(0, |command| command.len) as u64;
                    continue;
                }
                Err(stop) => return Ok(Next::Stop(stop)),
            };
            let start = (position - self.window_at) as usize;
            let line = self.window.get(start..start + line_bytes).unwrap_or(&[]);
            let damage = |reason| Ok(Next::Stop(Stop { at: position, reason, torn: false }));
            match Annotation::of(line) {
                Annotation::Comment => {}
                // Legal only as a group of its own, which its seal will show.
                Annotation::SealsOff if position == self.end => {}
                Annotation::Seal(seal) => {
                    let group_start = (self.end - self.window_at) as usize;
                    let group = self.window.get(group_start..start).unwrap_or(&[]);
                    let mut sum = GroupSum::after(previous);
                    sum.add(group);
                    if seal.fields.end != position || !sum.verifies(line, &seal) {
                        return damage("a seal does not verify");
                    }
                    if in_transaction {
                        return damage("a seal stands inside a transaction");
                    }
                    let Some(kept) = Line::keep(line) else { return damage("a seal is too long") };
                    let seals_off = group == SEALS_OFF_LINE;
                    if !seals_off && group.starts_with(SEALS_OFF_LINE) {
                        return damage("#S0 does not stand alone in its group");
                    }
                    self.closed = group.is_empty() && seal.fields.durable == seal.fields.end;
                    self.region = if seals_off { Region::Unsealed } else { Region::Sealed(kept) };
                    self.last_ms = self.last_ms.max(seal.fields.unix_ms);
                    self.last_seal = Some(seal.fields);
                    self.end = position + line_bytes as u64;
                    return Ok(Next::Batch);
                }
                Annotation::SealsOff | Annotation::Header { .. } | Annotation::Damaged => {
                    return damage("a line that begins with #S is not well formed or out of place");
                }
            }
            position += line_bytes as u64;
        }
    }

    fn next_unsealed(&mut self) -> io::Result<Next> {
        let mut position = self.end;
        let mut in_transaction = false;
        let before = self.batch.mark();
        // What the batch holds outside a transaction that is still open.
        let mut whole = before;
        let mut stop = None;
        self.closed = false;
        while position < self.total {
            let item = match self.item(position, &mut in_transaction)? {
                Ok(item) => item,
                Err(found) => {
                    stop = Some(found);
                    break;
                }
            };
            match item {
                Item::Command => {
                    position += self.batch.commands.last().map_or(0, |command| command.len) as u64;
                }
                Item::Line(len) => {
                    let start = (position - self.window_at) as usize;
                    let line = self.window.get(start..start + len).unwrap_or(&[]);
                    match (Annotation::of(line), Line::keep(line)) {
                        (Annotation::Comment, _) => {}
                        (Annotation::Header { unix_ms }, Some(header)) if !in_transaction => {
                            if self.batch.commands.len() > before.commands {
                                break; // The commands ahead of it are handed out first.
                            }
                            self.end = position + len as u64;
                            self.last_ms = self.last_ms.max(unix_ms);
                            self.first_ms = self.first_ms.or(Some(unix_ms));
                            self.region = Region::Sealed(header);
                            return self.next_sealed(&header);
                        }
                        _ => {
                            let reason = "a line that begins with #S is out of place";
                            stop = Some(Stop { at: position, reason, torn: false });
                            break;
                        }
                    }
                    position += len as u64;
                }
            }
            if !in_transaction {
                whole = self.batch.mark();
                // Not `self.end` yet: it also says which bytes the window may drop.
                let read = position - self.end;
                if read >= UNSEALED_BATCH_BYTES {
                    break;
                }
            }
        }
        let has_whole = whole.commands > before.commands;
        self.end_of_unsealed(position, in_transaction, whole, has_whole, stop)
    }

    /// Hands out what is whole; only when nothing is does what stopped the reading count.
    fn end_of_unsealed(
        &mut self,
        position: u64,
        in_transaction: bool,
        whole: BatchMark,
        has_whole: bool,
        stop: Option<Stop>,
    ) -> io::Result<Next> {
        let open = self.batch.commands.get(whole.commands).map(|command| command.start);
        let boundary = open.map_or(position, |start| self.window_at + start as u64);
        let advanced = boundary > self.end;
        if advanced && (has_whole || stop.is_none() && !in_transaction) {
            self.batch.go_back(whole);
            self.end = boundary;
            return Ok(Next::Batch);
        }
        // Comments ahead of the damage are good.
        self.end = boundary;
        match stop {
            Some(stop) if self.rest_is_torn_header(stop.at)? => {
                Ok(Next::Stop(Stop { reason: "a header was being written", torn: true, ..stop }))
            }
            Some(stop) => Ok(Next::Stop(stop)),
            None if in_transaction => Ok(self.torn("the file ends inside a transaction")),
            None => Ok(Next::End),
        }
    }

    fn rest_is_torn_header(&mut self, at: u64) -> io::Result<bool> {
        let rest = self.total - self.end;
        // Not at the very beginning: a new file gets its name only once its header is durable.
        if self.end == 0
            || at != self.end
            || rest > MAX_LINE_BYTES as u64
            || !self.fill(self.end, rest)?
        {
            return Ok(false);
        }
        let start = (self.end - self.window_at) as usize;
        Ok(is_torn_header(self.window.get(start..start + rest as usize).unwrap_or(&[])))
    }

    fn torn(&self, reason: &'static str) -> Next {
        Next::Stop(Stop { at: self.total, reason, torn: true })
    }

    /// Parses what stands at `position`; a command is added to the batch.
    fn item(&mut self, position: u64, in_transaction: &mut bool) -> io::Result<Result<Item, Stop>> {
        let mut needed = 1;
        loop {
            if !self.fill(position, needed as u64)? {
                let reason = "the file ends inside a command or a # line";
                return Ok(Err(Stop { at: position, reason, torn: true }));
            }
            let start = (position - self.window_at) as usize;
            let bytes = self.window.get(start..).unwrap_or(&[]);
            let parsed = match bytes.first() {
                Some(b'#') => match comment_len(bytes) {
                    Parsed::Whole(len) => return Ok(Ok(Item::Line(len))),
                    other => other,
                },
                _ => {
                    let rest = self.total - position;
                    let believed = Believed { max_bulk: self.max_bulk_bytes, rest };
                    parse_command(bytes, start, believed, &mut self.batch)
                }
            };
            match parsed {
                Parsed::Whole(len) => {
                    self.assign_role(start, len, in_transaction);
                    return Ok(Ok(Item::Command));
                }
                // At least doubled, so that a command with many arguments is not parsed from its
                // start once for each read.
                Parsed::More(more) => {
                    let available = bytes.len();
                    if !self
                        .argument_may_end(position + more as u64, position + available as u64)?
                    {
                        let at = position + more as u64 - 2;
                        let stop = Stop { at, reason: UNENDED_ARGUMENT, torn: false };
                        return Ok(Err(stop));
                    }
                    needed = more.max(available.saturating_mul(2).min(self.rest(position)));
                }
                Parsed::Bad(at, reason) => {
                    return Ok(Err(Stop { at: position + at as u64, reason, torn: false }));
                }
            }
        }
    }

    /// Whether the line end of a large argument that is to end at `until` stands there. A damaged
    /// length must not bring gigabytes into memory before it shows.
    fn argument_may_end(&self, until: u64, have: u64) -> io::Result<bool> {
        if until > self.total || until.saturating_sub(have) < READ_BYTES {
            return Ok(true);
        }
        let mut line_end = [0; 2];
        read_full_at(&*self.file, &mut line_end, until - 2)?;
        Ok(line_end == *b"\r\n")
    }

    fn rest(&self, position: u64) -> usize {
        usize::try_from(self.total - position).unwrap_or(usize::MAX)
    }

    /// Tells MULTI and EXEC from other commands.
    fn assign_role(&mut self, start: usize, len: usize, in_transaction: &mut bool) {
        let text = self.window.get(start..start + len).unwrap_or(&[]);
        let role = if text.eq_ignore_ascii_case(MULTI_RECORD) {
            if *in_transaction { Role::Ignored } else { Role::Begin }
        } else if text.eq_ignore_ascii_case(EXEC_RECORD) {
            if *in_transaction { Role::End } else { Role::Ignored }
        } else {
            return;
        };
        match role {
            Role::Begin => *in_transaction = true,
            Role::End => *in_transaction = false,
            Role::Plain | Role::Ignored => {}
        }
        if let Some(command) = self.batch.commands.last_mut() {
            command.role = role;
        }
    }

    /// Lets go of what has been handed out, once it is worth moving the rest.
    fn drop_consumed(&mut self, at_least: u64) {
        let consumed = self.end - self.window_at;
        if consumed >= at_least {
            self.window.drain(..self.window.len().min(consumed as usize));
            self.window_at = self.end;
        }
    }

    /// Makes the `len` bytes at `position` part of the window. `false` if the file ends before.
    fn fill(&mut self, position: u64, len: u64) -> io::Result<bool> {
        let Some(until) = position.checked_add(len).filter(|&until| until <= self.total) else {
            return Ok(false);
        };
        let have = self.window_at + self.window.len() as u64;
        if until <= have {
            return Ok(true);
        }
        let wanted = (until - have).max(FILL_BYTES).min(self.total - have);
        let filled = self.window.len();
        let wanted = usize::try_from(wanted).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.window.try_reserve(wanted).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.window.resize(filled + wanted, 0);
        let room = self.window.get_mut(filled..).unwrap_or(&mut []);
        let read = read_full_at(&*self.file, room, have)?;
        self.window.truncate(filled + read);
        if read < wanted {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was read",
            ));
        }
        Ok(true)
    }
}
