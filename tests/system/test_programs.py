# SPDX-License-Identifier: Apache-2.0
"""Unmodified programs with --place spread: the same output and exit code as natively. Each row is a shell command; it
runs in an empty directory of the same path in both places. Rows in STRANGER are compared with a native run that may
read only what the world may, as a container may. With $DVS_TEST_STRICT set, the containers run with --strict;
$DVS_TEST_PLACE is another placement than spread."""
import os
import shutil

import pytest

from dvslab import owners_are_shown, run

WORK = f"/dvs-test-work-{os.getpid()}" # not in /tmp, which not every machine lets a stranger use

PYTHON_THREADS = r"""
import threading
total, lock = 0, threading.Lock()
def add():
    global total
    for i in range(20000):
        with lock:
            total += i
threads = [threading.Thread(target=add) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(total)
"""

PYTHON_SUBPROCESS = r"""
import subprocess
print(subprocess.run(["tr", "a-z", "A-Z"], input=b"hello\n", stdout=subprocess.PIPE).stdout)
print([subprocess.run(["sh", "-c", f"exit {i}"]).returncode for i in range(5)])
print(subprocess.run(["sh", "-c", "kill -9 $$"]).returncode)
p = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(p.communicate(b"x" * 300000)[0].count(b"x"))
"""

PYTHON_MULTIPROCESSING = r"""
import multiprocessing as mp
def square(x):
    return x * x
def add(v):
    for _ in range(1000):
        with v.get_lock():
            v.value += 1
if __name__ == "__main__":
    mp.set_start_method("fork")
    with mp.Pool(4) as pool:
        print(sum(pool.map(square, range(1000))))
    q = mp.Queue()
    p = mp.Process(target=q.put, args=("from the child",))
    p.start(); print(q.get()); p.join(); print(p.exitcode)
    v = mp.Value("i", 0)
    ps = [mp.Process(target=add, args=(v,)) for _ in range(4)]
    [p.start() for p in ps]; [p.join() for p in ps]
    print(v.value)
"""

PYTHON_MULTIPROCESSING_MORE = r"""
import ctypes, multiprocessing as mp, os, socket
def fill(array, lock, i):
    for n in range(i, len(array), 4):
        with lock:
            array[n] = n * n
def serve(connection):
    while (x := connection.recv()) is not None:
        connection.send((x * 2, "answer"))
    connection.close()
def produce(queue, i):
    for n in range(50):
        queue.put((i, n, "x" * 1000))
def meet(barrier, event, semaphore, total):
    barrier.wait()
    event.wait()
    with semaphore:
        with total.get_lock():
            total.value += 1
if __name__ == "__main__":
    array, lock = mp.Array("i", 100), mp.Lock()
    ps = [mp.Process(target=fill, args=(array, lock, i)) for i in range(4)]
    [p.start() for p in ps]; [p.join() for p in ps]
    print(sum(array))
    ours, theirs = mp.Pipe()
    p = mp.Process(target=serve, args=(theirs,))
    p.start(); theirs.close()
    for x in (1, "ab", [3]):
        ours.send(x); print(ours.recv())
    print(ours.poll(0)); ours.send(None); p.join(); print(p.exitcode)
    try:
        print(ours.recv())
    except EOFError:
        print("end")
    q = mp.Queue()
    ps = [mp.Process(target=produce, args=(q, i)) for i in range(4)]
    [p.start() for p in ps]
    got = sorted(q.get()[:2] for _ in range(200))
    [p.join() for p in ps]
    print(got[:2], got[-1], q.empty())
    barrier, event, semaphore, total = mp.Barrier(4), mp.Event(), mp.Semaphore(2), mp.Value(ctypes.c_int, 0)
    ps = [mp.Process(target=meet, args=(barrier, event, semaphore, total)) for _ in range(3)]
    [p.start() for p in ps]; barrier.wait(); event.set(); [p.join() for p in ps]
    print(total.value)
    with mp.Pool(3) as pool:
        print(list(pool.imap(abs, range(-20, 0), chunksize=3))[:3], pool.apply_async(max, (3, 4)).get())
    p = mp.Process(target=os.abort)
    p.start(); p.join(); print(p.exitcode)
"""

