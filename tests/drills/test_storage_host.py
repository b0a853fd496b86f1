"""A host that carries some of Ceph is maintained once Ceph is well, and waited for afterwards.

    .venv/bin/python -m pytest tests/drills/test_storage_host.py

On the lab as `make lab` leaves it, with small kinds of our own under Rook's names; worker-1 is
rebooted. Six minutes.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.lab.conftest import Run
from tests.lab.recorder import ssh
from tests.lab.test_storage import ceph_says, disks, manifests, operator, patch_status, stage

__all__ = ["disks", "manifests", "stage"]

_OSD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: rook-ceph-osd-0, namespace: rook-ceph, labels: {app: rook-ceph-osd}}
spec:
  selector: {matchLabels: {app: rook-ceph-osd}}
  template:
    metadata: {labels: {app: rook-ceph-osd}}
    spec:
      nodeSelector: {kubernetes.io/hostname: worker-1}
      terminationGracePeriodSeconds: 0
      containers:
        - name: osd
          image: registry.k8s.io/e2e-test-images/agnhost:2.66.1
          args: [pause]
"""


def test_a_storage_host_goes_once_ceph_is_well_and_is_done_once_it_is_well_again(
    stage: Callable[..., Run], manifests: Path, kubectl: list[str]
) -> None:
    with operator(kubectl):
        run = stage("storage", manifests, "-y")
    assert run.status == 0, run.text[-4000:]
    subprocess.run([*kubectl, "apply", "-f", "-"], input=_OSD, text=True, check=True)
    rollout = ["-n", "rook-ceph", "rollout", "status", "deploy/rook-ceph-osd-0", "--timeout=120s"]
    subprocess.run([*kubectl, *rollout], check=True)
    booted = ssh("worker-1", "cat /proc/sys/kernel/random/boot_id")
    words = ["-y", "--data", "reboot=true", "--limit", "worker-1"]
    patch_status(kubectl, "cephcluster/rook-ceph", {"ceph": ceph_says(unwell=True)})
    with operator(kubectl, unwell=60):
        run = stage("maintain", manifests, *words)
    assert run.status == 0, run.text[-4000:]
    assert "waiting for Ceph, " in run.text
    assert "OSD_DOWN: 1 osds down" in run.text
    assert ssh("worker-1", "cat /proc/sys/kernel/random/boot_id") != booted
    get = [*kubectl, "get", "node", "worker-1", "-o", "jsonpath={.spec.unschedulable}"]
    assert subprocess.run(get, capture_output=True, check=True).stdout == b""
    run = stage("remove_node", manifests, "-y", "--data", "node=worker-1")
    assert run.status == 1
    assert "worker-1 carries Ceph's osd.0: their copies of the data would be lost" in run.text
