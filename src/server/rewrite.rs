//! The rewrite as the server sees it: when to fork, the child, reaping it, and what the log has to
//! tell about it.

use super::child::{ChildReport, Reporter};
use super::{Server, elapsed_us};
use crate::data::ValueRef;
use crate::engine::latency::LatencyEvent;
use crate::engine::registries::{ChildFigures, LogFigures};
use crate::keyspace::{Database, Keyspace};
use crate::persist::base::BaseWriter;
use crate::persist::log::{LogEvent, SlowStep};
use crate::persist::rewrite::{BeginError, RewriteCause, RewriteJob};
use crate::persist::storage::describe;
use crate::sys::clock::mono_us;
use crate::sys::huge_pages::Collapsing;
use crate::sys::process::{self, Exit, Forked, Pid};
use crate::sys::{schedule, signals};
use std::io;
use std::os::fd::AsRawFd;

pub(super) const ALREADY_RUNNING: &str =
    "ERR Background append only file rewriting already in progress";
const CANNOT_REWRITE: &str = "ERR Can't execute an AOF background rewriting. Please check the server \
     logs for more information.";

/// What the server remembers about rewriting; the log has the rest.
pub(super) struct Rewriting {
    /// BGREWRITEAOF wants one.
    pub(super) requested: bool,
    /// SIGCHLD has come.
    pub(super) child_may_have_ended: bool,
    /// Memory that the last child copied, bytes.
    last_cow_bytes: u64,
    /// What the child says.
    report: ChildReport,
    /// Puts the huge pages together again which the last child had split.
    collapse: Option<Collapsing>,
}

impl Rewriting {
    /// # Errors
    /// Those of mapping memory that is shared with the child.
    pub(super) fn new() -> io::Result<Rewriting> {
        Ok(Rewriting {
            requested: false,
            child_may_have_ended: false,
            last_cow_bytes: 0,
            report: ChildReport::new()?,
            collapse: None,
        })
    }
}

impl Server {
    /// Reaps, kills, forks: whatever the rewrite needs now. To be called with the log flushed.
    pub(super) fn tend_rewrite(&mut self) {
        if std::mem::take(&mut self.rewrite.child_may_have_ended) {
            self.reap_children();
        }
        self.kill_unwanted_child();
        for (step, us) in self.log.take_slow_steps() {
            let event = match step {
                SlowStep::Sync => LatencyEvent::AofFsyncAlways,
                SlowStep::Rename => LatencyEvent::AofRename,
                SlowStep::DiffWrite => {
                    self.cron.apart_us += us;
                    LatencyEvent::AofRewriteDiffWrite
                }
            };
            self.engine.registries.note_latency(event, us, self.now.unix);
        }
        for event in self.log.take_events() {
            self.on_log_event(event);
        }
        if self.exit.is_some() {
            return;
        }
        let due = self.log.rewrite_due(self.now);
        match due {
            Some(RewriteCause::Growth { percent }) => {
                log::info!("Starting automatic rewriting of AOF on {percent}% growth");
            }
            Some(RewriteCause::Limit) => log::info!(
                "Starting automatic rewriting of AOF: its {} bytes are close to aof-max-size",
                self.log.current_bytes()
            ),
            Some(RewriteCause::Heal | RewriteCause::TurnOn) | None => {}
        }
        // The file gets what is in the log's buffer once its header is durable, a moment later.
        if due.is_some() || (self.rewrite.requested && !self.log.begins_sealing()) {
            self.rewrite.requested = false;
            let outcome = self.start_rewrite();
            self.rewrite_begun(outcome);
        }
    }

    /// Kills the child if the log has no use for it any more.
    pub(super) fn kill_unwanted_child(&mut self) {
        if let Some(pid) = self.log.child_to_kill()
            && let Err(e) = process::kill_child(Pid::from_raw(pid))
        {
            log::warn!("Killing the AOF rewrite child {pid}: {e}");
        }
    }

