//! A power cut at any moment loses nothing that the fsync policy promised.
//!
//! The server's directory is on a real ext4 or XFS. Several writers, each on keys of its own, send
//! pipelined commands and note when each was sent and acknowledged. Then the file system is shut
//! down without flushing, the server is killed, the file system mounted again and the server
//! started on what is there. It must start by itself, and each writer's keys must be what some
//! number of its commands leave: all those that were promised, and none without those before it;
//! so no part of a transaction without the rest. Over all writers, nothing may be there that was
//! sent after the acknowledgement of something lost.
//!
//! What is promised: with `always`, all that was acknowledged. With `everysec`, whenever a reply
//! leaves, everything older than a second is durable: so all that was acknowledged more than a
//! second before the last acknowledged command was sent. That is the second before the cut, unless
//! the disk stalled before it and replies were withheld. With `no`, nothing.
//!
//! What is acknowledged after the cut began does not count, as no power cut lets anyone hear it: an
//! fdatasync that is under way while a file system is shut down may return success although
//! nothing was written (seen by strace on Linux 6.18).
//!
//! `POWERCUT_CUTS`, `POWERCUT_SEED`, `POWERCUT_POLICY` and `POWERCUT_FS` make another run
//! (`scripts/powercut.sh`).

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use common::power::PoweredDisk;
use common::process::{KillOnPanic, children_fast, send_signal};
use common::writers::{Release, Sent, Settlement, Writer, fill_base};
use common::{
    Launch, Rng, Server, env_number, eventually, skip, skip_without, varied_seed_from_env,
};
use nix::sys::signal::Signal;

const WRITERS: usize = 4;

/// Keys that nobody writes again: they give a rewrite something to do.
const BASE_KEYS: usize = 20_000;

/// Room for the log, its rewrite and its tails that were cut off; only what is used takes space.
/// XFS is not made smaller than 300 MB.
const DISK_BYTES: u64 = 4 << 30;

/// A log longer than this is rewritten before the next cut.
const LOG_BYTES: u64 = 64 << 20;

const FILE_SYSTEMS: [&str; 2] = ["ext4", "xfs"];
const POLICIES: [&str; 3] = ["always", "everysec", "no"];

/// What `everysec` may lose.
const SECOND: Duration = Duration::from_secs(1);

/// When the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Under load.
    Load,
    /// Soon after a start in an empty directory: the log itself is new.
    NewLog,
    /// Soon after the start of a rewrite, whatever it is doing then.
    Rewrite,
    /// While the rewrite's child is held, so that much is written behind the fork.
    HeldRewrite,
    /// Soon after the child's end, while what was written meanwhile is handed over.
    HandOff,
    /// Just after the new file has taken the name.
    Rename,
}

const MOMENTS: [Moment; 6] = [
    Moment::NewLog,
    Moment::Load,
    Moment::Rename,
    Moment::HandOff,
    Moment::HeldRewrite,
    Moment::Rewrite,
];

/// A file system and the server on it.
struct Stage {
    server: Server,
    writers: Vec<Writer>,
    base_keys: usize,
    // Behind the server, which is to be gone first.
    disk: PoweredDisk,
}

/// What a cut did.
struct Outcome {
    /// What a rewrite was doing.
    phase: &'static str,
    acknowledged: usize,
    /// Acknowledged commands that are there.
    kept: usize,
    /// Commands that are there although nobody had been told.
    kept_unacknowledged: usize,
    /// How long before the cut the oldest lost command had been acknowledged.
    oldest_lost: Option<Duration>,
    /// How long before the cut the last acknowledged command had been sent.
    silence: Duration,
    /// Commands that are lost, and were acknowledged after the cut.
    lost_after_cut: usize,
    /// Bytes that the server cut off the log when it started.
    cut_bytes: u64,
}

impl Stage {
    fn new(disk: PoweredDisk, policy: &str, seed: u64) -> Stage {
        Stage { server: start(&disk, policy), writers: writers(seed), base_keys: 0, disk }
    }

    /// Brings the server into the state in which the load begins.
    fn prepare(&mut self, moment: Moment, policy: &str, seed: u64) {
        if moment == Moment::NewLog {
            self.server.kill9();
            self.server = start(&self.disk, policy);
            self.writers = writers(seed);
            self.base_keys = 0;
            return;
        }
        let log = std::fs::metadata(self.server.path("appendonly.aof")).expect("there is a log");
        if self.base_keys == 0 || log.len() > LOG_BYTES {
            if self.base_keys == 0 {
                fill_base(&self.server, BASE_KEYS);
                self.base_keys = BASE_KEYS;
            }
            // From here on these keys are promised under every policy.
            self.server.rewrite();
        }
        assert!(self.server.run(&format!("CONFIG SET appendfsync {policy}")).is_ok());
        self.server.set_flag("appendfsync", policy);
    }

