# SPDX-License-Identifier: Apache-2.0
"""What operators meet: two labs at once, interruption, full disks, damaged records, somebody else's names, a reboot."""
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import sqlite3
import subprocess
import termios
import time

import pytest
from dvslab import DVS, Lab, host_pids, node_processes, run, wait_for


def one_line(result, code, word):
    assert result.code == code and result.out == "", result
    assert result.err.startswith("dvs: ") and result.err.count("\n") == 1 and word in result.err, result


def state_of(lab, node=""):
    return f"/var/lib/dvs/lab/{lab.name}/{node}"


# ---- the configuration database

def damage(path, how):
    if how == "older":
        with sqlite3.connect(path) as db:
            db.execute("UPDATE meta SET value = 0 WHERE key = 'format'")
        db.close()
        return
    for extra in ("-wal", "-shm", "-journal"):
        if os.path.exists(path + extra):
            os.unlink(path + extra)
    if how == "empty":
        os.truncate(path, 0)
    elif how == "cut":
        os.truncate(path, os.path.getsize(path) // 2)
    elif how == "garbage":
        with open(path, "r+b") as file:
            file.write(b"garbage" * 1000)
    elif how == "no json":
        with sqlite3.connect(path) as db:
            db.execute("UPDATE node SET json = '{'")
        db.close()


@pytest.mark.parametrize("how", ["empty", "cut", "garbage", "older", "no json"])
def test_damaged_configuration_on_one_node(own_lab, how):
    """The node does not start, says why, and touches nothing; the others go on. Without the file it comes back."""
    own_lab.up(3, "--token", "300")
    own_lab.ok("--node", "a", "run", "-d", "--name", "x", "--nodes", "a,c", "--image", "host", "sleep", "1000")
    own_lab.ok("lab", "kill", "b")
    path = state_of(own_lab, "b/config.db")
    damage(path, how)
    with open(path, "rb") as file:
        before = file.read()
    one_line(own_lab.dvs("lab", "start", "b"), 5, "config.db")
    with open(path, "rb") as file:
        assert file.read() == before
    assert own_lab.dvs("--node", "b", "ls").code == 5
    assert own_lab.containers()["x"]["state"] == "running"
    os.rename(path, path + ".damaged")
    own_lab.ok("lab", "start", "b")
    wait_for(lambda: own_lab.node_states() == {"a": "up", "b": "up", "c": "up"}, 10, "b")
    assert json.loads(own_lab.ok("--node", "b", "ls", "--format", "json"))[0]["name"] == "x"


def test_damaged_configuration_on_all_nodes(own_lab):
    own_lab.up(3, "--token", "300")
    for node in "abc":
        own_lab.ok("lab", "kill", node)
        damage(state_of(own_lab, f"{node}/config.db"), "garbage")
    for node in "abc":
        one_line(own_lab.dvs("lab", "start", node), 5, "config.db")
    one_line(own_lab.dvs("ls"), 5, own_lab.name)


# ---- labs beside each other, and twice

def test_two_labs_know_nothing_of_each_other(own_lab):
    own_lab.up(1)
    other = Lab()
    try:
        other.up(2)
        own_lab.ok("run", "-d", "--name", "x", "--image", "host", "sleep", "1000")
        other.ok("run", "-d", "--name", "x", "--image", "host", "sleep", "1001")
        assert [p["command"] for p in own_lab.processes("x")] == ["sleep 1000"]
        assert [p["command"] for p in other.processes("x")] == ["sleep 1001"]
    finally:
        other.end()
    assert own_lab.containers()["x"]["state"] == "running"
    assert own_lab.ok("exec", "x", "echo", "still here") == "still here\n"


def test_up_twice(own_lab):
    own_lab.up(1)
    one_line(own_lab.dvs("lab", "up", "3", "--lab", own_lab.name), 4, own_lab.name)
    assert own_lab.node_states() == {"a": "up"}


def test_up_twice_at_once(own_lab):
    both = [own_lab.start("lab", "up", "1") for _ in range(2)]
    codes = sorted(process.wait(30) for process in both)
    for process in both:
        process.communicate()
    assert codes == [0, 4]
    assert own_lab.node_states() == {"a": "up"}


def test_network_namespaces_of_others(own_lab):
    """Somebody's first "ip netns add", made while the lab is up, does not keep it from going down. """
    # A /run without /run/netns, whatever this machine's has.
    script = ('mkdir -p /run/dvs; mount --rbind /run/dvs /mnt; mount -t tmpfs none /run; mkdir /run/dvs; mount --rbind /mnt /run/dvs; '
              f'"$0" lab up 1 > /dev/null; ip netns add other-{own_lab.name}; "$0" run --rm --image host echo it works; '
              f'"$0" lab down --lab {own_lab.name}; ip netns delete other-{own_lab.name}')
    result = run(["unshare", "-m", "sh", "-ec", script, DVS], env=own_lab.env)
    assert result.code == 0 and result.out.startswith("it works\n"), result
    assert own_lab.leftovers() == []


def test_a_namespaces_name_is_taken(own_lab):
    """What bears the name that the lab wants stays as it was; nothing of the lab stays."""
    name = f"dvs-{own_lab.name}-b"
    os.makedirs("/run/netns", exist_ok=True)
    with open(f"/run/netns/{name}", "x", encoding="utf-8"):
        pass
    try:
        one_line(own_lab.dvs("lab", "up", "3"), 4, name)
        assert [what for what in own_lab.leftovers() if not what.endswith(name) and f"/{name} " not in what] == []
    finally:
        os.unlink(f"/run/netns/{name}")
    own_lab.up(3)


# ---- interruption

@pytest.mark.parametrize("delay", [0.02, 0.1, 0.3, 0.6, 0.9, 1.2])
def test_interrupted_lab_up(own_lab, delay):
    process = own_lab.start("lab", "up", "3")
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=8)
    # Before it has begun to make anything, and hence to catch signals, it just ends by them.
    assert process.returncode in (0, 130, -signal.SIGINT), (out, err)
    if process.returncode != 0:
        wait_for(lambda: not own_lab.leftovers(), 3, "nothing to be left: " + " ".join(own_lab.leftovers()))


