//! How the loop waits for what comes next.

use super::gathering::Turn;
use super::{Server, elapsed_us};
use crate::sys::clock::mono_us;
use mio::Events;
use std::io;
use std::thread;
use std::time::Duration;

impl Server {
    /// Waits until an event comes or something is due, after `turn`. All that it owes to the log and to
    /// clients has been done by then: waiting longer postpones nothing that was promised.
    ///
    /// With `busy-poll-usec` it first goes on asking for that long, since being woken takes longer
    /// than an answer. Else, under load by many clients, it pauses for up to `gather-usec`, so that
    /// their requests gather ([`Gathering`](super::gathering::Gathering)). Not while replies wait for
    /// the disk, whose word must not be kept waiting.
    ///
    /// # Errors
    /// Those of epoll_wait(2).
    pub(super) fn wait_for_events(&mut self, events: &mut Events, turn: Turn) -> io::Result<()> {
        let sleep = self.sleep_time();
        let config = &self.engine.registries.config;
        if sleep.is_zero() {
            return self.poll.poll(events, Some(sleep));
        }
        if config.busy_poll_us > 0 {
            return self.spin(events, sleep);
        }
        if config.gather_us == 0 {
            return self.poll.poll(events, Some(sleep));
        }
        let start = mono_us();
        let pause_max = Duration::from_micros(config.gather_us.into()).min(sleep);
        let pause = self.gathering.pause_after(turn, start);
        let polled = match pause.filter(|_| self.attention.waiting.is_empty()) {
            None => self.poll.poll(events, Some(sleep)),
            Some(pause) => {
                thread::sleep(pause.min(pause_max));
                self.poll.poll(events, Some(self.sleep_time()))
            }
        };
        self.gathering.sleep(elapsed_us(start));
        polled
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
