"""Takes images from an archive: an OCI layout, or what `docker save` writes, as a tar file."""

import gzip
import hashlib
import json
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bundle import oci, registry
from bundle.errors import BundleError
from bundle.integrity import Part, Record, sha256
from bundle.paths import Paths

_CONTAINERD_NAME = "io.containerd.image.name"
_OCI_NAME = "org.opencontainers.image.ref.name"
_GZIP = b"\x1f\x8b"
_MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"


class _Broken(Exception):
    """What is wrong with an archive, as the end of a sentence."""


@dataclass(frozen=True)
class _Image:
    """One image for one platform: the descriptor of its manifest, and its checked files."""

    name: str
    platform: str
    manifest: oci.Json
    files: list[Path]


class _Layout:
    """An unpacked archive."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, name: str) -> Path:
        path = self.root / name
        if not path.is_file() or path.is_symlink():
            raise _Broken(f"{name} is not in it")
        return path

    def json(self, name: str) -> Any:  # noqa: ANN401 - what another program wrote
        try:
            return json.loads(self.file(name).read_bytes())
        except ValueError:
            raise _Broken(f"{name} is not JSON") from None

    def blob(self, digest: str) -> Path:
        """The file of a digest, once its content has that digest."""
        algorithm, _, hexadecimal = digest.partition(":")
        if algorithm != "sha256" or not hexadecimal.isalnum():
            raise _Broken(f"it names a digest that is not sha256: {digest}")
        path = self.file(f"blobs/sha256/{hexadecimal}")
        if sha256(path) != hexadecimal:
            raise _Broken(f"the content of {digest} has another digest")
        return path

    def has(self, digest: str) -> bool:
        return (self.root / "blobs/sha256" / digest.removeprefix("sha256:")).is_file()


def _images_of_layout(layout: _Layout) -> Iterator[_Image]:
    """Each image and platform of an OCI layout."""
    for top in layout.json("index.json").get("manifests", []):
        notes = top.get("annotations", {})
        text = notes.get(_CONTAINERD_NAME) or notes.get(_OCI_NAME) or ""
        name = oci.full_name(text)
        if name is None:
            raise _Broken(f"an image in it has no full name with a tag, only {text!r}")
        manifests = [top]
        if top.get("mediaType") in oci.INDEXES:
            inner = json.loads(layout.blob(top["digest"]).read_bytes())["manifests"]
            # An archive of one platform keeps the index of all; attestations are no images.
            manifests = [
                one
                for one in inner
                if layout.has(one["digest"]) and one.get("platform", {}).get("os") != "unknown"
            ]
        if not manifests:
            raise _Broken(f"it holds no image for {name}")
        for described in manifests:
            path = layout.blob(described["digest"])
            manifest = json.loads(path.read_bytes())
            config = layout.blob(manifest["config"]["digest"])
            layers = [layout.blob(layer["digest"]) for layer in manifest["layers"]]
            platform = oci.platform_text(json.loads(config.read_bytes()))
            kind = manifest.get("mediaType", oci.MANIFEST)
            entry = oci.descriptor(kind, described["digest"], path.stat().st_size)
            yield _Image(name, platform, entry, [path, config, *layers])


def _unpacked_digest(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(2) != _GZIP:
            return sha256(path)
    digest = hashlib.sha256()
    try:
        with gzip.open(path) as unpacked:
            while chunk := unpacked.read(1 << 20):
                digest.update(chunk)
    except (EOFError, zlib.error, OSError) as problem:
        raise _Broken(f"a layer does not unpack ({problem})") from None
    return digest.hexdigest()


def _images_of_docker(layout: _Layout) -> Iterator[_Image]:
    """The same of an archive of older Docker, which holds no OCI manifest: one is written."""
    for number, image in enumerate(layout.json("manifest.json")):
        config = layout.file(image["Config"])
        settings = json.loads(config.read_bytes())
        wanted = settings["rootfs"]["diff_ids"]
        layers = [layout.file(name) for name in image["Layers"]]
        if len(wanted) != len(layers):
            raise _Broken(f"{image['Config']} does not fit its layers")
        described = []
        for layer, diff in zip(layers, wanted, strict=True):
            if f"sha256:{_unpacked_digest(layer)}" != diff:
                raise _Broken(f"the content of {layer.relative_to(layout.root)} has another digest")
            with layer.open("rb") as file:
                suffix = "+gzip" if file.read(2) == _GZIP else ""
            digest = f"sha256:{sha256(layer)}"
            described.append(oci.descriptor(oci.LAYER + suffix, digest, layer.stat().st_size))
        manifest = oci.encode(
            {
                "schemaVersion": 2,
                "mediaType": oci.MANIFEST,
                "config": oci.descriptor(
                    oci.CONFIG, f"sha256:{sha256(config)}", config.stat().st_size
                ),
                "layers": described,
            }
        )
        path = layout.root / f"manifest-{number}"
        path.write_bytes(manifest)
        entry = oci.descriptor(oci.MANIFEST, oci.digest_of(manifest), len(manifest))
        for tag in image.get("RepoTags") or [""]:
            name = oci.full_name(tag)
            if name is None:
                raise _Broken("an image in it has no name and tag")
            yield _Image(name, oci.platform_text(settings), entry, [path, config, *layers])


def _unpack(file: Path, root: Path) -> None:
    try:
        with tarfile.open(file) as tar:
            # Debian 12's Python has no extractall(filter=...) yet, and only files are read of it.
            for member in filter(tarfile.TarInfo.isfile, tar):
                _write(tar, member, root)
    except FileNotFoundError:
        raise _Broken("there is no such file") from None
    except tarfile.ReadError:
        # It explains itself in many lines, one for each compression that it tried.
        raise _Broken("it is no tar file, or it is cut off") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError) as problem:
        raise _Broken(f"it does not unpack ({problem})") from None


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise _Broken(f"it does not unpack ({name} would be outside)")
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    if content:
        with content, path.open("wb") as target:
            shutil.copyfileobj(content, target)


def _read(root: Path) -> list[_Image]:
    """All images of an unpacked archive, each of them checked."""
    layout = _Layout(root)
    reader = _images_of_layout if (root / "index.json").is_file() else _images_of_docker
    try:
        found = list(reader(layout))
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        # JSON of another shape than an archive's: a key that is not there, a list for an object.
        raise _Broken(f"it is not an image archive ({problem!r})") from None
    if not found:
        raise _Broken("it holds no image")
    return found


def add(paths: Paths, file: Path) -> list[str]:
    """Take all images of an archive into the registry; return their names and platforms.

    Nothing is taken from an archive that is broken anywhere.
    """
    with paths.locked(), tempfile.TemporaryDirectory(dir=paths.bundle, prefix=".new-") as work:
        try:
            _unpack(file, Path(work))
            found = _read(Path(work))
        except _Broken as problem:
            raise BundleError(f"{file} cannot be added: {problem}") from None
        return _take(paths, Record(paths.manifest), found)


def add_locked(paths: Paths, file: Path) -> str | None:
    """Take a file whose SHA-256 a lock of the manifests names, and return its title; None: no lock
    names it."""
    title = locked_files().get(sha := sha256(file)) if file.is_file() else None
    if title is None:
        return None
    with paths.locked():
        target = paths.www / "files" / sha
        target.parent.mkdir(exist_ok=True)
        new = target.with_name(f".new-{sha}")
        shutil.copyfile(file, new)
        new.rename(target)
        Record(paths.manifest).put(f"file {title}", Part(sha, {f"www/files/{sha}": sha}))
    return title


def locked_files() -> dict[str, str]:
    """SHA-256 -> title of each file that a lock of the manifests names."""
    found: dict[str, str] = {}
    for lock in sorted(_MANIFESTS.glob("*/upstream.lock")):
        for line in lock.read_text().splitlines():
            if fields := line.partition("#")[0].split():
                name, version, _, sha = fields
                found.setdefault(sha, f"{lock.parent.name} {name} {version}")
    return found


def _take(paths: Paths, record: Record, found: list[_Image]) -> list[str]:
    parts: dict[str, Part] = {}
    for image in found:
        digests = []
        for file in image.files:
            # Copied, for two images may share a layer.
            copy = file.with_name(file.name + ".copy")
            shutil.copyfile(file, copy)
            digests.append(registry.put_file(paths, copy))
        part = registry.image_part("", image.name, image.platform, image.manifest, digests)
        parts[f"{registry.ADDED}{image.name} {image.platform}"] = part
    for title, part in parts.items():
        record.put(title, part)
    registry.publish(paths, record)
    return [f"{part.notes['image']} {part.notes['platform']}" for part in parts.values()]
