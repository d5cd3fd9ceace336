# SPDX-License-Identifier: Apache-2.0
"""Nodes with few user slots come by more: from what nobody owns, from each other, and from a node that is lost."""
import os

import pytest
from dvslab import BUILD, ROOT, Lab, wait_for

SETS = set(range(1, 9))  # --slots 9:2: eight sets of 64, two for each of three nodes, two for whoever needs them

FORKER = """
import os, sys
read, write = os.pipe()
children = []
print("ready", flush=True)
for line in sys.stdin:
    word, *rest = line.split()
    if word == "fork":
        error = "none"
        for _ in range(int(rest[0])):
            try:
                pid = os.fork()
            except OSError as failure:
                error = failure.strerror
                break
            if pid == 0:
                os.close(write)
                os.read(read, 1)
                os._exit(0)
            children.append(pid)
        print(len(children), len(set(children)), error, flush=True)
    elif word == "reap":
        for pid in [children.pop() for _ in range(int(rest[0]))]:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        print(len(children), flush=True)
    elif word == "pids":
        print(*children, flush=True)
"""


class Forker:
    """A program on one node that forks when it is told to, and keeps its children."""

    def __init__(self, lab, dc, node):
        self.process = lab.start("exec", "-i", dc, "env", f"DVS_PLACE=node={node}", "python3", "-c", FORKER, stdin=-1)
        assert self.process.stdout.readline() == b"ready\n", self.process.stderr.read()

    def say(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().decode().strip()

    def fork(self, count):
        """How many children there are now, and why there are no more."""
        there, distinct, error = self.say(f"fork {count}").split(maxsplit=2)
        assert there == distinct
        return int(there), error

    def pids(self):
        return [int(word) for word in self.say("pids").split()]

    def end(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def small_lab():
    one = Lab()
    try:
        yield one.up(3, "--slots", "9:2")
    finally:
        one.end()


@pytest.fixture
def few(small_lab):
    """A lab with few slots, and a container x whose programs stay on a unless told otherwise. All nodes are up again afterwards."""
    small_lab.ok("--node", "a", "run", "-d", "--name", "x", "--image", "host", "--place", "node=a", "sleep", "1000")
    try:
        yield small_lab
    finally:
        small_lab.ok("rm", "-f", "x")


def owned(lab, dc="x", node="a"):
    """Node -> its sets, as `node` knows it; every set is somebody's or nobody's, once."""
    shares = {}
    for one in lab.json("--node", node, "debug", "slots", dc)["nodes"]:
        runs = [run.split("+") for run in one["which"].split()]
        shares[one["name"]] = {int(first) + i for first, count in runs for i in range(int(count))}
        assert len(shares[one["name"]]) == one["sets"]
    assert sorted(s for sets in shares.values() for s in sets) == sorted(SETS)
    return shares


def agreed(lab, nodes="abc"):
    """The same, once these nodes agree: who is short of slots may ask for some at any time."""
    def ask():
        views = [owned(lab, node=node) for node in nodes]
        return views[0] if all(view == views[0] for view in views) else None
    return wait_for(ask, 10, "the nodes to agree")


def test_a_node_that_runs_out_is_given_slots(few):
    assert owned(few) == {"a": {1, 2}, "b": {3, 4}, "c": {5, 6}, "(nobody)": {7, 8}}
    forker = Forker(few, "x", "a")
    assert forker.fork(300) == (300, "none")
    after = agreed(few)
    assert len(after["a"]) >= 5 and {1, 2} <= after["a"] and not after["(nobody)"]
    assert {pid // 64 for pid in forker.pids()} <= after["a"]
    # b and c gave, and kept something to work with: they fork as before
    assert few.ok("exec", "x", "/.dvs/bin/onnode", "b", "sh", "-c", "for i in 1 2 3; do (echo $i); done") == "1\n2\n3\n"
    text = few.ok("debug", "slots", "x")
    assert text.splitlines()[0].split() == ["NODE", "STATE", "SETS", "SLOTS", "WHICH"] and "(nobody)" in text
    forker.end()


def test_a_fork_fails_only_when_there_is_no_slot_anywhere(few):
    forker = Forker(few, "x", "a")
    there, error = forker.fork(600)
    assert error == "Resource temporarily unavailable" and there > 300
    assert not owned(few)["(nobody)"]
    assert forker.say("reap 20") == str(there - 20)
    assert forker.fork(15) == (there - 5, "none")  # the numbers of those that were reaped come back
    forker.end()


def test_a_lost_nodes_slots_go_to_the_others_and_come_back(few):
    on_b = Forker(few, "x", "b")
    assert on_b.fork(200) == (200, "none")  # more than it had
    forker = Forker(few, "x", "a")
    forker.fork(50)
    few.ok("lab", "kill", "b")
    wait_for(lambda: few.node_states()["b"] == "down", 10, "the loss of b")
    wait_for(lambda: not agreed(few, "ac")["b"], 10, "the view in which b's slots go to the others")
    assert forker.fork(200) == (250, "none")
    on_b.end()
    few.ok("lab", "start", "b")
    wait_for(lambda: few.node_states()["b"] == "up", 10, "b")
    again = Forker(few, "x", "b")
    assert again.fork(30) == (30, "none")
    assert {pid // 64 for pid in again.pids()} <= agreed(few)["b"] and not set(again.pids()) & set(forker.pids())
    forker.end()
    again.end()


def test_a_cut_off_node_learns_what_the_others_decided(few):
    Forker(few, "x", "c").end()
    few.ok("lab", "cut", "c")
    wait_for(lambda: few.node_states()["c"] == "down", 10, "the cut")
    there = few.json("--node", "c", "debug", "slots", "x")
    assert {one["name"]: one["sets"] for one in there["nodes"]}["c"] == 2  # it changes nothing
    forker = Forker(few, "x", "a")
    assert forker.fork(250) == (250, "none")
    few.ok("lab", "heal", "c")
    wait_for(lambda: few.node_states()["c"] == "up", 20, "the heal")
    agreed(few)
    again = Forker(few, "x", "c")
    assert again.fork(10) == (10, "none")
    forker.end()
    again.end()


def test_a_program_without_a_vos_waits_for_slots_too(few):
    """One that binds any slot again and again, on the node with few of them."""
    few.ok("dc", "create", "plain") # small_lab's end removes it
    program = "import dvk, sys\nd = dvk.open()\ndc = d.find_dc('plain')\n" \
              "print(len({d.bind(dc) & 0xffffffff for _ in range(300)}))\n"
    env = {**few.env, "PYTHONPATH": os.path.join(ROOT, "python"), "PYTHONDONTWRITEBYTECODE": "1",
           "DVK_LIBRARY": os.path.join(BUILD, "src", "dvk", "libdvk.so.1")}
    result = few.dvs("lab", "exec", "b", "/usr/bin/python3", "-c", program, env=env)
    assert result.out == "300\n", result
    assert len(owned(few, "plain")["b"]) >= 5
