//! Where a replay gets its commands from: a reader along the chain, on the spot or on a thread of
//! its own that runs a bounded way ahead.
//!
//! What is handed out, in which chunks, and how it ends depends on the file alone, not on who reads
//! it or how the two threads take turns.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::chain::{ChainReader, Chunk, Ended, Prepare};
use super::damage::{Damage, KeyPosition};
use crate::sys::schedule;

/// Chunks in use: one that is applied, one that is read, and the rest between, which even out that
/// some groups take long to read and others long to apply, and let neither thread wait for the other
/// so often that the kernel would have them share a processor.
const CHUNKS: usize = 8;

/// With fewer chunks than this in the loop's hands and on their way there, the loop is about to wait
/// for the thread, which then leaves it all that the loop can do as well.
const PREPARE_FROM: usize = 3;

/// The thread begins no chunk while those that it has handed out hold more than this, so that of
/// the largest values and transactions only one is in memory at a time.
const MAX_AHEAD_BYTES: usize = 16 << 20;

/// How long the loop waits for the thread at a time: short beside what it may keep clients waiting.
const PATIENCE: Duration = Duration::from_millis(2);

/// How reading ended: where it should, or in damage, which has been judged.
pub(super) type Ending = io::Result<Option<Damage>>;

/// What comes next.
pub(super) enum Supply {
    /// The next chunk is in the caller's hands.
    Chunk,
    /// The thread has not come that far; to be asked again.
    Later,
    /// There are no more chunks.
    Ended(Ending),
}

/// The loop's end of a reader.
pub(super) struct Source {
    place: Place,
    key_position: KeyPosition,
}

enum Place {
    /// `Some` ending: told with the last chunk, and to be given out behind it.
    Here(Box<ChainReader>, Option<Ending>),
    Thread(Ahead),
    /// The thread has died; only a panic in it can do that.
    Gone,
}

struct Ahead {
    full: Receiver<Message>,
    empty: Sender<Chunk>,
    thread: JoinHandle<()>,
}

enum Message {
    Chunk(Chunk),
    /// The last message.
    Ended(Box<ChainReader>, Ending),
}

impl Source {
    /// Reads on the spot, in the calls that ask for more.
    pub(super) fn new(reader: ChainReader, key_position: KeyPosition) -> Source {
        Source { place: Place::Here(Box::new(reader), None), key_position }
    }

    /// From here on reads on a thread of its own, which also makes of commands what `prepare` can.
    /// Signals must have been blocked before, so that they reach the loop. Does nothing where reading
    /// has ended. Whoever lets go of the source does not wait for the thread, which ends by itself
    /// after its next chunk.
    ///
    /// # Errors
    /// Those of creating a thread; reading is then still on the spot.
    pub(super) fn read_ahead(&mut self, prepare: Option<Prepare>) -> io::Result<()> {
        if !matches!(self.place, Place::Here(_, None)) {
            return Ok(());
        }
        let (empty, to_fill) = channel();
        let (filled, full) = channel();
        // The reader follows by channel, so that it is not lost if there is no thread.
        let (hand_over, reader) = channel::<Box<ChainReader>>();
        let key_position = self.key_position;
        let thread = thread::Builder::new().name("aof-reader".to_owned()).spawn(move || {
            // A wish: a thread made by a loop with short turns would have them too.
            let _ = schedule::set_slice(None);
            // An error means that nobody wants to read any more, here and below.
            if let Ok(reader) = reader.recv() {
                run_ahead(reader, key_position, prepare.as_ref(), &to_fill, &filled);
            }
        })?;
        let ahead = Ahead { full, empty, thread };
        for _ in 0..CHUNKS {
            // The thread waits for the reader, so it is there to receive.
            let _ = ahead.empty.send(Chunk::default());
        }
        if let Place::Here(reader, _) = std::mem::replace(&mut self.place, Place::Thread(ahead)) {
            let _ = hand_over.send(reader); // Likewise.
        }
        Ok(())
    }

