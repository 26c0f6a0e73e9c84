# shellcheck shell=bash
# Finds out whether this machine has a Vulkan adapter, and where it has none sets up a software one.
# Sourced after common.sh. The way in is `prepare_device`; afterwards `with_device COMMAND...` runs a command with the
# device in its environment, and DEVICE_NAME says which device that is.
#
# No tool such as vulkaninfo is needed: an adapter is a loader (libvulkan.so.1) and a driver manifest (ICD JSON) whose
# library exists and, for a GPU driver, a device node. The folders are those of the Vulkan loader's documentation
# ("Driver discovery on Linux").

VULKAN_DIR=$ROOT/.vulkan
DEVICE_NAME=
DEVICE_ENV=()
FETCH_ERROR=

# with_device COMMAND...: LD_LIBRARY_PATH and VK_DRIVER_FILES are set for this command only, so that the compiler never
# sees the fetched libraries.
with_device() { env "${DEVICE_ENV[@]}" "$@"; }

# prepare_device: returns 0 with a device ready, or stops the script with exit code 4.
prepare_device() {
    local cache=${CARGO_TARGET_DIR:-$ROOT/target}/mesa-shader-cache
    DEVICE_ENV=("NODEVICE_SELECT=1" "MESA_SHADER_CACHE_DIR=${MESA_SHADER_CACHE_DIR:-$cache}")
    case $(uname -s) in
        Darwin) DEVICE_NAME="Metal, part of macOS" && return ;;
        MINGW* | MSYS* | CYGWIN*) DEVICE_NAME="DX12, part of Windows" && return ;;
    esac
    mkdir -p "${MESA_SHADER_CACHE_DIR:-$cache}"
    if [[ -z ${WANT_SOFTWARE:-} ]] && find_system_device; then return; fi
    if use_fetched_device; then return; fi
    [[ -n ${WANT_SOFTWARE:-} ]] || say "no Vulkan adapter found on this machine"
    [[ -z ${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}} ]] ||
        say "note: VK_DRIVER_FILES or VK_ICD_FILENAMES is set, and only the drivers that it names were looked at"
    if fetch_device && use_fetched_device; then return; fi
    [[ -z $FETCH_ERROR ]] || say "$FETCH_ERROR"
    install_device
}

# --- looking ---------------------------------------------------------------------------------------------------------

# Folders in which the dynamic linker would look, one a line; ldconfig's cache is asked apart (musl has none).
library_folders() {
    local machine
    machine=$(uname -m)
    printf '%s' "${LD_LIBRARY_PATH:-}" | tr ':' '\n'
    printf '\n%s\n' "/usr/lib/$machine-linux-gnu" "/lib/$machine-linux-gnu" /usr/lib64 /lib64 /usr/lib /lib /usr/local/lib \
        /usr/local/lib64 /usr/lib/wsl/lib /run/opengl-driver/lib
}

# find_library NAME: prints where the dynamic linker finds it; fails if nowhere.
find_library() {
    local name=$1 folder path abi='.'
    [[ $(uname -m) != x86_64 ]] || abi='x86-64' # the cache lists 32-bit libraries too
    while IFS= read -r folder; do
        if [[ -n $folder && -e $folder/$name ]]; then
            printf '%s\n' "$folder/$name"
            return
        fi
    done < <(library_folders)
    while IFS= read -r path; do
        if [[ -e $path ]]; then
            printf '%s\n' "$path"
            return
        fi
    done < <(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null |
        awk -v name="$name" -v abi="$abi" '$1 == name && $0 ~ abi { print $NF }')
    return 1
}

