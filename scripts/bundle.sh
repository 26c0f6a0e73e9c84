#!/usr/bin/env bash
# Packs the release program and the test binaries into bundle/ for a Linux machine with a GPU and no Rust.
# There `bundle/run.sh [OUTPUT FOLDER]` runs doctor, the tests with a device required, and the benchmarks.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/device.sh
source "$ROOT/scripts/lib/device.sh"

[[ $# == 0 ]] || { say "usage: ./scripts/bundle.sh (no arguments)" && exit 2; }
cd "$ROOT"
require_rust

# slim FILE TARGET: copies without debug information, most of a binary's size.
slim() { strip --strip-debug -o "$2" "$1" 2>/dev/null || cp "$1" "$2"; }

cargo build --release --locked --bin wavehull >&2
messages=$(cargo test --release --locked --no-run --message-format=json)
rm -rf bundle
mkdir -p bundle/tests bundle/lib
slim "${CARGO_TARGET_DIR:-target}/release/wavehull" bundle/wavehull
while IFS= read -r binary; do
    # Cargo's names end in a hash of 16 digits. The program's own unit tests need no GPU and share the library's name.
    slim "$binary" "bundle/tests/$(basename "$binary" | sed -E 's/-[0-9a-f]{16}$//')"
done < <(grep '"test":true' <<<"$messages" | grep -v '"kind":\["bin"\]' | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
cp -r data bundle/ 2>/dev/null || true
cp -r benches/peers bundle/ 2>/dev/null || true
# Bare machines have a GPU driver but no Vulkan loader; it depends on the C library only.
if loader=$(find_library libvulkan.so.1); then cp -L "$loader" bundle/lib/; fi

cat >bundle/run.sh <<'RUN'
#!/usr/bin/env bash
# Runs doctor, tests and benchmarks; writes OUTPUT/{doctor,bench}.json, OUTPUT/run.log and OUTPUT/summary.txt as it goes.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
output=$(mkdir -p "${1:-$here/out}" && cd "${1:-$here/out}" && pwd) || exit 4
cd "$here" || exit 4
export WAVEHULL_REQUIRE_GPU=1 CARGO_MANIFEST_DIR=$here
known() { PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q "$1"; }
known 'libvulkan.so.1 ' || export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# Containers often bring NVIDIA's libraries without the manifest by which the Vulkan loader finds them.
if [[ -z ${VK_DRIVER_FILES:-} ]] && ! grep -qs nvidia /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json; then
    for library in libGLX_nvidia.so.0 libEGL_nvidia.so.0; do
        known "$library" || continue
        printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' \
            "$library" >"$output/nvidia_icd.json"
        export VK_DRIVER_FILES=$output/nvidia_icd.json
        break
    done
fi
failures=0
step() { # step NAME OUTPUT COMMAND...
    local name=$1 target=$2 began=$SECONDS rc=0
    shift 2
    echo "== $name" | tee -a "$output/run.log"
    timeout "${STEP_LIMIT:-300}" "$@" >"$target" 2>>"$output/run.log" || rc=$?
    [[ $rc == 0 ]] || failures=$((failures + 1))
    echo "$name: exit code $rc, $((SECONDS - began)) s" | tee -a "$output/summary.txt"
}
: >"$output/run.log"
: >"$output/summary.txt"
step doctor "$output/doctor.json" ./wavehull doctor --json
for binary in tests/*; do
    step "$binary" "$output/$(basename "$binary").txt" "./$binary" --show-output
    grep -E '^(test .*FAILED|test result|skipped:)' "$output/$(basename "$binary").txt" | tee -a "$output/summary.txt"
done
step bench "$output/bench.json" ./wavehull bench --json
echo "$failures steps failed" | tee -a "$output/summary.txt"
[[ $failures == 0 ]]
RUN
chmod +x bundle/run.sh
say "bundle/ is ready ($(du -sh bundle | cut -f1)): copy it to the machine and run bundle/run.sh"
