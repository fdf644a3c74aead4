//! Ports that no two tests share, in one process or in several.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range from which the kernel takes the ports of outgoing connections (32768 up), so
/// that no client can sit on a port while its server restarts.
const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;

/// A TCP port that stays this lease's own, also while no server listens on it.
///
/// The lock is a socket in Linux's abstract namespace: it leaves no file behind, and is gone when
/// the process is.
pub struct PortLease {
    number: u16,
    _lock: UnixListener,
}

impl PortLease {
    /// Takes a free port.
    pub fn take() -> PortLease {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let start = std::process::id().wrapping_mul(7919) % COUNT;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = (FIRST + start.wrapping_add(step) % COUNT) as u16;
            let name = SocketAddr::from_abstract_name(format!("server_async-test-port-{number}"));
            let Ok(lock) = name.and_then(|name| UnixListener::bind_addr(&name)) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return PortLease { number, _lock: lock };
            }
        }
        panic!("no free port from {FIRST} on");
    }

    /// The port.
    pub fn number(&self) -> u16 {
        self.number
    }
}
