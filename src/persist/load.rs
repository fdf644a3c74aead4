//! Loading: replays a file from its start, cuts off what was never promised, refuses what was
//! promised and is damaged.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::beside;
pub use super::chain::Prepare;
use super::chain::{ChainReader, Chunk, Stop};
use super::damage::{Damage, FirstKey, KeyPosition, Verdict};
use super::reader::{Source, Supply};
use super::records::Role;
use super::storage::{LogFile, Storage, describe, read_full_at};
use super::tail::Tail;
use crate::keyspace::Prepared;
use crate::resp::args::Args;

/// How a Redis file with a binary head begins.
const RDB_MAGIC: &[u8] = b"REDIS";

/// A command that was prepared takes the loop as long as about so many bytes of others, whatever
/// its size.
const PREPARED_COST_BYTES: u64 = 48;

/// How strict to be.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Cut off an un-promised tail and start (`aof-load-truncated yes`); refuse otherwise.
    pub cut_tail: bool,
    /// The longest argument believed, in bytes. A longer one is taken for damage; so give the
    /// larger of 512 MiB and what clients may send.
    pub max_bulk_bytes: u64,
    /// Leave the file alone whatever it holds: anything wrong is an error.
    pub read_only: bool,
    /// Names the first key that damage affects.
    pub key_position: KeyPosition,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions {
            cut_tail: true,
            max_bulk_bytes: 512 << 20,
            read_only: false,
            key_position: |_| None,
        }
    }
}

/// Replays one file in steps.
pub struct Loader {
    storage: Arc<dyn Storage>,
    name: OsString,
    options: LoadOptions,
    /// `None` if there is no such file.
    source: Option<Source>,
    /// What is being applied.
    chunk: Chunk,
    /// The chunk's next command.
    next_command: usize,
    in_transaction: bool,
    report: LoadReport,
    finished: bool,
}

/// Who applies a file's commands, and wants to see each of them some time ahead.
pub trait Replay {
    /// How many commands ahead of being applied they are shown, at most.
    const AHEAD: usize;

    /// Shows the command that will be applied behind those shown before it.
    fn expect(&mut self, args: &Args<'_>);

    /// Applies the command that was shown first of those not applied yet.
    ///
    /// # Errors
    /// What is wrong with it, as text.
    fn apply(&mut self, args: &mut Args<'_>) -> Result<(), String>;

    /// Tells the hash of the key of a command that was prepared, [`Replay::AHEAD`] commands ahead
    /// of its being applied, at most.
    fn expect_prepared(&mut self, _hash: u64) {}

    /// Likewise, half as far ahead.
    fn expect_prepared_soon(&mut self, _hash: u64) {}

    /// Applies a command that was prepared.
    fn apply_prepared(&mut self, prepared: Prepared);
}

/// A function that applies, and looks at nothing ahead.
struct Each<F>(F);

impl<F: FnMut(&mut Args<'_>) -> Result<(), String>> Replay for Each<F> {
    const AHEAD: usize = 0;

    fn expect(&mut self, _: &Args<'_>) {}

    fn apply(&mut self, args: &mut Args<'_>) -> Result<(), String> {
        (self.0)(args)
    }

    fn apply_prepared(&mut self, _: Prepared) {
        debug_assert!(false, "nothing is prepared for it");
    }
}

/// How far loading is, or how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Whether there was a file.
    pub found: bool,
    /// Bytes of the file done.
    pub loaded_bytes: u64,
    /// Bytes of the file.
    pub total_bytes: u64,
    /// Commands handed out.
    pub commands: u64,
    /// What was cut off the end, if anything was.
    pub cut: Option<Cut>,
}

/// A tail that nothing promised, taken off the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// File offset where it now ends.
    pub offset: u64,
    /// Bytes cut off.
    pub bytes: u64,
    /// Where they were saved.
    pub saved_as: PathBuf,
    /// Whether they stood behind a seal, so that nothing can have been promised of them.
    pub sealed: bool,
    /// Why they could not be trusted.
    pub stop: Stop,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cut { path, offset, bytes, saved_as, sealed, stop } = self;
        write!(
            f,
            "The append only file {} was cut at offset {offset}: {} (at offset {}). {} They are \
             kept in {}",
            path.display(),
            stop.reason,
            stop.at,
            describe_tail(*bytes, *sealed),
            saved_as.display()
        )
    }
}

