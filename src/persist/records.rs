//! The form of commands in the file: strict, since only canonical text is ever written, and since
//! the log's own bytes go back into it.

use super::format::MAX_COMMENT_BYTES;
use crate::resp::args::Span;

/// An argument of this size gets an allocation of its own, which can become the value.
pub(super) const LARGE_ARG_BYTES: usize = 32 << 10;
/// The longest `*<count>\r\n` or `$<bytes>\r\n`.
const MAX_NUMBER_LINE_BYTES: usize = 24;
const LINE_END_BYTES: usize = 2;
/// What is wrong with an argument whose length leads elsewhere.
pub(super) const UNENDED_ARGUMENT: &str = "an argument does not end in CRLF";

/// A command in the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    /// Where in the window it lies.
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) first_span: usize,
    pub(super) span_count: usize,
    pub(super) first_large: usize,
    pub(super) large_count: usize,
    pub(super) role: Role,
}

/// What a command is to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Neither of these.
    Plain,
    /// MULTI that begins a transaction.
    Begin,
    /// EXEC that ends one.
    End,
    /// MULTI inside a transaction or EXEC outside: as in Redis, without consequence.
    Ignored,
}

/// Commands that can be trusted as far as the file can tell.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) commands: Vec<Command>,
    /// Relative to their command's first byte; a large one is an index into the command's own part
    /// of `large`.
    pub(super) spans: Vec<Span>,
    /// Ranges of the window, of all large arguments in order.
    pub(super) large: Vec<(usize, usize)>,
}

/// How much a batch holds, to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchMark {
    pub(super) commands: usize,
    spans: usize,
    large: usize,
}

impl Batch {
    /// Empties the batch and keeps its room.
    pub(super) fn clear(&mut self) {
        self.commands.clear();
        self.spans.clear();
        self.large.clear();
    }

    pub(super) fn mark(&self) -> BatchMark {
        let Batch { commands, spans, large } = self;
        BatchMark { commands: commands.len(), spans: spans.len(), large: large.len() }
    }

    /// Forgets what was added since `mark`.
    pub(super) fn go_back(&mut self, mark: BatchMark) {
        self.commands.truncate(mark.commands);
        self.spans.truncate(mark.spans);
        self.large.truncate(mark.large);
    }
}

/// What parsing came to.
pub(super) enum Parsed {
    /// A whole command of this length.
    Whole(usize),
    /// At least this many bytes are needed, counted from the command's start.
    More(usize),
    Bad(usize, &'static str),
}

/// MULTI as the log has it.
pub(super) const MULTI_RECORD: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
/// EXEC as the log has it.
pub(super) const EXEC_RECORD: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// Length of the `#` line that `bytes` begin with, its line end included.
pub(super) fn comment_len(bytes: &[u8]) -> Parsed {
    let limit = MAX_COMMENT_BYTES + 1;
    let head = bytes.get(..limit).unwrap_or(bytes);
    match memchr::memchr(b'\n', head) {
        Some(end) => Parsed::Whole(end + 1),
        None if head.len() == limit => Parsed::Bad(0, "a # line is longer than 1023 bytes"),
        None => Parsed::More(bytes.len() + 1),
    }
}

/// Which lengths of arguments are believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Believed {
    /// Up to this many bytes, whether the file holds them or not: where it does not, it ends too
    /// early.
    pub(super) max_bulk: u64,
    /// Bytes from the command's start to the file's end. A length that the file can hold is believed
    /// however large it is: clients may have been allowed more than they are now.
    pub(super) rest: u64,
}

impl Believed {
    /// Whether an argument of `len` bytes may stand `at` bytes behind the command's start.
    fn admits(&self, len: u64, at: usize) -> bool {
        let until = len.checked_add(at as u64 + LINE_END_BYTES as u64);
        len <= self.max_bulk || until.is_some_and(|until| until <= self.rest)
    }
}

/// Parses one command in its canonical form and adds it to the batch if it is whole. `start` is its
/// place in the window.
pub(super) fn parse_command(
    bytes: &[u8],
    start: usize,
    believed: Believed,
    batch: &mut Batch,
) -> Parsed {
    let (first_span, first_large) = (batch.spans.len(), batch.large.len());
    let parsed = parse_args(bytes, start, believed, batch);
    if let Parsed::Whole(len) = parsed {
        let span_count = batch.spans.len() - first_span;
        let large_count = batch.large.len() - first_large;
        let role = Role::Plain;
        batch.commands.push(Command {
            start,
            len,
            first_span,
            span_count,
            first_large,
            large_count,
            role,
        });
    } else {
        batch.spans.truncate(first_span);
        batch.large.truncate(first_large);
    }
    parsed
}

