"""What of the API is asked before and after a machine that carries Ceph goes away."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client as k8s

from barekube.operations import ceph
from tests.unit.test_rook import _bound

OLD, NEW = (datetime.now(UTC) - timedelta(seconds=age) for age in (90, 30))


def _said(health: str, checked: datetime) -> dict[str, Any]:
    return {"status": {"ceph": {"health": health, "lastChecked": checked.isoformat()}}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a CephCluster says, one look after the other; the last stays. No waiting."""
    says: list[dict[str, Any]] = []

    def look(self: object, *where: str) -> dict[str, Any]:
        assert where == ("ceph.rook.io", "v1", "rook-ceph", "cephclusters")
        return {"items": [says.pop(0) if len(says) > 1 else says[0]]}

    def wait(what: str, limit: int, lacking: Any) -> str | None:  # noqa: ANN401
        whys = [lacking() for _ in range(4)]
        return None if None in whys else str(whys[-1])

    monkeypatch.setattr(k8s.CustomObjectsApi, "list_namespaced_custom_object", look)
    monkeypatch.setattr(ceph, "wait", wait)
    yield says


def _api() -> Any:  # noqa: ANN401
    there = SimpleNamespace(items=[_bound("rook-ceph-osd-0", "w-1")])
    apps = SimpleNamespace(list_namespaced_deployment=lambda space, label_selector: there)
    return SimpleNamespace(apps=apps, client=None)


def test_of_a_node_without_a_part_of_ceph_ceph_is_not_asked(asked: list[dict[str, Any]]) -> None:
    assert ceph.awaited(_api, "w-2", back=False) is None
    assert ceph.awaited(_api, "w-2", back=True) is None


def test_a_node_goes_at_once_while_ceph_is_well(asked: list[dict[str, Any]]) -> None:
    asked.append(_said("HEALTH_OK", NEW))
    assert ceph.awaited(_api, "w-1", back=False) is None


def test_after_a_node_is_back_ceph_is_well_once_rook_has_looked_again(
    asked: list[dict[str, Any]],
) -> None:
    asked.append(_said("HEALTH_OK", OLD))
    assert (ceph.awaited(_api, "w-1", back=True) or "").startswith(
        "Ceph is not well after 1800 s: Rook has not looked at it again yet; look at `kubectl"
    )
    asked[:] = [_said("HEALTH_OK", OLD), _said("HEALTH_OK", OLD), _said("HEALTH_OK", NEW)]
    assert ceph.awaited(_api, "w-1", back=True) is None


def test_what_ceph_lacks_is_named_when_the_time_is_up(asked: list[dict[str, Any]]) -> None:
    asked.append(_said("HEALTH_ERR", NEW))
    assert "Ceph's health is HEALTH_ERR" in (ceph.awaited(_api, "w-1", back=False) or "")
