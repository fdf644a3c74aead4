//! A client that sees bytes: it sends what it is told to, and keeps every reply as it came.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{PATIENCE, show};

/// One reply, with every type of RESP2 and RESP3 kept apart. Numbers other than integers stay the
/// text that was sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reply {
    /// `+`
    Simple(Vec<u8>),
    /// `-`
    Error(Vec<u8>),
    /// `:`
    Int(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `$-1`
    NullBulk,
    /// `*`
    Array(Vec<Reply>),
    /// `*-1`
    NullArray,
    /// `_`
    Null,
    /// `#`
    Bool(bool),
    /// `,`
    Double(Vec<u8>),
    /// `(`
    BigNumber(Vec<u8>),
    /// `!`
    BulkError(Vec<u8>),
    /// `=`, format and colon included
    Verbatim(Vec<u8>),
    /// `%`
    Map(Vec<(Reply, Reply)>),
    /// `~`
    Set(Vec<Reply>),
    /// `>`
    Push(Vec<Reply>),
    /// `|`, and the reply it stands before
    Attribute(Vec<(Reply, Reply)>, Box<Reply>),
}

impl Reply {
    /// The bytes of a bulk, simple or verbatim string; panics for any other reply.
    #[track_caller]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Reply::Bulk(bytes) | Reply::Simple(bytes) => bytes,
            Reply::Verbatim(bytes) if bytes.len() >= 4 => &bytes[4..],
            other => panic!("a string was expected, not {other:?}"),
        }
    }

    /// [`Reply::bytes`] as text.
    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The integer; panics for any other reply.
    #[track_caller]
    pub fn int(&self) -> i64 {
        match self {
            Reply::Int(value) => *value,
            other => panic!("an integer was expected, not {other:?}"),
        }
    }

    /// The elements of an array, set or push; panics for any other reply.
    #[track_caller]
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items,
            other => panic!("an array was expected, not {other:?}"),
        }
    }

    /// The text of an error reply without its `-`; panics for any other reply.
    #[track_caller]
    pub fn error(&self) -> String {
        match self {
            Reply::Error(bytes) | Reply::BulkError(bytes) => {
                String::from_utf8_lossy(bytes).into_owned()
            }
            other => panic!("an error was expected, not {other:?}"),
        }
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_) | Reply::BulkError(_))
    }

    /// Whether this is an error whose text begins with `start`.
    pub fn is_error_text(&self, start: &str) -> bool {
        self.is_error() && self.error().starts_with(start)
    }

    /// Whether this is `+OK`.
    pub fn is_ok(&self) -> bool {
        matches!(self, Reply::Simple(text) if text == b"OK")
    }

    /// Whether this is one of the three nulls.
    pub fn is_null(&self) -> bool {
        matches!(self, Reply::NullBulk | Reply::NullArray | Reply::Null)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Simple(text) => write!(f, "+{}", show(text)),
            Reply::Error(text) => write!(f, "-{}", show(text)),
            Reply::Int(value) => write!(f, ":{value}"),
            Reply::Bulk(bytes) => write!(f, "\"{}\"", show(bytes)),
            Reply::NullBulk => f.write_str("$-1"),
            Reply::Array(items) => f.debug_list().entries(items).finish(),
            Reply::NullArray => f.write_str("*-1"),
            Reply::Null => f.write_str("_"),
            Reply::Bool(value) => write!(f, "#{value}"),
            Reply::Double(text) => write!(f, ",{}", show(text)),
            Reply::BigNumber(text) => write!(f, "({}", show(text)),
            Reply::BulkError(text) => write!(f, "!{}", show(text)),
            Reply::Verbatim(text) => write!(f, "={}", show(text)),
            Reply::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(k, v)| (k, v))).finish(),
            Reply::Set(items) => f.debug_set().entries(items).finish(),
            Reply::Push(items) => f.debug_tuple("Push").field(items).finish(),
            Reply::Attribute(pairs, reply) => {
                f.debug_tuple("Attribute").field(pairs).field(reply).finish()
            }
        }
    }
}

/// A reply and the bytes it came as.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// What was said.
    pub reply: Reply,
    /// How it was written.
    pub raw: Vec<u8>,
}

/// Reads one reply from the start of `bytes`: the reply and its length, `None` while it is
/// incomplete, an error when no RESP can begin like this.
pub fn parse_reply(bytes: &[u8]) -> Result<Option<(Reply, usize)>, String> {
    let mut at = 0;
    let reply = parse_at(bytes, &mut at)?;
    Ok(reply.map(|reply| (reply, at)))
}

