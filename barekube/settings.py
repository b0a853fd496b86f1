"""The cluster's settings as typed values, made from group_data and the inventory.

The only module that reads `host.data` and `inventory`: inside, types are trusted.
"""

import functools
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pyinfra import host, inventory, state
from pyinfra.api import Host
from pyinfra.api.exceptions import DeployError

from barekube import firewall, manifests, rook, versions
from barekube.checks import nearest
from barekube.cluster import Cluster, Node, contradiction, overlap


@dataclass(frozen=True)
class Source:
    """An apt repository, written out for one host."""

    name: str
    uri: str
    suite: str
    components: str
    key_url: str
    fingerprint: str

    @property
    def release_file(self) -> str:
        """The file of the repository that apt asks for first."""
        if self.components:
            return f"{self.uri.rstrip('/')}/dists/{self.suite}/InRelease"
        return f"{self.uri.rstrip('/')}/InRelease"

    def index(self, debian_arch: str) -> str | None:
        """The list of its packages of one architecture; None: it has one list of all."""
        if not self.components:
            return None
        top = f"{self.uri.rstrip('/')}/dists/{self.suite}"
        return f"{top}/{self.components.split()[0]}/binary-{debian_arch}/Packages"


def address_of(name: str, address: str | None, ssh_hostname: str | None) -> str:
    """The address of a host: `address`, else `ssh_hostname`, else its name, if it is one.

    Raises DeployError if none of them is an IPv4 address.
    """
    for value in [address] if address else [ssh_hostname, name]:
        try:
            return str(ipaddress.IPv4Address(str(value)))
        except ValueError:
            if address:
                raise DeployError(f"{name}: address {value!r} is no IPv4 address") from None
    raise DeployError(f"{name}: no address is known; give it `address` in the inventory")


# Weave's default for pods (weave 2.9.0, "--mtu"), and what it adds to a packet between nodes, with
# encryption: VXLAN, ESP and their headers.
_WEAVE_MTU, _AROUND = 1376, 87


class PodNetwork(NamedTuple):
    """The range of pod addresses, whether Weave gives them, the bytes of the largest packet that
    goes between nodes, and the images that every node needs for it."""

    addresses: str
    weave: bool
    packet: int
    images: tuple[str, ...]


@functools.cache
def pod_network(directory: Path) -> PodNetwork:
    """What the DaemonSet in the network's manifests says of it: IPALLOC_RANGE, WEAVE_MTU.

    Raises DeployError if there is no range or if it is no network, and for an MTU that is none.
    """
    try:
        documents = manifests.read(directory)
    except manifests.BadManifest as error:
        raise DeployError(str(error)) from None
    for path, document in documents:
        if document["kind"] != "DaemonSet":
            continue
        try:
            variables = manifests.variables(document)
            value = variables.get("IPALLOC_RANGE")
            images = manifests.images(document)
        except (AttributeError, KeyError, TypeError):
            raise DeployError(
                f"{path}: {manifests.title(document)} has no containers as Kubernetes wants them;"
                " correct it"
            ) from None
        if value is None:
            continue
        try:
            network = ipaddress.IPv4Network(value)
        except ValueError as error:
            raise DeployError(f"{path}: IPALLOC_RANGE: {error}; correct it") from None
        mtu = str(variables.get("WEAVE_MTU") or _WEAVE_MTU)
        if not re.fullmatch(r"[1-9][0-9]{2,4}", mtu):
            raise DeployError(f"{path}: WEAVE_MTU: {mtu!r} is no number of bytes; correct it")
        weave = document["metadata"]["name"] == "weave-net"
        return PodNetwork(str(network), weave, int(mtu) + _AROUND, images)
    raise DeployError(
        f"{directory}: no DaemonSet says IPALLOC_RANGE, the range of pod addresses; give its"
        " container that variable"
    )


def ingress_directories() -> list[Path]:
    """The manifests of the pages and the doors that this site has; the public door's come last."""
    directory = Path(host.data.ingress_manifests)
    result = [directory]
    if cluster().weave:
        result.append(Path("manifests/network-page"))
    if inventory.get_group("edge", default=[]):
        result.append(directory / "public")
    return result


def hosts() -> list[Host]:
    """All hosts of the inventory, in its order, in the limit or not."""
    return list(inventory)


def left_out() -> list[str]:
    """The names of the hosts that --limit or --exclude leaves out of this run."""
    return [each.name for each in hosts() if not state.is_host_in_limit(each)]


def control_plane_hosts() -> list[Host]:
    members = {each.name for each in inventory.get_group("control_plane", default=[])}
    return [each for each in hosts() if each.name in members]


