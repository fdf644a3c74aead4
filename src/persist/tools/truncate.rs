//! A log as it was at some moment.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;

use super::copy::make;
use super::{ToolError, header_behind, reading, selected};
use crate::persist::beside::name_beside;
use crate::persist::chain::{ChainReader, Next, Region, Stop};
use crate::persist::damage::Verdict;
use crate::persist::load::{LoadOptions, open_plain};
use crate::persist::records::Role;
use crate::persist::storage::Storage;
use crate::persist::tail::{Chain, Stamp};

/// What stands between a log's name and the moment of the fork in the name of a file that was kept
/// from before a rewrite.
const KEPT_INFIX: &str = ".before-";

/// A copy that ends at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointInTime {
    /// The copy's name; it is durable.
    pub copy: OsString,
    /// Bytes of the file that it holds.
    pub end: u64,
    /// Bytes of the file that it does not.
    pub left_bytes: u64,
    /// Commands in it, MULTI and EXEC left out.
    pub commands: u64,
    /// The time of its last group, milliseconds since the Unix epoch.
    pub last_ms: u64,
    /// The time of the first group that it does not hold, if a later one was seen.
    pub next_ms: Option<u64>,
}

/// Writes `<name>.until-<until_ms>`, which must not exist: all that was written up to the moment
/// `until_ms` (milliseconds since the Unix epoch), as the seals state it. Holds a read, or the
/// largest group.
///
/// # Errors
/// [`ToolError`]; there is then no copy. [`ToolError::Refused`] if the file begins later than
/// that (it names the file kept from before a rewrite that does not, if there is one), if what
/// counts is not sealed and so has no time, or if promised data is damaged ahead of that moment.
pub fn truncate_to_time(
    storage: &dyn Storage,
    name: &OsStr,
    options: &LoadOptions,
    until_ms: u64,
) -> Result<PointInTime, ToolError> {
    let failed = reading(storage, name);
    let mut reader = open_plain(storage, name, options.max_bulk_bytes)?
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let mut state = State::default();
    let refused = |why: String| Err(ToolError::Refused(why));
    match state.read(&mut reader, until_ms).map_err(&failed)? {
        Ended::AtMoment => {}
        Ended::BeginsLater { begins_ms } => {
            return refused(begins_later(storage, name, options, until_ms, begins_ms));
        }
        Ended::Unsealed { from, to } => {
            return refused(format!(
                "{} holds from offset {from} to {to} what is not sealed: nobody can tell what of \
                 it was written up to {until_ms}",
                storage.path_of(name).display()
            ));
        }
        Ended::Stopped(stop) => {
            let damage = reader.judge(stop, options.key_position).map_err(&failed)?;
            if damage.verdict != Verdict::NeverPromised {
                return refused(format!(
                    "{} is damaged at offset {}, ahead of what was written at {until_ms}: {}. \
                     Look at it with --check-aof, and repair a copy first",
                    storage.path_of(name).display(),
                    stop.at,
                    stop.reason
                ));
            }
        }
    }
    let State { end, chain, last_ms, commands, db, next_ms, .. } = state;
    let copy = make(storage, name, &format!("until-{until_ms}"), |copy| {
        copy.take_head(&**reader.file(), end, chain, last_ms).map_err(&failed)?;
        Ok(Stamp { db, unix_ms: last_ms })
    })?;
    let left_bytes = reader.total() - end;
    Ok(PointInTime { copy, end, left_bytes, commands, last_ms, next_ms })
}

/// What is to be copied, as far as it is known.
struct State {
    /// File offset where it ends.
    end: u64,
    chain: Chain,
    last_ms: u64,
    commands: u64,
    db: u64,
    next_ms: Option<u64>,
    /// Commands behind `end` that are not sealed, and so have no time of their own.
    pending: Pending,
}

#[derive(Clone, Copy, Default)]
struct Pending {
    commands: u64,
    db: Option<u64>,
}

impl Default for State {
    fn default() -> State {
        State {
            end: 0,
            chain: Chain::Unsealed,
            last_ms: 0,
            commands: 0,
            db: 0,
            next_ms: None,
            pending: Pending::default(),
        }
    }
}

/// Why reading ended.
enum Ended {
    /// All that was written up to the moment has been read.
    AtMoment,
    /// The first time in the file is a later one.
    BeginsLater {
        begins_ms: u64,
    },
    /// The moment lies in an unsealed part, or may.
    Unsealed {
        from: u64,
        to: u64,
    },
    Stopped(Stop),
}

