"""Everything that would fail later, found from facts: a sentence a finding, what and what to do."""

import ipaddress
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from packaging.version import InvalidVersion, Version

from barekube import parts, rook, versions
from barekube.living import other_range
from barekube.traces import other_address

# ID of /etc/os-release -> VERSION_ID. Debian 12 and 13 are run in the lab; Ubuntu and Raspberry
# Pi OS (which calls itself debian, on 32 bits raspbian) from recorded facts only.
RELEASES = {
    "debian": ("12", "13"),
    "raspbian": ("12", "13"),
    "ubuntu": ("22.04", "24.04", "26.04"),
}
_NAMES = "Debian 12 and 13, Ubuntu 22.04 to 26.04, Raspberry Pi OS 12 and 13"
# Directories of other Kubernetes distributions.
FOREIGN = ("/etc/rancher/k3s", "/var/lib/rancher/rke2", "/var/lib/k0s", "/var/snap/microk8s")
# Packages that bring or use a containerd; only the first is ours.
CONTAINERDS = ("containerd.io", "containerd", "docker.io", "docker-ce")
# What a containerd is known by that came by no package: from its own archive, or from a snap.
FOREIGN_CONTAINERDS = (
    "/usr/local/bin/containerd",
    "/usr/local/lib/systemd/system/containerd.service",
    "/etc/systemd/system/containerd.service",
    "/var/snap/docker",
)
# Units that make swap at every boot, past swap.target.
SWAP_UNITS = (
    "dphys-swapfile.service",
    "swapspace.service",
    "zram-config.service",
    "zramswap.service",
    "rpi-zram-writeback.timer",
)
# Units that take or drop what is ours in the kernel's tables, and what ends each. The unit of ufw
# is none: it is there, and does nothing, where ufw is not enabled.
_NFTABLES, UFW = "nftables.service", "ufw"
FIREWALLS = {
    "firewalld.service": "systemctl disable --now firewalld.service",
    _NFTABLES: f"systemctl disable --now {_NFTABLES}",
    UFW: "ufw disable",
}
# MB (10^6 bytes) that must be free, by directory; all but the first where it is a disk of its own.
ROOM = {
    "/var": 20_000,
    "/var/lib/containerd": 20_000,
    "/var/lib/kubelet": 2_000,
    "/var/lib/etcd": 2_000,
}
# etcd's own advice for its disk (etcd.io, "hardware"), in milliseconds.
SYNC_LIMIT = 10.0
# No private network is wider: a shorter prefix is a part of the way to everything.
_WIDE = 8
_OLDEST_KERNEL = Version("5.15")
_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
# kubeadm's own limit for a control plane (NumCPU, Mem), and what is left of 1 GiB on a board whose
# firmware and graphics take their share: the least that a worker can do with.
_CONTROL_PLANE_MB, WORKER_MB, _CONTROL_PLANE_CPUS = 1700, 900, 2


