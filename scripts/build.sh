#!/bin/bash
# Builds the release binary and leaves ./server_async, a link to it, at the root of the project.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --bin server_async
ln -sfn "${CARGO_TARGET_DIR:-target}/release/server_async" server_async
./server_async --version
