//! CLIENT: what is known of the connected clients, how they are served, and how to end them.

use super::options::{self, c_text};
use super::tracking;
use crate::engine::command::Arity::{AtLeast, Exactly};
use crate::engine::command::{CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::effects::Action;
use crate::engine::error::{CommandError, CommandResult};
use crate::engine::registries::{ClientFigures, Pause};
use crate::resp::args::Args;
use crate::resp::reply::Protocol;
use crate::sys::clock::UnixMs;
use crate::text::number::parse_i64;
use std::io::Write;

const COMMON: Flags = Flags::C_CONNECTION.and(Flags::NO_KEYS).and(Flags::LOADING).and(Flags::STALE);
const OWN: Flags = COMMON.and(Flags::NO_SCRIPT);
const OTHERS: Flags = OWN.and(Flags::ADMIN);

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[CommandSpec {
    name: "client",
    doc: Doc::new("connection", "2.4.0", "By subcommand", "Looks after connections."),
    arity: AtLeast(2),
    subcommands: &[
        CommandSpec {
            name: "caching",
            doc: Doc::new(
                "connection",
                "6.0.0",
                "O(1)",
                "Says whether the keys of the next command are tracked.",
            )
            .takes("mode(YES|NO)"),
            arity: Exactly(3),
            flags: OWN,
            run: tracking::caching,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "getname",
            doc: Doc::new("connection", "2.6.9", "O(1)", "Tells the name of this connection."),
            arity: Exactly(2),
            flags: OWN,
            run: getname,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "getredir",
            doc: Doc::new(
                "connection",
                "6.0.0",
                "O(1)",
                "Tells to which client invalidations are sent.",
            ),
            arity: Exactly(2),
            flags: OWN,
            run: tracking::getredir,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "help",
            doc: Doc::new("connection", "5.0.0", "O(1)", "Explains the subcommands."),
            arity: Exactly(2),
            flags: COMMON,
            run: help,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "id",
            doc: Doc::new("connection", "5.0.0", "O(1)", "Tells the id of this connection."),
            arity: Exactly(2),
            flags: OWN,
            run: id,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "info",
            doc: Doc::new("connection", "6.2.0", "O(1)", "Tells about this connection."),
            arity: Exactly(2),
            flags: OWN.and(Flags::FIGURES),
            tips: &["nondeterministic_output"],
            run: info,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "kill",
            doc: Doc::new("connection", "2.4.0", "O(N), N clients", "Ends connections.").takes(
                "filter(ip:port|new-format([ID=client-id:int@2.8.12...]|\
             [TYPE=normal_master_slave_pubsub(NORMAL|MASTER@3.2.0|SLAVE|\
             REPLICA@5.0.0|PUBSUB)@2.8.12]|[USER=username]|[ADDR=ip:port]|\
             [LADDR=ip:port@6.2.0]|[SKIPME=yes/no]|\
             [MAXAGE=maxage:int@7.4.0])...)",
            ),
            arity: AtLeast(3),
            flags: OTHERS.and(Flags::FIGURES),
            run: kill,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "list",
            doc: Doc::new("connection", "2.4.0", "O(N)", "Tells about all connections, or some.")
                .takes(
                    "[TYPE=normal_master_replica_pubsub(NORMAL|MASTER|REPLICA|\
             PUBSUB)@5.0.0] [ID=id(client-id:int...)@6.2.0]",
                ),
            arity: AtLeast(2),
            flags: OTHERS.and(Flags::FIGURES),
            tips: &["nondeterministic_output"],
            run: list,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "no-evict",
            doc: Doc::new(
                "connection",
                "7.0.0",
                "O(1)",
                "Keeps this connection when clients are evicted for their memory.",
            )
            .takes("enabled(ON|OFF)"),
            arity: Exactly(3),
            flags: OTHERS,
            run: no_evict,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "no-touch",
            doc: Doc::new(
                "connection",
                "7.2.0",
                "O(1)",
                "Says whether the commands of this connection count as uses of keys.",
            )
            .takes("enabled(ON|OFF)"),
            arity: Exactly(3),
            flags: OWN,
            run: no_touch,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "pause",
            doc: Doc::new("connection", "2.9.50", "O(1)", "Lets commands wait for a time.")
                .takes("timeout:int [mode(WRITE|ALL)@6.2.0]"),
            arity: AtLeast(3),
            flags: OTHERS,
            run: pause,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "reply",
            doc: Doc::new(
                "connection",
                "3.2.0",
                "O(1)",
                "Says which replies this connection gets.",
            )
            .takes("on_off_skip(ON|OFF|SKIP)"),
            arity: Exactly(3),
            flags: OWN,
            run: reply,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "setinfo",
            doc: Doc::new(
                "connection",
                "7.2.0",
                "O(1)",
                "Says which library speaks on this connection.",
            )
            .takes("attr(LIB-NAME=libname|LIB-VER=libver)"),
            arity: Exactly(4),
            flags: OWN,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            run: setinfo,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "setname",
            doc: Doc::new("connection", "2.6.9", "O(1)", "Gives this connection a name.")
                .takes("connection-name"),
            arity: Exactly(3),
            flags: OWN,
            run: setname,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "tracking",
            doc: Doc::new(
                "connection",
                "6.0.0",
                "O(1)",
                "Asks to be told when keys change that were read.",
            )
            .takes(
                "status(ON|OFF) [REDIRECT=client-id:int] [PREFIX=prefix]... [BCAST] \
             [OPTIN] [OPTOUT] [NOLOOP]",
            ),
            arity: AtLeast(3),
            flags: OWN.and(Flags::FIGURES),
            run: tracking::tracking,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "trackinginfo",
            doc: Doc::new(
                "connection",
                "6.2.0",
                "O(1)",
                "Tells how keys are tracked for this connection.",
            ),
            arity: Exactly(2),
            flags: OWN,
            run: tracking::trackinginfo,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "unblock",
            doc: Doc::new("connection", "5.0.0", "O(log N)", "Ends the wait of a blocked client.")
                .takes("client-id:int [timeout_error(TIMEOUT|ERROR)]"),
            arity: AtLeast(3),
            flags: OTHERS.and(Flags::FIGURES),
            run: unblock,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "unpause",
            doc: Doc::new("connection", "6.2.0", "O(N)", "Ends a pause."),
            arity: Exactly(2),
            flags: OTHERS,
            run: unpause,
            ..CommandSpec::ROW
        },
    ],
    ..CommandSpec::ROW
}];

const NO_SUCH_CLIENT: CommandError = CommandError::new("ERR No such client");
const INVALID_ID: CommandError = CommandError::new("ERR Invalid client ID");
const ID_NOT_POSITIVE: CommandError = CommandError::new("ERR client-id should be greater than 0");
const PAUSE_MODE: CommandError = CommandError::new("ERR CLIENT PAUSE mode must be WRITE or ALL");
const UNBLOCK_REASON: CommandError =
    CommandError::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
const MAX_AGE_NOT_AN_INTEGER: CommandError =
    CommandError::new("ERR maxage is not an integer or out of range");
const MAX_AGE_NOT_POSITIVE: CommandError = CommandError::new("ERR maxage should be greater than 0");

const HELP: &[&str] = &[
    "CACHING (YES|NO)",
    "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
    "GETREDIR",
    "    Return the client ID we are redirecting to when tracking is enabled.",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made from the specified address",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made to specified local address",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "    * ID <client-id> [<client-id> ...]",
    "      Kill connections by client id.",
    "    * MAXAGE <maxage>",
    "      Kill connections older than the specified age, in seconds.",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "UNPAUSE",
    "    Stop the current client pause, resuming traffic.",
    "PAUSE <timeout> [WRITE|ALL]",
    "    Suspend all, or just write, clients for <timeout> milliseconds.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are:",
    "    * LIB-NAME: the client lib name.",
    "    * LIB-VER: the client lib version.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "UNBLOCK <clientid> [TIMEOUT|ERROR]",
    "    Unblock the specified blocked client.",
    "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
    "         [OPTIN] [OPTOUT] [NOLOOP]",
    "    Control server assisted client side caching.",
    "TRACKINGINFO",
    "    Report tracking status for the current connection.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "NO-TOUCH (ON|OFF)",
    "    Will not touch LRU/LFU stats when this mode is on.",
];

fn help(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.help("CLIENT", HELP);
    Ok(())
}

/// Checks what `CLIENT LIST` shows between blanks: it must have none itself.
///
/// # Errors
/// `<what> cannot contain spaces, newlines or special characters.`
pub fn check_attribute(value: &[u8], what: &[u8]) -> CommandResult {
    // C's `char` is signed: bytes above 127 fall below '!' in Redis.
    if value.iter().all(|b| (b'!'..=b'~').contains(b)) {
        return Ok(());
    }
    let text = b" cannot contain spaces, newlines or special characters.";
    Err(CommandError::owned([b"ERR ", what, text].concat()))
}

fn getname(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    match cx.session.name.as_slice() {
        b"" => cx.reply.null(),
        name => cx.reply.bulk(name),
    }
    Ok(())
}

fn setname(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    check_attribute(&args[2], b"Client names")?;
    cx.session.name = args[2].to_vec();
    cx.reply.ok();
    Ok(())
}

fn setinfo(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (option, value) = (&args[2], &args[3]);
    let field = if options::is(option, "LIB-NAME") {
        &mut cx.session.lib_name
    } else if options::is(option, "LIB-VER") {
        &mut cx.session.lib_version
    } else {
        return Err(quoting("ERR Unrecognized option '", option));
    };
    check_attribute(value, option)?;
    *field = value.to_vec();
    cx.reply.ok();
    Ok(())
}

fn id(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.reply.integer(cx.session.id.cast_signed());
    Ok(())
}

/// An error that ends in a quotation of what the client sent; `text` has the opening quote.
fn quoting(text: &str, quoted: &[u8]) -> CommandError {
    CommandError::owned([text.as_bytes(), c_text(quoted), b"'"].concat())
}

/// What `CLIENT LIST` and `CLIENT KILL` sort clients into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientType {
    Normal,
    Replica,
    PubSub,
    Master,
}

