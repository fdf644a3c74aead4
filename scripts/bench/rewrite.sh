# A rewrite under write load: what the child does, and what clients notice. The same number of
# writes a second reaches both servers, so that copy-on-write can be compared.

# watch_rewrite NAME POLICY ROUND: a probe and writers beside NAME; a rewrite amid them.
watch_rewrite() {
    local name=$1 policy=$2 round=$3 port writers prober line
    port=$(port_of "$name")
    settle
    "${traffic[@]}" write --port "$port" --clients 50 --rate "$load" --keys "$keys" --size "$size" \
        --seed $((seed + round)) <"$work/to_writers" >"$work/writers" 7>&- 8>&- &
    writers=$!
    "${probe[@]}" --port "$port" --command get --keys "$keys" --seed $((seed + round)) \
        <"$work/to_probe" >"$work/probe" 7>&- 8>&- &
    prober=$!
    pids+=("$writers" "$prober")
    exec 8>"$work/to_writers" 7>"$work/to_probe"
    sleep 2
    echo before >&7
    sleep "$seconds"
    echo during >&7
    line=$("${traffic[@]}" rewrite --port "$port" --pid "$(pid_of "$name")" 7>&- 8>&-)
    echo after >&7
    sleep "$seconds"
    exec 7>&- 8>&-
    wait "$prober"
    wait "$writers"
    expect_no_errors "$(cat "$work/writers")"
    [ "$(value status "$line")" = ok ] || { echo "$name: the rewrite failed: $line" >&2 && exit 1; }
    record "$round" "$name" "rewrite $policy" "$(awk '{
        for (i = 1; i <= NF; i++) { split($i, pair, "="); of[pair[1]] = pair[2] }
        cow = of["cow_info_bytes"] > of["cow_seen_bytes"] ? of["cow_info_bytes"] : of["cow_seen_bytes"]
        child = of["child_seconds"] > 0 ? of["child_seconds"] : of["seconds"]
        printf "keys_per_second=%.0f bytes_per_second=%.0f cow_bytes=%.0f ", \
            of["keys"] / child, of["child_bytes"] / child, cow
        print
    }' <<<"$line" | sed 's/ status=ok//') writes_per_second=$(value per_second "$(cat "$work/writers")")"
    while read -r line; do
        expect_no_errors "$line"
        case "$line" in
        phase=all*) ;; # warming up
        *) record "$round" "$name" "probe $policy $(value phase "$line")" "${line#* }" ;;
        esac
    done <"$work/probe"
}

mkfifo "$work/to_writers" "$work/to_probe"
for policy in ${policies:-always everysec no}; do
    for name in ours "${peers[@]}"; do
        # Filled under `no`, which is quicker, and then switched.
        start "$name" no
        fill "$name"
        redis-cli -p "$(port_of "$name")" CONFIG SET appendfsync "$policy" >/dev/null
    done
    for round in $(seq "$rounds"); do
        for name in $(order "$round"); do
            watch_rewrite "$name" "$policy" "$round"
        done
        echo "policy $policy: round $round of $rounds" >&2
    done
    stop_all
done

echo
echo "A rewrite of $keys keys, 16-byte keys and $size-byte values," \
    "beside $load writes a second (0: no limit) from 50 clients:"
table rewrite "appendfsync" "keys_per_second|child keys/s|%.0f|1|ratio" \
    "bytes_per_second|child MB/s|%.0f|1e6|ratio" "child_cpu_ms|child CPU s|%.2f|1000|ratio" \
    "seconds|whole rewrite s|%.1f|1|ratio" "fork_us|fork ms|%.2f|1000|ratio" \
    "cow_bytes|COW peak MB|%.0f|1e6|ratio" "longest_turn_us|longest turn ms|%.2f|1000|ours" \
    "longest_write_us|longest write(2) ms|%.2f|1000|ours" "writes_per_second|writes/s|%.0f|1"
echo
echo "COW: what only the child maps of the memory that it inherited. Longest turn: of the loop while" \
    "the rewrite ran, without the fork and without write(2); redis-server 7.0 does not tell."
echo
echo "Latency of GET, 2,000 a second, before, during and after it:"
table probe "appendfsync|phase" "p50_us|p50 ms|%.2f|1000" "p99_us|p99 ms|%.2f|1000|ratio" \
    "p999_us|p99.9 ms|%.2f|1000|ratio" "max_us|max ms|%.2f|1000|ratio"
