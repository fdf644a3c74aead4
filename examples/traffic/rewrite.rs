//! Watches one rewrite from outside, by the same means for every server: INFO, and /proc.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::settings::Settings;
use crate::wire::Asker;

/// How exactly the child's begin and end are known.
const GLANCE: Duration = Duration::from_millis(5);

/// How often INFO is asked.
const LOOK: Duration = Duration::from_millis(50);

/// To measure the child's memory the kernel walks all of it. The watcher spends one part in so
/// many of its time on that.
const MEASURING_SHARE: u32 = 10;

/// What is seen of the child. The largest figures, since some vanish as it ends.
#[derive(Default)]
struct ChildSeen {
    began: Option<Instant>,
    ended: Option<Instant>,
    bytes_written: u64,
    private_dirty_bytes: u64,
    cpu_ticks: u64,
}

/// Asks for a rewrite, waits until the server says that it is done, and prints what was seen.
///
/// # Errors
/// Those of the connection, a refusal, and a timeout.
pub fn run(settings: &Settings) -> io::Result<()> {
    let pid = settings.number("pid")?.ok_or_else(|| io::Error::other("--pid is missing"))?;
    let (server, timeout) = (Process(pid), settings.timeout()?);
    let mut asker = Asker::connect(settings.port()?)?;
    let keys = asker.ask(&[b"DBSIZE"])?;
    let rss_before = server.resident_bytes().unwrap_or(0);
    let mut rss_peak = rss_before;
    let mut child: Option<Process> = None;
    let mut seen = ChildSeen::default();
    let (mut cow_peak, mut diff_peak) = (0, 0);
    // So that the longest turn of the loop is one of this rewrite.
    asker.ask(&[b"CONFIG", b"RESETSTAT"])?;
    let start = Instant::now();
    asker.ask(&[b"BGREWRITEAOF"])?;
    let (mut next_look, mut next_measure) = (start, start);
    let info = loop {
        if seen.began.is_none() {
            child = server.child()?;
            seen.began = child.map(|_| Instant::now());
        }
        if let Some(child) = child.filter(|_| seen.ended.is_none()) {
            // Before asking whether it still runs: a child that has ended keeps its figures until
            // it is reaped, which may be at once.
            seen.bytes_written = seen.bytes_written.max(child.bytes_written().unwrap_or(0));
            seen.cpu_ticks = seen.cpu_ticks.max(child.cpu_ticks().unwrap_or(0));
            let now = Instant::now();
            if now >= next_measure {
                let dirty = child.private_dirty_bytes().unwrap_or(0);
                seen.private_dirty_bytes = seen.private_dirty_bytes.max(dirty);
                next_measure = now + now.elapsed() * MEASURING_SHARE;
            }
            if !child.runs() {
                seen.ended = Some(Instant::now());
            }
        }
        if Instant::now() >= next_look {
            rss_peak = rss_peak.max(server.resident_bytes().unwrap_or(0));
            let info = Info(asker.ask(&[b"INFO"])?);
            cow_peak = cow_peak.max(info.number("current_cow_peak"));
            diff_peak = diff_peak.max(info.number("aof_rewrite_buffer_length"));
            if info.number("aof_rewrite_in_progress") + info.number("aof_rewrite_scheduled") == 0 {
                break info;
            }
            next_look = Instant::now() + LOOK;
        }
        if start.elapsed() > timeout {
            return Err(io::Error::other("the rewrite is not done in time"));
        }
        thread::sleep(GLANCE);
    };
    let child_seconds = match (seen.began, seen.ended) {
        (Some(began), Some(ended)) => ended.duration_since(began).as_secs_f64(),
        (Some(began), None) => began.elapsed().as_secs_f64(),
        _ => 0.0,
    };
    // Redis 7.0 does not tell these.
    for (figure, name) in [
        ("longest_turn_us", "eventloop_duration_max"),
        ("longest_write_us", "aof_write_duration_max"),
    ] {
        if !info.text(name).is_empty() {
            print!("{figure}={} ", info.number(name));
        }
    }
    println!(
        "status={} keys={keys} seconds={:.3} child_seconds={child_seconds:.3} child_bytes={} \
         child_cpu_ms={} fork_us={} cow_info_bytes={} cow_seen_bytes={} rss_before_bytes={} \
         rss_peak_bytes={rss_peak} diff_peak_bytes={diff_peak}",
        info.text("aof_last_bgrewrite_status"),
        start.elapsed().as_secs_f64(),
        seen.bytes_written,
        // Linux counts in hundredths of a second wherever user space can see.
        seen.cpu_ticks * 10,
        info.number("latest_fork_usec"),
        cow_peak.max(info.number("aof_last_cow_size")),
        seen.private_dirty_bytes,
        rss_before,
    );
    Ok(())
}

struct Info(String);

impl Info {
    fn text(&self, name: &str) -> &str {
        let mut lines = self.0.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("")
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }
}
