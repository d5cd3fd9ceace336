# SPDX-License-Identifier: Apache-2.0
"""Processes that make the calls they are told (call_peer.py), for the tests of what the headers of libdvk document."""
import json
import os
import select
import subprocess

from dvslab import BUILD, clean_env

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "call_peer.py")
LIBRARY = os.path.join(BUILD, "src", "dvk", "libdvk.so.1")
PYTHON = "/usr/bin/python3"
ANY = 2 ** 64 - 1
FOREVER = -1
(NOTBOUND, DEADSRC, DEADDST, NODC, NODEUNREACH, NOTALLOWED, DEADLOCK, TIMEDOUT, INTERRUPTED, MIGRATING, NOSLOT, SLOTBUSY, BADPEER,
 NOQUORUM, NODAEMON, VERSION) = range(-2001, -2017, -1)
NOBACKUP, NOTMIGRATING, NOTCARRIED = -2040, -2041, -2042
NOTGRANTED, REVOKED, OUTOFGRANT = -2020, -2021, -2022
CONFLICT, NOKEY, UNKNOWN, LOST, NOTMEMBER = range(-2031, -2036, -1)


def socket_of(lab, node):
    return f"/run/dvs/lab/{lab.name}/{node}/dvkd.sock"


def service_slot(node_id, number):
    return (1 << 24) + node_id * 256 + number


class Caller:
    """A process with a context at dvkd of a node and one endpoint (self) in a DC. inside: in the node's namespaces."""

    def __init__(self, lab, node, dc, inside=False):
        self.lab, self.node, self.dc = lab, node, dc
        self.node_id = "abcdefgh".index(node) + 1
        program = [PYTHON, "-B", PROGRAM, LIBRARY]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        if inside:
            self.process = lab.start("lab", "exec", node, *program, **pipes, stderr=None)
        else:
            self.process = subprocess.Popen(program, env=clean_env(), **pipes)
        self.self = 0

    def join(self):
        """Open the context and bind."""
        self.ok("open", socket_of(self.lab, self.node))
        self.bind()
        return self

    def start(self, *call):
        """A call that is not waited for."""
        self.process.stdin.write(json.dumps(call) + "\n")

    def finish(self):
        """What came of it: the result, then what came out."""
        assert select.select([self.process.stdout], [], [], 20)[0], f"{self.node}: no answer"
        line = self.process.stdout.readline()
        assert line, f"{self.node}: the caller has ended"
        return json.loads(line)

    def __call__(self, *call):
        """The result alone."""
        self.start(*call)
        return self.finish()[0]

    def ok(self, *call):
        """What came out of a call that must succeed."""
        self.start(*call)
        result = self.finish()
        assert result[0] >= 0, (call, result)
        return result[1:]

    def bind(self, slot=0):
        self.self, = self.ok("bind", self.dc, slot)
        return self.self

    def take(self, *call):
        """The handle of the next message."""
        return self.ok(*(call or ("receive", 10000)))[0]

    def is_asleep(self):
        """Whether it sleeps in a call."""
        with open(f"/proc/{self.process.pid}/syscall", encoding="ascii") as file:
            return file.read().split()[0] in ("7", "202") # poll, futex

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
