//! The second helper thread: brings a rewritten file up to the log's end and gives it the log's
//! name. Not the syncer's work, because commits must not wait for it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use super::background::Job;
use super::diff::Round;
use super::format::{GroupSum, Line, MAX_LINE_BYTES, Seal};
use super::kept::{keep, lacks_links, prune, replace_and_keep};
use super::reread::{RereadError, reread};
use super::storage::{LogFile, Storage, read_full_at};
use super::tail::{Chain, Tail, truncated};
use crate::sys::courtesy::Courtesy;

/// How much the kernel is asked at once to write out, so that the loop need not wait until it has
/// found a place for all of it.
const WRITE_OUT_PIECE_BYTES: u64 = 1 << 20;

/// One step, and which rewrite it belongs to: the result of a step that was under way when its
/// rewrite was abandoned concerns nobody.
pub struct HandOffJob {
    /// Number of the rewrite.
    pub attempt: u64,
    /// What to do.
    pub work: Work,
}

/// A step of the hand-off.
pub enum Work {
    /// Finds the end of the file that the child wrote.
    Adopt {
        /// The child's file.
        file: Arc<dyn LogFile>,
        /// Whether the child sealed it.
        sealed: bool,
    },
    /// Appends a round of the rewrite-diff.
    Append {
        /// The end of the new file; given back with the result.
        tail: Tail,
        /// The round.
        round: Round,
        /// Whether to seal it.
        seals: bool,
        /// Whether to start writing it out.
        incremental: bool,
    },
    /// Makes the new file durable: the large sync, which must not delay the syncer's.
    Sync {
        /// The file, to which the loop writes meanwhile.
        file: Arc<dyn LogFile>,
        /// Its length when the loop began to, bytes.
        bytes: u64,
    },
    /// Gives the new file the log's name.
    Rename {
        /// Where.
        storage: Arc<dyn Storage>,
        /// The temporary name.
        from: OsString,
        /// The log's name.
        to: OsString,
        /// Keeps the old file too, as that from before the rewrite that forked at this time,
        /// milliseconds since 1970.
        keep_before_ms: Option<u64>,
    },
    /// Removes the oldest of the files that were kept before rewrites.
    Prune {
        /// Where.
        storage: Arc<dyn Storage>,
        /// The log's name.
        name: OsString,
        /// How many stay.
        keep: usize,
    },
    /// Removes a file that is not wanted any more, and closes it away from the loop. If its name
    /// cannot be removed its bytes are.
    Discard {
        /// Where.
        storage: Arc<dyn Storage>,
        /// The name to remove, if it still has one.
        name: Option<OsString>,
        /// Handles to close.
        files: Vec<Arc<dyn LogFile>>,
    },
}

/// What came of a step.
pub enum Outcome {
    /// The end of the child's file.
    Adopted(io::Result<Tail>),
    /// The end of the new file, behind the round.
    Appended(Result<Tail, RereadError>),
    /// Whether the new file is durable.
    Synced(io::Result<()>),
    /// How the change of names went.
    Renamed(RenameOutcome),
    /// Whether the file could be removed.
    Discarded(io::Result<()>),
    /// Which files were removed, up to the first error.
    Pruned(Vec<OsString>, io::Result<()>),
}

/// How a change of names went.
pub enum RenameOutcome {
    /// The old file cannot be kept; the names are as before.
    NotKept(io::Error),
    /// The names are as before.
    Failed(io::Error),
    /// The new file bears the name, but a crash may bring the old one back.
    NotDurable(io::Error),
    /// The new file bears the name for good.
    Durable,
}

impl Job for HandOffJob {
    type Done = (u64, Outcome);

