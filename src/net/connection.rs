//! One client's socket with its buffers and its session.

use super::outbox::Outbox;
use crate::engine::command::Command;
use crate::engine::effects::WaitDurable;
use crate::engine::session::Session;
use crate::resp::args::OwnedArgs;
use crate::resp::parse::Parser;
use crate::resp::reply::Reply;
use crate::sys::clock::MonoUs;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};

/// A stream socket of either family.
#[derive(Debug)]
pub enum Stream {
    /// IPv4 or IPv6.
    Tcp(TcpStream),
    /// `unixsocket`.
    Unix(UnixStream),
}

impl Stream {
    /// The peer's address as Redis shows it: `127.0.0.1:4711`, `[::1]:4711`, or `path:0`.
    #[must_use]
    pub fn peer(&self, unix_path: &str) -> String {
        match self {
            Self::Tcp(s) => s.peer_addr().map_or_else(|_| "?:0".into(), |a| a.to_string()),
            Self::Unix(_) => format!("{unix_path}:0"),
        }
    }

    /// Likewise, the server's own end.
    #[must_use]
    pub fn local(&self, unix_path: &str) -> String {
        match self {
            Self::Tcp(s) => s.local_addr().map_or_else(|_| "?:0".into(), |a| a.to_string()),
            Self::Unix(_) => format!("{unix_path}:0"),
        }
    }

    /// The peer's address, if it has one.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(s) => s.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Whether the peer is on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(s) => s.peer_addr().is_ok_and(|a| a.ip().to_canonical().is_loopback()),
            Self::Unix(_) => true,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.read(buf),
            Self::Unix(s) => s.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.write(buf),
            Self::Unix(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(s) => s.as_raw_fd(),
            Self::Unix(s) => s.as_raw_fd(),
        }
    }
}

impl Source for Stream {
    fn register(&mut self, r: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.register(r, token, interests),
            Self::Unix(s) => s.register(r, token, interests),
        }
    }

    fn reregister(&mut self, r: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.reregister(r, token, interests),
            Self::Unix(s) => s.reregister(r, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.deregister(registry),
            Self::Unix(s) => s.deregister(registry),
        }
    }
}

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// WAITAOF: the client's writes becoming durable, or the end of its patience.
    Durable {
        /// What it asked for.
        wait: WaitDurable,
        /// When it gives up; none is never.
        until: Option<MonoUs>,
    },
    /// WAIT: replicas, of which there are none, so only the end of its patience ends that.
    Replicas {
        /// When it gives up; none is never.
        until: Option<MonoUs>,
    },
    /// CLIENT PAUSE: its end. The command is in [`Connection::postponed`] and then tried again.
    Paused,
    /// CONFIG SET appendonly: the log being on, or off, for good. The reply is held meanwhile.
    LogSwitch {
        /// Which of both.
        on: bool,
    },
    /// BGREWRITEAOF: the fork, before the loop sleeps.
    Rewrite,
    /// CONFIG REWRITE: the file to be written.
    ConfigRewrite,
    /// FLUSHALL SYNC: the helper thread to have freed so much.
    Freeing {
        /// All that it will have freed since the start, in keys and values.
        target: u64,
    },
}

/// Something that a reply waits for, and where in it the replies stand that are errors if it fails,
/// in their order.
pub type Wait = (Blocked, Vec<Range<usize>>);

