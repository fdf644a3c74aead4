//! Claims about the rewrite: its diff, its hand-off, what limits it; and each of its steps failing.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;

use nix::errno::Errno;

use super::kept::replace_and_keep;
use super::load::{LoadOptions, Loader};
use super::log::{AppendLog, LogEvent, LogOptions};
use super::rewrite::{BeginError, Phase, RewriteCause};
use super::simulated::{Fault, Op, SimDisk};
use super::tests::{Life, NAME, Seed, at, load, options, policy, start};
use crate::config::FsyncPolicy;
use crate::resp::encode;
use crate::sys::clock::Now;

/// How a rewrite is run through, step by step and always the same.
#[derive(Clone, Copy, Debug)]
struct Script {
    seed: u64,
    diff_max_bytes: usize,
    keep: u32,
    /// Whether sealing is switched off and on meanwhile.
    switches_seals: bool,
    /// Whether the old file cannot be synced any more, so that the rewrite is a heal.
    heals: bool,
    /// Whether the file system has no hard links.
    lacks_links: bool,
}

const SCRIPTS: [Script; 9] = {
    let plain = Script {
        seed: 0,
        diff_max_bytes: 0,
        keep: 0,
        switches_seals: false,
        heals: false,
        lacks_links: false,
    };
    [
        plain,
        Script { seed: 1, diff_max_bytes: 900, ..plain },
        Script { seed: 2, diff_max_bytes: 5_000, keep: 2, ..plain },
        Script { seed: 3, diff_max_bytes: 64 << 20, keep: 1, ..plain },
        Script { seed: 4, switches_seals: true, ..plain },
        Script { seed: 5, diff_max_bytes: 900, keep: 1, switches_seals: true, ..plain },
        Script { seed: 6, heals: true, keep: 1, ..plain },
        Script { seed: 7, diff_max_bytes: 64 << 20, heals: true, ..plain },
        Script { seed: 8, diff_max_bytes: 900, keep: 2, lacks_links: true, ..plain },
    ]
};

impl Script {
    fn begin(&self) -> (SimDisk, Life) {
        let disk = SimDisk::new(self.seed);
        let mut life = Life::fresh(&disk, self.seed, policy(self.seed));
        let options = LogOptions {
            rewrite_diff_max_bytes: self.diff_max_bytes,
            max_bytes: 0,
            keep_before_rewrite: self.keep,
            ..life.log.options()
        };
        life.log.set_options(options, life.now);
        for _ in 0..12 {
            life.write();
            life.turn();
        }
        (disk, life)
    }

    /// A rewrite from before its fork to the time behind it, under writes. Goes on whatever fails.
    fn run(&self, disk: &SimDisk, life: &mut Life) {
        if self.heals {
            disk.fail(Fault { op: Op::Sync, skip: 0, count: 1, errno: Errno::EIO });
        }
        if self.lacks_links {
            disk.fail(Fault { op: Op::Link, skip: 0, count: u64::MAX, errno: Errno::EPERM });
        }
        for step in 0..160 {
            if step == 4 {
                life.turn();
                if life.child.is_none()
                    && let Ok(job) = life.log.begin_rewrite(life.now)
                {
                    life.start_child(job);
                }
            }
            if step == 20 {
                life.reap_child(false);
            }
            if self.switches_seals && step % 7 == 6 {
                let mut options = life.log.options();
                options.seals = !options.seals;
                life.log.set_options(options, life.now);
            }
            if step < 40 {
                life.write();
            }
            life.turn();
            if self.heals && step == 1 {
                let end = life.log.appended();
                life.log.want_durable(end); // Whatever the policy: the failing sync comes now.
                life.log.flush(life.now);
            }
            life.log.syncer.step();
            if step % 2 == 0 {
                life.log.helper.step();
            }
            life.log.on_report(life.now);
            life.release();
            life.now.mono.0 += 20_000;
            life.now.unix.0 += 20;
        }
    }

    /// Once nothing fails any more all is well, and nothing is lost.
    fn settle(&self, disk: &SimDisk, life: &mut Life, why: &str) {
        disk.heal();
        life.settle();
        assert_eq!(life.shown, life.appended, "{why}: all replies are out");
        life.log.sync_now(life.now).unwrap_or_else(|error| panic!("{why}: {error}"));
        while life.log.helper.step() {}
        let (_, data) = load(&disk.after_power_cut(), LoadOptions::default())
            .unwrap_or_else(|error| panic!("{why}: {error}"));
        life.check(&data, life.appended, why);
        life.check_neighbours(disk, 2);
    }
}

