//! Claims about the log as a whole, on a simulated disk: whatever fails or loses power when, a
//! start finds every write that a reply has shown, and no write in part or out of order.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use nix::errno::Errno;

use super::background::Background;
use super::load::{LoadError, LoadOptions, Loader};
use super::log::{AppendLog, LogEvent, LogOptions};
use super::rewrite::{BeginError, RewriteJob};
use super::simulated::{Fault, Op, Rng, SimDisk};
use crate::config::FsyncPolicy;
use crate::resp::args::Args;
use crate::resp::encode;
use crate::sys::clock::{MonoUs, Now, UnixMs};

#[path = "meddling_tests.rs"]
mod meddling;

pub(super) const NAME: &str = "appendonly.aof";
const KEYS: u64 = 23;

pub(super) fn options(policy: FsyncPolicy) -> LogOptions {
    LogOptions {
        policy,
        seals: true,
        rewrite_percentage: 0,
        rewrite_min_bytes: 0,
        incremental: true,
        rewrite_timeout_us: 0,
        rewrite_diff_max_bytes: 64 << 20,
        max_bytes: 0,
        keep_before_rewrite: 0,
    }
}

/// So many milliseconds after the tests' first moment.
pub(super) fn at(ms: u64) -> Now {
    Now { unix: UnixMs(1_700_000_000_000 + ms as i64), mono: MonoUs(1_000_000 + ms * 1_000) }
}

/// A log that has loaded what the disk holds. Its threads work when they are told to.
pub(super) fn start(disk: &SimDisk, options: LogOptions) -> AppendLog {
    let (syncer, helper) = (Background::stepped(), Background::stepped());
    let mut log = AppendLog::new(disk.storage(), NAME.into(), options, syncer, helper);
    let loader = Loader::open(disk.storage(), OsStr::new(NAME), LoadOptions::default());
    let mut loader = loader.expect("opens");
    loader.step(u64::MAX, |_| Ok(())).expect("loads");
    log.resume(loader, at(0)).expect("resumes");
    log
}

/// Limits so small that a few writes reach them, beside those that are never reached.
fn vary(rng: &mut Rng, options: LogOptions) -> LogOptions {
    let mut pick = |from: [u64; 4]| from[rng.below(4) as usize];
    LogOptions {
        rewrite_diff_max_bytes: pick([0, 700, 4_000, 64 << 20]) as usize,
        max_bytes: pick([0, 0, 0, 6_000]),
        keep_before_rewrite: pick([0, 0, 1, 2]) as u32,
        ..options
    }
}

/// What the keyspace would hold: the number of the last write of each key.
pub(super) type Data = BTreeMap<(usize, String), u64>;

/// Write number `n` says so in a key and database that follow from `n`, so that the highest number
/// found tells which writes were kept, and the other keys tell whether those are all.
fn place(n: u64) -> (usize, String) {
    ((n / 5 % 3) as usize, format!("key:{}", n % KEYS))
}

fn record(n: u64, padding: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let value = format!("{n}:{}", "x".repeat(padding));
    encode::command(&mut out, &[b"SET", place(n).1.as_bytes(), value.as_bytes()]);
    out
}

pub(super) fn data_after(n: u64) -> Data {
    (1..=n).map(|n| (place(n), n)).collect()
}

/// Executes replayed commands.
#[derive(Default)]
struct Replay {
    db: usize,
    data: Data,
}

impl Replay {
    fn apply(&mut self, args: &mut Args<'_>) -> Result<(), String> {
        let text = |index: usize| String::from_utf8_lossy(&args[index]).into_owned();
        match &args[0] {
            b"SELECT" => self.db = text(1).parse().map_err(|_| "bad SELECT")?,
            b"SET" => {
                let value = text(2);
                let (n, _) = value.split_once(':').ok_or("bad value")?;
                self.data.insert((self.db, text(1)), n.parse().map_err(|_| "bad number")?);
            }
            _ => return Err(format!("Unknown command '{}'", text(0))),
        }
        Ok(())
    }
}

pub(super) fn load(disk: &SimDisk, options: LoadOptions) -> Result<(Loader, Data), LoadError> {
    load_named(disk, NAME, options)
}

fn load_named(
    disk: &SimDisk,
    name: &str,
    options: LoadOptions,
) -> Result<(Loader, Data), LoadError> {
    let mut loader = Loader::open(disk.storage(), OsStr::new(name), options)?;
    let mut replay = Replay::default();
    while !loader.step(100, |args| replay.apply(args))? {}
    Ok((loader, replay.data))
}

