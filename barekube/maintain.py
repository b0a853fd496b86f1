"""Whether a machine has to be rebooted, and why."""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Upkeep:
    """What a host says of its packages and kernel. `booted` is when it was, `kernels` maps those
    that are installed to when they were, in seconds of Unix time; `broken`: apt cannot say what is
    `upgradable`, for packages are half installed."""

    running: str
    booted: int
    kernels: Mapping[str, int]
    required: bool
    upgradable: tuple[str, ...]
    broken: bool = False


def reboot_reason(host: Upkeep) -> str | None:
    """Why the host has to be rebooted, or None.

    A newer kernel that was there at the last boot already and was not chosen would not be chosen
    at the next one either; another flavour ("-cloud-amd64", "-rpi-2712") is for other machines.
    """
    if host.required:
        return "/run/reboot-required is there"
    number, flavour = _parts(host.running)
    newer = [
        (_parts(name)[0], name)
        for name, installed in host.kernels.items()
        if _parts(name)[1] == flavour and _parts(name)[0] > number and installed > host.booted
    ]
    return f"kernel {host.running} runs and {max(newer)[1]} is installed" if newer else None


def _parts(kernel: str) -> tuple[list[int], str]:
    """'6.1.0-40-amd64' -> ([6, 1, 0, 40], 'amd64')."""
    match = re.match(r"[\d.+~-]*", kernel)
    version = match[0] if match else ""
    return [int(each) for each in re.findall(r"\d+", version)], kernel[len(version) :]


def report(host: Upkeep) -> list[str]:
    """What there is to do, a phrase each."""
    result = []
    if host.broken:
        result.append(
            "packages are half installed, see `dpkg --audit`; --data packages=true finishes them"
        )
    if host.upgradable:
        result.append(
            f"{len(host.upgradable)} packages can be upgraded ({', '.join(host.upgradable[:8])}"
            f"{', ...' if len(host.upgradable) > 8 else ''}); --data packages=true does it"
        )
    if reason := reboot_reason(host):
        result.append(f"a reboot is due ({reason}); --data reboot=true does it")
    return result or [
        "nothing is due by the package lists it has; --data packages=true renews them"
    ]
