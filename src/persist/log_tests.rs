//! Claims about the log, one step at a time.

use std::ffi::OsStr;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;

use super::background::{Background, Waker};
use super::load::{LoadOptions, Loader};
use super::log::{AppendLog, LogEvent, LogOptions};
use super::rewrite::{BeginError, RewriteCause};
use super::simulated::{Fault, Op, SimDisk};
use super::storage::{Directory, Storage, write_all_at};
use super::tests::{NAME, at, options};
use crate::config::FsyncPolicy;
use crate::sys::clock::Now;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

fn start(disk: &SimDisk, policy: FsyncPolicy) -> AppendLog {
    super::tests::start(disk, options(policy))
}

fn open(disk: &SimDisk) -> Loader {
    Loader::open(disk.storage(), OsStr::new(NAME), LoadOptions::default()).expect("opens")
}

fn commands(disk: &SimDisk) -> Vec<String> {
    let mut commands = Vec::new();
    let mut collect = |args: &mut crate::resp::args::Args<'_>| {
        let words: Vec<_> = args.iter().map(String::from_utf8_lossy).collect();
        commands.push(words.join(" "));
        Ok(())
    };
    let mut loader = open(disk);
    while !loader.step(u64::MAX, &mut collect).expect("loads") {}
    assert_eq!(loader.report().cut, None);
    commands
}

/// Appends, flushes, and gives the offset that the reply would carry.
fn write(log: &mut AppendLog, now: Now) -> u64 {
    log.append(0, PING);
    log.flush(now);
    log.appended()
}

fn sync(log: &mut AppendLog, now: Now) {
    assert!(log.syncer.step(), "a sync was handed over");
    log.on_report(now);
}

#[test]
fn always_waits_for_a_sync_and_commits_groups_together() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Always);
    let first = write(&mut log, at(1));
    assert!(log.open_to(at(1)) < first);
    // While that sync runs two more groups are written; one sync will cover both.
    let second = write(&mut log, at(2));
    let third = write(&mut log, at(3));
    sync(&mut log, at(4));
    assert_eq!(log.open_to(at(4)), first, "what came after the sync began is not covered");
    sync(&mut log, at(5));
    assert_eq!(log.open_to(at(5)), third);
    assert!(second < third && !log.syncer.step(), "no third sync");
}

#[test]
fn everysec_syncs_at_half_a_second_and_closes_after_one() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Everysec);
    let first = write(&mut log, at(100));
    assert_eq!(log.open_to(at(100)), first);
    assert_eq!(log.next_wakeup(at(100)), Some(at(600).mono));
    log.flush(at(599));
    assert!(!log.syncer.step());
    log.flush(at(600));
    assert_eq!(log.next_wakeup(at(600)), None, "the syncer will call");
    let second = write(&mut log, at(700));
    assert_eq!(log.open_to(at(1_100)), second);
    assert_eq!(log.open_to(at(1_101)), 0, "the disk does not keep up: replies wait");
    log.flush(at(1_101));
    assert_eq!(log.figures(at(1_101)).delayed_syncs, 1);
    sync(&mut log, at(1_150));
    assert_eq!(log.open_to(at(1_150)), second, "the oldest byte that is not durable is from 700");
}

#[test]
fn the_policy_no_never_syncs_but_a_shutdown_does() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::No);
    let first = write(&mut log, at(1));
    log.flush(at(60_000));
    assert!(!log.syncer.step());
    assert_eq!(log.open_to(at(60_000)), first);
    log.shutdown(at(60_001)).expect("no fault");
    assert_eq!(commands(&disk.after_power_cut()), ["SELECT 0", "PING"]);
}

#[test]
fn the_stricter_policy_holds_for_replies_under_way() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Always);
    let first = write(&mut log, at(1));
    log.set_options(options(FsyncPolicy::No), at(2));
    let second = write(&mut log, at(3));
    assert_eq!(log.open_to(at(3)), 0);
    sync(&mut log, at(4));
    assert_eq!(log.open_to(at(4)), second);
    assert!(first < second);
}

