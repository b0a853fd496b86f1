"""Whether a host's parts can be had for its CPU, and what to do where one cannot: a sentence."""

import json

from barekube import versions

_BUNDLED = "Debian 12 or 13"


def bundled(distribution: str, release: str) -> bool:
    """Whether a bundle has packages of a release (ID, VERSION_ID of /etc/os-release)."""
    return (versions.publisher({"ID": distribution}), release) in versions.BUNDLED


def missing(arch: str, distribution: str, release: str, *, bundle: bool) -> str | None:
    """Why a host does not get its packages, known without asking; `bundle`: from one."""
    parts = versions.only_bundled(arch)
    there = bundled(distribution, release)
    if bundle:
        instead = "" if parts else ", or set no bundle_url for it"
        said = f"a bundle has no packages of {distribution} {release}; install {_BUNDLED}{instead}"
        return None if there else said
    if not parts:
        return None
    first = "" if there else f"install {_BUNDLED} (a bundle has no other), "
    return (
        f"upstream has no {', '.join(parts)} for {arch}; {first}run `python -m bundle build --arch"
        f" {arch}`, serve it, and set bundle_url for this host"
    )


def images(version: str, network: tuple[str, ...], *, control_plane: bool) -> list[str]:
    """The images without which a node is never Ready; `network` are those of the pod network."""
    kinds = ["kube-proxy"]
    if control_plane:
        kinds += ["kube-apiserver", "kube-controller-manager", "kube-scheduler"]
    kubernetes = [f"{versions.IMAGES[kind].rpartition(':')[0]}:v{version}" for kind in kinds]
    return list(dict.fromkeys([versions.IMAGES["pause"], *kubernetes, *network]))


def index(bundle_url: str, image: str) -> str:
    """Where a bundle tells which platforms it has an image for."""
    host, _, path = image.partition("/")
    path, _, digest = path.partition("@")
    name, _, tag = path.partition(":")
    return f"{bundle_url}/v2/{name}/manifests/{digest or tag}?ns={host}"


def without(image: str, arch: str, text: str) -> str | None:
    """A sentence if a bundle has an image not for a CPU; `text` is what `index` leads to, or
    empty."""
    try:
        platforms = [each["platform"]["architecture"] for each in json.loads(text)["manifests"]]
    except (KeyError, TypeError, ValueError):
        platforms = []
    if arch in platforms:
        return None
    known = versions.SOURCES.get(image.partition("@")[0].rpartition(":")[0])
    if known and arch in known.bundle:
        how = f"run `python -m bundle build --arch {arch}`"
    else:
        how = "add it from an archive by `python -m bundle add FILE`"
    return f"the bundle has no image {image} for {arch}; {how} on the machine that it is on"
