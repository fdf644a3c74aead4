//! INFO: the server's figures, in Redis's sections and under Redis's names.

use super::connection::REDIS_VERSION;
use super::memory::{Usage, ratio};
use super::options;
use crate::config::value::percentile_text;
use crate::config::{self, Config};
use crate::engine::calls::CallFigures;
use crate::engine::command::Arity::AtLeast;
use crate::engine::command::{Command, CommandSpec, Doc, Flags};
use crate::engine::cx::Cx;
use crate::engine::error::CommandResult;
use crate::resp::args::Args;
use crate::sys::process::CpuTimes;
use std::fmt::{self, Display, Write};

/// The commands of this family.
pub static ROWS: &[CommandSpec] = &[CommandSpec {
    name: "info",
    doc: Doc::new("server", "1.0.0", "O(1)", "Tells figures and states of the server.")
        .takes("[section...]")
        .changed(&[("7.0.0", "Several sections in one call.")]),
    arity: AtLeast(1),
    flags: Flags::C_DANGEROUS
        .and(Flags::LOADING)
        .and(Flags::STALE)
        .and(Flags::NO_KEYS)
        .and(Flags::FIGURES),
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    run: info,
    ..CommandSpec::ROW
}];

/// A section: what it is called, whether it is shown unless asked for, and what writes it.
struct Section {
    title: &'static str,
    by_default: bool,
    write: fn(&Cx<'_>, &mut Lines),
}

/// In the order they are shown.
const SECTIONS: &[Section] = &[
    Section { title: "Server", by_default: true, write: server },
    Section { title: "Clients", by_default: true, write: clients },
    Section { title: "Memory", by_default: true, write: memory },
    Section { title: "Persistence", by_default: true, write: persistence },
    Section { title: "Stats", by_default: true, write: stats },
    Section { title: "Replication", by_default: true, write: replication },
    Section { title: "CPU", by_default: true, write: cpu },
    Section { title: "Modules", by_default: true, write: nothing },
    Section { title: "Commandstats", by_default: false, write: commandstats },
    Section { title: "Errorstats", by_default: true, write: errorstats },
    Section { title: "Latencystats", by_default: false, write: latencystats },
    Section { title: "Cluster", by_default: true, write: cluster },
    Section { title: "Keyspace", by_default: true, write: keyspace },
];

impl Section {
    /// Whether `wanted` names this section or a group it is in.
    fn is_in(&self, wanted: &[u8]) -> bool {
        options::is(wanted, self.title)
            || options::is(wanted, "ALL")
            || options::is(wanted, "EVERYTHING")
            || (self.by_default && options::is(wanted, "DEFAULT"))
    }
}

/// `INFO [section ...]`
fn info(cx: &mut Cx<'_>, args: &mut Args<'_>) -> CommandResult {
    let mut lines = Lines(String::with_capacity(6 << 10));
    for section in SECTIONS {
        let is_wanted = match args.len() {
            1 => section.by_default,
            _ => args.from(1).any(|wanted| section.is_in(wanted)),
        };
        if is_wanted {
            lines.begin(section.title);
            (section.write)(cx, &mut lines);
        }
    }
    cx.reply.verbatim(*b"txt", lines.0.as_bytes());
    Ok(())
}

/// The reply on its way.
struct Lines(String);

impl Lines {
    fn begin(&mut self, title: &str) {
        if !self.0.is_empty() {
            self.0.push_str("\r\n");
        }
        self.line(format_args!("# {title}"));
    }

    fn put(&mut self, name: &str, value: impl Display) {
        self.line(format_args!("{name}:{value}"));
    }

