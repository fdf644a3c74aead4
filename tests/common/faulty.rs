//! A system that fails on demand: a library put before the C library's, whose calls look for files
//! that tell them to fail.

use super::server::Launch;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *path(char *buffer, size_t size, const char *name) {
    snprintf(buffer, size, "%s/%s", getenv("FAULTY_SYSTEM"), name);
    return buffer;
}

/* True once for each time the file is made. */
static int once(const char *name) {
    char buffer[4096];
    int saved = errno;
    int found = unlink(path(buffer, sizeof buffer, name)) == 0;
    errno = saved;
    return found;
}

int fdatasync(int descriptor) {
    if (once("sync-eio")) { errno = EIO; return -1; }
    return syscall(SYS_fdatasync, descriptor);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t offset) {
    if (once("write-eio")) { errno = EIO; return -1; }
    return syscall(SYS_pwrite64, descriptor, bytes, count, offset);
}

pid_t fork(void) {
    static pid_t (*real)(void);
    extern void *dlsym(void *, const char *);
    char buffer[4096];
    if (access(path(buffer, sizeof buffer, "fork-fails"), F_OK) == 0) {
        int log = open(path(buffer, sizeof buffer, "forks"), O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (log >= 0) { if (write(log, ".", 1) != 1) abort(); close(log); }
        errno = EAGAIN;
        return -1;
    }
    if (!real) real = dlsym((void *)-1L, "fork");
    return real();
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) {
        char buffer[4096], text[32] = "";
        int saved = errno;
        int file = open(path(buffer, sizeof buffer, "clock"), O_RDONLY);
        if (file >= 0) {
            ssize_t got = read(file, text, sizeof text - 1);
            close(file);
            if (got > 0) time->tv_sec += atol(text);
        }
        errno = saved;
    }
    return result;
}
"#;

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

    /// The next fdatasync fails with EIO, without having synced.
    pub fn fail_sync(&self) {
        std::fs::write(self.path("sync-eio"), "").expect("create the file");
    }

    /// The next write at an offset fails with EIO, without having written.
    pub fn fail_write(&self) {
        std::fs::write(self.path("write-eio"), "").expect("create the file");
    }

    /// Whether what [`FaultySystem::fail_sync`] and [`FaultySystem::fail_write`] ordered is yet to
    /// happen.
    pub fn fault_is_pending(&self) -> bool {
        self.path("sync-eio").exists() || self.path("write-eio").exists()
    }

    /// Whether each fork from here on fails with EAGAIN.
    pub fn fail_forks(&self, fail: bool) {
        let file = self.path("fork-fails");
        let result = if fail { std::fs::write(file, "") } else { std::fs::remove_file(file) };
        result.expect("set whether forks fail");
    }

    /// How many forks have failed.
    pub fn failed_forks(&self) -> u64 {
        std::fs::metadata(self.path("forks")).map_or(0, |metadata| metadata.len())
    }

    /// Sets the wall clock to so many seconds off the truth.
    pub fn set_clock(&self, off_s: i64) {
        // By a rename, so that no reading of the clock finds half of it.
        let new = self.path("clock.new");
        std::fs::write(&new, off_s.to_string()).expect("write the file");
        std::fs::rename(new, self.path("clock")).expect("rename the file");
    }
}