    fn run(self) -> (u64, Outcome) {
        let outcome = match self.work {
            Work::Adopt { file, sealed } => Outcome::Adopted(adopt(file, sealed)),
            Work::Append { mut tail, round, seals, incremental } => {
                let result = append(&mut tail, round, seals, incremental);
                Outcome::Appended(result.map(|()| tail))
            }
            Work::Sync { file, bytes } => Outcome::Synced(sync(&*file, bytes)),
            Work::Rename { storage, from, to, keep_before_ms } => {
                Outcome::Renamed(rename(&*storage, &from, &to, keep_before_ms))
            }
            Work::Prune { storage, name, keep } => {
                let mut removed = Vec::new();
                let result = prune(&*storage, &name, keep, &mut removed);
                Outcome::Pruned(removed, result)
            }
            Work::Discard { storage, name, files } => {
                let removed = name.map_or(Ok(()), |name| storage.remove(&name));
                if removed.is_err() {
                    // It stays, and so would that of each later try: let it at least take no room.
                    // The error to tell is the first one.
                    files.iter().for_each(|file| drop(file.truncate(0)));
                }
                drop(files);
                Outcome::Discarded(removed)
            }
        };
        (self.attempt, outcome)
    }
}

/// Appends a round to the new file.
fn append(
    tail: &mut Tail,
    round: Round,
    seals: bool,
    incremental: bool,
) -> Result<(), RereadError> {
    let start = tail.end();
    let mut courtesy = Courtesy::new();
    let mut write = |group: &mut Vec<u8>, stamp| {
        courtesy.give_way_if_due();
        tail.write_group(group, 0, stamp, seals)
    };
    match round {
        Round::Held(held) => held.drain(write).map_err(RereadError::New)?,
        Round::Spilled(old, stretch) => reread(&*old, &stretch, &mut write)?,
    }
    if incremental {
        // So that the large sync at the end finds little left to do.
        let mut at = start;
        while at < tail.end() {
            let bytes = (tail.end() - at).min(WRITE_OUT_PIECE_BYTES);
            tail.file().start_write_out(at, bytes).map_err(RereadError::New)?;
            at += bytes;
            courtesy.give_way_if_due();
        }
    }
    Ok(())
}

/// Makes the new file durable, the first `bytes` of which must be there.
fn sync(file: &dyn LogFile, bytes: u64) -> io::Result<()> {
    file.sync_data()?;
    // It is about to become the log, and the old one to go.
    if file.size()? < bytes { Err(truncated()) } else { Ok(()) }
}

/// Gives the file `from` the log's name `to`; keeps the one that bore it if told to.
fn rename(
    storage: &dyn Storage,
    from: &OsStr,
    to: &OsStr,
    keep_before_ms: Option<u64>,
) -> RenameOutcome {
    // Ahead of the rename, after which the old file has no name to link to. The same sync of the
    // directory makes both durable.
    let kept = match keep_before_ms.map_or(Ok(None), |ms| keep(storage, to, ms)) {
        Ok(kept) => kept,
        Err(error) if lacks_links(&error) => {
            return rename_without_links(storage, from, to, keep_before_ms.unwrap_or(0));
        }
        Err(error) => return RenameOutcome::NotKept(error),
    };
    if let Err(error) = storage.rename(from, to) {
        if let Some(kept) = kept {
            // Nothing was rewritten, so nothing is to be kept. If this fails too there is a second
            // name for the log, which takes no room and is removed in its turn.
            storage.remove(&kept).ok();
        }
        return RenameOutcome::Failed(error);
    }
    end_of_rename(storage)
}

/// The old file may be let go only when no crash can bring it back.
fn end_of_rename(storage: &dyn Storage) -> RenameOutcome {
    match storage.sync_dir() {
        Err(error) => RenameOutcome::NotDurable(error),
        Ok(()) => RenameOutcome::Durable,
    }
}

fn rename_without_links(
    storage: &dyn Storage,
    from: &OsStr,
    to: &OsStr,
    keep_before_ms: u64,
) -> RenameOutcome {
    match replace_and_keep(storage, from, to, keep_before_ms) {
        Ok(Some(_)) => end_of_rename(storage),
        Ok(None) => rename(storage, from, to, None),
        Err(error) => RenameOutcome::NotKept(error),
    }
}

