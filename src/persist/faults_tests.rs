//! Claims about a log that cannot be healed at once.

use nix::errno::Errno;

use super::log::{AppendLog, LogEvent, LogOptions};
use super::rewrite::{BeginError, RewriteCause};
use super::simulated::{Fault, Op, SimDisk};
use super::tests::{NAME, at, options, start};
use crate::config::FsyncPolicy;
use crate::sys::clock::Now;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// A write whose sync fails.
fn poison(log: &mut AppendLog, disk: &SimDisk, now: Now) {
    disk.fail(Fault { op: Op::Sync, skip: 0, count: 1, errno: Errno::EIO });
    log.append(0, PING);
    log.flush(now);
    assert!(log.syncer.step(), "a sync was handed over");
    log.on_report(now);
    assert_eq!(log.fault(), Some("Input/output error"));
}

/// Forks a child for the rewrite that is to begin now.
fn fork(log: &mut AppendLog, pid: i32, now: Now) {
    let job = log.begin_rewrite(now).expect("begins");
    log.rewrite_started(pid);
    job.run(|base| base.set(b"k", b"v", None)).expect("written");
}

fn finish(log: &mut AppendLog, pid: i32, now: Now) {
    log.child_exited(pid, Ok(()), now);
    while log.helper.step() {
        log.on_report(now);
    }
}

/// The disk under a child may hang so that no signal ends it.
#[test]
fn a_heal_waits_a_while_for_the_end_of_a_killed_child_and_then_goes_on() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, options(FsyncPolicy::Always));
    fork(&mut log, 7, at(0));
    poison(&mut log, &disk, at(10));
    assert_eq!(log.child_to_kill(), Some(7));
    // The failed rewrite has put the heal off by a second; after that it waits for the child.
    assert_eq!(log.rewrite_due(at(5_009)), None);
    assert!(matches!(log.begin_rewrite(at(5_009)), Err(BeginError::AlreadyRunning)));
    assert_eq!(log.rewrite_due(at(5_010)), Some(RewriteCause::Heal));
    fork(&mut log, 8, at(5_010));
    finish(&mut log, 8, at(5_020));
    assert_eq!(log.fault(), None);
    assert_eq!(log.open_to(at(5_020)), log.appended());
    assert_eq!(log.rewrite_child(), Some(7), "it still shares the server's memory");

    // A second one that does not end is waited for: they must not pile up.
    fork(&mut log, 9, at(100_000));
    poison(&mut log, &disk, at(100_000));
    assert_eq!(log.child_to_kill(), Some(9));
    assert_eq!(log.rewrite_due(at(900_000)), None);
    log.child_exited(7, Err("terminated by signal 9".to_owned()), at(900_001));
    assert_eq!(log.rewrite_child(), Some(9));
    assert_eq!(log.rewrite_due(at(900_002)), Some(RewriteCause::Heal));
    fork(&mut log, 10, at(900_002));
    // That end concerns neither the heal nor its child.
    log.child_exited(9, Err("terminated by signal 9".to_owned()), at(900_003));
    assert_eq!(log.rewrite_child(), Some(10));
    finish(&mut log, 10, at(900_004));
    assert_eq!(log.fault(), None);
    assert_eq!(log.rewrite_child(), None);
    assert_eq!(disk.names(), [NAME], "nothing of the children that were given up is left");
}

/// Only a heal is worth a second child: whoever else wants a rewrite can wait.
#[test]
fn a_rewrite_of_a_healthy_log_waits_for_the_end_of_a_killed_child() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, options(FsyncPolicy::Always));
    log.set_options(LogOptions { rewrite_timeout_us: 1_000_000, ..log.options() }, at(0));
    fork(&mut log, 7, at(0));
    log.cron(at(1));
    log.cron(at(1_001));
    assert_eq!(log.child_to_kill(), Some(7));
    assert!(matches!(log.begin_rewrite(at(900_000)), Err(BeginError::AlreadyRunning)));
    log.child_exited(7, Err("terminated by signal 9".to_owned()), at(900_001));
    log.begin_rewrite(at(900_002)).expect("begins");
}

/// While another server has the lock, its file is not to be overwritten.
#[test]
fn a_lost_lock_refuses_writes_until_a_fresh_file_can_be_written() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, options(FsyncPolicy::Always));
    log.lock_is_lost("in use by the server with process id 5", at(0));
    let refusal = "MISCONF Errors writing to the AOF file: in use by the server with process id 5";
    assert_eq!(log.refusal().as_deref(), Some(refusal));
    for (now, next) in [(0, 1_000), (1_000, 3_000), (3_000, 7_000), (7_000, 15_000)] {
        assert_eq!(log.rewrite_due(at(now)), Some(RewriteCause::Heal));
        log.rewrite_prevented("locked by another server", at(now));
        let failed = LogEvent::RewriteFailed("locked by another server".to_owned());
        assert_eq!(log.take_events(), [failed]);
        assert_eq!(log.rewrite_due(at(next - 1)), None, "each try waits twice as long");
    }
    // Told again and again, as long as it lasts: once is enough.
    log.lock_is_lost("in use by the server with process id 6", at(14_000));
    assert_eq!(log.refusal().as_deref(), Some(refusal));
    assert_eq!(log.rewrite_due(at(15_000)), Some(RewriteCause::Heal));
    fork(&mut log, 7, at(15_000));
    finish(&mut log, 7, at(15_001));
    assert_eq!(log.refusal(), None);
}

/// A heal that had begun used to go on, and gave its file the name under which the other server
/// writes by then.
#[test]
fn a_rewrite_under_way_ends_where_the_lock_is_lost() {
    let disk = SimDisk::new(1);
    let mut log = start(&disk, options(FsyncPolicy::Always));
    poison(&mut log, &disk, at(0));
    fork(&mut log, 7, at(1));
    log.lock_is_lost("in use by the server with process id 5", at(2));
    assert_eq!(log.child_to_kill(), Some(7));
    finish(&mut log, 7, at(3));
    assert!(log.is_faulted());
    assert_eq!(log.rewrite_due(at(1_001)), None, "put off like one that failed");
    fork(&mut log, 8, at(1_002));
    finish(&mut log, 8, at(1_003));
    assert!(!log.is_faulted());

    log.turn_off(at(1_004)).expect("not faulted");
    while log.syncer.step() {
        log.on_report(at(1_004));
    }
    log.turn_on();
    fork(&mut log, 9, at(1_005));
    log.take_events();
    log.lock_is_lost("in use by the server with process id 5", at(1_006));
    assert_eq!(log.child_to_kill(), Some(9));
    let events = log.take_events();
    assert!(matches!(events[..], [_, LogEvent::TurnOnFailed(_)]), "{events:?}");
}
