"""Images that are added from an archive."""

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bundle import archive, oci, registry
from bundle.errors import BundleError
from bundle.integrity import Record
from bundle.paths import Paths

NAME = "rajchaudhuri/weave-kube:2.9.0"
FULL = f"docker.io/{NAME}"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "cache", tmp_path / "bundle")


def save(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def blob(content: bytes) -> tuple[str, bytes]:
    return f"blobs/sha256/{oci.digest_of(content).removeprefix('sha256:')}", content


def described(kind: str, content: bytes, **more: object) -> dict[str, Any]:
    return {**oci.descriptor(kind, oci.digest_of(content), len(content)), **more}


def layout(arch: str = "amd64", name: str = NAME) -> dict[str, bytes]:
    """The files of an OCI layout with one image of one layer."""
    layer = f"the layer for {arch}".encode()
    config = oci.encode(
        {"os": "linux", "architecture": arch, "rootfs": {"diff_ids": [oci.digest_of(layer)]}}
    )
    manifest = oci.encode(
        {
            "mediaType": oci.MANIFEST,
            "config": described(oci.CONFIG, config),
            "layers": [described(oci.LAYER, layer)],
        }
    )
    top = described(oci.MANIFEST, manifest, annotations={"org.opencontainers.image.ref.name": name})
    index = {"manifests": [top]}
    return {
        "oci-layout": b"{}",
        "index.json": oci.encode(index),
        **dict(map(blob, (layer, config, manifest))),
    }


def docker_save(layer: bytes = b"a layer", tags: list[str] | None = None) -> dict[str, bytes]:
    """The files of an archive that `docker save` made before it wrote OCI layouts."""
    unpacked = gzip.decompress(layer) if layer.startswith(b"\x1f\x8b") else layer
    config = oci.encode(
        {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [oci.digest_of(unpacked)]}}
    )
    images = [{"Config": "c.json", "RepoTags": tags or [NAME], "Layers": ["l/layer.tar"]}]
    return {"manifest.json": json.dumps(images).encode(), "c.json": config, "l/layer.tar": layer}


def test_an_oci_layout_enters_the_registry_under_its_whole_name(
    paths: Paths, tmp_path: Path
) -> None:
    files = layout()
    added = archive.add(paths, save(tmp_path / "a.tar", files))
    assert added == [f"{FULL} linux/amd64"]
    index = registry.load_names(paths)[FULL]
    document = json.loads((paths.bundle / registry.blob_file(index)).read_bytes())
    assert [entry["platform"]["architecture"] for entry in document["manifests"]] == ["amd64"]
    for name, content in files.items():
        if name.startswith("blobs/"):
            assert (paths.registry / name).read_bytes() == content
    assert Record(paths.manifest).check() == set()


def test_a_second_platform_joins_the_first(paths: Paths, tmp_path: Path) -> None:
    archive.add(paths, save(tmp_path / "a.tar", layout("amd64")))
    archive.add(paths, save(tmp_path / "b.tar", layout("arm64")))
    assert sorted(registry.images(Record(paths.manifest))[FULL]) == ["linux/amd64", "linux/arm64"]


def test_an_index_of_which_one_platform_was_saved_gives_that_one(
    paths: Paths, tmp_path: Path
) -> None:
    files = layout()
    (top,) = json.loads(files["index.json"])["manifests"]
    absent = described(oci.MANIFEST, b"not here", platform={"os": "linux", "architecture": "arm64"})
    inner = oci.encode({"mediaType": oci.INDEX, "manifests": [absent, top]})
    name = {"io.containerd.image.name": FULL, "org.opencontainers.image.ref.name": "2.9.0"}
    files["index.json"] = oci.encode({"manifests": [described(oci.INDEX, inner, annotations=name)]})
    files |= dict([blob(inner)])
    assert archive.add(paths, save(tmp_path / "a.tar", files)) == [f"{FULL} linux/amd64"]


@pytest.mark.parametrize("layer", [b"a layer", gzip.compress(b"a layer")])
def test_an_archive_of_older_docker_gets_a_manifest(
    paths: Paths, tmp_path: Path, layer: bytes
) -> None:
    tags = [NAME, "example.org/same:1"]
    added = archive.add(paths, save(tmp_path / "a.tar", docker_save(layer, tags)))
    assert added == [f"{FULL} linux/amd64", "example.org/same:1 linux/amd64"]
    assert (paths.bundle / registry.blob_file(oci.digest_of(layer))).read_bytes() == layer


