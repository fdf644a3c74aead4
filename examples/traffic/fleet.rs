//! Many clients that write, on one thread: each sends a batch of SETs, waits for all its replies,
//! and sends the next.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use server_async::resp::encode;

use crate::settings::{KeySpace, Settings, Values};
use crate::wire::{self, Inbox, Reply};

/// How long replies may take after the last request.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which keys are written.
enum Order {
    Random,
    /// Each once; the next one's number.
    Each(u64),
}

struct Client {
    stream: TcpStream,
    requests: Vec<u8>,
    sent: usize,
    inbox: Inbox,
    awaited: u64,
}

impl Client {
    /// Sends what the socket takes.
    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.requests.len() {
            match self.stream.write(&self.requests[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what has come and counts it.
    fn receive(&mut self, tally: &mut Tally) -> io::Result<()> {
        loop {
            match self.inbox.read(&mut self.stream) {
                Ok(true) => {}
                Ok(false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            while let Some(reply) = self.inbox.next()? {
                match reply {
                    Reply::Line(b"OK") => tally.acknowledged += 1,
                    _ => tally.errors += 1,
                }
                self.awaited = self.awaited.saturating_sub(1);
            }
        }
    }
}

#[derive(Default)]
struct Tally {
    issued: u64,
    acknowledged: u64,
    errors: u64,
}

struct Fleet {
    poll: Poll,
    clients: Vec<Client>,
    /// Those with no reply to wait for.
    idle: VecDeque<usize>,
    keys: KeySpace,
    values: Values,
    order: Order,
    pipeline: u64,
    /// Requests a second, of all clients together.
    rate: Option<f64>,
    tally: Tally,
}

const WAKE: Token = Token(usize::MAX);

/// `write`: random keys, until told to end.
///
/// # Errors
/// Those of the connections, and wrong flags.
pub fn write(settings: &Settings) -> io::Result<()> {
    let fleet = Fleet::new(settings, Order::Random, 1)?;
    let ended = Arc::new(AtomicBool::new(false));
    if settings.seconds()?.is_none() {
        let (ended, waker) = (Arc::clone(&ended), Waker::new(fleet.poll.registry(), WAKE)?);
        thread::spawn(move || {
            let end = io::copy(&mut io::stdin().lock(), &mut io::sink());
            ended.store(true, Ordering::SeqCst);
            end.and_then(|_| waker.wake())
        });
    }
    fleet.run(settings.seconds()?, &ended)
}

/// `fill`: each key once.
///
/// # Errors
/// Those of the connections, and wrong flags.
pub fn fill(settings: &Settings) -> io::Result<()> {
    Fleet::new(settings, Order::Each(0), 128)?.run(None, &AtomicBool::new(false))
}

impl Fleet {
    fn new(settings: &Settings, order: Order, pipeline: u64) -> io::Result<Fleet> {
        let poll = Poll::new()?;
        let mut clients = Vec::new();
        for index in 0..settings.count("clients", 50)? as usize {
            let stream = wire::connect(settings.port()?)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(index), interest)?;
            let (requests, inbox) = (Vec::new(), Inbox::default());
            clients.push(Client { stream, requests, sent: 0, inbox, awaited: 0 });
        }
        Ok(Fleet {
            poll,
            idle: (0..clients.len()).collect(),
            clients,
            keys: settings.keys()?,
            values: settings.values()?,
            order,
            pipeline: settings.count("pipeline", pipeline)?,
            rate: settings.number("rate")?.filter(|rate| *rate > 0.0),
            tally: Tally::default(),
        })
    }

    fn run(mut self, limit: Option<Duration>, ended: &AtomicBool) -> io::Result<()> {
        let start = Instant::now();
        let mut events = Events::with_capacity(1024);
        // When the last request was sent, once that is so.
        let mut last: Option<Instant> = None;
        loop {
            let over = limit.is_some_and(|limit| start.elapsed() >= limit);
            if last.is_none() && (over || ended.load(Ordering::SeqCst)) {
                last = Some(Instant::now());
            }
            if last.is_none() && !self.hand_out_work(start)? {
                last = Some(Instant::now());
            }
            if let Some(last) = last
                && (self.idle.len() == self.clients.len() || last.elapsed() > PATIENCE)
            {
                break;
            }
            match self.poll.poll(&mut events, Some(self.next_wait(start, limit))) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                let index = event.token().0;
                let Some(client) = self.clients.get_mut(index) else { continue };
                let was_busy = client.awaited > 0;
                client.send()?;
                client.receive(&mut self.tally)?;
                if was_busy && client.awaited == 0 {
                    self.idle.push_back(index);
                }
            }
        }
        let Tally { issued, acknowledged, errors } = self.tally;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "acknowledged={acknowledged} errors={errors} unanswered={} seconds={seconds:.3} \
             per_second={:.0}",
            issued - acknowledged - errors,
            acknowledged as f64 / seconds,
        );
        Ok(())
    }

    /// Gives idle clients their next batch, as far as the rate allows; returns whether there is
    /// more to do.
    fn hand_out_work(&mut self, start: Instant) -> io::Result<bool> {
        while let Some(index) = self.idle.front().copied() {
            let left = match self.order {
                Order::Random => u64::MAX,
                Order::Each(next) => self.keys.keys - next,
            };
            if left == 0 {
                return Ok(false);
            }
            if self.time_until_allowed(start) > Duration::ZERO {
                break;
            }
            let client = &mut self.clients[index];
            client.requests.clear();
            client.sent = 0;
            for _ in 0..self.pipeline.min(left) {
                let number = match &mut self.order {
                    Order::Random => self.values.rng.next() % self.keys.keys,
                    Order::Each(next) => {
                        *next += 1;
                        *next - 1
                    }
                };
                let key = self.keys.key(number);
                let (key, value) = (key.as_bytes(), self.values.draw());
                match self.keys.deadline_ms(number) {
                    None => encode::command(&mut client.requests, &[b"SET", key, value]),
                    Some(ms) => {
                        let ms = ms.to_string();
                        let args = [b"SET", key, value, b"PXAT", ms.as_bytes()];
                        encode::command(&mut client.requests, &args);
                    }
                }
                client.awaited += 1;
            }
            self.tally.issued += client.awaited;
            self.idle.pop_front();
            self.clients[index].send()?;
        }
        Ok(true)
    }

    /// How long until the rate allows the next batch.
    fn time_until_allowed(&self, start: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let allowed_at = Duration::from_secs_f64(self.tally.issued as f64 / rate);
        allowed_at.saturating_sub(start.elapsed())
    }

    fn next_wait(&self, start: Instant, limit: Option<Duration>) -> Duration {
        let mut wait = Duration::from_secs(1);
        if !self.idle.is_empty() {
            wait = wait.min(self.time_until_allowed(start).max(Duration::from_millis(1)));
        }
        limit.map_or(wait, |limit| wait.min(limit.saturating_sub(start.elapsed())))
    }
}
