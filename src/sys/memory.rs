//! What the allocator (jemalloc) holds, and why.

// The control that purges takes no value, and one figure has no wrapper at all.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::ptr;
use tikv_jemalloc_ctl::{epoch, epoch_mib, raw, stats, stats_print, thread, version};

/// Bytes, as jemalloc counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocatorFigures {
    /// Handed out to the program, or kept ready for a thread that will ask.
    pub allocated_bytes: u64,
    /// Of these, kept ready: `allocated - ready` is what the program holds, to the byte.
    pub ready_bytes: u64,
    /// In pages of which at least a part is handed out. `active / allocated` is the
    /// fragmentation inside the allocator.
    pub active_bytes: u64,
    /// In physical memory: active, own bookkeeping, and pages not yet given back.
    pub resident_bytes: u64,
    /// In mappings of which the allocator makes use.
    pub mapped_bytes: u64,
    /// In mappings kept for later without physical memory.
    pub retained_bytes: u64,
}

impl AllocatorFigures {
    /// What the program holds.
    #[must_use]
    pub fn in_use_bytes(&self) -> u64 {
        self.allocated_bytes.saturating_sub(self.ready_bytes)
    }
}

/// How much more one thread has allocated than it has freed, kept up to date by the allocator with
/// each allocation. Cannot leave its thread.
#[derive(Clone, Copy)]
pub struct ThreadBalance {
    allocated: thread::ThreadLocal<u64>,
    freed: thread::ThreadLocal<u64>,
}

impl ThreadBalance {
    /// That of the calling thread.
    ///
    /// # Errors
    /// If the allocator was built without statistics.
    pub fn of_this_thread() -> io::Result<ThreadBalance> {
        let find = || {
            let (allocated, freed) = (thread::allocatedp::read()?, thread::deallocatedp::read()?);
            Ok(ThreadBalance { allocated, freed })
        };
        find().map_err(from_allocator)
    }

    /// Bytes; negative for a thread that frees what others have allocated. Two loads.
    #[inline]
    #[must_use]
    pub fn bytes(self) -> i64 {
        self.allocated.get().wrapping_sub(self.freed.get()).cast_signed()
    }
}

/// The name and place of a figure of the thread caches, summed over all arenas
/// (MALLCTL_ARENAS_ALL).
const READY: &[u8] = b"stats.arenas.4096.tcache_bytes\0";
const READY_PARTS: usize = 4;

/// Reads the allocator's figures, its names resolved once.
pub struct AllocatorStatistics {
    epoch: epoch_mib,
    allocated: stats::allocated_mib,
    ready: [usize; READY_PARTS],
    active: stats::active_mib,
    resident: stats::resident_mib,
    mapped: stats::mapped_mib,
    retained: stats::retained_mib,
}

impl AllocatorStatistics {
    /// Resolves the names of the figures.
    ///
    /// # Errors
    /// If the allocator was built without statistics.
    pub fn new() -> io::Result<AllocatorStatistics> {
        let open = || {
            let mut ready = [0; READY_PARTS];
            raw::name_to_mib(READY, &mut ready)?;
            Ok(AllocatorStatistics {
                ready,
                epoch: epoch::mib()?,
                allocated: stats::allocated::mib()?,
                active: stats::active::mib()?,
                resident: stats::resident::mib()?,
                mapped: stats::mapped::mib()?,
                retained: stats::retained::mib()?,
            })
        };
        open().map_err(from_allocator)
    }

    /// The figures of this moment. Takes allocator locks and sums over its arenas, about 50
    /// microseconds: for cron and INFO, not for each command.
    ///
    /// # Errors
    /// Whatever the allocator reports.
    pub fn read(&self) -> io::Result<AllocatorFigures> {
        let read = || {
            // The figures are a snapshot that moves only when the epoch does.
            self.epoch.advance()?;
            Ok(AllocatorFigures {
                allocated_bytes: self.allocated.read()? as u64,
                // SAFETY: the figure of this name is a size_t.
                ready_bytes: unsafe { raw::read_mib::<usize>(&self.ready)? } as u64,
                active_bytes: self.active.read()? as u64,
                resident_bytes: self.resident.read()? as u64,
                mapped_bytes: self.mapped.read()? as u64,
                retained_bytes: self.retained.read()? as u64,
            })
        };
        read().map_err(from_allocator)
    }
}

/// Has the allocator give all pages back to the system that it keeps for later. Some milliseconds
/// for each GB of such pages.
///
/// # Errors
/// Whatever the allocator reports.
pub fn purge() -> io::Result<()> {
    /// Stands for all arenas (MALLCTL_ARENAS_ALL).
    const PURGE_ALL: &CStr = c"arena.4096.purge";
    // SAFETY: the name is a C string, and this control takes and gives no value.
    let code = unsafe {
        tikv_jemalloc_sys::mallctl(
            PURGE_ALL.as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// All that the allocator tells of itself, as text.
///
/// # Errors
/// None is known; the interface has room for them.
pub fn report() -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    stats_print::stats_print(&mut text, stats_print::Options::default())?;
    Ok(text)
}

/// The allocator and its version as INFO shows them: `jemalloc-5.3.0`.
#[must_use]
pub fn allocator_name() -> String {
    let full = version::read().unwrap_or("unknown");
    format!("jemalloc-{}", full.split('-').next().unwrap_or(full))
}

fn from_allocator(error: tikv_jemalloc_ctl::Error) -> io::Error {
    io::Error::other(format!("allocator statistics: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocator_reports_and_purges() {
        purge().expect("purged");
        let text = report().expect("report");
        assert!(text.starts_with(b"___ Begin jemalloc statistics ___"));
    }

    #[test]
    fn a_thread_s_balance_follows_its_allocations_at_once() {
        let balance = ThreadBalance::of_this_thread().expect("a balance");
        let before = balance.bytes();
        let mut held = Vec::new();
        for n in 1..=100 {
            held.push(vec![0_u8; n * 1_000]);
        }
        let grown = balance.bytes() - before;
        assert!((5_050_000..6_400_000).contains(&grown), "{grown}");
        drop(held);
        assert_eq!(balance.bytes(), before);
        let moved = vec![0_u8; 1 << 20];
        let before = balance.bytes();
        std::thread::spawn(move || drop(moved)).join().expect("joined");
        assert!(before - balance.bytes() < 100_000, "freed on another thread's account");
    }

    #[test]
    fn figures_are_ordered_as_their_meanings_are() {
        let figures = AllocatorStatistics::new().and_then(|all| all.read()).expect("statistics");
        assert!(figures.ready_bytes <= figures.allocated_bytes, "{figures:?}");
        assert!(figures.allocated_bytes <= figures.active_bytes, "{figures:?}");
        assert!(figures.active_bytes <= figures.mapped_bytes, "{figures:?}");
    }
}