PYTHON_SOCKETPAIR = r"""
import array, os, select, socket, subprocess, sys
a, b = socket.socketpair()
a.sendall(b"one"); print(b.recv(10), b.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM)
print(select.select([b], [a], [], 0) == ([], [a], []))
p = subprocess.Popen(["tr", "a-z", "A-Z"], stdin=b, stdout=b)
b.close(); a.sendall(b"through a program\n"); a.shutdown(socket.SHUT_WR)
data = b""
while part := a.recv(100):
    data += part
print(data, p.wait())
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.send(b"first"); a.send(b"second"); print(b.recv(3), b.recv(100))
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
a.sendmsg([b"par", b"ts"]); print(b.recvmsg(100)[0]); a.close(); print(b.recv(1))
a, b = socket.socketpair()
b.setblocking(False)
try:
    b.recv(1)
except BlockingIOError:
    print("would block")
a.settimeout(0.1)
try:
    a.recv(1)
except TimeoutError:
    print("timed out")
b.close()
try:
    a.send(b"x")
except BrokenPipeError:
    print("broken pipe")
a, b = socket.socketpair()
if os.fork() == 0:
    a.close()
    while part := b.recv(70000):
        b.sendall(part)
    os._exit(0)
b.close()
import threading
sent = os.urandom(1) * 1000000
threading.Thread(target=lambda: (a.sendall(sent), a.shutdown(socket.SHUT_WR))).start()
back = b""
while part := a.recv(65536):
    back += part
print(back == sent, os.wait()[1])
"""

PYTHON_SOCKET_RIGHTS = r"""
import array, os, socket, stat, struct
a, b = socket.socketpair()
a.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
r, w = os.pipe()
if os.fork() == 0:
    a.close(); os.close(r)
    c, d = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    f = os.memfd_create("passed")
    os.write(f, b"by the child")
    socket.send_fds(b, [b"take"], [w, c.fileno(), f])
    c.close()
    print(d.recv(100), flush=True)
    os._exit(0)
b.close(); os.close(w)
data, control, flags, address = a.recvmsg(100, 1000)
fds = array.array("i")
for level, kind, body in control:
    if kind == socket.SCM_RIGHTS:
        fds.frombytes(body)
    elif kind == socket.SCM_CREDENTIALS:
        print(struct.unpack("3i", body)[1:] == (os.getuid(), os.getgid()), struct.unpack("3i", body)[0] > 0)
print(data, len(fds), flags, address)
os.write(fds[0], b"through the passed pipe"); print(os.read(r, 100), flush=True)
print(os.pread(fds[2], 100, 0), stat.S_ISREG(os.fstat(fds[2]).st_mode), flush=True)
s = socket.socket(fileno=fds[1]); print(s.family, s.type, flush=True); s.send(b"to the child"); print(os.wait()[1])
print(stat.S_ISSOCK(os.fstat(a.fileno()).st_mode))
pid, uid, gid = struct.unpack("3i", a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
print(pid == os.getpid(), uid == os.getuid(), gid == os.getgid())
"""

PYTHON_SOCKET_CHILD = r"""
import os, select, socket, sys
s = socket.socket(fileno=int(sys.argv[1]))
print(s.family, s.type, s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), repr(s.getsockname()))
if s.type == socket.SOCK_STREAM:
    print(s.recv(3, socket.MSG_PEEK), s.recv(9, socket.MSG_WAITALL))
else:
    print(s.recv(3), s.recvmsg(3)[::2], s.recv(100))
s.setblocking(False)
try:
    s.recv(1)
except BlockingIOError:
    print("nothing")
s.send(b"x")
p = select.epoll(); p.register(s, select.EPOLLIN)
print(p.poll(10) == [(s.fileno(), select.EPOLLIN)], s.recv(10))
s.setblocking(True)
s.send(b"y"); print(s.recv(10)); s.send(b"answer"); s.shutdown(socket.SHUT_WR)
if s.type != socket.SOCK_DGRAM: # a closed end of datagrams is not told
    print(s.recv(10))
    try:
        s.send(b"x", socket.MSG_NOSIGNAL)
    except OSError as error:
        print(error.strerror)
"""

