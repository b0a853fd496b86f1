"""Power cuts over a whole site.py that starts from bare machines; run by name, hours long.

    .venv/bin/python -m pytest tests/drills/test_power_cuts.py -s

BAREKUBE_SEED chooses the moments and hosts (it is printed), BAREKUBE_CUTS how many there are.
Half of them are spread over the whole run, half fall into kubeadm's init and joins, from machines
that have their packages already.
"""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.paths import DISKS
from tests.lab.conftest import PYINFRA, Run
from tests.lab.recorder import repository_root, ssh

LAB = [".venv/bin/python", "-m", "lab"]
SEED = os.environ.get("BAREKUBE_SEED", "1")
CUTS = int(os.environ.get("BAREKUBE_CUTS", "20"))
LOGS = Path.home() / ".cache/barekube/drills"
# How long site.py takes from bare machines here, in seconds.
WHOLE_RUN = 240
# How long init or the joins take, and what pyinfra says when they begin.
KUBEADM = {"cp-1": (45, "Control plane on cp-1"), "worker-1": (25, "Join the workers")}
PREPARED = LOGS / "prepared-disks"
NAMES = ["cp-1", "worker-1", "worker-2"]


def _lab(*words: str) -> None:
    subprocess.run([*LAB, *words], cwd=repository_root(), check=True, timeout=600)


def _pyinfra(*words: str) -> Run:
    began = time.monotonic()
    done = subprocess.run(
        [*PYINFRA, *words],
        cwd=repository_root(),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    return Run(done, time.monotonic() - began)


@pytest.mark.parametrize("number", range(CUTS // 2))
def test_a_run_that_lost_a_hosts_power_is_finished_by_the_next(number: int) -> None:
    chance = random.Random(f"{SEED}-{number}")
    # Spread over the whole run: each cut has its own share of it.
    moment = (number + chance.random()) * WHOLE_RUN / (CUTS // 2)
    name = chance.choice(NAMES)
    print(f"\nseed {SEED}, cut {number}: {name} after {moment:.1f} s", flush=True)
    _lab("down")
    _lab("up")
    _cut(f"{SEED}-{number}", name, "Loading config", moment)
    _finish(f"{SEED}-{number}")


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    """The disks of machines to which every stage before kubeadm's was applied."""
    _lab("down")
    _lab("up")
    for stage in ("host", "runtime", "kubernetes_packages"):
        run = _pyinfra(f"deploys/{stage}.py", "-y")
        assert run.status == 0, run.text[-4000:]
    for name in NAMES:
        _lab("ssh", name, "sync")
        _lab("power-off", name)
    shutil.rmtree(PREPARED, ignore_errors=True)
    _copy(DISKS, PREPARED)
    yield PREPARED
    shutil.rmtree(PREPARED)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)


@pytest.mark.parametrize("number", range(CUTS - CUTS // 2))
def test_a_kubeadm_that_lost_its_power_is_finished_by_the_next_run(
    prepared: Path, number: int
) -> None:
    chance = random.Random(f"{SEED}-kubeadm-{number}")
    # Two of three at init: there is more to break.
    name = "worker-1" if number % 3 == 2 else "cp-1"
    length, begins = KUBEADM[name]
    moment = (number + chance.random()) * length / (CUTS - CUTS // 2)
    print(f"\nseed {SEED}, kubeadm {number}: {name} {moment:.1f} s into it", flush=True)
    for each in NAMES:
        _lab("power-off", each)
    shutil.rmtree(DISKS)
    _copy(prepared, DISKS)
    for each in NAMES:
        _lab("power-on", each)
    _cut(f"{SEED}-kubeadm-{number}", name, begins, moment)
    _finish(f"{SEED}-kubeadm-{number}")


def _cut(title: str, name: str, begins: str, moment: float) -> None:
    """Take the power of a host `moment` seconds after pyinfra says what `begins`."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{title}-cut.log"
    with log.open("w") as file:
        run = subprocess.Popen(
            [*PYINFRA, "deploys/site.py", "-y"],
            cwd=repository_root(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        while begins not in log.read_text():
            assert run.poll() is None, log.read_text()[-4000:]
            time.sleep(0.05)
        time.sleep(moment)
        _lab("power-off", name)
        run.wait(timeout=900)
    assert "Traceback" not in log.read_text(), log.read_text()[-6000:]
    _lab("power-on", name)


def _finish(title: str) -> None:
    """One more run makes the cluster, and another finds nothing to do."""
    again = _pyinfra("deploys/site.py", "-y")
    (LOGS / f"{title}-again.log").write_text(again.text)
    print(f"  re-run: {again.seconds:.0f} s, status {again.status}", flush=True)
    assert again.status == 0, again.text[-8000:]
    assert _pyinfra("deploys/site.py", "--dry", "--json").would_change() == {}


def test_an_image_that_was_pulled_just_before_a_power_cut_is_whole_afterwards() -> None:
    image = "registry.k8s.io/e2e-test-images/agnhost:2.66.1"
    layers = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
    digest = f"cd {layers} && find . -maxdepth 3 -path '*/fs/agnhost' -exec cksum {{}} +"
    ssh("worker-2", f"crictl rmi {image} >/dev/null 2>&1 || true; crictl pull {image}")
    before = ssh("worker-2", digest)
    _lab("power-off", "worker-2")
    _lab("power-on", "worker-2")
    assert before.endswith("/fs/agnhost\n")
    assert ssh("worker-2", digest) == before