    /// Bytes as a number, and in a second line as people read them.
    fn put_bytes(&mut self, name: &str, bytes: u64) {
        self.put(name, bytes);
        self.line(format_args!("{name}_human:{}", Human(bytes)));
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        // To write to a string cannot fail.
        let _ = write!(self.0, "{text}\r\n");
    }
}

/// Bytes in the largest unit of which there is one.
struct Human(u64);

impl Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, char); 5] =
            [(1 << 50, 'P'), (1 << 40, 'T'), (1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit) {
            Some((unit, letter)) => write!(f, "{:.2}{letter}", self.0 as f64 / *unit as f64),
            None => write!(f, "{}B", self.0),
        }
    }
}

fn status(ok: bool) -> &'static str {
    if ok { "ok" } else { "err" }
}

fn nothing(_: &Cx<'_>, _: &mut Lines) {}

fn server(cx: &Cx<'_>, lines: &mut Lines) {
    let registries = &*cx.registries;
    let (identity, config) = (&registries.identity, &registries.config);
    let uptime_sec = registries.figures.uptime_sec;
    lines.put("redis_version", REDIS_VERSION);
    lines.put("server_name", "server_async");
    lines.put("server_async_version", env!("CARGO_PKG_VERSION"));
    lines.put("redis_git_sha1", "00000000");
    lines.put("redis_git_dirty", 0);
    lines.put("redis_build_id", 0);
    lines.put("redis_mode", "standalone");
    lines.put("os", &identity.os);
    lines.put("arch_bits", usize::BITS);
    lines.put("monotonic_clock", "POSIX clock_gettime");
    lines.put("multiplexing_api", "epoll");
    lines.put("process_id", identity.pid);
    lines.put("process_supervised", "no");
    lines.put("run_id", &identity.run_id);
    lines.put("tcp_port", config.port);
    lines.put("server_time_usec", cx.now.0.saturating_mul(1000));
    lines.put("uptime_in_seconds", uptime_sec);
    lines.put("uptime_in_days", uptime_sec / 86_400);
    lines.put("hz", config.hz);
    lines.put("configured_hz", config.hz);
    lines.put("lru_clock", (cx.now.0 / 1000) & 0xff_ffff);
    lines.put("executable", identity.executable.display());
    match &identity.config_file {
        Some(path) => lines.put("config_file", path.display()),
        None => lines.put("config_file", ""),
    }
    lines.put("io_threads_active", 0);
    listeners(config, lines);
}

fn listeners(config: &Config, lines: &mut Lines) {
    let mut count = 0;
    let mut put = |text: String| {
        lines.put(&format!("listener{count}"), text);
        count += 1;
    };
    if config.port > 0 && !config.bind.is_empty() {
        let bind: String = config.bind.iter().map(|address| format!(",bind={address}")).collect();
        put(format!("name=tcp{bind},port={}", config.port));
    }
    if let Some(path) = &config.unixsocket {
        put(format!("name=unix,bind={}", path.display()));
    }
}

fn clients(cx: &Cx<'_>, lines: &mut Lines) {
    let figures = &cx.registries.figures;
    lines.put("connected_clients", figures.connected_clients);
    lines.put("cluster_connections", 0);
    lines.put("maxclients", cx.registries.config.maxclients);
    lines.put("client_recent_max_input_buffer", figures.max_input_buffer_bytes);
    lines.put("client_recent_max_output_buffer", figures.max_output_buffer_bytes);
    lines.put("blocked_clients", figures.blocked_clients);
    lines.put("tracking_clients", 0);
    lines.put("clients_in_timeout_table", 0);
    lines.put("total_blocking_keys", 0);
    lines.put("total_blocking_keys_on_nokey", 0);
}

fn memory(cx: &Cx<'_>, lines: &mut Lines) {
    let figures = &cx.registries.figures;
    let (memory, allocator) = (&figures.memory, &figures.memory.allocator);
    let usage = Usage::new(cx);
    let used = usage.used;
    lines.put_bytes("used_memory", used);
    lines.put_bytes("used_memory_rss", memory.rss_bytes);
    lines.put_bytes("used_memory_peak", usage.peak);
    lines.line(format_args!("used_memory_peak_perc:{:.2}%", ratio(used, usage.peak) * 100.0));
    lines.put("used_memory_overhead", usage.overhead);
    lines.put("used_memory_startup", memory.startup_bytes);
    lines.put("used_memory_dataset", usage.dataset);
    lines.line(format_args!("used_memory_dataset_perc:{:.2}%", usage.dataset_percent));
    lines.put("allocator_allocated", allocator.allocated_bytes);
    lines.put("allocator_active", allocator.active_bytes);
    lines.put("allocator_resident", allocator.resident_bytes);
    lines.put_bytes("total_system_memory", memory.machine_bytes);
    lines.put("used_memory_lua", 0);
    lines.put("used_memory_vm_eval", 0);
    lines.put("used_memory_lua_human", Human(0));
    lines.put("used_memory_scripts_eval", 0);
    lines.put("number_of_cached_scripts", 0);
    lines.put("number_of_functions", 0);
    lines.put("number_of_libraries", 0);
    lines.put("used_memory_vm_functions", 0);
    lines.put_bytes("used_memory_vm_total", 0);
    lines.put("used_memory_functions", 0);
    lines.put_bytes("used_memory_scripts", 0);
    lines.put_bytes("maxmemory", cx.registries.config.maxmemory_bytes);
    lines.put("maxmemory_policy", cx.registries.config.maxmemory_policy.name());
    let allocated = allocator.allocated_bytes;
    let fragmentation = |name: &str, of: u64, over: u64, lines: &mut Lines| {
        lines.line(format_args!("{name}_ratio:{:.2}", ratio(of, over)));
        lines.put(&format!("{name}_bytes"), of as i64 - over as i64);
    };
    fragmentation("allocator_frag", allocator.active_bytes, allocated, lines);
    fragmentation("allocator_rss", allocator.resident_bytes, allocator.active_bytes, lines);
    fragmentation("rss_overhead", memory.rss_bytes, allocator.resident_bytes, lines);
    fragmentation("mem_fragmentation", memory.rss_bytes, used, lines);
    lines.put("mem_not_counted_for_evict", usage.log_buffers);
    lines.put("mem_replication_backlog", 0);
    lines.put("mem_total_replication_buffers", 0);
    lines.put("mem_clients_slaves", 0);
    lines.put("mem_clients_normal", figures.clients_bytes);
    lines.put("mem_cluster_links", 0);
    lines.put("mem_aof_buffer", usage.log_buffers);
    lines.put("mem_allocator", &memory.allocator_name);
    lines.put("active_defrag_running", 0);
    lines.put("lazyfree_pending_objects", figures.lazyfree_pending);
    lines.put("lazyfreed_objects", figures.lazyfreed);
}

fn persistence(cx: &Cx<'_>, lines: &mut Lines) {
    let registries = &*cx.registries;
    let log = &registries.figures.log;
    lines.put("loading", u8::from(registries.loading));
    lines.put("async_loading", 0);
    let child = &log.child;
    let percent = child.keys as f64 * 100.0 / child.keys_total.max(1) as f64;
    lines.put("current_cow_peak", child.cow_peak_bytes);
    lines.put("current_cow_size", child.cow_bytes);
    lines.put("current_cow_size_age", child.cow_age_sec);
    lines.put("current_fork_perc", format_args!("{percent:.2}"));
    lines.put("current_save_keys_processed", child.keys);
    lines.put("current_save_keys_total", child.keys_total);
    lines.put("rdb_changes_since_last_save", cx.keyspace.dirty);
    lines.put("rdb_bgsave_in_progress", 0);
    lines.put("rdb_last_save_time", registries.identity.started_unix.0 / 1000);
    lines.put("rdb_last_bgsave_status", "ok");
    lines.put("rdb_last_bgsave_time_sec", -1);
    lines.put("rdb_current_bgsave_time_sec", -1);
    lines.put("rdb_saves", 0);
    lines.put("rdb_last_cow_size", 0);
    lines.put("rdb_last_load_keys_expired", 0);
    lines.put("rdb_last_load_keys_loaded", 0);
    lines.put("aof_enabled", u8::from(log.enabled));
    lines.put("aof_rewrite_in_progress", u8::from(log.rewrite_in_progress));
    lines.put("aof_rewrite_scheduled", u8::from(log.rewrite_scheduled));
    lines.put("aof_last_rewrite_time_sec", log.last_rewrite_sec);
    lines.put("aof_current_rewrite_time_sec", log.current_rewrite_sec);
    lines.put("aof_last_bgrewrite_status", status(log.last_rewrite_ok));
    lines.put("aof_rewrites", log.rewrites);
    lines.put("aof_rewrites_consecutive_failures", log.rewrites_consecutive_failures);
    lines.put("aof_last_write_status", status(log.last_write_ok));
    lines.put("aof_last_cow_size", log.last_cow_bytes);
    lines.put("module_fork_in_progress", 0);
    lines.put("module_fork_last_cow_size", 0);
    if log.enabled {
        append_only_file(cx, lines);
    }
    if registries.loading {
        let load = &registries.figures.load;
        lines.put("loading_start_time", load.started.0 / 1000);
        lines.put("loading_total_bytes", load.total_bytes);
        lines.put("loading_rdb_used_mem", 0);
        lines.put("loading_loaded_bytes", load.loaded_bytes);
        let percent = ratio(load.loaded_bytes, load.total_bytes) * 100.0;
        lines.line(format_args!("loading_loaded_perc:{percent:.2}"));
        lines.put("loading_eta_seconds", load.eta_sec);
    }
}

/// Redis's fields of the file in use, then this server's own.
fn append_only_file(cx: &Cx<'_>, lines: &mut Lines) {
    let log = &cx.registries.figures.log;
    lines.put("aof_current_size", log.current_size);
    lines.put("aof_base_size", log.base_size);
    lines.put("aof_pending_rewrite", u8::from(log.rewrite_scheduled));
    lines.put("aof_buffer_length", log.buffer_bytes);
    lines.put("aof_rewrite_buffer_length", log.rewrite_buffer_bytes);
    lines.put("aof_rewrite_reread_length", log.rewrite_reread_bytes);
    lines.put("aof_max_size_reached", u8::from(log.is_full));
    lines.put("aof_pending_bio_fsync", log.pending_syncs);
    lines.put("aof_delayed_fsync", log.delayed_syncs);
    lines.put("aof_offset_appended", log.appended);
    lines.put("aof_offset_written", log.written);
    lines.put("aof_offset_durable", log.durable);
    lines.put("aof_oldest_unsynced_ms", log.oldest_unsynced_us / 1000);
    let fault = log.fault.as_deref().unwrap_or("");
    lines.put("aof_fault", fault.replace(['\r', '\n'], " "));
}

fn stats(cx: &Cx<'_>, lines: &mut Lines) {
    let (stats, figures) = (&cx.registries.stats, &cx.registries.figures);
    let now_ns = cx.registries.calls.now_ns();
    let (exceeded_ms, exceeded_now_ms) = cx.registries.eviction.exceeded_ms(now_ns);
    lines.put("total_connections_received", stats.connections_received);
    lines.put("total_commands_processed", stats.commands_processed);
    lines.put("instantaneous_ops_per_sec", figures.ops_per_sec);
    lines.put("total_net_input_bytes", stats.net_input_bytes);
    lines.put("total_net_output_bytes", stats.net_output_bytes);
    lines.put("total_net_repl_input_bytes", 0);
    lines.put("total_net_repl_output_bytes", 0);
    lines.line(format_args!("instantaneous_input_kbps:{:.2}", figures.input_kib_per_sec));
    lines.line(format_args!("instantaneous_output_kbps:{:.2}", figures.output_kib_per_sec));
    lines.put("instantaneous_input_repl_kbps", "0.00");
    lines.put("instantaneous_output_repl_kbps", "0.00");
    lines.put("rejected_connections", stats.rejected_connections);
    lines.put("sync_full", 0);
    lines.put("sync_partial_ok", 0);
    lines.put("sync_partial_err", 0);
    lines.put("expired_keys", stats.expired_keys);
    lines.line(format_args!("expired_stale_perc:{:.2}", stats.expired_stale_percent));
    lines.put("expired_time_cap_reached_count", stats.expire_time_cap_reached);
    lines.put("expire_cycle_cpu_milliseconds", stats.expire_cycle_us / 1_000);
    lines.put("evicted_keys", stats.evicted_keys);
    lines.put("evicted_clients", stats.evicted_clients);
    lines.put("total_eviction_exceeded_time", exceeded_ms);
    lines.put("current_eviction_exceeded_time", exceeded_now_ms);
    lines.put("keyspace_hits", stats.keyspace_hits);
    lines.put("keyspace_misses", stats.keyspace_misses);
    lines.put("pubsub_channels", 0);
    lines.put("pubsub_patterns", 0);
    lines.put("pubsubshard_channels", 0);
    lines.put("latest_fork_usec", figures.latest_fork_us);
    lines.put("total_forks", stats.total_forks);
    lines.put("migrate_cached_sockets", 0);
    lines.put("slave_expires_tracked_keys", 0);
    lines.put("active_defrag_hits", 0);
    lines.put("active_defrag_misses", 0);
    lines.put("active_defrag_key_hits", 0);
    lines.put("active_defrag_key_misses", 0);
    lines.put("total_active_defrag_time", 0);
    lines.put("current_active_defrag_time", 0);
    lines.put("tracking_total_keys", 0);
    lines.put("tracking_total_items", 0);
    lines.put("tracking_total_prefixes", 0);
    lines.put("unexpected_error_replies", 0);
    lines.put("total_error_replies", stats.error_replies);
    lines.put("dump_payload_sanitizations", 0);
    lines.put("total_reads_processed", stats.reads_processed);
    lines.put("total_writes_processed", stats.writes_processed);
    lines.put("io_threaded_reads_processed", 0);
    lines.put("io_threaded_writes_processed", 0);
    lines.put("reply_buffer_shrinks", 0);
    lines.put("reply_buffer_expands", 0);
    lines.put("client_query_buffer_limit_disconnections", stats.query_limit_disconnections);
    lines.put("client_output_buffer_limit_disconnections", stats.output_limit_disconnections);
    lines.put("eventloop_cycles", figures.loop_turns);
    lines.put("eventloop_duration_sum", figures.loop_busy_us);
    lines.put("eventloop_duration_cmd_sum", stats.commands_ns / 1_000);
    lines.put("instantaneous_eventloop_cycles_per_sec", figures.turns_per_sec);
    lines.put("instantaneous_eventloop_duration_usec", figures.turn_us);
    lines.put("acl_access_denied_auth", stats.denied_authentications);
    lines.put("acl_access_denied_cmd", 0);
    lines.put("acl_access_denied_key", 0);
    lines.put("acl_access_denied_channel", 0);
    lines.put("eventloop_duration_max", figures.longest_turn_us);
    lines.put("aof_write_duration_max", figures.longest_log_write_us);
}

fn replication(cx: &Cx<'_>, lines: &mut Lines) {
    let backlog =
        config::get_matching(&cx.registries.config, &[b"repl-backlog-size"], |pattern, name| {
            pattern == name
        });
    lines.put("role", "master");
    lines.put("connected_slaves", 0);
    lines.put("master_failover_state", "no-failover");
    let registries = &*cx.registries;
    let id = registries.debug.replication_id.as_ref().unwrap_or(&registries.identity.run_id);
    lines.put("master_replid", id);
    lines.put("master_replid2", "0".repeat(40));
    lines.put("master_repl_offset", 0);
    lines.put("second_repl_offset", -1);
    lines.put("repl_backlog_active", 0);
    for (_, bytes) in backlog {
        lines.put("repl_backlog_size", String::from_utf8_lossy(&bytes));
    }
    lines.put("repl_backlog_first_byte_offset", 0);
    lines.put("repl_backlog_histlen", 0);
}

fn cpu(cx: &Cx<'_>, lines: &mut Lines) {
    let cpu = &cx.registries.figures.cpu;
    let mut put = |suffix: &str, times: CpuTimes| {
        for (mode, us) in [("sys", times.system_us), ("user", times.user_us)] {
            let (seconds, us) = (us / 1_000_000, us % 1_000_000);
            lines.line(format_args!("used_cpu_{mode}{suffix}:{seconds}.{us:06}"));
        }
    };
    put("", cpu.process);
    put("_children", cpu.children);
    put("_main_thread", cpu.main_thread);
}

/// Commands that were called or refused, in table order.
fn called<'a>(cx: &'a Cx<'_>) -> impl Iterator<Item = (Command, &'a CallFigures)> {
    let registries = &*cx.registries;
    let commands = registries.table.commands().iter();
    commands.filter_map(|command| Some((*command, registries.calls.of(*command)?)))
}

