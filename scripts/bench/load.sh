# Loading: the same file by both servers, from the page cache. Time counts from the start of the
# process to the first PONG.

# rewritten NAME: the file that NAME's rewrite makes of all keys.
rewritten() {
    start "$1" no
    fill "$1"
    "${traffic[@]}" rewrite --port "$(port_of "$1")" --pid "$(pid_of "$1")" >>"$work/fill.log"
    stop "$1" keep
}

# load_file NAME FILE ROUND: puts a copy where NAME looks for it, and starts NAME.
load_file() {
    local name=$1 file=$2 round=$3 before after found
    mkdir -p "$work/$name/appendonlydir"
    if [ "$name" != ours ]; then
        cp "$work/$file" "$work/$name/appendonlydir/appendonly.aof.1.base.aof"
        echo "file appendonly.aof.1.base.aof seq 1 type b" \
            >"$work/$name/appendonlydir/appendonly.aof.manifest"
    else
        cp "$work/$file" "$work/ours/appendonly.aof"
    fi
    settle
    before=$EPOCHREALTIME
    start "$name" no
    after=$EPOCHREALTIME
    found=$(redis-cli -p "$(port_of "$name")" DBSIZE)
    [ "$found" = "$keys" ] || { echo "$name loaded $found keys of $keys" >&2 && exit 1; }
    record "$round" "$name" "load $file" "$(awk -v us=$((${after/./} - ${before/./})) \
        -v keys="$keys" -v ns="$(cpu_ns_ever "$(pid_of "$name")")" \
        -v bytes="$(stat -c %s "$work/$file")" 'BEGIN {
            printf "seconds=%.3f per_second=%.0f bytes_per_second=%.0f cpu_us=%.4f", \
                us / 1e6, keys / us * 1e6, bytes / us * 1e6, ns / keys / 1000
        }') rss_bytes=$(rss_of "$name")"
    stop "$name"
}

writer=${peers[0]}
rewritten "$writer"
mv "$work/$writer"/appendonlydir/*.base.aof "$work/plain"
rewritten ours
mv "$work/ours/appendonly.aof" "$work/sealed"
rm -rf "${work:?}/$writer" "$work/ours"
for round in $(seq "$rounds"); do
    for file in plain sealed; do
        for name in $(order "$round"); do
            load_file "$name" "$file" "$round"
        done
    done
    echo "round $round of $rounds" >&2
done

echo
echo "$keys SETs, 16-byte keys and $size-byte values; plain: as $(label_of "$writer")'s rewrite wrote them," \
    "sealed: as server_async's did"
table load "file" "per_second|commands/s|%.0f|1|ratio" "bytes_per_second|MB/s|%.0f|1e6" \
    "cpu_us|CPU/command|%.2f µs|1|ratio" "seconds|s|%.2f|1" "rss_bytes|RSS MB|%.0f|1e6"
