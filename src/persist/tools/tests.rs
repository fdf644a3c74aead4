//! Claims about the tools: what they write always loads cleanly, holds what it should, and takes
//! nothing away from the file it was made of.

use std::ffi::OsStr;

use nix::errno::Errno;

use super::reseal::{Resealed, reseal};
use super::salvage::{Salvaged, salvage};
use super::truncate::{PointInTime, truncate_to_time};
use super::{ToolError, replace};
use crate::persist::base::{BaseOptions, BaseWriter};
use crate::persist::check::{CheckReport, check};
use crate::persist::damage::Verdict;
use crate::persist::format::{Annotation, Line};
use crate::persist::load::{LoadError, LoadOptions};
use crate::persist::load_tests::{NAME, REDIS, groups, load, load_bytes, sealed, set};
use crate::persist::simulated::{Fault, Op, Rng, SimDisk};
use crate::persist::storage::Storage;
use crate::persist::tail::{Chain, Stamp, Tail};
use crate::resp::encode;

const SALVAGED: &str = "a.aof.salvaged";
const RESEALED: &str = "a.aof.resealed";
/// The present, in tests.
const NOW_MS: u64 = 1_000_000;

fn disk_with(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.put(NAME, bytes);
    disk
}

fn options() -> LoadOptions {
    LoadOptions::default()
}

fn check_on(disk: &SimDisk) -> CheckReport {
    check(disk, OsStr::new(NAME), &options()).expect("readable")
}

fn command(words: &[&str]) -> Vec<u8> {
    let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
    let mut out = Vec::new();
    encode::command(&mut out, &words);
    out
}

fn salvage_on(disk: &SimDisk) -> Result<Salvaged, ToolError> {
    let report = check_on(disk);
    salvage(disk, OsStr::new(NAME), &report, &options(), &mut |_| Ok(()))
}

fn reseal_on(disk: &SimDisk) -> Result<Resealed, ToolError> {
    reseal(disk, OsStr::new(NAME), &options(), NOW_MS, &mut |_| Ok(()))
}

fn truncate_on(disk: &SimDisk, until_ms: u64) -> Result<PointInTime, ToolError> {
    truncate_to_time(disk, OsStr::new(NAME), &options(), until_ms)
}

/// The commands of the copy `name`, which must have outlived a power cut, load without a word and
/// end as a shutdown in order leaves a file.
#[track_caller]
fn commands_of(disk: &SimDisk, name: &str, what: &str) -> Vec<String> {
    let after = disk.after_power_cut();
    let bytes = after.contents(name).unwrap_or_else(|| panic!("{what}: {name} is not durable"));
    let (copy, loaded) = load_bytes(&bytes);
    let (report, commands) = loaded.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(report.cut, None, "{what}");
    let report = check_on(&copy);
    assert_eq!(report.commands, commands.len() as u64, "{what}");
    assert!(report.closed || report.seals == 0, "{what}: {report:?}");
    assert!(!disk.names().iter().any(|name| name.to_string_lossy().contains("part")), "{what}");
    commands
}

/// What the seals of a file state, in order: time and database.
fn stamps(bytes: &[u8]) -> Vec<(u64, u64)> {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    let seals = lines.filter_map(|line| match Annotation::of(line) {
        Annotation::Seal(seal) => Some((seal.fields.unix_ms, seal.fields.db)),
        _ => None,
    });
    seals.collect()
}

/// A file of groups at given times, and where each ends; all is known durable.
fn timed(groups: &[(&[u8], u64, u64)]) -> (Vec<u8>, Vec<u64>) {
    let disk = SimDisk::new(1);
    let file = disk.create(OsStr::new(NAME)).expect("created");
    let mut tail = Tail::new(file, 0, Chain::Unsealed, 0, 0, false);
    tail.begin_sealing(groups.first().map_or(1, |group| group.1)).expect("written");
    let mut ends = vec![tail.end()];
    for &(text, unix_ms, db) in groups {
        tail.set_known_durable(tail.end());
        tail.write_group(&mut text.to_vec(), 0, Stamp { db, unix_ms }, true).expect("written");
        ends.push(tail.end());
    }
    (disk.contents(NAME).expect("there"), ends)
}