#[test]
fn a_rewrite_under_writes_ends_well() {
    for script in SCRIPTS {
        let _seed = Seed(script.seed);
        let (disk, mut life) = script.begin();
        script.run(&disk, &mut life);
        let figures = life.log.figures(life.now);
        assert!(!figures.rewrite_running && figures.last_rewrite_ok, "{script:?}: {figures:?}");
        assert_eq!(figures.rewrites, 1, "{script:?}");
        assert!(life.log.take_events().contains(&LogEvent::RewriteDone), "{script:?}");
        script.settle(&disk, &mut life, &format!("{script:?}"));
        let kept = disk.names().len() - 1;
        assert_eq!(kept, usize::from(script.keep > 0 && !script.heals), "{script:?}");
    }
}

#[test]
fn power_lost_or_a_kill_at_any_operation_of_a_rewrite_loses_nothing() {
    for script in SCRIPTS {
        let _seed = Seed(script.seed);
        let (disk, mut life) = script.begin();
        let before = disk.ops();
        script.run(&disk, &mut life);
        let operations = disk.ops() - before;
        assert!(operations > 20, "{script:?}: {operations}");
        for n in 1..=operations {
            let why = format!("{script:?}, operation {n} of {operations}");
            let (disk, mut life) = script.begin();
            disk.crash_after(n);
            script.run(&disk, &mut life);
            assert!(disk.crashed(), "{why}");
            // Where seals are off, a torn page can be neither told from promised data nor cut.
            if !script.switches_seals {
                let found = disk.after_power_cut();
                let (_, data) = load(&found, LoadOptions::default())
                    .unwrap_or_else(|error| panic!("{why}: {error}"));
                life.check(&data, life.promised, &why);
            }
            let found = disk.after_kill();
            let (loader, data) = load(&found, LoadOptions::default())
                .unwrap_or_else(|error| panic!("{why}: {error}"));
            let kept = life.check(&data, life.shown, &why);
            // The write that was under way may be there in part.
            let is_cut = loader.report().cut.is_some();
            Life::begin(found.clone(), 0, policy(script.seed), (kept, kept), loader);
            life.check_neighbours(&found, 1 + usize::from(is_cut));
        }
    }
}

#[test]
fn any_operation_of_a_rewrite_may_fail() {
    let mut struck = BTreeMap::<String, u64>::new();
    for script in SCRIPTS {
        let _seed = Seed(script.seed);
        for op in Op::ALL.into_iter().filter(|op| !(script.lacks_links && *op == Op::Link)) {
            for (errno, count) in [(Errno::EIO, 1), (Errno::ENOSPC, 1), (Errno::ENOSPC, 3)] {
                for skip in 0.. {
                    let why = format!("{script:?}: {op:?} fails {count} times after {skip}");
                    let (disk, mut life) = script.begin();
                    let fault = Fault { op, skip, count, errno };
                    if script.heals {
                        // Not the sync whose failure is to be healed.
                        disk.fail(Fault { op: Op::Sync, skip: 0, count: 0, errno });
                    }
                    disk.fail(fault);
                    script.run(&disk, &mut life);
                    let has_struck = disk.strikes(op) > u64::from(script.heals && op == Op::Sync);
                    let (_, data) = load(&disk.after_kill(), LoadOptions::default())
                        .unwrap_or_else(|error| panic!("{why}: {error}"));
                    life.check(&data, life.shown, &why);
                    if !script.switches_seals {
                        let (_, data) = load(&disk.after_power_cut(), LoadOptions::default())
                            .unwrap_or_else(|error| panic!("{why}: {error}"));
                        life.check(&data, life.promised, &why);
                    }
                    script.settle(&disk, &mut life, &why);
                    if !has_struck {
                        break;
                    }
                    *struck.entry(format!("{op:?}")).or_default() += 1;
                }
            }
        }
    }
    for op in ["Write", "Sync", "Create", "Rename", "SyncDir", "Link", "Exchange", "Read"] {
        assert!(struck.contains_key(op), "{op} never failed: {struck:?}");
    }
}

