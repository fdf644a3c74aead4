//! How the log begins and ends: at start, at shutdown, and by `appendonly` while running.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use super::background::Gone;
use super::base::{BaseOptions, BaseWriter};
use super::gate::{Ages, Floors};
use super::handoff::{HandOffJob, Work};
use super::load::Loader;
use super::log::{AppendLog, LogEvent, Mode, Sink, unix_ms};
use super::storage::{LogFile, describe};
use super::tail::Tail;
use crate::sys::clock::Now;

impl AppendLog {
    /// Puts the log on: goes on behind what `loader` has loaded to its end, or begins a new file
    /// if there was none. Removes temporary files of a dead run. Blocks for the disk: for use
    /// before serving.
    ///
    /// # Errors
    /// Those of the files; the log is then still off.
    pub fn resume(&mut self, loader: Loader, now: Now) -> io::Result<()> {
        self.remove_stale_temps()?;
        let tail = match loader.into_tail() {
            Some(tail) => self.continue_file(tail, now)?,
            None => self.create_file(now)?,
        };
        self.base_bytes = tail.end();
        let id = self.new_sink_id();
        let end = self.appended();
        self.sinks.push(Sink { id, tail, written: end, durable: end, poisoned: false });
        self.mode = Mode::On;
        Ok(())
    }

    /// Makes what was loaded safe to build on.
    fn continue_file(&self, mut tail: Tail, now: Now) -> io::Result<Tail> {
        // The file may have been read from the page cache of a machine that a server was killed
        // on: neither its bytes nor the rename that named it need be durable. Both must be before
        // the first new promise, which counts only what is appended from now on.
        tail.file().sync_data()?;
        self.storage.sync_dir()?;
        tail.begin_life(unix_ms(now))?;
        if self.options.seals {
            tail.begin_sealing(unix_ms(now))?;
        }
        // Before any group: until then a group of another life may come back in its place.
        tail.file().sync_data()?;
        tail.set_known_durable(tail.end());
        Ok(tail)
    }

    /// Creates an empty log. Like a rewritten one it gets its name only when it is durable, so
    /// that a crash leaves no file or a well-formed one.
    fn create_file(&mut self, now: Now) -> io::Result<Tail> {
        let temp = self.temp_name();
        let options =
            BaseOptions { seals: self.options.seals, incremental: false, unix_ms: unix_ms(now) };
        let file = self.storage.create(&temp)?;
        let tail = BaseWriter::new(file, options)?.finish_into_tail()?;
        self.storage.rename(&temp, &self.name)?;
        self.storage.sync_dir()?;
        Ok(tail)
    }

    /// `appendonly yes`: the server is to start a rewrite ([`AppendLog::rewrite_due`] says so),
    /// whose file becomes the log. [`LogEvent::TurnedOn`] or [`LogEvent::TurnOnFailed`] tells how
    /// it ended. Does nothing if the log is on.
    pub fn turn_on(&mut self) {
        match self.mode {
            Mode::Off => self.mode = Mode::Starting,
            Mode::Stopping => self.turning_off_failed("it was switched on again"),
            Mode::Starting | Mode::On => {}
        }
    }

