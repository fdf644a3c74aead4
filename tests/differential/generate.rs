//! Sequences of commands, sane and wild, decided by a seed alone.
//!
//! No step depends on a reply, so that any subset of a sequence can be run again. What a key will
//! hold is left to chance: keys, values and options come from small pools, so that they meet.
//! Deadlines lie far ahead or in the past: nothing lapses by itself while a sequence runs, except
//! where a step waits for it ([`Step::Lapse`]).

#[path = "bits.rs"]
pub mod bits;
#[path = "keys5.rs"]
pub mod keys5;

use crate::common::{Rng, unix_ms};

#[path = "info5.rs"]
mod info5;
#[path = "server5.rs"]
pub mod server5;

/// One command: its words.
pub type Command = Vec<Vec<u8>>;

/// How many connections a sequence speaks on. The last one begins in RESP3.
pub const CONNECTIONS: usize = 3;

/// One step of a sequence.
#[derive(Clone, Debug)]
pub enum Step {
    /// Send a command and compare the replies.
    Command { on: usize, args: Command },
    /// Send several commands at once, and compare the replies one by one.
    Pipeline { on: usize, commands: Vec<Command> },
    /// Send a line without RESP framing, and compare the replies.
    Inline { on: usize, line: Vec<u8> },
    /// Send a command that gives a key at most `ms` to live, and wait until it has lapsed.
    Lapse { on: usize, args: Command, ms: u64 },
    /// Follow SCAN's cursor to the end, and compare all that was returned. `options` are the words
    /// behind the cursor.
    ScanAll { on: usize, options: Command },
    /// Send bytes on a fresh connection, end it, and compare everything that comes back.
    Bytes { bytes: Vec<u8> },
    /// Start a rewrite and wait until it has ended.
    Rewrite { on: usize },
    /// Compare the digests of the whole key spaces.
    Digest,
}

/// Keys: few, so that commands meet on them; one empty, one binary, one long.
pub fn key_pool() -> Command {
    let mut keys: Command = (0..8).map(|i| format!("k{i}").into_bytes()).collect();
    keys.push(b"".to_vec());
    keys.push(b"\0\xff\r\n".to_vec());
    keys.push(b"with space".to_vec());
    keys.push(b"h[e]l*l?o\\".to_vec());
    keys.push(vec![b'L'; 300]);
    keys
}

/// A sequence of `len` steps.
pub fn sequence(seed: u64, len: usize) -> Vec<Step> {
    let mut generator = Generator { rng: Rng::new(seed), now: unix_ms(), keys: key_pool() };
    let mut steps = Vec::with_capacity(len);
    while steps.len() < len {
        generator.steps(&mut steps);
    }
    steps.truncate(len);
    steps.push(Step::Digest);
    steps
}

struct Generator {
    rng: Rng,
    now: i64,
    keys: Command,
}

/// The first `words` words of a command in capitals.
pub fn name_of(args: &[Vec<u8>], words: usize) -> String {
    let words: Vec<_> = args.iter().take(words).map(|arg| String::from_utf8_lossy(arg)).collect();
    words.join(" ").to_uppercase()
}

/// Whether the reference finds the argument `at` in a hash table of names: of parameters or of
/// commands. It hashes them whole but compares them up to a byte 0, and so takes `GET\0z` for GET
/// when the seed of its hashes has put both into one bucket: in one of some hundred runs.
fn is_found_by_hash(args: &Command, at: usize) -> bool {
    match name_of(args, 2).as_str() {
        "CONFIG SET" => at.is_multiple_of(2),
        "CONFIG GET" | "COMMAND INFO" | "COMMAND DOCS" | "LATENCY HISTOGRAM" => true,
        // The command, and what may be its subcommand.
        "COMMAND GETKEYS" | "COMMAND GETKEYSANDFLAGS" => at == 2 || at == 3,
        _ => false,
    }
}

