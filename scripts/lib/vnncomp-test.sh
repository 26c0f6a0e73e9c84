# shellcheck shell=bash
# The self-test of get-vnncomp.sh: repositories made up in a temporary folder, with folders named as the real ones name
# them. With WAVEHULL_SHARED set, the nine real benchmarks are taken apart and laid out again, too.
# Sourced by get-vnncomp.sh --self-test.

# expect WHAT WANTED FOUND
expect() {
    if [[ $2 == "$3" ]]; then return; fi
    say "self-test: $1: expected '$2', found '$3'"
    exit 1
}

# commit_all FOLDER: makes FOLDER a repository with one commit; prints its abbreviated hash.
commit_all() {
    local git=(git -C "$1" -c user.name=test -c user.email=test@example.org -c commit.gpgsign=false)
    git init --quiet "$1"
    "${git[@]}" add -A
    "${git[@]}" commit --quiet -m 'made up'
    "${git[@]}" rev-parse --short=7 HEAD
}

# made_up WORK: tables and two repositories, one plain with folders of other names, one gzipped.
made_up() {
    local old=$1/old/benchmarks/eran new=$1/new/benchmarks/mnist_fc
    mkdir -p "$1/tables" "$old/nets" "$old/specs/mnist" "$new/onnx" "$new/vnnlib"
    printf 'network one' >"$old/nets/one.onnx"
    printf 'property one' >"$old/specs/mnist/one.vnnlib"
    # The same name a folder up is another file.
    printf 'another property' >"$old/one.vnnlib"
    printf 'network two' | gzip -n >"$new/onnx/two.onnx.gz"
    printf 'property two' | gzip -n >"$new/vnnlib/two.vnnlib.gz"
    printf 'onnx,vnnlib,timeout_s,verdict\nonnx/one.onnx.gz,vnnlib/mnist/one.vnnlib.gz,60,unsat\n' >"$1/tables/eran.csv"
    printf 'onnx,vnnlib,timeout_s,verdict\nonnx/two.onnx.gz,vnnlib/two.vnnlib.gz,60,sat\n' >"$1/tables/mnist_fc.csv"
    {
        printf '%s  eran/onnx/one.onnx\n' "$(printf 'network one' | digest_of)"
        printf '%s  eran/vnnlib/mnist/one.vnnlib\n' "$(printf 'property one' | digest_of)"
        printf '%s  mnist_fc/onnx/two.onnx\n' "$(printf 'network two' | digest_of)"
        printf '%s  mnist_fc/vnnlib/two.vnnlib\n' "$(printf 'property two' | digest_of)"
    } >"$1/tables/SHA256SUMS"
}

again() {
    problems=()
    laid_out=0
    lay_out "$@"
}

test_made_up() {
    local work=$1 commit
    made_up "$work"
    commit=$(commit_all "$work/old")
    # A later commit must not be what is checked out.
    printf 'changed later' >"$work/old/benchmarks/eran/nets/one.onnx"
    commit_all "$work/old" >/dev/null
    fetch_clone "file://$work/old" "$commit" "$work/clones/2021"
    fetch_clone "file://$work/new" "$(commit_all "$work/new")" "$work/clones/2022"
    again "$work/tables" "$work/clones" "$work/out"
    expect "files laid out" "4 0" "$laid_out ${#problems[@]}"
    expect "the network of the pinned commit" "network one" "$(gzip -dc "$work/out/eran/onnx/one.onnx.gz")"
    expect "the property by its whole path" "property one" "$(gzip -dc "$work/out/eran/vnnlib/mnist/one.vnnlib.gz")"
    expect "the table" "$(cat "$work/tables/eran.csv")" "$(cat "$work/out/eran/instances.csv")"
    if (fetch_clone "file://$work/old" 0123456 "$work/clones/2021") 2>/dev/null; then
        expect "a commit that does not exist" "an error" "success"
    fi
    # What is right stays, what is damaged is made again, what is gone or changed is named.
    printf 'damaged' >"$work/out/eran/onnx/one.onnx.gz"
    rm "$work/out/mnist_fc/vnnlib/two.vnnlib.gz" "$work/clones/2022/benchmarks/mnist_fc/vnnlib/two.vnnlib.gz"
    printf 'changed' | gzip -n >"$work/clones/2022/benchmarks/mnist_fc/onnx/two.onnx.gz"
    printf 'changed' | gzip -n >"$work/out/mnist_fc/onnx/two.onnx.gz"
    again "$work/tables" "$work/clones" "$work/out"
    expect "files laid out again" 2 "$laid_out"
    expect "the damaged network" "network one" "$(gzip -dc "$work/out/eran/onnx/one.onnx.gz")"
    expect "what is named" "mnist_fc/onnx/two.onnx.gz: the repository's file differs mnist_fc/vnnlib/two.vnnlib.gz: not in the repository" \
        "${problems[*]}"
    if report "$work/out" 2>/dev/null; then expect "the report" "a failure" "success"; fi
}

# The real benchmarks as repositories: those of 2021 unpacked, in folders of other names.
test_real() {
    local work=$1 real=$WAVEHULL_SHARED/vnncomp table name file to
    for table in "$ROOT"/data/vnncomp/*.csv; do
        name=$(basename "$table" .csv)
        to=$work/real/$(year_of "$name")/benchmarks/$name
        tr -d '\r' <"$real/$name/instances.csv" | cmp -s "$table" - || expect "the table of $name" "that of WAVEHULL_SHARED" "another"
        mkdir -p "$to"
        if [[ $(year_of "$name") == 2022 ]]; then
            cp -r "$real/$name/onnx" "$real/$name/vnnlib" "$to"
            continue
        fi
        cp -r "$real/$name/onnx" "$to/nets"
        cp -r "$real/$name/vnnlib" "$to/specs"
        find "$to" -name '*.gz' -exec gzip -d {} +
    done
    again "$ROOT/data/vnncomp" "$work/real" "$work/real/out"
    for file in ${problems[@]+"${problems[@]}"}; do say "$file"; done
    expect "real files missing" 0 "${#problems[@]}"
    expect "real files" "$(wc -l <"$ROOT/data/vnncomp/SHA256SUMS" | tr -d ' ')" "$laid_out"
}

self_test() {
    local work
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder of now
    trap "rm -rf '$work'" EXIT
    test_made_up "$work"
    if [[ -d ${WAVEHULL_SHARED:-}/vnncomp ]]; then
        test_real "$work"
        say "self-test: made-up clones passed, $laid_out real files passed"
    else
        say "self-test: made-up clones passed"
        say "skipped: real files: WAVEHULL_SHARED is not set"
    fi
}
