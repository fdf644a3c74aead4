//! The one table of parameters: flag, configuration file, CONFIG GET and SET, and --help.
//!
//! [`PARAMETERS`] has a row for every parameter of this server and of Redis 6.2, 7.0 and 7.2.
//! What means something here lands in a typed field of [`Config`]; the rest is checked as Redis
//! checks it and kept as text, so that a stock redis.conf starts the server and CONFIG GET answers.
//!
//! - [`value`]: kinds of values, how they are read and shown
//! - [`parameters`]: the table
//! - [`file`](mod@file): redis.conf
//! - [`include`](mod@include): file patterns of the `include` directive
//! - [`rewrite`]: redis.conf, written back
//! - [`flags`]: the command line, `--help`, and what a start comes to

pub mod file;
pub mod flags;
pub mod include;
pub mod parameters;
pub mod rewrite;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use file::StartupError;
pub use flags::{
    ImportRequest, Output, Startup, Tool, ToolRequest, is_log_tool, parse_command_line,
};
pub use parameters::{Mutability, PARAMETERS, Parameter};

use value::{Value, WrongType};

use crate::text::cpu_list::CpuList;

/// Every parameter's value. `Config::default()` holds the defaults of the table; a clone is the
/// way back when a change turns out not to be possible.
#[derive(Clone)]
pub struct Config {
    /// TCP port; 0 listens on none.
    pub port: u16,
    /// Addresses to listen on; empty listens on no TCP socket.
    pub bind: Vec<BindAddress>,
    /// Path of the unix socket.
    pub unixsocket: Option<PathBuf>,
    /// Permission bits of the unix socket; 0 leaves what the umask gives.
    pub unixsocketperm: u32,
    /// Length of the queue of connections that wait to be accepted.
    pub tcp_backlog: u32,
    /// Seconds after which an idle client is closed; 0 is never.
    pub timeout_s: u32,
    /// Seconds between TCP keepalive probes; 0 sends none.
    pub tcp_keepalive_s: u32,
    /// Whether clients from other machines are refused while there is no password.
    pub protected_mode: bool,
    /// Most clients at a time.
    pub maxclients: u32,
    /// Number of databases. Invariant: at least 1.
    pub databases: u32,
    /// Turns a second of the periodic work. Invariant: from 1 to 500.
    pub hz: u32,
    /// How long the loop goes on asking for events before it sleeps, microseconds; 0 is not at all.
    pub busy_poll_us: u32,
    /// How long at most the loop lets requests of many clients gather before a turn, microseconds;
    /// 0 is not at all.
    pub gather_us: u32,
    /// Least severe lines that are logged.
    pub loglevel: LogLevel,
    /// Where the log goes; none is standard output.
    pub logfile: Option<PathBuf>,
    /// Where the process id is written.
    pub pidfile: Option<PathBuf>,
    /// Whether to run in the background.
    pub daemonize: bool,
    /// Working directory; absolute once [`parse_command_line`] is through.
    pub dir: PathBuf,
    /// Whether writes go to the append-only file.
    pub appendonly: bool,
    /// Name of the append-only file within `dir`. Invariant: a bare, non-empty file name.
    pub appendfilename: PathBuf,
    /// When the append-only file is synced.
    pub appendfsync: FsyncPolicy,
    /// Growth since the last rewrite, in percent, that starts one; 0 is never.
    pub auto_aof_rewrite_percentage: u32,
    /// Size below which no rewrite starts by itself, bytes.
    pub auto_aof_rewrite_min_bytes: u64,
    /// Whether a tail that was torn by a crash is cut at load.
    pub aof_load_truncated: bool,
    /// Whether groups in the append-only file end in a seal.
    pub aof_seals: bool,
    /// Whether a rewrite writes its file out in steps.
    pub aof_rewrite_incremental_fsync: bool,
    /// How long a rewrite's child may write nothing before it is killed, seconds; 0 is any time.
    pub aof_rewrite_timeout_s: u32,
    /// Memory that the rewrite-diff may take, bytes.
    pub aof_rewrite_diff_max_bytes: u64,
    /// Length of the append-only file at which writes are refused; 0 for none.
    pub aof_max_bytes: u64,
    /// How many files from before rewrites are kept.
    pub aof_keep_before_rewrite: u32,
    /// Where a rewrite's child runs.
    pub aof_rewrite_cpulist: CpuList,
    /// Nice value of a rewrite's child.
    pub aof_rewrite_nice: u32,
    /// What takes as long as this is a spike of latency, milliseconds; 0 is nothing.
    pub latency_monitor_threshold_ms: u64,
    /// Whether the distribution of each command's times is kept.
    pub latency_tracking: bool,
    /// The percentiles of it that INFO tells. Invariant: from 0 to 100.
    pub latency_percentiles: Vec<f64>,
    /// How much is done to remove keys soon after their deadline. Invariant: from 1 to 10.
    pub active_expire_effort: u32,
    /// Whether the heap does without transparent huge pages.
    pub disable_thp: bool,
    /// Where the loop runs.
    pub server_cpulist: CpuList,
    /// Where the helper threads run.
    pub bio_cpulist: CpuList,
    /// Password of the default user. Invariant: not empty.
    pub requirepass: Option<Vec<u8>>,
    /// Who may use DEBUG.
    pub enable_debug_command: DebugCommand,
    /// Longest argument of a command, bytes.
    pub proto_max_bulk_bytes: u64,
    /// Most bytes of a client's unread or incomplete commands.
    pub client_query_buffer_limit_bytes: u64,
    /// Most bytes that all clients together may hold; beyond it the largest are closed.
    pub maxmemory_clients: ClientMemoryLimit,
    /// A command that takes as long as this goes into the slow log, microseconds; negative is none.
    pub slowlog_log_slower_than_us: i64,
    /// Most commands in the slow log.
    pub slowlog_max_len: u64,
    /// Most bytes of replies that wait for a client to read them.
    pub client_output_buffer_limits: OutputBufferLimits,
    /// Memory beyond which keys go or writes are refused, bytes; 0 is no limit.
    pub maxmemory_bytes: u64,
    /// Keys of each database that are looked at to find one that may go.
    pub maxmemory_samples: u32,
    /// How long keys may be removed at once, from 0 to 100, which is until there is enough room.
    pub maxmemory_eviction_tenacity: u32,
    /// Which keys go when memory runs short, and so how their use is tracked.
    pub maxmemory_policy: EvictionPolicy,
    /// How much slower counters of uses grow the higher they are; 0 counts each use.
    pub lfu_log_factor: u32,
    /// Minutes in which an unused counter falls by one; 0 is never.
    pub lfu_decay_minutes: u32,
    /// What is freed on a helper thread.
    pub lazyfree: Lazyfree,
    /// What was set of the parameters without a field, as CONFIG GET shows it.
    kept: BTreeMap<&'static str, Vec<u8>>,
}

