//! The server's log: Redis's line form on standard output or in a file, through env_logger.
//!
//! ```text
//! 4711:M 22 Nov 2026 14:05:21.123 * Ready to accept connections
//! ```
//!
//! Process number, role (`M` the server, `C` a forked child), local time, and a mark for the
//! level. A line that cannot be written (a full disk, a closed pipe) is dropped: the log must
//! never take the server down.

use crate::sys::clock::{Now, UnixMs};
use crate::sys::local_time::LocalTime;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

/// The environment variable that, when set and not empty, decides what is logged (in
/// env_logger's syntax, such as `debug` or `warn,server_async::persist=trace`) until
/// [`set_level`] is called.
const ENVIRONMENT_VARIABLE: &str = "RUST_LOG";

/// Whether `RUST_LOG`, rather than a level set since, decides what is logged.
static ENVIRONMENT_DECIDES: AtomicBool = AtomicBool::new(false);

/// Starts logging: to `logfile`, which is created or appended to, or to standard output. `level`
/// is the least severe level to log (see [`level_by_name`]) unless `RUST_LOG` says otherwise. Call
/// it once, in the process that is to serve: behind the fork of daemonize.
///
/// # Errors
/// If `logfile` cannot be opened for writing, or a logger is in place already.
pub fn init(level: LevelFilter, logfile: Option<&Path>) -> io::Result<()> {
    let target = match logfile {
        Some(path) => {
            let file = File::options().create(true).append(true).open(path)?;
            env_logger::Target::Pipe(Box::new(file))
        }
        None => env_logger::Target::Stdout,
    };
    let environment = env::var(ENVIRONMENT_VARIABLE).ok().filter(|text| !text.is_empty());
    let environment = environment.map(|directives| filter_only(&directives));
    let start = environment.as_ref().map_or(level, env_logger::Logger::filter);
    let decides = environment.is_some();
    let logger = ServerLogger { lines: lines_to(target), environment };
    log::set_boxed_logger(Box::new(logger)).map_err(io::Error::other)?;
    ENVIRONMENT_DECIDES.store(decides, Ordering::Relaxed);
    log::set_max_level(start);
    Ok(())
}

/// Logs from now on what is at least as severe as `level`, whatever `RUST_LOG` said.
pub fn set_level(level: LevelFilter) {
    ENVIRONMENT_DECIDES.store(false, Ordering::Relaxed);
    log::set_max_level(level);
}

/// The filter that Redis's name of a `loglevel` stands for: `debug`, `verbose`, `notice`,
/// `warning` or `nothing`, in any case; `None` for other names.
#[must_use]
pub fn level_by_name(name: &str) -> Option<LevelFilter> {
    const NAMES: [(&str, LevelFilter); 5] = [
        ("debug", LevelFilter::Trace),
        ("verbose", LevelFilter::Debug),
        ("notice", LevelFilter::Info),
        ("warning", LevelFilter::Warn),
        ("nothing", LevelFilter::Off),
    ];
    NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, level)| *level)
}

/// Writes all it is given, except what the environment's filter holds back while that decides.
/// The level as such is held by the `log` crate, before a message is even formatted.
struct ServerLogger {
    lines: env_logger::Logger,
    /// A filter only: nothing is written through it.
    environment: Option<env_logger::Logger>,
}

impl ServerLogger {
    fn deciding_environment(&self) -> Option<&env_logger::Logger> {
        self.environment.as_ref().filter(|_| ENVIRONMENT_DECIDES.load(Ordering::Relaxed))
    }
}

impl Log for ServerLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.deciding_environment().is_none_or(|environment| environment.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if self.deciding_environment().is_none_or(|environment| environment.matches(record)) {
            // env_logger hands each line over in one write and drops it on an error.
            self.lines.log(record);
        }
    }

    fn flush(&self) {
        self.lines.flush();
    }
}

fn filter_only(directives: &str) -> env_logger::Logger {
    env_logger::Builder::new().parse_filters(directives).build()
}

/// A logger that lets every level through to `target`, in Redis's line form.
fn lines_to(target: env_logger::Target) -> env_logger::Logger {
    let server = process::id();
    env_logger::Builder::new()
        .filter_level(LevelFilter::Trace)
        .format(move |line, record| {
            let own = process::id();
            let role = if own == server { 'M' } else { 'C' };
            write_line(line, own, role, Now::read().unix, record)
        })
        .target(target)
        .build()
}

