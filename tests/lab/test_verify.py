"""verify.py sees what is broken, by name, and nothing else."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab import pod_network
from lab.hosts import load
from tests.lab.conftest import Deploy, Run
from tests.lab.recorder import ssh

WEAVE = pod_network.manifests() == pod_network.WEAVE
SPACE = "barekube-verify"


def _failed(run: Run) -> dict[str, set[str]]:
    """{host: titles of the checks that failed there}."""
    found: dict[str, set[str]] = {}
    for host, title in re.findall(r"\[([\w-]+)\] +FAILED: ([^,]+),", run.text):
        found.setdefault(host, set()).add(title)
    assert (run.status != 0) == bool(found), run.text[-4000:]
    return found


@contextmanager
def _rule(name: str, hook: str, rule: str) -> Iterator[None]:
    """A rule of nftables on one host, before addresses are translated."""
    ssh(name, "nft add table inet cut")
    ssh(name, f"nft 'add chain inet cut c {{ type filter hook {hook} priority -200; }}'")
    ssh(name, f"nft add rule inet cut c {rule}")
    try:
        yield
    finally:
        ssh(name, "nft delete table inet cut")


def test_a_whole_cluster_passes_and_nothing_is_left_not_even_of_a_crash(
    deploy: Deploy, kubectl: list[str], names: list[str]
) -> None:
    subprocess.run([*kubectl, "create", "namespace", SPACE], check=True)
    there = [*kubectl, "get", "namespace", SPACE, "-o", "jsonpath={.metadata.uid}"]
    uid = subprocess.run(there, capture_output=True, text=True, check=True).stdout
    # A look makes nothing, and removes nothing.
    assert deploy("deploys/verify.py", "-y", "--data", "look=true").status == 0
    assert subprocess.run(there, capture_output=True, text=True, check=True).stdout == uid
    run = deploy("deploys/verify.py", "-y")
    assert run.status == 0, run.text[-4000:]
    assert _failed(run) == {}
    summed = re.search(r"ok: (\d+), FAILED: 0, not checked: (\d+)", run.text)
    assert summed
    count, pairs = len(names), len(names) * (len(names) - 1)
    # Without Weave its three checks are named as not made, and without Rook its two.
    # Five of each door, two more of each, two of the network page, and all certificates and all
    # names at once.
    doors = 2 * (5 + 2) + 2 * WEAVE + 2
    assert int(summed[1]) == (8 if not WEAVE else 11) * count + pairs + doors
    assert int(summed[2]) == (0 if WEAVE else 3 * count) + 2
    assert subprocess.run(there, capture_output=True, check=False).returncode != 0


Change = Callable[[list[str]], bool]


@contextmanager
def _wrong(kubectl: list[str], *changes: Change) -> Iterator[None]:
    """Each change is tried again and again until what verify makes is there."""
    done = threading.Event()

    def work() -> None:
        left = list(changes)
        while left and not done.wait(0.3):
            left = [change for change in left if not change(kubectl)]

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _policy_lets_nobody_in(kubectl: list[str]) -> bool:
    patch = '{"spec": {"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "x"}}}]}]}}'
    words = ["-n", SPACE, "patch", "networkpolicy", "closed", "--type=merge", "-p", patch]
    return subprocess.run([*kubectl, *words], capture_output=True, check=False).returncode == 0


def _policy_is_gone(kubectl: list[str]) -> bool:
    words = ["-n", SPACE, "delete", "networkpolicy", "closed"]
    return subprocess.run([*kubectl, *words], capture_output=True, check=False).returncode == 0


def _ingress_by_path_is_gone(kubectl: list[str]) -> bool:
    words = ["-n", "smoke", "delete", "ingress", "by-path"]
    return subprocess.run([*kubectl, *words], capture_output=True, check=False).returncode == 0


# What is internal is put online under its own name, and by a certificate that is not there; the
# path of the other one is asked for by nobody.
_MISTAKES = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: mistaken, namespace: online}
spec:
  ingressClassName: public
  tls:
    - {hosts: [mistaken.example.com], secretName: nowhere}
  rules:
    - host: smoke.cluster.internal
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: smoke, port: {number: 80}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: rightful, namespace: online}
spec:
  ingressClassName: internal
  rules:
    - host: smoke.cluster.internal
      http:
        paths:
          - path: /nowhere
            pathType: Prefix
            backend: {service: {name: smoke, port: {number: 80}}}
"""
_CLASH = (
    "smoke.cluster.internal is wanted by both doors: Ingress online/rightful and, online,"
    " online/mistaken"
)


