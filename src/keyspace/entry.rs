//! A key and its value in one allocation.
//!
//! ```text
//! byte 0     flags: kind of value (2 bits), deadline, long key, not shared (see `RAW`)
//! byte 1-3   when the key was last used, or how often (see `recency`)
//! byte 4     length of an inline string, else 0
//! byte 5     length of the key in 1 byte; in 8 bytes when it is 256 or more
//!            deadline, 8 bytes, only when there is one
//!            key
//!            value: an i64, up to 128 bytes of string, or the parts of a `Vec<u8>`
//! ```
//!
//! Numbers are in native order and unaligned. The size of the allocation is not stored: it is the
//! allocator's size class of the bytes in use, so a value that leaves the class unchanged is
//! written in place.
#![allow(unsafe_code)]
// Why unsafe: an enum in a Box next to a boxed key costs two more allocations and about 60 bytes a
// key, which is more than many keys and values together. Everything unsafe stays in this file.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};
use std::slice;

use super::recency::Stamp;
use crate::data::{EMBSTR_MAX_BYTES, Encoding, NewValue, Value, ValueRef};
use crate::sys::clock::UnixMs;

/// The longest string kept inside its entry. Longer ones would make every change of the key's
/// deadline or value copy too much; and their own allocation costs little in proportion.
pub const INLINE_MAX_BYTES: usize = 128;

const KIND: u8 = 0b0000_0011;
const HAS_DEADLINE: u8 = 0b0000_0100;
const LONG_KEY: u8 = 0b0000_1000;
/// A short string that was changed in place, or an integer that COPY has made: what Redis keeps as
/// `raw`, or does not share with other keys.
const RAW: u8 = 0b0001_0000;

const STAMP_AT: usize = 1;
const INLINE_LENGTH_AT: usize = 4;
const KEY_LENGTH_AT: usize = 5;
const INT_BYTES: usize = size_of::<i64>();
const DEADLINE_BYTES: usize = size_of::<i64>();
const HEAP_BYTES: usize = 3 * size_of::<usize>();

/// Growth of a string that is appended to: doubled up to this size, then by a quarter.
const DOUBLING_MAX_BYTES: usize = 1 << 20;

/// How the value of an entry is kept. The discriminants are the bits of `KIND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int = 0,
    Inline = 1,
    Heap = 2,
}

/// A value in the form in which it will be written into an entry.
enum Stored<'a> {
    Int {
        value: i64,
        raw: bool,
    },
    /// Invariant: at most `INLINE_MAX_BYTES` long.
    Inline {
        bytes: &'a [u8],
        raw: bool,
    },
    Heap(Vec<u8>),
}

impl<'a> Stored<'a> {
    fn new(value: &'a mut NewValue<'_>) -> Stored<'a> {
        match value {
            NewValue::Int(n) => Stored::Int { value: *n, raw: false },
            NewValue::Bytes(bytes) if bytes.len() > INLINE_MAX_BYTES => {
                Stored::Heap(bytes.to_vec())
            }
            NewValue::Bytes(bytes) => Stored::Inline { bytes, raw: false },
            NewValue::Owned(bytes) if bytes.len() > INLINE_MAX_BYTES => {
                let mut bytes = mem::take(bytes);
                // A buffer with more slack than a size class has would waste it for the key's life.
                if bytes.capacity() - bytes.len() > bytes.len() / 4 {
                    bytes.shrink_to_fit();
                }
                Stored::Heap(bytes)
            }
            NewValue::Owned(bytes) => Stored::Inline { bytes, raw: false },
        }
    }

    fn flags(&self) -> u8 {
        match self {
            Stored::Int { raw, .. } => Kind::Int as u8 | if *raw { RAW } else { 0 },
            Stored::Inline { raw, .. } => Kind::Inline as u8 | if *raw { RAW } else { 0 },
            Stored::Heap(_) => Kind::Heap as u8,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Stored::Int { .. } => INT_BYTES,
            Stored::Inline { bytes, .. } => bytes.len(),
            Stored::Heap(_) => HEAP_BYTES,
        }
    }
}

/// A key with its value and deadline. Owns its memory; 8 bytes to hold, and `Option<Entry>` too.
#[repr(transparent)]
pub struct Entry {
    /// Invariant: start of an allocation of layout `self.layout()`, whose header, key and value are
    /// initialised as the flags say. A heap value's three words are the parts of a `Vec<u8>` that
    /// this entry owns.
    start: NonNull<u8>,
}