impl Default for Config {
    fn default() -> Config {
        let mut config = Config {
            port: 0,
            bind: Vec::new(),
            unixsocket: None,
            unixsocketperm: 0,
            tcp_backlog: 0,
            timeout_s: 0,
            tcp_keepalive_s: 0,
            protected_mode: false,
            maxclients: 0,
            databases: 0,
            hz: 0,
            busy_poll_us: 0,
            gather_us: 30,
            loglevel: LogLevel::Notice,
            logfile: None,
            pidfile: None,
            daemonize: false,
            dir: PathBuf::new(),
            appendonly: false,
            appendfilename: PathBuf::new(),
            appendfsync: FsyncPolicy::Everysec,
            auto_aof_rewrite_percentage: 0,
            auto_aof_rewrite_min_bytes: 0,
            aof_load_truncated: false,
            aof_seals: false,
            aof_rewrite_incremental_fsync: false,
            aof_rewrite_timeout_s: 0,
            aof_rewrite_diff_max_bytes: 0,
            aof_max_bytes: 0,
            aof_keep_before_rewrite: 0,
            aof_rewrite_cpulist: CpuList::default(),
            aof_rewrite_nice: 0,
            latency_monitor_threshold_ms: 0,
            latency_tracking: false,
            latency_percentiles: Vec::new(),
            active_expire_effort: 1,
            disable_thp: false,
            server_cpulist: CpuList::default(),
            bio_cpulist: CpuList::default(),
            requirepass: None,
            enable_debug_command: DebugCommand::No,
            proto_max_bulk_bytes: 0,
            client_query_buffer_limit_bytes: 0,
            maxmemory_clients: ClientMemoryLimit::Bytes(0),
            slowlog_log_slower_than_us: 0,
            slowlog_max_len: 0,
            client_output_buffer_limits: OutputBufferLimits::default(),
            maxmemory_bytes: 0,
            maxmemory_samples: 1,
            maxmemory_eviction_tenacity: 0,
            maxmemory_policy: EvictionPolicy::NoEviction,
            lfu_log_factor: 0,
            lfu_decay_minutes: 0,
            lazyfree: Lazyfree::default(),
            kept: BTreeMap::new(),
        };
        // The defaults stand in the table alone, so that --help cannot tell another story.
        for parameter in PARAMETERS.iter().filter(|p| p.means_something()) {
            let set = parameter.set_default(&mut config);
            debug_assert!(set.is_ok(), "default of {}: {set:?}", parameter.name);
        }
        config
    }
}

