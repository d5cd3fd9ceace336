# SPDX-License-Identifier: Apache-2.0
"""Labs with corosync but with a stand-in for dvkd: what `dvs lab` itself does."""
import os
import shutil
import signal
import time

import pytest
from dvslab import DVS, Lab, run, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = ("dvs-cell", "dvs-proxy", "dvs-copier", "dvs-vos", "dvs-personality")


@pytest.fixture
def libexec(tmp_path):
    """A libexec directory in which dvkd is the stand-in and the rest does nothing."""
    directory = tmp_path / "libexec"
    directory.mkdir()
    shutil.copy(os.path.join(HERE, "fake_dvkd.py"), directory / "dvkd")
    for name in PROGRAMS:
        (directory / name).write_text("#!/bin/sh\nexit 1\n")
        (directory / name).chmod(0o755)
    return str(directory)


@pytest.fixture
def make_lab(libexec):
    labs = []
    def make():
        one = Lab()
        one.env["DVS_LIBEXEC"] = libexec
        labs.append(one)
        return one
    yield make
    for one in labs:
        one.end()


@pytest.fixture
def fake_lab(make_lab):
    return make_lab()


def corosync_members(lab, node):
    """Node ids that a node's corosync has in its ring."""
    status = {entry["name"]: entry for entry in lab.json("lab", "status")["nodes"]}[node]
    if not status["pid"]:
        return []
    result = run(["nsenter", "-t", str(status["pid"]), "-a", "-r", "-w", "corosync-quorumtool", "-l", "-i"], timeout=10)
    return [int(line.split()[0]) for line in result.out.splitlines() if line.split() and line.split()[0].isdigit()]


def test_up_status_down(fake_lab):
    out = fake_lab.ok("lab", "up", "3")
    assert f"lab {fake_lab.name}: 3 nodes up" in out
    nodes = fake_lab.json("lab", "status")["nodes"]
    assert [(n["name"], n["id"], n["state"], n["link"]) for n in nodes] == [("a", 1, "up", "up"), ("b", 2, "up", "up"), ("c", 3, "up", "up")]
    wait_for(lambda: corosync_members(fake_lab, "a") == [1, 2, 3], 20, "corosync")
    fake_lab.down()
    assert not fake_lab.leftovers()
    fake_lab.down() # again: nothing to do


def test_one_node_needs_no_corosync(fake_lab):
    fake_lab.up(1)
    assert [words for _, words in fake_lab.processes_left() if "corosync" in words] == []


def test_node_names_and_addresses(fake_lab):
    fake_lab.up(2, "--nodes-named", "left,right")
    nodes = fake_lab.json("lab", "status")["nodes"]
    assert [n["name"] for n in nodes] == ["left", "right"]
    netns = f"dvs-{fake_lab.name}-left"
    assert run(["ip", "netns", "exec", netns, "ping", "-c1", "-W2", nodes[1]["address"]]).code == 0 or shutil.which("ping") is None


def test_two_labs_at_once(make_lab):
    one, two = make_lab().up(2), make_lab().up(2)
    assert one.json("lab", "status")["network"] != two.json("lab", "status")["network"]
    names = {entry["name"] for entry in one.json("lab", "ls")}
    assert {one.name, two.name} <= names
    one.down()
    assert not one.leftovers()
    assert [n["state"] for n in two.json("lab", "status")["nodes"]] == ["up", "up"]


def test_second_lab_of_a_name(fake_lab):
    fake_lab.up(1)
    result = fake_lab.dvs("lab", "up", "1")
    assert result.code == 4 and "there is a lab named" in result.err
    assert fake_lab.json("lab", "status")["nodes"][0]["state"] == "up"


def test_kill_and_start(fake_lab):
    fake_lab.up(3)
    fake_lab.ok("lab", "kill", "b")
    states = {n["name"]: n["state"] for n in fake_lab.json("lab", "status")["nodes"]}
    assert states == {"a": "up", "b": "down", "c": "up"}
    wait_for(lambda: corosync_members(fake_lab, "a") == [1, 3], 10, "the ring without b")
    assert fake_lab.dvs("lab", "kill", "b").code == 5
    assert fake_lab.dvs("lab", "start", "a").code == 4
    fake_lab.ok("lab", "start", "b")
    wait_for(lambda: corosync_members(fake_lab, "a") == [1, 2, 3], 20, "the ring with b")
    assert fake_lab.dvs("lab", "kill", "zzz").code == 3


