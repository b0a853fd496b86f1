"""Workers of other CPUs beside an x86 control plane, emulated, one at a time; run by name.

    .venv/bin/python -m bundle build --arch arm64 --arch arm
    .venv/bin/python -m pytest -s tests/drills/test_mixed.py

It starts the lab anew for each, with cp-1 and the board alone, and prints how long each step took
and what a board of 1 GiB has left.
"""

import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from barekube import versions
from lab.hosts import load
from tests.lab.conftest import PYINFRA, Run
from tests.lab.recorder import repository_root, run_lab, ssh

MASTER = "cp-1"
BOARDS = {"arm64-1": "arm64", "armv7-1": "arm"}
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
# Emulated, everything takes some ten times as long.
_HOURS = 3 * 3600


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


def test_a_worker_of_another_cpu_joins_is_proven_and_goes(board: str) -> None:
    arch = BOARDS[board]
    assert load().host(board).arch == arch
    print(f"{board}: bare, {_memory(board)}")
    # Told before anything is changed, as on every machine.
    preview = _deploy(board, "deploys/site.py", "--dry")
    assert preview.status == 0, preview.text[-6000:]
    site = _deploy(board, "deploys/site.py", "-y")
    assert site.status == 0, site.text[-6000:]
    node = json.loads(ssh(MASTER, f"{KUBECTL} get node {board} -o json"))
    assert node["metadata"]["labels"]["kubernetes.io/arch"] == arch
    assert node["status"]["nodeInfo"]["architecture"] == arch
    assert node["status"]["nodeInfo"]["kubeletVersion"] == f"v{versions.KUBERNETES}"
    said = ssh(board, "dpkg --print-architecture").strip()
    assert said == versions.DEBIAN_ARCHITECTURES[arch]
    print(f"{board}: a node, {_memory(board)}; allocatable {node['status']['allocatable']}")
    # No pod waits for an image or a node of another architecture.
    pods = json.loads(ssh(MASTER, f"{KUBECTL} get pods -A -o json"))["items"]
    assert {pod["status"]["phase"] for pod in pods} == {"Running"}, pods
    again = _deploy(board, "deploys/site.py", "--dry", "--json")
    assert again.would_change() == {}
    verify = _deploy(board, "deploys/verify.py", "-y")
    print(verify.text[-4000:])
    assert verify.status == 0
    _lab("power-off", board)
    wait = f"{KUBECTL} wait --for=condition=Ready=Unknown node/{board} --timeout=150s"
    assert "condition met" in ssh(MASTER, wait)
