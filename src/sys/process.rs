//! Processes: fork and what surrounds it, and the process's own figures.

// fork, _exit and close_range have no safe form.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{self, Signal};
use nix::sys::time::TimeValLike as _;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{self, ForkResult, SysconfVar};
use std::fs;
use std::io;
use std::os::fd::RawFd;

pub use nix::unistd::Pid;

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The process that forked, and its new child.
    Parent(Pid),
    /// The child.
    Child,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// Splits the process in two that share memory copy-on-write. Takes time in proportion to the
/// page tables: some 18 ms per GB of 4 KiB pages.
///
/// Only the calling thread lives on in the child, and a lock that another thread held stays
/// locked there for ever. The child therefore does not log, spawns no thread, takes no lock of
/// this program, and leaves by [`exit_now`]. It may allocate: the allocator puts its own locks in
/// order around a fork.
///
/// # Errors
/// Those of fork: EAGAIN or ENOMEM.
pub fn fork() -> io::Result<Forked> {
    // SAFETY: the child runs no code of other threads, and by the contract above touches no
    // state that they may have left half-changed; jemalloc and glibc register fork handlers.
    match unsafe { unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        ForkResult::Child => Ok(Forked::Child),
    }
}

/// The process's own number.
#[must_use]
pub fn own_pid() -> Pid {
    unistd::getpid()
}

