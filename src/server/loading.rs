//! Replaying the log: in slices at start, with clients answered in between, and at once for
//! DEBUG LOADAOF.

use super::start::StartError;
use super::stop::Exit;
use super::{Engine, Server, elapsed_us};
use crate::commands;
use crate::config::Config;
use crate::engine::command::Flags;
use crate::engine::cx::Origin;
use crate::engine::execute;
use crate::engine::registries::LoadFigures;
use crate::engine::session::Session;
use crate::keyspace::{Garbage, HashKey, Keyspace};
use crate::persist::load::{LoadError, LoadOptions, Loader};
use crate::persist::storage::{Directory, Storage};
use crate::resp::args::Args;
use crate::resp::reply::Reply;
use crate::sys::clock::{MonoUs, Now, UnixMs, mono_us};
use std::sync::Arc;

/// Bytes replayed between two looks at the clock.
const STEP_BYTES: u64 = 128 << 10;

/// Time given to replaying between two polls, microseconds: clients that ask meanwhile are told
/// within this that the server is loading.
const SLICE_US: u64 = 10_000;

/// Time between two lines on progress, microseconds.
const PROGRESS_US: u64 = 1_000_000;

/// A replay under way.
pub(super) struct Loading {
    loader: Loader,
    session: Session,
    started: Now,
    last_progress: MonoUs,
}

impl Server {
    /// Opens the log; the loop replays it, slice by slice.
    ///
    /// # Errors
    /// [`StartError`] if it cannot be opened.
    pub(super) fn begin_loading(&mut self) -> Result<(), StartError> {
        let config = &self.engine.registries.config;
        let loader = open_loader(Arc::clone(&self.storage), config, false)
            .map_err(|e| StartError::new(e.to_string()))?;
        self.engine.registries.loading = true;
        self.loading = Some(Loading {
            loader,
            session: replay_session(),
            started: self.now,
            last_progress: self.now.mono,
        });
        Ok(())
    }

    /// Replays for a slice of time, if there is something to replay.
    pub(super) fn load_some(&mut self) {
        let Some(mut loading) = self.loading.take() else { return };
        let start = mono_us();
        let done = loop {
            let step = loading.loader.step(STEP_BYTES, |args| {
                replay(&mut self.engine, &mut loading.session, args, self.now)
            });
            match step {
                Ok(true) => break true,
                Ok(false) if elapsed_us(start) >= SLICE_US => break false,
                Ok(false) => {}
                Err(e) => {
                    e.to_string().lines().for_each(|line| log::error!("{line}"));
                    self.exit = Some(Exit::Failed);
                    return;
                }
            }
        };
        if done {
            return self.end_loading(loading);
        }
        loading.report_progress(self.now.mono);
        self.loading = Some(loading);
    }

    fn end_loading(&mut self, loading: Loading) {
        let report = loading.loader.report().clone();
        if let Some(cut) = &report.cut {
            cut.to_string().lines().for_each(|line| log::warn!("{line}"));
        }
        if let Err(e) = self.log.resume(loading.loader, self.now) {
            log::error!("Can't open the append-only file for appending: {e}");
            self.exit = Some(Exit::Failed);
            return;
        }
        self.engine.registries.loading = false;
        if report.found {
            let seconds = elapsed_us(loading.started.mono) as f64 / 1e6;
            log::info!(
                "DB loaded from append only file: {seconds:.3} seconds, {} commands, {} bytes",
                report.commands,
                report.loaded_bytes
            );
        } else {
            log::info!("Creating the append-only file");
        }
        log::info!("Ready to accept connections");
    }

    /// DEBUG LOADAOF: makes the log durable, then replays it into an empty keyspace. If that
    /// fails the keyspace is what it was.
    ///
    /// # Errors
    /// Why it was not done, as the text of an error reply behind its code.
    pub(super) fn reload(&mut self) -> Result<(), String> {
        let figures = self.log.figures(self.now);
        if !figures.enabled {
            return Err("the append-only file is switched off".into());
        }
        if figures.rewrite_running {
            return Err("an append-only file rewrite is in progress".into());
        }
        self.log.sync_now(self.now).map_err(|e| format!("Error syncing the AOF file: {e}"))?;
        let config = &self.engine.registries.config;
        let mut loader =
            open_loader(Arc::clone(&self.storage), config, true).map_err(|e| single_line(&e))?;
        let fresh = Keyspace::new(self.engine.keyspace.databases(), HashKey::random());
        let mut old = std::mem::replace(&mut self.engine.keyspace, fresh);
        let mut session = replay_session();
        let outcome = loop {
            match loader
                .step(u64::MAX, |args| replay(&mut self.engine, &mut session, args, self.now))
            {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(e) => break Err(single_line(&e)),
            }
        };
        if outcome.is_err() {
            self.engine.keyspace = old;
            return outcome;
        }
        // Whoever watches keys has seen the database emptied.
        let emptied = old.flush_all().into_iter().map(Garbage::Database);
        self.lazyfree.free(emptied.collect());
        self.engine.keyspace.watched = std::mem::take(&mut old.watched);
        self.engine.keyspace.dirty = old.dirty;
        Ok(())
    }

