"""Workers of other CPUs beside an x86 control plane, emulated, one at a time; run by name.

    .venv/bin/python -m bundle build --arch amd64 --arch arm64 --arch arm --kubernetes 1.36.3
    .venv/bin/python -m pytest -s tests/drills/test_mixed.py

It starts the lab anew for each, with cp-1 and the board alone: a cluster of the former release, and
its upgrade. It prints how long each step took and what a board of 1 GiB has left.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from barekube import versions
from lab.hosts import load
from tests.lab.conftest import PYINFRA, Run
from tests.lab.recorder import repository_root, run_lab, ssh

MASTER = "cp-1"
BOARDS = {"arm64-1": "arm64", "armv7-1": "arm"}
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
OLD, NEW = versions.FORMER["kubernetes"], versions.KUBERNETES
# Emulated, everything takes some ten times as long.
_HOURS = 3 * 3600
# What the README says that a board of 1 GiB carries beside what every node runs, in MiB.
CARRIED = 200
_LOAD = """\
apiVersion: v1
kind: Pod
metadata: {name: load}
spec:
  nodeName: BOARD
  containers:
    - name: load
      image: IMAGE
      # A file in memory counts as the pod's own memory.
      command: [sh, -c, "dd if=/dev/zero of=/memory/full bs=1M count=FULL && exec sleep 1d"]
      readinessProbe: {exec: {command: [sh, -c, "[ $(stat -c %s /memory/full) = BYTES ]"]}}
      resources: {requests: {memory: CARRIEDMi}, limits: {memory: CARRIEDMi}}
      volumeMounts: [{name: memory, mountPath: /memory}]
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
"""


def _lab(*words: str) -> float:
    began = time.monotonic()
    run_lab(*words, seconds=_HOURS)
    return time.monotonic() - began


def _deploy(board: str, *words: str) -> Run:
    began = time.monotonic()
    limit = ["--limit", MASTER, "--limit", board]
    done = subprocess.run(
        ["env", f"BAREKUBE_LAB_EXTRA={board}", *PYINFRA, *words, *limit],
        cwd=repository_root(),
        capture_output=True,
        text=True,
        timeout=_HOURS,
        check=False,
    )
    run = Run(done, time.monotonic() - began)
    print(f"{board}: {' '.join(words)}: {run.seconds:.0f} s, status {run.status}", flush=True)
    return run


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> Iterator[str]:
    """A board with power beside a control plane, both bare; afterwards without."""
    name = str(request.param)
    _lab("down")
    print(f"\n{name}: up in {_lab('up', MASTER, name):.0f} s", flush=True)
    yield name
    _lab("power-off", name)


def _memory(board: str) -> str:
    lines = ssh(board, "cat /proc/meminfo").splitlines()
    values = {
        name: int(rest.split()[0]) // 1024 for name, _, rest in (x.partition(":") for x in lines)
    }
    return f"{values['MemAvailable']} of {values['MemTotal']} MB of memory available"


def _node(board: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ssh(MASTER, f"{KUBECTL} get node {board} -o json"))
    return found


def _carries(board: str) -> None:
    """The pod runs, full, and the board is not short of memory for as long as kubelet takes to
    notice (it looks each 10 s)."""
    full = CARRIED - 10
    text = _LOAD.replace("CARRIED", str(CARRIED)).replace("FULL", str(full))
    text = text.replace("BYTES", str(full << 20)).replace("BOARD", board)
    text = text.replace("IMAGE", versions.IMAGES["busybox"])
    ssh(MASTER, f"{KUBECTL} apply -f - <<'END'\n{text}\nEND")
    ssh(MASTER, f"{KUBECTL} wait --for=condition=Ready pod/load --timeout=170s")
    time.sleep(60)
    print(f"{board}: with {full} MiB of a pod in use, {_memory(board)}")
    conditions = {each["type"]: each["status"] for each in _node(board)["status"]["conditions"]}
    assert conditions["MemoryPressure"] == "False"
    assert conditions["Ready"] == "True"
    ssh(MASTER, f"{KUBECTL} wait --for=condition=Ready pod/load --timeout=1s")
    ssh(MASTER, f"{KUBECTL} delete pod load --timeout=150s")


def test_a_worker_of_another_cpu_joins_is_proven_is_upgraded_and_goes(board: str) -> None:
    arch = BOARDS[board]
    assert load().host(board).arch == arch
    print(f"{board}: bare, {_memory(board)}")
    old = ["--data", f"kubernetes_version={OLD}"]
    # Told before anything is changed, as on every machine.
    preview = _deploy(board, "deploys/site.py", "--dry", *old)
    assert preview.status == 0, preview.text[-6000:]
    site = _deploy(board, "deploys/site.py", "-y", *old)
    assert site.status == 0, site.text[-6000:]
    node = _node(board)
    assert node["metadata"]["labels"]["kubernetes.io/arch"] == arch
    assert node["status"]["nodeInfo"]["architecture"] == arch
    assert node["status"]["nodeInfo"]["kubeletVersion"] == f"v{OLD}"
    said = ssh(board, "dpkg --print-architecture").strip()
    assert said == versions.DEBIAN_ARCHITECTURES[arch]
    print(f"{board}: a node, {_memory(board)}; allocatable {node['status']['allocatable']}")
    # No pod waits for an image or a node of another architecture.
    pods = json.loads(ssh(MASTER, f"{KUBECTL} get pods -A -o json"))["items"]
    assert {pod["status"]["phase"] for pod in pods} == {"Running"}, pods
    again = _deploy(board, "deploys/site.py", "--dry", "--json", *old)
    assert again.would_change() == {}
    _carries(board)
    verify = _deploy(board, "deploys/verify.py", "-y", *old)
    print(verify.text[-4000:])
    assert verify.status == 0
    upgrade = _deploy(board, "deploys/upgrade.py", "-y")
    assert upgrade.status == 0, upgrade.text[-6000:]
    assert _node(board)["status"]["nodeInfo"]["kubeletVersion"] == f"v{NEW}"
    for stage in ("deploys/upgrade.py", "deploys/site.py"):
        again = _deploy(board, stage, "--dry", "--json")
        assert again.would_change() == {}, stage
    looked = _deploy(board, "deploys/verify.py", "-y")
    assert looked.status == 0, looked.text[-4000:]
    _lab("power-off", board)
    wait = f"{KUBECTL} wait --for=condition=Ready=Unknown node/{board} --timeout=150s"
    assert "condition met" in ssh(MASTER, wait)
