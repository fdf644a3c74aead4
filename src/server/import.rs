//! `--import`: takes over a log that Redis has written; and the start that must not pass one by.

use super::loading::first_key_position;
use super::start::StartError;
use crate::commands;
use crate::config::{self, Config, ImportRequest};
use crate::engine::command::{CommandTable, Flags};
use crate::engine::execute;
use crate::persist::import::{Cut, ImportOptions, ImportReport, Progress, Source, source};
use crate::persist::load::LoadOptions;
use crate::persist::lock::Lock;
use crate::persist::storage::Directory;
use crate::resp::args::Args;
use crate::sys::clock::{MonoUs, Now, mono_us};
use crate::sys::signals::{Signal, SignalFd};
use crate::text::number;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// Time between two lines on progress, microseconds.
const PROGRESS_US: u64 = 1_000_000;

/// Why a log was not imported.
#[derive(Debug)]
pub struct ImportFailure(String);

impl fmt::Display for ImportFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ImportFailure {}

/// Imports the log that the request names into the append-only file of its configuration, under
/// that file's lock. Tells progress and warnings to `aside`, and what was done to `out`.
///
/// # Errors
/// [`ImportFailure`]; the log is then not there, unless the text says otherwise, and its source as
/// it was.
pub fn import(
    request: &ImportRequest,
    out: &mut dyn Write,
    aside: &mut dyn Write,
) -> Result<(), ImportFailure> {
    let ImportRequest { path, config } = request;
    let name = config.appendfilename.as_os_str();
    let failed = |what: String, e: &dyn fmt::Display| ImportFailure(format!("{what}: {e}"));
    // SIGXFSZ becomes an error of the write, and Ctrl+C something to tidy up after.
    let signals = SignalFd::install().map_err(|e| failed("Cannot take signals".into(), &e))?;
    let source = Source::open(path, name).map_err(|e| ImportFailure(e.to_string()))?;
    let target = Directory::open(&config.dir)
        .map_err(|e| failed(format!("Cannot open {}", config.dir.display()), &e))?;
    let log = config.dir.join(name);
    refuse_itself(&source, &log)?;
    let mut lock = log.clone().into_os_string();
    lock.push(".lock");
    // Held to the end: no server must begin a log of its own under this name meanwhile.
    let _lock = Lock::acquire(Path::new(&lock), Duration::ZERO)
        .map_err(|e| failed(format!("Cannot lock the append-only file {}", log.display()), &e))?;
    let options = ImportOptions {
        cut_tail: config.aof_load_truncated,
        max_bulk_bytes: config.proto_max_bulk_bytes.max(LoadOptions::default().max_bulk_bytes),
        seals: config.aof_seals,
        key_position: first_key_position,
        now: Now::read().unix,
    };
    let table = commands::table();
    let mut told = Told::begin(aside, &source);
    let report = crate::persist::import::import(
        &source,
        &target,
        name,
        &options,
        &mut |args| check(&table, config, args),
        &mut |progress| {
            told.progress(progress, mono_us());
            if asked_to_stop(&signals) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    )
    .map_err(|e| ImportFailure(e.to_string()))?;
    if let Some(cut) = &report.cut {
        told.line(&Warning(cut));
    }
    let text = Summary { report: &report, config }.to_string();
    match out.write_all(text.as_bytes()) {
        // A reader that has gone away has read enough; the log is there.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(ImportFailure(format!("{text}Cannot write this report: {e}")))
        }
        _ => Ok(()),
    }
}

/// Whether a signal to end has come. If that cannot be told the import goes on to its end.
fn asked_to_stop(signals: &SignalFd) -> bool {
    while let Ok(Some(signal)) = signals.read() {
        if matches!(signal, Signal::Terminate | Signal::Interrupt | Signal::HangUp) {
            return true;
        }
    }
    false
}

/// A log that already lies where the server looks for it is one that it loads as it is.
fn refuse_itself(source: &Source, log: &Path) -> Result<(), ImportFailure> {
    let meant = |path: &Path| std::fs::canonicalize(path).ok();
    let is_log = |path: &Path| meant(path).is_some_and(|path| Some(path) == meant(log));
    if !source.paths().any(is_log) {
        return Ok(());
    }
    Err(ImportFailure(format!(
        "{} is the file that the server starts on, and a plain log of Redis needs no import: start \
         the server, or name another file by --dir or --appendfilename",
        log.display()
    )))
}

/// Whether the server's replay will know the command.
fn check(table: &CommandTable, config: &Config, args: &Args<'_>) -> Result<(), String> {
    let name = || String::from_utf8_lossy(args.get(0).unwrap_or(b"")).into_owned();
    let Ok(command) = execute::resolve(table, args) else {
        let known = table.find(args.get(0).unwrap_or(b"")).is_some();
        return Err(match known {
            true => format!("Malformed command '{}'", name()),
            false => format!("Command '{}', which this server does not have,", name()),
        });
    };
    if command.spec.name != "select" {
        return match command.spec.flags.has(Flags::WRITE) {
            true => Ok(()),
            false => Err(format!("Command '{}', which changes nothing,", name())),
        };
    }
    let text = args.get(1).unwrap_or(b"");
    match number::parse_i64(text).and_then(|db| u64::try_from(db).ok()) {
        Some(db) if db < u64::from(config.databases) => Ok(()),
        Some(db) => Err(format!(
            "Database {db}, of which there is none with --databases {} (give a larger number here \
             and to the server),",
            config.databases
        )),
        None => Err(format!("Malformed command '{}'", name())),
    }
}

