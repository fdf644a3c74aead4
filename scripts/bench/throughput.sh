# redis-benchmark in each policy: requests a second, and CPU time a request, all threads of a
# server together.

# The settings of a policy: clients, pipeline, requests.
settings() {
    echo "50 1 $requests"
    echo "50 16 $((requests * 4))"
    # One client waits for the disk each time.
    [ "$1" != always ] || echo "1 1 $((requests / 10))"
}

for policy in ${policies:-always everysec no}; do
    for name in ours "${peers[@]}"; do
        start "$name" "$policy"
        # Not counted: fills the key space, warms up.
        benchmark "$name" 50 16 100000 100000 -t set >/dev/null
    done
    for round in $(seq "$rounds"); do
        while read -r clients pipeline count; do
            for name in $(order "$round"); do
                for test in set get; do
                    record "$round" "$name" "throughput $policy $clients $pipeline ${test^^}" \
                        "$(benchmark "$name" "$clients" "$pipeline" "$count" 100000 -t "$test")"
                done
            done
        done < <(settings "$policy")
        echo "policy $policy: round $round of $rounds" >&2
    done
    stop_all
done

table throughput "appendfsync|clients|-P|test" "per_second|req/s|%.0f|1|ratio" \
    "cpu_us|CPU/req|%.2f µs|1|ratio" "p99_ms|p99 ms|%.2f|1" "load_core|load core|%.0f %%|0.01|highest"
for test in SET GET; do
    target "$test, 50 clients, everysec" "throughput everysec 50 1 $test" per_second ">=" 1.15
    target "$test, 50 clients, everysec: CPU" "throughput everysec 50 1 $test" cpu_us "<=" 0.75
done
for policy in everysec no; do
    target "SET -P 16, $policy" "throughput $policy 50 16 SET" per_second ">=" 2.5
    target "SET -P 16, $policy: CPU" "throughput $policy 50 16 SET" cpu_us "<=" 0.4
    target "GET -P 16, $policy" "throughput $policy 50 16 GET" per_second ">=" 2
    target "GET -P 16, $policy: CPU" "throughput $policy 50 16 GET" cpu_us "<=" 0.45
done
