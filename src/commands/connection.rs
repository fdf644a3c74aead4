//! PING, ECHO, AUTH, HELLO, SELECT, QUIT, RESET: a client and its connection.

use super::client::check_attribute;
use super::options;
use crate::engine::command::Arity::{AtLeast, Exactly};
use crate::engine::command::{CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::engine::execute::end_transaction;
use crate::resp::args::Args;
use crate::resp::reply::Protocol;
use crate::text::number::parse_i64;

/// The version of Redis whose behaviour clients may expect: they look at `HELLO` and `INFO`.
pub const REDIS_VERSION: &str = "7.2.4";

/// What holds of all commands here.
const CONNECTION: Flags = Flags::C_CONNECTION.and(Flags::NO_KEYS).and(Flags::FAST);

/// Served to anybody at any time.
const ALWAYS: Flags = CONNECTION
    .and(Flags::NO_SCRIPT)
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::NO_AUTH)
    .and(Flags::ALLOW_BUSY);

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "ping",
        doc: Doc::new("connection", "1.0.0", "O(1)", "Answers.").takes("[message]"),
        arity: AtLeast(1),
        flags: CONNECTION,
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        run: ping,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "echo",
        doc: Doc::new("connection", "1.0.0", "O(1)", "Answers with what it was given.")
            .takes("message"),
        arity: Exactly(2),
        flags: CONNECTION.and(Flags::LOADING).and(Flags::STALE),
        run: echo,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "auth",
        doc: Doc::new("connection", "1.0.0", "O(N)", "Shows the password.")
            .takes("[username@6.0.0] password")
            .changed(&[("6.0.0", "A user may be named.")]),
        arity: AtLeast(2),
        flags: ALWAYS,
        run: auth,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "hello",
        doc: Doc::new(
            "connection",
            "6.0.0",
            "O(1)",
            "Chooses the protocol, and tells about the server.",
        )
        .takes(
            "[arguments(protover:int [AUTH=username_password(username password)] \
             [SETNAME=clientname])]",
        )
        .changed(&[("6.2.0", "The version may be left out.")]),
        arity: AtLeast(1),
        flags: ALWAYS,
        run: hello,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "select",
        doc: Doc::new("connection", "1.0.0", "O(1)", "Chooses the database.").takes("index:int"),
        arity: Exactly(2),
        flags: CONNECTION.and(Flags::LOADING).and(Flags::STALE),
        run: select,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "quit",
        doc: Doc::new("connection", "1.0.0", "O(1)", "Ends the connection."),
        arity: AtLeast(1),
        flags: ALWAYS.and(Flags::NOT_QUEUED),
        run: quit,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "reset",
        doc: Doc::new(
            "connection",
            "6.2.0",
            "O(1)",
            "Makes the connection as it was at its beginning.",
        ),
        arity: Exactly(1),
        flags: ALWAYS.and(Flags::NOT_QUEUED),
        run: reset,
        ..CommandSpec::ROW
    },
];

const WRONG_PASSWORD: CommandError =
    CommandError::new("WRONGPASS invalid username-password pair or user is disabled.");
const NO_PASSWORD_SET: CommandError = CommandError::new(
    "ERR AUTH <password> called without any password configured for the default user. Are you \
     sure your configuration is correct?",
);
const NO_PROTOCOL: CommandError = CommandError::new("NOPROTO unsupported protocol version");
const NO_VERSION: CommandError =
    CommandError::new("ERR Protocol version is not an integer or out of range");
const HELLO_UNAUTHENTICATED: CommandError = CommandError::new(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
     AUTH <user> <pass> option can be used to authenticate the client and select the RESP \
     protocol version at the same time",
);
const NO_SUCH_DB: CommandError = CommandError::new("ERR DB index is out of range");
const DB_NOT_AN_INT: CommandError =
    CommandError::new("ERR value is out of range, value must between -2147483648 and 2147483647");

fn ping(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    match args.len() {
        1 => cx.reply.simple(b"PONG"),
        2 => cx.reply.bulk(&args[1]),
        _ => {
            let text = "ERR wrong number of arguments for 'ping' command";
            return Err(CommandError::new(text));
        }
    }
    Ok(())
}

fn echo(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    cx.reply.bulk(&args[1]);
    Ok(())
}

fn auth(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    (1..args.len()).for_each(|index| cx.effects.hide(index));
    let (user, password) = match args.len() {
        2 if cx.registries.config.requirepass.is_none() => return Err(NO_PASSWORD_SET),
        2 => (&b"default"[..], &args[1]),
        3 => (&args[1], &args[2]),
        _ => return Err(CommandError::SYNTAX),
    };
    authenticate(cx, user, password)?;
    cx.reply.ok();
    Ok(())
}

