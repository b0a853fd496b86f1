"""Give Ceph the disks of the storage hosts, and the cluster its volumes. Runs alone, on any hosts.

It does nothing where the inventory's group storage has no host.
"""

from pyinfra import host

from barekube import remote, settings
from barekube.operations import order, storage

remote.notice_silence(host)

cluster = settings.cluster()

wanted = settings.storage()

if wanted is None:
    order.barrier(name="No host is in group storage: there is nothing to do")
else:
    storage.fetched(name="Fetch Rook's own files", storage=wanted)
    order.barrier(name="Rook's files are here")
    storage.disks_judged(name="See what is on new disks", cluster=cluster, storage=wanted)
    order.barrier(name="Ceph can have the disks")
    for file in host.loop(wanted.files):
        storage.upstream(name=f"Apply {file.title}", cluster=cluster, file=file)
        order.barrier(name=f"{file.title} is applied")
    storage.ceph(name="Apply the Ceph cluster", cluster=cluster, storage=wanted)
    order.barrier(name="The Ceph cluster is ready")
    storage.classes(name="Apply pools, file system, classes", cluster=cluster, storage=wanted)
    order.barrier(name="There are classes of volumes")
    storage.healthy(name="See whether Ceph is well", cluster=cluster, storage=wanted)
    order.barrier(name="Storage can be used")