    /// Cuts the power at `moment`, gives it back, and checks what is there.
    fn cut(&mut self, moment: Moment, policy: &str, rng: &mut Rng, story: &str) -> Outcome {
        let port = self.server.port();
        let stop = AtomicBool::new(false);
        let inode = inode(&self.server);
        let (cut_at, phase) = std::thread::scope(|scope| {
            for writer in &mut self.writers {
                scope.spawn(|| writer.write(port, &stop));
            }
            // Writers end with the server, also when something in here panics.
            let _release = Release(&stop);
            let _kill = KillOnPanic(self.server.pid());
            approach(&self.server, moment, policy, inode, rng);
            let phase = phase(&self.server, inode);
            let cut_at = Instant::now();
            self.disk.cut();
            // A server that outlives its disk must not spoil what is on it.
            let most_us = if rng.one_in(8) { 1_500_000 } else { 20_000 };
            pause(rng, most_us);
            // A child that was stopped right after the fork has not yet asked to die with its
            // parent.
            let child = children_fast(self.server.pid());
            self.server.signal(Signal::SIGKILL);
            for child in child {
                send_signal(child, Signal::SIGKILL);
            }
            self.server.kill9();
            (cut_at, phase)
        });
        self.disk.restore_power();
        self.server.restart();
        self.check(cut_at, phase, policy, rng, story)
    }

    fn check(
        &mut self,
        cut_at: Instant,
        phase: &'static str,
        policy: &str,
        rng: &mut Rng,
        story: &str,
    ) -> Outcome {
        let heard = |sent: &Sent| sent.acknowledged < Some(cut_at);
        let counted = |writer: &Writer| writer.acknowledged_ops().partition_point(heard);
        let last_counted = |writer: &Writer| Some(writer.history()[..counted(writer)].last()?.sent);
        let last_sent = self.writers.iter().filter_map(last_counted).max();
        let mut client = self.server.raw();
        let mut settled = Vec::new();
        let mut keys = self.base_keys;
        for writer in &mut self.writers {
            if let Some(at) = writer.refused {
                assert!(at >= cut_at, "{story}: writes were refused before the cut");
            }
            let counted = counted(writer);
            let promised = match policy {
                "always" => counted,
                "everysec" => writer.history()[..counted]
                    .partition_point(|sent| sent.acknowledged.map(|at| at + SECOND) < last_sent),
                _ => 0,
            };
            settled.push(writer.settle(&mut client, promised, story));
            keys += writer.keys();
        }
        check_order(&settled, story);
        let temporary = self.server.temporary_files();
        assert_eq!(temporary, [""; 0], "{story}: temporary files after the start");
        assert_eq!(client.run("DBSIZE").int(), keys as i64, "{story}: DBSIZE");
        for _ in 0..20.min(self.base_keys) {
            let reply = client.run(&format!("GET base:{}", rng.below(self.base_keys)));
            assert_eq!(reply.bytes(), [b'x'; 64], "{story}: a key that nobody wrote again");
        }
        let lost = settled.iter().filter_map(first_lost);
        Outcome {
            phase,
            acknowledged: settled.iter().map(|s| s.acknowledged).sum(),
            kept: settled.iter().map(|s| s.most.min(s.acknowledged)).sum(),
            kept_unacknowledged: settled
                .iter()
                .map(|s| s.most.saturating_sub(s.acknowledged))
                .sum(),
            oldest_lost: lost.map(|at| cut_at.saturating_duration_since(at)).max(),
            silence: last_sent.map_or(Duration::ZERO, |at| cut_at.saturating_duration_since(at)),
            lost_after_cut: settled
                .iter()
                .flat_map(|s| &s.history[s.most.min(s.acknowledged)..s.acknowledged])
                .filter(|sent| sent.acknowledged >= Some(cut_at))
                .count(),
            cut_bytes: remove_cut_tails(&self.server),
        }
    }
}

fn start(disk: &PoweredDisk, policy: &str) -> Server {
    let launch = Launch::new()
        .flag("appendonly", "yes")
        .flag("appendfsync", policy)
        .flag("save", "")
        // A rewrite syncs, and often enough would do the syncer's work: it is asked for.
        .flag("auto-aof-rewrite-percentage", "0");
    launch.start_in(disk.directory())
}

fn writers(seed: u64) -> Vec<Writer> {
    (0..WRITERS).map(|id| Writer::new(id, seed)).collect()
}

/// When the first command that is certainly lost was acknowledged, if it was.
fn first_lost(settled: &Settlement) -> Option<Instant> {
    settled.history.get(settled.most)?.acknowledged
}

