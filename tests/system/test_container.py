# SPDX-License-Identifier: Apache-2.0
"""Containers on a real lab: run, exec, ls, ps, logs, kill, rm, inspect."""
import os
import pty
import select
import signal
import subprocess
import time

from dvslab import DVS, wait_for


def test_run_passes_streams_and_exit_code(lab):
    result = lab.dvs("run", "--rm", "-i", "--image", "host", "--", "sh", "-c", "cat; echo err >&2; exit 7", stdin="text\n")
    assert (result.code, result.out, result.err) == (7, "text\n", "err\n")


def test_run_tells_of_signals(lab):
    assert lab.dvs("run", "--rm", "--image", "host", "--", "sh", "-c", "kill -TERM $$").code == 128 + signal.SIGTERM


def test_megabytes_without_loss(lab):
    data = os.urandom(1 << 20) * 8
    result = subprocess.run([DVS, "run", "--rm", "-i", "--image", "host", "cat"], input=data, stdout=subprocess.PIPE, env=lab.env,
                            timeout=60, check=True)
    assert result.stdout == data


def test_environment_and_directory(lab):
    out = lab.ok("run", "--rm", "--image", "host", "-e", "GREETING=hello world", "-w", "/usr", "--", "sh", "-c", 'echo "$GREETING"; pwd; id -u')
    assert out == "hello world\n/usr\n0\n"


def test_working_directory_on_any_node(lab, in_dc, dc):
    """Entered on the node where the program starts, whether the image or the writable layer has it."""
    in_dc("mkdir", "-p", "/srv/new/dir")
    for node in "abc":
        for directory in ("/srv/new/dir", "/usr/share", "/proc/self", "/dev/shm"):
            result = lab.dvs("--node", node, "exec", "-w", directory, dc, "pwd", "-P")
            assert result.out == directory + "\n" or directory == "/proc/self", result
        assert lab.dvs("--node", node, "exec", "-w", "/srv/old", dc, "true").code == 126
        assert lab.ok("run", "--rm", "--image", "host", "--place", f"node={node}", "-w", "/usr/share", "pwd") == "/usr/share\n"


def test_home_of_root(lab, dc, in_dc):
    """The host's /root is closed to the container's root: it has its own, the same on every node."""
    assert in_dc("sh", "-c", "stat -c '%a %u %g' ~; ls -A ~; echo kept > ~/note").out == "700 0 0\n"
    assert in_dc("/.dvs/bin/onall", "sh", "-c", "cd && echo $(cat note) in $(pwd)").out.count("kept in /root\n") == 3
    assert in_dc("git", "config", "--global", "user.name", "someone").code == 0
    assert lab.dvs("--node", "c", "exec", dc, "git", "config", "user.name").out == "someone\n"
    assert not os.path.exists("/root/note")


def test_life_of_a_container(lab):
    name = "life"
    assert lab.ok("run", "-d", "--name", name, "--image", "host", "--", "sh", "-c", "echo begun; exec sleep 1000").strip() == name
    entry = lab.containers()[name]
    assert entry["state"] == "running" and entry["image"] == "host" and sorted(entry["nodes"]) == ["a", "b", "c"]
    assert lab.dvs("run", "--name", name, "--image", "host", "true").code == 4
    wait_for(lambda: any(p["comm"] == "sleep" for p in lab.processes(name)), 10, "sleep in ps")
    assert lab.ok("exec", name, "echo", "there") == "there\n"
    assert lab.ok("logs", name) == "begun\n"
    assert lab.dvs("rm", name).code == 4
    lab.ok("kill", name)
    wait_for(lambda: lab.containers()[name]["state"] == "exited", 10, "its end")
    assert lab.dvs("exec", name, "true").code == 4
    assert lab.ok("logs", name) == "begun\n"
    lab.ok("rm", name)
    assert name not in lab.containers() and lab.dvs("rm", name).code == 3
    assert lab.dvs("rm", "-f", name).code == 0


def test_rm_removes_what_ran(lab):
    lab.ok("run", "-d", "--name", "gone", "--image", "host", "sleep", "1000")
    lab.ok("rm", "-f", "gone")
    assert "gone" not in lab.containers()


def test_run_rm_leaves_nothing(lab):
    before = set(lab.containers())
    lab.ok("run", "--rm", "--image", "host", "true")
    assert set(lab.containers()) == before


def test_inspect(lab, dc):
    import json
    info = json.loads(lab.ok("inspect", dc))
    assert len(info) == 1 and info[0]["name"] == dc and info[0]["image"] == "host"
    assert lab.dvs("inspect", "nope").code == 3


