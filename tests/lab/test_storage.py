"""The storage stage on a real API server and real disks, with stand-ins for Rook's own files.

Rook's images can be had from no registry here: tests/lab/rook has kinds of its groups, and a
thread of these tests says of each object what an operator would. That Ceph works is not shown.
"""

import hashlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from barekube import rook
from bundle.paths import default_cache
from tests.lab.conftest import Deploy, Run
from tests.lab.recorder import ssh

HOSTS = ("worker-1", "worker-2")
FILES = ("crds", "common", "csi-operator", "operator")
DRIVERS = ("rook-ceph.rbd.csi.ceph.com", "rook-ceph.cephfs.csi.ceph.com")
FSID = "aaaaaaaa-0000-0000-0000-000000000001"
_PHASED = (
    "cephcluster/rook-ceph",
    "cephblockpool/block",
    "cephblockpool/builtin-mgr",
    "cephfilesystem/shared",
)
_OBJECTS = "cephclusters,cephblockpools,cephfilesystems,drivers.csi.ceph.io,deployments,ingresses"

# A table of one partition of 10 MB, for which a small Debian has no program.
_PARTITION = r"""
perl -e 'print "\0" x 446, pack("CCCCCCCCVV", 0, 0, 2, 0, 131, 0, 2, 0, 2048, 20480),
  "\0" x 48, "\x55\xAA"' | dd of=/dev/ubdb conv=notrunc,fsync status=none"""
# Ceph's label as it lies on a disk of OSD 3 of another cluster.
_LABEL = r"""
perl -e 'sub t { pack("V", length $_[0]) . $_[0] }
my %m = (ceph_fsid => "bbbbbbbb-0000-0000-0000-000000000002", whoami => "3");
my $i = "\0" x 32 . t("main") . pack("V", 2) . join("", map { t($_) . t($m{$_}) } sort keys %m);
print "bluestore block device\n", "11111111-2222-3333-4444-555555555555\n", pack("CCV", 2, 1,
length $i), $i' | dd of=/dev/ubdb conv=notrunc,fsync status=none
"""


@pytest.fixture(scope="module")
def disks(site: Run) -> dict[str, str]:
    """The name that lasts of each storage host's raw disk."""
    find = "for l in /dev/disk/by-path/*; do [ $(readlink -f $l) != /dev/ubdb ] || echo $l; done"
    return {name: ssh(name, find).split()[0] for name in HOSTS}


