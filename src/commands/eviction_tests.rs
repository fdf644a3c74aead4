//! What commands do when memory runs short.

use super::FAMILIES;
use crate::config::EvictionPolicy;
use crate::engine::memory::LogBuffers;
use crate::engine::testing::Bench;
use crate::keyspace::{Database, Garbage};
use crate::sys::clock::UnixMs;

const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.";

fn bench(policy: EvictionPolicy) -> Bench {
    let mut bench = Bench::new(FAMILIES);
    bench.registries.config.maxmemory_policy = policy;
    bench
}

fn fill(bench: &mut Bench, keys: usize) {
    for n in 0..keys {
        bench.run(&[b"SET", format!("key:{n}").as_bytes(), &[b'x'; 100]]);
    }
    bench.log();
    // The bench's own lists would count as well.
    bench.records = Vec::new();
}

/// Sets the limit so many bytes above what is in use, or below.
fn limit(bench: &mut Bench, above: i64) {
    let used = i64::try_from(bench.registries.memory.counted_bytes()).expect("bytes");
    bench.registries.config.maxmemory_bytes = u64::try_from(used + above).expect("a limit");
}

fn keys(bench: &Bench) -> usize {
    bench.keyspace.iter().map(Database::len).sum()
}

#[test]
fn keys_go_ahead_of_the_command_and_each_has_its_record() {
    let mut b = bench(EvictionPolicy::AllKeysRandom);
    fill(&mut b, 1_000);
    limit(&mut b, -10_000);
    assert_eq!(b.send("SET new v"), "+OK");
    let gone = 1_001 - keys(&b);
    assert!((40..120).contains(&gone), "{gone} keys of more than 100 bytes");
    let log = b.log();
    assert_eq!(log.len(), gone + 1);
    assert!(log[..gone].iter().all(|line| line.starts_with("DEL key:")), "{log:?}");
    assert_eq!(log[gone], "SET new v");
    assert_eq!(b.registries.stats.evicted_keys, gone as u64);
    assert_eq!(b.keyspace.dirty, 1_001, "an eviction is no change by a client");
}

#[test]
fn reads_evict_too_and_lazily_it_is_unlink() {
    let mut b = bench(EvictionPolicy::AllKeysLru);
    fill(&mut b, 1_000);
    let large = vec![b'x'; 1 << 20];
    b.run(&[b"SET", b"large", &large]);
    b.records = Vec::new();
    b.registries.config.lazyfree.eviction = true;
    b.registries.config.maxmemory_samples = 2_000;
    b.advance_ms(10_000);
    for n in 0..1_000 {
        b.send(&format!("GET key:{n}"));
    }
    limit(&mut b, -1_000);
    assert_eq!(b.send("GET nosuch"), "$-1");
    assert_eq!(b.log(), ["UNLINK large"]);
    assert_eq!(b.garbage.len(), 1, "what is large is freed elsewhere, and counted as free");
    assert_eq!(keys(&b), 1_000);
}

#[test]
fn what_may_need_memory_is_refused_when_nothing_may_go() {
    let mut b = bench(EvictionPolicy::NoEviction);
    fill(&mut b, 100);
    limit(&mut b, -1);
    for line in ["SET a 1", "APPEND key:1 x", "INCR a", "SETRANGE a 1 x", "COPY key:1 b"] {
        assert_eq!(b.send(line), OOM, "{line}");
    }
    assert_eq!((b.log().len(), keys(&b)), (0, 100), "refused means unchanged and unlogged");
    assert_eq!(b.registries.stats.error_codes[&b"OOM"[..]], 5);
    assert_eq!(b.send("GET key:1").len(), 105);
    assert_eq!(b.send("EXPIRE key:1 100"), ":1");
    assert_eq!(b.send("DEL key:1"), ":1");
    // Deadlines that are there make a volatile policy different from none.
    limit(&mut b, -1);
    b.registries.config.maxmemory_policy = EvictionPolicy::VolatileLru;
    assert_eq!(b.send("SET a 1"), OOM);
    b.registries.config.maxmemory_bytes = 0;
    b.run(&[b"SET", b"key:2", &[b'x'; 8_000], b"EX", b"100"]);
    limit(&mut b, -1);
    assert_eq!(b.send("SET a 1"), "+OK");
    assert_eq!(b.send("EXISTS key:2"), ":0");
}

