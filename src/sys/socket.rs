//! Sockets: listening with Redis's options, and keepalive.

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind,
    listen, setsockopt, socket, sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

/// A non-blocking TCP listener on `address`, closed on exec. The address can be taken over at
/// once from a server that has just ended (SO_REUSEADDR); an IPv6 socket takes IPv6 only, so that
/// `::` and `0.0.0.0` can both be bound. `backlog` is the length of the accept queue, which the
/// kernel cuts to [`max_backlog`].
///
/// # Errors
/// Those of socket, setsockopt, bind and listen: the address is in use, not this machine's, or of
/// a family that the kernel lacks.
pub fn listen_tcp(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let listener = stream_socket(family)?;
    setsockopt(&listener, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&listener, sockopt::Ipv6V6Only, &true)?;
    }
    bind_to(&listener, &SockaddrStorage::from(address))?;
    listen(&listener, backlog_of(backlog))?;
    Ok(TcpListener::from(listener))
}

/// A non-blocking unix socket listener at `path`, closed on exec, with the permission bits `mode`
/// if given (else what the umask leaves). A socket file left at `path` is replaced; any other
/// file is left alone and makes the call fail.
///
/// # Errors
/// Those of unlink, socket, bind, chmod and listen; ENAMETOOLONG for paths beyond 107 bytes.
pub fn listen_unix(path: &Path, mode: Option<u32>, backlog: u32) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(nix::errno::Errno::EADDRINUSE.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = stream_socket(AddressFamily::Unix)?;
    bind_to(&listener, &UnixAddr::new(path)?)?;
    // Before listening: nobody can connect while the file still has the umask's permissions.
    if let Some(mode) = mode {
        let mode = Mode::from_bits_truncate(mode);
        fchmodat(nix::fcntl::AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink)?;
    }
    listen(&listener, backlog_of(backlog))?;
    Ok(UnixListener::from(listener))
}

/// The longest accept queue that the kernel grants (`net.core.somaxconn`); `None` if it does not
/// say.
#[must_use]
pub fn max_backlog() -> Option<u32> {
    fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()
}

/// Lets the kernel probe an idle peer after `interval_s` seconds, then thrice a third of that
/// apart, before it reports the connection dead: twice the interval in all, as Redis does.
///
/// # Errors
/// Those of setsockopt.
pub fn keep_alive(connection: &impl AsFd, interval_s: u32) -> io::Result<()> {
    const PROBES: u32 = 3;
    setsockopt(connection, sockopt::KeepAlive, &true)?;
    setsockopt(connection, sockopt::TcpKeepIdle, &interval_s.max(1))?;
    setsockopt(connection, sockopt::TcpKeepInterval, &(interval_s / PROBES).max(1))?;
    setsockopt(connection, sockopt::TcpKeepCount, &PROBES)?;
    Ok(())
}

/// Sends small replies at once instead of waiting to fill a segment (TCP_NODELAY).
///
/// # Errors
/// Those of setsockopt.
pub fn no_delay(connection: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(connection, sockopt::TcpNoDelay, &true)?)
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(family, SockType::Stream, flags, None)?)
}

fn bind_to(listener: &OwnedFd, address: &dyn SockaddrLike) -> io::Result<()> {
    Ok(bind(listener.as_raw_fd(), address)?)
}

/// nix refuses backlogs beyond its own SOMAXCONN; the kernel would cut them to its limit anyway.
fn backlog_of(backlog: u32) -> Backlog {
    i32::try_from(backlog)
        .ok()
        .and_then(|backlog| Backlog::new(backlog).ok())
        .unwrap_or(Backlog::MAXALLOWABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::getsockopt;
    use std::io::ErrorKind;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_listener_accepts_without_blocking() {
        let listener = listen_tcp((Ipv4Addr::LOCALHOST, 0).into(), 511).expect("listening");
        let address = listener.local_addr().expect("bound");
        assert_eq!(listener.accept().expect_err("nobody came").kind(), ErrorKind::WouldBlock);
        let taken = listen_tcp(address, 511).expect_err("one listener an address");
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);

        let client = TcpStream::connect(address).expect("connected");
        keep_alive(&client, 300).expect("keepalive");
        assert!(getsockopt(&client, sockopt::KeepAlive).expect("option"));
        assert_eq!(getsockopt(&client, sockopt::TcpKeepIdle).expect("option"), 300);
        assert_eq!(getsockopt(&client, sockopt::TcpKeepInterval).expect("option"), 100);
        assert_eq!(getsockopt(&client, sockopt::TcpKeepCount).expect("option"), 3);
        keep_alive(&client, 1).expect("the smallest interval");
        no_delay(&client).expect("no delay");
        assert!(getsockopt(&client, sockopt::TcpNoDelay).expect("option"));
    }

    #[test]
    fn both_families_share_a_port() {
        let Ok(six) = listen_tcp((Ipv6Addr::UNSPECIFIED, 0).into(), u32::MAX) else {
            println!("SKIPPED: no IPv6 on this machine");
            return;
        };
        let port = six.local_addr().expect("bound").port();
        match listen_tcp((Ipv4Addr::UNSPECIFIED, port).into(), 511) {
            Ok(_) => {}
            // Another process may hold the same port for IPv4; ours does not.
            Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
        }
        assert!(getsockopt(&six, sockopt::Ipv6V6Only).expect("option"));
    }

    #[test]
    fn a_unix_socket_replaces_a_stale_one_and_nothing_else() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("server.sock");
        drop(listen_unix(&path, None, 16).expect("listening"));
        assert!(path.exists(), "a dead server leaves its socket file");
        let listener = listen_unix(&path, Some(0o700), 16).expect("replaced");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        UnixStream::connect(&path).expect("connected");
        assert!(listener.accept().is_ok());

        let file = directory.path().join("precious");
        fs::write(&file, b"data").expect("written");
        let error = listen_unix(&file, None, 16).expect_err("not a socket");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::read(&file).expect("still there"), b"data");
    }
}
