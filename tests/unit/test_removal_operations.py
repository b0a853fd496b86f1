"""A node leaves, in a run in which hosts fail."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from pyinfra.api import FunctionCommand
from pyinfra.context import ctx_host, ctx_inventory, ctx_state

import barekube.api
from barekube import drain, remote
from barekube.cluster import Node
from barekube.etcd import Member
from barekube.operations import etcd, order, removal, reset, roll
from tests.unit.harness import FakeHost, home

CLUSTER = home(Node("cp-1", "192.0.2.11", True), Node("cp-2", "192.0.2.12", True))
NODE = SimpleNamespace(
    metadata=SimpleNamespace(name="cp-2", annotations={}),
    spec=SimpleNamespace(unschedulable=None),
    status=SimpleNamespace(conditions=[SimpleNamespace(type="Ready", status="True")]),
)


class Run:
    """Operations of a run with these hosts, each on one of them."""

    def __init__(self, *names: str) -> None:
        self.hosts = {name: FakeHost(name, {}, {}) for name in names}
        self.state = SimpleNamespace(is_executing=True, active_hosts=set(self.hosts.values()))

    def on(self, name: str, operation: Any, *given: object) -> list[str]:  # noqa: ANN401
        """What it does there; a host that is refused something fails."""
        host = self.hosts[name]
        done = []
        with ctx_state.use(self.state), ctx_inventory.use(self.hosts.values()), ctx_host.use(host):
            for command in operation._inner(*given):
                if isinstance(command, FunctionCommand):
                    done.append(command.function.__name__)
                else:
                    done.append(command.get_raw_value())
        if done == ["false"]:
            self.state.active_hosts.remove(host)
        return done


def _api(monkeypatch: pytest.MonkeyPatch, **core: object) -> None:
    there = SimpleNamespace(
        core=SimpleNamespace(**core), host=SimpleNamespace(name="cp-1"), client=None
    )
    monkeypatch.setattr(barekube.api, "connect", lambda cluster, besides="": there)
    monkeypatch.setattr(barekube.api, "opened", lambda: None)


def test_where_the_host_that_judges_fails_no_other_one_removes_or_resets_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def list_node() -> None:
        raise ApiException(status=403, reason="Forbidden")

    monkeypatch.setattr(order, "unwell", {})
    _api(monkeypatch, list_node=list_node, read_node=lambda name: NODE)
    run = Run("cp-1", "w-1", "cp-2")
    assert run.on("cp-1", removal.judged, CLUSTER, "cp-2") == ["false"]
    assert run.on("w-1", removal.told, "cp-2") == []
    assert run.hosts["w-1"].logs == []  # Nothing is next where nothing was done.
    assert run.on("w-1", removal.removed, CLUSTER, "cp-2") == []
    assert run.on("cp-2", removal.left, CLUSTER, "cp-2") == ["false"]
    assert run.on("w-1", removal.reclaimed, CLUSTER, "cp-2") == []
    assert run.hosts["w-1"].logs == [
        "cp-1 failed, so that this is not done; mend it, or --exclude it"
    ]
    assert run.hosts["cp-2"].logs == [
        "it is not reset, for cp-1 failed; see above, then run this again"
    ]


ONE = Member(
    "1", "cp-1", "https://192.0.2.11:2380", "https://192.0.2.11:2379", learner=False, healthy=True
)
TWO = Member("2", "cp-2", "https://192.0.2.12:2380", "https://192.0.2.12:2379", False, True)
NEW = Member("2", "", "https://192.0.2.12:2380", "", learner=True, healthy=False)


@pytest.mark.parametrize(
    ("members", "done"),
    [
        (None, ["false"]),
        ([ONE], ["_drain", "_delete", "_await_ceph"]),
        # A join that was cut off has added it, and nobody has started it.
        ([ONE, NEW], ["_drain", "_leave_etcd", "_delete", "_await_ceph"]),
    ],
)
def test_a_node_is_not_deleted_while_nobody_knows_whether_it_is_in_etcd(
    monkeypatch: pytest.MonkeyPatch, members: list[Member] | None, done: list[str]
) -> None:
    alone = SimpleNamespace(items=[NODE])
    _api(monkeypatch, read_node=lambda name: NODE, list_node=lambda: alone)
    monkeypatch.setattr(etcd, "_PAUSES", (0, 0))
    monkeypatch.setattr(etcd, "members", lambda host: members)
    run = Run("cp-1", "cp-2")
    assert run.on("cp-1", removal.removed, CLUSTER, "cp-2") == done
    nowhere = "warning: no other node takes pods now; those of cp-2 wait until one does"
    assert (nowhere in run.hosts["cp-1"].logs) == (members is not None)


def test_an_etcd_that_is_busy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, [ONE]])
    monkeypatch.setattr(etcd, "_PAUSES", (0, 0, 0))
    monkeypatch.setattr(etcd, "members", lambda host: next(answers))
    assert etcd.asked(SimpleNamespace()) == [ONE]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([ONE], "None"),
        ([ONE, TWO], "cp-2 is a node of a cluster that goes on on cp-1; run"),
        ([ONE, NEW], "cp-2 is a node of a cluster that goes on on cp-1; run"),
        (None, "cp-1 cannot ask etcd whether cp-2 is a member of it; mend that"),
    ],
)
def test_a_control_plane_that_votes_in_etcd_is_not_reset_before_its_node_is_there_either(
    monkeypatch: pytest.MonkeyPatch, members: list[Member] | None, said: str
) -> None:
    def read_node(name: str) -> None:
        raise ApiException(status=404)

    _api(monkeypatch, read_node=read_node)
    monkeypatch.setattr(etcd, "_PAUSES", (0, 0))
    monkeypatch.setattr(etcd, "members", lambda host: members)
    with ctx_host.use(FakeHost("cp-2", {}, {})):
        assert str(reset._refusal(CLUSTER, {"cp-2"})).startswith(said)


@pytest.mark.parametrize(
    ("cordoned", "calls"),
    [(None, ["mark true", "uncordon", "mark None"]), (True, [])],
)
def test_a_node_that_stays_is_let_back_unless_a_user_had_cordoned_it(
    monkeypatch: pytest.MonkeyPatch, cordoned: bool | None, calls: list[str]
) -> None:
    node = SimpleNamespace(
        metadata=SimpleNamespace(annotations={}), spec=SimpleNamespace(unschedulable=cordoned)
    )
    done: list[str] = []

    def mark(api: object, name: str, value: str | None) -> None:
        done.append(f"mark {value}")
        node.metadata.annotations = {roll.MARK: value} if value else {}

    _api(monkeypatch, read_node=lambda name: node)
    monkeypatch.setattr(roll, "mark", mark)
    monkeypatch.setattr(drain, "drain", lambda *given: "a budget keeps till-0")
    monkeypatch.setattr(drain, "uncordon", lambda api, name: done.append("uncordon"))
    monkeypatch.setattr(removal, "_ceph_lacks", lambda *given, back: None)
    host = SimpleNamespace(log=lambda line: None)
    assert removal._drain(SimpleNamespace(), host, CLUSTER, "w-1") is False  # type: ignore[arg-type]
    assert done == calls


@pytest.mark.parametrize(
    ("leaving", "told"),
    [
        (TWO, ["endpoints https://192.0.2.12:2379 move-leader 1", "remove 2"]),
        (replace(TWO, healthy=False), ["remove 2"]),
    ],
    ids=["well", "dead"],
)
def test_a_member_that_leads_hands_that_over_before_it_leaves(
    monkeypatch: pytest.MonkeyPatch, leaving: Member, told: list[str]
) -> None:
    ran: list[str] = []

    def lines(other: object, script: str) -> list[str] | None:
        ran.append(script)
        # etcdctl's answer where the member is a follower.
        return None if "move-leader" in script else []

    _api(monkeypatch)
    monkeypatch.setattr(remote, "lines", lines)
    host = SimpleNamespace(log=lambda line: None)
    known = [leaving, ONE]
    assert removal._leave_etcd(SimpleNamespace(), host, CLUSTER, "cp-2", leaving, known)  # type: ignore[arg-type]
    assert [each.endswith(end) for each, end in zip(ran, told, strict=True)] == [True] * len(told)
