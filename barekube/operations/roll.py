"""Work on one node after the other: each is drained, Ready again, and let back before the next."""

from collections.abc import Callable, Generator, Iterable
from datetime import datetime

from kubernetes import client as k8s
from pyinfra import host, state
from pyinfra.api import FunctionCommand, Host, State
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import drain, nodes, remote, upgrade
from barekube.api import Api
from barekube.cluster import Cluster
from barekube.facts.upgrade import EtcdFact
from barekube.operations import ceph
from barekube.operations.objects import replacing
from barekube.operations.order import refuse, wait

# On a node that we cordoned: a roll that was cut off is to let it back, one of a user's not.
MARK = "barekube/cordoned"
_DRAIN_LIMIT, READY_LIMIT, _SEEN_LIMIT = 600, 600, 300


def halted(begun: Iterable[str] = (), among: Iterable[Host] | None = None) -> str | None:
    """The sentence for a host that comes after one that failed; `begun`: that began the same and
    did not end it, which pyinfra counts only when all hosts are through; `among`: whose failing
    counts, where that is not everybody's."""
    lost = {each.name for each in state.failed_hosts}
    failed = sorted({*begun, *(lost if among is None else lost & {each.name for each in among})})
    if not failed:
        return None
    return (
        f"left as it is, for {failed[0]} failed; mend that, or leave it out by --exclude"
        f" {failed[0]}, then run this again"
    )


def etcd_troubles() -> list[str]:
    """What is wrong with etcd, as this host's member sees it."""
    said = host.get_fact(EtcdFact)
    if said is None:
        return ["etcd cannot be asked; mend the error above, then run again"]
    return upgrade.etcd_troubles(*said)


def drained(
    cluster: Cluster, work: Callable[[], Generator[PyinfraCommand]], version: str | None = None
) -> Generator[PyinfraCommand]:
    """Do `work` while this host's node is drained, then wait until it is well (with kubelet
    `version`, if one is given), and let it back."""
    control_plane = cluster.node(host.name).control_plane
    if control_plane and state.is_executing and (troubles := etcd_troubles()):
        # Two of three members are enough, and one of two is not.
        yield from refuse(troubles[0])
        return
    yield FunctionCommand(_drain, (cluster,), {})
    yield from work()
    yield FunctionCommand(_await_well, (cluster, version), {})
    yield from back(cluster)


def back(cluster: Cluster) -> Generator[PyinfraCommand]:
    """Let this host's node back, and wait until what it carries of Ceph has caught up."""
    yield FunctionCommand(let_back, (cluster,), {})
    yield FunctionCommand(_await_ceph, (cluster,), {})


def _drain(state: State, host: Host, cluster: Cluster) -> bool:
    api = cluster_api.connect(cluster)
    node = nodes.lookup(api, host.name)
    if node is None:
        host.log(f"{host.name} is not in the cluster; run deploys/site.py first")
        return False
    what = "kube-proxy and the doors to follow the API again"
    if why := wait(what, _SEEN_LIMIT, lambda: _unseen(api, host.name)):
        host.log(f"nothing is drained: {why}; mend that, then run this again")
        return False
    if not node.spec.unschedulable:
        # On one that is cordoned Ceph may be down already, and comes back with it only.
        if sentence := _ceph_lacks(cluster, host.name, back=False):
            host.log(f"nothing is drained: {sentence}")
            return False
        mark(api, host.name, "true")
    host.log(f"drain, {_DRAIN_LIMIT} s at most")
    why = drain.drain(host, api, host.name, _DRAIN_LIMIT)
    if why is None:
        return True
    host.log(f"{why}; nothing more is drained, and this node {given_back(api, host.name)}")
    return False


def _unseen(api: Api, name: str) -> str | None:
    """Why requests would go on to the pods of this node after they went, or None."""
    if drain.empty(api, name):
        return None
    if lacking := replacing(api, "kube-proxy", "kube-system"):
        return f"kube-proxy: {lacking}"
    label = "component=kube-apiserver"
    servers = api.core.list_namespaced_pod("kube-system", label_selector=label).items
    return drain.unwatched(servers, cluster_api.clock(api))


def let_back(state: State, host: Host, cluster: Cluster) -> bool:
    """Uncordon this host's node, if we cordoned it."""
    if uncordoned(cluster_api.connect(cluster), host.name):
        host.log("uncordoned")
    return True


def uncordoned(api: Api, name: str) -> bool:
    """Whether we had cordoned a node, which takes pods again then."""
    if not marked(api, name):
        return False
    drain.uncordon(api, name)
    mark(api, name, None)
    return True


def given_back(api: Api, name: str) -> str:
    """Let a node back that was not emptied, and say how it is then."""
    return "takes pods as before" if uncordoned(api, name) else "stays cordoned, as it was"


def _ceph_lacks(cluster: Cluster, node: str, *, back: bool) -> str | None:
    return ceph.awaited(lambda: cluster_api.connect(cluster), node, back=back)


def _await_ceph(state: State, host: Host, cluster: Cluster) -> bool:
    node = nodes.lookup(cluster_api.connect(cluster), host.name)
    if node is None or node.spec.unschedulable:
        return True  # A user keeps it cordoned, and its part of Ceph away.
    sentence = _ceph_lacks(cluster, host.name, back=True)
    if sentence:
        host.log(sentence)
    return sentence is None


def marked(api: Api, name: str) -> bool:
    """Whether a node was cordoned by us."""
    node = nodes.lookup(api, name)
    return node is not None and has_mark(node)


def has_mark(node: k8s.V1Node) -> bool:
    """Whether a node, as the API has it, was cordoned by us."""
    return MARK in (node.metadata.annotations or {})


def mark(api: Api, name: str, value: str | None) -> None:
    api.core.patch_node(name, {"metadata": {"annotations": {MARK: value}}})


def renewed(api: Api, name: str) -> datetime | None:
    """When the kubelet of a node last said that it lives."""
    leases = cluster_api.coordination(api)
    lease = cluster_api.found(leases.read_namespaced_lease, name, "kube-node-lease")
    return lease.spec.renew_time if lease else None


def _await_well(state: State, host: Host, cluster: Cluster, version: str | None) -> bool:
    """Wait until the node is Ready, and the pods that belong to it are, by a word of its kubelet's
    from after what was done to it, its reboot say; with kubelet `version`, if one is given."""
    before: list[datetime | None] = []

    def lacking() -> str | None:
        # Asked each time: it may lose its power while it is waited for.
        boot = remote.boot_id(host)
        api = cluster_api.connect(cluster)
        node = nodes.lookup(api, host.name)
        said = renewed(api, host.name)
        if not before:
            before.append(said)
        if node is None or not nodes.is_ready(node):
            return nodes.why_not_ready(node) if node else "its node is gone"
        if said == before[0] or boot not in (None, node.status.node_info.boot_id):
            return "its kubelet is silent"
        runs = node.status.node_info.kubelet_version.removeprefix("v")
        if version not in (None, runs):
            return f"its kubelet is {runs} yet"
        here = f"spec.nodeName={host.name}"
        return upgrade.starting(
            api.core.list_namespaced_pod("kube-system", field_selector=here).items
        )

    host.log(f"wait until its node is Ready, {READY_LIMIT} s at most")
    why = wait("its node", READY_LIMIT, lacking)
    if why is None:
        return True
    host.log(
        f"not well after {READY_LIMIT} s: {why}; look at `journalctl -u kubelet` on it and run this"
        " again, which lets it back too"
    )
    return False