@functools.cache
def cluster() -> Cluster:
    """The cluster as this inventory and group_data want it. Raises DeployError for bad values.

    Made once a run: it is the same on every host, and looking at all of them for each of them is
    what a run on fifty would spend its time on.
    """
    masters = {each.name for each in control_plane_hosts()}
    if not masters:
        raise DeployError(
            "no host of this run's inventory is a control plane; name a file whose control_plane"
            " has one, as `pyinfra inventory.py ...`"
        )
    edge = {each.name for each in inventory.get_group("edge", default=[])}
    nodes = tuple(
        Node(
            each.name,
            address_of(each.name, each.data.get("address"), each.data.get("ssh_hostname")),
            each.name in masters,
            each.name in edge,
        )
        for each in hosts()
    )
    data = host.data
    pods = pod_network(Path(data.network_manifests))
    result = Cluster(
        name=data.cluster_name,
        version=data.kubernetes_version,
        api_name=data.api_name or f"api.{data.cluster_name}",
        api_port=data.api_port,
        service_network=data.service_network,
        pod_network=pods.addresses,
        nodes=nodes,
        ignored_preflight=tuple(data.ignored_preflight),
        weave=pods.weave,
        packet=pods.packet,
        cluster_configuration=data.cluster_configuration,
        kubelet_configuration=data.kubelet_configuration,
        kube_proxy_configuration=data.kube_proxy_configuration,
        audit_rules=data.audit_rules,
        encryption_key=data.encryption_key,
    )
    if wrong := overlap(result) or contradiction(result):
        raise DeployError(wrong)
    return result


def walled(other: Host) -> bool:
    """Whether a host is to have a firewall; those of `edge` always have one."""
    return "edge" in other.groups or bool(other.data.firewall)


def firewall_rules() -> str | None:
    """The firewall of this host, or None where none is wanted."""
    if not walled(host):
        return None
    port, edge = int(host.data.get("ssh_port") or 22), "edge" in host.groups
    return firewall.rules(cluster(), port, edge=edge, trusted=host.data.firewall_trusted)


def at_once() -> int:
    """How many workers a roll takes at a time (--data at_once=N)."""
    return int(host.data.get("at_once", 1))


def storage_hosts() -> list[str]:
    """The names of the inventory's group storage."""
    return [each.name for each in inventory.get_group("storage", default=[])]


@functools.cache
def storage() -> rook.Storage | None:
    """What the storage stage is to make; None: the inventory has no host for it.

    Raises DeployError if the inventory and the manifests do not fit each other.
    """
    group = storage_hosts()
    directory = Path(host.data.storage_manifests)
    try:
        documents = manifests.read(directory)
        disks = rook.named(documents)
        names = [each.name for each in hosts()]
        if wrong := rook.problem(documents, disks, group, names):
            raise rook.Wrong(wrong)
        if not group:
            return None
        path = directory / rook.LOCK
        try:
            text = path.read_text()
        except OSError as error:
            raise rook.Wrong(f"{path} cannot be read ({error.strerror}); bring it back") from None
        except UnicodeDecodeError:
            raise rook.Wrong(f"{path} is no text; bring it back") from None
        return rook.Storage(directory, rook.lock(str(path), text), disks)
    except (manifests.BadManifest, rook.Wrong) as error:
        raise DeployError(str(error)) from None


def named_disk() -> tuple[str, str]:
    """The host and the disk of --data host=... --data disk=... Raises DeployError."""
    names = [each.name for each in hosts()]
    # Not host.data.get("host"), which is pyinfra's own object.
    given = host.data.dict()  # type: ignore[no-untyped-call]
    name, disk = given.get("host"), given.get("disk")
    if not name or not disk:
        raise DeployError(
            "name the disk: --data host=NAME --data disk=/dev/disk/by-id/... (or by-path)"
        )
    if name not in names:
        raise DeployError(f"{name} is no host of the inventory{nearest(str(name), names)}")
    if name in left_out():
        raise DeployError(f"{name} is not in this run; run it without --limit, or with it")
    if not rook.is_stable(str(disk)):
        raise DeployError(
            f"{disk} can be another disk after a boot; name it by /dev/disk/by-id/... or"
            " /dev/disk/by-path/..."
        )
    return str(name), str(disk)


def named_osd() -> int:
    """The OSD of --data osd=N. Raises DeployError."""
    number = host.data.get("osd")
    if number is None:
        raise DeployError(
            "name the OSD by its number: --data osd=N (preflight says whose disk is OSD n)"
        )
    return int(number)


def source(name: str, release: dict[str, str], other: Host | None = None) -> Source:
    """The apt repository `name` of group_data for a host with this /etc/os-release: this one, or
    another."""
    data = (host if other is None else other).data
    values = {
        "minor": versions.kubernetes_minor(data.kubernetes_version),
        "distribution": versions.publisher(release),
        "codename": release.get("VERSION_CODENAME", ""),
    }
    sources = dict(data.package_sources)
    if data.bundle_url:
        # What the distribution itself would serve; on the internet its own sources do.
        sources["debian"] = ("https://debian", "{codename}", "main", "", "")
    uri, suite, components, key_url, fingerprint = sources[name]
    if data.bundle_url:
        uri = f"{data.bundle_url}/{uri.removeprefix('https://')}"
        key_url, fingerprint = f"{data.bundle_url}/apt.asc", data.bundle_key
    return Source(
        name,
        uri.format(**values),
        suite.format(**values),
        components,
        key_url.format(**values),
        fingerprint.replace(" ", "").upper(),
    )
