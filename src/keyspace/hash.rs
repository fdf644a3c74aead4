//! Hashing of keys.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// The secret that places keys in the tables: SipHash-1-3 under a 128-bit key. Keys come from
/// strangers, who must not be able to choose ones that collide.
#[derive(Clone, Copy)]
pub struct HashKey {
    k0: u64,
    k1: u64,
    /// Bits of the hash that are kept; tests clear some to make keys collide.
    #[cfg(test)]
    mask: u64,
}

impl HashKey {
    /// A key that nobody can foresee. The standard library seeds its own SipHash from the operating
    /// system; two of its outputs are as random, and getting them cannot fail.
    #[must_use]
    pub fn random() -> HashKey {
        let source = RandomState::new();
        HashKey::from_words(source.hash_one(0u8), source.hash_one(1u8))
    }

    /// The same placement in every run, for tests and comparisons.
    #[must_use]
    pub fn from_seed(seed: u64) -> HashKey {
        HashKey::from_words(seed, !seed)
    }

    fn from_words(k0: u64, k1: u64) -> HashKey {
        HashKey {
            k0,
            k1,
            #[cfg(test)]
            mask: !0,
        }
    }

    #[cfg(test)]
    pub(super) fn masked(seed: u64, mask: u64) -> HashKey {
        HashKey { mask, ..HashKey::from_seed(seed) }
    }

    /// The hash of `key`, about 6 ns for 16 bytes.
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        let hash = SipHasher13::new_with_keys(self.k0, self.k1).hash(key);
        #[cfg(test)]
        let hash = hash & self.mask;
        hash
    }
}

/// The hash of a key that lies at a place of some buffer.
#[derive(Clone, Copy, Debug)]
pub struct PlacedHash {
    start: usize,
    len: usize,
    hash: u64,
}

impl PlacedHash {
    /// Notes the hash of `key`, which lies in `buf`.
    #[inline]
    #[must_use]
    pub fn new(buf: &[u8], key: &[u8], hash: u64) -> PlacedHash {
        PlacedHash { start: offset(buf, key), len: key.len(), hash }
    }

    /// The hash.
    #[inline]
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// Where `part` begins in `buf`, bytes. Of another buffer's part some number beyond the end.
#[inline]
fn offset(buf: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(buf.as_ptr().addr())
}

/// Hashes that were computed ahead, for those keys that lie in one buffer. A key is known by where
/// it lies, which takes a few instructions, where a hash takes 130: as long as the buffer is
/// borrowed, what lies there cannot change.
#[derive(Clone, Copy, Debug, Default)]
pub struct KnownHashes<'a> {
    buf: &'a [u8],
    /// In the order in which the keys will be asked for.
    hashes: &'a [PlacedHash],
}

impl<'a> KnownHashes<'a> {
    /// Those of keys that lie in `buf`, in the order in which they will be asked for.
    #[inline]
    #[must_use]
    pub fn new(buf: &'a [u8], hashes: &'a [PlacedHash]) -> KnownHashes<'a> {
        KnownHashes { buf, hashes }
    }

    /// The hash of `key`, if it is the key that was asked for last or the next one.
    #[inline]
    pub fn of(&mut self, key: &[u8]) -> Option<u64> {
        let [first, rest @ ..] = self.hashes else { return None };
        let start = offset(self.buf, key);
        let is_it = |placed: &PlacedHash| placed.start == start && placed.len == key.len();
        if is_it(first) {
            return Some(first.hash);
        }
        let next = rest.first().filter(|next| is_it(next))?;
        self.hashes = rest;
        Some(next.hash)
    }
}

impl std::fmt::Debug for HashKey {
    /// Tells nothing, so that the secret cannot end up in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_known_by_the_place_of_its_key_alone() {
        let buf = b"MSET one 1 two 2 one 3".to_vec();
        let (one, two, one_again) = (&buf[5..8], &buf[11..14], &buf[17..20]);
        let hashes = [(one, 1), (two, 2), (one_again, 3)];
        let placed = hashes.map(|(key, hash)| PlacedHash::new(&buf, key, hash));
        let mut known = KnownHashes::new(&buf, &placed);
        assert_eq!(known.of(two), Some(2), "the next one");
        let mut known = KnownHashes::new(&buf, &placed);
        for (key, hash) in [(one, 1), (one, 1), (two, 2), (two, 2), (one_again, 3)] {
            assert_eq!(known.of(key), Some(hash));
        }
        let elsewhere = buf.clone();
        let mut known = KnownHashes::new(&buf, &placed);
        for key in [&elsewhere[5..8], &buf[5..7], &buf[6..8], &buf[..], b"", one_again] {
            assert_eq!(known.of(key), None);
        }
        assert_eq!(KnownHashes::default().of(b""), None);
    }
}
