"""How long our stages take against the bare commands, from the same bare machines of the lab.

    .venv/bin/python -m bench.deploy

Images are on the machines already, on both sides: pulling is not what is compared. Ours does more:
seven more kernel parameters, the firewall of the edge host, swap kept off after a boot, containerd
held too, Secrets encrypted and an audit log from the first start on, kubelets' serving certificates
approved, labels and taints, and the settings of the new cluster compared with group_data. The two
take turns, three times each; a turn counts only if every node is Ready at its end. The medians'
ratio is printed, and the raw times. About 40 minutes.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

from barekube import settings, versions
from bench.turns import KEPT, NAMES, STAGES, command, compare, deploy, get, keep, lab, root
from lab import hosts, pod_network
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
    manifests = pod_network.manifests()
    words = [f"https://{hosts.GATEWAY}", str(BUNDLE / "ca.crt"), str(BUNDLE / "apt.asc"), manifests]
    words += [settings.pod_network(Path(manifests)).addresses, versions.KUBERNETES]
    words += [versions.IMAGES["pause"]]
    machines = hosts.load()
    words += [f"{name}={machines.host(name).address}" for name in NAMES]
    subprocess.run(["sh", "bench/bare.sh", *words], check=True)


def _all_ready() -> None:
    """End the bench if a side has left a node out, or one that is not Ready."""
    ready = {
        node["metadata"]["name"]: condition["status"]
        for node in get("nodes")
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    }
    if ready != dict.fromkeys(NAMES, "True"):
        sys.exit(f"not every node is Ready: {ready}")


def main() -> int:
    """Print the raw times and the ratio; 1 if it is above the goal."""
    _with_images()
    return compare(lambda: deploy(STAGES), _bare, GOAL, check=_all_ready)


if __name__ == "__main__":
    sys.exit(main())
