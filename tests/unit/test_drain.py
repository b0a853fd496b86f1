"""Which pods leave a node, which are lost, and which budget holds one."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException

from barekube import drain

NOW = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)


def _pod(name: str, owner: str = "ReplicaSet", **more: object) -> k8s.V1Pod:
    owners = [
        k8s.V1OwnerReference(api_version="v1", kind=owner, name="o", uid="1", controller=True)
    ]
    phase = str(more.pop("phase", "Running"))
    metadata = k8s.V1ObjectMeta(
        name=name,
        namespace="shop",
        labels={"app": "web"},
        owner_references=owners if owner else None,
        **more,
    )
    return k8s.V1Pod(metadata=metadata, status=k8s.V1PodStatus(phase=phase))


def test_pods_of_a_daemon_set_static_ones_and_ended_ones_stay() -> None:
    pods = [
        _pod("web"),
        _pod("weave", owner="DaemonSet"),
        _pod("etcd", owner="Node", annotations={"kubernetes.io/config.mirror": "x"}),
        _pod("job", owner="Job", phase="Succeeded"),
    ]
    assert [pod.metadata.name for pod in drain.leaving(pods)] == ["web"]


def test_a_pod_that_nothing_starts_again_is_named() -> None:
    assert drain.alone([_pod("web")]) is None
    assert (drain.alone([_pod("web"), _pod("shell", owner="")]) or "").startswith(
        "pod shop/shell would be lost"
    )


def _server(seconds: int, ready: str = "True") -> k8s.V1Pod:
    """An API server that was started so many seconds ago."""
    running = k8s.V1ContainerStateRunning(started_at=NOW - timedelta(seconds=seconds))
    container = k8s.V1ContainerStatus(
        image="i", image_id="i", name="n", ready=True, restart_count=0,
        state=k8s.V1ContainerState(running=running),
    )  # fmt: skip
    conditions = [k8s.V1PodCondition(type="Ready", status=ready)]
    return k8s.V1Pod(status=k8s.V1PodStatus(conditions=conditions, container_statuses=[container]))


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ([_server(31)], "the API server started 31 s ago"),
        ([_server(60)], None),
        # Whoever watched at the younger one asks another at once.
        ([_server(5), _server(4000)], None),
        # A dead machine's is no help.
        ([_server(5), _server(4000, ready="False")], "the API server started 5 s ago"),
        ([_server(4000, ready="False")], "no API server is ready"),
    ],
)
def test_pods_are_sent_away_only_when_everybody_watches_the_api_again(
    servers: list[k8s.V1Pod], said: str | None
) -> None:
    found = drain.unwatched(servers, NOW)
    assert found is None if said is None else (found or "").startswith(said)


def _budget(name: str, allowed: int, **selector: object) -> k8s.V1PodDisruptionBudget:
    status = k8s.V1PodDisruptionBudgetStatus(
        current_healthy=1, desired_healthy=1, expected_pods=1, disruptions_allowed=allowed
    )
    return k8s.V1PodDisruptionBudget(
        metadata=k8s.V1ObjectMeta(name=name, namespace="shop"),
        spec=k8s.V1PodDisruptionBudgetSpec(selector=k8s.V1LabelSelector(**selector)),
        status=status,
    )


def test_the_budget_that_holds_a_pod_is_the_one_that_selects_it_and_allows_nothing() -> None:
    other = k8s.V1LabelSelectorRequirement(key="app", operator="NotIn", values=["web"])
    mine = k8s.V1LabelSelectorRequirement(key="app", operator="In", values=["web", "x"])
    budgets = [
        _budget("free", 1, match_labels={"app": "web"}),
        _budget("other", 0, match_expressions=[other]),
        _budget("elsewhere", 0, match_labels={"app": "db"}),
        _budget("tight", 0, match_expressions=[mine]),
    ]
    assert [each.metadata.name for each in drain.holding(_pod("web"), budgets)] == ["tight"]


def _pending() -> k8s.V1Pod:
    """One that no node takes."""
    pod = _pod("web-3", phase="Pending")
    conditions = [k8s.V1PodCondition(type="PodScheduled", status="False", message=_NOWHERE)]
    pod.status.conditions = conditions
    return pod


_NOWHERE = "0/3 nodes are available: 3 node(s) had untolerated taint(s)"


@pytest.mark.parametrize(
    ("ending", "healthy", "allowed", "beside", "moves"),
    [
        (False, 1, 0, [], False),
        (True, 1, 0, [], True),
        (False, 0, 0, [], True),
        (False, 0, 0, [_pod("web-3", phase="Pending")], True),
        (False, 0, 0, [_pending()], False),
        (True, 0, 0, [_pending()], True),
        (False, 1, 1, [], True),
    ],
)
def test_a_budget_is_waited_for_while_a_pod_ends_or_another_starts_on_a_node(
    monkeypatch: pytest.MonkeyPatch,
    ending: bool,
    healthy: int,
    allowed: int,
    beside: list[k8s.V1Pod],
    moves: bool,
) -> None:
    budget = _budget("tight", allowed, match_labels={"app": "web"})
    budget.status.current_healthy = healthy
    budgets = SimpleNamespace(
        list_namespaced_pod_disruption_budget=lambda space: SimpleNamespace(items=[budget])
    )
    monkeypatch.setattr(k8s, "PolicyV1Api", lambda client: budgets)
    going = [_pod("web"), _pod("web-2", deletion_timestamp=NOW if ending else None)]
    pods = SimpleNamespace(items=[*going, *beside])
    core = SimpleNamespace(list_namespaced_pod=lambda space: pods)
    api: Any = SimpleNamespace(client=None, core=core)
    assert drain._moves(api, going, going[0]) is moves


def test_a_pod_that_a_budget_holds_is_told_with_what_keeps_another_from_taking_over() -> None:
    budgets = [_budget("tight", 0, match_labels={"app": "web"})]
    alone = drain.held(_pod("web"), budgets, [_pod("web")], 130)
    assert alone == (
        "pod shop/web is held by the budget tight for 130 s; let it have one more replica, or"
        " delete the budget, then run this again"
    )
    new = _pending()
    assert drain.held(_pod("web"), budgets, [_pod("web"), new], 130) == (
        "pod shop/web is held by the budget tight for 130 s, as long as another does not run"
        f" (web-3: {_NOWHERE}); mend that, then run this again"
    )
    new.metadata.labels = {"app": "another"}
    assert drain.held(_pod("web"), budgets, [_pod("web"), new], 130) == alone


@pytest.mark.parametrize(
    ("status", "body", "waits"),
    [
        (429, "", True),
        (403, '{"details": {"causes": [{"reason": "NamespaceTerminating"}]}}', True),
        (403, '{"reason": "Forbidden"}', False),
    ],
)
def test_a_pod_whose_namespace_is_just_deleted_is_waited_for(
    status: int, body: str, waits: bool
) -> None:
    def refused(*_: object) -> None:
        error = ApiException(status=status)
        error.body = body
        raise error

    api: Any = SimpleNamespace(core=SimpleNamespace(create_namespaced_pod_eviction=refused))
    if waits:
        assert not drain._evicted(api, _pod("web"))
    else:
        with pytest.raises(ApiException):
            drain._evicted(api, _pod("web"))