/// A file that begins with a base, forked at `forked_ms`; where the base ends.
fn rewritten(forked_ms: u64, keys: usize) -> (Vec<u8>, u64) {
    let disk = SimDisk::new(1);
    let file = disk.create(OsStr::new(NAME)).expect("created");
    let options = BaseOptions { seals: true, incremental: false, unix_ms: forked_ms };
    let mut base = BaseWriter::new(file, options).expect("random");
    base.select(0).expect("written");
    for key in 0..keys {
        base.set(format!("base{key}").as_bytes(), b"v", None).expect("written");
    }
    let end = base.finish().expect("written");
    (disk.contents(NAME).expect("there"), end)
}

#[test]
fn salvage_keeps_every_group_but_the_damaged_one_and_the_one_behind_it() {
    let groups: Vec<_> = (0..10).map(|n| set(&format!("k{n}"), &"v".repeat(300))).collect();
    let (whole, ends) = sealed(&groups, &[3, 8]);
    let (_, all) = load_bytes(&whole);
    let (_, all) = all.expect("loads");
    for (hit, in_seal) in [(0, false), (4, false), (4, true), (8, true), (9, false)] {
        let what = format!("group {hit}, in its seal: {in_seal}");
        let mut damaged = whole.clone();
        let place = if in_seal { ends[hit + 1] - 20 } else { ends[hit] + 50 };
        damaged[place as usize] ^= 1;
        let disk = disk_with(&damaged);
        let salvaged = salvage_on(&disk).expect("salvaged");
        assert_eq!(disk.contents(NAME), Some(damaged), "{what}");
        let mut kept = commands_of(&disk, SALVAGED, &what);
        assert_eq!(salvaged.commands, kept.len() as u64, "{what}");
        kept.retain(|command| command != "SELECT 0");
        // A seal whose text is damaged cannot seed the check of the group behind it.
        let lost = if in_seal && hit < 9 { vec![hit, hit + 1] } else { vec![hit] };
        let expected: Vec<_> =
            all.iter().enumerate().filter(|(at, _)| !lost.contains(at)).map(|(_, c)| c).collect();
        assert_eq!(kept.iter().collect::<Vec<_>>(), expected, "{what}");
        assert_eq!(salvaged.groups_behind, (10 - lost.len() - hit) as u64, "{what}");
        let end = if lost.len() == 2 { ends[hit + 2] } else { ends[hit + 1] };
        let [lost] = salvaged.lost.as_slice() else { panic!("{what}: {:?}", salvaged.lost) };
        assert_eq!(lost.range, ends[hit]..end, "{what}");
        assert_eq!(lost.groups_at_least, 1, "{what}");
    }
}

#[test]
fn salvage_puts_each_group_into_its_own_database_and_time() {
    let select = |db: &str| command(&["SELECT", db]);
    let (bytes, ends) = timed(&[
        (&[select("0"), set("a", "0")].concat(), 100, 0),
        (&[select("5"), set("b", "5")].concat(), 200, 5),
        (&set("c", "5"), 300, 5),
        (&[set("d", "5"), select("2"), set("e", "2")].concat(), 400, 2),
        (&set("f", "2"), 500, 2),
        (&[select("0"), set("g", "0")].concat(), 600, 0),
    ]);
    let mut damaged = bytes.clone();
    // The group that selects 5: its SELECT is lost. And f, whose database is 2.
    damaged[ends[1] as usize + 5] ^= 1;
    damaged[ends[4] as usize + 5] ^= 1;
    let disk = disk_with(&damaged);
    let salvaged = salvage_on(&disk).expect("salvaged");
    let kept = commands_of(&disk, SALVAGED, "databases");
    let expected = [
        "SELECT 0", "SET a 0", "SELECT 5", "SET c 5", "SET d 5", "SELECT 2", "SET e 2",
        // What the seal ahead of it states, and then what it says itself.
        "SELECT 2", "SELECT 0", "SET g 0",
    ];
    assert_eq!(kept, expected);
    assert_eq!((salvaged.groups_behind, salvaged.lost.len()), (3, 2));
    let copy = disk.contents(SALVAGED).expect("there");
    // The last two close it.
    assert_eq!(stamps(&copy), [(100, 0), (300, 5), (400, 2), (600, 0), (600, 0), (600, 0)]);
}

