//! CONFIG: parameters, read and changed while the server runs.

use crate::config::{self, SetContext};
use crate::engine::command::Arity::{AtLeast, Exactly};
use crate::engine::command::{CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::effects::Action;
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;
use crate::text::glob::glob_match;

const HELP_FLAGS: Flags = Flags::NO_KEYS.and(Flags::LOADING).and(Flags::STALE);
const COMMON: Flags = HELP_FLAGS.and(Flags::ADMIN).and(Flags::NO_SCRIPT);

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[CommandSpec {
    name: "config",
    doc: Doc::new("server", "2.0.0", "By subcommand", "Looks at the configuration, or changes it."),
    arity: AtLeast(2),
    subcommands: &[
        CommandSpec {
            name: "get",
            doc: Doc::new("server", "2.0.0", "O(N)", "Shows parameters.")
                .takes("parameter(parameter)...")
                .changed(&[("7.0.0", "Several patterns in one call.")]),
            arity: AtLeast(3),
            flags: COMMON,
            run: get,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "help",
            doc: Doc::new("server", "5.0.0", "O(1)", "Explains the subcommands."),
            arity: Exactly(2),
            flags: HELP_FLAGS,
            run: help,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "resetstat",
            doc: Doc::new("server", "2.0.0", "O(1)", "Sets the counters of INFO to zero."),
            arity: Exactly(2),
            flags: COMMON,
            run: resetstat,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "rewrite",
            doc: Doc::new(
                "server",
                "2.8.0",
                "O(1)",
                "Writes the configuration in force into the configuration file.",
            ),
            arity: Exactly(2),
            flags: COMMON,
            run: rewrite,
            ..CommandSpec::ROW
        },
        CommandSpec {
            name: "set",
            doc: Doc::new("server", "2.0.0", "O(N)", "Changes parameters.")
                .takes("parameter_value(parameter value)...")
                .changed(&[("7.0.0", "Several parameters in one call.")]),
            arity: AtLeast(4),
            flags: COMMON,
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            run: set,
            ..CommandSpec::ROW
        },
    ],
    ..CommandSpec::ROW
}];

const NO_CONFIG_FILE: CommandError =
    CommandError::new("ERR The server is running without a config file");

const HELP: &[&str] = &[
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "REWRITE",
    "    Rewrite the configuration file.",
];

fn help(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.help("CONFIG", HELP);
    Ok(())
}

fn get(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let patterns: Vec<&[u8]> = args.from(2).collect();
    let matches = |pattern: &[u8], name: &[u8]| glob_match(pattern, name, false);
    let found = config::get_matching(&cx.registries.config, &patterns, matches);
    cx.reply.map(found.len());
    for (name, value) in found {
        cx.reply.bulk(&name);
        cx.reply.bulk(&value);
    }
    Ok(())
}

/// All pairs are taken or none. What has to happen for them to hold, the server does.
fn set(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let words: Vec<&[u8]> = args.from(2).collect();
    let (pairs, []) = words.as_chunks::<2>() else { return Err(CommandError::SYNTAX) };
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|[name, value]| (*name, *value)).collect();
    let context =
        SetContext { client_is_local: cx.session.is_local, loading: cx.registries.loading };
    let previous = Box::new(cx.registries.config.clone());
    let changed = config::set_many(&mut cx.registries.config, &pairs, context)
        .map_err(CommandError::owned)?;
    // Whether an earlier CONFIG SET of the same transaction can be put into practice is not known
    // yet: what is the same after it may be a change without it.
    let given = pairs.iter().filter_map(|(name, _)| config::parameters::find(name));
    let names: Vec<&'static str> = match cx.session.in_exec {
        true => given.map(|(_, parameter)| parameter.name).collect(),
        false => changed.iter().map(|parameter| parameter.name).collect(),
    };
    if !names.is_empty() {
        cx.act(Action::Reconfigure { changed: names, previous });
    }
    cx.reply.ok();
    Ok(())
}

/// The server writes the file before it lets this reply leave.
fn rewrite(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    if cx.registries.identity.config_file.is_none() {
        return Err(NO_CONFIG_FILE);
    }
    cx.act(Action::RewriteConfiguration);
    cx.reply.ok();
    Ok(())
}

fn resetstat(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.registries.stats.reset();
    cx.registries.calls.reset();
    cx.registries.eviction.reset_statistics();
    cx.act(Action::ResetStatistics);
    cx.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ROWS;
    use crate::engine::effects::Action;
    use crate::engine::testing::Bench;

    #[test]
    fn get_answers_a_map_of_what_matches() {
        let mut bench = Bench::new(&[ROWS]);
        assert_eq!(bench.send("config get hz"), "*2 $2 hz $2 10");
        assert_eq!(bench.send("config get nosuch"), "*0");
        bench.resp3();
        assert_eq!(bench.send("config get hz"), "%1 $2 hz $2 10");
        assert_eq!(bench.send("config get nosuch"), "%0");
    }

    #[test]
    fn set_tells_the_server_what_has_changed_and_what_was_before() {
        let mut bench = Bench::new(&[ROWS]);
        assert_eq!(bench.send("config set hz 50"), "+OK");
        assert_eq!(bench.send("config get hz"), "*2 $2 hz $2 50");
        let [Action::Reconfigure { changed, previous }] = &bench.actions[..] else {
            panic!("{:?}", bench.actions)
        };
        assert_eq!((&changed[..], previous.hz), (&["hz"][..], 10));
    }

    #[test]
    fn set_without_effect_asks_nothing_of_the_server() {
        let mut bench = Bench::new(&[ROWS]);
        assert_eq!(bench.send("config set hz 10"), "+OK");
        assert_eq!(bench.send("config set hz 50 port"), "-ERR syntax error");
        assert_eq!(
            bench.send("config set hz 50 nosuch 1"),
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"
        );
        assert_eq!(bench.registries.config.hz, 10, "all or nothing");
        assert!(bench.actions.is_empty());
    }

    #[test]
    fn rewrite_needs_a_file() {
        let mut bench = Bench::new(&[ROWS]);
        let refused = "-ERR The server is running without a config file";
        assert_eq!(bench.send("config rewrite"), refused);
        bench.registries.identity.config_file = Some("/etc/x.conf".into());
        assert_eq!(bench.send("config rewrite"), "+OK");
        assert!(matches!(bench.actions[..], [Action::RewriteConfiguration]));
    }

    #[test]
    fn resetstat_sets_counters_to_zero() {
        let mut bench = Bench::new(&[ROWS]);
        bench.registries.stats.keyspace_hits = 7;
        bench.registries.stats.peak_memory_bytes = 8;
        assert_eq!(
            bench.send("config nosuch"),
            "-ERR unknown subcommand 'nosuch'. Try CONFIG HELP."
        );
        assert_eq!(bench.send("config resetstat"), "+OK");
        let stats = &bench.registries.stats;
        assert_eq!((stats.keyspace_hits, stats.error_replies), (0, 0));
        assert!(stats.error_codes.is_empty());
        assert_eq!(stats.peak_memory_bytes, 8, "the peak stays");
        assert!(matches!(bench.actions[..], [Action::ResetStatistics]));
    }
}
