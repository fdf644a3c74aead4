//! CLIENT: what is known of the connected clients, how they are served, and how to end them.

mod kill;
mod list;

use super::options::{self, c_text};
use super::tracking;
use crate::engine::command::Arity::{AtLeast, Exactly};
use crate::engine::command::{CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::effects::Action;
use crate::engine::error::{CommandError, CommandResult};
use crate::engine::registries::Pause;
use crate::resp::args::Args;
use crate::sys::clock::UnixMs;

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
            run: list::info,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "kill",
            doc: Doc::new("connection", "2.4.0", "O(N), N clients", "Ends connections.")
                .takes(
                    "filter(ip:port!2.8.12|new-format([ID=client-id:int@2.8.12...]|\
             [TYPE=normal_master_slave_pubsub(NORMAL|MASTER@3.2.0|SLAVE|\
             REPLICA@5.0.0|PUBSUB)@2.8.12]|[USER=username]|[ADDR=ip:port]|\
             [LADDR=ip:port@6.2.0]|[SKIPME=yes/no]|\
             [MAXAGE=maxage:int@7.4.0])...)",
                )
                .changed(&[
                    ("2.8.12", "Filters, each with its name."),
                    ("2.8.12", "ID."),
                    ("3.2.0", "Masters are a type."),
                    ("5.0.0", "Replicas are called so; slave is still taken."),
                    ("6.2.0", "LADDR."),
                    ("7.4.0", "MAXAGE."),
                ]),
            arity: AtLeast(3),
            flags: OTHERS.and(Flags::FIGURES),
            run: kill::kill,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "list",
            doc: Doc::new("connection", "2.4.0", "O(N)", "Tells about all connections, or some.")
                .takes(
                    "[TYPE=normal_master_replica_pubsub(NORMAL|MASTER|REPLICA|\
             PUBSUB)@5.0.0] [ID=id(client-id:int...)@6.2.0]",
                )
                .changed(&[
                    ("2.8.12", "The id is shown."),
                    ("5.0.0", "TYPE."),
                    ("6.0.0", "The user is shown."),
                    ("6.2.0", "ID; argv-mem, tot-mem, laddr and redir are shown."),
                    ("7.0.0", "resp, multi-mem, rbs and rbp are shown."),
                    ("7.0.3", "ssub is shown."),
                    ("7.2.0", "lib-name and lib-ver are shown."),
                ]),
            arity: AtLeast(2),
            flags: OTHERS.and(Flags::FIGURES),
            tips: &["nondeterministic_output"],
            run: list::list,
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
                .takes("timeout:int [mode(WRITE|ALL)@6.2.0]")
                .changed(&[("6.2.0", "A pause may be for writes alone.")]),
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

const PAUSE_MODE: CommandError = CommandError::new("ERR CLIENT PAUSE mode must be WRITE or ALL");
const UNBLOCK_REASON: CommandError =
    CommandError::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");

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
    pub(super) fn bench() -> Bench {
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
