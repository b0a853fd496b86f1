"""Rook and Ceph as they are, over three machines with a raw disk each; by name.

    .venv/bin/python -m bundle add FILE     # each image and file of Rook's that it names
    .venv/bin/python -m pytest tests/drills/test_ceph.py -s

The images can be had from no registry here: they are built by hand, outside the project. A lab
that is up is taken down first: cp-1 and three storage hosts are the whole cluster.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import Run, run_pyinfra
from tests.lab.recorder import run_lab, ssh

HOSTS = ["storage-1", "storage-2", "storage-3"]
PYINFRA = [".venv/bin/pyinfra", "tests/drills/ceph_inventory.py", "--group-data", "lab/group_data"]
_OFF = "{disabled: true}"
_DAEMONS = f"{{mon: {_OFF}, mgr: {_OFF}, osd: {_OFF}}}"
# Of the manifests, for machines of the lab: what they have room for (Ceph's daemons fit themselves
# to their limits), and no probes. Rook's start a Python program, which takes longer there than it
# may: all would be killed.
_CHANGES = (
    (r"requests: \{.*\}", "requests: {cpu: 20m, memory: 64Mi}"),
    (r"limits: \{memory: 4Gi\}", "limits: {memory: 1536Mi}"),
    (
        r"    nodes: \[\]\n",
        "    nodes: NODES\n"
        f"  healthCheck:\n    livenessProbe: {_DAEMONS}\n    startupProbe: {_DAEMONS}\n",
    ),
    (
        r"    activeCount: 1\n",
        f"    activeCount: 1\n    livenessProbe: {_OFF}\n    startupProbe: {_OFF}\n",
    ),
)
# How long a dead storage host is one: Ceph counts its daemons as down after some 20 s.
DARK = 90
_WRITER = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: ledger}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 256Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  nodeName: NODE
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
    - name: it
      # It has a shell.
      image: quay.io/ceph/ceph:v20.2.4
      command: [bash, -c, SCRIPT]
      volumeMounts: [{name: volume, mountPath: /volume}]
  volumes:
    - {name: volume, persistentVolumeClaim: {claimName: ledger}}
"""
# Says a number once it is on the disk.
_WRITE = "for ((n = 1; ; n++)); do echo $n >>/volume/all && sync /volume/all && echo $n; done"
_READ = "cat /volume/all; echo end"


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """manifests/rook with these machines' disks, and less to ask of them; the machines are up."""
    result = tmp_path_factory.mktemp("manifests") / "rook"
    shutil.copytree("manifests/rook", result)
    run_lab("down")
    run_lab("up", "cp-1", *HOSTS)
    find = "for l in /dev/disk/by-path/*; do echo $(readlink -f $l) $l; done"
    nodes = []
    for host in HOSTS:
        paths = dict(line.split() for line in ssh(host, find).splitlines())
        nodes.append({"name": host, "devices": [{"name": paths["/dev/ubdb"]}]})
    for file in result.glob("*.yaml"):
        text = file.read_text()
        for old, new in _CHANGES:
            text = re.sub(old, new, text)
        file.write_text(text.replace("NODES", json.dumps(nodes)))
    yield result
    run_lab("down")


@pytest.fixture(scope="session")
def stage(directory: Path) -> Callable[..., Run]:
    def run(name: str, *words: str) -> Run:
        manifests = ["--data", f"storage_manifests={directory}"]
        done = run_pyinfra([*PYINFRA, f"deploys/{name}.py", *manifests, *words], seconds=3600)
        print(f"\n{name} {' '.join(words)}: status {done.status}, {done.seconds:.0f} s")
        return done

    return run


@pytest.fixture(scope="session")
def site(stage: Callable[..., Run]) -> Run:
    """The cluster with its storage, from bare machines; what the lab's kubectl is for."""
    run = stage("site", "-y")
    assert run.status == 0, run.text[-8000:]
    return run


def _said(kubectl: list[str], *words: str) -> str:
    done = subprocess.run([*kubectl, *words], capture_output=True, text=True, check=True)
    return done.stdout


def _ceph(kubectl: list[str], *words: str) -> str:
    return _said(kubectl, "-n", "rook-ceph", "exec", "deploy/ceph-tools", "--", "ceph", *words)