# Driver manifests that the loader would read, one a line. VK_DRIVER_FILES replaces the search; entries may be folders.
manifests() {
    local named=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}} base
    {
        if [[ -n $named ]]; then
            printf '%s\n' "$named" | tr ':' '\n'
        else
            printf '%s\n' "${VK_ADD_DRIVER_FILES:-}" | tr ':' '\n'
            {
                printf '%s\n' "${XDG_CONFIG_HOME:-${HOME:-/root}/.config}" "${XDG_CONFIG_DIRS:-/etc/xdg}" /etc /usr/local/etc \
                    "${XDG_DATA_HOME:-${HOME:-/root}/.local/share}" "${XDG_DATA_DIRS:-/usr/local/share:/usr/share}" \
                    /usr/local/share /usr/share /run/opengl-driver/share
            } | tr ':' '\n' | sed 's|/*$|/vulkan/icd.d|'
        fi
    } | while IFS= read -r base; do
        if [[ -d $base ]]; then
            find -L "$base" -maxdepth 1 -name '*.json' 2>/dev/null
        elif [[ -f $base ]]; then
            printf '%s\n' "$base"
        fi
    done
}

# manifest_library FILE: prints the driver library that FILE names, if it exists.
manifest_library() {
    local file=$1 library
    library=$(tr -d '\n\r' <"$file" 2>/dev/null |
        sed -n 's/.*"library_path"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p')
    case $library in
        '') return 1 ;;
        /*) ;;
        */*) library=$(dirname "$file")/$library ;;
        *) library=$(find_library "$library") || return 1 ;;
    esac
    [[ -e $library ]] && printf '%s\n' "$library"
}

# A GPU driver without a GPU is no adapter: distributions install all of Mesa's drivers together, and images carry NVIDIA's.
has_gpu_node() {
    local node
    for node in /dev/dri/renderD* /dev/nvidia[0-9]* /dev/dxg /dev/kgsl-3d0 /dev/mali0; do
        [[ ! -e $node ]] || return 0
    done
    return 1
}

find_system_device() {
    local loader file library software=
    loader=$(find_library libvulkan.so.1) || return 1
    while IFS= read -r file; do
        # 32-bit drivers stand beside the 64-bit ones under their own names.
        [[ $(uname -m) != x86_64 || $file != *i[36]86* ]] || continue
        library=$(manifest_library "$file") || continue
        if [[ $library == *lvp* || $library == *swiftshader* ]]; then
            software=$file
        elif has_gpu_node; then
            DEVICE_NAME="the system's Vulkan driver ($(basename "$file"), $loader)"
            return 0
        fi
    done < <(manifests)
    [[ -n $software ]] || return 1
    DEVICE_NAME="the system's software Vulkan device ($(basename "$software"), $loader)"
}

# --- the fetched device ----------------------------------------------------------------------------------------------

# fetched_folders: every folder below .vulkan/device that holds shared libraries, joined by colons.
fetched_folders() {
    find "$1" -name 'lib*.so*' -exec dirname {} \; 2>/dev/null | sort -u | paste -sd: -
}

# fetched_driver FOLDER: prints the driver's path when FOLDER holds one whose libraries all resolve on this machine
# (a checkout may have moved between distributions).
fetched_driver() {
    local driver folders
    driver=$(find "$1" -name libvulkan_lvp.so 2>/dev/null | head -n 1)
    [[ -n $driver ]] || return 1
    folders=$(fetched_folders "$1")
    if have ldd && LD_LIBRARY_PATH=$folders ldd "$driver" 2>&1 | grep -q 'not found'; then return 1; fi
    printf '%s\n' "$driver"
}

