# SPDX-License-Identifier: Apache-2.0
"""Groups and services while nodes are killed and cut off: nothing acknowledged is lost, nothing is done twice, nobody holds
what another has, a minority changes nothing."""
import json
import subprocess

import pytest
from dvslab import DVS, wait_for
from test_services import children, alive, finish, tool


@pytest.fixture
def three(own_lab):
    return own_lab.up(3)


def test_counter_while_a_node_is_killed(three):
    """Six clients raise a counter on three nodes by compare-and-swap; each step is made once, whoever dies."""
    lab = three
    watch = lab.start("--node", "a", "kv", "watch", "--format", "json", "n")
    assert json.loads(watch.stdout.readline())["event"] == "watching"
    clients = {who: tool(lab, who[0], "count", "n", who, 60) for who in ("a1", "a2", "b1", "b2", "c1", "c2")}
    events = [json.loads(watch.stdout.readline()) for _ in range(20)]
    lab.ok("lab", "kill", "c")
    done, unknown = {}, set()
    for who, client in clients.items():
        out, _ = client.communicate(timeout=60)
        assert client.returncode == 0 or who[0] == "c", (who, out)
        for what, step, *revision in map(str.split, out.splitlines()):
            if what == "done":
                done[step] = int(revision[0])
            elif what == "unknown":
                unknown.add(step)
    assert not [step for step in unknown if step[0] != "c"]  # the rest kept its quorum
    last = lab.json("kv", "get", "n")
    lab.ok("kv", "put", "n/end", "")
    while (event := json.loads(watch.stdout.readline()))["key"] != "n/end":
        events.append(event)
    watch.kill()
    watch.communicate()
    assert {event["event"] for event in events} == {"put"}
    assert [event["revision"] for event in events] == sorted({event["revision"] for event in events})
    values = [event["value"].split() for event in events]
    assert [int(number) for number, _ in values] == list(range(1, len(events) + 1))  # no step lost
    made = {step: event["revision"] for event, (_, step) in zip(events, values)}
    assert len(made) == len(events)  # none made twice
    assert all(made[step] == revision for step, revision in done.items())  # what was acknowledged is there
    # what was not acknowledged: at most the one that each client of c had under way
    assert set(made) - set(done) <= unknown | {step for step in made if step[0] == "c"}
    assert len(set(made) - set(done)) <= 2
    assert last["changes"] == len(events) and last["value"].split()[0] == str(len(events))


def test_group_goes_on_without_a_lost_node(three):
    lab = three
    members = {node: tool(lab, node, "member", "g", 3, 150) for node in "abc"}
    seen = {node: [] for node in "abc"}
    while len([line for line in seen["a"] if line.startswith("message")]) < 30:
        seen["a"].append(members["a"].stdout.readline().strip())
    lab.ok("lab", "kill", "c")
    for node in "ab":
        seen[node] += finish(members[node])
    seen["c"] = [line for line in members["c"].communicate(timeout=20)[0].splitlines() if not line.startswith("failed")]
    common = {}
    for node in "abc":
        start = next(i for i, line in enumerate(seen[node]) if line.startswith("view ") and line.endswith(" 3"))
        common[node] = seen[node][start:]
    # a and b saw the same, the view without c included, up to the end of the shorter
    length = min(len(common["a"]), len(common["b"]))
    assert common["a"][:length] == common["b"][:length]
    smaller = [line for line in common["a"][:length] if line.startswith("view ") and line.endswith(" 2")]
    assert len(smaller) == 1
    after = common["a"].index(smaller[0])
    assert not [line for line in common["a"][after:] if line.startswith("message 3 ")]
    # what c saw is the beginning of it
    assert len(common["c"]) > 1 and common["c"] == common["a"][:len(common["c"])]
    ours = [line for line in common["a"] if line.startswith("message 1 ")]
    assert len(ours) == 151


