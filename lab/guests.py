"""The guests' processes, and the bundle's server: started, found, ended."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lab import disks, emulation, wires
from lab.errors import LabError
from lab.hosts import GATEWAY, Host
from lab.paths import BUNDLE, CACHE, LOGS, MEMORY, NAMESPACE, UML


def _processes() -> Iterator[tuple[int, list[str]]]:
    """(process, its words) of every process of this machine."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        yield int(folder.name), words


def _mark(host: Host) -> Path:
    """What only the process of an emulated host has among its words."""
    return UML / f"{host.name}.pid"


def _of(host: Host) -> list[int]:
    return [
        process
        for process, words in _processes()
        if {f"umid={host.name}", f"uml_dir={UML}"} <= {*words} or str(_mark(host)) in words
    ]


def runs(host: Host) -> bool:
    """Whether the host has power, by what its processes are."""
    return bool(_of(host))


def core(host: Host) -> int | None:
    """The core that a host with power is kept to; None: it has no power, or may be on any."""
    cores = [os.sched_getaffinity(process) for process in _of(host)]
    return min(cores[0]) if cores and len(cores[0]) == 1 else None


def power_on(host: Host, system: Path, core: int) -> None:
    """Start the host with the disks that it has. It outlives us.

    `system` is the directory of User Mode Linux's kernel, or the image of an emulated host.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    UML.mkdir(parents=True, exist_ok=True)
    drives = [disks.root_disk(host), *disks.data_disks(host)]
    taps = wires.plug(host)
    log = LOGS / f"{host.name}.console"
    if host.emulated:
        mark = _mark(host)
        words = emulation.command(host.arch, host.name, host.memory, system, drives, mark)
        _detach(wires.inside(*words, *emulation.cards(taps)), log, {})
        return
    words = [f"ubd{letter}={disk}" for letter, disk in zip("abcdefgh", drives, strict=False)]
    # Without barriers: what a guest has written outlives its end in this machine's page cache, and
    # each of its flushes would have this machine write all that is dirty of the disk, for minutes.
    words += ["root=/dev/ubda", "rootflags=barrier=0", "rw", f"mem={host.memory}"]
    words += ["con0=null,fd:1", "con=null"]
    words += ["ssl=null", f"umid={host.name}", f"uml_dir={UML}"]
    for number, (tap, mac) in enumerate(taps):
        words.append(f"vec{number}:transport=raw,ifname={tap},mac={mac},depth=64,gro=1")
    # seccomp, one CPU and one core to stay on: by far the fastest that there is.
    words += ["seccomp=on", "ncpus=1"]
    command = wires.inside("taskset", "-c", str(core), str(system / "linux"), *words)
    _detach(command, log, {"TMPDIR": str(MEMORY)})


def _detach(command: Sequence[str], log: Path, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | env,
        )


def power_off(host: Host) -> None:
    """Cut the host's power: all its processes at once, nothing is written any more."""
    _end(lambda: _of(host), host.name)


def serve_bundle() -> None:
    """Start the bundle's server on the gateway unless it runs. Raises LabError."""
    if any(_is_server(words) for _, words in _processes()):
        return
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / "bundle"
    command = [sys.executable, "-m", "bundle", "--dir", str(BUNDLE), "serve"]
    command += ["--address", GATEWAY, "--port", "443"]
    server = _detach(wires.inside(*command), log, {})
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        listening = subprocess.run(
            wires.inside("bash", "-c", f"exec 3<>/dev/tcp/{GATEWAY}/443"), capture_output=True
        )
        if listening.returncode == 0:
            return
        time.sleep(0.3)
    tail = log.read_text(errors="replace").strip().splitlines()
    raise LabError(f"the bundle's server does not start: {tail[-1] if tail else 'no output'}")


def _is_emulator(words: Sequence[str]) -> bool:
    return "-pidfile" in words and any(word.startswith(f"{UML}/") for word in words)


def _is_server(words: Sequence[str]) -> bool:
    # With its directory, for there may be another user's lab, in namespaces of its own; with its
    # address, for the user may serve the same directory elsewhere.
    return {"bundle", "serve", str(BUNDLE), GATEWAY} <= {*words}


def _builds(process: int, words: Sequence[str]) -> bool:
    """Whether it builds for the lab: an `up` that was killed leaves such processes."""
    if {"bundle", "build", str(BUNDLE)} <= {*words}:
        return True
    folder = Path(f"/proc/{process}")
    try:
        where, stdin = (str((folder / link).readlink()) for link in ("cwd", "fd/0"))
    except OSError:
        return False
    works = where.startswith((f"{CACHE}/kernel-work", f"{CACHE}/root-work-"))
    # Somebody's shell may look at what there is.
    return works and not stdin.startswith(("/dev/pts/", "/dev/tty"))


def _end(find: Callable[[], list[int]], what: str, by: signal.Signals = signal.SIGKILL) -> None:
    deadline = time.monotonic() + 20
    while processes := find():
        for process in processes:
            try:
                os.kill(process, by)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise LabError(f"processes of {what} do not end: {processes}")
        time.sleep(0.05)


def end_all() -> None:
    """End everything of ours, however it was left: by what it is, and by where it runs."""

    def builds() -> list[int]:
        return [process for process, words in _processes() if _builds(process, words)]

    def ours() -> list[int]:
        pids = ["ip", "netns", "pids", NAMESPACE]
        # `down` comes first on a machine that never had a lab, too.
        has_ip = shutil.which("ip") is not None
        listed = subprocess.run(pids, capture_output=True, text=True).stdout if has_ip else ""
        by_name = [
            process
            for process, words in _processes()
            if f"uml_dir={UML}" in words or _is_emulator(words) or _is_server(words)
        ]
        return [*map(int, listed.split()), *by_name]

    # By SIGTERM: the bundle's build ends its compilers, which nothing tells from others.
    _end(builds, "a build", signal.SIGTERM)
    _end(ours, "the lab")
