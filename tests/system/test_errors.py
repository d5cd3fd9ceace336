# SPDX-License-Identifier: Apache-2.0
"""The errors that the headers of libdvk document, each brought about: one body, with the other party here and elsewhere.

A line "covers: CALLS: ERRORS: PLACES" says what a test shows. PLACES: local, remote: where the other party is; here: there is
none, or the call looks no further than its own arguments. tests/unit/dvk/documented_errors.py compares them with the headers.
"""
import errno
import json
import os
import signal
import time

import pytest

from callers import (ANY, CONFLICT, DEADDST, DEADLOCK, DEADSRC, FOREVER, INTERRUPTED, LOST, MIGRATING, NOBACKUP, NODAEMON, NODC,
                     NODEUNREACH, NOKEY, NOQUORUM, NOTALLOWED, NOTBOUND, NOTCARRIED, NOTGRANTED, NOTMEMBER, NOTMIGRATING, SLOTBUSY,
                     TIMEDOUT, Caller, service_slot, socket_of)
from dvslab import host_pids, wait_for
from test_primitives import ask_dvkd

INVAL, TOO_LONG, AGAIN, LOOP, NOSPC = (-number for number in (errno.EINVAL, errno.EMSGSIZE, errno.EAGAIN, errno.ELOOP, errno.ENOSPC))
KIB = 1024


@pytest.fixture(scope="module")
def dcs(lab):
    """name -> id: "calls" without a VOS, "other" too, "part" on the nodes b and c only, and a VOS's."""
    ids = {}
    for name, nodes in (("calls", "a,b,c"), ("other", "a,b,c"), ("part", "b,c")):
        lab.ok("dc", "create", name, "--nodes", nodes)
    vos = lab.ok("run", "-d", "--image", "host", "--place", "spread", "--", "sleep", "1000").strip()
    for one in lab.json("ls"):
        ids["vos" if one["name"] == vos else one["name"]] = one["id"]
    yield ids
    for name in ("calls", "other", "part", vos):
        lab.ok("rm", "-f", name)


@pytest.fixture
def callers(lab, dcs):
    """callers(node, ...): a caller on each, bound in "calls"."""
    made = []

    def make(*nodes, dc="calls", inside=False):
        new = [Caller(lab, node, dcs[dc], inside).join() for node in nodes]
        made.extend(new)
        return new
    yield make
    for one in made:
        one.end()


@pytest.fixture(params=["a", "b"], ids=["local", "remote"])
def there(request):
    """The node of the other party; ours is a."""
    return request.param


# ---- arguments


# covers: dvk_sendrec dvk_send dvk_post dvk_call dvk_notify dvk_receive_from dvk_receive_request dvk_wait_bind: -EINVAL: here
# covers: dvk_wait_unbind dvk_info_endpoint dvk_watch_endpoint dvk_watch_fd dvk_timer dvk_loan_get dvk_accept dvk_grant: -EINVAL: here
# covers: dvk_arena_create dvk_arena_destroy dvk_find_dc dvk_relay dvk_group_view_of: -EINVAL: here
# covers: dvk_kv_get dvk_kv_put dvk_kv_cas dvk_kv_delete dvk_kv_list dvk_kv_watch dvk_lock dvk_leader_campaign: -EINVAL: here
# covers: dvk_leader_get dvk_barrier dvk_group_join dvk_group_mcast dvk_get_privileges dvk_set_privileges: -EINVAL: here
def test_arguments_that_cannot_be(callers):
    me, peer = callers("a", "a")
    s, to = me.self, [peer.self, 1]
    memory, = me.ok("address", 4096)
    group, = me.ok("group_join", s, "arguments", 5000)
    handle = me.take()
    for call in (("sendrec", s, [0, 1], 0, 1000), ("sendrec", s, to, -5, 1000), ("send", s, [0, 1], 0, 1000), ("send", s, to, -5, 1000),
                 ("post", s, [0, 1], 0, 1000), ("post", s, to, -5, 1000), ("call", s, [0, 1], 0, True), ("call", s, to, -5, True),
                 ("call", s, to, 0, False), ("notify", s, peer.self, 0), ("notify", s, 0, 1),
                 ("receive_from", s, 0, 0), ("receive_from", s, peer.self & 0xffffffff, 0), ("receive_request", s, 0, 0),
                 ("wait_bind", s, 0, 0), ("wait_bind", s, ANY, 0), ("wait_unbind", s, 0, 0), ("wait_unbind", s, ANY, 0),
                 ("info_endpoint", s, 0), ("info_endpoint", s, ANY),
                 ("get_privileges", s, 0, 1000), ("set_privileges", s, 0, 1000),
                 ("watch_endpoint", s, 0, True), ("watch_endpoint", s, ANY, True), ("watch_endpoint", s, peer.self, False),
                 ("watch_fd", -1, 1, True), ("watch_fd", 0, 1, False), ("timer", 1, False), ("timer", 2 ** 63, True),
                 ("loan_get", s, peer.self, 0, 0), ("loan_get", s, s, 100, 0), ("loan_get", s, 0, 100, 0), ("accept", (4 << 20) + 1),
                 ("grant", s, peer.self, memory, 0, 1), ("grant", s, peer.self & 0xffffffff, memory, 10, 1),
                 ("grant", s, peer.self, memory, 10, 5), ("arena_create", 0), ("arena_create", (1 << 40) + 1), ("arena_destroy", memory),
                 ("find_dc", ""), ("find_dc", "n" * 64), ("group_view_of", handle),
                 ("kv_get", s, "", 0, 0, 0), ("kv_get", s, "k", 0, 2, 0), ("kv_get", s, "a\nb", 0, 0, 1000), ("kv_put", s, "", 0, 0),
                 ("kv_put", s, "k", -5, 0), ("kv_put", s, "n" * 256, 1, 0), ("kv_cas", s, "", 0, 0, 0), ("kv_cas", s, "k", 0, -5, 0),
                 ("kv_delete", s, "", 0, 0), ("kv_list", s, "k", False, 0, 0), ("kv_list", s, "k", True, 2, 0),
                 ("kv_watch", s, "k", False, 0), ("kv_watch", s, "n" * 256, True, 0), ("lock", s, "", 0, 0), ("lock", s, "l", 1, 0),
                 ("lock", s, "n" * 256, 0, 0), ("leader_campaign", s, "", "t", 0, 0), ("leader_campaign", s, "l", "t" * 256, 0, 0),
                 ("leader_campaign", s, "l", "t", 1, 0), ("leader_get", s, "", 0, 0), ("leader_get", s, "l", 2, 0),
                 ("barrier", s, "", 1, 0), ("barrier", s, "b", 0, 1000), ("barrier", s, "b", 1025, 1000), ("group_join", s, "", 0),
                 ("group_join", s, "n" * 256, 0), ("group_mcast", group, to, -5, 0)):
        if call == ("group_view_of", handle): # the first thing received is a view
            assert me("group_view_of", handle) == 0
            continue
        assert me(*call) == INVAL, call
    me.ok("release", handle)
    peer.start("send", peer.self, [s, 1], 0, FOREVER)
    handle = me.take()
    assert me("group_view_of", handle) == INVAL
    assert me("relay", handle, peer.self) == INVAL # nobody waits for its answer
    me.ok("release", handle)
    assert peer.finish() == [0]
    other, = callers("a")
    peer.start("barrier", peer.self, "count", 3, 1000) # whoever comes second is refused
    assert sorted([other("barrier", other.self, "count", 2, 1000), *peer.finish()]) == [TIMEDOUT, INVAL]


