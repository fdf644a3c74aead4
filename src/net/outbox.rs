//! Replies on their way out, each held back until its gate is open.

use std::collections::VecDeque;

/// An emptied buffer larger than this is given back at once.
const KEEP_BYTES: usize = 64 << 10;

/// Sent bytes in front of unsent ones are dropped once there are this many.
const COMPACT_BYTES: usize = 256 << 10;

/// The bytes before `end` may leave once the log has come to `gate`.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: usize,
    gate: u64,
}

/// One connection's output buffer.
///
/// Invariant: `sent <= released <= bytes.len()`; the marks' ends and gates both rise, the first
/// end lies behind `released`, the last is `bytes.len()` once [`Outbox::cover`] was called.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    released: usize,
    marks: VecDeque<Mark>,
}

impl Outbox {
    /// Where replies are written; [`Outbox::cover`] must follow.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Puts what has been written since the last call behind `gate`, a log offset.
    /// `group_start` is the log's end when this turn began: replies of one turn share a group and
    /// so a mark, for the log's offsets move by whole groups only.
    pub fn cover(&mut self, gate: u64, group_start: u64) {
        let end = self.bytes.len();
        match self.marks.back_mut() {
            // What stands behind a shut gate waits for it: the order of replies is kept.
            Some(last) if last.gate >= gate => last.end = end,
            Some(last) if last.gate > group_start => *last = Mark { end, gate },
            _ if end > self.released => self.marks.push_back(Mark { end, gate }),
            _ => {}
        }
    }

    /// The gate that the last reply waits for; 0 if none waits.
    #[must_use]
    pub fn last_gate(&self) -> u64 {
        self.marks.back().map_or(0, |mark| mark.gate)
    }

    /// Lets everything leave whose gate is at or below `open_to`. Returns whether there is now
    /// something to send.
    pub fn release(&mut self, open_to: u64) -> bool {
        while let Some(mark) = self.marks.front().filter(|mark| mark.gate <= open_to) {
            self.released = mark.end;
            self.marks.pop_front();
        }
        self.released > self.sent
    }

    /// Bytes that may leave now.
    #[must_use]
    pub fn sendable(&self) -> &[u8] {
        &self.bytes[self.sent..self.released]
    }

    /// Notes that the first `count` bytes of [`Outbox::sendable`] have left.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
        debug_assert!(self.sent <= self.released);
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEEP_BYTES);
            (self.sent, self.released) = (0, 0);
        } else if self.sent >= COMPACT_BYTES && self.sent * 2 > self.bytes.len() {
            self.bytes.drain(..self.sent);
            for mark in &mut self.marks {
                mark.end -= self.sent;
            }
            self.released -= self.sent;
            self.sent = 0;
        }
    }

    /// Bytes whose gate is shut.
    #[must_use]
    pub fn withheld(&self) -> usize {
        self.bytes.len() - self.released
    }

    /// Bytes not yet sent, withheld or not.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Bytes that may leave and have not: what the client is too slow to take.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.released - self.sent
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives unused memory back; for idle connections.
    pub fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
            self.marks = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(outbox: &mut Outbox, text: &[u8], gate: u64, group_start: u64) {
        outbox.buffer().extend_from_slice(text);
        outbox.cover(gate, group_start);
    }

    #[test]
    fn a_reply_leaves_when_its_gate_opens_and_not_before() {
        let mut outbox = Outbox::default();
        write(&mut outbox, b"one", 10, 0);
        write(&mut outbox, b"two", 20, 10);
        assert!(!outbox.release(9));
        assert!(outbox.release(10));
        assert_eq!(outbox.sendable(), b"one");
        outbox.advance(3);
        assert!(!outbox.release(19));
        assert!(outbox.release(20));
        assert_eq!(outbox.sendable(), b"two");
        outbox.advance(3);
        assert_eq!((outbox.pending(), outbox.last_gate()), (0, 0));
    }

    #[test]
    fn a_reply_without_a_gate_waits_for_those_before_it() {
        let mut outbox = Outbox::default();
        write(&mut outbox, b"+OK", 10, 0);
        let gate = outbox.last_gate();
        write(&mut outbox, b"+PONG", gate, 0);
        assert!(!outbox.release(9));
        assert_eq!(outbox.withheld(), 8);
        assert!(outbox.release(10));
        assert_eq!(outbox.sendable(), b"+OK+PONG");
    }

    #[test]
    fn an_open_reply_is_not_held_by_the_one_behind_it() {
        let mut outbox = Outbox::default();
        write(&mut outbox, b"+PONG", 0, 5);
        write(&mut outbox, b"+OK", 10, 5);
        assert!(outbox.release(5));
        assert_eq!(outbox.sendable(), b"+PONG");
    }

    #[test]
    fn replies_of_one_turn_share_a_mark() {
        let mut outbox = Outbox::default();
        for gate in 11..1_000 {
            write(&mut outbox, b"+OK", gate, 10);
        }
        assert_eq!(outbox.marks.len(), 1);
        assert!(!outbox.release(998));
        assert!(outbox.release(999));
    }

    #[test]
    fn sent_bytes_are_dropped_and_marks_move_with_them() {
        let mut outbox = Outbox::default();
        write(&mut outbox, &vec![b'a'; COMPACT_BYTES + 10], 1, 0);
        write(&mut outbox, b"bcd", 2, 1);
        assert!(outbox.release(1));
        outbox.advance(COMPACT_BYTES);
        assert_eq!(outbox.sendable(), b"aaaaaaaaaa");
        assert!(outbox.release(2));
        assert_eq!(outbox.sendable(), b"aaaaaaaaaabcd");
    }
}
