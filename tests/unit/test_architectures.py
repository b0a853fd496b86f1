"""What there is for which CPU: the table against the manifests and the bundle."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from barekube import api_proxy, kubeadm_config, preflight, versions
from barekube.cluster import Node
from bundle import debian, images, listing, packages
from tests.unit.harness import home

MANIFESTS = Path(__file__).parents[2] / "manifests"
KINDS = ("DaemonSet", "Deployment", "Job", "Pod", "StatefulSet")


def _pods() -> Iterator[tuple[str, list[str], dict[str, Any]]]:
    """(what, its images, its affinity) of everything in the manifests that makes pods."""
    for path in sorted(MANIFESTS.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            name = (
                f"{path.relative_to(MANIFESTS)} {document['kind']}/{document['metadata']['name']}"
            )
            spec = document.get("spec") or {}
            if document["kind"] == "CephCluster":
                yield name, [spec["cephVersion"]["image"]], spec["placement"]["all"]
            elif document["kind"] == "CephFilesystem":
                # Rook asks nothing else for these pods (pkg/operator/ceph/file/mds/spec.go).
                yield name, ["quay.io/ceph/ceph"], spec["metadataServer"].get("placement", {})
            elif document["kind"] in KINDS:
                pod = spec if document["kind"] == "Pod" else spec["template"]["spec"]
                containers = [*pod.get("initContainers", ()), *pod["containers"]]
                yield name, [each["image"] for each in containers], pod.get("affinity", {})


PODS = list(_pods())


def _kept_from(affinity: dict[str, Any]) -> set[str]:
    """The architectures that a required node affinity shuts out: those of no term."""
    required = affinity.get("nodeAffinity", {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution", {}
    )
    let_in = set[str]()
    terms = required.get("nodeSelectorTerms", [{}])
    for term in terms:
        allowed = set(versions.DEBIAN_ARCHITECTURES)
        for each in term.get("matchExpressions", []):
            if each["key"] == "kubernetes.io/arch" and each["operator"] == "In":
                allowed &= set(each["values"])
        let_in |= allowed
    return set(versions.DEBIAN_ARCHITECTURES) - let_in


@pytest.mark.parametrize(
    ("named", "affinity"), [pod[1:] for pod in PODS], ids=[pod[0] for pod in PODS]
)
def test_pods_are_kept_off_cpus_that_their_images_are_not_for(
    named: list[str], affinity: dict[str, Any]
) -> None:
    lacking = {arch for image in named for arch in versions.had_nowhere(image)}
    assert _kept_from(affinity) == lacking


def test_among_the_pods_are_some_that_run_everywhere_and_some_that_do_not() -> None:
    assert {not _kept_from(affinity) for _, _, affinity in PODS} == {True, False}


def test_an_affinity_of_another_kind_keeps_nobody_off() -> None:
    term = {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["a"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    assert _kept_from({"nodeAffinity": required}) == set()


@pytest.mark.parametrize("arch", versions.DEBIAN_ARCHITECTURES)
def test_the_bundle_builds_what_the_table_says_for_an_architecture(arch: str) -> None:
    built = {package.name for package in packages.kubernetes_packages()} | {"containerd.io"}
    for image in images.IMAGES:
        if arch in versions.CONTROL_PLANES or not image.control_plane:
            built.add(image.name.rpartition(":")[0])
    wanted = {name for name, sources in versions.SOURCES.items() if arch in sources.bundle}
    assert built - {"barekube.lab/network"} == wanted


def test_the_list_of_a_bundle_has_every_image_of_the_table_that_nothing_builds() -> None:
    listed = {name.partition(":")[0] for name in listing.NOT_BUILT}
    assert listed == {name for name, sources in versions.SOURCES.items() if not sources.bundle}
    # Whatever an image is called by in a file of Rook's, the table knows it.
    assert "registry.k8s.io/sig-storage/csi-provisioner" in listed


def test_raspberry_pi_os_of_32_bits_takes_debians_packages() -> None:
    release = {"ID": "raspbian", "VERSION_ID": "12", "VERSION_CODENAME": "bookworm"}
    exact = versions.written_out({"containerd.io": versions.CONTAINERD_DEB}, release)
    assert exact == {"containerd.io": f"{versions.CONTAINERD}-1~debian.12~bookworm"}


def test_the_releases_that_a_bundle_has_packages_of_are_those_that_it_fetches() -> None:
    assert {("debian", number) for number in debian.RELEASES.values()} == set(versions.BUNDLED)


def test_a_worker_of_the_least_memory_has_room_for_what_runs_on_every_worker() -> None:
    masters = (Node("a", "192.0.2.11", True), Node("b", "192.0.2.12", True))
    _, proxy = api_proxy.files(home(*masters))
    requested = {"Pod": _requested([proxy.content], "Pod")}
    for folder in ("weave", "traefik", "network-page", "verify"):
        texts = [path.read_text() for path in (MANIFESTS / folder).glob("*.yaml")]
        requested[folder] = _requested(texts, "DaemonSet")
    assert all(requested.values())
    # kubelet begins to evict where less than 100 MiB are left.
    allocatable = preflight.WORKER_MB - kubeadm_config.RESERVED_MB - 100
    # What the README promises.
    assert sum(requested.values()) - requested["verify"] <= 310
    assert allocatable - sum(requested.values()) >= 200


def _requested(texts: Iterable[str], kind: str) -> int:
    """MiB of memory that one pod of each object of a kind asks for."""
    found = 0
    for document in (each for text in texts for each in yaml.safe_load_all(text)):
        if document["kind"] != kind:
            continue
        spec = document["spec"]
        for container in (spec if kind == "Pod" else spec["template"]["spec"])["containers"]:
            amount = container["resources"]["requests"]["memory"]
            assert amount.endswith("Mi"), amount
            found += int(amount.removesuffix("Mi"))
    return found