// SAFETY: an entry owns all that it points to, and nothing in it belongs to a thread.
unsafe impl Send for Entry {}

impl Entry {
    /// An entry for `key`, its stamp all zeros. One allocation, two when a string above
    /// [`INLINE_MAX_BYTES`] must be copied.
    #[must_use]
    pub fn new(key: &[u8], mut value: NewValue<'_>, deadline: Option<UnixMs>) -> Entry {
        Entry::build(key, Stored::new(&mut value), deadline, Stamp::default())
    }

    fn build(key: &[u8], stored: Stored<'_>, deadline: Option<UnixMs>, stamp: Stamp) -> Entry {
        let long_key = u8::try_from(key.len()).is_err();
        let key_at = key_offset(long_key, deadline.is_some());
        let layout = layout(key_at + key.len() + stored.bytes());
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        let mut entry = ManuallyDrop::new(Entry { start });
        let mut flags = if long_key { LONG_KEY } else { 0 };
        flags |= if deadline.is_some() { HAS_DEADLINE } else { 0 };
        // SAFETY: the allocation holds the header, the deadline, the key and the value, in this
        // order; `key_offset` leaves 8 bytes for the length of a long key and 1 for a short one.
        unsafe {
            start.write(flags);
            start.add(STAMP_AT).cast::<Stamp>().write(stamp);
            if long_key {
                start.add(KEY_LENGTH_AT).cast::<usize>().write_unaligned(key.len());
            } else {
                start.add(KEY_LENGTH_AT).write(key.len() as u8);
            }
            ptr::copy_nonoverlapping(key.as_ptr(), start.add(key_at).as_ptr(), key.len());
        }
        if let Some(deadline) = deadline {
            entry.write_deadline(deadline);
        }
        entry.write_value(stored);
        ManuallyDrop::into_inner(entry)
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        // SAFETY: the key's bytes are initialised and live as long as the borrow of the entry.
        unsafe { slice::from_raw_parts(self.start.add(self.key_at()).as_ptr(), self.key_bytes()) }
    }

    /// Whether this is the entry of `key`.
    #[inline]
    #[must_use]
    pub fn has_key(&self, key: &[u8]) -> bool {
        let own = self.key();
        own.len() == key.len() && is_same(own, key)
    }

    /// Asks the processor to fetch the entry's first cache line, ahead of a call that reads it.
    pub fn prefetch(&self) {
        prefetch(self.start.as_ptr());
    }

