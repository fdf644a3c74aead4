//! Replaying the log: in slices at start, with clients answered in between, and at once for
//! DEBUG LOADAOF.

use super::start::StartError;
use super::stop::Exit;
use super::{Engine, Server, elapsed_us};
use crate::commands;
use crate::config::Config;
use crate::data::NewValue;
use crate::engine::command::{Command, Flags};
use crate::engine::cx::{Origin, configure_recency};
use crate::engine::execute;
use crate::engine::registries::LoadFigures;
use crate::engine::session::Session;
use crate::keyspace::{Garbage, HashKey, Keyspace, Prepared};
use crate::persist::load::{LoadError, LoadOptions, LoadReport, Loader, Prepare, Replay};
use crate::persist::storage::{Directory, Storage};
use crate::resp::args::Args;
use crate::resp::reply::Reply;
use crate::sys::clock::{MonoUs, Now, UnixMs, mono_us};
use std::sync::Arc;

/// Bytes replayed between two looks at the clock.
const STEP_BYTES: u64 = 128 << 10;

/// Commands whose part of the keyspace is fetched from memory together: as many as a processor can
/// wait for at once, or somewhat more.
const LOOK_AHEAD: usize = 16;

/// Segments of a key table that are looked at between two looks at the clock when a replay has
/// ended: half a millisecond if all of them are merged.
const TIDY_SEGMENTS: usize = 64;

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
        let prepare = preparer(self.engine.keyspace.hash_key());
        let loader = open_loader(Arc::clone(&self.storage), config, false, prepare)
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
            let session = &mut loading.session;
            let mut replayer = Replayer::new(&mut self.engine, session, self.now);
            let step = loading.loader.step_expecting(STEP_BYTES, &mut replayer);
            let done = match step {
                Ok(false) => {
                    expect_keys(&mut self.engine.keyspace, session.db, loading.loader.report());
                    false
                }
                Ok(true) => tidy_tables(&mut self.engine.keyspace),
                Err(e) => {
                    e.to_string().lines().for_each(|line| log::error!("{line}"));
                    self.exit = Some(Exit::Failed);
                    return;
                }
            };
            if done || elapsed_us(start) >= SLICE_US {
                break done;
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
        if !self.log.is_in_force() {
            // What bears its name is from before it was turned off.
            return Err("the append-only file is being switched on".into());
        }
        self.log.sync_now(self.now).map_err(|e| format!("Error syncing the AOF file: {e}"))?;
        let config = &self.engine.registries.config;
        // With the same secret: clients' keys may be hashed already.
        let keyspace = &self.engine.keyspace;
        let fresh = Keyspace::new(keyspace.databases(), keyspace.hash_key());
        let prepare = preparer(fresh.hash_key());
        let mut loader = open_loader(Arc::clone(&self.storage), config, true, prepare)
            .map_err(|e| single_line(&e))?;
        let mut old = std::mem::replace(&mut self.engine.keyspace, fresh);
        let mut session = replay_session();
        let outcome = loop {
            let mut replayer = Replayer::new(&mut self.engine, &mut session, self.now);
            let step = loader.step_expecting(STEP_BYTES, &mut replayer);
            match step {
                Ok(true) => break Ok(()),
                Ok(false) => expect_keys(&mut self.engine.keyspace, session.db, loader.report()),
                Err(e) => break Err(single_line(&e)),
            }
        };
        while !tidy_tables(&mut self.engine.keyspace) {}
        if outcome.is_err() {
            self.engine.keyspace = old;
            return outcome;
        }
        // Whoever watches keys has seen the database emptied.
        let emptied = old.flush_all().into_iter().map(|db| Garbage::Database(Box::new(db)));
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
    prepare: Prepare,
) -> Result<Loader, LoadError> {
    let options = LoadOptions {
        cut_tail: config.aof_load_truncated,
        max_bulk_bytes: config.proto_max_bulk_bytes.max(LoadOptions::default().max_bulk_bytes),
        read_only,
        key_position: first_key_position,
    };
    let mut loader = Loader::open(storage, config.appendfilename.as_os_str(), options)?;
    if let Err(e) = loader.read_and_prepare_ahead(prepare) {
        log::warn!("Loading without a thread that reads ahead: {e}");
    }
    Ok(loader)
}

/// What the reading thread makes of a plain SET, by far the most frequent command: the entry that
/// will stand in the key table.
fn preparer(hash_key: HashKey) -> Prepare {
    Box::new(move |args| {
        let is_plain_set = args.len() == 3
            && !args.has_large()
            && args.get(0).is_some_and(|name| name.eq_ignore_ascii_case(b"set"));
        is_plain_set.then(|| Prepared::new(&hash_key, &args[1], NewValue::from_bytes(&args[2])))
    })
}