// ---- one claim at a time -------------------------------------------------------------------

fn with_diff_max(bytes: usize) -> LogOptions {
    LogOptions { rewrite_diff_max_bytes: bytes, ..options(FsyncPolicy::No) }
}

/// The values of a file's SETs, in order.
fn values(disk: &SimDisk) -> Vec<String> {
    let mut values = Vec::new();
    let loader = Loader::open(disk.storage(), OsStr::new(NAME), LoadOptions::default());
    let mut loader = loader.expect("opens");
    let mut collect = |args: &mut crate::resp::args::Args<'_>| {
        if args.len() > 2 {
            values.push(String::from_utf8_lossy(&args[2]).into_owned());
        }
        Ok(())
    };
    while !loader.step(u64::MAX, &mut collect).expect("loads") {}
    assert_eq!(loader.report().cut, None);
    values
}

fn set(value: &str) -> Vec<u8> {
    let mut record = Vec::new();
    encode::command(&mut record, &[b"SET", b"key", value.as_bytes()]);
    record
}

fn write(log: &mut AppendLog, value: &str, now: Now) {
    log.append(0, &set(value));
    log.flush(now);
}

/// Begins a rewrite and has its child end well.
fn rewrite_up_to_child(log: &mut AppendLog, now: Now, meanwhile: impl FnOnce(&mut AppendLog)) {
    let job = log.begin_rewrite(now).expect("begins");
    log.rewrite_started(7);
    meanwhile(log);
    job.run(|base| base.set(b"k", b"base", None)).expect("written");
    log.child_exited(7, Ok(()), now);
}

fn hand_off(log: &mut AppendLog, now: Now) {
    while log.figures(now).rewrite_running {
        log.syncer.step();
        assert!(log.helper.step() || log.figures(now).sync_running, "there is something to do");
        log.on_report(now);
    }
    while log.helper.step() {}
    log.on_report(now);
}

#[test]
fn the_diff_comes_from_the_old_file_where_memory_has_no_room() {
    for limit in [0, 500, 2_000, 64 << 20] {
        let disk = SimDisk::new(1);
        let mut log = start(&disk, with_diff_max(limit));
        write(&mut log, "before", at(1));
        let mut expected = vec!["base".to_owned()];
        rewrite_up_to_child(&mut log, at(2), |log| {
            for n in 0..300 {
                // Values that look like what the reader looks for.
                let value = format!("{n}\r\n#S1:{n}:0:0:1:00000000\r\n");
                write(log, &value, at(3 + n / 4));
                expected.push(value);
                let figures = log.figures(at(3));
                assert!(figures.rewrite_reread_bytes + figures.rewrite_diff_bytes > 0);
            }
        });
        let figures = log.figures(at(80));
        assert_eq!(figures.rewrite_reread_bytes > 0, limit < 64 << 20, "{limit}");
        hand_off(&mut log, at(100));
        assert!(log.figures(at(100)).last_rewrite_ok);
        write(&mut log, "behind", at(101));
        expected.push("behind".to_owned());
        assert_eq!(values(&disk), expected, "{limit}");
        // Each with the time at which it was written first.
        let text = String::from_utf8(disk.contents(NAME).expect("there")).expect("text");
        let seal_times = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("#S1:")?.split(':').nth(3)?;
            (!line.ends_with("00000000")).then(|| rest.parse::<i64>().ok())?
        });
        let mut times: Vec<_> = seal_times.map(|ms| ms - at(0).unix.0).collect();
        times.dedup();
        let written: Vec<_> = [2].into_iter().chain(3..=77).chain([101]).collect();
        assert_eq!(times, written, "{limit}");
    }
}

/// The header then stands between two groups without seals. It used to be taken for a part of the
/// second, which so seemed to have rotted.
#[test]
fn sealing_that_ends_before_its_first_group_does_not_disturb_reading_back() {
    for limit in [0, 500, 64 << 20] {
        let disk = SimDisk::new(1);
        let sealing = |seals| LogOptions { seals, ..with_diff_max(limit) };
        let mut log = start(&disk, sealing(false));
        rewrite_up_to_child(&mut log, at(2), |log| {
            write(log, "one", at(3));
            log.set_options(sealing(true), at(4));
            write(log, "two", at(4));
            assert!(log.begins_sealing(), "it waits for the header");
            log.set_options(sealing(false), at(5));
            assert!(log.syncer.step());
            log.on_report(at(5));
            for (n, value) in ["three", "four", "five"].into_iter().enumerate() {
                write(log, value, at(6 + n as u64));
            }
        });
        hand_off(&mut log, at(10));
        assert_eq!(log.fault(), None, "{limit}");
        assert!(log.figures(at(10)).last_rewrite_ok, "{limit}");
        assert_eq!(values(&disk), ["base", "one", "two", "three", "four", "five"], "{limit}");
    }
}