@pytest.fixture
def manifests(
    disks: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """manifests/rook-small with the lab's disks, and a lock of the stand-ins, which are kept as
    if they had been fetched."""
    monkeypatch.setenv("BAREKUBE_LAB_STORAGE", ",".join(HOSTS))
    directory = tmp_path / "rook"
    directory.mkdir()
    for name in ("cluster", "pools", "filesystem", "dashboard"):
        shutil.copy(f"manifests/rook-small/{name}.yaml", directory)
    nodes = [{"name": name, "devices": [{"name": disk}]} for name, disk in disks.items()]
    cluster = directory / "cluster.yaml"
    text = cluster.read_text()
    assert text.endswith("    nodes: []\n")
    cluster.write_text(text.replace("    nodes: []\n", f"    nodes: {json.dumps(nodes)}\n"))
    kept = []
    lock = ""
    downloads = Path.home() / ".cache/barekube/downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        content = Path(f"tests/lab/rook/{name}.yaml").read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        kept.append(downloads / digest)
        kept[-1].write_bytes(content)
        lock += f"{name} stand-in https://rook.invalid/{name}.yaml {digest}\n"
    (directory / "upstream.lock").write_text(lock)
    yield directory
    for file in kept:
        file.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def stage(
    deploy: Deploy, kubectl: list[str], disks: dict[str, str]
) -> Iterator[Callable[..., Run]]:
    """Runs a stage with these manifests; afterwards nothing of storage is in the cluster."""

    def run(name: str, directory: Path, *words: str) -> Run:
        return deploy(f"deploys/{name}.py", "--data", f"storage_manifests={directory}", *words)

    yield run
    for kinds in (
        ["storageclass", "ceph-block", "ceph-block-retain", "ceph-filesystem"],
        ["csidriver", *DRIVERS],
        ["namespace", "rook-ceph"],
    ):
        words = [*kubectl, "delete", "--ignore-not-found", *kinds]
        subprocess.run(words, check=True, timeout=180)
    words = [*kubectl, "get", "crd", "-o", "name"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    ours = [each for each in listed if each.endswith((".rook.io", ".ceph.io", ".objectbucket.io"))]
    if ours:
        subprocess.run([*kubectl, "delete", *ours], check=True, timeout=180)
    for name in disks:
        ssh(name, "wipefs -qa /dev/ubdb")


def ceph_says(*, unwell: bool) -> dict[str, Any]:
    details: dict[str, Any] = {
        "AUTH_INSECURE_CLIENT_KEY_TYPE": {"severity": "HEALTH_WARN", "message": "keys are AES"},
        "OSD_DOWN": {"severity": "HEALTH_WARN", "message": "1 osds down"} if unwell else None,
    }
    checked = datetime.now(UTC).isoformat(timespec="seconds")
    return {"health": "HEALTH_WARN", "fsid": FSID, "details": details, "lastChecked": checked}


def patch_status(kubectl: list[str], what: str, status: dict[str, Any]) -> None:
    words = ["-n", "rook-ceph", "patch", what, "--subresource=status", "--type=merge", "-p"]
    patch = json.dumps({"status": status})
    subprocess.run([*kubectl, *words, patch], capture_output=True, check=False)


@contextmanager
def operator(kubectl: list[str], unwell: float = 0) -> Iterator[None]:
    """What Rook would do and say: each object is ready, and Ceph is well after `unwell` seconds."""
    done = threading.Event()
    driver = "apiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {{name: {}}}\n---\n"
    began: list[float] = []

    def work() -> None:
        text = "".join(driver.format(name) for name in DRIVERS)
        subprocess.run([*kubectl, "apply", "-f", "-"], input=text, text=True, check=False)
        while not done.wait(1):
            for what in _PHASED:
                there = [*kubectl, "-n", "rook-ceph", "get", what, "-o", "json"]
                found = subprocess.run(there, capture_output=True, check=False)
                if found.returncode:
                    continue
                if what.startswith("cephfilesystem"):
                    _write_back(kubectl, json.loads(found.stdout))
                began.append(time.monotonic())
                ceph = ceph_says(unwell=time.monotonic() - began[0] < unwell)
                said = {"ceph": ceph} if what.startswith("cephcluster") else {}
                patch_status(kubectl, what, {"phase": "Ready", **said})

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


# What Rook's Go makes of a pool that says nothing of these.
_EMPTY = {
    "application": "",
    "erasureCoded": {"codingChunks": 0, "dataChunks": 0},
    "mirroring": {},
    "quotas": {},
    "statusCheck": {"mirror": {}},
}


def _write_back(kubectl: list[str], filesystem: dict[str, Any]) -> None:
    """The file system as Rook writes it, whole, when it takes it on: real Ceph's drill saw it."""
    pools = [_EMPTY | pool for pool in filesystem["spec"]["dataPools"]]
    if pools == filesystem["spec"]["dataPools"]:
        return
    filesystem["spec"]["dataPools"] = pools
    replace = [*kubectl, "replace", "--field-manager=rook", "-f", "-"]
    text = json.dumps(filesystem)
    subprocess.run(replace, input=text, text=True, capture_output=True, check=False)


def _state(kubectl: list[str]) -> dict[str, tuple[str, int]]:
    """{kind name: its uid and generation} of what the stage makes."""
    words = [*kubectl, "-n", "rook-ceph", "get", _OBJECTS, "-o", "json"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return {
        f"{item['kind']} {item['metadata']['name']}": (
            item["metadata"]["uid"],
            item["metadata"]["generation"],
        )
        for item in json.loads(shown)["items"]
    }


def test_a_disk_with_something_on_it_is_refused_by_name_and_left_as_it_is(
    stage: Callable[..., Run], manifests: Path, disks: dict[str, str]
) -> None:
    run = stage("preflight", manifests, "-y")
    assert run.status == 0, run.text[-4000:]
    for disk in disks.values():
        assert f"disk {disk} (ubdb, 2.1 GB): empty, Ceph can have it" in run.text
    ssh("worker-1", "mkfs.ext4 -q /dev/ubdb")
    ssh("worker-2", f"{_PARTITION}; blockdev --rereadpt /dev/ubdb; udevadm settle")
    look = "sync; sha256sum /dev/ubdb"
    before = {name: ssh(name, look) for name in HOSTS}
    try:
        for name in ("preflight", "storage"):
            run = stage(name, manifests, "-y")
            assert run.status == 1
            assert f"disk {disks['worker-1']} (ubdb, 2.1 GB) has a signature of ext4" in run.text
            assert f"disk {disks['worker-2']} (ubdb, 2.1 GB) has a signature of dos" in run.text
            assert "part ubdb1" in run.text
        assert {name: ssh(name, look) for name in HOSTS} == before
    finally:
        for name in HOSTS:
            ssh(name, "wipefs -qa /dev/ubdb; blockdev --rereadpt /dev/ubdb")


def test_only_a_disk_of_a_ceph_that_is_gone_is_emptied_and_only_when_the_cluster_is_named(
    stage: Callable[..., Run],
    manifests: Path,
    disks: dict[str, str],
    request: pytest.FixtureRequest,
) -> None:
    disk = disks["worker-1"]
    request.addfinalizer(lambda: ssh("worker-1", "wipefs -qa /dev/ubdb"))
    words = ["-y", "--data", "host=worker-1", "--data", f"disk={disk}"]
    ssh("worker-1", "mkfs.ext4 -q /dev/ubdb")
    run = stage("zap", manifests, *words, "--data", "cluster=lab")
    assert run.status == 1
    assert "has a signature of ext4, and no label of Ceph's; it is not emptied" in run.text
    ssh("worker-1", f"wipefs -qa /dev/ubdb; {_LABEL}")
    run = stage("preflight", manifests, "-y")
    assert run.status == 1
    assert "has OSD 3 of another Ceph cluster (bbbbbbbb-0000-0000-0000-000000000002)" in run.text
    before = ssh("worker-1", "sha256sum /dev/ubdb")
    run = stage("zap", manifests, *words)
    assert run.status == 1
    assert f"{' '.join(words[1:])} -y --data cluster=lab" in run.text
    assert ssh("worker-1", "sha256sum /dev/ubdb") == before
    run = stage("zap", manifests, *words, "--data", "cluster=lab")
    assert run.status == 0, run.text[-4000:]
    assert ssh("worker-1", "wipefs /dev/ubdb") == ""
    assert stage("preflight", manifests, "-y").status == 0


def test_an_altered_lock_ends_the_stage_before_anything_is_applied(
    stage: Callable[..., Run], manifests: Path, kubectl: list[str]
) -> None:
    lock = manifests / "upstream.lock"
    lock.write_text(lock.read_text()[:-65] + "0" * 64 + "\n")
    run = stage("storage", manifests, "-y")
    assert run.status == 1
    assert "Rook's operator stand-in cannot be fetched from" in run.text
    there = [*kubectl, "get", "namespace", "rook-ceph"]
    assert subprocess.run(there, capture_output=True, check=False).returncode != 0
    kind = [*kubectl, "get", "crd", "cephclusters.ceph.rook.io"]
    assert subprocess.run(kind, capture_output=True, check=False).returncode != 0


def test_the_stage_waits_for_each_step_and_a_second_run_changes_nothing(
    stage: Callable[..., Run], manifests: Path, kubectl: list[str]
) -> None:
    shown = stage("storage", manifests, "--dry", "--json")
    assert shown.status == 0, shown.text[-4000:]
    assert list(shown.would_change())[:2] == [
        "Apply Rook's crds stand-in",
        "Apply Rook's common stand-in",
    ]
    assert "CephCluster rook-ceph/rook-ceph: from " in shown.text
    with operator(kubectl, unwell=90):
        run = stage("storage", manifests, "-y")
    assert run.status == 0, run.text[-6000:]
    assert "waits for the Ceph cluster" in run.text
    assert "waits for Ceph's health" in run.text
    assert "OSD_DOWN: 1 osds down" in run.text
    before = _state(kubectl)
    assert len(before) == 9
    with operator(kubectl, unwell=45):
        run = stage("storage", manifests, "-y")
    assert run.status == 0, run.text[-4000:]
    assert "waits for Ceph's health" in run.text
    assert "unchanged:     3" in run.text  # To wait changes nothing.
    # Why a warning of Ceph's is passed over is said in each run.
    assert "Ceph says AUTH_INSECURE_CLIENT_KEY_TYPE: " in run.text
    assert _state(kubectl) == before
    assert stage("storage", manifests, "--dry", "--json").would_change() == {}


def test_rooks_pods_keep_to_the_cpus_that_ceph_runs_on_and_one_class_is_the_default(
    kubectl: list[str],
) -> None:
    words = ["-n", "rook-ceph", "get", "deployments,drivers.csi.ceph.io", "-o", "json"]
    shown = subprocess.run([*kubectl, *words], capture_output=True, text=True, check=True).stdout
    items = json.loads(shown)["items"]
    assert len(items) == 4
    for item in items:
        assert '"values": ["amd64", "arm64"]' in json.dumps(item["spec"]), item["metadata"]["name"]
    classes = [*kubectl, "get", "storageclass"]
    listed = subprocess.run(classes, capture_output=True, text=True, check=True).stdout
    assert listed.count("(default)") == 1
    assert "ceph-block (default)" in listed


def test_a_kind_that_left_the_manifests_is_named_and_never_deleted(
    stage: Callable[..., Run], manifests: Path, kubectl: list[str]
) -> None:
    text = (manifests / "pools.yaml").read_text()
    kept = [each for each in text.split("---\n") if "ceph-block-retain" not in each]
    (manifests / "pools.yaml").write_text("---\n".join(kept))
    with operator(kubectl):
        run = stage("storage", manifests, "-y", "--data", "prune=true")
    assert run.status == 0, run.text[-4000:]
    assert (
        "StorageClass ceph-block-retain: left over; by hand: kubectl delete storageclass"
        " ceph-block-retain"
    ) in run.text
    there = [*kubectl, "get", "storageclass", "ceph-block-retain"]
    assert subprocess.run(there, capture_output=True, check=False).returncode == 0


# In the place of an OSD, bound to its host as Rook binds one.


def _kinds_of_rook() -> Path | None:
    """Rook's own crds.yaml, where it is kept or in the bundle."""
    lock = Path("manifests/rook/upstream.lock")
    file = rook.lock(str(lock), lock.read_text())[0]
    folders = (default_cache() / "downloads", default_cache() / "bundle/www/files")
    return next((each / file.sha256 for each in folders if (each / file.sha256).exists()), None)


@pytest.mark.skipif(_kinds_of_rook() is None, reason="needs Rook's crds.yaml: not in the bundle")
@pytest.mark.parametrize("shape", ["rook", "rook-small"])
def test_our_manifests_are_what_rooks_own_kinds_allow(
    stage: Callable[..., Run], kubectl: list[str], shape: str
) -> None:
    words = ["apply", "--server-side", "--force-conflicts", "-f", str(_kinds_of_rook())]
    subprocess.run([*kubectl, *words], check=True, timeout=600)
    wait = ["wait", "--for=condition=Established", "crd", "-l", "!x", "--timeout=120s"]
    subprocess.run([*kubectl, *wait], check=True)
    subprocess.run([*kubectl, "create", "namespace", "rook-ceph"], check=False)
    words = ["apply", "--dry-run=server", "--validate=strict", "-f", f"manifests/{shape}"]
    done = subprocess.run([*kubectl, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
