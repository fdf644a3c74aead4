//! What a handler is given: just what it may touch, borrowed apart.

use super::effects::{Action, Effects};
use super::error::CommandError;
use super::registries::Registries;
use super::session::Session;
use crate::config::Config;
use crate::data::{NewValue, ValueRef};
use crate::keyspace::garbage::LARGE_STRING_BYTES;
use crate::keyspace::recency::{Frequency, Recency, Tracking};
use crate::keyspace::{Database, Deadline, Entry, Garbage, Keyspace, KnownHashes};
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
    /// Of its keys, as far as they were computed ahead.
    pub hashes: KnownHashes<'a>,
}

impl<'a> Cx<'a> {
    /// The client's database, raw: keys past their deadline are still seen.
    pub fn db(&mut self) -> &mut Database {
        self.keyspace.db_mut(self.session.db)
    }

    /// The hash of a key, computed if it is not known.
    #[inline]
    fn hash(&mut self, key: &[u8]) -> u64 {
        self.hashes.of(key).unwrap_or_else(|| self.keyspace.hash_key().hash(key))
    }

    /// Sets a key that is not past its deadline in the client's database, as [`Database::set`] does.
    #[inline]
    pub fn set(&mut self, key: &[u8], value: NewValue<'_>, deadline: Deadline) -> bool {
        let hash = self.hash(key);
        self.db().set_hashed(hash, key, value, deadline)
    }

