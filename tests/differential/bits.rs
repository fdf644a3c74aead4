//! Commands on parts of strings: ranges, bits, bit fields, longest common subsequences.

use super::{Command, Generator, word};

/// The commands of this file, all of which take a key first but BITOP.
pub const NAMES: &[&str] = &[
    "GETRANGE",
    "SUBSTR",
    "SETRANGE",
    "LCS",
    "SETBIT",
    "GETBIT",
    "BITCOUNT",
    "BITPOS",
    "BITOP",
    "BITFIELD",
    "BITFIELD_RO",
];

impl Generator {
    /// One of [`NAMES`], with arguments that are mostly right.
    pub(super) fn bit_command(&mut self) -> Command {
        let name = self.rng.pick(NAMES);
        if self.rng.one_in(30) {
            return self.too_few_or_many(name);
        }
        let mut args = vec![word(name)];
        if name != "BITOP" {
            args.push(self.key());
        }
        match name {
            "GETRANGE" | "SUBSTR" => args.extend([self.index(), self.index()]),
            "SETRANGE" => args.extend([self.write_offset(1), self.value()]),
            "LCS" => self.lcs(&mut args),
            "SETBIT" => args.extend([self.write_offset(8), self.bit()]),
            "GETBIT" => args.push(self.bit_to_read()),
            "BITCOUNT" => self.bit_range(&mut args),
            "BITPOS" => {
                args.push(self.bit());
                self.bit_range(&mut args);
            }
            "BITOP" => self.bitop(&mut args),
            _ => self.fields(&mut args, name == "BITFIELD_RO"),
        }
        args
    }

    fn too_few_or_many(&mut self, name: &str) -> Command {
        let mut args = vec![word(name)];
        for _ in 0..self.rng.below(8) {
            let arg = if self.rng.one_in(2) { self.key() } else { self.index() };
            args.push(arg);
        }
        args
    }

    /// A place in a string, from either end, often beyond it.
    fn index(&mut self) -> Vec<u8> {
        match self.rng.below(10) {
            0 => self.number(),
            1 => self.rng.between(-2_000, 2_000).to_string().into_bytes(),
            _ => self.rng.between(-12, 12).to_string().into_bytes(),
        }
    }

    /// Where to write, in units of which a byte has `per_byte`. Either near, or beyond what both
    /// servers allow whatever `proto-max-bulk-len` a sequence has set: what lies between would
    /// make strings too long to be compared quickly.
    fn write_offset(&mut self, per_byte: i64) -> Vec<u8> {
        const FORBIDDEN: &[&str] = &[
            "5033164800",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "-1",
            "#1",
            "abc",
            "",
            "1.0",
            "+1",
            " 1",
            "01",
            "-0",
        ];
        match self.rng.below(16) {
            0 => word(self.rng.pick(FORBIDDEN)),
            1 => self.rng.between(0, 2_000 * per_byte).to_string().into_bytes(),
            2 if self.rng.one_in(4) => {
                self.rng.between(0, 100_000 * per_byte).to_string().into_bytes()
            }
            _ => self.rng.between(0, 12 * per_byte).to_string().into_bytes(),
        }
    }

    fn bit_to_read(&mut self) -> Vec<u8> {
        match self.rng.below(6) {
            0 => self.number(),
            1 => self.write_offset(8),
            _ => self.rng.between(0, 70).to_string().into_bytes(),
        }
    }

    fn bit(&mut self) -> Vec<u8> {
        if self.rng.one_in(12) {
            return self.option(&["2", "-1", "x", "", "01", "1.0", "4294967296", "+1"]);
        }
        word(["0", "1"][self.rng.below(2)])
    }

    /// The range of BITCOUNT and BITPOS, and its unit.
    fn bit_range(&mut self, args: &mut Command) {
        for _ in 0..[0, 1, 2, 2, 2, 2][self.rng.below(6)] {
            args.push(self.index());
        }
        if self.rng.one_in(2) {
            args.push(self.option(&["BIT", "BIT", "BYTE", "BITS", "", "BYTE\0S", "1"]));
        }
        if self.rng.one_in(20) {
            args.push(self.index());
        }
    }

