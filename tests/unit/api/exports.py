#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""libdvk.so and libdvk.a export every function that a public header declares, and nothing else.

    exports.py INCLUDE_DIR LIBDVK_SO LIBDVK_A
"""
import glob
import re
import subprocess
import sys


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def declared(directory):
    """All names followed by '(' in the headers, but for inline functions and types of callbacks."""
    names = set()
    headers = glob.glob(f"{directory}/dvk/*.h")
    assert headers, directory
    for header in headers:
        with open(header, encoding="utf-8") as file:
            code = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
        here = set(re.findall(r"\b(dvk_[a-z0-9_]+)\s*\(", code))
        here -= set(re.findall(r"\bstatic\s+inline\b[^(;]*?\b(dvk_[a-z0-9_]+)\s*\(", code))
        here -= set(re.findall(r"\btypedef\b[^(;{]*?\b(dvk_[a-z0-9_]+)\s*\(", code))
        names |= here
    return names


def symbols(*arguments):
    """name -> version of the defined global symbols."""
    found = {}
    for line in output("nm", "--defined-only", *arguments).splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in "TDBRVWi":
            name, _, version = words[2].partition("@@")
            found[name] = version
    return found


def main():
    include, shared, static = sys.argv[1:]
    wanted, exported, archived = declared(include), symbols("-D", shared), symbols("-g", static)
    trouble = [f"{name} is declared, but {shared} does not export it" for name in sorted(wanted - set(exported))]
    trouble += [f"{name} is exported, but no header declares it" for name in sorted(set(exported) - wanted)]
    trouble += [f"{name} has no version" for name, version in sorted(exported.items()) if not version.startswith("DVK_")]
    trouble += [f"{name}: not the same in {static}" for name in sorted(wanted ^ set(archived))]
    if "SONAME" not in output("readelf", "-d", shared) or "libdvk.so.1]" not in output("readelf", "-d", shared):
        trouble.append(f"{shared} has not the soname libdvk.so.1")
    print("\n".join(trouble) or f"{len(wanted)} functions")
    return bool(trouble)


sys.exit(main())
