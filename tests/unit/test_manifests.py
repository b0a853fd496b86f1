"""What is left over of a stage, and what of it may be deleted."""

from typing import Any

import pytest

from barekube.manifests import by_hand, left_over, pruned, secrets_of, stage_of


def _object(version: str, kind: str, name: str, space: str = "", **rest: Any) -> dict[str, Any]:  # noqa: ANN401
    metadata = {"name": name, **({"namespace": space} if space else {}), **rest}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


LABELS = {"barekube/stage": "network"}
WANTED = [_object("apps/v1", "DaemonSet", "weave-net", "kube-system", labels=LABELS)]


def test_what_the_manifests_have_no_more_is_left_over_also_under_another_namespace() -> None:
    same = _object("apps/v1", "DaemonSet", "weave-net", "kube-system")
    moved = _object("apps/v1", "DaemonSet", "weave-net", "default")
    assert stage_of(WANTED) == "network"
    assert left_over([same, moved], WANTED) == [moved]


@pytest.mark.parametrize(
    ("version", "kind", "may_go"),
    [
        ("apps/v1", "DaemonSet", True),
        ("v1", "ConfigMap", True),
        ("v1", "Secret", False),
        ("v1", "Namespace", False),
        ("v1", "PersistentVolumeClaim", False),
        ("storage.k8s.io/v1", "StorageClass", False),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", False),
        ("ceph.rook.io/v1", "CephCluster", False),
    ],
)
def test_data_and_what_others_hang_on_is_never_pruned(
    version: str, kind: str, may_go: bool
) -> None:
    assert pruned(_object(version, kind, "x")) == may_go


def test_what_is_not_pruned_is_named_with_its_command() -> None:
    secret = _object("v1", "Secret", "password", "kube-system")
    assert by_hand(secret) == "kubectl delete -n kube-system secret password"


def test_the_secrets_of_a_workload_are_those_of_all_its_containers() -> None:
    def container(name: str) -> dict[str, Any]:
        reference = {"secretKeyRef": {"name": name, "key": "k"}}
        return {"env": [{"name": "A", "value": "b"}, {"name": "B", "valueFrom": reference}]}

    spec = {"initContainers": [container("first")], "containers": [container("second")] * 2}
    workload = {"spec": {"template": {"spec": spec}}}
    assert secrets_of(workload) == ["first", "second"]
    assert secrets_of({"spec": {"template": {"spec": {"containers": [{}]}}}}) == []
