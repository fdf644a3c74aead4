//! What the allocator (jemalloc) holds, and why.

// The control that purges takes no value, which no safe wrapper can express.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::ptr;
use tikv_jemalloc_ctl::{epoch, epoch_mib, stats, stats_print, version};

/// Bytes, as jemalloc counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocatorFigures {
    /// Handed out to the program.
    pub allocated_bytes: u64,
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

/// Reads the allocator's figures, its names resolved once.
pub struct AllocatorStatistics {
    epoch: epoch_mib,
    allocated: stats::allocated_mib,
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
            Ok(AllocatorStatistics {
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

    /// The figures of this moment. Takes allocator locks and sums over its arenas, some
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
    fn figures_are_ordered_as_their_meanings_are() {
        let figures = AllocatorStatistics::new().and_then(|all| all.read()).expect("statistics");
        assert!(figures.allocated_bytes <= figures.active_bytes, "{figures:?}");
        assert!(figures.active_bytes <= figures.mapped_bytes, "{figures:?}");
    }
}
