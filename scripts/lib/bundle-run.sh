#!/usr/bin/env bash
# Runs what a bundle holds on this machine. Everything is written as it goes: whatever ends this script loses the running step.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
usage() {
    cat <<'TEXT'
usage: ./run.sh [--total SECONDS] [--cap SECONDS] [--instances FOLDER] [OUTPUT]

Runs doctor, the device tests, the benchmarks, the peers (where python3 has torch) and verification lists (where there are
instances), each with a time limit, and writes to OUTPUT (default: $OUT, or ./out beside this script):

  run.log       what was run when, and what it said on stderr
  summary.txt   a line a step; summary.json the same for programs, complete after every step
  NAME.json, NAME.txt   the output of each step

  --total SECONDS     stop beginning steps after this long, and name those that were skipped (default 570)
  --cap SECONDS       most time for one verification instance (default 5)
  --instances FOLDER  FOLDER/NAME/instances.csv (default: those in the bundle, if any)
  PYTHON=...          the Python with torch (default: python3)

exit codes: 0 no step failed (some may have been skipped); 1 a step failed or ran into its limit; 2 wrong usage; 4 OUTPUT cannot be written
TEXT
}

total=570
cap=5
instances=
output=${OUT:-$here/out}
while [[ $# -gt 0 ]]; do
    case $1 in
        --total | --cap | --instances)
            [[ $# -ge 2 ]] || { echo "run.sh: $1 needs a value" >&2 && exit 2; }
            printf -v "${1#--}" %s "$2"
            shift
            ;;
        -h | --help) usage && exit 0 ;;
        -*) echo "run.sh: unknown option '$1'" >&2 && usage >&2 && exit 2 ;;
        *) output=$1 ;;
    esac
    shift
