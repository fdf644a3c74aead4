//! The table of parameters.
//!
//! A row without a field is a parameter of Redis that means nothing here: it is checked as Redis
//! checks it, its value is kept, and CONFIG GET shows it. Giving it a field is what makes it mean
//! something.

use super::value::{Kind, Refusal, Value, WrongType, store, store_limits, store_path};
use super::{Config, SetContext};
use crate::text::cpu_list::CpuList;

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The name in redis.conf, as a flag and in CONFIG GET.
    pub name: &'static str,
    /// A second name, from an older Redis.
    pub alias: Option<&'static str>,
    /// Which values it takes.
    pub kind: Kind,
    /// The default as one would write it in redis.conf.
    pub default: &'static str,
    /// Where `--help` shows it.
    pub section: Section,
    /// What `--help` says of it.
    pub help: &'static str,
    /// Whether CONFIG SET may change it.
    pub mutability: Mutability,
    visibility: Visibility,
    sensitive: bool,
    denied_while_loading: bool,
    access: Access,
}

/// Headings of `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Process, log, directory.
    General,
    /// Sockets.
    Network,
    /// Limits on clients.
    Clients,
    /// What is done when memory runs short, and how it is given back.
    Memory,
    /// The append-only file.
    Durability,
    /// Who may do what.
    Security,
    /// Taken and kept, without effect.
    Compatibility,
}

impl Section {
    /// The sections in the order of `--help`.
    pub const ALL: [Section; 7] = [
        Section::General,
        Section::Network,
        Section::Clients,
        Section::Memory,
        Section::Durability,
        Section::Security,
        Section::Compatibility,
    ];

    /// The heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Section::General => "General",
            Section::Network => "Network",
            Section::Clients => "Clients",
            Section::Memory => "Memory",
            Section::Durability => "Append-only file",
            Section::Security => "Security",
            Section::Compatibility => "Taken for the sake of redis.conf, without effect here",
        }
    }
}

/// Whether CONFIG SET may change a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutability {
    /// Yes.
    Mutable,
    /// As `enable-protected-configs` says.
    Protected,
    /// No.
    Immutable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visibility {
    /// Found by patterns.
    Listed,
    /// Found by name alone.
    Hidden,
    /// Known to configuration files and flags alone; may be given more than once.
    FileOnly,
}

#[derive(Clone, Copy, Debug)]
enum Access {
    /// In a field of its own.
    Field { get: fn(&Config) -> Value, set: fn(&mut Config, Value) -> Result<(), WrongType> },
    /// As text.
    Kept,
}

/// Why CONFIG SET refuses a parameter whatever the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSettable {
    Loading,
    Because(&'static str),
}

impl Parameter {
    const fn alias(mut self, alias: &'static str) -> Parameter {
        self.alias = Some(alias);
        self
    }

    const fn immutable(mut self) -> Parameter {
        self.mutability = Mutability::Immutable;
        self
    }

    const fn protected(mut self) -> Parameter {
        self.mutability = Mutability::Protected;
        self
    }

    const fn hidden(mut self) -> Parameter {
        self.visibility = Visibility::Hidden;
        self
    }

    const fn sensitive(mut self) -> Parameter {
        self.sensitive = true;
        self
    }

    const fn denied_while_loading(mut self) -> Parameter {
        self.denied_while_loading = true;
        self
    }

    const fn help(mut self, section: Section, help: &'static str) -> Parameter {
        self.section = section;
        self.help = help;
        self
    }

    const fn field(
        mut self,
        get: fn(&Config) -> Value,
        set: fn(&mut Config, Value) -> Result<(), WrongType>,
    ) -> Parameter {
        self.access = Access::Field { get, set };
        self
    }

    /// Whether the parameter has an effect on this server.
    #[must_use]
    pub fn means_something(&self) -> bool {
        matches!(self.access, Access::Field { .. })
    }

