//! From arguments to an executed command: the checks, in Redis's order, then the handler, then
//! what is to be logged.

use super::command::{Command, CommandSpec, CommandTable, Flags};
use super::cx::{Cx, Origin, configure_recency};
use super::effects::Action;
use super::error::CommandError;
use super::eviction::{self, Room};
use super::registries::EndedCall;
use super::session::{Queued, Transaction};
use super::slowlog::{self, SlowCommand};
use crate::config::{DebugCommand, parameters};
use crate::resp::args::Args;
use crate::resp::encode;
use crate::text::words;

const NO_AUTH: CommandError = CommandError::new("NOAUTH Authentication required.");
/// The log is being replayed.
pub const LOADING: CommandError =
    CommandError::new("LOADING Redis is loading the dataset in memory");
const DEBUG_NOT_ALLOWED: CommandError = CommandError::new(
    "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can \
     run it from a local connection, otherwise you need to set this option in the configuration \
     file, and then restart the server.",
);
const MODULE_NOT_ALLOWED: CommandError = CommandError::new(
    "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", you \
     can run it from a local connection, otherwise you need to set this option in the configuration \
     file, and then restart the server.",
);
const MONITOR_ONLY: CommandError =
    CommandError::new("ERR Replica can't interact with the keyspace");
const OUT_OF_MEMORY: CommandError =
    CommandError::new("OOM command not allowed when used memory > 'maxmemory'.");
const NOT_IN_TRANSACTION: CommandError =
    CommandError::new("ERR Command not allowed inside a transaction");

/// Finds the row, the subcommand's where there is one, and checks the number of arguments.
///
/// # Errors
/// As Redis words them, for an unknown name and for a wrong number.
#[inline]
pub fn resolve(table: &CommandTable, args: &Args<'_>) -> Result<Command, CommandError> {
    recognise(table, args).ok_or_else(|| not_recognised(table, args))
}

/// As [`resolve`], for those to whom it does not matter what is wrong: makes no text of it.
#[inline]
#[must_use]
pub fn recognise(table: &CommandTable, args: &Args<'_>) -> Option<Command> {
    let command = table.find_command(args.get(0)?)?;
    if !command.spec.subcommands.is_empty() {
        let command = find(table, args).ok()?;
        return command.spec.arity.admits(args.len()).then_some(command);
    }
    command.spec.arity.admits(args.len()).then_some(*command)
}

/// Why [`recognise`] finds nothing.
#[cold]
fn not_recognised(table: &CommandTable, args: &Args<'_>) -> CommandError {
    match find(table, args) {
        Ok(command) => {
            let name = command.full_name();
            CommandError::owned(format!("ERR wrong number of arguments for '{name}' command"))
        }
        Err(e) => e,
    }
}

/// Finds the row, the subcommand's where there is one.
///
/// # Errors
/// As Redis words them, for an unknown name.
pub fn find(table: &CommandTable, args: &Args<'_>) -> Result<Command, CommandError> {
    let Some(command) = table.find_command(args.get(0).unwrap_or(b"")) else {
        return Err(unknown_command(args));
    };
    if command.spec.subcommands.is_empty() || args.len() == 1 {
        return Ok(*command);
    }
    let sub = &args[1];
    command.find_subcommand(sub).ok_or_else(|| unknown_subcommand(command.spec, sub))
}

/// Whether a request that is no command is the head of an HTTP one.
#[must_use]
pub fn is_http(args: &Args<'_>) -> bool {
    let name = args.get(0).unwrap_or(b"");
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// What has become of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was run: its reply may tell something of the keyspace.
    Run,
    /// It was queued or refused: the reply tells nothing.
    NotRun,
    /// Nothing was done, and it has no reply: it is to be tried again when the pause is over.
    Postponed,
}

/// Runs what a client has sent and [`resolve`] has found, or queues or refuses it, and writes its
/// reply; unless it has to wait.
pub fn dispatch(
    cx: &mut Cx<'_>,
    found: Result<Command, CommandError>,
    args: &mut Args<'_>,
) -> Outcome {
    if let Ok(&command) = found.as_ref()
        && !may_be_held_up(cx, command)
    {
        call(cx, command, args);
        return Outcome::Run;
    }
    dispatch_with_care(cx, found, args)
}

