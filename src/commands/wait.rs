//! WAITAOF and WAIT: waiting until one's writes are on disk, or with replicas.

use super::options;
use crate::engine::command::Arity::Exactly;
use crate::engine::command::{CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::effects::{Action, WaitDurable};
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;
use crate::text::number::parse_i64;

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[WAITAOF, WAIT];

const WAITAOF: CommandSpec = CommandSpec {
    name: "waitaof",
    doc: Doc::new("generic", "7.2.0", "O(1)", "Waits until the writes of this client are on disk.")
        .takes("numlocal:int numreplicas:int timeout:int"),
    arity: Exactly(4),
    flags: Flags::NO_SCRIPT
        .and(Flags::BLOCKING)
        .and(Flags::C_CONNECTION)
        .and(Flags::NO_KEYS)
        .and(Flags::FIGURES),
    tips: &["request_policy:all_shards", "response_policy:agg_min"],
    run: waitaof,
    ..CommandSpec::ROW
};

const WAIT: CommandSpec = CommandSpec {
    name: "wait",
    doc: Doc::new(
        "generic",
        "3.0.0",
        "O(1)",
        "Waits until replicas have the writes of this client.",
    )
    .takes("numreplicas:int timeout:int"),
    arity: Exactly(3),
    flags: Flags::NO_SCRIPT.and(Flags::C_CONNECTION).and(Flags::NO_KEYS),
    tips: &["request_policy:all_shards", "response_policy:agg_min"],
    run: wait,
    ..CommandSpec::ROW
};

const NOT_A_COUNT: CommandError =
    CommandError::new("ERR value is out of range, value must between 0 and 1");
const NEGATIVE_COUNT: CommandError =
    CommandError::new("ERR value is out of range, must be positive");
const LONG_TIMEOUT: CommandError = CommandError::new("ERR timeout is out of range");
/// Also what a client is told that waits while the log is switched off.
pub const LOG_IS_OFF: CommandError = CommandError::new(
    "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
);

/// `WAITAOF numlocal numreplicas timeout`: waits until the caller's writes are durable here (if
/// `numlocal` is 1) and on so many replicas (there are none), or for so many milliseconds (0 is
/// for ever); replies with both counts as they are then.
fn waitaof(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let local = match options::integer(&args[1])? {
        local @ (0 | 1) => local == 1,
        _ => return Err(NOT_A_COUNT),
    };
    let replicas = parse_i64(&args[2]).filter(|count| *count >= 0).ok_or(NEGATIVE_COUNT)?;
    let timeout_ms = options::timeout_ms(&args[3])?;
    // Redis keeps the end as a moment of the wall clock.
    if timeout_ms > i64::MAX.abs_diff(cx.now.0) {
        return Err(LONG_TIMEOUT);
    }
    let log = &cx.registries.figures.log;
    if local && !log.enabled {
        return Err(LOG_IS_OFF);
    }
    // What the transaction it stands in has written is not even in the log yet. Keys evicted ahead of
    // it are no writes of its client.
    let is_written = cx.effects.record_count() == cx.effects.single_count();
    let is_durable = log.in_force && is_written && log.durable >= cx.session.last_write;
    if ((is_durable || !local) && replicas == 0) || cx.session.in_exec {
        cx.reply.array(2);
        cx.reply.integer(i64::from(is_durable));
        cx.reply.integer(0);
        return Ok(());
    }
    let offset = cx.session.last_write;
    cx.act(Action::WaitDurable(WaitDurable { offset, local, replicas: replicas > 0, timeout_ms }));
    Ok(())
}

/// `WAIT numreplicas timeout`: waits until so many replicas have the caller's writes, of which there
/// are none, or for so many milliseconds (0 is for ever); replies with how many have.
fn wait(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let replicas = options::integer(&args[1])?;
    let timeout_ms = options::timeout_ms(&args[2])?;
    if replicas <= 0 || cx.session.in_exec {
        cx.reply.integer(0);
    } else {
        cx.act(Action::WaitReplicas(timeout_ms));
    }
    Ok(())
}
