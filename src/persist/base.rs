//! The base of a file: a data set written as commands, by the forked child of a rewrite, or the
//! empty one that a new log begins with.

use std::io;
use std::sync::Arc;

use super::format::{GroupSum, Line, SealFields, random_generation};
use super::storage::{LogFile, write_all_at};
use super::tail::{Chain, Stamp, Tail, closing_seals, truncated};
use crate::sys::courtesy::Courtesy;

/// Size of the one buffer, and of a sealed chunk: large enough for write(2) to cost nothing beside
/// the copy, small enough for a loader to hold a chunk back until its seal verified.
const CHUNK_BYTES: usize = 1 << 20;
/// An argument of this size goes out without passing through the buffer.
const DIRECT_BYTES: usize = 64 << 10;
/// How much is written between two hints to start writing out, so that the final sync does not
/// find everything left to do.
const WRITE_OUT_BYTES: u64 = 4 << 20;
/// How much may be on its way to the disk. Bounded, so that the final sync is no longer than any
/// other step, and that no flood of a rewrite's pages stands ahead of the log's own syncs.
const ON_THE_WAY_BYTES: u64 = 32 << 20;

/// Commands between two looks at the clock, to see whether to give way. Of small keys some 20
/// microseconds' worth.
const LOOK_COMMANDS: u64 = 64;
/// How much is handed to the kernel at once where somebody may want the processor: some 50
/// microseconds' worth.
const PIECE_BYTES: usize = 128 << 10;
/// How much of it is then hinted at once to be written out, for which the kernel finds the place on
/// the disk.
const WRITE_OUT_PIECE_BYTES: u64 = 1 << 20;

/// How a base is to be written.
#[derive(Clone, Copy, Debug)]
pub struct BaseOptions {
    /// Whether to seal it.
    pub seals: bool,
    /// Whether to start writing out every few MiB instead of leaving it to the end.
    pub incremental: bool,
    /// The time its seals state: that of the fork, since the base shows the data as they were then.
    pub unix_ms: u64,
}

/// Streams a data set as commands into a new file. Allocates one buffer when made and nothing a
/// key, takes no lock, does not log.
///
/// Every chunk's seal states its own end to be durable. That is true of the file under the log's
/// name, which it gets only once all of it is synced.
pub struct BaseWriter {
    file: Arc<dyn LogFile>,
    options: BaseOptions,
    buf: Vec<u8>,
    /// File offset of `buf`'s first byte.
    position: u64,
    /// Where in `buf` the bytes begin that `sum` has not covered yet.
    summed: usize,
    /// File offset where the chunk being written begins.
    chunk_start: u64,
    previous: Line,
    sum: GroupSum,
    db: u64,
    written_out: u64,
    /// Up to here it has arrived.
    settled: u64,
    commands: u64,
    courtesy: Option<Courtesy>,
}

impl BaseWriter {
    /// Begins a base at the start of an empty file. Nothing is written yet.
    ///
    /// # Errors
    /// Those of the kernel's random source.
    pub fn new(file: Arc<dyn LogFile>, options: BaseOptions) -> io::Result<BaseWriter> {
        let header = Line::header(random_generation()?, options.unix_ms);
        let mut buf = Vec::with_capacity(CHUNK_BYTES + DIRECT_BYTES);
        if options.seals {
            buf.extend_from_slice(header.as_bytes());
        }
        Ok(BaseWriter {
            file,
            options,
            position: 0,
            summed: buf.len(),
            chunk_start: buf.len() as u64,
            buf,
            previous: header,
            sum: GroupSum::after(&header),
            db: 0,
            written_out: 0,
            settled: 0,
            commands: 0,
            courtesy: None,
        })
    }

    /// From here on gives way to whoever wants the processor, several times a millisecond.
    pub fn set_courteous(&mut self) {
        self.courtesy = Some(Courtesy::new());
    }

    /// How many times it has offered the processor to others.
    #[must_use]
    pub fn offers(&self) -> u64 {
        self.courtesy.as_ref().map_or(0, Courtesy::offers)
    }

