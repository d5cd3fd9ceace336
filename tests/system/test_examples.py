# SPDX-License-Identifier: Apache-2.0
"""The worked examples of docs/DVK.md: each compiled against the public interface, and run on one node and across nodes."""
import os
import re

import pytest

from dvslab import BUILD, DVS, ROOT, run, wait_for

EXAMPLES = os.path.join(BUILD, "examples")
IDS = {"a": 1, "b": 2, "c": 3}


class Nodes:
    """Programs on a lab's nodes, in a container of their own."""

    def __init__(self, lab):
        self.lab, self.servers = lab, []
        self.dc = "examples"
        lab.ok("dc", "create", self.dc)

    def server(self, node, name, *args):
        """Start it, and wait until it can be found. What it said before that is in .said."""
        program = self.lab.start("lab", "exec", node, os.path.join(EXAMPLES, name), self.dc, *map(str, args))
        self.servers.append(program)
        program.said = ""
        while not program.said.endswith(f"ready on node {IDS[node]}\n"):
            line = program.stdout.readline().decode()
            assert line, f"{name} on {node} ended: {program.said}{program.stderr.read().decode()}"
            program.said += line
        return program

    def client(self, node, name, *args):
        return run([DVS, "lab", "exec", node, os.path.join(EXAMPLES, name), self.dc, *map(str, args)], env=self.lab.env)

    def end(self):
        for program in self.servers:
            program.terminate()
            program.communicate(timeout=10)
        self.lab.ok("rm", "-f", self.dc)


@pytest.fixture
def nodes(lab):
    one = Nodes(lab)
    try:
        yield one
    finally:
        one.end()


def test_the_programs_in_the_guide(lab, tmp_path):
    with open(os.path.join(ROOT, "docs", "DVK.md"), encoding="utf-8") as file:
        programs = re.findall(r"^```c\n/\* (\w+)\.c \*/\n(.*?)^```$", file.read(), flags=re.M | re.S)
    library = os.path.join(BUILD, "src", "dvk")
    for name, text in programs:
        (tmp_path / f"{name}.c").write_text(text)
        built = run(["cc", "-o", str(tmp_path / name), str(tmp_path / f"{name}.c"), "-I", os.path.join(ROOT, "include"),
                     "-L", library, "-ldvk", "-Wl,-rpath," + library, *sanitizer_of(library)])
        assert built.code == 0, built
    lab.ok("dc", "create", "demo")
    server = lab.start("lab", "exec", "b", str(tmp_path / "shout_server"))
    try:
        for node in "ba":
            def ask():
                return lab.dvs("lab", "exec", node, str(tmp_path / "shout_client"), "hello")
            answer = wait_for(lambda: (one := ask()).code == 0 and one, 10, "the server")
            assert answer.out == "HELLO\n"
    finally:
        server.terminate()
        server.communicate(timeout=10)
        lab.ok("rm", "-f", "demo")


def sanitizer_of(library):
    """What a program needs that is linked with a library that was built with sanitizers."""
    needs = run(["readelf", "-d", os.path.join(library, "libdvk.so")]).out
    return ["-fsanitize=address,undefined"] if "libasan" in needs else []


@pytest.mark.parametrize("server, client", [("b", "b"), ("b", "a")])
def test_greet(nodes, server, client):
    nodes.server(server, "greet_server")
    want = f"Hello Ada on node {IDS[client]}, this is node {IDS[server]}\n"
    assert nodes.client(client, "greet_client", "Ada", IDS[server]).out == want
    assert nodes.client(client, "greet_client", "Ada").out == want
    missing = nodes.client(client, "greet_client", "Ada", IDS["c"])
    assert missing.code == 1 and missing.err == "greet: endpoint not bound\n"


def test_a_server_ends_with_its_container(nodes):
    server = nodes.server("a", "greet_server")
    nodes.lab.ok("rm", "-f", nodes.dc)
    _, err = server.communicate(timeout=10)
    assert b"the container is gone" in err and server.returncode == 1
    nodes.lab.ok("dc", "create", nodes.dc)


@pytest.mark.parametrize("source, target, client", [("a", "a", "a"), ("a", "b", "a"), ("a", "b", "b"), ("a", "b", "c")])
def test_files(nodes, tmp_path, source, target, client):
    content = os.urandom(3_000_001)
    for node in {source, target}:
        directory = tmp_path / node
        directory.mkdir()
        nodes.server(node, "file_server", directory)
    (tmp_path / source / "one").write_bytes(content)
    (tmp_path / source / "one").chmod(0o640)
    (tmp_path / source / "empty").write_bytes(b"")
    for name, size in (("one", len(content)), ("empty", 0)):
        copied = nodes.client(client, "file_copy", f"{IDS[source]}:{name}", f"{IDS[target]}:copy of {name}")
        assert (copied.code, copied.out) == (0, f"{size} bytes\n"), copied
    assert (tmp_path / target / "copy of one").read_bytes() == content
    assert (tmp_path / target / "copy of one").stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path / target)) == sorted({"copy of empty", "copy of one"} | ({"one", "empty"} if source == target else set()))
    refused = nodes.client(client, "file_copy", f"{IDS[source]}:nosuch", f"{IDS[target]}:x")
    assert refused.code == 1 and "No such file" in refused.err
    refused = nodes.client(client, "file_copy", f"{IDS[source]}:one", f"{IDS[target]}:../x")
    assert refused.code == 1 and "Invalid argument" in refused.err


