//! What a client is to the commands: its database, protocol, name, transaction. No socket.

use super::command::Command;
use crate::resp::args::OwnedArgs;
use crate::resp::reply::Protocol;

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
}

/// Commands queued between `MULTI` and `EXEC`.
#[derive(Debug, Default)]
pub struct Transaction {
    /// In the order they came.
    pub queue: Vec<Queued>,
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
