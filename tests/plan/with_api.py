"""pyinfra's command line with a stand-in for the API, run as a program by the plan tests.

The stand-in has three Ready nodes, a pod network that runs on all of them, and whatever object
it is asked for; a dry run of an apply finds nothing to change. What the manifests of the tests do
not have is new to it; it knows no kind "Unknown" and refuses what has `data: {refuse: REASON}`.
What the environment's LEFT_OVER names are ConfigMaps of the stage ingress that left its manifests,
what NOT_READY names is a node that is not Ready, and CORDONED one that a run of ours cordoned.
"""

from pyinfra_cli.main import main  # first: it patches the sockets for gevent

# ruff: noqa: I001
import base64
import functools
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import yaml
from kubernetes import client as k8s
from kubernetes.dynamic.exceptions import (
    NotFoundError,
    ResourceNotFoundError,
    UnprocessibleEntityError,
)
from pyinfra import inventory

import barekube.api
import barekube.operations.doors
from barekube import doors, kubeadm_config, lease, living, manifests, settings, versions
from barekube.operations import roll, upgradable
from tests.plan import machines


def node(name: str) -> k8s.V1Node:
    master = any(f"@fake/{each}" == name and is_master for each, _, is_master in machines.ALL)
    well = "False" if name == os.environ.get("NOT_READY") else "True"
    ready = SimpleNamespace(type="Ready", status=well)
    cordoned = name == os.environ.get("CORDONED") or None
    where = next(address for each, address, _ in machines.ALL if f"@fake/{each}" == name)
    labels = {"node-role.kubernetes.io/control-plane": ""} if master else {doors.LABEL: "internal"}
    return SimpleNamespace(
        metadata=SimpleNamespace(
            name=name, labels=labels, annotations={roll.MARK: "true"} if cordoned else {}
        ),
        spec=SimpleNamespace(taints=None, unschedulable=cordoned),
        status=SimpleNamespace(
            conditions=[ready],
            addresses=[SimpleNamespace(type="InternalIP", address=where)],
            node_info=SimpleNamespace(
                machine_id=machines.MACHINE_ID,
                kubelet_version=f"v{versions.KUBERNETES}",
                architecture=os.environ.get("CPU", "amd64"),
            ),
        ),
    )


def config_map(name: str, space: str) -> SimpleNamespace:
    """One of kubeadm's, as we left it."""
    cluster = machines.cluster()
    addresses = [each.address for each in cluster.control_planes]
    wanted = {
        living.CLUSTER: kubeadm_config.cluster_configuration(cluster, addresses),
        living.KUBELET: kubeadm_config.kubelet_configuration(cluster),
        living.PROXY: kubeadm_config.proxy_configuration(cluster),
    }
    for document, values in wanted.items():
        if document.config_map == name:
            text = kubeadm_config.dump(values)
            annotations = {living.ANNOTATION: living.note(values, text)}
            metadata = SimpleNamespace(annotations=annotations)
            return SimpleNamespace(data={document.key: text}, metadata=metadata)
    return MagicMock()


LEFT_OVER = [
    {"metadata": {"name": name, "namespace": "kube-system"}}
    for name in os.environ.get("LEFT_OVER", "").split()
]
_LEFT_OVER = ("ConfigMap", "barekube/stage=ingress")


def _identity(document: dict[str, Any]) -> tuple[str, str, str | None]:
    metadata = document["metadata"]
    return document["kind"], metadata["name"], metadata.get("namespace")


KNOWN = [
    document
    for directory in (machines.MANIFESTS, Path("manifests/traefik"), Path("manifests/network-page"))
    for path in directory.glob("*.yaml")
    for document in yaml.safe_load_all(path.read_text())
]


def secret(name: str, space: str) -> SimpleNamespace:
    """A Secret that a stage has made; its pods are younger. Rook has made none."""
    if space == "rook-ceph":
        raise k8s.ApiException(404, "Not Found")
    data = {}
    if name == doors.CERTIFICATE:
        door = space.removeprefix("traefik-")
        names = doors.names(machines.cluster(), door)
        pem, key = doors.certificate(names, datetime.now(UTC))
        more = doors.dynamic(door, own=False).encode()
        data = {"tls.crt": pem, "tls.key": key, "certificate.yaml": more}
    elif name == doors.LOGIN:
        data = {"password": b"p", "login.yaml": b"l"}
    else:
        data = {"password": b"p"}
    written = SimpleNamespace(time=datetime.now(UTC) - timedelta(hours=1))
    return SimpleNamespace(
        metadata=SimpleNamespace(managed_fields=[written]),
        data={field: base64.b64encode(value).decode() for field, value in data.items()},
    )


