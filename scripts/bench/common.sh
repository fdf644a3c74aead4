# What the modes of scripts/bench.sh share: two servers, who drives them, and a table of results.
# Sourced by it after its flags were read.

[ -x ./server_async ] || { echo "build first: scripts/build.sh" >&2 && exit 1; }
for program in redis-server redis-cli redis-benchmark taskset setpriv awk cargo; do
    command -v "$program" >/dev/null || { echo "$program is not installed" >&2 && exit 1; }
done
[ "$(nproc)" -ge 2 ] || { echo "two cores are needed" >&2 && exit 1; }

# What drives the servers, and watches them.
cargo build --release --quiet --example traffic
traffic_program=${CARGO_TARGET_DIR:-target}/release/examples/traffic

# The probe must not wait for its turn behind the writers that share its core.
urgently=()
if chrt -f 10 true 2>/dev/null; then
    urgently=(chrt -f 10)
else
    echo "no real-time priority for the probe: its latencies will include waits of its own" >&2
fi

# ------------------------------------------------------------------ clean-up

work=$(mktemp -d)
pids=()
cleanup() {
    local pid
    exec 7>&- 8>&-
    for pid in "${pids[@]}"; do
        kill -9 "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# ------------------------------------------------------------------ servers

# A port on which nobody listens.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# start NAME POLICY [--flag value]...: starts `ours` or `redis` on a free port in $work/NAME, and
# waits until it has loaded what lies there. Leaves its pid in pid_NAME and its port in port_NAME.
start() {
    local name=$1 policy=$2 port pid
    shift 2
    local command=(./server_async)
    # Without a preamble Redis, too, writes its rewrites as commands.
    [ "$name" != redis ] || command=(redis-server --aof-use-rdb-preamble no)
    port=$(free_port)
    mkdir -p "$work/$name"
    # It ends with this script even if that is killed.
    setpriv --pdeathsig KILL taskset -c "$server_cores" "${command[@]}" --port "$port" --bind 127.0.0.1 \
        --dir "$work/$name" --save "" --appendonly yes --appendfsync "$policy" \
        --auto-aof-rewrite-percentage 0 --enable-debug-command yes "$@" \
        >>"$work/$name.log" 2>&1 7>&- 8>&- &
    pid=$!
    pids+=("$pid")
    declare -g "pid_$name=$pid" "port_$name=$port"
    "${traffic[@]}" ready --port "$port" --timeout 900 7>&- 8>&- &
    local waiting=$! first=
    pids+=("$waiting")
    # Whichever ends first: a server that does not start is noticed at once.
    if ! wait -n -p first "$pid" "$waiting" || [ "$first" != "$waiting" ]; then
        echo "$name does not start:" >&2
        tail -20 "$work/$name.log" >&2
        exit 1
    fi
}

# stop NAME: kills it, and forgets what it wrote unless the second argument is `keep`.
stop() {
    local pid=pid_$1
    kill -9 "${!pid}" 2>/dev/null || true
    wait "${!pid}" 2>/dev/null || true
    [ "${2:-}" = keep ] || rm -rf "${work:?}/$1"
}

port_of() {
    local port=port_$1
    echo "${!port}"
}

pid_of() {
    local pid=pid_$1
    echo "${!pid}"
}

# The servers in the order of this round.
order() {
    if [ $(($1 % 2)) = 1 ]; then echo redis ours; else echo ours redis; fi
}

# Nanoseconds on a CPU so far, all living threads of a process. Kernels without schedstat count in
# ticks.
cpu_ns() {
    if [ -r "/proc/$1/schedstat" ]; then
        cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'
    else
        cpu_ns_ever "$1"
    fi
}

# The same in ticks, with threads that have ended.
cpu_ns_ever() {
    sed 's/.*) //' "/proc/$1/stat" |
        awk -v tick="$(getconf CLK_TCK)" '{ printf "%.0f", ($12 + $13) * 1e9 / tick }'
}

# Keeps the write-back of one server's file from being measured as the other's.
settle() {
    sync -f "$work"
}

# ------------------------------------------------------------------ drivers

# Commands, not functions, so that what is started in the background has the pid that is kept.
traffic=(taskset -c "$load_core" "$traffic_program")
probe=(taskset -c "$load_core" "${urgently[@]}" "$traffic_program" probe)

# fill NAME: every key once.
fill() {
    "${traffic[@]}" fill --port "$(port_of "$1")" --keys "$keys" --size "$size" --seed "$seed" \
        "${@:2}" >>"$work/fill.log"
}

# benchmark NAME TEST CLIENTS PIPELINE REQUESTS KEYS: one redis-benchmark; prints its figures and
# the server's CPU time as name=value.
benchmark() {
    local before after line pid
    pid=$(pid_of "$1")
    before=$(cpu_ns "$pid")
    line=$(taskset -c "$load_core" redis-benchmark -p "$(port_of "$1")" -t "$2" -n "$5" -c "$3" \
        -P "$4" -r "$6" --csv 2>/dev/null | tr -d '"' | grep -i "^$2," | tail -1)
    after=$(cpu_ns "$pid")
    # Columns of redis-benchmark: test, rps, and latencies in ms: avg, min, p50, p95, p99, max.
    awk -F, -v ns=$((after - before)) -v count="$5" '{
        printf "per_second=%s p50_ms=%s p99_ms=%s cpu_us=%s", $2, $5, $7, ns / count / 1000
    }' <<<"$line"
}

