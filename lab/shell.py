"""SSH to the guests, with the lab's own key and the keys that they were given."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bundle.machine import run
from lab import guests
from lab.errors import LabError
from lab.hosts import Host
from lab.paths import KEY, KNOWN_HOSTS, LOGS, STATE

_LIMIT, _EMULATED = 120, 900


def make_key() -> None:
    """The key that opens the guests; made once for as long as they live."""
    STATE.mkdir(parents=True, exist_ok=True)
    STATE.chmod(0o700)
    if not (KEY.exists() and KEY.with_suffix(".pub").exists()):
        # Without its public half it is of an `up` that was killed, and no host knows it.
        KEY.unlink(missing_ok=True)
        generate(KEY, "lab")


def generate(path: Path, comment: str) -> None:
    """Make an SSH key, and its public half beside it."""
    words: list[str | Path] = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment]
    run([*words, "-f", path], what=f"making the SSH key {path.name} of {comment}")


def command(host: Host, words: Sequence[str] = (), *, timeout: int = 20) -> list[str]:
    """The ssh command line for a host."""
    options = ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes"]
    options.append("LogLevel=ERROR")
    options += [f"UserKnownHostsFile={KNOWN_HOSTS}", f"ConnectTimeout={timeout}"]
    flags = [word for option in options for word in ("-o", option)]
    # The user's own settings are for other hosts.
    return ["ssh", "-F", "none", *flags, "-i", str(KEY), f"{host.user}@{host.address}", *words]


def answers(host: Host) -> bool:
    """Whether the host lets us in and runs a command. Never takes more than a few seconds, half a
    minute if it is emulated."""
    limit = 30 if host.emulated else 10
    try:
        # ConnectTimeout ends where the login begins; a guest can hang after that too.
        words = command(host, ["true"], timeout=limit // 3)
        done = subprocess.run(words, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def wait(hosts: Sequence[Host]) -> None:
    """Wait until each host answers on SSH. Raises LabError, with a console's end."""
    began = said = time.monotonic()
    limit = _EMULATED if any(host.emulated for host in hosts) else _LIMIT
    waiting = list(hosts)
    while waiting:
        waiting = [host for host in waiting if not answers(host)]
        now = time.monotonic()
        for host in waiting:
            if not guests.runs(host):
                raise LabError(f"{host.name} has lost its power; its console says:\n{_tail(host)}")
        if waiting and now - began > limit:
            raise LabError(
                f"{waiting[0].name} does not answer on SSH after {limit} s; its console says:\n"
                f"{_tail(waiting[0])}"
            )
        if waiting and now - said > 10:
            said = now
            names = ", ".join(host.name for host in waiting)
            print(f"waiting for {names}, {now - began:.0f} s of {limit} s", flush=True)
        time.sleep(0.3)


def _tail(host: Host) -> str:
    console = (LOGS / f"{host.name}.console").read_text(errors="replace")
    return "\n".join(console.splitlines()[-15:])