impl fmt::Debug for Config {
    /// Shows what CONFIG GET shows, passwords left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = PARAMETERS.iter().filter(|p| !p.is_sensitive()).map(|p| {
            let value = String::from_utf8_lossy(&p.show(self)).into_owned();
            (p.name, value)
        });
        f.debug_map().entries(shown).finish()
    }
}

/// When the append-only file is synced, and so what a reply promises. The stricter is the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FsyncPolicy {
    /// Before each reply.
    Always,
    /// Within a second.
    Everysec,
    /// When the operating system likes.
    No,
}

impl FsyncPolicy {
    const ALL: [FsyncPolicy; 3] = [FsyncPolicy::Everysec, FsyncPolicy::Always, FsyncPolicy::No];

    /// The name as in redis.conf.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FsyncPolicy::Always => "always",
            FsyncPolicy::Everysec => "everysec",
            FsyncPolicy::No => "no",
        }
    }
}

impl From<FsyncPolicy> for Value {
    fn from(policy: FsyncPolicy) -> Value {
        Value::Choice(policy.name())
    }
}

impl TryFrom<Value> for FsyncPolicy {
    type Error = WrongType;
    fn try_from(value: Value) -> Result<FsyncPolicy, WrongType> {
        FsyncPolicy::ALL.into_iter().find(|p| value == Value::from(*p)).ok_or(WrongType)
    }
}

/// Which keys go when memory runs short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// Of those with a deadline, the one unused the longest.
    VolatileLru,
    /// Of those with a deadline, the one used the least.
    VolatileLfu,
    /// Any with a deadline.
    VolatileRandom,
    /// The one that expires first.
    VolatileTtl,
    /// The one unused the longest.
    AllKeysLru,
    /// The one used the least.
    AllKeysLfu,
    /// Any.
    AllKeysRandom,
    /// None; writes are refused.
    NoEviction,
}

impl EvictionPolicy {
    /// Each there is.
    pub const ALL: [EvictionPolicy; 8] = [
        EvictionPolicy::VolatileLru,
        EvictionPolicy::VolatileLfu,
        EvictionPolicy::VolatileRandom,
        EvictionPolicy::VolatileTtl,
        EvictionPolicy::AllKeysLru,
        EvictionPolicy::AllKeysLfu,
        EvictionPolicy::AllKeysRandom,
        EvictionPolicy::NoEviction,
    ];

