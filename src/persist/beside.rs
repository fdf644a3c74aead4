//! Files put beside the append-only file: what was cut off it, and copies of it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::storage::{LogFile, Storage, read_full_at, write_all_at};

/// How much is copied at once.
const COPY_BYTES: usize = 1 << 20;

/// `<name>.<ending>`.
pub(super) fn name_beside(name: &OsStr, ending: &str) -> OsString {
    let mut beside = name.to_owned();
    beside.push(".");
    beside.push(ending);
    beside
}

/// Creates `<name>.<ending>`, or the first free of `<name>.<ending>-2`, `-3`, ...
///
/// # Errors
/// Those of [`Storage::create`], `AlreadyExists` excepted.
pub(super) fn create_free(
    storage: &dyn Storage,
    name: &OsStr,
    ending: &str,
) -> io::Result<(Arc<dyn LogFile>, OsString)> {
    let mut attempt = 1;
    loop {
        let mut beside = name_beside(name, ending);
        if attempt > 1 {
            beside.push(format!("-{attempt}"));
        }
        match storage.create(&beside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
            other => return other.map(|file| (file, beside)),
        }
    }
}

/// Copies the bytes of `range` to the start of `to`. Makes nothing durable.
///
/// # Errors
/// Those of reading and writing; `UnexpectedEof` if `from` is shorter.
pub(super) fn copy(from: &dyn LogFile, range: Range<u64>, to: &dyn LogFile) -> io::Result<()> {
    let mut buf = vec![0; COPY_BYTES];
    let mut at = range.start;
    while at < range.end {
        let wanted = (range.end - at).min(COPY_BYTES as u64) as usize;
        let room = buf.get_mut(..wanted).unwrap_or_default();
        let read = read_full_at(from, room, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write_all_at(to, buf.get(..read).unwrap_or(&[]), at - range.start)?;
        at += read as u64;
    }
    Ok(())
}