#[test]
fn a_failed_write_is_cut_off_refuses_writes_and_is_retried_each_second() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Everysec);
    let first = write(&mut log, at(1));
    let whole = disk.contents(NAME);
    disk.fail(Fault { op: Op::Write, skip: 0, count: 2, errno: Errno::ENOSPC });
    let second = write(&mut log, at(2));
    assert_eq!(log.open_to(at(2)), first);
    assert_eq!(disk.contents(NAME), whole, "the file ends in its last seal");
    assert_eq!(
        log.refusal().as_deref(),
        Some("MISCONF Errors writing to the AOF file: No space left on device")
    );
    assert_eq!(log.next_wakeup(at(3)), Some(at(501).mono).min(Some(at(1_002).mono)));
    log.flush(at(1_001));
    assert_eq!(log.written(), first, "not before a second has passed");
    log.cron(at(1_002));
    assert!(log.is_faulted(), "it fails again");
    log.cron(at(2_002));
    assert!(!log.is_faulted());
    assert_eq!(log.open_to(at(1_000)), second);
    assert_eq!(commands(&disk.after_kill()), ["SELECT 0", "PING", "PING"]);
}

#[test]
fn a_failed_sync_is_not_repeated_and_a_fresh_file_heals_the_log() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Always);
    disk.fail(Fault { op: Op::Sync, skip: 0, count: 1, errno: Errno::EIO });
    let first = write(&mut log, at(1));
    sync(&mut log, at(2));
    assert_eq!(log.open_to(at(2)), 0);
    assert_eq!(
        log.refusal().as_deref(),
        Some("MISCONF Errors writing to the AOF file: Input/output error")
    );
    let poisoned = disk.contents(NAME);
    // Writes that were on their way, or a key that expires.
    let second = write(&mut log, at(3));
    log.cron(at(5_000));
    assert!(!log.syncer.step(), "a second sync would prove nothing");
    assert_eq!(disk.contents(NAME), poisoned, "nothing more goes into the poisoned file");

    assert_eq!(log.rewrite_due(at(5_000)), Some(RewriteCause::Heal));
    let job = log.begin_rewrite(at(5_000)).expect("begins");
    log.rewrite_started(7);
    let third = write(&mut log, at(5_001));
    job.run(|base| base.set(b"k", b"v", None)).expect("written");
    log.child_exited(7, Ok(()), at(5_002));
    while log.figures(at(5_003)).rewrite_running {
        assert_eq!(log.open_to(at(5_003)), 0);
        assert!(log.helper.step());
        log.on_report(at(5_003));
    }
    while log.helper.step() {}
    assert!(first < second && second < third);
    assert_eq!(log.open_to(at(5_004)), third);
    assert_eq!(log.refusal(), None);
    assert_eq!(commands(&disk.after_power_cut()), ["SET k v", "SELECT 0", "PING"]);
    assert_eq!(disk.names(), [NAME]);
}

#[test]
fn a_heal_that_fails_backs_off() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Always);
    disk.fail(Fault { op: Op::Sync, skip: 0, count: 1, errno: Errno::EIO });
    write(&mut log, at(1));
    sync(&mut log, at(2));
    let mut now = 2;
    for wait_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
        assert_eq!(log.rewrite_due(at(now)), Some(RewriteCause::Heal));
        log.begin_rewrite(at(now)).expect("begins");
        log.rewrite_not_started(&Errno::EAGAIN.into(), at(now));
        assert_eq!(log.rewrite_due(at(now + wait_ms - 1)), None);
        now += wait_ms;
    }
}

#[test]
fn the_rename_waits_until_the_new_file_is_as_durable_as_replies_were_told() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Always);
    write(&mut log, at(1));
    sync(&mut log, at(1));
    let old = disk.contents(NAME);
    let job = log.begin_rewrite(at(2)).expect("begins");
    log.rewrite_started(7);
    job.run(|base| base.set(b"k", b"v", None)).expect("written");
    log.child_exited(7, Ok(()), at(3));
    assert!(log.helper.step(), "the file's end is looked for");
    log.on_report(at(3));
    // The helper's large sync is handed over now; what follows goes into both files.
    let told = write(&mut log, at(4));
    sync(&mut log, at(4));
    assert_eq!(log.open_to(at(4)), told, "commits do not wait for the large sync");
    assert!(log.helper.step(), "the large sync");
    log.on_report(at(5));
    assert!(!log.helper.step(), "no rename: what was told is not durable in the new file");
    let later = write(&mut log, at(6));
    sync(&mut log, at(6)); // Both files, up to what was told at least.
    assert!(log.helper.step(), "the rename");
    assert!(
        commands(&disk.after_power_cut())
            .starts_with(&["SET k v", "SELECT 0", "PING"].map(String::from))
    );
    sync(&mut log, at(7));
    log.on_report(at(7));
    assert_eq!(log.open_to(at(7)), later);
    assert_ne!(disk.contents(NAME), old);
    assert_eq!(commands(&disk.after_power_cut()), ["SET k v", "SELECT 0", "PING", "PING"]);
}

