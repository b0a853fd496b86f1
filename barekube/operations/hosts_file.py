"""/etc/hosts: the nodes by name, and the name of the API."""

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import StringCommand, operation

from barekube.cluster import Cluster
from barekube.facts.machine import Machine
from barekube.hosts_file import with_nodes
from barekube.operations import files
from barekube.operations.order import refuse
from barekube.text import TextFile, changes

_PATH = "/etc/hosts"


@operation()
def nodes_named(cluster: Cluster) -> Generator[StringCommand]:
    """All nodes of the inventory and the API's name stand in /etc/hosts."""
    found = host.get_fact(Machine, files=[_PATH])
    if found is None:
        yield from refuse("/etc/hosts cannot be read; mend the error above, then run again")
        return
    there = found.files.get(_PATH)
    nodes = [(node.name, node.address, node.control_plane) for node in cluster.nodes]
    text = with_nodes(there.text() if there else "", nodes, cluster.api_name)
    differing = changes([TextFile(_PATH, text)], dict(found.files))
    if not differing:
        host.noop(f"{len(nodes)} nodes and {cluster.api_name} are in /etc/hosts")
        return
    files.say(differing[0])
    yield files.write(differing[0].file)
