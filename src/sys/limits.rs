//! Limits that the kernel puts on the process.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;

/// Descriptors that the server needs beside those of its clients: listeners, log, lock, rewrite,
/// epoll, standard streams. Redis reserves as many.
pub const RESERVED_DESCRIPTORS: u64 = 32;

/// What [`raise_open_files`] arrived at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// How many descriptors the process may have open.
    pub limit: u64,
    /// How many clients that leaves room for, at most as many as were asked for; 0 if the limit
    /// does not even cover what the server reserves for itself.
    pub clients: u64,
}

/// Raises RLIMIT_NOFILE, if needed, so that `clients` connections fit beside
/// [`RESERVED_DESCRIPTORS`]. Without the privilege to pass the hard limit, goes up to the hard
/// limit. Never lowers a limit.
///
/// # Errors
/// Those of getrlimit and setrlimit, except for the lack of privilege.
pub fn raise_open_files(clients: u64) -> io::Result<OpenFiles> {
    let wanted = clients.saturating_add(RESERVED_DESCRIPTORS);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = if soft >= wanted {
        soft
    } else if hard >= wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
        wanted
    } else {
        match setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted) {
            Ok(()) => wanted,
            // EPERM: not privileged. EINVAL: more than the kernel's own nr_open.
            Err(Errno::EPERM | Errno::EINVAL) => {
                setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
                hard
            }
            Err(error) => return Err(error.into()),
        }
    };
    Ok(OpenFiles { limit, clients: clients.min(limit.saturating_sub(RESERVED_DESCRIPTORS)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_gives_what_it_reports_and_never_lowers() {
        let (before, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
        let few = raise_open_files(1).expect("no change needed");
        assert_eq!(few, OpenFiles { limit: before, clients: 1 });

        let wanted = before - RESERVED_DESCRIPTORS + 1;
        let more = raise_open_files(wanted).expect("raised as far as allowed");
        let (after, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
        assert_eq!(more.limit, after);
        assert!(after >= before);
        assert_eq!(more.clients, wanted.min(after - RESERVED_DESCRIPTORS));

        let beyond = raise_open_files(u64::MAX).expect("as far as allowed");
        assert!(beyond.clients < u64::MAX);
    }
}
