//! What a server does, as a tracer of its system calls sees it, and what of its log would survive a
//! crash at any point of that trace.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::process::send_signal;
use super::server::{Launch, Server};
use super::skip::skip_without;

/// The calls that matter here: what changes files and names, what makes them durable, what tells
/// clients, and where the loop sleeps.
const TRACED: &str = "trace=write,writev,pwrite64,pwritev,pwritev2,send,sendto,sendmsg,fdatasync,\
fsync,sync,syncfs,sync_file_range,openat,close,rename,renameat,renameat2,unlink,unlinkat,\
ftruncate,epoll_wait,epoll_pwait";

/// The log's name, which is the default.
const LOG: &str = "appendonly.aof";

/// One system call.
#[derive(Debug)]
pub struct Call {
    /// Place in the trace where it was entered.
    pub entered: usize,
    /// Place in the trace where it returned; never is `usize::MAX`.
    pub returned: usize,
    /// The thread that made it.
    pub thread: u32,
    /// Its name.
    pub name: String,
    /// The descriptor that is its first argument, where it is one.
    pub fd: Option<i32>,
    /// What that descriptor stands for.
    pub target: String,
    /// All arguments, as the tracer prints them.
    pub arguments: String,
    /// What it returned.
    pub result: String,
}

impl Call {
    /// Whether it returned, and not with an error.
    pub fn succeeded(&self) -> bool {
        self.returned != usize::MAX && !self.result.starts_with('-')
    }

    /// Whether it carries bytes to a client.
    pub fn is_send(&self) -> bool {
        (self.name.starts_with("write") || self.name.starts_with("send"))
            && (self.target.contains("socket") || self.target.contains("TCP"))
    }

    fn is_write(&self) -> bool {
        self.name.starts_with("write") || self.name.starts_with("pwrite")
    }

    fn is_sync_of_file(&self) -> bool {
        self.name == "fdatasync" || self.name == "fsync"
    }
}

/// One file that was, or was to become, the log.
#[derive(Debug)]
struct File {
    /// The name it was created under.
    name: String,
    fd: i32,
    opened: usize,
    /// Where the call that gave it the log's name was entered, and where it returned.
    renamed: Option<(usize, usize)>,
    /// Where a sync of the directory begun after that had returned.
    named_for_good: Option<usize>,
    /// Where each sync was entered and where it returned, and whether it succeeded.
    syncs: Vec<(usize, usize, bool)>,
    /// For each mark, where the first write that had it returned.
    marks: HashMap<String, usize>,
    /// Where the last write to it returned.
    last_write: usize,
}

impl File {
    /// Whether a sync that proves something covers what was written at `written`, and had returned
    /// before `at`.
    fn is_synced(&self, written: usize, at: usize) -> bool {
        // After a failed sync the kernel may have dropped the bytes, and a later success proves
        // nothing about them.
        let failed = self.syncs.iter().filter(|(_, _, ok)| !ok).map(|&(entered, ..)| entered).min();
        let trusted = failed.unwrap_or(usize::MAX);
        let mut syncs = self.syncs.iter().filter(|&&(_, _, ok)| ok);
        syncs.any(|&(entered, returned, _)| entered > written && returned < at && entered < trusted)
    }
}

/// How well a write is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The kernel has it: no end of the process loses it.
    Written,
    /// The disk has it: no crash loses it.
    Durable,
}

