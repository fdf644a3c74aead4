//! Requests: multibulk and inline, parsed incrementally from a buffer that may end anywhere.

use super::args::Span;
use crate::text::{number, words};
use std::fmt;

/// Arguments of at least this many bytes are read straight into an allocation of their own.
pub const LARGE_ARG_BYTES: usize = 32 << 10;

/// Redis's limit for an inline request, and for the length lines of a multibulk one.
const INLINE_MAX_BYTES: usize = 64 << 10;

/// Room for the places of this many arguments is kept from request to request.
const KEPT_ARGS: usize = 1024;

/// Redis's limits before authentication.
const UNAUTHENTICATED_MAX_ARGS: i64 = 10;
const UNAUTHENTICATED_MAX_BULK_BYTES: i64 = 16 << 10;

/// What a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len`, bytes.
    pub max_bulk_bytes: u64,
    /// Whether the client has proven who it is; strangers may send only little.
    pub authenticated: bool,
}

/// The stream cannot be understood any more: the client gets the text and is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// No line end within 64 KiB of an inline request.
    InlineTooBig,
    /// No line end within 64 KiB after `*`.
    MultibulkCountTooBig,
    /// No line end within 64 KiB after `$`.
    BulkCountTooBig,
    /// The number after `*` is none, or too large.
    InvalidMultibulkLength,
    /// The number after `$` is none, or too large.
    InvalidBulkLength,
    /// More arguments than a stranger may send.
    UnauthenticatedMultibulk,
    /// A longer argument than a stranger may send.
    UnauthenticatedBulk,
    /// Another byte than `$` where an argument begins.
    ExpectedDollar(u8),
    /// An inline request with quotes that do not match.
    UnbalancedQuotes,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            Self::InlineTooBig => f.write_str("too big inline request"),
            Self::MultibulkCountTooBig => f.write_str("too big mbulk count string"),
            Self::BulkCountTooBig => f.write_str("too big bulk count string"),
            Self::InvalidMultibulkLength => f.write_str("invalid multibulk length"),
            Self::InvalidBulkLength => f.write_str("invalid bulk length"),
            Self::UnauthenticatedMultibulk => f.write_str("unauthenticated multibulk length"),
            Self::UnauthenticatedBulk => f.write_str("unauthenticated bulk length"),
            Self::ExpectedDollar(got) => {
                write!(f, "expected '$', got '{}'", std::ascii::escape_default(*got))
            }
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
        }
    }
}

impl std::error::Error for ProtocolError {}

impl ProtocolError {
    /// The error reply's text: what [`fmt::Display`] shows, but with the offending byte as it is.
    #[must_use]
    pub fn reply_text(&self) -> Vec<u8> {
        match self {
            Self::ExpectedDollar(got) => {
                let mut text = b"ERR Protocol error: expected '$', got '".to_vec();
                text.extend_from_slice(&[*got, b'\'']);
                text
            }
            other => format!("ERR {other}").into_bytes(),
        }
    }
}

/// Where the parser stands after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The buffer ends inside a request. More bytes are to be appended and the parser called
    /// again with the same beginning.
    Incomplete,
    /// Likewise, and the next `missing` bytes belong to a large argument: they are to be read
    /// into [`Parser::large_mut`] and the parser told by [`Parser::large_filled`]. The buffer has
    /// been parsed to `end`; nothing of it is left over.
    NeedLarge,
    /// A request stands between the beginning and `end`. Its arguments are in
    /// [`Parser::spans`] and [`Parser::large`] until [`Parser::reset`].
    Request {
        /// Offset behind the request.
        end: usize,
        /// Whether the bytes up to `end` are the request's canonical RESP form.
        canonical: bool,
    },
}

/// A large argument on its way in.
#[derive(Debug)]
struct LargeArg {
    bytes: Vec<u8>,
    /// Length without the line end.
    len: usize,
}