    /// The commands that follow concern database `db`.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn select(&mut self, db: usize) -> io::Result<()> {
        self.command(&[b"SELECT", itoa::Buffer::new().format(db).as_bytes()])?;
        self.db = db as u64;
        Ok(())
    }

    /// `SET key value`, with `PXAT` where the key has a deadline (Unix time in milliseconds).
    ///
    /// # Errors
    /// Those of write(2).
    pub fn set(&mut self, key: &[u8], value: &[u8], deadline_ms: Option<i64>) -> io::Result<()> {
        match deadline_ms {
            None => self.command(&[b"SET", key, value]),
            Some(ms) => {
                let mut text = itoa::Buffer::new();
                self.command(&[b"SET", key, value, b"PXAT", text.format(ms).as_bytes()])
            }
        }
    }

    /// Any one command.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn command(&mut self, args: &[&[u8]]) -> io::Result<()> {
        self.header(b'*', args.len())?;
        for arg in args {
            self.header(b'$', arg.len())?;
            self.put(arg)?;
            self.put(b"\r\n")?;
        }
        self.commands += 1;
        if self.commands.is_multiple_of(LOOK_COMMANDS) {
            self.give_way_if_due();
        }
        // Between commands only: a seal never stands inside one.
        if self.position + self.buf.len() as u64 - self.chunk_start >= CHUNK_BYTES as u64 {
            self.end_chunk()?;
        }
        Ok(())
    }

    /// Commands written so far, SELECTs included.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.commands
    }

    /// Seals and writes what is left and makes the file durable. Returns its length in bytes.
    ///
    /// # Errors
    /// Those of write(2) and fdatasync(2); `UnexpectedEof` if somebody else has changed the file's
    /// length.
    pub fn finish(mut self) -> io::Result<u64> {
        self.write_rest()?;
        self.file.sync_data()?;
        self.check_size()?;
        Ok(self.position)
    }

    /// The same, and gives what continues the file.
    ///
    /// # Errors
    /// Those of write(2) and fdatasync(2).
    pub fn finish_into_tail(mut self) -> io::Result<Tail> {
        self.write_rest()?;
        self.file.sync_data()?;
        self.check_size()?;
        let BaseWriter { file, position, previous, options, .. } = self;
        let chain = if options.seals { Chain::Sealed(previous) } else { Chain::Unsealed };
        Ok(Tail::new(file, position, chain, options.unix_ms, position, true))
    }

    fn write_rest(&mut self) -> io::Result<()> {
        if self.position + self.buf.len() as u64 > self.chunk_start {
            self.end_chunk()?;
        }
        if self.options.seals {
            let end = self.position + self.buf.len() as u64;
            let stamp = Stamp { db: self.db, unix_ms: self.options.unix_ms };
            let (text, last) = closing_seals(&self.previous, end, stamp);
            self.buf.extend_from_slice(&text);
            self.previous = last;
        }
        // The closing seals belong to no chunk that is still to be summed.
        self.summed = self.buf.len();
        self.write_out()
    }

    fn header(&mut self, kind: u8, len: usize) -> io::Result<()> {
        self.buf.push(kind);
        self.put(itoa::Buffer::new().format(len).as_bytes())?;
        self.put(b"\r\n")
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() < DIRECT_BYTES {
            self.buf.extend_from_slice(bytes);
            if self.buf.len() >= CHUNK_BYTES {
                self.write_out()?;
            }
            return Ok(());
        }
        self.write_out()?;
        // In pieces, so that what is on its way to the disk stays bounded, and others need not wait
        // until all of it is summed up.
        for piece in bytes.chunks(CHUNK_BYTES) {
            self.sum.add(piece);
            self.write(piece)?;
        }
        Ok(())
    }

    fn end_chunk(&mut self) -> io::Result<()> {
        if self.options.seals {
            self.sum_rest();
            let end = self.position + self.buf.len() as u64;
            let Stamp { db, unix_ms } = Stamp { db: self.db, unix_ms: self.options.unix_ms };
            self.previous = self.sum.seal(&SealFields { end, durable: end, db, unix_ms });
            self.buf.extend_from_slice(self.previous.as_bytes());
            self.sum = GroupSum::after(&self.previous);
            self.summed = self.buf.len();
        }
        self.chunk_start = self.position + self.buf.len() as u64;
        self.write_out()
    }

    fn sum_rest(&mut self) {
        self.sum.add(self.buf.get(self.summed..).unwrap_or(&[]));
        self.summed = self.buf.len();
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.sum_rest();
        let mut buf = std::mem::take(&mut self.buf);
        let result = self.write(&buf);
        buf.clear();
        self.buf = buf;
        self.summed = 0;
        result
    }

    fn give_way_if_due(&mut self) {
        if let Some(courtesy) = &mut self.courtesy {
            courtesy.give_way_if_due();
        }
    }

    /// Holds the file's length against what was written.
    fn check_size(&self) -> io::Result<()> {
        if self.file.size()? == self.position { Ok(()) } else { Err(truncated()) }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let piece_bytes = if self.courtesy.is_some() { PIECE_BYTES } else { bytes.len().max(1) };
        for piece in bytes.chunks(piece_bytes) {
            // Ahead of each write, since one behind a cut hides it: the file is as long as it should
            // be then, with zeros where commands stood. An fstat is small beside the write.
            self.check_size()?;
            write_all_at(&*self.file, piece, self.position)?;
            self.position += piece.len() as u64;
            self.give_way_if_due();
        }
        if self.options.incremental && self.position - self.written_out >= WRITE_OUT_BYTES {
            self.start_write_out()?;
            let settled = self.position.saturating_sub(ON_THE_WAY_BYTES);
            if settled > self.settled {
                self.file.finish_write_out(self.settled, settled - self.settled)?;
                self.settled = settled;
            }
        }
        Ok(())
    }

    fn start_write_out(&mut self) -> io::Result<()> {
        let is_courteous = self.courtesy.is_some();
        let piece_bytes = if is_courteous { WRITE_OUT_PIECE_BYTES } else { u64::MAX };
        while self.written_out < self.position {
            let bytes = (self.position - self.written_out).min(piece_bytes);
            self.file.start_write_out(self.written_out, bytes)?;
            self.written_out += bytes;
            self.give_way_if_due();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::simulated::SimDisk;
    use crate::persist::storage::read_full_at;
    use crate::sys::clock::mono_us;
    use std::ffi::OsStr;

    /// A base of keys that take some milliseconds to write, with one value of [`LARGE_BYTES`].
    struct Written {
        content: Vec<u8>,
        offers: u64,
        took_us: u64,
        /// Operations of the disk that the large value took.
        large_ops: u64,
    }

    const LARGE_BYTES: usize = 5 << 20;

    fn written(courteous: bool) -> Written {
        let disk = SimDisk::new(1);
        let file = disk.storage().create(OsStr::new("base")).expect("created");
        let options = BaseOptions { seals: false, incremental: true, unix_ms: 1 };
        let mut writer = BaseWriter::new(Arc::clone(&file), options).expect("random");
        if courteous {
            writer.set_courteous();
        }
        let start = mono_us();
        for n in 0..40_000 {
            writer.set(format!("key:{n}").as_bytes(), &[b'v'; 32], None).expect("written");
        }
        let ops = disk.ops();
        writer.set(b"large", &vec![b'w'; LARGE_BYTES], None).expect("written");
        let large_ops = disk.ops() - ops;
        let (offers, took_us) = (writer.offers(), mono_us().since(start));
        let bytes = writer.finish().expect("durable");
        let mut content = vec![0; bytes as usize];
        assert_eq!(read_full_at(&*file, &mut content, 0).expect("read"), content.len());
        Written { content, offers, took_us, large_ops }
    }

    #[test]
    fn a_courteous_writer_gives_way_and_writes_the_same() {
        let Written { content, offers, took_us, large_ops } = written(true);
        // One each quarter of a millisecond, had the machine nothing else to do; at the least one for
        // each stretch of a millisecond that a processor lent elsewhere allows.
        assert!(offers >= 5, "{offers} in {took_us} us");
        assert!(large_ops >= (LARGE_BYTES / PIECE_BYTES) as u64, "{large_ops}");
        let reference = written(false);
        assert_eq!(reference.offers, 0);
        assert!(reference.large_ops < large_ops, "{} and {large_ops}", reference.large_ops);
        assert!(content == reference.content);
    }
}
