# SPDX-License-Identifier: Apache-2.0
"""Groups and services while all is well: keys, watches, locks, elections, barriers, groups, metrics, snapshots."""
import json
import os
import signal
import socket
import struct
import subprocess
import time

import pytest
from dvslab import BUILD, ROOT, wait_for

TOOL = os.path.join(BUILD, "tests", "services", "service_tool")


def sockets(lab):
    """Node name -> path of its dvkd's socket."""
    return {node["name"]: os.path.join(node["run"], "dvkd.sock") for node in lab.json("node", "ls")}


def tool(lab, node, mode, *args, dc=0, **options):
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    return subprocess.Popen([TOOL, mode, sockets(lab)[node], str(dc), *map(str, args)], text=True, start_new_session=True,
                            **{**pipes, **options})


def finish(process, timeout=30):
    out, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, out[-1000:]
    return out.splitlines()


def test_keys(lab):
    first = int(lab.ok("kv", "put", "kv/a", "one"))
    assert lab.ok("--node", "b", "kv", "get", "kv/a") == "one\n"
    assert lab.dvs("kv", "cas", "kv/a", "0", "x").code == 4
    second = int(lab.ok("--node", "c", "kv", "cas", "kv/a", str(first), "two"))
    assert second > first
    assert lab.dvs("kv", "cas", "kv/a", str(first), "late").code == 4
    got = lab.json("--node", "a", "kv", "get", "kv/a")
    assert (got["value"], got["revision"], got["created"], got["changes"]) == ("two", second, first, 2)
    lab.ok("kv", "put", "kv/b", "-", stdin=bytes(range(256)))
    assert subprocess.run([lab_dvs(), "kv", "get", "--raw", "kv/b"], env=lab.env, capture_output=True, check=True,
                          timeout=20).stdout == bytes(range(256))
    assert [entry["key"] for entry in lab.json("kv", "ls", "kv/")] == ["kv/a", "kv/b"]
    assert lab.dvs("kv", "del", "--revision", str(first), "kv/a").code == 4
    lab.ok("kv", "del", "--revision", str(second), "kv/a")
    gone = lab.dvs("--node", "b", "kv", "get", "kv/a")
    assert gone.code == 3 and "no such key" in gone.err and "dvs kv ls" in gone.err
    assert lab.dvs("kv", "del", "kv/a").code == 3
    lab.ok("kv", "del", "kv/b")


def lab_dvs():
    return os.path.join(BUILD, "src", "dvs", "dvs")


@pytest.mark.parametrize("args", [["kv"], ["kv", "get"], ["kv", "get", "a", "b"], ["kv", "fly"], ["kv", "cas", "a", "x", "y"],
                                  ["kv", "get", ""], ["kv", "get", "a\nb"], ["kv", "get", "n" * 256],
                                  ["kv", "put", "a", "v" * 32769], ["kv", "--timeout", "x", "ls"], ["lock", "a"],
                                  ["barrier", "a", "0"], ["barrier", "a"], ["debug"], ["metrics", "x"], ["leader"]])
def test_wrong_usage(lab, args):
    result = lab.dvs(*args)
    assert result.code == 2 and result.err.count("\n") == 1, result


def test_limits_are_told(lab):
    assert lab.dvs("kv", "ls", "--dc", "nothing").code == 3
    lab.ok("kv", "put", "limit", "-", stdin=b"v" * 32768)
    assert len(lab.ok("kv", "get", "--raw", "limit")) == 32768
    lab.ok("kv", "del", "limit")


def test_watch_sees_every_revision_in_order(lab):
    watch = lab.start("--node", "c", "kv", "watch", "--format", "json", "--count", "60", "w/")
    begin = json.loads(watch.stdout.readline())
    assert begin["event"] == "watching"
    writers = [subprocess.Popen(["sh", "-c", f"for i in $(seq 20); do $DVS --node {node} kv put w/{node} $i || exit 1; done"],
                                env={**lab.env, "DVS": lab_dvs()}, stdout=subprocess.PIPE, text=True) for node in "abc"]
    written = sorted(int(line) for writer in writers for line in writer.communicate(timeout=60)[0].split())
    out, _ = watch.communicate(timeout=20)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["revision"] for event in events] == written
    assert len(written) == 60 and written[0] > begin["revision"]
    for node in "abc":
        assert [event["value"] for event in events if event["key"] == f"w/{node}"] == [str(i) for i in range(1, 21)]
    for node in "abc":
        lab.ok("kv", "del", f"w/{node}")


