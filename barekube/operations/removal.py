"""A node leaves the cluster: judged, drained, out of etcd, deleted; its addresses given back."""

from collections.abc import Generator

from pyinfra import host, state
from pyinfra.api import FunctionCommand, Host, State, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import drain, nodes, removal, settings
from barekube.api import Api, Trouble, found
from barekube.cluster import Cluster
from barekube.etcd import Member
from barekube.facts.weave import WeaveReport
from barekube.operations import ceph, etcd, roll
from barekube.operations.order import (
    acts_for_the_cluster,
    answering,
    failed_leader,
    leads,
    persistently,
    refuse,
    refuse_what_is_asked,
    wait,
)

_DRAIN_LIMIT, _RECLAIM_LIMIT = 600, 120


@operation()
def judged(cluster: Cluster, node: object) -> Generator[PyinfraCommand]:
    """Nothing that is needed would be lost with the node. No remote command, or two.

    The host that judges does the rest: where it fails, no other one goes on unjudged.
    """
    yield from answering(_judged(cluster, node))


def _judged(cluster: Cluster, node: object) -> Generator[PyinfraCommand]:
    if not leads():
        return
    if refusal := persistently(_refusal, cluster, node):
        yield from refusal
        return
    host.noop(f"nothing that is needed would be lost with {node}")


def _refusal(cluster: Cluster, node: object) -> Generator[StringCommand] | None:
    name = str(node or "")
    try:
        api = cluster_api.connect(cluster, besides=name)
    except Trouble as trouble:
        if [each.name for each in cluster.control_planes] == [name]:
            return refuse_what_is_asked(removal.last(name))
        return refuse(f"no other control plane answers ({trouble}); bring one up, then run again")
    there = [each.metadata.name for each in api.core.list_node().items]
    if wrong := removal.unknown(node, there, [each.name for each in cluster.nodes]):
        return refuse_what_is_asked(wrong)
    if name in settings.left_out():
        return refuse_what_is_asked(removal.left_out(name))
    members = etcd.asked(api.host)
    if members is None:
        return refuse(_unknown_members(api))
    address = _address(cluster, name)
    wrong = removal.renamed(members, name, address) or removal.loss(members, name)
    wrong = wrong or removal.carries_data(name, ceph.carried(api, name))
    return refuse(wrong) if wrong else None


def _address(cluster: Cluster, name: str) -> str | None:
    """By which the inventory has it, if it has it still."""
    return next((each.address for each in cluster.nodes if each.name == name), None)


@operation()
def allowed() -> Generator[StringCommand]:
    """The host that judged has not failed; if it has, all stop before the first change."""
    if failed := failed_leader():
        yield from refuse(f"nothing is changed here, for {failed} failed")
        return
    host.noop("nothing would be lost")


def _unknown_members(api: Api) -> str:
    return (
        f"{api.host.name} cannot ask etcd for its members, three times; look at its etcd there"
        " (`crictl ps -a`), then run this again"
    )


@operation()
def removed(cluster: Cluster, node: str) -> Generator[PyinfraCommand]:
    """The node is drained, out of etcd, and deleted; each step where it is still to be done."""
    yield from answering(_removed(cluster, node))


def _removed(cluster: Cluster, node: str) -> Generator[PyinfraCommand]:
    if not leads():
        return
    api = cluster_api.connect(cluster, besides=node)
    live = nodes.lookup(api, node)
    members = etcd.asked(api.host)
    if members is None:
        yield from refuse(_unknown_members(api))
        return
    member = removal.member(members, node, _address(cluster, node))
    if live is None and member is None:
        host.noop(f"{node} is no node of the cluster")
        return
    if live is not None and nodes.is_ready(live):
        there = api.core.list_node().items
        if not any(nodes.takes_pods(each) for each in there if each.metadata.name != node):
            host.log(f"warning: no other node takes pods now; those of {node} wait until one does")
        host.log(f"{node}: drain, {_DRAIN_LIMIT} s at most")
        yield FunctionCommand(_drain, (cluster, node), {})
    elif live is not None:
        host.log(f"{node} is not Ready: its pods start elsewhere once it is deleted")
    if member is not None:
        host.log(f"etcd: remove the member {member.identity} of {node}")
        yield FunctionCommand(_leave_etcd, (cluster, node, member, members), {})
    if live is not None:
        host.log(f"{node}: delete the node")
        yield FunctionCommand(_delete, (cluster, node), {})
        yield FunctionCommand(_await_ceph, (cluster, node), {})


