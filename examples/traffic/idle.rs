//! Connections that ask once and then do nothing.

use std::io;

use crate::settings::Settings;
use crate::wire::Asker;

/// Opens connections, has each answered once, says so, and holds them until standard input ends.
///
/// # Errors
/// Those of the connections.
pub fn run(settings: &Settings) -> io::Result<()> {
    let (port, count) = (settings.port()?, settings.count("clients", 10_000)?);
    let mut open = Vec::new();
    for number in 0..count {
        let wrong = |error| io::Error::other(format!("connection {number} of {count}: {error}"));
        let mut asker = Asker::connect(port).map_err(wrong)?;
        asker.ask(&[b"PING"]).map_err(wrong)?;
        open.push(asker.into_stream());
    }
    println!("connected={count}");
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}