#[test]
fn a_failed_or_killed_child_leaves_the_old_file_and_nothing_else() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Always);
    write(&mut log, at(1));
    let _job = log.begin_rewrite(at(2)).expect("begins");
    log.rewrite_started(7);
    assert!(matches!(log.begin_rewrite(at(2)), Err(BeginError::AlreadyRunning)));
    write(&mut log, at(3));
    log.child_exited(8, Ok(()), at(3)); // Somebody else's.
    log.child_exited(7, Err("terminated by signal 9".to_owned()), at(4));
    while log.helper.step() {}
    assert_eq!(disk.names(), [NAME]);
    assert_eq!(log.take_events(), [LogEvent::RewriteFailed("terminated by signal 9".to_owned())]);
    assert!(!log.figures(at(5)).last_rewrite_ok);
    assert_eq!(commands(&disk.after_kill()), ["SELECT 0", "PING", "SELECT 0", "PING"]);
}

#[test]
fn growth_starts_a_rewrite_and_failures_back_off() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::No);
    let grow = |percentage, min_bytes| LogOptions {
        rewrite_percentage: percentage,
        rewrite_min_bytes: min_bytes,
        ..options(FsyncPolicy::No)
    };
    let base = log.current_bytes();
    while log.current_bytes() < 2 * base {
        write(&mut log, at(1));
    }
    log.set_options(grow(100, 0), at(1));
    assert!(matches!(log.rewrite_due(at(1)), Some(RewriteCause::Growth { percent: 100.. })));
    log.set_options(grow(100, log.current_bytes()), at(1));
    assert_eq!(log.rewrite_due(at(1)), None);
    log.set_options(grow(0, 0), at(1));
    assert_eq!(log.rewrite_due(at(1)), None);
    log.set_options(grow(100, 0), at(1));
    log.begin_rewrite(at(1)).expect("begins");
    log.rewrite_not_started(&Errno::ENOMEM.into(), at(1));
    assert_eq!(log.rewrite_due(at(10_000)), None);
    assert!(log.rewrite_due(at(10_001)).is_some());
}

#[test]
fn a_transaction_is_one_group_and_names_its_databases() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::No);
    log.append_transaction([(2, PING), (2, PING), (0, PING)]);
    log.append(0, PING);
    log.flush(at(1));
    let text = String::from_utf8(disk.contents(NAME).expect("there")).expect("text");
    let (_, group) = text.split_once("SELECT").expect("selects");
    assert!(group.starts_with("\r\n$1\r\n2\r\n*1\r\n$5\r\nMULTI\r\n"), "{text}");
    assert_eq!(text.matches("#S1:").count(), 3, "{text}");
    let expected = ["SELECT 2", "PING", "PING", "SELECT 0", "PING", "PING"];
    assert_eq!(commands(&disk), expected);
}

#[test]
fn seal_times_never_run_backwards() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::No);
    for ms in [5_000, 1_000, 7_000, 0] {
        let now = Now { unix: at(ms).unix, ..at(1) };
        write(&mut log, now);
    }
    drop(log);
    let mut log = start(&disk, FsyncPolicy::No); // Starts at 0 again.
    write(&mut log, at(0));
    let bytes = disk.contents(NAME).expect("there");
    let text = String::from_utf8(bytes).expect("text");
    let times: Vec<u64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#S1:")?.split(':').nth(3)?.parse().ok())
        .collect();
    assert_eq!(times.len(), 9);
    assert!(times.is_sorted(), "{times:?}");
}

