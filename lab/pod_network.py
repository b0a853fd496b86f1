"""Which pod network the lab has: Weave, where the bundle has its images, or one of its own.

Decided when the first machine gets its power, and kept until `down`: a cluster cannot change it.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

import yaml

from bundle import oci, registry
from bundle.integrity import Record
from bundle.paths import Paths
from lab.emulation import NATIVE
from lab.errors import LabError
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
    return WEAVE if images(WEAVE) <= set(_present()) else OWN


def _present() -> dict[str, dict[str, oci.Json]]:
    return registry.images(Record(Paths(BUNDLE.parent, BUNDLE).manifest))


def choose(foreign: Collection[str]) -> None:
    """Keep the choice, and say it where it is not the product's own.

    Raises LabError if hosts of the architectures `foreign`, or the lab's usual ones, cannot take
    part in it.
    """
    choice = manifests()
    present = _present()
    lacking = [
        f"{name} for {arch}"
        for name in sorted(images(choice))
        for arch in (NATIVE, *foreign)
        if not any(platform.split("/")[1] == arch for platform in present.get(name, {}))
    ]
    if lacking and not _CHOICE.exists():
        choice = OWN
    elif lacking:
        raise LabError(
            f"the lab's pod network is {choice}, and the bundle has no {', '.join(lacking)};"
            " run `python -m lab down` first, then `up` with this host among those that you name"
        )
    STATE.mkdir(parents=True, exist_ok=True)
    _CHOICE.write_text(choice)
    if choice == OWN:
        print(
            "lab: the bundle has no images of Weave for all hosts (python -m bundle add FILE), so"
            f" the pod network is the lab's own, {OWN}",
            flush=True,
        )
