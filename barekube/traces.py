"""What kubeadm has left on a host, and what the next step of a control plane is.

Decided from files and the API, never from a stamp or one file: kubeadm writes its files without
syncing them, so that after a power cut some can be there, empty.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from barekube.versions import SERVERS

KUBELET = "kubelet.service"
CA = "/etc/kubernetes/pki/ca.crt"
KUBELET_CONF = "/etc/kubernetes/kubelet.conf"
SERVING = "/var/lib/kubelet/pki/kubelet-server-current.pem"
ETCD = "/var/lib/etcd/member"
MACHINE_ID = "/etc/machine-id"
KUBELET_FLAGS = "/var/lib/kubelet/kubeadm-flags.env"
NODE_FILES = (
    CA,
    KUBELET_CONF,
    "/var/lib/kubelet/config.yaml",
    KUBELET_FLAGS,
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
)
KEYS = tuple(
    f"/etc/kubernetes/pki/{name}"
    for name in [
        "ca.crt",
        "ca.key",
        "apiserver.crt",
        "apiserver.key",
        "apiserver-kubelet-client.crt",
        "apiserver-kubelet-client.key",
        "front-proxy-ca.crt",
        "front-proxy-ca.key",
        "front-proxy-client.crt",
        "front-proxy-client.key",
        "sa.key",
        "sa.pub",
        "etcd/ca.crt",
        "etcd/ca.key",
        "etcd/server.crt",
        "etcd/server.key",
        "etcd/peer.crt",
        "etcd/peer.key",
        "etcd/healthcheck-client.crt",
        "etcd/healthcheck-client.key",
        "apiserver-etcd-client.crt",
        "apiserver-etcd-client.key",
    ]
)
CONFS = tuple(
    f"/etc/kubernetes/{name}.conf" for name in ("admin", "controller-manager", "scheduler")
)
MANIFESTS = tuple(f"/etc/kubernetes/manifests/{name}.yaml" for name in ("etcd", *SERVERS))
MASTER_FILES = (*KEYS, *CONFS, *MANIFESTS, *NODE_FILES[1:])


class FoundFile(Protocol):
    """A file that was looked at."""

    @property
    def size(self) -> int: ...


class FoundUnit(Protocol):
    """A unit that was asked for."""

    @property
    def active(self) -> str: ...


@dataclass(frozen=True)
class Traces:
    """What is on one host: the paths that hold something, the empty ones, and its kubelet."""

    there: frozenset[str]
    empty: frozenset[str]
    kubelet_runs: bool

    def lacks(self, paths: tuple[str, ...]) -> list[str]:
        return [path for path in paths if path not in self.there]

    @property
    def any_master(self) -> bool:
        """Whether a control plane was begun here (its CA or its etcd)."""
        return bool({CA, ETCD} & (self.there | self.empty))

    @property
    def any_control_plane_left(self) -> bool:
        """Whether there is what only a control plane has."""
        return bool({ETCD, *MANIFESTS} & (self.there | self.empty))

    @property
    def worker(self) -> bool:
        """Whether it joined as a worker: a control plane has its keys before it is a node."""
        keys = set(KEYS) - {CA}
        return KUBELET_CONF in self.there and not keys & (self.there | self.empty)

    @property
    def any_node(self) -> bool:
        """Whether a join or an init was begun here."""
        return bool(set(NODE_FILES) & (self.there | self.empty))


def traces(files: Mapping[str, FoundFile], units: Mapping[str, FoundUnit]) -> Traces:
    """From what the batch fact found."""
    unit = units.get(KUBELET)
    return Traces(
        frozenset(path for path, file in files.items() if file.size),
        frozenset(path for path, file in files.items() if not file.size),
        unit is not None and unit.active == "active",
    )


class Step(Enum):
    """What a control plane needs next."""

    NOTHING = "nothing"
    INIT = "kubeadm init: a new cluster"
    FINISH_INIT = "kubeadm init: finish the one that was cut off"
    START = "start kubelet and wait for the API"
    JOIN = "kubeadm join"
    REJOIN = "kubeadm join: again, for one was cut off"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Decision:
    """The next step and, for a refusal, the sentence."""

    step: Step
    sentence: str = ""


def decide(
    name: str,
    mine: Traces,
    others: Mapping[str, Traces | None],
    members: list[str],
    api: str | None,
    registered: bool,
    lost: Sequence[str] = (),
) -> Decision:
    """The next step of control plane `name`.

    `others` are the other control planes of the inventory, None for one that did not answer;
    `members` the hosts that have a kubelet.conf though they are no control plane; `api` is None if
    the API answers, else a phrase that says why not; `registered`: the API has this node as a
    control plane; `lost`: what else init leaves in the API, and is not there. One cluster, never
    two: nothing is initialised unless every control plane answered and nobody belongs to a cluster
    already. A join is undone and done again only where the node never became a control plane.
    """
    lacking = mine.lacks(MASTER_FILES)
    if api is None:
        if registered and not lacking and not lost:
            return Decision(Step.NOTHING if mine.kubelet_runs else Step.START)
        if not mine.any_master:
            return Decision(Step.JOIN)
        if all(known is not None and not known.any_master for known in others.values()):
            return Decision(Step.FINISH_INIT)
        if lost:
            return Decision(
                Step.REFUSE,
                f"the cluster lacks {', '.join(lost)}, which its init made; restore that (kubeadm"
                " init phase addon, or upload-config), then run this again",
            )
        if registered:
            return Decision(
                Step.REFUSE,
                f"{name} was a whole control plane and lacks {', '.join(lacking[:3])}; restore that"
                f" or run deploys/remove_node.py --data node={name}, then run this again",
            )
        if mine.worker:
            return Decision(
                Step.REFUSE,
                f"{name} was a worker until now; run deploys/remove_node.py --data node={name},"
                " then run this again",
            )
        return Decision(Step.REJOIN)
    silent = sorted(each for each, known in others.items() if known is None)
    begun = sorted(each for each, known in others.items() if known and known.any_master)
    if not mine.any_master:
        return _new(name, silent, begun, members, api, len(others) + 1)
    if not lacking and ETCD in mine.there:
        return Decision(Step.START)
    if silent or begun:
        return Decision(
            Step.REFUSE,
            f"{name} lacks {', '.join(lacking[:3])} and no API answers ({api}); bring"
            f" {', '.join(silent + begun)} up first, then run this again",
        )
    return Decision(Step.FINISH_INIT)


def even_number(count: int) -> str | None:
    """A sentence for a number of control planes that no new cluster should have, or None."""
    if count % 2:
        return None
    return (
        f"a new cluster of {count} control planes survives the loss of no more of them than one of"
        f" {count - 1}; name {count - 1} or {count + 1} in the inventory"
    )


def _new(
    name: str, silent: list[str], begun: list[str], members: list[str], api: str, count: int
) -> Decision:
    if silent:
        return Decision(
            Step.REFUSE,
            f"no cluster is created on {name} while {', '.join(silent)} cannot be asked for one;"
            f" bring {', '.join(silent)} up or take it out of the inventory, then run this again",
        )
    if begun:
        return Decision(
            Step.REFUSE,
            f"{', '.join(begun)} has a cluster, whose API does not answer ({api}); mend it, then"
            " run this again",
        )
    if members:
        return Decision(
            Step.REFUSE,
            f"{', '.join(members)} belongs to a cluster already, and no control plane of the"
            f" inventory has it; reset {', '.join(members)} or correct the inventory, then run"
            " this again",
        )
    even = even_number(count)
    return Decision(Step.REFUSE, even) if even else Decision(Step.INIT)


def of_another_cluster(name: str) -> str:
    """The sentence for a host that trusts another cluster's CA."""
    return (
        f"{name} belongs to another cluster ({CA} is not this cluster's); run `kubeadm reset -f`"
        " and delete /etc/kubernetes on it if that is not wanted, then run this again"
    )


