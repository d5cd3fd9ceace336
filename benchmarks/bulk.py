# SPDX-License-Identifier: Apache-2.0
"""Loans and copies within a node: what run.py runs of benchmarks/bulk.c."""
import json
import os

import messages


def local(setup):
    dc = "bulk"
    setup.call("dc", "create", dc)
    try:
        lines = setup.call("lab", "exec", "a", os.path.join(setup.build, "benchmarks", "bulk"), dc,
                           str(min(1000, 20 * setup.runs))).splitlines()
    finally:
        setup.call("rm", "-f", dc)
    found = {line["what"]: line for line in map(json.loads, lines)}
    c = messages.Comparison("Large data on one node and one core")

    def goal(name, what, baseline, limit):
        one = found[what]
        cell = {"ns": one["ns"], "low": one["low"], "high": one["high"], "batches": one["runs"]}
        c.goal(name, one["ns"], found[baseline]["ns"], baseline, limit, cell)
    goal("lent", "message of 1 MiB, lent", "message of 64 B", 2)
    goal("copied", "message of 1 MiB, copied", "memcpy into shared memory", None)
    goal("vcopy-shared", "vcopy into a shared arena", "memcpy into shared memory", 1.3)
    goal("vcopy-arena", "vcopy into an arena", "memcpy into shared memory", None)
    goal("vcopy-memory", "vcopy into memory", "memcpy into shared memory", None)
    return c


BENCHES = [("bulk", local)]
