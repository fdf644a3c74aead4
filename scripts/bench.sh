#!/bin/bash
# redis-benchmark against this server and redis-server, side by side on one machine.
#
#   scripts/bench.sh [--rounds N] [--requests N] [--policies "always everysec no"] [--csv FILE]
#
# Both servers run at once, each with its append-only file in a temporary directory, pinned to
# core 0; the generator is pinned to core 1. In every round each setting is run on both, one right
# after the other, in turns first, so that whatever else the machine does hits both alike. Prints a
# Markdown table of medians over the rounds: requests a second, and the CPU time that the server
# spent on a request, all of its threads together. Trust the ratios, which are medians of the
# rounds' own ratios. --csv keeps every single run.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=5
requests=200000
policies="always everysec no"
csv=
while [ $# -gt 0 ]; do
    case "$1" in
    --rounds) rounds=${2:?--rounds takes a number} && shift 2 ;;
    --requests) requests=${2:?--requests takes a number} && shift 2 ;;
    --policies) policies=${2:?--policies takes a list} && shift 2 ;;
    --csv) csv=${2:?--csv takes a file} && shift 2 ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
done

[ -x ./server_async ] || { echo "build first: scripts/build.sh" >&2 && exit 1; }
for program in redis-server redis-cli redis-benchmark taskset awk; do
    command -v "$program" >/dev/null || { echo "$program is not installed" >&2 && exit 1; }
done
[ "$(nproc)" -ge 2 ] || { echo "two cores are needed" >&2 && exit 1; }

work=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do
        kill -9 "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# A port on which nobody listens.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# start NAME POLICY COMMAND...: starts a server on a free port; leaves its pid in pid_NAME and its
# port in port_NAME.
start() {
    local name=$1 policy=$2 port
    shift 2
    port=$(free_port)
    mkdir -p "$work/$name-$policy"
    taskset -c 0 "$@" --port "$port" --bind 127.0.0.1 --dir "$work/$name-$policy" --save "" \
        --appendonly yes --appendfsync "$policy" --auto-aof-rewrite-percentage 0 \
        >"$work/$name-$policy.log" 2>&1 &
    declare -g "pid_$name=$!" "port_$name=$port"
    pids+=("$!")
    until redis-cli -p "$port" ping 2>/dev/null | grep -q PONG; do
        kill -0 "$!" 2>/dev/null || { cat "$work/$name-$policy.log" >&2 && exit 1; }
        sleep 0.05
    done
}

stop() {
    local pid=pid_$1
    kill -9 "${!pid}" && wait "${!pid}" 2>/dev/null || true
}

# Nanoseconds on a CPU so far, all threads of a process. Kernels without schedstat count in ticks.
cpu_ns() {
    if [ -r "/proc/$1/schedstat" ]; then
        cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'
    else
        sed 's/.*) //' "/proc/$1/stat" |
            awk -v tick="$(getconf CLK_TCK)" '{ printf "%.0f", ($12 + $13) * 1e9 / tick }'
    fi
}

# run NAME POLICY CLIENTS PIPELINE REQUESTS ROUND: one redis-benchmark of SET, then one of GET; a
# line each in the file of results.
run() {
    local name=$1 policy=$2 clients=$3 pipeline=$4 count=$5 round=$6 test before after line
    local pid=pid_$name port=port_$name
    for test in set get; do
        before=$(cpu_ns "${!pid}")
        line=$(taskset -c 1 redis-benchmark -p "${!port}" -t "$test" -n "$count" -c "$clients" \
            -P "$pipeline" -r 100000 --csv 2>/dev/null | tr -d '"' | grep -i "^$test," | tail -1)
        after=$(cpu_ns "${!pid}")
        # Columns of redis-benchmark: test, rps, and latencies in ms: avg, min, p50, p95, p99, max.
        awk -F, -v OFS=, -v head="$round,$policy,$clients,$pipeline,$test,$name" \
            -v ns=$((after - before)) -v count="$count" \
            '{ print head, $2, $5, $7, ns / count / 1000 }' <<<"$line" >>"$work/results"
    done
}

# The settings of a policy: clients, pipeline, requests.
settings() {
    echo "50 1 $requests"
    echo "50 16 $((requests * 4))"
    # One client waits for the disk each time.
    [ "$1" != always ] || echo "1 1 $((requests / 10))"
}

: >"$work/results"
for policy in $policies; do
    start ours "$policy" ./server_async
    start redis "$policy" redis-server
    for name in ours redis; do # not counted: fills the key space, warms up
        port=port_$name
        taskset -c 1 redis-benchmark -p "${!port}" -t set -n 100000 -P 16 -r 100000 -q >/dev/null
    done
    for round in $(seq "$rounds"); do
        while read -r clients pipeline count; do
            order="ours redis"
            [ $((round % 2)) = 1 ] || order="redis ours"
            for name in $order; do
                run "$name" "$policy" "$clients" "$pipeline" "$count" "$round"
            done
        done < <(settings "$policy")
        echo "policy $policy: round $round of $rounds" >&2
    done
    stop ours
    stop redis
    rm -rf "$work"/*-"$policy"
done

if [ -n "$csv" ]; then
    {
        echo "round,policy,clients,pipeline,test,server,requests_per_s,p50_ms,p99_ms,cpu_us_per_request"
        cat "$work/results"
    } >"$csv"
fi

echo "$(redis-server --version | awk '{ print $3 }' | sed 's/v=/redis-server /'), $(./server_async --version)," \
    "$(uname -sr), $rounds rounds"
echo
awk -F, '
function median(list, n,   i, j, t, a) {
    split(list, a, " ")
    for (i = 2; i <= n; i++)
        for (j = i; j > 1 && a[j] + 0 < a[j - 1] + 0; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
    return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
}
{
    setting = $2 "," $3 "," $4 "," $5
    if (!(setting in seen)) { seen[setting] = 1; order[++settings] = setting }
    rate[setting, $6, $1] = $7; p99[setting, $6, $1] = $9; cpu[setting, $6, $1] = $10
    if ($1 > rounds) rounds = $1
}
END {
    print "| appendfsync | clients | -P | test | server_async req/s | Redis req/s | ratio | server_async CPU/req | Redis CPU/req | ratio | p99 ms | Redis p99 ms |"
    print "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for (s = 1; s <= settings; s++) {
        k = order[s]; a = b = c = d = e = f = g = h = ""
        for (r = 1; r <= rounds; r++) {
            a = a " " rate[k, "ours", r]; b = b " " rate[k, "redis", r]
            c = c " " rate[k, "ours", r] / rate[k, "redis", r]
            d = d " " cpu[k, "ours", r]; e = e " " cpu[k, "redis", r]
            f = f " " cpu[k, "ours", r] / cpu[k, "redis", r]
            g = g " " p99[k, "ours", r]; h = h " " p99[k, "redis", r]
        }
        split(k, part, ",")
        printf "| %s | %s | %s | %s | %.0f | %.0f | %.2f | %.2f µs | %.2f µs | %.2f | %.2f | %.2f |\n", \
            part[1], part[2], part[3], toupper(part[4]), median(a, rounds), median(b, rounds), \
            median(c, rounds), median(d, rounds), median(e, rounds), median(f, rounds), \
            median(g, rounds), median(h, rounds)
    }
}' "$work/results"