def changed(files: dict[str, bytes], ending: str, content: bytes | None) -> dict[str, bytes]:
    """The same files, the one of this ending (or with this content) changed or left out."""
    kept = {}
    for name, old in files.items():
        if not (name.endswith(ending) or old == ending.encode()):
            kept[name] = old
        elif content is not None:
            kept[name] = content
    assert kept != files
    return kept


BROKEN = {
    "its layer has another content": (
        changed(layout(), "the layer for amd64", b"the layer for amd65"),
        "has another digest",
    ),
    "its layer is not there": (changed(layout(), "the layer for amd64", None), "is not in it"),
    "its index is not JSON": (changed(layout(), "index.json", b"{"), "index.json is not JSON"),
    "its index is a list": (changed(layout(), "index.json", b"[1]"), "is not an image archive"),
    "it has no name": (layout(name="2.9.0"), "no full name with a tag, only '2.9.0'"),
    "it has no image": (changed(layout(), "index.json", b'{"manifests": []}'), "holds no image"),
    "it is no image archive": ({"readme": b"hello"}, "manifest.json is not in it"),
    "docker's layer is cut off": (
        changed(docker_save(), "layer.tar", b"a laye"),
        "l/layer.tar has another digest",
    ),
    "docker's gzip is cut off": (
        changed(docker_save(gzip.compress(b"a layer")), "layer.tar", gzip.compress(b"a")[:-4]),
        "a layer does not unpack",
    ),
    "docker's image has no tag": (
        changed(docker_save(), "manifest.json", b'[{"Config":"c.json","Layers":["l/layer.tar"]}]'),
        "no name and tag",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_archive_is_refused_in_a_sentence_and_nothing_is_taken(
    paths: Paths, tmp_path: Path, case: str
) -> None:
    files, words = BROKEN[case]
    path = save(tmp_path / "a.tar", files)
    with pytest.raises(BundleError) as refusal:
        archive.add(paths, path)
    assert str(refusal.value).startswith(f"{path} cannot be added: ")
    assert words in str(refusal.value)
    assert list((paths.registry / "blobs/sha256").iterdir()) == []
    assert registry.load_names(paths) == {}


@pytest.mark.parametrize("cut", [0, 100, 700])
def test_an_archive_that_is_cut_off_is_refused(paths: Paths, tmp_path: Path, cut: int) -> None:
    path = save(tmp_path / "a.tar", docker_save())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BundleError, match=f"^{path} cannot be added: "):
        archive.add(paths, path)


def test_a_file_that_does_not_exist_is_refused(paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such file"):
        archive.add(paths, tmp_path / "absent.tar")


def test_an_archive_that_would_write_elsewhere_is_refused(paths: Paths, tmp_path: Path) -> None:
    path = save(tmp_path / "a.tar", {"../outside": b"x", **layout()})
    with pytest.raises(BundleError, match="does not unpack"):
        archive.add(paths, path)
    assert not (paths.bundle / "outside").exists()


def test_an_added_image_is_served_instead_of_a_built_one_also_after_the_next_build(
    paths: Paths, tmp_path: Path
) -> None:
    built = registry.image_part("key", FULL, "linux/amd64", {"digest": "sha256:0a"}, [])
    paths.make()
    Record(paths.manifest).put(f"image {FULL} amd64", built)
    archive.add(paths, save(tmp_path / "a.tar", layout()))
    record = Record(paths.manifest)
    served = registry.images(record)[FULL]["linux/amd64"]
    assert served == record.parts[f"added {FULL} linux/amd64"].notes["manifest"]
    # A build records its own image after the others.
    record.put(f"image {FULL} amd64", record.parts.pop(f"image {FULL} amd64"))
    assert registry.images(record)[FULL]["linux/amd64"] == served


def test_a_file_is_taken_if_a_lock_of_the_manifests_names_its_digest(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "crds.yaml"
    file.write_text("kind: A\n")
    digest = oci.digest_of(b"kind: A\n").removeprefix("sha256:")
    lock = tmp_path / "manifests/rook/upstream.lock"
    lock.parent.mkdir(parents=True)
    monkeypatch.setattr(archive, "_MANIFESTS", tmp_path / "manifests")
    lock.write_text(f"# Rook's\ncrds v1 https://r/crds.yaml {'0' * 64}\n")
    assert archive.add_locked(paths, file) is None
    lock.write_text(f"# Rook's\ncrds v1 https://r/crds.yaml {digest}\n")
    assert archive.add_locked(paths, file) == "rook crds v1"
    assert (paths.www / "files" / digest).read_text() == "kind: A\n"
    assert not Record(paths.manifest).check()
    assert archive.add_locked(paths, tmp_path / "absent") is None
