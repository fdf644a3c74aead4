# Other commands than SET and GET, pipelined: those that a server has.

count=$((requests * 2))

# command_row NAME WORD...: one row, from every server that has the command, if this one has.
command_row() {
    local name row=$1
    shift
    knows ours "$1" || return 0
    for name in $(order "$round"); do
        knows "$name" "$1" || continue
        record "$round" "$name" "commands $row" "$(benchmark "$name" 50 16 "$count" 100000 "$@")"
    done
}

for name in ours "${peers[@]}"; do
    start "$name" everysec
    # Most of what is read is there.
    benchmark "$name" 50 16 300000 100000 -t set >/dev/null
    if knows "$name" rpush; then
        # Each answer of LRANGE_100 has a hundred elements.
        benchmark "$name" 1 16 100 100000 RPUSH range element:__rand_int__ >/dev/null
    fi
done
keys_of_ten=() pairs_of_ten=()
for _ in 1 2 3 4 5 6 7 8 9 10; do
    keys_of_ten+=(key:__rand_int__)
    pairs_of_ten+=(key:__rand_int__ xxx)
done
for round in $(seq "$rounds"); do
    count=$((requests / 2))
    command_row MSET_10 MSET "${pairs_of_ten[@]}"
    command_row MGET_10 MGET "${keys_of_ten[@]}"
    count=$((requests * 2))
    command_row INCR INCR counter:__rand_int__
    command_row LPUSH LPUSH list element:__rand_int__
    # As many as were pushed.
    command_row LPOP LPOP list
    command_row SADD SADD set element:__rand_int__
    command_row HSET HSET hash field:__rand_int__ xxx
    command_row ZADD ZADD sorted __rand_int__ element:__rand_int__
    count=$((requests / 4))
    command_row LRANGE_100 LRANGE range 0 99
    echo "commands: round $round of $rounds" >&2
done
stop_all

echo
echo "50 clients with -P 16, everysec:"
table commands "command" "per_second|req/s|%.0f|1|ratio" "cpu_us|CPU/req|%.2f µs|1|ratio" \
    "p99_ms|p99 ms|%.2f|1" "load_core|load core|%.0f %%|0.01|highest"
for row in MSET_10 MGET_10 INCR LPUSH LPOP SADD HSET ZADD LRANGE_100; do
    target "$row -P 16" "commands $row" per_second ">=" 1.5
done
