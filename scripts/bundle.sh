#!/usr/bin/env bash
# Packs the release program, the device tests and the peers into one folder for a Linux machine with a GPU and nothing else:
# no Rust, no package to install, a Vulkan driver at most. There `bundle/run.sh OUTPUT` does all in under ten minutes.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/device.sh
source "$ROOT/scripts/lib/device.sh"

readonly MOST_MIB=50 # of a bundle without instances

usage() {
    cat <<'TEXT'
usage: ./scripts/bundle.sh [--instances FOLDER] [TARGET]

Makes the folder TARGET (default: bundle/ of this project), under 50 MiB: the program, the device tests as one binary, the
library's own tests, the peers of benches/peers, data, the Vulkan loader, and run.sh. Copy it to the machine and run
TARGET/run.sh OUTPUT there.

  --instances FOLDER  put verification instances in, laid out as scripts/get-vnncomp.sh does it (FOLDER/NAME/instances.csv)
  -h, --help          this text

exit codes: 0 the bundle is ready; 1 it is too large; 2 wrong usage; 4 the machine lacks something
TEXT
}

instances=
target=$ROOT/bundle
while [[ $# -gt 0 ]]; do
    case $1 in
        --instances)
            [[ $# -ge 2 ]] || { say "--instances needs a folder" && exit 2; }
            compgen -G "$2/*/instances.csv" >/dev/null || { say "no instances.csv in a folder of $2" && exit 2; }
            instances=$2
            shift
            ;;
        -h | --help) usage && exit 0 ;;
        -*) say "unknown option '$1'" && usage >&2 && exit 2 ;;
        *) target=$1 ;;
    esac
    shift
done
if [[ -e $target && ! -e $target/run.sh ]] && [[ -n $(ls -A "$target") ]]; then
    say "$target is there and is no bundle: name another folder"
    exit 2
fi

# device_tests: names of the integration tests that need a device and nothing of Cargo's, one a line.
device_tests() {
    local path name
    for path in "$ROOT"/tests/*; do
        name=$(basename "$path" .rs)
        [[ $name != common ]] && grep -rqs 'mod common;' "$path" || continue
        # Those that start the program want it where Cargo built it.
        grep -rqs CARGO_BIN_EXE "$path" || printf '%s\n' "$name"
    done
}

# one_test_binary COPY: makes the device tests modules of one test, COPY/tests/device.rs. Linked once they take an eighth of the
# space, and none of them may know the path of this project any more.
one_test_binary() {
    local copy=$1 name file
    : >"$copy/tests/device.rs"
    while IFS= read -r name; do
        if [[ -d $copy/tests/$name ]]; then file=$name/main.rs; else file=$name.rs; fi
        printf '#[path = "%s"]\nmod %s;\n' "$file" "$name" >>"$copy/tests/device.rs"
        find "$copy/tests/$name" "$copy/tests/$name.rs" -name '*.rs' -exec \
            sed -i -E "s/(^|[^\$[:alnum:]_])crate::/\1crate::$name::/g" {} + 2>/dev/null || true
    done
    while IFS= read -r file; do
        sed -i 's/env!("CARGO_MANIFEST_DIR")/"."/g' "$file"
    done < <(grep -rl --include='*.rs' 'env!("CARGO_MANIFEST_DIR")' "$copy/tests")
    # Cargo takes the library's objects from this project's own build, so the copy of src/ must stay as it is.
    if grep -rq --include='*.rs' 'env!("CARGO_MANIFEST_DIR")' "$copy/src"; then
        say "note: unit tests under src/ that read files of the project will not find them on another machine"
    fi
}

# executable TARGET-NAME: the path of a test binary in Cargo's messages on stdin.
executable() { grep '"profile":{[^}]*"test":true' | grep "\"name\":\"$1\"" | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | head -n 1; }

# slim FILE TARGET: copies without symbols and debug information, most of a binary's size; panics still name file and line.
slim() { strip --strip-all -o "$2" "$1" 2>/dev/null || cp "$1" "$2"; }

write_readme() {
    local libc
    libc=$(objdump -T "$target/wavehull" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1) || true
    cat >"$target/README.txt" <<TEXT
Wavehull $("$target/wavehull" --version | cut -d ' ' -f 2), for $(uname -s) on $(uname -m)${libc:+, needs ${libc/_/ } or newer}.

./run.sh OUTPUT runs everything in under ten minutes and writes JSON and logs to OUTPUT as it goes; ./run.sh --help says more.
TEXT
}

cd "$ROOT"
require_rust
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
mkdir -p "$CARGO_TARGET_DIR"
CARGO_TARGET_DIR=$(cd "$CARGO_TARGET_DIR" && pwd)
copy=$CARGO_TARGET_DIR/bundle-source
rm -rf "$copy"
mkdir "$copy"
# Times of files are kept, so that a second bundle compiles only what changed.
cp -a Cargo.toml Cargo.lock README.md src shaders tests benches examples data docs "$copy"
# Tests replay what the fuzz targets demand.
mkdir "$copy/fuzz"
cp -a fuzz/src "$copy/fuzz"
device_tests >"$copy/steps.txt"
one_test_binary "$copy" <"$copy/steps.txt"
rm -rf "$target"
mkdir -p "$target/lib" "$target/benches" "$target/scripts" "$target/tests"
(cd "$copy" && cargo build --release --locked --bin wavehull) >&2
# At once: the tests have it built again, with what only they need of naga.
slim "$CARGO_TARGET_DIR/release/wavehull" "$target/wavehull"
messages=$(cd "$copy" && cargo test --release --locked --no-run --lib --test device --message-format=json)
slim "$(executable device <<<"$messages")" "$target/device-tests"
slim "$(executable wavehull <<<"$messages")" "$target/library-tests"
# A third of the size; run.sh unpacks them.
gzip "$target/device-tests" "$target/library-tests"
cp "$copy/steps.txt" "$target/tests/steps.txt"
cp -r data "$target/"
cp -r tests/fixtures "$target/tests/"
mkdir "$target/examples" "$target/docs"
cp -r examples/machines "$target/examples/"
cp docs/machines.md "$target/docs/"
cp -r benches/peers "$target/benches/"
cp scripts/*.py "$target/scripts/"
cp scripts/lib/bundle-run.sh "$target/run.sh"
chmod +x "$target/run.sh"
find "$target" -name __pycache__ -prune -exec rm -rf {} +
# Bare machines have a GPU driver but no Vulkan loader; it depends on the C library only.
if loader=$(find_library libvulkan.so.1); then
    cp -L "$loader" "$target/lib/"
else
    say "note: no libvulkan.so.1 here, so the bundle has none: the machine must bring its own"
fi
write_readme

size=$(du -sm "$target" | cut -f 1)
if [[ $size -ge $MOST_MIB ]]; then
    say "the bundle has $size MiB, more than $MOST_MIB"
    say "help: look for what grew with: du -a $target | sort -n | tail"
    exit 1
fi
if [[ -n $instances ]]; then
    mkdir -p "$target/shared/vnncomp"
    cp -r "$instances"/. "$target/shared/vnncomp"
fi
say "$target is ready ($size MiB without instances): copy it to the machine and run its run.sh OUTPUT"