# Writes the manifest with the absolute path of today and puts the device into DEVICE_ENV; fails where none was fetched.
use_fetched_device() {
    local driver folders manifest=$VULKAN_DIR/lvp_icd.json
    driver=$(fetched_driver "$VULKAN_DIR/device") || return 1
    folders=$(fetched_folders "$VULKAN_DIR/device")
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' \
        "$(printf '%s' "$driver" | sed 's/[\\"]/\\&/g')" >"$manifest"
    # Loaders before 1.3.207 know only the older name.
    DEVICE_ENV+=("VK_DRIVER_FILES=$manifest" "VK_ICD_FILENAMES=$manifest"
        "LD_LIBRARY_PATH=$folders${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
    write_environment "$manifest" "$folders"
    DEVICE_NAME="the software Vulkan device in .vulkan/ (for your own commands: source .vulkan/env.sh)"
}

write_environment() {
    {
        printf '# Written by scripts/lib/device.sh: the software Vulkan device of this checkout, for your own commands.\n'
        printf 'export VK_DRIVER_FILES=%q\nexport VK_ICD_FILENAMES=%q\n' "$1" "$1"
        # shellcheck disable=SC2016 # expanded where the file is sourced
        printf 'export LD_LIBRARY_PATH=%q${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\n' "$2"
    } >"$VULKAN_DIR/env.sh"
}

# fetch_device: downloads and unpacks the distribution's packages below .vulkan/, without root. Fails with the reason in
# FETCH_ERROR where that is not possible.
fetch_device() {
    local manager work driver status=0
    manager=$(package_manager) || manager=none
    case $manager in
        apt | dnf) ;;
        *) return 1 ;; # no way without root that the package manager supports
    esac
    if ! mkdir -p "$VULKAN_DIR" || ! work=$(mktemp -d "$VULKAN_DIR/fetch.XXXXXX"); then
        FETCH_ERROR="cannot write to $VULKAN_DIR"
        return 1
    fi
    mkdir "$work/packages" "$work/device"
    # A broken-off download leaves nothing behind.
    # shellcheck disable=SC2064 # the folder of now
    trap "rm -rf '${work//\'/\'\\\'\'}'" EXIT
    say "fetching the distribution's software Vulkan device (Mesa lavapipe, 40 to 80 MB) into .vulkan/, without root"
    "fetch_$manager" "$work" >"$VULKAN_DIR/fetch.log" 2>&1 || status=1
    if [[ $status != 0 ]]; then
        FETCH_ERROR="the download failed: $(fetch_reason); log: .vulkan/fetch.log"
    elif ! driver=$(fetched_driver "$work/device"); then
        status=1
        FETCH_ERROR="the fetched driver does not fit this system's libraries; log: .vulkan/fetch.log"
    else
        say "unpacked $(basename "$driver") and its libraries ($(du -sh "$work/device" | cut -f1)); the system is unchanged"
        # Where another run was faster its copy stays: it may be in use.
        fetched_driver "$VULKAN_DIR/device" >/dev/null || rm -rf "$VULKAN_DIR/device"
        mv -T "$work/device" "$VULKAN_DIR/device" || true
    fi
    rm -rf "$work"
    trap - EXIT
    return "$status"
}

fetch_reason() {
    local line log=$VULKAN_DIR/fetch.log
    # A missing network shows first as a name that does not resolve, later as packages that are not found.
    line=$(grep -m 1 -iE 'could not resolve|could not connect|temporary failure|unreachable|timed out|no space left' "$log" ||
        grep -m 1 -E '^ *(E:|Error|error|Err:)' "$log" || tail -n 1 "$log")
    printf '%s' "${line:-unknown reason}" | sed 's/^ *//'
}

# --- apt -------------------------------------------------------------------------------------------------------------

APT_OPTIONS=(-q -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20)

