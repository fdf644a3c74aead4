//! Sockets: listeners and connections.

pub mod connection;
pub mod listener;
pub mod outbox;
