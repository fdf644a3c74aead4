//! The client's side of the protocol: replies in bytes, and one connection that waits for each.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use server_async::resp::encode;

/// A reply, as far as a measurement needs it.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A status or a number.
    Line(&'a [u8]),
    /// An error, without its `-`.
    Error(&'a [u8]),
    /// A string, or null.
    Bulk(Option<&'a [u8]>),
}

/// The first reply in `bytes` and how many bytes it takes; `None` if it is not complete.
///
/// # Errors
/// If it is none of the kinds that these measurements ask for.
pub fn parse(bytes: &[u8]) -> io::Result<Option<(Reply<'_>, usize)>> {
    let Some(line_end) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
    let after = line_end + 1;
    let unexpected = || {
        let shown = String::from_utf8_lossy(&bytes[..after.min(80)]).into_owned();
        io::Error::other(format!("unexpected reply: {shown:?}"))
    };
    let line = bytes[..line_end].strip_suffix(b"\r").ok_or_else(unexpected)?;
    let (kind, line) = line.split_first().ok_or_else(unexpected)?;
    Ok(Some(match kind {
        b'+' | b':' => (Reply::Line(line), after),
        b'-' => (Reply::Error(line), after),
        b'$' if line == b"-1" => (Reply::Bulk(None), after),
        b'$' => {
            let len = std::str::from_utf8(line).ok().and_then(|len| len.parse::<usize>().ok());
            let len = len.filter(|len| *len <= 512 << 20).ok_or_else(unexpected)?;
            let Some(rest) = bytes.get(after..).filter(|rest| rest.len() >= len + 2) else {
                return Ok(None);
            };
            (Reply::Bulk(Some(&rest[..len])), after + len + 2)
        }
        _ => return Err(unexpected()),
    }))
}

/// Connects to a server on this machine.
///
/// # Errors
/// Those of connect(2).
pub fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Bytes from a socket that wait to be replies.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
}

impl Inbox {
    /// Reads once; returns whether the connection is still open.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn read(&mut self, stream: &mut impl Read) -> io::Result<bool> {
        const ROOM: usize = 64 << 10;
        self.bytes.drain(..self.taken);
        self.taken = 0;
        let len = self.bytes.len();
        self.bytes.resize(len + ROOM, 0);
        let result = stream.read(&mut self.bytes[len..]);
        self.bytes.truncate(len + *result.as_ref().unwrap_or(&0));
        Ok(result? > 0)
    }

    /// The next complete reply.
    ///
    /// # Errors
    /// Those of [`parse`].
    pub fn next(&mut self) -> io::Result<Option<Reply<'_>>> {
        let Some((reply, len)) = parse(&self.bytes[self.taken..])? else { return Ok(None) };
        self.taken += len;
        Ok(Some(reply))
    }
}

/// One client that asks and waits.
pub struct Asker {
    stream: TcpStream,
    inbox: Inbox,
}

impl Asker {
    /// Connects.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(port: u16) -> io::Result<Asker> {
        Ok(Asker { stream: connect(port)?, inbox: Inbox::default() })
    }

    /// Sends a command and returns the text of its reply.
    ///
    /// # Errors
    /// Those of the socket, and an error reply.
    pub fn ask(&mut self, args: &[&[u8]]) -> io::Result<String> {
        let mut request = Vec::new();
        encode::command(&mut request, args);
        self.stream.write_all(&request)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.answer(|reply| match reply {
            Reply::Line(line) => Ok(text(line)),
            Reply::Bulk(bytes) => Ok(text(bytes.unwrap_or(b""))),
            Reply::Error(error) => Err(io::Error::other(text(error))),
        })?
    }

    /// The connection, with what was read ahead forgotten.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Sends requests without waiting.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn send(&mut self, requests: &[u8]) -> io::Result<()> {
        self.stream.write_all(requests)
    }

    /// Waits for the next reply and shows it to `look`.
    ///
    /// # Errors
    /// Those of the socket, its end among them.
    pub fn answer<T>(&mut self, look: impl FnOnce(Reply<'_>) -> T) -> io::Result<T> {
        loop {
            // In two steps, since a reply that is returned from a loop stays borrowed in it.
            let pending = &self.inbox.bytes[self.inbox.taken..];
            if parse(pending)?.is_some() {
                break;
            }
            if !self.inbox.read(&mut self.stream)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        match self.inbox.next()? {
            Some(reply) => Ok(look(reply)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Waits until PING is answered by PONG: the file is loaded then.
///
/// # Errors
/// If that takes longer than `timeout`.
pub fn wait_until_ready(port: u16, timeout: Duration) -> io::Result<()> {
    let start = Instant::now();
    loop {
        let answer = Asker::connect(port).and_then(|mut asker| {
            asker.stream.set_read_timeout(Some(timeout))?;
            asker.ask(&[b"PING"])
        });
        match answer {
            Ok(pong) if pong == "PONG" => return Ok(()),
            answer if start.elapsed() > timeout => {
                return Err(io::Error::other(format!("not ready in time: {answer:?}")));
            }
            _ => thread::sleep(Duration::from_millis(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_found_whole_or_not_at_all() {
        let bytes = b"+OK\r\n:7\r\n-ERR no\r\n$3\r\na\nb\r\n$-1\r\n";
        let expected = [
            Reply::Line(b"OK"),
            Reply::Line(b"7"),
            Reply::Error(b"ERR no"),
            Reply::Bulk(Some(b"a\nb")),
            Reply::Bulk(None),
        ];
        let mut start = 0;
        for reply in expected {
            let (found, len) = parse(&bytes[start..]).expect("valid").expect("complete");
            assert_eq!(found, reply);
            for cut in start..start + len {
                assert_eq!(parse(&bytes[start..cut]).expect("valid"), None, "{start}..{cut}");
            }
            start += len;
        }
        assert_eq!(start, bytes.len());
        assert!(parse(b"*1\r\n$1\r\na\r\n").is_err());
        assert!(parse(b"$x\r\n").is_err());
    }
}
