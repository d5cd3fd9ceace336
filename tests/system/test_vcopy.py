# SPDX-License-Identifier: Apache-2.0
"""Copies between address spaces, and loans: the same body wherever the requester and the two owners run."""
import os
import subprocess
import time

import pytest

from dvslab import BUILD, host_pids, wait_for

PEER = os.path.join(BUILD, "tests", "peers", "copy_peer")
READ, WRITE, BOTH, SHARE = 1, 2, 3, 4
DEADSRC, DEADDST, NODEUNREACH, TIMEDOUT, INTERRUPTED = -2002, -2003, -2005, -2008, -2009
NOTGRANTED, REVOKED, OUTOFGRANT, EFAULT, EMSGSIZE = -2020, -2021, -2022, -14, -90
MIB = 1 << 20

# requester, owner of the source, owner of the destination
PLACES = [("a", "a", "a"), ("a", "b", "b"), ("a", "b", "a"), ("a", "a", "b"), ("a", "b", "c")]


class Peer:
    """copy_peer on a node: peer("fill", ...) is (error, number)."""

    def __init__(self, lab, dc, node):
        self.process = lab.start("lab", "exec", node, PEER, dc, stdin=subprocess.PIPE)
        self.endpoint = int(self.answer()[1])

    def answer(self):
        line = self.process.stdout.readline().split()
        assert line, self.process.communicate()[1].decode()
        return line

    def tell(self, *words):
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.process.stdin.flush()

    def __call__(self, *words):
        self.tell(*words)
        return tuple(map(int, self.answer()))

    def good(self, *words):
        error, number = self(*words)
        assert error == 0, (words, error)
        return number

    def end(self):
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def peers(lab):
    """peers(node, ...): a peer on each, in a container of their own."""
    lab.ok("dc", "create", "copies")
    started = []

    def start(*nodes):
        new = [Peer(lab, "copies", node) for node in nodes]
        started.extend(new)
        return new
    try:
        yield start
    finally:
        for peer in started:
            peer.process.kill()
            peer.process.communicate()
        lab.ok("rm", "-f", "copies")


class Area:
    """Memory of a peer, granted to a requester."""

    def __init__(self, owner, to, size=8 * MIB, kind="memory", access=BOTH):
        self.owner, self.size = owner, size
        self.address = owner.good(kind, size)
        self.grant = owner.good("grant", to.endpoint, self.address, size, access)

    def at(self, offset=0):
        return self.owner.endpoint, self.grant, offset


def copy(requester, source, destination, length, timeout_ms=20000):
    return requester("copy", *source, *destination, length, timeout_ms)


@pytest.mark.parametrize("kind", ["memory", "arena"])
@pytest.mark.parametrize("places", PLACES)
def test_copies(peers, places, kind):
    requester, one, two = peers(*places)
    access = BOTH | SHARE if kind == "arena" else BOTH
    source, destination = (Area(owner, requester, kind=kind, access=access) for owner in (one, two))
    for seed, (offset, length) in enumerate([(0, 1), (4097, 65536), (100, 65537), (12345, 3 * MIB + 7), (0, 8 * MIB)]):
        one.good("fill", source.address + offset, length, seed)
        assert copy(requester, source.at(offset), destination.at(8 * MIB - length), length) == (0, length)
        assert two.good("check", destination.address + 8 * MIB - length, length, seed) == 0
    # to and from the requester's own memory
    own = requester.good("memory", 8 * MIB)
    one.good("fill", source.address, 5 * MIB + 1, 77)
    assert copy(requester, source.at(), (0, 0, own), 5 * MIB + 1) == (0, 5 * MIB + 1)
    assert requester.good("check", own, 5 * MIB + 1, 77) == 0
    requester.good("fill", own, 2 * MIB, 78)
    assert copy(requester, (0, 0, own), destination.at(99), 2 * MIB) == (0, 2 * MIB)
    assert two.good("check", destination.address + 99, 2 * MIB, 78) == 0


# covers: dvk_vcopy: -DVK_ENOTGRANTED -DVK_EOUTOFGRANT -EFAULT -DVK_EREVOKED: local remote
@pytest.mark.parametrize("places", PLACES)
def test_refusals(peers, places):
    requester, one, two = peers(*places)
    source, destination = Area(one, requester, access=READ), Area(two, requester, access=WRITE)
    (other,) = peers(places[0])
    good = source.at(), destination.at()
    assert copy(requester, *good, 100) == (0, 100)
    assert copy(other, *good, 100) == (NOTGRANTED, 0)
    assert copy(requester, destination.at(), source.at(), 100) == (NOTGRANTED, 0)
    assert copy(requester, (two.endpoint, source.grant, 0), good[1], 1) == (NOTGRANTED, 0)
    assert copy(requester, good[0], (one.endpoint, destination.grant, 0), 1) == (NOTGRANTED, 0)
    assert copy(requester, (one.endpoint, source.grant + 1000, 0), good[1], 1) == (NOTGRANTED, 0)
    for offset, length in ((8 * MIB, 1), (8 * MIB - 99, 100), (2 ** 64 - 1, 1), (2 ** 64 - 1, 2), (1, 8 * MIB)):
        assert copy(requester, source.at(offset), good[1], length) == (OUTOFGRANT, 0)
        assert copy(requester, good[0], destination.at(offset), length) == (OUTOFGRANT, 0)
    # granted, but not there
    hole = one.good("grant", requester.endpoint, 1 << 46, 8 * MIB, BOTH)
    assert copy(requester, (one.endpoint, hole, 0), good[1], 1000) == (EFAULT, 0)
    assert one.good("revoke", source.grant) == 0
    assert copy(requester, *good, 100) == (REVOKED, 0)
    assert two.good("revoke", destination.grant) == 0
    own = requester.good("memory", 4096)
    assert copy(requester, (0, 0, own), destination.at(), 100) == (REVOKED, 0)


