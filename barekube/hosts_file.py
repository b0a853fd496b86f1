"""Our lines in /etc/hosts: the nodes, and the name of the API. All other lines stay."""

from collections.abc import Sequence

from barekube.cluster import Cluster

BEGIN = "# barekube: begin"
END = "# barekube: end"


def _ours(text: str) -> list[str]:
    return text.partition(BEGIN)[2].partition(END)[0].splitlines()


def api_name(text: str) -> str | None:
    """The API's name in our lines."""
    return next((line.split()[1] for line in _ours(text) if line.startswith("127.0.0.1 ")), None)


def proxied(text: str) -> bool:
    """Whether the API's name leads to loopback alone."""
    name = api_name(text)
    return [line.split()[0] for line in _ours(text) if line.split()[1:] == [name]] == ["127.0.0.1"]


def with_nodes(
    old: str, nodes: Sequence[tuple[str, str, bool]], api_name: str, *, proxied: bool = False
) -> str:
    """The file's new text. `nodes` are (name, address, is a control plane).

    A client tries the addresses of the API's name in this order. On loopback listens a control
    plane's own API server, on a worker the proxy of barekube/api_proxy.py; where neither does yet
    (kubeadm join, one control plane), loopback refuses at once and the next address is tried.
    `proxied`: the proxy is there, and loopback the only one. kubelet, which a boot starts before
    it, would find the next address else, and stay there when that control plane is no more well.
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
    ours = [f"{address} {name}" for name, address, _ in nodes]
    masters = [address for _, address, master in nodes if master and not proxied]
    ours += [f"{address} {api_name}" for address in ["127.0.0.1", *masters]]
    return "\n".join([*kept, BEGIN, *ours, END]) + "\n"


def of(cluster: Cluster, old: str, *, proxied: bool) -> str:
    """with_nodes() of a cluster."""
    nodes = [(node.name, node.address, node.control_plane) for node in cluster.nodes]
    return with_nodes(old, nodes, cluster.api_name, proxied=proxied)
