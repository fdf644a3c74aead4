//! Claims about checking and repairing: the verdict is the loader's, a repair keeps all that is
//! good, and a crash in the middle of one loses nothing.

use std::ffi::OsStr;

use nix::errno::Errno;

use super::check::{CheckReport, FurtherDamage, check, fix_in_place, write_fixed};
use super::damage::{FirstKey, Verdict};
use super::load::{LoadError, LoadOptions};
use super::load_tests::{NAME, REDIS, groups, load, load_bytes, sealed, set};
use super::simulated::{Fault, Op, SimDisk};

const FIXED: &str = "a.aof.fixed";

fn options() -> LoadOptions {
    let key_position = |name: &[u8]| name.eq_ignore_ascii_case(b"SET").then_some(1);
    LoadOptions { key_position, ..LoadOptions::default() }
}

fn disk_with(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.put(NAME, bytes);
    disk
}

fn check_on(disk: &SimDisk) -> CheckReport {
    check(disk, OsStr::new(NAME), &options()).expect("readable")
}

fn check_bytes(bytes: &[u8]) -> CheckReport {
    check_on(&disk_with(bytes))
}

/// What a start that may cut nothing says, as a verdict.
fn verdict_of_a_start(bytes: &[u8]) -> Option<Verdict> {
    let options = LoadOptions { cut_tail: false, ..LoadOptions::default() };
    match load(&disk_with(bytes), options) {
        Ok(_) => None,
        Err(LoadError::PromisedDamaged { promised, .. }) => {
            Some(Verdict::Promised { until: promised })
        }
        Err(LoadError::Truncated { sealed: true, .. }) => Some(Verdict::NeverPromised),
        Err(LoadError::Truncated { sealed: false, .. }) => Some(Verdict::TornUnsealed),
        Err(LoadError::BadFormat { .. }) => Some(Verdict::BadUnsealed),
        Err(other) => panic!("{other}"),
    }
}

/// Holds for any content: the check agrees with a start, changes nothing, and its repair is the
/// good part, which loads without a word. Returns the verdict.
fn holds(bytes: &[u8], what: &str) -> Option<Verdict> {
    let disk = disk_with(bytes);
    let report = check_on(&disk);
    assert_eq!(disk.contents(NAME).as_deref(), Some(bytes), "{what}");
    assert_eq!(disk.names(), [NAME], "{what}");
    let verdict = report.damage.as_ref().map(|damage| damage.verdict);
    assert_eq!(verdict, verdict_of_a_start(bytes), "{what}");
    let good = &bytes[..report.end as usize];
    if verdict.is_none() {
        assert_eq!(good, bytes, "{what}");
        return None;
    }
    write_fixed(&disk, OsStr::new(NAME), &report).expect("written");
    assert_eq!(disk.contents(NAME).as_deref(), Some(bytes), "{what}: only a copy is written");
    // Durable, name and all.
    let after = disk.after_power_cut();
    assert_eq!(after.contents(FIXED).as_deref(), Some(good), "{what}");
    let (_, loaded) = load_bytes(good);
    let (loaded, commands) = loaded.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(loaded.cut, None, "{what}");
    assert_eq!(commands.len() as u64, report.commands, "{what}");
    verdict
}

#[test]
fn a_flipped_bit_anywhere_is_judged_as_a_start_judges_it_and_repaired() {
    let (whole, ends) = sealed(&groups(6), &[3]);
    let mut promised = 0;
    for byte in 0..whole.len() {
        for bit in [0, 4, 7] {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << bit;
            let verdict = holds(&damaged, &format!("byte {byte} bit {bit}"));
            let is_promised = matches!(verdict, Some(Verdict::Promised { .. }));
            assert!(is_promised || byte as u64 >= ends[4] || ends[0] > byte as u64);
            promised += u64::from(is_promised);
        }
    }
    assert!(promised > 0);
}

#[test]
fn a_file_cut_at_any_byte_is_judged_as_a_start_judges_it_and_repaired() {
    let (sealed, _) = sealed(&groups(5), &[2]);
    let transaction = b"*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nINCR\r\n*1\r\n$4\r\nEXEC\r\n";
    let unsealed = [REDIS, transaction, REDIS].concat();
    let mixed = [REDIS, sealed.as_slice()].concat();
    for whole in [&sealed, &unsealed, &mixed] {
        for cut in 0..=whole.len() {
            holds(&whole[..cut], &format!("cut at {cut} of {}", whole.len()));
        }
    }
}