/// A server that is being traced.
pub struct Traced {
    /// The server.
    pub server: Server,
    /// Its loop's thread.
    pub main_thread: u32,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Traced {
    /// Starts what `launch` says under the tracer, in `dir` if given; `None` after saying that
    /// `what` is skipped because there is no tracer.
    #[track_caller]
    pub fn start(what: &str, launch: Launch, dir: Option<tempfile::TempDir>) -> Option<Traced> {
        let strace = skip_without(what, "strace")?;
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("trace");
        let mut words: Vec<OsString> = vec![strace.into()];
        // Lines are taken whole, so that each mark in them is found.
        words.extend(["-f", "-y", "--seccomp-bpf", "-s", "2000000", "-o"].map(OsString::from));
        words.extend([file.clone().into(), "-e".into(), TRACED.into()]);
        let launch = launch.wrapper(&words);
        let server = match dir {
            Some(dir) => launch.start_in(dir),
            None => launch.start(),
        };
        let main_thread = server.pid();
        Some(Traced { server, main_thread, file, _folder: folder })
    }

    /// Stops the server, unless it has stopped, and reads the trace.
    #[track_caller]
    pub fn finish(mut self) -> Trace {
        if let Some(pid) = self.server.try_pid() {
            send_signal(pid, Signal::SIGTERM);
        }
        assert_eq!(self.server.wait_exit().code(), Some(0), "{}", self.server.log_text());
        let text = std::fs::read(&self.file).expect("the trace");
        Trace::read(&String::from_utf8_lossy(&text), self.main_thread)
    }
}

/// The trace of one run of a server.
pub struct Trace {
    /// The calls in the order in which they were entered.
    pub calls: Vec<Call>,
    /// The loop's thread.
    pub main_thread: u32,
    files: Vec<File>,
}

impl Trace {
    /// Reads the output of `strace -f -y`: one line a call, or two where others came in between.
    pub fn read(text: &str, main_thread: u32) -> Trace {
        let mut calls: Vec<Call> = Vec::new();
        let mut open: HashMap<u32, usize> = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let Ok(thread) = thread.parse() else { continue };
            let rest = rest.trim_start();
            if rest.starts_with("<... ") {
                if let Some(index) = open.remove(&thread) {
                    let tail = rest.split_once("resumed>").map_or("", |(_, tail)| tail);
                    calls[index].returned = at;
                    calls[index].result = result_of(tail);
                    calls[index].arguments.push_str(tail);
                }
                continue;
            }
            let Some((name, arguments)) = rest.split_once('(') else { continue };
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                continue;
            }
            let unfinished = arguments.ends_with("<unfinished ...>");
            if unfinished {
                open.insert(thread, calls.len());
            }
            let described = arguments.split_once('<').and_then(|(number, rest)| {
                let (path, _) = rest.split_once('>')?;
                Some((number.parse().ok()?, path.to_owned()))
            });
            let (fd, target) = described.map_or((None, String::new()), |(fd, t)| (Some(fd), t));
            calls.push(Call {
                entered: at,
                returned: if unfinished { usize::MAX } else { at },
                thread,
                name: name.to_owned(),
                fd,
                target,
                arguments: arguments.to_owned(),
                result: if unfinished { String::new() } else { result_of(arguments) },
            });
        }
        let mut trace = Trace { calls, main_thread, files: Vec::new() };
        trace.follow_files();
        trace
    }

    /// Tells the log's files apart. Not by their names, which change hands, but by when their
    /// descriptors were opened; a forked child has the same ones.
    fn follow_files(&mut self) {
        let mut files: Vec<File> = Vec::new();
        let mut syncs_of_directory = Vec::new();
        for call in &self.calls {
            let name = call.name.as_str();
            if name == "openat" && call.succeeded() {
                let quoted = call.arguments.split('"').nth(1).unwrap_or_default();
                let file = quoted.rsplit('/').next().unwrap_or_default();
                if file == LOG || file.starts_with("appendonly.aof.rewrite-") {
                    let digits = call.result.split('<').next().unwrap_or_default();
                    files.push(File {
                        name: file.to_owned(),
                        fd: digits.parse().expect("a descriptor"),
                        opened: call.returned,
                        renamed: (file == LOG).then_some((0, 0)),
                        named_for_good: (file == LOG).then_some(0),
                        syncs: Vec::new(),
                        marks: HashMap::new(),
                        last_write: 0,
                    });
                }
            } else if name.starts_with("rename") && call.succeeded() {
                let from = call.arguments.split('"').nth(1).unwrap_or_default();
                let to = call.arguments.split('"').nth(3).unwrap_or_default();
                if to == LOG {
                    let file = files.iter_mut().rev().find(|file| file.name == from);
                    file.expect("renamed what it opened").renamed =
                        Some((call.entered, call.returned));
                }
            } else if call.is_sync_of_file() || call.is_write() {
                let file = (files.iter_mut().rev())
                    .find(|file| Some(file.fd) == call.fd && file.opened < call.entered)
                    .filter(|_| call.target.contains(LOG));
                match file {
                    Some(file) if call.is_write() && call.succeeded() => {
                        for mark in marks_in(&call.arguments) {
                            let first = file.marks.entry(mark).or_insert(call.returned);
                            *first = (*first).min(call.returned);
                        }
                        file.last_write = file.last_write.max(call.returned);
                    }
                    Some(file) if call.is_sync_of_file() && call.returned != usize::MAX => {
                        file.syncs.push((call.entered, call.returned, call.succeeded()));
                    }
                    None if call.name == "fsync" && call.succeeded() => {
                        syncs_of_directory.push((call.entered, call.returned));
                    }
                    _ => {}
                }
            }
        }
        for file in &mut files {
            if let Some((_, renamed)) = file.renamed
                && file.named_for_good.is_none()
            {
                let mut after = syncs_of_directory.iter().filter(|(entered, _)| *entered > renamed);
                file.named_for_good = after.next().map(|&(_, returned)| returned);
            }
        }
        self.files = files;
    }

    /// The files that a crash at `at` may leave under the log's name: the last that has it for
    /// good, and those that were given it later.
    fn after_crash(&self, at: usize) -> Result<Vec<&File>, String> {
        let given = |file: &File| file.renamed.map(|(entered, _)| entered).filter(|t| *t < at);
        let sure = self.files.iter().filter(|f| f.named_for_good.is_some_and(|t| t < at));
        let since = sure.filter_map(given).max().ok_or("no log has its name for good")?;
        Ok(self.files.iter().filter(|file| given(file).is_some_and(|t| t >= since)).collect())
    }

    /// Whether the write that `mark` names is kept so well at the point `at` of the trace.
    ///
    /// # Errors
    /// What is missing.
    pub fn is_kept(&self, mark: &str, kept: Kept, at: usize) -> Result<(), String> {
        for file in self.after_crash(at)? {
            let &written = (file.marks.get(mark).filter(|written| **written < at))
                .ok_or_else(|| format!("{mark} is not in {}", file.name))?;
            if kept == Kept::Durable && !file.is_synced(written, at) {
                return Err(format!(
                    "{mark}, written at {written} into {}, is not on disk",
                    file.name
                ));
            }
        }
        Ok(())
    }

    /// Whether all of the log was on disk when the trace ended.
    ///
    /// # Errors
    /// The file that was not.
    pub fn ends_durable(&self) -> Result<(), String> {
        for file in self.after_crash(usize::MAX)? {
            if !file.is_synced(file.last_write, usize::MAX) {
                return Err(format!("the end of {} is not on disk", file.name));
            }
        }
        Ok(())
    }

    /// How many files have had the log's name.
    pub fn logs(&self) -> usize {
        self.files.iter().filter(|file| file.renamed.is_some()).count()
    }

    /// How many syncs of the log's files have ended well.
    pub fn log_syncs(&self) -> usize {
        self.files.iter().flat_map(|file| &file.syncs).filter(|(_, _, ok)| *ok).count()
    }

    /// What was sent to clients, in order.
    pub fn sends(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.is_send())
    }

    /// What was sent to the client whose replies begin with an echo of `echo`.
    ///
    /// # Errors
    /// That there is no such client.
    pub fn sends_to(&self, echo: &str) -> Result<Vec<&Call>, String> {
        let reply = echo_reply(echo);
        let first = self.sends().find(|call| call.arguments.contains(&reply));
        let socket = &first.ok_or_else(|| format!("{echo} was not sent"))?.target;
        Ok(self.sends().filter(|call| call.target == *socket).collect())
    }
}

/// How the tracer shows the reply to `ECHO text`. A monitor's line about it looks different.
pub fn echo_reply(text: &str) -> String {
    format!("\\r\\n{text}\\r\\n")
}

/// The marks in what the tracer shows of some bytes: `mark-WHO-NUMBER-` each.
pub fn marks_in(text: &str) -> Vec<String> {
    let found = text.match_indices("mark-").filter_map(|(at, _)| {
        let end = text[at..].match_indices('-').nth(2)?.0;
        Some(text[at..=at + end].to_owned())
    });
    found.collect()
}

fn result_of(text: &str) -> String {
    let result = text.rsplit_once(") = ").or_else(|| text.rsplit_once(")  = "));
    // The tracer aligns results by blanks.
    let aligned = || text.rsplit_once(" = ").map(|(_, result)| result);
    result.map(|(_, r)| r).or_else(aligned).map_or(String::new(), |r| r.trim().to_owned())
}
