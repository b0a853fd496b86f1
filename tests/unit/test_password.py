"""The pod network's password: made once, kept, changed when asked for; and who runs with it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException

from barekube import api as cluster_api
from barekube import objects as live_objects
from barekube import weave
from barekube.api import Trouble
from barekube.cluster import Cluster
from barekube.operations import objects
from tests.unit.harness import FakeHost, Outcome, outcome

CLUSTER = Cluster("home", "1.37.2", "api.home", 6443, "10.96.0.0/12", "10.32.0.0/12", ())
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
EARLIER, LATER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
KEPT = {"password": "a2VwdA=="}


def _api(
    secret: dict[str, str] | None = None,
    written: datetime = NOW,
    pods: dict[str, datetime] | None = None,
    dead: str = "",
    reads: str = weave.SECRET,
) -> Any:  # noqa: ANN401
    """An API with weave-net on the nodes of `pods`, which were made then; None: without it."""

    def read_secret(name: str, space: str) -> k8s.V1Secret:
        assert (name, space) == (weave.SECRET, "kube-system")
        if secret is None:
            raise ApiException(404)
        fields = [k8s.V1ManagedFieldsEntry(time=each) for each in (EARLIER, written)]
        return k8s.V1Secret(data=secret, metadata=k8s.V1ObjectMeta(managed_fields=fields))

    def read_daemon_set(name: str, space: str) -> k8s.V1DaemonSet:
        assert (name, space) == (weave.DAEMON_SET, "kube-system")
        if pods is None:
            raise ApiException(404)
        return live

    selector = k8s.V1SecretKeySelector(name=reads, key="password")
    source = k8s.V1EnvVarSource(secret_key_ref=selector) if reads else None
    env = [k8s.V1EnvVar(name="WEAVE_PASSWORD", value_from=source)]
    container = k8s.V1Container(name="weave", env=env)
    count = len(pods or ())
    live = k8s.V1DaemonSet(
        metadata=k8s.V1ObjectMeta(generation=1),
        spec=k8s.V1DaemonSetSpec(
            selector=k8s.V1LabelSelector(match_labels={"a": "b"}),
            template=k8s.V1PodTemplateSpec(spec=k8s.V1PodSpec(containers=[container])),
        ),
        status=k8s.V1DaemonSetStatus(
            current_number_scheduled=count,
            number_misscheduled=0,
            number_ready=count,
            observed_generation=1,
            desired_number_scheduled=count,
            updated_number_scheduled=count,
            number_available=count,
        ),
    )
    there = [
        k8s.V1Pod(
            metadata=k8s.V1ObjectMeta(creation_timestamp=made),
            spec=k8s.V1PodSpec(node_name=node, containers=[container]),
        )
        for node, made in (pods or {}).items()
    ]
    nodes = [
        k8s.V1Node(
            metadata=k8s.V1ObjectMeta(name=name),
            status=k8s.V1NodeStatus(
                conditions=[
                    k8s.V1NodeCondition(type="Ready", status="Unknown" if name == dead else "True")
                ]
            ),
        )
        for name in pods or ()
    ]
    made_with = {"ClusterConfiguration": "networking: {podSubnet: 10.32.0.0/12}"}
    core = SimpleNamespace(
        read_namespaced_secret=read_secret,
        read_namespaced_config_map=lambda name, space: SimpleNamespace(data=made_with),
        list_namespaced_pod=lambda space, label_selector: SimpleNamespace(items=there),
        list_node=lambda: SimpleNamespace(items=nodes),
    )
    return SimpleNamespace(
        core=core, apps=SimpleNamespace(read_namespaced_daemon_set=read_daemon_set)
    )


def _connected(
    monkeypatch: pytest.MonkeyPatch,
    api: Any,  # noqa: ANN401
    *,
    acts: bool = True,
    troubles: Sequence[str] = (),
) -> None:
    def connect(cluster: Cluster) -> Any:  # noqa: ANN401
        if api is None:
            raise Trouble("cp-1: its API does not answer")
        return api

    monkeypatch.setattr(cluster_api, "connect", connect)
    monkeypatch.setattr(objects, "leads", lambda: acts)
    monkeypatch.setattr(live_objects, "compared", lambda *given, executing: ([], troubles))


def _password(
    monkeypatch: pytest.MonkeyPatch,
    api: Any,  # noqa: ANN401
    asked: str = "",
    cluster: Cluster = CLUSTER,
    **more: Any,  # noqa: ANN401
) -> Outcome:
    _connected(monkeypatch, api, **more)
    return outcome(
        objects.password,
        cluster,
        weave.SECRET,
        weave.SECRET_KEY,
        weave.DAEMON_SET,
        [Path("manifests/weave")],
        answers={},
        data={"password": asked} if asked else {},
    )


RUNS = {"cp-1": NOW}
MADE = Outcome(commands=["_save_password()"], logs=["Secret kube-system/weave-password: made"])
GONE = (
    "Secret kube-system/weave-password is gone, and weave-net runs with what was in it; restore it,"
    " or make a new one with --data password=weave-password (pods do not reach each other until the"
    " last node has it)"
)
WITHOUT_KEY = (
    "Secret kube-system/weave-password has no password; delete it, then run this again with --data"
    " password=weave-password"
)


@pytest.mark.parametrize(
    ("api", "asked", "wanted"),
    [
        pytest.param(_api(), "", MADE, id="a new cluster"),
        pytest.param(
            _api(KEPT, pods=RUNS),
            "",
            Outcome(noops=["its password is kept in Secret kube-system/weave-password"]),
            id="it is there",
        ),
        pytest.param(
            _api(KEPT, pods=RUNS),
            "pages-login",
            Outcome(noops=["its password is kept in Secret kube-system/weave-password"]),
            id="another password is asked for",
        ),
        pytest.param(
            _api(KEPT, pods=RUNS),
            "weave-password",
            Outcome(
                commands=["_save_password()"],
                logs=[
                    "Secret kube-system/weave-password: a new password, with which DaemonSet"
                    " kube-system/weave-net restarts, node by node"
                ],
            ),
            id="a new one is asked for",
        ),
        pytest.param(
            _api(pods=RUNS), "", Outcome(commands=["false"], logs=[GONE]), id="gone, and in use"
        ),
        pytest.param(_api(pods=RUNS), "weave-password", MADE, id="gone, and a new one asked for"),
        pytest.param(
            _api({"other": "eA=="}, pods=RUNS),
            "weave-password",
            Outcome(commands=["false"], logs=[WITHOUT_KEY]),
            id="somebody else's Secret",
        ),
        pytest.param(
            None,
            "",
            Outcome(
                commands=["false"],
                logs=[
                    "no control plane answers (cp-1: its API does not answer); run"
                    " deploys/control_plane.py first"
                ],
            ),
            id="no API",
        ),
    ],
)
def test_a_password_is_made_once_and_anew_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    api: Any,  # noqa: ANN401
    asked: str,
    wanted: Outcome,
) -> None:
    assert _password(monkeypatch, api, asked) == wanted


@pytest.mark.parametrize("asked", ["", "weave-password"])
def test_no_password_is_made_where_the_api_refuses_what_comes_next(
    monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    troubles = ["weave.yaml: DaemonSet kube-system/weave-net: the API refuses it: no"]
    api = _api(KEPT, pods=RUNS) if asked else _api()
    assert _password(monkeypatch, api, asked, troubles=troubles) == Outcome(
        commands=["false"], logs=troubles
    )


@pytest.mark.parametrize("asked", ["", "weave-password"])
def test_no_password_is_made_where_the_manifests_have_another_range_of_pods(
    monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """What would restart the DaemonSet with it comes after what is refused."""
    api = _api(KEPT, pods=RUNS) if asked else _api()
    other = replace(CLUSTER, pod_network="10.48.0.0/12")
    done = _password(monkeypatch, api, asked, other)
    assert done.commands == ["false"]
    assert "10.48.0.0/12" in done.logs[0]
    assert len(done.logs) == 1


def test_one_host_makes_the_password_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _password(monkeypatch, _api(), acts=False) == Outcome()


def test_a_preview_of_a_run_that_makes_the_api_says_that_a_password_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(objects, "to_come", lambda stage: stage == "control_plane")
    assert _password(monkeypatch, None) == Outcome(
        commands=["false"],
        logs=["Secret kube-system/weave-password: made, if it is not there once the API answers"],
    )


def test_each_password_is_another_one_long_and_said_nowhere() -> None:
    bodies: list[Any] = []

    def apply(body: object, **options: object) -> Any:  # noqa: ANN401
        bodies.append(body)
        return SimpleNamespace(to_dict=lambda: body)

    secrets = SimpleNamespace(server_side_apply=apply)
    resources = SimpleNamespace(get=lambda api_version, kind: secrets)
    host: Any = FakeHost("cp-1", {}, {})
    api: Any = SimpleNamespace(dynamic=SimpleNamespace(resources=resources))
    for _ in range(2):
        assert objects._save_password(None, host, api, weave.SECRET, weave.SECRET_KEY)  # type: ignore[arg-type]
    one, other = (body["stringData"][weave.SECRET_KEY] for body in bodies)
    assert len(one) >= 32
    assert one != other
    assert host.logs == []


RESTART = Outcome(
    commands=["restart()"],
    logs=[
        "DaemonSet kube-system/weave-net: restart, node by node (Secret weave-password newer than"
        " its pods)"
    ],
    noops=["1 DaemonSets run as they are wanted"],
)
AS_WANTED = Outcome(noops=RESTART.noops)


@pytest.mark.parametrize(
    ("api", "wanted"),
    [
        pytest.param(_api(KEPT, pods={"a": LATER, "b": EARLIER}), RESTART, id="one pod is older"),
        pytest.param(_api(KEPT, pods={"a": LATER, "b": LATER}), AS_WANTED, id="all are younger"),
        pytest.param(
            _api(KEPT, pods={"a": LATER, "b": EARLIER}, dead="b"),
            AS_WANTED,
            id="one is older, on a dead machine",
        ),
        pytest.param(
            _api(KEPT, pods={"a": EARLIER, "b": EARLIER}, dead="b"),
            RESTART,
            id="one is older, beside a dead machine",
        ),
        pytest.param(_api(pods={"a": EARLIER}), AS_WANTED, id="the Secret is gone"),
        pytest.param(_api(KEPT, pods={}), AS_WANTED, id="no pods yet"),
        pytest.param(_api(KEPT, pods={"a": EARLIER}, reads=""), AS_WANTED, id="it reads no Secret"),
        pytest.param(_api(KEPT), AS_WANTED, id="it is not there yet"),
    ],
)
def test_a_secret_that_is_newer_than_a_pod_that_can_become_younger_rolls_them(
    monkeypatch: pytest.MonkeyPatch,
    api: Any,  # noqa: ANN401
    wanted: Outcome,
) -> None:
    _connected(monkeypatch, api)
    result = outcome(objects.rolled_out, CLUSTER, [Path("manifests/weave")], answers={})
    assert result == wanted