class Kind:
    """A kind of the dynamic client, of which there is what the manifests say."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.namespaced = kind not in manifests.CLUSTER_WIDE

    def get(
        self, name: str = "", namespace: str | None = None, label_selector: str = ""
    ) -> SimpleNamespace:
        if label_selector:
            items = LEFT_OVER if (self.kind, label_selector) == _LEFT_OVER else []
            return SimpleNamespace(to_dict=lambda: {"items": items})
        wanted = (self.kind, name, namespace)
        found = next((each for each in KNOWN if _identity(each) == wanted), None)
        if found is None:
            raise NotFoundError(k8s.ApiException(404, "Not Found"))
        return SimpleNamespace(to_dict=lambda: found)

    def server_side_apply(self, body: dict[str, object], **options: object) -> SimpleNamespace:
        assert options.get("dry_run") == "All", "nothing is to be changed here"
        data = body.get("data")
        if isinstance(data, dict) and "refuse" in data:
            error = k8s.ApiException(422, "Unprocessable Entity")
            error.body = json.dumps({"message": data["refuse"]})
            raise UnprocessibleEntityError(error)
        return SimpleNamespace(to_dict=lambda: body)


def kind_of(*, kind: str, api_version: str) -> Kind:
    if kind == "Unknown":
        raise ResourceNotFoundError
    return Kind(kind)


def connect(cluster: object, besides: str = "") -> SimpleNamespace:
    """In the place of barekube.api.connect, which opens one connection a run too."""
    return _opened()


@functools.cache
def _opened() -> SimpleNamespace:
    core, apps = MagicMock(), MagicMock()
    core.read_node = node
    core.read_namespaced_config_map = config_map
    runs = SimpleNamespace(started_at=datetime.now(UTC))
    container = SimpleNamespace(
        ready=True, container_id="1", state=SimpleNamespace(running=runs, waiting=None)
    )
    core.read_namespaced_pod.return_value.status.container_statuses = [container]
    core.list_node.return_value.items = [node(f"@fake/{name}") for name, _, _ in machines.ALL]
    image = f"registry.k8s.io/kube-apiserver:v{versions.KUBERNETES}"
    labels = {"component": "kube-apiserver"}
    pod = SimpleNamespace(
        metadata=SimpleNamespace(
            creation_timestamp=datetime.now(UTC), labels=labels, owner_references=[]
        ),
        spec=SimpleNamespace(node_name="@fake/cp-1", containers=[SimpleNamespace(image=image)]),
        status=SimpleNamespace(conditions=[]),
    )
    core.list_namespaced_pod.return_value.items = [pod]
    core.read_namespaced_secret = secret
    apps.read_namespaced_daemon_set.return_value = SimpleNamespace(
        metadata=SimpleNamespace(generation=2),
        status=SimpleNamespace(
            observed_generation=2,
            desired_number_scheduled=3,
            updated_number_scheduled=3,
            number_available=3,
        ),
        spec=SimpleNamespace(
            selector=SimpleNamespace(match_labels={"a": "b"}),
            template=SimpleNamespace(
                spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="c", image=image)])
            ),
        ),
    )
    return SimpleNamespace(
        host=next(iter(inventory)),
        ca=machines.CA,
        moved=living.moved("api.barekube:6443", settings.cluster().endpoint),
        client=MagicMock(),
        core=core,
        apps=apps,
        certificates=MagicMock(),
        dynamic=SimpleNamespace(resources=SimpleNamespace(get=kind_of)),
    )


if __name__ == "__main__":
    barekube.api.connect = connect  # type: ignore[assignment]
    setattr(lease, "take", MagicMock(return_value=None))  # noqa: B010 - nobody else has it
    barekube.operations.doors.ask = MagicMock()
    # Whose metrics are empty.
    setattr(upgradable, "Api", MagicMock())  # noqa: B010 - it is imported there
    main()