PYTHON_SOCKETS_ELSEWHERE = r"""
import socket, subprocess, sys
for type in socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM:
    a, b = socket.socketpair(socket.AF_UNIX, type)
    a.send(b"fir"); a.send(b"second"); a.send(b"3rd" if type != socket.SOCK_STREAM else b"")
    p = subprocess.Popen([sys.executable, "child.py", str(b.fileno())], pass_fds=[b.fileno()], stdout=subprocess.PIPE)
    b.close()
    print(a.recv(1)); a.send(b"go"); print(a.recv(1)); a.send(b"on"); print(a.recv(10))
    a.close(); print(p.communicate()[0].decode(), p.returncode)
"""

PYTHON_EXEC_BY_DESCRIPTOR = r"""
import ctypes, os, shutil
libc, environment = ctypes.CDLL(None, use_errno=True), {"PATH": os.environ["PATH"]}
def run(f, *words):
    if (pid := os.fork()) == 0:
        try:
            os.execve(f, list(words), environment)
        except OSError as error:
            print(error.strerror, flush=True)
            os._exit(99)
    print(os.waitpid(pid, 0)[1], flush=True)
run(os.open("/bin/echo", os.O_RDONLY), "echo", "by descriptor")
run(os.open("/bin/echo", os.O_PATH), "echo", "by path descriptor")
inherited = os.open("/bin/echo", os.O_RDONLY); os.set_inheritable(inherited, True)
run(inherited, "echo", "inherited")
shutil.copy("/bin/echo", "copy")
f = os.open("copy", os.O_RDONLY); os.set_inheritable(f, True); os.unlink("copy")
run(f, "echo", "deleted")
m = os.memfd_create("program"); os.write(m, open("/bin/echo", "rb").read())
run(m, "echo", "in memory")
s = os.memfd_create("script", 0); os.write(s, b"#!/bin/echo script of\n")
run(s, "x", "an argument")
run(os.open("/etc/passwd", os.O_RDONLY), "x")
run(os.open("/bin", os.O_RDONLY), "x")
if (pid := os.fork()) == 0:
    argv = (ctypes.c_char_p * 3)(b"echo", b"in a directory", None)
    libc.syscall(322, os.open("/bin", os.O_RDONLY), b"echo", argv, (ctypes.c_char_p * 1)(None), 0)
    os._exit(99)
print(os.waitpid(pid, 0)[1], libc.syscall(322, 77, b"", None, None, 0x1000), ctypes.get_errno())
"""

PYTHON_ASYNC = r"""
import asyncio, sys
async def run(n):
    p = await asyncio.create_subprocess_exec("sh", "-c", f"read x; echo $x; exit {n}", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, _ = await p.communicate(b"line %d\n" % n)
    return out, p.returncode
async def main():
    print(await asyncio.gather(*(run(i) for i in range(6))))
    print(await asyncio.to_thread(sum, range(10)))
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.05)
    except asyncio.TimeoutError:
        print("timeout")
asyncio.run(main())
"""

PYTHON_FUTURES = r"""
import concurrent.futures as cf, multiprocessing as mp
def work(x):
    return x ** 2
if __name__ == "__main__":
    with cf.ThreadPoolExecutor(4) as pool:
        print(sum(pool.map(work, range(100))))
    with cf.ProcessPoolExecutor(3, mp_context=mp.get_context("fork")) as pool:
        print(sum(pool.map(work, range(100), chunksize=7)))
"""

PERL_MORE = r"""
use strict; use IPC::Open3; use Socket; use POSIX ":sys_wait_h";
my $pid = open3(my $in, my $out, undef, "sort", "-n"); print $in "$_\n" for (3, 20, 1); close $in;
print <$out>; waitpid $pid, 0; print $? >> 8, "\n";
$SIG{CHLD} = sub { }; my %kids;
for my $i (1 .. 5) { my $p = fork(); if (!$p) { exit $i } $kids{$p} = $i }
my $sum = 0; while (%kids) { my $p = wait(); $sum += ($? >> 8) * delete $kids{$p} } print "$sum\n";
socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
syswrite $a, "hello"; sysread $b, my $got, 100; print "$got\n";
local $SIG{ALRM} = sub { die "alarm\n" }; alarm 1; eval { select undef, undef, undef, 10 }; print $@;
opendir my $d, "/usr/include/linux" or die; my @n = grep { /^[a-f]/ } readdir $d; print scalar(@n), "\n";
open my $p, "-|", "seq 5 | tac" or die; print <$p>; close $p; print `sh -c "exit 7"`, $? >> 8, "\n";
"""