@dataclass(frozen=True)
class Checkup:
    """What one host said. `offset` is its clock less the controller's, in seconds; `ca` the
    SHA-256 of its /etc/kubernetes/pki/ca.crt, or empty; `held` are packages; `ours`: we installed
    its containerd; `room` are the MB free on the disks of ROOM's directories; `routes` maps a
    network to the card that leads there; `cores` are the numbers by which an ARM CPU names its
    cores. Of a node, as kubeadm wrote them: `node_ip`, and on a control plane `pods`, the range
    of their addresses. `server`: where its Kubernetes has the API."""

    root: bool
    machine: str
    userland: str
    kernel: str
    distribution: str
    release: str
    codename: str
    memory_mb: int
    cpus: int
    cgroup: str
    controllers: tuple[str, ...]
    machine_id: str
    addresses: tuple[str, ...]
    ca: str
    trusts: bool
    packages: Mapping[str, str]
    held: frozenset[str]
    ours: bool
    room: Mapping[str, int]
    routes: Mapping[ipaddress.IPv4Network, str]
    firewalls: tuple[str, ...]
    swap_units: tuple[str, ...]
    foreign: tuple[str, ...]
    offset: float
    cores: tuple[str, ...] = ()
    node_ip: str = ""
    pods: str = ""
    server: str = ""

    @classmethod
    def parse(cls, values: Mapping[str, str], foreign: tuple[str, ...], now: float) -> "Checkup":
        """From the lines key=value of the fact; `now` is the controller's Unix time."""
        # With what systemctl says beside.
        units = {k: values.get(k, "").split() for k in ("firewalls", "swap")}
        packages = {k[8:]: v.split() for k, v in values.items() if k.startswith("package.") and v}
        return cls(
            root=values.get("uid") == "0",
            machine=values.get("machine", ""),
            userland=values.get("userland", ""),
            kernel=values.get("kernel", ""),
            distribution=values.get("distribution", ""),
            release=values.get("release", ""),
            codename=values.get("codename", ""),
            memory_mb=int(values.get("memory") or 0) // 1024,
            cpus=int(values.get("cpus") or 0),
            cgroup=values.get("cgroup", ""),
            controllers=tuple(values.get("controllers", "").split()),
            machine_id=values.get("machine_id", ""),
            addresses=tuple(values.get("addresses", "").split()),
            ca=values.get("ca", "").partition(" ")[0],
            trusts=bool(values.get("trusts")),
            # One that was removed is still known, as "deinstall".
            packages={k: v[-1] for k, v in packages.items() if v[0] in ("install", "hold")},
            held=frozenset(k for k, v in packages.items() if v[0] == "hold"),
            ours=bool(values.get("ours")),
            room=_room_of(values.get("room", "")),
            routes=dict(_route(text) for text in values.get("routes", "").split()),
            firewalls=tuple(each for each in FIREWALLS if each in units["firewalls"]),
            swap_units=tuple(each for each in SWAP_UNITS if each in units["swap"]),
            foreign=foreign,
            offset=float(values.get("clock") or now) - now,
            cores=tuple(values.get("cores", "").split()),
            node_ip=values.get("node_ip", ""),
            pods=values.get("pods", ""),
            server=values.get("server", ""),
        )


def _room_of(text: str) -> dict[str, int]:
    """From "/var:20000000:/ ...", a directory, the KiB free, and the disk, as df has them."""
    result: dict[str, int] = {}
    disks = set()
    for directory, free, disk in (each.split(":") for each in text.split()):
        if disk not in disks and free.isdigit():
            result[directory] = int(free) * 1024 // 10**6
        disks.add(disk)
    return result


def _route(text: str) -> tuple[ipaddress.IPv4Network, str]:
    """From "eth0:0000A8C0:00FFFFFF", as /proc/net/route has it: in the order of the host's bytes,
    which is little-endian on all architectures that there are."""
    card, address, mask = text.split(":")
    parts = [ipaddress.IPv4Address(struct.pack("<I", int(each, 16))) for each in (address, mask)]
    return ipaddress.IPv4Network(f"{parts[0]}/{parts[1]}"), card


@dataclass(frozen=True)
class Wanted:
    """What one host is to be. `ignored` are names of kubeadm's checks that are passed over;
    `networks` are those of the cluster, by what has its addresses there ("pods"); `bundle`: its
    parts come from a bundle; `proxy`: the images of its own way to the API."""

    name: str
    address: str
    control_plane: bool
    ignored: tuple[str, ...] = ()
    networks: Mapping[str, str] = field(default_factory=dict)
    version: str = versions.KUBERNETES
    bundle: bool = False
    proxy: tuple[str, ...] = ()


def findings(host: Checkup, wanted: Wanted) -> list[str]:
    """What is wrong with one host by itself; nothing: an empty list."""
    if not host.root:
        return ["commands do not run as root; set _sudo for it in the inventory, or ssh_user root"]
    return [
        *_names(host, wanted),
        *_hardware(host, wanted),
        *_system(host),
        *_others(host),
        *(_settled(host, wanted) if host.ca else _room(host, wanted)),
    ]


