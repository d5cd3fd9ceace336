# SPDX-License-Identifier: Apache-2.0
"""Links between nodes: what can be read on the wire, who is refused and why, and that a connection that breaks under traffic
loses and repeats nothing."""
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys

import pytest
from dvslab import Lab, host_pids, run, wait_for

MARKER = "plaintextmarker"
CAPTURE = """
import select, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
s.bind(("v1", 0))
print("ready", flush=True)
seen = frames = 0
while True:
    ready = select.select([s, sys.stdin], [], [])[0]
    if s in ready:
        packet = s.recv(1 << 17)
        seen += MARKER in packet
        frames += b"DVSP" in packet
    elif sys.stdin in ready:
        break
print(seen, frames)
"""


@pytest.fixture(scope="module")
def links():
    """Two nodes whose certificates and keys the tests may change, if they put them back."""
    one = Lab()
    try:
        yield one.up(2)
    finally:
        one.end()


def state(lab, *path):
    return os.path.join("/var/lib/dvs/lab", lab.name, *path)


def log(lab, node):
    with open(state(lab, node, "dvkd.log"), encoding="utf-8", errors="replace") as file:
        return file.read()


def in_network(lab, node, *args, **options):
    return subprocess.Popen(["nsenter", f"--net=/run/netns/dvs-{lab.name}-{node}", *args], **options)


def captured(lab):
    """How many packets to or from node a showed the marker, and how many a frame's header, while b counted the marker's bytes."""
    script = CAPTURE.replace("MARKER", repr(MARKER.encode()), 1)
    capture = in_network(lab, "sw", sys.executable, "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert capture.stdout.readline() == "ready\n"
        command = f"for i in {{1..200}}; do echo {MARKER}; done | DVS_PLACE=node=b cat | sort | uniq -c"
        out = lab.ok("--node", "a", "run", "--rm", "--image", "host", "--place", "node=a", "bash", "-c", command)
        assert out.split() == ["200", MARKER]
        return tuple(map(int, capture.communicate("", timeout=20)[0].split()))
    finally:
        capture.kill()
        capture.wait()


def test_nothing_is_read_on_the_wire(links):
    nodes = {node["name"]: node for node in links.json("--node", "a", "node", "ls")}
    assert nodes["b"]["link"] == "tls" and nodes["a"]["link"] == ""
    assert captured(links) == (0, 0)


# ---- refusals

def certificate(lab, authority, uri, start="20200101000000Z", end="20400101000000Z"):
    """A new key and certificate in a directory of their own; its path."""
    where = state(lab, "made")
    os.makedirs(where, exist_ok=True)
    if authority is None:
        authority = where
        assert run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=other",
                    "-keyout", f"{where}/ca.key", "-out", f"{where}/ca.crt"]).code == 0
    with open(f"{where}/conf", "w", encoding="utf-8") as file:
        file.write(f"[ca]\ndefault_ca=x\n[x]\ndatabase={where}/index\nnew_certs_dir={where}\nrand_serial=yes\nunique_subject=no\n"
                   f"default_md=sha256\npolicy=p\nx509_extensions=e\n[p]\ncommonName=optional\n[e]\nsubjectAltName=URI:{uri}\n")
    with open(f"{where}/index", "w", encoding="utf-8"):
        pass
    assert run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=b",
                "-keyout", f"{where}/node.key", "-out", f"{where}/csr"]).code == 0
    made = run(["openssl", "ca", "-batch", "-notext", "-config", f"{where}/conf", "-in", f"{where}/csr", "-out", f"{where}/node.crt",
                "-startdate", start, "-enddate", end, "-cert", f"{authority}/ca.crt", "-keyfile", f"{authority}/ca.key"])
    assert made.code == 0, made
    return where


