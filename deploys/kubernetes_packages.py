"""Install kubelet, kubeadm, kubectl, the CNI plugins and crictl: exact versions, held."""

from pyinfra import host

from barekube import remote, versions
from barekube.operations import order, packages

remote.notice_silence(host)

packages.installed(
    name=f"Install Kubernetes {host.data.kubernetes_version}",
    wanted=versions.kubernetes_debs(host.data.kubernetes_version),
    source="kubernetes",
    node=host.data.kubernetes_version,
    absent=[] if host.data.bundle_url else packages.TRUST_IN_BUNDLE,
)
order.barrier(name="Every host has its Kubernetes packages")
