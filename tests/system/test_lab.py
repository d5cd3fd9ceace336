# SPDX-License-Identifier: Apache-2.0
"""A lab with everything real: nodes, versions, a lab of one, and nothing left behind after work."""
import json
import os
import signal
import socket
import time

import pytest

from dvslab import DVS, host_pids, run, wait_for


def test_node_ls(lab):
    nodes = lab.json("node", "ls")
    assert [(n["name"], n["id"], n["state"], n["quorate"]) for n in nodes] == [("a", 1, "up", True), ("b", 2, "up", True), ("c", 3, "up", True)]
    assert [n["name"] for n in nodes if n.get("this")] == ["a"]
    assert len({n["version"] for n in nodes}) == 1
    table = lab.ok("node", "ls").splitlines()
    assert table[0].split()[:4] == ["NAME", "ID", "STATE", "QUORATE"] and len(table) == 4


def test_every_node_answers_the_same(lab):
    for node in "abc":
        assert [n["name"] for n in lab.json("--node", node, "node", "ls")] == ["a", "b", "c"]


def test_status(lab):
    for node in lab.json("lab", "status")["nodes"]:
        assert (node["state"], node["link"], node["quorate"], node["sees"]) == ("up", "up", True, 3)


def test_version(lab):
    assert lab.json("version")["dvkd"]["version"] == lab.json("version")["dvs"]
    assert run([DVS, "--version"]).out.startswith("dvs ")


def test_kill_start_cut_heal(own_lab):
    own_lab.up(3)
    own_lab.ok("lab", "kill", "b")
    own_lab.ok("lab", "start", "b")
    assert own_lab.node_states() == {"a": "up", "b": "up", "c": "up"}


@pytest.mark.parametrize("how", ["dvkd killed", "dvkd told to end", "node killed"])
def test_start_waits_for_the_old_node(own_lab, how):
    """Nobody needs to wait between the end of a node's daemon and dvs lab start."""
    own_lab.up(3)
    own_lab.ok("run", "-d", "--image", "host", "--place", "spread", "sleep", "1000")
    for _ in range(3):
        init = next(node["pid"] for node in own_lab.json("lab", "status")["nodes"] if node["name"] == "b")
        victim = init if how == "node killed" else host_pids(own_lab, "b", "dvkd")[0]
        os.kill(victim, signal.SIGTERM if how == "dvkd told to end" else signal.SIGKILL)
        if how != "dvkd killed": # until then the daemon still answers: the node runs
            wait_for(lambda: own_lab.json("lab", "status")["nodes"][1]["state"] != "up", 10, "the end of the daemon")
        own_lab.ok("lab", "start", "b")
        assert own_lab.node_states()["b"] == "up"


def test_start_of_a_running_node(own_lab):
    own_lab.up(1)
    result = own_lab.dvs("lab", "start", "a")
    assert result.code == 4 and "running" in result.err and result.err.count("\n") == 1, result
    stopped = host_pids(own_lab, "a", "dvkd")[0]
    os.kill(stopped, signal.SIGSTOP)
    result = own_lab.dvs("lab", "start", "a")
    os.kill(stopped, signal.SIGCONT)
    assert result.code == 4 and "does not answer" in result.err, result


def test_lab_of_one(own_lab):
    own_lab.up(1)
    assert own_lab.ok("run", "--rm", "--image", "host", "--", "sh", "-c", "echo one | cat") == "one\n"


def test_down_while_containers_run(own_lab):
    own_lab.up(3)
    own_lab.ok("run", "-d", "--image", "host", "--place", "spread", "--", "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 1000 & done; wait")
    process = own_lab.start("run", "--image", "host", "sleep", "1000")
    own_lab.down()
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert not own_lab.leftovers()


def test_down_after_power_loss_while_containers_run(own_lab):
    own_lab.up(3)
    own_lab.ok("run", "-d", "--image", "host", "--memory", "512m", "--place", "spread", "--", "sh", "-c", "sleep 1000 & sleep 1000")
    for node in "abc":
        own_lab.ok("lab", "kill", node)
    own_lab.down()
    assert not own_lab.leftovers()


def test_down_after_ip_netns_was_used(own_lab):
    """The first `ip netns add` on a machine covers /run/netns. In a mount namespace of our own, to leave the machine as it is."""
    script = f"set -e; while umount /run/netns 2>/dev/null; do :; done; {DVS} lab up 1; ip netns add {own_lab.name}; ip netns del {own_lab.name}; {DVS} lab down --lab {own_lab.name}"
    result = run(["unshare", "-m", "sh", "-c", script], env=own_lab.env)
    assert result.code == 0, result
    assert not own_lab.leftovers()


def test_records_survive_a_restart(own_lab):
    own_lab.up(1)
    own_lab.ok("run", "--name", "x", "--image", "host", "true")
    own_lab.ok("lab", "kill", "a")
    own_lab.ok("lab", "start", "a")
    assert own_lab.containers()["x"]["state"] == "exited"


def ask(lab, node, op):
    """A node's dvkd asked by its own protocol."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(f"/run/dvs/lab/{lab.name}/{node}/dvs.sock")
        one.sendall(json.dumps({"op": op}).encode() + b"\n")
        with one.makefile() as answers:
            return json.loads(answers.readline())


def daemon_use(lab):
    """{node: (descriptors, bytes allocated)} of the dvkds, once what they started for containers has ended. Their resident
    size says less: it follows malloc's reserve, and corosync's rings of shared memory, which fill once."""
    def at_rest():
        pids = {node: host_pids(lab, node, "dvkd") for node in "abc"}
        return not any(host_pids(lab, node, "dvs-cell") for node in "ab") and all(len(one) == 1 for one in pids.values()) and pids
    dvkds = wait_for(at_rest, 10, "the end of the cells")
    def descriptors(pid):
        """The least of some looks: while a change is written, the database's journal is open."""
        counts = []
        for _ in range(10):
            counts.append(len(os.listdir(f"/proc/{pid}/fd")))
            time.sleep(0.03)
        return min(counts)
    return {node: (descriptors(pid), ask(lab, node, "debug.memory")["used"]) for node, (pid,) in dvkds.items()}


def test_removed_containers_leave_nothing_in_dvkd(own_lab):
    """Neither on the node that was asked, nor on one with a cell, nor on one that only hears of them."""
    own_lab.up(3)
    def containers(count):
        for _ in range(count):
            own_lab.ok("--node", "a", "run", "--rm", "--image", "host", "--nodes", "a,b", "--place", "node=b", "true")
    containers(80) # tables grow until they fit
    before = daemon_use(own_lab)
    containers(80)
    after = daemon_use(own_lab)
    print(before, after)
    for node in "abc":
        assert after[node][0] == before[node][0], (before, after)
        assert after[node][1] - before[node][1] < 80 * 100, (before, after)
