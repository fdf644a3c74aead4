//! Seals a log anew that a person has edited on purpose.

use std::ffi::{OsStr, OsString};
use std::io;

use super::copy::{Copy, make};
use super::walk::{Bracket, Record, Walk};
use super::{Apply, File, ToolError, reading, run, selected};
use crate::persist::format::Annotation;
use crate::persist::load::{LoadError, LoadOptions, open_plain};
use crate::persist::storage::Storage;
use crate::persist::tail::Stamp;

/// A group is sealed at this size where no old seal ended it.
const GROUP_BYTES: usize = 1 << 20;

/// What was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// The copy's name; it is durable.
    pub copy: OsString,
    /// Length of what was read, bytes.
    pub read_bytes: u64,
    /// Commands, MULTI and EXEC left out.
    pub commands: u64,
    /// Groups that were made of them.
    pub groups: u64,
    /// Lines of the old seals that were dropped.
    pub dropped_lines: u64,
    /// Lines among them that begin with `#S` and are not well formed.
    pub malformed_lines: u64,
    /// Whether no old seal told a time, so that all groups state the present one.
    pub times_unknown: bool,
}

/// Writes `<name>.resealed`, which must not exist: every command and every comment of the file, in
/// their order, under new seals. All lines that begin with `#S` are dropped. A group ends where an
/// old seal stood, and states its time; commands with no seal behind them state the time of the
/// nearest one before. No time is later than `now_ms`, the present in milliseconds since the Unix
/// epoch, which also stands in where there is none.
///
/// The file is read twice, and judged whole before anything is written. `judge` gets every
/// command, MULTI and EXEC left out. Holds a read, or the largest group.
///
/// # Errors
/// [`ToolError`]; there is then no copy. [`ToolError::Load`] names the first command that does not
/// parse or that `judge` refuses.
pub fn reseal(
    storage: &dyn Storage,
    name: &OsStr,
    options: &LoadOptions,
    now_ms: u64,
    judge: &mut Apply<'_>,
) -> Result<Resealed, ToolError> {
    let failed = reading(storage, name);
    let reader = open_plain(storage, name, options.max_bulk_bytes)?
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let (file, total) = (File::clone(reader.file()), reader.total());
    let walk = || Walk::new(File::clone(&file), total, options.max_bulk_bytes);
    let mut sight = Sight { judge, commands: 0, lines: 0, malformed: 0, first_ms: None };
    sight.read(walk(), storage, name)?;
    let mut resealed = Resealed {
        copy: OsString::new(),
        read_bytes: total,
        commands: sight.commands,
        groups: 0,
        dropped_lines: sight.lines,
        malformed_lines: sight.malformed,
        times_unknown: sight.first_ms.is_none(),
    };
    // Ahead of the first old time stands what is older; never later than what is behind it.
    let unix_ms = sight.first_ms.unwrap_or(now_ms).min(now_ms);
    resealed.copy = make(storage, name, "resealed", |copy| {
        let group = Vec::with_capacity(GROUP_BYTES);
        let stamp = Stamp { db: 0, unix_ms };
        let mut sealer = Sealer { copy, group, stamp, now_ms, groups: 0, in_transaction: false };
        sealer.read(walk()).map_err(&failed)?;
        resealed.groups = sealer.groups;
        Ok(sealer.stamp)
    })?;
    Ok(resealed)
}

/// The first reading: is all of it in order, and when does it begin?
struct Sight<'a, 'b> {
    judge: &'a mut Apply<'b>,
    commands: u64,
    lines: u64,
    malformed: u64,
    /// The time in the first old header or seal.
    first_ms: Option<u64>,
}

impl Sight<'_, '_> {
    fn read(
        &mut self,
        mut walk: Walk,
        storage: &dyn Storage,
        name: &OsStr,
    ) -> Result<(), ToolError> {
        let failed = reading(storage, name);
        // Where the transaction began that is open.
        let mut open = None;
        loop {
            let offset = walk.position();
            let message = match walk.next().map_err(&failed)? {
                Err(stop) => Some((stop.at, format!("Cannot seal it: {}", stop.reason))),
                Ok(None) => open.map(|at| {
                    (at, "Cannot seal it: the file ends inside the transaction".to_owned())
                }),
                Ok(Some(Record::Line(line))) => {
                    self.line(line);
                    continue;
                }
                Ok(Some(Record::Command(mut view))) => match Bracket::of(view.text) {
                    Bracket::Multi => {
                        open = open.or(Some(offset));
                        continue;
                    }
                    Bracket::Exec => {
                        open = None;
                        continue;
                    }
                    Bracket::None => {
                        self.commands += 1;
                        let Err(why) = run(&mut view, self.judge) else { continue };
                        Some((offset, why))
                    }
                },
            };
            return match message {
                None => Ok(()),
                Some((offset, message)) => {
                    let path = storage.path_of(name);
                    Err(LoadError::Command { path, offset, message }.into())
                }
            };
        }
    }

    fn line(&mut self, line: &[u8]) {
        let unix_ms = match Annotation::of(line) {
            Annotation::Comment => return,
            Annotation::Header { unix_ms } => Some(unix_ms),
            Annotation::Seal(seal) => Some(seal.fields.unix_ms),
            Annotation::SealsOff => None,
            Annotation::Damaged => {
                self.malformed += 1;
                None
            }
        };
        self.lines += 1;
        self.first_ms = self.first_ms.or(unix_ms);
    }
}

/// The second reading: writes the groups.
struct Sealer<'a> {
    copy: &'a mut Copy,
    /// What is read and not sealed yet.
    group: Vec<u8>,
    /// The database now, and the last time that an old line has told.
    stamp: Stamp,
    now_ms: u64,
    groups: u64,
    in_transaction: bool,
}

impl Sealer<'_> {
    fn read(&mut self, mut walk: Walk) -> io::Result<()> {
        loop {
            let record = match walk.next()? {
                Ok(record) => record,
                Err(stop) => return Err(io::Error::other(stop.reason)),
            };
            let Some(record) = record else { return self.seal() };
            match record {
                Record::Line(line) => self.line(line)?,
                Record::Command(mut view) => {
                    match Bracket::of(view.text) {
                        Bracket::Multi => self.in_transaction = true,
                        Bracket::Exec => self.in_transaction = false,
                        Bracket::None => {
                            self.stamp.db = selected(&mut view).unwrap_or(self.stamp.db);
                        }
                    }
                    self.group.extend_from_slice(view.text);
                    if self.group.len() >= GROUP_BYTES {
                        self.seal()?;
                    }
                }
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        match Annotation::of(line) {
            Annotation::Comment => self.group.extend_from_slice(line),
            Annotation::Header { unix_ms } => self.set_time(unix_ms),
            Annotation::Seal(seal) => {
                self.set_time(seal.fields.unix_ms);
                self.seal()?;
            }
            Annotation::SealsOff | Annotation::Damaged => {}
        }
        Ok(())
    }

    fn set_time(&mut self, unix_ms: u64) {
        self.stamp.unix_ms = self.stamp.unix_ms.max(unix_ms.min(self.now_ms));
    }

    /// Seals what has been read. Inside a transaction, where no seal may stand, it waits for the
    /// next occasion.
    fn seal(&mut self) -> io::Result<()> {
        if self.in_transaction || self.group.is_empty() {
            return Ok(());
        }
        self.copy.group(&self.group, self.stamp)?;
        self.groups += 1;
        self.group.clear();
        self.group.shrink_to(GROUP_BYTES);
        Ok(())
    }
}
