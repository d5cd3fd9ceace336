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
from dvslab import DVS, owners_are_shown

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


# All calls on paths, in all forms of a path, by two users, with working directories and descriptors that outlive what they name.
CALLER = r"""
import ctypes, json, os, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
BASE = ""
held = {}
def error(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except OSError as e:
        return -e.errno
def show(s):
    if isinstance(s, int):
        return s
    kind = stat.S_IFMT(s.st_mode)
    return [oct(s.st_mode), s.st_uid, s.st_gid] + ([] if kind == stat.S_IFDIR else [s.st_size, s.st_nlink])
def try_open(path, flags, dir_fd=None):
    fd = os.open(path, flags, 0o640, dir_fd=dir_fd)
    try:
        s = os.fstat(fd)
        if stat.S_ISDIR(s.st_mode) and not flags & os.O_PATH:
            return ["d", sorted(os.listdir(fd))]
        if stat.S_ISREG(s.st_mode) and flags & os.O_ACCMODE == 0 and not flags & os.O_PATH:
            return ["f", os.read(fd, 100).decode()]
        return show(s)
    finally:
        os.close(fd)
OPENS = [os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY, os.O_NOFOLLOW, os.O_DIRECTORY | os.O_NOFOLLOW, os.O_PATH, os.O_PATH | os.O_NOFOLLOW, os.O_WRONLY]
def probe(*paths):
    out = []
    for p in paths:
        out.append([show(error(os.lstat, p)), show(error(os.stat, p)), error(os.readlink, p), error(lambda: sorted(os.listdir(p))),
            [error(os.access, p, m, effective_ids=True) for m in (os.R_OK, os.W_OK, os.X_OK)], [error(try_open, p, f) for f in OPENS],
            error(os.getxattr, p, "security.capability")])
    return out
def glance(*paths):
    return [[show(error(os.lstat, p)), show(error(os.stat, p)), error(try_open, p, os.O_RDONLY), error(os.access, p, os.X_OK, effective_ids=True)] for p in paths]
def write(path, text):
    with open(path, "w") as f:
        f.write(text)
def append(path, text):
    with open(path, "a") as f:
        f.write(text)
def user(uid):
    os.seteuid(0); os.setegid(0); os.setgroups([])
    if uid:
        os.setgroups([uid]); os.setegid(uid); os.seteuid(uid)
def exchange(a, b):
    if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), 2) < 0:
        raise OSError(ctypes.get_errno(), "")
def noreplace(a, b):
    if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), 1) < 0:
        raise OSError(ctypes.get_errno(), "")
def base(path):
    global BASE
    BASE = path
    os.chdir(path)
def hold(slot, path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    error(os.fsync, fd)
    os.close(held.pop(slot, os.dup(fd)))
    held[slot] = fd
def at(slot, path):
    fd = held.get(slot)
    if fd is None:
        return None
    return [show(error(os.lstat, path, dir_fd=fd)), show(error(os.stat, path, dir_fd=fd)), error(lambda: sorted(os.listdir(fd))), error(try_open, path, 0, fd)]
do = {"base": base, "probe": probe, "glance": glance, "write": write, "append": append, "unlink": os.unlink, "mkdir": os.mkdir, "rmdir": os.rmdir,
      "rename": os.rename, "exchange": exchange, "noreplace": noreplace, "symlink": os.symlink, "chmod": os.chmod, "chown": os.chown, "link": os.link,
      "chdir": os.chdir, "user": user, "hold": hold, "at": at, "make": try_open, "truncate": os.truncate}
for line in sys.stdin:
    command, *arguments = json.loads(line)
    arguments = [a.replace("@", BASE) if isinstance(a, str) else a for a in arguments]
    try:
        answer = do[command](*arguments)
    except OSError as e:
        answer = -e.errno
    print(json.dumps(answer), flush=True)
"""
ALL = ["a", "b", "d", "l", "d/a", "d/b", "d/s", "d/e", "d/e/a", "d/e/b", "d/e/g", "d/e/g/a", "h", "h/a", "h/b", "h/l", "h/m", "h/m/e", "h/i",
       "h/i/a", "h/i/b", "l/a", "l/b", "l/g"]
LONG = "x" * 256
CREATES = [os.O_CREAT | os.O_EXCL | os.O_WRONLY, os.O_CREAT | os.O_RDWR, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR,
           os.O_CREAT | os.O_NOFOLLOW, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, os.O_TRUNC | os.O_RDWR, os.O_CREAT | os.O_EXCL]