def primes_below(limit):
    sieve = bytearray([1]) * limit
    sieve[0:2] = b"\0\0"
    for n in range(2, int(limit ** 0.5) + 1):
        if sieve[n]:
            sieve[n * n::n] = bytes(len(sieve[n * n::n]))
    return sum(sieve)


@pytest.mark.parametrize("places", ["a", "abc"])
def test_work(nodes, places):
    for node in places:
        nodes.server(node, "work_server")
    result = nodes.client("a", "work_queue", 300000, 20)
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert lines[0] == f"{primes_below(300000)} primes"
    tasks = {line.split()[1][:-1]: int(line.split()[2]) for line in lines[1:]}
    assert sum(tasks.values()) == 20 and all((tasks[str(IDS[node])] > 0) == (node in places) for node in "abc"), lines


def test_work_of_a_lost_server_is_done_by_others(nodes):
    """One of two is killed in the midst of a task; what it had is done again, and nothing twice."""
    lost, _ = nodes.server("b", "work_server"), nodes.server("c", "work_server")
    queue = nodes.lab.start("lab", "exec", "a", os.path.join(EXAMPLES, "work_queue"), nodes.dc, "4000000", "12")
    busy = f"/proc/{child_of(lost.pid)}/stat"

    def is_at_work():
        with open(busy, encoding="utf-8") as file:
            return int(file.read().rsplit(")", 1)[1].split()[11]) > 2 # clock ticks in user mode
    wait_for(is_at_work, 10, "the first task")
    lost.terminate()
    out, err = queue.communicate(timeout=50)
    assert out.decode().splitlines()[0] == f"{primes_below(4000000)} primes", (out, err)
    tasks = [int(line.split()[2]) for line in out.decode().splitlines()[1:]]
    assert sum(tasks) == 12 and tasks[2] > tasks[1], tasks


def child_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        return int(file.read().split()[0])


def test_kv_on_one_node_and_across(nodes):
    primary = nodes.server("a", "kv_server")
    assert primary.said.startswith("primary\n")
    assert nodes.client("a", "kv_client", "put", "k", "one").code == 0
    backup = nodes.server("b", "kv_server")
    assert backup.said.startswith("backup of node 1\n")
    for client in "abc":
        assert nodes.client(client, "kv_client", "get", "k").out == "one\n"
    assert nodes.client("c", "kv_client", "put", "k", "two").code == 0
    assert nodes.client("b", "kv_client", "get", "k").out == "two\n"
    assert "No such file" in nodes.client("c", "kv_client", "get", "nosuch").err
    primary.terminate() # the process alone: known at once
    assert nodes.client("c", "kv_client", "get", "k").out == "two\n"
    assert backup.stdout.readline().startswith(b"primary: ")


def test_kv_survives_the_loss_of_a_node(own_lab):
    nodes = Nodes(own_lab.up(3))
    try:
        nodes.server("a", "kv_server")
        backup = nodes.server("b", "kv_server")
        for i in range(20):
            assert nodes.client("c", "kv_client", "put", f"key {i}", f"value {i}").code == 0
        own_lab.ok("lab", "kill", "a")
        assert nodes.client("c", "kv_client", "put", "after", "it").code == 0
        assert backup.stdout.readline() == b"primary: the one before ended: node unreachable\n"
        for i in range(20):
            assert nodes.client("c", "kv_client", "get", f"key {i}").out == f"value {i}\n"
        # the node comes back, and its server becomes the backup of the one that went on
        own_lab.ok("lab", "start", "a")
        third = nodes.server("a", "kv_server")
        assert third.said.startswith("backup of node 2\n")
        own_lab.ok("lab", "cut", "b") # now the primary has no quorum: it ends, and changes nothing more
        assert nodes.client("c", "kv_client", "get", "after").out == "it\n"
        assert third.stdout.readline().startswith(b"primary: ")
        backup.communicate(timeout=10)
        assert backup.returncode == 1
        alone = nodes.client("b", "kv_client", "put", "key 1", "lost")
        assert alone.code == 1 and "quorum" in alone.err, alone
        own_lab.ok("lab", "heal", "b")
    finally:
        for program in nodes.servers:
            program.terminate()
            program.communicate(timeout=10)
