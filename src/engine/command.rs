//! The shape of a table row, and the table that finds it by name.

use super::cx::Cx;
use super::error::CommandResult;
use crate::resp::args::Args;

/// A command's handler. It has between the row's arity and unboundedly many arguments.
pub type Handler = fn(&mut Cx<'_>, &mut Args<'_>) -> CommandResult;

/// How many arguments a command takes, its name (and a subcommand's) included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Just so many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
}

impl Arity {
    /// Whether `count` arguments will do.
    #[must_use]
    pub fn admits(self, count: usize) -> bool {
        match self {
            Self::Exactly(n) => count == n,
            Self::AtLeast(n) => count >= n,
        }
    }

    /// As `COMMAND INFO` shows it: negative for "at least".
    #[must_use]
    pub fn as_integer(self) -> i64 {
        match self {
            Self::Exactly(n) => n as i64,
            Self::AtLeast(n) => -(n as i64),
        }
    }
}

/// What is true of a command, as bits. The upper ones are ACL categories that do not follow from
/// the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u64);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Flags { $($(#[$doc])* pub const $name: Flags = Flags(1 << $bit);)* }
    };
}

flags! {
    /// May change the keyspace.
    WRITE = 0;
    /// Reads the keyspace only.
    READONLY = 1;
    /// May need memory; refused at maxmemory.
    DENY_OOM = 2;
    /// For the operator.
    ADMIN = 3;
    /// Publishes or subscribes.
    PUBSUB = 4;
    /// Not from scripts.
    NO_SCRIPT = 5;
    /// May block its client.
    BLOCKING = 6;
    /// Served while the log is being loaded.
    LOADING = 7;
    /// Served by a stale replica.
    STALE = 8;
    /// Not shown by MONITOR and the slow log.
    SKIP_MONITOR = 9;
    /// Not in the slow log.
    SKIP_SLOWLOG = 10;
    /// Served before authentication.
    NO_AUTH = 11;
    /// Takes constant or logarithmic time.
    FAST = 12;
    /// Never inside MULTI.
    NO_MULTI = 13;
    /// Runs at once inside MULTI instead of being queued.
    NOT_QUEUED = 14;
    /// Served in a script without keys declared.
    NO_ASYNC_LOADING = 15;
    /// Allowed while client are busy with a long script.
    ALLOW_BUSY = 16;
    /// Keys cannot be told from the table.
    MOVABLE_KEYS = 17;
    /// Reveals nothing of the keyspace: its reply waits only for replies before it.
    NO_KEYS = 18;
    /// Needs the registries' figures brought up to date first.
    FIGURES = 19;
    /// May replicate from scripts on its own.
    MAY_REPLICATE = 20;
    /// Sent on by a sentinel too.
    SENTINEL = 21;
    /// Only where `enable-debug-command` allows it.
    PROTECTED = 22;

    /// ACL category.
    C_KEYSPACE = 32;
    /// ACL category.
    C_STRING = 33;
    /// ACL category.
    C_CONNECTION = 34;
    /// ACL category.
    C_TRANSACTION = 35;
    /// ACL category.
    C_SCRIPTING = 36;
    /// ACL category.
    C_BITMAP = 37;
    /// ACL category, of commands that are not ADMIN.
    C_DANGEROUS = 38;
    /// ACL category.
    C_LIST = 39;
    /// ACL category.
    C_SET = 40;
    /// ACL category.
    C_SORTED_SET = 41;
    /// ACL category.
    C_HASH = 42;
    /// ACL category.
    C_STREAM = 43;
    /// ACL category.
    C_HYPERLOGLOG = 44;
    /// ACL category.
    C_GEO = 45;
    /// ACL category, of commands that are not ADMIN.
    C_ADMIN = 46;
}

impl Flags {
    /// None.
    pub const NONE: Flags = Flags(0);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Where a command's keys stand among its arguments, as `COMMAND INFO` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// What is done to the keys: `RW`, `access`, `update`, ... in Redis's order.
    pub flags: &'static [&'static str],
    /// Remark, or "".
    pub notes: &'static str,
    /// Index of the first key.
    pub first: usize,
    /// Index of the last key counted from the first, or from the end if negative (-1: the last
    /// argument).
    pub last: i64,
    /// Distance from key to key.
    pub step: usize,
}

