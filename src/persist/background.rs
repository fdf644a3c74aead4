//! A helper thread that does one kind of job in order. The syncer is one, the rewrite's hand-off is
//! another.
//!
//! A helper thread never logs (a forked child could inherit a held lock of the logger) and keeps no
//! state: everything it learns goes back to the loop as a result, followed by a wake-up.

#[cfg(test)]
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

/// Wakes the loop from a helper thread after a result was left for it.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Work for a helper thread.
pub trait Job: Send + 'static {
    /// What comes of it.
    type Done: Send + 'static;

    /// Does the work; may block for as long as the disk does.
    fn run(self) -> Self::Done;
}

/// The helper thread has ended though jobs were left; only a panic in a job can do that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// The loop's end of a helper thread. Dropping it lets the jobs already given finish, and waits for
/// them; a forked child, where the thread does not exist, must therefore never drop it.
pub struct Background<J: Job> {
    runner: Runner<J>,
}

enum Runner<J: Job> {
    Thread {
        /// `None` only while dropping.
        jobs: Option<Sender<J>>,
        results: Receiver<J::Done>,
        thread: Option<JoinHandle<()>>,
    },
    /// Jobs run when the test says so.
    #[cfg(test)]
    Stepped { jobs: VecDeque<J>, results: VecDeque<J::Done> },
}

impl<J: Job> Background<J> {
    /// Starts a thread named `name`, which calls `waker` after each job. Signals must have been
    /// blocked before, so that they reach the loop's signalfd.
    ///
    /// # Errors
    /// Those of creating a thread.
    pub fn spawn(name: &str, waker: Waker) -> io::Result<Background<J>> {
        let (jobs, inbox) = channel::<J>();
        let (outbox, results) = channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Ok(job) = inbox.recv() {
                // An error means that the loop's end is gone, and nobody is left to care.
                if outbox.send(job.run()).is_err() {
                    return;
                }
                // After the result was sent: a loop that was woken must find it.
                waker();
            }
        })?;
        Ok(Background {
            runner: Runner::Thread { jobs: Some(jobs), results, thread: Some(thread) },
        })
    }

    /// One whose jobs run by [`Background::step`], so that a test decides when.
    #[cfg(test)]
    pub fn stepped() -> Background<J> {
        Background { runner: Runner::Stepped { jobs: VecDeque::new(), results: VecDeque::new() } }
    }

    /// Queues a job.
    ///
    /// # Errors
    /// [`Gone`] if the thread has ended.
    pub fn submit(&mut self, job: J) -> Result<(), Gone> {
        match &mut self.runner {
            Runner::Thread { jobs, .. } => jobs.as_ref().ok_or(Gone)?.send(job).map_err(|_| Gone),
            #[cfg(test)]
            Runner::Stepped { jobs, .. } => {
                jobs.push_back(job);
                Ok(())
            }
        }
    }

    /// The next result, if there is one. Does not block.
    ///
    /// # Errors
    /// [`Gone`] if the thread has ended.
    pub fn poll(&mut self) -> Result<Option<J::Done>, Gone> {
        match &mut self.runner {
            Runner::Thread { results, .. } => match results.try_recv() {
                Ok(done) => Ok(Some(done)),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => Err(Gone),
            },
            #[cfg(test)]
            Runner::Stepped { results, .. } => Ok(results.pop_front()),
        }
    }

    /// The next result; blocks until there is one. Only for shutting down and for tests, and only
    /// while a job is outstanding.
    ///
    /// # Errors
    /// [`Gone`] if the thread has ended.
    pub fn wait(&mut self) -> Result<J::Done, Gone> {
        match &mut self.runner {
            Runner::Thread { results, .. } => results.recv().map_err(|_| Gone),
            #[cfg(test)]
            Runner::Stepped { jobs, results } => {
                if results.is_empty() {
                    results.extend(jobs.pop_front().map(Job::run));
                }
                results.pop_front().ok_or(Gone)
            }
        }
    }

    /// Runs the oldest queued job and tells whether there was one.
    #[cfg(test)]
    pub fn step(&mut self) -> bool {
        let Runner::Stepped { jobs, results } = &mut self.runner else { return false };
        let Some(job) = jobs.pop_front() else { return false };
        results.push_back(job.run());
        true
    }
}

impl<J: Job> Drop for Background<J> {
    fn drop(&mut self) {
        match &mut self.runner {
            Runner::Thread { jobs, thread, .. } => {
                // Closing the channel is what ends the thread, so it comes first.
                jobs.take();
                if let Some(thread) = thread.take() {
                    // A panic of the thread has been printed by its own hook.
                    thread.join().ok();
                }
            }
            #[cfg(test)]
            Runner::Stepped { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Square(u64);

    impl Job for Square {
        type Done = u64;

        fn run(self) -> u64 {
            self.0 * self.0
        }
    }

    #[test]
    fn results_come_in_order_and_each_wakes_the_loop() -> io::Result<()> {
        let woken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&woken);
        let waker: Waker = Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let mut squares = Background::spawn("squares", waker)?;
        for n in 0..100 {
            squares.submit(Square(n)).expect("alive");
        }
        for n in 0..100 {
            assert_eq!(squares.wait(), Ok(n * n));
        }
        assert_eq!(squares.poll(), Ok(None));
        drop(squares);
        assert_eq!(woken.load(Ordering::SeqCst), 100);
        Ok(())
    }

    struct Panics;

    impl Job for Panics {
        type Done = ();

        fn run(self) {
            panic!("on purpose");
        }
    }

    #[test]
    fn a_thread_that_died_is_reported() -> io::Result<()> {
        let mut background = Background::spawn("panics", Arc::new(|| {}))?;
        background.submit(Panics).expect("alive");
        assert_eq!(background.wait(), Err(Gone));
        assert_eq!(background.poll(), Err(Gone));
        Ok(())
    }
}
