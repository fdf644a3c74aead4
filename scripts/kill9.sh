#!/bin/bash
# Kills the server (in turns its rewrite child) with -9 at random moments under load, restarts it,
# and compares every acknowledged write. Prints counts; ends with 1 if anything was lost.
#
#   scripts/kill9.sh [--rounds N] [--seed S] [--policy always|everysec|no]
#
# Without --policy all three are run, one after another, N rounds each (200 by default).
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=200
seed=
policies="always everysec no"
while [ $# -gt 0 ]; do
    case "$1" in
    --rounds) rounds=${2:?--rounds takes a number} && shift 2 ;;
    --seed) seed=${2:?--seed takes a number} && shift 2 ;;
    --policy) policies=${2:?--policy takes always, everysec or no} && shift 2 ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
done

cargo build --release --quiet
export KILL9_ROUNDS="$rounds"
[ -z "$seed" ] || export KILL9_SEED="$seed"
for policy in $policies; do
    case "$policy" in
    always | everysec | no) ;;
    *) echo "unknown policy: $policy" >&2 && exit 2 ;;
    esac
    cargo test --release --quiet --test kill9 -- --nocapture --exact \
        "kill9_loses_nothing_acknowledged_with_$policy"
done