fn commandstats(cx: &Cx<'_>, lines: &mut Lines) {
    for (command, figures) in called(cx) {
        let us_per_call = ratio(figures.total_ns, figures.calls) / 1_000.0;
        lines.line(format_args!(
            "cmdstat_{}:calls={},usec={},usec_per_call={us_per_call:.2},rejected_calls={},\
             failed_calls={}",
            command.full_name(),
            figures.calls,
            figures.total_ns / 1_000,
            figures.rejected,
            figures.failed,
        ));
    }
}

fn latencystats(cx: &Cx<'_>, lines: &mut Lines) {
    let config = &cx.registries.config;
    if !config.latency_tracking {
        return;
    }
    for (command, figures) in called(cx) {
        let Some(times) = &figures.times else { continue };
        let percentiles = config.latency_percentiles.iter().map(|percent| {
            let us = times.percentile_ns(*percent) as f64 / 1_000.0;
            format!("p{}={us:.3}", percentile_text(*percent))
        });
        let percentiles = percentiles.collect::<Vec<_>>().join(",");
        lines.put(&format!("latency_percentiles_usec_{}", command.full_name()), percentiles);
    }
}

fn errorstats(cx: &Cx<'_>, lines: &mut Lines) {
    for (code, count) in &cx.registries.stats.error_codes {
        // What would tear the line or its fields apart.
        let code = String::from_utf8_lossy(code).replace(['#', ':', '\n', '\r'], "_");
        lines.line(format_args!("errorstat_{code}:count={count}"));
    }
}

