//! Files kept from before a rewrite: the log's old file under another name, so that what a rewrite
//! has left out (a FLUSHALL by mistake, say) can still be found.
//!
//! `<name>.before-<unix ms of the fork>`. A start never removes one.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use super::beside::name_beside;
use super::storage::Storage;

/// What marks a kept file.
const KEPT_INFIX: &str = "before-";

/// Links the log `name` to the name under which it is kept as it was ahead of a rewrite that forked
/// at `unix_ms`, or to a later one if there is a file of that name: none is replaced. Returns the
/// name; `None` if there is no log to keep.
///
/// # Errors
/// Those of link(2) otherwise.
pub(super) fn keep(
    storage: &dyn Storage,
    name: &OsStr,
    mut unix_ms: u64,
) -> io::Result<Option<OsString>> {
    loop {
        let kept = name_beside(name, &format!("{KEPT_INFIX}{unix_ms}"));
        match storage.link(name, &kept) {
            Ok(()) => return Ok(Some(kept)),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => return Ok(None),
                io::ErrorKind::AlreadyExists => unix_ms += 1,
                _ => return Err(error),
            },
        }
    }
}

/// Whether [`keep`] failed because the file system has no hard links.
pub(super) fn lacks_links(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS))
}

/// Gives the rewritten file `new` the log's name, and keeps the old one as [`keep`] does, on a file
/// system without hard links. `None`, and nothing changed, if there is no log to keep.
///
/// The log's name leads to a whole log at every moment: it only ever takes part in an exchange, in
/// one step. A crash between the two steps leaves the old log in force, and beside it the new file
/// as the kept one: no temporary file that the next start would remove, had the second step been
/// done. The other way round, such a crash could lose what was to be kept. No copy is made: it would
/// take the room and the time of a third file while all writers wait for the disk twice.
///
/// # Errors
/// Those of reading the directory and renameat2(2), in other words where it cannot exchange names;
/// the log is then as before, and `new` has its name or none.
pub(super) fn replace_and_keep(
    storage: &dyn Storage,
    new: &OsStr,
    name: &OsStr,
    mut unix_ms: u64,
) -> io::Result<Option<OsString>> {
    let taken = storage.list()?;
    if !taken.iter().any(|found| found == name) {
        return Ok(None);
    }
    let kept = loop {
        let kept = name_beside(name, &format!("{KEPT_INFIX}{unix_ms}"));
        if !taken.contains(&kept) {
            break kept;
        }
        unix_ms += 1;
    };
    storage.rename(new, &kept)?;
    match storage.exchange(&kept, name) {
        Ok(()) => Ok(Some(kept)),
        Err(error) => {
            // If this fails too, a file too many stays, which is removed in its turn.
            storage.remove(&kept).ok();
            Err(match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                    io::Error::new(io::ErrorKind::Unsupported, NO_WAY_TO_KEEP)
                }
                _ => error,
            })
        }
    }
}

const NO_WAY_TO_KEEP: &str = "the file system has neither hard links nor exchanges of names; set \
     aof-keep-before-rewrite to 0";

/// Removes all but the newest `keep` of the files kept of the log `name`, the oldest first, and adds
/// what it has removed to `removed`. Not durable: one that comes back is removed another time.
///
/// # Errors
/// Those of reading the directory and unlink(2).
pub(super) fn prune(
    storage: &dyn Storage,
    name: &OsStr,
    keep: usize,
    removed: &mut Vec<OsString>,
) -> io::Result<()> {
    let mut kept: Vec<(u64, OsString)> = storage
        .list()?
        .into_iter()
        .filter_map(|found| Some((kept_ms(&found, name)?, found)))
        .collect();
    kept.sort_unstable();
    let surplus = kept.len().saturating_sub(keep);
    for (_, oldest) in kept.into_iter().take(surplus) {
        storage.remove(&oldest)?;
        removed.push(oldest);
    }
    Ok(())
}

/// The time in a kept file's name; `None` for other files, and for names that only look alike.
fn kept_ms(found: &OsStr, name: &OsStr) -> Option<u64> {
    let rest = found.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b".")?;
    let text = std::str::from_utf8(rest.strip_prefix(KEPT_INFIX.as_bytes())?).ok()?;
    let unix_ms = text.parse().ok()?;
    (text == format!("{unix_ms}")).then_some(unix_ms)
}
