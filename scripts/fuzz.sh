#!/bin/bash
# Fuzzes the request parser and the loader with libFuzzer, on stable Rust. What it finds on the way
# is kept outside the repository; `cmin` takes the smallest set that reaches the same code over
# into fuzz/corpus, which tests/fuzz_corpus.rs replays.
#
#   scripts/fuzz.sh [parser|loader] [seconds]    both targets and 300 seconds each by default
#   scripts/fuzz.sh cmin                         renew fuzz/corpus from what was found
#
# A finding stops the run and is left in fuzz/artifacts/<target>/, and is shown again by
#   fuzz/target/x86_64-unknown-linux-gnu/release/<target> <file>
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# Inputs that are kept are no longer; runs in them stand for more (see fuzz/src/lib.rs).
max_len=4096
targets="parser loader"
seconds=300
merge=
for word in "$@"; do
    case "$word" in
    parser | loader) targets=$word ;;
    cmin) merge=yes ;;
    *[!0-9]* | '') usage ;;
    *) seconds=$word ;;
    esac
done

cargo fuzz --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-fuzz

# Without a sanitizer all that is needed are flags that stable compilers take. The code under test
# has no unsafe block; what a run is to find are panics, overflows and broken claims.
build=(-s none --release --debug-assertions)
host=$(rustc -vV | sed -n 's/^host: //p')

for target in $targets; do
    cargo fuzz build "${build[@]}" "$target"
    program=fuzz/target/$host/release/$target
    kept=fuzz/corpus/$target
    found=fuzz/target/found/$target
    mkdir -p "$found" "fuzz/artifacts/$target"
    if [ -n "$merge" ]; then
        # By the code that is reached, not by how often: that keeps the corpora small. Names given by
        # hand say what an input is about; only those named by a hash come anew.
        find "$kept" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
        nice "$program" -set_cover_merge=1 -use_counters=0 -max_len=$max_len "$kept" "$found"
        echo "$target: $(find "$kept" -type f | wc -l) inputs, $(cat "$kept"/* | wc -c) bytes"
        continue
    fi
    echo "=== $target, $seconds seconds"
    # The first folder takes what is new, the others are only read.
    nice "$program" -max_total_time="$seconds" -max_len=$max_len -timeout=10 -rss_limit_mb=2048 \
        -dict="fuzz/dict/$target.dict" -artifact_prefix="fuzz/artifacts/$target/" \
        -print_final_stats=1 "$found" "$kept"
done
