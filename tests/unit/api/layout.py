#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What python/dvk.py says of structures and numbers is what the headers say; and the little that needs no dvkd works.

    layout.py LAYOUT_PROGRAM LIBDVK_SO PYTHON_DIR
"""
import ctypes
import os
import subprocess
import sys

layout, os.environ["DVK_LIBRARY"], directory = sys.argv[1:]
sys.path.insert(0, directory)
sys.dont_write_bytecode = True
import dvk  # noqa: E402

STRUCTS = {"dvk_message": dvk.Message, "dvk_request": dvk._Request, "dvk_event": dvk._Event, "dvk_area": dvk.Area,
           "dvk_group_member": dvk._Member, "dvk_group_view": dvk._View, "dvk_kv": dvk._KV, "dvk_lock": dvk._Lock,
           "dvk_leader": dvk._Leader, "dvk_node_state": dvk._NodeState, "dvk_endpoint_info": dvk.EndpointInfo,
           "dvk_stats": dvk.Stats, "dvk_stats_now": dvk.StatsNow, "dvk_endpoint_stats": dvk.EndpointStats,
           "dvk_dc_stats": dvk.DCStats, "dvk_node_stats": dvk.NodeStats, "dvk_dc_info": dvk.dvk_more._DCInfo,
           "dvk_dc_node": dvk.dvk_more._DCNode, "dvk_peers_range": dvk.PeersRange, "dvk_peers": dvk.Peers,
           "dvk_privileges": dvk.Privileges}


def value_of(name):
    if name.startswith("sizeof "):
        return ctypes.sizeof(STRUCTS[name.split()[1]])
    if "." in name:
        struct, field = name.split(".")
        return getattr(STRUCTS[struct], {"payload": "_payload", "from": "from_"}.get(field, field)).offset
    return getattr(dvk, name)


wrong = 0
for line in subprocess.run([layout], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
    name, number = line.rsplit(" ", 1)
    if value_of(name) != int(number):
        print(f"{name}: {number} in C, {value_of(name)} in python/dvk.py")
        wrong += 1
assert not wrong

assert dvk.endpoint_make(7, 70) == 7 << 32 | 70 and dvk.endpoint_slot(dvk.endpoint_make(7, 70)) == 70
assert dvk.service_endpoint(2, 32) == (1 << 24) + 2 * 256 + 32
assert dvk.strerror(-dvk.ENODC) == "no such distributed container"
message = dvk.Message(5, 6, b"text")
assert message.text() == b"text" and len(message.payload) == dvk.PAYLOAD_SIZE and (message.destination, message.type) == (5, 6)
try:
    dvk.Message(payload=b"x" * (dvk.PAYLOAD_SIZE + 1))
    raise SystemExit("a payload that is too long was taken")
except ValueError:
    pass
try:
    dvk.open("/nonexistent/dvkd.sock")
    raise SystemExit("there was a dvkd")
except dvk.NoDaemon as error:
    assert error.code == -dvk.ENODAEMON and error.name == "DVK_ENODAEMON" and str(error) == dvk.strerror(error.code)
