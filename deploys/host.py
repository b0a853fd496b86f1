"""Prepare each machine for kubelet. Runs alone, on any hosts, in any state."""

from pathlib import Path

from pyinfra import host

from barekube import remote, settings
from barekube.operations import hosts_file, kernel, order, packages

remote.notice_silence(host)

bundle = host.data.bundle_url
packages.installed(
    name="Install what a node needs of its distribution",
    wanted=dict.fromkeys(host.data.host_packages),
    source="debian" if bundle else None,
    trust=packages.trust_of_bundle(bundle, Path(host.data.bundle_ca).read_text()) if bundle else [],
)
kernel.configured(
    name="Load kernel modules, set kernel parameters, switch swap off",
    modules=host.data.modules,
    sysctls=host.data.sysctls,
)
hosts_file.nodes_named(
    name="Name the nodes and the API in /etc/hosts",
    cluster=settings.cluster(),
)
order.barrier(name="Every host is prepared")
