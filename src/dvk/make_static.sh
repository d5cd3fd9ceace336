#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The static library as it is installed: one object in which only the public names are global, so that a program's own
# names never clash with libdvk's.
#     make_static.sh ARCHIVE LIST OUT
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ld -r -o "$work/dvk.o" --whole-archive "$1"
objcopy --keep-global-symbols="$2" "$work/dvk.o"
rm -f "$3"
ar rcsD "$3" "$work/dvk.o"
