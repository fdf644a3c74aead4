# Connections that do nothing: what they take, and what they cost those that work.

# One for each, on either side, and some to spare.
ulimit -n $((connections + 1000)) 2>/dev/null ||
    { echo "no more than $(ulimit -Hn) open files are allowed: --connections" >&2 && exit 1; }
mkfifo "$work/to_idle"
for round in $(seq "$rounds"); do
    for name in $(order "$round"); do
        start "$name" everysec --maxclients $((connections + 500))
        # What they will take anyway is there before the first figure.
        benchmark "$name" 50 16 200000 100000 -t set >/dev/null
        for test in set get; do
            record "$round" "$name" "beside 0 ${test^^}" \
                "$(benchmark "$name" 50 1 "$requests" 100000 -t "$test")"
        done
        used=$(info_of "$name" used_memory)
        rss=$(rss_of "$name")
        "${traffic[@]}" idle --port "$(port_of "$name")" --clients "$connections" \
            <"$work/to_idle" >"$work/idle" 2>"$work/idle.errors" 7>&- 8>&- &
        idle=$!
        pids+=("$idle")
        exec 8>"$work/to_idle"
        until [ -s "$work/idle" ]; do
            kill -0 "$idle" 2>/dev/null || { cat "$work/idle.errors" >&2 && exit 1; }
            sleep 0.1
        done
        # Buffers that a connection needs no more are taken back within seconds.
        sleep 5
        record "$round" "$name" "idle $connections" "$(awk -v count="$connections" \
            -v used=$(($(info_of "$name" used_memory) - used)) -v rss=$(($(rss_of "$name") - rss)) \
            'BEGIN { printf "used_bytes=%.0f rss_bytes=%.0f", used / count, rss / count }')"
        for test in set get; do
            record "$round" "$name" "beside $connections ${test^^}" \
                "$(benchmark "$name" 50 1 "$requests" 100000 -t "$test" 8>&-)"
        done
        exec 8>&-
        wait "$idle"
        stop "$name"
    done
    echo "connections: round $round of $rounds" >&2
done

echo
echo "Idle connections that have asked once; bytes each by resident memory (VmRSS) and by" \
    "used_memory (INFO). The kernel's own memory for them is in neither:"
table idle "connections" "rss_bytes|RSS|%.0f|1|ratio" "used_bytes|used_memory|%.0f|1|ratio"
echo
echo "50 clients beside them:"
table beside "idle|test" "per_second|req/s|%.0f|1|ratio" "cpu_us|CPU/req|%.2f µs|1|ratio" \
    "load_core|load core|%.0f %%|0.01|highest"
target "memory of $connections idle connections" "idle $connections" rss_bytes "<=" 0.3
# Of this server alone, with them to without.
for test in SET GET; do
    for ((round = 1; round <= rounds; round++)); do
        record "$round" ours "kept $test" "$(awk -F, -v round="$round" \
            -v without="beside 0 $test" -v with="beside $connections $test" '
            $1 == round && $2 == "ours" && $4 == "per_second" { of[$3] = $5 }
            END { printf "share=%.4f", of[with] / of[without] }' "$work/results")"
    done
    target "$test throughput beside $connections idle connections, to without" "kept $test" \
        share ">=" 0.97 x
done
