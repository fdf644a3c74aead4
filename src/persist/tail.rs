//! The end of one append-only file: where the next group goes, and the chain of seals it continues.

use std::io;
use std::sync::Arc;

use super::format::{GroupSum, Line, SEALS_OFF_LINE, Seal, SealFields, random_generation};
use super::storage::{Found, LogFile, write_all_at};

/// What a seal says about its group besides where it lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The database selected at the group's end.
    pub db: u64,
    /// Wall clock when the group was made, milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// A place between two groups of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// File offset.
    pub offset: u64,
    /// How the file goes on there.
    pub chain: Chain,
}

/// How the file is continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// By a group sealed after this line, a seal or a header.
    Sealed(Line),
    /// By plain records: nothing is sealed yet, or no longer.
    Unsealed,
}

impl Chain {
    /// Whether both are sealed or neither is.
    #[must_use]
    pub fn is_like(&self, other: &Chain) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

const TRUNCATED: &str = "the file has been truncated";

/// The error of a file that is shorter than what was written to it.
#[must_use]
pub fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, TRUNCATED)
}

/// Writes groups to one file. One owner at a time: the loop, or the hand-off's helper thread.
pub struct Tail {
    file: Arc<dyn LogFile>,
    /// Where the last complete group (and its seal, if it has one) ends. Whatever the file holds
    /// behind is the rest of a failed write; the next group is written over it.
    end: u64,
    chain: Chain,
    /// File offset known to be durable: what the next seal states.
    known_durable: u64,
    /// The file has no name yet and gets it only once all of it is synced, so that every seal may
    /// state its own end.
    unnamed: bool,
    /// The time in the last seal or header: the next one states no earlier.
    last_ms: u64,
    /// Where a header that was written while running ends: no group goes behind it before it is
    /// durable. Torn by a crash with groups behind, it would make the file unreadable.
    header_end: u64,
    /// Whether bytes of a failed write may stand behind `end`.
    fouled: bool,
    /// Whether the last seals are those of [`Tail::close`].
    closed: bool,
    /// Where the end was when [`Tail::meddled_with`] last looked.
    looked_at: u64,
}

impl Tail {
    /// Goes on behind `end`. `known_durable` is the file offset known to be durable.
    #[must_use]
    pub fn new(
        file: Arc<dyn LogFile>,
        end: u64,
        chain: Chain,
        last_ms: u64,
        known_durable: u64,
        closed: bool,
    ) -> Tail {
        Tail {
            file,
            end,
            chain,
            known_durable,
            unnamed: false,
            last_ms,
            header_end: 0,
            fouled: false,
            closed,
            looked_at: end,
        }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Arc<dyn LogFile> {
        &self.file
    }

    /// The file alone, for somebody else to close: on the loop its last handle must not be, since
    /// freeing the blocks of an unlinked file can take long.
    #[must_use]
    pub fn into_file(self) -> Arc<dyn LogFile> {
        self.file
    }

    /// Where the next group will stand.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { offset: self.end, chain: self.chain }
    }

