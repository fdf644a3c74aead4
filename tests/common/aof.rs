//! Reading an append-only file as its format is written down: RESP commands, and lines that begin
//! with `#` between them. Written for the tests, apart from the server's own reader.

use super::show;

/// One thing that stands in a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Offset of its first byte.
    pub start: usize,
    /// Offset behind its last byte.
    pub end: usize,
    /// A command's words, or `None` for an annotation line.
    pub command: Option<Vec<Vec<u8>>>,
}

/// All that stands in `bytes`; panics where it is neither a command nor an annotation.
#[track_caller]
pub fn items(bytes: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let command = if bytes[at] == b'#' {
            line(bytes, &mut at);
            None
        } else {
            Some(command(bytes, &mut at))
        };
        items.push(Item { start, end: at, command });
    }
    items
}

/// The commands in `bytes`, in order.
#[track_caller]
pub fn commands(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    items(bytes).into_iter().filter_map(|item| item.command).collect()
}

/// The commands in `bytes` as text, words separated by blanks, names in capitals: for logs whose
/// words are plain.
#[track_caller]
pub fn lines(bytes: &[u8]) -> Vec<String> {
    commands(bytes)
        .into_iter()
        .map(|words| {
            let mut words: Vec<String> =
                words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            words[0].make_ascii_uppercase();
            words.join(" ")
        })
        .collect()
}

#[track_caller]
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> &'a [u8] {
    let rest = &bytes[*at..];
    let Some(len) = rest.windows(2).position(|pair| pair == b"\r\n") else {
        panic!("no end of line from offset {at}: {}", show(rest));
    };
    *at += len + 2;
    &rest[..len]
}

#[track_caller]
fn length(bytes: &[u8], at: &mut usize, mark: u8) -> usize {
    let start = *at;
    let text = line(bytes, at);
    let digits = text.strip_prefix(&[mark]).and_then(|text| std::str::from_utf8(text).ok());
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("offset {start}: {:?} is no {}", show(text), mark as char))
}

#[track_caller]
fn command(bytes: &[u8], at: &mut usize) -> Vec<Vec<u8>> {
    let count = length(bytes, at, b'*');
    let word = |_| {
        let len = length(bytes, at, b'$');
        let start = *at;
        assert!(bytes.get(start + len..start + len + 2) == Some(b"\r\n"), "offset {start}");
        *at = start + len + 2;
        bytes[start..start + len].to_vec()
    };
    (0..count).map(word).collect()
}
