"""Our lines in /etc/hosts: the nodes, and the name of the API. All other lines stay."""

from collections.abc import Sequence

BEGIN = "# barekube: begin"
END = "# barekube: end"


def with_nodes(old: str, own: str, nodes: Sequence[tuple[str, str, bool]], api_name: str) -> str:
    """The file's new text. `nodes` are (name, address, is a control plane), `own` this host's name.

    The API's name leads to every control plane, and on a control plane first to itself: a
    client tries the addresses in this order.
    """
    kept = []
    inside = False
    for line in old.splitlines():
        if line == BEGIN:
            inside = True
        if not inside:
            kept.append(line)
        if line == END:
            inside = False
    while kept and not kept[-1]:
        kept.pop()
    masters = [(name, address) for name, address, master in nodes if master]
    masters.sort(key=lambda each: each[0] != own)
    ours = [f"{address} {name}" for name, address, _ in nodes]
    ours += [f"{address} {api_name}" for _, address in masters]
    return "\n".join([*kept, BEGIN, *ours, END]) + "\n"
