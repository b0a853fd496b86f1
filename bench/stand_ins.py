"""Machines for bench/noop.py: cheap, with a real sshd each, on loopback addresses.

Real: Debian's root file system (an overlay of its own), SSH, shell, Python, and what dpkg, apt,
stat and grep say of it. Invented, for both sides alike: systemctl (a script), the packages of
Kubernetes and containerd (dpkg's record of them), /proc/sys, the cgroup controllers' names.
"""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from barekube import hosts_file
from bundle.debian import machine_sources, render, sources_for
from tests.plan import machines

KEPT: Final = Path.home() / ".cache/barekube/bench"
WORK: Final = KEPT / "work"
ANSIBLE: Final = KEPT / "ansible-2.19.14"
_ROOT: Final = KEPT / "root-1"
_PACKAGES: Final = ("openssh-server", "procps", "python3-apt", *machines.DEFAULTS["host_packages"])
_SYSTEMCTL: Final = """\
#!/bin/sh
command=$1
for unit; do
  [ -f "/etc/stand-in/$unit" ] || continue
  case $command in
    show) cat "/etc/stand-in/$unit"; echo ;;
    is-enabled) sed -n s/^UnitFileState=//p "/etc/stand-in/$unit" ;;
  esac
done
"""
_STANZA: Final = """
Package: {name}
Status: {want} ok installed
Architecture: amd64
Maintainer: nobody
Version: {version}
Description: only said to be here
"""
# /proc/sys and cgroup.controllers are hidden behind files of the stand-in's own.
_START: Final = """\
hostname "$1"; cd "$2"
mount -t proc proc proc
mount -t tmpfs tmpfs sys; mkdir -p sys/fs/cgroup run/sshd
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --bind etc/stand-in/controllers sys/fs/cgroup/cgroup.controllers
mount --bind etc/stand-in/sys proc/sys
exec chroot . /usr/sbin/sshd -D -o ListenAddress="$3" -o PidFile=none
"""


@dataclass(frozen=True)
class StandIn:
    """One of them; `files` is the text of those that barekube wants there."""

    name: str
    address: str
    files: dict[str, str]
    packages: dict[str, tuple[str, str]]


def prepare() -> None:
    """Make what is kept: the stand-ins' root file system, and Ansible. Two minutes, once."""
    KEPT.mkdir(parents=True, exist_ok=True)
    if not _ROOT.exists():
        print("Debian for the stand-ins, about a minute", file=sys.stderr)
        making = KEPT / "root.making"
        shutil.rmtree(making, ignore_errors=True)
        listed = KEPT / "debian.sources"
        listed.write_text(render(sources_for("bookworm", machine_sources()), "amd64"))
        words = ["mmdebstrap", "--quiet", "--variant=apt", "--format=directory"]
        words += [f"--include={','.join(_PACKAGES)}", "bookworm", str(making), str(listed)]
        subprocess.run(words, check=True)
        shutil.rmtree(making / "var/lib/apt/lists")
        making.rename(_ROOT)
    if not ANSIBLE.exists():
        making = KEPT / "ansible.making"
        subprocess.run([sys.executable, "-m", "venv", "--clear", making], check=True)
        pip = [str(making / "bin/python"), "-m", "pip", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "ansible-core==2.19.14"], check=True)
        # Its programs name their interpreter by path; `python -m ansible` does not.
        making.rename(ANSIBLE)


def start(count: int) -> list[StandIn]:
    """Start them. Only in namespaces of mounts, processes and network that nobody else uses.

    With the namespaces all of it ends, however this process ends.
    """
    WORK.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", WORK], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(WORK / "key")]
    subprocess.run(key, check=True)
    machines.ALL[:] = [(f"metal-{n}", f"127.0.1.{n}", n == 1) for n in range(1, count + 1)]
    result = [_start(name, address) for name, address, _ in machines.ALL]
    public = " ".join((_ROOT / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])
    known = "".join(f"{each.address} {public}\n" for each in result)
    (WORK / "known_hosts").write_text(known)
    for each in result:
        _wait(each.address)
    return result


def _start(name: str, address: str) -> StandIn:
    top = WORK / name
    root = top / "root"
    for each in ("upper", "work", "root"):
        (top / each).mkdir(parents=True)
    layers = f"lowerdir={_ROOT},upperdir={top}/upper,workdir={top}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", root], check=True)
    machine = machines.joined(name)
    machine.files["/etc/machine-id"] = hashlib.md5(name.encode()).hexdigest() + "\n"  # noqa: S324
    machine.files["/etc/hosts"] = hosts_file.with_nodes(
        "127.0.0.1 localhost\n", machines.ALL, "api.barekube"
    )
    _fill(root, machine)
    apart = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
    subprocess.Popen([*apart, "sh", "-ec", _START, "sh", name, root, address])
    return StandIn(name, address, machine.files, machine.packages)


def _fill(root: Path, machine: machines.Machine) -> None:
    """Make the root file system of a stand-in that of `machine`."""
    own = "/etc/stand-in/"
    for path, text in machine.files.items():
        if not path.startswith("/proc/") or path.startswith("/proc/sys/"):
            _write(root, path.replace("/proc/", own), text)
    for path in machine.secret:
        _write(root, path, "secret\n", 0o600)
    _write(root, f"{own}controllers", "cpuset cpu io memory pids\n")
    blocks = "\n".join(machine.answer()).partition("#units\n")[2].partition("#modules")[0]
    for block in blocks.strip().split("\n\n"):
        _write(root, own + block.partition("\n")[0].removeprefix("Id="), block + "\n")
    builtin = "".join(f"kernel/{module}.ko\n" for module in machine.modules)
    _write(root, f"/lib/modules/{os.uname().release}/modules.builtin", builtin)
    _write(root, "/usr/bin/systemctl", _SYSTEMCTL, 0o755)
    _write(root, "/root/.ssh/authorized_keys", (WORK / "key.pub").read_text(), 0o600)
    with (root / "var/lib/dpkg/status").open("a") as status:
        for package, (version, want) in machine.packages.items():
            if package not in _PACKAGES:
                status.write(_STANZA.format(name=package, want=want, version=version))
                _write(root, f"/var/lib/dpkg/info/{package}.list", "")


def _write(root: Path, path: str, text: str, mode: int = 0o644) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    # Before the units' start, or containerd would have to be restarted.
    os.utime(file, (machines.BOOT, machines.BOOT))


def _wait(address: str) -> None:
    for _ in range(100):
        try:
            socket.create_connection((address, 22)).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"the sshd on {address} did not start")
