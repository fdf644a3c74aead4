use super::*;
use crate::keyspace::testing::Rng;

/// What an entry should hold.
#[derive(Clone, Debug)]
struct Model {
    key: Vec<u8>,
    value: Value,
    deadline: Option<UnixMs>,
    raw: bool,
    stamp: Stamp,
}

impl Model {
    fn check(&self, entry: &Entry) {
        assert_eq!(entry.key(), self.key);
        assert_eq!(entry.stamp(), self.stamp);
        assert_eq!(entry.value(), self.value.view());
        assert_eq!(entry.deadline(), self.deadline);
        let encoding = match &self.value {
            Value::Int(_) => Encoding::Int,
            Value::String(bytes) if self.raw || bytes.len() > 44 => Encoding::Raw,
            Value::String(_) => Encoding::EmbStr,
        };
        assert_eq!(entry.encoding(), encoding);
        assert!(entry.memory_bytes() >= self.key.len() + 6);
    }

    fn check_value(&self, entry: &Entry) {
        assert_eq!((entry.value(), entry.deadline()), (self.value.view(), self.deadline));
    }

    fn text(&self) -> Vec<u8> {
        self.value.view().bytes(&mut itoa::Buffer::new()).to_vec()
    }
}

/// Lengths on both sides of every limit: of the encodings, of size classes, of inline strings.
const LENGTHS: [usize; 18] =
    [0, 1, 2, 3, 9, 10, 11, 31, 44, 45, 100, 127, 128, 129, 200, 255, 256, 5_000];

fn length(rng: &mut Rng) -> usize {
    LENGTHS[rng.below(LENGTHS.len() as u64) as usize]
}

fn deadline(rng: &mut Rng) -> Option<UnixMs> {
    [None, Some(UnixMs(i64::MIN)), Some(UnixMs(0)), Some(UnixMs(rng.next() as i64))]
        [rng.below(4) as usize]
}

fn value(rng: &mut Rng) -> Value {
    if rng.one_in(4) {
        Value::Int(rng.next() as i64)
    } else {
        let len = length(rng);
        Value::String(rng.bytes(len))
    }
}

fn new_value<'a>(value: &'a Value, rng: &mut Rng) -> NewValue<'a> {
    match value {
        Value::Int(n) => NewValue::Int(*n),
        Value::String(bytes) if rng.one_in(2) => NewValue::Bytes(bytes),
        Value::String(bytes) => {
            let mut owned = bytes.clone();
            owned.reserve_exact(length(rng));
            NewValue::Owned(owned)
        }
    }
}

#[test]
fn an_entry_knows_its_key_from_all_others_of_its_length() {
    for len in (0..40).chain([255, 256, 300]) {
        let key: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let entry = Entry::new(&key, NewValue::Bytes(b"value"), None);
        assert!(entry.has_key(&key));
        assert!(!entry.has_key(&[&key[..], b"x"].concat()));
        assert!(len == 0 || !entry.has_key(&key[1..]));
        for at in 0..len {
            let mut other = key.clone();
            other[at] ^= 0x20;
            assert!(!entry.has_key(&other), "{len} bytes, another one at {at}");
        }
    }
}

#[test]
fn every_change_leaves_what_a_model_holds() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let key_bytes = length(&mut rng);
        let mut model = Model {
            key: rng.bytes(key_bytes),
            value: value(&mut rng),
            deadline: deadline(&mut rng),
            raw: false,
            stamp: Stamp::default(),
        };
        let first = new_value(&model.value, &mut rng);
        let mut entry = Entry::new(&model.key, first, model.deadline);
        model.check(&entry);
        for _ in 0..60 {
            match rng.below(9) {
                0 | 1 => {
                    model.value = value(&mut rng);
                    model.deadline = deadline(&mut rng);
                    model.raw = false;
                    entry.assign(new_value(&model.value, &mut rng), model.deadline);
                }
                2 => {
                    model.deadline = deadline(&mut rng);
                    entry.set_deadline(model.deadline);
                }
                3 => {
                    let len = length(&mut rng);
                    let more = rng.bytes(len);
                    let mut text = model.text();
                    text.extend_from_slice(&more);
                    assert_eq!(entry.append(&more), text.len());
                    (model.value, model.raw) = (Value::String(text), true);
                }
                4 => {
                    let mut text = model.text();
                    let min = length(&mut rng);
                    text.resize(text.len().max(min), 0);
                    let at = rng.below(text.len().max(1) as u64) as usize;
                    if let Some(byte) = text.get_mut(at) {
                        *byte ^= 0x55;
                    }
                    let len = entry.modify(min, |bytes| {
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte ^= 0x55;
                        }
                    });
                    assert_eq!(len, text.len());
                    (model.value, model.raw) = (Value::String(text), true);
                }
                5 => {
                    let len = length(&mut rng);
                    model.key = rng.bytes(len);
                    entry = entry.renamed(&model.key);
                }
                6 => {
                    let len = length(&mut rng);
                    model.key = rng.bytes(len);
                    let copied = entry.copied(&model.key);
                    model.check_value(&entry);
                    model.stamp = Stamp::default();
                    entry = copied;
                }
                7 => {
                    let min = length(&mut rng) + 1;
                    if entry.heap_bytes() < min {
                        assert_eq!(entry.take_large(min), None);
                    } else {
                        assert_eq!(entry.take_large(min), Some(model.value));
                        model.value = Value::String(Vec::new());
                        entry.assign(NewValue::Bytes(b""), model.deadline);
                        model.raw = false;
                    }
                }
                _ => {
                    model.stamp = Stamp::from_bits(rng.next() as u32);
                    entry.set_stamp(model.stamp);
                }
            }
            model.check(&entry);
        }
        assert_eq!(entry.into_value(), model.value);
    }
}