    /// Whether its value must not be shown to the eyes that read logs.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.sensitive
    }

    /// Whether CONFIG GET finds it by a pattern.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.visibility == Visibility::Listed
    }

    /// Whether CONFIG GET and SET know its name.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        self.visibility != Visibility::FileOnly
    }

    /// The name, then the alias.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.alias)
    }

    /// The value as CONFIG GET shows it.
    #[must_use]
    pub fn show(&self, config: &Config) -> Vec<u8> {
        match self.access {
            Access::Field { get, .. } => self.kind.show(&get(config)),
            Access::Kept => {
                config.kept.get(self.name).cloned().unwrap_or_else(|| self.default_shown())
            }
        }
    }

    /// The default as CONFIG GET shows it.
    #[must_use]
    pub fn default_shown(&self) -> Vec<u8> {
        let default = self.kind.parse(&self.split(self.default.as_bytes()));
        default.map_or_else(|_| self.default.as_bytes().to_vec(), |v| self.kind.show(&v))
    }

    /// Sets the value from the words of a configuration line.
    ///
    /// # Errors
    /// Why the value is refused, in Redis's words; nothing is changed then.
    pub fn set_words(&self, config: &mut Config, words: &[&[u8]]) -> Result<(), Refusal> {
        let value = self.kind.parse(words)?;
        match self.access {
            Access::Field { set, .. } => {
                set(config, value).map_err(|WrongType| "argument is of the wrong type".into())
            }
            Access::Kept => {
                config.kept.insert(self.name, self.kind.show(&value));
                Ok(())
            }
        }
    }

    /// Sets the value from one text, as CONFIG SET has it: where the kind takes several words they
    /// stand a blank apart.
    ///
    /// # Errors
    /// As [`Parameter::set_words`].
    pub fn set_text(&self, config: &mut Config, text: &[u8]) -> Result<(), Refusal> {
        self.set_words(config, &self.split(text))
    }

    /// Gives `to` the value that `from` has.
    ///
    /// # Errors
    /// As [`Parameter::set_words`]; only a row of the table that contradicts itself has one.
    pub(super) fn copy(&self, from: &Config, to: &mut Config) -> Result<(), Refusal> {
        match self.access {
            Access::Field { get, set } => {
                set(to, get(from)).map_err(|WrongType| "argument is of the wrong type".into())
            }
            Access::Kept => {
                match from.kept.get(self.name) {
                    Some(value) => to.kept.insert(self.name, value.clone()),
                    None => to.kept.remove(self.name),
                };
                Ok(())
            }
        }
    }

    pub(super) fn set_default(&self, config: &mut Config) -> Result<(), Refusal> {
        self.set_text(config, self.default.as_bytes())
    }

    fn split<'t>(&self, text: &'t [u8]) -> Vec<&'t [u8]> {
        match (self.kind.takes_several_words(), text) {
            (true, b"") => Vec::new(),
            (true, text) => text.split(|&b| b == b' ').collect(),
            (false, text) => vec![text],
        }
    }

    /// Whether CONFIG SET may touch the parameter at all.
    pub(super) fn check_settable(
        &self,
        config: &Config,
        context: SetContext,
    ) -> Result<(), NotSettable> {
        match self.mutability {
            Mutability::Immutable => {
                return Err(NotSettable::Because("can't set immutable config"));
            }
            Mutability::Protected if !protected_may_change(config, context) => {
                return Err(NotSettable::Because("can't set protected config"));
            }
            _ => {}
        }
        if self.denied_while_loading && context.loading {
            return Err(NotSettable::Loading);
        }
        Ok(())
    }
}

fn protected_may_change(config: &Config, context: SetContext) -> bool {
    let Some((_, allowed)) = find(b"enable-protected-configs") else { return false };
    match allowed.show(config).as_slice() {
        b"yes" => true,
        b"local" => context.client_is_local,
        _ => false,
    }
}

/// Finds a parameter by its name or alias in any case, and says which of the two it was.
#[must_use]
pub fn find(name: &[u8]) -> Option<(&'static str, &'static Parameter)> {
    PARAMETERS.iter().find_map(|parameter| {
        let mut names = parameter.names();
        let known = names.find(|known| known.as_bytes().eq_ignore_ascii_case(name))?;
        Some((known, parameter))
    })
}

/// The parameters without effect whose value in `config` is not the default.
#[must_use]
pub fn without_effect(config: &Config) -> Vec<&'static str> {
    let differs = |p: &&Parameter| {
        config.kept.get(p.name).is_some_and(|v| !p.is_visible() || *v != p.default_shown())
    };
    PARAMETERS.iter().filter(differs).map(|p| p.name).collect()
}

const INT_MAX: i64 = i32::MAX as i64;
const UINT_MAX: i64 = u32::MAX as i64;
const PORT_MAX: i64 = u16::MAX as i64;
const LONG_MAX: i64 = i64::MAX;
const MEMORY_MAX: u64 = i64::MAX as u64;

const fn parameter(name: &'static str, kind: Kind, default: &'static str) -> Parameter {
    Parameter {
        name,
        alias: None,
        kind,
        default,
        section: Section::Compatibility,
        help: "",
        mutability: Mutability::Mutable,
        visibility: Visibility::Listed,
        sensitive: false,
        denied_while_loading: false,
        access: Access::Kept,
    }
}

const fn yes_no(name: &'static str, default: &'static str) -> Parameter {
    parameter(name, Kind::YesNo, default)
}

const fn integer(name: &'static str, min: i64, max: i64, default: &'static str) -> Parameter {
    parameter(name, Kind::Integer { min, max }, default)
}

const fn memory(name: &'static str, min: u64, max: u64, default: &'static str) -> Parameter {
    parameter(name, Kind::Memory { min, max }, default)
}

const fn choice(
    name: &'static str,
    names: &'static [&'static str],
    default: &'static str,
) -> Parameter {
    parameter(name, Kind::Choice { names, shown_as: &[] }, default)
}

const fn text(name: &'static str, default: &'static str) -> Parameter {
    checked_text(name, |_| Ok(()), default)
}

