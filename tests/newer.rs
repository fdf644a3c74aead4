//! What is newer than the redis-server that other tests compare with, and what operators read most:
//! command lines with the replies that Redis's documentation has for them, letter by letter.

mod common;

use common::{Launch, Raw, Reply, Server};

/// A command line, and its whole reply with spaces in place of line ends.
type Row = (&'static str, &'static str);

/// Runs the rows in their order. A reply `{null}` is what the protocol has for no value.
fn check(client: &mut Raw, protocol: u8, rows: &[Row]) {
    let null = if protocol == 3 { "_" } else { "$-1" };
    for (at, (line, expected)) in rows.iter().enumerate() {
        let shown = answer(client, line);
        let expected = expected.replace("{null}", null);
        assert_eq!(shown, expected, "RESP{protocol}, row {at}: {line}");
    }
}

fn answer(client: &mut Raw, line: &str) -> String {
    client.send(&common::raw::encode(&common::raw::words(line)));
    let raw = client.frame().raw;
    String::from_utf8_lossy(&raw).replace("\r\n", " ").trim_end().to_owned()
}

/// Each table on a fresh connection and an empty server, in RESP2 and in RESP3.
fn check_in_both(server: &Server, rows: &[Row]) {
    for protocol in [2, 3] {
        let mut client = server.raw();
        assert!(!client.run(&format!("HELLO {protocol}")).is_error());
        assert!(client.run("FLUSHALL").is_ok());
        check(&mut client, protocol, rows);
    }
}

const SYNTAX: &str = "-ERR syntax error";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range";
const INVALID_SET: &str = "-ERR invalid expire time in 'set' command";

#[test]
fn set_takes_every_option_and_every_combination_that_makes_sense() {
    check_in_both(
        &Server::start(&[]),
        &[
            ("SET k v GET", "{null}"),
            ("SET k w GET", "$1 v"),
            ("SET k x NX", "{null}"),
            // Not set, since it is there; told all the same.
            ("SET k x NX GET", "$1 w"),
            ("SET k x GET NX", "$1 w"),
            ("GET k", "$1 w"),
            ("SET n v NX GET", "{null}"),
            ("GET n", "$1 v"),
            ("SET n w XX", "+OK"),
            ("SET n x xx get", "$1 w"),
            ("SET absent v XX", "{null}"),
            ("SET absent v XX GET", "{null}"),
            ("EXISTS absent", ":0"),
            ("SET k v EXAT 33000000000", "+OK"),
            ("EXPIRETIME k", ":33000000000"),
            ("SET k w KEEPTTL", "+OK"),
            ("PEXPIRETIME k", ":33000000000000"),
            ("SET k x KEEPTTL GET XX", "$1 w"),
            ("EXPIRETIME k", ":33000000000"),
            // What is not set keeps its deadline too.
            ("SET k y NX PXAT 34000000000000", "{null}"),
            ("EXPIRETIME k", ":33000000000"),
            ("SET k y PXAT 33000000000123 GET XX", "$1 x"),
            ("PEXPIRETIME k", ":33000000000123"),
            ("SET k v", "+OK"),
            ("EXPIRETIME k", ":-1"),
            ("EXPIRETIME absent", ":-2"),
            ("SET fresh v KEEPTTL", "+OK"),
            ("PTTL fresh", ":-1"),
            ("SET fresh v PXAT 9223372036854775807", "+OK"),
            ("PEXPIRETIME fresh", ":9223372036854775807"),
            // A moment that has passed: set, and gone at once.
            ("SET k v EXAT 1", "+OK"),
            ("GET k", "{null}"),
            ("SET k v", "+OK"),
            ("SET k w PXAT 1 GET", "$1 v"),
            ("EXISTS k", ":0"),
            // The same option once more.
            ("SET k v EX 100 EX 200", "+OK"),
            ("SET k v KEEPTTL KEEPTTL NX NX GET GET", "$1 v"),
            ("SET k v NX XX", SYNTAX),
            ("SET k v XX NX", SYNTAX),
            ("SET k v NX GET XX", SYNTAX),
            ("SET k v EX 100 PX 100", SYNTAX),
            ("SET k v PX 100 EX 100", SYNTAX),
            ("SET k v EXAT 33000000000 EX 100", SYNTAX),
            ("SET k v EX 100 EXAT 33000000000", SYNTAX),
            ("SET k v PXAT 33000000000 PX 100", SYNTAX),
            ("SET k v EXAT 33000000000 PXAT 33000000000", SYNTAX),
            ("SET k v EX 100 KEEPTTL", SYNTAX),
            ("SET k v KEEPTTL EX 100", SYNTAX),
            ("SET k v KEEPTTL PXAT 33000000000", SYNTAX),
            ("SET k v PERSIST", SYNTAX),
            ("SET k v EX", SYNTAX),
            ("SET k v NX EX", SYNTAX),
            ("SET k v FOO", SYNTAX),
            ("SET k v 10", SYNTAX),
            // Syntax is judged ahead of times.
            ("SET k v EX 0 PX 1", SYNTAX),
            ("SET k v EX 0", INVALID_SET),
            ("SET k v EX -1", INVALID_SET),
            ("SET k v PX 0", INVALID_SET),
            ("SET k v EXAT 0", INVALID_SET),
            ("SET k v PXAT -5", INVALID_SET),
            ("SET k v EX 9223372036854775807", INVALID_SET),
            ("SET k v EX 9223372036854776", INVALID_SET),
            ("SET k v PX 9223372036854775807", INVALID_SET),
            ("SET k v EXAT 9223372036854775807", INVALID_SET),
            ("SET k v EX 9223372036854775808", NOT_AN_INTEGER),
            ("SET k v EX abc", NOT_AN_INTEGER),
            ("SET k v PX 1.5", NOT_AN_INTEGER),
            ("SET k v PXAT +1", NOT_AN_INTEGER),
            ("SET k v EX KEEPTTL", NOT_AN_INTEGER),
            ("SET k", "-ERR wrong number of arguments for 'set' command"),
        ],
    );
}

