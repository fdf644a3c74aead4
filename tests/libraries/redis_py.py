"""What programs do with redis-py, done to the server at a port.

Usage: redis_py.py PORT NAME, where NAME says which server that is (`server_async`, or
`redis-server` for the reference). Asks for a kill and a restart of the server by a line `restart`
on standard output, and goes on at the next line of standard input. Ends with 0 when all is well.
"""

import asyncio
import faulthandler
import sys
import threading
import time

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.cache import CacheConfig
from redis.retry import Retry

PORT = int(sys.argv[1])
IS_REFERENCE = sys.argv[2] == "redis-server"
ALL_BYTES = bytes(range(256))
# Generous: it bounds a failure, not a speed.
PATIENCE_S = 60

CHECKS = []


def check(function):
    """Makes `function` one of the checks, which run in the order they stand in."""
    CHECKS.append(function)
    return function


def client(**options):
    """A client as the library makes it by default, and the options given."""
    return redis.Redis(port=PORT, **options)


def equal(found, wanted, what=""):
    """Fails unless both are the same, types included where they compare."""
    assert found == wanted, f"{what}: found {found!r}, wanted {wanted!r}"


def fails(kind, call, text):
    """The error of exactly the class `kind` that `call` raises; `text` is part of its message."""
    try:
        result = call()
    except redis.RedisError as error:
        assert type(error) is kind, f"{type(error)} instead of {kind}: {error}"
        assert text in str(error), f"{error!r} does not say {text!r}"
        return error
    raise AssertionError(f"no {kind.__name__}, but {result!r}")


