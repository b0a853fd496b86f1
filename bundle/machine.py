"""The machine that builds: its Debian packages, and running programs on it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from bundle.errors import BundleError

# Debian package of this machine -> why the bundle cannot be built without it.
NEEDED: Final = {
    "apt-utils": "apt-ftparchive writes the indexes of the apt repositories",
    "ca-certificates": "downloads over HTTPS are checked against them",
    "dpkg-dev": "dpkg-deb's companions, for architectures other than this machine's",
    "gcc": "runc and pause have C in them",
    "gpg": "signs the apt repositories",
    "gpg-agent": "holds the key while gpg signs",
    "libc6-dev": "runc and pause are linked statically",
    "libseccomp-dev": "runc filters system calls with it",
    "pkg-config": "tells Go where libseccomp is",
}


# Seconds after which a program that runs for minutes is said to be still at it.
_SAY_EVERY: Final = 60


def end_by_sigterm() -> None:
    """Let SIGTERM end this program as Ctrl-C does, so that it ends what it started."""

    def end(number: int, frame: FrameType | None) -> None:
        # A second one must not cut that short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def run(
    command: Sequence[str | Path],
    *,
    what: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
) -> str:
    """Run a program and return its output; raise BundleError with its last line if it fails."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
    except FileNotFoundError:
        raise BundleError(f"{what} failed: there is no program {command[0]}") from None
    except OSError as error:
        raise BundleError(f"{what} failed: {command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise BundleError(f"{what} failed: {said[-1] if said else f'status {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def run_long(
    command: Sequence[str | Path],
    *,
    what: str,
    log: Path,
    env: Mapping[str, str],
    cwd: Path,
) -> None:
    """Run a program for minutes: its output goes to a file, and a line a minute says so."""
    started = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            env={**os.environ, **env},
        )
        try:
            while True:
                try:
                    status = process.wait(timeout=_SAY_EVERY)
                    break
                except subprocess.TimeoutExpired:
                    elapsed = time.monotonic() - started
                    print(f"      {what}: still at it after {elapsed / 60:.0f} min", flush=True)
        finally:
            # Also after Ctrl-C: a compiler must not go on behind the user's back.
            if process.poll() is None:
                process.terminate()
                process.wait()
    if status != 0:
        said = log.read_text(errors="replace").strip().splitlines()
        raise BundleError(f"{what} failed: {said[-1] if said else f'status {status}'}; see {log}")


def installed(package: str) -> str | None:
    """The version of a Debian package of this machine, or None."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package],
        capture_output=True,
        text=True,
    )
    state, _, version = done.stdout.partition(" ")
    return version if state == "installed" else None


def need_packages(needed: Mapping[str, str]) -> None:
    """Install what is missing (package -> why), or say in a sentence what to install."""
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *needed]
    done = subprocess.run(query, capture_output=True, text=True)
    present = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    missing = sorted(set(needed) - present)
    if not missing:
        return
    if os.geteuid() != 0:
        raise BundleError(f"packages are missing; install {' '.join(missing)}, then run again")
    for package in missing:
        print(f"installing {package}: {needed[package]}", flush=True)
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], what="apt-get update", env=env)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    run(install, what="installing packages", env=env)