impl ClientType {
    fn parse(name: &[u8]) -> Result<ClientType, CommandError> {
        const NAMES: [(&str, ClientType); 5] = [
            ("NORMAL", ClientType::Normal),
            ("SLAVE", ClientType::Replica),
            ("REPLICA", ClientType::Replica),
            ("PUBSUB", ClientType::PubSub),
            ("MASTER", ClientType::Master),
        ];
        let found = NAMES.iter().find(|(known, _)| options::is(name, known));
        found.map(|(_, kind)| *kind).ok_or_else(|| quoting("ERR Unknown client type '", name))
    }

    /// By its one-letter flags.
    fn of(client: &ClientFigures) -> ClientType {
        let has = |flag| client.flags.contains(flag);
        if has('M') {
            ClientType::Master
        } else if has('S') {
            ClientType::Replica
        } else if has('P') {
            ClientType::PubSub
        } else {
            ClientType::Normal
        }
    }
}

fn info(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    prepare_snapshot(cx, "client|info");
    let id = cx.session.id;
    let mut text = Vec::new();
    if let Some(own) = cx.registries.clients.iter().find(|client| client.id == id) {
        write_line(&mut text, own);
    }
    cx.reply.verbatim(*b"txt", &text);
    Ok(())
}

fn list(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let option = args.get(2).unwrap_or_default();
    let mut text = Vec::new();
    if args.len() == 4 && options::is(option, "TYPE") {
        let kind = ClientType::parse(&args[3])?;
        prepare_snapshot(cx, "client|list");
        let all = cx.registries.clients.iter();
        all.filter(|client| ClientType::of(client) == kind)
            .for_each(|client| write_line(&mut text, client));
    } else if args.len() > 3 && options::is(option, "ID") {
        let ids = args.from(3).map(|id| parse_i64(id).ok_or(INVALID_ID));
        let ids = ids.collect::<Result<Vec<i64>, _>>()?;
        prepare_snapshot(cx, "client|list");
        for id in ids {
            let found = cx.registries.clients.iter().find(|client| client.id.cast_signed() == id);
            found.into_iter().for_each(|client| write_line(&mut text, client));
        }
    } else if args.len() == 2 {
        prepare_snapshot(cx, "client|list");
        cx.registries.clients.iter().for_each(|client| write_line(&mut text, client));
    } else {
        return Err(CommandError::SYNTAX);
    }
    cx.reply.verbatim(*b"txt", &text);
    Ok(())
}

