# SPDX-License-Identifier: Apache-2.0
"""Clusters that grow and shrink while they run: who may join, by what, and what a new node has then."""
import os
import shutil
import signal
import stat
import subprocess
import time

import pytest
from dvslab import BUILD, DVS, Lab, clean_env, run, wait_for


@pytest.fixture(scope="module")
def cluster():
    one = Lab()
    try:
        yield one.up(2)
    finally:
        one.end()


def state(lab, *path):
    return os.path.join("/var/lib/dvs/lab", lab.name, *path)


def token(lab, *options):
    return lab.ok("--node", "a", "cluster", "token", *options).strip()


def address(lab, host):
    """An address in the lab's network."""
    first = next(node["address"] for node in lab.json("lab", "status")["nodes"] if node["name"] == "a")
    return f"{first.rsplit('.', 1)[0]}.{host}:7070"


@pytest.fixture
def outsider(cluster, tmp_path):
    """outsider(name, *words): dvs cluster join, run in b's network with directories of its own."""
    def join(name, *words, **options):
        where = tmp_path / name
        return run(["nsenter", f"--net=/run/netns/dvs-{cluster.name}-b", DVS, "cluster", "join", "--node", name, "--state", str(where),
                    "--corosync", str(where), "--listen", address(cluster, 50), *words], env=clean_env(), **options)
    return join


def names(lab):
    return [node["name"] for node in lab.json("--node", "a", "cluster", "ls")["nodes"]]


# ---- who may not

def test_wrong_tokens(cluster, outsider):
    good = token(cluster)
    head, where, expires, fingerprint, secret = good.split("/")

    def refused(text, why):
        result = outsider("x", text)
        assert result.code != 0 and why in result.err, result
    refused("/".join([head, where, expires, "0" * 64, secret]), "is not the one that the token is from")
    refused("/".join([head, where, expires, fingerprint, "0" * 32]), "used already, or has expired")
    refused("/".join([head, where, "1600000000", fingerprint, secret]), "the token has expired")
    refused(good[:-1], "is no token")
    # the cluster's clock decides, whatever the token says
    short = token(cluster, "--ttl", "1")
    wait_for(lambda: cluster.json("--node", "a", "cluster", "ls")["tokens"] == 1, 10, "the token's end")
    parts = short.split("/")
    refused("/".join([head, where, str(int(time.time()) + 1000), fingerprint, parts[4]]), "used already, or has expired")
    assert names(cluster) == ["a", "b"]


def test_token_of_a_node_without_the_authority(cluster):
    result = cluster.dvs("--node", "b", "cluster", "token")
    assert result.code == 5 and "the key of the cluster's certificate authority is not on node b" in result.err


def test_token_is_good_once(cluster, outsider, tmp_path):
    good = token(cluster)
    taken = outsider("b", good)
    assert taken.code != 0 and "there is a node b" in taken.err, taken
    first = outsider("x", "-", stdin=good + "\n")  # what came to nothing did not use it up
    assert first.code == 0, first
    second = outsider("y", good)
    assert second.code != 0 and "used already" in second.err, second
    assert not (tmp_path / "y" / "cluster.json").exists()
    # x has all that it needs, and its key is its own
    assert stat.S_IMODE(os.stat(tmp_path / "x" / "tls" / "node.key").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "x" / "authkey").st_mode) == 0o400
    assert (tmp_path / "x" / "authkey").read_bytes() == open(state(cluster, "a", "authkey"), "rb").read()
    assert not (tmp_path / "x" / "tls" / "ca.key").exists()
    again = outsider("x", token(cluster))
    assert again.code == 4 and "there is a" in again.err, again
    for node in ("a", "b"):
        with open(state(cluster, node, "corosync.conf"), encoding="utf-8") as file:
            assert "name: x\n" in file.read()
    # it never starts: nobody else can join until it is taken out
    assert names(cluster) == ["a", "b", "x"]
    waits = outsider("z", token(cluster))
    assert waits.code == 5 and "node x is down" in waits.err, waits
    assert cluster.dvs("--node", "a", "cluster", "leave", "b").code == 4
    cluster.ok("--node", "a", "cluster", "leave", "x")
    assert names(cluster) == ["a", "b"]
    for node in ("a", "b"):
        with open(state(cluster, node, "corosync.conf"), encoding="utf-8") as file:
            assert "name: x\n" not in file.read()


# ---- who may

def test_node_joins_while_the_cluster_works(own_lab):
    """Counting goes on across a and b while c comes; then c has a part in new containers, and is counted for quorum."""
    lab = own_lab.up(2)
    count = 100000
    process = lab.start("--node", "a", "run", "--rm", "--image", "host", "--place", "node=a", "bash", "-c",
                        f"seq {count} | DVS_PLACE=node=b cat | wc -l; read -t 1 < /dev/zero; echo on $(DVS_PLACE=node=b hostname)")
    lab.ok("lab", "add", "c")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and out.split()[0] == str(count).encode(), (out, err)
    assert lab.node_states() == {"a": "up", "b": "up", "c": "up"}
    assert lab.ok("--node", "c", "run", "--rm", "--image", "host", "--place", "node=a", "echo", "from c to a") == "from c to a\n"
    assert lab.ok("--node", "a", "run", "--rm", "--image", "host", "--place", "node=c", "echo", "from a to c") == "from a to c\n"
    lab.ok("lab", "kill", "b")
    wait_for(lambda: lab.node_states()["b"] == "down", 10, "the loss of b")
    assert all(node["quorate"] for node in lab.json("node", "ls") if node["state"] == "up")  # two of three
    taken = lab.dvs("lab", "add", "d")
    assert taken.code == 5 and "node b is down" in taken.err, taken
    lab.ok("lab", "start", "b")
    wait_for(lambda: lab.node_states()["b"] == "up", 10, "b")


ALONE = """
set -e
mount -t tmpfs run /run && mkdir /run/lock
mount -t tmpfs shm /dev/shm
ip link set lo up
"$DVS" cluster init --name solo --node first --listen 127.0.0.1:7070 --state "$PLACE" --corosync "$PLACE"
corosync -f -c "$PLACE/corosync.conf" & c=$!
"$DVKD" --state "$PLACE" --run /run/dvs --libexec "$LIBEXEC" 2> "$PLACE/dvkd.log" & d=$!
export DVS_RUN=/run/dvs
for i in $(seq 200); do
    "$DVS" node ls 2> /dev/null | grep -q 'up     yes' && break
    read -t 0.05 <> <(:) || :
done
"$DVS" cluster ls --format json
"$DVS" cluster token > "$PLACE/token"
kill $d $c
wait
"""


def test_cluster_of_one_is_made(tmp_path):
    """dvs cluster init, corosync and dvkd as they are then started: a cluster with quorum, which gives out tokens."""
    if not shutil.which("corosync"):
        pytest.skip("no corosync")
    env = clean_env(DVS=DVS, DVKD=os.path.join(BUILD, "src/dvkd/dvkd"), LIBEXEC=os.path.join(BUILD, "src/proxy"), PLACE=str(tmp_path))
    process = subprocess.Popen(["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--ipc", "--uts", "bash", "-c", ALONE],
                               env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        out, err = process.communicate(timeout=40)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    log = (tmp_path / "dvkd.log").read_text()
    assert process.returncode == 0, (out, err, log)
    assert b'"cluster": "solo"' in out and b'"authority": true' in out and b'"state": "up"' in out, out
    assert (tmp_path / "token").read_text().startswith("dvs1/127.0.0.1:7070/")
    assert "this node has quorum" in log
    for name in ("tls/ca.key", "tls/node.key"):
        assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600
