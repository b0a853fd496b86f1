"""Join the workers, all at once. Runs alone, on any hosts, in any state."""

from pyinfra import host

from barekube import remote, settings
from barekube.operations import doors, kubeadm, living, order, workers

remote.notice_silence(host)

cluster = settings.cluster()

if not cluster.node(host.name).control_plane:
    workers.worker(name="Join the workers", cluster=cluster)
order.barrier(name="Every worker has joined")
if not cluster.node(host.name).control_plane:
    workers.proxied(name="A proxy to all control planes on every worker", cluster=cluster)
order.barrier(name="Every worker reaches every control plane")
kubeadm.tokens_deleted(name="Delete the join token", cluster=cluster)
order.barrier(name="No join token is left")
if not cluster.node(host.name).control_plane:
    doors.placed(name="Labels and taints of the workers", cluster=cluster)
order.barrier(name="Every worker carries its door")
if not cluster.node(host.name).control_plane:
    living.kubelet(name="Settings of the workers' kubelets", cluster=cluster)
order.barrier(name="Every worker has its settings")
