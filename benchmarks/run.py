#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures DVS against the host in one run: medians, spread and ratios.

Each benchmark is a function registered with @bench; it returns a Result. Programs are measured natively and in a
container on a lab of this machine, turn by turn, so that both see the same noise. CPU figures count everything that
works for the container: its servers, dvkd, the proxies and corosync.
"""
import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import bulk
import messages

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TICK = os.sysconf("SC_CLK_TCK")


class Failure(Exception):
    pass


class Result:
    def __init__(self, ours, unit, baseline, baseline_name, goal=None):
        self.ours, self.baseline = sorted(ours), sorted(baseline)
        self.unit, self.baseline_name, self.goal = unit, baseline_name, goal

    def row(self, name):
        ours, base = statistics.median(self.ours), statistics.median(self.baseline)
        ratio = ours / base if base else float("inf")
        spread = (self.ours[-1] - self.ours[0]) / ours if ours else 0.0
        met = None if self.goal is None else ratio <= self.goal
        return {"name": name, "ours": round(ours, 3), "unit": self.unit, "baseline": round(base, 3),
                "baseline_name": self.baseline_name, "ratio": round(ratio, 3), "goal": self.goal, "met": met,
                "runs": len(self.ours), "spread": round(spread, 3)}

    def rows(self, name):
        return [self.row(name)]

    tables = ()  # to be printed below the rows


BENCHES = []


def bench(name):
    def register(function):
        BENCHES.append((name, function))
        return function
    return register


class Setup:
    """One lab of three nodes, and one idle container over them, for all benchmarks."""

    failure = Failure

    def __init__(self, build, runs, clear):
        self.build, self.runs, self.clear = build, runs, clear
        self.dvs = os.path.join(build, "src", "dvs", "dvs")
        self.micro = os.path.join(build, "benchmarks", "micro")
        self.lab = f"bench{os.getpid()}"
        self.env = dict(os.environ, DVS_LAB=self.lab)
        self.dir = tempfile.mkdtemp(prefix="dvs-bench.", dir="/var/tmp")
        os.chmod(self.dir, 0o755)
        self.container = "bench"

    def call(self, *args, **kwargs):
        done = subprocess.run([self.dvs, *args], env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False, **kwargs)
        if done.returncode != 0:
            raise Failure(f"dvs {' '.join(args)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def __enter__(self):
        shutil.copy(self.micro, os.path.join(self.dir, "micro"))
        try:
            self.call("lab", "up", "3", "--nodes-named", "a,b,c", "--lab", self.lab, *["--clear"] * self.clear)
            self.call("run", "-d", "--name", self.container, "--image", "host", "--place", "local", "--", "sleep", "1000000")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.call("lab", "down", "--lab", self.lab)
        shutil.rmtree(self.dir, ignore_errors=True)

    def inside(self, *command, place="local"):
        """Runs a command in the container. What is executed from env on goes where `place` says."""
        return self.call("exec", self.container, "env", f"DVS_PLACE={place}", *command)

    def cpu_seconds(self):
        """CPU time used so far by everything in the lab, the dead and reaped included."""
        children, times = {}, {}
        roots = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as f:
                    fields = f.read().rsplit(")", 1)[1].split()
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(pid))
            times[int(pid)] = sum(int(x) for x in fields[11:15]) / TICK
            if b"lab-node" in words and self.lab.encode() in b" ".join(words):
                roots.append(int(pid))
        total, todo, seen = 0.0, roots, set()
        while todo:
            pid = todo.pop()
            if pid in seen:
                continue
            seen.add(pid)
            total += times.get(pid, 0.0)
            todo += children.get(pid, [])
        return total


def native(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def numbers(text):
    return [float(line) for line in text.split()]


def micro(setup, operation, *path, place="local", ours_path=None, goal=None, baseline="native"):
    """The same operation natively and inside, in turns."""
    ours, base = [], []
    binary = os.path.join(setup.dir, "micro")
    for _ in range(setup.runs):
        base += numbers(native(binary, "1", operation, *path))
        ours += numbers(setup.inside(binary, "1", operation, *(ours_path or path), place=place))
    return Result(ours, "ns", base, baseline, goal)


def child_cpu():
    t = os.times()
    return t.children_user + t.children_system


def cpu(setup, command, goal=None, place="local", runs=None):
    """CPU seconds of a whole command, servers included, against the native command's."""
    ours, base = [], []
    for _ in range(runs or setup.runs):
        before = child_cpu()
        native(*command)
        base.append(child_cpu() - before)
        before = setup.cpu_seconds()
        setup.inside(*command, place=place)
        ours.append(setup.cpu_seconds() - before)
    return Result(ours, "s CPU", base, "native", goal)


@bench("call/served")
def _(setup):
    return micro(setup, "served", goal=0.35, baseline="native getpid")


@bench("call/dispatched")
def _(setup):
    return micro(setup, "dispatched", baseline="native getpid")


@bench("call/clock")
def _(setup):
    return micro(setup, "clock", baseline="native clock_gettime call")


@bench("call/passed")
def _(setup):
    return micro(setup, "passed", goal=1.4, baseline="native lseek of /dev/zero")


@bench("call/read")
def _(setup):
    return micro(setup, "read", baseline="native read of /dev/zero")


@bench("process/spawn-local")
def _(setup):
    return micro(setup, "spawn", "/bin/true", baseline="native fork+exec+wait")


