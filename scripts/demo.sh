#!/usr/bin/env bash
# The demo on a fresh Linux machine that has Rust: finds or fetches a Vulkan device, builds, and runs `wavehull demo`.
#
#   ./scripts/demo.sh [--yes] [--software] [OPTIONS OF THE DEMO]
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/device.sh
source "$ROOT/scripts/lib/device.sh"

usage() {
    cat <<'TEXT'
usage: ./scripts/demo.sh [--yes] [--software] [OPTIONS OF THE DEMO]

Finds a Vulkan device, builds Wavehull (release) and runs its demo. Where the machine has no Vulkan device, the
distribution's software one is unpacked into .vulkan/ in this folder, without root; where that is not possible it is
installed through the package manager after you agree.

  --yes        agree to installing packages (so does CI=true)
  --software   use a software device even where a GPU driver is found
  -h, --help   this text

All else goes to the program; `cargo run --release -- demo --help` lists it.

exit codes: those of the program; 101 the build failed; 4 the machine lacks something, a message names it
TEXT
}

arguments=()
for argument in "$@"; do
    case $argument in
        --yes) ASSUME_YES=1 ;;
        --software) export WANT_SOFTWARE=1 ;;
        -h | --help) usage && exit 0 ;;
        *) arguments+=("$argument") ;;
    esac
done

cd "$ROOT"
require_rust
prepare_device
say "device: $DEVICE_NAME"

[[ -e ${CARGO_TARGET_DIR:-target}/release/wavehull ]] || say "building: the first time takes a few minutes"
began=$SECONDS
cargo build --release --locked --bin wavehull >&2
say "built in $((SECONDS - began)) s"
with_device cargo run --quiet --release --locked --bin wavehull -- demo ${arguments[@]+"${arguments[@]}"}
