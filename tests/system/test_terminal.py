# SPDX-License-Identifier: Apache-2.0
"""`dvs run -it`: shells with job control whose programs are on other nodes than the terminal."""
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time

import pytest

from dvslab import DVS

PATIENCE = 20 # seconds for one answer


class Terminal:
    """A `dvs` command at a terminal of its own."""

    def __init__(self, lab, *args, rows=24, columns=80):
        self.shown = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(DVS, [DVS, *args], {**lab.env, "TERM": "xterm"})
        self.resize(rows, columns)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        self.shown = b""
        os.write(self.fd, text)

    def expect(self, pattern):
        """Wait until what was shown since the last type() matches; the match."""
        deadline = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.shown)):
            assert time.monotonic() < deadline, f"no {pattern} in {self.shown}"
            if b"\x1b[6n" in self.shown: # busybox asks where the cursor is
                self.shown = self.shown.replace(b"\x1b[6n", b"")
                os.write(self.fd, b"\x1b[1;1R")
                continue
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    data = os.read(self.fd, 4096)
                except OSError: # the other side is gone
                    data = b""
                assert data, f"the end, and no {pattern} in {self.shown}"
                self.shown += data
        return match

    def ask(self, text, pattern):
        self.type(text)
        return self.expect(pattern)

    def end(self):
        """Wait for its end; its exit code."""
        deadline = time.monotonic() + PATIENCE
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = None
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, "still there"
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    os.read(self.fd, 4096)
                except OSError:
                    time.sleep(0.05)

    def close(self):
        os.close(self.fd)
        if self.pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(lab):
    """A shell at a terminal: terminal(args...)."""
    opened = []

    def call(*command, place="spread"):
        one = Terminal(lab, "run", "--rm", "--image", "host", "--place", place, "-e", "PS1=ready> ", "-e", "LC_ALL=C", "-it", *command)
        opened.append(one)
        one.expect(rb"ready> $")
        return one

    yield call
    for one in opened:
        one.close()


BASH = ("bash", "--norc", "--noediting")


@pytest.mark.parametrize("place", ["spread", "local"])
def test_job_control(terminal, place):
    shell = terminal(*BASH, place=place)
    for _ in range(5):
        shell.ask(b"sh -c 'echo run''ning; exec sleep 1000'\n", rb"running\r\n")
        shell.ask(b"\x1a", rb"Stopped .*\r\nready> $")
        shell.ask(b"jobs\n", rb"\[1\]\+ +Stopped .*\r\nready> $")
        shell.ask(b"bg; jobs\n", rb"Running .*\r\nready> $")
        shell.ask(b"fg\n", rb"sleep 1000'\r\n")
        time.sleep(0.2) # until fg has given it the foreground; nothing shows that
        shell.ask(b"\x03", rb"\^C\r\nready> $")
        shell.ask(b"echo =$?=\n", rb"=130=\r\nready> $")
    shell.type(b"exit 7\n")
    assert shell.end() == 7


@pytest.mark.parametrize("place", ["spread", "local"])
def test_shell_in_a_shell(terminal, place):
    """The inner shell may be on another node than the terminal: it must be able to give away the foreground."""
    shell = terminal(*BASH, place=place)
    for inner in (b"dash -i", b"bash --norc --noediting", b"busybox sh") * 2:
        shell.ask(b"PS1='inner> ' " + inner + b"\n", rb"inner> $")
        shell.ask(b"seq 5 | tac | head -n 1\n", rb"\n5\r\n[^$]*inner> ")
        shell.ask(b"sh -c 'echo run''ning; exec sleep 1000'\n", rb"running\r\n")
        shell.ask(b"\x1a", rb"(?i)(stopped|suspended)[^$]*inner> ")
        shell.ask(b"kill -9 %1; wait; echo do''ne\n", rb"done\r\n[^$]*inner> ")
        # a shell asks back if it has not yet heard that the job is dead
        if b"inner" in shell.ask(b"exit\n", rb"ready> $|stopped jobs[^$]*inner> $").group():
            shell.ask(b"exit\n", rb"ready> $")


def test_pipeline_is_interrupted_as_a_whole(terminal, lab):
    shell = terminal(*BASH)
    shell.ask(b"(echo run''ning; sleep 1000) | cat | cat\n", rb"running\r\n")
    shell.ask(b"\x03", rb"\^C\r\nready> $")
    shell.ask(b"ps -e -o comm= | grep -c -e sleep -e cat\n", rb"\n0\r\nready> $")


def test_window(terminal):
    shell = terminal(*BASH)
    shell.resize(40, 100)
    shell.ask(b"stty size\n", rb"40 100\r\nready> $")
    shell.ask(b"sh -c 'trap \"stty size\" WINCH; echo run''ning; while :; do sleep 0.1; done'\n", rb"running\r\n")
    shell.shown = b""
    shell.resize(50, 120)
    shell.expect(rb"50 120\r\n")
    shell.ask(b"\x03", rb"ready> $")


def test_end_of_file_and_raw_mode(terminal):
    shell = terminal(*BASH)
    shell.ask(b"cat; echo en''ded\n", rb"''ded\r\n$")
    shell.ask(b"hello\n", rb"hello\r\nhello\r\n")
    shell.ask(b"\x04", rb"ended\r\nready> $")
    shell.ask(b"stty raw -echo; dd bs=1 count=3 status=none | od -An -c; stty sane\n", rb"status=none")
    time.sleep(0.5) # until the terminal is in raw mode; nothing shows that
    shell.ask(b"\x03a\x1a", rb"003 +a 032")
    shell.ask(b"\n", rb"ready> $")


def test_hang_up(terminal, lab):
    """A terminal that goes away takes the shell with it."""
    shell = terminal(*BASH)
    before = set(lab.containers())
    assert before
    shell.ask(b"sleep 1000 & echo st''arted\n", rb"started\r\n")
    os.kill(shell.pid, 9)
    deadline = time.monotonic() + PATIENCE
    while set(lab.containers()) & before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