/// The same on a real directory with real threads.
#[test]
fn threads_sync_rewrite_and_wake_the_loop() {
    let dir = tempfile::tempdir().expect("temp dir");
    let storage: Arc<dyn Storage> = Arc::new(Directory::open(dir.path()).expect("opens"));
    let (sender, woken) = mpsc::channel();
    let sender = Mutex::new(sender);
    let waker: Waker = Arc::new(move || {
        if let Ok(sender) = sender.lock() {
            sender.send(()).ok();
        }
    });
    let name = OsStr::new(NAME);
    let load = || {
        let mut loader = Loader::open(Arc::clone(&storage), name, LoadOptions::default())?;
        let mut count = 0;
        loader.step(u64::MAX, |_| {
            count += 1;
            Ok(())
        })?;
        Ok::<_, super::load::LoadError>((loader, count))
    };
    let open = || AppendLog::off(Arc::clone(&storage), name, options(FsyncPolicy::Always), &waker);
    let mut log = open().expect("starts");
    log.resume(load().expect("loads").0, Now::read()).expect("resumes");
    let mut written = 0;
    let mut write_and_wait = |log: &mut AppendLog, done: &dyn Fn(&AppendLog) -> bool| {
        while !done(log) {
            log.append(0, PING);
            log.flush(Now::read());
            written += 1;
            while log.open_to(Now::read()) < log.appended() {
                woken.recv_timeout(Duration::from_secs(60)).expect("woken");
                log.on_report(Now::read());
            }
        }
        written
    };
    write_and_wait(&mut log, &|log| log.appended() > 1_000);
    let job = log.begin_rewrite(Now::read()).expect("begins");
    log.rewrite_started(7);
    job.run(|base| base.command(&[b"PING"])).expect("written");
    let before = write_and_wait(&mut log, &|log| log.appended() > 3_000);
    log.child_exited(7, Ok(()), Now::read());
    let all = write_and_wait(&mut log, &|log| !log.figures(Now::read()).rewrite_running);
    assert!(log.figures(Now::read()).last_rewrite_ok && all > before);
    log.shutdown(Now::read()).expect("synced");
    drop(log);
    let (loader, _) = load().expect("loads");
    assert_eq!(loader.report().cut, None);
    let mut log = open().expect("starts");
    log.resume(loader, Now::read()).expect("resumes");
    write_and_wait(&mut log, &|log| log.appended() > 0);
    drop(log);
    assert_eq!(storage.list().expect("lists"), [name]);
}

/// Runs the heal that is due to its end; the child finds `PING`s in its memory, say.
fn heal(log: &mut AppendLog, now: Now) {
    assert_eq!(log.rewrite_due(now), Some(RewriteCause::Heal));
    let job = log.begin_rewrite(now).expect("begins");
    log.rewrite_started(7);
    job.run(|base| base.set(b"k", b"v", None)).expect("written");
    log.child_exited(7, Ok(()), now);
    while log.figures(now).rewrite_running {
        // The name changes hands in between, which must not look like somebody else's doing.
        log.look_after_file(now);
        assert!(log.helper.step());
        log.on_report(now);
    }
    while log.helper.step() {}
}

#[test]
fn what_somebody_else_does_to_the_file_is_noticed_and_healed() {
    type Meddling = fn(&SimDisk, usize);
    let cases: [(&str, Meddling); 5] = [
        ("the file has been removed", |disk, _| disk.meddle_remove(NAME)),
        ("the file has been replaced by another one", |disk, _| disk.put(NAME, b"other")),
        ("the file has been truncated", |disk, _| disk.meddle_truncate(NAME, 0)),
        ("the file has been truncated", |disk, len| disk.meddle_truncate(NAME, len - 1)),
        // Written behind the cut before anybody looks: long enough again, with a hole.
        ("the file has been truncated", |disk, len| disk.meddle_truncate(NAME, len / 2)),
    ];
    for (case, (what, meddle)) in cases.into_iter().enumerate() {
        for policy in [FsyncPolicy::Always, FsyncPolicy::Everysec, FsyncPolicy::No] {
            let disk = SimDisk::new(1);
            let mut log = start(&disk, policy);
            write(&mut log, at(1));
            log.syncer.step();
            log.on_report(at(1));
            log.look_after_file(at(2));
            assert_eq!(log.refusal(), None);
            meddle(&disk, disk.contents(NAME).expect("there").len());
            if case == 4 {
                write(&mut log, at(3));
            }
            log.look_after_file(at(100));
            let told = log.open_to(at(100));
            let refusal = format!("MISCONF Errors writing to the AOF file: {what}");
            assert_eq!(log.refusal(), Some(refusal), "{policy:?}");
            assert_eq!(log.figures(at(100)).sync_error.as_deref(), Some(what));
            // What was on its way waits for the fresh file.
            let later = write(&mut log, at(101));
            assert_eq!(log.open_to(at(101)), told, "{policy:?}: {what}");
            heal(&mut log, at(102));
            assert_eq!(log.open_to(at(103)), later);
            assert_eq!(log.refusal(), None);
            log.look_after_file(at(200));
            assert_eq!(log.refusal(), None);
            write(&mut log, at(201));
            assert_eq!(disk.names(), [NAME]);
            assert_eq!(commands(&disk.after_kill()), ["SET k v", "SELECT 0", "PING"]);
        }
    }
}

