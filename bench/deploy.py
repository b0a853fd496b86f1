"""How long our stages take against the bare commands, from the same bare machines of the lab.

    .venv/bin/python -m bench.deploy

Images are on the machines already, on both sides: pulling is not what is compared. The two take
turns, three times each; the medians' ratio is printed, and the raw times. About 40 minutes.
"""

import subprocess
import sys
from typing import Final

from bench.turns import KEPT, NAMES, STAGES, command, compare, deploy, keep, lab, root
from lab import pod_network
from lab.paths import BUNDLE

GOAL: Final = 1.25
_XATTRS: Final = "--xattrs --xattrs-include=*"


def _with_images() -> None:
    """Bare machines, but for containerd's store as a deploy leaves it."""
    lab("down")
    lab("up")
    deploy(STAGES)
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        # The images stay, all that ran goes.
        root(name, "kubeadm reset -f >/dev/null 2>&1; systemctl stop kubelet containerd")
        root(name, f"tar -C /var/lib {_XATTRS} -cf /root/store.tar containerd")
        with (KEPT / f"{name}.tar").open("wb") as file:
            words = command("ssh", name, "sudo", "cat", "/root/store.tar")
            subprocess.run(words, check=True, stdout=file)
    lab("down")
    lab("up")
    for name in NAMES:
        with (KEPT / f"{name}.tar").open("rb") as file:
            words = ["sudo", "tar", "-C", "/var/lib", *_XATTRS.split(), "-xf", "-"]
            subprocess.run(command("ssh", name, *words), check=True, stdin=file)
    keep()


def _bare() -> None:
    files = [str(BUNDLE / "ca.crt"), str(BUNDLE / "apt.asc"), pod_network.manifests()]
    subprocess.run(["sh", "bench/bare.sh", "https://10.77.0.1", *files], check=True)


def main() -> int:
    """Print the raw times and the ratio; 1 if it is above the goal."""
    _with_images()
    return compare(lambda: deploy(STAGES), _bare, GOAL)


if __name__ == "__main__":
    sys.exit(main())
