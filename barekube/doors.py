"""The two doors of the cluster: who carries them, their certificates, and what is online.

The internal door is for everything; the public one, on hosts of the inventory's group edge, for
namespaces that are named to be online.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import bcrypt
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from barekube.cluster import Cluster, Node
from barekube.manifests import BadManifest, Object, title

INTERNAL, PUBLIC = "internal", "public"
# A kubelet may set none of this prefix on its node (NodeRestriction), so that a worker that was
# taken over cannot make itself a door.
LABEL = "node-restriction.kubernetes.io/door"
TAINT = {"key": "barekube/edge", "effect": "NoSchedule"}
CERTIFICATE, LOGIN = "certificate", "pages-login"
USER = "admin"
# The namespace that is online as it stands; the public door's smoke test is in it.
ONLINE = "online"
# What the pages of the internal door are called, in its manifests.
DOMAIN = "cluster.internal"
# Browsers take none that is good for longer than 398 days.
_GOOD_FOR, _RENEWED_BEFORE = timedelta(days=397), timedelta(days=30)
_MADE = "barekube self-made"


def space(door: str) -> str:
    """The namespace of a door."""
    return f"traefik-{door}"


def carried(node: Node) -> str:
    """The door that a node carries, or an empty text."""
    if node.control_plane:
        return ""
    return PUBLIC if node.edge else INTERNAL


def of(cluster: Cluster) -> dict[str, list[Node]]:
    """The doors that the cluster has, each with the nodes that carry it."""
    result: dict[str, list[Node]] = {}
    for door in (INTERNAL, PUBLIC):
        nodes = [node for node in cluster.nodes if carried(node) == door]
        if nodes:
            result[door] = nodes
    return result


def placing(
    node: Node, labels: Mapping[str, str], taints: Sequence[Mapping[str, Any]]
) -> tuple[list[str], dict[str, Any]]:
    """What differs on a node, as phrases, and the patch that mends it (empty: nothing differs)."""
    phrases: list[str] = []
    patch: dict[str, Any] = {}
    wanted, label = carried(node), labels.get(LABEL, "")
    if label != wanted:
        phrases.append(f"label {LABEL}: {label or 'none'} -> {wanted or 'none'}")
        patch["metadata"] = {"labels": {LABEL: wanted or None}}
    tainted = any(taint["key"] == TAINT["key"] for taint in taints)
    if tainted != node.edge:
        phrases.append(f"taint {TAINT['key']}:{TAINT['effect']}: {'set' if node.edge else 'gone'}")
        others = [dict(taint) for taint in taints if taint["key"] != TAINT["key"]]
        patch["spec"] = {"taints": [*others, TAINT] if node.edge else others}
    return phrases, patch


@contextmanager
def _read(document: Object) -> Iterator[None]:
    """What is written as Kubernetes does not want it, the API would name; we look first."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError):
        raise BadManifest(
            f"{title(document)} is not written as Kubernetes wants it; correct its manifest"
        ) from None


