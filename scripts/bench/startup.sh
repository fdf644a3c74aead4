# From the fork of an empty server to its first PONG, by a client that tries to connect all the time.

for round in $(seq "$rounds"); do
    for name in $(order "$round"); do
        port=$(free_port)
        compose "$name" "$port" "%DIR%" everysec
        record "$round" "$name" "startup everysec" "$("$traffic_program" startup --port "$port" \
            --starts "$starts" --server-core "${server_cores%%[,-]*}" --load-core "${load_core%%[,-]*}" \
            --exec "$(printf '%s\n' "${command[@]}")")"
    done
done

echo
echo "An empty server with a log, $starts starts each, fork to the first PONG:"
table startup "appendfsync" "median_us|median ms|%.2f|1000|ratio" "fastest_us|fastest ms|%.2f|1000" \
    "slowest_us|slowest ms|%.2f|1000"
target "start-up of an empty server" "startup everysec" median_us "<=" 20 ms 1000
