//! Files kept from before a rewrite: the log's old file under another name, so that what a rewrite
//! has left out (a FLUSHALL by mistake, say) can still be found.
//!
//! `<name>.before-<unix ms of the fork>`. A start never removes one.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

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