/// What can be said of the bytes behind the end of what is good.
fn describe_tail(bytes: u64, sealed: bool) -> String {
    if sealed {
        format!("The last {bytes} bytes were never promised to anyone.")
    } else {
        format!("The last {bytes} bytes are not sealed: nobody can tell what was promised of them.")
    }
}

/// Why a file is not loaded. Its text ends in the line that Redis would print.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read, or an un-promised tail not be cut off.
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// The file begins with a binary head (`aof-use-rdb-preamble yes`).
    RdbPreamble {
        /// The file.
        path: PathBuf,
    },
    /// The file is not well formed, in a place that Redis's rules do not allow to be cut off.
    BadFormat {
        /// The file.
        path: PathBuf,
        /// Bytes behind the end of what is good.
        bytes: u64,
        /// What is wrong where.
        stop: Stop,
        /// The first key affected, where it can be told.
        first_key: Option<Box<FirstKey>>,
    },
    /// The file ends too early or in an un-promised tail, and cutting was not allowed.
    Truncated {
        /// The file.
        path: PathBuf,
        /// File offset where what is good ends.
        end: u64,
        /// Bytes behind.
        bytes: u64,
        /// Whether they stand behind a seal, so that nothing can have been promised of them.
        sealed: bool,
        /// What is wrong where.
        stop: Stop,
        /// The first key affected, where it can be told.
        first_key: Option<Box<FirstKey>>,
    },
    /// Something that was promised is damaged.
    PromisedDamaged {
        /// The file.
        path: PathBuf,
        /// File offset where what is good ends.
        end: u64,
        /// Up to where the file was durable, as a later seal that is intact states.
        promised: u64,
        /// Bytes behind `end`: what cutting would lose.
        bytes: u64,
        /// What is wrong where.
        stop: Stop,
        /// The first key affected, where it can be told.
        first_key: Option<Box<FirstKey>>,
    },
    /// A command cannot be executed.
    Command {
        /// The file.
        path: PathBuf,
        /// File offset of the command.
        offset: u64,
        /// What the executing side says, such as `Unknown command 'foo'`.
        message: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BAD_FORMAT: &str = "Bad file format reading the append only file: make a backup of \
             your AOF file, then use ./redis-check-aof --fix <filename>";
        match self {
            LoadError::Io { path, doing, error } => write!(
                f,
                "Unrecoverable error {doing} the append only file {}: {}",
                path.display(),
                describe(error)
            ),
            LoadError::RdbPreamble { path } => write!(
                f,
                "The append only file {} begins with an RDB preamble, which this server does not \
                 read. On the server that wrote it, run 'redis-cli config set aof-use-rdb-preamble \
                 no' and 'redis-cli bgrewriteaof' to get a plain one\n{BAD_FORMAT}",
                path.display()
            ),
            LoadError::BadFormat { path, bytes, stop, first_key } => write!(
                f,
                "The append only file {} is damaged at offset {}: {}. The last {bytes} bytes are \
                 not sealed: nobody can tell what was promised of them.{} Nothing was changed\n\
                 {}\n{BAD_FORMAT}",
                path.display(),
                stop.at,
                stop.reason,
                Affected(first_key.as_deref()),
                Advice(path)
            ),
            LoadError::Truncated { path, end, bytes, sealed, stop, first_key } => write!(
                f,
                "The append only file {} is good up to offset {end}: {} (at offset {}). {}{} \
                 Nothing was changed\n{}\n\
                 Unexpected end of file reading the append only file. You can: 1) Make a backup of \
                 your AOF file, then use ./redis-check-aof --fix <filename>. 2) Alternatively you \
                 can set the 'aof-load-truncated' configuration option to yes and restart the \
                 server.",
                path.display(),
                stop.reason,
                stop.at,
                describe_tail(*bytes, *sealed),
                Affected(first_key.as_deref()),
                Advice(path)
            ),
            LoadError::PromisedDamaged { path, end, promised, bytes, stop, first_key } => write!(
                f,
                "The append only file {} is damaged at offset {}: {}. A later seal that is intact \
                 shows that the {} bytes from offset {end} on had been promised; cutting there \
                 would lose {bytes} bytes.{} Nothing was changed\n{}\n{BAD_FORMAT}",
                path.display(),
                stop.at,
                stop.reason,
                promised.saturating_sub(*end),
                Affected(first_key.as_deref()),
                Advice(path)
            ),
            LoadError::Command { path, offset, message } => write!(
                f,
                "{message} reading the append only file {} (at offset {offset})",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LoadError {}

/// Names the first key affected, where it can be told.
struct Affected<'a>(Option<&'a FirstKey>);

impl fmt::Display for Affected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |key| write!(f, " The first key affected is {key}."))
    }
}

