//! The arguments of one command: views into the buffer that the request was read into.

use std::ops::Index;

/// Where one argument lies.
///
/// Invariant: either a range of the buffer the span was parsed from, or (`len == LARGE`) an index
/// into the request's list of large arguments. A buffer never reaches 4 GiB: the server
/// closes a client before its unrun input does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

/// Marks a span that names a large argument; no argument in a buffer is that long.
const LARGE: u32 = u32::MAX;

impl Span {
    /// A range of the buffer, in bytes.
    #[must_use]
    pub fn new(start: usize, len: usize) -> Span {
        Span { start: start as u32, len: len as u32 }
    }

    /// The `index`th large argument.
    #[must_use]
    pub fn large(index: usize) -> Span {
        Span { start: index as u32, len: LARGE }
    }

    /// Whether it is a range of more than `len` bytes, or a large argument.
    #[cfg(test)]
    pub(crate) fn is_longer_than(self, len: usize) -> bool {
        self.len as usize > len
    }

    /// The same range, in a buffer whose first `by` bytes have gone.
    #[must_use]
    pub fn shifted_back(self, by: usize) -> Span {
        if self.len == LARGE { self } else { Span { start: self.start - by as u32, ..self } }
    }
}

/// The arguments of one command, the command's name first.
pub struct Args<'a> {
    buf: &'a [u8],
    spans: &'a [Span],
    large: &'a mut [Vec<u8>],
    /// The whole request as the client sent it, where that is the canonical RESP form.
    raw: Option<&'a [u8]>,
}

impl<'a> Args<'a> {
    /// Views `spans` of `buf` and `large`. `raw`, where given, must be the canonical RESP text of
    /// the same arguments: it goes into the append-only file as it is.
    #[must_use]
    pub fn new(
        buf: &'a [u8],
        spans: &'a [Span],
        large: &'a mut [Vec<u8>],
        raw: Option<&'a [u8]>,
    ) -> Args<'a> {
        Args { buf, spans, large, raw }
    }

    /// How many arguments there are, the name included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is not even a name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at `index`, if there is one.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.spans.get(index).map(|&span| self.bytes(span))
    }

    /// The arguments from `first` on.
    pub fn from(&self, first: usize) -> impl ExactSizeIterator<Item = &[u8]> + Clone + '_ {
        self.spans.get(first..).unwrap_or(&[]).iter().map(|&span| self.bytes(span))
    }

    /// All arguments, the name first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone + '_ {
        self.from(0)
    }

    /// Moves the argument out if it has an allocation of its own (large arguments have), leaving
    /// an empty one behind.
    pub fn take(&mut self, index: usize) -> Option<Vec<u8>> {
        let span = self.spans.get(index)?;
        if span.len != LARGE {
            return None;
        }
        self.large.get_mut(span.start as usize).map(std::mem::take)
    }

    /// Whether some argument has an allocation of its own, so that [`Args::take`] may empty it.
    #[must_use]
    pub fn has_large(&self) -> bool {
        !self.large.is_empty()
    }

    /// The client's own bytes of the whole request, where they are canonical RESP.
    #[must_use]
    pub fn raw(&self) -> Option<&'a [u8]> {
        self.raw
    }

    /// A copy with a buffer of its own, for a transaction's queue.
    #[must_use]
    pub fn to_owned(&self) -> OwnedArgs {
        OwnedArgs::new(self.iter())
    }

    fn bytes(&self, span: Span) -> &[u8] {
        let (start, len) = (span.start as usize, span.len as usize);
        if span.len == LARGE {
            return self.large.get(start).map_or(&[], Vec::as_slice);
        }
        self.buf.get(start..start + len).unwrap_or(&[])
    }
}

impl Index<usize> for Args<'_> {
    type Output = [u8];

    /// The argument at `index`.
    ///
    /// # Panics
    /// If there is none; a handler indexes only below its table row's arity.
    fn index(&self, index: usize) -> &[u8] {
        self.bytes(self.spans[index])
    }
}

/// Arguments that own their bytes: a queued command, or one the server makes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedArgs {
    /// The command in canonical RESP form, so that it can go into the log as it is.
    raw: Vec<u8>,
    spans: Vec<Span>,
    /// Arguments that would not fit a buffer addressed by [`Span`]; in practice empty.
    large: Vec<Vec<u8>>,
}

/// Beyond this an argument is kept apart, so that spans of one buffer stay below 4 GiB.
const OWNED_BUFFER_LIMIT: usize = 1 << 31;

impl OwnedArgs {
    /// Copies `args`, the name first.
    pub fn new<'b>(args: impl ExactSizeIterator<Item = &'b [u8]>) -> OwnedArgs {
        let mut owned = OwnedArgs::default();
        super::encode::array_header(&mut owned.raw, args.len());
        for arg in args {
            if owned.raw.len() + arg.len() > OWNED_BUFFER_LIMIT {
                owned.spans.push(Span::large(owned.large.len()));
                owned.large.push(arg.to_vec());
            } else {
                let start = super::encode::bulk(&mut owned.raw, arg);
                owned.spans.push(Span::new(start, arg.len()));
            }
        }
        owned
    }

    /// The view that handlers take.
    pub fn as_args(&mut self) -> Args<'_> {
        let raw = self.large.is_empty().then_some(self.raw.as_slice());
        Args::new(&self.raw, &self.spans, &mut self.large, raw)
    }

    /// Bytes held, for the memory figures of a transaction's queue.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.raw.capacity()
            + self.spans.capacity() * size_of::<Span>()
            + self.large.iter().map(Vec::capacity).sum::<usize>()
    }
}
