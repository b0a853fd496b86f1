"""Rook's manifests as they are wanted: whose disks, which of its own files; and Ceph's health."""

import copy
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from barekube import versions
from barekube.checks import nearest
from barekube.manifests import Object, title

SPACE = "rook-ceph"
LOCK = "upstream.lock"
SMALL = "manifests/rook-small"
# What there are images of Ceph for.
ARCHITECTURES = versions.SOURCES["docker.io/rook/ceph"].upstream
# Rook's files, in the order of the lock.
FILES = ("crds", "common", "csi-operator", "operator")
# Selects the Deployments whose pods are bound to a machine by what they keep there.
BOUND = "app in (rook-ceph-mon,rook-ceph-osd)"
# Rook looks at Ceph every minute.
_SILENCE = timedelta(minutes=10)
_PICKING = ("useAllNodes", "useAllDevices", "deviceFilter", "devicePathFilter")

# Checks of Ceph's that do not stop us, each with the reason.
ALLOWED = {
    **dict.fromkeys(
        (
            "AUTH_INSECURE_CLIENT_KEY_TYPE",
            # Ceph 20.2.4 says these two as well, for as long as it may give out such a key.
            "AUTH_INSECURE_KEYS_ALLOWED",
            "AUTH_INSECURE_KEYS_CREATABLE",
        ),
        "volumes are mounted with AES keys, which kernels before 7.0 need"
        " (security.cephx.csi.keyType of cluster.yaml)",
    ),
    # One slow moment is held against a disk for a day; what is slow now is SLOW_OPS.
    "BLUESTORE_SLOW_OP_ALERT": "an OSD waited long for its disk within the last day; if it comes"
    " back, `ceph health detail` names the OSD, and `smartctl -a` on its host knows the disk",
    # With the modules prometheus and rook, Ceph 20.2.3 and 20.2.4 say it again every 15 s.
    "RECENT_MGR_MODULE_CRASH": "a manager's module failed, and was loaded again or does without;"
    " `ceph crash ls` says which (those of node_proxy_fullreport are rook/rook#18124)",
    "RECENT_CRASH": "something crashed earlier and was started again; `ceph crash ls` says what,"
    " and `ceph crash archive-all` ends the warning",
}


class Wrong(Exception):
    """What is wrong with the manifests or the lock: a sentence."""


@dataclass(frozen=True)
class Upstream:
    """A file of Rook's own, as the lock names it."""

    name: str
    version: str
    url: str
    sha256: str

    @property
    def title(self) -> str:
        return f"Rook's {self.name} {self.version}"

    def is_(self, content: bytes) -> bool:
        """Whether this is what the lock names."""
        return hashlib.sha256(content).hexdigest() == self.sha256


@dataclass(frozen=True)
class Storage:
    """What the storage stage is to make: `disks` are names of devices by host."""

    directory: Path
    files: tuple[Upstream, ...]
    disks: Mapping[str, tuple[str, ...]]


def is_stable(disk: str) -> bool:
    """Whether a name stays with its disk."""
    return re.fullmatch(r"/dev/disk/by-(id|path)/[^/\s]+", disk) is not None