@bench("process/spawn-remote")
def _(setup):
    binary = os.path.join(setup.dir, "micro")
    ours, base = [], []
    for _ in range(setup.runs):
        base += numbers(native(binary, "1", "spawn", "/bin/true"))
        ours += numbers(setup.inside(binary, "1", "spawn", "/bin/true", "node=b"))
    return Result(ours, "ns", base, "native fork+exec+wait")


BENCHES += messages.BENCHES
BENCHES += bulk.BENCHES


@bench("pipe/local")
def _(setup):
    return micro(setup, "pipe", baseline="native pipe ping-pong")


@bench("file/stat-local")
def _(setup):
    return micro(setup, "stat", "/etc/hostname", baseline="native stat")


@bench("file/enoent-local")
def _(setup):
    return micro(setup, "enoent", baseline="native stat of a missing file")


@bench("file/open-local")
def _(setup):
    return micro(setup, "open", "/etc/hostname", baseline="native open+read+close")


def remote_file(setup):
    setup.inside("sh", "-c", "echo some text > /tmp/bench-file")
    return "/tmp/bench-file"


@bench("file/stat-remote")
def _(setup):
    return micro(setup, "stat", "/etc/hostname", ours_path=(remote_file(setup),), place="node=b",
                 baseline="native stat")


@bench("file/open-remote")
def _(setup):
    return micro(setup, "open", "/etc/hostname", ours_path=(remote_file(setup),), place="node=b",
                 baseline="native open+read+close")


@bench("program/ls-lR")
def _(setup):
    return cpu(setup, ["sh", "-c", "ls -lR /usr/share > /dev/null 2>&1 || true"], goal=1.25)


@bench("program/bash-loop")
def _(setup):
    return cpu(setup, ["bash", "-c", "for i in {1..200}; do /bin/true; done"], goal=1.6)


@bench("program/gcc")
def _(setup):
    """Four of this project's own files, from the host's tree."""
    flags = f"-std=gnu17 -D_GNU_SOURCE -O2 -I{ROOT}/src -I{ROOT}/include"
    files = " ".join(os.path.join(ROOT, "src", f) for f in ("vos/fs/union.c", "vos/fs/walk.c", "vos/pm/wait.c", "dvk/call.c"))
    return cpu(setup, ["sh", "-c", f"for f in {files}; do gcc {flags} -c -o /tmp/dvs-bench.$$.o $f || exit 1; done; rm /tmp/dvs-bench.$$.o"],
               goal=1.10)


BUILD = """set -e
cd {dir} && rm -rf build && cp {tree} tree.tar && rm -rf source && mkdir source && tar -C source -xf tree.tar
meson setup build source >/dev/null
ninja -C build -j6 >/dev/null"""


@bench("program/build")
def _(setup):
    """This project, set up and built with six compilers at a time over the lab's nodes."""
    tree = os.path.join(setup.dir, "tree.tar")
    work = "/tmp/dvs-bench-build"
    native("tar", "-C", ROOT, "--exclude=./build*", "--exclude=./.git", "-cf", tree, ".")
    script = "mkdir -p " + work + "\n" + BUILD.format(dir=work, tree=tree) + f"\ncd / && rm -rf {work}"
    return cpu(setup, ["bash", "-c", script], place="spread", runs=1)


def table(rows):
    head = ("benchmark", "ours", "baseline", "unit", "ratio", "goal", "met", "spread", "against")
    lines = [head]
    for r in rows:
        if "error" in r:
            lines.append((r["name"], "failed: " + r["error"]) + ("",) * 7)
        else:
            lines.append((r["name"], f"{r['ours']:g}", f"{r['baseline']:g}", r["unit"], f"{r['ratio']:.2f}",
                          "" if r["goal"] is None else f"{r['goal']:.2f}",
                          {None: "", True: "yes", False: "NO"}[r["met"]], f"{r['spread']:.0%}", r["baseline_name"]))
    widths = [max(len(str(l[i])) for l in lines if len(str(l[i])) < 30 or i == 8) for i in range(len(head))]
    return "\n".join("  ".join(str(c).ljust(w) for c, w in zip(l, widths)).rstrip() for l in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", metavar="PATTERN", help="only benchmarks whose name matches this regular expression")
    parser.add_argument("--json", metavar="FILE", help="also write the rows as a JSON list")
    parser.add_argument("--runs", type=int, default=5, help="measurements of each side (default 5)")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="build directory")
    parser.add_argument("--clear", action="store_true", help="do not encrypt messages between nodes")
    parser.add_argument("--list", action="store_true", help="list the benchmarks")
    args = parser.parse_args()
    try:
        chosen = [b for b in BENCHES if not args.only or re.search(args.only, b[0])]
    except re.error as error:
        parser.error(f"--only: {error}")
    if args.list:
        print("\n".join(name for name, _ in chosen))
        return 0
    if args.runs < 1:
        parser.error("--runs must be at least 1")
    if not chosen:
        parser.error(f"no benchmark matches {args.only}")
    rows, tables = [], []
    with Setup(args.build, args.runs, args.clear) as setup:
        for name, function in chosen:
            try:
                result = function(setup)
                rows += result.rows(name)
                tables += result.tables
            except Failure as error:
                rows.append({"name": name, "error": str(error)})
            print(name, "done", file=sys.stderr)
    print(table(rows))
    for text in tables:
        print("\n" + text)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(rows, f, indent=1)
            f.write("\n")
    return 1 if any("error" in r for r in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as error:
        sys.exit(f"bench: {error}")