/// Tells database `db` how many keys it will hold if what is left of the log brings as many a byte
/// as what was replayed.
fn expect_keys(keyspace: &mut Keyspace, db: usize, report: &LoadReport) {
    let share = report.total_bytes as f64 / report.loaded_bytes.max(1) as f64;
    let db = keyspace.db_mut(db);
    // Rounded towards zero, and to the largest number there is if it were larger.
    let keys = (db.len() as f64 * share) as usize;
    db.expect(keys);
}

/// Takes a part of what the tables have too much, after a replay; `true` once there is none.
fn tidy_tables(keyspace: &mut Keyspace) -> bool {
    keyspace.iter_mut().all(|db| {
        db.expect(0);
        db.tidy(TIDY_SEGMENTS)
    })
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
    let command = execute::resolve(&engine.registries.table, args).ok();
    replay_resolved(engine, session, command, args, now)
}

/// Likewise, where `command` is its row, if it has one that its arguments fit.
fn replay_resolved(
    engine: &mut Engine,
    session: &mut Session,
    command: Option<Command>,
    args: &mut Args<'_>,
    now: Now,
) -> Result<(), String> {
    let name = |args: &Args<'_>| String::from_utf8_lossy(args.get(0).unwrap_or(b"")).into_owned();
    let Some(command) = command else {
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
    drop(engine.effects.take_actions());
    if engine.registries.stats.failed_calls == failed_before {
        return Ok(());
    }
    Err(format!("Command '{}', which fails,", name(args)))
}

/// A command of the log that is about to be run.
#[derive(Clone, Copy, Default)]
struct Expected {
    /// Its row, if it has one that its arguments fit.
    command: Option<Command>,
    /// Of its first key, if it has one.
    hash: Option<u64>,
}

/// Runs the commands of the log. What each will need of the keyspace is fetched from memory while
/// those before it are run.
struct Replayer<'a> {
    engine: &'a mut Engine,
    session: &'a mut Session,
    now: Now,
    /// A ring: those shown and not yet run, at `run..shown` modulo its length.
    expected: [Expected; LOOK_AHEAD + 1],
    shown: usize,
    run: usize,
    /// The command shown last, most often the next one too.
    last: Option<Command>,
}

impl<'a> Replayer<'a> {
    fn new(engine: &'a mut Engine, session: &'a mut Session, now: Now) -> Replayer<'a> {
        let expected = [Expected::default(); LOOK_AHEAD + 1];
        let config = &engine.registries.config;
        configure_recency(&mut engine.keyspace.recency, config, now.unix);
        Replayer { engine, session, now, expected, shown: 0, run: 0, last: None }
    }

    /// The row of a command, if it has one that its arguments fit.
    fn resolve(&mut self, args: &Args<'_>) -> Option<Command> {
        let is_it = |command: &Command| {
            let spec = command.spec;
            command.container.is_none()
                && spec.subcommands.is_empty()
                && args.get(0).is_some_and(|name| name.eq_ignore_ascii_case(spec.name.as_bytes()))
                && spec.arity.admits(args.len())
        };
        if !self.last.as_ref().is_some_and(is_it) {
            self.last = execute::resolve(&self.engine.registries.table, args).ok();
        }
        self.last
    }

    fn expected_at(&mut self, place: usize) -> &mut Expected {
        &mut self.expected[place % (LOOK_AHEAD + 1)]
    }
}

impl Replay for Replayer<'_> {
    const AHEAD: usize = LOOK_AHEAD;

    fn expect(&mut self, args: &Args<'_>) {
        let command = self.resolve(args);
        let keys = command.and_then(|command| command.spec.keys.first());
        // The database may be another one by then; that costs time and nothing else.
        let db = self.engine.keyspace.db(self.session.db);
        let hash = keys.and_then(|keys| args.get(keys.first)).map(|key| db.hash(key));
        if let Some(hash) = hash {
            db.prefetch(hash);
        }
        *self.expected_at(self.shown) = Expected { command, hash };
        self.shown += 1;
    }

    fn apply(&mut self, args: &mut Args<'_>) -> Result<(), String> {
        // The table's part of this one was asked for half-way back, and has come by now.
        let half_way = self.run + LOOK_AHEAD / 2;
        if half_way < self.shown
            && let Some(hash) = self.expected_at(half_way).hash
        {
            self.engine.keyspace.db(self.session.db).prefetch_entry(hash);
        }
        let command = self.expected_at(self.run).command;
        self.run += 1;
        replay_resolved(self.engine, self.session, command, args, self.now)
    }

    fn expect_prepared(&mut self, hash: u64) {
        self.engine.keyspace.db(self.session.db).prefetch(hash);
    }

    fn expect_prepared_soon(&mut self, hash: u64) {
        self.engine.keyspace.db(self.session.db).prefetch_entry(hash);
    }

    fn apply_prepared(&mut self, prepared: Prepared) {
        self.engine.registries.stats.commands_processed += 1;
        self.engine.keyspace.set_prepared(self.session.db, prepared);
    }
}

fn single_line(e: &LoadError) -> String {
    e.to_string().replace('\n', ". ")
}