/// One log holds all writers' commands, so what survives is its beginning: nothing that was sent
/// after the acknowledgement of something lost.
fn check_order(settled: &[Settlement], story: &str) {
    let lost = settled.iter().filter_map(first_lost).min();
    let kept = settled.iter().filter_map(|s| Some(s.history.get(s.least.checked_sub(1)?)?.sent));
    if let (Some(lost), Some(kept)) = (lost, kept.max()) {
        assert!(
            kept <= lost,
            "OUT OF ORDER: {story}: a command is there that was sent {:?} after the \
             acknowledgement of one that is lost",
            kept - lost
        );
    }
}

fn pause(rng: &mut Rng, most_us: usize) {
    std::thread::sleep(Duration::from_micros(rng.below(most_us) as u64));
}

/// The file that bears the log's name.
fn inode(server: &Server) -> u64 {
    std::fs::metadata(server.path("appendonly.aof")).map_or(0, |metadata| metadata.ino())
}

/// What a rewrite is doing.
fn phase(server: &Server, inode_before: u64) -> &'static str {
    if !children_fast(server.pid()).is_empty() {
        "child writes"
    } else if !server.temporary_files().is_empty() {
        "hand-off"
    } else if inode(server) != inode_before {
        "renamed"
    } else {
        "no rewrite"
    }
}

/// Lets the load run until `moment`, and chance, want the cut.
fn approach(server: &Server, moment: Moment, policy: &str, inode_before: u64, rng: &mut Rng) {
    match (moment, policy) {
        (Moment::NewLog, _) => pause(rng, 60_000),
        // Its promise speaks of a second, so many of its cuts come later than that.
        (_, "everysec") if !rng.one_in(3) => {
            std::thread::sleep(SECOND);
            pause(rng, 1_200_000);
        }
        _ => pause(rng, 300_000),
    }
    if matches!(moment, Moment::NewLog | Moment::Load) {
        return;
    }
    // Replies may be withheld, but not this one: it reads no key.
    let reply = server.run("BGREWRITEAOF");
    assert!(!reply.is_error() || reply.error().contains("in progress"), "{reply:?}");
    let child_is_seen = || children_fast(server.pid()).first().copied();
    match moment {
        Moment::Rewrite => pause(rng, 80_000),
        Moment::HeldRewrite => {
            let deadline = Instant::now() + Duration::from_millis(200);
            while Instant::now() < deadline {
                if let Some(child) = child_is_seen() {
                    send_signal(child, Signal::SIGSTOP);
                    let _kill = KillOnPanic(child);
                    pause(rng, 300_000);
                    if rng.one_in(2) {
                        send_signal(child, Signal::SIGCONT);
                        pause(rng, 50_000);
                    }
                    break;
                }
            }
        }
        Moment::HandOff => {
            eventually("the rewrite's child ends", || child_is_seen().is_none());
            pause(rng, 20_000);
        }
        Moment::Rename => {
            let deadline = Instant::now() + Duration::from_secs(20);
            while inode(server) == inode_before {
                assert!(Instant::now() < deadline, "no new file: {}", server.log_text());
            }
            if rng.one_in(2) {
                pause(rng, 3_000);
            }
        }
        Moment::Load | Moment::NewLog => {}
    }
}

/// Removes the tails that the server has cut off and saved; how many bytes they were. Durably, so
/// that none comes back after the next cut.
fn remove_cut_tails(server: &Server) -> u64 {
    let mut bytes = 0;
    for name in server.files().iter().filter(|name| name.contains(".cut-")) {
        let path = server.path(name);
        bytes += std::fs::metadata(&path).expect("a saved tail").len();
        std::fs::remove_file(&path).expect("remove a saved tail");
        let directory = std::fs::File::open(server.dir()).expect("open the directory");
        directory.sync_all().expect("sync the directory");
    }
    bytes
}