const fn checked_text(
    name: &'static str,
    check: fn(&[u8]) -> Result<(), &'static str>,
    default: &'static str,
) -> Parameter {
    parameter(name, Kind::Text { check }, default)
}

const fn directive(name: &'static str, min_words: usize, max_words: usize) -> Parameter {
    let mut row = parameter(name, Kind::Directive { min_words, max_words }, "").immutable();
    row.visibility = Visibility::FileOnly;
    row
}

const NO_YES_LOCAL: &[&str] = &["no", "yes", "local"];
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

use Section::{Clients, Durability, General, Memory, Network, Security};

/// Every parameter.
pub static PARAMETERS: &[Parameter] = &[
    // General
    directive("include", 1, 1).help(General, "read another file in its place, or all that match"),
    text("dir", ".")
        .immutable()
        .help(General, "working directory; the append-only file is in it")
        .field(|c| (&c.dir).into(), |c, v| store(&mut c.dir, v)),
    integer("databases", 1, INT_MAX, "16")
        .immutable()
        .help(General, "number of databases")
        .field(|c| c.databases.into(), |c, v| store(&mut c.databases, v)),
    yes_no("daemonize", "no")
        .immutable()
        .help(General, "run in the background")
        .field(|c| c.daemonize.into(), |c, v| store(&mut c.daemonize, v)),
    text("pidfile", "")
        .immutable()
        .help(General, "file that holds the process id while the server runs")
        .field(|c| (&c.pidfile).into(), |c, v| store_path(&mut c.pidfile, v)),
    choice("loglevel", &["debug", "verbose", "notice", "warning", "nothing"], "notice")
        .help(General, "least severe lines that are logged")
        .field(|c| c.loglevel.into(), |c, v| store(&mut c.loglevel, v)),
    text("logfile", "")
        .immutable()
        .help(General, "file for the log; empty is standard output")
        .field(|c| (&c.logfile).into(), |c, v| store_path(&mut c.logfile, v)),
    integer("hz", 0, INT_MAX, "10")
        .help(General, "turns a second of the periodic work, from 1 to 500")
        .field(
            |c| c.hz.into(),
            |c, v| {
                store(&mut c.hz, v)?;
                c.hz = c.hz.clamp(HZ_MIN, HZ_MAX);
                Ok(())
            },
        ),
    integer("busy-poll-usec", 0, 1_000_000, "0")
        .help(General, "microseconds to go on asking for events before sleeping; 0 sleeps at once")
        .field(|c| c.busy_poll_us.into(), |c, v| store(&mut c.busy_poll_us, v)),
    integer("gather-usec", 0, 1_000, "50")
        .help(General, "microseconds to let requests of many clients gather; 0 takes each at once")
        .field(|c| c.gather_us.into(), |c, v| store(&mut c.gather_us, v)),
    yes_no("disable-thp", "no")
        .immutable()
        .help(General, "keep data in small pages: longer forks, slower reads, memory given back")
        .field(|c| c.disable_thp.into(), |c, v| store(&mut c.disable_thp, v)),
    checked_text("server_cpulist", check_cpu_list, "")
        .immutable()
        .help(General, "processors for the loop, as in 0,2-3; empty is any")
        .field(|c| (&c.server_cpulist).into(), |c, v| store(&mut c.server_cpulist, v)),
    checked_text("bio_cpulist", check_cpu_list, "")
        .immutable()
        .help(General, "processors for the helper threads; empty is any")
        .field(|c| (&c.bio_cpulist).into(), |c, v| store(&mut c.bio_cpulist, v)),
    integer("latency-monitor-threshold", 0, LONG_MAX, "0")
        .help(General, "milliseconds from which LATENCY takes note of an event; 0 is never")
        .field(
            |c| Value::Integer(c.latency_monitor_threshold_ms.cast_signed()),
            |c, v| {
                let Value::Integer(ms) = v else { return Err(WrongType) };
                c.latency_monitor_threshold_ms = ms.cast_unsigned();
                Ok(())
            },
        ),
    yes_no("latency-tracking", "yes")
        .help(General, "keep the distribution of each command's times")
        .field(|c| c.latency_tracking.into(), |c, v| store(&mut c.latency_tracking, v)),
    parameter("latency-tracking-info-percentiles", Kind::Percentiles, "50 99 99.9")
        .help(General, "percentiles of these times that INFO latencystats tells")
        .field(
            |c| Value::Percentiles(c.latency_percentiles.clone()),
            |c, v| {
                let Value::Percentiles(percentiles) = v else { return Err(WrongType) };
                c.latency_percentiles = percentiles;
                Ok(())
            },
        ),
    integer("active-expire-effort", 1, 10, "1")
        .help(General, "how much is done to remove keys soon after their deadline")
        .field(|c| c.active_expire_effort.into(), |c, v| store(&mut c.active_expire_effort, v)),
    integer("slowlog-log-slower-than", -1, LONG_MAX, "10000")
        .help(General, "microseconds from which SLOWLOG keeps a command; -1 is never")
        .field(
            |c| Value::Integer(c.slowlog_log_slower_than_us),
            |c, v| {
                let Value::Integer(us) = v else { return Err(WrongType) };
                c.slowlog_log_slower_than_us = us;
                Ok(())
            },
        ),
    integer("slowlog-max-len", 0, LONG_MAX, "128")
        .help(General, "most commands that SLOWLOG keeps")
        .field(
            |c| Value::Integer(c.slowlog_max_len.cast_signed()),
            |c, v| {
                let Value::Integer(len) = v else { return Err(WrongType) };
                c.slowlog_max_len = len.cast_unsigned();
                Ok(())
            },
        ),
    // Network
    integer("port", 0, PORT_MAX, "7379")
        .help(Network, "TCP port; 0 listens on none")
        .field(|c| c.port.into(), |c, v| store(&mut c.port, v)),
    parameter("bind", Kind::Addresses, "* -::*")
        .help(Network, "addresses to listen on; one written after a - may be unavailable")
        .field(
            |c| Value::Addresses(c.bind.clone()),
            |c, v| {
                let Value::Addresses(list) = v else { return Err(WrongType) };
                c.bind = list;
                Ok(())
            },
        ),
    text("unixsocket", "")
        .immutable()
        .help(Network, "path of a unix socket to listen on")
        .field(|c| (&c.unixsocket).into(), |c, v| store_path(&mut c.unixsocket, v)),
    parameter("unixsocketperm", Kind::Octal { max: 0o777 }, "0")
        .immutable()
        .help(Network, "permissions of the unix socket; 0 leaves them to the umask")
        .field(|c| Value::Octal(c.unixsocketperm), |c, v| store(&mut c.unixsocketperm, v)),
    integer("tcp-backlog", 0, INT_MAX, "511")
        .immutable()
        .help(Network, "connections that may wait to be accepted")
        .field(|c| c.tcp_backlog.into(), |c, v| store(&mut c.tcp_backlog, v)),
    integer("tcp-keepalive", 0, INT_MAX, "300")
        .help(Network, "seconds between probes of silent connections; 0 sends none")
        .field(|c| c.tcp_keepalive_s.into(), |c, v| store(&mut c.tcp_keepalive_s, v)),
    integer("timeout", 0, INT_MAX, "0")
        .help(Network, "seconds until an idle client is closed; 0 is never")
        .field(|c| c.timeout_s.into(), |c, v| store(&mut c.timeout_s, v)),
    // Clients
    integer("maxclients", 1, UINT_MAX, "10000")
        .help(Clients, "most clients at a time")
        .field(|c| c.maxclients.into(), |c, v| store(&mut c.maxclients, v)),
    memory("proto-max-bulk-len", MIB, MEMORY_MAX, "512mb")
        .help(Clients, "longest argument of a command; what memory cannot hold is refused")
        .field(|c| c.proto_max_bulk_bytes.into(), |c, v| store(&mut c.proto_max_bulk_bytes, v)),
    memory("client-query-buffer-limit", MIB, MEMORY_MAX, "1gb")
        .help(Clients, "most bytes of a client's incomplete commands")
        .field(
            |c| c.client_query_buffer_limit_bytes.into(),
            |c, v| store(&mut c.client_query_buffer_limit_bytes, v),
        ),
    parameter(
        "client-output-buffer-limit",
        Kind::OutputBufferLimits,
        "normal 0 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60",
    )
    .help(Clients, "replies that may wait for a client of a class until it is closed")
    .field(
        |c| c.client_output_buffer_limits.into(),
        |c, v| store_limits(&mut c.client_output_buffer_limits, v),
    ),
    parameter("maxmemory-clients", Kind::MemoryOrPercent, "0")
        .help(Clients, "most memory of all clients' buffers; beyond it the largest are closed")
        .field(|c| c.maxmemory_clients.into(), |c, v| store(&mut c.maxmemory_clients, v)),
    // Durability
    yes_no("appendonly", "yes")
        .denied_while_loading()
        .help(Durability, "write every change to the append-only file")
        .field(|c| c.appendonly.into(), |c, v| store(&mut c.appendonly, v)),
    checked_text("appendfilename", check_append_file_name, "appendonly.aof")
        .immutable()
        .help(Durability, "name of the append-only file")
        .field(|c| (&c.appendfilename).into(), |c, v| store(&mut c.appendfilename, v)),
    choice("appendfsync", &["everysec", "always", "no"], "everysec")
        .help(
            Durability,
            "when it is synced: within a second, before each reply, or as the system likes",
        )
        .field(|c| c.appendfsync.into(), |c, v| store(&mut c.appendfsync, v)),
    integer("auto-aof-rewrite-percentage", 0, INT_MAX, "100")
        .help(Durability, "growth since the last rewrite that starts one; 0 is never")
        .field(
            |c| c.auto_aof_rewrite_percentage.into(),
            |c, v| store(&mut c.auto_aof_rewrite_percentage, v),
        ),
    memory("auto-aof-rewrite-min-size", 0, MEMORY_MAX, "64mb")
        .help(Durability, "size below which no rewrite starts by itself")
        .field(
            |c| c.auto_aof_rewrite_min_bytes.into(),
            |c, v| store(&mut c.auto_aof_rewrite_min_bytes, v),
        ),
    yes_no("aof-load-truncated", "yes")
        .help(Durability, "cut a tail that a crash tore, and start; no refuses to start")
        .field(|c| c.aof_load_truncated.into(), |c, v| store(&mut c.aof_load_truncated, v)),
    yes_no("aof-seals", "yes")
        .immutable()
        .help(Durability, "end each group of writes with a checksum line; no is for older Redis")
        .field(|c| c.aof_seals.into(), |c, v| store(&mut c.aof_seals, v)),
    yes_no("aof-rewrite-incremental-fsync", "yes")
        .help(Durability, "write a rewritten file out in steps")
        .field(
            |c| c.aof_rewrite_incremental_fsync.into(),
            |c, v| store(&mut c.aof_rewrite_incremental_fsync, v),
        ),
    integer("aof-rewrite-timeout", 0, INT_MAX, "60")
        .help(Durability, "seconds after which a rewrite that writes nothing is killed; 0 is never")
        .field(|c| c.aof_rewrite_timeout_s.into(), |c, v| store(&mut c.aof_rewrite_timeout_s, v)),
    memory("aof-rewrite-diff-max", 1 << 20, MEMORY_MAX, "64mb")
        .help(
            Durability,
            "memory for what is written during a rewrite; the rest is read back from the file",
        )
        .field(
            |c| c.aof_rewrite_diff_max_bytes.into(),
            |c, v| store(&mut c.aof_rewrite_diff_max_bytes, v),
        ),
    memory("aof-max-size", 0, MEMORY_MAX, "0")
        .help(
            Durability,
            "size of the file at which it is rewritten and, if that does not help, writes are \
             refused; 0 is none",
        )
        .field(|c| c.aof_max_bytes.into(), |c, v| store(&mut c.aof_max_bytes, v)),
    integer("aof-keep-before-rewrite", 0, 1_000, "0")
        .help(Durability, "how many files from before rewrites are kept beside the file")
        .field(
            |c| c.aof_keep_before_rewrite.into(),
            |c, v| store(&mut c.aof_keep_before_rewrite, v),
        ),
    checked_text("aof_rewrite_cpulist", check_cpu_list, "")
        .immutable()
        .help(Durability, "processors for a rewrite's child, as in 0,2-3; empty is any")
        .field(|c| (&c.aof_rewrite_cpulist).into(), |c, v| store(&mut c.aof_rewrite_cpulist, v)),
    integer("aof-rewrite-nice", 0, 19, "0")
        .help(Durability, "how far a rewrite's child steps back for other processes, 0 to 19")
        .field(|c| c.aof_rewrite_nice.into(), |c, v| store(&mut c.aof_rewrite_nice, v)),
    // Security
    yes_no("protected-mode", "yes")
        .help(Security, "without a password, refuse clients from other machines")
        .field(|c| c.protected_mode.into(), |c, v| store(&mut c.protected_mode, v)),
    parameter("requirepass", Kind::Binary, "")
        .sensitive()
        .help(Security, "password that clients must give; empty is none")
        .field(
            |c| Value::Text(c.requirepass.clone().unwrap_or_default()),
            |c, v| {
                let Value::Text(password) = v else { return Err(WrongType) };
                c.requirepass = (!password.is_empty()).then_some(password);
                Ok(())
            },
        ),
    choice("enable-debug-command", NO_YES_LOCAL, "local")
        .immutable()
        .help(Security, "who may use DEBUG: nobody, everybody, clients on this machine")
        .field(|c| c.enable_debug_command.into(), |c, v| store(&mut c.enable_debug_command, v)),
    // Without effect, in the order of redis.conf: directives that are no parameters
    directive("loadmodule", 1, usize::MAX),
    directive("rename-command", 2, 2).sensitive(),
    directive("user", 1, usize::MAX).sensitive(),
    directive("list-max-ziplist-entries", 1, 1),
    directive("list-max-ziplist-value", 1, 1),
    directive("lua-replicate-commands", 1, 1),
    // Network and TLS
    text("bind-source-addr", ""),
    integer("socket-mark-id", 0, UINT_MAX, "0").immutable(),
    integer("tls-port", 0, PORT_MAX, "0"),
    text("tls-cert-file", ""),
    text("tls-key-file", ""),
    text("tls-key-file-pass", "").sensitive(),
    text("tls-client-cert-file", ""),
    text("tls-client-key-file", ""),
    text("tls-client-key-file-pass", "").sensitive(),
    text("tls-dh-params-file", ""),
    text("tls-ca-cert-file", ""),
    text("tls-ca-cert-dir", ""),
    choice("tls-auth-clients", &["no", "yes", "optional"], "yes"),
    yes_no("tls-replication", "no"),
    yes_no("tls-cluster", "no"),
    text("tls-protocols", ""),
    text("tls-ciphers", ""),
    text("tls-ciphersuites", ""),
    yes_no("tls-prefer-server-ciphers", "no"),
    yes_no("tls-session-caching", "yes"),
    integer("tls-session-cache-size", 0, INT_MAX, "20480"),
    integer("tls-session-cache-timeout", 0, INT_MAX, "300"),
    // General
    choice("supervised", &["upstart", "systemd", "auto", "no"], "no").immutable(),
    yes_no("syslog-enabled", "no").immutable(),
    text("syslog-ident", "redis").immutable(),
    choice(
        "syslog-facility",
        &["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"],
        "local0",
    )
    .immutable(),
    yes_no("crash-log-enabled", "yes"),
    yes_no("crash-memcheck-enabled", "yes"),
    yes_no("always-show-logo", "no").immutable(),
    yes_no("set-proc-title", "yes").immutable(),
    checked_text(
        "proc-title-template",
        check_title_template,
        "{title} {listen-addr} {server-mode}",
    ),
    text("locale-collate", ""),
    choice("enable-protected-configs", NO_YES_LOCAL, "no").immutable(),
    choice("enable-module-command", NO_YES_LOCAL, "no").immutable(),
    text("ignore-warnings", ""),
    yes_no("gopher-enabled", "no").hidden(),
    // Snapshots: none are made, so there is no default schedule
    parameter("save", Kind::SavePoints, ""),
    yes_no("stop-writes-on-bgsave-error", "yes"),
    yes_no("rdbcompression", "yes"),
    yes_no("rdbchecksum", "yes").immutable(),
    choice("sanitize-dump-payload", &["no", "yes", "clients"], "no"),
    checked_text("dbfilename", check_dump_file_name, "dump.rdb").protected(),
    yes_no("rdb-del-sync-files", "no"),
    yes_no("rdb-save-incremental-fsync", "yes"),
    integer("rdb-key-save-delay", i32::MIN as i64, INT_MAX, "0").hidden(),
    integer("key-load-delay", i32::MIN as i64, INT_MAX, "0").hidden(),
    // Replication
    parameter("replicaof", Kind::ReplicaOf, "no one").alias("slaveof").immutable(),
    parameter("masterauth", Kind::Binary, "").sensitive(),
    text("masteruser", "").sensitive(),
    yes_no("replica-serve-stale-data", "yes").alias("slave-serve-stale-data"),
    yes_no("replica-read-only", "yes").alias("slave-read-only"),
    yes_no("repl-diskless-sync", "yes"),
    integer("repl-diskless-sync-delay", 0, INT_MAX, "5"),
    integer("repl-diskless-sync-max-replicas", 0, INT_MAX, "0"),
    choice("repl-diskless-load", &["disabled", "on-empty-db", "swapdb"], "disabled")
        .denied_while_loading(),
    integer("repl-ping-replica-period", 1, INT_MAX, "10").alias("repl-ping-slave-period"),
    integer("repl-timeout", 1, INT_MAX, "60"),
    yes_no("repl-disable-tcp-nodelay", "no"),
    memory("repl-backlog-size", 1, MEMORY_MAX, "1mb"),
    integer("repl-backlog-ttl", 0, LONG_MAX, "3600"),
    integer("replica-priority", 0, INT_MAX, "100").alias("slave-priority"),
    choice("propagation-error-behavior", &["ignore", "panic", "panic-on-replicas"], "ignore"),
    yes_no("replica-ignore-disk-write-errors", "no"),
    yes_no("replica-announced", "yes"),
    integer("min-replicas-to-write", 0, INT_MAX, "0").alias("min-slaves-to-write"),
    integer("min-replicas-max-lag", 0, INT_MAX, "10").alias("min-slaves-max-lag"),
    text("replica-announce-ip", "").alias("slave-announce-ip"),
    integer("replica-announce-port", 0, PORT_MAX, "0").alias("slave-announce-port"),
    yes_no("replica-lazy-flush", "no").alias("slave-lazy-flush"),
    yes_no("replica-ignore-maxmemory", "yes").alias("slave-ignore-maxmemory"),
    // Keys tracking and access control
    integer("tracking-table-max-keys", 0, LONG_MAX, "1000000"),
    integer("acllog-max-len", 0, LONG_MAX, "128"),
    text("aclfile", "").immutable(),
    choice("acl-pubsub-default", &["allchannels", "resetchannels"], "resetchannels"),
    // Memory
    memory("maxmemory", 0, u64::MAX, "0")
        .help(Memory, "memory beyond which keys go, or writes are refused; 0 is no limit")
        .field(|c| Value::Memory(c.maxmemory_bytes), |c, v| store(&mut c.maxmemory_bytes, v)),
    choice(
        "maxmemory-policy",
        &[
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "noeviction",
        ],
        "noeviction",
    )
    .help(Memory, "which keys go; lfu policies count uses, others keep the last one")
    .field(|c| c.maxmemory_policy.into(), |c, v| store(&mut c.maxmemory_policy, v)),
    integer("maxmemory-samples", 1, INT_MAX, "5")
        .help(Memory, "keys looked at to find one that may go; more find a better one")
        .field(|c| c.maxmemory_samples.into(), |c, v| store(&mut c.maxmemory_samples, v)),
    integer("maxmemory-eviction-tenacity", 0, 100, "10")
        .help(Memory, "how long keys are removed at once; at 100 until there is room")
        .field(
            |c| c.maxmemory_eviction_tenacity.into(),
            |c, v| store(&mut c.maxmemory_eviction_tenacity, v),
        ),
    yes_no("lazyfree-lazy-eviction", "no")
        .help(Memory, "free evicted keys on a helper thread")
        .field(|c| c.lazyfree.eviction.into(), |c, v| store(&mut c.lazyfree.eviction, v)),
    yes_no("lazyfree-lazy-expire", "no")
        .help(Memory, "free expired keys on a helper thread")
        .field(|c| c.lazyfree.expire.into(), |c, v| store(&mut c.lazyfree.expire, v)),
    yes_no("lazyfree-lazy-server-del", "no")
        .help(Memory, "free what is replaced on a helper thread")
        .field(|c| c.lazyfree.server_del.into(), |c, v| store(&mut c.lazyfree.server_del, v)),
    yes_no("lazyfree-lazy-user-del", "no")
        .help(Memory, "DEL frees on a helper thread, as UNLINK does")
        .field(|c| c.lazyfree.user_del.into(), |c, v| store(&mut c.lazyfree.user_del, v)),
    yes_no("lazyfree-lazy-user-flush", "no")
        .help(Memory, "flushes free on a helper thread unless SYNC")
        .field(|c| c.lazyfree.user_flush.into(), |c, v| store(&mut c.lazyfree.user_flush, v)),
    integer("lfu-log-factor", 0, INT_MAX, "10")
        .help(Memory, "how fast counters of uses become slow; 0: never")
        .field(|c| c.lfu_log_factor.into(), |c, v| store(&mut c.lfu_log_factor, v)),
    integer("lfu-decay-time", 0, INT_MAX, "1")
        .help(Memory, "minutes until unused counters fall by one; 0: never")
        .field(|c| c.lfu_decay_minutes.into(), |c, v| store(&mut c.lfu_decay_minutes, v)),
    // Threads and the kernel
    integer("io-threads", 1, 128, "1").immutable(),
    yes_no("io-threads-do-reads", "no").immutable(),
    parameter(
        "oom-score-adj",
        Kind::Choice {
            names: &["no", "yes", "relative", "absolute"],
            shown_as: &[("relative", "yes")],
        },
        "no",
    ),
    parameter("oom-score-adj-values", Kind::OomScores, "0 200 800"),
    checked_text("bgsave_cpulist", check_cpu_list, "").immutable(),
    // Parts of Redis's append-only file that are otherwise here
    checked_text("appenddirname", check_append_dir_name, "appendonlydir").immutable(),
    yes_no("no-appendfsync-on-rewrite", "no"),
    yes_no("aof-use-rdb-preamble", "yes"),
    yes_no("aof-timestamp-enabled", "no"),
    yes_no("aof-disable-auto-gc", "no"),
    memory("loading-process-events-interval-bytes", KIB, INT_MAX as u64, "2mb").hidden(),
    // Shutdown
    integer("shutdown-timeout", 0, INT_MAX, "10"),
    parameter("shutdown-on-sigint", Kind::ShutdownOptions, "default"),
    parameter("shutdown-on-sigterm", Kind::ShutdownOptions, "default"),
    // Scripts
    integer("busy-reply-threshold", 0, LONG_MAX, "5000").alias("lua-time-limit"),
    yes_no("lua-enable-deprecated-api", "no").immutable().hidden(),
    // Cluster
    yes_no("cluster-enabled", "no").immutable(),
    text("cluster-config-file", "nodes.conf").immutable(),
    integer("cluster-node-timeout", 0, LONG_MAX, "15000"),
    integer("cluster-port", 0, PORT_MAX, "0").immutable(),
    integer("cluster-replica-validity-factor", 0, INT_MAX, "10")
        .alias("cluster-slave-validity-factor"),
    integer("cluster-migration-barrier", 0, INT_MAX, "1"),
    yes_no("cluster-allow-replica-migration", "yes"),
    yes_no("cluster-require-full-coverage", "yes"),
    yes_no("cluster-replica-no-failover", "no").alias("cluster-slave-no-failover"),
    yes_no("cluster-allow-reads-when-down", "no"),
    yes_no("cluster-allow-pubsubshard-when-down", "yes"),
    memory("cluster-link-sendbuf-limit", 0, u64::MAX, "0"),
    checked_text("cluster-announce-hostname", check_host_name, ""),
    text("cluster-announce-human-nodename", ""),
    choice("cluster-preferred-endpoint-type", &["ip", "hostname", "unknown-endpoint"], "ip"),
    text("cluster-announce-ip", ""),
    integer("cluster-announce-port", 0, PORT_MAX, "0"),
    integer("cluster-announce-tls-port", 0, PORT_MAX, "0"),
    integer("cluster-announce-bus-port", 0, PORT_MAX, "0"),
    // Monitoring
    parameter("notify-keyspace-events", Kind::EventClasses, ""),
    integer("watchdog-period", 0, INT_MAX, "0").hidden(),
    yes_no("use-exit-on-panic", "no").hidden(),
    // Encodings
    integer("hash-max-listpack-entries", 0, LONG_MAX, "512").alias("hash-max-ziplist-entries"),
    memory("hash-max-listpack-value", 0, MEMORY_MAX, "64").alias("hash-max-ziplist-value"),
    integer("list-max-listpack-size", i32::MIN as i64, INT_MAX, "-2")
        .alias("list-max-ziplist-size"),
    integer("list-compress-depth", 0, INT_MAX, "0"),
    integer("set-max-intset-entries", 0, LONG_MAX, "512"),
    integer("set-max-listpack-entries", 0, LONG_MAX, "128"),
    memory("set-max-listpack-value", 0, MEMORY_MAX, "64"),
    integer("zset-max-listpack-entries", 0, LONG_MAX, "128").alias("zset-max-ziplist-entries"),
    memory("zset-max-listpack-value", 0, MEMORY_MAX, "64").alias("zset-max-ziplist-value"),
    memory("hll-sparse-max-bytes", 0, MEMORY_MAX, "3000"),
    memory("stream-node-max-bytes", 0, MEMORY_MAX, "4096"),
    integer("stream-node-max-entries", 0, LONG_MAX, "100"),
    yes_no("activerehashing", "yes"),
    yes_no("dynamic-hz", "yes"),
    // Defragmentation
    yes_no("activedefrag", "no"),
    memory("active-defrag-ignore-bytes", 1, MEMORY_MAX, "100mb"),
    integer("active-defrag-threshold-lower", 0, 1000, "10"),
    integer("active-defrag-threshold-upper", 0, 1000, "100"),
    integer("active-defrag-cycle-min", 1, 99, "1"),
    integer("active-defrag-cycle-max", 1, 99, "25"),
    integer("active-defrag-max-scan-fields", 1, LONG_MAX, "1000"),
    yes_no("jemalloc-bg-thread", "yes"),
];

