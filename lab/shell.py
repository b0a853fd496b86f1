"""SSH to the guests, with the lab's own key and the keys that they were given."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bundle.machine import run
from lab.errors import LabError
from lab.hosts import Host
from lab.paths import KEY, KNOWN_HOSTS, LOGS, STATE

_LIMIT = 120


def make_key() -> None:
    """The key that opens the guests; made once for as long as they live."""
    STATE.mkdir(parents=True, exist_ok=True)
    STATE.chmod(0o700)
    if not KEY.exists():
        generate(KEY, "lab")


def generate(path: Path, comment: str) -> None:
    """Make an SSH key, and its public half beside it."""
    words: list[str | Path] = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment]
    run([*words, "-f", path], what=f"making the SSH key {path.name} of {comment}")


def command(host: Host, words: Sequence[str] = (), *, timeout: int = 20) -> list[str]:
    """The ssh command line for a host."""
    options = ["IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "LogLevel=ERROR"]
    options += [f"UserKnownHostsFile={KNOWN_HOSTS}", f"ConnectTimeout={timeout}"]
    flags = [word for option in options for word in ("-o", option)]
    return ["ssh", *flags, "-i", str(KEY), f"{host.user}@{host.address}", *words]


def wait(hosts: Sequence[Host]) -> None:
    """Wait until each host answers on SSH. Raises LabError, with a console's end."""
    began = said = time.monotonic()
    waiting = list(hosts)
    while waiting:
        waiting = [
            host
            for host in waiting
            if subprocess.run(command(host, ["true"], timeout=3), capture_output=True).returncode
        ]
        now = time.monotonic()
        if waiting and now - began > _LIMIT:
            console = LOGS / f"{waiting[0].name}.console"
            tail = console.read_text(errors="replace").splitlines()[-15:]
            text = "\n".join(tail)
            raise LabError(
                f"{waiting[0].name} does not answer on SSH after {_LIMIT} s; its console says:\n"
                f"{text}"
            )
        if waiting and now - said > 10:
            said = now
            names = ", ".join(host.name for host in waiting)
            print(f"waiting for {names}, {now - began:.0f} s of {_LIMIT} s", flush=True)
        time.sleep(0.3)
