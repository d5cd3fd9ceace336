# SPDX-License-Identifier: Apache-2.0
"""python/dvk.py: against peers in C (examples/) and in Python, on one node and across nodes."""
import os

import pytest

from dvslab import BUILD, DVS, ROOT, run
from test_examples import IDS, Nodes

PEER = os.path.join(ROOT, "tests", "system", "python_peer.py")


class PythonNodes(Nodes):
    def __init__(self, lab):
        super().__init__(lab)
        self.lab.env = {**lab.env, "PYTHONPATH": os.path.join(ROOT, "python"), "PYTHONDONTWRITEBYTECODE": "1",
                        "DVK_LIBRARY": os.path.join(BUILD, "src", "dvk", "libdvk.so.1")}

    def python(self, node, role, *args):
        return run([DVS, "lab", "exec", node, "/usr/bin/python3", PEER, role, self.dc, *map(str, args)], env=self.lab.env)

    def python_server(self, node, role):
        program = self.lab.start("lab", "exec", node, "/usr/bin/python3", PEER, role, self.dc)
        self.servers.append(program)
        line = program.stdout.readline()
        assert line == f"ready on node {IDS[node]}\n".encode(), program.stderr.read().decode()
        return program


@pytest.fixture
def nodes(lab):
    one = PythonNodes(lab)
    try:
        yield one
    finally:
        one.end()


@pytest.mark.parametrize("server, client", [("b", "b"), ("b", "a")])
def test_python_serves_c(nodes, server, client):
    nodes.python_server(server, "greet_server")
    assert nodes.client(client, "greet_client", "Ada", IDS[server]).out == f"Hello Ada on node {IDS[client]}, this is node {IDS[server]}\n"


@pytest.mark.parametrize("server, client", [("b", "b"), ("b", "a")])
def test_python_asks_c(nodes, tmp_path, server, client):
    nodes.server(server, "greet_server")
    assert nodes.python(client, "greet_client", "Ada", IDS[server]).out == f"Hello Ada on node {IDS[client]}, this is node {IDS[server]}\n"
    assert nodes.python(client, "greet_client", "x" * 64, IDS[server]).out == "Invalid argument\n"
    missing = nodes.python(client, "greet_client", "Ada", IDS["c"])
    assert missing.code == 1 and missing.err == "DVK_ENOTBOUND: endpoint not bound\n"
    content = os.urandom(200_001)
    (tmp_path / "one").write_bytes(content)
    nodes.server(server, "file_server", tmp_path)
    copied = nodes.python(client, "file_reader", "one", IDS[server])
    assert copied.out == "200001\n", copied
    assert (tmp_path / "one.py").read_bytes() == content


@pytest.mark.parametrize("server, client", [("b", "b"), ("b", "a")])
def test_every_call(nodes, server, client):
    nodes.python_server(server, "server")
    result = nodes.python(client, "client", IDS[server])
    assert (result.code, result.out, result.err) == (0, "all is well\n", ""), result


@pytest.mark.parametrize("server, client", [("b", "b"), ("b", "a")])
def test_loans_copies_groups_and_services(nodes, server, client):
    nodes.python_server(server, "more_server")
    result = nodes.python(client, "more_client", IDS[server])
    assert (result.code, result.out, result.err) == (0, "all is well\n", ""), result


def test_a_waiting_server_can_be_interrupted(nodes):
    """Python's signal handlers run although receive() waits for ever and nothing comes."""
    server = nodes.python_server("a", "server")
    server.terminate()
    _, err = server.communicate(timeout=10)
    assert (server.returncode, err) == (1, b"told to end\n")


def test_a_lost_server_is_an_exception(nodes):
    server = nodes.python_server("b", "server")
    server.terminate()
    server.communicate(timeout=10)
    missing = nodes.python("a", "client", IDS["b"])
    assert missing.code == 1 and "dvk.Gone: endpoint not bound" in missing.err
