#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""seeds.py DIRECTORY: writes DIRECTORY/TARGET/* (inputs to start from) and DIRECTORY/TARGET.dict (words to insert)."""
import json
import os
import random
import struct
import sys

OUT = sys.argv[1]
TARGETS = ["wire", "proxy", "broker", "channel", "relay", "copier", "image", "descriptors", "elf", "pm", "fs", "config", "spec", "api", "replica", "record", "cluster", "services"]


def seed(target, name, data):
    os.makedirs(f"{OUT}/{target}", exist_ok=True)
    with open(f"{OUT}/{target}/{name}", "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)


def words(target, texts):
    with open(f"{OUT}/{target}.dict", "w") as file:
        for text in texts:
            file.write('"' + "".join(c if c.isalnum() else f"\\x{ord(c):02x}" for c in text) + '"\n')


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def frame(command, body, sequence):
    def header(crc):
        return struct.pack("<IHHIIQQQIiII", 0x50535644, 1, command, 0, len(body), sequence, 0, 7, 1, 0, crc, 0)
    return header(crc32c(header(0) + body)) + body


def image(argv, env, fds=0):
    strings = b"".join(s.encode() + b"\0" for s in [argv[0], *argv, *env])
    head = struct.pack("<QIIIIIIQQII", 0x3147494D49535644, 1, 0, len(argv), len(env), len(strings), fds, 0, 0, 0o22, 0)
    return head + strings + b"\0" * (-len(strings) % 8) + struct.pack("<iIIIIIqII", 0, 2, 1, 0, 2, 0, 1, 0, 0) * fds


def message(data):
    return struct.pack("<QQIiIHHQQ", 1 << 32 | 100, 2 << 32 | 101, 5, 0, len(data), 0, 0, 0, 0) + b"\0" * 208 + data


# ---- JSON ----

SPEC = {"image": "/nonexistent", "place": "spread", "mounts": [{"host": "/srv", "node": "a", "path": "/vol", "ro": True}],
        "memory": 1 << 28, "cpus": 1.5, "pids": 64, "argv": ["/bin/sh", "-c", "true"], "env": ["A=b"], "cwd": "/tmp", "rm": True,
        "tty": False, "strict": False, "trace": False}
NODE = {"id": 1, "name": "a", "address": "10.0.0.1:1", "run": "/run/dvs", "version": "0.1", "cpus": 2}
DC = {"id": 1, "serial": 3, "name": "one", "state": "running", "exit_status": 0, "reason": "", "primary": 1, "nodes": [1, 2],
      "created": 1, "spec": SPEC, "slots": "16384 1+128=1 129+128=2"}
CHANGES = [{"op": "node-set", **NODE}, {"op": "dc-create", "name": "two", "nodes": [1], "primary": 1, "created": 5, "spec": SPEC},
           {"op": "dc-create", "name": "", "nodes": [1, 2], "primary": 2, "created": 5, "spec": SPEC},
           {"op": "dc-state", "dc": 1, "serial": 3, "state": "exited", "exit_status": 256},
           {"op": "dc-state", "dc": 1, "serial": 3, "state": "failed", "reason": "why"},
           {"op": "dc-remove", "dc": 1, "serial": 3, "force": True}, {"op": "dc-remove", "dc": 2, "serial": 1},
           {"op": "dc-create", "name": "few", "nodes": [1, 2], "primary": 2, "created": 5, "spec": SPEC, "slots": {"sets": 9, "share": 2}},
           {"op": "slots-take", "dc": 1, "serial": 3, "view": 2, "node": 2, "want": 2, "below": 16384},
           {"op": "slots-give", "dc": 1, "serial": 3, "view": 2, "node": 1, "to": 2, "sets": "3+1 7+2", "generation": 5}]


def text(value):
    return json.dumps(value, separators=(",", ":"))


def snapshot(**more):
    return {"view": 2, "epoch": 9, "last_dc": 1, "nodes": [NODE, {**NODE, "id": 2, "name": "b"}], "dcs": [DC], **more}


def config():
    for i, change in enumerate(CHANGES):
        seed("config", f"change{i}", text(snapshot()) + "\n" + text(CHANGES[0]) + "\n" + text(CHANGES[1]) + "\n" + text(change))
    seed("spec", "full", text(SPEC))
    for key in SPEC:
        seed("spec", f"without-{key}", text({k: v for k, v in SPEC.items() if k != key}))


def api():
    run = {"op": "dc.run", "name": "x", "nodes": ["a"], **SPEC, "detach": False}
    requests = [{"op": op} for op in ("version", "node.ls", "dc.ls", "debug.channels", "debug.endpoints", "debug.memory")]
    requests += [{"op": op, "dc": dc} for op in ("dc.inspect", "dc.ps", "dc.rm", "dc.logs", "dc.kill") for dc in ("x", 1)]
    requests += [run, {**run, "image": "host", "argv": []}, {"op": "dc.exec", "dc": "x", "argv": ["/bin/true"], "tty": True, "env": ["A=b"]},
                 {"op": "dc.resize", "dc": "x", "rows": 20, "columns": 80, "pid": 3}, {"op": "dc.kill", "dc": "x", "pid": 70, "signal": 9},
                 {"op": "dc.rm", "dc": "x", "force": True}, {"op": "dc.logs", "dc": "x", "follow": True}]
    for i, request in enumerate(requests):
        seed("api", f"request{i}", text(request))
    seed("api", "several", "\n".join(text(r) for r in requests[:8]))


def replica():
    def of(sender, **more):
        return str(sender) + text({"version": 1, **more}).replace('"@M"', "@M").replace('"@V"', "@V")
    start = of(1, type="start", members=["@M"], round="r1", view=5)
    hello = [of(n, type="hello", round="@R", view=0, epoch=0, promised=5, accepted=True, digest="@D", node={**NODE, "id": n, "name": f"n{n}"})
             for n in (1, 3)]
    synced = ["V123", start, "T", *hello, "T"]
    change = [of(1, type="change", view="@V", sequence=i, change=c) for i, c in enumerate(CHANGES)]
    seed("replica", "sync", "\n".join(synced))
    seed("replica", "changes", "\n".join(synced + change[:4] + ["P" + text(CHANGES[1]), "T", of(1, type="applied", view="@V", epoch=3),
                                                                of(3, type="applied", view="@V", epoch=3)]))
    seed("replica", "alone", "\n".join(["V2", "T", "T", "P" + text(CHANGES[1]), "T", "v2"]))
    seed("replica", "refused", "\n".join(["V123", start, "T", hello[0].replace('"accepted":true', '"accepted":false'), "T", start]))
    seed("replica", "leader", "\n".join(["V23", "T", hello[1], "T", change[0], of(3, type="resync", view="@V"), "T"]))
    newer = [h.replace('"view":0', '"view":3').replace('"digest":"@D"', '"digest":"77"') for h in hello]
    seed("replica", "snapshot", "\n".join(["V123", start, "T", newer[0], hello[1], "T",
                                           of(1, type="snapshot", round="@R", last=True, **snapshot()), *change, "T"]))
    seed("replica", "highest-view", "\n".join(["V123", start.replace('"view":5', '"view":9223372036854775807'), "V23", "T"]))
    seed("replica", "highest-epoch", "\n".join(["V123", start, "T", newer[0], hello[1], "T", of(
        1, type="snapshot", round="@R", last=True, **snapshot(epoch=(1 << 63) - 1))]))
    seed("replica", "exclude", "\n".join(["V123", start, of(1, type="exclude", members=["@M"], nodes=[3, 2]), "T",
                                          of(1, type="status", cells=3, load=1.5)]))


def binary():
    hello = struct.pack("<IIQQQ64s", 3, 0, 1, 0, 0, b"c")
    for i, body in enumerate([frame(1, hello, 0), frame(2, message(b"data"), 1), frame(4, message(b""), 2), frame(6, b"", 0)]):
        seed("wire", f"frame{i}", b"\0" + body)
    seed("image", "plain", image(["/bin/true", "x"], ["PATH=/bin", "DVS_PLACE=spread"]))
    seed("image", "descriptors", image(["/bin/true"], [], 3))
    with open("/bin/true", "rb") as file:
        seed("elf", "true", file.read(4096))
    seed("elf", "script", b"#! /bin/sh -e\nexit")
    seed("elf", "long", b"#!/" + b"x" * 300)
    def entries(*events):
        return b"".join(struct.pack("<QQII5Q", i + 1, 1000 + i, event, 1, 64 << 32 | 70, 2, 3, 0x1b1b1b, 5) for i, event in enumerate(events))
    header = struct.pack("<IIIIIIQq32s", 0x44524344, 1, 4096, 64, 1, 2, 60, 10 ** 18, b"dvkd")
    seed("record", "all", header + entries(*range(60)))
    seed("record", "odd", header + entries(1, 3, 4) + b"x")
    seed("cluster", "token", b"\0dvs1/10.0.0.1:7070/1789000000/" + b"0a" * 32 + b"/" + b"f3" * 16)
    seed("cluster", "corosync", b"\1totem {\n  version: 2\n}\nnodelist {\n  node {\n    ring0_addr: 10.0.0.1\n    name: a\n    nodeid: 1\n  }\n}\n")
    seed("cluster", "request", b"\3MIHIMHACAQAwDjEMMAoGA1UEAwwDYWJjMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE")
    def ask(client, op, fields=b"", name=b"name", value=b""):
        data = fields.ljust(16, b"\0") + name + value
        return bytes([op * 2 + client, len(data)]) + data
    own, begin, cut, back = b"\xe0\0", b"\xf8\0", b"\xf0\0", b"\xf2\0"
    def cast(payload):
        return bytes([160, len(payload)]) + payload
    seed("services", "keys", ask(0, 8) + ask(1, 5, value=b"one") + own + ask(0, 4) + ask(0, 4, b"\x01") + ask(1, 5, b"\x02\0\0\x02", value=b"two") +
         ask(0, 7, b"\0\x01") + own + ask(0, 6) + own)
    seed("services", "locks", ask(0, 10) + ask(1, 10) + own + b"\x82\x01\0" + ask(0, 11, b"\0\0\x03") + own + begin + own + ask(1, 10, b"\x10") + own)
    seed("services", "barrier", ask(0, 13, b"\0\0\0\0\x02") + own + ask(1, 13, b"\0\0\0\0\x02") + own)
    seed("services", "group", ask(0, 1) + ask(1, 1) + own + ask(0, 3, b"\0\0\x03", b"", b"m" * 216) + own + b"\x80\x01\x01" + ask(0, 2, b"\0\0\x03") + own)
    seed("services", "cut", ask(0, 1) + ask(1, 10) + ask(0, 8) + own + cut + ask(0, 5) + back + ask(0, 5) + own)
    seed("services", "casts", ask(0, 1) + own + cast(b'{"do":"hold","dc":0,"name":"name","on":true}') + ask(0, 3, b"\0\0\x03", b"", b"m" * 216) +
         cast(b'{"do":"message","dc":0,"name":"name","from":[1,2,3,4,5],"data":"AAAA"}') + cast(b'{"do":"snapshot","dc":0,"number":1}') +
         cast(b'{"do":"snapshot-part","to":2,"number":1,"endpoints":[],"last":true}') + own)
    # two grants of both memories, a copy between them, one from another node and its pieces: see copier.c
    def granted(which):
        return bytes([0, 0x1e | which, 0, 0, 0, 0, 0xFF, 0xFF, 3, 1 + which])
    both = granted(0) + granted(1)
    seed("copier", "local", both + bytes([3, 0x6A, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0xFF, 0xFF, 0]) + bytes([7] * 4))
    asked = bytes([3, 0x6A, 0x41, 0, 0, 0, 2, 0, 0, 0, 0, 0xFF, 0xFF, 0])
    seed("copier", "remote", both + asked + bytes([13, 0, 5, 0, 29, 0, 21, 0]))
    seed("copier", "time", both + asked[:-1] + bytes([9, 13, 0, 0xFF, 5, 0]))
    seed("copier", "read", both + bytes([3, 0x74, 1, 0, 0, 0, 0, 0xFF, 0x3F]) + bytes([2, 0, 0]))
    seed("copier", "no_grant", both + bytes([3, 0x74, 0x80] + [0] * 8 + [0, 0, 0, 0, 0xFF, 0x3F]) + bytes([2, 0, 0])) # 0 is none
    # programs that start until a node sweeps its only set, while it gives slots out of it: see pm.c
    seed("pm", "only_set", bytes.fromhex("5bb72ff90f783fa3e8e32c") + bytes([101] * 165) + bytes.fromhex("34") + bytes([101] * 12) +
         bytes.fromhex("e6042d8bf9efef") + bytes([101] * 66) + bytes.fromhex("e6ff75042d8bf9efef"))
    # who greets, then asks in ways that fit: see broker.c
    seed("broker", "connect", bytes([0xFF, 0x10, 0, 3, 1, 1, 1, 0, 0, 0, 0, 0x10, 0, 3, 1, 1, 1, 0, 0, 0, 0]))


def noise():
    for target in TARGETS:
        random.seed(target)
        for i, size in enumerate([40, 200, 600]):
            seed(target, f"noise{i}", bytes(random.randrange(256) for _ in range(size)))


noise()
binary()
config()
api()
replica()
KEYS = [f'"{k}":' for k in {**SPEC, **NODE, **DC, "op": 1, "dc": 1, "nodes": 1, "primary": 1, "force": 1, "type": 1, "round": 1, "view": 1,
                            "epoch": 1, "sequence": 1, "change": 1, "members": 1, "accepted": 1, "digest": 1, "promised": 1, "last": 1,
                            "dcs": 1, "last_dc": 1, "node": 1, "cells": 1, "load": 1, "detach": 1, "signal": 1, "pid": 1}]
VALUES = ["null", "true", "false", "[]", "{}", '""', "-1", "0", "1", "384", "385", "4096", "4097", "9223372036854775807",
          "-9223372036854775808", "1e308", '"\\u0000"', '"host"', '"spread"', '"node=a"', '"/../x"', "@R", "@D", "@M", "@V"]
for json_target in ("config", "spec", "api", "replica"):
    words(json_target, KEYS + VALUES + [f'"{c["op"]}"' for c in CHANGES] +
          [f'"{t}"' for t in ("start", "hello", "snapshot", "exclude", "applied", "resync", "status", "change", "running", "exited", "failed")])