def _others(host: Checkup) -> list[str]:
    """What somebody else has there that would work against us."""
    result = [
        f"{path} is of another Kubernetes; remove that first"
        for path in host.foreign
        if path in FOREIGN
    ]
    if not host.ours:
        result += [
            f"{path} is of a containerd that is not ours to configure; stop and remove that first,"
            " or take another machine"
            for path in host.foreign
            if path in FOREIGN_CONTAINERDS
        ]
    there = [] if host.ours else [name for name in CONTAINERDS[1:] if name in host.packages]
    if there:
        result.append(
            f"{' and '.join(there)} brought a containerd that is not ours to configure; run"
            f" `apt-get remove {' '.join(there)}` on it, or take another machine"
        )
    elif "containerd.io" in host.held and not host.ours:
        result.append(
            f"containerd.io {host.packages['containerd.io']} is held by somebody; run `apt-mark"
            " unhold containerd.io` on it if barekube may replace it"
        )
    result += [
        f"{unit} is active and would drop what nodes say to each other, or their rules with its"
        f" own; {_without(unit, node=bool(host.ca))}"
        for unit in host.firewalls
    ]
    result += [
        f"{unit} brings swap back at every boot; run `systemctl disable --now {unit}` on it"
        for unit in host.swap_units
    ]
    return result


def _without(firewall: str, *, node: bool) -> str:
    """How a host is rid of a firewall."""
    if node and firewall == _NFTABLES:
        # Debian's unit ends with `nft flush ruleset`.
        return (
            f"run `systemctl disable {firewall}` on it (--now would drop the rules of its pods"
            " too), then deploys/maintain.py --data reboot=true on it"
        )
    return f"run `{FIREWALLS[firewall]}` on it"


def _settled(host: Checkup, wanted: Wanted) -> list[str]:
    """Of a node: whether version, address and range are the wanted ones; no stage changes them."""
    said = [
        other_version(host.packages.get("kubelet"), wanted.version),
        other_runtime(
            host.packages.get("containerd.io"),
            versions.containerd_deb(host.distribution, host.release, host.codename),
        ),
        other_address(wanted.name, host.node_ip, wanted.address),
        other_range(host.pods, wanted.networks["pods"]) if host.pods else None,
    ]
    return [each for each in said if each]


def other_version(deb: str | None, wanted: str) -> str | None:
    """A sentence for the kubelet package of a node that is not of the wanted version."""
    version = deb.partition("-")[0] if deb else wanted
    if version == wanted:
        return None
    return (
        f"it runs Kubernetes {version} and group_data says {wanted}; run deploys/upgrade.py, or set"
        " kubernetes_version back"
    )


def other_runtime(deb: str | None, wanted: str) -> str | None:
    """A sentence for the containerd.io package of a node that is not the wanted one."""
    if deb in (None, wanted):
        return None
    return (
        f"it runs containerd.io {deb} and this barekube has {wanted}; run deploys/upgrade.py, which"
        " drains it before"
    )


def _room(host: Checkup, wanted: Wanted) -> list[str]:
    """Of a machine that is no node yet: whether it has room and addresses for what is to come."""
    result = [
        # Never rounded up to what is needed.
        f"it has {free // 100 / 10:.1f} GB free under {directory} and a node needs"
        f" {ROOM[directory] // 1000}; make room, or mount a larger disk there"
        for directory, free in {"/var": 0, **host.room}.items()
        if free < ROOM[directory]
    ]
    for what, network in wanted.networks.items():
        result += [
            f"its route to {route} ({card}) overlaps the network of {what}, {network}; choose"
            " another one"
            for route, card in host.routes.items()
            if route.prefixlen >= _WIDE and route.overlaps(ipaddress.IPv4Network(network))
        ]
    # Weave does not start where its network is in any route but the default one (launch.sh).
    pods = ipaddress.IPv4Network(wanted.networks.get("pods", "0.0.0.0/32"))
    result += [
        f"its route to {route} ({card}) is a half of all addresses, those of pods too; let what"
        " made it (a VPN) set a default route instead"
        for route, card in host.routes.items()
        if 0 < route.prefixlen < _WIDE and route.overlaps(pods)
    ]
    return result


