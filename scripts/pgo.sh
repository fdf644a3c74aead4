#!/bin/bash
# Builds the release binary twice: first with counters, which redis-benchmark drives through the
# commands that are used most, then guided by what they have counted. Leaves ./server_async, a link
# to the second, as scripts/build.sh does. Takes about five minutes.
#
# Needs redis-benchmark, and an llvm-profdata as new as rustc's LLVM: `rustup component add llvm-tools`,
# or Debian's package llvm-<version> (`rustc -vV` tells the version).
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
host=$(rustc -vV | sed -n 's/^host: //p')
profdata=
for candidate in "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" \
    "llvm-profdata-$version" "/usr/lib/llvm-$version/bin/llvm-profdata"; do
    if command -v "$candidate" >/dev/null; then
        profdata=$candidate
        break
    fi
done
[ -n "$profdata" ] || {
    echo "there is no llvm-profdata of version $version: see the head of scripts/pgo.sh" >&2
    exit 1
}
command -v redis-benchmark >/dev/null || { echo "redis-benchmark is not installed" >&2 && exit 1; }

target=${CARGO_TARGET_DIR:-target}/pgo
work=$(mktemp -d)
server=
cleanup() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# build FLAG: into a directory of its own, since other flags would make cargo build all anew there.
build() {
    RUSTFLAGS=$1 cargo build --release --bin server_async --target "$host" --target-dir "$target"
}
binary=$target/$host/release/server_async

build "-Cprofile-generate=$work/raw"
port=$((20000 + RANDOM % 10000))
"$binary" --port "$port" --dir "$work" --bind 127.0.0.1 >"$work/log" 2>&1 &
server=$!
until redis-cli -p "$port" PING >/dev/null 2>&1; do
    kill -0 "$server" || { cat "$work/log" >&2 && exit 1; }
    sleep 0.1
done
drive() {
    redis-benchmark -p "$port" -c 50 -r 100000 -q "$@"
}
for policy in everysec no always; do
    redis-cli -p "$port" CONFIG SET appendfsync "$policy" >/dev/null
    drive -n 100000 -t set,get
    drive -n 1000000 -P 16 -t set,get,incr
    drive -n 200000 -P 16 -t mset
    drive -n 200000 -P 16 MGET key:__rand_int__ key:__rand_int__ key:__rand_int__ key:__rand_int__
    drive -n 200000 -P 16 SET key:__rand_int__ value EX 1000
    drive -n 200000 -P 16 DEL key:__rand_int__
done
redis-cli -p "$port" BGREWRITEAOF >/dev/null
redis-cli -p "$port" SHUTDOWN >/dev/null || true
wait "$server"
# Once more, for the load.
"$binary" --port "$port" --dir "$work" --bind 127.0.0.1 >>"$work/log" 2>&1 &
server=$!
until [ "$(redis-cli -p "$port" PING 2>/dev/null)" = PONG ]; do
    sleep 0.1
done
redis-cli -p "$port" SHUTDOWN >/dev/null || true
wait "$server"
server=
"$profdata" merge -o "$work/merged" "$work/raw"

build "-Cprofile-use=$work/merged"
ln -sfn "$binary" server_async
./server_async --version
