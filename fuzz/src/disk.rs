//! A directory in memory: it keeps what is written, and never fails.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use server_async::persist::storage::{FileId, Found, LogFile, Storage};

/// The directory, and the files in it.
#[derive(Default)]
pub struct Disk {
    files: Mutex<BTreeMap<OsString, Arc<File>>>,
    /// Reads return at most this many bytes; 0 for all that is asked for.
    short_reads: usize,
}

struct File {
    bytes: Mutex<Vec<u8>>,
    short_reads: usize,
}

impl Disk {
    /// A directory that holds one file.
    pub fn with(name: &str, bytes: &[u8], short_reads: usize) -> Disk {
        let disk = Disk { files: Mutex::default(), short_reads };
        lock(&disk.files).insert(name.into(), disk.file(bytes.to_vec()));
        disk
    }

    /// All files, by name.
    pub fn contents(&self) -> BTreeMap<OsString, Vec<u8>> {
        let files = lock(&self.files);
        files.iter().map(|(name, file)| (name.clone(), lock(&file.bytes).clone())).collect()
    }

    fn file(&self, bytes: Vec<u8>) -> Arc<File> {
        Arc::new(File { bytes: Mutex::new(bytes), short_reads: self.short_reads })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Storage for Disk {
    fn open(&self, name: &OsStr) -> io::Result<Option<Arc<dyn LogFile>>> {
        Ok(lock(&self.files).get(name).map(|file| Arc::clone(file) as Arc<dyn LogFile>))
    }

    fn create(&self, name: &OsStr) -> io::Result<Arc<dyn LogFile>> {
        let mut files = lock(&self.files);
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = self.file(Vec::new());
        files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let mut files = lock(&self.files);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn exchange(&self, _a: &OsStr, _b: &OsStr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn link(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let mut files = lock(&self.files);
        if files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::clone(files.get(from).ok_or(io::ErrorKind::NotFound)?);
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        lock(&self.files).remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn find(&self, name: &OsStr) -> io::Result<Option<Found>> {
        let files = lock(&self.files);
        let found = |file: &Arc<File>| Ok(Found { id: file.id()?, bytes: file.size()? });
        files.get(name).map(found).transpose()
    }

    fn reopen(&self) -> io::Result<()> {
        Ok(())
    }

    fn path_of(&self, name: &OsStr) -> PathBuf {
        PathBuf::from(name)
    }
}

impl LogFile for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = lock(&self.bytes);
        let from = usize::try_from(offset).map_or(bytes.len(), |at| at.min(bytes.len()));
        let mut count = buf.len().min(bytes.len() - from);
        if self.short_reads > 0 {
            count = count.min(self.short_reads);
        }
        buf[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, text: &[u8], offset: u64) -> io::Result<usize> {
        let mut bytes = lock(&self.bytes);
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = from + text.len();
        if end > bytes.len() {
            bytes.resize(end, 0);
        }
        bytes[from..end].copy_from_slice(text);
        Ok(text.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn start_write_out(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn finish_write_out(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        lock(&self.bytes).resize(len, 0);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.bytes).len() as u64)
    }

    fn id(&self) -> io::Result<FileId> {
        // Files do not move while they live.
        Ok(FileId { device: 0, inode: std::ptr::from_ref(self).addr() as u64 })
    }
}
