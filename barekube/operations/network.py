"""The pod network: applied, all nodes Ready by it, and every pair connected as it should be."""

import time
from collections.abc import Generator
from pathlib import Path

from pyinfra import host, state
from pyinfra.api import Host, State, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import nodes, weave
from barekube.api import Api, Trouble, found
from barekube.cluster import Cluster
from barekube.facts.weave import WeaveReport
from barekube.operations import objects, roll
from barekube.operations.order import (
    answering,
    leads,
    refuse,
    to_come,
    wait,
    waited_for,
    warn,
    without_api,
)

# A 32-bit board, emulated, took 200 s to have the images of kube-proxy and the pod network.
_READY_LIMIT = 600
# Weave looks for lost peers in growing steps; after a start it has found them by then.
_PAIRS_LIMIT = 60


@operation()
def applied(cluster: Cluster, directory: Path) -> Generator[PyinfraCommand]:
    """The manifests of `directory` are applied, if their range of pods is the one that the cluster
    was made with. No remote command."""
    yield from answering(_applied(cluster, directory))


def _applied(cluster: Cluster, directory: Path) -> Generator[PyinfraCommand]:
    if not leads():
        return
    if wrong := objects.other_range(cluster):
        yield from refuse(wrong)
        return
    yield from objects.applied(cluster, [directory])


@operation()
def ready(cluster: Cluster) -> Generator[PyinfraCommand]:
    """This host's node is Ready. No remote command."""
    yield from answering(_ready(cluster))


def _ready(cluster: Cluster) -> Generator[PyinfraCommand]:
    try:
        api = cluster_api.connect(cluster)
    except Trouble as trouble:
        if to_come("control_plane"):
            host.log(f"waits for {host.name} to be Ready, once {cluster.endpoint} answers")
            yield StringCommand("false")
            return
        yield from without_api(str(trouble))
        return
    node = nodes.lookup(api, host.name)
    stage = cluster.node(host.name).stage
    if node is None and not to_come(stage):
        yield from refuse(f"{host.name} is not in the cluster; run deploys/{stage}.py first")
        return
    if node is not None and nodes.is_ready(node):
        if node.spec.unschedulable and roll.has_mark(node):
            warn(
                "it was left cordoned by a run that was cut off, or that still goes on: run that"
                " again, or deploys/maintain.py -y --data packages=true --limit"
                f" {host.name} to let it back"
            )
        host.noop(f"node {host.name} is Ready")
        return
    limit = f"{_READY_LIMIT} s at most"
    yield from waited_for(f"{host.name} to be Ready, {limit}", _await_ready, cluster)


def _await_ready(state: State, host: Host, cluster: Cluster) -> bool:
    def lacking() -> str | None:
        node = nodes.lookup(cluster_api.connect(cluster), host.name)
        if node is None:
            return "it is not in the cluster"
        return None if nodes.is_ready(node) else nodes.why_not_ready(node)

    why = wait("Ready", _READY_LIMIT, lacking)
    if why is None:
        return True
    host.log(
        f"not Ready in {_READY_LIMIT} s: {why}; look at `kubectl describe node {host.name}`"
        f" and `kubectl -n kube-system get pods -o wide`, then run this again"
    )
    return False


@operation()
def paired(cluster: Cluster) -> Generator[PyinfraCommand]:
    """Weave has this host connected with every Ready node on its encrypted fast datapath.

    A pair that is not gets a warning: what works by the slow way is no reason to fail, but to
    drift.py what does not work is trouble. One round trip, and more only while a pair is not
    connected.
    """
    yield from answering(_paired(cluster))


def _paired(cluster: Cluster) -> Generator[PyinfraCommand]:
    try:
        api = cluster_api.connect(cluster)
    except Trouble as trouble:
        if not to_come("control_plane"):
            yield from without_api(str(trouble))
        return
    if not state.is_executing and not _is_there(api):
        host.noop("Weave is to come")
        return
    others = nodes.others(api, host.name)
    end = time.monotonic() + (_PAIRS_LIMIT if state.is_executing else 0)
    while True:
        warnings = weave.broken(host.get_fact(WeaveReport), host.name, others)
        if not warnings or time.monotonic() > end:
            break
        time.sleep(2)
    for warning, works in warnings.items():
        if works:
            host.log(warning)
        else:
            warn(warning)
    host.noop(f"{len(others) - len(warnings)} of {len(others)} pairs are as they should be")


def _is_there(api: Api) -> bool:
    return found(api.apps.read_namespaced_daemon_set, weave.DAEMON_SET, "kube-system") is not None