#[test]
fn transactions_are_refused_as_in_redis() {
    const ABORTED: &str = "-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > \
         'maxmemory'.";
    let mut b = bench(EvictionPolicy::NoEviction);
    fill(&mut b, 100);
    // While queueing: whatever it is, and the transaction cannot succeed any more.
    b.send("MULTI");
    limit(&mut b, -1);
    assert_eq!(b.send("GET key:1"), OOM);
    b.registries.config.maxmemory_bytes = 0;
    assert_eq!(b.send("EXEC"), "-EXECABORT Transaction discarded because of previous errors.");
    // At EXEC: if something queued may need memory.
    for (queued, reply) in [("SET a 1", ABORTED), ("DEL key:1", "*1 :1")] {
        b.send("MULTI");
        b.send(queued);
        limit(&mut b, -1);
        assert_eq!(b.send("EXEC"), reply);
        b.registries.config.maxmemory_bytes = 0;
        assert_eq!(b.send("EXEC"), "-ERR EXEC without MULTI");
    }
    b.send("MULTI");
    limit(&mut b, -1);
    assert_eq!(b.send("DISCARD"), "+OK");
}

#[test]
fn a_subcommand_is_not_taken_for_the_end_of_a_transaction() {
    let mut b = bench(EvictionPolicy::NoEviction);
    fill(&mut b, 100);
    b.send("MULTI");
    limit(&mut b, -1);
    assert_eq!(b.send("SLOWLOG RESET"), OOM);
    assert_eq!(b.send("RESET"), "+RESET");
}

#[test]
fn a_flushed_database_that_is_being_freed_is_as_good_as_free() {
    let mut b = bench(EvictionPolicy::AllKeysRandom);
    fill(&mut b, 1_000);
    let flushed = b.keyspace.db_mut(0).take_all();
    b.send("SET young v");
    let garbage = vec![Garbage::Database(Box::new(flushed))];
    b.registries.memory.elsewhere.hand_over(&garbage);
    limit(&mut b, -1_000);
    assert_eq!(b.send("SET another v"), "+OK");
    b.registries.config.maxmemory_policy = EvictionPolicy::NoEviction;
    assert_eq!(b.send("SET third v"), "+OK");
    assert_eq!((keys(&b), b.registries.stats.evicted_keys), (3, 0));
    let elsewhere = std::sync::Arc::clone(&b.registries.memory.elsewhere);
    garbage.into_iter().for_each(|part| elsewhere.free(part));
    limit(&mut b, -1);
    assert_eq!(b.send("SET fourth v"), OOM);
}

#[test]
fn a_watched_key_that_is_evicted_fails_the_transaction() {
    let mut b = bench(EvictionPolicy::VolatileTtl);
    fill(&mut b, 100);
    b.send("EXPIRE key:5 100");
    b.send("WATCH key:5");
    limit(&mut b, -1);
    assert_eq!(b.client(1).send("PING"), "+PONG");
    b.registries.config.maxmemory_bytes = 0;
    assert_eq!(b.client(0).send("EXISTS key:5"), ":0");
    b.send("MULTI");
    assert_eq!(b.send("EXEC"), "*-1");
}

#[test]
fn nothing_goes_while_the_keyspace_must_stand_still() {
    let mut b = bench(EvictionPolicy::AllKeysLru);
    fill(&mut b, 100);
    limit(&mut b, -1_000);
    b.registries.write_refusal = Some("MISCONF x".to_owned());
    assert_eq!(b.send("SET a 1"), "-MISCONF x");
    assert_eq!(b.send("EXISTS key:1"), ":1");
    b.registries.write_refusal = None;
    b.registries.loading = true;
    assert!(b.send("SET a 1").starts_with("-LOADING"));
    b.registries.loading = false;
    let until = UnixMs(b.now.0 + 10);
    b.registries.pause = Some(crate::engine::registries::Pause { until, all: false });
    assert_eq!(b.send("EXISTS key:1"), ":1");
    assert_eq!((keys(&b), b.log().len()), (100, 0));
    b.advance_ms(11);
    b.send("PING");
    assert!(keys(&b) < 100);
}

