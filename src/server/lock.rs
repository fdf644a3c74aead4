//! The lock beside the append-only file: taken at start, and held wherever the next server would
//! look for it.

use super::Server;
use super::start::StartError;
use crate::config::Config;
use crate::persist::lock::{Lock, LockError};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// What the lock's file is called beside the log's.
const SUFFIX: &str = ".lock";

/// Takes the lock of the append-only file, waiting for it no longer than `patience`. The working
/// directory must be `dir`.
///
/// # Errors
/// [`StartError`] if another server has it, or its file cannot be used.
pub(super) fn acquire(config: &Config, patience: Duration) -> Result<Lock, StartError> {
    let lock = Lock::acquire(Path::new(&file_name(config)), patience);
    lock.map_err(|e| StartError::new(cannot_lock(&config.dir.join(&config.appendfilename), &e)))
}

fn file_name(config: &Config) -> OsString {
    let mut name = config.appendfilename.clone().into_os_string();
    name.push(SUFFIX);
    name
}

fn cannot_lock(log: &Path, e: &LockError) -> String {
    format!("Cannot lock the append-only file {}: {e}", log.display())
}

impl Server {
    /// Sees to it that the lock is held in the directory that the log's path leads to now; it may
    /// not be the one that it was taken in, and the lock's file may have been removed. Does not
    /// wait for it. Where all is as it was this costs a stat(2) and an fstat(2).
    ///
    /// # Errors
    /// Why it cannot be, for people to read. A lock elsewhere is then still held.
    pub(super) fn hold_lock(&mut self) -> Result<(), String> {
        self.try_lock().map_err(|e| {
            let name = self.engine.registries.config.appendfilename.as_os_str();
            cannot_lock(&self.storage.path_of(name), &e)
        })
    }

    fn try_lock(&mut self) -> Result<(), LockError> {
        let path = self.storage.path_of(&file_name(&self.engine.registries.config));
        if let Some(lock) = &self.lock
            && lock.is_at(&path).map_err(LockError::Io)?
        {
            return Ok(());
        }
        let lock = Lock::acquire(&path, Duration::ZERO)?;
        if self.lock.is_some() {
            log::warn!("{} was removed or replaced; it has been locked anew", path.display());
        }
        self.lock = Some(lock);
        Ok(())
    }

    /// Notices that the lock's file is gone, and locks it anew. To be called as often as the log's
    /// own file is looked after: meanwhile a second server can start.
    pub(super) fn look_after_lock(&mut self) {
        if self.lock.is_none() {
            return;
        }
        match self.try_lock() {
            // Where this server cannot have a lock file, no other one has it, and the next look
            // tries again. If the whole directory is gone, the log's own look says so.
            Ok(()) | Err(LockError::Io(_)) => {}
            Err(held) => self.log.lock_is_lost(&held.to_string(), self.now),
        }
    }
}
