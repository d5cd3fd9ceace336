# SPDX-License-Identifier: Apache-2.0
"""What dvs-counter's servers and clients wrote down (tests/programs/counter.h), and whether it may be so: each call done at most once,
in order, no reply lost or changed, no error without a cause, no wait without an end."""
import collections
import os
import re
import struct

DONE, BOUND, WRONG = 1, 2, 3
WRONGS = {1: "done twice or out of order", 2: "damaged", 3: "of another node than it says", 4: "a message that nobody sends",
          5: "the reply of another call"}
GRACE = 1.5 # seconds after a loss in which its consequences may still be met
Line = collections.namedtuple("Line", "kind status client sequence server value start end")
Disturbance = collections.namedtuple("Disturbance", "nodes begin end") # monotonic seconds; nodes: a set; end None: not yet
LAYOUT = struct.Struct("<IiQQQQqq")


def errors(root):
    """{number: name} of the DVK's errors."""
    with open(os.path.join(root, "include/dvk/error.h"), encoding="utf-8") as file:
        return {int(number): name for name, number in re.findall(r"^ *(DVK_E\w+) = (\d+)", file.read(), re.MULTILINE)}


# with which a call may end when the caller's own node is lost, or its quorum, and when that happens to the server or its node; anything
# else is wrong at any time
OWN = {"DVK_ENOTALLOWED", "DVK_EINTERRUPTED", "DVK_ENOQUORUM", "DVK_ENODAEMON"}
LOSS = {"DVK_ENOTBOUND", "DVK_EDEADDST", "DVK_ENODEUNREACH", "DVK_ENODC"}


def read(path):
    """The lines of a log; one that its writer was killed in is left out."""
    with open(path, "rb") as file:
        data = file.read()
    data = data[:len(data) // LAYOUT.size * LAYOUT.size]
    return [Line(*fields[:6], fields[6] / 1e9, fields[7] / 1e9) for fields in LAYOUT.iter_unpack(data)]


def node_of(client):
    return client >> 32


def excused(line, nodes, disturbances):
    return any(nodes & d.nodes and line.start <= (d.end if d.end is not None else float("inf")) + GRACE and line.end >= d.begin
               for d in disturbances)


def fenced(server_lines, client_lines, server_node, puts_out):
    """Failures. puts_out: (node, seconds): it was stopped, the others had put it out, and then it went on. What its processes say from then
    on must not be taken on other nodes until they have bound again."""
    failures, client_binds = [], collections.defaultdict(list)
    server_binds = [line.start for line in server_lines if line.kind == BOUND]
    for line in client_lines:
        if line.kind == BOUND:
            client_binds[line.client].append(line.start)

    def taken(lines, node, since, binds_of, time_of, what):
        for line in lines:
            until = min((at for at in binds_of(line) if at > since), default=float("inf"))
            if line.kind == DONE and line.status == 0 and node_of(line.client) != server_node and since < time_of(line) < until:
                failures.append(f"call {line.sequence} of client {line.client:#x} was {what} at {time_of(line):.3f}, though node {node} was put "
                                f"out, went on at {since:.3f}, and its process bound again at {until:.3f}")

    for node, since in puts_out:
        if node == server_node:
            taken(client_lines, node, since, lambda line: server_binds, lambda line: line.end, "answered")
        else:
            taken([line for line in server_lines if node_of(line.client) == node], node, since, lambda line: client_binds[line.client],
                  lambda line: line.start, "done")
    return failures


def check(server_lines, client_lines, server_node, disturbances, names):
    """(failures, counts). server_lines, client_lines: of all logs. disturbances: node 0 stands for the server itself."""
    failures, counts, done = [], collections.Counter(), {}
    for line in server_lines + client_lines:
        if line.kind == WRONG:
            failures.append(f"call {line.sequence} of client {line.client:#x}: {WRONGS.get(line.status, line.status)}")
    for line in server_lines:
        if line.kind != DONE:
            continue
        if (line.client, line.sequence) in done:
            failures.append(f"call {line.sequence} of client {line.client:#x} was done twice")
        done[line.client, line.sequence] = (line.server, line.value)
        counts["done"] += 1
    for line in client_lines:
        if line.kind != DONE:
            continue
        who = f"call {line.sequence} of client {line.client:#x} (at {line.start:.3f}, ended {line.end:.3f})"
        if line.status == 0:
            counts["answered"] += 1
            if done.get((line.client, line.sequence)) != (line.server, line.value):
                failures.append(f"{who} was answered {(line.server, line.value)}, but done {done.get((line.client, line.sequence))}")
            continue
        name = names.get(-line.status, str(line.status))
        counts["failed"] += 1
        counts[name] += 1
        if name not in LOSS | OWN:
            failures.append(f"{who} ended with {name}, which nothing that was done explains")
        elif name in OWN and not excused(line, {node_of(line.client)}, disturbances):
            failures.append(f"{who} ended with {name}, though its own node was not lost")
        elif not excused(line, {node_of(line.client), server_node, 0}, disturbances):
            failures.append(f"{who} ended with {name}, though neither its node nor the server's (node {server_node}) was lost")
    return failures, counts