/// Its diff is not the business of one that could not begin.
#[test]
fn a_rewrite_that_runs_goes_on_where_another_is_prevented() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, with_diff_max(64 << 20));
    rewrite_up_to_child(&mut log, at(2), |log| {
        write(log, "one", at(3));
        log.rewrite_prevented("its lock cannot be had", at(4));
        write(log, "two", at(5));
    });
    hand_off(&mut log, at(6));
    assert_eq!(values(&disk), ["base", "one", "two"]);
}

/// What the old file does not give back the next start would not find there either.
#[test]
fn an_old_file_that_has_rotted_is_replaced_from_memory() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, with_diff_max(0));
    write(&mut log, "before", at(1));
    rewrite_up_to_child(&mut log, at(2), |log| {
        write(log, "first", at(3));
        let middle = log.current_bytes() as usize + 40;
        write(log, "second", at(4));
        disk.rot(NAME, middle);
    });
    assert!(!log.is_faulted());
    for _ in 0..4 {
        log.helper.step();
        log.on_report(at(5));
    }
    assert_eq!(log.fault(), Some("no seal ends a group"));
    let events = log.take_events();
    assert!(matches!(events[..], [LogEvent::RewriteFailed(_)]), "{events:?}");
    assert_eq!(log.rewrite_due(at(6)), Some(RewriteCause::Heal));
    rewrite_up_to_child(&mut log, at(6), |_| {});
    hand_off(&mut log, at(7));
    assert!(!log.is_faulted());
    assert_eq!(values(&disk), ["base"]);
    assert_eq!(disk.names(), [NAME]);
}

/// Clients that write faster than the disk takes it twice are slowed down, so that the end is
/// reached; and the loop never writes more at once than an ordinary turn does.
#[test]
fn a_hand_off_ends_under_any_load_and_never_with_a_large_step() {
    const READ: usize = 64 << 10;
    for limit in [1 << 20, 8 << 20] {
        let disk = SimDisk::new(1);
        let mut log = start(&disk, with_diff_max(limit));
        let value = "x".repeat(1_000);
        let turn = |log: &mut AppendLog, reads: usize, now: Now| {
            for _ in 0..reads {
                if log.holds_writers() {
                    break;
                }
                for _ in 0..READ / 1_040 {
                    log.append(0, &set(&value));
                }
            }
            log.flush(now);
            let figures = log.figures(now);
            assert!(figures.rewrite_diff_bytes <= limit as u64 + (64 << 10), "{figures:?}");
        };
        rewrite_up_to_child(&mut log, at(2), |log| {
            (0..40).for_each(|n| turn(log, 8, at(3 + n)));
        });
        let (mut turns, mut held) = (0, 0);
        while log.figures(at(50)).rewrite_running {
            turns += 1;
            assert!(turns < 2_000, "it does not come to its end");
            // What clients send in a turn is more than the helper brings over in one.
            turn(&mut log, 2 * limit / 4 / READ, at(50 + turns));
            log.syncer.step();
            log.helper.step();
            let left = log.rewrite.diff.queued_bytes();
            let drained = matches!(log.rewrite.phase, Phase::Draining(_) | Phase::Adopting);
            log.on_report(at(50 + turns));
            if drained && matches!(log.rewrite.phase, Phase::Syncing { .. }) {
                assert!(left <= 64 << 10, "{left} bytes in one step");
            }
            held += u64::from(log.holds_writers());
        }
        assert!(held > 0, "without that it would not end");
        assert!(log.figures(at(9_000)).last_rewrite_ok && !log.holds_writers());
    }
}