/// The command to run on a file that is refused.
struct Advice<'a>(&'a Path);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Quoted for a shell, so that the line can be copied.
        let path = self.0.display().to_string();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(&byte);
        let path = if path.bytes().all(plain) {
            path
        } else {
            format!("'{}'", path.replace('\'', "'\\''"))
        };
        write!(
            f,
            "To see what is lost and to get a copy without it, run: server_async --check-aof {path} --fix"
        )
    }
}

/// Opens a plain file; `None` if there is none of that name. Nothing is changed on disk.
///
/// # Errors
/// [`LoadError::Io`] if it cannot be read, [`LoadError::RdbPreamble`] if it is not plain.
pub(super) fn open_plain(
    storage: &dyn Storage,
    name: &OsStr,
    max_bulk_bytes: u64,
) -> Result<Option<ChainReader>, LoadError> {
    let path = storage.path_of(name);
    let failed = |error| LoadError::Io { path: path.clone(), doing: "opening", error };
    let Some(file) = storage.open(name).map_err(failed)? else { return Ok(None) };
    let total = file.size().map_err(failed)?;
    let mut magic = [0; RDB_MAGIC.len()];
    let read = read_full_at(&*file, &mut magic, 0).map_err(failed)?;
    if magic.get(..read) == Some(RDB_MAGIC) {
        return Err(LoadError::RdbPreamble { path });
    }
    Ok(Some(ChainReader::new(file, total, max_bulk_bytes)))
}

impl Loader {
    /// Opens the file `name`; that there is none is no error. Nothing is changed on disk.
    ///
    /// # Errors
    /// [`LoadError::Io`] if it cannot be read, [`LoadError::RdbPreamble`] if it is not plain.
    pub fn open(
        storage: Arc<dyn Storage>,
        name: &OsStr,
        options: LoadOptions,
    ) -> Result<Loader, LoadError> {
        let reader = open_plain(&*storage, name, options.max_bulk_bytes)?;
        let report = LoadReport {
            found: reader.is_some(),
            total_bytes: reader.as_ref().map_or(0, ChainReader::total),
            ..LoadReport::default()
        };
        Ok(Loader {
            storage,
            name: name.to_owned(),
            options,
            finished: reader.is_none(),
            source: reader.map(|reader| Source::new(reader, options.key_position)),
            chunk: Chunk::default(),
            next_command: 0,
            in_transaction: false,
            report,
        })
    }

    /// Has the file read, parsed and verified on a thread of its own from here on, a bounded way
    /// ahead of what is applied. Signals must have been blocked before. Changes nothing of what is
    /// applied, and nothing of how loading ends. A loader that is dropped does not wait for the
    /// thread, which then only reads one chunk more.
    ///
    /// # Errors
    /// Those of creating a thread; the file is then read on the spot, as before.
    pub fn read_ahead(&mut self) -> io::Result<()> {
        self.source.as_mut().map_or(Ok(()), |source| source.read_ahead(None))
    }

