# The longest turn of the loop while new keys come in, from 50 clients with -P 16: no table may stand
# still to grow. Once with no rewrite and once with those that the growing file sets off by itself.
# Only this server tells how long its turns take; the probe tells of all. The machine's own part is
# measured as well: the same core, with nothing on it but a clock being read.

# watch_inserts NAME ROUND REWRITES FLAG...: all keys into an empty server.
watch_inserts() {
    local name=$1 round=$2 rewrites=$3 prober began took_us line pair found
    shift 3
    start "$name" everysec "$@"
    redis-cli -p "$(port_of "$name")" CONFIG RESETSTAT >/dev/null
    "${probe[@]}" --port "$(port_of "$name")" --command ping --seed "$seed" \
        <"$work/to_probe_of_inserts" >"$work/probe" 7>&- 8>&- &
    prober=$!
    pids+=("$prober")
    exec 7>"$work/to_probe_of_inserts"
    began=$EPOCHREALTIME
    fill "$name" --pipeline 16 7>&-
    took_us=$((${EPOCHREALTIME/./} - ${began/./}))
    exec 7>&-
    wait "$prober"
    line=$(head -1 "$work/probe")
    expect_no_errors "$line"
    for pair in longest_turn_us=eventloop_duration_max longest_write_us=aof_write_duration_max \
        rewrites=aof_rewrites; do
        found=$(info_of "$name" "${pair#*=}")
        [ -z "$found" ] || line+=" ${pair%%=*}=$found"
    done
    record "$round" "$name" "inserts $keys $rewrites" "${line#phase=all } \
        per_second=$(awk -v keys="$keys" -v us="$took_us" 'BEGIN { printf "%.0f", keys / us * 1e6 }')"
    stop "$name"
}

mkfifo "$work/to_probe_of_inserts"
for round in $(seq "$rounds"); do
    for name in $(order "$round"); do
        watch_inserts "$name" "$round" none
        watch_inserts "$name" "$round" automatic --auto-aof-rewrite-percentage 100
    done
    # The other core has work too while keys come in.
    "${traffic[@]}" gaps --seconds 10 >/dev/null &
    record "$round" machine "gaps" \
        "$(taskset -c "$server_cores" "$traffic_program" gaps --seconds 10)"
    wait $!
    echo "inserts: round $round of $rounds" >&2
done

echo
echo "Inserting keys, 50 clients with -P 16, everysec; latency of PING, 2,000 a second:"
table inserts "keys|rewrites" "per_second|keys/s|%.0f|1|ratio" \
    "longest_turn_us|longest turn ms|%.2f|1000|ours" \
    "longest_write_us|longest write(2) ms|%.2f|1000|ours" "p99_us|p99 ms|%.2f|1000" \
    "p999_us|p99.9 ms|%.2f|1000" "max_us|max ms|%.2f|1000|ratio"
echo
awk -F, '$2 == "machine" { of[$4] = $5 + 0 > of[$4] + 0 ? $5 : of[$4] } END {
    printf "The machine itself: in 10 s without a server, a thread on that core that only reads the " \
        "clock was kept from it for %.2f ms at most, and %d times for 1 ms or more.\n",
        of["longest_gap_us"] / 1000, of["long_gaps"] }' "$work/results"
for rewrites in none automatic; do
    target "longest turn while $keys keys are inserted, rewrites: $rewrites, write(2) apart" \
        "inserts $keys $rewrites" longest_turn_us "<=" 2 ms 1000
done
