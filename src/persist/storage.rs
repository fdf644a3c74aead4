//! The seam between the log and the disk: one directory and the files in it. Tests put a simulated
//! disk behind it that loses, tears and reorders what was not synced, and fails on demand.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use nix::errno::Errno;
use nix::fcntl::{
    AtFlags, OFlag, PosixFadviseAdvice, RenameFlags, openat, posix_fadvise, renameat, renameat2,
};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, fsync, linkat, unlinkat};

use crate::sys;

/// What tells a file from every other one while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The file system.
    pub device: u64,
    /// The number of the file within it.
    pub inode: u64,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which file.
    pub id: FileId,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The directory that holds the append-only file. Names are plain file names within it.
pub trait Storage: Send + Sync {
    /// Opens a file for reading and writing; `None` if there is none of that name.
    ///
    /// # Errors
    /// Those of open(2).
    fn open(&self, name: &OsStr) -> io::Result<Option<Arc<dyn LogFile>>>;

    /// Creates a file that must not exist yet. Neither the file nor its name is durable.
    ///
    /// # Errors
    /// Those of open(2), `AlreadyExists` among them.
    fn create(&self, name: &OsStr) -> io::Result<Arc<dyn LogFile>>;

    /// Gives the file `from` the name `to`, in place of what bore it. Not durable before
    /// [`Storage::sync_dir`] returned.
    ///
    /// # Errors
    /// Those of rename(2); the names are then as before.
    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()>;

    /// Gives the file `from` a second name `to`, which must not exist yet (link(2)). Not durable
    /// before [`Storage::sync_dir`] returned.
    ///
    /// # Errors
    /// Those of link(2), `AlreadyExists` and `NotFound` among them.
    fn link(&self, from: &OsStr, to: &OsStr) -> io::Result<()>;

    /// Exchanges the names of two files in one step (renameat2(2)): at no moment is one of them
    /// without a file. Not durable before [`Storage::sync_dir`] returned.
    ///
    /// # Errors
    /// Those of renameat2(2), EINVAL where the file system cannot do that; the names are then as
    /// before.
    fn exchange(&self, a: &OsStr, b: &OsStr) -> io::Result<()>;

    /// Bytes that files in the directory may still take, as far as the file system tells; `None`
    /// where it does not say. One statvfs(2).
    ///
    /// # Errors
    /// Those of statvfs(2).
    fn free_bytes(&self) -> io::Result<Option<u64>>;

    /// Removes a name; that there is none is no error.
    ///
    /// # Errors
    /// Those of unlink(2) otherwise.
    fn remove(&self, name: &OsStr) -> io::Result<()>;

    /// Makes every creation, rename and removal so far durable. Blocks.
    ///
    /// # Errors
    /// Those of fsync(2). As with a file, an error may mean that the change is lost for good, and
    /// a later success proves nothing.
    fn sync_dir(&self) -> io::Result<()>;

    /// All names in the directory, in no order.
    ///
    /// # Errors
    /// Those of reading a directory.
    fn list(&self) -> io::Result<Vec<OsString>>;

    /// What the next start would find under this name; `None` for nothing. Looks by the
    /// directory's path, where all else stays with the directory that was opened. One stat(2).
    ///
    /// # Errors
    /// Those of stat(2), except that there is no such file or directory.
    fn find(&self, name: &OsStr) -> io::Result<Option<Found>>;

    /// From here on uses the directory that the path leads to now, which may be another one than
    /// was opened.
    ///
    /// # Errors
    /// Those of open(2); the directory is then the one it was.
    fn reopen(&self) -> io::Result<()>;

    /// How a file is named in messages.
    fn path_of(&self, name: &OsStr) -> PathBuf;
}

/// An open file. Writes say where they go, so that a repeated write after an error lands where the
/// first was meant to.
pub trait LogFile: Send + Sync {
    /// Reads at `offset` and returns how many bytes were read, 0 at the end of the file.
    ///
    /// # Errors
    /// Those of pread(2).
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Says that a range will soon be read from front to back. A hint, and without one reading is
    /// only slower, so it cannot fail.
    fn will_read(&self, _offset: u64, _len: u64) {}

