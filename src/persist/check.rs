//! Telling what a file holds without starting on it, and repairing it.
//!
//! A check follows the same chain and passes the same judgement as a start does; it looks at form
//! and seals, and executes nothing. A repair keeps all that is good and gives up what stands behind
//! it; the original stays, under its own name or beside it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use super::beside;
use super::chain::{ChainReader, Next, Region, Stop};
use super::damage::{Damage, KeyPosition, Verdict};
use super::format::SealFields;
use super::load::{LoadError, LoadOptions, open_plain};
use super::records::Role;
use super::storage::{LogFile, Storage, describe};
use super::tools::{Header, header_behind};
use crate::sys::clock::UnixMs;
use crate::sys::local_time::LocalTime;

pub mod json;

/// How many stretches behind damage are told apart.
const MAX_STRETCHES: usize = 10_000;
/// How many further damages a report prints.
const PRINTED_DAMAGES: usize = 20;

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub total_bytes: u64,
    /// File offset where what is good ends.
    pub end: u64,
    /// Commands in the good part, MULTI and EXEC left out.
    pub commands: u64,
    /// Those of them that no seal covers.
    pub unsealed_commands: u64,
    /// Transactions in the good part.
    pub transactions: u64,
    /// Seals in the good part.
    pub seals: u64,
    /// The 16 hexadecimal digits of the first header.
    pub generation: Option<String>,
    /// What the first header states, milliseconds since the Unix epoch: of a file that begins with
    /// a base, when that was forked.
    pub first_ms: Option<u64>,
    /// What the first seal states, milliseconds since the Unix epoch.
    pub first_seal_ms: Option<u64>,
    /// What the last seal states, milliseconds since the Unix epoch.
    pub last_ms: Option<u64>,
    /// File offset where the base ends, its closing seals included, if the file begins with one.
    pub base_end: Option<u64>,
    /// File offset up to which the last seal states the file to have been durable.
    pub durable: Option<u64>,
    /// Whether the file ends in the seals of a shutdown in order, or of a rewrite.
    pub closed: bool,
    /// What is wrong first, if anything is.
    pub damage: Option<Damage>,
    /// The stretches behind the damage that still verify, in the order of the file. Beyond 10,000
    /// the last one stands for all that follow.
    pub intact: Vec<Stretch>,
}

/// Groups behind damage each of which verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// File offset where the first group begins.
    pub from: u64,
    /// File offset where the last group's seal ends.
    pub end: u64,
    /// How many groups.
    pub groups: u64,
    /// Commands in them, MULTI and EXEC left out.
    pub commands: u64,
    /// File offset up to which they state the file to have been durable.
    pub durable: u64,
}

/// Damage behind the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FurtherDamage {
    /// File offset where it begins.
    pub from: u64,
    /// File offset where groups verify again, or where the file ends.
    pub end: u64,
    /// Whether a seal behind it shows that something in it had been promised.
    pub promised: bool,
}

/// Why a repair was not made. The original is as it was, unless the text says otherwise.
#[derive(Debug)]
pub struct RepairError {
    doing: &'static str,
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for RepairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cannot {} {}: {}", self.doing, self.path.display(), describe(&self.error))
    }
}

impl std::error::Error for RepairError {}