/// Lines for whoever waits. That one cannot be written stops nothing.
struct Told<'a> {
    aside: &'a mut dyn Write,
    started: MonoUs,
    last: MonoUs,
}

impl Told<'_> {
    fn begin<'a>(aside: &'a mut dyn Write, source: &Source) -> Told<'a> {
        let now = mono_us();
        let mut told = Told { aside, started: now, last: now };
        let files = source.paths().len();
        told.line(&format_args!("Importing {} bytes from {}:", source.total_bytes(), Files(files)));
        for path in source.paths() {
            told.line(&format_args!("  {}", path.display()));
        }
        told
    }

    fn line(&mut self, text: &dyn fmt::Display) {
        // Progress nobody can see is no reason to stop.
        writeln!(self.aside, "{text}").ok();
    }

    fn progress(&mut self, progress: Progress, now: MonoUs) {
        if now.since(self.last) < PROGRESS_US {
            return;
        }
        self.last = now;
        let Progress { done_bytes, total_bytes } = progress;
        let elapsed_us = now.since(self.started).max(1) as f64;
        let percent = done_bytes as f64 * 100.0 / total_bytes.max(1) as f64;
        let rate = done_bytes as f64 / elapsed_us;
        let left = total_bytes.saturating_sub(done_bytes) as f64;
        let seconds = (left * elapsed_us / done_bytes.max(1) as f64 / 1e6).ceil();
        self.line(&format_args!("{percent:.1} %, {rate:.1} MB/s, {seconds:.0} s to go"));
    }
}

struct Files(usize);

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} file{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

struct Warning<'a>(&'a Cut);

impl fmt::Display for Warning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cut { path, offset, bytes, stop } = self.0;
        write!(
            f,
            "WARNING: {} was taken up to offset {offset} only: {} (at offset {}). The {bytes} bytes \
             behind are left out, as after a crash; Redis would cut them off, too. They still stand \
             in that file",
            path.display(),
            stop.reason,
            stop.at
        )
    }
}

struct Summary<'a> {
    report: &'a ImportReport,
    config: &'a Config,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImportReport { files, source_bytes, commands, transactions, path, bytes, .. } =
            self.report;
        writeln!(f, "Imported {} into {}.", Files(*files), path.display())?;
        writeln!(f, "Commands: {commands} ({transactions} transactions)")?;
        writeln!(f, "Bytes: {source_bytes} read, {bytes} written and durable")?;
        writeln!(f, "The source was not changed. To serve it, run: {}", Run(self.config, None))
    }
}

/// A command line of this program for the log of a configuration, to be copied.
struct Run<'a>(&'a Config, Option<&'a Path>);

impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run(config, imported) = self;
        write!(f, "server_async --dir {}", Word(config.dir.as_os_str()))?;
        if !is_default(config, "appendfilename") {
            write!(f, " --appendfilename {}", Word(config.appendfilename.as_os_str()))?;
        }
        if !is_default(config, "databases") {
            write!(f, " --databases {}", config.databases)?;
        }
        imported.map_or(Ok(()), |path| write!(f, " --import {}", Word(path.as_os_str())))
    }
}

fn parameter(name: &str) -> Option<&'static config::Parameter> {
    config::parameters::find(name.as_bytes()).map(|(_, parameter)| parameter)
}

fn is_default(config: &Config, name: &str) -> bool {
    parameter(name).is_none_or(|parameter| parameter.show(config) == parameter.default_shown())
}

/// A word as a shell takes it.
struct Word<'a>(&'a OsStr);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(byte);
        let text = self.0.to_string_lossy();
        if text.bytes().all(|byte| plain(&byte)) && !text.is_empty() {
            return f.write_str(&text);
        }
        write!(f, "'{}'", text.replace('\'', "'\\''"))
    }
}

/// Refuses to begin an empty log beside one of Redis 7 that nobody has taken over: whoever starts
/// there expects the data of the latter.
///
/// # Errors
/// [`StartError`], with what to run.
pub(super) fn refuse_unimported(config: &Config) -> Result<(), StartError> {
    let log = config.dir.join(&config.appendfilename);
    if log.symlink_metadata().is_ok() {
        return Ok(());
    }
    let dir_name = parameter("appenddirname").map(|parameter| parameter.show(config));
    let folder = config.dir.join(OsStr::from_bytes(dir_name.as_deref().unwrap_or_default()));
    let found = source::find_redis_log(&folder, config.appendfilename.as_os_str());
    let Some(source::RedisLog { manifest, files }) = found else { return Ok(()) };
    let names = match files {
        Some(count) => format!("names a log of Redis in {}", Files(count)),
        None => "cannot be read".to_owned(),
    };
    Err(StartError::new(format!(
        "There is no append-only file {}, but {} {names}. Nothing was changed\n\
         To take that log over, stop the Redis that writes it and run: {}\n\
         To begin an empty log here on purpose, move {} away first",
        log.display(),
        manifest.display(),
        Run(config, Some(&folder)),
        folder.display()
    )))
}
