//! A disk that hangs on demand: a library put before the C library's, whose fdatasync waits while
//! a file exists.

use super::server::Launch;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int fdatasync(int descriptor) {
    const char *file = getenv("SLOW_DISK_FILE");
    char next[4096];
    if (file) snprintf(next, sizeof next, "%s-lets-one", file);
    while (file && access(file, F_OK) == 0 && unlink(next)) usleep(1000);
    return syscall(SYS_fdatasync, descriptor);
}
"#;

/// The environment under which a server's disk hangs while the file exists.
pub struct SlowDisk {
    library: PathBuf,
    file: PathBuf,
}

impl SlowDisk {
    /// Builds the library in `folder`, with the C compiler that Rust links with.
    pub fn build(folder: &Path) -> SlowDisk {
        let (source, library) = (folder.join("slow_disk.c"), folder.join("slow_disk.so"));
        std::fs::write(&source, SOURCE).expect("write the source");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        assert!(cc.status().expect("run cc").success(), "cc builds the library");
        SlowDisk { library, file: folder.join("disk-hangs") }
    }

    /// A server that is to have this disk.
    pub fn under(&self, launch: Launch) -> Launch {
        let text = |path: &Path| path.to_str().expect("plain text").to_owned();
        launch
            .environment("LD_PRELOAD", &text(&self.library))
            .environment("SLOW_DISK_FILE", &text(&self.file))
    }

    /// From here on each sync hangs.
    pub fn hang(&self) {
        std::fs::write(&self.file, "").expect("create the file");
    }

    /// The sync that hangs, or else the next one, goes on; others hang as before.
    pub fn let_one_go_on(&self) {
        let mut next = self.file.clone().into_os_string();
        next.push("-lets-one");
        std::fs::write(next, "").expect("create the file");
    }

    /// Syncs go on.
    pub fn go_on(&self) {
        std::fs::remove_file(&self.file).expect("remove the file");
    }
}