#[test]
fn salvage_leaves_out_what_cannot_be_run_and_tells_it() {
    let (bytes, ends) = timed(&[
        (&set("n", "text"), 100, 0),
        (&set("n", "5"), 200, 0),
        (
            &[
                b"*1\r\n$5\r\nMULTI\r\n",
                &command(&["INCR", "n"])[..],
                &set("m", "1"),
                b"*1\r\n$4\r\nEXEC\r\n",
            ]
            .concat(),
            300,
            0,
        ),
        (&command(&["INCR", "n"]), 400, 0),
    ]);
    let mut damaged = bytes;
    damaged[ends[1] as usize + 5] ^= 1;
    let disk = disk_with(&damaged);
    let mut ran = Vec::new();
    let report = check_on(&disk);
    let salvaged = salvage(&disk, OsStr::new(NAME), &report, &options(), &mut |args| {
        let words: Vec<_> = args.iter().map(String::from_utf8_lossy).collect();
        ran.push(words.join(" "));
        if &args[0] == b"INCR" { Err("Command 'INCR', which fails,".to_owned()) } else { Ok(()) }
    })
    .expect("salvaged");
    assert_eq!(ran, ["SET n text", "SELECT 0", "INCR n", "SET m 1", "INCR n"]);
    assert_eq!((salvaged.left_out, salvaged.first_left_out.len()), (2, 2));
    assert_eq!(salvaged.first_left_out[1].offset, ends[3]);
    assert_eq!(commands_of(&disk, SALVAGED, "left out"), ["SET n text", "SELECT 0", "SET m 1"]);

    // A command that fails ahead of the damage is not the damage's fault.
    let disk = disk_with(&damaged);
    let refused = salvage(&disk, OsStr::new(NAME), &report, &options(), &mut |_| {
        Err("Unknown command 'SFT'".to_owned())
    });
    let text = refused.expect_err("refused").to_string();
    let place = format!("(at offset {})", ends[0]);
    assert!(text.starts_with("Unknown command 'SFT'") && text.ends_with(&place), "{text}");
    assert_eq!(disk.names(), [NAME]);
}

#[test]
fn salvage_keeps_a_sealed_rest_behind_a_damaged_head_that_is_not() {
    let (rest, _) = sealed(&groups(4), &[]);
    let mut bytes = [REDIS, &rest].concat();
    // Offsets in the seals are those of a file of its own, so that here nothing verifies.
    bytes[2] = b'x';
    let disk = disk_with(&bytes);
    let salvaged = salvage_on(&disk).expect("salvaged");
    assert_eq!((salvaged.groups_behind, salvaged.commands), (0, 0));

    let disk = disk_with(REDIS);
    let file = disk.open(OsStr::new(NAME)).expect("opens").expect("there");
    let mut tail = Tail::new(file, REDIS.len() as u64, Chain::Unsealed, 0, 0, false);
    tail.begin_sealing(5).expect("written");
    // No SELECT within the first: its database is the one at its end.
    for (text, db) in [(set("x", "1"), 3), (set("y", "1"), 3)] {
        tail.write_group(&mut text.clone(), 0, Stamp { db, unix_ms: 7 }, true).expect("written");
    }
    let mut bytes = disk.contents(NAME).expect("there");
    bytes[2] = b'x';
    let disk = disk_with(&bytes);
    let salvaged = salvage_on(&disk).expect("salvaged");
    assert_eq!(commands_of(&disk, SALVAGED, "head"), ["SELECT 3", "SET x 1", "SET y 1"]);
    assert_eq!(salvaged.unplaced_groups, 0);
}

#[test]
fn a_group_whose_database_nobody_knows_is_left_out_and_counted() {
    let disk = disk_with(REDIS);
    let file = disk.open(OsStr::new(NAME)).expect("opens").expect("there");
    let mut tail = Tail::new(file, REDIS.len() as u64, Chain::Unsealed, 0, 0, false);
    tail.begin_sealing(5).expect("written");
    let first = [set("x", "1"), command(&["SELECT", "4"]), set("y", "4")].concat();
    for text in [first, set("z", "4")] {
        tail.write_group(&mut text.clone(), 0, Stamp { db: 4, unix_ms: 7 }, true).expect("written");
    }
    let mut bytes = disk.contents(NAME).expect("there");
    bytes[2] = b'x';
    let disk = disk_with(&bytes);
    let salvaged = salvage_on(&disk).expect("salvaged");
    assert_eq!(commands_of(&disk, SALVAGED, "unplaced"), ["SELECT 4", "SET z 4"]);
    assert_eq!((salvaged.unplaced_groups, salvaged.groups_behind), (1, 1));
}

