"""The two doors of the cluster: who carries them, what is asked of them, their certificates.

The internal door is for everything; the public one, on hosts of the inventory's group edge, for
namespaces that are named to be online.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import bcrypt
import yaml
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from barekube.cluster import Cluster, Node

INTERNAL, PUBLIC = "internal", "public"
# A kubelet may set none of this prefix on its node (NodeRestriction), so that a worker that was
# taken over cannot make itself a door.
LABEL = "node-restriction.kubernetes.io/door"
TAINT = {"key": "barekube/edge", "effect": "NoSchedule"}
CERTIFICATE, LOGIN = "certificate", "pages-login"
USER = "admin"
# The namespace that is online as it stands; the public door's smoke test is in it.
ONLINE = "online"
# What the pages of the internal door are called, in its manifests, and whose they are.
DOMAIN = "cluster.internal"
PAGES = {
    f"traefik.{DOMAIN}": "traefik-internal",
    f"network.{DOMAIN}": "network-page",
    f"ceph.{DOMAIN}": "rook-ceph",
}
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
    mine = [taint["effect"] for taint in taints if taint["key"] == TAINT["key"]]
    if mine != ([TAINT["effect"]] if node.edge else []):
        # At its join a node of edge has the taint before it has a pod.
        said = "set (pods that run there stay until the node is drained)" if node.edge else "gone"
        phrases.append(f"taint {TAINT['key']}:{TAINT['effect']}: {said}")
        others = [dict(taint) for taint in taints if taint["key"] != TAINT["key"]]
        patch["spec"] = {"taints": [*others, TAINT] if node.edge else others}
    return phrases, patch


def claims(ingresses: Iterable[tuple[str, str, str]]) -> list[str]:
    """A sentence for each host name that Ingress objects of both doors want, and for each of a
    page's that another namespace wants. They are (door, host, "namespace/name")."""
    wanted: dict[str, dict[str, list[str]]] = {}
    result = []
    for door, host, name in ingresses:
        wanted.setdefault(host, {}).setdefault(door, []).append(name)
        owner = PAGES.get(host)
        if owner and name.partition("/")[0] != owner:
            result.append(f"Ingress {name} wants {host}, the name of a page")
    for host, mine in sorted(wanted.items()):
        if {INTERNAL, PUBLIC} <= set(mine):
            inner, outer = (" and ".join(sorted(set(mine[door]))) for door in (INTERNAL, PUBLIC))
            result.append(f"{host} is wanted by both doors: Ingress {inner} and, online, {outer}")
    return result


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
    """Why a certificate (with those of its issuers) and a key are no use together, or None; that it
    has ended, ended() says."""
    try:
        first = x509.load_pem_x509_certificates(pem or b"")[0]
    except ValueError:
        return "it holds no certificate"
    try:
        secret: Any = serialization.load_pem_private_key(key or b"", None)
        if secret.public_key() != first.public_key():
            return "its key does not belong to its certificate"
    except (ValueError, TypeError):
        return "it holds no key without a password"
    except UnsupportedAlgorithm:
        return "its key is of a kind that is not known here"
    if first.not_valid_before_utc > now:
        return f"it begins on {first.not_valid_before_utc:%Y-%m-%d}"
    return None


def ended(pem: bytes, now: datetime) -> str | None:
    """Why a certificate is good no more, or None."""
    end = x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc
    return f"its last day is {end:%Y-%m-%d}" if end <= now else None


def to_renew(pem: bytes, names: Sequence[str], now: datetime) -> str | None:
    """Why a certificate that is fit is to be made anew: it is self-made, and near its end or for
    other names."""
    first = x509.load_pem_x509_certificates(pem)[0]
    if not self_made(pem):
        return None
    if first.not_valid_after_utc - now <= _RENEWED_BEFORE:
        return f"it ends on {first.not_valid_after_utc:%Y-%m-%d}"
    said = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if said.get_values_for_type(x509.DNSName) != list(names):
        return f"it is not for {', '.join(names)}"
    return None


def ending(pem: bytes, now: datetime) -> str | None:
    """Why a certificate should have been renewed: less than a third of its time is left, or, of
    one for more than three months, less than a month."""
    first = x509.load_pem_x509_certificates(pem)[0]
    begin, end = first.not_valid_before_utc, first.not_valid_after_utc
    if end - now > min((end - begin) / 3, _RENEWED_BEFORE):
        return None
    return f"its last day is {end:%Y-%m-%d}"


def self_made(pem: bytes) -> bool:
    subject = x509.load_pem_x509_certificates(pem)[0].subject
    return any(each.value == _MADE for each in subject)


def leaf(pem: bytes) -> bytes:
    """The certificate, in DER, that is shown before those of its issuers; empty: there is none."""
    try:
        return x509.load_pem_x509_certificates(pem)[0].public_bytes(serialization.Encoding.DER)
    except ValueError:
        return b""


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


def names(cluster: Cluster, door: str) -> list[str]:
    """What a self-made certificate is for. Everybody reads that of the public door, so it says
    nothing of what is inside."""
    if door == PUBLIC:
        return [f"{PUBLIC}.invalid"]
    return [DOMAIN, f"*.{DOMAIN}", cluster.api_name]
