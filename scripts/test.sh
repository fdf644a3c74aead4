#!/bin/bash
# Everything that must hold: formatting, lints, and all tests, on a Debian machine with a Rust
# toolchain. Installs what the tests need and is not there. A missing package is a failure; a
# missing privilege is skipped, with its reason, and all skips are summed up at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

# ------------------------------------------------------------------ packages

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "not root and no sudo: cannot run: $*" >&2
        return 1
    fi
}

# A C compiler and make build the allocator; the rest is the reference, its tools, and the tracer.
missing=()
while read -r program package; do
    command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || missing+=("$package")
done <<'END'
cc gcc
make make
ld binutils
redis-server redis-server
redis-cli redis-tools
redis-benchmark redis-tools
script bsdutils
redis-check-aof redis-tools
strace strace
mkfs.ext4 e2fsprogs
mkfs.xfs xfsprogs
losetup mount
prometheus-redis-exporter prometheus-redis-exporter
python3 python3
node nodejs
npm npm
END
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

# The packages of redis-server and of the exporter start a service of their own. The tests start
# theirs; that one is stopped, if it was not there before.
stop_service() {
    if [ -d /run/systemd/system ]; then
        as_root systemctl disable --quiet --now "$1"
    elif [ -e "/etc/init.d/$1" ]; then
        as_root service "$1" stop
    fi
}

if [ ${#missing[@]} -gt 0 ]; then
    echo "installing: ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    for service in redis-server prometheus-redis-exporter; do
        case " ${missing[*]} " in
        *" $service "*) stop_service "$service" || echo "could not stop the packaged $service" >&2 ;;
        esac
    done
fi

# The client libraries come from their registries, into the target directory.
tests/libraries/install.sh

# ------------------------------------------------------------------ checks

skips=$(mktemp)
trap 'rm -f "$skips"' EXIT
export SERVER_ASYNC_SKIPS_FILE="$skips"
export SERVER_ASYNC_REQUIRE_REFERENCE=1
# Properties are tried with the same cases each time.
export PROPTEST_RNG_SEED="${PROPTEST_RNG_SEED:-1}"

step() {
    echo "=== $*"
    "$@"
}

failed=0
step cargo fmt --check || failed=1
step cargo clippy --all-targets --quiet -- -D warnings || failed=1
step cargo test --no-fail-fast || failed=1

echo "=== skipped: $(wc -l <"$skips")"
cat "$skips"
if [ "$failed" != 0 ]; then
    echo "=== FAILED"
    exit 1
fi
echo "=== passed"
