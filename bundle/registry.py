"""The store of images: blobs by digest, and images.json that names each image's index."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from bundle import oci
from bundle.integrity import Part, Record, sha256, write
from bundle.paths import Paths

BLOBS = "registry/blobs/sha256"
NAMES = "registry/images.json"
# How the record's parts begin that are images from archives.
ADDED = "added "


def blob_file(digest: str) -> str:
    """Where a blob lies, below the bundle's directory."""
    return f"{BLOBS}/{digest.removeprefix('sha256:')}"


def put_bytes(paths: Paths, content: bytes) -> str:
    """Store a blob and return its digest."""
    digest = oci.digest_of(content)
    write(paths.bundle / blob_file(digest), content)
    return digest


def put_file(paths: Paths, file: Path) -> str:
    """Move a file into the store and return its digest."""
    digest = f"sha256:{sha256(file)}"
    target = paths.bundle / blob_file(digest)
    new = target.with_name(target.name + ".new")
    shutil.move(file, new)
    new.replace(target)
    return digest


def image_part(
    key: str, name: str, platform: str, manifest: oci.Json, blobs: Iterable[str]
) -> Part:
    """The record of one image for one platform; `manifest` is its descriptor."""
    digests = {manifest["digest"], *blobs}
    files = {blob_file(digest): digest.removeprefix("sha256:") for digest in sorted(digests)}
    return Part(key, files, notes={"image": name, "platform": platform, "manifest": manifest})


def images(record: Record) -> dict[str, dict[str, oci.Json]]:
    """Image name -> platform -> descriptor, of all images in the record; of two, what was added."""
    found: dict[str, dict[str, oci.Json]] = {}
    for _, part in sorted(record.parts.items(), key=lambda item: item[0].startswith(ADDED)):
        if "image" in part.notes:
            by_platform = found.setdefault(part.notes["image"], {})
            by_platform[part.notes["platform"]] = part.notes["manifest"]
    return found


def publish(paths: Paths, record: Record) -> None:
    """Write the index of every image, and the list of names, from the record."""
    names: dict[str, str] = {}
    files: dict[str, str] = {}
    for name, manifests in sorted(images(record).items()):
        digest = put_bytes(paths, oci.encode(oci.index(manifests)))
        names[name] = digest
        files[blob_file(digest)] = digest.removeprefix("sha256:")
    text = json.dumps(names, indent=1) + "\n"
    write(paths.bundle / NAMES, text)
    files[NAMES] = sha256(paths.bundle / NAMES)
    record.put("image names", Part("", files))


def load_names(paths: Paths) -> Mapping[str, str]:
    """Image name -> digest of its index."""
    try:
        names: dict[str, str] = json.loads((paths.bundle / NAMES).read_text())
    except FileNotFoundError:
        return {}
    return names
