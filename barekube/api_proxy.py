"""A worker's own way to the API: a static pod with a TCP proxy on loopback, which the API's name
leads to (barekube/hosts_file.py), and which asks each control plane all the time if it is well.

The addresses of all control planes in /etc/hosts would do while these answer or refuse. One that
lost its power does neither: whoever has it first in his list waits there at every new connection,
longer than a client's 10 s. And one whose etcd is away, as in an upgrade, accepts everybody and
lets him wait; one that has just started refuses what it will allow in a moment. So the proxy is
HAProxy, which can ask for /readyz by TLS. A control plane needs none: its API server is on its
loopback. With one control plane there is nothing to choose.
"""

from barekube import kubeadm_config, versions
from barekube.cluster import Cluster
from barekube.kubeadm_config import Object
from barekube.text import TextFile

NAME = "barekube-api"
MANIFEST = f"/etc/kubernetes/manifests/{NAME}.yaml"
_DIRECTORY = f"/etc/kubernetes/{NAME}"
CONFIGURATION = f"{_DIRECTORY}/haproxy.cfg"
_IMAGE = versions.IMAGES["haproxy"]
_HEADER = "# Written by barekube, deploys/workers.py.\n"
# The 4 h are those after which kubelet ends an idle `kubectl exec`. Where no server is thought
# well, all are tried: what is wrong may be no more than what is asked for.
_RULES = """\
global
    maxconn 400
    log stdout format raw local0 notice

defaults
    mode tcp
    log global
    balance roundrobin
    option redispatch 1
    option allbackups
    retries 3
    timeout connect 2s
    timeout check 4s
    timeout client 4h
    timeout server 4h

"""
# An API server whose etcd is away says so after 2 s (its --etcd-readycheck-timeout). It is out
# after 6 s, that of a dead machine after 5 s: within a client's 10 s, so that who waits there tries
# again elsewhere. Not at its first word: while etcd elects a leader, or waits for a disk, all API
# servers say so for 2 or 3 s, and to end what all hold there keeps the API away for longer. 401: an
# API server that nobody may ask without a name is well while it answers. The certificate is for
# clients to look at: each has the cluster's CA.
_CHECK = """\
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host {name}
    http-check expect rstatus ^(200|401)$
    default-server inter 1500ms fastinter 200ms fall 2 rise 2
    default-server on-marked-down shutdown-sessions
"""


def images(cluster: Cluster, name: str) -> tuple[str, ...]:
    """The images by which a host reaches the API."""
    worker = not cluster.node(name).control_plane
    return (_IMAGE,) if worker and len(cluster.control_planes) > 1 else ()


def listens(port: int) -> str:
    """A script that fails where nobody listens on loopback at `port`.

    The kernel writes addresses as the machine does, and all of ours are little-endian.
    """
    return f"grep -q ' 0100007F:{port:04X} 00000000:0000 0A ' /proc/net/tcp"


# Before a proxy that runs is ended: without the next one's image there would be none.
PULL = f"crictl pull {_IMAGE} >/dev/null"
# kubelet starts it again, and it reads its configuration. One that cannot be stopped goes on with
# what it has read, and the file goes, so that the next run finds it lacking and does both anew. By
# itself crictl gives containerd 2 s, which a busy one takes (seen in a drill).
RESTART = (
    f"{{ pods=$(crictl pods -q --state ready --name '^{NAME}-')"
    " && all=$(for pod in $pods; do crictl ps -q --pod $pod || exit 1; done)"
    ' && { [ -z "$all" ] || crictl --timeout 60s stop $all >/dev/null; }; }'
    f" || {{ rm -f {CONFIGURATION}; exit 1; }}"
)


def files(cluster: Cluster) -> list[TextFile]:
    """Those of a worker, the proxy's configuration first; none where there is one control plane."""
    if len(cluster.control_planes) < 2:
        return []
    return [
        TextFile(CONFIGURATION, _HEADER + _configuration(cluster)),
        TextFile(MANIFEST, _HEADER + kubeadm_config.dump(_pod()), mode="600"),
    ]


def _configuration(cluster: Cluster) -> str:
    port = cluster.api_port
    servers = [f"{each.name} {each.address}:{port}" for each in cluster.control_planes]
    lines = [f"    server {each} check check-ssl verify none\n" for each in servers]
    lines += [f"    server unchecked_{each} backup\n" for each in servers]
    head = f"listen api\n    bind 127.0.0.1:{port}\n"
    return _RULES + head + _CHECK.format(name=cluster.api_name) + "".join(lines)


def _pod() -> Object:
    container: Object = {
        "name": "proxy",
        "image": _IMAGE,
        "command": ["haproxy", "-db", "-f", CONFIGURATION],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
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
            # Its connections are watches that never end by themselves.
            "terminationGracePeriodSeconds": 1,
            # The directory, not the file: a file that is replaced would stay the old one in there.
            "volumes": [{"name": "config", "hostPath": {"path": _DIRECTORY, "type": "Directory"}}],
        },
    }