/// Marks the session as authenticated if `user` is `default` and the password right; where none is
/// set, any is.
fn authenticate(cx: &mut Cx<'_>, user: &[u8], password: &[u8]) -> CommandResult {
    let wanted = cx.registries.config.requirepass.as_deref();
    if user != b"default" || !wanted.is_none_or(|wanted| equal_in_constant_time(wanted, password)) {
        cx.registries.stats.denied_authentications += 1;
        return Err(WRONG_PASSWORD);
    }
    cx.session.authenticated = true;
    Ok(())
}

/// Compares without telling by the time it takes how far the two agree. (It tells whether they are
/// of one length.)
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

/// What `HELLO` asks for.
struct HelloOptions<'a> {
    protocol: Option<Protocol>,
    user_and_password: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

impl<'a> HelloOptions<'a> {
    fn parse(args: &'a Args<'_>) -> Result<HelloOptions<'a>, CommandError> {
        let mut options = HelloOptions { protocol: None, user_and_password: None, name: None };
        let mut rest = args.from(1);
        if let Some(version) = rest.next() {
            options.protocol = Some(match parse_i64(version).ok_or(NO_VERSION)? {
                2 => Protocol::Resp2,
                3 => Protocol::Resp3,
                _ => return Err(NO_PROTOCOL),
            });
        }
        while let Some(option) = rest.next() {
            if options::is(option, "AUTH") && rest.len() >= 2 {
                options.user_and_password = rest.next().zip(rest.next());
            } else if options::is(option, "SETNAME") && rest.len() >= 1 {
                options.name = rest.next();
                check_attribute(options.name.unwrap_or_default(), b"Client names")?;
            } else {
                let mut text = b"ERR Syntax error in HELLO option '".to_vec();
                text.extend_from_slice(options::c_text(option));
                text.push(b'\'');
                return Err(CommandError::owned(text));
            }
        }
        Ok(options)
    }
}

fn hello(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if let Some(at) = args.iter().position(|arg| options::is(arg, "AUTH")) {
        cx.effects.hide(at + 1);
        cx.effects.hide(at + 2);
    }
    let options = HelloOptions::parse(args)?;
    if let Some((user, password)) = options.user_and_password {
        authenticate(cx, user, password)?;
    }
    if !cx.session.authenticated {
        return Err(HELLO_UNAUTHENTICATED);
    }
    if let Some(name) = options.name {
        cx.session.name = name.to_vec();
    }
    if let Some(protocol) = options.protocol {
        set_protocol(cx, protocol);
    }
    let version = match cx.session.protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    };
    let reply = &mut cx.reply;
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(version);
    reply.bulk(b"id");
    reply.integer(cx.session.id.cast_signed());
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

fn set_protocol(cx: &mut Cx<'_>, protocol: Protocol) {
    cx.session.protocol = protocol;
    cx.reply.set_protocol(protocol);
}

fn select(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let index = parse_i64(&args[1]).ok_or(CommandError::NOT_AN_INTEGER)?;
    let index = i32::try_from(index).map_err(|_| DB_NOT_AN_INT)?;
    let index = usize::try_from(index).ok().filter(|index| *index < cx.keyspace.databases());
    cx.session.db = index.ok_or(NO_SUCH_DB)?;
    cx.reply.ok();
    Ok(())
}

fn quit(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.session.close_after_reply = true;
    cx.reply.ok();
    Ok(())
}