    /// The value, where it lies.
    #[must_use]
    pub fn value(&self) -> ValueRef<'_> {
        match self.kind() {
            // SAFETY: an entry of this kind holds an i64 there.
            Kind::Int => ValueRef::Int(unsafe { self.value_start().cast().read_unaligned() }),
            // SAFETY: an entry of this kind holds so many bytes of string there.
            Kind::Inline => ValueRef::String(unsafe {
                slice::from_raw_parts(self.value_start().as_ptr(), self.inline_bytes())
            }),
            Kind::Heap => {
                let (bytes, len, _) = self.heap_parts();
                // SAFETY: these are the parts of a Vec that this entry owns and that only
                // a mutable borrow of the entry can change.
                ValueRef::String(unsafe { slice::from_raw_parts(bytes, len) })
            }
        }
    }

    /// When the key was last used, or how often.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        // SAFETY: three bytes of every header; any three bytes are a stamp, which needs no
        // alignment.
        unsafe { self.start.add(STAMP_AT).cast::<Stamp>().read() }
    }

    /// Replaces the stamp. It is no part of what an entry says, so a shared borrow will do.
    pub fn set_stamp(&self, stamp: Stamp) {
        // SAFETY: as a `Cell` does it: an entry cannot be seen from two threads, and nothing ever
        // borrows these bytes: `key` and `value` hand out others.
        unsafe { self.start.add(STAMP_AT).cast::<Stamp>().write(stamp) }
    }

    /// Whether the value is one that Redis would have made for this key alone: all but small
    /// integers that were set as such, which it shares.
    #[must_use]
    pub fn is_unshared(&self) -> bool {
        /// Integers from 0 up to here are shared.
        const SHARED_INTEGERS: std::ops::Range<i64> = 0..10_000;
        match self.value() {
            ValueRef::Int(n) => !SHARED_INTEGERS.contains(&n) || self.flags() & RAW != 0,
            ValueRef::String(_) => true,
        }
    }

    /// Has a small integer count as this key's own. Does nothing to other values.
    pub fn unshare(&mut self) {
        if self.kind() == Kind::Int {
            // SAFETY: the first byte of every allocation is its flags.
            unsafe { self.start.write(self.flags() | RAW) };
        }
    }

    /// The encoding Redis would report.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        match self.kind() {
            Kind::Int => Encoding::Int,
            Kind::Inline if self.flags() & RAW == 0 && self.inline_bytes() <= EMBSTR_MAX_BYTES => {
                Encoding::EmbStr
            }
            Kind::Inline | Kind::Heap => Encoding::Raw,
        }
    }

    /// When the key expires, if ever.
    #[must_use]
    pub fn deadline(&self) -> Option<UnixMs> {
        (self.flags() & HAS_DEADLINE != 0).then(|| {
            // SAFETY: with the flag set, the 8 bytes before the key are the deadline.
            UnixMs(unsafe { self.deadline_start().cast().read_unaligned() })
        })
    }

    /// Whether the key is past its deadline at `now`. At the very millisecond it still lives.
    #[must_use]
    pub fn is_expired(&self, now: UnixMs) -> bool {
        self.deadline().is_some_and(|deadline| deadline < now)
    }

    /// Bytes of memory this entry holds, as the allocator rounds them.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let heap = match self.kind() {
            Kind::Int | Kind::Inline => 0,
            Kind::Heap => size_class(self.heap_parts().2),
        };
        self.layout().size() + heap
    }

    /// The value on its own; a long string's buffer is moved, not copied.
    #[must_use]
    pub fn into_value(mut self) -> Value {
        match self.kind() {
            Kind::Heap => Value::String(self.replace_heap(Vec::new())),
            Kind::Int | Kind::Inline => self.value().to_value(),
        }
    }

    /// The same value, deadline and stamp under another key. A long string's buffer is moved.
    #[must_use]
    pub fn renamed(mut self, key: &[u8]) -> Entry {
        let deadline = self.deadline();
        self.rebuilt(Some(key), deadline)
    }

    /// A copy of value and deadline under another key, its stamp all zeros. Reported in the same
    /// encoding.
    #[must_use]
    pub fn copied(&self, key: &[u8]) -> Entry {
        let stored = match (self.value(), self.kind()) {
            (ValueRef::Int(value), _) => Stored::Int { value, raw: true },
            (ValueRef::String(bytes), Kind::Heap) => Stored::Heap(bytes.to_vec()),
            (ValueRef::String(bytes), _) => Stored::Inline { bytes, raw: self.flags() & RAW != 0 },
        };
        Entry::build(key, stored, self.deadline(), Stamp::default())
    }

    /// Takes the buffer of a string of `min_bytes` or more out, so that it can be freed elsewhere,
    /// and leaves the key with an empty string that is to be replaced. `None`, and nothing changed,
    /// for any other value.
    pub fn take_large(&mut self, min_bytes: usize) -> Option<Value> {
        let is_large = self.kind() == Kind::Heap && self.heap_parts().2 >= min_bytes;
        is_large.then(|| Value::String(self.replace_heap(Vec::new())))
    }

    /// Bytes that freeing the value takes apart from the entry itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self.kind() {
            Kind::Int | Kind::Inline => 0,
            Kind::Heap => self.heap_parts().2,
        }
    }

    /// The same value and stamp under another key, or the same, with another deadline. The entry is
    /// left without its value's buffer, if it had one.
    fn rebuilt(&mut self, key: Option<&[u8]>, deadline: Option<UnixMs>) -> Entry {
        let raw = self.flags() & RAW != 0;
        let moved = match self.kind() {
            Kind::Heap => Some(self.replace_heap(Vec::new())),
            Kind::Int | Kind::Inline => None,
        };
        let stored = match (moved, self.value()) {
            (Some(bytes), _) => Stored::Heap(bytes),
            (None, ValueRef::Int(value)) => Stored::Int { value, raw },
            (None, ValueRef::String(bytes)) => Stored::Inline { bytes, raw },
        };
        Entry::build(key.unwrap_or(self.key()), stored, deadline, self.stamp())
    }

    /// Replaces value and deadline: in place when neither the size class nor the presence of a
    /// deadline changes, and into the old buffer when both strings are long and alike in size.
    pub fn assign(&mut self, mut value: NewValue<'_>, deadline: Option<UnixMs>) {
        if let NewValue::Bytes(bytes) = &value
            && self.kind() == Kind::Heap
            && bytes.len() > INLINE_MAX_BYTES
            && bytes.len() <= self.heap_parts().2
            && bytes.len() >= self.heap_parts().2 / 2
        {
            let mut buffer = self.replace_heap(Vec::new());
            buffer.clear();
            buffer.extend_from_slice(bytes);
            self.replace_heap(buffer);
            self.set_deadline(deadline);
            return;
        }
        self.store(Stored::new(&mut value), deadline);
    }

    /// Replaces the value by an integer, in place where the size class does not change; the deadline
    /// stays.
    pub fn assign_integer(&mut self, value: i64) {
        self.store(Stored::Int { value, raw: false }, self.deadline());
    }

    /// Sets or clears the deadline. Copies the entry when that makes room for one or frees it.
    pub fn set_deadline(&mut self, deadline: Option<UnixMs>) {
        match (deadline, self.deadline().is_some()) {
            (None, false) => {}
            (Some(deadline), true) => self.write_deadline(deadline),
            (None, true) | (Some(_), false) => {
                let rebuilt = self.rebuilt(None, deadline);
                *self = rebuilt;
            }
        }
    }

    /// Appends to the string and returns its new length. Amortised O(bytes added).
    pub fn append(&mut self, more: &[u8]) -> usize {
        self.edit(
            |bytes| bytes.len() + more.len(),
            |old, bytes| {
                bytes[old..].copy_from_slice(more);
            },
        )
    }

    /// Lengthens the string with zeros to `min_bytes`, where it is shorter, and lets `change` write
    /// to it; returns its length. In place, but for the growth.
    pub fn modify(&mut self, min_bytes: usize, change: impl FnOnce(&mut [u8])) -> usize {
        self.edit(|bytes| bytes.len().max(min_bytes), |_, bytes| change(bytes))
    }

    /// Brings the string to the length that `resize` derives from it, never a shorter one, filled
    /// up with zeros; marks it as changed in place; calls `change` with the old length and all.
    fn edit(
        &mut self,
        resize: impl FnOnce(&[u8]) -> usize,
        change: impl FnOnce(usize, &mut [u8]),
    ) -> usize {
        let mut digits = itoa::Buffer::new();
        let old = self.value().bytes(&mut digits);
        let (old_len, new_len) = (old.len(), resize(old));
        debug_assert!(old_len <= new_len, "a string shrinks by being set anew");
        if self.kind() == Kind::Heap {
            if new_len > old_len {
                let mut buffer = self.replace_heap(Vec::new());
                grow(&mut buffer, new_len);
                self.replace_heap(buffer);
            }
        } else if new_len <= INLINE_MAX_BYTES {
            let mut copy = [0; INLINE_MAX_BYTES];
            copy[..old_len].copy_from_slice(old);
            let bytes = &copy[..new_len];
            self.store(Stored::Inline { bytes, raw: true }, self.deadline());
        } else {
            let mut buffer = Vec::new();
            grow(&mut buffer, new_len);
            buffer[..old_len].copy_from_slice(old);
            self.store(Stored::Heap(buffer), self.deadline());
        }
        change(old_len, self.string_mut());
        new_len
    }

    /// The string's bytes, to be written. Invariant: the kind is not `Int`.
    fn string_mut(&mut self) -> &mut [u8] {
        let (bytes, len) = match self.kind() {
            Kind::Int => return &mut [],
            Kind::Inline => (self.value_start().as_ptr(), self.inline_bytes()),
            Kind::Heap => {
                let (bytes, len, _) = self.heap_parts();
                (bytes, len)
            }
        };
        // SAFETY: initialised bytes that this entry owns; the mutable borrow keeps others away.
        unsafe { slice::from_raw_parts_mut(bytes, len) }
    }

    /// Writes value and deadline, in place if the allocation may stay as it is.
    fn store(&mut self, stored: Stored<'_>, deadline: Option<UnixMs>) {
        let same_place = self.deadline().is_some() == deadline.is_some()
            && (stored.bytes() == self.value_bytes()
                || layout(self.key_at() + self.key_bytes() + stored.bytes()) == self.layout());
        if !same_place {
            let rebuilt = Entry::build(self.key(), stored, deadline, self.stamp());
            *self = rebuilt;
            return;
        }
        let freed = match self.kind() {
            Kind::Heap => self.replace_heap(Vec::new()),
            Kind::Int | Kind::Inline => Vec::new(),
        };
        self.write_value(stored);
        if let Some(deadline) = deadline {
            self.write_deadline(deadline);
        }
        drop(freed);
    }

    /// Writes the value and what the header says of it. The allocation must have the room, and a
    /// heap value that was there must have been moved out.
    fn write_value(&mut self, stored: Stored<'_>) {
        let flags = self.flags() & !(KIND | RAW) | stored.flags();
        // SAFETY: the callers have made sure that the value fits behind the key, whose place
        // depends on none of the bits that change.
        unsafe {
            self.start.write(flags);
            let value = self.value_start();
            let inline_bytes = match stored {
                Stored::Int { value: n, .. } => {
                    value.cast().write_unaligned(n);
                    0
                }
                Stored::Inline { bytes, .. } => {
                    ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_ptr(), bytes.len());
                    bytes.len() as u8
                }
                Stored::Heap(bytes) => {
                    self.write_heap(bytes);
                    0
                }
            };
            self.start.add(INLINE_LENGTH_AT).write(inline_bytes);
        }
    }

    fn write_deadline(&mut self, deadline: UnixMs) {
        debug_assert!(self.flags() & HAS_DEADLINE != 0);
        // SAFETY: with the flag set, the 8 bytes before the key are the deadline's.
        unsafe { self.deadline_start().cast().write_unaligned(deadline.0) }
    }

    /// Puts another buffer in the place of a heap value's and returns the old one.
    fn replace_heap(&mut self, buffer: Vec<u8>) -> Vec<u8> {
        debug_assert_eq!(self.kind(), Kind::Heap);
        let (bytes, len, capacity) = self.heap_parts();
        // SAFETY: the kind says that a value's three words are there, and they are overwritten
        // before the Vec they describe can be dropped twice.
        unsafe {
            self.write_heap(buffer);
            Vec::from_raw_parts(bytes, len, capacity)
        }
    }

    /// # Safety
    /// The value must have room for three words; a Vec that they describe so far is forgotten.
    unsafe fn write_heap(&mut self, buffer: Vec<u8>) {
        let mut buffer = ManuallyDrop::new(buffer);
        // SAFETY: the caller's duty.
        unsafe {
            let words = self.value_start().cast::<usize>();
            words.cast::<*mut u8>().write_unaligned(buffer.as_mut_ptr());
            words.add(1).write_unaligned(buffer.len());
            words.add(2).write_unaligned(buffer.capacity());
        }
    }

    /// Start, length and capacity of a heap value. Invariant: the kind is `Heap`.
    fn heap_parts(&self) -> (*mut u8, usize, usize) {
        debug_assert_eq!(self.kind(), Kind::Heap);
        // SAFETY: an entry of this kind holds three initialised words there.
        unsafe {
            let words = self.value_start().cast::<usize>();
            let bytes = words.cast::<*mut u8>().read_unaligned();
            (bytes, words.add(1).read_unaligned(), words.add(2).read_unaligned())
        }
    }

    fn flags(&self) -> u8 {
        // SAFETY: every entry begins with its flags.
        unsafe { self.start.read() }
    }

    fn kind(&self) -> Kind {
        match self.flags() & KIND {
            0 => Kind::Int,
            1 => Kind::Inline,
            _ => Kind::Heap,
        }
    }

    fn inline_bytes(&self) -> usize {
        // SAFETY: the byte is part of every header.
        usize::from(unsafe { self.start.add(INLINE_LENGTH_AT).read() })
    }

    fn key_bytes(&self) -> usize {
        // SAFETY: the flag says whether 8 bytes or one hold the length of the key.
        unsafe {
            let at = self.start.add(KEY_LENGTH_AT);
            if self.flags() & LONG_KEY != 0 {
                at.cast::<usize>().read_unaligned()
            } else {
                usize::from(at.read())
            }
        }
    }

    fn key_at(&self) -> usize {
        key_offset(self.flags() & LONG_KEY != 0, self.flags() & HAS_DEADLINE != 0)
    }

    fn deadline_start(&self) -> NonNull<u8> {
        // SAFETY: the offset lies within the allocation; only meaningful with a deadline.
        unsafe { self.start.add(self.key_at() - DEADLINE_BYTES) }
    }

    fn value_start(&self) -> NonNull<u8> {
        // SAFETY: the value lies behind the key, within the allocation or at its very end.
        unsafe { self.start.add(self.key_at() + self.key_bytes()) }
    }

    /// The layout that the allocation was made with.
    fn layout(&self) -> Layout {
        layout(self.key_at() + self.key_bytes() + self.value_bytes())
    }

    /// Bytes that the value takes inside the entry.
    fn value_bytes(&self) -> usize {
        match self.kind() {
            Kind::Int => INT_BYTES,
            Kind::Inline => self.inline_bytes(),
            Kind::Heap => HEAP_BYTES,
        }
    }
}

