//! kill -9 at any moment loses nothing that was acknowledged.
//!
//! Several writers, each on keys of its own, send pipelined commands and keep a model of what
//! they sent and what was acknowledged. The server (in turns its rewrite child) is killed at a
//! random moment and started again. Then each writer's keys must be what its model says after
//! some number of its commands, at least the acknowledged ones, at most the sent ones: a suffix
//! that nobody heard of may be missing, but nothing before it, nothing out of order, and no part
//! of a transaction without the rest.
//!
//! `KILL9_ROUNDS=n` and `KILL9_SEED=n` make a longer run (`scripts/kill9.sh`).

mod common;

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use common::process::{children_fast, send_signal};
use common::writers::{Release, Writer, fill_base};
use common::{Launch, Rng, Server, env_number, eventually, varied_seed_from_env};
use nix::sys::signal::Signal;

const WRITERS: usize = 4;

/// Keys that nobody writes again: they give a rewrite something to do.
const BASE_KEYS: usize = 20_000;

/// What is done to the server in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// kill -9.
    Kill,
    /// kill -9 while a rewrite runs, or soon after its end.
    KillInRewrite,
    /// kill -9 for the rewrite's child; the server must go on, and is killed later.
    KillChild,
    /// SIGTERM while clients write.
    Terminate,
}

#[derive(Default)]
struct Sum {
    rounds: u64,
    rewrites: u64,
    children_killed: u64,
    unacknowledged: u64,
    kept: u64,
}

fn run(policy: &str) {
    let seed = varied_seed_from_env("KILL9_SEED");
    let rounds = env_number("KILL9_ROUNDS", 8);
    eprintln!("KILL9_SEED={seed} KILL9_ROUNDS={rounds} policy {policy}");
    let mut rng = Rng::new(seed);
    let mut server = Launch::new()
        .flag("appendonly", "yes")
        .flag("appendfsync", policy)
        .flag("save", "")
        .flag("auto-aof-rewrite-min-size", "16mb")
        .start();
    fill_base(&server, BASE_KEYS);
    let mut writers: Vec<Writer> = (0..WRITERS).map(|id| Writer::new(id, seed)).collect();
    let mut sum = Sum::default();
    for round in 0..rounds {
        // The first rounds take each blow once; then chance decides.
        let blows = [Blow::Kill, Blow::KillInRewrite, Blow::KillChild, Blow::Terminate];
        let blow = blows.get(round as usize).copied().unwrap_or_else(|| blows[rng.below(4)]);
        let story = format!("KILL9_SEED={seed} policy {policy} round {round} ({blow:?})");
        let port = server.port();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(|| writer.write(port, &stop));
            }
            // Released also by a panic in here, so that the writers end.
            let _release = Release(&stop);
            strike(&mut server, blow, &mut rng, &mut sum);
        });
        server.restart();
        assert_eq!(server.temporary_files(), [""; 0], "{story}: temporary files after the start");
        let mut client = server.raw();
        let mut keys = BASE_KEYS;
        for writer in &mut writers {
            assert_eq!(writer.refused, None, "{story}: a write was refused");
            let floor = writer.acknowledged_ops().len();
            let settled = writer.settle(&mut client, floor, &story);
            sum.unacknowledged += (settled.history.len() - settled.acknowledged) as u64;
            // What cannot be told apart from what was acknowledged counts as not kept.
            sum.kept += settled.least.saturating_sub(settled.acknowledged) as u64;
            keys += writer.keys();
        }
        assert_eq!(client.run("DBSIZE").int(), keys as i64, "{story}: DBSIZE");
        sum.rounds += 1;
    }
    let acknowledged: u64 = writers.iter().map(Writer::acknowledged).sum();
    assert!(acknowledged > 0, "the writers wrote nothing");
    eprintln!(
        "policy {policy}: {} rounds, {} rewrites begun, {} rewrite children killed, {acknowledged} \
         acknowledged commands, lost 0 (of {} in flight at the kills {} were kept)",
        sum.rounds, sum.rewrites, sum.children_killed, sum.unacknowledged, sum.kept
    );
}

fn pause(rng: &mut Rng, most_us: usize) {
    std::thread::sleep(Duration::from_micros(rng.below(most_us) as u64));
}

/// Ends the server, in the way of `blow`, at a moment that chance chooses.
fn strike(server: &mut Server, blow: Blow, rng: &mut Rng, sum: &mut Sum) {
    pause(rng, 150_000);
    match blow {
        Blow::Kill => server.kill9(),
        Blow::Terminate => {
            assert_eq!(server.stop().code(), Some(0), "SIGTERM ends with 0: {}", server.log_text());
        }
        Blow::KillInRewrite => {
            if let Some(child) = start_rewrite(server, sum) {
                // Holding the child makes the rewrite last, so that writes gather behind the fork.
                if rng.one_in(2) && send_signal(child, Signal::SIGSTOP) {
                    pause(rng, 50_000);
                    send_signal(child, Signal::SIGCONT);
                }
            }
            pause(rng, 60_000);
            server.kill9();
        }
        Blow::KillChild => {
            if let Some(child) = start_rewrite(server, sum) {
                pause(rng, 5_000);
                send_signal(child, Signal::SIGSTOP);
                pause(rng, 20_000);
                sum.children_killed += send_signal(child, Signal::SIGKILL) as u64;
            }
            let mut client = server.raw();
            server.wait_rewrite_end(&mut client);
            // The file of a killed child goes a moment after the child.
            eventually("no temporary file of the killed child", || {
                server.temporary_files().is_empty()
            });
            pause(rng, 50_000);
            server.kill9();
        }
    }
}

/// Starts a rewrite; its child, unless it ended before it was seen.
fn start_rewrite(server: &Server, sum: &mut Sum) -> Option<u32> {
    let mut client = server.raw();
    let reply = client.run("BGREWRITEAOF");
    // An automatic one may be under way already.
    assert!(!reply.is_error() || reply.error().contains("in progress"), "{reply:?}");
    sum.rewrites += 1;
    let deadline = Instant::now() + Duration::from_millis(200);
    while Instant::now() < deadline {
        if let Some(child) = children_fast(server.pid()).first() {
            return Some(*child);
        }
    }
    None
}

#[test]
fn kill9_loses_nothing_acknowledged_with_always() {
    run("always");
}

#[test]
fn kill9_loses_nothing_acknowledged_with_everysec() {
    run("everysec");
}

#[test]
fn kill9_loses_nothing_acknowledged_with_no() {
    run("no");
}