fn word(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

impl Generator {
    fn steps(&mut self, steps: &mut Vec<Step>) {
        let on = self.rng.below(CONNECTIONS);
        if self.rng.one_in(26) {
            return server5::steps(&mut self.rng, on, steps);
        }
        match self.rng.below(100) {
            0..64 => {
                let args = self.any_command();
                steps.push(Step::Command { on, args });
            }
            64..70 => {
                let len = 2 + self.rng.below(30);
                let commands = (0..len).map(|_| self.key_command()).collect();
                steps.push(Step::Pipeline { on, commands });
            }
            70..80 => self.transaction(on, steps),
            80..83 => {
                let ms = 1 + self.rng.below(5) as u64;
                let (args, ms) = self.lapsing(ms);
                steps.push(Step::Lapse { on, args, ms });
            }
            83..88 => {
                let options = self.scan_options();
                steps.push(Step::ScanAll { on, options });
            }
            88..91 => {
                let line = self.inline();
                steps.push(Step::Inline { on, line });
            }
            91..97 => {
                let bytes = self.bytes();
                steps.push(Step::Bytes { bytes });
            }
            97..99 => steps.push(Step::Digest),
            _ if self.rng.one_in(8) => steps.push(Step::Rewrite { on }),
            _ => steps.push(Step::Command { on, args: vec![word("DBSIZE")] }),
        }
    }

    /// MULTI to EXEC or DISCARD on one connection, sometimes watched, sometimes with another
    /// connection's commands in between.
    fn transaction(&mut self, on: usize, steps: &mut Vec<Step>) {
        let mut push = |on: usize, args: Command| steps.push(Step::Command { on, args });
        if self.rng.one_in(2) {
            let mut watch = vec![word("WATCH")];
            for _ in 0..=self.rng.below(3) {
                watch.push(self.key());
            }
            push(on, watch);
            if self.rng.one_in(2) {
                let other = self.rng.below(CONNECTIONS);
                let args = self.key_command();
                push(other, args);
            }
            if self.rng.one_in(8) {
                push(on, vec![word("UNWATCH")]);
            }
        }
        push(on, vec![word("MULTI")]);
        for _ in 0..self.rng.below(6) {
            let args = if self.rng.one_in(6) { self.any_command() } else { self.key_command() };
            push(on, args);
            if self.rng.one_in(6) {
                let other = self.rng.below(CONNECTIONS);
                let args = self.key_command();
                push(other, args);
            }
        }
        push(on, vec![word(if self.rng.one_in(5) { "DISCARD" } else { "EXEC" })]);
    }

    fn any_command(&mut self) -> Command {
        let mut args = match self.rng.below(36) {
            32.. => info5::command(&mut self.rng, &self.keys),
            26..32 => server5::command(&mut self.rng),
            0..13 => self.key_command(),
            13..15 => self.keyspace_command(),
            15..18 => self.session_command(),
            18..22 => self.server_command(),
            22 => self.malformed(),
            _ => self.wrong_arity(),
        };
        self.vary_case(&mut args);
        self.vary_end(&mut args);
        args
    }

    /// The reference reads most options up to a byte 0 alone, and subcommands whole.
    fn vary_end(&mut self, args: &mut Command) {
        if !self.rng.one_in(25) || args.len() < 3 {
            return;
        }
        let at = 2 + self.rng.below(args.len() - 2);
        if is_found_by_hash(args, at) {
            return;
        }
        // Not what may be a key: such a key would not be in the pool.
        if (2..16).contains(&args[at].len()) && args[at].iter().all(u8::is_ascii_alphabetic) {
            args[at].extend(b"\0z");
        }
    }

    /// Commands are found, and options are read, whatever their case.
    fn vary_case(&mut self, args: &mut Command) {
        match self.rng.below(4) {
            0 => args[0].make_ascii_lowercase(),
            1 => {
                for letter in &mut args[0] {
                    if self.rng.one_in(2) {
                        letter.make_ascii_lowercase();
                    }
                }
            }
            _ => {}
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let at =
            if self.rng.one_in(4) { self.rng.below(self.keys.len()) } else { self.rng.below(4) };
        self.keys[at].clone()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.below(10) {
            0..3 => self.rng.between(-20, 200).to_string().into_bytes(),
            3 => self.number(),
            4 => self.float(),
            5 => {
                let len = self.rng.below(60);
                self.rng.bytes(len)
            }
            6 => {
                // Around the lengths where an encoding changes: 20 digits, 44 bytes, powers of 2.
                let lens = [&0, &1, &19, &20, &21, &44, &45, &63, &64, &128, &129, &1024, &40_000];
                let len = *self.rng.pick(&lens);
                let letter = b'a' + self.rng.below(26) as u8;
                vec![letter; len]
            }
            _ => word(["", "a", "hello", "value", "10", "3.0", "0", "-1"][self.rng.below(8)]),
        }
    }

    /// Something where an integer is expected: mostly one.
    fn number(&mut self) -> Vec<u8> {
        const WILD: &[&str] = &[
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "-9223372036854775809",
            "9223372036854775806",
            "9223372036854775",
            "9223372036854776",
            "-9223372036854775",
            "9999999999999999999999",
            "4294967296",
            "2147483648",
            "18446744073709551615",
            "+5",
            "-0",
            "007",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x10",
            "",
            "abc",
            "-",
            "1\0",
            "0",
            "-1",
        ];
        if self.rng.one_in(3) {
            word(WILD[self.rng.below(WILD.len())])
        } else {
            self.rng.between(-100, 100).to_string().into_bytes()
        }
    }

    /// Something where a float is expected: mostly one.
    fn float(&mut self) -> Vec<u8> {
        const WILD: &[&str] = &[
            "inf",
            "-inf",
            "+inf",
            "infinity",
            "nan",
            "1e400",
            "1e5000",
            "1e-5000",
            "-1e308",
            "1e17",
            "1e18",
            "123456789012345678901234567890",
            "0x1p3",
            "0x10",
            ".5",
            "5.",
            "-.5e1",
            "1e",
            "e1",
            "",
            " 1.5",
            "1.5 ",
            "1.5abc",
            "3.0e3",
            "0.1",
            "1e-17",
            "1e-18",
            "-0",
            "+1.5",
            "1.7976931348623157e308",
            "1,5",
            "99999999999999999999999999.5",
            "4.9e-324",
        ];
        if self.rng.one_in(2) {
            word(WILD[self.rng.below(WILD.len())])
        } else {
            let digits = self.rng.below(12);
            let value = self.rng.between(-1_000_000, 1_000_000) as f64 / 997.0;
            format!("{value:.digits$}").into_bytes()
        }
    }

    /// A time to live in `unit` milliseconds: far, or none at all, or nonsense.
    fn relative(&mut self, unit: i64) -> Vec<u8> {
        match self.rng.below(8) {
            0 => self.rng.between(-5, 0).to_string().into_bytes(),
            1 => self.wild_time(),
            _ => (self.rng.between(100_000, 1_000_000_000) / unit.max(1) * 1_000)
                .max(200_000)
                .to_string()
                .into_bytes(),
        }
    }

    /// A point in time in `unit` milliseconds: far ahead, or past, or nonsense.
    fn absolute(&mut self, unit: i64) -> Vec<u8> {
        let far = self.now + self.rng.between(1_000_000, 100_000_000_000);
        match self.rng.below(8) {
            0 => ((self.now - self.rng.between(10_000, 1_000_000)) / unit).to_string().into_bytes(),
            1 => self.rng.between(-2, 2).to_string().into_bytes(),
            2 => self.wild_time(),
            _ => (far / unit).to_string().into_bytes(),
        }
    }

    /// Numbers that are too large, or none. None of them is a deadline that could lapse during
    /// the test: the small ones of [`Generator::number`] would be.
    fn wild_time(&mut self) -> Vec<u8> {
        const WILD: &[&str] = &[
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "9223372036854775",
            "9223372036854776",
            "-9223372036854775",
            "-9223372036854776",
            "9223370000000000000",
            "9999999999999999999999",
            "0",
            "-1",
            "abc",
            "",
            "1.5",
            "1e9",
            "+1000000",
            " 1000000",
        ];
        word(WILD[self.rng.below(WILD.len())])
    }

    /// A time with its option word: EX, PX, EXAT or PXAT.
    fn expiry_option(&mut self, args: &mut Command) {
        match self.rng.below(4) {
            0 => args.extend([word("EX"), self.relative(1_000)]),
            1 => args.extend([word("PX"), self.relative(1)]),
            2 => args.extend([word("EXAT"), self.absolute(1_000)]),
            _ => args.extend([word("PXAT"), self.absolute(1)]),
        }
    }

    fn option(&mut self, choices: &[&str]) -> Vec<u8> {
        let mut option = word(self.rng.pick(choices));
        if self.rng.one_in(4) {
            option.make_ascii_lowercase();
        }
        option
    }

    /// Commands on keys.
    fn key_command(&mut self) -> Command {
        if self.rng.one_in(6) {
            return self.command_on_keys_as_such();
        }
        if self.rng.one_in(4) {
            return self.bit_command();
        }
        let key = self.key();
        match self.rng.below(36) {
            0..4 => {
                let mut args = vec![word("SET"), key, self.value()];
                for _ in 0..[0, 0, 1, 1, 2, 3][self.rng.below(6)] {
                    match self.rng.below(10) {
                        0..4 => self.expiry_option(&mut args),
                        4..9 => args.push(self.option(&["NX", "XX", "GET", "KEEPTTL"])),
                        _ => args.push(self.option(&["EX", "PX", "FOO", "PERSIST", "", "NXX"])),
                    }
                }
                args
            }
            4 | 5 => vec![word("GET"), key],
            6 => vec![word("GETDEL"), key],
            7 => {
                let mut args = vec![word("GETEX"), key];
                for _ in 0..[0, 1, 1, 1, 2][self.rng.below(5)] {
                    match self.rng.below(8) {
                        0..5 => self.expiry_option(&mut args),
                        5 | 6 => args.push(self.option(&["PERSIST"])),
                        _ => args.push(self.option(&["EX", "KEEPTTL", "NX", "GET"])),
                    }
                }
                args
            }
            8 => vec![word("GETSET"), key, self.value()],
            9 => vec![word("SETNX"), key, self.value()],
            10 => vec![word("SETEX"), key, self.relative(1_000), self.value()],
            11 => vec![word("PSETEX"), key, self.relative(1), self.value()],
            12 => self.with_keys("MGET"),
            13 => self.pairs("MSET"),
            14 => self.pairs("MSETNX"),
            15 => vec![word("APPEND"), key, self.value()],
            16 => vec![word("STRLEN"), key],
            17 => vec![word("INCR"), key],
            18 => vec![word("DECR"), key],
            19 | 20 => vec![word("INCRBY"), key, self.number()],
            21 => vec![word("DECRBY"), key, self.number()],
            22 | 23 => vec![word("INCRBYFLOAT"), key, self.float()],
            24 => self.with_keys("DEL"),
            25 => self.with_keys("UNLINK"),
            26 => self.with_keys("EXISTS"),
            27 => vec![word("TYPE"), key],
            28..31 => {
                let mut args = match self.rng.below(4) {
                    0 => vec![word("EXPIRE"), key, self.relative(1_000)],
                    1 => vec![word("PEXPIRE"), key, self.relative(1)],
                    2 => vec![word("EXPIREAT"), key, self.absolute(1_000)],
                    _ => vec![word("PEXPIREAT"), key, self.absolute(1)],
                };
                for _ in 0..[0, 0, 1, 1, 2][self.rng.below(5)] {
                    args.push(
                        self.option(&["NX", "XX", "GT", "LT", "NX", "XX", "GT", "LT", "FOO"]),
                    );
                }
                args
            }
            31 | 32 => {
                let name = ["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"][self.rng.below(4)];
                vec![word(name), key]
            }
            33 => vec![word("PERSIST"), key],
            34 => vec![word("DEBUG"), word("OBJECT"), key],
            _ => {
                let value = self.value();
                vec![word("SET"), key, value]
            }
        }
    }

    fn with_keys(&mut self, name: &str) -> Command {
        let mut args = vec![word(name)];
        for _ in 0..=self.rng.below(4) {
            args.push(self.key());
        }
        args
    }

    fn pairs(&mut self, name: &str) -> Command {
        let mut args = vec![word(name)];
        for _ in 0..=self.rng.below(3) {
            args.extend([self.key(), self.value()]);
        }
        if self.rng.one_in(12) {
            args.push(self.key());
        }
        args
    }

    fn pattern(&mut self) -> Vec<u8> {
        const PATTERNS: &[&str] = &[
            "*",
            "k*",
            "k?",
            "k[0-3]",
            "k[^1-2]",
            "k[3-0]",
            "[kh]*",
            "k\\*",
            "h\\[e\\]*",
            "",
            "nosuch*",
            "*l*l*",
            "**",
            "k[",
            "k[0",
            "[^k]*",
            "\\",
            "?",
            "L*L",
        ];
        word(PATTERNS[self.rng.below(PATTERNS.len())])
    }

    fn scan_options(&mut self) -> Command {
        let mut args = Vec::new();
        for _ in 0..self.rng.below(4) {
            match self.rng.below(12) {
                0..4 => args.extend([word("MATCH"), self.pattern()]),
                4..8 => {
                    let count = self.rng.between(1, 20).to_string();
                    args.extend([word("COUNT"), count.into_bytes()]);
                }
                8 | 9 => args.extend([word("TYPE"), self.option(&["string", "list", "foo", ""])]),
                10 => args.extend([word("COUNT"), self.number()]),
                _ => args.push(self.option(&["MATCH", "COUNT", "TYPE", "FOO"])),
            }
        }
        args
    }

    /// Commands on whole databases.
    fn keyspace_command(&mut self) -> Command {
        match self.rng.below(24) {
            0..3 => vec![word("KEYS"), self.pattern()],
            3..6 => vec![word("RANDOMKEY")],
            6..12 => vec![word("DBSIZE")],
            12 => {
                let mut args = vec![word(["FLUSHDB", "FLUSHALL"][self.rng.below(2)])];
                for _ in 0..[0, 0, 1, 2][self.rng.below(4)] {
                    args.push(self.option(&["SYNC", "ASYNC", "ASYNC", "FOO"]));
                }
                args
            }
            13..20 => {
                let choices = ["0", "0", "0", "1", "2", "15", "16", "-1", "a", "", "99999999999"];
                vec![word("SELECT"), word(self.rng.pick(&choices))]
            }
            20 | 21 => {
                // A cursor that no server gave, with all sorts of options: only errors compare.
                let cursor = self.option(&[
                    "abc",
                    "-1",
                    "",
                    "18446744073709551616",
                    "18446744073709551615",
                    "9223372036854775808",
                    "-18446744073709551615",
                    "-18446744073709551616",
                    "1.5",
                    " 0",
                    "0 ",
                    "\t0",
                    "+0",
                    "-0",
                    "+",
                    "00",
                    "0x0",
                    "0\0x",
                    "\x00",
                ]);
                let mut args = vec![word("SCAN"), cursor];
                args.extend(self.scan_options());
                args
            }
            22 => {
                let mut args = vec![word("DEBUG"), word("POPULATE")];
                args.push(self.option(&["0", "1", "20", "abc", "-1", ""]));
                if self.rng.one_in(2) {
                    args.push(self.option(&["key", "k", "", "other"]));
                    if self.rng.one_in(2) {
                        args.push(self.option(&["0", "3", "7", "50", "abc"]));
                    }
                }
                args
            }
            _ => vec![word("SWITCH")],
        }
    }

    /// Commands about the connection.
    fn session_command(&mut self) -> Command {
        let text = |choices: &[&str], rng: &mut Rng| {
            let line = rng.pick(choices).to_owned();
            line.split(' ').map(word).collect::<Command>()
        };
        match self.rng.below(16) {
            0 => vec![word("PING")],
            1 => vec![word("PING"), self.value()],
            2 => vec![word("ECHO"), self.value()],
            3 => text(
                &["AUTH x", "AUTH default x", "AUTH nobody x", "AUTH default", "AUTH a b c"],
                &mut self.rng,
            ),
            4 | 5 => text(
                &[
                    "HELLO",
                    "HELLO 2",
                    "HELLO 3",
                    "HELLO 3",
                    "HELLO 4",
                    "HELLO 1",
                    "HELLO abc",
                    "HELLO 3 SETNAME bob",
                    "HELLO 2 SETNAME bob",
                    "HELLO 3 AUTH default x",
                    "HELLO 3 AUTH nobody x",
                    "HELLO 2 AUTH default x SETNAME eve",
                    "HELLO 3 SETNAME",
                    "HELLO 3 AUTH default",
                    "HELLO 3 FOO",
                    "HELLO 3 SETNAME a\tb",
                    "HELLO -1",
                    "HELLO 99999999999999999999",
                ],
                &mut self.rng,
            ),
            6 => vec![word("RESET")],
            7 => text(&["MULTI", "EXEC", "DISCARD", "UNWATCH", "QUIT"], &mut self.rng),
            8 => {
                vec![word("CLIENT"), word("SETNAME"), self.option(&["bob", "", "a\nb", "x y", "é"])]
            }
            9 => text(
                &[
                    "CLIENT GETNAME",
                    "CLIENT ID",
                    "CLIENT INFO",
                    "CLIENT LIST",
                    "CLIENT LIST TYPE normal",
                    "CLIENT LIST TYPE pubsub",
                    "CLIENT LIST TYPE master",
                    "CLIENT LIST TYPE foo",
                    "CLIENT LIST TYPE",
                    "CLIENT LIST ID 0",
                    "CLIENT LIST ID abc",
                    "CLIENT LIST ID 99999999",
                    "CLIENT LIST ID",
                    "CLIENT LIST FOO",
                    "CLIENT LIST TYPE replica",
                    "CLIENT GETNAME x",
                    "CLIENT ID x",
                    "CLIENT INFO x",
                ],
                &mut self.rng,
            ),
            10 => text(
                &[
                    "CLIENT KILL 1.2.3.4:5",
                    "CLIENT KILL ID 99999999",
                    "CLIENT KILL ID 0",
                    "CLIENT KILL ID -1",
                    "CLIENT KILL ID abc",
                    "CLIENT KILL TYPE foo",
                    "CLIENT KILL TYPE pubsub",
                    "CLIENT KILL ADDR 1.2.3.4:5",
                    "CLIENT KILL LADDR x",
                    "CLIENT KILL USER nobody",
                    "CLIENT KILL USER default ID 99999999",
                    "CLIENT KILL SKIPME maybe",
                    "CLIENT KILL ID",
                    "CLIENT KILL FOO bar",
                    "CLIENT KILL ID 99999999 SKIPME no",
                    "CLIENT KILL",
                    "CLIENT KILL TYPE pubsub SKIPME yes ID 99999999",
                    "CLIENT KILL ID 99999999 SKIPME",
                ],
                &mut self.rng,
            ),
            11 => text(
                &["CLIENT", "CLIENT FOO", "CLIENT FOO bar baz", "CLIENT SETNAME"],
                &mut self.rng,
            ),
            12 => vec![word("SELECT"), word("0")],
            13 => vec![word("PING"), self.value(), self.value()],
            14 => vec![word("RESET"), self.value()],
            _ => {
                text(&["MULTI", "DISCARD", "EXEC x", "WATCH", "UNWATCH x", "QUIT x"], &mut self.rng)
            }
        }
    }

    /// Commands about the server.
    fn server_command(&mut self) -> Command {
        const LINES: &[&str] = &[
            "COMMAND COUNT",
            "COMMAND COUNT x",
            "COMMAND INFO get",
            "COMMAND INFO get set nosuch mset",
            "COMMAND INFO GET append incr expire del",
            "COMMAND INFO exec watch multi select scan keys",
            "COMMAND INFO getrange substr setrange lcs setbit getbit",
            "COMMAND INFO bitcount bitpos bitop bitfield bitfield_ro",
            "COMMAND GETKEYS BITOP AND a b c",
            "COMMAND GETKEYS LCS a b LEN",
            "COMMAND GETKEYSANDFLAGS BITOP AND a b c",
            "COMMAND GETKEYSANDFLAGS BITFIELD a GET u8 0",
            "COMMAND GETKEYSANDFLAGS BITFIELD a GET u8 0 INCRBY u8 0 1",
            "COMMAND GETKEYSANDFLAGS BITFIELD a OVERFLOW SAT GET u8 0",
            "COMMAND GETKEYSANDFLAGS BITFIELD a",
            "COMMAND INFO config|get client|list",
            "COMMAND INFO nosuch",
            "COMMAND INFO rename renamenx copy move swapdb touch",
            "COMMAND INFO object object|encoding object|freq object|help",
            "COMMAND LIST",
            "COMMAND LIST FILTERBY PATTERN g*",
            "COMMAND LIST FILTERBY ACLCAT string",
            "COMMAND LIST FILTERBY ACLCAT nosuch",
            "COMMAND LIST FILTERBY MODULE nosuch",
            "COMMAND LIST FILTERBY FOO bar",
            "COMMAND LIST FILTERBY",
            "COMMAND LIST x",
            "COMMAND FOO",
            "COMMAND",
            "TIME",
            "TIME x",
            "INFO",
            "INFO server",
            "INFO PERSISTENCE",
            "INFO nosuch",
            "INFO server clients",
            "INFO everything",
            "INFO all",
            "INFO default",
            "CONFIG",
            "CONFIG GET",
            "CONFIG FOO",
            "CONFIG FOO bar",
            "CONFIG RESETSTAT",
            "CONFIG RESETSTAT x",
            "CONFIG SET",
            "CONFIG SET hz",
            "CONFIG SET nosuch 1",
            "CONFIG SET hz 10 nosuch 1",
            "CONFIG SET hz 10 hz 11",
            "CONFIG SET hz 10 timeout",
            "CONFIG SET port",
            "CONFIG SET databases 3",
            "CONFIG SET daemonize yes",
            "DEBUG",
            "DEBUG FOO",
            "DEBUG SLEEP 0",
            "DEBUG SLEEP abc",
            "DEBUG SLEEP",
            "DEBUG DIGEST x",
            "DEBUG SET-ACTIVE-EXPIRE",
            "DEBUG SET-ACTIVE-EXPIRE 0",
            "DEBUG OBJECT",
            "DEBUG OBJECT nosuch",
            "DEBUG POPULATE",
            "SHUTDOWN FOO",
            "SHUTDOWN SAVE NOSAVE",
            "SHUTDOWN ABORT",
            "SHUTDOWN ABORT NOW",
            "SHUTDOWN NOW FOO",
            "BGREWRITEAOF x",
        ];
        // Parameters of one default in both servers that no other step depends on.
        const PARAMETERS: &[&str] = &[
            "hz",
            "timeout",
            "tcp-keepalive",
            "lazyfree-lazy-user-del",
            "auto-aof-rewrite-percentage",
            "auto-aof-rewrite-min-size",
            "aof-load-truncated",
            "proto-max-bulk-len",
            "appendfsync",
            "client-output-buffer-limit",
            "client-query-buffer-limit",
        ];
        match self.rng.below(4) {
            0 => {
                let mut args = vec![word("CONFIG"), word("GET")];
                for _ in 0..=self.rng.below(3) {
                    args.push(if self.rng.one_in(6) {
                        word(self.rng.pick(&["nosuch", "hz*", "tcp-keep*", "", "[", "TIMEOUT"]))
                    } else {
                        word(self.rng.pick(PARAMETERS))
                    });
                }
                args
            }
            1 => {
                let mut args = vec![word("CONFIG"), word("SET")];
                for _ in 0..=self.rng.below(2) {
                    let name = self.rng.pick(PARAMETERS);
                    args.extend([word(name), self.parameter_value(name)]);
                }
                args
            }
            _ => LINES[self.rng.below(LINES.len())].split(' ').map(word).collect(),
        }
    }

    /// A value for a parameter that both servers are asked to take: of its kind, or wrong. None
    /// of the right ones changes how the rest of the sequence runs.
    fn parameter_value(&mut self, name: &str) -> Vec<u8> {
        let right: &[&str] = match name {
            "hz" => &["1", "10", "500", "0", "501"],
            "timeout" => &["0", "100000"],
            "tcp-keepalive" => &["0", "60", "300"],
            "auto-aof-rewrite-percentage" => &["0", "100", "50"],
            "auto-aof-rewrite-min-size" => &["1gb", "2gb", "1073741824", "1000MB", "2000m"],
            "proto-max-bulk-len" => &["512mb", "536870912", "600mb"],
            "appendfsync" => &["everysec", "no", "always", "NO"],
            "client-output-buffer-limit" => &[
                "normal 0 0 0",
                "pubsub 32mb 8mb 60",
                "slave 256mb 64mb 60",
                "normal 0 0",
                "foo 0 0 0",
                "normal a 0 0",
                "replica 256mb 64mb 60 normal 0 0 0",
                "normal 0 0 -1",
                "normal 1gb 1gb 10 pubsub 32mb 8mb 60",
                "NORMAL 0 0 0",
                "master 0 0 0",
                "normal 0 0 0 x",
                "normal 1gb 2000mb 3 slave 0 0 0 replica 1gb 1gb 5",
                "normal 0 0 1.5",
                "normal -1 0 0",
                "normal 0  0 0",
                " normal 0 0 0 ",
                "normal\t0 0 0",
                "'normal' 0 0 \"0\"",
                "'normal 0 0 0",
                "normal 1tb 0 0",
                "",
            ],
            "client-query-buffer-limit" => &["1gb", "1073741824", "2gb"],
            _ => &["yes", "no", "YES"],
        };
        let wrong = ["", "abc", "-1", "1.5", "99999999999999999999", "10x", " 10", "maybe", "1tb"];
        // Both servers read nothing as 0 bytes, and would rewrite from here on when they like.
        let wrong = if name == "auto-aof-rewrite-min-size" { &wrong[1..] } else { &wrong };
        word(if self.rng.one_in(3) { self.rng.pick(wrong) } else { self.rng.pick(right) })
    }

    /// A known command with too few or too many words.
    fn wrong_arity(&mut self) -> Command {
        const NAMES: &[&str] = &[
            "PING",
            "ECHO",
            "AUTH",
            "SELECT",
            "GET",
            "SET",
            "GETDEL",
            "GETEX",
            "GETSET",
            "SETNX",
            "SETEX",
            "PSETEX",
            "MGET",
            "MSET",
            "MSETNX",
            "APPEND",
            "STRLEN",
            "INCR",
            "DECR",
            "INCRBY",
            "DECRBY",
            "INCRBYFLOAT",
            "DEL",
            "UNLINK",
            "EXISTS",
            "TYPE",
            "KEYS",
            "SCAN",
            "RANDOMKEY",
            "DBSIZE",
            "EXPIRE",
            "PEXPIRE",
            "EXPIREAT",
            "PEXPIREAT",
            "TTL",
            "PTTL",
            "EXPIRETIME",
            "PEXPIRETIME",
            "PERSIST",
            "MULTI",
            "EXEC",
            "DISCARD",
            "WATCH",
            "UNWATCH",
            "CONFIG",
            "TIME",
            "BGREWRITEAOF",
            "DEBUG",
            "CLIENT",
            "RESET",
        ];
        let mut args = vec![word(self.rng.pick(NAMES))];
        for _ in 0..[0, 0, 1, 2, 4, 5][self.rng.below(6)] {
            // Words that are no options and no numbers of any command's.
            args.push(self.option(&["zero", "one", "", "two\0", "k1"]));
        }
        // With one plain word it may be a valid command, which is as good; but this one would
        // start a rewrite that nobody waits for.
        if args[0] == b"BGREWRITEAOF" && args.len() == 1 {
            args.push(word("x"));
        }
        args
    }

    /// No command at all.
    fn malformed(&mut self) -> Command {
        let name = match self.rng.below(6) {
            0 => Vec::new(),
            1 => {
                let len = 1 + self.rng.below(10);
                self.rng.bytes(len)
            }
            2 => vec![b'x'; 200],
            // Not `GET\0`: see `is_found_by_hash`.
            3 => word("NOSUCH\0x"),
            4 => word("nosuch command"),
            _ => word("NOSUCH"),
        };
        let mut args = vec![name];
        for _ in 0..self.rng.below(5) {
            args.push(self.value());
        }
        args
    }

    /// A command that makes a key lapse in `ms`, and in how many milliseconds it does.
    fn lapsing(&mut self, ms: u64) -> (Command, u64) {
        // The reference reads its clock twice here, and where a deadline is past at the second time
        // it removes the key at once, which DBSIZE tells.
        const PEXPIRE_MS: u64 = 20;
        let (key, time) = (self.key(), ms.to_string().into_bytes());
        let at = (self.now + ms as i64).to_string().into_bytes();
        let args = match self.rng.below(6) {
            0 | 1 => {
                let ms = ms + PEXPIRE_MS;
                return (vec![word("PEXPIRE"), key, ms.to_string().into_bytes()], ms);
            }
            2 => vec![word("SET"), key, self.value(), word("PX"), time],
            3 => vec![word("PSETEX"), key, time, self.value()],
            4 => vec![word("GETEX"), key, word("PX"), time],
            _ => vec![word("SET"), key, self.value(), word("PXAT"), at],
        };
        (args, ms)
    }

    /// A command line as a person types it.
    fn inline(&mut self) -> Vec<u8> {
        const LINES: &[&str] = &[
            "PING\r\n",
            "ping\n",
            "  PING  \r\n",
            "SET k1 \"a b\"\r\n",
            "SET k1 'a\\'b'\r\n",
            "SET k1 \"\\x41\\n\\t\\\"\"\r\n",
            "GET k1\r\n",
            "SET k2 5\nINCR k2\r\n",
            "GET\r\n",
            "NOSUCH a b\r\n",
            "ECHO \"\"\r\n",
            "ECHO \"\\xzz\"\r\n",
            "ECHO a\tb\r\n",
            "ECHO a\u{b}b\r\n",
            "ECHO caf\u{e9}\r\n",
            "DEL k1 k2\r\n",
            "\"PING\"\r\n",
            "EXISTS ''\r\n",
        ];
        word(LINES[self.rng.below(LINES.len())])
    }

    /// A command whose reply is short, and equal to the letter. What the reference has not sent
    /// yet when it finds the connection ended, it drops: long replies would end anywhere.
    fn short_command(&mut self) -> Command {
        let line = match self.rng.below(9) {
            0 => "SET b0 value",
            1 => "GET b0",
            2 => "INCR b1",
            3 => "INCR b0",
            4 => "SETNX b2 x",
            5 => "MGET b0 b1 b2",
            6 => "DEL b0 b2",
            7 => "GET b0 b1",
            _ => "NOSUCH b0",
        };
        line.split(' ').map(word).collect()
    }

    /// Bytes for a fresh connection: a few commands, then something that breaks the protocol or
    /// stays incomplete.
    fn bytes(&mut self) -> Vec<u8> {
        const ENDS: &[&str] = &[
            "*x\r\n",
            "*-5\r\nPING\r\n",
            "*0\r\nPING\r\n",
            "\r\n\r\nPING\r\n",
            "*1\r\n+PING\r\n",
            "*1\r\nPING\r\n",
            "*1\r\n$-1\r\n",
            "*1\r\n$x\r\nPING\r\n",
            "*1\r\n$\r\n",
            "*\r\nPING\r\n",
            "*2147483648\r\n",
            "*1048577\r\n",
            "*99999999999999999999\r\n",
            "*1\r\n$536870913\r\n",
            "*1\r\n$99999999999999999999\r\n",
            "*+1\r\n$4\r\nPING\r\n",
            "*01\r\n$4\r\nPING\r\n",
            "*1\r\n$04\r\nPING\r\n",
            "*1\r\n$+4\r\nPING\r\n",
            "*1 \r\n$4\r\nPING\r\n",
            "*1\r\n$4\r\nPINGXXPING\r\n",
            "*1\n$4\nPING\n",
            "*1\r\r\n",
            "*1\r\n$4 \r\nPING\r\n",
            "\"unbalanced\r\n",
            "SET 'a\r\n",
            "PING \"a\"b\r\n",
            "'a'b\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\n\r\nPING\r\n",
            "Host: x\r\n",
            "*1\r\n$4\r\nPI",
            "*3\r\n$3\r\nSET\r\n$2\r\nk1\r\n",
            "PING",
            "$4\r\nPING\r\n",
            "+PING\r\n",
            ":1\r\n",
            "*-1\r\n*1\r\n$4\r\nPING\r\n",
            "*1\r\n*1\r\n$4\r\nPING\r\n",
            "\"\"\r\n",
            "''\r\nPING\r\n",
            "*1\r\n$0\r\n\r\nPING\r\n",
            "QUIT\r\nPING\r\n",
            "*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n",
        ];
        let mut bytes = Vec::new();
        for _ in 0..self.rng.below(3) {
            let args = self.short_command();
            crate::common::raw::encode_into(&mut bytes, &args);
        }
        match self.rng.below(10) {
            0 => {
                // A valid command with one byte changed, but not into a longer wait for input:
                // the connection ends here, so an incomplete command is dropped alike.
                let mut valid = crate::common::raw::encode(&["SET", "k3", "some value"]);
                let at = self.rng.below(valid.len());
                valid[at] = self.rng.between(1, 255) as u8;
                bytes.extend(valid);
            }
            1 if self.rng.one_in(4) => {
                let len = 65_000 + self.rng.below(2_000);
                bytes.extend(vec![b'a'; len]);
            }
            1 if self.rng.one_in(4) => {
                bytes.push(*self.rng.pick(&[&b'*', &b'$']));
                let len = 65_000 + self.rng.below(2_000);
                bytes.extend(vec![b'1'; len]);
            }
            2 => {
                let len = self.rng.below(40);
                // No byte 0 outside of arguments: the reference looks for the end of a line no
                // further than that, and waits for more.
                bytes.extend((0..len).map(|_| self.rng.between(1, 255) as u8));
                bytes.extend(b"\r\n");
            }
            _ => bytes.extend(word(ENDS[self.rng.below(ENDS.len())])),
        }
        bytes
    }
}