def terminal(lab, *args):
    """dvs on a terminal of its own: (Popen, master fd)."""
    master, slave = pty.openpty()
    process = subprocess.Popen([DVS, *args], env=lab.env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                               preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(slave)
    return process, master


def read_until(fd, text, timeout=10):
    seen, deadline = b"", time.monotonic() + timeout
    while text not in seen:
        left = deadline - time.monotonic()
        assert left > 0 and select.select([fd], [], [], left)[0], f"waited for {text}; saw {seen}"
        seen += os.read(fd, 4096)
    return seen


def test_interrupt_of_a_pipeline_on_a_terminal(lab, dc):
    """Ctrl-C ends the stages on all nodes, and not the shell."""
    process, fd = terminal(lab, "--node", "a", "exec", "-it", dc, "bash", "--norc")
    try:
        os.write(fd, b"PS1='rea''dy> '\n")
        read_until(fd, b"ready> ")
        for _ in range(3):
            before = len(lab.processes(dc))
            os.write(fd, b"yes | DVS_PLACE=node=b cat | DVS_PLACE=node=c cat > /dev/null\n")
            wait_for(lambda: len(lab.processes(dc)) == before + 3, 10, "the pipeline")
            os.write(fd, b"\x03")
            read_until(fd, b"ready> ")
            os.write(fd, b"echo code $?\n")
            read_until(fd, b"code 130")
            wait_for(lambda: len(lab.processes(dc)) == before, 5, "the end of the stages")
        os.write(fd, b"exit 5\n")
        assert process.wait(10) == 5
    finally:
        process.kill()
        process.wait()
        os.close(fd)


def test_interrupted_run(lab):
    """Ctrl-C at dvs run without a terminal of its own goes to the program; its container ends with it."""
    for delay in (0.0, 0.05, 0.3, 1.0):
        process = lab.start("--node", "a", "run", "--rm", "--name", "interrupted", "--image", "host", "sleep", "1000")
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=15)
        assert process.returncode in (130, -signal.SIGINT), delay
        # What its request proposed may still be on its way to the nodes; what the same node proposes later comes after it.
        lab.ok("--node", "a", "run", "--rm", "--image", "host", "true")
        wait_for(lambda: "interrupted" not in lab.containers(), 10, "the end of the container")


