//! Whether it pays to let requests gather: to be woken for a single one costs the loop, and the
//! client's side, more than the request does.

use crate::sys::clock::MonoUs;
use std::time::Duration;

/// What is true lately is what was so in this time, microseconds: some ten turns under load.
const WINDOW_US: u64 = 1_000;

/// For so many windows the loop must have been busy, so that it does not gather only because a stall has
/// left it something to catch up with.
const BUSY_WINDOWS_MIN: u32 = 8;

/// For how much of a window a busy loop is asleep at most, percent; the more so once it pauses, which
/// counts as sleep and makes each request cheaper. One bound for both would have it change its mind all the
/// time.
const ASLEEP_MAX: u64 = 60;
const ASLEEP_MAX_GATHERING: u64 = 80;

/// With fewer clients a pause is long beside a turn: 16 would lose a tenth of their throughput, 24 win
/// nothing.
const CLIENTS_MIN: usize = 32;

/// With more of them a turn is long, and what it costs to be woken is shared by many as it is.
const CLIENTS_MAX: usize = 1024;

/// What a turn did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// Connections that something had come from.
    pub connections: usize,
    /// Commands run.
    pub commands: u64,
}

/// Watches how many clients send something, and whether the loop is busy.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// When the window began.
    since: MonoUs,
    /// Clients heard in it.
    heard: usize,
    /// For how long of it the loop was asleep, microseconds.
    asleep_us: u64,
    /// Clients heard in the window before.
    clients: usize,
    /// Windows on end in which the loop was busy.
    busy_windows: u32,
}

impl Gathering {
    /// A client has sent something; the time before it did so at `before`.
    pub(super) fn hear(&mut self, before: MonoUs) {
        self.heard += usize::from(before < self.since);
    }

    /// The loop was asleep for so long, microseconds.
    pub(super) fn sleep(&mut self, us: u64) {
        self.asleep_us += us;
    }

    /// Whether it pays for the clients heard in the last window.
    fn is_gathering(&self) -> bool {
        self.busy_windows >= BUSY_WINDOWS_MIN && (CLIENTS_MIN..=CLIENTS_MAX).contains(&self.clients)
    }

    /// How long to pause after `turn`, which ended at `now`. Not at all where the loop has time anyway,
    /// so that nobody's request is kept waiting for nothing; nor where most clients have been served
    /// just now: they, or whoever sends for them, must not wait for work. Else a microsecond a client
    /// (half as long gives the same throughput, but costs the loop 6 % more time a request), or half of
    /// one where they send pipelines.
    pub(super) fn pause_after(&mut self, turn: Turn, now: MonoUs) -> Option<Duration> {
        let window_us = now.since(self.since);
        if window_us >= WINDOW_US {
            let asleep_max = if self.is_gathering() { ASLEEP_MAX_GATHERING } else { ASLEEP_MAX };
            let is_busy = self.asleep_us * 100 <= window_us * asleep_max;
            let busy_windows = if is_busy { self.busy_windows.saturating_add(1) } else { 0 };
            let clients = self.heard;
            *self = Gathering { since: now, clients, busy_windows, ..Gathering::default() };
        }
        let clients = self.clients;
        let pays = self.is_gathering() && turn.connections * 2 <= clients;
        // A pipeline is work for longer, for both sides.
        let sharing = if turn.commands > 2 * turn.connections as u64 { 2 } else { 1 };
        pays.then(|| Duration::from_micros((clients / sharing) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN_US: u64 = 100;

    /// A loop that serves `clients`, some in each turn of 100 microseconds, and sleeps for a part
    /// of it. Returns the pause behind the last turn.
    fn after_ten_ms(clients: usize, connections: usize, asleep_us: u64) -> Option<Duration> {
        after_ten_ms_of(1, clients, connections, asleep_us)
    }

    /// The same, each with a pipeline of so many requests.
    fn after_ten_ms_of(
        pipeline: u64,
        clients: usize,
        connections: usize,
        asleep_us: u64,
    ) -> Option<Duration> {
        let turn_of = |connections| Turn { connections, commands: connections as u64 * pipeline };
        let mut gathering = Gathering::default();
        let mut last_heard = vec![MonoUs(0); clients];
        let (mut next, mut pause) = (0, None);
        for turn in 1..=100 {
            let now = MonoUs(5_000_000 + turn * TURN_US);
            for _ in 0..connections {
                gathering.hear(std::mem::replace(&mut last_heard[next], now));
                next = (next + 1) % clients;
            }
            pause =
                gathering.pause_after(turn_of(connections), MonoUs(now.0 + TURN_US - asleep_us));
            gathering.sleep(asleep_us);
        }
        pause
    }

    #[test]
    fn many_clients_of_a_busy_loop_gather() {
        let pause = |us| Some(Duration::from_micros(us));
        assert_eq!(after_ten_ms(50, 8, 20), pause(50));
        assert_eq!(after_ten_ms(32, 16, 20), pause(32));
        assert_eq!(after_ten_ms_of(16, 50, 8, 20), pause(25));
        // More than a window's turns can serve.
        assert_eq!(after_ten_ms(1_024, 20, 0), pause(200));
        assert_eq!(after_ten_ms(50, 8, 65), None, "a loop that has time anyway");
        assert_eq!(after_ten_ms(31, 4, 20), None, "few clients wait for each other");
        assert_eq!(after_ten_ms(50, 26, 20), None, "the others would have nothing to do");
        assert_eq!(after_ten_ms(1, 1, 0), None);
    }

    /// Clients that all say something in each window.
    struct Windows {
        clients: usize,
        gathering: Gathering,
        now: MonoUs,
    }

    impl Windows {
        fn new() -> Windows {
            Windows { clients: 50, gathering: Gathering::default(), now: MonoUs(1_000_000) }
        }

        /// A window of so many microseconds, asleep for a part of it. Returns whether a pause follows.
        fn pass(&mut self, us: u64, asleep_us: u64) -> bool {
            (0..self.clients).for_each(|_| self.gathering.hear(MonoUs(0)));
            self.gathering.sleep(asleep_us);
            self.now.0 += us;
            self.gathering.pause_after(Turn { connections: 8, commands: 8 }, self.now).is_some()
        }
    }

    #[test]
    fn a_loop_that_has_slept_or_been_stalled_takes_what_comes_at_once() {
        let mut windows = Windows::new();
        assert!(!windows.pass(50_000, 0), "one long stall, and much to catch up with");
        for _ in 2..8 {
            assert!(!windows.pass(1_000, 0));
        }
        assert!(windows.pass(1_000, 500), "busy for long enough");
        assert!(!windows.pass(500_000, 499_000));
        assert!(!windows.pass(1_000, 0));
    }

    #[test]
    fn pauses_do_not_make_a_loop_look_idle_again() {
        let mut windows = Windows::new();
        for _ in 1..8 {
            assert!(!windows.pass(1_000, 600));
        }
        for _ in 0..8 {
            assert!(windows.pass(1_000, 600));
            assert!(windows.pass(1_000, 800));
        }
        assert!(!windows.pass(1_000, 801));
        for _ in 0..8 {
            assert!(!windows.pass(1_000, 601), "not busy enough to begin");
        }
        let mut windows = Windows { clients: 10, ..Windows::new() };
        for _ in 0..16 {
            assert!(!windows.pass(1_000, 600), "few clients");
        }
        windows.clients = 50;
        for _ in 0..16 {
            assert!(!windows.pass(1_000, 700), "it has not paused for those before");
        }
    }
}
