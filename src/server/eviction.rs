//! Eviction between commands: what there was no time for when a command asked for room.

use super::Server;
use crate::engine::eviction;

impl Server {
    /// Goes on with evictions that were cut off, or that a lower `maxmemory` asks for: once a turn,
    /// for as long as ahead of a command.
    pub(super) fn evict_more(&mut self) {
        if !self.engine.registries.eviction.goes_on {
            return;
        }
        // What deletions add to the log is held back as what clients write is.
        if self.log.holds_writers() {
            return;
        }
        if self.log.refuses_writes() || self.loading.is_some() {
            // Commands will ask again when that is over.
            self.engine.registries.eviction.goes_on = false;
            return;
        }
        self.tell_log_buffers();
        let engine = &mut self.engine;
        let (keyspace, registries) = (&mut engine.keyspace, &mut engine.registries);
        // No room even so: commands that need some are told.
        let _ = eviction::make_room(keyspace, registries, &mut engine.effects, self.now.unix);
        self.log_removed();
    }

    /// `maxmemory` has changed: keys go if it is less than what is in use.
    pub(super) fn limit_memory(&mut self) {
        let limit = self.engine.registries.config.maxmemory_bytes;
        if limit == 0 {
            return;
        }
        self.look_at_memory();
        let used = self.engine.registries.memory.counted_bytes();
        if limit < used {
            log::warn!(
                "WARNING: the new maxmemory value set via CONFIG SET ({limit}) is smaller than the \
                 current memory usage ({used}). This will result in key eviction and/or the \
                 inability to accept new write commands depending on the maxmemory-policy."
            );
        }
        self.engine.registries.eviction.goes_on = true;
    }
}