#[cfg(test)]
thread_local! {
    static FREED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
impl Entry {
    /// How many entries the calling thread has freed so far.
    pub fn freed_by_this_thread() -> u64 {
        FREED.get()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        #[cfg(test)]
        FREED.set(FREED.get() + 1);
        if self.kind() == Kind::Heap {
            drop(self.replace_heap(Vec::new()));
        }
        // SAFETY: the allocation was made with this layout and is not used again. The empty buffer
        // that now stands in a heap value owns nothing.
        unsafe { dealloc(self.start.as_ptr(), self.layout()) }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}", self.key().escape_ascii(), self.value())?;
        self.deadline().map_or(Ok(()), |deadline| write!(f, " until {deadline:?}"))
    }
}

/// Whether two strings of one length are the same. The library's comparison loads whole vectors,
/// whatever the length: where an entry ends with its cache line, that waits for the next one, which
/// nobody has asked for. This reads what there is, eight bytes at a time, the last ones first, since
/// keys tend to differ there.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    if let (Some(a_end), Some(b_end)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        let mut words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
        return a_end == b_end && words.all(|(a, b)| a == b);
    }
    match (a.first_chunk::<4>(), b.first_chunk::<4>()) {
        (Some(a_start), Some(b_start)) => {
            a_start == b_start && a.last_chunk::<4>() == b.last_chunk::<4>()
        }
        _ => a.iter().zip(b).all(|(a, b)| a == b),
    }
}

