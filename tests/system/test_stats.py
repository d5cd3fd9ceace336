# SPDX-License-Identifier: Apache-2.0
"""Statistics of endpoints, containers and nodes: the same for the same traffic wherever the parties are, and sums that add up."""
import json
import os

import pytest

from dvslab import wait_for
from test_migrate import Client, Server
from test_primitives import FOREVER, NODEUNREACH, NOTALLOWED, NOTBOUND, TIMEDOUT, Party, introduce

NOW = ("pending", "unanswered", "queued", "untaken")
TOTAL = ("sendrecs", "calls", "sends", "posts", "notifies", "completed", "bytes_out", "bytes_in", "arrived", "requests_in",
         "sends_in", "notifies_in", "casts_in", "replies", "relayed", "withdrawn", "casts", "loans", "posts_failed",
         "timed_out", "dead", "unreachable", "not_bound", "refused", "interrupted", "broken", "other")


def numbers(words):
    """{name: number} of what is not 0."""
    return {name: word for name, word in zip(NOW + TOTAL, words) if word}


def total(words):
    return {name: word for name, word in zip(TOTAL, words[len(NOW):]) if word}


def of_endpoint(asker, party):
    """Of a party's endpoint, as another sees it."""
    node, flags, endpoint, _, *words = asker.ok("stats", asker.self, party.self)
    assert (node, flags, endpoint) == (party.node_id, 1, party.self)
    return numbers(words)


def of_dc(asker, node=0):
    nodes, missing, endpoints, binds, *words = asker.ok("stats_dc", asker.self, node)
    assert nodes + missing == (1 if node else 3) and binds >= endpoints
    return total(words)


def summed(parts):
    out = {}
    for part in parts:
        for name, number in part.items():
            out[name] = out.get(name, 0) + number
    return out


@pytest.fixture(scope="module")
def bare(lab):
    """A container without a VOS: (name, id)."""
    lab.ok("dc", "create", "counted")
    yield "counted", json.loads(lab.ok("inspect", "--format", "json", "counted"))[0]["id"]
    lab.ok("rm", "-f", "counted")


@pytest.fixture(params=["aaa", "abc", "aab"], ids=["local", "remote", "mixed"])
def parties(request, lab, bare):
    made = []
    try:
        for node in request.param:
            made.append(Party(lab, node, bare[1]))
            made[-1].bind()
        yield made
    finally:
        for party in made:
            party.end()


def serve(server, data=0):
    """Receive one message, and answer it if it wants that. Its type."""
    handle, _, kind, _, _, wants, *_ = server.receive()
    if wants:
        server.ok("reply", handle, 0, 0, data)
    else:
        server.ok("release", handle)
    return kind


def traffic(server, client, third):
    """Some of each kind."""
    introduce(client, server)
    for size in (0, 100, 4000):
        client.start("sendrec", client.self, server.self, 1, 0, size, FOREVER)
        serve(server, 50)
        assert client.finish()[0] == 0
    client.start("send", client.self, server.self, 2, 0, 30, FOREVER)
    serve(server)
    assert client.finish() == [0]
    for size in (0, 0, 10):
        client.ok("post", client.self, server.self, 3, 0, size, 10000)
        assert serve(server) == 3
    client.ok("call", client.self, server.self, 4, 0, 7)
    serve(server, 9)
    assert client.do("done")[0] == 0
    client.ok("notify", client.self, server.self, 5)
    serve(server)
    assert client.do("sendrec", client.self, server.self, 5, 0, 20, 100)[0] == TIMEDOUT  # nobody looks
    assert client.do("sendrec", client.self, third.self & 0xffffffff | 5 << 32, 6, 0, 0, 5000)[0] == NOTBOUND
    client.start("sendrec", client.self, server.self, 7, 0, 3, FOREVER)
    # what was withdrawn, its withdrawal, and the next
    wait_for(lambda: of_endpoint(third, server).get("untaken", 0) == 3, 10, "all three at the server")
    handle, _, kind, *_ = server.receive()
    assert kind == 7
    server.ok("relay", handle, third.self)
    serve(third, 11)
    assert client.finish()[0] == 0


CLIENT = {"sendrecs": 7, "calls": 1, "sends": 1, "posts": 3, "notifies": 1, "completed": 7,
          "bytes_out": 100 + 4000 + 30 + 10 + 7 + 20 + 3, "bytes_in": 3 * 50 + 9 + 11, "timed_out": 1, "not_bound": 1}
SERVER = {"arrived": 12, "requests_in": 6, "sends_in": 4, "notifies_in": 1, "replies": 5, "relayed": 1, "withdrawn": 1,
          "bytes_in": 100 + 4000 + 30 + 10 + 7 + 3, "bytes_out": 3 * 50 + 9}
THIRD = {"arrived": 1, "requests_in": 1, "replies": 1, "bytes_in": 3, "bytes_out": 11}


