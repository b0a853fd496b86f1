"""A node leaves and comes back, a dead one is replaced, and a reset host is what it was.

    .venv/bin/python -m pytest tests/drills/test_removal.py -s

On the lab as `make lab` leaves it, with worker-3 beside. It says what it did.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from lab.disks import root_disk
from lab.hosts import load
from tests.lab.conftest import Deploy, Run
from tests.lab.recorder import host_state, run_lab, ssh

EXTRA = "worker-3"
_WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: moved, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: moved}}
  template:
    metadata: {labels: {app: moved}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - {name: web, image: "registry.k8s.io/e2e-test-images/agnhost:2.66.1", args: [netexec]}
"""
_BUDGET = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: tight, namespace: default}
spec: {minAvailable: 1, selector: {matchLabels: {app: moved}}}
"""


def _nodes(kubectl: list[str]) -> list[str]:
    get = [*kubectl, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"]
    return sorted(subprocess.run(get, capture_output=True, text=True, check=True).stdout.split())


def settled(name: str) -> set[str]:
    """What a reset has to bring back: all but Debian's own packages and what they brought, and the
    kernel's parameters, which last until the next boot."""
    links = {f"net {each}" for each in ssh(name, "ls /sys/class/net").split()}
    state = host_state(name) | links
    return {
        # Not when: a file from which lines were taken out again is as it was.
        re.sub(r"^(file \d+ \S+) \S+", r"\1", line)
        for line in state
        if line.startswith(("file ", "link ", "table "))
        and any(
            word in line
            for word in (
                "kube",
                "weave",
                "cni",
                "containerd",
                "crictl",
                "barekube",
                "swap",
                "hosts",
            )
        )
    } | {line for line in state if line.startswith(("package kube", "net "))}


@pytest.fixture(scope="module")
def third(site: Run, deploy: Deploy, kubectl: list[str]) -> Iterator[set[str]]:
    """worker-3 in the cluster, a fresh machine; its state before it joined."""
    subprocess.run([*kubectl, "delete", "node", "worker-3", "--ignore-not-found"], check=True)
    run_lab("power-off", "worker-3", seconds=300)
    root_disk(load().host("worker-3")).unlink(missing_ok=True)
    run_lab("up", "worker-3", seconds=300)
    before = settled("worker-3")
    done = deploy("deploys/site.py", "-y", extra=EXTRA)
    assert done.status == 0, done.text[-6000:]
    yield before
    run_lab("power-off", "worker-3", seconds=300)
    subprocess.run([*kubectl, "delete", "node", "worker-3", "--ignore-not-found"], check=True)


def test_a_budget_that_holds_a_pod_keeps_the_node(
    third: set[str], deploy: Deploy, kubectl: list[str]
) -> None:
    web = _WEB.replace("      containers:", "      nodeName: worker-3\n      containers:")
    subprocess.run(
        [*kubectl, "apply", "-f", "-"], input=web + "---" + _BUDGET, text=True, check=True
    )
    wait = [*kubectl, "rollout", "status", "deploy/moved", "--timeout=120s"]
    subprocess.run(wait, check=True)
    try:
        done = deploy("deploys/remove_node.py", "-y", "--data", "node=worker-3", extra=EXTRA)
        assert done.status == 1
        assert "is held by the budget tight" in done.text
        assert "it is not reset, for cp-1 failed; see above" in done.text
        get = [*kubectl, "get", "node", "worker-3", "-o", "json"]
        node = json.loads(subprocess.run(get, capture_output=True, check=True).stdout)
        assert "unschedulable" not in node["spec"]
        assert ssh("worker-3", "systemctl is-active kubelet") == "active\n"
    finally:
        names = ["deploy/moved", "pdb/tight"]
        subprocess.run([*kubectl, "delete", *names], check=True)


def test_a_node_leaves_is_what_it_was_and_joins_again(
    third: set[str], deploy: Deploy, kubectl: list[str]
) -> None:
    done = deploy("deploys/remove_node.py", "-y", "--data", "node=worker-3", extra=EXTRA)
    assert done.status == 0, done.text[-6000:]
    print(f"removed in {done.seconds:.0f} s")
    assert "worker-3" not in _nodes(kubectl)
    after = settled("worker-3")
    assert after == third, sorted(after ^ third)
    left = ssh("worker-3", "ls /sys/class/net; iptables-save; cat /proc/mounts; ps -e -o comm")
    for word in ("weave", "datapath", "KUBE-", "containerd", "kubelet"):
        assert word not in left, left
    assert "warning" not in done.text
    again = deploy("deploys/remove_node.py", "-y", "--data", "node=worker-3", extra=EXTRA)
    assert again.status == 0, again.text[-4000:]
    assert "unchanged:     4" in again.text
    back = deploy("deploys/site.py", "-y", extra=EXTRA)
    assert back.status == 0, back.text[-6000:]
    print(f"back in {back.seconds:.0f} s")
    assert "worker-3" in _nodes(kubectl)


def test_a_dead_node_goes_and_a_fresh_machine_takes_its_name(
    third: set[str], deploy: Deploy, kubectl: list[str]
) -> None:
    run_lab("power-off", "worker-3", seconds=300)
    wait = ["wait", "--for=condition=Ready=Unknown", "node/worker-3", "--timeout=120s"]
    subprocess.run([*kubectl, *wait], check=True)
    began = time.monotonic()
    done = deploy("deploys/remove_node.py", "-y", "--data", "node=worker-3")
    assert done.status == 0, done.text[-6000:]
    print(f"a dead one was removed in {time.monotonic() - began:.0f} s")
    assert "worker-3" not in _nodes(kubectl)
    # Another machine: a disk, a machine-id and host keys of its own.
    root_disk(load().host("worker-3")).unlink()
    run_lab("up", "worker-3", seconds=300)
    back = deploy("deploys/site.py", "-y", extra=EXTRA)
    assert back.status == 0, back.text[-6000:]
    assert "worker-3" in _nodes(kubectl)
    seen = deploy("deploys/verify.py", "-y", extra=EXTRA)
    assert seen.status == 0, seen.text[-4000:]
