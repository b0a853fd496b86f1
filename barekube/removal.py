"""Whether a node can go, and what would be lost with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from barekube.etcd import Member, member_of


def unknown(name: object, nodes: Sequence[str], hosts: Sequence[str]) -> str | None:
    """A sentence if `name` is neither a node nor a host, with what can be named."""
    there = f"the cluster has {', '.join(nodes)}"
    if not name:
        return f"name the node: --data node=NAME ({there})"
    if name in nodes or name in hosts:
        return None
    return f"{name} is neither a node nor a host of the inventory; {there}"


def member(members: Sequence[Member], name: str, address: str | None) -> Member | None:
    """The etcd member of control plane `name`; one that a cut-off join left has no name, and only
    the `address` of its host, if the inventory still has that."""
    named = next((each for each in members if each.name == name), None)
    return named or (member_of(members, address) if address else None)


def renamed(members: Sequence[Member], name: str, address: str | None) -> str | None:
    """A sentence if the etcd member at the address of host `name` is a control plane's of another
    name, which is to leave by that."""
    there = member_of(members, address) if address else None
    if there is None or there.name in ("", name):
        return None
    return (
        f"etcd's member at {address} is {there.name}, which {name} would take with it; run"
        f" deploys/remove_node.py --data node={there.name} first"
    )


def loss(members: Sequence[Member], name: str) -> str | None:
    """What would be lost with the etcd member of control plane `name`; None: nothing.

    etcd goes on while more than half of its members answer.
    """
    rest = [each for each in members if each.name != name]
    if len(rest) == len(members):
        return None
    if not rest:
        return last(name)
    well = [each.name for each in rest if each.healthy and not each.learner]
    if 2 * len(well) > len(rest):
        return None
    ill = ", ".join(each.name or each.peer for each in rest if each.name not in well)
    return (
        f"without {name} etcd would lose its majority, and with it the API, for {ill} does not"
        " answer; bring that control plane up, then run this again"
    )


def last(name: str) -> str:
    """The sentence for the only control plane."""
    return (
        f"{name} is the last control plane: the whole cluster would be lost with its etcd; run"
        " deploys/reset.py on all hosts if that is wanted"
    )


def left_out(name: str) -> str:
    """The sentence for a host that --limit or --exclude leaves out."""
    return (
        f"{name} is left out of this run, and would not be reset; run this without --limit and"
        " --exclude, also if it never comes back"
    )


def next_step(name: str, *, known: bool) -> str:
    """What there is to do once a node is out of the cluster; `known`: as a host of the inventory,
    which was reset if it answers."""
    if known:
        return (
            f"{name} is out of the cluster; take it out of the inventory and run deploys/site.py on"
            " the others, or run that to have it, or a machine in its place, join again"
        )
    return (
        f"{name} is out of the cluster, and no host of the inventory, so that it was not reset:"
        " erase it before it starts again, or put it into the inventory and run this once more"
    )


def carries_data(name: str, carried: Sequence[str]) -> str | None:
    """A sentence if the node carries Ceph's OSDs, whose copies would be lost.

    `carried` is what of Ceph is bound to it, whether it runs or not.
    """
    osds = [each for each in carried if each.startswith("osd.")]
    if not osds:
        return None
    return (
        f"{name} carries Ceph's {', '.join(osds)}: their copies of the data would be lost; take"
        " these OSDs out of Ceph as the README says (deploys/replace_disk.py), then run this again"
    )


def kept_addresses(report: Mapping[str, Any] | None, name: str) -> bool:
    """Whether Weave still keeps addresses for the peer of a node that is gone.

    Its own daemon gives them back to the others when it sees a node deleted.
    """
    entries = ((report or {}).get("IPAM") or {}).get("Entries") or []
    return any(each.get("Nickname") == name for each in entries)
