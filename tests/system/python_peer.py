# SPDX-License-Identifier: Apache-2.0
"""Programs for test_python.py: python_peer.py ROLE DC [ARGUMENT...]. They use python/dvk.py as any program would."""
import errno
import os
import select
import signal
import struct
import sys
import threading
import zlib

import dvk

GREET_SERVICE, FILES_SERVICE, OWN_SERVICE = 32, 33, 40
ECHO, FAIL, HOLD, COUNT = 1, 2, 3, 4
SUM, GRANT, PEEK, REVOKE = 5, 6, 7, 8


def ready(d):
    print(f"ready on node {d.node()}", flush=True)


def greet_server(d, dc):
    """examples/greet_server.c in Python."""
    d.bind(dc, dvk.system_slot(d.node(), GREET_SERVICE))
    ready(d)
    for request in d.requests():
        with request:
            if request.type != 1 or len(request.text()) > 63:
                request.reply_status(-errno.EINVAL)
            else:
                request.reply(payload=b"Hello %s on node %d, this is node %d" % (request.text(), request.source_node, d.node()))


def greet_client(d, dc, name, node):
    me = d.bind(dc)
    try:
        reply, _ = d.sendrec(me, dvk.Message(dvk.service_endpoint(int(node), GREET_SERVICE), 1, name.encode()), timeout_ms=5000)
        print(reply.text().decode() if reply.status == 0 else os.strerror(-reply.status))
    except dvk.Gone as gone:
        sys.exit(f"{gone.name}: {gone}")


def file_reader(d, dc, name, node):
    """Reads a file from examples/file_server.c: data from C to Python, chunk by chunk, and writes it back to another."""
    me, server = d.bind(dc), dvk.service_endpoint(int(node), FILES_SERVICE)

    def ask(kind, file, offset=0, size=0, length=0, data=b""):
        payload = struct.pack("<128sQQII", file.encode(), offset, size, length, 0o600)
        reply, got = d.sendrec(me, dvk.Message(server, kind, payload), data, timeout_ms=10000)
        if reply.status < 0:
            sys.exit(os.strerror(-reply.status))
        return reply, got
    size = struct.unpack_from("<Q", ask(1, name)[0].payload)[0]
    for offset in range(0, size, dvk.DATA_MAX):
        data = ask(2, name, offset, length=dvk.DATA_MAX)[1]
        ask(3, name + ".py", offset, data=bytearray(data) if offset else data)
    ask(4, name + ".py", size=size)
    print(size)


def server(d, dc):
    """What `client` talks to."""
    d.bind(dc, dvk.system_slot(d.node(), OWN_SERVICE))
    cancelled, sends, bits = [], 0, 0

    def on_cancel(request):
        cancelled.append(request)
        request.reply_status(-errno.ECANCELED)
    d.on_cancel(on_cancel)
    ready(d)
    for request in d.requests():
        if not request.wants_reply:
            sends, bits = sends + (request.message.notify == 0), bits | request.message.notify
            request.release()
        elif request.type == ECHO:
            request.reply(7, request.payload, request.data[::-1])
        elif request.type == FAIL:
            try:
                with request:
                    raise RuntimeError("a server's mistake")
            except RuntimeError:
                assert request.answered
        elif request.type == COUNT:
            request.reply(payload=struct.pack("<QQQ", len(cancelled), sends, bits))


