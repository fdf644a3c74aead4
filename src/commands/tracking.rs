//! CLIENT TRACKING and its relatives, refused as far as they would promise something: nobody is told
//! of changes, and a client's cache that waits for that would be wrong.

use super::options::{self, c_text};
use crate::engine::cx::Cx;
use crate::engine::error::{CommandError, CommandResult};
use crate::resp::args::Args;

const NO_TRACKING_MODE: CommandError = CommandError::new(
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT \
     mode enabled",
);
const NO_TRACKING: CommandError = CommandError::new(
    "ERR This server does not track keys: client side caches would never be told of a change",
);
const PREFIX_WITHOUT_BCAST: CommandError =
    CommandError::new("ERR PREFIX option requires BCAST mode to be enabled");
const OPTS_AND_BCAST: CommandError =
    CommandError::new("ERR OPTIN and OPTOUT are not compatible with BCAST");
const BOTH_OPTS: CommandError =
    CommandError::new("ERR You can't specify both OPTIN mode and OPTOUT mode");
const NO_SUCH_REDIRECTION: CommandError =
    CommandError::new("ERR The client ID you want redirect to does not exist");
const TWO_REDIRECTIONS: CommandError =
    CommandError::new("ERR A client can only redirect to a single other client");
/// `CLIENT GETREDIR`: no client is ever redirected to.
pub fn getredir(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.reply.integer(-1);
    Ok(())
}

/// `CLIENT TRACKINGINFO`: it is off.
pub fn trackinginfo(cx: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    cx.reply.map(3);
    cx.reply.bulk(b"flags");
    cx.reply.set(1);
    cx.reply.bulk(b"off");
    cx.reply.bulk(b"redirect");
    cx.reply.integer(-1);
    cx.reply.bulk(b"prefixes");
    cx.reply.array(0);
    Ok(())
}

/// `CLIENT CACHING`: no client is ever in tracking mode.
pub fn caching(_: &mut Cx<'_>, _: &mut Args<'_>) -> CommandResult {
    Err(NO_TRACKING_MODE)
}

/// `CLIENT TRACKING ON | OFF [options]`. OFF is how it always is; ON is refused once the options have
/// been found right: a cache that is never told of changes would be worse than none.
pub fn tracking(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let (mut redirects, mut bcast, mut opt_in, mut opt_out) = (false, false, false, false);
    let mut prefixes: Vec<&[u8]> = Vec::new();
    let mut rest = args.from(3);
    while let Some(option) = rest.next() {
        let is = |name| options::is(option, name);
        if is("redirect") && rest.len() > 0 {
            if redirects {
                return Err(TWO_REDIRECTIONS);
            }
            let id = options::integer(rest.next().unwrap_or_default())?;
            if !cx.registries.clients.iter().any(|client| client.id.cast_signed() == id) {
                return Err(NO_SUCH_REDIRECTION);
            }
            redirects = true;
        } else if is("bcast") {
            bcast = true;
        } else if is("optin") {
            opt_in = true;
        } else if is("optout") {
            opt_out = true;
        } else if is("noloop") {
        } else if is("prefix") && rest.len() > 0 {
            prefixes.extend(rest.next());
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    if !options::on_off(&args[2])? {
        cx.reply.ok();
        return Ok(());
    }
    if !bcast && !prefixes.is_empty() {
        return Err(PREFIX_WITHOUT_BCAST);
    }
    if bcast && (opt_in || opt_out) {
        return Err(OPTS_AND_BCAST);
    }
    if opt_in && opt_out {
        return Err(BOTH_OPTS);
    }
    for (at, a) in prefixes.iter().enumerate() {
        for b in &prefixes[at + 1..] {
            if a.starts_with(b) || b.starts_with(a) {
                return Err(overlapping(a, b));
            }
        }
    }
    Err(NO_TRACKING)
}

fn overlapping(a: &[u8], b: &[u8]) -> CommandError {
    CommandError::owned(
        [
            b"ERR Prefix '",
            c_text(a),
            b"' overlaps with another provided prefix '",
            c_text(b),
            b"'. Prefixes for a single client must not overlap.",
        ]
        .concat(),
    )
}