/// Finds the end of a base that a child wrote. Its last group must be empty and the seal behind that verify:
/// so are both seals with which a child ends, and what stands before them is whole.
fn adopt(file: Arc<dyn LogFile>, sealed: bool) -> io::Result<Tail> {
    let size = file.size()?;
    if !sealed {
        return Ok(unnamed(Tail::new(file, size, Chain::Unsealed, 0, size, true)));
    }
    let start = size.saturating_sub(2 * MAX_LINE_BYTES as u64);
    let mut buf = [0; 2 * MAX_LINE_BYTES];
    let read = read_full_at(&*file, &mut buf, start)?;
    let (line, seal) = closing_line(buf.get(..read).unwrap_or(&[]), size).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "the rewritten file does not end in its seals")
    })?;
    let ms = seal.fields.unix_ms;
    Ok(unnamed(Tail::new(file, size, Chain::Sealed(line), ms, size, true)))
}

fn unnamed(mut tail: Tail) -> Tail {
    tail.set_unnamed(true);
    tail
}

fn closing_line(bytes: &[u8], size: u64) -> Option<(Line, Seal)> {
    let line_start = |text: &[u8]| memchr::memrchr(b'\n', text).map_or(0, |at| at + 1);
    let last_start = line_start(bytes.strip_suffix(b"\n")?);
    let (rest, last) = bytes.split_at_checked(last_start)?;
    let previous = rest.get(line_start(rest.strip_suffix(b"\n")?)..)?;
    let (line, seal) = (Line::keep(last)?, Seal::parse(last)?);
    Seal::parse(previous)?;
    let in_place = seal.fields.end == size.checked_sub(line.len())?;
    let verifies = GroupSum::after(&Line::keep(previous)?).verifies(last, &seal);
    (in_place && verifies && seal.fields.durable == seal.fields.end).then_some((line, seal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::base::{BaseOptions, BaseWriter};
    use crate::persist::simulated::SimDisk;
    use crate::persist::storage::write_all_at;

    fn base() -> Vec<u8> {
        let disk = SimDisk::new(1);
        let file = disk.storage().create(OsStr::new("base")).expect("created");
        let options = BaseOptions { seals: true, incremental: false, unix_ms: 7 };
        let mut writer = BaseWriter::new(file, options).expect("random bytes");
        writer.set(b"key", b"value", None).expect("written");
        writer.finish().expect("durable");
        disk.contents("base").expect("there")
    }

    fn adopted(bytes: &[u8]) -> io::Result<Tail> {
        let file = SimDisk::new(1).storage().create(OsStr::new("base"))?;
        write_all_at(&*file, bytes, 0)?;
        adopt(file, true)
    }

    /// A child that the kernel has stopped in the middle of its end, or somebody else who writes to
    /// its file.
    #[test]
    fn a_base_is_gone_on_with_only_where_it_ends_in_its_closing_seals() {
        let whole = base();
        assert_eq!(adopted(&whole).expect("whole").end(), whole.len() as u64);
        let closing = whole.windows(4).enumerate().filter(|(_, text)| *text == b"#S1:");
        let closing: Vec<usize> = closing.map(|(at, _)| at).collect();
        let (first, last) = (closing[closing.len() - 2], closing[closing.len() - 1]);
        for at in first..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(adopted(&damaged).is_err(), "a bit of byte {at} of {}", whole.len());
            // Without the last of the two nothing of the data is missing.
            let cut = adopted(&whole[..at]);
            assert_eq!(cut.is_ok(), at == last, "{at} bytes of {}", whole.len());
        }
        // Whole seals in another place.
        assert!(adopted(&[b"#", &whole[..]].concat()).is_err());
        assert!(adopted(&whole[1..]).is_err());
        assert!(adopted(&[&whole[..], b"\n"].concat()).is_err());
    }
}
