//! Running a command: context, session, command table, effects, errors.

pub mod calls;
pub mod command;
pub mod cx;
pub mod effects;
pub mod error;
pub mod eviction;
pub mod execute;
pub mod latency;
pub mod memory;
pub mod registries;
pub mod session;
pub mod slowlog;
#[cfg(test)]
pub mod testing;