def test_lock_passes_on_when_its_holder_dies(lab):
    holder = lab.start("--node", "a", "lock", "l", "sh", "-c", "echo $DVS_TOKEN; exec sleep 1000")
    first = int(holder.stdout.readline())
    assert lab.dvs("--node", "b", "lock", "--try", "l", "true").code == 4
    late = lab.dvs("--node", "b", "lock", "--timeout", "0.2", "l", "true")
    assert late.code == 5 and "timed out" in late.err
    second = lab.start("--node", "b", "lock", "l", "sh", "-c", "echo $DVS_TOKEN; exit 9")
    sleepers = children(holder.pid)
    os.kill(holder.pid, signal.SIGKILL)
    assert int(second.stdout.readline()) > first
    assert second.wait(10) == 9 and holder.wait(10) == -9
    wait_for(lambda: not any(alive(pid) for pid in sleepers), 5, "the end of what ran under the lock")
    assert lab.dvs("lock", "l", "sh", "-c", "kill -TERM $$").code == 128 + 15
    assert lab.dvs("lock", "l", "/nothing/there").code == 127


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "XZ"
    except OSError:
        return False


def test_lock_guards_what_many_do(lab, tmp_path):
    """Six at a time raise a number in a file without any other protection; some are killed while they hold the lock."""
    number, log = tmp_path / "number", tmp_path / "log"
    number.write_text("0")
    script = (f"n=$(cat {number}); echo $DVS_TOKEN >> {log}; sleep 0.02; "
              f"[ $(tail -n 1 {log}) = $DVS_TOKEN ] || echo overtaken >> {log}; echo $((n + 1)) > {number}")
    loop = f"for i in $(seq 5); do $DVS --node $NODE lock file sh -c '{script}' || exit 1; done"
    workers = [subprocess.Popen(["sh", "-c", loop], env={**lab.env, "DVS": lab_dvs(), "NODE": node}) for node in "abcabc"]
    for _ in range(3):
        lost = lab.start("lock", "file", "sh", "-c", "echo held; exec sleep 1000")
        lost.stdout.readline()
        os.kill(lost.pid, signal.SIGKILL)
        lost.communicate()
    assert [worker.wait(60) for worker in workers] == [0] * 6
    tokens = log.read_text().split()
    assert "overtaken" not in tokens and len(tokens) == 30
    assert [int(token) for token in tokens] == sorted({int(token) for token in tokens})
    assert number.read_text().strip() == "30"


def test_leader(lab):
    assert lab.dvs("leader", "boss").code == 3
    first = lab.start("--node", "a", "leader", "--text", "first", "boss", "sh", "-c", "echo $DVS_TOKEN; exec sleep 1000")
    token = int(first.stdout.readline())
    told = json.loads(lab.ok("--node", "c", "leader", "--format", "json", "boss"))
    assert (told["text"], told["token"]) == ("first", token)
    second = lab.start("--node", "b", "leader", "--text", "second", "boss", "sh", "-c", "echo $DVS_TOKEN; exec sleep 1000")
    first.terminate()
    assert first.wait(10) == 128 + 15
    assert int(second.stdout.readline()) > token
    assert json.loads(lab.ok("leader", "--format", "json", "boss"))["text"] == "second"
    second.kill()
    second.wait(10)
    wait_for(lambda: lab.dvs("leader", "boss").code == 3, 5, "an empty office")


def test_barrier(lab):
    lost = lab.start("--node", "a", "barrier", "b", "3")
    waiting = [lab.start("--node", "b", "barrier", "b", "3")]
    wait_for(lambda: len(objects(lab, "barrier", "b")) == 2, 10, "two at the barrier")
    assert lab.dvs("barrier", "b", "2").code == 2  # another number
    os.kill(lost.pid, signal.SIGKILL)  # who dies does not count
    lost.communicate()
    wait_for(lambda: len(objects(lab, "barrier", "b")) == 1, 10, "one at the barrier")
    waiting.append(lab.start("--node", "c", "barrier", "b", "3"))
    wait_for(lambda: len(objects(lab, "barrier", "b")) == 2, 10, "two at the barrier")
    assert all(process.poll() is None for process in waiting)
    lab.ok("--node", "a", "barrier", "b", "3")
    assert [process.wait(10) for process in waiting] == [0, 0]


