"""The doors' part of the proof: each check fails, by name, where exactly its answer is wrong."""

import base64
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException

from barekube import api as cluster_api
from barekube.cluster import Cluster, Node
from barekube.operations import door_checks
from barekube.operations import verify as verifying
from barekube.verify import Check
from tests.unit.harness import outcome

MASTER = Node("cp-1", "192.0.2.11", control_plane=True)
DOORS = {
    "internal": Node("w-1", "192.0.2.21", control_plane=False),
    "public": Node("w-2", "192.0.2.22", control_plane=False, edge=True),
}
CLUSTER = Cluster(
    "home",
    "1.37.2",
    "api.home",
    6443,
    "10.96.0.0/12",
    "10.32.0.0/12",
    (MASTER, *DOORS.values()),
    weave=True,
)
LOGIN = f"Basic {base64.b64encode(b'admin:right').decode()}"
Answer = tuple[int, str] | None
# Of a request: path, host name, whether it logs in, whether by TLS.
Door = Callable[[str, str, bool, bool], Answer]


def _well(door: str) -> Door:
    def answer(path: str, name: str, login: bool, tls: bool) -> Answer:
        if not tls:
            return 301, ""
        if name.startswith(("traefik.", "network.")):
            if door == "public":
                return 404, "404 page not found"
            if not login:
                return 401, "401 Unauthorized"
            return 200, "<!doctype html>" if name.startswith("network.") else '{"http": {}}'
        if door == "public" and name.endswith("cluster.internal"):
            return 404, "404 page not found"
        return 200, MASTER.address if path.startswith("/header") else "smoke-7d9f"

    return answer


def _checks(
    monkeypatch: pytest.MonkeyPatch, door: str, answer: Door, *earlier: Check, there: bool = True
) -> list[Check]:
    """What was told of a door that answers so, by way of cp-1, with the application on cp-1."""

    def ask(
        cluster: Cluster,
        node: Node,
        path: str,
        name: str,
        headers: Mapping[str, str],
        *,
        tls: bool,
    ) -> Any:  # noqa: ANN401
        assert node == DOORS[door]
        got = answer(path, name, headers.get("Authorization") == LOGIN, tls)
        if got is None:
            raise urllib3.exceptions.ReadTimeoutError(None, "", "")  # type: ignore[arg-type]
        return SimpleNamespace(status=got[0], data=got[1].encode())

    def read_ingress_class(name: str) -> str:
        assert name == door
        if not there:
            raise ApiException(404)
        return name

    secret = SimpleNamespace(data={"password": base64.b64encode(b"right").decode()})
    behind = SimpleNamespace(items=[SimpleNamespace(spec=SimpleNamespace(node_name="cp-1"))])
    core = SimpleNamespace(
        read_namespaced_secret=lambda name, space: secret,
        list_namespaced_pod=lambda space, label_selector: behind,
    )
    api = SimpleNamespace(core=core, client=None)
    classes = SimpleNamespace(read_ingress_class=read_ingress_class)
    told = list(earlier)
    monkeypatch.setattr(cluster_api, "connect", lambda cluster: api)
    monkeypatch.setattr(k8s, "NetworkingV1Api", lambda client: classes)
    monkeypatch.setattr(door_checks, "ask", ask)
    monkeypatch.setattr(door_checks, "asker", lambda node: MASTER)
    monkeypatch.setattr(door_checks, "_SETTLING", 0)
    monkeypatch.setattr(verifying, "_checks", told)
    outcome(door_checks.tried, CLUSTER, answers={}, name=DOORS[door].name)
    return told[len(earlier) :]


COMMON = ["Ingress by host", "Ingress by path", "http to https", "client's address"]
TITLES = {
    "internal": [*COMMON, "pages want a login", "pages", "network page"],
    "public": [*COMMON, "nothing internal", "no dashboard"],
}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_that_answers_as_it_should_passes_every_check(
    monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    checks = _checks(monkeypatch, door, _well(door))
    assert [(each.title, each.good) for each in checks] == [(each, True) for each in TITLES[door]]


@pytest.mark.parametrize(
    ("door", "title", "request_", "wrong"),
    [
        ("internal", "Ingress by host", ("/hostname", "smoke.cluster.internal"), (404, "none")),
        ("public", "Ingress by host", ("/hostname", "smoke.example.com"), (200, "another page")),
        ("public", "Ingress by host", ("/hostname", "smoke.example.com"), None),
        ("internal", "Ingress by path", ("/hostname", "any.name.example.com"), (404, "none")),
        ("internal", "http to https", ("/", "smoke.cluster.internal"), (200, "in clear")),
        (
            "internal",
            "client's address",
            ("/header?key=X-Forwarded-For", "smoke.cluster.internal"),
            (200, "10.32.0.1"),
        ),
        (
            "public",
            "client's address",
            ("/header?key=X-Forwarded-For", "smoke.example.com"),
            (200, ""),
        ),
        ("public", "nothing internal", ("/header", "smoke.cluster.internal"), (200, "")),
        ("public", "no dashboard", ("/api/overview", "traefik.cluster.internal"), (200, "{}")),
        ("public", "no dashboard", ("/api/overview", "traefik.cluster.internal"), (401, "")),
        (
            "internal",
            "pages want a login",
            ("/api/overview", "traefik.cluster.internal", False),
            (200, "{}"),
        ),
        ("internal", "pages", ("/api/overview", "traefik.cluster.internal", True), (401, "")),
        ("internal", "pages", ("/api/overview", "traefik.cluster.internal", True), (200, "<")),
        ("internal", "network page", ("/", "network.cluster.internal", True), (502, "")),
    ],
)
def test_what_a_door_answers_wrongly_fails_by_its_name_alone(
    monkeypatch: pytest.MonkeyPatch,
    door: str,
    title: str,
    request_: tuple[object, ...],
    wrong: Answer,
) -> None:
    well = _well(door)

    def answer(path: str, name: str, login: bool, tls: bool) -> Answer:
        hit = (path, name, login)[: len(request_)] == request_
        return wrong if hit else well(path, name, login, tls)

    checks = _checks(monkeypatch, door, answer)
    assert [each.title for each in checks if each.good is False] == [title]
    assert [each.title for each in checks] == TITLES[door]


def _deaf(path: str, name: str, login: bool, tls: bool) -> Answer:
    return None


def test_a_door_is_not_blamed_for_a_pair_that_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Check("pods on cp-1", "w-1", False, "no answer")
    checks = _checks(monkeypatch, "internal", _deaf, cut)
    words = "for cp-1, where the application runs, is not reached"
    assert {(each.good, each.words) for each in checks} == {(None, words)}


def test_a_door_that_is_not_there_is_named_as_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = _checks(monkeypatch, "public", _deaf, there=False)
    words = "there is no public door; run deploys/ingress.py"
    assert {(each.good, each.words) for each in checks} == {(None, words)}
    assert [each.title for each in checks] == TITLES["public"]
