#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every public header compiles alone, twice in a row, in C11 and in C++17, without a warning.
#     headers.sh INCLUDE_DIR CC CXX
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0
for header in "$1"/dvk/*.h; do
    name=dvk/${header##*/}
    printf '#include <%s>\n#include <%s>\nint main(void);\nint main(void) { return 0; }\n' "$name" "$name" >"$work/one.c"
    sed 's/^int main(void);$//' "$work/one.c" >"$work/one.cc"
    "$2" -std=c11 -Wall -Wextra -Wpedantic -Wstrict-prototypes -Werror -I"$1" -fsyntax-only "$work/one.c"
    "$3" -std=c++17 -Wall -Wextra -Wpedantic -Werror -I"$1" -fsyntax-only "$work/one.cc"
    count=$((count + 1))
done
[ "$count" -ge 4 ]
echo "$count headers"