    /// Whether there is no log, nor is to be one.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.mode == Mode::Off
    }

    /// Whether there is a log: not while it is off, nor while it is being turned on.
    #[must_use]
    pub fn is_in_force(&self) -> bool {
        matches!(self.mode, Mode::On | Mode::Stopping)
    }

    /// Whether the log is being turned on or off and is not there yet.
    #[must_use]
    pub fn is_switching(&self) -> bool {
        matches!(self.mode, Mode::Starting | Mode::Stopping)
    }

    /// `appendonly no`: everything appended so far is made durable, then every gate opens and the
    /// log is off ([`LogEvent::TurnedOff`]). Does nothing if the log is off.
    ///
    /// # Errors
    /// The error under which the log is faulted: replies wait for promises that could then be
    /// neither kept nor taken back.
    pub fn turn_off(&mut self, now: Now) -> Result<(), String> {
        match self.mode {
            Mode::Off | Mode::Stopping => return Ok(()),
            Mode::Starting => {
                self.abandon_rewrite("the log is being turned off", now);
                self.switched_off();
                return Ok(());
            }
            Mode::On => {}
        }
        if let Some(fault) = self.fault() {
            return Err(fault.to_owned());
        }
        if !self.rewrite.is_renaming() {
            self.abandon_rewrite("the log is being turned off", now);
        }
        self.mode = Mode::Stopping;
        self.stop_asked_at = self.appended();
        self.flush(now);
        Ok(())
    }

    /// While the log is being turned off: where it ended when that began. It is off once all of it
    /// is durable, which it never would be if clients that have written since were let go on.
    #[must_use]
    pub fn stop_asked_at(&self) -> Option<u64> {
        (self.mode == Mode::Stopping).then_some(self.stop_asked_at)
    }

    pub(super) fn finish_stopping(&mut self, now: Now) {
        let done = self.mode == Mode::Stopping
            && self.durable >= self.appended()
            && !self.rewrite.is_renaming();
        if !done {
            return;
        }
        let stamp = self.stamp(now);
        for sink in &mut self.sinks {
            // So that later damage is told from a torn tail. Everything is durable already, so
            // that failing here loses nothing.
            if let Err(error) = sink.tail.close(stamp) {
                log::warn!("The AOF file is left without closing seals: {}", describe(&error));
            }
        }
        self.switched_off();
    }

    fn switched_off(&mut self) {
        self.end_log();
        self.events.push(LogEvent::TurnedOff);
    }

    /// There is no log from here on, and nothing waits for one.
    pub(super) fn end_log(&mut self) {
        self.mode = Mode::Off;
        let end = self.appended();
        self.drop_buffer_until(end);
        (self.written, self.durable) = (end, end);
        self.ages = Ages::from(end);
        self.rewrite.log_ended();
        self.floors = Floors::default();
        self.write_fault = None;
        self.heal = None;
        self.selected = None;
        let files = self.sinks.drain(..).map(|sink| Arc::clone(sink.tail.file())).collect();
        self.discard(None, files);
    }

    pub(super) fn turning_off_failed(&mut self, error: &str) {
        if self.mode == Mode::Stopping {
            self.mode = Mode::On;
            self.events.push(LogEvent::TurnOffFailed(error.to_owned()));
        }
    }

    /// Closes files away from the loop, and removes `name` if given.
    pub(super) fn discard(&mut self, name: Option<OsString>, files: Vec<Arc<dyn LogFile>>) {
        let storage = Arc::clone(&self.storage);
        let attempt = self.rewrite.attempt();
        let work = Work::Discard { storage, name, files };
        if self.helper.submit(HandOffJob { attempt, work }).is_err() {
            log::error!("The AOF rewrite's helper thread has ended; a temporary file may be left");
        }
    }

    /// Makes everything appended so far durable. Blocks: for DEBUG LOADAOF and shutting down, not
    /// while serving.
    ///
    /// # Errors
    /// The write's or the sync's error. A failed sync poisons the file as ever.
    pub fn sync_now(&mut self, now: Now) -> io::Result<()> {
        if matches!(self.mode, Mode::Off | Mode::Starting) {
            return Ok(());
        }
        self.write_group(now, true);
        // The error of one under way must not be missed: a sync after it would prove nothing.
        self.await_sync(now);
        self.check_fault()?;
        if self.begins_sealing() {
            self.sync_and_wait(now)?;
        }
        // What waited for a header to be durable.
        self.write_group(now, true);
        self.check_fault()?;
        self.sync_and_wait(now)
    }

    /// Syncs every file in force. On the syncer's thread like every sync, so that a signal still
    /// reaches this one while the disk hangs.
    fn sync_and_wait(&mut self, now: Now) -> io::Result<()> {
        self.order_sync(now, |_| true);
        self.await_sync(now);
        self.advance(now);
        self.check_fault()
    }

    fn await_sync(&mut self, now: Now) {
        if self.sync.is_some() {
            match self.syncer.wait() {
                Ok(results) => self.sync_done(results, now),
                Err(Gone) => self.syncer_gone(now),
            }
        }
    }

    /// Ends the log in order: writes, syncs, and seals the end with a claim that all before it is
    /// durable. Gives up a rewrite; the server kills the child ([`AppendLog::child_to_kill`]).
    /// Blocks for the disk.
    ///
    /// # Errors
    /// The write's or the sync's error. The log goes on as it was, so that a server that does not
    /// want to stop on this can go on too.
    pub fn shutdown(&mut self, now: Now) -> io::Result<()> {
        while self.rewrite.is_renaming() {
            // The names must not change behind a server that believes it has stopped.
            match self.helper.wait() {
                Ok((attempt, outcome)) => self.hand_off_step(attempt, outcome, now),
                Err(Gone) => self.helper_gone(now),
            }
        }
        self.abandon_rewrite("the server stops", now);
        if matches!(self.mode, Mode::Off | Mode::Starting) {
            return Ok(());
        }
        self.look_after_file(now);
        self.sync_now(now)?;
        let stamp = self.stamp(now);
        for sink in &mut self.sinks {
            // Only now: the closing seals state that all before them is durable, and it is.
            sink.tail.close(stamp)?;
        }
        self.sync_and_wait(now)
    }

    fn check_fault(&self) -> io::Result<()> {
        self.fault().map_or(Ok(()), |error| Err(io::Error::other(error.to_owned())))
    }
}
