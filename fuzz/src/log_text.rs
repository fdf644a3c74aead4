//! The append-only file read as `docs/aof-format.md` describes it, apart from the server's reader:
//! the whole file is there, and nothing has to be fast.

use std::ops::Range;

use server_async::persist::format::{Annotation, Seal, SealFields};

/// What stands in a text from some offset on, up to the first thing that is wrong.
#[derive(Debug, Default)]
pub struct Walk {
    /// The words of each command; MULTI and EXEC left out.
    pub commands: Vec<Vec<Vec<u8>>>,
    /// What each seal that verifies states.
    pub seals: Vec<SealFields>,
    /// From each header to the last seal behind it that verifies.
    pub sealed: Vec<Range<usize>>,
    /// Why the text is not a whole log.
    pub fault: Option<&'static str>,
}

/// What a seal is checked against.
struct Seed {
    /// The seal or header before.
    line: Vec<u8>,
    /// Where the group begins.
    group: usize,
}

/// Reads `text` from `at` on: behind the seal or header `seed`, or unsealed.
pub fn walk(text: &[u8], mut at: usize, seed: Option<&[u8]>) -> Walk {
    let mut walk = Walk::default();
    let mut seed = seed.map(|line| Seed { line: line.to_vec(), group: at });
    let mut header_at = at;
    let mut in_transaction = false;
    while at < text.len() && walk.fault.is_none() {
        if text[at] != b'#' {
            let Some((words, end)) = command(text, at) else {
                walk.fault = Some("no command");
                break;
            };
            let is = |name: &[u8]| words.len() == 1 && words[0].eq_ignore_ascii_case(name);
            if is(b"MULTI") {
                in_transaction = true;
            } else if is(b"EXEC") {
                in_transaction = false;
            } else {
                walk.commands.push(words);
            }
            at = end;
            continue;
        }
        let Some(line) = line(text, at) else {
            walk.fault = Some("no # line");
            break;
        };
        let end = at + line.len();
        match (Annotation::of(line), &seed) {
            (Annotation::Comment, _) => {}
            (Annotation::SealsOff, Some(seed)) if seed.group == at => {}
            (Annotation::Header { .. }, None) if !in_transaction => {
                seed = Some(Seed { line: line.to_vec(), group: end });
                header_at = at;
            }
            (Annotation::Seal(seal), Some(Seed { line: previous, group })) => {
                let group = &text[*group..at];
                let seals_off = group == b"#S0\r\n";
                if in_transaction
                    || seal.fields.end != at as u64
                    || seal.crc32c != checksum(previous, group, line)
                    || group.starts_with(b"#S0\r\n") && !seals_off
                {
                    walk.fault = Some("no true seal");
                    break;
                }
                walk.seals.push(seal.fields);
                match walk.sealed.last_mut() {
                    Some(range) if range.start == header_at => range.end = end,
                    _ => walk.sealed.push(header_at..end),
                }
                let next = Seed { line: line.to_vec(), group: end };
                seed = (!seals_off).then_some(next);
            }
            _ => walk.fault = Some("a line out of place"),
        }
        at = end;
    }
    if walk.fault.is_none() && (in_transaction || seed.is_some_and(|seed| seed.group != at)) {
        walk.fault = Some("an open end");
    }
    walk
}

/// Makes all that claims to be a seal true, where it stands behind a header or a seal, so that
/// what a fuzzer makes up comes through the checksums. What a seal states to be durable is kept,
/// down to the seal's own place.
pub fn seal_again(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 64);
    let mut seed: Option<Seed> = None;
    let mut at = 0;
    while at < text.len() {
        let part = match command(text, at) {
            Some((_, end)) => &text[at..end],
            None => rough_line(&text[at..]),
        };
        at += part.len();
        let claim = part.strip_prefix(b"#S1:").zip(seed.as_ref());
        let Some((claim, Seed { line: previous, group })) = claim else {
            if let Annotation::Header { .. } = Annotation::of(part)
                && seed.is_none()
            {
                seed = Some(Seed { line: part.to_vec(), group: out.len() + part.len() });
            }
            out.extend_from_slice(part);
            continue;
        };
        let mut numbers = claim.split(|&byte| byte == b':').map(rough_number).skip(1);
        let end = out.len() as u64;
        let durable = numbers.next().unwrap_or(0).min(end);
        let (db, unix_ms) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let mut line = format!("#S1:{end}:{durable}:{db}:{unix_ms}:").into_bytes();
        let covered = [previous.as_slice(), &out[*group..], &line].concat();
        line.extend_from_slice(format!("{:08x}\r\n", crc32c::crc32c(&covered)).as_bytes());
        let seals_off = &out[*group..] == b"#S0\r\n";
        out.extend_from_slice(&line);
        seed = (!seals_off).then_some(Seed { line, group: out.len() });
    }
    out
}

/// Whether cutting `text` at `end` loses something that a seal, or the header of a sealed part,
/// shows to have been promised: the rule for refusing, without short cuts. A seal counts if it
/// verifies behind the seal or header before it, wherever that stands.
pub fn broken_promise(text: &[u8], end: usize) -> Option<SealFields> {
    (end..text.len()).find_map(|at| {
        let line = text[at..].starts_with(b"#S").then(|| line(text, at)).flatten()?;
        let seeds = match Annotation::of(line) {
            Annotation::Seal(Seal { fields, .. }) => fields.end == at as u64,
            Annotation::Header { .. } => true,
            _ => false,
        };
        if !seeds {
            return None;
        }
        let behind = walk(text, at + line.len(), Some(line));
        behind.seals.into_iter().find(|seal| seal.durable > end as u64)
    })
}

/// The `#` line at `at`, its line end included.
fn line(text: &[u8], at: usize) -> Option<&[u8]> {
    let rest = &text[at..];
    let head = &rest[..rest.len().min(1024)];
    let end = head.iter().position(|&byte| byte == b'\n')?;
    head.first().filter(|&&byte| byte == b'#').map(|_| &head[..=end])
}

/// Up to the next line end, or to the end.
fn rough_line(rest: &[u8]) -> &[u8] {
    let end = rest.iter().position(|&byte| byte == b'\n');
    end.map_or(rest, |end| &rest[..=end])
}

/// The digits in a field, as a number.
fn rough_number(field: &[u8]) -> u64 {
    let digits = field.iter().filter(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |value, &digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    })
}

/// The command at `at`, and where it ends. Strict: only the canonical form.
fn command(text: &[u8], at: usize) -> Option<(Vec<Vec<u8>>, usize)> {
    let (count, mut at) = number(text, at, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (length, data) = number(text, at, b'$')?;
        let end = data.checked_add(length)?;
        let word = text.get(data..end)?;
        if text.get(end..end + 2)? != b"\r\n" {
            return None;
        }
        words.push(word.to_vec());
        at = end + 2;
    }
    (count > 0).then_some((words, at))
}

fn number(text: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let rest = text.get(at..)?.strip_prefix(&[kind])?;
    let rest = &rest[..rest.len().min(24)];
    let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let digits = std::str::from_utf8(&rest[..length]).ok()?;
    let number: usize = digits.parse().ok()?;
    (number.to_string() == digits).then_some((number, at + 1 + length + 2))
}

/// What the seal `line` of a group must carry.
fn checksum(previous: &[u8], group: &[u8], line: &[u8]) -> u32 {
    let covered = line.len() - "01234567\r\n".len();
    crc32c::crc32c(&[previous, group, &line[..covered]].concat())
}
