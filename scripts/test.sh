#!/usr/bin/env bash
# Every check of this project, on a fresh Linux machine that has Rust: what passes here passes in CI, which runs this.
#
#   ./scripts/test.sh [--yes] [--software] [--no-device]
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/device.sh
source "$ROOT/scripts/lib/device.sh"

usage() {
    cat <<'TEXT'
usage: ./scripts/test.sh [--yes] [--software] [--no-device]

Finds or fetches a Vulkan device as ./scripts/demo.sh does, then checks format, lints, features and scripts and runs all
tests on that device. WAVEHULL_SHARED=FOLDER names the folder of the larger test data; without it those tests are
skipped and named at the end.

  --yes         agree to installing packages (so does CI=true)
  --software    use a software device even where a GPU driver is found
  --no-device   need no device: where there is none, the tests that want one are skipped and named
  -h, --help    this text

exit codes: 0 all passed; 1 a check failed; 2 wrong usage; 4 the machine lacks something, a message names it
TEXT
}

need_device=1
for argument in "$@"; do
    case $argument in
        --yes) ASSUME_YES=1 ;;
        --software) export WANT_SOFTWARE=1 ;;
        --no-device) need_device= ;;
        -h | --help) usage && exit 0 ;;
        *) say "unknown option '$argument'" && usage >&2 && exit 2 ;;
    esac
done

failed=()
skipped=()
passed=0

# step NAME COMMAND...: runs one check and goes on after a failure, so that one run shows all that is wrong.
step() {
    local name=$1 began=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        passed=$((passed + 1))
        printf '== %s: passed in %d s\n' "$name" $((SECONDS - began))
    else
        failed+=("$name")
        printf '== %s: FAILED\n' "$name"
    fi
}

# skip NAME REASON: a check that cannot run here; it is named at the end.
skip() { skipped+=("$1: $2"); }

# component_step NAME SUBCOMMAND COMMAND...: a missing rustup component is a skip at home and a failure in CI.
component_step() {
    local name=$1 component=$2
    shift 2
    if cargo "$component" --version >/dev/null 2>&1; then
        step "$name" "$@"
    elif in_ci; then
        printf '\n== %s: FAILED: cargo %s is not installed\n' "$name" "$component"
        failed+=("$name (cargo $component is not installed)")
    else
        skip "$name" "cargo $component is not installed (rustup component add ${component/fmt/rustfmt})"
    fi
}

check_shell_scripts() {
    local file status=0
    for file in scripts/*.sh scripts/lib/*.sh .ci/run; do
        [[ ! -e $file ]] || bash -n "$file" || status=1
    done
    if have shellcheck; then shellcheck --severity=warning --external-sources scripts/*.sh .ci/run || status=1; fi
    return "$status"
}

check_python_scripts() {
    # Parsing only: needs no package and leaves no folder behind.
    python3 - scripts/*.py <<'PYTHON'
import sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        compile(file.read(), path, "exec")
PYTHON
}

has_wasm_target() { [[ -d $(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown/lib ]]; }

test_log=${CARGO_TARGET_DIR:-target}/test.log

# --show-output: a test that skips says so on its own output, which the harness hides unless asked.
run_tests() {
    mkdir -p "$(dirname "$test_log")"
    cargo test --release --locked --no-run &&
        with_device cargo test --release --locked --no-fail-fast -- --show-output 2>&1 | tee "$test_log"
}

# Skips that tests print themselves, as `skipped: REASON`.
collect_test_skips() {
    local line
    [[ -e $test_log ]] || return 0
    while IFS= read -r line; do
        skipped+=("${line#skipped: }")
    done < <(grep '^skipped: ' "$test_log" | sort -u)
}

cd "$ROOT"
require_rust
if [[ -n $need_device ]]; then
    prepare_device
    say "device: $DEVICE_NAME"
    export WAVEHULL_REQUIRE_GPU=1 # from here on a missing device is a failure
else
    DEVICE_ENV=(-u WAVEHULL_REQUIRE_GPU)
    skip "tests on a device" "--no-device"
fi
rm -f "$test_log"

component_step "format" fmt cargo fmt --all --check
step "shell scripts" check_shell_scripts
if have python3; then step "Python scripts" check_python_scripts; else skip "Python scripts" "python3 is not installed"; fi
# Release throughout: one profile, so that each dependency is built once.
component_step "lints" clippy cargo clippy --release --locked --all-targets -- -D warnings
step "library without features" cargo check --release --locked --no-default-features
step "library with verify and onnx" cargo check --release --locked --no-default-features --features verify,config
step "library with train" cargo check --release --locked --no-default-features --features train
step "library with pack" cargo check --release --locked --no-default-features --features fixed-lane
step "library with hash" cargo check --release --locked --no-default-features --features hash
if has_wasm_target; then
    step "library for wasm32" cargo check --release --locked --lib --target wasm32-unknown-unknown \
        --no-default-features --features verify,config,pack,hash
else
    skip "library for wasm32" "target not installed (rustup target add wasm32-unknown-unknown)"
fi
step "tests and doc tests" run_tests
collect_test_skips

printf '\n'
for line in ${skipped[@]+"${skipped[@]}"}; do printf 'skipped: %s\n' "$line"; done
for line in ${failed[@]+"${failed[@]}"}; do printf 'failed: %s\n' "$line"; done
printf 'wavehull: %d checks passed, %d failed, %d skipped, in %d s (device: %s)\n' \
    "$passed" "${#failed[@]}" "${#skipped[@]}" "$SECONDS" "${DEVICE_NAME:-none}"
[[ ${#failed[@]} == 0 ]]