/// An incremental parser of one request after another. Offsets are relative to the beginning of
/// the buffer it is called with, which must stay the same until the request is complete.
#[derive(Debug, Default)]
pub struct Parser {
    spans: Vec<Span>,
    large: Vec<Vec<u8>>,
    /// Whether the head of a multibulk request was read. With a large argument as its last one it
    /// can be complete without another byte.
    begun: bool,
    /// Arguments still to come.
    args_left: usize,
    /// Length of the argument whose `$` line was read.
    bulk_len: Option<usize>,
    /// Offset of the first byte not yet understood.
    at: usize,
    /// The large argument being read.
    pending: Option<LargeArg>,
    /// Two bytes that stand for a line end were other ones. As in Redis that is let pass, but such
    /// a request is not its own canonical form.
    loose: bool,
}

impl Parser {
    /// Parses on in `buf`. O(new bytes).
    ///
    /// # Errors
    /// [`ProtocolError`] if the bytes are no request; the connection is of no more use.
    pub fn parse(&mut self, buf: &[u8], limits: Limits) -> Result<Progress, ProtocolError> {
        if self.pending.is_some() {
            return Ok(Progress::NeedLarge);
        }
        if !self.begun {
            match buf.get(self.at) {
                None => return Ok(Progress::Incomplete),
                Some(b'*') => {
                    let (count, next) = match short_length(buf, self.at) {
                        Some((count, next)) => (count as i64, next),
                        None => match self.any_count(buf)? {
                            Some(parsed) => parsed,
                            None => return Ok(Progress::Incomplete),
                        },
                    };
                    if count > UNAUTHENTICATED_MAX_ARGS && !limits.authenticated {
                        return Err(ProtocolError::UnauthenticatedMultibulk);
                    }
                    self.at = next;
                    if count <= 0 {
                        return Ok(Progress::Request { end: next, canonical: false });
                    }
                    self.begun = true;
                    self.args_left = count as usize;
                    // Not as many as the client says: it may lie.
                    self.spans.reserve(self.args_left.min(KEPT_ARGS));
                }
                Some(_) => return self.parse_inline(buf),
            }
        }
        if self.bulk_len.is_none() && limits.max_bulk_bytes >= SHORT_MAX as u64 {
            self.parse_short_bulks(buf);
        }
        if self.args_left > 0 {
            return self.parse_bulks(buf, limits);
        }
        let canonical = self.large.is_empty() && !self.loose;
        Ok(Progress::Request { end: self.at, canonical })
    }

    /// The number of arguments, however it is spelt, and the offset behind its line; `None` if the
    /// line is not complete.
    #[cold]
    fn any_count(&mut self, buf: &[u8]) -> Result<Option<(i64, usize)>, ProtocolError> {
        let Some((count, next)) = length_line(buf, self.at) else {
            self.incomplete_line(buf, ProtocolError::MultibulkCountTooBig)?;
            return Ok(None);
        };
        let count = count.filter(|n| *n <= i64::from(i32::MAX));
        let count = count.ok_or(ProtocolError::InvalidMultibulkLength)?;
        self.loose |= buf.get(next - 1) != Some(&b'\n');
        Ok(Some((count, next)))
    }

    /// Takes in arguments as long as they are short, canonical and whole: almost always all of
    /// them. Whatever else comes is left to [`Parser::parse_bulks`].
    #[inline]
    fn parse_short_bulks(&mut self, buf: &[u8]) {
        let (mut at, mut left) = (self.at, self.args_left);
        while left > 0
            && let Some((start, next)) = short_bulk(buf, at)
        {
            self.spans.push(Span::new(start, next - LINE_END.len() - start));
            at = next;
            left -= 1;
        }
        (self.at, self.args_left) = (at, left);
    }

