# SPDX-License-Identifier: Apache-2.0
"""The DVK's primitives: one body a test, run with all parties on one node and across nodes."""
import itertools
import json
import os
import select
import socket
import subprocess

import pytest

from dvslab import BUILD, wait_for

DRIVER = os.path.join(BUILD, "tests", "system", "dvk_driver")
ANY = (1 << 64) - 1
NOTBOUND, DEADSRC, DEADDST, NODC, NODEUNREACH, NOTALLOWED, DEADLOCK, TIMEDOUT, INTERRUPTED = range(-2001, -2010, -1)
NOSLOT, SLOTBUSY = -2011, -2012
FOREVER = -1
services = itertools.count(100)  # system slots that nobody else uses


class Party:
    """A process of libdvk on a node of the lab, with one endpoint."""

    def __init__(self, lab, node, dc):
        self.lab, self.node = lab, node
        self.node_id = "abcdefgh".index(node) + 1
        self.process = subprocess.Popen([DRIVER, f"/run/dvs/lab/{lab.name}/{node}/dvkd.sock", str(dc)], text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.self = 0

    def start(self, name, *arguments):
        """A call that is not waited for."""
        self.process.stdin.write(" ".join([name, *map(str, arguments)]) + "\n")

    def finish(self):
        """The result of what was started: numbers."""
        assert select.select([self.process.stdout], [], [], 15)[0], f"{self.node}: no answer"
        line = self.process.stdout.readline()
        assert line, f"{self.node}: the driver has ended"
        return [int(word) for word in line.split()]

    def do(self, name, *arguments):
        self.start(name, *arguments)
        return self.finish()

    def ok(self, name, *arguments):
        result = self.do(name, *arguments)
        assert result[0] == 0, (name, arguments, result)
        return result[1:]

    def bind(self, slot=0):
        self.self, = self.ok("bind", slot)
        return self.self

    def receive(self, kind="receive", *arguments, timeout=10000):
        """(handle, source, type, bits, word, wants reply, sum of data, node)"""
        return self.ok(kind, *arguments, timeout)

    def receive_from(self, source, timeout=10000):
        return self.receive("receive_from", self.self, source, timeout=timeout)

    def kill(self):
        """Its end; it may have lost its dvkd already."""
        self.process.kill()
        self.process.wait()

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def ask_dvkd(lab, node, op):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"/run/dvs/lab/{lab.name}/{node}/dvs.sock")
        connection.sendall(json.dumps({"op": op}).encode() + b"\n")
        return json.loads(connection.makefile().readline())


def wait_watched(lab, party):
    """Until somebody waits for the end of that endpoint."""
    slot = party.self & 0xffffffff
    wait_for(lambda: any(e["slot"] == slot and e["watched"] for e in ask_dvkd(lab, party.node, "debug.endpoints")["endpoints"]), 20,
             "a watch")


@pytest.fixture(scope="module")
def dc_id(lab):
    name = lab.ok("run", "-d", "--image", "host", "--", "sleep", "1000").strip()
    yield json.loads(lab.ok("inspect", "--format", "json", name))[0]["id"]
    lab.ok("rm", "-f", name)


@pytest.fixture(params=["aaa", "abc", "aab"], ids=["local", "remote", "mixed"])
def parties(request, lab, dc_id):
    """Three bound parties: all on one node, each on its own, and two and one."""
    made = []
    try:
        for node in request.param:
            made.append(Party(lab, node, dc_id))
            made[-1].bind()
        yield made
    finally:
        for party in made:
            party.end()


def introduce(client, server):
    """One round trip: calls that do not block go their way at once from now on, without a word from dvkd."""
    client.start("sendrec", client.self, server.self, 0, 0, 0, FOREVER)
    handle, _, kind, *_ = server.receive()
    assert kind == 0
    server.ok("reply", handle, 0, 0, 0)
    assert client.finish()[0] == 0


# ---- send, receive, sendrec, reply, notify


def test_sendrec_and_reply(parties):
    server, client, _ = parties
    client.start("sendrec", client.self, server.self, 7, 11, 5000, FOREVER)
    handle, source, kind, bits, word, wants, data, node = server.receive()
    assert (source, kind, bits, word, wants, node) == (client.self, 7, 0, 11, 1, client.node_id)
    assert [data] == server.ok("sum", 11, 5000)
    server.ok("reply", handle, -22, 33, 60000)
    assert client.finish() == [0, -22, 33, server.self, *client.ok("sum", 33, 60000)]