/// The snapshot of the clients was taken before this command, or this transaction, began: here it
/// catches up with what the client has done since, and is put in the order of connecting.
fn prepare_snapshot(cx: &mut Cx<'_>, command: &str) {
    let session = &*cx.session;
    let clients = &mut cx.registries.clients;
    clients.sort_unstable_by_key(|client| client.id);
    let own = clients.iter_mut().find(|client| client.id == session.id);
    let Some(own) = own else { return };
    own.name.clone_from(&session.name);
    own.lib_name.clone_from(&session.lib_name);
    own.lib_version.clone_from(&session.lib_version);
    own.db = session.db;
    set_flag(&mut own.flags, 'e', session.no_evict);
    set_flag(&mut own.flags, 'T', session.no_touch);
    own.protocol = match session.protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    };
    command.clone_into(&mut own.last_command);
    if session.in_exec {
        "exec".clone_into(&mut own.last_command);
    }
}

/// Sets or clears one of the flags that stand last; `N` stands for none.
fn set_flag(flags: &mut String, flag: char, set: bool) {
    flags.retain(|known| known != flag && known != 'N');
    if set {
        flags.push(flag);
    }
    if flags.is_empty() {
        flags.push('N');
    }
}

/// One client in one line, fields as in Redis 7.2.
fn write_line(out: &mut Vec<u8>, client: &ClientFigures) {
    let ClientFigures { id, addr, laddr, fd, age_sec, idle_sec, flags, db, multi, .. } = client;
    let written = write!(out, "id={id} addr={addr} laddr={laddr} fd={fd} name=")
        .and_then(|()| out.write_all(&client.name))
        .and_then(|()| {
            write!(
                out,
                " age={age_sec} idle={idle_sec} flags={flags} db={db} sub=0 psub=0 ssub=0 \
                 multi={multi} qbuf={} qbuf-free={} argv-mem={} multi-mem={} rbs={} rbp={} \
                 obl={} oll=0 omem=0 tot-mem={} events={} cmd={} user=default redir=-1 resp={} \
                 lib-name=",
                client.query_bytes,
                client.query_free_bytes,
                client.argument_bytes,
                client.queue_bytes,
                client.output_capacity,
                client.output_capacity,
                client.output_bytes,
                client.total_bytes,
                client.events,
                client.last_command,
                client.protocol,
            )
        })
        .and_then(|()| out.write_all(&client.lib_name))
        .and_then(|()| out.write_all(b" lib-ver="))
        .and_then(|()| out.write_all(&client.lib_version))
        .and_then(|()| out.write_all(b"\n"));
    debug_assert!(written.is_ok(), "a vector takes all that is written to it");
}

