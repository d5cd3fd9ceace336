# SPDX-License-Identifier: Apache-2.0
"""Links with --clear, beside ones that encrypt; and a network that is cut for a moment, again and again."""
import json
import time

from dvslab import run, wait_for
from test_links import captured, log, state


def test_clear_is_read_on_the_wire(own_lab):
    own_lab.up(2, "--clear")
    assert {node["link"] for node in own_lab.json("node", "ls")} == {"clear", ""}
    assert not any(node["encrypted"] for node in own_lab.json("lab", "status")["nodes"])
    seen, frames = captured(own_lab)
    assert seen > 0 and frames > 0


def test_clear_and_encrypted_refuse_each_other(own_lab):
    """Node b (which connects) runs with --clear and a does not, then the other way round: both say why, nothing gets through."""
    lab = own_lab.up(2)
    path = state(lab, "lab.json")

    def start(node, clear):
        lab.ok("lab", "kill", node)
        with open(path, encoding="utf-8") as file:
            contents = json.load(file)
        contents["clear"] = clear
        with open(path, "w", encoding="utf-8") as file:
            json.dump(contents, file)
        lab.ok("lab", "start", node)

    def said(at_a, at_b, before):
        wait_for(lambda: at_a in log(lab, "a")[before["a"]:], 10, f"a's log: {at_a}")
        wait_for(lambda: at_b in log(lab, "b")[before["b"]:], 10, f"b's log: {at_b}")
        for node in "ab":
            assert ": connected" not in log(lab, node)[before[node]:]

    def connected(since):
        for node in "ab":
            wait_for(lambda: ": connected" in log(lab, node)[since[node]:], 10, f"the link in {node}'s log")
        return {node: len(log(lab, node)) for node in "ab"}

    before = connected({"a": 0, "b": 0})
    start("b", True)
    said("it does not speak TLS (does it run with --clear?)", "this node's connections are encrypted, yours is not (--clear)", before)
    before = {node: len(log(lab, node)) for node in "ab"}
    start("b", False)
    before = connected(before)
    start("a", True)
    said("it encrypts, and this node runs with --clear", "it refuses us: this node runs with --clear: it does not encrypt", before)


def test_network_that_is_cut_for_moments(own_lab):
    """Shorter than it takes to lose a node: nothing is lost, nothing comes twice, and no process notices."""
    lab = own_lab.up(2, "--token", "3000")
    count = 200000
    process = lab.start("--node", "a", "run", "--rm", "--image", "host", "--place", "node=a", "bash", "-c",
                        f"seq {count} | DVS_PLACE=node=b cat | md5sum")
    cuts = 0
    while process.poll() is None and cuts < 5:
        lab.ok("lab", "cut", "b")
        time.sleep(0.1)
        lab.ok("lab", "heal", "b")
        cuts += 1
        time.sleep(0.3)
    out, err = process.communicate(timeout=40)
    assert out.decode() == run(["bash", "-c", f"seq {count} | md5sum"]).out, err
    assert cuts > 0
