//! Stopping: by signal, by SHUTDOWN, in an orderly way and not.

use super::Server;
use crate::engine::effects::Shutdown;
use crate::sys::signals::{self, Signal};
use std::fs;
use std::io;
use std::mem;

/// How the server is to end once the turn is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Asked for by a signal: ends in any case, with code 1 if the last sync fails.
    Signal,
    /// The log has been put in order; nothing is left but to go.
    Prepared,
    /// As `Prepared`, although the log could not be put in order.
    Forced,
    /// The log could not be loaded: nothing is touched, and the code is 1.
    Failed,
}

impl Server {
    pub(super) fn stop_on_signal(&mut self, signal: Signal) {
        let name = if signal == Signal::Interrupt { "SIGINT" } else { "SIGTERM" };
        log::warn!("Received {name} scheduling shutdown...");
        self.exit = Some(Exit::Signal);
    }

    /// SHUTDOWN: the client gets an error if the log cannot be put in order, and nothing
    /// otherwise.
    ///
    /// # Errors
    /// That error.
    pub(super) fn shut_down(&mut self, shutdown: Shutdown) -> Result<(), Vec<u8>> {
        log::warn!("User requested shutdown...");
        match self.close_log() {
            Ok(()) => self.exit = Some(Exit::Prepared),
            Err(e) => {
                log::error!("The append-only file could not be synced: {e}");
                if shutdown.force {
                    log::warn!("Stopping all the same, as told.");
                    self.exit = Some(Exit::Forced);
                } else {
                    return Err(b"ERR Errors trying to SHUTDOWN. Check logs.".to_vec());
                }
            }
        }
        Ok(())
    }

    /// Ends the server; returns the process's exit code. Takes as long as the log's last sync and
    /// its helper threads, however many keys there are: they are left to the end of the process.
    pub(super) fn finish(mut self, exit: Exit) -> i32 {
        // From here on a second SIGINT ends the process at once: a sync may take long.
        if let Err(e) = signals::second_interrupt_exits() {
            log::warn!("A second SIGINT will not end the process at once: {e}");
        }
        self.listeners.clear();
        let closed = match exit {
            Exit::Signal if self.loading.is_none() => self.close_log(),
            Exit::Signal | Exit::Prepared | Exit::Forced | Exit::Failed => Ok(()),
        };
        match &closed {
            // The log is closed and durable, so what waited for that may still be said.
            Ok(()) if matches!(exit, Exit::Signal | Exit::Prepared) => self.say_goodbye(),
            Ok(()) => {}
            Err(e) => log::error!("The append-only file could not be synced: {e}. Exiting."),
        }
        self.remove_files();
        // The reason why the log was not loaded stays the last line, where people look for it.
        if exit != Exit::Failed {
            log::warn!("server_async is now ready to exit, bye bye...");
        }
        // The kernel takes the memory back as a whole, in a fraction of the time that freeing each
        // key takes. The rest is dropped: the log waits for its helper threads.
        mem::forget(self.engine.keyspace);
        i32::from(closed.is_err() || exit == Exit::Failed)
    }

    /// The loop cannot go on; what can be saved is.
    pub(super) fn stop_now(self) -> i32 {
        self.finish(Exit::Signal).max(1)
    }

    fn close_log(&mut self) -> io::Result<()> {
        if self.engine.registries.config.appendonly {
            log::info!("Calling fsync() on the AOF file.");
        }
        let closed = self.log.shutdown(self.now);
        self.kill_unwanted_child();
        closed
    }

    fn say_goodbye(&mut self) {
        let open_to = self.log.open_to(self.now);
        for (_, connection) in &mut self.connections {
            if connection.outbox.release(open_to)
                && let Err(e) = connection.send(usize::MAX)
            {
                log::debug!("Writing to client: {e}");
            }
        }
    }

    /// Removes what tells others of this server: pid file and unix socket.
    pub(super) fn remove_files(&self) {
        let config = &self.engine.registries.config;
        for path in [&config.pidfile, &config.unixsocket].into_iter().flatten() {
            match fs::remove_file(path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => log::warn!("Could not remove {}: {e}", path.display()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data::NewValue;
    use crate::keyspace::{Deadline, Entry};
    use crate::server::start::set_up;
    use crate::sys::signals::SignalFd;

    /// Dropping 10 million keys took a stop several seconds, behind its last log line.
    #[test]
    fn a_stop_frees_no_key() {
        let folder = tempfile::tempdir().expect("folder");
        let socket = folder.path().join("socket");
        let mut config = Config::default();
        config.appendonly = false;
        config.dir = ".".into();
        config.port = 0;
        config.unixsocket = Some(socket.clone());
        let signals = SignalFd::install().expect("signals");
        let mut server = set_up(&mut config, &[], None, signals).expect("a server");
        for n in 0..100_i64 {
            let key = n.to_string().into_bytes();
            server.engine.keyspace.db_mut(0).set(&key, NewValue::Int(n), Deadline::Clear);
        }
        assert!(server.engine.keyspace.db_mut(0).remove(b"1"));
        let before = Entry::freed_by_this_thread();
        assert!(before > 0, "what is freed is counted");
        assert_eq!(server.finish(Exit::Prepared), 0);
        assert_eq!(Entry::freed_by_this_thread(), before);
        assert!(!socket.exists());
    }
}