/// A server's life on a simulated disk, driven at random.
pub(super) struct Life {
    disk: SimDisk,
    pub(super) log: AppendLog,
    rng: Rng,
    pub(super) now: Now,
    /// The last write that was appended.
    pub(super) appended: u64,
    /// For each write since start: its number, the log offset behind it, when it was appended.
    /// Writes of a transaction share the offset.
    offsets: Vec<(u64, u64, MonoUs)>,
    /// The highest write that a reply could have shown.
    pub(super) shown: u64,
    /// The highest write that must survive a power cut.
    pub(super) promised: u64,
    /// Transactions, as first and last number.
    transactions: Vec<(u64, u64)>,
    pub(super) child: Option<Child>,
    next_pid: i32,
}

pub(super) struct Child {
    pid: i32,
    job: RewriteJob,
    data: Data,
}

impl Life {
    /// Begins with what `loader` has loaded. Until the log is on, only what earlier lives have
    /// promised counts.
    pub(super) fn begin(
        disk: SimDisk,
        seed: u64,
        policy: FsyncPolicy,
        (found, promised): (u64, u64),
        loader: Loader,
    ) -> Life {
        let now = Now { unix: UnixMs(1_700_000_000_000), mono: MonoUs(1_000_000_000) };
        let mut log = AppendLog::new(
            disk.storage(),
            NAME.into(),
            options(policy),
            Background::stepped(),
            Background::stepped(),
        );
        // Loses power here too, sometimes; the caller sees that the disk has crashed.
        let resumed = log.resume(loader, now);
        assert!(resumed.is_ok() || disk.crashed(), "{resumed:?}");
        let mut rng = Rng(seed);
        log.set_options(vary(&mut rng, log.options()), now);
        Life {
            disk,
            log,
            rng,
            now,
            appended: found,
            offsets: Vec::new(),
            shown: if resumed.is_ok() { found } else { promised },
            promised: if resumed.is_ok() { found } else { promised },
            transactions: Vec::new(),
            child: None,
            next_pid: 1,
        }
    }

    pub(super) fn fresh(disk: &SimDisk, seed: u64, policy: FsyncPolicy) -> Life {
        let (loader, data) = load(disk, LoadOptions::default()).expect("loads");
        let found = data.values().max().copied().unwrap_or(0);
        Life::begin(disk.clone(), seed, policy, (found, found), loader)
    }

    pub(super) fn write(&mut self) {
        if self.log.refusal().is_some() || self.log.holds_writers() {
            return;
        }
        let count = if self.rng.one_in(4) { 2 + self.rng.below(3) } else { 1 };
        let first = self.appended + 1;
        let numbers = first..first + count;
        let large = self.rng.one_in(20);
        let padding = if large { self.rng.below(9_000) } else { self.rng.below(60) } as usize;
        let records: Vec<_> = numbers.clone().map(|n| (place(n).0, record(n, padding))).collect();
        if count == 1 {
            self.log.append(records[0].0, &records[0].1);
        } else {
            let parts = records.iter().map(|(db, record)| (*db, record.as_slice()));
            self.log.append_transaction(parts);
            self.transactions.push((first, first + count - 1));
        }
        self.appended = first + count - 1;
        let offset = self.log.appended();
        self.offsets.extend(numbers.map(|n| (n, offset, self.now.mono)));
    }

    /// Shows what the gate lets out.
    pub(super) fn release(&mut self) {
        if self.disk.crashed() {
            return; // Nobody is left to show anything to.
        }
        let open_to = self.log.open_to(self.now);
        for &(n, offset, then) in &self.offsets {
            if offset > open_to {
                break;
            }
            self.shown = self.shown.max(n);
            let age = self.now.mono.since(then);
            let survives = match self.log.options().policy {
                FsyncPolicy::Always => true,
                FsyncPolicy::Everysec => age > 1_000_000,
                FsyncPolicy::No => false,
            };
            if survives {
                self.promised = self.promised.max(n);
            }
        }
    }

    pub(super) fn turn(&mut self) {
        self.log.flush(self.now);
        self.release();
    }

    /// Changes the policy, and with `seals` whether groups are sealed.
    fn reconfigure(&mut self, seals: bool) {
        let mut options = self.log.options();
        options.policy = policy(self.rng.next());
        options.seals = !seals || self.rng.one_in(2);
        self.log.set_options(options, self.now);
        self.release();
    }

