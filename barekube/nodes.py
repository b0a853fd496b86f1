"""Nodes of the live cluster: looked up, certified, waited for."""

import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from kubernetes import client as k8s
from pyinfra.api import Host

from barekube import csr, remote
from barekube.api import Api, found
from barekube.cluster import Node

MASTER_LABEL = "node-role.kubernetes.io/control-plane"


def lookup(api: Api, name: str) -> k8s.V1Node | None:
    """The node object, or None."""
    return found(api.core.read_node, name)


def address(node: k8s.V1Node) -> str:
    """The address by which other nodes reach it."""
    there = node.status.addresses or []
    return next((each.address for each in there if each.type == "InternalIP"), "")


def others(api: Api, name: str) -> dict[str, str]:
    """The Ready nodes beside `name`, by their addresses."""
    return {
        address(node): node.metadata.name
        for node in api.core.list_node().items
        if is_ready(node) and node.metadata.name != name
    }


def is_ready(item: k8s.V1Node | k8s.V1Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in item.status.conditions or [])


def takes_pods(node: k8s.V1Node) -> bool:
    """Whether pods without tolerations are started on it now."""
    closed = any(taint.effect != "PreferNoSchedule" for taint in node.spec.taints or [])
    return is_ready(node) and not node.spec.unschedulable and not closed


def why_not_ready(node: k8s.V1Node) -> str:
    """What the kubelet says that is missing, or an empty text."""
    for condition in node.status.conditions or []:
        if condition.type == "Ready" and condition.status != "True":
            return str(condition.message or condition.reason)
    return ""


def pod_trouble(pod: k8s.V1Pod) -> str:
    """Why a pod does not get on, with its image and node where that says more; else nothing."""
    status = pod.status
    for each in [*(status.init_container_statuses or []), *(status.container_statuses or [])]:
        waiting = each.state.waiting
        if waiting and waiting.reason not in ("ContainerCreating", "PodInitializing"):
            image = f" of {each.image}" if "Image" in waiting.reason else ""
            return f"{pod.metadata.name} on {pod.spec.node_name}: {waiting.reason}{image}"
    return f"{pod.metadata.name}: {why}" if (why := nowhere(pod)) else ""


def nowhere(pod: k8s.V1Pod) -> str:
    """Why no node takes a pod; else nothing."""
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status != "True":
            return str(condition.message)
    return ""


def asks_serving(api: Api, node: Node) -> bool:
    """Whether the kubelet of `node` asks for a serving certificate that it may have.

    It does so for its next one, too, in the last third or less of a certificate's life, and anew
    while nobody answers (kubelet's certificate manager).
    """
    return any(refused is None for _, refused in _asked(api, node))


def approve_serving(host: Host, api: Api, node: Node, path: str, limit: int) -> bool:
    """Approve the serving certificate that the kubelet of `node` asks for, until it has one.

    Waits at most `limit` seconds for a certificate in `path` on `host`; a request that was
    answered says nothing, for it can be an earlier machine's of that name. False, with a sentence
    logged, if none comes.
    """
    end = time.monotonic() + limit
    why = f"its kubelet asked for none in {limit} s"
    while time.monotonic() < end:
        for request, refused in _asked(api, node):
            if refused is None:
                _approve(api, request)
            why = refused or f"it did not fetch the one that was approved in {limit} s"
        there = remote.holds(host, path)
        if there is None:
            host.log("its SSH connection was lost; see whether it has power, then run this again")
            return False
        if there:
            return True
        time.sleep(1)
    host.log(
        f"{node.name} has no serving certificate: {why}; look at `journalctl -u kubelet` on it,"
        " then run this again"
    )
    return False


def _asked(api: Api, node: Node) -> Iterator[tuple[k8s.V1CertificateSigningRequest, str | None]]:
    """What its kubelet asked for and nobody answered yet, and why that may not be approved."""
    selector = f"spec.signerName={csr.SIGNER}"
    for request in api.certificates.list_certificate_signing_request(field_selector=selector).items:
        spec = request.spec
        if spec.username != f"system:node:{node.name}" or request.status.conditions:
            continue
        asked = base64.b64decode(spec.request)
        yield request, csr.refusal(asked, spec.username, spec.usages, node.name, node.address)


def _approve(api: Api, request: k8s.V1CertificateSigningRequest) -> None:
    request.status.conditions = [
        k8s.V1CertificateSigningRequestCondition(
            type="Approved",
            status="True",
            reason="InInventory",
            message="barekube: name and address are those of the inventory",
            last_update_time=datetime.now(UTC),
        )
    ]
    api.certificates.replace_certificate_signing_request_approval(request.metadata.name, request)
