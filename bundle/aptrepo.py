"""Lays out signed apt repositories under the paths that they have upstream.

www/<host>/<path>: a machine reaches https://pkgs.k8s.io/core:/... as
https://<the bundle>/pkgs.k8s.io/core:/..., and Debian's mirror as https://<the bundle>/debian/.
"""

import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from barekube import versions
from bundle.integrity import write
from bundle.machine import run
from bundle.trust import Signer

KUBERNETES_PATHS: Final = {
    version: f"pkgs.k8s.io/core:/stable:/{versions.kubernetes_minor(version)}/deb"
    for version in (versions.KUBERNETES, versions.FORMER["kubernetes"])
}
DOCKER_PATH: Final = "download.docker.com/linux/debian"
DEBIAN_PATH: Final = "debian"
# Where upstream has the keys of its repositories; here they are the bundle's key.
KEY_PATHS: Final = (
    *(f"{path}/Release.key" for path in KUBERNETES_PATHS.values()),
    f"{DOCKER_PATH}/gpg",
)


@dataclass(frozen=True)
class Repository:
    """One suite of an apt repository."""

    # Below www.
    path: str
    # Below `path`: where Packages and InRelease are; "" in a flat repository.
    suite: str
    component: str
    # Below `path`: where the packages are. In a flat repository that is a directory an
    # architecture, as upstream has it.
    pool: str

    @property
    def name(self) -> str:
        """What tells it from all others."""
        return f"{self.path} {self.suite}".rstrip()

    @property
    def flat(self) -> bool:
        return not self.suite

    def index(self, debian_arch: str) -> str:
        """The Packages file of an architecture, below InRelease's directory."""
        return "Packages" if self.flat else f"{self.component}/binary-{debian_arch}/Packages"

    @property
    def release(self) -> str:
        """The directory of InRelease, below `path`."""
        return "." if self.flat else f"dists/{self.suite}"

    @property
    def directories(self) -> list[str]:
        """What belongs to this suite alone, below www."""
        return [self.path] if self.flat else [f"{self.path}/{d}" for d in (self.release, self.pool)]


def kubernetes_repository(version: str = versions.KUBERNETES) -> Repository:
    """pkgs.k8s.io, the repository of the minor of a version."""
    return Repository(KUBERNETES_PATHS[version], "", "", "")


def docker_repository(codename: str) -> Repository:
    """Docker's, whose packages lie below each suite."""
    return Repository(DOCKER_PATH, codename, "stable", f"dists/{codename}/pool/stable")


def debian_repository(codename: str) -> Repository:
    """Debian's; a pool a release, for apt-ftparchive indexes a directory."""
    return Repository(DEBIAN_PATH, codename, "main", f"pool/{codename}")


def pool_name(name: str) -> str:
    """A .deb's name without the epoch that apt puts into it, as Debian's own pool has it."""
    return re.sub(r"_\d+%3a", "_", name)


_NO_OLD_DIGESTS = [
    word for name in ("MD5", "SHA1", "SHA512") for word in ("-o", f"APT::FTPArchive::{name}=false")
]


def place(repository: Repository, www: Path, debs: Iterable[Path]) -> list[Path]:
    """Move packages into a repository and return where they are."""
    places = []
    for deb in debs:
        pool = repository.pool or deb.stem.rpartition("_")[2]
        places.append(www / repository.path / pool / pool_name(deb.name))
        places[-1].parent.mkdir(parents=True, exist_ok=True)
        shutil.move(deb, places[-1])
    return places


def publish(
    repository: Repository,
    www: Path,
    debs: Collection[Path],
    architectures: Sequence[str],
    signer: Signer,
) -> list[Path]:
    """Index and sign a repository that holds these packages and no other file; return the indexes.

    `architectures` are Debian's names.
    """
    top = www / repository.path
    for directory in repository.directories:
        for path in (www / directory).rglob("*"):
            if path.is_file() and path not in debs:
                path.unlink()
    release = top / repository.release
    what = f"indexing {repository.name}"
    indexes: dict[Path, str] = {}
    for arch in architectures:
        command = ["apt-ftparchive", *_NO_OLD_DIGESTS, "--arch", arch, "packages"]
        index = release / repository.index(arch)
        said = run([*command, repository.pool or arch], what=what, cwd=top)
        # A flat repository has one index for all architectures.
        indexes[index] = indexes.get(index, "") + said
    for index, text in indexes.items():
        index.parent.mkdir(parents=True, exist_ok=True)
        write(index, text)
    fields = {
        "Origin": "barekube bundle",
        "Label": "barekube bundle",
        "Suite": repository.suite or versions.kubernetes_minor(),
        "Codename": repository.suite or versions.kubernetes_minor(),
        "Components": repository.component or "main",
        "Architectures": " ".join(architectures),
    }
    options = [
        word
        for name, value in fields.items()
        for word in ("-o", f"APT::FTPArchive::Release::{name}={value}")
    ]
    command = ["apt-ftparchive", *_NO_OLD_DIGESTS, *options, "release", repository.release]
    write(release / "InRelease", signer.sign(run(command, what=what, cwd=top)))
    files = [path for d in repository.directories for path in (www / d).rglob("*")]
    return sorted(path for path in files if path.is_file() and path not in debs)
