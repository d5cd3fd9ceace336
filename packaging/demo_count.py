#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Watches `dvs ps` while a build runs and counts the processes that each node runs.

usage: demo_count.py DVS CONTAINER STOP_FILE: looks again and again until STOP_FILE exists; then prints a table of distinct
compiler processes a node. Exit code 0 only if no node of the cluster ran less than 20 % of them. What lives shorter than the
time between two looks may be missed, on all nodes alike.
"""
import json
import os
import subprocess
import sys
import time

COMPILERS = {"cc", "gcc", "cc1", "as", "collect2", "ld", "x86_64-linux-gnu-gcc", "x86_64-linux-gnu-", "x86_64-linux-gn"}
LEAST = 0.20


def ask(*command):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return json.loads(result.stdout) if result.returncode == 0 else []


def main():
    dvs, container, stop = sys.argv[1:4]
    seen = {node["name"]: set() for node in ask(dvs, "node", "ls", "--format", "json")}
    looks = 0
    while not os.path.exists(stop):
        for process in ask(dvs, "ps", "--format", "json", container):
            if process["comm"] in COMPILERS:
                # a pid may be used again for another program
                seen.setdefault(process["node"], set()).add((process["pid"], process["command"]))
        looks += 1
        time.sleep(0.1)
    total = sum(len(processes) for processes in seen.values())
    print(f"  {'NODE':<8}{'PROCESSES':>10}{'SHARE':>8}    (compilers seen in {looks} looks)")
    for node, processes in sorted(seen.items()):
        print(f"  {node:<8}{len(processes):>10}{len(processes) / max(total, 1):>8.0%}")
    return 0 if total and all(len(processes) >= LEAST * total for processes in seen.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