    /// The name as in redis.conf.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            EvictionPolicy::VolatileLru => "volatile-lru",
            EvictionPolicy::VolatileLfu => "volatile-lfu",
            EvictionPolicy::VolatileRandom => "volatile-random",
            EvictionPolicy::VolatileTtl => "volatile-ttl",
            EvictionPolicy::AllKeysLru => "allkeys-lru",
            EvictionPolicy::AllKeysLfu => "allkeys-lfu",
            EvictionPolicy::AllKeysRandom => "allkeys-random",
            EvictionPolicy::NoEviction => "noeviction",
        }
    }

    /// Whether only keys with a deadline may go.
    #[must_use]
    pub fn is_volatile(self) -> bool {
        matches!(
            self,
            EvictionPolicy::VolatileLru
                | EvictionPolicy::VolatileLfu
                | EvictionPolicy::VolatileRandom
                | EvictionPolicy::VolatileTtl
        )
    }

    /// Whether it goes by what is kept of the use of keys.
    #[must_use]
    pub fn needs_stamps(self) -> bool {
        matches!(self, EvictionPolicy::VolatileLru | EvictionPolicy::AllKeysLru)
            || self.counts_uses()
    }

    /// Whether uses are counted, rather than the time of the last one kept.
    #[must_use]
    pub fn counts_uses(self) -> bool {
        matches!(self, EvictionPolicy::VolatileLfu | EvictionPolicy::AllKeysLfu)
    }
}

impl From<EvictionPolicy> for Value {
    fn from(policy: EvictionPolicy) -> Value {
        Value::Choice(policy.name())
    }
}

impl TryFrom<Value> for EvictionPolicy {
    type Error = WrongType;
    fn try_from(value: Value) -> Result<EvictionPolicy, WrongType> {
        EvictionPolicy::ALL.into_iter().find(|p| value == Value::from(*p)).ok_or(WrongType)
    }
}

/// What is freed on a helper thread: `lazyfree-lazy-...`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lazyfree {
    /// Keys that are evicted.
    pub eviction: bool,
    /// Keys that expire.
    pub expire: bool,
    /// What commands other than DEL delete or replace.
    pub server_del: bool,
    /// What DEL deletes.
    pub user_del: bool,
    /// What FLUSHALL and FLUSHDB empty unless told otherwise.
    pub user_flush: bool,
}

/// How much is logged, from most to least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// All there is, for development.
    Debug,
    /// Much, seldom of use.
    Verbose,
    /// What one wants in production.
    Notice,
    /// Only what is important.
    Warning,
    /// Not a line.
    Nothing,
}

impl LogLevel {
    const ALL: [LogLevel; 5] = [
        LogLevel::Debug,
        LogLevel::Verbose,
        LogLevel::Notice,
        LogLevel::Warning,
        LogLevel::Nothing,
    ];

    /// The name as in redis.conf.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Verbose => "verbose",
            LogLevel::Notice => "notice",
            LogLevel::Warning => "warning",
            LogLevel::Nothing => "nothing",
        }
    }
}

impl From<LogLevel> for Value {
    fn from(level: LogLevel) -> Value {
        Value::Choice(level.name())
    }
}

impl TryFrom<Value> for LogLevel {
    type Error = WrongType;
    fn try_from(value: Value) -> Result<LogLevel, WrongType> {
        LogLevel::ALL.into_iter().find(|l| value == Value::from(*l)).ok_or(WrongType)
    }
}

/// `maxmemory-clients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMemoryLimit {
    /// So many bytes; 0 is no limit.
    Bytes(u64),
    /// So many hundredths of `maxmemory`; no limit where that is none.
    Percent(u64),
}

impl ClientMemoryLimit {
    /// A limit below this would leave no room to say so.
    const MIN_BYTES: u64 = 128 << 10;

    /// The limit in bytes where `maxmemory` is so many; none is no limit.
    #[must_use]
    pub fn bytes(self, maxmemory_bytes: u64) -> Option<u64> {
        let bytes = match self {
            ClientMemoryLimit::Bytes(bytes) => bytes,
            ClientMemoryLimit::Percent(percent) => {
                let part = u128::from(maxmemory_bytes) * u128::from(percent) / 100;
                u64::try_from(part).unwrap_or(u64::MAX)
            }
        };
        (bytes > 0).then_some(bytes.max(Self::MIN_BYTES))
    }
}

impl From<ClientMemoryLimit> for Value {
    fn from(limit: ClientMemoryLimit) -> Value {
        match limit {
            ClientMemoryLimit::Bytes(bytes) => Value::Memory(bytes),
            ClientMemoryLimit::Percent(percent) => Value::Percent(percent),
        }
    }
}

