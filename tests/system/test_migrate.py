# SPDX-License-Identifier: Apache-2.0
"""Endpoints that move between processes and nodes while others talk to them; backups and replicas."""
import os
import random
import select
import subprocess

import pytest

from dvslab import BUILD, wait_for
from test_primitives import Party

DRIVER = os.path.join(BUILD, "tests", "system", "move_driver")
NOTBOUND, EDEADDST, NODEUNREACH, NOTALLOWED, MIGRATING = -2001, -2003, -2005, -2006, -2010
NOBACKUP, NOTMIGRATING, NOTCARRIED = -2040, -2041, -2042
STATE = ("total", "violations", "promoted", "gone", "ended")


def driver(lab, node, dc, *arguments):
    socket = f"/run/dvs/lab/{lab.name}/{node}/dvkd.sock"
    return subprocess.Popen([DRIVER, socket, str(dc), *map(str, arguments)], text=True, bufsize=1, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)


class Server:
    """A process that is, or stands by for, an endpoint whose messages it counts."""

    def __init__(self, lab, node, dc):
        self.node, self.id = node, "abcdefgh".index(node) + 1
        self.process = driver(lab, node, dc, "server")

    def start(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")

    def finish(self):
        assert select.select([self.process.stdout], [], [], 20)[0], f"{self.node}: no answer"
        line = self.process.stdout.readline()
        assert line, f"{self.node}: the driver has ended"
        return line.split()

    def do(self, *words):
        self.start(*words)
        return self.finish()

    def ok(self, *words):
        result = self.do(*words)
        assert result[0] == "0", (self.node, words, result[0])
        return result[1:]

    def error(self, *words):
        return int(self.do(*words)[0])

    def state(self):
        return dict(zip(STATE, map(int, self.do("state"))))

    def move(self, to, endpoint):
        """All steps; `to` is not a backup yet, and we are none afterwards."""
        to.ok("backup", endpoint)
        self.move_on(to)

    def move_on(self, to):
        state, = self.ok("freeze", to.id)
        to.ok("take", state)
        before = to.state()["promoted"]
        self.ok("commit")
        wait_for(lambda: to.state()["promoted"] > before, 5, "the promotion")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Client:
    def __init__(self, lab, node, dc, endpoint, number, ms, kinds):
        self.process = driver(lab, node, dc, "client", endpoint, number, random.randrange(1 << 30), ms, kinds)

    def result(self):
        """(sent, received, violations, errors, the first error)"""
        out, _ = self.process.communicate(timeout=60)
        return tuple(map(int, out.split()))

    def check(self):
        sent, received, violations, errors, first = self.result()
        assert errors == 0, first
        assert violations == 0 and sent == received > 0, (sent, received, violations)
        return sent


@pytest.fixture(scope="module")
def dc(lab):
    lab.ok("dc", "create", "moving")
    yield lab.containers()["moving"]["id"]
    lab.ok("rm", "-f", "moving")


@pytest.fixture
def parties(lab, dc):
    made = []

    def make(kind, node, *arguments):
        made.append(kind(lab, node, dc, *arguments))
        return made[-1]

    yield make
    for party in made:
        party.process.kill()
        party.process.wait()


def test_a_move_is_a_pause(parties):
    a, b = parties(Server, "a"), parties(Server, "b")
    endpoint, = a.ok("bind", 0)
    client = parties(Client, "c", endpoint, 1, 3000, "r")
    for here, there in ((a, b), (b, a), (a, b)):
        here.move(there, endpoint)
    total = client.check()
    assert b.state()["total"] == total and b.state()["violations"] == 0


@pytest.mark.parametrize("kinds", ["rcs", "p", "rcspd", "n", "rchspdln"])
def test_nothing_is_lost_or_twice_or_out_of_order(parties, kinds):
    """Clients on every node, of which one is beside the server at any time."""
    seed = random.randrange(1 << 30)
    random.seed(seed)
    print("seed", seed)
    servers = [parties(Server, node) for node in "abc"]
    endpoint, = servers[0].ok("bind", 0)
    clients = [parties(Client, node, endpoint, number, 1500, kinds) for number, node in enumerate("abc", 1)]
    here, moves = 0, 0
    while any(client.process.poll() is None for client in clients) and moves < 12:
        there = random.choice([i for i in range(3) if i != here])
        servers[here].move(servers[there], endpoint)
        here, moves = there, moves + 1
    counts = [client.check() for client in clients] if kinds != "n" else [client.result()[2:4] for client in clients]
    if kinds == "n":
        assert counts == [(0, 0)] * 3
    else:
        assert servers[here].state()["total"] == sum(counts)


def test_a_rollback_hands_out_what_waited(parties):
    # covers: dvk_migrate_rollback dvk_migrate_commit: -DVK_ENOTMIGRATING -DVK_ENOTBOUND: here
    # covers: dvk_migrate_start: -DVK_ENOBACKUP -DVK_EMIGRATING -DVK_ENOTBOUND: here
    a, b = parties(Server, "a"), parties(Server, "b")
    assert a.error("freeze", 0) == NOTBOUND and a.error("commit") == NOTBOUND and a.error("rollback") == NOTBOUND
    endpoint, = a.ok("bind", 0)
    assert a.error("freeze", 0) == NOBACKUP and a.error("commit") == NOTMIGRATING and a.error("rollback") == NOTMIGRATING
    b.ok("backup", endpoint)
    assert a.error("freeze", a.id) == NOBACKUP
    clients = [parties(Client, node, endpoint, number, 1500, "rchspdn") for number, node in enumerate("abc", 1)]
    for _ in range(8):
        a.ok("freeze", b.id)
        assert a.error("freeze", b.id) == MIGRATING
        a.ok("rollback")
    total = sum(client.check() for client in clients)
    assert a.state() == {"total": total, "violations": 0, "promoted": 0, "gone": 0, "ended": 8}
    assert b.state()["promoted"] == 0


def test_what_cannot_be_a_backup(lab, parties):
    # covers: dvk_bind_backup dvk_bind_replica: -DVK_ENOTBOUND -EINVAL -DVK_ENOTALLOWED -DVK_ENODC: here
    # covers: dvk_unbind_backup: -DVK_ENOTBOUND: here
    a, b = parties(Server, "a"), parties(Server, "b")
    endpoint, = a.ok("bind", 0)
    assert b.error("backup", int(endpoint) + (1 << 32)) == NOTBOUND
    assert b.error("backup", int(endpoint) & 0xffffffff) == -22
    assert a.error("backup", endpoint) == -22
    assert b.error("unbackup", endpoint) == NOTBOUND
    assert b.error("backup", (1 << 32) + (1 << 24) + 256 + 3) == NOTALLOWED  # a service of the VOS
    nowhere = Server(lab, "b", 4000)
    assert nowhere.error("backup", endpoint) == -2004
    nowhere.kill()
    b.ok("backup", endpoint)
    assert b.error("replica", endpoint) == -22
    b.ok("unbackup", endpoint)
    assert a.error("freeze", 0) == NOBACKUP
    b.ok("replica", endpoint)
    a.ok("unbind", endpoint)
    wait_for(lambda: b.state()["promoted"], 5, "the replica's promotion")


def test_its_slot_is_nobody_elses(parties):
    """A service's address is its node's, and yet not free while the endpoint that has it is elsewhere."""
    slot = (1 << 24) + 1 * 256 + 40
    a, b, other = parties(Server, "a"), parties(Server, "b"), parties(Server, "a")
    endpoint, = a.ok("bind", slot)
    a.move(b, endpoint)
    assert other.error("bind", slot) == -2012
    for number, node in enumerate("ac", 5):  # by its address without a generation, too
        assert parties(Client, node, slot, number, 300, "rcn").check() > 0
    b.kill()
    wait_for(lambda: other.do("bind", slot)[0] == "0", 5, "the slot")
    assert parties(Client, "c", slot, 4, 300, "r").check() > 0


def test_it_is_shown(lab, parties):
    a, b, c = [parties(Server, node) for node in "abc"]
    endpoint, = a.ok("bind", 0)
    slot = int(endpoint) & 0xffffffff

    def shown():
        return {place["slot"]: place for place in lab.json("debug", "places", "moving")["places"]}.get(slot)

    assert shown() is None
    b.ok("backup", endpoint)
    c.ok("replica", endpoint)
    a.ok("freeze", b.id)
    place = shown()
    assert (place["primary"]["node"], place["state"], place["to"]["node"], place["revision"]) == ("a", "moving", "b", 0)
    assert [(spare["node"], spare["kind"]) for spare in place["backups"]] == [("b", "backup"), ("c", "replica")]
    a.ok("commit")
    place = shown()
    assert (place["primary"]["node"], place["state"]) == ("b", "settled") and place["revision"] > 0
    assert "c*" in lab.ok("debug", "places", "moving")
    wait_for(lambda: b.state()["promoted"], 5, "the promotion")
    events = [event["event"] for event in lab.json("debug", "record", "a")["record"]]
    assert "place-frozen" in events and "place-left" in events


def test_a_move_is_no_end(lab, dc, parties):
    """Who waits for the endpoint's end, beside it or elsewhere, is not told of a move; where it is, it is told."""
    a, b = parties(Server, "a"), parties(Server, "b")
    endpoint, = a.ok("bind", 0)
    watchers = [Party(lab, node, dc) for node in "abc"]
    try:
        for one in watchers:
            one.bind()
            assert one.ok("info", one.self, endpoint)[2] == a.id
            one.start("wait_unbind", one.self, endpoint, 15000)
        for here, there in ((a, b), (b, a), (a, b)):
            here.move(there, endpoint)
        assert parties(Client, "c", endpoint, 1, 300, "r").check() > 0
        assert not select.select([one.process.stdout for one in watchers], [], [], 0)[0]
        b.kill()
        assert [one.finish() for one in watchers] == [[0]] * 3
    finally:
        for one in watchers:
            one.end()