/// Reads the whole file `name` and tells what it holds. Nothing is changed on disk. Of `options`
/// only the longest argument and the key positions count.
///
/// # Errors
/// [`LoadError::Io`] if the file cannot be read or is not there, [`LoadError::RdbPreamble`] if it
/// is not plain. Damage is no error but part of the report.
pub fn check(
    storage: &dyn Storage,
    name: &OsStr,
    options: &LoadOptions,
) -> Result<CheckReport, LoadError> {
    let path = storage.path_of(name);
    let failed = |error| LoadError::Io { path: path.clone(), doing: "reading", error };
    let reader = open_plain(storage, name, options.max_bulk_bytes)?;
    let mut reader = reader.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let mut report = CheckReport {
        path: path.clone(),
        total_bytes: reader.total(),
        end: 0,
        commands: 0,
        unsealed_commands: 0,
        transactions: 0,
        seals: 0,
        generation: None,
        first_ms: None,
        first_seal_ms: None,
        last_ms: None,
        base_end: None,
        durable: None,
        closed: false,
        damage: None,
        intact: Vec::new(),
    };
    let mut base = None;
    let stop = loop {
        let (before, seal_before) = (reader.end(), reader.last_seal);
        let next = reader.next().map_err(failed)?;
        if report.generation.is_none() && reader.first_ms.is_some() {
            let header = header_behind(&**reader.file(), before).map_err(failed)?;
            base = header.as_ref().filter(|_| before == 0).map(Base::behind);
            report.generation = header.map(|header| header.generation());
        }
        match next {
            Next::Batch => report.count(&reader, reader.last_seal != seal_before),
            Next::End => break None,
            Next::Stop(stop) => break Some(stop),
        }
        if let Some(seen) = &mut base
            && seen.has_ended(&reader)
        {
            report.base_end = Some(reader.end()).filter(|_| seen.is_closed());
            base = None;
        }
    };
    report.end = reader.end();
    report.first_ms = reader.first_ms;
    report.last_ms = reader.last_seal.map(|_| reader.last_ms());
    report.durable = reader.last_seal.map(|seal| seal.durable);
    report.closed = stop.is_none() && reader.closed();
    if let Some(stop) = stop {
        report.find_damage(&reader, stop, options.key_position).map_err(failed)?;
    }
    Ok(report)
}

/// Finds the end of the base that a file begins with: its seals state one time, the header's, and
/// their own end to be durable, and the last two stand over nothing.
struct Base {
    unix_ms: u64,
    closing_seals: u32,
}

impl Base {
    fn behind(header: &Header) -> Base {
        Base { unix_ms: header.unix_ms, closing_seals: 0 }
    }

    /// Whether the group that `reader` has just read is the last of the base, or none of it.
    fn has_ended(&mut self, reader: &ChainReader) -> bool {
        let sealed = matches!(reader.region, Region::Sealed(_));
        let of_base = |seal: SealFields| seal.unix_ms == self.unix_ms && seal.durable == seal.end;
        if !sealed || !reader.last_seal.is_some_and(of_base) {
            self.closing_seals = 0;
            return true;
        }
        self.closing_seals = if reader.closed() { self.closing_seals + 1 } else { 0 };
        self.is_closed()
    }

    fn is_closed(&self) -> bool {
        self.closing_seals == 2
    }
}

fn plain_commands(reader: &ChainReader) -> u64 {
    reader.batch().commands.iter().filter(|command| command.role == Role::Plain).count() as u64
}

impl CheckReport {
    fn count(&mut self, reader: &ChainReader, sealed: bool) {
        let commands = plain_commands(reader);
        self.commands += commands;
        self.unsealed_commands += if sealed { 0 } else { commands };
        self.seals += u64::from(sealed);
        if sealed {
            self.first_seal_ms = self.first_seal_ms.or(reader.last_seal.map(|seal| seal.unix_ms));
        }
        let begun = reader.batch().commands.iter().filter(|command| command.role == Role::Begin);
        self.transactions += begun.count() as u64;
    }

    fn find_damage(
        &mut self,
        reader: &ChainReader,
        stop: Stop,
        key_position: KeyPosition,
    ) -> io::Result<()> {
        self.damage = Some(reader.judge(stop, key_position)?);
        let intact = &mut self.intact;
        reader.visit_intact(|from, group| {
            let durable = group.last_seal.map_or(0, |seal| seal.durable);
            let commands = plain_commands(group);
            let same_or_full =
                intact.len() >= MAX_STRETCHES || intact.last().is_some_and(|s| s.from == from);
            match intact.last_mut() {
                Some(stretch) if same_or_full => {
                    stretch.end = group.end();
                    stretch.groups += 1;
                    stretch.commands += commands;
                    stretch.durable = stretch.durable.max(durable);
                }
                _ => {
                    let end = group.end();
                    intact.push(Stretch { from, end, groups: 1, commands, durable });
                }
            }
            ControlFlow::<()>::Continue(())
        })?;
        Ok(())
    }

