//! The manifest of a Redis 7 `appendonlydir`: which files make up the log, in which order. Read by
//! Redis's own rules, so that what Redis would load is what is imported.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::text::words;

/// What Redis reads of a line at once; a line that is longer is refused, its line feed included.
const MAX_LINE_BYTES: usize = 1024;

/// The files that make up a log. History files, which a rewrite has replaced, are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// What the last rewrite wrote.
    pub(super) base: Option<OsString>,
    /// What was appended since, oldest first.
    pub(super) increments: Vec<OsString>,
}

/// Why a manifest is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadManifest {
    /// Line, counted from 1.
    pub(super) line: usize,
    /// In Redis's words.
    pub(super) reason: &'static str,
}

/// One line: a file, its number and its kind.
struct Entry {
    name: Vec<u8>,
    sequence: i64,
    kind: u8,
}

const INVALID: &str = "Invalid AOF manifest file format";

impl Manifest {
    /// Parses the text of a manifest.
    ///
    /// # Errors
    /// [`BadManifest`] for all that Redis refuses.
    pub(super) fn parse(text: &[u8]) -> Result<Manifest, BadManifest> {
        let mut manifest = Manifest::default();
        let mut last_sequence = 0;
        let mut rest = text;
        let mut line = 0;
        while !rest.is_empty() {
            let head = rest.get(..MAX_LINE_BYTES).unwrap_or(rest);
            let len = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
            let (chunk, behind) = rest.split_at(len);
            rest = behind;
            line += 1;
            manifest
                .take(chunk, &mut last_sequence)
                .map_err(|reason| BadManifest { line, reason })?;
        }
        match line {
            0 => Err(BadManifest { line, reason: "Found an empty AOF manifest" }),
            _ => Ok(manifest),
        }
    }

    /// The files in the order in which they are replayed.
    pub(super) fn files(&self) -> impl Iterator<Item = &OsString> {
        self.base.iter().chain(&self.increments)
    }

    fn take(&mut self, chunk: &[u8], last_sequence: &mut i64) -> Result<(), &'static str> {
        if chunk.first() == Some(&b'#') {
            return Ok(());
        }
        // Redis reads C strings: a NUL ends the line, and hides its line feed.
        let text = chunk.split(|&byte| byte == 0).next().unwrap_or_default();
        let Some(text) = text.strip_suffix(b"\n") else {
            return Err("The AOF manifest file contains too long line");
        };
        let Entry { name, sequence, kind } = Entry::parse(text)?;
        let name = OsString::from_vec(name);
        match kind {
            b'b' if self.base.is_some() => Err("Found duplicate base file information"),
            b'b' => {
                self.base = Some(name);
                Ok(())
            }
            b'h' => Ok(()),
            b'i' if sequence <= *last_sequence => Err("Found a non-monotonic sequence number"),
            b'i' => {
                *last_sequence = sequence;
                self.increments.push(name);
                Ok(())
            }
            _ => Err("Unknown AOF file type"),
        }
    }
}

impl Entry {
    /// Parses pairs of a name and a value. Names that are not known are passed over: later
    /// versions of Redis add some.
    fn parse(text: &[u8]) -> Result<Entry, &'static str> {
        let words = words::split(text).ok_or(INVALID)?;
        if words.len() < 6 || words.len() % 2 != 0 {
            return Err(INVALID);
        }
        let (mut name, mut sequence, mut kind) = (None, 0, 0);
        for pair in words.chunks_exact(2) {
            let [key, value] = pair else { continue };
            if key.eq_ignore_ascii_case(b"file") {
                if value.iter().any(|byte| b"/\\".contains(byte)) {
                    return Err("File can't be a path, just a filename");
                }
                name = Some(value.clone());
            } else if key.eq_ignore_ascii_case(b"seq") {
                sequence = leading_integer(value);
            } else if key.eq_ignore_ascii_case(b"type") {
                kind = value.first().copied().unwrap_or(0);
            }
        }
        let Some(name) = name.filter(|_| sequence != 0 && kind != 0) else { return Err(INVALID) };
        Ok(Entry { name, sequence, kind })
    }
}

/// What C's `atoll` makes of a text: blanks, a sign, digits up to what is none; 0 if there are
/// none. Saturates where C leaves it open.
fn leading_integer(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let value = digits.fold(0i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    if negative { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>, &'static str> {
        let manifest = Manifest::parse(text.as_bytes()).map_err(|bad| bad.reason)?;
        Ok(manifest.files().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn files_stand_in_the_order_of_their_replay() {
        for (text, expected) in [
            ("file a seq 1 type b\nfile b seq 1 type i\n", &["a", "b"][..]),
            ("file b seq 2 type i\nfile h seq 1 type h\nfile a seq 2 type b\n", &["a", "b"]),
            ("# by hand\nfile \"a \\x41\" seq 1 type incremental\r\n", &["a A"]),
            ("  type i seq 7x FILE 'q r' startoffset 12\t\nfile z seq 8 type i\n", &["q r", "z"]),
            ("#\n", &[]),
            ("file a seq 9 type h\n", &[]),
            ("file a seq -1 type b\n", &["a"]),
        ] {
            assert_eq!(
                names(text),
                Ok(expected.iter().map(|s| (*s).to_owned()).collect()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_redis_refuses_is_refused() {
        let long = format!("file {} seq 1 type b\n", "x".repeat(1100));
        // What is behind the first 1,024 bytes of a comment is a line of its own to Redis.
        let long_comment = format!("#{}\nfile a seq 1 type b\n", "x".repeat(1100));
        for (text, reason) in [
            ("", "Found an empty AOF manifest"),
            ("\n", INVALID),
            ("file a seq 1 type b", "The AOF manifest file contains too long line"),
            (&long, "The AOF manifest file contains too long line"),
            (&long_comment, INVALID),
            ("file a seq 1\0 type b\n", "The AOF manifest file contains too long line"),
            ("file a seq 1\n", INVALID),
            ("file a seq 1 type b x\n", INVALID),
            ("file \"a seq 1 type b\n", INVALID),
            ("file a seq 0 type b\n", INVALID),
            ("file a seq x type b\n", INVALID),
            ("file a seq 1 type \"\"\n", INVALID),
            ("file a seq 1 a type b\n", INVALID),
            ("file d/a seq 1 type b\n", "File can't be a path, just a filename"),
            ("file d\\a seq 1 type b\n", "File can't be a path, just a filename"),
            ("file a seq 1 type c\n", "Unknown AOF file type"),
            ("file a seq 1 type b\nfile b seq 2 type b\n", "Found duplicate base file information"),
            ("file a seq 2 type i\nfile b seq 2 type i\n", "Found a non-monotonic sequence number"),
            ("file a seq -2 type i\n", "Found a non-monotonic sequence number"),
        ] {
            assert_eq!(names(text), Err(reason), "{text:?}");
        }
        let bad = Manifest::parse(b"#\nfile a seq 1 type b\nx\n").map_err(|bad| bad.line);
        assert_eq!(bad, Err(3));
    }
}
