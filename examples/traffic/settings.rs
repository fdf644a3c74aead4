//! What the command line says.

use crate::rng::Rng;
use std::collections::HashMap;
use std::io;
use std::str::FromStr;
use std::time::Duration;

const NAMES: &[&str] = &[
    "clients",
    "command",
    "deadline-every",
    "exec",
    "keys",
    "load-core",
    "pid",
    "pipeline",
    "port",
    "rate",
    "seconds",
    "seed",
    "server-core",
    "size",
    "starts",
    "timeout",
];

/// Flags, each with one value.
pub struct Settings(HashMap<String, String>);

impl Settings {
    /// Reads `--name value` pairs.
    ///
    /// # Errors
    /// Unknown flags, and flags without a value.
    pub fn parse(args: &[String]) -> io::Result<Settings> {
        let mut settings = HashMap::new();
        for pair in args.chunks(2) {
            let name = pair[0].strip_prefix("--").filter(|name| NAMES.contains(name));
            let (Some(name), Some(value)) = (name, pair.get(1)) else {
                return Err(io::Error::other(format!("not a flag with a value: {}", pair[0])));
            };
            settings.insert(name.to_owned(), value.clone());
        }
        Ok(Settings(settings))
    }

    /// The text of a flag, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The number that a flag gives, if it was given.
    ///
    /// # Errors
    /// If it is not such a number.
    pub fn number<T: FromStr>(&self, name: &str) -> io::Result<Option<T>> {
        let parse = |text: &str| {
            text.parse().map_err(|_| io::Error::other(format!("--{name} {text}: not a number")))
        };
        self.text(name).map(parse).transpose()
    }

    /// A number that must be above 0.
    ///
    /// # Errors
    /// If it is not.
    pub fn count(&self, name: &str, default: u64) -> io::Result<u64> {
        match self.number(name)?.unwrap_or(default) {
            0 => Err(io::Error::other(format!("--{name} must be above 0"))),
            count => Ok(count),
        }
    }

    /// The server's port.
    ///
    /// # Errors
    /// If it is missing or no port.
    pub fn port(&self) -> io::Result<u16> {
        self.number("port")?.ok_or_else(|| io::Error::other("--port is missing"))
    }

    /// How long to go on, unless until standard input ends.
    ///
    /// # Errors
    /// If it is not a number of seconds.
    pub fn seconds(&self) -> io::Result<Option<Duration>> {
        self.number("seconds")?.map(duration).transpose()
    }

    /// When to give up.
    ///
    /// # Errors
    /// If it is not a number of seconds.
    pub fn timeout(&self) -> io::Result<Duration> {
        duration(self.number("timeout")?.unwrap_or(600.0))
    }

    /// The key space.
    ///
    /// # Errors
    /// If a number is none.
    pub fn keys(&self) -> io::Result<KeySpace> {
        Ok(KeySpace {
            keys: self.count("keys", 100_000)?,
            deadline_every: self.number("deadline-every")?.unwrap_or(0),
        })
    }

    /// Values of `--size` bytes, drawn by `--seed`.
    ///
    /// # Errors
    /// If a number is none.
    pub fn values(&self) -> io::Result<Values> {
        let size = self.number("size")?.unwrap_or(32);
        Ok(Values::new(size, self.number("seed")?.unwrap_or(1)))
    }
}

fn duration(seconds: f64) -> io::Result<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(io::Error::other)
}

/// 2050-01-01. Far enough that no run sees it pass.
const FAR_UNIX_MS: u64 = 2_524_608_000_000;

/// Keys by number: 16 bytes each.
#[derive(Clone, Copy)]
pub struct KeySpace {
    /// How many.
    pub keys: u64,
    deadline_every: u64,
}

impl KeySpace {
    /// The key of this number.
    pub fn key(self, number: u64) -> String {
        format!("key:{number:012}")
    }

    /// The deadline of this key, the same each time it is set.
    pub fn deadline_ms(self, number: u64) -> Option<u64> {
        let has_one = self.deadline_every != 0 && number.is_multiple_of(self.deadline_every);
        has_one.then(|| FAR_UNIX_MS + number)
    }
}

/// Values of one size: windows of a block that was drawn at random once, so that they cost nothing
/// and do not compress.
pub struct Values {
    block: Vec<u8>,
    size: usize,
    /// Where the next draw comes from.
    pub rng: Rng,
}

const WINDOWS: usize = 1 << 16;

impl Values {
    fn new(size: usize, seed: u64) -> Values {
        const LETTERS: &[u8; 64] =
            b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
        let mut rng = Rng::new(seed);
        let letter = |_| LETTERS[rng.below(LETTERS.len())];
        let block = (0..size + WINDOWS).map(letter).collect();
        Values { block, size, rng }
    }

    /// The next value.
    pub fn draw(&mut self) -> &[u8] {
        let start = self.rng.below(WINDOWS);
        &self.block[start..start + self.size]
    }
}
