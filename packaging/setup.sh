# SPDX-License-Identifier: Apache-2.0
# For ./demo, ./test and ./bench, which source it: installs missing packages, builds. Needs bash, apt and dpkg only.

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# Names of the packages in the given groups that are not installed.
packages_missing() {
    local group package wanted
    wanted=" $* "
    while read -r group package _; do
        case $group in '' | \#*) continue ;; esac
        case $wanted in *" $group "*) ;; *) continue ;; esac
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done <"$ROOT/packaging/packages.txt"
}

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 </dev/null; }

# Install what the given groups lack. The lists of packages are fetched only when the ones at hand do not do.
packages_install() {
    local missing policy=/usr/sbin/policy-rc.d made= failed=
    missing=$(packages_missing "$@")
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || die "these Debian packages are missing: $(echo $missing). Run as root, or: sudo apt-get install $(echo $missing)"
    command -v apt-get >/dev/null || die "these packages are missing, and there is no apt-get: $(echo $missing)"
    say "installing: $(echo $missing)"
    # corosync is used by labs with their own configuration: its package must not start it as a service.
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made=1
    fi
    # shellcheck disable=SC2086 # words, as meant
    if ! apt_install $missing 2>/dev/null; then
        { apt-get update -qq >&2 && apt_install $missing; } || failed=1
    fi
    [ -z "$made" ] || rm -f $policy
    [ -z "$failed" ] || die "apt-get could not install all of: $(echo $missing)"
}

# Build into the given directory; more arguments go to meson setup. Quiet unless it fails.
build() {
    local dir=$1 log
    shift
    log=$(mktemp)
    if ! { { [ -f "$dir/build.ninja" ] || meson setup "$dir" "$ROOT" "$@"; } && ninja -C "$dir"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        die "the build failed"
    fi
    rm -f "$log"
}

need_root() { [ "$(id -u)" = 0 ] || die "labs make namespaces and mounts: run this as root"; }
