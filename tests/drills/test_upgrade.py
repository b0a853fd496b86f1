"""An upgrade from one minor to the next under a client that counts, and under power cuts; by name.

    .venv/bin/python -m bundle build --kubernetes 1.36.3
    .venv/bin/python -m pytest tests/drills/test_upgrade.py -s

BAREKUBE_SEED chooses the moments and hosts (it is printed), BAREKUBE_CUTS how many are taken.
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from barekube import doors, versions
from lab.paths import DISKS, KUBECONFIG
from tests.drills.test_power_cuts import LOGS, NAMES, _copy, _pyinfra
from tests.lab.conftest import PYINFRA, Run
from tests.lab.recorder import repository_root, run_lab, ssh

SEED = os.environ.get("BAREKUBE_SEED", "1")
CUTS = int(os.environ.get("BAREKUBE_CUTS", "20"))
# So many fall into one upgrade: the second into the run that has to finish after the first, ...
IN_ONE = 4
# Each within so many seconds of its run; one that is not cut off takes some 450 here.
WINDOW = 240
# For so long it has no power, unless the run ends before: SSH has given up by then, and a run that
# waits for the node sees it come back.
DARK = 60
OLD, NEW = versions.FORMER["kubernetes"], versions.KUBERNETES
DEPLOYED = LOGS / "deployed-disks"
NODE_PORT = 30080
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
_CACHE = Path.home() / ".cache/barekube"
_OUTSIDE = [str(_CACHE / "bin/kubectl"), "--kubeconfig", str(KUBECONFIG)]
_SHOP = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      terminationGracePeriodSeconds: 30
      # A drained worker's pod needs another that takes it: the lab has one beside the edge host.
      tolerations: [{key: EDGE, operator: Exists}]
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector: {matchLabels: {app: shop}}
      containers:
        - name: shop
          image: IMAGE
          # It serves on while its address is taken out of the Service everywhere.
          args: [netexec, --http-port=8080, --delay-shutdown=15]
          readinessProbe: {httpGet: {path: /hostname, port: 8080}, periodSeconds: 2}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  type: NodePort
  selector: {app: shop}
  ports: [{port: 80, targetPort: 8080, nodePort: PORT}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: shop}
spec: {MINIMUM, selector: {matchLabels: {app: shop}}}
"""


def _shop(minimum: int) -> None:
    text = _SHOP.replace("IMAGE", versions.IMAGES["agnhost"]).replace("PORT", str(NODE_PORT))
    text = text.replace("EDGE", doors.TAINT["key"])
    text = text.replace("MINIMUM", f"minAvailable: {minimum}")
    ssh("cp-1", f"{KUBECTL} apply -f - <<'END'\n{text}\nEND")
    ssh("cp-1", f"{KUBECTL} rollout status deployment/shop --timeout=150s")


class Client:
    """Asks a Service all the time, and counts; notes what is behind it, and since when, for whoever
    has to find out why a request failed."""

    def __init__(self) -> None:
        self.asked = 0
        self.failed: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._run, self._note)]

    def __enter__(self) -> "Client":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _note(self) -> None:
        """Write each change of what is behind the Service."""
        ask = ["get", "endpointslices", "-l", "kubernetes.io/service-name=shop", "-o", "json"]
        before = None
        with (LOGS / "endpoints.log").open("w") as log:
            while not self._end.wait(0.5):
                done = subprocess.run([*_OUTSIDE, *ask], capture_output=True, check=False)
                items = json.loads(done.stdout or "{}").get("items", [])
                now = [
                    (
                        each["targetRef"]["name"],
                        each["nodeName"],
                        each["addresses"],
                        each["conditions"],
                    )
                    for item in items
                    for each in item.get("endpoints") or []
                ]
                if now != before:
                    before = now
                    print(time.strftime("%X"), done.stderr or now, file=log, flush=True)

    def _run(self) -> None:
        while not self._end.wait(0.1):
            self.asked += 1
            try:
                url = f"http://10.77.0.11:{NODE_PORT}/hostname"
                urllib.request.urlopen(url, timeout=10).read()
            except (OSError, urllib.error.URLError) as error:
                self.failed.append(f"{time.strftime('%X')} {error}")

    def told(self, run: Run) -> str:
        ends = f", {self.failed[0]} to {self.failed[-1]}" if self.failed else ""
        return f"\n{run.seconds:.0f} s, {self.asked} requests, {len(self.failed)} failed{ends}"


