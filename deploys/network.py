"""Apply the pod network and wait for every node to be Ready. Runs alone, on any hosts."""

from pathlib import Path

from pyinfra import host

from barekube import remote, settings, weave
from barekube.operations import network, objects, order

remote.notice_silence(host)

cluster = settings.cluster()

directory = Path(host.data.network_manifests)

if cluster.weave:
    objects.password(
        name="Keep the pod network's password in the cluster",
        cluster=cluster,
        key=weave.SECRET_KEY,
        secret=weave.SECRET,
        used_by=weave.DAEMON_SET,
        directories=[directory],
    )
    order.barrier(name="The pod network has a password")
network.applied(name=f"Apply the pod network of {directory}", cluster=cluster, directory=directory)
order.barrier(name="The pod network is applied")
network.ready(name="Wait for the nodes to be Ready", cluster=cluster)
order.barrier(name="Every node is Ready")
objects.rolled_out(
    name="Wait for the pod network's rollout", cluster=cluster, directories=[directory]
)
order.barrier(name="The pod network is rolled out")
if cluster.weave:
    network.paired(name="See how the nodes are connected", cluster=cluster)
    order.barrier(name="Every pair of nodes was looked at")
