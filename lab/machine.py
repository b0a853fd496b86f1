"""The machine that carries the lab: its Debian packages and its settings."""

import os
from pathlib import Path
from typing import Final

from bundle.machine import installed, run
from lab import emulation
from lab.errors import LabError
from lab.paths import MEMORY

# Debian package of this machine -> what the lab does with it.
NEEDED: Final = {
    "bc": "the kernel's build",
    "bison": "the kernel's build",
    "curl": "the tests ask the doors with it, from outside the hosts",
    "e2fsprogs": "makes the guests' file systems, and puts files into them without mounting",
    "ethtool": "switches offloads off on the guests' wires",
    "flex": "the kernel's build",
    "gcc": "the kernel's build",
    "iproute2": "namespace, bridge and wires",
    "kmod": "the guests' list of modules",
    "libc6-dev": "the kernel's build",
    "make": "the kernel's build",
    "mmdebstrap": "the guests' Debian",
    "nftables": "keeps the guests to themselves and the bundle",
    "openssh-client": "ssh to the guests, and their keys",
    "util-linux": "taskset: a guest that wanders between cores is 3 to 6 times slower",
    "xz-utils": "unpacks the kernel's source",
}
_MAPS: Final = Path("/proc/sys/vm/max_map_count")
_MAPS_WANTED: Final = 1048576


def need_root() -> None:
    """Raises LabError for anybody else, before anything is half done."""
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces and mounts; run it as root")


def ready() -> bool:
    """Whether the guests have their memory here: `prepare` ran since this machine started."""
    return MEMORY.is_mount()


def prepare(*, emulated: bool) -> None:
    """Install what is missing, and make room for the guests' memory.

    Raises LabError if this machine does not allow it.
    """
    needed = NEEDED | (emulation.NEEDED if emulated else {})
    missing = sorted(package for package in needed if installed(package) is None)
    if missing:
        print(f"installing on this machine: {' '.join(missing)}", flush=True)
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "-qq", "update"], what="apt-get update", env=env)
        install = ["apt-get", "-qq", "-y", "install", "--no-install-recommends", *missing]
        run(install, what="installing packages", env=env)
    # Each guest page that has no neighbour is a mapping of its own: with the default of 65530
    # an API server crawls.
    if int(_MAPS.read_text()) < _MAPS_WANTED:
        try:
            _MAPS.write_text(str(_MAPS_WANTED))
        except OSError:
            raise LabError(
                f"vm.max_map_count cannot be raised to {_MAPS_WANTED}, without which the guests'"
                " API server hangs; raise it on the machine that this one runs on"
            ) from None
    if not MEMORY.is_mount():
        MEMORY.mkdir(exist_ok=True)
        size = f"size={_memory_share()}k,mode=700"
        run(["mount", "-t", "tmpfs", "-o", size, "barekube-lab", MEMORY], what="mounting a tmpfs")


def _memory_share() -> int:
    """Nine tenths of this machine's memory, in kB: what all guests may touch together."""
    total = Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]
    return int(total) * 9 // 10


def release() -> None:
    """Take back what `prepare` mounted; packages and the kernel's limit stay."""
    if MEMORY.is_mount():
        run(["umount", MEMORY], what=f"unmounting {MEMORY}")
    if MEMORY.is_dir():
        MEMORY.rmdir()
    emulation.release()
