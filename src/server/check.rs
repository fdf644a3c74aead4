//! `--check-aof`: tells what a file holds, and repairs it where told to.

use super::loading::first_key_position;
use crate::config::{CheckRequest, Repair};
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

/// Why a file was not checked, or not repaired.
#[derive(Debug)]
pub struct CheckError(String);

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CheckError {}

fn failed(what: &str, path: &Path, e: &dyn fmt::Display) -> CheckError {
    CheckError(format!("Cannot {what} {}: {e}", path.display()))
}

/// Checks the file, writes the report to `out`, and makes the repair that was asked for. Returns
/// whether the file is clean now. The file is changed only by [`Repair::InPlace`].
///
/// # Errors
/// [`CheckError`] if a server uses the file, if it cannot be read, or if the repair cannot be made.
pub fn check_aof(request: &CheckRequest, out: &mut dyn Write) -> Result<bool, CheckError> {
    let CheckRequest { file, repair, max_bulk_bytes } = request;
    let target = target(file, *repair)?;
    let options = LoadOptions {
        max_bulk_bytes: LoadOptions::default().max_bulk_bytes.max(*max_bulk_bytes),
        key_position: first_key_position,
        ..LoadOptions::default()
    };
    if *repair == Repair::None {
        return look(&target, file, &options, out);
    }
    // Held to the end: a server must not begin to append to what is being repaired.
    let _lock = Lock::acquire(&target.lock, Duration::ZERO).map_err(|e| locked(file, &e))?;
    let storage = match repair {
        Repair::InPlace => Directory::open(&target.folder),
        Repair::None | Repair::Copy => Directory::read_only(&target.folder),
    };
    let storage = storage.map_err(|e| failed("open", &target.folder, &e))?;
    let report = run_check(&storage, &target.name, &options)?;
    print(out, &report)?;
    if report.damage.is_none() {
        print(out, &"There is nothing to fix; nothing was written.\n")?;
        return Ok(true);
    }
    let repaired = repair_file(&storage, &target.name, &report, *repair)?;
    // What is told to be good has been read again.
    let fixed = run_check(&storage, repaired.good_name(&target.name), &options)?;
    if fixed.damage.is_some() || fixed.commands != report.commands {
        return Err(CheckError(format!(
            "{} was written but does not read back as it should: mistrust this disk",
            fixed.path.display()
        )));
    }
    let told = Told { report: &report, repaired: &repaired, storage: &storage };
    print(out, &format_args!("\n{told}"))?;
    Ok(*repair == Repair::InPlace)
}

/// Checks without repairing. Holds no lock meanwhile, so that it never keeps a server from
/// starting.
fn look(
    target: &Target,
    file: &Path,
    options: &LoadOptions,
    out: &mut dyn Write,
) -> Result<bool, CheckError> {
    let probe = || lock::probe(&target.lock).map_err(|e| locked(file, &e));
    probe()?;
    let storage = Directory::read_only(&target.folder);
    let storage = storage.map_err(|e| failed("open", &target.folder, &e))?;
    let report = run_check(&storage, &target.name, options);
    // What a server appended or cut meanwhile must not be taken for damage.
    probe()?;
    let report = report?;
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
    Ok(false)
}

fn run_check(
    storage: &dyn Storage,
    name: &OsStr,
    options: &LoadOptions,
) -> Result<CheckReport, CheckError> {
    check::check(storage, name, options).map_err(|e| CheckError(e.to_string()))
}

fn print(out: &mut dyn Write, text: &dyn fmt::Display) -> Result<(), CheckError> {
    match write!(out, "{text}") {
        // A reader that has gone away has read enough; the repair goes on.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(CheckError(format!("Cannot write the report: {e}")))
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

fn target(file: &Path, repair: Repair) -> Result<Target, CheckError> {
    let told = fs::symlink_metadata(file).map_err(|e| failed("read", file, &e))?;
    if repair == Repair::InPlace && told.is_symlink() {
        let why = "it is a symbolic link; give the name of the file itself";
        return Err(failed("repair", file, &why));
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

fn locked(file: &Path, e: &LockError) -> CheckError {
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
    repair: Repair,
) -> Result<Repaired, CheckError> {
    let done = match repair {
        Repair::InPlace => check::fix_in_place(storage, name, report).map(Repaired::InPlace),
        Repair::None | Repair::Copy => {
            check::write_fixed(storage, name, report).map(Repaired::Copied)
        }
    };
    done.map_err(|e| CheckError(e.to_string()))
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
