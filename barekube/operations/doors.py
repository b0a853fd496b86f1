"""The doors of the cluster: their nodes, certificates and login; and whether they answer."""

import base64
import secrets as chance
import socket
import ssl
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client as k8s
from pyinfra import host, state
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import door_manifests, doors, manifests, nodes, remote, settings
from barekube.api import Api, Trouble, found
from barekube.cluster import Cluster, Node
from barekube.operations import objects
from barekube.operations.order import answering, leads, refuse, to_come, wait, without_api
from barekube.tunnel import Tunnel

_ANSWER_LIMIT = 60
Pair = tuple[str, str]


@operation()
def placed(cluster: Cluster) -> Generator[PyinfraCommand]:
    """This host's node carries the door that the inventory gives it. No remote command."""
    yield from answering(_placed(cluster))


def _placed(cluster: Cluster) -> Generator[PyinfraCommand]:
    node = cluster.node(host.name)
    try:
        api = cluster_api.connect(cluster)
    except Trouble as trouble:
        if state.is_executing:
            yield from without_api(str(trouble))
            return
        host.log(f"label {doors.LABEL}: {doors.carried(node)}, once it has joined")
        yield StringCommand("false")
        return
    live = nodes.lookup(api, host.name)
    if live is None:
        if state.is_executing:
            yield from refuse("it is no node of the cluster; run deploys/workers.py on it first")
            return
        host.log(f"label {doors.LABEL}: {doors.carried(node)}, once it has joined")
        yield StringCommand("false")
        return
    taints = [k8s.ApiClient().sanitize_for_serialization(each) for each in live.spec.taints or []]
    phrases, patch = doors.placing(node, live.metadata.labels or {}, taints)
    if not patch:
        host.noop(f"it carries the {doors.carried(node)} door")
        return
    for phrase in phrases:
        host.log(phrase)
    yield FunctionCommand(_patch, (api, patch), {})


def _patch(state: State, host: Host, api: Api, patch: Mapping[str, Any]) -> bool:
    api.core.patch_node(host.name, patch)
    return True


@operation()
def applied(
    cluster: Cluster, directories: Sequence[Path], certificates: Mapping[str, Pair]
) -> Generator[PyinfraCommand]:
    """The doors' manifests are applied, if nothing speaks against them: what is online is one list,
    the user's certificates are good, no host carries two. No remote command.
    """
    yield from answering(_applied(cluster, directories, certificates))


def _applied(
    cluster: Cluster, directories: Sequence[Path], certificates: Mapping[str, Pair]
) -> Generator[PyinfraCommand]:
    if not leads():
        return
    if (yield from _apart(cluster, directories, certificates)):
        yield from objects.applied(cluster, directories)


def _apart(
    cluster: Cluster, directories: Sequence[Path], certificates: Mapping[str, Pair]
) -> Generator[PyinfraCommand, None, bool]:
    labels = {}
    silent = ""
    try:
        api = cluster_api.connect(cluster)
        labels = {each.metadata.name: each.metadata.labels for each in api.core.list_node().items}
    except Trouble as trouble:
        silent = str(trouble)
    problems, outdated = wrong(cluster, directories, certificates, labels)
    if problems or outdated:
        yield from refuse(*problems, *outdated)
        return False
    if silent and not to_come("control_plane"):
        yield from without_api(silent)
        return False
    return True


def wrong(
    cluster: Cluster,
    directories: Sequence[Path],
    certificates: Mapping[str, Pair],
    labels: Mapping[str, Mapping[str, str]],
) -> tuple[list[str], list[str]]:
    """What speaks against the doors, by the files of this machine and the nodes' labels; and the
    certificates that only have ended."""
    result = []
    try:
        documents = [each for directory in directories for _, each in manifests.read(directory)]
        if doors.PUBLIC in doors.of(cluster):
            result += door_manifests.dmz(documents, cluster.pod_network, cluster.api_port)
        result += door_manifests.claimed_twice(documents, labels)
    except manifests.BadManifest as error:
        result = [str(error)]
    _, problems, outdated = fit(cluster, certificates)
    return result + problems, outdated


