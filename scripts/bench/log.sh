# Bytes of the log a SET: of the commands themselves, and of the seals that end each group.

# written NAME: total and seal bytes of a server's log; nothing else begins a line with "#S", since
# the values of redis-benchmark are x's.
written() {
    find "$work/$1" -type f -name '*.aof' -print0 | xargs -0 cat |
        awk '{ all += length($0) + 1 } /^#/ { seals += length($0) + 1 } END { print all + 0, seals + 0 }'
}

for round in $(seq "$rounds"); do
    for pipeline in 1 16; do
        for name in $(order "$round"); do
            start "$name" everysec
            read -r bytes seals <<<"$(written "$name")"
            benchmark "$name" 50 "$pipeline" "$requests" 100000 -t set >/dev/null
            sleep 0.5
            read -r all_bytes all_seals <<<"$(written "$name")"
            record "$round" "$name" "log $pipeline" "$(awk -v count="$requests" \
                -v bytes=$((all_bytes - bytes)) -v seals=$((all_seals - seals)) 'BEGIN {
                    printf "bytes=%.3f command_bytes=%.3f seal_bytes=%.3f", bytes / count, \
                        (bytes - seals) / count, seals / count
                }')"
            stop "$name"
        done
    done
    echo "log: round $round of $rounds" >&2
done

echo
echo "Bytes of the log a SET of a 16-byte key and a 3-byte value, 50 clients, everysec:"
table log "-P" "bytes|bytes|%.1f|1|ratio" "command_bytes|without seals|%.1f|1|ratio" \
    "seal_bytes|seals|%.2f|1|ours"
for pipeline in 1 16; do
    target "log bytes a SET, -P $pipeline, seals apart" "log $pipeline" command_bytes "<=" 1.001
done
