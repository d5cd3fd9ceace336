# SPDX-License-Identifier: Apache-2.0
"""Privileges of endpoints: one body a test, run with all parties on one node and across nodes. libdvk does not look at its own
privileges before it sends to others, so each client here is one that tries what it may not."""
import itertools
import json
import select
import subprocess

import pytest

from dvslab import DVS
from test_primitives import DRIVER, FOREVER, NOTALLOWED, NOTBOUND, Party, ask_dvkd, introduce

SEND, SENDREC, NOTIFY, RELAY, GRANT, COPY, GROUP, SERVICE, MIGRATE, BIND, PRIVILEGE = (1 << bit for bit in range(11))
EVERYTHING = (1 << 11) - 1
ALL, SERVERS = 1, 2
ANYBODY, NOBODY = (ALL, 0, 0), (0, 0, 0)
MARK = 99
services = itertools.count(180)


class Inside(Party):
    """One that runs in its node's namespaces, as who grants memory has to."""

    def __init__(self, lab, node, dc):  # pylint: disable=super-init-not-called
        self.lab, self.node, self.node_id, self.self = lab, node, "abc".index(node) + 1, 0
        self.process = subprocess.Popen([DVS, "lab", "exec", node, DRIVER, f"/run/dvs/lab/{lab.name}/{node}/dvkd.sock", str(dc)],
                                        env=lab.env, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def just(party):
    return 0, party.self, party.self


@pytest.fixture(scope="module")
def dc_id(lab):
    lab.ok("dc", "create", "privileges")
    yield json.loads(lab.ok("inspect", "--format", "json", "privileges"))[0]["id"]
    lab.ok("rm", "-f", "privileges")


@pytest.fixture(params=["aaa", "abc", "aab"], ids=["local", "remote", "mixed"])
def parties(request, lab, dc_id):
    """A server, a client, and a third who may set privileges."""
    made = []
    try:
        for node in request.param:
            made.append(Inside(lab, node, dc_id))
            made[-1].bind()
        yield made
    finally:
        for party in made:
            party.end()


def set_for(third, whose, calls=EVERYTHING, to=ANYBODY, sources=ANYBODY):
    third.ok("set_privileges", third.self, whose.self, calls, *to, *sources)


def first_of(one, other):
    """Which of the two answers first."""
    ready = select.select([one.process.stdout, other.process.stdout], [], [], 15)[0]
    assert ready, "nobody answers"
    return one if one.process.stdout in ready else other


def refuse_or_take(client, server, third, how):
    """Does a send or request of the client arrive? It must be refused at once if not."""
    server.start("receive", FOREVER)
    client.start(how, client.self, server.self, 1, 5, 100, FOREVER)
    if first_of(client, server) is client:
        assert client.finish()[0] == NOTALLOWED
        third.start("sendrec", third.self, server.self, MARK, 0, 0, FOREVER)
        _, handle, source, kind, *_ = server.finish()
        assert (source, kind) == (third.self, MARK)  # nothing else was there
        server.ok("reply", handle, 0, 0, 0)
        assert third.finish()[0] == 0
        return False
    _, handle, source, kind, *_ = server.finish()
    assert (source, kind) == (client.self, 1)
    server.ok(*(("reply", handle, 0, 0, 0) if how == "sendrec" else ("release", handle)))
    assert client.finish()[0] == 0
    return True


CALLS = {"send": SEND, "sendrec": SENDREC, "notify": NOTIFY, "post": SEND, "relay": RELAY, "grant": GRANT, "vcopy": COPY,
         "join": GROUP, "put": SERVICE, "bind": BIND, "set_privileges": PRIVILEGE}


def try_notify_or_post(client, server, third, how, may_ask):
    client.ok(*(("notify", client.self, server.self, 4) if how == "notify" else ("post", client.self, server.self, 1, 5, 0, FOREVER)))
    if may_ask:  # comes behind it
        client.start("sendrec", client.self, server.self, MARK, 0, 0, FOREVER)
    handle, source, kind, bits, *_ = server.receive()
    assert source == client.self
    taken = kind != MARK
    if taken:
        assert (kind, bits) == ((0, 4) if how == "notify" else (1, 0))
        server.ok("release", handle)
        if may_ask:
            handle = server.receive()[0]
    if may_ask:
        server.ok("reply", handle, 0, 0, 0)
        assert client.finish()[0] == 0
    return taken


def try_call(parties, how, may_ask):
    """Is the client allowed that? may_ask: it may make requests."""
    server, client, third = parties
    if how in ("send", "sendrec"):
        return refuse_or_take(client, server, third, how)
    if how in ("notify", "post"):
        return try_notify_or_post(client, server, third, how, may_ask)
    if how == "relay":
        third.start("sendrec", third.self, client.self, 1, 0, 0, FOREVER)
        client.ok("relay", client.receive()[0], server.self)
        server.start("receive", FOREVER)
        if first_of(third, server) is third:
            assert third.finish()[0] == NOTALLOWED
            third.start("sendrec", third.self, server.self, MARK, 0, 0, FOREVER)
        handle, source, kind, *_ = server.finish()[1:]
        server.ok("reply", handle, 0, 0, 0)
        assert source == third.self and third.finish()[0] == 0
        return kind != MARK
    if how == "vcopy":
        error, = client.do("vcopy", client.self, server.self, server.ok("grant", server.self, client.self)[0])
    elif how == "bind":
        error, other = client.do("bind", 0)
        if error == 0:
            client.ok("unbind", other)
    else:
        arguments = {"grant": (client.self, server.self), "join": (client.self,), "put": (client.self,),
                     "set_privileges": (client.self, server.self, EVERYTHING, *ANYBODY, *ANYBODY)}[how]
        error = client.do(how, *arguments)[0]
    assert error in (0, NOTALLOWED)
    return error == 0


def posts_are_told(server, client, third):
    """That an earlier one was refused, a later one says."""
    server.start("receive", FOREVER)
    for count in range(1000):
        error, = client.do("post", client.self, server.self, 1, 5, 0, FOREVER)
        if error:
            break
    assert error == NOTALLOWED and count < 999
    third.start("sendrec", third.self, server.self, MARK, 0, 0, FOREVER)
    _, handle, source, *_ = server.finish()
    assert source == third.self
    server.ok("reply", handle, 0, 0, 0)
    assert third.finish()[0] == 0


@pytest.mark.parametrize("how", CALLS)
def test_calls(parties, how):
    server, client, third = parties
    right = CALLS[how]
    introduce(client, server)
    introduce(third, client)
    assert try_call(parties, how, True)
    set_for(third, client, EVERYTHING & ~right)
    assert not try_call(parties, how, right != SENDREC)
    if how == "post":
        posts_are_told(server, client, third)
    set_for(third, client, right)
    assert try_call(parties, how, right == SENDREC)
    set_for(third, client, EVERYTHING)
    assert try_call(parties, how, True)


def test_whom_it_may_address(parties):
    server, client, third = parties
    service = server.ok("bind", (1 << 24) + server.node_id * 256 + next(services))[0]
    set_for(third, client, to=just(server))
    assert refuse_or_take(client, server, third, "sendrec")
    assert client.do("sendrec", client.self, third.self, 1, 0, 0, FOREVER)[0] == NOTALLOWED
    assert client.do("send", client.self, service, 1, 0, 0, FOREVER) == [NOTALLOWED]
    set_for(third, client, to=(SERVERS, 0, 0))
    assert not refuse_or_take(client, server, third, "send")
    client.start("send", client.self, service, 3, 0, 0, FOREVER)
    server.ok("release", server.receive()[0])
    assert client.finish() == [0]
    slot = server.self & 0xffffffff
    set_for(third, client, to=(0, slot, slot))
    assert refuse_or_take(client, server, third, "send")
    assert client.do("info", client.self, third.self)[0] == 0  # to ask the DVK is no message to anybody
    client.start("sendrec", client.self, client.self, 1, 0, 0, FOREVER)
    assert client.finish()[0] != 0


def test_from_whom_it_takes(parties):
    server, client, third = parties
    introduce(client, server)
    set_for(third, server, sources=just(third))
    for how in "send", "sendrec":
        assert not refuse_or_take(client, server, third, how)
    set_for(third, server, sources=just(client))
    assert refuse_or_take(client, server, third, "sendrec")
    assert not refuse_or_take(third, server, client, "sendrec")
    server.start("sendrec", server.self, third.self, 1, 0, 0, FOREVER)  # a reply is no message from somebody
    third.ok("reply", third.receive()[0], 0, 7, 0)
    assert server.finish()[:3] == [0, 0, 7]
    set_for(third, server)
    third.start("send", third.self, server.self, 3, 0, 0, FOREVER)
    server.ok("release", server.receive()[0])
    assert third.finish() == [0]


def test_narrowing_stays(parties):
    _, client, third = parties
    assert client.ok("privileges", client.self, client.self) == [EVERYTHING, ALL, 0, ALL, 0]
    less = EVERYTHING & ~SEND
    client.ok("set_privileges", client.self, client.self, less, SERVERS, 70, 80, *ANYBODY)
    narrowed = [less, SERVERS, 1, ALL, 0]
    assert third.ok("privileges", third.self, client.self) == narrowed
    assert client.do("set_privileges", client.self, client.self, EVERYTHING, *ANYBODY, *ANYBODY) == [NOTALLOWED]
    assert client.do("set_privileges", client.self, client.self, less, *ANYBODY, *ANYBODY) == [NOTALLOWED]
    client.ok("unbind", client.self)
    client.bind()
    assert third.ok("privileges", third.self, client.self) == narrowed
    assert client.do("set_privileges", client.self, client.self, EVERYTHING, *ANYBODY, *ANYBODY) == [NOTALLOWED]
    set_for(third, client)
    assert client.ok("privileges", client.self, client.self) == [EVERYTHING, ALL, 0, ALL, 0]


# covers: dvk_set_privileges: -DVK_ENOTALLOWED -DVK_ENOTBOUND: here
# covers: dvk_get_privileges: -DVK_ENOTBOUND: here
def test_who_may_set_those_of_others(parties):
    server, client, third = parties
    set_for(third, client, EVERYTHING & ~PRIVILEGE)
    assert client.do("set_privileges", client.self, server.self, 0, *NOBODY, *NOBODY) == [NOTALLOWED]
    assert client.ok("privileges", client.self, server.self) == [EVERYTHING, ALL, 0, ALL, 0]
    set_for(third, client, PRIVILEGE, NOBODY, NOBODY)  # it needs nothing else
    client.ok("set_privileges", client.self, server.self, SEND, *NOBODY, *NOBODY)
    assert third.ok("privileges", third.self, server.self) == [SEND, 0, 0, 0, 0]
    assert client.do("set_privileges", client.self, server.self, 1 << 11, *ANYBODY, *ANYBODY) == [-22]
    gone = server.self
    server.ok("unbind", gone)
    assert third.do("set_privileges", third.self, gone, 0, *NOBODY, *NOBODY) == [NOTBOUND]
    assert third.do("privileges", third.self, gone)[0] == NOTBOUND


def test_changes_hold_for_the_next_message(parties):
    server, client, third = parties
    introduce(client, server)
    server.start("serve", MARK)
    for i in range(30):
        set_for(third, client, EVERYTHING if i % 2 else EVERYTHING & ~SENDREC)
        assert client.do("sendrec", client.self, server.self, 1, 0, 0, FOREVER)[0] == (0 if i % 2 else NOTALLOWED)
        set_for(third, client)
        set_for(third, server, sources=ANYBODY if i % 2 else just(third))
        assert client.do("sendrec", client.self, server.self, 1, 0, 0, FOREVER)[0] == (0 if i % 2 else NOTALLOWED)
        set_for(third, server)
    assert client.do("sendrec", client.self, server.self, MARK, 0, 0, FOREVER)[0] == 0
    assert server.finish() == [0, 30]


def test_changes_while_messages_flow(parties):
    server, client, third = parties
    introduce(client, server)
    count = 2000
    server.start("serve", MARK)
    client.start("storm", client.self, server.self, count)
    changes = 0
    while not select.select([client.process.stdout], [], [], 0)[0]:
        set_for(third, client, EVERYTHING & ~SENDREC if changes % 2 == 0 else EVERYTHING)
        changes += 1
    _, answered, refused, others = client.finish()
    assert answered + refused == count and others == 0 and changes
    set_for(third, client)
    assert client.do("sendrec", client.self, server.self, MARK, 0, 0, FOREVER)[0] == 0
    assert server.finish() == [0, answered]  # what was refused did not arrive, what was answered did


def test_what_people_see(lab, parties):
    server, client, third = parties
    introduce(client, server)
    set_for(third, client, SENDREC | NOTIFY, to=(SERVERS, 70, 80))
    assert not refuse_or_take(client, server, third, "send")
    slot = client.self & 0xffffffff
    seen, = [e for e in ask_dvkd(lab, client.node, "debug.endpoints")["endpoints"] if e["slot"] == slot]
    assert seen["privileges"] == "sendrec,notify to servers,70-80 from all" and seen["refused"] >= 1
    row, = [line.split() for line in lab.ok("debug", "snapshot", "privileges").splitlines() if line.split()[1] == str(slot)]
    assert row[-1] == str(seen["refused"]) and "sendrec,notify" in row
    events = {line.split()[1] for line in lab.ok("debug", "record", client.node).splitlines() if line}
    assert {"privileges", "refused"} <= events
