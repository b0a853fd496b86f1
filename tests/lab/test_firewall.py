"""The firewall from outside and inside: what answers, what lasts, and what takes itself back."""

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from barekube import firewall
from barekube.cluster import Cluster, Node
from lab import shell
from lab.hosts import load
from lab.paths import NAMESPACE
from lab.wires import inside
from tests.lab.conftest import Deploy, Run
from tests.lab.recorder import host_state, ssh

EDGE, OUTER = "worker-2", "10.78.0.22"
# Somebody in the outer network, who is in no inventory; and a way that he tries.
STRANGER, SERVICE = "10.78.0.99", "10.96.0.1"
NODE_PORT = 30053
# Open to anybody; and closed, of which a NodePort, kube-proxy's health, and the network page.
OPEN, CLOSED = [22, 80, 443], [6443, 6783, 6786, 10250, 10256, NODE_PORT]
# Nobody listens on it: a host without a firewall says so.
UDP = 6785
# A negative number is a port of UDP.
_SCAN = """
import socket, sys
for port in map(int, sys.argv[2:]):
    try:
        if port > 0:
            socket.create_connection((sys.argv[1], port), timeout=3).close()
        else:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
                way.settimeout(3)
                way.connect((sys.argv[1], -port))
                way.send(b"?")
                way.recv(9)
        print("open")
    except ConnectionRefusedError:
        print("refused")
    except OSError:
        print("silent")
"""
_SEEN = f"""\
apiVersion: v1
kind: Service
metadata: {{name: scanned, namespace: kube-system}}
spec:
  type: NodePort
  selector: {{k8s-app: kube-dns}}
  ports: [{{port: 53, protocol: TCP, nodePort: {NODE_PORT}}}]
"""
STAGE = ["deploys/host.py", "-y"]
SHOW = f"nft list table {firewall.TABLE} 2>/dev/null || echo none"


def _ip(*words: str) -> None:
    subprocess.run(["ip", "-n", NAMESPACE, *words], check=True)


def _scan(address: str, *ports: int) -> dict[int, str]:
    words = inside(sys.executable, "-c", _SCAN, address, *map(str, ports))
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(ports, said, strict=True))


@pytest.fixture
def stranger(kubectl: list[str]) -> Iterator[None]:
    """An address in the outer network, a way by the edge host, and a NodePort to look for."""
    has = ssh(EDGE, "ip -4 -o address show dev vec1 || true")
    assert OUTER in has, f"{EDGE} has no outer card; `python -m lab down`, then up"
    subprocess.run([*kubectl, "apply", "-f", "-"], input=_SEEN, text=True, check=True)
    _ip("address", "replace", f"{STRANGER}/24", "dev", "br1")
    _ip("route", "replace", f"{SERVICE}/32", "via", OUTER)
    yield
    _ip("route", "delete", f"{SERVICE}/32")
    _ip("address", "delete", f"{STRANGER}/24", "dev", "br1")
    subprocess.run([*kubectl, "-n", "kube-system", "delete", "service", "scanned"], check=True)


@pytest.fixture
def edge(site: Run, stranger: None) -> None:
    """worker-2 is an edge host, as the lab's file says."""


def _closed() -> None:
    for scheme, wanted in (("http", "301"), ("https", "404")):
        assert _door(scheme, wanted) == wanted
    assert _scan(OUTER, *OPEN) == dict.fromkeys(OPEN, "open")
    assert _scan(OUTER, *CLOSED, -UDP) == dict.fromkeys([*CLOSED, -UDP], "silent")
    # Nor does it lead on to what is behind it under a port that is open.
    assert _scan(SERVICE, 443) == {443: "silent"}


def _door(scheme: str, wanted: str) -> str:
    """The status that the door gives a stranger: the wanted one, once its pod runs and has read
    its routes. After a boot that takes a while."""
    name, port = "nothing.example.com", {"http": 80, "https": 443}[scheme]
    asked = ["curl", "-sk", "--max-time", "5", "--resolve", f"{name}:{port}:{OUTER}"]
    command = inside(*asked, "-o", "/dev/null", "-w", "%{http_code}", f"{scheme}://{name}/")
    end = time.monotonic() + 180
    while True:
        status = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if status == wanted or time.monotonic() > end:
            return status
        time.sleep(1)


