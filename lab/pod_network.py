"""Which pod network the lab has: Weave, where the bundle has its images, or one of its own.

Decided when the first machine gets its power, and kept until `down`: a cluster cannot change it.
"""

from pathlib import Path
from typing import Final

import yaml

from bundle import registry
from bundle.integrity import Record
from bundle.paths import Paths
from lab.paths import BUNDLE, STATE

WEAVE: Final = "manifests/weave"
OWN: Final = "lab/manifests"
_CHOICE: Final = STATE / "pod-network"


def images(directory: str) -> set[str]:
    """The images that the workloads in a directory of manifests run."""
    found = set()
    for path in Path(directory).glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            spec = (document or {}).get("spec", {}).get("template", {}).get("spec", {})
            for container in [*spec.get("initContainers", ()), *spec.get("containers", ())]:
                found.add(container["image"])
    return found


def manifests() -> str:
    """The directory of the pod network's manifests."""
    if _CHOICE.exists():
        return _CHOICE.read_text()
    present = registry.images(Record(Paths(BUNDLE.parent, BUNDLE).manifest))
    return WEAVE if images(WEAVE) <= set(present) else OWN


def choose() -> None:
    """Keep the choice, and say it where it is not the product's own."""
    choice = manifests()
    STATE.mkdir(parents=True, exist_ok=True)
    _CHOICE.write_text(choice)
    if choice == OWN:
        print(
            "lab: the bundle has no images of Weave (python -m bundle add FILE), so the pod"
            f" network is the lab's own, {OWN}",
            flush=True,
        )
