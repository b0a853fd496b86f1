"""Whether an OSD can go without a loss, and what is done until it is gone."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

import barekube.api
from barekube import osd, remote
from barekube.operations import osd as operations
from tests.unit.harness import FakeHost, outcome
from tests.unit.test_upgrade_operations import CLUSTER

THREE = osd.View(
    hosts={0: "w-1", 1: "w-2", 2: "w-3"},
    up=frozenset((0, 1, 2)),
    used=frozenset((0, 1)),
    away=frozenset(),
    copies=3,
    states=frozenset(("active+clean", "active+undersized+degraded")),
    safe=False,
)


def _said(seen: osd.View) -> list[str]:
    """What the toolbox prints of such a Ceph, as far as it is looked at."""
    nodes: list[dict[str, Any]] = [
        {"id": -2 - number, "type": "host", "name": name, "children": [number]}
        for number, name in seen.hosts.items()
    ]
    nodes += [
        {
            "id": number,
            "type": "osd",
            "status": "up" if number in seen.up else "down",
            "reweight": float(number in seen.used | seen.away),
        }
        for number in seen.hosts
    ]
    states = [{"state_name": state, "count": 1} for state in seen.states]
    return [
        "",
        json.dumps({"nodes": nodes, "stray": []}),
        json.dumps([{"pool_name": "block", "size": seen.copies}, {"pool_name": "x", "size": 1}]),
        json.dumps({"pgmap": {"pgs_by_state": states}}),
        "safe" if seen.safe else "needed",
    ]


def test_cephs_answer_is_read() -> None:
    assert osd.view(_said(THREE)) == THREE
    failed = replace(THREE, up=frozenset((0, 1)), away=frozenset((2,)))
    assert osd.view(_said(failed)) == failed
    for broken in ([], ["{}", "[]", "{}", "safe"], ["no", "[]", "{}", "safe"]):
        with pytest.raises(ValueError, match=r"lacks|unpack|Expecting"):
            osd.view(broken)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (replace(THREE, safe=True, states=frozenset(("down",))), None),
        # As many hosts as copies: the one that is left out has nowhere to be copied to.
        (THREE, None),
        # What Ceph says of them then: the copies stay where they are.
        (replace(THREE, states=frozenset(("active+clean", "active+clean+remapped"))), None),
        (
            replace(THREE, states=frozenset(("active+clean", "active+remapped+backfilling"))),
            "there are placement groups that are active+remapped+backfilling",
        ),
        (
            replace(THREE, up=frozenset((0, 2)), used=frozenset((0,)), away=frozenset((1,))),
            "osd.1 is down, and the copies there are missed already",
        ),
        # The disk in question may be the one that failed.
        (replace(THREE, up=frozenset((0, 1)), away=frozenset((2,))), None),
        (
            replace(THREE, states=frozenset(("active+clean", "active+recovering+degraded"))),
            "there are placement groups that are active+recovering+degraded",
        ),
        (
            replace(THREE, states=frozenset(("down", "stale+active+clean"))),
            "there are placement groups that are down, stale+active+clean",
        ),
        (
            replace(THREE, hosts={**THREE.hosts, 3: "w-4"}, used=frozenset((0, 1, 3))),
            "its copies are made anew on other disks",
        ),
        (
            replace(THREE, used=frozenset((0,))),
            "only 1 other hosts have disks in use, and there are 3 copies",
        ),
        (
            replace(THREE, copies=2, used=frozenset((0,))),
            "without it one copy would be left; add a disk on another host first",
        ),
        (replace(THREE, copies=2, used=frozenset((0,)), up=frozenset((0,))), None),
    ],
)
def test_an_osd_goes_only_if_every_copy_is_elsewhere_or_can_be_nowhere_else(
    seen: osd.View, why: str | None
) -> None:
    assert osd.needed(seen, 2) == why


class Ceph:
    """A toolbox: what it is asked, and how it answers to that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *views: osd.View) -> None:
        self.did: list[str] = []
        self._views = list(views)
        self.deployments = {"rook-ceph-osd-2"}
        apps = SimpleNamespace(
            read_namespaced_deployment=self._read, delete_namespaced_deployment=self._delete
        )
        api = SimpleNamespace(host=FakeHost("cp-1", {}, {}), apps=apps)
        monkeypatch.setattr(barekube.api, "connect", lambda cluster: api)
        monkeypatch.setattr(barekube.api, "opened", lambda: None)
        monkeypatch.setattr(remote, "lines", self._run)
        monkeypatch.setattr(operations, "acts_for_the_cluster", lambda: True)
        monkeypatch.setattr(operations, "wait", self._wait)

    def _read(self, name: str, space: str) -> str:
        if name not in self.deployments:
            raise ApiException(404, "Not Found")
        return name

    def _delete(self, name: str, space: str) -> None:
        self._read(name, space)
        self.deployments.discard(name)
        self.did.append(f"delete {name}")

    def _run(self, other: object, script: str) -> list[str] | None:
        assert script.startswith(
            "kubectl --kubeconfig /etc/kubernetes/admin.conf -n rook-ceph exec"
        )
        if "osd tree" in script:
            return _said(self._views.pop(0) if len(self._views) > 1 else self._views[0])
        self.did.append("out" if "osd out osd.2" in script else "purge")
        return []

    @staticmethod
    def _wait(what: str, limit: int, lacking: Any) -> str | None:  # noqa: ANN401
        why: str | None = lacking()
        return why


def test_without_the_clusters_name_it_is_said_what_would_go_and_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ceph = Ceph(monkeypatch, THREE)
    done = outcome(operations.removed, CLUSTER, 2, answers={})
    assert done.logs == [
        "osd.2 of w-3 (up): out, its data elsewhere, then purged",
        "nothing is changed, for nobody confirmed it (--data cluster=home)",
    ]
    assert (done.commands, ceph.did) == (["false"], [])


def test_an_osd_that_is_gone_leaves_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    ceph = Ceph(monkeypatch, replace(THREE, hosts={0: "w-1", 1: "w-2"}))
    ceph.deployments.clear()
    done = outcome(operations.removed, CLUSTER, 2, answers={}, data={"cluster": "home"})
    assert (done.commands, done.noops) == ([], ["Ceph has no osd.2; it has osd.0, osd.1"])


def test_an_osd_goes_out_first_and_is_purged_once_it_is_not_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ceph = Ceph(monkeypatch, THREE)
    done = outcome(operations.removed, CLUSTER, 2, answers={}, data={"cluster": "home"})
    assert done.commands == ["_remove()"]
    host: Any = FakeHost("cp-1", {}, {})
    state: Any = None
    assert operations._remove(state, host, CLUSTER, 2)
    assert ceph.did == ["out", "delete rook-ceph-osd-2", "purge"]
    # Cut off before the purge, and run again.
    ceph.did.clear()
    assert operations._remove(state, host, CLUSTER, 2)
    assert ceph.did == ["out", "purge"]


def test_an_osd_that_is_needed_stays_and_its_daemon_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ceph = Ceph(monkeypatch, replace(THREE, states=frozenset(("active+backfilling",))))
    host: Any = FakeHost("cp-1", {}, {})
    state: Any = None
    assert not operations._remove(state, host, CLUSTER, 2)
    assert ceph.did == ["out"]
    assert host.logs == [
        "osd.2 is needed after 3600 s: there are placement groups that are active+backfilling; it"
        " stays out, and Ceph goes on; run this again later"
    ]
