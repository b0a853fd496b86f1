"""Join the workers, all at once. Runs alone, on any hosts, in any state."""

from pyinfra import host

from barekube import remote, settings
from barekube.operations import doors, kubeadm, living, order

remote.notice_silence(host)

cluster = settings.cluster()

if not cluster.node(host.name).control_plane:
    kubeadm.worker(name="Join the workers", cluster=cluster)
order.barrier(name="Every worker has joined")
kubeadm.tokens_deleted(name="Delete the join token", cluster=cluster)
order.barrier(name="No join token is left")
if not cluster.node(host.name).control_plane:
    doors.placed(name="Labels and taints of the workers", cluster=cluster)
order.barrier(name="Every worker carries its door")
if not cluster.node(host.name).control_plane:
    living.kubelet(name="Settings of the workers' kubelets", cluster=cluster)
order.barrier(name="Every worker has its settings")