    fn step(&mut self) {
        match self.rng.below(12) {
            0..=3 => self.write(),
            4..=5 => self.turn(),
            6 => {
                self.log.syncer.step();
            }
            7 => {
                self.log.helper.step();
            }
            8 => {
                self.log.on_report(self.now);
                self.release();
            }
            9 => self.pass(),
            10 => self.tend_rewrite(),
            _ => self.end_child(),
        }
    }

    /// Time passes between turns, not within one.
    fn pass(&mut self) {
        self.turn();
        let us = self.rng.below(300_000);
        self.now.mono.0 += us;
        // The wall clock may step backwards.
        self.now.unix.0 += us as i64 / 1_000 - if self.rng.one_in(9) { 500 } else { 0 };
        self.turn();
    }

    fn tend_rewrite(&mut self) {
        self.log.flush(self.now);
        self.release();
        let due = self.log.rewrite_due(self.now).is_some() || self.rng.one_in(4);
        if due && self.child.is_none() {
            self.fork();
        }
    }

    fn fork(&mut self) {
        let is_heal = self.log.figures(self.now).sync_error.is_some();
        let has_no_room = self.rng.one_in(12);
        self.disk.say_free(has_no_room.then_some(0));
        self.log.set_data_bytes(1 + self.rng.below(3) * 1_000);
        let begun = self.log.begin_rewrite(self.now);
        assert!(is_heal || !has_no_room || begun.is_err(), "there was no room");
        assert!(has_no_room && !is_heal || !matches!(begun, Err(BeginError::NoRoom { .. })));
        let Ok(job) = begun else { return };
        if self.rng.one_in(10) {
            self.log.rewrite_not_started(&Errno::EAGAIN.into(), self.now);
        } else {
            self.start_child(job);
        }
    }

    pub(super) fn start_child(&mut self, job: RewriteJob) {
        let pid = self.next_pid;
        self.next_pid += 1;
        self.log.rewrite_started(pid);
        self.child = Some(Child { pid, job, data: data_after(self.appended) });
    }

    fn end_child(&mut self) {
        let kill = self.log.child_to_kill().is_some() || self.rng.one_in(5);
        self.reap_child(kill);
    }

    pub(super) fn reap_child(&mut self, kill: bool) {
        let Some(Child { pid, job, data }) = self.child.take() else { return };
        let outcome = if kill {
            Err("terminated by signal 9".to_owned())
        } else {
            let result = job.run(|base| {
                let mut selected = None;
                for ((db, key), n) in &data {
                    if selected != Some(*db) {
                        base.select(*db)?;
                        selected = Some(*db);
                    }
                    base.set(key.as_bytes(), format!("{n}:base").as_bytes(), None)?;
                }
                Ok(())
            });
            result.map(|_| ()).map_err(|error| error.to_string())
        };
        self.log.child_exited(pid, outcome, self.now);
    }

    /// Runs everything until nothing is left to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..20_000 {
            self.now.mono.0 += 100_000;
            self.now.unix.0 += 100;
            self.log.cron(self.now);
            self.release();
            if self.log.rewrite_due(self.now).is_some() && self.child.is_none() {
                self.fork();
            }
            self.end_child();
            self.log.syncer.step();
            self.log.helper.step();
            self.log.on_report(self.now);
            self.release();
            let figures = self.log.figures(self.now);
            let idle = !figures.rewrite_running && !self.log.is_faulted();
            let done = match self.log.options().policy {
                FsyncPolicy::No if figures.enabled => figures.written,
                _ => figures.durable,
            };
            if idle && done == figures.appended {
                while self.log.helper.step() {} // Files are removed in the background.
                return;
            }
        }
        panic!("does not settle: {:?}", self.log.figures(self.now));
    }

    /// Checks what stands beside the log when nothing is left to do: no temporary file, and no more
    /// kept ones than wanted, each of them whole. One more of those may be the rest of a rewrite
    /// that ended halfway.
    pub(super) fn check_neighbours(&self, disk: &SimDisk, halfway: usize) {
        let mut names = disk.names();
        names.retain(|name| name != NAME);
        let keep = self.log.options().keep_before_rewrite as usize;
        assert!(names.len() <= keep + halfway, "{names:?}");
        for name in names {
            let name = name.to_str().expect("text");
            if name.starts_with("appendonly.aof.cut-") {
                continue;
            }
            assert!(name.starts_with("appendonly.aof.before-17"), "{name}");
            let (_, data) = load_named(disk, name, LoadOptions::default())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            self.check(&data, 0, name);
        }
    }

    /// Checks what a start finds, against what must be there.
    pub(super) fn check(&self, found: &Data, at_least: u64, why: &str) -> u64 {
        let kept = found.values().max().copied().unwrap_or(0);
        assert!(kept >= at_least, "{why}: lost {} acknowledged writes", at_least - kept);
        assert!(kept <= self.appended, "{why}: {kept} was never written");
        assert_eq!(*found, data_after(kept), "{why}: not the state after write {kept}");
        let torn = self.transactions.iter().find(|(first, last)| *first <= kept && kept < *last);
        assert_eq!(torn, None, "{why}: part of a transaction");
        kept
    }
}

