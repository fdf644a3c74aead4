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

impl std::fmt::Debug for HashKey {
    /// Tells nothing, so that the secret cannot end up in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(..)")
    }
}
