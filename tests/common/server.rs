//! The real binary, started in a directory of its own and gone when the test is.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::port::PortLease;
use super::process::{children, is_alive, processes_in, send_signal, wait_gone};
use super::skip::{find_program, skip_without};
use super::{PATIENCE, Raw};

/// Names another program to test instead of this package's binary.
const BINARY: &str = "SERVER_ASYNC_TEST_BINARY";

/// The line that says a server serves.
const READY: &str = "Ready to accept connections";

/// How a server is started. `port`, `bind` and `dir` are set by the fixture; a flag of the same
/// name given here comes later on the command line and wins.
#[derive(Clone)]
pub struct Launch {
    program: PathBuf,
    config_file: Option<PathBuf>,
    flags: Vec<(String, String)>,
    wrapper: Vec<OsString>,
    arguments: Vec<String>,
    files: Vec<(PathBuf, Vec<u8>)>,
    environment: Vec<(String, String)>,
    plain: bool,
    name: &'static str,
}

impl Launch {
    /// This package's binary.
    pub fn new() -> Launch {
        let program = std::env::var_os(BINARY).map_or_else(subject_binary, PathBuf::from);
        Launch {
            program,
            config_file: None,
            flags: Vec::new(),
            wrapper: Vec::new(),
            arguments: Vec::new(),
            files: Vec::new(),
            environment: Vec::new(),
            plain: false,
            name: "server",
        }
    }

    /// redis-server 7.0 without persistence, the reference; `None` after saying that `what` is
    /// skipped when it is not installed.
    pub fn reference(what: &str) -> Option<Launch> {
        let program = skip_without(what, "redis-server")?;
        let output = Command::new(&program).arg("--version").output().expect("redis-server runs");
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        if !version.contains(" v=7.0.") {
            super::skip(what, &format!("redis-server is not 7.0: {}", version.trim()));
            return None;
        }
        let launch = Launch { program, name: "redis-server", ..Launch::new() };
        Some(launch.flag("save", "").flag("appendonly", "no").flag("enable-debug-command", "yes"))
    }

