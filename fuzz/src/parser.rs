//! The request parser: the same requests, and the same error, however the stream is split.
//!
//! An input is the stream, in which runs are expanded, and behind it `CONTROL_BYTES` that choose
//! the limits and how the stream is split.

use server_async::resp::args::Args;
use server_async::resp::encode;
use server_async::resp::parse::{LARGE_ARG_BYTES, Limits, Parser, Progress, ProtocolError};
use server_async::text::words;

/// The first holds flags, the others the lengths of pieces in turn.
const CONTROL_BYTES: usize = 6;
/// The client has not authenticated.
const STRANGER: u8 = 1;
/// `proto-max-bulk-len` is small.
const SMALL_LIMIT: u8 = 2;
/// Requests that were run stay in the buffer's beginning for as long as they can.
const KEEP: u8 = 4;
/// Pieces are 1 KiB longer than their control bytes say.
const LONG_PIECES: u8 = 8;

/// Below the 64 KiB at which a line without end is an error: whether that is noticed ahead of the
/// line's end may depend on how the line arrives, as in Redis.
const STREAM_MAX_BYTES: usize = 63 << 10;
/// Longer streams are not fed byte by byte: that would take too long.
const BYTE_BY_BYTE_MAX: usize = 2 << 10;

/// What was made of a stream.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// The arguments of each request, and the offset in the stream where it ended.
    requests: Vec<(Vec<Vec<u8>>, usize)>,
    error: Option<ProtocolError>,
}

/// Panics if the parser does what it must not.
pub fn check(input: &[u8]) {
    let Some((stream, &controls)) = input.split_last_chunk::<CONTROL_BYTES>() else { return };
    let stream = super::expand(stream, STREAM_MAX_BYTES);
    let [flags, lengths @ ..] = controls;
    let limits = Limits {
        max_bulk_bytes: if flags & SMALL_LIMIT == 0 { 512 << 20 } else { 40 },
        authenticated: flags & STRANGER == 0,
    };
    let keep = flags & KEEP != 0;
    let extra = if flags & LONG_PIECES == 0 { 1 } else { 1 << 10 };

    let expected = read_at_once(&stream, limits);
    // A line that is not complete is searched again with each piece, so a long stream comes in
    // longer ones.
    let extra = extra + stream.len() / 256;
    let mut lengths = lengths.iter().cycle().map(|&length| usize::from(length) + extra);
    assert_eq!(feed(&stream, limits, keep, || lengths.next().unwrap_or(1)), expected);
    assert_eq!(feed(&stream, limits, !keep, || usize::MAX), expected, "in one piece");
    if stream.len() <= BYTE_BY_BYTE_MAX {
        assert_eq!(feed(&stream, limits, keep, || 1), expected, "byte by byte");
    }
}

/// Hands the stream to the parser in pieces, the way a connection does.
fn feed(stream: &[u8], limits: Limits, keep: bool, mut piece: impl FnMut() -> usize) -> Outcome {
    let mut parser = Parser::default();
    let mut outcome = Outcome { requests: Vec::new(), error: None };
    let mut inbox: Vec<u8> = Vec::new();
    // Where in the inbox the request under way begins.
    let mut start = 0;
    let mut rest = stream;
    loop {
        let progress = parser.parse(&inbox, limits);
        match progress {
            Err(error) => {
                outcome.error = Some(error);
                return outcome;
            }
            Ok(Progress::Request { end, canonical }) => {
                assert!(start < end && end <= inbox.len(), "{start} {end} {}", inbox.len());
                let args = request(&mut parser, &inbox, start, end, canonical);
                let position = stream.len() - rest.len() - (inbox.len() - end);
                outcome.requests.push((args, position));
                parser.reset_at(end);
                start = end;
                continue;
            }
            Ok(Progress::Incomplete) => assert!(parser.large_mut().is_none()),
            Ok(Progress::NeedLarge) => {
                let missing = parser.large_mut().map_or(0, |(_, missing)| missing);
                assert!(missing > 0, "a large argument misses something");
                // Said again until something arrives.
                assert_eq!(parser.parse(&inbox, limits), Ok(Progress::NeedLarge));
            }
        }
        if rest.is_empty() {
            return outcome;
        }
        if start == inbox.len() {
            parser.reset();
            inbox.clear();
            start = 0;
        } else if !keep {
            parser.shift_back(start);
            inbox.drain(..start);
            start = 0;
        }
        if let Some((large, missing)) = parser.large_mut() {
            let (now, later) = rest.split_at(piece().min(missing).min(rest.len()));
            large.extend_from_slice(now);
            parser.large_filled();
            rest = later;
        } else {
            let (now, later) = rest.split_at(piece().min(rest.len()));
            inbox.extend_from_slice(now);
            rest = later;
        }
    }
}

