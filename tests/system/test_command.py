# SPDX-License-Identifier: Apache-2.0
"""dvs itself, against a daemon that runs programs natively (fake_dvkd.py): options, streams, signals, terminals."""
import hashlib
import json
import os
import pty
import select
import signal
import subprocess
import termios
import time

import pytest
from dvslab import DVS, clean_env, run, wait_for
from fake_dvkd import Fake


@pytest.fixture
def fake(tmp_path):
    daemon = Fake(str(tmp_path / "run")).start()
    daemon.env = clean_env(DVS_RUN=daemon.run)
    daemon.dvs = lambda *args, **options: run([DVS, *args], env=daemon.env, **options)
    yield daemon
    daemon.stop()


RUN = ("run", "--image", "host", "--")


def test_output_and_exit_code(fake):
    result = fake.dvs(*RUN, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.code, result.out, result.err) == (7, "out\n", "err\n")


def test_killed_by_signal(fake):
    assert fake.dvs(*RUN, "sh", "-c", "kill -9 $$").code == 137


def test_stdin_only_when_interactive(fake):
    assert fake.dvs(*RUN, "cat", stdin="text").out == ""
    assert fake.dvs("run", "-i", "--image", "host", "cat", stdin="text").out == "text"


def test_megabytes_both_ways_without_loss(fake):
    data = os.urandom(1 << 20) * 24
    result = subprocess.run([DVS, "run", "-i", "--image", "host", "--", "cat"], input=data, stdout=subprocess.PIPE,
                            env=fake.env, timeout=60, check=True)
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()


def test_slow_reader_gets_all(fake):
    process = subprocess.Popen([DVS, *RUN, "sh", "-c", "seq 200000; exit 3"], stdout=subprocess.PIPE, env=fake.env)
    time.sleep(0.5)
    out = process.stdout.read()
    assert process.wait(30) == 3
    assert out == b"".join(b"%d\n" % i for i in range(1, 200001))


def test_broken_pipe_reaches_the_program(fake):
    result = run(["bash", "-c", f"{DVS} run --image host -- yes | head -n1; echo ${{PIPESTATUS[0]}}"], env=fake.env, timeout=20)
    # yes ends as it would in a native pipeline: here by an error, since the fake gives it a socket
    assert result.out.startswith("y\n") and result.out.split()[1] != "0"


def test_background_child_does_not_hold_us(fake):
    begin = time.monotonic()
    result = fake.dvs(*RUN, "sh", "-c", "sleep 20 & echo done")
    assert result.out == "done\n" and time.monotonic() - begin < 10


def test_interrupt_is_forwarded(fake):
    process = subprocess.Popen([DVS, *RUN, "sh", "-c", "trap 'echo got; exit 5' INT; echo ready; while :; do sleep 0.1; done"],
                               stdout=subprocess.PIPE, env=fake.env)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[0] == b"got\n"
    assert process.returncode == 5


def test_third_interrupt_gives_up(fake):
    process = subprocess.Popen([DVS, *RUN, "sh", "-c", "trap '' INT; echo ready; exec sleep 30"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=fake.env)
    assert process.stdout.readline() == b"ready\n"
    for number in range(1, 4):
        process.send_signal(signal.SIGINT)
        if number < 3: # each is seen before the next: pending signals of a number merge
            wait_for(lambda: sum(r["op"] == "dc.kill" for r in fake.seen) == number, 5, "the signal")
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130 and b"gave up" in err


def terminal(fake, *command):
    """Run dvs on a terminal of its own. (process, master)"""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (33, 101))
    def own_terminal():
        os.setsid()
        import fcntl
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    process = subprocess.Popen([DVS, "run", "-it", "--image", "host", "--", *command], stdin=slave, stdout=slave, stderr=slave,
                               env=fake.env, preexec_fn=own_terminal)
    return process, master, slave


def read_until(master, text, timeout=10):
    data = b""
    def more():
        nonlocal data
        if select.select([master], [], [], 0.1)[0]:
            data += os.read(master, 4096)
        return text in data
    wait_for(more, timeout, text)
    return data