def test_holder_on_a_lost_node(three, tmp_path):
    lab = three
    log = tmp_path / "tokens"
    holder = lab.start("--node", "c", "lock", "l", "sh", "-c", f"echo $DVS_TOKEN >> {log}; echo; exec sleep 1000")
    holder.stdout.readline()
    under = children(holder.pid)
    office = lab.start("--node", "c", "leader", "--text", "old", "boss", "sh", "-c", "echo; exec sleep 1000")
    office.stdout.readline()
    heir = lab.start("--node", "b", "leader", "--text", "new", "boss", "sh", "-c", "echo; exec sleep 1000")
    waiting = [lab.start("--node", node, "lock", "l", "sh", "-c", f"echo $DVS_TOKEN >> {log}") for node in "abab"]
    lab.ok("lab", "cut", "c")
    # cut off, it is told, and what it ran is ended; then others have it
    assert holder.wait(15) == 125 and office.wait(15) == 125
    assert "lost" in holder.stderr.read().decode()
    wait_for(lambda: not any(alive(pid) for pid in under), 5, "the end of what ran under the lock")
    assert [process.wait(20) for process in waiting] == [0] * 4
    tokens = [int(token) for token in log.read_text().split()]
    assert len(tokens) == 5 and tokens == sorted(set(tokens))
    heir.stdout.readline()
    assert json.loads(lab.ok("--node", "a", "leader", "--format", "json", "boss"))["text"] == "new"
    # a minority changes nothing, and says so
    for args in (["kv", "put", "x", "1"], ["kv", "get", "x"], ["lock", "m", "true"], ["barrier", "x", "1"], ["leader", "boss"],
                 ["debug", "snapshot"]):
        refused = lab.dvs("--node", "c", *args)
        assert refused.code == 5 and "quor" in refused.err, refused
    lab.ok("--node", "a", "kv", "put", "x", "new")
    assert lab.dvs("--node", "c", "kv", "get", "--stale", "x").code == 3  # it has not heard of it
    assert json.loads(lab.ok("--node", "c", "leader", "--stale", "--format", "json", "boss"))["text"] == "old"
    lab.ok("lab", "heal", "c")
    wait_for(lambda: lab.node_states()["c"] == "up", 20, "the heal")
    assert lab.ok("--node", "c", "kv", "get", "x") == "new\n"
    heir.kill()
    heir.communicate()


def test_ends_of_endpoints_are_told(three):
    lab = three
    lab.ok("dc", "create", "x")
    number = next(dc["id"] for dc in lab.json("ls") if dc["name"] == "x")
    watched = {node: tool(lab, node, "stay", dc=number, stdin=subprocess.PIPE) for node in "abc"}
    names = {node: process.stdout.readline().strip() for node, process in watched.items()}
    watcher = tool(lab, "a", "watch", *names.values(), dc=number)
    assert [watcher.stdout.readline() for _ in range(2)] == ["nodes 3\n", "watching\n"]
    watched["a"].kill()
    assert watcher.stdout.readline() == f"gone {names['a']} destination died\n"
    watched["b"].stdin.close()
    assert watcher.stdout.readline() == f"gone {names['b']} destination died\n"
    before = {node["name"]: node["since"] for node in lab.json("--node", "a", "node", "ls")}
    lab.ok("lab", "kill", "c")
    assert watcher.stdout.readline() == f"gone {names['c']} node unreachable\n"
    assert watcher.wait(10) == 0
    late = tool(lab, "a", "watch", *names.values(), dc=number)  # what is gone already
    assert len(finish(late)) == 5
    lab.ok("lab", "start", "c")
    wait_for(lambda: lab.node_states()["c"] == "up", 20, "c")
    after = {node["name"]: node["since"] for node in lab.json("--node", "a", "node", "ls")}
    assert after["c"] > before["c"] > 1700000000000 and after["b"] == before["b"] and after["a"] == before["a"]
    for process in watched.values():
        process.kill()
        process.wait(10)


def test_what_is_left_after_all_nodes_were_down(three):
    lab = three
    lab.ok("kv", "put", "kept", "value")
    holder = lab.start("--node", "a", "lock", "l", "sh", "-c", "echo; exec sleep 1000")
    holder.stdout.readline()
    for node in "abc":
        lab.ok("lab", "kill", node)
    assert holder.wait(15) == 125
    for node in "abc":
        lab.ok("lab", "start", node)
    wait_for(lambda: lab.dvs("kv", "get", "kept").out == "value\n", 20, "quorum")
    lab.ok("lock", "--try", "l", "true")  # its holder is no more


def test_watch_tells_of_a_gap(three):
    lab = three
    watch = subprocess.Popen([DVS, "--node", "c", "kv", "watch", "--format", "json"], env=lab.env, stdout=subprocess.PIPE, text=True)
    watch.stdout.readline()
    lab.ok("--node", "a", "kv", "put", "before", "1")
    assert json.loads(watch.stdout.readline())["key"] == "before"
    lab.ok("lab", "cut", "c")
    wait_for(lambda: lab.dvs("--node", "c", "kv", "get", "before").code == 5, 15, "the loss of quorum")
    wait_for(lambda: lab.dvs("--node", "a", "kv", "put", "unseen", "1").code == 0, 15, "the others' quorum")
    lab.ok("lab", "heal", "c")
    assert json.loads(watch.stdout.readline())["event"] == "gap"
    lab.ok("--node", "a", "kv", "put", "after", "1")
    assert json.loads(watch.stdout.readline())["key"] == "after"
    watch.kill()
    watch.communicate()
