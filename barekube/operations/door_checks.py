"""The doors' part of the proof: requests through each of them, and the certificates behind."""

import base64
import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import urllib3
from kubernetes import client as k8s
from pyinfra import host, state
from pyinfra.api import operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import doors, verify
from barekube.api import Api, found
from barekube.cluster import Cluster, Node
from barekube.operations import verify as verifying
from barekube.operations.doors import ask, asker, contents, shown
from barekube.operations.order import acts_for_the_cluster, answering
from barekube.verify import Check

# A door knows of a new Ingress some seconds after it was made, and of a new certificate once
# kubelet has looked at its Secret again.
_SETTLING, _TAKEN = 30, 120
_ANOTHER = "another one than in its Secret"
_NAMES = {doors.INTERNAL: "smoke.cluster.internal", doors.PUBLIC: "smoke.example.com"}
_SPACES = {doors.INTERNAL: verify.SMOKE, doors.PUBLIC: doors.ONLINE}
_PAGES, _NETWORK = "traefik.cluster.internal", "network.cluster.internal"
_FORGED = {"X-Forwarded-For": "192.0.2.1", "X-Real-Ip": "192.0.2.1"}


class Try(NamedTuple):
    """A request through a door: for what, and what has to come back.

    `whole`: the body is that and no more; `behind`: it is for the application behind the door;
    `shows`: the certificate, in DER, that is to be shown to whoever asks for `name`.
    """

    title: str
    path: str
    name: str
    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = {}
    tls: bool = True
    whole: bool = False
    location: str = ""
    behind: bool = False
    shows: bytes | None = None


def _tries(door: str, address: str, password: str, certificate: bytes, *, weave: bool) -> list[Try]:
    name, other, header = _NAMES[door], "any.name.example.com", "/header?key=X-Forwarded-For"
    secure = f"https://{name}/x"
    result = [
        Try("Ingress by host", "/hostname", name, body="smoke-", behind=True),
        Try("Ingress by path", "/hostname", other, body="smoke-", behind=True),
        Try("http to https", "/x", name, status=301, tls=False, location=secure),
        Try("client's address", header, name, 200, address, _FORGED, whole=True, behind=True),
        Try("certificate", "", "nobody.invalid", shows=certificate),
    ]
    if door == doors.PUBLIC:
        internal = _NAMES[doors.INTERNAL]
        return [
            *result,
            Try("nothing internal", "/header", internal, status=404),
            Try("no dashboard", "/api/overview", _PAGES, status=404),
        ]
    login = {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}
    return [
        *result,
        Try("pages want a login", "/api/overview", _PAGES, status=401),
        Try("pages", "/api/overview", _PAGES, body="{", headers=login),
        *(
            [
                Try("pages want a login", "/", _NETWORK, status=401),
                Try("network page", "/", _NETWORK, body="<!", headers=login),
            ]
            if weave
            else []
        ),
    ]


@operation()
def tried(cluster: Cluster) -> Generator[PyinfraCommand]:
    """Requests were sent through the door that this host carries, from another host."""
    if state.is_executing:
        yield from answering(_tried(cluster))
    host.noop("tried")


def _tried(cluster: Cluster) -> Generator[PyinfraCommand]:
    yield from ()
    api = cluster_api.connect(cluster)
    node = cluster.node(host.name)
    door = doors.carried(node)
    there = found(k8s.NetworkingV1Api(api.client).read_ingress_class, door)
    address = cluster.node(asker(node).name).address
    kept = (contents(api, doors.CERTIFICATE, doors.space(door)) or {}).get("tls.crt", b"")
    wanted = _tries(door, address, _password(api), doors.leaf(kept), weave=cluster.weave)
    words, skipped = "", []
    if there is None:
        words, skipped = f"there is no {door} door; run deploys/ingress.py", wanted
    elif door == doors.PUBLIC and not verifying.smoke_is_online(api):
        words = f"namespace {doors.ONLINE} is not online here; try an Ingress of yours"
        skipped = [each for each in wanted if each.behind]
    verifying.tell([Check(each.title, host.name, None, words) for each in skipped])
    wanted = [each for each in wanted if each not in skipped]
    began = time.monotonic()
    checks = [_try(cluster, node, each) for each in wanted]
    while True:
        took = time.monotonic() - began
        # What came back once is proven; asked again it would only add a chance to be unlucky.
        again = [
            number
            for number, check in enumerate(checks)
            if not check.good and took < (_TAKEN if check.words == _ANOTHER else _SETTLING)
        ]
        if not again:
            break
        time.sleep(1)
        for number in again:
            checks[number] = _try(cluster, node, wanted[number])
    behind = api.core.list_namespaced_pod(_SPACES[door], label_selector="app=smoke").items
    lost = verifying.lost(host.name).intersection(each.spec.node_name for each in behind)
    if lost:
        # That way has its own check; it says nothing about the door.
        words = f"for {' and '.join(sorted(lost))}, where the application runs, is not reached"
        checks = [each if each.good else replace(each, good=None, words=words) for each in checks]
    verifying.tell(checks)


