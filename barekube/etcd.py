"""etcd's members as etcdctl lists them: who of them is well, and which one a join left behind."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

# Begins a command in etcd's own container, which has etcdctl in every image of upstream's. crictl
# gives containerd 2 s by itself, which a busy one takes.
IN_CONTAINER = (
    "crictl --timeout 10s exec $(crictl --timeout 10s ps -q --state running --name '^etcd$'"
    " | head -n 1)"
)


@dataclass(frozen=True)
class Member:
    """One member. `name` is empty until it has started; a learner has no vote yet."""

    identity: str
    name: str
    peer: str
    client: str
    learner: bool
    healthy: bool


def peer_url(address: str) -> str:
    """The address by which kubeadm announces the member of a control plane."""
    return f"https://{address}:2380"


def members(lines: Sequence[str]) -> list[Member]:
    """From `member list -w simple`, then `endpoint health --cluster -w json`.

    >>> members(["8e9e, started, cp-1, https://a:2380, https://a:2379, false",
    ...          '[{"endpoint":"https://a:2379","health":true}]'])[0].healthy
    True

    Raises ValueError for anything else.
    """
    listed = [line.split(", ") for line in lines if not line.startswith("[")]
    answers = [each for line in lines if line.startswith("[") for each in json.loads(line)]
    well = {each["endpoint"] for each in answers if each["health"]}
    if not listed or not answers or any(len(fields) != 6 for fields in listed):
        raise ValueError("etcdctl says something else than its members")
    return [
        Member(identity, name, peer, client, learner == "true", client in well)
        for identity, _, name, peer, client, learner in listed
    ]


def member_of(known: Sequence[Member], address: str) -> Member | None:
    """The member of the control plane at `address`."""
    return next((each for each in known if each.peer == peer_url(address)), None)


def heir(known: Sequence[Member], leaving: Member) -> Member | None:
    """Who leads when `leaving` is gone: one that is well and has a vote."""
    others = (each for each in known if each != leaving)
    return next((each for each in others if each.healthy and not each.learner), None)


def lacking(known: Sequence[Member], address: str) -> str | None:
    """What keeps the control plane at `address` from joining: a member beside its own that is not
    well. None: nothing does."""
    for each in known:
        if each.peer == peer_url(address):
            continue
        if not each.name:
            return f"its member {each.peer} was added and never started"
        if each.learner:
            return f"its member {each.name} has not caught up yet"
        if not each.healthy:
            return f"its member {each.name} does not answer"
    return None