/// Whether anything at all might keep the command from being run at once. Most commands pass this
/// one test in place of those below.
#[inline]
fn may_be_held_up(cx: &Cx<'_>, command: Command) -> bool {
    let (session, registries) = (&*cx.session, &*cx.registries);
    // Without short cuts: one branch instead of eight.
    !session.authenticated
        | session.in_transaction()
        | session.monitor
        | registries.loading
        | registries.pause.is_some()
        | registries.write_refusal.is_some()
        | !eviction::is_calm(registries)
        | command.spec.flags.has(Flags::PROTECTED)
}

fn dispatch_with_care(
    cx: &mut Cx<'_>,
    found: Result<Command, CommandError>,
    args: &mut Args<'_>,
) -> Outcome {
    let command = match found.and_then(|command| match refusal(cx, command) {
        None => Ok(command),
        Some(e) => Err(e),
    }) {
        Ok(command) => command,
        Err(e) => {
            reject(cx, args, &e);
            return Outcome::NotRun;
        }
    };
    if let Some(pause) = cx.registries.paused(cx.now)
        && (pause.all || may_change(cx, command))
    {
        return Outcome::Postponed;
    }
    if cx.session.in_transaction() && !command.spec.flags.has(Flags::NOT_QUEUED) {
        queue(cx, command, args);
        return Outcome::NotRun;
    }
    call(cx, command, args);
    Outcome::Run
}

/// Whether it can change the keyspace, or what replicas see; EXEC if a queued command can.
fn may_change(cx: &Cx<'_>, command: Command) -> bool {
    let changes = |flags: Flags| flags.has(Flags::WRITE) || flags.has(Flags::MAY_REPLICATE);
    let queued = || cx.session.transaction.iter().flat_map(|transaction| &transaction.queue);
    changes(command.spec.flags)
        || (is_exec(command) && queued().any(|queued| changes(queued.command.spec.flags)))
}