def claimed_twice(documents: Sequence[Object], nodes: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A sentence for each node (name to labels) that two DaemonSets with a port of its want.

    Raises BadManifest.
    """
    holders: dict[tuple[str, int], list[str]] = {}
    for document in documents:
        if document["kind"] != "DaemonSet":
            continue
        with _read(document):
            spec = document["spec"]["template"]["spec"]
            wanted = spec.get("nodeSelector", {}).items()
            ports = {
                port["hostPort"]
                for container in spec["containers"]
                for port in container.get("ports", ())
                if "hostPort" in port
            }
        for node, labels in nodes.items():
            if wanted <= labels.items():
                for port in ports:
                    holders.setdefault((node, port), []).append(document["metadata"]["namespace"])
    return [
        f"{node} would carry {' and '.join(spaces)}, which both want its port {port}; correct their"
        " nodeSelector"
        for (node, port), spaces in sorted(holders.items())
        if len(spaces) > 1
    ]


def dmz(documents: Sequence[Object], pods: str) -> list[str]:
    """A sentence for each way in which the public door's lists of what is online differ.

    The list is that of the RoleBindings; `pods` is the range of pod addresses, which the door's
    way to the API has to leave out. Raises BadManifest.
    """
    online: set[str] = set()
    bound = served = reached = None
    problems = []
    for document in documents:
        with _read(document):
            kind, metadata = document["kind"], document["metadata"]
            if kind == "RoleBinding":
                online.add(metadata["namespace"])
                bound = document["roleRef"]["name"]
            elif kind == "ClusterRoleBinding" and document["roleRef"]["name"] == space(PUBLIC):
                problems.append(
                    f"ClusterRoleBinding {metadata['name']} lets the public door read every"
                    " namespace's Secrets; bind that role by namespace"
                )
            elif kind == "DaemonSet":
                arguments = document["spec"]["template"]["spec"]["containers"][0]["args"]
                served = _served(arguments)
                if any(
                    each.startswith("--api") and not each.endswith("=false") for each in arguments
                ):
                    problems.append("the public door's arguments switch its API on; take that out")
            elif kind == "NetworkPolicy" and metadata["namespace"] == space(PUBLIC):
                reached = _reached(document)
                problems += _ways_out(document, pods)
    for what, names in (("namespaces that it serves", served), ("policy's egress", reached)):
        if names != online:
            problems.append(
                f"the public door's {what} ({', '.join(sorted(names or ())) or 'none'}) are not the"
                f" namespaces that have a RoleBinding ({', '.join(sorted(online)) or 'none'});"
                " name the same in namespaces.yaml and public.yaml"
            )
    if bound and bound != space(PUBLIC):
        problems.append(f"RoleBinding to {bound}; what is online is bound to {space(PUBLIC)}")
    return problems


def _served(arguments: Sequence[str]) -> set[str]:
    prefix = "--providers.kubernetesingress.namespaces="
    return {
        name
        for each in arguments
        if each.startswith(prefix)
        for name in each.removeprefix(prefix).split(",")
    }


def _reached(policy: Mapping[str, Any]) -> set[str]:
    return {
        name
        for rule in policy["spec"].get("egress", ())
        for peer in rule.get("to", ())
        for expression in peer.get("namespaceSelector", {}).get("matchExpressions", ())
        for name in expression.get("values", ())
    }


def _ways_out(policy: Mapping[str, Any], pods: str) -> list[str]:
    blocks = [
        peer["ipBlock"]
        for rule in policy["spec"].get("egress", ())
        for peer in rule.get("to", ())
        if "ipBlock" in peer
    ]
    if all(pods in block.get("except", ()) for block in blocks):
        return []
    return [
        f"the public door's policy lets it reach pods by an ipBlock; name {pods} in its except"
        " (IPALLOC_RANGE of the network's manifest)"
    ]


def certificate(names: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
    """A self-made certificate for DNS `names` and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _MADE),
            x509.NameAttribute(NameOID.COMMON_NAME, names[0]),
        ]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Machines whose clocks are some minutes behind take it too.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _GOOD_FOR)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def unfit(pem: bytes | None, key: bytes | None, now: datetime) -> str | None:
    """Why a certificate (with those of its issuers) and a key are no use together, or None."""
    try:
        first = x509.load_pem_x509_certificates(pem or b"")[0]
    except ValueError:
        return "it holds no certificate"
    try:
        secret: Any = serialization.load_pem_private_key(key or b"", None)
    except (ValueError, TypeError):
        return "it holds no key without a password"
    if secret.public_key() != first.public_key():
        return "its key does not belong to its certificate"
    if first.not_valid_after_utc <= now:
        return f"its last day is {first.not_valid_after_utc:%Y-%m-%d}"
    if first.not_valid_before_utc > now:
        return f"it begins on {first.not_valid_before_utc:%Y-%m-%d}"
    return None


def to_renew(pem: bytes, now: datetime) -> str | None:
    """Why a certificate that is fit is to be made anew: it is self-made, and near its end."""
    first = x509.load_pem_x509_certificates(pem)[0]
    if not self_made(pem) or first.not_valid_after_utc - now > _RENEWED_BEFORE:
        return None
    return f"it ends on {first.not_valid_after_utc:%Y-%m-%d}"


def self_made(pem: bytes) -> bool:
    subject = x509.load_pem_x509_certificates(pem)[0].subject
    return any(each.value == _MADE for each in subject)


def dynamic(door: str, *, own: bool) -> str:
    """What Traefik reads with the certificate. `own`: it is the user's.

    A browser that was once told to insist on TLS takes no self-made certificate any more (RFC
    6797), so the public door says so with a certificate of the user's, and with a self-made one
    keeps an application from saying it.
    """
    directory = "/etc/traefik/dynamic"
    files = {"certFile": f"{directory}/tls.crt", "keyFile": f"{directory}/tls.key"}
    result: dict[str, Any] = {"tls": {"stores": {"default": {"defaultCertificate": files}}}}
    if door == PUBLIC:
        insist: dict[str, Any] = {"stsSeconds": 31_536_000}
        keep = {"customResponseHeaders": {"Strict-Transport-Security": ""}}
        headers = insist if own else keep
        result["http"] = {"middlewares": {"transport-security": {"headers": headers}}}
    return yaml.safe_dump(result, sort_keys=True)


def login(password: str) -> str:
    """What Traefik reads with the password of the pages.

    It is made by chance and long, so that it needs no slow hash; each request computes it.
    """
    user = f"{USER}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}"
    basic = {"users": [user], "realm": "cluster", "removeHeader": True}
    return yaml.safe_dump({"http": {"middlewares": {LOGIN: {"basicAuth": basic}}}})


def names(cluster: Cluster) -> list[str]:
    """What a self-made certificate is for."""
    return [DOMAIN, f"*.{DOMAIN}", cluster.api_name]
