# SPDX-License-Identifier: Apache-2.0
"""Containers without a VOS, and running programs on a lab's nodes from outside."""
import os
import signal

from dvslab import DVS, run


def test_a_container_without_a_vos(lab):
    assert lab.ok("dc", "create", "plain", "--nodes", "a,c") == "plain\n"
    try:
        one = lab.containers()["plain"]
        assert (one["state"], one["nodes"], one["image"], one["bare"]) == ("running", ["a", "c"], None, True)
        again = lab.dvs("dc", "create", "plain")
        assert again.code == 4 and "exists already" in again.err
        for command in (["exec", "plain", "true"], ["ps", "plain"], ["kill", "plain"], ["logs", "plain"]):
            refused = lab.dvs(*command)
            assert refused.code == 4 and "has no VOS" in refused.err, refused
        busy = lab.dvs("rm", "plain")
        assert busy.code == 4 and "--force" in busy.err
        assert lab.dvs("ps").code == 0
    finally:
        lab.ok("rm", "-f", "plain")
    assert "plain" not in lab.containers()


def test_what_cannot_be_made(lab):
    for args, code, text in ((["--nodes", "nosuch", "x"], 3, "no node nosuch"), (["Bad Name"], 2, "no valid name"),
                             (["--nodes", "", "x"], 3, "no node"), ([], 2, "one name")):
        refused = lab.dvs("dc", "create", *args)
        assert refused.code == code and text in refused.err, refused
    assert lab.containers() == {}


def test_a_program_runs_on_a_node(lab):
    socket = f"/run/dvs/lab/{lab.name}/b/dvkd.sock"
    result = lab.dvs("lab", "exec", "b", "sh", "-c", "echo $DVS_SOCKET; echo $DVS_LAB; pwd; ls -d /sys/class/net/lo; exit 7")
    assert result.code == 7 and result.out.splitlines()[:3] == [socket, lab.name, os.getcwd()], result
    assert lab.dvs("lab", "exec", "b", "nosuchprogram").code == 127
    assert lab.dvs("lab", "exec", "b", "/etc/passwd").code == 126
    assert lab.dvs("lab", "exec", "nosuchnode", "true").code == 3
    assert lab.dvs("lab", "exec", "b", "sh", "-c", "kill -9 $$").code == 137
    assert lab.dvs("lab", "exec", "b", "cat", stdin="through\n").out == "through\n"


def test_a_program_runs_on_a_node_of_a_chroot(own_lab, tmp_path):
    """There the node's root is not that of its mount namespace."""
    root = tmp_path / "root"
    root.mkdir()
    script = (f'mount --rbind / {root}; mount -t tmpfs none {root}/mnt; mkdir {root}/mnt/here; '
              f'chroot {root} sh -ec \'"$0" lab up 1 > /dev/null; cd /mnt/here; "$0" lab exec a pwd; "$0" lab down\' "$0"')
    result = run(["unshare", "-m", "sh", "-ec", script, DVS], env=own_lab.env)
    assert result.code == 0 and result.out.startswith("/mnt/here\n"), result


def test_a_program_goes_when_it_is_told(lab):
    one = lab.start("lab", "exec", "b", "sh", "-c", "echo here; exec sleep 1000")
    one.stdout.readline()
    one.send_signal(signal.SIGTERM)
    assert one.wait(timeout=10) == 128 + signal.SIGTERM
    # dvs itself is killed: so is the program, which holds the pipe
    one = lab.start("lab", "exec", "b", "sh", "-c", "echo here; exec sleep 1001")
    one.stdout.readline()
    one.kill()
    one.communicate(timeout=10)
