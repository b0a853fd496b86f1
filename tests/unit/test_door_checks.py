"""The doors' part of the proof: each check fails, by name, where exactly its answer is wrong."""

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException

from barekube import api as cluster_api
from barekube import doors, manifests
from barekube.cluster import Cluster, Node
from barekube.operations import door_checks, objects
from barekube.operations import verify as verifying
from barekube.verify import Check
from tests.unit.harness import home, outcome

MASTER = Node("cp-1", "192.0.2.11", control_plane=True)
DOORS = {
    "internal": Node("w-1", "192.0.2.21", control_plane=False),
    "public": Node("w-2", "192.0.2.22", control_plane=False, edge=True),
}
CLUSTER = home(MASTER, *DOORS.values(), weave=True)
PEM, KEY = doors.certificate(["a"], datetime.now(UTC))
SHOWN = doors.leaf(PEM)
LOGIN = f"Basic {base64.b64encode(b'admin:right').decode()}"
# Status and body; what leads elsewhere says where in place of a body.
Answer = tuple[int, str] | None
# Of a request: path, host name, whether it logs in, whether by TLS.
Door = Callable[[str, str, bool, bool], Answer]


def _well(door: str) -> Door:
    def answer(path: str, name: str, login: bool, tls: bool) -> Answer:
        if not tls:
            return 301, f"https://{name}{path}"
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
    monkeypatch: pytest.MonkeyPatch,
    door: str,
    answer: Door,
    *earlier: Check,
    there: bool = True,
    online: bool = True,
    shown: bytes | None = SHOWN,
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
        if "/header" in path and name == door_checks._NAMES[door]:
            assert {"X-Forwarded-For", "X-Real-Ip"} <= set(headers)
        status, text = got
        where = {"Location": text} if status == 301 else {}
        return SimpleNamespace(status=status, data=text.encode(), headers=where)

    def show(cluster: Cluster, node: Node, name: str) -> bytes:
        if shown is None:
            raise ConnectionResetError
        return shown

    def read_ingress_class(name: str) -> str:
        assert name == door
        if not there:
            raise ApiException(404)
        return name

    kept = {"password": b"right", "tls.crt": PEM}
    coded = {key: base64.b64encode(value).decode() for key, value in kept.items()}
    secret = SimpleNamespace(data=coded)
    behind = SimpleNamespace(items=[SimpleNamespace(spec=SimpleNamespace(node_name="cp-1"))])
    core = SimpleNamespace(
        read_namespaced_secret=lambda name, space: secret,
        list_namespaced_pod=lambda space, label_selector: behind,
    )
    api = SimpleNamespace(core=core, client=None)
    classes = SimpleNamespace(read_ingress_class=read_ingress_class)
    role = SimpleNamespace(role_ref=SimpleNamespace(name="traefik-public"))
    bound = SimpleNamespace(items=[role] if online else [])
    bindings = SimpleNamespace(list_namespaced_role_binding=lambda space: bound)
    told = list(earlier)
    monkeypatch.setattr(cluster_api, "connect", lambda cluster: api)
    monkeypatch.setattr(k8s, "NetworkingV1Api", lambda client: classes)
    monkeypatch.setattr(k8s, "RbacAuthorizationV1Api", lambda client: bindings)
    monkeypatch.setattr(door_checks, "ask", ask)
    monkeypatch.setattr(door_checks, "shown", show)
    monkeypatch.setattr(door_checks, "asker", lambda node: MASTER)
    monkeypatch.setattr(door_checks, "_SETTLING", 0)
    monkeypatch.setattr(door_checks, "_TAKEN", 0)
    monkeypatch.setattr(verifying, "_checks", told)
    outcome(door_checks.tried, CLUSTER, answers={}, name=DOORS[door].name)
    return told[len(earlier) :]