def slow_disk(times: Sequence[float]) -> str | None:
    """A warning if etcd would suffer on a disk; `times` are those of small synced writes, in ms."""
    p99 = sorted(times)[len(times) * 99 // 100 - 1]
    if p99 <= SYNC_LIMIT:
        return None
    return (
        f"warning: its disk takes {p99:.0f} ms to sync a small write (p99), and etcd wants"
        f" {SYNC_LIMIT:.0f}; expect slow answers of the API, or give /var/lib/etcd an SSD"
    )


def _names(host: Checkup, wanted: Wanted) -> list[str]:
    result = []
    if host.addresses and wanted.address not in host.addresses:
        result.append(
            f"address {wanted.address} is not its own ({', '.join(host.addresses)});"
            " correct `address` in the inventory"
        )
    if not re.fullmatch(r"[0-9a-f]{32}", host.machine_id):
        result.append("/etc/machine-id is missing or empty; run systemd-machine-id-setup on it")
    return result


def architecture(host: Checkup) -> str | None:
    """Kubernetes' name of what the host runs, or None. A 32-bit system on a 64-bit CPU is one of
    32 bits."""
    if _other_userland(host):
        return None
    if host.machine in ("aarch64", "armv8l") and host.userland == "armhf":
        return "arm"
    return versions.ARCHITECTURES.get(host.machine)


def _other_userland(host: Checkup) -> bool:
    """Whether its system is one that there are no packages for, whatever its CPU: i386, armel."""
    return host.userland not in ("", *versions.DEBIAN_ARCHITECTURES.values())


def narrow(host: Checkup) -> str | None:
    """Advice for a 32-bit system on a 64-bit CPU, which is taken for what it runs.

    A kernel of 32 bits says armv7l on such a CPU too; ARM's cores of 64 bits are 0xd03 and up,
    0xd01 (Cortex-A32) the one of that series without them.
    """
    wide = any(core.startswith("0xd") and core != "0xd01" for core in host.cores)
    if architecture(host) != "arm" or not (wide or host.machine != "armv7l"):
        return None
    return (
        "it runs a 32-bit system on a 64-bit CPU and is taken as 32-bit ARM; a 64-bit system would"
        " spare it the bundle"
    )


def _hardware(host: Checkup, wanted: Wanted) -> list[str]:
    result = []
    arch = architecture(host)
    if _other_userland(host):
        known = ", ".join(versions.DEBIAN_ARCHITECTURES.values())
        result.append(
            f"there are no packages for a system of {host.userland}, only of {known}; install one"
            f" of these if its CPU ({host.machine}) can run it, else take another machine"
        )
    elif arch is None:
        known = ", ".join(versions.ARCHITECTURES)
        result.append(
            f"there are no packages for its CPU {host.machine}, only for {known}; take another"
            " machine"
        )
    elif wanted.control_plane and arch not in versions.CONTROL_PLANES:
        result.append("etcd does not support 32-bit ARM; make it a worker")
    elif wrong := parts.missing(arch, host.distribution, host.release, bundle=wanted.bundle):
        result.append(wrong)
    least = _CONTROL_PLANE_MB if wanted.control_plane else WORKER_MB
    what = "a control plane" if wanted.control_plane else "a worker"
    if host.memory_mb < least:
        result.append(f"it has {host.memory_mb} MB of memory and {what} needs {least}; add some")
    few = host.cpus < _CONTROL_PLANE_CPUS and "NumCPU" not in wanted.ignored
    if wanted.control_plane and few:
        result.append(
            f"it has {host.cpus} CPU and a control plane needs {_CONTROL_PLANE_CPUS}; take another"
            " machine, or name NumCPU in group_data's ignored_preflight"
        )
    return result


def without_ceph(host: Checkup) -> str | None:
    """A sentence for a storage host on which Ceph does not run; where nothing does, `findings` has
    said why."""
    arch = architecture(host)
    return None if arch is None or arch in rook.ARCHITECTURES else rook.without_ceph(arch)


def _system(host: Checkup) -> list[str]:
    result = []
    if host.release not in RELEASES.get(host.distribution, ()):
        result.append(f"{host.distribution} {host.release} is not supported; install {_NAMES}")
    numbers = re.match(r"\d+\.\d+", host.kernel)
    try:
        old = Version(numbers[0] if numbers else "") < _OLDEST_KERNEL
    except InvalidVersion:
        old = True
    if old:
        result.append(f"kernel {host.kernel} is older than {_OLDEST_KERNEL}; boot a newer one")
    lacking = [name for name in _CONTROLLERS if name not in host.controllers]
    if host.cgroup != "cgroup2fs":
        result.append("it runs cgroup v1; boot with systemd.unified_cgroup_hierarchy=1")
    elif lacking:
        result.append(
            f"cgroup v2 lacks {', '.join(lacking)}; boot with"
            f" {' '.join(f'cgroup_enable={name}' for name in lacking)}"
        )
    return result