/// The values that the variable `name` chooses from `all`.
fn choice(name: &str, all: &[&'static str]) -> Vec<&'static str> {
    match std::env::var(name) {
        Err(_) => all.to_vec(),
        Ok(wanted) => match all.iter().find(|one| **one == wanted) {
            Some(one) => vec![one],
            None => panic!("{name}={wanted} is none of {all:?}"),
        },
    }
}

#[derive(Default)]
struct Sum {
    cuts: u64,
    acknowledged: u64,
    lost_as_allowed: u64,
    tails: u64,
    tail_bytes: u64,
    oldest_lost_everysec: Duration,
    longest_silence: Duration,
    /// With `always`: acknowledged by a disk that was dead already.
    lost_after_cut: u64,
    kinds: BTreeMap<String, u64>,
}

impl Sum {
    fn add(&mut self, kind: &str, policy: &str, outcome: &Outcome) {
        self.cuts += 1;
        self.acknowledged += outcome.acknowledged as u64;
        self.lost_as_allowed += (outcome.acknowledged - outcome.kept) as u64;
        self.tails += (outcome.cut_bytes > 0) as u64;
        self.tail_bytes += outcome.cut_bytes;
        self.longest_silence = self.longest_silence.max(outcome.silence);
        if policy == "always" {
            self.lost_after_cut += outcome.lost_after_cut as u64;
        }
        if policy == "everysec" {
            let oldest = outcome.oldest_lost.unwrap_or_default();
            self.oldest_lost_everysec = self.oldest_lost_everysec.max(oldest);
        }
        for kind in [kind, policy, outcome.phase] {
            *self.kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }

    fn print(&self) {
        let kinds: Vec<String> = self.kinds.iter().map(|(k, n)| format!("{k} {n}")).collect();
        eprintln!(
            "sum: {} power cuts ({}), {} acknowledged commands, lost against a promise: 0; lost as \
             the policy allows: {}, with everysec at most {} ms old, with always {} acknowledged \
             after the cut; longest wait for the disk {} ms; {} tails of {} bytes cut \
             off",
            self.cuts,
            kinds.join(", "),
            self.acknowledged,
            self.lost_as_allowed,
            self.oldest_lost_everysec.as_millis(),
            self.lost_after_cut,
            self.longest_silence.as_millis(),
            self.tails,
            self.tail_bytes
        );
    }
}

/// The file systems to cut the power of; says which are not to be had here, and why.
fn disks() -> Vec<PoweredDisk> {
    const WHAT: &str = "power cuts";
    if !nix::unistd::geteuid().is_root() {
        skip(WHAT, "not root");
        return Vec::new();
    }
    if let Err(reason) = PoweredDisk::isolate_mounts() {
        skip(WHAT, &reason);
        return Vec::new();
    }
    let mut disks = Vec::new();
    for kind in choice("POWERCUT_FS", &FILE_SYSTEMS) {
        let what = format!("{WHAT} on {kind}");
        if skip_without(&what, &format!("mkfs.{kind}")).is_none() {
            continue;
        }
        match PoweredDisk::create(kind, DISK_BYTES) {
            Ok(disk) => disks.push(disk),
            Err(reason) => skip(&what, &reason),
        }
    }
    disks
}

#[test]
fn power_cuts_lose_nothing_that_was_promised() {
    let seed = varied_seed_from_env("POWERCUT_SEED");
    let cuts = env_number("POWERCUT_CUTS", 30);
    let policies = choice("POWERCUT_POLICY", &POLICIES);
    let disks = disks();
    if disks.is_empty() {
        return;
    }
    eprintln!("POWERCUT_SEED={seed} POWERCUT_CUTS={cuts}");
    let mut rng = Rng::new(seed);
    let mut stages: Vec<Stage> =
        disks.into_iter().map(|disk| Stage::new(disk, policies[0], seed)).collect();
    let mut sum = Sum::default();
    for cut in 0..cuts {
        // Each file system in turn, each policy in turn there; each moment once, then by chance.
        let turn = cut as usize / stages.len();
        let stage = cut as usize % stages.len();
        let policy = policies[turn % policies.len()];
        let moment = match MOMENTS.get(turn) {
            Some(moment) => *moment,
            None => MOMENTS[rng.below(MOMENTS.len())],
        };
        let stage = &mut stages[stage];
        let kind = stage.disk.kind;
        let story = format!("POWERCUT_SEED={seed} cut {cut}: {kind} {policy} {moment:?}");
        eprint!("{story}: ");
        stage.prepare(moment, policy, rng.next());
        let outcome = stage.cut(moment, policy, &mut rng, &story);
        let lost = outcome.acknowledged - outcome.kept;
        eprintln!(
            "{}, {} acknowledged, {} kept, {lost} lost{}, {} of them acknowledged after the cut, \
             {} unacknowledged kept, {} bytes cut off",
            outcome.phase,
            outcome.acknowledged,
            outcome.kept,
            outcome
                .oldest_lost
                .map_or(String::new(), |age| format!(" (up to {} ms old)", age.as_millis())),
            outcome.lost_after_cut,
            outcome.kept_unacknowledged,
            outcome.cut_bytes
        );
        sum.add(kind, policy, &outcome);
    }
    sum.print();
    assert!(sum.acknowledged > 0, "the writers wrote nothing");
    if cuts >= 30 && policies.len() == POLICIES.len() {
        assert!(sum.lost_as_allowed > 0, "cuts under which nothing is ever lost prove nothing");
    }
}
