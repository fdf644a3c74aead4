# What a client notices beside load, under `everysec`: the probe reads, others write.

for name in ours "${peers[@]}"; do
    start "$name" everysec
    benchmark "$name" 50 16 300000 100000 -t set >/dev/null
done
for round in $(seq "$rounds"); do
    for name in $(order "$round"); do
        settle
        "${traffic[@]}" write --port "$(port_of "$name")" --clients 50 --rate "$load" --size "$size" \
            --seconds $((seconds + 2)) --seed $((seed + round)) >"$work/writers" &
        writers=$!
        pids+=("$writers")
        sleep 1
        line=$("${probe[@]}" --port "$(port_of "$name")" --command get --seconds "$seconds" \
            --seed $((seed + round)))
        wait "$writers"
        expect_no_errors "$line" "$(cat "$work/writers")"
        record "$round" "$name" "latency GET" "${line#phase=all } \
            writes_per_second=$(value per_second "$(cat "$work/writers")")"
    done
    echo "latency: round $round of $rounds" >&2
done
stop_all

echo
echo "GET, 2,000 a second, beside $load writes a second (0: no limit) from 50 clients, everysec:"
table latency "" "p50_us|p50 ms|%.3f|1000|ratio" "p99_us|p99 ms|%.3f|1000|ratio" \
    "p999_us|p99.9 ms|%.3f|1000|ratio" "max_us|max ms|%.2f|1000|ratio" \
    "writes_per_second|SET/s|%.0f|1"
target "p99 of a probe beside load, everysec" "latency GET" p99_us "<=" 1.0
target "p99.9 of a probe beside load, everysec" "latency GET" p999_us "<=" 1.0