def test_killed_dvs(lab, dc):
    """The program of a dvs that was killed gets SIGHUP, as of a terminal that hung up."""
    process = lab.start("exec", dc, "sleep", "1234")
    wait_for(lambda: any("1234" in p["command"] for p in lab.processes(dc)), 10, "sleep")
    process.kill()
    process.communicate()
    wait_for(lambda: not any("1234" in p["command"] for p in lab.processes(dc)), 5, "the end of sleep")


# ---- full disks

@pytest.fixture
def small_disk():
    """A function that mounts a tmpfs of that many bytes on a directory."""
    mounted = []

    def mount(path, size):
        os.makedirs(path, exist_ok=True)
        assert run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", path]).code == 0
        mounted.append(path)
    yield mount
    for path in mounted:
        run(["umount", "-l", path])


def test_full_writable_layer(own_lab, small_disk):
    """A program gets ENOSPC, can remove what it wrote, and goes on."""
    own_lab.up(1)
    own_lab.ok("lab", "kill", "a")
    small_disk(state_of(own_lab, "a/dc"), "8m")
    own_lab.ok("lab", "start", "a")
    script = ("dd if=/dev/zero of=/tmp/big bs=1M count=64 2>&1 | grep -o 'No space left on device'; rm /tmp/big; "
              "cp /bin/bash /tmp/bash && /tmp/bash -c 'echo copied'; head -c 20M /dev/zero >> /tmp/big || echo refused; "
              "rm -rf /tmp/*; mkdir /tmp/d && echo small > /tmp/d/small && cat /tmp/d/small")
    result = own_lab.dvs("run", "--rm", "--image", "host", "bash", "-c", script)
    assert result.out == "No space left on device\ncopied\nrefused\nsmall\n", result


def test_no_space_for_the_configuration(own_lab, small_disk):
    """A container that cannot be recorded is not made; with space again the node goes on with what it knew."""
    own_lab.up(1)
    own_lab.ok("run", "-d", "--name", "x", "--image", "host", "sleep", "1000")
    own_lab.ok("lab", "kill", "a")
    state = state_of(own_lab, "a")
    shutil.copytree(state, state + ".kept")
    small_disk(state, "256k")
    for name in os.listdir(state + ".kept"):
        run(["cp", "-a", f"{state}.kept/{name}", state])
    shutil.rmtree(state + ".kept")
    own_lab.ok("lab", "start", "a")
    with open(state + "/fill", "wb", buffering=0) as file:
        with pytest.raises(OSError):
            while True:
                file.write(bytes(4096))
    result = own_lab.dvs("run", "--name", "y", "--image", "host", "true")
    assert result.code in (5, 125) and result.err.count("\n") == 1, result
    os.unlink(state + "/fill")
    if own_lab.dvs("ls").code == 5:
        own_lab.ok("lab", "start", "a")
    assert set(own_lab.containers()) == {"x"}
    assert own_lab.ok("run", "--rm", "--image", "host", "echo", "again") == "again\n"


def in_mount_namespace(lab, setup, *args):
    """dvs in a mount namespace of its own, after a shell script changed it."""
    return run(["unshare", "-m", "sh", "-ec", setup + '; exec "$@"', "sh", DVS, *args], env=lab.env)


