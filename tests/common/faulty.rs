//! A system that fails on demand: a library put before the C library's, whose calls look for files
//! that tell them to fail.

use super::server::Launch;
use nix::errno::Errno;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static pid_t server;

__attribute__((constructor)) static void begin(void) { server = getpid(); }

static const char *path(char *buffer, const char *name, const char *suffix) {
    snprintf(buffer, 4096, "%s/%s%s", getenv("FAULTY_SYSTEM"), name, suffix);
    return buffer;
}

/* True once for each time the file is made. */
static int once(const char *name) {
    char buffer[4096];
    int saved = errno;
    int found = unlink(path(buffer, name, "")) == 0;
    errno = saved;
    return found;
}

/* The number in a file; 0 without the file. */
static long number(const char *name, const char *suffix) {
    char buffer[4096], text[32] = "";
    int saved = errno;
    int file = syscall(SYS_openat, AT_FDCWD, path(buffer, name, suffix), O_RDONLY, 0);
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) < 0) abort();
        close(file);
    }
    errno = saved;
    return atol(text);
}

static void note(const char *name, const char *suffix, const char *text) {
    char buffer[4096];
    int saved = errno, flags = O_WRONLY | O_CREAT | O_APPEND;
    int file = syscall(SYS_openat, AT_FDCWD, path(buffer, name, suffix), flags, 0600);
    if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text)) abort();
    close(file);
    errno = saved;
}

/* Whether the call fails; errno is set then. */
static int fails(const char *name) {
    int error = number(name, "-fails");
    if (!error) return 0;
    note(name, "-failed", ".");
    errno = error;
    return 1;
}

/* Lets the call take its time. */
static void delays(const char *name) {
    long ms = number(name, "-delays");
    if (ms) usleep(ms * 1000);
}

static long long now(void) {
    struct timespec time;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

int fdatasync(int descriptor) {
    if (once("sync-eio")) { errno = EIO; return -1; }
    if (fails("sync")) return -1;
    long slow_ms = number("sync-takes", "");
    if (!slow_ms) return syscall(SYS_fdatasync, descriptor);
    struct stat file;
    if (fstat(descriptor, &file)) abort();
    note("syncs-begun", "", ".");
    usleep(slow_ms * 1000);
    int result = syscall(SYS_fdatasync, descriptor);
    char text[64];
    snprintf(text, sizeof text, "%lld %lld\n", now(), (long long)file.st_size);
    note("syncs-ended", "", text);
    return result;
}

int fsync(int descriptor) {
    if (fails("directory-sync")) return -1;
    return syscall(SYS_fsync, descriptor);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t offset) {
    static int is_torn;
    delays("write");
    if (once("write-eio")) { errno = EIO; return -1; }
    if (getpid() != server) {
        while (number("child-hangs", "")) usleep(1000);
        if (fails("child-write")) return -1;
    }
    size_t taken = number("write-takes", "");
    if (taken && taken < count) {
        if (!is_torn) count = taken;
        /* Where the writes fail too, what comes behind the first bytes does. */
        if (number("write", "-fails")) {
            is_torn = !is_torn;
            if (!is_torn && fails("write")) return -1;
        }
    } else if (fails("write")) {
        return -1;
    }
    return syscall(SYS_pwrite64, descriptor, bytes, count, offset);
}

int ftruncate64(int descriptor, off64_t length) {
    if (fails("truncate")) return -1;
    return syscall(SYS_ftruncate, descriptor, length);
}

int openat(int folder, const char *name, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = flags & O_CREAT ? va_arg(rest, int) : 0;
    va_end(rest);
    if (flags & O_CREAT && fails("create")) return -1;
    return syscall(SYS_openat, folder, name, flags, mode);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    delays("rename");
    if (fails("rename")) return -1;
    return syscall(SYS_renameat2, from_folder, from, to_folder, to, 0);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    if (fails("link")) return -1;
    return syscall(SYS_linkat, from_folder, from, to_folder, to, flags);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    if (fails("exchange")) return -1;
    return syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
}

pid_t fork(void) {
    static pid_t (*real)(void);
    extern void *dlsym(void *, const char *);
    delays("fork");
    if (fails("fork")) return -1;
    if (!real) real = dlsym((void *)-1L, "fork");
    return real();
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += number("clock", "");
    return result;
}
"#;

/// A call that can be told to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// fdatasync of a file.
    Sync,
    /// fsync of a directory.
    DirectorySync,
    /// Writes at an offset, of the server and its children.
    Write,
    /// Writes at an offset of its children only.
    ChildWrite,
    /// Changes of a file's length.
    Truncate,
    /// Creating a file beside the log.
    Create,
    /// Renaming a file beside the log.
    Rename,
    /// Giving a file a second name.
    Link,
    /// Exchanging the names of two files.
    Exchange,
    /// fork.
    Fork,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Call::Sync => "sync",
            Call::DirectorySync => "directory-sync",
            Call::Write => "write",
            Call::ChildWrite => "child-write",
            Call::Truncate => "truncate",
            Call::Create => "create",
            Call::Rename => "rename",
            Call::Link => "link",
            Call::Exchange => "exchange",
            Call::Fork => "fork",
        }
    }
}

