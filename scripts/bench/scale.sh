# A rewrite of everything under full write load, then kill -9, a restart, and the question whether
# the server is what it was. Ends with 1 if it is not.

policy=${policies%% *}
policy=${policy:-everysec}

# fingerprint: what all keys hold, by the server's own digest and by a sum over every value and
# every deadline as clients see them.
fingerprint() {
    echo "digest=$(redis-cli -p "$port_ours" DEBUG DIGEST)" \
        "$("${traffic[@]}" sum --port "$port_ours" --keys "$keys")"
}

megabytes() {
    awk -v bytes="$1" 'BEGIN { printf "%.0f MB", bytes / 1e6 }'
}

start ours "$policy"
# Each tenth key has a deadline.
fill ours --deadline-every 10
mkfifo "$work/to_writers"
"${traffic[@]}" write --port "$port_ours" --clients 50 --pipeline 16 --keys "$keys" --size "$size" \
    --seed $((seed + 1)) --deadline-every 10 <"$work/to_writers" >"$work/writers" 8>&- &
writers=$!
pids+=("$writers")
exec 8>"$work/to_writers"
sleep "$seconds"
line=$("${traffic[@]}" rewrite --port "$port_ours" --pid "$pid_ours" --timeout 1800 8>&-)
sleep 1
exec 8>&-
wait "$writers"
wrote=$(cat "$work/writers")
expect_no_errors "$wrote"

before=$(fingerprint)
stop ours keep
began=$EPOCHREALTIME
start ours "$policy"
restarted_us=$((${EPOCHREALTIME/./} - ${began/./}))
after=$(fingerprint)

echo
echo "policy:          $policy"
echo "rewrite:         $(value status "$line"), $(value keys "$line") keys," \
    "$(value seconds "$line") s, of them the child $(value child_seconds "$line") s;" \
    "fork $(value fork_us "$line") µs"
echo "write load:      $(value per_second "$wrote") a second, $(value acknowledged "$wrote") acknowledged"
echo "server's RSS:    $(megabytes "$(value rss_before_bytes "$line")") before," \
    "$(megabytes "$(value rss_peak_bytes "$line")") at most during the rewrite"
echo "rewrite-diff:    $(megabytes "$(value diff_peak_bytes "$line")") at most in memory"
echo "child's private: $(megabytes "$(value cow_seen_bytes "$line")") (copy-on-write)"
echo "longest turn:    $(value longest_turn_us "$line") µs without the fork and write(2)," \
    "longest write(2) $(value longest_write_us "$line") µs"
echo "restart:         $((restarted_us / 1000)) ms"
echo "before kill -9:  $before"
echo "after restart:   $after"
if [ "$before" = "$after" ] && [ "$(value status "$line")" = ok ] && [[ $before == digest=[0-9a-f]* ]]; then
    echo OK
else
    echo DIFFERENT
    exit 1
fi
