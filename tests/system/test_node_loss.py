# SPDX-License-Identifier: Apache-2.0
"""A node is lost while programs run: within 5 s its children are seen killed by SIGKILL, the rest goes on, nothing hangs."""
import os
import signal
import time

import pytest
from dvslab import host_pids, node_processes, wait_for

LIMIT = 5


@pytest.fixture
def spread_lab(own_lab):
    """Three nodes, and a container x whose programs stay on a unless told otherwise."""
    own_lab.up(3)
    own_lab.ok("--node", "a", "run", "-d", "--name", "x", "--image", "host", "--place", "node=a", "sleep", "1000")
    return own_lab


def nodes_of(lab, dc="x"):
    return {p["node"] for p in lab.processes(dc)}


def test_children_on_a_lost_node_are_killed(spread_lab):
    lab = spread_lab
    script = ("DVS_PLACE=node=b sleep 1000 & p=$!; DVS_PLACE=node=c sleep 4 & q=$!; echo started; "
              "wait $p; echo $?; wait $q; echo $?; echo the shell lives")
    process = lab.start("exec", "x", "bash", "-c", script)
    assert process.stdout.readline() == b"started\n"
    wait_for(lambda: nodes_of(lab) == {"a", "b", "c"}, 10, "the sleepers")
    lab.ok("lab", "kill", "b")
    begin = time.monotonic()
    assert process.stdout.readline() == b"137\n"
    assert time.monotonic() - begin < LIMIT
    assert process.stdout.read() == b"0\nthe shell lives\n"
    assert process.wait(10) == 0
    assert lab.node_states() == {"a": "up", "b": "down", "c": "up"}
    assert "b" not in nodes_of(lab)
    lab.ok("lab", "start", "b")
    wait_for(lambda: lab.node_states()["b"] == "up", 10, "b")
    assert lab.ok("exec", "x", "/.dvs/bin/onnode", "b", "echo", "back in use") == "back in use\n"


def test_pipeline_with_a_stage_on_a_lost_node(spread_lab):
    lab = spread_lab
    script = "yes | DVS_PLACE=node=b cat | DVS_PLACE=node=c cat > /dev/null; echo ${PIPESTATUS[@]}"
    process = lab.start("exec", "x", "bash", "-c", script)
    wait_for(lambda: {"b", "c"} <= nodes_of(lab), 15, "the pipeline")
    time.sleep(1)
    lab.ok("lab", "kill", "b")
    out, _ = process.communicate(timeout=15)
    assert process.returncode == 0
    codes = out.split()
    assert codes[1] == b"137" and codes[0] != b"0"


def test_build_with_a_lost_node(spread_lab):
    lab = spread_lab
    makefile = "all: $(shell seq -f 'o%g' 150)\no%: ; @DVS_PLACE=spread sleep 0.2 && echo done > $@\n"
    lab.ok("exec", "-i", "x", "sh", "-c", "mkdir /tmp/m && cat > /tmp/m/Makefile", stdin=makefile)
    process = lab.start("exec", "x", "make", "-C", "/tmp/m", "-j6", "-k")
    wait_for(lambda: "b" in nodes_of(lab), 15, "make's children")
    lab.ok("lab", "kill", "b")
    process.communicate(timeout=60)
    assert process.returncode in (0, 2)  # 2: a recipe was lost
    assert "Error" not in lab.ok("exec", "x", "make", "-C", "/tmp/m", "-j6", timeout=60)


def test_loss_of_the_primary_ends_the_container(own_lab):
    own_lab.up(3)
    own_lab.ok("--node", "b", "run", "-d", "--name", "x", "--image", "host", "sleep", "1000")
    primary = own_lab.containers()["x"]["primary"]
    process = own_lab.start("exec", "x", "sleep", "1000")
    wait_for(lambda: len(own_lab.processes("x")) >= 2, 10, "the second sleep")
    own_lab.ok("lab", "kill", primary)
    process.communicate(timeout=15)
    assert process.returncode in (125, 137)
    wait_for(lambda: own_lab.containers()["x"]["state"] != "running", 10, "the container's end")