    pub(super) fn refresh_load_figures(&mut self) {
        let Some(loading) = &self.loading else { return };
        let report = loading.loader.report();
        let elapsed = elapsed_us(loading.started.mono);
        self.engine.registries.figures.load = LoadFigures {
            started: UnixMs(loading.started.unix.0),
            total_bytes: report.total_bytes,
            loaded_bytes: report.loaded_bytes,
            eta_sec: eta_sec(report.loaded_bytes, report.total_bytes, elapsed),
        };
    }
}

impl Loading {
    fn report_progress(&mut self, now: MonoUs) {
        if now.since(self.last_progress) < PROGRESS_US {
            return;
        }
        self.last_progress = now;
        let report = self.loader.report();
        let elapsed = elapsed_us(self.started.mono).max(1);
        let percent = report.loaded_bytes as f64 * 100.0 / report.total_bytes.max(1) as f64;
        log::info!(
            "Loading the append-only file: {percent:.1} %, {:.1} MB/s, {} s to go",
            report.loaded_bytes as f64 / elapsed as f64,
            eta_sec(report.loaded_bytes, report.total_bytes, elapsed)
        );
    }
}

fn eta_sec(done: u64, total: u64, elapsed_us: u64) -> u64 {
    let left = total.saturating_sub(done) as f64;
    (left * elapsed_us as f64 / done.max(1) as f64 / 1e6).ceil() as u64
}

fn open_loader(
    storage: Arc<dyn Storage>,
    config: &Config,
    read_only: bool,
) -> Result<Loader, LoadError> {
    let options = LoadOptions {
        cut_tail: config.aof_load_truncated,
        max_bulk_bytes: config.proto_max_bulk_bytes.max(LoadOptions::default().max_bulk_bytes),
        read_only,
        key_position: first_key_position,
    };
    Loader::open(storage, config.appendfilename.as_os_str(), options)
}

/// Where the first key of the command `name` stands among its arguments; `None` if it has none.
/// Builds the table of commands: for messages, not for speed.
pub(super) fn first_key_position(name: &[u8]) -> Option<usize> {
    commands::table().find(name)?.keys.first().map(|keys| keys.first)
}

/// Opens the directory that holds the log.
///
/// # Errors
/// [`StartError`] if it cannot be opened.
pub(super) fn open_storage(config: &Config) -> Result<Arc<dyn Storage>, StartError> {
    let directory = Directory::open(&config.dir);
    let failed = |e| StartError::new(format!("Can't open '{}': {e}", config.dir.display()));
    Ok(Arc::new(directory.map_err(failed)?))
}

pub(super) fn replay_session() -> Session {
    Session::new(0, true, true)
}

/// Runs one command of the log.
///
/// # Errors
/// What is wrong with it. A log holds only commands that had succeeded, so one that fails now
/// shows that the log is not what it was, or not this server's.
pub(super) fn replay(
    engine: &mut Engine,
    session: &mut Session,
    args: &mut Args<'_>,
    now: Now,
) -> Result<(), String> {
    let name = |args: &Args<'_>| String::from_utf8_lossy(args.get(0).unwrap_or(b"")).into_owned();
    let Ok(command) = execute::resolve(&engine.registries.table, args) else {
        let known = engine.registries.table.find(args.get(0).unwrap_or(b"")).is_some();
        let what = if known { "Malformed" } else { "Unknown" };
        return Err(format!("{what} command '{}'", name(args)));
    };
    if !command.spec.flags.has(Flags::WRITE) && command.spec.name != "select" {
        return Err(format!("Command '{}', which changes nothing,", name(args)));
    }
    let failed_before = engine.registries.stats.failed_calls;
    let mut nowhere = Vec::new();
    let mut cx = engine.cx(session, Reply::muted(&mut nowhere), now, Origin::Replay);
    execute::call(&mut cx, command, args);
    engine.effects.clear_records();
    // A replay asks nobody for anything.
    engine.effects.actions.clear();
    if engine.registries.stats.failed_calls == failed_before {
        return Ok(());
    }
    Err(format!("Command '{}', which fails,", name(args)))
}

fn single_line(e: &LoadError) -> String {
    e.to_string().replace('\n', ". ")
}