def test_send_is_a_rendezvous(parties):
    server, client, _ = parties
    assert client.do("send", client.self, server.self, 1, 1, 0, 300) == [TIMEDOUT]
    client.start("sendrec", client.self, server.self, 0, 0, 0, FOREVER)
    handle = server.receive("receive_request", server.self, ANY)[0]
    assert server.do("receive", 0) == [TIMEDOUT]  # what was taken back before it is not there
    server.ok("reply", handle, 0, 0, 0)
    assert client.finish()[0] == 0
    client.start("send", client.self, server.self, 2, 2, 100, FOREVER)
    handle, source, kind, *_, data, _ = server.receive()
    assert (source, kind, [data]) == (client.self, 2, server.ok("sum", 2, 100))
    server.ok("release", handle)
    assert client.finish() == [0]


def test_notifications_coalesce_and_go_first(parties):
    server, client, third = parties
    introduce(client, server)
    introduce(third, server)
    client.ok("notify", client.self, server.self, 1)
    handle, source, kind, bits, *_ = server.receive()
    assert (source, kind, bits) == (client.self, 0, 1)
    server.ok("release", handle)
    third.ok("call", third.self, server.self, 5, 0, 0)
    for bit in range(8):
        client.ok("notify", client.self, server.self, 1 << bit)
    client.start("sendrec", client.self, server.self, 9, 0, 0, FOREVER)  # after them, in the same order
    seen, count = 0, 0
    while seen != 255:
        handle, source, kind, bits, *_ = server.receive_from(client.self)
        assert source == client.self and kind == 0 and bits & seen == 0
        seen, count = seen | bits, count + 1
        server.ok("release", handle)
    assert count <= 8
    server.ok("reply", server.receive_from(client.self)[0], 0, 0, 0)
    assert client.finish()[0] == 0
    handle, source, *_ = server.receive_from(third.self)
    server.ok("reply", handle, 0, 0, 0)
    assert third.do("done")[0] == 0


# ---- filters


def test_filter_lets_nobody_else_through(parties):
    server, first, second = parties
    introduce(first, server)
    first.ok("call", first.self, server.self, 1, 1, 0)
    first.ok("call", first.self, server.self, 1, 2, 0)
    first.start("done")
    second.start("sendrec", second.self, server.self, 1, 3, 0, FOREVER)
    handle, source, *_, word = server.receive_from(second.self)[:5]
    assert (source, word) == (second.self, 3)
    assert server.do("receive_from", server.self, second.self, 200) == [TIMEDOUT]
    server.ok("reply", handle, 0, 0, 0)
    assert second.finish()[0] == 0
    for expected in (1, 2):  # what it left comes in order
        handle, source, _, _, word, *_ = server.receive()
        assert (source, word) == (first.self, expected)
        server.ok("reply", handle, 0, word, 0)
    assert first.finish()[:3] == [0, 0, 1]
    assert first.do("done")[:3] == [0, 0, 2]


def test_receive_request_leaves_sends_and_notifications(parties):
    server, first, second = parties
    introduce(first, server)
    first.ok("notify", first.self, server.self, 4)
    first.start("send", first.self, server.self, 2, 0, 0, FOREVER)
    assert server.do("receive_request", server.self, ANY, 300) == [TIMEDOUT]
    second.start("sendrec", second.self, server.self, 3, 0, 0, FOREVER)
    handle, source, kind, *_ = server.receive("receive_request", server.self, ANY)
    assert (source, kind) == (second.self, 3)
    server.ok("reply", handle, 0, 0, 0)
    assert second.finish()[0] == 0
    assert server.do("receive_request", server.self, first.self, 0) == [TIMEDOUT]
    handle, _, _, bits, *_ = server.receive_from(first.self)
    assert bits == 4
    server.ok("release", handle)
    handle, _, kind, bits, *_ = server.receive_from(first.self)
    assert (kind, bits) == (2, 0)
    server.ok("release", handle)
    assert first.finish() == [0]


def test_filter_on_what_is_not_there(parties):
    server, client, _ = parties
    gone = client.self
    client.ok("unbind", gone)
    assert server.do("receive_from", server.self, gone, FOREVER) == [NOTBOUND]
    assert server.do("receive_request", server.self, gone, FOREVER) == [NOTBOUND]
    client.bind()
    assert client.do("receive_from", gone, ANY, FOREVER) == [NOTBOUND]
    assert server.do("receive_from", server.self, gone & 0xffffffff, FOREVER) == [-22]