def test_a_service_a_node_port_a_host_port_a_door_and_a_policy_are_each_seen_where_they_fail(
    deploy: Deploy, kubectl: list[str], names: list[str]
) -> None:
    with (
        _rule("worker-1", "prerouting", "ip daddr 10.96.0.0/12 tcp dport 80 drop"),
        _rule("worker-2", "output", "tcp dport 30000-32767 drop"),
        _rule("cp-1", "output", "tcp dport 38080 drop"),
        _wrong(kubectl, _policy_lets_nobody_in, _ingress_by_path_is_gone),
    ):
        found = _failed(deploy("deploys/verify.py", "-y"))
    wanted = {"worker-1": {"Service"}, "worker-2": {"NodePort"}, "cp-1": {"hostPort"}}
    wanted["worker-1"].add("Ingress by path")
    if WEAVE:
        wanted = {name: {*titles, "policy lets in"} for name, titles in wanted.items()}
    assert found == wanted


def test_names_a_policy_and_what_is_online_by_mistake_are_each_seen(
    deploy: Deploy, kubectl: list[str], names: list[str]
) -> None:
    scale = [*kubectl, "-n", "kube-system", "scale", "deployment/coredns"]
    subprocess.run([*scale, "--replicas=0"], check=True)
    subprocess.run([*kubectl, "apply", "-f", "-"], input=_MISTAKES, text=True, check=True)
    try:
        with _wrong(kubectl, _policy_is_gone), _rule("worker-1", "prerouting", _NO_HTTP):
            run = deploy("deploys/verify.py", "-y")
    finally:
        delete = [*kubectl, "-n", "online", "delete", "ingress", "mistaken", "rightful"]
        subprocess.run(delete, check=True)
        subprocess.run([*scale, "--replicas=2"], check=True)
        wait = [*kubectl, "-n", "kube-system", "rollout", "status", "deployment/coredns"]
        subprocess.run(wait, check=True, timeout=180)
    wanted = {name: {"DNS", *(["policy keeps out"] if WEAVE else [])} for name in names}
    wanted["cp-1"] |= {"doors' certificates", "doors' names"}
    wanted["worker-1"].add("http to https")
    wanted["worker-2"].add("nothing internal")
    assert _failed(run) == wanted
    assert _CLASH in run.text


# The door's port, and not that of a Service behind it.
_NO_HTTP = f"ip daddr {load().host('worker-1').address} tcp dport 80 drop"


def test_a_pair_that_is_cut_is_seen_from_both_ends(deploy: Deploy, site: Run) -> None:
    mac = load().host("worker-2").mac
    with _rule("worker-1", "prerouting", f"ether saddr {mac} drop"):
        # Weave misses a peer after some missed heartbeats.
        end = time.monotonic() + 180
        while WEAVE and not _failed(deploy("deploys/verify.py", "-y", "--data", "look=true")):
            assert time.monotonic() < end, "Weave does not notice"
        found = _failed(deploy("deploys/verify.py", "-y"))
    while _failed(deploy("deploys/verify.py", "-y", "--data", "look=true")):
        assert time.monotonic() < end + 180, "Weave does not come back to its fast way"
    if WEAVE:
        # Weave leads the pair's packets by cp-1, and says so.
        assert found == {"worker-1": {"fast datapath"}, "worker-2": {"fast datapath"}}
    else:
        assert found == {"worker-1": {"pods on worker-2"}, "worker-2": {"pods on worker-1"}}


