//! The log tools of the command line: `--check-aof` tells what a file holds and repairs it where
//! told to; the others are in `tools`.

mod tools;
mod trial;

use super::loading::first_key_position;
use crate::config::{Output, Tool, ToolRequest};
use crate::persist::check::json::Json;
use crate::persist::check::{self, CheckReport};
use crate::persist::damage::Damage;
use crate::persist::load::LoadOptions;
use crate::persist::lock::{self, Lock, LockError};
use crate::persist::storage::{Directory, Storage};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a file was not checked, or what was asked for not done.
#[derive(Debug)]
pub struct ToolFailure(String);

impl fmt::Display for ToolFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ToolFailure {}

fn failed(what: &str, path: &Path, e: &dyn fmt::Display) -> ToolFailure {
    ToolFailure(format!("Cannot {what} {}: {e}", path.display()))
}

/// Does what was asked for, and writes what it came to to `out`. Returns whether the file is clean
/// now, or the copy that was asked for is there. The file itself is changed only by
/// [`Output::InPlace`].
///
/// # Errors
/// [`ToolFailure`] if a server uses the file, if it cannot be read, or if it cannot be done.
pub fn run_log_tool(request: &ToolRequest, out: &mut dyn Write) -> Result<bool, ToolFailure> {
    let ToolRequest { file, tool, max_bulk_bytes, databases: _ } = request;
    let options = LoadOptions {
        max_bulk_bytes: LoadOptions::default().max_bulk_bytes.max(*max_bulk_bytes),
        key_position: first_key_position,
        ..LoadOptions::default()
    };
    let in_place = match tool {
        Tool::Fix(output) | Tool::Salvage(output) | Tool::Reseal(output) => {
            *output == Output::InPlace
        }
        Tool::Check { .. } | Tool::TruncateToTime { .. } => false,
    };
    let target = target(file, in_place)?;
    if let Tool::Check { json } = tool {
        return look(&target, file, &options, *json, out);
    }
    // Held to the end: a server must not begin to append to what is being worked on.
    let _lock = Lock::acquire(&target.lock, Duration::ZERO).map_err(|e| locked(file, &e))?;
    let storage = match in_place {
        true => Directory::open(&target.folder),
        false => Directory::read_only(&target.folder),
    };
    let storage = storage.map_err(|e| failed("open", &target.folder, &e))?;
    let work = Work { storage: &storage, name: &target.name, options: &options, request };
    match tool {
        Tool::Check { .. } => Ok(true),
        Tool::Fix(output) => work.fix(*output, out),
        Tool::Salvage(output) => work.salvage(*output, out),
        Tool::Reseal(output) => work.reseal(*output, out),
        Tool::TruncateToTime { until_ms } => work.truncate_to_time(*until_ms, out),
    }
}

/// A tool at work on a file whose lock is held.
struct Work<'a> {
    storage: &'a dyn Storage,
    name: &'a OsStr,
    options: &'a LoadOptions,
    request: &'a ToolRequest,
}

impl Work<'_> {
    /// Keeps what is good up to the first damage.
    fn fix(&self, output: Output, out: &mut dyn Write) -> Result<bool, ToolFailure> {
        let Some(report) = self.told_damage(out)? else { return Ok(true) };
        let repaired = repair_file(self.storage, self.name, &report, output)?;
        self.must_read_back(repaired.good_name(self.name), report.commands)?;
        let told = Told { report: &report, repaired: &repaired, storage: self.storage };
        print(out, &format_args!("\n{told}"))?;
        Ok(output == Output::InPlace)
    }

    /// Tells what the file holds. `None` if nothing in it is to be repaired.
    fn told_damage(&self, out: &mut dyn Write) -> Result<Option<CheckReport>, ToolFailure> {
        let report = run_check(self.storage, self.name, self.options)?;
        print(out, &report)?;
        if report.damage.is_none() {
            print(out, &"There is nothing to fix; nothing was written.\n")?;
            return Ok(None);
        }
        Ok(Some(report))
    }

    /// What is told to be good has been read again.
    fn must_read_back(&self, name: &OsStr, commands: u64) -> Result<(), ToolFailure> {
        let again = run_check(self.storage, name, self.options)?;
        if again.damage.is_none() && again.commands == commands {
            return Ok(());
        }
        Err(ToolFailure(format!(
            "{} was written but does not read back as it should: mistrust this disk",
            again.path.display()
        )))
    }
}

