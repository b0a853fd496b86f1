"""Rook and Ceph as they are, on one more machine with two raw disks; by name.

    .venv/bin/python -m bundle add FILE     # each image and file of Rook's that it names
    .venv/bin/python -m pytest tests/drills/test_ceph.py -s

The images can be had from no registry here: they are built by hand, outside the project.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.drills.test_power_cuts import _lab
from tests.lab.conftest import Deploy, Run
from tests.lab.recorder import ssh

HOST = "storage-1"
# What a machine of the lab has room for; Ceph's daemons fit themselves to their limits.
_SMALLER = (
    ("memory: 4Gi", "memory: 1536Mi"),
    ("memory: 1Gi", "memory: 640Mi"),
    ("cpu: 500m", "cpu: 50m"),
    ("cpu: 250m", "cpu: 50m"),
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """manifests/rook-small with this machine's two disks, and smaller requests."""
    os.environ["BAREKUBE_LAB_STORAGE"] = HOST
    result = tmp_path_factory.mktemp("manifests") / "rook"
    shutil.copytree("manifests/rook-small", result)
    _lab("up", HOST)
    find = "for l in /dev/disk/by-path/*; do echo $(readlink -f $l) $l; done"
    paths = dict(line.split() for line in ssh(HOST, find).splitlines())
    devices = [{"name": paths[f"/dev/ubd{letter}"]} for letter in "bc"]
    for file in result.glob("*.yaml"):
        text = file.read_text()
        for old, new in _SMALLER:
            text = text.replace(old, new)
        nodes = json.dumps([{"name": HOST, "devices": devices}])
        file.write_text(text.replace("    nodes: []\n", f"    nodes: {nodes}\n"))
    yield result
    del os.environ["BAREKUBE_LAB_STORAGE"]


@pytest.fixture(scope="module")
def stage(deploy: Deploy, site: Run, directory: Path) -> Callable[..., Run]:
    def run(name: str, *words: str) -> Run:
        manifests = ["--data", f"storage_manifests={directory}"]
        done = deploy(f"deploys/{name}.py", *manifests, *words, extra=HOST)
        print(f"\n{name}: status {done.status}, {done.seconds:.0f} s")
        return done

    return run


def _ceph(kubectl: list[str], *words: str) -> str:
    tools = ["-n", "rook-ceph", "exec", "deploy/ceph-tools", "--", "ceph", *words]
    done = subprocess.run([*kubectl, *tools], capture_output=True, text=True, check=True)
    return done.stdout


def test_two_raw_disks_become_storage_and_a_second_run_changes_nothing(
    stage: Callable[..., Run], kubectl: list[str]
) -> None:
    run = stage("site", "-y")
    assert run.status == 0, run.text[-8000:]
    print(_ceph(kubectl, "status"))
    tree = json.loads(_ceph(kubectl, "osd", "tree", "--format", "json"))["nodes"]
    assert [each["status"] for each in tree if each["type"] == "osd"] == ["up", "up"]
    again = stage("site", "--dry", "--json")
    assert again.status == 0, again.text[-4000:]
    assert again.would_change() == {}


def test_a_volume_is_read_on_another_node_and_a_shared_one_on_two(
    stage: Callable[..., Run],
) -> None:
    run = stage("verify", "-y")
    assert run.status == 0, run.text[-8000:]
    print("\n".join(re.findall(r".*volume.*", run.text)))
    assert re.search(r"not checked: 0", run.text), run.text[-3000:]


def test_its_disks_are_known_as_its_own_and_are_never_emptied(
    stage: Callable[..., Run],
) -> None:
    run = stage("preflight", "-y")
    assert run.status == 0, run.text[-4000:]
    assert len(re.findall(r"in use by OSD [01]", run.text)) == 2, run.text[-3000:]


def test_its_machine_is_rebooted_and_volumes_are_there_again(
    stage: Callable[..., Run], kubectl: list[str]
) -> None:
    booted = ssh(HOST, "cat /proc/sys/kernel/random/boot_id")
    run = stage("maintain", "-y", "--data", "reboot=true", "--limit", HOST)
    assert run.status == 0, run.text[-8000:]
    assert ssh(HOST, "cat /proc/sys/kernel/random/boot_id") != booted
    assert "HEALTH_ERR" not in _ceph(kubectl, "health")
    run = stage("verify", "-y")
    assert run.status == 0, run.text[-8000:]
