#!/usr/bin/env bash
# Fetches the published verification instances that data/vnncomp/ has the verdicts of, and lays them out as
# `wavehull verify --instances` and the tests (WAVEHULL_SHARED) want them. See usage below.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/vnncomp.sh
source "$ROOT/scripts/lib/vnncomp.sh"

usage() {
    cat <<'TEXT'
usage: ./scripts/get-vnncomp.sh [--clones FOLDER] FOLDER
       ./scripts/get-vnncomp.sh --self-test

Clones two public repositories of VNN-COMP at pinned commits (about 1 GB with their history; needs git and the internet) and
makes FOLDER/vnncomp/BENCHMARK/{instances.csv,onnx/,vnnlib/} for the nine benchmarks of data/vnncomp/, 23 MB. Every file is
compared with the SHA-256 in data/vnncomp/SHA256SUMS. What is there already is kept, so a broken-off run goes on where it was.

Then: export WAVEHULL_SHARED=FOLDER, or wavehull verify --instances FOLDER/vnncomp/mnist_fc/instances.csv

  --clones FOLDER  use or make the clones here, and keep them (default: FOLDER/.clones, removed at the end)
  --self-test      test this script on clones that it makes up; no internet
  -h, --help       this text

exit codes: 0 all files are there; 1 some are missing or differ, each is named; 2 wrong usage; 4 the machine lacks something
TEXT
}

self_test=
clones=
folder=
while [[ $# -gt 0 ]]; do
    case $1 in
        --self-test) self_test=1 ;;
        --clones)
            [[ $# -ge 2 ]] || { say "--clones needs a folder" && exit 2; }
            clones=$2
            shift
            ;;
        -h | --help) usage && exit 0 ;;
        -*) say "unknown option '$1'" && usage >&2 && exit 2 ;;
        *)
            [[ -z $folder ]] || { say "one folder, not '$folder' and '$1'" && exit 2; }
            folder=$1
            ;;
    esac
    shift
done

for tool in git gzip; do
    have "$tool" || stop_setup "$tool was not found" "install it and run this again"
done
have sha256sum || have shasum || stop_setup "neither sha256sum nor shasum was found" "install coreutils and run this again"

if [[ -n $self_test ]]; then
    # shellcheck source=scripts/lib/vnncomp-test.sh
    source "$ROOT/scripts/lib/vnncomp-test.sh"
    self_test
    exit
fi

[[ -n $folder ]] || { say "which folder?" && usage >&2 && exit 2; }
mkdir -p "$folder" || stop_setup "cannot write to $folder" "name a folder that you may write to"
folder=$(cd "$folder" && pwd)
keep=$clones
clones=${clones:-$folder/.clones}

for year in $YEARS; do fetch_clone "$(url_of "$year")" "$(commit_of "$year")" "$clones/$year"; done
lay_out "$ROOT/data/vnncomp" "$clones" "$folder/vnncomp"
[[ -n $keep ]] || rm -rf "$clones"
report "$folder/vnncomp"
