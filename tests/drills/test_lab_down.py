"""`lab down` leaves nothing behind, also after its machines and its own run were killed."""

import os
import signal
import subprocess
import time
from pathlib import Path

from lab.paths import MEMORY, NAMESPACE, STATE, UML

LAB = [".venv/bin/python", "-m", "lab"]


def _left() -> dict[str, str]:
    """What of the lab is still to be seen on this machine, by its own programs."""
    processes = [
        folder.name
        for folder in Path("/proc").glob("[0-9]*")
        if f"uml_dir={UML}" in _words(folder) or "serve 10.77.0.1" in _words(folder)
    ]
    return {
        "processes": " ".join(processes),
        "namespaces": _shown("ip", "netns", "list", word=NAMESPACE),
        "interfaces": _shown("ip", "-o", "link", word="bk-lab"),
        "routes": _shown("ip", "route", word="10.77."),
        "mounts": _shown("cat", "/proc/mounts", word=str(MEMORY)),
        "state": str(STATE) if STATE.exists() else "",
    }


def _words(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def _shown(*command: str, word: str) -> str:
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "".join(line for line in out.splitlines() if word in line)


def test_down_after_a_crash_of_up_and_of_a_machine_leaves_nothing() -> None:
    subprocess.run([*LAB, "down"], check=True)
    up = subprocess.Popen([*LAB, "up"], start_new_session=True)
    time.sleep(6)
    os.killpg(up.pid, signal.SIGKILL)
    up.wait()
    assert any(_left().values())
    subprocess.run([*LAB, "down"], check=True, timeout=120)
    assert _left() == dict.fromkeys(_left(), "")
    subprocess.run([*LAB, "up"], check=True, timeout=400)
    subprocess.run(["pkill", "-9", "-f", "umid=worker-1"], check=True)
    subprocess.run([*LAB, "down"], check=True, timeout=120)
    assert _left() == dict.fromkeys(_left(), "")
    subprocess.run([*LAB, "down"], check=True, timeout=120)
