"""A host back to what it was before barekube."""

from collections.abc import Generator

from pyinfra import host, state
from pyinfra.api import operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import nodes, removal, reset, settings
from barekube.api import API_ERRORS, Api
from barekube.cluster import Cluster
from barekube.facts.machine import Machine
from barekube.operations import etcd
from barekube.operations.order import (
    changing,
    exclusively,
    persistently,
    refuse,
    refuse_what_is_asked,
    unconfirmed,
)

_MOUNTS = "/proc/mounts"
_judged: dict[str, str | None] = {}
# The hosts that would hang if Ceph went before them.
_in_use: dict[str, str] = {}


@operation()
def judged(cluster: Cluster) -> Generator[PyinfraCommand]:
    """Whether this host may be reset is known, before the API of its cluster goes, and its Ceph.
    One round trip."""
    running = {each.name for each in settings.hosts() if each in state.active_hosts}
    _judged[host.name] = _refusal(cluster, running)
    looked = host.get_fact(Machine, files=[_MOUNTS])
    mounts = looked.files.get(_MOUNTS) if looked else None
    if mounts is not None and (volumes := reset.ceph_volumes(mounts.text())):
        _in_use[host.name] = reset.in_use(host.name, volumes)
    host.noop("judged")
    return
    yield


def _refusal(cluster: Cluster, running: set[str]) -> str | None:
    node = cluster.node(host.name)
    registered = None
    if reset.staying(cluster, running):
        try:
            # An API server that is just started anew is no reason to take the cluster for gone.
            api, registered = persistently(_registered, cluster)
        except API_ERRORS:
            return reset.refusal(node, cluster, running, None)
        if not registered and node.control_plane:
            # It votes before its node is there.
            known = etcd.asked(api.host)
            if known is None:
                return (
                    f"{api.host.name} cannot ask etcd whether {node.name} is a member of it; mend"
                    " that, then run this again"
                )
            registered = removal.member(known, node.name, node.address) is not None
    return reset.refusal(node, cluster, running, registered)


def _registered(cluster: Cluster) -> tuple[Api, bool]:
    api = cluster_api.connect(cluster)
    return api, nodes.lookup(api, host.name) is not None


@operation()
def done(cluster: Cluster, confirmed: bool) -> Generator[PyinfraCommand]:
    """Nothing of barekube, Kubernetes, containerd and the pods' network is on this host.

    Without `confirmed` it says what would go, and fails. One round trip where nothing is left.
    """
    yield from exclusively(steps(cluster, confirmed=confirmed))


def steps(cluster: Cluster, *, confirmed: bool) -> Generator[PyinfraCommand]:
    """The reset of this host, after judged()."""
    if wrong := _judged.get(host.name):
        # Whoever named a few of the hosts asked for what no mending makes right.
        yield from (refuse_what_is_asked if settings.left_out() else refuse)(wrong)
        return
    looked = host.get_fact(Machine, secret=reset.LOOKED_AT, packages=reset.PACKAGES)
    if looked is None:
        yield from refuse("it cannot be looked at; mend the error above, then run again")
        return
    packages = [
        name
        for name in reset.PACKAGES
        if name in looked.packages and looked.packages[name].status != "not-installed"
    ]
    there = reset.found([path for path in reset.LOOKED_AT if path in looked.files], packages)
    if not there:
        host.noop("nothing of barekube or Kubernetes is on it")
        return
    if _in_use:
        first = next(iter(_in_use))
        yield from refuse(_in_use.get(host.name) or f"nothing is reset, for {_in_use[first]}")
        return
    if not confirmed:
        for phrase in there:
            host.log(f"would go: {phrase}")
        yield from unconfirmed(cluster, "nothing is reset")
        return
    for phrase in there:
        host.log(f"goes: {phrase}")
    host.log("Debian's own packages stay; kernel modules and parameters stay until the next boot")
    yield changing(reset.script(cluster.pod_network))
