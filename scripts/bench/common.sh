# What the modes of scripts/bench.sh share: the servers, who drives them, and tables of results.
# Sourced by it after its flags were read.

[ -x ./server_async ] || { echo "build first: scripts/build.sh" >&2 && exit 1; }
programs=(redis-cli redis-benchmark taskset setpriv awk cargo)
# Whom this server is measured against; the first is the one that ratios and targets go by.
peers=()
case "$redis" in
yes) peers+=(redis) && programs+=(redis-server) ;;
no) ;;
*) usage ;;
esac
if [ -n "$peer" ]; then
    peers+=(peer)
    programs+=("${peer%% *}")
fi
[ ${#peers[@]} -gt 0 ] || { echo "there is nobody to measure against" >&2 && exit 1; }
for program in "${programs[@]}"; do
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

# The command line of a server, in the array `command`.
compose() {
    local name=$1 port=$2 dir=$3 policy=$4
    shift 4
    local flags=(--port "$port" --bind 127.0.0.1 --dir "$dir" --save "" --appendonly yes
        --appendfsync "$policy" --auto-aof-rewrite-percentage 0 --enable-debug-command yes "$@")
    case "$name" in
    ours) command=(./server_async "${flags[@]}") ;;
    # Without a preamble Redis, too, writes its rewrites as commands.
    redis) command=(redis-server --aof-use-rdb-preamble no "${flags[@]}") ;;
    peer)
        # Split at blanks, as it was given.
        read -ra command <<<"${peer//%POLICY%/$policy}"
        command=("${command[@]//%PORT%/$port}")
        command=("${command[@]//%DIR%/$dir}")
        [[ $peer == *%PORT%* ]] || command+=(--aof-use-rdb-preamble no "${flags[@]}")
        ;;
    esac
}

