# SPDX-License-Identifier: Apache-2.0
"""Programs for test_python.py: python_peer.py ROLE DC [ARGUMENT...]. They use python/dvk.py as any program would."""
import errno
import os
import select
import signal
import struct
import sys
import threading

import dvk

GREET_SERVICE, FILES_SERVICE, OWN_SERVICE = 32, 33, 40
ECHO, FAIL, HOLD, COUNT = 1, 2, 3, 4


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


def main():
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("told to end"))
    with dvk.open() as d:
        globals()[sys.argv[1]](d, d.find_dc(sys.argv[2]), *sys.argv[3:])


main()
