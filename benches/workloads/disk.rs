//! A disk of one file in memory, so that no measurement of the log waits for one.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use server_async::persist::storage::{FileId, Found, LogFile, Storage};

const ID: FileId = FileId { device: 1, inode: 1 };

/// The file, under whatever name, and the directory that holds it.
pub struct Disk {
    file: Arc<Content>,
}

/// What the file holds. One that forgets has a length alone.
struct Content {
    bytes: Mutex<(Vec<u8>, u64)>,
    forgets: bool,
}

impl Disk {
    /// A disk that keeps what is written.
    pub fn new() -> Disk {
        Disk { file: Arc::new(Content { bytes: Mutex::default(), forgets: false }) }
    }

    /// A disk that takes what is written and forgets it.
    pub fn forgetful() -> Disk {
        Disk { file: Arc::new(Content { bytes: Mutex::default(), forgets: true }) }
    }

    /// The file.
    pub fn file(&self) -> Arc<dyn LogFile> {
        Arc::clone(&self.file) as Arc<dyn LogFile>
    }
}

impl Content {
    fn lock(&self) -> MutexGuard<'_, (Vec<u8>, u64)> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Disk {
    fn open(&self, _: &OsStr) -> io::Result<Option<Arc<dyn LogFile>>> {
        Ok((self.file.lock().1 > 0).then(|| self.file()))
    }

    fn create(&self, _: &OsStr) -> io::Result<Arc<dyn LogFile>> {
        Ok(self.file())
    }

    fn rename(&self, _: &OsStr, _: &OsStr) -> io::Result<()> {
        Ok(())
    }

    fn exchange(&self, _: &OsStr, _: &OsStr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn link(&self, _: &OsStr, _: &OsStr) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn remove(&self, _: &OsStr) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        Ok(Vec::new())
    }

    fn find(&self, _: &OsStr) -> io::Result<Option<Found>> {
        Ok(Some(Found { id: ID, bytes: self.file.lock().1 }))
    }

    fn reopen(&self) -> io::Result<()> {
        Ok(())
    }

    fn path_of(&self, name: &OsStr) -> PathBuf {
        name.into()
    }
}

impl LogFile for Content {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.lock();
        let rest = content.0.get(offset as usize..).unwrap_or(&[]);
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut content = self.lock();
        let end = offset + bytes.len() as u64;
        content.1 = content.1.max(end);
        if !self.forgets {
            let len = content.0.len().max(end as usize);
            content.0.resize(len, 0);
            content.0[offset as usize..end as usize].copy_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn start_write_out(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn finish_write_out(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut content = self.lock();
        content.1 = len;
        content.0.truncate(len as usize);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.lock().1)
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(ID)
    }
}
