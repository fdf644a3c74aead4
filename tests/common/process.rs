//! What /proc tells about processes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The living children of `pid`, without zombies.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers
        .filter(
            |&child: &u32| matches!(parent_and_state(child), Some((p, s)) if p == pid && s != 'Z'),
        )
        .collect()
}

/// The children of `pid` by the kernel's own list, one cheap read; zombies included. Falls back
/// to [`children`] on kernels without the list.
pub fn children_fast(pid: u32) -> Vec<u32> {
    match fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        Ok(list) => list.split_whitespace().filter_map(|child| child.parse().ok()).collect(),
        Err(_) => children(pid),
    }
}

/// Parent and state letter of `pid`, or `None` when there is no such process.
fn parent_and_state(pid: u32) -> Option<(u32, char)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything, so the fields are counted from the last bracket.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

/// The processes whose working directory is `folder`.
pub fn processes_in(folder: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_there =
        |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder);
    numbers.filter(is_there).collect()
}

/// Whether `pid` runs (a zombie does not).
pub fn is_alive(pid: u32) -> bool {
    matches!(parent_and_state(pid), Some((_, state)) if state != 'Z')
}

/// Waits until `pid` no longer runs; panics when it still does after `patience`.
#[track_caller]
pub fn wait_gone(pid: u32, patience: Duration) {
    let deadline = Instant::now() + patience;
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} still runs after {patience:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends `signal` to `pid`; false when there is no such process any more.
pub fn send_signal(pid: u32, signal: Signal) -> bool {
    kill(Pid::from_raw(pid as i32), signal).is_ok()
}

/// Raises this process's limit of open files (children inherit it) to at least `wanted`; false
/// when the hard limit forbids it.
pub fn raise_open_files(wanted: u64) -> bool {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return false };
    if soft >= wanted {
        return true;
    }
    // Only root may raise the hard limit; try that too.
    hard >= wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok()
        || setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted.max(hard)).is_ok()
}

/// Kills a process when the thread that holds this panics, for tests whose other threads end only
/// with that process.
pub struct KillOnPanic(pub u32);

impl Drop for KillOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            send_signal(self.0, Signal::SIGKILL);
        }
    }
}
