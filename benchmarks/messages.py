# SPDX-License-Identifier: Apache-2.0
"""Messages by libdvk and by other means: what run.py runs of benchmarks/compare.

A comparison is a table of sizes and transports, measured in turns in one run, and rows with goals that are ratios taken
from it. All times are ns of one operation: a round trip, or one message of many that go one way.
"""
import json
import os
import statistics
import subprocess

SIZES = (64, 256, 1024, 4096, 16384, 65536, 1048576)
OURS = ("dvk", "dvk-send", "dvk-loan")
PLAIN = ("futex",)  # carries no data: a bound, no competitor
TWO_CORES_NS = 500
PUBLISHED = "iceoryx (not measured here): its authors publish about 0.1 us for a loan passed one way, of any size"


def size_text(size):
    return f"{size} B" if size < 1024 else f"{size >> 10} KiB" if size < 1 << 20 else f"{size >> 20} MiB"


def time_text(ns):
    return f"{ns:.0f} ns" if ns < 10000 else f"{ns / 1000:.1f} us" if ns < 1e7 else f"{ns / 1e6:.1f} ms"


class Comparison:
    """What run.py prints of a benchmark: rows with goals, and tables of what they were taken from."""

    def __init__(self, title):
        self.title, self.cells, self.found, self.tables = title, {}, [], []

    def take(self, line):
        self.cells[line["bytes"], line["transport"]] = line

    def ns(self, size, transport):
        return self.cells[size, transport]["ns"] if (size, transport) in self.cells else None

    def best(self, size):
        """The fastest of the others at a size: (ns, name)."""
        return min((cell["ns"], name) for (bytes_, name), cell in self.cells.items()
                   if bytes_ == size and name not in OURS + PLAIN)

    def goal(self, what, ours, baseline, baseline_name, goal, cell=None):
        spread = (cell["high"] - cell["low"]) / cell["ns"] if cell else 0.0
        ratio = ours / baseline
        self.found.append({"what": what, "ours": round(ours, 1), "unit": "ns", "baseline": round(baseline, 1),
                           "baseline_name": baseline_name, "ratio": round(ratio, 3), "goal": goal,
                           "met": None if goal is None else ratio <= goal, "runs": cell["batches"] if cell else 1,
                           "spread": round(spread, 3)})

    def rows(self, name):
        out = []
        for row in self.found:
            row = dict(row, name=f"{name}/{row['what']}")
            del row["what"]
            out.append(row)
        if self.cells:
            out[0]["cells"] = list(self.cells.values())
        return out

    def curve(self):
        sizes = sorted({size for size, _ in self.cells})
        names = list(dict.fromkeys(name for _, name in self.cells))
        lines = [[""] + [size_text(s) for s in sizes]]
        for name in names:
            lines.append([name] + ["-" if self.ns(s, name) is None else time_text(self.ns(s, name)) for s in sizes])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        self.tables.append(self.title + "\n" + "\n".join(
            "  " + "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths)))
            for line in lines))
        return self