    fn reap_children(&mut self) {
        let ended = match process::reap() {
            Ok(ended) => ended,
            Err(e) => return log::error!("Waiting for children failed: {e}"),
        };
        for (pid, exit) in ended {
            let outcome = match exit {
                Exit::Code(0) => Ok(()),
                Exit::Code(code) => Err(format!("failed with exit code {code}")),
                Exit::Signal(signal) => Err(format!("terminated by signal {signal}")),
            };
            if self.log.rewrite_child() == Some(pid.as_raw()) {
                self.rewrite.last_cow_bytes = self.rewrite.report.cow_bytes();
            }
            self.log.child_exited(pid.as_raw(), outcome, self.now);
        }
        if self.log.rewrite_child().is_none() {
            self.engine.keyspace.set_frugal(false);
            self.cron.set_tidying(true, self.now.mono);
            if !self.engine.registries.config.disable_thp {
                // Without it forks take longer, which is no reason to complain.
                let cpus = self.engine.registries.config.bio_cpulist.cpus().to_vec();
                self.rewrite.collapse = Collapsing::start(cpus).ok();
            }
        }
    }

    fn on_log_event(&mut self, event: LogEvent) {
        match event {
            LogEvent::RewriteDone => log::info!("Background AOF rewrite finished successfully"),
            LogEvent::RewriteFailed(error) => {
                let meanwhile = if self.log.is_faulted() {
                    "New writes stay refused; it is tried again"
                } else {
                    "The old file stays in force"
                };
                log::warn!("Background AOF rewrite failed: {error}. {meanwhile}");
            }
            LogEvent::TurnedOn => {
                log::info!("The append-only file is on");
                self.log_switched(true, Ok(()));
            }
            LogEvent::TurnedOff => {
                log::info!("The append-only file is off");
                self.log_switched(false, Ok(()));
            }
            LogEvent::TurnOnFailed(error) => {
                log::error!("The append-only file could not be turned on: {error}");
                self.engine.registries.config.appendonly = false;
                self.log_switched(true, Err("Unable to turn on AOF. Check server logs."));
            }
            LogEvent::TurnOffFailed(error) => {
                log::error!("The append-only file could not be turned off: {error}");
                self.engine.registries.config.appendonly = true;
                self.log_switched(false, Err(&error));
            }
        }
    }

