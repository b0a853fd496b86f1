"""Hosts beside each other: what each has to reach of the others, and what is wrong between them."""

import statistics
from collections.abc import Mapping, Sequence

from barekube.preflight import Checkup
from barekube.traces import even_number

_CLOCK_LIMIT = 30.0


def targets(
    own: bool, others: Mapping[str, tuple[bool, bool]], api_port: int, weave: bool, packet: int
) -> list[str]:
    """The ports that a host has to reach, as facts/preflight.py wants them.

    `own`: it is a node already; `others` maps an address to (is a control plane, is a node).
    Between two nodes nothing is asked: network.py and verify.py look at how those are connected.
    A datagram is answered only where nothing listens, so a node is asked at port 6785 only.
    `weave`: the pod network is Weave's; `packet`: the bytes of its largest one.
    """
    result = []
    for address, (master, member) in others.items():
        if own and member:
            continue
        ports = [10250, *([api_port, 2379, 2380] if master else []), *([6783] if weave else [])]
        result += [f"tcp:{address}:{port}" for port in ports]
        if weave and not member:
            result += [f"udp:{address}:6783", f"udp:{address}:6784"]
        result.append(f"mtu:{address}:6785:{packet}")
    return result


def unreached(silent: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """What a host does not reach, a sentence a peer; `names` maps an address to its host."""
    result = []
    for address, name in names.items():
        found = [each.split(":") for each in silent if each.split(":")[1] == address]
        ports = [f"{kind.upper()} {port}" for kind, _, port, *_ in found if kind != "mtu"]
        if ports:
            result.append(
                f"it does not reach {name} ({address}) on {', '.join(ports)}; open that between the"
                f" inventory's hosts, or run deploys/host.py on {name} first if it has a firewall"
            )
        elif found:
            result.append(
                f"packets of {found[0][3]} bytes do not pass from it to {name} ({address}); set the"
                " MTU of every card and switch between them to 1500, or lower WEAVE_MTU"
            )
    return result


def between(hosts: Mapping[str, Checkup], masters: Sequence[str]) -> dict[str, list[str]]:
    """What is wrong between hosts: {name: findings}. `masters` are all control planes there are,
    in the order of the inventory; those that did not answer are not in `hosts`."""
    result: dict[str, list[str]] = {name: [] for name in hosts}
    seen: dict[str, str] = {}
    for name, host in hosts.items():
        twin = seen.setdefault(host.machine_id, name)
        if host.machine_id and twin != name:
            result[name].append(
                f"it has the machine-id of {twin}; remove /etc/machine-id on it and run"
                " systemd-machine-id-setup"
            )
    middle = statistics.median(host.offset for host in hosts.values()) if hosts else 0.0
    for name, host in hosts.items():
        off = host.offset - middle
        if abs(off) > _CLOCK_LIMIT:
            way = "ahead of" if off > 0 else "behind"
            result[name].append(f"its clock is {abs(off):.0f} s {way} the others'; set it")
    for name, sentence in _leftovers(hosts, masters).items():
        result[name].append(sentence)
    new = all(name in hosts for name in masters) and not any(host.ca for host in hosts.values())
    even = even_number(len(masters)) if new else None
    if even:
        result[masters[0]].append(even)
    return result


def _leftovers(hosts: Mapping[str, Checkup], masters: Sequence[str]) -> dict[str, str]:
    answered = [hosts[name] for name in masters if name in hosts]
    own = next((host.ca for host in answered if host.ca), "")
    if not own and len(answered) < len(masters):
        return {}
    return {
        name: "it is left over from another cluster (its /etc/kubernetes/pki/ca.crt is not this"
        " cluster's); run `kubeadm reset -f` on it and remove /etc/kubernetes"
        for name, host in hosts.items()
        if host.ca and host.ca != own
    }
