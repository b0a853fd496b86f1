"""A guest's disks: a sparse copy of the image with an identity of its own, and raw data disks."""

import os
import secrets
import tempfile
from pathlib import Path

from bundle.machine import run
from lab import shell
from lab.errors import LabError
from lab.hosts import GATEWAY, Host
from lab.paths import DISKS, KEY, KNOWN_HOSTS


def root_disk(host: Host) -> Path:
    return DISKS / f"{host.name}.root"


def data_disks(host: Host) -> list[Path]:
    return [DISKS / f"{host.name}.data{number}" for number in range(len(host.data_disks))]


def make(host: Host, image: Path) -> None:
    """Make the disks of a host; none of them may be there yet.

    Raises BundleError or LabError if they cannot be made.
    """
    target = root_disk(host)
    DISKS.mkdir(parents=True, exist_ok=True)
    new = target.with_suffix(".new")
    run(["cp", "--sparse=always", image, new], what=f"copying the disk of {host.name}")
    with tempfile.TemporaryDirectory() as folder:
        _identify(host, new, Path(folder))
    for disk, size in zip(data_disks(host), host.data_disks, strict=True):
        run(["truncate", "-s", size, disk], what=f"making {disk}")
    new.rename(target)


def _identify(host: Host, disk: Path, work: Path) -> None:
    """Write what makes this machine itself: hosts that start from one image and draw the same
    random numbers would have one machine-id, and so one peer name in the pod network."""
    files = {
        "/etc/hostname": (f"{host.name}\n".encode(), 0o644),
        # As Debian's installer has it: a trap for a kubelet, and without it sudo asks a nameserver.
        "/etc/hosts": (_hosts(host).encode(), 0o644),
        "/etc/machine-id": (f"{secrets.token_hex(16)}\n".encode(), 0o444),
        "/var/lib/systemd/random-seed": (os.urandom(512), 0o600),
        "/etc/systemd/network/10-inner.network": (_network(host).encode(), 0o644),
        "/root/.ssh/authorized_keys": (KEY.with_suffix(".pub").read_bytes(), 0o600),
        "/home/admin/.ssh/authorized_keys": (KEY.with_suffix(".pub").read_bytes(), 0o644),
    }
    if host.outer:
        text = f"{_card(host, 1)}\n[Network]\nAddress={host.outer}/24\n"
        files["/etc/systemd/network/20-outer.network"] = (text.encode(), 0o644)
    key = work / "ssh_host_ed25519_key"
    shell.generate(key, host.name)
    public = key.with_suffix(".pub").read_bytes()
    files["/etc/ssh/ssh_host_ed25519_key"] = (key.read_bytes(), 0o600)
    files["/etc/ssh/ssh_host_ed25519_key.pub"] = (public, 0o644)
    _know(host, public.decode())
    script = ["mkdir /root/.ssh", "mkdir /home/admin/.ssh", "sif /root/.ssh mode 040700"]
    for number, (path, (content, mode)) in enumerate(files.items()):
        source = work / f"file{number}"
        source.write_bytes(content)
        script += [f"rm {path}", f"write {source} {path}", f"sif {path} mode 0{0o100000 | mode:o}"]
        script += [f"sif {path} uid 0", f"sif {path} gid 0"]
    run(
        ["debugfs", "-w", "-f", "/dev/stdin", disk],
        what=f"giving {host.name} its identity",
        stdin="\n".join(script).encode(),
    )
    # debugfs ends with 0 whatever it could not write.
    reading = [f"dump {path} {work}/read{number}" for number, path in enumerate(files)]
    what = f"reading the identity of {host.name}"
    run(["debugfs", "-f", "/dev/stdin", disk], what=what, stdin="\n".join(reading).encode())
    for number, (path, (content, _)) in enumerate(files.items()):
        read = work / f"read{number}"
        if not read.exists() or read.read_bytes() != content:
            raise LabError(f"{path} was not written to {host.name}'s disk; is {disk.parent} full?")


def _card(host: Host, number: int) -> str:
    # An emulator's cards come up in any order.
    match = f"MACAddress={host.macs[number]}" if host.emulated else f"Name=vec{number}"
    return f"[Match]\n{match}\n"


def _hosts(host: Host) -> str:
    return f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n::1 localhost\n"


def _network(host: Host) -> str:
    return (
        f"{_card(host, 0)}\n"
        f"[Network]\nAddress={host.address}/24\nGateway={GATEWAY}\n"
        # kubelet and the pod network write routes that networkd would take for foreign.
        "[Link]\nRequiredForOnline=no\n"
    )


def _know(host: Host, public: str) -> None:
    kind, key, *_ = public.split()
    others = KNOWN_HOSTS.read_text().splitlines() if KNOWN_HOSTS.exists() else []
    kept = [line for line in others if not line.startswith(f"{host.address} ")]
    KNOWN_HOSTS.write_text("\n".join([*kept, f"{host.address} {kind} {key}"]) + "\n")