def _only_one_way_is_cut(kubectl: list[str]) -> bool:
    words = ["-n", SPACE, "get", "pods", "-l", "app=probe", "-o", "json"]
    done = subprocess.run([*kubectl, *words], capture_output=True, text=True, check=False)
    pods = json.loads(done.stdout or "{}").get("items", [])
    found = {pod["spec"].get("nodeName"): pod["status"].get("podIP") for pod in pods}
    near, far = found.get("worker-1"), found.get("worker-2")
    if not near or not far:
        return False
    rule = f"ip saddr {near} ip daddr {far} tcp dport 8080 drop"
    ssh("worker-1", f"nft 'flush chain inet cut c; add rule inet cut c {rule}'")
    return True


# Wider than wanted until the probes' addresses are known, lest one way be tried before it is cut.
# What the host sends itself, as kubelet's probes, passes.
_NO_WAY = "ip saddr 10.32.0.0/12 ip daddr 10.32.0.0/12 tcp dport 8080 drop"


@pytest.mark.skipif(not WEAVE, reason="needs Weave: without it a cut pair is just that")
def test_pods_that_are_not_reached_are_seen_though_the_nodes_are_connected(
    deploy: Deploy, kubectl: list[str]
) -> None:
    with (
        _rule("worker-1", "prerouting", _NO_WAY),
        _wrong(kubectl, _only_one_way_is_cut),
    ):
        found = _failed(deploy("deploys/verify.py", "-y"))
    assert found == {"worker-1": {"pods on worker-2"}}


def _certificate(days: int) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "short")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=days))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_a_clock_a_certificate_and_a_disk_are_each_seen_on_their_host(
    deploy: Deploy, site: Run
) -> None:
    # Chrony would mend the clock and kubelet act on the disk, before it is looked at.
    ssh("worker-1", "systemctl stop chrony; date -s '+20 seconds'")
    ssh("worker-2", f"cat >/etc/kubernetes/pki/short.crt <<'E'\n{_certificate(20)}E")
    ssh("cp-1", "systemctl stop kubelet")
    left = "$(($(df -k --output=avail /var | tail -n 1) - $(df -k --output=size /var | tail -n 1)"
    ssh("cp-1", f"fallocate -l {left} * 14 / 100))K /var/full")
    try:
        found = _failed(deploy("deploys/verify.py", "-y", "--data", "look=true"))
    finally:
        ssh("cp-1", "rm -f /var/full; systemctl start kubelet")
        ssh("worker-2", "rm -f /etc/kubernetes/pki/short.crt")
        ssh("worker-1", "date -s '-20 seconds'; systemctl start chrony")
    assert found == {"worker-1": {"clock"}, "worker-2": {"certificates"}, "cp-1": {"disk"}}


def test_a_node_that_is_not_ready_is_seen(deploy: Deploy, kubectl: list[str]) -> None:
    ssh("worker-2", "systemctl stop kubelet")
    try:
        wait = ["wait", "--for=condition=Ready=Unknown", "node/worker-2", "--timeout=120s"]
        subprocess.run([*kubectl, *wait], check=True)
        found = _failed(deploy("deploys/verify.py", "-y", "--data", "look=true"))
        apart = deploy("deploys/verify.py", "-y", "--limit", "worker-1")
    finally:
        ssh("worker-2", "systemctl start kubelet")
        wait = ["wait", "--for=condition=Ready", "node/worker-2", "--timeout=120s"]
        subprocess.run([*kubectl, *wait], check=True)
    assert found == {"worker-2": {"node"}}
    # What could not be tried is named by who would have tried it.
    assert "not checked: pods on worker-2, none that is to answer runs there" in apart.text
