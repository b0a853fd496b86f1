"""What the API is sent: what it cannot judge beforehand, when it is busy, and when it refuses."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import (
    NotFoundError,
    ResourceNotFoundError,
    api_exception,
)
from pyinfra.context import ctx_host

from barekube import objects as live_objects
from barekube.manifests import Object
from barekube.operations import objects
from tests.unit.harness import FakeHost

SPACE: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "rook-ceph"}}
MAP: Object = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "rook-ceph"},
}
OWN: Object = {**MAP, "kind": "CephCluster"}
NOWHERE: Object = {**OWN, "kind": "CephBlockPool", "metadata": {"name": "a"}}


class _Kind:
    """Answers each apply by the next of `answers`: an error, or None for none."""

    def __init__(self, *answers: Exception | None, namespaced: bool = True) -> None:
        self.answers = list(answers)
        self.namespaced = namespaced

    def get(self, **options: object) -> Any:  # noqa: ANN401
        raise NotFoundError(ApiException(404))

    def server_side_apply(self, body: Object, **options: object) -> Any:  # noqa: ANN401
        answer = self.answers.pop(0) if self.answers else None
        if answer:
            raise answer
        return SimpleNamespace(to_dict=lambda: body)


def _api(**kinds: _Kind) -> Any:  # noqa: ANN401
    def get(api_version: str, kind: str) -> _Kind:
        if kind not in kinds:
            raise ResourceNotFoundError
        return kinds[kind]

    return SimpleNamespace(dynamic=SimpleNamespace(resources=SimpleNamespace(get=get)))


def _no_space() -> _Kind:
    return _Kind(NotFoundError(ApiException(404)))


@pytest.mark.parametrize(
    ("executing", "documents", "todo", "troubles"),
    [
        pytest.param(True, [SPACE, MAP], [(SPACE, []), (MAP, None)], [], id="its namespace comes"),
        pytest.param(
            True,
            [MAP],
            [],
            ["f: ConfigMap rook-ceph/a: there is no namespace rook-ceph; correct the manifest"],
            id="no namespace",
        ),
        pytest.param(False, [MAP], [(MAP, None)], [], id="a preview, no namespace"),
        pytest.param(
            True,
            [OWN],
            [],
            ["f: CephCluster rook-ceph/a: the API has no such kind; correct the manifest"],
            id="no kind",
        ),
        pytest.param(False, [OWN], [(OWN, None)], [], id="a preview, no kind"),
        pytest.param(
            False,
            [NOWHERE],
            [],
            ["f: CephBlockPool a: it is in no namespace; give it metadata.namespace"],
            id="a preview, of a kind that needs a namespace",
        ),
    ],
)
def test_what_the_api_cannot_judge_yet_is_no_trouble_if_it_comes_before(
    executing: bool,
    documents: list[Object],
    todo: list[tuple[Object, list[str] | None]],
    troubles: list[str],
) -> None:
    spaces = _Kind(namespaced=False)
    api = _api(Namespace=spaces, ConfigMap=_no_space(), CephBlockPool=_Kind())
    files = [("f", each) for each in documents]
    assert live_objects.compared(api, files, [], executing=executing) == (todo, troubles)


def _refusal(status: int) -> ApiException:
    error = api_exception(ApiException(status, "Refused"))
    error.body = '{"message": "no"}'
    return error


@pytest.mark.parametrize("executing", [True, False])
@pytest.mark.parametrize(
    ("status", "there", "troubles"),
    [
        (422, False, ["f: ConfigMap rook-ceph/a: the API refuses it: no; correct the manifest"]),
        (400, False, ["f: ConfigMap rook-ceph/a: the API refuses it: no; correct the manifest"]),
        (403, False, []),
        (422, True, []),
    ],
    ids=["not valid", "not understood", "a quota of that namespace", "the name is taken there"],
)
def test_an_object_whose_namespace_comes_with_it_is_judged_in_another_one(
    executing: bool, status: int, there: bool, troubles: list[str]
) -> None:
    kind = _Kind(NotFoundError(ApiException(404)), _refusal(status))
    sent: list[tuple[object, object]] = []
    apply, get = kind.server_side_apply, kind.get

    def keep(body: Object, **options: object) -> Any:  # noqa: ANN401
        sent.append((body["metadata"]["namespace"], options.get("dry_run")))
        return apply(body, **options)

    def find(**options: object) -> Any:  # noqa: ANN401
        taken = there and options["namespace"] == "default"
        return SimpleNamespace(to_dict=dict) if taken else get()

    kind.server_side_apply, kind.get = keep, find  # type: ignore[method-assign]
    api = _api(Namespace=_Kind(namespaced=False), ConfigMap=kind)
    files = [("f", SPACE), ("f", MAP)]
    todo, found = live_objects.compared(api, files, [], executing=executing)
    assert found == troubles
    assert todo == [(SPACE, []), *([] if troubles else [(MAP, None)])]
    assert sent == [("rook-ceph", "All"), ("default", "All")][: 1 if there else 2]


def test_a_changed_secret_is_applied_and_an_unchanged_one_is_not() -> None:
    def secret(value: str) -> Object:
        return {**MAP, "kind": "Secret", "data": {"password": value}}

    live, other = secret("b2xk"), secret("bmV3")
    api = _api(Secret=_Kind())
    assert live_objects.compared(api, [("f", live)], [live], executing=True) == ([], [])
    ((document, diff),), troubles = live_objects.compared(
        api, [("f", other)], [live], executing=True
    )
    assert (document, troubles) == (other, [])
    assert "+  password: (another secret)" in (diff or [])


def _apply(monkeypatch: pytest.MonkeyPatch, *answers: Exception | None) -> tuple[bool, list[str]]:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    host: Any = FakeHost("n-1", {}, {})
    api = _api(ConfigMap=_Kind(*answers))
    with ctx_host.use(host):
        return objects.apply(None, host, api, [MAP]), host.logs  # type: ignore[arg-type]


def test_a_server_that_is_too_busy_is_asked_again_and_a_refusal_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy, refused = ApiException(503, "Service Unavailable"), ApiException(422, "Invalid")
    refused.body = '{"message": "no"}'
    assert _apply(monkeypatch, busy, busy) == (True, [])
    assert _apply(monkeypatch, busy, refused) == (
        False,
        ["ConfigMap rook-ceph/a: the API refuses it: no; correct its manifest"],
    )


def _node(name: str, ready: str) -> SimpleNamespace:
    condition = SimpleNamespace(type="Ready", status=ready)
    return SimpleNamespace(
        metadata=SimpleNamespace(name=name), status=SimpleNamespace(conditions=[condition])
    )


def _pod(node: str) -> SimpleNamespace:
    none: list[object] = []
    status = SimpleNamespace(init_container_statuses=none, container_statuses=none, conditions=none)
    return SimpleNamespace(spec=SimpleNamespace(node_name=node), status=status)


def _rollout(updated: int, ready: dict[str, str]) -> Any:  # noqa: ANN401
    """An API with a DaemonSet on the nodes of `ready`, of whose pods `updated` are as wanted."""
    runs = sum(each == "True" for each in ready.values())
    status = SimpleNamespace(
        observed_generation=2,
        desired_number_scheduled=len(ready),
        updated_number_scheduled=updated,
        number_available=runs,
    )
    spec = SimpleNamespace(selector=SimpleNamespace(match_labels={"a": "b"}))
    live = SimpleNamespace(metadata=SimpleNamespace(generation=2), status=status, spec=spec)
    nodes = [_node(name, each) for name, each in ready.items()]
    pods = [_pod(name) for name in ready]
    core = SimpleNamespace(
        list_node=lambda: SimpleNamespace(items=nodes),
        list_namespaced_pod=lambda space, label_selector: SimpleNamespace(items=pods),
    )
    apps = SimpleNamespace(read_namespaced_daemon_set=lambda name, space: live)
    return SimpleNamespace(core=core, apps=apps)


def test_a_dead_machine_keeps_no_rollout_waiting_that_is_done_elsewhere() -> None:
    api = _rollout(2, {"a": "True", "b": "True", "c": "Unknown"})
    assert objects.unfinished(api, "weave", "kube-system") is None


def test_a_rollout_that_a_dead_machine_holds_names_it_and_soon() -> None:
    api = _rollout(0, {"a": "True", "b": "True", "c": "Unknown"})
    lacking = objects.unfinished(api, "kube-proxy", "kube-system")
    assert (
        lacking == "0 of 2 pods are up to date, 2 ready (c is not Ready and holds the others' turn)"
    )
    # Nothing is replaced as long as it holds.
    assert objects.replacing(api, "kube-proxy", "kube-system") is None


@pytest.mark.parametrize(
    ("updated", "ready"),
    [(1, {"a": "True", "b": "True"}), (0, {"a": "True", "b": "True", "c": "True"})],
)
def test_a_rollout_that_goes_on_is_named(updated: int, ready: dict[str, str]) -> None:
    api = _rollout(updated, ready)
    for ask in (objects.unfinished, objects.replacing):
        assert (ask(api, "kube-proxy", "kube-system") or "").startswith(
            f"{updated} of {len(ready)} pods are up to date"
        )