# covers: dvk_sendrec dvk_send dvk_post dvk_call dvk_notify dvk_unbind dvk_receive_from dvk_receive_request: -DVK_ENOTBOUND: here
# covers: dvk_wait_bind dvk_wait_unbind dvk_info_endpoint dvk_watch_endpoint dvk_loan_get dvk_grant dvk_vcopy: -DVK_ENOTBOUND: here
# covers: dvk_group_join dvk_kv_get dvk_kv_put dvk_kv_cas dvk_kv_delete dvk_kv_list dvk_kv_watch dvk_lock: -DVK_ENOTALLOWED: here
# covers: dvk_leader_campaign dvk_leader_get dvk_barrier: -DVK_ENOTALLOWED: here
# covers: dvk_group_leave dvk_group_mcast dvk_kv_unwatch: -DVK_ENOTMEMBER: here
# covers: dvk_unlock: -DVK_ELOST: here
# covers: dvk_cancel: -ESRCH: here
# covers: dvk_unwatch_endpoint dvk_watch_fd: -ENOENT: here
# covers: dvk_revoke: -DVK_ENOTGRANTED: here
def test_what_is_not_ours(callers):
    me, peer = callers("a", "a")
    to, alien = [peer.self, 1], me.self
    me.ok("unbind", alien)
    own = [0, 0, me.ok("address", 64)[0]]
    for s in (alien, peer.self):
        for call in (("sendrec", s, to, 0, 0), ("send", s, to, 0, 0), ("post", s, to, 0, 0), ("call", s, to, 0, True), ("notify", s, peer.self, 1),
                     ("unbind", s), ("receive_from", s, ANY, 0), ("receive_request", s, ANY, 0), ("wait_bind", s, peer.self, 0),
                     ("wait_unbind", s, peer.self, 0), ("info_endpoint", s, peer.self), ("watch_endpoint", s, peer.self, True),
                     ("loan_get", s, peer.self, 10, 0), ("grant", s, peer.self, own[2], 64, 3), ("vcopy", s, own, own, 1, 0)):
            assert me(*call) == NOTBOUND, call
        for call in (("group_join", s, "g", 0), ("kv_get", s, "k", 0, 0, 0), ("kv_put", s, "k", 1, 0), ("kv_cas", s, "k", 0, 1, 0),
                     ("kv_delete", s, "k", 0, 0), ("kv_list", s, "", True, 0, 0), ("kv_watch", s, "k", True, 0), ("lock", s, "l", 0, 0),
                     ("leader_campaign", s, "l", "", 0, 0), ("leader_get", s, "l", 0, 0), ("barrier", s, "b", 1, 0)):
            assert me(*call) == NOTALLOWED, call
    me.bind()
    for call, error in ((("group_leave", 12345, 0), NOTMEMBER), (("group_mcast", 12345, to, 0, 0), NOTMEMBER), (("kv_unwatch", 12345, 0), NOTMEMBER),
                        (("unlock", [12345, 1], 0), LOST), (("cancel", 12345), -errno.ESRCH), (("unwatch_endpoint", 12345), -errno.ENOENT),
                        (("watch_fd", 0, 0, False), -errno.ENOENT), (("watch_fd", 99999, 0, False), -errno.ENOENT),
                        (("revoke", 12345), NOTGRANTED)):
        assert me(*call) == error, call


# covers: dvk_find_dc dvk_dc_nodes dvk_bind: -DVK_ENODC: here
# covers: dvk_bind: -DVK_ESLOTBUSY -DVK_ENOTALLOWED: here
# covers: dvk_watch_fd: -EPERM -EBADF: here
# covers: dvk_open dvk_open_fd: -DVK_ENODAEMON -EMFILE: here
# covers: dvk_arena_create: -ENOSPC: here
def test_what_is_refused(lab, dcs, callers):
    me, peer = callers("a", "a")
    assert me("find_dc", "nosuch") == NODC and me("find_dc", "4000") == NODC
    assert me("dc_nodes", 4000, 4) == NODC and me("dc_nodes", 9999, 4) == NODC
    assert me("bind", 4000, 0) == NODC and me("bind", 9999, 0) == NODC
    assert me("bind", dcs["calls"], me.self & 0xffffffff) == SLOTBUSY and me("bind", dcs["calls"], peer.self & 0xffffffff) == SLOTBUSY
    elsewhere, = callers("b")
    for slot in (1, 63, service_slot(1, 0), service_slot(1, 2), service_slot(1, 255), service_slot(2, 40), elsewhere.self & 0xffffffff):
        assert me("bind", dcs["calls"], slot) == NOTALLOWED, slot
    assert me("bind", dcs["part"], 0) == NOTALLOWED
    assert me("watch_fd", 90, 1, True) == -errno.EBADF
    assert me("watch_fd", me.ok("open_file", "/etc/passwd")[0], 1, True) == -errno.EPERM # a regular file
    assert me("open_again", "/nosuch/dvkd.sock") == NODAEMON and me("open_again", "/" + "n" * 200) == NODAEMON
    me.ok("descriptors", 0)
    assert me("open_again", socket_of(lab, "a")) == -errno.EMFILE
    me.ok("descriptors", 500)
    assert me("open_again", socket_of(lab, "a")) == 0
    last, = me.ok("arena_create", 1)
    me.start("again", 2000, "arena_create", 1)
    assert me.finish() == [NOSPC, 1023]
    assert me("arena_destroy", last) == 0 and me("arena_create", 1) == 0


