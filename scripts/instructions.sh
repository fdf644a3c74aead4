#!/bin/bash
# Counts the instructions of the pieces of work that a request is made of, and holds them against
# scripts/instructions.txt: unlike times, they are the same on a busy machine.
#
#   scripts/instructions.sh            prints both, and ends with 1 if one has risen by more than 5 %
#   scripts/instructions.sh --update   writes the table anew
#   scripts/instructions.sh [--update] PREFIX...   only those whose names begin so
#
# Counts are of user space alone, by valgrind, whose processor is plainer than most (no AVX-512), and
# depend on the compiler: with another one than the table's, differences are told but do not fail.
set -euo pipefail
cd "$(dirname "$0")/.."

table=scripts/instructions.txt
limit_percent=5
update=
if [ "${1:-}" = --update ]; then
    update=yes
    shift
fi

if ! command -v valgrind >/dev/null; then
    echo "installing: valgrind" >&2
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends valgrind >/dev/null
fi

cargo build --release --quiet --example instructions
program=${CARGO_TARGET_DIR:-target}/release/examples/instructions
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What the allocator does by the clock, or by the processor it happens to run on, differs from run to
# run.
export _RJEM_MALLOC_CONF=narenas:1,dirty_decay_ms:-1,muzzy_decay_ms:-1

# count NAME OPERATIONS: instructions an operation.
count() {
    local out=$work/${1//\//_}
    valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*instructions::measured*' \
        --callgrind-out-file="$out" "$program" "$1" >/dev/null 2>"$out.log" ||
        { cat "$out.log" >&2 && return 1; }
    awk -v operations="$2" '/^(summary|totals):/ { sum = $2 }
        END { if (sum == 0) exit 1; printf "%.1f\n", sum / operations }' "$out" ||
        { echo "nothing was counted of $1" >&2 && return 1; }
}

wanted() {
    local prefix
    [ $# -gt 1 ] || return 0
    for prefix in "${@:2}"; do
        [[ $1 != "$prefix"* ]] || return 0
    done
    return 1
}

compiler=$(rustc --version)
now=$work/now
while read -r name operations; do
    wanted "$name" "$@" || continue
    echo "$name $operations"
done < <("$program") >"$work/names"
# One a core; the count does not mind.
export -f count
export work program
xargs -P "$(nproc)" -L 1 bash -c 'set -e; n=$(count "$0" "$1"); echo "$0 $n"' <"$work/names" >"$work/counted"
# In their own order.
awk 'NR == FNR { of[$1] = $2; next } { print $1, of[$1] }' "$work/counted" "$work/names" >"$now"

if [ -n "$update" ]; then
    {
        echo "# Instructions an operation, by scripts/instructions.sh --update"
        echo "# $compiler, $(valgrind --version), $(uname -m)"
        # What was not counted this time stays.
        awk 'NR == FNR { of[$1] = $2; next } /^#/ { next } !($1 in of) { print }' "$now" \
            <(cat "$table" 2>/dev/null) >"$work/kept"
        sort "$work/kept" "$now" | awk '{ printf "%-24s %12s\n", $1, $2 }'
    } >"$work/table"
    mv "$work/table" "$table"
    cat "$table"
    exit 0
fi

[ -e "$table" ] || { echo "there is no $table yet: --update" >&2 && exit 1; }
counted_with=$(sed -n '2s/^# //p' "$table")
enforced=yes
case "$counted_with" in
"$compiler, "*) ;;
*)
    enforced=
    echo "The table is of $counted_with; this is $compiler: differences are not held against anybody."
    ;;
esac
awk -v limit="$limit_percent" -v enforced="$enforced" '
    NR == FNR { if (!/^#/) before[$1] = $2; next }
    {
        if (!($1 in before)) { printf "%-24s %12s  new\n", $1, $2; next }
        change = ($2 / before[$1] - 1) * 100
        printf "%-24s %12s %12s %+7.1f %%%s\n", $1, before[$1], $2, change, (change > limit ? "  risen" : "")
        if (change > limit) risen++
    }
    END {
        if (risen) printf "%d risen by more than %s %%\n", risen, limit
        if (risen && enforced) exit 1
    }
' "$table" "$now"
