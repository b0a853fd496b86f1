"""Prove that the cluster works: try what pods and hosts rely on, from every node.

It makes pods in a namespace of its own and removes it. `--data look=true` makes nothing.
"""

from pathlib import Path

from pyinfra import host

from barekube import doors, remote, settings
from barekube.operations import door_checks, order, storage_checks, verify

remote.notice_silence(host)

cluster = settings.cluster()

verify.looked(name="Look at nodes, clocks, certificates, disks", cluster=cluster)
order.barrier(name="Every host was looked at")
door_checks.looked(name="Look at the doors' certificates", cluster=cluster)
order.barrier(name="Every certificate was looked at")
if not host.data.get("look"):
    verify.made(
        name="Start pods on every node, and an application behind each door",
        cluster=cluster,
        directory=Path("manifests/verify"),
        behind={"internal": Path("manifests/smoke"), "public": Path("manifests/smoke/public")},
    )
    order.barrier(name="Pods run on every node")
    verify.tried(name="Try DNS, pairs, Services, ports, policies", cluster=cluster)
    order.barrier(name="Everything was tried")
    if doors.carried(cluster.node(host.name)):
        door_checks.tried(name="Try the door", cluster=cluster)
    order.barrier(name="Every door was tried")
    storage_checks.tried(
        name="Try volumes", cluster=cluster, directory=Path("manifests/verify/storage")
    )
    order.barrier(name="Volumes were tried")
    verify.removed(name="Remove these pods", cluster=cluster)
    order.barrier(name="These pods are gone")
verify.told(name="Sum up")
order.barrier(name="The cluster is proven")
