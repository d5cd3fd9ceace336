#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The comparison works: every transport carries messages of every shape, and the rows say what was measured.

smoke.py COMPARE"""
import json
import os
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import messages  # noqa: E402

COMPARE = sys.argv.pop(1)
LOCAL = {"dvk", "dvk-loan", "futex", "pipe", "unix", "sysv", "mq", "tcp"}
OPTIONAL = {"tls", "zmq", "nng"}


def run(*args, code=0):
    done = subprocess.run([COMPARE, "--quick", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{args}: exit code {done.returncode}: {done.stderr}"
    assert code or not done.stderr, f"{args}: {done.stderr}"
    return [json.loads(line) for line in done.stdout.splitlines()]


class Driver(unittest.TestCase):
    def compared(self, want, *args):
        lines = run(*args)
        self.assertEqual({line["transport"] for line in lines} - OPTIONAL, want)
        for line in lines:
            self.assertGreater(line["low"], 0)
            self.assertLessEqual(line["low"], line["ns"])
            self.assertLessEqual(line["ns"], line["high"])
        return lines

    def test_round_trip(self):
        self.compared(LOCAL, "--cpus", "0,0")

    def test_one_way(self):
        self.compared(LOCAL - {"futex"} | {"dvk-send"}, "--shape", "one-way")

    def test_large(self):
        for shape in ("round-trip", "one-way"):
            lines = run("--bytes", "4096,65536,1048576", "--shape", shape, "--transports", "dvk,dvk-loan,pipe,sysv")
            self.assertEqual({(l["transport"], l["bytes"]) for l in lines},
                             {("dvk", 4096), ("dvk", 65536), ("dvk", 1048576), ("dvk-loan", 4096),
                              ("dvk-loan", 65536), ("dvk-loan", 1048576), ("pipe", 4096), ("pipe", 65536),
                              ("pipe", 1048576), ("sysv", 4096)})

    def test_between_nodes(self):
        self.compared({"tcp"}, "--remote", "127.0.0.1", "--bytes", "300")

    def test_scale(self):
        self.assertEqual([(l["transport"], l["count"]) for l in run("--transports", "dvk,pipe", "pairs", "2")],
                         [("dvk", 2), ("pipe", 2)])
        self.assertEqual([l["count"] for l in run("clients", "3")], [3])
        self.assertEqual([l["count"] for l in run("endpoints", "20")], [20])

    def test_mistakes(self):
        run("--bytes", "0", code=1)
        run("--shape", "round", code=2)
        run("many", "3", code=2)


class Rows(unittest.TestCase):
    def test_goals(self):
        c = messages.Comparison("Title")
        for name, ns in (("dvk", 100.0), ("dvk-send", 10.0), ("futex", 20.0), ("pipe", 80.0), ("mq", 90.0)):
            c.take({"bytes": 64, "transport": name, "ns": ns, "low": ns, "high": ns + 10, "batches": 4})
        messages.against_best(c, 1.0, (64,))
        c.goal("pipe", 100.0, 200.0, "a pipe", 1.0)
        first, second = c.rows("x")
        self.assertEqual((first["name"], first["baseline"], first["ratio"], first["met"], first["spread"]),
                         ("x/64 B", 80.0, 1.25, False, 0.1))
        self.assertEqual((second["name"], second["ratio"], second["met"]), ("x/pipe", 0.5, True))
        self.assertEqual(len(first["cells"]), 5)
        self.assertIn("pipe       80 ns", c.curve().tables[0])


if __name__ == "__main__":
    unittest.main()
