"""Bootstrap tokens: made here, known to the cluster as Secrets, deleted when the stage ends."""

import hashlib
import math
import secrets
import string
import time
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gevent.lock import RLock
from kubernetes import client as k8s

from barekube.api import Api, found

_ALPHABET = string.ascii_lowercase + string.digits
_lock = RLock()
# With each, until when it is good for another join (monotonic, seconds).
_known: list[tuple[str, float]] = []
# What a join needs it for ends with its discovery and its kubelet's certificate.
_GOOD_FOR = 300


def fresh() -> str:
    """A bootstrap token that no cluster knows yet, for kubeadm init."""
    return f"{_word(6)}.{_word(16)}"


def _word(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def for_joining(api: Api) -> str:
    """A token of this run, known to the cluster for ten minutes more at least: control planes join
    one after the other, and the last may come to it long after the first."""
    with _lock:
        if not _known or time.monotonic() > _known[-1][1]:
            token = fresh()
            identity, _, secret = token.partition(".")
            until = datetime.now(UTC) + timedelta(minutes=15)
            api.core.create_namespaced_secret(
                "kube-system",
                k8s.V1Secret(
                    metadata=k8s.V1ObjectMeta(name=f"bootstrap-token-{identity}"),
                    type="bootstrap.kubernetes.io/token",
                    string_data={
                        "token-id": identity,
                        "token-secret": secret,
                        "expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
                        "usage-bootstrap-authentication": "true",
                        "usage-bootstrap-signing": "true",
                        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
                        "description": "barekube: joins of one run",
                    },
                ),
            )
            _known.append((token, time.monotonic() + _GOOD_FOR))
        return _known[-1][0]


def used_at_init(token: str) -> None:
    """Remember the token that kubeadm init was given, so that it is deleted. No join has it."""
    _known.append((token, -math.inf))


def any_left() -> bool:
    return bool(_known)


def forget(api: Api) -> None:
    """Delete this run's tokens from the cluster, and the keys that a control plane joined with."""
    found(api.core.delete_namespaced_secret, "kubeadm-certs", "kube-system")
    with _lock:
        while _known:
            name = f"bootstrap-token-{_known[0][0].partition('.')[0]}"
            found(api.core.delete_namespaced_secret, name, "kube-system")
            _known.pop(0)


def ca_hash(ca: str) -> str:
    """kubeadm's pin of the CA (PEM): SHA-256 of its public key (RFC 7469), as "sha256:<hex>"."""
    key = x509.load_pem_x509_certificate(ca.encode()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"