impl KeySpec {
    /// The first argument alone is a key.
    #[must_use]
    pub const fn first(flags: &'static [&'static str]) -> KeySpec {
        KeySpec { flags, notes: "", first: 1, last: 0, step: 1 }
    }

    /// From the first argument on to the last, each `step`th is a key.
    #[must_use]
    pub const fn each(step: usize, flags: &'static [&'static str]) -> KeySpec {
        KeySpec { flags, notes: "", first: 1, last: -1, step }
    }

    /// The same with a remark.
    #[must_use]
    pub const fn noted(self, notes: &'static str) -> KeySpec {
        KeySpec { notes, ..self }
    }
}

/// What a command is for and takes, as `COMMAND DOCS` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doc {
    /// What it is about: `string`, `connection`, ...
    pub group: &'static str,
    /// The version of Redis that had it first.
    pub since: &'static str,
    /// How its cost grows; empty if that says nothing.
    pub complexity: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// Its arguments in the notation that `commands/docs.rs` explains.
    pub arguments: &'static str,
    /// What versions of Redis have changed: the version, and the change in one sentence.
    pub history: &'static [(&'static str, &'static str)],
    /// Since when it should not be used any more, and what to use.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// Not for applications.
    pub is_system: bool,
}

impl Doc {
    /// Of a command without arguments that is fit for use.
    #[must_use]
    pub const fn new(
        group: &'static str,
        since: &'static str,
        complexity: &'static str,
        summary: &'static str,
    ) -> Doc {
        Doc {
            group,
            since,
            complexity,
            summary,
            arguments: "",
            history: &[],
            deprecated: None,
            is_system: false,
        }
    }

    /// The same with arguments.
    #[must_use]
    pub const fn takes(self, arguments: &'static str) -> Doc {
        Doc { arguments, ..self }
    }

    /// The same with what versions have changed, the oldest first.
    #[must_use]
    pub const fn changed(self, history: &'static [(&'static str, &'static str)]) -> Doc {
        Doc { history, ..self }
    }

    /// The same, but not to be used any more `since` a version.
    #[must_use]
    pub const fn deprecated(self, since: &'static str, replaced_by: &'static str) -> Doc {
        Doc { deprecated: Some((since, replaced_by)), ..self }
    }

    /// The same, but not for applications.
    #[must_use]
    pub const fn system(self) -> Doc {
        Doc { is_system: true, ..self }
    }
}

/// A row of the command table.
#[derive(Debug)]
pub struct CommandSpec {
    /// Lower case.
    pub name: &'static str,
    /// What it is for.
    pub doc: Doc,
    /// Arguments, name included.
    pub arity: Arity,
    /// What is true of it.
    pub flags: Flags,
    /// Where its keys stand.
    pub keys: &'static [KeySpec],
    /// Command tips, as Redis documents them.
    pub tips: &'static [&'static str],
    /// Rows of its subcommands; a container has some and is not run itself unless it is called
    /// without one.
    pub subcommands: &'static [CommandSpec],
    /// What it does.
    pub run: Handler,
}

impl CommandSpec {
    /// What a row is made from by `..CommandSpec::ROW`.
    pub const ROW: CommandSpec = CommandSpec {
        name: "",
        doc: Doc::new("", "", "", ""),
        arity: Arity::AtLeast(1),
        flags: Flags::NONE,
        keys: &[],
        tips: &[],
        subcommands: &[],
        run: |_, _| Ok(()),
    };
}

/// A command found in the table.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its row.
    pub spec: &'static CommandSpec,
    /// The container's row, for a subcommand.
    pub container: Option<&'static CommandSpec>,
    /// Its place among all commands and subcommands of its table: where its statistics are kept.
    pub index: u16,
}

impl Command {
    /// `get`, or `client|list`.
    #[must_use]
    pub fn full_name(&self) -> String {
        match self.container {
            Some(container) => format!("{}|{}", container.name, self.spec.name),
            None => self.spec.name.to_owned(),
        }
    }

