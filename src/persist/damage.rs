//! What stands behind the end of what is good, and what that means: one judgement, for a start
//! and for `--check-aof` alike.

use std::fmt;
use std::io;
use std::ops::ControlFlow;

use super::chain::{ChainReader, READ_BYTES, Region, Stop};
use super::records::{Batch, Believed, Parsed, comment_len, leading_args, parse_command};
use super::storage::read_full_at;

/// Where a command's first key stands among its arguments, by the command's name in any case.
/// `None` if it has no key or is not known.
pub type KeyPosition = fn(name: &[u8]) -> Option<usize>;

/// How much of a key is shown in a message, bytes.
const SHOWN_KEY_BYTES: usize = 100;
/// How many arguments are looked at for a command's first key.
const LEADING_ARGS: usize = 4;

/// Bytes at the end of a file that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What was found wrong, and where.
    pub stop: Stop,
    /// File offset where what is good ends.
    pub end: u64,
    /// Bytes from there to the file's end: what cutting would lose.
    pub bytes: u64,
    /// What it means.
    pub verdict: Verdict,
    /// The first key behind `end`, where it can be told.
    pub first_key: Option<Box<FirstKey>>,
}

/// What may be done about damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A later seal that is intact states the file to have been durable up to `until`, which lies
    /// behind the end of what is good: something that was promised is damaged. Never cut without
    /// being told to.
    Promised {
        /// File offset.
        until: u64,
    },
    /// The good part ends in a seal, so that nothing behind it can have been promised: a reply
    /// waits for the write that carries its group's seal, and what a later sync covered the next
    /// seal states.
    NeverPromised,
    /// Not sealed, and the file merely ends too early: may be cut, as Redis does.
    TornUnsealed,
    /// Not sealed, and reads wrong: nobody can tell what was promised of it. Never cut without
    /// being told to.
    BadUnsealed,
}

/// A key that damage affects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstKey {
    /// The key as it reads now; damage may have changed it.
    pub key: Vec<u8>,
    /// The command's name as it reads now.
    pub command: Vec<u8>,
    /// File offset of the command.
    pub offset: u64,
}

impl fmt::Display for FirstKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.key.get(..SHOWN_KEY_BYTES).unwrap_or(&self.key);
        let more = if shown.len() < self.key.len() { "..." } else { "" };
        let name = self.command.to_ascii_uppercase();
        write!(
            f,
            "\"{}{more}\" ({} at offset {})",
            shown.escape_ascii(),
            name.escape_ascii(),
            self.offset
        )
    }
}

impl ChainReader {
    /// Judges what follows the end of what is good, where `stop` ended the reading. Reads the rest
    /// of the file.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn judge(&self, stop: Stop, key_position: KeyPosition) -> io::Result<Damage> {
        // What an intact seal promises counts first, in whatever part of the file it stands. Then
        // a seal at the end of what is good vouches that nothing was promised behind it. Without
        // seals there is only Redis's rule: what ends early may be cut, what reads wrong may not.
        let verdict = match self.find_broken_promise()? {
            Some(seal) => Verdict::Promised { until: seal.durable },
            None if matches!(self.region, Region::Sealed(_)) => Verdict::NeverPromised,
            None if stop.torn => Verdict::TornUnsealed,
            None => Verdict::BadUnsealed,
        };
        let first_key = self.first_key_behind(key_position)?.map(Box::new);
        let (end, bytes) = (self.end(), self.total() - self.end());
        Ok(Damage { stop, end, bytes, verdict, first_key })
    }

    /// The first key behind the end of what is good: of the damaged records themselves where they
    /// can be read so far, else of the first group behind them that verifies.
    fn first_key_behind(&self, key_position: KeyPosition) -> io::Result<Option<FirstKey>> {
        if let Some(found) = self.first_key_at(self.end(), key_position)? {
            return Ok(Some(found));
        }
        match self.visit_intact(|from, _| ControlFlow::Break(from))? {
            Some(intact) => self.first_key_at(intact, key_position),
            None => Ok(None),
        }
    }

    /// The first key of the records from `at` on, as far as one read goes.
    fn first_key_at(&self, at: u64, key_position: KeyPosition) -> io::Result<Option<FirstKey>> {
        let wanted = READ_BYTES.min(self.total().saturating_sub(at));
        let mut window = vec![0; wanted as usize];
        let filled = read_full_at(&**self.file(), &mut window, at)?;
        let window = window.get(..filled).unwrap_or(&[]);
        let mut from = 0;
        while let Some(bytes) = window.get(from..)
            && !bytes.is_empty()
        {
            if bytes.starts_with(b"#") {
                let Parsed::Whole(len) = comment_len(bytes) else { return Ok(None) };
                from += len;
                continue;
            }
            let args = leading_args(bytes, LEADING_ARGS);
            let position = args.first().and_then(|name| key_position(name));
            if let (Some(command), Some(key)) = (args.first(), position.and_then(|p| args.get(p))) {
                let offset = at + from as u64;
                return Ok(Some(FirstKey { key: key.to_vec(), command: command.to_vec(), offset }));
            }
            // A record without a key (SELECT, MULTI) is stepped over.
            let mut batch = Batch::default();
            let believed = Believed { max_bulk: READ_BYTES, rest: READ_BYTES };
            let Parsed::Whole(len) = parse_command(bytes, 0, believed, &mut batch) else { break };
            from += len;
        }
        Ok(None)
    }
}