/// Back to how a connection begins. What `CLIENT SETINFO` said of the client library stays, and so
/// does NO-EVICT, as in Redis 7.0.
fn reset(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    end_transaction(cx);
    cx.session.replies.reset();
    cx.reply.set_muted(cx.session.replies.is_mute());
    set_protocol(cx, Protocol::Resp2);
    cx.session.db = 0;
    cx.session.authenticated = cx.registries.config.requirepass.is_none();
    cx.session.name = Vec::new();
    cx.session.monitor = false;
    cx.session.no_touch = false;
    cx.reply.simple(b"RESET");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{client, transaction};
    use super::ROWS;
    use crate::engine::testing::Bench;

    fn bench() -> Bench {
        Bench::new(&[ROWS, client::ROWS, transaction::ROWS])
    }

    /// A bench with a password and a client that has not shown it.
    fn locked() -> Bench {
        let mut bench = bench();
        bench.registries.config.requirepass = Some(b"secret".to_vec());
        bench.session().authenticated = false;
        bench
    }

    #[test]
    fn ping_and_echo_answer() {
        let mut bench = bench();
        assert_eq!(bench.send("ping"), "+PONG");
        assert_eq!(bench.send("PING ''"), "$0 ");
        assert_eq!(bench.send("ping a b"), "-ERR wrong number of arguments for 'ping' command");
        assert_eq!(bench.send("echo \"a\\x00b\""), "$3 a\\x00b");
    }

    #[test]
    fn without_a_password_only_the_default_user_gets_in() {
        let mut bench = bench();
        assert_eq!(
            bench.send("auth x"),
            "-ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?"
        );
        assert_eq!(bench.send("auth default anything"), "+OK");
        let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
        assert_eq!(bench.send("auth other x"), wrong);
        assert_eq!(bench.send("auth a b c"), "-ERR syntax error");
    }

    #[test]
    fn the_password_opens_and_nothing_else_does() {
        let mut bench = locked();
        let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
        assert_eq!(bench.send("ping"), "-NOAUTH Authentication required.");
        for attempt in ["secre", "secret0", "", "Secret", "secrex"] {
            let reply = bench.run(&[b"auth", attempt.as_bytes()]);
            assert_eq!(reply, format!("{wrong}\r\n").as_bytes(), "{attempt:?}");
        }
        assert_eq!(bench.send("auth nobody secret"), wrong);
        assert_eq!(bench.send("ping"), "-NOAUTH Authentication required.");
        assert_eq!(bench.send("auth secret"), "+OK");
        assert_eq!(bench.send("ping"), "+PONG");
        assert_eq!(bench.send("auth nobody secret"), wrong);
        assert_eq!(bench.send("ping"), "+PONG", "a failed AUTH takes nothing away");
        assert_eq!(bench.registries.stats.denied_authentications, 7);
        assert_eq!(bench.send("reset"), "+RESET");
        assert_eq!(bench.send("ping"), "-NOAUTH Authentication required.");
        assert_eq!(bench.send("auth default secret"), "+OK");
    }

    #[test]
    fn hello_negotiates_in_one_step() {
        let mut bench = locked();
        assert!(bench.send("hello 3").starts_with("-NOAUTH HELLO must be called with"));
        assert!(bench.send("hello 3 setname x").starts_with("-NOAUTH HELLO"));
        assert_eq!(
            bench.send("hello 3 auth default wrong setname x"),
            "-WRONGPASS invalid username-password pair or user is disabled."
        );
        assert_eq!(
            bench.send("hello 3 auth default secret setname x"),
            "%7 $6 server $5 redis $7 version $5 7.2.4 $5 proto :3 $2 id :1 $4 mode \
             $10 standalone $4 role $6 master $7 modules *0"
        );
        assert_eq!(bench.send("client getname"), "$1 x");
        assert!(bench.send("hello").starts_with("%7 "), "without a version nothing changes");
        assert!(bench.send("hello 2").starts_with("*14 "));
    }

    #[test]
    fn hello_refuses_as_redis_does() {
        let mut bench = bench();
        for (line, reply) in [
            ("hello 4", "-NOPROTO unsupported protocol version"),
            ("hello 1", "-NOPROTO unsupported protocol version"),
            ("hello a", "-ERR Protocol version is not an integer or out of range"),
            ("hello 2 foo", "-ERR Syntax error in HELLO option 'foo'"),
            ("hello 2 auth a", "-ERR Syntax error in HELLO option 'auth'"),
            ("hello 2 setname", "-ERR Syntax error in HELLO option 'setname'"),
            ("hello 9 setname 'a b'", "-NOPROTO unsupported protocol version"),
            (
                "hello 3 setname 'a b'",
                "-ERR Client names cannot contain spaces, newlines or special characters.",
            ),
        ] {
            assert_eq!(bench.send(line), reply, "{line}");
        }
        assert_eq!(bench.send("client getname"), "$-1", "still RESP2, still nameless");
    }

    #[test]
    fn select_takes_an_index_below_the_number_of_databases() {
        let mut bench = bench();
        let range = "-ERR value is out of range, value must between -2147483648 and 2147483647";
        for (line, reply) in [
            ("select 15", "+OK"),
            ("select 16", "-ERR DB index is out of range"),
            ("select -1", "-ERR DB index is out of range"),
            ("select 2147483647", "-ERR DB index is out of range"),
            ("select 2147483648", range),
            ("select a", "-ERR value is not an integer or out of range"),
        ] {
            assert_eq!(bench.send(line), reply, "{line}");
            assert_eq!(bench.session().db, 15, "{line}");
        }
    }

    #[test]
    fn reset_undoes_everything_at_once() {
        let mut bench = bench();
        bench.send("select 3");
        bench.send("client setname n");
        bench.send("hello 3");
        bench.send("watch k");
        bench.send("multi");
        assert_eq!(bench.send("reset"), "+RESET");
        assert_eq!(bench.send("client getname"), "$-1");
        assert_eq!(bench.send("exec"), "-ERR EXEC without MULTI");
        assert_eq!(bench.session().db, 0);
        assert!(!bench.session().watching);
        for option in ["no-evict", "no-touch"] {
            assert_eq!(bench.send(&format!("client {option} on")), "+OK");
        }
        bench.send("reset");
        assert!(bench.session().no_evict && !bench.session().no_touch);
    }

    #[test]
    fn quit_ends_the_connection_even_inside_a_transaction() {
        let mut bench = bench();
        bench.send("multi");
        assert_eq!(bench.send("quit a b"), "+OK");
        assert!(bench.session().close_after_reply);
    }
}
