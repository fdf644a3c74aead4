//! The one table of parameters: flag, configuration file, CONFIG GET and SET, and --help.

/// Who may run a protected command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtectedAction {
    /// Nobody.
    No,
    /// Anybody.
    Yes,
    /// Clients on this machine.
    Local,
}

/// Parameters.
#[derive(Clone, Debug)]
pub struct Config {
    /// `enable-debug-command`.
    pub enable_debug_command: ProtectedAction,
    /// `proto-max-bulk-len`, bytes.
    pub proto_max_bulk_bytes: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config { enable_debug_command: ProtectedAction::Local, proto_max_bulk_bytes: 512 << 20 }
    }
}
