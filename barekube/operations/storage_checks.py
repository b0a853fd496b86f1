"""Volumes that verify tries: one that moves with its pod, and one that two nodes write at once."""

import copy
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from kubernetes import client as k8s
from pyinfra import host, state
from pyinfra.api import FunctionCommand, Host, State, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import manifests, nodes, rook, verify
from barekube.api import Api, found
from barekube.cluster import Cluster
from barekube.manifests import Object
from barekube.operations import objects
from barekube.operations import verify as verify_operations
from barekube.operations.order import acts_for_the_cluster, answering, wait
from barekube.verify import Check

_LIMIT = 240
# What agnhost writes.
_WRITTEN = "mount-tester new file"
# Title -> the claim, and the pods by turns: those of one turn run at once, each on another node.
_TRIES: Mapping[str, tuple[str, Sequence[Sequence[str]]]] = {
    "volume moves": ("block", [["write"], ["read"]]),
    "shared volume": ("shared", [["left", "right"]]),
}


@operation()
def tried(cluster: Cluster, directory: Path) -> Generator[PyinfraCommand]:
    """A volume of each class was written on one node and read on another. No remote command."""
    if not acts_for_the_cluster():
        host.noop("another host of this run does it")
    elif state.is_executing:
        yield from answering(_tried(cluster, directory))
    else:
        host.noop("tried")


def _tried(cluster: Cluster, directory: Path) -> Generator[PyinfraCommand]:
    api = cluster_api.connect(cluster)
    documents = {
        (each["kind"], each["metadata"]["name"]): each for _, each in manifests.read(directory)
    }
    there = [node for node in api.core.list_node().items if _can(node)]
    for title, (claim, _) in _TRIES.items():
        wanted = documents["PersistentVolumeClaim", claim]
        name = wanted["spec"]["storageClassName"]
        why = None
        if found(k8s.StorageV1Api(api.client).read_storage_class, name) is None:
            why = f"there is no class {name}"
        elif len(there) < 2:
            why = "there are no two nodes that volumes can be moved between"
        if why:
            verify_operations.tell([Check(title, host.name, None, why, group=verify.ROOK_GROUP)])
            continue
        names = [node.metadata.name for node in there[:2]]
        yield FunctionCommand(_try, (api, title, documents, names), {})


def _can(node: k8s.V1Node) -> bool:
    """Whether volumes can be mounted there."""
    arch = node.metadata.labels.get("kubernetes.io/arch")
    return nodes.is_ready(node) and not node.spec.unschedulable and arch in rook.ARCHITECTURES


def _try(
    state: State,
    host: Host,
    api: Api,
    title: str,
    documents: Mapping[tuple[str, str], Object],
    names: Sequence[str],
) -> bool:
    began = time.monotonic()
    claim, turns = _TRIES[title]
    why = None
    if not objects.apply(state, host, api, [documents["PersistentVolumeClaim", claim]]):
        why = "the API refused the claim"
    node = iter(names)
    for turn in turns:
        pods = [_placed(documents["Pod", name], next(node)) for name in turn] if not why else []
        why = why or _ended(state, host, api, pods)
    words = why or f"written on {names[0]}, read on {names[1]}"
    took = time.monotonic() - began
    verify_operations.tell(
        [Check(title, host.name, why is None, words, took, group=verify.ROOK_GROUP)]
    )
    return True


def _placed(pod: Object, node: str) -> Object:
    """By the scheduler, which lets the volume be attached there."""
    result = copy.deepcopy(pod)
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    required = {"nodeSelectorTerms": [{"matchFields": [field]}]}
    wanted = {"requiredDuringSchedulingIgnoredDuringExecution": required}
    result["spec"]["affinity"] = {"nodeAffinity": wanted}
    return result


def _ended(state: State, host: Host, api: Api, pods: Sequence[Object]) -> str | None:
    """Run pods to their end, and remove them; what went wrong, if something did."""
    if not objects.apply(state, host, api, list(pods)):
        return "the API refused a pod"
    names = [pod["metadata"]["name"] for pod in pods]

    def lacking() -> str | None:
        for name in names:
            pod = api.core.read_namespaced_pod(name, verify.SPACE)
            if pod.status.phase not in ("Succeeded", "Failed"):
                return nodes.pod_trouble(pod) or f"{name} on {pod.spec.node_name}: its volume"
        return None

    why = wait("volumes", _LIMIT, lacking)
    for name in names if why is None else []:
        said = api.core.read_namespaced_pod_log(name, verify.SPACE)
        if _WRITTEN not in said:
            why = f"{name} did not find what was written: {said.strip()[-160:] or 'silence'}"
    for name in names:
        found(api.core.delete_namespaced_pod, name, verify.SPACE)

    def left() -> str | None:
        gone = all(
            found(api.core.read_namespaced_pod, name, verify.SPACE) is None for name in names
        )
        return None if gone else "its pod is there"

    return why or wait("the volume to be let go", _LIMIT, left)