/// Slowest and fastest turn of the periodic work; values outside are moved to the nearer one.
const HZ_MIN: u32 = 1;
const HZ_MAX: u32 = 500;

/// Longest host name that Redis announces.
const HOST_NAME_MAX_BYTES: usize = 255;

/// Variables of `proc-title-template`.
const TITLE_VARIABLES: &[&[u8]] = &[
    b"title",
    b"listen-addr",
    b"server-mode",
    b"port",
    b"tls-port",
    b"config-file",
    b"unixsocket",
];

fn is_base_name(name: &[u8]) -> bool {
    !name.contains(&b'/') && !name.contains(&b'\\')
}

fn check_append_file_name(name: &[u8]) -> Result<(), &'static str> {
    match name {
        b"" => Err("appendfilename can't be empty"),
        name if is_base_name(name) => Ok(()),
        _ => Err("appendfilename can't be a path, just a filename"),
    }
}

fn check_cpu_list(list: &[u8]) -> Result<(), &'static str> {
    CpuList::parse(list).map(drop)
}

fn check_append_dir_name(name: &[u8]) -> Result<(), &'static str> {
    match name {
        b"" => Err("appenddirname can't be empty"),
        name if is_base_name(name) => Ok(()),
        _ => Err("appenddirname can't be a path, just a dirname"),
    }
}