fn parse_args(bytes: &[u8], start: usize, believed: Believed, batch: &mut Batch) -> Parsed {
    let first_large = batch.large.len();
    let (count, mut at) = match number_line(bytes, 0, b'*') {
        Ok(parsed) => parsed,
        Err(other) => return other,
    };
    if count == 0 {
        return Parsed::Bad(0, "a command without arguments");
    }
    for _ in 0..count {
        let (len, data) = match number_line(bytes, at, b'$') {
            Ok(parsed) => parsed,
            Err(other) => return other,
        };
        let addressable =
            usize::try_from(len).ok().filter(|len| len.checked_add(data + 2).is_some());
        let Some(len) = addressable.filter(|_| believed.admits(len, data)) else {
            return Parsed::Bad(at, "an argument is longer than any can be");
        };
        match bytes.get(data + len..data + len + LINE_END_BYTES) {
            Some(b"\r\n") => {}
            Some(_) => return Parsed::Bad(data + len, UNENDED_ARGUMENT),
            None => return Parsed::More(data + len + LINE_END_BYTES),
        }
        if len >= LARGE_ARG_BYTES || u32::try_from(data).is_err() {
            batch.spans.push(Span::large(batch.large.len() - first_large));
            batch.large.push((start + data, start + data + len));
        } else {
            batch.spans.push(Span::new(data, len));
        }
        at = data + len + LINE_END_BYTES;
    }
    Parsed::Whole(at)
}

/// The first arguments of the command that `bytes` begin with, up to `at_most` of them: those that
/// can be read, whatever the rest of the command is like.
pub(super) fn leading_args(bytes: &[u8], at_most: usize) -> Vec<&[u8]> {
    let mut args = Vec::new();
    let Ok((count, mut at)) = number_line(bytes, 0, b'*') else { return args };
    while args.len() < at_most && (args.len() as u64) < count {
        let Ok((len, data)) = number_line(bytes, at, b'$') else { break };
        let Some(rest) = bytes.get(data..) else { break };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(arg) = rest.get(..len) else { break };
        if !rest.get(len..).is_some_and(|behind| behind.starts_with(b"\r\n")) {
            break;
        }
        args.push(arg);
        at = data + len + 2;
    }
    args
}

/// Parses `<kind><decimal>\r\n` at `at`: the number, and where the next thing begins.
#[inline]
fn number_line(bytes: &[u8], at: usize, kind: u8) -> Result<(u64, usize), Parsed> {
    let text = bytes.get(at..).unwrap_or(&[]);
    // The usual case: one digit or two, none of them a leading zero.
    match *text {
        [k, d @ b'0'..=b'9', b'\r', b'\n', ..] if k == kind => Ok((u64::from(d - b'0'), at + 4)),
        [k, t @ b'1'..=b'9', d @ b'0'..=b'9', b'\r', b'\n', ..] if k == kind => {
            Ok((u64::from((t - b'0') * 10 + (d - b'0')), at + 5))
        }
        _ => any_number_line(text, at, kind),
    }
}

/// Likewise, for any number in `text`, which stands at `at`.
#[cold]
fn any_number_line(text: &[u8], at: usize, kind: u8) -> Result<(u64, usize), Parsed> {
    let bad = |reason| Err(Parsed::Bad(at, reason));
    match text.first() {
        None => return Err(Parsed::More(at + 1)),
        Some(&byte) if byte == kind => {}
        Some(_) if kind == b'*' => return bad("neither a command nor a # line begins here"),
        Some(_) => return bad("an argument does not begin with $"),
    }
    let mut value = 0u64;
    let mut index = 1;
    loop {
        match text.get(index) {
            None => return Err(Parsed::More(at + index + 1)),
            Some(b'\r') if index > 1 => break,
            Some(byte @ b'0'..=b'9') if index < MAX_NUMBER_LINE_BYTES => {
                let leading_zero = value == 0 && index > 1;
                let next =
                    value.checked_mul(10).and_then(|v| v.checked_add(u64::from(byte - b'0')));
                match next {
                    Some(next) if !leading_zero => value = next,
                    _ => return bad("a length is not canonical"),
                }
            }
            Some(_) => return bad("a length is not a number"),
        }
        index += 1;
    }
    match text.get(index + 1) {
        None => Err(Parsed::More(at + index + 2)),
        Some(b'\n') => Ok((value, at + index + 2)),
        Some(_) => bad("a length does not end in CRLF"),
    }
}
