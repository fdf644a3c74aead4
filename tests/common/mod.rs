//! What every integration test shares: the real binary in a directory of its own ([`Server`]), a
//! client that sees bytes ([`Raw`]), seeded chance ([`Rng`]), and the record of what was skipped.

// Every test crate compiles this module whole and uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod aof;
pub mod faulted;
pub mod faulty;
pub mod output;
pub mod port;
pub mod power;
pub mod process;
pub mod raw;
pub mod rng;
pub mod server;
pub mod skip;
pub mod slow_disk;
pub mod trace;
pub mod writers;

pub use faulty::FaultySystem;
pub use raw::{Frame, Raw, Reply};
pub use rng::Rng;
pub use server::{Launch, Server};
pub use skip::{skip, skip_without};
pub use slow_disk::SlowDisk;

use std::time::{Duration, Instant};

/// How long anything that must happen may take before a test fails. Generous, since it only ever
/// runs out when something is broken, and build machines stall.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls `condition` until it holds; panics, naming `what`, when [`PATIENCE`] runs out. For things
/// that announce themselves by no event (a file's length, a field of INFO).
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "gave up after {PATIENCE:?} waiting for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An environment variable as a number; `default` when it is not set. Panics when it is set to
/// something else, so that a mistyped setting is never silently the default.
pub fn env_number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// A seed: the value of the variable `name`, or 1, so that a run without it can be repeated.
pub fn seed_from_env(name: &str) -> u64 {
    env_number(name, 1)
}

/// A seed for a test that strikes at moments, which no seed repeats: the value of the variable
/// `name`, or one drawn from the clock. Printed by the caller.
pub fn varied_seed_from_env(name: &str) -> u64 {
    let clock = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |since| since.as_nanos() as u64 % 1_000_000_007);
    env_number(name, clock)
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is past 1970").as_millis() as i64
}

/// `bytes` as readable text: printable ASCII as it is, the rest escaped, long runs cut in the
/// middle. For messages only.
pub fn show(bytes: &[u8]) -> String {
    const WHOLE: usize = 400;
    const EDGE: usize = 150;
    if bytes.len() <= WHOLE {
        return bytes.escape_ascii().to_string();
    }
    let (head, tail) = (&bytes[..EDGE], &bytes[bytes.len() - EDGE..]);
    format!(
        "{}[... {} bytes ...]{}",
        head.escape_ascii(),
        bytes.len() - 2 * EDGE,
        tail.escape_ascii()
    )
}
