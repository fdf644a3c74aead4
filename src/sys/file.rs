//! Files: the calls that std and nix lack.
#![allow(unsafe_code)] // sync_file_range has no safe wrapper in std or nix.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Starts write-back of the `len` bytes at `offset` and does not wait for it, so that a later
/// fdatasync finds little left to do. A hint about cadence only: it makes nothing durable (it
/// neither waits, nor writes metadata, nor flushes the drive's cache).
///
/// # Errors
/// Those of sync_file_range(2), an `InvalidInput` for ranges beyond what a file can have.
pub fn start_write_out(file: &File, offset: u64, len: u64) -> io::Result<()> {
    sync_range(file, offset, len, libc::SYNC_FILE_RANGE_WRITE)
}

/// Waits until what of the `len` bytes at `offset` has been written so far is written out. It makes
/// nothing durable either.
///
/// # Errors
/// Those of sync_file_range(2). One that comes of writing out is not told again by fdatasync(2).
pub fn finish_write_out(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_range(file, offset, len, flags)
}

fn sync_range(file: &File, offset: u64, len: u64, flags: libc::c_uint) -> io::Result<()> {
    let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let offset = i64::try_from(offset).map_err(out_of_range)?;
    let len = i64::try_from(len).map_err(out_of_range)?;
    // SAFETY: the call takes no pointers, and the descriptor is open while `file` is borrowed.
    let rc = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