def test_terminal_is_raw_then_restored(fake):
    process, master, slave = terminal(fake, "sh", "-c", "stty size; tty -s && echo terminal; read line; echo \"got $line\"")
    data = read_until(master, b"terminal\r\n")
    assert b"33 101" in data
    wait_for(lambda: not termios.tcgetattr(slave)[3] & termios.ICANON, 5, "raw mode")
    os.write(master, b"hello\r")
    read_until(master, b"got hello")
    assert process.wait(10) == 0
    assert termios.tcgetattr(slave)[3] & termios.ICANON and termios.tcgetattr(slave)[3] & termios.ECHO


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGABRT, signal.SIGALRM])
def test_terminal_is_restored_by_fatal_signals(fake, number):
    process, master, slave = terminal(fake, "sh", "-c", "echo ready; sleep 30")
    read_until(master, b"ready")
    wait_for(lambda: not termios.tcgetattr(slave)[3] & termios.ICANON, 5, "raw mode")
    process.send_signal(number)
    assert process.wait(10) == -number
    assert termios.tcgetattr(slave)[3] & termios.ICANON


def test_window_change_is_passed_on(fake):
    process, master, slave = terminal(fake, "sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done")
    read_until(master, b"ready")
    termios.tcsetwinsize(master, (44, 122))
    assert b"44 122" in read_until(master, b"44 122")
    assert process.wait(10) == 0


def test_interrupt_character_goes_through_the_terminal(fake):
    process, master, _ = terminal(fake, "sh", "-c", "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done")
    read_until(master, b"ready")
    os.write(master, b"\x03")
    assert process.wait(10) == 9
    assert not any(request["op"] == "dc.kill" for request in fake.seen)


def test_request_of_run(fake):
    fake.dvs("run", "-d", "--image", "host", "--name", "n", "--nodes", "a,b", "--place", "node=a", "-e", "K=V=W", "-e", "GIVEN",
             "-v", "/srv@b:/data:ro", "-v", "/x:/y", "--memory", "512m", "--cpus", "1.5", "--pids", "99", "--rm", "-w", "/tmp",
             "--", "true", "--flag")
    request = next(request for request in fake.seen if request["op"] == "dc.run")
    assert request["argv"] == ["true", "--flag"] and request["nodes"] == ["a", "b"] and request["place"] == "node=a"
    assert request["mounts"] == [{"host": "/srv", "path": "/data", "ro": True, "node": "b"},
                                 {"host": "/x", "path": "/y", "ro": False, "node": "a"}]
    assert request["memory"] == 512 << 20 and request["cpus"] == 1.5 and request["pids"] == 99
    assert request["rm"] is True and request["detach"] is True and request["cwd"] == "/tmp" and "K=V=W" in request["env"]


def test_logs_are_passed_on_unchanged(fake):
    assert fake.dvs("logs", "x").out == "line 1\nline 2\n" * 50000


@pytest.mark.parametrize("code,exit_code", [
    ("no-such-dc", 3), ("no-such-node", 3), ("no-such-image", 3), ("no-such-process", 3), ("name-taken", 4), ("dc-running", 4),
    ("dc-not-running", 4), ("no-quorum", 5), ("node-down", 5), ("unavailable", 5), ("limit-out-of-range", 2), ("bad-request", 2),
    ("no-such-command", 127), ("not-executable", 126)])
def test_exit_codes_of_errors(fake, code, exit_code):
    fake.answers = {op: {"error": {"code": code, "message": "some\nreason", "hint": "do that"}} for op in ("dc.kill", "dc.run")}
    result = fake.dvs("kill", "x")
    assert (result.code, result.err) == (exit_code, "dvs: kill: some reason (do that)\n")
    assert fake.dvs(*RUN, "true").code == exit_code


def test_trouble_while_it_runs(fake):
    fake.answers = {"dc.run": {"ok": True, "id": 1, "name": "x", "pid": 1}} # and then the daemon closes
    result = fake.dvs(*RUN, "true")
    assert result.code == 125 and result.err.count("\n") == 1


