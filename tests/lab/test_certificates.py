"""A kubelet's serving certificate that nears its end: its kubelet asks for the next, a run
approves it."""

import ipaddress
import json
import subprocess
import time
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from barekube.csr import SIGNER
from barekube.traces import CA, SERVING
from lab import hosts as lab_hosts
from tests.lab.conftest import Deploy, Run
from tests.lab.recorder import ssh

NAME = "worker-1"
OLD = "/var/lib/kubelet/pki/kubelet-server-old.pem"


def _nearly_over() -> str:
    """A serving certificate of NAME that has a day left of its year, and its key (PEM)."""
    authority = x509.load_pem_x509_certificate(ssh("cp-1", f"cat {CA}").encode())
    pem = ssh("cp-1", f"cat {CA.removesuffix('crt')}key").encode()
    signer = serialization.load_pem_private_key(pem, None)
    key = ec.generate_private_key(ec.SECP256R1())
    address = next(host.address for host in lab_hosts.load().hosts if host.name == NAME)
    names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address(address))]
    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{NAME}"),
    ]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=364))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())  # type: ignore[arg-type] # kubeadm's CA is no key of DH
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return (made.public_bytes(serialization.Encoding.PEM) + private).decode()


def _end() -> datetime:
    """When the serving certificate that NAME has ends."""
    text = ssh(NAME, f"sed -n '/BEGIN CERT/,/END CERT/p' {SERVING}")
    return x509.load_pem_x509_certificate(text.encode()).not_valid_after_utc


def _is_asked_for(kubectl: list[str]) -> bool:
    words = ["get", "csr", f"--field-selector=spec.signerName={SIGNER}", "-o", "json"]
    done = subprocess.run([*kubectl, *words], capture_output=True, text=True, check=True)
    return any(
        each["spec"]["username"] == f"system:node:{NAME}" and not each["status"].get("conditions")
        for each in json.loads(done.stdout)["items"]
    )


def test_the_next_certificate_that_a_kubelet_asks_for_is_previewed_and_approved(
    deploy: Deploy, site: Run, kubectl: list[str]
) -> None:
    there = f"umask 077; cat >{OLD} <<'.'\n{_nearly_over()}.\nln -sf {OLD} {SERVING}"
    ssh(NAME, f"{there}; systemctl restart kubelet")
    try:
        end = time.monotonic() + 120
        while not _is_asked_for(kubectl):
            assert time.monotonic() < end, "kubelet does not ask for its next certificate"
            time.sleep(1)
        preview = deploy("deploys/workers.py", "--dry", "--json")
        assert preview.status == 0, preview.text
        assert list(preview.would_change().values()) == [[NAME]]
        assert f"kubelet's serving certificate of {NAME}: approve" in preview.out
        assert _is_asked_for(kubectl)
        assert deploy("deploys/workers.py", "-y").status == 0
        end = time.monotonic() + 120
        while _end() < datetime.now(UTC) + timedelta(days=300):
            assert time.monotonic() < end, "kubelet does not take its next certificate"
            time.sleep(1)
        again = deploy("deploys/workers.py", "--dry", "--json")
        assert again.would_change() == {}
    finally:
        # Without one a kubelet asks at its start, and the next run approves that.
        ssh(NAME, f"[ $(readlink -f {SERVING}) != {OLD} ] || rm {SERVING}; rm {OLD}")
