#!/bin/bash
# Measures this server and redis-server side by side on one machine.
#
#   scripts/bench.sh [throughput]   requests a second and CPU time a request by redis-benchmark:
#                                   SET and GET in each policy
#   scripts/bench.sh always         SET under `always` by 1 client, 50, and 50 with -P 16; latency
#                                   of a reader beside 8 writers
#   scripts/bench.sh rewrite        a rewrite under write load in each policy: speed of the child,
#                                   fork, copy-on-write, and latency before, during and after it
#   scripts/bench.sh load           loading one plain file, written by redis-server's rewrite, and
#                                   one with this server's seals
#   scripts/bench.sh scale          this server alone: a rewrite under full write load, memory,
#                                   kill -9, restart, and the comparison of all keys
#
#   --rounds N          5; each round measures both servers, in turns first
#   --requests N        200000; of redis-benchmark, a setting (more with -P 16, fewer with 1 client)
#   --policies LIST     "always everysec no"; of throughput and rewrite. scale takes the first
#   --keys N            5000000 in rewrite and load, 10000000 in scale
#   --size BYTES        32; of values in rewrite, load and scale. Keys have 16 bytes
#   --seconds N         10; how long a reader reads, and a rewrite is watched before and after
#   --load N            20000; writes a second beside a rewrite, by 50 clients. 0 is no limit
#   --seed N            1
#   --server-cores LIST 0; in load 0,1, since nobody else works then
#   --load-core N       1
#   --csv FILE          keeps every single figure
#
# Servers, and their children, are pinned to their cores and what drives them to another. Both
# servers write to a temporary directory (below TMPDIR) of the same disk, and are measured one
# right after the other in rounds, so that whatever else the machine does hits both alike. Prints
# Markdown tables of medians over the rounds. Trust the ratios, which are medians of the rounds'
# own ratios. Latencies of a reader and beside a rewrite are those of an open-loop probe: 2,000
# requests a second leave whether or not the server answers, each counted from when it was due.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' scripts/bench.sh >&2
    exit 2
}

mode=throughput
case "${1:-}" in
throughput | always | rewrite | load | scale) mode=$1 && shift ;;
esac
rounds=5
requests=200000
policies=
keys=5000000
size=32
seconds=10
load=20000
seed=1
server_cores=0
load_core=1
csv=
case "$mode" in
load) server_cores=0,1 ;;
scale) keys=10000000 ;;
esac
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case "$1" in
    --rounds) rounds=$2 ;;
    --requests) requests=$2 ;;
    --policies) policies=$2 ;;
    --keys) keys=$2 ;;
    --size) size=$2 ;;
    --seconds) seconds=$2 ;;
    --load) load=$2 ;;
    --seed) seed=$2 ;;
    --server-cores) server_cores=$2 ;;
    --load-core) load_core=$2 ;;
    --csv) csv=$2 ;;
    *) usage ;;
    esac
    shift 2
done

source scripts/bench/common.sh
source "scripts/bench/$mode.sh"
