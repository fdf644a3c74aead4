//! Deadlines: set, tell, clear.

use super::options::{self, TimeForm};
use crate::engine::command::{Arity, CommandSpec, Flags, KeySpec};
use crate::engine::cx::{Cx, Origin};
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;
use crate::sys::clock::UnixMs;
use Arity::{AtLeast, Exactly};

const READ: Flags = Flags::READONLY.and(Flags::FAST).and(Flags::C_KEYSPACE);
const WRITE: Flags = Flags::WRITE.and(Flags::FAST).and(Flags::C_KEYSPACE);
const READ_KEYS: &[KeySpec] = &[KeySpec::first(&["RO", "access"])];
const WRITE_KEYS: &[KeySpec] = &[KeySpec::first(&["RW", "update"])];

/// This family's rows.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "expire",
        arity: AtLeast(3),
        flags: WRITE,
        keys: WRITE_KEYS,
        run: expire,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "pexpire",
        arity: AtLeast(3),
        flags: WRITE,
        keys: WRITE_KEYS,
        run: pexpire,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "expireat",
        arity: AtLeast(3),
        flags: WRITE,
        keys: WRITE_KEYS,
        run: expireat,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "pexpireat",
        arity: AtLeast(3),
        flags: WRITE,
        keys: WRITE_KEYS,
        run: pexpireat,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "ttl",
        arity: Exactly(2),
        flags: READ,
        keys: READ_KEYS,
        tips: &["nondeterministic_output"],
        run: ttl,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "pttl",
        arity: Exactly(2),
        flags: READ,
        keys: READ_KEYS,
        tips: &["nondeterministic_output"],
        run: pttl,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "expiretime",
        arity: Exactly(2),
        flags: READ,
        keys: READ_KEYS,
        run: expiretime,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "pexpiretime",
        arity: Exactly(2),
        flags: READ,
        keys: READ_KEYS,
        run: pexpiretime,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "persist",
        arity: Exactly(2),
        flags: WRITE,
        keys: WRITE_KEYS,
        run: persist,
        ..CommandSpec::ROW
    },
];

const NX_AND_OTHERS: CommandError =
    CommandError::new("ERR NX and XX, GT or LT options at the same time are not compatible");
const GT_AND_LT: CommandError =
    CommandError::new("ERR GT and LT options at the same time are not compatible");

/// When EXPIRE and its kin set the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    /// NX: only where there is none. Excludes the others.
    IfNone,
    /// XX, GT, LT, as far as they go together.
    If {
        /// XX: only where there is one.
        some: bool,
        /// GT and LT: only where this is how the new one compares with the old.
        order: Option<Order>,
    },
}

/// How the new deadline must compare with the old; no deadline is later than any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Later,
    Earlier,
}