/// Where no file can be created the log stays faulted, and tries again ever more rarely.
#[test]
fn a_file_lost_with_its_directory_is_healed_when_there_is_one_again() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Always);
    disk.meddle_remove(NAME);
    log.look_after_file(at(0));
    disk.fail(Fault { op: Op::Create, skip: 0, count: 2, errno: Errno::ENOENT });
    for (now, next) in [(0, 1_000), (1_000, 3_000)] {
        assert_eq!(log.rewrite_due(at(now)), Some(RewriteCause::Heal));
        assert!(matches!(log.begin_rewrite(at(now)), Err(BeginError::Create(_))));
        assert_eq!(log.rewrite_due(at(next - 1)), None);
        assert!(log.is_faulted());
    }
    heal(&mut log, at(3_000));
    assert!(!log.is_faulted());
}

#[test]
fn a_shutdown_notices_that_the_file_is_gone() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Everysec);
    write(&mut log, at(1));
    disk.meddle_remove(NAME);
    assert!(log.shutdown(at(2)).is_err());
    heal(&mut log, at(3));
    log.shutdown(at(4)).expect("whole again");
}

#[test]
fn a_child_that_writes_nothing_for_too_long_is_given_up() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Always);
    log.set_options(
        LogOptions { rewrite_timeout_us: 60_000_000, ..options(FsyncPolicy::Always) },
        at(0),
    );
    let job = log.begin_rewrite(at(0)).expect("begins");
    log.rewrite_started(7);
    log.cron(at(59_999));
    job.run(|base| base.set(b"k", b"v", None)).expect("written");
    // It has written, so that its time begins anew; its exit is yet to come.
    log.cron(at(60_000));
    log.cron(at(119_999));
    assert_eq!(log.child_to_kill(), None);
    log.cron(at(120_000));
    assert_eq!(log.child_to_kill(), Some(7));
    let why = "the child 7 has written nothing for 60 s and is killed".to_owned();
    assert_eq!(log.take_events(), [LogEvent::RewriteFailed(why)]);
    assert_eq!(log.figures(at(120_000)).rewrite_failures, 1);
    assert!(matches!(log.begin_rewrite(at(120_001)), Err(BeginError::AlreadyRunning)));
    log.child_exited(7, Err("terminated by signal 9".to_owned()), at(120_002));
    while log.helper.step() {}
    assert_eq!(disk.names(), [NAME]);
    log.begin_rewrite(at(120_003)).expect("begins");
}

/// Until all is durable it promises as before: what is told meanwhile a power cut must not undo.
#[test]
fn a_log_that_is_being_turned_off_withholds_replies_as_before() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Always);
    let first = write(&mut log, at(1));
    log.turn_off(at(2)).expect("not faulted");
    assert_eq!(log.open_to(at(2)), 0);
    write(&mut log, at(3));
    assert_eq!(log.open_to(at(3)), 0);
    sync(&mut log, at(4));
    assert_eq!((log.open_to(at(4)), log.is_off()), (first, false));
    sync(&mut log, at(5));
    assert_eq!((log.open_to(at(5)), log.is_off()), (u64::MAX, true));
    assert_eq!(commands(&disk.after_power_cut()), ["SELECT 0", "PING", "PING"]);
}

/// A server that was killed between the rename of a rewritten file and the sync of the directory
/// leaves a name that a power cut takes back, and with it what was promised in that file since.
#[test]
fn the_name_of_the_file_that_is_loaded_is_durable_before_anything_is_promised() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Always);
    write(&mut log, at(1));
    log.shutdown(at(2)).expect("no fault");
    let storage = disk.storage();
    let new = storage.create(OsStr::new("new")).expect("created");
    write_all_at(&*new, &disk.contents(NAME).expect("there"), 0).expect("written");
    new.sync_data().expect("synced");
    storage.rename(OsStr::new("new"), OsStr::new(NAME)).expect("renamed");

    let found = disk.after_kill();
    let mut log = start(&found, FsyncPolicy::Always);
    let told = write(&mut log, at(3));
    sync(&mut log, at(4));
    assert_eq!(log.open_to(at(4)), told);
    for _ in 0..20 {
        let commands = commands(&found.after_power_cut());
        assert_eq!(commands, ["SELECT 0", "PING", "SELECT 0", "PING"]);
    }
}