    /// Forks the child. Only with the log flushed and between commands: what the child writes and
    /// what the log holds up to here are then the same state.
    ///
    /// # Errors
    /// What BGREWRITEAOF replies; the reason has been logged.
    fn start_rewrite(&mut self) -> Result<(), &'static str> {
        // The new file goes where the next start looks, which may be another directory than the
        // lock was taken in.
        if let Err(e) = self.hold_lock() {
            self.log.rewrite_prevented(&e, self.now);
            return Err(CANNOT_REWRITE);
        }
        self.tell_data_bytes();
        let job = match self.log.begin_rewrite(self.now) {
            Ok(job) => job,
            Err(e) => {
                log::warn!("{e}");
                let is_running = matches!(e, BeginError::AlreadyRunning);
                return Err(if is_running { ALREADY_RUNNING } else { CANNOT_REWRITE });
            }
        };
        // A page that is put together while a child lives would be copied for it.
        self.rewrite.collapse = None;
        let parent = process::own_pid();
        self.rewrite.report.begin(self.engine.keyspace.iter().map(Database::len).sum());
        let start = mono_us();
        match process::fork() {
            Ok(Forked::Child) => self.be_child(parent, &job),
            Ok(Forked::Parent(pid)) => {
                let registries = &mut self.engine.registries;
                let took = elapsed_us(start);
                registries.figures.latest_fork_us = took;
                registries.note_latency(LatencyEvent::Fork, took, self.now.unix);
                self.cron.apart_us += took;
                registries.stats.total_forks += 1;
                self.log.rewrite_started(pid.as_raw());
                self.engine.keyspace.set_frugal(true);
                self.cron.set_tidying(false, self.now.mono);
                Ok(())
            }
            Err(e) => {
                let told = describe(&e);
                log::warn!("Can't rewrite append only file in background: fork: {told}");
                self.log.rewrite_not_started(&e, self.now);
                Err(CANNOT_REWRITE)
            }
        }
    }

    /// Whether a rewrite can begin as far as the disk's room goes.
    ///
    /// # Errors
    /// [`BeginError::NoRoom`].
    pub(super) fn room_for_rewrite(&mut self) -> Result<(), BeginError> {
        self.tell_data_bytes();
        self.log.check_room()
    }

    fn tell_data_bytes(&mut self) {
        let registries = &self.engine.registries;
        let at_start = registries.figures.memory.startup_bytes;
        self.log.set_data_bytes(registries.memory.used_bytes().saturating_sub(at_start));
    }

    /// The child's life. It does not log: another thread of the parent may have held the logger's
    /// lock at the fork, and here nobody would ever let it go.
    fn be_child(&self, parent: Pid, job: &RewriteJob) -> ! {
        // Without its parent the child's file is of no use to anyone.
        if process::die_with_parent(parent).is_err() || signals::restore_in_child().is_err() {
            process::exit_now(1);
        }
        // What the child kept open would stay in use when the parent dies: its port, its lock, its
        // clients' connections.
        self.close_in_child();
        let config = &self.engine.registries.config;
        // Wishes: a child that runs elsewhere, or sooner, still writes the same file.
        let _ = schedule::run_on(config.aof_rewrite_cpulist.cpus());
        let _ = schedule::set_nice(config.aof_rewrite_nice.cast_signed());
        let _ = schedule::set_slice(None);
        let mut reporter = Reporter::new(&self.rewrite.report);
        let keyspace = &self.engine.keyspace;
        let written = job.run(|writer| {
            writer.set_courteous();
            write_keyspace(keyspace, writer, &mut reporter)
        });
        reporter.done();
        process::exit_now(i32::from(written.is_err()));
    }

    fn close_in_child(&self) {
        if let Some(lock) = &self.lock {
            lock.close_in_child();
        }
        let listeners = self.listeners.iter().map(AsRawFd::as_raw_fd);
        let connections = self.connections.iter().map(|(_, c)| c.stream.as_raw_fd());
        for fd in listeners.chain(connections) {
            process::close_in_child(fd);
        }
    }

    fn child_figures(&self) -> ChildFigures {
        let is_there = self.log.rewrite_child().is_some();
        if is_there { self.rewrite.report.figures(self.now.mono) } else { ChildFigures::default() }
    }

    pub(super) fn refresh_log_figures(&mut self) {
        let log = self.log.figures(self.now);
        let sec = |us: Option<u64>| us.map_or(-1, |us| (us / 1_000_000).cast_signed());
        self.engine.registries.figures.log = LogFigures {
            enabled: log.enabled,
            rewrite_in_progress: log.rewrite_running,
            rewrite_scheduled: self.rewrite.requested,
            last_rewrite_sec: sec(log.last_rewrite_us),
            current_rewrite_sec: sec(log.rewrite_running_us),
            last_rewrite_ok: log.last_rewrite_ok,
            last_write_ok: log.write_error.is_none() && log.sync_error.is_none(),
            last_cow_bytes: self.rewrite.last_cow_bytes,
            child: self.child_figures(),
            rewrites: log.rewrites,
            rewrites_consecutive_failures: log.rewrite_failures,
            current_size: log.current_bytes,
            base_size: log.base_bytes,
            buffer_bytes: log.buffer_bytes as usize,
            rewrite_buffer_bytes: log.rewrite_diff_bytes as usize,
            rewrite_reread_bytes: log.rewrite_reread_bytes,
            is_full: log.is_full,
            pending_syncs: u64::from(log.sync_running),
            delayed_syncs: log.delayed_syncs,
            appended: log.appended,
            written: log.written,
            in_force: self.log.is_in_force(),
            durable: log.durable,
            oldest_unsynced_us: log.oldest_unsynced_us.unwrap_or(0),
            fault: log.write_error.or(log.sync_error),
        };
    }
}

/// Writes every database as commands that make it again.
fn write_keyspace(
    keyspace: &Keyspace,
    writer: &mut BaseWriter,
    reporter: &mut Reporter<'_>,
) -> io::Result<()> {
    for (index, db) in keyspace.iter().enumerate().filter(|(_, db)| !db.is_empty()) {
        writer.select(index)?;
        for entry in db.iter() {
            let deadline_ms = entry.deadline().map(|deadline| deadline.0);
            match entry.value() {
                ValueRef::Int(value) => {
                    let mut text = itoa::Buffer::new();
                    writer.set(entry.key(), text.format(value).as_bytes(), deadline_ms)?;
                }
                ValueRef::String(value) => writer.set(entry.key(), value, deadline_ms)?,
            }
            reporter.key_done();
        }
    }
    Ok(())
}
