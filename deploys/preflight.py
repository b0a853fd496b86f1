"""Examine all hosts, change nothing, and say at once everything that would fail later."""

from pyinfra import host

from barekube import remote, settings
from barekube.operations import order, preflight

remote.notice_silence(host)

cluster = settings.cluster()

preflight.examined(name="Examine every host")
order.barrier(name="Every host was examined")
preflight.neighbours(name="See whom every host reaches", cluster=cluster)
order.barrier(name="Every pair of hosts was tried")
preflight.passed(name="Judge what was found")
order.barrier(name="Preflight is passed")
