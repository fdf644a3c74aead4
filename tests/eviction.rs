//! `maxmemory`: keys go as the policy says, the log tells of it, and what goes is chosen as well as
//! the reference chooses it.

mod common;

use common::{Launch, Raw, Reply, Rng, Server, eventually, seed_from_env};

const DATABASES: usize = 3;

fn number(server: &Server, field: &str) -> u64 {
    server.info(field).parse().expect("a number")
}

/// What counts towards the limit.
fn counted(server: &Server) -> u64 {
    number(server, "used_memory") - number(server, "mem_not_counted_for_evict")
}

/// Sets so many keys of about 200 bytes in several databases, some with deadlines far away.
fn fill(client: &mut Raw, rng: &mut Rng, keys: usize) {
    let mut sent = Vec::new();
    let mut replies = 0;
    for n in 0..keys {
        if n % 100 == 0 {
            let line = format!("SELECT {}\r\n", rng.below(DATABASES));
            sent.extend_from_slice(line.as_bytes());
            replies += 1;
        }
        let value = vec![b'a' + (n % 26) as u8; rng.below(400)];
        let key = format!("key:{}", rng.below(1 << 20));
        let mut command = vec![&b"SET"[..], key.as_bytes(), &value];
        if n % 4 > 0 {
            command.extend([&b"EX"[..], b"100000"]);
        }
        sent.extend_from_slice(&common::raw::encode(&command));
        replies += 1;
        if sent.len() > 1 << 16 {
            client.send(&std::mem::take(&mut sent));
            all_are_ok(client, std::mem::take(&mut replies));
        }
    }
    client.send(&sent);
    all_are_ok(client, replies);
}

fn all_are_ok(client: &mut Raw, replies: usize) {
    for n in 0..replies {
        let reply = client.reply();
        if !reply.is_ok() {
            (n + 1..replies).for_each(|_| drop(client.reply()));
            let memory = client.run("INFO memory");
            panic!("reply {n} of {replies} is {reply:?}; thereafter {memory:?}");
        }
    }
}

#[test]
fn a_log_with_evictions_gives_the_same_keyspace() {
    let seed = seed_from_env("SERVER_ASYNC_EVICTION_SEED");
    let mut rng = Rng::new(seed);
    for (policy, lazily) in [
        ("allkeys-lru", "no"),
        ("allkeys-lfu", "yes"),
        ("allkeys-random", "no"),
        ("volatile-lru", "yes"),
        ("volatile-lfu", "no"),
        ("volatile-random", "no"),
        ("volatile-ttl", "no"),
    ] {
        println!("{policy}, seed {seed}");
        let launch = Launch::new().flag("enable-debug-command", "yes").flag("maxmemory", "8mb");
        let launch = launch.flag("maxmemory-policy", policy);
        let mut server = launch.flag("lazyfree-lazy-eviction", lazily).start();
        let mut client = server.raw();
        fill(&mut client, &mut rng, 25_000);
        // Evictions go into the rewrite-diff as well.
        assert!(!client.run("BGREWRITEAOF").is_error());
        fill(&mut client, &mut rng, 15_000);
        server.wait_rewrite_end(&mut client);
        fill(&mut client, &mut rng, 5_000);
        assert!(number(&server, "evicted_keys") > 5_000, "{policy}");
        // What other threads hold is known only to a moment ago; the next command sees to the rest.
        eventually("the limit is kept", || counted(&server) <= 8 << 20);
        // Nothing goes any more: neither what a turn had no time for, nor because of these commands.
        assert!(client.run("CONFIG SET maxmemory 0").is_ok());
        let digest = client.run("DEBUG DIGEST");
        server.kill9();
        server.set_flag("maxmemory", "0");
        server.restart();
        assert_eq!(server.run("DEBUG DIGEST"), digest, "{policy}");
        let log = String::from_utf8_lossy(&server.aof()).into_owned();
        let deletion = if lazily == "yes" { "UNLINK" } else { "DEL" };
        assert!(log.contains(deletion), "{policy}");
    }
}

