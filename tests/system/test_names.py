# SPDX-License-Identifier: Apache-2.0
"""What a node's guests know without asking (the table of names) is never old: what changes on one node is seen at once on all."""
import contextlib
import json
import os
import random
import shutil
import subprocess
import tempfile

import pytest
from dvslab import DVS

# Runs on each node and, for comparison, on the host: one command a line, one answer a line.
AGENT = r"""
import json, os, stat, sys
def look(path):
    try:
        s = os.lstat(path)
    except OSError as e:
        return [e.errno, len(os.listdir(os.path.dirname(path))) if os.path.isdir(os.path.dirname(path)) else -1]
    kind = stat.S_IFMT(s.st_mode)
    out = [oct(s.st_mode), 0 if kind == stat.S_IFDIR else s.st_size]
    if kind == stat.S_IFLNK:
        out.append(os.readlink(path))
    if kind == stat.S_IFDIR:
        out.append(sorted(os.listdir(path)))
    if kind == stat.S_IFREG:
        out.append(open(path).read())
    try:
        out.append(oct(os.stat(path).st_mode))
    except OSError as e:
        out.append(e.errno)
    out.append([os.access(path, mode) for mode in (os.R_OK, os.X_OK)])
    return out
def write(path, text):
    with open(path, "w") as f:
        f.write(text)
def chdir(path):
    os.chdir(path)
do = {"look": lambda *paths: [look(p) for p in paths], "write": write, "unlink": os.unlink, "mkdir": os.mkdir, "rmdir": os.rmdir,
      "rename": os.rename, "symlink": os.symlink, "chmod": os.chmod, "link": os.link, "chdir": chdir}
for line in sys.stdin:
    command, *arguments = json.loads(line)
    try:
        answer = do[command](*arguments)
    except OSError as e:
        answer = -e.errno
    print(json.dumps(answer), flush=True)
"""


class Agent:
    def __init__(self, command, **options):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)

    def do(self, *command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the agent has ended"
        return json.loads(answer)

    def end(self):
        self.process.stdin.close()
        self.process.wait(20)


def make_tree(base):
    for name in ("d", "d/e", "d/e/g", "h"):
        os.makedirs(os.path.join(base, name), mode=0o755)
    for name in ("a", "d/a", "d/e/a", "d/e/g/a", "h/a"):
        with open(os.path.join(base, name), "w", encoding="ascii") as f:
            f.write("of the image: " + name)
    os.symlink("d/e", os.path.join(base, "l"))
    os.symlink("nowhere", os.path.join(base, "h/l"))


@pytest.fixture
def agents(lab):
    """The same tree twice: as a part of the image, with an agent on each node; and for the host alone."""
    with contextlib.ExitStack() as stack:
        image = tempfile.mkdtemp(prefix="dvs-names.", dir="/var/tmp")
        stack.callback(shutil.rmtree, image)
        plain = tempfile.mkdtemp(prefix="dvs-names.", dir="/var/tmp")
        stack.callback(shutil.rmtree, plain)
        for base in (image, plain):
            os.chmod(base, 0o755)
            make_tree(base)
        dc = lab.ok("run", "-d", "--image", "host", "--place", "local", "--", "sleep", "1000").strip()
        stack.callback(lab.ok, "rm", "-f", dc)
        made = []
        for node in "abc":
            agent = Agent([DVS, "--node", node, "exec", "-i", dc, "env", "DVS_PLACE=local", "python3", "-c", AGENT], env=lab.env)
            stack.callback(agent.end)
            agent.do("chdir", image)
            made.append(agent)
        host = Agent(["python3", "-c", AGENT])
        stack.callback(host.end)
        host.do("chdir", plain)
        yield made, host


NAMES = ["a", "b", "d", "l", "d/a", "d/b", "d/e", "d/e/a", "d/e/b", "d/e/g", "d/e/g/a", "h", "h/a", "h/b", "h/l", "l/a", "l/b"]


def random_command(rng):
    one, two = rng.choice(NAMES), rng.choice(NAMES)
    return rng.choice([("write", one, str(rng.random())), ("write", one, ""), ("unlink", one), ("unlink", one), ("mkdir", one), ("rmdir", one),
                       ("rename", one, two), ("symlink", two, one), ("chmod", one, rng.choice([0o644, 0o600, 0o755, 0o711])),
                       ("link", one, two)])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_change_is_seen_at_once_on_every_node(agents, seed):
    nodes, host = agents
    rng = random.Random(seed)
    expected = host.do("look", *NAMES)
    for step in range(60):
        for agent in nodes:
            for again in range(2):  # asked for, then perhaps known
                got = agent.do("look", *NAMES)
                assert got == expected, (step, nodes.index(agent), again)
        command = random_command(rng)
        done = rng.choice(nodes).do(*command)
        if command[0] == "rename" and done == -18:  # a directory of the image cannot be renamed
            continue
        assert done == host.do(*command), command
        expected = host.do("look", *NAMES)
        rng.shuffle(nodes)