def any_path(rng):
    path = rng.choice(ALL)
    if rng.random() < 0.55:
        return path
    return rng.choice([path + "/", path + "/.", path + "/..", path + "//", "@/" + path, "./" + path, "d/../" + path, "h/i/../../" + path,
                       "l/../../" + path, path + "/" + LONG, LONG + "/" + path, path + "/x/..", path + "/../" + path.split("/")[-1],
                       path + "/../..", "/".join([path] * 3)])


def any_command(rng):
    one, two, kind = any_path(rng), any_path(rng), rng.random()
    if kind < 0.1:
        return ("user", rng.choice([0, 1000]))
    if kind < 0.2:
        return ("chdir", rng.choice(["@", "@/d", "@/h", "@/d/e", "@/h/i", "..", "."]))
    if kind < 0.28:
        return ("hold", rng.randrange(3), rng.choice(["@", "@/d", "@/h", "@/d/e", "@/h/i"]))
    target = rng.choice(["a", "b", "e", "g", "../d", "../h", "d/e", "i", "nowhere", "./a", "../a", "d/e/g/", "."])
    return rng.choice([("write", one, str(rng.random())), ("append", one, "more"), ("unlink", one), ("unlink", one), ("mkdir", one),
                       ("mkdir", one), ("rmdir", one), ("rmdir", one), ("rename", one, two), ("rename", one, two), ("exchange", one, two),
                       ("noreplace", one, two), ("symlink", target, one), ("symlink", target, one), ("link", one, two), ("truncate", one, 3),
                       ("chmod", one, rng.choice([0o644, 0o600, 0o755, 0o711, 0o700, 0o777, 0o555, 0o744])),
                       ("chmod", one, rng.choice([0o755, 0o777])), ("chown", one, rng.choice([0, 1000]), rng.choice([0, 1000])),
                       ("make", one, rng.choice(CREATES)), ("make", one, rng.choice(CREATES))])


@pytest.fixture
def callers(lab):
    """One on each node, and for each its like on the host."""
    if not owners_are_shown("/var/tmp"):
        pytest.skip("the owners of the image's files are not shown here")
    with contextlib.ExitStack() as stack:
        bases = []
        for _ in range(2):
            bases.append(tempfile.mkdtemp(prefix="dvs-names.", dir="/var/tmp"))
            stack.callback(shutil.rmtree, bases[-1])
            os.chmod(bases[-1], 0o755)
            make_tree(bases[-1])
            os.mkdir(bases[-1] + "/h/i")
            shutil.copy(bases[-1] + "/h/a", bases[-1] + "/h/i/a")
            os.symlink("../d/e/..", bases[-1] + "/h/m")
            os.symlink("a", bases[-1] + "/d/s")
        dc = lab.ok("run", "-d", "--image", "host", "--place", "local", "--", "sleep", "1000").strip()
        stack.callback(lab.ok, "rm", "-f", dc)
        made = []
        for node in "abc":
            ours = Agent([DVS, "--node", node, "exec", "-i", dc, "env", "DVS_PLACE=local", "python3", "-c", CALLER], env=lab.env)
            stack.callback(ours.end)
            host = Agent(["python3", "-c", CALLER])
            stack.callback(host.end)
            ours.do("base", bases[0])
            host.do("base", bases[1])
            made.append((node, ours, host))
        yield made


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_calls_are_as_on_the_host(callers, seed):
    rng = random.Random(seed)
    past = []
    for _ in range(60):
        for node, ours, host in callers:
            for _ in range(2):
                asked = rng.sample(ALL, 10) + [any_path(rng) for _ in range(10)]
                look = ("probe" if rng.random() < 0.3 else "glance", *asked)
                for path, got, expected in zip(asked, ours.do(*look), host.do(*look)):
                    assert got == expected, (node, path, past)
                look = ("at", rng.randrange(3), rng.choice([".", "..", "a", "e", "g", "b", "e/a", "../a"]))
                assert ours.do(*look) == host.do(*look), (node, look, past)
        node, ours, host = rng.choice(callers)
        command = any_command(rng)
        done = ours.do(*command)
        past = past[-12:] + [(node, command, done)]
        if command[0] in ("rename", "exchange", "noreplace") and done == -18:  # a directory of the image cannot be renamed
            continue
        assert done == host.do(*command), past


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