# covers: dvk_sendrec dvk_send dvk_post dvk_call dvk_loan_get dvk_receive_from dvk_receive_request: -DVK_ENOTBOUND: local remote
# covers: dvk_wait_bind dvk_info_endpoint: -DVK_ENOTBOUND: local remote
# covers: dvk_wait_bind dvk_wait_unbind dvk_receive_from dvk_receive_request dvk_receive: -DVK_ETIMEDOUT: local remote
def test_nobody_is_there(callers, there):
    me, gone = callers("a", there)
    never = service_slot(gone.node_id, 210)
    gone.kill()
    wait_for(lambda: me("wait_unbind", me.self, gone.self, 1000) == 0, 20, "its end")
    for to in (gone.self, never):
        for call in (("sendrec", me.self, [to, 1], 0, FOREVER), ("send", me.self, [to, 1], 10, FOREVER), ("info_endpoint", me.self, to)):
            assert me(*call) == NOTBOUND, call
        me.ok("call", me.self, [to, 1], 0, True)
        assert me.ok("done") == [NOTBOUND]
        result = me("post", me.self, [to, 1], 0, 5000) # the first finds the way; across nodes the error comes back later
        assert result == NOTBOUND or (there == "b" and result == 0 and wait_for_post(me, to) == NOTBOUND), result
        # a way may be there before it is known that nobody is at its end
        assert (there == "b" and me("loan_get", me.self, to, 100, 5000) == 0) or me("loan_get", me.self, to, 100, 5000) == NOTBOUND
    assert me("wait_bind", me.self, gone.self, FOREVER) == NOTBOUND
    assert me("receive_from", me.self, gone.self, FOREVER) == NOTBOUND and me("receive_request", me.self, gone.self, FOREVER) == NOTBOUND
    assert me("wait_bind", me.self, never, 0) == TIMEDOUT and me("wait_bind", me.self, never, 50) == TIMEDOUT
    peer, = callers(there)
    for wait in (0, 50):
        assert me("wait_unbind", me.self, peer.self, wait) == TIMEDOUT
        assert me("receive", wait) == TIMEDOUT
        assert me("receive_from", me.self, peer.self, wait) == TIMEDOUT
        assert me("receive_request", me.self, peer.self, wait) == TIMEDOUT


def wait_for_post(me, to):
    """What an earlier post ran into is told by a later one, when its channel is full at the latest."""
    deadline = time.monotonic() + 20
    while (result := me("post", me.self, [to, 1], 0, 5000)) == 0:
        assert time.monotonic() < deadline, "no post has told of an error"
    return result


# ---- the other party


@pytest.fixture(scope="module")
def guests(lab, dcs):
    """Node -> slot of a program in the VOS's container there."""
    vos = next(name for name, one in lab.containers().items() if one["id"] == dcs["vos"])
    for node in "ab": # born there, so that the node owns its slot
        lab.ok("exec", "-d", vos, "env", f"DVS_PLACE=node={node}", "sh", "-c", "sleep 1001 & wait")
    wait_for(lambda: len(found_guests(lab, vos)) == 2, 20, "the guests")
    return found_guests(lab, vos)


def found_guests(lab, vos):
    return {one["node"]: one["pid"] for one in lab.processes(vos) if one["command"].startswith("sleep 1001") and one["node"] in "ab"}


# covers: dvk_sendrec dvk_send dvk_post dvk_call: -DVK_ENOTALLOWED -EMSGSIZE: local remote
# covers: dvk_loan_get: -DVK_ENOTALLOWED: local
# covers: dvk_loan_get: -EMSGSIZE: here
def test_what_may_not_be_sent(callers, guests, there):
    me, = callers("a", dc="vos")
    guest = guests[there]
    assert me("sendrec", me.self, [guest, 1], 0, FOREVER) == NOTALLOWED and me("send", me.self, [guest, 1], 9, FOREVER) == NOTALLOWED
    me.ok("call", me.self, [guest, 1], 0, True)
    assert me.ok("done") == [NOTALLOWED]
    assert wait_for_post(me, guest) == NOTALLOWED
    if there == "a":
        assert me("loan_get", me.self, guest, 100, 1000) == NOTALLOWED
    me, peer = callers("a", there)
    to = [peer.self, 1]
    assert me("call_fds", me.self, to, 0, "/dev/null", True) == 0
    me.start("done")
    if there == "a":
        peer.ok("reply", peer.take(), 0)
    assert me.finish() == [0, NOTALLOWED if there == "b" else 0] # descriptors do not leave their node
    for length in (64 * KIB + 1, (4 << 20) + 1): # more than it accepts, more than anyone does
        for name in ("sendrec", "send"):
            me.start(name, me.self, to, length, FOREVER)
            assert peer("receive", 0 if length > 4 << 20 else 100) == TIMEDOUT
            assert me.finish()[0] == TOO_LONG, (name, length)
        result = me("call", me.self, to, length, True)
        if result == 0:
            assert peer("receive", 100) == TIMEDOUT
        assert result == TOO_LONG or me.ok("done") == [TOO_LONG]
        result = me("post", me.self, to, length, 1000)
        while result == 0:
            assert peer("receive", 100) == TIMEDOUT
            result = me("post", me.self, to, length, 1000)
        assert result == TOO_LONG
    assert me("loan_get", me.self, peer.self, (4 << 20) + 1, 1000) == TOO_LONG


