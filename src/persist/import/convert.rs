//! The conversion: commands in, groups with seals out, under a temporary name until all is durable.

use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::Arc;

use super::ImportError;
use super::source::{Source, SourceFile, annotated_ms};
use crate::persist::chain::{ChainReader, Next, Stop};
use crate::persist::damage::{KeyPosition, Verdict};
use crate::persist::records::{EXEC_RECORD, MULTI_RECORD, Role};
use crate::persist::storage::{LogFile, Storage, read_full_at};
use crate::persist::tail::{Chain, Stamp, Tail};
use crate::resp::args::Args;
use crate::resp::encode;
use crate::sys::clock::UnixMs;
use crate::text::number;

/// A group is ended when it has this many bytes, outside a transaction: small enough for a loader to
/// hold it back until its seal verified.
const GROUP_BYTES: usize = 1 << 20;
/// How much is written between two hints to start writing out.
const WRITE_OUT_BYTES: u64 = 4 << 20;
/// How much is looked at between two commands for annotations, from the end.
const ANNOTATIONS_BYTES: u64 = 64 << 10;

/// How to import.
#[derive(Clone, Copy, Debug)]
pub struct ImportOptions {
    /// Leave out what the last file ends in where it ends too early (`aof-load-truncated yes`);
    /// refuse otherwise.
    pub cut_tail: bool,
    /// The longest argument believed, in bytes.
    pub max_bulk_bytes: u64,
    /// Whether to seal the new file (`aof-seals`).
    pub seals: bool,
    /// Names the first key that damage affects.
    pub key_position: KeyPosition,
    /// Wall clock. Nothing that is imported can be younger, whatever its files say.
    pub now: UnixMs,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the source done.
    pub done_bytes: u64,
    /// Bytes of the source.
    pub total_bytes: u64,
}

/// What was imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Files of the source.
    pub files: usize,
    /// Bytes of the source that were taken.
    pub source_bytes: u64,
    /// Commands taken; SELECT, MULTI and EXEC left out.
    pub commands: u64,
    /// Transactions taken.
    pub transactions: u64,
    /// The new log.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What was left out at the end of the last file, if anything was.
    pub cut: Option<Cut>,
}

/// An end that was left out, because it is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// File offset where what was taken ends.
    pub offset: u64,
    /// Bytes left out.
    pub bytes: u64,
    /// What is wrong with them.
    pub stop: Stop,
}

