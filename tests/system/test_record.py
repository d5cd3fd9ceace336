# SPDX-License-Identifier: Apache-2.0
"""The flight recorders of a node's daemons: while they run, after they were killed, and with a failed test."""
import os
import signal
import subprocess
import sys

from dvslab import ROOT, clean_env, host_pids, wait_for


def names(events):
    return [event["event"] for event in events]


def test_what_daemons_did_is_told(lab, dc):
    lab.ok("exec", dc, "/.dvs/bin/onnode", "b", "true")
    dvkd = lab.record("b")
    assert names(dvkd)[0] == "start"
    assert {event["node"] for event in dvkd if event["event"] == "node-up"} == {1, 3}
    assert {"view-install", "quorum", "apply", "bind", "connect", "cell-start", "cell-ready"} <= set(names(dvkd))
    numbers = [event["n"] for event in dvkd]
    assert numbers == sorted(numbers) and [e["time"] for e in dvkd] == sorted(e["time"] for e in dvkd)
    links = [event for event in lab.record("b", "--daemon", "proxy") if event["event"] == "link-up"]
    assert {event["node"] for event in links} == {1, 3}
    vos = names(lab.record("b", "--daemon", f"vos:{dc}"))
    assert {"move-arrive", "process-start", "process-exit"} <= set(vos)
    assert lab.ok("debug", "record", "b", "--last", "2").count("\n") == 3


def test_errors_name_what_is_wrong(lab):
    for args, code, words in ((["nowhere"], 3, "nowhere"), (["a", "--daemon", "cat"], 2, "cat keeps no record"),
                              (["a", "--daemon", "vos:none"], 3, "none"), (["--file", "/etc/passwd"], 2, "record"),
                              (["a", "--last", "0"], 2, "--last"), (["a", "--ended"], 5, "has ended")):
        result = lab.dvs("debug", "record", *args)
        assert result.code == code and words in result.err and result.err.count("\n") == 1, result


def test_a_killed_proxy_leaves_its_record(own_lab):
    lab = own_lab.up(3)
    wait_for(lambda: "link-up" in names(lab.record("b", "--daemon", "proxy")), 10, "the connections")
    for pid in host_pids(lab, "b", "dvs-proxy"):
        os.kill(pid, signal.SIGSEGV)
    wait_for(lambda: "proxy-end" in names(lab.record("b")), 10, "the loss")
    ended = lab.record("b", "--daemon", "proxy", "--ended")
    assert ended[-1]["event"] == "crash" and ended[-1]["signal"] == signal.SIGSEGV and "link-up" in names(ended)


def test_a_killed_dvkd_leaves_its_record(own_lab):
    lab = own_lab.up(3)
    lab.ok("lab", "kill", "c")
    path = f"/run/dvs/lab/{lab.name}/c/record/dvkd"
    assert "view-install" in names(lab.record("--file", path))
    wait_for(lambda: any(e["event"] == "node-down" and e["node"] == 3 for e in lab.record("a")), 10, "the loss")
    lab.ok("lab", "start", "c")
    wait_for(lambda: lab.node_states().get("c") == "up", 10, "its return")
    assert "view-install" in names(lab.record("c", "--ended")) and names(lab.record("c"))[0] == "start"


FAILING = '''
def test_that_fails(own_lab):
    own_lab.up(1)
    own_lab.ok("run", "-d", "--name", "x", "--image", "host", "sleep", "100")
    assert False
'''


def test_records_go_with_a_failed_test(tmp_path):
    (tmp_path / "test_failing.py").write_text(FAILING)
    here = os.path.join(ROOT, "tests", "system")
    os.symlink(os.path.join(here, "conftest.py"), tmp_path / "conftest.py")
    result = subprocess.run([sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path], timeout=60,
                            stdin=subprocess.DEVNULL, env=clean_env(PYTHONPATH=here, DVS_BUILD=os.environ.get("DVS_BUILD", f"{ROOT}/build")),
                            stdout=subprocess.PIPE, text=True)
    assert result.returncode == 1 and "1 failed" in result.stdout
    assert "record of dvkd on" in result.stdout and "view-install" in result.stdout and "record of vos:x on" in result.stdout