# value NAME LINE: the value of one name in a line of name=value.
value() {
    local word
    for word in $2; do
        [ "${word%%=*}" != "$1" ] || echo "${word#*=}"
    done
}

# expect_no_errors LINE...: figures of a server that refused requests mean nothing.
expect_no_errors() {
    local line
    for line in "$@"; do
        [ "$(value errors "$line")" = 0 ] && [ "$(value unanswered "$line")" = 0 ] ||
            { echo "not all requests succeeded: $line" >&2 && exit 1; }
    done
}

# ------------------------------------------------------------------ results

echo "round,server,setting,figure,value" >"$work/results"

# record ROUND SERVER SETTING LINE: keeps every figure of a line of name=value. The words of a
# setting are separated by spaces.
record() {
    local word
    for word in $4; do
        echo "$1,$2,$3,${word%%=*},${word#*=}" >>"$work/results"
    done
}

heading() {
    echo "$(redis-server --version | awk '{ print $3 }' | sed 's/v=/redis-server /')," \
        "$(./server_async --version), $(uname -sr), $rounds rounds"
}

# table KIND HEADERS FIGURE...: a Markdown table of those settings whose first word is KIND, one
# column for each further word, with the names HEADERS gives (separated by |). A FIGURE is
# "name|label|format|divisor", and behind it "|ratio" for a column of ratios or "|ours" for what only
# this server tells.
table() {
    local kind=$1 headers=$2
    shift 2
    echo
    printf '%s\n' "$@" | awk -v kind="$kind" -v headers="$headers" '
        function median(list,   i, j, n, t, a) {
            n = split(list, a, " ")
            if (n == 0) return "-"
            for (i = 2; i <= n; i++)
                for (j = i; j > 1 && a[j] + 0 < a[j - 1] + 0; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
            return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
        }
        function shown(list, format, divisor,   m) {
            m = median(list)
            return m == "-" ? m : sprintf(format, m / divisor)
        }
        NR == FNR { split($0, part, "|"); figure[++figures] = $0; next }
        {
            split($0, field, ",")
            if (split(field[3], word, " ") == 0 || word[1] != kind) next
            setting = substr(field[3], length(kind) + 2)
            if (!(setting in seen)) { seen[setting] = 1; settings[++count] = setting }
            at[field[2], setting, field[4], field[1]] = field[5]
            if (field[1] + 0 > rounds) rounds = field[1] + 0
        }
        END {
            line = "|"; rule = "|"
            n = split(headers, header, "|")
            for (i = 1; i <= n; i++) { line = line " " header[i] " |"; rule = rule " --- |" }
            for (f = 1; f <= figures; f++) {
                split(figure[f], part, "|")
                line = line " server_async " part[2] " |"; rule = rule " ---: |"
                if (part[5] != "ours") { line = line " Redis " part[2] " |"; rule = rule " ---: |" }
                if (part[5] == "ratio") { line = line " ratio |"; rule = rule " ---: |" }
                delete part
            }
            print line; print rule
            for (s = 1; s <= count; s++) {
                split(settings[s], word, " ")
                line = "|"
                for (i = 1; i <= n; i++) line = line " " word[i] " |"
                for (f = 1; f <= figures; f++) {
                    delete part
                    split(figure[f], part, "|")
                    ours = redis = ratios = ""
                    for (r = 1; r <= rounds; r++) {
                        if (("ours", settings[s], part[1], r) in at) ours = ours " " (a = at["ours", settings[s], part[1], r])
                        else a = ""
                        if (("redis", settings[s], part[1], r) in at) redis = redis " " (b = at["redis", settings[s], part[1], r])
                        else b = ""
                        if (a != "" && b + 0 > 0) ratios = ratios " " a / b
                    }
                    line = line " " shown(ours, part[3], part[4]) " |"
                    if (part[5] != "ours") line = line " " shown(redis, part[3], part[4]) " |"
                    if (part[5] == "ratio") line = line " " shown(ratios, "%.2f", 1) " |"
                }
                print line
            }
        }' - "$work/results"
    [ -z "$csv" ] || cp "$work/results" "$csv"
}
