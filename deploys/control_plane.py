"""Create the cluster's control plane, one host after the other. Runs alone, on any hosts."""

from pyinfra import host

from barekube import remote, settings
from barekube.operations import kubeadm, order

remote.notice_silence(host)

cluster = settings.cluster()

for name in host.loop([node.name for node in cluster.control_planes]):
    if host.name == name:
        kubeadm.control_plane(name=f"Control plane on {name}", cluster=cluster)
    order.barrier(name=f"{name} is done")
kubeadm.tokens_deleted(name="Delete the token of kubeadm init", cluster=cluster)
order.barrier(name="The control plane is up")
