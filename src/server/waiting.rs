//! How the loop waits for what comes next.

use super::{Server, elapsed_us};
use crate::sys::clock::mono_us;
use mio::Events;
use std::io;
use std::thread;
use std::time::Duration;

/// With fewer connections served in a turn the pause would be too long beside it: ten clients in
/// a row would lose a third of their throughput.
const GATHER_CONNECTIONS_MIN: usize = 16;

/// With more of them a turn is long, and what it costs to be woken is shared by many as it is.
const GATHER_CONNECTIONS_MAX: usize = 256;

/// The most requests a connection, on average, of a turn that a pause follows. Where they come in
/// pipelines the loop has enough to do.
const GATHER_PIPELINE_MAX: u64 = 2;

/// What the loop did in a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TurnLoad {
    /// Connections that something had come from.
    pub connections: usize,
    /// Commands run.
    pub commands: u64,
}

impl TurnLoad {
    /// Whether requests come one by one from many clients, so that it pays to let some gather.
    fn is_scattered(self) -> bool {
        (GATHER_CONNECTIONS_MIN..=GATHER_CONNECTIONS_MAX).contains(&self.connections)
            && self.commands <= self.connections as u64 * GATHER_PIPELINE_MAX
    }
}

impl Server {
    /// Waits until an event comes or something is due, after a turn that did `load`. All that the
    /// turn owes to the log and to clients has been done by then: waiting longer postpones nothing
    /// that was promised.
    ///
    /// With `busy-poll-usec` it first goes on asking for that long, since being woken takes longer
    /// than an answer. Else, under load by many clients, it pauses for `gather-usec`: being woken
    /// for a single request costs the loop, and the one who wakes it, more than the request does.
    /// Not while replies wait for the disk, whose word must not be kept waiting.
    ///
    /// # Errors
    /// Those of epoll_wait(2).
    pub(super) fn wait_for_events(
        &mut self,
        events: &mut Events,
        load: TurnLoad,
    ) -> io::Result<()> {
        let sleep = self.sleep_time();
        let config = &self.engine.registries.config;
        if sleep.is_zero() {
            return self.poll.poll(events, Some(sleep));
        }
        if config.busy_poll_us > 0 {
            return self.spin(events, sleep);
        }
        if config.gather_us > 0 && load.is_scattered() && self.attention.waiting.is_empty() {
            thread::sleep(Duration::from_micros(config.gather_us.into()).min(sleep));
            return self.poll.poll(events, Some(self.sleep_time()));
        }
        self.poll.poll(events, Some(sleep))
    }

    fn spin(&mut self, events: &mut Events, sleep: Duration) -> io::Result<()> {
        let start = mono_us();
        let spin_us = u64::from(self.engine.registries.config.busy_poll_us);
        let spin_us = spin_us.min(u64::try_from(sleep.as_micros()).unwrap_or(u64::MAX));
        while elapsed_us(start) < spin_us {
            self.poll.poll(events, Some(Duration::ZERO))?;
            if !events.is_empty() {
                return Ok(());
            }
        }
        // Time has passed, and what is due has come nearer.
        self.poll.poll(events, Some(self.sleep_time()))
    }

    /// How long nothing will have to be done, unless an event comes.
    fn sleep_time(&self) -> Duration {
        let attention = &self.attention;
        let is_busy = !attention.ready.is_empty() || !attention.touched.is_empty();
        let evicts = self.engine.registries.eviction.goes_on && !self.log.holds_writers();
        if is_busy || evicts || self.loading.is_some() {
            return Duration::ZERO;
        }
        let mut due = self.cron.due();
        if let Some(log_due) = self.log.next_wakeup(self.now) {
            due = due.min(log_due);
        }
        if let Some(patience) = self.next_end_of_patience() {
            due = due.min(patience);
        }
        // Rounded up to the millisecond that epoll counts in, so that the loop does not spin
        // through the last one.
        let us = due.since(mono_us());
        Duration::from_millis(us.div_ceil(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_gathered_where_many_clients_send_one_each() {
        let scattered = |connections, commands| TurnLoad { connections, commands }.is_scattered();
        assert!(scattered(50, 50) && scattered(16, 16) && scattered(256, 256));
        assert!(!scattered(1, 1) && !scattered(15, 15), "few clients wait for each other");
        assert!(!scattered(257, 257), "a long turn is efficient");
        assert!(!scattered(50, 800), "pipelines");
    }
}
