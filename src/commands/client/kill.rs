//! CLIENT KILL: which clients it ends.

use super::list::ClientType;
use super::quoting;
use crate::commands::options::{self, c_text};
use crate::engine::cx::Cx;
use crate::engine::effects::Action;
use crate::engine::error::{CommandError, CommandResult};
use crate::engine::registries::ClientFigures;
use crate::resp::args::Args;
use crate::text::number::parse_i64;

const NO_SUCH_CLIENT: CommandError = CommandError::new("ERR No such client");
const ID_NOT_POSITIVE: CommandError = CommandError::new("ERR client-id should be greater than 0");
const MAX_AGE_NOT_AN_INTEGER: CommandError =
    CommandError::new("ERR maxage is not an integer or out of range");
const MAX_AGE_NOT_POSITIVE: CommandError = CommandError::new("ERR maxage should be greater than 0");

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

pub(super) fn kill(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
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

#[cfg(test)]
mod tests {
    use super::super::tests::bench;
    use crate::engine::effects::Action;
    use crate::engine::testing::Bench;

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
}