fn cluster(_: &Cx<'_>, lines: &mut Lines) {
    lines.put("cluster_enabled", 0);
}

fn keyspace(cx: &Cx<'_>, lines: &mut Lines) {
    for (index, db) in cx.keyspace.iter().enumerate().filter(|(_, db)| !db.is_empty()) {
        let (keys, expires) = (db.len(), db.volatile_len());
        let ttl = db.average_ttl_ms(cx.now);
        lines.line(format_args!("db{index}:keys={keys},expires={expires},avg_ttl={ttl}"));
    }
}

#[cfg(test)]
mod tests {
    use super::{Human, ROWS};
    use crate::data::NewValue;
    use crate::engine::testing::Bench;
    use crate::keyspace::Deadline;
    use crate::sys::clock::UnixMs;

    fn text(bench: &mut Bench, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let reply = String::from_utf8(bench.run(&words)).expect("text");
        let (header, text) = reply.split_once("\r\n").expect("header");
        let len: usize = header[1..].parse().expect("length");
        assert_eq!(text.len(), len + 2);
        text[..len].to_owned()
    }

    fn titles(text: &str) -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix("# ")).collect()
    }

    const DEFAULT: [&str; 11] = [
        "Server",
        "Clients",
        "Memory",
        "Persistence",
        "Stats",
        "Replication",
        "CPU",
        "Modules",
        "Errorstats",
        "Cluster",
        "Keyspace",
    ];

    #[test]
    fn sections_are_chosen_by_name_and_group() {
        let mut bench = Bench::new(&[ROWS]);
        for (line, shown) in [
            ("info", &DEFAULT[..]),
            ("info default", &DEFAULT),
            ("info DEFAULT cpu", &DEFAULT),
            ("info keyspace nosuch SERVER server", &["Server", "Keyspace"]),
            ("info commandstats", &["Commandstats"]),
            ("info nosuch", &[]),
        ] {
            assert_eq!(titles(&text(&mut bench, line)), shown, "{line}");
        }
        for line in ["info all", "info everything", "info keyspace all"] {
            assert_eq!(titles(&text(&mut bench, line)).len(), 13, "{line}");
        }
        assert_eq!(
            text(&mut bench, "info modules cluster"),
            "# Modules\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n"
        );
    }

    #[test]
    fn every_line_is_a_title_a_field_or_empty() {
        let mut bench = Bench::new(&[ROWS]);
        bench.registries.loading = true;
        bench.registries.figures.log.enabled = true;
        bench.registries.figures.log.fault = Some("a\r\nb".to_owned());
        let text = text(&mut bench, "info everything");
        for line in text.split_terminator("\r\n") {
            assert!(line.is_empty() || line.starts_with("# ") || line.contains(':'), "{line:?}");
            assert!(!line.contains(['\r', '\n']), "{line:?}");
        }
        for field in [
            "redis_version:7.2.4\r\n",
            "server_name:server_async\r\n",
            "loading:1\r\n",
            "aof_offset_appended:0\r\n",
            "aof_oldest_unsynced_ms:0\r\n",
            "aof_fault:a  b\r\n",
            "loading_loaded_perc:0.00\r\n",
        ] {
            assert!(text.contains(field), "{field:?} in {text}");
        }
    }

    #[test]
    fn keyspace_shows_databases_that_hold_keys() {
        let mut bench = Bench::new(&[ROWS]);
        let soon = Deadline::At(UnixMs(bench.now.0 + 500));
        bench.keyspace.db_mut(0).set(b"a", NewValue::Int(1), Deadline::Clear);
        bench.keyspace.db_mut(3).set(b"a", NewValue::Int(1), soon);
        assert_eq!(
            text(&mut bench, "info keyspace"),
            "# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\ndb3:keys=1,expires=1,avg_ttl=500\r\n"
        );
    }

    #[test]
    fn errors_are_counted_by_their_code() {
        let mut bench = Bench::new(&[ROWS]);
        bench.send("nosuch");
        bench.send("nosuch");
        bench.registries.stats.count_error(b"WRONGTYPE Operation against");
        bench.registries.stats.count_error(b"nocodehere");
        assert_eq!(
            text(&mut bench, "info errorstats"),
            "# Errorstats\r\nerrorstat_ERR:count=3\r\nerrorstat_WRONGTYPE:count=1\r\n"
        );
        assert!(text(&mut bench, "info stats").contains("total_error_replies:4\r\n"));
    }

    #[test]
    fn in_resp3_it_is_verbatim_text() {
        let mut bench = Bench::new(&[ROWS]);
        bench.resp3();
        assert_eq!(bench.run(&[b"info", b"modules"]), b"=15\r\ntxt:# Modules\r\n\r\n");
    }

    #[test]
    fn bytes_are_shown_as_redis_shows_them() {
        for (bytes, shown) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (990_600, "967.38K"),
            (7_168_000, "6.84M"),
            (25_276_510_208, "23.54G"),
        ] {
            assert_eq!(Human(bytes).to_string(), shown);
        }
    }
}