#[test]
fn reseal_accepts_an_edit_and_keeps_groups_databases_times_and_comments() {
    let select = |db: &str| command(&["SELECT", db]);
    let (bytes, _) = timed(&[
        (&[select("0"), set("a", "0")].concat(), 100, 0),
        (&set("b", "0"), 200, 0),
        (&[select("3"), set("c", "3")].concat(), 300, 3),
    ]);
    let text = String::from_utf8(bytes).expect("plain");
    let edited = text.replace("$1\r\nb\r\n", "$5\r\nother\r\n").replace(
        "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n",
        "# put in by hand\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n",
    ) + &String::from_utf8(set("new", "7")).expect("plain");
    let disk = disk_with(edited.as_bytes());
    assert!(check_on(&disk).damage.is_some());
    let resealed = reseal_on(&disk).expect("resealed");
    let kept = commands_of(&disk, RESEALED, "edited");
    let expected = ["SELECT 0", "SET a 0", "SET other 0", "SELECT 7", "SET c 3", "SET new 7"];
    assert_eq!(kept, expected);
    let copy = disk.contents(RESEALED).expect("there");
    assert_eq!(stamps(&copy), [(100, 0), (200, 0), (300, 7), (300, 7), (300, 7), (300, 7)]);
    assert!(String::from_utf8_lossy(&copy).contains("\n# put in by hand\r\n*2\r\n"));
    assert_eq!((resealed.commands, resealed.groups), (6, 4));
    assert_eq!((resealed.dropped_lines, resealed.malformed_lines), (4, 0));
    assert_eq!(disk.contents(NAME).as_deref(), Some(edited.as_bytes()));
}