    fn parse_bulks(&mut self, buf: &[u8], limits: Limits) -> Result<Progress, ProtocolError> {
        while self.args_left > 0 {
            let len = match self.bulk_len {
                Some(len) => len,
                None => {
                    let Some(&kind) = buf.get(self.at) else { return Ok(Progress::Incomplete) };
                    if kind != b'$' {
                        // Redis looks at the line only once it is complete.
                        if memchr::memchr(b'\r', &buf[self.at..]).is_none() {
                            return self.incomplete_line(buf, ProtocolError::BulkCountTooBig);
                        }
                        return Err(ProtocolError::ExpectedDollar(kind));
                    }
                    let Some((len, next)) = length_line(buf, self.at) else {
                        return self.incomplete_line(buf, ProtocolError::BulkCountTooBig);
                    };
                    let len = len
                        .filter(|n| *n >= 0 && n.unsigned_abs() <= limits.max_bulk_bytes)
                        .ok_or(ProtocolError::InvalidBulkLength)?;
                    if len > UNAUTHENTICATED_MAX_BULK_BYTES && !limits.authenticated {
                        return Err(ProtocolError::UnauthenticatedBulk);
                    }
                    self.loose |= buf.get(next - 1) != Some(&b'\n');
                    self.at = next;
                    self.bulk_len = Some(len as usize);
                    len as usize
                }
            };
            let have = buf.len() - self.at;
            if have >= len + 2 {
                self.spans.push(Span::new(self.at, len));
                self.loose |= !buf[self.at + len..].starts_with(b"\r\n");
                self.at += len + 2;
                self.bulk_len = None;
                self.args_left -= 1;
            } else if len >= LARGE_ARG_BYTES {
                let mut bytes = Vec::new();
                // Address space only; pages are touched as bytes arrive. If even that is refused,
                // the client asks for more than there is.
                if bytes.try_reserve_exact(len + 2).is_err() {
                    return Err(ProtocolError::InvalidBulkLength);
                }
                bytes.extend_from_slice(&buf[self.at..]);
                self.at = buf.len();
                self.pending = Some(LargeArg { bytes, len });
                return Ok(Progress::NeedLarge);
            } else {
                return Ok(Progress::Incomplete);
            }
        }
        let canonical = self.large.is_empty() && !self.loose;
        Ok(Progress::Request { end: self.at, canonical })
    }

    fn parse_inline(&mut self, buf: &[u8]) -> Result<Progress, ProtocolError> {
        let line = &buf[self.at..];
        let Some(newline) = memchr::memchr(b'\n', line) else {
            return if line.len() > INLINE_MAX_BYTES {
                Err(ProtocolError::InlineTooBig)
            } else {
                Ok(Progress::Incomplete)
            };
        };
        let end = self.at + newline + 1;
        let text = line[..newline].strip_suffix(b"\r").unwrap_or(&line[..newline]);
        if let Some(words) = words::split_plain(text) {
            // They stand in the buffer as they are meant.
            let at = self.at;
            self.spans.extend(words.map(|word| Span::new(at + word.start, word.len())));
        } else {
            let words = words::split(text).ok_or(ProtocolError::UnbalancedQuotes)?;
            for word in words {
                self.spans.push(Span::large(self.large.len()));
                self.large.push(word);
            }
        }
        self.at = end;
        Ok(Progress::Request { end, canonical: false })
    }

    fn incomplete_line(&self, buf: &[u8], e: ProtocolError) -> Result<Progress, ProtocolError> {
        if buf.len() - self.at > INLINE_MAX_BYTES { Err(e) } else { Ok(Progress::Incomplete) }
    }

    /// The large argument's buffer and how many bytes it still misses, line end included. `None`
    /// unless the last call said [`Progress::NeedLarge`].
    pub fn large_mut(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        let pending = self.pending.as_mut()?;
        let missing = pending.len + 2 - pending.bytes.len();
        Some((&mut pending.bytes, missing))
    }

    /// To be called after bytes were appended to [`Parser::large_mut`]'s buffer. When the argument
    /// is complete, parsing can go on with [`Parser::parse`].
    pub fn large_filled(&mut self) {
        if self.pending.as_ref().is_some_and(|p| p.bytes.len() >= p.len + 2)
            && let Some(LargeArg { mut bytes, len }) = self.pending.take()
        {
            bytes.truncate(len);
            self.spans.push(Span::large(self.large.len()));
            self.large.push(bytes);
            self.bulk_len = None;
            self.args_left -= 1;
        }
    }

    /// The arguments of the complete request.
    #[must_use]
    pub fn parts(&mut self) -> (&[Span], &mut [Vec<u8>]) {
        (&self.spans, &mut self.large)
    }

    /// Whether the request under way has an argument that is not in the buffer.
    #[must_use]
    pub fn has_large(&self) -> bool {
        !self.large.is_empty()
    }

