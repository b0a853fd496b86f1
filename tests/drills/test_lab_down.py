"""`lab down` leaves nothing behind, also after its machines and its own run were killed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.paths import BUNDLE, MEMORY, NAMESPACE, STATE, UML
from tests.lab.recorder import LAB, run_lab

INSIDE = ["ip", "netns", "exec", NAMESPACE]


def _processes(words: str) -> list[int]:
    """The processes in whose command line these words are."""
    folders = Path("/proc").glob("[0-9]*")
    return [int(folder.name) for folder in folders if words in _words(folder)]


def _left() -> dict[str, str]:
    """What of the lab is still to be seen on this machine, by its own programs."""
    return {
        "guests": " ".join(map(str, _processes(f"uml_dir={UML}"))),
        "servers": " ".join(map(str, _processes(f"--dir {BUNDLE} serve"))),
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


def _down() -> None:
    run_lab("down", seconds=120)
    assert _left() == dict.fromkeys(_left(), "")


def _killed_up(reached: Callable[[], bool]) -> None:
    """`lab up` on nothing, killed when it has come as far as `reached` says."""
    _down()
    up = subprocess.Popen([*LAB, "up"], start_new_session=True)
    end = time.monotonic() + 300
    while not reached():
        assert up.poll() is None and time.monotonic() < end, "up did not come that far"
        time.sleep(0.005)
    os.killpg(up.pid, signal.SIGKILL)
    up.wait()


def _bridges() -> bool:
    return bool(subprocess.run([*INSIDE, "ip", "link", "show", "br0"], capture_output=True).stdout)


def _rules() -> bool:
    return bool(subprocess.run([*INSIDE, "nft", "list", "ruleset"], capture_output=True).stdout)


def _a_guest() -> bool:
    return bool(_processes(f"uml_dir={UML}"))


@pytest.mark.parametrize("reached", [MEMORY.is_mount, _bridges, _a_guest])
def test_down_after_a_crash_of_up_leaves_nothing(reached: Callable[[], bool]) -> None:
    _killed_up(reached)
    assert any(_left().values())
    _down()


def test_up_after_a_crash_of_up_closes_the_lab_that_it_finds_half_made() -> None:
    _killed_up(_bridges)
    assert not _rules()
    run_lab("up", seconds=400)
    assert _rules()
    assert _left()["servers"]


def test_down_sees_each_thing_that_up_makes_and_ends_it() -> None:
    run_lab("up", seconds=400)
    assert [what for what, there in _left().items() if not there] == []
    for process in _processes(f"umid=worker-1 uml_dir={UML}"):
        os.kill(process, signal.SIGKILL)
    _down()
    # Nothing to end is no mistake.
    _down()
