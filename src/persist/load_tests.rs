//! Claims about loading: what is applied, what is cut, what is refused.

use std::ffi::{OsStr, OsString};

use super::base::{BaseOptions, BaseWriter};
use super::format::Line;
use super::load::{LoadError, LoadOptions, LoadReport, Loader, Replay};
use super::simulated::{Rng, SimDisk};
use super::storage::Storage;
use super::tail::{Chain, Stamp, Tail};
use crate::data::NewValue;
use crate::keyspace::{HashKey, Prepared};
use crate::resp::args::Args;

pub(super) const NAME: &str = "a.aof";
pub(super) const REDIS: &[u8] =
    b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n";

pub(super) fn set(key: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    crate::resp::encode::command(&mut out, &[b"SET", key.as_bytes(), value.as_bytes()]);
    out
}

/// Loads, and gives the commands as text.
pub(super) fn load(
    disk: &SimDisk,
    options: LoadOptions,
) -> Result<(LoadReport, Vec<String>), LoadError> {
    load_with(disk, options, false)
}

/// Likewise, with a thread that reads ahead or without.
fn load_with(
    disk: &SimDisk,
    options: LoadOptions,
    read_ahead: bool,
) -> Result<(LoadReport, Vec<String>), LoadError> {
    let mut loader = Loader::open(disk.storage(), OsStr::new(NAME), options)?;
    if read_ahead {
        loader.read_ahead().expect("a thread");
    }
    let mut commands = Vec::new();
    let mut step = || {
        loader.step(1, |args| {
            let words: Vec<_> = args.iter().map(String::from_utf8_lossy).collect();
            commands.push(words.join(" "));
            Ok(())
        })
    };
    while !step()? {}
    Ok((loader.report().clone(), commands))
}

pub(super) fn load_bytes(bytes: &[u8]) -> (SimDisk, Result<(LoadReport, Vec<String>), LoadError>) {
    let disk = SimDisk::new(1);
    disk.put(NAME, bytes);
    let result = load(&disk, LoadOptions::default());
    (disk, result)
}

/// A sealed file of groups, each with where it ends (its seal included). `synced` says after which
/// groups a sync is known to have completed.
pub(super) fn sealed(groups: &[Vec<u8>], synced: &[usize]) -> (Vec<u8>, Vec<u64>) {
    let disk = SimDisk::new(1);
    let file = disk.create(OsStr::new(NAME)).expect("created");
    let mut tail = Tail::new(file, 0, Chain::Unsealed, 0, 0, false);
    tail.begin_sealing(5).expect("written");
    tail.set_known_durable(tail.end());
    let mut ends = vec![tail.end()];
    for (index, group) in groups.iter().enumerate() {
        tail.write_group(&mut group.clone(), 0, Stamp { db: 0, unix_ms: 7 }, true)
            .expect("written");
        if synced.contains(&index) {
            tail.set_known_durable(tail.end());
        }
        ends.push(tail.end());
    }
    (disk.contents(NAME).expect("there"), ends)
}

pub(super) fn groups(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| set(&format!("k{n}"), &"v".repeat(n % 40))).collect()
}

fn is_refused_untouched(disk: &SimDisk, result: &Result<(LoadReport, Vec<String>), LoadError>) {
    assert!(result.is_err(), "{result:?}");
    assert_eq!(disk.names(), [NAME], "nothing was written");
}

#[test]
fn a_file_cut_at_any_byte_keeps_every_whole_group() {
    let groups = groups(12);
    let (whole, ends) = sealed(&groups, &[]);
    for cut in 1..whole.len() {
        let (disk, result) = load_bytes(&whole[..cut]);
        let (report, commands) = result.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let good = ends.iter().filter(|&&end| end <= cut as u64).count();
        assert_eq!(commands.len(), good.saturating_sub(1), "cut at {cut}");
        let end = good.checked_sub(1).map_or(0, |last| ends[last]);
        assert_eq!(report.cut.is_some(), end != cut as u64, "cut at {cut}");
        assert_eq!(disk.contents(NAME).as_deref(), Some(&whole[..end as usize]));
        if let Some(cut_off) = report.cut {
            let saved = format!("{NAME}.cut-{end}");
            assert!(cut_off.saved_as.ends_with(&saved));
            assert_eq!(disk.contents(&saved).as_deref(), Some(&whole[end as usize..cut]));
        }
    }
}

