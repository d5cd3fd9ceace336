# SPDX-License-Identifier: Apache-2.0
"""Backups and replicas when processes and nodes are lost, in each phase of a move."""
import random

import pytest

from dvslab import wait_for
from test_migrate import EDEADDST, NODEUNREACH, NOTBOUND, NOTMIGRATING, Client, Server, dc, parties  # noqa: F401  pylint: disable=unused-import

NODAEMON = -2015


def test_a_replica_takes_over(parties):
    for servers, clients in (("ab", "abc"), ("aa", "ac"), ("ba", "a")):
        first, second = [parties(Server, node) for node in servers]
        endpoint, = first.ok("bind", 0)
        second.ok("replica", endpoint)
        running = [parties(Client, node, endpoint, number, 1500, "r") for number, node in enumerate(clients, 1)]
        wait_for(lambda: first.state()["total"] > 100, 5, "messages")  # pylint: disable=cell-var-from-loop
        first.kill()
        wait_for(lambda: second.state()["promoted"], 5, "the promotion")  # pylint: disable=cell-var-from-loop
        for client in running:  # a request that was under way ends; the next one reaches the replica
            assert client.result()[4] in (0, EDEADDST)
        before = second.state()["violations"]  # what it got of the first ones' numbers is not from 1 on
        for number, node in enumerate(clients, 5):
            sent, received, violations, errors, _ = parties(Client, node, endpoint, number, 300, "rcsn").result()
            assert sent == received > 0 and violations == before and errors == 0


@pytest.mark.parametrize("phase", ["backed", "frozen", "committed"])
def test_the_primary_dies(parties, phase):
    seed = random.randrange(1 << 30)
    random.seed(seed)
    print("seed", seed)
    a, b = parties(Server, "a"), parties(Server, "b")
    endpoint, = a.ok("bind", 0)
    clients = [parties(Client, node, endpoint, number, 2500, "rcs") for number, node in enumerate("abc", 1)]
    b.ok("backup", endpoint)
    if phase != "backed":
        state, = a.ok("freeze", 0)
        b.ok("take", state)
    if phase == "committed":
        a.start("commit")
        if random.random() < 0.5:
            a.finish()
    a.kill()
    end = wait_for(lambda: (lambda s: s if s["promoted"] or s["gone"] else None)(b.state()), 5, "the end of the move")
    assert end["promoted"] + end["gone"] == 1
    if phase != "committed":
        assert end["gone"]
    for client in clients:
        _, _, violations, errors, first = client.result()
        if end["promoted"]:  # what it had taken in and not sent back is lost, and said to be
            assert first in (0, EDEADDST)
        else:
            assert errors and first in (EDEADDST, NOTBOUND), first


def test_the_backup_dies(parties):
    a, b, c = [parties(Server, node) for node in "abc"]
    endpoint, = a.ok("bind", 0)
    clients = [parties(Client, node, endpoint, number, 2000, "rcspn") for number, node in enumerate("abc", 1)]
    b.ok("backup", endpoint)
    a.ok("freeze", b.id)
    b.kill()
    wait_for(lambda: a.state()["ended"], 5, "the rollback")
    assert a.error("commit") == NOTMIGRATING
    a.move(c, endpoint)
    total = sum(client.check() for client in clients)
    assert c.state()["total"] == total


def all_are_up(lab):
    nodes = lab.json("node", "ls")
    return all(node["state"] == "up" for node in nodes) and nodes[0]["quorate"]


@pytest.mark.parametrize("lost, kind, phase", [("a", "replica", "backed"), ("a", "replica", "frozen"), ("a", "backup", "frozen"),
                                               ("b", "backup", "frozen"), ("a", "backup", "committed")])
def test_a_node_is_lost(lab, parties, lost, kind, phase):
    """A client on the node that stays reaches the one that is the endpoint then, or is told that it is dead."""
    # covers: dvk_bind_backup dvk_bind_replica: -DVK_ENODEUNREACH -DVK_ENODAEMON: here
    # covers: dvk_unbind_backup dvk_migrate_start dvk_migrate_commit dvk_migrate_rollback: -DVK_ENODAEMON: here
    a, b, c = [parties(Server, node) for node in "abc"]
    endpoint, = a.ok("bind", 0)
    b.ok(kind, endpoint)
    client = parties(Client, "c", endpoint, 1, 400, "rcs")
    client.check()
    if phase != "backed":
        state, = a.ok("freeze", b.id)
        b.ok("take", state)
    if phase == "committed":
        a.ok("commit")
    lab.ok("lab", "kill", lost)
    try:
        if lost == "b":
            wait_for(lambda: a.state()["ended"], 10, "the rollback")
            here = a
        else:
            wait_for(lambda: b.state()["promoted"] + b.state()["gone"], 10, "the end of the move")
            here = b if b.state()["promoted"] else None
        assert (here is None) == (lost == "a" and kind == "backup" and phase == "frozen")
        assert c.error("backup", (1 << 32) + (1 << 24) + 256 * (a.id if lost == "a" else b.id) + 50) == NODEUNREACH
        if lost == "b":
            assert b.error("unbackup", endpoint) == NODAEMON and b.error("backup", int(endpoint) + 1) == NODAEMON
        elif phase == "frozen":
            assert [a.error(step) for step in ("freeze", "commit", "rollback")] == [NODAEMON] * 3
        result = parties(Client, "c", endpoint, 2, 300, "rcsn").result()
        if here:
            assert result[0] == result[1] > 0 and result[2:4] == (0, 0), result
            here.move(c, endpoint)
            assert parties(Client, "c", endpoint, 3, 300, "rcs").check() > 0
        else:
            assert result[4] in (NOTBOUND, NODEUNREACH), result
    finally:
        for party in (a, b, c):
            party.process.kill()
            party.process.wait()
        lab.ok("lab", "start", lost)
        wait_for(lambda: all_are_up(lab), 20, "the nodes")


def test_who_is_cut_off_is_nobody(lab, parties):
    """Neither a primary nor a backup outlives its node's quorum."""
    # covers: dvk_bind_backup dvk_bind_replica: -DVK_ENOQUORUM: here
    a, b, c = [parties(Server, node) for node in "abc"]
    endpoint, = a.ok("bind", 0)
    b.ok("replica", endpoint)
    a.ok("freeze", b.id)
    lab.ok("lab", "cut", "a")
    try:
        wait_for(lambda: a.state()["gone"] and b.state()["promoted"], 10, "the replica's promotion")
        assert a.error("commit") == NOTBOUND
        assert a.error("backup", endpoint) == -2014
        assert parties(Client, "c", endpoint, 2, 300, "rcsn").check() > 0
    finally:
        lab.ok("lab", "heal", "a")
        wait_for(lambda: all_are_up(lab), 20, "the nodes")
    assert b.state()["gone"] == 0
    assert parties(Client, "a", endpoint, 3, 300, "rcsn").check() > 0