def _try(cluster: Cluster, node: Node, wanted: Try) -> Check:
    began = time.monotonic()
    try:
        if wanted.shows is not None:
            good = shown(cluster, node, wanted.name) == wanted.shows
            words = "that of its Secret" if good else _ANOTHER
        else:
            good, words = _judged(
                ask(cluster, node, wanted.path, wanted.name, wanted.headers, tls=wanted.tls), wanted
            )
    except (urllib3.exceptions.HTTPError, OSError):
        good, words = False, "no answer"
    return Check(wanted.title, node.name, good, words, time.monotonic() - began)


def _judged(answer: urllib3.BaseHTTPResponse, wanted: Try) -> tuple[bool, str]:
    text, location = answer.data.decode(errors="replace"), answer.headers.get("Location", "")
    if answer.status == wanted.status and location != wanted.location:
        return False, f"{answer.status} to {location!r}"
    same = text == wanted.body if wanted.whole else text.startswith(wanted.body)
    if answer.status == wanted.status and same:
        return True, f"{answer.status}"
    return False, f"{answer.status}: {text[:80]!r}"


def _password(api: Api) -> str:
    login = contents(api, doors.LOGIN, doors.space(doors.INTERNAL)) or {}
    return f"{doors.USER}:{login.get('password', b'').decode()}"


@operation()
def looked(cluster: Cluster) -> Generator[PyinfraCommand]:
    """The certificates of the doors, and those that Ingress objects name, were looked at."""
    if state.is_executing and acts_for_the_cluster():
        yield from answering(_looked(cluster))
    host.noop("looked")


def _looked(cluster: Cluster) -> Generator[PyinfraCommand]:
    yield from ()
    api = cluster_api.connect(cluster)
    named = [(doors.space(door), doors.CERTIFICATE, f"{door} door") for door in doors.of(cluster)]
    claimed = []
    for ingress in k8s.NetworkingV1Api(api.client).list_ingress_for_all_namespaces().items:
        space, name = ingress.metadata.namespace, ingress.metadata.name
        for entry in ingress.spec.tls or []:
            if entry.secret_name:
                named.append((space, entry.secret_name, f"Ingress {space}/{name}"))
        # The annotation is what came before the field.
        before = (ingress.metadata.annotations or {}).get("kubernetes.io/ingress.class", "")
        door = ingress.spec.ingress_class_name or before
        claimed += [
            (door, rule.host, f"{space}/{name}") for rule in ingress.spec.rules or [] if rule.host
        ]
    faults = [fault for each in named if (fault := _fault(api, *each))]
    words = "; ".join(faults) or f"{len(named)} are good, none is near its end"
    clashes = doors.claims(claimed)
    names = "; ".join(clashes) or f"{len({name for _, name, _ in claimed})} are of one door each"
    verifying.tell(
        [
            Check("doors' certificates", host.name, not faults, words),
            Check("doors' names", host.name, not clashes, names),
        ]
    )


def _fault(api: Api, space: str, name: str, user: str) -> str:
    data = contents(api, name, space)
    if data is None:
        return f"{user}: Secret {space}/{name} is not there"
    now = datetime.now(UTC)
    pem = data.get("tls.crt", b"")
    wrong = doors.unfit(pem, data.get("tls.key"), now) or doors.ending(pem, now)
    return f"{user}: Secret {space}/{name}: {wrong}" if wrong else ""