/// The seals that a start puts behind the file state all of it to be durable. On the disk ahead of
/// what they speak of they would make an ordinary power cut look like damage.
#[test]
fn a_start_states_nothing_of_a_file_that_it_has_not_synced() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let mut log = start(&disk, FsyncPolicy::No);
        // Several pages each, in few writes: nothing has had the time to reach the disk by itself.
        for n in 0..4 {
            (0..400).for_each(|_| log.append(0, PING));
            log.flush(at(1 + n));
        }
        let found = disk.after_kill();
        let mut loader = open(&found);
        while !loader.step(u64::MAX, |_| Ok(())).expect("all is there") {}
        let (syncer, helper) = (Background::stepped(), Background::stepped());
        let options = options(FsyncPolicy::No);
        let mut log = AppendLog::new(found.storage(), NAME.into(), options, syncer, helper);
        found.crash_after(1 + seed % 6);
        // In the middle of it, or when it is done.
        let _ = log.resume(loader, at(200));
        let mut loader = open(&found.after_power_cut());
        while !loader.step(u64::MAX, |_| Ok(())).unwrap_or_else(|e| panic!("seed {seed}: {e}")) {}
    }
}

/// There is no old file that it could be read back from, however little memory it may take.
#[test]
fn what_is_appended_while_a_heal_runs_stays_in_memory() {
    let disk = SimDisk::new(1);
    let options = LogOptions { rewrite_diff_max_bytes: 1, ..options(FsyncPolicy::Always) };
    let mut log = super::tests::start(&disk, options);
    disk.fail(Fault { op: Op::Sync, skip: 0, count: 1, errno: Errno::EIO });
    write(&mut log, at(1));
    sync(&mut log, at(2));
    let job = log.begin_rewrite(at(3)).expect("begins");
    log.rewrite_started(7);
    let mut last = 0;
    for n in 0..10 {
        last = write(&mut log, at(4 + n));
    }
    job.run(|base| base.set(b"k", b"v", None)).expect("written");
    log.child_exited(7, Ok(()), at(20));
    while log.helper.step() {
        log.on_report(at(21));
    }
    assert!(!log.figures(at(22)).rewrite_running && !log.is_faulted());
    assert_eq!(log.open_to(at(22)), last);
    let commands = commands(&disk.after_power_cut());
    assert_eq!(commands[..2], ["SET k v", "SELECT 0"]);
    assert_eq!(commands[2..], ["PING"; 10]);
}

/// The result of a sync that ended before the last group was written says nothing about that group.
#[test]
fn a_sync_that_was_under_way_is_not_taken_for_the_one_asked_for() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, FsyncPolicy::Always);
    write(&mut log, at(1));
    assert!(log.syncer.step(), "done, and not told yet");
    let second = write(&mut log, at(2));
    log.sync_now(at(3)).expect("no fault");
    assert_eq!(log.open_to(at(3)), second);
    for _ in 0..20 {
        assert_eq!(commands(&disk.after_power_cut()), ["SELECT 0", "PING", "PING"]);
    }
}

/// Where sealing has just begun, groups wait for the header to be durable: a shutdown writes them.
#[test]
fn a_shutdown_leaves_nothing_behind_that_waits_for_a_header() {
    let disk = SimDisk::new(1);
    let plain = LogOptions { seals: false, ..options(FsyncPolicy::Always) };
    let mut log = super::tests::start(&disk, plain);
    write(&mut log, at(1));
    sync(&mut log, at(2));
    log.set_options(options(FsyncPolicy::Always), at(3));
    let last = write(&mut log, at(4));
    assert!(log.written() < last, "it waits");
    log.shutdown(at(5)).expect("no fault");
    assert_eq!(log.written(), last);
    assert_eq!(commands(&disk.after_power_cut()), ["SELECT 0", "PING", "PING"]);
}
