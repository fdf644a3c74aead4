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
}