    fn bitop(&mut self, args: &mut Command) {
        args.push(
            self.option(&["AND", "OR", "XOR", "NOT", "AND", "OR", "XOR", "NAND", "", "OR\0"]),
        );
        let most = if args[1].eq_ignore_ascii_case(b"NOT") && !self.rng.one_in(6) { 1 } else { 4 };
        args.push(self.key());
        for _ in 0..=self.rng.below(most) {
            args.push(self.key());
        }
    }

    fn lcs(&mut self, args: &mut Command) {
        args.push(self.key());
        for _ in 0..[0, 1, 1, 2, 2, 3, 4][self.rng.below(7)] {
            match self.rng.below(8) {
                0..3 => args.push(self.option(&["IDX", "WITHMATCHLEN", "IDX"])),
                3 => args.push(self.option(&["LEN"])),
                4 | 5 => {
                    let min = self.rng.between(-1, 4).to_string().into_bytes();
                    args.extend([self.option(&["MINMATCHLEN"]), min]);
                }
                6 => args.extend([self.option(&["MINMATCHLEN"]), self.number()]),
                _ => args.push(self.option(&["MINMATCHLEN", "FOO", "", "IDX\0", "LENGTH"])),
            }
        }
    }

    /// The steps of BITFIELD.
    fn fields(&mut self, args: &mut Command, reads_only: bool) {
        for _ in 0..self.rng.below(6) {
            let kinds = if reads_only && !self.rng.one_in(10) { 3 } else { 10 };
            match self.rng.below(kinds) {
                0 | 1 => {
                    args.extend([self.option(&["GET"]), self.field_type(), self.field_offset()]);
                }
                2 => {
                    let how = ["WRAP", "SAT", "FAIL", "SAT", "FAIL", "FOO", "SAT\0"];
                    args.extend([self.option(&["OVERFLOW"]), self.option(&how)]);
                }
                3..6 => {
                    args.extend([self.option(&["SET"]), self.field_type(), self.field_offset()]);
                    args.push(self.field_value());
                }
                _ => {
                    args.extend([self.option(&["INCRBY"]), self.field_type(), self.field_offset()]);
                    args.push(self.field_value());
                }
            }
        }
        if self.rng.one_in(12) {
            args.push(self.option(&["GET", "SET", "INCRBY", "OVERFLOW", "FOO", ""]));
        }
        if self.rng.one_in(24) {
            args.pop();
        }
        if args.iter().any(|word| word.eq_ignore_ascii_case(b"FAIL")) {
            // Where every field fails and the string grows all the same, those who watch the key
            // are told so here, and are not by the reference. So one field is always written.
            let bit = ["0", "1"][self.rng.below(2)];
            args.extend([word("SET"), word("u1"), word("0"), word(bit)]);
        }
    }

    fn field_type(&mut self) -> Vec<u8> {
        const KINDS: &[&str] =
            &["u1", "u2", "u4", "u8", "u8", "i8", "i8", "i5", "u16", "i33", "u63", "i64", "i63"];
        const WRONG: &[&str] =
            &["u64", "i65", "u0", "i0", "i-1", "8", "", "u", "U8", "u08", "u8 ", "x8", "u8\0z"];
        match self.rng.below(24) {
            0 => word(self.rng.pick(WRONG)),
            1..6 => {
                let kind = ["i", "u"][self.rng.below(2)];
                format!("{kind}{}", self.rng.between(1, 63)).into_bytes()
            }
            _ => word(self.rng.pick(KINDS)),
        }
    }

    fn field_offset(&mut self) -> Vec<u8> {
        match self.rng.below(20) {
            // Times any width none of these lies between what is near and what is forbidden.
            0 => self.option(&["##1", "#", "#-1", "#x", "#9223372036854775807", "-1", "x", ""]),
            1 => self.write_offset(8),
            2..9 => format!("#{}", self.rng.between(0, 20)).into_bytes(),
            _ => self.rng.between(0, 80).to_string().into_bytes(),
        }
    }

    fn field_value(&mut self) -> Vec<u8> {
        match self.rng.below(6) {
            0 => self.number(),
            1 => (self.rng.next() as i64).to_string().into_bytes(),
            2 => self.rng.between(-70_000, 70_000).to_string().into_bytes(),
            _ => self.rng.between(-300, 300).to_string().into_bytes(),
        }
    }
}
