"""The firewall of a host: one nftables table of our own, and how it is changed without risk.

Nobody else's table is looked at or touched, and `flush ruleset` is never said: kube-proxy's and
the pod network's rules are in the same kernel.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence

from barekube.cluster import Cluster
from barekube.text import TextFile

TABLE = "inet barekube"
FILE = "/etc/barekube/firewall.nft"
UNIT = "barekube-firewall.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
# In memory. What was there before a change that nobody has confirmed yet.
UNDO = "/run/barekube/firewall-undo.nft"
_NEW = "/run/barekube/firewall.nft"
_TIMER = "barekube-firewall-undo"
SECONDS = 30

# Of this table alone, in one transaction: `delete` fails where there is none, hence the first line.
_EMPTY = f"table {TABLE}\ndelete table {TABLE}\n"

_UNIT_TEXT = f"""\
# Written by barekube, deploys/host.py.
[Unit]
Description=Admit only what nodes speak among themselves
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f {FILE}

[Install]
WantedBy=sysinit.target
"""


def rules(cluster: Cluster, ssh_port: int, *, edge: bool, trusted: Sequence[str]) -> str:
    """What `nft -f` reads: the table made anew, in one transaction.

    Priority -150 is after conntrack (-200), which knows what belongs to a connection, and before
    destinations are translated (-100): a NodePort is met under its own number. An address alone
    does not prove a sender; that nobody outside can send under an inner one is the router's to
    see to, since a way back by another card is no sign of forgery here.
    """
    # Only what is for this host itself: as it routes, others could reach pods and Services by it.
    doors = sorted({ssh_port, *((80, 443) if edge else ())})
    networks = ipaddress.collapse_addresses(map(ipaddress.IPv4Network, trusted))
    lines = [
        "# An answer, and the host to itself.",
        "ct state established,related accept",
        'iifname "lo" accept',
        "# The hosts of the inventory, and pods.",
        f"ip saddr {_set(dict.fromkeys(node.address for node in cluster.nodes))} accept",
        f"ip saddr {cluster.pod_network} accept",
        *(["# firewall_trusted."] if trusted else []),
        *([f"ip saddr {_set(map(str, networks))} accept"] if trusted else []),
        "# IPv6 finds its neighbours by ICMP, and DHCP answers by broadcast.",
        "meta l4proto ipv6-icmp accept",
        "udp sport 67 udp dport 68 accept",
        "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
        "# Of anybody else, what is for this host and no other: ping, SSH, and the doors of edge.",
        "ct state invalid drop",
        "fib daddr type local meta l4proto icmp accept",
        f"fib daddr type local tcp dport {_set(map(str, doors))} accept",
    ]
    return (
        f"# Written by barekube, deploys/host.py.\n{_EMPTY}table {TABLE} {{\n"
        "  chain prerouting {\n"
        "    type filter hook prerouting priority -150; policy drop;\n"
        + "".join(f"    {line}\n" for line in lines)
        + "  }\n}\n"
    )


def pods(text: str) -> str:
    """The range of pods that a text of rules() admits, or nothing."""
    found = re.search(r"^ *ip saddr ([0-9./]+) accept$", text, re.MULTILINE)
    return found[1] if found else ""


def files(text: str) -> list[TextFile]:
    """The table on disk, and the unit that loads it before the network is there."""
    return [TextFile(FILE, text), TextFile(UNIT_FILE, _UNIT_TEXT)]


def _set(elements: Iterable[str]) -> str:
    return f"{{ {', '.join(elements)} }}"


# Loads the table on stdin for SECONDS; a change that was not confirmed is still undone to what was
# before it.
LOAD = (
    f"umask 077; mkdir -p /run/barekube; cat >{_NEW}; systemctl stop {_TIMER}.timer 2>/dev/null"
    f" || true; if [ ! -e {UNDO} ]; then {{ printf 'table {TABLE}\\ndelete table {TABLE}\\n';"
    f" nft -s list table {TABLE} 2>/dev/null || true; }} >{UNDO}.new; mv {UNDO}.new {UNDO}; fi;"
    f" systemd-run -q --collect --unit={_TIMER} --on-active={SECONDS}"
    f" --timer-property=AccuracySec=1s sh -c 'mv {UNDO} {UNDO}.done && nft -f {UNDO}.done';"
    f" nft -f {_NEW}"
)
# Whoever moves UNDO away has decided: the timer, or this.
KEEP = (
    f"mv {UNDO} {UNDO}.done || {{ echo 'the rules were taken back meanwhile; run again' >&2;"
    f" exit 1; }}; systemctl stop {_TIMER}.timer 2>/dev/null || true"
)
START = f"systemctl daemon-reload; systemctl -q enable {UNIT}; systemctl restart {UNIT}"
REMOVE = (
    f"rm -f {UNDO}; systemctl -q disable {UNIT} 2>/dev/null || true; rm -f {FILE} {UNIT_FILE};"
    f" systemctl daemon-reload; printf 'table {TABLE}\\ndelete table {TABLE}\\n' | nft -f -"
)