/// Names the seed if the test fails.
pub(super) struct Seed(pub(super) u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed with PERSIST_SEED={}", self.0);
        }
    }
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("PERSIST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PERSIST_SEEDS").unwrap_or(default),
    }
}

pub(super) fn policy(seed: u64) -> FsyncPolicy {
    [FsyncPolicy::Always, FsyncPolicy::Everysec, FsyncPolicy::No][(seed % 3) as usize]
}

#[test]
fn no_crash_at_any_operation_loses_what_was_promised() {
    for seed in seeds(1_000) {
        let _seed = Seed(seed);
        let mut rng = Rng(seed ^ 0x5eed);
        let mut disk = SimDisk::new(seed);
        let (mut kept, mut promised) = (0, 0);
        for life_number in 0..3 {
            if rng.one_in(2) {
                disk.short_writes();
            }
            let crash = if rng.one_in(4) { 20 } else { 300 };
            disk.crash_after(1 + rng.below(crash));
            let (loader, data) = match load(&disk, LoadOptions::default()) {
                Ok(loaded) => loaded,
                // The power went while a tail was cut; the next start finds it as it was.
                Err(LoadError::Io { .. }) if disk.crashed() => {
                    disk = disk.after_power_cut();
                    let (_, data) = load(&disk.after_kill(), LoadOptions::default())
                        .unwrap_or_else(|error| panic!("life {life_number}: {error}"));
                    kept = data.values().max().copied().unwrap_or(0);
                    assert!(kept >= promised, "life {life_number}: cutting lost something");
                    continue;
                }
                Err(error) => panic!("life {life_number}: {error}"),
            };
            assert_eq!(data.values().max().copied().unwrap_or(0), kept);
            let life_seed = rng.next();
            let mut life =
                Life::begin(disk.clone(), life_seed, policy(seed), (kept, promised), loader);
            while !disk.crashed() && life.appended < kept + 400 {
                life.step();
                if life.rng.one_in(100) {
                    life.reconfigure(false);
                }
            }
            let (image, at_least) = if disk.crashed() || rng.one_in(2) {
                (disk.after_power_cut(), life.promised)
            } else {
                (disk.after_kill(), life.shown)
            };
            disk = image;
            // Loading may cut; it is done for good only when the next life has begun, so here it
            // is looked at on a copy.
            let (_, data) = load(&disk.after_kill(), LoadOptions::default())
                .unwrap_or_else(|error| panic!("life {life_number}: {error}"));
            kept = life.check(&data, at_least, &format!("life {life_number}"));
            promised = life.promised;
        }
    }
}

#[test]
fn no_kill_loses_what_was_shown_and_no_temporary_file_stays() {
    for seed in seeds(300) {
        let _seed = Seed(seed);
        let disk = SimDisk::new(seed);
        let mut life = Life::fresh(&disk, seed, policy(seed));
        for _ in 0..life.rng.below(1_500) {
            life.step();
            if life.rng.one_in(50) {
                life.reconfigure(true);
            }
        }
        let disk = disk.after_kill();
        let (loader, data) = load(&disk, LoadOptions::default()).expect("loads");
        let kept = life.check(&data, life.shown, "kill");
        assert_eq!(loader.report().cut, None, "a kill tears nothing");
        Life::begin(disk.clone(), 0, policy(seed), (kept, kept), loader);
        life.check_neighbours(&disk, 1);
    }
}

