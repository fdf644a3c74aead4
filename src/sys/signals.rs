//! Signals as events of the loop.

// sigaction and signal are unsafe in nix, since handlers can run anywhere; here there are none.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::signal::{self, SigHandler, SigSet, SigmaskHow};
use nix::sys::signalfd::{SfdFlags, SignalFd as Descriptor};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// A signal that the loop handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: shut down.
    Terminate,
    /// SIGINT: shut down; the second one, at once.
    Interrupt,
    /// SIGHUP: the terminal is gone. Redis ignores it.
    HangUp,
    /// SIGUSR1.
    User1,
    /// SIGCHLD: one child or several ended; see [`super::process::reap`].
    ChildEnded,
}

const HANDLED: [(signal::Signal, Signal); 5] = [
    (signal::Signal::SIGTERM, Signal::Terminate),
    (signal::Signal::SIGINT, Signal::Interrupt),
    (signal::Signal::SIGHUP, Signal::HangUp),
    (signal::Signal::SIGUSR1, Signal::User1),
    (signal::Signal::SIGCHLD, Signal::ChildEnded),
];

/// The signals of the process as a non-blocking descriptor to poll for reading.
#[derive(Debug)]
pub struct SignalFd {
    descriptor: Descriptor,
}

impl SignalFd {
    /// Diverts the handled signals to a descriptor, and makes the process ignore SIGPIPE (a
    /// write to a closed socket) and SIGXFSZ (a write beyond RLIMIT_FSIZE): both show as errors
    /// of the call.
    ///
    /// Call it on the main thread before any other thread is spawned: threads inherit the mask,
    /// and a signal is delivered to any thread that does not block it.
    ///
    /// # Errors
    /// Those of sigaction, pthread_sigmask and signalfd.
    pub fn install() -> io::Result<SignalFd> {
        for ignored in [signal::Signal::SIGPIPE, signal::Signal::SIGXFSZ] {
            // SAFETY: no handler is installed, so no code can run in a signal's context.
            unsafe { signal::signal(ignored, SigHandler::SigIgn) }?;
        }
        // A parent that ignores SIGCHLD hands that down, and then children cannot be waited for.
        // SAFETY: as above.
        unsafe { signal::signal(signal::Signal::SIGCHLD, SigHandler::SigDfl) }?;
        let mask = handled_set();
        mask.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(SignalFd { descriptor: Descriptor::with_flags(&mask, flags)? })
    }

    /// The next pending signal, if any. The kernel merges signals of one kind that wait, and the
    /// descriptor is edge-triggered under mio: read until `None`.
    ///
    /// # Errors
    /// Those of read, EINTR and EAGAIN excepted.
    pub fn read(&self) -> io::Result<Option<Signal>> {
        loop {
            match self.descriptor.read_signal() {
                Ok(None) => return Ok(None),
                Ok(Some(info)) => {
                    let number = i32::try_from(info.ssi_signo).unwrap_or(0);
                    if let Some((_, signal)) =
                        HANDLED.iter().find(|(handled, _)| *handled as i32 == number)
                    {
                        return Ok(Some(*signal));
                    }
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// Gives a forked child the usual effect of signals back: SIGTERM, SIGINT, SIGHUP and SIGUSR1
/// end it. SIGPIPE and SIGXFSZ stay ignored, so that a full or closed file is an error to handle.
/// Call it first thing in the child.
///
/// # Errors
/// Those of sigaction and pthread_sigmask.
pub fn restore_in_child() -> io::Result<()> {
    for (handled, _) in HANDLED {
        // SAFETY: no handler is installed, so no code can run in a signal's context.
        unsafe { signal::signal(handled, SigHandler::SigDfl) }?;
    }
    Ok(signal::pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&handled_set()), None)?)
}

/// From here on a SIGINT ends the process at once with code 1: for the last sync, which may take
/// long, when somebody has lost patience.
///
/// # Errors
/// Those of sigaction and pthread_sigmask.
pub fn second_interrupt_exits() -> io::Result<()> {
    extern "C" fn leave(_: i32) {
        super::process::exit_now(1);
    }
    // SAFETY: the handler only calls _exit, which is safe in a signal's context.
    unsafe { signal::signal(signal::Signal::SIGINT, SigHandler::Handler(leave)) }?;
    let interrupt = SigSet::from_iter([signal::Signal::SIGINT]);
    Ok(signal::pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&interrupt), None)?)
}

fn handled_set() -> SigSet {
    HANDLED.iter().map(|(handled, _)| *handled).collect()
}