    /// Exchanges `chunk`, which has been applied, for the next one. Blocks for the file, or for a
    /// short while for the thread.
    pub(super) fn next(&mut self, chunk: &mut Chunk) -> Supply {
        match &mut self.place {
            Place::Here(reader, ending) => {
                if let Some(ending) = ending.take() {
                    return Supply::Ended(ending);
                }
                let ended = reader.next_chunk(chunk);
                *ending = ended.map(|ended| judge(reader, ended, self.key_position));
                Supply::Chunk
            }
            Place::Thread(ahead) => {
                // Before waiting: the thread may wait for just this one. It has a buffer unless it
                // was given back already. That the thread has ended and needs no more is no error.
                if chunk.lent_bytes > 0 {
                    let _ = ahead.empty.send(std::mem::take(chunk));
                }
                match ahead.full.recv_timeout(PATIENCE) {
                    Ok(Message::Chunk(next)) => {
                        *chunk = next;
                        Supply::Chunk
                    }
                    Ok(Message::Ended(reader, ending)) => {
                        let last = Place::Here(reader, None);
                        if let Place::Thread(ahead) = std::mem::replace(&mut self.place, last) {
                            // It has nothing left to do but to return.
                            ahead.thread.join().ok();
                        }
                        Supply::Ended(ending)
                    }
                    Err(RecvTimeoutError::Timeout) => Supply::Later,
                    Err(RecvTimeoutError::Disconnected) => {
                        self.place = Place::Gone;
                        self.next(chunk)
                    }
                }
            }
            Place::Gone => {
                Supply::Ended(Err(io::Error::other("the thread that reads the file has died")))
            }
        }
    }

    /// The reader, once reading has ended.
    pub(super) fn reader(&self) -> Option<&ChainReader> {
        match &self.place {
            Place::Here(reader, _) => Some(reader),
            Place::Thread(_) | Place::Gone => None,
        }
    }
}

/// Reads until the end, or until nobody wants to have it any more.
fn run_ahead(
    mut reader: Box<ChainReader>,
    key_position: KeyPosition,
    prepare: Option<&Prepare>,
    empty: &Receiver<Chunk>,
    full: &Sender<Message>,
) {
    let mut ahead_bytes = 0;
    let mut spare = Vec::with_capacity(CHUNKS);
    loop {
        while spare.is_empty() || ahead_bytes > MAX_AHEAD_BYTES {
            let Ok(mut chunk) = empty.recv() else { return };
            ahead_bytes -= chunk.lent_bytes;
            chunk.clear();
            spare.push(chunk);
        }
        let Some(mut chunk) = spare.pop() else { return };
        let ended = reader.next_chunk(&mut chunk);
        while let Ok(mut chunk) = empty.try_recv() {
            ahead_bytes -= chunk.lent_bytes;
            chunk.clear();
            spare.push(chunk);
        }
        // Unit tests, whose files are short, want all of them prepared.
        let lent = CHUNKS - 1 - spare.len();
        if let Some(prepare) = prepare.filter(|_| lent >= PREPARE_FROM || cfg!(test)) {
            chunk.prepare(prepare);
        }
        // More than none, which would say that it was given back.
        chunk.lent_bytes = chunk.held_bytes().max(1);
        ahead_bytes += chunk.lent_bytes;
        if full.send(Message::Chunk(chunk)).is_err() {
            return;
        }
        if let Some(ended) = ended {
            // Here and not on the loop: to look for promises behind damage reads the whole rest.
            let ending = judge(&reader, ended, key_position);
            // Whether anybody still wants it makes no difference here.
            let _ = full.send(Message::Ended(reader, ending));
            return;
        }
    }
}

