# SPDX-License-Identifier: Apache-2.0
"""Mistakes that users make: one clear line, the documented exit code, nothing half-made left behind."""
import os
import sqlite3

import pytest
from dvslab import wait_for

CASES = [
    # what, arguments, exit code, a word of the message
    ("no such image", ("run", "--image", "/no/such/image", "true"), 3, "image"),
    ("image is a file", ("run", "--image", "/etc/passwd", "true"), 3, "image"),
    ("no such command", ("run", "--image", "host", "no-such-command-at-all"), 127, "no-such-command-at-all"),
    ("no such command by path", ("run", "--image", "host", "/no/such/command"), 127, "/no/such/command"),
    ("not executable", ("run", "--image", "host", "/etc/passwd"), 126, "/etc/passwd"),
    ("a directory", ("run", "--image", "host", "/usr"), 126, "/usr"),
    ("not an ELF", ("run", "--image", "host", "-v", "{dir}:/x", "/x/text"), 126, "text"),
    ("no such node", ("run", "--image", "host", "--nodes", "a,zzz", "true"), 3, "zzz"),
    ("no such node to place on", ("run", "--image", "host", "--place", "node=zzz", "true"), 3, "zzz"),
    ("no such volume node", ("run", "--image", "host", "-v", "/srv@zzz:/x", "true"), 3, "zzz"),
    ("no such volume", ("run", "--image", "host", "-v", "/no/such/dir@a:/x", "true"), None, "/no/such/dir"),
    ("no such node to ask", ("--node", "zzz", "ls"), 3, "zzz"),
    ("no such container to exec in", ("exec", "nope", "true"), 3, "nope"),
    ("no such container to kill", ("kill", "nope"), 3, "nope"),
    ("no such container to remove", ("rm", "nope"), 3, "nope"),
    ("no such container to inspect", ("inspect", "nope"), 3, "nope"),
    ("no such container for logs", ("logs", "nope"), 3, "nope"),
    ("no such container for ps", ("ps", "nope"), 3, "nope"),
    ("memory too small", ("run", "--image", "host", "--memory", "1k", "true"), 2, "memory"),
    ("cpus too many", ("run", "--image", "host", "--cpus", "100000", "true"), 2, "cpus"),
    ("pids too many", ("run", "--image", "host", "--pids", "2000000000", "true"), 2, "pids"),
    ("a bad name", ("run", "--name", "a/b", "--image", "host", "true"), 2, "name"),
    ("no such lab", ("--lab", "nosuchlab", "ls"), 3, "nosuchlab"),
    ("no such working directory", ("run", "--image", "host", "-w", "/no/such/dir", "true"), 126, "/no/such/dir"),
    ("working directory is a file", ("run", "--image", "host", "-w", "/etc/passwd", "true"), 126, "/etc/passwd"),
    ("working directory too long", ("run", "--image", "host", "-w", "/usr" + 1100 * "/../usr", "true"), 126, "cannot start in"),
]


@pytest.mark.parametrize("args,code,word", [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_mistake(lab, tmp_path, args, code, word):
    (tmp_path / "text").write_bytes(b"\x7fnot an ELF\n")
    (tmp_path / "text").chmod(0o755)
    tmp_path.chmod(0o755)
    before = set(lab.containers())
    result = lab.dvs(*[arg.format(dir=tmp_path) for arg in args])
    assert result.out == "" and result.err.startswith("dvs: ") and result.err.count("\n") == 1, result
    assert word in result.err, result
    assert result.code == code if code is not None else result.code not in (0, 1), result
    assert set(lab.containers()) == before


def test_name_taken(lab, dc):
    result = lab.dvs("run", "--name", dc, "--image", "host", "true")
    assert result.code == 4 and dc in result.err and result.err.count("\n") == 1


def test_no_quorum(own_lab):
    own_lab.up(3)
    own_lab.ok("lab", "kill", "b")
    own_lab.ok("lab", "kill", "c")
    wait_for(lambda: not own_lab.json("lab", "status")["nodes"][0]["quorate"], 15, "the loss of quorum")
    result = own_lab.dvs("run", "--image", "host", "true")
    assert result.code == 5 and "quor" in result.err and result.err.count("\n") == 1
    own_lab.ok("lab", "start", "b")
    assert own_lab.json("lab", "status")["nodes"][0]["quorate"]


def test_corrupt_configuration(own_lab):
    own_lab.up(1)
    own_lab.ok("lab", "kill", "a")
    path = f"/var/lib/dvs/lab/{own_lab.name}/a/config.db"
    sqlite3.connect(path).close()
    with open(path, "r+b") as file:
        file.write(b"garbage" * 1000)
    for extra in ("-wal", "-shm"):
        if os.path.exists(path + extra):
            os.unlink(path + extra)
    result = own_lab.dvs("lab", "start", "a")
    assert result.code == 5 and result.err.count("\n") == 1 and "config.db" in result.err, result
