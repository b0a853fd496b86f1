"""What is compiled: each component's Go packages, build tags and version stamps."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from barekube import versions

MODULES: Final = Path(__file__).parent / "modules"
REPOSITORY: Final = Path(__file__).parent.parent


@dataclass(frozen=True)
class Component:
    """Programs that come from one Go module, or from one directory of sources."""

    name: str
    version: str
    # Program -> the Go package that it is the main of.
    programs: Mapping[str, str]
    # Go variable -> the text that is linked into it.
    stamps: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    cgo: bool = False
    # Where go.mod is; by default bundle/modules/<name>.
    directory: Path | None = None
    # Rough minutes on two cores, so that the user knows what to expect.
    minutes: int = 1

    @property
    def module(self) -> Path:
        return self.directory or MODULES / self.name

    @property
    def kind(self) -> str:
        """The name without the version, which that of a former release has."""
        return self.name.removesuffix(f"-{self.version}")


def _kubernetes_stamps(version: str) -> dict[str, str]:
    major, minor, _ = version.split(".")
    values = {
        "gitVersion": f"v{version}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        # A module zip does not say which commit it was made of.
        "gitCommit": "unknown",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {f"{package}.{name}": value for package in packages for name, value in values.items()}


_CONTAINERD = "github.com/containerd/containerd/v2"
_PLUGINS = "github.com/containernetworking/plugins"
KUBERNETES_PROGRAMS: Final = (
    "kubelet",
    "kubeadm",
    "kubectl",
    *versions.SERVERS,
    "kube-proxy",
)
# What tests of a network run in pods; upstream's program for that.
AGNHOST: Final = "agnhost"
# Folder of the source -> the plugins in it; what upstream's archive for Linux has.
CNI_PLUGINS: Final = {
    "ipam": ("dhcp", "host-local", "static"),
    "main": (
        "bridge",
        "dummy",
        "host-device",
        "ipvlan",
        "loopback",
        "macvlan",
        "ptp",
        "tap",
        "vlan",
    ),
    "meta": ("bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf"),
}

KUBERNETES: Final = Component(
    "kubernetes",
    versions.KUBERNETES,
    {
        **{name: f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES_PROGRAMS},
        AGNHOST: "k8s.io/kubernetes/test/images/agnhost",
    },
    # Of the programs' own packages only agnhost's has such a variable.
    {**_kubernetes_stamps(versions.KUBERNETES), "main.Version": versions.AGNHOST},
    minutes=9,
)
CONTAINERD: Final = Component(
    "containerd",
    versions.CONTAINERD,
    {
        name: f"{_CONTAINERD}/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    {f"{_CONTAINERD}/version.Version": f"v{versions.CONTAINERD}"},
    # The btrfs and zfs snapshotters want C libraries; nothing here uses them.
    tags=("no_btrfs", "no_zfs"),
    minutes=3,
)
RUNC: Final = Component(
    "runc",
    versions.RUNC,
    {"runc": "github.com/opencontainers/runc"},
    # Without seccomp no pod starts that asks for a profile. The rest as upstream's static
    # build: the program then runs on any release, whatever release it was built on. (Its
    # version needs no stamp: it is a file in the module.)
    tags=("seccomp", "netgo", "osusergo"),
    cgo=True,
)
CNI: Final = Component(
    "cni-plugins",
    versions.CNI_PLUGINS,
    {
        plugin: f"{_PLUGINS}/plugins/{folder}/{plugin}"
        for folder, plugins in CNI_PLUGINS.items()
        for plugin in plugins
    },
    {f"{_PLUGINS}/pkg/utils/buildversion.BuildVersion": f"v{versions.CNI_PLUGINS}"},
)
CRI_TOOLS: Final = Component(
    "cri-tools",
    versions.CRI_TOOLS,
    {"crictl": "sigs.k8s.io/cri-tools/cmd/crictl"},
    {"sigs.k8s.io/cri-tools/pkg/version.Version": f"v{versions.CRI_TOOLS}"},
)
ETCD: Final = Component(
    "etcd",
    versions.ETCD,
    {
        "etcd": "go.etcd.io/etcd/server/v3",
        "etcdctl": "go.etcd.io/etcd/etcdctl/v3",
        "etcdutl": "go.etcd.io/etcd/etcdutl/v3",
    },
)
COREDNS: Final = Component(
    "coredns", versions.COREDNS, {"coredns": "github.com/coredns/coredns"}, minutes=3
)
_TRAEFIK = "github.com/traefik/traefik/v3"
TRAEFIK: Final = Component(
    "traefik",
    versions.TRAEFIK,
    {"traefik": f"{_TRAEFIK}/cmd/traefik"},
    {f"{_TRAEFIK}/pkg/version.Version": versions.TRAEFIK},
    minutes=5,
)
# The lab's own pod network; its source is in this repository, so it has no upstream version.
LAB_NETWORK: Final = Component(
    "lab-network", "1", {"lab-network": "."}, directory=REPOSITORY / "lab/network"
)

# In the order that a lab needs them.
COMPONENTS: Final = (
    KUBERNETES,
    CONTAINERD,
    RUNC,
    CNI,
    CRI_TOOLS,
    ETCD,
    COREDNS,
    LAB_NETWORK,
    TRAEFIK,
)


# What only a control plane runs.
CONTROL_PLANE: Final = frozenset((*versions.SERVERS, *ETCD.programs))


def programs_on(component: Component, arch: str) -> Component:
    """A component with the programs that hosts of an architecture run; maybe none."""
    if arch in versions.CONTROL_PLANES:
        return component
    programs = {n: path for n, path in component.programs.items() if n not in CONTROL_PLANE}
    return replace(component, programs=programs)


def _former(component: Component) -> Component:
    """The same of the release that upgrades are tried from; what only tests use is left out."""
    version = versions.FORMER[component.name]
    stamps = _kubernetes_stamps(version) if component is KUBERNETES else {}
    programs = {name: path for name, path in component.programs.items() if name != AGNHOST}
    name = f"{component.name}-{version}"
    return replace(component, name=name, version=version, programs=programs, stamps=stamps)


FORMER: Final = tuple(_former(each) for each in (KUBERNETES, ETCD, COREDNS))