def eventually(what, holds):
    """Waits until `holds()`."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


@check
def connects_with_resp3(r):
    equal(r.ping(), True)
    about = r.client_info()
    equal(about["resp"] if not IS_REFERENCE else "3", "3", "the protocol by default")
    if not IS_REFERENCE:
        equal((about["lib-name"], about["lib-ver"]), ("redis-py", redis.__version__))
    hello = client(protocol=3).execute_command("HELLO")
    equal((hello[b"server"], hello[b"proto"], hello[b"role"]), (b"redis", 3, b"master"))
    old = client(protocol=2)
    equal(old.execute_command("HELLO")[4:6], [b"proto", 2])
    equal(old.config_get("maxclients"), r.config_get("maxclients"))


@check
def strings(r):
    equal(r.set("bytes", ALL_BYTES), True)
    equal(r.get("bytes"), ALL_BYTES)
    equal(r.set(ALL_BYTES, b""), True)
    equal(r.get(ALL_BYTES), b"")
    equal(r.set("größe:漢字", "naïve 🦀 ответ"), True)
    text = client(decode_responses=True)
    equal(text.get("größe:漢字"), "naïve 🦀 ответ")
    equal(r.getrange("bytes", 10, 12), b"\n\x0b\x0c")
    equal(r.append("bytes", b"\r\n"), 258)
    equal(r.strlen("bytes"), 258)
    equal(r.get("absent"), None)
    equal(r.mset({"a": 1, b"b\r\n": b"\x00", "c": 1.5}), True)
    equal(r.mget("a", b"b\r\n", "absent", "c"), [b"1", b"\x00", None, b"1.5"])
    equal(r.set("a", 2, nx=True), None)
    equal(r.set("a", 2, get=True), b"1")
    equal(r.incrby("a", 40), 42)
    equal(r.incrbyfloat("c", 0.25), 1.75)
    equal(r.setbit("bits", 7, 1), 0)
    equal(r.bitcount("bits"), 1)
    equal(r.bitfield("bits").get("u8", 0).incrby("u8", 0, 1).execute(), [1, 2])
    equal(r.getdel("a"), b"42")
    equal(r.exists("a", "c", "c"), 2)
    equal(r.type("c"), b"string")
    equal(r.rename("c", "d"), True)
    equal(r.copy("d", "e"), True)
    equal(r.lcs("d", "e", len=True), 4)
    lcs = r.lcs("d", "e", idx=True, withmatchlen=True)
    equal(lcs, [b"matches", [[[0, 3], [0, 3], 4]], b"len", 4])
    equal(r.unlink("d", "e", "absent"), 2)
    fails(redis.ResponseError, lambda: r.incr("bytes"), "value is not an integer or out of range")


@check
def large_values(r):
    large = ALL_BYTES * (5 * 1024 * 1024 // 256)
    equal(r.set("large", large), True)
    equal(r.get("large") == large, True, "5 MiB there and back")
    equal(r.strlen("large"), len(large))
    r.delete("large")


@check
def pipelines(r):
    pipe = r.pipeline(transaction=False)
    for number in range(1_000):
        pipe.set(f"p:{number}", number).get(f"p:{number}")
    equal(pipe.execute()[1::2], [str(number).encode() for number in range(1_000)])
    pipe.set("text", "x").incr("text").get("text").execute_command("NOSUCH")
    done, refused, read, unknown = pipe.execute(raise_on_error=False)
    equal((done, read), (True, b"x"))
    equal((type(refused), type(unknown)), (redis.ResponseError, redis.ResponseError))
    assert "unknown command 'NOSUCH'" in str(unknown), unknown


@check
def transactions(r):
    r.set("balance", 10)
    with r.pipeline() as pipe:
        pipe.watch("balance")
        seen = int(pipe.get("balance"))
        pipe.multi()
        pipe.set("balance", seen + 1).get("balance")
        equal(pipe.execute(), [True, b"11"])
        pipe.watch("balance")
        r.set("balance", 99)
        pipe.multi()
        pipe.set("balance", 0)
        fails(redis.WatchError, pipe.execute, "")
    equal(r.get("balance"), b"99")
    # A conflict is tried again by the library itself.
    tries = []

    def double(pipe):
        tries.append(1)
        value = int(pipe.get("balance"))
        if len(tries) == 1:
            r.set("balance", 5)
        pipe.multi()
        pipe.set("balance", 2 * value)

    equal(r.transaction(double, "balance"), [True])
    equal((r.get("balance"), len(tries)), (b"10", 2))
    bad = r.pipeline().set("balance", 1).execute_command("NOSUCH")
    fails(redis.ResponseError, bad.execute, "unknown command 'NOSUCH'")
    equal(r.get("balance"), b"10", "nothing of it was done")
    late = r.pipeline().incr("balance").incr("text").incr("balance")
    fails(redis.ResponseError, late.execute, "Command # 2 (INCRBY text 1) of pipeline caused error")
    equal(r.get("balance"), b"12", "what stands around an error is done")


@check
def scans(r):
    names = {f"scan:{number}".encode() for number in range(10_000)}
    pipe = r.pipeline(transaction=False)
    for name in names:
        pipe.set(name, b"")
    pipe.execute()
    equal(set(r.scan_iter("scan:*")), names, "each key")
    equal(set(r.scan_iter("scan:*", count=1_000, _type="string")), names)
    equal(set(r.scan_iter(count=777)) >= names, True)
    equal(list(r.scan_iter(_type="hash")), [])
    cursor, page = r.scan(count=10)
    assert cursor != 0 and len(page) >= 10, (cursor, len(page))


@check
def configuration(r):
    equal(r.config_set("maxclients", 4_000), True)
    equal(r.config_get("maxclients"), {"maxclients": "4000"})
    equal(r.config_set("timeout", 300, "slowlog-max-len", 64), True)
    equal(r.config_get("timeout", "slowlog-*-l*"), {"timeout": "300", "slowlog-max-len": "64"})
    every = r.config_get()
    assert {"appendfsync", "save", "maxmemory", "databases"} <= set(every), sorted(every)
    equal(every["appendfsync"], "always")
    fails(redis.ResponseError, lambda: r.config_set("nosuch", 1), "Unknown option")
    fails(redis.ResponseError, lambda: r.config_set("timeout", "x"), "CONFIG SET failed")
    equal(r.config_resetstat(), True)
    equal(r.config_set("timeout", 0), True)


@check
def information(r):
    info = r.info()
    wanted = {
        "redis_version": str, "redis_mode": str, "process_id": int, "uptime_in_seconds": int,
        "tcp_port": int, "connected_clients": int, "used_memory": int, "used_memory_human": str,
        "mem_fragmentation_ratio": float, "maxmemory": int, "loading": int, "aof_enabled": int,
        "aof_last_write_status": str, "rdb_changes_since_last_save": int,
        "total_commands_processed": int, "keyspace_hits": int, "expired_keys": int,
        "evicted_keys": int, "role": str, "connected_slaves": int, "used_cpu_sys": float,
        "cluster_enabled": int, "db0": dict,
    }
    for name, kind in wanted.items():
        # What the library reads as a whole number may stand for a figure with a fraction.
        kinds = (int, float) if kind is float else (kind,)
        assert isinstance(info.get(name), kinds), f"{name}: {info.get(name)!r} is no {kind}"
    equal((info["tcp_port"], info["role"], info["aof_enabled"]), (PORT, "master", 1))
    equal(info["db0"]["keys"], r.dbsize())
    equal(set(r.info("keyspace")), {"db0"})
    calls = r.info("commandstats")["cmdstat_info"]
    assert calls["calls"] >= 1 and calls["failed_calls"] == 0, calls
    assert isinstance(r.info("latencystats")["latency_percentiles_usec_info"], dict)
    fails(redis.ResponseError, lambda: r.execute_command("NOSUCH"), "unknown command")
    assert r.info("errorstats")["errorstat_ERR"]["count"] >= 1


@check
def expiry(r):
    equal(r.set("brief", 1, px=40), True)
    assert 0 < r.pttl("brief") <= 40 or r.get("brief") is None
    eventually("the key lapses", lambda: r.get("brief") is None)
    equal((r.ttl("brief"), r.ttl("bytes")), (-2, -1))
    equal(r.set("long", "x", ex=1_000), True)
    assert 990 <= r.ttl("long") <= 1_000
    equal(r.expire("long", 500, gt=True), False)
    equal(r.expire("long", 2_000, gt=True), True)
    at = int(time.time()) + 3_000
    equal(r.expireat("long", at), True)
    equal((r.expiretime("long"), r.pexpiretime("long")), (at, at * 1_000))
    equal(r.getex("long", persist=True), b"x")
    equal(r.ttl("long"), -1)


@check
def clients(r):
    named = client(client_name="me", single_connection_client=True)
    equal(named.client_getname(), "me")
    equal(named.client_setname("other"), True)
    about = named.client_info()
    equal((about["name"], about["db"]), ("other", 0))
    number = named.client_id()
    found = [c for c in r.client_list(_type="normal") if c["id"] == str(number)]
    equal([c["name"] for c in found], ["other"])
    equal(r.client_list(client_id=[number])[0]["addr"], about["addr"])
    if not IS_REFERENCE:
        equal(named.client_setinfo("LIB-NAME", "mine"), True)
        equal(named.client_info()["lib-name"], "mine")
        fails(redis.ResponseError, lambda: r.client_setinfo("LIB-NAME", "a b"), "cannot contain")
    equal(named.client_no_evict("ON"), b"OK")
    equal(r.client_kill_filter(_id=number), 1)
    # The library connects anew, under the name it was given.
    equal(named.client_getname(), "me")
    equal(r.client_pause(1, all=False), True)
    equal(r.client_unpause(), b"OK")


@check
def errors(r):
    for line, text in [
        (["GET"], "wrong number of arguments for 'get' command"),
        (["SET", "k", "v", "EX", "0"], "invalid expire time in 'set' command"),
        (["SET", "k", "v", "NX", "XX"], "syntax error"),
        (["CONFIG", "NOSUCH"], "unknown subcommand 'NOSUCH'"),
        (["SELECT", "99"], "DB index is out of range"),
        (["EXEC"], "EXEC without MULTI"),
    ]:
        fails(redis.ResponseError, lambda: r.execute_command(*line), text)
    one = client(single_connection_client=True)
    equal(one.execute_command("MULTI"), b"OK")
    fails(redis.ResponseError, lambda: one.execute_command("NOSUCH"), "unknown command")
    fails(redis.exceptions.ExecAbortError, lambda: one.execute_command("EXEC"), "discarded")
    # Without the ten tries, further and further apart, that it makes otherwise.
    once = {"retry": Retry(NoBackoff(), 0)}
    r.config_set("requirepass", "secret")
    try:
        kind = redis.AuthenticationError
        fails(kind, client(**once).ping, "")
        fails(kind, client(password="wrong", **once).ping, "invalid username-password pair")
        fails(kind, client(protocol=2, **once).ping, "Authentication required")
        equal(client(password="secret").ping(), True)
        equal(client(username="default", password="secret", protocol=2).ping(), True)
    finally:
        client(password="secret").config_set("requirepass", "")
    there = len(r.client_list())
    r.config_set("maxclients", there)
    try:
        fails(redis.ConnectionError, client(**once).ping, "max number of clients reached")
    finally:
        r.config_set("maxclients", 4_000)


@check
def introspection(r):
    commands = r.command()
    equal(commands["get"]["arity"], 2)
    assert "readonly" in commands["get"]["flags"], commands["get"]
    equal(r.command_count(), len(commands))
    assert b"get" in [name.lower() for name in r.command_list()]
    equal(r.command_getkeys("MSET", "a", 1, "b", 2), ["a", "b"])
    equal(r.object("encoding", "bytes"), b"raw")
    assert r.memory_usage("bytes") > 258
    assert r.memory_stats()["keys.count"] == r.dbsize()
    equal(r.role(), [b"master", 0, []])
    r.config_set("slowlog-log-slower-than", 0)
    r.get("bytes")
    r.config_set("slowlog-log-slower-than", 10_000)
    assert b"GET bytes" in [entry["command"] for entry in r.slowlog_get()]
    assert r.slowlog_len() > 0
    equal(r.slowlog_reset(), True)
    seconds, micros = r.time()
    assert abs(seconds + micros / 1e6 - time.time()) < 60
    assert isinstance(r.latency_latest(), list)
    assert r.lastsave()
    equal(r.echo("x"), b"x")
    equal(r.module_list(), [])
    assert b"version" in r.lolwut().lower() or b"ver." in r.lolwut().lower()
    equal(r.wait(0, 10), 0)


@check
def monitoring(r):
    with client().monitor() as monitor:
        lines = monitor.listen()
        # By another client, since what was said before MONITOR began is not shown.
        r.set("watched key", 'quoted "value"')
        line = next(lines)
    equal((line["command"], line["db"]), ('SET watched key quoted "value"', 0), line)
    equal(line["client_type"], "tcp")


@check
def databases(r):
    other = client(db=9)
    equal(other.set("elsewhere", 1), True)
    equal((other.dbsize(), r.exists("elsewhere")), (1, 0))
    equal(other.move("elsewhere", 0), True)
    equal(r.get("elsewhere"), b"1")
    equal(other.flushdb(asynchronous=True), True)


@check
def caches_on_the_client(r):
    once = Retry(NoBackoff(), 0)
    caching = client(protocol=3, cache_config=CacheConfig(), retry=once)
    r.set("cached", "old")
    if IS_REFERENCE:
        fails(redis.ConnectionError, lambda: caching.get("cached"), "7.4 or later")
    else:
        # A cache that nobody keeps true is worse than none: the library is told so.
        fails(redis.ResponseError, lambda: caching.get("cached"), "does not track keys")


@check
def many_threads(r):
    r.delete("sum")

    def add():
        for _ in range(200):
            r.incr("sum")

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(r.get("sum"), b"1600")


@check
def asynchronous_use(r):
    async def use():
        a = redis.asyncio.Redis(port=PORT)
        equal(await a.set("async", ALL_BYTES), True)
        equal(await a.get("async"), ALL_BYTES)
        equal(await asyncio.gather(*[a.incr("together") for _ in range(20)]) != [], True)
        equal(await a.get("together"), b"20")
        async with a.pipeline(transaction=True) as pipe:
            equal(await pipe.set("x", 1).incr("x").execute(), [True, 2])
            await pipe.watch("x")
            r.set("x", 7)
            pipe.multi()
            pipe.set("x", 8)
            try:
                await pipe.execute()
            except redis.WatchError:
                pass
            else:
                raise AssertionError("no conflict")
        found = {key async for key in a.scan_iter("scan:*", count=500)}
        equal(len(found), 10_000)
        assert (await a.info())["tcp_port"] == PORT
        await a.aclose()

    asyncio.run(use())


@check
def finds_a_restarted_server_and_all_it_was_told(r):
    pipe = r.pipeline()
    for number in range(100):
        pipe.set(f"kept:{number}", number, ex=10_000)
    pipe.execute()
    r.set("kept:last", ALL_BYTES)
    before = r.dbsize()
    print("restart", flush=True)
    sys.stdin.readline()
    # The connection of old is dead; the library's own new one is all that is needed.
    equal(r.get("kept:last"), ALL_BYTES)
    equal(r.dbsize(), before)
    equal(r.mget(*[f"kept:{n}" for n in range(100)]), [str(n).encode() for n in range(100)])
    assert 9_000 < r.ttl("kept:7") <= 10_000


def main():
    # A reply that never comes ends the run, and tells where it was waited for.
    faulthandler.dump_traceback_later(2 * PATIENCE_S, exit=True)
    r = client()
    for function in CHECKS:
        began = time.monotonic()
        print(function.__name__, end=" ", flush=True)
        function(r)
        print(f"({time.monotonic() - began:.2f} s)", flush=True)


main()
