"""etcd, asked and told through the container of a control plane that runs it."""

import time
from collections.abc import Callable, Sequence

from pyinfra.api import Host, State

from barekube import etcd, remote
from barekube.api import Api
from barekube.cluster import Node
from barekube.etcd import Member
from barekube.operations.order import wait

_LIMIT = 300
_PAUSES = (0, 5, 5)
_PKI = "/etc/kubernetes/pki/etcd"
_CTL_AT = (
    f"{etcd.IN_CONTAINER} etcdctl --cacert {_PKI}/ca.crt --cert {_PKI}/healthcheck-client.crt"
    f" --key {_PKI}/healthcheck-client.key --endpoints"
)
_CTL = f"{_CTL_AT} https://127.0.0.1:2379"


def members(other: Host) -> list[etcd.Member] | None:
    """All members, as the one on `other` sees them; None: not known."""
    # The second command fails if one of them is not well, and says so in what it prints.
    lines = remote.lines(
        other,
        f"{_CTL} member list -w simple; {_CTL} endpoint health --cluster -w json 2>/dev/null"
        " || true",
    )
    try:
        return None if lines is None else etcd.members(lines)
    except ValueError:
        return None


def asked(other: Host) -> list[etcd.Member] | None:
    """members(), asked three times: an etcd that is busy, or its container's runtime, can take
    longer than they are given."""
    for pause in _PAUSES:
        time.sleep(pause)
        if (known := members(other)) is not None:
            return known
    return None


def awaited(other: Host) -> list[etcd.Member] | None:
    """members(), waited for: after a power cut etcd has no majority before the host is back that
    had it. None: not known after five minutes."""
    return _awaited(other, lambda known: None)[0]


def _awaited(
    other: Host, lacks: Callable[[list[Member]], str | None]
) -> tuple[list[Member] | None, str | None]:
    """members() once nothing `lacks` of them, or as they were last, and what lacked."""
    known: list[Member] | None = None

    def lacking() -> str | None:
        nonlocal known
        known = members(other)
        return lacks(known) if known else f"{other.name} cannot ask it"

    why = wait("etcd", _LIMIT, lacking)
    return known, why


def make_room(state: State, host: Host, api: Api, node: Node, begun: bool) -> bool:
    """Wait until every other member is well, then remove the one that an earlier join of `node`
    left behind; False, with a sentence logged, if that is not to be.

    `begun`: this host has what a join left. Without it a member with a vote is another machine's.
    """
    known, why = _awaited(api.host, lambda known: etcd.lacking(known, node.address))
    if why is not None:
        host.log(
            f"{node.name} does not join, for etcd is not well: {why} after {_LIMIT} s; bring that"
            " control plane up, or finish its join first, then run this again"
        )
        return False
    own = etcd.member_of(known or [], node.address)
    if own is None:
        return True
    if own.name and not own.learner and not begun:
        host.log(
            f"etcd has a member {own.name} that was another machine; run deploys/remove_node.py"
            f" --data node={own.name}, then run this again"
        )
        return False
    host.log(f"etcd: remove the member {own.identity} that a join of {node.name} left behind")
    return removed(host, api, own.identity)


def led_by_another(api: Api, leaving: Member, known: Sequence[Member]) -> None:
    """See that `leaving` does not lead: a leader that is removed leaves its followers to wait for
    an election, for a second or two, and meanwhile no control plane answers.

    etcdctl refuses where it does not lead; that, and a member that is dead, has had its election.
    """
    heir = etcd.heir(known, leaving)
    if leaving.healthy and heir is not None:
        remote.lines(api.host, f"{_CTL_AT} {leaving.client} move-leader {heir.identity}")


def removed(host: Host, api: Api, identity: str) -> bool:
    """Remove a member; False, with a sentence logged, if that cannot be done."""
    if remote.lines(api.host, f"{_CTL} member remove {identity}") is not None:
        return True
    host.log(f"{api.host.name} cannot remove it; look at `crictl ps -a` there, then run this again")
    return False