#[test]
fn a_lower_limit_is_reached_without_a_command_and_its_time_is_told() {
    let mut server = Launch::new().flag("maxmemory-policy", "allkeys-random").start();
    let mut client = server.raw();
    fill(&mut client, &mut Rng::new(2), 60_000);
    assert_eq!(server.info("evicted_keys"), "0");
    let used = counted(&server);
    assert!(client.run("CONFIG SET maxmemory-eviction-tenacity 0").is_ok());
    assert!(client.run(&format!("CONFIG SET maxmemory {}", used / 3)).is_ok());
    server.wait_log("WARNING: the new maxmemory value set via CONFIG SET (");
    // INFO itself evicts a little; the rest goes by itself.
    eventually("the limit to be reached", || counted(&server) <= used / 3);
    let (evicted, left) = (number(&server, "evicted_keys"), counted(&server));
    assert!(evicted > 30_000, "{evicted} went, {left} of {used} bytes are left");
    assert_eq!(server.info("current_eviction_exceeded_time"), "0");
    assert_eq!(server.info("maxmemory"), (used / 3).to_string());
    assert_eq!(server.info("maxmemory_policy"), "allkeys-random");
}

#[test]
fn large_values_freed_elsewhere_are_not_counted_twice() {
    let launch = Launch::new().flag("maxmemory", "40mb").flag("lazyfree-lazy-eviction", "yes");
    let server = launch.flag("maxmemory-policy", "allkeys-lru").start();
    let mut client = server.raw();
    let value = vec![b'x'; 1 << 20];
    for n in 0..400 {
        let key = format!("key:{n}");
        assert!(client.command(&[&b"SET"[..], key.as_bytes(), &value]).is_ok());
    }
    // With replies in flight a megabyte more or less; but never many keys more than need be.
    let left = client.run("DBSIZE").int();
    assert!((33..=40).contains(&left), "{left} keys of 1 MiB in 40");
    // What is on its way out is in use until it is freed.
    eventually("the last ones to be freed", || counted(&server) <= 41 << 20);
}

/// Memory that the hand-off's thread has freed was once taken to be in use until the next look at
/// the allocator: keys went for it, and where none were left to go writes were refused.
#[test]
fn what_a_rewrite_frees_costs_no_keys() {
    let launch = Launch::new().flag("maxmemory", "16mb").flag("maxmemory-policy", "volatile-lru");
    let server = launch.start();
    let mut client = server.raw();
    fill(&mut client, &mut Rng::new(4), 60_000);
    let value = vec![b'x'; 64 << 10];
    let set = |client: &mut Raw, times: usize| {
        let one = common::raw::encode(&[&b"SET"[..], b"large", &value]);
        client.send(&one.repeat(times));
        all_are_ok(client, times);
    };
    set(&mut client, 1);
    let before = number(&server, "evicted_keys");
    assert!(before > 1_000);
    for _ in 0..10 {
        assert!(!client.run("BGREWRITEAOF").is_error());
        (0..20).for_each(|_| set(&mut client, 10));
        server.wait_rewrite_end(&mut client);
    }
    let gone = number(&server, "evicted_keys") - before;
    // What was on its way between client and log made some go; the diff must not.
    assert!(gone < 5_000, "{gone} keys went");
}

/// Integers that the log's reader had prepared used to be shared whatever the policy, which made
/// OBJECT tell something else than behind a SET.
#[test]
fn loaded_integers_are_shared_only_where_set_ones_are() {
    const KEYS: usize = 200_000;
    let launch = Launch::new().flag("maxmemory", "1gb").flag("maxmemory-policy", "allkeys-lru");
    let mut server = launch.start();
    let mut client = server.raw();
    let all = |client: &mut Raw, words: &dyn Fn(usize) -> Vec<String>| -> Vec<Reply> {
        let replies = (0..KEYS).step_by(1_000).flat_map(|first| {
            let mut sent = Vec::new();
            (first..first + 1_000).for_each(|n| common::raw::encode_into(&mut sent, &words(n)));
            client.send(&sent);
            (0..1_000).map(|_| client.reply()).collect::<Vec<_>>()
        });
        replies.collect()
    };
    let key = |n: usize| format!("a_counter_of_requests_by_address:{n}");
    all(&mut client, &|n| vec!["SET".into(), key(n), (n % 10_000).to_string()]);
    for (limit, count) in [("1gb", 1), ("0", i64::from(i32::MAX))] {
        server.kill9();
        server.set_flag("maxmemory", limit);
        server.restart();
        let counts = all(&mut server.raw(), &|n| vec!["OBJECT".into(), "REFCOUNT".into(), key(n)]);
        let others = counts.iter().filter(|found| found.int() != count).count();
        assert_eq!(others, 0, "of {KEYS} with a limit of {limit}");
    }
}