def fit(
    cluster: Cluster, certificates: Mapping[str, Pair]
) -> tuple[dict[str, tuple[bytes, bytes]], list[str], list[str]]:
    """The user's certificates that are good, each with its key, by door; a sentence for each that
    is no use, and for each that only has ended. Those of a door that nobody carries are not looked
    at."""
    good, problems, outdated = {}, [], []
    now = datetime.now(UTC)
    wanted = {door: certificates[door] for door in doors.of(cluster) if door in certificates}
    for door, pair in wanted.items():
        where = f"group_data: door_certificates, {door}"
        try:
            pem, key = (Path(each).expanduser().read_bytes() for each in pair)
            # A Secret gets them as text.
            pem.decode(), key.decode()
        except OSError as error:
            problems.append(f"{where}, {error.filename}: {error.strerror}; correct the path")
        except RuntimeError:
            problems.append(f"{where}: {' or '.join(pair)} is in nobody's home; correct the path")
        except UnicodeDecodeError:
            problems.append(f"{where}, {pair[0]}: it is not in PEM, or its key; convert it")
        else:
            if fault := doors.unfit(pem, key, now):
                problems.append(f"{where}, {pair[0]}: {fault}; give it another one")
            elif fault := doors.ended(pem, now):
                outdated.append(f"{where}, {pair[0]}: {fault}; give it another one")
            else:
                good[door] = pem, key
    return good, problems, outdated


@operation()
def secrets(cluster: Cluster, certificates: Mapping[str, Pair]) -> Generator[PyinfraCommand]:
    """Each door has its certificate, and the pages behind the internal one a login.

    `certificates` are the user's, by door; a door without gets a self-made one, made anew a month
    before its end. `--data password=pages-login` makes a new password. No remote command.
    """
    yield from answering(_secrets(cluster, certificates))


def _secrets(cluster: Cluster, certificates: Mapping[str, Pair]) -> Generator[PyinfraCommand]:
    if not leads():
        return
    try:
        api = cluster_api.connect(cluster)
    except Trouble as trouble:
        if not to_come("control_plane"):
            yield from without_api(str(trouble))
            return
        api = None
    # Looked at here too: whoever acts here may be another host than the one that was refused.
    own, problems, outdated = fit(cluster, certificates)
    if problems or outdated:
        yield from refuse(*problems, *outdated)
        return
    todo = []
    for door in doors.of(cluster):
        space = doors.space(door)
        live = (contents(api, doors.CERTIFICATE, space) if api else None) or {}
        why, wanted = _certificate(cluster, door, own.get(door), live)
        if why:
            host.log(f"Secret {space}/{doors.CERTIFICATE}: {why}")
            todo.append(_secret(doors.CERTIFICATE, space, wanted))
    space = doors.space(doors.INTERNAL)
    if login := _login((contents(api, doors.LOGIN, space) if api else None) or {}):
        host.log(f"Secret {space}/{doors.LOGIN}: a password, made by chance")
        todo.append(_secret(doors.LOGIN, space, login))
    if not todo:
        host.noop("the doors have their certificates and the pages their login")
    elif api is None:
        yield StringCommand("false")
    else:
        yield FunctionCommand(objects.apply, (api, todo), {})


def contents(api: Api, name: str, space: str) -> dict[str, bytes] | None:
    """What is in a Secret; None: it is not there."""
    secret = found(api.core.read_namespaced_secret, name, space)
    if secret is None:
        return None
    return {key: base64.b64decode(value) for key, value in (secret.data or {}).items()}


