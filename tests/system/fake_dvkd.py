#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A daemon that speaks the command's protocol (src/dvkd/README.md) and runs programs natively: so `dvs` itself can be
tested apart from all below it. As a lab's dvkd it reports a cluster in which all nodes are up."""
import argparse
import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading

FDS_MAX = 8


class Fake:
    def __init__(self, run, node="a", node_id=1, nodes=("a",)):
        self.run, self.node, self.node_id, self.nodes = run, node, node_id, nodes
        self.seen = []  # requests, for the tests to look at
        self.processes = {}
        self.ttys = {}
        self.answers = {}  # op -> answer instead of the usual one
        os.makedirs(run, exist_ok=True)
        path = os.path.join(run, "dvs.sock")
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(16)

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.handle, args=(client,), daemon=True).start()

    def start(self):
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for pid in self.processes:  # each is the leader of a group of its own
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def handle(self, client):
        data, fds = b"", []
        while b"\n" not in data:
            part, more, _, _ = socket.recv_fds(client, 65536, FDS_MAX)
            if not part:
                client.close()
                return
            data += part
            fds += more
        request = json.loads(data)
        self.seen.append(request)
        try:
            self.answer(client, request, fds)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            for fd in fds:
                os.close(fd)
            client.close()

    @staticmethod
    def send(client, message):
        client.sendall(json.dumps(message).encode() + b"\n")

    def answer(self, client, request, fds):
        op = request["op"]
        if op in self.answers:
            self.send(client, self.answers[op])
        elif op == "version":
            self.send(client, {"ok": True, "version": "fake", "node": self.node, "id": self.node_id})
        elif op == "node.ls":
            nodes = [{"id": i + 1, "name": name, "state": "up", "quorate": True, "this": name == self.node, "version": "fake",
                      "address": "", "cells": 0, "cpus": 2, "load": 0.5} for i, name in enumerate(self.nodes)]
            self.send(client, {"ok": True, "nodes": nodes, "quorate": True, "expected": len(nodes)})
        elif op in ("dc.run", "dc.exec"):
            self.start_program(client, request, fds)
        elif op == "dc.kill":
            self.processes[request["pid"]].send_signal(request["signal"])
            self.send(client, {"ok": True})
        elif op == "dc.resize":
            fcntl.ioctl(self.ttys[request["pid"]], termios.TIOCSWINSZ, struct.pack("HHHH", request["rows"], request["cols"], 0, 0))
            self.send(client, {"ok": True})
        elif op == "dc.logs":
            self.send(client, {"ok": True})
            client.sendall(b"line 1\nline 2\n" * 50000)
        else:
            self.send(client, {"error": {"code": "no-such-dc", "message": "no container named " + str(request.get("dc")),
                                         "hint": "dvs ls lists them"}})

    def start_program(self, client, request, fds):
        env = dict(pair.split("=", 1) for pair in request["env"])
        env.setdefault("PATH", "/usr/bin:/bin")
        if request["tty"]:
            master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", request["rows"], request["cols"], 0, 0))
            stdio = dict(stdin=slave, stdout=slave, stderr=slave, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        else:
            stdio = dict(zip(("stdin", "stdout", "stderr"), fds or [subprocess.DEVNULL] * 3))
        try:
            process = subprocess.Popen(request["argv"], env=env, cwd=request.get("cwd", "/"), start_new_session=True, **stdio)
        except FileNotFoundError:
            self.send(client, {"error": {"code": "no-such-command", "message": "no command " + request["argv"][0]}})
            return
        except PermissionError:
            self.send(client, {"error": {"code": "not-executable", "message": request["argv"][0] + " is not executable"}})
            return
        self.processes[process.pid] = process
        if request["tty"]:
            os.close(slave)
            self.ttys[process.pid] = master
            self.relay(master, fds[0])
        self.send(client, {"ok": True, "id": 1, "name": request.get("name", "fake1"), "pid": process.pid})
        while fds and not request["tty"]:
            os.close(fds.pop())
        status = process.wait()
        if request["tty"]:
            self.output.join()
            os.close(fds.pop())
        self.send(client, {"exited": -status if status < 0 else status << 8})

    def relay(self, master, stream):
        def copy(source, sink):
            while True:
                try:
                    data = os.read(source, 65536)
                except OSError:
                    return
                if not data:
                    return
                os.write(sink, data)
        threading.Thread(target=copy, args=(os.dup(stream), master), daemon=True).start()
        self.output = threading.Thread(target=copy, args=(master, stream), daemon=True)
        self.output.start()


def main():
    parser = argparse.ArgumentParser()
    for option in ("--node", "--id", "--run", "--state", "--libexec", "--listen"):
        parser.add_argument(option)
    parser.add_argument("--cluster", action="store_true")
    options = parser.parse_args()
    lab = os.path.dirname(options.state)
    with open(os.path.join(lab, "lab.json"), encoding="utf-8") as file:
        nodes = json.load(file)["nodes"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Fake(options.run, options.node, int(options.id), nodes).serve()


if __name__ == "__main__":
    main()