/// Runs the lines on both; what differs.
fn compare(ours: &Server, theirs: &Server, lines: &[String]) -> Vec<String> {
    let (mut our_client, mut their_client) = (ours.raw(), theirs.raw());
    let mut different = Vec::new();
    for line in lines {
        let (our, their) = (our_client.run(line), their_client.run(line));
        if our != their {
            different.push(format!("{line}: {our:?} and not {their:?}"));
        }
    }
    different
}

#[test]
fn replies_without_memory_equal_those_of_the_reference() {
    let Some(reference) = Launch::reference("replies without memory") else { return };
    let (ours, theirs) = (Launch::new().start(), reference.start());
    let mut lines: Vec<String> = [
        "SET number 1",
        "SET bits x",
        "SET volatile 1 EX 1000",
        "MULTI",
        "SET a 1",
        "CONFIG GET maxmemory*",
        "DISCARD",
        "CONFIG SET maxmemory 1000000gb",
        "CONFIG GET maxmemory",
        "CONFIG SET maxmemory 1",
        "CONFIG GET maxmemory",
        "CONFIG SET maxmemory-policy lru",
        "CONFIG SET maxmemory-samples 0",
        "CONFIG SET maxmemory-eviction-tenacity 101",
        "CONFIG SET maxmemory-eviction-tenacity 0 maxmemory-samples 64",
        "CONFIG SET maxmemory -1",
        "CONFIG SET maxmemory 1x",
        "OBJECT REFCOUNT number",
    ]
    .map(str::to_owned)
    .to_vec();
    // Out of memory: every command that writes, outside of a transaction, inside, and at its end.
    let commands = [
        "SET a 1",
        "SETNX a 1",
        "SETEX a 9000 1",
        "PSETEX a 9000000 1",
        "GETSET a 1",
        "APPEND a 1",
        "INCR number",
        "DECR number",
        "INCRBY number 1",
        "DECRBY number 1",
        "INCRBYFLOAT number 1",
        "MSET a 1",
        "MSETNX a 1",
        "SETRANGE a 1 x",
        "SETBIT bits 1 1",
        "BITOP NOT a bits",
        "BITFIELD bits SET u8 0 1",
        "BITFIELD_RO bits GET u8 0",
        "COPY number b",
        "RENAME bits b",
        "RENAMENX b bits",
        "MOVE number 1",
        "EXPIRE number 100",
        "PERSIST number",
        "TOUCH number",
        "GET number",
        "GETDEL a",
        "GETEX number",
        "DEL a",
        "UNLINK a",
        "EXISTS number",
        "PING",
        "ECHO x",
        "DBSIZE",
        "TYPE number",
        "SELECT 0",
        "SWAPDB 0 1",
        "SWAPDB 0 1",
        "WATCH number",
        "UNWATCH",
        "CONFIG GET maxmemory",
        "NOSUCH",
        "GET",
        "SET a",
    ];
    lines.extend(commands.iter().map(|line| (*line).to_owned()));
    for command in commands {
        for line in ["MULTI", command, "EXEC", "EXEC", "MULTI"] {
            lines.push(line.to_owned());
        }
        lines.push("DISCARD".to_owned());
        // Queued while there is memory.
        for line in [
            "CONFIG SET maxmemory 0",
            "MULTI",
            command,
            "CONFIG SET maxmemory 1",
            "EXEC",
            "UNWATCH",
        ] {
            lines.push(line.to_owned());
        }
        lines.push("CONFIG SET maxmemory 1".to_owned());
    }
    lines.extend(["MULTI", "MULTI", "WATCH a", "QUIT x"].map(str::to_owned));
    let different = compare(&ours, &theirs, &lines);
    assert!(different.is_empty(), "{}", different.join("\n"));
    let different = compare(
        &ours,
        &theirs,
        &[
            "CONFIG SET maxmemory-policy volatile-ttl",
            "EXISTS volatile",
            "SET a 1",
            "CONFIG SET maxmemory-policy allkeys-lru",
            "DBSIZE",
            "SET a 1",
            "CONFIG SET maxmemory 0",
            "SET number 1",
            "OBJECT REFCOUNT number",
            "CONFIG SET maxmemory 1gb",
            "SET number 2",
            "OBJECT REFCOUNT number",
            "APPEND fresh 5",
            "OBJECT REFCOUNT fresh",
            "INCR counter",
            "OBJECT REFCOUNT counter",
            "OBJECT ENCODING counter",
            "CONFIG SET maxmemory-policy allkeys-random",
            "SET number 3",
            "OBJECT REFCOUNT number",
            "INCR counter",
            "OBJECT REFCOUNT counter",
            "CONFIG SET maxmemory-policy volatile-lfu",
            "INCR counter",
            "OBJECT REFCOUNT counter",
            "SETRANGE number 0 4",
            "GETSET number 7",
            "OBJECT REFCOUNT number",
        ]
        .map(str::to_owned),
    );
    assert!(different.is_empty(), "{}", different.join("\n"));
    for field in
        ["evicted_keys", "maxmemory", "maxmemory_human", "maxmemory_policy", "errorstat_OOM"]
    {
        assert_eq!(ours.info(field), theirs.info(field), "{field}");
    }
}

