"""What Weave Net says of itself: which pairs of nodes speak, by which way, and encrypted or not."""

from collections.abc import Mapping
from typing import Any

SECRET = "weave-password"  # noqa: S105 - a name
SECRET_KEY = "password"  # noqa: S105 - a name
DAEMON_SET = "weave-net"
_REMEDY = (
    "see that TCP 6783, UDP 6783 and 6784 and ESP (IP protocol 50) pass between them, that their"
    " cards' MTU is at least 1463, and that their kernels have openvswitch, vxlan and esp4"
)


def broken(
    report: Mapping[str, Any] | None, own: str, others: Mapping[str, str]
) -> dict[str, bool]:
    """A warning for each pair that is not connected on the encrypted fast datapath, and whether it
    works all the same: only slowly.

    `report` is the JSON of Weave's /report on node `own` (None: it does not answer); `others`
    maps the address of each other node to its name. A peer that connected to us shows its own
    port, so that pairs are known by their address only.
    """
    if report is None:
        silent = (
            f"warning: Weave on {own} does not answer; look at `kubectl -n kube-system logs -l"
            f" app.kubernetes.io/name={DAEMON_SET} -c weave`"
        )
        return {silent: False}
    ways = dict.fromkeys(others, ("they are not connected", False))
    for connection in report["Router"]["Connections"] or []:
        address = connection["Address"].rpartition(":")[0]
        if address in ways and ways[address][0]:
            ways[address] = _fault(connection)
    return {
        f"warning: {own} and {others[address]}: {fault}; {_REMEDY}": works
        for address, (fault, works) in ways.items()
        if fault
    }


def _fault(connection: Mapping[str, Any]) -> tuple[str, bool]:
    if connection["State"] != "established":
        return f"their connection is {connection['State']} ({connection['Info']})", False
    attributes = connection.get("Attrs") or {}
    faults = []
    if attributes.get("name") != "fastdp":
        faults.append(f"they speak by {attributes.get('name')}, which is slow")
    if not attributes.get("encrypted"):
        faults.append("nothing between them is encrypted")
    return " and ".join(faults), bool(attributes.get("encrypted"))
