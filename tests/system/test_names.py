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


# Descriptors of directories, which have no handle at first.
DESCRIPTORS = r"""
import ctypes, fcntl, os, stat, subprocess, sys
base = "/usr/share/doc"
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir64.restype = ctypes.c_void_p
for f in (libc.readdir64, libc.telldir, libc.rewinddir, libc.closedir, libc.dirfd):
    f.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
libc.telldir.restype = ctypes.c_long
def name(entry):
    return ctypes.string_at(entry + 19) if entry else None
def rest(d):
    out = []
    while (entry := libc.readdir64(d)):
        out.append(name(entry))
    return out
fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
s = os.fstat(fd)
print(oct(s.st_mode), s.st_nlink > 1, s.st_size >= 0)
print(len(os.listdir(fd)), len(os.listdir(fd)), os.listdir(fd) == os.listdir(base))
print(os.stat("bash", dir_fd=fd).st_ino == os.stat(base + "/bash").st_ino, stat.filemode(os.stat("..", dir_fd=fd).st_mode))
print(os.path.exists("/proc/self/fd/%d/bash" % fd), os.readlink("/proc/self/fd/%d" % fd))
os.fchdir(fd)
print(os.getcwd(), os.path.isdir("bash"), os.path.isdir("../doc/bash"), os.path.exists("none"))
copy = os.dup(fd)
os.close(fd)
print(oct(os.fstat(copy).st_mode))
os.fsync(copy)
fcntl.flock(copy, fcntl.LOCK_EX)
print(fcntl.fcntl(copy, fcntl.F_GETFL) & os.O_ACCMODE, fcntl.fcntl(copy, fcntl.F_GETFD))
for call in (lambda: os.read(copy, 1), lambda: os.write(copy, b"x"), lambda: os.ftruncate(copy, 0), lambda: os.pread(copy, 1, 0)):
    try:
        print(call())
    except OSError as e:
        print(e.errno)
deep = os.open("bash", os.O_RDONLY, dir_fd=copy)
print(sorted(os.listdir(deep)))
print(subprocess.run(["ls", "-A", "/proc/self/fd/%d/" % deep], pass_fds=[deep], capture_output=True, text=True).stdout)
print(subprocess.run([sys.executable, "-c", "import os; print(sorted(os.listdir(%d)))" % deep], pass_fds=[deep], capture_output=True, text=True).stdout)
d = libc.opendir(base.encode())
whole = rest(d)
print(len(whole), libc.readdir64(d))
libc.rewinddir(d)
first = [name(libc.readdir64(d)) for i in range(5)]
at = libc.telldir(d)
more = rest(d)
print(first + more == whole)
libc.seekdir(d, at)
print(rest(d) == more)
libc.closedir(d)
for path in ("/usr/share", "/usr/lib", "/etc"):
    print(path, sum(len(f) + len(n) for _, n, f in os.walk(path) if "polkit-1" not in _) > 100)
try:
    os.open(base + "/bash", os.O_WRONLY)
except OSError as e:
    print(e.errno)
try:
    os.open("/etc/hostname", os.O_RDONLY | os.O_DIRECTORY)
except OSError as e:
    print(e.errno)
"""


@pytest.mark.parametrize("node", ["a", "b"])
def test_descriptors_of_directories(lab, node):
    expected = subprocess.run(["python3", "-c", DESCRIPTORS], capture_output=True, text=True, check=True).stdout
    for place in ("local", "spread"):
        dc = lab.ok("run", "-d", "--image", "host", "--place", place, "--", "sleep", "1000").strip()
        try:
            for _ in range(2):
                got = lab.dvs("--node", node, "exec", dc, "python3", "-c", DESCRIPTORS)
                assert (got.err, got.out) == ("", expected), place
        finally:
            lab.ok("rm", "-f", dc)
