//! `--check-aof`: tells what a file holds, and repairs it where told to.

use super::loading::first_key_position;
use crate::config::{CheckRequest, Repair};
use crate::persist::check::{self, CheckReport};
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
    let Target { folder, name, lock } = target(file, *repair)?;
    // Held to the end: a server must not begin to append to what is being repaired. A mere check
    // holds no lock, so that it never keeps a server from starting.
    let _lock = match repair {
        Repair::None => probe(&lock, file).map(|()| None)?,
        Repair::Copy | Repair::InPlace => {
            Some(Lock::acquire(&lock, Duration::ZERO).map_err(|e| locked(file, &e))?)
        }
    };
    let directory = match repair {
        Repair::InPlace => Directory::open(&folder),
        Repair::None | Repair::Copy => Directory::read_only(&folder),
    };
    let storage = directory.map_err(|e| failed("open", &folder, &e))?;
    let max_bulk_bytes = LoadOptions::default().max_bulk_bytes.max(*max_bulk_bytes);
    let key_position = first_key_position;
    let options = LoadOptions { max_bulk_bytes, key_position, ..LoadOptions::default() };
    let check = |name: &OsStr| {
        check::check(&storage, name, &options).map_err(|e| CheckError(e.to_string()))
    };
    let report = check(&name)?;
    if *repair == Repair::None {
        // What a server appended meanwhile must not be taken for a torn end.
        probe(&lock, file)?;
    }
    let print = |out: &mut dyn Write, text: fmt::Arguments<'_>| match out.write_fmt(text) {
        // A reader that has gone away has read enough; the repair goes on.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(CheckError(format!("Cannot write the report: {e}")))
        }
        _ => Ok(()),
    };
    print(out, format_args!("{report}"))?;
    let Some(damage) = &report.damage else {
        if *repair != Repair::None {
            print(out, format_args!("There is nothing to fix; nothing was written.\n"))?;
        }
        return Ok(true);
    };
    if *repair == Repair::None {
        print(
            out,
            format_args!(
                "\nNothing was changed. --fix writes a copy that keeps all up to offset {} and \
                 loses the {} bytes behind it.\n",
                damage.end, damage.bytes
            ),
        )?;
        return Ok(false);
    }
    let repaired = repair_file(&storage, &name, &report, *repair)?;
    // What is told to be good has been read again.
    let fixed = check(repaired.good_name(&name))?;
    if fixed.damage.is_some() || fixed.commands != report.commands {
        return Err(CheckError(format!(
            "{} was written but does not read back as it should: mistrust this disk",
            fixed.path.display()
        )));
    }
    print(
        out,
        format_args!("\n{}", Told { report: &report, repaired: &repaired, storage: &storage }),
    )?;
    Ok(*repair == Repair::InPlace)
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

fn probe(lock: &Path, file: &Path) -> Result<(), CheckError> {
    lock::probe(lock).map_err(|e| locked(file, &e))
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