    /// Bytes held by arguments that have an allocation of their own.
    #[must_use]
    pub fn large_bytes(&self) -> usize {
        self.large.iter().map(Vec::capacity).sum::<usize>()
            + self.pending.as_ref().map_or(0, |p| p.bytes.capacity())
    }

    /// Bytes received of the large argument being read; 0 if none is.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending.as_ref().map_or(0, |p| p.bytes.len())
    }

    /// Whether the next request would begin at offset 0 of the next buffer.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.at == 0 && !self.begun
    }

    /// Forgets the complete request; the next one is taken to begin at offset 0 of the next
    /// buffer.
    pub fn reset(&mut self) {
        self.reset_at(0);
    }

    /// Whether a [`ShortHead`] at the beginning of the next request may be taken for it.
    #[inline]
    #[must_use]
    pub fn takes_short(&self, limits: Limits) -> bool {
        !self.begun && limits.authenticated && limits.max_bulk_bytes >= SHORT_MAX as u64
    }

    /// The next request begins at offset `at`: those before it were read by [`ShortHead`].
    #[inline]
    pub fn skip_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Likewise, with the next request beginning at offset `at` of the same buffer.
    #[inline]
    pub fn reset_at(&mut self, at: usize) {
        self.spans.clear();
        // One request of a million arguments must not make its connection keep megabytes.
        if self.spans.capacity() > KEPT_ARGS {
            self.spans.shrink_to(KEPT_ARGS);
        }
        if self.large.capacity() > 0 {
            self.large.clear();
            self.large.shrink_to(KEPT_ARGS);
        }
        self.begun = false;
        self.args_left = 0;
        self.bulk_len = None;
        self.pending = None;
        self.loose = false;
        self.at = at;
    }

    /// Tells the parser that the first `by` bytes of its buffer have been dropped; they must lie
    /// before the request it is in.
    pub fn shift_back(&mut self, by: usize) {
        self.at -= by;
        for span in &mut self.spans {
            *span = span.shifted_back(by);
        }
    }
}

/// The beginning of a request in canonical form with few and short arguments, up to the end of its
/// name. Almost all requests begin so, those of a pipeline mostly all with the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct ShortHead {
    /// Where it stands in the buffer, and its length, bytes.
    at: usize,
    len: usize,
    name_len: usize,
    /// Arguments of the request, the name included.
    args: usize,
}

impl ShortHead {
    /// The most arguments of such a request.
    const ARGS_MAX: usize = 16;

    /// Reads it at `at`. `None` for whatever else stands there.
    #[inline]
    #[must_use]
    pub fn read(buf: &[u8], at: usize) -> Option<ShortHead> {
        let (args, name_line) = short_length(buf, at).filter(|_| buf[at] == b'*')?;
        let (name, next) = short_bulk(buf, name_line)?;
        let name_len = next - name - LINE_END.len();
        let is_short = (1..=Self::ARGS_MAX).contains(&args);
        is_short.then_some(ShortHead { at, len: next - at, name_len, args })
    }

    /// The same bytes at `at` instead, if they stand there.
    #[inline]
    #[must_use]
    pub fn again_at(self, buf: &[u8], at: usize) -> Option<ShortHead> {
        let is_there = buf.get(at..at + self.len)? == &buf[self.at..self.at + self.len];
        is_there.then_some(ShortHead { at, ..self })
    }

    /// Adds the places of the whole request's arguments, the name first, to `spans`. Returns the
    /// offset behind it, or `None`, and adds none, if what follows is not all short, canonical and there.
    #[inline]
    pub fn read_arguments(&self, buf: &[u8], spans: &mut Vec<Span>) -> Option<usize> {
        let before = spans.len();
        let mut at = self.at + self.len;
        spans.push(Span::new(at - LINE_END.len() - self.name_len, self.name_len));
        for _ in 1..self.args {
            let Some((start, next)) = short_bulk(buf, at) else {
                spans.truncate(before);
                return None;
            };
            spans.push(Span::new(start, next - LINE_END.len() - start));
            at = next;
        }
        Some(at)
    }
}

