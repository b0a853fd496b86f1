"""Take a disk out of Ceph, so that another can take its place: --data osd=N.

Nothing on it may be needed any more: its copies are made anew on other disks first. Without
--data cluster=<cluster_name> it says what would go, and changes nothing. Cut off, or ended because
the data moves on, it is finished by running it again.
"""

from pyinfra import host

from barekube import remote, settings
from barekube.operations import order, osd

remote.notice_silence(host)

cluster = settings.cluster()
number = settings.named_osd()

osd.removed(name=f"Take osd.{number} out of Ceph", cluster=cluster, number=number)
order.barrier(name="Done")