/// The same where the helper is fast: nobody is held back.
#[test]
fn a_hand_off_that_comes_to_its_end_holds_nobody_back() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, with_diff_max(1 << 20));
    let value = "x".repeat(1_000);
    rewrite_up_to_child(&mut log, at(2), |log| {
        (0..4_000).for_each(|n| write(log, &value, at(3 + n)));
    });
    while log.figures(at(5_000)).rewrite_running {
        (0..60).for_each(|_| log.append(0, &set(&value)));
        log.flush(at(5_000));
        log.syncer.step();
        log.helper.step();
        log.on_report(at(5_000));
        assert!(!log.holds_writers());
    }
}

/// There is no file yet to read from: the clients wait for the child instead of memory filling up.
#[test]
fn while_the_log_is_turned_on_the_diff_is_bounded_by_holding_writers() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, with_diff_max(100_000));
    log.turn_off(at(1)).expect("not faulted");
    log.syncer.step();
    log.on_report(at(1));
    log.turn_on();
    assert_eq!(log.rewrite_due(at(2)), Some(RewriteCause::TurnOn));
    let mut written = 0;
    rewrite_up_to_child(&mut log, at(2), |log| {
        while !log.holds_writers() {
            write(log, &format!("value {written}"), at(3));
            written += 1;
        }
        assert!(log.figures(at(3)).rewrite_diff_bytes < 120_000);
        assert_eq!(log.figures(at(3)).rewrite_reread_bytes, 0);
    });
    hand_off(&mut log, at(4));
    assert!(!log.holds_writers() && log.take_events().contains(&LogEvent::TurnedOn));
    assert_eq!(values(&disk).len(), 1 + written);
}

#[test]
fn no_room_refuses_a_rewrite_and_puts_it_off_but_a_heal_is_tried() {
    let disk = SimDisk::new(1);
    let growing = LogOptions { rewrite_percentage: 100, ..options(FsyncPolicy::Always) };
    let mut log = start(&disk, growing);
    for n in 0..100 {
        write(&mut log, "some value", at(n));
    }
    let size = log.current_bytes();
    disk.say_free(Some(size));
    assert!(matches!(log.rewrite_due(at(100)), Some(RewriteCause::Growth { .. })));
    let Err(error) = log.begin_rewrite(at(100)) else { panic!("there is no room") };
    let text = error.to_string();
    assert!(text.contains(&format!("the disk has {size} bytes free")), "{text}");
    assert!(matches!(error, BeginError::NoRoom { .. }));
    assert_eq!(disk.names(), [NAME], "nothing was begun");
    assert_eq!(log.take_events(), [], "who has asked is told");
    assert_eq!(log.rewrite_due(at(10_099)), None);
    assert!(log.rewrite_due(at(10_100)).is_some());
    assert!(log.begin_rewrite(at(10_100)).is_err());
    assert_eq!(log.rewrite_due(at(30_099)), None, "ever more rarely");
    // The data is smaller than the log that made it, and fits.
    log.set_data_bytes(size / 2);
    log.check_room().expect("room enough");
    log.set_data_bytes(size * 2);
    assert!(log.check_room().is_err(), "the smaller of both counts");
    // A heal is worth every try.
    disk.fail(Fault { op: Op::Sync, skip: 0, count: 1, errno: Errno::EIO });
    while log.syncer.step() {
        log.on_report(at(40_000));
    }
    assert_eq!(log.rewrite_due(at(40_000)), Some(RewriteCause::Heal));
    rewrite_up_to_child(&mut log, at(40_000), |_| {});
    hand_off(&mut log, at(40_001));
    assert!(!log.is_faulted());
}

#[test]
fn turning_the_log_on_without_room_fails_and_says_so() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, options(FsyncPolicy::Always));
    log.turn_off(at(1)).expect("not faulted");
    log.syncer.step();
    log.on_report(at(1));
    log.take_events();
    disk.say_free(Some(10));
    log.set_data_bytes(1_000);
    log.turn_on();
    let Err(error) = log.begin_rewrite(at(2)) else { panic!("there is no room") };
    assert_eq!(log.take_events(), [LogEvent::TurnOnFailed(error.to_string())]);
    assert!(!log.figures(at(3)).enabled);
}

