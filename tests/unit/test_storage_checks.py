"""Volumes that verify tries: where it cannot, it says by name why not; else what was found."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException

from barekube import api as cluster_api
from barekube import manifests
from barekube.cluster import Cluster
from barekube.operations import objects, storage_checks, verify
from tests.unit.harness import FakeHost, Outcome, outcome

DIRECTORY = Path("manifests/verify/storage")
CLUSTER = Cluster("home", "1.37.2", "api.home", 6443, "10.96.0.0/12", "10.32.0.0/12", ())


def _node(name: str, arch: str = "amd64", unschedulable: bool = False) -> Any:  # noqa: ANN401
    ready = SimpleNamespace(type="Ready", status="True")
    return SimpleNamespace(
        metadata=SimpleNamespace(name=name, labels={"kubernetes.io/arch": arch}),
        spec=SimpleNamespace(unschedulable=unschedulable),
        status=SimpleNamespace(conditions=[ready]),
    )


def _tried(monkeypatch: pytest.MonkeyPatch, classes: list[str], *nodes: Any) -> Outcome:  # noqa: ANN401
    def read_storage_class(name: str) -> object:
        if name not in classes:
            raise ApiException(404)
        return name

    items = SimpleNamespace(items=list(nodes))
    api = SimpleNamespace(core=SimpleNamespace(list_node=lambda: items), client=None)
    monkeypatch.setattr(cluster_api, "connect", lambda cluster: api)
    monkeypatch.setattr(storage_checks, "acts_for_the_cluster", lambda: True)
    monkeypatch.setattr(storage_checks, "answering", lambda steps: steps)
    own = SimpleNamespace(read_storage_class=read_storage_class)
    monkeypatch.setattr(k8s, "StorageV1Api", lambda client: own)
    return outcome(storage_checks.tried, CLUSTER, DIRECTORY, answers={})


def test_volumes_without_a_class_or_without_two_nodes_are_named_as_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = [_node("a"), _node("b", "arm64")]
    assert _tried(monkeypatch, [], *two).logs == [
        "not checked: volume moves, there is no class ceph-block (0.00 s)",
        "not checked: shared volume, there is no class ceph-filesystem (0.00 s)",
    ]
    both = ["ceph-block", "ceph-filesystem"]
    assert _tried(monkeypatch, both, *two).commands == ["_try()", "_try()"]
    few = [_node("a"), _node("b", "arm"), _node("c", unschedulable=True)]
    why = "there are no two nodes that volumes can be moved between"
    assert _tried(monkeypatch, ["ceph-block"], *few).logs[0] == (
        f"not checked: volume moves, {why} (0.00 s)"
    )


@pytest.mark.parametrize(
    ("said", "good"),
    [("content of file: mount-tester new file", True), ("content of file: ", False)],
)
def test_a_volume_that_came_back_empty_fails(
    monkeypatch: pytest.MonkeyPatch, said: str, good: bool
) -> None:
    applied: list[tuple[str, str]] = []

    def apply(state: object, host: object, api: object, documents: list[Any]) -> bool:
        for each in documents:
            where = each["spec"].get("affinity", {}).get("nodeAffinity", {})
            terms = where.get("requiredDuringSchedulingIgnoredDuringExecution", {})
            fields = [t["matchFields"][0]["values"] for t in terms.get("nodeSelectorTerms", [])]
            applied.append((each["metadata"]["name"], fields[0][0] if fields else ""))
        return True

    def read_namespaced_pod(name: str, space: str) -> Any:  # noqa: ANN401
        if name in gone:
            raise ApiException(404)
        return SimpleNamespace(status=SimpleNamespace(phase="Succeeded"))

    gone: list[str] = []
    core = SimpleNamespace(
        read_namespaced_pod=read_namespaced_pod,
        read_namespaced_pod_log=lambda name, space: said,
        delete_namespaced_pod=lambda name, space: gone.append(name),
    )
    monkeypatch.setattr(objects, "apply", apply)
    documents = {
        (each["kind"], each["metadata"]["name"]): each for _, each in manifests.read(DIRECTORY)
    }
    told: list[Any] = []
    monkeypatch.setattr(verify, "tell", told.extend)
    host: Any = FakeHost("cp-1", {}, {})
    api: Any = SimpleNamespace(core=core)
    for title in ("volume moves", "shared volume"):
        assert storage_checks._try(None, host, api, title, documents, ["a", "b"])  # type: ignore[arg-type]
        gone.clear()
    assert [check.good for check in told] == [good, good]
    if good:
        assert applied == [
            ("block", ""),
            ("write", "a"),
            ("read", "b"),
            ("shared", ""),
            ("left", "a"),
            ("right", "b"),
        ]
