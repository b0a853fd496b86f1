"""Apply the pod network and wait for every node to be Ready. Runs alone, on any hosts."""

from pathlib import Path

from pyinfra import host

from barekube import remote, settings
from barekube.operations import network, order

remote.notice_silence(host)

cluster = settings.cluster()

network.applied(
    name=f"Apply the pod network of {host.data.network_manifests}",
    cluster=cluster,
    directory=Path(host.data.network_manifests),
)
order.barrier(name="The pod network is applied")
network.ready(name="Wait for the nodes to be Ready", cluster=cluster)
order.barrier(name="Every node is Ready")
