"""The guests' kernel: User Mode Linux, built from Debian's newest kernel source.

Debian's own user-mode-linux has no nf_tables for IPv4, which kube-proxy and pod networks need.
"""

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Final

from bundle.debian import Source, configuration, machine_sources, render
from bundle.machine import run, run_long
from lab.errors import LabError
from lab.paths import CACHE

_CONFIG: Final = Path(__file__).parent / "kernel.config"
# Older ones crash on CPUs with AMX under User Mode Linux.
_OLDEST: Final = (6, 19)
# Faults of User Mode Linux that a deploy meets: file, what is there once, what takes its place.
_MENDS: Final = (
    # Before it writes to a user's page the kernel has it made writable, once, and takes that for
    # done. If another thread reads there meanwhile, the page is the one of zeros that all share,
    # which in newer ones is read-only: the write ends in a panic. A CPU would fault until it may
    # write.
    ("arch/um/kernel/skas/uaccess.c", r"\bif (?=\(\(pte == NULL\))", "while "),
    # An interrupt lets others in before it ends, and theirs overwrite the list of events that it
    # is still going through: a disk that was done is then never heard of, and stands still until
    # it is asked for something else. The outer one asks for events until there are none.
    (
        "arch/um/kernel/irq.c",
        r"\b_sigio_handler\(regs, irqs_suspended\);",
        "static int busy; if (!busy) { busy = 1; _sigio_handler(regs, irqs_suspended); busy = 0; }",
    ),
)


def directory() -> Path:
    """Where the kernel for this configuration is kept: `linux`, and `modules/` for the guest."""
    made_from = _CONFIG.read_bytes() + repr(_MENDS).encode()
    return CACHE / f"kernel-{hashlib.sha256(made_from).hexdigest()[:16]}"


def build() -> Path:
    """Build the kernel unless it is there; return its directory. 12 CPU-minutes.

    Raises LabError or BundleError if it cannot be built.
    """
    target = directory()
    if (target / "linux").exists():
        return target
    work = CACHE / "kernel-work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    print("kernel: fetching Debian's newest kernel source", flush=True)
    source = _fetch(work)
    tree = work / "tree"
    tree.mkdir()
    archive = next(source.glob("usr/src/linux-source-*.tar.xz"))
    run(["tar", "-C", tree, "--strip-components=1", "-xf", archive], what="unpacking the kernel")
    _mend(tree)
    print("kernel: compiling, about 8 minutes on two cores", flush=True)
    run(["make", "ARCH=um", "x86_64_defconfig"], what="configuring the kernel", cwd=tree)
    merge: list[str | Path] = ["scripts/kconfig/merge_config.sh", "-m", ".config", _CONFIG]
    run(merge, what="configuring the kernel", cwd=tree)
    run(["make", "ARCH=um", "olddefconfig"], what="configuring the kernel", cwd=tree)
    jobs = f"-j{os.cpu_count() or 2}"
    log = CACHE / "kernel.log"
    make = ["make", "ARCH=um", jobs, "linux", "modules"]
    run_long(make, what="the kernel", log=log, env={}, cwd=tree)
    modules = work / "modules"
    install = ["make", "ARCH=um", "modules_install", f"INSTALL_MOD_PATH={modules}"]
    run(install, what="installing the kernel's list of modules", cwd=tree)
    result = work / "result"
    result.mkdir()
    shutil.copy2(tree / "linux", result / "linux")
    # Everything is built in; the list of it makes `modprobe overlay` succeed in the guest.
    build_links = shutil.ignore_patterns("build", "source")
    shutil.copytree(modules / "lib/modules", result / "modules", ignore=build_links)
    result.rename(target)
    shutil.rmtree(work)
    return target


def _mend(tree: Path) -> None:
    for name, found, instead in _MENDS:
        text, count = re.subn(found, instead, (tree / name).read_text())
        if count == 1:
            (tree / name).write_text(text)
        else:
            print(f"kernel: {name} is not the one that lab/kernel.py mends; left as it is")


def _fetch(work: Path) -> Path:
    mirrors = [source for source in machine_sources() if "security" not in source.uri]
    if not mirrors:
        raise LabError("this machine has no Debian mirror in its apt sources; add one")
    apt = work / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    testing = Source(mirrors[0].uri, ("testing",), mirrors[0].keyring)
    (apt / "debian.sources").write_text(render([testing], "amd64"))
    # A frozen mirror's testing may be past its date; its signatures still hold.
    text = configuration(apt, "amd64") + '\nAcquire::Check-Valid-Until "false";\n'
    (apt / "apt.conf").write_text(text)
    env = {"APT_CONFIG": str(apt / "apt.conf")}
    run(["apt-get", "-qq", "update"], what="reading Debian testing's index", env=env)
    found = run(["apt-cache", "pkgnames", "linux-source-"], what="looking for kernels", env=env)
    versions = sorted(
        tuple(map(int, match.groups()))
        for match in map(re.compile(r"linux-source-(\d+)\.(\d+)").fullmatch, found.split())
        if match
    )
    if not versions or versions[-1] < _OLDEST:
        raise LabError(f"the mirror's testing has no kernel source from {_OLDEST[0]}.{_OLDEST[1]}")
    package = f"linux-source-{versions[-1][0]}.{versions[-1][1]}"
    run(["apt-get", "-qq", "download", package], what=f"fetching {package}", env=env, cwd=work)
    source = work / "source"
    run(["dpkg-deb", "-x", next(work.glob("*.deb")), source], what=f"unpacking {package}")
    return source