def decide_worker(
    name: str, mine: Traces, ca_differs: bool, registered: bool, same_machine: bool
) -> Decision:
    """The next step of worker `name`, with an API that answers.

    `ca_differs`: the host trusts another cluster's CA; `registered`: the API has a node of this
    name; `same_machine`: with this host's machine-id.
    """
    if ca_differs:
        return Decision(Step.REFUSE, of_another_cluster(name))
    if registered and not same_machine:
        return Decision(
            Step.REFUSE,
            f"the cluster has a node {name} that is another machine; if this one replaces it, run"
            f" deploys/remove_node.py --data node={name}, then this again",
        )
    if mine.any_control_plane_left:
        return Decision(
            Step.REFUSE,
            f"{name} has a control plane's files and is a worker in the inventory; run `kubeadm"
            " reset -f` on it, then run this again",
        )
    if registered and not mine.lacks(NODE_FILES):
        return Decision(Step.NOTHING if mine.kubelet_runs else Step.START)
    return Decision(Step.JOIN)


def node_ip(flags: str) -> str:
    """The address that kubeadm gave a kubelet, in the text of KUBELET_FLAGS; or nothing."""
    found = re.search(r"--node-ip=([^\s\"]+)", flags)
    return found[1] if found else ""


def other_address(name: str, known: str, wanted: str) -> str | None:
    """A sentence if a node is known to its cluster (as `known`, if that is known) by another
    address than the inventory's."""
    if known in ("", wanted):
        return None
    return (
        f"the cluster knows {name} by its address {known}, which cannot change while it is a node;"
        f" set `address` back, from {wanted}, or take it out with deploys/remove_node.py --data"
        f" node={name} and run deploys/site.py then"
    )
