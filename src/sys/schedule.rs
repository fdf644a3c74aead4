//! On which processors, and with what priority, a thread runs.

// setpriority has no safe form.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::io;

/// Confines the calling thread, and the threads and processes that it will make, to `cpus`. An
/// empty list changes nothing.
///
/// # Errors
/// InvalidInput if the machine has none of them; those of sched_setaffinity.
pub fn run_on(cpus: &[usize]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// The processors that the calling thread may run on.
///
/// # Errors
/// Those of sched_getaffinity.
pub fn runs_on() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)).collect())
}

/// Sets the calling thread's nice value, from -20 (before all others) to 19 (after them).
///
/// # Errors
/// Those of setpriority: without the privilege a nice value can only be raised.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: the call takes plain numbers; 0 is the caller itself.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_thread_stays_where_it_is_told_to() {
        let allowed = || runs_on().expect("affinity");
        let before = allowed();
        let last = *before.last().expect("a processor");
        let (unchanged, confined) = thread::spawn(move || {
            run_on(&[]).expect("nothing to do");
            let unchanged = allowed();
            run_on(&[last]).expect("confined");
            (unchanged, allowed())
        })
        .join()
        .expect("thread");
        assert_eq!(unchanged, before);
        assert_eq!(confined, [last]);
        assert_eq!(allowed(), before, "only that thread");
        assert!(run_on(&[CpuSet::count()]).is_err());
    }

    #[test]
    fn a_thread_can_step_back() {
        let nice = thread::spawn(|| {
            set_nice(7).expect("nice");
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("stat");
            // Behind the name in parentheses, the 17th field from there.
            let rest = stat.rsplit(')').next().unwrap_or("").split_ascii_whitespace();
            rest.map(str::to_owned).nth(16)
        });
        assert_eq!(nice.join().expect("thread").as_deref(), Some("7"));
    }
}
