//! A new log that is written beside an old one, sealed throughout.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use super::ToolError;
use crate::persist::beside::name_beside;
use crate::persist::format::{GroupSum, Line, SealFields, random_generation};
use crate::persist::storage::{LogFile, Storage, read_full_at, write_all_at};
use crate::persist::tail::{Chain, Stamp, closing_seals};

/// How much is gathered for one write(2), and read at once: a base's chunk, roughly.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes a log under another name, and gives it its own only when all of it is durable. So each
/// of its seals may state its own end to be.
pub(super) struct Copy {
    file: Arc<dyn LogFile>,
    buf: Vec<u8>,
    /// File offset of `buf`'s first byte.
    position: u64,
    chain: Chain,
    /// The time in the last seal or header: the next one states no earlier.
    last_ms: u64,
}

/// Makes the log `<name>.<ending>`, which must not exist, out of what `fill` writes. Returns its
/// name; it is durable then.
///
/// # Errors
/// [`ToolError`]; there is then no such file.
pub(super) fn make(
    storage: &dyn Storage,
    name: &OsStr,
    ending: &str,
    fill: impl FnOnce(&mut Copy) -> Result<Stamp, ToolError>,
) -> Result<OsString, ToolError> {
    let made = name_beside(name, ending);
    let part = name_beside(&made, "part");
    let failed = |doing| {
        let path = storage.path_of(&made);
        move |error| ToolError::Io { doing, path, error }
    };
    must_be_free(storage, &made)?;
    // The caller holds the log's lock, so that one that is there was left by a run that died.
    storage.remove(&part).map_err(failed("make room for"))?;
    let file = storage.create(&part).map_err(failed("create"))?;
    let mut copy = Copy {
        file,
        buf: Vec::with_capacity(BUFFER_BYTES),
        position: 0,
        chain: Chain::Unsealed,
        last_ms: 0,
    };
    let write = || {
        let stamp = fill(&mut copy)?;
        copy.close(stamp).map_err(failed("write"))?;
        // Durable before it can be found: half a log under this name would look like a whole one.
        copy.file.sync_data().map_err(failed("sync"))?;
        must_be_free(storage, &made)?;
        storage.rename(&part, &made).map_err(failed("give its name to"))
    };
    if let Err(error) = write() {
        // If it cannot be removed either, the next run removes it.
        storage.remove(&part).ok();
        return Err(error);
    }
    if let Err(error) = storage.sync_dir() {
        // Nobody is told of a name that a crash may take away again.
        storage.remove(&made).ok();
        return Err(failed("sync the directory of")(error));
    }
    Ok(made)
}

fn must_be_free(storage: &dyn Storage, name: &OsStr) -> Result<(), ToolError> {
    let path = storage.path_of(name);
    match storage.find(name) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(ToolError::Exists(path)),
        Err(error) => Err(ToolError::Io { doing: "look for", path, error }),
    }
}

impl Copy {
    /// Takes the first `end` bytes of `from` as they are; `chain` and `last_ms` say how they end.
    /// Only ahead of everything else.
    ///
    /// # Errors
    /// Those of reading and writing; `UnexpectedEof` if `from` is shorter.
    pub(super) fn take_head(
        &mut self,
        from: &dyn LogFile,
        end: u64,
        chain: Chain,
        last_ms: u64,
    ) -> io::Result<()> {
        while self.position < end {
            let wanted = (end - self.position).min(BUFFER_BYTES as u64) as usize;
            self.buf.resize(wanted, 0);
            let read = read_full_at(from, &mut self.buf, self.position)?;
            if read < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.write_out()?;
        }
        (self.chain, self.last_ms) = (chain, last_ms);
        Ok(())
    }

    /// Appends a group and its seal. A time before the last one's counts as the last one's.
    ///
    /// # Errors
    /// Those of writing, and of the kernel's random source where the sealed part begins.
    pub(super) fn group(&mut self, text: &[u8], stamp: Stamp) -> io::Result<()> {
        let unix_ms = stamp.unix_ms.max(self.last_ms);
        let previous = self.sealed_from(unix_ms)?;
        self.buf.extend_from_slice(text);
        let mut sum = GroupSum::after(&previous);
        sum.add(text);
        let end = self.end();
        let seal = sum.seal(&SealFields { end, durable: end, db: stamp.db, unix_ms });
        self.buf.extend_from_slice(seal.as_bytes());
        (self.chain, self.last_ms) = (Chain::Sealed(seal), unix_ms);
        if self.buf.len() >= BUFFER_BYTES { self.write_out() } else { Ok(()) }
    }

    /// Ends the log as a shutdown in order does; leaves an unsealed one as it is.
    fn close(&mut self, stamp: Stamp) -> io::Result<()> {
        if let Chain::Sealed(previous) = self.chain {
            let stamp = Stamp { unix_ms: stamp.unix_ms.max(self.last_ms), ..stamp };
            let (text, last) = closing_seals(&previous, self.end(), stamp);
            self.buf.extend_from_slice(&text);
            self.chain = Chain::Sealed(last);
        }
        self.write_out()
    }

    /// The line that the next seal covers; a header where nothing is sealed yet.
    fn sealed_from(&mut self, unix_ms: u64) -> io::Result<Line> {
        if let Chain::Sealed(previous) = self.chain {
            return Ok(previous);
        }
        let header = Line::header(random_generation()?, unix_ms);
        self.buf.extend_from_slice(header.as_bytes());
        Ok(header)
    }

    fn end(&self) -> u64 {
        self.position + self.buf.len() as u64
    }

    fn write_out(&mut self) -> io::Result<()> {
        write_all_at(&*self.file, &self.buf, self.position)?;
        self.position += self.buf.len() as u64;
        self.buf.clear();
        // What one huge group left behind.
        self.buf.shrink_to(BUFFER_BYTES);
        Ok(())
    }
}
