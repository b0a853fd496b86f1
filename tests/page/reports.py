"""Reports such as Weave 2.9.0 gives them, of a network that a test breaks where it wants."""

from collections.abc import Mapping
from typing import Any

# The node whose server is the real one.
FIRST = "127.0.0.11"
RANGE = 1 << 20


def peer_name(address: str) -> str:
    return f"7a:00:00:00:00:{int(address.rpartition('.')[2]):02x}"


def _connection(own: str, other: str, nick: str) -> dict[str, Any]:
    # Of each pair one has called, and sees the port that the other listens on.
    outbound = own < other
    return {
        "Address": f"{other}:{6783 if outbound else 41234}",
        "Outbound": outbound,
        "State": "established",
        "Info": f"encrypted   fastdp {peer_name(other)}({nick})",
        "Attrs": {"encrypted": True, "mtu": 1376, "name": "fastdp"},
    }


class Network:
    """The reports of nodes by address; None: that node's server runs, and its Weave is silent."""

    def __init__(self, nodes: Mapping[str, str]) -> None:
        self.reports: dict[str, dict[str, Any] | None] = {}
        peers = [
            {
                "Name": peer_name(address),
                "NickName": nick,
                "Connections": [
                    {"Name": peer_name(other), **_connection(address, other, nodes[other])}
                    for other in nodes
                    if other != address
                ],
            }
            for address, nick in nodes.items()
        ]
        entries = [
            {
                "Token": f"10.{32 + 4 * at}.0.0",
                "Size": RANGE // len(nodes),
                "Peer": peer_name(address),
                "Nickname": nick,
                "IsKnownPeer": True,
                "Version": 1,
            }
            for at, (address, nick) in enumerate(nodes.items())
        ]
        for address, nick in nodes.items():
            ourselves = {
                "Address": f"{address}:6783",
                "Outbound": True,
                "State": "failed",
                "Info": "cannot connect to ourself, retry: never",
                "Attrs": None,
            }
            others = [_connection(address, o, nodes[o]) for o in nodes if o != address]
            self.reports[address] = {
                "Ready": True,
                "Version": "2.9.0",
                "Router": {
                    "Name": peer_name(address),
                    "NickName": nick,
                    "Encryption": True,
                    "Peers": peers,
                    "Connections": [*others, ourselves],
                    "Targets": list(nodes),
                },
                "IPAM": {
                    "Paxos": None,
                    "Range": "10.32.0.0-10.47.255.255",
                    "RangeNumIPs": RANGE,
                    "ActiveIPs": 7,
                    "Entries": entries,
                    "PendingAllocates": None,
                },
            }

    def report(self, address: str) -> dict[str, Any]:
        found = self.reports[address]
        assert found
        return found

    def connection(self, own: str, other: str) -> dict[str, Any]:
        """How a node is connected to another, to be changed in place."""
        found: list[dict[str, Any]] = self.report(own)["Router"]["Connections"]
        return next(c for c in found if c["Address"].startswith(f"{other}:"))