    /// The damages behind the first one, each judged as the first is: something in it had been
    /// promised if a seal behind it states so.
    #[must_use]
    pub fn further_damage(&self) -> Vec<FurtherDamage> {
        let mut found = Vec::new();
        let mut behind = (self.total_bytes, 0);
        for stretch in self.intact.iter().rev() {
            let (end, durable) = behind;
            if stretch.end < end {
                let promised = durable > stretch.end;
                found.push(FurtherDamage { from: stretch.end, end, promised });
            }
            behind = (stretch.from, durable.max(stretch.durable));
        }
        found.reverse();
        found
    }
}

/// Writes what is good of the file to `<name>.fixed`, which must not exist yet, and makes the copy
/// durable. The file itself is left alone.
///
/// # Errors
/// [`RepairError`]; there is then no copy.
pub fn write_fixed(
    storage: &dyn Storage,
    name: &OsStr,
    report: &CheckReport,
) -> Result<OsString, RepairError> {
    let fixed = beside::name_beside(name, "fixed");
    let failed = |doing| {
        let path = storage.path_of(&fixed);
        move |error| RepairError { doing, path, error }
    };
    let copy = storage.create(&fixed).map_err(failed("create the repaired copy"))?;
    let write = || {
        let file = open_unchanged(storage, name, report)?;
        beside::copy(&*file, 0..report.end, &*copy)?;
        // Durable before anyone is told that it is there: it is meant to replace the original.
        copy.sync_data()?;
        storage.sync_dir()
    };
    if let Err(error) = write() {
        // Half a copy must not be taken for a whole one. If it cannot be removed either, the next
        // try stumbles over it and names it.
        storage.remove(&fixed).ok();
        return Err(failed("write the repaired copy")(error));
    }
    Ok(fixed)
}

/// Cuts the file at the end of what is good, after a whole copy of it has been kept as
/// `<name>.before-fix-<offset>` (or the first free of `...-2`, `-3`, ...). Returns the copy's name.
///
/// The file keeps its inode, and so its owner and mode. At whatever moment the power goes, the file
/// holds all that is good, and all that it held is on the disk, in it or in the copy.
///
/// # Errors
/// [`RepairError`]. If the cut itself failed, the copy stays.
pub fn fix_in_place(
    storage: &dyn Storage,
    name: &OsStr,
    report: &CheckReport,
) -> Result<OsString, RepairError> {
    let at_file = |doing| move |error| RepairError { doing, path: report.path.clone(), error };
    let file = open_unchanged(storage, name, report).map_err(at_file("open"))?;
    let ending = format!("before-fix-{}", report.end);
    let (copy, kept) =
        beside::create_free(storage, name, &ending).map_err(at_file("create a copy beside"))?;
    let keep = || {
        beside::copy(&*file, 0..report.total_bytes, &*copy)?;
        // The copy's bytes and then its name are durable before the original loses anything: a
        // crash in between leaves the damaged bytes twice, never not at all.
        copy.sync_data()?;
        storage.sync_dir()
    };
    if let Err(error) = keep() {
        // As above: half a copy is of no use, and the first error is the one to tell.
        storage.remove(&kept).ok();
        return Err(RepairError { doing: "copy to", path: storage.path_of(&kept), error });
    }
    file.truncate(report.end).map_err(at_file("cut"))?;
    // The new end is durable before a server is told to go on there: otherwise a crash could bring
    // the damaged tail back, behind or mixed with what was appended meanwhile.
    file.sync_data().map_err(at_file("sync, after it was cut,"))?;
    Ok(kept)
}