    /// A container's `n`th subcommand. Its statistics stand right behind the container's.
    fn subcommand(&self, n: usize) -> Option<Command> {
        let spec = self.spec.subcommands.get(n)?;
        Some(Command { spec, container: Some(self.spec), index: self.index + 1 + n as u16 })
    }

    /// A container's subcommands, in table order.
    pub fn subcommands(self) -> impl Iterator<Item = Command> {
        (0..self.spec.subcommands.len()).filter_map(move |n| self.subcommand(n))
    }

    /// A container's subcommand of this name, in any case.
    #[inline]
    #[must_use]
    pub fn find_subcommand(&self, name: &[u8]) -> Option<Command> {
        let mut rows = self.spec.subcommands.iter();
        let n = rows.position(|row| row.name.as_bytes().eq_ignore_ascii_case(name))?;
        self.subcommand(n)
    }
}

/// A place in the table of names.
#[derive(Clone, Copy)]
struct Slot {
    /// Of the command's name.
    head: NameHead,
    command: Command,
}

/// The length and the first eight bytes of a name in lower case: all of most names. Two short names
/// with the same head are the same name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct NameHead {
    len: usize,
    word: u64,
}

impl NameHead {
    /// What a head tells of a name.
    const BYTES: usize = size_of::<u64>();

    #[inline]
    fn of(name: &[u8]) -> NameHead {
        NameHead { len: name.len(), word: lower_case(first_bytes(name)) }
    }

    #[inline]
    fn hash(self) -> usize {
        const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
        ((self.word ^ self.len as u64).wrapping_mul(MIX) >> 32) as usize
    }
}

/// Up to eight bytes of a name, zeros behind them.
#[inline]
fn first_bytes(name: &[u8]) -> u64 {
    if let Some(word) = name.first_chunk::<8>() {
        return u64::from_le_bytes(*word);
    }
    if let (Some(low), Some(high)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        // They overlap where there are fewer than eight, and agree there.
        let high = u64::from(u32::from_le_bytes(*high)) << (8 * (name.len() - 4));
        return u64::from(u32::from_le_bytes(*low)) | high;
    }
    let (Some(first), Some(last)) = (name.first(), name.last()) else { return 0 };
    // One, two or three: the byte in the middle is the first, the last, or neither.
    let middle = name.len() / 2;
    u64::from(*first)
        | u64::from(name[middle]) << (8 * middle)
        | u64::from(*last) << (8 * (name.len() - 1))
}

/// Each byte of a word in lower case if it is an ASCII capital, else as it is.
#[inline]
fn lower_case(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = EACH << 7;
    let low = word & !HIGH;
    // The high bit of a byte says whether it is at least `A`, and beyond `Z`.
    let from_a = low + EACH * u64::from(0x80 - b'A');
    let beyond_z = low + EACH * u64::from(0x7f - b'Z');
    let capitals = from_a & !beyond_z & !word & HIGH;
    word | capitals >> 2
}

/// All commands, found by name in any case without allocating.
pub struct CommandTable {
    /// Open addressing with linear probing; the length is a power of two.
    slots: Vec<Option<Slot>>,
    rows: Vec<&'static CommandSpec>,
    /// Each at the place that its index tells.
    commands: Vec<Command>,
}

impl CommandTable {
    /// The table of all families' rows.
    #[must_use]
    pub fn new(families: &[&'static [CommandSpec]]) -> CommandTable {
        let rows: Vec<&CommandSpec> = families.iter().flat_map(|family| family.iter()).collect();
        let mut slots = vec![None; (rows.len() * 4).next_power_of_two()];
        let mut commands = Vec::new();
        let mask = slots.len() - 1;
        for row in &rows {
            let head = NameHead::of(row.name.as_bytes());
            let mut at = head.hash() & mask;
            while slots[at].is_some() {
                at = (at + 1) & mask;
            }
            let index = commands.len() as u16;
            let command = Command { spec: row, container: None, index };
            slots[at] = Some(Slot { head, command });
            commands.push(command);
            commands.extend(command.subcommands());
        }
        debug_assert!(u16::try_from(commands.len()).is_ok());
        CommandTable { slots, rows, commands }
    }

    /// All commands, each container ahead of its subcommands. Each stands at its index.
    #[must_use]
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// The commands that are no subcommands, in table order.
    pub fn top_level(&self) -> impl Iterator<Item = Command> {
        self.commands.iter().copied().filter(|command| command.container.is_none())
    }

    /// All rows, in table order.
    #[must_use]
    pub fn rows(&self) -> &[&'static CommandSpec] {
        &self.rows
    }

    /// The row of `name`. A few nanoseconds.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&'static CommandSpec> {
        self.find_command(name).map(|command| command.spec)
    }

