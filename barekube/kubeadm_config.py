"""The configuration that kubeadm is given, as plain data (kubeadm.k8s.io/v1beta4)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from barekube import containerd, doors
from barekube.cluster import Cluster, Node
from barekube.text import TextFile

API = "kubeadm.k8s.io/v1beta4"
ENCRYPTION = "/etc/kubernetes/encryption.yaml"
AUDIT_POLICY = "/etc/kubernetes/audit-policy.yaml"
AUDIT_LOG = "/var/log/kubernetes/audit"

Object = dict[str, Any]


def merged(base: Object, extra: Mapping[str, Any]) -> Object:
    """`extra` over `base`: mappings key by key, lists of named things (extraArgs) by name, other
    lists (certSANs) added to."""
    result = dict(base)
    for key, value in extra.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            result[key] = merged(old, value)
        elif _named(old) and _named(value):
            by_name = {each["name"]: each for each in [*old, *value]}  # type: ignore[misc]
            result[key] = list(by_name.values())
        elif isinstance(old, list) and isinstance(value, list):
            result[key] = list(dict.fromkeys([*old, *value]))
        else:
            result[key] = value
    return result


def _named(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list) and all(isinstance(e, dict) and "name" in e for e in value)


def dump(*documents: Object) -> str:
    """YAML of several documents, as kubeadm reads them from one file."""
    return yaml.safe_dump_all(documents, sort_keys=False)


def _arguments(**values: str) -> list[dict[str, str]]:
    return [{"name": name.replace("_", "-"), "value": value} for name, value in values.items()]


def cluster_configuration(cluster: Cluster, addresses: Sequence[str]) -> Object:
    """The ClusterConfiguration; `addresses` are those of the control planes."""
    own: Object = {
        "apiVersion": API,
        "kind": "ClusterConfiguration",
        "clusterName": cluster.name,
        "kubernetesVersion": f"v{cluster.version}",
        "controlPlaneEndpoint": cluster.endpoint,
        "networking": {
            "podSubnet": cluster.pod_network,
            "serviceSubnet": cluster.service_network,
            "dnsDomain": "cluster.local",
        },
        "apiServer": {
            "certSANs": [cluster.api_name, *addresses, "localhost", "127.0.0.1"],
            "extraArgs": _arguments(
                audit_log_path=f"{AUDIT_LOG}/audit.log",
                audit_log_maxage="30",
                audit_log_maxbackup="10",
                audit_log_maxsize="100",
                audit_policy_file=AUDIT_POLICY,
                encryption_provider_config=ENCRYPTION,
                kubelet_certificate_authority="/etc/kubernetes/pki/ca.crt",
                profiling="false",
            ),
            "extraVolumes": [
                _volume("encryption", ENCRYPTION, "File", read_only=True),
                _volume("audit-policy", AUDIT_POLICY, "File", read_only=True),
                _volume("audit-log", AUDIT_LOG, "DirectoryOrCreate", read_only=False),
            ],
        },
        "controllerManager": {"extraArgs": _arguments(profiling="false")},
        "scheduler": {"extraArgs": _arguments(profiling="false")},
    }
    return merged(own, cluster.cluster_configuration)


def _volume(name: str, path: str, kind: str, *, read_only: bool) -> Object:
    return {
        "name": name,
        "hostPath": path,
        "mountPath": path,
        "readOnly": read_only,
        "pathType": kind,
    }


RESERVED_MB = 200


def kubelet_configuration(cluster: Cluster) -> Object:
    """The KubeletConfiguration of all nodes."""
    own: Object = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        # Serving certificates by the cluster's CA, approved by our stages (barekube/csr.py).
        "serverTLSBootstrap": True,
        "seccompDefault": True,
        "protectKernelDefaults": True,
        # What kubelet, containerd and the system itself take is not promised to pods: a board of
        # 1 GiB would run out of memory with all requests kept.
        "systemReserved": {"memory": f"{RESERVED_MB}Mi"},
    }
    return merged(own, cluster.kubelet_configuration)


def proxy_configuration(cluster: Cluster) -> Object:
    """The KubeProxyConfiguration; the mode is the one that Weave is tested with."""
    own: Object = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
    }
    return merged(own, cluster.kube_proxy_configuration)


# kubeadm's checks that a clean machine passes, and one where its work was cut off does not.
_REMAINS_OF_INIT = [
    "Port-6443",
    "Port-10250",
    "Port-10257",
    "Port-10259",
    "Port-2379",
    "Port-2380",
    "DirAvailable--var-lib-etcd",
    "FileAvailable--etc-kubernetes-manifests-etcd.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml",
]
_REMAINS_OF_JOIN = [
    "Port-10250",
    "DirAvailable--etc-kubernetes-manifests",
    "FileAvailable--etc-kubernetes-kubelet.conf",
    "FileAvailable--etc-kubernetes-bootstrap-kubelet.conf",
    "FileAvailable--etc-kubernetes-pki-ca.crt",
]


def init(
    cluster: Cluster,
    node: Node,
    token: str,
    addresses: Sequence[str],
    *,
    cut_off: bool,
) -> str:
    """What `kubeadm init --config` gets. `token` is a bootstrap token, good for 15 minutes.

    `cut_off`: kubeadm is to go on where an earlier run of it was cut off.
    """
    return dump(
        {
            "apiVersion": API,
            "kind": "InitConfiguration",
            "bootstrapTokens": [{"token": token, "ttl": "15m0s", "usages": _USAGES}],
            "timeouts": _TIMEOUTS,
            "localAPIEndpoint": {"advertiseAddress": node.address, "bindPort": cluster.api_port},
            "nodeRegistration": _registration(
                cluster, node, _REMAINS_OF_INIT if cut_off else [], master=True
            ),
        },
        cluster_configuration(cluster, addresses),
        kubelet_configuration(cluster),
        proxy_configuration(cluster),
    )


_USAGES = ["signing", "authentication"]
# kubeadm gives up on an API server that does not come up within a minute, which a slow machine
# takes after a power cut (seen in the drill).
_TIMEOUTS = {"kubernetesAPICall": "5m0s"}


def join(cluster: Cluster, node: Node, token: str, ca_hash: str, *, cut_off: bool) -> str:
    """What `kubeadm join --config` gets on a worker. `ca_hash` is "sha256:<hex>".

    `cut_off`: kubeadm is to go on where an earlier run of it was cut off.
    """
    return dump(
        {
            "apiVersion": API,
            "kind": "JoinConfiguration",
            "timeouts": _TIMEOUTS,
            "discovery": {
                "bootstrapToken": {
                    "token": token,
                    "apiServerEndpoint": cluster.endpoint,
                    "caCertHashes": [ca_hash],
                }
            },
            "nodeRegistration": _registration(
                cluster, node, _REMAINS_OF_JOIN if cut_off else [], master=False
            ),
        }
    )


def join_control_plane(
    cluster: Cluster, node: Node, token: str, ca_hash: str, certificate_key: str
) -> str:
    """What `kubeadm join --config` gets on a further control plane.

    `certificate_key` is the hex key by which `kubeadm init phase upload-certs` encrypted the
    cluster's keys.
    """
    document: Object = yaml.safe_load(join(cluster, node, token, ca_hash, cut_off=False))
    del document["nodeRegistration"]["taints"]
    document["controlPlane"] = {
        "localAPIEndpoint": {"advertiseAddress": node.address, "bindPort": cluster.api_port},
        "certificateKey": certificate_key,
    }
    return dump(document)


def _registration(cluster: Cluster, node: Node, remains: Sequence[str], *, master: bool) -> Object:
    result: Object = {
        "name": node.name,
        "criSocket": containerd.SOCKET,
        "kubeletExtraArgs": _arguments(node_ip=node.address),
        "ignorePreflightErrors": [*cluster.ignored_preflight, *remains],
        "imagePullSerial": False,
    }
    if not master:
        result["taints"] = [doors.TAINT] if node.edge else []
    return result


def encryption_configuration(keys: Mapping[str, str]) -> str:
    """Secrets are encrypted at rest with the first of `keys` (name to 32 bytes as base64), and read
    with any; what was written before there was one stays readable."""
    listed = [{"name": name, "secret": secret} for name, secret in keys.items()]
    return dump(
        {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [
                {
                    "resources": ["secrets"],
                    "providers": [
                        {"secretbox": {"keys": listed}},
                        {"identity": {}},
                    ],
                }
            ],
        }
    )


def audit_policy(cluster: Cluster) -> TextFile:
    """Who did what, by the rules of group_data; the file of the API server."""
    policy: Object = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": list(cluster.audit_rules),
    }
    return TextFile(AUDIT_POLICY, "# Written by barekube.\n" + dump(policy), mode="600")


def upgrade(cluster: Cluster, architectures: Collection[str]) -> str:
    """What `kubeadm upgrade apply` and `kubeadm upgrade node` get; `architectures` are those of all
    nodes.

    kubeadm starts a Job before anything else, on any node, and gives it a minute (CreateJob). A
    small ARM board can need longer for a pod; kubeadm then only warns.
    """
    slow = [] if set(architectures) <= {"amd64"} else ["CreateJob"]
    common: Object = {
        "ignorePreflightErrors": [*cluster.ignored_preflight, *slow],
        "imagePullSerial": False,
    }
    return dump(
        {
            "apiVersion": API,
            "kind": "UpgradeConfiguration",
            "apply": {"kubernetesVersion": f"v{cluster.version}", **common},
            "node": common,
            "timeouts": {**_TIMEOUTS, "upgradeManifests": "10m0s"},
        }
    )


def phase(cluster: Cluster, node: Node, certificates: str | None = None) -> str:
    """What a single phase of `kubeadm init` gets on control plane `node` of a living cluster.

    `certificates`: the directory of the keys, if it is not kubeadm's own.
    """
    place = {"certificatesDir": certificates} if certificates else {}
    return dump(
        {
            "apiVersion": API,
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": node.address, "bindPort": cluster.api_port},
            "nodeRegistration": _registration(cluster, node, [], master=True),
        },
        cluster_configuration(cluster, [each.address for each in cluster.control_planes]) | place,
        kubelet_configuration(cluster),
        proxy_configuration(cluster),
    )


def upload(cluster: Cluster, node: Node, certificate_key: str) -> str:
    """What `kubeadm init phase upload-certs --config` gets on control plane `node`."""
    first, *others = yaml.safe_load_all(phase(cluster, node))
    return dump(first | {"certificateKey": certificate_key}, *others)