#[test]
fn faults_are_survived_and_healed_and_lose_nothing() {
    for seed in seeds(1_500) {
        let _seed = Seed(seed);
        let mut rng = Rng(seed ^ 0xfa17);
        let disk = SimDisk::new(seed);
        let mut life = Life::fresh(&disk, seed, policy(seed));
        for _ in 0..1 + rng.below(4) {
            disk.fail(Fault {
                op: Op::ALL[rng.below(Op::ALL.len() as u64) as usize],
                skip: rng.below(60),
                count: 1 + rng.below(5),
                errno: [Errno::EIO, Errno::ENOSPC][rng.below(2) as usize],
            });
        }
        for _ in 0..rng.below(1_500) {
            life.step();
        }
        if rng.one_in(2) {
            // In the middle of whatever it is.
            let (_, data) = load(&disk.after_power_cut(), LoadOptions::default())
                .unwrap_or_else(|error| panic!("{error}"));
            life.check(&data, life.promised, "power cut");
            let (_, data) = load(&disk.after_kill(), LoadOptions::default())
                .unwrap_or_else(|error| panic!("{error}"));
            let shown = life.shown;
            life.check(&data, shown, "kill");
        }
        disk.heal();
        life.settle();
        assert_eq!(life.shown, life.appended, "all replies are out");
        life.log.sync_now(life.now).expect("healed");
        let (_, data) = load(&disk.after_power_cut(), LoadOptions::default())
            .unwrap_or_else(|error| panic!("{error}"));
        life.check(&data, life.appended, "after healing");
        life.check_neighbours(&disk, 2);
    }
}

#[test]
fn a_clean_shutdown_is_complete_and_any_damage_to_it_is_refused() {
    for seed in seeds(40) {
        let _seed = Seed(seed);
        let disk = SimDisk::new(seed);
        let mut life = Life::fresh(&disk, seed, policy(seed));
        for _ in 0..200 {
            life.step();
        }
        life.log.shutdown(life.now).expect("no faults");
        while life.log.helper.step() {}
        let (loader, data) = load(&disk.after_power_cut(), LoadOptions::default()).expect("loads");
        life.check(&data, life.appended, "shutdown");
        assert_eq!(loader.report().cut, None);

        let whole = disk.contents(NAME).expect("there");
        let mut rng = Rng(seed);
        for _ in 0..60 {
            let mut damaged = whole.clone();
            let index = rng.below(damaged.len() as u64) as usize;
            damaged[index] ^= 1 << rng.below(8);
            let copy = SimDisk::new(seed);
            copy.put(NAME, &damaged);
            match load(&copy, LoadOptions::default()) {
                // Only the closing seals, which close nothing but each other, can be lost.
                Ok((loader, data)) => {
                    assert_eq!(data, data_after(life.appended), "flipped a bit of byte {index}");
                    assert!(loader.report().cut.is_some());
                }
                Err(LoadError::PromisedDamaged { .. } | LoadError::BadFormat { .. }) => {
                    assert_eq!(copy.contents(NAME).as_deref(), Some(damaged.as_slice()));
                    assert_eq!(copy.names(), [NAME]);
                }
                Err(other) => panic!("flipped a bit of byte {index}: {other}"),
            }
        }
    }
}

#[test]
fn turning_the_log_off_and_on_keeps_the_promise() {
    for seed in seeds(200) {
        let _seed = Seed(seed);
        let disk = SimDisk::new(seed);
        let mut life = Life::fresh(&disk, seed, policy(seed));
        for _ in 0..life.rng.below(100) {
            life.step();
        }
        life.log.turn_off(life.now).expect("not faulted");
        life.settle();
        assert!(life.log.take_events().contains(&LogEvent::TurnedOff));
        assert_eq!(life.log.open_to(life.now), u64::MAX);
        let (_, data) = load(&disk.after_power_cut(), LoadOptions::default()).expect("loads");
        life.check(&data, life.appended, "off");

        for _ in 0..5 {
            life.write();
        }
        life.log.turn_on();
        while !life.log.take_events().contains(&LogEvent::TurnedOn) {
            life.step();
            if life.child.is_none() && life.log.rewrite_due(life.now).is_some() {
                life.fork();
            }
            life.log.turn_on(); // A killed child has turned it off again.
        }
        life.promised = life.appended.min(life.promised);
        for _ in 0..life.rng.below(100) {
            life.step();
        }
        life.settle();
        life.log.sync_now(life.now).expect("no faults");
        let (_, data) = load(&disk.after_power_cut(), LoadOptions::default()).expect("loads");
        life.check(&data, life.appended, "on again");
    }
}