#[test]
fn at_its_limit_the_file_takes_no_writes_until_a_rewrite_has_made_it_smaller() {
    let disk = SimDisk::new(1);
    let limited = LogOptions { max_bytes: 10_000, ..options(FsyncPolicy::No) };
    let mut log = start(&disk, limited);
    while log.rewrite_due(at(1)).is_none() {
        assert!(!log.is_full());
        write(&mut log, "some value", at(1));
    }
    assert_eq!(log.rewrite_due(at(1)), Some(RewriteCause::Limit));
    assert!((8_750..9_000).contains(&log.current_bytes()), "an eighth ahead of it");
    while !log.is_full() {
        write(&mut log, "some value", at(1));
    }
    assert!(!log.is_faulted() && log.refuses_writes() && log.figures(at(1)).is_full);
    let refusal = log.refusal().expect("refused");
    assert!(refusal.starts_with("MISCONF The append-only file has reached aof-max-size (10000"));
    rewrite_up_to_child(&mut log, at(2), |_| {});
    hand_off(&mut log, at(3));
    assert!(!log.refuses_writes() && log.refusal().is_none());
    assert_eq!(log.rewrite_due(at(3)), None);
}

/// The data itself is too much: nothing that a rewrite could change.
#[test]
fn a_rewrite_that_leaves_the_file_at_its_limit_is_not_repeated_at_once() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, options(FsyncPolicy::No));
    write(&mut log, "some value", at(1));
    log.set_options(LogOptions { max_bytes: 50, ..options(FsyncPolicy::No) }, at(1));
    let mut now = 1_000;
    for wait_ms in [10_000, 20_000, 40_000] {
        assert_eq!(log.rewrite_due(at(now)), Some(RewriteCause::Limit));
        rewrite_up_to_child(&mut log, at(now), |_| {});
        hand_off(&mut log, at(now));
        assert!(log.is_full());
        assert_eq!(log.rewrite_due(at(now + wait_ms - 1)), None);
        now += wait_ms;
    }
    log.set_options(options(FsyncPolicy::No), at(now));
    assert!(!log.refuses_writes());
    assert_eq!(log.rewrite_due(at(now)), None);
}

/// Whatever the options: without writes no rewrite brings about the next.
#[test]
fn a_rewrite_is_no_reason_for_another() {
    let disk = SimDisk::new(1);
    let eager = LogOptions { rewrite_percentage: 1, ..with_diff_max(0) };
    let mut log = start(&disk, eager);
    write(&mut log, "some value", at(1));
    assert!(log.rewrite_due(at(1)).is_some());
    rewrite_up_to_child(&mut log, at(2), |log| {
        // Much more than the base; it counts as part of what the rewrite left.
        (0..50).for_each(|_| write(log, "some value", at(3)));
    });
    hand_off(&mut log, at(4));
    assert_eq!(log.rewrite_due(at(1_000_000)), None);
    log.set_options(LogOptions { rewrite_percentage: 0, ..eager }, at(5));
    (0..50).for_each(|_| write(&mut log, "some value", at(6)));
    assert_eq!(log.rewrite_due(at(1_000_000)), None, "0 is never");
}

fn kept(disk: &SimDisk) -> Vec<String> {
    let names = disk.names().into_iter().filter(|name| name != NAME);
    names.map(|name| name.into_string().expect("text")).collect()
}

#[test]
fn the_newest_files_from_before_rewrites_are_kept() {
    let disk = SimDisk::new(1);
    let keeping = |keep| LogOptions { keep_before_rewrite: keep, ..options(FsyncPolicy::No) };
    let mut log = start(&disk, keeping(2));
    // Of somebody else, though it looks much alike.
    disk.put("appendonly.aof.before-01", b"x");
    disk.put("appendonly.aof.before-", b"x");
    let mut old = Vec::new();
    for n in 1..=4 {
        write(&mut log, &format!("value {n}"), at(n * 10));
        old.push(disk.contents(NAME).expect("there"));
        rewrite_up_to_child(&mut log, at(n * 10 + 1), |_| {});
        hand_off(&mut log, at(n * 10 + 2));
    }
    let name = |ms: i64| format!("appendonly.aof.before-{}", at(0).unix.0 + ms);
    let others = ["appendonly.aof.before-", "appendonly.aof.before-01"].map(str::to_owned);
    assert_eq!(kept(&disk), [others.to_vec(), vec![name(31), name(41)]].concat());
    let rest = |n: usize| disk.contents(&name(n as i64 * 10 + 1)).expect("kept");
    assert!(rest(3).starts_with(&old[2]) && rest(4).starts_with(&old[3]));
    // Those are there after a power cut too, and the next start lets them be.
    let found = disk.after_power_cut();
    assert!(found.contents(&name(41)).is_some());
    let there = kept(&found);
    start(&found, keeping(0));
    assert_eq!(kept(&found), there);
    // With 0 none is made, and none is removed.
    log.set_options(keeping(0), at(50));
    rewrite_up_to_child(&mut log, at(51), |_| {});
    hand_off(&mut log, at(52));
    assert_eq!(kept(&disk).len(), 4);
}

