#!/bin/bash
# Draws the charts that the README shows, from what `scripts/bench.sh --csv FILE` kept:
# docs/throughput.svg (modes throughput and all) and docs/rewrite-latency.svg (mode rewrite).
#
#   scripts/charts.sh CSV...
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { echo "usage: scripts/charts.sh CSV..." >&2 && exit 2; }
cargo run --release --quiet --example charts -- docs "$@"
