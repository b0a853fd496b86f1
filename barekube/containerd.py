"""The files that containerd and crictl are configured by."""

from barekube import versions
from barekube.text import TextFile

CONFIG = "/etc/containerd/config.toml"
CERTS = "/etc/containerd/certs.d"
# Where all images come from while there is a bundle; it is read at every pull.
MIRROR = f"{CERTS}/_default/hosts.toml"
# Beside files of the user's, as one that names a proxy.
UNIT_FILE = "/etc/systemd/system/containerd.service.d/barekube.conf"
SOCKET = "unix:///run/containerd/containerd.sock"


def files(bundle_url: str | None, bundle_ca: str) -> list[TextFile]:
    """config.toml (version 3), crictl.yaml, what its unit does before it starts, and the mirror of
    all registries if there is a bundle.

    `bundle_ca` is the path of the bundle's CA on the host.
    """
    result = [
        TextFile(CONFIG, _CONFIG.format(pause=versions.IMAGES["pause"], certs=CERTS)),
        TextFile("/etc/crictl.yaml", f"runtime-endpoint: {SOCKET}\nimage-endpoint: {SOCKET}\n"),
        TextFile(UNIT_FILE, _UNIT),
    ]
    if bundle_url:
        result.append(TextFile(MIRROR, _HOSTS.format(url=bundle_url, ca=bundle_ca)))
    return result


_CONFIG = """\
# Written by barekube, deploys/runtime.py.
version = 3

# A layer is on the disk before containerd remembers it: else a power cut just after a pull leaves
# images with empty files, which are never pulled again (a drill found a /pause of 0 bytes).
# containerd's other way to pull, its transfer service, cannot do that yet.
[plugins.'io.containerd.cri.v1.images']
  image_pull_with_sync_fs = true
  use_local_image_pull = true
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{pause}'
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = '{certs}'

# Each second containerd 2.3 and newer ask each container's shim how much CPU it used, for a number
# that kubelet does not ask for (its gate PodAndContainerStatsFromCRI is off): half of the CPU time
# of a slow node with 14 pods.
[plugins.'io.containerd.cri.v1.runtime']
  stats_collect_period = '10s'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    SystemdCgroup = true
"""

# A download that a power cut stopped can have holes. containerd goes on where it ends, finds that
# the whole is not what it should be, and keeps it: that image is never pulled again
# (containerd/containerd#3974; a drill found it). What it begins from nothing is whole.
_UNIT = """\
# Written by barekube, deploys/runtime.py.
[Service]
ExecStartPre=-/usr/bin/find /var/lib/containerd/io.containerd.content.v1.content/ingest \\
  -mindepth 1 -delete
"""

# server: no registry beyond the bundle is asked, a machine without internet would only wait.
_HOSTS = """\
server = "{url}"

[host."{url}"]
  capabilities = ["pull", "resolve"]
  ca = "{ca}"
"""
