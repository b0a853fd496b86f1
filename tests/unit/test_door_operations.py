"""The doors' certificates and login: what is written, and that nothing unfit ever is."""

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from barekube import api as cluster_api
from barekube import doors
from barekube.cluster import Node
from barekube.operations import doors as door_operations
from tests.unit.harness import Outcome, home, outcome

NOW = datetime.now(UTC)
CLUSTER = home(
    Node("cp-1", "192.0.2.11", control_plane=True),
    Node("w-1", "192.0.2.21", control_plane=False),
)
NAMES = doors.names(CLUSTER, "internal")
LOGIN = {"password": b"p", "login.yaml": b"l"}
Pair = tuple[bytes, bytes]


def _users(begin: datetime = NOW - timedelta(days=1), days: int = 90) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site")])
    end = begin + timedelta(days=days)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, end)
    return made.sign(key, hashes.SHA256()).public_bytes(
        serialization.Encoding.PEM
    ), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _secret(pair: Pair, *, own: bool) -> dict[str, bytes]:
    more = doors.dynamic("internal", own=own).encode()
    return {"tls.crt": pair[0], "tls.key": pair[1], "certificate.yaml": more}


MADE = doors.certificate(NAMES, NOW)
USERS = _users()


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """The names of two files with a certificate and a key; None: there is no such file."""

    def write(pem: bytes | None, key: bytes | None) -> tuple[str, str]:
        paths = tmp_path / "site.pem", tmp_path / "site.key"
        for path, content in zip(paths, (pem, key), strict=True):
            if content is not None:
                path.write_bytes(content)
        return str(paths[0]), str(paths[1])

    return write


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """The operation, on a host that acts, with what the API has."""

    def run(
        live: Mapping[str, bytes] | None,
        certificates: Mapping[str, tuple[str, str]] | None = None,
        login: Mapping[str, bytes] | None = None,
        **data: Any,  # noqa: ANN401
    ) -> Outcome:
        there = {doors.CERTIFICATE: live, doors.LOGIN: LOGIN if login is None else login}

        def read(name: str, space: str) -> SimpleNamespace:
            assert space == "traefik-internal"
            values = there[name] or {}
            coded = {field: base64.b64encode(value).decode() for field, value in values.items()}
            return SimpleNamespace(data=coded)

        api = SimpleNamespace(core=SimpleNamespace(read_namespaced_secret=read))
        monkeypatch.setattr(cluster_api, "connect", lambda cluster: api)
        monkeypatch.setattr(door_operations, "leads", lambda: True)
        given = certificates or {}
        return outcome(door_operations.secrets, CLUSTER, given, answers={}, name="cp-1", data=data)

    return run


def _der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


EXPIRED = _users(NOW - timedelta(days=91))
OTHER = _users()


@pytest.mark.parametrize(
    ("pem", "key", "file", "why"),
    [
        (
            *EXPIRED,
            "site.pem",
            f"its last day is {NOW - timedelta(days=1):%Y-%m-%d}; give it another one",
        ),
        (
            USERS[0],
            OTHER[1],
            "site.pem",
            "its key does not belong to its certificate; give it another one",
        ),
        (None, USERS[1], "site.pem", "No such file or directory; correct the path"),
        (USERS[0], None, "site.key", "No such file or directory; correct the path"),
        (_der(USERS[0]), USERS[1], "site.pem", "it is not in PEM, or its key; convert it"),
    ],
    ids=["expired", "of another key", "no certificate", "no key", "DER"],
)
def test_a_users_certificate_that_is_no_use_is_written_by_no_host(
    secrets: Callable[..., Outcome],
    files: Callable[..., tuple[str, str]],
    tmp_path: Path,
    pem: bytes | None,
    key: bytes | None,
    file: str,
    why: str,
) -> None:
    done = secrets(_secret(MADE, own=False), {"internal": files(pem, key)})
    assert done.commands == ["false"]
    assert done.logs == [f"group_data: door_certificates, internal, {tmp_path / file}: {why}"]


