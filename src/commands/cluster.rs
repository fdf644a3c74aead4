//! CLUSTER and the commands of a cluster's clients: this server is none, and says so.

use crate::engine::command::Arity::{self, AtLeast, Exactly};
use crate::engine::command::{CommandSpec, Doc, Flags};
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
        doc: Doc::new("cluster", "3.0.0", "By subcommand", "Looks after a cluster."),
        arity: AtLeast(2),
        flags: Flags::NO_KEYS,
        subcommands: &[
            subcommand(
                "addslots",
                Doc::new("cluster", "3.0.0", "O(N)", "Gives this node slots.").takes("slot:int..."),
                AtLeast(3),
                CHANGE,
                &[],
            ),
            subcommand(
                "addslotsrange",
                Doc::new("cluster", "7.0.0", "O(N)", "Gives this node ranges of slots.")
                    .takes("start-slot_end-slot(start-slot:int end-slot:int)..."),
                AtLeast(4),
                CHANGE,
                &[],
            ),
            subcommand(
                "bumpepoch",
                Doc::new("cluster", "3.0.0", "O(1)", "Moves the epoch on."),
                Exactly(2),
                CHANGE,
                VARIES,
            ),
            subcommand(
                "count-failure-reports",
                Doc::new("cluster", "3.0.0", "O(N)", "Counts the reports that a node has failed.")
                    .takes("node-id"),
                Exactly(3),
                OPERATOR,
                VARIES,
            ),
            subcommand(
                "countkeysinslot",
                Doc::new("cluster", "3.0.0", "O(1)", "Counts the keys of a slot.")
                    .takes("slot:int"),
                Exactly(3),
                COMMON,
                &[],
            ),
            subcommand(
                "delslots",
                Doc::new("cluster", "3.0.0", "O(N)", "Takes slots from this node.")
                    .takes("slot:int..."),
                AtLeast(3),
                CHANGE,
                &[],
            ),
            subcommand(
                "delslotsrange",
                Doc::new("cluster", "7.0.0", "O(N)", "Takes ranges of slots from this node.")
                    .takes("start-slot_end-slot(start-slot:int end-slot:int)..."),
                AtLeast(4),
                CHANGE,
                &[],
            ),
            subcommand(
                "failover",
                Doc::new("cluster", "3.0.0", "O(1)", "Makes this replica the primary.")
                    .takes("[options(FORCE|TAKEOVER)]"),
                AtLeast(2),
                CHANGE,
                &[],
            ),
            subcommand(
                "flushslots",
                Doc::new("cluster", "3.0.0", "O(1)", "Takes all slots from this node."),
                Exactly(2),
                CHANGE,
                &[],
            ),
            subcommand(
                "forget",
                Doc::new("cluster", "3.0.0", "O(1)", "Forgets a node.").takes("node-id"),
                Exactly(3),
                CHANGE,
                &[],
            ),
            subcommand(
                "getkeysinslot",
                Doc::new("cluster", "3.0.0", "O(log(N))", "Names keys of a slot.")
                    .takes("slot:int count:int"),
                Exactly(4),
                COMMON,
                VARIES,
            ),
            subcommand(
                "help",
                Doc::new("cluster", "5.0.0", "O(1)", "Explains the subcommands."),
                Exactly(2),
                COMMON.and(Flags::LOADING),
                &[],
            ),
            subcommand(
                "info",
                Doc::new("cluster", "3.0.0", "O(1)", "Tells the state of the cluster."),
                Exactly(2),
                COMMON,
                VARIES,
            ),
            subcommand(
                "keyslot",
                Doc::new("cluster", "3.0.0", "O(N)", "Tells the slot of a key.")
                    .takes("key:string"),
                Exactly(3),
                COMMON,
                &[],
            ),
            subcommand(
                "links",
                Doc::new("cluster", "7.0.0", "O(N)", "Lists the connections between nodes."),
                Exactly(2),
                COMMON,
                VARIES,
            ),
            subcommand(
                "meet",
                Doc::new("cluster", "3.0.0", "O(1)", "Joins a node to this one.")
                    .takes("ip port:int [cluster_bus_port:int@4.0.0]")
                    .changed(&[("4.0.0", "The port of the bus may be given.")]),
                AtLeast(4),
                CHANGE,
                &[],
            ),
            subcommand(
                "myid",
                Doc::new("cluster", "3.0.0", "O(1)", "Tells the id of this node."),
                Exactly(2),
                COMMON,
                &[],
            ),
            subcommand(
                "nodes",
                Doc::new("cluster", "3.0.0", "O(N)", "Lists the nodes."),
                Exactly(2),
                COMMON,
                VARIES,
            ),
            subcommand(
                "replicas",
                Doc::new("cluster", "5.0.0", "O(1)", "Lists the replicas of a node.")
                    .takes("node-id"),
                Exactly(3),
                OPERATOR,
                VARIES,
            ),
            subcommand(
                "replicate",
                Doc::new("cluster", "3.0.0", "O(1)", "Makes this node a replica.").takes("node-id"),
                Exactly(3),
                CHANGE,
                &[],
            ),
            subcommand(
                "reset",
                Doc::new("cluster", "3.0.0", "O(N)", "Makes this node forget its cluster.")
                    .takes("[hard_soft(HARD|SOFT)]"),
                AtLeast(2),
                OPERATOR.and(Flags::NO_SCRIPT),
                &[],
            ),
            subcommand(
                "saveconfig",
                Doc::new("cluster", "3.0.0", "O(1)", "Writes the state of this node to disk."),
                Exactly(2),
                CHANGE,
                &[],
            ),
            subcommand(
                "set-config-epoch",
                Doc::new("cluster", "3.0.0", "O(1)", "Sets the epoch of this node.")
                    .takes("config-epoch:int"),
                Exactly(3),
                CHANGE,
                &[],
            ),
            subcommand(
                "setslot",
                Doc::new("cluster", "3.0.0", "O(1)", "Says which node has a slot.").takes(
                    "slot:int subcommand(IMPORTING=node-id|MIGRATING=node-id|NODE=node-id|\
                     STABLE)",
                ),
                AtLeast(4),
                CHANGE,
                &[],
            ),
            subcommand(
                "shards",
                Doc::new("cluster", "7.0.0", "O(N)", "Lists the shards and their slots."),
                Exactly(2),
                COMMON,
                VARIES,
            ),
            subcommand(
                "slaves",
                Doc::new("cluster", "3.0.0", "O(1)", "Lists the replicas of a node.")
                    .takes("node-id")
                    .deprecated("5.0.0", "`CLUSTER REPLICAS`"),
                Exactly(3),
                OPERATOR,
                VARIES,
            ),
            subcommand(
                "slots",
                Doc::new("cluster", "3.0.0", "O(N)", "Lists which nodes have which slots.")
                    .deprecated("7.0.0", "`CLUSTER SHARDS`")
                    .changed(&[
                        ("4.0.0", "Ids of the nodes are told."),
                        ("7.0.0", "More about the network is told."),
                    ]),
                Exactly(2),
                COMMON,
                VARIES,
            ),
        ],
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "asking",
        doc: Doc::new(
            "cluster",
            "3.0.0",
            "O(1)",
            "Says that the next command was redirected here.",
        ),
        arity: Exactly(1),
        flags: FAST,
        run: refuse,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "readonly",
        doc: Doc::new("cluster", "3.0.0", "O(1)", "Allows reads from a replica of a cluster."),
        arity: Exactly(1),
        flags: FAST.and(Flags::LOADING).and(Flags::STALE),
        run: refuse,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "readwrite",
        doc: Doc::new("cluster", "3.0.0", "O(1)", "Ends what READONLY has allowed."),
        arity: Exactly(1),
        flags: FAST.and(Flags::LOADING).and(Flags::STALE),
        run: refuse,
        ..CommandSpec::ROW
    },
];

const fn subcommand(
    name: &'static str,
    doc: Doc,
    arity: Arity,
    flags: Flags,
    tips: &'static [&'static str],
) -> CommandSpec {
    CommandSpec { name, doc, arity, flags, tips, run: refuse, ..CommandSpec::ROW }
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
