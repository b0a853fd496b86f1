"""The monthly work on machines: one at a time, each drained, and Ready before the next.

`--data packages=true` upgrades the distribution's packages, and reboots where that is due;
`--data reboot=true` reboots in any case. Without either it says what there is to do.
"""

from pyinfra import host

from barekube import remote, settings
from barekube.operations import maintain, order

remote.notice_silence(host)

cluster = settings.cluster()

maintain.listed(name="Read the package sources")
order.barrier(name="Every host knows its packages")
for name in host.loop([node.name for node in cluster.nodes]):
    if host.name == name:
        maintain.maintained(name=f"Maintain {name}", cluster=cluster)
    order.barrier(name=f"{name} is maintained")
