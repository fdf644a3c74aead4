//! A responder that does nothing: the floor under what a request can cost on one thread and one
//! epoll loop. It answers `+OK` to whatever begins with an asterisk, without looking further, and is
//! driven by `redis-benchmark -t set`, whose keys and values hold none.
//!
//!     cargo run --release --example floor -- 7380

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::error::Error;
use std::io::{self, Read, Write};

const LISTENER: Token = Token(usize::MAX);
/// As much as the server reads at a time.
const READ_BYTES: usize = 64 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: floor PORT")?.parse()?;
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(([127, 0, 0, 1], port).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut streams = Slab::new();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut streams)?;
            } else if !answer(&mut streams[event.token().0], &mut buffer)? {
                streams.remove(event.token().0);
            }
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, streams: &mut Slab<TcpStream>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nodelay(true)?;
                let entry = streams.vacant_entry();
                let token = Token(entry.key());
                poll.registry().register(&mut stream, token, Interest::READABLE)?;
                entry.insert(stream);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// Answers what has come; false if the client has gone.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<bool> {
    let count = match stream.read(buffer) {
        Ok(0) => return Ok(false),
        Ok(count) => count,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
        Err(e) => return Err(e),
    };
    let requests = memchr::memchr_iter(b'*', &buffer[..count]).count();
    // What the socket does not take is lost, which a benchmark's few replies never are.
    stream.write_all(&b"+OK\r\n".repeat(requests))?;
    Ok(true)
}
