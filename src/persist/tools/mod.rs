//! Tools that make a new log out of one that is at rest: [`mod@salvage`] (what verifies behind
//! damage), [`mod@reseal`] (a file that a person has edited), [`truncate`] (a point in time).
//!
//! Each reads the file as a stream, writes a copy beside it and touches nothing else; [`replace`]
//! then puts the copy in the file's place. A copy gets its name only when all of it is durable.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::beside;
use super::chain::CommandView;
use super::format::{Annotation, HEADER_PREFIX, Line, MAX_COMMENT_BYTES};
use super::load::LoadError;
use super::records::{Parsed, comment_len};
use super::storage::{LogFile, Storage, describe, read_full_at};
use crate::resp::args::Args;

pub mod reseal;
pub mod salvage;
pub mod truncate;

mod copy;
#[cfg(test)]
mod tests;
mod walk;

/// Runs or judges one command, MULTI and EXEC left out; the error says what is wrong with it, in
/// words that a subject such as `Command 'incr'` may begin.
pub type Apply<'a> = dyn FnMut(&mut Args<'_>) -> Result<(), String> + 'a;

/// Why there is no copy, or why it did not take the file's place. The file is as it was.
#[derive(Debug)]
pub enum ToolError {
    /// Reading, writing or syncing failed.
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// The file could not be opened as a log.
    Load(LoadError),
    /// A file of the copy's name is there already.
    Exists(PathBuf),
    /// What the file holds does not allow it, in whole sentences.
    Refused(String),
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToolError::Io { doing, path, error } => {
                write!(f, "Cannot {doing} {}: {}", path.display(), describe(error))
            }
            ToolError::Load(error) => error.fmt(f),
            ToolError::Exists(path) => write!(
                f,
                "{} is there already and is not written over; move it away first",
                path.display()
            ),
            ToolError::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ToolError {}

impl From<LoadError> for ToolError {
    fn from(error: LoadError) -> ToolError {
        ToolError::Load(error)
    }
}

/// Puts the copy `with`, which is durable, under `name`. Where `ending` is given, a whole copy of
/// the file is first kept as `<name>.<ending>` (or the first free of `...-2`, `-3`, ...), whose
/// name is returned.
///
/// At whatever moment the power goes, one whole file bears `name`, and the old one is on the disk.
///
/// # Errors
/// [`ToolError::Io`]. If the last sync of the directory failed, either file may bear the name
/// after a crash; both are whole.
pub fn replace(
    storage: &dyn Storage,
    name: &OsStr,
    with: &OsStr,
    ending: &str,
) -> Result<OsString, ToolError> {
    let failed = |doing, name: &OsStr| {
        let path = storage.path_of(name);
        move |error| ToolError::Io { doing, path, error }
    };
    let opened = storage.open(name).and_then(|file| file.ok_or(io::ErrorKind::NotFound.into()));
    let file = opened.map_err(failed("open", name))?;
    let (kept_file, kept) =
        beside::create_free(storage, name, ending).map_err(failed("create a copy beside", name))?;
    let keep = || {
        beside::copy(&*file, 0..file.size()?, &*kept_file)?;
        // Durable, name and all, before the original loses its own.
        kept_file.sync_data()?;
        storage.sync_dir()
    };
    if let Err(error) = keep() {
        // Half a copy is of no use; should it stay, its name does not keep a next try away.
        storage.remove(&kept).ok();
        return Err(failed("copy to", &kept)(error));
    }
    storage.rename(with, name).map_err(failed("replace", name))?;
    storage.sync_dir().map_err(failed("sync the directory of", name))?;
    Ok(kept)
}

/// A header in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) line: Line,
    pub(super) unix_ms: u64,
    /// File offset behind its line.
    pub(super) end: u64,
}

impl Header {
    /// Its 16 hexadecimal digits.
    pub(super) fn generation(&self) -> String {
        let line = self.line.as_bytes();
        let digits = line.strip_prefix(HEADER_PREFIX).unwrap_or(line);
        digits.iter().take_while(|&&byte| byte != b':').copied().map(char::from).collect()
    }
}

/// The header that stands at `from`, behind nothing but comments; `None` if something else does.
///
/// # Errors
/// Those of reading the file.
pub(super) fn header_behind(file: &dyn LogFile, mut from: u64) -> io::Result<Option<Header>> {
    let mut buf = [0; MAX_COMMENT_BYTES + 1];
    loop {
        let filled = read_full_at(file, &mut buf, from)?;
        let bytes = buf.get(..filled).unwrap_or(&[]);
        if !bytes.starts_with(b"#") {
            return Ok(None);
        }
        let Parsed::Whole(len) = comment_len(bytes) else { return Ok(None) };
        let line = bytes.get(..len).unwrap_or(&[]);
        from += len as u64;
        match Annotation::of(line) {
            Annotation::Comment => {}
            Annotation::Header { unix_ms } => {
                return Ok(Line::keep(line).map(|line| Header { line, unix_ms, end: from }));
            }
            Annotation::Seal(_) | Annotation::SealsOff | Annotation::Damaged => return Ok(None),
        }
    }
}

/// Hands a command to `apply`.
fn run(view: &mut CommandView<'_>, apply: &mut Apply<'_>) -> Result<(), String> {
    let mut args = Args::new(view.text, view.spans, &mut view.large, Some(view.text));
    apply(&mut args)
}

/// The database that a command selects, if that is what it does.
fn selected(view: &mut CommandView<'_>) -> Option<u64> {
    let args = Args::new(view.text, view.spans, &mut view.large, Some(view.text));
    if args.len() != 2 || !args.get(0)?.eq_ignore_ascii_case(b"SELECT") {
        return None;
    }
    std::str::from_utf8(args.get(1)?).ok()?.parse().ok()
}

/// An error unless the file is as long as it was when it was checked.
fn must_be_unchanged(path: PathBuf, total: u64, checked: u64) -> Result<(), ToolError> {
    if total == checked {
        return Ok(());
    }
    let error = io::Error::other("the file changed while it was checked");
    Err(ToolError::Io { doing: "read", path, error })
}

/// Turns an error of reading the file `name` into one that names it.
fn reading(storage: &dyn Storage, name: &OsStr) -> impl Fn(io::Error) -> ToolError + use<> {
    let path = storage.path_of(name);
    move |error| ToolError::Io { doing: "read", path: path.clone(), error }
}

/// What a file is read from.
type File = Arc<dyn LogFile>;