    /// Adds `--name value`.
    pub fn flag(mut self, name: &str, value: &str) -> Launch {
        self.flags.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds one word to the command line, as it is, behind everything else.
    pub fn argument(mut self, word: &str) -> Launch {
        self.arguments.push(word.to_owned());
        self
    }

    /// The names of the files put into the directory, sorted.
    pub fn file_names(&self) -> Vec<String> {
        let names = self.files.iter().map(|(path, _)| path.to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Gives a configuration file, ahead of all flags.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Launch {
        self.config_file = Some(path.into());
        self
    }

    /// Puts a file into the directory before the first start. `path` is relative to it.
    pub fn file(mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Launch {
        self.files.push((path.into(), content.into()));
        self
    }

    /// Starts the server by another program: `words` come ahead of the server's own command line.
    pub fn wrapper<S: AsRef<OsStr>>(mut self, words: &[S]) -> Launch {
        self.wrapper = words.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Sets an environment variable of the server.
    pub fn environment(mut self, name: &str, value: &str) -> Launch {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves `port`, `bind` and `dir` to the server's defaults and the test's own flags.
    pub fn plain(mut self) -> Launch {
        self.plain = true;
        self
    }

    /// Starts the server and waits until it serves.
    #[track_caller]
    pub fn start(self) -> Server {
        let mut server = self.spawn();
        server.wait_ready();
        server
    }

    /// Starts the server without waiting for anything.
    #[track_caller]
    pub fn spawn(self) -> Server {
        Server::spawn(self, TempDir::with_prefix("server_async-test-").expect("a directory"))
    }

    /// Starts the server in `dir` and waits until it serves.
    #[track_caller]
    pub fn start_in(self, dir: TempDir) -> Server {
        let mut server = Server::spawn(self, dir);
        server.wait_ready();
        server
    }

    /// Starts a server that is expected to end by itself and returns what it left: its status,
    /// what it wrote, and its directory.
    #[track_caller]
    pub fn run_to_exit(self) -> Finished {
        let mut server = self.spawn();
        let status = server.wait_exit();
        let (stdout, stderr) = (server.log_text(), server.stderr_text());
        Finished { status, stdout, stderr, server }
    }
}

/// This package's binary. A function, so that `Launch` alone names it.
fn subject_binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_server_async"))
}

/// What is left of a server that ended by itself.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
    /// The fixture, for its directory.
    pub server: Server,
}

/// The lines that a stream has brought so far.
#[derive(Default)]
struct Lines {
    text: Mutex<(String, bool)>,
    grown: Condvar,
}

impl Lines {
    /// Collects `stream` until it ends, on a thread of its own.
    fn collect(stream: impl Read + Send + 'static) -> (Arc<Lines>, JoinHandle<()>) {
        let lines = Arc::new(Lines::default());
        let sink = Arc::clone(&lines);
        let thread = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            loop {
                line.clear();
                let ended = !matches!(stream.read_until(b'\n', &mut line), Ok(1..));
                let mut text = sink.text.lock().expect("no reader panics");
                text.0.push_str(&String::from_utf8_lossy(&line));
                text.1 = ended;
                sink.grown.notify_all();
                if ended {
                    return;
                }
            }
        });
        (lines, thread)
    }

    fn text(&self) -> String {
        self.text.lock().expect("no reader panics").0.clone()
    }

    /// Waits until `found` holds for the text from `from` on; false when the stream ended or
    /// `patience` ran out without.
    fn wait(&self, from: usize, patience: Duration, found: impl Fn(&str) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut text = self.text.lock().expect("no reader panics");
        loop {
            if found(&text.0[from..]) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if text.1 || left.is_zero() {
                return false;
            }
            text = self.grown.wait_timeout(text, left).expect("no reader panics").0;
        }
    }
}

/// A server under test. Killed and reaped when dropped; its directory goes with it.
pub struct Server {
    launch: Launch,
    child: Child,
    log: Arc<Lines>,
    stderr: Arc<Lines>,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
    port: PortLease,
    other_port: Option<u16>,
    dir: TempDir,
}

impl Server {
    /// This package's binary with the given flags, serving.
    #[track_caller]
    pub fn start(flags: &[(&str, &str)]) -> Server {
        let launch = Launch::new();
        flags.iter().fold(launch, |launch, (name, value)| launch.flag(name, value)).start()
    }

    #[track_caller]
    fn spawn(launch: Launch, dir: TempDir) -> Server {
        for (path, content) in &launch.files {
            std::fs::write(dir.path().join(path), content).expect("write a file for the server");
        }
        let port = PortLease::take();
        let (child, log, stderr, readers) = spawn_process(&launch, &port, dir.path());
        Server { launch, child, log, stderr, readers, status: None, port, other_port: None, dir }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.other_port.unwrap_or_else(|| self.port.number())
    }

    /// Says that it was told another port than the fixture's.
    pub fn at_port(mut self, port: u16) -> Server {
        self.other_port = Some(port);
        self
    }

    /// Its working directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in its working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The bytes of its append-only file.
    #[track_caller]
    pub fn aof(&self) -> Vec<u8> {
        let path = self.path("appendonly.aof");
        std::fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
    }

    /// The names in its working directory, sorted.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir()).expect("list the server's directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names.map(|n| n.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The names of files of a rewrite that did not end.
    pub fn temporary_files(&self) -> Vec<String> {
        let mut files = self.files();
        files.retain(|name| name.contains("temp") || name.contains("rewrite"));
        files
    }

    /// The server's process, below a wrapper where there is one.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        if self.launch.wrapper.is_empty() {
            return self.child.id();
        }
        self.try_pid().unwrap_or_else(|| panic!("{} runs no server", self.launch.name))
    }