fn check_dump_file_name(name: &[u8]) -> Result<(), &'static str> {
    if is_base_name(name) { Ok(()) } else { Err("dbfilename can't be a path, just a filename") }
}

fn check_host_name(name: &[u8]) -> Result<(), &'static str> {
    if name.len() > HOST_NAME_MAX_BYTES {
        return Err("Hostnames must be less than 256 characters");
    }
    if !name.iter().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(b)) {
        return Err("Hostnames may only contain alphanumeric characters, hyphens or dots");
    }
    Ok(())
}

/// `{{` stands for a brace, `{name}` for a variable; the rest is text. Something must come of it:
/// blanks do not count, nor does the title, which is not known yet.
fn check_title_template(template: &[u8]) -> Result<(), &'static str> {
    const REFUSED: &str = "template format is invalid or contains unknown variables";
    let mut shows_something = false;
    let mut rest = template;
    while let Some((&first, behind)) = rest.split_first() {
        if first != b'{' {
            shows_something |= !first.is_ascii_whitespace();
            rest = behind;
        } else if let Some(behind) = behind.strip_prefix(b"{") {
            shows_something = true;
            rest = behind;
        } else {
            let close = behind.iter().position(|&b| b == b'}').ok_or(REFUSED)?;
            let variable = &behind[..close];
            if !TITLE_VARIABLES.contains(&variable) {
                return Err(REFUSED);
            }
            shows_something |= variable != b"title";
            rest = &behind[close + 1..];
        }
    }
    if shows_something { Ok(()) } else { Err(REFUSED) }
}