    /// File offset where the last complete group ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Looks for what somebody else has done to the file, where `found` is what its name leads to;
    /// says it in words for a message. Costs an fstat and the read of one byte.
    ///
    /// A cut in the very moment of a write, behind the check there, leaves the file long again and
    /// with zeros in it: hence the byte, the last one at the time of the look before.
    ///
    /// # Errors
    /// Those of fstat(2) and pread(2).
    pub fn meddled_with(&mut self, found: Option<Found>) -> io::Result<Option<&'static str>> {
        let Some(found) = found else { return Ok(Some("the file has been removed")) };
        if found.id != self.file.id()? {
            return Ok(Some("the file has been replaced by another one"));
        }
        let mut last = [0];
        // What ends here ends in a line feed; a hole reads as zeros.
        let has_hole = self.looked_at > 0
            && (self.file.read_at(&mut last, self.looked_at - 1)? == 0 || last == [0]);
        self.looked_at = self.end;
        Ok((has_hole || found.bytes < self.end).then_some(TRUNCATED))
    }

    /// Records that the first `offset` bytes of the file are durable, so that seals can state it.
    pub fn set_known_durable(&mut self, offset: u64) {
        self.known_durable = self.known_durable.max(offset);
    }

    /// Says whether what is written from now on reaches the file ahead of the sync that precedes
    /// its name. When that ends, what the file holds so far is what that sync will cover.
    pub fn set_unnamed(&mut self, unnamed: bool) {
        if self.unnamed && !unnamed {
            self.known_durable = self.end;
        }
        self.unnamed = unnamed;
    }

    /// Writes the group `buf[from..]` and its seal (none with `seals` off) by one write(2) where
    /// the kernel takes it whole. `buf` is given back as it was; it is borrowed mutably so that
    /// the seal can be appended for the write without copying the group.
    ///
    /// # Errors
    /// Those of write(2). The group then counts as not written at all: what part of it reached the
    /// file has been cut off again, or will be written over.
    pub fn write_group(
        &mut self,
        buf: &mut Vec<u8>,
        from: usize,
        stamp: Stamp,
        seals: bool,
    ) -> io::Result<()> {
        let unix_ms = stamp.unix_ms.max(self.last_ms);
        let stamp = Stamp { unix_ms, ..stamp };
        let group_bytes = buf.len();
        let (chain, lead) = self.lead_in(seals, unix_ms)?;
        let chain = match chain {
            Chain::Unsealed => Chain::Unsealed,
            Chain::Sealed(previous) => {
                let group = buf.get(from..).unwrap_or(&[]);
                let seal = self.seal_after(&previous, lead.len() as u64, group, stamp);
                buf.extend_from_slice(seal.as_bytes());
                Chain::Sealed(seal)
            }
        };
        let group = buf.get(from..).unwrap_or(&[]);
        let result = if lead.is_empty() {
            self.write(group)
        } else {
            // Only where sealing begins or ends: the lines that say so belong to the same write.
            self.write(&[&lead, group].concat())
        };
        buf.truncate(group_bytes);
        result?;
        self.chain = chain;
        self.last_ms = unix_ms;
        self.closed = false;
        Ok(())
    }

    /// The lines that must stand ahead of a group because sealing begins or ends with it, and the
    /// chain that the group itself continues. A file that has its name begins to be sealed by
    /// [`Tail::begin_sealing`] alone, and goes on without seals until then.
    fn lead_in(&self, seals: bool, unix_ms: u64) -> io::Result<(Chain, Vec<u8>)> {
        Ok(match (self.chain, seals) {
            (Chain::Sealed(previous), true) => (Chain::Sealed(previous), Vec::new()),
            (Chain::Unsealed, true) if !self.unnamed => (Chain::Unsealed, Vec::new()),
            (Chain::Unsealed, false) => (Chain::Unsealed, Vec::new()),
            (Chain::Unsealed, true) => {
                let header = Line::header(random_generation()?, unix_ms);
                (Chain::Sealed(header), header.as_bytes().to_vec())
            }
            (Chain::Sealed(previous), false) => {
                let stamp = Stamp { db: 0, unix_ms };
                let seal = self.seal_after(&previous, 0, SEALS_OFF_LINE, stamp);
                (Chain::Unsealed, [SEALS_OFF_LINE, seal.as_bytes()].concat())
            }
        })
    }

    fn seal_after(&self, previous: &Line, ahead: u64, group: &[u8], stamp: Stamp) -> Line {
        let mut sum = GroupSum::after(previous);
        sum.add(group);
        let end = self.end + ahead + group.len() as u64;
        let durable = if self.unnamed { end } else { self.known_durable.min(end) };
        let Stamp { db, unix_ms } = stamp;
        sum.seal(&SealFields { end, durable, db, unix_ms })
    }

    /// Begins to seal an unsealed file with a header of its own; does nothing to a sealed one. No
    /// group may follow before the header is durable ([`Tail::awaits_header`]): one torn by a crash
    /// then proves that nothing stands behind it.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn begin_sealing(&mut self, unix_ms: u64) -> io::Result<()> {
        if let Chain::Unsealed = self.chain {
            let unix_ms = unix_ms.max(self.last_ms);
            let header = Line::header(random_generation()?, unix_ms);
            self.write(header.as_bytes())?;
            self.header_end = self.end;
            self.chain = Chain::Sealed(header);
            self.last_ms = unix_ms;
        }
        Ok(())
    }

    /// Whether a header has been written that is not known to be durable.
    #[must_use]
    pub fn awaits_header(&self) -> bool {
        self.known_durable < self.header_end
    }

    /// Puts seals over empty groups behind a sealed file that another process has written, all of
    /// which the caller must have made durable; they too must be durable before anything follows.
    ///
    /// A power cut can leave data on the disk behind the file's end: a group whose length did not
    /// arrive. It continues the chain. Were another group written in its place, and lost with its
    /// length kept, it would come back, verify, and be replayed, though nobody was ever told of it
    /// and it has been seen not to be there. (Seen on ext4.) It does not continue these seals.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn begin_life(&mut self, unix_ms: u64) -> io::Result<()> {
        let Chain::Sealed(last) = self.chain else { return Ok(()) };
        let db = Seal::parse(last.as_bytes()).map_or(0, |seal| seal.fields.db);
        self.closed = false;
        self.close(Stamp { db, unix_ms })
    }

    /// Ends the file with seals over empty groups that state all before them to be durable, which
    /// the caller must have made true. Two of them, because damage to a seal's own text hides the
    /// seal behind it too: so whichever one of the earlier lines is damaged, a seal that still
    /// verifies says that something promised stood there. Does nothing to an unsealed file, nor to
    /// one that was closed and not written since.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn close(&mut self, stamp: Stamp) -> io::Result<()> {
        let Chain::Sealed(previous) = self.chain else { return Ok(()) };
        if self.closed {
            return Ok(());
        }
        let stamp = Stamp { unix_ms: stamp.unix_ms.max(self.last_ms), ..stamp };
        let (text, last) = closing_seals(&previous, self.end, stamp);
        self.write(&text)?;
        self.chain = Chain::Sealed(last);
        self.last_ms = stamp.unix_ms;
        self.closed = true;
        Ok(())
    }

    /// Writes at the end and moves the end, or leaves everything as it was.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Writing at the old end of a file that somebody has cut would hide the cut and leave
        // zeros where promised data stood. An fstat is small beside the write.
        if self.file.size()? < self.end {
            return Err(truncated());
        }
        if let Err(error) = write_all_at(&*self.file, bytes, self.end) {
            // Whoever reads the file after a crash, Redis included, should find its last group
            // whole. If the truncation fails as well nothing is lost: the bytes are un-promised,
            // and the next write goes over them, since it says where it goes.
            self.fouled = self.file.truncate(self.end).is_err();
            return Err(error);
        }
        self.end += bytes.len() as u64;
        if self.fouled {
            // The failed write may have reached further than this one.
            self.fouled = self.file.truncate(self.end).is_err();
        }
        Ok(())
    }
}

/// Two seals over empty groups behind `previous`, whose line ends at file offset `end`: their text,
/// and the last of them. See [`Tail::close`].
#[must_use]
pub fn closing_seals(previous: &Line, mut end: u64, stamp: Stamp) -> (Vec<u8>, Line) {
    let mut text = Vec::with_capacity(2 * super::format::MAX_LINE_BYTES);
    let mut last = *previous;
    for _ in 0..2 {
        let Stamp { db, unix_ms } = stamp;
        last = GroupSum::after(&last).seal(&SealFields { end, durable: end, db, unix_ms });
        text.extend_from_slice(last.as_bytes());
        end += last.len();
    }
    (text, last)
}
