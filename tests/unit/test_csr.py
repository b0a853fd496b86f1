"""Serving certificates: only what the inventory has is approved."""

import base64
import ipaddress
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from barekube import nodes
from barekube.cluster import Node
from barekube.csr import refusal

USER = "system:node:w-1"
USAGES = ["digital signature", "server auth"]


def _request(
    common: str = USER,
    group: str = "system:nodes",
    names: tuple[str, ...] = ("w-1",),
    addresses: tuple[str, ...] = ("192.0.2.21",),
) -> bytes:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, group),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )
    asked: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    asked += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if asked:
        builder = builder.add_extension(x509.SubjectAlternativeName(asked), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def _refusal(request: bytes, requestor: str = USER, usages: list[str] | None = None) -> str | None:
    return refusal(request, requestor, usages or USAGES, "w-1", "192.0.2.21")


def test_name_and_address_of_the_inventory_are_approved() -> None:
    assert _refusal(_request()) is None


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        pytest.param(
            _request(names=("w-1", "api.example")),
            "it is for 192.0.2.21, api.example, w-1, and the inventory has w-1, 192.0.2.21",
            id="another name besides",
        ),
        pytest.param(
            _request(addresses=("192.0.2.11",)),
            "it is for 192.0.2.11, w-1, and the inventory has w-1, 192.0.2.21",
            id="another node's address",
        ),
        pytest.param(
            _request(common="system:node:cp-1"),
            "its subject is CN=system:node:cp-1,O=system:nodes",
            id="another node's subject",
        ),
        pytest.param(
            _request(group="system:masters"),
            "its subject is CN=system:node:w-1,O=system:masters",
            id="another group",
        ),
        pytest.param(_request(names=(), addresses=()), "it names no address", id="no name"),
        pytest.param(b"no request", "it cannot be read", id="damaged"),
    ],
)
def test_anything_else_is_refused(request_: bytes, sentence: str) -> None:
    assert _refusal(request_) == sentence


def test_a_request_made_by_somebody_else_is_refused() -> None:
    assert _refusal(_request(), requestor="system:node:w-2") == "it was made by system:node:w-2"


def test_a_certificate_for_clients_is_refused() -> None:
    usages = ["digital signature", "client auth"]
    sentence = "it wants to be used for digital signature, client auth"
    assert _refusal(_request(), usages=usages) == sentence


def _asks(request: bytes, *, answered: bool = False, name: str = "w-1") -> bool:
    spec = SimpleNamespace(
        username=f"system:node:{name}", request=base64.b64encode(request), usages=USAGES
    )
    status = SimpleNamespace(conditions=["Approved"] if answered else None)
    listed = SimpleNamespace(items=[SimpleNamespace(spec=spec, status=status)])
    certificates = SimpleNamespace(list_certificate_signing_request=lambda **_: listed)
    api: Any = SimpleNamespace(certificates=certificates)
    return nodes.asks_serving(api, Node("w-1", "192.0.2.21", control_plane=False))


def test_a_kubelet_asks_while_nobody_answered_and_only_for_what_it_may_have() -> None:
    assert _asks(_request())
    assert not _asks(_request(), answered=True)
    assert not _asks(_request(), name="w-2")
    assert not _asks(_request(addresses=("192.0.2.11",)))