def driver(setup, *args):
    command = [os.path.join(setup.build, "benchmarks", "compare", "compare"), *args]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise setup.failure(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def dc_args(setup):
    return ["--dc", str(json.loads(setup.call("inspect", "--format", "json", setup.container))[0]["id"])]


def socket_of(setup, node):
    return f"/run/dvs/lab/{setup.lab}/{node}/dvkd.sock"


def local_args(setup):
    return dc_args(setup) + ["--dvkd", socket_of(setup, "a")]


def remote_args(setup):
    nodes = json.loads(setup.call("lab", "status", "--lab", setup.lab, "--format", "json"))["nodes"]
    address = next(n["address"] for n in nodes if n["name"] == "b")
    return dc_args(setup) + ["--dvkd", socket_of(setup, "a") + "," + socket_of(setup, "b"), "--remote", address,
                             "--netns", ",".join(f"/run/netns/dvs-{setup.lab}-{n}" for n in "ab")]


def compared(setup, title, args, shape, sizes=SIZES):
    comparison = Comparison(title)
    rounds = ["--rounds", str(setup.runs), "--batches", "40", "--bytes", ",".join(map(str, sizes))]
    for line in driver(setup, *args, "--shape", shape, *rounds):
        comparison.take(line)
    return comparison.curve()


def against_best(comparison, goal, sizes=SIZES):
    for size in sizes:
        best, name = comparison.best(size)
        comparison.goal(size_text(size), comparison.ns(size, "dvk"), best, f"{name}, the best of the others", goal,
                        comparison.cells[size, "dvk"])


def round_trip_one_core(setup):
    c = compared(setup, "Round trip on one core", local_args(setup) + ["--cpus", "0,0"], "round-trip")
    against_best(c, 1.0)
    c.goal("futex", c.ns(64, "dvk"), c.ns(64, "futex"), "futex ping-pong without data", 1.2, c.cells[64, "dvk"])
    return c


def round_trip_two_cores(setup):
    c = compared(setup, "Round trip between two cores", local_args(setup) + ["--cpus", "0,1"], "round-trip")
    c.goal("running-peer", c.ns(64, "dvk"), TWO_CORES_NS, f"{TWO_CORES_NS} ns", 1.0, c.cells[64, "dvk"])
    against_best(c, 1.0)
    return c


def one_way(cpus, title):
    def run(setup):
        c = compared(setup, f"One way, {title}; a message of many", local_args(setup) + ["--cpus", cpus], "one-way")
        against_best(c, 0.333)
        c.tables.append(PUBLISHED)
        return c
    return run


def link_transport(setup):
    """What the proxies' link is compared with: a raw connection of the same kind."""
    return ("tcp", "raw TCP") if setup.clear else ("tls", "raw TLS 1.3")


def remote_round_trip(setup):
    c = compared(setup, "Round trip between two nodes", remote_args(setup), "round-trip")
    raw, name = link_transport(setup)
    for size in SIZES:
        c.goal(size_text(size), c.ns(size, "dvk"), c.ns(size, raw), name, 1.3, c.cells[size, "dvk"])
    return c


def remote_one_way(setup):
    c = compared(setup, "One way between two nodes; a message of many", remote_args(setup), "one-way")
    raw, name = link_transport(setup)
    for size in (65536, 1048576):
        c.goal(size_text(size), c.ns(size, "dvk"), c.ns(size, raw), name, 1.111, c.cells[size, "dvk"])
    return c


def scaled(setup, what, counts, *args):
    """The driver's answers by (count, transport), each the median of the runs by its key."""
    out = {}
    for _ in range(setup.runs):
        for count in counts:
            for line in driver(setup, *local_args(setup), *args, what, str(count)):
                out.setdefault((line["count"], line.get("transport", "dvk")), []).append(line)
    return {key: {field: statistics.median(line[field] for line in lines) for field in lines[0]
                  if isinstance(lines[0][field], (int, float))} for key, lines in out.items()}


def scale_table(title, found):
    fields = [f for f in next(iter(found.values())) if f != "count"]
    lines = [["count", ""] + fields] + [[str(count), name] + [f"{line[f]:g}" for f in fields]
                                        for (count, name), line in found.items()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return title + "\n" + "\n".join("  " + "  ".join(c.rjust(w) for c, w in zip(line, widths)) for line in lines)


def pairs(setup):
    """Time that one round trip takes of the machine: of 64 pairs, against that of 2."""
    found = scaled(setup, "pairs", (1, 2, 8, 64), "--transports", "dvk,pipe,unix")
    c = Comparison("")
    c.tables.append(scale_table("Pairs at the same time, 64 B", found))
    per = {key: 1e9 / line["per_second"] for key, line in found.items()}
    c.goal("64-pairs", per[64, "dvk"], per[2, "dvk"], "2 pairs", 1.25)
    c.goal("64-pairs-best", per[64, "dvk"], min(per[64, "pipe"], per[64, "unix"]), "64 pairs by the best of pipe, unix", 1.0)
    return c


def clients(setup):
    found = scaled(setup, "clients", (1, 10, 100, 1000))
    c = Comparison("")
    c.tables.append(scale_table("Clients of one server", found))
    c.goal("1000-clients", found[1000, "dvk"]["one_ns"], found[1, "dvk"]["one_ns"], "with 1 client", 1.25)
    return c


def endpoints(setup):
    found = scaled(setup, "endpoints", (10000,))
    c = Comparison("")
    c.tables.append(scale_table("Bound endpoints on a node", found))
    line = found[10000, "dvk"]
    for what in ("bind", "first", "unbind"):
        c.goal(what, line[f"{what}_last_us"] * 1000, line[f"{what}_us"] * 1000,
               "the last 1000 of 10000 against the first", 1.5)
    c.goal("round-trip", line["last_ns"], line["one_ns"], "from the last endpoint against from the first", 1.25)
    return c


BENCHES = (
    ("messages/round-trip/one-core", round_trip_one_core),
    ("messages/round-trip/two-cores", round_trip_two_cores),
    ("messages/one-way/one-core", one_way("0,0", "on one core")),
    ("messages/one-way/two-cores", one_way("0,1", "between two cores")),
    ("messages/remote/round-trip", remote_round_trip),
    ("messages/remote/one-way", remote_one_way),
    ("messages/scale/pairs", pairs),
    ("messages/scale/clients", clients),
    ("messages/scale/endpoints", endpoints),
)
