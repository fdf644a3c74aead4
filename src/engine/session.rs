//! What a client is to the commands: its database, protocol, name, transaction. No socket.

use super::command::Command;
use crate::resp::args::OwnedArgs;
use crate::resp::reply::Protocol;
use std::net::SocketAddr;

/// The state of one client, or of a replay.
#[derive(Debug, Default)]
pub struct Session {
    /// Counts up from 1 over the server's life; 0 is the server itself.
    pub id: u64,
    /// Index of the selected database.
    pub db: usize,
    /// Whether it has shown the password, or none is asked.
    pub authenticated: bool,
    /// Set by `HELLO`.
    pub protocol: Protocol,
    /// `CLIENT SETNAME`; empty if none.
    pub name: Vec<u8>,
    /// `CLIENT SETINFO LIB-NAME`.
    pub lib_name: Vec<u8>,
    /// `CLIENT SETINFO LIB-VER`.
    pub lib_version: Vec<u8>,
    /// The transaction between `MULTI` and `EXEC`.
    pub transaction: Option<Box<Transaction>>,
    /// `EXEC` is running the queued commands.
    pub in_exec: bool,
    /// There was no pause when it began: one that a command in it begins is for what comes after it.
    pub in_unpaused_exec: bool,
    /// Whether the watch registry knows this client.
    pub watching: bool,
    /// Log offset behind its last write: what WAITAOF waits for.
    pub last_write: u64,
    /// It has asked to see what the others do (MONITOR).
    pub monitor: bool,
    /// `CLIENT NO-TOUCH`: what it looks up is not stamped as used.
    pub no_touch: bool,
    /// The connection ends once what has been replied is sent.
    pub close_after_reply: bool,
    /// Connected from this machine, for `enable-debug-command local`.
    pub is_local: bool,
    /// The peer's address; none over a unix socket.
    pub peer: Option<SocketAddr>,
    /// Which replies it gets (`CLIENT REPLY`).
    pub replies: ReplyMode,
    /// Stays connected though the clients' buffers are too large (`CLIENT NO-EVICT`).
    pub no_evict: bool,
}

/// Which replies a client gets. Errors count among them, and so do the elements of EXEC's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyMode {
    off: bool,
    skips_this: bool,
    skips_next: bool,
}

impl ReplyMode {
    /// `CLIENT REPLY ON`: the command under way gets one, too.
    pub fn turn_on(&mut self) {
        self.off = false;
        self.skips_this = false;
    }

    /// `CLIENT REPLY OFF`: none from here on.
    pub fn turn_off(&mut self) {
        self.off = true;
    }

    /// As after connecting; but what is asked of the command under way still holds.
    pub fn reset(&mut self) {
        self.off = false;
        self.skips_next = false;
    }

    /// `CLIENT REPLY SKIP`: none to the next command.
    pub fn skip_next(&mut self) {
        self.skips_next |= !self.off;
    }

    /// Whether the command under way gets none.
    #[must_use]
    pub fn is_mute(self) -> bool {
        self.off || self.skips_this
    }

    /// To be called once a command, or a whole transaction, is through.
    #[inline]
    pub fn end_command(&mut self) {
        self.skips_this = std::mem::take(&mut self.skips_next);
    }
}

/// Commands queued between `MULTI` and `EXEC`.
#[derive(Debug, Default)]
pub struct Transaction {
    /// In the order they came.
    pub queue: Vec<Queued>,
    /// Bytes that the arguments in it hold.
    pub bytes: usize,
    /// A command was refused while queueing; `EXEC` answers EXECABORT.
    pub aborted: bool,
}

/// One queued command, resolved and checked.
#[derive(Debug)]
pub struct Queued {
    /// Its row in the table, the subcommand's where there is one.
    pub command: Command,
    /// Its arguments, copied.
    pub args: OwnedArgs,
}

impl Session {
    /// A session of its own for `id`, in database 0, as after connecting.
    #[must_use]
    pub fn new(id: u64, authenticated: bool, is_local: bool) -> Session {
        Session { id, authenticated, is_local, ..Session::default() }
    }

    /// Whether commands are being queued.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }
}
