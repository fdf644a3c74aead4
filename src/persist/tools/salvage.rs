//! Keeps, of a damaged log, the groups behind the damage too.
//!
//! A group that verifies is known to be what was written, but not what was written before it. So
//! the copy is no state that ever was: a key whose SET is lost keeps its older value, and the INCR
//! behind it counts from there. What a group needs to be put in its place is the database that it
//! begins in, which the seal before it states, and which its checksum covers.

use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::{ControlFlow, Range};

use memchr::memmem;

use super::copy::{Copy, make};
use super::{Apply, ToolError, must_be_unchanged, reading, run, selected};
use crate::persist::chain::{ChainReader, Next, READ_BYTES};
use crate::persist::check::{CheckReport, FurtherDamage};
use crate::persist::damage::Verdict;
use crate::persist::format::{Annotation, MAX_LINE_BYTES, RESERVED_PREFIX, SEAL_PREFIX};
use crate::persist::load::{LoadError, LoadOptions, open_plain};
use crate::persist::records::Role;
use crate::persist::storage::{LogFile, Storage, read_full_at};
use crate::persist::tail::Stamp;
use crate::resp::args::{Args, Span};
use crate::resp::encode;

/// How many commands that were left out are told one by one.
const TOLD_COMMANDS: usize = 20;

/// What a salvage came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// The copy's name; it is durable.
    pub copy: OsString,
    /// Bytes ahead of the first damage, taken as they were.
    pub head_bytes: u64,
    /// Commands in the copy, MULTI and EXEC left out.
    pub commands: u64,
    /// Groups kept that stood behind damage.
    pub groups_behind: u64,
    /// Commands in them.
    pub commands_behind: u64,
    /// What is lost, in the order of the file.
    pub lost: Vec<Lost>,
    /// Commands behind damage that cannot be run without what is lost; they were left out.
    pub left_out: u64,
    /// The first 20 of them.
    pub first_left_out: Vec<LeftOut>,
    /// Groups behind damage that verify, but of which nobody can tell the database; they were
    /// left out. (Sealing was switched on there, and what it began behind is damaged.)
    pub unplaced_groups: u64,
}

/// A stretch of the file that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// File offsets.
    pub range: Range<u64>,
    /// Whether a seal behind it shows that something in it had been promised.
    pub promised: bool,
    /// How many groups stood in it at least: so many seals in it can still be told by their place.
    pub groups_at_least: u64,
}

/// A command that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// File offset of the command.
    pub offset: u64,
    /// Why it cannot be run, as the executing side says.
    pub why: String,
}

/// Writes `<name>.salvaged`, which must not exist: all that is good up to the first damage, byte
/// for byte, and behind it every group that still verifies, sealed anew with its own time.
/// `report` is what [`check`](crate::persist::check::check) has just said of the file.
///
/// Where something is kept behind damage, every command is run by `apply`, in order: one that
/// fails behind the damage is left out, since no server would start on it. That takes the memory
/// that a start takes; else a read, or the largest group, is held.
///
/// # Errors
/// [`ToolError`]; there is then no copy. [`ToolError::Refused`] if a command ahead of the damage,
/// or a SELECT, fails.
pub fn salvage(
    storage: &dyn Storage,
    name: &OsStr,
    report: &CheckReport,
    options: &LoadOptions,
    apply: &mut Apply<'_>,
) -> Result<Salvaged, ToolError> {
    let failed = reading(storage, name);
    let mut reader = open_plain(storage, name, options.max_bulk_bytes)?
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    must_be_unchanged(storage.path_of(name), reader.total(), report.total_bytes)?;
    let mut salvaged = Salvaged {
        copy: OsString::new(),
        head_bytes: report.end,
        commands: report.commands,
        groups_behind: 0,
        commands_behind: 0,
        lost: lost(&**reader.file(), report).map_err(&failed)?,
        left_out: 0,
        first_left_out: Vec::new(),
        unplaced_groups: 0,
    };
    let mut head_db = 0;
    read_head(storage, name, &mut reader, report, |command| {
        head_db = selected(command.view).unwrap_or(head_db);
        // Without anything behind there is nothing that the head would have to be run for.
        if report.intact.is_empty() {
            return Ok(());
        }
        run(command.view, apply).map_err(|why| command.refused(storage, name, &why))
    })?;
    salvaged.copy = make(storage, name, "salvaged", |copy| {
        copy.take_head(&**reader.file(), reader.end(), reader.chain(), reader.last_ms())
            .map_err(&failed)?;
        let mut behind =
            Behind { storage, name, copy, apply, told: &mut salvaged, stretch: None, select: None };
        let visited = reader.visit_intact(|from, group| match behind.keep(from, group) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        });
        if let Some(error) = visited.map_err(&failed)? {
            return Err(error);
        }
        let db = behind.stretch.map_or(head_db, |stretch| stretch.db);
        Ok(Stamp { db, unix_ms: 0 })
    })?;
    Ok(salvaged)
}

