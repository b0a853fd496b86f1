"""Examine all hosts, change nothing, and say at once everything that would fail later."""

from pyinfra import host

from barekube import remote, settings
from barekube.operations import order, preflight

remote.notice_silence(host)

cluster = settings.cluster()

storage = settings.storage()

preflight.examined(name="Examine every host")
order.barrier(name="Every host was examined")
preflight.neighbours(name="See whom every host reaches", cluster=cluster)
order.barrier(name="Every pair of hosts was tried")
if storage and host.name in storage.disks:
    preflight.disks(name="See what is on the disks for Ceph", cluster=cluster, storage=storage)
order.barrier(name="Every disk for Ceph was looked at")
preflight.passed(
    name="Judge what was found",
    cluster=cluster,
    directories=settings.ingress_directories(),
    certificates=host.data.door_certificates,
)
order.barrier(name="Preflight is passed")