const LINE_END: &[u8; 2] = b"\r\n";

/// Reads `$<length>\r\n<argument>\r\n` at `at`, where the length is as in [`short_length`]: where the
/// argument begins, and the offset behind all.
#[inline(always)]
fn short_bulk(buf: &[u8], at: usize) -> Option<(usize, usize)> {
    let (len, start) = short_length(buf, at).filter(|_| buf[at] == b'$')?;
    let end = start + len;
    (buf.get(end..end + LINE_END.len())? == LINE_END).then_some((start, end + LINE_END.len()))
}

/// The largest number that [`short_length`] reads.
const SHORT_MAX: usize = 999;

/// Reads `<kind><number>\r\n` at `at`, where the number is at most [`SHORT_MAX`] and spelt as it
/// should be: the number and the offset behind the line. `None` for whatever else stands there, and
/// where the buffer ends so soon that no argument can follow.
#[inline(always)]
fn short_length(buf: &[u8], at: usize) -> Option<(usize, usize)> {
    let [_, a, b, c, d, e] = *buf.get(at..)?.first_chunk::<6>()?;
    let digit = |byte: u8| usize::from(byte.wrapping_sub(b'0'));
    let mut number = digit(a);
    if number > 9 {
        return None;
    }
    if [b, c] == *b"\r\n" {
        return Some((number, at + 4));
    }
    if number == 0 || digit(b) > 9 {
        return None;
    }
    number = number * 10 + digit(b);
    if [c, d] == *b"\r\n" {
        return Some((number, at + 5));
    }
    (digit(c) <= 9 && [d, e] == *b"\r\n").then_some((number * 10 + digit(c), at + 6))
}

