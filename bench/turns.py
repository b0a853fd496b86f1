"""Two sides that take turns on the lab, each from the same disks; compared by their medians."""

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lab.paths import DISKS

TURNS: Final = 3
NAMES: Final = ("cp-1", "worker-1", "worker-2")
KEPT: Final = Path.home() / ".cache/barekube/bench/turns"
_LAB: Final = (".venv/bin/python", "-m", "lab")
STAGES: Final = (
    "host",
    "runtime",
    "kubernetes_packages",
    "control_plane",
    "workers",
    "network",
)


def command(*words: str) -> list[str]:
    """`python -m lab ...`, to be run."""
    return [*_LAB, *words]


def lab(*words: str) -> None:
    subprocess.run(command(*words), check=True, stdout=subprocess.DEVNULL)


def root(name: str, script: str) -> None:
    subprocess.run(command("ssh", name, "sudo", "sh", "-ec", f"'{script}'"), check=True)


def kubectl(*words: str) -> str | None:
    """What kubectl prints on cp-1, or None if it fails there."""
    run = command("ssh", "cp-1", "sudo", "kubectl --kubeconfig /etc/kubernetes/admin.conf", *words)
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def get(what: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(kubectl("get", what, "-o", "json") or '{"items": []}')[
        "items"
    ]
    return items


def deploy(stages: Sequence[str], *options: str) -> None:
    """Run stages, in one run as site.py does; end the bench with what was said if one fails. What
    was said is kept beside the disks, for whoever wonders where a turn's time went."""
    words = [".venv/bin/pyinfra", "lab/inventory.py", "-y", *options]
    words += [f"deploys/{stage}.py" for stage in stages]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    log = KEPT.parent / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}-{stages[-1]}.log"
    log.write_text(done.stdout + done.stderr)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-4000:])


def keep() -> None:
    """Take the machines' power, and keep their disks as they are."""
    for name in NAMES:
        root(name, "sync")
    for name in NAMES:
        lab("power-off", name)
    shutil.rmtree(KEPT / "disks", ignore_errors=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    _copy(DISKS, KEPT / "disks")


def restore() -> None:
    """Start the machines from the disks that were kept."""
    for name in NAMES:
        lab("power-off", name)
    shutil.rmtree(DISKS)
    _copy(KEPT / "disks", DISKS)
    for name in NAMES:
        lab("power-on", name)


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)


def compare(
    ours: Callable[[], None],
    bare: Callable[[], None],
    goal: float,
    ready: Callable[[], None] = lambda: None,
    check: Callable[[], None] = lambda: None,
) -> int:
    """Print the raw times and the ratio; 1 if it is above the goal.

    Before each turn the machines are restored, and `ready` waits for them; after it, `check` ends
    the bench if the side has not done its work.
    """
    times: dict[str, list[float]] = {"barekube": [], "bare commands": []}
    for turn in range(TURNS):
        for name, side in (("barekube", ours), ("bare commands", bare)):
            restore()
            ready()
            began = time.monotonic()
            side()
            times[name].append(time.monotonic() - began)
            print(f"turn {turn + 1}: {name} {times[name][-1]:.0f} s", flush=True)
            check()
    _print(times)
    ratio = statistics.median(times["barekube"]) / statistics.median(times["bare commands"])
    print(f"ratio {ratio:.2f}, goal at most {goal}")
    shutil.rmtree(KEPT)
    return int(ratio > goal)


def _print(times: Mapping[str, Sequence[float]]) -> None:
    for name, all_of_it in times.items():
        raw = ", ".join(f"{each:.0f}" for each in all_of_it)
        print(f"{name}: {raw} s; median {statistics.median(all_of_it):.0f} s")