fn write_line(
    line: &mut impl Write,
    pid: u32,
    role: char,
    moment: UnixMs,
    record: &Record<'_>,
) -> io::Result<()> {
    write!(line, "{pid}:{role} ")?;
    match LocalTime::at(moment) {
        Some(time) => write!(
            line,
            "{:02} {} {} {:02}:{:02}:{:02}.{:03}",
            time.day,
            month_name(time.month),
            time.year,
            time.hour,
            time.minute,
            time.second,
            time.millisecond
        )?,
        // Only beyond the calendar of the C library.
        None => write!(line, "{}ms", moment.0)?,
    }
    writeln!(line, " {} {}", mark(record.level()), record.args())
}

fn month_name(month: u8) -> &'static str {
    const NAMES: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    NAMES.get(usize::from(month)).copied().unwrap_or("???")
}

fn mark(level: Level) -> char {
    match level {
        Level::Trace => '.',
        Level::Debug => '-',
        Level::Info => '*',
        Level::Warn | Level::Error => '#',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// A log target that keeps what it is given, a write an entry.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).map_err(io::Error::other)?;
            self.0.lock().expect("not poisoned").push(text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A disk without space.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    fn say(logger: &dyn Log, level: Level, message: &str) {
        logger.log(
            &Record::builder()
                .level(level)
                .target("server_async::server")
                .args(format_args!("{message}"))
                .build(),
        );
    }

    #[test]
    fn lines_have_the_form_that_scripts_wait_for() {
        let mut line = Vec::new();
        let record = |level| Record::builder().level(level).args(format_args!("hello")).build();
        for (level, mark) in [
            (Level::Trace, '.'),
            (Level::Debug, '-'),
            (Level::Info, '*'),
            (Level::Warn, '#'),
            (Level::Error, '#'),
        ] {
            line.clear();
            let moment = UnixMs(1_700_000_000_007);
            write_line(&mut line, 42, 'M', moment, &record(level)).expect("written");
            let text = String::from_utf8(line.clone()).expect("text");
            // Day, hour and minute depend on the zone.
            assert!(text.starts_with("42:M 1"), "{text}");
            assert!(text.ends_with(&format!(":20.007 {mark} hello\n")), "{text}");
            assert_eq!(text.len(), "42:M 14 Nov 2023 22:13:20.007 * hello\n".len());
            assert_eq!(&text[7..17], " Nov 2023 ");
        }
    }

    #[test]
    fn each_line_is_one_write_and_names_this_process() {
        let kept = Kept::default();
        let lines = lines_to(env_logger::Target::Pipe(Box::new(kept.clone())));
        let logger = ServerLogger { lines, environment: None };
        say(&logger, Level::Info, "one");
        say(&logger, Level::Trace, "two");
        let written = kept.0.lock().expect("not poisoned");
        assert_eq!(written.len(), 2);
        assert!(written[0].starts_with(&format!("{}:M ", process::id())), "{written:?}");
        assert!(written[0].ends_with(" * one\n"), "{written:?}");
        assert!(written[1].ends_with(" . two\n"), "{written:?}");
    }

    #[test]
    fn a_full_disk_costs_the_line_and_nothing_else() {
        let lines = lines_to(env_logger::Target::Pipe(Box::new(Full)));
        let logger = ServerLogger { lines, environment: None };
        say(&logger, Level::Error, "lost");
        say(&logger, Level::Error, "lost, too");
        logger.flush();
    }

    /// The only test that touches the process-wide level and switch.
    #[test]
    fn the_environment_decides_until_a_level_is_set() {
        let kept = Kept::default();
        let logger = ServerLogger {
            lines: lines_to(env_logger::Target::Pipe(Box::new(kept.clone()))),
            environment: Some(filter_only("warn,server_async::persist=trace")),
        };
        ENVIRONMENT_DECIDES.store(true, Ordering::Relaxed);
        say(&logger, Level::Info, "held back");
        say(&logger, Level::Warn, "passed");
        set_level(LevelFilter::Info);
        say(&logger, Level::Info, "passed as well");
        assert_eq!(log::max_level(), LevelFilter::Info);
        let written = kept.0.lock().expect("not poisoned");
        assert_eq!(written.len(), 2, "{written:?}");
        assert!(written[0].ends_with("# passed\n") && written[1].ends_with("passed as well\n"));
    }

    #[test]
    fn levels_have_redis_names() {
        assert_eq!(level_by_name("notice"), Some(LevelFilter::Info));
        assert_eq!(level_by_name("WARNING"), Some(LevelFilter::Warn));
        assert_eq!(level_by_name("nothing"), Some(LevelFilter::Off));
        assert_eq!(level_by_name("info"), None);
    }

    #[test]
    fn a_logfile_that_cannot_be_opened_is_an_error() {
        let directory = tempfile::tempdir().expect("directory");
        let missing = directory.path().join("missing/server.log");
        assert!(init(LevelFilter::Info, Some(&missing)).is_err());
    }
}
