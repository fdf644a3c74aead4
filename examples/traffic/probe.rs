//! The open-loop probe: requests leave at a fixed rate whether or not the server answers, and the
//! latency of each counts from the moment it was due. A server that stands still for a second thus
//! shows in all the requests of that second, where a client that waits for each reply before it
//! sends the next would have seen one.

use std::io::{self, BufRead, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use server_async::resp::encode;

use crate::settings::{KeySpace, Settings, Values};
use crate::wire::{self, Inbox, Reply};

/// How long replies may take after the last request.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Kind {
    Get,
    Set,
    Ping,
}

/// When each request is due. Known to the thread that sends and to the one that receives, so that
/// they need not talk.
#[derive(Clone, Copy)]
struct Timetable {
    start: Instant,
    rate: f64,
}

impl Timetable {
    fn due(self, request: u64) -> Instant {
        self.start + Duration::from_secs_f64(request as f64 / self.rate)
    }
}

/// Where phases begin, in order.
type Phases = Mutex<Vec<(Instant, String)>>;

/// Requests to send in all; `u64::MAX` while that is open.
struct Goal(AtomicU64);

impl Goal {
    fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Runs the probe and prints a line for each phase.
///
/// # Errors
/// Those of the connection, and wrong flags.
pub fn run(settings: &Settings) -> io::Result<()> {
    let kind = match settings.text("command").unwrap_or("get") {
        "get" => Kind::Get,
        "set" => Kind::Set,
        "ping" => Kind::Ping,
        other => return Err(io::Error::other(format!("--command {other}: get, set or ping"))),
    };
    let rate = settings.number("rate")?.filter(|rate| *rate > 0.0).unwrap_or(2000.0);
    let seconds = settings.seconds()?;
    let (keys, mut values) = (settings.keys()?, settings.values()?);
    let mut outgoing = wire::connect(settings.port()?)?;
    let incoming = outgoing.try_clone()?;
    let start = Instant::now();
    let timetable = Timetable { start, rate };
    let phases = Phases::new(vec![(start, "all".to_owned())]);
    let goal = Goal(AtomicU64::new(u64::MAX));
    // Told to the receiver only once the last request has left: more than the goal may have by then.
    let sent = Goal(AtomicU64::new(u64::MAX));
    let answers = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(incoming, timetable, &sent));
        let sender = scope.spawn(|| send(&mut outgoing, timetable, &goal, kind, keys, &mut values));
        let end = match seconds {
            Some(seconds) => {
                thread::sleep(seconds);
                Ok(())
            }
            None => follow_phases(&phases),
        };
        // Even if reading failed, or the threads would go on for ever.
        goal.0.store((start.elapsed().as_secs_f64() * rate) as u64, Ordering::SeqCst);
        let sender = sender.join().unwrap_or_else(|_| Err(io::Error::other("the sender panicked")));
        sent.0.store(*sender.as_ref().unwrap_or(&goal.get()), Ordering::SeqCst);
        let answers = receiver.join().map_err(|_| io::Error::other("the receiver panicked"))?;
        end.and(sender.map(drop)).and(answers)
    })?;
    let phases = phases.into_inner().map_err(|_| io::Error::other("a thread panicked"))?;
    report(&phases, timetable, sent.get(), &answers);
    Ok(())
}

/// Notes the phases that standard input names, until it ends.
fn follow_phases(phases: &Phases) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        let now = Instant::now();
        if let Ok(mut phases) = phases.lock() {
            phases.push((now, line.trim().to_owned()));
        }
    }
    Ok(())
}

fn send(
    stream: &mut TcpStream,
    timetable: Timetable,
    goal: &Goal,
    kind: Kind,
    keys: KeySpace,
    values: &mut Values,
) -> io::Result<u64> {
    let mut requests = Vec::new();
    let mut sent = 0;
    while sent < goal.get() {
        let now = Instant::now();
        let due = timetable.due(sent);
        if due > now {
            thread::sleep(due - now);
        }
        // All that are due by now, in one write: who wakes late must not send late for long.
        requests.clear();
        let now = Instant::now();
        while timetable.due(sent) <= now && sent < goal.get() {
            let key = keys.key(values.rng.next() % keys.keys);
            match kind {
                Kind::Get => encode::command(&mut requests, &[b"GET", key.as_bytes()]),
                Kind::Set => {
                    encode::command(&mut requests, &[b"SET", key.as_bytes(), values.draw()]);
                }
                Kind::Ping => encode::command(&mut requests, &[b"PING"]),
            }
            sent += 1;
        }
        stream.write_all(&requests)?;
    }
    Ok(sent)
}

/// Latency in microseconds of every request that was answered, in their order, and the errors.
#[derive(Default)]
struct Answers {
    latency_us: Vec<u32>,
    errors: Vec<u64>,
}

fn receive(mut stream: TcpStream, timetable: Timetable, sent: &Goal) -> io::Result<Answers> {
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut answers = Answers::default();
    let mut inbox = Inbox::default();
    loop {
        let answered = answers.latency_us.len() as u64;
        let sent = sent.get();
        if answered >= sent || (sent != u64::MAX && timetable.due(sent).elapsed() > PATIENCE) {
            return Ok(answers);
        }
        match inbox.read(&mut stream) {
            Ok(true) => {}
            Ok(false) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => continue,
                _ => return Err(error),
            },
        }
        let now = Instant::now();
        while let Some(reply) = inbox.next()? {
            let request = answers.latency_us.len() as u64;
            if let Reply::Error(_) = reply {
                answers.errors.push(request);
            }
            let latency = now.saturating_duration_since(timetable.due(request));
            answers.latency_us.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        }
    }
}

fn report(phases: &[(Instant, String)], timetable: Timetable, sent: u64, answers: &Answers) {
    let first_of = |begin: Instant| {
        let since = begin.saturating_duration_since(timetable.start);
        ((since.as_secs_f64() * timetable.rate).ceil() as u64).min(sent)
    };
    for (index, (begin, name)) in phases.iter().enumerate() {
        let end = phases.get(index + 1).map_or(sent, |(next, _)| first_of(*next));
        let range = first_of(*begin)..end;
        if range.is_empty() {
            continue;
        }
        let answered = answers.latency_us.len() as u64;
        let (from, to) = (range.start.min(answered), range.end.min(answered));
        let mut latency_us = answers.latency_us[from as usize..to as usize].to_vec();
        latency_us.sort_unstable();
        let errors = answers.errors.iter().filter(|request| range.contains(request)).count();
        println!(
            "phase={name} requests={} unanswered={} errors={errors} p50_us={} p99_us={} \
             p999_us={} max_us={}",
            range.end - range.start,
            range.end - range.start - (to - from),
            percentile(&latency_us, 0.5),
            percentile(&latency_us, 0.99),
            percentile(&latency_us, 0.999),
            percentile(&latency_us, 1.0),
        );
    }
}

/// The smallest value that at least the given share of `sorted` does not exceed; 0 of none.
fn percentile(sorted: &[u32], share: f64) -> u32 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<u32> = (1..=1000).collect();
        assert_eq!(percentile(&sorted, 0.5), 500);
        assert_eq!(percentile(&sorted, 0.99), 990);
        assert_eq!(percentile(&sorted, 0.999), 999);
        assert_eq!(percentile(&sorted, 1.0), 1000);
        assert_eq!(percentile(&[7], 0.5), 7);
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
