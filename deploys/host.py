"""Prepare each machine for kubelet. Runs alone, on any hosts, in any state."""

from pathlib import Path

from pyinfra import host

from barekube import remote, settings
from barekube.operations import firewall, order, packages, system

remote.notice_silence(host)

bundle = host.data.bundle_url
packages.installed(
    name="Install what a node needs of its distribution",
    wanted=dict.fromkeys(host.data.host_packages),
    source="debian" if bundle else None,
    trust=packages.trust_of_bundle(bundle, Path(host.data.bundle_ca).read_text()) if bundle else [],
    absent=[] if bundle else packages.DEBIAN_OF_BUNDLE,
)
system.configured(
    name="Load kernel modules, set kernel parameters, switch swap off, name nodes in /etc/hosts",
    modules=host.data.modules,
    sysctls=host.data.sysctls,
    cluster=settings.cluster(),
)
firewall.configured(
    name="Admit only what nodes speak among themselves",
    wanted=settings.firewall_rules(),
)
order.barrier(name="Every host is prepared")