impl TryFrom<Value> for ClientMemoryLimit {
    type Error = WrongType;
    fn try_from(value: Value) -> Result<ClientMemoryLimit, WrongType> {
        match value {
            Value::Memory(bytes) => Ok(ClientMemoryLimit::Bytes(bytes)),
            Value::Percent(percent) => Ok(ClientMemoryLimit::Percent(percent)),
            _ => Err(WrongType),
        }
    }
}

/// Who may use the DEBUG command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugCommand {
    /// Nobody.
    No,
    /// Every client.
    Yes,
    /// Clients on this machine.
    Local,
}

impl DebugCommand {
    const ALL: [DebugCommand; 3] = [DebugCommand::No, DebugCommand::Yes, DebugCommand::Local];

    /// The name as in redis.conf.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DebugCommand::No => "no",
            DebugCommand::Yes => "yes",
            DebugCommand::Local => "local",
        }
    }
}

impl From<DebugCommand> for Value {
    fn from(who: DebugCommand) -> Value {
        Value::Choice(who.name())
    }
}

impl TryFrom<Value> for DebugCommand {
    type Error = WrongType;
    fn try_from(value: Value) -> Result<DebugCommand, WrongType> {
        DebugCommand::ALL.into_iter().find(|w| value == Value::from(*w)).ok_or(WrongType)
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddress {
    /// Which address.
    pub host: BindHost,
    /// Written with a leading `-`: that the machine lacks the address is no error.
    pub optional: bool,
}

/// The host part of a [`BindAddress`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindHost {
    /// `*`: every IPv4 address.
    AnyIpv4,
    /// `::*`: every IPv6 address.
    AnyIpv6,
    /// An address or a host name, as it was written.
    Named(String),
}

impl BindAddress {
    /// Reads an address as `bind` takes it: `127.0.0.1`, `-::1`, `*`, `-::*`.
    #[must_use]
    pub fn parse(text: &str) -> BindAddress {
        let (optional, host) = match text.strip_prefix('-') {
            Some(host) => (true, host),
            None => (false, text),
        };
        let host = match host {
            "*" => BindHost::AnyIpv4,
            "::*" => BindHost::AnyIpv6,
            name => BindHost::Named(name.to_owned()),
        };
        BindAddress { host, optional }
    }
}

impl fmt::Display for BindAddress {
    /// Writes the address as it was read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.optional { "-" } else { "" })?;
        f.write_str(match &self.host {
            BindHost::AnyIpv4 => "*",
            BindHost::AnyIpv6 => "::*",
            BindHost::Named(name) => name,
        })
    }
}

/// When a client whose replies pile up is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputBufferLimit {
    /// Bytes at which it is closed at once; 0 is no limit.
    pub hard_bytes: u64,
    /// Bytes above which it is closed after `soft_seconds`; 0 is no limit.
    pub soft_bytes: u64,
    /// Seconds above `soft_bytes` without a break until it is closed; 0 is no limit.
    pub soft_seconds: u32,
}

/// The output-buffer limits of each class of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputBufferLimits {
    /// Clients that are in no other class.
    pub normal: OutputBufferLimit,
    /// Replicas.
    pub replica: OutputBufferLimit,
    /// Subscribers of a channel or pattern.
    pub pubsub: OutputBufferLimit,
}

/// CONFIG GET: the parameters that match one of `patterns`, each once, with their values.
///
/// `matches(pattern, name)` decides for patterns that have one of `*?[`; both are in lower case.
/// Any other pattern is a name in any case, which is answered as it was spelt. Hidden parameters
/// answer to their names alone.
#[must_use]
pub fn get_matching(
    config: &Config,
    patterns: &[&[u8]],
    matches: impl Fn(&[u8], &[u8]) -> bool,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found: Vec<(Vec<u8>, &'static Parameter)> = Vec::new();
    let add = |found: &mut Vec<(Vec<u8>, _)>, name: &[u8], parameter| {
        if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            found.push((name.to_vec(), parameter));
        }
    };
    for pattern in patterns {
        if pattern.iter().any(|b| b"*?[".contains(b)) {
            let pattern = pattern.to_ascii_lowercase();
            for parameter in PARAMETERS.iter().filter(|p| p.is_listed()) {
                for name in parameter.names().filter(|name| matches(&pattern, name.as_bytes())) {
                    add(&mut found, name.as_bytes(), parameter);
                }
            }
        } else if let Some((_, parameter)) =
            parameters::find(pattern).filter(|(_, p)| p.is_visible())
        {
            add(&mut found, pattern, parameter);
        }
    }
    found.into_iter().map(|(name, parameter)| (name, parameter.show(config))).collect()
}

