"""A worker's own way to the API: a static pod with a TCP proxy on loopback, which the API's name
leads to (barekube/hosts_file.py) and which asks every control plane all the time whether it lives.

The addresses of all control planes in /etc/hosts would do while these answer or refuse. One that
lost its power does neither: whoever has it first in his list waits there at every new connection,
longer than a client's 10 s. A control plane needs no proxy: its API server is on its loopback, and
refuses at once when it is down. With one control plane there is nothing to choose.
"""

from barekube import kubeadm_config, versions
from barekube.cluster import Cluster
from barekube.kubeadm_config import Object
from barekube.text import TextFile

NAME = "barekube-api"
MANIFEST = f"/etc/kubernetes/manifests/{NAME}.yaml"
_DIRECTORY = f"/etc/kubernetes/{NAME}"
CONTROL_PLANES = f"{_DIRECTORY}/control-planes.yaml"
_HEADER = "# Written by barekube, deploys/workers.py.\n"


def files(cluster: Cluster) -> list[TextFile]:
    """Those of a worker, the proxy's configuration first; none where there is one control plane.

    Further control planes change the configuration only, which the proxy reads anew by itself.
    """
    if len(cluster.control_planes) < 2:
        return []
    return [
        TextFile(CONTROL_PLANES, _HEADER + kubeadm_config.dump(_control_planes(cluster))),
        TextFile(MANIFEST, _HEADER + kubeadm_config.dump(_pod(cluster)), mode="600"),
    ]


def _control_planes(cluster: Cluster) -> Object:
    servers = [{"address": f"{m.address}:{cluster.api_port}"} for m in cluster.control_planes]
    balancer: Object = {
        "servers": servers,
        "serversTransport": "api",
        # A dead one is out after 4 s at most, so that a client's second try, after its 10 s, does
        # not meet it. One that came back is looked at less often: its API server listens a moment
        # before it knows who may do what, and refuses until then; a second try goes to the next.
        "healthCheck": {"interval": "2s", "timeout": "2s", "unhealthyInterval": "10s"},
    }
    return {
        "tcp": {
            "routers": {"api": {"entryPoints": ["api"], "rule": "HostSNI(`*`)", "service": "api"}},
            "services": {"api": {"loadBalancer": balancer}},
            "serversTransports": {"api": {"dialTimeout": "3s"}},
        }
    }


def _pod(cluster: Cluster) -> Object:
    container: Object = {
        "name": "proxy",
        "image": versions.IMAGES["traefik"],
        "command": [
            "/usr/local/bin/traefik",
            f"--entryPoints.api.address=127.0.0.1:{cluster.api_port}",
            f"--providers.file.filename={CONTROL_PLANES}",
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "config", "mountPath": _DIRECTORY, "readOnly": True}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": "kube-system", "labels": {"app": NAME}},
        "spec": {
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            # The directory, not the file: a file that is replaced would stay the old one in there.
            "volumes": [{"name": "config", "hostPath": {"path": _DIRECTORY, "type": "Directory"}}],
        },
    }