def _certificate(
    cluster: Cluster, door: str, own: tuple[bytes, bytes] | None, live: Mapping[str, bytes]
) -> tuple[str, dict[str, str]]:
    """Why a door's certificate is written (empty: it is as wanted), and what is written."""
    now = datetime.now(UTC)
    pem, key = live.get("tls.crt", b""), live.get("tls.key", b"")
    names = doors.names(cluster, door)
    fault = doors.unfit(pem, key, now) if live else "there is none"
    if own:
        pem, key = own
        why = "the certificate that group_data names"
    elif fault:
        why = f"a self-made certificate ({fault})"
        pem, key = doors.certificate(names, now)
    elif renew := doors.to_renew(pem, names, now):
        why = f"a new self-made certificate ({renew})"
        pem, key = doors.certificate(names, now)
    elif not doors.self_made(pem):
        why = "a self-made certificate (group_data names none)"
        pem, key = doors.certificate(names, now)
    else:
        why = "what Traefik reads with it"
    wanted = {
        "tls.crt": pem,
        "tls.key": key,
        "certificate.yaml": doors.dynamic(door, own=own is not None).encode(),
    }
    text = {name: value.decode() for name, value in wanted.items()}
    return ("" if wanted == live else why), text


def _login(live: Mapping[str, bytes]) -> dict[str, str]:
    if {"password", "login.yaml"} <= set(live) and host.data.get("password") != doors.LOGIN:
        return {}
    password = chance.token_urlsafe(24)
    return {"password": password, "login.yaml": doors.login(password)}


def _secret(name: str, space: str, data: Mapping[str, str]) -> manifests.Object:
    metadata = {"name": name, "namespace": space, "labels": manifests.OURS}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(data)}


@operation()
def answered(cluster: Cluster) -> Generator[PyinfraCommand]:
    """The door that this host carries answers on its port 443, to another host."""
    if state.is_executing:
        yield from answering(_answered(cluster))
    host.noop("its door answers")


def _answered(cluster: Cluster) -> Generator[PyinfraCommand]:
    node = cluster.node(host.name)

    def lacking() -> str | None:
        try:
            ask(cluster, node, "/", doors.DOMAIN)
        except urllib3.exceptions.HTTPError:
            return "no answer"
        return None

    if lack := wait("its door", _ANSWER_LIMIT, lacking):
        yield from refuse(
            f"its {doors.carried(node)} door does not answer on port 443 in {_ANSWER_LIMIT} s"
            f" ({lack}); look at `kubectl -n {doors.space(doors.carried(node))} get pods -o wide`,"
            " then run this again"
        )


def ask(
    cluster: Cluster,
    node: Node,
    path: str,
    name: str,
    headers: Mapping[str, str] | None = None,
    *,
    tls: bool = True,
) -> urllib3.BaseHTTPResponse:
    """What the door on `node` answers to a request for host `name`, sent from another host.

    Raises urllib3.exceptions.HTTPError if nothing comes back.
    """
    tunnel = _tunnel(cluster, node, 443 if tls else 80)
    options: dict[str, Any] = {"retries": False, "timeout": urllib3.Timeout(10)}
    if tls:
        # Whose certificate it is, is looked at apart from whether the door answers.
        options |= {"cert_reqs": "CERT_NONE", "assert_hostname": False, "server_hostname": name}
    kind = urllib3.HTTPSConnectionPool if tls else urllib3.HTTPConnectionPool
    with kind("127.0.0.1", tunnel.port, **options) as pool:
        return pool.request("GET", path, headers={"Host": name, **(headers or {})}, redirect=False)


def shown(cluster: Cluster, node: Node, name: str) -> bytes:
    """The certificate, in DER, that the door on `node` shows to another host that asks for `name`.

    Raises OSError if none comes back.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    place = "127.0.0.1", _tunnel(cluster, node, 443).port
    with (
        socket.create_connection(place, timeout=10) as way,
        context.wrap_socket(way, server_hostname=name) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


_tunnels: dict[tuple[str, int], Tunnel] = {}


def asker(node: Node) -> Host:
    """The host by which a door is tried: another one where there is one, as its users are."""
    others = [each for each in settings.hosts() if each.name != node.name and each.connected]
    own = next(each for each in settings.hosts() if each.name == node.name)
    return next((each for each in others if remote.reach(each)), own)


def _tunnel(cluster: Cluster, node: Node, port: int) -> Tunnel:
    if (node.name, port) not in _tunnels:
        _tunnels[node.name, port] = Tunnel(asker(node), port, node.address)
    return _tunnels[node.name, port]