    /// [`Server::pid`], or `None` once it has ended.
    pub fn try_pid(&self) -> Option<u32> {
        if self.launch.wrapper.is_empty() {
            return is_alive(self.child.id()).then_some(self.child.id());
        }
        children(self.child.id()).first().copied()
    }

    /// All it has written to its standard output.
    pub fn log_text(&self) -> String {
        self.log.text()
    }

    /// All it has written to its standard error.
    pub fn stderr_text(&self) -> String {
        self.stderr.text()
    }

    /// Waits until it says that it serves.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        self.wait_log(READY);
    }

    /// Waits for a line of its log that contains `text`.
    #[track_caller]
    pub fn wait_log(&mut self, text: &str) {
        self.wait_log_from(0, text);
    }

    /// Waits for a line of its log that contains `text` and stands behind the first `from` bytes;
    /// `log_text().len()` taken earlier is such a place.
    #[track_caller]
    pub fn wait_log_from(&mut self, from: usize, text: &str) {
        if !self.log.wait(from, PATIENCE, |log| log.contains(text)) {
            let state = self.child.try_wait().expect("ask for the server's state");
            panic!(
                "{} did not say {text:?} (state {state:?}); it said:\n{}{}",
                self.launch.name,
                self.log_text(),
                self.stderr_text()
            );
        }
    }

    /// A new connection that sees bytes.
    #[track_caller]
    pub fn raw(&self) -> Raw {
        Raw::connect(self.port())
    }

    /// A new connection of the `redis` crate.
    #[track_caller]
    pub fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port()));
        client.and_then(|client| client.get_connection()).expect("connect by the redis crate")
    }

    /// Runs one command, written as words, on a connection of its own.
    #[track_caller]
    pub fn run(&self, line: &str) -> super::Reply {
        self.raw().run(line)
    }

    /// One field of INFO as text; panics when there is none of that name.
    #[track_caller]
    pub fn info(&self, field: &str) -> String {
        let text = self.run("INFO everything").text();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("INFO has no {field}")).to_owned()
    }

    /// Kills it at once, with no chance to do anything, and reaps it.
    #[track_caller]
    pub fn kill9(&mut self) {
        if self.status.is_none() {
            send_signal(self.pid(), Signal::SIGKILL);
        }
        let status = self.wait_exit();
        if self.launch.wrapper.is_empty() {
            assert_eq!(
                status.signal(),
                Some(9),
                "killed, not ended by itself: {}",
                self.log_text()
            );
        }
    }

    /// Sends `signal`.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        assert!(send_signal(self.pid(), signal), "the server runs");
    }

    /// Asks it to end by SIGTERM and returns how it did.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit()
    }

    /// Waits until it has ended, and all it wrote is collected.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait for the server") {
                break status;
            }
            if Instant::now() >= deadline {
                panic!("{} does not end; it said:\n{}", self.launch.name, self.log_text());
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        self.status = Some(status);
        // A rewrite child holds the same standard output for as long as it lives.
        self.log.wait(0, PATIENCE, |_| false);
        self.stderr.wait(0, PATIENCE, |_| false);
        status
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.status.is_none() && matches!(self.child.try_wait(), Ok(None))
    }

    /// Starts it again in the same directory, on the same port, and waits until it serves.
    #[track_caller]
    pub fn restart(&mut self) {
        self.respawn();
        self.wait_ready();
    }

    /// Starts it again without waiting; it must have ended.
    #[track_caller]
    pub fn respawn(&mut self) {
        assert!(self.status.is_some(), "stop or kill the server before it is started again");
        let (child, log, stderr, readers) =
            spawn_process(&self.launch, &self.port, self.dir.path());
        self.child = child;
        self.log = log;
        self.stderr = stderr;
        self.readers = readers;
        self.status = None;
    }

    /// Changes a flag for the next start.
    pub fn set_flag(&mut self, name: &str, value: &str) {
        self.launch.flags.retain(|(flag, _)| flag != name);
        self.launch.flags.push((name.to_owned(), value.to_owned()));
    }

    /// Changes the wrapper for the next start.
    pub fn set_wrapper<S: AsRef<OsStr>>(&mut self, words: &[S]) {
        self.launch = self.launch.clone().wrapper(words);
    }

    /// The rewrite child, if one lives.
    pub fn rewrite_child(&self) -> Option<u32> {
        children(self.pid()).first().copied()
    }

    /// Starts a rewrite and waits until it has ended well; panics when it failed.
    #[track_caller]
    pub fn rewrite(&self) {
        let mut client = self.raw();
        let reply = client.run("BGREWRITEAOF");
        assert!(!reply.is_error(), "BGREWRITEAOF: {reply:?}");
        self.wait_rewrite_end(&mut client);
        assert_eq!(self.info("aof_last_bgrewrite_status"), "ok");
    }

    /// Waits until no rewrite runs or is scheduled.
    #[track_caller]
    pub fn wait_rewrite_end(&self, client: &mut Raw) {
        super::eventually("the end of the rewrite", || {
            let info = client.run("INFO persistence").text();
            info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let state = self.child.try_wait();
        if self.status.is_none() {
            let mut family = children(self.child.id());
            if self.launch.wrapper.is_empty() {
                family.push(self.child.id());
            } else {
                // A tracer is left to end by itself once what it traces is gone, so that it
                // leaves nothing stopped behind.
                for pid in family.clone() {
                    family.extend(children(pid));
                }
            }
            for pid in &family {
                send_signal(*pid, Signal::SIGKILL);
            }
            if !self.launch.wrapper.is_empty() {
                let deadline = Instant::now() + Duration::from_secs(5);
                while is_alive(self.child.id()) && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(1));
                }
                // The child may be gone already: then there is nothing to kill.
                let _ = self.child.kill();
            }
            // Reaping fails only if it was reaped before.
            let _ = self.child.wait();
            for pid in family {
                if !std::thread::panicking() {
                    wait_gone(pid, PATIENCE);
                }
            }
        }
        // A rewrite child that a test has stopped outlives its server, and holds its output.
        for pid in processes_in(self.dir.path()) {
            send_signal(pid, Signal::SIGKILL);
        }
        for reader in self.readers.drain(..) {
            // A reader's panic has been printed; another one here would abort the run.
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!(
                "--- {} on port {} ({}), ended: {:?}, had said:\n{}{}---",
                self.launch.name,
                self.port.number(),
                self.dir.path().display(),
                state,
                self.log.text(),
                self.stderr.text()
            );
        }
    }
}

