# shellcheck shell=bash
# Where the published instances come from, and how a clone becomes the layout that the program and the tests read.
# Sourced after common.sh by get-vnncomp.sh.

readonly YEARS="2021 2022"

# The public repositories, at the commits that data/vnncomp/ was made from. Hashes are abbreviated as they were recorded;
# git refuses an ambiguous one, and every file is compared with its own SHA-256 besides.
url_of() {
    case $1 in
        2021) echo https://github.com/stanleybak/vnncomp2021.git ;;
        2022) echo https://github.com/ChristopherBrix/vnncomp2022_benchmarks.git ;;
    esac
}
commit_of() {
    case $1 in
        2021) echo 90419aa ;;
        2022) echo 324ce34 ;;
    esac
}

# The competition whose repository has a benchmark, in benchmarks/NAME.
year_of() {
    case $1 in
        cifar10_resnet | eran | verivital) echo 2021 ;;
        *) echo 2022 ;;
    esac
}

problems=() # files that are missing or differ, in words
laid_out=0  # files that are right

# fetch_clone URL COMMIT TARGET: a checkout of COMMIT in TARGET, which may be there already.
fetch_clone() {
    local url=$1 commit=$2 target=$3 full
    if [[ ! -d $target/.git ]]; then
        say "cloning $url"
        mkdir -p "$(dirname "$target")"
        rm -rf "$target.part"
        # Contents are fetched at checkout, and of the benchmarks alone, where the server can do that.
        git clone --quiet --filter=blob:none --no-checkout "$url" "$target.part" ||
            stop_setup "$url cannot be cloned" "is the internet there? a clone made elsewhere can be put to $target"
        mv "$target.part" "$target"
    fi
    full=$(git -C "$target" rev-parse --verify --quiet "$commit^{commit}") ||
        stop_setup "$target has no commit $commit" "remove $target, or fetch the repository's whole history there"
    git -C "$target" checkout --quiet --force --detach "$full" -- 2>/dev/null || git -C "$target" checkout --quiet --force "$full" ||
        stop_setup "commit $full cannot be checked out in $target" "git's message stands above"
    say "$(basename "$url" .git) is at $full"
}

digest_of() { if have sha256sum; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1; }

# unpacked FILE: its contents, without gzip.
unpacked() { case $1 in *.gz) gzip -dc "$1" ;; *) cat "$1" ;; esac; }

# lay_out TABLES CLONES TARGET: every benchmark that TABLES has a CSV of.
lay_out() {
    local tables=$1 clones=$2 target=$3 table name
    for table in "$tables"/*.csv; do
        name=$(basename "$table" .csv)
        mkdir -p "$target/$name"
        while IFS= read -r file; do
            place "$tables/SHA256SUMS" "$clones/$(year_of "$name")/benchmarks/$name" "$target" "$name/$file"
        done < <(files_of "$table")
        cp "$table" "$target/$name/instances.csv"
    done
}

# files_of TABLE: the networks and properties that a table names, each once. Paths in the tables have no commas or quotes.
files_of() { tail -n +2 "$1" | tr -d '\r' | cut -d , -f 1,2 | tr ',' '\n' | LC_ALL=C sort -u; }

# place SUMS FROM TARGET PATH: puts TARGET/PATH there, PATH being BENCHMARK/{onnx,vnnlib}/NAME.gz. Repositories keep their
# files in folders of other names, and plain in 2021, so the file is found by the rest of its path and told by its digest.
place() {
    local sums=$1 from=$2 target=$3 path=$4 wanted inner candidate found=
    wanted=$(awk -v path="${path%.gz}" '$2 == path { print $1 }' "$sums")
    [[ -n $wanted ]] || { problems+=("$path: no SHA-256 is known of it") && return; }
    if [[ -e $target/$path && $(unpacked "$target/$path" 2>/dev/null | digest_of) == "$wanted" ]]; then
        laid_out=$((laid_out + 1))
        return
    fi
    inner=${path#*/*/}
    inner=${inner%.gz}
    while IFS= read -r candidate; do
        found=1
        [[ $(unpacked "$candidate" 2>/dev/null | digest_of) == "$wanted" ]] || continue
        mkdir -p "$(dirname "$target/$path")"
        # -n: no name and no time in the header, so that two runs make the same file.
        unpacked "$candidate" | gzip -9n >"$target/$path.part" && mv "$target/$path.part" "$target/$path"
        laid_out=$((laid_out + 1))
        return
    done < <(find "$from" -type f \( -path "*/$inner" -o -path "*/$inner.gz" \) 2>/dev/null | LC_ALL=C sort)
    if [[ -n $found ]]; then problems+=("$path: the repository's file differs"); else problems+=("$path: not in the repository"); fi
}

# report TARGET: what is there and what is not; fails if anything is missing.
report() {
    local line
    for line in ${problems[@]+"${problems[@]}"}; do say "missing: $line"; done
    say "$laid_out files are in $1, ${#problems[@]} missing"
    [[ ${#problems[@]} == 0 ]] && return
    say "help: instances that name a missing file end as errors; all others work"
    return 1
}
