"""What the API is sent: what it cannot judge beforehand, when it is busy, and when it refuses."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError
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


class _Kind:
    """Answers each apply by the next of `answers`: an error, or None for none."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)

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
    ],
)
def test_what_the_api_cannot_judge_yet_is_no_trouble_if_it_comes_before(
    executing: bool,
    documents: list[Object],
    todo: list[tuple[Object, list[str] | None]],
    troubles: list[str],
) -> None:
    api = _api(Namespace=_Kind(), ConfigMap=_no_space())
    files = [("f", each) for each in documents]
    assert live_objects.compared(api, files, [], executing=executing) == (todo, troubles)


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
        ["ConfigMap rook-ceph/a: the API refuses it: no"],
    )