/// Opens the file again, if it is still as long as it was when it was checked.
fn open_unchanged(
    storage: &dyn Storage,
    name: &OsStr,
    report: &CheckReport,
) -> io::Result<Arc<dyn LogFile>> {
    let file = storage.open(name)?.ok_or(io::ErrorKind::NotFound)?;
    if file.size()? == report.total_bytes {
        return Ok(file);
    }
    Err(io::Error::other("the file changed while it was checked"))
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} bytes", self.path.display(), self.total_bytes)?;
        writeln!(f, "Commands: {} ({} transactions)", self.commands, self.transactions)?;
        if self.seals == 0 {
            writeln!(f, "Seals: none")?;
        } else {
            write!(f, "Seals: {}", self.seals)?;
            match self.unsealed_commands {
                0 => writeln!(f)?,
                unsealed => writeln!(f, "; {unsealed} commands are not sealed")?,
            }
        }
        if let (Some(first), Some(last)) = (self.first_ms, self.last_ms) {
            writeln!(f, "Time: {} to {}", Moment(first), Moment(last))?;
        }
        if let Some(durable) = self.durable {
            writeln!(f, "Known durable: up to offset {durable}, as the last good seal states")?;
        }
        let Some(damage) = &self.damage else {
            let end = if self.closed { "; it ends as a shutdown in order leaves it" } else { "" };
            let form = match self.unsealed_commands {
                0 => "",
                _ => "; of what is not sealed only the form can be checked",
            };
            return writeln!(f, "Result: clean{end}{form}");
        };
        writeln!(f, "Result: {}", summary(damage.verdict))?;
        self.describe_damage(f, damage)
    }
}

impl CheckReport {
    fn describe_damage(&self, f: &mut fmt::Formatter<'_>, damage: &Damage) -> fmt::Result {
        let Damage { stop, end, bytes, verdict, first_key } = damage;
        writeln!(f, "\nFirst damage: at offset {}: {}", stop.at, stop.reason)?;
        writeln!(f, "  Good up to offset {end}; {bytes} bytes stand behind it.")?;
        match verdict {
            Verdict::Promised { until } => writeln!(
                f,
                "  Promised data is damaged: a later seal that is intact shows that the file was \
                 durable up to offset {until}. No server starts on this file."
            )?,
            Verdict::NeverPromised => writeln!(
                f,
                "  Nothing in it was ever promised: it is what a crash leaves of a write. A server \
                 cuts it off at its start, unless aof-load-truncated is no."
            )?,
            Verdict::TornUnsealed => writeln!(
                f,
                "  It is not sealed: nobody can tell what was promised of it. A server cuts it off \
                 at its start, unless aof-load-truncated is no."
            )?,
            Verdict::BadUnsealed => writeln!(
                f,
                "  It is not sealed: nobody can tell what was promised of it. No server starts on \
                 this file."
            )?,
        }
        match first_key {
            Some(key) => writeln!(f, "  First key affected: {key}")?,
            None => writeln!(f, "  First key affected: cannot be told")?,
        }
        let groups: u64 = self.intact.iter().map(|stretch| stretch.groups).sum();
        let commands: u64 = self.intact.iter().map(|stretch| stretch.commands).sum();
        if let (Some(first), Some(last)) = (self.intact.first(), self.intact.last()) {
            writeln!(
                f,
                "  Behind it {groups} groups with {commands} commands are intact, from offset {} \
                 to {}; without what is damaged before them they are not loaded.",
                first.from, last.end
            )?;
        }
        let further = self.further_damage();
        for FurtherDamage { from, end, promised } in further.iter().take(PRINTED_DAMAGES) {
            let what = if *promised { "promised data" } else { "nothing that was promised" };
            writeln!(f, "Further damage: from offset {from} to {end}: {what}")?;
        }
        match further.len().checked_sub(PRINTED_DAMAGES) {
            None | Some(0) => Ok(()),
            Some(more) => writeln!(f, "Further damage: in {more} more places"),
        }
    }
}

fn summary(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Promised { .. } => "promised data is damaged",
        Verdict::NeverPromised => "an un-promised tail is to be cut off",
        Verdict::TornUnsealed => "the file ends too early",
        Verdict::BadUnsealed => "damaged",
    }
}

/// A time from the file, in milliseconds since the Unix epoch: shown for people and, in
/// parentheses, for other tools.
#[derive(Clone, Copy, Debug)]
pub struct Moment(pub u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(time) = i64::try_from(self.0).ok().and_then(|ms| LocalTime::at(UnixMs(ms))) {
            let LocalTime { year, month, day, hour, minute, second, millisecond } = time;
            write!(
                f,
                "{year:04}-{:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millisecond:03} ",
                month + 1
            )?;
        }
        write!(f, "({})", self.0)
    }
}