def expect(exception, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except exception as raised:
        return raised
    raise AssertionError(f"{function} did not raise {exception}")


def next_from(receive, to, source):
    """A wake that came late is none of our business here."""
    while True:
        try:
            return receive(to, source, 10000)
        except dvk.Interrupted:
            pass


def client(d, dc, node):
    node = int(node)
    me, to = d.bind(dc), dvk.service_endpoint(node, OWN_SERVICE)
    assert dvk.slot_is_user(dvk.endpoint_slot(me)) and node in d.dc_nodes(dc)

    # requests, with and without data
    for data in (b"", b"abc", bytes(range(256)) * 256):
        reply, back = d.sendrec(me, dvk.Message(to, ECHO, b"payload"), data, timeout_ms=10000)
        assert (reply.status, reply.text(), back) == (7, b"payload", data[::-1])
        assert dvk.endpoint_slot(reply.source) == dvk.endpoint_slot(to)
    assert d.sendrec(me, dvk.Message(to, FAIL), timeout_ms=10000)[0].status == -errno.EIO

    # errors
    nobody = dvk.service_endpoint(node, OWN_SERVICE + 1)
    assert expect(dvk.Gone, d.sendrec, me, dvk.Message(nobody), timeout_ms=10000).code == -dvk.ENOTBOUND
    expect(dvk.NoDC, d.find_dc, "nosuch")
    expect(dvk.NoDC, d.bind, 4000)
    assert expect(dvk.Error, d.bind, dc, dvk.system_slot(d.node(), 1)).code == -dvk.ENOTALLOWED
    assert expect(TimeoutError, d.sendrec, me, dvk.Message(to, HOLD), timeout_ms=50).code == -dvk.ETIMEDOUT
    expect(dvk.TimedOut, d.receive, 0)
    expect(ValueError, dvk.Message, payload=b"x" * 209)

    # sends and notifications
    def counts():
        return struct.unpack_from("<QQQ", d.sendrec(me, dvk.Message(to, COUNT), timeout_ms=10000)[0].payload)
    d.send(me, dvk.Message(to, 9), b"data", timeout_ms=10000)
    d.notify(me, to, 5)
    while counts()[1:] != (1, 5):
        pass

    # calls, timers, watches and wakes: all from within receive()
    done = []

    def finished(*result):
        done.append(result)
        d.wake()

    def run_until(condition):
        while not condition():
            expect(dvk.Interrupted, d.receive, 10000)
    for i in range(20):
        d.call(me, dvk.Message(to, ECHO, b"%d" % i), finished, b"x%d" % i)
    run_until(lambda: len(done) == 20)
    assert sorted((int(reply.text()), data) for status, reply, data, _ in done) == [(i, (b"x%d" % i)[::-1]) for i in range(20)]
    assert all(status == 0 for status, _, _, _ in done)
    held = d.call(me, dvk.Message(to, HOLD), finished)
    before = counts()[0] # when this is answered, the server has the call as well: they come in order
    d.cancel(held)
    run_until(lambda: len(done) == 21)
    assert done[-1][0] == 0 and done[-1][1].status == -errno.ECANCELED and counts()[0] > before
    fired = []
    read, write = os.pipe()
    d.timer_cancel(d.timer(0, lambda: fired.append("never")))
    d.timer(1, lambda: (fired.append("timer"), d.wake()))
    run_until(lambda: fired)
    d.watch_fd(read, select.EPOLLIN, lambda fd, events: (fired.append(os.read(fd, 10)), d.wake()))
    os.write(write, b"pipe")
    run_until(lambda: len(fired) == 2)
    d.watch_fd(read, 0)
    assert fired == ["timer", b"pipe"]
    woken = threading.Event()
    threading.Timer(0.01, lambda: (woken.set(), d.wake())).start()
    run_until(woken.is_set)

    # what a callback raises comes out of receive()
    d.timer(0, lambda: {}["no such key"])
    while not isinstance(expect((dvk.Interrupted, KeyError), d.receive, 10000), KeyError):
        pass

    # within one context: a request to ourselves, descriptors with it; receiving from one source only
    mine, other = d.bind(dc), d.bind(dc)
    d.call(other, dvk.Message(mine, 1), finished)
    d.call(me, dvk.Message(mine, 2), finished, fds=[os.dup(read)])
    request = next_from(d.receive_from, mine, me)
    os.write(write, b"through")
    assert request.type == 2 and request.source == me and os.read(request.fds[0], 10) == b"through"
    request.reply(data=b"answer")
    expect(ValueError, request.reply)
    with next_from(d.receive_request, mine, other) as request:
        assert request.type == 1 and request in d.pending()
    run_until(lambda: len(done) == 23)
    assert b"answer" in [result[2] for result in done[-2:]]
    d.unbind(other)
    assert expect(dvk.Gone, d.unbind, other).code == -dvk.ENOTBOUND

    # a new context is told of the other nodes that are up
    others, up = set(d.dc_nodes(dc)) - {d.node()}, set()
    with dvk.open() as second:
        second.on_event(lambda event: (up.add((event.type, event.node)), len(up) == len(others) and second.wake()))
        expect(dvk.Interrupted, second.receive, 10000)
    expect(ValueError, second.node)
    assert up == {(dvk.EVENT_NODE_UP, other) for other in others}

    # a pending call ends when the context does
    d.call(me, dvk.Message(to, HOLD), lambda *result: done.append(result))
    d.close()
    assert done[-1][0] == -dvk.EINTERRUPTED
    print("all is well")


PATTERN = bytes(range(256)) * 4096 # 1 MiB


def more_server(d, dc):
    """What more_client talks to: long messages and posts, memory that it grants, a member of a group."""
    me = d.bind(dc, dvk.system_slot(d.node(), OWN_SERVICE))
    d.accept(dvk.LOAN_MAX)
    memory, grants, posts, casts = bytearray(PATTERN), [], [], []
    d.group_join(me, "team", 10000)
    ready(d)
    for request in d.requests():
        if request.group:
            if request.group_event == dvk.GROUP_MESSAGE:
                casts.append((request.type, request.text(), request.data))
            request.release()
        elif not request.wants_reply:
            posts.append(len(request.data))
            request.release()
        elif request.type == SUM:
            request.reply(payload=struct.pack("<QQ", len(request.data), zlib.crc32(request.data)))
        elif request.type == GRANT:
            grants.append(d.grant(me, request.source, memory, dvk.GRANT_READ | dvk.GRANT_WRITE))
            request.reply(payload=struct.pack("<QQ", me, grants[-1]))
        elif request.type == PEEK:
            request.reply(payload=struct.pack("<QQQ", len(posts), sum(posts), casts.count((9, b"to all", b"x" * 5000))),
                          data=memory[:1000])
        elif request.type == REVOKE:
            d.revoke(grants.pop())
            request.reply()


def loans_and_posts(d, me, to):
    def sum_of(data):
        return struct.unpack_from("<QQ", d.sendrec(me, dvk.Message(to, SUM), data, timeout_ms=10000)[0].payload)
    loan = d.loan_get(me, to, 1 << 20, 10000)
    loan.data[:] = PATTERN
    assert sum_of(loan) == (1 << 20, zlib.crc32(PATTERN))
    expect(ValueError, lambda: loan.data)
    loan = d.loan_get(me, to, 100000, 10000)
    loan.data[:70000] = PATTERN[:70000]
    assert sum_of(loan.narrow(70000)) == (70000, zlib.crc32(PATTERN[:70000]))
    expect(ValueError, d.loan_get(me, to, 10, 10000).narrow, 11)
    unsent = d.loan_get(me, to, 1 << 20, 10000)
    d.loan_drop(unsent)
    expect(ValueError, d.loan_drop, unsent)
    assert sum_of(PATTERN * 4) == (1 << 22, zlib.crc32(PATTERN * 4)) # long without a loan
    assert expect(dvk.Error, d.loan_get, me, to, dvk.LOAN_MAX + 1).code == -errno.EMSGSIZE
    for _ in range(100):
        d.post(me, dvk.Message(to, 1), b"x" * 1000, timeout_ms=10000)
    loan = d.loan_get(me, to, 200000, 10000)
    d.post(me, dvk.Message(to, 1), loan, timeout_ms=10000)
    expect(ValueError, lambda: loan.data)
    reply, _ = d.sendrec(me, dvk.Message(to, PEEK), timeout_ms=10000) # comes after all of them
    assert struct.unpack_from("<QQ", reply.payload) == (101, 300000)
    assert expect(dvk.Gone, d.post, 12345, dvk.Message(to, 1)).code == -dvk.ENOTBOUND


def copies(d, me, to):
    owner, grant = struct.unpack_from("<QQ", d.sendrec(me, dvk.Message(to, GRANT), timeout_ms=10000)[0].payload)
    mine = bytearray(1 << 20)
    assert d.vcopy(me, dvk.Area(owner, grant), mine, timeout_ms=10000) == 1 << 20 and mine == PATTERN
    assert d.vcopy(me, b"changed", dvk.Area(owner, grant, 100), timeout_ms=10000) == 7
    assert d.sendrec(me, dvk.Message(to, PEEK), timeout_ms=10000)[1] == PATTERN[:100] + b"changed" + PATTERN[107:1000]
    beyond = expect(dvk.Error, d.vcopy, me, dvk.Area(owner, grant, 1), mine, timeout_ms=10000)
    assert (beyond.code, beyond.name, beyond.done) == (-dvk.EOUTOFGRANT, "DVK_EOUTOFGRANT", 0)
    expect(ValueError, d.vcopy, me, dvk.Area(owner, grant), b"constant")
    expect(ValueError, d.vcopy, me, dvk.Area(owner, grant), mine, 2 << 20)
    d.sendrec(me, dvk.Message(to, REVOKE), timeout_ms=10000)
    assert expect(dvk.Error, d.vcopy, me, dvk.Area(owner, grant), mine, timeout_ms=10000).code == -dvk.EREVOKED
    assert expect(dvk.Error, d.revoke, 12345).code == -dvk.ENOTGRANTED
    expect(ValueError, d.grant, me, owner, b"constant", dvk.GRANT_WRITE)
    arena = d.arena_create(1 << 20)
    arena.data[:5] = b"arena"
    assert d.grant(me, owner, arena, dvk.GRANT_READ | dvk.GRANT_SHARE) > 0
    assert expect(dvk.Error, d.grant, me, owner, mine, dvk.GRANT_READ | dvk.GRANT_SHARE).code == -errno.EINVAL
    assert d.vcopy(me, arena, mine, 5, timeout_ms=10000) == 5 and mine[:6] == b"arena" + PATTERN[5:6]
    d.arena_destroy(arena)
    expect(ValueError, lambda: arena.data)


def groups(d, me, to):
    def next_of(kind):
        while True:
            request = next_from(d.receive_from, me, dvk.ANY)
            if request.group_event == kind:
                return request
            request.release()
    group = d.group_join(me, "team", 10000)
    assert expect(dvk.Error, d.group_join, me, "team", 10000).code == -errno.EALREADY
    with next_of(dvk.GROUP_VIEW) as request:
        view = d.group_view_of(request)
        assert request.group == group and view.flags == dvk.GROUP_QUORATE
        assert [member.node for member in view.members] == [dvk.endpoint_slot(to) - dvk.SYSTEM_BASE >> 8, d.node()]
        assert view.members[1].endpoint == me
    d.group_mcast(group, dvk.Message(type=9, payload=b"to all"), b"x" * 5000, 10000)
    with next_of(dvk.GROUP_MESSAGE) as request:
        assert (request.type, request.text(), request.data, request.source) == (9, b"to all", b"x" * 5000, me)
        assert expect(dvk.Error, d.group_view_of, request).code == -errno.EINVAL
    while struct.unpack_from("<QQQ", d.sendrec(me, dvk.Message(to, PEEK), timeout_ms=10000)[0].payload)[2] != 1:
        pass
    d.group_leave(group, 10000)
    with next_of(dvk.GROUP_VIEW) as request:
        assert d.group_view_of(request).flags & dvk.GROUP_OUT
    assert expect(dvk.Error, d.group_mcast, group, dvk.Message(), b"", 10000).code == -dvk.ENOTMEMBER


def keys(d, me):
    seen = []
    watch, _ = d.kv_watch(me, "py/", seen.append, 10000)
    one = d.kv_put(me, "py/one", b"first", 10000)
    two = d.kv_cas(me, "py/two", dvk.KV_NONE, "zw\u00f6lf".encode(), 10000)
    assert d.kv_get(me, "py/one", timeout_ms=10000) == dvk.KV("py/one", b"first", one, one, 1, False, False)
    assert expect(dvk.Error, d.kv_cas, me, "py/one", two, b"no", 10000).code == -dvk.ECONFLICT
    again = d.kv_cas(me, "py/one", one, b"second", 10000)
    assert [(kv.key, kv.value, kv.revision) for kv in d.kv_list(me, "py/", timeout_ms=10000)] == \
        [("py/one", None, again), ("py/two", None, two)]
    assert [kv.value for kv in d.kv_list(me, "py/", dvk.VALUES, 10000)] == [b"second", "zw\u00f6lf".encode()]
    d.kv_delete(me, "py/one", timeout_ms=10000)
    assert expect(dvk.Error, d.kv_get, me, "py/one", dvk.STALE, 10000).name == "DVK_ENOKEY"
    while len(seen) < 4:
        d.timer(10, d.wake)
        expect(dvk.Interrupted, d.receive, 10000)
    assert [(kv.key, kv.value, kv.revision, kv.deleted) for kv in seen[:3]] == \
        [("py/one", b"first", one, False), ("py/two", "zw\u00f6lf".encode(), two, False), ("py/one", b"second", again, False)]
    assert (seen[3].key, seen[3].deleted) == ("py/one", True)
    d.kv_unwatch(watch, 10000)
    assert expect(dvk.Error, d.kv_unwatch, watch, 10000).code == -dvk.ENOTMEMBER


def locks(d, dc, me):
    with dvk.open() as other:
        they = other.bind(dc)
        with d.lock(me, "gate", timeout_ms=10000) as lock:
            assert expect(dvk.Error, other.lock, they, "gate", dvk.TRY, 10000).code == -errno.EBUSY
            expect(dvk.TimedOut, other.lock, they, "gate", timeout_ms=50)
        theirs = other.lock(they, "gate", dvk.TRY, 10000)
        assert theirs.token > lock.token
        other.unlock(theirs, 10000)
        assert expect(dvk.Error, other.unlock, theirs, 10000).code == -dvk.ELOST
        office = d.leader_campaign(me, "chief", "that is me", timeout_ms=10000)
        leader = other.leader_get(they, "chief", timeout_ms=10000)
        assert leader == dvk.Leader(me, d.node(), office.token, "that is me")
        d.unlock(office, 10000)
        assert expect(dvk.Error, d.leader_get, me, "chief", timeout_ms=10000).code == -dvk.ENOKEY
        there = threading.Thread(target=other.barrier, args=(they, "start", 2, 10000))
        there.start()
        d.barrier(me, "start", 2, 10000)
        there.join()
        assert expect(dvk.TimedOut, d.barrier, me, "start", 2, 50).code == -dvk.ETIMEDOUT
        gone = []
        d.unwatch_endpoint(d.watch_endpoint(me, they, lambda *what: gone.append("never")))
        watch = d.watch_endpoint(me, they, lambda *what: (gone.append(what), d.wake()))
    while not gone:
        expect(dvk.Interrupted, d.receive, 10000)
    assert gone == [(they, -dvk.EDEADDST)]
    assert expect(dvk.Error, d.unwatch_endpoint, watch).code == -errno.ENOENT
    assert [state.node for state in d.nodes()] == d.dc_nodes(dc) and all(state.since_ms > 0 for state in d.nodes())


def some_request(contexts):
    """The next request to any of these contexts, all of which get their turns; and who got it."""
    while True:
        for d in contexts:
            try:
                return d, d.receive(10)
            except (dvk.TimedOut, dvk.Interrupted):
                pass


def waits_and_statistics(d, dc, me, to, node):
    nobody = dvk.service_endpoint(node, OWN_SERVICE + 1)
    full = d.wait_bind(me, to, 10000)
    assert dvk.endpoint_generation(full) and dvk.endpoint_slot(full) == dvk.endpoint_slot(to)
    expect(dvk.TimedOut, d.wait_bind, me, nobody, 50)
    expect(dvk.TimedOut, d.wait_unbind, me, full, 50)
    d.wait_unbind(me, nobody, 10000)
    info = d.info_endpoint(me, to)
    assert (info.endpoint, info.dc, info.node, info.backups) == (full, dc, node, 0)
    mine, theirs = d.stats_endpoint(me, me), d.stats_endpoint(me, to)
    assert (mine.endpoint, mine.node, theirs.endpoint, theirs.node) == (me, d.node(), full, node)
    assert mine.flags == dvk.STATS_COUNTED and mine.total.posts == 101 and mine.total.loans >= 5 and mine.since_ms > 0
    assert mine.total.errors[dvk.STATS_TIMED_OUT] == 0 and theirs.total.requests_in == 4 and theirs.total.sends_in >= 101
    sums = d.stats_dc(me)
    assert sums.dc == dc and sums.missing == 0 and sums.total.posts >= 101 and sums.now.pending == 0
    assert d.stats_dc(me, node).total.requests_in >= theirs.total.requests_in
    assert expect(dvk.Error, d.stats_node, me).code == -dvk.ENOTALLOWED # from DC 0 only
    what = d.info_dc(dc)
    assert (what.dc, what.kind) == (dc, dvk.DC_BARE) and [one.node for one in what.nodes] == d.dc_nodes(dc)
    assert all(one.up for one in what.nodes) and d.find_dc(what.name) == dc


def moves(d, dc, to):
    """An endpoint of ours moves to another context, with a request that is not answered; one is handed on."""
    with dvk.open() as backup, dvk.open() as asker:
        mine, asking = d.bind(dc), asker.bind(dc)
        told, done = [], []
        backup.on_event(lambda event: told.append((event.type, event.endpoint)))
        assert expect(dvk.Error, d.migrate_start, mine).code == -dvk.ENOBACKUP
        backup.bind_backup(dc, mine)
        assert d.info_endpoint(mine, mine).backups == 1
        asker.call(asking, dvk.Message(mine, SUM), lambda *result: done.append(result), b"abc")
        _, request = some_request([d, asker])
        assert d.migrate_resumed(request) is None
        d.relay(request, to)
        assert request.answered
        asker.call(asking, dvk.Message(mine, 77), lambda *result: done.append(result))
        _, request = some_request([d, asker])
        d.migrate_start(mine)
        expect(dvk.TimedOut, d.receive, 0)
        d.migrate_rollback(mine)
        assert expect(dvk.Error, d.migrate_rollback, mine).code == -dvk.ENOTMIGRATING
        d.migrate_start(mine, d.node())
        d.migrate_carry(request, 4711)
        d.migrate_commit(mine)
        assert request.answered and request not in d.pending()
        who, request = some_request([d, backup, asker])
        assert who is backup and request.type == 77 and backup.migrate_resumed(request) == 4711
        assert told[-1] == (dvk.EVENT_PROMOTED, mine)
        request.reply(payload=b"from the new place")
        while len(done) < 2:
            asker.timer(10, asker.wake)
            expect(dvk.Interrupted, asker.receive, 10000)
        payloads = [reply.payload for status, reply, _, _ in done if status == 0]
        assert struct.pack("<QQ", 3, zlib.crc32(b"abc")) in [payload[:16] for payload in payloads]
        assert b"from the new place".ljust(dvk.PAYLOAD_SIZE, b"\0") in payloads
        assert expect(dvk.Gone, d.unbind, mine).code == -dvk.ENOTBOUND
        other = d.bind(dc)
        backup.bind_replica(dc, other)
        backup.unbind_backup(dc, other)
        assert expect(dvk.Gone, backup.unbind_backup, dc, other).code == -dvk.ENOTBOUND


def privileges(d, dc, to):
    """Of what is ours we can take away; another gives it back."""
    with dvk.open() as narrow:
        mine, me = narrow.bind(dc), d.bind(dc)
        all_of_it = d.get_privileges(me, mine)
        assert all_of_it.calls == dvk.MAY_ALL and all_of_it.to.flags == all_of_it.from_.flags == dvk.PEERS_ALL
        full = narrow.wait_bind(mine, to, 10000)
        less = dvk.Privileges(dvk.MAY_ALL & ~dvk.MAY_NOTIFY, dvk.Peers(0, (64, 70), full))
        narrow.set_privileges(mine, mine, less)
        told = d.get_privileges(me, mine)
        assert told.calls == less.calls and told.to.flags == 0 and told.from_.flags == dvk.PEERS_ALL
        assert [(one.first, one.last) for one in told.to.ranges[:told.to.count]] == [(64, 70), (full, full)]
        assert narrow.sendrec(mine, dvk.Message(full, SUM), b"abc", timeout_ms=10000)
        assert expect(dvk.Error, narrow.sendrec, mine, dvk.Message(me, SUM), timeout_ms=10000).code == -dvk.ENOTALLOWED
        assert expect(dvk.Error, narrow.set_privileges, mine, mine, dvk.Privileges()).code == -dvk.ENOTALLOWED
        d.set_privileges(me, mine, dvk.Privileges())
        assert narrow.get_privileges(mine, mine).calls == dvk.MAY_ALL
        expect(ValueError, lambda: dvk.Peers(0, *range(64, 81)))


def more_client(d, dc, node):
    me, to = d.bind(dc), dvk.service_endpoint(int(node), OWN_SERVICE)
    loans_and_posts(d, me, to)
    waits_and_statistics(d, dc, me, to, int(node))
    moves(d, dc, to)
    privileges(d, dc, to)
    copies(d, me, to)
    groups(d, me, to)
    keys(d, me)
    locks(d, dc, me)
    kept = d.loan_get(me, to, 4096, 10000)
    d.close()
    expect(ValueError, lambda: kept.data) # it ends with the context
    print("all is well")


def main():
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("told to end"))
    with dvk.open() as d:
        globals()[sys.argv[1]](d, d.find_dc(sys.argv[2]), *sys.argv[3:])


main()
