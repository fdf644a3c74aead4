//! Replies, in RESP2 or RESP3 as the client asked.

use crate::text::number;

/// The protocol a client speaks; `HELLO` changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every client speaks at first.
    #[default]
    Resp2,
    /// Maps, sets, doubles, booleans, nulls and pushes have types of their own.
    Resp3,
}

/// Writes replies to the end of an output buffer. Never fails; O(bytes written).
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
    /// Nothing is written: nobody will read it (replay).
    muted: bool,
}

impl<'a> Reply<'a> {
    /// Replies go to the end of `out`.
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Reply<'a> {
        Reply { out, protocol, muted: false }
    }

    /// Replies go nowhere; `out` stays as it is.
    #[must_use]
    pub fn muted(out: &'a mut Vec<u8>) -> Reply<'a> {
        Reply { out, protocol: Protocol::Resp2, muted: true }
    }

    /// From here on nothing is written, or something again.
    pub fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// The protocol replies are written in.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// From here on replies are written in `protocol`.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    fn is_resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    /// Where the next reply will begin, for [`Reply::rewind`].
    #[must_use]
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Takes back what was written since `position`.
    pub fn rewind(&mut self, position: usize) {
        self.out.truncate(position);
    }

    /// Writes something and puts it ahead of what was written since `position`: the length of an
    /// array that is known only once its elements stand. O(bytes since `position`).
    pub fn insert(&mut self, position: usize, write: impl FnOnce(&mut Self)) {
        let end = self.out.len();
        write(self);
        let inserted = self.out.len() - end;
        if let Some(written) = self.out.get_mut(position..) {
            written.rotate_right(inserted);
        }
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.put(b"+OK\r\n");
    }

    /// A simple string; `text` has no line end.
    pub fn simple(&mut self, text: &[u8]) {
        self.line(b'+', text);
    }

    /// An error; `text` begins with its code (`ERR`, `WRONGTYPE`, ...). Line ends in it become
    /// blanks, since an error is one line.
    pub fn error(&mut self, text: &[u8]) {
        if self.muted {
            return;
        }
        self.out.push(b'-');
        let end = text.iter().rposition(|b| *b != b'\r' && *b != b'\n').map_or(0, |last| last + 1);
        let text = &text[..end];
        self.out.extend(text.iter().map(|&b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        if let digit @ 0..=9 = value {
            self.put(&[b':', b'0' + digit as u8, b'\r', b'\n']);
        } else {
            self.number(b':', value);
        }
    }

    /// A length or count as an integer.
    pub fn count(&mut self, value: usize) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        if self.muted {
            return;
        }
        super::encode::bulk(self.out, bytes);
    }

    /// A bulk string of decimal digits.
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(itoa::Buffer::new().format(value).as_bytes());
    }

    /// The null of a missing value: `$-1` or `_`.
    pub fn null(&mut self) {
        self.put(if self.is_resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// The null of a missing array: `*-1` or `_`.
    pub fn null_array(&mut self) {
        self.put(if self.is_resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// Announces an array of `len` replies.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len);
    }

    /// Announces a map of `len` pairs of replies; in RESP2 an array of twice as many.
    pub fn map(&mut self, len: usize) {
        if self.is_resp3() { self.header(b'%', len) } else { self.header(b'*', len * 2) }
    }

    /// Announces a set of `len` replies; in RESP2 an array.
    pub fn set(&mut self, len: usize) {
        self.header(if self.is_resp3() { b'~' } else { b'*' }, len);
    }

    /// Announces a push of `len` replies; in RESP2 an array.
    pub fn push(&mut self, len: usize) {
        self.header(if self.is_resp3() { b'>' } else { b'*' }, len);
    }

    /// Announces `len` pairs of replies that describe the reply behind them. In RESP2 there is no
    /// such thing: whoever writes it looks at [`Reply::protocol`] first.
    pub fn attribute(&mut self, len: usize) {
        self.header(b'|', len);
    }

    /// A double: `,` or a bulk string.
    pub fn double(&mut self, value: f64) {
        let mut text = Vec::with_capacity(24);
        number::write_f64(&mut text, value);
        if self.is_resp3() { self.line(b',', &text) } else { self.bulk(&text) }
    }

    /// A boolean: `#t` and `#f`, or 1 and 0.
    pub fn boolean(&mut self, value: bool) {
        self.put(match (self.is_resp3(), value) {
            (true, true) => b"#t\r\n",
            (true, false) => b"#f\r\n",
            (false, true) => b":1\r\n",
            (false, false) => b":0\r\n",
        });
    }

    /// An integer beyond 64 bits, as its digits: `(` or a bulk string.
    pub fn big_number(&mut self, digits: &[u8]) {
        if self.is_resp3() { self.line(b'(', digits) } else { self.bulk(digits) }
    }

    /// Text with its format, three letters such as `txt`; in RESP2 a bulk string.
    pub fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        if !self.is_resp3() {
            return self.bulk(text);
        }
        self.header(b'=', text.len() + 4);
        self.put(&format);
        self.put(b":");
        self.put(text);
        self.put(b"\r\n");
    }

    fn header(&mut self, kind: u8, len: usize) {
        self.number(kind, i64::try_from(len).unwrap_or(i64::MAX));
    }

    fn number(&mut self, kind: u8, value: i64) {
        self.line(kind, itoa::Buffer::new().format(value).as_bytes());
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        if self.muted {
            return;
        }
        self.out.push(kind);
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    fn put(&mut self, bytes: &[u8]) {
        if !self.muted {
            self.out.extend_from_slice(bytes);
        }
    }
}