#[test]
fn a_short_key_with_a_short_value_takes_32_bytes() {
    let memory = |value| Entry::new(&[b'k'; 16], value, None).memory_bytes();
    assert_eq!(memory(NewValue::Bytes(b"abc")), 32);
    assert_eq!(memory(NewValue::Int(i64::MIN)), 32);
    assert_eq!(memory(NewValue::Bytes(&[b'v'; 32])), 64);
    assert_eq!(size_of::<Option<Entry>>(), 8);
}

#[test]
fn a_value_of_the_same_class_is_written_in_place() {
    let mut entry = Entry::new(b"key", NewValue::Bytes(b"1234567"), Some(UnixMs(5)));
    let start = entry.start;
    entry.assign(NewValue::Int(-1), Some(UnixMs(6)));
    entry.assign(NewValue::Bytes(b"0123456789"), Some(UnixMs(7)));
    assert_eq!(entry.append(b"abcde"), 15);
    entry.set_deadline(Some(UnixMs(8)));
    assert_eq!(entry.start, start);
    assert_eq!(entry.value(), ValueRef::String(b"0123456789abcde"));
    assert_eq!(entry.deadline(), Some(UnixMs(8)));
}

#[test]
fn a_long_buffer_is_taken_over_and_reused() {
    let at = |entry: &Entry| match entry.value() {
        ValueRef::String(bytes) => bytes.as_ptr(),
        ValueRef::Int(_) => ptr::null(),
    };
    let buffer = vec![b'a'; 1_000];
    let start = buffer.as_ptr();
    let mut entry = Entry::new(b"key", NewValue::Owned(buffer), None);
    assert_eq!(at(&entry), start);
    entry.assign(NewValue::Bytes(&[b'b'; 900]), None);
    assert_eq!(at(&entry), start);
    entry.set_deadline(Some(UnixMs(1)));
    let entry = entry.renamed(b"other");
    assert_eq!(at(&entry), start);
    let Value::String(bytes) = entry.into_value() else { panic!("not a string") };
    assert_eq!((bytes.as_ptr(), &*bytes), (start, &[b'b'; 900][..]));
}

#[test]
fn a_buffer_much_larger_than_its_string_is_cut() {
    let mut buffer = Vec::with_capacity(1 << 20);
    buffer.resize(200, b'x');
    let entry = Entry::new(b"key", NewValue::Owned(buffer), None);
    assert!(entry.memory_bytes() < 400);
}

#[test]
fn appending_byte_by_byte_moves_the_string_rarely() {
    let mut entry = Entry::new(b"key", NewValue::Bytes(b""), None);
    let (mut moves, mut capacity) = (0, 0);
    for len in 1..=3_000_000 {
        assert_eq!(entry.append(b"x"), len);
        if entry.memory_bytes() != capacity {
            (moves, capacity) = (moves + 1, entry.memory_bytes());
        }
    }
    assert!(moves < 50, "{moves}");
}

#[test]
fn keys_of_any_length_are_held() {
    for bytes in [0, 1, 255, 256, 512 << 10, 70 << 20] {
        let key = vec![b'k'; bytes];
        let mut entry = Entry::new(&key, NewValue::Bytes(b"value"), None);
        entry.set_deadline(Some(UnixMs(1)));
        entry.append(b"s");
        assert!(entry.key() == key && entry.has_key(&key));
        assert_eq!(entry.value(), ValueRef::String(b"values"));
    }
}

#[test]
fn a_key_lives_at_its_deadline_and_not_after() {
    let entry = Entry::new(b"key", NewValue::Int(1), Some(UnixMs(10)));
    assert!(!entry.is_expired(UnixMs(10)));
    assert!(entry.is_expired(UnixMs(11)));
    assert!(!Entry::new(b"key", NewValue::Int(1), None).is_expired(UnixMs(i64::MAX)));
}

#[test]
fn size_classes_are_those_of_jemalloc() {
    let classes = [(1, 8), (9, 16), (17, 32), (128, 128), (129, 160), (257, 320), (4_097, 5_120)];
    for (bytes, class) in classes {
        assert_eq!(size_class(bytes), class);
        assert_eq!(size_class(class), class);
    }
}
