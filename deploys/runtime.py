"""Install and configure containerd. Runs alone, on any hosts, in any state."""

from pyinfra import host

from barekube import containerd, remote, versions
from barekube.operations import order, packages, units

remote.notice_silence(host)

packages.installed(
    name="Install containerd",
    wanted={"containerd.io": versions.CONTAINERD_DEB},
    source="containerd",
)
units.configured(
    name="Configure and run containerd",
    unit="containerd.service",
    files=containerd.files(host.data.bundle_url, packages.BUNDLE_CA),
    absent=[] if host.data.bundle_url else [containerd.MIRROR],
)
order.barrier(name="Every host has its runtime")
