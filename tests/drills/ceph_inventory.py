"""One control plane and three storage hosts of the lab, each with a raw disk: test_ceph.py's."""

from lab import inventory as _lab
from lab.hosts import load as _load

control_plane = _lab.control_plane
workers = [
    (host.name, _lab.data(host)) for host in _load().hosts if host.name.startswith("storage-")
]
storage = [name for name, _ in workers]
