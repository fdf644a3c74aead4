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
    for name in ours redis; do
        start "$name" "$policy"
        # Not counted: fills the key space, warms up.
        benchmark "$name" set 50 16 100000 100000 >/dev/null
    done
    for round in $(seq "$rounds"); do
        while read -r clients pipeline count; do
            for name in $(order "$round"); do
                for test in set get; do
                    record "$round" "$name" "throughput $policy $clients $pipeline ${test^^}" \
                        "$(benchmark "$name" "$test" "$clients" "$pipeline" "$count" 100000)"
                done
            done
        done < <(settings "$policy")
        echo "policy $policy: round $round of $rounds" >&2
    done
    stop ours
    stop redis
done

heading
table throughput "appendfsync|clients|-P|test" "per_second|req/s|%.0f|1|ratio" \
    "cpu_us|CPU/req|%.2f µs|1|ratio" "p99_ms|p99 ms|%.2f|1"