# The system's package lists first; a second try with lists of our own, for machines where they are missing or too old.
fetch_apt() {
    local work=$1
    # Root's downloads are handed to the user _apt, who may not enter the project's folder.
    [[ $(id -u) != 0 ]] || APT_OPTIONS+=(-o APT::Sandbox::User=root)
    if apt_download "$work"; then return; fi
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    APT_OPTIONS+=(-o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache")
    # One failing third-party source must not stop us; what counts is whether the packages are found afterwards.
    apt-get "${APT_OPTIONS[@]}" update || true
    apt_download "$work"
}

apt_download() {
    local work=$1 package
    local -a packages=()
    while IFS= read -r package; do packages+=("$package"); done < <(apt_packages)
    echo "packages: ${packages[*]}"
    (cd "$work/packages" && rm -f ./*.deb && apt-get "${APT_OPTIONS[@]}" download "${packages[@]}") || return 1
    for package in "$work"/packages/*.deb; do
        dpkg-deb -x "$package" "$work/device" || return 1
    done
}

# The driver, the loader and what they need that this system lacks. apt's own simulation knows that best; where it fails
# (a system with broken dependencies) the recursive dependencies less what is installed do. Only libraries are taken, and
# never the C library: a second one beside the system's cannot work.
apt_packages() {
    local plan
    {
        printf '%s\n' mesa-vulkan-drivers libvulkan1
        if plan=$(LC_ALL=C apt-get "${APT_OPTIONS[@]}" --simulate --no-install-recommends install \
            mesa-vulkan-drivers libvulkan1 2>/dev/null); then
            awk '$1 == "Inst" { print $2 }' <<<"$plan"
        else
            apt_missing_dependencies
        fi
    } | sort -u | grep -E '^(lib|mesa-vulkan)' | grep -vE '^(libc6|libc-bin|libc-l10n|libpython.*)$'
}

apt_missing_dependencies() {
    LC_ALL=C apt-cache "${APT_OPTIONS[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances mesa-vulkan-drivers libvulkan1 2>/dev/null | grep -E '^lib[^:]*$' | sort -u |
        grep -vxFf <(dpkg-query -W -f='${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')
}

# --- dnf -------------------------------------------------------------------------------------------------------------

fetch_dnf() {
    local work=$1 package
    # Root's own cache would change the system; a user's lives in a temporary folder anyway.
    dnf -y --setopt=cachedir="$work/cache" download --resolve --arch "$(uname -m),noarch" \
        --destdir "$work/packages" mesa-vulkan-drivers vulkan-loader </dev/null || return 1
    for package in "$work"/packages/*.rpm; do
        case $(basename "$package") in glibc-*) continue ;; esac
        unpack_rpm "$package" "$work/device" || return 1
    done
}

unpack_rpm() {
    if have rpm2cpio && have cpio; then
        rpm2cpio "$1" | (cd "$2" && cpio -idm --quiet)
    elif have bsdtar; then
        bsdtar -xf "$1" -C "$2"
    else
        echo "error: neither rpm2cpio with cpio nor bsdtar is there to unpack $(basename "$1")"
        return 1
    fi
}

# --- installing, the last resort -------------------------------------------------------------------------------------

# Prints the packages that hold the software device and the loader in this distribution.
device_packages() {
    case $(package_manager || true) in
        apt) echo "mesa-vulkan-drivers libvulkan1" ;;
        dnf) echo "mesa-vulkan-drivers vulkan-loader" ;;
        pacman) echo "vulkan-swrast vulkan-icd-loader" ;;
        apk) echo "mesa-vulkan-swrast vulkan-loader" ;;
        zypper) echo "libvulkan_lvp libvulkan1" ;;
        *) return 1 ;;
    esac
}

install_device() {
    local packages
    if ! packages=$(device_packages); then
        stop_setup "no package manager that these scripts know was found (apt, dnf, pacman, apk, zypper)" \
            "install a Vulkan loader (libvulkan.so.1) and Mesa's software driver (lavapipe), or your GPU's driver, and run this again"
    fi
    # shellcheck disable=SC2086 # the packages are words
    if ! install_packages $packages; then
        [[ -z $FETCH_ERROR ]] || INSTALL_HELP="check the network (the download above needs no root), or $INSTALL_HELP"
        stop_setup "no Vulkan adapter; $INSTALL_ERROR" "$INSTALL_HELP, or install your GPU's driver; then run this again"
    fi
    if ! find_system_device; then
        stop_setup "$packages are installed, but no Vulkan driver is found" \
            "run 'vulkaninfo --summary' (package vulkan-tools) to see what the Vulkan loader misses"
    fi
}