# covers: dvk_sendrec dvk_send dvk_post: -DVK_ETIMEDOUT: local remote
# covers: dvk_call: -DVK_EINTERRUPTED: local remote
# covers: dvk_receive dvk_receive_from dvk_receive_request: -DVK_EINTERRUPTED: here
# covers: dvk_loan_get: -EAGAIN: local remote
def test_waits_that_end_by_themselves(callers, there):
    me, peer = callers("a", there)
    to = [peer.self, 1]
    for wait in (0, 30):
        assert me("sendrec", me.self, to, 0, wait) == TIMEDOUT and me("send", me.self, to, 5, wait) == TIMEDOUT
    posted = 0
    while (result := me("post", me.self, to, 60 * KIB, 30)) == 0: # it takes none: the channel is full
        posted += 1
    assert result == TIMEDOUT and posted
    me, peer = callers("a", there)
    me.ok("call", me.self, [peer.self, 1], 0, True)
    other, = callers(there)
    assert other("wait_bind", other.self, me.self, 5000) == 0
    number, = me.ok("call", me.self, [peer.self, 1], 0, True)
    me.ok("cancel", number)
    while peer("receive", 50) == 0: # the first is there, the second was taken back
        pass
    assert me.ok("done") == [INTERRUPTED]
    me.ok("unbind", me.self)
    me.bind()
    fresh = service_slot(peer.node_id, 220)
    me.ok("call", me.self, [fresh, 1], 0, True)
    me.start("unbind", me.self) # its way has not been found yet, or nobody is there
    assert me.finish()[0] == 0
    me.bind()
    for call in (("receive", FOREVER), ("receive_from", me.self, ANY, FOREVER), ("receive_request", me.self, peer.self, FOREVER)):
        assert me("woken", *call) == INTERRUPTED
    taken = 0
    while (result := me("loan_get", me.self, peer.self, 4 << 20, 1000)) == 0:
        taken += 1
    assert result == AGAIN and taken > 0


# covers: dvk_sendrec dvk_send dvk_post dvk_call: -DVK_EDEADDST: local remote
# covers: dvk_sendrec dvk_send: -DVK_EDEADLOCK: local
def test_the_destination_ends(callers, there):
    me, *peers = callers("a", *there * 4)
    for peer, call in zip(peers, (("sendrec", FOREVER), ("send", FOREVER), ("call", True), ("post", 1000))):
        length = 100
        if call[0] == "call":
            me.ok("call", me.self, [peer.self, 1], length, True)
            me.start("done")
        else:
            me.start(call[0], me.self, [peer.self, 1], length, call[1])
        handle = peer.take()
        if call[0] == "post":
            peer.ok("release", handle)
            assert me.finish() == [0]
            assert me("post", me.self, [peer.self, 1], length, 1000) == 0
            peer.take() # and does not release it
        peer.kill()
        if call[0] == "call":
            assert me.finish() == [0, DEADDST]
        elif call[0] == "post":
            assert wait_for_post(me, peer.self) == DEADDST
        else:
            assert me.finish()[0] == DEADDST, call
    assert me("sendrec", me.self, [me.self, 1], 0, FOREVER) == DEADLOCK and me("send", me.self, [me.self, 1], 0, FOREVER) == DEADLOCK


# covers: dvk_wait_bind dvk_wait_unbind: -EAGAIN: local
def test_too_many_questions(callers):
    me, peer = callers("a", "a")
    assert me("again", 4096, "watch_endpoint", me.self, peer.self, True) == 0
    assert me("wait_unbind", me.self, peer.self, FOREVER) == AGAIN
    assert me("wait_bind", me.self, service_slot(1, 250), FOREVER) == AGAIN


# covers: dvk_receive_from dvk_receive_request: -DVK_EDEADSRC: local remote
def test_the_source_ends(lab, callers, there):
    me, one, two = callers("a", there, there)
    for peer, name in ((one, "receive_from"), (two, "receive_request")):
        me.start(name, me.self, peer.self, FOREVER)
        slot = peer.self & 0xffffffff
        wait_for(lambda: any(e["slot"] == slot and e["watched"] for e in ask_dvkd(lab, there, "debug.endpoints")["endpoints"]), 20, "a watch")
        peer.kill()
        assert me.finish() == [DEADSRC]


# covers: dvk_sendrec dvk_call: -ELOOP: local remote
# covers: dvk_relay: -DVK_ENOTALLOWED: local
def test_what_is_handed_on(callers, there):
    me, front, back = callers("a", there, there)
    me.start("sendrec", me.self, [front.self, 1], 0, FOREVER)
    for name in ("sendrec", "call"):
        if name == "call":
            me.ok("call", me.self, [front.self, 1], 0, True)
            me.start("done")
        for hop in range(17):
            here, other = (front, back) if hop % 2 == 0 else (back, front)
            assert here("relay", here.take(), other.self) == 0
        result = me.finish()
        assert (result[0] if name == "sendrec" else result[1]) == LOOP
    if there == "a":
        me.ok("call_fds", me.self, [front.self, 1], 0, "/dev/null", True)
        me.start("done")
        handle = front.take()
        assert front("relay", handle, back.self) == NOTALLOWED
        front.ok("reply", handle, 0)
        assert me.finish() == [0, 0]


