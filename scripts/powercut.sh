#!/bin/bash
# Cuts the power of a real file system (ext4 and XFS images on loop devices) under a server that
# is written to, starts the server on what is left, and checks every acknowledged write against
# what its fsync policy promises. Prints a line a cut and a sum; ends with 1 if a promise was
# broken. Needs root and loop devices, mkfs.ext4 (e2fsprogs) and mkfs.xfs (xfsprogs).
#
#   scripts/powercut.sh [--cuts N] [--seed S] [--policy always|everysec|no] [--fs ext4|xfs]
#
# Without --policy and --fs they take turns; 200 cuts by default.
set -euo pipefail
cd "$(dirname "$0")/.."

export POWERCUT_CUTS=200
while [ $# -gt 0 ]; do
    case "$1" in
    --cuts) export POWERCUT_CUTS=${2:?--cuts takes a number} && shift 2 ;;
    --seed) export POWERCUT_SEED=${2:?--seed takes a number} && shift 2 ;;
    --policy) export POWERCUT_POLICY=${2:?--policy takes always, everysec or no} && shift 2 ;;
    --fs) export POWERCUT_FS=${2:?--fs takes ext4 or xfs} && shift 2 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
done

cargo build --release --quiet
cargo test --release --quiet --test powercut -- --nocapture
