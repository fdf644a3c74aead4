//! A file system that loses its power: an image on a loop device, whose file system is shut down
//! without flushing and mounted again, so that it holds what a disk would hold.
//!
//! What the file system had handed to the device stays, as on a disk without a volatile cache, and
//! nothing else: neither dirty pages nor the journal in memory.

// The shutdown is an ioctl that nix has no wrapper for.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::skip::find_program;

/// `_IOR('X', 125, u32)`: EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN.
const SHUTDOWN: libc::c_ulong = 0x8004_587D;
/// Neither data nor the journal is flushed.
const NO_LOG_FLUSH: u32 = 2;

/// How long to wait for the last process of a dead server to let go of the file system.
const BUSY: Duration = Duration::from_secs(20);

/// A mounted file system on an image of its own.
///
/// Nothing of it outlives the process, however that ends: it is mounted in the thread's own mount
/// namespace, the loop device goes with its last user, and the image has no name.
pub struct PoweredDisk {
    /// "ext4" or "xfs".
    pub kind: &'static str,
    device: PathBuf,
    /// Holds the loop device, which is set to go with its last user.
    _held: File,
    /// Open on the mount point while it is mounted, so that the cut takes no time.
    root: Option<File>,
    place: TempDir,
}

impl PoweredDisk {
    /// Gives the calling thread, and the processes and threads that it starts from here on, mounts
    /// of their own. Must come before [`PoweredDisk::create`].
    ///
    /// # Errors
    /// The reason why this machine does not allow it.
    pub fn isolate_mounts() -> Result<(), String> {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("no mount namespace: {error}"))?;
        run("mount", &["--make-rprivate".as_ref(), "/".as_ref()]).map(drop)
    }

    /// A new file system of `kind`, mounted.
    ///
    /// # Errors
    /// The reason why this machine has none: no privilege, no loop device, no such file system.
    pub fn create(kind: &'static str, bytes: u64) -> Result<PoweredDisk, String> {
        let place = TempDir::with_prefix("server_async-power-").map_err(|e| e.to_string())?;
        let image = place.path().join("image");
        let file = File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(bytes).map_err(|e| e.to_string())?;
        run(&format!("mkfs.{kind}"), &["-q".as_ref(), &image])?;
        let device = run("losetup", &["--find".as_ref(), "--show".as_ref(), &image])?;
        let device = PathBuf::from(device.trim());
        let held = File::open(&device);
        // A device that is in use is only marked, to go with its last user.
        run("losetup", &["--detach".as_ref(), &device])?;
        let held = held.map_err(|error| format!("{}: {error}", device.display()))?;
        std::fs::remove_file(&image).map_err(|e| e.to_string())?;
        std::fs::create_dir(place.path().join("disk")).map_err(|e| e.to_string())?;
        let mut disk = PoweredDisk { kind, device, _held: held, root: None, place };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.place.path().join("disk")
    }

    /// The block device under it.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// A new, empty directory on it that no power cut takes away.
    pub fn directory(&self) -> TempDir {
        let directory = TempDir::with_prefix_in("server-", self.path()).expect("a directory");
        for path in [directory.path(), &self.path()] {
            File::open(path).and_then(|open| open.sync_all()).expect("sync a directory");
        }
        directory
    }

    /// Cuts the power: nothing more reaches the device, and what had not yet is lost.
    #[track_caller]
    pub fn cut(&self) {
        let root = self.root.as_ref().expect("it is mounted");
        let flag = NO_LOG_FLUSH;
        // SAFETY: the descriptor is open, and the ioctl reads one u32 through the pointer.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const flag) };
        assert_eq!(done, 0, "shut down {}: {}", self.kind, std::io::Error::last_os_error());
    }

    /// Unmounts it and mounts it again, which replays its journal. Whoever used it must be gone,
    /// or going.
    #[track_caller]
    pub fn restore_power(&mut self) {
        self.root = None;
        let deadline = Instant::now() + BUSY;
        while let Err(problem) = run("umount", &[&self.path()]) {
            assert!(Instant::now() < deadline, "{problem}");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.mount().unwrap_or_else(|problem| panic!("after a power cut: {problem}"));
    }

    fn mount(&mut self) -> Result<(), String> {
        run("mount", &["--types".as_ref(), self.kind.as_ref(), &self.device, &self.path()])?;
        self.root = Some(File::open(self.path()).map_err(|e| e.to_string())?);
        Ok(())
    }
}

impl Drop for PoweredDisk {
    fn drop(&mut self) {
        let mounted = self.root.take().is_some();
        // A server that a panic left running may still be in it: it is detached from the name
        // now, and freed when that process ends. What was never mounted cannot be unmounted.
        match run("umount", &["--lazy".as_ref(), &self.path()]) {
            Err(problem) if mounted => eprintln!("{problem}"),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Runs a program and returns what it wrote.
fn run(program: &str, arguments: &[&Path]) -> Result<String, String> {
    let path = find_program(program).ok_or_else(|| format!("{program} not installed"))?;
    let output = Command::new(path).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {arguments:?}: {}", said.trim()))
}