#[test]
fn an_unsealed_file_that_reads_wrong_is_told_from_one_that_ends_early() {
    let wrong = [REDIS, b"garbage\r\n", REDIS].concat();
    assert_eq!(holds(&wrong, "garbage"), Some(Verdict::BadUnsealed));
    let torn = [REDIS, &REDIS[..30]].concat();
    assert_eq!(holds(&torn, "torn"), Some(Verdict::TornUnsealed));
    // The value is cut off, the key is there to be read.
    let report = check_bytes(&torn[..torn.len() - 1]);
    assert_eq!(report.damage.and_then(|damage| damage.first_key), None, "the name alone");
    let torn = [REDIS, &REDIS[..REDIS.len() - 2]].concat();
    let report = check_bytes(&torn);
    let key = report.damage.and_then(|damage| damage.first_key).expect("a key");
    assert_eq!((key.key.as_slice(), key.offset), (b"a".as_slice(), 2 * 23 + 27));
}

#[test]
fn figures_of_a_clean_file_are_counted() {
    let (sealed, ends) = sealed(&groups(4), &[1]);
    let report = check_bytes(&sealed);
    assert_eq!((report.commands, report.unsealed_commands, report.seals), (4, 0, 4));
    assert_eq!((report.first_ms, report.last_ms), (Some(5), Some(7)));
    assert_eq!(report.durable, Some(ends[2]));
    assert_eq!((report.end, report.damage.clone()), (sealed.len() as u64, None));
    assert!(report.to_string().contains("\nResult: clean\n"), "{report}");
    let transaction = b"*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nINCR\r\n*1\r\n$4\r\nEXEC\r\n";
    let report = check_bytes(&[REDIS, transaction].concat());
    assert_eq!((report.commands, report.unsealed_commands, report.seals), (3, 3, 0));
    assert_eq!((report.transactions, report.last_ms, report.durable), (1, None, None));
    assert!(report.to_string().contains("Seals: none"), "{report}");
    let report = check_bytes(b"");
    assert_eq!((report.commands, report.damage), (0, None));
}

/// Zeros in two places, and what is known of them.
#[test]
fn each_damage_is_told_apart_with_what_was_promised_of_it() {
    let groups: Vec<_> = (0..12).map(|n| set(&format!("k{n}"), &"v".repeat(300))).collect();
    let (whole, ends) = sealed(&groups, &[4]);
    let mut bytes = whole.clone();
    // Group 2 and half of group 8; known durable is the end of group 4.
    bytes[ends[2] as usize..ends[3] as usize].fill(0);
    bytes[ends[8] as usize..ends[8] as usize + 100].fill(0);
    let report = check_bytes(&bytes);
    let damage = report.damage.as_ref().expect("damaged");
    assert_eq!((damage.end, damage.verdict), (ends[2], Verdict::Promised { until: ends[5] }));
    // Group 3's seal covers the text of the seal that is gone: group 4 is the first to verify.
    let key = FirstKey { key: b"k4".to_vec(), command: b"SET".to_vec(), offset: ends[4] };
    assert_eq!(damage.first_key.as_deref(), Some(&key));
    let stretches: Vec<_> =
        report.intact.iter().map(|s| (s.from, s.end, s.groups, s.commands)).collect();
    // Group 8's own seal is whole, and vouches for what follows it.
    assert_eq!(stretches, [(ends[4], ends[8], 4, 4), (ends[9], ends[12], 3, 3)]);
    let further = FurtherDamage { from: ends[8], end: ends[9], promised: false };
    assert_eq!(report.further_damage(), [further]);
    let text = report.to_string();
    assert!(text.contains("First key affected: \"k4\" (SET at offset"), "{text}");
    assert!(text.contains("7 groups with 7 commands are intact"), "{text}");

    let (whole, ends) = sealed(&groups, &[10]);
    let mut bytes = whole.clone();
    for group in [2, 6, 11] {
        bytes[ends[group] as usize + 10] ^= 1;
    }
    let promised: Vec<_> =
        check_bytes(&bytes).further_damage().iter().map(|d| d.promised).collect();
    // Only group 11's own seal could state group 10 durable, and that group is damaged.
    assert_eq!(promised, [false, false]);
    bytes[ends[11] as usize + 10] ^= 1;
    let further = check_bytes(&bytes).further_damage();
    assert_eq!(further.iter().map(|d| (d.from, d.promised)).collect::<Vec<_>>(), [(ends[6], true)]);
}

