//! CONFIG REWRITE: on a thread of its own, since it waits for the disk.

use super::Server;
use crate::config::rewrite::rewrite_file;
use crate::net::connection::Blocked;
use crate::sys::schedule;
use nix::errno::Errno;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;

/// What a rewrite came to.
type Outcome = Result<(), String>;

/// A client that waits for a rewrite: its connection's key, and its id.
type Asker = (usize, u64);

/// The rewrite of the configuration file under way, and who waits for which.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    /// One at a time, so that the last one writes the latest configuration.
    running: Option<Receiver<Outcome>>,
    /// Those who are told of it.
    askers: Vec<Asker>,
    /// Those who have asked since it began, and so wait for the next.
    late_askers: Vec<Asker>,
}

/// Why something failed, as Redis words it.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    }
}

impl Server {
    /// Has the configuration written to its file. Client `key`, whose reply is held, is told when
    /// that is done.
    pub(super) fn rewrite_config_file(&mut self, key: usize) {
        self.config_file.late_askers.push((key, self.connections[key].session.id));
        if self.config_file.running.is_none() {
            self.begin_config_rewrite();
        }
    }

    fn begin_config_rewrite(&mut self) {
        let registries = &self.engine.registries;
        let Some(path) = registries.identity.config_file.clone() else { return };
        let config = registries.config.clone();
        let wake = Arc::clone(&self.wake);
        let (sender, receiver) = mpsc::channel();
        self.config_file.askers = std::mem::take(&mut self.config_file.late_askers);
        self.config_file.running = Some(receiver);
        let spawned = thread::Builder::new().name("config-rewrite".into()).spawn(move || {
            // A wish: it would have the loop's short turns.
            let _ = schedule::set_slice(None);
            let outcome = rewrite_file(&path, &config).map_err(|e| reason(&e));
            // Nobody listens any more only when the server ends.
            let _ = sender.send(outcome);
            wake();
        });
        if let Err(e) = spawned {
            self.end_config_rewrite(Err(format!("no thread for it: {e}")));
        }
    }

    /// Tells those who wait for a rewrite that has ended, and begins the next if it is wanted.
    pub(super) fn look_after_config_rewrite(&mut self) {
        let Some(running) = &self.config_file.running else { return };
        match running.try_recv() {
            Ok(outcome) => self.end_config_rewrite(outcome),
            Err(TryRecvError::Disconnected) => self.end_config_rewrite(Err("it broke off".into())),
            Err(TryRecvError::Empty) => {}
        }
    }

    fn end_config_rewrite(&mut self, outcome: Outcome) {
        match &outcome {
            Ok(()) => log::info!("CONFIG REWRITE executed with success."),
            Err(why) => log::warn!("CONFIG REWRITE failed: {why}"),
        }
        self.config_file.running = None;
        for (key, client) in std::mem::take(&mut self.config_file.askers) {
            let connection = self.connections.get(key).filter(|c| c.session.id == client);
            if connection.is_none_or(|c| c.blocked != Some(Blocked::ConfigRewrite)) {
                continue;
            }
            let error = outcome.as_ref().err();
            let error = error.map(|why| format!("ERR Rewriting config file: {why}").into_bytes());
            self.release_held(key, error.as_deref().map_or(Ok(()), Err));
        }
        if !self.config_file.late_askers.is_empty() {
            self.begin_config_rewrite();
        }
    }
}
