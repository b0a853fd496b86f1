"""Bring hosts back to what they were: nothing of Kubernetes, containerd and barekube is left.

Data disks are never touched. `--data cluster=<cluster_name>` confirms it; without, it says what
would go, and changes nothing.
"""

from pyinfra import host

from barekube import remote, settings
from barekube.operations import order, reset

remote.notice_silence(host)

cluster = settings.cluster()

reset.judged(name="See whose cluster goes on without them", cluster=cluster)
order.barrier(name="Every host was judged")
reset.done(
    name="Reset the host",
    cluster=cluster,
    confirmed=host.data.get("cluster") == cluster.name,
)
order.barrier(name="Every host is reset")