/// Checks without repairing. Holds no lock meanwhile, so that it never keeps a server from
/// starting.
fn look(
    target: &Target,
    file: &Path,
    options: &LoadOptions,
    json: bool,
    out: &mut dyn Write,
) -> Result<bool, ToolFailure> {
    let probe = || lock::probe(&target.lock).map_err(|e| locked(file, &e));
    probe()?;
    let storage = Directory::read_only(&target.folder);
    let storage = storage.map_err(|e| failed("open", &target.folder, &e))?;
    let report = run_check(&storage, &target.name, options);
    // What a server appended or cut meanwhile must not be taken for damage.
    probe()?;
    let report = report?;
    if json {
        print(out, &format_args!("{}\n", Json(&report)))?;
        return Ok(report.damage.is_none());
    }
    print(out, &report)?;
    let Some(damage) = &report.damage else { return Ok(true) };
    let Damage { end, bytes, .. } = damage;
    print(
        out,
        &format_args!(
            "\nNothing was changed. --fix writes a copy that keeps the {end} good bytes and loses \
             the {bytes} behind them.\n"
        ),
    )?;
    if !report.intact.is_empty() {
        print(out, &"--salvage writes one that keeps what is intact behind them too.\n")?;
    }
    Ok(false)
}

fn run_check(
    storage: &dyn Storage,
    name: &OsStr,
    options: &LoadOptions,
) -> Result<CheckReport, ToolFailure> {
    check::check(storage, name, options).map_err(|e| ToolFailure(e.to_string()))
}

fn print(out: &mut dyn Write, text: &dyn fmt::Display) -> Result<(), ToolFailure> {
    match write!(out, "{text}") {
        // A reader that has gone away has read enough; the repair goes on.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(ToolFailure(format!("Cannot write the report: {e}")))
        }
        _ => Ok(()),
    }
}

/// The parts of a path, and the lock that a server would hold.
struct Target {
    folder: PathBuf,
    name: OsString,
    lock: PathBuf,
}

fn target(file: &Path, in_place: bool) -> Result<Target, ToolFailure> {
    let told = fs::symlink_metadata(file).map_err(|e| failed("read", file, &e))?;
    if in_place && told.is_symlink() {
        let why = "it is a symbolic link; give the name of the file itself";
        return Err(failed("change", file, &why));
    }
    let meant = fs::metadata(file).map_err(|e| failed("read", file, &e))?;
    let name = file.file_name().filter(|_| meant.is_file());
    let name = name.ok_or_else(|| failed("read", file, &"it is not a regular file"))?;
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut lock = name.to_owned();
    lock.push(".lock");
    Ok(Target { lock: folder.join(lock), name: name.to_owned(), folder })
}

fn locked(file: &Path, e: &LockError) -> ToolFailure {
    failed("lock the append-only file", file, e)
}

enum Repaired {
    /// The repaired copy's name.
    Copied(OsString),
    /// What the original was kept as.
    InPlace(OsString),
}

impl Repaired {
    fn good_name<'a>(&'a self, original: &'a OsStr) -> &'a OsStr {
        match self {
            Repaired::Copied(fixed) => fixed,
            Repaired::InPlace(_) => original,
        }
    }
}

fn repair_file(
    storage: &dyn Storage,
    name: &OsStr,
    report: &CheckReport,
    output: Output,
) -> Result<Repaired, ToolFailure> {
    let done = match output {
        Output::InPlace => check::fix_in_place(storage, name, report).map(Repaired::InPlace),
        Output::Copy => check::write_fixed(storage, name, report).map(Repaired::Copied),
    };
    done.map_err(|e| ToolFailure(e.to_string()))
}

/// What a repair came to, for people.
struct Told<'a> {
    report: &'a CheckReport,
    repaired: &'a Repaired,
    storage: &'a dyn Storage,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CheckReport { path, total_bytes, end, commands, .. } = self.report;
        match self.repaired {
            Repaired::Copied(fixed) => writeln!(
                f,
                "The repaired copy is {}. {} was not changed.",
                self.storage.path_of(fixed).display(),
                path.display()
            )?,
            Repaired::InPlace(kept) => writeln!(
                f,
                "{} was repaired. As it was before it is kept in {}.",
                path.display(),
                self.storage.path_of(kept).display()
            )?,
        }
        writeln!(
            f,
            "Kept: {end} bytes with {commands} commands. Lost: the {} bytes from offset {end} on.",
            total_bytes - end
        )
    }
}
