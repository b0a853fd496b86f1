"""Whether a host's parts can be had for its CPU, and what to do where one cannot: a sentence."""

import json
from collections.abc import Iterable, Mapping

from barekube import versions

_THERE = "on the machine that the bundle is on"
_BUNDLED = f"Debian {' or '.join(release for _, release in versions.BUNDLED)}"


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
        f"upstream has no {', '.join(parts)} for {arch}; {first}run {builds(arch)}, serve it,"
        " and set bundle_url, bundle_ca and bundle_key for a group with this host"
    )


def images(version: str, more: tuple[str, ...], *, control_plane: bool) -> list[str]:
    """The images without which a node is never well; `more` are those of the pod network and of its
    way to the API."""
    kinds = ["kube-proxy", *(versions.SERVERS if control_plane else ())]
    kubernetes = [f"{versions.without_tag(versions.IMAGES[kind])}:v{version}" for kind in kinds]
    return list(dict.fromkeys([versions.IMAGES["pause"], *kubernetes, *more]))


def index(bundle_url: str, image: str) -> str:
    """Where a bundle tells which platforms it has an image for."""
    host, _, path = image.partition("/")
    path, _, digest = path.partition("@")
    name, _, tag = path.partition(":")
    return f"{bundle_url}/v2/{name}/manifests/{digest or tag}?ns={host}"


def indexes(bundle_url: str, images: Iterable[str]) -> dict[str, str]:
    """The images by where a bundle tells of each."""
    return {index(bundle_url, image): image for image in images}


def lacking(images: Mapping[str, str], arch: str, texts: Mapping[str, str]) -> list[str]:
    """A sentence for each of `indexes` that a bundle has not for a CPU; `texts` is what they lead
    to, where that is something."""
    judged = (_without(image, arch, texts.get(url, "")) for url, image in images.items())
    return [sentence for sentence in judged if sentence]


def builds(arch: str, version: str = versions.KUBERNETES) -> str:
    """The command by which a bundle gets what it can build for a CPU, with a Kubernetes `version`
    of the two that it can."""
    former = versions.FORMER["kubernetes"]
    more = f" --kubernetes {former}" if version == former else ""
    return f"`python -m bundle build --arch {arch}{more}`"


def remedy(arch: str, version: str) -> str:
    """What gives a bundle Kubernetes `version` for a CPU."""
    known = (versions.KUBERNETES, versions.FORMER["kubernetes"])
    by = "" if version in known else f", by a barekube that has {version} in barekube/versions.py"
    return f"run {builds(arch, version)} {_THERE}{by}"


def _without(image: str, arch: str, text: str) -> str | None:
    try:
        platforms = [each["platform"]["architecture"] for each in json.loads(text)["manifests"]]
    except (KeyError, TypeError, ValueError):
        platforms = []
    if arch in platforms:
        return None
    known = versions.SOURCES.get(versions.without_tag(image))
    if known and arch in known.bundle:
        version = image.rpartition(":v")[2] if "/kube-" in image else versions.KUBERNETES
        how = remedy(arch, version)
    else:
        how = f"add it from an archive by `python -m bundle add FILE` {_THERE}"
    return f"the bundle has no image {image} for {arch}; {how}"
