//! ROLE and REPLICAOF: this server is a primary, without replicas.

use super::options;
use crate::engine::command::Arity::Exactly;
use crate::engine::command::{CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;
use crate::text::number::parse_i64;

const REPLICAOF: Flags = Flags::ADMIN
    .and(Flags::NO_SCRIPT)
    .and(Flags::STALE)
    .and(Flags::NO_ASYNC_LOADING)
    .and(Flags::NO_KEYS);

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[
    CommandSpec {
        name: "role",
        doc: Doc::new("server", "2.8.12", "O(1)", "Tells the role in replication."),
        arity: Exactly(1),
        flags: Flags::NO_SCRIPT
            .and(Flags::LOADING)
            .and(Flags::STALE)
            .and(Flags::FAST)
            .and(Flags::C_ADMIN)
            .and(Flags::C_DANGEROUS)
            .and(Flags::NO_KEYS),
        run: role,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "replicaof",
        doc: Doc::new("server", "5.0.0", "O(1)", "Makes the server a replica, or a primary.")
            .takes("args(host-port(host port:int)|no-one(NO ONE))"),
        arity: Exactly(3),
        flags: REPLICAOF,
        run: replicaof,
        ..CommandSpec::ROW
    },
    CommandSpec {
        name: "slaveof",
        doc: Doc::new("server", "1.0.0", "O(1)", "Makes the server a replica, or a primary.")
            .takes("args(host-port(host port:int)|no-one(NO ONE))")
            .deprecated("5.0.0", "`REPLICAOF`"),
        arity: Exactly(3),
        flags: REPLICAOF,
        run: replicaof,
        ..CommandSpec::ROW
    },
];

const BY_MONITOR: CommandError =
    CommandError::new("ERR Command is not valid when client is a replica.");
const INVALID_PORT: CommandError = CommandError::new("ERR Invalid master port");
const NO_REPLICATION: CommandError =
    CommandError::new("ERR This server does not replicate: it cannot become a replica");

/// What a primary tells: its kind, its replication offset, its replicas.
fn role(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.reply.array(3);
    cx.reply.bulk(b"master");
    cx.reply.integer(0);
    cx.reply.array(0);
    Ok(())
}

/// `REPLICAOF NO ONE`, which changes nothing; `REPLICAOF host port` is refused.
fn replicaof(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    if options::is(&args[1], "no") && options::is(&args[2], "one") {
        cx.reply.ok();
        return Ok(());
    }
    if cx.session.monitor {
        return Err(BY_MONITOR);
    }
    match parse_i64(&args[2]) {
        Some(0..=65_535) => Err(NO_REPLICATION),
        _ => Err(INVALID_PORT),
    }
}

#[cfg(test)]
mod tests {
    use super::ROWS;
    use crate::engine::testing::Bench;

    #[test]
    fn it_is_a_primary_and_stays_one() {
        let mut bench = Bench::new(&[ROWS]);
        for (line, reply) in [
            ("role", "*3 $6 master :0 *0"),
            ("replicaof no one", "+OK"),
            ("SLAVEOF No One", "+OK"),
            ("replicaof no x", "-ERR Invalid master port"),
            ("replicaof host 65536", "-ERR Invalid master port"),
            (
                "replicaof host 6379",
                "-ERR This server does not replicate: it cannot become a replica",
            ),
        ] {
            assert_eq!(bench.send(line), reply, "{line}");
        }
        bench.session().monitor = true;
        let refused = "-ERR Command is not valid when client is a replica.";
        assert_eq!(bench.send("replicaof host 6379"), refused);
    }
}