/// Writes the log `source` to the file `name`, which must not exist and gets its name only when all
/// of it is durable. `check` gets each command but MULTI and EXEC and says what is wrong with it;
/// `progress` is told about each MiB and may break it off. Blocks for the disk. The caller holds the target's lock.
///
/// # Errors
/// [`ImportError`]; what had been written is removed then.
pub fn import(
    source: &Source,
    target: &dyn Storage,
    name: &OsStr,
    options: &ImportOptions,
    check: &mut dyn FnMut(&Args<'_>) -> Result<(), String>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<ImportReport, ImportError> {
    refuse_existing(target, name)?;
    // The name of a rewrite that no process can have: what a crash leaves of it the next start
    // removes, or the next import here.
    let temp = temp_name(name);
    let failed = |doing| move |error| ImportError::Io { path: target.path_of(name), doing, error };
    target.remove(&temp).map_err(failed("remove what is left of an earlier import of"))?;
    let file = target.create(&temp).map_err(failed("create"))?;
    let mut write = || {
        let mut report = convert(source, &file, options, check, progress, &failed("write"))?;
        file.sync_data().map_err(failed("sync"))?;
        // Last, since until here somebody may have gone on writing.
        source.check_unchanged()?;
        refuse_existing(target, name)?;
        target.rename(&temp, name).map_err(failed("name"))?;
        report.path = target.path_of(name);
        Ok(report)
    };
    let written = write();
    if written.is_err() {
        // The first error is the one to tell. What cannot be removed the next start will remove.
        target.remove(&temp).ok();
        return written;
    }
    match target.sync_dir() {
        Ok(()) => written,
        Err(error) => Err(ImportError::NameNotDurable { path: target.path_of(name), error }),
    }
}

fn temp_name(name: &OsStr) -> OsString {
    let mut temp = name.to_owned();
    temp.push(".rewrite-0-0");
    temp
}

/// By the directory's own list, so that a symbolic link that leads nowhere counts as well.
fn refuse_existing(target: &dyn Storage, name: &OsStr) -> Result<(), ImportError> {
    let path = target.path_of(name);
    match target.list() {
        Ok(names) if names.iter().any(|there| there == name) => {
            Err(ImportError::TargetExists { path })
        }
        Ok(_) => Ok(()),
        Err(error) => Err(ImportError::Io { path, doing: "look for", error }),
    }
}

fn convert(
    source: &Source,
    file: &Arc<dyn LogFile>,
    options: &ImportOptions,
    check: &mut dyn FnMut(&Args<'_>) -> Result<(), String>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    write_failed: &dyn Fn(io::Error) -> ImportError,
) -> Result<ImportReport, ImportError> {
    let total_bytes = source.total_bytes();
    let mut report = ImportReport { files: source.files.len(), ..ImportReport::default() };
    let mut writer = GroupWriter::new(file, options, source).map_err(write_failed)?;
    for (index, part) in source.files.iter().enumerate() {
        let is_last = index + 1 == source.files.len();
        writer.begin_file(part).map_err(write_failed)?;
        let mut reading =
            Reading { part, is_last, options, reader: part.reader(options), covered: 0 };
        while reading.next(&mut report)? {
            reading.take_batch(&mut writer, &mut report, check, write_failed)?;
            let done_bytes = report.source_bytes + reading.reader.end();
            if progress(Progress { done_bytes, total_bytes }).is_break() {
                return Err(ImportError::Interrupted);
            }
        }
        report.source_bytes += reading.reader.end();
    }
    report.bytes = writer.finish().map_err(write_failed)?;
    Ok(report)
}

impl SourceFile {
    fn reader(&self, options: &ImportOptions) -> ChainReader {
        ChainReader::new(Arc::clone(&self.file), self.bytes, options.max_bulk_bytes)
    }
}

/// One file being read.
struct Reading<'a> {
    part: &'a SourceFile,
    is_last: bool,
    options: &'a ImportOptions,
    reader: ChainReader,
    /// File offset up to which annotations have been looked at.
    covered: u64,
}

impl Reading<'_> {
    /// Reads a batch; `false` at the end, also at one that is cut.
    fn next(&mut self, report: &mut ImportReport) -> Result<bool, ImportError> {
        match self.reader.next().map_err(|error| self.read_failed(error))? {
            Next::Batch => Ok(true),
            Next::End => Ok(false),
            Next::Stop(stop) => self.judge(stop, report).map(|()| false),
        }
    }

    fn read_failed(&self, error: io::Error) -> ImportError {
        ImportError::Io { path: self.part.path.clone(), doing: "read", error }
    }

    /// As Redis: only the last file may end too early, and may be cut there.
    fn judge(&self, stop: Stop, report: &mut ImportReport) -> Result<(), ImportError> {
        let damage = self.reader.judge(stop, self.options.key_position);
        let damage = damage.map_err(|error| self.read_failed(error))?;
        let may_be_cut = matches!(damage.verdict, Verdict::TornUnsealed | Verdict::NeverPromised);
        let path = self.part.path.clone();
        if may_be_cut && self.is_last && self.options.cut_tail {
            report.cut = Some(Cut { path, offset: damage.end, bytes: damage.bytes, stop });
            return Ok(());
        }
        Err(ImportError::Damaged { path, damage: Box::new(damage), is_last: self.is_last })
    }

    fn take_batch(
        &mut self,
        writer: &mut GroupWriter<'_>,
        report: &mut ImportReport,
        check: &mut dyn FnMut(&Args<'_>) -> Result<(), String>,
        write_failed: &dyn Fn(io::Error) -> ImportError,
    ) -> Result<(), ImportError> {
        // Seals of this server's own, in a file that Redis has gone on with.
        if let Some(seal) = self.reader.last_seal {
            writer.set_time(seal.unix_ms).map_err(write_failed)?;
        }
        for index in 0..self.reader.batch().commands.len() {
            let offset = self.reader.offset_of(index);
            if offset > self.covered
                && let Some(ms) = self
                    .last_annotation(self.covered..offset)
                    .map_err(|error| self.read_failed(error))?
            {
                writer.set_time(ms).map_err(write_failed)?;
            }
            let Some(mut view) = self.reader.command(index) else { break };
            self.covered = offset + view.text.len() as u64;
            let role = self.reader.batch().commands.get(index).map(|command| command.role);
            match role {
                Some(Role::Begin) => writer.begin_transaction(),
                Some(Role::End) => {
                    writer.end_transaction().map_err(write_failed)?;
                    report.transactions += 1;
                }
                // As in Redis it has no consequence; in the new file it need not stand.
                Some(Role::Ignored) | None => {}
                Some(Role::Plain) => {
                    let args = Args::new(view.text, view.spans, &mut view.large, Some(view.text));
                    let refused = |message| {
                        let path = self.part.path.clone();
                        ImportError::Command { path, offset, message }
                    };
                    check(&args).map_err(refused)?;
                    if let Some(db) = selected(&args).map_err(refused)? {
                        writer.db = db;
                    } else {
                        writer.command(view.text).map_err(write_failed)?;
                        report.commands += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// The time that the last annotation in a stretch between two commands states.
    fn last_annotation(&self, between: Range<u64>) -> io::Result<Option<u64>> {
        let from = between.start.max(between.end.saturating_sub(ANNOTATIONS_BYTES));
        let mut text = vec![0; (between.end - from) as usize];
        let read = read_full_at(&*self.part.file, &mut text, from)?;
        let text = text.get(..read).unwrap_or(&[]);
        Ok(text.split(|&byte| byte == b'\n').rev().find_map(annotated_ms))
    }
}

/// The database that a SELECT names; `None` for any other command.
fn selected(args: &Args<'_>) -> Result<Option<u64>, String> {
    if !args.get(0).is_some_and(|name| name.eq_ignore_ascii_case(b"select")) {
        return Ok(None);
    }
    let db = args.get(1).and_then(number::parse_i64).and_then(|db| u64::try_from(db).ok());
    db.map(Some).ok_or_else(|| "Malformed command 'SELECT'".to_owned())
}

/// Writes the new file.
struct GroupWriter<'a> {
    options: &'a ImportOptions,
    file: Arc<dyn LogFile>,
    tail: Tail,
    /// What is not written yet; only whole commands, and a seal never stands inside a transaction.
    group: Vec<u8>,
    /// The database that the next command of the source concerns.
    db: u64,
    /// The one that the new file's records have selected so far.
    written_db: Option<u64>,
    in_transaction: bool,
    /// What the next seal states.
    unix_ms: u64,
    /// Whether the source itself has told the time.
    is_told: bool,
    /// Up to where the file's writing out has been started.
    written_out: u64,
}

impl<'a> GroupWriter<'a> {
    fn new(
        file: &Arc<dyn LogFile>,
        options: &'a ImportOptions,
        source: &Source,
    ) -> io::Result<GroupWriter<'a>> {
        let begun_ms = source.files.first().map_or(u64::MAX, |part| part.begun_ms);
        let unix_ms = begun_ms.min(options.now.0.max(0).unsigned_abs());
        let mut tail = Tail::new(Arc::clone(file), 0, Chain::Unsealed, 0, 0, false);
        // Every seal may state its own end to be durable: nobody sees the file before it is.
        tail.set_unnamed(true);
        if options.seals {
            tail.begin_sealing(unix_ms)?;
        }
        Ok(GroupWriter {
            options,
            file: Arc::clone(file),
            tail,
            group: Vec::with_capacity(GROUP_BYTES + (GROUP_BYTES >> 2)),
            db: 0,
            written_db: None,
            in_transaction: false,
            unix_ms,
            is_told: false,
            written_out: 0,
        })
    }

    /// Each file is replayed from database 0 on.
    fn begin_file(&mut self, part: &SourceFile) -> io::Result<()> {
        self.db = 0;
        if self.is_told { Ok(()) } else { self.move_time(part.begun_ms) }
    }

    /// The source says when what follows was written.
    fn set_time(&mut self, unix_ms: u64) -> io::Result<()> {
        self.is_told = true;
        self.move_time(unix_ms)
    }

    /// A group holds what was written no later than its seal states, and not much earlier. Time
    /// never runs backwards.
    fn move_time(&mut self, unix_ms: u64) -> io::Result<()> {
        let unix_ms = unix_ms.min(self.options.now.0.max(0).unsigned_abs());
        if unix_ms > self.unix_ms {
            if !self.in_transaction {
                self.write_group()?;
            }
            self.unix_ms = unix_ms;
        }
        Ok(())
    }

    fn begin_transaction(&mut self) {
        self.in_transaction = true;
        self.group.extend_from_slice(MULTI_RECORD);
    }

    fn end_transaction(&mut self) -> io::Result<()> {
        self.in_transaction = false;
        self.group.extend_from_slice(EXEC_RECORD);
        self.write_if_large()
    }

    fn command(&mut self, text: &[u8]) -> io::Result<()> {
        if self.written_db != Some(self.db) {
            let db = itoa::Buffer::new().format(self.db).to_owned();
            encode::command(&mut self.group, &[b"SELECT", db.as_bytes()]);
            self.written_db = Some(self.db);
        }
        self.group.extend_from_slice(text);
        self.write_if_large()
    }

    fn write_if_large(&mut self) -> io::Result<()> {
        if self.in_transaction || self.group.len() < GROUP_BYTES {
            return Ok(());
        }
        self.write_group()
    }

    fn stamp(&self) -> Stamp {
        Stamp { db: self.written_db.unwrap_or(0), unix_ms: self.unix_ms }
    }

    fn write_group(&mut self) -> io::Result<()> {
        if self.group.is_empty() {
            return Ok(());
        }
        let stamp = self.stamp();
        self.tail.write_group(&mut self.group, 0, stamp, self.options.seals)?;
        self.group.clear();
        // One large command must not cost its memory to the end.
        self.group.shrink_to(2 * GROUP_BYTES);
        let end = self.tail.end();
        if end - self.written_out >= WRITE_OUT_BYTES {
            self.file.start_write_out(self.written_out, end - self.written_out)?;
            self.written_out = end;
        }
        Ok(())
    }

    /// Writes the rest and returns the file's length. Makes nothing durable.
    fn finish(mut self) -> io::Result<u64> {
        self.write_group()?;
        self.tail.close(self.stamp())?;
        Ok(self.tail.end())
    }
}
