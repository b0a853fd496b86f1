"""The bundle's keys: one that signs the apt repositories, and a CA for the server's certificates.

Both are made once and stay in private/, mode 0600. The machines that use the bundle are told of
the public halves, apt.asc and ca.crt.
"""

import datetime
import ipaddress
import os
import shutil
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bundle.errors import BundleError
from bundle.integrity import write
from bundle.machine import run
from bundle.paths import Paths

OWNER: Final = "barekube bundle"
_YEAR: Final = datetime.timedelta(days=365)
# A clock that is behind by less than this still accepts what was just signed.
_SKEW: Final = datetime.timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def ensure_ca(paths: Paths) -> None:
    """Make the CA, if there is none."""
    key_path, certificate_path = paths.private / "ca.key", paths.bundle / "ca.crt"
    if key_path.is_file() and certificate_path.is_file():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = _name(f"{OWNER} CA")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + 10 * _YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write(key_path, _pem(key), mode=0o600)
    write(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise BundleError(f"{name!r} is no name of a server; write it as DNS has it") from None


def server_context(paths: Paths, names: Iterable[str]) -> ssl.SSLContext:
    """A TLS context with a fresh certificate for these names and addresses, of a year."""
    try:
        ca = x509.load_pem_x509_certificate((paths.bundle / "ca.crt").read_bytes())
        ca_key = serialization.load_pem_private_key((paths.private / "ca.key").read_bytes(), None)
    except (OSError, ValueError):
        raise BundleError(
            f"{paths.bundle}: its CA cannot be read; run python -m bundle build"
        ) from None
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise BundleError(f"{paths.private / 'ca.key'}: not a key of this bundle; delete it")
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    names = list(dict.fromkeys(names))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(OWNER))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _YEAR)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The ssl module loads a key from a file only.
    pem = paths.private / f"server-{os.getpid()}.pem"
    try:
        write(pem, _pem(key) + certificate.public_bytes(serialization.Encoding.PEM), mode=0o600)
        context.load_cert_chain(pem)
    finally:
        pem.unlink(missing_ok=True)
    return context


class Signer:
    """GnuPG with a home directory and a key of our own."""

    def __init__(self, paths: Paths) -> None:
        self._public = paths.bundle / "apt.asc"
        self._home = paths.private / "gnupg"

    def _gpg(self, *arguments: str, what: str, stdin: bytes | None = None) -> str:
        command: list[str | Path] = ["gpg"]
        command += ["--homedir", self._home, "--batch", "--quiet", "--no-tty", *arguments]
        return run(command, what=what, stdin=stdin)

    def ensure_key(self) -> None:
        """Make the key, if there is none."""
        if self._public.is_file() and self._home.is_dir():
            return
        # A key without its public half is of a build that was cut off.
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(mode=0o700)
        what = "making the apt repository's key"
        self._gpg(
            *("--passphrase", "", "--quick-generate-key", OWNER, "ed25519", "sign", "never"),
            what=what,
        )
        write(self._public, self._gpg("--armor", "--export", what=what))

    def fingerprint(self) -> str:
        """The fingerprint of the key, by which a machine's administrator knows it."""
        said = self._gpg("--with-colons", "--show-keys", str(self._public), what="reading the key")
        return next(line.split(":")[9] for line in said.splitlines() if line.startswith("fpr:"))

    def sign(self, text: str) -> str:
        """The text with its signature around it."""
        return self._gpg("--clearsign", what="signing", stdin=text.encode())

    def close(self) -> None:
        """Stop the agent that gpg started."""
        run(["gpgconf", "--homedir", self._home, "--kill", "gpg-agent"], what="stopping gpg-agent")
