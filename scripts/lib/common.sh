# shellcheck shell=bash
# What demo.sh, test.sh and bundle.sh share: messages, the Rust check, and installing packages with consent.
# Sourced, never run. Needs ROOT (the project's folder). Everything said goes to stderr: stdout belongs to the program.
#
# Exit codes of the scripts: the program's own (demo.sh), 1 = a check failed, 2 = wrong usage,
# 4 = something that the machine lacks could not be set up; a message names it, and nothing else was changed.

readonly EXIT_SETUP=4
ASSUME_YES=${ASSUME_YES:-}

say() { printf 'wavehull: %s\n' "$*" >&2; }

# stop_setup REASON HELP: the one way out when the machine lacks something.
stop_setup() {
    say "$1"
    say "help: $2"
    exit "$EXIT_SETUP"
}

have() { command -v "$1" >/dev/null 2>&1; }

in_ci() { [[ ${CI:-} == true || ${CI:-} == 1 ]]; }

# Prints the name of the package manager that this script knows how to use; fails where there is none.
package_manager() {
    # apt may be installed on systems that it does not manage; there dpkg has no record.
    if have apt-get && have dpkg-query && [[ -s /var/lib/dpkg/status ]]; then
        echo apt
        return
    fi
    local name
    for name in dnf pacman apk zypper; do
        if have "$name"; then
            echo "$name"
            return
        fi
    done
    return 1
}

# install_command MANAGER: the install command as words, one a line, without the packages.
install_command() {
    case $1 in
        apt) printf '%s\n' apt-get install -y --no-install-recommends ;;
        dnf) printf '%s\n' dnf install -y ;;
        # A fresh container has no package lists; on a running system `-Sy` alone would be a partial upgrade.
        pacman) if compgen -G '/var/lib/pacman/sync/*.db' >/dev/null; then
            printf '%s\n' pacman -S --needed --noconfirm
        else
            printf '%s\n' pacman -Sy --needed --noconfirm
        fi ;;
        apk) printf '%s\n' apk add --no-cache ;;
        zypper) printf '%s\n' zypper --non-interactive install ;;
        *) return 1 ;;
    esac
}

# consent QUESTION: yes by --yes, by CI=true, or typed at a terminal. No terminal and neither of them is a no.
consent() {
    if [[ -n $ASSUME_YES ]] || in_ci; then return 0; fi
    [[ -t 0 && -t 2 ]] || return 1
    local answer
    read -r -p "wavehull: $1 [y/N] " answer || return 1
    [[ $answer == [yY]* ]]
}

# install_packages PACKAGE...: installs through the distribution, with consent. Where it fails, INSTALL_ERROR says why and
# INSTALL_HELP what to do.
install_packages() {
    local manager word
    local -a root=() install=()
    INSTALL_ERROR="no package manager that these scripts know was found (apt, dnf, pacman, apk, zypper)"
    INSTALL_HELP="install $* and run this again"
    manager=$(package_manager) || return 1
    while IFS= read -r word; do install+=("$word"); done < <(install_command "$manager")
    INSTALL_HELP="as root: ${install[*]} $*"
    if [[ $(id -u) != 0 ]]; then
        INSTALL_ERROR="nothing was installed: that needs root, and there is no sudo"
        have sudo || return 1
        # Without a terminal sudo must not wait for a password.
        if [[ -t 0 ]]; then root=(sudo); else root=(sudo -n); fi
    fi
    INSTALL_ERROR="nothing was installed without your consent (--yes gives it)"
    consent "install $* on this system (${install[*]} $*)?" || return 1
    INSTALL_ERROR="the installation failed (see above)"
    say "installing: ${install[*]} $*"
    ${root[@]+"${root[@]}"} "${install[@]}" "$@" </dev/null >&2 && return 0
    [[ $manager == apt ]] || return 1
    say "the package lists may be old or missing: updating them"
    ${root[@]+"${root[@]}"} apt-get update -q </dev/null >&2 &&
        ${root[@]+"${root[@]}"} "${install[@]}" "$@" </dev/null >&2
}

# A Rust tool chain and the linker that it calls; stops the script where either is missing.
require_rust() {
    if ! have cargo && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        # rustup has been run, but this shell was started before it.
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    have cargo || stop_setup "cargo was not found: Wavehull is built from source and needs Rust" \
        "install it from https://rustup.rs, open a new shell and run this again"
    [[ $(uname -s) != Linux ]] || have cc || have gcc || have clang || require_linker
}

require_linker() {
    local packages
    case $(package_manager || true) in
        apt) packages="gcc libc6-dev" ;;
        apk) packages="gcc musl-dev" ;;
        dnf | pacman | zypper) packages="gcc" ;;
        *) packages="gcc or clang" ;; # only named
    esac
    # shellcheck disable=SC2086 # the packages are words
    if ! install_packages $packages; then
        stop_setup "no C compiler was found (cc): Rust links programs with it; ${INSTALL_ERROR:-}" \
            "${INSTALL_HELP:-install one (gcc or clang) and run this again}"
    fi
}