/// A line without its CRLF, `None` while there is no CRLF; moves `at` behind it.
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = &bytes[*at..];
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    *at += end + 2;
    Some(&rest[..end])
}

fn number(text: &[u8]) -> Result<i64, String> {
    let text = std::str::from_utf8(text).map_err(|_| format!("not a number: {}", show(text)))?;
    let value: i64 = text.parse().map_err(|_| format!("not a number: {text}"))?;
    // The canonical form alone: "+1", "01" and "-0" would slip past a plain parse.
    if value.to_string() != text {
        return Err(format!("not a canonical number: {text}"));
    }
    Ok(value)
}

fn parse_at(bytes: &[u8], at: &mut usize) -> Result<Option<Reply>, String> {
    let Some(&kind) = bytes.get(*at) else { return Ok(None) };
    if !b"+-:$*_#,(!=%~>|".contains(&kind) {
        return Err(format!("no reply starts like this: {}", show(&bytes[*at..])));
    }
    *at += 1;
    let Some(head) = line(bytes, at) else { return Ok(None) };
    let reply = match kind {
        b'+' => Reply::Simple(head.to_vec()),
        b'-' => Reply::Error(head.to_vec()),
        b':' => Reply::Int(number(head)?),
        b',' => Reply::Double(head.to_vec()),
        b'(' => Reply::BigNumber(head.to_vec()),
        b'_' if head.is_empty() => Reply::Null,
        b'#' if head == b"t" || head == b"f" => Reply::Bool(head == b"t"),
        b'$' if head == b"-1" => Reply::NullBulk,
        b'*' if head == b"-1" => Reply::NullArray,
        b'$' | b'!' | b'=' => {
            let len = usize::try_from(number(head)?).map_err(|_| "negative length".to_owned())?;
            let Some(body) = bytes.get(*at..*at + len + 2) else { return Ok(None) };
            if &body[len..] != b"\r\n" {
                return Err(format!("no CRLF behind a string of {len} bytes"));
            }
            *at += len + 2;
            let body = body[..len].to_vec();
            match kind {
                b'$' => Reply::Bulk(body),
                b'!' => Reply::BulkError(body),
                _ => Reply::Verbatim(body),
            }
        }
        b'*' | b'~' | b'>' => {
            let count = usize::try_from(number(head)?).map_err(|_| "negative count".to_owned())?;
            let mut items = Vec::new();
            for _ in 0..count {
                let Some(item) = parse_at(bytes, at)? else { return Ok(None) };
                items.push(item);
            }
            match kind {
                b'*' => Reply::Array(items),
                b'~' => Reply::Set(items),
                _ => Reply::Push(items),
            }
        }
        b'%' | b'|' => {
            let count = usize::try_from(number(head)?).map_err(|_| "negative count".to_owned())?;
            let mut pairs = Vec::new();
            for _ in 0..count {
                let Some(key) = parse_at(bytes, at)? else { return Ok(None) };
                let Some(value) = parse_at(bytes, at)? else { return Ok(None) };
                pairs.push((key, value));
            }
            if kind == b'%' {
                Reply::Map(pairs)
            } else {
                let Some(next) = parse_at(bytes, at)? else { return Ok(None) };
                Reply::Attribute(pairs, Box::new(next))
            }
        }
        _ => return Err(format!("bad reply: {}{}", kind as char, show(head))),
    };
    Ok(Some(reply))
}

/// A command as a client sends it: an array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(&mut out, args);
    out
}

