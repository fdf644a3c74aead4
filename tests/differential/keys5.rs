//! Commands on keys as such: other names, other databases, use, OBJECT.

use super::{Command, Generator, Step, word};

/// Indices of databases: mostly ones that there are.
const DATABASES: &[&str] = &[
    "0",
    "0",
    "0",
    "1",
    "1",
    "2",
    "15",
    "16",
    "-1",
    "abc",
    "",
    "1.5",
    "2147483647",
    "2147483648",
    "-2147483649",
    "9223372036854775808",
    " 1",
    "01",
];

impl Generator {
    /// A command of this part, with arguments that are right or wrong.
    pub(super) fn command_on_keys_as_such(&mut self) -> Command {
        let (key, other) = (self.key(), self.key());
        match self.rng.below(16) {
            0 | 1 => vec![word("RENAME"), key, other],
            2 => vec![word("RENAMENX"), key, other],
            3..7 => {
                let mut args = vec![word("COPY"), key, other];
                for _ in 0..[0, 1, 1, 2, 3][self.rng.below(5)] {
                    match self.rng.below(8) {
                        0..3 => args.push(self.option(&["REPLACE"])),
                        3..7 => args.extend([self.option(&["DB"]), self.database()]),
                        _ => args.push(self.option(&["DB", "REPLACE\0x", "FOO", "", "REPLACED"])),
                    }
                }
                args
            }
            7 | 8 => vec![word("MOVE"), key, self.database()],
            9 if self.rng.one_in(2) => vec![word("SWAPDB"), self.database(), self.database()],
            9 | 10 => self.with_keys("TOUCH"),
            11..15 => {
                let names =
                    ["ENCODING", "ENCODING", "REFCOUNT", "IDLETIME", "FREQ", "FREQ", "FREQ"];
                vec![word("OBJECT"), self.option(&names), key]
            }
            _ => match self.rng.below(6) {
                0 => vec![word("OBJECT"), self.option(&["HELP"])],
                1 => {
                    vec![word("OBJECT"), self.option(&["HELP", "ENCODING", "FOO", ""]), key, other]
                }
                2 => vec![word("OBJECT"), self.option(&["FREQ", "REFCOUNT", "FOO"])],
                3 => vec![word("OBJECT")],
                _ => {
                    let names = ["RENAME", "RENAMENX", "COPY", "MOVE", "SWAPDB", "TOUCH"];
                    if self.rng.one_in(3) {
                        // Onto itself, which each of them has its own mind about.
                        let name = ["RENAME", "RENAMENX", "COPY"][self.rng.below(3)];
                        return vec![word(name), key.clone(), key];
                    }
                    let mut args = vec![word(self.rng.pick(&names))];
                    for _ in 0..self.rng.below(5) {
                        args.push(self.option(&["k1", "", "two\0", "1"]));
                    }
                    args
                }
            },
        }
    }

    fn database(&mut self) -> Vec<u8> {
        word(self.rng.pick(DATABASES))
    }
}

/// The same steps, each OBJECT REFCOUNT made an OBJECT FREQ, and no limit of memory changed: under
/// another policy nothing is counted, and without a limit the reference has one counter for all
/// keys with the same small integer.
pub fn with_frequencies(mut steps: Vec<Step>) -> Vec<Step> {
    let change = |args: &mut Command| {
        if let [name, what, ..] = &mut args[..]
            && name.eq_ignore_ascii_case(b"OBJECT")
            && what.eq_ignore_ascii_case(b"REFCOUNT")
        {
            *what = word("FREQ");
        }
        if let [name, what, parameter, ..] = &mut args[..]
            && name.eq_ignore_ascii_case(b"CONFIG")
            && what.eq_ignore_ascii_case(b"SET")
            && parameter.starts_with(b"maxmemory")
        {
            *what = word("GET");
        }
    };
    for step in &mut steps {
        match step {
            Step::Command { args, .. } => change(args),
            Step::Pipeline { commands, .. } => commands.iter_mut().for_each(change),
            _ => {}
        }
    }
    steps
}
