//! The databases: key table, expiry, watched keys.

pub mod database;
pub mod entry;
pub mod watched;

use database::Database;
use watched::Watched;

/// All databases.
#[derive(Debug, Default)]
pub struct Keyspace {
    dbs: Vec<Database>,
    /// Changes since start.
    pub dirty: u64,
    /// Who watches what.
    pub watched: Watched,
}

impl Keyspace {
    /// `count` empty databases.
    #[must_use]
    pub fn new(count: usize) -> Keyspace {
        Keyspace { dbs: (0..count).map(|_| Database::default()).collect(), ..Keyspace::default() }
    }

    /// How many databases there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.dbs.len()
    }

    /// One database.
    #[must_use]
    pub fn db(&self, index: usize) -> &Database {
        &self.dbs[index]
    }

    /// One database.
    pub fn db_mut(&mut self, index: usize) -> &mut Database {
        &mut self.dbs[index]
    }

    /// Empties a database, counts a change for each key, tells those who watch; returns what was
    /// in it.
    #[must_use]
    pub fn flush(&mut self, index: usize) -> Database {
        let db = std::mem::take(&mut self.dbs[index]);
        self.watched.touch_db(index, |key| db.get(key).is_some());
        self.dirty += db.len() as u64;
        db
    }

    /// Empties all databases; returns those that held keys.
    #[must_use]
    pub fn flush_all(&mut self) -> Vec<Database> {
        let flushed = (0..self.dbs.len()).map(|index| self.flush(index));
        flushed.filter(|db| !db.is_empty()).collect()
    }
}