REFUSALS = {
    "of no authority of ours": (lambda lab: certificate(lab, None, f"dvs://{lab.name}/2/b"),
                                "its certificate is not of this cluster's authority",
                                "it refuses us: our certificate is not of its cluster's authority"),
    "expired": (lambda lab: certificate(lab, state(lab, "a", "tls"), f"dvs://{lab.name}/2/b", end="20200201000000Z"),
                "its certificate has expired", "it refuses us: our certificate has expired"),
    "of another cluster": (lambda lab: certificate(lab, state(lab, "a", "tls"), "dvs://elsewhere/2/b"),
                           "it refuses us: our certificate names no node of its cluster",
                           "its certificate names no node of this cluster"),
}


def proxy_restart(lab, node):
    """dvkd starts another, which reads the certificates anew."""
    for pid in host_pids(lab, node, "dvs-proxy"):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("kind", REFUSALS)
def test_certificate_is_refused(links, kind):
    """Node b (which connects to a) shows a certificate that will not do; both sides say why; with the right one it is back."""
    make, at_a, at_b = REFUSALS[kind]
    made, own = make(links), state(links, "b", "tls")
    kept = {name: open(f"{own}/{name}", "rb").read() for name in ("node.crt", "node.key")}
    before = {node: len(log(links, node)) for node in "ab"}
    try:
        for name in kept:
            with open(f"{own}/{name}", "wb") as to, open(f"{made}/{name}", "rb") as source:
                to.write(source.read())
        proxy_restart(links, "b")
        wait_for(lambda: at_a in log(links, "a")[before["a"]:], 15, f"a's log: {at_a}")
        wait_for(lambda: at_b in log(links, "b")[before["b"]:], 15, f"b's log: {at_b}")
        assert "connected" not in log(links, "a")[before["a"]:].split(at_a)[1]
    finally:
        for name, contents in kept.items():
            with open(f"{own}/{name}", "wb") as to:
                to.write(contents)
        proxy_restart(links, "b")
    wait_for(lambda: runs_on_b(links), 20, "messages to b")


def runs_on_b(lab):
    return lab.dvs("--node", "a", "run", "--rm", "--image", "host", "--place", "node=b", "hostname").code == 0


def test_node_that_says_it_is_another(links):
    """b's own certificate, and a hello that says node 3: refused with a word to both."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(state(links, "b", "tls", "ca.crt"))
    context.load_cert_chain(state(links, "b", "tls", "node.crt"), state(links, "b", "tls", "node.key"))
    context.set_alpn_protocols(["dvs-link/1"])
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    lab_net = os.open(f"/run/netns/dvs-{links.name}-b", os.O_RDONLY)
    address = next(node["address"] for node in links.json("lab", "status")["nodes"] if node["name"] == "a")
    before = len(log(links, "a"))
    try:
        enter(lab_net)
        raw = socket.create_connection((address, 7070), 5)
    finally:
        enter(own)
        os.close(own)
        os.close(lab_net)
    with context.wrap_socket(raw) as connection:
        assert connection.version() == "TLSv1.3"
        hello = struct.pack("<IIQQQ64s", 3, 0, 77, 0, 0, links.name.encode())
        connection.sendall(struct.pack("<IHHIIQQQIiII", 0x50535644, 1, 1, 1, len(hello), 0, 0, 0, 0, 0, 0, 0) + hello)
        answer = connection.recv(4096)
    assert struct.unpack_from("<IHH", answer)[2] == 24
    assert b"your certificate is of node 2 (b), not of node 3" in answer
    wait_for(lambda: "its certificate is of node 2 (b), but it says that it is node 3" in log(links, "a")[before:], 5, "a's log")


def enter(fd):
    import ctypes
    assert ctypes.CDLL(None, use_errno=True).setns(fd, 0x40000000) == 0


def link_to(lab, node, to):
    return next(link for link in lab.json("--node", node, "node", "ls", "--links") if link["name"] == to)


def test_link_that_breaks_under_traffic(links):
    """The connection is reset again and again while a pipe's bytes cross it: each arrives once, in order."""
    count, before, counted = 300000, len(log(links, "a")), link_to(links, "a", "b")
    process = links.start("--node", "a", "run", "--rm", "--image", "host", "--place", "node=a", "bash", "-c",
                          f"seq {count} | DVS_PLACE=node=b cat | md5sum")
    while process.poll() is None:
        run(["nsenter", f"--net=/run/netns/dvs-{links.name}-a", "ss", "-K", "sport", "=", "7070"])
    expected = run(["bash", "-c", f"seq {count} | md5sum"]).out
    assert process.stdout.read().decode() == expected, process.stderr.read()
    assert log(links, "a")[before:].count("connected again") > 1
    after = link_to(links, "a", "b")
    assert after["connections"] > counted["connections"] + 1
    table = links.ok("--node", "a", "node", "ls", "--links").splitlines()
    assert table[0].split()[:3] == ["TO", "STATE", "CIPHER"] and table[1].split()[0] == "b"


