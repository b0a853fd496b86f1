"""The one table of versions and the one of architectures. lab/ and bundle/ read it too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

KUBERNETES: Final = "1.37.2"
ETCD: Final = "3.7.0"
COREDNS: Final = "1.14.6"
PAUSE: Final = "3.10.2"
CONTAINERD: Final = "2.4.2"
RUNC: Final = "1.5.2"
CNI_PLUGINS: Final = "1.9.1"
CRI_TOOLS: Final = "1.36.0"
TRAEFIK: Final = "3.7.9"
# Upstream's program for network tests: test/images/agnhost/VERSION in Kubernetes' source.
AGNHOST: Final = "2.66.1"
BUSYBOX: Final = "1.37.0"
# What Debian 13 carries, with later fixes: a bundle takes it from there.
HAPROXY: Final = "3.0.11"

# The release that upgrades are tried from, with what its kubeadm wants. A bundle has it on demand.
FORMER: Final = {"kubernetes": "1.36.3", "etcd": "3.6.8", "coredns": "1.14.2"}

# Debian versions as pkgs.k8s.io has them; the suffix is its packaging revision.
KUBERNETES_DEB: Final = f"{KUBERNETES}-1.1"
CNI_PLUGINS_DEB: Final = f"{CNI_PLUGINS}-1.1"
CRI_TOOLS_DEB: Final = f"{CRI_TOOLS}-1.1"

# What a control plane runs beside etcd, each as a static pod.
SERVERS: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")

IMAGES: Final = {
    "kube-apiserver": f"registry.k8s.io/kube-apiserver:v{KUBERNETES}",
    "kube-controller-manager": f"registry.k8s.io/kube-controller-manager:v{KUBERNETES}",
    "kube-scheduler": f"registry.k8s.io/kube-scheduler:v{KUBERNETES}",
    "kube-proxy": f"registry.k8s.io/kube-proxy:v{KUBERNETES}",
    "coredns": f"registry.k8s.io/coredns/coredns:v{COREDNS}",
    "etcd": f"registry.k8s.io/etcd:{ETCD}-0",
    "pause": f"registry.k8s.io/pause:{PAUSE}",
    "traefik": f"docker.io/library/traefik:v{TRAEFIK}",
    "agnhost": f"registry.k8s.io/e2e-test-images/agnhost:{AGNHOST}",
    "busybox": f"docker.io/library/busybox:{BUSYBOX}",
    "haproxy": f"docker.io/library/haproxy:{HAPROXY}",
}

# What `uname -m` prints -> what Kubernetes and Go call it.
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
# ... -> what Debian calls it.
DEBIAN_ARCHITECTURES: Final = {"amd64": "amd64", "arm64": "arm64", "arm": "armhf"}

# Where etcd runs, and so a control plane.
CONTROL_PLANES: Final = ("amd64", "arm64")
_ALL: Final = tuple(DEBIAN_ARCHITECTURES)
_BITS_64: Final = ("amd64", "arm64")


@dataclass(frozen=True)
class Sources:
    """The architectures that a part can be had for: as upstream publishes it, and as a bundle
    builds it. An image that no bundle builds can be added to one from an archive."""

    upstream: tuple[str, ...]
    bundle: tuple[str, ...] = ()


# What runs beside cephcsi, and so only where that does; operator.yaml of Rook names them.
CSI_SIDE_CARS: Final = tuple(
    f"registry.k8s.io/sig-storage/csi-{name}"
    for name in ("attacher", "node-driver-registrar", "provisioner", "resizer", "snapshotter")
)

# Every part -> where it comes from. A package by its name, an image by its name without the tag.
# Upstream dropped 32-bit ARM: Kubernetes with 1.27, cri-tools and etcd in 2023, Rook in 2018.
SOURCES: Final = {
    **dict.fromkeys(
        ("kubelet", "kubeadm", "kubectl", "kubernetes-cni", "cri-tools"), Sources(_BITS_64, _ALL)
    ),
    # Docker has armhf for Debian; whether of this version, nobody has looked.
    "containerd.io": Sources(_BITS_64, _ALL),
    **{
        IMAGES[name].rpartition(":")[0]: Sources(_BITS_64, CONTROL_PLANES)
        for name in (*SERVERS, "etcd")
    },
    **{
        IMAGES[name].rpartition(":")[0]: Sources(_BITS_64, _ALL)
        for name in ("kube-proxy", "pause", "agnhost")
    },
    **{
        IMAGES[name].rpartition(":")[0]: Sources(_ALL, _ALL)
        for name in ("coredns", "traefik", "busybox", "haproxy")
    },
    "docker.io/rajchaudhuri/weave-kube": Sources(_ALL),
    "docker.io/rajchaudhuri/weave-npc": Sources(_ALL),
    "docker.io/rook/ceph": Sources(_BITS_64),
    "quay.io/ceph/ceph": Sources(_BITS_64),
    "quay.io/cephcsi/ceph-csi-operator": Sources(_BITS_64),
    "quay.io/cephcsi/cephcsi": Sources(_BITS_64),
    **dict.fromkeys(CSI_SIDE_CARS, Sources(_ALL)),
}


def only_bundled(arch: str) -> list[str]:
    """The parts that a node of an architecture needs and upstream has not, but a bundle builds."""
    return [name for name, s in SOURCES.items() if arch in s.bundle and arch not in s.upstream]


def without_tag(image: str) -> str:
    """An image's name without its tag and digest; its host may have a port."""
    host, slash, path = image.partition("/")
    return f"{host}{slash}{path.partition('@')[0].partition(':')[0]}"


