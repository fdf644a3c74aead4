//! CLIENT LIST and CLIENT INFO: the connected clients, a line each.

use super::quoting;
use crate::commands::options;
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::engine::registries::ClientFigures;
use crate::resp::args::Args;
use crate::resp::reply::Protocol;
use crate::text::number::parse_i64;
use std::io::Write;

const INVALID_ID: CommandError = CommandError::new("ERR Invalid client ID");

/// What `CLIENT LIST` and `CLIENT KILL` sort clients into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientType {
    Normal,
    Replica,
    PubSub,
    Master,
}

impl ClientType {
    pub(super) fn parse(name: &[u8]) -> Result<ClientType, CommandError> {
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
    pub(super) fn of(client: &ClientFigures) -> ClientType {
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

pub(super) fn info(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    prepare_snapshot(cx, "client|info");
    let id = cx.session.id;
    let mut text = Vec::new();
    if let Some(own) = cx.registries.clients.iter().find(|client| client.id == id) {
        write_line(&mut text, own);
    }
    cx.reply.verbatim(*b"txt", &text);
    Ok(())
}

pub(super) fn list(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
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

#[cfg(test)]
mod tests {
    use super::super::tests::bench;

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
}