fn unknown_command(args: &Args<'_>) -> CommandError {
    const SHOWN: usize = 128;
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(c_prefix(args.get(0).unwrap_or(b""), SHOWN));
    text.extend_from_slice(b"', with args beginning with: ");
    let start = text.len();
    for arg in args.from(1) {
        let so_far = text.len() - start;
        if so_far >= SHOWN {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(c_prefix(arg, SHOWN - so_far));
        text.extend_from_slice(b"' ");
    }
    CommandError::owned(text)
}

fn unknown_subcommand(row: &CommandSpec, sub: &[u8]) -> CommandError {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(c_prefix(sub, 128));
    text.extend_from_slice(b"'. Try ");
    text.extend_from_slice(row.name.to_ascii_uppercase().as_bytes());
    text.extend_from_slice(b" HELP.");
    CommandError::owned(text)
}

/// What C's `%.*s` prints of `text`: it ends at a NUL.
fn c_prefix(text: &[u8], limit: usize) -> &[u8] {
    let text = &text[..text.len().min(limit)];
    &text[..memchr::memchr(0, text).unwrap_or(text.len())]
}

/// Why a command that exists may not run now.
fn refusal(cx: &mut Cx<'_>, command: Command) -> Option<CommandError> {
    let flags = command.spec.flags;
    if flags.has(Flags::PROTECTED) {
        let is_module = command.container.is_some_and(|container| container.name == "module");
        let (allowed, refusal) = if is_module {
            (module_allowed(cx), MODULE_NOT_ALLOWED)
        } else {
            (debug_allowed(cx), DEBUG_NOT_ALLOWED)
        };
        if !allowed {
            return Some(refusal);
        }
    }
    if !cx.session.authenticated && !flags.has(Flags::NO_AUTH) {
        return Some(NO_AUTH);
    }
    if cx.session.in_transaction() && flags.has(Flags::NO_MULTI) {
        return Some(NOT_IN_TRANSACTION);
    }
    let room = eviction::make_room(cx.keyspace, cx.registries, cx.effects, cx.now);
    if room == Room::None && needs_room(cx, command) {
        return Some(OUT_OF_MEMORY);
    }
    if cx.session.monitor && (flags.has(Flags::WRITE) || flags.has(Flags::READONLY)) {
        return Some(MONITOR_ONLY);
    }
    if let Some(text) = &cx.registries.write_refusal
        && (flags.has(Flags::WRITE) || (is_exec(command) && has_queued_write(cx)))
    {
        return Some(CommandError::owned(text.as_str()));
    }
    (cx.registries.loading && !flags.has(Flags::LOADING)).then_some(LOADING)
}

/// Whether a command is refused when there is no memory left: if it may need some, or a command that
/// EXEC would run; and inside a transaction anything that would be queued.
fn needs_room(cx: &Cx<'_>, command: Command) -> bool {
    /// What gives memory back, or queues nothing.
    const ENDS_OF_TRANSACTIONS: [&str; 4] = ["exec", "discard", "quit", "reset"];
    let queue = cx.session.transaction.as_ref().map_or(&[][..], |t| &t.queue);
    command.spec.flags.has(Flags::DENY_OOM)
        || (is_exec(command) && queue.iter().any(|q| q.command.spec.flags.has(Flags::DENY_OOM)))
        || (cx.session.in_transaction()
            && !(command.container.is_none() && ENDS_OF_TRANSACTIONS.contains(&command.spec.name)))
}

fn debug_allowed(cx: &Cx<'_>) -> bool {
    match cx.registries.config.enable_debug_command {
        DebugCommand::No => false,
        DebugCommand::Yes => true,
        DebugCommand::Local => cx.session.is_local,
    }
}

fn module_allowed(cx: &Cx<'_>) -> bool {
    match parameters::find(b"enable-module-command") {
        Some((_, allowed)) => match allowed.show(&cx.registries.config).as_slice() {
            b"yes" => true,
            b"local" => cx.session.is_local,
            _ => false,
        },
        None => false,
    }
}

fn is_exec(command: Command) -> bool {
    command.spec.name == "exec"
}

fn has_queued_write(cx: &Cx<'_>) -> bool {
    let queue = cx.session.transaction.as_ref().map_or(&[][..], |t| &t.queue);
    queue.iter().any(|queued| queued.command.spec.flags.has(Flags::WRITE))
}

/// Replies with `e` to a command that was not run. A transaction under way cannot succeed any
/// more; if it was EXEC, there is none any more, nor are keys watched.
fn reject(cx: &mut Cx<'_>, args: &Args<'_>, e: &CommandError) {
    cx.registries.stats.rejected_calls += 1;
    if let Ok(command) = find(&cx.registries.table, args) {
        cx.registries.calls.reject(command);
    }
    if args.get(0).is_some_and(|name| name.eq_ignore_ascii_case(b"exec")) {
        end_transaction(cx);
        let mut text = b"EXECABORT Transaction discarded because of: ".to_vec();
        text.extend_from_slice(e.text().strip_prefix(b"ERR ").unwrap_or(e.text()));
        return reply_error(cx, &CommandError::owned(text));
    }
    if let Some(transaction) = &mut cx.session.transaction {
        transaction.aborted = true;
    }
    reply_error(cx, e);
}

fn reply_error(cx: &mut Cx<'_>, e: &CommandError) {
    cx.registries.stats.count_error(e.text());
    cx.reply.error(e.text());
}

fn queue(cx: &mut Cx<'_>, command: Command, args: &Args<'_>) {
    if let Some(transaction) = &mut cx.session.transaction
        && !transaction.aborted
    {
        let args = args.to_owned();
        transaction.bytes += args.bytes();
        transaction.queue.push(Queued { command, args });
    }
    cx.reply.simple(b"QUEUED");
}

/// Leaves MULTI and forgets the watched keys; returns what was queued.
pub fn end_transaction(cx: &mut Cx<'_>) -> Option<Box<Transaction>> {
    if std::mem::take(&mut cx.session.watching) {
        cx.keyspace.watched.unwatch_all(cx.session.id);
    }
    cx.session.transaction.take()
}

/// Whether the slow log takes a command that took `us` microseconds.
#[inline]
fn slowlog_wants(cx: &Cx<'_>, us: u64) -> bool {
    let config = &cx.registries.config;
    let threshold_us = u64::try_from(config.slowlog_log_slower_than_us);
    threshold_us.is_ok_and(|threshold_us| us >= threshold_us) && config.slowlog_max_len > 0
}

/// What is kept of a command's arguments while its handler runs, where that may be needed.
struct Noted {
    /// Its text for the log. A handler may move a large argument into the keyspace.
    made: Option<Vec<u8>>,
    /// Its words for those who monitor.
    shown: Option<Vec<Vec<u8>>>,
    /// Its words for the slow log, where a large argument may be gone afterwards.
    slow: Option<Vec<Vec<u8>>>,
}

#[cold]
fn note(cx: &Cx<'_>, spec: &CommandSpec, args: &Args<'_>) -> Box<Noted> {
    let is_logged = cx.origin != Origin::Replay && spec.flags.has(Flags::WRITE);
    let made = (is_logged && args.has_large()).then(|| {
        let mut text = Vec::new();
        encode::array_header(&mut text, args.len());
        for arg in args.iter() {
            encode::bulk(&mut text, arg);
        }
        text
    });
    let is_shown = cx.effects.monitored
        && !spec.flags.has(Flags::SKIP_MONITOR)
        && !spec.flags.has(Flags::ADMIN);
    let shown = is_shown.then(|| args.iter().map(words::quote).collect());
    let slow = (args.has_large() && slowlog_wants(cx, u64::MAX)).then(|| slowlog::shorten(args));
    Box::new(Noted { made, shown, slow })
}

#[cold]
fn note_slow(cx: &mut Cx<'_>, us: u64, noted: Option<&Noted>, args: &Args<'_>) {
    let kept = noted.and_then(|noted| noted.slow.clone());
    let mut words = kept.unwrap_or_else(|| slowlog::shorten(args));
    for index in cx.effects.secrets() {
        if let Some(word) = words.get_mut(*index) {
            *word = b"(redacted)".to_vec();
        }
    }
    let config = &cx.registries.config;
    let addr = match (cx.session.peer, &config.unixsocket) {
        (Some(peer), _) => peer.to_string(),
        (None, Some(path)) => format!("{}:0", path.display()),
        (None, None) => ":0".to_owned(),
    };
    let slow = SlowCommand {
        id: 0,
        unix_sec: cx.now.0.div_euclid(1_000),
        us,
        words,
        addr,
        name: cx.session.name.clone(),
    };
    let max_len = config.slowlog_max_len;
    cx.registries.slowlog.add(slow, max_len);
}

/// Runs a command's handler, writes its error if it fails, and notes what is to be logged: if the
/// keyspace changed, the client's own bytes, or what the handler said instead.
pub fn call(cx: &mut Cx<'_>, command: Command, args: &mut Args<'_>) {
    let spec = command.spec;
    let outer_replaced = cx.effects.take_replaced();
    let dirty_before = cx.keyspace.dirty;
    let reply_start = cx.reply.position();
    let asked_before = cx.effects.actions.len();
    let db = cx.session.db;
    let noted = (args.has_large() || cx.effects.monitored).then(|| note(cx, spec, args));
    configure_recency(&mut cx.keyspace.recency, &cx.registries.config, cx.now);
    cx.registries.stats.commands_processed += 1;
    let is_client = cx.origin == Origin::Client;
    let start = if is_client { cx.registries.calls.begin() } else { 0 };
    let outcome = (spec.run)(cx, args);
    let has_failed = outcome.is_err();
    if let Err(e) = outcome {
        cx.registries.stats.failed_calls += 1;
        cx.reply.rewind(reply_start);
        reply_error(cx, &e);
    }
    if cx.effects.actions.len() > asked_before {
        cx.effects.answered_at(reply_start..cx.reply.position());
    }
    if cx.origin == Origin::Client {
        // A command that waits is not through; how long it waits is its client's choice.
        let waits = cx.effects.actions.last().is_some_and(Action::holds_client);
        let in_exec = cx.session.in_exec;
        let call = EndedCall { command, start, has_failed, waits, in_exec };
        let us = cx.registries.end_of_call(&call, cx.now);
        if !cx.effects.actions.is_empty() {
            // What the server does about them is not the next command's time.
            cx.registries.calls.interrupt();
        }
        if slowlog_wants(cx, us) && !spec.flags.has(Flags::SKIP_SLOWLOG) && !waits {
            note_slow(cx, us, noted.as_deref(), args);
        }
    }
    let mut made = None;
    if let Some(noted) = noted {
        if let Some(shown) = noted.shown {
            cx.effects.observe(cx.session.db, shown);
        }
        made = noted.made;
    }
    cx.effects.forget_secrets();
    let replaced = cx.effects.take_replaced();
    cx.effects.set_replaced(outer_replaced);
    if replaced || cx.keyspace.dirty == dirty_before || cx.origin == Origin::Replay {
        return;
    }
    match (made, args.raw()) {
        (Some(text), _) => cx.effects.propagate_raw(db, &text),
        (None, Some(raw)) => cx.effects.propagate_raw(db, raw),
        (None, None) => {
            let args: Vec<&[u8]> = args.iter().collect();
            cx.effects.propagate(db, &args);
        }
    }
}