/// The arguments of the request at `inbox[start..end]`.
fn request(
    parser: &mut Parser,
    inbox: &[u8],
    start: usize,
    end: usize,
    canonical: bool,
) -> Vec<Vec<u8>> {
    let text = &inbox[start..end];
    let (spans, large) = parser.parts();
    let args = Args::new(inbox, spans, large, canonical.then_some(text));
    let words: Vec<Vec<u8>> = args.iter().map(<[u8]>::to_vec).collect();
    if args.has_large() {
        assert!(!canonical, "the buffer does not hold the whole of {}", text.escape_ascii());
    } else if !words.is_empty() {
        let again = encoded(&words);
        assert_eq!(canonical, again == text, "{}", text.escape_ascii());
    } else {
        assert!(!canonical, "nothing stands in a log for no command");
    }
    words
}

fn encoded(words: &[Vec<u8>]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let mut out = Vec::new();
    encode::command(&mut out, &words);
    out
}

/// The protocol once more, for a stream that is there as a whole.
fn read_at_once(stream: &[u8], limits: Limits) -> Outcome {
    let mut outcome = Outcome { requests: Vec::new(), error: None };
    let mut at = 0;
    while at < stream.len() {
        match read_request(stream, at, limits) {
            Ok(Some((words, end))) => {
                outcome.requests.push((words, end));
                at = end;
            }
            Ok(None) => break,
            Err(error) => {
                outcome.error = Some(error);
                break;
            }
        }
    }
    outcome
}

type Request = (Vec<Vec<u8>>, usize);

/// One request and where it ends; `None` if the stream ends before.
fn read_request(
    stream: &[u8],
    at: usize,
    limits: Limits,
) -> Result<Option<Request>, ProtocolError> {
    if stream[at] != b'*' {
        let Some(length) = stream[at..].iter().position(|&byte| byte == b'\n') else {
            return Ok(None);
        };
        let line = &stream[at..at + length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let words = words::split(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        return Ok(Some((words, at + length + 1)));
    }
    let Some((count, mut at)) = read_number(stream, at) else { return Ok(None) };
    let count = count
        .filter(|&count| count <= i64::from(i32::MAX))
        .ok_or(ProtocolError::InvalidMultibulkLength)?;
    if count > 10 && !limits.authenticated {
        return Err(ProtocolError::UnauthenticatedMultibulk);
    }
    let mut words = Vec::new();
    for _ in 0..count {
        match stream.get(at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(_) if !stream[at..].contains(&b'\r') => return Ok(None),
            Some(&other) => return Err(ProtocolError::ExpectedDollar(other)),
        }
        let Some((length, data)) = read_number(stream, at) else { return Ok(None) };
        let length = length
            .and_then(|length| u64::try_from(length).ok())
            .filter(|&length| length <= limits.max_bulk_bytes)
            .ok_or(ProtocolError::InvalidBulkLength)?;
        if length > 16 << 10 && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulk);
        }
        let end = data + length as usize;
        if end + 2 > stream.len() {
            return Ok(None);
        }
        words.push(stream[data..end].to_vec());
        at = end + 2;
    }
    Ok(Some((words, at)))
}

/// The number between the byte at `at` and the next CR (`None` if it is none), and the offset
/// behind the two bytes that end its line; `None` if the stream ends before.
fn read_number(stream: &[u8], at: usize) -> Option<(Option<i64>, usize)> {
    let text = &stream[at + 1..];
    let length = text.iter().position(|&byte| byte == b'\r')?;
    if length + 2 > text.len() {
        return None;
    }
    let number = std::str::from_utf8(&text[..length])
        .ok()
        .and_then(|text| text.parse::<i64>().ok().filter(|number| number.to_string() == text));
    Some((number, at + 1 + length + 2))
}

// Streams are long enough for what an allocation of its own is about.
const _: () = assert!(LARGE_ARG_BYTES < STREAM_MAX_BYTES);
