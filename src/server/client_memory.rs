//! What all clients' buffers hold together, and closing the largest clients when that is more than
//! `maxmemory-clients`.

use super::Server;

/// The sum over all connections, kept up to date as each is read from and sent to.
#[derive(Debug, Default)]
pub(super) struct ClientMemory {
    /// Invariant: the sum of the connections' `counted_bytes`.
    pub(super) total_bytes: usize,
    /// A total over the limit that could not be brought down, since all who hold it are exempt: no
    /// look at all clients is worth it until it has grown. 0 if there is none.
    exempt_bytes: usize,
}

impl Server {
    /// Brings the sum up to date for client `key`. O(1).
    ///
    /// What the log withholds does not count: that is not the client's doing, and it is bounded
    /// elsewhere.
    pub(super) fn count_memory(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let bytes = connection.memory_bytes().saturating_sub(connection.outbox.withheld());
        let before = std::mem::replace(&mut connection.counted_bytes, bytes);
        self.memory.total_bytes = self.memory.total_bytes - before + bytes;
    }

    /// Closes the largest clients until all together are within the limit again; those that have asked
    /// for it by CLIENT NO-EVICT are spared. O(1) within the limit, else O(clients log clients).
    pub(super) fn evict_clients(&mut self) {
        let Some(limit) = self.client_memory_limit() else { return };
        let total = self.memory.total_bytes;
        if total <= limit {
            self.memory.exempt_bytes = 0;
            return;
        }
        if total <= self.memory.exempt_bytes {
            self.memory.exempt_bytes = total;
            return;
        }
        let mut evictable: Vec<(usize, usize)> = (self.connections.iter())
            .filter(|(_, connection)| !connection.session.no_evict && !connection.is_doomed)
            .map(|(key, connection)| (connection.counted_bytes, key))
            .collect();
        evictable.sort_unstable();
        let doomed = self.connections.iter().filter(|(_, connection)| connection.is_doomed);
        let mut left = total - doomed.map(|(_, c)| c.counted_bytes).sum::<usize>();
        while left > limit
            && let Some((bytes, key)) = evictable.pop()
        {
            left -= bytes;
            log::warn!(
                "Evicting client {}, which holds {bytes} bytes: all clients hold more than \
                 maxmemory-clients",
                self.connections[key].session.id
            );
            self.engine.registries.stats.evicted_clients += 1;
            self.doom(key);
        }
        self.memory.exempt_bytes = if left > limit { left } else { 0 };
    }

    /// The limit, if there is one, bytes.
    fn client_memory_limit(&self) -> Option<usize> {
        let config = &self.engine.registries.config;
        let limit = config.maxmemory_clients.bytes(config.maxmemory_bytes)?;
        Some(usize::try_from(limit).unwrap_or(usize::MAX))
    }
}
