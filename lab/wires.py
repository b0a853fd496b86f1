"""The lab's network: a namespace with a bridge, a wire a guest, and a wire to this machine.

This machine reaches the guests; they reach each other and the bundle on the gateway, and nothing
else: only connections that this machine began go through.
"""

import shutil
import subprocess
from typing import Final

from bundle.machine import run
from lab.hosts import GATEWAY, NETWORK, Host
from lab.paths import NAMESPACE

_NEAR, _FAR = "10.77.255.1", "10.77.255.2"
_WIRE: Final = "bk-lab"
_RULES: Final = f"""
table inet lab {{
  chain input {{
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iifname {{ "lo", "{_WIRE}1" }} accept
    ip protocol icmp accept
    iifname "br0" ip daddr {GATEWAY} tcp dport 443 accept
    iifname "br0" reject
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "{_WIRE}1" oifname "br0" accept
    # Where this machine has br_netfilter, what passes a bridge comes by here too.
    iifname "br0" oifname "br0" accept
    iifname "br1" oifname "br1" accept
    iifname "br0" reject
  }}
}}
"""


def inside(*command: str) -> list[str]:
    """The command, as it runs inside the lab's namespace."""
    return ["ip", "netns", "exec", NAMESPACE, *command]


def _ip(*words: str) -> None:
    run(["ip", *words], what=f"ip {' '.join(words)}")


def _in(*words: str) -> None:
    run(["ip", "-n", NAMESPACE, *words], what=f"ip {' '.join(words)}")


def whole() -> bool:
    """Whether all that `up` makes is there: the rules come last, so they stand for the rest."""
    rules = subprocess.run(inside("nft", "list", "table", "inet", "lab"), capture_output=True)
    wire = subprocess.run(["ip", "link", "show", f"{_WIRE}0"], capture_output=True)
    return rules.returncode == 0 and wire.returncode == 0


def up() -> None:
    """Make the namespace with its bridges and its wire, unless it is there. Raises BundleError.

    What a killed `up` left half made is made anew: without its rules the lab would be open.
    """
    if whole():
        return
    down()
    try:
        _ip("netns", "add", NAMESPACE)
        _in("link", "set", "lo", "up")
        for bridge in ("br0", "br1"):
            _in("link", "add", bridge, "type", "bridge")
            _in("link", "set", bridge, "up")
        _in("address", "add", f"{GATEWAY}/{NETWORK.prefixlen}", "dev", "br0")
        _ip("link", "add", f"{_WIRE}0", "type", "veth", "peer", f"{_WIRE}1", "netns", NAMESPACE)
        _ip("address", "add", f"{_NEAR}/30", "dev", f"{_WIRE}0")
        _ip("link", "set", f"{_WIRE}0", "up")
        _in("address", "add", f"{_FAR}/30", "dev", f"{_WIRE}1")
        _in("link", "set", f"{_WIRE}1", "up")
        _ip("route", "add", str(NETWORK), "via", _FAR)
        run(
            inside("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"), what="switching routing on"
        )
        run(inside("nft", "-f", "-"), what="closing the lab", stdin=_RULES.encode())
    except BaseException:
        down()
        raise


def plug(host: Host) -> list[tuple[str, str]]:
    """Make the wires of a host anew; return (the end that is its own, the card's address) of each.

    An emulated host opens a tap, User Mode Linux one end of a veth pair (with a tap it crashes).
    """
    cards = []
    bridges = ("br0", "br1") if host.outer else ("br0",)
    for number, (bridge, mac) in enumerate(zip(bridges, host.macs, strict=False)):
        guest, port = f"g{number}-{host.name}", f"p{number}-{host.name}"
        subprocess.run(["ip", "-n", NAMESPACE, "link", "delete", guest], capture_output=True)
        if host.emulated:
            _in("tuntap", "add", "dev", guest, "mode", "tap")
            port = guest
        else:
            _in("link", "add", guest, "type", "veth", "peer", "name", port)
        for end in {guest, port}:
            # A raw socket would see packets that a card was to finish.
            for feature in ("gro", "gso", "tso", "tx", "rx", "sg"):
                subprocess.run(inside("ethtool", "-K", end, feature, "off"), capture_output=True)
            _in("link", "set", end, "up")
        _in("link", "set", port, "master", bridge)
        cards.append((guest, mac))
    return cards


def down() -> None:
    """Remove what `up` made; the route and this machine's end go with the wire."""
    if shutil.which("ip") is None:
        return
    subprocess.run(["ip", "link", "delete", f"{_WIRE}0"], capture_output=True)
    subprocess.run(["ip", "netns", "delete", NAMESPACE], capture_output=True)
