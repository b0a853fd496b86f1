"""A kubeconfig for the lab's cluster, with a client certificate of a day."""

import base64
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab import shell
from lab.errors import LabError
from lab.hosts import Host, Lab
from lab.paths import KUBECONFIG


def write(lab: Lab) -> Path:
    """Write the file, mode 0600, and return its path.

    The CA's key is read into memory from a control plane that answers. Raises LabError if none has
    it.
    """
    for host in lab.hosts:
        if host.group == "control_plane" and (ca := _authority(host)):
            text = json.dumps(_config(host, *ca), indent=1)
            KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(KUBECONFIG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(file, "w") as out:
                os.fchmod(file, 0o600)
                out.write(text + "\n")
            return KUBECONFIG
    raise LabError("no control plane of the lab has a cluster; run deploys/site.py first")


def _authority(host: Host) -> tuple[bytes, bytes] | None:
    files = "/etc/kubernetes/pki/ca.crt /etc/kubernetes/pki/ca.key"
    done = subprocess.run(
        shell.command(host, ["sudo", "cat", files], timeout=5), capture_output=True
    )
    begin = done.stdout.find(b"-----BEGIN", 1)
    return (done.stdout[:begin], done.stdout[begin:]) if done.returncode == 0 else None


def _config(host: Host, certificate: bytes, key: bytes) -> dict[str, object]:
    ca = x509.load_pem_x509_certificate(certificate)
    ca_key = serialization.load_pem_private_key(key, None)
    assert isinstance(ca_key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)  # noqa: S101
    own = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "kubeadm:cluster-admins"),
            x509.NameAttribute(NameOID.COMMON_NAME, "lab"),
        ]
    )
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=24))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    cluster = {
        "server": f"https://{host.address}:6443",
        "certificate-authority-data": text(certificate),
    }
    user = {
        "client-certificate-data": text(signed.public_bytes(pem)),
        "client-key-data": text(plain),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
