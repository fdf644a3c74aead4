//! From a configuration to a server that listens.

use super::client_memory::ClientMemory;
use super::config_file::ConfigFile;
use super::cron::Cron;
use super::gathering::Gathering;
use super::import::refuse_unimported;
use super::lazyfree::Lazyfree;
use super::loading::open_storage;
use super::lock;
use super::logger;
use super::rewrite::Rewriting;
use super::{Attention, Engine, FIRST_LISTENER, SIGNALS, Server, WAKER, log_options, wake_loop};
use crate::commands;
use crate::config::{Config, LogLevel};
use crate::engine::effects::Effects;
use crate::engine::memory::MemoryAccount;
use crate::engine::registries::{Identity, Registries, SplitMix64};
use crate::keyspace::{HashKey, Keyspace};
use crate::net::listener::{self, BindError, Listener};
use crate::persist::log::AppendLog;
use crate::sys::clock::Now;
use crate::sys::signals::SignalFd;
use crate::sys::{huge_pages, limits, process, random, schedule, ticks};
use crate::text::cpu_list::CpuList;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token, Waker};
use slab::Slab;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a start waits for the lock and the port: a child of a killed server may hold them for
/// a moment.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the server did not start.
#[derive(Debug)]
pub struct StartError(String);

impl StartError {
    pub(super) fn new(why: String) -> StartError {
        StartError(why)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Starts a server: lock, sockets, log. When this returns it listens, and [`Server::run`] first
/// replays the log.
///
/// # Errors
/// [`StartError`] for whatever is in the way; the reason has been logged too.
pub fn start(
    mut config: Config,
    notices: &[&'static str],
    config_file: Option<PathBuf>,
) -> Result<Server, StartError> {
    let failed = |what: String| move |e: &dyn fmt::Display| StartError(format!("{what}: {e}"));
    if config.daemonize {
        process::daemonize().map_err(|e| failed("Cannot run in the background".into())(&e))?;
    }
    // Before any thread exists, so that none of them gets a signal meant for the loop.
    let signals = SignalFd::install().map_err(|e| failed("Cannot take signals".into())(&e))?;
    // Like every path it is relative to `dir`, which is not the working directory yet.
    let logfile = config.logfile.as_ref().map(|path| config.dir.join(path));
    logger::init(log_level(config.loglevel), logfile.as_deref())
        .map_err(|e| failed(format!("Can't open the log file {logfile:?}"))(&e))?;
    let server = set_up(&mut config, notices, config_file, signals);
    server.inspect_err(|e| e.0.lines().for_each(|line| log::error!("{line}")))
}

/// All of [`start`] behind what concerns the process as a whole.
pub(super) fn set_up(
    config: &mut Config,
    notices: &[&'static str],
    config_file: Option<PathBuf>,
    signals: SignalFd,
) -> Result<Server, StartError> {
    let now = Now::read();
    let pid = std::process::id();
    log::info!("server_async {} is starting", env!("CARGO_PKG_VERSION"));
    log::info!("Running mode=standalone, port={}, PID: {pid}", config.port);
    if !notices.is_empty() {
        log::warn!("Parameters taken that have no effect here: {}", notices.join(" "));
    }
    limit_clients(config);
    if (1..1 << 20).contains(&config.maxmemory_bytes) {
        log::warn!(
            "WARNING: You specified a maxmemory value that is less than 1MB (current value is {} \
             bytes). Are you sure this is what you really want?",
            config.maxmemory_bytes
        );
    }
    if config.disable_thp {
        warn_of_failure("disable-thp", huge_pages::disable());
    }
    std::env::set_current_dir(&config.dir)
        .map_err(|e| StartError(format!("Can't chdir to '{}': {e}", config.dir.display())))?;
    let lock = config.appendonly.then(|| lock::acquire(config, PATIENCE)).transpose()?;
    if config.appendonly {
        refuse_unimported(config)?;
    }
    let mut listeners = listen(config)?;

    let io_failed = |e: io::Error| StartError(format!("Cannot set up the event loop: {e}"));
    let poll = Poll::new().map_err(io_failed)?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(io_failed)?);
    let fd = signals.as_raw_fd();
    poll.registry().register(&mut SourceFd(&fd), SIGNALS, Interest::READABLE).map_err(io_failed)?;
    for (index, listener) in listeners.iter_mut().enumerate() {
        listener.register(poll.registry(), Token(FIRST_LISTENER + index)).map_err(io_failed)?;
    }
    if let Some(path) = &config.pidfile {
        // As in Redis, a pid file that cannot be written is no reason not to serve.
        if let Err(e) = fs::write(path, format!("{pid}\n")) {
            log::warn!("Failed to write PID file {}: {e}", path.display());
        }
    }
    let storage = open_storage(config)?;
    let name = config.appendfilename.as_os_str();
    // Off while the log is being loaded, too: nothing can be appended before its end is known.
    let everywhere = run_on("bio_cpulist", &config.bio_cpulist);
    let log = AppendLog::off(Arc::clone(&storage), name, log_options(config), &wake_loop(&waker));
    let log = log.map_err(io_failed)?;
    let memory = MemoryAccount::of_process().map_err(io_failed)?;
    let lazyfree = Lazyfree::spawn(Arc::clone(&memory.elsewhere), wake_loop(&waker));
    let lazyfree = lazyfree.map_err(io_failed)?;
    // The helper threads keep the processors that they were made on.
    if let Some(everywhere) = everywhere {
        warn_of_failure("The loop's processors", schedule::run_on(&everywhere));
    }
    run_on("server_cpulist", &config.server_cpulist);
    let seed = random::bytes().map(u64::from_ne_bytes).map_err(io_failed)?;
    let engine = Engine {
        keyspace: Keyspace::new(config.databases as usize, HashKey::random()),
        registries: Registries {
            identity: identity(pid, now, config_file).map_err(io_failed)?,
            ..Registries::new(config.clone(), commands::table(), memory, SplitMix64::new(seed))
        },
        effects: Effects::default(),
    };
    log::info!("Server initialized");
    let mut server = Server {
        poll,
        signals,
        listeners,
        connections: Slab::new(),
        last_client_id: 0,
        attention: Attention::default(),
        engine,
        log,
        storage,
        loading: None,
        rewrite: Rewriting::new().map_err(io_failed)?,
        cron: Cron::new(now.mono),
        config_file: ConfigFile::default(),
        wake: wake_loop(&waker),
        lazyfree,
        memory: ClientMemory::default(),
        gathering: Gathering::default(),
        now,
        arrivals: super::reading::Arrivals::new(),
        batch: super::requests::Batch::default(),
        exit: None,
        lock,
    };
    server.engine.registries.calls.set_clock(ticks::quickest());
    server.sample_memory();
    if config.appendonly {
        // From here on there is something to tidy up.
        server.begin_loading().inspect_err(|_| server.remove_files())?;
    } else {
        log::info!("Ready to accept connections");
    }
    Ok(server)
}

fn identity(pid: u32, now: Now, config_file: Option<PathBuf>) -> io::Result<Identity> {
    Ok(Identity {
        run_id: random::run_id()?,
        pid,
        started_unix: now.unix,
        started_mono: now.mono,
        executable: std::env::current_exe().unwrap_or_default(),
        config_file,
        os: process::system_name()?,
    })
}

/// Confines this thread, and those that it will make, to the processors of a parameter. Returns
/// where it could run before, if that changed. As in Redis, processors that cannot be had are no
/// reason not to serve.
fn run_on(parameter: &str, list: &CpuList) -> Option<Vec<usize>> {
    if list.cpus().is_empty() {
        return None;
    }
    let before = schedule::runs_on();
    let confined = schedule::run_on(list.cpus());
    let is_confined = confined.is_ok();
    warn_of_failure(parameter, confined);
    before.ok().filter(|_| is_confined)
}

fn warn_of_failure(what: &str, result: io::Result<()>) {
    if let Err(e) = result {
        log::warn!("{what}: {e}");
    }
}

/// Lowers `maxclients` to what the operating system gives descriptors for.
fn limit_clients(config: &mut Config) {
    let got = clients_possible(config.maxclients);
    if got < config.maxclients {
        log::warn!(
            "You requested maxclients of {} but the limit of open files allows {got} only. \
             If you need higher maxclients increase 'ulimit -n'.",
            config.maxclients
        );
        config.maxclients = got;
    }
}

/// Raises the limit of open files for `clients` clients; returns for how many it is enough.
pub(super) fn clients_possible(clients: u32) -> u32 {
    match limits::raise_open_files(clients.into()) {
        Ok(files) => u32::try_from(files.clients).unwrap_or(clients).max(1),
        Err(e) => {
            log::warn!("Cannot tell the limit of open files: {e}");
            clients
        }
    }
}

/// The logger's level for a `loglevel`.
pub(super) fn log_level(level: LogLevel) -> log::LevelFilter {
    match level {
        LogLevel::Debug => log::LevelFilter::Trace,
        LogLevel::Verbose => log::LevelFilter::Debug,
        LogLevel::Notice => log::LevelFilter::Info,
        LogLevel::Warning => log::LevelFilter::Warn,
        LogLevel::Nothing => log::LevelFilter::Off,
    }
}

/// Listens on all that the configuration names.
fn listen(config: &Config) -> Result<Vec<Listener>, StartError> {
    let mut listeners = bind_patiently(config)?;
    if let Some(path) = &config.unixsocket {
        let unix = listener::bind_unix(path, config.unixsocketperm, config.tcp_backlog);
        listeners.push(unix.map_err(|e| StartError(format!("Failed opening Unix socket: {e}")))?);
    }
    if listeners.is_empty() {
        return Err(StartError("Configured to not listen anywhere, exiting.".into()));
    }
    Ok(listeners)
}

fn bind_patiently(config: &Config) -> Result<Vec<Listener>, StartError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let e = match bind(config) {
            Ok(listeners) => return Ok(listeners),
            Err(e) => e,
        };
        if e.source.kind() != io::ErrorKind::AddrInUse || Instant::now() >= deadline {
            log::warn!("{e}");
            return Err(StartError(format!(
                "Failed listening on port {} (tcp), aborting.",
                config.port
            )));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Listens on the TCP addresses of `config`.
pub(super) fn bind(config: &Config) -> Result<Vec<Listener>, BindError> {
    if config.port == 0 {
        return Ok(Vec::new());
    }
    listener::bind_tcp(&config.bind, config.port, config.tcp_backlog)
}
