"""How long an upgrade by a minor takes against the bare commands of kubeadm and kubectl drain.

    .venv/bin/python -m bundle build --kubernetes 1.36.3
    .venv/bin/python -m bench.upgrade

One control plane and two workers of the lab, which it takes down first. A cluster of the former
minor is deployed once, with an application whose pods each drain moves, and the disks are kept;
every turn starts the machines from these. Both sides pull the new images from the bundle. Ours also
looks at everything first, and backs up etcd and the keys. Three turns each; the medians' ratio is
printed, and the raw times. About an hour.
"""

import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Final

from barekube import versions
from bench.turns import NAMES, STAGES, compare, deploy, get, keep, kubectl, lab

GOAL: Final = 1.2
OLD, NEW = versions.FORMER["kubernetes"], versions.KUBERNETES
_LIMIT: Final = 600


def _prepare() -> None:
    lab("down")
    lab("up")
    deploy(STAGES, "--data", f"kubernetes_version={OLD}")
    words = f"--image={versions.IMAGES['agnhost']} --replicas=4 -- /agnhost pause"
    if kubectl("create deployment moved", words) is None:
        sys.exit("the application cannot be made")
    _ready()
    keep()


def _ready() -> None:
    """Wait until each kubelet has said since now that it lives, and all pods are well."""
    began = datetime.now(UTC)
    end = time.monotonic() + _LIMIT
    while lack := _lacking(began):
        if time.monotonic() > end:
            sys.exit(f"the restored lab is not well after {_LIMIT} s: {lack}")
        time.sleep(3)


def _lacking(began: datetime) -> str | None:
    leases = {
        each["metadata"]["name"]: datetime.fromisoformat(each["spec"]["renewTime"])
        for each in get("leases -n kube-node-lease")
    }
    for name in NAMES:
        if leases.get(name, began) <= began:
            return f"the kubelet of {name} is silent"
    # What a power cut ended stays listed beside what was started in its place.
    pods = [each for each in get("pods -A") if each["status"].get("phase") != "Failed"]
    for pod in pods:
        conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
        if conditions.get("Ready") != "True":
            return f"{pod['metadata']['name']} is not ready"
    return None if pods else "the API does not answer"


def _upgraded() -> None:
    """End the bench if a side has left something undone."""
    runs = {
        node["metadata"]["name"]: node["status"]["nodeInfo"]["kubeletVersion"]
        for node in get("nodes")
        if not node["spec"].get("unschedulable")
    }
    if runs != dict.fromkeys(NAMES, f"v{NEW}"):
        sys.exit(f"not upgraded, or cordoned still: {runs}")


def _bare() -> None:
    subprocess.run(["sh", "bench/bare_upgrade.sh", OLD, NEW], check=True)


def main() -> int:
    """Print the raw times and the ratio; 1 if it is above the goal."""
    _prepare()
    return compare(lambda: deploy(["upgrade"]), _bare, GOAL, _ready, _upgraded)


if __name__ == "__main__":
    sys.exit(main())
