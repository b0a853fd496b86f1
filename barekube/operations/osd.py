"""A disk leaves Ceph: marked out, waited for until nothing on it is needed, and forgotten."""

import shlex
from collections.abc import Generator

from pyinfra import host
from pyinfra.api import FunctionCommand, Host, State, operation
from pyinfra.api.command import PyinfraCommand

from barekube import api as cluster_api
from barekube import osd, remote, rook
from barekube.api import ADMIN, found
from barekube.cluster import Cluster
from barekube.operations.order import (
    acts_for_the_cluster,
    answering,
    refuse,
    unconfirmed,
    wait,
)

# Ceph moves data for hours, if there is much of it; a further run goes on with that.
_MOVE_LIMIT, _END_LIMIT = 3600, 300
_TOOLBOX = f"kubectl --kubeconfig {ADMIN} -n {rook.SPACE} exec deploy/ceph-tools -- bash -ec "


def _toolbox(cluster: Cluster, script: str) -> list[str] | None:
    """What a script prints in the toolbox of Ceph; None: it failed."""
    other = cluster_api.connect(cluster).host
    return remote.lines(other, _TOOLBOX + shlex.quote(script))


def _view(cluster: Cluster, number: int) -> osd.View | None:
    lines = _toolbox(cluster, osd.ASK.format(number=number))
    try:
        return None if lines is None else osd.view(lines)
    except ValueError:
        return None


@operation()
def removed(cluster: Cluster, number: int) -> Generator[PyinfraCommand]:
    """An OSD is no part of Ceph any more, and nothing was lost with it.

    The confirmation is data: the cluster's name. Ceph is asked in its toolbox.
    """
    yield from answering(_removed(cluster, number))


def _removed(cluster: Cluster, number: int) -> Generator[PyinfraCommand]:
    if not acts_for_the_cluster():
        host.noop("another host of this run does it")
        return
    seen = _view(cluster, number)
    if seen is None:
        yield from refuse(
            f"Ceph does not answer; look at `kubectl -n {rook.SPACE} get pods`, then run this again"
        )
        return
    api = cluster_api.connect(cluster)
    deployment = f"rook-ceph-osd-{number}"
    there = found(api.apps.read_namespaced_deployment, deployment, rook.SPACE)
    if number not in seen.hosts and there is None:
        host.noop(f"Ceph has no osd.{number}; it has {_names(seen)}")
        return
    where = seen.hosts.get(number) or "no host"
    runs = "up" if number in seen.up else "down"
    host.log(f"osd.{number} of {where} ({runs}): out, its data elsewhere, then purged")
    if host.data.get("cluster") != cluster.name:
        yield from unconfirmed(cluster, "nothing is changed")
        return
    yield FunctionCommand(_remove, (cluster, number), {})


def _names(seen: osd.View) -> str:
    return ", ".join(f"osd.{each}" for each in sorted(seen.hosts)) or "none"


def _remove(state: State, host: Host, cluster: Cluster, number: int) -> bool:
    def unmoved() -> str | None:
        seen = _view(cluster, number)
        if seen is None:
            return "Ceph does not answer"
        return osd.needed(seen, number) if number in seen.hosts else None

    _toolbox(cluster, f"ceph osd out osd.{number} || true")
    if why := wait(f"osd.{number} to be needed no more", _MOVE_LIMIT, unmoved):
        host.log(
            f"osd.{number} is needed after {_MOVE_LIMIT} s: {why}; it stays out, and Ceph goes on;"
            " run this again later"
        )
        return False
    apps = cluster_api.connect(cluster).apps
    found(apps.delete_namespaced_deployment, f"rook-ceph-osd-{number}", rook.SPACE)

    def there() -> str | None:
        # Ceph purges none that is up, and one whose pod is gone is marked down.
        purge = f"ceph osd purge osd.{number} --yes-i-really-mean-it"
        said = _toolbox(cluster, f"ceph osd down osd.{number} || true; {purge}")
        return None if said is not None else "Ceph does not let it go yet"

    if why := wait(f"the end of osd.{number}", _END_LIMIT, there):
        host.log(f"{why} after {_END_LIMIT} s; run this again")
        return False
    host.log(
        f"osd.{number} is out of Ceph: pull its disk, or empty it by hand, before Rook looks there"
        " again; then write the new disk's name in cluster.yaml and run deploys/storage.py"
    )
    return True
