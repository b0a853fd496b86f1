"""Rook and Ceph: applied step by step, each once what it needs is there, until volumes can be had.

One host does it for all; where it fails nobody goes on.
"""

from collections.abc import Generator, Sequence
from functools import cache

import yaml
from kubernetes import client as k8s
from pyinfra import host, state
from pyinfra.api import Host, State, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import fetch, manifests, nodes, rook, settings
from barekube import objects as live_objects
from barekube.api import Api, Trouble, found
from barekube.cluster import Cluster
from barekube.manifests import Object
from barekube.operations import disks, objects
from barekube.operations.order import answering, leads, refuse, wait, waited_for, warn
from barekube.rook import SPACE, Storage, Upstream

_OPERATOR_LIMIT, _CLUSTER_LIMIT, _HEALTH_LIMIT = 600, 1800, 900
# Kinds of Rook's that say by status.phase when they are ready.
_PHASED = ("CephBlockPool", "CephFilesystem", "CephCluster")


@cache
def _documents(name: str, content: bytes) -> list[tuple[str, Object]]:
    """The objects of one of Rook's own files."""
    found_there = yaml.load_all(content, manifests.LOADER)
    return [(name, rook.placed(each)) for each in found_there if each is not None]


def _fetched(file: Upstream) -> list[tuple[str, Object]]:
    """Raises NotFetched."""
    content = fetch.fetched(file, host.data.bundle_url, host.data.bundle_ca)
    return _documents(file.title, content)


@operation()
def fetched(storage: Storage) -> Generator[PyinfraCommand]:
    """Rook's own files are on this machine, and are what the lock names. No remote command."""
    if not leads():
        return
    try:
        for file in storage.files:
            _fetched(file)
    except fetch.NotFetched as error:
        yield from refuse(str(error))
        return
    host.noop(f"{len(storage.files)} files of Rook's are what the lock names")


@operation()
def disks_judged(cluster: Cluster, storage: Storage) -> Generator[PyinfraCommand]:
    """Ceph can have the disks that it is not told of yet. One round trip for a host with such."""
    yield from answering(_disks_judged(cluster, storage))


def _disks_judged(cluster: Cluster, storage: Storage) -> Generator[PyinfraCommand]:
    if not leads():
        return
    own, told = disks.own_fsid(cluster), _told(cluster, storage)
    if own is None and state.is_executing:
        yield from refuse(
            "whose the disks are is not known, for no API answers; bring a control plane up, then"
            " run this again"
        )
        return
    others = _without_ceph(cluster)
    bad = []
    for other in settings.hosts():
        mine = storage.disks.get(other.name, ())
        new = [each for each in mine if each not in told.get(other.name, ())]
        if new and other.name in others:
            host.log(f"{other.name}: {rook.without_ceph(others[other.name])}")
            bad.append(other.name)
        for verdict in disks.verdicts(other, new, own) if new else []:
            host.log(f"{other.name}: {verdict.words}")
            bad += [] if verdict.good else [other.name]
    if bad:
        yield from refuse(
            f"Ceph cannot have all disks that {storage.directory} names of"
            f" {', '.join(dict.fromkeys(bad))} (above); nothing is applied"
        )
        return
    host.noop("no disk speaks against it")


def _without_ceph(cluster: Cluster) -> dict[str, str]:
    """The nodes that there is no Ceph for, and their CPUs; none while no API answers."""
    try:
        there = cluster_api.connect(cluster).core.list_node().items
    except Trouble:
        return {}
    arch = {each.metadata.name: each.status.node_info.architecture for each in there}
    return {name: cpu for name, cpu in arch.items() if cpu not in rook.ARCHITECTURES}


def _told(cluster: Cluster, storage: Storage) -> dict[str, tuple[str, ...]]:
    """By host, the disks that the living CephCluster names."""
    try:
        api = cluster_api.connect(cluster)
    except Trouble:
        return {}
    live = live_objects.live(api, _of_kind(storage, "CephCluster")[0][1])
    try:
        return rook.named([("", live)]) if live else {}
    except rook.Wrong:
        return {}  # Changed by hand: all disks are looked at.


def _of_kind(storage: Storage, *kinds: str) -> list[tuple[str, Object]]:
    return [each for each in manifests.read(storage.directory) if each[1]["kind"] in kinds]


@operation()
def upstream(cluster: Cluster, file: Upstream) -> Generator[PyinfraCommand]:
    """What one of Rook's own files has is applied: its kinds are known, its operators run."""
    yield from answering(_upstream(cluster, file))


def _upstream(cluster: Cluster, file: Upstream) -> Generator[PyinfraCommand]:
    if not leads():
        return
    try:
        documents = _fetched(file)
    except fetch.NotFetched as error:
        yield from refuse(str(error))
        return
    yield from objects.brought(cluster, documents, file.title)
    yield from _awaited(cluster, [each for _, each in documents], file.title, _OPERATOR_LIMIT)


@operation()
def ceph(cluster: Cluster, storage: Storage) -> Generator[PyinfraCommand]:
    """The CephCluster is applied and ready. No remote command."""
    yield from answering(_ceph(cluster, storage))


def _ceph(cluster: Cluster, storage: Storage) -> Generator[PyinfraCommand]:
    if not leads():
        return
    documents = _of_kind(storage, "CephCluster")
    yield from objects.brought(cluster, documents, str(storage.directory))
    yield from _awaited(
        cluster, [each for _, each in documents], "the Ceph cluster", _CLUSTER_LIMIT
    )