    /// Gives a key of the client's database the integer that `change` makes of its value, or of none,
    /// and leaves its deadline as it is. The key is looked up as by [`Cx::peek`], and only once.
    ///
    /// # Errors
    /// That of `change`; the value is then what it was.
    #[inline]
    pub fn update_integer(
        &mut self,
        key: &[u8],
        change: impl FnOnce(Option<ValueRef<'_>>) -> Result<i64, CommandError>,
    ) -> Result<i64, CommandError> {
        let (db, hash) = (self.session.db, self.hash(key));
        if self.expire_if_due_in(db, hash, key) {
            let value = change(None)?;
            self.set(key, NewValue::Int(value), Deadline::Keep);
            return Ok(value);
        }
        let uses = !self.session.no_touch;
        self.keyspace.update_integer(db, hash, key, uses, change)
    }

    /// Looks a key up to read it, counts a hit or a miss, and stamps the key as used. A key past its
    /// deadline is removed, with a DEL in the log, and is not there.
    #[inline]
    pub fn read(&mut self, key: &[u8]) -> Option<&Entry> {
        self.read_to_reply(key).0
    }

    /// As [`Cx::read`], and gives the reply along, so that the value can be written to it from
    /// where it lies.
    #[inline]
    pub fn read_to_reply(&mut self, key: &[u8]) -> (Option<&Entry>, &mut Reply<'a>) {
        let hash = self.hash(key);
        let is_due = self.expire_if_due_in(self.session.db, hash, key);
        let found = if self.session.no_touch {
            self.keyspace.db(self.session.db).get_hashed(hash, key)
        } else {
            self.keyspace.touch_and_get_hashed(self.session.db, hash, key)
        };
        let found = found.filter(|_| !is_due);
        count_lookup(self.registries, found);
        (found, &mut self.reply)
    }

    /// As [`Cx::read`], for commands that look at a key without using it.
    pub fn glance(&mut self, key: &[u8]) -> Option<&Entry> {
        let hash = self.hash(key);
        let is_due = self.expire_if_due_in(self.session.db, hash, key);
        let found = self.keyspace.db(self.session.db).get_hashed(hash, key).filter(|_| !is_due);
        count_lookup(self.registries, found);
        found
    }

    /// Looks a key up to change it or to tell of it, uncounted, and stamps it as used. A key past
    /// its deadline is removed, with a DEL in the log, and is not there.
    #[inline]
    pub fn peek(&mut self, key: &[u8]) -> Option<&Entry> {
        self.peek_in(self.session.db, key)
    }

    /// As [`Cx::peek`], in database `db`, which there must be.
    #[inline]
    pub fn peek_in(&mut self, db: usize, key: &[u8]) -> Option<&Entry> {
        let hash = self.hash(key);
        let is_due = self.expire_if_due_in(db, hash, key);
        let found = if self.session.no_touch {
            self.keyspace.db(db).get_hashed(hash, key)
        } else {
            self.keyspace.touch_and_get_hashed(db, hash, key)
        };
        found.filter(|_| !is_due)
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
        if !self.may_expire_in(self.session.db) {
            return false;
        }
        let hash = self.hash(key);
        self.expire_if_due_in(self.session.db, hash, key)
    }

    /// Whether keys past their deadline stay where they are for now: a pause holds the dataset still.
    pub fn keeps_lapsed(&self) -> bool {
        !self.session.in_unpaused_exec && self.registries.paused(self.now).is_some()
    }

    /// Whether some key of database `db` could be found past its deadline.
    #[inline]
    fn may_expire_in(&self, db: usize) -> bool {
        self.keyspace.db(db).volatile_len() > 0 && self.expires()
    }

    #[inline]
    fn expire_if_due_in(&mut self, db: usize, hash: u64, key: &[u8]) -> bool {
        if !self.may_expire_in(db) {
            return false;
        }
        let found = self.keyspace.db(db).get_hashed(hash, key);
        if !found.is_some_and(|entry| entry.is_expired(self.now)) {
            return false;
        }
        if !self.keeps_lapsed() {
            expire(self.keyspace, self.registries, self.effects, db, key);
        }
        true
    }

    /// To be called ahead of setting a key that was not looked up: removes it if its deadline has
    /// passed, and counts the use where uses are counted.
    #[inline]
    pub fn prepare_to_set(&mut self, key: &[u8]) {
        let counts_uses = self.keyspace.recency.tracking() != Tracking::LastUse;
        if counts_uses {
            self.peek(key);
        } else {
            self.expire_if_due(key);
        }
    }

    /// To be called just ahead of giving a key another value: takes a large old one out, to be freed
    /// elsewhere, if `lazyfree-lazy-server-del` says so.
    #[inline]
    pub fn discard_old_value(&mut self, key: &[u8]) {
        if !self.registries.config.lazyfree.server_del {
            return;
        }
        if let Some(value) = self.db().take_large(key, LARGE_STRING_BYTES) {
            self.discard(Garbage::Value(value), true);
        }
    }

    /// Frees what was taken out of the keyspace: on a helper thread if that is wanted, it is large,
    /// and this is no replay, in which the memory may be needed at once; else here.
    pub fn discard(&mut self, garbage: Garbage, elsewhere: bool) {
        if elsewhere && self.origin != Origin::Replay && garbage.is_large() {
            self.effects.garbage.push(garbage);
        }
    }

    /// To be called once for each key that was changed: watching transactions fail, and the
    /// command is logged.
    #[inline]
    pub fn changed(&mut self, key: &[u8]) {
        self.keyspace.changed(self.session.db, key);
    }

    /// Removes a key that is not past its deadline; says whether it was there. Its value is freed
    /// `elsewhere` or here.
    pub fn remove(&mut self, key: &[u8], elsewhere: bool) -> bool {
        if self.expire_if_due(key) {
            return false;
        }
        let removed = self.db().take(key);
        let is_removed = removed.is_some();
        if let Some(entry) = removed {
            self.discard(Garbage::Entry(entry), elsewhere);
            self.changed(key);
        }
        is_removed
    }

    /// Takes a key that has been looked up out of database `db`, as a part of what the command
    /// does. Neither counts a change nor tells those who watch.
    pub fn delete_in(&mut self, db: usize, key: &[u8]) {
        if let Some(entry) = self.keyspace.db_mut(db).take(key) {
            let elsewhere = self.registries.config.lazyfree.server_del;
            self.discard(Garbage::Entry(entry), elsewhere);
        }
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

fn count_lookup(registries: &mut Registries, found: Option<&Entry>) {
    match found {
        Some(_) => registries.stats.keyspace_hits += 1,
        None => registries.stats.keyspace_misses += 1,
    }
}

/// What the configuration says of the stamps of keys.
#[inline]
#[must_use]
pub fn tracking(config: &Config) -> Tracking {
    if config.maxmemory_policy.counts_uses() {
        Tracking::Uses(Frequency {
            log_factor: config.lfu_log_factor,
            decay_minutes: config.lfu_decay_minutes,
        })
    } else {
        Tracking::LastUse
    }
}

/// Has keys that are used or set from here on stamped, and integers shared or not, as the
/// configuration asks for.
#[inline]
pub fn configure_recency(recency: &mut Recency, config: &Config, now: UnixMs) {
    recency.set(now, tracking(config));
    let needs_stamps = config.maxmemory_bytes > 0 && config.maxmemory_policy.needs_stamps();
    recency.own_integers(needs_stamps);
}

/// Removes a key whose deadline has passed, and logs a DEL.
fn expire(
    keyspace: &mut Keyspace,
    registries: &mut Registries,
    effects: &mut Effects,
    db: usize,
    key: &[u8],
) {
    if let Some(entry) = keyspace.db_mut(db).take(key) {
        note_expired(keyspace, registries, effects, db, key);
        discard_expired(registries, effects, entry);
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
    effects.propagate_ahead(db, &[deletion(registries), key]);
}

/// Frees a key that has expired, as `lazyfree-lazy-expire` says.
pub fn discard_expired(registries: &Registries, effects: &mut Effects, entry: Entry) {
    let garbage = Garbage::Entry(entry);
    if registries.config.lazyfree.expire && garbage.is_large() {
        effects.garbage.push(garbage);
    }
}

/// The command by which the log tells that a key has expired.
#[must_use]
pub fn deletion(registries: &Registries) -> &'static [u8] {
    if registries.config.lazyfree.expire { b"UNLINK" } else { b"DEL" }
}
