//! The slow log: the last commands that took `slowlog-log-slower-than` and longer.

use crate::resp::args::Args;
use std::collections::VecDeque;

/// Arguments kept of a command; of more, the last one kept says how many are left out.
const ARGS_MAX: usize = 32;

/// Bytes kept of an argument.
const ARG_MAX_BYTES: usize = 128;

/// A command that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowCommand {
    /// Counts up from 0 over the server's life.
    pub id: u64,
    /// When it was through, Unix time in seconds.
    pub unix_sec: i64,
    /// How long it took, microseconds.
    pub us: u64,
    /// Its words, as [`shorten`] gives them.
    pub words: Vec<Vec<u8>>,
    /// The client's address.
    pub addr: String,
    /// The client's name; empty if it has none.
    pub name: Vec<u8>,
}

/// Bounded by `slowlog-max-len`, which the one who adds entries gives.
#[derive(Clone, Debug, Default)]
pub struct Slowlog {
    /// Newest first.
    entries: VecDeque<SlowCommand>,
    next_id: u64,
}

impl Slowlog {
    /// Adds a command under the next id, and forgets the oldest beyond `max_len`.
    pub fn add(&mut self, mut command: SlowCommand, max_len: u64) {
        command.id = self.next_id;
        self.next_id += 1;
        self.entries.push_front(command);
        self.entries.truncate(usize::try_from(max_len).unwrap_or(usize::MAX));
    }

    /// The commands, newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SlowCommand> {
        self.entries.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets all; ids go on counting.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// A command's words, cut down to what is kept. O(1).
#[must_use]
pub fn shorten(args: &Args<'_>) -> Vec<Vec<u8>> {
    let left_out = if args.len() > ARGS_MAX { args.len() - (ARGS_MAX - 1) } else { 0 };
    let mut words: Vec<Vec<u8>> =
        args.iter().take(args.len() - left_out).map(shorten_word).collect();
    if left_out > 0 {
        words.push(format!("... ({left_out} more arguments)").into_bytes());
    }
    words
}

fn shorten_word(word: &[u8]) -> Vec<u8> {
    match word.split_at_checked(ARG_MAX_BYTES) {
        Some((head, rest)) if !rest.is_empty() => {
            let mut text = head.to_vec();
            text.extend_from_slice(format!("... ({} more bytes)", rest.len()).as_bytes());
            text
        }
        _ => word.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::args::OwnedArgs;

    fn shortened(words: &[&[u8]]) -> Vec<String> {
        let mut owned = OwnedArgs::new(words.iter().copied());
        let words = shorten(&owned.as_args());
        words.iter().map(|word| word.escape_ascii().to_string()).collect()
    }

    #[test]
    fn long_commands_and_words_are_cut() {
        assert_eq!(shortened(&[b"GET", b"k"]), ["GET", "k"]);
        assert_eq!(shortened(&[&[b'x'; 128]]), ["x".repeat(128)]);
        assert_eq!(shortened(&[&[b'x'; 130]]), [format!("{}... (2 more bytes)", "x".repeat(128))]);
        assert_eq!(shortened(&[b"a".as_slice(); 32]).len(), 32);
        let many = shortened(&[b"a".as_slice(); 33]);
        assert_eq!((many.len(), many[31].as_str()), (32, "... (2 more arguments)"));
    }

    #[test]
    fn the_oldest_are_forgotten_and_ids_go_on() {
        let command = SlowCommand {
            id: 0,
            unix_sec: 1,
            us: 2,
            words: Vec::new(),
            addr: String::new(),
            name: Vec::new(),
        };
        let mut log = Slowlog::default();
        for _ in 0..5 {
            log.add(command.clone(), 3);
        }
        assert_eq!(log.iter().map(|slow| slow.id).collect::<Vec<_>>(), [4, 3, 2]);
        log.add(command.clone(), 1);
        assert_eq!(log.len(), 1);
        log.clear();
        log.add(command, 9);
        assert_eq!(log.iter().map(|slow| slow.id).collect::<Vec<_>>(), [6]);
    }
}