/// How the hit ratio is measured.
mod quality {
    use super::*;

    /// Keys that fit.
    const CAPACITY: usize = 20_000;
    /// Keys that are asked for again and again, the more the lower their number.
    const POPULAR: usize = 100_000;
    const VALUE: [u8; 100] = [b'v'; 100];
    const BATCH: usize = 250;

    /// Requests: most for popular keys, of which a part changes as time goes by, and some scans
    /// through keys that nobody asks for a second time.
    struct Trace {
        rng: Rng,
        /// The chance that a key's number is below.
        below: Vec<f64>,
        scanned: usize,
        requests: usize,
    }

    impl Trace {
        fn new(seed: u64) -> Trace {
            let mut sum = 0.0;
            let mut below: Vec<f64> = (1..=POPULAR)
                .map(|n| {
                    sum += 1.0 / (n as f64).powf(0.9);
                    sum
                })
                .collect();
            below.iter_mut().for_each(|chance| *chance /= sum);
            Trace { rng: Rng::new(seed), below, scanned: 0, requests: 0 }
        }

        fn next(&mut self) -> String {
            self.requests += 1;
            if self.rng.one_in(8) {
                self.scanned += 1;
                return format!("scan:{}", self.scanned);
            }
            let chance = self.rng.next() as f64 / u64::MAX as f64;
            let rank = self.below.partition_point(|below| *below < chance);
            // What is popular shifts slowly.
            format!("key:{}", rank + self.requests / 200)
        }
    }

    /// A server with room for so many keys, and what it was asked.
    struct Cache {
        server: Server,
        client: Raw,
        limit: u64,
        bytes_per_key: u64,
        asked: usize,
        hits: usize,
        keys: Vec<i64>,
    }

    impl Cache {
        fn new(launch: Launch, policy: &str) -> Cache {
            let launch = launch.flag("appendonly", "no").flag("maxmemory-policy", policy);
            let server = launch.start();
            let mut client = server.raw();
            let before = counted(&server);
            for n in 0..CAPACITY {
                let key = format!("key:{}", POPULAR + n);
                client.send(&common::raw::encode(&[&b"SET"[..], key.as_bytes(), &VALUE]));
                if n % 100 == 99 {
                    (0..100).for_each(|_| assert!(client.reply().is_ok()));
                }
            }
            let limit = counted(&server);
            let bytes_per_key = (limit - before) / CAPACITY as u64;
            let (asked, hits, keys) = (0, 0, Vec::new());
            let mut cache = Cache { server, client, limit, bytes_per_key, asked, hits, keys };
            cache.set_limit();
            cache
        }

        fn set_limit(&mut self) {
            let line = format!("CONFIG SET maxmemory {}", self.limit);
            assert!(self.client.run(&line).is_ok());
        }

        /// GETs the keys, and SETs those that were not there.
        fn ask(&mut self, keys: &[String]) {
            let mut sent = Vec::new();
            for key in keys {
                common::raw::encode_into(&mut sent, &[&b"GET"[..], key.as_bytes()]);
            }
            self.client.send(&sent);
            sent.clear();
            let mut missed = 0;
            for key in keys {
                if self.client.reply().is_null() {
                    missed += 1;
                    common::raw::encode_into(&mut sent, &[&b"SET"[..], key.as_bytes(), &VALUE]);
                }
            }
            self.client.send(&sent);
            (0..missed).for_each(|_| assert!(self.client.reply().is_ok()));
            self.asked += keys.len();
            self.hits += keys.len() - missed;
        }

