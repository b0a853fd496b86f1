"""Fetches Debian packages, with all that they depend on, for a release and an architecture.

apt does it, with a configuration, state and empty package list of its own, so that this machine's
apt is neither asked nor changed. The mirror and its keyring are this machine's; apt verifies the
signature of the release, and through it each file.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from barekube import versions
from bundle import cross
from bundle.errors import BundleError
from bundle.integrity import Entry, key_of
from bundle.machine import run
from bundle.paths import Paths

RELEASES: Final = {"bookworm": "12", "trixie": "13"}

# What the stage host.py installs -> why a node needs it.
HOST_PACKAGES: Final = {
    "ca-certificates": "images and packages are fetched over HTTPS",
    "chrony": "certificates and etcd need the right time",
    "conntrack": "kube-proxy clears stale connections; kubeadm's preflight asks for it",
    "ebtables": "pod networks filter bridged frames with it",
    "ethtool": "kubeadm's preflight asks for it, and the pod network sets offloads",
    "iptables": "kubelet, kube-proxy and the portmap plugin write rules with it",
    "kmod": "loads br_netfilter, overlay and the rest",
    "lvm2": "Ceph's disks are logical volumes",
    "nftables": "the firewall is one nftables table",
    "socat": "kubectl port-forward and kubeadm's preflight ask for it",
}
# What the packages that are made here depend on, beyond a minimal system.
DEPENDENCIES: Final = ("libseccomp2", "mount", "util-linux")
# What kube-proxy's image is made of, and the release that packages in images are taken from.
PROXY_PACKAGES: Final = ("iptables", "nftables", "conntrack", "kmod")
IMAGE_RELEASE: Final = "bookworm"
# What the images of the same programs are made of, and the release that has them in the version of
# the image's tag.
BUSYBOX: Final = "busybox-static"
HAPROXY: Final = "haproxy"
PACKAGED: Final = {BUSYBOX: f"1%3a{versions.BUSYBOX}-", HAPROXY: f"{versions.HAPROXY}-"}
PACKAGED_RELEASE: Final = "trixie"
# Whose dependencies go into an image too.
_IN_IMAGES: Final = {IMAGE_RELEASE: PROXY_PACKAGES, PACKAGED_RELEASE: (HAPROXY,)}

_SOURCES: Final = Path("/etc/apt")
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Source:
    """One mirror with its suites."""

    uri: str
    suites: tuple[str, ...]
    keyring: str


def _one_line(text: str) -> Iterator[Source]:
    """Sources of the form `deb [options] URI SUITE COMPONENT...`."""
    for line in text.splitlines():
        match = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)", line.strip())
        if match and "main" in match[4].split():
            signed = re.search(r"signed-by=(\S+)", match[1] or "")
            yield Source(match[2], (match[3],), signed[1] if signed else _KEYRING)


def _deb822(text: str) -> Iterator[Source]:
    """Sources of the form `Types: deb`, `URIs: ...`, a paragraph each."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for paragraph in re.split(r"\n\s*\n", text):
        fields = {
            name.strip().lower(): value.strip()
            for name, separator, value in (line.partition(":") for line in paragraph.splitlines())
            if separator
        }
        wanted = (
            "deb" in fields.get("types", "").split()
            and "main" in fields.get("components", "").split()
        )
        if wanted and fields.get("enabled", "yes").lower() not in ("no", "false"):
            # A key may stand in the field itself, over many lines; then the usual keyring serves.
            keyring = fields.get("signed-by", "")
            for uri in fields.get("uris", "").split():
                suites = tuple(fields.get("suites", "").split())
                yield Source(uri, suites, keyring if keyring.startswith("/") else _KEYRING)


def machine_sources(directory: Path = _SOURCES) -> list[Source]:
    """All Debian sources of this machine, in either of apt's formats."""
    found: list[Source] = []
    for path in (directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))):
        if path.is_file() and path.suffix == ".list":
            found += _one_line(path.read_text())
        elif path.is_file() and path.suffix == ".sources":
            found += _deb822(path.read_text())
    return found


def sources_for(release: str, machine: Iterable[Source]) -> list[Source]:
    """The machine's mirrors with the suites of another release of Debian.

    'bookworm', 'bookworm-updates' and 'bookworm-security' become those of `release`.
    """
    suite = re.compile(rf"^(?:{'|'.join(RELEASES)}|stable|oldstable)((?:-updates|-security)?)$")
    found = []
    for source in machine:
        matches = [suite.match(name) for name in source.suites]
        suites = tuple(f"{release}{match[1]}" for match in matches if match)
        if suites:
            found.append(Source(source.uri, suites, source.keyring))
    if not any(release in source.suites for source in found):
        raise BundleError(
            "no Debian 12 or 13 mirror is in /etc/apt/sources.list or sources.list.d; "
            "build the bundle on such a machine"
        )
    return found