/// FAT and some of those over a network or in user space have none.
#[test]
fn where_there_are_no_hard_links_the_old_file_is_kept_by_exchanging_names() {
    let disk = SimDisk::new(1);
    let keeping = LogOptions { keep_before_rewrite: 2, ..options(FsyncPolicy::No) };
    let mut log = start(&disk, keeping);
    disk.fail(Fault { op: Op::Link, skip: 0, count: u64::MAX, errno: Errno::EPERM });
    let name = |ms: i64| format!("appendonly.aof.before-{}", at(0).unix.0 + ms);
    // The first name is taken.
    disk.put(&name(11), b"x");
    let mut old = Vec::new();
    for n in 1..=3 {
        write(&mut log, &format!("value {n}"), at(n * 10));
        old.push(disk.contents(NAME).expect("there"));
        rewrite_up_to_child(&mut log, at(n * 10 + 1), |_| {});
        hand_off(&mut log, at(n * 10 + 2));
        assert_eq!(log.take_events(), [LogEvent::RewriteDone]);
        if n == 1 {
            assert_eq!(kept(&disk), [name(11), name(12)]);
            assert!(disk.contents(&name(12)).expect("kept").starts_with(&old[0]));
        }
    }
    assert_eq!(kept(&disk), [name(21), name(31)], "and no temporary file");
    let found = disk.after_power_cut();
    assert!(found.contents(&name(31)).expect("kept").starts_with(&old[2]));
}

#[test]
fn where_names_cannot_be_exchanged_either_the_error_says_what_to_do() {
    let disk = SimDisk::new(1);
    let keeping = LogOptions { keep_before_rewrite: 1, ..options(FsyncPolicy::No) };
    let mut log = start(&disk, keeping);
    write(&mut log, "value", at(1));
    let forever = |op, errno| disk.fail(Fault { op, skip: 0, count: u64::MAX, errno });
    forever(Op::Link, Errno::EOPNOTSUPP);
    forever(Op::Exchange, Errno::EINVAL);
    rewrite_up_to_child(&mut log, at(2), |_| {});
    hand_off(&mut log, at(3));
    let why = "keeping the old file (aof-keep-before-rewrite): the file system has neither hard \
               links nor exchanges of names; set aof-keep-before-rewrite to 0";
    assert_eq!(log.take_events(), [LogEvent::RewriteFailed(why.to_owned())]);
    assert_eq!(values(&disk), ["value"]);
    assert_eq!(disk.names(), [NAME]);
    log.set_options(options(FsyncPolicy::No), at(4));
    rewrite_up_to_child(&mut log, at(5), |_| {});
    hand_off(&mut log, at(6));
    assert_eq!(log.take_events(), [LogEvent::RewriteDone]);
}

/// It would be the whole of a large file under a name, with a hole in it.
#[test]
fn a_new_file_that_somebody_cuts_is_given_up() {
    let cut = |disk: &SimDisk, bytes: u64| {
        let temp = disk.names().into_iter().find(|name| name != NAME).expect("a new file");
        let file = disk.storage().open(&temp).expect("opened").expect("there");
        file.truncate(bytes).expect("cut");
    };
    // While the child writes, and behind its last write.
    for more in [1 << 20, 10] {
        let disk = SimDisk::new(1);
        let mut log = start(&disk, options(FsyncPolicy::No));
        write(&mut log, "value", at(1));
        let job = log.begin_rewrite(at(2)).expect("begun");
        let error = job.run(|writer| {
            writer.set(b"first", &vec![b'x'; 1 << 20], None)?;
            cut(&disk, 100);
            writer.set(b"second", &vec![b'x'; more], None)
        });
        assert_eq!(error.expect_err("noticed").kind(), io::ErrorKind::UnexpectedEof);
    }
    // While it is brought up to the log's end, in the large sync, too.
    let disk = SimDisk::new(1);
    let mut log = start(&disk, options(FsyncPolicy::No));
    write(&mut log, "value", at(1));
    rewrite_up_to_child(&mut log, at(2), |_| {});
    while !matches!(log.rewrite.phase, Phase::Syncing { .. }) {
        assert!(log.helper.step());
        log.on_report(at(3));
    }
    cut(&disk, 20);
    hand_off(&mut log, at(4));
    let why = "syncing the new file: the file has been truncated".to_owned();
    assert_eq!(log.take_events(), [LogEvent::RewriteFailed(why)]);
    assert_eq!(values(&disk), ["value"]);
}