def test_lab_up_on_a_full_disk(own_lab):
    """One line that says so; nothing is left."""
    setup = ("mkdir -p /var/lib/dvs/lab; mount -t tmpfs -o size=16k small /var/lib/dvs/lab; "
             "head -c 100k /dev/zero > /var/lib/dvs/lab/fill 2> /dev/null || true")
    result = in_mount_namespace(own_lab, setup, "lab", "up", "3")
    one_line(result, result.code, "No space left on device")
    assert result.code in (1, 5)
    assert own_lab.leftovers() == []


@pytest.mark.parametrize("setup", ["mount -t tmpfs -o size=4k small /dev/shm; head -c 100k /dev/zero > /dev/shm/fill 2> /dev/null || true",
                                   "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/zero c 1 5; "
                                   "mknod -m 666 /dev/urandom c 1 9; mknod -m 666 /dev/tty c 5 0; "
                                   "mknod -m 666 /dev/random c 1 8; mknod -m 666 /dev/full c 1 7; "
                                   "mkdir /dev/pts; mount -t devpts none /dev/pts; ln -s pts/ptmx /dev/ptmx; ln -s /proc/self/fd /dev/fd"],
                         ids=["full", "missing"])
def test_shared_memory_directory(own_lab, setup):
    """Nodes bring their own /dev/shm: the machine's may be full, or not there."""
    result = run(["unshare", "-m", "sh", "-ec", setup + "; " + 'd="$1"; "$d" lab up 2 > /dev/null; "$d" run --rm --image host echo it works; '
                  f'"$d" lab down --lab {own_lab.name}', "sh", DVS], env=own_lab.env)
    assert result.code == 0 and result.out.startswith("it works\n"), result
    assert own_lab.leftovers() == []


# ---- rights, and a reboot

def test_without_root(lab):
    """One clear line to a user who is not root, who can reach neither labs nor daemons."""
    env = dict(lab.env)

    def as_nobody(*args):
        return run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", DVS, *args], env=env)
    one_line(as_nobody("lab", "up", "2", "--lab", "nolab"), 1, "root")
    one_line(as_nobody("lab", "down"), 1, "root")
    one_line(as_nobody("lab", "kill", "b"), 1, "root")
    one_line(as_nobody("run", "--image", "host", "true"), 5, "root")
    one_line(as_nobody("ls"), 5, "root")


def test_after_a_reboot(own_lab):
    """Only the state directory is left: status tells so, and a start or a new lab is one command away."""
    own_lab.up(3)
    own_lab.ok("run", "-d", "--name", "x", "--image", "host", "sleep", "1000")
    for node in own_lab.json("lab", "status")["nodes"]:
        os.kill(node["pid"], signal.SIGKILL)
    wait_for(lambda: not list(own_lab.processes_left()), 10, "the end of all processes")
    for name in os.listdir("/run/netns"):
        if name.startswith(f"dvs-{own_lab.name}-"):
            assert run(["ip", "netns", "delete", name]).code == 0
    shutil.rmtree(f"/run/dvs/lab/{own_lab.name}")
    assert {n["state"] for n in own_lab.json("lab", "status")["nodes"]} == {"down"}
    one_line(own_lab.dvs("ls"), 5, own_lab.name)
    one_line(own_lab.dvs("run", "--image", "host", "true"), 5, own_lab.name)
    one_line(own_lab.dvs("lab", "up", "3"), 4, "lab down")
    one_line(own_lab.dvs("lab", "start", "a"), 1, "lab down")
    own_lab.down()
    assert own_lab.leftovers() == []
    own_lab.up(1)


def test_containers_of_a_node_that_restarted(own_lab):
    """A single node that crashed: its containers are told as failed, can be removed, and leave nothing."""
    own_lab.up(1)
    own_lab.ok("run", "-d", "--name", "x", "--image", "host", "sleep", "1000")
    own_lab.ok("lab", "kill", "a")
    own_lab.ok("lab", "start", "a")
    wait_for(lambda: own_lab.containers()["x"]["state"] == "failed", 5, "the truth about x")
    one_line(own_lab.dvs("exec", "x", "true"), 4, "x")
    assert not [name for _, name, _ in node_processes(own_lab) if name in ("dvs-cell", "dvs-vos", "sleep")]
    own_lab.ok("rm", "x")
    wait_for(lambda: not os.listdir(state_of(own_lab, "a/dc")), 5, "the end of its files")