def test_a_path_in_nobodys_home_is_said(secrets: Callable[..., Outcome]) -> None:
    done = secrets(None, {"internal": ("~nosuch/x.pem", "x.key")})
    assert done.commands == ["false"]
    assert done.logs == [
        "group_data: door_certificates, internal: ~nosuch/x.pem or x.key is in nobody's home;"
        " correct the path"
    ]


def test_the_certificate_of_a_door_that_nobody_carries_is_not_looked_at(
    secrets: Callable[..., Outcome],
) -> None:
    done = secrets(_secret(MADE, own=False), {"public": ("/nowhere/x.pem", "/nowhere/x.key")})
    assert (done.commands, done.logs) == ([], [])


@pytest.mark.parametrize(
    ("live", "own", "why"),
    [
        (None, False, "a self-made certificate (there is none)"),
        (_secret(MADE, own=False), False, None),
        (_secret(MADE, own=False), True, "the certificate that group_data names"),
        (_secret(USERS, own=True), True, None),
        (_secret(OTHER, own=True), True, "the certificate that group_data names"),
        (_secret(USERS, own=True), False, "a self-made certificate (group_data names none)"),
        (
            _secret(doors.certificate(NAMES, NOW - timedelta(days=377)), own=False),
            False,
            f"a new self-made certificate (it ends on {NOW + timedelta(days=20):%Y-%m-%d})",
        ),
        (
            _secret(doors.certificate(["other"], NOW), own=False),
            False,
            f"a new self-made certificate (it is not for {', '.join(NAMES)})",
        ),
        (
            _secret((MADE[0], USERS[1]), own=False),
            False,
            "a self-made certificate (its key does not belong to its certificate)",
        ),
    ],
)
def test_a_door_has_the_users_certificate_or_one_that_was_made_for_it(
    secrets: Callable[..., Outcome],
    files: Callable[..., tuple[str, str]],
    live: dict[str, bytes] | None,
    own: bool,
    why: str | None,
) -> None:
    done = secrets(live, {"internal": files(*USERS)} if own else None)
    assert done.logs == ([f"Secret traefik-internal/certificate: {why}"] if why else [])
    assert done.commands == (["apply()"] if why else [])


def test_what_is_written_is_fit_and_goes_together() -> None:
    for own in (USERS, None):
        _, written = door_operations._certificate(CLUSTER, "internal", own, {})
        pem, key = written["tls.crt"].encode(), written["tls.key"].encode()
        assert doors.unfit(pem, key, datetime.now(UTC)) is None
        assert doors.self_made(pem) == (own is None)
        assert written["certificate.yaml"] == doors.dynamic("internal", own=own is not None)


def test_a_public_door_that_insists_on_tls_with_a_self_made_certificate_is_mended() -> None:
    pem, key = doors.certificate(doors.names(CLUSTER, "public"), NOW)
    insisting = doors.dynamic("public", own=True).encode()
    live = {"tls.crt": pem, "tls.key": key, "certificate.yaml": insisting}
    why, written = door_operations._certificate(CLUSTER, "public", None, live)
    assert why == "what Traefik reads with it"
    assert written["certificate.yaml"] == doors.dynamic("public", own=False)
    assert written["tls.crt"] == pem.decode()


@pytest.mark.parametrize(
    ("login", "data", "written"),
    [
        (LOGIN, {}, False),
        (LOGIN, {"password": "weave-password"}, False),
        (LOGIN, {"password": "pages-login"}, True),
        ({}, {}, True),
        ({"password": b"p"}, {}, True),
    ],
)
def test_the_pages_password_is_made_once_and_anew_where_it_is_asked_for(
    secrets: Callable[..., Outcome],
    login: dict[str, bytes],
    data: dict[str, str],
    written: bool,
) -> None:
    done = secrets(_secret(MADE, own=False), login=login, **data)
    said = "Secret traefik-internal/pages-login: a password, made by chance"
    assert done.logs == ([said] if written else [])
    assert done.commands == (["apply()"] if written else [])
