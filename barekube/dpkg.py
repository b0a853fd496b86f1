"""Debian packages as wanted and as found on one host."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class FoundPackage(Protocol):
    """What a fact knows of a package."""

    @property
    def version(self) -> str: ...
    @property
    def held(self) -> bool: ...
    @property
    def status(self) -> str: ...


@dataclass(frozen=True)
class Plan:
    """What to install ('name' or 'name=version'), what to hold, and how that reads."""

    install: tuple[str, ...]
    hold: tuple[str, ...]
    said: tuple[str, ...]


def is_whole(package: FoundPackage | None) -> bool:
    """Whether a package is there, and was not cut off half-way."""
    return package is not None and package.status == "installed"


def plan(wanted: Mapping[str, str | None], found: Mapping[str, FoundPackage]) -> Plan:
    """Compare packages. `wanted` maps a name to its exact version, which is then held too, or
    to None for whatever version the host's sources have."""
    install, hold, said = [], [], []
    for name, version in wanted.items():
        there = found.get(name)
        whole = is_whole(there)
        if there is None or there.status == "not-installed" or there.status == "config-files":
            install.append(f"{name}={version}" if version else name)
            said.append(f"{name}: install {version or 'the version of its release'}")
        elif not whole:
            install.append(f"{name}={version}" if version else name)
            said.append(f"{name}: finish its installation ({there.status})")
        elif version and there.version != version:
            install.append(f"{name}={version}")
            said.append(f"{name}: {there.version} -> {version}")
        right = there if there and whole and there.version == version else None
        # apt takes the hold from a held package that it changes.
        if version and not (right and right.held):
            hold.append(name)
            if right:
                said.append(f"{name}: hold")
    return Plan(tuple(install), tuple(hold), tuple(said))
