"""Machines of another architecture: qemu's emulation of one, with Debian's own kernel.

Programs of that architecture also run here while the root image is made, by qemu's user mode and
the kernel's binfmt_misc.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bundle.machine import run
from lab.errors import LabError

# What User Mode Linux runs; hosts of all others are emulated.
NATIVE: Final = "amd64"
# Of the root file system: which disk comes first is the emulator's business.
LABEL: Final = "lab-root"
_BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")
_MOUNTS: Final = Path("/proc/self/mounts")
# By which a mount of ours is known.
_SOURCE: Final = "barekube-lab"


@dataclass(frozen=True)
class Board:
    """How an architecture is emulated."""

    # qemu's name of it, in the names of its programs too.
    name: str
    cpu: str
    # Debian's package of the kernel.
    kernel: str


BOARDS: Final = {
    # Plain ARMv8.0: the pointer authentication of newer ones takes most of the time to emulate.
    "arm64": Board("aarch64", "cortex-a57", "linux-image-arm64"),
    "arm": Board("arm", "cortex-a15", "linux-image-armmp-lpae"),
}
# Debian package of this machine -> what the lab does with it.
NEEDED: Final = {
    "qemu-system-arm": "machines of another architecture",
    "qemu-user-static": "their root images",
}


def register(arch: str) -> None:
    """Let this machine's kernel run programs of an architecture. Raises LabError."""
    name = f"qemu-{BOARDS[arch].name}"
    if (_BINFMT / name).exists():
        return
    try:
        if not (_BINFMT / "register").exists():
            mount = ["mount", "-t", "binfmt_misc", _SOURCE, str(_BINFMT)]
            run(mount, what="mounting binfmt_misc")
        # What systemd does with it at a boot.
        lines = Path(f"/usr/lib/binfmt.d/{name}.conf").read_text().splitlines()
        (_BINFMT / "register").write_text(next(line for line in lines if line.startswith(":")))
    except OSError as error:
        raise LabError(
            f"this machine's kernel does not run programs for {arch}: {error.strerror} at {_BINFMT}"
        ) from None


def release() -> None:
    """Take back what `register` did, where it was this that mounted binfmt_misc."""
    if f"{_SOURCE} {_BINFMT} " not in _MOUNTS.read_text():
        return
    for board in BOARDS.values():
        entry = _BINFMT / f"qemu-{board.name}"
        if entry.exists():
            entry.write_text("-1")
    run(["umount", _BINFMT], what="unmounting binfmt_misc")


def command(
    arch: str, name: str, memory: str, image: Path, disks: Sequence[Path], mark: Path
) -> list[str]:
    """The command line of a machine; `image` is what its kernel lies beside, `mark` a file that no
    other process has among its words."""
    board = BOARDS[arch]
    words = [f"qemu-system-{board.name}", "-name", name, "-pidfile", str(mark)]
    words += ["-M", "virt", "-cpu", board.cpu, "-smp", "1", "-m", memory, "-nodefaults"]
    words += ["-kernel", str(image.with_suffix(".kernel"))]
    words += ["-initrd", str(image.with_suffix(".initrd"))]
    words += ["-append", f"root=LABEL={LABEL} rw console=ttyAMA0 net.ifnames=0"]
    words += ["-display", "none", "-serial", "stdio"]
    for number, disk in enumerate(disks):
        words += ["-drive", f"if=none,id=d{number},format=raw,file={disk}"]
        words += ["-device", f"virtio-blk-device,drive=d{number}"]
    return words


def cards(taps: Sequence[tuple[str, str]]) -> list[str]:
    """The words for the network cards, (tap, address) each.

    They finish no packets for the guest: a neighbour that listens on a raw socket would see them
    before.
    """
    words = []
    off = ",".join(
        f"{name}=off" for name in ("csum", "gso", "guest_csum", "host_tso4", "host_tso6")
    )
    for number, (tap, mac) in enumerate(taps):
        words += ["-netdev", f"tap,id=n{number},ifname={tap},script=no,downscript=no"]
        words += ["-device", f"virtio-net-device,netdev=n{number},mac={mac},{off}"]
    return words
