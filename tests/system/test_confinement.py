# SPDX-License-Identifier: Apache-2.0
"""A hostile program jumps past its personality and attacks the host, its container and the DVK (tests/guest/hostile).
Each attack is refused, or harms only the attacker; the container beside it, its own container's other programs, dvkd, the
proxy and the servers go on."""
import os
import re
import shutil

import pytest
from dvslab import BUILD, host_pids, node_processes, wait_for

HOSTILE = os.path.join(BUILD, "tests", "guest", "hostile", "hostile")
ATTACKS = ["open", "socket", "ptrace", "mount", "kill", "memory", "exec", "namespace", "privilege", "signal-by-fd", "timer",
           "undispatch", "x32", "int80", "forge", "forge-server", "garbage", "bad-slot", "dead-flag", "unmap", "doorbell"]
DEADLY = {"x32": 31, "int80": 31}  # signal that the attacker must die of
DEADLY_IF_STRICT = {**DEADLY, "undispatch": 31}
NODES = ["a", "b"]
DAEMONS = ["dvkd", "dvs-proxy", "corosync", "dvs-cell", "dvs-vos"]


class Bystander:
    """A container over all nodes that counts as long as pipelines over its nodes work."""

    def __init__(self, lab):
        self.lab = lab
        script = ('n=0; while echo $n | DVS_PLACE=node=b cat | DVS_PLACE=node=c cat >/tmp/seen && [ "$(cat /tmp/seen)" = $n ]; '
                  'do n=$((n + 1)); mv /tmp/seen /tmp/count; sleep 0.02; done; echo stopped at $n')
        self.name = lab.ok("--node", "a", "run", "-d", "--image", "host", "--place", "node=a", "--", "bash", "-c", script).strip()
        self.count = -1
        self.check()

    def now(self):
        text = self.lab.dvs("exec", self.name, "cat", "/tmp/count").out
        return int(text) if text.strip().isdigit() else -1

    def check(self):
        """It goes on counting."""
        before = self.count
        self.count = wait_for(lambda: (n := self.now()) > before and n, 15, "the container beside it")
        assert "stopped" not in self.lab.ok("logs", self.name)


def daemons(lab):
    return [process for process in node_processes(lab) if process[1] in DAEMONS]


@pytest.fixture(scope="module")
def bystander(lab):
    return Bystander(lab)


@pytest.fixture(scope="module", params=["normal", "strict"])
def attacked(lab, bystander, request, tmp_path_factory):
    """A container with the hostile program at /h/hostile on both nodes; (name, strict?)."""
    directory = tmp_path_factory.mktemp("hostile")
    shutil.copy(HOSTILE, directory)
    for path in (directory, directory.parent):
        path.chmod(0o755)
    strict = request.param == "strict"
    name = lab.ok("--node", "a", "run", "-d", *(["--strict"] if strict else []), "--image", "host", "--place", "node=a",
                  "-v", f"{directory}@a:/h", "--", "sleep", "100000").strip()
    lab.ok("exec", name, "/.dvs/bin/onall", "/bin/true")  # so that all cells are there
    try:
        yield name, strict
    finally:
        lab.ok("rm", "-f", name)


def attack(lab, dc, node, *args):
    return lab.dvs("exec", "-e", f"DVS_PLACE=node={node}", dc, "/h/hostile", *map(str, args), timeout=30)


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("name", ATTACKS)
def test_attack(lab, attacked, bystander, name, node):
    dc, strict = attacked
    before = daemons(lab)
    result = attack(lab, dc, node, name)
    assert result.code == 0, result
    signal = (DEADLY_IF_STRICT if strict else DEADLY).get(name)
    if signal:
        assert result.out == f"{name}: died of signal {signal}\n"
    else:
        assert re.fullmatch(rf"{name}: (refused|died of signal \d+|ended with status \d+)\n", result.out), result
    bystander.check()
    assert lab.ok("exec", "-e", f"DVS_PLACE=node={node}", dc, "sh", "-c", "echo a | cat; ls -d /usr") == "a\n/usr\n"
    assert daemons(lab) == before
    assert lab.node_states() == {"a": "up", "b": "up", "c": "up"}


@pytest.mark.parametrize("name", ["kill-host", "memory-host"])
def test_attack_on_processes_outside(lab, attacked, bystander, name):
    """Pids of the host, of the node, and of the other container, as they are seen from each."""
    dc, _ = attacked
    before = daemons(lab)
    pids = {os.getpid(), 1, 2, 3, *host_pids(lab, "a", "dvkd"), *host_pids(lab, "a", "dvs-vos")}
    pids |= {process["pid"] for process in lab.processes(bystander.name)}
    own = {process["pid"] for process in lab.processes(dc)}
    for pid in pids - own:
        result = attack(lab, dc, "a", name, pid)
        assert result.code == 0 and result.out == f"{name}: refused\n", result
    bystander.check()
    assert daemons(lab) == before


def test_all_attacks_at_once(lab, attacked, bystander):
    """Several attackers on every node, while others of the same container work."""
    dc, _ = attacked
    before = daemons(lab)
    attackers = [lab.start("exec", "-e", f"DVS_PLACE=node={node}", dc, "/h/hostile") for node in "abc"]
    try:
        for _ in range(10):
            assert lab.ok("exec", dc, "sh", "-c", "seq 1000 | DVS_PLACE=node=b sort -rn | tail -n 1") == "1\n"
            bystander.check()
        for attacker in attackers:
            out, _ = attacker.communicate(timeout=90)
            assert attacker.returncode == 0, out
    finally:
        for attacker in attackers:
            attacker.kill()
            attacker.wait()
    assert daemons(lab) == before
    bystander.check()


def test_stray_process_ends_with_its_container(lab, bystander, tmp_path):
    """A process that pm does not know of."""
    shutil.copy(HOSTILE, tmp_path)
    tmp_path.chmod(0o755)
    strays = len(host_pids(lab, "a", "dvs-personality")) + len(host_pids(lab, "a", "hostile"))
    result = lab.dvs("--node", "a", "run", "--rm", "--image", "host", "--place", "node=a", "-v", f"{tmp_path}@a:/h", "--",
                     "/h/hostile", "stray")
    assert result.code == 0 and result.out == "stray: refused\n", result
    wait_for(lambda: len(host_pids(lab, "a", "dvs-personality")) + len(host_pids(lab, "a", "hostile")) <= strays, 5,
             "the end of the stray")
    bystander.check()
