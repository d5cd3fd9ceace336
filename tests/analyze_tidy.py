# SPDX-License-Identifier: Apache-2.0
"""clang-tidy over the sources in src that a build directory knows; what tests/analyze.clang-tidy lists is left out."""
import concurrent.futures
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FINDING = re.compile(r"^(\S+?):\d+:\d+: (?:error|warning): .*\[([a-zA-Z0-9.-]+)[],]")


def sources(build):
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        names = {os.path.realpath(os.path.join(command["directory"], command["file"])) for command in json.load(file)}
    return sorted(name for name in names if name.startswith(ROOT + "/src/") and name.endswith(".c"))


def known():
    with open(os.path.join(ROOT, "tests", "analyze.clang-tidy"), encoding="utf-8") as file:
        return {tuple(line.split()) for line in file if line.strip() and not line.startswith("#")}


def check(build, source):
    """[(finding's line, (file, check))] and whether clang-tidy worked at all."""
    done = subprocess.run(["clang-tidy", "-p", build, "--quiet", source], cwd=build, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)
    found = []
    for line in done.stdout.splitlines():
        match = FINDING.match(line)
        if match:
            where = os.path.relpath(os.path.realpath(os.path.join(build, match[1])), ROOT)
            found.append((line.replace(match[1], where, 1), (where, match[2])))
    return source, found, done.returncode == 0 or bool(found), done.stderr


def main():
    build, allowed, failed, met = os.path.abspath(sys.argv[1]), known(), False, set()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for source, found, worked, errors in pool.map(lambda name: check(build, name), sources(build)):
            if not worked:
                print(f"clang-tidy failed on {source}: {errors.strip()}")
                failed = True
            for line, key in found:
                if key in allowed:
                    met.add(key)
                elif key not in met:
                    print(line)
                    failed = True
    for where, name in sorted(allowed - met):
        print(f"tests/analyze.clang-tidy lists what is not found any more: {where} {name}")
        failed = True
    return 1 if failed else 0


sys.exit(main())
