//! TIME, SHUTDOWN, BGREWRITEAOF, SAVE, MODULE and others: the server as a whole.

use super::options;
use crate::engine::command::Arity::{AtLeast, Exactly};
use crate::engine::command::{CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::effects::{Action, Shutdown};
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;
use crate::sys::clock;

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "time",
        doc: Doc::new("server", "2.6.0", "O(1)", "Tells the time."),
        arity: Exactly(1),
        flags: Flags::LOADING.and(Flags::STALE).and(Flags::FAST).and(Flags::NO_KEYS),
        tips: &["nondeterministic_output"],
        run: time,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "shutdown",
        doc: Doc::new("server", "1.0.0", "O(N)", "Stops the server.")
            .takes("[nosave_save(NOSAVE|SAVE)] [NOW@7.0.0] [FORCE@7.0.0] [ABORT@7.0.0]")
            .changed(&[("7.0.0", "NOW, FORCE and ABORT.")]),
        arity: AtLeast(1),
        flags: Flags::ADMIN
            .and(Flags::NO_SCRIPT)
            .and(Flags::LOADING)
            .and(Flags::STALE)
            .and(Flags::NO_MULTI)
            .and(Flags::ALLOW_BUSY)
            .and(Flags::NO_KEYS),
        run: shutdown,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "monitor",
        doc: Doc::new("server", "1.0.0", "", "Shows all commands as they are run."),
        arity: Exactly(1),
        flags: Flags::ADMIN
            .and(Flags::NO_SCRIPT)
            .and(Flags::LOADING)
            .and(Flags::STALE)
            .and(Flags::NO_KEYS),
        run: monitor,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "bgrewriteaof",
        doc: Doc::new(
            "server",
            "1.0.0",
            "O(1)",
            "Writes the append-only file anew, as short as it can be.",
        ),
        arity: Exactly(1),
        flags: Flags::ADMIN
            .and(Flags::NO_SCRIPT)
            .and(Flags::NO_ASYNC_LOADING)
            .and(Flags::NO_KEYS)
            .and(Flags::FIGURES),
        run: bgrewriteaof,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "save",
        doc: Doc::new("server", "1.0.0", "O(N)", "Writes a snapshot, and waits for it."),
        arity: Exactly(1),
        flags: Flags::ADMIN
            .and(Flags::NO_SCRIPT)
            .and(Flags::NO_ASYNC_LOADING)
            .and(Flags::NO_MULTI)
            .and(Flags::NO_KEYS),
        run: save,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "bgsave",
        doc: Doc::new("server", "1.0.0", "O(1)", "Writes a snapshot in the background.")
            .takes("[SCHEDULE@3.2.2]")
            .changed(&[("3.2.2", "SCHEDULE.")]),
        arity: AtLeast(1),
        flags: Flags::ADMIN.and(Flags::NO_SCRIPT).and(Flags::NO_ASYNC_LOADING).and(Flags::NO_KEYS),
        run: bgsave,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "lastsave",
        doc: Doc::new("server", "1.0.0", "O(1)", "Tells when the last snapshot was written."),
        arity: Exactly(1),
        flags: Flags::LOADING
            .and(Flags::STALE)
            .and(Flags::FAST)
            .and(Flags::C_ADMIN)
            .and(Flags::C_DANGEROUS)
            .and(Flags::NO_KEYS),
        tips: &["nondeterministic_output"],
        run: lastsave,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "module",
        doc: Doc::new("server", "4.0.0", "By subcommand", "Looks after modules."),
        arity: AtLeast(2),
        flags: Flags::NO_KEYS,
        subcommands: &[
            CommandSpec {
                name: "help",
                doc: Doc::new("server", "5.0.0", "O(1)", "Explains the subcommands."),
                arity: Exactly(2),
                flags: Flags::LOADING.and(Flags::STALE).and(Flags::NO_KEYS),
                run: module_help,
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "list",
                doc: Doc::new("server", "4.0.0", "O(N)", "Lists the modules."),
                arity: Exactly(2),
                flags: Flags::ADMIN.and(Flags::NO_SCRIPT).and(Flags::NO_KEYS),
                tips: &["nondeterministic_output_order"],
                run: module_list,
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "load",
                doc: Doc::new("server", "4.0.0", "O(1)", "Loads a module.").takes("path [arg...]"),
                arity: AtLeast(3),
                flags: MODULE_CHANGE,
                run: module_load,
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "loadex",
                doc: Doc::new("server", "7.0.0", "O(1)", "Loads a module, with its configuration.")
                    .takes("path [CONFIG=configs(name value)]... [ARGS=args(arg)...]"),
                arity: AtLeast(3),
                flags: MODULE_CHANGE,
                run: module_load,
                ..CommandSpec::ROW
            },
            CommandSpec {
                name: "unload",
                doc: Doc::new("server", "4.0.0", "O(1)", "Unloads a module.").takes("name"),
                arity: Exactly(3),
                flags: MODULE_CHANGE,
                run: module_unload,
                ..CommandSpec::ROW
            },
        ],
        ..CommandSpec::ROW
    },
];