def test_redirect_is_followed(fake, tmp_path):
    other = Fake(str(tmp_path / "other"), node="b").start()
    fake.answers = {"version": {"redirect": {"node": "b", "run": other.run}}}
    assert json.loads(fake.dvs("version", "--format", "json").out)["dvkd"]["node"] == "b"
    fake.answers = {"version": {"redirect": {"node": "other"}}} # without a path: its run directory is beside ours
    assert json.loads(fake.dvs("version", "--format", "json").out)["dvkd"]["node"] == "b"
    fake.answers = {"version": {"redirect": {"node": "elsewhere"}}}
    assert json.loads(fake.dvs("version", "--format", "json").out)["dvkd"] is None
    other.stop()


def test_redirect_in_circles_ends(fake):
    fake.answers = {"dc.ls": {"redirect": {"node": "a", "run": fake.run}}}
    assert fake.dvs("ls").code == 5


def test_nonsense_answer(fake):
    fake.answers = {"dc.ls": ["no object"]}
    result = fake.dvs("ls")
    assert result.code == 5 and result.err.startswith("dvs: ls: ")


def test_listing_is_harmless_to_terminals(fake):
    fake.answers = {"dc.ps": {"ok": True, "processes": [{"dc": "x", "pid": 64, "ppid": 1, "node": "a", "uid": 0, "time_ms": 61500,
                                                         "state": "S", "command": "evil\x1b[2J\nline", "comm": "evil"}]}}
    out = fake.dvs("ps", "x").out
    assert out.splitlines() == ["PID  PPID  NODE  USER    TIME  STATE  COMMAND", " 64     1  a     root  1:01.5  S      evil?[2J?line"]


USAGE = [
    ("nonsense",), ("run",), ("run", "--image"), ("run", "--image", "host"), ("run", "--", "true"), ("run", "--image", "host", "--bogus", "x"),
    ("run", "--image", "host", "--memory", "12x", "true"), ("run", "--image", "host", "--cpus", "0", "true"),
    ("run", "--image", "host", "--pids", "-1", "true"), ("run", "--image", "host", "--place", "mars", "true"),
    ("run", "--image", "host", "-v", "/x", "true"), ("run", "--image", "host", "-v", "/x:y", "true"),
    ("run", "--image", "host", "-e", "=x", "true"), ("run", "--image", "host", "--nodes", "a,,b", "true"),
    ("exec",), ("exec", "x"), ("kill",), ("kill", "x", "abc"), ("kill", "-s", "NOPE", "x"), ("rm",), ("inspect",), ("logs",),
    ("ls", "extra"), ("ls", "--format", "xml"), ("node",), ("node", "frobnicate"), ("lab",), ("lab", "up"), ("lab", "up", "0"),
    ("lab", "up", "65"), ("lab", "up", "x"), ("lab", "up", "2", "--nodes-named", "a"), ("lab", "up", "2", "--nodes-named", "a,a"),
    ("lab", "up", "1", "--lab", "Bad-Name"), ("lab", "up", "1", "--nodes-named", "sw"), ("lab", "up", "1", "--token", "1"),
    ("lab", "kill"),
]


@pytest.mark.parametrize("args", USAGE, ids=" ".join)
def test_usage_errors(fake, args):
    result = fake.dvs(*args)
    assert result.code == 2 and result.out == "" and result.err.startswith("dvs: ") and result.err.count("\n") == 1, result


def test_not_utf8_is_refused(fake):
    assert run([DVS.encode(), b"run", b"--image", b"host", b"--", b"\xff\xfe"], env=fake.env).code == 2


def test_no_daemon():
    result = run([DVS, "ls"], env=clean_env(DVS_RUN="/nonexistent"))
    assert result.code == 5 and "no dvkd answers" in result.err


@pytest.mark.parametrize("verb", ["run", "exec", "ls", "ps", "logs", "kill", "rm", "inspect", "node", "lab", "version"])
def test_help(verb):
    result = run([DVS, verb, "--help"])
    assert result.code == 0 and result.out.startswith("usage: dvs " + verb)
