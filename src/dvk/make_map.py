#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The names that libdvk exports: every function that a header of include/dvk declares, and nothing else.

    make_map.py INCLUDE_DIR MAP LIST DEPFILE

Writes MAP, the linker's version script, and LIST, one name a line for objcopy.
"""
import os
import re
import sys

VERSION = "DVK_1.0"


def without_blocks(text):
    """Drop what stands in braces, innermost first. A function's body becomes a semicolon."""
    while True:
        shorter = re.sub(r"\)\s*\{[^{}]*\}", ");", text)
        shorter = re.sub(r"\{[^{}]*\}", " ", shorter)
        if shorter == text:
            return text
        text = shorter


def declared(text):
    """Names of the functions that a header declares and does not define."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"//[^\n]*", " ", text)
    text = text.replace("\\\n", " ")
    text = re.sub(r"^\s*#\s*ifdef\s+__cplusplus.*?^\s*#\s*endif", " ", text, flags=re.S | re.M)
    text = re.sub(r"^\s*#.*$", " ", text, flags=re.M)
    names = set()
    for statement in without_blocks(text).split(";"):
        words = statement.split()
        if "typedef" in words or "static" in words or "_Static_assert" in statement:
            continue
        match = re.search(r"\b(dvk_\w+)\s*\(", statement)
        if match:
            names.add(match.group(1))
    return names


def main():
    include, map_path, list_path, depfile = sys.argv[1:]
    directory = os.path.join(include, "dvk")
    headers = sorted(os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(".h"))
    names = set()
    for header in headers:
        with open(header, encoding="utf-8") as file:
            names |= declared(file.read())
    if not names:
        sys.exit(f"{directory}: no declarations")
    with open(map_path, "w", encoding="utf-8") as file:
        file.write(VERSION + " {\nglobal:\n" + "".join(f"    {name};\n" for name in sorted(names)) + "local:\n    *;\n};\n")
    with open(list_path, "w", encoding="utf-8") as file:
        file.write("".join(name + "\n" for name in sorted(names)))
    with open(depfile, "w", encoding="utf-8") as file:
        file.write(f"{map_path}: {' '.join([directory, *headers])}\n")


main()