def test_the_same_traffic_gives_the_same_numbers(parties):
    server, client, third = parties
    before = of_dc(third)
    traffic(server, client, third)
    for asker in parties:
        assert of_endpoint(asker, client) == CLIENT
        assert of_endpoint(asker, server) == SERVER
        assert of_endpoint(asker, third) == THIRD
    after = of_dc(third)
    assert after == summed([before, CLIENT, SERVER, THIRD])
    assert after == summed(of_dc(client, node) for node in (1, 2, 3))


def test_what_is_under_way(parties):
    server, client, third = parties
    introduce(client, server)
    introduce(third, server)
    client.start("sendrec", client.self, server.self, 1, 0, 0, FOREVER)
    handle = server.receive()[0]
    assert third.do("call", third.self, server.self, 2, 0, 0)[0] == 0

    def seen(party, name):
        return of_endpoint(third, party).get(name, 0)
    wait_for(lambda: seen(server, "untaken") == 1, 10, "the call at the server")
    assert seen(client, "pending") == seen(third, "pending") == seen(server, "unanswered") == 1
    assert server.do("receive_from", server.self, client.self, 0) == [TIMEDOUT]
    assert (seen(server, "untaken"), seen(server, "queued")) == (0, 1)
    assert serve(server) == 2
    assert third.do("done")[0] == 0
    server.ok("reply", handle, 0, 0, 0)
    assert client.finish()[0] == 0
    for party in parties:
        assert not set(of_endpoint(third, party)) & set(NOW)


def test_a_killed_process_stays_in_the_sums(lab, bare, parties):
    server, client, third = parties
    traffic(server, client, third)
    before = {node: of_dc(third, node) for node in (1, 2, 3)}
    shown = lab.json("debug", "stats", bare[0])["total"]
    client.kill()
    third.ok("wait_unbind", third.self, client.self, 10000)
    server.kill()
    third.ok("wait_unbind", third.self, server.self, 10000)
    assert {node: of_dc(third, node) for node in (1, 2, 3)} == before
    assert third.do("stats", third.self, client.self)[0] == NOTBOUND
    now = lab.json("debug", "stats", bare[0])["total"]
    assert now["endpoints"] == shown["endpoints"] - 2
    assert {name: now[name] for name in TOTAL if name in now} == {name: shown[name] for name in TOTAL if name in shown}
    assert now["errors"] == shown["errors"] and shown["errors"]["timed_out"] >= 1


def test_the_command_shows_them(lab, bare, parties):
    server, client, third = parties
    traffic(server, client, third)
    rows = {row["slot"]: row for row in lab.json("debug", "stats", "--endpoints", bare[0])}
    row = rows[client.self & 0xffffffff]
    assert row["node"] == client.node and row["role"] == "program" and row["since"] > 1600000000000
    assert {name: row[name] for name in TOTAL if name in row} == {
        name: number for name, number in CLIENT.items() if name not in ("timed_out", "not_bound")}
    assert row["errors"] == {"timed_out": 1, "not_bound": 1}
    shown = lab.json("debug", "stats", bare[0])
    assert {node["node"] for node in shown["nodes"]} == {"a", "b", "c"}
    assert numbers([shown["total"].get(name, 0) for name in NOW + TOTAL]) == numbers(
        [sum(node.get(name, 0) for node in shown["nodes"]) for name in NOW + TOTAL])
    assert shown["total"]["endpoints"] == 3 and shown["total"]["channels"] >= 1 and shown["total"]["channel_bytes"] > 0
    slot = str(client.self & 0xffffffff)
    assert "sendrecs" in lab.ok("debug", "stats", "--endpoint", slot, bare[0])
    assert "error: timed_out" in lab.ok("debug", "stats", "--endpoint", slot, bare[0])
    assert lab.dvs("debug", "stats", "--endpoint", "77", bare[0]).code == 3
    assert lab.dvs("debug", "stats", "nosuch").code == 3
    for wrong in (["--endpoints"], ["--watch", "0"], ["--endpoint", "x", bare[0]], ["a", "b"]):
        assert lab.dvs("debug", "stats", *wrong).code == 2, wrong
    # a node's containers, and the same as metrics
    node = lab.json("--node", client.node, "debug", "stats")
    container = next(one for one in node["containers"] if one["name"] == bare[0])
    assert container["sendrecs"] == of_dc(third, client.node_id)["sendrecs"]
    assert node["total"]["sendrecs"] >= container["sendrecs"]
    metrics = lab.ok("--node", client.node, "metrics").splitlines()
    assert f'dvs_container_sendrecs_total{{node="{client.node}",name="counted",state="running"}} {container["sendrecs"]}' in metrics
    assert f'dvs_container_errors_total{{node="{client.node}",name="counted",state="running",class="timed_out"}} ' \
           f'{container["errors"]["timed_out"]}' in metrics
    assert any(line.startswith(f'dvs_link_frames_out_total{{node="{client.node}",name=') for line in metrics)
    table = lab.ok("debug", "stats", bare[0])
    assert table.splitlines()[0].split()[:4] == ["NODE", "ENDPOINTS", "CHANNELS", "MEMORY"] and "all" in table


