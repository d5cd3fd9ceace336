# SPDX-License-Identifier: Apache-2.0
"""Injected faults (src/common/fault.h): nothing is lost or done twice when connections break, reads and writes are short and dvkd is slow;
what could not be written is not answered. All but the first need a build with -Dfaults=true."""
import json
import os

import pytest
from dvslab import BUILD, DVS, run, wait_for
from test_chaos import load_chaos

BUILT = json.loads(run([DVS, "debug", "faults", "--format", "json"]).out)["built"]
built = pytest.mark.skipif(not BUILT, reason="this build injects no faults (meson setup -Dfaults=true)")


def faults_of(events):
    return [event for event in events if event["event"] == "fault"]


def test_points_are_listed():
    text = run([DVS, "debug", "faults"]).out
    points = json.loads(run([DVS, "debug", "faults", "--format", "json"]).out)["points"]
    assert {"proxy.write", "proxy.read", "replica.deliver", "store.write"} <= {point["point"] for point in points}
    assert all(point["point"] in text and "delay crash" in point["actions"] for point in points)


@built
@pytest.mark.parametrize("plan", [
    "seed=11;proxy.write=short:0.3;proxy.write=lose:0.003;proxy.read=lose:0.003",
    "seed=13;proxy.frame=drop:0.01;proxy.frame=repeat:0.02;proxy.frame=swap:0.02",
    "seed=12;broker.send=full:0.5;proxy.connect=fail:0.5;proxy.write=lose:0.002;replica.deliver=delay:0.1:30;replica.send=delay:0.1:30",
], ids=["connections", "frames", "slow"])
def test_calls_are_done_once_each_all_the_same(own_lab, plan):
    own_lab.env["DVS_FAULTS"] = plan
    own_lab.up(3, "--nodes-named", "a,b,c")
    chaos = load_chaos().Chaos(own_lab, seed=5)
    try:
        chaos.round(["client", "server", "client", "drop", "client"])
        assert not chaos.failures, "\n".join(chaos.failures)
        assert chaos.counts["answered"] > 100
        assert any(faults_of(own_lab.record(node, "--daemon", daemon)) for node in "abc" for daemon in ("dvkd", "proxy"))
        if "proxy.frame" in plan: # what was missing was noticed and sent again, what came twice was dropped
            links = [link for node in "abc" for link in own_lab.json("--node", node, "node", "ls", "--links")]
            assert all(sum(link[count] for link in links) > 0 for count in ("gaps", "resent", "duplicates")), links
    finally:
        chaos.end()


@built
def test_what_cannot_be_written_is_not_answered(own_lab):
    lab = own_lab.up(3, "--nodes-named", "a,b,c")
    lab.ok("lab", "kill", "c")
    lab.env["DVS_FAULTS"] = "store.write=fail:1"
    lab.ok("lab", "start", "c")
    wait_for(lambda: lab.node_states().get("c") == "up", 15, "c")
    lab.ok("--node", "a", "dc", "create", "one")
    wait_for(lambda: lab.node_states().get("c") == "down", 10, "the end of c")
    record = lab.record("--file", f"/run/dvs/lab/{lab.name}/c/record/dvkd")
    assert faults_of(record) and "cannot be written" in json.dumps(record[-6:])
    del lab.env["DVS_FAULTS"]
    lab.ok("lab", "start", "c")
    wait_for(lambda: lab.node_states().get("c") == "up", 15, "c")
    assert [c["name"] for c in json.loads(lab.ok("--node", "c", "ls", "--format", "json"))] == ["one"]


@built
def test_a_crash_before_the_commit_leaves_the_old_state(own_lab):
    lab = own_lab.up(3, "--nodes-named", "a,b,c")
    lab.ok("lab", "kill", "c")
    lab.ok("--node", "a", "dc", "create", "one")
    lab.env["DVS_FAULTS"] = "store.commit=crash:1"
    lab.dvs("lab", "start", "c")
    path = f"/run/dvs/lab/{lab.name}/c/record/dvkd"
    wait_for(lambda: lab.record("--file", path)[-1]["event"] == "crash", 15, "the crash")
    assert lab.record("--file", path)[-2]["event"] == "fault"
    del lab.env["DVS_FAULTS"]
    lab.ok("lab", "start", "c")
    wait_for(lambda: lab.node_states().get("c") == "up", 15, "c")
    assert [c["name"] for c in json.loads(lab.ok("--node", "c", "ls", "--format", "json"))] == ["one"]


@built
def test_a_plan_that_makes_no_sense_is_refused():
    result = run([os.path.join(BUILD, "src", "dvkd", "dvkd")], env={**os.environ, "DVS_FAULTS": "proxy.write=burn:1"})
    assert result.code == 2 and "burn" in result.err and result.err.count("\n") == 1, result
