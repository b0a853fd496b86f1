"""Power cuts over a whole site.py that starts from bare machines; run by name, hours long.

    .venv/bin/python -m pytest tests/drills/test_power_cuts.py -s

BAREKUBE_SEED chooses the moments and hosts (it is printed), BAREKUBE_CUTS how many are spread over
the whole run. One run takes several, for a lost machine stops no other. Half as many more fall into
kubeadm's init and joins, from machines that have their packages already.
"""

import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.paths import DISKS
from tests.lab.conftest import PYINFRA, Run, run_pyinfra
from tests.lab.recorder import repository_root, run_lab, ssh

SEED = os.environ.get("BAREKUBE_SEED", "1")
CUTS = int(os.environ.get("BAREKUBE_CUTS", "20"))
LOGS = Path.home() / ".cache/barekube/drills"
# How long site.py takes from bare machines here, in seconds.
WHOLE_RUN = 225
# How long init or the joins take, and what pyinfra says when they begin.
KUBEADM = {"cp-1": (45, "Control plane on cp-1"), "worker-1": (25, "Join the workers")}
PREPARED = LOGS / "prepared-disks"
NAMES = ["cp-1", "worker-1", "worker-2"]


def _pyinfra(*words: str) -> Run:
    return run_pyinfra([*PYINFRA, *words], seconds=1500)


Cut = tuple[float, str]


def cuts_by_run(seed: str, count: int, seconds: float) -> list[list[Cut]]:
    """(moment, host) of `count` cuts with equal shares of a run of `seconds`, dealt out to runs.

    A run loses each host once, and cp-1 last: it ends soon after, for nothing joins without it.
    """
    chance = random.Random(seed)
    runs: list[list[Cut]] = []
    for number in range(count):
        cut = ((number + chance.random()) * seconds / count, chance.choice(NAMES))
        for run in runs:
            if {cut[1], "cp-1"}.isdisjoint(name for _, name in run):
                run.append(cut)
                break
        else:
            runs.append([cut])
    return runs


@pytest.mark.parametrize("cuts", cuts_by_run(SEED, CUTS, WHOLE_RUN), ids=str)
def test_a_run_that_lost_a_hosts_power_is_finished_by_the_next(cuts: list[Cut]) -> None:
    run_lab("down")
    run_lab("up")
    title = f"{SEED}-{cuts[0][0]:.0f}"
    _cut(title, "Loading config", cuts)
    _finish(title)


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    """The disks of machines to which every stage before kubeadm's was applied."""
    run_lab("down")
    run_lab("up")
    for stage in ("host", "runtime", "kubernetes_packages"):
        run = _pyinfra(f"deploys/{stage}.py", "-y")
        assert run.status == 0, run.text[-4000:]
    for name in NAMES:
        run_lab("ssh", name, "sync")
        run_lab("power-off", name)
    shutil.rmtree(PREPARED, ignore_errors=True)
    _copy(DISKS, PREPARED)
    yield PREPARED
    shutil.rmtree(PREPARED)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)


@pytest.mark.parametrize("number", range(CUTS // 2))
def test_a_kubeadm_that_lost_its_power_is_finished_by_the_next_run(
    prepared: Path, number: int
) -> None:
    chance = random.Random(f"{SEED}-kubeadm-{number}")
    # Two of three at init: there is more to break.
    name = "worker-1" if number % 3 == 2 else "cp-1"
    length, begins = KUBEADM[name]
    moment = (number + chance.random()) * length / (CUTS // 2)
    for each in NAMES:
        run_lab("power-off", each)
    shutil.rmtree(DISKS)
    _copy(prepared, DISKS)
    for each in NAMES:
        run_lab("power-on", each)
    _cut(f"{SEED}-kubeadm-{number}", begins, [(moment, name)])
    _finish(f"{SEED}-kubeadm-{number}")


def _cut(title: str, begins: str, cuts: list[Cut]) -> None:
    """Take hosts' power, each so many seconds after pyinfra says what `begins`; give it back."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{title}-cut.log"
    print(f"\nseed {SEED}, {title}, counted from {begins!r}:", flush=True)
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
        began = time.monotonic()
        for moment, name in cuts:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            run_lab("power-off", name)
            during = re.findall("Starting.*operation: (.*)", log.read_text())
            # A run may end soon after its first cut, but not before it.
            ended = "" if run.poll() is None else ", when the run had ended"
            assert not ended or name != cuts[0][1], f"no cut: the run ended before {moment:.0f} s"
            where = during[-1] if during else "connecting"
            print(f"  {name} after {moment:.1f} s: {where}{ended}", flush=True)
        run.wait(timeout=900)
    assert "Traceback" not in log.read_text(), log.read_text()[-6000:]
    for _, name in cuts:
        run_lab("power-on", name)


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
    run_lab("power-off", "worker-2")
    run_lab("power-on", "worker-2")
    assert before.endswith("/fs/agnhost\n")
    assert ssh("worker-2", digest) == before