const MODULE_CHANGE: Flags = Flags::ADMIN
    .and(Flags::NO_SCRIPT)
    .and(Flags::NO_ASYNC_LOADING)
    .and(Flags::PROTECTED)
    .and(Flags::NO_KEYS);

const NO_SNAPSHOTS: CommandError = CommandError::new(
    "ERR This server writes no snapshots: its persistence is the append-only file, which holds \
     every write already. BGREWRITEAOF makes it compact",
);
const NO_MODULES: CommandError =
    CommandError::new("ERR Error loading the extension. Please check the server logs.");
const NO_SUCH_MODULE: CommandError =
    CommandError::new("ERR Error unloading module: no such module with that name");

const MODULE_HELP: &[&str] = &[
    "LIST",
    "    Return a list of loaded modules.",
    "LOAD <path> [<arg> ...]",
    "    Load a module library from <path>, passing to it any optional arguments.",
    "LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]",
    "    Load a module library from <path>, while passing it module configurations and optional \
     arguments.",
    "UNLOAD <name>",
    "    Unload a module.",
];

const NO_MONITOR_IN_TRANSACTION: CommandError =
    CommandError::new("ERR MONITOR isn't allowed for DENY BLOCKING client");
const NO_SHUTDOWN: CommandError = CommandError::new("ERR No shutdown in progress.");
const REWRITE_RUNS: CommandError =
    CommandError::new("ERR Background append only file rewriting already in progress");
const LOG_IS_OFF: CommandError = CommandError::new(
    "ERR The append-only file is off: CONFIG SET appendonly yes writes a new one",
);

fn time(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    let now_us = clock::unix_us();
    cx.reply.array(2);
    cx.reply.bulk_integer(now_us.div_euclid(1_000_000));
    cx.reply.bulk_integer(now_us.rem_euclid(1_000_000));
    Ok(())
}

/// Shows the client from here on what all clients run.
fn monitor(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    if cx.session.in_exec {
        return Err(NO_MONITOR_IN_TRANSACTION);
    }
    // Redis says nothing to one who monitors already.
    if !std::mem::replace(&mut cx.session.monitor, true) {
        cx.effects.monitored = true;
        cx.act(Action::Monitor);
        cx.reply.ok();
    }
    Ok(())
}

/// What `SHUTDOWN` asks for.
enum ShutdownRequest {
    Stop(Shutdown),
    Abort,
}

impl ShutdownRequest {
    /// SAVE and NOSAVE are taken, and have nothing to say here: the log holds everything.
    fn parse(args: &Args<'_>) -> Result<ShutdownRequest, CommandError> {
        let (mut save, mut nosave, mut abort) = (false, false, false);
        let mut how = Shutdown::default();
        for option in args.from(1) {
            let is = |name| options::is(option, name);
            let flag = match () {
                () if is("save") => &mut save,
                () if is("nosave") => &mut nosave,
                () if is("now") => &mut how.now,
                () if is("force") => &mut how.force,
                () if is("abort") => &mut abort,
                () => return Err(CommandError::SYNTAX),
            };
            *flag = true;
        }
        if (save && nosave) || (abort && (save || nosave || how.now || how.force)) {
            return Err(CommandError::SYNTAX);
        }
        Ok(if abort { ShutdownRequest::Abort } else { ShutdownRequest::Stop(how) })
    }
}

/// Has no reply unless it is refused: the end of the connection tells. A shutdown is over within
/// the turn that began it, so there is never one to abort.
fn shutdown(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    match ShutdownRequest::parse(args)? {
        ShutdownRequest::Abort => Err(NO_SHUTDOWN),
        ShutdownRequest::Stop(how) => {
            cx.act(Action::Shutdown(how));
            Ok(())
        }
    }
}

/// The rewrite begins before the loop sleeps; until then the figures call it scheduled.
fn bgrewriteaof(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    if !cx.registries.config.appendonly {
        return Err(LOG_IS_OFF);
    }
    let in_exec = cx.session.in_exec;
    let log = &mut cx.registries.figures.log;
    if log.rewrite_in_progress || (log.rewrite_scheduled && !in_exec) {
        return Err(REWRITE_RUNS);
    }
    log.rewrite_scheduled = true;
    cx.act(Action::Rewrite);
    let verb = if in_exec { "scheduled" } else { "started" };
    cx.reply.simple(format!("Background append only file rewriting {verb}").as_bytes());
    Ok(())
}

fn save(_: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    Err(NO_SNAPSHOTS)
}

/// `BGSAVE [SCHEDULE]`
fn bgsave(_: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    match args.get(1) {
        None => Err(NO_SNAPSHOTS),
        Some(option) if args.len() == 2 && options::is(option, "schedule") => Err(NO_SNAPSHOTS),
        Some(_) => Err(CommandError::SYNTAX),
    }
}

/// No snapshot was ever saved; until the first one Redis tells when it was started.
fn lastsave(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.reply.integer(cx.registries.identity.started_unix.0.div_euclid(1_000));
    Ok(())
}

fn module_help(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.help("MODULE", MODULE_HELP);
    Ok(())
}

fn module_list(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.reply.array(0);
    Ok(())
}