/// A reply that is made and waits, because parts of it may turn out to be errors.
#[derive(Debug)]
pub struct HeldReply {
    /// The whole reply: a command's, or that of the EXEC which ran it.
    pub bytes: Vec<u8>,
    /// What is waited for, one after the other; the first is what the client is blocked for.
    pub waits: VecDeque<Wait>,
    /// The log offset that it waits for besides.
    pub gate: u64,
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    /// The socket, non-blocking.
    pub stream: Stream,
    /// What the client is to the commands.
    pub session: Session,
    /// Where the request being read stands.
    pub parser: Parser,
    /// Bytes read and not yet run: an incomplete request, or what waits for the gate. Empty for a
    /// connection between requests.
    pub inbox: Vec<u8>,
    /// Replies on their way out.
    pub outbox: Outbox,
    /// When it was accepted.
    pub created: MonoUs,
    /// When it last sent something.
    pub last_active: MonoUs,
    /// The last command.
    pub last_command: Option<Command>,
    /// The socket took less than it was given; a writable event will come.
    pub blocked_on_write: bool,
    /// The peer has ended its stream or the connection; what it sent before is still to be read.
    pub peer_closed: bool,
    /// Its last command waits for something; nothing more is run until that has come.
    pub blocked: Option<Blocked>,
    /// A command that came during a pause. Invariant: it is run ahead of what is in `inbox`.
    pub postponed: Option<Box<OwnedArgs>>,
    /// What it is to be told then. Invariant: only while it is blocked.
    pub held: Option<Box<HeldReply>>,
    /// Stands in the server's list of connections that may have more to read.
    pub is_ready: bool,
    /// Stands in the server's list of connections that wait for the gate before reading on.
    pub is_paused: bool,
    /// Has been given output this turn.
    pub is_touched: bool,
    /// To be closed before the loop sleeps, whatever is still to be sent.
    pub is_doomed: bool,
    /// Since when more than the soft limit has waited to be sent.
    pub over_soft_limit_since: Option<MonoUs>,
    /// Its part of the server's sum of clients' memory, bytes.
    pub counted_bytes: usize,
}

impl Connection {
    /// Wraps an accepted, non-blocking socket.
    #[must_use]
    pub fn new(stream: Stream, session: Session, now: MonoUs) -> Connection {
        Connection {
            stream,
            session,
            parser: Parser::default(),
            inbox: Vec::new(),
            outbox: Outbox::default(),
            created: now,
            last_active: now,
            last_command: None,
            blocked_on_write: false,
            peer_closed: false,
            blocked: None,
            postponed: None,
            held: None,
            is_ready: false,
            is_paused: false,
            is_touched: false,
            is_doomed: false,
            over_soft_limit_since: None,
            counted_bytes: 0,
        }
    }

    /// Whether it has written since the log, then ending at the offset `asked_at`, was told to turn
    /// off: each further write of its would put that off once more.
    #[must_use]
    pub fn delays_stop(&self, asked_at: u64) -> bool {
        self.session.last_write > asked_at
    }

    /// Sends what may leave until it is all sent, the socket takes no more, or `budget` bytes are
    /// sent. Returns the bytes sent.
    ///
    /// # Errors
    /// If the connection is broken; it is of no more use.
    pub fn send(&mut self, budget: usize) -> io::Result<usize> {
        let mut total = 0;
        while total < budget && !self.outbox.sendable().is_empty() {
            let bytes = self.outbox.sendable();
            match self.stream.write(&bytes[..bytes.len().min(budget - total)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    total += count;
                    self.outbox.advance(count);
                    self.blocked_on_write = false;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked_on_write = true;
                    return Ok(total);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(total)
    }

    /// Where the reply to the command under way goes. Its output buffer is to be covered afterwards.
    pub fn reply(&mut self) -> Reply<'_> {
        let mut reply = Reply::new(self.outbox.buffer(), self.session.protocol);
        reply.set_muted(self.session.replies.is_mute());
        reply
    }

    /// Bytes that the transaction's queue and a postponed command hold.
    #[must_use]
    pub fn queue_bytes(&self) -> usize {
        self.session.transaction.as_ref().map_or(0, |transaction| transaction.bytes)
            + self.postponed.as_ref().map_or(0, |args| args.bytes())
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Connection>()
            + self.inbox.capacity()
            + self.parser.large_bytes()
            + self.outbox.capacity()
            + self.queue_bytes()
            + self.held.as_ref().map_or(0, |held| held.bytes.capacity())
    }
}
