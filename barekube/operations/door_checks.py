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
from barekube.operations.doors import ask, asker
from barekube.operations.order import acts_for_the_cluster, answering
from barekube.verify import Check

# A door knows of a new Ingress some seconds after it was made.
_SETTLING = 30
_NAMES = {doors.INTERNAL: "smoke.cluster.internal", doors.PUBLIC: "smoke.example.com"}
_SPACES = {doors.INTERNAL: verify.SMOKE, doors.PUBLIC: doors.ONLINE}
_PAGES, _NETWORK = "traefik.cluster.internal", "network.cluster.internal"


class Try(NamedTuple):
    """A request through a door: for what, and what has to come back."""

    title: str
    path: str
    name: str
    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = {}
    tls: bool = True


def _tries(door: str, address: str, password: str, *, weave: bool) -> list[Try]:
    result = [
        Try("Ingress by host", "/hostname", _NAMES[door], body="smoke-"),
        Try("Ingress by path", "/hostname", "any.name.example.com", body="smoke-"),
        Try("http to https", "/", _NAMES[door], status=301, tls=False),
        Try("client's address", "/header?key=X-Forwarded-For", _NAMES[door], body=address),
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
        *([Try("network page", "/", _NETWORK, body="<!", headers=login)] if weave else []),
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
    wanted = _tries(door, address, _password(api), weave=cluster.weave)
    if there is None:
        words = f"there is no {door} door; run deploys/ingress.py"
        verifying.tell([Check(each.title, host.name, None, words) for each in wanted])
        return
    end = time.monotonic() + _SETTLING
    checks = [_try(cluster, node, each) for each in wanted]
    while not all(check.good for check in checks) and time.monotonic() < end:
        time.sleep(1)
        # What came back once is proven; asked again it would only add a chance to be unlucky.
        checks = [
            check if check.good else _try(cluster, node, each)
            for check, each in zip(checks, wanted, strict=True)
        ]
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
        answer = ask(cluster, node, wanted.path, wanted.name, wanted.headers, tls=wanted.tls)
    except urllib3.exceptions.HTTPError:
        good, words = False, "no answer"
    else:
        text = answer.data.decode(errors="replace")
        good = answer.status == wanted.status and text.startswith(wanted.body)
        words = f"{answer.status}" if good else f"{answer.status}: {text[:80]!r}"
    return Check(wanted.title, node.name, good, words, time.monotonic() - began)


def _password(api: Api) -> str:
    space = doors.space(doors.INTERNAL)
    secret = found(api.core.read_namespaced_secret, doors.LOGIN, space)
    value = ((secret.data or {}) if secret else {}).get("password", "")
    return f"{doors.USER}:{base64.b64decode(value).decode()}"


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
    for ingress in k8s.NetworkingV1Api(api.client).list_ingress_for_all_namespaces().items:
        space = ingress.metadata.namespace
        for entry in ingress.spec.tls or []:
            if entry.secret_name:
                named.append((space, entry.secret_name, f"Ingress {space}/{ingress.metadata.name}"))
    faults = [fault for each in named if (fault := _fault(api, *each))]
    words = "; ".join(faults) or f"{len(named)} are good for a month"
    verifying.tell([Check("doors' certificates", host.name, not faults, words)])


def _fault(api: Api, space: str, name: str, user: str) -> str:
    secret = found(api.core.read_namespaced_secret, name, space)
    if secret is None:
        return f"{user}: Secret {space}/{name} is not there"
    data = {key: base64.b64decode(value) for key, value in (secret.data or {}).items()}
    now = datetime.now(UTC)
    wrong = doors.unfit(data.get("tls.crt"), data.get("tls.key"), now)
    wrong = wrong or doors.unfit(data.get("tls.crt"), data.get("tls.key"), now + verify.MONTH)
    return f"{user}: Secret {space}/{name}: {wrong}" if wrong else ""