# covers: dvk_sendrec dvk_send dvk_post dvk_call dvk_loan_get: -DVK_ENODC: local remote
# covers: dvk_receive_from dvk_receive_request dvk_wait_bind dvk_wait_unbind dvk_info_endpoint: -DVK_ENODC: local remote
# covers: dvk_lock dvk_leader_campaign dvk_barrier: -DVK_ENODC: here
def test_the_container_ends(lab, callers, dcs, there):
    lab.ok("dc", "create", "short")
    dcs["short"] = next(one["id"] for one in lab.json("ls") if one["name"] == "short")
    *waiting, caller, keeper = callers(*"aaaaaaaaaaa", dc="short")
    peer, = callers(there, dc="short")
    keeper.ok("lock", keeper.self, "l", 0, 5000)
    keeper.ok("leader_campaign", keeper.self, "o", "", 0, 5000)
    calls = [("sendrec", [peer.self, 1], 0, FOREVER), ("send", [peer.self, 1], 7, FOREVER), ("receive_from", peer.self, FOREVER),
             ("receive_request", peer.self, FOREVER), ("wait_bind", service_slot(peer.node_id, 230), FOREVER),
             ("wait_unbind", peer.self, FOREVER), ("lock", "l", 0, FOREVER), ("leader_campaign", "o", "", 0, FOREVER),
             ("barrier", "b", 2, FOREVER)]
    assert len(waiting) == len(calls)
    for one, (name, *rest) in zip(waiting, calls):
        one.start(name, one.self, *rest)
    caller.ok("call", caller.self, [peer.self, 1], 0, True)
    caller.start("done")
    for _ in range(3):
        peer.take()
    for one in waiting:
        wait_for(one.is_asleep, 20, "its wait")
    lab.ok("rm", "-f", "short")
    for one, call in zip(waiting, calls):
        assert one.finish()[0] == NODC, call
    assert caller.finish() == [0, NODC]
    for name in ("post", "loan_get"): # who did not wait is told that its endpoint is gone
        assert keeper(name, keeper.self, *(([peer.self, 1], 0, 0) if name == "post" else (peer.self, 10, 0))) in (NODC, NOTBOUND)


# ---- groups and services


# covers: dvk_kv_get dvk_kv_delete dvk_leader_get: -DVK_ENOKEY: here
# covers: dvk_kv_cas dvk_kv_delete: -DVK_ECONFLICT: here
# covers: dvk_kv_put dvk_kv_cas dvk_group_mcast: -EMSGSIZE: here
# covers: dvk_kv_put dvk_kv_cas: -ENOSPC: here
# covers: dvk_lock dvk_leader_campaign: -EBUSY: here
# covers: dvk_lock dvk_leader_campaign dvk_barrier: -DVK_ETIMEDOUT: here
# covers: dvk_group_join: -EALREADY: here
# covers: dvk_group_mcast: -EAGAIN: here
def test_services(callers, there):
    me, = callers("a")
    holder, = callers(there)
    s = me.self
    revision, = me.ok("kv_put", s, "errors/key", 10, 5000)
    for call, error in ((("kv_get", s, "errors/none", 0, 0, 5000), NOKEY), (("kv_delete", s, "errors/none", ANY, 5000), NOKEY),
                        (("leader_get", s, "errors/none", 0, 5000), NOKEY), (("kv_cas", s, "errors/key", 0, 1, 5000), CONFLICT),
                        (("kv_cas", s, "errors/key", revision + 1, 1, 5000), CONFLICT), (("kv_cas", s, "errors/none", 5, 1, 5000), CONFLICT),
                        (("kv_delete", s, "errors/key", revision + 1, 5000), CONFLICT), (("kv_put", s, "errors/key", 32769, 5000), TOO_LONG),
                        (("kv_cas", s, "errors/key", revision, 32769, 5000), TOO_LONG)):
        assert me(*call) == error, call
    lock = holder.ok("lock", holder.self, "errors/lock", 0, 5000)
    office = holder.ok("leader_campaign", holder.self, "errors/office", "it", 0, 5000)
    for name, *more in (("lock", "errors/lock"), ("leader_campaign", "errors/office", "me")):
        assert me(name, s, *more, 2, 5000) == -errno.EBUSY
        assert me(name, s, *more, 0, 0) == TIMEDOUT and me(name, s, *more, 0, 50) == TIMEDOUT
    assert me("barrier", s, "errors/barrier", 2, 0) == TIMEDOUT and me("barrier", s, "errors/barrier", 2, 50) == TIMEDOUT
    group, = me.ok("group_join", s, "errors/group", 5000)
    assert me("group_join", s, "errors/group", 5000) == -errno.EALREADY
    assert me("group_mcast", group, [0, 1], 8193, 5000) == TOO_LONG
    sent = 0
    while (result := me("group_mcast", group, [0, 1], 8, 5000)) == 0: # and takes none
        sent += 1
    assert result == AGAIN and sent > 100
    me.ok("release", me.take()) # the view
    for _ in range(sent):
        me.ok("release", me.take())
    assert me("receive", 100) == TIMEDOUT and me("group_mcast", group, [0, 1], 8, 5000) == 0
    if there == "a": # once is enough: it takes its time
        full = [f"errors/{number}" for number in range(128)]
        results = [me("kv_put", s, key, 32768, 5000) for key in full]
        assert results[-1] == NOSPC and set(results) == {0, NOSPC} and me("kv_cas", s, "errors/new", 0, 32768, 5000) == NOSPC
        for key in full:
            me("kv_delete", s, key, ANY, 5000)
    holder.ok("unlock", lock, 5000)
    holder.ok("unlock", office, 5000)
    me.ok("kv_delete", s, "errors/key", ANY, 5000)


# covers: dvk_group_leave dvk_group_mcast dvk_kv_unwatch dvk_unlock: -DVK_ENOTALLOWED: here
def test_what_an_unbound_endpoint_had(callers):
    me, = callers("a")
    group, = me.ok("group_join", me.self, "errors/left", 5000)
    watch = me.ok("kv_watch", me.self, "errors/", True, 5000)[0]
    lock = me.ok("lock", me.self, "errors/left", 0, 5000)
    me.ok("unbind", me.self)
    for call in (("group_mcast", group, [0, 1], 0, 1000), ("group_leave", group, 1000), ("kv_unwatch", watch, 1000), ("unlock", lock, 1000)):
        assert me(*call) == NOTALLOWED, call
    me.bind()
    assert me.ok("lock", me.self, "errors/left", 0, 5000) # it passed on


