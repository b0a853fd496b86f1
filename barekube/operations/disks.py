"""The disks that Ceph is to get: judged on any host, and emptied of a Ceph that is gone."""

import base64
from collections.abc import Generator, Sequence

from gevent.lock import RLock
from pyinfra import host, state
from pyinfra.api import Host, StringCommand, operation

from barekube import api as cluster_api
from barekube import remote, rook, settings
from barekube.api import API_ERRORS, Api, found
from barekube.cluster import Cluster
from barekube.disks import Verdict, judge, refusal
from barekube.facts.disks import DisksFact
from barekube.facts.machine import Machine
from barekube.operations.order import changing, persistently, refuse, unconfirmed
from barekube.traces import CA

_own: dict[bool, str | None] = {}
_lock = RLock()


def own_fsid(cluster: Cluster) -> str | None:
    """Which Ceph cluster this cluster's is; "": it has none; None: that is not known, for no API
    answers. Asked once while preparing and once while executing."""
    with _lock:
        if state.is_executing not in _own:
            _own[state.is_executing] = _ask_fsid(cluster)
        return _own[state.is_executing]


def _ask_fsid(cluster: Cluster) -> str | None:
    try:
        return persistently(fsid, cluster_api.connect(cluster))
    except API_ERRORS:
        masters = settings.control_plane_hosts()
    said = [each.get_fact(Machine, files=[CA]) if remote.reach(each) else None for each in masters]
    return "" if all(found and CA not in found.files for found in said) else None


def fsid(api: Api) -> str:
    """Which Ceph cluster this one's is; "" if it has none. Rook keeps it before there is an OSD."""
    secret = found(api.core.read_namespaced_secret, "rook-ceph-mon", rook.SPACE)
    return base64.b64decode((secret.data or {}).get("fsid", "")).decode() if secret else ""


def verdicts(other: Host, names: Sequence[str], own: str | None) -> list[Verdict]:
    """What is to be said of disks of a host, in the limit or not; `own` is this cluster's fsid."""
    said = other.get_fact(DisksFact, names=names) if remote.reach(other) else None
    if said is None:
        words = f"what is on the disks of {other.name} is not known; mend the error above"
        return [Verdict(f"{words}, then run again", False)]
    found_there, lasting = said
    return [judge(disk, own, lasting) for disk in found_there]


# Ceph keeps copies of its label at these GiB; the first goes last, so that a disk on which this
# was cut off is still known for what it is.
_ZAP = (
    "for at in 1000 100 10 1 0; do dd if=/dev/zero of={path} bs=4096 count=64 seek=$((at * 262144))"
    ' conv=notrunc,fsync status=none 2>/dev/null || [ "$at" != 0 ]; done;'
    " wipefs -qa {path}; udevadm settle || true"
)


@operation()
def zapped(cluster: Cluster, disk: str) -> Generator[StringCommand]:
    """A disk of this host that a Ceph cluster which is gone has left is empty.

    Whatever is not such a disk is refused. One round trip, and the confirmation is data: the
    cluster's name.
    """
    said = host.get_fact(DisksFact, names=[disk])
    if said is None:
        yield from refuse("its disks cannot be looked at; mend the error above, then run again")
        return
    (there,), names = said
    if wrong := refusal(there, own_fsid(cluster), names):
        yield from refuse(wrong)
        return
    host.log(f"{there.title}: all that is on it goes for ever ({there.osd or there.copy})")
    if host.data.get("cluster") != cluster.name:
        yield from unconfirmed(cluster, "it is not emptied")
        return
    # Opened for itself alone: what is in use is not touched.
    script = "perl -MFcntl -e 'sysopen(my $f, $ARGV[0], O_RDWR | O_EXCL) or die \"in use: $!\\n\"'"
    yield changing(f"{script} {there.path}; {_ZAP.format(path=there.path)}")