# start NAME POLICY [--flag value]...: starts a server on a free port in $work/NAME, and waits until
# it has loaded what lies there. Leaves its pid in pid_NAME and its port in port_NAME.
start() {
    local name=$1 policy=$2 port pid command
    shift 2
    port=$(free_port)
    compose "$name" "$port" "$work/$name" "$policy" "$@"
    mkdir -p "$work/$name"
    # It ends with this script even if that is killed.
    setpriv --pdeathsig KILL taskset -c "$server_cores" "${command[@]}" \
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

# stop_all: as stop, each server.
stop_all() {
    local name
    for name in ours "${peers[@]}"; do
        stop "$name"
    done
}

# The servers in the order of this round.
order() {
    if [ $(($1 % 2)) = 1 ]; then echo "${peers[@]}" ours; else echo ours "${peers[@]}"; fi
}

# rss_of NAME: bytes of a server's memory that are resident.
rss_of() {
    awk '/^VmRSS/ { print $2 * 1024 }' "/proc/$(pid_of "$1")/status"
}

# info_of NAME FIELD: a field of INFO; empty if the server does not tell it.
info_of() {
    redis-cli -p "$(port_of "$1")" INFO everything | tr -d '\r' | sed -n "s/^$2://p"
}

# knows NAME COMMAND: whether a server has a command.
knows() {
    [ -n "$(redis-cli -p "$(port_of "$1")" COMMAND INFO "$2" | tr -d ' \n')" ]
}

# Nanoseconds on a CPU so far, all living threads of a process. Kernels without schedstat count in
# ticks.
cpu_ns() {
    if [ -r "/proc/$1/schedstat" ]; then
        # A thread may end between being named and being read.
        { cat /proc/"$1"/task/*/schedstat 2>/dev/null || true; } |
            awk '{ sum += $1 } END { printf "%.0f", sum }'
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

# benchmark NAME CLIENTS PIPELINE REQUESTS KEYS WORD...: one redis-benchmark, whose own flags or
# whose command the words are; prints its figures, its share of its core, and the server's CPU time,
# as name=value.
benchmark() {
    local name=$1 clients=$2 pipeline=$3 count=$4 range=$5 before after line pid TIMEFORMAT='%U %S %R'
    shift 5
    pid=$(pid_of "$name")
    before=$(cpu_ns "$pid")
    { time taskset -c "$load_core" redis-benchmark -p "$(port_of "$name")" -n "$count" \
        -c "$clients" -P "$pipeline" -r "$range" --csv "$@" >"$work/benchmark" 2>/dev/null; } \
        2>"$work/benchmark.time"
    after=$(cpu_ns "$pid")
    line=$(tr -d '"' <"$work/benchmark" | tail -1)
    [[ $line == *,*.*,*.* ]] || { echo "redis-benchmark $*: $line" >&2 && exit 1; }
    # Columns of redis-benchmark: test, rps, and latencies in ms: avg, min, p50, p95, p99, max.
    awk -F, -v ns=$((after - before)) -v count="$count" -v time="$(cat "$work/benchmark.time")" '{
        split(time, part, " ")
        printf "per_second=%s p50_ms=%s p99_ms=%s cpu_us=%s load_core=%.3f", \
            $2, $5, $7, ns / count / 1000, (part[1] + part[2]) / part[3]
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

# record ROUND SERVER SETTING LINE: keeps every figure of a line of name=value. The words of a
# setting are separated by spaces.
record() {
    local word
    for word in $4; do
        echo "$1,$2,$3,${word%%=*},${word#*=}" >>"$work/results"
    done
}

# label_of NAME: how tables call a server.
label_of() {
    case "$1" in
    ours) echo server_async ;;
    redis) echo Redis ;;
    peer) basename "${peer%% *}" ;;
    esac
}

version_of() {
    case "$1" in
    ours) ./server_async --version ;;
    redis) redis-server --version | awk '{ print $3 }' | sed 's/v=/redis-server /' ;;
    peer) label_of peer ;;
    esac
}

# What the figures were taken on and by, for whoever draws them.
{
    echo "# machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores," \
        "Linux $(uname -r | grep -o "^[0-9.]*[0-9]")"
    echo "# date: $(date -u +%F)"
    echo "# command: $invocation"
    versions=
    for name in ours "${peers[@]}"; do
        versions+="|$name=$(version_of "$name")"
    done
    echo "# servers: ${versions#|}"
    echo "round,server,setting,figure,value"
} >"$work/results"

heading() {
    local name versions=
    for name in "${peers[@]}" ours; do
        versions+="$(version_of "$name"), "
    done
    echo "$versions$(grep '^# machine: ' "$work/results" | sed 's/# machine: //')"
}

labels() {
    local name all=
    for name in ours "${peers[@]}"; do
        all+="|$name=$(label_of "$name")"
    done
    echo "${all#|}"
}

# Of lists of numbers separated by blanks.
median='
    function median(list,   i, j, n, t, a) {
        n = split(list, a, " ")
        if (n == 0) return "-"
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && a[j] + 0 < a[j - 1] + 0; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
        return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
    }
    function largest(list,   i, n, a, m) {
        n = split(list, a, " ")
        if (n == 0) return "-"
        for (i = 1; i <= n; i++) if (i == 1 || a[i] + 0 > m) m = a[i] + 0
        return m
    }
    # The values of a figure, and its ratios to a peer'"'"'s, of all rounds.
    function values(server, setting, figure,   r, list) {
        for (r = 1; r <= rounds; r++)
            if ((server, setting, figure, r) in at) list = list " " at[server, setting, figure, r]
        return list
    }
    function ratios(peer, setting, figure,   r, list) {
        for (r = 1; r <= rounds; r++)
            if (("ours", setting, figure, r) in at && at[peer, setting, figure, r] + 0 > 0)
                list = list " " at["ours", setting, figure, r] / at[peer, setting, figure, r]
        return list
    }
    function take(   field) {
        if (/^#/ || split($0, field, ",") != 5) return
        at[field[2], field[3], field[4], field[1]] = field[5]
        if (field[1] + 0 > rounds) rounds = field[1] + 0
        # The setting, for whoever asks.
        setting = field[3]
    }'

# table KIND HEADERS FIGURE...: a Markdown table of those settings whose first word is KIND, one
# column for each further word, with the names HEADERS gives (separated by |). A FIGURE is
# "name|label|format|divisor", and behind it "|ratio" for a column of ratios to each peer, "|ours"
# for what only this server tells, or "|highest" for one column with the highest of all servers.
table() {
    local kind=$1 headers=$2
    shift 2
    echo
    printf '%s\n' "$@" | awk -v kind="$kind" -v headers="$headers" -v labels="$(labels)" "$median"'
        function shown(number, format, divisor) {
            return number == "-" ? number : sprintf(format, number / divisor)
        }
        BEGIN {
            servers = split(labels, server, "|")
            for (i = 1; i <= servers; i++) {
                split(server[i], pair, "="); server[i] = pair[1]; label[i] = pair[2]
            }
        }
        NR == FNR { split($0, part, "|"); figure[++figures] = $0; next }
        {
            setting = ""; take()
            if (split(setting, word, " ") == 0 || word[1] != kind || setting in seen) next
            seen[setting] = 1; settings[++count] = setting
        }
        END {
            line = "|"; rule = "|"
            n = split(headers, header, "|")
            for (i = 1; i <= n; i++) { line = line " " header[i] " |"; rule = rule " --- |" }
            for (f = 1; f <= figures; f++) {
                delete part
                split(figure[f], part, "|")
                if (part[5] == "highest") { line = line " " part[2] " |"; rule = rule " ---: |"; continue }
                line = line " " label[1] " " part[2] " |"; rule = rule " ---: |"
                for (i = 2; i <= servers && part[5] != "ours"; i++) {
                    line = line " " label[i] " " part[2] " |"; rule = rule " ---: |"
                    if (part[5] == "ratio") { line = line " ratio |"; rule = rule " ---: |" }
                }
            }
            print line; print rule
            for (s = 1; s <= count; s++) {
                split(settings[s], word, " ")
                line = "|"
                for (i = 1; i <= n; i++) line = line " " word[i + 1] " |"
                for (f = 1; f <= figures; f++) {
                    delete part
                    split(figure[f], part, "|")
                    if (part[5] == "highest") {
                        all = ""
                        for (i = 1; i <= servers; i++) all = all " " values(server[i], settings[s], part[1])
                        line = line " " shown(largest(all), part[3], part[4]) " |"
                        continue
                    }
                    line = line " " shown(median(values("ours", settings[s], part[1])), part[3], part[4]) " |"
                    for (i = 2; i <= servers && part[5] != "ours"; i++) {
                        line = line " " shown(median(values(server[i], settings[s], part[1])), part[3], part[4]) " |"
                        if (part[5] == "ratio")
                            line = line " " shown(median(ratios(server[i], settings[s], part[1])), "%.2f", 1) " |"
                    }
                }
                print line
            }
        }' - "$work/results"
    [ -z "$csv" ] || cp "$work/results" "$csv"
}

# target WHAT SETTING FIGURE RELATION LIMIT [UNIT DIVISOR]: a line for the table of targets: the
# median of a figure's ratios to redis-server must be at least (>=) or at most (<=) the limit, and
# throughput and CPU time must not be worse than another peer's. With a unit it is the figure itself.
target() {
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$5" "${6:-}" "${7:-1}" >>"$work/targets"
}

# Prints what came of the targets of the modes that ran.
targets() {
    [ -z "$csv" ] || cp "$work/results" "$csv"
    [ -s "$work/targets" ] || return 0
    echo
    awk -F '\t' -v labels="$(labels)" "$median"'
        function verdict(number, relation, limit) {
            return (relation == ">=" ? number >= limit : number <= limit) ? "met" : "**missed**"
        }
        BEGIN { servers = split(labels, server, "|") }
        NR == FNR { line[++lines] = $0; next }
        { take() }
        END {
            print "| what | against | target | measured | |"
            print "| --- | --- | ---: | ---: | --- |"
            for (l = 1; l <= lines; l++) {
                split(line[l], part, "\t")
                relation = part[4] == ">=" ? "at least" : "at most"
                if (part[6] != "") {
                    m = median(values("ours", part[2], part[3]))
                    if (m == "-") continue
                    m /= part[7]
                    printf "| %s | | %s %s %s | %.2f %s | %s |\n", part[1], relation, part[5], part[6], \
                        m, part[6], verdict(m, part[4], part[5])
                    continue
                }
                for (i = 2; i <= servers; i++) {
                    split(server[i], pair, "=")
                    m = median(ratios(pair[1], part[2], part[3]))
                    if (m == "-") continue
                    limit = pair[1] == "redis" ? part[5] : "1.0"
                    said = verdict(m, part[4], limit)
                    load = largest(values("ours", part[2], "load_core"))
                    if (part[3] == "per_second" && said != "met" && load != "-" && load >= 0.95)
                        said = "the load generator is the limit"
                    printf "| %s | %s | %s %sx | %.2fx | %s |\n", part[1], pair[2], relation, limit, m, said
                }
            }
        }' "$work/targets" "$work/results"
}