done
[[ $total =~ ^[0-9]+$ && $cap =~ ^[0-9]+$ ]] || { echo "run.sh: --total and --cap are whole seconds" >&2 && exit 2; }
if [[ -n $instances ]]; then instances=$(cd "$instances" && pwd) || exit 2; fi
output=$(mkdir -p "$output" && cd "$output" && pwd) && : >"$output/run.log" && : >"$output/summary.txt" || exit 4
cd "$here" || exit 4
if compgen -G '*-tests.gz' >/dev/null; then gunzip ./*-tests.gz || exit 4; fi

# --- steps -----------------------------------------------------------------------------------------------------------

device=null # the device's name as JSON
failures=0
skipped=0
entries=()

log() { printf '%s %s\n' "$(date -u +%H:%M:%S)" "$*" | tee -a "$output/run.log"; }

# summary FINISHED: all of summary.json, written beside it and moved over it.
summary() {
    local entry comma=
    {
        printf '{"schema": 1, "device": %s, "total": %d, "seconds": %d, "finished": %s, "failures": %d, "steps": [' \
            "$device" "$total" "$SECONDS" "$1" "$failures"
        for entry in ${entries[@]+"${entries[@]}"}; do
            printf '%s\n  %s' "$comma" "$entry"
            comma=,
        done
        printf '\n]}\n'
    } >"$output/summary.json.part"
    mv "$output/summary.json.part" "$output/summary.json"
}

# record NAME STATE CODE SECONDS OUTPUT REASON; no argument holds a quote.
record() {
    [[ $2 != failed ]] || failures=$((failures + 1))
    entries+=("{\"name\": \"$1\", \"state\": \"$2\", \"exit_code\": $3, \"seconds\": $4, \"output\": $5, \"reason\": $6}")
    printf '%-28s %-8s %4d s%s\n' "$1" "$2" "$4" "$([[ $6 == null ]] || printf '  %s' "${6//\"/}")" >>"$output/summary.txt"
    log "== $1: $2, $4 s$([[ $6 == null ]] || printf ' (%s)' "${6//\"/}")"
    summary false
}

skip() {
    skipped=$((skipped + 1))
    record "$1" skipped null 0 null "\"$2\""
}

# step NAME LIMIT RESERVE FILE COMMAND...: runs a command with its stdout in OUTPUT/FILE, for LIMIT seconds at most and so that
# RESERVE seconds are left for later steps. At the limit the command is interrupted, which makes the program print what it
# knows, and ended ten seconds later. PARTIAL=1: running out of time is no failure.
step() {
    local name=$1 limit=$2 left=$((total - SECONDS - $3)) file=$4 began=$SECONDS code=0 state=passed reason=null
    shift 4
    [[ $left -ge $limit ]] || limit=$left
    if [[ $limit -lt 5 ]]; then
        skip "$name" "no time left"
        return
    fi
    log "-- $name: $limit s at most: $*"
    timeout --foreground -s INT -k 10 "$limit" "$@" >"$output/$file" 2>>"$output/run.log" </dev/null || code=$?
    if [[ $code != 0 ]]; then
        state=failed
        reason="\"exit code $code\""
        [[ $code != 124 && $code != 137 ]] || reason="\"its limit of $limit s ran out\""
        [[ $code != 124 || -z ${PARTIAL:-} ]] || state=partial
    fi
    # A filter that fits no test passes by itself.
    if [[ $file == tests-*.txt && $code == 0 ]] && ! grep -q '^test result: ok. [1-9]' "$output/$file"; then
        state=failed
        reason='"no test ran"'
    fi
    if [[ $file == *.json ]] && grep -q '"wrong": *[1-9]' "$output/$file"; then
        state=failed
        reason='"a verdict contradicts the published one"'
    fi
    record "$name" "$state" "$code" "$((SECONDS - began))" "\"$file\"" "$reason"
}

# --- the machine -----------------------------------------------------------------------------------------------------

known() { PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep -q "$1"; }

find_driver() {
    local library
    known 'libvulkan.so.1 ' || export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    # Containers often bring NVIDIA's libraries without the manifest by which the Vulkan loader finds them.
    [[ -z ${VK_DRIVER_FILES:-} ]] || return 0
    ! grep -qs nvidia /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json || return 0
    for library in libGLX_nvidia.so.0 libEGL_nvidia.so.0; do
        known "$library" || continue
        printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' \
            "$library" >"$output/nvidia_icd.json"
        # Loaders before 1.3.207 know only the older name.
        export VK_DRIVER_FILES=$output/nvidia_icd.json VK_ICD_FILENAMES=$output/nvidia_icd.json
        return
    done
}

# Instances stand in WAVEHULL_SHARED/vnncomp, where tests and benchmarks look for them too.
find_instances() {
    unset WAVEHULL_SHARED
    if [[ -n $instances ]]; then
        mkdir -p "$output/shared" && ln -sfn "$instances" "$output/shared/vnncomp"
        export WAVEHULL_SHARED=$output/shared
    elif [[ -d $here/shared/vnncomp ]]; then
        instances=$here/shared/vnncomp
        export WAVEHULL_SHARED=$here/shared
    fi
}

describe() {
    log "wavehull bundle on $(uname -srm), $(nproc) processors, $(date -u +%Y-%m-%d)"
    have_smi=$(command -v nvidia-smi) && "$have_smi" --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null |
        tee -a "$output/run.log"
    [[ -z $instances ]] || log "instances: $(find -L "$instances" -name instances.csv | wc -l) lists"
}

read_device() {
    local name
    # doctor prints the tested device before the list of all adapters.
    name=$(grep -o '"name": *"[^"]*"' "$output/doctor.json" 2>/dev/null | head -n 1 | cut -d '"' -f 4)
    [[ -n $name ]] || return 0
    device="\"$name\""
    printf 'device: %s\n' "$name" | tee -a "$output/summary.txt"
    if grep -q '"kind": *"software"' "$output/doctor.json" && ! grep -qE '"kind": *"(discrete|integrated|virtual)"' "$output/doctor.json"; then
        log "SOFTWARE DEVICE: the processor poses as a GPU. Its times are a processor's."
    fi
}

# --- what is run -----------------------------------------------------------------------------------------------------

tests() {
    local name
    while IFS= read -r name; do
        step "device tests: $name" 150 240 "tests-$name.txt" ./device-tests "$name::" --show-output
        grep -hE '^(test .*FAILED|test result|skipped:)' "$output/tests-$name.txt" 2>/dev/null | sed 's/^/    /' |
            tee -a "$output/summary.txt"
    done <tests/steps.txt
    step "library tests" 100 240 tests-library.txt ./library-tests --show-output
    grep -hE '^(test .*FAILED|test result)' "$output/tests-library.txt" 2>/dev/null | sed 's/^/    /' | tee -a "$output/summary.txt"
}

peers() {
    local python=${PYTHON:-python3} script name
    if ! timeout 60 "$python" -c 'import torch' >/dev/null 2>&1; then
        for script in benches/peers/*.py; do
            [[ $script == */torch_networks.py ]] || skip "peer: $(basename "$script" .py)" "$python with torch is not here"
        done
        return
    fi
    for script in benches/peers/*.py; do
        name=$(basename "$script" .py)
        # What the others import.
        [[ $name != torch_networks ]] || continue
        if [[ $name == arrays_torch ]]; then
            arrays "$python" "$script"
        elif [[ $name == xmc_torch ]]; then
            labels "$python" "$script"
        elif [[ $name == *_lirpa ]] && ! timeout 60 "$python" -c 'import auto_LiRPA' >/dev/null 2>&1; then
            skip "peer: $name" "auto_LiRPA is not installed"
        elif [[ $name == *_lirpa && -z $instances ]]; then
            skip "peer: $name" "no instances are here"
        elif [[ $name == mnist_fc_lirpa ]]; then
            step "peer: $name" 60 30 "peer-$name.txt" "$python" "$script"
        else
            step "peer: $name" 90 30 "peer-$name.txt" "$python" "$script" --json "$output/peer-$name.json"
        fi
    done
}

# Very many labels: the shipped set beside ours in one table, and, if torch sees a GPU, as many labels as Amazon-670K, for speed alone.
labels() {
    local python=$1 script=$2 mode batch
    step "peer: xmc_torch beside wavehull" 90 30 peer-xmc_torch.txt "$python" scripts/compare_hash.py --python "$python" \
        --ours uniform,neighbours --epochs 1 --json "$output/peer-xmc_torch.json"
    timeout 60 "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1 || return 0
    for batch in 256 1024; do
        for mode in "sampled f32" "full fp16"; do
            step "peer: xmc_torch, 670,091 labels, $mode, batch $batch" 40 10 "peer-xmc_torch-${mode% *}-$batch.txt" \
                "$python" "$script" --synthetic 670091 --mode "${mode% *}" --precision "${mode#* }" --batch "$batch" --limit-steps 100
        done
    done
}

# Arrays of each network, as `wavehull bench train` has them, on the GPU if torch sees one.
arrays() {
    local python=$1 script=$2 device=cpu members net
    ! timeout 60 "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1 || device=cuda
    local -a nets=(mlp_16_32_32_10:1 mlp_16_32_32_10:64 mlp_784_256_128_10:16 lenet:16)
    [[ $device == cpu ]] || nets+=(resnet18:4 resnet18:16 pointnet:4 pointnet:16 transformer:4 transformer:16)
    for net in "${nets[@]}"; do
        members=${net#*:} net=${net%:*}
        step "peer: arrays_torch $net x $members" 40 10 "peer-arrays-$net-$members.txt" \
            "$python" "$script" --net "$net" --members "$members" --device "$device" --runs 3
    done
}

# The time that is left is divided among the lists, so that one of them cannot take it from all others.
lists() {
    local list name left
    local -a files=("$instances"/*/instances.csv) options=()
    if [[ -z $instances || ! -e ${files[0]} ]]; then
        skip "verification lists" "no instances are here"
        return
    fi
    ! ./wavehull verify --help 2>/dev/null | grep -q -- '--cap ' || options=(--cap "$cap")
    left=${#files[@]}
    for list in "${files[@]}"; do
        name=$(basename "$(dirname "$list")")
        PARTIAL=1 step "list: $name" $(((total - SECONDS) / left)) 0 "list-$name.json" \
            ./wavehull verify --instances "$list" --json ${options[@]+"${options[@]}"}
        grep -oE '"(unsat|sat|unknown|timeout|error|wrong)": *[0-9]+' "$output/list-$name.json" 2>/dev/null | tr '\n' ' ' |
            sed 's/^/    /; s/ $/\n/; s/"//g' | tee -a "$output/summary.txt"
        left=$((left - 1))
    done
}

export WAVEHULL_REQUIRE_GPU=1 NODEVICE_SELECT=1
find_driver
find_instances
describe
step doctor 60 0 doctor.json ./wavehull doctor --json
read_device
tests
PARTIAL=1 step bench 180 60 bench.json ./wavehull bench --json
peers
lists
summary true
printf '%d steps: %d failed, %d skipped, %d s\n' "${#entries[@]}" "$failures" "$skipped" "$SECONDS" | tee -a "$output/summary.txt" "$output/run.log"
[[ $failures == 0 ]]