# ---- copies (more in test_vcopy.py)


# covers: dvk_grant: -DVK_ENOTALLOWED -ENOSPC: local
# covers: dvk_grant: -DVK_ENOTALLOWED: remote
def test_grants(callers, there):
    outside, to = callers("a", there)
    memory, = outside.ok("address", 4096)
    assert outside("grant", outside.self, to.self, memory, 4096, 3) == NOTALLOWED # not of the node's processes
    inside, = callers("a", inside=True)
    memory, = inside.ok("address", 4096)
    if there == "a":
        inside.start("again", 70000, "grant", inside.self, to.self, memory, 4096, 3)
        assert inside.finish() == [NOSPC, 65536]
    else:
        assert inside("grant", inside.self, to.self, memory, 4096, 3) == 0


# ---- endpoints that move (more in test_migrate.py)


# covers: dvk_bind_backup dvk_bind_replica: -DVK_ENOTBOUND -DVK_ENOTALLOWED -DVK_ENODC -EINVAL -DVK_ETIMEDOUT: here
# covers: dvk_unbind_backup dvk_migrate_start dvk_migrate_commit dvk_migrate_rollback: -DVK_ENOTBOUND: here
# covers: dvk_migrate_start: -DVK_ENOBACKUP -DVK_EMIGRATING: here
# covers: dvk_migrate_commit dvk_migrate_rollback: -DVK_ENOTMIGRATING: here
# covers: dvk_migrate_carry: -EINVAL -DVK_ENOTCARRIED: here
# covers: dvk_migrate_commit: -DVK_ENOTCARRIED: here
# covers: dvk_sendrec dvk_send dvk_post dvk_call dvk_notify: -DVK_EMIGRATING: local remote
def test_a_moving_endpoint(callers, dcs, there):
    me, peer, *spares = callers("a", there, *"bcbcbcbcb")
    s, dc, spare = me.self, dcs["calls"], spares[0]
    for name in ("bind_backup", "bind_replica"):
        for call, error in (((dc, (1 << 32) | s & 0xffffffff, 3000), NOTBOUND), ((4000, s, 3000), NODC), ((dcs["vos"], s, 3000), NOTALLOWED),
                            ((dc, spare.self, 3000), INVAL)):
            assert spare(name, *call) == error, (name, call)
    assert spare("unbind_backup", dc, s) == NOTBOUND
    assert me("migrate_start", s, 0, 5000) == NOBACKUP
    for one in spares[:8]:
        assert one("bind_backup", dc, s, 10000) == 0
    assert spare("bind_backup", dc, s, 5000) == INVAL and spare("bind_replica", dc, s, 5000) == INVAL
    assert spares[8]("bind_backup", dc, s, 100) == TIMEDOUT and spares[8]("bind_replica", dc, s, 100) == TIMEDOUT
    assert me("migrate_commit", s, 5000) == NOTMIGRATING and me("migrate_rollback", s, 5000) == NOTMIGRATING
    for name, *more in (("migrate_start", 0), ("migrate_commit",), ("migrate_rollback",)):
        assert me(name, peer.self, *more, 1000) == NOTBOUND
    local, = callers("a")
    local.ok("call_fds", local.self, [s, 1], 0, "/dev/null", True)
    local.start("done")
    with_file = me.take()
    assert me("migrate_carry", with_file, 1) == NOTCARRIED
    peer.start("send", peer.self, [s, 1], 10, FOREVER)
    sent = me.take()
    assert me("migrate_carry", sent, 1) == INVAL
    me.ok("release", sent)
    assert peer.finish() == [0]
    me.ok("migrate_start", s, 0, 5000)
    assert me("migrate_start", s, 0, 5000) == MIGRATING
    for call in (("sendrec", s, [peer.self, 1], 0, 1000), ("send", s, [peer.self, 1], 0, 1000), ("post", s, [peer.self, 1], 0, 1000),
                 ("call", s, [peer.self, 1], 0, True), ("notify", s, peer.self, 1)):
        assert me(*call) == MIGRATING, call
    assert me("migrate_commit", s, 5000) == NOTCARRIED # the request with a descriptor
    me.ok("migrate_rollback", s, 5000)
    me.ok("reply", with_file, 0)
    assert local.finish() == [0, 0]


# ---- what a cluster does


def calls_that_wait(me, to, never):
    """Calls that wait for another party for ever, one a caller."""
    return [("sendrec", me, [to, 1], 0, FOREVER), ("send", me, [to, 1], 7, FOREVER), ("receive_from", me, to, FOREVER),
            ("receive_request", me, to, FOREVER), ("wait_bind", me, never, FOREVER), ("wait_unbind", me, to, FOREVER)]


@pytest.fixture
def cluster(own_lab):
    """cluster(node, ...): callers on a lab of three nodes in a container without a VOS, or in DC 0."""
    own_lab.up(3)
    own_lab.ok("dc", "create", "calls")
    dc = own_lab.json("ls")[0]["id"]
    made = []

    def make(*nodes, dc=dc):
        new = [Caller(own_lab, node, dc).join() for node in nodes]
        made.extend(new)
        return new
    yield make
    for one in made:
        one.end()


