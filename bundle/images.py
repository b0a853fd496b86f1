"""What is in the images: upstream's names, program paths, users and entry points."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from barekube import versions
from bundle import debian, oci, registry
from bundle.components import (
    AGNHOST,
    CONTROL_PLANE,
    COREDNS,
    ETCD,
    FORMER,
    KUBERNETES,
    LAB_NETWORK,
    TRAEFIK,
)
from bundle.integrity import Part
from bundle.machine import run
from bundle.oci import Node
from bundle.paths import Paths

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The bit of CAP_NET_BIND_SERVICE in linux/capability.h.
_BIND_LOW_PORTS = 1 << 10
_PLATFORMS: Final = {"amd64": "linux/amd64", "arm64": "linux/arm64", "arm": "linux/arm/v7"}
_ACCOUNTS: Final = {
    "etc/passwd": Node(
        b"root:x:0:0:root:/root:/sbin/nologin\n"
        b"nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
        b"nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
    ),
    "etc/group": Node(b"root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n"),
    "tmp": Node(directory=True, mode=0o1777),
}
# What of Debian's packages no program in an image reads.
_NOT_NEEDED: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian")


@dataclass(frozen=True)
class Image:
    """An image that is made here."""

    name: str
    # The Go component that it is built from, or the Debian package that it is taken from.
    component: str
    # Path in the image -> program of the component, or path in the package.
    programs: Mapping[str, str]
    entrypoint: str = ""
    # What the entry point gets where a pod says nothing.
    arguments: tuple[str, ...] = ()
    user: str = ""
    # Capabilities of the entry point's file.
    capabilities: int = 0
    # Does it hold the Debian packages that kube-proxy calls?
    iptables: bool = False
    # Does it hold the authorities that Debian trusts?
    certificates: bool = False
    # Does it hold the libraries that its Debian package asks for?
    libraries: bool = False
    # Further names of busybox, which picks what it does by the name it is called by.
    applets: tuple[str, ...] = ()
    # What upstream's image has and this one has not.
    lacks: str = ""

    @property
    def control_plane(self) -> bool:
        """Does it run on control planes only?"""
        return not CONTROL_PLANE.isdisjoint(self.programs.values())


def _kubernetes(name: str) -> Image:
    path = f"/usr/local/bin/{name}"
    return Image(
        versions.IMAGES[name], KUBERNETES.name, {path: name}, path, iptables=name == "kube-proxy"
    )


# In the order in which a cluster wants them.
IMAGES: Final = (
    Image(versions.IMAGES["pause"], "pause", {"/pause": "pause"}, "/pause", user="65535:65535"),
    Image(
        versions.IMAGES["etcd"],
        ETCD.name,
        {f"/usr/local/bin/{name}": name for name in ETCD.programs},
        "/usr/local/bin/etcd",
    ),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kube-proxy"),
    # It serves port 53 without being root.
    Image(
        versions.IMAGES["coredns"],
        COREDNS.name,
        {"/coredns": "coredns"},
        "/coredns",
        user="65532:65532",
        capabilities=_BIND_LOW_PORTS,
    ),
    Image(
        f"barekube.lab/network:{LAB_NETWORK.version}",
        LAB_NETWORK.name,
        {"/lab-network": "lab-network"},
        "/lab-network",
    ),
    # Its module has no built web pages; without --api.dashboard=false, --api logs that as an error.
    Image(
        versions.IMAGES["traefik"],
        TRAEFIK.name,
        {"/usr/local/bin/traefik": "traefik"},
        "/usr/local/bin/traefik",
        certificates=True,
        lacks="the dashboard's pages",
    ),
    Image(
        versions.IMAGES["agnhost"],
        KUBERNETES.name,
        {"/agnhost": AGNHOST},
        "/agnhost",
        ("pause",),
        lacks="shell, curl, dig",
    ),
    Image(
        versions.IMAGES["busybox"],
        debian.BUSYBOX,
        {"/bin/busybox": "usr/bin/busybox"},
        arguments=("/bin/sh",),
        applets=("httpd", "sh", "timeout", "wget"),
        lacks="names but httpd, sh, timeout and wget",
    ),
    Image(
        versions.IMAGES["haproxy"],
        debian.HAPROXY,
        {"/usr/local/sbin/haproxy": "usr/sbin/haproxy"},
        "/usr/local/sbin/haproxy",
        libraries=True,
        lacks="shell",
    ),
)


def _former(image: Image) -> Image:
    """The same of the release that upgrades are tried from."""
    component = next(each for each in FORMER if each.kind == image.component)
    version = f"{component.version}-0" if component.kind == ETCD.name else f"v{component.version}"
    name = f"{image.name.rpartition(':')[0]}:{version}"
    return replace(image, name=name, component=component.name)


FORMER_IMAGES: Final = tuple(
    _former(each)
    for each in IMAGES
    if each.component in versions.FORMER and AGNHOST not in each.programs.values()
)


def _iptables(root: Path) -> dict[str, Node]:
    """The files of unpacked packages, with iptables' names pointing at the nft flavour.

    On a machine the package's script makes those links by update-alternatives.
    """
    tree = {
        name: node
        for name, node in oci.read_tree(root).items()
        # gconv converts character sets; it is the larger half of libc.
        if not name.startswith(_NOT_NEEDED) and "/gconv/" not in name
    }
    links = (f"{v}tables{verb}" for v in ("ip", "ip6") for verb in ("", "-save", "-restore"))
    return {**tree, **{f"usr/sbin/{name}": Node(link="xtables-nft-multi") for name in links}}


def _certificates(root: Path) -> dict[str, Node]:
    """The one file of authorities that on a machine ca-certificates' script makes."""
    found = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    return {"etc/ssl/certs/ca-certificates.crt": Node(b"".join(x.read_bytes() for x in found))}