/// Collects all children that have ended, without waiting. Call it on each
/// [`super::signals::Signal::ChildEnded`]: one signal can stand for several children.
///
/// # Errors
/// Those of waitpid; that there are no children is none.
pub fn reap() -> io::Result<Vec<(Pid, Exit)>> {
    let mut ended = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended.push((pid, Exit::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                ended.push((pid, Exit::Signal(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(ended),
            // Stops and continuations were not asked for.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills a child; it still has to be reaped.
///
/// # Errors
/// Those of kill; that it has ended already is none.
pub fn kill_child(child: Pid) -> io::Result<()> {
    match signal::kill(child, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Has the kernel kill this child as soon as the thread that forked it ends. For the child, right
/// after the fork.
///
/// # Errors
/// Those of prctl; NotFound if `parent` has ended before the call, when the kernel will not tell
/// any more: leave at once then.
pub fn die_with_parent(parent: Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if unistd::getppid() == parent {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, "the parent process has ended"))
    }
}

/// Ends the process without running anything more: no destructor, no exit handler, no flush. The
/// only way out of a forked child, whose copies of the parent's objects must not act.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit touches no memory of the program and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes a forked child's copy of a descriptor whose owner lives on in the parent. Only for a
/// child that leaves by [`exit_now`], so that the owner's copy here never acts.
pub fn close_in_child(descriptor: RawFd) {
    // SAFETY: the call takes a plain number; by the contract above nobody in this process uses the
    // descriptor again. A failure leaves it to the child's end.
    unsafe { libc::close(descriptor) };
}

/// Closes every descriptor but standard input, output and error and those in `keep`; for a forked
/// child, so that a listening port, a lock or a client's connection does not outlive the parent
/// in it. Objects that own closed descriptors must never be used or dropped again.
///
/// # Errors
/// Those of close_range; on Linux before 5.9, which lacks it, of reading `/proc/self/fd`.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.push(libc::STDERR_FILENO as u32);
    kept.sort_unstable();
    let ends = kept.iter().skip(1).map(|next| next.checked_sub(1)).chain([Some(u32::MAX)]);
    for (before, last) in kept.iter().zip(ends) {
        let first = (before + 1).max(libc::STDERR_FILENO as u32 + 1);
        let Some(last) = last.filter(|last| first <= *last) else { continue };
        match close_range(first, last) {
            Ok(()) => {}
            Err(Errno::ENOSYS) => return close_listed_but(&kept),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // Through syscall, since the C library has the function only from glibc 2.34 on.
    // SAFETY: the call takes plain numbers. Whoever owns the descriptors is never run again, by
    // the contract of `close_all_but`.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

fn close_listed_but(kept: &[u32]) -> io::Result<()> {
    let open: Vec<u32> = fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok())))
        .filter_map(io::Result::transpose)
        .collect::<io::Result<_>>()?;
    for descriptor in open {
        if descriptor > libc::STDERR_FILENO as u32 && !kept.contains(&descriptor) {
            // The listing's own descriptor is among them and closed by now: EBADF is no error.
            // SAFETY: as in `close_range`.
            unsafe { libc::close(descriptor as i32) };
        }
    }
    Ok(())
}

/// Goes on in the background: in a child of the process, which exits with code 0, as leader of a
/// session without a terminal, standard streams on `/dev/null`. Call it before any thread is
/// spawned.
///
/// # Errors
/// Those of fork, setsid, and opening `/dev/null`.
pub fn daemonize() -> io::Result<()> {
    if let Forked::Parent(_) = fork()? {
        exit_now(0);
    }
    unistd::setsid()?;
    let nowhere = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    unistd::dup2_stdin(&nowhere)?;
    unistd::dup2_stdout(&nowhere)?;
    unistd::dup2_stderr(&nowhere)?;
    Ok(())
}

/// Whose processor time to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuOf {
    /// All threads of this process.
    Process,
    /// Children that have been reaped.
    Children,
    /// The calling thread.
    Thread,
}

/// Processor time spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// In the program, in microseconds.
    pub user_us: i64,
    /// In the kernel on its behalf, in microseconds.
    pub system_us: i64,
}

/// Processor time spent so far.
///
/// # Errors
/// Those of getrusage: none in practice.
pub fn cpu_times(of: CpuOf) -> io::Result<CpuTimes> {
    let usage = getrusage(match of {
        CpuOf::Process => UsageWho::RUSAGE_SELF,
        CpuOf::Children => UsageWho::RUSAGE_CHILDREN,
        CpuOf::Thread => UsageWho::RUSAGE_THREAD,
    })?;
    Ok(CpuTimes {
        user_us: usage.user_time().num_microseconds(),
        system_us: usage.system_time().num_microseconds(),
    })
}

/// The process's resident memory in bytes.
///
/// # Errors
/// If `/proc/self/statm` cannot be read.
pub fn resident_bytes() -> io::Result<u64> {
    let figures = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = figures
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| unreadable("/proc/self/statm"))?;
    Ok(pages.saturating_mul(page_bytes()?))
}

/// Bytes of the process's memory that it shares with nobody and has changed. In a child since its
/// fork: what copy-on-write has copied on either side. The kernel walks all page tables for it,
/// milliseconds per GB.
///
/// # Errors
/// If `/proc/self/smaps_rollup` cannot be read.
pub fn private_dirty_bytes() -> io::Result<u64> {
    const PATH: &str = "/proc/self/smaps_rollup";
    let kib: u64 = fs::read_to_string(PATH)?
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse().ok())
        .ok_or_else(|| unreadable(PATH))?;
    Ok(kib.saturating_mul(1_024))
}

/// The machine's memory in bytes.
///
/// # Errors
/// If the system does not say.
pub fn machine_memory_bytes() -> io::Result<u64> {
    Ok(system_figure(SysconfVar::_PHYS_PAGES)?.saturating_mul(page_bytes()?))
}

/// Kernel, its release, and the processor, as INFO's `os` shows them: `Linux 6.1.0-18 x86_64`.
///
/// # Errors
/// Those of uname: none in practice.
pub fn system_name() -> io::Result<String> {
    let name = nix::sys::utsname::uname()?;
    let parts = [name.sysname(), name.release(), name.machine()];
    Ok(parts.map(|part| part.to_string_lossy()).join(" "))
}

fn page_bytes() -> io::Result<u64> {
    system_figure(SysconfVar::PAGE_SIZE)
}

fn system_figure(name: SysconfVar) -> io::Result<u64> {
    unistd::sysconf(name)?
        .and_then(|figure| u64::try_from(figure).ok())
        .ok_or_else(|| unreadable("sysconf"))
}

fn unreadable(source: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected content of {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::signals::{self, SignalFd};
    use mio::unix::SourceFd;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    /// Bounds waiting for what a broken build would never deliver.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Runs `scenario` in a process of its own, since masks, children and descriptors are the
    /// whole process's, and the other tests run in it too. The child reports by exit code: the
    /// line of the step that failed, modulo 200, or 0.
    fn in_child(scenario: impl FnOnce() -> Result<(), u32>) {
        match fork().expect("forked") {
            Forked::Child => exit_now(match scenario() {
                Ok(()) => 0,
                Err(line) => (line % 200) as i32 + 1,
            }),
            Forked::Parent(child) => {
                let status = waitpid(child, None).expect("waited");
                assert_eq!(status, WaitStatus::Exited(child, 0), "code: line % 200 + 1");
            }
        }
    }

    /// Waits to be killed, longer than any test waits for that; yet not for ever, so that a
    /// failing test leaves no process behind.
    fn linger() -> ! {
        std::thread::sleep(2 * PATIENCE);
        exit_now(99)
    }

    macro_rules! step {
        ($condition:expr) => {
            if !$condition {
                return Err(line!());
            }
        };
    }

    /// Waits for signals through mio, as the loop does.
    fn next_signal(signals: &SignalFd) -> Option<signals::Signal> {
        let mut poll = mio::Poll::new().ok()?;
        let descriptor = signals.as_raw_fd();
        let token = mio::Token(0);
        poll.registry()
            .register(&mut SourceFd(&descriptor), token, mio::Interest::READABLE)
            .ok()?;
        let mut events = mio::Events::with_capacity(1);
        poll.poll(&mut events, Some(PATIENCE)).ok()?;
        signals.read().ok()?
    }

    #[test]
    fn ended_children_are_reaped_with_their_fates() {
        in_child(|| {
            let Ok(signals) = SignalFd::install() else { return Err(line!()) };
            step!(reap().is_ok_and(|ended| ended.is_empty()));
            let Ok(Forked::Parent(exits)) = fork().map(|side| match side {
                Forked::Child => exit_now(7),
                parent => parent,
            }) else {
                return Err(line!());
            };
            step!(next_signal(&signals) == Some(signals::Signal::ChildEnded));
            step!(reap().is_ok_and(|ended| ended == [(exits, Exit::Code(7))]));
            let Ok(Forked::Parent(killed)) = fork().map(|side| match side {
                Forked::Child => linger(),
                parent => parent,
            }) else {
                return Err(line!());
            };
            step!(reap().is_ok_and(|ended| ended.is_empty()));
            step!(kill_child(killed).is_ok());
            step!(next_signal(&signals) == Some(signals::Signal::ChildEnded));
            step!(reap().is_ok_and(|ended| ended == [(killed, Exit::Signal(libc::SIGKILL))]));
            step!(kill_child(killed).is_ok());
            Ok(())
        });
    }

    #[test]
    fn signals_wait_in_the_descriptor_and_end_a_restored_child() {
        in_child(|| {
            let Ok(signals) = SignalFd::install() else { return Err(line!()) };
            step!(matches!(signals.read(), Ok(None)));
            let own = own_pid();
            step!(signal::kill(own, Signal::SIGTERM).is_ok());
            step!(next_signal(&signals) == Some(signals::Signal::Terminate));
            step!(signal::kill(own, Signal::SIGINT).is_ok());
            step!(signal::kill(own, Signal::SIGHUP).is_ok());
            step!(signal::kill(own, Signal::SIGPIPE).is_ok());
            step!(signal::kill(own, Signal::SIGXFSZ).is_ok());
            let mut seen = Vec::new();
            while let Ok(Some(signal)) = signals.read() {
                seen.push(signal);
            }
            step!(seen.len() == 2);
            step!(seen.contains(&signals::Signal::Interrupt));
            step!(seen.contains(&signals::Signal::HangUp));
            let Ok(Forked::Parent(child)) = fork().map(|side| match side {
                Forked::Child => {
                    let restored = signals::restore_in_child();
                    if restored.is_ok() && signal::kill(own_pid(), Signal::SIGTERM).is_ok() {
                        linger();
                    }
                    exit_now(1)
                }
                parent => parent,
            }) else {
                return Err(line!());
            };
            let ended = waitpid(child, None);
            step!(ended == Ok(WaitStatus::Signaled(child, Signal::SIGTERM, false)));
            Ok(())
        });
    }

    #[test]
    fn a_child_dies_with_its_parent() {
        let (mut ours, mut theirs) = UnixStream::pair().expect("sockets");
        ours.set_read_timeout(Some(PATIENCE)).expect("timeout");
        in_child(|| {
            let parent = own_pid();
            match fork() {
                Ok(Forked::Child) => {
                    // Not the grandchild's parent: too late, as it were.
                    let orphan = die_with_parent(Pid::from_raw(1)).is_err();
                    if orphan && die_with_parent(parent).is_ok() && theirs.write(b"x").is_ok() {
                        linger();
                    }
                    exit_now(1);
                }
                Ok(Forked::Parent(_)) => {
                    // Not before the grandchild has asked to die with us.
                    let mut armed = [0];
                    step!(ours.read(&mut armed).is_ok_and(|count| count == 1));
                    step!(armed == *b"x");
                    Ok(())
                }
                Err(_) => Err(line!()),
            }
        });
        drop(theirs);
        // The end of the stream comes when the last holder of the other end is gone.
        assert_eq!(ours.read(&mut [0]).expect("the grandchild is dead"), 0);
    }

    #[test]
    fn only_the_kept_descriptors_stay_open() {
        in_child(|| {
            let Ok((a, b)) = UnixStream::pair() else { return Err(line!()) };
            let Ok((c, d)) = UnixStream::pair() else { return Err(line!()) };
            let [a, b, c, d] = [a, b, c, d].map(|stream| {
                let descriptor = stream.as_raw_fd();
                std::mem::forget(stream);
                descriptor
            });
            let is_open = |fd: RawFd| fs::metadata(format!("/proc/self/fd/{fd}")).is_ok();
            step!(close_all_but(&[c, a, a]).is_ok());
            step!(is_open(0) && is_open(2) && is_open(a) && is_open(c));
            step!(!is_open(b) && !is_open(d));
            step!(close_listed_but(&[a as u32]).is_ok());
            step!(is_open(0) && is_open(a) && !is_open(c));
            step!(close_all_but(&[]).is_ok());
            step!(is_open(2) && !is_open(a));
            Ok(())
        });
    }

    #[test]
    fn a_daemon_leads_its_session_without_a_terminal() {
        let (mut ours, mut theirs) = UnixStream::pair().expect("sockets");
        ours.set_read_timeout(Some(PATIENCE)).expect("timeout");
        in_child(|| {
            let before = own_pid();
            step!(daemonize().is_ok());
            let streams_gone = (0..=2).all(|fd| {
                fs::read_link(format!("/proc/self/fd/{fd}"))
                    .is_ok_and(|target| target.as_os_str() == "/dev/null")
            });
            let leads = unistd::getsid(None) == Ok(own_pid()) && own_pid() != before;
            let word: &[u8] = if streams_gone && leads { b"fine" } else { b"broken" };
            step!(theirs.write_all(word).is_ok());
            Ok(())
        });
        drop(theirs);
        let mut word = String::new();
        ours.read_to_string(&mut word).expect("the daemon's word");
        assert_eq!(word, "fine");
    }

    #[test]
    fn the_process_knows_its_own_figures() {
        let resident = resident_bytes().expect("resident memory");
        assert!((1 << 20..1 << 40).contains(&resident), "{resident}");
        assert!(private_dirty_bytes().expect("dirty memory") <= 1 << 40);
        assert!(machine_memory_bytes().expect("memory") > resident);
        assert!(system_name().expect("name").starts_with("Linux "));
        let before = cpu_times(CpuOf::Thread).expect("times");
        while cpu_times(CpuOf::Thread).expect("times") == before {
            std::hint::spin_loop();
        }
        let process = cpu_times(CpuOf::Process).expect("times");
        assert!(process.user_us + process.system_us > 0);
        assert!(cpu_times(CpuOf::Children).is_ok());
    }
}