def objects(lab, kind, name, *dc):
    """The entries of an object, from a snapshot."""
    for item in lab.json("debug", "snapshot", *dc)["objects"][kind]:
        if item["name"] == name:
            return item["row"]["q"]
    return []


def transcripts(lines):
    """What a member saw since the view that all are in, views and messages alike."""
    start = max(i for i, line in enumerate(lines) if line.startswith("view ") and line.endswith(" 6"))
    return lines[start:]


def test_group_order_is_the_same_for_all(lab):
    members = [tool(lab, node, "member", "orders", 6, 40) for node in "abcabc"]
    seen = [finish(member) for member in members]
    common = [transcripts(lines) for lines in seen]
    ends = [len([line for line in lines if line.endswith(" end")]) for lines in common]
    assert ends == [6] * 6
    shortest = min(common, key=len)
    until = len(shortest) - next(i for i, line in enumerate(reversed(shortest)) if line.endswith(" end"))
    assert all(lines[:until] == shortest[:until] for lines in common)
    texts = [line.split()[2] for line in shortest[:until] if line.startswith("message")]
    assert len(texts) == 6 * 41
    for sender in {text.rsplit(".", 1)[0] for text in texts if text != "end"}:
        mine = [int(text.rsplit(".", 1)[1]) for text in texts if text.startswith(sender + ".")]
        assert mine == list(range(40))  # none missing, none twice, in the sender's order


def test_slow_member_holds_up_the_senders_and_loses_nothing(lab):
    slow = tool(lab, "c", "stopped", "slow", stdin=subprocess.PIPE)
    assert slow.stdout.readline() == "joined\n"
    sender = tool(lab, "a", "member", "slow", 2, 1500, stdout=subprocess.DEVNULL)
    wait_for(lambda: lab.json("--node", "a", "metrics")["services"]["holds"] == 1, 30, "the hold")
    held = lab.json("--node", "c", "metrics")["services"]["messages"]
    time.sleep(0.5)
    assert lab.json("--node", "c", "metrics")["services"]["messages"] - held <= 2 and sender.poll() is None
    slow.stdin.close()
    slow.stdin = None
    out, _ = slow.communicate(timeout=60)
    assert out == "messages 1501\n"
    sender.kill()
    sender.wait(10)
    wait_for(lambda: not objects(lab, "group", "slow"), 10, "the end of the group")


def test_containers_are_apart(lab):
    for name in ("one", "two"):
        lab.ok("dc", "create", name)
    try:
        lab.ok("kv", "put", "--dc", "one", "k", "of one")
        lab.ok("kv", "put", "k", "of the cluster")
        assert lab.ok("kv", "get", "--dc", "one", "k") == "of one\n"
        assert lab.ok("kv", "get", "k") == "of the cluster\n"
        assert lab.dvs("kv", "get", "--dc", "two", "k").code == 3
        holder = lab.start("lock", "--dc", "one", "l", "sh", "-c", "echo held; exec sleep 1000")
        holder.stdout.readline()
        lab.ok("lock", "--dc", "two", "--try", "l", "true")
        assert lab.dvs("lock", "--dc", "one", "--try", "l", "true").code == 4
        lab.ok("rm", "-f", "one")
        assert holder.wait(10) == 125 and b"lost" in holder.stderr.read()  # its name went with the container
        lab.ok("dc", "create", "one")
    finally:
        for name in ("one", "two"):
            lab.ok("rm", "-f", name)
    lab.ok("dc", "create", "one")  # a new one of the name has nothing of the old one
    assert lab.json("kv", "ls", "--dc", "one") == []
    lab.ok("rm", "-f", "one")
    lab.ok("kv", "del", "k")


