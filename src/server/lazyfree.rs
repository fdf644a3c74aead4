//! Freeing on a helper thread what would hold the loop up: flushed databases, large values.

use crate::engine::memory::FreedElsewhere;
use crate::keyspace::Garbage;
use crate::persist::background::Waker;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// The loop's end of the thread. Dropping it lets the thread end once it has freed what it was
/// given, and does not wait for that. A forked child has no such thread; what it was freeing at the
/// fork stays in the child's memory, where nothing refers to it.
pub(super) struct Lazyfree {
    jobs: Sender<Vec<Garbage>>,
    counts: Arc<FreedElsewhere>,
    /// Keys and values given to the thread since the start.
    handed: u64,
    /// How many were freed when the statistics were last reset.
    freed_before: u64,
}

impl Lazyfree {
    /// Starts the thread, which keeps account of what it frees in `counts`. It calls `wake` whenever
    /// it has freed what held a database: somebody may wait.
    ///
    /// # Errors
    /// Those of creating a thread.
    pub(super) fn spawn(counts: Arc<FreedElsewhere>, wake: Waker) -> io::Result<Lazyfree> {
        let (jobs, inbox) = channel::<Vec<Garbage>>();
        let counted = Arc::clone(&counts);
        thread::Builder::new().name("lazyfree".into()).spawn(move || {
            for batch in inbox {
                let holds_database = batch.iter().any(Garbage::is_database);
                batch.into_iter().for_each(|garbage| counted.free(garbage));
                if holds_database {
                    wake();
                }
            }
        })?;
        Ok(Lazyfree { jobs, counts, handed: 0, freed_before: 0 })
    }

    /// Hands garbage to the thread. Were it gone, which only a panic in it can bring about, it is
    /// freed here.
    pub(super) fn free(&mut self, garbage: Vec<Garbage>) {
        self.handed += garbage.iter().map(Garbage::objects).sum::<u64>();
        self.counts.hand_over(&garbage);
        if let Err(unsent) = self.jobs.send(garbage) {
            unsent.0.into_iter().for_each(|garbage| self.counts.free(garbage));
        }
    }

    /// Keys and values that the thread has yet to free.
    pub(super) fn pending(&self) -> u64 {
        self.counts.pending()
    }

    /// Keys and values that it has freed since the start or the last reset.
    pub(super) fn freed(&self) -> u64 {
        self.counts.freed() - self.freed_before
    }

    /// Keys and values given to the thread since the start.
    pub(super) fn handed(&self) -> u64 {
        self.handed
    }

    /// Whether so many keys and values have been freed since the start. They are freed in the order
    /// in which they were handed over.
    pub(super) fn has_freed(&self, target: u64) -> bool {
        self.counts.freed() >= target
    }

    /// Counts what is freed from 0 again.
    pub(super) fn reset_statistics(&mut self) {
        self.freed_before = self.counts.freed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{NewValue, Value};
    use crate::keyspace::{Database, Deadline, HashKey};

    #[test]
    fn what_is_handed_over_is_freed_and_counted() {
        let mut lazyfree = Lazyfree::spawn(Arc::default(), Arc::new(|| ())).expect("a thread");
        let mut db = Database::new(HashKey::from_seed(1));
        for n in 0..1_000 {
            db.set(&n.to_string().into_bytes(), NewValue::Int(n), Deadline::Clear);
        }
        lazyfree.free(vec![
            Garbage::Database(Box::new(db)),
            Garbage::Value(Value::String(vec![0; 1 << 20])),
        ]);
        while lazyfree.pending() > 0 {
            thread::yield_now();
        }
        assert_eq!(lazyfree.freed(), 1_001);
        lazyfree.reset_statistics();
        assert_eq!(lazyfree.freed(), 0);
        lazyfree.free(vec![Garbage::Value(Value::Int(1))]);
        while lazyfree.freed() != 1 {
            thread::yield_now();
        }
    }
}
