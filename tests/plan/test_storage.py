"""The storage stage through the real command line: its order, and what ends it with a sentence."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.plan import machines
from tests.plan.conftest import Pyinfra
from tests.plan.test_refusals import _LEFT, _run, _said

DISK = "/dev/disk/by-id/ata-X_1"
_CLUSTER = """\
apiVersion: ceph.rook.io/v1
kind: CephCluster
metadata: {{name: rook-ceph, namespace: rook-ceph}}
spec:
  mon: {{count: 1}}
  storage:
    nodes: [{{name: "@fake/{host}", devices: [{{name: {disk}}}]}}]
"""
_UPSTREAM = {
    "crds": "CustomResourceDefinition",
    "common": "Namespace",
    "csi-operator": "ConfigMap",
    "operator": "ConfigMap",
}


def _site(
    folder: Path, host: str = "w-1", disk: str = DISK, answers: dict[str, list[str]] | None = None
) -> tuple[str, str]:
    """The text of an inventory and of its group_data, with manifests and a lock of their own."""
    manifests = folder / "rook"
    manifests.mkdir()
    (manifests / "cluster.yaml").write_text(_CLUSTER.format(host=host, disk=disk))
    kept = folder / ".cache/barekube/downloads"
    kept.mkdir(parents=True)
    lock = ""
    for name, kind in _UPSTREAM.items():
        metadata = {"name": name} | ({"namespace": "default"} if kind == "ConfigMap" else {})
        document = {"apiVersion": "v1", "kind": kind, "metadata": metadata}
        content = json.dumps(document).encode()
        digest = hashlib.sha256(content).hexdigest()
        (kept / digest).write_bytes(content)
        lock += f"{name} v1 http://127.0.0.1:9/{name}.yaml {digest}\n"
    (manifests / "upstream.lock").write_text(lock)
    inventory = (
        "control_plane = [machines.converged('cp-1', '192.0.2.11')]\n"
        "worker = machines.converged('w-1', '192.0.2.21')\n"
        f"worker[1]['fake_responses'] = {answers or {}!r} | worker[1]['fake_responses']\n"
        "workers = [worker]\nstorage = ['@fake/w-1']\ndel worker\n"
    )
    return inventory, f"storage_manifests = {str(manifests)!r}\n"


def _disk(*said: str, signatures: str = "") -> dict[str, list[str]]:
    device = {"name": "sdb", "path": "/dev/sdb", "type": "disk", "size": 4000787030016}
    tree = json.dumps({"blockdevices": [device]})
    lines = ["#path /dev/sdb", f"#tree {tree}", f"#signatures {signatures}", *said, "#labels"]
    return {machines.DISKS: [f"#disk {DISK}", *lines, "#names", DISK, "#end"]}


TITLE = f"disk {DISK} (sdb, 4.0 TB)"


def test_a_preview_says_every_step_in_the_order_of_what_needs_what(
    pyinfra: Pyinfra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    inventory, group_data = _site(tmp_path, answers=_disk())
    (tmp_path / "site").mkdir()
    (tmp_path / "site/inventory.py").write_text(f"from tests.plan import machines\n{inventory}")
    folder = tmp_path / "site/group_data"
    folder.mkdir()
    (folder / "all.py").write_text(Path("tests/plan/group_data/all.py").read_text() + group_data)
    words = ["deploys/storage.py", "--dry", "--json"]
    done = pyinfra(str(tmp_path / "site/inventory.py"), *words, api=True)
    assert [(each["name"], each["hosts_with_change"]) for each in done.plan] == [
        ("Fetch Rook's own files", []),
        ("Rook's files are here", []),
        ("See what is on new disks", []),
        ("Ceph can have the disks", []),
        ("Apply Rook's crds v1", ["@fake/cp-1"]),
        ("Rook's crds v1 is applied", []),
        ("Apply Rook's common v1", ["@fake/cp-1"]),
        ("Rook's common v1 is applied", []),
        ("Apply Rook's csi-operator v1", ["@fake/cp-1"]),
        ("Rook's csi-operator v1 is applied", []),
        ("Apply Rook's operator v1", ["@fake/cp-1"]),
        ("Rook's operator v1 is applied", []),
        ("Apply the Ceph cluster", ["@fake/cp-1"]),
        ("The Ceph cluster is ready", []),
        ("Apply pools, file system, classes", ["@fake/cp-1"]),
        ("There are classes of volumes", []),
        ("See whether Ceph is well", []),
        ("Storage can be used", []),
    ]
    assert f"@fake/w-1: {TITLE}: empty, Ceph can have it" in done.stderr


def test_a_lost_file_of_rooks_ends_the_stage_before_anything_is_applied(
    pyinfra: Pyinfra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    inventory, group_data = _site(tmp_path, answers=_disk())
    lost = max((tmp_path / ".cache/barekube/downloads").iterdir())
    lost.write_text("altered")
    name = next(
        line.split()[0]
        for line in (tmp_path / "rook/upstream.lock").read_text().splitlines()
        if lost.name in line
    )
    done = _run(pyinfra, tmp_path, inventory, group_data, "deploys/storage.py", api=True)
    # The stand-in of the API ends the run of a host with an error if anything is applied.
    assert _said(done, "cp-1") == [
        f"Rook's {name} v1 cannot be fetched from http://127.0.0.1:9/{name}.yaml (MaxRetryError);"
        f" put it at {lost} yourself"
    ]
    assert _said(done, "w-1") == [_LEFT]
    assert done.status == 1
    assert done.changing_commands == []
    assert "Traceback" not in done.stderr


def test_a_storage_host_that_there_is_no_ceph_for_ends_the_stage_before_anything_is_applied(
    pyinfra: Pyinfra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CPU", "arm")
    inventory, group_data = _site(tmp_path, answers=_disk())
    done = _run(pyinfra, tmp_path, inventory, group_data, "deploys/storage.py", api=True)
    assert _said(done, "cp-1") == [
        "@fake/w-1: there is no Ceph for its CPU (arm), only for amd64 and arm64; take it out of"
        " group storage",
        f"@fake/w-1: {TITLE}: empty, Ceph can have it",
        f"Ceph cannot have all disks that {tmp_path}/rook names of @fake/w-1 (above); nothing is"
        " applied",
    ]
    assert (done.status, done.changing_commands) == (1, [])


@pytest.mark.parametrize("stage", ["preflight", "storage"])
def test_a_disk_that_is_not_empty_is_refused_by_name_and_nothing_is_applied(
    pyinfra: Pyinfra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    inventory, group_data = _site(tmp_path, answers=_disk(signatures="ext4"))
    done = _run(pyinfra, tmp_path, inventory, group_data, f"deploys/{stage}.py", api=True)
    found = (
        f"{TITLE} has a signature of ext4; Ceph gets only empty disks: empty it by hand if nothing"
        " on it is needed, or name another disk"
    )
    if stage == "preflight":
        assert _said(done, "w-1") == [found]
    else:
        assert _said(done, "cp-1") == [
            f"@fake/w-1: {found}",
            f"Ceph cannot have all disks that {tmp_path}/rook names of @fake/w-1 (above); nothing"
            " is applied",
        ]
    assert done.status == 1
    assert done.changing_commands == []
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stage", ["preflight", "storage"])
@pytest.mark.parametrize(
    ("host", "disk", "sentence"),
    [
        (
            "w1",
            DISK,
            "/cluster.yaml: @fake/w1 is no host of the inventory; did you mean @fake/w-1?",
        ),
        (
            "w-1",
            "/dev/sdb",
            "/cluster.yaml: /dev/sdb of @fake/w-1 can be another disk after a boot; name it by"
            " /dev/disk/by-id/... or /dev/disk/by-path/...",
        ),
    ],
)
def test_disks_that_are_misnamed_end_the_run_before_it_begins(
    pyinfra: Pyinfra, tmp_path: Path, stage: str, host: str, disk: str, sentence: str
) -> None:
    inventory, group_data = _site(tmp_path, host, disk)
    done = _run(pyinfra, tmp_path, inventory, group_data, f"deploys/{stage}.py", api=True)
    assert f"--> {tmp_path}/rook{sentence}\n--> Summary:\n" in done.stderr
    assert done.status == 1
    assert "simulating" not in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_storage_host_the_stage_says_so_and_does_nothing(pyinfra: Pyinfra) -> None:
    inventory = "tests/plan/inventory_converged.py"
    done = pyinfra(inventory, "deploys/storage.py", "-y", "--debug", api=True)
    assert "No host is in group storage: there is nothing to do" in done.stderr
    assert done.summary[0] == "unchanged:     3: @fake/cp-1, @fake/w-1, @fake/w-2"
    assert done.remote_commands == {}
    assert done.status == 0


def test_a_lock_that_is_no_text_ends_the_run_before_it_begins(
    pyinfra: Pyinfra, tmp_path: Path
) -> None:
    inventory, group_data = _site(tmp_path)
    (tmp_path / "rook/upstream.lock").write_bytes(b"\xff\xfe")
    done = _run(pyinfra, tmp_path, inventory, group_data, "deploys/storage.py", api=True)
    assert f"--> {tmp_path}/rook/upstream.lock is no text; bring it back\n" in done.stderr
    assert done.status == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name the disk: --data host=NAME --data disk=/dev/disk/by-id/... (or by-path)"),
        (
            ["--data", "host=@fake/cp1", "--data", f"disk={DISK}"],
            "@fake/cp1 is no host of the inventory; did you mean @fake/cp-1?",
        ),
        (
            ["--data", "host=@fake/w-1", "--data", "disk=/dev/sdb"],
            "/dev/sdb can be another disk after a boot; name it by /dev/disk/by-id/... or"
            " /dev/disk/by-path/...",
        ),
        (
            ["--data", "host=@fake/w-1", "--data", f"disk={DISK}", "--limit", "@fake/w-2"],
            "@fake/w-1 is not in this run; run it without --limit, or with it",
        ),
    ],
)
def test_zap_wants_one_disk_by_a_name_that_lasts(
    pyinfra: Pyinfra, words: list[str], sentence: str
) -> None:
    done = pyinfra("tests/plan/inventory_converged.py", "deploys/zap.py", "-y", *words)
    assert f"--> {sentence}\n--> Summary:\n" in done.stderr
    assert done.status == 1


def test_zap_of_a_disk_that_is_not_cephs_changes_nothing(pyinfra: Pyinfra, tmp_path: Path) -> None:
    inventory, group_data = _site(tmp_path, answers=_disk(signatures="ext4"))
    words = ["--data", "host=@fake/w-1", "--data", f"disk={DISK}", "--data", "cluster=barekube"]
    done = _run(pyinfra, tmp_path, inventory, group_data, "deploys/zap.py", *words, api=True)
    assert _said(done, "w-1") == [
        f"{TITLE} has a signature of ext4, and no label of Ceph's; it is not emptied"
    ]
    assert done.status == 1
    assert done.changing_commands == []


def test_an_osd_is_named_by_its_number_and_nothing_is_done_while_ceph_is_silent(
    pyinfra: Pyinfra,
) -> None:
    words = ["tests/plan/inventory_converged.py", "deploys/replace_disk.py", "-y", "--debug"]
    done = pyinfra(*words)
    assert "--> name the OSD by its number: --data osd=N" in done.stderr
    assert done.status == 1
    more = ["--data", "osd=3", "--data", "cluster=barekube"]
    done = pyinfra(*words, *more, api=True)
    assert _said(done, "cp-1") == [
        "Ceph does not answer; look at `kubectl -n rook-ceph get pods`, then run this again"
    ]
    assert done.status == 1
    assert "ceph osd out" not in done.stderr
    assert "Traceback" not in done.stderr