def _ceph_lacks(cluster: Cluster, node: str, *, back: bool) -> str | None:
    return ceph.awaited(lambda: cluster_api.connect(cluster, besides=node), node, back=back)


def _drain(state: State, host: Host, cluster: Cluster, node: str) -> bool:
    if sentence := _ceph_lacks(cluster, node, back=False):
        host.log(f"{node} stays: {sentence}")
        return False
    api = cluster_api.connect(cluster, besides=node)
    live = nodes.lookup(api, node)
    if live is not None and not live.spec.unschedulable:
        roll.mark(api, node, "true")
    why = drain.drain(host, api, node, _DRAIN_LIMIT)
    if why is None:
        return True
    host.log(f"{why}; {node} stays, and {roll.given_back(api, node)}")
    return False


def _leave_etcd(
    state: State, host: Host, cluster: Cluster, node: str, member: Member, known: list[Member]
) -> bool:
    api = cluster_api.connect(cluster, besides=node)
    etcd.led_by_another(api, member, known)
    return etcd.removed(host, api, member.identity)


def _delete(state: State, host: Host, cluster: Cluster, node: str) -> bool:
    api: Api = cluster_api.connect(cluster, besides=node)
    found(api.core.delete_node, node)
    return True


def _await_ceph(state: State, host: Host, cluster: Cluster, node: str) -> bool:
    """Give Rook the time to start elsewhere a monitor that the node had."""
    if sentence := _ceph_lacks(cluster, node, back=True):
        host.log(f"warning: {sentence}")
    return True


@operation()
def left(cluster: Cluster, node: str) -> Generator[PyinfraCommand]:
    """This host, the node's, is no member of the cluster any more, so that it may be reset."""
    yield from answering(_left(cluster, node))


def _left(cluster: Cluster, node: str) -> Generator[PyinfraCommand]:
    if failed := failed_leader():
        yield from refuse(f"it is not reset, for {failed} failed; see above, then run this again")
        return
    if not state.is_executing:
        # Hosts are previewed side by side: who judges may not have come to it yet.
        if persistently(_refusal, cluster, node):
            yield from refuse("it is not reset, for it may not leave the cluster")
        host.noop("once it is out of the cluster")
        return
    if nodes.lookup(cluster_api.connect(cluster, besides=node), node) is not None:
        yield from refuse("it is in the cluster still, and is not reset; see above what kept it")
        return
    host.noop("it is out of the cluster")


@operation()
def reclaimed(cluster: Cluster, node: str) -> Generator[PyinfraCommand]:
    """Weave has given the node's addresses to the others, which its own daemon does when it sees
    the node deleted. One round trip, and more only while it has not."""
    if not state.is_executing or failed_leader() or not _looks(node):
        host.noop("its addresses are looked at by another host")
        return

    def lacking() -> str | None:
        if removal.kept_addresses(host.get_fact(WeaveReport), node):
            return f"Weave keeps addresses for {node}"
        return None

    if why := wait(f"the addresses of {node}", _RECLAIM_LIMIT, lacking):
        host.log(
            f"warning: {why} after {_RECLAIM_LIMIT} s; once it is off, run on one node only:"
            " kubectl -n kube-system exec ds/weave-net -c weave -- /home/weave/weave --local rmpeer"
            f" {node}"
        )
    host.noop(f"the addresses of {node} are the others'")
    return
    yield StringCommand("")


def _looks(node: str) -> bool:
    """Whether this is the first host of the run that stays in the cluster."""
    staying = [each for each in settings.hosts() if each in state.active_hosts]
    return next((each.name for each in staying if each.name != node), None) == host.name


@operation()
def told(node: str) -> Generator[PyinfraCommand]:
    """What there is to do next."""
    # Whoever failed at that has said why.
    if state.is_executing and acts_for_the_cluster() and failed_leader() is None:
        known = node in [each.name for each in settings.hosts()]
        host.log(removal.next_step(node, known=known))
    host.noop("told")
    return
    yield