/// [`encode`], appended to `out`.
pub fn encode_into<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// Splits a line at blanks, for commands written as text.
pub fn words(line: &str) -> Vec<Vec<u8>> {
    line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection. Every wait ends after [`PATIENCE`] with a panic, so a server that does not
/// answer fails the test instead of hanging it.
pub struct Raw {
    socket: Socket,
    inbox: Vec<u8>,
    /// How much of `inbox` has been handed out.
    taken: usize,
}

impl Raw {
    /// Connects to `port` of 127.0.0.1.
    #[track_caller]
    pub fn connect(port: u16) -> Raw {
        Raw::try_connect(port).unwrap_or_else(|error| panic!("connect to port {port}: {error}"))
    }

    /// Connects to `port` of 127.0.0.1, or says why not.
    pub fn try_connect(port: u16) -> io::Result<Raw> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Raw { socket: Socket::Tcp(socket), inbox: Vec::new(), taken: 0 })
    }

    /// Connects to the unix socket at `path`.
    pub fn connect_unix(path: &Path) -> io::Result<Raw> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Raw { socket: Socket::Unix(socket), inbox: Vec::new(), taken: 0 })
    }

    /// A second handle on the same socket, to read and write from two threads. What was received
    /// and not yet taken stays with the first.
    pub fn split(&self) -> Raw {
        let socket = match &self.socket {
            Socket::Tcp(socket) => socket.try_clone().map(Socket::Tcp),
            Socket::Unix(socket) => socket.try_clone().map(Socket::Unix),
        };
        Raw { socket: socket.expect("duplicate a socket"), inbox: Vec::new(), taken: 0 }
    }

    /// How long a read may take; [`PATIENCE`] at first.
    pub fn set_read_timeout(&mut self, timeout: Duration) {
        match &self.socket {
            Socket::Tcp(socket) => socket.set_read_timeout(Some(timeout)),
            Socket::Unix(socket) => socket.set_read_timeout(Some(timeout)),
        }
        .expect("set a read timeout");
    }

    /// Sends `bytes` as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("send: {error}"));
    }

    /// Sends `bytes` as they are; an error when the server has gone.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(socket) => socket.write_all(bytes),
            Socket::Unix(socket) => socket.write_all(bytes),
        }
    }

    /// Tells the server that nothing more will come, and goes on reading.
    pub fn finish_sending(&mut self) {
        match &self.socket {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
        }
        .expect("shut down the sending side");
    }

    /// [`Raw::finish_sending`] where the server may have closed already.
    pub fn try_finish_sending(&mut self) {
        // It fails only on a connection that is gone: then there is nothing to finish.
        let _ = match &self.socket {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
        };
    }

    /// Receives what has arrived, at least one byte; 0 when the server has closed.
    pub fn receive(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 64 << 10];
        let got = match &mut self.socket {
            Socket::Tcp(socket) => socket.read(&mut chunk),
            Socket::Unix(socket) => socket.read(&mut chunk),
        }?;
        self.inbox.extend_from_slice(&chunk[..got]);
        Ok(got)
    }

    /// The next reply and its bytes; an error when the connection ends first.
    pub fn try_frame(&mut self) -> io::Result<Frame> {
        loop {
            let unread = &self.inbox[self.taken..];
            let parsed = parse_reply(unread)
                .map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem))?;
            if let Some((reply, len)) = parsed {
                let raw = unread[..len].to_vec();
                self.taken += len;
                return Ok(Frame { reply, raw });
            }
            self.inbox.drain(..self.taken);
            self.taken = 0;
            if self.receive()? == 0 {
                let message = format!("closed with {:?} unread", show(&self.inbox));
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
        }
    }

    /// The next reply and its bytes.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        self.try_frame().unwrap_or_else(|error| panic!("read a reply: {error}"))
    }

    /// The next reply.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.frame().reply
    }

    /// Sends one command and reads its reply.
    #[track_caller]
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Reply {
        self.send(&encode(args));
        self.reply()
    }

    /// Sends one command, written as words with blanks between, and reads its reply.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Reply {
        self.command(&words(line))
    }

    /// Everything up to the server's close of the connection.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while self.receive()? > 0 {}
        let rest = self.inbox.split_off(self.taken);
        self.inbox.clear();
        self.taken = 0;
        Ok(rest)
    }

    /// Everything up to the end of the connection, be it a close or a reset: a server that closes
    /// without having read everything resets.
    #[track_caller]
    pub fn read_until_closed(&mut self) -> Vec<u8> {
        loop {
            match self.receive() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("read until the server closes: {error}"),
            }
        }
        let rest = self.inbox.split_off(self.taken);
        self.inbox.clear();
        self.taken = 0;
        rest
    }

    /// Whether nothing arrives for so long. An end of the connection counts as something.
    pub fn is_silent_for(&mut self, wait: Duration) -> bool {
        if self.inbox.len() > self.taken {
            return false;
        }
        self.set_read_timeout(wait);
        let outcome = self.receive();
        self.set_read_timeout(super::PATIENCE);
        matches!(outcome, Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// Whether the server has closed this connection, read or reset, with nothing left unread.
    /// Waits until it has, or until a byte arrives.
    pub fn is_closed(&mut self) -> bool {
        if self.inbox.len() > self.taken {
            return false;
        }
        match self.receive() {
            Ok(got) => got == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
