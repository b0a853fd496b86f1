"""Apply the doors: Traefik for plain Ingress objects, and the pages behind the internal one."""

from pyinfra import host

from barekube import doors, remote, settings
from barekube.operations import doors as door_operations
from barekube.operations import objects, order

remote.notice_silence(host)

cluster = settings.cluster()

directories = settings.ingress_directories()
certificates = host.data.door_certificates

if cluster.workers:
    door_operations.applied(
        name="Apply the doors",
        cluster=cluster,
        directories=directories,
        certificates=certificates,
    )
    order.barrier(name="The doors are applied")
    door_operations.secrets(
        name="Keep the doors' certificates and the pages' login",
        cluster=cluster,
        certificates=certificates,
    )
    order.barrier(name="The doors have certificates")
    objects.rolled_out(name="Wait for the doors' rollout", cluster=cluster, directories=directories)
    order.barrier(name="The doors are rolled out")
    if doors.carried(cluster.node(host.name)):
        door_operations.answered(name="Ask the door", cluster=cluster)
    order.barrier(name="The doors answer")
