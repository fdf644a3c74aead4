//! Redis's digest of a dataset: equal data, equal digest, whatever the order of the keys. Two
//! servers can so be compared without reading everything from both.

use crate::data::{Type, ValueRef};
use crate::keyspace::{Entry, Keyspace};
use sha1::{Digest as _, Sha1};

/// 20 bytes that everything is mixed into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

impl Digest {
    /// Digest of all databases. Deadlines count only by their being there; keys past theirs still
    /// count. O(bytes in the keyspace), about four SHA-1 blocks a short key.
    #[must_use]
    pub fn of_keyspace(keyspace: &Keyspace) -> Digest {
        let mut all = Digest::default();
        for index in 0..keyspace.databases() {
            let db = keyspace.db(index);
            if db.is_empty() {
                continue;
            }
            all.mix(&(index as u32).to_be_bytes());
            for entry in db.iter() {
                let mut one = Digest::default();
                one.mix(entry.key());
                one.mix_entry(entry);
                all.xor(&one.0);
            }
        }
        all
    }

    /// Digest of one key's value and of whether it has a deadline; the key itself does not count.
    #[must_use]
    pub fn of_value(entry: &Entry) -> Digest {
        let mut digest = Digest::default();
        digest.mix_entry(entry);
        digest
    }

    /// As 40 hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn mix_entry(&mut self, entry: &Entry) {
        let value = entry.value();
        self.mix(&type_number(value.value_type()).to_be_bytes());
        match value {
            ValueRef::Int(_) | ValueRef::String(_) => {
                self.mix(value.bytes(&mut itoa::Buffer::new()));
            }
        }
        if entry.deadline().is_some() {
            self.xor(b"!!expire!!");
        }
    }

    /// Adds what may come in any order.
    fn xor(&mut self, bytes: &[u8]) {
        let hash = Sha1::digest(bytes);
        self.0.iter_mut().zip(hash).for_each(|(mine, other)| *mine ^= other);
    }

    /// Adds what must come in this order.
    fn mix(&mut self, bytes: &[u8]) {
        self.xor(bytes);
        self.0 = Sha1::digest(self.0).into();
    }
}

/// Redis's number of a type, which is part of the digest.
fn type_number(value_type: Type) -> u32 {
    match value_type {
        Type::String => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;
    use crate::data::NewValue;
    use crate::keyspace::{Deadline, HashKey, Keyspace};
    use crate::sys::clock::UnixMs;

    const FOREVER: Deadline = Deadline::Clear;
    const FAR: Deadline = Deadline::At(UnixMs(4_000_000_000_000));

    /// The digests are those of redis-server 7.0.15 with the same data.
    #[test]
    fn digests_are_those_of_redis() {
        let mut keyspace = Keyspace::new(16, HashKey::from_seed(1));
        assert_eq!(Digest::of_keyspace(&keyspace).to_hex(), "0".repeat(40));
        type Step<'a> = (usize, &'a [u8], &'a [u8], Deadline, &'a str);
        let steps: &[Step<'_>] = &[
            (0, b"a", b"1", FOREVER, "943d800368fb9c0e951138f1bc0e313ac769d91f"),
            (0, b"b", b"hello", FAR, "669dc7955c0119edb82e7cfeb40ea4a28f89f902"),
            (3, b"a", b"1", FOREVER, ""),
            (3, b"c", b"x\x00\xffy", FOREVER, "7746035b860128956500a5f57cdacf77af0a2d85"),
            (15, b"", b"", FOREVER, "1d920087a38f075eb09e71137ab612b7737af92a"),
            (
                15,
                b"n",
                b"-92233720368547758080",
                FOREVER,
                "64c2b54aa9c790ab7e15ea25b4112b54e703bbc1",
            ),
            (0, b"a", b"1", FAR, "931d65e63735f55d17b08bc50d048c93dae0bfa1"),
        ];
        for (db, key, value, deadline, expected) in steps {
            keyspace.db_mut(*db).set(key, NewValue::from_bytes(value), *deadline);
            if !expected.is_empty() {
                assert_eq!(Digest::of_keyspace(&keyspace).to_hex(), *expected, "{key:?}");
            }
        }
        let value = |db: usize, key: &[u8]| {
            let entry = keyspace.db(db).get(key).expect("the key is there");
            Digest::of_value(entry).to_hex()
        };
        assert_eq!(value(3, b"a"), "b4fc66738120fba0b5aa500ab5c2bf89cea1c5da");
        assert_eq!(value(3, b"c"), "c937b0377402390a71d38df6a25152a5208b05b0");
        assert_eq!(value(0, b"b"), "d037c4eb8a8b36b602fbced4000daeab0714c1e3");
    }

    #[test]
    fn the_order_of_keys_does_not_count_but_their_database_does() {
        let digest = |keys: &[(usize, &str)], seed| {
            let mut keyspace = Keyspace::new(16, HashKey::from_seed(seed));
            for (db, key) in keys {
                keyspace.db_mut(*db).set(key.as_bytes(), NewValue::Bytes(b"v"), FOREVER);
            }
            Digest::of_keyspace(&keyspace)
        };
        let there = digest(&[(0, "a"), (0, "b"), (0, "c")], 1);
        assert_eq!(there, digest(&[(0, "c"), (0, "b"), (0, "a")], 2));
        assert_ne!(there, digest(&[(1, "a"), (1, "b"), (1, "c")], 1));
        assert_ne!(there, digest(&[(0, "a"), (0, "b"), (1, "c")], 1));
    }
}
