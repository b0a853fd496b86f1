"""Image parts as OCI writes them: layers, descriptors, manifests, and names."""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

INDEX: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES: Final = (INDEX, DOCKER_INDEX)
MANIFESTS: Final = (MANIFEST, DOCKER_MANIFEST)

Json = dict[str, Any]
# A name with a registry's host, a path, and a tag.
_NAME = re.compile(r"(?P<host>[^/]+)/(?P<path>[a-z0-9._/-]+):(?P<tag>\w[\w.-]{0,127})")


@dataclass(frozen=True)
class Node:
    """One file, directory or link of a layer. `content` is bytes, or the file to read them from."""

    content: bytes | Path = b""
    mode: int = 0o644
    link: str = ""
    directory: bool = False
    # The file capabilities of `setcap ...=ep`, as a bit mask.
    capabilities: int = 0


def _capability_attribute(mask: int) -> str:
    """The value of security.capability: revision 2 with the effective bit (linux/capability.h)."""
    words = (0x02000001, mask, 0, 0, 0)
    return b"".join(word.to_bytes(4, "little") for word in words).decode("ascii")


def write_layer(tree: Mapping[str, Node], path: Path) -> None:
    """Write a layer, the same for the same tree. Parents that `tree` lacks are made.

    It is not compressed: a layer travels over a local network, and the machines of a lab take
    longer to decompress one than to receive it.
    """
    nodes = dict(tree)
    for name in tree:
        for parent in Path(name).parents:
            if parent != Path():
                nodes.setdefault(str(parent), Node(directory=True, mode=0o755))
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(nodes):
            _add(tar, name, nodes[name])


def _add(tar: tarfile.TarFile, name: str, node: Node) -> None:
    info = tarfile.TarInfo(name)
    info.mode = node.mode
    if node.capabilities:
        value = _capability_attribute(node.capabilities)
        info.pax_headers = {"SCHILY.xattr.security.capability": value}
    if node.directory:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif node.link:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, node.link, 0o777
        tar.addfile(info)
    elif isinstance(node.content, Path):
        info.size = node.content.stat().st_size
        with node.content.open("rb") as source:
            tar.addfile(info, source)
    else:
        info.size = len(node.content)
        tar.addfile(info, io.BytesIO(node.content))


def read_tree(root: Path) -> dict[str, Node]:
    """A directory of this machine as the tree of a layer; owner and times are left out."""
    tree: dict[str, Node] = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory) / name
            mode = path.lstat().st_mode & 0o7777
            key = str(path.relative_to(root))
            if path.is_symlink():
                tree[key] = Node(link=str(path.readlink()))
            elif path.is_dir():
                tree[key] = Node(directory=True, mode=mode)
            else:
                tree[key] = Node(path, mode)
    return tree


def encode(document: Json) -> bytes:
    """JSON as it is stored: the same bytes for the same content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(media_type: str, digest: str, size: int) -> Json:
    return {"mediaType": media_type, "digest": digest, "size": size}


def platform(text: str) -> Json:
    """'linux/arm/v7' -> the fields of a platform."""
    names = ("os", "architecture", "variant")
    return dict(zip(names, text.split("/"), strict=False))


def platform_text(fields: Mapping[str, Any]) -> str:
    """The opposite of platform()."""
    words = (fields.get("os", "linux"), fields.get("architecture", ""), fields.get("variant", ""))
    return "/".join(word for word in words if word)


def index(manifests: Mapping[str, Json]) -> Json:
    """An index of manifests by platform."""
    return {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            {**manifests[name], "platform": platform(name)} for name in sorted(manifests)
        ],
    }


def full_name(name: str) -> str | None:
    """An image's whole name, as containerd has it; None for what is not a name with a tag.

    'weave-kube:2.9.0' is docker.io/library/weave-kube:2.9.0.
    """
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not ("." in first or ":" in first or first == "localhost"):
        name = f"docker.io/{name}"
    return name if _NAME.fullmatch(name) else None