@pytest.fixture(scope="module")
def deployed() -> Iterator[Path]:
    """The disks of a lab of the former version, with a workload."""
    LOGS.mkdir(parents=True, exist_ok=True)
    run_lab("down")
    run_lab("up")
    run = _pyinfra("deploys/site.py", "-y", "--data", f"kubernetes_version={OLD}")
    assert run.status == 0, run.text[-6000:]
    print(f"\nsite.py with {OLD}: {run.seconds:.0f} s")
    run_lab("kubeconfig")
    _shop(minimum=1)
    for name in NAMES:
        run_lab("ssh", name, "sync")
    for name in NAMES:
        run_lab("power-off", name)
    shutil.rmtree(DEPLOYED, ignore_errors=True)
    _copy(DISKS, DEPLOYED)
    yield DEPLOYED
    shutil.rmtree(DEPLOYED)


def _restore() -> None:
    for name in NAMES:
        run_lab("power-off", name)
    shutil.rmtree(DISKS)
    _copy(DEPLOYED, DISKS)
    for name in NAMES:
        run_lab("power-on", name)
    end = time.monotonic() + 300
    while time.monotonic() < end:
        try:
            ssh("cp-1", f"{KUBECTL} rollout status deployment/shop --timeout=100s")
        except (AssertionError, subprocess.TimeoutExpired):
            time.sleep(2)
            continue
        # What the API says of pods can be from before the power went: their answers cannot.
        with Client() as client:
            time.sleep(20)
        if not client.failed:
            return
    raise AssertionError("the restored lab does not come up")


def _versions() -> dict[str, str]:
    nodes = json.loads(ssh("cp-1", f"{KUBECTL} get nodes -o json"))["items"]
    assert not [n for n in nodes if n["spec"].get("unschedulable")]
    return {n["metadata"]["name"]: n["status"]["nodeInfo"]["kubeletVersion"] for n in nodes}


# What an upgrade makes and takes away again.
_LEFT = (
    "ls -d /etc/kubernetes/tmp /etc/kubernetes/.barekube-new /var/lib/barekube/*.new 2>/dev/null;"
    " dpkg --audit; find /etc/kubernetes -type f -empty ! -name .kubelet-keep"
)


def _is_done() -> None:
    assert _versions() == dict.fromkeys(NAMES, f"v{NEW}")
    assert {name: ssh(name, f"{_LEFT}; true") for name in NAMES} == dict.fromkeys(NAMES, "")
    jobs = ssh("cp-1", f"{KUBECTL} get jobs -n kube-system -o name")
    assert jobs == ""
    for stage in ("deploys/upgrade.py", "deploys/site.py"):
        again = _pyinfra(stage, "--dry", "--json")
        assert again.status == 0, again.text[-6000:]
        assert again.would_change() == {}, stage


def test_what_site_py_says_on_a_cluster_of_another_version(deployed: Path) -> None:
    _restore()
    run = _pyinfra("deploys/site.py", "-y")
    assert run.status == 1
    assert f"it runs Kubernetes {OLD} and group_data says {NEW}; run deploys/upgrade.py" in run.text
    assert _versions() == dict.fromkeys(NAMES, f"v{OLD}")


def test_a_budget_that_blocks_is_named_before_anything_is_changed(deployed: Path) -> None:
    _restore()
    _shop(minimum=2)
    run = _pyinfra("deploys/upgrade.py", "-y")
    assert run.status == 1
    assert "PodDisruptionBudget default/shop lets no pod go, and shop-" in run.text
    assert _versions() == dict.fromkeys(NAMES, f"v{OLD}")
    assert ssh("cp-1", "ls -d /var/lib/barekube/backup-* 2>/dev/null || true") == ""


