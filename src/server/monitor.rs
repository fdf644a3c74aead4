//! MONITOR: showing some clients what all of them run.

use super::Server;
use crate::net::connection::Stream;
use crate::sys::clock;

/// Lines withheld by the log pile up at a monitor with nothing to stop them, since it asks for
/// nothing; beyond this it is closed rather than shown half.
const MAX_WITHHELD_LINES_BYTES: usize = 64 << 20;

impl Server {
    /// Shows those who monitor what client `key` has just run. A line reveals a write, so it waits
    /// for the log like a reply.
    pub(super) fn show_monitors(&mut self, key: usize) {
        let observed = std::mem::take(&mut self.engine.effects.observed);
        let now_us = clock::unix_us();
        let client = match &self.connections[key].stream {
            tcp @ Stream::Tcp(_) => tcp.peer(""),
            Stream::Unix(_) => {
                let path = &self.engine.registries.config.unixsocket;
                path.as_ref().map_or("unix:".into(), |path| format!("unix:{}", path.display()))
            }
        };
        let mut lines = Vec::new();
        for command in &observed {
            let (sec, us) = (now_us.div_euclid(1_000_000), now_us.rem_euclid(1_000_000));
            let head = format!("+{sec}.{us:06} [{} {client}] ", command.db);
            lines.extend_from_slice(head.as_bytes());
            lines.extend_from_slice(&command.text);
            lines.extend_from_slice(b"\r\n");
        }
        let monitors = std::mem::take(&mut self.attention.monitors);
        for (key, client) in monitors {
            let connection = self.connections.get_mut(key);
            let Some(connection) =
                connection.filter(|c| c.session.id == client && c.session.monitor && !c.is_doomed)
            else {
                continue;
            };
            connection.outbox.buffer().extend_from_slice(&lines);
            connection.outbox.cover(self.log.appended(), self.log.written());
            if connection.outbox.withheld() > MAX_WITHHELD_LINES_BYTES {
                log::warn!("Closing monitor {client}: the log withholds too much of what it shows");
                self.doom(key);
                continue;
            }
            self.touch(key);
            self.attention.monitors.push((key, client));
        }
        self.engine.effects.monitored = !self.attention.monitors.is_empty();
    }
}