impl Condition {
    fn parse<'a>(args: impl Iterator<Item = &'a [u8]>) -> Result<Condition, CommandError> {
        let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
        for option in args {
            let known = [("NX", &mut nx), ("XX", &mut xx), ("GT", &mut gt), ("LT", &mut lt)];
            match known.into_iter().find(|(word, _)| options::is(option, word)) {
                Some((_, given)) => *given = true,
                None => {
                    let mut text = b"ERR Unsupported option ".to_vec();
                    text.extend_from_slice(options::c_text(option));
                    return Err(CommandError::owned(text));
                }
            }
        }
        match (nx, xx, gt, lt) {
            (true, false, false, false) => Ok(Condition::IfNone),
            (true, ..) => Err(NX_AND_OTHERS),
            (_, _, true, true) => Err(GT_AND_LT),
            (_, some, true, _) => Ok(Condition::If { some, order: Some(Order::Later) }),
            (_, some, _, true) => Ok(Condition::If { some, order: Some(Order::Earlier) }),
            (_, some, false, false) => Ok(Condition::If { some, order: None }),
        }
    }

    fn admits(self, old: Option<UnixMs>, new: UnixMs) -> bool {
        match self {
            Condition::IfNone => old.is_none(),
            Condition::If { some, order } => {
                (old.is_some() || !some)
                    && match order {
                        None => true,
                        Some(Order::Later) => old.is_some_and(|old| new > old),
                        Some(Order::Earlier) => old.is_none_or(|old| new < old),
                    }
            }
        }
    }
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`
fn expire(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    expire_at(cx, args, TimeForm::SECONDS_FROM_NOW, "expire")
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
fn pexpire(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    expire_at(cx, args, TimeForm::MS_FROM_NOW, "pexpire")
}

/// `EXPIREAT key unix-seconds [NX | XX | GT | LT]`
fn expireat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    expire_at(cx, args, TimeForm::UNIX_SECONDS, "expireat")
}

/// `PEXPIREAT key unix-milliseconds [NX | XX | GT | LT]`
fn pexpireat(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    expire_at(cx, args, TimeForm::UNIX_MS, "pexpireat")
}

fn expire_at(cx: &mut Cx<'_>, args: &mut Args<'_>, form: TimeForm, command: &str) -> CommandResult {
    let condition = Condition::parse(args.from(3))?;
    let count = options::integer(&args[2])?;
    // A moment before 1970 is as good as any other in the past.
    let deadline =
        form.moment(count, cx.now).ok_or_else(|| options::invalid_expire_time(command))?;
    let key = &args[1];
    let is_set = match cx.peek(key) {
        Some(entry) => condition.admits(entry.deadline(), deadline),
        None => false,
    };
    if is_set {
        set_deadline(cx, key, deadline);
    }
    cx.reply.integer(i64::from(is_set));
    Ok(())
}

/// Sets the deadline of a key that exists, or deletes the key if the deadline has come already,
/// and logs which of the two. A replay only ever sets: whether a key has expired since, is decided
/// once all is loaded.
pub(super) fn set_deadline(cx: &mut Cx<'_>, key: &[u8], deadline: UnixMs) {
    if deadline <= cx.now && cx.origin != Origin::Replay {
        cx.propagate_as(&[b"DEL", key]);
        cx.db().remove(key);
    } else {
        let mut digits = itoa::Buffer::new();
        cx.propagate_as(&[b"PEXPIREAT", key, digits.format(deadline.0).as_bytes()]);
        cx.db().set_deadline(key, Some(deadline));
    }
    cx.changed(key);
}

/// `PERSIST key`
fn persist(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let key = &args[1];
    let is_volatile = cx.peek(key).is_some_and(|entry| entry.deadline().is_some());
    if is_volatile {
        cx.db().set_deadline(key, None);
        cx.changed(key);
    }
    cx.reply.integer(i64::from(is_volatile));
    Ok(())
}

/// `TTL key`
fn ttl(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    reply_deadline(cx, &args[1], TimeForm::SECONDS_FROM_NOW)
}

/// `PTTL key`
fn pttl(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    reply_deadline(cx, &args[1], TimeForm::MS_FROM_NOW)
}

/// `EXPIRETIME key`
fn expiretime(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    reply_deadline(cx, &args[1], TimeForm::UNIX_SECONDS)
}

/// `PEXPIRETIME key`
fn pexpiretime(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    reply_deadline(cx, &args[1], TimeForm::UNIX_MS)
}

/// Replies with the deadline in `form`, rounded to its unit; -1 if there is none, -2 if there is no
/// such key.
fn reply_deadline(cx: &mut Cx<'_>, key: &[u8], form: TimeForm) -> CommandResult {
    let start = if form.relative { cx.now.0 } else { 0 };
    let shown = match cx.read(key).map(|entry| entry.deadline()) {
        None => -2,
        Some(None) => -1,
        Some(Some(deadline)) => {
            let ms = deadline.0.saturating_sub(start).max(0);
            // Half a unit more would not fit behind the last moments there are.
            let unit_ms = form.unit_ms;
            ms / unit_ms + i64::from(ms % unit_ms * 2 >= unit_ms)
        }
    };
    cx.reply.integer(shown);
    Ok(())
}
