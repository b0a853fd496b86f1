"""How long our stages take against the bare commands, from the same bare machines of the lab.

    .venv/bin/python -m bench.deploy

Images are on the machines already, on both sides: pulling is not what is compared. The two take
turns, three times each; the medians' ratio is printed, and the raw times. About 40 minutes.
"""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lab import pod_network
from lab.paths import BUNDLE, DISKS

TURNS: Final = 3
GOAL: Final = 1.25
NAMES: Final = ("cp-1", "worker-1", "worker-2")
LAB: Final = (".venv/bin/python", "-m", "lab")
KEPT: Final = Path.home() / ".cache/barekube/bench"
_XATTRS: Final = "--xattrs --xattrs-include=*"
STAGES: Final = (
    "host",
    "runtime",
    "kubernetes_packages",
    "control_plane",
    "workers",
    "network",
)


def _lab(*words: str) -> None:
    subprocess.run([*LAB, *words], check=True, stdout=subprocess.DEVNULL)


def _power(word: str) -> None:
    for name in NAMES:
        _lab(word, name)


def _root(name: str, script: str) -> None:
    subprocess.run([*LAB, "ssh", name, "sudo", "sh", "-ec", f"'{script}'"], check=True)


def _with_images() -> None:
    """Bare machines, but for containerd's store as a deploy leaves it."""
    _lab("down")
    _lab("up")
    _ours()
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        # The images stay, all that ran goes.
        _root(name, "kubeadm reset -f >/dev/null 2>&1; systemctl stop kubelet containerd")
        _root(name, f"tar -C /var/lib {_XATTRS} -cf /root/store.tar containerd")
        with (KEPT / f"{name}.tar").open("wb") as file:
            words = [*LAB, "ssh", name, "sudo", "cat", "/root/store.tar"]
            subprocess.run(words, check=True, stdout=file)
    _lab("down")
    _lab("up")
    for name in NAMES:
        with (KEPT / f"{name}.tar").open("rb") as file:
            words = [
                *LAB,
                "ssh",
                name,
                "sudo",
                "tar",
                "-C",
                "/var/lib",
                *_XATTRS.split(),
                "-xf",
                "-",
            ]
            subprocess.run(words, check=True, stdin=file)
        _root(name, "sync")
    _power("power-off")
    shutil.rmtree(KEPT / "disks", ignore_errors=True)
    _copy(DISKS, KEPT / "disks")


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)


def _ours() -> None:
    words = [".venv/bin/pyinfra", "lab/inventory.py", "-y"]
    stages = [f"deploys/{stage}.py" for stage in STAGES]
    for stage in stages:
        done = subprocess.run([*words, stage], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stdout[-2000:] + done.stderr[-4000:])


def _bare() -> None:
    files = [str(BUNDLE / "ca.crt"), str(BUNDLE / "apt.asc"), pod_network.manifests()]
    subprocess.run(["sh", "bench/bare.sh", "https://10.77.0.1", *files], check=True)


def _timed(side: Callable[[], None]) -> float:
    _power("power-off")
    shutil.rmtree(DISKS)
    _copy(KEPT / "disks", DISKS)
    _power("power-on")
    began = time.monotonic()
    side()
    return time.monotonic() - began


def main() -> int:
    """Print the raw times and the ratio; 1 if it is above the goal."""
    _with_images()
    times: dict[str, list[float]] = {"barekube": [], "bare commands": []}
    for turn in range(TURNS):
        for name, side in (("barekube", _ours), ("bare commands", _bare)):
            times[name].append(_timed(side))
            print(f"turn {turn + 1}: {name} {times[name][-1]:.0f} s", flush=True)
    for name, all_of_it in times.items():
        raw = ", ".join(f"{each:.0f}" for each in all_of_it)
        print(f"{name}: {raw} s; median {statistics.median(all_of_it):.0f} s")
    ratio = statistics.median(times["barekube"]) / statistics.median(times["bare commands"])
    print(f"ratio {ratio:.2f}, goal at most {GOAL}")
    shutil.rmtree(KEPT)
    return int(ratio > GOAL)


if __name__ == "__main__":
    sys.exit(main())