/// A command ahead of the damage.
struct HeadCommand<'a, 'b> {
    view: &'a mut super::CommandView<'b>,
    offset: u64,
}

impl HeadCommand<'_, '_> {
    fn refused(&self, storage: &dyn Storage, name: &OsStr, why: &str) -> ToolError {
        let path = storage.path_of(name);
        let (offset, message) = (self.offset, why.to_owned());
        ToolError::Load(LoadError::Command { path, offset, message })
    }
}

/// Reads up to the first damage.
fn read_head(
    storage: &dyn Storage,
    name: &OsStr,
    reader: &mut ChainReader,
    report: &CheckReport,
    mut visit: impl FnMut(HeadCommand<'_, '_>) -> Result<(), ToolError>,
) -> Result<(), ToolError> {
    let failed = reading(storage, name);
    while let Next::Batch = reader.next().map_err(&failed)? {
        for (index, command) in reader.batch().commands.iter().enumerate() {
            let Some(mut view) = reader.command(index) else { continue };
            if command.role == Role::Plain {
                visit(HeadCommand { view: &mut view, offset: reader.offset_of(index) })?;
            }
        }
    }
    if reader.end() == report.end {
        return Ok(());
    }
    Err(failed(io::Error::other("it does not read twice alike: mistrust this disk")))
}

/// Where reading behind the damage has come to.
#[derive(Clone, Copy)]
struct Stretch {
    /// File offset where it begins.
    from: u64,
    /// The database at its last group's end.
    db: u64,
}

/// Keeps groups behind damage.
struct Behind<'a, 'b> {
    storage: &'a dyn Storage,
    name: &'a OsStr,
    copy: &'a mut Copy,
    apply: &'a mut Apply<'b>,
    told: &'a mut Salvaged,
    stretch: Option<Stretch>,
    /// The database that the next group begins in, where the copy must be told.
    select: Option<u64>,
}

impl Behind<'_, '_> {
    /// Keeps the group that `group` has just read.
    fn keep(&mut self, from: u64, group: &ChainReader) -> Result<(), ToolError> {
        let failed = reading(self.storage, self.name);
        let Some(seal) = group.last_seal else { return Ok(()) };
        if self.stretch.is_none_or(|stretch| stretch.from != from) {
            let before = db_before(&**group.file(), from).map_err(&failed)?;
            self.select = before.or_else(|| db_within(group, seal.db));
            let is_placed = self.select.is_some() || selects_first(group);
            self.stretch = Some(Stretch { from, db: seal.db });
            if !is_placed {
                self.told.unplaced_groups += 1;
                self.select = Some(seal.db);
                return Ok(());
            }
        }
        self.stretch = Some(Stretch { from, db: seal.db });
        let mut text = Vec::new();
        let commands = self.commands(group, &mut text)?;
        if !text.is_empty() {
            let stamp = Stamp { db: seal.db, unix_ms: seal.unix_ms };
            self.copy.group(&text, stamp).map_err(&failed)?;
            self.told.groups_behind += 1;
            self.told.commands_behind += commands;
            self.told.commands += commands;
        }
        Ok(())
    }

    /// Appends the group's commands to `text`, those left out that fail, and counts the others.
    fn commands(&mut self, group: &ChainReader, text: &mut Vec<u8>) -> Result<u64, ToolError> {
        let batch = group.batch();
        let mut commands = 0;
        if let Some(db) = self.select.take()
            && !batch.commands.is_empty()
        {
            let number = db.to_string();
            encode::command(text, &[b"SELECT", number.as_bytes()]);
            let words = ["SELECT", &number].concat();
            let spans = [Span::new(0, 6), Span::new(6, number.len())];
            let mut args = Args::new(words.as_bytes(), &spans, &mut [], None);
            (self.apply)(&mut args).map_err(|why| self.refused(group.end(), &why))?;
            commands += 1;
        }
        for (index, command) in batch.commands.iter().enumerate() {
            let Some(mut view) = group.command(index) else { continue };
            if command.role == Role::Plain {
                let is_select = selected(&mut view).is_some();
                if let Err(why) = run(&mut view, self.apply) {
                    let offset = group.offset_of(index);
                    if is_select {
                        return Err(self.refused(offset, &why));
                    }
                    self.told.left_out += 1;
                    if self.told.first_left_out.len() < TOLD_COMMANDS {
                        self.told.first_left_out.push(LeftOut { offset, why });
                    }
                    continue;
                }
                commands += 1;
            }
            text.extend_from_slice(view.text);
        }
        Ok(commands)
    }