def test_a_stranger_finds_ssh_and_the_doors_and_a_deleted_table_is_drift(
    deploy: Deploy, edge: None
) -> None:
    _closed()
    before = host_state(EDGE)
    again = deploy(*STAGE, "--limit", EDGE)
    assert again.status == 0, again.text
    assert host_state(EDGE) == before
    # The scan can see: without the table these answer.
    ssh(EDGE, f"nft delete table {firewall.TABLE}")
    found = _scan(OUTER, 10250, 10256, NODE_PORT, -UDP)
    assert list(found.values()) == ["open", "open", "open", "refused"]
    assert _scan(SERVICE, 443) == {443: "open"}
    shown = deploy("deploys/host.py", "--dry", "--diff", "--limit", EDGE)
    assert f"table {firewall.TABLE}: loaded, if SSH still opens then" in shown.text
    assert ssh(EDGE, SHOW) == "none\n"
    assert deploy(*STAGE, "--limit", EDGE).status == 0
    _closed()


def test_a_rule_by_hand_is_shown_as_a_diff_and_goes_and_others_tables_stay(
    deploy: Deploy, edge: None
) -> None:
    ssh(EDGE, f"nft insert rule {firewall.TABLE} prerouting tcp dport 10250 accept")
    tables = ssh(EDGE, "nft list tables | sort")
    assert _scan(OUTER, 10250) == {10250: "open"}
    shown = deploy("deploys/host.py", "--dry", "--diff", "--limit", EDGE)
    assert "-\t\ttcp dport 10250 accept" in shown.text
    assert deploy(*STAGE, "--limit", EDGE).status == 0
    assert _scan(OUTER, 10250) == {10250: "silent"}
    assert ssh(EDGE, "nft list tables | sort") == tables


def test_the_table_is_there_after_a_power_cut(edge: None) -> None:
    lab = [".venv/bin/python", "-m", "lab"]
    subprocess.run([*lab, "power-off", EDGE], check=True)
    subprocess.run([*lab, "power-on", EDGE], check=True, timeout=120)
    # Loaded by its own unit, before anything that listens.
    assert ssh(EDGE, f"systemctl is-active {firewall.UNIT}") == "active\n"
    _closed()


def test_rules_that_shut_ssh_out_are_taken_back_by_the_host(edge: None) -> None:
    """The operation's own script, with rules that it would never make: SSH on a port of nobody."""
    strict = Cluster(
        name="lab",
        version="1.37.2",
        api_name="api.lab",
        api_port=6443,
        service_network="10.96.0.0/12",
        pod_network="10.32.0.0/12",
        nodes=(Node(EDGE, "10.77.0.22", False),),
    )
    text = firewall.rules(strict, 2, edge=True, trusted=[])
    # One that has a table of ours, and one that has none.
    for name in (EDGE, "worker-1"):
        before = ssh(name, SHOW)
        assert (before == "none\n") == (name == "worker-1")
        ssh(name, f"printf %s {shlex.quote(text)} | sh -ec {shlex.quote(firewall.LOAD)}")
        assert not shell.answers(load().host(name))
        end = time.monotonic() + firewall.SECONDS + 60
        while not shell.answers(load().host(name)):
            assert time.monotonic() < end, f"{name} stays shut"
            time.sleep(1)
        assert ssh(name, SHOW) == before
        # Too late to keep them.
        assert ssh(name, f"sh -ec {shlex.quote(firewall.KEEP)} 2>&1 || true").splitlines()[-1] == (
            "the rules were taken back meanwhile; run again"
        )


def test_a_change_cut_off_before_it_was_kept_is_made_again(deploy: Deploy, edge: None) -> None:
    """As if the run had ended between two commands: the wanted rules are there, about to go."""
    ssh(EDGE, f"sh -ec {shlex.quote(firewall.LOAD)} <{firewall.FILE}")
    done = deploy(*STAGE, "--limit", EDGE)
    assert f"table {firewall.TABLE}: loaded anew" in done.text
    kept = ssh(EDGE, SHOW)
    time.sleep(firewall.SECONDS + 5)
    assert ssh(EDGE, SHOW) == kept != "none\n"