/// Whoever only reads is not held back and yet evicts; the records of that would fill the log's
/// memory without end.
#[test]
fn nothing_goes_while_the_log_has_no_room_for_its_record() {
    let mut b = bench(EvictionPolicy::AllKeysRandom);
    fill(&mut b, 1_000);
    limit(&mut b, -10_000);
    b.registries.memory.set_log(LogBuffers { is_crowded: true, ..LogBuffers::default() });
    assert_eq!(b.send("GET none"), "$-1");
    assert_eq!(b.send("SET new v"), "+OK", "not refused; it is held back elsewhere");
    assert_eq!((keys(&b), b.log()), (1_001, vec!["SET new v".to_owned()]));
    assert!(b.registries.eviction.goes_on);
    b.registries.memory.set_log(LogBuffers::default());
    assert_eq!(b.send("GET none"), "$-1");
    assert!(keys(&b) < 960 && !b.registries.eviction.goes_on);
}

/// Where nothing may go there is nothing to wait for: the limit holds all the same.
#[test]
fn a_log_without_room_lets_nobody_past_the_limit_of_noeviction() {
    let mut b = bench(EvictionPolicy::NoEviction);
    fill(&mut b, 100);
    limit(&mut b, -1_000);
    b.registries.memory.set_log(LogBuffers { is_crowded: true, ..LogBuffers::default() });
    assert_eq!(b.send("SET new v"), OOM);
    assert!(!b.registries.eviction.goes_on);
}

/// A processor's counter may be a little behind another's.
#[test]
fn a_clock_that_steps_back_makes_no_cycle_long() {
    use std::cell::Cell;
    thread_local! { static NS: Cell<u64> = const { Cell::new(1 << 40) }; }
    let mut b = bench(EvictionPolicy::AllKeysRandom);
    fill(&mut b, 1_000);
    b.registries.config.latency_monitor_threshold_ms = 1;
    b.registries.calls.set_clock(|| {
        NS.set(NS.get() - 1_000_000);
        NS.get()
    });
    limit(&mut b, -10_000);
    b.send("PING");
    assert!(keys(&b) < 1_000);
    assert_eq!(b.send("LATENCY LATEST"), "*0");
}

#[test]
fn the_time_at_once_is_limited_and_the_rest_goes_on() {
    use std::cell::Cell;
    thread_local! { static NS: Cell<u64> = const { Cell::new(0) }; }
    let mut b = bench(EvictionPolicy::AllKeysRandom);
    fill(&mut b, 1_000);
    b.registries.config.latency_monitor_threshold_ms = 0;
    // Each look at the clock takes 100 us.
    b.registries.calls.set_clock(|| NS.replace(NS.get() + 100_000) + 100_000);
    limit(&mut b, -60_000);
    assert_eq!(b.send("SET new v"), "+OK", "writes go on meanwhile");
    let first = b.registries.stats.evicted_keys;
    assert_eq!(first, 96, "half a millisecond, and the batch under way");
    assert!(b.registries.eviction.goes_on);
    let (all_ms, now_ms) = b.registries.eviction.exceeded_ms(NS.get() + 10_000_000);
    assert!(all_ms >= 10 && all_ms == now_ms);
    let mut rounds = 0;
    while b.registries.eviction.goes_on {
        b.records = Vec::new();
        b.send("PING");
        rounds += 1;
    }
    assert!((2..30).contains(&rounds), "{rounds}");
    let (all_ms, now_ms) = b.registries.eviction.exceeded_ms(NS.get());
    assert!(all_ms > 0 && now_ms == 0);
    b.registries.config.maxmemory_eviction_tenacity = 100;
    limit(&mut b, -20_000);
    b.send("PING");
    assert!(!b.registries.eviction.goes_on);
}
