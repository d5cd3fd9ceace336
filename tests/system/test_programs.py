# SPDX-License-Identifier: Apache-2.0
"""Unmodified programs with --place spread: the same output and exit code as natively. Each row is a shell command; it
runs in an empty directory of the same path in both places. Rows in STRANGER are compared with a native run that may
read only what the world may, as a container may. With $DVS_TEST_STRICT set, the containers run with --strict."""
import os
import shutil

import pytest

WORK = "/tmp/dvs-test-work"

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
                 "-o -path /root -o -path /home -o -path /.dvs \\) -prune -o -print 2>/dev/null | wc -l",
    "ls-l": "ls -l /usr/bin | sha256sum; ls -lR /usr/share/perl* | sha256sum; ls -ld /etc /usr/bin/passwd",
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
    "env": "env -i A=1 B=2 /usr/bin/env | sort; A=x sh -c 'echo $A'; nice -n 5 nice",
    "links-and-paths": "mkdir -p d/e; ln -s ../d/e d/up; cd d/up; pwd -P; readlink -f ../up; ln -s loop loop; cat loop; echo $?",
    "deep-process-tree": "sh -c 'sh -c \"sh -c \\\"sh -c true; echo 4\\\"; echo 3\"; echo 2'; echo 1",
    "many-forks": "i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done; echo $i",
}
STRANGER = {"find", "find-root", "grep", "ls-l"}
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_as_native(lab, native, name):
    script = f"mkdir {WORK} && cd {WORK} || exit 99\n{PROGRAMS[name]}"
    # a stranger: nobody, who has no right of root
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if name in STRANGER else []
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        want = native(*prefix, "sh", "-c", script, env=ENVIRONMENT, cwd="/", timeout=120)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    assert want.code != 99, want
    options = [word for key, value in ENVIRONMENT.items() for word in ("-e", f"{key}={value}")]
    strict = ["--strict"] if os.environ.get("DVS_TEST_STRICT") else []
    got = lab.dvs("run", "--rm", "--image", "host", "--place", "spread", *strict, *options, "--", "sh", "-c", script, timeout=120)
    assert (got.code, got.out, got.err) == (want.code, want.out, want.err)
