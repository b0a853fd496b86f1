"""Empty a disk of a Ceph cluster that is gone: --data host=NAME --data disk=/dev/disk/by-id/...

Without --data cluster=<cluster_name> it shows the disk and the command, and changes nothing.
"""

from pyinfra import host

from barekube import remote, settings
from barekube.operations import disks, order

remote.notice_silence(host)

cluster = settings.cluster()

name, disk = settings.named_disk()

if host.name == name:
    disks.zapped(name=f"Empty {disk} on {name}", cluster=cluster, disk=disk)
order.barrier(name="Done")
