"""The machines of the lab, read from lab/hosts.yaml and checked."""

import ipaddress
import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from bundle.debian import RELEASES
from lab.emulation import BOARDS, NATIVE
from lab.errors import LabError

FILE: Final = Path(__file__).parent / "hosts.yaml"
NETWORK: Final = ipaddress.IPv4Network("10.77.0.0/24")
GATEWAY: Final = "10.77.0.1"
OUTER: Final = ipaddress.IPv4Network("10.78.0.0/24")
GROUPS: Final = ("control_plane", "workers")
# ubda is the root disk; User Mode Linux has ubdb to ubdh beside it.
_MOST_DISKS: Final = 7
_SIZE: Final = re.compile(r"[1-9][0-9]*[MG]")
_NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,9}[a-z0-9])?")


@dataclass(frozen=True)
class Host:
    """One machine. Sizes are as UML and truncate(1) read them ("4G")."""

    name: str
    address: str
    group: str
    debian: str
    memory: str = "3G"
    user: str = "root"
    spare: bool = False
    data_disks: tuple[str, ...] = ()
    outer: str | None = None
    edge: bool = False
    arch: str = NATIVE

    @property
    def emulated(self) -> bool:
        return self.arch != NATIVE

    @property
    def mac(self) -> str:
        """A locally administered address that is nobody else's in the lab."""
        return "02:77:" + ":".join(
            f"{byte:02x}" for byte in ipaddress.ip_address(self.address).packed
        )

    @property
    def macs(self) -> tuple[str, str]:
        """Those of its two network cards."""
        return self.mac, self.mac.replace("02:77", "02:78", 1)


@dataclass(frozen=True)
class Lab:
    """All machines, in the order of the file."""

    hosts: tuple[Host, ...]

    def host(self, name: str) -> Host:
        """Raises LabError for a name that is not in the file."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise LabError(f"the lab has no host {name}; it has {known}")


class _Loader(yaml.SafeLoader):
    """YAML of which nothing is dropped in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise LabError(f"{key.value} is there again in line {line}; keep one of them")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load(file: Path = FILE) -> Lab:
    """Read the file. Raises LabError, with the first thing that is wrong and what to write."""
    try:
        content = yaml.load(file.read_text(), _Loader)  # noqa: S506 - it is a SafeLoader
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise LabError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from None
    listed = content.get("hosts") if isinstance(content, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise LabError(f"{file} has no `hosts:` with a host a line")
    hosts = tuple(_host(name, values) for name, values in listed.items())
    for field in ("address", "outer"):
        seen: dict[str, str] = {}
        for host in hosts:
            value = getattr(host, field)
            if value and value in seen:
                raise LabError(f"{host.name} and {seen[value]} have the same {field} {value}")
            seen[value] = host.name
    return Lab(hosts)


def _host(name: Any, values: Any) -> Host:  # noqa: ANN401
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise LabError(f"{name!r} is no name for a host; write up to 11 of a-z, 0-9 and -")
    if not isinstance(values, dict):
        raise LabError(f"{name}: write its address, group and debian behind it")
    known = set(Host.__dataclass_fields__) - {"name"}
    if unknown := sorted(map(str, set(values) - known)):
        raise LabError(f"{name}: {unknown[0]} is not known; there are {', '.join(sorted(known))}")
    if missing := sorted({"address", "group", "debian"} - set(values)):
        raise LabError(f"{name}: {missing[0]} is missing")
    disks = values.get("data_disks", [])
    if not isinstance(disks, list) or len(disks) > _MOST_DISKS:
        raise LabError(f"{name}: data_disks is a list of up to {_MOST_DISKS} sizes, as [2G, 512M]")
    host = Host(name=name, **{**values, "data_disks": tuple(disks)})
    _check(host)
    return host


def _check(host: Host) -> None:
    _check_address(host.name, host.address, NETWORK)
    if host.outer is not None:
        _check_address(host.name, host.outer, OUTER)
    if host.group not in GROUPS:
        raise LabError(f"{host.name}: group is one of {', '.join(GROUPS)}, not {host.group!r}")
    if not isinstance(host.debian, str) or host.debian not in RELEASES:
        raise LabError(f"{host.name}: debian is one of {', '.join(RELEASES)}, not {host.debian!r}")
    for size in (host.memory, *host.data_disks):
        if not isinstance(size, str) or not _SIZE.fullmatch(size):
            raise LabError(f"{host.name}: {size!r} is no size; write 512M or 4G")
    if host.arch not in (NATIVE, *BOARDS):
        known = ", ".join((NATIVE, *BOARDS))
        raise LabError(f"{host.name}: arch is one of {known}, not {host.arch!r}")
    if host.emulated and not host.spare:
        raise LabError(f"{host.name}: emulated hosts are slow; make it spare, to boot it by name")
    if host.user not in ("root", "admin"):
        raise LabError(f"{host.name}: user is root or admin, not {host.user!r}")
    for field in ("spare", "edge"):
        if not isinstance(getattr(host, field), bool):
            raise LabError(f"{host.name}: {field} is true or false, not {getattr(host, field)!r}")


def _check_address(name: str, value: object, network: ipaddress.IPv4Network) -> None:
    try:
        address = ipaddress.IPv4Address(value) if isinstance(value, str) else None
    except ValueError:
        address = None
    taken = (network.network_address, network.broadcast_address, ipaddress.IPv4Address(GATEWAY))
    if address is None or address not in network or address in taken:
        raise LabError(f"{name}: {value!r} is no free address of {network}")
