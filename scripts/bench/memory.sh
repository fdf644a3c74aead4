# Memory a key: what the server's own figure and its resident memory grow by.

for round in $(seq "$rounds"); do
    for bytes in 3 32 256; do
        for name in $(order "$round"); do
            start "$name" no
            used=$(info_of "$name" used_memory)
            rss=$(rss_of "$name")
            fill "$name" --size "$bytes"
            # What was only needed for the moment is given back by cron.
            sleep 2
            record "$round" "$name" "memory $bytes" "$(awk -v keys="$keys" \
                -v used=$(($(info_of "$name" used_memory) - used)) \
                -v rss=$(($(rss_of "$name") - rss)) \
                'BEGIN { printf "used_bytes=%.2f rss_bytes=%.2f", used / keys, rss / keys }')"
            stop "$name"
        done
    done
    echo "memory: round $round of $rounds" >&2
done

echo
echo "$keys keys of 16 bytes; bytes a key by used_memory (INFO) and by resident memory (VmRSS):"
table memory "value bytes" "used_bytes|used_memory|%.1f|1|ratio" "rss_bytes|RSS|%.1f|1|ratio"
target "memory a key, 3-byte values" "memory 3" used_bytes "<=" 0.5
target "memory a key, 32-byte values" "memory 32" used_bytes "<=" 0.6
target "memory a key, 256-byte values" "memory 256" used_bytes "<=" 0.85