/// Reads `<kind><integer>\r\n` at `at`: the integer (`None` if it is none) and the offset behind
/// the line; `None` if the line is not complete.
fn length_line(buf: &[u8], at: usize) -> Option<(Option<i64>, usize)> {
    let line = &buf[at + 1..];
    let end = memchr::memchr(b'\r', line)?;
    (line.len() >= end + 2).then(|| (number::parse_i64(&line[..end]), at + 1 + end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::args::Args;

    const LIMITS: Limits = Limits { max_bulk_bytes: 512 << 20, authenticated: true };

    /// Feeds `stream` in pieces of `step` bytes the way a connection does, and returns each
    /// request's arguments.
    fn feed(stream: &[u8], step: usize) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let mut parser = Parser::default();
        let mut inbox: Vec<u8> = Vec::new();
        let mut requests = Vec::new();
        let mut rest = stream;
        loop {
            let mut start = 0;
            while let Progress::Request { end, canonical } = parser.parse(&inbox, LIMITS)? {
                let raw = canonical.then(|| &inbox[start..end]);
                let (spans, large) = parser.parts();
                let args = Args::new(&inbox, spans, large, raw);
                if let Some(raw) = args.raw() {
                    let list: Vec<&[u8]> = args.iter().collect();
                    let mut again = Vec::new();
                    crate::resp::encode::command(&mut again, &list);
                    assert_eq!(again, raw, "canonical bytes are the request's own");
                }
                requests.push(args.iter().map(<[u8]>::to_vec).collect());
                parser.reset_at(end);
                start = end;
            }
            parser.shift_back(start);
            inbox.drain(..start);
            if rest.is_empty() {
                return Ok(requests);
            }
            if let Some((large, missing)) = parser.large_mut() {
                let (now, later) = rest.split_at(step.min(missing).min(rest.len()));
                large.extend_from_slice(now);
                parser.large_filled();
                rest = later;
            } else {
                let (now, later) = rest.split_at(step.min(rest.len()));
                inbox.extend_from_slice(now);
                rest = later;
            }
        }
    }

    fn request(args: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        crate::resp::encode::command(&mut out, args);
        out
    }

    #[test]
    fn requests_are_the_same_however_they_are_split() {
        let big = vec![b'x'; LARGE_ARG_BYTES + 5];
        let list: [&[&[u8]]; 6] = [
            &[b"PING"],
            &[b"SET", b"key", b"", b"\r\n*1\r\n"],
            &[b"SET", b"key", &big],
            &[b"SET", &big, b"tail"],
            &[b"MSET", &big, &big, b"a", &big],
            &[b"GET", b"key"],
        ];
        let stream: Vec<u8> = list.iter().flat_map(|args| request(args)).collect();
        let wanted: Vec<Vec<Vec<u8>>> =
            list.iter().map(|args| args.iter().map(|a| a.to_vec()).collect()).collect();
        for step in [1, 2, 3, 7, 64, 1_000, 16 << 10, LARGE_ARG_BYTES, 64 << 10, stream.len()] {
            assert_eq!(feed(&stream, step), Ok(wanted.clone()), "in pieces of {step}");
        }
    }

    #[test]
    fn arguments_of_every_short_length_are_read_whole_and_in_pieces() {
        for len in (0..=SHORT_MAX + 2).filter(|len| len % 37 < 4 || len % 100 < 3) {
            let list: [&[&[u8]]; 2] = [&[&vec![b'x'; len], b"", b"\r\n"], &[&vec![b'y'; len]]];
            let stream: Vec<u8> = list.iter().flat_map(|args| request(args)).collect();
            let wanted: Vec<Vec<Vec<u8>>> =
                list.iter().map(|args| args.iter().map(|a| a.to_vec()).collect()).collect();
            for step in [1, 2, 5, stream.len()] {
                assert_eq!(feed(&stream, step), Ok(wanted.clone()), "{len} in pieces of {step}");
            }
            let mut parser = Parser::default();
            let first = parser.parse(&stream, LIMITS);
            let end = request(list[0]).len();
            assert_eq!(first, Ok(Progress::Request { end, canonical: true }), "{len}");
        }
        let limits = Limits { max_bulk_bytes: 5, authenticated: true };
        let refused = Parser::default().parse(b"*1\r\n$6\r\nabcdef\r\n", limits);
        assert_eq!(refused, Err(ProtocolError::InvalidBulkLength));
        assert!(Parser::default().parse(b"*1\r\n$5\r\nabcde\r\n", limits).is_ok());
    }

    /// What [`ShortHead`] makes of the request at `at`: its end and its arguments. `again` is the head of
    /// another.
    fn read_short(buf: &[u8], at: usize, again: Option<ShortHead>) -> Option<(usize, Vec<Span>)> {
        let again = again.and_then(|head| head.again_at(buf, at));
        let head = again.or_else(|| ShortHead::read(buf, at))?;
        let mut spans = vec![Span::new(7, 7)];
        let end = head.read_arguments(buf, &mut spans);
        let end = end.or_else(|| {
            assert_eq!(spans.len(), 1, "none is added");
            None
        })?;
        Some((end, spans.split_off(1)))
    }

    #[test]
    fn short_requests_are_read_as_the_parser_does_and_all_of_them() {
        let requests: [Vec<u8>; 8] = [
            request(&[b"GET", b"key"]),
            request(&[b"GET", b"other key"]),
            request(&[b"PING"]),
            request(&[b"SET", b"", &[b'x'; SHORT_MAX]]),
            request(&[b"SET", b"k", &[b'x'; SHORT_MAX + 1]]),
            request(&[b"a".as_slice(); ShortHead::ARGS_MAX]),
            request(&[b"a".as_slice(); ShortHead::ARGS_MAX + 1]),
            b"get key\r\n".to_vec(),
        ];
        for (first, second) in (0..64).map(|n| (&requests[n / 8], &requests[n % 8])) {
            let whole = [&first[..], second].concat();
            // Each byte another one, and the end at each byte.
            let strange = (0..whole.len()).flat_map(|at| {
                [b'0', b'9', b'$', b'*', b'\r', b'x'].map(|byte| {
                    let mut text = whole.clone();
                    text[at] = byte;
                    text
                })
            });
            let cut = (0..=whole.len()).map(|len| whole[..len].to_vec());
            for text in strange.chain(cut).filter(|text| text.len() < 100 || text.len() % 97 == 0) {
                let (mut at, mut head) = (0, None);
                for _ in 0..2 {
                    let mut parser = Parser::default();
                    parser.skip_to(at);
                    let parsed = parser.parse(&text, LIMITS);
                    let spans = parser.parts().0;
                    let few = spans.len() <= ShortHead::ARGS_MAX;
                    let short = spans.iter().all(|span| !span.is_longer_than(SHORT_MAX));
                    let expected = match parsed {
                        Ok(Progress::Request { end, canonical: true }) if few && short => {
                            Some((end, spans.to_vec()))
                        }
                        _ => None,
                    };
                    let shown = text.escape_ascii();
                    assert_eq!(read_short(&text, at, None), expected, "{at} of {shown}");
                    assert_eq!(read_short(&text, at, head), expected, "{at} of {shown}, again");
                    let Ok(Progress::Request { end, .. }) = parsed else { break };
                    head = ShortHead::read(&text, at);
                    at = end;
                }
            }
        }
    }

    #[test]
    fn inline_and_empty_requests_stand_among_others() {
        let stream = b"PING\r\n\r\n*0\r\n*-1\r\nset k \"a b\\x41\"\n*1\r\n$4\r\nPING\r\n";
        let requests = feed(stream, 1).expect("requests");
        let names: Vec<usize> = requests.iter().map(Vec::len).collect();
        assert_eq!(names, [1, 0, 0, 0, 3, 1]);
        assert_eq!(requests[4][2], b"a bA");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (stream, error) in [
            (&b"*x\r\n"[..], ProtocolError::InvalidMultibulkLength),
            (b"*2147483648\r\n", ProtocolError::InvalidMultibulkLength),
            (b"*1\r\n$-1\r\n", ProtocolError::InvalidBulkLength),
            (b"*1\r\n$536870913\r\n", ProtocolError::InvalidBulkLength),
            (b"*1\r\nPING\r\n", ProtocolError::ExpectedDollar(b'P')),
            (b"set \"a\r\n", ProtocolError::UnbalancedQuotes),
        ] {
            assert_eq!(feed(stream, 1), Err(error), "{}", stream.escape_ascii());
        }
    }

    #[test]
    fn only_what_can_stand_in_a_log_counts_as_canonical() {
        let end = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n".len();
        for (text, canonical) in [
            (&b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"[..], true),
            (b"*2\r.$3\r\nGET\r\n$1\r\na\r\n", false),
            (b"*2\r\n$3\r.GET\r\n$1\r\na\r\n", false),
            (b"*2\r\n$3\r\nGET..$1\r\na\r\n", false),
            (b"*2\r\n$3\r\nGET\r\n$1\r\na.\n", false),
            (b"*2\r\n$3\r\nGET\r\n$1\r\na\r.", false),
        ] {
            let progress = Parser::default().parse(text, LIMITS);
            assert_eq!(progress, Ok(Progress::Request { end, canonical }), "{text:?}");
        }
        assert!(Parser::default().parse(b"*+1\r\n$4\r\nPING\r\n", LIMITS).is_err());
        assert!(Parser::default().parse(b"*01\r\n$4\r\nPING\r\n", LIMITS).is_err());
        assert!(Parser::default().parse(b"*1\r\n$04\r\nPING\r\n", LIMITS).is_err());
    }

    #[test]
    fn a_loose_request_does_not_taint_the_next() {
        let text = b"*1\r\n$4\r\nPING..*1\r\n$4\r\nPING\r\n";
        let mut parser = Parser::default();
        let first = parser.parse(text, LIMITS);
        assert_eq!(first, Ok(Progress::Request { end: 14, canonical: false }));
        parser.reset_at(14);
        let second = parser.parse(text, LIMITS);
        assert_eq!(second, Ok(Progress::Request { end: 28, canonical: true }));
    }

    #[test]
    fn a_request_of_many_arguments_leaves_no_memory_behind() {
        let text = [b"*100000\r\n".to_vec(), b"$0\r\n\r\n".repeat(100_000)].concat();
        let mut parser = Parser::default();
        let whole = Progress::Request { end: text.len(), canonical: true };
        assert_eq!(parser.parse(&text, LIMITS), Ok(whole));
        assert_eq!(parser.parts().0.len(), 100_000);
        parser.reset();
        assert!(parser.spans.capacity() <= KEPT_ARGS);
    }
}