#[test]
fn a_kept_file_replaces_none_and_where_there_is_no_log_none_is_kept() {
    let disk = SimDisk::new(1);
    let keeping = LogOptions { keep_before_rewrite: 2, ..options(FsyncPolicy::No) };
    let mut log = start(&disk, keeping);
    let name = |ms: i64| format!("{NAME}.before-{}", at(0).unix.0 + ms);
    disk.put(&name(11), b"x");
    write(&mut log, "value", at(10));
    let old = disk.contents(NAME).expect("there");
    rewrite_up_to_child(&mut log, at(11), |_| {});
    hand_off(&mut log, at(12));
    assert_eq!(log.take_events(), [LogEvent::RewriteDone]);
    assert_eq!(disk.contents(&name(11)).expect("somebody's"), b"x");
    assert!(disk.contents(&name(12)).expect("kept").starts_with(&old));
    // Somebody has removed the log: the rewrite puts that right, and there is nothing to keep.
    rewrite_up_to_child(&mut log, at(21), |_| {});
    disk.meddle_remove(NAME);
    hand_off(&mut log, at(22));
    assert_eq!(log.take_events(), [LogEvent::RewriteDone]);
    assert_eq!(kept(&disk), [name(11), name(12)]);
    assert!(disk.contents(NAME).is_some());
}

/// The other way round, a crash between the steps left the old log to a name that the next start
/// removes.
#[test]
fn a_crash_between_the_steps_without_links_leaves_the_old_log_a_name_that_stays() {
    let temporary = format!("{NAME}.rewrite-1-1");
    for n in 1..=3 {
        let disk = SimDisk::new(1);
        disk.put(NAME, b"old");
        disk.put(&temporary, b"new");
        disk.crash_after(n);
        let name = OsStr::new(NAME);
        let outcome = replace_and_keep(&*disk.storage(), OsStr::new(&temporary), name, 5);
        assert!(disk.crashed() || outcome.is_ok_and(|kept| kept.is_some()), "operation {n}");
        for found in [disk.after_kill(), disk.after_power_cut()] {
            let is_old = |name: &str| found.contents(name).is_some_and(|text| text == b"old");
            assert!(is_old(NAME) || is_old(&format!("{NAME}.before-5")), "operation {n}");
            assert!(found.contents(NAME).is_some_and(|text| text.len() == 3), "operation {n}");
        }
    }
}

#[test]
fn an_old_file_that_cannot_be_kept_is_not_replaced() {
    let disk = SimDisk::new(1);
    let keeping = LogOptions { keep_before_rewrite: 1, ..options(FsyncPolicy::No) };
    let mut log = start(&disk, keeping);
    write(&mut log, "value", at(1));
    disk.fail(Fault { op: Op::Link, skip: 0, count: 1, errno: Errno::EMLINK });
    rewrite_up_to_child(&mut log, at(2), |_| {});
    hand_off(&mut log, at(3));
    let why = "keeping the old file (aof-keep-before-rewrite): Too many links".to_owned();
    assert_eq!(log.take_events(), [LogEvent::RewriteFailed(why)]);
    assert_eq!(values(&disk), ["value"]);
    assert_eq!(disk.names(), [NAME]);
    // And one that was kept for a rename that then failed is let go.
    disk.fail(Fault { op: Op::Rename, skip: 0, count: 1, errno: Errno::EIO });
    rewrite_up_to_child(&mut log, at(4), |_| {});
    hand_off(&mut log, at(5));
    assert_eq!(disk.names(), [NAME]);
    assert!(!log.figures(at(5)).last_rewrite_ok);
}
