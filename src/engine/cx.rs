//! What a handler is given: just what it may touch, borrowed apart.

use super::effects::{Action, Effects};
use super::registries::Registries;
use super::session::Session;
use crate::keyspace::{Database, Entry, Keyspace};
use crate::resp::reply::Reply;
use crate::sys::clock::UnixMs;

/// Who has sent a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client over its connection.
    Client,
    /// The append-only file. Nothing expires, nothing is logged, nobody reads replies.
    Replay,
}

/// The context of one command.
pub struct Cx<'a> {
    /// All databases.
    pub keyspace: &'a mut Keyspace,
    /// The client.
    pub session: &'a mut Session,
    /// Where its reply goes.
    pub reply: Reply<'a>,
    /// What is to be done elsewhere.
    pub effects: &'a mut Effects,
    /// Configuration, counters, figures.
    pub registries: &'a mut Registries,
    /// The time of this turn.
    pub now: UnixMs,
    /// Who has sent it.
    pub origin: Origin,
}

impl<'a> Cx<'a> {
    /// The client's database, raw: keys past their deadline are still seen.
    pub fn db(&mut self) -> &mut Database {
        self.keyspace.db_mut(self.session.db)
    }

    /// Looks a key up to read it, and counts a hit or a miss. A key past its deadline is removed,
    /// with a DEL in the log, and is not there.
    #[inline]
    pub fn read(&mut self, key: &[u8]) -> Option<&Entry> {
        self.read_to_reply(key).0
    }

    /// As [`Cx::read`], and gives the reply along, so that the value can be written to it from
    /// where it lies.
    #[inline]
    pub fn read_to_reply(&mut self, key: &[u8]) -> (Option<&Entry>, &mut Reply<'a>) {
        let is_due = self.expire_if_due(key);
        let found = self.keyspace.db(self.session.db).get(key).filter(|_| !is_due);
        match found {
            Some(_) => self.registries.stats.keyspace_hits += 1,
            None => self.registries.stats.keyspace_misses += 1,
        }
        (found, &mut self.reply)
    }

    /// Looks a key up to change it or to tell of it, uncounted. A key past its deadline is
    /// removed, with a DEL in the log, and is not there.
    #[inline]
    pub fn peek(&mut self, key: &[u8]) -> Option<&Entry> {
        let is_due = self.expire_if_due(key);
        self.keyspace.db(self.session.db).get(key).filter(|_| !is_due)
    }

    /// Whether the key is there; as [`Cx::peek`].
    pub fn exists(&mut self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// Whether keys past their deadline are not there: in a replay they are, since it must find what
    /// the log was written from.
    #[inline]
    pub fn expires(&self) -> bool {
        self.origin != Origin::Replay
    }

    /// Removes `key` if its deadline has passed, and says whether it has. During a pause it stays, and
    /// yet is not there.
    #[inline]
    pub fn expire_if_due(&mut self, key: &[u8]) -> bool {
        let db = self.session.db;
        if self.keyspace.db(db).volatile_len() == 0 || !self.expires() {
            return false;
        }
        if !self.keyspace.db(db).get(key).is_some_and(|entry| entry.is_expired(self.now)) {
            return false;
        }
        if self.registries.paused(self.now).is_none() {
            expire(self.keyspace, self.registries, self.effects, db, key);
        }
        true
    }

    /// To be called once for each key that was changed: watching transactions fail, and the
    /// command is logged.
    #[inline]
    pub fn changed(&mut self, key: &[u8]) {
        self.keyspace.changed(self.session.db, key);
    }

    /// Removes a key that is not past its deadline; says whether it was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let removed = !self.expire_if_due(key) && self.db().remove(key);
        if removed {
            self.changed(key);
        }
        removed
    }

    /// Logs `args` in place of the command as the client sent it. A replay logs nothing.
    pub fn propagate_as(&mut self, args: &[&[u8]]) {
        if self.origin == Origin::Replay {
            return;
        }
        self.effects.propagate_as(self.session.db, args);
    }

    /// The reply of a container's `HELP`: a heading, `lines`, and what HELP itself is.
    pub fn help(&mut self, container: &str, lines: &[&str]) {
        let heading =
            format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
        let foot = ["HELP", "    Prints this help."];
        self.reply.array(1 + lines.len() + foot.len());
        self.reply.simple(heading.as_bytes());
        for line in lines.iter().chain(&foot) {
            self.reply.simple(line.as_bytes());
        }
    }

    /// Asks the server for something.
    pub fn act(&mut self, action: Action) {
        self.effects.actions.push(action);
    }
}

/// Removes a key whose deadline has passed, and logs a DEL.
fn expire(
    keyspace: &mut Keyspace,
    registries: &mut Registries,
    effects: &mut Effects,
    db: usize,
    key: &[u8],
) {
    if keyspace.db_mut(db).remove(key) {
        note_expired(keyspace, registries, effects, db, key);
    }
}

/// Tells watchers, counters and the log of a key that has been removed because its deadline had
/// passed.
pub fn note_expired(
    keyspace: &mut Keyspace,
    registries: &mut Registries,
    effects: &mut Effects,
    db: usize,
    key: &[u8],
) {
    registries.stats.expired_keys += 1;
    keyspace.touch(db, key);
    effects.propagate_ahead(db, &[b"DEL", key]);
}
