"""Which kubelet serving certificates may be approved: exactly those that the inventory has.

Nothing in a cluster approves them by itself (kubernetes.io/kubelet-serving), since the API
server cannot know which names and addresses a node really has. The inventory does.
"""

from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

SIGNER = "kubernetes.io/kubelet-serving"


def refusal(
    request: bytes, requestor: str, usages: Sequence[str], name: str, address: str
) -> str | None:
    """Why a request (PEM) must not be approved for node `name` at `address`; None: it may be."""
    user = f"system:node:{name}"
    if requestor != user:
        return f"it was made by {requestor}"
    if not set(usages) <= {"digital signature", "key encipherment", "server auth"}:
        return f"it wants to be used for {', '.join(usages)}"
    try:
        parsed = x509.load_pem_x509_csr(request)
    except ValueError:
        return "it cannot be read"
    common = [str(a.value) for a in parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [
        str(a.value) for a in parsed.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    ]
    if common != [user] or groups != ["system:nodes"]:
        return f"its subject is {parsed.subject.rfc4514_string()}"
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "it names no address"
    asked = {str(entry.value) for entry in names}
    if asked != {name, address}:
        return f"it is for {', '.join(sorted(asked))}, and the inventory has {name}, {address}"
    return None