def render(sources: Iterable[Source], arch: str) -> str:
    """Sources as one deb822 file."""
    return "\n".join(
        f"Types: deb\nURIs: {source.uri}\nSuites: {' '.join(source.suites)}\n"
        f"Components: main\nArchitectures: {arch}\nSigned-By: {source.keyring}\n"
        for source in sources
    )


def configuration(directory: Path, arch: str) -> str:
    """An apt configuration that touches nothing outside `directory`."""
    return "\n".join(
        f'{name} "{value}";'
        for name, value in {
            "Dir::State": directory / "state",
            "Dir::State::status": directory / "status",
            "Dir::Cache": directory / "cache",
            "Dir::Etc::sourcelist": directory / "debian.sources",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Install-Recommends": "false",
            # apt's own user cannot write below a home directory.
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }.items()
    )


def _packages(release: str, arch: str) -> list[str]:
    image = PACKAGED if release == PACKAGED_RELEASE else []
    library = [cross.LIBRARY] if release == IMAGE_RELEASE and arch != cross.native() else []
    return [*HOST_PACKAGES, *DEPENDENCIES, *image, *library]


def entry(release: str, arch: str, paths: Paths) -> Entry:
    """Where the packages of a release are cached."""
    key = key_of(packages=_packages(release, arch), image=_IN_IMAGES[release])
    return Entry(paths.cache / "debian" / f"{release}-{arch}-{key}")


def _update(what: str, env: Mapping[str, str]) -> None:
    run(["apt-get", "-q", "update", "--error-on=any"], what=what, env=env)


def sources_in(work: Path, release: str, arch: str) -> list[Source]:
    """The machine's mirrors for a release and an architecture, with an apt of its own in `work`:
    apt.conf there is its configuration.

    A mirror that serves one architecture most of all can be late with the indexes of another: what
    is not as its signature says is left out, and said. The release's own suite never is.
    """
    debian_arch = versions.DEBIAN_ARCHITECTURES[arch]
    shutil.rmtree(work, ignore_errors=True)
    for name in ("state/lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    (work / "apt.conf").write_text(configuration(work, debian_arch) + "\n")
    listed = work / "debian.sources"
    found = sources_for(release, machine_sources())
    if arch != cross.native():
        apart = [Source(s.uri, (suite,), s.keyring) for s in found for suite in s.suites]
        found = [each for each in apart if _in_step(each, release, listed, debian_arch)]
    listed.write_text(render(found, debian_arch))
    return found


def _in_step(source: Source, release: str, listed: Path, debian_arch: str) -> bool:
    (suite,) = source.suites
    listed.write_text(render([source], debian_arch))
    try:
        what = f"reading {suite}'s index for {debian_arch} at {source.uri}"
        _update(what, {"APT_CONFIG": str(listed.with_name("apt.conf"))})
    except BundleError as problem:
        if suite == release:
            raise
        print(f"      {problem}; going on without that suite", flush=True)
        return False
    return True


def fetch(release: str, arch: str, paths: Paths) -> Entry:
    """Fetch the packages and all that they depend on into the cache.

    The closure is that of an empty system: a minimal one may be older than the mirror, and then
    lack the version of a library that a package asks for.
    """
    cached = entry(release, arch, paths)
    what = f"fetching {release}'s packages"
    work = paths.cache / "apt" / f"{release}-{arch}"
    sources_in(work, release, arch)
    env = {"APT_CONFIG": str(work / "apt.conf"), "LC_ALL": "C"}
    _update(what, env)
    install = ["apt-get", "-q", "-y", "install"]
    # Simulated before the download: afterwards apt would still list the same.
    said = run([*install, "--simulate", *_IN_IMAGES[release]], what=what, env=env)
    closure = set(re.findall(r"^Inst (\S+)", said, re.MULTILINE))
    run([*install, "--download-only", *_packages(release, arch)], what=what, env=env)
    archives = work / "cache/archives"
    names = sorted(path.name for path in archives.glob("*.deb"))
    image = [name for name in names if name.split("_")[0] in closure]
    cached.fill(archives, names, {"image": image})
    shutil.rmtree(work)
    return cached
