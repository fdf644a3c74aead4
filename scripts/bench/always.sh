# What `always` costs: SETs that wait for the disk, and a reader beside writers that do.

for name in ours "${peers[@]}"; do
    start "$name" always
    benchmark "$name" 50 16 100000 100000 -t set >/dev/null
done
for round in $(seq "$rounds"); do
    while read -r clients pipeline count; do
        for name in $(order "$round"); do
            record "$round" "$name" "always $clients $pipeline" \
                "$(benchmark "$name" "$clients" "$pipeline" "$count" 100000 -t set)"
        done
    done <<END
1 1 $((requests / 10))
50 1 $requests
50 16 $((requests * 4))
END
    for name in $(order "$round"); do
        "${traffic[@]}" write --port "$(port_of "$name")" --clients 8 --seconds $((seconds + 2)) \
            --seed "$seed" >"$work/writers" &
        writers=$!
        pids+=("$writers")
        sleep 1
        line=$("${probe[@]}" --port "$(port_of "$name")" --command get --seconds "$seconds")
        wait "$writers"
        expect_no_errors "$line" "$(cat "$work/writers")"
        record "$round" "$name" "reader" \
            "$line writes_per_second=$(value per_second "$(cat "$work/writers")")"
    done
    echo "round $round of $rounds" >&2
done

stop_all
table always "clients|-P" "per_second|SET/s|%.0f|1|ratio" "cpu_us|CPU/req|%.2f µs|1|ratio" \
    "p50_ms|p50 ms|%.2f|1" "p99_ms|p99 ms|%.2f|1"
echo
echo "GET, 2,000 a second, beside 8 writers:"
table reader "" "p50_us|p50 ms|%.2f|1000|ratio" "p99_us|p99 ms|%.2f|1000|ratio" \
    "p999_us|p99.9 ms|%.2f|1000" "max_us|max ms|%.2f|1000" "writes_per_second|SET/s|%.0f|1|ratio"
target "SET always, 1 client" "always 1 1" per_second ">=" 0.95
target "SET always, 50 clients" "always 50 1" per_second ">=" 1.5
target "SET always, 50 clients, -P 16" "always 50 16" per_second ">=" 1.5