#[test]
fn relative_times_are_counted_from_now() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for line in ["SET k v EX 1000", "SET k v PX 1000000", "GETEX k EX 1000", "GETEX k PX 1000000"] {
        assert!(!client.run(line).is_error());
        let left_ms = client.run("PTTL k").int();
        assert!((900_000..=1_000_000).contains(&left_ms), "{line}: {left_ms} ms");
    }
}

#[test]
fn deadlines_change_under_conditions() {
    const INCOMPATIBLE: &str =
        "-ERR NX and XX, GT or LT options at the same time are not compatible";
    check_in_both(
        &Server::start(&[]),
        &[
            ("SET k v", "+OK"),
            ("EXPIREAT k 33000000000 XX", ":0"),
            // No deadline counts as an infinite one.
            ("EXPIREAT k 33000000000 GT", ":0"),
            ("EXPIREAT k 33000000000 LT", ":1"),
            ("EXPIREAT k 33000000001 NX", ":0"),
            ("EXPIREAT k 33000000001 LT", ":0"),
            ("EXPIREAT k 33000000000 GT", ":0"),
            ("EXPIREAT k 33000000001 GT", ":1"),
            ("PEXPIREAT k 33000000002000 XX GT", ":1"),
            ("PEXPIREAT k 33000000002000 XX LT", ":0"),
            ("PEXPIREAT k 33000000001999 LT XX", ":1"),
            ("PEXPIRETIME k", ":33000000001999"),
            // To the nearest second.
            ("EXPIRETIME k", ":33000000002"),
            ("PERSIST k", ":1"),
            ("PERSIST k", ":0"),
            ("EXPIREAT k 33000000000 XX LT", ":0"),
            ("EXPIREAT k 33000000000 NX", ":1"),
            ("EXPIRE absent 100 NX", ":0"),
            ("EXPIRE k 100 NX XX", INCOMPATIBLE),
            ("EXPIRE k 100 NX GT", INCOMPATIBLE),
            ("EXPIRE k 100 LT NX", INCOMPATIBLE),
            ("EXPIRE k 100 GT LT", "-ERR GT and LT options at the same time are not compatible"),
            ("EXPIRE k 100 FOO", "-ERR Unsupported option FOO"),
            ("EXPIRE k abc", NOT_AN_INTEGER),
            ("EXPIRE k 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
            ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command"),
            ("EXPIREAT k -9223372036854775808", "-ERR invalid expire time in 'expireat' command"),
            ("PEXPIREAT k 1 GT", ":0"),
            ("EXISTS k", ":1"),
            ("PEXPIREAT k 1 LT", ":1"),
            ("EXISTS k", ":0"),
            ("SET k v", "+OK"),
            ("EXPIRE k -1", ":1"),
            ("EXISTS k", ":0"),
            ("SET k v", "+OK"),
            ("GETEX k EXAT 33000000000", "$1 v"),
            ("GETEX k", "$1 v"),
            ("EXPIRETIME k", ":33000000000"),
            ("GETEX k PERSIST", "$1 v"),
            ("TTL k", ":-1"),
            ("GETEX k PERSIST EX 10", SYNTAX),
            ("GETEX k EX 10 PERSIST", SYNTAX),
            ("GETEX k KEEPTTL", SYNTAX),
            ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command"),
            ("GETEX absent EX 10", "{null}"),
            ("GETEX k PXAT 1", "$1 v"),
            ("GETDEL k", "{null}"),
            ("SET k v", "+OK"),
            ("GETDEL k", "$1 v"),
            ("EXISTS k", ":0"),
        ],
    );
}

#[test]
fn copies_and_encodings() {
    check_in_both(
        &Server::start(&[]),
        &[
            ("SET k 5 EXAT 33000000000", "+OK"),
            ("COPY k other", ":1"),
            ("COPY k other", ":0"),
            ("EXPIRETIME other", ":33000000000"),
            ("COPY k other REPLACE", ":1"),
            ("COPY k k", "-ERR source and destination objects are the same"),
            ("COPY k k DB 1", ":1"),
            ("COPY k k DB 1 REPLACE", ":1"),
            ("COPY k k DB 99", "-ERR DB index is out of range"),
            ("COPY k k DB x", NOT_AN_INTEGER),
            ("COPY k k DB", SYNTAX),
            ("COPY absent k", ":0"),
            ("OBJECT ENCODING k", "$3 int"),
            ("APPEND k 0", ":2"),
            ("OBJECT ENCODING k", "$3 raw"),
            ("INCR k", ":51"),
            ("OBJECT ENCODING k", "$3 int"),
            ("SET k 12345678901234567890123456789012345678901234", "+OK"),
            ("OBJECT ENCODING k", "$6 embstr"),
            ("SET k 123456789012345678901234567890123456789012345", "+OK"),
            ("OBJECT ENCODING k", "$3 raw"),
            ("SET k abc", "+OK"),
            ("SETRANGE k 1 x", ":3"),
            ("OBJECT ENCODING k", "$3 raw"),
            ("OBJECT ENCODING absent", "{null}"),
            ("OBJECT REFCOUNT absent", "{null}"),
            ("OBJECT IDLETIME absent", "{null}"),
            ("OBJECT IDLETIME k", ":0"),
            ("OBJECT FREQ absent", "{null}"),
            (
                "OBJECT FREQ k",
                "-ERR An LFU maxmemory policy is not selected, access frequency not tracked. \
                 Please note that when switching between policies at runtime LRU and LFU data \
                 will take some time to adjust.",
            ),
            ("OBJECT FREQ", "-ERR wrong number of arguments for 'object|freq' command"),
            ("OBJECT FOO k", "-ERR unknown subcommand 'FOO'. Try OBJECT HELP."),
        ],
    );
}

#[test]
fn ranges_of_bits_and_of_bytes() {
    check_in_both(
        &Server::start(&[]),
        &[
            ("SET k foobar", "+OK"),
            ("BITCOUNT k", ":26"),
            ("BITCOUNT k 0 0", ":4"),
            ("BITCOUNT k 1 1 BYTE", ":6"),
            ("BITCOUNT k 5 30 BIT", ":17"),
            ("BITCOUNT k 5 30 bit", ":17"),
            ("BITCOUNT k -8 -1 BIT", ":4"),
            ("BITCOUNT k 2", SYNTAX),
            ("BITCOUNT k 0 1 FOO", SYNTAX),
            ("BITCOUNT k 0 1 BIT BIT", SYNTAX),
            ("BITCOUNT k a 1", NOT_AN_INTEGER),
            ("BITCOUNT absent 0 -1 BIT", ":0"),
            ("BITPOS k 1", ":1"),
            ("BITPOS k 0", ":0"),
            ("BITPOS k 1 1", ":9"),
            ("BITPOS k 1 7 15 BIT", ":9"),
            ("BITPOS k 0 1 2 BIT", ":-1"),
            ("BITPOS k 1 -1 -1 BYTE", ":41"),
            ("BITPOS k 1 -3 -1 BIT", ":46"),
            ("BITPOS k 1 9 9 BYTE", ":-1"),
            ("BITPOS k 2", "-ERR The bit argument must be 1 or 0."),
            ("BITPOS k 1 0 1 FOO", SYNTAX),
            ("BITPOS absent 0", ":0"),
            ("BITPOS absent 1", ":-1"),
            ("BITPOS absent 1 0 -1 BIT", ":-1"),
            ("SETBIT full 7 1", ":0"),
            ("BITFIELD full SET u8 0 255", "*1 :1"),
            // Behind a string of ones there is a zero, unless the end was told.
            ("BITPOS full 0", ":8"),
            ("BITPOS full 0 0", ":8"),
            ("BITPOS full 0 0 -1", ":-1"),
            ("BITPOS full 0 0 -1 BIT", ":-1"),
        ],
    );
}

#[test]
fn libraries_and_use_are_told_by_each_client_for_itself() {
    let server = Server::start(&[("maxmemory-policy", "allkeys-lfu"), ("lfu-log-factor", "0")]);
    check_in_both(
        &server,
        &[
            ("CLIENT SETINFO LIB-NAME redis-py", "+OK"),
            ("CLIENT SETINFO lib-ver 5.0.1", "+OK"),
            (
                "CLIENT SETINFO lib-name a\u{1}b",
                "-ERR lib-name cannot contain spaces, newlines or special characters.",
            ),
            (
                "CLIENT SETINFO LIB-VER \u{e9}",
                "-ERR LIB-VER cannot contain spaces, newlines or special characters.",
            ),
            ("CLIENT SETINFO lib-foo x", "-ERR Unrecognized option 'lib-foo'"),
            (
                "CLIENT SETINFO lib-name",
                "-ERR wrong number of arguments for 'client|setinfo' command",
            ),
            (
                "CLIENT SETINFO lib-name a b",
                "-ERR wrong number of arguments for 'client|setinfo' command",
            ),
            ("CLIENT NO-TOUCH maybe", SYNTAX),
            ("CLIENT NO-TOUCH", "-ERR wrong number of arguments for 'client|no-touch' command"),
            ("SET k v", "+OK"),
            ("OBJECT FREQ k", ":5"),
            ("GET k", "$1 v"),
            ("OBJECT FREQ k", ":6"),
            ("CLIENT NO-TOUCH on", "+OK"),
            ("GET k", "$1 v"),
            ("STRLEN k", ":1"),
            ("OBJECT FREQ k", ":6"),
            // TOUCH is asked to touch.
            ("TOUCH k", ":1"),
            ("OBJECT FREQ k", ":7"),
            ("CLIENT NO-TOUCH OFF", "+OK"),
            ("GET k", "$1 v"),
            ("OBJECT FREQ k", ":8"),
        ],
    );
    let mut client = server.raw();
    let field = |client: &mut Raw, name: &str| -> String {
        let info = client.run("CLIENT INFO").text();
        let mut fields = info.split_whitespace().filter_map(|field| field.split_once('='));
        fields.find(|(found, _)| *found == name).expect(name).1.to_owned()
    };
    for name in ["lib-name", "lib-ver"] {
        assert_eq!(field(&mut client, name), "");
    }
    for line in [
        "CLIENT SETINFO LIB-NAME lib(x_y;z)",
        "CLIENT SETINFO LIB-VER 1.2.3",
        "CLIENT NO-TOUCH ON",
        "CLIENT NO-EVICT ON",
    ] {
        assert!(client.run(line).is_ok(), "{line}");
    }
    assert_eq!(field(&mut client, "lib-name"), "lib(x_y;z)");
    assert_eq!(field(&mut client, "lib-ver"), "1.2.3");
    assert_eq!(field(&mut client, "flags"), "eT");
    let listed = server.run("CLIENT LIST").text();
    assert!(listed.contains("lib-name=lib(x_y;z) lib-ver=1.2.3\n"), "{listed}");
    // A connection that begins anew keeps what it said of its library, which has not changed, and
    // as in 7.0 its protection.
    assert_eq!(client.run("RESET").text(), "RESET");
    assert_eq!(field(&mut client, "lib-name"), "lib(x_y;z)");
    assert_eq!(field(&mut client, "flags"), "e");
    // An empty value takes it back.
    assert!(client.command(&["CLIENT", "SETINFO", "LIB-NAME", ""]).is_ok());
    assert_eq!(field(&mut client, "lib-name"), "");
}

#[test]
fn waiting_for_the_disk() {
    const RANGE: &str = "-ERR value is out of range, value must between 0 and 1";
    let server = Server::start(&[("appendfsync", "everysec")]);
    check_in_both(
        &server,
        &[
            ("SET k w", "+OK"),
            ("WAITAOF 1 0 0", "*2 :1 :0"),
            ("WAITAOF 1 1 20", "*2 :1 :0"),
            ("WAITAOF 2 0 0", RANGE),
            ("WAITAOF -1 0 0", RANGE),
            ("WAITAOF x 0 0", NOT_AN_INTEGER),
            ("WAITAOF 1 -1 0", "-ERR value is out of range, must be positive"),
            ("WAITAOF 1 x 0", "-ERR value is out of range, must be positive"),
            ("WAITAOF 1 0 x", "-ERR timeout is not an integer or out of range"),
            ("WAITAOF 1 0 -1", "-ERR timeout is negative"),
            ("WAITAOF 1 0", "-ERR wrong number of arguments for 'waitaof' command"),
        ],
    );
    check_in_both(
        &Server::start(&[("appendonly", "no")]),
        &[
            (
                "WAITAOF 1 0 0",
                "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
            ),
            ("WAITAOF 0 0 0", "*2 :0 :0"),
        ],
    );
}

#[test]
fn clients_are_ended_by_all_filters_together() {
    let server = Server::start(&[]);
    check_in_both(
        &server,
        &[
            ("CLIENT KILL MAXAGE 100000", ":0"),
            ("CLIENT KILL MAXAGE 0", "-ERR maxage should be greater than 0"),
            ("CLIENT KILL MAXAGE x", "-ERR maxage is not an integer or out of range"),
            ("CLIENT KILL TYPE foo", "-ERR Unknown client type 'foo'"),
            ("CLIENT KILL USER nobody", "-ERR No such user 'nobody'"),
            ("CLIENT KILL SKIPME maybe", SYNTAX),
            ("CLIENT KILL ID 0", "-ERR client-id should be greater than 0"),
            ("CLIENT KILL 1.2.3.4:5", "-ERR No such client"),
            ("CLIENT KILL ADDR 1.2.3.4:5", ":0"),
        ],
    );
    let mut operator = server.raw();
    let (mut a, mut b) = (server.raw(), server.raw());
    let (a_id, b_id) = (a.run("CLIENT ID").int(), b.run("CLIENT ID").int());
    let killed = operator.run(&format!("CLIENT KILL ID {a_id} TYPE pubsub"));
    assert_eq!(killed, Reply::Int(0), "both must hold");
    let killed = operator.run(&format!("CLIENT KILL ID {a_id} {b_id} TYPE normal SKIPME yes"));
    assert_eq!(killed, Reply::Int(2));
    assert!(a.is_closed() && b.is_closed());
    assert_eq!(operator.run("PING").text(), "PONG");
}

#[test]
fn the_configuration_is_set_all_at_once_or_not_at_all() {
    check_in_both(
        &Server::start(&[]),
        &[
            ("CONFIG SET hz 20 timeout 100 slowlog-max-len 7", "+OK"),
            (
                "CONFIG SET hz 30 timeout abc",
                "-ERR CONFIG SET failed (possibly related to argument 'timeout') - argument \
                 couldn't be parsed into an integer",
            ),
            (
                "CONFIG SET hz 30 nosuch 1",
                "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'",
            ),
            (
                "CONFIG SET hz 30 hz 40",
                "-ERR CONFIG SET failed (possibly related to argument 'hz') - duplicate parameter",
            ),
            ("CONFIG SET port", "-ERR wrong number of arguments for 'config|set' command"),
            ("CONFIG SET hz 30 timeout", SYNTAX),
            ("CONFIG SET timeout 0 slowlog-max-len 128", "+OK"),
        ],
    );
    let server = Server::start(&[]);
    let mut client = server.raw();
    let mut get = |line: &str| {
        let reply = client.run(line);
        let pairs = reply.items().chunks(2);
        let mut pairs: Vec<_> = pairs.map(|pair| (pair[0].text(), pair[1].text())).collect();
        pairs.sort();
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    // Each name once, however many patterns it matches, and as it was asked for.
    assert_eq!(get("CONFIG GET HZ h? timeout nosuch"), ["HZ=10", "timeout=0"]);
    assert_eq!(
        get("CONFIG GET slowlog-*"),
        ["slowlog-log-slower-than=10000", "slowlog-max-len=128"]
    );
    assert!(get("CONFIG GET nosuch*").is_empty());
}

#[test]
fn the_command_table_answers_questions() {
    check_in_both(
        &Server::start(&[]),
        &[
            ("COMMAND LIST FILTERBY PATTERN bitfield", "*1 $8 bitfield"),
            ("COMMAND LIST FILTERBY PATTERN client|no-t*", "*1 $15 client|no-touch"),
            ("COMMAND LIST FILTERBY MODULE nosuch", "*0"),
            ("COMMAND LIST FILTERBY ACLCAT nosuch", "*0"),
            ("COMMAND LIST FILTERBY FOO x", SYNTAX),
            ("COMMAND GETKEYS SET k v", "*1 $1 k"),
            ("COMMAND GETKEYS MSET a 1 b 2", "*2 $1 a $1 b"),
            ("COMMAND GETKEYS PING x", "-ERR The command has no key arguments"),
            ("COMMAND GETKEYS NOSUCH x", "-ERR Invalid command specified"),
            ("COMMAND GETKEYS GET x y", "-ERR Invalid number of arguments specified for command"),
            ("CLUSTER INFO", "-ERR This instance has cluster support disabled"),
            ("CLUSTER NODES", "-ERR This instance has cluster support disabled"),
            ("CLUSTER SLOTS", "-ERR This instance has cluster support disabled"),
            ("CLUSTER SHARDS", "-ERR This instance has cluster support disabled"),
            ("CLUSTER MYID", "-ERR This instance has cluster support disabled"),
            ("CLUSTER KEYSLOT k", "-ERR This instance has cluster support disabled"),
        ],
    );
    let server = Server::start(&[]);
    let mut client = server.raw();
    check(
        &mut client,
        2,
        &[
            ("COMMAND GETKEYSANDFLAGS GET k", "*1 *2 $1 k *2 +RO +access"),
            ("COMMAND GETKEYSANDFLAGS SET k v", "*1 *2 $1 k *2 +OW +update"),
            ("COMMAND GETKEYSANDFLAGS SET k v GET", "*1 *2 $1 k *3 +RW +access +update"),
            (
                "COMMAND GETKEYSANDFLAGS COPY a b",
                "*2 *2 $1 a *2 +RO +access *2 $1 b *2 +OW +update",
            ),
            ("COMMAND GETKEYSANDFLAGS DEL k", "*1 *2 $1 k *2 +RM +delete"),
            ("LATENCY HISTOGRAM nosuch", "*0"),
            ("CONFIG RESETSTAT", "+OK"),
            ("ECHO x", "$1 x"),
        ],
    );
    // A name, and a map of how many calls in all and how many took no longer than so much.
    let histogram = client.run("LATENCY HISTOGRAM echo");
    let [name, what] = histogram.items() else { panic!("{histogram:?}") };
    assert_eq!(name.text(), "echo");
    let [calls, one, times, buckets] = what.items() else { panic!("{what:?}") };
    assert_eq!((calls.text(), one.int()), ("calls".into(), 1));
    assert_eq!((times.text(), buckets.items().len()), ("histogram_usec".into(), 2));
}

/// INFO has the fields of 7.2, newer ones included, in its sections.
#[test]
fn info_has_the_fields_of_its_sections() {
    const FIELDS: &[(&str, &str)] = &[
        (
            "server",
            "redis_version redis_git_sha1 redis_git_dirty redis_build_id redis_mode os arch_bits \
             monotonic_clock multiplexing_api process_id \
             process_supervised run_id tcp_port server_time_usec uptime_in_seconds uptime_in_days \
             hz configured_hz lru_clock executable config_file io_threads_active listener0",
        ),
        (
            "clients",
            "connected_clients cluster_connections maxclients client_recent_max_input_buffer \
             client_recent_max_output_buffer blocked_clients tracking_clients \
             clients_in_timeout_table total_blocking_keys total_blocking_keys_on_nokey",
        ),
        (
            "memory",
            "used_memory used_memory_human used_memory_rss used_memory_peak \
             used_memory_peak_perc used_memory_overhead used_memory_startup used_memory_dataset \
             used_memory_dataset_perc allocator_allocated allocator_active allocator_resident \
             total_system_memory maxmemory maxmemory_human maxmemory_policy \
             allocator_frag_ratio mem_fragmentation_ratio mem_not_counted_for_evict \
             mem_clients_slaves mem_clients_normal mem_aof_buffer mem_allocator lazyfree_pending_objects \
             lazyfreed_objects",
        ),
        (
            "persistence",
            "loading async_loading current_cow_peak current_cow_size current_cow_size_age \
             current_fork_perc current_save_keys_processed current_save_keys_total \
             aof_enabled aof_rewrite_in_progress aof_rewrite_scheduled \
             aof_last_rewrite_time_sec aof_current_rewrite_time_sec aof_last_bgrewrite_status \
             aof_rewrites aof_last_write_status aof_last_cow_size aof_current_size aof_base_size \
             aof_pending_rewrite aof_buffer_length aof_pending_bio_fsync aof_delayed_fsync",
        ),
        (
            "stats",
            "total_connections_received total_commands_processed instantaneous_ops_per_sec \
             total_net_input_bytes total_net_output_bytes rejected_connections expired_keys \
             expired_stale_perc expired_time_cap_reached_count expire_cycle_cpu_milliseconds \
             evicted_keys evicted_clients keyspace_hits keyspace_misses latest_fork_usec \
             total_forks unexpected_error_replies total_error_replies dump_payload_sanitizations \
             total_reads_processed total_writes_processed reply_buffer_shrinks \
             reply_buffer_expands eventloop_cycles eventloop_duration_sum \
             eventloop_duration_cmd_sum instantaneous_eventloop_cycles_per_sec \
             instantaneous_eventloop_duration_usec acl_access_denied_auth acl_access_denied_cmd \
             acl_access_denied_key acl_access_denied_channel",
        ),
        ("replication", "role connected_slaves master_failover_state master_replid"),
        (
            "cpu",
            "used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children \
             used_cpu_sys_main_thread used_cpu_user_main_thread",
        ),
        ("commandstats", "cmdstat_set"),
        ("latencystats", "latency_percentiles_usec_set"),
        ("errorstats", "errorstat_ERR"),
        ("cluster", "cluster_enabled"),
        ("keyspace", "db0"),
    ];
    let server = Launch::new().start();
    let mut client = server.raw();
    assert!(client.run("SET k v").is_ok());
    assert!(client.run("NOSUCH").is_error());
    let mut missing = Vec::new();
    for (section, fields) in FIELDS {
        let text = client.run(&format!("INFO {section}")).text();
        let known: Vec<&str> = text.lines().filter_map(|line| line.split(':').next()).collect();
        for field in fields.split_whitespace() {
            if !known.contains(&field) {
                missing.push(format!("{section}: {field}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    let errors = server.run("INFO errorstats").text();
    assert!(errors.contains("errorstat_ERR:count=1\r\n"), "{errors}");
}
