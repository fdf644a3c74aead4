# The longest turn of the loop while new keys come in, from 50 clients with -P 16: no table may stand
# still to grow. Only this server tells how long its turns take; the probe tells of all.

mkfifo "$work/to_probe_of_inserts"
for round in $(seq "$rounds"); do
    for name in $(order "$round"); do
        start "$name" everysec
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
        for pair in longest_turn_us=eventloop_duration_max longest_write_us=aof_write_duration_max; do
            found=$(info_of "$name" "${pair#*=}")
            [ -z "$found" ] || line+=" ${pair%%=*}=$found"
        done
        record "$round" "$name" "inserts $keys" "${line#phase=all } \
            per_second=$(awk -v keys="$keys" -v us="$took_us" 'BEGIN { printf "%.0f", keys / us * 1e6 }')"
        stop "$name"
    done
    echo "inserts: round $round of $rounds" >&2
done

echo
echo "Inserting keys, 50 clients with -P 16, everysec; latency of PING, 2,000 a second:"
table inserts "keys" "per_second|keys/s|%.0f|1|ratio" \
    "longest_turn_us|longest turn ms|%.2f|1000|ours" \
    "longest_write_us|longest write(2) ms|%.2f|1000|ours" "p99_us|p99 ms|%.2f|1000" \
    "p999_us|p99.9 ms|%.2f|1000" "max_us|max ms|%.2f|1000|ratio"
target "longest turn while $keys keys are inserted, write(2) apart" "inserts $keys" \
    longest_turn_us "<=" 2 ms 1000
