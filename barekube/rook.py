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
# Of storage, a host, a device, or the config of one: by these Rook gets a disk past its name.
_PASSING = (
    "fullpath",
    "metadataDevice",
    "walDevice",
    "storageClassDeviceSets",
    "volumeClaimTemplates",
)
# Of a CephCluster's spec: by these Rook empties disks, or OSDs.
_WIPING = (
    ("cleanupPolicy", "confirmation"),
    ("cleanupPolicy", "wipeDevicesFromOtherClusters"),
    ("storage", "migration", "confirmation"),
    ("storage", "store", "updateStore"),
)
# With fewer copies than this, manifests are to say that they are not safe.
_COPIES = 3
_UNSAFE = "barekube/unsafe"

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


def without_ceph(cpu: str) -> str:
    """The sentence for a storage host on whose CPU Ceph does not run."""
    return (
        f"there is no Ceph for its CPU ({cpu}), only for {' and '.join(ARCHITECTURES)}; take it out"
        " of group storage"
    )


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
    if len(versions_named := dict.fromkeys(each.version for each in found)) > 1:
        raise Wrong(
            f"{path} names files of {' and '.join(versions_named)}; take all of one release"
        )
    return tuple(found)


def named(documents: Iterable[tuple[str, Object]]) -> dict[str, tuple[str, ...]]:
    """The devices of each host that a CephCluster of the manifests names.

    Raises Wrong if there is no CephCluster, if it has Rook choose or empty disks, or if a name can
    move from one disk to another.
    """
    clusters = [each for each in documents if each[1]["kind"] == "CephCluster"]
    if len(clusters) != 1:
        raise Wrong(f"storage_manifests has {len(clusters)} objects CephCluster; have one there")
    file, cluster = clusters[0]
    result: dict[str, tuple[str, ...]] = {}
    try:
        spec = cluster.get("spec") or {}
        _is_safe(file, spec)
        for node in (spec.get("storage") or {}).get("nodes") or []:
            host, disks = node["name"], tuple(each["name"] for each in node["devices"])
            if not all(isinstance(each, str) for each in (host, *disks)):
                raise TypeError
            if host in result:
                raise Wrong(f"{file}: {host} is there twice; name all its disks in one place")
            result[host] = disks
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


def _is_safe(file: str, spec: Object) -> None:
    """Raises Wrong if by this spec Rook takes a disk that nothing has looked at, or empties one."""
    storage = spec.get("storage") or {}
    nodes = storage.get("nodes") or []
    places = [storage, *nodes, *(each for node in nodes for each in node.get("devices") or [])]
    places += [each.get("config") or {} for each in places]
    for where in places:
        for key in _PICKING:
            if where.get(key):
                raise Wrong(f"{file}: {key} lets Rook choose disks; take it out and name each disk")
        for key in _PASSING:
            if where.get(key):
                raise Wrong(
                    f"{file}: by {key} Rook takes a disk that nothing has looked at; take it out,"
                    " and name each disk in devices"
                )
    for path in _WIPING:
        value: Any = spec
        for key in path:
            value = (value or {}).get(key)
        if value:
            raise Wrong(f"{file}: {'.'.join(path)} lets Rook empty disks; take it out")


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
    spread = [place for each in documents for place in _spread(*each)]
    hosts_needed = max((count for domain, count in spread if domain == "host"), default=0)
    disks_needed = max((count for _, count in spread), default=0)
    named_disks = sum(map(len, disks.values()))
    if group and len(group) < hosts_needed:
        return (
            f"{file.rpartition('/')[0]} keeps its copies on {hosts_needed} hosts, and group storage"
            f" has {len(group)}; name more there, or set storage_manifests to {SMALL!r} in"
            " group_data, which is not safe"
        )
    if group and named_disks < disks_needed:
        return (
            f"{file.rpartition('/')[0]} keeps its copies on {disks_needed} disks, and {file} names"
            f" {named_disks}; name more there"
        )
    return None


def _spread(file: str, document: Object) -> list[tuple[str, int]]:
    """What an object of Rook's is spread over, and how many of them it needs. Raises Wrong."""
    spec: Any = document.get("spec") or {}
    try:
        if document["kind"] == "CephCluster":
            return [("host", int((spec.get("mon") or {}).get("count") or 0))]
        if document["kind"] == "CephBlockPool":
            pools = [spec]
        elif document["kind"] == "CephFilesystem":
            pools = [spec["metadataPool"], *spec["dataPools"]]
        else:
            return []
        found = [(each.get("failureDomain") or "host", *_copies(each)) for each in pools]
    except (AttributeError, KeyError, TypeError, ValueError):
        what = title(document)
        raise Wrong(f"{file}: how many copies {what} keeps cannot be read; correct it") from None
    fewest = min(copies for _, _, copies in found)
    if fewest < _COPIES and _UNSAFE not in (document["metadata"].get("labels") or {}):
        raise Wrong(
            f"{file}: {title(document)} keeps {fewest} copies; keep {_COPIES}, or say that it is"
            f' not safe by the label {_UNSAFE}: "true"'
        )
    return [(domain, places) for domain, places, _ in found]


def _copies(pool: Any) -> tuple[int, int]:  # noqa: ANN401
    """On how many places what a pool keeps is, and how many copies that counts for."""
    coded = pool.get("erasureCoded") or {}
    if coding := int(coded.get("codingChunks") or 0):
        return int(coded["dataChunks"]) + coding, coding + 1
    size = int(pool["replicated"]["size"])
    return size, size


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
        if name not in ALLOWED or check.get("severity") != "HEALTH_WARN"
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