/// Which clients `CLIENT KILL` ends: those that pass every filter given.
#[derive(Default)]
struct KillFilter<'a> {
    ids: Vec<i64>,
    kind: Option<ClientType>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    min_age_sec: u64,
    spares_own: bool,
}

impl<'a> KillFilter<'a> {
    fn parse(args: &'a Args<'_>) -> Result<KillFilter<'a>, CommandError> {
        if args.len() == 3 {
            return Ok(KillFilter { addr: Some(&args[2]), ..KillFilter::default() });
        }
        let mut filter = KillFilter { spares_own: true, ..KillFilter::default() };
        let mut rest = args.from(2).peekable();
        while let Some(option) = rest.next() {
            let value = rest.next().ok_or(CommandError::SYNTAX)?;
            let is = |name| options::is(option, name);
            if is("id") {
                // The last such option counts; within it there may be several ids.
                filter.ids = vec![Self::client_id(value)?];
                while let Some(value) = rest.next_if(|next| parse_i64(next).is_some()) {
                    filter.ids.push(Self::client_id(value)?);
                }
            } else if is("type") {
                filter.kind = Some(ClientType::parse(value)?);
            } else if is("addr") {
                filter.addr = Some(value);
            } else if is("laddr") {
                filter.laddr = Some(value);
            } else if is("user") {
                // All clients are the user `default`.
                if value != b"default" {
                    return Err(quoting("ERR No such user '", value));
                }
            } else if is("maxage") {
                let age_sec = parse_i64(value).ok_or(MAX_AGE_NOT_AN_INTEGER)?;
                let age_sec = u64::try_from(age_sec).ok().filter(|age_sec| *age_sec > 0);
                filter.min_age_sec = age_sec.ok_or(MAX_AGE_NOT_POSITIVE)?;
            } else if is("skipme") {
                filter.spares_own = match value {
                    yes if options::is(yes, "YES") => true,
                    no if options::is(no, "NO") => false,
                    _ => return Err(CommandError::SYNTAX),
                };
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(filter)
    }

    fn client_id(text: &[u8]) -> Result<i64, CommandError> {
        parse_i64(text).filter(|id| *id > 0).ok_or(ID_NOT_POSITIVE)
    }

    fn admits(&self, client: &ClientFigures, own_id: u64) -> bool {
        self.addr.is_none_or(|addr| client.addr.as_bytes() == c_text(addr))
            && self.laddr.is_none_or(|laddr| client.laddr.as_bytes() == c_text(laddr))
            && self.kind.is_none_or(|kind| ClientType::of(client) == kind)
            && (self.ids.is_empty() || self.ids.contains(&client.id.cast_signed()))
            && client.age_sec >= self.min_age_sec
            && !(self.spares_own && client.id == own_id)
    }
}

fn kill(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let filter = KillFilter::parse(args)?;
    let own_id = cx.session.id;
    let admitted = cx.registries.clients.iter().filter(|client| filter.admits(client, own_id));
    let mut ids: Vec<u64> = admitted.map(|client| client.id).collect();
    let killed = ids.len();
    if args.len() > 3 {
        cx.reply.count(killed);
    } else if killed > 0 {
        cx.reply.ok();
    } else {
        return Err(NO_SUCH_CLIENT);
    }
    // They are gone for what follows in the same transaction; its own client hears the reply.
    cx.registries.clients.retain(|client| client.id == own_id || !ids.contains(&client.id));
    ids.retain(|id| *id != own_id);
    if ids.len() < killed {
        cx.session.close_after_reply = true;
    }
    if !ids.is_empty() {
        cx.act(Action::Kill(ids));
    }
    Ok(())
}

fn no_evict(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.session.no_evict = options::on_off(&args[2])?;
    cx.reply.ok();
    Ok(())
}

fn no_touch(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.session.no_touch = options::on_off(&args[2])?;
    cx.reply.ok();
    Ok(())
}

/// `CLIENT PAUSE timeout [WRITE | ALL]`. A pause in force is never made shorter or laxer by this.
fn pause(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let all = match args.get(3) {
        _ if args.len() > 4 => return Err(options::too_many_arguments("CLIENT", &args[1])),
        None => true,
        Some(mode) if options::is(mode, "all") => true,
        Some(mode) if options::is(mode, "write") => false,
        Some(_) => return Err(PAUSE_MODE),
    };
    let timeout_ms = options::timeout_ms(&args[2])?;
    let until = cx.now.0.saturating_add(i64::try_from(timeout_ms).unwrap_or(i64::MAX));
    let mut pause = Pause { until: UnixMs(until), all };
    if let Some(before) = cx.registries.paused(cx.now) {
        pause = Pause { until: pause.until.max(before.until), all: all || before.all };
    }
    cx.registries.pause = Some(pause);
    cx.reply.ok();
    Ok(())
}

fn unpause(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.registries.pause = None;
    cx.reply.ok();
    Ok(())
}

/// `CLIENT REPLY ON | OFF | SKIP`; ON alone is answered.
fn reply(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let replies = &mut cx.session.replies;
    match &args[2] {
        on if options::is(on, "on") => {
            replies.turn_on();
            cx.reply.set_muted(replies.is_mute());
            cx.reply.ok();
        }
        off if options::is(off, "off") => {
            replies.turn_off();
            cx.reply.set_muted(true);
        }
        skip if options::is(skip, "skip") => replies.skip_next(),
        _ => return Err(CommandError::SYNTAX),
    }
    Ok(())
}

/// `CLIENT UNBLOCK client-id [TIMEOUT | ERROR]`; tells whether that client waited for something.
fn unblock(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let with_error = match args.get(3) {
        _ if args.len() > 4 => return Err(options::too_many_arguments("CLIENT", &args[1])),
        None => false,
        Some(reason) if options::is(reason, "timeout") => false,
        Some(reason) if options::is(reason, "error") => true,
        Some(_) => return Err(UNBLOCK_REASON),
    };
    let id = options::integer(&args[2])?;
    let mut clients = cx.registries.clients.iter_mut();
    let found = clients.find(|client| client.id.cast_signed() == id && client.can_unblock);
    cx.reply.integer(i64::from(found.is_some()));
    if let Some(client) = found {
        // Only once, for what follows in the same transaction.
        client.can_unblock = false;
        let id = client.id;
        cx.act(Action::Unblock { id, with_error });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ROWS;
    use crate::engine::effects::Action;
    use crate::engine::registries::{ClientFigures, Pause};
    use crate::engine::testing::{Bench, START};
    use crate::sys::clock::UnixMs;

    /// Three clients; the first one, id 1, sends. The third subscribes.
    fn bench() -> Bench {
        let mut bench = Bench::new(&[ROWS]);
        bench.registries.clients = [2, 1, 3]
            .into_iter()
            .map(|id| ClientFigures {
                id,
                addr: format!("127.0.0.1:{}", 5000 + id),
                laddr: "127.0.0.1:7379".to_owned(),
                flags: if id == 3 { "P" } else { "N" }.to_owned(),
                age_sec: if id == 3 { 100 } else { 0 },
                can_unblock: id == 2,
                multi: -1,
                events: "r",
                last_command: "NULL".to_owned(),
                protocol: 2,
                ..ClientFigures::default()
            })
            .collect();
        bench
    }

    /// Whom the server was told to kill.
    fn killed(bench: &mut Bench) -> Vec<u64> {
        let actions = std::mem::take(&mut bench.actions);
        let ids = actions.into_iter().map(|action| match action {
            Action::Kill(ids) => ids,
            other => panic!("{other:?}"),
        });
        ids.flatten().collect()
    }

    #[test]
    fn names_and_library_are_kept_and_shown() {
        let mut bench = bench();
        assert_eq!(bench.send("client getname"), "$-1");
        assert_eq!(bench.send("client setname worker"), "+OK");
        assert_eq!(bench.send("client getname"), "$6 worker");
        assert_eq!(bench.send("client setinfo LIB-name redis-py"), "+OK");
        assert_eq!(bench.send("client setinfo lib-ver 5.0"), "+OK");
        let line = bench.send("client info");
        assert!(line.contains(" name=worker age=0 "), "{line}");
        assert!(line.ends_with(" resp=2 lib-name=redis-py lib-ver=5.0\\n"), "{line}");
        assert_eq!(bench.send("client setname ''"), "+OK");
        assert_eq!(bench.send("client getname"), "$-1");
    }

    #[test]
    fn attributes_with_blanks_or_beyond_ascii_are_refused() {
        let mut bench = bench();
        let refused = "cannot contain spaces, newlines or special characters.";
        for name in ["'a b'", "\"a\\n\"", "\"\\x80\"", "\"\\x7f\""] {
            let reply = bench.send(&format!("client setname {name}"));
            assert_eq!(reply, format!("-ERR Client names {refused}"), "{name}");
        }
        assert_eq!(bench.send("client setinfo LIB-ver 'a b'"), format!("-ERR LIB-ver {refused}"));
        assert_eq!(bench.send("client setinfo lib x"), "-ERR Unrecognized option 'lib'");
    }

    #[test]
    fn list_filters_by_type_and_id() {
        let mut bench = bench();
        let shown = |reply: String| -> Vec<String> {
            let ids = reply.split("id=").skip(1).filter(|part| part.contains("addr="));
            ids.map(|part| part.split(' ').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(shown(bench.send("client list")), ["1", "2", "3"]);
        assert_eq!(shown(bench.send("client list type NORMAL")), ["1", "2"]);
        assert_eq!(shown(bench.send("client list type pubsub")), ["3"]);
        assert_eq!(bench.send("client list type replica"), "$0 ");
        assert_eq!(shown(bench.send("client list id 3 9 1 3")), ["3", "1", "3"]);
        for (line, reply) in [
            ("client list x", "-ERR syntax error"),
            ("client list type", "-ERR syntax error"),
            ("client list type a b", "-ERR syntax error"),
            ("client list type foo", "-ERR Unknown client type 'foo'"),
            ("client list id", "-ERR syntax error"),
            ("client list id 1 a", "-ERR Invalid client ID"),
        ] {
            assert_eq!(bench.send(line), reply, "{line}");
        }
    }

    #[test]
    fn a_line_has_the_fields_of_redis_in_its_order() {
        let line = bench().send("client info");
        assert_eq!(
            line.split_once(' ').map(|(_, line)| line),
            Some(
                "id=1 addr=127.0.0.1:5001 laddr=127.0.0.1:7379 fd=0 name= age=0 idle=0 flags=N \
                 db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 \
                 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=client|info user=default \
                 redir=-1 resp=2 lib-name= lib-ver=\\n"
            )
        );
    }

    #[test]
    fn kill_in_the_old_form_names_an_address_and_spares_nobody() {
        let mut bench = bench();
        assert_eq!(bench.send("client kill 127.0.0.1:9"), "-ERR No such client");
        assert_eq!(bench.send("client kill 127.0.0.1:5002"), "+OK");
        assert_eq!(killed(&mut bench), [2]);
        assert_eq!(bench.send("client kill 127.0.0.1:5001"), "+OK");
        assert_eq!(killed(&mut bench), []);
        assert!(bench.session().close_after_reply, "its own client hears the reply first");
    }

    #[test]
    fn kill_by_filters_ends_those_that_pass_them_all() {
        for (filters, count, others, own) in [
            ("id 2", 1, &[2_u64][..], false),
            ("id 1", 0, &[], false),
            ("id 1 skipme no", 1, &[], true),
            ("type normal", 1, &[2], false),
            ("type normal skipme no", 2, &[2], true),
            ("type pubsub id 2", 0, &[], false),
            ("id 2 id 3", 1, &[3], false),
            ("id 2 3 1 9 type normal", 1, &[2], false),
            ("id 1 2 3 skipme no", 3, &[2, 3], true),
            ("maxage 100", 1, &[3], false),
            ("maxage 101", 0, &[], false),
            ("addr 127.0.0.1:5003 laddr 127.0.0.1:7379 user default", 1, &[3], false),
            ("laddr 127.0.0.1:7379 skipme yes", 2, &[2, 3], false),
            ("laddr 127.0.0.1:1", 0, &[], false),
        ] {
            let mut bench = bench();
            let reply = bench.send(&format!("client kill {filters}"));
            assert_eq!(reply, format!(":{count}"), "{filters}");
            assert_eq!(killed(&mut bench), others, "{filters}");
            assert_eq!(bench.session().close_after_reply, own, "{filters}");
        }
    }

    #[test]
    fn kill_refuses_as_redis_does() {
        let mut bench = bench();
        for (filters, reply) in [
            ("id a", "-ERR client-id should be greater than 0"),
            ("id 0", "-ERR client-id should be greater than 0"),
            ("id 5 type", "-ERR syntax error"),
            ("type foo", "-ERR Unknown client type 'foo'"),
            ("user foo", "-ERR No such user 'foo'"),
            ("skipme maybe", "-ERR syntax error"),
            ("id 2 0", "-ERR client-id should be greater than 0"),
            ("id 2 x", "-ERR syntax error"),
            ("maxage x", "-ERR maxage is not an integer or out of range"),
            ("maxage 0", "-ERR maxage should be greater than 0"),
            ("foo bar", "-ERR syntax error"),
        ] {
            assert_eq!(bench.send(&format!("client kill {filters}")), reply, "{filters}");
        }
        assert_eq!(killed(&mut bench), []);
    }

    #[test]
    fn a_pause_is_only_ever_made_longer_and_stricter() {
        let mut bench = Bench::new(&[ROWS, super::super::transaction::ROWS]);
        let at = |ms: i64, all: bool| Some(Pause { until: UnixMs(START.0 + ms), all });
        for (lines, pause) in [
            (&["client pause 100 write"][..], at(100, false)),
            (&["client pause 100 write", "client pause 50"], at(100, true)),
            (&["client pause 100", "client pause 200 WRITE"], at(200, true)),
            (&["client pause 100", "client unpause"], None),
            (&["client pause 9223372036854775807"], at(i64::MAX - START.0, true)),
        ] {
            // Outside of a transaction the second would wait for the end of the first.
            bench.registries.pause = None;
            bench.send("multi");
            lines.iter().for_each(|line| assert_eq!(bench.send(line), "+QUEUED"));
            bench.send("exec");
            assert_eq!(bench.registries.pause, pause, "{lines:?}");
        }
        bench.registries.pause = at(100, true);
        assert_eq!(bench.run(&[b"client", b"id"]), b"", "it is to be tried again");
        bench.advance_ms(100);
        assert_eq!(bench.send("client id"), ":1");
    }

    #[test]
    fn replies_can_be_switched_off_and_skipped() {
        let mut bench = bench();
        for (line, reply) in [
            ("client reply skip", &b""[..]),
            ("client id", b""),
            ("client id", b":1\r\n"),
            ("client reply off", b""),
            ("client nosuch", b""),
            ("client reply skip", b""),
            ("client reply on", b"+OK\r\n"),
            ("client id", b":1\r\n"),
            ("client reply skip", b""),
            ("client reply on", b"+OK\r\n"),
        ] {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            assert_eq!(bench.run(&words), reply, "{line}");
        }
    }

    #[test]
    fn a_wait_is_ended_once() {
        let mut bench = bench();
        bench.registries.clients[0].can_unblock = true;
        assert_eq!(bench.send("client unblock 3"), ":0", "it waits for nothing");
        assert_eq!(bench.send("client unblock 2 error"), ":1");
        assert_eq!(bench.send("client unblock 2"), ":0");
        assert!(matches!(bench.actions[..], [Action::Unblock { id: 2, with_error: true }]));
    }

    #[test]
    fn the_modes_of_a_client_are_shown_among_its_flags() {
        let mut bench = bench();
        assert_eq!(bench.send("client no-evict on"), "+OK");
        assert_eq!(bench.send("client no-touch ON"), "+OK");
        assert!(bench.send("client info").contains(" flags=eT "));
        assert_eq!(bench.send("client no-evict off"), "+OK");
        assert!(bench.send("client info").contains(" flags=T "));
        assert_eq!(bench.send("client no-touch off"), "+OK");
        assert!(bench.send("client info").contains(" flags=N "));
        assert_eq!(bench.send("client no-touch x"), "-ERR syntax error");
    }

    /// What Redis refuses is refused in its words; what it would do is refused, too.
    #[test]
    fn nobody_is_told_of_changes_and_so_nobody_tracks() {
        let mut bench = bench();
        for line in ["on", "on bcast prefix a prefix b noloop", "on redirect 2 optin"] {
            let reply = bench.send(&format!("client tracking {line}"));
            assert!(reply.starts_with("-ERR This server does not track keys"), "{line}: {reply}");
        }
        assert_eq!(bench.send("client tracking off redirect 2"), "+OK");
        assert_eq!(bench.send("client getredir"), ":-1");
        assert_eq!(
            bench.send("client trackinginfo"),
            "*6 $5 flags *1 $3 off $8 redirect :-1 $8 prefixes *0"
        );
        assert!(bench.send("client caching yes").starts_with("-ERR CLIENT CACHING can be called"));
    }
}
