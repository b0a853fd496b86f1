"""What kubeadm init, or a control plane's join, leaves in the API as its last steps."""

from kubernetes import client as k8s
from kubernetes.client.exceptions import ApiException

from barekube import api as cluster_api
from barekube import nodes
from barekube.api import Api, found

# kubeadm gives admin.conf its rights in the course of init.
_FORBIDDEN = 403


def lost(api: Api) -> list[str]:
    """What `kubeadm init` leaves in the API beside the node, and is not there.

    Raises ApiException where the API does not say: what it is late with is not taken for lost.
    """
    rbac = k8s.RbacAuthorizationV1Api(api.client)
    looks = {
        "kubeadm-config": (api.core.read_namespaced_config_map, "kubeadm-config", "kube-system"),
        "kubelet-config": (api.core.read_namespaced_config_map, "kubelet-config", "kube-system"),
        "cluster-info": (api.core.read_namespaced_config_map, "cluster-info", "kube-public"),
        "the right to read cluster-info": (
            rbac.read_namespaced_role_binding,
            "kubeadm:bootstrap-signer-clusterinfo",
            "kube-public",
        ),
        "coredns": (api.apps.read_namespaced_deployment, "coredns", "kube-system"),
        "kube-proxy": (api.apps.read_namespaced_daemon_set, "kube-proxy", "kube-system"),
    }
    try:
        return [what for what, (call, *where) in looks.items() if found(call, *where) is None]
    except ApiException as error:
        if error.status != _FORBIDDEN:
            raise
        return [f"the rights of {cluster_api.ADMIN} ({error.status})"]


def registered(api: Api, name: str) -> bool:
    """Whether the API has the node as a control plane. Raises ApiException like lost()."""
    try:
        node = nodes.lookup(api, name)
    except ApiException as error:
        if error.status != _FORBIDDEN:
            raise
        return False
    return node is not None and nodes.MASTER_LABEL in (node.metadata.labels or {})
