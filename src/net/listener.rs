//! Listening sockets: TCP over IPv4 and IPv6, and the unix socket.

use super::connection::Stream;
use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, UnixAddr, bind, listen,
    setsockopt, socket, sockopt,
};
use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// IPv4 or IPv6.
    Tcp(TcpListener),
    /// The unix socket and its path, which is removed with it.
    Unix(UnixListener, PathBuf),
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

impl Listener {
    /// Accepts one connection, non-blocking.
    ///
    /// # Errors
    /// As accept(2); `WouldBlock` when nobody waits.
    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener, _) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        }
    }

    /// The socket, for registering with a poll.
    pub fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix(listener, _) => listener,
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

/// Listens on `port` of every address in `addresses`: `*` is all of IPv4, `::*` all of IPv6, a
/// leading `-` allows the address to be missing from this machine.
///
/// # Errors
/// [`BindError`] for the first address that cannot be listened on, or if none could.
pub fn bind_tcp(addresses: &[String], port: u16, backlog: i32) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    let mut skipped = None;
    for written in addresses {
        let optional = written.starts_with('-');
        let address = written.trim_start_matches('-');
        match resolve(address, port).and_then(|resolved| listen_tcp(resolved, backlog)) {
            Ok(listener) => listeners.push(listener),
            Err(e) => {
                let error = BindError { address: format!("{address}:{port}"), source: e };
                // An address family or address that this machine lacks is what the user foresaw
                // by the `-`; with the wildcards Redis is as lenient.
                if !is_missing_address(&error.source) || !(optional || address.ends_with('*')) {
                    return Err(error);
                }
                skipped = Some(error);
            }
        }
    }
    match (listeners.is_empty(), skipped) {
        (true, Some(error)) => Err(error),
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

fn resolve(address: &str, port: u16) -> io::Result<SocketAddr> {
    let host = match address {
        "*" => "0.0.0.0",
        "::*" => "::",
        other => other,
    };
    let no_address = || io::Error::new(io::ErrorKind::AddrNotAvailable, "no such address");
    (host, port).to_socket_addrs()?.next().ok_or_else(no_address)
}

fn listen_tcp(address: SocketAddr, backlog: i32) -> io::Result<Listener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    match address {
        SocketAddr::V4(v4) => bind(fd.as_raw_fd(), &SockaddrIn::from(v4))?,
        SocketAddr::V6(v6) => bind(fd.as_raw_fd(), &SockaddrIn6::from(v6))?,
    }
    listen(&fd, clamp(backlog))?;
    Ok(Listener::Tcp(TcpListener::from_std(fd.into())))
}

/// Listens on a unix socket at `path`, replacing what a dead server left there. `mode` 0 leaves
/// the permissions to the umask.
///
/// # Errors
/// [`BindError`] if the path cannot be bound.
pub fn bind_unix(path: &Path, mode: u32, backlog: i32) -> Result<Listener, BindError> {
    let failed = |source| BindError { address: path.display().to_string(), source };
    listen_unix(path, mode, backlog).map_err(failed)
}

fn listen_unix(path: &Path, mode: u32, backlog: i32) -> io::Result<Listener> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    if mode != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    listen(&fd, clamp(backlog))?;
    Ok(Listener::Unix(UnixListener::from_std(fd.into()), path.to_owned()))
}

fn clamp(backlog: i32) -> Backlog {
    Backlog::new(backlog).unwrap_or(Backlog::MAXCONN)
}