fn judge(reader: &ChainReader, ended: io::Result<Ended>, key_position: KeyPosition) -> Ending {
    match ended? {
        Ended::Clean => Ok(None),
        Ended::Stopped(stop) => reader.judge(stop, key_position).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::simulated::SimDisk;
    use std::ffi::OsStr;

    /// Reads a file of SETs of values of so many bytes.
    fn reader_of(values: &[usize]) -> ChainReader {
        let disk = SimDisk::new(1);
        let mut file = Vec::new();
        for bytes in values {
            crate::resp::encode::command(&mut file, &[b"SET", b"key", &vec![b'v'; *bytes]]);
        }
        disk.put("log", &file);
        let opened = disk.storage().open(OsStr::new("log")).expect("opened").expect("there");
        ChainReader::new(opened, file.len() as u64, 1 << 30)
    }

    /// What the thread has made by the time it must wait for a chunk to be given back: here nobody
    /// gives one back, and it returns instead.
    fn read_without_giving_back(values: &[usize]) -> Vec<Chunk> {
        let reader = reader_of(values);
        let (give, empty) = channel();
        let (full, taken) = channel();
        (0..CHUNKS).for_each(|_| give.send(Chunk::default()).expect("there is who takes it"));
        drop(give);
        run_ahead(Box::new(reader), |_| None, None, &empty, &full);
        drop(full);
        let chunks = taken.iter().filter_map(|message| match message {
            Message::Chunk(chunk) => Some(chunk),
            Message::Ended(..) => None,
        });
        chunks.collect()
    }

    fn held(chunks: &[Chunk]) -> usize {
        chunks.iter().map(Chunk::held_bytes).sum()
    }

    /// The chunks alone are no bound: one has the whole of a value, however large.
    #[test]
    fn what_is_read_ahead_and_not_taken_is_bounded() {
        const VALUE: usize = 5 << 20;
        let chunks = read_without_giving_back(&[VALUE; 2 * CHUNKS]);
        let (last, before) = chunks.split_last().expect("some");
        assert!(held(before) <= MAX_AHEAD_BYTES, "{} bytes ahead of the last", held(before));
        assert!(held(&chunks) > MAX_AHEAD_BYTES, "it stops no sooner than it must");
        // A chunk has the text, and a copy of each large argument for the table.
        assert!(held(&chunks) >= chunks.len() * 2 * VALUE, "all that is held is counted");
        assert_eq!(last.lent_bytes, last.held_bytes());
        // One that is larger than the bound is alone.
        let chunks = read_without_giving_back(&[MAX_AHEAD_BYTES + 1; 4]);
        assert_eq!(chunks.len(), 1);
        // Small ones are bounded by their number.
        let chunks = read_without_giving_back(&vec![100; 200_000]);
        assert_eq!(chunks.len(), CHUNKS);
        assert!(held(&chunks) <= MAX_AHEAD_BYTES);
    }

    /// What was given back makes room for as much, and for no more.
    #[test]
    fn a_chunk_given_back_is_counted_as_what_it_was_when_it_was_lent() {
        let reader = reader_of(&[3 << 20; 40]);
        let (give, empty) = channel();
        let (full, taken) = channel();
        (0..CHUNKS).for_each(|_| give.send(Chunk::default()).expect("there is who takes it"));
        let thread =
            thread::spawn(move || run_ahead(Box::new(reader), |_| None, None, &empty, &full));
        let mut commands = 0;
        let mut in_hand: Vec<Chunk> = Vec::new();
        for message in &taken {
            let Message::Chunk(mut chunk) = message else { break };
            commands += chunk.len();
            // Its values become the table's, as they do on the loop.
            for index in 0..chunk.len() {
                if let Some(mut args) = chunk.plain_args(index) {
                    assert_eq!(args.take(2).map(|value| value.len()), Some(3 << 20));
                }
            }
            in_hand.push(chunk);
            assert!(in_hand.iter().map(|chunk| chunk.lent_bytes).sum::<usize>() < 40 << 20);
            if in_hand.len() == 3 {
                // All are back, or it would wait for ever.
                for chunk in in_hand.drain(..) {
                    give.send(chunk).ok();
                }
            }
        }
        assert_eq!(commands, 40);
        thread.join().expect("no panic");
    }
}