def had_nowhere(image: str) -> set[str]:
    """The architectures that an image (with or without its tag) has no source for. Raises KeyError
    for one that the table does not know."""
    sources = SOURCES[without_tag(image)]
    return set(_ALL) - {*sources.upstream, *sources.bundle}


def kubernetes_minor(version: str = KUBERNETES) -> str:
    """'1.37.2' -> 'v1.37', as pkgs.k8s.io names its repositories."""
    major, minor, _ = version.split(".")
    return f"v{major}.{minor}"


def kubernetes_debs(version: str) -> dict[str, str | None]:
    """The packages of pkgs.k8s.io that a node gets, with their full Debian versions."""
    return {
        "kubelet": f"{version}-1.1",
        "kubeadm": f"{version}-1.1",
        "kubectl": f"{version}-1.1",
        "kubernetes-cni": CNI_PLUGINS_DEB,
        "cri-tools": CRI_TOOLS_DEB,
    }


# containerd.io in Docker's apt repository, whose full version differs by release.
CONTAINERD_DEB: Final = f"{CONTAINERD}-1~{{distribution}}.{{release}}~{{codename}}"


# (publisher, release) whose packages a bundle has.
BUNDLED: Final = (("debian", "12"), ("debian", "13"))


def publisher(release: Mapping[str, str]) -> str:
    """Whose packages a host takes: Raspberry Pi OS of 32 bits (raspbian) those of Debian, for
    Docker stopped to make its own, and armv7 runs both."""
    name = release.get("ID", "")
    return "debian" if name == "raspbian" else name


def written_out(
    packages: Mapping[str, str | None], release: Mapping[str, str]
) -> dict[str, str | None]:
    """Full versions for one host: {distribution}, {release} and {codename} are those of its
    /etc/os-release (ID, VERSION_ID, VERSION_CODENAME), given as `release`."""
    values = {
        "distribution": publisher(release),
        "release": release.get("VERSION_ID", ""),
        "codename": release.get("VERSION_CODENAME", ""),
    }
    return {name: full and full.format(**values) for name, full in packages.items()}


def containerd_deb(distribution: str, release: str, codename: str) -> str:
    """The full version of containerd.io for one release, e.g. ("debian", "12", "bookworm")."""
    names = {"ID": distribution, "VERSION_ID": release, "VERSION_CODENAME": codename}
    return str(written_out({"containerd.io": CONTAINERD_DEB}, names)["containerd.io"])
