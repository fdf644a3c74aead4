//! What a handler wants done outside its reach, as data; `server/` does it.

use crate::config::Config;
use crate::keyspace::Garbage;
use crate::resp::encode;
use std::ops::Range;

/// Something for the server to do once the command is through.
#[derive(Debug)]
pub enum Action {
    /// Start a rewrite of the append-only file, or schedule it if `scheduled`.
    Rewrite,
    /// End these clients' connections.
    Kill(Vec<u64>),
    /// Stop the server.
    Shutdown(Shutdown),
    /// The configuration has changed: `previous` has what to go back to if the change cannot be
    /// put into practice.
    Reconfigure {
        /// Names of the parameters that changed, or may have.
        changed: Vec<&'static str>,
        /// The configuration as it was.
        previous: Box<Config>,
    },
    /// Empty the keyspace and load the append-only file again; the client's reply waits.
    LoadAppendOnlyFile,
    /// Write the configuration into the file that the server was started with.
    RewriteConfiguration,
    /// Hold the client until what was flushed so far has been freed.
    AwaitFreeing,
    /// Set counters to zero.
    ResetStatistics,
    /// Show the client what the others run.
    Monitor,
    /// Hold the client until its writes are durable; the reply is made then.
    WaitDurable(WaitDurable),
    /// Hold the client until its patience ends, in milliseconds (0: for ever): it waits for replicas
    /// and there are none.
    WaitReplicas(u64),
    /// End the wait of this client.
    Unblock {
        /// Who waits.
        id: u64,
        /// Answer it with an error, else as if its patience had ended.
        with_error: bool,
    },
}

impl Action {
    /// Whether the command that asks for it has no reply yet: its client waits.
    #[must_use]
    pub fn holds_client(&self) -> bool {
        matches!(self, Action::WaitDurable(_) | Action::WaitReplicas(_))
    }
}

/// What WAITAOF waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitDurable {
    /// Log offset of the client's last write.
    pub offset: u64,
    /// Whether that must be durable here.
    pub local: bool,
    /// Whether replicas are waited for; there are none, so only the time-out ends that.
    pub replicas: bool,
    /// How long to wait, milliseconds; 0 is for ever.
    pub timeout_ms: u64,
}

/// How to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shutdown {
    /// Stop even if the last sync fails.
    pub force: bool,
    /// Do not wait for slow clients (there are none to wait for; taken for the sake of clients).
    pub now: bool,
}

/// One command for the append-only file, in `Effects::bytes`.
#[derive(Clone, Copy, Debug)]
struct Record {
    db: usize,
    end: usize,
}

/// A command as MONITOR shows it.
#[derive(Debug)]
pub struct Observed {
    /// The database selected after it.
    pub db: usize,
    /// Its arguments in quotes, parted by blanks.
    pub text: Vec<u8>,
}

/// What one command, or one whole transaction, has caused.
#[derive(Debug, Default)]
pub struct Effects {
    bytes: Vec<u8>,
    records: Vec<Record>,
    /// So many of them, from the first on, belong together with nothing.
    single: usize,
    /// Some of them tell what a command itself has done, not what lapsed or had to make room ahead of it.
    has_written: bool,
    /// The handler has said itself what is to be logged for the command under way.
    replaced: bool,
    /// The rest, in order.
    pub actions: Vec<Action>,
    /// What is to be freed on a helper thread.
    pub garbage: Vec<Garbage>,
    /// Where in the output buffer the reply stands of the command that asked for each action.
    replies: Vec<Range<usize>>,
    /// Somebody monitors, and is to see what is run.
    pub monitored: bool,
    /// What was run, for those who monitor.
    pub observed: Vec<Observed>,
    /// Arguments of the command under way that nobody else may see.
    secrets: Vec<usize>,
}

impl Effects {
    /// Logs `args` ahead of the command under way, which is still logged itself: the DEL of a key
    /// found expired.
    pub fn propagate_ahead(&mut self, db: usize, args: &[&[u8]]) {
        encode::command(&mut self.bytes, args);
        self.records.push(Record { db, end: self.bytes.len() });
    }