def test_stopped_servers_stall_only_those_who_ask_them(links):
    """The servers of container x on b stand still while forty programs on a write through them; container y works between the
    same nodes, through the same proxies. When x's go on, all that was written is there."""
    links.ok("--node", "b", "run", "-d", "--name", "x", "--image", "host", "--place", "node=b", "sleep", "1000")
    stopped = host_pids(links, "b", "dvs-vos")
    assert len(stopped) == 1
    script = ("for i in {1..40}; do dd if=/dev/zero of=/f$i bs=64k count=20 2> /dev/null & done; echo started; wait; "
              "cat /f* | wc -c")
    try:
        writers = links.start("exec", "-e", "DVS_PLACE=node=a", "x", "/.dvs/bin/onnode", "a", "bash", "-c", script)
        assert writers.stdout.readline() == b"started\n"
        os.kill(stopped[0], signal.SIGSTOP)
        try:
            for _ in range(3):
                out = links.ok("--node", "a", "run", "--rm", "--image", "host", "--place", "node=a", "bash", "-c",
                               "seq 20000 | DVS_PLACE=node=b cat | tail -1", timeout=20)
                assert out == "20000\n"
            assert writers.poll() is None
        finally:
            os.kill(stopped[0], signal.SIGCONT)
        out, err = writers.communicate(timeout=30)
        assert (writers.returncode, out) == (0, b"%d\n" % (40 * 20 * 65536)), err
    finally:
        links.ok("rm", "-f", "x")


def test_slow_network_gets_compressed_bodies(links):
    """Behind 30 Mbit/s bodies shrink; what arrives is what was sent, and both sides have counted it."""
    rule = ["nsenter", f"--net=/run/netns/dvs-{links.name}-a", "tc", "qdisc"]
    before, received = link_to(links, "a", "b"), link_to(links, "b", "a")["bytes_in"]
    assert run([*rule, "add", "dev", "eth0", "root", "tbf", "rate", "30mbit", "burst", "64kb", "latency", "300ms"]).code == 0
    try:
        out = links.ok("--node", "a", "run", "--rm", "--image", "host", "--place", "node=a", "bash", "-c",
                       "for i in 1 2 3 4; do yes some text | head -c 8000000 | DVS_PLACE=node=b md5sum & done; wait")
    finally:
        assert run([*rule, "del", "dev", "eth0", "root"]).code == 0
    assert out == 4 * run(["bash", "-c", "yes some text | head -c 8000000 | md5sum"]).out
    after = link_to(links, "a", "b")
    assert after["cipher"].startswith("TLS_") and after["state"] == "joined"
    assert after["compressed_from"] - before["compressed_from"] > 4 * (after["compressed_to"] - before["compressed_to"]) > 0
    # less went over it than was sent, by far
    assert 0 < after["bytes_out"] - before["bytes_out"] < 20000000
    wait_for(lambda: link_to(links, "b", "a")["bytes_in"] - received >= after["bytes_out"] - before["bytes_out"], 5, "b's count")
    assert after["rtt_us"] > 0