        fn count_keys(&mut self) {
            let keys = self.client.run("DBSIZE").int();
            self.keys.push(keys);
        }

        fn mean_keys(&self) -> f64 {
            self.keys.iter().sum::<i64>() as f64 / self.keys.len() as f64
        }

        /// Moves the limit so that as many keys fit as are meant to.
        fn calibrate(&mut self) {
            let surplus = (self.mean_keys() - CAPACITY as f64) * self.bytes_per_key as f64;
            self.limit = (self.limit as f64 - surplus) as u64;
            self.set_limit();
        }

        fn forget(&mut self) {
            (self.asked, self.hits) = (0, 0);
            self.keys.clear();
        }

        fn percent(&self) -> f64 {
            self.hits as f64 * 100.0 / self.asked as f64
        }
    }

    /// Replays one trace to both, turn about, so that both see the same in the same time. Returns
    /// the hit ratios in percent, with the same number of keys.
    pub fn measure(policy: &str, batches: usize, seed: u64) -> Option<(f64, f64)> {
        let reference = Launch::reference("the quality of eviction")?;
        let mut caches = [Cache::new(Launch::new(), policy), Cache::new(reference, policy)];
        let mut trace = Trace::new(seed);
        for batch in 0..batches * 2 {
            let keys: Vec<String> = (0..BATCH).map(|_| trace.next()).collect();
            for cache in &mut caches {
                cache.ask(&keys);
                if batch % 10 == 9 {
                    cache.count_keys();
                }
                // The first half is for finding the limits.
                if batch < batches && batch % (batches / 8) == batches / 8 - 1 {
                    cache.calibrate();
                    cache.forget();
                }
                if batch == batches {
                    cache.forget();
                }
            }
        }
        let [ours, theirs] = &caches;
        println!(
            "{policy}, seed {seed}: {:.2} % hits with {:.0} keys in {} bytes; the reference {:.2} % with \
             {:.0} keys in {} bytes",
            ours.percent(),
            ours.mean_keys(),
            ours.limit,
            theirs.percent(),
            theirs.mean_keys(),
            theirs.limit,
        );
        let difference = (ours.mean_keys() / theirs.mean_keys() - 1.0).abs();
        assert!(difference < 0.01, "the numbers of keys differ by {difference}");
        assert!(number(&ours.server, "evicted_keys") > CAPACITY as u64);
        Some((ours.percent(), theirs.percent()))
    }
}

#[test]
fn lru_and_lfu_hit_as_often_as_the_reference() {
    let seed = seed_from_env("SERVER_ASYNC_EVICTION_SEED");
    let batches = common::env_number("SERVER_ASYNC_EVICTION_BATCHES", 800);
    for policy in ["allkeys-lru", "allkeys-lfu"] {
        let measured = quality::measure(policy, batches as usize, seed);
        let Some((ours, theirs)) = measured else { return };
        assert!(ours > theirs - 1.0, "{policy}: {ours:.2} % where the reference has {theirs:.2} %");
    }
}

#[test]
fn writes_that_are_refused_leave_no_trace() {
    let mut server = Launch::new().flag("enable-debug-command", "yes").start();
    let mut client = server.raw();
    fill(&mut client, &mut Rng::new(3), 1_000);
    let digest = client.run("DEBUG DIGEST");
    assert!(client.run("CONFIG SET maxmemory 1").is_ok());
    let size = server.aof().len();
    for line in ["SET a 1", "APPEND a 1", "INCR a", "MSET a 1 b 2"] {
        assert!(client.run(line).is_error_text("OOM command not allowed"), "{line}");
    }
    assert_eq!((server.aof().len(), client.run("DEBUG DIGEST")), (size, digest.clone()));
    assert!(!client.run("DBSIZE").is_error());
    server.kill9();
    server.restart();
    assert_eq!(server.run("DEBUG DIGEST"), digest);
    assert_eq!(server.run("SET a 1"), Reply::Simple(b"OK".to_vec()));
}
