"""A host back to what it was before barekube."""

import contextlib
from collections.abc import Generator

from pyinfra import host, state
from pyinfra.api import operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import nodes, removal, reset, settings
from barekube.api import API_ERRORS
from barekube.cluster import Cluster
from barekube.facts.machine import Machine
from barekube.operations import etcd
from barekube.operations.order import changing, exclusively, persistently, refuse, unconfirmed

_judged: dict[str, str | None] = {}


@operation()
def judged(cluster: Cluster) -> Generator[PyinfraCommand]:
    """Whether this host may be reset is known, before the API of its cluster goes. No remote
    command."""
    node = cluster.node(host.name)
    running = {each.name for each in settings.hosts() if each in state.active_hosts}
    registered = None
    if reset.staying(cluster, running):
        # An API server that is just started anew is no reason to take the cluster for gone.
        with contextlib.suppress(*API_ERRORS):
            registered = persistently(_registered, cluster)
    _judged[host.name] = reset.refusal(node, cluster, running, registered)
    host.noop("judged")
    return
    yield


def _registered(cluster: Cluster) -> bool | None:
    """Whether the cluster counts on this host: as a node, or by a vote in etcd, which a control
    plane has before its node is there; None: that is not known."""
    api = cluster_api.connect(cluster)
    if nodes.lookup(api, host.name) is not None:
        return True
    own = cluster.node(host.name)
    if not own.control_plane:
        return False
    known = etcd.members(api.host)
    return None if known is None else removal.member(known, own.name, own.address) is not None


@operation()
def done(cluster: Cluster, confirmed: bool) -> Generator[PyinfraCommand]:
    """Nothing of barekube, Kubernetes, containerd and the pods' network is on this host.

    Without `confirmed` it says what would go, and fails. One round trip where nothing is left.
    """
    yield from exclusively(steps(cluster, confirmed=confirmed))


def steps(cluster: Cluster, *, confirmed: bool) -> Generator[PyinfraCommand]:
    """The reset of this host, after judged()."""
    if wrong := _judged.get(host.name):
        yield from refuse(wrong)
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
    if not confirmed:
        for phrase in there:
            host.log(f"would go: {phrase}")
        yield from unconfirmed(cluster, "nothing is reset")
        return
    for phrase in there:
        host.log(f"goes: {phrase}")
    host.log("Debian's own packages stay; kernel modules and parameters stay until the next boot")
    yield changing(reset.script(cluster.pod_network))