# when wait returns, the child's SIGCHLD has come: it disturbs no later call
PERL_CHILD_SIGNALS = r"""
use strict; my $disturbed = 0; $SIG{CHLD} = sub { };
for my $round (1 .. 20) {
  my %children; for (1 .. 4) { my $pid = fork(); exec "true" if !$pid; $children{$pid} = 1 }
  while (%children) { delete $children{wait()} }
  $disturbed++ if select(undef, undef, undef, 0.02) < 0;
}
print "$disturbed\n";
"""

NODE = r"""
const { spawn, execSync } = require("child_process"), fs = require("fs"), path = require("path");
console.log(execSync("seq 3 | tac").toString());
const p = spawn("tr", ["a-z", "A-Z"]);
p.stdout.on("data", d => process.stdout.write(d)); p.on("close", c => { console.log("closed", c); later(); });
p.stdin.end("to upper\n");
async function later() {
  await fs.promises.writeFile("f", "x".repeat(100000));
  console.log((await fs.promises.readFile("f")).length, fs.readdirSync(".").length, path.resolve("f") == process.cwd() + "/f");
  require("zlib").gzip("hello", (e, z) => { console.log(e, z.length > 0); setTimeout(() => console.log("timer"), 20); });
}
"""

SHARED_MEMORY = r"""
import mmap, os
m = mmap.mmap(-1, 4096)
pids = []
for i in range(4):
    pid = os.fork()
    if pid == 0:
        m[i] = i + 65
        os._exit(i)
    pids.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids], m[:4])
"""

C_PROGRAM = r"""
#include <stdio.h>
#include <string.h>
int main(int c, char **v) { for (int i = 1; i < c; i++) printf("%s %zu\n", v[i], strlen(v[i])); return c; }
"""

MAKEFILE = """
prog: a.o b.o c.o d.o
	gcc -o $@ $^
%.o: %.c
	gcc -O1 -c $<
"""


def heredoc(text, target):
    return f"{target} <<'END'\n{text.strip()}\nEND\n"


