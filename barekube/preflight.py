"""Everything that would fail later, found from facts: a sentence a finding, what and what to do."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from barekube import versions

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
_OLDEST_KERNEL = Version("5.15")
_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
# kubeadm's own limit for a control plane (NumCPU, Mem), and what a worker cannot do without.
_CONTROL_PLANE_MB, _WORKER_MB, _CONTROL_PLANE_CPUS = 1700, 900, 2
_CLOCK_LIMIT = 30.0


@dataclass(frozen=True)
class Checkup:
    """What one host said. `offset` is its clock less the controller's, in seconds; `ca` the
    SHA-256 of its /etc/kubernetes/pki/ca.crt, or empty."""

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
    foreign: tuple[str, ...]
    offset: float

    @classmethod
    def parse(cls, values: Mapping[str, str], foreign: tuple[str, ...], now: float) -> "Checkup":
        """From the lines key=value of the fact; `now` is the controller's Unix time."""
        empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        ca = values.get("ca", "")
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
            ca="" if ca == empty else ca,
            trusts=bool(values.get("trusts")),
            packages={k[8:]: v for k, v in values.items() if k.startswith("package.") and v},
            foreign=foreign,
            offset=float(values.get("clock") or now) - now,
        )


@dataclass(frozen=True)
class Wanted:
    """What one host is to be. `ignored` are names of kubeadm's checks that are passed over."""

    name: str
    address: str
    control_plane: bool
    ignored: tuple[str, ...] = ()


def findings(host: Checkup, wanted: Wanted) -> list[str]:
    """What is wrong with one host by itself; nothing: an empty list."""
    if not host.root:
        return ["commands do not run as root; set _sudo for it in the inventory, or ssh_user root"]
    return [
        *_names(host, wanted),
        *_hardware(host, wanted),
        *_system(host),
        *(f"{path} is of another Kubernetes; remove that first" for path in host.foreign),
    ]


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
    if host.machine in ("aarch64", "armv8l") and host.userland == "armhf":
        return "arm"
    if host.machine == "x86_64" and host.userland == "i386":
        return None
    return versions.ARCHITECTURES.get(host.machine)


def _hardware(host: Checkup, wanted: Wanted) -> list[str]:
    result = []
    arch = architecture(host)
    if arch is None:
        known = ", ".join(versions.ARCHITECTURES)
        result.append(f"there are no packages for its CPU {host.machine}, only for {known}")
    elif wanted.control_plane and arch == "arm":
        result.append("etcd does not support 32-bit ARM; make it a worker")
    least = _CONTROL_PLANE_MB if wanted.control_plane else _WORKER_MB
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


def between(hosts: Mapping[str, Checkup], masters: Sequence[str]) -> dict[str, list[str]]:
    """What is wrong between hosts: {name: findings}. `masters` are all control planes there are,
    in the order of the inventory; those that did not answer are not in `hosts`."""
    result: dict[str, list[str]] = {name: [] for name in hosts}
    seen: dict[str, str] = {}
    for name, host in hosts.items():
        twin = seen.setdefault(host.machine_id, name)
        if host.machine_id and twin != name:
            result[name].append(
                f"it has the machine-id of {twin}; remove /etc/machine-id on it and run"
                " systemd-machine-id-setup"
            )
    middle = statistics.median(host.offset for host in hosts.values()) if hosts else 0.0
    for name, host in hosts.items():
        off = host.offset - middle
        if abs(off) > _CLOCK_LIMIT:
            way = "ahead of" if off > 0 else "behind"
            result[name].append(f"its clock is {abs(off):.0f} s {way} the others'; set it")
    for name, sentence in _leftovers(hosts, masters).items():
        result[name].append(sentence)
    return result


def _leftovers(hosts: Mapping[str, Checkup], masters: Sequence[str]) -> dict[str, str]:
    answered = [hosts[name] for name in masters if name in hosts]
    own = next((host.ca for host in answered if host.ca), "")
    if not own and len(answered) < len(masters):
        return {}
    return {
        name: "it is left over from another cluster (its /etc/kubernetes/pki/ca.crt is not this"
        " cluster's); run `kubeadm reset -f` on it and remove /etc/kubernetes"
        for name, host in hosts.items()
        if host.ca and host.ca != own
    }