def test_who_waits_for_whom(lab, bare, parties):
    server, client, _ = parties
    introduce(client, server)
    client.start("sendrec", client.self, server.self, 1, 0, 0, FOREVER)
    handle = server.receive()[0]

    def row():
        return next(one for one in lab.json("debug", "stats", "--endpoints", bare[0]) if one["slot"] == client.self & 0xffffffff)
    if server.node == client.node:
        wait_for(lambda: row().get("waits_for") == server.self & 0xffffffff, 10, "the wait")
    assert row()["pending"] == 1
    server.ok("reply", handle, 0, 0, 0)
    assert client.finish()[0] == 0
    assert "waits_for" not in row() and "pending" not in row()


def test_nodes_and_containers(lab, bare):
    # covers: dvk_stats_node: -DVK_ENODEUNREACH -DVK_ENOTALLOWED: here
    party, root = Party(lab, "a", bare[1]), Party(lab, "b", 0)
    try:
        party.bind()
        root.bind()
        kind, sets, free, endpoints, *nodes = party.do("info_dc", bare[1])[1:]
        assert (kind, endpoints) == (1, 1) and nodes[0::3] == [1, 2, 3] and nodes[1::3] == [1, 1, 1]
        assert sum(nodes[2::3]) + free == sets
        assert party.do("info_dc", 4000)[0] == -2004
        assert party.do("stats_node", party.self, 1)[0] == NOTALLOWED
        for node in (0, 1, 3):
            told, endpoints, binds, packets, *_ = root.ok("stats_node", root.self, node)
            assert told == (node or 2) and binds >= endpoints and packets > 0
        assert root.do("stats_node", root.self, 9)[0] == NODEUNREACH
        first = root.ok("stats_node", root.self, 1)
        assert total(first[4:])["sendrecs"] >= of_dc(party, 1).get("sendrecs", 0)
    finally:
        party.end()
        root.end()


def test_an_endpoint_that_has_moved(lab, bare):
    """It counts on where it is now; what it has counted before stays in the sums of where it was."""
    old, new, party = Server(lab, "a", bare[1]), Server(lab, "b", bare[1]), Party(lab, "a", bare[1])
    try:
        party.bind()
        before = of_dc(party, 1).get("replies", 0)
        endpoint, = old.ok("bind", 0)
        client = Client(lab, "c", bare[1], endpoint, 1, 1500, "r")
        wait_for(lambda: numbers(party.ok("stats", party.self, endpoint)[4:]).get("replies", 0) > 10, 10, "some calls")
        old.move(new, endpoint)
        sent = client.check()
        node, flags, found, _, *words = party.ok("stats", party.self, endpoint)
        assert (node, flags, found) == (2, 1, int(endpoint))
        there, here = numbers(words)["replies"], of_dc(party, 1)["replies"] - before
        assert there > 10 and here > 10 and there + here <= sent + 1  # the client asks once more at its end
    finally:
        for server in (old, new):
            server.kill()
        party.end()


def test_watch_goes_on(lab, bare):
    watching = lab.start("debug", "stats", "--watch", "1", bare[0])
    try:
        for _ in range(2):
            while not watching.stdout.readline().startswith(b"all"):
                pass
    finally:
        watching.terminate()
        watching.wait()


def test_links_show_what_is_under_way(lab, bare):
    server, client = Party(lab, "b", bare[1]), Party(lab, "a", bare[1])
    try:
        server.bind()
        client.bind()
        client.start("sendrec", client.self, server.self, 1, 0, 0, FOREVER)
        handle = server.receive()[0]

        def link(node, to):
            return next(one for one in lab.json("--node", node, "node", "ls", "--links") if one["name"] == to)
        assert link("a", "b")["requests"] >= 1 and link("b", "a")["answering"] >= 1
        assert link("a", "b")["connections"] >= 1 and "stalls" in link("a", "b")
        server.ok("reply", handle, 0, 0, 0)
        assert client.finish()[0] == 0
        assert "STALLS" in lab.ok("--node", "a", "node", "ls", "--links")
    finally:
        server.end()
        client.end()


def test_the_manual_names_it():
    with open(os.path.join(os.path.dirname(__file__), "..", "..", "man", "dvs.1"), encoding="utf-8") as file:
        assert "dvs debug stats" in file.read()


def test_a_lost_node_is_missing(lab, bare):
    """The last: the lab is not as it was."""
    # covers: dvk_stats_dc dvk_stats_endpoint: -DVK_ENODEUNREACH: here
    party = Party(lab, "a", bare[1])
    try:
        party.bind()
        lab.ok("lab", "kill", "c")
        wait_for(lambda: party.ok("stats_dc", party.self, 0)[:2] == [2, 1], 30, "two nodes of three")
        assert party.do("stats_dc", party.self, 3)[0] == NODEUNREACH
        assert party.do("stats", party.self, (1 << 24) + 3 * 256 + 40)[0] == NODEUNREACH
    finally:
        party.end()