def test_an_upgrade_of_a_minor_fails_no_request_and_leaves_nothing_to_do(deployed: Path) -> None:
    _restore()
    with Client() as client:
        run = _pyinfra("deploys/upgrade.py", "-y")
    print(client.told(run))
    (LOGS / "upgrade.log").write_text(run.text)
    assert run.status == 0, run.text[-8000:]
    assert client.failed == []
    assert client.asked > run.seconds
    assert f"all {len(NAMES)} nodes run {NEW}" in run.text
    snapshot = ssh(
        "cp-1", "stat -c '%a %s' /var/lib/barekube/backup-*/etcd.db /var/lib/barekube/b*"
    )
    assert snapshot.splitlines()[0].startswith("600 ")
    assert snapshot.splitlines()[-1].startswith("700 ")
    _is_done()


def _cut(number: int) -> bool:
    """Upgrade, and take a host's power meanwhile; False if the run was at its end before."""
    chance = random.Random(f"{SEED}-upgrade-{number}")
    moment = chance.random() * WINDOW
    # Half of them where there is most to break, the first of an upgrade among them.
    name = chance.choice(NAMES) if number % 2 else "cp-1"
    log = LOGS / f"upgrade-{SEED}-{number}.log"
    with log.open("w") as file:
        run = subprocess.Popen(
            [*PYINFRA, "deploys/upgrade.py", "-y"],
            cwd=repository_root(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            status = run.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            run_lab("power-off", name)
        else:
            assert status == 0, log.read_text()[-8000:]
            return False
        began = time.monotonic()
        if number % 4 == 2:
            # Its operator has seen enough, and begins anew as soon as the machine is back.
            run.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(timeout=DARK)
        run_lab("power-on", name)
        run.wait(timeout=1800)
    went_on = time.monotonic() - began
    print(
        f"  cut {number}: {name} after {moment:.1f} s; status {run.returncode}, {went_on:.0f} s"
        " later",
        flush=True,
    )
    assert "Traceback" not in log.read_text(), log.read_text()[-6000:]
    return True


def test_an_upgrade_that_lost_a_hosts_power_again_and_again_is_finished_by_the_next_run(
    deployed: Path,
) -> None:
    print(f"\nseed {SEED}", flush=True)
    taken = 0
    moments = itertools.count()
    while taken < CUTS:
        _restore()
        for number in itertools.islice(moments, min(IN_ONE, CUTS - taken)):
            if not _cut(number):
                print(f"  the upgrade was over before cut {number}", flush=True)
                break
            taken += 1
        again = _pyinfra("deploys/upgrade.py", "-y")
        (LOGS / f"upgrade-{SEED}-{number}-again.log").write_text(again.text)
        print(f"  last run: {again.seconds:.0f} s, status {again.status}", flush=True)
        assert again.status == 0, again.text[-8000:]
        _is_done()
    print(f"  {taken} cuts taken", flush=True)


def test_maintenance_reboots_one_machine_at_a_time_and_fails_no_request(deployed: Path) -> None:
    _restore()
    data = ["--data", f"kubernetes_version={OLD}"]
    before = {name: ssh(name, "cat /proc/sys/kernel/random/boot_id") for name in NAMES}
    said = _pyinfra("deploys/maintain.py", "-y", *data)
    assert said.status == 0, said.text[-4000:]
    with Client() as client:
        # The client asks through cp-1, which is left out.
        run = _pyinfra(
            "deploys/maintain.py", "-y", "--data", "reboot=true", *data, "--limit", "workers"
        )
    print(client.told(run))
    assert run.status == 0, run.text[-8000:]
    assert client.failed == []
    after = {name: ssh(name, "cat /proc/sys/kernel/random/boot_id") for name in NAMES}
    assert [name for name in NAMES if before[name] != after[name]] == NAMES[1:]
