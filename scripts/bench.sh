#!/bin/bash
# Measures this server and redis-server side by side on one machine.
#
#   scripts/bench.sh [throughput]   requests a second and CPU time a request by redis-benchmark:
#                                   SET and GET in each policy
#   scripts/bench.sh commands       the same for MSET, MGET, INCR, and what there is of lists, sets,
#                                   hashes and sorted sets, with -P 16 under `everysec`
#   scripts/bench.sh always         SET under `always` by 1 client, 50, and 50 with -P 16; latency
#                                   of a reader beside 8 writers
#   scripts/bench.sh latency        of a probe beside load, under `everysec`
#   scripts/bench.sh memory         a key with values of 3, 32 and 256 bytes
#   scripts/bench.sh inserts        the longest turn of the loop while keys are inserted
#   scripts/bench.sh connections    memory of idle connections, and throughput beside them
#   scripts/bench.sh log            bytes of the log a SET
#   scripts/bench.sh startup        from exec to the first PONG, with nothing to load
#   scripts/bench.sh all            all of the above, and a table of the targets at the end
#   scripts/bench.sh rewrite        a rewrite under write load in each policy: speed of the child,
#                                   fork, copy-on-write, and latency before, during and after it
#   scripts/bench.sh load           loading one plain file, written by redis-server's rewrite, and
#                                   one with this server's seals
#   scripts/bench.sh scale          this server alone: a rewrite under full write load, memory,
#                                   kill -9, restart, and the comparison of all keys
#
#   --rounds N          5, 1 in memory, inserts and startup; each round measures all servers, in
#                       turns first
#   --requests N        200000; of redis-benchmark, a setting (more with -P 16, fewer with 1 client)
#   --policies LIST     "always everysec no"; of throughput and rewrite. scale takes the first
#   --keys N            1000000 in memory, 5000000 in rewrite and load, 10000000 in inserts and scale
#   --size BYTES        32; of values in rewrite, load, inserts and scale. Keys have 16 bytes
#   --seconds N         10; how long a probe or reader reads, and a rewrite is watched before and
#                       after
#   --load N            20000; writes a second beside a rewrite and a probe, by 50 clients. 0 is no
#                       limit
#   --connections N     10000; idle ones
#   --starts N          20; of which startup takes the median
#   --peer COMMAND      another server to be measured: a program that takes Redis's flags, or a
#                       command line with %PORT%, %DIR% and, if it likes, %POLICY% in it
#   --redis no          leaves redis-server out
#   --seed N            1
#   --server-cores LIST 0; in load 0,1, since nobody else works then
#   --load-core N       1
#   --csv FILE          keeps every single figure; scripts/charts.sh draws some of them
#
# Servers, and their children, are pinned to their cores and what drives them to another. All
# servers write to a temporary directory (below TMPDIR) of the same disk, and are measured one
# right after the other in rounds, so that whatever else the machine does hits all alike. Prints
# Markdown tables of medians over the rounds. Trust the ratios, which are medians of the rounds'
# own ratios. Latencies of a reader, of a probe and beside a rewrite are those of an open-loop
# probe: 2,000 requests a second leave whether or not the server answers, each counted from when it
# was due. "load core" is the share of its core that redis-benchmark took, the highest over the
# servers of a row: near 100 % it is what was measured, and the servers' CPU time a request alone
# tells them apart.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' scripts/bench.sh >&2
    exit 2
}

short_modes="throughput commands always latency memory inserts connections log startup"
mode=throughput
case " $short_modes all rewrite load scale " in
*" ${1:--} "*) mode=$1 && shift ;;
esac
invocation="scripts/bench.sh $mode"
rounds=
requests=200000
policies=
keys=
size=32
seconds=10
load=20000
connections=10000
starts=20
peer=
redis=yes
seed=1
server_cores=0
load_core=1
csv=
[ "$mode" != load ] || server_cores=0,1
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
    --connections) connections=$2 ;;
    --starts) starts=$2 ;;
    --peer) peer=$2 ;;
    --redis) redis=$2 ;;
    --seed) seed=$2 ;;
    --server-cores) server_cores=$2 ;;
    --load-core) load_core=$2 ;;
    --csv) csv=$2 ;;
    *) usage ;;
    esac
    # For whoever repeats it; places on this machine mean nothing elsewhere.
    case "$1" in
    --csv) ;;
    --peer) invocation+=" --peer ..." ;;
    *) invocation+=" $1 $(sed 's/.* .*/"&"/' <<<"$2")" ;;
    esac
    shift 2
done

source scripts/bench/common.sh
asked_rounds=$rounds asked_keys=$keys
[ "$mode" = all ] || short_modes=$mode
heading
for mode in $short_modes; do
    case "$mode" in
    memory | inserts | startup) rounds=${asked_rounds:-1} ;;
    *) rounds=${asked_rounds:-5} ;;
    esac
    case "$mode" in
    memory) keys=${asked_keys:-1000000} ;;
    inserts | scale) keys=${asked_keys:-10000000} ;;
    *) keys=${asked_keys:-5000000} ;;
    esac
    source "scripts/bench/$mode.sh"
done
targets
