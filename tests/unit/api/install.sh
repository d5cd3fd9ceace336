#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What `meson install` puts in place is all that a program outside needs: found by pkg-config, in C and C++, with the shared
# and the static library; and the daemons, the command, the manual pages and the Python module are there.
#     install.sh BUILD_DIR USER_C CC CXX SANITIZER...
set -eu
build=$1 user=$2 cc=$3 cxx=$4
shift 4
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
DESTDIR=$root meson install -C "$build" --no-rebuild --quiet >"$root/log" 2>&1 || { cat "$root/log"; exit 1; }

pc=$(find "$root" -name dvk.pc)
prefix=$root$(PKG_CONFIG_PATH=${pc%/*} pkg-config --variable=prefix dvk)
# the tree stands below DESTDIR: as if the prefix were there
config() { PKG_CONFIG_PATH=${pc%/*} pkg-config --define-variable=prefix="$prefix" "$@" dvk; }
libs=$(config --variable=libdir)
config --exists || { echo "pkg-config does not find dvk"; exit 1; }

# shellcheck disable=SC2046 # words, as meant
"$cc" -std=c11 "$@" $(config --cflags) -o "$root/shared" "$user" $(config --libs)
"$cxx" -x c++ -std=c++17 "$@" $(config --cflags) -o "$root/cxx" "$user" -x none $(config --libs)
"$cc" -std=c11 "$@" $(config --cflags) -o "$root/static" "$user" "$libs/libdvk.a" -pthread
for program in shared cxx; do
    LD_LIBRARY_PATH=$libs "$root/$program"
    readelf -d "$root/$program" | grep -q 'libdvk.so.1' || { echo "$program does not use libdvk.so.1"; exit 1; }
done
"$root/static"

for path in bin/dvs sbin/dvkd libexec/dvs/dvs-proxy libexec/dvs/dvs-copier libexec/dvs/dvs-cell libexec/dvs/dvs-vos share/man/man1/dvs.1 \
    share/man/man7/dvk.7 share/man/man8/dvkd.8 share/doc/dvs/examples/example.h include/dvk/dvk.h include/dvk/error.h; do
    [ -e "$prefix/$path" ] || [ -e "$prefix/$path.gz" ] || { echo "$path is not installed"; exit 1; }
done
[ -n "$(find "$root" -path '*/dist-packages/dvk.py' -o -path '*/site-packages/dvk.py')" ] || { echo "dvk.py is not installed"; exit 1; }
# a manual page for each function of the library
nm -D --defined-only "$libs/libdvk.so" | sed -n 's/.* T \(dvk_[a-z0-9_]*\)@@.*/\1/p' | while read -r name; do
    [ -s "$prefix/share/man/man3/$name.3" ] || { echo "there is no manual page $name(3)"; exit 1; }
done