/// A sync that has ended.
#[derive(Clone, Copy, Debug)]
pub struct EndedSync {
    /// When, on the monotonic clock of the machine, nanoseconds.
    pub at_ns: u64,
    /// The length of the file when it began, bytes.
    pub covers: u64,
}

/// The environment in which a server's system fails on demand.
pub struct FaultySystem {
    folder: PathBuf,
}

impl FaultySystem {
    /// Builds the library in `folder`, with the C compiler that Rust links with.
    pub fn build(folder: &Path) -> FaultySystem {
        let system = FaultySystem { folder: folder.to_owned() };
        std::fs::write(system.path("faulty.c"), SOURCE).expect("write the source");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-w", "-o"]).arg(system.path("faulty.so"));
        cc.arg(system.path("faulty.c")).arg("-ldl");
        assert!(cc.status().expect("run cc").success(), "cc builds the library");
        system
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A server that is to have this system.
    pub fn under(&self, launch: Launch) -> Launch {
        let text = |path: &Path| path.to_str().expect("plain text").to_owned();
        launch
            .environment("LD_PRELOAD", &text(&self.path("faulty.so")))
            .environment("FAULTY_SYSTEM", &text(&self.folder))
    }

    /// The file appears whole: no call finds half of it.
    fn put(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        std::fs::write(&new, text).expect("write the file");
        std::fs::rename(new, self.path(name)).expect("rename the file");
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).expect("remove the file");
    }

    /// Each such call from here on fails with `error`, having done nothing.
    pub fn fail(&self, call: Call, error: Errno) {
        self.put(&format!("{}-fails", call.name()), &(error as i32).to_string());
    }

    /// Each such call from here on takes so much longer. Only of writes, renames and forks.
    pub fn slow_down(&self, call: Call, by: Duration) {
        self.put(&format!("{}-delays", call.name()), &by.as_millis().to_string());
    }

    /// Such calls work again.
    pub fn mend(&self, call: Call) {
        self.remove(&format!("{}-fails", call.name()));
    }

    /// How many such calls have failed by [`FaultySystem::fail`].
    pub fn failed(&self, call: Call) -> u64 {
        let file = self.path(&format!("{}-failed", call.name()));
        std::fs::metadata(file).map_or(0, |metadata| metadata.len())
    }

    /// The next fdatasync fails with EIO, without having synced.
    pub fn fail_sync(&self) {
        self.put("sync-eio", "");
    }

    /// The next write at an offset fails with EIO, without having written.
    pub fn fail_write(&self) {
        self.put("write-eio", "");
    }

    /// Whether what [`FaultySystem::fail_sync`] and [`FaultySystem::fail_write`] ordered is yet to
    /// happen.
    pub fn fault_is_pending(&self) -> bool {
        self.path("sync-eio").exists() || self.path("write-eio").exists()
    }

    /// Each write at an offset from here on takes no more than so many bytes. If writes fail
    /// besides, it is those behind such a short one that do.
    pub fn shorten_writes(&self, bytes: usize) {
        self.put("write-takes", &bytes.to_string());
    }

    /// Writes take what they are given again.
    pub fn mend_short_writes(&self) {
        self.remove("write-takes");
    }

    /// Whether children wait with their first write from here on, until they are killed or this is
    /// taken back.
    pub fn hang_children(&self, hang: bool) {
        if hang {
            self.put("child-hangs", "1");
        } else {
            self.remove("child-hangs");
        }
    }

    /// Whether each fork from here on fails with EAGAIN.
    pub fn fail_forks(&self, fail: bool) {
        if fail {
            self.fail(Call::Fork, Errno::EAGAIN);
        } else {
            self.mend(Call::Fork);
        }
    }

    /// How many forks have failed.
    pub fn failed_forks(&self) -> u64 {
        self.failed(Call::Fork)
    }

    /// Each fdatasync from here on takes so long, and is counted.
    pub fn slow_syncs(&self, time: Duration) {
        self.put("sync-takes", &time.as_millis().to_string());
    }

    /// Syncs take as long as they do again.
    pub fn mend_slow_syncs(&self) {
        self.remove("sync-takes");
    }

    /// How many slow syncs have begun.
    pub fn syncs_begun(&self) -> usize {
        std::fs::read(self.path("syncs-begun")).map_or(0, |dots| dots.len())
    }

    /// The slow syncs that have ended, in order.
    pub fn syncs_ended(&self) -> Vec<EndedSync> {
        let text = std::fs::read_to_string(self.path("syncs-ended")).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let parse = |line: &str| {
            let (at_ns, covers) = line.trim().split_once(' ').expect("two numbers");
            let number = |text: &str| text.parse().expect("a number");
            EndedSync { at_ns: number(at_ns), covers: number(covers) }
        };
        whole.map(parse).collect()
    }

    /// Sets the wall clock to so many seconds off the truth.
    pub fn set_clock(&self, off_s: i64) {
        self.put("clock", &off_s.to_string());
    }
}