@operation()
def classes(cluster: Cluster, storage: Storage) -> Generator[PyinfraCommand]:
    """Pools, file system, classes and the rest are applied and ready. No remote command."""
    yield from answering(_classes(cluster, storage))


def _classes(cluster: Cluster, storage: Storage) -> Generator[PyinfraCommand]:
    if not leads():
        return
    documents = manifests.read(storage.directory)
    yield from objects.brought(cluster, documents, str(storage.directory), whole=documents)
    yield from _awaited(
        cluster, [each for _, each in documents], "pools and classes", _CLUSTER_LIMIT
    )


def _awaited(
    cluster: Cluster, documents: Sequence[Object], what: str, limit: int
) -> Generator[PyinfraCommand]:
    """Wait, if need be, until all that has a state is as wanted."""
    try:
        api = cluster_api.connect(cluster)
    except Trouble:
        return  # A preview; the step before has said so.
    if lack := _lacking(api, documents):
        given = (cluster, documents, what, limit)
        yield from waited_for(f"{what}, {limit} s at most: {lack}", _await, *given)
    else:
        host.noop(f"{what}: as wanted")


def _await(
    state: State, host: Host, cluster: Cluster, documents: Sequence[Object], what: str, limit: int
) -> bool:
    lack = wait(what, limit, lambda: _lacking(cluster_api.connect(cluster), documents))
    if lack is None:
        return True
    host.log(
        f"{what}: not as wanted in {limit} s: {lack}; look at `kubectl -n {SPACE} get pods -o"
        " wide`, then run this again"
    )
    return False


def _lacking(api: Api, documents: Sequence[Object]) -> str | None:
    """What the first object lacks that is not as wanted, with the pod that does not get on."""
    for document in documents:
        if lack := _lack(api, document):
            return f"{lack}{_pods(api)}"
    return None


def _lack(api: Api, document: Object) -> str | None:
    kind, what = document["kind"], manifests.title(document)
    if kind in _PHASED:
        return rook.lacking(document, live_objects.live(api, document))
    if kind == "CustomResourceDefinition":
        live = live_objects.live(api, document)
        known = live is not None and manifests.condition(live, "Established")
        return None if known else f"{what} is not established"
    if kind == "StorageClass":
        driver = document["provisioner"]
        drivers = k8s.StorageV1Api(api.client)
        if found(drivers.read_csi_driver, driver) is None:
            return f"{what}: nothing has registered as {driver} yet"
    if kind == "Deployment":
        metadata = document["metadata"]
        live = found(api.apps.read_namespaced_deployment, metadata["name"], metadata["namespace"])
        if live is None:
            return f"{what} is not there"
        status, wanted = live.status, live.spec.replicas
        seen = (status.observed_generation or 0) >= live.metadata.generation
        runs = min(status.updated_replicas or 0, status.available_replicas or 0) if seen else 0
        return None if runs >= wanted else f"{what}: {runs} of {wanted} pods run"
    return None


def _pods(api: Api) -> str:
    """' (a pod, its node, what it waits for)', or nothing."""
    pods = api.core.list_namespaced_pod(SPACE).items
    why = next((trouble for pod in pods if (trouble := nodes.pod_trouble(pod))), "")
    return why and f" ({why})"


@operation()
def healthy(cluster: Cluster, storage: Storage) -> Generator[PyinfraCommand]:
    """Ceph says that it is well, but for what barekube/rook.py allows. No remote command."""
    yield from answering(_healthy(cluster, storage))


def _healthy(cluster: Cluster, storage: Storage) -> Generator[PyinfraCommand]:
    if not leads():
        return
    try:
        api = cluster_api.connect(cluster)
    except Trouble:
        return  # A preview; the steps before have said so.
    wanted = _of_kind(storage, "CephCluster")[0][1]
    wrong, passed = rook.health(live_objects.live(api, wanted) or {})
    for line in passed:
        host.log(line)
    if wrong:
        health = f"Ceph's health, {_HEALTH_LIMIT} s at most: {wrong}"
        yield from waited_for(health, _await_health, cluster, storage, wanted)
    else:
        host.noop("Ceph is well")
        for sentence in _unused(api, storage):
            warn(sentence)


def _unused(api: Api, storage: Storage) -> list[str]:
    """A sentence for each host with fewer OSDs than disks: Rook passes a disk over in silence."""
    made = api.apps.list_namespaced_deployment(SPACE, label_selector="app=rook-ceph-osd").items
    there = {name: len(rook.carried(name, made)) for name in storage.disks}
    return [
        f"{name}: {there[name]} of its {len(disks)} disks are OSDs; what Rook has against the rest:"
        f" `kubectl -n {SPACE} logs -l app=rook-ceph-osd-prepare --tail=-1`"
        for name, disks in storage.disks.items()
        if there[name] < len(disks)
    ]


def _await_health(
    state: State, host: Host, cluster: Cluster, storage: Storage, wanted: Object
) -> bool:
    def lacking() -> str | None:
        return rook.health(live_objects.live(cluster_api.connect(cluster), wanted) or {})[0]

    wrong = wait("Ceph's health", _HEALTH_LIMIT, lacking)
    if wrong is None:
        for sentence in _unused(cluster_api.connect(cluster), storage):
            host.log(sentence)
        return True
    host.log(
        f"Ceph is not well in {_HEALTH_LIMIT} s: {wrong}; look at `kubectl -n {SPACE} exec"
        " deploy/ceph-tools -- ceph health detail`, then run this again"
    )
    return False
