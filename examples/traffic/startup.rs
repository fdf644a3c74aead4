//! How long a server takes from its fork to its first answer.

use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::settings::Settings;
use crate::wire::Asker;

/// A server that is ended however the measurement ends.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself, which the measurement has told by then.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a server again and again, each time in a new directory, and prints how long it took until
/// PING was answered.
///
/// # Errors
/// A server that does not start, and wrong flags.
pub fn run(settings: &Settings) -> io::Result<()> {
    let (port, timeout) = (settings.port()?, settings.timeout()?);
    let starts = settings.count("starts", 20)?;
    let words = settings.text("exec").ok_or_else(|| io::Error::other("--exec is missing"))?;
    let (server_core, load_core) = (core(settings, "server-core")?, core(settings, "load-core")?);
    let mut took_us = Vec::new();
    for _ in 0..starts {
        let directory = tempfile::tempdir()?;
        let place = directory.path().display().to_string();
        let mut words = words.split('\n').map(|word| word.replace("%DIR%", &place));
        let program = words.next().ok_or_else(|| io::Error::other("--exec is empty"))?;
        let mut command = Command::new(program);
        command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
        // A child begins on its parent's core.
        pin(server_core)?;
        let start = Instant::now();
        let mut server = Started(command.spawn()?);
        pin(load_core)?;
        first_answer(&mut server, port, start, timeout)?;
        took_us.push(start.elapsed().as_micros());
    }
    took_us.sort_unstable();
    let (first, last) = (took_us.first().unwrap_or(&0), took_us.last().unwrap_or(&0));
    println!(
        "median_us={} fastest_us={first} slowest_us={last}",
        took_us.get(took_us.len() / 2).unwrap_or(&0)
    );
    Ok(())
}

fn core(settings: &Settings, name: &str) -> io::Result<usize> {
    settings.number(name)?.ok_or_else(|| io::Error::other(format!("--{name} is missing")))
}

/// Has this process run on one core.
fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

fn first_answer(
    server: &mut Started,
    port: u16,
    start: Instant,
    timeout: Duration,
) -> io::Result<()> {
    loop {
        let asked = Asker::connect(port).and_then(|mut asker| asker.ask(&[b"PING"]));
        if asked.is_ok_and(|answer| answer == "PONG") {
            return Ok(());
        }
        if let Some(status) = server.0.try_wait()? {
            return Err(io::Error::other(format!("the server has ended: {status}")));
        }
        if start.elapsed() > timeout {
            return Err(io::Error::other("no answer in time"));
        }
        // Short against what is measured, and long enough to leave the core to others.
        thread::sleep(Duration::from_micros(50));
    }
}