# ---- the end of a container and what is told of it

def hold_cells(lab, gate):
    """Cells start only once the file `gate` is there."""
    path = f"/var/lib/dvs/lab/{lab.name}/libexec/dvs-cell"
    real = os.path.realpath(path)
    os.unlink(path)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nwhile ! [ -e {gate} ]; do sleep 0.05; done\nexec {real} "$@"\n')
    os.chmod(path, 0o755)


@pytest.mark.parametrize("flags,code,out", [(["--rm"], 7, "said\n"), ([], 7, "said\n"), (["--rm", "-d"], 0, "x\n"), (["-d"], 0, "x\n")])
def test_end_before_all_nodes_confirmed_the_start(own_lab, tmp_path, flags, code, out):
    """A node is slow to confirm that a program runs: its end comes first, and is told all the same."""
    own_lab.up(3)
    gate = tmp_path / "gate"
    hold_cells(own_lab, gate)
    log = state_of(own_lab, "a/dvkd.log")
    process = own_lab.start("--node", "a", "run", "--name", "x", *flags, "--image", "host", "--", "sh", "-c", "echo said; exit 7")
    def cell_starts():
        with open(log, encoding="utf-8", errors="replace") as file:
            return "cell of x starts" in file.read()
    wait_for(cell_starts, 10, "the cell of x")
    slow, = host_pids(own_lab, "b", "dvkd")
    os.kill(slow, signal.SIGSTOP)
    try:
        gate.touch()
        told, trouble = process.communicate(timeout=30)
    finally:
        os.kill(slow, signal.SIGCONT)
    assert (process.returncode, told.decode(), trouble.decode()) == (code, out, "")
    wait_for(lambda: set(own_lab.node_states().values()) == {"up"}, 20, "all nodes")
    containers = own_lab.containers()
    if "--rm" in flags:
        assert not containers
    else:
        assert (containers["x"]["state"], containers["x"]["exit_status"]) == ("exited", 7 << 8)


@pytest.mark.parametrize("flags", [["--rm"], []])
def test_failed_container_tells_its_reason(own_lab, flags):
    """--rm takes the container away, not the reason."""
    own_lab.up(1)
    process = own_lab.start("run", "--name", "x", *flags, "--image", "host", "--", "sh", "-c", "echo runs; sleep 1000")
    assert process.stdout.readline() == b"runs\n"
    vos, = host_pids(own_lab, "a", "dvs-vos")
    os.kill(vos, signal.SIGKILL)
    trouble = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 125 and "its cell on node a ended: " in trouble, (process.returncode, trouble)
    assert ("x" in own_lab.containers()) != ("--rm" in flags)


def test_end_without_quorum_is_told_later(own_lab):
    """A program of a container on one node ends while nothing can be agreed on: the others learn of it when that is possible again."""
    own_lab.up(3)
    process = own_lab.start("--node", "a", "run", "--name", "x", "--nodes", "a", "--image", "host", "-i", "--", "sh", "-c", "echo runs; read line; exit 7",
                            stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"runs\n"
    own_lab.ok("lab", "kill", "b")
    own_lab.ok("lab", "kill", "c")
    wait_for(lambda: not any(node["quorate"] for node in own_lab.json("--node", "a", "node", "ls") if node["name"] == "a"), 10, "the loss of quorum")
    process.stdin.write(b"end\n")
    process.stdin.flush()
    wait_for(lambda: not own_lab.json("--node", "a", "ps", "x"), 10, "the program's end")
    own_lab.ok("lab", "start", "b")
    assert process.wait(20) == 7
    assert [(one["name"], one["state"]) for one in own_lab.json("--node", "b", "ls")] == [("x", "exited")]
