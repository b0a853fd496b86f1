"""Create the cluster's control plane, one host after the other. Runs alone, on any hosts."""

from pyinfra import host

from barekube import remote, settings
from barekube.operations import kubeadm, living, order

remote.notice_silence(host)

cluster = settings.cluster()

for name in host.loop([node.name for node in cluster.control_planes]):
    if host.name == name:
        kubeadm.control_plane(name=f"Control plane on {name}", cluster=cluster)
    order.barrier(name=f"{name} is done")
kubeadm.tokens_deleted(name="Delete the token of kubeadm init", cluster=cluster)
order.barrier(name="The control plane is up")
living.cluster_settings(name="Settings of the cluster", cluster=cluster)
order.barrier(name="The cluster has its settings")
for name in host.loop([node.name for node in cluster.control_planes]):
    if host.name == name:
        living.control_plane(name=f"Settings of control plane {name}", cluster=cluster)
    order.barrier(name=f"{name} has its settings")
    if host.name == name:
        living.kubelet(name=f"Settings of the kubelet on {name}", cluster=cluster)
    order.barrier(name=f"The kubelet on {name} has its settings")