@pytest.mark.parametrize("how", ["killed", "unbound"])
def test_filter_on_a_source_that_goes(lab, parties, how):
    server, client, _ = parties
    gone = client.self
    server.start("receive_from", server.self, gone, FOREVER)
    wait_watched(lab, client)
    if how == "killed":
        client.kill()
    else:
        client.ok("unbind", gone)
    assert server.finish() == [DEADSRC]
    assert server.do("receive_from", server.self, gone, FOREVER) == [NOTBOUND]


# ---- waiting for endpoints


def service(party, number):
    return (1 << 24) + party.node_id * 256 + number


def test_wait_bind(parties):
    waiter, other, _ = parties
    slot = service(other, next(services))
    assert waiter.do("wait_bind", waiter.self, slot, 0) == [TIMEDOUT, 0]
    assert waiter.do("wait_bind", waiter.self, slot, 200) == [TIMEDOUT, 0]
    waiter.start("wait_bind", waiter.self, slot, FOREVER)
    bound = other.bind(slot)
    assert waiter.finish() == [0, bound]
    assert waiter.do("wait_bind", waiter.self, bound, FOREVER) == [0, bound]
    other.ok("unbind", bound)
    assert waiter.do("wait_bind", waiter.self, bound, FOREVER) == [NOTBOUND, 0]
    assert waiter.do("wait_bind", 12345, bound, FOREVER) == [NOTBOUND, 0]
    assert waiter.do("wait_bind", waiter.self, ANY, FOREVER) == [-22, 0]


@pytest.mark.parametrize("how", ["killed", "unbound"])
def test_wait_unbind(lab, parties, how):
    waiter, other, _ = parties
    gone = other.self
    assert waiter.do("wait_unbind", waiter.self, gone, 0) == [TIMEDOUT]
    assert waiter.do("wait_unbind", waiter.self, gone, 200) == [TIMEDOUT]
    waiter.start("wait_unbind", waiter.self, gone, FOREVER)
    wait_watched(lab, other)
    if how == "killed":
        other.kill()
    else:
        other.ok("unbind", gone)
    assert waiter.finish() == [0]
    assert waiter.do("wait_unbind", waiter.self, gone, FOREVER) == [0]


def test_info_of_an_endpoint(parties, dc_id):
    asker, other, third = parties
    assert asker.do("info", asker.self, other.self) == [0, other.self, dc_id, other.node_id]
    assert asker.do("info", asker.self, other.self & 0xffffffff) == [0, other.self, dc_id, other.node_id]
    assert asker.do("info", asker.self, asker.self) == [0, asker.self, dc_id, asker.node_id]
    third.ok("unbind", third.self)
    assert asker.do("info", asker.self, third.self)[0] == NOTBOUND
    assert asker.do("info", asker.self, service(other, next(services)))[0] == NOTBOUND
    assert asker.do("info", third.self, other.self)[0] == NOTBOUND


# ---- ends


def test_destination_dies(parties):
    server, client, _ = parties
    client.start("sendrec", client.self, server.self, 1, 0, 0, FOREVER)
    server.receive()
    server.kill()
    assert client.finish()[0] == DEADDST
    assert client.do("sendrec", client.self, server.self, 1, 0, 0, FOREVER)[0] == NOTBOUND
    assert client.do("send", client.self, server.self, 1, 0, 0, FOREVER) == [NOTBOUND]


def test_requester_dies(parties):
    server, client, _ = parties
    client.start("sendrec", client.self, server.self, 1, 0, 0, FOREVER)
    handle = server.receive()[0]
    client.kill()
    wait_for(lambda: server.do("receive", 50) == [TIMEDOUT] and server.ok("cancelled", handle) == [1], 20, "its cancellation")
    server.ok("reply", handle, 0, 0, 0)  # goes nowhere




# ---- relay