#[test]
fn reseal_refuses_what_is_not_a_whole_log_and_says_where() {
    let multi = b"*1\r\n$5\r\nMULTI\r\n";
    for (bytes, place, why) in [
        (
            [REDIS, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n1\r\n", REDIS].concat(),
            REDIS.len() + 26,
            "CRLF",
        ),
        ([REDIS, b"SET a 1\r\n"].concat(), REDIS.len(), "neither a command"),
        ([REDIS, &REDIS[..30]].concat(), REDIS.len() + 23, "ends inside a command"),
        ([REDIS, multi, REDIS].concat(), REDIS.len(), "inside the transaction"),
    ] {
        let disk = disk_with(&bytes);
        match reseal_on(&disk).expect_err("refused") {
            ToolError::Load(LoadError::Command { offset, message, .. }) => {
                assert!(message.contains(why), "{message}");
                assert_eq!(offset, place as u64, "{message}");
            }
            other => panic!("{other}"),
        }
        assert_eq!(disk.names(), [NAME]);
    }
    let disk = disk_with(&[REDIS, REDIS].concat());
    let judged = reseal(&disk, OsStr::new(NAME), &options(), NOW_MS, &mut |args| {
        if &args[0] == b"SET" { Err("Unknown command 'SET'".to_owned()) } else { Ok(()) }
    });
    let text = judged.expect_err("refused").to_string();
    assert!(text.starts_with("Unknown command 'SET' reading"), "{text}");
    assert_eq!(disk.names(), [NAME]);
}

#[test]
fn reseal_dates_what_has_no_time_now_and_nothing_later_than_now() {
    let disk = disk_with(REDIS);
    let resealed = reseal_on(&disk).expect("resealed");
    assert!(resealed.times_unknown);
    let copy = disk.contents(RESEALED).expect("there");
    assert!(stamps(&copy).iter().all(|&(ms, _)| ms == NOW_MS));
    assert_eq!(check_on(&disk_with(&copy)).first_ms, Some(NOW_MS));

    let (bytes, _) = timed(&[(&set("a", "1"), 100, 0), (&set("b", "1"), NOW_MS * 5, 0)]);
    let disk = disk_with(&bytes);
    reseal_on(&disk).expect("resealed");
    let copy = disk.contents(RESEALED).expect("there");
    assert_eq!(stamps(&copy)[..2], [(100, 0), (NOW_MS, 0)]);
}

/// A transaction is never cut by a seal, however large it is and wherever old seals stand.
#[test]
fn reseal_keeps_transactions_whole() {
    let big = set("k", &"v".repeat(3 << 20));
    let (sealed_line, _) = timed(&[(&set("a", "1"), 100, 0)]);
    let seal = sealed_line.split_inclusive(|&b| b == b'\n').next_back().expect("a seal");
    let multi = b"*1\r\n$5\r\nMULTI\r\n";
    let exec = b"*1\r\n$4\r\nEXEC\r\n";
    let bytes = [multi.as_slice(), &big, seal, b"# comment\r\n", &big, exec, &big].concat();
    let disk = disk_with(&bytes);
    let resealed = reseal_on(&disk).expect("resealed");
    assert_eq!(commands_of(&disk, RESEALED, "large").len(), 3);
    assert_eq!(resealed.groups, 2);
}

#[test]
fn a_point_in_time_holds_the_groups_up_to_it_and_no_more() {
    let times = [100, 200, 200, 300, 500];
    let texts: Vec<_> = (0..5).map(|n| set(&format!("k{n}"), "v")).collect();
    let groups: Vec<_> =
        texts.iter().zip(times).map(|(text, ms)| (text.as_slice(), ms, 0)).collect();
    let (bytes, ends) = timed(&groups);
    for (until, count) in
        [(100, 1), (199, 1), (200, 3), (299, 3), (300, 4), (499, 4), (500, 5), (u64::MAX, 5)]
    {
        let disk = disk_with(&bytes);
        let made = truncate_on(&disk, until).expect("made");
        let name = format!("{NAME}.until-{until}");
        assert_eq!(made.copy.to_str(), Some(name.as_str()));
        assert_eq!(commands_of(&disk, &name, "point in time").len(), count, "{until}");
        assert_eq!((made.end, made.commands), (ends[count], count as u64), "{until}");
        assert_eq!(made.left_bytes, bytes.len() as u64 - ends[count]);
        assert_eq!((made.last_ms, made.next_ms), (times[count - 1], times.get(count).copied()));
        assert_eq!(disk.contents(NAME).as_deref(), Some(bytes.as_slice()));
    }
}

#[test]
fn a_moment_ahead_of_the_file_is_refused_and_the_kept_file_named() {
    let (current, _) = rewritten(3_000, 3);
    let (older, _) = rewritten(1_000, 3);
    let (oldest, _) = timed(&[(&set("a", "1"), 500, 0)]);
    let (whole, _) = rewritten(9_000, 1);
    let disk = disk_with(&current);
    let refusal = |disk: &SimDisk, name: &str, until| match truncate_to_time(
        disk,
        OsStr::new(name),
        &options(),
        until,
    ) {
        Err(ToolError::Refused(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(truncate_on(&disk, 3_000).is_ok(), "the moment of the fork itself");
    let text = refusal(&disk, NAME, 2_999);
    assert!(text.contains("begins with the data of 3000"), "{text}");
    assert!(text.contains("No file kept beside it"), "{text}");

    disk.put("a.aof.before-3000", &older);
    disk.put("a.aof.before-1000", &oldest);
    // None of these is one.
    disk.put("a.aof.before-fix-10", &oldest);
    disk.put("a.aof.before-2x", &oldest);
    disk.put("b.aof.before-3000", &oldest);
    disk.put("a.aof.before-4000", &whole);
    for (until, kept) in [(2_999, "3000"), (1_001, "3000"), (1_000, "1000"), (500, "1000")] {
        let text = refusal(&disk, NAME, until);
        assert!(text.contains(&format!("a.aof.before-{kept} does")), "{until}: {text}");
    }
    assert!(refusal(&disk, NAME, 499).contains("No file kept beside it"));
    // Asked of a kept file, its elders are found.
    let text = refusal(&disk, "a.aof.before-3000", 999);
    assert!(text.contains("a.aof.before-1000 does"), "{text}");
    let made = truncate_to_time(&disk, OsStr::new("a.aof.before-3000"), &options(), 2_999);
    assert_eq!(made.expect("made").commands, 4);
}

#[test]
fn a_point_in_time_needs_times_and_whole_data_ahead_of_it() {
    let refusal = |bytes: &[u8], until| match truncate_on(&disk_with(bytes), until) {
        Err(ToolError::Refused(text)) => text,
        other => panic!("{other:?}"),
    };
    let text = refusal(&[REDIS, REDIS].concat(), 100);
    assert!(text.contains("not sealed"), "{text}");

    // An unsealed head is older than the header behind it.
    let disk = disk_with(REDIS);
    let file = disk.open(OsStr::new(NAME)).expect("opens").expect("there");
    let mut tail = Tail::new(file, REDIS.len() as u64, Chain::Unsealed, 0, 0, false);
    tail.begin_sealing(50).expect("written");
    let mut write = |text: Vec<u8>, unix_ms, seals| {
        let stamp = Stamp { db: 0, unix_ms };
        if seals {
            tail.begin_sealing(unix_ms).expect("written");
        }
        tail.write_group(&mut text.clone(), 0, stamp, seals).expect("written");
    };
    write(set("x", "1"), 70, true);
    // Sealing is switched off, and on again.
    write(set("y", "1"), 90, false);
    write(set("z", "1"), 120, true);
    let mixed = disk.contents(NAME).expect("there");
    assert!(refusal(&mixed, 49).contains("begins with the data of 50"));
    for (until, commands) in [(50, 2), (69, 2), (70, 3), (89, 3), (120, 5), (200, 5)] {
        let made = truncate_on(&disk_with(&mixed), until).expect("made");
        assert_eq!(made.commands, commands, "{until}");
    }
    for until in [90, 119] {
        assert!(refusal(&mixed, until).contains("not sealed"), "{until}");
    }

    let texts: Vec<_> = (0..6).map(|n| set(&format!("k{n}"), "value")).collect();
    let groups: Vec<_> =
        texts.iter().zip(1..).map(|(text, n)| (text.as_slice(), n * 100, 0)).collect();
    let (bytes, ends) = timed(&groups);
    let mut damaged = bytes.clone();
    damaged[ends[3] as usize + 10] ^= 1;
    assert_eq!(truncate_on(&disk_with(&damaged), 200).expect("ahead of it").commands, 2);
    assert!(refusal(&damaged, 300).contains("is damaged at offset"));
    // A torn tail was never promised, and so never there.
    let torn = &bytes[..bytes.len() - 3];
    assert_eq!(truncate_on(&disk_with(torn), 10_000).expect("made").commands, 5);
}

#[test]
fn a_moment_ahead_of_the_first_group_is_an_empty_log() {
    let (bytes, ends) = sealed(&groups(3), &[]);
    let disk = disk_with(&bytes);
    let made = truncate_on(&disk, 5).expect("made");
    assert_eq!((made.end, made.commands, made.next_ms), (ends[0], 0, Some(7)));
    assert!(commands_of(&disk, "a.aof.until-5", "empty").is_empty());
}

/// Whatever the bytes are: no panic, the file is left alone, and a copy loads cleanly.
#[track_caller]
fn tools_hold(bytes: &[u8], what: &str) {
    let disk = disk_with(bytes);
    if let Ok(report) = check(&disk, OsStr::new(NAME), &options()) {
        let json = crate::persist::check::json::Json(&report).to_string();
        assert!(json.starts_with('{') && json.ends_with("]}"), "{what}: {json}");
    }
    let report = check(&disk, OsStr::new(NAME), &options());
    if let Ok(report) = &report {
        let done = salvage(&disk, OsStr::new(NAME), report, &options(), &mut |_| Ok(()));
        let salvaged = done.unwrap_or_else(|error| panic!("{what}: {error}"));
        let kept = commands_of(&disk, SALVAGED, what);
        assert_eq!(salvaged.commands, kept.len() as u64, "{what}");
        assert!(kept.len() as u64 >= report.commands, "{what}");
        if report.damage.is_none() {
            assert_eq!(salvaged.lost, [], "{what}");
        }
    }
    if reseal_on(&disk).is_ok() {
        commands_of(&disk, RESEALED, what);
    }
    for until in [0, 6, 7, u64::MAX] {
        if let Ok(made) = truncate_on(&disk, until) {
            commands_of(&disk, &format!("{NAME}.until-{until}"), what);
            assert!(report.as_ref().is_ok_and(|report| made.end <= report.end), "{what}");
        }
    }
    assert_eq!(disk.contents(NAME).as_deref(), Some(bytes), "{what}");
}

#[test]
fn tools_hold_on_every_kind_of_damage() {
    let (sealed, ends) = sealed(&groups(7), &[4]);
    let transaction = b"*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nINCR\r\n*1\r\n$4\r\nEXEC\r\n";
    let mixed = [REDIS, transaction, &sealed].concat();
    for byte in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[byte] ^= 1 << (byte % 8);
        tools_hold(&damaged, &format!("byte {byte}"));
    }
    for cut in 0..=mixed.len() {
        tools_hold(&mixed[..cut], &format!("cut at {cut}"));
    }
    for pair in ends.windows(2) {
        let mut damaged = sealed.clone();
        damaged[pair[0] as usize..pair[1] as usize].fill(0);
        tools_hold(&damaged, &format!("zeros from {}", pair[0]));
    }
    let mut rng = Rng(17);
    for round in 0..300 {
        let mut damaged = mixed.clone();
        for _ in 0..rng.below(6) {
            let at = rng.below(damaged.len() as u64) as usize;
            let end = (at + rng.below(60) as usize).min(damaged.len());
            match rng.below(4) {
                0 => damaged[at..end].fill(0),
                1 => drop(damaged.drain(at..end)),
                2 => damaged[at] ^= 1 << rng.below(8),
                _ => {
                    let piece = damaged[at..end].to_vec();
                    let to = rng.below(damaged.len() as u64) as usize;
                    damaged.splice(to..to, piece);
                }
            }
            if damaged.is_empty() {
                break;
            }
        }
        tools_hold(&damaged, &format!("seed 17, round {round}"));
    }
}

#[test]
fn tools_hold_on_what_fuzzing_has_found() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/loader");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("list the corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 20);
    for path in paths {
        let input = std::fs::read(&path).expect("an input");
        let what = path.display().to_string();
        tools_hold(&input, &what);
        // Its last bytes choose options of the fuzz target.
        tools_hold(&input[..input.len().saturating_sub(8)], &what);
    }
}

#[test]
fn a_tool_that_fails_leaves_the_file_alone_and_nothing_beside_it() {
    let (whole, ends) = sealed(&groups(8), &[6]);
    let mut damaged = whole.clone();
    damaged[ends[3] as usize + 10] ^= 1;
    for op in [Op::Create, Op::Write, Op::Sync, Op::Rename, Op::SyncDir] {
        for tool in 0..3 {
            // A moment cannot be reached behind damage.
            let bytes = if tool == 2 { &whole } else { &damaged };
            let disk = disk_with(bytes);
            disk.fail(Fault { op, skip: 0, count: 1, errno: Errno::ENOSPC });
            let done = match tool {
                0 => salvage_on(&disk).map(drop),
                1 => reseal_on(&disk).map(drop),
                _ => truncate_on(&disk, 7).map(drop),
            };
            match done {
                Err(ToolError::Io { error, .. }) => {
                    assert_eq!(error.raw_os_error(), Some(Errno::ENOSPC as i32), "{op:?}");
                }
                other => panic!("{op:?} of tool {tool}: {other:?}"),
            }
            assert_eq!(disk.names(), [NAME], "{op:?} of tool {tool}");
            assert_eq!(disk.contents(NAME).as_ref(), Some(bytes));
        }
    }
}

#[test]
fn what_is_there_is_not_written_over_but_a_dead_runs_part_is() {
    let (whole, _) = sealed(&groups(3), &[]);
    let disk = disk_with(&whole);
    disk.put("a.aof.resealed.part", b"half");
    reseal_on(&disk).expect("resealed");
    let first = disk.contents(RESEALED);
    let text = reseal_on(&disk).expect_err("it is there").to_string();
    assert!(text.contains("a.aof.resealed is there already"), "{text}");
    assert_eq!(disk.contents(RESEALED), first);
}

/// The power goes in the middle of each operation of a tool in place, by many seeds.
#[test]
fn a_file_is_replaced_whole_whenever_the_power_goes() {
    let groups: Vec<_> = (0..8).map(|n| set(&format!("k{n}"), &"v".repeat(2_000))).collect();
    let (mut damaged, ends) = sealed(&groups, &[6]);
    damaged[ends[4] as usize + 50] ^= 1;
    let reference = disk_with(&damaged);
    let report = check_on(&reference);
    let (mut before, mut after) = (0, 0);
    for seed in 0..200 {
        for operation in 0..16 {
            let what = format!("seed {seed} operation {operation}");
            let disk = SimDisk::new(seed);
            disk.put(NAME, &damaged);
            disk.crash_after(operation);
            let name = OsStr::new(NAME);
            let done = salvage(&disk, name, &report, &options(), &mut |_| Ok(()))
                .and_then(|made| replace(&disk, name, &made.copy, "before-salvage"));
            assert_eq!(done.is_err(), disk.crashed(), "{what}");
            let found = disk.after_power_cut();
            let file = found.contents(NAME).unwrap_or_else(|| panic!("{what}: no file"));
            if file == damaged {
                assert!(done.is_err(), "{what}: told done");
                before += 1;
                continue;
            }
            after += 1;
            let loaded = load(&found, options()).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!((loaded.0.cut, loaded.1.len()), (None, 8), "{what}");
            let kept = found.contents("a.aof.before-salvage");
            assert_eq!(kept.as_ref(), Some(&damaged), "{what}");
        }
    }
    assert!(before > 100 && after > 100, "{before} {after}");
}

#[test]
fn a_report_tells_generation_base_and_times() {
    let (base, end) = rewritten(1_000, 5);
    let disk = disk_with(&base);
    let file = disk.open(OsStr::new(NAME)).expect("opens").expect("there");
    let report = check_on(&disk);
    assert_eq!((report.base_end, report.first_ms), (Some(end), Some(1_000)));
    let generation = report.generation.clone().expect("a header");
    assert!(base.starts_with(format!("#SH1:{generation}:1000\r\n").as_bytes()), "{generation}");
    let last = base.split_inclusive(|&b| b == b'\n').next_back().expect("a line");
    let chain = Chain::Sealed(Line::keep(last).expect("a seal"));
    let mut tail = Tail::new(file, end, chain, 1_000, end, true);
    tail.write_group(&mut set("k", "v"), 0, Stamp { db: 0, unix_ms: 2_000 }, true)
        .expect("written");
    // A later shutdown is no end of the base.
    tail.set_known_durable(tail.end());
    tail.close(Stamp { db: 0, unix_ms: 3_000 }).expect("written");
    let report = check_on(&disk);
    assert_eq!((report.base_end, report.damage.clone()), (Some(end), None));
    assert_eq!((report.first_seal_ms, report.last_ms), (Some(1_000), Some(3_000)));

    let (plain, _) = timed(&[(&set("a", "1"), 500, 0), (&set("b", "1"), 500, 0)]);
    let report = check_on(&disk_with(&plain));
    assert_eq!((report.base_end, report.first_seal_ms), (None, Some(500)));
    let report = check_on(&disk_with(&[REDIS, b"# x\r\n", REDIS].concat()));
    assert_eq!((report.generation, report.base_end), (None, None));
}

#[test]
fn a_report_for_programs_says_what_the_one_for_people_does() {
    let (whole, ends) = sealed(&groups(8), &[6]);
    let json = |bytes: &[u8]| {
        let key_position = |name: &[u8]| name.eq_ignore_ascii_case(b"SET").then_some(1);
        let options = LoadOptions { key_position, ..options() };
        let report = check(&disk_with(bytes), OsStr::new(NAME), &options).expect("readable");
        (crate::persist::check::json::Json(&report).to_string(), report)
    };
    let (text, _) = json(&whole);
    for part in [r#""result":"clean""#, r#""sealed":true"#, r#""damage":null"#, r#""groups":8"#] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mut damaged = whole.clone();
    damaged[ends[4] as usize + set("k4", "vvvv").len() - 4] ^= 1;
    let (text, report) = json(&damaged);
    let damage = report.damage.expect("damaged");
    let Verdict::Promised { until } = damage.verdict else { panic!("{damage:?}") };
    for part in [
        r#""result":"refused""#.to_owned(),
        format!(r#""promised_until":{until}"#),
        format!(r#""offset":{},"reason":"a seal does not verify""#, damage.stop.at),
        format!(r#""good_until":{},"lost_bytes":{}"#, ends[4], whole.len() as u64 - ends[4]),
        format!(r#""first_key":{{"key":"k4","command":"SET","offset":{}}}"#, ends[4]),
        r#""intact_groups_behind":3"#.to_owned(),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
    let (text, _) = json(&whole[..whole.len() - 2]);
    assert!(text.contains(r#""result":"cut""#), "{text}");
    let (text, _) = json(&[REDIS, b"*3\r\n$3\r\nSET\r\n$3\r\n\"\\\n\r\nx"].concat());
    assert!(text.contains(r#""key":"\\\"\\\\\\n""#), "{text}");
}
