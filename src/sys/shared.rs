//! Numbers in memory that a process and its forked child both see.

// A shared mapping has no safe form.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

/// `N` numbers that stay common to both sides of a fork: what one stores the other reads. Each
/// number is whole at any time; that two of them belong together is not promised.
pub struct SharedNumbers<const N: usize> {
    numbers: NonNull<[AtomicU64; N]>,
}

impl<const N: usize> SharedNumbers<N> {
    /// All of them 0.
    ///
    /// # Errors
    /// Those of mmap.
    pub fn new() -> io::Result<SharedNumbers<N>> {
        // SAFETY: a new anonymous mapping overlaps nothing. It is aligned to a page, long enough,
        // and filled with zeros, which are valid atomics.
        let mapping = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<[AtomicU64; N]>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(Errno::last().into());
        }
        let numbers = NonNull::new(mapping.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(SharedNumbers { numbers })
    }

    /// The numbers.
    #[must_use]
    pub fn get(&self) -> &[AtomicU64; N] {
        // SAFETY: mapped until `self` is dropped; atomics may be changed from elsewhere.
        unsafe { self.numbers.as_ref() }
    }

    /// All to 0 again.
    pub fn clear(&self) {
        for number in self.get() {
            number.store(0, Ordering::Relaxed);
        }
    }
}

impl<const N: usize> Drop for SharedNumbers<N> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, which nobody borrows any more. That it stays if the
        // call fails harms nobody.
        unsafe { libc::munmap(self.numbers.as_ptr().cast(), size_of::<[AtomicU64; N]>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{self, Forked};
    use nix::sys::wait::waitpid;

    #[test]
    fn a_child_s_numbers_reach_its_parent() {
        let numbers = SharedNumbers::<2>::new().expect("mapped");
        match process::fork().expect("forked") {
            Forked::Child => {
                numbers.get()[1].store(7, Ordering::Relaxed);
                process::exit_now(0)
            }
            Forked::Parent(child) => drop(waitpid(child, None).expect("waited")),
        }
        let seen = numbers.get().each_ref().map(|number| number.load(Ordering::Relaxed));
        assert_eq!(seen, [0, 7]);
        numbers.clear();
        assert_eq!(numbers.get()[1].load(Ordering::Relaxed), 0);
    }
}