def _pod(kubectl: list[str], name: str, node: str, script: str) -> None:
    text = _WRITER.replace("NAME", name).replace("NODE", node)
    text = text.replace("SCRIPT", json.dumps(script))
    subprocess.run([*kubectl, "apply", "-f", "-"], input=text, text=True, check=True)


def _numbers(kubectl: list[str], name: str) -> list[str]:
    # A pod that has not begun says nothing.
    run = [*kubectl, "logs", name]
    return subprocess.run(run, capture_output=True, text=True, check=False).stdout.split()


def _until(what: str, seconds: float, there: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, what
        time.sleep(2)


def test_three_raw_disks_become_storage_and_a_second_run_changes_nothing(
    stage: Callable[..., Run], kubectl: list[str]
) -> None:
    print(_ceph(kubectl, "status"))
    print(_ceph(kubectl, "osd", "tree"))
    tree = json.loads(_ceph(kubectl, "osd", "tree", "--format", "json"))["nodes"]
    assert [each["status"] for each in tree if each["type"] == "osd"] == ["up"] * 3
    assert sorted(each["name"] for each in tree if each["type"] == "host") == HOSTS
    again = stage("storage", "-y")
    assert again.status == 0, again.text[-4000:]
    print(again.text)
    assert "unchanged:     4" in again.text
    whole = stage("site", "--dry", "--json")
    assert whole.status == 0, whole.text[-4000:]
    assert whole.would_change() == {}


def test_a_volume_is_read_on_another_node_and_a_shared_one_on_two(
    stage: Callable[..., Run],
) -> None:
    run = stage("verify", "-y")
    assert run.status == 0, run.text[-8000:]
    print("\n".join(re.findall(r".*volume.*", run.text)))
    assert "ok: volume moves, " in run.text
    assert "ok: shared volume, " in run.text


def test_its_disks_are_known_as_its_own_and_are_never_emptied(
    stage: Callable[..., Run],
) -> None:
    run = stage("preflight", "-y")
    assert run.status == 0, run.text[-4000:]
    assert len(re.findall(r"in use by OSD [0-2]", run.text)) == 3, run.text[-3000:]


def test_a_storage_host_loses_power_under_writes_and_nothing_is_lost(kubectl: list[str]) -> None:
    _pod(kubectl, "writer", "storage-1", _WRITE)
    _until("the writer begins", 300, lambda: len(_numbers(kubectl, "writer")) > 20)
    run_lab("power-off", "storage-3")
    before = len(_numbers(kubectl, "writer"))
    time.sleep(DARK)
    dark = len(_numbers(kubectl, "writer"))
    run_lab("power-on", "storage-3")

    def clean() -> bool:
        try:
            groups = json.loads(_ceph(kubectl, "status", "--format", "json"))["pgmap"]
        except subprocess.CalledProcessError:
            return False  # The toolbox may have been on it.
        return [each["state_name"] for each in groups["pgs_by_state"]] == ["active+clean"]

    _until("all placement groups are clean again", 900, clean)
    after = len(_numbers(kubectl, "writer"))
    _until("the writer goes on", 300, lambda: len(_numbers(kubectl, "writer")) > after + 20)
    said = _numbers(kubectl, "writer")
    _said(kubectl, "delete", "pod", "writer", "--wait")
    # By another machine, so from Ceph and no cache.
    _pod(kubectl, "reader", "storage-2", _READ)
    _until("the reader ends", 300, lambda: _numbers(kubectl, "reader")[-1:] == ["end"])
    found = _numbers(kubectl, "reader")[:-1]
    print(f"\n{len(said)} writes confirmed, {dark - before} of them in {DARK} s without storage-3")
    print(_ceph(kubectl, "status"))
    assert dark > before
    assert found[: len(said)] == said
    _said(kubectl, "delete", "pod/reader", "pvc/ledger", "--wait=false")


def test_a_storage_host_is_rebooted_and_volumes_are_there_again(
    stage: Callable[..., Run], kubectl: list[str]
) -> None:
    booted = ssh("storage-2", "cat /proc/sys/kernel/random/boot_id")
    run = stage("maintain", "-y", "--data", "reboot=true", "--limit", "storage-2")
    assert run.status == 0, run.text[-8000:]
    print(run.text[-2500:])
    assert ssh("storage-2", "cat /proc/sys/kernel/random/boot_id") != booted
    assert "HEALTH_ERR" not in _ceph(kubectl, "health")
    run = stage("verify", "-y")
    assert run.status == 0, run.text[-8000:]
