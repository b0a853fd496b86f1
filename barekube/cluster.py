"""What the cluster is to be, as typed values; made by barekube/settings.py, read everywhere."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Node:
    """A machine of the inventory: its name in the cluster, and the address nodes reach it by.

    `edge`: its ports 80 and 443 face the internet.
    """

    name: str
    address: str
    control_plane: bool
    edge: bool = False

    @property
    def stage(self) -> str:
        """The deploy by which it gets into the cluster."""
        return "control_plane" if self.control_plane else "workers"


@dataclass(frozen=True)
class Cluster:
    """The same on every host. `weave`: the pod network is Weave's; `packet`: the bytes of the
    largest packet that it sends between nodes."""

    name: str
    version: str
    api_name: str
    api_port: int
    service_network: str
    pod_network: str
    nodes: tuple[Node, ...]
    ignored_preflight: tuple[str, ...] = ()
    weave: bool = True
    packet: int = 1463
    # kubeadm's own settings, as group_data has them.
    cluster_configuration: Mapping[str, Any] = field(default_factory=dict)
    kubelet_configuration: Mapping[str, Any] = field(default_factory=dict)
    kube_proxy_configuration: Mapping[str, Any] = field(default_factory=dict)
    audit_rules: Sequence[Mapping[str, Any]] = ()
    # The number of the key that encrypts Secrets in etcd.
    encryption_key: int = 1

    @property
    def endpoint(self) -> str:
        """kubeadm's controlPlaneEndpoint."""
        return f"{self.api_name}:{self.api_port}"

    @property
    def control_planes(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.control_plane)

    @property
    def workers(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if not node.control_plane)

    @property
    def networks(self) -> dict[str, str]:
        """By what has its addresses there."""
        return {"pods": self.pod_network, "services": self.service_network}

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)


# Settings of kubeadm's that have a name of their own in barekube -> that name.
_SERVICES, _PODS = "service_network", "IPALLOC_RANGE of the network's manifest"
_NAMED = {
    ("clusterName",): "cluster_name",
    ("kubernetesVersion",): "kubernetes_version",
    ("controlPlaneEndpoint",): "api_name and api_port",
    ("networking", "serviceSubnet"): _SERVICES,
    ("networking", "podSubnet"): _PODS,
}
# So have arguments of the servers' that kubeadm makes of these.
_NAMED_ARGUMENTS = {"service-cluster-ip-range": _SERVICES, "cluster-cidr": _PODS}


def _value(cluster: Cluster, *path: str) -> Any:  # noqa: ANN401
    value: Any = cluster.cluster_configuration
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def contradiction(cluster: Cluster) -> str | None:
    """A sentence if group_data's kubeadm settings say what is said, or read, somewhere else."""
    said = [(".".join(path), _value(cluster, *path), name) for path, name in _NAMED.items()]
    for server in ("apiServer", "controllerManager"):
        for each in _value(cluster, server, "extraArgs") or []:
            if name := _NAMED_ARGUMENTS.get(each["name"]):
                said.append((f"{server}.extraArgs {each['name']}", each["value"], name))
    for where, value, name in said:
        if value is not None:
            return (
                f"group_data: cluster_configuration has {where} ({value!r}), which comes from"
                f" {name}; take it out there"
            )
    pods = cluster.kube_proxy_configuration.get("clusterCIDR", cluster.pod_network)
    if pods != cluster.pod_network:
        return (
            f"group_data: kube_proxy_configuration has clusterCIDR {pods!r} and pods get addresses"
            f" of {cluster.pod_network} (IPALLOC_RANGE of the network's manifest); take it out"
        )
    if cluster.api_port < 1024 and len(cluster.control_planes) > 1:
        return (
            f"group_data: api_port is {cluster.api_port}, and a worker's proxy to several control"
            " planes is not root, and listens from 1024 on only; choose another before init"
        )
    return None


def overlap(cluster: Cluster) -> str | None:
    """A sentence if pods, services and hosts, or two hosts, have an address in common."""
    pods = ipaddress.IPv4Network(cluster.pod_network)
    services = ipaddress.IPv4Network(cluster.service_network)
    if pods.overlaps(services):
        return (
            f"the network of pods ({pods}, IPALLOC_RANGE of the network's manifest) and that of"
            f" services ({services}, service_network of group_data) overlap; change one of them"
        )
    known: dict[str, str] = {}
    for node in cluster.nodes:
        other = known.setdefault(node.address, node.name)
        if other != node.name:
            return (
                f"{other} and {node.name} have the same address {node.address}; correct the"
                " inventory"
            )
        for what, network in (("pods", pods), ("services", services)):
            if ipaddress.IPv4Address(node.address) in network:
                return (
                    f"{node.name}: its address {node.address} is in the network of {what}"
                    f" ({network}); choose another network for {what}"
                )
    return None
