"""What the storage stage asks before it applies anything, and says once Ceph is well."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from barekube import api as cluster_api
from barekube import rook, settings
from barekube.cluster import Cluster
from barekube.operations import disks, storage
from tests.unit.harness import outcome

DISK = "/dev/disk/by-id/ata-X_1"
CLUSTER = Cluster("home", "1.37.2", "api.home", 6443, "10.96.0.0/12", "10.32.0.0/12", ())
WANTED = rook.Storage(Path("m"), (), {"w-1": (DISK, f"{DISK}2"), "w-2": (DISK,)})


def _osd(number: int, host: str) -> Any:  # noqa: ANN401
    template = SimpleNamespace(spec=SimpleNamespace(node_selector={"kubernetes.io/hostname": host}))
    return SimpleNamespace(
        metadata=SimpleNamespace(name=f"rook-ceph-osd-{number}"),
        spec=SimpleNamespace(template=template),
    )


@pytest.mark.parametrize(
    ("osds", "said"),
    [
        ([_osd(0, "w-1"), _osd(1, "w-1"), _osd(2, "w-2")], []),
        # More than one on a disk is Rook's to decide.
        ([_osd(number, "w-1") for number in range(4)] + [_osd(4, "w-2")], []),
        (
            [_osd(0, "w-1"), _osd(2, "w-2")],
            [
                "w-1: 1 of its 2 disks are OSDs; what Rook has against the rest: `kubectl -n"
                " rook-ceph logs -l app=rook-ceph-osd-prepare --tail=-1`"
            ],
        ),
    ],
)
def test_a_disk_that_rook_passed_over_is_named_by_its_host(
    osds: list[Any], said: list[str]
) -> None:
    there = SimpleNamespace(items=osds)
    apps = SimpleNamespace(list_namespaced_deployment=lambda space, label_selector: there)
    assert storage._unused(SimpleNamespace(apps=apps), WANTED) == said  # type: ignore[arg-type]


def test_no_disk_is_given_to_ceph_while_it_is_not_known_whose_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def connect(cluster: Cluster) -> None:
        raise cluster_api.Trouble("no control plane answers")

    monkeypatch.setattr(cluster_api, "connect", connect)
    monkeypatch.setattr(storage, "leads", lambda: True)
    monkeypatch.setattr(storage, "answering", lambda steps: steps)
    monkeypatch.setattr(settings, "hosts", list)
    monkeypatch.setattr(disks, "own_fsid", lambda cluster: None)
    monkeypatch.setattr(storage, "state", SimpleNamespace(is_executing=False))
    previewed = outcome(storage.disks_judged, CLUSTER, WANTED, answers={})
    assert previewed.commands == []
    monkeypatch.setattr(storage, "state", SimpleNamespace(is_executing=True))
    done = outcome(storage.disks_judged, CLUSTER, WANTED, answers={})
    assert done.commands == ["false"]
    assert done.logs == [
        "whose the disks are is not known, for no API answers; bring a control plane up, then run"
        " this again"
    ]
