"""The guests' root file systems: a minimal Debian, without anything that a stage must install."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Final

from bundle.debian import machine_sources, render, sources_for
from bundle.machine import run, run_long
from lab import kernel
from lab.paths import CACHE

PACKAGES: Final = (
    "apt",
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
    "etc/fstab": "/dev/ubda / ext4 defaults 0 1\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    # Nobody answers there; CoreDNS refuses to start without a nameserver to forward to.
    "etc/resolv.conf": "nameserver 10.77.0.1\n",
    "etc/machine-id": "",
    "etc/systemd/system/lab-cpuinfo.service": _CPUINFO,
    "etc/sudoers.d/admin": "admin ALL=(ALL) NOPASSWD: ALL\n",
    "etc/apt/sources.list": "",
}


def _key() -> str:
    recipe = [PACKAGES, _SIZE, _FILES, Path(__file__).read_text(), kernel.directory().name]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def path(release: str) -> Path:
    """Where the image of a Debian release is kept."""
    return CACHE / f"root-{release}-{_key()}.img"


def build(release: str, kernel_directory: Path) -> Path:
    """Build the image of a Debian release unless it is there. About a minute.

    Raises BundleError if it cannot be built.
    """
    target = path(release)
    if target.exists():
        return target
    work = CACHE / f"root-work-{release}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    print(f"image: Debian {release}, about a minute", flush=True)
    sources = work / "debian.sources"
    sources.write_text(render(sources_for(release, machine_sources()), "amd64"))
    root = work / "root"
    bootstrap: list[str | Path] = [
        "mmdebstrap",
        "--variant=essential",
        f"--include={','.join(PACKAGES)}",
    ]
    bootstrap += ["--format=directory", '--aptopt=Acquire::Languages { "none"; }', release, root]
    log = CACHE / f"root-{release}.log"
    run_long([*bootstrap, sources], what=f"Debian {release}", log=log, env={}, cwd=work)
    _adapt(root, kernel_directory)
    image = work / "root.img"
    run(["truncate", "-s", _SIZE, image], what="making the image")
    make: list[str | Path] = ["mkfs.ext4", "-q", "-d", root, "-E", "lazy_itable_init=1", image]
    run(make, what="making the image")
    image.rename(target)
    shutil.rmtree(work)
    return target


def _adapt(root: Path, kernel_directory: Path) -> None:
    for listed in (*root.glob("etc/apt/sources.list.d/*"), *root.glob("etc/ssh/ssh_host_*")):
        listed.unlink()
    shutil.rmtree(root / "var/lib/apt/lists")
    (root / "var/lib/apt/lists/partial").mkdir(parents=True)
    for name, content in _FILES.items():
        file = root / name
        # A release may have a link here, which would be followed.
        file.unlink(missing_ok=True)
        file.write_text(content)
    (root / "etc/sudoers.d/admin").chmod(0o440)
    modules = root / "usr/lib/modules"
    shutil.copytree(kernel_directory / "modules", modules, dirs_exist_ok=True, symlinks=True)
    version = next(modules.iterdir()).name
    inside: list[str | Path] = ["chroot", root]
    run([*inside, "depmod", version], what="listing the guests' modules")
    user = [*inside, "useradd", "-m", "-s", "/bin/bash", "admin"]
    run(user, what="making the user admin")
    enable = [*inside, "systemctl", "-q", "enable", "systemd-networkd", "ssh", "lab-cpuinfo"]
    run(enable, what="enabling the guests' units")
    # The network is static: nobody waits for it, and nobody is at the consoles.
    mask = [*inside, "systemctl", "-q", "mask", "systemd-networkd-wait-online", "getty.target"]
    run(mask, what="masking the guests' units")