BEHIND = ["Ingress by host", "Ingress by path", "client's address"]
COMMON = [*BEHIND[:2], "http to https", BEHIND[2], "certificate"]
LOGIN_WANTED = "pages want a login"
TITLES = {
    "internal": [*COMMON, LOGIN_WANTED, "pages", LOGIN_WANTED, "network page"],
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
        ("internal", "http to https", ("/x", "smoke.cluster.internal"), (200, "in clear")),
        (
            "internal",
            "http to https",
            ("/x", "smoke.cluster.internal"),
            (301, "http://smoke.cluster.internal/x"),
        ),
        (
            "public",
            "http to https",
            ("/x", "smoke.example.com"),
            (301, "https://smoke.example.com:8443/x"),
        ),
        (
            "internal",
            "client's address",
            ("/header?key=X-Forwarded-For", "smoke.cluster.internal"),
            (200, "10.32.0.1"),
        ),
        (
            "internal",
            "client's address",
            ("/header?key=X-Forwarded-For", "smoke.cluster.internal"),
            (200, f"{MASTER.address}1"),
        ),
        (
            "public",
            "client's address",
            ("/header?key=X-Forwarded-For", "smoke.example.com"),
            (200, f"192.0.2.1, {MASTER.address}"),
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
        (
            "internal",
            "pages want a login",
            ("/", "network.cluster.internal", False),
            (200, "<!doctype html>"),
        ),
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


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (
            doors.leaf(doors.certificate(["a"], datetime.now(UTC))[0]),
            "another one than in its Secret",
        ),
        (b"", "another one than in its Secret"),
        (None, "no answer"),
    ],
)
def test_a_certificate_that_is_not_that_of_the_secret_is_seen(
    monkeypatch: pytest.MonkeyPatch, door: str, shown: bytes | None, words: str
) -> None:
    checks = _checks(monkeypatch, door, _well(door), shown=shown)
    bad = [(each.title, each.words) for each in checks if each.good is False]
    assert bad == [("certificate", words)]


def test_where_other_namespaces_are_online_only_what_needs_the_application_is_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checks = _checks(monkeypatch, "public", _well("public"), online=False)
    assert {each.title for each in checks if each.good is None} == set(BEHIND)
    assert {each.title for each in checks if each.good} == set(TITLES["public"]) - set(BEHIND)
    words = "namespace online is not online here; try an Ingress of yours"
    assert {each.words for each in checks if each.good is None} == {words}


@pytest.mark.parametrize("online", [True, False])
def test_the_application_behind_the_public_door_is_made_only_where_it_would_be_online(
    monkeypatch: pytest.MonkeyPatch, online: bool
) -> None:
    made: list[str] = []

    def apply(state: object, host: object, api: object, documents: list[Any]) -> bool:
        made.extend(manifests.title(each) for each in documents)
        return True

    available = SimpleNamespace(status=SimpleNamespace(available_replicas=1))
    apps = SimpleNamespace(read_namespaced_deployment=lambda name, space: available)
    classes = [SimpleNamespace(metadata=SimpleNamespace(name=door)) for door in DOORS]
    listed = SimpleNamespace(list_ingress_class=lambda: SimpleNamespace(items=classes))
    role = SimpleNamespace(role_ref=SimpleNamespace(name="traefik-public"))
    bound = SimpleNamespace(items=[role] if online else [])
    bindings = SimpleNamespace(list_namespaced_role_binding=lambda space: bound)
    api = SimpleNamespace(apps=apps, client=None)
    monkeypatch.setattr(cluster_api, "connect", lambda cluster: api)
    monkeypatch.setattr(k8s, "NetworkingV1Api", lambda client: listed)
    monkeypatch.setattr(k8s, "RbacAuthorizationV1Api", lambda client: bindings)
    monkeypatch.setattr(verifying, "_cleared", lambda api: True)
    monkeypatch.setattr(objects, "apply", apply)
    monkeypatch.setattr(objects, "unfinished", lambda api, name, space: None)
    behind = {"internal": Path("manifests/smoke"), "public": Path("manifests/smoke/public")}
    host: Any = SimpleNamespace(log=print)
    nothing: Any = None
    assert verifying._make(nothing, host, CLUSTER, Path("manifests/verify"), behind)
    assert "Deployment smoke/smoke" in made
    assert ("Deployment online/smoke" in made) == online


def _ingress(name: str, door: str, host: str, secret: str = "", *, old: bool = False) -> Any:  # noqa: ANN401
    space, _, own = name.partition("/")
    annotations = {"kubernetes.io/ingress.class": door} if old else None
    tls = [k8s.V1IngressTLS(hosts=[host], secret_name=secret)] if secret else None
    return k8s.V1Ingress(
        metadata=k8s.V1ObjectMeta(name=own, namespace=space, annotations=annotations),
        spec=k8s.V1IngressSpec(
            ingress_class_name=None if old else door,
            tls=tls,
            rules=[k8s.V1IngressRule(host=host), k8s.V1IngressRule()],
        ),
    )