    /// Logs the command under way.
    pub fn propagate(&mut self, db: usize, args: &[&[u8]]) {
        self.has_written = true;
        self.propagate_ahead(db, args);
    }

    /// Logs `args` in place of the command under way. Repeated calls log several commands.
    pub fn propagate_as(&mut self, db: usize, args: &[&[u8]]) {
        self.replaced = true;
        self.propagate(db, args);
    }

    /// Logs nothing for the command under way.
    pub fn propagate_nothing(&mut self) {
        self.replaced = true;
    }

    /// Logs the command under way, which is RESP already.
    pub fn propagate_raw(&mut self, db: usize, raw: &[u8]) {
        self.has_written = true;
        self.bytes.extend_from_slice(raw);
        self.records.push(Record { db, end: self.bytes.len() });
    }

    /// Notes that the reply of the command which asked for the latest actions stands at `reply` of
    /// the output buffer: inside a transaction each has its own.
    pub fn answered_at(&mut self, reply: Range<usize>) {
        self.replies.resize(self.actions.len(), reply);
    }

    /// The actions, in order, each with where the reply of the command that asked for it stands.
    pub fn take_actions(&mut self) -> Vec<(Action, Range<usize>)> {
        self.replies.resize(self.actions.len(), 0..0);
        self.actions.drain(..).zip(self.replies.drain(..)).collect()
    }

    /// Whether the handler has spoken for itself since the last call; forgets it.
    pub fn take_replaced(&mut self) -> bool {
        std::mem::take(&mut self.replaced)
    }

    /// Sets what [`Effects::take_replaced`] will say; for a command run inside another.
    pub fn set_replaced(&mut self, replaced: bool) {
        self.replaced = replaced;
    }

    /// Whether there is something to be logged, or to be freed.
    #[inline]
    #[must_use]
    pub fn has_traces(&self) -> bool {
        !self.records.is_empty() || !self.garbage.is_empty()
    }

    /// Whether something is to be logged that a command itself has done.
    #[inline]
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.has_written
    }

    /// How many commands are to be logged.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.records.len()
    }

    /// What is to be logged so far belongs neither together nor to what follows: each is logged by
    /// itself, ahead.
    pub fn end_of_part(&mut self) {
        self.single = self.records.len();
    }

    /// How many of [`Effects::records`], from the first on, are to be logged each by itself.
    #[must_use]
    pub fn single_count(&self) -> usize {
        self.single
    }

    /// The commands to be logged: database and RESP text.
    pub fn records(&self) -> impl ExactSizeIterator<Item = (usize, &[u8])> + '_ {
        let mut start = 0;
        self.records.iter().map(move |record| {
            let raw = &self.bytes[start..record.end];
            start = record.end;
            (record.db, raw)
        })
    }

    /// Keeps an argument of the command under way from those who monitor, and from the slow log.
    pub fn hide(&mut self, index: usize) {
        self.secrets.push(index);
    }

    /// The arguments of the command under way that nobody else may see.
    #[must_use]
    pub fn secrets(&self) -> &[usize] {
        &self.secrets
    }

    /// The command under way has ended.
    #[inline]
    pub fn forget_secrets(&mut self) {
        if !self.secrets.is_empty() {
            self.secrets = Vec::new();
        }
    }

    /// Notes a command that was run, given its arguments as [`crate::text::words::quote`] shows them.
    pub fn observe(&mut self, db: usize, mut words: Vec<Vec<u8>>) {
        for index in &self.secrets {
            if let Some(word) = words.get_mut(*index) {
                *word = b"\"(redacted)\"".to_vec();
            }
        }
        self.observed.push(Observed { db, text: words.join(&b' ') });
    }

    /// Forgets the records, which have been logged. A buffer that one huge command has blown up
    /// is given back.
    pub fn clear_records(&mut self) {
        const KEEP_BYTES: usize = 1 << 20;
        self.records.clear();
        self.single = 0;
        self.has_written = false;
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_BYTES);
    }
}
