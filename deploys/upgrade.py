"""Bring a living cluster to group_data's kubernetes_version, node by node.

Control planes first, then the nodes, each drained; `--data at_once=N` takes N workers at a time,
but storage hosts one by one. Cut off anywhere, it is finished by running it again.
"""

from pyinfra import host

from barekube import remote, settings, upgrade
from barekube.operations import order, upgradable
from barekube.operations import upgrade as steps

remote.notice_silence(host)

cluster = settings.cluster()
masters = [node.name for node in cluster.control_planes]
workers = [node.name for node in cluster.nodes if not node.control_plane]

steps.mended(name="Put back what a cut-off upgrade lost", cluster=cluster)
order.barrier(name="Nothing is lost")
upgradable.examined(name="Examine every host", cluster=cluster)
order.barrier(name="Every host was examined")
upgradable.passed(name="Judge what was found", cluster=cluster)
order.barrier(name="Nothing speaks against the upgrade")
steps.backed_up(name="Back up etcd, keys and settings", cluster=cluster)
order.barrier(name="There is a backup")
for name in host.loop(masters):
    if host.name == name:
        steps.servers(name=f"Upgrade the control plane on {name}", cluster=cluster)
    order.barrier(name=f"The control plane on {name} is done")
batches = upgrade.batches(workers, settings.at_once(), alone=settings.storage_hosts())
for names in host.loop([[name] for name in masters] + batches):
    if host.name in names:
        steps.node(name=f"Upgrade {', '.join(names)}", cluster=cluster, beside=names)
    order.barrier(name=f"Done: {', '.join(names)}")
steps.told(name="Say how far the cluster is", cluster=cluster)
