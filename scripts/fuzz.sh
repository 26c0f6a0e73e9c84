#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/ one after another, with limits on time, memory and single inputs.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"

readonly TARGETS="onnx vnnlib proof tflite pack sparse"

usage() {
    cat <<'TEXT'
usage: ./scripts/fuzz.sh [--seconds N] [TARGET...]

Fuzzes the readers of ONNX, VNN-LIB, proof, TFLite, container and sparse files (targets onnx, vnnlib, proof, tflite, pack, sparse; default:
all), N seconds each (default 600).
An input that takes ten seconds or 2 GiB is a finding, as a panic is. Needs nightly Rust and cargo-fuzz; the inputs of
fuzz/corpus run in the ordinary tests, on stable Rust.

exit codes: 0 no finding; 1 a finding, its input is in fuzz/artifacts/; 2 wrong usage; 4 the machine lacks something
TEXT
}

seconds=600
targets=()
while [[ $# -gt 0 ]]; do
    case $1 in
        --seconds)
            [[ ${2:-} =~ ^[0-9]+$ ]] || { say "--seconds needs a number" && exit 2; }
            seconds=$2
            shift
            ;;
        -h | --help) usage && exit 0 ;;
        onnx | vnnlib | proof | tflite | pack | sparse) targets+=("$1") ;;
        *) say "unknown option or target '$1' (targets: $TARGETS)" && usage >&2 && exit 2 ;;
    esac
    shift
done
# shellcheck disable=SC2206 # the names are words
[[ ${#targets[@]} -gt 0 ]] || targets=($TARGETS)

require_rust
cargo +nightly --version >/dev/null 2>&1 || stop_setup "nightly Rust was not found: libFuzzer's instrumentation needs it" \
    "rustup toolchain install nightly --profile minimal"
cargo fuzz --version >/dev/null 2>&1 || stop_setup "cargo-fuzz was not found" "cargo install cargo-fuzz --locked"

cd "$ROOT"
status=0
for target in "${targets[@]}"; do
    say "fuzzing $target for $seconds s"
    # No input of a useful reader test is longer; without a limit libFuzzer follows the longest seed.
    cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=2048 \
        -dict="fuzz/dictionaries/$target.dict" -print_final_stats=1 || status=1
done
exit "$status"