NOW = datetime.now(UTC)
OLD = doors.certificate(["a"], NOW - timedelta(days=370))
WELL = {"tls.crt": PEM, "tls.key": KEY}


def _looked(
    monkeypatch: pytest.MonkeyPatch, secrets: dict[str, dict[str, bytes]], *ingresses: object
) -> dict[str, tuple[bool | None, str]]:
    """What is said of certificates and of names, of doors whose own certificates are well."""

    def read(name: str, space: str) -> Any:  # noqa: ANN401
        found = secrets.get(f"{space}/{name}", WELL if name == "certificate" else None)
        if found is None:
            raise ApiException(404)
        coded = {key: base64.b64encode(value).decode() for key, value in found.items()}
        return SimpleNamespace(data=coded)

    listed = SimpleNamespace(items=list(ingresses))
    there = SimpleNamespace(list_ingress_for_all_namespaces=lambda: listed)
    api = SimpleNamespace(core=SimpleNamespace(read_namespaced_secret=read), client=None)
    told: list[Check] = []
    monkeypatch.setattr(cluster_api, "connect", lambda cluster: api)
    monkeypatch.setattr(k8s, "NetworkingV1Api", lambda client: there)
    monkeypatch.setattr(door_checks, "acts_for_the_cluster", lambda: True)
    monkeypatch.setattr(verifying, "_checks", told)
    outcome(door_checks.looked, CLUSTER, answers={}, name="cp-1")
    return {each.title: (each.good, each.words) for each in told}


def test_certificates_that_are_good_and_names_of_one_door_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = _looked(
        monkeypatch,
        {"shop/tls": WELL},
        _ingress("shop/a", "internal", "a.example.com", "tls"),
        _ingress("online/b", "public", "b.example.com"),
        _ingress("online/c", "public", "b.example.com"),
    )
    assert found == {
        "doors' certificates": (True, "3 are good, none is near its end"),
        "doors' names": (True, "2 are of one door each"),
    }


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (None, "is not there"),
        ({}, ": it holds no certificate"),
        ({"tls.crt": PEM, "tls.key": OLD[1]}, ": its key does not belong to its certificate"),
        (
            {"tls.crt": OLD[0], "tls.key": OLD[1]},
            f": its last day is {NOW + timedelta(days=27):%Y-%m-%d}",
        ),
    ],
)
def test_a_secret_that_is_no_use_is_named_with_its_ingress(
    monkeypatch: pytest.MonkeyPatch, secret: dict[str, bytes] | None, why: str
) -> None:
    mine = _ingress("shop/a", "internal", "a.example.com", "tls")
    found = _looked(monkeypatch, {"shop/tls": secret} if secret is not None else {}, mine)
    said = f"Ingress shop/a: Secret shop/tls{'' if why.startswith(':') else ' '}{why}"
    assert found["doors' certificates"] == (False, said)


@pytest.mark.parametrize("old", [False, True])
def test_a_name_that_both_doors_want_is_told_with_both_ingresses(
    monkeypatch: pytest.MonkeyPatch, old: bool
) -> None:
    found = _looked(
        monkeypatch,
        {},
        _ingress("shop/a", "internal", "a.example.com"),
        _ingress("online/b", "public", "a.example.com", old=old),
    )
    assert found["doors' names"] == (
        False,
        "a.example.com is wanted by both doors: Ingress shop/a and, online, online/b",
    )


def _deaf(path: str, name: str, login: bool, tls: bool) -> Answer:
    return None


def test_a_door_is_not_blamed_for_a_pair_that_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Check("pods on cp-1", "w-1", False, "no answer")
    checks = _checks(monkeypatch, "internal", _deaf, cut)
    words = "for cp-1, where the application runs, is not reached"
    asked = [each for each in checks if each.title != "certificate"]
    assert {(each.good, each.words) for each in asked} == {(None, words)}


def test_a_door_that_is_not_there_is_named_as_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = _checks(monkeypatch, "public", _deaf, there=False)
    words = "there is no public door; run deploys/ingress.py"
    assert {(each.good, each.words) for each in checks} == {(None, words)}
    assert [each.title for each in checks] == TITLES["public"]
