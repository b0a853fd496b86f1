"""The lab's machines as pyinfra's inventory; a spare is in it if BAREKUBE_LAB_EXTRA names it, and
another is not if BAREKUBE_LAB_WITHOUT does."""

import os as _os
from typing import Any as _Any

from lab.hosts import Host as _Host
from lab.hosts import load as _load
from lab.paths import KEY as _KEY
from lab.paths import KNOWN_HOSTS as _KNOWN_HOSTS

_extra = _os.environ.get("BAREKUBE_LAB_EXTRA", "").split(",")
_without = _os.environ.get("BAREKUBE_LAB_WITHOUT", "").split(",")


def data(host: _Host) -> dict[str, _Any]:
    result: dict[str, _Any] = {
        "address": host.address,
        "ssh_hostname": host.address,
        "ssh_user": host.user,
        "ssh_key": str(_KEY),
        "ssh_known_hosts_file": str(_KNOWN_HOSTS),
        "ssh_strict_host_key_checking": "yes",
    }
    return result | {"_sudo": True} if host.user != "root" else result


def _group(name: str) -> list[tuple[str, dict[str, _Any]]]:
    return [
        (host.name, data(host))
        for host in _load().hosts
        if host.group == name
        and (not host.spare or host.name in _extra)
        and host.name not in _without
    ]


control_plane = _group("control_plane")
workers = _group("workers")
edge = [name for name, _ in workers if _load().host(name).edge]
# Whose raw disks Ceph may have, by the manifests that name them: BAREKUBE_LAB_STORAGE.
storage = [name for name in _os.environ.get("BAREKUBE_LAB_STORAGE", "").split(",") if name]