/// Asks the processor to fetch the cache line at `place`, ahead of an access to it. Any address
/// will do, and nothing but time depends on it.
pub(super) fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that a program can see, and SSE is always there.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

fn key_offset(long_key: bool, has_deadline: bool) -> usize {
    let length = if long_key { size_of::<usize>() } else { 1 };
    KEY_LENGTH_AT + length + if has_deadline { DEADLINE_BYTES } else { 0 }
}

fn layout(bytes: usize) -> Layout {
    // Eight is the least alignment for which the allocator needs no special path.
    match Layout::from_size_align(size_class(bytes), 8) {
        Ok(layout) => layout,
        // The key was in memory already, so twice its size is below the limit of isize.
        Err(_) => unreachable!("an entry of {bytes} bytes"),
    }
}

/// What jemalloc makes of a request: multiples of 16 bytes up to 128, then four classes to each
/// doubling.
fn size_class(bytes: usize) -> usize {
    match bytes {
        0..=8 => 8,
        9..=128 => bytes.next_multiple_of(16),
        _ => bytes.next_multiple_of(1 << (usize::ilog2(bytes - 1) - 2)),
    }
}

/// Lengthens a string to `bytes` with zeros and leaves room for more of the same.
fn grow(buffer: &mut Vec<u8>, bytes: usize) {
    if bytes > buffer.capacity() {
        let slack = if bytes <= DOUBLING_MAX_BYTES { bytes } else { bytes / 4 };
        buffer.reserve_exact(bytes + slack - buffer.len());
    }
    buffer.resize(bytes, 0);
}

#[cfg(test)]
mod tests;