def lock(path: str, text: str) -> tuple[Upstream, ...]:
    """The lines "name version address sha256" of a lock file. Raises Wrong."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        if len(fields) != 4 or not re.fullmatch(r"[0-9a-f]{64}", fields[3]):
            raise Wrong(f"{path}, line {number}: write a name, a version, an address, a SHA-256")
        found.append(Upstream(*fields))
    if tuple(each.name for each in found) != FILES:
        raise Wrong(f"{path} has to name {', '.join(FILES)}, in this order; correct it")
    return tuple(found)


def named(documents: Iterable[tuple[str, Object]]) -> dict[str, tuple[str, ...]]:
    """The devices of each host that a CephCluster of the manifests names.

    Raises Wrong if there is no CephCluster, if it lets Rook choose, or if a name can move from one
    disk to another.
    """
    clusters = [each for each in documents if each[1]["kind"] == "CephCluster"]
    if len(clusters) != 1:
        raise Wrong(f"storage_manifests has {len(clusters)} objects CephCluster; have one there")
    file, cluster = clusters[0]
    result: dict[str, tuple[str, ...]] = {}
    try:
        storage = (cluster.get("spec") or {}).get("storage") or {}
        for where in [storage, *(storage.get("nodes") or [])]:
            for key in _PICKING:
                if where.get(key):
                    raise Wrong(
                        f"{file}: {key} lets Rook choose disks; take it out and name each disk"
                    )
        for node in storage.get("nodes") or []:
            result[node["name"]] = tuple(each["name"] for each in node["devices"])
    except (AttributeError, KeyError, TypeError):
        raise Wrong(
            f"{file}: storage.nodes is a list of {{name: HOST, devices: [{{name: DISK}}, ...]}};"
            " correct it"
        ) from None
    for host, disks in result.items():
        for disk in disks:
            if not is_stable(disk):
                raise Wrong(
                    f"{file}: {disk} of {host} can be another disk after a boot; name it by"
                    " /dev/disk/by-id/... or /dev/disk/by-path/..."
                )
            if disks.count(disk) > 1:
                raise Wrong(f"{file}: {disk} of {host} is named twice; name it once")
    return result


def problem(
    documents: Sequence[tuple[str, Object]],
    disks: Mapping[str, Sequence[str]],
    group: Sequence[str],
    hosts: Sequence[str],
) -> str | None:
    """A sentence if the inventory's group storage and the manifests do not fit each other.

    `disks` are those of `named`, `hosts` all of the inventory.
    """
    file = next(file for file, each in documents if each["kind"] == "CephCluster")
    for host in disks:
        if host not in hosts:
            return f"{file}: {host} is no host of the inventory{nearest(host, hosts)}"
        if host not in group:
            return f"{file} names disks of {host}; name {host} in the inventory's group storage too"
    for host in group:
        if not disks.get(host):
            return (
                f"{host} is in the inventory's group storage, and {file} names no disk of it; name"
                " its disks there, or take it out of the group"
            )
    least = max([*map(_hosts_needed, (each for _, each in documents)), 0])
    if group and len(group) < least:
        return (
            f"{file.rpartition('/')[0]} keeps its copies on {least} hosts, and group storage has"
            f" {len(group)}; name more there, or set storage_manifests to {SMALL!r} in group_data,"
            " which is not safe"
        )
    return None


def _hosts_needed(document: Object) -> int:
    spec: Any = document.get("spec") or {}
    if document["kind"] == "CephCluster":
        return int((spec.get("mon") or {}).get("count", 0))
    if document["kind"] not in ("CephBlockPool", "CephFilesystem"):
        return 0
    pools = [spec, spec.get("metadataPool") or {}, *(spec.get("dataPools") or [])]
    return max(
        int((pool.get("replicated") or {}).get("size", 0))
        if pool.get("failureDomain", "host") == "host"
        else 0
        for pool in pools
    )


def placed(document: Object) -> Object:
    """An object of Rook's own files, with its pods on the CPUs that there are images for.

    What mounts volumes runs on tainted nodes too: a pod that is let onto one has its volume there.
    """
    paths: list[tuple[str, ...]]
    if document["kind"] == "Deployment":
        paths = [("spec", "template", "spec")]
    elif document["kind"] == "Driver" and document["apiVersion"].startswith("csi.ceph.io/"):
        paths = [("spec", "nodePlugin"), ("spec", "controllerPlugin")]
    else:
        return document
    result = copy.deepcopy(document)
    term = {"key": "kubernetes.io/arch", "operator": "In", "values": list(ARCHITECTURES)}
    for path in paths:
        inner = result
        for key in (*path, "affinity", "nodeAffinity"):
            inner = inner.setdefault(key, {})
        required = inner.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
        for each in required.setdefault("nodeSelectorTerms", [{}]):
            each.setdefault("matchExpressions", []).append(term)
    if document["kind"] == "Driver":
        result["spec"]["nodePlugin"].setdefault("tolerations", [{"operator": "Exists"}])
    return result


def lacking(document: Object, live: Object | None) -> str | None:
    """What an object of Rook's kinds lacks until it is as wanted; None: nothing."""
    what = title(document)
    if live is None:
        return f"{what} is not there"
    status = live.get("status") or {}
    generation = live["metadata"].get("generation", 0)
    if status.get("observedGeneration", generation) < generation:
        return f"{what}: its operator has not seen the change yet"
    if status.get("phase") == "Ready":
        return None
    said = status.get("message") or "its operator has said nothing yet"
    return f"{what} is {status.get('phase') or 'new'}: {said}"


def health(live: Object) -> tuple[str | None, list[str]]:
    """What is wrong with Ceph by a CephCluster's status (None: nothing that stops us), and a line
    for each check that is passed over."""
    ceph = (live.get("status") or {}).get("ceph") or {}
    checks: Mapping[str, Any] = ceph.get("details") or {}
    bad = {
        name: check
        for name, check in checks.items()
        if name not in ALLOWED or check.get("severity") == "HEALTH_ERR"
    }
    passed = [f"Ceph says {name}: {ALLOWED[name]}" for name in checks if name not in bad]
    if bad:
        words = (f"{name}: {check.get('message', '')}" for name, check in sorted(bad.items()))
        return "; ".join(words), passed
    if ceph.get("health") == "HEALTH_OK" or (ceph.get("health") == "HEALTH_WARN" and checks):
        return None, passed
    return f"Ceph's health is {ceph.get('health') or 'not known yet'}", passed


def carried(node: str, deployments: Iterable[Any]) -> list[str]:
    """What of Ceph is bound to a node, by the Deployments of `BOUND`: 'mon.a', 'osd.3'."""
    return sorted(
        ".".join(each.metadata.name.removeprefix("rook-ceph-").split("-", 1))
        for each in deployments
        if (each.spec.template.spec.node_selector or {}).get("kubernetes.io/hostname") == node
    )


def checked(live: Object) -> str:
    """When Rook last looked at Ceph, by a CephCluster; an empty text: never."""
    return str(((live.get("status") or {}).get("ceph") or {}).get("lastChecked") or "")


def unsettled(live: Object, now: datetime, seen: str | None = None) -> str | None:
    """Why no machine that carries Ceph may go away now, by a CephCluster's status, or None.

    `seen`: what `checked` said once the last one was back; Rook has to have looked again since.
    """
    last = checked(live)
    wrong, _ = health(live)
    if wrong:
        return wrong
    if not last or now - datetime.fromisoformat(last) > _SILENCE:
        since = last or "its beginning"
        return f"Rook has not looked at it since {since}; see whether its operator runs"
    return "Rook has not looked at it again yet" if last == seen else None
