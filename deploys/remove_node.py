"""Take a node out of the cluster: `--data node=NAME`, a living one or one that never comes back.

It is drained and deleted, leaves etcd, and is reset if it answers; a fresh machine of the same name
can take its place. Cut off anywhere, it is finished by running it again.
"""

from pyinfra import host

from barekube import remote, settings
from barekube.operations import order, removal, reset

remote.notice_silence(host)

cluster = settings.cluster()
node = host.data.get("node")

removal.judged(name="See what would be lost with it", cluster=cluster, node=node)
removal.allowed(name="Nothing would be lost")
if node:
    removal.removed(name=f"Take {node} out of the cluster", cluster=cluster, node=node)
    order.barrier(name=f"{node} is out of the cluster")
    if host.name == node:
        removal.left(name=f"See that {node} is out", cluster=cluster, node=node)
        reset.done(name=f"Reset {node}", cluster=cluster, confirmed=True)
    order.barrier(name=f"{node} is reset")
    if cluster.weave:
        removal.reclaimed(name="See that its addresses are given back", cluster=cluster, node=node)
    order.barrier(name="Its addresses are the others'")
    removal.told(name="Say what is next", node=node)
