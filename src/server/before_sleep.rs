//! What is done at the end of each turn, in the order that durability needs.

use super::{Server, Waiting, elapsed_us};
use crate::engine::latency::LatencyEvent;
use crate::sys::clock::mono_us;
use std::time::Duration;

impl Server {
    pub(super) fn before_sleep(&mut self) {
        // 1. The log first: a reply sent before its record reached the kernel could outlive it.
        self.write_log();
        // 2. A fork must find the log's buffer empty: what the child writes is then just what the
        //    log holds up to here, and what comes later goes into the rewrite-diff.
        self.tend_rewrite();
        if self.log.refuses_writes() || self.engine.registries.write_refusal.is_some() {
            self.engine.registries.write_refusal = self.log.refusal();
        }
        self.serve_blocked();
        // 3. Replies, as far as the log has come.
        self.release_replies();
        // 4. The rest.
        self.resume_paused();
        self.evict_clients();
        self.close_doomed();
    }

    /// Writes what the log holds, if that is anything, and notes how long it took.
    pub(super) fn write_log(&mut self) {
        if self.log.appended() == self.log.written() {
            return self.log.flush(self.now);
        }
        let start = mono_us();
        let delay_us = self.engine.registries.debug.log_write_delay_us;
        if delay_us > 0 {
            // That is what DEBUG AOF-FLUSH-SLEEP is for.
            std::thread::sleep(Duration::from_micros(delay_us));
        }
        self.log.flush(self.now);
        let took = elapsed_us(start);
        self.cron.apart_us += took;
        let registries = &mut self.engine.registries;
        registries.note_latency(LatencyEvent::AofWrite, took, self.now.unix);
        let longest = &mut registries.figures.longest_log_write_us;
        *longest = took.max(*longest);
    }

    fn release_replies(&mut self) {
        let open_to = self.log.open_to(self.now);
        let mut touched = std::mem::take(&mut self.attention.touched);
        for key in touched.drain(..) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.is_touched = false;
            let sendable = connection.outbox.release(open_to);
            if connection.outbox.withheld() > 0 {
                let client = connection.session.id;
                let gate = connection.outbox.last_gate();
                self.attention.waiting.push_back(Waiting { gate, key, client });
            }
            if sendable || connection.session.close_after_reply {
                self.send(key);
            }
        }
        // Those that have more to send are in a new list.
        if self.attention.touched.is_empty() {
            self.attention.touched = touched;
        }
        while let Some(&Waiting { gate, key, client }) = self.attention.waiting.front() {
            if gate > open_to {
                break;
            }
            self.attention.waiting.pop_front();
            let connection = self.connections.get_mut(key);
            if let Some(connection) = connection.filter(|c| c.session.id == client)
                && connection.outbox.release(open_to)
            {
                self.send(key);
            }
        }
    }

    /// Appends to the log what the last command, or whole transaction, has to say to it.
    pub(super) fn log_effects(&mut self) {
        self.free_garbage();
        let effects = &mut self.engine.effects;
        if effects.record_count() == 0 {
            return;
        }
        let single = effects.single_count();
        for (db, record) in effects.records().take(single) {
            self.log.append(db, record);
        }
        let together = effects.records().skip(single);
        if together.len() > 1 {
            self.log.append_transaction(together);
        } else {
            together.for_each(|(db, record)| self.log.append(db, record));
        }
        effects.clear_records();
    }

    /// Hands what is to be freed to the helper thread.
    pub(super) fn free_garbage(&mut self) {
        let garbage = &mut self.engine.effects.garbage;
        if !garbage.is_empty() {
            self.lazyfree.free(std::mem::take(garbage));
        }
    }

    /// Appends the DELs of keys that cron has removed. One by one: they belong together no more
    /// than their deadlines do.
    pub(super) fn log_removed(&mut self) {
        self.free_garbage();
        let effects = &mut self.engine.effects;
        effects.records().for_each(|(db, record)| self.log.append(db, record));
        effects.clear_records();
    }
}