PROGRAMS = {
    "echo": "echo hello world",
    "coreutils-text": "seq 1000 | sort -rn | head -n 20 | tac | nl | cut -f2 | paste -sd+; "
                      "seq 30 | shuf --random-source=/usr/bin/env | sort -n | md5sum; seq 9 | split -l 3 - s; cat s*; od -c saa",
    "coreutils-files": "mkdir -p a/b && echo x > a/b/f && cp -r a c && mv c/b c/d && ln -s b a/l && ln a/b/f a/h && ls -R && "
                       "cat a/l/f && stat -c '%n %F %a %h %s' a/h && rm -r c && ls && touch -d 2001-02-03 f && date -r f +%F && "
                       "test -e c || echo no c",
    "permissions": "umask 027; touch f; mkdir d; stat -c '%a %U' f d; chmod 640 f; stat -c %a f; chmod u+s,g-r f; stat -c %a f; "
                   "chown 3:4 f; stat -c '%u %g' f",
    "truncate-dd": "dd if=/dev/zero of=z bs=4096 count=100 2>/dev/null; truncate -s +7 z; wc -c z; "
                   "dd if=z bs=1 skip=409600 2>/dev/null | od -c; cksum z",
    "sed-awk": "seq 500 | sed -n '/7/{s/7/[&]/g;p}' | awk '{ n += length($0) } END { print NR, n }'; "
               "awk -F: '{print $1}' /etc/passwd | sort | head -5; seq 3 > f; sed -i 's/2/two/' f; cat f",
    "grep": "grep -n root /etc/passwd; grep -c . /etc/services; grep nothinglikethis /etc/passwd; echo $?; "
            "grep -rl GPL /usr/share/common-licenses | sort",
    "xargs-P": "seq 40 | xargs -P 8 -n 5 echo | sort -n; seq 3 | xargs -I{} sh -c 'echo {}; exit {}'; echo $?",
    "find": "find /usr/share/doc -xdev 2>/dev/null | sort | sha256sum; find /usr/bin -newer /usr/bin/env -type l | sort | wc -l",
    # what changes while we look is left out: the rest of the host works on
    "find-root": "find / -xdev \\( -path /proc -o -path /sys -o -path /tmp -o -path /run -o -path /dev -o -path /var -o -path /work "
                 "-o -path /root -o -path /home -o -path /.dvs -o -path '/dvs-test-work*' \\) -prune -o -print 2>/dev/null | wc -l",
    "ls-l": "ls -l /usr /usr/lib /usr/include | sha256sum; ls -lR /usr/share/perl* | sha256sum; ls -ld /etc /usr/bin/passwd",
    "owners": "ls -l /usr/bin /etc | sha256sum; stat -c '%U %G %u %g' /usr/bin/* | sort | uniq -c",
    "dash": "dash -c 'x=$(echo a; (echo b; exit 3); echo $?); echo \"$x\"; trap \"echo bye\" EXIT; for i in 1 2; do echo $i; done; "
            "false || true; exit 4'; echo $?",
    "bash-subshells": "bash -c 'f() { local x=$1; (( x > 0 )) && f $((x-1)) | cat; echo $x; }; f 5; (echo $BASH_SUBSHELL); "
                      "a=(1 2 3); echo ${#a[@]} ${a[@]/2/x}'",
    "bash-process-substitution": "bash -c 'diff <(seq 5) <(seq 2 6); echo $?; read x < <(echo hi); echo $x; seq 100 | tee >(wc -l >out) >/dev/null; "
                                 "while [ ! -s out ]; do sleep 0.1; done; cat out'",
    "bash-jobs": "bash -c 'for i in 3 2 1; do (exit $i) & p[$i]=$!; done; for i in 1 2 3; do wait ${p[$i]}; echo $?; done; "
                 "sleep 100 & kill $!; wait $! 2>/dev/null; echo $?; wait; echo end'",
    "bash-traps": "bash -c 'trap \"echo usr1\" USR1; kill -USR1 $$; trap \"echo term; exit 6\" TERM; (sleep 0.2; kill $$) & "
                  "while :; do sleep 0.1; done'; echo $?",
    "bash-pipestatus": "bash -c 'false | true | (exit 3); echo ${PIPESTATUS[@]}; yes | head -n 1; echo ${PIPESTATUS[@]}; set -o pipefail; "
                       "yes | head -n 1 >/dev/null; echo $?'",
    "here-documents": "cat <<END | tr a-z A-Z\nhello\n$((1+1))\nEND\nread -r a b <<END\none two three\nEND\necho $b",
    "redirections": "exec 3>f 4<&0; echo three >&3; exec 3>&-; cat f; { echo a; echo b >&2; } 2>&1 | sort; echo more >> f; wc -l < f",
    "fifo": "mkfifo p; (echo through; echo twice) > p & cat p; wait; ls -l p | cut -c1-10",
    "python-threads": heredoc(PYTHON_THREADS, "python3 -"),
    "python-subprocess": heredoc(PYTHON_SUBPROCESS, "python3 -"),
    "python-multiprocessing": heredoc(PYTHON_MULTIPROCESSING, "cat > m.py") + "python3 m.py",
    "shared-memory-over-fork": heredoc(SHARED_MEMORY, "python3 -"),
    "python-library": "python3 -c 'import json, os, sys, tempfile, hashlib; d = tempfile.mkdtemp(); open(d + \"/x\", \"w\").write(\"y\"); "
                      "print(os.listdir(d), os.getcwd(), hashlib.md5(b\"x\").hexdigest(), sorted(os.listdir(\"/usr\")))'",
    "perl": "perl -e 'print join(\",\", map { $_ * 2 } 1..10), \"\\n\"; $p = fork(); if (!$p) { exit 3 } waitpid $p, 0; "
            "print $? >> 8, \"\\n\"; print `echo sub`; $| = 1; open F, \"|cat\"; print F \"piped\\n\"; close F'",
    "gcc": heredoc(C_PROGRAM, "cat > t.c") + "gcc -O2 -o t t.c && ./t one three; echo $?; gcc -static -o s t.c && ./s x; echo $?; "
                                             "sha256sum t s",
    "make": heredoc(MAKEFILE, "cat > Makefile") +
            "for i in a b c d; do echo \"int f_$i(void) { return 1; }\" > $i.c; done\n"
            "echo 'int f_a(void); int f_b(void); int f_c(void); int main(void) { return f_a() + f_b() + f_c(); }' >> d.c\n"
            "make -s -j4 && ./prog; echo $?; sha256sum prog; make -s; echo $?",
    "coreutils-more": "seq 20 | fmt -w 30; seq 2 6 > two; seq 4 | join - two; printf 'b a\nc b\n' | tsort; seq 6 | tr '\\n' ' ' | fold -w 5; echo; "
                      "expr 3 + 4; factor 360; basename /a/b.c .c; dirname /a/b; seq 3 | base64; seq 3 | sha1sum; seq 10 | csplit -s - 4 7; ls; "
                      "comm -12 xx00 xx01; numfmt --to=iec 1048576; printf '%05.1f\\n' 3.14159; seq 5 | expand | unexpand | rev | pr -t -2; "
                      "id; whoami; tty; nproc >/dev/null; uname -s; date -u -d @0; install -m 751 xx00 i; stat -c %a i; mktemp -u | wc -c; "
                      "truncate -s 1M sparse; stat -c %s sparse; dd if=sparse of=copy conv=sparse bs=64k status=none; cmp sparse copy; echo $?; "
                      "touch -r xx00 r; test r -ot xx00; echo $?; shred -u -n 1 r; ls r 2>&1; sync f 2>&1; pathchk -p ok; mkfifo q; stat -c %F q; "
                      "ln -s i l; readlink l; realpath --relative-to=/ l; unlink l; rmdir nothing 2>&1; du -b xx00; head -c 5 /dev/zero | od -An -tx1; "
                      "cp -a i j; cmp i j; mv j k; cp -l k kl; stat -c %h k; chgrp 5 k; stat -c %g k; wc -lwc xx00; sum xx00; split -n 3 xx01 p; cat p*",
    "fd-operations": "exec 3<>f; touch /dev/fd/3; echo in >&3; chmod 600 f; touch g; touch -c -d 2000-01-01 g; date -r g +%Y; cat /dev/stdin < f; "
                     "cat /proc/self/fd/0 < f; wc -c < f; flock f true; echo $?; flock -n g sh -c 'flock -n g true; echo $?'; rm f; cat <&3; "
                     "python3 -c 'import os; os.fchmod(3, 0o640); os.futimens = None; os.utime(3, (1, 2)); print(oct(os.fstat(3).st_mode), os.fstat(3).st_mtime)'",
    "bash-coprocess": "bash -c 'coproc T { while read x; do echo got $x; done; }; echo a >&${T[1]}; read y <&${T[0]}; echo $y; "
                      "eval \"exec ${T[1]}>&-\"; wait $T_PID; echo $?; mapfile -t m < <(seq 3); echo ${m[@]}; "
                      "for i in {1..20}; do echo $(echo $i | cat); done | paste -sd,; (trap \"echo int\" INT; kill -INT $BASHPID); "
                      "wait -n <(:) 2>/dev/null; sleep 0.1 & wait -n; echo $?; exec 5> >(cat); echo five >&5; exec 5>&-; wait $!'",
    "bash-job-control": "bash -c 'set -m; sleep 50 & sleep 60 | cat & jobs | sed \"s/  */ /g\"; kill %1; wait %1; echo $?; kill -STOP %2; "
                        "for i in {1..50}; do case $(jobs) in *Stopped*) break;; esac; sleep 0.1; done; jobs -s | wc -l; kill -CONT %2; kill %2; wait %2; echo $?; "
                        "(sleep 0.1; exit 9) & fg %+ >/dev/null; echo $?' 2>/dev/null",
    "signals-between-processes": "sh -c 'trap \"echo got hup; exit 5\" HUP; echo ready > r; while :; do sleep 0.05; done' & p=$!; "
                                 "while [ ! -s r ]; do sleep 0.05; done; kill -HUP $p; wait $p; echo $?; sleep 10 & p=$!; kill -STOP $p; kill -KILL $p; wait $p 2>/dev/null; echo $?; "
                                 "setsid sh -c 'echo session'; kill -0 999999 2>&1 | sed 's/.*: //'; timeout -s INT 0.2 sleep 5; echo $?",
    "python-multiprocessing-more": heredoc(PYTHON_MULTIPROCESSING_MORE, "cat > m.py") + "python3 m.py",
    "python-socketpair": heredoc(PYTHON_SOCKETPAIR, "python3 -"),
    "python-socket-rights": heredoc(PYTHON_SOCKET_RIGHTS, "python3 -"),
    "python-sockets-elsewhere": heredoc(PYTHON_SOCKET_CHILD, "cat > child.py") + heredoc(PYTHON_SOCKETS_ELSEWHERE, "python3 -"),
    "python-exec-by-descriptor": heredoc(PYTHON_EXEC_BY_DESCRIPTOR, "python3 -"),
    "python-async": heredoc(PYTHON_ASYNC, "python3 -"),
    "python-futures": heredoc(PYTHON_FUTURES, "cat > f.py") + "python3 f.py",
    "perl-child-signals": heredoc(PERL_CHILD_SIGNALS, "perl -"),
    "perl-more": heredoc(PERL_MORE, "perl -"),
    "busybox-pipes": "busybox sh -c 'busybox seq 300 | busybox awk \"{ s += \\$1 } END { print s }\"; for i in 1 2 3; do busybox echo $i & done | busybox sort; wait; "
                     "busybox seq 3 | busybox xargs -n 1 busybox expr 1 +; busybox tar cf - /etc/passwd 2>/dev/null | busybox tar tf -; busybox find /usr/share/dict | busybox wc -l'",
    "zsh": "zsh -fc 'a=(3 1 2); print ${(on)a}; print -l ${(f)\"$(seq 3)\"}; diff =(seq 3) =(seq 2 4); cat <(echo x) <(echo y); seq 3 | while read n; do print $n; done; "
           "sleep 20 & kill $!; wait $!; print $?; print **/*(N) | wc -w'",
    "node": heredoc(NODE, "cat > n.js") + "node n.js",
    "bc-dc": "echo '2^200; scale=20; 4*a(1)' | bc -l; echo '10 k 2 v p' | dc",
    "more-pipes": "seq 200000 > n; cat n | tee c1 | gzip | gunzip | tee c2 | wc -l; cmp n c1 && cmp n c2 && echo same; "
                  "mkfifo p; sort -n p > s & cat n > p; wait; cmp n s && echo same; (seq 10; exit 3) | (read x; echo $x; cat | wc -l)",
    "wait-signal": "dd if=/dev/zero of=/dev/null bs=1 count=300000 2> e & wait; tail -n 1 e | cut -c 1-12",  # long in the host
    "lock-file": "for i in 1 2 3 4 5 6; do (flock 9; read n < c 2>/dev/null || n=0; echo $((n + i)) > c) 9> l & done; wait; cat c",
    "parallel-appends": "for i in 1 2 3 4 5 6; do (for j in 1 2 3 4 5; do echo $i$j >> f; done) & done; wait; sort f | md5sum",
    "ninja": "mkdir src; for i in 1 2 3 4 5 6; do echo \"int f$i(void) { return $i; }\" > src/$i.c; done; "
             "{ echo 'rule cc'; echo ' command = gcc -c $in -o $out'; for i in 1 2 3 4 5 6; do echo \"build $i.o: cc src/$i.c\"; done; } > build.ninja; "
             "ninja -j4 | wc -l; ninja; cat *.o | sha256sum",
    "tar-gzip": "mkdir t && cp -r /usr/include/linux t/; tar cf - --sort=name --mtime=@0 --owner=0 --group=0 t | sha256sum; "
                "tar czf x.tgz t && mkdir u && tar xzf x.tgz -C u && diff -r t u/t && echo same; gzip -dc x.tgz | tar tf - | wc -l",
    "git": "export GIT_AUTHOR_DATE='2001-01-01 00:00 +0000' GIT_COMMITTER_DATE='2001-01-01 00:00 +0000' HOME=$PWD; "
           "git config --global user.email a@b; git config --global user.name n; git config --global init.defaultBranch main; "
           "git init -q r && cd r && seq 100 > f && git add f && git commit -qm one && echo x >> f && git commit -qam two; "
           "cd .. && git clone -q r c && cd c && git log --format=%H && git fsck && git diff HEAD~1 --stat && git gc -q && "
           "git status --short | wc -l",
    "sqlite3": "sqlite3 d.db 'create table t(a,b); begin; insert into t values(1,2),(3,4); commit; select sum(a*b) from t;'; "
               "sqlite3 d.db 'insert into t values(5,6); select count(*) from t; pragma integrity_check;'",
    "busybox-static": "/bin/busybox sh -c 'echo $((2+3)); seq 10 | busybox sort -rn | busybox head -n 3; busybox uname; busybox ls /usr'",
    "go-static": "printf 'if true;then\\necho   x\\nfi\\n' | shfmt; echo 'if' | shfmt 2>&1; echo $?",
    "exit-codes": "sh -c 'exit 0'; echo $?; sh -c 'exit 255'; echo $?; sh -c 'kill -SEGV $$' 2>/dev/null; echo $?; "
                  "/no/such/program 2>/dev/null; echo $?; /etc/passwd 2>/dev/null; echo $?",
    "scripts": "printf '#!/bin/sh\\necho script $0 $1\\n' > s; chmod +x s; ./s arg; printf '#!/usr/bin/awk -f\\nBEGIN { print \"awk\" }\\n' > w; "
               "chmod +x w; ./w; printf 'echo plain\\n' > q; chmod +x q; sh -c ./q",
    "long-pipeline": "seq 100000 | cat | sort -rn | cat | uniq | wc -l",
    "timeout": "timeout 0.3 sleep 10; echo $?; timeout 5 true; echo $?",
    "env": "env -i A=1 B=2 /usr/bin/env | sort; A=x sh -c 'echo $A'; echo $(($(nice -n 5 nice) - $(nice)))",
    "links-and-paths": "mkdir -p d/e; ln -s ../d/e d/up; cd d/up; pwd -P; readlink -f ../up; ln -s loop loop; cat loop; echo $?",
    "deep-process-tree": "sh -c 'sh -c \"sh -c \\\"sh -c true; echo 4\\\"; echo 3\"; echo 2'; echo 1",
    "many-forks": "i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done; echo $i",
}
OPTIONAL = {"node": "node"} # not worth its size where it is missing
STRANGER = {"find", "find-root", "grep", "ls-l", "owners"}
NEEDS_ID_MAPPING = {"owners"} # without it all of the image is root's: docs/LIMITS.md
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"}


