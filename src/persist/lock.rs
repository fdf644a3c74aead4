//! One server a file: a lock beside the append-only file.
//!
//! It is a file of its own, not the log's inode: the rewrite replaces that.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::storage::describe;

/// How long to sleep between two tries.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Holds the lock until dropped, or until the process ends.
///
/// A forked child shares the lock and must close its copy first thing by [`Lock::close_in_child`]:
/// while it holds on, the lock outlives the server.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
}

/// Why there is no lock.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds it; its id, if the file tells.
    Held(Option<u32>),
    /// The lock's file cannot be used.
    Io(io::Error),
}

impl Lock {
    /// Takes the lock at `path`, trying for up to `patience`: the child of a killed server may
    /// hold it for a moment longer. Blocks that long; for use before serving.
    ///
    /// # Errors
    /// [`LockError::Held`] if another process has it still, [`LockError::Io`] if the file cannot
    /// be opened or locked.
    pub fn acquire(path: &Path, patience: Duration) -> Result<Lock, LockError> {
        let deadline = Instant::now() + patience;
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let file = options.open(path).map_err(LockError::Io)?;
            let failed = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => {
                    let lock = Lock { file };
                    if lock.is_at(path).map_err(LockError::Io)? {
                        lock.sign();
                        return Ok(lock);
                    }
                    // Between opening and locking somebody has taken the name away: what is locked
                    // keeps nobody out.
                    LockError::Io(io::Error::other("its lock file was removed in that moment"))
                }
                Err((_, Errno::EINTR)) => continue,
                Err((mut file, Errno::EWOULDBLOCK)) => LockError::Held(holder(&mut file)),
                Err((_, errno)) => return Err(LockError::Io(errno.into())),
            };
            if Instant::now() >= deadline {
                return Err(failed);
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    /// Whether `path` leads to the file that is locked; if not, the lock keeps nobody out who comes
    /// by that path. Costs a stat(2) and an fstat(2).
    ///
    /// # Errors
    /// Those of the two, except that there is no such file or directory.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let own = self.file.metadata()?;
        match fs::metadata(path) {
            Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Leaves the holder's process id in the file, for the message of whoever comes second. Not to
    /// be able to is no failure, for it is not the text that locks: a full disk must not keep a
    /// server from starting.
    fn sign(&self) {
        let text = format!("{}\n", std::process::id());
        // Over what stands there, and only then cut: that takes no room that was not taken before.
        let signed = self.file.write_all_at(text.as_bytes(), 0);
        let length = if signed.is_ok() { text.len() as u64 } else { 0 };
        // If this fails as well, the message may name a process that is long gone.
        self.file.set_len(length).ok();
    }

    /// Closes a forked child's copy of the lock without releasing the parent's. Only for a child
    /// that leaves by `_exit`, so that nothing is dropped behind it.
    pub fn close_in_child(&self) {
        // Not by dropping: that unlocks, and an unlock in the child releases the parent's lock
        // too, since both share one open file. Closing the bare descriptor does not.
        // An error leaves a descriptor that the child's end closes as well.
        nix::unistd::close(self.file.as_raw_fd()).ok();
    }
}

/// Whether the lock at `path` is free. Leaves nothing behind, and does not keep it.
///
/// # Errors
/// [`LockError::Held`] if a process has it, [`LockError::Io`] if that cannot be told.
pub fn probe(path: &Path) -> Result<(), LockError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(LockError::Io(error)),
    };
    // Shared, so that two that look at once do not take each other for a server.
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_released) => Ok(()),
        Err((mut file, Errno::EWOULDBLOCK)) => Err(LockError::Held(holder(&mut file))),
        Err((_, errno)) => Err(LockError::Io(errno.into())),
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

impl std::fmt::Display for LockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LockError::Held(Some(pid)) => write!(f, "in use by the server with process id {pid}"),
            LockError::Held(None) => f.write_str("in use by another server"),
            LockError::Io(error) => f.write_str(&describe(error)),
        }
    }
}

impl std::error::Error for LockError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_has_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a.lock");
        let first = Lock::acquire(&path, Duration::ZERO).expect("free");
        match Lock::acquire(&path, Duration::ZERO) {
            Err(LockError::Held(Some(pid))) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        assert!(matches!(probe(&path), Err(LockError::Held(Some(_)))));
        drop(first);
        probe(&path).expect("free");
        probe(&dir.path().join("none")).expect("free");
        assert!(!dir.path().join("none").exists());
        Lock::acquire(&path, Duration::ZERO).expect("free again");
    }

    #[test]
    fn a_lock_whose_name_is_gone_is_told_and_locks_out_nobody() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a.lock");
        let first = Lock::acquire(&path, Duration::ZERO).expect("free");
        assert!(first.is_at(&path)?);
        fs::remove_file(&path)?;
        assert!(!first.is_at(&path)?);
        let second = Lock::acquire(&path, Duration::ZERO).expect("another file");
        assert!(second.is_at(&path)? && !first.is_at(&path)?);
        assert!(!second.is_at(&path.join("below a file"))?);
        Ok(())
    }

    #[test]
    fn a_lock_names_its_holder_over_any_text_that_was_there() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a.lock");
        fs::write(&path, "12345678901234\nand more\n")?;
        let _lock = Lock::acquire(&path, Duration::ZERO).expect("free");
        assert_eq!(fs::read_to_string(&path)?, format!("{}\n", std::process::id()));
        Ok(())
    }
}