    /// Hands bytes to the kernel and returns how many it took, which may be fewer than given.
    ///
    /// # Errors
    /// Those of pwrite(2); some bytes may have reached the file nevertheless.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes everything written so far durable (fdatasync). Blocks.
    ///
    /// # Errors
    /// Those of fdatasync(2). After one, what was not durable before may be lost while the file
    /// still reads well, and a later success proves nothing: the file must not be trusted again.
    fn sync_data(&self) -> io::Result<()>;

    /// Starts writing out a range without waiting; a hint that makes nothing durable.
    ///
    /// # Errors
    /// Those of sync_file_range(2).
    fn start_write_out(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Waits until a range is written out; that makes nothing durable either.
    ///
    /// # Errors
    /// Those of sync_file_range(2). The file is then as after a failed [`LogFile::sync_data`].
    fn finish_write_out(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Sets the file's length.
    ///
    /// # Errors
    /// Those of ftruncate(2).
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// Those of fstat(2).
    fn size(&self) -> io::Result<u64>;

    /// Which file it is, whatever its name leads to by now.
    ///
    /// # Errors
    /// Those of fstat(2).
    fn id(&self) -> io::Result<FileId>;
}

/// Writes all of `bytes` at `offset`: continues short writes, repeats interrupted ones.
///
/// # Errors
/// Those of [`LogFile::write_at`]; some bytes may have reached the file.
pub fn write_all_at(file: &dyn LogFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => {
                bytes = bytes.get(taken..).unwrap_or(&[]);
                offset += taken as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads at `offset` until `buf` is full or the file ends, and returns how many bytes were read.
///
/// # Errors
/// Those of [`LogFile::read_at`], interruptions excepted.
pub fn read_full_at(file: &dyn LogFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buf.get_mut(filled..)
        && !room.is_empty()
    {
        match file.read_at(room, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The operating system's own words for an error, without the number that std appends: what Redis
/// prints, from strerror.
#[must_use]
pub fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(code) => text.trim_end_matches(&format!(" (os error {code})")).to_owned(),
        None => text,
    }
}

/// A directory of the real file system, held open: what happens to its path matters only where
/// [`Storage`] says so.
pub struct Directory {
    /// Locked for as long as it takes to copy the pointer: the loop must not wait here for a
    /// helper's sync.
    fd: RwLock<Arc<OwnedFd>>,
    path: PathBuf,
    /// How files that exist are opened.
    access: OFlag,
}

impl Directory {
    /// Opens the directory.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Directory> {
        let path = fs::canonicalize(path)?;
        let fd = Arc::new(File::open(&path)?.into());
        Ok(Directory { fd: RwLock::new(fd), path, access: OFlag::O_RDWR })
    }

    /// The same, but files that exist are opened for reading only: they need not be writable, and
    /// nothing can change them. Files can be created.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn read_only(path: &Path) -> io::Result<Directory> {
        Ok(Directory { access: OFlag::O_RDONLY, ..Directory::open(path)? })
    }

    fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn open_file(&self, name: &OsStr, flags: OFlag) -> nix::Result<Arc<dyn LogFile>> {
        let flags = flags | OFlag::O_CLOEXEC;
        let fd = openat(self.fd(), name, flags, Mode::from_bits_truncate(0o644))?;
        Ok(Arc::new(DiskFile(File::from(fd))))
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Directory").field(&self.path).finish()
    }
}

impl Storage for Directory {
    fn open(&self, name: &OsStr) -> io::Result<Option<Arc<dyn LogFile>>> {
        match self.open_file(name, self.access) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn create(&self, name: &OsStr) -> io::Result<Arc<dyn LogFile>> {
        Ok(self.open_file(name, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL)?)
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let fd = self.fd();
        Ok(renameat(&fd, from, &fd, to)?)
    }

    fn link(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let fd = self.fd();
        Ok(linkat(&fd, from, &fd, to, AtFlags::empty())?)
    }

    fn exchange(&self, a: &OsStr, b: &OsStr) -> io::Result<()> {
        let fd = self.fd();
        Ok(renameat2(&fd, a, &fd, b, RenameFlags::RENAME_EXCHANGE)?)
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let found = fstatvfs(self.fd())?;
        // Some file systems without blocks of their own say that they have none at all.
        let tells = found.blocks() > 0;
        let available = || found.blocks_available().saturating_mul(found.fragment_size());
        Ok(tells.then(available))
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(self.fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(fsync(self.fd().as_fd())?)
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(&self.path)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }

    fn find(&self, name: &OsStr) -> io::Result<Option<Found>> {
        match fs::metadata(self.path_of(name)) {
            Ok(metadata) => Ok(Some(Found { id: id_of(&metadata), bytes: metadata.len() })),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn reopen(&self) -> io::Result<()> {
        let fd = Arc::new(File::open(&self.path)?.into());
        *self.fd.write().unwrap_or_else(PoisonError::into_inner) = fd;
        Ok(())
    }

    fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }
}

fn id_of(metadata: &fs::Metadata) -> FileId {
    FileId { device: metadata.dev(), inode: metadata.ino() }
}

struct DiskFile(File);

impl LogFile for DiskFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn will_read(&self, offset: u64, len: u64) {
        if let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) {
            // A file system that does not take the hint still reads.
            let _ = posix_fadvise(&self.0, offset, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn start_write_out(&self, offset: u64, len: u64) -> io::Result<()> {
        sys::file::start_write_out(&self.0, offset, len)
    }

    fn finish_write_out(&self, offset: u64, len: u64) -> io::Result<()> {
        sys::file::finish_write_out(&self.0, offset, len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(id_of(&self.0.metadata()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_creates_renames_lists_and_removes() -> io::Result<()> {
        let temp = tempfile::tempdir()?;
        let dir = Directory::open(temp.path())?;
        let (a, b) = (OsStr::new("a"), OsStr::new("b"));
        assert!(dir.open(a)?.is_none());
        let file = dir.create(a)?;
        assert_eq!(dir.create(a).err().map(|e| e.kind()), Some(io::ErrorKind::AlreadyExists));
        write_all_at(&*file, b"hello", 3)?;
        file.sync_data()?;
        file.start_write_out(0, 8)?;
        dir.rename(a, b)?;
        dir.sync_dir()?;
        assert_eq!(dir.list()?, [b]);
        let again = dir.open(b)?.expect("renamed");
        let mut buf = [1; 16];
        assert_eq!(read_full_at(&*again, &mut buf, 0)?, 8);
        assert_eq!(buf[..8], *b"\0\0\0hello");
        again.truncate(2)?;
        assert_eq!(file.size()?, 2);
        let other = dir.create(a)?;
        dir.exchange(a, b)?;
        assert_eq!(dir.find(a)?.map(|found| found.id), Some(file.id()?));
        assert_eq!(dir.find(b)?.map(|found| found.id), Some(other.id()?));
        dir.remove(b)?;
        assert!(dir.exchange(a, b).is_err());
        dir.remove(b)
    }

    #[test]
    fn a_name_leads_where_the_path_does_and_an_open_file_stays_itself() -> io::Result<()> {
        let temp = tempfile::tempdir()?;
        let path = temp.path().join("log");
        fs::create_dir(&path)?;
        let dir = Directory::open(&path)?;
        let name = OsStr::new("a");
        assert_eq!(dir.find(name)?, None);
        let file = dir.create(name)?;
        write_all_at(&*file, b"hello", 0)?;
        let found = Found { id: file.id()?, bytes: 5 };
        assert_eq!(dir.find(name)?, Some(found));
        fs::rename(&path, temp.path().join("elsewhere"))?;
        assert_eq!(dir.find(name)?, None);
        assert!(dir.reopen().is_err());
        assert_eq!(file.id()?, found.id);
        fs::create_dir(&path)?;
        dir.reopen()?;
        let other = dir.create(name)?;
        assert_ne!(other.id()?, found.id);
        assert_eq!(dir.find(name)?, Some(Found { id: other.id()?, bytes: 0 }));
        dir.sync_dir()
    }

    #[test]
    fn errors_read_as_redis_prints_them() {
        let text = |errno: Errno| describe(&io::Error::from(errno));
        assert_eq!(text(Errno::ENOSPC), "No space left on device");
        assert_eq!(text(Errno::EIO), "Input/output error");
    }
}