def missing(name):
    """Why a row cannot be compared on this machine; None: it can."""
    if name in OPTIONAL and not shutil.which(OPTIONAL[name]):
        return f"no {OPTIONAL[name]} here"
    if name in NEEDS_ID_MAPPING and not owners_are_shown("/"):
        return "overlayfs cannot be id-mapped"
    return None


def run_native(name, directory=WORK):
    """The row's Result on the host."""
    # a stranger: nobody, who has no right of root
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if name in STRANGER else []
    shutil.rmtree(directory, ignore_errors=True)
    os.mkdir(directory)
    os.chmod(directory, 0o755)
    if name in STRANGER:
        os.chown(directory, 65534, 65534)
    try:
        want = run([*prefix, "sh", "-c", f"cd {directory} || exit 99\n{PROGRAMS[name]}"], env=ENVIRONMENT, cwd="/", timeout=120)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    assert want.code != 99, want
    return want


def command(name):
    """What a container runs for the row."""
    return ["sh", "-c", f"mkdir {WORK} && cd {WORK} || exit 99\n{PROGRAMS[name]}"]


def environment_options():
    return [word for key, value in ENVIRONMENT.items() for word in ("-e", f"{key}={value}")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_as_native(lab, name):
    if reason := missing(name):
        pytest.skip(reason)
    want = run_native(name)
    strict = ["--strict"] if os.environ.get("DVS_TEST_STRICT") else []
    place = os.environ.get("DVS_TEST_PLACE", "spread")
    got = lab.dvs("run", "--rm", "--image", "host", "--place", place, *strict, *environment_options(), "--", *command(name), timeout=120)
    assert (got.code, got.out, got.err) == (want.code, want.out, want.err)
