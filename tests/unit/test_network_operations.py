"""A node that its cluster does not have, by the stages that come after its join."""

from types import SimpleNamespace

import pytest

from barekube import api as cluster_api
from barekube import nodes
from barekube.cluster import Node
from barekube.operations import living, network
from tests.plan.machines import Machine
from tests.unit.harness import Answers, home, outcome

CLUSTER = home(
    Node("cp-2", "192.0.2.12", control_plane=True),
    Node("w-1", "192.0.2.21", control_plane=False),
)


@pytest.mark.parametrize(("name", "stage"), [("cp-2", "control_plane"), ("w-1", "workers")])
def test_who_is_not_in_the_cluster_is_sent_to_the_stage_that_brings_it_there(
    monkeypatch: pytest.MonkeyPatch, name: str, stage: str
) -> None:
    monkeypatch.setattr(cluster_api, "connect", lambda cluster: SimpleNamespace())
    monkeypatch.setattr(nodes, "lookup", lambda api, name: None)
    bare: Answers = {"Machine": Machine().answer()}
    said = [
        outcome(operation, CLUSTER, answers=bare, name=name).logs
        for operation in (network.ready, living.kubelet)
    ]
    assert said == [
        [f"{name} is not in the cluster; run deploys/{stage}.py first"],
        [f"/var/lib/kubelet/config.yaml cannot be read; run deploys/{stage}.py first"],
    ]