    /// The command of `name`, which names no subcommand. A few nanoseconds.
    #[inline]
    #[must_use]
    pub fn find_command(&self, name: &[u8]) -> Option<&Command> {
        let mask = self.slots.len() - 1;
        let head = NameHead::of(name);
        let mut at = head.hash() & mask;
        while let Some(slot) = &self.slots[at] {
            let command = &slot.command;
            if slot.head == head
                && (name.len() <= NameHead::BYTES
                    || command.spec.name.as_bytes().eq_ignore_ascii_case(name))
            {
                return Some(command);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// The command of a full name: `get`, `client|list`.
    #[must_use]
    pub fn find_full(&self, name: &[u8]) -> Option<Command> {
        match memchr::memchr(b'|', name) {
            None => self.find_command(name).copied(),
            Some(bar) => self.find_command(&name[..bar])?.find_subcommand(&name[bar + 1..]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SUBCOMMANDS: [CommandSpec; 2] = [
        CommandSpec { name: "list", ..CommandSpec::ROW },
        CommandSpec { name: "id", ..CommandSpec::ROW },
    ];
    static ROWS: [CommandSpec; 4] = [
        CommandSpec { name: "get", ..CommandSpec::ROW },
        CommandSpec { name: "client", subcommands: &SUBCOMMANDS, ..CommandSpec::ROW },
        CommandSpec { name: "set", ..CommandSpec::ROW },
        CommandSpec { name: "incrbyfloat", ..CommandSpec::ROW },
    ];

    #[test]
    fn names_are_found_in_any_case_and_nothing_else_is() {
        let table = CommandTable::new(&[&ROWS]);
        for name in ["get", "GET", "gEt", "SET", "IncrByFloat"] {
            let found = table.find(name.as_bytes()).map(|row| row.name);
            assert_eq!(found, Some(name.to_ascii_lowercase().as_str()));
        }
        for name in ["", "ge", "gett", "incrbyfloa", "incrbyfloatx", "g\x00t", "\x07et"] {
            assert!(table.find(name.as_bytes()).is_none(), "{name:?}");
        }
    }

    #[test]
    fn letters_alone_are_folded() {
        for byte in 0..=u8::MAX {
            let name = [byte; 8];
            for len in 0..=name.len() {
                let mut expected = [0; 8];
                expected[..len].copy_from_slice(&name[..len].to_ascii_lowercase());
                let head = NameHead::of(&name[..len]);
                assert_eq!((head.len, head.word.to_le_bytes()), (len, expected), "{byte}");
            }
        }
        assert_eq!(first_bytes(b"aBcDeFg").to_le_bytes(), *b"aBcDeFg\0");
        assert_eq!(first_bytes(b"aBcDeFgHi").to_le_bytes(), *b"aBcDeFgH");
        assert_eq!(first_bytes(b"aBc").to_le_bytes(), *b"aBc\0\0\0\0\0");
    }

    #[test]
    fn each_command_stands_at_its_index() {
        let table = CommandTable::new(&[&ROWS]);
        let names: Vec<String> = table.commands().iter().map(Command::full_name).collect();
        assert_eq!(names, ["get", "client", "client|list", "client|id", "set", "incrbyfloat"]);
        for (at, name) in names.iter().enumerate() {
            let found = table.find_full(name.to_uppercase().as_bytes());
            assert_eq!(found.map(|command| usize::from(command.index)), Some(at), "{name}");
        }
        for name in ["client|", "|list", "client|list|x", "get|list", "list"] {
            assert!(table.find_full(name.as_bytes()).is_none(), "{name}");
        }
    }
}