def test_cut_and_heal(fake_lab):
    fake_lab.up(3)
    wait_for(lambda: corosync_members(fake_lab, "c") == [1, 2, 3], 20, "corosync")
    fake_lab.ok("lab", "cut", "c")
    assert {n["name"]: n["link"] for n in fake_lab.json("lab", "status")["nodes"]} == {"a": "up", "b": "up", "c": "cut"}
    wait_for(lambda: corosync_members(fake_lab, "a") == [1, 2] and corosync_members(fake_lab, "c") == [3], 10, "the cut")
    fake_lab.ok("lab", "heal", "c")
    wait_for(lambda: corosync_members(fake_lab, "c") == [1, 2, 3], 20, "the heal")


def test_node_ends_with_its_dvkd(fake_lab):
    fake_lab.up(2)
    pid = {n["name"]: n["pid"] for n in fake_lab.json("lab", "status")["nodes"]}["b"]
    children = run(["ps", "-o", "pid=,args=", "--ppid", str(pid)]).out.splitlines()
    dvkd = next(int(line.split()[0]) for line in children if "dvkd --node" in line)
    os.kill(dvkd, signal.SIGKILL)
    wait_for(lambda: fake_lab.json("lab", "status")["nodes"][1]["state"] == "down", 15, "the node's end")
    fake_lab.ok("lab", "start", "b")


def test_down_after_crash_of_everything(fake_lab):
    fake_lab.up(3)
    for node in fake_lab.json("lab", "status")["nodes"]:
        os.kill(node["pid"], signal.SIGKILL)
    os.unlink(f"/var/lib/dvs/lab/{fake_lab.name}/lab.json")
    assert fake_lab.dvs("lab", "status").code == 1
    fake_lab.down()
    assert not fake_lab.leftovers()


def test_up_killed_half_way(fake_lab, libexec):
    # a dvkd that never answers: up waits for it, and is killed
    with open(os.path.join(libexec, "dvkd"), "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\nexec sleep 100\n")
    process = fake_lab.start("lab", "up", "3")
    wait_for(lambda: len(list(fake_lab.processes_left())) >= 6, 20, "the nodes")
    process.kill()
    process.wait()
    fake_lab.down()
    assert not fake_lab.leftovers()


def test_interrupted_up_takes_down_what_it_made(fake_lab, libexec):
    with open(os.path.join(libexec, "dvkd"), "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\nexec sleep 100\n")
    process = fake_lab.start("lab", "up", "2")
    wait_for(lambda: len(list(fake_lab.processes_left())) >= 4, 20, "the nodes")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=40)
    assert process.returncode == 130 and b"interrupted" in err
    wait_for(lambda: not fake_lab.leftovers(), 3, "the end of all")


def test_up_with_a_dvkd_that_fails(fake_lab, libexec):
    with open(os.path.join(libexec, "dvkd"), "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\necho the reason >&2\nexit 1\n")
    begin = time.monotonic()
    result = fake_lab.dvs("lab", "up", "2")
    assert result.code == 5 and "the reason" in result.err and result.err.count("\n") == 1
    assert time.monotonic() - begin < 20
    wait_for(lambda: not fake_lab.leftovers(), 3, "the end of all")


def test_missing_program(make_lab, tmp_path):
    lab = make_lab()
    copy = tmp_path / "dvs"
    shutil.copy(DVS, copy)
    result = run([str(copy), "lab", "up", "1"], env={**lab.env, "DVS_LIBEXEC": str(tmp_path)})
    assert result.code == 1 and "is missing" in result.err
    assert not lab.leftovers()


def test_not_root(fake_lab):
    # the binary may lie in a directory that others cannot enter: hand it over by descriptor
    fd = os.open(DVS, os.O_RDONLY)
    result = run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"/proc/self/fd/{fd}", "lab", "up", "1"],
                 env=fake_lab.env, pass_fds=[fd])
    os.close(fd)
    assert result.code == 1 and "root" in result.err, result