def test_relay(parties):
    front, client, back = parties
    client.start("sendrec", client.self, front.self, 7, 11, 70000 // 2, FOREVER)
    handle = front.receive()[0]
    front.ok("relay", handle, back.self)
    handle, source, kind, _, word, wants, data, node = back.receive()
    assert (source, kind, word, wants, node) == (client.self, 7, 11, 1, client.node_id)
    assert [data] == back.ok("sum", 11, 35000)
    front.kill()  # it has no part in it any more
    back.ok("reply", handle, 5, 6, 100)
    assert client.finish() == [0, 5, 6, back.self, *client.ok("sum", 6, 100)]


def test_relay_of_a_call_and_its_cancellation(parties):
    front, client, back = parties
    introduce(client, front)
    call, = client.ok("call", client.self, front.self, 1, 2, 10)
    front.ok("relay", front.receive()[0], back.self)
    client.start("receive", 10000)  # and there it is made again
    handle, source, *_ = back.receive()
    assert source == client.self
    back.start("send", back.self, client.self, 0, 0, 0, FOREVER)
    client.ok("release", client.finish()[1])
    assert back.finish() == [0]
    assert client.do("cancel", call) == [0]
    wait_for(lambda: back.do("receive", 50) == [TIMEDOUT] and back.ok("cancelled", handle) == [1], 20, "its cancellation")
    back.ok("reply", handle, -4, 0, 0)
    assert client.do("done")[:2] == [0, -4]


def test_relay_by_the_requester_itself(parties):
    front, client, back = parties
    introduce(client, front)
    client.ok("call", client.self, front.self, 1, 2, 10)
    front.ok("relay", front.receive()[0], client.self)
    handle, source, *_ = client.receive()
    assert source == client.self
    client.ok("relay", handle, back.self)
    client.start("done")
    handle, source, _, _, word, *_ = back.receive()
    assert (source, word) == (client.self, 2)
    back.ok("reply", handle, 3, 4, 0)
    assert client.finish()[:4] == [0, 3, 4, back.self]


def test_relay_to_one_that_dies_or_is_not_there(parties):
    front, client, back = parties
    for _ in range(2):
        client.start("sendrec", client.self, front.self, 1, 0, 0, FOREVER)
        front.ok("relay", front.receive()[0], back.self)
        if back.process.poll() is None:
            back.receive()
            back.kill()
            assert client.finish()[0] == DEADDST
        else:
            assert client.finish()[0] == NOTBOUND


def test_relay_of_what_cannot_be(parties):
    front, client, back = parties
    client.start("send", client.self, front.self, 1, 0, 1, FOREVER)
    handle = front.receive()[0]
    assert front.do("relay", handle, back.self) == [-22]
    front.ok("release", handle)
    assert client.finish() == [0]
    client.start("sendrec", client.self, front.self, 1, 0, 0, FOREVER)
    handle = front.receive()[0]
    assert front.do("relay", handle, 0) == [-22] and front.do("relay", handle, ANY) == [-22]
    front.ok("relay", handle, client.self)  # whom it would wait for
    assert client.finish()[0] == DEADLOCK
    client.start("sendrec", client.self, front.self, 1, 0, 0, FOREVER)
    for hop in range(17):
        here, there = (front, back) if hop % 2 == 0 else (back, front)
        here.ok("relay", here.receive()[0], there.self)
    assert client.finish()[0] == -40


# ---- circles


def wait_asleep(party):
    """Until it sleeps in a futex: it has said for whom it waits."""
    def asleep():
        with open(f"/proc/{party.process.pid}/syscall", encoding="ascii") as file:
            return file.read().split()[0] == "202"
    wait_for(asleep, 20, "its sleep")


def test_who_has_given_up_waits_for_nobody(parties):
    """Its request is still held: that is no circle."""
    server, client, _ = parties
    client.start("sendrec", client.self, server.self, 1, 0, 0, 100)
    handle = server.receive()[0]
    assert client.finish()[0] == TIMEDOUT
    for how in ("send", "sendrec"):
        server.start(how, server.self, client.self, 2, 0, 0, FOREVER)
        other, source, *_ = client.receive()
        assert source == server.self
        client.ok(*(("reply", other, 0, 0, 0) if how == "sendrec" else ("release", other)))
        assert server.finish()[0] == 0
    server.ok("reply", handle, 0, 0, 0)  # goes nowhere


@pytest.fixture
def circle(lab, dc_id):
    made = [Party(lab, "a", dc_id) for _ in range(5)]
    for party in made:
        party.bind()
    yield made
    for party in made:
        party.end()


@pytest.mark.parametrize("how", ["sendrec", "send"])
@pytest.mark.parametrize("length", [2, 3, 5])
def test_who_closes_a_circle_is_refused(circle, length, how):
    members = circle[:length]
    for i, party in enumerate(members[:-1]):
        party.start(how, party.self, members[i + 1].self, 1, i, 0, FOREVER)
        wait_asleep(party)
    last = members[-1]
    assert last.do(how, last.self, members[0].self, 1, 9, 0, FOREVER)[0] == DEADLOCK
    for party, waiter in zip(members[:0:-1], members[-2::-1]):  # it goes on, and so do the others, one after another
        handle, source, *_ = party.receive("receive_from", party.self, waiter.self)
        assert source == waiter.self
        party.ok(*(("reply", handle, 0, 0, 0) if how == "sendrec" else ("release", handle)))
        assert waiter.finish()[0] == 0
    # nobody waits any more: the same ways are free
    for i, party in enumerate(members):
        introduce(party, members[(i + 1) % length])


def test_a_wait_that_has_ended_closes_no_circle(circle):
    first, second, third = circle[:3]
    for _ in range(20):
        first.start("sendrec", first.self, second.self, 1, 0, 0, FOREVER)
        wait_asleep(first)
        second.ok("reply", second.receive()[0], 0, 0, 0)  # first has been answered, and may not have noticed
        second.start("sendrec", second.self, third.self, 1, 0, 0, FOREVER)
        wait_asleep(second)
        third.start("sendrec", third.self, first.self, 1, 0, 0, FOREVER)
        assert first.finish()[0] == 0
        first.ok("reply", first.receive()[0], 0, 0, 0)
        assert third.finish()[0] == 0
        third.ok("reply", third.receive()[0], 0, 0, 0)
        assert second.finish()[0] == 0


# ---- ends of endpoints and nodes


def test_unbind_ends_what_was_not_received(parties):
    server, client, third = parties
    introduce(client, server)
    client.ok("call", client.self, server.self, 1, 0, 0)
    client.start("sendrec", client.self, server.self, 2, 0, 0, FOREVER)
    handle, _, kind, *_ = server.receive()
    assert kind == 1
    third.start("sendrec", third.self, server.self, 3, 0, 0, FOREVER)
    kept = server.receive_from(third.self)[0]
    gone = server.self
    server.ok("unbind", gone)  # the sendrec lies in the channel, or is on its way
    server.bind()
    server.start("receive", 10000)
    assert client.finish()[0] == NOTBOUND
    client.start("send", client.self, server.self, 6, 0, 0, FOREVER)
    other, _, kind, *_ = server.finish()[1:]
    assert kind == 6
    server.ok("release", other)
    assert client.finish() == [0]
    server.ok("reply", kept, 0, 5, 0)  # was received before
    assert third.finish()[:3] == [0, 0, 5]
    server.ok("reply", handle, 0, 4, 0)
    assert client.do("done")[:3] == [0, 0, 4]


@pytest.fixture
def on_three_nodes(own_lab):
    """(lab, two parties on its node c, five on a)"""
    own_lab.up(3)
    name = own_lab.ok("run", "-d", "--image", "host", "--", "sleep", "1000").strip()
    dc = json.loads(own_lab.ok("inspect", "--format", "json", name))[0]["id"]
    made = []
    try:
        for node in "ccaaaaa":
            made.append(Party(own_lab, node, dc))
            made[-1].bind()
        yield own_lab, made[:2], made[2:]
    finally:
        for party in made:
            party.end()


def test_node_is_lost(on_three_nodes):
    lab, (lost, back), here = on_three_nodes
    asker, filterer, unbind_waiter, bind_waiter, relayed = here
    asker.start("sendrec", asker.self, lost.self, 1, 0, 0, FOREVER)
    lost.receive()
    relayed.start("sendrec", relayed.self, lost.self, 1, 0, 0, FOREVER)
    lost.ok("relay", lost.receive()[0], back.self)
    back.receive()
    filterer.start("receive_from", filterer.self, lost.self, FOREVER)
    wait_watched(lab, lost)
    unbind_waiter.start("wait_unbind", unbind_waiter.self, back.self, FOREVER)
    wait_watched(lab, back)
    slot = (1 << 24) + 3 * 256 + 200
    assert bind_waiter.do("wait_bind", bind_waiter.self, slot, 100)[0] == TIMEDOUT
    bind_waiter.start("wait_bind", bind_waiter.self, slot, FOREVER)
    lab.ok("lab", "kill", "c")
    lost.kill()
    back.kill()
    for party in here:
        assert party.finish()[0] == NODEUNREACH
    # unreachable, until the others have inherited its slots
    assert filterer.do("receive_from", filterer.self, lost.self, FOREVER)[0] in (NODEUNREACH, NOTBOUND)
