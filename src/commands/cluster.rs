//! CLUSTER and the commands of a cluster's clients: this server is none, and says so.

use crate::engine::command::Arity::{self, AtLeast, Exactly};
use crate::engine::command::{CommandSpec, Flags};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;

const COMMON: Flags = Flags::STALE.and(Flags::NO_KEYS);
const OPERATOR: Flags = COMMON.and(Flags::ADMIN);
const CHANGE: Flags = OPERATOR.and(Flags::NO_ASYNC_LOADING);
const FAST: Flags = Flags::FAST.and(Flags::C_CONNECTION).and(Flags::NO_KEYS);
const VARIES: &[&str] = &["nondeterministic_output"];

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "cluster",
        arity: AtLeast(2),
        flags: Flags::NO_KEYS,
        subcommands: &[
            subcommand("addslots", AtLeast(3), CHANGE, &[]),
            subcommand("addslotsrange", AtLeast(4), CHANGE, &[]),
            subcommand("bumpepoch", Exactly(2), CHANGE, VARIES),
            subcommand("count-failure-reports", Exactly(3), OPERATOR, VARIES),
            subcommand("countkeysinslot", Exactly(3), COMMON, &[]),
            subcommand("delslots", AtLeast(3), CHANGE, &[]),
            subcommand("delslotsrange", AtLeast(4), CHANGE, &[]),
            subcommand("failover", AtLeast(2), CHANGE, &[]),
            subcommand("flushslots", Exactly(2), CHANGE, &[]),
            subcommand("forget", Exactly(3), CHANGE, &[]),
            subcommand("getkeysinslot", Exactly(4), COMMON, VARIES),
            subcommand("help", Exactly(2), COMMON.and(Flags::LOADING), &[]),
            subcommand("info", Exactly(2), COMMON, VARIES),
            subcommand("keyslot", Exactly(3), COMMON, &[]),
            subcommand("links", Exactly(2), COMMON, VARIES),
            subcommand("meet", AtLeast(4), CHANGE, &[]),
            subcommand("myid", Exactly(2), COMMON, &[]),
            subcommand("nodes", Exactly(2), COMMON, VARIES),
            subcommand("replicas", Exactly(3), OPERATOR, VARIES),
            subcommand("replicate", Exactly(3), CHANGE, &[]),
            subcommand("reset", AtLeast(2), OPERATOR.and(Flags::NO_SCRIPT), &[]),
            subcommand("saveconfig", Exactly(2), CHANGE, &[]),
            subcommand("set-config-epoch", Exactly(3), CHANGE, &[]),
            subcommand("setslot", AtLeast(4), CHANGE, &[]),
            subcommand("shards", Exactly(2), COMMON, VARIES),
            subcommand("slaves", Exactly(3), OPERATOR, VARIES),
            subcommand("slots", Exactly(2), COMMON, VARIES),
        ],
        ..CommandSpec::ROW
    },
    CommandSpec { name: "asking", arity: Exactly(1), flags: FAST, run: refuse, ..CommandSpec::ROW },
    CommandSpec {
        name: "readonly",
        arity: Exactly(1),
        flags: FAST.and(Flags::LOADING).and(Flags::STALE),
        run: refuse,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "readwrite",
        arity: Exactly(1),
        flags: FAST.and(Flags::LOADING).and(Flags::STALE),
        run: refuse,
        ..CommandSpec::ROW
    },
];

const fn subcommand(
    name: &'static str,
    arity: Arity,
    flags: Flags,
    tips: &'static [&'static str],
) -> CommandSpec {
    CommandSpec { name, arity, flags, tips, run: refuse, ..CommandSpec::ROW }
}

const NO_CLUSTER: CommandError =
    CommandError::new("ERR This instance has cluster support disabled");

fn refuse(_: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    Err(NO_CLUSTER)
}

#[cfg(test)]
mod tests {
    use super::ROWS;
    use crate::engine::testing::Bench;

    #[test]
    fn all_is_refused_with_the_error_that_clients_know() {
        let mut bench = Bench::new(&[ROWS]);
        let refused = "-ERR This instance has cluster support disabled";
        for line in ["cluster info", "cluster slots", "cluster help", "asking", "readonly"] {
            assert_eq!(bench.send(line), refused, "{line}");
        }
        assert_eq!(bench.send("cluster foo"), "-ERR unknown subcommand 'foo'. Try CLUSTER HELP.");
    }
}