fn module_load(_: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let path = args[2].escape_ascii();
    log::warn!("Module {path} was not loaded: this server has no modules");
    Err(NO_MODULES)
}

fn module_unload(_: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    Err(NO_SUCH_MODULE)
}

#[cfg(test)]
mod tests {
    use super::super::transaction;
    use super::ROWS;
    use crate::engine::effects::Action;
    use crate::engine::testing::Bench;

    fn bench() -> Bench {
        Bench::new(&[ROWS, transaction::ROWS])
    }

    #[test]
    fn time_is_seconds_and_microseconds() {
        let mut bench = bench();
        let reply = bench.send("time");
        let words: Vec<&str> = reply.split(' ').collect();
        let ["*2", "$10", seconds, _, micros] = words[..] else { panic!("{reply}") };
        assert!(seconds.parse::<u64>().is_ok_and(|s| s > 1_700_000_000), "{reply}");
        assert!(micros.parse::<u32>().is_ok_and(|us| us < 1_000_000), "{reply}");
        assert_eq!(bench.send("time x"), "-ERR wrong number of arguments for 'time' command");
    }

    #[test]
    fn snapshots_are_refused_with_the_reason() {
        let mut bench = bench();
        for line in ["save", "bgsave", "bgsave schedule"] {
            let reply = bench.send(line);
            assert!(reply.starts_with("-ERR This server writes no snapshots: "), "{line}");
        }
        assert_eq!(bench.send("bgsave now"), "-ERR syntax error");
        assert_eq!(bench.send("bgsave schedule now"), "-ERR syntax error");
        bench.registries.identity.started_unix = bench.now;
        assert_eq!(bench.send("lastsave"), ":2000000000");
    }

    #[test]
    fn modules_are_never_loaded() {
        let mut bench = bench();
        assert_eq!(bench.send("module list"), "*0");
        let refused = "-ERR MODULE command not allowed. If the enable-module-command option";
        assert!(bench.send("module load x").starts_with(refused));
        assert!(bench.send("module unload x").starts_with(refused));
        let parameter = crate::config::parameters::find(b"enable-module-command").expect("a row").1;
        parameter.set_text(&mut bench.registries.config, b"local").expect("set");
        assert!(bench.send("module load x").starts_with("-ERR Error loading the extension."));
        assert!(bench.send("module unload x").starts_with("-ERR Error unloading module: "));
    }

    #[test]
    fn shutdown_takes_the_options_of_redis() {
        for (options, force, now) in [
            ("", false, false),
            ("nosave", false, false),
            ("SAVE", false, false),
            ("nosave force", true, false),
            ("now now save", false, true),
        ] {
            let mut bench = bench();
            assert_eq!(bench.run(&words("shutdown", options)), b"", "{options}");
            let [Action::Shutdown(how)] = bench.actions[..] else { panic!("{options}") };
            assert_eq!((how.force, how.now), (force, now), "{options}");
        }
        for (options, reply) in [
            ("foo", "-ERR syntax error"),
            ("save nosave", "-ERR syntax error"),
            ("abort now", "-ERR syntax error"),
            ("abort", "-ERR No shutdown in progress."),
            ("abort abort", "-ERR No shutdown in progress."),
        ] {
            let mut bench = bench();
            assert_eq!(bench.send(&format!("shutdown {options}")), reply);
            assert!(bench.actions.is_empty(), "{options}");
        }
        let mut bench = bench();
        bench.send("multi");
        assert_eq!(bench.send("shutdown"), "-ERR Command not allowed inside a transaction");
    }

    fn words<'a>(name: &'a str, rest: &'a str) -> Vec<&'a [u8]> {
        std::iter::once(name).chain(rest.split_whitespace()).map(str::as_bytes).collect()
    }

    #[test]
    fn one_rewrite_runs_at_a_time() {
        let running = "-ERR Background append only file rewriting already in progress";
        let mut bench = bench();
        assert_eq!(bench.send("bgrewriteaof"), "+Background append only file rewriting started");
        assert!(matches!(bench.actions[..], [Action::Rewrite]));
        assert_eq!(bench.send("bgrewriteaof"), running, "before the loop has begun it");
        bench.registries.figures.log.rewrite_scheduled = false;
        bench.registries.figures.log.rewrite_in_progress = true;
        assert_eq!(bench.send("bgrewriteaof"), running);
        assert_eq!(bench.actions.len(), 1);
    }

    #[test]
    fn inside_a_transaction_a_rewrite_is_scheduled() {
        let mut bench = bench();
        bench.send("multi");
        bench.send("bgrewriteaof");
        bench.send("bgrewriteaof");
        assert_eq!(
            bench.send("exec"),
            "*2 +Background append only file rewriting scheduled \
             +Background append only file rewriting scheduled"
        );
        assert!(matches!(bench.actions[0], Action::Rewrite));
    }

    #[test]
    fn without_a_log_there_is_nothing_to_rewrite() {
        let mut bench = bench();
        bench.registries.config.appendonly = false;
        assert!(bench.send("bgrewriteaof").starts_with("-ERR The append-only file is off"));
        assert!(bench.actions.is_empty());
    }
}