def test_kill_one_process(lab, dc):
    process = lab.start("exec", dc, "sleep", "987")
    pid = wait_for(lambda: [p["pid"] for p in lab.processes(dc) if "987" in p["command"]], 10, "sleep 987")[0]
    assert lab.dvs("kill", dc, "999999").code == 3
    lab.ok("kill", "-s", "TERM", dc, str(pid))
    assert process.wait(10) == 128 + signal.SIGTERM
    assert lab.containers()[dc]["state"] == "running"


def test_ps_shows_the_tree_over_all_nodes(lab, dc):
    process = lab.start("exec", dc, "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 654 & done; wait")
    def sleepers():
        found = [p for p in lab.processes(dc) if p["comm"] == "sleep" and "654" in p["command"]]
        return found if len(found) == 6 else None
    found = wait_for(sleepers, 15, "six sleepers")
    assert len({p["pid"] for p in found}) == 6 and len({p["ppid"] for p in found}) == 1
    assert {p["node"] for p in found} == {"a", "b", "c"}
    table = lab.ok("ps", dc).splitlines()
    assert table[0].split() == ["PID", "PPID", "NODE", "USER", "TIME", "STATE", "COMMAND"]
    for p in found:
        lab.ok("kill", dc, str(p["pid"]))
    assert process.wait(15) == 0


def test_each_process_is_listed_once_while_it_moves(lab, dc, in_dc):
    mover = 'exec sh -c "$0" "$0"' # each exec is on another node
    movers = lab.start("exec", dc, "sh", "-c", f"for i in 1 2 3 4 5 6; do sh -c '{mover}' '{mover}' & done; wait")
    try:
        wait_for(lambda: len(lab.processes(dc)) == 8, 10)
        for _ in range(40):
            pids = sorted(process["pid"] for process in lab.processes(dc))
            assert len(pids) == 8 and len(set(pids)) == 8, pids
        result = in_dc("sh", "-c", "n=0; while [ $n -lt 30 ]; do ls /proc | grep '^[0-9]' | sort | uniq -d; n=$((n+1)); done")
        assert (result.code, result.out) == (0, "")
    finally:
        lab.dvs("kill", dc)
        movers.communicate(timeout=20)


def test_onnode_and_onall(in_dc):
    # the host name is the container's, hence the same; DVS_PLACE shows
    assert in_dc("/.dvs/bin/onnode", "b", "sh", "-c", "echo $DVS_PLACE").out == "node=b\n"
    out = in_dc("/.dvs/bin/onall", "sh", "-c", "echo $DVS_PLACE").out
    assert sorted(out.split()) == ["node=a", "node=b", "node=c"]
    assert in_dc("/.dvs/bin/onnode", "zzz", "true").code != 0


def test_volume_from_one_node(lab, tmp_path):
    (tmp_path / "there").write_text("from the host\n")
    tmp_path.chmod(0o755)
    out = lab.ok("run", "--rm", "--image", "host", "-v", f"{tmp_path}@b:/vol:ro", "--", "sh", "-c",
                 "cat /vol/there; echo x 2>/dev/null > /vol/new || echo read-only")
    assert out == "from the host\nread-only\n"


def test_writes_are_seen_on_every_node_and_not_on_the_host(in_dc):
    marker = "/var/tmp/dvs-written-in-a-container"
    assert in_dc("sh", "-c", f"echo hello > {marker}").code == 0
    for node in "abc":
        assert in_dc("/.dvs/bin/onnode", node, "cat", marker).out == "hello\n"
    assert not os.path.exists(marker)


def test_terminal(lab, dc):
    master, slave = pty.openpty()
    process = lab.start("exec", "-it", dc, "bash", "--norc", stdin=slave, stdout=slave, stderr=slave)
    seen = b""
    def until(text, limit=15):
        nonlocal seen
        deadline = time.monotonic() + limit
        while text not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([master], [], [], 0.2)[0]:
                seen += os.read(master, 4096)
    os.write(master, b"tty; echo $((6*7))\r")
    until(b"/dev/")
    until(b"42")
    os.write(master, b"sleep 1000\r")
    time.sleep(1)
    os.write(master, b"\x03")
    os.write(master, b"echo after-$((20+3))\r")
    until(b"after-23")
    os.write(master, b"exit 5\r")
    assert process.wait(10) == 5


def test_interrupt_reaches_the_program(lab):
    process = lab.start("run", "--rm", "--image", "host", "--", "sh", "-c", "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.2; done")
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=15)
    assert (out, process.returncode) == (b"caught\n", 3)


def test_limits_hold(lab):
    result = lab.dvs("run", "--rm", "--image", "host", "--pids", "20", "--nodes", "a", "--", "sh", "-c",
                     "for i in $(seq 60); do sleep 5 & done 2>/dev/null; exit 9")
    assert result.code != 0
    out = lab.dvs("run", "--rm", "--image", "host", "--memory", "64m", "--nodes", "a", "--", "python3", "-c", "x = bytearray(300 << 20)")
    assert out.code != 0 and "hung" not in out.err