impl State {
    fn read(&mut self, reader: &mut ChainReader, until_ms: u64) -> io::Result<Ended> {
        let mut is_first = true;
        loop {
            if matches!(reader.region, Region::Unsealed)
                && let Some(header) = header_behind(&**reader.file(), reader.end())?
            {
                if header.unix_ms > until_ms {
                    self.next_ms = Some(header.unix_ms);
                    let begins_ms = header.unix_ms;
                    return Ok(if is_first {
                        Ended::BeginsLater { begins_ms }
                    } else {
                        self.at_moment(reader.end())
                    });
                }
                // What stands ahead of the header is older than it.
                self.accept(header.end, Chain::Sealed(header.line), header.unix_ms);
                is_first = false;
            }
            let seal_before = reader.last_seal;
            match reader.next()? {
                Next::Batch => {}
                Next::End => return Ok(self.at_moment(reader.end())),
                Next::Stop(stop) => return Ok(Ended::Stopped(stop)),
            }
            match reader.last_seal {
                Some(seal) if reader.last_seal != seal_before => {
                    if seal.unix_ms > until_ms {
                        self.next_ms = Some(seal.unix_ms);
                        return Ok(Ended::AtMoment);
                    }
                    self.count(reader);
                    self.accept(reader.end(), reader.chain(), reader.last_ms());
                    self.db = seal.db;
                }
                _ => self.count(reader),
            }
        }
    }

    fn count(&mut self, reader: &ChainReader) {
        for (index, command) in reader.batch().commands.iter().enumerate() {
            if command.role == Role::Plain {
                self.pending.commands += 1;
                let db = reader.command(index).and_then(|mut view| selected(&mut view));
                self.pending.db = db.or(self.pending.db);
            }
        }
    }

    fn accept(&mut self, end: u64, chain: Chain, last_ms: u64) {
        let pending = std::mem::take(&mut self.pending);
        self.commands += pending.commands;
        self.db = pending.db.unwrap_or(self.db);
        (self.end, self.chain, self.last_ms) = (end, chain, last_ms);
    }

    /// The end of reading at `to`.
    fn at_moment(&self, to: u64) -> Ended {
        match self.pending.commands {
            0 => Ended::AtMoment,
            _ => Ended::Unsealed { from: self.end, to },
        }
    }
}

fn begins_later(
    storage: &dyn Storage,
    name: &OsStr,
    options: &LoadOptions,
    until_ms: u64,
    begins_ms: u64,
) -> String {
    let path = storage.path_of(name);
    let path = path.display();
    let kept = match kept_file_covering(storage, name, options, until_ms) {
        Ok(Some(kept)) => {
            format!("{} does: it was kept from before a rewrite", kept.display())
        }
        Ok(None) => "No file kept beside it from before a rewrite does either".to_owned(),
        Err(error) => format!(
            "Files kept beside it from before a rewrite could not be looked at: {}",
            super::describe(&error)
        ),
    };
    format!(
        "{path} does not reach back to {until_ms}: it begins with the data of {begins_ms}. {kept}"
    )
}

/// The file kept from before a rewrite that holds the moment `until_ms`: of those that begin no
/// later, the one whose fork came first behind it.
fn kept_file_covering(
    storage: &dyn Storage,
    name: &OsStr,
    options: &LoadOptions,
    until_ms: u64,
) -> io::Result<Option<PathBuf>> {
    let log = log_name(name);
    let mut kept: Vec<(u64, OsString)> = Vec::new();
    for found in storage.list()? {
        if let Some(forked_ms) = forked_ms(&found, log)
            && forked_ms >= until_ms
            && found != name
        {
            kept.push((forked_ms, found));
        }
    }
    kept.sort();
    for (forked_ms, found) in kept {
        // One that cannot be read is no help, and what is wrong with it is not asked here.
        let Ok(Some(mut reader)) = open_plain(storage, &found, options.max_bulk_bytes) else {
            continue;
        };
        while reader.first_ms.is_none() && matches!(reader.next(), Ok(Next::Batch)) {}
        if reader.first_ms.is_some_and(|begins_ms| begins_ms <= until_ms) {
            debug_assert!(forked_ms >= until_ms);
            return Ok(Some(storage.path_of(&found)));
        }
    }
    Ok(None)
}

/// The name of the log that `name` is, or was kept from.
fn log_name(name: &OsStr) -> &OsStr {
    let Some(text) = name.to_str() else { return name };
    let log = text.rsplit_once(KEPT_INFIX).filter(|(_, digits)| moment(digits).is_some());
    log.map_or(name, |(log, _)| OsStr::new(log))
}

/// The moment of the fork, if `found` is a file kept from before a rewrite of `log`.
fn forked_ms(found: &OsStr, log: &OsStr) -> Option<u64> {
    let head = name_beside(log, "before-");
    let digits = found.as_encoded_bytes().strip_prefix(head.as_encoded_bytes())?;
    moment(std::str::from_utf8(digits).ok()?)
}

fn moment(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}