@pytest.mark.parametrize("victim", ["dvkd", "dvs-proxy", "dvs-vos", "dvs-cell"])
def test_killing_a_daemon_gives_a_clear_state(spread_lab, victim):
    lab = spread_lab
    process = lab.start("exec", "x", "bash", "-c", "DVS_PLACE=node=b sleep 1000; echo $?; echo went on")
    wait_for(lambda: "b" in nodes_of(lab), 15, "the sleeper")
    victims = host_pids(lab, "b", victim)
    assert victims
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()
    out, err = process.communicate(timeout=LIMIT)
    assert time.monotonic() - begin < LIMIT
    if victim in ("dvkd", "dvs-proxy"):  # as the loss of the node; dvkd starts another proxy, and the node is back
        assert (process.returncode, out) == (0, b"137\nwent on\n"), err
        state = {"dvkd": "down", "dvs-proxy": "up"}[victim]
        wait_for(lambda: lab.node_states() == {"a": "up", "b": state, "c": "up"}, 10, "the state of b")
        assert nodes_of(lab) == {"a"}
        if victim == "dvkd":
            lab.ok("lab", "start", "b")
        wait_for(lambda: lab.dvs("exec", "x", "/.dvs/bin/onnode", "b", "true").code == 0, 10, "b in use again")
    else:  # a part of the container is lost for good
        assert process.returncode in (125, 137) and b"went on" not in out, err
        wait_for(lambda: lab.containers()["x"]["state"] == "failed", LIMIT, "the end of the container")
        assert lab.node_states() == {"a": "up", "b": "up", "c": "up"}
        assert lab.processes("x") == [] and lab.dvs("exec", "x", "true").code == 4
        wait_for(lambda: {name for _, name, _ in node_processes(lab)} <= {"dvkd", "dvs-proxy", "corosync"}, LIMIT, "the cells' end")
        lab.ok("rm", "x")
        assert lab.ok("run", "--rm", "--image", "host", "echo", "again") == "again\n"


def test_loss_of_quorum(spread_lab):
    """The one that is left knows that it does not know."""
    lab = spread_lab
    process = lab.start("--node", "a", "exec", "x", "sleep", "1000")
    wait_for(lambda: len(lab.processes("x")) == 2, 10, "the second sleep")
    lab.ok("lab", "kill", "b")
    lab.ok("lab", "kill", "c")
    process.communicate(timeout=LIMIT)
    assert process.returncode == 125
    assert lab.containers()["x"]["state"] == "unknown" and lab.dvs("rm", "-f", "x").code == 5
    wait_for(lambda: not host_pids(lab, "a", "dvs-cell"), LIMIT, "the end of the cell")
    lab.ok("lab", "start", "b")
    wait_for(lambda: lab.containers()["x"]["state"] == "failed", LIMIT, "the truth about the container")
    lab.ok("rm", "x")


def test_cut_and_heal(spread_lab):
    lab = spread_lab
    process = lab.start("exec", "x", "bash", "-c", "DVS_PLACE=node=c sleep 1000; echo $?")
    wait_for(lambda: "c" in nodes_of(lab), 15, "the sleeper")
    lab.ok("lab", "cut", "c")
    out, _ = process.communicate(timeout=15)
    assert out == b"137\n"
    wait_for(lambda: lab.node_states() == {"a": "up", "b": "up", "c": "down"}, 10, "the view")
    assert lab.dvs("--node", "c", "run", "--image", "host", "true").code == 5
    # what ran there is ended there too: it must not go on unseen
    wait_for(lambda: not host_pids(lab, "c", "dvs-cell"), 15, "the end of c's cell")
    lab.ok("lab", "heal", "c")
    wait_for(lambda: lab.node_states()["c"] == "up", 20, "the heal")