/// The power goes at each operation of a load that cuts off a torn tail: the tail is in the file yet, or
/// beside it, whole; and once the load has ended the file ends where it was cut.
#[test]
fn a_power_cut_while_a_tail_is_cut_off_loses_none_of_it() {
    let (whole, ends) = sealed(&groups(12), &[]);
    let end = ends[ends.len() - 2] as usize;
    let torn = &whole[..whole.len() - 1];
    let tail = &torn[end..];
    let saved = format!("{NAME}.cut-{end}");
    for seed in 1..=20 {
        for operation in 0.. {
            let disk = SimDisk::new(seed);
            disk.put(NAME, torn);
            disk.crash_after(operation);
            let loaded = load(&disk, LoadOptions::default()).is_ok();
            let left = disk.after_power_cut();
            let file = left.contents(NAME).expect("the log");
            let told = format!("seed {seed}, operation {operation}");
            assert_eq!(&file[..end], &torn[..end], "{told}");
            let is_beside = left.contents(&saved).is_some_and(|saved| saved == tail);
            assert!(file[end..] == *tail || is_beside, "{told}");
            if loaded {
                assert!(file.len() == end && is_beside, "{told}");
                assert!(operation >= 5, "{told}: create, write, sync, sync, truncate, sync");
                break;
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_cut_or_refused_and_never_loads_another_value() {
    let groups = groups(10);
    // Known durable up to the end of group 5, which group 6's seal is the first to state.
    let (whole, ends) = sealed(&groups, &[5]);
    let (_, all) = load_bytes(&whole);
    let (_, all) = all.expect("loads");
    for byte in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << bit;
            let (disk, result) = load_bytes(&damaged);
            let promised = (byte as u64) < ends[6];
            match result {
                Ok((report, commands)) => {
                    assert!(!promised, "byte {byte} bit {bit}: lost what was promised");
                    assert!(report.cut.is_some());
                    assert_eq!(commands[..], all[..commands.len()], "byte {byte} bit {bit}");
                }
                Err(error) => {
                    assert!(promised, "byte {byte} bit {bit}: {error}");
                    assert_eq!(disk.contents(NAME).as_deref(), Some(damaged.as_slice()));
                    assert_eq!(disk.names(), [NAME]);
                }
            }
        }
    }
}

#[test]
fn zeros_with_good_groups_behind_are_cut_unless_a_seal_says_they_were_durable() {
    let groups: Vec<_> = (0..8).map(|n| set(&format!("k{n}"), &"v".repeat(3_000))).collect();
    for (synced, refused) in [(vec![], false), (vec![1], false), (vec![5], true)] {
        let (mut bytes, ends) = sealed(&groups, &synced);
        bytes[ends[3] as usize..ends[4] as usize].fill(0);
        let (disk, result) = load_bytes(&bytes);
        if refused {
            let Err(LoadError::PromisedDamaged { end, promised, bytes: lost, .. }) = &result else {
                panic!("{result:?}");
            };
            assert_eq!((*end, *promised), (ends[3], ends[6]));
            assert_eq!(*lost, bytes.len() as u64 - ends[3]);
            is_refused_untouched(&disk, &result);
            let text = result.expect_err("refused").to_string();
            assert!(text.contains("/simulated/a.aof"), "{text}");
            assert!(text.contains("server_async --check-aof /simulated/a.aof --fix\n"), "{text}");
            let last = text.lines().last().expect("a line");
            assert!(last.starts_with("Bad file format reading the append only file: "), "{last}");
        } else {
            let (report, commands) = result.expect("cut");
            assert_eq!(commands.len(), 3);
            assert_eq!(report.cut.expect("cut").offset, ends[3]);
        }
    }
}

#[test]
fn dropped_doubled_and_swapped_groups_do_not_verify() {
    let groups = groups(6);
    let (whole, ends) = sealed(&groups, &[4]);
    let part = |index: usize| whole[ends[index] as usize..ends[index + 1] as usize].to_vec();
    let head = &whole[..ends[1] as usize];
    let orders: [&[usize]; 3] = [&[2, 3, 4, 5], &[1, 1, 2, 3, 4, 5], &[2, 1, 3, 4, 5]];
    for order in orders {
        let mut bytes = head.to_vec();
        order.iter().for_each(|&index| bytes.extend_from_slice(&part(index)));
        let (_, result) = load_bytes(&bytes);
        match result {
            Ok((_, commands)) => assert!(commands.len() <= 2, "{order:?}: {commands:?}"),
            Err(LoadError::PromisedDamaged { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_stale_generation_does_not_verify() {
    let (first, ends) = sealed(&groups(3), &[]);
    let (second, _) = sealed(&groups(3), &[]);
    let mut mixed = first[..ends[1] as usize].to_vec();
    mixed.extend_from_slice(&second[ends[1] as usize..]);
    let (_, result) = load_bytes(&mixed);
    assert_eq!(result.expect("cut").1.len(), 1);
}

#[test]
fn commands_appended_by_hand_behind_a_seal_are_cut_and_kept() {
    let (mut bytes, ends) = sealed(&groups(2), &[]);
    bytes.extend_from_slice(&set("by", "hand"));
    let (disk, result) = load_bytes(&bytes);
    let (_, commands) = result.expect("cut");
    assert_eq!(commands.len(), 2);
    assert_eq!(disk.contents(&format!("{NAME}.cut-{}", ends[2])), Some(set("by", "hand")));
    // And refused if cutting is not allowed.
    let disk = SimDisk::new(1);
    disk.put(NAME, &bytes);
    let result = load(&disk, LoadOptions { cut_tail: false, ..LoadOptions::default() });
    is_refused_untouched(&disk, &result);
    let text = result.expect_err("refused").to_string();
    let last = text.lines().last().expect("a line");
    assert!(last.starts_with("Unexpected end of file reading the append only file. "), "{last}");
    assert!(last.contains("aof-load-truncated"));
}

#[test]
fn an_unsealed_file_cut_at_any_byte_keeps_every_whole_command_and_transaction() {
    let multi = b"*1\r\n$5\r\nMULTI\r\n";
    let exec = b"*1\r\n$4\r\nexec\r\n";
    let transaction = [multi.as_slice(), &set("t", "1"), &set("t", "2"), exec].concat();
    let whole = [REDIS, b"#TS:1700000000\r\n", &transaction, &set("z", "9")].concat();
    // Where a start may go on, and how many commands it has then executed.
    let after_comment = REDIS.len() + 16;
    let after_multi = after_comment + transaction.len();
    let boundaries =
        [(0, 0), (23, 1), (REDIS.len(), 2), (after_comment, 2), (after_multi, 4), (whole.len(), 5)];
    for cut in 0..=whole.len() {
        let (disk, result) = load_bytes(&whole[..cut]);
        let (report, commands) = result.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let (end, count) = *boundaries.iter().rfind(|(end, _)| *end <= cut).expect("0 is there");
        assert_eq!(commands.len(), count, "cut at {cut}: {commands:?}");
        assert_eq!(disk.contents(NAME).map(|c| c.len()), Some(end), "cut at {cut}");
        assert_eq!(report.cut.is_some(), end != cut);
        if let Some(report) = report.cut {
            assert!(!report.sealed && report.to_string().contains("not sealed"));
        }
    }
}

#[test]
fn an_unsealed_file_that_reads_wrong_is_refused() {
    let wrong: [&[u8]; 12] = [
        b"garbage",
        b"\0\0\0\0\0\0\0\0 zeros",
        b"*1\r\n$4\r\nPINGxx*1",
        b"*0\r\n",
        b"*-1\r\n",
        b"*1\n$4\nPING\n",
        b"*01\r\n$4\r\nPING\r\n",
        b"*1\r\n:4\r\n",
        b"*1\r\n$99999999999\r\n",
        b"*99999999999999999999999\r\n",
        b"#S1:0:0:0:5:00000000\r\n",
        b"#S0\r\n",
    ];
    for tail in wrong {
        for behind in [&b""[..], REDIS] {
            let bytes = [REDIS, tail, behind].concat();
            let (disk, result) = load_bytes(&bytes);
            is_refused_untouched(&disk, &result);
            let text = result.expect_err("refused").to_string();
            assert!(
                text.contains(&format!("damaged at offset {}", REDIS.len()))
                    || text.contains("at offset"),
                "{text}"
            );
        }
    }
    let long_comment = [b"#", "x".repeat(1_023).as_bytes(), b"\r\n"].concat();
    is_refused_untouched_bytes(&long_comment);
    let fits = [b"#", "x".repeat(1_021).as_bytes(), b"\r\n", REDIS].concat();
    assert_eq!(load_bytes(&fits).1.expect("a comment").1.len(), 2);
}

fn is_refused_untouched_bytes(bytes: &[u8]) {
    let (disk, result) = load_bytes(bytes);
    is_refused_untouched(&disk, &result);
}

#[test]
fn a_header_that_was_being_written_is_cut() {
    let header = Line::header(0xabc, 1_700_000_000_000);
    for cut in 1..header.as_bytes().len() {
        for torn in [header.as_bytes()[..cut].to_vec(), vec![0; cut]] {
            let bytes = [REDIS, &torn].concat();
            let (disk, result) = load_bytes(&bytes);
            assert_eq!(result.expect("cut").1.len(), 2);
            assert_eq!(disk.contents(NAME).as_deref(), Some(REDIS));
        }
    }
}

#[test]
fn sealing_begins_and_ends_in_the_middle() {
    let disk = SimDisk::new(1);
    disk.put(NAME, REDIS);
    let file = disk.open(OsStr::new(NAME)).expect("opens").expect("there");
    let mut tail = Tail::new(file, REDIS.len() as u64, Chain::Unsealed, 0, 0, false);
    let mut expected = 2;
    for (n, seals) in [true, true, false, false, true, false, true].into_iter().enumerate() {
        let mut group = set(&format!("k{n}"), "v");
        if seals {
            tail.begin_sealing(9).expect("written");
        }
        tail.write_group(&mut group, 0, Stamp { db: 0, unix_ms: 9 }, seals).expect("written");
        expected += 1;
        let (report, commands) = load(&disk, LoadOptions::default()).expect("loads");
        assert_eq!(report.cut, None);
        assert_eq!(commands.len(), expected);
    }
    let text = String::from_utf8(disk.contents(NAME).expect("there")).expect("text");
    assert_eq!(text.matches("#SH1:").count(), 3, "{text}");
    assert_eq!(text.matches("#S0\r\n#S1:").count(), 2, "{text}");
}

/// Only seals behind another seal were looked at: the first one behind a header in the middle of
/// a file went unheard, and all ahead of it was cut with it.
#[test]
fn the_first_seal_behind_a_header_shows_what_was_promised() {
    let redis = [REDIS, &set("long", &"x".repeat(100))].concat();
    let disk = SimDisk::new(1);
    disk.put(NAME, &redis);
    let file = disk.open(OsStr::new(NAME)).expect("opens").expect("there");
    let mut tail = Tail::new(file, redis.len() as u64, Chain::Unsealed, 0, 0, false);
    tail.begin_sealing(5).expect("written");
    tail.set_known_durable(tail.end());
    let header_end = tail.end();
    let stamp = Stamp { db: 0, unix_ms: 7 };
    tail.write_group(&mut set("a", "2"), 0, stamp, true).expect("written");
    let mut bytes = disk.contents(NAME).expect("there");
    // A length that makes the command reach beyond the end of the file: it looks torn.
    let length = redis.windows(4).rposition(|w| w == b"$100").expect("a length") + 1;
    bytes[length] = b'9';
    let (disk, result) = load_bytes(&bytes);
    is_refused_untouched(&disk, &result);
    let Err(LoadError::PromisedDamaged { promised, .. }) = result else { panic!("{result:?}") };
    assert_eq!(promised, header_end);

    // Likewise where sealing was off for a while.
    let disk = SimDisk::new(1);
    let file = disk.create(OsStr::new(NAME)).expect("created");
    let mut tail = Tail::new(file, 0, Chain::Unsealed, 0, 0, false);
    tail.begin_sealing(5).expect("written");
    let start = tail.end() as usize;
    for (key, seals) in [("a", true), ("b", false), ("c", true)] {
        tail.write_group(&mut set(key, "1"), 0, stamp, seals).expect("written");
        tail.set_known_durable(tail.end());
    }
    let mut bytes = disk.contents(NAME).expect("there");
    bytes[start] ^= 1;
    let (disk, result) = load_bytes(&bytes);
    is_refused_untouched(&disk, &result);
    assert!(matches!(result, Err(LoadError::PromisedDamaged { .. })), "{result:?}");
}

#[test]
fn a_base_of_any_shape_loads_and_is_closed() {
    let mut rng = Rng(7);
    for seals in [true, false] {
        for keys in [0, 1, 3, 2_000, 60_000] {
            let disk = SimDisk::new(1);
            let file = disk.create(OsStr::new(NAME)).expect("created");
            let options = BaseOptions { seals, incremental: true, unix_ms: 9 };
            let mut base = BaseWriter::new(file, options).expect("random");
            base.select(3).expect("written");
            for n in 0..keys {
                let size = if rng.one_in(400) { rng.below(300_000) } else { rng.below(50) };
                let value = vec![b'v'; size as usize];
                let deadline = rng.one_in(2).then_some(1_700_000_000_000 + n);
                base.set(format!("key:{n}").as_bytes(), &value, deadline).expect("written");
            }
            let length = base.finish().expect("synced");
            let disk = disk.after_kill();
            assert_eq!(disk.contents(NAME).map(|c| c.len() as u64), Some(length));
            let (report, commands) = load(&disk, LoadOptions::default()).expect("loads");
            assert_eq!(commands.len() as i64, keys + 1);
            assert_eq!(report.cut, None);
            assert_eq!((report.loaded_bytes, report.total_bytes), (length, length));
        }
    }
}

#[test]
fn any_damage_to_a_base_is_refused() {
    let disk = SimDisk::new(1);
    let file = disk.create(OsStr::new(NAME)).expect("created");
    let options = BaseOptions { seals: true, incremental: false, unix_ms: 9 };
    let mut base = BaseWriter::new(file, options).expect("random");
    base.set(b"a", b"1", None).expect("written");
    base.set(b"b", b"2", Some(3)).expect("written");
    base.finish().expect("synced");
    let whole = disk.contents(NAME).expect("there");
    let closing = whole.windows(4).rposition(|w| w == b"#S1:").expect("a seal");
    let closing = whole[..closing].windows(4).rposition(|w| w == b"#S1:").expect("a seal");
    for byte in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << bit;
            let (_, result) = load_bytes(&damaged);
            match result {
                Ok((_, commands)) => {
                    assert!(byte >= closing, "byte {byte} bit {bit}");
                    assert_eq!(commands.len(), 2);
                }
                Err(error) => assert!(byte < closing, "byte {byte} bit {bit}: {error}"),
            }
        }
    }
}

#[test]
fn a_binary_head_is_refused_with_the_way_out() {
    let (disk, result) = load_bytes(b"REDIS0010\xfa\x09redis-ver");
    is_refused_untouched(&disk, &result);
    let text = result.expect_err("refused").to_string();
    assert!(text.contains("aof-use-rdb-preamble"), "{text}");
}

#[test]
fn a_command_that_cannot_be_executed_is_named_with_its_offset() {
    let disk = SimDisk::new(1);
    disk.put(NAME, REDIS);
    let mut loader =
        Loader::open(disk.storage(), OsStr::new(NAME), LoadOptions::default()).expect("opens");
    let error = loader
        .step(u64::MAX, |args| match &args[0] {
            b"SET" => Err("Unknown command 'SET'".to_owned()),
            _ => Ok(()),
        })
        .expect_err("refused");
    assert_eq!(
        error.to_string(),
        "Unknown command 'SET' reading the append only file /simulated/a.aof (at offset 23)"
    );
}

#[test]
fn large_arguments_have_allocations_of_their_own() {
    let large = "x".repeat(100_000);
    let disk = SimDisk::new(1);
    disk.put(NAME, &[set("a", &large), set("b", "small"), set(&large, &large)].concat());
    let mut loader =
        Loader::open(disk.storage(), OsStr::new(NAME), LoadOptions::default()).expect("opens");
    let mut taken = Vec::new();
    loader
        .step(u64::MAX, |args| {
            taken.push((args[1].len(), args[2].len(), args.take(2).map(|value| value.len())));
            Ok(())
        })
        .expect("loads");
    let n = large.len();
    assert_eq!(taken, [(1, n, Some(n)), (1, 5, None), (n, n, Some(n))]);
}

/// Notes commands as text, those that were prepared too.
#[derive(Default)]
struct Texts {
    commands: Vec<String>,
    prepared: usize,
    expected: usize,
}

impl Replay for Texts {
    const AHEAD: usize = 4;

    fn expect(&mut self, _: &Args<'_>) {}

    fn apply(&mut self, args: &mut Args<'_>) -> Result<(), String> {
        let words: Vec<_> = args.iter().map(String::from_utf8_lossy).collect();
        self.commands.push(words.join(" "));
        Ok(())
    }

    fn expect_prepared(&mut self, _: u64) {
        self.expected += 1;
    }

    fn apply_prepared(&mut self, prepared: Prepared) {
        let key = String::from_utf8_lossy(prepared.key());
        let value = prepared.entry().value().to_value();
        let value = value.view().bytes(&mut itoa::Buffer::new()).to_vec();
        self.commands.push(format!("SET {key} {}", String::from_utf8_lossy(&value)));
        self.prepared += 1;
    }
}

/// Loads with a thread that prepares every SET of a small value it can; also tells how many.
fn load_prepared(disk: &SimDisk) -> (Result<(LoadReport, Vec<String>), LoadError>, usize) {
    let mut texts = Texts::default();
    let mut load = || {
        let mut loader = Loader::open(disk.storage(), OsStr::new(NAME), LoadOptions::default())?;
        let hash_key = HashKey::from_seed(1);
        let is_set = |args: &Args<'_>| args.len() == 3 && !args.has_large() && &args[0] == b"SET";
        let prepare = move |args: &Args<'_>| {
            is_set(args).then(|| Prepared::new(&hash_key, &args[1], NewValue::from_bytes(&args[2])))
        };
        loader.read_and_prepare_ahead(Box::new(prepare)).expect("a thread");
        while !loader.step_expecting(100, &mut texts)? {}
        Ok(loader.report().clone())
    };
    let report = load();
    assert_eq!(texts.expected, texts.prepared, "each is told of ahead, once");
    (report.map(|report| (report, texts.commands)), texts.prepared)
}

/// Loads with a thread that reads ahead, with one that prepares too, and without, and wants no
/// difference. Returns how many commands were prepared.
fn check_read_ahead(bytes: &[u8]) -> usize {
    let mut prepared = 0;
    let mut load = |how| {
        let disk = SimDisk::new(1);
        disk.put(NAME, bytes);
        let result = match how {
            How::OnTheSpot => load_with(&disk, LoadOptions::default(), false),
            How::Ahead => load_with(&disk, LoadOptions::default(), true),
            How::Prepared => {
                let (result, count) = load_prepared(&disk);
                prepared = count;
                result
            }
        };
        let names = disk.names();
        let content = |name: &OsString| name.to_str().and_then(|name| disk.contents(name));
        let contents: Vec<_> = names.iter().map(content).collect();
        (result.map_err(|error| error.to_string()), names, contents)
    };
    let on_the_spot = load(How::OnTheSpot);
    assert_eq!(load(How::Ahead), on_the_spot);
    assert_eq!(load(How::Prepared), on_the_spot);
    prepared
}

#[derive(Clone, Copy)]
enum How {
    OnTheSpot,
    Ahead,
    Prepared,
}

#[test]
fn a_thread_that_reads_ahead_changes_nothing() {
    let (sealed, _) = sealed(&groups(12), &[5]);
    let multi = b"*1\r\n$5\r\nMULTI\r\n";
    let exec = b"*1\r\n$4\r\nexec\r\n";
    let unsealed = [REDIS, multi, &set("t", "1"), exec, &set("z", "9"), &sealed].concat();
    for whole in [&sealed, &unsealed] {
        for cut in (0..whole.len()).step_by(3) {
            check_read_ahead(&whole[..cut]);
        }
        for byte in (0..whole.len()).step_by(5) {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << (byte % 8);
            check_read_ahead(&damaged);
        }
    }
}

#[test]
fn many_chunks_are_applied_in_order_by_either() {
    let mut rng = Rng(23);
    let groups: Vec<Vec<u8>> = (0..600)
        .map(|n| {
            let bytes = if rng.one_in(9) { rng.below(200_000) } else { rng.below(3_000) };
            set(&format!("k{n}"), &"v".repeat(bytes as usize))
        })
        .collect();
    let (whole, _) = sealed(&groups, &[]);
    assert!(whole.len() > 4 << 20, "more than the chunks in use hold: {}", whole.len());
    let prepared = check_read_ahead(&whole);
    assert!((500..600).contains(&prepared), "all but those of large values: {prepared}");
    assert_eq!(check_read_ahead(&groups.concat()), prepared);
    check_read_ahead(&whole[..whole.len() - 100]);
}

/// The thread waited for the chunk that the loop had used up, and the loop, with that one still in
/// its hands, for the thread.
#[test]
fn values_larger_than_the_thread_may_run_ahead_are_loaded() {
    let large = "x".repeat(20 << 20);
    let bytes = [set("a", &large), set("b", &large), set("c", "1"), set("d", &large)].concat();
    let disk = SimDisk::new(1);
    disk.put(NAME, &bytes);
    let mut loader =
        Loader::open(disk.storage(), OsStr::new(NAME), LoadOptions::default()).expect("opens");
    loader.read_ahead().expect("a thread");
    let mut lengths = Vec::new();
    let mut step = || {
        loader.step(1, |args| {
            lengths.push(args.take(2).map_or(args[2].len(), |value| value.len()));
            Ok(())
        })
    };
    while !step().expect("loads") {}
    assert_eq!(lengths, [large.len(), large.len(), 1, large.len()]);
}

#[test]
fn a_loader_can_be_dropped_while_its_thread_reads() {
    let disk = SimDisk::new(1);
    disk.put(NAME, &set("a", &"x".repeat(100_000)).repeat(100));
    for steps in 0..5 {
        let mut loader =
            Loader::open(disk.storage(), OsStr::new(NAME), LoadOptions::default()).expect("opens");
        loader.read_ahead().expect("a thread");
        for _ in 0..steps {
            loader.step(1, |_| Ok(())).expect("loads");
        }
    }
}

/// Notes what is shown and what is applied.
#[derive(Default)]
struct Watcher {
    shown: Vec<Vec<u8>>,
    applied: Vec<Vec<u8>>,
    furthest: usize,
}

impl Replay for Watcher {
    const AHEAD: usize = 5;

    fn expect(&mut self, args: &Args<'_>) {
        self.shown.push(args[1].to_vec());
        self.furthest = self.furthest.max(self.shown.len() - self.applied.len());
    }

    fn apply(&mut self, args: &mut Args<'_>) -> Result<(), String> {
        self.applied.push(args[1].to_vec());
        assert_eq!(self.shown.get(self.applied.len() - 1), self.applied.last());
        if &args[1] == b"bad" { Err("refused".to_owned()) } else { Ok(()) }
    }

    fn apply_prepared(&mut self, _: Prepared) {
        panic!("nothing is prepared");
    }
}

#[test]
fn a_step_applies_all_that_it_has_shown_and_ends_outside_transactions() {
    let multi = b"*1\r\n$5\r\nMULTI\r\n".to_vec();
    let exec = b"*1\r\n$4\r\nEXEC\r\n".to_vec();
    let mut text = Vec::new();
    let mut rng = Rng(29);
    // In which transaction, if in any, each key is set.
    let mut transactions = Vec::new();
    for n in 0..200 {
        let in_one = rng.one_in(3);
        let keys = if in_one { rng.below(9) } else { 1 };
        let sets: Vec<u8> = (0..keys).flat_map(|m| set(&format!("{n}.{m}"), "v")).collect();
        transactions.extend((0..keys).map(|_| in_one.then_some(n)));
        text.extend(if in_one { [multi.clone(), sets, exec.clone()].concat() } else { sets });
    }
    let count = transactions.len();
    text.extend([set("bad", "1"), set("behind", "1")].concat());
    let disk = SimDisk::new(1);
    disk.put(NAME, &text);
    for budget in [1, 100, 1_000, u64::MAX] {
        let mut loader =
            Loader::open(disk.storage(), OsStr::new(NAME), LoadOptions::default()).expect("opens");
        let mut watcher = Watcher::default();
        let error = loop {
            match loader.step_expecting(budget, &mut watcher) {
                Ok(done) => assert!(!done, "a command is refused"),
                Err(error) => break error,
            }
            let applied = watcher.applied.len();
            assert_eq!(watcher.shown.len(), applied);
            let around = |at: usize| transactions.get(at).copied().flatten();
            assert!(applied == 0 || around(applied - 1).is_none_or(|n| around(applied) != Some(n)));
        };
        assert_eq!(watcher.applied.len(), count + 1);
        assert!(watcher.furthest <= Watcher::AHEAD + 1);
        let offset = text.len() - set("behind", "1").len() - set("bad", "1").len();
        let LoadError::Command { offset: at, .. } = error else { panic!("{error}") };
        assert_eq!(at, offset as u64);
    }
}