#[test]
fn a_refusal_names_the_first_key_as_it_reads_now() {
    let (mut bytes, ends) = sealed(&groups(8), &[6]);
    bytes[ends[4] as usize + set("k4", "vvvv").len() - 4] ^= 1; // In the value of k4.
    let report = check_bytes(&bytes);
    let key = report.damage.expect("damaged").first_key.expect("a key");
    assert_eq!(key.key, b"k4");
    let error = load(&disk_with(&bytes), options()).expect_err("refused").to_string();
    assert!(error.contains("The first key affected is \"k4\" (SET at offset"), "{error}");
    let last = error.lines().last().expect("a line");
    assert!(last.starts_with("Bad file format reading the append only file: "), "{last}");
}

#[test]
fn no_copy_is_written_over_and_a_failed_one_leaves_nothing() {
    let (whole, _) = sealed(&groups(3), &[]);
    let torn = &whole[..whole.len() - 5];
    for op in [Op::Create, Op::Write, Op::Sync, Op::SyncDir] {
        for in_place in [false, true] {
            let disk = disk_with(torn);
            let report = check_on(&disk);
            disk.fail(Fault { op, skip: 0, count: 1, errno: Errno::EIO });
            let name = OsStr::new(NAME);
            let done = if in_place {
                fix_in_place(&disk, name, &report)
            } else {
                write_fixed(&disk, name, &report)
            };
            let text = done.expect_err("fails").to_string();
            assert!(text.contains("Input/output error"), "{text}");
            assert_eq!(disk.names(), [NAME], "{op:?} in place: {in_place}");
            assert_eq!(disk.contents(NAME).as_deref(), Some(torn));
        }
    }
    let disk = disk_with(torn);
    disk.put(FIXED, b"somebody's");
    let report = check_on(&disk);
    let error = write_fixed(&disk, OsStr::new(NAME), &report).expect_err("refused").to_string();
    assert!(error.contains("a.aof.fixed"), "{error}");
    assert_eq!(disk.contents(FIXED).as_deref(), Some(b"somebody's".as_slice()));
}

#[test]
fn a_file_that_changed_meanwhile_is_not_repaired() {
    let (whole, _) = sealed(&groups(3), &[]);
    let disk = disk_with(&whole[..whole.len() - 5]);
    let report = check_on(&disk);
    disk.put(NAME, &whole);
    let name = OsStr::new(NAME);
    for done in [fix_in_place(&disk, name, &report), write_fixed(&disk, name, &report)] {
        assert!(done.expect_err("refused").to_string().contains("changed while"));
    }
    assert_eq!(disk.contents(NAME), Some(whole));
    assert_eq!(disk.names(), [NAME]);
}

/// The power goes in the middle of each operation of a repair in place, by many seeds.
#[test]
fn a_repair_in_place_loses_nothing_whenever_the_power_goes() {
    let groups: Vec<_> = (0..8).map(|n| set(&format!("k{n}"), &"v".repeat(2_000))).collect();
    let (mut damaged, ends) = sealed(&groups, &[6]);
    damaged[ends[4] as usize + 50] ^= 1;
    let good = damaged[..ends[4] as usize].to_vec();
    let kept_name = format!("{NAME}.before-fix-{}", ends[4]);
    let (mut before, mut repaired) = (0, 0);
    for seed in 0..300 {
        for operation in 0..12 {
            let disk = SimDisk::new(seed);
            disk.put(NAME, &damaged);
            let report = check_on(&disk);
            disk.crash_after(operation);
            let done = fix_in_place(&disk, OsStr::new(NAME), &report);
            assert_eq!(done.is_err(), disk.crashed(), "seed {seed} operation {operation}");
            let after = disk.after_power_cut();
            let file = after.contents(NAME).expect("the file never loses its name");
            // An un-synced cut may have come to anything between.
            assert!(file.starts_with(&good), "seed {seed} operation {operation}");
            assert!(damaged.starts_with(&file), "seed {seed} operation {operation}");
            let is_whole = file.len() == damaged.len();
            if !is_whole {
                let kept = after.contents(&kept_name);
                assert_eq!(kept.as_ref(), Some(&damaged), "seed {seed} operation {operation}");
            }
            if done.is_ok() {
                assert_eq!(file, good, "a repair that was told of is durable");
            }
            before += u64::from(is_whole);
            repaired += u64::from(!is_whole);
        }
    }
    assert!(before > 100 && repaired > 100, "{before} {repaired}");
}
