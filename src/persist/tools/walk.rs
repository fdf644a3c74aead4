//! Reads a file record by record, by form alone: seals are lines like others.

use std::io;

use super::File;
use crate::persist::chain::{CommandView, READ_BYTES, Stop};
use crate::persist::records::{
    Batch, Believed, Command, EXEC_RECORD, MULTI_RECORD, Parsed, comment_len, parse_command,
};
use crate::persist::storage::read_full_at;

/// One record.
pub(super) enum Record<'a> {
    Command(CommandView<'a>),
    /// A whole `#` line, its line end included.
    Line(&'a [u8]),
}

/// What a command is to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bracket {
    None,
    Multi,
    Exec,
}

impl Bracket {
    pub(super) fn of(text: &[u8]) -> Bracket {
        if text.eq_ignore_ascii_case(MULTI_RECORD) {
            Bracket::Multi
        } else if text.eq_ignore_ascii_case(EXEC_RECORD) {
            Bracket::Exec
        } else {
            Bracket::None
        }
    }
}

/// Reads records from a file's start to its end. Holds one read, or one record where that is
/// longer.
pub(super) struct Walk {
    file: File,
    total: u64,
    max_bulk_bytes: u64,
    window: Vec<u8>,
    /// File offset of the window's first byte.
    window_at: u64,
    /// File offset of the next record.
    position: u64,
    batch: Batch,
}

/// What [`Walk::next`] has found at its position.
enum Found {
    Command(Command),
    Line(usize),
}

impl Walk {
    pub(super) fn new(file: File, total: u64, max_bulk_bytes: u64) -> Walk {
        let (window, batch) = (Vec::new(), Batch::default());
        Walk { file, total, max_bulk_bytes, window, window_at: 0, position: 0, batch }
    }

    /// File offset of the record that [`Walk::next`] gives next.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next record; `None` at the file's end, [`Stop`] where no record stands.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn next(&mut self) -> io::Result<Result<Option<Record<'_>>, Stop>> {
        if self.position == self.total {
            return Ok(Ok(None));
        }
        self.batch.commands.clear();
        self.batch.spans.clear();
        self.batch.large.clear();
        let found = match self.find()? {
            Ok(found) => found,
            Err(stop) => return Ok(Err(stop)),
        };
        let start = (self.position - self.window_at) as usize;
        let bytes = self.window.get(start..).unwrap_or(&[]);
        Ok(Ok(Some(match found {
            Found::Line(len) => {
                self.position += len as u64;
                Record::Line(bytes.get(..len).unwrap_or(&[]))
            }
            Found::Command(command) => {
                self.position += command.len as u64;
                let text = bytes.get(..command.len).unwrap_or(&[]);
                let large = |&(from, to): &(usize, usize)| {
                    self.window.get(from..to).unwrap_or(&[]).to_vec()
                };
                let large = self.batch.large.iter().map(large).collect();
                Record::Command(CommandView { text, spans: &self.batch.spans, large })
            }
        })))
    }

    /// Parses what stands at the position.
    fn find(&mut self) -> io::Result<Result<Found, Stop>> {
        let mut needed = 1;
        loop {
            if !self.fill(needed)? {
                let reason = "the file ends inside a command or a # line";
                return Ok(Err(Stop { at: self.position, reason, torn: true }));
            }
            let start = (self.position - self.window_at) as usize;
            let bytes = self.window.get(start..).unwrap_or(&[]);
            let is_line = bytes.starts_with(b"#");
            let parsed = if is_line {
                comment_len(bytes)
            } else {
                let rest = self.total - self.position;
                let believed = Believed { max_bulk: self.max_bulk_bytes, rest };
                parse_command(bytes, start, believed, &mut self.batch)
            };
            match parsed {
                Parsed::Whole(len) if is_line => return Ok(Ok(Found::Line(len))),
                Parsed::Whole(_) => {
                    let command = self.batch.commands.last().copied();
                    let missing = || io::Error::other("a command was parsed and not kept");
                    return Ok(Ok(Found::Command(command.ok_or_else(missing)?)));
                }
                // At least doubled, so that a command with many arguments is not parsed from its
                // start once for each read.
                Parsed::More(more) => {
                    let rest = self.total - self.position;
                    let rest = usize::try_from(rest).unwrap_or(usize::MAX);
                    needed = more.max(bytes.len().saturating_mul(2).min(rest));
                }
                Parsed::Bad(at, reason) => {
                    let at = self.position + at as u64;
                    return Ok(Err(Stop { at, reason, torn: false }));
                }
            }
        }
    }

    /// Makes the `len` bytes at the position part of the window. `false` if the file ends before.
    fn fill(&mut self, len: usize) -> io::Result<bool> {
        let until = self.position.saturating_add(len as u64);
        if until > self.total {
            return Ok(false);
        }
        let have = self.window_at + self.window.len() as u64;
        if until <= have {
            return Ok(true);
        }
        let consumed = (self.position - self.window_at) as usize;
        self.window.drain(..consumed.min(self.window.len()));
        self.window_at = self.position;
        let wanted = (until - have).max(READ_BYTES).min(self.total - have);
        let wanted = usize::try_from(wanted).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.window.try_reserve(wanted).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let filled = self.window.len();
        self.window.resize(filled + wanted, 0);
        let room = self.window.get_mut(filled..).unwrap_or_default();
        let read = read_full_at(&*self.file, room, have)?;
        self.window.truncate(filled + read);
        if read < wanted {
            let error = "the file became shorter while it was read";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
        }
        Ok(true)
    }
}
