"""Layers, names and indexes of images."""

import tarfile
from pathlib import Path

import pytest

from bundle import oci
from bundle.images import IMAGES
from bundle.oci import Node


def test_a_layer_is_the_same_whenever_and_in_whatever_order_it_is_made(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"program")
    tree = {
        "usr/bin/a": Node(program, 0o755),
        "etc/passwd": Node(b"root"),
        "sbin": Node(link="usr"),
    }
    oci.write_layer(tree, tmp_path / "one.tar")
    program.touch()
    oci.write_layer(dict(reversed(tree.items())), tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_a_layer_has_the_parents_of_its_files_before_them(tmp_path: Path) -> None:
    oci.write_layer({"usr/local/bin/etcd": Node(b"etcd", 0o755)}, tmp_path / "layer.tar")
    with tarfile.open(tmp_path / "layer.tar") as tar:
        found = [(member.name, member.isdir(), member.mode, member.mtime) for member in tar]
    assert found == [
        ("usr", True, 0o755, 0),
        ("usr/local", True, 0o755, 0),
        ("usr/local/bin", True, 0o755, 0),
        ("usr/local/bin/etcd", False, 0o755, 0),
    ]


def test_coredns_may_bind_low_ports_without_being_root(tmp_path: Path) -> None:
    (image,) = [image for image in IMAGES if image.entrypoint == "/coredns"]
    assert image.user == "65532:65532"
    oci.write_layer({"coredns": Node(b"", capabilities=image.capabilities)}, tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        value = tar.getmember("coredns").pax_headers["SCHILY.xattr.security.capability"]
    # What `setcap cap_net_bind_service=ep` writes: revision 2, effective, bit 10.
    assert value.encode() == bytes.fromhex("0100000200040000000000000000000000000000")


def test_a_directory_is_read_with_its_links_and_modes(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/kmod").write_text("kmod")
    (tmp_path / "bin/kmod").chmod(0o755)
    (tmp_path / "modprobe").symlink_to("bin/kmod")
    assert oci.read_tree(tmp_path) == {
        "bin": Node(directory=True, mode=(tmp_path / "bin").stat().st_mode & 0o7777),
        "bin/kmod": Node(tmp_path / "bin/kmod", 0o755),
        "modprobe": Node(link="bin/kmod"),
    }


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("registry.k8s.io/coredns/coredns:v1.14.6", "registry.k8s.io/coredns/coredns:v1.14.6"),
        ("rajchaudhuri/weave-kube:2.9.0", "docker.io/rajchaudhuri/weave-kube:2.9.0"),
        ("traefik:v3", "docker.io/library/traefik:v3"),
        ("localhost:5000/a:1", "localhost:5000/a:1"),
        ("rajchaudhuri/weave-kube", None),
        ("2.9.0", None),
        ("", None),
        ("docker.io/UPPER:1", None),
    ],
)
def test_a_name_is_completed_as_containerd_does(name: str, whole: str | None) -> None:
    assert oci.full_name(name) == whole


@pytest.mark.parametrize("text", ["linux/amd64", "linux/arm64", "linux/arm/v7"])
def test_a_platform_is_read_back_as_it_was_written(text: str) -> None:
    assert oci.platform_text(oci.platform(text)) == text


def test_an_index_names_each_platform_once() -> None:
    manifest = oci.descriptor(oci.MANIFEST, "sha256:a", 7)
    index = oci.index({"linux/arm/v7": manifest, "linux/amd64": manifest})
    assert [entry["platform"] for entry in index["manifests"]] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm", "variant": "v7"},
    ]
