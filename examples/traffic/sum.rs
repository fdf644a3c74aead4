//! One checksum over a whole key space, to compare a server with what it was.

use std::hash::{DefaultHasher, Hasher};
use std::io;

use server_async::resp::encode;

use crate::settings::Settings;
use crate::wire::{Asker, Reply};

const BATCH: u64 = 512;

/// Prints how many keys exist, how many of them have a deadline, and a sum over the value and the
/// deadline of each, in the order of their numbers.
///
/// # Errors
/// Those of the connection, and error replies.
pub fn run(settings: &Settings) -> io::Result<()> {
    let keys = settings.keys()?;
    let mut asker = Asker::connect(settings.port()?)?;
    let mut hasher = DefaultHasher::new();
    let (mut found, mut with_deadline) = (0_u64, 0_u64);
    let mut first = 0;
    while first < keys.keys {
        let batch = first..keys.keys.min(first + BATCH);
        let mut requests = Vec::new();
        for number in batch.clone() {
            let key = keys.key(number);
            encode::command(&mut requests, &[b"GET", key.as_bytes()]);
            encode::command(&mut requests, &[b"PEXPIRETIME", key.as_bytes()]);
        }
        asker.send(&requests)?;
        for _ in batch.clone() {
            asker.answer(|reply| match reply {
                Reply::Bulk(value) => {
                    found += u64::from(value.is_some());
                    hasher.write_u64(value.map_or(u64::MAX, |value| value.len() as u64));
                    hasher.write(value.unwrap_or(b""));
                    Ok(())
                }
                other => Err(io::Error::other(format!("GET: {other:?}"))),
            })??;
            asker.answer(|reply| match reply {
                Reply::Line(deadline) => {
                    with_deadline += u64::from(!deadline.starts_with(b"-"));
                    hasher.write(deadline);
                    Ok(())
                }
                other => Err(io::Error::other(format!("PEXPIRETIME: {other:?}"))),
            })??;
        }
        first = batch.end;
    }
    println!("keys={found} with_deadline={with_deadline} sum={:016x}", hasher.finish());
    Ok(())
}
