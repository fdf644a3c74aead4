//! Claims about what others do to the files, about faults and crashes that come together, and about
//! sealing that begins while the log runs.

use super::*;

/// Faults that come with meddling, of any operation.
const ERRNOS: [Errno; 2] = [Errno::EIO, Errno::ENOSPC];

/// One of the things that somebody else may do to the log's files or their directory.
fn meddle(life: &mut Life) {
    let names = life.disk.names();
    let temp = names.iter().filter_map(|name| name.to_str()).find(|name| *name != NAME);
    let target = match (life.rng.below(4), temp) {
        (0, Some(temp)) => temp,
        _ => NAME,
    };
    let Some(contents) = life.disk.contents(target) else { return };
    let len = life.rng.below(contents.len() as u64 + 1) as usize;
    match life.rng.below(5) {
        0 => life.disk.meddle_remove(target),
        1 => life.disk.meddle_truncate(target, len),
        // By an older copy, or by the very same bytes.
        2 => life.disk.put(target, &contents[..len]),
        3 => life.disk.put(target, &contents),
        _ => life.disk.meddle_take_directory(),
    }
}

/// Looks as cron does each 100 ms; tells whether the file is then known to be the log's, and no
/// other one is about to become it.
fn look(life: &mut Life) -> bool {
    life.log.cron(life.now);
    life.log.look_after_file(life.now);
    life.release();
    !life.log.is_faulted() && life.log.rewrite.is_idle()
}

fn check_now(life: &Life, why: &str) {
    let (_, data) = load(&life.disk.after_power_cut(), LoadOptions::default())
        .unwrap_or_else(|error| panic!("{why}: {error}"));
    life.check(&data, life.promised, why);
    let (_, data) = load(&life.disk.after_kill(), LoadOptions::default())
        .unwrap_or_else(|error| panic!("{why}: {error}"));
    life.check(&data, life.shown, why);
}

#[test]
fn meddling_at_any_moment_is_healed_and_loses_nothing() {
    for seed in seeds(1_000) {
        let _seed = Seed(seed);
        let mut rng = Rng(seed ^ 0x3edd1e);
        let disk = SimDisk::new(seed);
        let mut life = Life::fresh(&disk, seed, policy(seed));
        let mut meddled = false;
        for _ in 0..100 + rng.below(1_500) {
            life.step();
            match rng.below(150) {
                0 => {
                    meddle(&mut life);
                    meddled = true;
                }
                1 => life.reconfigure(false),
                2 => disk.fail_after(rng.below(9), ERRNOS[rng.below(2) as usize]),
                3..20 => disk.meddle_return_directory(rng.one_in(2)),
                20..60 => meddled &= !look(&mut life),
                // A crash between the meddling and the end of healing is nobody's promise.
                60..62 if !meddled => check_now(&life, "crash"),
                _ => {}
            }
        }
        disk.heal();
        disk.meddle_return_directory(rng.one_in(2));
        for _ in 0..3 {
            look(&mut life);
            life.settle();
        }
        assert_eq!(life.shown, life.appended, "all replies are out");
        life.log.sync_now(life.now).expect("healed");
        check_now(&life, "healed");
        let (_, data) = load(&disk.after_power_cut(), LoadOptions::default()).expect("loads");
        life.check(&data, life.appended, "after healing");
    }
}

/// Each operation of a heal or of a rewrite's hand-off fails, and the power goes in any of those
/// that follow: between them the seeds meet all pairs.
#[test]
fn a_fault_and_a_crash_together_lose_nothing() {
    const FAULTS: u64 = 40;
    const CRASHES: u64 = 25;
    for seed in seeds(3_000) {
        let _seed = Seed(seed);
        let disk = SimDisk::new(seed);
        let mut life = Life::fresh(&disk, seed, policy(seed / 2));
        for _ in 0..60 {
            life.step();
        }
        life.settle();
        if seed % 2 == 0 {
            disk.fail(Fault { op: Op::Sync, skip: 0, count: 1, errno: Errno::EIO });
        } else {
            life.fork();
        }
        let fault = 1 + seed / 2 % FAULTS;
        disk.fail_after(fault, ERRNOS[(seed / 80 % 2) as usize]);
        disk.crash_after(fault + 1 + seed / (2 * FAULTS) % CRASHES);
        for _ in 0..1_500 {
            if disk.crashed() {
                break;
            }
            life.step();
        }
        let why = if disk.crashed() { "crash" } else { "power cut" };
        let (_, data) = load(&disk.after_power_cut(), LoadOptions::default())
            .unwrap_or_else(|error| panic!("{why}: {error}"));
        life.check(&data, life.promised, why);
    }
}

/// Sealing is switched on while the log runs on a file without seals. In such a part a start can
/// only go by the form, and refuses what reads wrong: so the crash must find no torn header with
/// groups behind it.
#[test]
fn sealing_that_begins_while_running_survives_a_crash_at_each_operation() {
    for seed in seeds(2_000) {
        let _seed = Seed(seed);
        let disk = SimDisk::new(seed);
        let policy = policy(seed);
        let mut life = Life::fresh(&disk, seed, policy);
        let seals = |life: &mut Life, seals| {
            let options = LogOptions { seals, ..life.log.options() };
            life.log.set_options(options, life.now);
        };
        seals(&mut life, false);
        for _ in 0..life.rng.below(40) {
            life.write();
        }
        life.settle();
        life.log.sync_now(life.now).expect("no faults");
        seals(&mut life, true);
        disk.crash_after(1 + seed / 3 % 12);
        for _ in 0..200 {
            if disk.crashed() {
                break;
            }
            match life.rng.below(5) {
                0 => life.write(),
                1 => life.turn(),
                2 => drop(life.log.syncer.step()),
                3 => life.pass(),
                _ => {
                    life.log.on_report(life.now);
                    life.release();
                }
            }
        }
        let (_, data) = load(&disk.after_power_cut(), LoadOptions::default())
            .unwrap_or_else(|error| panic!("{error}"));
        life.check(&data, life.promised, "crash");
    }
}

/// As above, without a crash: the header goes first and alone, and nothing is lost or stuck.
#[test]
fn groups_wait_for_the_header_and_no_longer() {
    for seed in seeds(60) {
        let _seed = Seed(seed);
        let disk = SimDisk::new(seed);
        let mut life = Life::fresh(&disk, seed, policy(seed));
        let mut options = life.log.options();
        options.seals = false;
        options.max_bytes = 0;
        life.log.set_options(options, life.now);
        life.write();
        life.settle();
        options.seals = true;
        life.log.set_options(options, life.now);
        life.write();
        let before = disk.contents(NAME).expect("there").len();
        life.turn();
        let header = disk.contents(NAME).expect("there").split_off(before);
        assert!(
            header.starts_with(b"#SH1:") && header.iter().filter(|b| **b == b'\n').count() == 1
        );
        assert!(life.log.rewrite_due(life.now).is_none());
        match seed % 3 {
            0 => life.settle(),
            1 => life.log.shutdown(life.now).expect("no faults"),
            _ => {
                life.log.turn_off(life.now).expect("no faults");
                life.settle();
            }
        }
        let (loader, data) = load(&disk.after_kill(), LoadOptions::default()).expect("loads");
        life.check(&data, life.appended, "all");
        assert_eq!(loader.report().cut, None);
    }
}