# covers: dvk_group_join dvk_group_leave dvk_group_mcast dvk_kv_get dvk_kv_put dvk_kv_cas dvk_kv_delete dvk_kv_list: -DVK_ETIMEDOUT: here
# covers: dvk_kv_watch dvk_kv_unwatch dvk_unlock dvk_leader_get: -DVK_ETIMEDOUT: here
# covers: dvk_loan_get: -DVK_ETIMEDOUT: local remote
# covers: dvk_sendrec dvk_send dvk_post dvk_call dvk_loan_get: -DVK_ENODEUNREACH: remote
# covers: dvk_receive_from dvk_receive_request dvk_wait_bind dvk_wait_unbind dvk_info_endpoint: -DVK_ENODEUNREACH: remote
# covers: dvk_sendrec dvk_send dvk_call dvk_receive_from dvk_receive_request dvk_wait_bind dvk_wait_unbind: -DVK_ENODAEMON: local remote
# covers: dvk_post dvk_loan_get dvk_info_endpoint dvk_notify dvk_watch_endpoint dvk_grant: -DVK_ENODAEMON: local remote
# covers: dvk_receive dvk_find_dc dvk_dc_nodes dvk_bind dvk_unbind dvk_nodes dvk_revoke dvk_arena_create dvk_vcopy: -DVK_ENODAEMON: here
# covers: dvk_group_join dvk_group_leave dvk_group_mcast dvk_kv_get dvk_kv_put dvk_kv_cas dvk_kv_delete dvk_kv_list: -DVK_ENODAEMON: here
# covers: dvk_kv_watch dvk_kv_unwatch dvk_lock dvk_unlock dvk_leader_campaign dvk_leader_get dvk_barrier: -DVK_ENODAEMON: here
# covers: dvk_bind_backup dvk_bind_replica dvk_unbind_backup dvk_migrate_start dvk_migrate_commit dvk_migrate_rollback: -DVK_ENODAEMON: here
# covers: dvk_bind_backup dvk_bind_replica: -DVK_ENODEUNREACH -DVK_ENOQUORUM: here
# covers: dvk_get_privileges dvk_set_privileges: -DVK_ENODEUNREACH -DVK_ENODAEMON -DVK_ETIMEDOUT: here
# covers: dvk_migrate_start dvk_migrate_commit dvk_migrate_rollback: -DVK_ETIMEDOUT: here
# covers: dvk_group_join dvk_group_mcast dvk_kv_get dvk_kv_put dvk_kv_cas dvk_kv_delete dvk_kv_list: -DVK_ENOQUORUM: here
# covers: dvk_lock dvk_leader_campaign dvk_leader_get dvk_barrier: -DVK_ENOQUORUM: here
# covers: dvk_dc_nodes dvk_bind: -DVK_ENOQUORUM: here
def test_what_becomes_of_a_cluster(own_lab, cluster):
    lost_peer, = cluster("c")
    never = service_slot(3, 240)
    # a node that stands still answers nobody
    slow = cluster(*"aaaaaaaaaaaaaaaaaaa")
    peer, = cluster("a")
    group, = slow[0].ok("group_join", slow[0].self, "g", 5000)
    group1, = slow[1].ok("group_join", slow[1].self, "g", 5000)
    watch = slow[2].ok("kv_watch", slow[2].self, "k", True, 5000)[0]
    lock = slow[3].ok("lock", slow[3].self, "l", 0, 5000)
    stopped, = host_pids(own_lab, "a", "dvkd")
    calls = [("group_leave", group), ("group_mcast", group1, [0, 1], 0), ("kv_unwatch", watch), ("unlock", lock),
             ("group_join", slow[4].self, "h"), ("kv_get", slow[5].self, "k", 0, 0), ("kv_put", slow[6].self, "k", 1),
             ("kv_cas", slow[7].self, "k", 0, 1), ("kv_delete", slow[8].self, "k", ANY), ("kv_list", slow[9].self, "", True, 0),
             ("kv_watch", slow[10].self, "k", True), ("leader_get", slow[11].self, "o", 0), ("loan_get", slow[12].self, peer.self, 10),
             ("loan_get", slow[13].self, lost_peer.self, 10), ("migrate_start", slow[14].self, 0), ("migrate_commit", slow[15].self),
             ("migrate_rollback", slow[16].self), ("get_privileges", slow[17].self, peer.self), ("set_privileges", slow[18].self, slow[18].self)]
    spare, = cluster("b")
    for one in slow[14:17]:
        spare.ok("bind_backup", one.dc, one.self, 10000)
    slow[15].ok("migrate_start", slow[15].self, 0, 10000)
    os.kill(stopped, signal.SIGSTOP)
    try:
        for one, (name, *rest) in zip(slow, calls):
            one.start(name, *rest, 50)
        results = [one.finish()[0] for one in slow]
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert results == [TIMEDOUT] * len(calls)
    # dvkd of a node ends, and with it the node for the others
    here, there = cluster(*"aaaaaa"), [cluster(*"cccccc"), cluster(*"cccccc")]
    waits = list(zip(here, calls_that_wait(None, lost_peer.self, never)))
    for callers_there, to, nobody in ((there[0], lost_peer.self, never), (there[1], peer.self, service_slot(1, 240))):
        waits += zip(callers_there, calls_that_wait(None, to, nobody))
    for one, (name, _, *rest) in waits:
        one.start(name, one.self, *rest)
    calling_here, calling_local, calling_remote = cluster("a", "c", "c")
    for one, to in ((calling_here, lost_peer), (calling_local, lost_peer), (calling_remote, peer)):
        one.ok("call", one.self, [to.self, 1], 0, True)
        one.start("done")
    posting, keeper, after = cluster("a", "c", "c")
    for to in (lost_peer, peer):
        for one in (keeper, posting):
            assert one("loan_get", one.self, to.self, 10, 5000) == 0 # a way is there
    mover, = cluster("c")
    mover.ok("bind_backup", mover.dc, peer.self, 10000)
    spare.ok("bind_backup", mover.dc, mover.self, 10000)
    mover.ok("migrate_start", mover.self, 0, 10000)
    arena, = keeper.ok("arena_create", 4096)
    grant, = keeper.ok("grant", keeper.self, peer.self, arena, 4096, 3)
    group, = keeper.ok("group_join", keeper.self, "g", 5000)
    keeper.ok("release", keeper.take())
    lock = keeper.ok("lock", keeper.self, "m", 0, 5000)
    watch = keeper.ok("kv_watch", keeper.self, "k", True, 5000)[0]
    for number, one in enumerate([lost_peer, peer]):
        for _ in range(5 if number == 0 else 3):
            one.take()
    for one, _ in waits:
        wait_for(one.is_asleep, 20, "its wait")
    receiving, = cluster("c")
    receiving.start("receive", FOREVER)
    wait_for(receiving.is_asleep, 20, "its wait")
    os.kill(host_pids(own_lab, "c", "dvkd")[0], signal.SIGKILL)
    for one, call in waits: # the proxy there may end before it is seen that dvkd has
        allowed = (NODEUNREACH,) if one in here else (NODAEMON,) if one in there[0] else (NODAEMON, NODEUNREACH)
        assert one.finish()[0] in allowed, (one.node, call)
    assert calling_here.finish() == [0, NODEUNREACH] and receiving.finish() == [NODAEMON]
    assert calling_local.finish() == [NODAEMON] and calling_remote.finish() == [NODAEMON] # of dvk_receive
    # who has lost its dvkd is told so by every call
    memory = [keeper.self, 0, keeper.ok("address", 64)[0]]
    k = keeper.self
    assert keeper("receive", 1000) == NODAEMON
    for call in (("receive", 0), ("find_dc", "calls"), ("dc_nodes", keeper.dc, 4), ("bind", keeper.dc, 0), ("nodes", 4), ("revoke", grant),
                 ("arena_create", 1), ("vcopy", k, memory, [k, grant, 0], 8, 1000), ("group_join", k, "h", 1000),
                 ("group_leave", group, 1000), ("group_mcast", group, [0, 1], 0, 1000), ("kv_get", k, "k", 0, 0, 1000),
                 ("kv_put", k, "k", 1, 1000), ("kv_cas", k, "k", 0, 1, 1000), ("kv_delete", k, "k", ANY, 1000),
                 ("kv_list", k, "", True, 0, 1000), ("kv_watch", k, "k", True, 1000), ("kv_unwatch", watch, 1000), ("lock", k, "n", 0, 1000),
                 ("unlock", lock, 1000), ("leader_campaign", k, "o", "", 0, 1000), ("leader_get", k, "o", 0, 1000),
                 ("barrier", k, "b", 2, 1000), ("control_send", "{}"), ("control_reply", 1, "{}")):
        assert keeper(*call) == NODAEMON, call
    for call in (("bind_backup", mover.dc, lost_peer.self, 1000), ("bind_replica", mover.dc, lost_peer.self, 1000),
                 ("unbind_backup", mover.dc, peer.self), ("get_privileges", mover.self, peer.self, 1000),
                 ("set_privileges", mover.self, peer.self, 1000), ("migrate_start", mover.self, 0, 1000), ("migrate_rollback", mover.self, 1000),
                 ("migrate_commit", mover.self, 1000)):
        assert mover(*call) == NODAEMON, call
    for to in (lost_peer.self, peer.self): # one here, one elsewhere
        for one in (keeper, after):
            s = one.self
            for call in (("sendrec", s, [to, 1], 0, FOREVER), ("send", s, [to, 1], 7, FOREVER), ("info_endpoint", s, to), ("wait_bind", s, to, FOREVER), ("wait_unbind", s, to, FOREVER),
                         ("receive_from", s, to, 0), ("receive_request", s, to, FOREVER), ("watch_endpoint", s, to, True),
                         ("grant", s, to, memory[2], 8, 1)):
                assert one(*call) == NODAEMON, call
        s = after.self # has no way there yet
        for call in (("post", s, [to, 1], 0, 1000), ("post", s, [to, 1], 7, 1000), ("notify", s, to, 1), ("loan_get", s, to, 10, 1000),
                     ("call", s, [to, 1], 0, True)):
            assert after(*call) == NODAEMON, call
    assert after("unbind", after.self) == NODAEMON
    # for those who have a dvkd, that node is out of reach until it is back
    for call in (("info_endpoint", posting.self, never), ("wait_unbind", posting.self, never, FOREVER),
                 ("wait_bind", posting.self, never, FOREVER), ("sendrec", posting.self, [never, 1], 0, FOREVER),
                 ("post", posting.self, [never, 1], 0, 1000), ("loan_get", posting.self, never, 10, 1000),
                 ("get_privileges", posting.self, never, 3000), ("set_privileges", posting.self, never, 3000),
                 ("bind_backup", posting.dc, 5 << 32 | never, 3000), ("bind_replica", posting.dc, 5 << 32 | never, 3000)):
        assert posting(*call) == NODEUNREACH, call
    # the next is lost: no quorum
    in_all, = cluster("a", dc=0)
    waiting, leading = cluster("a", "a", dc=0)
    far, = cluster("b", dc=0)
    bare, = cluster("a")
    far.ok("lock", far.self, "l", 0, 5000)
    far.ok("leader_campaign", far.self, "o", "", 0, 5000)
    group, = in_all.ok("group_join", in_all.self, "g", 5000)
    waiting.start("lock", waiting.self, "l", 0, FOREVER)
    leading.start("leader_campaign", leading.self, "o", "", 0, FOREVER)
    for one in (waiting, leading):
        wait_for(one.is_asleep, 20, "its wait")
    own_lab.ok("lab", "kill", "b")
    assert waiting.finish()[0] == NOQUORUM and leading.finish()[0] == NOQUORUM
    s = in_all.self
    for call in (("group_join", s, "h", 1000), ("kv_get", s, "k", 0, 0, 1000), ("kv_put", s, "k", 1, 1000), ("kv_cas", s, "k", 0, 1, 1000),
                 ("kv_delete", s, "k", ANY, 1000), ("kv_list", s, "", True, 0, 1000),
                 ("lock", s, "n", 0, 1000), ("leader_campaign", s, "p", "", 0, 1000), ("leader_get", s, "o", 0, 1000),
                 ("barrier", s, "b", 2, 1000), ("bind", bare.dc, 0), ("dc_nodes", bare.dc, 4),
                 ("bind_backup", bare.dc, peer.self, 1000), ("bind_replica", bare.dc, peer.self, 1000)):
        assert in_all(*call) == NOQUORUM, call