/// What CONFIG SET has to know of the moment.
#[derive(Clone, Copy, Debug)]
pub struct SetContext {
    /// Whether the client is on this machine.
    pub client_is_local: bool,
    /// Whether the append-only file is being loaded.
    pub loading: bool,
}

/// CONFIG SET: takes all of `pairs` (name, value) or none, and returns the parameters whose value
/// is another than before, each once. Putting a change into force is the caller's.
///
/// # Errors
/// The text of Redis's error reply, without the leading `-`. Bytes, since it quotes what the
/// client sent.
pub fn set_many(
    config: &mut Config,
    pairs: &[(&[u8], &[u8])],
    context: SetContext,
) -> Result<Vec<&'static Parameter>, Vec<u8>> {
    let mut found: Vec<(&'static str, &'static Parameter, &[u8])> = Vec::new();
    for &(given, value) in pairs {
        let Some((name, parameter)) = parameters::find(given).filter(|(_, p)| p.is_visible())
        else {
            let text = b"ERR Unknown option or number of arguments for CONFIG SET - ";
            return Err([text, quote(given).as_slice()].concat());
        };
        let allowed = parameter.check_settable(config, context);
        allowed.map_err(|why| match why {
            parameters::NotSettable::Loading => {
                b"LOADING Redis is loading the dataset in memory".to_vec()
            }
            parameters::NotSettable::Because(why) => set_failed(given, why),
        })?;
        if found.iter().any(|(known, _, _)| *known == name) {
            return Err(set_failed(given, "duplicate parameter"));
        }
        found.push((name, parameter, value));
    }

    let mut changed = config.clone();
    for (name, parameter, value) in &found {
        let set = parameter.set_text(&mut changed, value);
        set.map_err(|why| set_failed(name.as_bytes(), &why))?;
    }
    let mut differing: Vec<&'static Parameter> = Vec::new();
    for (_, parameter, _) in found {
        let differs = parameter.show(config) != parameter.show(&changed);
        if differs && !differing.iter().any(|known| known.name == parameter.name) {
            differing.push(parameter);
        }
    }
    *config = changed;
    Ok(differing)
}

/// Those of `names` whose values differ between `a` and `b`.
#[must_use]
pub fn differing(names: &[&'static str], a: &Config, b: &Config) -> Vec<&'static str> {
    let differs = |name: &&'static str| {
        let parameter = parameters::find(name.as_bytes());
        parameter.is_some_and(|(_, parameter)| parameter.show(a) != parameter.show(b))
    };
    names.iter().copied().filter(differs).collect()
}

/// Gives the parameters `names` in `to` the values that they have in `from`.
///
/// # Errors
/// The parameter and the reason, if one cannot have it; those before it are copied then.
pub fn copy_values(
    names: &[&'static str],
    from: &Config,
    to: &mut Config,
) -> Result<(), (&'static str, String)> {
    for &name in names {
        if let Some((_, parameter)) = parameters::find(name.as_bytes()) {
            parameter.copy(from, to).map_err(|why| (name, why.to_string()))?;
        }
    }
    Ok(())
}

/// The error reply, without the leading `-`, for a parameter `name` that could not be set or put
/// into force for the reason `why`.
#[must_use]
pub fn set_failed(name: &[u8], why: &str) -> Vec<u8> {
    let mut text = b"ERR CONFIG SET failed (possibly related to argument ".to_vec();
    text.extend(quote(name));
    text.extend(b") - ");
    text.extend(why.as_bytes());
    text
}

/// `name` as an error reply quotes it: up to the first NUL byte, on one line.
fn quote(name: &[u8]) -> Vec<u8> {
    let name = name.split(|&b| b == 0).next().unwrap_or_default();
    let on_one_line = name.iter().map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b });
    [b"'".to_vec(), on_one_line.collect(), b"'".to_vec()].concat()
}

#[cfg(test)]
mod tests;