    /// Likewise, and has that thread prepare what it can of commands that are verified or need no seal.
    ///
    /// # Errors
    /// Those of [`Loader::read_ahead`].
    pub fn read_and_prepare_ahead(&mut self, prepare: Prepare) -> io::Result<()> {
        self.source.as_mut().map_or(Ok(()), |source| source.read_ahead(Some(prepare)))
    }

    /// Replays about `budget_bytes` more of the file and tells whether it is done. `apply` gets the
    /// commands in order, MULTI and EXEC left out; a step never ends inside a transaction, and a
    /// transaction that is not whole is not begun. Ends earlier if [`Loader::read_ahead`]'s thread
    /// has not come further within 2 ms.
    ///
    /// # Errors
    /// [`LoadError`]; `apply`'s own error text becomes [`LoadError::Command`]. Loading cannot go
    /// on after one.
    pub fn step(
        &mut self,
        budget_bytes: u64,
        apply: impl FnMut(&mut Args<'_>) -> Result<(), String>,
    ) -> Result<bool, LoadError> {
        self.step_expecting(budget_bytes, &mut Each(apply))
    }

    /// As [`Loader::step`], for one who wants to know a little ahead what will come. All that a
    /// step has shown it also applies, or loading has ended in an error.
    ///
    /// # Errors
    /// Those of [`Loader::step`].
    pub fn step_expecting<R: Replay>(
        &mut self,
        budget_bytes: u64,
        replay: &mut R,
    ) -> Result<bool, LoadError> {
        let mut left_bytes = budget_bytes;
        while !self.finished && left_bytes > 0 {
            if self.next_command < self.chunk.len() {
                let done_bytes = self.apply_some(left_bytes, replay)?;
                left_bytes = left_bytes.saturating_sub(done_bytes);
            } else if !self.advance()? {
                break;
            }
        }
        Ok(self.finished)
    }

    /// Applies commands of the chunk, about `budget_bytes` and no part of a transaction, which is
    /// always in one chunk; returns how many bytes they
    /// have, or cost as much as.
    fn apply_some<R: Replay>(
        &mut self,
        budget_bytes: u64,
        replay: &mut R,
    ) -> Result<u64, LoadError> {
        let mut shown = self.next_command;
        let mut done_bytes = 0;
        let mut last_prepared = None;
        while self.next_command < self.chunk.len() {
            let index = self.next_command;
            if done_bytes < budget_bytes || self.in_transaction {
                while shown <= index.saturating_add(R::AHEAD) && shown < self.chunk.len() {
                    if let Some(hash) = self.chunk.prepared_hash(shown) {
                        replay.expect_prepared(hash);
                    } else if let Some(args) = self.chunk.plain_args(shown) {
                        replay.expect(&args);
                    }
                    shown += 1;
                }
            } else if shown == index {
                break;
            }
            self.next_command += 1;
            if let Some(hash) = self.chunk.prepared_hash(index + R::AHEAD / 2) {
                replay.expect_prepared_soon(hash);
            }
            if let Some(prepared) = self.chunk.take_prepared(index) {
                // Nothing else of the chunk is looked at, which would have to come from the other
                // thread's processor.
                replay.apply_prepared(prepared);
                self.report.commands += 1;
                done_bytes += PREPARED_COST_BYTES;
                last_prepared = Some(index);
                continue;
            }
            done_bytes += self.chunk.len_of(index);
            match self.chunk.role(index) {
                Role::Begin => self.in_transaction = true,
                Role::End => self.in_transaction = false,
                Role::Ignored => {}
                Role::Plain => {
                    let Some(mut args) = self.chunk.plain_args(index) else { continue };
                    let outcome = replay.apply(&mut args);
                    let offset = self.chunk.offset_of(index);
                    if let Err(message) = outcome {
                        let path = self.storage.path_of(&self.name);
                        return Err(LoadError::Command { path, offset, message });
                    }
                    self.report.commands += 1;
                    self.report.loaded_bytes = offset;
                }
            }
        }
        if let Some(index) = last_prepared {
            let offset = self.chunk.offset_of(index);
            self.report.loaded_bytes = self.report.loaded_bytes.max(offset);
        }
        Ok(done_bytes)
    }

    /// Goes on to the next chunk, or to the end. `false` if it is not there yet.
    fn advance(&mut self) -> Result<bool, LoadError> {
        let Some(source) = &mut self.source else { return Ok(true) };
        self.report.loaded_bytes = self.chunk.end().max(self.report.loaded_bytes);
        match source.next(&mut self.chunk) {
            Supply::Chunk => self.next_command = 0,
            Supply::Later => return Ok(false),
            Supply::Ended(ending) => {
                match ending.map_err(|error| self.io_error("reading", error))? {
                    None => self.finished = true,
                    Some(damage) => self.answer(damage)?,
                }
                let end = self.source.as_ref().and_then(Source::reader).map(ChainReader::end);
                self.report.loaded_bytes = end.unwrap_or(self.report.loaded_bytes);
            }
        }
        Ok(true)
    }

    /// How far loading is.
    #[must_use]
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    /// Decides what is to be done about bytes that cannot be trusted.
    fn answer(&mut self, damage: Damage) -> Result<(), LoadError> {
        let Some(reader) = self.source.as_ref().and_then(Source::reader) else { return Ok(()) };
        let path = self.storage.path_of(&self.name);
        let Damage { stop, end, bytes, verdict, first_key } = damage;
        let sealed = match verdict {
            Verdict::Promised { until: promised } => {
                return Err(LoadError::PromisedDamaged {
                    path,
                    end,
                    promised,
                    bytes,
                    stop,
                    first_key,
                });
            }
            Verdict::BadUnsealed => {
                return Err(LoadError::BadFormat { path, bytes, stop, first_key });
            }
            Verdict::NeverPromised => true,
            Verdict::TornUnsealed => false,
        };
        if !self.options.cut_tail || self.options.read_only {
            return Err(LoadError::Truncated { path, end, bytes, sealed, stop, first_key });
        }
        let file = Arc::clone(reader.file());
        match self.cut(&*file, end, bytes) {
            Ok(saved_as) => {
                self.report.cut = Some(Cut { path, offset: end, bytes, saved_as, sealed, stop });
                self.finished = true;
                Ok(())
            }
            Err(error) => Err(self.io_error("cutting", error)),
        }
    }

    /// Saves the tail and takes it off the file.
    fn cut(&self, file: &dyn LogFile, offset: u64, bytes: u64) -> io::Result<PathBuf> {
        let ending = format!("cut-{offset}");
        let (saved, name) = beside::create_free(&*self.storage, &self.name, &ending)?;
        beside::copy(file, offset..offset + bytes, &*saved)?;
        // The copy and its name are durable before the original goes: a crash in between leaves
        // the tail twice, never not at all.
        saved.sync_data()?;
        self.storage.sync_dir()?;
        file.truncate(offset)?;
        // And the new end is durable before anything is appended: otherwise a crash could show the
        // old tail behind, or mixed with, groups written after this start.
        file.sync_data()?;
        Ok(self.storage.path_of(&name))
    }

    fn io_error(&self, doing: &'static str, error: io::Error) -> LoadError {
        LoadError::Io { path: self.storage.path_of(&self.name), doing, error }
    }

    /// What continues the file, if there is one. Only after loading has finished.
    pub(super) fn into_tail(self) -> Option<Tail> {
        debug_assert!(self.finished);
        self.source.as_ref().and_then(Source::reader).map(|reader| {
            let (end, chain) = (reader.end(), reader.chain());
            let file = Arc::clone(reader.file());
            Tail::new(file, end, chain, reader.last_ms(), 0, reader.closed())
        })
    }
}
