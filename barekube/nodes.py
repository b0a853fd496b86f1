"""Nodes of the live cluster: looked up, certified, waited for."""

import base64
import time
from datetime import UTC, datetime

from kubernetes import client as k8s
from pyinfra.api import Host, State

from barekube import csr
from barekube.api import Api, found
from barekube.cluster import Node

MASTER_LABEL = "node-role.kubernetes.io/control-plane"


def lookup(api: Api, name: str) -> k8s.V1Node | None:
    """The node object, or None."""
    return found(api.core.read_node, name)


def address(node: k8s.V1Node) -> str:
    """The address by which other nodes reach it."""
    return next((a.address for a in node.status.addresses if a.type == "InternalIP"), "")


def others(api: Api, name: str) -> dict[str, str]:
    """The Ready nodes beside `name`, by their addresses."""
    return {
        address(node): node.metadata.name
        for node in api.core.list_node().items
        if is_ready(node) and node.metadata.name != name
    }


def is_ready(node: k8s.V1Node) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions or [])


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
    for condition in status.conditions or []:
        if condition.type == "PodScheduled" and condition.status != "True":
            return f"{pod.metadata.name}: {condition.message}"
    return ""


def approve_serving(state: State, host: Host, api: Api, node: Node, limit: int) -> bool:
    """Approve the serving certificate that the kubelet of `node` asks for.

    Waits at most `limit` seconds for the request. False, with a sentence logged, if there is
    none, or only such as the inventory does not have.
    """
    end = time.monotonic() + limit
    refused = ""
    while time.monotonic() < end:
        selector = f"spec.signerName={csr.SIGNER}"
        for request in api.certificates.list_certificate_signing_request(
            field_selector=selector
        ).items:
            if request.spec.username != f"system:node:{node.name}":
                continue
            if request.status.certificate:
                return True
            if request.status.conditions:
                continue
            reason = csr.refusal(
                base64.b64decode(request.spec.request),
                request.spec.username,
                request.spec.usages,
                node.name,
                node.address,
            )
            if reason is None:
                _approve(api, request)
            else:
                refused = reason
        time.sleep(1)
    host.log(
        f"no serving certificate was approved for {node.name}:"
        f" {refused or f'its kubelet asked for none in {limit} s'};"
        f" look at `journalctl -u kubelet` on it, then run this again"
    )
    return False


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
