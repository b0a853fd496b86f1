"""What `python -m bundle list` prints: each part, where it is from, and what fails without it."""

from collections.abc import Mapping
from typing import Final

from barekube import versions
from bundle import aptrepo, archive, debian, images, registry
from bundle.components import KUBERNETES
from bundle.integrity import Record
from bundle.paths import Paths
from bundle.trust import Signer

# Images that nothing here builds -> what will not work without them.
NOT_BUILT: Final = {
    "docker.io/rajchaudhuri/weave-kube:2.9.0": "the pod network Weave; a lab has its own instead",
    "docker.io/rajchaudhuri/weave-npc:2.9.0": "network policies of Weave",
    "docker.io/rook/ceph": "Rook, so all storage of the cluster",
    "quay.io/ceph/ceph": "Ceph, so all storage of the cluster",
    "quay.io/cephcsi/ceph-csi-operator": "volumes from Ceph",
    "quay.io/cephcsi/cephcsi": "volumes from Ceph",
    **dict.fromkeys(versions.CSI_SIDE_CARS, "volumes from Ceph"),
}
_WITHOUT: Final = {
    "kube-proxy": "Services",
    "coredns": "names in the cluster",
    "network": "the lab's own pod network",
    "traefik": "Ingress",
    "agnhost": "test of the network between pods",
    "busybox": "page that shows the pod network",
    "haproxy": "way of workers to several control planes",
}


def _purpose(name: str) -> str:
    short = name.rpartition("/")[2].partition(":")[0]
    return _WITHOUT.get(short, "the cluster itself")


def _image_rows(record: Record) -> list[tuple[str, str, str]]:
    present = registry.images(record)
    rows = []
    built = {
        image.name: f"built from {image.component}"
        + (f", without {image.lacks}" if image.lacks else "")
        for image in (*images.IMAGES, *images.FORMER_IMAGES)
    }
    added = {
        part.notes["image"]
        for title, part in record.parts.items()
        if title.startswith(registry.ADDED)
    }
    wanted = [image.name for image in images.IMAGES]
    for name in [*wanted, *sorted(set(present) - set(wanted))]:
        platforms = ", ".join(sorted(p.removeprefix("linux/") for p in present.get(name, {})))
        source = "added" if name in added else built.get(name, "of an earlier build")
        state = f"{platforms} ({source})" if platforms else "missing"
        rows.append((f"image {name}", state, "" if platforms else _purpose(name)))
    packages = [part.notes for part in record.parts.values() if "repository" in part.notes]
    hosts = {notes["architecture"] for notes in packages}
    for name, purpose in NOT_BUILT.items():
        there = {
            platform.split("/")[1]
            for found in present
            if found == name or found.startswith(f"{name}:")
            for platform in present[found]
        }
        wanted_on = hosts.intersection(versions.SOURCES[versions.without_tag(name)].upstream)
        if not there:
            rows.append((f"image {name}", "missing", purpose))
        elif lacks := ", ".join(sorted(wanted_on - there)):
            rows.append((f"image {name}", f"missing for {lacks}", purpose))
    return rows


def _file_rows(record: Record) -> list[tuple[str, str, str]]:
    present = {path.name for path in record.digests()}
    return [
        (f"file {title}", "added", "")
        if sha in present
        else (f"file {title}", "missing", "Rook, so all storage of the cluster")
        for sha, title in archive.locked_files().items()
    ]


def _package_rows(record: Record) -> list[tuple[str, str, str]]:
    wanted: Mapping[str, tuple[str, str]] = {
        "apt " + aptrepo.KUBERNETES_PATHS[versions.KUBERNETES]: (
            f"built from {KUBERNETES.name}",
            "the nodes themselves",
        ),
        **{
            f"apt {aptrepo.DOCKER_PATH} {release}": (
                "built from containerd and runc",
                f"nodes of Debian {number}",
            )
            for release, number in debian.RELEASES.items()
        },
        **{
            f"apt {aptrepo.DEBIAN_PATH} {release}": (
                "from this machine's mirror",
                f"nodes of Debian {number}",
            )
            for release, number in debian.RELEASES.items()
        },
    }
    rows = []
    for name, (source, purpose) in wanted.items():
        held = {
            part.notes["architecture"]: part.files
            for part in record.parts.values()
            if part.notes.get("repository") == name.removeprefix("apt ")
        }
        if name not in record.parts or not held:
            rows.append((name, "missing", purpose))
            continue
        count = len({file for files in held.values() for file in files})
        state = f"{', '.join(sorted(held))} ({source}, {count} packages)"
        rows.append((name, state, ""))
    return rows


def table(paths: Paths, record: Record) -> str:
    """The table, what a cluster's group_data needs of it, and where to find kubectl."""
    rows = [
        ("part", "architectures", "without it there is no"),
        *_package_rows(record),
        *_image_rows(record),
        *_file_rows(record),
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in rows]
    kubectl, ca = paths.cache / "bin/kubectl", paths.bundle / "ca.crt"
    key = Signer(paths).fingerprint() if record.parts else "not made"
    lines += [
        "",
        f"bundle_key, of the apt repositories: {key}",
        f"bundle_ca, of the server: {ca if ca.exists() else 'not made'}",
        f"kubectl for this machine: {kubectl if kubectl.exists() else 'not built'}",
    ]
    return "\n".join(lines)