class Raw:
    """dvkd's socket without libdvk: packets as a program that does not keep to the rules would send them."""
    HEAD = struct.Struct("<IIIiQQQQIIIIII")
    SERVICE = struct.Struct("<IIQQQQIIII")

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.socket.connect(path)
        bell = os.memfd_create("bell", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(bell, 65536)
        import fcntl
        fcntl.fcntl(bell, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        assert self.ask(1, fds=[bell])[0] == 0
        os.close(bell)

    def ask(self, kind, dc=0, endpoint=0, text=b"", fds=()):
        """(status, endpoint) of the answer; None when we are thrown out."""
        packet = self.HEAD.pack(0x42564b44, 1, kind, 0, 7, endpoint, 0, 0, dc, 0, 0, 0, len(text), 0)
        socket.send_fds(self.socket, [packet + text], list(fds))
        while True:
            answer = self.socket.recv(200000)
            if not answer:
                return None
            fields = self.HEAD.unpack(answer[:self.HEAD.size])
            if fields[2] == kind | 0x80000000:
                return fields[3], fields[5]

    def service(self, op, dc, endpoint, name=b"x", **fields):
        head = self.SERVICE.pack(op, fields.get("flags", 0), 0, 0, 0, 0, 0, fields.get("count", 0),
                                 fields.get("name_len", len(name)), fields.get("value_len", 0))
        return self.ask(70, dc, endpoint, head + name)


def test_only_ones_own_endpoint_and_container(lab):
    lab.ok("dc", "create", "mine")
    lab.ok("dc", "create", "theirs")
    try:
        ids = {dc["name"]: dc["id"] for dc in lab.json("ls")}
        path = sockets(lab)["a"]
        mine, theirs = Raw(path), Raw(path)
        _, own = mine.ask(2, ids["mine"])
        _, other = theirs.ask(2, ids["theirs"])
        for op in (1, 4, 5, 6, 7, 8, 10, 12, 13):  # join, get, put, delete, list, watch, lock, leader, barrier
            assert mine.service(op, ids["theirs"], own, count=1)[0] == -2006, op
            assert mine.service(op, ids["theirs"], other, count=1)[0] == -2006, op
            assert mine.service(op, 0, own, count=1)[0] == -2006, op
            assert mine.service(op, ids["mine"], 0, count=1)[0] == -2006, op
        assert mine.service(5, ids["mine"], own)[0] == 0
        assert mine.service(7, ids["mine"], own, name_len=4) is None  # a wrong length: thrown out
        assert theirs.service(4, ids["theirs"], other)[0] == -2032  # no such key there
    finally:
        lab.ok("rm", "-f", "mine")
        lab.ok("rm", "-f", "theirs")


def test_metrics(lab):
    before = lab.json("--node", "a", "metrics")
    lab.ok("--node", "a", "kv", "put", "m", "1")
    after = lab.json("--node", "a", "metrics")
    assert after["services"]["kv_puts"] == before["services"]["kv_puts"] + 1
    assert after["node"]["nodes_up"] == 3 and after["node"]["quorate"] is True
    cluster = next(dc for dc in after["containers"] if dc["id"] == 0)
    assert cluster["keys"] >= 1
    assert any(client["role"] == "proxy" and client["memory"] > 0 for client in after["clients"])
    text = lab.ok("--node", "a", "metrics")
    samples = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            assert name not in samples, "twice: " + name
            samples[name] = int(value)
    assert samples['dvs_service_kv_puts_total{node="a"}'] == after["services"]["kv_puts"]
    assert samples['dvs_container_keys{node="a",name="",state="cluster"}'] == cluster["keys"]
    lab.ok("kv", "del", "m")


def test_metrics_and_snapshot_of_a_container(lab, dc):
    lab.ok("exec", dc, "/.dvs/bin/onnode", "b", "true")
    lab.ok("exec", dc, "/.dvs/bin/onnode", "c", "true")
    state = lab.json("debug", "snapshot", dc)
    nodes = {node["name"]: node for node in state["nodes"]}
    assert set(nodes) == {"a", "b", "c"}
    assert len({node["revision"] for node in nodes.values()}) == 1  # one place in the order
    assert all(any(endpoint["role"] == "cell" for endpoint in node["endpoints"]) for node in nodes.values())
    assert 'comm="sleep"' in lab.ok("metrics")


def test_the_manual_names_what_there_is():
    with open(os.path.join(ROOT, "man", "dvs.1"), encoding="utf-8") as file:
        manual = file.read()
    for word in ("kv get", "kv put", "kv cas", "kv del", "kv ls", "kv watch", "lock", "leader", "barrier", "metrics",
                 "debug snapshot"):
        assert word in manual, word
