//! On which processors, with what priority, and in what turns a thread runs.

// setpriority and sched_setattr have no safe form.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::io;
use std::time::Duration;

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

/// Offers the processor to whoever else wants it, and returns when it is this thread's turn again;
/// at once if nobody does.
pub fn give_way() {
    std::thread::yield_now();
}

/// What length of turns on the processor a thread has asked for.
#[derive(Debug, Default)]
pub struct Slice {
    /// None: what the kernel gives everybody.
    asked: Option<Duration>,
}

impl Slice {
    /// Has the calling thread take turns of `slice`, from a tenth of a millisecond to a tenth of a
    /// second; of the kernel's own length, some milliseconds, if that is None. Costs nothing where
    /// that was the last wish too. One of these belongs to one thread.
    ///
    /// With a shorter slice than others a thread gets the processor as soon as it wakes, unless it
    /// has had more than its share, instead of when their turns are over. Its share does not change.
    /// Linux before 6.12 does nothing of that. A thread of a real-time policy is left as it is. The
    /// threads and processes that this one makes have the same slice until they ask for another.
    ///
    /// # Errors
    /// Those of sched_getattr and sched_setattr. The wish counts as asked for all the same: a kernel
    /// that refuses it once will do so again.
    pub fn ask(&mut self, slice: Option<Duration>) -> io::Result<()> {
        if slice == self.asked {
            return Ok(());
        }
        self.asked = slice;
        set_slice(slice)
    }
}

/// The same as [`Slice::ask`], without knowing what was asked for before.
///
/// # Errors
/// Those of sched_getattr and sched_setattr.
pub fn set_slice(slice: Option<Duration>) -> io::Result<()> {
    // Read first: the call sets all attributes, and the others are to stay.
    let mut attributes = attributes_of(Pid::from_raw(0))?;
    if ![libc::SCHED_OTHER, libc::SCHED_BATCH].contains(&attributes.sched_policy.cast_signed()) {
        return Ok(());
    }
    attributes.sched_runtime =
        slice.map_or(0, |slice| u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX));
    // SAFETY: the structure outlives the call and tells its own size; 0 is the caller itself.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    Errno::result(set)?;
    Ok(())
}

/// The length of the turns that a thread takes on the processor; the calling one for thread 0. Zero
/// on Linux before 6.12, and for a thread of another policy than the usual one.
///
/// # Errors
/// Those of sched_getattr.
pub fn slice_of(thread: Pid) -> io::Result<Duration> {
    Ok(Duration::from_nanos(attributes_of(thread)?.sched_runtime))
}

fn attributes_of(thread: Pid) -> io::Result<libc::sched_attr> {
    // SAFETY: all-zero is a valid value of a struct of integers.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let bytes = size_of::<libc::sched_attr>();
    // SAFETY: the kernel writes no more than `bytes` into the structure, which has as many.
    let got = unsafe {
        libc::syscall(libc::SYS_sched_getattr, thread.as_raw(), &raw mut attributes, bytes, 0)
    };
    Errno::result(got)?;
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_thread_asks_for_short_turns_and_for_usual_ones_again() {
        let slice = || slice_of(Pid::from_raw(0)).expect("attributes");
        let usual = slice();
        if usual.is_zero() {
            return eprintln!("skipped: this kernel has no slices (Linux 6.12 has)");
        }
        let short = Duration::from_micros(100);
        thread::spawn(move || {
            set_nice(3).expect("nice");
            let mut own = Slice::default();
            own.ask(Some(short)).expect("asked");
            assert_eq!(slice(), short);
            let made = thread::spawn(move || {
                let inherited = slice();
                set_slice(None).expect("asked");
                (inherited, slice())
            });
            assert_eq!(made.join().expect("thread"), (short, usual));
            own.ask(None).expect("asked");
            assert_eq!(slice(), usual);
            assert_eq!(attributes_of(Pid::from_raw(0)).expect("attributes").sched_nice, 3);
        })
        .join()
        .expect("thread");
        assert_eq!(slice(), usual, "only that thread");
    }

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