type Spawned = (Child, Arc<Lines>, Arc<Lines>, Vec<JoinHandle<()>>);

#[track_caller]
fn spawn_process(launch: &Launch, port: &PortLease, dir: &Path) -> Spawned {
    let mut words: Vec<OsString> = Vec::new();
    // Dies with the thread that started it, so that an aborted run leaves no server behind.
    if let Some(setpriv) = find_program("setpriv") {
        words.extend([setpriv.into(), "--pdeathsig".into(), "KILL".into(), "--".into()]);
    }
    words.extend(launch.wrapper.iter().cloned());
    words.push(launch.program.clone().into());
    words.extend(launch.config_file.iter().map(|path| path.clone().into_os_string()));
    if !launch.plain {
        words.extend(["--port".into(), port.number().to_string().into()]);
        words.extend(["--bind".into(), "127.0.0.1".into()]);
        words.extend(["--dir".into(), dir.into()]);
    }
    for (name, value) in &launch.flags {
        words.extend([format!("--{name}").into(), value.into()]);
    }
    words.extend(launch.arguments.iter().map(Into::into));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(dir).env_remove("RUST_LOG");
    command.envs(launch.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("start {}: {error}", launch.name));
    let (log, log_reader) = Lines::collect(child.stdout.take().expect("piped"));
    let (stderr, stderr_reader) = Lines::collect(child.stderr.take().expect("piped"));
    (child, log, stderr, vec![log_reader, stderr_reader])
}
