"""Makes Debian packages with upstream's names, versions, paths and dependencies.

What is in them was taken from the package definitions of pkgs.k8s.io and from Docker's package of
containerd; the descriptions say that these were built here.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from barekube import versions
from bundle.components import CNI, CONTAINERD, CRI_TOOLS, KUBERNETES, RUNC, Component
from bundle.machine import run

TEXTS: Final = Path(__file__).parent / "packaging"
# Any fixed time: two builds of one package are then the same, bit for bit.
EPOCH: Final = 1_700_000_000
_UNITS = "/usr/lib/systemd/system"


@dataclass(frozen=True)
class File:
    """One file of a package: a text of bundle/packaging, a program, or (neither) an empty file."""

    text: str = ""
    program: str = ""
    mode: int = 0o644


@dataclass(frozen=True)
class Package:
    """A Debian package of one architecture."""

    name: str
    version: str
    summary: str
    # Which component's programs it carries.
    components: tuple[str, ...]
    files: Mapping[str, File]
    # Depends, Recommends and the like.
    relations: Mapping[str, str] = field(default_factory=dict)
    conffiles: tuple[str, ...] = ()
    # Maintainer scripts, texts of bundle/packaging/<name>.<script>.
    scripts: tuple[str, ...] = ()

    def filename(self, debian_arch: str) -> str:
        return f"{self.name}_{self.version}_{debian_arch}.deb"


def _programs(directory: str, *names: str) -> dict[str, File]:
    return {f"{directory}/{name}": File(program=name, mode=0o755) for name in names}


_SCRIPTS = ("postinst", "prerm", "postrm")


def kubernetes_packages(component: Component = KUBERNETES) -> tuple[Package, ...]:
    """The packages of pkgs.k8s.io for one release of Kubernetes."""
    return (
        Package(
            "kubelet",
            f"{component.version}-1.1",
            "Node agent for Kubernetes clusters",
            (component.name,),
            {
                **_programs("/usr/bin", "kubelet"),
                f"{_UNITS}/kubelet.service": File("kubelet.service", mode=0o600),
                "/etc/default/kubelet": File("kubelet.default"),
                # A package cannot hold an empty directory.
                "/etc/kubernetes/manifests/.kubelet-keep": File(),
                "/var/lib/kubelet/.kubelet-keep": File(),
            },
            {
                "Depends": "kubernetes-cni (>= 1.2.0), mount, util-linux",
                "Recommends": "iptables (>= 1.8.4)",
            },
            conffiles=("/etc/default/kubelet",),
            scripts=_SCRIPTS,
        ),
        Package(
            "kubeadm",
            f"{component.version}-1.1",
            "Command-line utility for administering a Kubernetes cluster",
            (component.name,),
            {
                **_programs("/usr/bin", "kubeadm"),
                f"{_UNITS}/kubelet.service.d/10-kubeadm.conf": File("10-kubeadm.conf"),
            },
        ),
        Package(
            "kubectl",
            f"{component.version}-1.1",
            "Command-line utility for interacting with a Kubernetes cluster",
            (component.name,),
            _programs("/usr/bin", "kubectl"),
        ),
        Package(
            "kubernetes-cni",
            versions.CNI_PLUGINS_DEB,
            "Binaries required to provision kubernetes container networking",
            (CNI.name,),
            {
                **_programs("/opt/cni/bin", *CNI.programs),
                "/etc/cni/net.d/.kubernetes-cni-keep": File(),
            },
        ),
        Package(
            "cri-tools",
            versions.CRI_TOOLS_DEB,
            "Command-line utility for interacting with a container runtime",
            (CRI_TOOLS.name,),
            _programs("/usr/bin", "crictl"),
        ),
    )


def containerd_package(release: str, codename: str) -> Package:
    """Docker's containerd.io, whose version names the release of Debian."""
    return Package(
        "containerd.io",
        versions.containerd_deb("debian", release, codename),
        "An open and reliable container runtime",
        (CONTAINERD.name, RUNC.name),
        {
            **_programs("/usr/bin", *CONTAINERD.programs, *RUNC.programs),
            f"{_UNITS}/containerd.service": File("containerd.service"),
            "/etc/containerd/config.toml": File("containerd.toml"),
        },
        {
            "Depends": "libc6 (>= 2.34), libseccomp2 (>= 2.5.0)",
            "Conflicts": "containerd, runc",
            "Provides": "containerd, runc",
            "Replaces": "containerd, runc",
        },
        conffiles=("/etc/containerd/config.toml",),
        scripts=_SCRIPTS,
    )


def control(package: Package, debian_arch: str, kibibytes: int) -> str:
    """The control file of a package."""
    fields = {
        "Package": package.name,
        "Version": package.version,
        "Architecture": debian_arch,
        "Maintainer": "barekube bundle <root@localhost>",
        "Section": "admin",
        "Priority": "optional",
        "Installed-Size": str(kibibytes),
        **package.relations,
        "Description": f"{package.summary}\n Built from its Go module by barekube's bundle.",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def make(package: Package, debian_arch: str, programs: Mapping[str, Path], work: Path) -> Path:
    """Make a package's .deb from programs (name -> path), in `work`."""
    root = work / package.name
    shutil.rmtree(root, ignore_errors=True)
    for path, file in package.files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.program:
            shutil.copyfile(programs[file.program], place)
        else:
            place.write_text((TEXTS / file.text).read_text() if file.text else "")
        place.chmod(file.mode)
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    meta = root / "DEBIAN"
    meta.mkdir()
    (meta / "control").write_text(control(package, debian_arch, size // 1024))
    if package.conffiles:
        (meta / "conffiles").write_text("".join(f"{path}\n" for path in package.conffiles))
    for script in package.scripts:
        (meta / script).write_text((TEXTS / f"{package.name}.{script}").read_text())
        (meta / script).chmod(0o755)
    for directory in (root, *root.rglob("*")):
        if directory.is_dir():
            directory.chmod(0o755)
    deb = work / package.filename(debian_arch)
    run(
        # zstd: a slow machine unpacks it five times as fast as xz.
        ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z3", "--build", root, deb],
        what=f"making {deb.name}",
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
    )
    shutil.rmtree(root)
    return deb