# covers: dvk_vcopy: -DVK_EREVOKED -DVK_EDEADSRC -DVK_EDEADDST: local remote
@pytest.mark.parametrize("places", PLACES)
def test_ends_midway(peers, places):
    """Copies are made again and again until something ends them, which is told by name."""
    for what, which, expected in (("revoke", 0, REVOKED), ("revoke", 1, REVOKED), ("kill", 0, DEADSRC), ("kill", 1, DEADDST)):
        requester, *owners = peers(*places)
        areas = [Area(owner, requester) for owner in owners]
        requester.tell("again", *areas[0].at(), *areas[1].at(), 8 * MIB, 20000)
        time.sleep(0.02)  # any moment will do
        if what == "kill":
            owners[which].process.kill()
        else:
            owners[which].good("revoke", areas[which].grant)
        error, done = map(int, requester.answer())
        assert error == expected and done < 8 * MIB, (what, which, error)
        if what == "revoke" and which == 1:  # what its owner writes now stays
            owners[1].good("fill", areas[1].address, 8 * MIB, 5)
            assert copy(requester, areas[0].at(), areas[1].at(), 8 * MIB)[0] == REVOKED
            assert owners[1].good("check", areas[1].address, 8 * MIB, 5) == 0


# covers: dvk_vcopy: -DVK_ETIMEDOUT -DVK_EINTERRUPTED: local remote
@pytest.mark.parametrize("places", [("a", "a", "a"), ("a", "b", "c")])
def test_what_ends_a_copy(lab, peers, places):
    requester, one, two = peers(*places)
    source, destination = Area(one, requester, 64 * MIB), Area(two, requester, 64 * MIB)
    error, done = copy(requester, source.at(), destination.at(), 64 * MIB, 1)
    assert error == TIMEDOUT and done < 64 * MIB
    requester.tell("again", *source.at(), *destination.at(), 64 * MIB, -1)
    (copier,) = wait_for(lambda: host_pids(lab, places[2], "dvs-copier"), 5)
    os.kill(copier, 9)
    error, done = map(int, requester.answer())
    assert error == INTERRUPTED and done < 64 * MIB


def test_time_and_copiers(lab, peers):
    requester, one, two = peers("a", "b", "c")
    source, destination = Area(one, requester, 64 * MIB), Area(two, requester, 64 * MIB)
    # a copier that is killed is started again, and knows what is granted
    one.good("fill", source.address, MIB, 3)
    for node in "bc":
        (copier,) = host_pids(lab, node, "dvs-copier")
        os.kill(copier, 9)
        wait_for(lambda: host_pids(lab, node, "dvs-copier") != [copier], 5)
        wait_for(lambda: copy(requester, source.at(), destination.at(), MIB) == (0, MIB), 10)
    assert two.good("check", destination.address, MIB, 3) == 0
    # it runs as nobody
    for node in "bc":
        for pid in host_pids(lab, node, "dvs-copier"):
            assert os.stat(f"/proc/{pid}").st_uid == 65534


@pytest.mark.parametrize("places", [("a", "a"), ("a", "b")])
def test_loans(peers, places):
    sender, receiver = peers(*places)
    sizes = [1, 65536, 65537, MIB, 4 * MIB]
    receiver.tell("serve", len(sizes))
    # until it accepts them, long ones are refused
    for seed, size in enumerate(sizes):
        wait_for(lambda: sender("lend", receiver.endpoint, size, seed) == (0, 0), 10)
    assert tuple(map(int, receiver.answer())) == (0, 0)
    assert sender("lend", receiver.endpoint, 4 * MIB + 1, 0) == (EMSGSIZE, 0)


# covers: dvk_vcopy: -DVK_ENODEUNREACH: remote
def test_a_node_is_lost_midway(lab, peers):
    requester, one, two, far = peers("a", "b", "b", "c")
    source, destination = Area(one, requester), Area(far, requester)
    near = Area(two, requester)
    requester.tell("again", *source.at(), *destination.at(), 8 * MIB, -1)
    second, = peers("a")
    to_second = far.good("grant", second.endpoint, destination.address, 8 * MIB, BOTH), Area(one, second)
    second.tell("again", far.endpoint, to_second[0], 0, *to_second[1].at(), 8 * MIB, -1)
    lab.ok("lab", "kill", "c")
    assert int(requester.answer()[0]) == NODEUNREACH  # the destination's node
    assert int(second.answer()[0]) == NODEUNREACH  # the source's
    assert copy(requester, source.at(), near.at(), MIB) == (0, MIB)
    lab.ok("lab", "start", "c")
    wait_for(lambda: set(lab.node_states().values()) == {"up"}, 30)
