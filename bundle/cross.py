"""The C half of what is compiled, for this machine or another architecture than its own."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from barekube import versions
from bundle.machine import NEEDED, installed, run

# What Debian's compilers and directories of libraries are named after.
TRIPLETS: Final = {
    "amd64": "x86_64-linux-gnu",
    "arm64": "aarch64-linux-gnu",
    "arm": "arm-linux-gnueabihf",
}
# Beside the compiler; of another architecture it is fetched, for apt of this machine is not asked
# to know that architecture.
LIBRARY: Final = "libseccomp-dev"


def native() -> str | None:
    """This machine's own architecture."""
    return versions.ARCHITECTURES.get(os.uname().machine)


def needed(architectures: list[str]) -> dict[str, str]:
    """Debian packages of this machine that a build needs, and why."""
    foreign = [arch for arch in architectures if arch != native()]
    why = "runc and pause have C in them"
    return NEEDED | {name: why for arch in foreign for name in _packages(arch)}


def _packages(arch: str) -> tuple[str, ...]:
    if arch == native():
        return ("gcc", "libc6-dev", LIBRARY)
    debian_arch = versions.DEBIAN_ARCHITECTURES[arch]
    return (f"gcc-{TRIPLETS[arch]}".replace("_", "-"), f"libc6-dev-{debian_arch}-cross")


@cache
def toolchain(arch: str) -> str:
    """What the compiled C depends on, as packages with their versions."""
    return " ".join(f"{package}={installed(package)}" for package in _packages(arch))


def compiler(arch: str) -> str:
    return f"{TRIPLETS[arch]}-gcc"


@contextmanager
def environment(arch: str, library: Path | None) -> Iterator[Mapping[str, str]]:
    """The variables by which Go finds compiler and libseccomp, for as long as that is unpacked.

    `library` is the package libseccomp-dev of another architecture than this machine's.
    """
    if library is None:
        yield {"CC": compiler(arch)}
        return
    with tempfile.TemporaryDirectory() as root:
        run(["dpkg-deb", "-x", library, root], what=f"unpacking {library.name}")
        top = f"{root}/usr/lib/{TRIPLETS[arch]}"
        yield {
            "CC": compiler(arch),
            # What its .pc file says of /usr is true of the place where it was unpacked to.
            "PKG_CONFIG_LIBDIR": f"{top}/pkgconfig",
            "PKG_CONFIG_SYSROOT_DIR": root,
        }