    fn refused(&self, offset: u64, why: &str) -> ToolError {
        let path = self.storage.path_of(self.name);
        ToolError::Load(LoadError::Command { path, offset, message: why.to_owned() })
    }
}

/// The database that a stretch of groups begins in, as the seal before it states; `None` if a
/// header stands there. The checksum of the stretch's first group covers that line.
fn db_before(file: &dyn LogFile, from: u64) -> io::Result<Option<u64>> {
    let mut buf = [0; MAX_LINE_BYTES];
    let wanted = from.min(MAX_LINE_BYTES as u64) as usize;
    let room = buf.get_mut(..wanted).unwrap_or_default();
    let filled = read_full_at(file, room, from - wanted as u64)?;
    let bytes = buf.get(..filled).unwrap_or(&[]);
    // A seal has one `#`, its first byte.
    let start = memmem::rfind(bytes, RESERVED_PREFIX).unwrap_or(filled);
    Ok(match Annotation::of(bytes.get(start..).unwrap_or(&[])) {
        Annotation::Seal(seal) => Some(seal.fields.db),
        _ => None,
    })
}

/// The database that a group begins in, where it cannot have changed within.
fn db_within(group: &ChainReader, at_end: u64) -> Option<u64> {
    let commands = group.batch().commands.len();
    let mut views = (0..commands).filter_map(|index| group.command(index));
    (!views.any(|mut view| selected(&mut view).is_some())).then_some(at_end)
}

/// Whether the group says its database ahead of all else.
fn selects_first(group: &ChainReader) -> bool {
    let plain = group.batch().commands.iter().position(|command| command.role == Role::Plain);
    let first = plain.and_then(|index| group.command(index));
    first.is_some_and(|mut view| selected(&mut view).is_some())
}

/// What stands between and behind what is kept.
fn lost(file: &dyn LogFile, report: &CheckReport) -> io::Result<Vec<Lost>> {
    let Some(damage) = &report.damage else { return Ok(Vec::new()) };
    let first = FurtherDamage {
        from: report.end,
        end: report.intact.first().map_or(report.total_bytes, |stretch| stretch.from),
        promised: matches!(damage.verdict, Verdict::Promised { .. }),
    };
    let all = std::iter::once(first).chain(report.further_damage());
    all.map(|FurtherDamage { from, end, promised }| {
        let groups_at_least = count_groups(file, from..end)?;
        Ok(Lost { range: from..end, promised, groups_at_least })
    })
    .collect()
}

/// How many seals over groups that are not empty stand where they say within `range`.
fn count_groups(file: &dyn LogFile, range: Range<u64>) -> io::Result<u64> {
    let finder = memmem::Finder::new(SEAL_PREFIX);
    let mut window = vec![0; READ_BYTES.min(range.end.saturating_sub(range.start)) as usize];
    let (mut at, mut groups, mut last_end) = (range.start, 0, range.start);
    while at < range.end {
        let wanted = (range.end - at).min(window.len() as u64) as usize;
        let filled = read_full_at(file, window.get_mut(..wanted).unwrap_or_default(), at)?;
        let bytes = window.get(..filled).unwrap_or(&[]);
        let is_last = filled == 0 || at + filled as u64 >= range.end;
        // A line that the window cuts off is seen whole in the next one.
        let complete = if is_last { filled } else { filled.saturating_sub(MAX_LINE_BYTES).max(1) };
        for found in finder.find_iter(bytes.get(..complete).unwrap_or(&[])) {
            let line = bytes.get(found..).unwrap_or(&[]);
            let line = line.get(..MAX_LINE_BYTES).unwrap_or(line);
            let len = memchr::memchr(b'\n', line).map_or(0, |end| end + 1);
            let place = at + found as u64;
            match Annotation::of(line.get(..len).unwrap_or(&[])) {
                Annotation::Seal(seal) if seal.fields.end == place => {
                    groups += u64::from(place > last_end);
                    last_end = place + len as u64;
                }
                _ => {}
            }
        }
        if is_last {
            break;
        }
        at += complete as u64;
    }
    Ok(groups)
}