def _libraries(root: Path) -> dict[str, Node]:
    """The shared libraries of unpacked packages, with the links by which programs name their
    loader; on a machine base-files has those."""
    tree = {
        name: node
        for name, node in oci.read_tree(root).items()
        if re.match(r"usr/lib(64/|/[^/]+-linux-[^/]+/|/ld-)", name) and "/gconv/" not in name
    }
    tops = {name.split("/")[1] for name in tree}
    return {**tree, **{top: Node(link=f"usr/{top}") for top in tops}}


def make(
    image: Image, arch: str, programs: Mapping[str, Path], debs: list[Path], paths: Paths, key: str
) -> Part:
    """Make an image of one architecture and put it into the registry."""
    tree = dict(_ACCOUNTS)
    with tempfile.TemporaryDirectory(dir=paths.bundle, prefix=".new-") as work:
        root = Path(work) / "root"
        root.mkdir()
        for deb in debs:
            run(["dpkg-deb", "-x", deb, root], what=f"unpacking {deb.name}")
        if image.iptables:
            tree = {**_iptables(root), **tree}
        if image.libraries:
            tree |= _libraries(root)
        if image.certificates:
            tree |= _certificates(root)
        for path, program in image.programs.items():
            capabilities = image.capabilities if path == image.entrypoint else 0
            file = programs.get(program, root / program)
            tree[path.lstrip("/")] = Node(file, 0o755, capabilities=capabilities)
        tree |= {f"bin/{name}": Node(link="busybox") for name in image.applets}
        layer = Path(work) / "layer.tar"
        oci.write_layer(tree, layer)
        size = layer.stat().st_size
        diff = registry.put_file(paths, layer)
    platform = _PLATFORMS[arch]
    config = oci.encode(
        {
            **oci.platform(platform),
            "config": {
                "Env": [f"PATH={PATH}"],
                **({"Entrypoint": [image.entrypoint]} if image.entrypoint else {}),
                **({"Cmd": list(image.arguments)} if image.arguments else {}),
                "WorkingDir": "/",
                **({"User": image.user} if image.user else {}),
            },
            "rootfs": {"type": "layers", "diff_ids": [diff]},
            "history": [{"created_by": "barekube bundle"}],
        }
    )
    config_digest = registry.put_bytes(paths, config)
    manifest = oci.encode(
        {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": oci.descriptor(oci.CONFIG, config_digest, len(config)),
            "layers": [oci.descriptor(oci.LAYER, diff, size)],
        }
    )
    digest = registry.put_bytes(paths, manifest)
    described = oci.descriptor(oci.MANIFEST, digest, len(manifest))
    blobs = [config_digest, diff]
    return registry.image_part(key, image.name, platform, described, blobs)
