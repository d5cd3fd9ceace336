# SPDX-License-Identifier: Apache-2.0
"""What the system tests share: running dvs, labs, and looking for what a lab has left behind."""
import itertools
import json
import os
import signal
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("DVS_BUILD", os.path.join(ROOT, "build"))
DVS = os.path.join(BUILD, "src", "dvs", "dvs")
counter = itertools.count()


def unique_name():
    """A lab name that no other test run on this machine uses; at most 16 characters."""
    return f"t{os.getpid()}_{next(counter)}"


def clean_env(**more):
    """Our environment without what would lead dvs to another lab."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("DVS_")}
    env.update(more)
    return env


def wait_for(condition, timeout, what="it"):
    """Wait until condition() is true; its value. Fails the test after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.05)


def owners_are_shown(directory):
    """Whether a container sees who owns an image's files there (docs/LIMITS.md): overlayfs cannot be id-mapped."""
    return run(["stat", "-fc", "%T", directory]).out.strip() != "overlayfs"


class Result:
    """What a program did. Output is text where it is UTF-8."""

    def __init__(self, args, code, out, err):
        self.args, self.code = args, code
        self.out, self.err = out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape")

    def __repr__(self):
        return f"{self.args} -> {self.code}\n--- stdout\n{self.out[-2000:]}\n--- stderr\n{self.err[-2000:]}"


def run(args, timeout=60, env=None, stdin=None, **options):
    """Run a program to its end; its own session, so that nothing of it survives a timeout."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    process = subprocess.Popen(args, env=env, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **options)
    try:
        out, err = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"{args} hung for {timeout} s\n{out[-1000:]}\n{err[-1000:]}") from None
    return Result(args, process.returncode, out, err)


def node_processes(lab):
    """(node, name, host pid) of every process of the lab's nodes, in order."""
    children, names = {}, {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                head, tail = file.read().rsplit(")", 1)
        except OSError:
            continue
        state, parent = tail.split()[:2]
        if state not in "XZ":
            names[pid] = head.split("(", 1)[1]
            children.setdefault(int(parent), []).append(pid)
    found = []
    for node in lab.json("lab", "status")["nodes"]:
        waiting = [node["pid"]] if node["pid"] else []
        while waiting:
            for child in children.get(waiting.pop(), ()):
                waiting.append(child)
                found.append((node["name"], names[child], child))
    return sorted(found)


def host_pids(lab, node, name):
    """Host pids of a node's processes of that name."""
    return [pid for where, what, pid in node_processes(lab) if (where, what) == (node, name)]


class Lab:
    """A lab of its own name. `env`: what dvs runs with."""

    there = [] # labs that are not yet taken down

    def __init__(self):
        Lab.there.append(self)
        self.name = unique_name()
        self.env = clean_env(DVS_LAB=self.name)
        self.leftovers_before = set(os.listdir("/dev/shm"))

    def dvs(self, *args, **options):
        return run([DVS, *args], env=options.pop("env", self.env), **options)

    def ok(self, *args, **options):
        """dvs that must succeed; its standard output."""
        result = self.dvs(*args, **options)
        assert result.code == 0, result
        return result.out

    def json(self, *args, **options):
        return json.loads(self.ok(*args, "--format", "json", **options))

    def start(self, *args, **options):
        """dvs in the background: a Popen with pipes."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([DVS, *args], env=self.env, start_new_session=True, **{**pipes, **options})

    def up(self, count=3, *args):
        self.ok("lab", "up", str(count), *args)
        return self

    def down(self):
        self.ok("lab", "down", "--lab", self.name)

    def containers(self):
        return {container["name"]: container for container in self.json("ls")}

    def processes(self, dc):
        return self.json("ps", dc)

    def node_states(self):
        return {node["name"]: node["state"] for node in self.json("node", "ls")}

    # ---- what is left

    def leftovers(self):
        """All that the machine still has of this lab, as text."""
        found = []
        found += [f"process {pid} {words}" for pid, words in self.processes_left()]
        if os.path.isdir("/run/netns"):
            found += [f"network namespace {name}" for name in os.listdir("/run/netns") if name.startswith(f"dvs-{self.name}-")]
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            found += ["mount " + line.strip() for line in file if f"dvs-{self.name}-" in line or f"/lab/{self.name}" in line]
        for path in (f"/run/dvs/lab/{self.name}", f"/var/lib/dvs/lab/{self.name}"):
            found += [f"directory {path}"] if os.path.exists(path) else []
        for directory, names, _ in os.walk("/sys/fs/cgroup"):
            found += [f"cgroup {directory}/{name}" for name in names if f"-lab-{self.name}-" in name]
            if directory.count("/") >= 5:
                names.clear()
        found += [f"/dev/shm/{name}" for name in set(os.listdir("/dev/shm")) - self.leftovers_before if name.startswith("qb-")]
        return found

    def processes_left(self):
        """Processes that name the lab in their arguments, or inherited its name from dvs lab up. Not zombies."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().replace(b"\0", b" ").decode(errors="replace")
                with open(f"/proc/{pid}/environ", "rb") as file:
                    environ = file.read().split(b"\0")
            except OSError:
                continue
            if int(pid) != os.getpid() and words and (f"DVS_LAB={self.name}".encode() in environ or f"/lab/{self.name}/" in words):
                yield pid, words

    # ---- flight recorders

    def record(self, *args, **options):
        """dvs debug record: the events, oldest first."""
        return self.json("debug", "record", *args, **options)["record"]

    def records(self, last=40):
        """(title, text) of the last events of each daemon of each node, also of those that have ended."""
        base = f"/run/dvs/lab/{self.name}"
        for node in sorted(os.listdir(base)) if os.path.isdir(base) else ():
            directory = f"{base}/{node}/record"
            wanted = [(name, ["--file", f"{directory}/{name}"]) for name in sorted(os.listdir(directory))] if os.path.isdir(directory) else []
            for daemon in ["proxy", *(f"vos:{name}" for name in self.names_known())]:
                wanted.append((daemon, ["--node", node, "--daemon", daemon]))
            for title, args in wanted:
                try:
                    result = self.dvs("debug", "record", "--last", str(last), *args, timeout=5)
                except AssertionError: # its dvkd does not answer
                    continue
                if result.code == 0:
                    yield f"record of {title} on {node}", result.out

    def names_known(self):
        try:
            return list(self.containers())[:4]
        except (AssertionError, ValueError):
            return []

    def end(self):
        """Take it down whatever state it is in, and check that nothing is left."""
        Lab.there.remove(self)
        result = self.dvs("lab", "down", "--lab", self.name, timeout=90)
        assert result.code == 0, result
        deadline = time.monotonic() + 3 # what was killed takes a moment to be gone
        while (left := self.leftovers()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, "\n".join(left)
