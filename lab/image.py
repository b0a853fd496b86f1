"""The guests' root file systems: a minimal Debian, without anything that a stage must install."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from barekube import versions
from bundle.debian import render, sources_in
from bundle.machine import run, run_long
from lab import emulation, kernel
from lab.emulation import BOARDS, LABEL, NATIVE
from lab.paths import CACHE

PACKAGES: Final = (
    "apt",
    # As on any Debian from its installer. Put in on a User Mode Linux, its 140 runs of openssl
    # would take half a minute of every deploy, on a real machine a second.
    "ca-certificates",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "mount",
    "openssh-server",
    "passwd",
    "sudo",
    "systemd",
    "systemd-sysv",
    "udev",
)
# A node has to have 20 GB free under /var. Nothing of it is taken before it is written.
_SIZE: Final = "24G"
# A User Mode Linux has no "cpu MHz" in /proc/cpuinfo, which every real machine has and which
# kubelet insists on.
_CPUINFO: Final = """\
[Unit]
Description=Say the clock rate in /proc/cpuinfo, as real machines do
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'sed "s/^processor.*/&\\\\ncpu MHz\\\\t\\\\t: 2000.000/" /proc/cpuinfo >/run/cpuinfo && mount --bind /run/cpuinfo /proc/cpuinfo'

[Install]
WantedBy=sysinit.target
"""  # noqa: E501
_FILES: Final = {
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    # Nobody answers there; CoreDNS refuses to start without a nameserver to forward to.
    "etc/resolv.conf": "nameserver 10.77.0.1\n",
    "etc/machine-id": "",
    "etc/sudoers.d/admin": "admin ALL=(ALL) NOPASSWD: ALL\n",
    "etc/apt/sources.list": "",
}
# To find every kernel's module that some machine could need takes an emulated one minutes.
_INITRD: Final = (
    'mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d";'
    ' echo MODULES=list >"$1/etc/initramfs-tools/conf.d/lab";'
    " printf '%s\\n' virtio_mmio virtio_blk ext4 crc32c_generic"
    ' >"$1/usr/share/initramfs-tools/modules.d/lab"'
)
_UML_FILES: Final = {
    "etc/fstab": "/dev/ubda / ext4 defaults 0 1\n",
    "etc/systemd/system/lab-cpuinfo.service": _CPUINFO,
}
_EMULATED_FILES: Final = {"etc/fstab": f"LABEL={LABEL} / ext4 defaults 0 1\n"}


def _key() -> str:
    recipe = [LABEL, repr(BOARDS), Path(__file__).read_text(), kernel.directory().name]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def path(release: str, arch: str) -> Path:
    """Where the image of a Debian release is kept; an emulated machine's kernel is beside it."""
    name = release if arch == NATIVE else f"{release}-{arch}"
    return CACHE / f"root-{name}-{_key()}.img"


def build(release: str, arch: str) -> Path:
    """Build the image of a Debian release unless it is there. About a minute, ten if emulated.

    Raises BundleError or LabError if it cannot be built.
    """
    target = path(release, arch)
    if target.exists():
        return target
    if arch != NATIVE:
        emulation.register(arch)
    name = f"Debian {release} {arch}"
    work = CACHE / f"root-work-{release}-{arch}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    print(f"image: {name}, about {'a minute' if arch == NATIVE else '10 minutes'}", flush=True)
    debian_arch = versions.DEBIAN_ARCHITECTURES[arch]
    sources = work / "debian.sources"
    sources.write_text(render(sources_in(work / "apt", release, arch), debian_arch))
    root = work / "root"
    packages = [*PACKAGES, *([] if arch == NATIVE else [BOARDS[arch].kernel, "initramfs-tools"])]
    bootstrap: list[str | Path] = [
        "mmdebstrap",
        "--variant=essential",
        f"--architectures={debian_arch}",
        # It would ask a further program whether this machine runs these.
        "--skip=check/qemu",
        f"--include={','.join(packages)}",
    ]
    if arch != NATIVE:
        bootstrap.append(f"--essential-hook={_INITRD}")
    bootstrap += ["--format=directory", '--aptopt=Acquire::Languages { "none"; }', release, root]
    log = CACHE / f"root-{release}-{arch}.log"
    run_long([*bootstrap, sources], what=name, log=log, env={}, cwd=work)
    _adapt(root, _FILES | (_UML_FILES if arch == NATIVE else _EMULATED_FILES))
    if arch == NATIVE:
        _adapt_to_uml(root)
    else:
        for link, suffix in (("vmlinuz", ".kernel"), ("initrd.img", ".initrd")):
            found = next((root / "boot").glob(f"{link}-*"))
            shutil.copyfile(found, target.with_suffix(suffix))
    image = work / "root.img"
    run(["truncate", "-s", _SIZE, image], what="making the image")
    make: list[str | Path] = ["mkfs.ext4", "-q", "-L", LABEL, "-d", root]
    run([*make, "-E", "lazy_itable_init=1", image], what="making the image")
    image.rename(target)
    shutil.rmtree(work)
    return target


def _enable(root: Path, *units: str) -> None:
    enable: list[str | Path] = ["chroot", root, "systemctl", "-q", "enable", *units]
    run(enable, what="enabling the guests' units")


def _adapt_to_uml(root: Path) -> None:
    modules = root / "usr/lib/modules"
    shutil.copytree(kernel.directory() / "modules", modules, dirs_exist_ok=True, symlinks=True)
    version = next(modules.iterdir()).name
    run(["chroot", root, "depmod", version], what="listing the guests' modules")
    _enable(root, "lab-cpuinfo")


def _adapt(root: Path, files: Mapping[str, str]) -> None:
    for listed in (*root.glob("etc/apt/sources.list.d/*"), *root.glob("etc/ssh/ssh_host_*")):
        listed.unlink()
    shutil.rmtree(root / "var/lib/apt/lists")
    (root / "var/lib/apt/lists/partial").mkdir(parents=True)
    for name, content in files.items():
        file = root / name
        # A release may have a link here, which would be followed.
        file.unlink(missing_ok=True)
        file.write_text(content)
    (root / "etc/sudoers.d/admin").chmod(0o440)
    inside: list[str | Path] = ["chroot", root]
    user = [*inside, "useradd", "-m", "-s", "/bin/bash", "admin"]
    run(user, what="making the user admin")
    _enable(root, "systemd-networkd", "ssh")
    # The network is static: nobody waits for it, and nobody is at the consoles.
    mask = [*inside, "systemctl", "-q", "mask", "systemd-networkd-wait-online", "getty.target"]
    run(mask, what="masking the guests' units")
