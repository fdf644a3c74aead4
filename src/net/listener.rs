//! Listening sockets: TCP over IPv4 and IPv6, and the unix socket.

use super::connection::Stream;
use crate::config::{BindAddress, BindHost};
use crate::sys::socket;
use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// IPv4 or IPv6.
    Tcp(TcpListener),
    /// The unix socket.
    Unix(UnixListener),
}

/// An address that could not be listened on.
#[derive(Debug)]
pub struct BindError {
    /// As the user wrote it, with the port.
    pub address: String,
    /// Why.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Could not create server socket listening on {}: {}", self.address, self.source)
    }
}

impl std::error::Error for BindError {}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener) => listener.as_raw_fd(),
        }
    }
}

impl Listener {
    /// Accepts one connection, non-blocking.
    ///
    /// # Errors
    /// As accept(2); `WouldBlock` when nobody waits.
    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        }
    }

    /// The socket, for registering with a poll.
    pub fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix(listener) => listener,
        }
    }

    /// Registers for incoming connections.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(self.source(), token, Interest::READABLE)
    }
}

/// Listens on `port` of every address in `addresses`. One that is marked as optional, and a
/// wildcard, may be missing from this machine.
///
/// # Errors
/// [`BindError`] for the first address that cannot be listened on, or if none could.
pub fn bind_tcp(
    addresses: &[BindAddress],
    port: u16,
    backlog: u32,
) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    let mut skipped = None;
    for address in addresses {
        match resolve(&address.host, port).and_then(|at| socket::listen_tcp(at, backlog)) {
            Ok(listener) => listeners.push(Listener::Tcp(TcpListener::from_std(listener))),
            Err(e) => {
                let lenient = address.optional || !matches!(address.host, BindHost::Named(_));
                let error = BindError { address: format!("{address}:{port}"), source: e };
                if !(lenient && is_missing_address(&error.source)) {
                    return Err(error);
                }
                skipped = Some(error);
            }
        }
    }
    match skipped {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn is_missing_address(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(
            libc::EADDRNOTAVAIL
                | libc::EAFNOSUPPORT
                | libc::ENOPROTOOPT
                | libc::EPROTONOSUPPORT
                | libc::ESOCKTNOSUPPORT
                | libc::EPFNOSUPPORT
        )
    )
}

fn resolve(host: &BindHost, port: u16) -> io::Result<SocketAddr> {
    let name = match host {
        BindHost::AnyIpv4 => "0.0.0.0",
        BindHost::AnyIpv6 => "::",
        BindHost::Named(name) => name,
    };
    let no_address = || io::Error::new(io::ErrorKind::AddrNotAvailable, "no such address");
    (name, port).to_socket_addrs()?.next().ok_or_else(no_address)
}

/// Listens on a unix socket at `path`, replacing what a dead server left there. `mode` 0 leaves
/// the permissions to the umask.
///
/// # Errors
/// [`BindError`] if the path cannot be bound.
pub fn bind_unix(path: &Path, mode: u32, backlog: u32) -> Result<Listener, BindError> {
    let failed = |source| BindError { address: path.display().to_string(), source };
    let mode = (mode != 0).then_some(mode);
    let listener = socket::listen_unix(path, mode, backlog).map_err(failed)?;
    Ok(Listener::Unix(UnixListener::from_std(listener)))
}
